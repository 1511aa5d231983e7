//! Lines, DER and fingerprints of keys, honest and hostile.

use super::*;

fn key() -> PublicKey {
    PublicKey(std::array::from_fn(|index| index as u8))
}

#[test]
fn a_line_comes_back() {
    for (comment, kept) in [
        ("", ""),
        ("laptop", "laptop"),
        ("  my  laptop ", "my  laptop"),
        ("a\nb\u{202e}c", "a_b_c"),
    ] {
        let line = key().to_line(comment);
        assert!(!line.contains('\n'));
        assert_eq!(PublicKey::parse_line(&line), Ok((key(), kept.to_owned())), "{line:?}");
    }
}

#[test]
fn hostile_lines_are_refused() {
    let good = key().to_base64();
    let mut spare_bits = good.clone();
    // The last character before the padding carries two bits that belong to no byte.
    spare_bits.replace_range(42..43, "9");
    let huge = format!("{KEY_TYPE} {good} {}", "x".repeat(MAX_LINE_BYTES));
    for (line, error) in [
        (String::new(), KeyLineError::OtherType),
        (format!("ssh-ed25519 {good}"), KeyLineError::OtherType),
        (format!("{KEY_TYPE}{good}"), KeyLineError::OtherType),
        (KEY_TYPE.to_owned(), KeyLineError::NotAKey),
        (format!("{KEY_TYPE} {}", &good[..43]), KeyLineError::NotAKey),
        (format!("{KEY_TYPE} {}AAAA", &good), KeyLineError::NotAKey),
        (format!("{KEY_TYPE} {spare_bits}"), KeyLineError::NotAKey),
        (format!("{KEY_TYPE} {good} a\u{1b}[31mb"), KeyLineError::ControlCharacter),
        (format!("{KEY_TYPE} {good} a\nb"), KeyLineError::ControlCharacter),
        (format!("{KEY_TYPE} {good} \u{2066}b"), KeyLineError::ControlCharacter),
        (huge, KeyLineError::TooLong),
    ] {
        assert_eq!(PublicKey::parse_line(&line), Err(error), "{:?}", &line[..line.len().min(80)]);
    }
}

#[test]
fn der_has_one_spelling() {
    let spki = key().to_spki();
    assert_eq!(PublicKey::from_spki(&spki), Some(key()));
    for cut in 0..spki.len() {
        assert_eq!(PublicKey::from_spki(&spki[..cut]), None);
    }
    assert_eq!(PublicKey::from_spki(&[&spki[..], &[0]].concat()), None);
    for index in 0..12 {
        let mut wrong = spki;
        wrong[index] ^= 1;
        assert_eq!(PublicKey::from_spki(&wrong), None, "byte {index}");
    }
}

#[test]
fn the_fingerprint_looks_as_from_ssh() {
    let fingerprint = key().fingerprint();
    // `openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64` on the same key.
    assert_eq!(fingerprint, "SHA256:lAhFeu/Qcc7BJ8H5hTmTCGGtG6lMlA25dclywJ/Gi2g");
    assert_eq!(key().to_string(), fingerprint);
    assert!(format!("{:?}", key()).contains(&fingerprint));
}
