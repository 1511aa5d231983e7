//! Extended attributes, from one end to the other.

use files::{Dir, Name};

use super::*;

/// The extended attributes of an entry that users make.
fn xattrs(root: &Path, name: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (dir, name) = (Dir::open_ambient(root).unwrap(), Name::new(name).unwrap());
    let mut names = dir.xattr_names(&name).unwrap();
    names.retain(|key| key.starts_with(b"user."));
    names.sort();
    names.into_iter().map(|key| (key.clone(), dir.xattr(&name, &key).unwrap().unwrap())).collect()
}

fn send(world: &World, with_xattrs: bool) {
    let mut receiver = world.receiver();
    let sender = world.sender(|options| options.with_xattrs = with_xattrs);
    let (out, taken) = sync_channel(20_000);
    let wire =
        Wire { link: Link::default(), random: Random(0), count: 0, late: VecDeque::new(), out };
    std::thread::scope(|scope| {
        scope.spawn(move || sender.run(wire, &AtomicBool::new(false)).unwrap());
        take(&mut receiver, &taken);
    });
    receiver.flush().unwrap();
    receiver.close().unwrap();
}

#[test]
fn attributes_that_are_gone_go_where_attributes_are_told() {
    let world = World::new();
    std::fs::create_dir_all(world.tree().join("folder")).unwrap();
    std::fs::write(world.tree().join("file"), b"content").unwrap();
    let (tree, names) = (Dir::open_ambient(&world.tree()).unwrap(), ["file", "folder"]);
    let set = |dir: &Dir, name: &str, key: &str| {
        dir.set_xattr(&Name::new(name).unwrap(), key.as_bytes(), b"value").is_ok()
    };
    if !set(&tree, "file", "user.a") {
        println!("this filesystem keeps no extended attributes");
        return;
    }
    for (name, key) in [("file", "user.b"), ("folder", "user.a"), ("folder", "user.b")] {
        assert!(set(&tree, name, key));
    }
    let check = |count: usize| {
        for name in names {
            assert_eq!(xattrs(&world.tree(), name).len(), count, "{name}");
            assert_eq!(xattrs(&world.copy(), name), xattrs(&world.tree(), name), "{name}");
        }
    };
    send(&world, true);
    check(2);
    for left in [1, 0] {
        for name in names {
            let key = if left == 1 { b"user.a" } else { b"user.b" };
            tree.remove_xattr(&Name::new(name).unwrap(), key).unwrap();
        }
        send(&world, true);
        check(left);
    }
    // What is not told is left as it is.
    let copy = Dir::open_ambient(&world.copy()).unwrap();
    for name in names {
        assert!(set(&copy, name, "user.own"));
        let mode = std::fs::Permissions::from_mode(0o750);
        std::fs::set_permissions(world.tree().join(name), mode).unwrap();
    }
    send(&world, false);
    world.check();
    for name in names {
        assert_eq!(xattrs(&world.copy(), name).len(), 1, "{name}");
    }
}
