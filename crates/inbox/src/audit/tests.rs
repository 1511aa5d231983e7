use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::hooks::rig::Scratch;

fn open(scratch: &Scratch) -> Audit {
    Audit::open(&Dir::open_ambient(scratch.path()).unwrap()).unwrap()
}

fn who(key: &str) -> Who<'_> {
    Who { key, label: "lab 1", address: None }
}

fn refused(key: &str) -> AuditEvent<'_> {
    AuditEvent::OfferRefused {
        who: who(key),
        inbox: "ngs",
        name: "run 7",
        code: "7",
        reason: "the queue is full",
    }
}

/// Every line of a file, which must be whole.
fn lines(scratch: &Scratch, file: &str) -> Vec<Value> {
    let text = scratch.read(file);
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(read).collect()
}

fn whats(scratch: &Scratch, file: &str) -> Vec<String> {
    lines(scratch, file).iter().map(|line| line["what"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn lines_are_added_and_stay() {
    let scratch = Scratch::new();
    open(&scratch).record(&AuditEvent::Requested { who: who("a") }).unwrap();
    let approved = AuditEvent::Approved { who: who("a"), rights: "inbox=\"*\"", by: "ada" };
    open(&scratch).record(&approved).unwrap();
    assert_eq!(whats(&scratch, FILE), ["requested", "approved"]);
    assert_eq!(lines(&scratch, FILE)[1]["by"], "ada");
}

#[test]
fn a_torn_line_is_repaired_wherever_it_was_cut() {
    let scratch = Scratch::new();
    let audit = open(&scratch);
    audit.record(&refused("a")).unwrap();
    audit.record(&refused("b")).unwrap();
    let whole = scratch.read(FILE);
    let first = whole.find('\n').unwrap() + 1;
    for cut in first + 1..whole.len() {
        scratch.write(FILE, &whole[..cut]);
        drop(open(&scratch));
        let lines = lines(&scratch, FILE);
        assert_eq!(lines.len(), 2, "cut at {cut}");
        assert_eq!((&lines[0]["key"], &lines[1]["what"]), (&"a".into(), &"repaired".into()));
        assert_eq!(lines[1]["bytes"], (cut - first) as u64);
        assert_eq!(lines[1]["torn"], whole[first..cut]);
    }
    // Cut between lines, or with nothing in it, it is as it should be.
    for cut in [0, first, whole.len()] {
        scratch.write(FILE, &whole[..cut]);
        drop(open(&scratch));
        assert_eq!(scratch.read(FILE), whole[..cut]);
    }
    // What a power cut may leave: bytes that were never written, and more of them than a line has.
    scratch.write(FILE, [whole.as_bytes(), &[0; 100_000]].concat());
    drop(open(&scratch));
    assert_eq!(lines(&scratch, FILE)[2]["bytes"], 100_000);
    // Torn while it is open, as by a disk that was full for a moment.
    scratch.write(FILE, &whole[..first + 5]);
    audit.record(&refused("c")).unwrap();
    assert_eq!(whats(&scratch, FILE), ["offer refused", "repaired", "offer refused"]);
}

#[test]
fn a_large_file_is_set_aside_and_nothing_is_lost() {
    let scratch = Scratch::new();
    scratch.write("audit-7.jsonl", "");
    scratch.write("audit-x.jsonl", "");
    let audit = Audit { large: 400, ..open(&scratch) };
    let keys: Vec<String> = (0..12).map(|number| format!("key {number}")).collect();
    for key in &keys {
        audit.record(&refused(key)).unwrap();
    }
    let mut files: Vec<u64> = std::fs::read_dir(scratch.path())
        .unwrap()
        .filter_map(|entry| number(entry.unwrap().file_name().as_encoded_bytes()))
        .collect();
    files.sort_unstable();
    assert!(files.len() > 3 && files[..2] == [7, 8], "{files:?}");
    let names = files.iter().map(|file| format!("audit-{file}.jsonl")).chain([FILE.to_owned()]);
    let found: Vec<String> = names
        .flat_map(|file| lines(&scratch, &file))
        .map(|line| line["key"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(found, keys);
}

#[test]
fn nobody_fills_the_disk_with_refusals() {
    let scratch = Scratch::new();
    let audit = open(&scratch);
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    for _ in 0..1_000 {
        audit.record_at(&refused("loud"), now).unwrap();
    }
    let published = AuditEvent::Published {
        who: who("loud"),
        dataset: Dataset { id: "0id", inbox: "ngs", name: "run 7", files: 1, bytes: 2 },
    };
    // What was decided for a client is always written.
    audit.record_at(&published, now).unwrap();
    let before = lines(&scratch, FILE).len();
    assert_eq!(before, 21);
    audit.write_left_out(now).unwrap();
    assert_eq!(lines(&scratch, FILE).len(), before);
    let later = Timestamp::from_second(1_800_003_600).unwrap();
    audit.record_at(&refused("loud"), later).unwrap();
    let after = lines(&scratch, FILE);
    assert_eq!(after.len(), before + 2);
    let told = &after[before];
    assert_eq!((&told["what"], &told["count"]), (&"left out".into(), &980.into()));
    assert_eq!(
        (&told["of"], &told["since"]),
        (&"offers refused".into(), &"2027-01-15T08:00:00.000Z".into())
    );
    assert_eq!(after[before + 1]["what"], "offer refused");
}

#[test]
fn writers_take_turns() {
    let scratch = Scratch::new();
    let scratch = Arc::new(scratch);
    let write = |writer: usize| {
        let scratch = scratch.clone();
        std::thread::spawn(move || {
            // Each has its own, as processes have.
            let audit = Audit { large: 2_000, ..open(&scratch) };
            for number in 0..15 {
                audit.record(&refused(&format!("{writer} {number}"))).unwrap();
            }
        })
    };
    for thread in [1, 2, 3].map(write) {
        thread.join().unwrap();
    }
    let all = std::fs::read_dir(scratch.path()).unwrap().flat_map(|entry| {
        let file = entry.unwrap().file_name().into_string().unwrap();
        if file == LOCK { Vec::new() } else { lines(&scratch, &file) }
    });
    let mut keys: Vec<String> = all.map(|line| line["key"].as_str().unwrap().to_owned()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 45);
}

#[test]
fn what_cannot_be_written_is_an_error() {
    let scratch = Scratch::new();
    let audit = open(&scratch);
    std::fs::remove_file(scratch.path().join(FILE)).unwrap();
    std::fs::create_dir(scratch.path().join(FILE)).unwrap();
    assert!(audit.record(&refused("a")).is_err());
}
