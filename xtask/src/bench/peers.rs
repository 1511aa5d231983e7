//! The far ends of the copies, in the far namespace, with keys and configurations of their own: `haul
//! serve`, sshd, the daemon of rsync and the receiver of uftp. Nothing of the user's own configuration is read or written.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use badlink::{End, Pair};

use super::data::Place;
use super::machine;
use super::warden::{Folder, Process, Warden};

/// How long a daemon may take until it listens.
const START_AT_MOST: Duration = Duration::from_secs(20);

/// The folder that sshd wants to exist when root runs it.
const SSHD_FOLDER: &str = "/run/sshd";

/// Where a daemon runs.
#[derive(Debug, Clone, Copy)]
pub enum Site<'a> {
    /// At the far end of a link.
    Far(&'a Pair),
    /// On this machine alone.
    Loopback,
}

/// What a `haul serve` is there for.
#[derive(Debug, Clone, Copy)]
pub enum Serves<'a> {
    /// An export called `target`.
    Export(&'a Path),
    /// One inbox.
    Inbox {
        /// Its root.
        root: &'a Path,
        /// Lines of the table `[inboxes]`.
        budgets: &'a str,
    },
}

/// What the inbox of a bench is called.
pub const INBOX: &str = "bench";

/// A `haul serve`, and the homes of those who may connect to it.
#[derive(Debug)]
pub struct HaulServer {
    /// The daemon.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// `HAUL_HOME` of each client.
    pub homes: Vec<PathBuf>,
    /// That of the daemon.
    pub home: PathBuf,
}

/// An sshd, and configurations with which ssh gets in as the host `bench`.
#[derive(Debug)]
pub struct SshServer {
    /// The daemon.
    pub process: Process,
    /// The folder with the client's configuration `ssh_config`, its key `user` and `known_hosts`.
    pub folder: PathBuf,
    /// Who gets in.
    pub user: String,
    _folder: Option<Folder>,
}

/// A daemon of rsync with one module called `bench`.
#[derive(Debug)]
pub struct RsyncServer {
    /// The daemon.
    pub process: Process,
}

/// A receiver of uftp.
#[derive(Debug)]
pub struct UftpServer {
    /// The daemon.
    pub process: Process,
}

/// Where sshd and rsync listen; their namespace is empty.
pub const SSH_PORT: u16 = 2222;
/// See [`SSH_PORT`].
pub const RSYNC_PORT: u16 = 8730;
/// Where uftpd listens unless it is told otherwise.
const UFTP_PORT: u16 = 1044;

impl Site<'_> {
    fn address(self) -> IpAddr {
        match self {
            Self::Far(pair) => pair.address(End::B),
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
        }
    }

    fn command(self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Far(pair) => pair.command(End::B, program),
            Self::Loopback => Command::new(program),
        }
    }
}

impl Serves<'_> {
    fn folder(&self) -> &Path {
        match self {
            Self::Export(folder) => folder,
            Self::Inbox { root, .. } => root,
        }
    }

    /// Adds the words of `haul serve` for it, with a configuration in `private` where one is needed.
    fn tell(self, command: &mut Command, private: &Path) -> Result<()> {
        match self {
            Self::Export(folder) => {
                let mut export = folder.as_os_str().to_owned();
                export.push("=target");
                command.arg("--export").arg(export);
            }
            Self::Inbox { root, budgets } => {
                let root = root.display();
                let text = format!(
                    "[[inbox]]\nname = \"{INBOX}\"\npath = \"{root}\"\n\n[inboxes]\n{budgets}\n"
                );
                let config = private.join("haul.toml");
                fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
                command.arg("--config").arg(config);
            }
        }
        Ok(())
    }
}

impl HaulServer {
    /// Makes a home for the daemon and `clients` others that it knows and that know it, each with a key
    /// of its own and with nothing learnt yet, and starts the daemon.
    pub fn start(
        warden: &Warden,
        haul: &Path,
        site: Site<'_>,
        place: &Place,
        clients: usize,
        serves: Serves<'_>,
    ) -> Result<Self> {
        // There may be several at once, each with a target of its own.
        let name = serves.folder().file_name().unwrap_or_default().to_string_lossy();
        let private = place.fresh(&format!("haul-{name}"))?;
        let far = private.join("far");
        let homes: Vec<PathBuf> =
            (0..clients).map(|client| private.join(format!("near-{client}"))).collect();
        let key = |home: &Path, words: &[&str]| {
            machine::output(Command::new(haul).arg("key").args(words).env("HAUL_HOME", home))
        };
        for home in &homes {
            key(&far, &["allow", &key(home, &["show"])?])?;
        }
        let log = private.join("log");
        let mut command = site.command(haul);
        command.args(["serve", "--listen", &SocketAddr::new(site.address(), 0).to_string()]);
        serves.tell(&mut command, &private)?;
        command.env("HAUL_HOME", &far);
        let mut process = warden.spawn(silent(&mut command, &log)?)?;
        let address: SocketAddr = wait_for(&mut process, &log, || {
            let text = fs::read_to_string(&log).ok()?;
            // The line is whole once its end is there.
            let (_, behind) = text.split_once("listening on ")?;
            behind.split_once('\n')?.0.trim().parse().ok()
        })?;
        let line = key(&far, &["show"])?;
        for home in &homes {
            key(home, &["trust", &address.to_string(), &line])?;
        }
        Ok(Self { process, address, homes, home: far })
    }
}

impl SshServer {
    /// Makes a key of the host and one of the user, and starts the daemon.
    pub fn start(warden: &Warden, sshd: &Path, pair: &Pair, place: &Place) -> Result<Self> {
        let folder = place.fresh("ssh")?;
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
        let (address, shown) = (pair.address(End::B), folder.display());
        fs::copy(folder.join("user.pub"), folder.join("authorized_keys"))?;
        let host = fs::read_to_string(folder.join("host.pub"))?;
        fs::write(folder.join("known_hosts"), format!("[{address}]:{SSH_PORT} {host}"))?;
        let sftp = "Subsystem sftp internal-sftp";
        let daemon = format!(
            "Port {SSH_PORT}\nListenAddress {address}\nHostKey {shown}/host\nPidFile none\nUsePAM no\n\
             AuthorizedKeysFile {shown}/authorized_keys\nStrictModes no\nPermitRootLogin yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\n{sftp}\n"
        );
        fs::write(folder.join("sshd_config"), daemon)?;
        let client = format!(
            "Host bench\n  HostName {address}\n  Port {SSH_PORT}\n  User {user}\n  \
             IdentityFile {shown}/user\n  IdentitiesOnly yes\n  BatchMode yes\n  \
             UserKnownHostsFile {shown}/known_hosts\n  GlobalKnownHostsFile none\n  \
             StrictHostKeyChecking yes\n"
        );
        fs::write(folder.join("ssh_config"), client)?;
        let log = folder.join("sshd.log");
        let mut command = pair.command(End::B, sshd);
        command.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
        let mut process = warden.spawn(silent(&mut command, &log)?)?;
        wait_for(&mut process, &log, || says(&log, "listening on"))?;
        Ok(Self { process, folder, user, _folder: made })
    }

    /// The client's configuration.
    pub fn config(&self) -> PathBuf {
        self.folder.join("ssh_config")
    }
}

impl RsyncServer {
    /// Starts the daemon.
    pub fn start(warden: &Warden, rsync: &Path, pair: &Pair, place: &Place) -> Result<Self> {
        let folder = place.fresh("rsync")?;
        let config = folder.join("rsyncd.conf");
        let mut text = "use chroot = no\nreverse lookup = no\n".to_owned();
        // Root would otherwise become nobody, who may not write.
        if machine::output(Command::new("id").arg("-u"))? == "0" {
            text += "uid = root\ngid = root\n";
        }
        let target = place.target();
        text += &format!("[bench]\n  path = {}\n  read only = no\n", target.display());
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let log = folder.join("rsyncd.log");
        let mut command = pair.command(End::B, rsync);
        command.args(["--daemon", "--no-detach"]);
        command.arg(format!("--address={}", pair.address(End::B)));
        command.arg(format!("--port={RSYNC_PORT}"));
        command.arg(format!("--config={}", config.display()));
        command.arg(format!("--log-file={}", log.display()));
        let mut process = warden.spawn(silent(&mut command, &folder.join("log"))?)?;
        wait_for(&mut process, &log, || says(&log, "listening on port"))?;
        Ok(Self { process })
    }
}

impl UftpServer {
    /// Starts the receiver.
    pub fn start(warden: &Warden, uftpd: &Path, pair: &Pair, place: &Place) -> Result<Self> {
        let folder = place.fresh("uftp")?;
        let log = folder.join("log");
        let mut command = pair.command(End::B, uftpd);
        // In the foreground, without asking for the name of the sender, and with no word on each file.
        command.args(["-d", "-q", "-x", "1", "-I", "link0", "-B", "4194304", "-D"]);
        command.arg(place.target());
        command.arg("-F").arg(folder.join("status")).arg("-P").arg(folder.join("pid"));
        let mut process = warden.spawn(silent(&mut command, &log)?)?;
        // It does not say when it listens; the kernel does.
        let sockets = format!("/proc/{}/net/udp", process.id());
        wait_for(&mut process, &log, || says(Path::new(&sockets), &format!(":{UFTP_PORT:04X} ")))?;
        Ok(Self { process })
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

/// Whether a log has a text in it.
pub fn says(log: &Path, text: &str) -> Option<()> {
    fs::read_to_string(log).ok()?.contains(text).then_some(())
}
