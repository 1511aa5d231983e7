//! One row: every program in turn, again and again. Each run of haul has a fresh server with an empty store and a
//! client that has never been there; after each run the copy is compared with its source and removed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use badlink::{End, Pair, PairOptions};

use super::Track;
use super::rows::{InboxFigures, InboxProgram, InboxRow, Line};
use crate::bench::data::{compare, only_folder};
use crate::bench::field::{Far, near, over_ssh, scp_words};
use crate::bench::grid::LinkKind;
use crate::bench::machine;
use crate::bench::page::shown;
use crate::bench::peers::{HaulServer, INBOX, Serves, Site, SshServer};
use crate::bench::race::{Ended, measure};

/// What it is compared with, and the Debian packages that hold it.
pub const RIVALS: [(&str, &str); 2] = [("ssh", "openssh-client"), ("sshd", "openssh-server")];

/// All of the disk may be used but this.
const BUDGETS: &str = "keep_free = \"1MB\"";

/// What the metadata of the dataset say.
const METADATA: &str = "sample:bench";

/// A run that is ready: what is timed, and what must live meanwhile.
struct Start {
    command: Command,
    far: Far,
    _server: Option<HaulServer>,
}

impl Track<'_> {
    /// Every program in turn. One that fails is out; why is added to `missing`.
    pub fn race(&self, row: InboxRow, missing: &mut Vec<String>) -> Result<InboxFigures> {
        eprintln!("\n== {}", row.title());
        let options = PairOptions { model: row.link.settings(), ..PairOptions::default() };
        let pair = self.warden.pair(options)?;
        let ssh = match machine::find("sshd") {
            Some(sshd) => Some(SshServer::start(self.warden, &sshd, &pair, self.place)?),
            None => None,
        };
        if ssh.is_none() {
            missing.push("sshd is not installed".to_owned());
        }
        self.place.clear_source()?;
        row.load.write(&self.place.source())?;
        let mut lines: Vec<Line> = row.programs().iter().copied().map(Line::new).collect();
        lines.retain(|line| line.program.is_haul() || ssh.is_some());
        // The first run of a row without a link finds the source in no cache, and does not count.
        let first = if row.link == LinkKind::Clean { 0 } else { 1 };
        for run in first..=self.runs {
            // Turned around each time, so that nobody always comes after the same other one.
            lines.reverse();
            lines.retain_mut(|line| {
                if line.stopped.is_some() || run > row.runs(line.program, self.runs) {
                    return true;
                }
                let done = self.turn(&pair, ssh.as_ref(), row, line, run);
                if let Err(error) = &done {
                    let name = line.program.name();
                    eprintln!("error: {name}: {error:#}");
                    missing.push(format!("{name} failed in the row {}: {error:#}", row.word));
                }
                done.is_ok()
            });
        }
        lines.sort_by_key(|line| row.programs().iter().position(|it| *it == line.program));
        drop(ssh);
        let stats = pair.stop();
        self.place.clear()?;
        self.place.clear_source()?;
        let unread = stats.a_to_b.unread + stats.b_to_a.unread;
        Ok(InboxFigures { load: row.load, lines, unread })
    }

    /// One run; run 0 warms up and does not count.
    fn turn(
        &self,
        pair: &Pair,
        ssh: Option<&SshServer>,
        row: InboxRow,
        line: &mut Line,
        run: usize,
    ) -> Result<()> {
        // What a program that failed left behind must not look like this one's copy.
        self.place.clear()?;
        let start = self.prepare(pair, ssh, row, line.program)?;
        line.command = shown(&start.command, self.place.path());
        machine::warm_memory();
        self.place.sync()?;
        let (at_most, bytes) = (InboxRow::at_most(self.quick), row.load.bytes());
        let ended = measure(self.warden, self.place, start.command, start.far, at_most, bytes)?;
        let name = line.program.name();
        match ended {
            Ended::Done(measurement) => {
                self.check(row, line.program)?;
                let warm_up = if run == 0 { ", warming up" } else { "" };
                eprintln!("{name}: {:.3} s{warm_up}", measurement.wall);
                if run > 0 {
                    line.measurements.push(measurement);
                }
            }
            Ended::Stopped(stopped) => {
                eprintln!(
                    "{name}: stopped after {:.0} s at {:.0} %",
                    stopped.after, stopped.percent
                );
                line.stopped = Some(stopped);
            }
        }
        Ok(())
    }

    fn prepare(
        &self,
        pair: &Pair,
        ssh: Option<&SshServer>,
        row: InboxRow,
        program: InboxProgram,
    ) -> Result<Start> {
        let (place, source) = (self.place, self.place.source().join(row.load.name()));
        let target = place.target();
        let serves = match program {
            InboxProgram::Put => Serves::Inbox { root: &target, budgets: BUDGETS },
            InboxProgram::Copy => Serves::Export(&target),
            scp => return self.scp(pair, ssh.context("there is no sshd")?, row, scp),
        };
        let server = HaulServer::start(self.warden, &self.haul, Site::Far(pair), place, 1, serves)?;
        let mut command = near(pair, place, &self.haul);
        match program {
            InboxProgram::Put => command.args(["put", "-q", "-k", METADATA]),
            _ => command.args(["cp", "-q", "-r", "--fsync"]),
        };
        match program {
            InboxProgram::Put => command.arg(server.address.to_string()).arg(&source),
            _ => command.arg(&source).arg(format!("{}:target/", server.address)),
        };
        command.env("HAUL_HOME", server.homes.first().context("there is no client")?);
        Ok(Start { command, far: Far::Daemon(server.process.id()), _server: Some(server) })
    }

    /// `sync` runs at once on this machine, as if the receiver needed no second login for it.
    fn scp(
        &self,
        pair: &Pair,
        ssh: &SshServer,
        row: InboxRow,
        program: InboxProgram,
    ) -> Result<Start> {
        let (place, name) = (self.place, row.load.name());
        let cipher: &[&str] = match program {
            InboxProgram::ScpAesSynced => &["-c", "aes128-gcm@openssh.com"],
            _ => &[],
        };
        // The kernel's default is what everybody's scp uses.
        let congestion = machine::sysctl("net.ipv4.tcp_congestion_control");
        if let Some(word) = congestion {
            pair.set_sysctl(End::A, "net.ipv4.tcp_congestion_control", &word)?;
        }
        let mut command = if program.is_durable_rival() {
            // Of many files the whole file system is synced: one call for all is what is fastest.
            let sync = if row.load.files() == 1 { "sync" } else { "sync -f" };
            let mut command = near(pair, place, "sh");
            command.args(["-c", &format!("\"$@\" && {sync} \"$0\"")]);
            command.arg(place.target().join(name)).arg("scp");
            command
        } else {
            near(pair, place, "scp")
        };
        scp_words(&mut command, ssh, cipher, &place.source().join(name), &over_ssh(place));
        Ok(Start { command, far: Far::Daemon(ssh.process.id()), _server: None })
    }

    /// Compares what arrived with its source, and removes it.
    fn check(&self, row: InboxRow, program: InboxProgram) -> Result<()> {
        if !program.is_put() {
            return self.place.check_and_clear(row.load);
        }
        let source = self.place.source().join(row.load.name());
        let dataset = only_dataset(&self.place.target())?;
        let files = compare(&source, &dataset.join("files").join(row.load.name()))?;
        if files != row.load.files() {
            bail!("{} holds {files} files", dataset.display());
        }
        self.place.clear()
    }
}

/// The folder of the one dataset that an inbox holds.
fn only_dataset(root: &Path) -> Result<PathBuf> {
    only_folder(&only_folder(&root.join("store").join(INBOX))?)
}
