//! The programs that are there, their far ends in the far namespace of one row, and the command of each
//! copy. What this machine lacks is named and left out.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use badlink::{End, Pair};

use super::contender::{Congestion, Contender, Program};
use super::data::Place;
use super::grid::GridRow;
use super::machine;
use super::peers::{
    HaulServer, RSYNC_PORT, RsyncServer, SSH_PORT, Serves, Site, SshServer, UftpServer, silent,
    wait_for,
};
use super::warden::{Process, Warden};

/// Where the programs of this project and those that are not installed are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The haul that is measured.
    pub haul: PathBuf,
    /// The QUIC library alone.
    pub bare_quic: PathBuf,
    /// TLS over TCP alone.
    pub bare_tls: PathBuf,
    /// Built for the bench if it is not installed.
    pub qcp: Option<PathBuf>,
    /// What `haul cp --help` says.
    pub haul_help: String,
}

/// The far ends of one row; what is not there is none.
#[derive(Debug)]
pub struct Field<'a> {
    programs: &'a Programs,
    warden: &'a Warden,
    place: &'a Place,
    pair: &'a Pair,
    row: GridRow,
    haul: HaulServer,
    ssh: Option<SshServer>,
    rsync: Option<RsyncServer>,
    uftp: Option<UftpServer>,
    /// What could not be had, and why.
    pub missing: Vec<String>,
}

/// One copy, ready to go: what to time, and the process at the other end, if there is one.
#[derive(Debug)]
pub struct Start {
    /// The command that is timed.
    pub command: Command,
    /// The far end.
    pub far: Far,
}

/// The far end of a copy.
#[derive(Debug)]
pub enum Far {
    /// There is none.
    None,
    /// A daemon that serves every run.
    Daemon(u32),
    /// A process for this run alone, which ends by itself.
    Once(Process),
}

impl<'a> Field<'a> {
    /// Starts the daemons of everything that is installed. Of haul, `runs` clients are strangers.
    pub fn start(
        programs: &'a Programs,
        warden: &'a Warden,
        place: &'a Place,
        pair: &'a Pair,
        row: GridRow,
        runs: usize,
    ) -> Result<Self> {
        // One more for the run that does not count, and one that is not a stranger for long.
        let clients = runs + 2;
        let (far, target) = (Site::Far(pair), place.target());
        let serves = Serves::Export(&target);
        let haul = HaulServer::start(warden, &programs.haul, far, place, clients, serves)
            .context("start haul serve")?;
        let mut missing = Vec::new();
        let ssh = provide(["sshd", "ssh", "scp", "ssh-keygen"], &mut missing, |[sshd, ..]| {
            SshServer::start(warden, sshd, pair, place)
        });
        let rsync = provide(["rsync"], &mut missing, |[rsync]| {
            RsyncServer::start(warden, rsync, pair, place)
        });
        let uftp = provide(["uftpd", "uftp"], &mut missing, |[uftpd, _]| {
            UftpServer::start(warden, uftpd, pair, place)
        });
        if machine::find("rclone").is_none() {
            missing.push("rclone is not installed".to_owned());
        }
        if programs.qcp.is_none() {
            missing.push("qcp is not installed and could not be built".to_owned());
        }
        Ok(Self { programs, warden, place, pair, row, haul, ssh, rsync, uftp, missing })
    }

    /// The copy number `run` by `contender`; none when this machine lacks what it needs.
    pub fn prepare(&self, contender: Contender, run: usize) -> Result<Option<Start>> {
        let congestion = contender.congestion.word();
        let default = machine::sysctl("net.ipv4.tcp_congestion_control");
        if let Some(word) = congestion.or(default.as_deref()) {
            self.pair.set_sysctl(End::A, "net.ipv4.tcp_congestion_control", word)?;
        }
        let source = self.place.source().join(self.row.load.name());
        let ssh = self.ssh.as_ref();
        let start = match contender.program {
            Program::Haul => Some(self.haul(&source, &self.haul.homes[run])),
            Program::HaulAgain => {
                let home = self.haul.homes.last().context("there is no client of haul")?;
                Some(self.haul(&source, home))
            }
            Program::Scp => ssh.map(|ssh| self.scp(ssh, &[], &source)),
            Program::ScpAes => {
                ssh.map(|ssh| self.scp(ssh, &["-c", "aes128-gcm@openssh.com"], &source))
            }
            Program::RsyncSsh if self.rsync.is_some() => {
                ssh.map(|ssh| self.rsync_over_ssh(ssh, &source))
            }
            Program::RsyncSsh => None,
            Program::RsyncDaemon => self.rsync.as_ref().map(|daemon| {
                let mut command = self.near("rsync");
                command.arg("-a").arg(&source);
                let address = self.pair.address(End::B);
                command.arg(format!("rsync://{address}:{RSYNC_PORT}/bench/"));
                Start { command, far: Far::Daemon(daemon.process.id()) }
            }),
            Program::Qcp => match (ssh, &self.programs.qcp) {
                (Some(ssh), Some(qcp)) => Some(self.qcp(ssh, qcp, contender.congestion, &source)),
                _ => None,
            },
            Program::Rclone if machine::find("rclone").is_none() => None,
            Program::Rclone => ssh.map(|ssh| self.rclone(ssh, &source)),
            Program::Uftp => self.uftp.as_ref().map(|daemon| self.uftp(daemon, &source)),
            Program::BareTls => Some(self.bare(&self.programs.bare_tls, &source)?),
            Program::BareQuic => Some(self.bare(&self.programs.bare_quic, &source)?),
            Program::Cp => {
                let mut command = Command::new("cp");
                command.stdin(Stdio::null()).arg("-r").args([&source, &self.place.target()]);
                Some(Start { command, far: Far::None })
            }
        };
        Ok(start)
    }

    fn near(&self, program: impl AsRef<OsStr>) -> Command {
        near(self.pair, self.place, program)
    }

    fn haul(&self, source: &Path, home: &Path) -> Start {
        let mut command = self.near(&self.programs.haul);
        command.args(["cp", "-q", "-r"]).arg(source);
        command.arg(format!("{}:target/", self.haul.address)).env("HAUL_HOME", home);
        Start { command, far: Far::Daemon(self.haul.process.id()) }
    }

    fn to(&self) -> String {
        over_ssh(self.place)
    }

    fn scp(&self, ssh: &SshServer, words: &[&str], source: &Path) -> Start {
        let mut command = self.near("scp");
        scp_words(&mut command, ssh, words, source, &self.to());
        Start { command, far: Far::Daemon(ssh.process.id()) }
    }

    fn rsync_over_ssh(&self, ssh: &SshServer, source: &Path) -> Start {
        let mut command = self.near("rsync");
        let shell = format!("ssh -F {}", ssh.config().display());
        command.args(["-a", "-e", &shell]).arg(source).arg(self.to());
        Start { command, far: Far::Daemon(ssh.process.id()) }
    }

    /// It is told what the link is like, as its manual asks.
    fn qcp(&self, ssh: &SshServer, qcp: &Path, congestion: Congestion, source: &Path) -> Start {
        let mut command = self.near(qcp);
        let bytes = self.row.link.rate().unwrap_or(1e10) / 8.0;
        // With a shorter round trip its windows are too small to be fast.
        let round_trip = self.row.link.round_trip_ms().max(10);
        command.args(["-q", "-j", "8"]);
        // With it, one file would become a folder with the file in it.
        command.args(source.is_dir().then_some("-r"));
        command.args(["--tx", &format!("{bytes:.0}"), "--rx", &format!("{bytes:.0}")]);
        command.args(["--rtt", &round_trip.to_string()]);
        command.args(["--congestion", congestion.word().unwrap_or("cubic")]);
        command.arg("--ssh-config").arg(ssh.config()).args(["-S", "-F", "-S"]).arg(ssh.config());
        command.arg("--remote-qcp-binary").arg(qcp).arg(source).arg(self.to());
        Start { command, far: Far::Daemon(ssh.process.id()) }
    }

    /// Without its check of each copy, which starts a command at the far end for every file.
    fn rclone(&self, ssh: &SshServer, source: &Path) -> Start {
        let mut command = self.near("rclone");
        let folder = ssh.folder.display();
        let target = match source.is_dir() {
            true => self.place.target().join(self.row.load.name()),
            false => self.place.target(),
        };
        command.args(["copy", "-q", "--transfers", "16", "--config", "/dev/null"]).arg(source);
        command.arg(format!(
            ":sftp,host={},port={SSH_PORT},user={},key_file={folder}/user,\
             known_hosts_file={folder}/known_hosts,disable_hashcheck=true:{}",
            self.pair.address(End::B),
            ssh.user,
            target.display()
        ));
        Start { command, far: Far::Daemon(ssh.process.id()) }
    }

    fn uftp(&self, daemon: &UftpServer, source: &Path) -> Start {
        let mut command = self.near("uftp");
        let address = self.pair.address(End::B).to_string();
        // 97 % of the link; its thousand is 1024. Without a known rate as fast as it can.
        let rate = self.row.link.rate().map_or(-1.0, |rate| (rate * 0.97 / 1024.0).floor());
        command.args(["-M", &address, "-I", "link0", "-B", "4194304", "-q"]);
        // Told who receives, it begins once that one has registered. Otherwise it announces itself 20 times,
        // for three round trips each, and waits for more to come. Its guess of the round trip is 0.5 s, and
        // three times that it takes to say again what got lost; it takes no figure below 10 ms for it.
        let round_trip = self.row.link.round_trip_ms().max(10) as f64 / 1e3;
        command.args(["-H", &address, "-r", &round_trip.to_string()]);
        // Blocks that fill the packets of this link, as its manual asks, and no word on each file.
        command.args(["-b", "1400", "-x", "0"]);
        command.args(["-R", &rate.to_string()]).arg(source);
        Start { command, far: Far::Daemon(daemon.process.id()) }
    }

    /// Starts the receiver, which says where it listens, and prepares the sender.
    fn bare(&self, program: &Path, source: &Path) -> Result<Start> {
        let log = self.place.private().join("bare.log");
        // What the last receiver said is not what this one says.
        File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let mut receiver = self.pair.command(End::B, program);
        silent(receiver.args(["receive", &format!("{}:0", self.pair.address(End::B))]), &log)?;
        let path = self.place.target().join(self.row.load.name());
        let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
        receiver.stdout(file);
        let mut receiver = self.warden.spawn(&mut receiver)?;
        let address = wait_for(&mut receiver, &log, || {
            Some(std::fs::read_to_string(&log).ok()?.split_once('\n')?.0.to_owned())
        })?;
        let mut command = self.near(program);
        let file = File::open(source).with_context(|| format!("open {}", source.display()))?;
        command.args(["send", &address]).stdin(file);
        Ok(Start { command, far: Far::Once(receiver) })
    }
}

/// A command in the near namespace that asks nobody anything and knows nothing of the user.
pub fn near(pair: &Pair, place: &Place, program: impl AsRef<OsStr>) -> Command {
    let mut command = pair.command(End::A, program);
    command.stdin(Stdio::null()).env("HOME", place.private());
    for folder in ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"] {
        command.env(folder, place.private());
    }
    command.env_remove("SSH_AUTH_SOCK");
    command
}

/// The target, as programs name it that go over ssh.
pub fn over_ssh(place: &Place) -> String {
    format!("bench:{}/", place.target().display())
}

/// What stands behind `scp`.
pub fn scp_words(command: &mut Command, ssh: &SshServer, words: &[&str], source: &Path, to: &str) {
    command.args(["-q", "-r", "-F"]).arg(ssh.config()).args(words).arg(source).arg(to);
}

/// Starts a daemon if its programs are there; else says what is missing or what went wrong.
fn provide<const N: usize, T>(
    programs: [&str; N],
    missing: &mut Vec<String>,
    start: impl FnOnce([&Path; N]) -> Result<T>,
) -> Option<T> {
    let found = programs.map(machine::find);
    let absent: Vec<&str> =
        programs.iter().zip(&found).filter(|(_, path)| path.is_none()).map(|(p, _)| *p).collect();
    if !absent.is_empty() {
        missing.push(format!("{} is not installed", absent.join(", ")));
        return None;
    }
    match start(found.each_ref().map(|path| path.as_deref().unwrap_or(Path::new("")))) {
        Ok(daemon) => Some(daemon),
        Err(error) => {
            missing.push(format!("{} does not start: {error:#}", programs[0]));
            None
        }
    }
}
