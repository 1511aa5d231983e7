//! What must not be in these messages beyond what every message is tested for.

use super::*;

fn go(host: &str, port: u16) -> Go {
    Go {
        grant: [1; 32],
        run: [2; 8],
        key: PublicKey([3; 32]),
        target: Target { host: host.to_owned(), port },
        choice: LinkChoice::Auto,
        pace: Pace::Fair,
        limit_bytes_per_s: None,
        patience_s: 1,
    }
}

#[test]
fn a_host_has_one_spelling_and_nothing_in_it_that_no_host_has() {
    for (host, port, good) in [
        ("b.example", 4285, true),
        ("fd99::2", 1, true),
        ("10.0.0.1", 65_535, true),
        ("", 4285, false),
        ("B.example", 4285, false),
        ("fd99:0:0::2", 4285, false),
        ("b example", 4285, false),
        ("\u{1b}[2J", 4285, false),
        ("-rf", 4285, false),
        ("user@b", 4285, false),
        ("b/../c", 4285, false),
        ("b", 0, false),
    ] {
        let read = Go::decode(&go(host, port).encode());
        assert_eq!(read.is_ok(), good, "{host:?} {port}");
    }
    let long = "b".repeat(254);
    assert!(Go::decode(&go(&long, 1).encode()).is_err());
}

#[test]
fn nobody_is_asked_to_wait_for_ever() {
    let mut bytes = go("b", 1).encode();
    assert_eq!(bytes.pop(), Some(1));
    let patience = |seconds: u64| {
        let mut out = Encoder::new();
        out.varint(seconds);
        Go::decode(&[bytes.as_slice(), &out.finish()].concat())
    };
    assert!(patience(MAX_PATIENCE_SECONDS).is_ok());
    assert!(patience(MAX_PATIENCE_SECONDS + 1).is_err());
    assert!(patience(u64::MAX).is_err());
}

#[test]
fn numbers_are_such_as_can_be_added() {
    let weighed = |bytes: u64| {
        let mut out = Encoder::new();
        out.u8(64).varint(1).varint(bytes).boolean(true);
        Report::decode(&out.finish())
    };
    assert!(weighed(MOST).is_ok());
    assert!(weighed(MOST + 1).is_err() && weighed(u64::MAX).is_err());
    let most = Report::Weighed { entries: u64::MAX, bytes: u64::MAX, last: true };
    let read = Report::Weighed { entries: MOST, bytes: MOST, last: true };
    assert_eq!(Report::decode(&most.encode()), Ok(read));
}

#[test]
fn texts_and_paths_are_cut_to_what_may_be_said() {
    let (path, reason) = (vec![b'p'; 70_000], "ä".repeat(40_000));
    let bytes = Report::FileFailed { path, reason }.encode();
    let Ok(Report::FileFailed { path, reason }) = Report::decode(&bytes) else { panic!() };
    assert_eq!((path.len(), reason.len()), (MAX_PATH, MAX_TEXT));
    let failed = |path: &[u8], reason: &[u8]| {
        let mut out = Encoder::new();
        out.u8(66).bytes(path).bytes(reason);
        Report::decode(&out.finish())
    };
    assert!(failed(&[b'p'; MAX_PATH], b"r").is_ok());
    assert!(failed(&[b'p'; MAX_PATH + 1], b"r").is_err());
    assert!(failed(b"p", &[b'r'; MAX_TEXT + 1]).is_err());
    assert!(failed(b"p", b"\xff").is_err());
}

#[test]
fn a_pipe_says_something_and_not_more_than_fits() {
    let pipe = |length: usize| {
        let mut out = Encoder::new();
        out.u8(71).bytes(&vec![7; length]);
        Report::decode(&out.finish())
    };
    assert_eq!(pipe(1), Ok(Report::Pipe(vec![7])));
    assert_eq!(pipe(MAX_PIPE), Ok(Report::Pipe(vec![7; MAX_PIPE])));
    assert!(pipe(0).is_err() && pipe(MAX_PIPE + 1).is_err());
    assert!(Report::Pipe(vec![7; MAX_PIPE]).encode().len() <= MAX_MESSAGE);
}

#[test]
fn each_kind_of_lane_is_told() {
    for (kind, is_tcp, is_pipe) in [
        (LaneKind::Quic, false, false),
        (LaneKind::Tcp, true, false),
        (LaneKind::Pipe, false, true),
    ] {
        let news = Report::LinkNews(LinkNews::Up, kind);
        assert_eq!(Report::decode(&news.encode()), Ok(news));
        let link = LinkSnapshot { is_tcp, is_pipe, ..LinkSnapshot::default() };
        let progress = Report::Progress(Progress { link, ..Progress::default() });
        assert_eq!(Report::decode(&progress.encode()), Ok(progress));
    }
    assert!(Report::decode(&[67, 0, 3]).is_err());
}
