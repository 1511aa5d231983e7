//! The programs that are held against each other: what each is called, which command copies a load, and
//! what the far end of it is. A program that this machine lacks is named and left out.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::data::{Load, Place};
use super::machine;
use super::peers::{HaulServer, RsyncServer, SshServer, silent, wait_for};
use super::warden::{Process, Warden};

/// One way to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// `haul cp` to `haul serve`.
    Haul,
    /// `scp` with the cipher that the two sides agree on.
    Scp,
    /// `scp` with the cipher that is fastest where the processor does AES.
    ScpAes,
    /// `rsync` over ssh.
    RsyncSsh,
    /// `rsync` to its daemon, without encryption.
    RsyncDaemon,
    /// The QUIC library alone, from file to file.
    BareFile,
    /// The same with the library's own default settings.
    BareStock,
    /// The QUIC library alone, from memory to nowhere.
    BareMemory,
    /// `cp` on the same file system.
    Cp,
}

/// All of them, in the order of the tables.
const ALL: [Contender; 9] = [
    Contender::Haul,
    Contender::Scp,
    Contender::ScpAes,
    Contender::RsyncSsh,
    Contender::RsyncDaemon,
    Contender::BareFile,
    Contender::BareStock,
    Contender::BareMemory,
    Contender::Cp,
];

impl Contender {
    /// The name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Haul => "haul cp",
            Self::Scp => "scp",
            Self::ScpAes => "scp, aes128-gcm",
            Self::RsyncSsh => "rsync over ssh",
            Self::RsyncDaemon => "rsync daemon, not encrypted",
            Self::BareFile => "bare QUIC, haul's settings, file to file",
            Self::BareStock => "bare QUIC, its defaults, file to file",
            Self::BareMemory => "bare QUIC, haul's settings, memory to nowhere",
            Self::Cp => "cp, no network",
        }
    }

    /// Those that can copy a load. The bare sender knows no files, only one stream of bytes.
    pub fn of(load: Load) -> impl Iterator<Item = Self> {
        let large = matches!(load, Load::Large { .. });
        let one_file = |it: &Self| {
            matches!(it, Self::ScpAes | Self::BareFile | Self::BareStock | Self::BareMemory)
        };
        ALL.into_iter().filter(move |it| large || !one_file(it))
    }

    /// Whether there is a copy to be compared afterwards.
    pub fn leaves_a_copy(self) -> bool {
        self != Self::BareMemory
    }
}

/// The programs and daemons that are there; what is not there is none.
#[derive(Debug)]
pub struct Field {
    haul: (PathBuf, HaulServer),
    bare: PathBuf,
    ssh: Option<SshServer>,
    rsync: Option<RsyncServer>,
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

impl Field {
    /// Starts the daemons of everything that is installed.
    pub fn start(warden: &Warden, haul: &Path, bare: &Path, place: &Place) -> Result<Self> {
        let server = HaulServer::start(warden, haul, place).context("start haul serve")?;
        let mut missing = Vec::new();
        let ssh = provide(["sshd", "ssh", "scp", "ssh-keygen"], &mut missing, |[sshd, ..]| {
            SshServer::start(warden, sshd, place)
        });
        let rsync =
            provide(["rsync"], &mut missing, |[rsync]| RsyncServer::start(warden, rsync, place));
        let (haul, bare) = ((haul.to_owned(), server), bare.to_owned());
        Ok(Self { haul, bare, ssh, rsync, missing })
    }

    /// A copy of `load` by `contender`; none when this machine lacks what it needs.
    pub fn prepare(
        &self,
        contender: Contender,
        load: Load,
        warden: &Warden,
        place: &Place,
    ) -> Result<Option<Start>> {
        let (source, target) = (place.source().join(load.name()), place.target());
        let ssh = self.ssh.as_ref();
        let start = match contender {
            Contender::Haul => Some(self.haul(&source)),
            Contender::Scp => ssh.map(|ssh| scp(ssh, &[], &source, &target)),
            Contender::ScpAes => {
                let words = ["-c", "aes128-gcm@openssh.com"];
                ssh.map(|ssh| scp(ssh, &words, &source, &target))
            }
            Contender::RsyncSsh if self.rsync.is_some() => {
                ssh.map(|ssh| rsync_over_ssh(ssh, &source, &target))
            }
            Contender::RsyncSsh => None,
            Contender::RsyncDaemon => self.rsync.as_ref().map(|daemon| {
                let mut command = client("rsync");
                command.arg("-a").arg(&source);
                command.arg(format!("rsync://127.0.0.1:{}/bench/", daemon.port));
                Start { command, far: Far::Daemon(daemon.process.id()) }
            }),
            Contender::BareFile => Some(self.bare(&[], Some(&source), load, warden, place)?),
            Contender::BareStock => {
                Some(self.bare(&["stock"], Some(&source), load, warden, place)?)
            }
            Contender::BareMemory => Some(self.bare(&[], None, load, warden, place)?),
            Contender::Cp => {
                let mut command = client("cp");
                command.arg("-r").args([&source, &target]);
                Some(Start { command, far: Far::None })
            }
        };
        Ok(start)
    }

    fn haul(&self, source: &Path) -> Start {
        let (haul, server) = &self.haul;
        let mut command = client(haul);
        command.args(["cp", "-q", "-r"]).arg(source);
        command.arg(format!("{}:target/", server.address)).env("HAUL_HOME", &server.home);
        Start { command, far: Far::Daemon(server.process.id()) }
    }

    /// Starts the receiver, which says where it listens, and prepares the sender.
    fn bare(
        &self,
        settings: &[&str],
        source: Option<&Path>,
        load: Load,
        warden: &Warden,
        place: &Place,
    ) -> Result<Start> {
        let log = place.private().join("bare.log");
        // What the last receiver said is not what this one says.
        File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let mut receiver = Command::new(&self.bare);
        silent(receiver.args(settings).arg("receive"), &log)?;
        match source {
            Some(_) => {
                let path = place.target().join(load.name());
                let file = File::create(&path);
                receiver.stdout(file.with_context(|| format!("make {}", path.display()))?);
            }
            None => {
                receiver.arg("nowhere");
            }
        }
        let mut receiver = warden.spawn(&mut receiver)?;
        let address = wait_for(&mut receiver, &log, || {
            Some(std::fs::read_to_string(&log).ok()?.split_once('\n')?.0.to_owned())
        })?;
        let mut command = Command::new(&self.bare);
        command.args(settings).args(["send", &address]);
        match source {
            Some(source) => {
                let file = File::open(source);
                command.stdin(file.with_context(|| format!("open {}", source.display()))?);
            }
            None => {
                command.args(["memory", &load.bytes().to_string()]).stdin(Stdio::null());
            }
        }
        Ok(Start { command, far: Far::Once(receiver) })
    }
}

/// A command that asks nobody anything.
fn client(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

fn scp(ssh: &SshServer, words: &[&str], source: &Path, target: &Path) -> Start {
    let mut command = client("scp");
    command.args(["-q", "-r", "-F"]).arg(&ssh.config).args(words).arg(source);
    command.arg(format!("bench:{}/", target.display()));
    Start { command, far: Far::Daemon(ssh.process.id()) }
}

fn rsync_over_ssh(ssh: &SshServer, source: &Path, target: &Path) -> Start {
    let mut command = client("rsync");
    command.arg("-a").arg("-e").arg(format!("ssh -F {}", ssh.config.display())).arg(source);
    command.arg(format!("bench:{}/", target.display()));
    Start { command, far: Far::Daemon(ssh.process.id()) }
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
