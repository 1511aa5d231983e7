use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use link::PeerName;

use super::*;

fn peer() -> PeerName {
    PeerName::new("host:4285")
}

fn busy_port() -> LinkError {
    let local: SocketAddr = "127.0.0.1:4285".parse().unwrap();
    let source = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    LinkError::Socket { action: "bind", local, source }
}

#[test]
fn errors_become_codes_and_hints() {
    let check = |error: anyhow::Error, code: Code, hint: &str| {
        let report = explain(&error);
        assert_eq!(report.code, code, "{error:#}");
        let shown = report.hint.unwrap_or_default();
        assert!(if hint.is_empty() { shown.is_empty() } else { shown.contains(hint) }, "{shown}");
    };
    let silent = || LinkError::NoAnswer { peer: peer(), after: Duration::from_secs(10) };
    let refused = |code| TransferError::Refused { peer: peer(), code, text: "no".to_owned() };
    check(silent().into(), Code::Link, "is `haul serve` running there");
    let closed = LinkError::NobodyServes { peer: peer(), after: Duration::from_secs(4) };
    check(closed.into(), Code::Link, "is `haul serve` running there");
    check(TransferError::Link(silent()).into(), Code::Link, "host:4285");
    check(busy_port().into(), Code::Usage, "another program has port 4285");
    check(
        TransferError::GaveUp { seconds: 300, last: silent() }.into(),
        Code::Link,
        "run the same command again",
    );
    check(refused(RefuseCode::Denied).into(), Code::Refused, "haul key list");
    check(refused(RefuseCode::Disk).into(), Code::Disk, "make room");
    check(refused(RefuseCode::NotFound).into(), Code::Usage, "haul ls");
    check(TransferError::Cancelled.into(), Code::Interrupted, "");
    let missing = files::Dir::open_ambient(Path::new("/nowhere/at/all")).unwrap_err();
    check(missing.into(), Code::Usage, "spelled");
    let error = anyhow::Error::from(Failure::new(Code::Refused, "no").hint("ask")).context("tried");
    check(error, Code::Refused, "ask");
    check(anyhow!("something"), Code::Partial, "");
    let hinted = Hinted { error: silent().into(), hint: "go there".to_owned() };
    check(anyhow::Error::from(hinted).context("tried"), Code::Link, "go there");
}

#[test]
fn who_does_not_answer_is_looked_for_behind_what_was_tried() {
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let errors = [
        LinkError::NoAnswer { peer: peer(), after: Duration::from_secs(10) },
        LinkError::NobodyServes { peer: peer(), after: Duration::from_secs(4) },
        LinkError::Unreachable { peer: peer(), source: refused },
    ];
    let check = |choice, named: &[&str], unnamed: &[&str]| {
        for error in &errors {
            let hint = unanswered_hint(error, choice).unwrap();
            assert!(hint.contains("through to host:4285?"), "{hint}");
            assert!(named.iter().all(|word| hint.contains(word)), "{hint}");
            assert!(!unnamed.iter().any(|word| hint.contains(word)), "{hint}");
        }
    };
    check(LinkChoice::Auto, &["UDP or TCP"], &["--link"]);
    check(LinkChoice::PreferQuic, &["UDP or TCP"], &["--link"]);
    check(LinkChoice::Only(LaneKind::Quic), &["let UDP through", "--link auto"], &["TCP"]);
    check(LinkChoice::Only(LaneKind::Tcp), &["let TCP through", "--link auto"], &["UDP"]);
    assert_eq!(unanswered_hint(&busy_port(), LinkChoice::Auto), None);
    for error in errors {
        assert!(explain(&error.into()).hint.unwrap().contains("UDP or TCP"));
    }
}

#[test]
fn causes_are_told_once() {
    let error = anyhow::Error::from(TransferError::Link(busy_port())).context("cannot copy");
    let line = explain(&error).line();
    assert!(line.starts_with("cannot copy: the link failed: cannot bind a socket"), "{line}");
    let twice = Err::<(), _>(anyhow!("the same")).context("it is the same").unwrap_err();
    assert_eq!(explain(&twice).line(), "it is the same");
}

#[test]
fn reasons_of_the_disk_are_told_apart() {
    for (number, expected) in
        [(28, Some("full")), (30, Some("read-only")), (5, Some("fails")), (13, None), (2, None)]
    {
        let reason = std::io::Error::from_raw_os_error(number).to_string();
        let hint = disk_hint(&reason);
        assert_eq!(hint.is_some(), expected.is_some(), "{reason}");
        assert!(hint.unwrap_or_default().contains(expected.unwrap_or_default()), "{hint:?}");
    }
    assert_eq!(disk_hint("a file called (os error 285)"), None);
}
