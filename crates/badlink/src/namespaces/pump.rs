//! Carries packets from one TUN device to the other, in a thread for each direction, and how the two
//! threads are told of changes. What happens to a packet is decided by the model alone.

use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::PumpStats;
use crate::model::{Nanos, Profile};
use crate::wire::Wire;
use crate::words::Settings;

/// Packets read before those that are due have their turn.
const BATCH: usize = 32;
/// How long to sleep at most, to notice a change or the end.
const NAP: Nanos = 10_000_000;
/// A packet that is due within this time at least, and at most, is waited for together with those that follow it: a
/// hundredth of the delay. Network cards of such rates gather what arrives for 50 to 250 us before they interrupt.
const COALESCE: (Nanos, Nanos) = (80_000, 250_000);
/// How often the figures are told while packets pass.
const TELL_EVERY: Nanos = 5_000_000;
/// Bytes that may be under way in each direction: a second at 2 Gbit/s.
const UNDER_WAY_BYTES: usize = 256 << 20;
/// The protocol numbers of TCP and UDP.
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// What both threads share with the owner of the link.
#[derive(Debug)]
pub(super) struct Control {
    settings: Mutex<Settings>,
    /// Goes up with each change.
    wanted: AtomicU64,
    /// The change that each direction goes by.
    seen: [AtomicU64; 2],
    stop: AtomicBool,
    stats: [Mutex<PumpStats>; 2],
}

impl Control {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings: Mutex::new(settings),
            wanted: AtomicU64::new(1),
            seen: [AtomicU64::new(0), AtomicU64::new(0)],
            stop: AtomicBool::new(false),
            stats: [Mutex::default(), Mutex::default()],
        }
    }

    /// Whether both directions have taken the change within `at_most`.
    pub(super) fn change(&self, settings: Settings, at_most: Duration) -> bool {
        let number = {
            let mut current = lock(&self.settings);
            *current = settings;
            self.wanted.fetch_add(1, Ordering::AcqRel) + 1
        };
        let began = Instant::now();
        let taken = || self.seen.iter().all(|seen| seen.load(Ordering::Acquire) >= number);
        while !taken() {
            if began.elapsed() > at_most {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(super) fn stats(&self) -> [PumpStats; 2] {
        [*lock(&self.stats[0]), *lock(&self.stats[1])]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is replaced whole, so it holds also after a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One direction: 0 is from A to B.
pub(super) struct Direction {
    at: usize,
    control: Arc<Control>,
    /// The change that it goes by.
    number: u64,
    /// Protocols that vanish.
    dropped: Vec<u8>,
    down: bool,
    /// How long packets wait for each other.
    coalesce: Nanos,
    wire: Wire<()>,
    stats: PumpStats,
    buffer: Vec<u8>,
    began: Instant,
    told: Nanos,
}

impl Direction {
    pub(super) fn new(at: usize, seed: u64, mtu: usize, control: &Arc<Control>) -> Self {
        let settings = lock(&control.settings).clone();
        Self {
            at,
            control: Arc::clone(control),
            number: 0,
            dropped: dropped(&settings),
            down: settings.down,
            coalesce: coalesce(&settings.profiles[at]),
            wire: Wire::new(settings.profiles[at].clone(), seed, UNDER_WAY_BYTES),
            stats: PumpStats::default(),
            buffer: vec![0; mtu],
            began: Instant::now(),
            told: 0,
        }
    }

    /// Carries packets until told to stop.
    pub(super) fn run(mut self, from: &OwnedFd, to: &OwnedFd) {
        be_punctual();
        while !self.control.stop.load(Ordering::Acquire) {
            self.take_change();
            let now = self.now();
            let mut idle = !self.send_due(now, to);
            idle &= !self.receive(now, from, to);
            if idle || now.saturating_sub(self.told) > TELL_EVERY {
                self.tell(now);
            }
            if idle {
                match self.wire.next_due() {
                    // While packets pass they go in small bursts, as from any network card: to wake for each of them would
                    // take much of the processors that the ends need too.
                    Some(at) if at.saturating_sub(self.now()) < self.coalesce => {
                        std::thread::sleep(Duration::from_nanos(self.coalesce));
                    }
                    Some(at) => wait_readable(from, at.saturating_sub(self.now()).min(NAP)),
                    None => wait_readable(from, NAP),
                }
            }
        }
        self.tell(self.now());
    }

    fn now(&self) -> Nanos {
        Nanos::try_from(self.began.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    fn take_change(&mut self) {
        let wanted = self.control.wanted.load(Ordering::Acquire);
        if wanted == self.number {
            return;
        }
        let settings = lock(&self.control.settings).clone();
        self.wire.set_profile(settings.profiles[self.at].clone());
        self.coalesce = coalesce(&settings.profiles[self.at]);
        (self.dropped, self.down) = (dropped(&settings), settings.down);
        if self.down {
            self.wire.cut();
        }
        self.number = wanted;
        self.control.seen[self.at].store(wanted, Ordering::Release);
    }

    /// Whether anything was due.
    fn send_due(&mut self, now: Nanos, to: &OwnedFd) -> bool {
        let mut any = false;
        while let Some(packet) = self.wire.due(now) {
            any = true;
            let late = Duration::from_nanos(now.saturating_sub(packet.at));
            self.stats.worst_late = self.stats.worst_late.max(late);
            self.stats.total_late += late;
            let accepted = rustix::io::write(to, &packet.payload).is_ok();
            self.wire.count_sent(packet.payload.len(), accepted);
            self.wire.recycle(packet.payload);
        }
        any
    }

    /// Whether anything came.
    fn receive(&mut self, now: Nanos, from: &OwnedFd, to: &OwnedFd) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut any = false;
        for _ in 0..BATCH {
            let Ok(len) = rustix::io::read(from, &mut buffer[..]) else { break };
            any = true;
            let packet = &mut buffer[..len];
            self.wire.stats.packets += 1;
            self.wire.stats.bytes += len as u64;
            if self.down {
                self.wire.stats.blocked += 1;
                continue;
            }
            if protocol(packet).is_some_and(|protocol| self.dropped.contains(&protocol)) {
                self.wire.stats.filtered += 1;
                continue;
            }
            for _ in 0..self.wire.admit(now, (), packet) {
                let accepted = rustix::io::write(to, packet).is_ok();
                self.wire.count_sent(len, accepted);
            }
        }
        self.buffer = buffer;
        any
    }

    fn tell(&mut self, now: Nanos) {
        self.told = now;
        self.stats.link = self.wire.stats;
        self.stats.under_way = self.wire.under_way() as u64;
        *lock(&self.control.stats[self.at]) = self.stats;
    }
}

fn coalesce(profile: &Profile) -> Nanos {
    (profile.delay / 100).clamp(COALESCE.0, COALESCE.1)
}

/// The protocols that vanish on such a link.
fn dropped(settings: &Settings) -> Vec<u8> {
    let all = [(settings.drop_tcp, TCP), (settings.drop_udp, UDP)];
    all.into_iter().filter(|(drop, _)| *drop).map(|(_, protocol)| protocol).collect()
}

/// What an IP packet carries (RFC 791, RFC 8200). Fragments count too; other headers of IPv6 between are
/// not looked behind.
pub(super) fn protocol(packet: &[u8]) -> Option<u8> {
    const FRAGMENT: u8 = 44;
    match packet.first()? >> 4 {
        4 => packet.get(9).copied(),
        6 => match *packet.get(6)? {
            FRAGMENT => packet.get(40).copied(),
            next => Some(next),
        },
        _ => None,
    }
}

/// A link does not wait for the programs at its ends to leave it a processor. Without the right to that
/// the link still works, only less exactly, and its figures say how exactly.
fn be_punctual() {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut command = Command::new("chrt");
    command.args(["-f", "-p", "1", &thread]);
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    // By default timers may be 50 us late.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}

fn wait_readable(device: &OwnedFd, at_most: Nanos) {
    let timeout = Timespec { tv_sec: 0, tv_nsec: at_most as _ };
    let mut polled = [PollFd::new(device, PollFlags::IN)];
    // An interrupted sleep is a short one.
    let _ = poll(&mut polled, Some(&timeout));
}
