//! A client of dync against the real server: its key is imported, its files are judged and published like any other, and
//! it goes on over a new start of the server.

mod needs_pyzmq {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output, Stdio};
    use std::time::{Duration, Instant};

    use serde_json::Value;

    use crate::inbox::Lab;

    /// The Python that has pyzmq: of the environment that the checks make, or whatever else is called so.
    fn python() -> PathBuf {
        let program = std::env::current_exe().unwrap();
        let made = program.ancestors().nth(3).unwrap().join("pyzmq/bin/python");
        if made.exists() { made } else { PathBuf::from("python3") }
    }

    fn probe(words: &[&str]) -> Command {
        let probe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../inbox/tests/dync/probe.py");
        let mut command = Command::new(python());
        command.arg(probe).args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// A port of the loopback that nobody has.
    fn free_port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    struct Door {
        lab: Lab,
        folder: PathBuf,
        port: u16,
    }

    impl Door {
        /// A server with a door for clients of dync, whose key `old` may hand in to the inbox `any` with these options, and
        /// one more, which has none.
        fn new(name: &str, options: &[&str]) -> Self {
            let port = free_port();
            let dync = format!("[dync]\nlisten = \"127.0.0.1:{port}\"\ninbox = \"any\"\n");
            let lab = Lab::with(name, "", &dync, "inbox=*");
            let folder = lab.scratch.folder("keys");
            let path = folder.to_str().unwrap();
            for name in ["old", "stranger"] {
                assert!(probe(&["enrol", path, name]).output().unwrap().status.success());
            }
            let key = folder.join("old.key");
            let words = ["key", "import", key.to_str().unwrap(), "--as", "old"];
            lab.server.run([&words, options].concat()).expect_code(0);
            Self { lab, folder, port }
        }

        fn command(
            &self,
            what: &str,
            client: &str,
            options: &[&str],
            file: Option<&str>,
        ) -> Command {
            let server_key = self.lab.server.home().join("dync/server.key");
            let mut command = probe(&[what]);
            command.args(options).arg(server_key);
            command.arg(self.folder.join(format!("{client}.key_secret")));
            command.arg("127.0.0.1").arg(self.port.to_string()).args(file);
            command
        }

        fn upload(&self, options: &[&str], file: &Path) -> Output {
            let all = [&["--timeout", "2000"], options].concat();
            self.command("upload", "old", &all, file.to_str()).output().unwrap()
        }

        /// The key is taken within seconds after it was imported.
        fn until_let_in(&self) {
            let end = Instant::now() + Duration::from_secs(60);
            let words = ["--name", "first", "--approval", "1000"];
            while !self.upload(&words, Path::new("/dev/null")).status.success() {
                let output = self.upload(&words, Path::new("/dev/null"));
                assert!(
                    Instant::now() < end,
                    "the key is not taken: {}",
                    String::from_utf8_lossy(&output.stdout)
                );
            }
        }
    }

    fn said(output: &Output) -> Value {
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    #[test]
    fn a_client_of_dync_hands_in_like_any_other() {
        let door = Door::new("dync-serve", &["--quota", "80MB"]);
        door.until_let_in();
        let file = door.lab.scratch.join("reads");
        let content: Vec<u8> =
            (0..30_000_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        fs::write(&file, &content).unwrap();
        let output = door.upload(&["--name", "reads", "--meta", "{\"sample\": \"A\"}"], &file);
        assert!(output.status.success(), "{}", said(&output));
        let datasets = door.lab.datasets();
        let dataset = datasets.iter().find(|dataset| dataset["name"] == "reads").unwrap();
        assert_eq!(dataset["dataset"], said(&output)["id"]);
        assert_eq!(
            (&dataset["label"], &dataset["metadata"]["sample"]),
            (&"old".into(), &"A".into())
        );
        assert!(dataset["client"].as_str().unwrap().starts_with("dync:"));
        assert!(fs::read(door.lab.folder(dataset).join("files/reads")).unwrap() == content);
        door.lab.inbox(&["verify"]).expect_code(0);
        // Refused before the first byte, or as soon as it is too much, and nothing is left.
        let output = door.upload(&["--name", "bad", "--meta", "[1]"], &file);
        assert!(
            said(&output)["failed"].as_str().unwrap().starts_with("error 422"),
            "{}",
            said(&output)
        );
        let large = door.lab.scratch.join("large");
        fs::write(&large, vec![7; 90_000_000]).unwrap();
        let output = door.upload(&["--name", "large"], &large);
        assert!(
            said(&output)["failed"].as_str().unwrap().starts_with("error 413"),
            "{}",
            said(&output)
        );
        let refused = door.command("refused", "stranger", &[], None).output().unwrap();
        assert!(refused.status.success());
        assert_eq!(door.lab.datasets().len(), datasets.len());
    }

    #[test]
    fn who_is_refused_in_the_handshake_stands_in_the_log() {
        let door = Door::new("dync-refused", &[]);
        let refused = |client: &str, options: &[&str]| {
            door.command("refused", client, options, None).output().unwrap().status.success()
        };
        assert!(refused("stranger", &[]));
        let line = door.lab.server().wait_for_log("was not let in", Duration::from_secs(60));
        assert!(line.contains("the dync port from 127.0.0.1 was"), "{line}");
        assert!(line.contains("is not among the clients'"), "{line}");
        // An identity that ZeroMQ keeps for itself.
        door.until_let_in();
        assert!(refused("old", &["--identity", "00ff"]));
        door.lab.server().wait_for_log("begins with a zero byte", Duration::from_secs(60));
    }

    #[test]
    fn a_client_of_dync_is_held_to_the_rate_of_its_key() {
        let door = Door::new("dync-rate", &["--max-rate", "4MB"]);
        door.until_let_in();
        let file = door.lab.scratch.join("reads");
        fs::write(&file, vec![3; 12_000_000]).unwrap();
        let upload = |name: &str, file: &Path| {
            let began = Instant::now();
            // It asks nothing, so that no answer can hide that credit is missing.
            let options = ["--name", name, "--timeout", "100000"];
            let output = door.upload(&options, file);
            assert!(output.status.success(), "{}", said(&output));
            assert_eq!(said(&output)["queries"], Value::Null, "{}", said(&output));
            began.elapsed()
        };
        let took = upload("reads", &file);
        assert!(took >= Duration::from_millis(3000), "12 MB at 4 MB/s came in {took:?}");
        // A file that fits what may be on its way at first is held to it too.
        fs::write(&file, vec![3; 2_500_000]).unwrap();
        let took = upload("few", &file);
        assert!(took >= Duration::from_millis(620), "2.5 MB at 4 MB/s came in {took:?}");
    }

    #[test]
    fn a_client_of_dync_goes_on_after_the_server_was_killed() {
        let mut door = Door::new("dync-killed", &[]);
        door.until_let_in();
        let file = door.lab.scratch.join("reads");
        fs::write(&file, vec![9; 75_000_000]).unwrap();
        let options = ["--timeout", "2000", "--name", "reads", "--meta", "{\"n\": 1}"];
        let mut command = door.command("upload", "old", &options, file.to_str());
        let client = command.spawn().unwrap();
        let record = |door: &Door| -> u64 {
            let incoming = fs::read_dir(door.lab.scratch.join("root/incoming")).unwrap();
            let text = incoming
                .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("arrived")).ok());
            text.filter_map(|text| text.split_whitespace().nth(1)?.parse().ok()).max().unwrap_or(0)
        };
        let end = Instant::now() + Duration::from_secs(60);
        while record(&door) < 16_000_000 {
            assert!(Instant::now() < end, "nothing of it becomes durable");
            std::thread::sleep(Duration::from_millis(5));
        }
        door.lab.kill_server();
        door.lab.start_again();
        let output = client.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let datasets = door.lab.datasets();
        let dataset = datasets.iter().find(|dataset| dataset["name"] == "reads").unwrap();
        assert_eq!(dataset["bytes"], 75_000_000);
        door.lab.inbox(&["verify"]).expect_code(0);
    }
}
