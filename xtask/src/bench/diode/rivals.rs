//! Others that need no way back: udpcast in its one-way mode, and lidi where it is installed. They carry
//! the same file over the same link in turn with haul. uftp, which needs answers, is tried once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use badlink::End;
use serde::{Deserialize, Serialize};

use super::Track;
use super::link::{Link, Setting};
use crate::bench::data::{Load, compare};
use crate::bench::machine;
use crate::bench::page::shown;
use crate::bench::peers::{UftpServer, says, silent, wait_for};
use crate::bench::processes::{self, Watch};
use crate::bench::race::Measurement;
use crate::bench::stats::Spread;
use crate::bench::warden::Process;

/// What can be installed.
pub const PACKAGES: [(&str, &str); 2] = [("udp-sender", "udpcast"), ("uftp", "uftp")];

/// The programs of lidi, of which Debian has no package.
const LIDI: [&str; 4] = ["diode-send", "diode-receive", "diode-send-file", "diode-receive-file"];

/// Packets of a thousand that are lost.
pub const LOSSES: [u32; 3] = [0, 5, 20];

/// The rates that udpcast is tried at, in megabytes per second.
const STEPS: [u32; 9] = [20, 30, 40, 50, 60, 80, 100, 125, 150];

/// The longest that one run may take.
const AT_MOST: Duration = Duration::from_secs(120);

/// How long after the sender's end a file that does not grow is given up.
const AFTER: Duration = Duration::from_secs(5);

/// Ports of lidi: on the near side, across, and on the far side.
const PORTS: [u16; 3] = [5000, 6000, 7000];

/// A program that carries a file one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rival {
    /// haul.
    Haul,
    /// udpcast, without answers.
    Udpcast,
    /// lidi with so many percent of repair packets.
    Lidi(u32),
}

/// Everything that was found out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiodeRivals {
    /// The file.
    pub load: Load,
    /// What each came to.
    pub lines: Vec<RivalLine>,
    /// What uftp did where no answer comes back; nothing if it is not there.
    pub uftp: Option<String>,
}

/// One program at one loss.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RivalLine {
    /// Which.
    pub rival: Rival,
    /// What was run, for people: the far side's commands, and then the near side's.
    pub commands: Vec<String>,
    /// Packets of a thousand that are lost on purpose.
    pub per_mille: u32,
    /// What it was told, in megabytes per second; none for one that takes no rate.
    pub rate: Option<u32>,
    /// What each run came to: whether the file arrived as it is, and at what cost.
    pub runs: Vec<(bool, Measurement)>,
}

/// A process of a run, and what it has cost so far.
struct Party {
    end: End,
    command: String,
    process: Process,
    watch: Watch,
    cpu: f64,
    has_ended: bool,
}

impl Rival {
    /// The name in the tables.
    pub fn name(self) -> String {
        match self {
            Self::Haul => "haul diode".to_owned(),
            Self::Udpcast => "udpcast, FEC 8x8/128, not encrypted".to_owned(),
            Self::Lidi(2) => "lidi, repair 2 % (default), not encrypted".to_owned(),
            Self::Lidi(percent) => format!("lidi, repair {percent} %, not encrypted"),
        }
    }
}

impl RivalLine {
    /// Bytes per second of the runs that arrived.
    pub fn goodput(&self, load: Load) -> Spread {
        let good = self.runs.iter().filter(|(is_same, _)| *is_same);
        Spread::of(good.map(|(_, cost)| load.bytes() as f64 / cost.wall).collect())
    }

    /// In how many runs the file arrived.
    pub fn arrived(&self) -> usize {
        self.runs.iter().filter(|(is_same, _)| *is_same).count()
    }
}

/// The versions of the others.
pub fn versions() -> Vec<String> {
    let mut versions: Vec<String> =
        PACKAGES.iter().map(|(_, package)| machine::version_of_package(package)).collect();
    if machine::find(LIDI[0]).is_some() {
        let lidi = machine::output(Command::new(LIDI[0]).arg("--version"));
        versions.extend(lidi.map(|line| line.replace("diode-send", "lidi")));
    }
    versions.retain(|version| !version.is_empty());
    versions
}

impl Track<'_> {
    /// All of them in turn, haul at these rates, one for each loss.
    pub fn rivals(&self, rates: &[u32], missing: &mut Vec<String>) -> Result<DiodeRivals> {
        eprintln!("\n== rivals");
        let load = Load::Large { bytes: if self.quick { 64 << 20 } else { 1 << 30 } };
        let mut rivals = vec![(Rival::Haul, None)];
        if machine::find("udp-sender").is_some() {
            rivals.push((Rival::Udpcast, Some(self.highest_of_udpcast()?)));
        } else {
            missing.push("udpcast is not installed; on Debian: apt-get install udpcast".to_owned());
        }
        if LIDI.iter().all(|program| machine::find(program).is_some()) {
            rivals.extend([2, 10].map(|percent| (Rival::Lidi(percent), None)));
        } else {
            missing.push(
                "lidi is not installed: cargo install --git https://github.com/ANSSI-FR/lidi --tag \
                 v2.1.1, with what that builds in PATH"
                    .to_owned(),
            );
        }
        self.lay(load)?;
        let mut lines = Vec::new();
        for (per_mille, rate_of_haul) in LOSSES.into_iter().zip(rates) {
            let first = lines.len();
            lines.extend(rivals.iter().map(|(rival, rate)| RivalLine {
                rival: *rival,
                commands: Vec::new(),
                per_mille,
                rate: if *rival == Rival::Haul { Some(*rate_of_haul) } else { *rate },
                runs: Vec::new(),
            }));
            let link = Link::make(self.warden, Setting::SEGMENTS)?;
            link.lose(per_mille)?;
            for run in 0..self.runs {
                // Turned around each time, so that nobody always comes after the same other one.
                let mut order: Vec<usize> = (first..lines.len()).collect();
                if run % 2 == 1 {
                    order.reverse();
                }
                for at in order {
                    self.turn(&link, load, &mut lines[at])?;
                }
            }
        }
        let uftp = self.uftp(load)?;
        self.place.clear_source()?;
        Ok(DiodeRivals { load, lines, uftp })
    }

    fn turn(&self, link: &Link, load: Load, line: &mut RivalLine) -> Result<()> {
        let (is_same, cost) = match line.rival {
            Rival::Haul => {
                let rate = line.rate.unwrap_or(1);
                let pass = self.pass(link, load, rate)?;
                (pass.lost_files == 0, pass.cost)
            }
            rival => {
                let (outcome, commands) = self.carry(link, load, rival, line.rate.unwrap_or(1))?;
                line.commands = commands;
                outcome
            }
        };
        let told = if is_same { "arrived" } else { "LOST" };
        let lost = f64::from(line.per_mille) / 10.0;
        eprintln!("{}, {lost} % lost: {:.2} s, {told}", line.rival.name(), cost.wall);
        line.runs.push((is_same, cost));
        Ok(())
    }

    /// The highest rate at which udpcast loses nothing, with a smaller file.
    fn highest_of_udpcast(&self) -> Result<u32> {
        let load = Load::Large { bytes: if self.quick { 32 << 20 } else { 256 << 20 } };
        self.lay(load)?;
        let link = Link::make(self.warden, Setting::SEGMENTS)?;
        let mut highest = STEPS[0];
        for rate in STEPS {
            let arrives = |_: usize| {
                Ok::<_, anyhow::Error>(self.carry(&link, load, Rival::Udpcast, rate)?.0.0)
            };
            let arrived = arrives(0)? || arrives(1)?;
            eprintln!("udpcast, {rate} MB/s: {}", if arrived { "whole" } else { "lost" });
            if !arrived {
                break;
            }
            highest = rate;
        }
        Ok(highest)
    }

    /// Has another program carry the load; whether it arrived as it is, the cost, and the command.
    fn carry(
        &self,
        link: &Link,
        load: Load,
        rival: Rival,
        rate: u32,
    ) -> Result<((bool, Measurement), Vec<String>)> {
        self.place.clear()?;
        let target = self.place.target().join(load.name());
        let (mut parties, mut command) = match rival {
            Rival::Lidi(percent) => self.lidi(link, percent)?,
            _ => self.udpcast(link, &target, rate)?,
        };
        command.arg(self.place.source().join(load.name()));
        machine::warm_memory();
        let began = Instant::now();
        let client = self.party(End::A, &mut command, "client.log")?;
        let near = parties.iter().filter(|party| party.end == End::A).count();
        parties.insert(near, client);
        let (mut arrived, mut quiet_since, mut length) = (None, Instant::now(), 0);
        loop {
            for party in &mut parties {
                party.look()?;
            }
            let now = std::fs::metadata(&target).map_or(0, |found| found.len());
            if now != length {
                (length, quiet_since) = (now, Instant::now());
            }
            if length == load.bytes() && arrived.is_none() {
                arrived = Some(began.elapsed());
            }
            let is_over =
                parties[near].has_ended && (arrived.is_some() || quiet_since.elapsed() > AFTER);
            if is_over || began.elapsed() > AT_MOST {
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        // The last bytes may be on their way to the file, which has its length already.
        thread::sleep(Duration::from_millis(200));
        let wall = arrived.unwrap_or_else(|| began.elapsed()).as_secs_f64();
        let mut cost = Measurement { wall, cpu: (0.0, 0.0), memory: (0, 0) };
        let told = parties.iter().map(|party| party.command.clone()).rev().collect();
        for mut party in parties {
            party.look()?;
            let memory = party.watch.finish().0;
            let (cpu, bytes) = match party.end {
                End::A => (&mut cost.cpu.0, &mut cost.memory.0),
                End::B => (&mut cost.cpu.1, &mut cost.memory.1),
            };
            (*cpu, *bytes) = (*cpu + party.cpu, *bytes + memory);
        }
        let source = self.place.source().join(load.name());
        let is_same = arrived.is_some() && compare(&source, &target).is_ok();
        Ok(((is_same, cost), told))
    }

    fn udpcast(&self, link: &Link, target: &Path, rate: u32) -> Result<(Vec<Party>, Command)> {
        let mut command = link.pair.command(End::B, "udp-receiver");
        command.args(["--nosync", "--nokbd", "--no-progress", "--interface", "link0"]);
        command.args(["--rcvbuf", "64m", "--mcast-rdv-address", RENDEZVOUS, "--file"]).arg(target);
        let log = self.place.private().join("udp-receiver.log");
        let mut receiver = self.party(End::B, &mut command, "udp-receiver.log")?;
        wait_for(&mut receiver.process, &log, || says(&log, "UDP receiver"))?;
        let mut command = link.pair.command(End::A, "udp-sender");
        command.args(["--async", "--fec", "8x8/128", "--broadcast", "--nokbd", "--no-progress"]);
        // It says several times that it begins: a receiver that has missed that gets nothing.
        command.args(["--autostart", "5", "--rexmit-hello-interval", "50"]);
        command.args(["--interface", "link0", "--max-bitrate"]);
        command.arg(format!("{}m", rate * 8));
        command.args(["--mcast-rdv-address", RENDEZVOUS, "--file"]);
        Ok((vec![receiver], command))
    }

    fn lidi(&self, link: &Link, percent: u32) -> Result<(Vec<Party>, Command)> {
        let [near, across, far] = PORTS;
        let (local, repair) = (|port: u16| format!("127.0.0.1:{port}"), percent.to_string());
        let across_at = format!("{}:{across}", link.pair.address(End::B));
        let with = ["--batch", "64", "--repair", &repair];
        let mut file = link.pair.command(End::B, LIDI[3]);
        file.args(["--from-tcp", &local(far)]).arg(self.place.target());
        let mut receive = link.pair.command(End::B, LIDI[1]);
        receive.args(["--from", &across_at, "--to-tcp", &local(far)]).args(with);
        let mut send = link.pair.command(End::A, LIDI[0]);
        send.args(["--from-tcp", &local(near), "--to", &across_at]).args(with);
        let mut parties = Vec::new();
        for (end, command, port, kind) in [
            (End::B, &mut file, far, "tcp"),
            (End::B, &mut receive, across, "udp"),
            (End::A, &mut send, near, "tcp"),
        ] {
            let name = format!("lidi-{port}.log");
            let mut party = self.party(end, command, &name)?;
            let sockets = PathBuf::from(format!("/proc/{}/net/{kind}", party.process.id()));
            let log = self.place.private().join(name);
            wait_for(&mut party.process, &log, || says(&sockets, &format!(":{port:04X} ")))?;
            // Near ones come first.
            match end {
                End::A => parties.insert(0, party),
                End::B => parties.push(party),
            }
        }
        let mut command = link.pair.command(End::A, LIDI[2]);
        command.args(["--to-tcp", &local(near)]);
        Ok((parties, command))
    }

    fn party(&self, end: End, command: &mut Command, log: &str) -> Result<Party> {
        let log = self.place.private().join(log);
        std::fs::write(&log, "").with_context(|| format!("make {}", log.display()))?;
        let process = self.warden.spawn(silent(command, &log)?)?;
        let watch = Watch::start(process.id(), None, AT_MOST);
        let command = shown(command, self.place.path());
        let command = match end {
            End::A => command,
            End::B => command.replacen("$A", "$B", 1),
        };
        Ok(Party { end, command, process, watch, cpu: 0.0, has_ended: false })
    }

    /// What uftp says where no answer comes back.
    fn uftp(&self, load: Load) -> Result<Option<String>> {
        let (Some(daemon), Some(uftp)) = (machine::find("uftpd"), machine::find("uftp")) else {
            return Ok(None);
        };
        self.place.clear()?;
        let link = Link::make(self.warden, Setting::FAST)?;
        let _daemon = UftpServer::start(self.warden, &daemon, &link.pair, self.place)?;
        let address = link.pair.address(End::B).to_string();
        let mut command = link.pair.command(End::A, uftp);
        command.args(["-M", &address, "-I", "link0", "-H", &address, "-r", "0.01", "-R", "-1"]);
        command.arg(self.place.source().join(load.name()));
        let mut client = self.party(End::A, &mut command, "uftp.log")?;
        let began = Instant::now();
        while !client.has_ended && began.elapsed() < AT_MOST {
            client.look()?;
            thread::sleep(Duration::from_millis(20));
        }
        let said = std::fs::read_to_string(self.place.private().join("uftp.log"))?;
        let last = said.trim().lines().last().unwrap_or("it said nothing").trim().to_owned();
        let arrived = self.place.target().join(load.name()).exists();
        let how = if arrived { "the file arrived" } else { "no file arrived" };
        Ok(Some(format!("{how} in {:.0} s; its last words: {last}", began.elapsed().as_secs_f64())))
    }
}

/// Where the ends of udpcast would meet if answers came back.
const RENDEZVOUS: &str = "232.0.0.1";

impl Party {
    /// What it has cost by now; that of one that has ended stays what it was.
    fn look(&mut self) -> Result<()> {
        if !self.has_ended {
            // One that has ended still tells, until it is waited for.
            self.cpu = processes::cpu_seconds(self.process.id());
            self.has_ended = self.process.ended()?.is_some();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
