//! Who is admitted, and that whatever is doubtful is not.

use super::*;

fn key(seed: u8) -> PublicKey {
    PublicKey([seed; 32])
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

/// Asks a file of one line for key 1, from an address, in the middle of 2026.
fn ask(options: &str, remote: &str, now: &str) -> Result<Permissions, Denied> {
    let text = format!("{options}{}\n", key(1).to_line("laptop"));
    AuthorizedKeys::parse(&text).check(&key(1), remote.parse().unwrap(), at(now))
}

const NOW: &str = "2026-07-01T12:00:00Z";

#[test]
fn options_say_what_a_key_may() {
    let all = Permissions { comment: "laptop".to_owned(), ..Permissions::unrestricted() };
    let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    let nothing = InboxRights::default();
    let into = |inboxes, read| Permissions {
        inboxes: InboxRights { inboxes, ..InboxRights::default() },
        ..Permissions { read, write: read, ..all.clone() }
    };
    let named = |names: &[&str]| Inboxes::Named(paths(names));
    let rate = |rate| Permissions { max_rate_bytes_per_s: Some(rate), ..all.clone() };
    for (options, expected) in [
        ("", all.clone()),
        ("read-only ", Permissions { write: false, inboxes: nothing.clone(), ..all.clone() }),
        ("write-only\t", Permissions { read: false, ..all.clone() }),
        (
            "path=\"/photos/2026/\",path=docs ",
            Permissions {
                paths: paths(&["photos/2026", "docs"]),
                inboxes: nothing.clone(),
                ..all.clone()
            },
        ),
        (
            r#"path="a \"b\", \\c",read-only "#,
            Permissions {
                paths: paths(&[r#"a "b", \c"#]),
                write: false,
                inboxes: nothing.clone(),
                ..all.clone()
            },
        ),
        ("max-rate=10MB ", rate(10_000_000)),
        ("max-rate=\"500kB/s\" ", rate(500_000)),
        ("max-rate=7 ", rate(7)),
        ("max-rate=7B ", rate(7)),
        ("max-rate=2G ", rate(2_000_000_000)),
        ("inbox=ngs,inbox=\"rna-2\" ", into(named(&["ngs", "rna-2"]), false)),
        ("inbox=* ", into(Inboxes::All, false)),
        (
            "inbox=ngs,path=docs ",
            Permissions { paths: paths(&["docs"]), ..into(named(&["ngs"]), true) },
        ),
        (
            "inbox=ngs,quota=2T,quota-datasets=100 ",
            Permissions {
                inboxes: InboxRights {
                    inboxes: named(&["ngs"]),
                    quota_bytes: Some(2_000_000_000_000),
                    quota_datasets: Some(100),
                },
                ..into(Inboxes::None, false)
            },
        ),
    ] {
        assert_eq!(ask(options, "192.0.2.1", NOW), Ok(expected), "{options:?}");
    }
}

#[test]
fn paths_cover_what_is_below_them() {
    let permissions =
        Permissions { paths: vec!["photos/2026".to_owned()], ..Permissions::unrestricted() };
    for (path, covered) in [
        ("photos/2026", true),
        ("/photos/2026/a/b", true),
        ("photos//2026/a", true),
        ("photos/20261", false),
        ("photos", false),
        ("", false),
    ] {
        assert_eq!(permissions.covers(path.as_bytes()), covered, "{path}");
    }
    assert!(Permissions::unrestricted().covers(b"anything"));
}

#[test]
fn from_and_expires_are_held() {
    let networks = r#"from="10.0.0.0/8,2001:db8::/32,192.0.2.7" "#;
    for (options, remote, now, admitted) in [
        (networks, "10.255.0.1", NOW, true),
        (networks, "11.0.0.1", NOW, false),
        (networks, "192.0.2.7", NOW, true),
        (networks, "192.0.2.8", NOW, false),
        (networks, "::ffff:10.1.2.3", NOW, true),
        (networks, "2001:db8:ffff::1", NOW, true),
        (networks, "2001:db9::1", NOW, false),
        ("from=0.0.0.0/0 ", "8.8.8.8", NOW, true),
        ("from=0.0.0.0/0 ", "2001:db8::1", NOW, false),
        ("from=::/0 ", "2001:db8::1", NOW, true),
        ("expires=\"2026-07-02\" ", "8.8.8.8", "2026-07-01T23:59:59Z", true),
        ("expires=\"2026-07-02\" ", "8.8.8.8", "2026-07-02T00:00:00Z", false),
        ("expires=\"2026-07-01T14:30:00+02:00\" ", "8.8.8.8", "2026-07-01T12:29:59Z", true),
        ("expires=\"2026-07-01T14:30:00+02:00\" ", "8.8.8.8", "2026-07-01T12:30:00Z", false),
    ] {
        assert_eq!(ask(options, remote, now).is_ok(), admitted, "{options} {remote} {now}");
    }
}

#[test]
fn a_doubtful_line_denies_and_is_reported() {
    for options in [
        "readonly ",
        "READ-ONLY ",
        "read-only=yes ",
        "read-only,write-only ",
        "read-only, ",
        ",read-only ",
        "read-only,,write-only ",
        "path ",
        "path= ",
        "path=\"\" ",
        "path=\"..\" ",
        "path=\"a/../b\" ",
        "path=\"a//b\" ",
        "path=\"/\" ",
        "path=\"a\u{1b}\" ",
        "path=\"a ",
        "path=\"a\\b\" ",
        "path=\"a\"b ",
        "path=a\"b\" ",
        "inbox=NGS ",
        "inbox=*,inbox=ngs ",
        "inbox=../a ",
        "inbox ",
        "quota=2t ",
        "quota=18446745T ",
        "quota-datasets=-1 ",
        "max-rate=0 ",
        "max-rate=10m ",
        "max-rate=10MiB ",
        "max-rate=-1 ",
        "max-rate=1.5M ",
        "max-rate=99999999999999999999 ",
        "max-rate=99999999999G ",
        "max-rate=1M,max-rate=2M ",
        "expires=tomorrow ",
        "expires=2026-02-30 ",
        "expires=2026-07-02T00:00 ",
        "expires=20270131 ",
        "expires=2027-01-31,expires=2028-01-31 ",
        "from= ",
        "from=\"\" ",
        "from=\"10.0.0.0/8,\" ",
        "from=10.0.0.0/33 ",
        "from=10.1.0.0/8 ",
        "from=10.0.0/8 ",
        "from=2001:db8::/129 ",
        "from=10.0.0.0/+8 ",
        "from=*.example.org ",
        "from=10.0.0.0/8,from=11.0.0.0/8 ",
        "from=10.0.0.0/8,11.0.0.0/8 ",
    ] {
        let line = format!("{options}{}", key(1).to_line("laptop"));
        // The same key on a good line does not open what the doubtful line may have meant to close.
        let text = format!(
            "# comment\n\n{line}\n{}\n{}\n",
            key(1).to_line("again"),
            key(2).to_line("other")
        );
        let mut keys = AuthorizedKeys::parse(&text);
        let now = at(NOW);
        let remote: IpAddr = "10.1.2.3".parse().unwrap();
        assert!(keys.check(&key(1), remote, now).is_err(), "{options:?}");
        assert!(keys.check(&key(2), remote, now).is_ok(), "{options:?}");
        let problems = keys.problems();
        assert_eq!(problems.len(), 1, "{options:?}: {problems:?}");
        assert_eq!(problems[0].line, 3);
        assert!(!problems[0].reason.contains(|c: char| c.is_control()), "{problems:?}");
        assert_eq!(keys.to_text(), text);
        assert!(keys.add_line(&line).is_err());
        assert_eq!(keys.revoke(&key(1).fingerprint()), 2, "{options:?}");
        assert!(keys.problems().is_empty());
    }
}

#[test]
fn lines_that_hold_no_key_deny_nobody_else() {
    let good = key(1).to_line("good");
    let huge = format!("{} {}", key(3).to_line(""), "x".repeat(1 << 20));
    let text = format!("{good}\nssh-ed25519 AAAA me\nhaul-ed25519 short\n\u{0}\u{1}\n{huge}\n");
    let keys = AuthorizedKeys::parse(&text);
    let lines: Vec<usize> = keys.problems().iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 3, 4, 5]);
    let remote: IpAddr = "10.1.2.3".parse().unwrap();
    assert!(keys.check(&key(1), remote, at(NOW)).is_ok());
    assert!(keys.check(&key(3), remote, at(NOW)).is_err());
    let denied = keys.check(&key(4), remote, at(NOW)).unwrap_err();
    assert!(denied.reason.contains(&key(4).fingerprint()), "{denied}");
}

#[test]
fn the_first_line_that_admits_decides() {
    let text = format!(
        "from=10.0.0.0/8 {}\nread-only {}\n{}\n",
        key(1).to_line("inside"),
        key(1).to_line("outside"),
        key(1).to_line("never"),
    );
    let keys = AuthorizedKeys::parse(&text);
    for (remote, comment) in [("10.0.0.1", "inside"), ("192.0.2.1", "outside")] {
        let permissions = keys.check(&key(1), remote.parse().unwrap(), at(NOW)).unwrap();
        assert_eq!(
            (permissions.comment.as_str(), permissions.write),
            (comment, comment == "inside")
        );
    }
}

#[test]
fn editing_adds_and_revokes() {
    let mut keys = AuthorizedKeys::default();
    for seed in 1..=4 {
        keys.add_line(&format!("read-only {}", key(seed).to_line(&format!("machine {seed}"))))
            .unwrap();
    }
    for bad in [
        "",
        "# comment",
        "haul-ed25519",
        &format!("{}\n{}", key(8).to_line(""), key(9).to_line("")),
    ] {
        assert!(keys.add_line(bad).is_err(), "{bad:?}");
    }
    assert_eq!(keys.keys().len(), 4);
    assert_eq!(keys.keys()[0], (key(1), "machine 1"));
    assert_eq!(keys.revoke(""), 0);
    assert_eq!(keys.revoke("machine"), 0);
    assert_eq!(keys.revoke("machine 1"), 1);
    assert_eq!(keys.revoke(&key(2).fingerprint()), 1);
    assert_eq!(keys.revoke(&key(3).to_base64()), 1);
    assert_eq!(keys.revoke(&key(4).to_line("whatever")), 1);
    assert_eq!(keys.to_text(), "");
}
