use super::*;
use crate::scratch::{Random, path};

fn header() -> MapHeader {
    MapHeader {
        peer: [7; 32],
        path: path("films/a b.mkv"),
        size: 5 * CHUNK + 3,
        mtime: Timestamp { seconds: -1, nanos: 999_999_999 },
    }
}

fn hash(index: u64) -> ChunkHash {
    ChunkHash::from_bytes(*blake3::hash(&index.to_le_bytes()).as_bytes())
}

fn map_of(indices: &[u64]) -> Vec<u8> {
    let (mut bytes, seal) = encode_header(&header());
    for index in indices {
        bytes.extend(encode_record(&seal, *index, &hash(*index)));
    }
    bytes
}

#[test]
fn a_map_is_read_as_written() {
    let map = parse_map(&map_of(&[3, 0, 5, 3])).unwrap();
    let records = vec![(3, hash(3)), (0, hash(0)), (5, hash(5)), (3, hash(3))];
    assert_eq!(map, Map { header: header(), records, is_torn: false });
}

/// A map of version 1 as a file, which every later version has to read.
#[test]
fn the_golden_map_stays_readable() {
    let golden = include_bytes!("../../../golden/staging-map-1.map");
    assert_eq!(map_of(&[1, 5]), golden, "the format changed: raise the version, keep this file");
    assert_eq!(parse_map(golden).unwrap().records, [(1, hash(1)), (5, hash(5))]);
    assert_eq!(parse_map(golden).unwrap().header, header());
}

#[test]
fn every_cut_is_torn_or_short() {
    let map = map_of(&[0, 1, 2]);
    let start = map.len() - 3 * RECORD;
    for len in 0..map.len() {
        match parse_map(&map[..len]) {
            Err(error) => assert!(len < start, "{len}: {error}"),
            Ok(parsed) => {
                assert_eq!(parsed.records.len(), (len - start) / RECORD);
                assert_eq!(parsed.is_torn, !(len - start).is_multiple_of(RECORD), "{len}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_found() {
    let map = map_of(&[0, 1]);
    let last = map.len() - RECORD;
    for bit in 0..map.len() * 8 {
        let mut bytes = map.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match parse_map(&bytes) {
            Err(_) => assert!(bit / 8 < last, "bit {bit}"),
            Ok(parsed) => {
                assert!(bit / 8 >= last && parsed.is_torn, "bit {bit}");
                assert_eq!(parsed.records, [(0, hash(0))]);
            }
        }
    }
}

#[test]
fn records_belong_to_their_header_and_file() {
    let other = MapHeader { size: 9 * CHUNK, ..header() };
    let (mut bytes, seal) = encode_header(&other);
    bytes.extend(&map_of(&[0])[map_of(&[]).len()..]);
    bytes.extend(encode_record(&seal, 1, &hash(1)));
    assert_eq!(parse_map(&bytes), Err(MapError::Record(0)));
    assert_eq!(parse_map(&map_of(&[6, 0])), Err(MapError::Record(0)), "there are six chunks");
    assert_eq!(parse_map(&map_of(&[u64::MAX, 0])), Err(MapError::Record(0)));
}

#[test]
fn fields_out_of_range_are_refused_even_with_a_true_checksum() {
    let reseal = |at: usize, with: &[u8]| {
        let (mut bytes, _) = encode_header(&header());
        bytes.truncate(bytes.len() - CHECKSUM);
        bytes[at..at + with.len()].copy_from_slice(with);
        let seal = blake3::hash(&bytes);
        bytes.extend(seal.as_bytes());
        parse_map(&bytes).map(|_| ())
    };
    assert_eq!(reseal(16, &[0xff; 8]), Ok(()));
    for (at, with) in [
        (12, &u32::MAX.to_le_bytes()[..]),
        (12, &0_u32.to_le_bytes()),
        (32, &1_000_000_000_u32.to_le_bytes()),
        (36, &4096_u32.to_le_bytes()),
        (72, &u32::MAX.to_le_bytes()),
        (76, &[1]),
        (84, b"/"),
        (84, b"../"),
    ] {
        assert!(matches!(reseal(at, with), Err(MapError::Header | MapError::Short)), "{at}");
    }
    assert_eq!(reseal(8, &2_u32.to_le_bytes()), Err(MapError::Version(2)));
    assert_eq!(reseal(0, b"h"), Err(MapError::Magic));
}

#[test]
fn noise_never_panics() {
    let mut random = Random(5);
    let map = map_of(&[0, 1, 2]);
    for _ in 0..5_000 {
        let mut bytes = map.clone();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
        let _ = parse_map(&bytes);
        let len = random.below(300) as usize;
        let _ = parse_map(&random.bytes(len));
    }
}
