//! Datasets handed in to a server with inboxes: what is taken, what is refused and leaves nothing, and what a person sees
//! of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use testkit::daemon::{Daemon, Ended, Machine, Running};
use testkit::tree::{Growth, Scratch, write};

use crate::pair::machine;

const SCHEMA: &str = include_str!("../../../../docs/guide/examples/ngs.schema.json");
const METADATA: &str = include_str!("../../../../docs/guide/examples/run42.json");

/// A lab's machine and a server with an inbox `ngs`, whose schema is that of the guide, and one `any`, without one.
pub struct Lab {
    pub scratch: Scratch,
    pub lab: Machine,
    pub server: Machine,
    daemon: Option<Daemon>,
    pub address: String,
}

impl Lab {
    pub fn new(name: &str) -> Self {
        Self::with(name, "", "", "inbox=*")
    }

    /// The same with more in the configuration: keys of the inbox `ngs`, and what comes behind; and what the lab's key may.
    pub fn with(name: &str, of_ngs: &str, behind: &str, allowed: &str) -> Self {
        let scratch = Scratch::new(name);
        let (lab, server) = (machine(scratch.join("lab")), machine(scratch.join("server")));
        server.key_line();
        let line = format!("{allowed} {}\n", lab.key_line());
        fs::write(server.home().join("authorized_keys"), line).unwrap();
        fs::write(scratch.join("ngs.schema.json"), SCHEMA).unwrap();
        fs::write(scratch.join("run42.json"), METADATA).unwrap();
        let config = format!(
            "[[inbox]]\nname = \"ngs\"\npath = \"root\"\nschema = \"ngs.schema.json\"\n{of_ngs}\n\
             [[inbox]]\nname = \"any\"\npath = \"root\"\n{behind}\n"
        );
        fs::write(scratch.join("haul.toml"), config).unwrap();
        let daemon = Self::start(&server, &scratch, "127.0.0.1:0");
        lab.trust(&server, daemon.address());
        let address = daemon.address().to_string();
        Self { scratch, lab, server, daemon: Some(daemon), address }
    }

    /// Ends the server as a crash does.
    pub fn kill_server(&mut self) {
        self.daemon.take().expect("it runs").kill();
    }

    /// What the server tells whoever runs it.
    pub fn server(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs")
    }

    /// All that the server has said since it was started.
    pub fn log(&self) -> String {
        self.daemon.as_ref().expect("it runs").log()
    }

    /// Starts it again where it was.
    pub fn start_again(&mut self) {
        self.daemon = Some(Self::start(&self.server, &self.scratch, &self.address));
    }

    fn start(server: &Machine, scratch: &Scratch, listen: &str) -> Daemon {
        let config = scratch.join("haul.toml");
        let words = ["serve", "--listen", listen, "--config"].map(Into::into);
        Daemon::start(server.command(words.into_iter().chain([config.into_os_string()])))
    }

    /// `haul put` with these words behind the host.
    pub fn put(&self, options: &[&str], files: &[PathBuf]) -> Ended {
        let host = self.address.clone();
        let mut words: Vec<std::ffi::OsString> = vec!["put".into()];
        words.extend(options.iter().map(Into::into));
        words.push(host.into());
        words.extend(files.iter().map(|file| file.clone().into_os_string()));
        self.lab.run(words)
    }

    /// The same with the metadata of the guide, for the inbox `ngs`.
    pub fn put_run(&self, options: &[&str], files: &[PathBuf]) -> Ended {
        let metadata = self.scratch.join("run42.json");
        let all = ["--inbox", "ngs", "-m", metadata.to_str().unwrap()];
        self.put(&[&all, options].concat(), files)
    }

    /// `haul inbox` on the server.
    pub fn inbox(&self, words: &[&str]) -> Ended {
        self.server.run(["inbox"].iter().chain(words))
    }

    /// What stands in the store: a line of JSON for each dataset.
    pub fn datasets(&self) -> Vec<Value> {
        let text = self.inbox(&["list", "--json", "--most", "0"]).expect_code(0).text();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How many uploads were taken in and are not over.
    pub fn incoming(&self) -> usize {
        fs::read_dir(self.scratch.join("root/incoming")).unwrap().count()
    }

    /// The folder of a dataset.
    pub fn folder(&self, dataset: &Value) -> PathBuf {
        self.scratch.join("root").join(dataset["path"].as_str().unwrap())
    }

    /// Fails unless nothing was taken in or is left of what was refused.
    #[track_caller]
    pub fn expect_nothing(&self) {
        assert_eq!(self.datasets(), Vec::<Value>::new());
        let incoming = fs::read_dir(self.scratch.join("root/incoming")).unwrap();
        let left: Vec<_> = incoming.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_dataset_is_published_with_all_that_proves_it() {
    let lab = Lab::new("inbox-whole");
    let run = lab.scratch.join("run42");
    let growth =
        Growth { seed: 7, files: 40, most_bytes: 20_000, large: vec![3 << 20], odd: false };
    growth.grow(&run);
    let said = lab.put_run(&["--json"], std::slice::from_ref(&run)).expect_code(0);
    let last: Value = serde_json::from_str(&said.last_line()).unwrap();
    assert_eq!(last["event"], "published", "{}", said.told());
    let [dataset] = &lab.datasets()[..] else { panic!("{:?}", lab.datasets()) };
    assert_eq!((&dataset["dataset"], &dataset["name"]), (&last["dataset"], &"run42".into()));
    assert_eq!(dataset["metadata"], serde_json::from_str::<Value>(METADATA).unwrap());
    let folder = lab.folder(dataset);
    testkit::tree::assert_same(&run, &folder.join("files/run42"));
    // With nothing of haul at hand.
    let checked = Command::new("sha256sum")
        .args(["--quiet", "-c", "manifest.sha256"])
        .current_dir(&folder)
        .status();
    assert!(checked.unwrap().success());
    let metadata: Value =
        serde_json::from_slice(&fs::read(folder.join("metadata.json")).unwrap()).unwrap();
    assert_eq!(metadata["metadata"]["project"], "QTEST");
    assert_eq!(metadata["received"]["schema"]["version"], "3");
    // The client's copy of the receipt is the one that is stored.
    let receipt = fs::read(last["receipt"].as_str().unwrap()).unwrap();
    assert_eq!(receipt, fs::read(folder.join("receipt.json")).unwrap());
    lab.inbox(&["verify"]).expect_code(0).expect_says(&["1 dataset read, all whole"]);
    let id = dataset["dataset"].as_str().unwrap();
    assert!(lab.inbox(&["show", id]).expect_code(0).text().contains("QTEST001AB"));
    let found = lab.inbox(&["search", "run.instrument=\"NovaSeq X\"", "liver"]).expect_code(0);
    assert!(found.text().contains(id), "{}", found.told());
    assert_eq!(lab.inbox(&["search", "kidney"]).expect_code(0).text(), "");
    // The same again: the answer is given again, and nothing is sent.
    let again = lab.put_run(&["--json"], &[run]).expect_code(0);
    let again: Value = serde_json::from_str(&again.last_line()).unwrap();
    assert_eq!(
        (&again["dataset"], &again["before"], &again["bytes_sent"]),
        (&last["dataset"], &true.into(), &0.into())
    );
    // A byte that rots is found.
    let rotten = folder.join("files/run42").join(
        testkit::tree::entries(&folder.join("files/run42"))
            .into_iter()
            .find(|(_, meta)| meta.is_file() && meta.len() > 100)
            .unwrap()
            .0,
    );
    let mut bytes = fs::read(&rotten).unwrap();
    bytes[50] ^= 1;
    fs::write(&rotten, bytes).unwrap();
    lab.inbox(&["verify", id]).expect_code(1);
}

#[test]
fn metadata_are_judged_before_the_first_byte() {
    let lab = Lab::new("inbox-judged");
    let file = lab.scratch.join("reads.fastq");
    write(&file, &vec![b'A'; 100_000]);
    let files = std::slice::from_ref(&file);
    let refused = lab.put(&["--inbox", "ngs"], files).expect_code(3);
    refused.expect_says(&["project", "samples", "haul inbox schema"]);
    let words = ["-k", "project:Q1", "-k", "run.paired:yes", "-k", "samples:[]", "--dry-run"];
    lab.put_run(&words, files).expect_code(3).expect_says(&["/project", "/run/paired", "/samples"]);
    lab.put_run(&["--dry-run"], files).expect_code(0).expect_says(&["would be taken"]);
    lab.expect_nothing();
    let schema = lab.lab.run(["inbox", "schema", &lab.address.clone(), "ngs"]);
    let schema: Value = serde_json::from_slice(&schema.expect_code(0).output).unwrap();
    assert_eq!(schema["title"], "A sequencing run");
    for (text, why) in [
        ("[1]", "not a JSON object"),
        ("{\"a\": 1, \"a\": 2}", "a"),
        ("{\"a\": 123456789012345678901234567890}", "/a"),
        ("{\"a\": 1e400}", ""),
    ] {
        let path = lab.scratch.join("bad.json");
        fs::write(&path, text).unwrap();
        let ended = lab.put(&["--inbox", "any", "-m", path.to_str().unwrap()], files);
        assert!(matches!(ended.code, Some(2 | 3)), "{text}: {}", ended.told());
        ended.expect_says(&[why]);
    }
    let deep = lab.scratch.join("deep.json");
    fs::write(&deep, format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100))).unwrap();
    lab.put(&["--inbox", "any", "-m", deep.to_str().unwrap()], files).expect_code(3);
    let long = lab.scratch.join("long.json");
    fs::write(&long, format!("{{\"a\":\"{}\"}}", "x".repeat(10 << 20))).unwrap();
    let ended = lab.put(&["--inbox", "any", "-m", long.to_str().unwrap()], files);
    ended.expect_code(3).expect_says(&["the metadata have"]);
    lab.expect_nothing();
}

#[test]
fn names_rights_quotas_and_room_are_looked_at_first() {
    let allowed = "inbox=ngs,quota=1MB,quota-datasets=2";
    let lab = Lab::with("inbox-rights", "same_name = \"refuse\"", "", allowed);
    let file = lab.scratch.join("reads");
    write(&file, &vec![1; 400_000]);
    let files = std::slice::from_ref(&file);
    lab.put(&["--inbox", "any"], files).expect_code(2).expect_says(&["no inbox 'any'", "ngs"]);
    for name in ["../up", "a/b", ".", "a\nb", "\u{202e}txt", ""] {
        let ended = lab.put_run(&["-n", name], files);
        assert!(matches!(ended.code, Some(2 | 3)), "{name:?}: {}", ended.told());
    }
    lab.expect_nothing();
    lab.put_run(&[], files).expect_code(0);
    write(&file, &vec![2; 400_000]);
    lab.put_run(&[], files).expect_code(2).expect_says(&["dataset of this name"]);
    lab.put_run(&["-n", "second"], files).expect_code(0);
    lab.put_run(&["-n", "third"], files).expect_code(3).expect_says(&["quota"]);
    // It may do nothing but that.
    lab.lab.run(["ls", &lab.address.clone()]).expect_code(3);
    assert_eq!(lab.datasets().len(), 2);
    let full = Lab::with("inbox-full", "", "[inboxes]\nkeep_free = \"1000TB\"", "inbox=*");
    write(&full.scratch.join("reads"), b"x");
    let files = [full.scratch.join("reads")];
    full.put_run(&[], &files).expect_code(5).expect_says(&["no room"]);
    full.expect_nothing();
}

#[test]
fn content_that_is_there_is_told_refused_or_linked() {
    for (policy, code, says, count) in [
        ("keep", 0, "the same content", 2),
        ("refuse", 2, "has this content already", 1),
        ("link", 0, "kept once", 2),
    ] {
        let of_ngs = format!("duplicates = \"{policy}\"");
        let lab = Lab::with(&format!("inbox-twice-{policy}"), &of_ngs, "", "inbox=*");
        let file = lab.scratch.join("reads");
        write(&file, &vec![7; 300_000]);
        let files = std::slice::from_ref(&file);
        lab.put_run(&[], files).expect_code(0);
        testkit::tree::set_time(&file, 900_000_000, 0);
        let told = lab.put_run(&["-k", "remarks:again"], files).expect_code(code);
        told.expect_says(&[says]);
        let datasets = lab.datasets();
        assert_eq!(datasets.len(), count, "{policy}");
        if policy == "link" {
            use std::os::unix::fs::MetadataExt;
            let inode =
                |dataset| fs::metadata(lab.folder(dataset).join("files/reads")).unwrap().ino();
            assert_eq!(inode(&datasets[0]), inode(&datasets[1]));
        }
        lab.inbox(&["verify"]).expect_code(0);
    }
}

#[test]
fn a_pipe_and_several_files_are_datasets_too() {
    let lab = Lab::new("inbox-pipe");
    let host = lab.address.clone();
    let words = ["put", "--inbox", "any", "-n", "stream.tar", "-k", "by:me", &host, "-"];
    lab.lab.run_with(words, b"all of it").expect_code(0);
    let [dataset] = &lab.datasets()[..] else { panic!() };
    assert_eq!(fs::read(lab.folder(dataset).join("files/stream.tar")).unwrap(), b"all of it");
    lab.lab.run_with(["put", "--inbox", "any", &host, "-"], b"x").expect_code(2);
    let (one, two) = (lab.scratch.join("one"), lab.scratch.join("two"));
    write(&one, b"1");
    write(&two, b"2");
    let both = [one.clone(), two];
    lab.put(&["--inbox", "any"], &both).expect_code(2).expect_says(&["-n"]);
    lab.put(&["--inbox", "any", "-n", "both"], &both).expect_code(0);
    let folder = lab.scratch.folder("folder");
    std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
    let ended = lab.put(&["--inbox", "any"], &[one, folder.clone()]);
    ended.expect_code(2);
    let ended = lab.put(&["--inbox", "any"], &[folder]);
    ended.expect_code(1).expect_says(&["symbolic link"]);
    assert_eq!(lab.datasets().len(), 2);
}

#[test]
fn the_catalogue_can_be_thrown_away() {
    let mut lab = Lab::new("inbox-catalogue");
    let file = lab.scratch.join("reads");
    write(&file, b"reads");
    lab.put_run(&[], &[file]).expect_code(0);
    let before = lab.datasets();
    lab.kill_server();
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(lab.scratch.join(format!("root/catalogue.db{end}")));
    }
    lab.start_again();
    assert_eq!(lab.datasets(), before);
}

/// One upload at a time: the second client hears its place, and one that leaves and comes back finds it again.
#[test]
fn a_client_that_waits_hears_its_place() {
    let lab = Lab::with("inbox-queue", "", "[inboxes]\nactive = 1\nsmall_active = 0", "inbox=*");
    let host = lab.address.clone();
    let large = lab.scratch.join("large");
    write(&large, &vec![3; 30 << 20]);
    let words = |file: &Path, limit: &str| -> Vec<std::ffi::OsString> {
        let words = ["put", "--json", "--inbox", "any", "--limit", limit];
        let words = words.iter().map(Into::into);
        words.chain([host.clone().into(), file.as_os_str().to_owned()]).collect()
    };
    let mut first = Running::start(lab.lab.command(words(&large, "6MB")));
    while lab.datasets().is_empty() && lab.incoming() == 0 {
        assert!(first.is_running());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let second = lab.scratch.join("second");
    write(&second, &vec![4; 1 << 20]);
    // It leaves while it waits, and comes back.
    let mut waiting = Running::start(lab.lab.command(words(&second, "100MB")));
    while lab.incoming() < 2 {
        assert!(waiting.is_running());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    waiting.kill();
    drop(waiting);
    let again = lab.lab.run(words(&second, "100MB")).expect_code(0);
    let lines: Vec<Value> =
        again.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let waited = lines.iter().find(|line| line["event"] == "waiting").expect("it waits");
    assert_eq!((&waited["position"], &waited["length"]), (&1.into(), &1.into()), "{waited}");
    assert!(waited["reason"].as_str().unwrap().contains("under way"), "{waited}");
    let admitted = lines.iter().find(|line| line["event"] == "admitted").unwrap();
    assert!(admitted["notes"][0].as_str().unwrap().contains("kept"), "{admitted}");
    first.wait().expect_code(0);
    assert_eq!(lab.datasets().len(), 2);
}

/// What has arrived stays, over a new start of both ends, and is not sent again.
#[test]
fn an_upload_goes_on_after_a_new_start_of_both_ends() {
    let mut lab = Lab::new("inbox-resume");
    let address = lab.address.clone();
    let run = lab.scratch.join("run");
    let growth =
        Growth { seed: 5, files: 50, most_bytes: 30_000, large: vec![40 << 20], odd: false };
    growth.grow(&run);
    let metadata = lab.scratch.join("run42.json");
    let words = |limit: &str| -> Vec<std::ffi::OsString> {
        let words = ["put", "--json", "--inbox", "ngs", "--limit", limit, "-m"].map(Into::into);
        words
            .into_iter()
            .chain([metadata.clone().into(), address.clone().into(), run.clone().into()])
            .collect()
    };
    let mut running = Running::start(lab.lab.command(words("20MB")));
    // A file that is arriving has its whole size from the beginning, so what it takes on the disk counts.
    while testkit::tree::allocated(&lab.scratch.join("root/incoming")) < 20 << 20 {
        assert!(running.is_running());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    lab.kill_server();
    running.kill();
    drop(running);
    assert_eq!(lab.datasets(), Vec::<Value>::new());
    lab.start_again();
    let ended = lab.lab.run(words("1GB")).expect_code(0);
    let last: Value = serde_json::from_str(&ended.last_line()).unwrap();
    let sent = last["bytes_sent"].as_u64().unwrap();
    let all = testkit::tree::total_bytes(&run);
    assert!(sent < all - (14 << 20), "{sent} of {all} bytes were sent again");
    assert_eq!(lab.datasets().len(), 1);
    lab.inbox(&["verify"]).expect_code(0);
}

/// A hook runs after a dataset was published, one that fails is visible and runs again by hand, and one judges offers.
#[test]
fn hooks_run_and_judge() {
    let scratch = Scratch::new("inbox-hook-files");
    let (seen, judge) = (scratch.join("seen"), scratch.join("judge"));
    write(
        &judge,
        b"#!/bin/sh\nif grep -q forbidden; then echo 'this is forbidden' >&2; exit 1; fi\n",
    );
    let failing = scratch.join("failing");
    write(&failing, format!("#!/bin/sh\n[ -e {}/mended ]\n", scratch.path().display()).as_bytes());
    for program in [&judge, &failing] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let note = format!("cat > {0}.new; pwd >> {0}.new; mv {0}.new {0}", seen.display());
    let hooks = format!(
        "[[inbox.hook]]\nname = \"note\"\ncommand = [\"sh\", \"-c\", \"{note}\"]\n\
         [[inbox.hook]]\nname = \"fails\"\ncommand = [\"{}\"]\ntries = 1\n\
         [inbox.offer_hook]\nname = \"judge\"\ncommand = [\"{}\"]\n",
        failing.display(),
        judge.display()
    );
    let lab = Lab::with("inbox-hooks", &hooks, "", "inbox=*");
    let file = lab.scratch.join("reads");
    write(&file, b"reads");
    let files = std::slice::from_ref(&file);
    lab.put_run(&["-k", "remarks:forbidden"], files)
        .expect_code(3)
        .expect_says(&["this is forbidden"]);
    lab.expect_nothing();
    lab.put_run(&[], files).expect_code(0);
    let dataset = &lab.datasets()[0];
    let id = dataset["dataset"].as_str().unwrap();
    let wait = |what: &str, is_so: &dyn Fn() -> bool| {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !is_so() {
            assert!(std::time::Instant::now() < end, "{what}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    let shown = || lab.inbox(&["show", id]).expect_code(0).text();
    wait("the hook runs", &|| seen.exists());
    let told = fs::read_to_string(&seen).unwrap();
    let (object, folder) = told.trim_end().rsplit_once('}').unwrap();
    let object: Value = serde_json::from_str(&format!("{object}}}")).unwrap();
    assert_eq!((&object["event"], &object["id"]), (&"published".into(), &dataset["dataset"]));
    assert_eq!(object["metadata"]["project"], "QTEST");
    assert_eq!(folder.trim(), lab.folder(dataset).display().to_string());
    wait("the hook that fails is stuck", &|| shown().contains("fails (published): stuck"));
    lab.inbox(&["list"]).expect_code(0).expect_says(&["hook fails"]);
    write(&scratch.join("mended"), b"");
    lab.inbox(&["retry-hooks", id]).expect_code(0);
    wait("it ends well", &|| shown().contains("fails (published): done"));
    lab.inbox(&["retry-hooks", id]).expect_code(1);
    let audit = fs::read_to_string(lab.server.home().join("audit.jsonl")).unwrap();
    assert!(audit.contains("offer refused") && audit.contains("published"), "{audit}");
}
