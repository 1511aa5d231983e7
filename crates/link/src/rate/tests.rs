//! The controller on links in virtual time: what it gets through, what it makes others wait, what it throws
//! away and what it leaves to others.

use std::time::Duration;

use badlink::model::{GilbertElliott, Nanos, Profile};

use super::control::Control;
use super::sim::{Flow, MS, PAYLOAD, Policer, SECOND, Sim};
use super::{Pace, PathMemory};
use crate::rig::Random;

#[path = "tests/sweep.rs"]
mod sweep;
#[path = "tests/table.rs"]
mod table;

fn link(mbit: f64, one_way_ms: f64, queue_kb: u64, loss: f64) -> Profile {
    Profile {
        rate: Some(mbit * 1e6),
        delay: (one_way_ms * MS as f64) as Nanos,
        queue: Some(queue_kb * 1000),
        loss,
        ..Profile::default()
    }
}

fn wifi() -> Profile {
    Profile {
        jitter: 5 * MS,
        burst_loss: Some(GilbertElliott {
            good_to_bad: 0.02 / 0.98 / 10.0,
            bad_to_good: 0.1,
            loss_in_bad: 1.0,
            loss_in_good: 0.0,
        }),
        reorder: 0.005,
        reorder_by: 2 * MS,
        ..link(200.0, 15.0, 1000, 0.0)
    }
}

/// Bytes of payload per second that a link can deliver.
fn limit(profile: &Profile) -> f64 {
    let burst =
        profile.burst_loss.map_or(0.0, |ge| ge.good_to_bad / (ge.good_to_bad + ge.bad_to_good));
    profile.rate.unwrap() / 8.0 * (PAYLOAD as f64 / 1480.0) * (1.0 - profile.loss) * (1.0 - burst)
}

fn single(profile: &Profile, seed: u64, seconds: u64) -> Sim {
    let mut sim = Sim::new(profile.clone(), seed, 2 * SECOND);
    sim.flows.push(Flow::ours(Pace::Fair, None));
    sim.run(seconds * SECOND);
    sim
}

/// What a lane must reach alone on a link, from the fourth second on.
struct Wanted {
    share: f64,
    /// Milliseconds that 95 of 100 packets wait at most, jitter included.
    wait: f64,
    /// Packets lost beyond what the link loses by itself.
    wasted: f64,
}

fn check(name: &str, profile: &Profile, seeds: std::ops::RangeInclusive<u64>, wanted: &Wanted) {
    for seed in seeds {
        let sim = single(profile, seed, 7);
        let (from, to) = (3 * SECOND, 7 * SECOND);
        let share = sim.goodput(0, from, to) / limit(profile);
        assert!(share >= wanted.share, "{name} {seed}: {share:.3} of the limit");
        let wait = sim.wait(0.95, from, to);
        assert!(wait <= wanted.wait, "{name} {seed}: {wait:.1} ms");
        let own = 1.0
            - limit(profile) / limit(&Profile { loss: 0.0, burst_loss: None, ..profile.clone() });
        let wasted = sim.loss(0) - own;
        assert!(wasted <= wanted.wasted, "{name} {seed}: {wasted:.3} wasted");
    }
}

#[test]
fn fills_links_that_lose_at_random_with_a_short_queue() {
    let wanted = Wanted { share: 0.98, wait: 30.0, wasted: 0.01 };
    check("200 Mbit/s, 100 ms, 0 %", &link(200.0, 50.0, 2500, 0.0), 1..=1, &wanted);
    check("200 Mbit/s, 100 ms, 1 %", &link(200.0, 50.0, 2500, 0.01), 1..=2, &wanted);
    check("200 Mbit/s, 100 ms, 10 %", &link(200.0, 50.0, 2500, 0.10), 1..=1, &wanted);
    let wanted = Wanted { share: 0.97, wait: 60.0, wasted: 0.01 };
    check("100 Mbit/s, 200 ms, 5 %", &link(100.0, 100.0, 2500, 0.05), 1..=2, &wanted);
    check("50 Mbit/s, 80 ms, 15 %", &link(50.0, 40.0, 1000, 0.15), 1..=4, &wanted);
}

#[test]
fn fills_a_link_with_jitter_bursts_of_loss_and_reordering() {
    check("wifi", &wifi(), 1..=4, &Wanted { share: 0.97, wait: 25.0, wasted: 0.01 });
}

#[test]
fn fills_fast_slow_and_shallow_links() {
    let wanted = Wanted { share: 0.97, wait: 8.0, wasted: 0.01 };
    let mut lan = Sim::new(link(1000.0, 0.5, 1000, 0.0), 1, SECOND);
    lan.flows.push(Flow::ours(Pace::Fair, None));
    lan.run(2 * SECOND);
    assert!(lan.goodput(0, SECOND, 2 * SECOND) >= 0.97 * 1e9 / 8.0 * 1452.0 / 1480.0);
    check("100 Mbit/s, 40 ms, 30 KB", &link(100.0, 20.0, 30, 0.0), 1..=1, &wanted);
    let wanted = Wanted { share: 0.97, wait: 60.0, wasted: 0.01 };
    check("10 Mbit/s, 50 ms", &link(10.0, 25.0, 100, 0.0), 1..=1, &wanted);
    let wanted = Wanted { share: 0.93, wait: 130.0, wasted: 0.03 };
    check("2 Mbit/s, 100 ms, 5 %", &link(2.0, 50.0, 60, 0.05), 1..=4, &wanted);
}

/// Each flow's share of the path's payload rate between two seconds.
fn shares(sim: &Sim, mbit: f64, from: u64, to: u64) -> Vec<f64> {
    let rate = mbit * 1e6 / 8.0 * PAYLOAD as f64 / 1480.0;
    (0..sim.flows.len()).map(|flow| sim.goodput(flow, from * SECOND, to * SECOND) / rate).collect()
}

fn on_100_mbit(flows: Vec<Flow>, queue_kb: u64, seconds: u64) -> Sim {
    let mut sim = Sim::new(link(100.0, 20.0, queue_kb, 0.0), 1, 2 * SECOND);
    sim.flows = flows;
    sim.run(seconds * SECOND);
    sim
}

#[test]
fn two_lanes_share_and_leave_room_for_a_ping() {
    let late = Flow::ours(Pace::Fair, None).from(3 * SECOND, Nanos::MAX);
    let sim = on_100_mbit(vec![Flow::ours(Pace::Fair, None), late], 1000, 14);
    let parts = shares(&sim, 100.0, 11, 14);
    assert!(parts.iter().all(|part| (0.38..0.62).contains(part)), "{parts:?}");
    assert!(sim.wait(0.95, 2 * SECOND, 14 * SECOND) < 60.0);
}

#[test]
fn beside_cubic_neither_starves() {
    for queue_kb in [250, 1000, 2500] {
        let flows = vec![Flow::ours(Pace::Fair, None), Flow::cubic()];
        let parts = shares(&on_100_mbit(flows, queue_kb, 12), 100.0, 4, 12);
        assert!(parts.iter().all(|part| *part > 0.15), "{queue_kb} KB: {parts:?}");
    }
    // Alone again, the queue is short again.
    let cubic = Flow::cubic().from(2 * SECOND, 6 * SECOND);
    let sim = on_100_mbit(vec![Flow::ours(Pace::Fair, None), cubic], 1000, 10);
    assert!(sim.wait(0.95, 8 * SECOND, 10 * SECOND) < 60.0);
    assert!(shares(&sim, 100.0, 8, 10)[0] > 0.95);
}

#[test]
fn the_background_gives_way_and_keeps_queues_tiny() {
    let sim = on_100_mbit(vec![Flow::ours(Pace::Background, None)], 1000, 5);
    assert!(shares(&sim, 100.0, 2, 5)[0] > 0.95);
    assert!(sim.wait(0.95, 2 * SECOND, 5 * SECOND) < 15.0);
    for other in [Flow::cubic(), Flow::ours(Pace::Fair, None)] {
        let other = other.from(2 * SECOND, Nanos::MAX);
        let sim = on_100_mbit(vec![Flow::ours(Pace::Background, None), other], 1000, 8);
        let parts = shares(&sim, 100.0, 5, 8);
        assert!(parts[0] < 0.15 && parts[1] > 0.85, "{parts:?}");
    }
}

#[test]
fn a_policer_is_not_flooded() {
    // Ten packets leave at once, so a bucket of fourteen loses some at any rate.
    for (burst, loss, most) in [(60e3, 0.0, 0.03), (60e3, 0.02, 0.08), (20e3, 0.0, 0.2)] {
        let mut sim = Sim::new(link(1000.0, 20.0, 1000, loss), 1, 2 * SECOND);
        sim.flows.push(Flow::ours(Pace::Fair, None));
        sim.policer = Some(Policer::new(12.5e6, burst));
        sim.run(8 * SECOND);
        let share = shares(&sim, 100.0, 2, 8)[0] / (1.0 - loss);
        assert!(share > 0.88, "{burst} {loss}: {share:.3}");
        let lost = sim.loss(0);
        assert!(lost < most, "{burst} {loss}: {lost:.3} lost");
        assert!(sim.flows[0].control().view().path_loss < most);
    }
}

#[test]
fn follows_rates_and_routes_that_change() {
    let at = |mbit: f64, delay: f64| link(mbit, delay, 1000, 0.0);
    let mut sim = Sim::new(at(100.0, 20.0), 1, 2 * SECOND);
    sim.flows.push(Flow::ours(Pace::Fair, None));
    sim.changes = vec![
        (3 * SECOND, at(30.0, 20.0)),
        (5 * SECOND, at(100.0, 20.0)),
        (7 * SECOND, at(100.0, 60.0)),
    ];
    sim.run(10 * SECOND);
    assert!(shares(&sim, 30.0, 4, 5)[0] > 0.95);
    assert!(sim.wait(0.95, 4 * SECOND, 5 * SECOND) < 60.0);
    assert!(shares(&sim, 100.0, 6, 7)[0] > 0.95);
    assert!(shares(&sim, 100.0, 9, 10)[0] > 0.9);
}

#[test]
fn goes_on_after_an_outage() {
    let wan = link(200.0, 50.0, 2500, 0.01);
    let mut sim = Sim::new(wan.clone(), 1, 2 * SECOND);
    sim.flows.push(Flow::ours(Pace::Fair, None));
    let dark = Profile { blocked: true, ..wan.clone() };
    sim.changes = vec![(3 * SECOND, dark), (5 * SECOND, wan)];
    sim.run(9 * SECOND);
    // The library's probes are up to two seconds apart by then.
    assert!(shares(&sim, 200.0, 8, 9)[0] > 0.95);
}

#[test]
fn a_fixed_rate_is_kept_whatever_is_lost_but_not_into_the_dark() {
    let profile = link(100.0, 50.0, 1000, 0.10);
    let mut sim = Sim::new(profile.clone(), 1, 2 * SECOND);
    sim.flows.push(Flow::ours(Pace::Fixed(8_000_000), None));
    sim.changes = vec![(4 * SECOND, Profile { blocked: true, ..profile })];
    sim.run(8 * SECOND);
    let rate = sim.goodput(0, 2 * SECOND, 4 * SECOND) / 0.9;
    assert!((7.6e6..8.4e6).contains(&rate), "{rate}");
    let dark = sim.loss(0) * sim.flows[0].late_sent as f64 * PAYLOAD as f64;
    assert!(dark < 4e6, "{dark} bytes were lost, of 32 MB that would have been sent");
}

#[test]
fn an_application_that_pauses_neither_wears_the_window_down_nor_blows_it_up() {
    let flow = Flow::ours(Pace::Fair, None).in_bursts(200 * MS, 300 * MS);
    let sim = on_100_mbit(vec![flow], 1000, 10);
    let part = shares(&sim, 100.0, 5, 10)[0];
    assert!(part > 0.4, "{part} of the link, where it has something to send for 0.4 of the time");
    let window = sim.flows[0].control().view().window;
    assert!(
        window < 1_500_000,
        "a window of {window} bytes, where 500,000 are a round trip's worth"
    );
}

fn known(mbit: f64, base_ms: u64) -> Option<PathMemory> {
    Some(PathMemory {
        rate_bytes_per_s: (mbit * 1e6 / 8.0) as u64,
        base_rtt: std::time::Duration::from_millis(base_ms),
        loss: 0.01,
        mtu: 1452,
    })
}

#[test]
fn a_remembered_rate_is_there_in_the_first_round_trip() {
    let wan = link(200.0, 50.0, 2500, 0.01);
    let run = |memory| {
        let mut sim = Sim::new(wan.clone(), 1, SECOND);
        sim.flows.push(Flow::ours(Pace::Fair, memory));
        sim.run(3 * SECOND);
        sim
    };
    let sim = run(known(200.0, 100));
    assert_eq!(sim.flows[0].control().began_with(), Some(25_000_000));
    // A tenth of a second for the handshake and half of one under way.
    assert!(shares(&sim, 200.0, 0, 1)[0] > 0.75, "{:?}", shares(&sim, 200.0, 0, 1));
    assert!(sim.wait(1.0, 0, 3 * SECOND) < 60.0, "{}", sim.wait(1.0, 0, 3 * SECOND));
    // Five times too much is noticed.
    let sim = run(known(1000.0, 100));
    assert!(sim.wait(0.95, 2 * SECOND, 3 * SECOND) < 60.0);
    assert!(shares(&sim, 200.0, 1, 3)[0] > 0.85);
    // Another path's memory is not used.
    let sim = run(known(1000.0, 20));
    assert_eq!(sim.flows[0].control().began_with(), None);
    assert!(sim.wait(1.0, 0, SECOND / 4) < 10.0);
}

#[test]
fn what_was_learnt_is_what_the_path_is() {
    let sim = single(&link(100.0, 20.0, 1000, 0.05), 1, 5);
    let learned = sim.flows[0].control().learned().unwrap();
    assert!((0.9e7..1.3e7).contains(&(learned.rate_bytes_per_s as f64)), "{learned:?}");
    assert!((39..48).contains(&learned.base_rtt.as_millis()), "{learned:?}");
    assert!((0.03..0.07).contains(&learned.loss), "{learned:?}");
    let idle = Flow::ours(Pace::Fair, None);
    assert_eq!(idle.control().learned(), None);
    // What others leave would hold the next copy back.
    let beside = vec![Flow::ours(Pace::Background, None), Flow::cubic()];
    assert_eq!(on_100_mbit(beside, 1000, 5).flows[0].control().learned(), None);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let sim = single(&wifi(), 7, 2);
        (sim.flows[0].sent_packets, sim.flows[0].delivered.clone(), sim.flows[0].control().view())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_memory_is_one_line_and_back() {
    let memory = known(200.0, 100).unwrap();
    let line = "rate_bytes_per_s=25000000 base_rtt_us=100000 loss_ppm=10000 mtu_bytes=1452";
    assert_eq!(memory.to_line(), line);
    assert_eq!(PathMemory::parse(line), Some(memory));
    for bad in [
        "",
        "rate_bytes_per_s=25000000 base_rtt_us=100000 loss_ppm=10000",
        "rate_bytes_per_s=25000000 base_rtt_us=100000 loss_ppm=10000 mtu_bytes=1452 more=1",
        "rate_bytes_per_s=+25000000 base_rtt_us=100000 loss_ppm=10000 mtu_bytes=1452",
        "rate_bytes_per_s=99999999999999 base_rtt_us=100000 loss_ppm=10000 mtu_bytes=1452",
        "rate_bytes_per_s=25000000 base_rtt_us=0 loss_ppm=10000 mtu_bytes=1452",
        "rate_bytes_per_s=25000000 base_rtt_us=100000 loss_ppm=600000 mtu_bytes=1452",
        "rate_bytes_per_s=25000000 base_rtt_us=100000 loss_ppm=10000 mtu_bytes=100",
        "base_rtt_us=100000 rate_bytes_per_s=25000000 loss_ppm=10000 mtu_bytes=1452",
        " rate_bytes_per_s=25000000 base_rtt_us=100000 loss_ppm=10000 mtu_bytes=1452",
    ] {
        assert_eq!(PathMemory::parse(bad), None, "{bad:?}");
    }
}

/// Whatever times are measured, even of packets that are acknowledged before they were sent, nothing panics.
#[test]
fn the_window_stays_within_bounds_whatever_is_measured() {
    for seed in 0..400_u64 {
        let mut random = Random(seed);
        let pace = [Pace::Fair, Pace::Background, Pace::Fixed(1_000_000)][seed as usize % 3];
        let known = PathMemory {
            rate_bytes_per_s: 1 + random.below(1 << 30),
            base_rtt: Duration::from_micros(1 + random.below(1 << 20)),
            loss: 0.01,
            mtu: 1452,
        };
        let mut control = Control::new(pace, 1452, (seed % 2 == 0).then_some(known));
        let (mut now, mut in_flight) = (0_u64, 0_u64);
        // From 10 us to 1 s.
        let scale = 10_u64.pow(1 + random.below(6) as u32);
        for _ in 0..2000 {
            now += random.below(scale);
            // The clocks of two threads.
            now = now.saturating_sub(random.below(16) * (scale / 64));
            let packets = 1 + random.below(64);
            match random.below(8) {
                0..4 => {
                    control.on_sent(Duration::from_micros(now), packets * 1452);
                    in_flight += packets * 1452;
                }
                4..7 => {
                    for _ in 0..packets {
                        let sent = (now + scale / 16).saturating_sub(random.below(scale * 3));
                        let (now, sent) = (Duration::from_micros(now), Duration::from_micros(sent));
                        control.on_ack(now, sent, 1452, random.below(16) == 0);
                        in_flight = in_flight.saturating_sub(1452);
                    }
                    control.on_acks_end(Duration::from_micros(now), in_flight);
                }
                _ => {
                    let sent = Duration::from_micros(now.saturating_sub(random.below(scale)));
                    control.on_loss(Duration::from_micros(now), sent, packets * 1452);
                    in_flight = in_flight.saturating_sub(packets * 1452);
                }
            }
            let view = control.view();
            let least = if pace == Pace::Background { 4 } else { 10 } * 1452;
            assert!((least..=64 << 20).contains(&view.window), "{seed}: {view:?}");
            assert!((0.0..=1.0).contains(&view.path_loss), "{seed}: {view:?}");
        }
    }
}
