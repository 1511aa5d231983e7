//! Records of a peer that has the keys, since it made them with us, and keeps to nothing.

use rustls::crypto::cipher::{AeadKey, Iv};

use super::*;

/// Keys that both ends can count on.
struct Counted {
    sending: u8,
    receiving: u8,
}

fn secrets(generation: u8) -> (u64, ConnectionTrafficSecrets) {
    let (key, iv) = (AeadKey::from([generation; 32]), Iv::from([generation; 12]));
    (0, ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv })
}

impl Secrets for Counted {
    fn next_to_send(&mut self) -> Option<(u64, ConnectionTrafficSecrets)> {
        self.sending = self.sending.wrapping_add(1);
        Some(secrets(self.sending))
    }

    fn next_to_receive(&mut self) -> Option<(u64, ConnectionTrafficSecrets)> {
        self.receiving = self.receiving.wrapping_add(1);
        Some(secrets(self.receiving))
    }
}

fn shared() -> Arc<Shared> {
    let counted = Counted { sending: 0, receiving: 0 };
    let secrets = Mutex::new(Box::new(counted) as Box<dyn Secrets>);
    Arc::new(Shared { secrets, update_wanted: AtomicBool::new(false) })
}

pub(crate) fn open(data: &[u8]) {
    let Ok(keys) = Keys::new(secrets(0)) else { return };
    let mut peer = Sealer { keys, shared: shared(), records_per_key: 5, sealed: 0 };
    let Ok(keys) = Keys::new(secrets(0)) else { return };
    let mut here = Opener { keys, shared: shared(), updates: 0 };
    let mut rest = data;
    while let [kind, high, low, behind @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(behind.len());
        let (bytes, later) = behind.split_at(length);
        rest = later;
        let mut sealed = Vec::new();
        let done = match kind % 4 {
            0 => seal_all(&mut peer, bytes, &mut sealed),
            1 => seal_inside(&mut peer, bytes, &mut sealed),
            _ => {
                sealed.extend_from_slice(bytes);
                Ok(())
            }
        };
        assert!(done.is_ok(), "sealing fails: {done:?}");
        let updates = here.updates;
        let read = read_all(&mut here, &mut sealed);
        match (kind % 4, read) {
            (0, read) => assert_eq!(read.as_deref(), Ok(bytes), "data comes as it was sent"),
            (1, read) if data_in(bytes).is_some() => {
                assert_eq!(read.as_deref().ok(), data_in(bytes), "padding is no data");
            }
            (_, Ok(read)) => {
                assert!(read.is_empty(), "{} bytes of data that nobody sent", read.len());
                // It has said that it changes its keys, and does so.
                if here.updates > updates {
                    assert!(peer.follow().is_ok());
                }
            }
            // A lane ends there.
            (_, Err(_)) => return,
        }
    }
}

/// The data in the inside of a record that may be, if it is of that kind.
fn data_in(inside: &[u8]) -> Option<&[u8]> {
    let end = inside.iter().rposition(|byte| *byte != 0)?;
    let fits = end <= MAX_PLAIN && HEADER_BYTES + inside.len() + TAG_BYTES <= MAX_RECORD;
    (fits && inside[end] == APPLICATION_DATA).then(|| &inside[..end])
}

impl Sealer {
    fn follow(&mut self) -> Result<(), RecordError> {
        let mut secrets = self.shared.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys = Keys::new(secrets.next_to_send().ok_or(RecordError::KeysUsedUp)?)?;
        self.sealed = 0;
        Ok(())
    }
}

fn seal_all(peer: &mut Sealer, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
    let parts = &mut [bytes];
    while !parts[0].is_empty() {
        peer.seal(parts, out)?;
    }
    Ok(())
}

/// A record with this inside, its kind included.
fn seal_inside(peer: &mut Sealer, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RecordError> {
    let Some((kind, content)) = bytes.split_last() else { return Ok(()) };
    let start = begin(content.len(), out);
    out.extend_from_slice(content);
    peer.finish(start, *kind, out)
}

/// Opens records as the half of a connection that reads does, and gives the data in them.
fn read_all(here: &mut Opener, sealed: &mut [u8]) -> Result<Vec<u8>, RecordError> {
    let (mut at, mut data) = (0, Vec::new());
    while let Some(length) = Opener::length(&sealed[at..])? {
        assert!((HEADER_BYTES..=MAX_RECORD).contains(&length), "a record of {length} bytes");
        let Some(record) = sealed[at..].get_mut(..length) else { break };
        if let Opened::Data(place) = here.open(record)? {
            assert!(place.len() <= MAX_PLAIN, "{} bytes in a record", place.len());
            data.extend_from_slice(&record[place]);
        }
        at += length;
    }
    Ok(data)
}
