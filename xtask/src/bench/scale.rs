//! How haul's cost grows: with the number of files, and with the number of clients of one daemon. On a
//! clean pair of devices, each once.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use badlink::{End, Pair, PairOptions};
use serde::{Deserialize, Serialize};

use super::data::{Load, compare};
use super::field::Far;
use super::peers::{HaulServer, Serves, Site};
use super::processes::{self, Watch};
use super::race::{Bench, Ended, Measurement, measure};

/// The longest that a million files may take.
const AT_MOST: Duration = Duration::from_secs(900);

/// The length of each of many files. Shorter ones would take as much of a disk, which has pages of this.
const SMALL: u64 = 4096;

/// What one of many clients copies: a file of 16 MiB, and a hundred small ones.
const CLIENT: [Load; 2] =
    [Load::Large { bytes: 16 << 20 }, Load::Many { folders: 1, each: 100, bytes: 4096 }];

/// What was found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scale {
    /// By the number of files.
    pub files: Vec<(Load, Measurement)>,
    /// By the number of clients at once.
    pub clients: Vec<Clients>,
}

impl Scale {
    /// Whether it was measured with the files of today.
    pub fn is_of_today(&self) -> bool {
        self.files.iter().all(|(load, _)| load.bytes() == load.files() * SMALL)
    }
}

/// What some clients at once cost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Clients {
    /// How many.
    pub count: usize,
    /// From the start of the first to the end of the last; memory near is that of one client.
    pub cost: Measurement,
}

impl Clients {
    /// What all of them copied, in bytes.
    pub fn bytes(&self) -> u64 {
        self.count as u64 * CLIENT.iter().map(|load| load.bytes()).sum::<u64>()
    }

    /// What each copies, for people.
    pub fn describe() -> String {
        CLIENT.map(Load::describe).join(" and ")
    }
}

/// Runs all of it.
pub fn run(bench: &Bench<'_>, missing: &mut Vec<String>) -> Result<Scale> {
    let folders: &[u32] = if bench.quick { &[1, 10] } else { &[1, 10, 100, 1000] };
    let counts: &[usize] = if bench.quick { &[1, 4] } else { &[1, 4, 16, 64] };
    let mut scale = Scale { files: Vec::new(), clients: Vec::new() };
    eprintln!("\n== cost as files grow");
    for folders in folders {
        let each = if bench.quick { 100 } else { 1000 };
        let load = Load::Many { folders: *folders, each, bytes: SMALL };
        if !bench.place.holds(load) {
            missing.push(format!("there is no room for {} and a copy", load.describe()));
            continue;
        }
        scale.files.push((load, files(bench, load)?));
    }
    eprintln!("\n== cost as clients grow");
    for count in counts {
        scale.clients.push(Clients { count: *count, cost: clients(bench, *count)? });
    }
    Ok(scale)
}

fn clean(bench: &Bench<'_>) -> Result<Pair> {
    bench.warden.pair(PairOptions { model: None, ..PairOptions::default() })
}

fn server(bench: &Bench<'_>, pair: &Pair, clients: usize) -> Result<HaulServer> {
    let (place, target) = (bench.place, bench.place.target());
    let (far, serves) = (Site::Far(pair), Serves::Export(&target));
    HaulServer::start(bench.warden, &bench.programs.haul, far, place, clients, serves)
}

fn files(bench: &Bench<'_>, load: Load) -> Result<Measurement> {
    let place = bench.place;
    place.clear()?;
    load.write(&place.source())?;
    let pair = clean(bench)?;
    let server = server(bench, &pair, 1)?;
    let mut command = pair.command(End::A, &bench.programs.haul);
    command.args(["cp", "-q", "-r"]).arg(place.source().join(load.name()));
    command.arg(format!("{}:target/", server.address)).env("HAUL_HOME", &server.homes[0]);
    let far = Far::Daemon(server.process.id());
    let measurement = match measure(bench.warden, place, command, far, AT_MOST, load.bytes())? {
        Ended::Done(measurement) => measurement,
        Ended::Stopped(stopped) => {
            bail!("haul was stopped after {:.0} s of copying {}", stopped.after, load.describe())
        }
    };
    place.check_and_clear(load)?;
    place.clear_source()?;
    eprintln!("{}: {:.2} s", load.describe(), measurement.wall);
    Ok(measurement)
}

fn clients(bench: &Bench<'_>, count: usize) -> Result<Measurement> {
    let place = bench.place;
    place.clear()?;
    let source = place.source().join("work");
    fs::create_dir(&source).with_context(|| format!("make {}", source.display()))?;
    for load in CLIENT {
        load.write(&source)?;
    }
    let pair = clean(bench)?;
    let server = server(bench, &pair, count)?;
    let targets: Vec<_> =
        (0..count).map(|client| place.target().join(format!("client-{client}"))).collect();
    for target in &targets {
        fs::create_dir(target).with_context(|| format!("make {}", target.display()))?;
    }
    let far = server.process.id();
    let far_before = processes::cpu_seconds(far);
    let near_before = processes::own_children_seconds();
    processes::forget_peak(far);
    let began = Instant::now();
    let mut running = Vec::new();
    for (client, home) in server.homes.iter().enumerate() {
        let mut command = pair.command(End::A, &bench.programs.haul);
        command.args(["cp", "-q", "-r"]).arg(&source);
        command.arg(format!("{}:target/client-{client}/", server.address));
        running.push(bench.warden.spawn(command.env("HAUL_HOME", home))?);
    }
    let first = running.first().context("there is no client")?.id();
    let watch = Watch::start(first, Some(far), AT_MOST);
    for (client, process) in running.iter_mut().enumerate() {
        let status = process.wait()?;
        if !status.success() {
            bail!("haul, client {client} of {count}: {status}");
        }
    }
    let wall = began.elapsed().as_secs_f64();
    let near = processes::own_children_seconds() - near_before;
    let memory = watch.finish();
    let cost = Measurement { wall, cpu: (near, processes::cpu_seconds(far) - far_before), memory };
    for target in &targets {
        compare(&source, &target.join("work"))?;
    }
    place.clear()?;
    place.clear_source()?;
    eprintln!("{count} clients at once: {wall:.2} s");
    Ok(cost)
}
