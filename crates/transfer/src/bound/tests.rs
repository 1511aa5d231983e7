//! The verdict in virtual time: what a loop of certain waits and figures is said to be bound by.

use super::*;

const TICK: Duration = Duration::from_millis(100);

/// Runs a meter for so many ticks; `step` says what the loop waits for and how the figures have grown.
fn run(meter: &mut Meter, from: u32, ticks: u32, step: impl Fn(u32) -> (Wait, Figures)) -> Bound {
    let mut last = Bound::default();
    for tick in from..from + ticks {
        let (wait, figures) = step(tick);
        meter.waits(TICK * tick, wait);
        last = meter.tick(TICK * (tick + 1), figures);
    }
    last
}

/// Figures of a loop that moves 10 MB/s, with two cores of which a tenth of one is used.
fn figures(tick: u32) -> Figures {
    let moved = u64::from(tick) * 1_000_000;
    Figures {
        read: moved,
        carried: moved,
        stored: moved,
        entries: u64::from(tick) * 100,
        unfinished: 7,
        limit: 500_000,
        cpu: Cpu {
            process: TICK * tick / 10,
            thread: TICK * tick / 20,
            cores: 2,
            machine: (TICK * tick, TICK * tick * 2),
        },
        link: Link {
            rtt: Duration::from_millis(50),
            min_rtt: Duration::from_millis(48),
            sent_packets: u64::from(tick) * 1000,
            ..Link::default()
        },
    }
}

#[track_caller]
fn check(side: Side, wait: Wait, change: impl Fn(u32, &mut Figures), kind: BoundKind, figure: u64) {
    let mut meter = Meter::new(side, Duration::ZERO);
    let found = run(&mut meter, 0, 30, |tick| {
        let mut now = figures(tick);
        change(tick, &mut now);
        (wait, now)
    });
    assert_eq!(found.kind, kind, "{found:?}");
    assert!(found.figure.abs_diff(figure) <= figure / 50, "{found:?}, not {figure}");
}

#[test]
fn each_wait_has_its_bound() {
    let same = |_: u32, _: &mut Figures| {};
    let source = |wait, kind, figure| check(Side::Source, wait, same, kind, figure);
    source(Wait::Walk, BoundKind::Walk, 1000);
    source(Wait::Read, BoundKind::SourceDisk, 10_000_000);
    source(Wait::Link, BoundKind::Path, 10_000_000);
    source(Wait::Credit, BoundKind::TargetDisk, 10_000_000);
    source(Wait::Answers, BoundKind::RoundTrips, 50_000);
    source(Wait::Limit, BoundKind::Limit, 500_000);
    source(Wait::Window, BoundKind::PeerWindow, 1000);
    source(Wait::Finishing, BoundKind::Finishing, 7);
    check(Side::Target, Wait::Store, same, BoundKind::TargetDisk, 10_000_000);
    check(Side::Target, Wait::Source, same, BoundKind::Unknown, 0);
}

#[test]
fn a_busy_processor_is_the_bound_whatever_waits_for_it() {
    let one_thread = |tick: u32, now: &mut Figures| {
        now.cpu.thread = TICK * tick * 95 / 100;
        now.cpu.process = TICK * tick * 110 / 100;
    };
    for wait in [Wait::Link, Wait::Read, Wait::Credit, Wait::Walk] {
        check(Side::Source, wait, one_thread, BoundKind::SourceCpu, 1100);
    }
    let all_cores = |tick: u32, now: &mut Figures| now.cpu.process = TICK * tick * 19 / 10;
    check(Side::Target, Wait::Store, all_cores, BoundKind::TargetCpu, 1900);
    let shared = |tick: u32, now: &mut Figures| {
        now.cpu.machine.0 = TICK * tick * 194 / 100;
        now.cpu.process = TICK * tick * 70 / 100;
    };
    check(Side::Source, Wait::Link, shared, BoundKind::SourceCpu, 1940);
    // Others keep the machine busy, but this program wants little of it.
    let others = |tick: u32, now: &mut Figures| now.cpu.machine.0 = TICK * tick * 194 / 100;
    check(Side::Source, Wait::Link, others, BoundKind::Path, 10_000_000);
    let unknown = |_: u32, now: &mut Figures| now.cpu.machine = Default::default();
    check(Side::Source, Wait::Link, unknown, BoundKind::Path, 10_000_000);
    // A rate that was set stays the reason, for without it more would move.
    check(Side::Source, Wait::Limit, one_thread, BoundKind::Limit, 500_000);
    let one_of_two = |tick: u32, now: &mut Figures| now.cpu.process = TICK * tick;
    check(Side::Source, Wait::Read, one_of_two, BoundKind::SourceDisk, 10_000_000);
}

#[test]
fn the_link_says_which_part_of_it_is_meant() {
    let link = |change: &dyn Fn(u32, &mut Link), kind, figure| {
        check(Side::Source, Wait::Link, |tick, now| change(tick, &mut now.link), kind, figure);
    };
    link(&|tick, link| link.lost_packets = u64::from(tick) * 50, BoundKind::PathLoss, 50_000);
    // The queue overflows: the path is full.
    link(
        &|tick, link| {
            link.lost_packets = u64::from(tick) * 50;
            link.queue_delay = Duration::from_millis(40);
        },
        BoundKind::Path,
        10_000_000,
    );
    link(&|_, link| link.delivery_rate = 23_000_000, BoundKind::Path, 23_000_000);
    link(
        &|_, link| (link.policed, link.delivery_rate) = (true, 12_500_000),
        BoundKind::Policer,
        12_500_000,
    );
    let tcp = |peer: u32, buffer: u32| {
        move |tick: u32, link: &mut Link| {
            (link.is_tcp, link.busy) = (true, TICK * tick);
            link.peer_limited = TICK * tick * peer / 100;
            link.buffer_limited = TICK * tick * buffer / 100;
        }
    };
    link(&tcp(80, 0), BoundKind::PeerWindow, 800);
    link(&tcp(0, 60), BoundKind::SocketBuffer, 600);
    link(&tcp(20, 20), BoundKind::Path, 10_000_000);
    // The window of one connection that QUIC knows nothing of.
    link(&|tick, link| link.peer_limited = TICK * tick, BoundKind::Path, 10_000_000);
}

#[test]
fn the_other_end_knows_better_what_it_is_at() {
    let told = |kind| Bound::new(kind, 42);
    let check = |side, wait, said: BoundKind, found: BoundKind| {
        let mut meter = Meter::new(side, Duration::ZERO);
        meter.told(told(said));
        assert_eq!(run(&mut meter, 0, 20, |tick| (wait, figures(tick))).kind, found);
    };
    check(Side::Source, Wait::Credit, BoundKind::TargetCpu, BoundKind::TargetCpu);
    check(Side::Source, Wait::Credit, BoundKind::Limit, BoundKind::Limit);
    check(Side::Source, Wait::Credit, BoundKind::SourceDisk, BoundKind::TargetDisk);
    check(Side::Source, Wait::Link, BoundKind::TargetCpu, BoundKind::TargetCpu);
    check(Side::Source, Wait::Link, BoundKind::TargetDisk, BoundKind::Path);
    check(Side::Target, Wait::Source, BoundKind::PathLoss, BoundKind::PathLoss);
    check(Side::Target, Wait::Store, BoundKind::PathLoss, BoundKind::TargetDisk);
}

#[test]
fn a_limit_of_the_other_end_is_the_reason_also_on_a_busy_machine() {
    let busy = |tick: u32| {
        let mut now = figures(tick);
        now.cpu.thread = TICK * tick;
        now
    };
    for (side, wait) in [(Side::Source, Wait::Credit), (Side::Target, Wait::Source)] {
        let mut meter = Meter::new(side, Duration::ZERO);
        meter.told(Bound::new(BoundKind::Limit, 42));
        let verdict = run(&mut meter, 0, 20, |tick| (wait, busy(tick)));
        assert_eq!(verdict, Bound::new(BoundKind::Limit, 42));
        assert_eq!(meter.news(verdict).kind == BoundKind::Unknown, side == Side::Target);
    }
}

/// What an end has only heard it does not say back, or two ends would agree for ever on what is past.
#[test]
fn what_was_told_is_not_told_back() {
    let mut meter = Meter::new(Side::Target, Duration::ZERO);
    meter.told(Bound::new(BoundKind::TargetCpu, 900));
    let verdict = run(&mut meter, 0, 20, |tick| (Wait::Source, figures(tick)));
    assert_eq!(verdict.kind, BoundKind::TargetCpu);
    assert_eq!(meter.news(verdict), Bound::default());
    let verdict = run(&mut meter, 20, 20, |tick| (Wait::Store, figures(tick)));
    assert_eq!(meter.news(verdict), verdict);
}

#[test]
fn the_verdict_follows_within_a_second_and_does_not_flicker() {
    let mut meter = Meter::new(Side::Source, Duration::ZERO);
    assert_eq!(run(&mut meter, 0, 20, |tick| (Wait::Link, figures(tick))).kind, BoundKind::Path);
    for tick in 20..60 {
        // Half of the time each: whichever it was stays.
        let wait = if tick % 2 == 0 { Wait::Read } else { Wait::Link };
        let found = run(&mut meter, tick, 1, |tick| (wait, figures(tick)));
        assert_eq!(found.kind, BoundKind::Path, "tick {tick}");
    }
    let found = run(&mut meter, 60, 11, |tick| (Wait::Read, figures(tick)));
    assert_eq!(found.kind, BoundKind::SourceDisk);
}

#[test]
fn what_is_kept_is_bounded_and_a_clock_that_stands_does_no_harm() {
    let mut meter = Meter::new(Side::Source, Duration::ZERO);
    for _ in 0..10_000 {
        meter.tick(Duration::from_secs(1), Figures::default());
    }
    assert!(meter.laps.len() <= MOST_LAPS);
    // Totals that went back, as after a cut, count as nothing.
    run(&mut meter, 20, 30, figures_of_link);
    let found = run(&mut meter, 50, 3, |_| (Wait::Link, Figures::default()));
    assert_eq!(found, Bound::new(BoundKind::Path, 0));
}

fn figures_of_link(tick: u32) -> (Wait, Figures) {
    (Wait::Link, figures(tick))
}

#[test]
fn the_other_end_is_told_at_most_once_a_second() {
    let mut teller = Teller::default();
    let at = Duration::from_millis;
    let path = |figure| Bound::new(BoundKind::Path, figure);
    let disk = Bound::new(BoundKind::SourceDisk, 5);
    assert_eq!(teller.next(at(0), Bound::default()), None, "nothing is known");
    assert_eq!(teller.next(at(100), path(100)), Some(path(100)));
    assert_eq!(teller.next(at(200), disk), None, "too soon");
    assert_eq!(teller.next(at(1100), disk), Some(disk));
    assert_eq!(teller.next(at(2200), path(100)), Some(path(100)));
    assert_eq!(teller.next(at(9000), path(110)), None, "nearly the same");
    assert_eq!(teller.next(at(9000), path(111)), Some(path(111)));
    assert_eq!(teller.next(at(10_000), Bound::default()), Some(Bound::default()));
}
