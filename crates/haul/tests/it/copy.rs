//! Copies of whole trees, both ways: what arrives is the same byte for byte, is not sent twice, and is
//! what the receipt says.

use std::fs;
use std::path::Path;

use haul::files::{CHUNK, Dir, Name, Timestamp};
use testkit::daemon::Running;
use testkit::tree::{Growth, assert_same, set_time, write};

use crate::pair::{Pair, copy_words, number};

/// Everything odd, about 2,000 files, some of several chunks.
fn everything(seed: u64) -> Growth {
    let large = vec![5 << 20, (9 << 20) + 123];
    Growth { seed, files: 2000, most_bytes: 16 * 1024, large, odd: true }
}

#[test]
fn a_pushed_tree_is_the_same() {
    let pair = Pair::new("push");
    let source = pair.local("tree");
    everything(11).grow(&source);
    let first = pair.copy_json(&source, pair.at("data"));
    assert_same(&source, &pair.served("tree"));
    assert_eq!(number(&first, "failed"), 0, "{first}");
    assert_eq!(number(&first, "skipped"), 0, "{first}");
    // Holes are not sent, so the link carries less than the files hold.
    assert!(number(&first, "bytes_sent") <= number(&first, "bytes"), "{first}");
    copy_again(&pair, &source, &first);
}

/// What is there already is not sent, but for the beginning of one file before the first answer; and one
/// changed byte is.
fn copy_again(pair: &Pair, source: &Path, first: &serde_json::Value) {
    let again = pair.copy_json(source, pair.at("data"));
    assert_eq!(number(&again, "files"), 0, "{again}");
    assert!(number(&again, "bytes_sent") <= CHUNK, "{again}");
    assert_eq!(number(&again, "skipped"), number(first, "files"), "{again} after {first}");
    let changed = source.join("large-0");
    let mut bytes = fs::read(&changed).unwrap();
    bytes[3_000_000] ^= 1;
    write(&changed, &bytes);
    let third = pair.copy_json(source, pair.at("data"));
    assert_eq!(number(&third, "files"), 1, "{third}");
    assert_same(source, &pair.served("tree"));
}

#[test]
fn a_pulled_tree_is_the_same() {
    let pair = Pair::new("pull");
    let (source, here) = (pair.served("tree"), pair.scratch.folder("here"));
    everything(12).grow(&source);
    let first = pair.copy_json(pair.at("data/tree"), &here);
    assert_same(&source, &here.join("tree"));
    assert_eq!(number(&first, "failed"), 0, "{first}");
    let again = pair.copy_json(pair.at("data/tree"), &here);
    assert_eq!(number(&again, "files"), 0, "{again}");
    assert_eq!(number(&again, "skipped"), number(&first, "files"), "{again} after {first}");
}

#[test]
fn what_the_other_machine_cannot_give_is_named_here_and_counts_as_failed() {
    let pair = Pair::new("pull-problems");
    let (source, here) = (pair.served("tree"), pair.scratch.folder("here"));
    fs::create_dir_all(&source).unwrap();
    write(&source.join("file"), b"x");
    let _socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    let ended = pair.copy(&[pair.at("data/tree").as_os_str(), here.as_os_str()]).expect_code(1);
    ended.expect_says(&["tree/socket", "not copied", "copied 1 file", "1 failed"]);
    assert_eq!(fs::read(here.join("tree/file")).unwrap(), b"x");
}

#[test]
fn a_tree_copied_within_one_machine_is_the_same() {
    let pair = Pair::new("local");
    let (source, target) = (pair.local("tree"), pair.local("twin"));
    Growth { files: 200, ..everything(13) }.grow(&source);
    pair.copy_json(&source, &target);
    assert_same(&source, &target);
}

#[test]
fn nothing_but_the_copy_is_left_at_either_end() {
    let pair = Pair::new("left");
    let source = pair.local("tree");
    Growth { large: vec![3 << 20], ..Growth::small(14, 20) }.grow(&source);
    pair.copy_json(&source, pair.at("data"));
    let names: Vec<String> = fs::read_dir(pair.served(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".haul")
        .collect();
    assert_eq!(names, ["tree"]);
    if let Ok(staged) = fs::read_dir(pair.served(".haul")) {
        let staged: Vec<_> = staged.map(|entry| entry.unwrap().path()).collect();
        let files: Vec<_> = staged.iter().filter(|path| path.is_file()).collect();
        assert!(files.is_empty(), "left in staging: {files:?}");
    }
}

#[test]
fn a_receipt_proves_the_tree_until_a_byte_is_flipped() {
    let pair = Pair::new("receipt");
    let (source, receipt) = (pair.local("tree"), pair.local("receipt.json"));
    Growth { large: vec![2 << 20], odd: true, ..Growth::small(15, 60) }.grow(&source);
    let receipt = receipt.to_str().unwrap();
    let end = pair.copy_json_with(&["--receipt", receipt], &source, pair.at("data"));
    assert_eq!(end["receipt"], receipt);
    let verify = |tree: &Path| {
        let tree = tree.to_str().unwrap();
        pair.near.run(["receipt", "verify", receipt, "--tree", tree])
    };
    verify(&source).expect_code(0);
    verify(&pair.served("tree")).expect_code(0);
    let shown = pair.near.run(["receipt", "show", receipt]).expect_code(0).text();
    assert!(shown.to_lowercase().contains("durable"), "{shown}");
    // The signer is the machine that received, and only it.
    let signer = pair.far.key_line();
    let signed_by = |line: &str| pair.near.run(["receipt", "verify", receipt, "--signer", line]);
    signed_by(&signer).expect_code(0);
    signed_by(&pair.near.key_line()).expect_code(1);

    let (victim, before) =
        (pair.served("tree/large-0"), fs::metadata(source.join("large-0")).unwrap());
    let mut bytes = fs::read(&victim).unwrap();
    bytes[1_500_000] ^= 0x40;
    write(&victim, &bytes);
    fs::File::open(&victim)
        .and_then(|file| file.set_times(fs::FileTimes::new().set_modified(before.modified()?)))
        .unwrap();
    let found = verify(&pair.served("tree")).expect_code(1);
    assert!(found.text().contains("IS NOT the one"), "{}", found.told());
}

#[test]
fn a_forged_receipt_proves_nothing() {
    let pair = Pair::new("forged");
    let (source, receipt) = (pair.local("file"), pair.local("receipt.json"));
    write(&source, b"what was sent");
    let path = receipt.to_str().unwrap();
    pair.copy_json_with(&["--receipt", path], &source, pair.at("data"));
    let text = fs::read_to_string(&receipt).unwrap();
    let text = text.replace("\"files_copied\": 1", "\"files_copied\":1");
    let forged = text.replacen("\"files_copied\":1", "\"files_copied\":2", 1);
    assert_ne!(forged, text, "the receipt has no such field");
    write(&receipt, forged.as_bytes());
    let ended = pair.near.run(["receipt", "verify", path]);
    assert_ne!(ended.code, Some(0), "{}", ended.told());
    ended.expect_says(&["proves nothing"]);
}

#[test]
fn a_durable_copy_says_so_in_its_receipt() {
    let pair = Pair::new("durable");
    let source = pair.local("tree");
    Growth { large: vec![2 << 20], ..Growth::small(16, 30) }.grow(&source);
    for (options, durable) in [(vec!["--fsync"], "true"), (vec![], "false")] {
        let receipt = pair.local(format!("receipt-{durable}"));
        let mut options = options;
        options.extend(["--receipt", receipt.to_str().unwrap()]);
        pair.copy_json_with(&options, &source, pair.at("data"));
        let text = fs::read_to_string(&receipt).unwrap().replace(' ', "");
        assert!(text.contains(&format!("\"durable\":{durable}")), "{text}");
    }
    assert_same(&source, &pair.served("tree"));
}

#[test]
fn pipes_are_carried_both_ways() {
    let pair = Pair::new("pipes");
    for (name, content) in
        [("empty", Vec::new()), ("large", testkit::tree::Random::new(17).bytes(3_000_001))]
    {
        let words = ["-".into(), pair.at(format!("data/{name}"))];
        pair.near.run_with(copy_words(&words), &content).expect_code(0);
        assert_eq!(fs::read(pair.served(name)).unwrap(), content, "{name}");
        let back = pair.copy(&[pair.at(format!("data/{name}")), "-".into()]).expect_code(0);
        assert!(back.output == content, "{name}: {} bytes came back", back.output.len());
    }
    // The spool goes with the copy.
    let spool = pair.near.home().join("spool");
    let left = fs::read_dir(spool).map_or(0, |entries| entries.count());
    assert_eq!(left, 0, "spooled content was left behind");
}

#[test]
fn an_interrupted_copy_says_so_and_the_next_goes_on() {
    let pair = Pair::new("interrupt");
    let source = pair.local("large");
    write(&source, &testkit::tree::Random::new(18).bytes(8 << 20));
    let words = [
        "--limit".into(),
        "4MB".into(),
        "--json".into(),
        source.clone().into_os_string(),
        pair.at("data"),
    ];
    let mut running = Running::start(pair.near.command(copy_words(&words)));
    pair.daemon.wait_for_log("began", std::time::Duration::from_secs(20));
    wait_until(|| staged_bytes(&pair) > 3 << 20);
    assert!(running.is_running());
    running.interrupt();
    let ended = running.wait().expect_code(130);
    ended.expect_says(&["interrupted", "hint: "]);
    assert!(!pair.served("large").exists());
    let end = pair.copy_json(&source, pair.at("data"));
    let sent = number(&end, "bytes_sent");
    assert!(sent <= 6 << 20, "{sent} bytes were sent after 3 MiB had arrived");
    assert_eq!(fs::read(&source).unwrap(), fs::read(pair.served("large")).unwrap());
}

/// Blocks on the disk that partial files take.
fn staged_bytes(pair: &Pair) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(pair.served(".haul")) else { return 0 };
    let blocks = entries.flatten().filter_map(|entry| entry.metadata().ok());
    blocks.map(|meta| meta.blocks() * 512).sum()
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < end, "it did not come to that within a minute");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_file_touched_by_time_alone_is_recognised_by_its_content() {
    let pair = Pair::new("touched");
    let source = pair.local("file");
    write(&source, &testkit::tree::Random::new(19).bytes(1 << 20));
    pair.copy_json(&source, pair.at("data"));
    set_time(&source, 1_234_567_890, 5);
    pair.copy_json(&source, pair.at("data"));
    let (a, b) = (fs::metadata(&source).unwrap(), fs::metadata(pair.served("file")).unwrap());
    assert_eq!(a.modified().unwrap(), b.modified().unwrap());
}

#[test]
fn a_link_that_is_there_already_gets_its_time() {
    let pair = Pair::new("link-time");
    let source = pair.scratch.folder("tree");
    std::os::unix::fs::symlink("to", source.join("link")).unwrap();
    fs::create_dir(pair.served("tree")).unwrap();
    std::os::unix::fs::symlink("to", pair.served("tree/link")).unwrap();
    let there = Dir::open_ambient(&pair.served("tree")).unwrap();
    let long_ago = Timestamp { seconds: 1_600_000_000, nanos: 7 };
    there.set_times(&Name::new("link").unwrap(), long_ago).unwrap();
    let time = |path: &Path| fs::symlink_metadata(path).unwrap().modified().unwrap();
    assert_ne!(time(&source.join("link")), time(&pair.served("tree/link")));
    pair.copy_json(&source, pair.at("data"));
    assert_eq!(time(&source.join("link")), time(&pair.served("tree/link")));
    assert_eq!(time(&source), time(&pair.served("tree")));
}
