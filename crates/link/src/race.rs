//! Which kind of lane a peer is reached by. Both kinds are tried at once, and the first that answers is
//! taken unless the other would be the better one on such a path and may still come: TCP where the peer
//! is near, for it costs less, and QUIC where it is far, for it bears loss.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::{DialOptions, HostCheck, Identity, Lane, LaneKind, LinkError, Target, dial};

/// A peer within this round-trip time is near: loss is seldom there, and repaired at once.
pub const NEAR: Duration = Duration::from_millis(5);
/// How long a far peer's QUIC is waited for when TCP has answered: packets of its handshake may have
/// been lost, but a network that blocks UDP is to cost less than a second.
const BLOCKED_AFTER: Duration = Duration::from_millis(900);
/// The least that a lost first packet of QUIC needs to be repeated (after 0.3 s, and after 0.25 s by another
/// attempt) and answered.
const LEAST_PATIENCE: Duration = Duration::from_millis(300);
/// How long TCP is waited for when a near peer's QUIC has answered.
const NEAR_PATIENCE: Duration = Duration::from_millis(20);

/// How long QUIC is waited for where the port is closed for TCP, which a daemon opens with the other: by
/// then, with one address and the usual intervals, five attempts were begun, and a first packet of QUIC was sent
/// some fourteen times, all of which must be lost on the way for a daemon that is there to be missed. Of several
/// addresses each has its part of them, and where a path is remembered whose round trip is above 125 ms there are
/// fewer: three attempts at 300 ms.
const REFUSED_AFTER: Duration = Duration::from_secs(2);
/// On a path that is slow even so: as often as long as the refusal took.
const REFUSED_TRIPS: u32 = 5;

/// The kinds of lane that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkChoice {
    /// Whichever gets through and suits the path.
    #[default]
    Auto,
    /// QUIC, also near by, unless only TCP gets through: for a pace that TCP cannot keep as well.
    PreferQuic,
    /// This one alone.
    Only(LaneKind),
}

/// Connects to a host by the kind of lane that suits the path best. The lanes that lose are closed.
pub async fn reach(
    target: &Target,
    identity: &Identity,
    check: &dyn HostCheck,
    options: &DialOptions,
    choice: LinkChoice,
) -> Result<Lane, LinkError> {
    let of = |kind| DialOptions { kind, ..options.clone() };
    let (quic, tcp) = match choice {
        LinkChoice::Only(kind) => return dial(target, identity, check, &of(kind)).await,
        LinkChoice::Auto | LinkChoice::PreferQuic => (of(LaneKind::Quic), of(LaneKind::Tcp)),
    };
    let quic = dial(target, identity, check, &quic);
    let tcp = dial(target, identity, check, &tcp);
    race(target, choice == LinkChoice::Auto, quic, tcp).await
}

/// What decides between two lanes.
trait Contestant {
    fn kind(&self) -> LaneKind;
    fn rtt(&self) -> Duration;
}

impl Contestant for Lane {
    fn kind(&self) -> LaneKind {
        self.kind()
    }

    fn rtt(&self) -> Duration {
        self.stats().rtt
    }
}

/// The lane that is taken, where `suits_near` says whether TCP is wanted to a peer that is near.
async fn race<L: Contestant>(
    target: &Target,
    suits_near: bool,
    quic: impl Future<Output = Result<L, LinkError>>,
    tcp: impl Future<Output = Result<L, LinkError>>,
) -> Result<L, LinkError> {
    let began = Instant::now();
    let (mut quic, mut tcp) = (std::pin::pin!(quic), std::pin::pin!(tcp));
    let mut failed: Option<LinkError> = None;
    let mut reached: Option<(L, Instant)> = None;
    let (mut quic_ended, mut tcp_ended) = (false, false);
    // When QUIC is given up because nobody is there for TCP.
    let mut alone_until: Option<Instant> = None;
    loop {
        let until = reached.as_ref().map(|(_, until)| *until);
        let dialled = tokio::select! {
            dialled = &mut quic, if !quic_ended => {
                quic_ended = true;
                dialled
            }
            dialled = &mut tcp, if !tcp_ended => {
                tcp_ended = true;
                dialled
            }
            () = sleep_until(until.unwrap_or(began)), if until.is_some() => {
                return settle(reached, failed, target);
            }
            () = sleep_until(alone_until.unwrap_or(began)), if alone_until.is_some() => {
                let (peer, after) = (crate::PeerName::new(target), began.elapsed());
                return Err(LinkError::NobodyServes { peer, after });
            }
        };
        match (dialled, reached.take()) {
            (Ok(lane), None) => {
                let rtt = lane.rtt();
                let near = suits_near && rtt < NEAR;
                let patience = patience(lane.kind(), near, rtt, began.elapsed());
                if quic_ended && tcp_ended || patience.is_zero() {
                    return Ok(lane);
                }
                reached = Some((lane, Instant::now() + patience));
            }
            // It was waited for because it suits the path better. The other is closed with its handle.
            (Ok(lane), Some(_)) => return Ok(lane),
            (Err(_), Some((lane, _))) => return Ok(lane),
            // The wrong key is not made right by another kind of lane.
            (Err(error @ LinkError::HostKey { .. }), None) => return Err(error),
            (Err(error), None) => {
                if is_closed_port(&error) && !quic_ended {
                    let after = REFUSED_AFTER.max(began.elapsed() * REFUSED_TRIPS);
                    alone_until = Some(began + after);
                }
                // That a port is closed says less than why nobody is let in.
                let tells_more = failed.as_ref().is_none_or(|first| first.fault().is_transient());
                failed = if tells_more { Some(error) } else { failed };
                if quic_ended && tcp_ended {
                    return settle(None, failed, target);
                }
            }
        }
    }
}

/// Whether somebody has said that nothing listens there.
pub(crate) fn is_closed_port(error: &LinkError) -> bool {
    let refused = std::io::ErrorKind::ConnectionRefused;
    matches!(error, LinkError::Unreachable { source, .. } if source.kind() == refused)
}

fn settle<L>(
    reached: Option<(L, Instant)>,
    failed: Option<LinkError>,
    target: &Target,
) -> Result<L, LinkError> {
    match (reached, failed) {
        (Some((lane, _)), _) => Ok(lane),
        (None, Some(error)) => Err(error),
        (None, None) => Err(LinkError::NoAddress { peer: crate::PeerName::new(target) }),
    }
}

/// How long the other kind is waited for once this one has answered. `near` says that TCP would suit.
fn patience(first: LaneKind, near: bool, rtt: Duration, since_start: Duration) -> Duration {
    match (first, near) {
        (LaneKind::Quic, true) => NEAR_PATIENCE.max(rtt * 4),
        (LaneKind::Quic, false) | (LaneKind::Tcp, true) | (LaneKind::Pipe, _) => Duration::ZERO,
        (LaneKind::Tcp, false) => {
            (rtt * 3).max(LEAST_PATIENCE).min(BLOCKED_AFTER.saturating_sub(since_start))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::{Expect, PATIENCE, any_port, target};

    /// Who answers to UDP on a port that is closed for TCP.
    async fn reach_closed(deadline: Duration) -> LinkError {
        let silent = std::net::UdpSocket::bind(any_port()).unwrap();
        let target = target(silent.local_addr().unwrap());
        let identity = Identity::generate().unwrap();
        let check = Expect(identity.public_key());
        let options = DialOptions { deadline, ..DialOptions::default() };
        let reaching = reach(&target, &identity, &check, &options, LinkChoice::Auto);
        tokio::time::timeout(PATIENCE, reaching).await.expect("it ends").unwrap_err()
    }

    #[tokio::test]
    async fn where_nothing_listens_quic_is_not_waited_for_to_the_end() {
        let error = reach_closed(PATIENCE * 2).await;
        assert!(matches!(error, LinkError::NobodyServes { after, .. } if after >= REFUSED_AFTER));
        // Whoever is in a hurry is told as soon as before.
        let error = reach_closed(Duration::from_millis(100)).await;
        assert!(!matches!(error, LinkError::NobodyServes { .. }), "{error:?}");
    }

    /// A lane that is there in name only, over a path with this round trip.
    struct Named(LaneKind, Duration);

    impl Contestant for Named {
        fn kind(&self) -> LaneKind {
            self.0
        }

        fn rtt(&self) -> Duration {
            self.1
        }
    }

    /// Dials in virtual time: after so long there is a lane, or where nothing gets through an error in the end.
    async fn dialled(
        kind: LaneKind,
        rtt: Duration,
        after: Option<Duration>,
    ) -> Result<Named, LinkError> {
        const DEADLINE: Duration = Duration::from_secs(10);
        tokio::time::sleep(after.unwrap_or(DEADLINE)).await;
        let no_answer =
            || LinkError::NoAnswer { peer: crate::PeerName::new("far"), after: DEADLINE };
        after.map(|_| Named(kind, rtt)).ok_or_else(no_answer)
    }

    /// Which kind is taken, and when, if QUIC and TCP are there so many milliseconds after the start.
    async fn taken(rtt: u64, quic: Option<u64>, tcp: Option<u64>) -> (LaneKind, Duration) {
        let (rtt, ms) = (Duration::from_millis(rtt), Duration::from_millis);
        let (target, began) = (Target::new("far", 4285).unwrap(), Instant::now());
        let quic = dialled(LaneKind::Quic, rtt, quic.map(ms));
        let tcp = dialled(LaneKind::Tcp, rtt, tcp.map(ms));
        let lane = race(&target, true, quic, tcp).await.unwrap_or_else(|error| panic!("{error}"));
        (lane.0, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_that_is_blocked_costs_less_than_a_second() {
        use LaneKind::{Quic, Tcp};
        // Timers count whole milliseconds.
        const TICK: Duration = Duration::from_millis(2);
        for rtt in [1, 6, 50, 200, 800] {
            // A handshake over QUIC takes a round trip, and one over TCP with TLS two.
            let (quic, tcp) = (rtt, 2 * rtt);
            let (kind, took) = taken(rtt, None, Some(tcp)).await;
            let late = took.saturating_sub(Duration::from_millis(tcp));
            assert_eq!(kind, Tcp, "UDP is blocked, {rtt} ms");
            assert!(late <= Duration::from_millis(900) + TICK, "{late:?} later than {tcp} ms");
            let (kind, took) = taken(rtt, Some(quic), None).await;
            let late = took.saturating_sub(Duration::from_millis(quic));
            assert_eq!(kind, Quic, "TCP is blocked, {rtt} ms");
            assert!(late <= Duration::from_millis(20) + TICK, "{late:?} later than {quic} ms");
            // Where both get through, TCP is taken near by and QUIC far away, also if its first packet was
            // lost, but on paths so long that TCP has used up the time.
            let near = Duration::from_millis(rtt) < NEAR;
            assert_eq!(taken(rtt, Some(quic), Some(tcp)).await.0, if near { Tcp } else { Quic });
            if !near && rtt < 400 {
                assert_eq!(taken(rtt, Some(quic + 300), Some(tcp)).await.0, Quic, "{rtt} ms");
            }
        }
    }

    #[test]
    fn the_better_kind_is_waited_for_and_never_long() {
        let ms = Duration::from_millis;
        assert_eq!(patience(LaneKind::Tcp, true, ms(1), ms(2)), Duration::ZERO);
        assert_eq!(patience(LaneKind::Quic, false, ms(100), ms(100)), Duration::ZERO);
        assert_eq!(patience(LaneKind::Quic, true, ms(1), ms(2)), ms(20));
        assert_eq!(patience(LaneKind::Tcp, false, ms(50), ms(100)), ms(300));
        assert_eq!(patience(LaneKind::Tcp, false, ms(200), ms(400)), ms(500));
        for rtt in [6, 50, 200, 800] {
            for since in [0, 500, 2000] {
                let all = ms(since) + patience(LaneKind::Tcp, false, ms(rtt), ms(since));
                assert!(all <= ms(since).max(ms(900)), "rtt {rtt} ms, {since} ms since the start");
            }
        }
    }
}
