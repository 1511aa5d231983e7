//! A disk behind a diode that fills up in the middle of a transfer: a real filesystem of a few megabytes, which only root
//! can have mounted. The sender is heard all the same, the old versions stay, what was lost is on the want-list, and when
//! there is room again that heals it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::daemon::{Running, behind};
use testkit::tree::{Growth, Random, assert_same, is_root, write};

use crate::across::Diode;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Mounts a filesystem that nobody else sees, fills a part of it, and becomes the program behind its own words.
const MOUNT: &str = "mount -t tmpfs -o size=24m none \"$1\" && head -c 16000000 /dev/zero > \"$1/ballast\" && \
    shift && exec \"$@\"";

/// A receiver whose tree lies on a small filesystem of its own.
struct Small {
    running: Running,
    disk: PathBuf,
}

impl Small {
    /// None if none can be mounted here.
    fn start(diode: &Diode, disk: &Path) -> Option<Self> {
        if !is_root() || Running::start(unshared(diode, "true", disk)).wait().code != Some(0) {
            eprintln!(
                "skipped: a filesystem can be mounted by root only, and not in every container"
            );
            return None;
        }
        let running = Running::start(unshared(diode, "haul", disk));
        diode.wait("the receiver answers", |status| status["recv"].is_object());
        // What a process has mounted is seen through its own root.
        let seen = PathBuf::from(format!("/proc/{}/root", running.pid()));
        let disk = seen.join(disk.strip_prefix("/").expect("it is absolute"));
        Some(Self { running, disk })
    }

    fn copy(&self) -> PathBuf {
        self.disk.join("copy")
    }
}

/// The receiver, or another program, in a mount namespace with a small filesystem at `disk`.
fn unshared(diode: &Diode, program: &str, disk: &Path) -> std::process::Command {
    let into = disk.join("copy");
    let url = diode.url();
    let words = ["diode", "recv", "--from", &url, "--into", into.to_str().unwrap()];
    let mut command = diode.high.command(words);
    if program != "haul" {
        command = std::process::Command::new(program);
    }
    let disk = disk.as_os_str();
    let outer = ["-m", "--propagation", "private", "sh", "-c", MOUNT, "sh"].map(AsRef::as_ref);
    behind("unshare", &[&outer[..], &[disk]].concat(), &command)
}

#[test]
fn a_disk_that_fills_up_costs_what_came_meanwhile_until_there_is_room() {
    let diode = Diode::new("diode_full");
    Growth::small(11, 60).grow(&diode.tree());
    let old = Random::new(12).bytes(3 << 20);
    write(&diode.tree().join("replaced"), &old);
    let disk = diode.scratch.folder("disk");
    let Some(mut small) = Small::start(&diode, &disk) else { return };
    let sender = diode.send(&[]);
    diode.wait("the first tree is there", |status| {
        let recv = &status["recv"];
        recv["complete"].as_u64() >= Some(1) && recv["missing"] == 0
    });
    assert_same(&diode.tree(), &small.copy());
    let first = Diode::status(&diode.high)["recv"]["generation"].as_u64().unwrap();
    // More than there is room for: about 5 MiB.
    let new = Random::new(13).bytes(4 << 20);
    write(&diode.tree().join("large"), &Random::new(14).bytes(8 << 20));
    write(&diode.tree().join("replaced"), &new);
    for number in 0..40 {
        write(&diode.tree().join(format!("later {number}")), &Random::new(number).bytes(40_000));
    }
    diode.wait("the disk is full", |status| status["recv"]["disk_full"] == true);
    // Everything has been sent, and the sender is heard for seconds to come.
    let heard = |count: u64| {
        diode.wait("the sender is heard", |status| {
            status["recv"]["sender"]["frames"].as_u64() > Some(count)
        });
        Diode::status(&diode.high)["recv"].clone()
    };
    let mut frames = 0;
    for _ in 0..4 {
        let status = heard(frames);
        assert_eq!(status["silent"], false, "{status:#}");
        frames = status["sender"]["frames"].as_u64().unwrap();
    }
    // Numbers of generations are times, each above the one before.
    diode.wait("the generation is told", |status| {
        status["recv"]["generation"].as_u64() > Some(first)
    });
    assert!(small.running.is_running(), "the receiver has ended");
    // What bears a name is a whole version, and the good copy stays.
    let found = fs::read(small.copy().join("replaced")).unwrap();
    assert!(found == old || found == new, "{} bytes of neither version", found.len());
    assert!(!small.copy().join("large").exists(), "there was no room for it");
    // What was lost is on the list.
    let list = diode.scratch.join("list");
    let want = diode.high.run(["diode", "want", "--out", list.to_str().unwrap()]).expect_code(0);
    want.expect_says(&["missing; carry the list to the other side"]);
    let missing = Diode::status(&diode.high)["recv"]["missing"].as_u64().unwrap();
    assert!(missing >= 1, "{missing}");
    // Asking again is of no use as long as there is no room, and does no harm.
    diode.low.run(["diode", "resend", list.to_str().unwrap()]).expect_code(0);
    heard(frames + 1);
    fs::remove_file(small.disk.join("ballast")).unwrap();
    let began = Instant::now();
    loop {
        diode.resend();
        std::thread::sleep(Duration::from_millis(500));
        let status = Diode::status(&diode.high);
        let recv = &status["recv"];
        if recv["missing"] == 0 && recv["disk_full"] == false {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{status:#}");
    }
    diode.wait("the rest is done", |status| {
        let recv = &status["recv"];
        recv["complete"] == recv["generation"] && recv["sender"]["generation"] == recv["complete"]
    });
    assert_same(&diode.tree(), &small.copy());
    drop(sender);
}
