//! What becomes of inboxes at their edges: uploads that nobody comes back for, schemas that change or cannot be used, more
//! uploads than are kept, a hook that takes its time, a mount in the way.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::daemon::Running;
use testkit::tree::{Scratch, allocated, entries, write};

use crate::inbox::Lab;

/// Nothing here takes longer.
const AT_MOST: Duration = Duration::from_secs(60);

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + AT_MOST;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The words that hand a file in at this rate.
fn slowly(lab: &Lab, file: &Path, limit: &str) -> Vec<OsString> {
    let words = ["put", "--json", "--inbox", "any", "--limit", limit].map(OsString::from);
    words.into_iter().chain([lab.address.clone().into(), file.into()]).collect()
}

/// Begins to hand a file in, and ends its client when so much of it is there.
fn leave_half(lab: &Lab, file: &Path, bytes: u64) {
    let mut running = Running::start(lab.lab.command(slowly(lab, file, "10MB")));
    let incoming = lab.scratch.join("root/incoming");
    let before = allocated(&incoming);
    while allocated(&incoming) < before + bytes {
        assert!(running.is_running());
        std::thread::sleep(Duration::from_millis(5));
    }
    running.kill();
    drop(running.wait());
}

fn content(seed: u64, len: usize) -> Vec<u8> {
    testkit::tree::Random::new(seed).bytes(len)
}

/// An upload whose client does not come back is told of, to hooks too, and then goes; who offered it is kept.
#[test]
fn what_nobody_comes_back_for_is_told_and_then_removed() {
    let scratch = Scratch::new("inbox-expire-hook");
    let told = scratch.join("told");
    let behind = format!(
        "expire = \"10s\"\n[[inbox.hook]]\nname = \"warn\"\nexpiring = true\n\
         command = [\"sh\", \"-c\", \"cat > {0}.$HAUL_EVENT\"]\n",
        told.display()
    );
    let mut lab = Lab::with("inbox-expire", "", &behind, "inbox=*");
    let file = lab.scratch.join("large");
    write(&file, &content(1, 40 << 20));
    leave_half(&lab, &file, 2 << 20);
    assert_eq!(lab.incoming(), 1);
    // A transfer waits ten minutes for its client, so long as its server lives.
    lab.kill_server();
    lab.start_again();
    lab.server().wait_for_log("will expire in", AT_MOST);
    lab.server().wait_for_log("has expired", AT_MOST);
    wait("its folder goes", || lab.incoming() == 0);
    wait("the hook is told", || told.with_extension("expiring").exists());
    let object = fs::read(told.with_extension("expiring")).unwrap();
    let object: Value = serde_json::from_slice(&object).unwrap();
    assert_eq!((&object["name"], &object["inbox"]), (&"large".into(), &"any".into()), "{object}");
    let rejected: Vec<_> = fs::read_dir(lab.scratch.join("root/rejected")).unwrap().collect();
    let [Ok(folder)] = &rejected[..] else { panic!("{rejected:?}") };
    assert_eq!(object["id"], folder.file_name().to_str().unwrap());
    let reason = fs::read_to_string(folder.path().join("reason.json")).unwrap();
    assert!(reason.contains("did not come back"), "{reason}");
    let offer: Value =
        serde_json::from_slice(&fs::read(folder.path().join("offer.json")).unwrap()).unwrap();
    assert_eq!(offer["name"], "large");
    let audit = fs::read_to_string(lab.server.home().join("audit.jsonl")).unwrap();
    assert!(audit.contains("expired"), "{audit}");
    // Its client may come back all the same, and sends it whole.
    lab.lab.run(slowly(&lab, &file, "1GB")).expect_code(0);
    assert_eq!(lab.datasets().len(), 1);
}

/// A schema that is changed judges the next offer; one that cannot be used does not, and the one before stays.
#[test]
fn a_schema_is_in_force_as_soon_as_it_is_written() {
    let lab = Lab::new("inbox-schema-live");
    let (file, schema) = (lab.scratch.join("reads"), lab.scratch.join("ngs.schema.json"));
    write(&file, b"reads");
    let files = std::slice::from_ref(&file);
    lab.put_run(&["--dry-run"], files).expect_code(0);
    let wants = |key: &str| {
        let text = format!("{{\"type\": \"object\", \"required\": [\"{key}\"]}}");
        // As an editor does it.
        let new = schema.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &schema).unwrap();
    };
    wants("barcode");
    lab.put_run(&[], files).expect_code(3).expect_says(&["barcode"]);
    lab.server().wait_for_log("the schema was changed and is in force", AT_MOST);
    for broken in ["{\"type\": ", "{\"$ref\": \"https://example.org/schema\"}", "[]"] {
        fs::write(&schema, broken).unwrap();
        lab.put_run(&[], files).expect_code(3).expect_says(&["barcode"]);
    }
    lab.server().wait_for_log("the one before stays in force", AT_MOST);
    lab.put_run(&["-k", "barcode:7"], files).expect_code(0);
    let dataset = &lab.datasets()[0];
    let metadata = fs::read(lab.folder(dataset).join("metadata.json")).unwrap();
    let metadata: Value = serde_json::from_slice(&metadata).unwrap();
    // By which schema it was judged can be read years later.
    let digest = metadata["received"]["schema"]["blake3"].as_str().unwrap();
    let kept = entries(&lab.scratch.join("root/schemas"));
    assert!(kept.iter().any(|(path, _)| path.to_string_lossy().contains(digest)), "{kept:?}");
}

/// A server whose schema cannot be used does not start, and says which file it is.
#[test]
fn a_server_with_a_bad_schema_does_not_start() {
    for broken in ["{\"type\": ", "{\"type\": 7}", "{\"$ref\": \"https://example.org/schema\"}"] {
        let mut lab = Lab::new("inbox-schema-bad");
        lab.kill_server();
        fs::write(lab.scratch.join("ngs.schema.json"), broken).unwrap();
        let config = lab.scratch.join("haul.toml");
        let ended = lab.server.run(["serve", "--config", config.to_str().unwrap()]);
        assert_ne!(ended.code, Some(0), "{broken}");
        ended.expect_says(&["ngs.schema.json", "inbox ngs"]);
    }
}

/// Uploads that were begun and left cost the server something each, so a key may have so many and no more.
#[test]
fn a_key_has_so_many_unfinished_uploads_and_no_more() {
    let behind = "[inboxes]\nunfinished_per_client = 2";
    let mut lab = Lab::with("inbox-unfinished", "", behind, "inbox=*");
    let files: Vec<PathBuf> = (0..3).map(|n| lab.scratch.join(format!("large-{n}"))).collect();
    for (n, file) in files.iter().enumerate() {
        write(file, &content(n as u64, 20 << 20));
    }
    leave_half(&lab, &files[0], 1 << 20);
    leave_half(&lab, &files[1], 1 << 20);
    // Also where the server has been started again meanwhile.
    lab.kill_server();
    lab.start_again();
    let refused = lab.lab.run(slowly(&lab, &files[2], "1GB")).expect_code(3);
    refused.expect_says(&["2 uploads of this key are not finished"]);
    assert_eq!(lab.incoming(), 2);
    lab.lab.run(slowly(&lab, &files[0], "1GB")).expect_code(0);
    lab.lab.run(slowly(&lab, &files[2], "1GB")).expect_code(0);
    lab.lab.run(slowly(&lab, &files[1], "1GB")).expect_code(0);
    assert_eq!(lab.datasets().len(), 3);
    lab.inbox(&["verify"]).expect_code(0);
}

/// A hook that judges for longer than a client waits for an answer does not lose the offer.
#[test]
fn a_hook_may_take_its_time() {
    let hook = "[inbox.offer_hook]\nname = \"slow\"\ntimeout = \"50s\"\n\
                command = [\"sh\", \"-c\", \"sleep 12\"]\n";
    let lab = Lab::with("inbox-slow-hook", hook, "", "inbox=*");
    let file = lab.scratch.join("reads");
    write(&file, b"reads");
    let ended = lab.put_run(&["--json"], std::slice::from_ref(&file)).expect_code(0);
    let text = ended.text();
    let waits = |line: &&str| line.contains("\"waiting\"") && line.contains("judging the offer");
    assert!(text.lines().any(|line| waits(&line)), "{text}");
    assert_eq!(lab.datasets().len(), 1);
}

/// The parts of a root lie on one filesystem, which is looked at before anything is served.
#[test]
fn needs_root_a_root_with_a_mount_in_it_is_not_served() {
    let mut lab = Lab::new("inbox-mount");
    lab.kill_server();
    let store = lab.scratch.join("root/store");
    let config = lab.scratch.join("haul.toml");
    // In a mount namespace of its own, which ends with it.
    let script = format!(
        "mount -t tmpfs none {} && exec \"$@\"",
        store.to_str().expect("a path that a shell reads as it is")
    );
    let serve = lab.server.command(["serve", "--config", config.to_str().unwrap()]);
    let words: Vec<OsString> =
        ["-m", "sh", "-c", &script, "sh"].map(OsString::from).into_iter().collect();
    let words: Vec<&std::ffi::OsStr> = words.iter().map(OsString::as_os_str).collect();
    let ended = Running::start(testkit::daemon::behind("unshare", &words, &serve)).wait();
    assert_ne!(ended.code, Some(0));
    ended.expect_says(&["filesystem"]);
    lab.start_again();
    assert_eq!(lab.datasets(), Vec::<Value>::new());
}
