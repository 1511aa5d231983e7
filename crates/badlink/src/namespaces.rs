//! Two new network namespaces, A and B, joined by a bad link or by a clean one, for programs that are
//! tested as they are. Needs root, iproute2 and, for a bad link, `/dev/net/tun`. There is no other way
//! out of either namespace. Both are removed, with every process that is left in them, when the
//! [`Pair`] is dropped, also by a panic; only SIGKILL leaves them (then: `ip netns delete NAME`).

mod end;
mod pump;
mod tun;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::wire::DirectionStats;
use crate::words::{Change, Settings, WordsError};
use end::Namespace;
use pump::{Control, Direction};

/// Tells apart the links that one process makes.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The smallest MTU of IPv4 (RFC 791) and the largest of any device.
const MTUS: std::ops::RangeInclusive<usize> = 68..=65_535;

/// How long a change may take to reach the link.
const CHANGE_AT_MOST: Duration = Duration::from_secs(10);

/// One of the two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The first, 10.99.0.1 and fd99::1.
    A,
    /// The second, 10.99.0.2 and fd99::2.
    B,
}

/// What a pair is made of.
#[derive(Clone, Debug)]
pub struct PairOptions {
    /// What the link between two TUN devices does; none for a clean joint: a pair of virtual Ethernet
    /// devices of the kernel, as fast as the machine, which loses nothing.
    pub model: Option<Settings>,
    /// Names of the namespaces; none to make some up that are not used.
    pub names: Option<[String; 2]>,
    /// Bytes that an IP packet may have.
    pub mtu: usize,
    /// All chance comes from here.
    pub seed: u64,
    /// Set in both namespaces, such as `net.ipv4.tcp_congestion_control` and `cubic`.
    pub sysctls: Vec<(String, String)>,
    /// As across a diode, B need not send anything, and what is sent to A in vain does not arrive: there is
    /// no IPv6, and A knows the link address of B, but B has none of A. So [`Pair::sent`] of B counts what
    /// programs there send, and nothing else.
    pub one_way: bool,
}

impl Default for PairOptions {
    /// A perfect link with an Ethernet MTU.
    fn default() -> Self {
        Self {
            model: Some(Settings::default()),
            names: None,
            mtu: 1500,
            seed: 1,
            sysctls: Vec::new(),
            one_way: false,
        }
    }
}

/// What became of the packets of one direction of a bad link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PumpStats {
    /// As the model decided.
    pub link: DirectionStats,
    /// Neither delivered nor lost yet.
    pub under_way: u64,
    /// Packets that the kernel dropped because they were not read in time: this machine was too slow
    /// for the link.
    pub unread: u64,
    /// By how much packets were delivered later than the model wanted, at worst.
    pub worst_late: Duration,
    /// The sum of that.
    pub total_late: Duration,
}

/// What became of all packets. A clean joint counts nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairStats {
    /// From A to B.
    pub a_to_b: PumpStats,
    /// From B to A.
    pub b_to_a: PumpStats,
}

/// Why a pair could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The MTU is out of range.
    #[error("an MTU of {mtu} is not possible, only 68 to 65535")]
    Mtu {
        /// What was asked for.
        mtu: usize,
    },
    /// A command of iproute2 could not be started.
    #[error("cannot start `ip {words}`")]
    Start {
        /// Its words.
        words: String,
        /// Why.
        source: io::Error,
    },
    /// A command of iproute2 failed.
    #[error("ip {words}: {said}")]
    Ip {
        /// Its words.
        words: String,
        /// What it said.
        said: String,
    },
    /// A system call or a setting failed inside of a namespace.
    #[error("{namespace}: cannot {attempt}")]
    Inside {
        /// Which namespace.
        namespace: String,
        /// What was attempted.
        attempt: String,
        /// Why.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread of the link")]
    Thread(#[source] io::Error),
    /// A change is not understood.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// A change of a clean joint, which has no settings, or of a link whose threads have ended.
    #[error("the link between {a} and {b} cannot be changed")]
    Fixed {
        /// The first namespace.
        a: String,
        /// The second.
        b: String,
    },
}

/// Two namespaces and the link between them. Dropping it ends the link, kills what still runs in the
/// namespaces and removes them.
#[derive(Debug)]
pub struct Pair {
    // The threads hold the devices, and must have ended before the namespaces go.
    link: Option<Link>,
    ends: [Namespace; 2],
    settings: Option<Settings>,
}

/// The threads of a bad link, one for each direction.
#[derive(Debug)]
struct Link {
    control: Arc<Control>,
    threads: Vec<JoinHandle<()>>,
    /// Kept when the threads have ended: the kernel's figures go with a device.
    devices: [Arc<OwnedFd>; 2],
}

impl Pair {
    /// Makes the namespaces and joins them.
    ///
    /// # Errors
    /// Without root, iproute2 or TUN devices, and when a name is taken. Nothing is left behind.
    pub fn start(options: PairOptions) -> Result<Self, PairError> {
        if !MTUS.contains(&options.mtu) {
            return Err(PairError::Mtu { mtu: options.mtu });
        }
        let [a, b] = options.names.clone().unwrap_or_else(fresh_names);
        let mut sysctls = options.sysctls;
        if options.one_way {
            let without = |which: &str| format!("net.ipv6.conf.{which}.disable_ipv6");
            sysctls.extend(["all", "default"].map(|which| (without(which), "1".to_owned())));
        }
        // Each exists before the next step, so that an error on the way removes it.
        let ends = [Namespace::create(a)?, Namespace::create(b)?];
        for end in &ends {
            end.set(&sysctls)?;
        }
        let (link, settings) = match options.model {
            None => {
                ends[0].join_by_veth(&ends[1])?;
                (None, None)
            }
            Some(settings) => {
                let devices = [ends[0].make_tun()?, ends[1].make_tun()?];
                (Some((devices, settings.clone())), Some(settings))
            }
        };
        for (end, addresses) in ends.iter().zip(ADDRESSES) {
            end.configure(options.mtu, addresses, !options.one_way)?;
        }
        if options.one_way && settings.is_none() {
            ends[1].answer_nobody()?;
            ends[0].know(ADDRESSES[1].0, &ends[1].link_address()?)?;
        }
        let link = match link {
            Some((devices, settings)) => {
                Some(Link::start(devices, settings, options.mtu, options.seed)?)
            }
            None => None,
        };
        Ok(Self { link, ends, settings })
    }

    /// The name of a namespace, for `ip netns exec`.
    #[must_use]
    pub fn name(&self, end: End) -> &str {
        self.ends[end as usize].name()
    }

    /// The IPv4 address of an end.
    #[must_use]
    pub fn address(&self, end: End) -> IpAddr {
        IpAddr::V4(ADDRESSES[end as usize].0)
    }

    /// The IPv6 address of an end; it works with an MTU of at least 1280.
    #[must_use]
    pub fn address6(&self, end: End) -> IpAddr {
        IpAddr::V6(ADDRESSES[end as usize].1)
    }

    /// A command that runs inside of a namespace; the process that it starts becomes `program` itself.
    #[must_use]
    pub fn command(&self, end: End, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name(end)]).arg(program);
        command
    }

    /// Sets a kernel parameter of one namespace, with `.` between the parts of its name. What is made
    /// from now on goes by it.
    ///
    /// # Errors
    /// There is no such parameter, or the kernel refuses the value.
    pub fn set_sysctl(&self, end: End, key: &str, value: &str) -> Result<(), PairError> {
        self.ends[end as usize].set(&[(key.to_owned(), value.to_owned())])
    }

    /// What the link does now; none for a clean joint.
    #[must_use]
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// Changes one thing; when this returns, both directions go by it.
    ///
    /// # Errors
    /// The change is not understood, or the joint is a clean one.
    pub fn change(&mut self, change: &Change) -> Result<(), PairError> {
        let mut settings = self.settings.clone().ok_or_else(|| self.fixed())?;
        settings.apply(change)?;
        self.set(settings)
    }

    /// Changes everything; when this returns, both directions go by it.
    ///
    /// # Errors
    /// The joint is a clean one, or a direction does not take the change in time.
    pub fn set(&mut self, settings: Settings) -> Result<(), PairError> {
        let link = self.link.as_ref().ok_or_else(|| self.fixed())?;
        if !link.control.change(settings.clone(), CHANGE_AT_MOST) {
            return Err(self.fixed());
        }
        self.settings = Some(settings);
        Ok(())
    }

    /// What became of the packets so far; what is read from the threads may be some milliseconds old.
    #[must_use]
    pub fn stats(&self) -> PairStats {
        let Some(link) = &self.link else { return PairStats::default() };
        let [mut a_to_b, mut b_to_a] = link.control.stats();
        a_to_b.unread = self.ends[0].unread().unwrap_or(0);
        b_to_a.unread = self.ends[1].unread().unwrap_or(0);
        PairStats { a_to_b, b_to_a }
    }

    /// Ends the link and removes the namespaces; what became of the packets.
    pub fn stop(mut self) -> PairStats {
        if let Some(link) = &mut self.link {
            link.end();
        }
        self.stats()
    }

    /// Packets that have left an end since it was made, whoever there sent them; none if the kernel does
    /// not tell.
    #[must_use]
    pub fn sent(&self, end: End) -> Option<u64> {
        self.ends[end as usize].sent()
    }

    fn fixed(&self) -> PairError {
        PairError::Fixed { a: self.name(End::A).to_owned(), b: self.name(End::B).to_owned() }
    }
}

const ADDRESSES: [(Ipv4Addr, Ipv6Addr); 2] = [
    (Ipv4Addr::new(10, 99, 0, 1), Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1)),
    (Ipv4Addr::new(10, 99, 0, 2), Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2)),
];

fn fresh_names() -> [String; 2] {
    let (process, number) = (std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    ["a", "b"].map(|end| format!("bl{process}-{number}{end}"))
}

impl Link {
    fn start(
        devices: [OwnedFd; 2],
        settings: Settings,
        mtu: usize,
        seed: u64,
    ) -> Result<Self, PairError> {
        let control = Arc::new(Control::new(settings));
        // Owned from the first thread on, so that an error with the second ends the first.
        let mut link = Self {
            control: Arc::clone(&control),
            threads: Vec::new(),
            devices: devices.map(Arc::new),
        };
        for at in 0..2 {
            let (from, to) = (Arc::clone(&link.devices[at]), Arc::clone(&link.devices[1 - at]));
            let direction = Direction::new(at, seed.wrapping_add(at as u64), mtu, &control);
            let thread = std::thread::Builder::new().name(format!("badlink-{at}"));
            let thread = thread.spawn(move || direction.run(&from, &to));
            link.threads.push(thread.map_err(PairError::Thread)?);
        }
        Ok(link)
    }

    fn end(&mut self) {
        self.control.stop();
        for thread in self.threads.drain(..) {
            // A direction that panicked has told so, and its figures are those before.
            let _ = thread.join();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Display for PumpStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let link = &self.link;
        write!(f, "sent={} bytes={}", link.packets, link.bytes)?;
        write!(f, " delivered={} bytes={}", link.delivered, link.delivered_bytes)?;
        let counts = [
            ("lost", link.lost),
            ("burst-lost", link.burst_lost),
            ("queue-full", link.queue_full),
            ("policed", link.policed),
            ("blocked", link.blocked),
            ("filtered", link.filtered),
            ("duplicated", link.duplicated),
            ("corrupted", link.corrupted),
            ("reordered", link.reordered),
            ("refused", link.refused),
            ("under-way", self.under_way),
            ("UNREAD", self.unread),
        ];
        for (name, count) in counts.iter().filter(|(_, count)| *count > 0) {
            write!(f, " {name}={count}")?;
        }
        let mean = self.total_late.as_micros() / u128::from(link.delivered.max(1));
        write!(f, " late-us: mean={mean} worst={}", self.worst_late.as_micros())
    }
}

#[cfg(test)]
mod tests;
