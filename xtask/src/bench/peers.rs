//! The far ends of the copies, on loopback, with keys and configurations of their own: `haul serve`,
//! sshd and the daemon of rsync. Nothing of the user's own configuration is read or written.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::data::Place;
use super::machine;
use super::warden::{Folder, Process, Warden};

/// How long a daemon may take until it listens.
const START_AT_MOST: Duration = Duration::from_secs(20);

/// The folder that sshd wants to exist when root runs it.
const SSHD_FOLDER: &str = "/run/sshd";

/// A `haul serve`, and the home of the one who may connect to it.
#[derive(Debug)]
pub struct HaulServer {
    /// The daemon.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// The client's `HAUL_HOME`.
    pub home: PathBuf,
}

/// An sshd, and a configuration with which ssh gets in as the host `bench`.
#[derive(Debug)]
pub struct SshServer {
    /// The daemon.
    pub process: Process,
    /// The client's configuration.
    pub config: PathBuf,
    _folder: Option<Folder>,
}

/// A daemon of rsync with one module called `bench`.
#[derive(Debug)]
pub struct RsyncServer {
    /// The daemon.
    pub process: Process,
    /// Where it listens.
    pub port: u16,
}

impl HaulServer {
    /// Makes two fresh homes that trust each other, and starts the daemon.
    pub fn start(warden: &Warden, haul: &Path, place: &Place) -> Result<Self> {
        let (far, near) = (place.private().join("haul-far"), place.private().join("haul-near"));
        let key = |home: &Path, words: &[&str]| {
            machine::output(Command::new(haul).arg("key").args(words).env("HAUL_HOME", home))
        };
        let line = key(&near, &["show"])?;
        key(&far, &["allow", &line])?;
        let log = place.private().join("haul.log");
        let mut export = place.target().into_os_string();
        export.push("=target");
        let mut command = Command::new(haul);
        command.args(["serve", "--listen", "127.0.0.1:0", "--export"]).arg(export);
        command.env("HAUL_HOME", &far);
        let mut process = warden.spawn(silent(&mut command, &log)?)?;
        let address: SocketAddr = wait_for(&mut process, &log, || {
            let text = fs::read_to_string(&log).ok()?;
            // The line is whole once its end is there.
            let (_, behind) = text.split_once("listening on ")?;
            behind.split_once('\n')?.0.trim().parse().ok()
        })?;
        let line = key(&far, &["show"])?;
        key(&near, &["trust", &address.to_string(), &line])?;
        Ok(Self { process, address, home: near })
    }
}

impl SshServer {
    /// Makes a key of the host and one of the user, and starts the daemon.
    pub fn start(warden: &Warden, sshd: &Path, place: &Place) -> Result<Self> {
        let folder = place.private().join("ssh");
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        for name in ["host", "user"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
            machine::output(command.arg(folder.join(name)))?;
        }
        let user = machine::output(Command::new("id").arg("-un"))?;
        let wanted = Path::new(SSHD_FOLDER);
        let made = match user == "root" && !wanted.exists() {
            true => Some(warden.shared_folder(wanted)?),
            false => None,
        };
        let port = free_port()?;
        let shown = folder.display();
        fs::copy(folder.join("user.pub"), folder.join("authorized_keys"))?;
        let host = fs::read_to_string(folder.join("host.pub"))?;
        fs::write(folder.join("known_hosts"), format!("[127.0.0.1]:{port} {host}"))?;
        let sftp = "Subsystem sftp internal-sftp";
        let daemon = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {shown}/host\nPidFile none\nUsePAM no\n\
             AuthorizedKeysFile {shown}/authorized_keys\nStrictModes no\nPermitRootLogin yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\n{sftp}\n"
        );
        fs::write(folder.join("sshd_config"), daemon)?;
        let client = format!(
            "Host bench\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  \
             IdentityFile {shown}/user\n  IdentitiesOnly yes\n  BatchMode yes\n  \
             UserKnownHostsFile {shown}/known_hosts\n  GlobalKnownHostsFile none\n  \
             StrictHostKeyChecking yes\n"
        );
        let config = folder.join("ssh_config");
        fs::write(&config, client)?;
        let log = folder.join("sshd.log");
        let mut command = Command::new(sshd);
        command.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
        let mut process = warden.spawn(silent(&mut command, &log)?)?;
        wait_for(&mut process, &log, || connects(port))?;
        Ok(Self { process, config, _folder: made })
    }
}

impl RsyncServer {
    /// Starts the daemon.
    pub fn start(warden: &Warden, rsync: &Path, place: &Place) -> Result<Self> {
        let port = free_port()?;
        let config = place.private().join("rsyncd.conf");
        let mut text = "use chroot = no\n".to_owned();
        // Root would otherwise become nobody, who may not write.
        if machine::output(Command::new("id").arg("-u"))? == "0" {
            text += "uid = root\ngid = root\n";
        }
        let target = place.target();
        text += &format!("[bench]\n  path = {}\n  read only = no\n", target.display());
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let log = place.private().join("rsyncd.log");
        let mut command = Command::new(rsync);
        command.args(["--daemon", "--no-detach", "--address=127.0.0.1"]);
        command.arg(format!("--port={port}"));
        command.arg(format!("--config={}", config.display()));
        command.arg(format!("--log-file={}", log.display()));
        let mut process = warden.spawn(silent(&mut command, &log)?)?;
        wait_for(&mut process, &log, || connects(port))?;
        Ok(Self { process, port })
    }
}

/// Gives a command no input, and a file for all that it prints.
pub fn silent<'a>(command: &'a mut Command, log: &Path) -> Result<&'a mut Command> {
    let open = || File::options().create(true).append(true).open(log);
    let (out, errors) = (open(), open());
    let context = || format!("open {}", log.display());
    command.stdin(Stdio::null());
    Ok(command.stdout(out.with_context(context)?).stderr(errors.with_context(context)?))
}

/// Waits until a process is ready, by its own word or by answering.
pub fn wait_for<T>(
    process: &mut Process,
    log: &Path,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + START_AT_MOST;
    loop {
        if let Some(value) = ready() {
            return Ok(value);
        }
        let ended = process.ended()?;
        if ended.is_some() || Instant::now() > deadline {
            let how = ended.map_or_else(|| "not ready".to_owned(), |status| status.to_string());
            let said = fs::read_to_string(log).unwrap_or_default();
            bail!("{how}: {}", said.trim());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A TCP port that nobody had a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}

fn connects(port: u16) -> Option<()> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok().map(drop)
}
