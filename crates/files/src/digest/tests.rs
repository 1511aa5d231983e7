use super::*;
use crate::scratch::Random;

fn chunk_hashes(bytes: &[u8]) -> Vec<ChunkHash> {
    let size = bytes.len() as u64;
    let chunks = bytes.chunks(CHUNK as usize).enumerate();
    chunks.map(|(index, data)| hash_chunk(size, index as u64, data)).collect()
}

#[test]
fn chunk_hashes_merge_into_the_plain_hash() {
    let bytes = Random(1).bytes(9 * CHUNK as usize + 7);
    let sizes = [
        0,
        1,
        1023,
        1024,
        1025,
        CHUNK - 1,
        CHUNK,
        CHUNK + 1,
        2 * CHUNK - 1,
        2 * CHUNK,
        2 * CHUNK + 1,
        3 * CHUNK,
        3 * CHUNK + 1024,
        5 * CHUNK,
        6 * CHUNK - 1,
        7 * CHUNK + 1,
        8 * CHUNK,
        9 * CHUNK + 7,
    ];
    for size in sizes {
        let bytes = &bytes[..size as usize];
        let hashes = chunk_hashes(bytes);
        assert_eq!(hashes.len() as u64, chunk_count(size));
        assert_eq!(file_digest(size, &hashes), Some(Digest::of(bytes)), "size {size}");
    }
}

#[test]
fn a_chunk_is_proven_at_its_place_only() {
    let bytes = Random(2).bytes(CHUNK as usize);
    let here = hash_chunk(3 * CHUNK, 0, &bytes);
    assert_ne!(hash_chunk(3 * CHUNK, 1, &bytes), here);
    // Alone in its file, the same bytes are the root of the tree.
    let alone = hash_chunk(CHUNK, 0, &bytes);
    assert_ne!(alone, here);
    assert_eq!(alone.as_bytes(), Digest::of(&bytes).as_bytes());
    assert_eq!(hash_chunk(0, 0, b"").as_bytes(), Digest::of(b"").as_bytes());
}

#[test]
fn lies_about_length_match_nothing() {
    let bytes = Random(3).bytes(CHUNK as usize + 1);
    let lie = blake3::derive_key("haul 2026 bytes that are not the chunk they claim", &bytes[..5]);
    for (size, index) in
        [(0, 0), (0, u64::MAX), (4, 0), (6, 0), (5, 1), (CHUNK, 1), (u64::MAX, 1 << 44)]
    {
        assert_eq!(hash_chunk(size, index, &bytes[..5]).as_bytes(), &lie, "{size} {index}");
    }
    assert_eq!(hash_chunk(5, 0, &bytes[..5]).as_bytes(), Digest::of(&bytes[..5]).as_bytes());
    let last = chunk_count(u64::MAX) - 1;
    let len = chunk_len(u64::MAX, last).unwrap();
    assert_eq!(len, CHUNK as usize - 1);
    assert_ne!(hash_chunk(u64::MAX, last, &bytes[..len]), hash_chunk(u64::MAX, 0, &bytes[..len]));
}

#[test]
fn a_wrong_number_of_hashes_gives_no_digest() {
    let hash = ChunkHash::from_bytes([1; 32]);
    for (size, count) in [(0, 1), (1, 0), (1, 2), (CHUNK, 2), (CHUNK + 1, 1), (u64::MAX, 3)] {
        assert_eq!(file_digest(size, &vec![hash; count]), None, "{size} {count}");
    }
}

#[test]
fn digests_read_what_they_write() {
    let digest = Digest::of(b"haul");
    assert_eq!(digest.to_string().parse(), Ok(digest));
    assert_eq!(Digest::parse(&digest.to_string().to_uppercase()), Ok(digest));
    let text = digest.to_string();
    for wrong in ["", &text[1..], &format!("{text}0"), &text.replacen(&text[..1], "g", 1)] {
        assert_eq!(Digest::parse(wrong), Err(DigestParseError), "{wrong}");
    }
}
