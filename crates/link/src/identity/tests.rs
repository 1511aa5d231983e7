//! Key files come back, foreign ones are read, and nothing else is.

use super::*;

/// Made by `openssl genpkey -algorithm ed25519`, which leaves the public half out.
const FROM_OPENSSL: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIPgjLgryyz2ZzoLrfzF5+ywjFlvM7p+FcvmPWfMOCWu/
-----END PRIVATE KEY-----
";

#[test]
fn a_key_file_comes_back() {
    let identity = Identity::generate().unwrap();
    let pem = identity.to_pem();
    let again = Identity::from_pem(&pem).unwrap();
    assert_eq!(again.public_key(), identity.public_key());
    assert_eq!(Identity::from_pem(&pem.replace('\n', "\r\n")).unwrap().to_pem(), pem);
    assert_ne!(Identity::generate().unwrap().public_key(), identity.public_key());
    assert_eq!(Identity::from_pem(FROM_OPENSSL).unwrap().to_pem(), FROM_OPENSSL);
}

#[test]
fn signatures_hold_for_their_message_and_key_only() {
    let identity = Identity::generate().unwrap();
    let signature = identity.sign(b"message");
    let key = identity.public_key();
    assert!(key.verify(b"message", &signature));
    assert!(!key.verify(b"massage", &signature));
    assert!(!key.verify(b"message", &signature[..63]));
    assert!(!Identity::generate().unwrap().public_key().verify(b"message", &signature));
}

#[test]
fn nothing_shows_the_secret() {
    let identity = Identity::from_pem(FROM_OPENSSL).unwrap();
    let shown = format!("{identity:?} {identity:#?}");
    assert!(shown.contains(&identity.public_key().fingerprint()));
    assert!(!shown.contains("PgjLgr") && !shown.to_lowercase().contains("f8232e"), "{shown}");
}

#[test]
fn hostile_files_are_refused() {
    let good = Identity::generate().unwrap().to_pem();
    let body = good.lines().nth(1).unwrap();
    // The public half of one key with the secret half of another.
    let other = Identity::generate().unwrap();
    let mut mixed = Identity::generate().unwrap();
    let tail = mixed.pkcs8.len() - 32;
    mixed.pkcs8[tail..].copy_from_slice(&other.public.0);
    for (text, error) in [
        (String::new(), IdentityError::NotPem),
        ("\u{0}\u{1b}[2J".to_owned(), IdentityError::NotPem),
        (good.replace("PRIVATE", "RSA PRIVATE"), IdentityError::NotPem),
        (good.replace(PEM_END, ""), IdentityError::NotPem),
        (format!("{good}{good}"), IdentityError::NotPem),
        (format!("{good}x"), IdentityError::NotPem),
        (format!("x\n{good}"), IdentityError::NotPem),
        (good.replace(body, &format!("{body}\u{7}")), IdentityError::NotPem),
        (good.replace(body, &body[1..]), IdentityError::NotPem),
        (good.replace(body, &body[4..]), IdentityError::NotEd25519),
        (format!("{PEM_BEGIN}\n{PEM_END}\n"), IdentityError::NotEd25519),
        (mixed.to_pem(), IdentityError::NotEd25519),
        (format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", "A".repeat(1 << 20)), IdentityError::TooLong),
    ] {
        let got = Identity::from_pem(&text).map(|identity| identity.to_pem());
        assert_eq!(got, Err(error), "{:?}", &text[..text.len().min(200)]);
    }
}
