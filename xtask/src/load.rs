//! `cargo xtask load inbox`: one server with an inbox, many clients at once, all of them real programs on the loopback,
//! each with a key of its own. Everything must arrive whole, the server's memory must stay small, and small uploads
//! must not wait behind large ones. What is not so is said, and the command fails.

mod clients;
mod judge;
mod scenes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bench::copy;
use crate::bench::data::{Place, grouped};
use crate::bench::machine;
use crate::bench::peers::{HaulServer, Serves, Site};
use crate::bench::processes;
use crate::bench::warden::Warden;
use clients::Seen;
use scenes::{PARTS, Scene};

const USAGE: &str = "\
usage: cargo xtask load inbox [--quick] [--parts PARTS] [--haul FILE]
  --quick          sizes divided by 32
  --parts PARTS    files, datasets, beside, with commas between
  --haul FILE      another build";

/// How long the server may take to remove what is left of an upload that is published.
const TIDY_AT_MOST: Duration = Duration::from_secs(20);

/// Runs the words behind `load`.
pub fn run(words: &[String]) -> Result<ExitCode> {
    let Some((what, mut rest)) = words.split_first() else { bail!("{USAGE}") };
    if what != "inbox" {
        bail!("{what} is unknown\n{USAGE}");
    }
    let (mut quick, mut parts, mut haul) = (false, PARTS.map(str::to_owned).to_vec(), None);
    while let Some((word, behind)) = rest.split_first() {
        rest = behind;
        let mut value = || -> Result<&String> {
            let (value, behind) = rest.split_first().context(USAGE)?;
            rest = behind;
            Ok(value)
        };
        match word.as_str() {
            "--quick" => quick = true,
            "--parts" => parts = value()?.split(',').map(str::to_owned).collect(),
            "--haul" => haul = Some(PathBuf::from(value()?)),
            other => bail!("{other} is unknown\n{USAGE}"),
        }
    }
    if let Some(word) = parts.iter().find(|word| !PARTS.contains(&word.as_str())) {
        bail!("{word} is no part; they are {}", PARTS.join(", "));
    }
    let haul = copy::haul(haul.as_deref())?;
    let warden = Warden::start()?;
    let scenes: Vec<Scene> = parts.iter().map(|word| Scene::of(word, quick)).collect();
    let bytes = scenes.iter().map(Scene::bytes).max().unwrap_or(0);
    let place = Place::on_disk(&warden, bytes)?;
    machine::describe().iter().for_each(|line| println!("{line}"));
    println!("Disk: {}", place.describe());
    let mut problems = Vec::new();
    for scene in &scenes {
        let found = scene_of(scene, &haul, &warden, &place)?;
        problems.extend(found.into_iter().map(|problem| format!("{}: {problem}", scene.word)));
    }
    for problem in &problems {
        eprintln!("error: {problem}");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one scene; what is not as it should be.
fn scene_of(scene: &Scene, haul: &Path, warden: &Warden, place: &Place) -> Result<Vec<String>> {
    println!("\n== {}: {}", scene.word, scene.title);
    if let Some(load) = machine::load() {
        println!("It begins on a machine that is busy: {load}.");
    }
    let root = place.target();
    place.clear_source()?;
    let uploads = scene.lay(&place.source())?;
    place.sync()?;
    let (count, bytes) = (uploads.len(), uploads.iter().map(|upload| upload.bytes).sum::<u64>());
    let serves = Serves::Inbox { root: &root, budgets: &scene.budgets() };
    let server = HaulServer::start(warden, haul, Site::Loopback, place, scene.clients, serves)?;
    let began = Instant::now();
    let seen = clients::carry(scene, uploads, &server, haul, warden, &place.private())?;
    let seconds = began.elapsed().as_secs_f64();
    let peak = processes::peak_bytes(server.process.id()).context("the server is gone")?;
    println!("{}", judge::tables(&seen));
    println!(
        "{} datasets, {:.0} MB in {seconds:.1} s; the server's memory {:.0} MiB at most.",
        grouped(count as u32),
        bytes as f64 / 1e6,
        peak as f64 / f64::from(1 << 20)
    );
    let mut problems = judge::problems(&seen, peak, scene.is_beside());
    problems.extend(look_at_store(&seen, count, &server, haul, &root)?);
    drop(server);
    place.clear()?;
    place.clear_source()?;
    Ok(problems)
}

/// Reads all that the server has published, with haul and without.
fn look_at_store(
    seen: &[Seen],
    count: usize,
    server: &HaulServer,
    haul: &Path,
    root: &Path,
) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    let inbox = |words: &[&str]| {
        machine::output(Command::new(haul).arg("inbox").args(words).env("HAUL_HOME", &server.home))
    };
    if let Err(error) = inbox(&["verify"]) {
        problems.push(format!("haul inbox verify: {error:#}"));
    }
    match inbox(&["list", "--json", "--most", "0"]) {
        Ok(list) if list.lines().count() == count => {}
        Ok(list) => {
            let found = list.lines().count();
            problems.push(format!("the catalogue has {found} datasets of {count}"));
        }
        Err(error) => problems.push(format!("haul inbox list: {error:#}")),
    }
    let mut digests = judge::Digests::default();
    let published: Vec<(&Seen, &String)> =
        seen.iter().filter_map(|seen| Some((seen, seen.dataset.as_ref()?))).collect();
    for (seen, id) in &published {
        if let Err(error) = look_at_dataset(seen, id, root, &mut digests) {
            problems.push(format!("{} ({id}): {error:#}", seen.name));
        }
    }
    println!("{} datasets read again and held against their sources.", published.len());
    // Nothing of an upload that ended stays where uploads arrive; the client has its answer a little before.
    let left = || fs::read_dir(root.join("incoming")).map_or(0, Iterator::count);
    let deadline = Instant::now() + TIDY_AT_MOST;
    while left() > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let left = left();
    if left > 0 {
        problems.push(format!("{left} folders are left in incoming/"));
    }
    Ok(problems)
}

/// Holds a dataset's manifest against the source, and its files against the manifest.
fn look_at_dataset(seen: &Seen, id: &str, root: &Path, digests: &mut judge::Digests) -> Result<()> {
    let folder = judge::folder_of(root, id)?;
    let manifest =
        fs::read_to_string(folder.join("manifest.sha256")).context("read the manifest")?;
    let stored: Vec<&str> = manifest.lines().collect();
    let expected = digests.manifest(&seen.name, &seen.source)?;
    if stored != expected {
        bail!("the digests of {} files are not those of the source", stored.len());
    }
    let mut check = Command::new("sha256sum");
    check.args(["--quiet", "-c", "manifest.sha256"]).current_dir(&folder);
    machine::output(&mut check).map(|_| ())
}
