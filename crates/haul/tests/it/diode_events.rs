//! What the ends of a diode tell: events to a command of the operator's, and what is missing to people.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::tree::{Random, write};

use crate::across::{Diode, PATIENCE};

/// A command that keeps the events that it gets, and where it does.
struct Keeper {
    command: PathBuf,
    kept: PathBuf,
}

impl Keeper {
    fn new(folder: &Path, name: &str) -> Self {
        let (command, kept) =
            (folder.join(format!("{name}.sh")), folder.join(format!("{name}.json")));
        write(&command, format!("#!/bin/sh\nexec cat >> '{}'\n", kept.display()).as_bytes());
        std::fs::set_permissions(&command, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { command, kept }
    }

    fn command(&self) -> &str {
        self.command.to_str().unwrap()
    }

    /// What it has got so far; a line that is being written is left out.
    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.kept).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.events().iter().any(|event| event["event"] == name)
    }

    /// Its side has ended: it began, told of a generation, and said last that it stopped. What it said when it began.
    #[track_caller]
    fn check(&self, side: &str) -> Value {
        let events = self.events();
        let at = |name: &str| events.iter().position(|event| event["event"] == name);
        let (started, generation) = (at("started"), at("generation"));
        assert!(started.is_some() && started < generation, "{side}: {events:#?}");
        let is_last = events.last().is_some_and(|event| event["event"] == "stopped");
        assert!(is_last, "{side}: {events:#?}");
        let started = events[started.unwrap()].clone();
        assert_eq!(started["side"], side, "{started:#}");
        started
    }
}

#[test]
fn a_command_gets_every_event_to_the_last() {
    let diode = Diode::new("diode_events");
    write(&diode.tree().join("file"), b"content");
    let low = Keeper::new(diode.scratch.path(), "low");
    let high = Keeper::new(diode.scratch.path(), "high");
    let mut receiver = diode.receive_from(&diode.url(), &["--on-event", high.command()]);
    diode.send(&["--once", "--on-event", low.command()]).wait().expect_code(0);
    let started = low.check("send");
    assert!(started["to"].is_string() && !started["rate"].is_null(), "{started:#}");
    let began = Instant::now();
    while !high.has("generation") {
        assert!(began.elapsed() < PATIENCE, "{:#?}", high.events());
        std::thread::sleep(Duration::from_millis(50));
    }
    receiver.interrupt();
    receiver.wait().expect_code(0);
    let started = high.check("recv");
    assert!(started["from"].is_string(), "{started:#}");
}

/// What a want-list says to people.
fn said(diode: &Diode) -> String {
    let list = diode.scratch.join("list");
    diode.high.run(["diode", "want", "--out", list.to_str().unwrap()]).expect_code(0).errors
}

#[test]
fn a_want_list_says_which_files_are_missing_or_that_nobody_knows() {
    let diode = Diode::new("diode_missing");
    let files = ["first", "folder/second", "folder/third"];
    std::fs::create_dir(diode.tree().join("folder")).unwrap();
    for (number, path) in (0..).zip(files) {
        write(&diode.tree().join(path), &Random::new(number).bytes(20_000));
    }
    // Nobody is there to hear it.
    diode.send(&["--once"]).wait().expect_code(0);
    let receiver = diode.receive();
    let sender = diode.send(&[]);
    diode.wait_sender();
    diode.wait("the generation is told", |status| {
        status["recv"]["sender"]["generation"].as_u64() > Some(0)
    });
    // Of a generation whose manifest did not come no file is known.
    let unknown = said(&diode);
    assert!(unknown.contains("not fully known"), "{unknown}");
    assert!(!unknown.contains("missing: "), "{unknown}");
    diode.low.run(["diode", "resend", "--full"]).expect_code(0);
    diode.wait("the files are known to be missing", |status| {
        status["recv"]["missing"].as_u64() == Some(files.len() as u64)
    });
    let missing = said(&diode);
    let lines: Vec<&str> =
        missing.lines().filter_map(|line| line.strip_prefix("missing: ")).collect();
    assert_eq!(lines, files, "{missing}");
    diode.heal();
    diode.wait("everything is there", |status| {
        let recv = &status["recv"];
        recv["missing"] == 0
            && recv["complete"] == recv["generation"]
            && recv["sender"]["generation"] == recv["complete"]
    });
    let nothing = said(&diode);
    assert!(!nothing.contains("missing: ") && !nothing.contains("not fully known"), "{nothing}");
    drop((sender, receiver));
}
