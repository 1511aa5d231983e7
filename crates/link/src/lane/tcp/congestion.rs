//! Which congestion control of the kernel a connection uses. BBR holds its rate where packets get lost, and
//! pays with a timer for every burst; near by, and without loss, one that goes by loss carries the same
//! bytes for a third of the processor time. So that is what a near connection begins with, and it changes
//! over once packets are seen to be lost.
//!
//! The timer outlives a change: the kernel paces a connection that ever had BBR for as long as it lives. So
//! none has it before its path is known.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tcpinfo::TcpInfo;
use tokio::net::TcpStream;

/// Below this round-trip time a path is near. With loss below what counts, a connection of this length
/// still carries more than 600 Mbit/s.
const NEAR: Duration = Duration::from_millis(1);

/// Packets that had to be sent again before a path counts as lossy: so many, and one of so many.
const LEAST_LOST: u32 = 16;
const ONE_OF: u32 = 2000;

/// Of so many packets at least, and up to twice as many, the last ones are judged; of a connection that has
/// sent fewer, all. A path may begin to lose after hours without a loss.
const RECENT: u32 = 200_000;

/// What the kernel has counted of a connection, or of a part of it; it counts round and round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    sent: u32,
    again: u32,
}

impl Counts {
    fn since(self, earlier: Self) -> Self {
        let sent = self.sent.wrapping_sub(earlier.sent);
        Self { sent, again: self.again.wrapping_sub(earlier.again) }
    }
}

/// What a connection had sent at two earlier looks.
#[derive(Debug, Default)]
pub(super) struct Past {
    earlier: Counts,
    later: Counts,
}

impl Past {
    /// The counts of the last packets, at a look that finds these ones of all.
    fn recent(&mut self, now: Counts) -> Counts {
        let recent = now.since(self.earlier);
        if now.since(self.later).sent >= RECENT {
            (self.earlier, self.later) = (self.later, now);
        }
        recent
    }
}

/// What finds the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Control {
    /// From deliveries; a kernel without it keeps its own choice.
    Bbr,
    /// From loss: CUBIC, or Reno where this program may not have that.
    Loss,
}

impl Control {
    fn names(self) -> &'static [&'static [u8]] {
        match self {
            Self::Bbr => &[b"bbr"],
            Self::Loss => &[b"cubic", b"reno"],
        }
    }
}

/// Keeps a socket that is not connected yet from beginning with BBR where that is the system's own choice.
/// What a listening socket accepts begins with what the listening one has.
pub(super) fn prepare(socket: SockRef<'_>) {
    if present(&socket).is_ok_and(|present| present == Control::Bbr) {
        // A system that does not let us keeps its own.
        let _ = set(socket, Control::Loss);
    }
}

/// Sets what suits a connection that was just made.
pub(super) fn begin(socket: &TcpStream) {
    let near = TcpInfo::of(socket).is_ok_and(|info| is_near(info.min_rtt));
    // A system that does not let us keeps its own.
    let _ = set(SockRef::from(socket), if near { Control::Loss } else { Control::Bbr });
}

/// Looks at a connection again; to be called now and then. An error says that the system does not let us
/// change it.
pub(super) fn review(socket: &TcpStream, past: &mut Past) -> io::Result<()> {
    let Ok(info) = TcpInfo::of(socket) else { return Ok(()) };
    let present = present(&SockRef::from(socket))?;
    let recent = past.recent(Counts { sent: info.segments_out, again: info.retransmitted });
    match suitable(present, info.min_rtt, recent, info.retransmitted) {
        other if other != present => set(SockRef::from(socket), other),
        _ => Ok(()),
    }
}

/// What a connection should have that has `present`, sent `again` so many packets in its life, and counts
/// `recent` of the last. It changes back for no better figures, or it would go to and fro.
fn suitable(present: Control, min_rtt: Duration, recent: Counts, again: u32) -> Control {
    let lossy = recent.again >= LEAST_LOST && recent.again > recent.sent / ONE_OF;
    match present {
        Control::Loss if lossy || !is_near(min_rtt) => Control::Bbr,
        Control::Bbr if again < LEAST_LOST && is_near(min_rtt) => Control::Loss,
        present => present,
    }
}

/// A time of zero is one that the kernel does not know.
fn is_near(min_rtt: Duration) -> bool {
    !min_rtt.is_zero() && min_rtt < NEAR
}

fn present(socket: &SockRef<'_>) -> io::Result<Control> {
    let is_bbr = socket.tcp_congestion()?.starts_with(b"bbr");
    Ok(if is_bbr { Control::Bbr } else { Control::Loss })
}

fn set(socket: SockRef<'_>, control: Control) -> io::Result<()> {
    let mut result = Ok(());
    for name in control.names() {
        result = socket.set_tcp_congestion(name);
        if result.is_ok() {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(present: Control, micros: u64, sent: u32, again: u32, expected: Control) {
        let recent = Past::default().recent(Counts { sent, again });
        let found = suitable(present, Duration::from_micros(micros), recent, again);
        assert_eq!(found, expected, "{present:?}, {micros} us, {again} of {sent}");
    }

    #[test]
    fn near_and_clean_goes_by_loss_and_all_else_by_deliveries() {
        use Control::{Bbr, Loss};
        check(Bbr, 100, 0, 0, Loss);
        check(Bbr, 1_000, 0, 0, Bbr);
        check(Bbr, 0, 0, 0, Bbr);
        check(Loss, 100, 1_000, 15, Loss);
        check(Loss, 100, 1_000, 16, Bbr);
        check(Loss, 100, 100_000, 50, Loss);
        check(Loss, 100, 100_000, 51, Bbr);
        check(Loss, 20_000, 0, 0, Bbr);
    }

    #[test]
    fn a_lossy_path_does_not_go_to_and_fro() {
        check(Control::Bbr, 100, 4_000_000_000, 16, Control::Bbr);
    }

    /// How many packets it takes until a loss of 1 % is seen, behind so many without any.
    fn check_late(clean: u32, at_most: u32) {
        const STEP: u32 = 1000;
        let (mut past, mut now, mut found) = (Past::default(), Counts::default(), Control::Loss);
        let mut look = |clean: bool| {
            now.sent = now.sent.wrapping_add(STEP);
            now.again += if clean { 0 } else { STEP / 100 };
            found = suitable(found, Duration::from_micros(100), past.recent(now), now.again);
            found
        };
        assert!((0..clean / STEP).all(|_| look(true) == Control::Loss));
        let took = (1..).find(|_| look(false) == Control::Bbr).unwrap() * STEP;
        assert!(took <= at_most, "{took} packets behind {clean}");
    }

    #[test]
    fn loss_that_begins_late_is_seen_as_soon() {
        check_late(0, 2_000);
        check_late(100_000, 10_000);
        check_late(70_000_000, 25_000);
        check_late(u32::MAX - 10_000, 25_000);
    }

    #[test]
    fn rare_loss_of_a_long_life_counts_for_nothing() {
        let mut past = Past::default();
        for look in 1..100_000_u32 {
            let now = Counts { sent: look.wrapping_mul(60_000), again: look * 29 };
            let recent = past.recent(now);
            assert_eq!(suitable(Control::Loss, NEAR / 2, recent, now.again), Control::Loss);
        }
    }

    #[tokio::test]
    async fn a_connection_takes_what_is_chosen() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        // Every Linux lets everybody have Reno.
        set(SockRef::from(&socket), Control::Loss).unwrap();
        let name = SockRef::from(&socket).tcp_congestion().unwrap();
        assert!(Control::Loss.names().iter().any(|known| name.starts_with(known)), "{name:?}");
        review(&socket, &mut Past::default()).unwrap();
    }

    /// Neither side's connection had BBR at any time before it was known how near its peer is, not even
    /// where BBR is the system's own choice.
    #[tokio::test]
    async fn nothing_begins_with_bbr() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Where there is no BBR, this proves nothing and fails nothing.
        let _ = set(SockRef::from(&listener), Control::Bbr);
        prepare(SockRef::from(&listener));
        let dialing = tokio::net::TcpSocket::new_v4().unwrap();
        let _ = set(SockRef::from(&dialing), Control::Bbr);
        prepare(SockRef::from(&dialing));
        let dialed = dialing.connect(listener.local_addr().unwrap());
        let (dialed, accepted) = tokio::join!(dialed, listener.accept());
        for socket in [dialed.unwrap(), accepted.unwrap().0] {
            assert_eq!(present(&SockRef::from(&socket)).unwrap(), Control::Loss);
        }
    }
}
