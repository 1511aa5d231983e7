//! A partial file that was left: what is taken over, what is not, and who may open it.

use super::*;

/// Leaves a partial file with the given chunks, lets `harm` do something to its files, and opens it
/// again. Gives what is missing then.
fn reopen(
    size: u64,
    mtime: Timestamp,
    harm: impl FnOnce(&std::path::Path, &std::path::Path),
) -> (Scratch, Vec<u64>, Vec<u8>) {
    let scratch = Scratch::new();
    let bytes = Random(8).bytes(SIZE);
    let staging = Staging::open(&scratch.dir()).unwrap();
    let mut partial = staging.partial(&key("f"), SIZE as u64, MTIME).unwrap();
    write(&mut partial, &bytes, [2, 0, 4]);
    drop(partial);
    let stem = scratch.path().join(STAGING_NAME).join(key("f").stem());
    harm(&stem.with_extension("part"), &stem.with_extension("map"));
    let partial = staging.partial(&key("f"), size, mtime).unwrap();
    let missing: Vec<u64> = partial.missing().flatten().collect();
    let present = (0..chunk_count(size)).filter(|index| partial.is_present(*index));
    let present: u64 = present.map(|index| crate::chunk_len(size, index).unwrap() as u64).sum();
    assert_eq!(partial.bytes_present(), present);
    drop(partial);
    (scratch, missing, bytes)
}

fn cut(path: &std::path::Path, by: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - by).unwrap();
}

fn flip(path: &std::path::Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn damage_costs_what_it_touches_and_no_more() {
    type Harm = fn(&std::path::Path, &std::path::Path);
    let all = [0, 1, 2, 3, 4];
    let cases: [(&str, Harm, &[u64]); 14] = [
        ("nothing", |_, _| {}, &[1, 3]),
        ("a record torn", |_, map| cut(map, 1), &[1, 3, 4]),
        // The records were written in the order 2, 0, 4.
        ("a record and a half torn", |_, map| cut(map, 72), &[0, 1, 3, 4]),
        (
            "the last record damaged",
            |_, map| flip(map, fs::metadata(map).unwrap().len() - 3),
            &[1, 3, 4],
        ),
        (
            "a middle record damaged",
            |_, map| flip(map, fs::metadata(map).unwrap().len() - 60),
            &all,
        ),
        ("the header damaged", |_, map| flip(map, 20), &all),
        ("the map cut in its header", |_, map| cut(map, 160), &all),
        ("the map empty", |_, map| fs::write(map, b"").unwrap(), &all),
        ("the map gone", |_, map| fs::remove_file(map).unwrap(), &all),
        (
            "noise after the map",
            |_, map| {
                fs::write(map, [fs::read(map).unwrap(), vec![0; 96]].concat()).unwrap();
            },
            &all,
        ),
        ("a data byte flipped", |data, _| flip(data, 2 * CHUNK + 9), &[1, 2, 3]),
        ("the last data byte flipped", |data, _| flip(data, SIZE as u64 - 1), &[1, 3, 4]),
        ("the data cut", |data, _| cut(data, 1), &all),
        ("the data gone", |data, _| fs::remove_file(data).unwrap(), &all),
    ];
    for (what, harm, expected) in cases {
        let (scratch, missing, bytes) = reopen(SIZE as u64, MTIME, harm);
        let expected = expected.to_vec();
        assert_eq!(missing, expected, "{what}");
        // And from there it is finished as if nothing had been.
        let staging = Staging::open(&scratch.dir()).unwrap();
        let mut partial = staging.partial(&key("f"), SIZE as u64, MTIME).unwrap();
        assert_eq!(partial.missing().flatten().collect::<Vec<_>>(), expected, "{what}, again");
        write(&mut partial, &bytes, expected);
        assert_eq!(partial.complete(), Some(Digest::of(&bytes)), "{what}");
        partial.publish(&scratch.dir(), &name("f"), &PublishOptions::default()).unwrap();
        assert!(fs::read(scratch.path().join("f")).unwrap() == bytes, "{what}");
    }
}

#[test]
fn another_size_or_time_starts_again() {
    let nothing = |_: &std::path::Path, _: &std::path::Path| {};
    let later = Timestamp { nanos: 6, ..MTIME };
    assert_eq!(reopen(SIZE as u64, later, nothing).1, [0, 1, 2, 3, 4]);
    assert_eq!(reopen(SIZE as u64 - 1, MTIME, nothing).1, [0, 1, 2, 3, 4]);
    assert_eq!(reopen(CHUNK, MTIME, nothing).1, [0]);
    assert_eq!(reopen(0, MTIME, nothing).1, [0; 0]);
}

#[test]
fn peers_and_paths_do_not_share_a_partial_file() {
    let scratch = Scratch::new();
    let staging = Staging::open(&scratch.dir()).unwrap();
    let one = staging.partial(&key("f"), 9, MTIME).unwrap();
    let other_peer = PartialKey { peer: [4; 32], ..key("f") };
    let two = staging.partial(&other_peer, 9, MTIME).unwrap();
    let three = staging.partial(&key("g"), 9, MTIME).unwrap();
    assert_eq!(staged(&scratch).len(), 6);
    drop((one, two, three));
}

#[test]
fn the_second_opener_is_told_busy_until_the_first_is_done() {
    let scratch = Scratch::new();
    let staging = Staging::open(&scratch.dir()).unwrap();
    let first = staging.partial(&key("f"), 9, MTIME).unwrap();
    let elsewhere = Staging::open(&scratch.dir()).unwrap();
    for (staging, size) in [(&staging, 9), (&elsewhere, 9), (&elsewhere, 10)] {
        match staging.partial(&key("f"), size, MTIME) {
            Err(error @ FilesError::Busy { .. }) => {
                assert_eq!(error.fault(), crate::Fault::Transient);
            }
            other => panic!("{:?}", other.err()),
        }
    }
    drop(first);
    assert!(elsewhere.partial(&key("f"), 9, MTIME).is_ok());
}

#[test]
fn chunks_that_are_not_what_was_promised_change_nothing() {
    let scratch = Scratch::new();
    let bytes = Random(9).bytes(SIZE);
    let staging = Staging::open(&scratch.dir()).unwrap();
    let partial = staging.partial(&key("f"), SIZE as u64, MTIME).unwrap();
    let (data, hash) = chunk(&bytes, 1);
    let wrong = |result: Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(error.fault(), crate::Fault::Corrupt, "{error}");
    };
    wrong(partial.write_chunk(0, data, &hash, false));
    wrong(partial.write_chunk(1, &data[1..], &hash, false));
    wrong(partial.write_chunk(4, data, &hash, false));
    wrong(partial.write_chunk(5, data, &hash, false));
    wrong(partial.write_chunk(u64::MAX, data, &hash, true));
    wrong(partial.write_zero_chunk(1, &hash));
    wrong(partial.write_zero_chunk(5, &hash));
    assert_eq!((partial.bytes_present(), partial.complete()), (0, None));
    partial.write_chunk(1, data, &hash, false).unwrap();
    partial.write_chunk(1, data, &hash, false).unwrap();
    assert_eq!(partial.bytes_present(), CHUNK);
    // Other bytes with their own true hash: the sender contradicts itself.
    let other = Random(10).bytes(CHUNK as usize);
    wrong(partial.write_chunk(1, &other, &hash_chunk(SIZE as u64, 1, &other), false));
    let result = partial.publish(&scratch.dir(), &name("f"), &PublishOptions::default());
    assert!(matches!(result, Err(FilesError::Incomplete { .. })));
    assert!(!scratch.path().join("f").exists());
}

#[test]
fn holes_stay_holes_and_old_bytes_do_not_shine_through() {
    let scratch = Scratch::new();
    let staging = Staging::open(&scratch.dir()).unwrap();
    let mut bytes = vec![0; 3 * CHUNK as usize + 100];
    bytes[5000..9000].fill(7);
    bytes[CHUNK as usize - 1] = 8;
    let size = bytes.len() as u64;
    // A first try writes garbage over chunks 0 to 2, as if the bytes had been lost on disk later.
    let mut partial = staging.partial(&key("f"), size, MTIME).unwrap();
    write(&mut partial, &bytes, 0..4);
    drop(partial);
    let data = scratch.path().join(STAGING_NAME).join(key("f").stem()).with_extension("part");
    let file = fs::OpenOptions::new().write(true).open(&data).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xee; 3 * CHUNK as usize], 0).unwrap();
    let partial = staging.partial(&key("f"), size, MTIME).unwrap();
    assert_eq!(partial.missing().collect::<Vec<_>>(), std::slice::from_ref(&(0..3)));
    let (data, hash) = chunk(&bytes, 0);
    partial.write_chunk(0, data, &hash, true).unwrap();
    partial.write_zero_chunk(1, &chunk(&bytes, 1).1).unwrap();
    partial.write_chunk(2, chunk(&bytes, 2).0, &chunk(&bytes, 2).1, true).unwrap();
    assert_eq!(partial.complete(), Some(Digest::of(&bytes)));
    partial.publish(&scratch.dir(), &name("f"), &PublishOptions::default()).unwrap();
    assert!(fs::read(scratch.path().join("f")).unwrap() == bytes);
    let found = scratch.dir().attributes_of(&path("f")).unwrap();
    assert!(found.is_sparse() && found.blocks * 512 < CHUNK);
}

/// Without cutting the map back, the next record would stand askew and cost everything.
#[test]
fn what_follows_a_torn_record_is_kept() {
    let scratch = Scratch::new();
    let bytes = Random(12).bytes(SIZE);
    let staging = Staging::open(&scratch.dir()).unwrap();
    let open = || staging.partial(&key("f"), SIZE as u64, MTIME).unwrap();
    write(&mut open(), &bytes, [0, 1]);
    let stem = scratch.path().join(STAGING_NAME).join(key("f").stem());
    cut(&stem.with_extension("map"), 7);
    write(&mut open(), &bytes, [2, 3]);
    assert_eq!(open().missing().flatten().collect::<Vec<_>>(), [1, 4]);
}

/// Publishing takes the map away while others wait to lock it; a lock on what has lost its name is
/// worth nothing, and two holders would write one file.
#[test]
fn no_two_ever_hold_one_partial_file() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let scratch = Scratch::new();
    let (is_held, published) = (AtomicBool::new(false), AtomicU64::new(0));
    let contend = || {
        let staging = Staging::open(&scratch.dir()).unwrap();
        while published.load(Ordering::SeqCst) < 300 {
            let mut partial = match staging.partial(&key("f"), 4, MTIME) {
                Err(FilesError::Busy { .. }) => continue,
                result => result.unwrap(),
            };
            assert!(!is_held.swap(true, Ordering::SeqCst), "two hold it");
            write(&mut partial, b"data", [0]);
            is_held.store(false, Ordering::SeqCst);
            partial.publish(&scratch.dir(), &name("f"), &PublishOptions::default()).unwrap();
            published.fetch_add(1, Ordering::SeqCst);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(contend)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    assert_eq!(fs::read(scratch.path().join("f")).unwrap(), b"data");
}

/// Threads write chunks of one file at once, also the same ones: each is written, none is noted twice,
/// and what is found again is all of it.
#[test]
fn several_threads_write_one_partial_file() {
    let scratch = Scratch::new();
    let staging = Staging::open(&scratch.dir()).unwrap();
    let bytes = Random(11).bytes(SIZE);
    let partial = staging.partial(&key("f"), SIZE as u64, MTIME).unwrap();
    let count = chunk_count(SIZE as u64);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (partial, bytes) = (&partial, &bytes);
            scope.spawn(move || {
                for step in 0..count {
                    let index = (step + thread) % count;
                    let (data, hash) = chunk(bytes, index);
                    loop {
                        match partial.write_chunk(index, data, &hash, thread % 2 == 0) {
                            Err(FilesError::Busy { .. }) => std::thread::yield_now(),
                            result => break result.unwrap(),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(partial.complete(), Some(Digest::of(&bytes)));
    drop(partial);
    let map = scratch.path().join(STAGING_NAME).join(key("f").stem()).with_extension("map");
    let records = fs::metadata(&map).unwrap().len();
    let partial = staging.partial(&key("f"), SIZE as u64, MTIME).unwrap();
    assert_eq!((partial.missing().count(), fs::metadata(&map).unwrap().len()), (0, records));
    partial.publish(&scratch.dir(), &name("f"), &PublishOptions::default()).unwrap();
    assert!(fs::read(scratch.path().join("f")).unwrap() == bytes);
}

#[test]
fn chunks_that_were_proven_elsewhere_make_the_same_file() {
    let scratch = Scratch::new();
    let staging = Staging::open(&scratch.dir()).unwrap();
    let mut bytes = Random(9).bytes(SIZE);
    bytes[CHUNK as usize..2 * CHUNK as usize].fill(0);
    let partial = staging.partial(&key("f"), SIZE as u64, MTIME).unwrap();
    for index in [3, 1, 0, 4, 2, 1] {
        let (data, hash) = chunk(&bytes, index);
        assert_eq!(partial.write_proven(index, data, true).unwrap(), hash);
    }
    assert_eq!(partial.complete(), Some(Digest::of(&bytes)));
    let other = vec![9; CHUNK as usize];
    let error = partial.write_proven(1, &other, true).unwrap_err();
    assert!(matches!(error, FilesError::WrongHash { index: 1, .. }), "{error}");
    let error = partial.write_proven(4, &other, true).unwrap_err();
    assert!(matches!(error, FilesError::WrongChunk { index: 4, .. }), "{error}");
    partial.publish(&scratch.dir(), &name("f"), &PublishOptions::default()).unwrap();
    assert!(fs::read(scratch.path().join("f")).unwrap() == bytes);
}

#[test]
fn chunks_are_taken_over_from_another_file() {
    let scratch = Scratch::new();
    let staging = Staging::open(&scratch.dir()).unwrap();
    let bytes = Random(10).bytes(SIZE);
    fs::write(scratch.path().join("other"), &bytes).unwrap();
    let other = scratch.dir().open_file(&path("other"), Follow::Never).unwrap();
    let mut partial = staging.partial(&key("f"), SIZE as u64, MTIME).unwrap();
    write(&mut partial, &bytes, [1]);
    for index in [4, 0, 1, 2] {
        partial.take_over(index, &other).unwrap();
    }
    let error = partial.take_over(5, &other).unwrap_err();
    assert!(matches!(error, FilesError::WrongChunk { index: 5, .. }), "{error}");
    // One that has become shorter has nothing to give, and what it gave is kept, also over an interruption.
    fs::File::options().write(true).open(other.path()).unwrap().set_len(CHUNK).unwrap();
    let error = partial.take_over(3, &other).unwrap_err();
    assert!(matches!(error, FilesError::ChangedWhileRead { .. }), "{error}");
    drop(partial);
    let mut partial = staging.partial(&key("f"), SIZE as u64, MTIME).unwrap();
    assert_eq!(partial.missing().flatten().collect::<Vec<_>>(), [3]);
    write(&mut partial, &bytes, [3]);
    assert_eq!(partial.complete(), Some(Digest::of(&bytes)));
    partial.publish(&scratch.dir(), &name("f"), &PublishOptions::default()).unwrap();
    assert!(fs::read(scratch.path().join("f")).unwrap() == bytes);
}

#[test]
fn what_is_wanted_no_more_is_forgotten_unless_somebody_holds_it() {
    let scratch = Scratch::new();
    let staging = Staging::open(&scratch.dir()).unwrap();
    assert!(!staging.forget(&key("f")).unwrap());
    let bytes = Random(8).bytes(SIZE);
    let mut partial = staging.partial(&key("f"), SIZE as u64, MTIME).unwrap();
    write(&mut partial, &bytes, [2]);
    assert!(!staging.forget(&key("f")).unwrap());
    drop(partial);
    let other = staging.partial(&key("g"), 5, MTIME).unwrap();
    assert!(staging.forget(&key("f")).unwrap() && !staging.forget(&key("f")).unwrap());
    assert_eq!(staged(&scratch).len(), 2, "the other one stays");
    drop(other);
}
