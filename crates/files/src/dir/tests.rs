mod contract;
mod escapes;
mod race;
mod removal;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::attributes::{Kind, Timestamp};
use crate::scratch::{BOTH, Random, Scratch, name, path, portrait};
use crate::{Fault, Name};

fn check_entries(dir: &Dir, expected: &[(&str, Kind)]) {
    let mut found: Vec<(String, Kind)> = dir
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.name().unwrap().to_string(), entry.kind().unwrap()))
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let expected: Vec<_> =
        expected.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
    assert_eq!(found, expected);
}

#[test]
fn listings_show_all_kinds_and_start_anew_each_time() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    check_entries(&dir, &[]);
    fs::write(scratch.path().join("file"), b"x").unwrap();
    fs::create_dir(scratch.path().join("dir")).unwrap();
    symlink("nowhere", scratch.path().join("link")).unwrap();
    rustix::fs::mkfifoat(&dir, "pipe", Mode::from_raw_mode(0o600)).unwrap();
    let all = [
        ("dir", Kind::Directory),
        ("file", Kind::File),
        ("link", Kind::Symlink),
        ("pipe", Kind::Other),
    ];
    check_entries(&dir, &all);
    check_entries(&dir, &all);
    for (text, kind) in all {
        assert_eq!(dir.attributes_of(&path(text)).unwrap().kind, kind);
    }
}

#[test]
fn a_listing_of_many_long_names_is_whole() {
    let scratch = Scratch::new();
    for number in 0..1_000 {
        fs::write(scratch.path().join(format!("{number:0>200}")), b"").unwrap();
    }
    let mut names: Vec<Vec<u8>> =
        scratch.dir().entries().unwrap().map(|entry| entry.unwrap().bytes().to_vec()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 1_000);
}

#[test]
fn only_regular_files_open_and_nothing_hangs() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path().join("dir")).unwrap();
    for resolution in BOTH {
        let dir = scratch.dir().with_resolution(resolution).unwrap();
        let _ = rustix::fs::mkfifoat(&dir, "pipe", Mode::from_raw_mode(0o600));
        for follow in [Follow::Never, Follow::Beneath] {
            for (text, expected) in
                [("pipe", Kind::Other), ("dir", Kind::Directory), ("", Kind::Directory)]
            {
                match dir.open_file(&RelPath::parse(text.as_bytes()).unwrap(), follow) {
                    Err(FilesError::NotAFile { kind, .. }) => assert_eq!(kind, expected),
                    other => panic!("{text}: {other:?}"),
                }
            }
            assert!(dir.open_dir(&path("pipe"), follow).unwrap_err().is_not_a_directory());
            assert!(dir.open_dir(&path("none"), follow).unwrap_err().is_not_found());
        }
    }
    let device = Dir::open_ambient(Path::new("/dev")).unwrap();
    assert!(device.open_file(&path("null"), Follow::Never).is_err());
}

#[test]
fn attributes_are_the_disks() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    let file = scratch.path().join("file");
    fs::write(&file, b"12345").unwrap();
    let (mtime, file_name) = (Timestamp { seconds: -5, nanos: 7 }, name("file"));
    dir.set_times(&file_name, mtime).unwrap();
    dir.set_mode(&file_name, 0o4755).unwrap();
    let before = dir.attributes_of(&path("file")).unwrap();
    let meta = fs::metadata(&file).unwrap();
    assert_eq!(
        (before.kind, before.size, before.mode, before.mtime),
        (Kind::File, 5, 0o4755, mtime)
    );
    assert_eq!((before.uid, before.gid, before.links), (meta.uid(), meta.gid(), 1));
    assert_eq!((before.device, before.inode), (meta.dev(), meta.ino()));
    assert!(!before.is_sparse() && before.unchanged_since(&before));
    // Same length, and the time set back: only the change time tells.
    let opened = dir.open_file(&path("file"), Follow::Never).unwrap();
    fs::write(&file, b"54321").unwrap();
    opened.set_times(mtime).unwrap();
    let after = opened.attributes().unwrap();
    assert!(after.same_content_stamp(&before) && !after.unchanged_since(&before));
    fs::File::create(scratch.path().join("holes")).unwrap().set_len(1 << 30).unwrap();
    assert!(dir.attributes_of(&path("holes")).unwrap().is_sparse());
}

#[test]
fn values_that_mean_something_else_to_the_kernel_are_refused() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    fs::write(scratch.path().join("file"), b"").unwrap();
    let before = portrait(scratch.path());
    let (file, file_name) = (dir.open_file(&path("file"), Follow::Never).unwrap(), name("file"));
    // UTIME_NOW, UTIME_OMIT, and simply too much.
    for nanos in [0x3fff_ffff, 0x3fff_fffe, 1_000_000_000, u32::MAX] {
        let mtime = Timestamp { seconds: 1, nanos };
        assert!(dir.set_times(&file_name, mtime).is_err());
        assert!(file.set_times(mtime).is_err() && dir.set_own_times(mtime).is_err());
    }
    // To chown, the largest id is "leave it".
    assert!(dir.set_owner(&file_name, u32::MAX, 0).is_err());
    assert!(file.set_owner(0, u32::MAX).is_err() && dir.set_own_owner(u32::MAX, 0).is_err());
    assert_eq!(portrait(scratch.path()), before);
}

#[test]
fn extended_attributes_by_name_and_by_handle() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    fs::write(scratch.path().join("file"), b"").unwrap();
    fs::create_dir(scratch.path().join("dir")).unwrap();
    if dir.set_xattr(&name("file"), b"user.probe", b"").is_err() {
        eprintln!("skipped: the temporary directory holds no extended attributes");
        return;
    }
    let file = dir.open_file(&path("file"), Follow::Never).unwrap();
    for target in ["file", "dir"] {
        let target = name(target);
        dir.set_xattr(&target, b"user.one", b"\0\xff").unwrap();
        dir.set_xattr(&target, b"user.two", b"").unwrap();
        assert_eq!(dir.xattr(&target, b"user.one").unwrap(), Some(b"\0\xff".to_vec()));
        assert_eq!(dir.xattr(&target, b"user.two").unwrap(), Some(Vec::new()));
        assert_eq!(dir.xattr(&target, b"user.none").unwrap(), None);
        let names = dir.xattr_names(&target).unwrap();
        assert!(names.contains(&b"user.one".to_vec()) && names.contains(&b"user.two".to_vec()));
    }
    assert_eq!(file.xattr(b"user.one").unwrap(), Some(b"\0\xff".to_vec()));
    file.set_xattr(b"user.three", b"3").unwrap();
    assert!(file.xattr_names().unwrap().contains(&b"user.three".to_vec()));
    assert_eq!(dir.xattr(&name("file"), b"user.three").unwrap(), Some(b"3".to_vec()));
}

#[test]
fn state_files_are_private_whole_and_capped() {
    let scratch = Scratch::new();
    let dir = Dir::create_ambient(&scratch.path().join("a/b/c"), 0o700).unwrap();
    let keys = name("keys");
    dir.write_private(&keys, b"first").unwrap();
    dir.set_mode(&keys, 0o644).unwrap();
    dir.write_private(&keys, b"second").unwrap();
    assert_eq!(dir.attributes_of(&path("keys")).unwrap().mode, 0o600);
    assert_eq!(dir.read_small(&path("keys"), 6).unwrap(), b"second");
    assert!(matches!(dir.read_small(&path("keys"), 5), Err(FilesError::TooLarge { limit: 5, .. })));
    // Sizes that the disk does not tell in advance.
    let proc = Dir::open_ambient(Path::new("/proc/self")).unwrap();
    assert!(!proc.read_small(&path("status"), 1 << 20).unwrap().is_empty());
    assert!(matches!(proc.read_small(&path("status"), 9), Err(FilesError::TooLarge { .. })));
    check_entries(&dir, &[("keys", Kind::File)]);
    dir.write_whole(&keys, b"third", 0o640).unwrap();
    assert_eq!(dir.attributes_of(&path("keys")).unwrap().mode, 0o640);
    dir.make_file(&name("made"), 0o600).unwrap().write_all_at(b"x", 0).unwrap();
    assert!(dir.make_file(&name("made"), 0o600).unwrap_err().is_already_exists());
    dir.unlink(&name("made")).unwrap();

    let known = name("known");
    dir.append_line(&known, b"one").unwrap();
    dir.append_line(&known, b"two").unwrap();
    fs::write(scratch.path().join("a/b/c/known"), b"one\ntw").unwrap();
    dir.append_line(&known, b"three").unwrap();
    assert_eq!(dir.read_small(&path("known"), 100).unwrap(), b"one\ntw\nthree\n");
    assert_eq!(dir.attributes_of(&path("known")).unwrap().mode, 0o600);
    assert!(dir.append_line(&known, b"a\nb").is_err());

    fs::create_dir(scratch.path().join("a/b/c/private")).unwrap();
    let private = dir.make_private_dir(&name("private")).unwrap();
    assert_eq!(private.attributes().unwrap().mode, 0o700);
    assert!(dir.write_private(&name("private"), b"x").is_err());
    check_entries(
        &dir,
        &[("keys", Kind::File), ("known", Kind::File), ("private", Kind::Directory)],
    );
}

#[test]
fn files_to_work_in() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    let base = name("base");
    dir.open_private(&base).unwrap().write_all_at(b"12345", 0).unwrap();
    let again = std::fs::File::from(dir.open_private(&base).unwrap());
    assert_eq!(again.metadata().unwrap().len(), 5);
    assert_eq!(dir.attributes_of(&path("base")).unwrap().mode, 0o600);
    std::os::unix::fs::symlink("base", scratch.path().join("link")).unwrap();
    assert!(dir.open_private(&name("link")).is_err());
    // Both ways to a file without a name.
    for file in [dir.scratch_file().unwrap(), dir.unlinked_file().unwrap()] {
        file.write_all_at(b"some", 4096).unwrap();
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 4096).unwrap();
        assert_eq!(&bytes, b"some");
        assert_eq!(file.attributes().unwrap().links, 0);
        check_entries(&dir, &[("base", Kind::File), ("link", Kind::Symlink)]);
    }
}

#[test]
fn files_read_by_chunk_and_hash() {
    let scratch = Scratch::new();
    let bytes = Random(3).bytes((1 << 20) + 5);
    fs::write(scratch.path().join("file"), &bytes).unwrap();
    let file = File::open_ambient(&scratch.path().join("file")).unwrap();
    assert_eq!(file.digest().unwrap(), crate::Digest::of(&bytes));
    let mut buffer = vec![1; 3];
    let size = bytes.len() as u64;
    for (index, expected) in [(0, &bytes[..1 << 20]), (1, &bytes[1 << 20..]), (2, &[][..])] {
        file.read_chunk(size, index, &mut buffer).unwrap();
        // Whatever the buffer held before.
        let mut other = vec![0xee; (index as usize % 3) * 700_000];
        let hash = file.read_chunk_hashed(size, index, &mut other).unwrap();
        assert!(other == buffer && hash == crate::digest::hash_chunk(size, index, &buffer));
        assert_eq!(buffer, expected, "chunk {index}");
    }
    let error = file.read_chunk_hashed(size + 1, 1, &mut buffer).unwrap_err();
    assert!(matches!(error, FilesError::ChangedWhileRead { .. }));
    let error = file.read_chunk(size + 1, 1, &mut buffer).unwrap_err();
    assert!(matches!(error, FilesError::ChangedWhileRead { .. }));
    assert_eq!(error.fault(), Fault::Transient);
    assert!(File::open_ambient(scratch.path()).is_err());
}

#[test]
fn the_cache_holds_its_capacity_and_forgets() {
    let scratch = Scratch::new();
    let mut cache = DirCache::new(scratch.dir(), Follow::Never, 2);
    let made = cache.get_or_make(&path("a/b"), 0o755).unwrap();
    assert!(cache.get(&path("a/b")).unwrap().is_same(&made).unwrap());
    cache.get(&path("a")).unwrap();
    cache.get(&path("a/b")).unwrap();
    cache.get_or_make(&path("c"), 0o755).unwrap();
    assert_eq!(cache.len(), 2);
    // `a` was used least recently and is gone; `a/b` is held though its name is not on disk now.
    fs::rename(scratch.path().join("a"), scratch.path().join("moved")).unwrap();
    assert!(cache.get(&path("a")).unwrap_err().is_not_found());
    assert!(cache.get(&path("a/b")).is_ok());
    cache.forget(&path("a"));
    assert!(cache.get(&path("a/b")).unwrap_err().is_not_found());
    assert!(cache.get(&path("c")).is_ok());
    cache.forget(&RelPath::root());
    assert!(cache.is_empty());
    assert!(cache.get(&RelPath::root()).unwrap().is_same(&scratch.dir()).unwrap());
    let mut none = DirCache::new(scratch.dir(), Follow::Never, 0);
    none.get(&path("c")).unwrap();
    assert!(none.is_empty());
}

#[test]
fn errors_name_the_path_escaped_and_know_their_fault() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    let odd = Name::new(b"a\x1b[31m\xff\n").unwrap();
    let error = dir.open_file(&RelPath::from(&odd), Follow::Never).unwrap_err();
    assert!(error.to_string().ends_with("/a\\x1b[31m\\xff\\n"), "{error}");
    assert!(error.to_string().starts_with("cannot open /"), "{error}");
    assert!(error.is_not_found() && error.fault() == Fault::Permanent);
    let made = |errno: rustix::io::Errno| FilesError::io(Action::Write, Path::new("x"), errno);
    use rustix::io::Errno;
    for (errno, fault, disk_full, read_only, denied) in [
        (Errno::NOSPC, Fault::Permanent, true, false, false),
        (Errno::DQUOT, Fault::Permanent, true, false, false),
        (Errno::ROFS, Fault::Denied, false, true, false),
        (Errno::ACCESS, Fault::Denied, false, false, true),
        (Errno::PERM, Fault::Denied, false, false, true),
        (Errno::IO, Fault::Permanent, false, false, false),
        (Errno::MFILE, Fault::Transient, false, false, false),
    ] {
        let error = made(errno);
        assert_eq!(error.fault(), fault, "{errno:?}");
        assert_eq!(error.is_disk_full(), disk_full);
        assert_eq!(error.is_read_only(), read_only);
        assert_eq!(error.is_permission_denied(), denied);
    }
    fs::write(scratch.path().join("file"), b"").unwrap();
    assert!(dir.make_dir(&name("file"), 0o755).unwrap_err().is_already_exists());
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Whether a file's beginning is in memory, where the filesystem can tell and has another place for it.
fn is_in_memory(file: &crate::File) -> Option<bool> {
    use rustix::io::{Errno, ReadWriteFlags};
    const TMPFS: u64 = 0x0102_1994;
    if rustix::fs::fstatfs(file).unwrap().f_type as u64 == TMPFS {
        return None;
    }
    let mut bytes = [0; 1];
    let mut buffers = [std::io::IoSliceMut::new(&mut bytes)];
    match rustix::io::preadv2(file, &mut buffers, 0, ReadWriteFlags::NOWAIT) {
        Ok(_) => Some(true),
        Err(Errno::AGAIN) => Some(false),
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_is_forgotten_is_read_from_the_disk_and_is_all_there() {
    let scratch = Scratch::new();
    let dir = scratch.dir();
    for len in [1, 4096, (3 << 20) + 17] {
        // Just written, so that none of it need be on the disk yet.
        let bytes: Vec<u8> = (0..len).map(|at: u32| (at % 251) as u8).collect();
        fs::write(scratch.path().join("file"), &bytes).unwrap();
        let file = dir.open_file(&path("file"), Follow::Never).unwrap();
        let before = is_in_memory(&file);
        assert_ne!(before, Some(false), "{len} bytes");
        file.forget_cached().unwrap();
        assert_eq!(is_in_memory(&file), before.map(|_| false), "{len} bytes");
        assert_eq!(file.digest().unwrap(), crate::Digest::of(&bytes), "{len} bytes");
    }
    fs::write(scratch.path().join("file"), b"").unwrap();
    let file = dir.open_file(&path("file"), Follow::Never).unwrap();
    file.forget_cached().unwrap();
    assert_eq!(file.digest().unwrap(), crate::Digest::of(b""));
}
