//! What a client of dync sees. Its timeouts are shorter than the old client's, where a test would last for minutes
//! otherwise; its rules are the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::server::{Server, until};

/// The Python that has pyzmq: of the environment that the checks make, or whatever else is called so.
fn python() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let made = program.ancestors().nth(3).unwrap().join("pyzmq/bin/python");
    if made.exists() { made } else { PathBuf::from("python3") }
}

fn probe(words: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dync/probe.py");
    let mut command = Command::new(python());
    command.arg(script).args(words).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A server that knows one client.
struct Rig {
    server: Server,
    folder: PathBuf,
}

impl Rig {
    fn new() -> Self {
        let server = Server::start();
        let folder = server.root.join("client");
        fs::create_dir(&folder).unwrap();
        let rig = Self { server, folder };
        rig.enrol("lab");
        rig
    }

    /// Makes a key and gives it to the server, which takes it while it runs.
    fn enrol(&self, name: &str) {
        self.make_key(name);
        self.admit(name);
        until("the key is taken", || self.probe("upload", name, &["-"]).status.success());
    }

    fn make_key(&self, name: &str) {
        let folder = self.folder.to_str().unwrap();
        assert!(probe(&["enrol", folder, name]).output().unwrap().status.success());
    }

    fn admit(&self, name: &str) {
        let file = format!("{name}.key");
        fs::copy(self.folder.join(&file), self.key_file(name)).unwrap();
    }

    fn key_file(&self, name: &str) -> PathBuf {
        self.server.root.join("keys/clients").join(format!("{name}.key"))
    }

    fn command(&self, what: &str, client: &str, words: &[&str]) -> Command {
        let (options, file) = match words.split_last() {
            Some((file, options)) if what == "upload" => (options, Some(*file)),
            _ => (words, None),
        };
        let server_key = self.server.root.join("keys/server.key");
        let secret = self.folder.join(format!("{client}.key_secret"));
        let mut command = probe(&[what]);
        if client == "hasty" || what == "upload" {
            command.args(["--name", "data.bin", "--timeout", "2000"]);
        }
        command.args(options).arg(server_key).arg(secret).arg("127.0.0.1");
        command.arg(self.server.port.to_string()).args(file);
        command
    }

    fn probe(&self, what: &str, client: &str, words: &[&str]) -> Output {
        self.command(what, client, words).output().unwrap()
    }

    fn start(&self, words: &[&str]) -> Child {
        self.command("upload", "lab", words).spawn().unwrap()
    }

    /// A file of the client, with content that a seed makes.
    fn file(&self, name: &str, len: usize, seed: u64) -> (String, Vec<u8>) {
        let mut content = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
        let path = self.folder.join(name);
        fs::write(&path, &content).unwrap();
        (path.to_str().unwrap().to_owned(), content)
    }

    /// The upload succeeds and what was published has this content. What the client says of it.
    fn check(&self, output: Output, content: &[u8]) -> Value {
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        let published = self.server.published(said["id"].as_str().unwrap());
        assert!(published.2 == content, "{} bytes are not {}", published.2.len(), content.len());
        said
    }

    fn upload(&self, words: &[&str], content: &[u8]) -> Value {
        self.check(self.probe("upload", "lab", words), content)
    }
}

fn failure(output: &Output) -> String {
    assert!(!output.status.success());
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    said["failed"].as_str().unwrap().to_owned()
}

#[test]
fn files_arrive_with_their_metadata() {
    let rig = Rig::new();
    for (len, seed) in [(0, 1), (1, 2), (256 << 10, 3), ((256 << 10) + 1, 4), (3_000_000, 5)] {
        let (file, content) = rig.file("f", len, seed);
        let meta = format!("{{\"sample\": \"ä{len}\"}}");
        let said = rig.upload(&["--name", "läuf.tar", "--meta", &meta, &file], &content);
        let (name, metadata, _) = rig.server.published(said["id"].as_str().unwrap());
        assert_eq!((name.as_str(), metadata), ("läuf.tar", meta));
        rig.upload(&["--data-in-last", "--repeat-last", &file], &content);
    }
    assert_eq!(rig.server.count("incoming"), 0);
}

#[test]
fn a_stream_of_unknown_size_arrives() {
    let rig = Rig::new();
    let (file, content) = rig.file("f", 10_000_000, 1);
    let mut command = rig.command("upload", "lab", &["-"]);
    command.stdin(fs::File::open(file).unwrap());
    rig.check(command.output().unwrap(), &content);
}

#[test]
fn large_files_of_several_at_once_arrive() {
    let rig = Rig::new();
    let sizes = [300_000_000, 100_000_000, 100_000_000];
    let files: Vec<_> =
        (0..).zip(sizes).map(|(seed, size)| rig.file(&format!("f{seed}"), size, seed)).collect();
    let running: Vec<Child> = files.iter().map(|(file, _)| rig.start(&[file])).collect();
    for (child, (_, content)) in running.into_iter().zip(&files) {
        rig.check(child.wait_with_output().unwrap(), content);
    }
}

#[test]
fn what_does_not_fit_is_refused_before_the_first_byte() {
    let rig = Rig::new();
    let (file, _) = rig.file("f", 1000, 1);
    let refused =
        |words: &[&str]| failure(&rig.probe("upload", "lab", &[words, &[&file]].concat()));
    assert_eq!(refused(&["--meta", "[1]"]), "error 422: the metadata are no JSON object");
    assert_eq!(refused(&["--name", "../f"]), "error 422: that is no name of a file");
    assert!(refused(&["--wrong-sum"]).starts_with("error 422: the SHA-256 of the file is"));
    assert_eq!(rig.server.count("incoming"), 0);
    // The name is free for who tries again.
    rig.upload(&[&file], &fs::read(&file).unwrap());
}

#[test]
fn an_upload_goes_on_after_the_server_was_killed() {
    let mut rig = Rig::new();
    let (file, content) = rig.file("f", 300_000_000, 1);
    let client = rig.start(&[&file]);
    for at in [20_000_000, 120_000_000] {
        until("some of it is durable", || rig.server.most_durable() > at);
        rig.server.kill_and_restart();
    }
    let said = rig.check(client.wait_with_output().unwrap(), &content);
    assert!(said["status-report"].as_u64() >= Some(1), "it was not interrupted: {said}");
}

#[test]
fn an_upload_goes_on_after_the_server_was_stopped() {
    let mut rig = Rig::new();
    let (file, content) = rig.file("f", 200_000_000, 1);
    let client = rig.start(&[&file]);
    until("some of it is durable", || rig.server.most_durable() > 20_000_000);
    rig.server.stop();
    rig.server.kill_and_restart();
    rig.check(client.wait_with_output().unwrap(), &content);
}

#[test]
fn an_upload_goes_on_after_its_connection_was_cut() {
    let rig = Rig::new();
    let (file, content) = rig.file("f", 60_000_000, 1);
    let said = rig.upload(&["--cut-after", "10000000", "--cuts", "4", &file], &content);
    assert_eq!(said["cuts"], 4);
}

#[test]
fn a_client_waits_for_its_turn_for_as_long_as_it_takes() {
    let rig = Rig::new();
    let (file, content) = rig.file("f", 5_000_000, 1);
    fs::write(rig.server.root.join("hold"), "").unwrap();
    // The old client asks every 30 s: these are more than two hours of it.
    let client = rig.start(&["--timeout", "20", &file]);
    until("it is offered", || rig.server.count("incoming") == 1);
    std::thread::sleep(std::time::Duration::from_secs(8));
    fs::remove_file(rig.server.root.join("hold")).unwrap();
    let said = rig.check(client.wait_with_output().unwrap(), &content);
    assert!(said["queries"].as_u64() > Some(240), "{said}");
}

#[test]
fn a_server_that_is_killed_finds_those_that_wait_again() {
    let mut rig = Rig::new();
    let (file, content) = rig.file("f", 5_000_000, 1);
    fs::write(rig.server.root.join("hold"), "").unwrap();
    let client = rig.start(&["--timeout", "200", &file]);
    until("it is offered", || rig.server.count("incoming") == 1);
    std::thread::sleep(std::time::Duration::from_secs(7));
    rig.server.kill_and_restart();
    std::thread::sleep(std::time::Duration::from_secs(1));
    fs::remove_file(rig.server.root.join("hold")).unwrap();
    rig.check(client.wait_with_output().unwrap(), &content);
}

#[test]
fn an_answer_that_was_lost_is_given_again() {
    let rig = Rig::new();
    let (file, content) = rig.file("f", 1_000_000, 1);
    let said = rig.upload(&["--timeout", "300", "--ignore-finished", "3", &file], &content);
    assert_eq!(said["upload-finished"], 4);
}

#[test]
fn strangers_stay_outside_and_a_key_that_is_taken_away_is_one() {
    let mut rig = Rig::new();
    rig.make_key("stranger");
    let refused = |rig: &Rig, client: &str| rig.probe("refused", client, &[]).status.success();
    assert!(refused(&rig, "stranger"));
    // A server that is another than the client thinks.
    let file = rig.server.root.join("keys/server.key");
    let right = fs::read(&file).unwrap();
    fs::copy(rig.folder.join("stranger.key"), &file).unwrap();
    assert!(refused(&rig, "lab"));
    fs::write(&file, right).unwrap();
    // Taken away in the middle of an upload, and given back.
    let (content_file, content) = rig.file("f", 300_000_000, 1);
    rig.enrol("other");
    let mut client = rig.start(&["--retries", "2", &content_file]);
    until("it runs", || rig.server.most_durable() > 0);
    fs::remove_file(rig.key_file("lab")).unwrap();
    until("it is refused", || refused(&rig, "lab"));
    let ended = client.wait().unwrap();
    rig.admit("lab");
    until("it is let in", || rig.probe("upload", "lab", &["-"]).status.success());
    if !ended.success() {
        rig.upload(&[&content_file], &content);
    }
    assert!(rig.server.is_running());
}

#[test]
fn what_no_client_sends_leaves_the_server_to_others() {
    let mut rig = Rig::new();
    rig.enrol("rude");
    let (file, content) = rig.file("f", 50_000_000, 1);
    let mut rude: Vec<Child> = ["1", "2"]
        .iter()
        .map(|seed| rig.command("hostile", "rude", &["--seed", seed]).spawn().unwrap())
        .collect();
    for _ in 0..3 {
        rig.upload(&[&file], &content);
    }
    for child in &mut rude {
        assert!(child.wait().unwrap().success());
    }
    rig.upload(&[&file], &content);
    assert!(rig.server.is_running());
}
