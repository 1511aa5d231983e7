//! Kills of client and server at random moments of handing in: what the client was told is published is there, whole and
//! verified; nothing that is half is ever seen in the store; and the same command ends as one dataset, not as two.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::crash::{runs, seed};
use testkit::daemon::{Ended, Running};
use testkit::tree::{Growth, Random, Scratch, entries};

use crate::inbox::Lab;

/// Kills where nobody says otherwise.
const KILLS: u32 = 30;
/// An upload is held to this rate, so that it lasts long enough to be killed in the middle.
const LIMIT: &str = "40MB";
/// A kill comes at most so long after the start.
const LATEST: Duration = Duration::from_millis(600);
/// What a whole dataset's folder holds.
const PARTS: [&str; 5] =
    ["files", "manifest.blake3", "manifest.sha256", "metadata.json", "receipt.json"];

/// Every folder in the store is whole, whatever the catalogue says: gives how many there are. Files of those in `read`
/// were read before.
#[track_caller]
fn check_store(root: &Path, read: &mut BTreeSet<PathBuf>, when: &str) -> usize {
    let mut datasets = 0;
    for inbox in folders(&root.join("store")) {
        for month in folders(&inbox) {
            for dataset in folders(&month) {
                let names: BTreeSet<String> = fs::read_dir(&dataset)
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .collect();
                assert_eq!(names, PARTS.map(str::to_owned).into(), "{when}: {}", dataset.display());
                let manifest = fs::read_to_string(dataset.join("manifest.sha256")).unwrap();
                let files = entries(&dataset.join("files"));
                let files = files.iter().filter(|(_, meta)| meta.is_file()).count();
                assert_eq!(manifest.lines().count(), files, "{when}: {}", dataset.display());
                datasets += 1;
                if !read.insert(dataset.clone()) {
                    continue;
                }
                let checked = Command::new("sha256sum")
                    .args(["--quiet", "--strict", "-c", "manifest.sha256"])
                    .current_dir(&dataset)
                    .stdout(Stdio::null())
                    .status();
                assert!(checked.unwrap().success(), "{when}: {}", dataset.display());
            }
        }
    }
    datasets
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The dataset that a client was told is published, if it was told.
fn told(ended: &Ended) -> Option<String> {
    let text = ended.text();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let published = lines.rev().find(|line| line["event"] == "published")?;
    // It may be killed between this word and its end.
    assert!(matches!(ended.code, Some(0) | None), "{}", ended.told());
    Some(published["dataset"].as_str().unwrap().to_owned())
}

#[test]
fn crash_of_client_and_server_while_datasets_are_handed_in() {
    let seed = seed(81);
    let mut random = Random::new(seed);
    let ran = Scratch::new("inbox-kills-hook");
    let ran = ran.join("ran");
    let hook = format!(
        "[[inbox.hook]]\nname = \"note\"\ncommand = [\"sh\", \"-c\", \"echo $HAUL_DATASET_ID >> {}\"]\n",
        ran.display()
    );
    let mut lab = Lab::with("inbox-kills", &hook, "", "inbox=*");
    let (root, address) = (lab.scratch.join("root"), lab.address.clone());
    let metadata = lab.scratch.join("run42.json");
    let kills = runs(KILLS);
    let (mut killed, mut round, mut published) = (0, 0u64, BTreeSet::new());
    let mut read = BTreeSet::new();
    while killed < kills {
        round += 1;
        let run = lab.scratch.join(format!("run-{round}"));
        let large = (1 + random.below(12)) << 20;
        let growth = Growth {
            seed: seed ^ round,
            files: 30,
            most_bytes: 40_000,
            large: vec![large],
            odd: false,
        };
        growth.grow(&run);
        let words: Vec<std::ffi::OsString> =
            ["put", "--json", "--inbox", "ngs", "--limit", LIMIT, "--give-up-after", "60s", "-m"]
                .iter()
                .map(Into::into)
                .chain([metadata.clone().into(), address.to_string().into(), run.into()])
                .collect();
        loop {
            let mut running = Running::start(lab.lab.command(&words));
            let mut is_client_dead = false;
            while killed < kills {
                let moment = Duration::from_micros(random.below(LATEST.as_micros() as u64));
                if !runs_until(&mut running, moment) {
                    break;
                }
                killed += 1;
                let when = format!("seed {seed}, after kill {killed}, {moment:?} after the last");
                if random.below(2) == 0 {
                    running.kill();
                    is_client_dead = true;
                    check_store(&root, &mut read, &when);
                    break;
                }
                lab.kill_server();
                check_store(&root, &mut read, &when);
                lab.start_again();
            }
            let ended = running.wait();
            match told(&ended) {
                Some(dataset) => {
                    published.insert(dataset);
                    break;
                }
                None => assert!(is_client_dead, "seed {seed}: {}", ended.told()),
            }
        }
    }
    // One more start, which must find nothing to mend that would be lost.
    lab.kill_server();
    lab.start_again();
    let known: BTreeSet<String> = lab
        .datasets()
        .iter()
        .map(|dataset| dataset["dataset"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(known, published, "seed {seed}: what clients were told, and what is there");
    assert_eq!(check_store(&root, &mut BTreeSet::new(), "at the end"), known.len());
    lab.inbox(&["verify"]).expect_code(0);
    let times = wait_for_hooks(&ran, &known);
    eprintln!(
        "{killed} kills, {} datasets, all of them whole; their hooks ran {times} times",
        known.len()
    );
}

/// Waits until the hook of each dataset has run, at least once; says how often they did in all.
fn wait_for_hooks(ran: &Path, datasets: &BTreeSet<String>) -> usize {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let text = fs::read_to_string(ran).unwrap_or_default();
        let seen: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        assert!(seen.is_subset(datasets), "hooks ran for what is not there: {seen:?}");
        if seen.len() == datasets.len() {
            return text.lines().count();
        }
        let missing = datasets.difference(&seen).count();
        assert!(Instant::now() < deadline, "the hooks of {missing} datasets did not run");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for a moment, or for the end of the program, whichever comes first; says whether it runs still.
fn runs_until(running: &mut Running, moment: Duration) -> bool {
    let end = Instant::now() + moment;
    while Instant::now() < end && running.is_running() {
        std::thread::sleep(Duration::from_millis(1));
    }
    running.is_running()
}
