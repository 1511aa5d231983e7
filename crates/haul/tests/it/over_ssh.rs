//! Copies to and from a login, with the real ssh and the real sshd: directly, and where nothing but ssh gets
//! through.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::daemon::{Ended, Machine, Running};
use testkit::tree::{Growth, Scratch, assert_same, write};

use crate::pair::{copy_words, finished, machine, number};

const HAUL: &str = env!("CARGO_BIN_EXE_haul");

/// How ssh gets to the sshd of a test.
#[derive(Clone, Copy, PartialEq)]
enum Reach {
    /// By a port of the loopback.
    Port,
    /// By a pipe only: sshd runs in a network of its own, from which and to which nothing leads.
    Nothing,
}

/// A login on "another machine" with a home of its own, and a machine that ssh leads there from.
struct Logins {
    near: Machine,
    scratch: Scratch,
    sshd: Option<Child>,
}

impl Drop for Logins {
    fn drop(&mut self) {
        if let Some(sshd) = &mut self.sshd {
            // It may have ended by itself.
            let _ = sshd.kill();
            let _ = sshd.wait();
        }
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn key(path: &Path) {
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path));
}

fn sshd_program() -> PathBuf {
    let dirs = ["/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/bin"].map(Path::new);
    let found = dirs.iter().map(|dir| dir.join("sshd")).find(|path| path.exists());
    found.expect("sshd is there")
}

impl Logins {
    fn new(name: &str, reach: Reach) -> Self {
        let scratch = Scratch::new(name);
        let home = scratch.folder("home");
        let at = |below: &str| scratch.join(below).to_str().unwrap().to_owned();
        key(&scratch.join("host_key"));
        key(&scratch.join("user_key"));
        let allowed = scratch.join("allowed");
        fs::copy(scratch.join("user_key.pub"), &allowed).unwrap();
        fs::set_permissions(&allowed, fs::Permissions::from_mode(0o600)).unwrap();
        if testkit::tree::is_root() {
            // Where sshd was installed and never started, the folder that it wants is missing.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let sshd_config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nLogLevel ERROR\n\
             SetEnv HOME={home} HAUL_HOME={home}/.keys\n",
            at("host_key"),
            at("allowed"),
            home = home.display(),
        );
        write(&scratch.join("sshd_config"), sshd_config.as_bytes());
        let (sshd, proxy) = match reach {
            Reach::Port => (Some(listen(&scratch, port)), String::new()),
            Reach::Nothing => {
                let inside = format!(
                    "ip link set lo up; exec {} -i -f {} -E {}",
                    sshd_program().display(),
                    at("sshd_config"),
                    at("sshd_log")
                );
                (None, format!("  ProxyCommand unshare -n sh -c '{inside}'\n"))
            }
        };
        let user = run(Command::new("id").arg("-un"));
        let ssh_config = format!(
            "Host box\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  IdentityFile {}\n  \
             IdentitiesOnly yes\n  UserKnownHostsFile {}\n  BatchMode yes\n{proxy}",
            at("user_key"),
            at("known"),
        );
        write(&scratch.join("ssh_config"), ssh_config.as_bytes());
        let logins = Self { near: machine(scratch.join("near")), scratch, sshd };
        logins.know_host("host_key.pub");
        logins
    }

    /// The host is known by this key from now on.
    fn know_host(&self, public: &str) {
        let config = fs::read_to_string(self.scratch.join("ssh_config")).unwrap();
        let port = config.lines().find_map(|line| line.strip_prefix("  Port ")).unwrap();
        let public = fs::read_to_string(self.scratch.join(public)).unwrap();
        let line = format!("[127.0.0.1]:{port} {public}");
        write(&self.scratch.join("known"), line.as_bytes());
    }

    /// The ssh of the machine that copies.
    fn ssh(&self) -> String {
        format!("ssh -F {}", self.scratch.join("ssh_config").display())
    }

    /// `haul cp` with these words.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.near.command(copy_words(words));
        command.env("HAUL_SSH", self.ssh()).current_dir(self.scratch.path());
        command
    }

    fn copy(&self, words: &[&str]) -> Ended {
        Running::start(self.command(words)).wait()
    }

    /// The same where the other end has haul.
    fn copy_there(&self, words: &[&str]) -> Ended {
        let words = [["--far-haul", HAUL].as_slice(), words].concat();
        self.copy(&words)
    }

    fn home(&self, below: &str) -> PathBuf {
        self.scratch.join("home").join(below)
    }
}

/// An sshd that listens.
fn listen(scratch: &Scratch, port: u16) -> Child {
    let mut command = Command::new(sshd_program());
    command.arg("-D").arg("-f").arg(scratch.join("sshd_config"));
    command.arg("-E").arg(scratch.join("sshd_log")).stdin(Stdio::null());
    let sshd = command.spawn().unwrap();
    wait_until("sshd listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    sshd
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The running ssh that a process has started.
fn ssh_of(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        name.trim() == "ssh" && !words.split(|byte| *byte == 0).any(|word| word == b"-G")
    })
}

/// The processes that serve a home over ssh.
fn far_ends(home: &Path) -> Vec<u32> {
    let wanted = [b"HOME=", std::os::unix::ffi::OsStrExt::as_bytes(home.as_os_str())].concat();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let has =
            |bytes: Vec<u8>, wanted: &[u8]| bytes.split(|byte| *byte == 0).any(|w| w == wanted);
        read("cmdline").starts_with(HAUL.as_bytes())
            && has(read("cmdline"), b"over-ssh")
            && has(read("environ"), &wanted)
    })
    .collect()
}

mod needs_sshd {
    use super::*;

    #[test]
    fn a_tree_goes_to_a_login_and_comes_back() {
        let logins = Logins::new("login", Reach::Port);
        let tree = logins.scratch.join("tree");
        Growth { large: vec![5 << 20], odd: true, ..Growth::small(21, 200) }.grow(&tree);
        let pushed = logins.copy_there(&["-r", "--json", "tree/.", "box:kept"]).expect_code(0);
        assert_same(&tree, &logins.home("kept"));
        assert!(pushed.text().contains("\"TCP\""), "{}", pushed.told());
        // Under a new name, so that the second reading must know where the first landed.
        let ended = logins.copy_there(&["-r", "--verify", "tree", "box:read-again"]);
        ended.expect_code(0).expect_says(&["all is the same"]);
        assert!(!logins.home("read-again/tree").exists());
        // A login's own folder, by all its names, and a path from the root.
        let home = logins.home("kept").to_str().unwrap().to_owned();
        for (number, path) in ["kept", "~/kept", home.as_str()].iter().enumerate() {
            let back = format!("back{number}");
            let user = run(Command::new("id").arg("-un"));
            logins.copy_there(&["-r", &format!("{user}@box:{path}"), &back]).expect_code(0);
            assert_same(&tree, &logins.scratch.join(&back));
        }
        let again = finished(&logins.copy_there(&["-r", "--json", "tree/.", "box:kept"]));
        assert_eq!((number(&again, "files"), number(&again, "failed")), (0, 0), "{again}");
        // The receipt is signed by who has the login, not by a key that nobody has any more.
        let there = machine(logins.home(".keys")).key_line();
        let receipt = again["receipt"].as_str().unwrap();
        let verify = ["receipt", "verify", receipt, "--signer", &there, "--tree"];
        let mut words = verify.to_vec();
        let kept = logins.home("kept");
        words.push(kept.to_str().unwrap());
        logins.near.run(words).expect_code(0);
        wait_until("the far ends are gone", || {
            far_ends(&logins.home("")).is_empty()
                && far_ends(&logins.scratch.join("home")).is_empty()
        });
    }

    #[test]
    fn a_login_folder_is_shown_and_patterns_mean_what_is_in_it() {
        let logins = Logins::new("login-ls", Reach::Port);
        write(&logins.home("a"), b"a");
        logins.scratch.folder("home/folder");
        write(&logins.home("folder/b"), b"b");
        write(&logins.home("c.txt"), b"c");
        let here = logins.scratch.folder("here");
        logins.copy_there(&["box:*.txt", "box:~/fold*/b", "here"]).expect_code(0);
        assert_eq!(fs::read(here.join("c.txt")).unwrap(), b"c");
        assert_eq!(fs::read(here.join("b")).unwrap(), b"b");
        logins.copy_there(&["box:*.gz", "here"]).expect_code(2).expect_says(&["no file matches"]);
        for (place, expected) in [("box:", "a"), ("box:folder", "b")] {
            let mut command = logins.near.command(["ls", "--far-haul", HAUL, place]);
            command.env("HAUL_SSH", logins.ssh());
            let listed = Running::start(command).wait().expect_code(0);
            assert!(
                listed.text().lines().any(|line| line.trim_end_matches('/') == expected),
                "{}",
                listed.told()
            );
        }
    }

    #[test]
    fn a_login_without_haul_gets_it_by_the_command_that_is_told() {
        let logins = Logins::new("login-install", Reach::Port);
        write(&logins.scratch.join("file"), b"content");
        let refused = logins.copy(&["file", "box:"]).expect_code(2);
        let told = refused.expect_says(&["not installed at box", "this command installs it"]);
        let command = told.errors.lines().find(|line| line.contains("mkdir -p")).unwrap().trim();
        run(Command::new("sh").args(["-c", command]));
        assert!(logins.home(".local/bin/haul").exists());
        logins.copy(&["file", "box:"]).expect_code(0);
        assert_eq!(fs::read(logins.home("file")).unwrap(), b"content");
    }

    #[test]
    fn who_is_not_the_host_or_not_let_in_gets_nothing() {
        let logins = Logins::new("login-denied", Reach::Port);
        write(&logins.scratch.join("file"), b"content");
        key(&logins.scratch.join("other_key"));
        logins.know_host("other_key.pub");
        let ended = logins.copy_there(&["file", "box:"]).expect_code(3);
        ended.expect_says(&["ssh does not reach box", "Host key verification failed"]);
        logins.know_host("host_key.pub");
        write(&logins.scratch.join("allowed"), b"");
        let ended = logins.copy_there(&["file", "box:"]).expect_code(3);
        ended.expect_says(&["ssh does not reach box", "Permission denied"]);
        assert!(!logins.home("file").exists());
    }

    #[test]
    fn mistakes_are_told_as_what_they_are() {
        let logins = Logins::new("login-mistakes", Reach::Port);
        write(&logins.scratch.join("file"), b"content");
        let ended = logins.copy(&["--far-haul", "/nowhere/haul", "file", "box:"]).expect_code(2);
        ended.expect_says(&["no /nowhere/haul at box", "--far-haul"]);
        let ended = logins.copy_there(&["box:nothing", "here"]).expect_code(2);
        ended.expect_says(&["nothing does not exist"]);
        let ended = logins.copy_there(&["box:~root/x", "here"]).expect_code(2);
        ended.expect_says(&["./~root/x"]);
        let ended = logins.copy(&["-e", "/nowhere/ssh", "file", "box:"]).expect_code(2);
        ended.expect_says(&["cannot run ssh", "/nowhere/ssh", "--ssh"]);
        let ended = logins.copy_there(&["file", "nobody@127.0.0.1:1:"]).expect_code(4);
        ended.expect_says(&["ssh does not reach nobody@127.0.0.1"]);
        // A shell that talks is passed over.
        write(&logins.home(".bashrc"), b"echo Welcome to this machine!\n");
        logins.copy_there(&["file", "box:"]).expect_code(0);
    }

    #[test]
    fn a_copy_that_was_killed_goes_on_and_takes_the_turn_of_the_one_before() {
        let logins = Logins::new("login-killed", Reach::Port);
        let tree = logins.scratch.join("tree");
        Growth { large: vec![20 << 20], ..Growth::small(22, 50) }.grow(&tree);
        let words = ["--far-haul", HAUL, "-r", "tree/.", "box:kept"];
        let limited = [words.as_slice(), &["--limit", "4MB"]].concat();
        let mut first = Running::start(logins.command(&limited));
        let home = logins.scratch.join("home");
        wait_until("something has arrived", || logins.home("kept").exists());
        std::thread::sleep(Duration::from_millis(500));
        first.kill();
        first.wait();
        let again = logins.copy(&[words.as_slice(), &["--json"]].concat()).expect_code(0);
        assert_same(&tree, &logins.home("kept"));
        assert_eq!(number(&finished(&again), "failed"), 0);
        wait_until("no far end is left", || far_ends(&home).is_empty());
    }

    /// Ctrl-C reaches every process of the terminal. ssh is to live on until haul has said its last word.
    #[test]
    fn an_interrupted_copy_leaves_nobody_at_the_other_end() {
        use std::os::unix::process::CommandExt;
        let logins = Logins::new("login-interrupted", Reach::Port);
        let tree = logins.scratch.join("tree");
        Growth { large: vec![20 << 20], ..Growth::small(25, 5) }.grow(&tree);
        let home = logins.scratch.join("home");
        for link in ["auto", "ssh"] {
            let there = format!("box:{link}");
            let words = ["--far-haul", HAUL, "--link", link, "--limit", "4MB", "tree/.", &there];
            let mut command = logins.command(&words);
            command.process_group(0);
            let running = Running::start(command);
            wait_until("something has arrived", || logins.home(link).exists());
            let group = format!("-{}", running.pid());
            run(Command::new("kill").args(["-INT", "--", &group]));
            running.wait().expect_code(130).expect_says(&["interrupted"]);
            wait_until("no far end is left", || far_ends(&home).is_empty());
            logins.copy_there(&["tree/.", &there]).expect_code(0);
            assert_same(&tree, &logins.home(link));
        }
    }

    /// The later run goes on with what the earlier one has begun, and the earlier one does not come back.
    #[test]
    fn of_two_runs_of_one_command_the_later_goes_on() {
        let logins = Logins::new("login-twice", Reach::Port);
        let tree = logins.scratch.join("tree");
        Growth { large: vec![20 << 20], ..Growth::small(26, 5) }.grow(&tree);
        let words = ["--far-haul", HAUL, "--link", "ssh", "tree/.", "box:kept"];
        let slowly = [words.as_slice(), &["--limit", "2MB"]].concat();
        let first = Running::start(logins.command(&slowly));
        wait_until("something has arrived", || logins.home("kept").exists());
        // Which options there are is no part of the command that is meant.
        let second =
            Running::start(logins.command(&[words.as_slice(), &["--limit", "8MB"]].concat()));
        first
            .wait()
            .expect_code(3)
            .expect_says(&["another run of the same command has taken over"]);
        second.wait().expect_code(0);
        assert_same(&tree, &logins.home("kept"));
    }

    /// UDP and TCP lead nowhere: sshd itself is in another network, and ssh gets to it by a pipe.
    #[test]
    fn needs_root_what_is_blocked_goes_through_ssh() {
        let logins = Logins::new("login-blocked", Reach::Nothing);
        let tree = logins.scratch.join("tree");
        Growth { large: vec![9 << 20], odd: true, ..Growth::small(23, 300) }.grow(&tree);
        let pushed = logins.copy_there(&["-r", "-v", "tree", "box:kept"]).expect_code(0);
        assert_same(&tree, &logins.home("kept"));
        let pushed =
            pushed.expect_says(&["the copy goes through ssh", "over a pipe", "link: a pipe"]);
        assert_eq!(pushed.errors.matches("goes through ssh").count(), 1, "{}", pushed.told());
        logins.copy_there(&["-r", "--verify", "box:kept", "back"]).expect_code(0);
        assert_same(&tree, &logins.scratch.join("back"));
        logins.copy_there(&["-r", "--verify", "tree", "box:again"]).expect_code(0);
        // Who wants one kind of link and no other gets none.
        let ended =
            logins.copy_there(&["--link", "quic", "--give-up-after", "1s", "-r", "tree", "box:x"]);
        assert_ne!(ended.code, Some(0));
        assert!(!logins.home("x").exists());
    }

    #[test]
    fn needs_root_a_copy_through_ssh_outlives_ssh() {
        let logins = Logins::new("login-cut", Reach::Nothing);
        let tree = logins.scratch.join("tree");
        Growth { large: vec![12 << 20], ..Growth::small(24, 20) }.grow(&tree);
        let words = ["--far-haul", HAUL, "-r", "-v", "--limit", "4MB", "tree/.", "box:kept"];
        let running = Running::start(logins.command(&words));
        let mut killed = Vec::new();
        while killed.len() < 2 {
            wait_until("ssh runs", || {
                ssh_of(running.pid()).is_some_and(|pid| !killed.contains(&pid))
            });
            wait_until("something has arrived", || logins.home("kept").exists());
            std::thread::sleep(Duration::from_millis(700));
            let pid = ssh_of(running.pid()).expect("ssh runs");
            run(Command::new("kill").args(["-9", &pid.to_string()]));
            killed.push(pid);
        }
        let ended = running.wait().expect_code(0);
        assert_same(&tree, &logins.home("kept"));
        ended.expect_says(&["the copy goes through ssh", "over a pipe"]);
        wait_until("no far end is left", || far_ends(&logins.scratch.join("home")).is_empty());
    }
}
