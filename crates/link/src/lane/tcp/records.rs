//! The records of TLS 1.3 (RFC 8446, 5) once the handshake is done, without any IO and without a copy that
//! the ciphers do not need. The library that makes the handshake hands its keys over; it would allocate
//! each record twice, which costs as much as the cipher itself.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ring::aead::{AES_128_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::ConnectionTrafficSecrets;
use rustls::kernel::KernelConnection;
use thiserror::Error;

/// The most plain bytes in one record.
pub(super) const MAX_PLAIN: usize = 16 * 1024;

/// Kind, version and length before each record.
pub(super) const HEADER_BYTES: usize = 5;

/// What a record adds to its plain bytes: the header, the inner kind, and the tag.
pub(super) const OVERHEAD: usize = HEADER_BYTES + 1 + TAG_BYTES;

/// The longest record that may come, padding included.
pub(super) const MAX_RECORD: usize = HEADER_BYTES + MAX_PLAIN + 256;

const TAG_BYTES: usize = 16;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// A `close_notify` alert: warning, 0.
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// The kind of a `key_update` message and its length.
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

/// How many records one key seals. RFC 8446, 5.5 allows 2^24.5 for AES-GCM; this is 128 GiB.
const RECORDS_PER_KEY: u64 = 1 << 23;

/// How many new keys a peer may make us derive.
const MOST_KEY_UPDATES: u32 = 1 << 16;

/// Records that are not what TLS allows, or were changed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum RecordError {
    #[error("what came is no record of TLS 1.3")]
    NoRecord,
    #[error("a record of {0} bytes is longer than may be")]
    TooLong(usize),
    #[error("a record was changed on the way")]
    Forged,
    #[error("a record of a kind that is not allowed here")]
    Unexpected,
    #[error("the keys are used up")]
    KeysUsedUp,
}

/// Where the keys after the present ones come from.
trait Secrets: Send {
    fn next_to_send(&mut self) -> Option<(u64, ConnectionTrafficSecrets)>;
    fn next_to_receive(&mut self) -> Option<(u64, ConnectionTrafficSecrets)>;
}

impl<Data: Send> Secrets for KernelConnection<Data> {
    fn next_to_send(&mut self) -> Option<(u64, ConnectionTrafficSecrets)> {
        self.update_tx_secret().ok()
    }

    fn next_to_receive(&mut self) -> Option<(u64, ConnectionTrafficSecrets)> {
        self.update_rx_secret().ok()
    }
}

/// What the two directions share.
struct Shared {
    secrets: Mutex<Box<dyn Secrets>>,
    /// The peer wants us to change our keys too.
    update_wanted: AtomicBool,
}

/// Both directions of a connection whose handshake is done.
pub(super) fn pair<Data: Send + 'static>(
    secrets: rustls::ExtractedSecrets,
    kernel: KernelConnection<Data>,
) -> Result<(Sealer, Opener), RecordError> {
    let shared = Arc::new(Shared {
        secrets: Mutex::new(Box::new(kernel)),
        update_wanted: AtomicBool::new(false),
    });
    let sealer = Sealer {
        keys: Keys::new(secrets.tx)?,
        shared: shared.clone(),
        records_per_key: RECORDS_PER_KEY,
        sealed: 0,
    };
    Ok((sealer, Opener { keys: Keys::new(secrets.rx)?, shared, updates: 0 }))
}

/// One direction's key and how often it was used.
struct Keys {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Keys {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self, RecordError> {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(RecordError::Unexpected),
        };
        let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| RecordError::Unexpected)?;
        let iv = iv.as_ref().try_into().map_err(|_| RecordError::Unexpected)?;
        Ok(Self { key: LessSafeKey::new(key), iv, sequence })
    }

    /// The next nonce; none is given twice under one key.
    fn nonce(&mut self) -> Result<Nonce, RecordError> {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence = self.sequence.checked_add(1).ok_or(RecordError::KeysUsedUp)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

/// Makes records of plain bytes.
pub(crate) struct Sealer {
    keys: Keys,
    shared: Arc<Shared>,
    records_per_key: u64,
    sealed: u64,
}

impl Sealer {
    /// Appends one record to `out`, taking as much of `parts` as fits. Changes the keys when it is time.
    pub(super) fn seal(
        &mut self,
        parts: &mut [&[u8]],
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        if self.sealed >= self.records_per_key
            || self.shared.update_wanted.swap(false, Ordering::Relaxed)
        {
            self.update_keys(out)?;
        }
        let mut room = MAX_PLAIN;
        let length = parts.iter().map(|part| part.len()).sum::<usize>().min(room);
        let start = begin(length, out);
        for part in parts {
            let (now, later) = part.split_at(part.len().min(room));
            out.extend_from_slice(now);
            room -= now.len();
            *part = later;
        }
        self.finish(start, APPLICATION_DATA, out)
    }

    /// Appends the record that says that nothing follows.
    pub(super) fn seal_close(&mut self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let start = begin(CLOSE_NOTIFY.len(), out);
        out.extend_from_slice(&CLOSE_NOTIFY);
        self.finish(start, ALERT, out)
    }

    fn update_keys(&mut self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let start = begin(KEY_UPDATE.len() + 1, out);
        out.extend_from_slice(&KEY_UPDATE);
        out.push(0);
        self.finish(start, HANDSHAKE, out)?;
        let mut secrets = self.shared.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys = Keys::new(secrets.next_to_send().ok_or(RecordError::KeysUsedUp)?)?;
        self.sealed = 0;
        Ok(())
    }

    fn finish(&mut self, start: usize, kind: u8, out: &mut Vec<u8>) -> Result<(), RecordError> {
        out.push(kind);
        let nonce = self.keys.nonce()?;
        let (header, inner) = out[start..].split_at_mut(HEADER_BYTES);
        let tag = self
            .keys
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(&*header), inner)
            .map_err(|_| RecordError::KeysUsedUp)?;
        out.extend_from_slice(tag.as_ref());
        self.sealed += 1;
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn change_keys_every(&mut self, records: u64) {
        self.records_per_key = records;
    }
}

/// Writes the header of a record with `length` plain bytes and gives its place.
fn begin(length: usize, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    let inner = (length + 1 + TAG_BYTES) as u16;
    out.extend_from_slice(&[APPLICATION_DATA, 3, 3]);
    out.extend_from_slice(&inner.to_be_bytes());
    start
}

/// What a record held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// Plain bytes, at this place of the record.
    Data(Range<usize>),
    /// Nothing for the caller.
    Nothing,
    /// Nothing follows.
    End,
    /// The peer gave up, with this alert.
    Alert(u8),
}

/// Makes plain bytes of records.
pub(super) struct Opener {
    keys: Keys,
    shared: Arc<Shared>,
    updates: u32,
}

impl Opener {
    /// The length of the record that `bytes` begin with, header included, if that much is there.
    pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        if header[..3] != [APPLICATION_DATA, 3, 3] {
            return Err(RecordError::NoRecord);
        }
        let length = HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length > MAX_RECORD {
            return Err(RecordError::TooLong(length));
        }
        Ok(Some(length))
    }

    /// Decrypts one whole record in place.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<Opened, RecordError> {
        let (header, sealed) =
            record.split_at_mut_checked(HEADER_BYTES).ok_or(RecordError::NoRecord)?;
        let nonce = self.keys.nonce()?;
        let plain = self
            .keys
            .key
            .open_in_place(nonce, Aad::from(&*header), sealed)
            .map_err(|_| RecordError::Forged)?;
        // Behind the content stands its kind, and behind that only zeros.
        let end = plain.iter().rposition(|byte| *byte != 0).ok_or(RecordError::Unexpected)?;
        if end > MAX_PLAIN {
            return Err(RecordError::TooLong(end));
        }
        match (plain[end], &plain[..end]) {
            (APPLICATION_DATA, _) => Ok(Opened::Data(HEADER_BYTES..HEADER_BYTES + end)),
            (ALERT, content) if content == CLOSE_NOTIFY => Ok(Opened::End),
            (ALERT, [_level, alert]) => Ok(Opened::Alert(*alert)),
            (HANDSHAKE, [start @ .., wants]) if start == KEY_UPDATE && *wants <= 1 => {
                let wants = *wants == 1;
                self.update_keys(wants)?;
                Ok(Opened::Nothing)
            }
            _ => Err(RecordError::Unexpected),
        }
    }

    fn update_keys(&mut self, wants_ours: bool) -> Result<(), RecordError> {
        self.updates += 1;
        if self.updates > MOST_KEY_UPDATES {
            return Err(RecordError::KeysUsedUp);
        }
        let mut secrets = self.shared.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys = Keys::new(secrets.next_to_receive().ok_or(RecordError::KeysUsedUp)?)?;
        drop(secrets);
        if wants_ours {
            self.shared.update_wanted.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("sealed", &self.sealed).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("updates", &self.updates).finish_non_exhaustive()
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
