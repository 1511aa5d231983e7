//! From staged to final: attributes, what is replaced, what is refused, and other filesystems.

use std::path::Path;

use super::*;
use crate::scratch::portrait;

/// Publishes the same bytes in both ways, large and small, and gives the results and what stood there
/// after each.
fn publish_both(
    scratch: &Scratch,
    target: &str,
    options: &PublishOptions,
) -> [Result<(Published, Attributes)>; 2] {
    let (root, target) = (scratch.dir(), name(target));
    let staging = Staging::open(&root).unwrap();
    let mut partial = staging.partial(&key("f"), 4, MTIME).unwrap();
    write(&mut partial, b"data", [0]);
    let look = |published| Ok((published, root.attributes_of(&RelPath::from(&target))?));
    let large = partial.publish(&root, &target, options).and_then(look);
    [large, staging.small(b"data", &root, &target, options).and_then(look)]
}

/// Whether the umask lets a file be made with its mode or cuts it, and whether that is known already:
/// the mode is the one that was named.
#[test]
fn a_small_file_gets_its_mode_whatever_the_umask_leaves() {
    let scratch = Scratch::new();
    let staging = Staging::open(&scratch.dir()).unwrap();
    for mode in [0o644, 0o666, 0o777, 0o400, 0o022, 0, 0o644, 0o666, 0o4755] {
        for turn in 0..3 {
            let options = PublishOptions { mode: Some(mode), ..PublishOptions::default() };
            staging.small(b"data", &scratch.dir(), &name("f"), &options).unwrap();
            let found = scratch.dir().attributes_of(&path("f")).unwrap();
            assert_eq!((found.mode, found.size), (mode & 0o777, 4), "{mode:o}, turn {turn}");
            if turn == 1 {
                staging.tidy().unwrap();
            }
        }
    }
}

#[test]
fn attributes_arrive_with_the_file_and_setuid_only_when_wanted() {
    for (mode, keep_setid, expected) in [
        (Some(0o640), false, 0o640),
        (Some(0o400), false, 0o400),
        (Some(0o7755), false, 0o755),
        (Some(0o6755), true, 0o6755),
        (Some(0o177_777), false, 0o777),
        (Some(0), false, 0),
    ] {
        let scratch = Scratch::new();
        let root = rustix::process::geteuid().is_root();
        let options = PublishOptions {
            mode,
            keep_setid,
            mtime: Some(MTIME),
            owner: root.then_some((1234, 5678)),
            xattrs: vec![(b"user.colour".to_vec(), b"red".to_vec())],
            durable: true,
            ..PublishOptions::default()
        };
        let both = publish_both(&scratch, "f", &options).map(Result::unwrap);
        for (published, found) in both {
            assert_eq!((found.mode, found.mtime, found.size), (expected, MTIME, 4));
            if root {
                assert_eq!((found.uid, found.gid), (1234, 5678));
            }
            if published.xattrs_left_out == 0 && (root || expected & 0o400 != 0) {
                let colour = scratch.dir().xattr(&name("f"), b"user.colour").unwrap();
                assert_eq!(colour, Some(b"red".to_vec()));
            }
            assert_eq!(staged(&scratch), [""; 0]);
        }
    }
}

#[test]
fn without_a_mode_the_umask_decides() {
    let scratch = Scratch::new();
    fs::write(scratch.path().join("plain"), b"").unwrap();
    let plain = fs::metadata(scratch.path().join("plain")).unwrap().mode() & 0o7777;
    for published in publish_both(&scratch, "f", &PublishOptions::default()) {
        assert_eq!(published.unwrap().1.mode, plain);
    }
}

#[test]
fn attributes_outside_the_user_namespace_are_refused_before_the_file_appears() {
    for hostile in ["security.capability", "trusted.x", "system.posix_acl_access", "user", ""] {
        let scratch = Scratch::new();
        let xattrs = vec![(hostile.as_bytes().to_vec(), b"x".to_vec())];
        let options = PublishOptions { xattrs, ..PublishOptions::default() };
        for published in publish_both(&scratch, "f", &options) {
            assert!(matches!(published, Err(FilesError::XattrRefused { .. })), "{hostile}");
        }
        assert!(!scratch.path().join("f").exists());
    }
}

#[test]
fn files_and_links_are_replaced_and_directories_are_not() {
    let scratch = Scratch::new();
    let at = |text: &str| scratch.path().join(text);
    fs::write(at("file"), b"old").unwrap();
    fs::write(at("victim"), b"victim").unwrap();
    symlink("victim", at("link")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir_all(at("full/sub")).unwrap();
    symlink("full", at("dirlink")).unwrap();
    let held = fs::File::open(at("file")).unwrap();
    for target in ["file", "link", "dirlink", "new"] {
        for published in publish_both(&scratch, target, &PublishOptions::default()) {
            published.unwrap();
            let meta = fs::symlink_metadata(at(target)).unwrap();
            assert!(meta.is_file() && fs::read(at(target)).unwrap() == b"data", "{target}");
        }
    }
    assert_eq!(std::io::read_to_string(held).unwrap(), "old", "its readers keep the old file");
    assert_eq!(fs::read(at("victim")).unwrap(), b"victim");
    let full = portrait(&at("full"));
    for target in ["empty", "full"] {
        for published in publish_both(&scratch, target, &PublishOptions::default()) {
            let error = published.unwrap_err();
            assert!(matches!(error, FilesError::DirectoryInTheWay { .. }), "{error}");
        }
        assert!(at(target).is_dir());
    }
    assert_eq!(portrait(&at("full")), full);
}

#[test]
fn without_leave_to_replace_what_exists_stays() {
    let scratch = Scratch::new();
    let at = |text: &str| scratch.path().join(text);
    fs::write(at("file"), b"old").unwrap();
    symlink("nowhere", at("link")).unwrap();
    let options = PublishOptions { replace: Replace::No, ..PublishOptions::default() };
    for target in ["file", "link"] {
        for published in publish_both(&scratch, target, &options) {
            assert!(published.unwrap_err().is_already_exists(), "{target}");
        }
    }
    assert_eq!(fs::read(at("file")).unwrap(), b"old");
    assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
    // The partial file has survived the refusal, the small one's temporary has not.
    assert_eq!(staged(&scratch).len(), 2);
    let staging = Staging::open(&scratch.dir()).unwrap();
    let partial = staging.partial(&key("f"), 4, MTIME).unwrap();
    assert_eq!(partial.bytes_present(), 4);
    partial.publish(&scratch.dir(), &name("new"), &options).unwrap();
    assert_eq!(fs::read(at("new")).unwrap(), b"data");
}

#[test]
fn an_empty_file_is_complete_at_once() {
    let scratch = Scratch::new();
    let staging = Staging::open(&scratch.dir()).unwrap();
    let partial = staging.partial(&key("f"), 0, MTIME).unwrap();
    assert_eq!(partial.complete(), Some(Digest::of(b"")));
    partial.publish(&scratch.dir(), &name("f"), &PublishOptions::default()).unwrap();
    assert_eq!(fs::read(scratch.path().join("f")).unwrap(), b"");
}

#[test]
fn onto_another_filesystem_the_file_is_copied_with_its_holes() {
    let scratch = Scratch::new();
    let memory = Path::new("/dev/shm");
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    if device(memory).is_none() || device(memory) == device(scratch.path()) {
        eprintln!("skipped: no second filesystem at /dev/shm");
        return;
    }
    let elsewhere = Scratch::beneath(memory);
    let staging = Staging::open(&scratch.dir()).unwrap();
    let mut bytes = vec![0; 9 * CHUNK as usize + 3];
    bytes[CHUNK as usize..CHUNK as usize + 9000].copy_from_slice(&Random(4).bytes(9000));
    bytes[9 * CHUNK as usize + 2] = 1;
    fs::write(elsewhere.path().join("f"), b"old").unwrap();
    fs::create_dir(elsewhere.path().join("dir")).unwrap();
    let options = PublishOptions {
        mode: Some(0o4640),
        mtime: Some(MTIME),
        durable: true,
        ..PublishOptions::default()
    };
    let stage = || {
        let partial = staging.partial(&key("f"), bytes.len() as u64, MTIME).unwrap();
        for index in partial.missing().flatten().collect::<Vec<_>>() {
            let (data, hash) = chunk(&bytes, index);
            partial.write_chunk(index, data, &hash, true).unwrap();
        }
        partial
    };
    for target in ["f", "new"] {
        let published = stage().publish(&elsewhere.dir(), &name(target), &options).unwrap();
        let found = elsewhere.dir().attributes_of(&path(target)).unwrap();
        assert!(published.was_copied && found.is_sparse());
        assert_eq!((found.mode, found.mtime), (0o640, MTIME));
        assert!(fs::read(elsewhere.path().join(target)).unwrap() == bytes);
        assert_eq!(staged(&scratch), [""; 0]);
    }
    let no = PublishOptions { replace: Replace::No, ..options.clone() };
    assert!(stage().publish(&elsewhere.dir(), &name("f"), &no).unwrap_err().is_already_exists());
    let small = staging.small(b"data", &elsewhere.dir(), &name("f"), &options).unwrap();
    assert!(small.was_copied && fs::read(elsewhere.path().join("f")).unwrap() == b"data");
    let error = staging.small(b"data", &elsewhere.dir(), &name("dir"), &options).unwrap_err();
    assert!(matches!(error, FilesError::DirectoryInTheWay { .. }), "{error}");
    let mut left: Vec<_> =
        fs::read_dir(elsewhere.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["dir", "f", "new"], "no temporary files are left");
}
