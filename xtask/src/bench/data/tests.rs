use super::*;

fn check(change: impl Fn(&Path), identical: bool) {
    let folder = std::env::temp_dir().join(format!(
        "haul-bench-test-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let (one, other) = (folder.join("one"), folder.join("other"));
    let load = Load::Many { folders: 2, each: 3, bytes: 4096 };
    for side in [&one, &other] {
        fs::create_dir_all(side).unwrap();
        load.write(side).unwrap();
    }
    change(&other.join("many/folder-001"));
    let result = compare(&one.join("many"), &other.join("many"));
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(result.is_ok(), identical, "{result:?}");
    if identical {
        assert_eq!(result.unwrap(), 6);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    check(|_| {}, true);
}

#[test]
fn a_missing_an_extra_a_shorter_and_a_changed_file_are_seen() {
    check(|folder| fs::remove_file(folder.join("file-000")).unwrap(), false);
    check(|folder| fs::write(folder.join("file-003"), "x").unwrap(), false);
    check(|folder| fs::write(folder.join("file-000"), "x").unwrap(), false);
    check(|folder| fs::write(folder.join("file-002"), [7; 4096]).unwrap(), false);
}

#[test]
fn a_small_file_takes_a_page_and_an_inode() {
    let many = |bytes| Load::Many { folders: 1000, each: 1000, bytes }.space();
    assert_eq!(many(4096), 5_120_000_000);
    assert_eq!(many(256), many(4096));
    assert_eq!(many(4097), 9_216_000_000);
    assert_eq!(Load::Large { bytes: 1 << 30 }.space(), (1 << 30) + 1024);
}

#[test]
fn numbers_are_grouped() {
    for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
        assert_eq!(grouped(number), text);
    }
}

#[test]
fn what_arrived_is_counted_by_what_is_written() {
    let folder = std::env::temp_dir().join(format!("haul-allocated-{}", std::process::id()));
    fs::create_dir_all(folder.join("inner")).unwrap();
    fs::write(folder.join("inner/file"), vec![1; 100_000]).unwrap();
    let sparse = File::create(folder.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    let bytes = allocated(&folder);
    fs::remove_dir_all(&folder).unwrap();
    assert!((100_000..300_000).contains(&bytes), "{bytes}");
}
