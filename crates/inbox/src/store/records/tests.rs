use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::scratch::Scratch;

fn standing(number: u64) -> Standing {
    let path = format!("folder\\{}/a\nname of {number}", number % 10);
    Standing {
        path: RelPath::parse(path.as_bytes()).unwrap(),
        size: number,
        digest: Digest::of(&number.to_le_bytes()),
        sha256: (number % 3 == 0).then_some(files::Sha256::from_bytes([number as u8; 32])),
    }
}

#[test]
fn lines_come_back_as_they_went_in_and_have_one_form() {
    for number in 0..20 {
        let line = encode(&standing(number));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let line = &line[..line.len() - 1];
        assert_eq!(parse(line), Some(standing(number)));
        assert_eq!(parse(&line[..line.len() / 2]), None);
        for other in [&b"+"[..], b" ", b"0", b"\\"] {
            assert_eq!(parse(&[other, line].concat()), None);
        }
    }
    let line = encode(&standing(1));
    let text = String::from_utf8(line).unwrap();
    for path in ["/etc/passwd", "../x", "", "a//b", "a\\x"] {
        let changed = text.rsplit_once(' ').map(|_| {
            let fields: Vec<&str> = text.splitn(4, ' ').collect();
            format!("{} {} {} {path}", fields[0], fields[1], fields[2])
        });
        assert_eq!(parse(changed.unwrap().as_bytes()), None, "{path}");
    }
}

/// Notes of several threads, more than is gathered at a time: each line is there once and whole.
#[test]
fn what_is_noted_is_written_by_and_by() {
    let scratch = Scratch::new();
    let file = scratch.dir().open_private(&files::Name::new("records").unwrap()).unwrap();
    let records = Records::new(file).unwrap();
    let next = AtomicU64::new(0);
    const COUNT: u64 = 20_000;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= COUNT {
                        break;
                    }
                    records.note(&standing(number));
                }
            });
        }
    });
    let (_, end) = records.settle().unwrap();
    let text = std::fs::read(scratch.path().join("records")).unwrap();
    assert_eq!(text.len() as u64, end);
    let mut found: Vec<u64> = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| parse(line).unwrap().size)
        .collect();
    found.sort_unstable();
    assert_eq!(found, (0..COUNT).collect::<Vec<_>>());
    records.clear().unwrap();
    records.note(&standing(1));
    let (_, end) = records.settle().unwrap();
    assert_eq!(end, encode(&standing(1)).len() as u64);
}

/// A disk that takes nothing: what was noted is lost, and says so until all is forgotten.
#[test]
fn a_disk_that_fails_is_told_of() {
    let full = File::open_ambient(std::path::Path::new("/etc/hostname")).unwrap();
    let (state, changed) = (Mutex::default(), Condvar::new());
    let records = Records {
        shared: Arc::new(Shared { file: full, state, changed }),
        writer: Mutex::default(),
    };
    for number in 0..100_000 {
        records.note(&standing(number));
    }
    assert!(records.settle().is_err());
}
