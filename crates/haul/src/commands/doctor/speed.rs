//! How fast one core of this machine hashes and encrypts: what no copy can exceed with one core.

use std::time::{Duration, Instant};

use files::{CHUNK, hash_chunk};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::facts::Speeds;

/// How long each is tried.
const TIME: Duration = Duration::from_millis(150);
/// A packet's content.
const PACKET: usize = 1400;

/// Measures both; takes a third of a second of one core.
pub fn measure() -> Speeds {
    let chunk = vec![0x5a; CHUNK as usize];
    let hash = rate(CHUNK, || {
        std::hint::black_box(hash_chunk(CHUNK, 0, std::hint::black_box(&chunk)));
    });
    let mut packet = vec![0x5a; PACKET];
    let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).map(LessSafeKey::new);
    let cipher = key.map_or(0.0, |key| {
        rate(PACKET as u64, || {
            // The bytes mean nothing, so the nonce may repeat.
            let nonce = Nonce::assume_unique_for_key([0; 12]);
            let sealed = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut packet);
            std::hint::black_box(sealed.is_ok());
        })
    });
    Speeds { hash, cipher }
}

/// Bytes per second of an act that takes so many bytes.
fn rate(bytes: u64, mut act: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut total = 0;
    loop {
        for _ in 0..8 {
            act();
            total += bytes;
        }
        let elapsed = began.elapsed();
        if elapsed >= TIME {
            return total as f64 / elapsed.as_secs_f64();
        }
    }
}
