//! Targets for the readers of `link`.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use link::wire::{Decoder, Encoder, WireError};
use link::{AuthorizedKeys, Identity, KnownHosts, PublicKey, Target};

/// The longest field that the target lets a message claim.
const FIELD_CAP: usize = 4096;

/// The codec under every message. The input is a count, that many instructions, and the message they
/// read. Each value has one form only, so writing what was read must give the bytes that were read.
pub fn wire(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else { return };
    let (program, message) = rest.split_at(usize::from(count).min(rest.len()));
    let mut decoder = Decoder::new(message);
    let mut encoder = Encoder::new();
    for instruction in program {
        if copy_field(*instruction, &mut decoder, &mut encoder).is_err() {
            assert!(decoder.remaining() <= message.len(), "a decoder never gains bytes");
            return;
        }
        let read = message.len() - decoder.remaining();
        assert_eq!(encoder.len(), read, "a value was read that is not in its only form");
    }
    let read = message.len() - decoder.remaining();
    assert_eq!(encoder.finish(), message[..read], "what was read and what it is written as differ");
    assert_eq!(decoder.finish().is_ok(), read == message.len(), "the end is where the bytes end");
}

/// Reads one field of the kind that the instruction names, and writes it again.
fn copy_field(
    instruction: u8,
    decoder: &mut Decoder<'_>,
    encoder: &mut Encoder,
) -> Result<(), WireError> {
    match instruction % 8 {
        0 => encoder.u8(decoder.u8("u8")?),
        1 => encoder.boolean(decoder.boolean("boolean")?),
        2 => encoder.varint(decoder.varint("varint")?),
        3 => {
            let cap = 1 << (instruction / 8);
            let value = decoder.varint_at_most("capped", cap)?;
            assert!(value <= cap, "{value} passed a cap of {cap}");
            encoder.varint(value)
        }
        4 => encoder.signed(decoder.signed("signed")?),
        5 => encoder.bytes(decoder.bytes("bytes", FIELD_CAP)?),
        6 => encoder.text(decoder.text("text", FIELD_CAP)?),
        _ => encoder.array(&decoder.array::<16>("array")?),
    };
    Ok(())
}

/// The list of hosts that are known. A list that is read and written again says the same, and whatever is
/// damaged in it, no other key is trusted than one that stands there.
pub fn known_hosts(data: &[u8]) {
    // Of several carriage returns before a line end, one is taken for a part of it each time.
    let text = String::from_utf8_lossy(data).replace('\r', " ");
    let mut hosts = KnownHosts::parse(&text);
    let written = hosts.to_text();
    assert_eq!(KnownHosts::parse(&written).to_text(), written);
    let target = Target::new("host", 1).expect("a name and a port");
    for key in hosts.keys(&target) {
        assert!(text.contains(&key.to_base64()), "a key that does not stand there");
    }
    hosts.remove(&target, None);
    assert!(hosts.keys(&target).is_empty());
}

/// The list of keys that may connect: who is let in has a line, and who is revoked has none.
pub fn authorized_keys(data: &[u8]) {
    let text = String::from_utf8_lossy(data).replace('\r', " ");
    let mut list = AuthorizedKeys::parse(&text);
    let written = list.to_text();
    assert_eq!(AuthorizedKeys::parse(&written).to_text(), written);
    assert_eq!(AuthorizedKeys::parse(&written).problems(), list.problems());
    let keys: Vec<PublicKey> = list.keys().into_iter().map(|(key, _)| key).collect();
    let now = Timestamp::UNIX_EPOCH;
    for key in keys {
        assert!(text.contains(&key.to_base64()), "a key that does not stand there");
        let _ = list.check(&key, Ipv4Addr::LOCALHOST.into(), now);
        list.revoke(&key.fingerprint());
        let left = list.check(&key, Ipv4Addr::LOCALHOST.into(), now);
        assert!(left.is_err(), "a key is let in that was revoked");
    }
}

/// One line with a key, as people hand it to each other.
pub fn key_line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok((key, comment)) = PublicKey::parse_line(&text) else { return };
    let line = key.to_line(&comment);
    assert!(!line.contains(char::is_control), "a line moves no cursor");
    let (again, _) = PublicKey::parse_line(&line).expect("what was written can be read");
    assert_eq!(again, key);
}

/// The file with the secret key, which may have been edited or cut short.
pub fn identity_pem(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(identity) = Identity::from_pem(&text) {
        let again = Identity::from_pem(&identity.to_pem()).expect("what was written can be read");
        assert_eq!(again.public_key(), identity.public_key());
        let signature = identity.sign(b"message");
        assert!(identity.public_key().verify(b"message", &signature));
    }
}

/// `HOST` and `HOST:PORT`.
pub fn dial_target(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(target) = Target::parse(&text) {
        assert_eq!(Target::parse(&target.to_string()).as_ref(), Ok(&target));
    }
}
