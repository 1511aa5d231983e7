//! Payload made smaller on its way: at the source as hard as the loop says, if it gives way at all, and back at the
//! target, into no more memory than was announced.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use bytes::Bytes;
use files::CHUNK;
use zstd::bulk::{Compressor, Decompressor};

use crate::buffers::Buffers;
use crate::effort::HARDEST;
use crate::message::ParcelHead;

/// Levels of Zstandard, by effort.
const LEVELS: [i32; HARDEST + 1] = [0, 1, 3, 5, 7, 9];

/// The level with which it is tried whether something gives way.
const TRIAL: i32 = 1;

/// What is shorter than this is not worth it.
const LEAST: usize = 256;

/// Pieces that are tried of what is longer than all of them.
const PIECES: usize = 4;
const PIECE: usize = 4096;

/// What does not become smaller by one part in so many is left as it is.
const GAIN: usize = 16;

/// Compressors of the whole process, however many transfers there are: each takes some megabytes, and more than there are
/// processors gain nothing.
const MOST: usize = 8;

/// Those that nobody uses, and how many there are in all.
static POOL: (Mutex<Pool>, Condvar) =
    (Mutex::new(Pool { idle: Vec::new(), made: 0 }), Condvar::new());

struct Pool {
    idle: Vec<Compressor<'static>>,
    made: usize,
}

/// A compressor for as long as this is there.
struct Borrowed(Option<Compressor<'static>>);

impl Borrowed {
    /// Waits until there is one. Whoever has one only computes.
    fn take() -> Self {
        let most = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let (pool, freed) = &POOL;
        let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(compressor) = pool.idle.pop() {
                return Self(Some(compressor));
            }
            if pool.made < most {
                pool.made += 1;
                return Self(None);
            }
            pool = freed.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let (pool, freed) = &POOL;
        let compressor = self.0.take().unwrap_or_default();
        pool.lock().unwrap_or_else(PoisonError::into_inner).idle.push(compressor);
        freed.notify_one();
    }
}

/// Compresses the payload of one transfer.
#[derive(Default)]
pub(crate) struct Packer {
    effort: AtomicUsize,
}

impl Packer {
    /// How hard, from 0, not at all, to [`HARDEST`].
    pub(crate) fn set_effort(&self, effort: usize) {
        self.effort.store(effort.min(HARDEST), Ordering::Relaxed);
    }

    /// The payload as it goes out: packed, if that is wanted and makes it smaller.
    pub(crate) fn pack(
        &self,
        head: ParcelHead,
        body: Bytes,
        buffers: &std::sync::Arc<Buffers>,
    ) -> (ParcelHead, Bytes) {
        let effort = self.effort.load(Ordering::Relaxed);
        if effort == 0 || body.len() < LEAST {
            return (head, body);
        }
        let mut borrowed = Borrowed::take();
        let compressor = borrowed.0.get_or_insert_default();
        let packed = match gives_way(compressor, &body) {
            Ok(true) => packed(compressor, LEVELS[effort], &body, buffers),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        // One that ended in an error, as where its output does not fit, is in the middle of something: it takes no
        // other level any more.
        let packed = packed.unwrap_or_else(|_| {
            borrowed.0 = None;
            None
        });
        drop(borrowed);
        match packed {
            Some(packed) => {
                let raw = body.len() as u64;
                (ParcelHead::Packed { raw, head: Box::new(head) }, buffers.lend(packed))
            }
            None => (head, body),
        }
    }
}

/// Whether some pieces of it become smaller. To find out costs a small part of what the whole would.
fn gives_way(compressor: &mut Compressor<'static>, body: &[u8]) -> io::Result<bool> {
    if body.len() <= PIECES * PIECE {
        return Ok(true);
    }
    compressor.set_compression_level(TRIAL)?;
    let mut all = Vec::with_capacity(PIECES * PIECE);
    for piece in 0..PIECES {
        let at = (body.len() - PIECE) / (PIECES - 1) * piece;
        all.extend_from_slice(&body[at..at + PIECE]);
    }
    let packed = compressor.compress(&all)?;
    Ok(is_worth_it(packed.len(), all.len()))
}

fn is_worth_it(packed: usize, raw: usize) -> bool {
    packed + raw / GAIN < raw
}

fn packed(
    compressor: &mut Compressor<'static>,
    level: i32,
    body: &[u8],
    buffers: &Buffers,
) -> io::Result<Option<Vec<u8>>> {
    compressor.set_compression_level(level)?;
    let mut packed = buffers.take(body.len());
    packed.clear();
    // What does not fit is no gain.
    match compressor.compress_to_buffer(body, &mut packed) {
        Ok(length) if is_worth_it(length, body.len()) => Ok(Some(packed)),
        otherwise => {
            buffers.give(packed);
            otherwise.map(|_| None)
        }
    }
}

/// What was packed, if it is `raw` bytes long. Else nothing, which has no hash that anybody was told of.
pub(crate) fn unpacked(body: Vec<u8>, raw: u64, buffers: &Buffers) -> Vec<u8> {
    let raw = raw.min(CHUNK) as usize;
    let mut whole = buffers.take(raw);
    whole.clear();
    let length = Decompressor::new()
        .and_then(|mut decompressor| decompressor.decompress_to_buffer(&body, &mut whole));
    buffers.give(body);
    if length.is_ok_and(|length| length == raw) {
        return whole;
    }
    buffers.give(whole);
    Vec::new()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use files::hash_chunk;

    use super::*;
    use crate::message::BundleItem;
    use crate::rig::{noise, text};

    fn head(len: usize) -> ParcelHead {
        let hash = hash_chunk(1, 0, b"x");
        ParcelHead::Bundle(vec![BundleItem { index: 1, len: len as u64, hash }])
    }

    #[test]
    fn what_gives_way_is_packed_and_comes_back() {
        let buffers = Arc::new(Buffers::default());
        let packer = Packer::default();
        for len in [LEAST, 5000, PIECES * PIECE + 1, 300_000, CHUNK as usize] {
            let body = text(len);
            let plain = packer.pack(head(len), Bytes::from(body.clone()), &buffers);
            assert_eq!(plain, (head(len), Bytes::from(body.clone())), "nothing was asked for");
            for effort in 1..=HARDEST {
                packer.set_effort(effort);
                let (head, packed) = packer.pack(head(len), Bytes::from(body.clone()), &buffers);
                assert!(packed.len() < len * 3 / 4, "{} of {len} with {effort}", packed.len());
                assert_eq!(head.cost(packed.len() as u64), len as u64);
                let again = ParcelHead::decode(&head.encode(), packed.len()).unwrap();
                assert_eq!(again, head);
                let (_, raw) = again.unwrapped();
                assert_eq!(unpacked(packed.to_vec(), raw.unwrap(), &buffers), body);
            }
            packer.set_effort(0);
        }
    }

    #[test]
    fn what_does_not_give_way_stays_as_it_is() {
        let buffers = Arc::new(Buffers::default());
        let packer = Packer::default();
        packer.set_effort(2);
        for len in [10, LEAST - 1, 1000, 100_000, CHUNK as usize] {
            let body = Bytes::from(noise(1, len));
            let (head, packed) = packer.pack(head(len), body.clone(), &buffers);
            assert!(matches!(head, ParcelHead::Bundle(_)), "{len} bytes");
            assert_eq!(packed, body);
        }
    }

    /// Compressors are used again, also after what did not fit.
    #[test]
    fn what_did_not_give_way_does_not_keep_others_from_it() {
        let buffers = Arc::new(Buffers::default());
        let packer = Packer::default();
        for round in 0..3 * MOST as u64 {
            for effort in 1..=HARDEST {
                packer.set_effort(effort);
                let body = Bytes::from(noise(round, 2000));
                assert_eq!(packer.pack(head(2000), body.clone(), &buffers), (head(2000), body));
                let body = Bytes::from(text(2000));
                let (_, packed) = packer.pack(head(2000), body, &buffers);
                assert!(packed.len() < 1500, "{} in round {round}", packed.len());
            }
        }
    }

    #[test]
    fn what_lies_about_its_length_becomes_nothing() {
        let buffers = Arc::new(Buffers::default());
        let packed = zstd::bulk::compress(&text(100_000), 3).unwrap();
        for raw in [99_999, 100_001, CHUNK, 1] {
            assert_eq!(unpacked(packed.clone(), raw, &buffers), b"", "{raw}");
        }
        // A few bytes that stand for more than a chunk.
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 3).unwrap();
        assert_eq!(unpacked(bomb, CHUNK, &buffers), b"");
        for end in 0..packed.len() / 100 {
            assert_eq!(unpacked(packed[..end * 100].to_vec(), 100_000, &buffers), b"");
        }
        assert_eq!(unpacked(noise(1, 500), 5000, &buffers), b"");
    }
}
