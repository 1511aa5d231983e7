//! What a file says about hosts, and that rewriting it loses nothing.

use super::*;

fn key(seed: u8) -> PublicKey {
    PublicKey([seed; 32])
}

fn target(text: &str) -> Target {
    Target::parse(text).unwrap()
}

fn text() -> String {
    let line = |seed| key(seed).to_line("somebody");
    [
        "# a comment".to_owned(),
        String::new(),
        format!("example.org {}", line(1)),
        format!("Example.org:4285\t{}", line(2)),
        format!("example.org:99 {}", line(3)),
        format!("[2001:DB8:0:0::1]:99 {}", line(4)),
        format!("@future example.org {}", line(5)),
        format!("example.org haul-mldsa65 {}", key(6).to_base64()),
        "example.org haul-ed25519 short".to_owned(),
        format!("example.org {} \u{1b}[0m", line(7)),
    ]
    .join("\n")
        + "\n"
}

#[test]
fn hosts_are_found_by_name_and_port() {
    let hosts = KnownHosts::parse(&text());
    for (asked, seed, found) in [
        ("example.org", 1, Lookup::Known),
        ("EXAMPLE.org", 2, Lookup::Known),
        ("example.org:99", 3, Lookup::Known),
        ("example.org:99", 1, Lookup::Changed { expected: vec![key(3)] }),
        ("example.org", 5, Lookup::Changed { expected: vec![key(1), key(2)] }),
        ("example.org", 7, Lookup::Changed { expected: vec![key(1), key(2)] }),
        ("[2001:db8::1]:99", 4, Lookup::Known),
        ("2001:db8::1", 4, Lookup::Unknown),
        ("sub.example.org", 1, Lookup::Unknown),
    ] {
        assert_eq!(hosts.lookup(&target(asked), &key(seed)), found, "{asked} {seed}");
    }
}

#[test]
fn rewriting_keeps_what_is_not_understood() {
    let mut hosts = KnownHosts::parse(&text());
    assert_eq!(hosts.to_text(), text());
    assert!(!hosts.add(&target("example.org"), &key(2), "again"));
    assert!(hosts.add(&target("[2001:db8::2]:1"), &key(9), "new\nexample.org evil"));
    assert!(hosts.add(&target("2001:db8::3"), &key(9), ""));
    let added = format!(
        "{}[2001:db8::2]:1 {}\n[2001:db8::3] {}\n",
        text(),
        key(9).to_line("new_example.org evil"),
        key(9).to_line("")
    );
    assert_eq!(hosts.to_text(), added);
    let again = KnownHosts::parse(&added);
    assert_eq!(again.lookup(&target("2001:db8::3"), &key(9)), Lookup::Known);
    assert_eq!(hosts.remove(&target("[2001:db8::2]:1"), None), 1);
    assert_eq!(hosts.remove(&target("2001:db8::3"), Some(&key(1))), 0);
    assert_eq!(hosts.remove(&target("2001:db8::3"), Some(&key(9))), 1);
    assert_eq!(hosts.to_text(), text());
    assert_eq!(hosts.remove(&target("example.org"), None), 2);
    assert_eq!(hosts.lookup(&target("example.org"), &key(1)), Lookup::Unknown);
}
