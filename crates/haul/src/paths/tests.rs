use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::spool::Scratch;

const MEMORY: PathMemory = PathMemory {
    rate_bytes_per_s: 11_300_000,
    base_rtt: Duration::from_micros(200_120),
    loss: 0.05,
    mtu: 1466,
};

/// A machine of its own, and what it remembers of this host.
fn store(home: &Path, host: &str, port: u16) -> PathStore {
    let home = home.as_os_str().to_owned();
    let places = Places::from(|name| (name == "HAUL_HOME").then(|| home.clone())).unwrap();
    PathStore::open(&places, &Target::new(host, port).unwrap())
}

/// The one file that there is.
fn file(home: &Path) -> PathBuf {
    let found: Vec<_> = std::fs::read_dir(home.join(FOLDER)).unwrap().collect();
    assert_eq!(found.len(), 1);
    found.into_iter().next().unwrap().unwrap().path()
}

#[test]
fn what_was_saved_of_a_host_is_there_for_it_alone() {
    let scratch = Scratch::in_temporary("haul-paths-").unwrap();
    let home = scratch.path();
    let far = store(home, "far", 4285);
    assert_eq!(far.load(), None);
    far.save(&MEMORY);
    assert_eq!(far.load(), Some(MEMORY));
    // As the next run of the program finds it.
    assert_eq!(store(home, "far", 4285).load(), Some(MEMORY));
    for (host, port) in [("far", 4286), ("other", 4285), ("fd99::2", 4285)] {
        assert_eq!(store(home, host, port).load(), None, "{host}:{port}");
    }
    let faster = PathMemory { rate_bytes_per_s: 90_000_000, ..MEMORY };
    far.save(&faster);
    assert_eq!(far.load(), Some(faster));
    file(home);
    // Names that no file can have are no reason to forget a host.
    let long = store(home, &["long-name"; 20].join("."), 4285);
    long.save(&MEMORY);
    assert_eq!((long.load(), far.load()), (Some(MEMORY), Some(faster)));
}

#[test]
fn a_file_of_another_host_or_a_damaged_one_is_left_alone() {
    let scratch = Scratch::in_temporary("haul-paths-").unwrap();
    let home = scratch.path();
    let far = store(home, "far", 4285);
    far.save(&MEMORY);
    let path = file(home);
    let whole = std::fs::read_to_string(&path).unwrap();
    let (host, line) = whole.split_once('\n').unwrap();
    let check = |content: &[u8], expected: Option<PathMemory>| {
        std::fs::write(&path, content).unwrap();
        let shown = String::from_utf8_lossy(content);
        assert_eq!(store(home, "far", 4285).load(), expected, "{shown}");
    };
    check(whole.as_bytes(), Some(MEMORY));
    // Two hosts whose files have the same name would tell each other's path apart.
    check(format!("near\n{line}").as_bytes(), None);
    check(b"", None);
    check(host.as_bytes(), None);
    check(format!("{host}\n").as_bytes(), None);
    check(line.as_bytes(), None);
    check(&whole.as_bytes()[..whole.len() / 2], None);
    check(whole.replace("11300000", "0").as_bytes(), None);
    check(whole.replace("11300000", "99999999999999999999").as_bytes(), None);
    check(format!("{host}\nx{line}").as_bytes(), None);
    check(format!("{host}\n{line} and more").as_bytes(), None);
    check(&[whole.as_bytes(), b"\xff"].concat(), None);
    check(&vec![b'a'; 2 * MAX_BYTES as usize], None);
    // What is learnt next takes its place.
    far.save(&MEMORY);
    assert_eq!(far.load(), Some(MEMORY));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(far.load(), None);
    // It cannot be saved either, and that stops nothing.
    far.save(&MEMORY);
}

#[test]
fn without_a_state_folder_nothing_is_remembered_and_nothing_fails() {
    let scratch = Scratch::in_temporary("haul-paths-").unwrap();
    let home = scratch.path().join("file");
    std::fs::write(&home, "no folder").unwrap();
    let far = store(&home, "far", 4285);
    far.save(&MEMORY);
    assert_eq!(far.load(), None);
}
