//! `haul diode` between two network namespaces from one of which nothing leads back: a tree of many files
//! arrives, and whatever becomes of it and of both ends, it is the same in the end, and the receiving host
//! has not sent one packet but for what its kernel refused while no receiver was there. This needs root, as
//! its name says.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::tree::{Growth, Random, entries, set_mode, set_time, write};

use crate::across::{Diode, PATIENCE};

/// With this variable set, a file of 1 GiB is in the tree too, which takes a minute more.
const LARGE: &str = "HAUL_TEST_DIODE_LARGE";

#[test]
fn needs_tun_a_large_tree_arrives_where_nothing_leads_back() {
    let mut diode = Diode::apart("diode_oneway");
    diode.rate = "60MB";
    let tree = diode.tree();
    let mut large = vec![12 << 20, 5 << 20, 3_000_001];
    large.extend(std::env::var_os(LARGE).map(|_| 1 << 30));
    Growth { large, ..Growth::small(31, 20_000) }.grow(&tree);
    decorate(&tree);
    let files = entries(&tree).iter().filter(|(_, meta)| meta.is_file()).count();
    assert!(files > 20_000, "{files}");
    let mut receiver = diode.receive();
    let mut sender = diode.send(&[]);
    wait_for_mark(&diode, 1);
    // What users and programs do, and one file that grows while it is read.
    let growing = grow_for_a_while(tree.join("growing"));
    change(&tree);
    growing.join().unwrap();
    wait_for_mark(&diode, 2);
    assert_eq!(diode.packets().1, 0, "the receiving host has sent something");
    // The receiver is killed while a generation is under way, and so is the sender when it is back.
    diode.low.run(["diode", "rate", "8MB"]).expect_code(0);
    // What came at the higher rate says how much a kill costs, for some seconds.
    std::thread::sleep(Duration::from_secs(4));
    write(&tree.join("late"), &Random::new(33).bytes(64 << 20));
    for number in 0..200 {
        write(&tree.join(format!("late-{number}")), format!("{number}").as_bytes());
    }
    wait_for_bytes(&diode, 4 << 20);
    receiver.kill();
    drop(receiver);
    assert!(!diode.copy().join("late").exists(), "the kill came too late");
    let receiver = diode.receive();
    wait_for_bytes(&diode, 2 << 20);
    sender.kill();
    drop(sender);
    assert!(!diode.copy().join("late").exists(), "the kill came too late");
    let sender = diode.send(&[]);
    diode.wait_sender();
    diode.low.run(["diode", "resend", "--full"]).expect_code(0);
    diode.heal();
    let (there, back) = diode.packets();
    // Large buffers pass whole, and count once.
    assert!(there > 5_000, "{there} packets");
    // While nobody listened, its kernel may have refused what came; there is nothing else.
    let refused = diode.counted("Icmp", "OutDestUnreachs");
    assert_eq!(back, refused, "the receiving host has sent something");
    assert_eq!((diode.counted("Udp", "OutDatagrams"), diode.counted("Tcp", "OutSegs")), (0, 0));
    drop((sender, receiver));
}

/// Everything that a tree of plain files lacks.
fn decorate(tree: &Path) {
    let root = tree.join("odd");
    for folder in ["empty", "empty too/in it", "names"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (number, mode) in [0o400, 0o444, 0o600, 0o640, 0o755, 0o777].into_iter().enumerate() {
        let path = root.join(format!("mode-{mode:o}"));
        write(&path, b"who");
        set_mode(&path, mode);
        let folder = root.join(format!("folder-{mode:o}"));
        fs::create_dir(&folder).unwrap();
        set_mode(&folder, mode | 0o100);
        set_time(&folder, 1_500_000_000 + number as i64, 987_654_321);
    }
    for (number, (seconds, nanos)) in
        [(0, 1), (-1, 999_999_999), (4_102_444_800, 123_456_789)].into_iter().enumerate()
    {
        let path = root.join(format!("time-{number}"));
        write(&path, b"when");
        set_time(&path, seconds, nanos);
    }
    for name in
        [b"not-utf8-\xff\xfe".as_slice(), b"line\nfeed", b" blanks ", b"-dash", &[b'x'; 255]]
    {
        write(&root.join("names").join(OsStr::from_bytes(name)), name);
    }
    for (name, target) in [("file", "mode-600"), ("up", "../../.."), ("nowhere", "no/such")] {
        symlink(target, root.join(format!("link-{name}"))).unwrap();
    }
    write(&root.join("nothing"), b"");
}

/// Changes, renames and removals, of files and of folders.
fn change(tree: &Path) {
    let all = entries(tree);
    let below = |path: &PathBuf| tree.join(path);
    let small =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"file-"));
    let files: Vec<PathBuf> =
        all.iter().filter(|(path, _)| small(path)).map(|(path, _)| below(path)).collect();
    let mut random = Random::new(32);
    for (number, path) in files.iter().step_by(97).enumerate() {
        match number % 6 {
            0 => write(path, &random.bytes(2000 + number)),
            1 => fs::rename(path, tree.join(format!("renamed-{number}"))).unwrap(),
            2 => fs::remove_file(path).unwrap(),
            3 => set_mode(path, 0o611),
            4 => set_time(path, 1_234_567_890, number as u32 + 1),
            _ => {
                fs::remove_file(path).unwrap();
                symlink(format!("target-{number}"), path).unwrap();
            }
        }
    }
    // Those that hold files and no folders, so that none of them is in another one.
    let parents: Vec<&Path> = files.iter().filter_map(|path| path.parent()).collect();
    let mut leaves: Vec<PathBuf> = all
        .iter()
        .filter(|(_, meta)| meta.is_dir())
        .map(|(path, _)| below(path))
        .filter(|path| parents.contains(&path.as_path()))
        .filter(|path| {
            !all.iter().any(|(it, meta)| meta.is_dir() && below(it).parent() == Some(path))
        })
        .collect();
    assert!(leaves.len() > 20, "{}", leaves.len());
    for number in 0..8 {
        let moved = tree.join(format!("moved folder {number}"));
        fs::rename(leaves.pop().unwrap(), &moved).unwrap();
        write(&moved.join("new in it"), &random.bytes(500));
    }
    for _ in 0..4 {
        fs::remove_dir_all(leaves.pop().unwrap()).unwrap();
    }
    // A folder where a file was, and the other way round.
    let turned = leaves.pop().unwrap();
    fs::remove_dir_all(&turned).unwrap();
    write(&turned, b"a file now");
    fs::remove_file(tree.join("odd/nothing")).unwrap();
    fs::create_dir_all(tree.join("odd/nothing/at all")).unwrap();
    fs::remove_dir(tree.join("odd/empty")).unwrap();
}

/// Writes to a file for some seconds, in small pieces.
fn grow_for_a_while(path: PathBuf) -> std::thread::JoinHandle<()> {
    let mut random = Random::new(34);
    write(&path, &random.bytes(6 << 20));
    std::thread::spawn(move || {
        let mut file = File::options().append(true).open(path).unwrap();
        for _ in 0..150 {
            file.write_all(&random.bytes(10_000)).unwrap();
            std::thread::sleep(Duration::from_millis(15));
        }
    })
}

/// Makes one more file, and waits until it is on the other side and all else with it.
fn wait_for_mark(diode: &Diode, number: usize) {
    let name = format!("mark-{number}");
    write(&diode.tree().join(&name), b"here");
    let began = Instant::now();
    while !diode.copy().join(&name).exists() {
        let waited = began.elapsed() < PATIENCE;
        assert!(waited, "{name} did not arrive: {:#}", Diode::status(&diode.high));
        std::thread::sleep(Duration::from_millis(50));
    }
    diode.wait("everything is there", |status| status["recv"]["missing"] == 0);
    diode.wait_same();
}

/// Waits until the receiver has got so many bytes more.
fn wait_for_bytes(diode: &Diode, bytes: u64) {
    let of = |status: &serde_json::Value| status["recv"]["bytes"].as_u64().unwrap_or(0);
    let before = of(&Diode::status(&diode.high));
    diode.wait("more bytes come", |status| of(status) >= before + bytes);
}
