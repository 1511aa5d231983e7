//! One network namespace: made, configured and removed by `ip` of iproute2.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{PairError, tun};

/// The only interface of each namespace besides `lo`.
const DEVICE: &str = "link0";

/// The smallest MTU of IPv6 (RFC 8200).
const IPV6_MTU: usize = 1280;

/// How often what runs in a namespace is killed before it is given up: a process may fork meanwhile.
const ROUNDS: usize = 10;

/// A network namespace, removed with what still runs in it when this is dropped.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    pub(super) fn create(name: String) -> Result<Self, PairError> {
        ip(&["netns", "add", &name], "")?;
        Ok(Self { name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Sets kernel parameters, with `.` between the parts of their names.
    pub(super) fn set(&self, sysctls: &[(String, String)]) -> Result<(), PairError> {
        for (key, value) in sysctls {
            let attempt = format!("set {key} to {value}");
            self.inside(&attempt, || {
                let path = format!("/proc/sys/{}", key.replace('.', "/"));
                let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
                rustix::io::write(&file, value.as_bytes())?;
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Makes the device whose packets this program carries.
    pub(super) fn make_tun(&self) -> Result<OwnedFd, PairError> {
        self.inside("make a TUN device", || tun::open(DEVICE))
    }

    /// Makes a device in each namespace; what goes into one comes out of the other.
    pub(super) fn join_by_veth(&self, other: &Self) -> Result<(), PairError> {
        let (here, there) = (self.name(), other.name());
        ip(
            &[
                "-n", here, "link", "add", DEVICE, "type", "veth", "peer", "name", DEVICE, "netns",
                there,
            ],
            "",
        )?;
        Ok(())
    }

    /// Brings up the device with its addresses, and makes it the way to everywhere.
    pub(super) fn configure(
        &self,
        mtu: usize,
        (v4, v6): (Ipv4Addr, Ipv6Addr),
        with_v6: bool,
    ) -> Result<(), PairError> {
        let mut batch = format!(
            "link set lo up\n\
             link set {DEVICE} mtu {mtu} txqueuelen 10000 up\n\
             address add {v4}/24 dev {DEVICE}\n\
             route add 0.0.0.0/0 dev {DEVICE}\n"
        );
        if with_v6 && mtu >= IPV6_MTU {
            batch +=
                &format!("address add {v6}/64 dev {DEVICE} nodad\nroute add ::/0 dev {DEVICE}\n");
        }
        ip(&["-n", &self.name, "-batch", "-"], &batch)?;
        Ok(())
    }

    /// Neither asks for link addresses nor says its own.
    pub(super) fn answer_nobody(&self) -> Result<(), PairError> {
        ip(&["-n", &self.name, "link", "set", DEVICE, "arp", "off"], "")?;
        Ok(())
    }

    /// The link address of its device.
    pub(super) fn link_address(&self) -> Result<String, PairError> {
        let words = ["-n", &self.name, "-j", "link", "show", DEVICE];
        let json = ip(&words, "")?;
        let address = json.split_once("\"address\":\"").and_then(|(_, rest)| rest.split_once('"'));
        let said = || PairError::Ip { words: words.join(" "), said: json.clone() };
        address.map(|(address, _)| address.to_owned()).ok_or_else(said)
    }

    /// Need not ask for the link address of another end.
    pub(super) fn know(&self, other: Ipv4Addr, address: &str) -> Result<(), PairError> {
        let other = other.to_string();
        let words = ["neighbour", "replace", &other, "lladdr", address, "dev", DEVICE];
        ip(&[&["-n", &self.name][..], &words, &["nud", "permanent"]].concat(), "")?;
        Ok(())
    }

    /// Packets that the kernel dropped because nobody read them in time; none if it does not tell.
    pub(super) fn unread(&self) -> Option<u64> {
        self.transmit("dropped")
    }

    /// Packets that have left; none if the kernel does not tell.
    pub(super) fn sent(&self) -> Option<u64> {
        self.transmit("packets")
    }

    fn transmit(&self, count: &str) -> Option<u64> {
        let json = ip(&["-n", &self.name, "-s", "-j", "link", "show", DEVICE], "").ok()?;
        let (_, sent) = json.split_once("\"tx\":")?;
        let (_, value) = sent.split_once(&format!("\"{count}\":"))?;
        value.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }

    /// Does something in a thread that has moved into the namespace, and ends with it: what a thread
    /// makes belongs to the namespace that it is in, and no other thread is to be moved.
    pub(super) fn inside<T: Send>(
        &self,
        attempt: &str,
        act: impl FnOnce() -> io::Result<T> + Send,
    ) -> Result<T, PairError> {
        let enter = || {
            let path = format!("/run/netns/{}", self.name);
            let namespace =
                rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            let network = LinkNameSpaceType::Network;
            move_into_link_name_space(namespace.as_fd(), Some(network))?;
            act()
        };
        let result = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().spawn_scoped(scope, enter);
            let panicked = || io::Error::other("the thread inside panicked");
            thread.and_then(|thread| thread.join().unwrap_or_else(|_| Err(panicked())))
        });
        result.map_err(|source| PairError::Inside {
            namespace: self.name.clone(),
            attempt: attempt.to_owned(),
            source,
        })
    }

    /// The processes that are inside.
    fn processes(&self) -> Vec<Pid> {
        let list = ip(&["netns", "pids", &self.name], "").unwrap_or_default();
        list.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)).collect()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for _ in 0..ROUNDS {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            for process in processes {
                // It fails when the process has ended by itself.
                let _ = kill_process(process, Signal::KILL);
            }
        }
        // It fails when somebody else has removed it; there is nobody to tell.
        let _ = ip(&["netns", "delete", &self.name], "");
    }
}

/// Runs `ip`, hands it `input`, and hands back what it says.
fn ip(words: &[&str], input: &str) -> Result<String, PairError> {
    let run = || -> io::Result<std::process::Output> {
        let mut command = Command::new("ip");
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut to) = child.stdin.take() {
            // One that ends without reading says why itself.
            let _ = to.write_all(input.as_bytes());
        }
        child.wait_with_output()
    };
    let shown = || words.join(" ");
    let output = run().map_err(|source| PairError::Start { words: shown(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(PairError::Ip { words: shown(), said })
}
