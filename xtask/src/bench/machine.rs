//! What the figures were taken on and with: the machine, and the versions of the programs. It also finds
//! programs, because the folders of system programs are not in every user's PATH.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::field::Programs;
use super::warden::sysctl_path;
use crate::tools;

/// Behind the commit in haul's version when the tree has changes that no commit holds.
pub const CHANGED: &str = " and changes";

/// The load of a machine that does next to nothing. What a bench itself did a moment ago counts too.
const QUIET: f64 = 1.5;

/// Where a program is.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The value of a kernel parameter; none if there is no such.
pub fn sysctl(key: &str) -> Option<String> {
    let text = fs::read_to_string(sysctl_path(key)).ok()?;
    Some(text.trim().to_owned())
}

/// What copies are compared with, and the Debian packages that hold it.
pub const RIVALS: [(&str, &str); 6] = [
    ("rsync", "rsync"),
    ("ssh", "openssh-client"),
    ("sshd", "openssh-server"),
    ("rclone", "rclone"),
    ("uftp", "uftp"),
    ("ping", "iputils-ping"),
];

/// Installs programs, where that may be done. What is missing after that is said by whoever looks for it.
pub fn install(programs: &[(&str, &str)]) {
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return;
    }
    if let Err(error) = tools::install(&missing) {
        eprintln!("warning: {error:#}");
    }
}

/// Only root may make network namespaces.
pub fn need_root() -> Result<()> {
    if output(Command::new("id").arg("-u"))? != "0" {
        bail!("network namespaces need root: run this bench as root");
    }
    Ok(())
}

/// What a command prints, without the blanks around it; a failure is an error.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{program}: {}: {}", output.status, errors.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Processor, memory and kernel, one line each.
pub fn describe() -> Vec<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = field(&cpus, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = field(&memory, "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0);
    let buffers = ["rmem_max", "wmem_max"].map(|name| {
        let text = fs::read_to_string(format!("/proc/sys/net/core/{name}"));
        text.map_or_else(|_| "?".to_owned(), |text| text.trim().to_owned())
    });
    let flags = field(&cpus, "flags").unwrap_or_default();
    let virtual_machine = flags.split_whitespace().any(|flag| flag == "hypervisor");
    vec![
        format!(
            "Processor: {model}, {cores} cores{}",
            if virtual_machine { ", a virtual machine" } else { "" }
        ),
        format!("Memory: {:.0} GiB", kibibytes as f64 / (1 << 20) as f64),
        format!("Kernel: {}", first_line(Command::new("uname").arg("-sr"))),
        format!(
            "TCP congestion control unless a table says otherwise: {}",
            sysctl("net.ipv4.tcp_congestion_control").unwrap_or_else(|| "?".to_owned())
        ),
        format!("UDP buffers that the kernel grants: {} / {}", buffers[0], buffers[1]),
    ]
}

/// How many programs want to run, on average of the last minute, where that disturbs what is measured.
pub fn load() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let load: f64 = text.split_whitespace().next()?.parse().ok()?;
    (load > QUIET).then(|| format!("a load of {load} in the minute before"))
}

/// The versions of the programs that are there.
pub fn versions(programs: &Programs) -> Vec<String> {
    let mut versions = versions_of_haul(&programs.haul);
    versions.push(version_of_ssh());
    for program in ["rsync", "rclone", "cp"] {
        versions.push(first_line(Command::new(program).arg("--version")));
    }
    if let Some(qcp) = &programs.qcp {
        versions.push(first_line(Command::new(qcp).arg("--version")));
    }
    versions.push(version_of_package("uftp"));
    versions.retain(|version| !version.is_empty());
    versions
}

/// The version of ssh.
pub fn version_of_ssh() -> String {
    // It is printed to standard error.
    first_line(Command::new("ssh").arg("-V"))
}

/// The versions of haul, with its commit, and of what it was built with.
pub fn versions_of_haul(haul: &Path) -> Vec<String> {
    let mut version = first_line(Command::new(haul).arg("--version"));
    let commit = first_line(Command::new("git").args(["rev-parse", "--short", "HEAD"]));
    if !commit.is_empty() {
        let mut status = Command::new("git");
        status.args(["status", "--porcelain"]).current_dir(crate::steps::root());
        let changed = output(&mut status).is_ok_and(|text| has_changes(&text));
        version += &format!(" ({commit}{})", if changed { CHANGED } else { "" });
    }
    vec![version, first_line(Command::new("rustc").arg("--version"))]
}

/// The version of a program that has no word for it, as Debian knows it; nothing if it does not.
pub fn version_of_package(package: &str) -> String {
    let format = format!("{package} ${{Version}}");
    let Ok(output) = Command::new("dpkg-query").args(["-W", "-f", &format, package]).output()
    else {
        return String::new();
    };
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Whether what `git status --porcelain` says is more than pages of the documentation, which no figure
/// depends on; the page of this bench is one of them.
fn has_changes(status: &str) -> bool {
    let is_page = |path: &str| path.trim().trim_start_matches('"').starts_with("docs/");
    let mut paths = status.lines().filter_map(|line| Some(line.trim_start().split_once(' ')?.1));
    // A file that was renamed has two names.
    paths.any(|path| !path.split(" -> ").all(is_page))
}

/// The first line of what a program prints; nothing when it is not there.
fn first_line(command: &mut Command) -> String {
    let Ok(output) = command.current_dir(crate::steps::root()).output() else {
        return String::new();
    };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text);
    // The blanks in a version's line are for alignment.
    text.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The value of a line such as `model name : …` or `MemTotal: …`.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start().strip_prefix(':')?.trim().to_owned())
}

/// Bytes of memory that programs may have.
pub fn memory_available() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// So much memory is ready for a run: for the copy, for both ends and for what waits between them.
const WARM: u64 = 3 << 30;

/// Writes to memory and gives it back, so that what runs next gets it again at once. Where the machine is a guest,
/// its host may take back what is free, and the first touch of each page then costs more than what is measured.
pub fn warm_memory() {
    let bytes = WARM.min(memory_available() / 2);
    std::hint::black_box(vec![1_u8; usize::try_from(bytes).unwrap_or(0)]);
}

#[cfg(test)]
mod tests;
