use std::path::PathBuf;

use super::*;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("haul-single-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("files")).unwrap();
        Self(path)
    }

    fn place(&self) -> SinglePlace {
        SinglePlace {
            dir: Dir::open_ambient(&self.0.join("files")).unwrap(),
            name: Name::new("data").unwrap(),
            records: Dir::open_ambient(&self.0).unwrap(),
            record: Name::new("record").unwrap(),
            most_bytes: 1_000_000,
        }
    }

    fn record(&self, text: &str) {
        std::fs::write(self.0.join("record"), text).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().try_into().unwrap()
}

#[test]
fn it_goes_on_where_the_record_says() {
    let scratch = Scratch::new("resume");
    let content: Vec<u8> = (0..700_000u32).map(|at| (at * 7 % 251) as u8).collect();
    let mut single = Single::open(scratch.place()).unwrap();
    single.write(0, &content[..400_000]).unwrap();
    assert_eq!((single.durable(), single.written()), (0, 400_000));
    assert_eq!(single.sync().unwrap(), 400_000);
    single.write(400_000, &content[400_000..600_000]).unwrap();
    // A crash: what was not synced may be anything.
    drop(single);
    let file = scratch.0.join("files/data");
    let mut left = std::fs::read(&file).unwrap();
    left[500_000] ^= 1;
    std::fs::write(&file, left).unwrap();
    assert_eq!(Single::recorded(&scratch.place()).unwrap(), 400_000);
    let mut single = Single::open(scratch.place()).unwrap();
    assert_eq!(single.durable(), 400_000);
    single.write(400_000, &content[400_000..]).unwrap();
    let done = single.finish(&sha256(&content)).unwrap();
    assert_eq!(done, SingleDone { bytes: 700_000, digest: Digest::of(&content) });
    assert_eq!(std::fs::read(&file).unwrap(), content);
    // And once more, as after a crash before it was published.
    let again = Single::open(scratch.place()).unwrap();
    assert_eq!(again.finish(&sha256(&content)).unwrap(), done);
}

#[test]
fn an_empty_file_is_one() {
    let scratch = Scratch::new("empty");
    let done = Single::open(scratch.place()).unwrap().finish(&sha256(b"")).unwrap();
    assert_eq!(done, SingleDone { bytes: 0, digest: Digest::of(b"") });
    assert!(scratch.0.join("files/data").exists());
}

#[test]
fn what_does_not_belong_is_not_written() {
    let scratch = Scratch::new("bounds");
    let mut single = Single::open(scratch.place()).unwrap();
    single.write(0, b"abc").unwrap();
    assert!(matches!(single.write(2, b"x"), Err(SingleError::OutOfOrder { at: 2, expected: 3 })));
    assert!(matches!(single.write(u64::MAX, b"x"), Err(SingleError::OutOfOrder { .. })));
    let large = vec![0; 999_998];
    assert!(matches!(single.write(3, &large), Err(SingleError::TooLarge { most: 1_000_000 })));
    single.write(3, &large[1..]).unwrap();
    assert!(matches!(single.finish(&[0; 32]), Err(SingleError::Sha256 { .. })));
}

#[test]
fn a_record_that_is_not_so_stops_it() {
    let scratch = Scratch::new("record");
    for text in [
        "",
        "haul-single-1 5\n",
        "haul-single-1 -1\n",
        "haul-single-1 00\n",
        "x",
        "haul-single-1 0",
    ] {
        scratch.record(text);
        assert!(matches!(Single::open(scratch.place()), Err(SingleError::Record)), "{text}");
    }
    scratch.record("haul-single-1 0\n");
    assert_eq!(Single::open(scratch.place()).unwrap().durable(), 0);
}
