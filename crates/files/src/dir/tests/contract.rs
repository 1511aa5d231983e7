//! One contract for both resolutions: seeded trees full of links, random paths through them, and the
//! walk must give what the kernel gives, the same inode or the same error.

use super::*;

fn plant(root: &Path, random: &mut Random) {
    let names = ["a", "b", "c", "d"];
    for _ in 0..14 {
        let depth = 1 + random.below(3) as usize;
        let place: PathBuf = (0..depth).map(|_| names[random.below(4) as usize]).collect();
        let place = root.join(place);
        let parent = place.parent().unwrap();
        if place.symlink_metadata().is_ok() || fs::create_dir_all(parent).is_err() {
            continue;
        }
        // Making parents may have followed links that were planted; only real places are planted in.
        if parent.canonicalize().is_ok_and(|real| real != parent) {
            continue;
        }
        match random.below(4) {
            0 => fs::write(&place, b"x").unwrap(),
            1 => fs::create_dir(&place).unwrap(),
            _ => {
                let parts = ["..", "a", "b", "c", ".", "", "d", ".."];
                let len = 1 + random.below(4);
                let target: Vec<&str> = (0..len).map(|_| parts[random.below(8) as usize]).collect();
                let target = match target.join("/") {
                    empty if empty.is_empty() => ".".to_owned(),
                    target => target,
                };
                symlink(target, &place).unwrap();
            }
        }
    }
}

#[test]
fn the_walk_agrees_with_the_kernel() {
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..150 {
        let mut random = Random(seed);
        let scratch = Scratch::new();
        let root = scratch.path().canonicalize().unwrap().join("root");
        fs::create_dir(&root).unwrap();
        plant(&root, &mut random);
        let dir = Dir::open_ambient(&root).unwrap();
        let [kernel, walk] = BOTH.map(|resolution| dir.with_resolution(resolution).unwrap());
        for _ in 0..40 {
            let len = 1 + random.below(5);
            let text: Vec<&str> =
                (0..len).map(|_| ["a", "b", "c", "d"][random.below(4) as usize]).collect();
            let path = path(&text.join("/"));
            for follow in [Follow::Never, Follow::Beneath] {
                let look = |dir: &Dir| {
                    let as_dir = dir.open_dir(&path, follow).and_then(|dir| dir.attributes());
                    let as_file = dir.open_file(&path, follow).and_then(|file| file.attributes());
                    let itself = dir.attributes_of(&path);
                    [as_dir, as_file, itself].map(|found| match found {
                        Ok(found) => Ok(found.inode),
                        Err(error) => Err(format!("{:?} {error}", error.errno())),
                    })
                };
                let (by_kernel, by_walk) = (look(&kernel), look(&walk));
                assert_eq!(by_kernel, by_walk, "seed {seed}, {path}, {follow:?}");
                opened += by_kernel.iter().filter(|found| found.is_ok()).count();
                refused += by_kernel
                    .iter()
                    .filter(|found| {
                        found.as_ref().is_err_and(|error| {
                            error.contains("XDEV") || error.contains("os error")
                        })
                    })
                    .count();
            }
        }
    }
    assert!(opened > 1_000, "the trees are too poor to show anything: {opened}, {refused}");
}

#[test]
fn this_kernel_has_openat2_so_both_ways_are_tested() {
    let scratch = Scratch::new();
    if scratch.dir().0.resolution != Resolution::Kernel {
        eprintln!("skipped: no openat2 here; the tests compare the walk with itself");
    }
}

#[test]
fn long_chains_and_loops_of_links_end() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path().join("end")).unwrap();
    symlink("loop", scratch.path().join("loop")).unwrap();
    symlink("pong", scratch.path().join("ping")).unwrap();
    symlink("ping", scratch.path().join("pong")).unwrap();
    symlink("end", scratch.path().join("0")).unwrap();
    for number in 1..60 {
        symlink((number - 1).to_string(), scratch.path().join(number.to_string())).unwrap();
    }
    for resolution in BOTH {
        let dir = scratch.dir().with_resolution(resolution).unwrap();
        for text in ["loop", "ping", "loop/x", "59", "40"] {
            let error = dir.open_dir(&path(text), Follow::Beneath).unwrap_err();
            assert!(error.is_symlink_refused(), "{text}: {error}");
            assert_eq!(error.fault(), Fault::Denied);
        }
        assert!(dir.open_dir(&path("39"), Follow::Beneath).is_ok(), "40 links are followed");
        assert!(dir.open_dir(&path("0"), Follow::Never).unwrap_err().is_symlink_refused());
    }
}
