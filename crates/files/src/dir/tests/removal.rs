//! Removing trees: all of it, nothing beside it, however deep.

use super::*;

/// Makes a chain of directories far deeper than any path may be long, by handles.
fn dig(dir: &Dir, name: &Name, depth: usize) -> Dir {
    let mut dir = dir.clone();
    for _ in 0..depth {
        dir.make_dir(name, 0o755).unwrap();
        let fd = rustix::fs::openat(&dir, name.as_os_str(), DIRECTORY, Mode::empty()).unwrap();
        dir = dir.child_unnamed(fd);
    }
    dir
}

#[test]
fn a_tree_goes_whole_and_links_in_it_lead_nowhere() {
    let scratch = Scratch::new();
    let outside = scratch.path().join("outside");
    fs::create_dir_all(outside.join("sub")).unwrap();
    fs::write(outside.join("sub/canary"), b"canary").unwrap();
    let before = portrait(&outside);
    for resolution in BOTH {
        let root = scratch.sub("root", resolution);
        let tree = scratch.path().join("root/tree");
        for number in 0..40 {
            let place = tree.join(format!("{}/{number}", number % 7));
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("file"), b"x").unwrap();
            symlink(&outside, place.join("link")).unwrap();
            symlink("../../../../outside/sub/canary", place.join("leaf")).unwrap();
        }
        symlink(&outside, scratch.path().join("root/top")).unwrap();
        root.remove_tree(&name("tree")).unwrap();
        root.remove_tree(&name("top")).unwrap();
        assert!(root.remove_tree(&name("tree")).unwrap_err().is_not_found());
        assert_eq!(root.entries().unwrap().count(), 0);
    }
    assert_eq!(portrait(&outside), before);
}

#[test]
fn depth_beyond_any_path_is_no_obstacle() {
    let scratch = Scratch::new();
    for resolution in BOTH {
        let root = scratch.sub("root", resolution);
        let link = Name::new([b'd'; 40]).unwrap();
        let bottom = dig(&root, &link, 600);
        bottom.write_private(&name("file"), b"x").unwrap();
        root.remove_tree(&link).unwrap();
        assert_eq!(root.entries().unwrap().count(), 0);
    }
}

#[test]
fn wide_directories_go_too() {
    let scratch = Scratch::new();
    let root = scratch.dir();
    for number in 0..600 {
        let place = scratch.path().join(format!("tree/{number}"));
        fs::create_dir_all(&place).unwrap();
        if number % 10 == 0 {
            fs::write(place.join("file"), b"").unwrap();
        }
    }
    root.remove_tree(&name("tree")).unwrap();
    assert_eq!(root.entries().unwrap().count(), 0);
}

#[test]
fn what_cannot_be_removed_is_an_error_with_its_path() {
    let scratch = Scratch::new();
    let root = scratch.dir();
    fs::create_dir_all(scratch.path().join("full/x")).unwrap();
    assert!(root.remove_dir(&name("full")).unwrap_err().is_not_empty());
    assert!(root.unlink(&name("full")).is_err());
    fs::write(scratch.path().join("file"), b"").unwrap();
    assert!(root.remove_dir(&name("file")).unwrap_err().is_not_a_directory());
    root.remove_tree(&name("file")).unwrap();
}

/// The test above once more, in a process that may open few files.
#[test]
fn depth_takes_no_descriptors() {
    let test = "dir::tests::removal::depth_beyond_any_path_is_no_obstacle";
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 56 && exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && shown.contains("1 passed"), "{shown}");
}
