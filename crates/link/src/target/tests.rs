//! Targets as users write them.

use super::*;

#[test]
fn targets_are_read_and_shown() {
    for (text, shown) in [
        ("example.org", "example.org:4285"),
        ("Example.ORG:22", "example.org:22"),
        ("192.0.2.1:1", "192.0.2.1:1"),
        ("[2001:DB8::1]", "[2001:db8::1]:4285"),
        ("[2001:db8:0::1]:9", "[2001:db8::1]:9"),
        ("2001:db8::1", "[2001:db8::1]:4285"),
        ("[fe80::1%eth0]:9", "[fe80::1%eth0]:9"),
    ] {
        let target = Target::parse(text).unwrap();
        assert_eq!(target.to_string(), shown);
        assert_eq!(Target::parse(shown).unwrap(), target);
    }
}

#[test]
fn what_names_nobody_is_refused() {
    let long = "a".repeat(254);
    for (text, error) in [
        ("", TargetError::Empty),
        (":22", TargetError::Empty),
        ("a b", TargetError::Character),
        ("user@host", TargetError::Character),
        ("-oProxy", TargetError::Character),
        ("a\u{1b}b", TargetError::Character),
        ("häuser", TargetError::Character),
        ("host:", TargetError::Port),
        ("host:0", TargetError::Port),
        ("host:+1", TargetError::Port),
        ("host:65536", TargetError::Port),
        ("[2001:db8::1", TargetError::OpenBracket),
        ("[2001:db8::1]9", TargetError::Port),
        ("[host]:1", TargetError::NotAnAddress),
        ("a:b:c", TargetError::NotAnAddress),
        (&long, TargetError::TooLong),
    ] {
        assert_eq!(Target::parse(text), Err(error), "{text:?}");
    }
}
