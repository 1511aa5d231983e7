//! What people may write, and what not.

use super::*;

#[test]
fn both_and_single_directions() {
    let mut settings = Settings::default();
    for (name, value) in [
        ("delay", "50ms"),
        ("loss", "1%"),
        ("ba-loss", "2.5%"),
        ("ab-rate", "200mbit"),
        ("queue", "1MB"),
        ("police", "100mbit:60KB"),
        ("ba-blocked", ""),
    ] {
        settings.set(name, value).unwrap();
    }
    let [ab, ba] = &settings.profiles;
    assert_eq!((ab.delay, ba.delay), (50_000_000, 50_000_000));
    assert_eq!((ab.loss, ba.loss), (0.01, 0.025));
    assert_eq!((ab.rate, ba.rate), (Some(2e8), None));
    assert_eq!(ab.queue, Some(1_000_000));
    assert_eq!(ab.police, Some(Policer { rate: 1e8, burst: 60_000 }));
    assert_eq!((ab.blocked, ba.blocked), (false, true));
}

#[test]
fn bad_words_are_refused_and_change_nothing() {
    for (name, value) in [
        ("loss", "1"),
        ("loss", "101%"),
        ("delay", "5"),
        ("delay", "-5ms"),
        ("loss", ""),
        ("frob", "1"),
        ("burst-loss", "1%"),
        ("burst-loss", "1%,1%,1%,1%,1%"),
        ("rate", "NaNmbit"),
        ("xx-loss", "1%"),
        ("police", "100mbit"),
        ("blocked", "1"),
    ] {
        let mut settings = Settings::default();
        assert!(settings.set(name, value).is_err(), "{name} {value}");
        assert_eq!(settings, Settings::default(), "{name} {value}");
    }
}

#[test]
fn changes_and_their_times() {
    assert_eq!(Change::parse_at("2s:udp-drop"), Ok((2_000_000_000, Change::DropUdp(true))));
    assert_eq!(Change::parse("tcp-drop"), Ok(Change::DropTcp(true)));
    assert_eq!(Change::parse("tcp-pass"), Ok(Change::DropTcp(false)));
    assert_eq!(Change::parse_at("500ms:down"), Ok((500_000_000, Change::Down(true))));
    let (at, change) = Change::parse_at("3s:ab-rate=30mbit").unwrap();
    let mut settings = Settings::default();
    settings.apply(&change).unwrap();
    assert_eq!((at, settings.profiles[0].rate), (3_000_000_000, Some(3e7)));
    assert_eq!(settings.profiles[1].rate, None);
    // The policer has a colon of its own.
    assert!(Change::parse_at("3s:police=30mbit:5KB").is_ok());
    for text in ["udp-drop", "2:up", "2s:sideways", "2s:rate", "2s:rate=fast", "2s:up=1"] {
        assert!(Change::parse_at(text).is_err(), "{text}");
    }
}
