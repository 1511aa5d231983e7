//! Links that lead out, met by every operation there is, through both resolutions. What lies outside
//! must look the same afterwards, down to its change times.

use super::*;
use crate::staging::{PublishOptions, Staging};

const OUTSIDE: [&str; 3] = ["secret", "sub/deep", "sub/own"];

/// `base/outside` holds what must not be touched; `base/root` is the directory worked in, with links
/// that climb out by name, by an absolute path, by way of a real directory, and in several steps.
fn plant(base: &Path) {
    let (outside, root) = (base.join("outside"), base.join("root"));
    fs::create_dir_all(outside.join("sub")).unwrap();
    OUTSIDE.iter().for_each(|file| fs::write(outside.join(file), b"canary").unwrap());
    fs::create_dir_all(root.join("real/inner")).unwrap();
    fs::write(root.join("real/file"), b"inside").unwrap();
    for (link, target) in [
        ("up", "../outside"),
        ("winding", "real/inner/../../../outside"),
        ("chained", "real/step"),
        ("real/step", "../../outside"),
        ("back", "../root/real"),
        ("leaf", "../outside/secret"),
        ("in", "real"),
        ("in-file", "real/file"),
        ("in-winding", "real/inner/../.."),
        ("dangling", "../outside/new"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    symlink(&outside, root.join("absolute")).unwrap();
    symlink(root.join("real"), root.join("absolute-in")).unwrap();
    symlink("/proc/self/cwd", root.join("magic")).unwrap();
}

#[test]
fn no_read_and_no_new_directory_leads_out() {
    let scratch = Scratch::new();
    plant(scratch.path());
    let before = portrait(&scratch.path().join("outside"));
    let inside = portrait(&scratch.path().join("root"));
    for resolution in BOTH {
        let root = scratch.sub("root", resolution);
        let refused = |error: FilesError, what: &str| {
            assert!(error.is_symlink_refused(), "{resolution:?} {what}: {error:?}");
            assert_eq!(error.fault(), Fault::Denied);
        };
        for link in ["up", "winding", "chained", "back", "absolute", "absolute-in", "magic"] {
            for follow in [Follow::Never, Follow::Beneath] {
                refused(root.open_dir(&path(link), follow).unwrap_err(), link);
                for below in ["secret", "sub", "sub/deep"] {
                    let below = path(&format!("{link}/{below}"));
                    refused(root.open_file(&below, follow).unwrap_err(), link);
                    refused(root.open_dir(&below, follow).unwrap_err(), link);
                }
            }
            for below in ["", "/new", "/sub/new"] {
                let below = path(&format!("{link}{below}"));
                refused(root.make_dir_all(&below, 0o755).unwrap_err(), link);
            }
            let below = path(&format!("{link}/secret"));
            refused(root.attributes_of(&below).unwrap_err(), link);
            refused(root.read_small(&below, 99).unwrap_err(), link);
            for follow in [Follow::Never, Follow::Beneath] {
                let mut cache = DirCache::new(root.clone(), follow, 9);
                refused(cache.get(&path(link)).unwrap_err(), link);
                refused(cache.get_or_make(&path(link), 0o755).unwrap_err(), link);
            }
            assert!(root.make_private_dir(&name(link)).is_err());
        }
        for follow in [Follow::Never, Follow::Beneath] {
            refused(root.open_file(&path("leaf"), follow).unwrap_err(), "leaf");
        }
        refused(root.read_small(&path("leaf"), 99).unwrap_err(), "leaf");
    }
    assert_eq!(portrait(&scratch.path().join("outside")), before);
    assert_eq!(portrait(&scratch.path().join("root")), inside);
}

#[test]
fn links_that_stay_inside_are_followed_when_wanted_only() {
    let scratch = Scratch::new();
    plant(scratch.path());
    for resolution in BOTH {
        let root = scratch.sub("root", resolution);
        for text in ["in/file", "in-file", "in-winding/real/file", "in-winding/in/file"] {
            let text = path(text);
            let file = root.open_file(&text, Follow::Beneath).unwrap();
            assert_eq!(file.read_whole(99).unwrap(), b"inside");
            assert_eq!(root.read_small(&text, 99).unwrap(), b"inside");
            assert!(root.open_file(&text, Follow::Never).unwrap_err().is_symlink_refused());
        }
        assert!(
            root.open_dir(&path("in-winding"), Follow::Beneath).unwrap().is_same(&root).unwrap()
        );
        assert!(root.attributes_of(&path("in/file")).unwrap_err().is_symlink_refused());
        assert_eq!(root.attributes_of(&path("in")).unwrap().kind, Kind::Symlink);
        assert_eq!(root.read_link(&name("up")).unwrap(), b"../outside");
    }
}

/// Each change meets a link in the last place: a link to a file, to a directory, to nothing.
#[test]
fn changes_by_name_reach_the_link_and_not_its_target() {
    type Change = fn(&Dir, &Name) -> Result<()>;
    let changes: [(&str, Change); 22] = [
        ("set_mode", |dir, link| dir.set_mode(link, 0o4777)),
        ("set_times", |dir, link| dir.set_times(link, Timestamp { seconds: 1, nanos: 1 })),
        ("set_owner", |dir, link| dir.set_owner(link, 12, 34)),
        ("set_xattr", |dir, link| dir.set_xattr(link, b"user.x", b"1")),
        ("xattr", |dir, link| dir.xattr(link, b"user.x").map(drop)),
        ("xattr_names", |dir, link| dir.xattr_names(link).map(drop)),
        ("append_line", |dir, link| dir.append_line(link, b"line")),
        ("write_private", |dir, link| dir.write_private(link, b"new")),
        ("make_file", |dir, link| dir.make_file(link, 0o666).map(drop)),
        ("make_dir", |dir, link| dir.make_dir(link, 0o777)),
        ("make_private_dir", |dir, link| dir.make_private_dir(link).map(drop)),
        ("make_symlink", |dir, link| dir.make_symlink(b"x", link)),
        ("hard_link to", |dir, link| dir.hard_link(link, (dir, &name("plain")))),
        ("hard_link of", |dir, link| {
            dir.hard_link(&name("second"), (dir, link))?;
            assert_eq!(dir.attributes_of(&path("second"))?.kind, Kind::Symlink);
            dir.unlink(&name("second"))
        }),
        ("rename over", |dir, link| dir.rename(&name("plain"), (dir, link), Replace::Yes)),
        ("rename beside", |dir, link| dir.rename(&name("plain"), (dir, link), Replace::No)),
        ("rename away", |dir, link| dir.rename(link, (dir, &name("away")), Replace::Yes)),
        ("unlink", |dir, link| dir.unlink(link)),
        ("remove_dir", |dir, link| dir.remove_dir(link)),
        ("remove_tree", |dir, link| dir.remove_tree(link)),
        ("small", |dir, link| {
            let options = PublishOptions { mode: Some(0o644), ..PublishOptions::default() };
            Staging::open(dir)?.small(b"data", dir, link, &options).map(drop)
        }),
        ("create_file", |dir, link| dir.create_file(link, OFlags::TRUNC, 0o666).map(drop)),
    ];
    for resolution in BOTH {
        for (what, change) in changes {
            for target in ["../outside/secret", "../outside/sub", "../outside", "../outside/new"] {
                let scratch = Scratch::new();
                plant(scratch.path());
                let root = scratch.sub("root", resolution);
                fs::write(scratch.path().join("root/plain"), b"plain").unwrap();
                symlink(target, scratch.path().join("root/link")).unwrap();
                let before = portrait(&scratch.path().join("outside"));
                let result = change(&root, &name("link"));
                let after = portrait(&scratch.path().join("outside"));
                assert_eq!(after, before, "{what} through {target} ({result:?})");
                let is_root = rustix::process::geteuid().is_root();
                let must_fail = [
                    "set_mode",
                    "set_xattr",
                    "append_line",
                    "make_file",
                    "make_dir",
                    "make_private_dir",
                    "make_symlink",
                    "hard_link to",
                    "rename beside",
                    "remove_dir",
                    "create_file",
                ];
                assert_eq!(
                    result.is_err(),
                    must_fail.contains(&what) || (what == "set_owner" && !is_root),
                    "{what} through {target}: {result:?}"
                );
            }
        }
    }
}

/// The names are one component, so a trailing slash or dots cannot get in by them.
#[test]
fn names_cannot_carry_a_path() {
    for bytes in [&b"link/"[..], b"link/.", b"..", ".".as_bytes(), b"a/b", b"/", b"link\0"] {
        assert!(Name::new(bytes).is_err());
    }
    assert!(RelPath::parse(b"link/").is_err());
}
