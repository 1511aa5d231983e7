//! What tests need besides Rust: real peers. On Debian as root they are installed; elsewhere what is
//! missing is said, and the tests that need it are left out by name, so that the runner counts them as
//! skipped and never as passed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{pyzmq, steps};

/// A program that some tests need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// What it is called.
    pub program: &'static str,
    /// The Debian package that it is in.
    pub package: &'static str,
    /// The piece of a test's path that says that the test needs it.
    pub marker: &'static str,
    /// Words with which it succeeds only where it may do what tests ask of it; none if being there is
    /// enough.
    pub trial: &'static [&'static str],
}

/// Everything that tests need. A test that needs one of these has its marker in its name or module.
pub const TOOLS: &[Tool] = &[
    Tool { program: "rsync", package: "rsync", marker: "needs_rsync", trial: &[] },
    Tool { program: "ssh", package: "openssh-client", marker: "needs_ssh", trial: &[] },
    Tool { program: "sshd", package: "openssh-server", marker: "needs_sshd", trial: &[] },
    // Root, and mount namespaces: what is mounted for the trial is seen by nobody else.
    Tool {
        program: "unshare",
        package: "util-linux",
        marker: "needs_root",
        trial: &["-m", "mount", "-t", "tmpfs", "none", "/tmp"],
    },
    // Not a program: a Python of its own, which the package is needed to make.
    Tool { program: pyzmq::NAME, package: "python3-venv", marker: "needs_pyzmq", trial: &[] },
    // Root, network namespaces and TUN devices: the one made for the trial goes with its namespace.
    Tool { program: "ip", package: "iproute2", marker: "needs_tun", trial: &[] },
    Tool {
        program: "unshare",
        package: "util-linux",
        marker: "needs_tun",
        trial: &["-n", "ip", "tuntap", "add", "mode", "tun", "name", "trial"],
    },
];

/// Installs what is missing where that may be done, and hands back what is missing still.
pub fn provide(install: bool) -> Result<Vec<Tool>> {
    let missing = missing();
    // A program that is there and may not do its work is not mended by a package.
    let absent = missing.iter().filter(|tool| find(tool.program).is_none());
    let packages: Vec<&str> = absent.map(|tool| tool.package).collect();
    if packages.is_empty() || !install {
        return Ok(missing);
    }
    // Without a network the tests that need these are skipped; the others still tell something.
    let warn = |result: Result<()>| {
        if let Err(error) = result {
            eprintln!("warning: {error:#}");
        }
    };
    if is_debian_root() {
        eprintln!("installing {} for the tests", packages.join(", "));
        warn(self::install(&packages));
    }
    if missing.iter().any(|tool| tool.program == pyzmq::NAME) {
        eprintln!("making a Python with pyzmq for the tests");
        warn(pyzmq::make());
    }
    Ok(self::missing())
}

/// Installs packages on Debian as root; elsewhere it says that it cannot.
pub fn install(packages: &[&str]) -> Result<()> {
    if !is_debian_root() {
        bail!("{} can be installed here only by hand", packages.join(", "));
    }
    apt_get(&["update", "-q"])?;
    let mut words = vec!["install", "-q", "-y", "--no-install-recommends"];
    words.extend(packages);
    apt_get(&words)
}

fn missing() -> Vec<Tool> {
    TOOLS.iter().copied().filter(|tool| !works(tool)).collect()
}

fn works(tool: &Tool) -> bool {
    if tool.program == pyzmq::NAME {
        return pyzmq::is_there();
    }
    let Some(program) = find(tool.program) else { return false };
    let tried = || Command::new(program).args(tool.trial).output();
    tool.trial.is_empty() || tried().is_ok_and(|output| output.status.success())
}

/// Where a program is. The folders of system programs are not in every user's PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn is_debian_root() -> bool {
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    root && Path::new("/etc/debian_version").exists()
}

fn apt_get(words: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
    steps::succeed(command)
}
