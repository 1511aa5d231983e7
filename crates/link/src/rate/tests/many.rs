//! Many lanes of ours on one queue, which join one after another.

use super::super::sim::{Flow, MS, SECOND, Sim};
use super::{link, shares};
use crate::rate::Pace;

/// So many lanes on 100 Mbit/s, 40 ms and 1 MB of queue, each `gap` milliseconds after the one before: what the
/// least and the most of them has of a fair share and the most that one loses, from 15 s after the last came.
fn joined(count: u32, gap: u64) -> (f64, f64, f64) {
    let joined = u64::from(count - 1) * gap / 1000 + 1;
    let (from, end) = (joined + 15, joined + 30);
    let mut sim = Sim::new(link(100.0, 20.0, 1000, 0.0), 1, from * SECOND);
    sim.flows = (0..u64::from(count))
        .map(|at| Flow::ours(Pace::Fair, None).from(at * gap * MS, u64::MAX))
        .collect();
    sim.run(end * SECOND);
    let mut parts = shares(&sim, 100.0, from, end);
    parts.sort_by(f64::total_cmp);
    let lost = (0..sim.flows.len()).map(|flow| sim.loss(flow)).fold(0.0, f64::max);
    let (least, most) = (parts[0] * f64::from(count), parts[parts.len() - 1] * f64::from(count));
    let wait = sim.wait(0.95, from * SECOND, end * SECOND);
    println!("{count} lanes, {gap} ms: {least:.2} to {most:.2}, lost {lost:.3}, wait {wait:.0}");
    (least, most, lost)
}

fn check(count: u32, gaps: &[u64], most_lost: f64) {
    for &gap in gaps {
        let (least, most, lost) = joined(count, gap);
        assert!(least > 0.4 && most < 3.0, "{count} at {gap} ms: {least:.2} to {most:.2}");
        assert!(lost < most_lost, "{count} at {gap} ms: {lost:.3} lost");
    }
}

#[test]
fn four_lanes_share_a_queue() {
    check(4, &[130, 250, 400, 570, 900, 1500, 2100], 0.05);
}

/// What eight do that come faster, and sixteen, is no good yet: see `docs/decisions/rate-control.md`.
#[test]
fn eight_lanes_share_a_queue_that_they_join_slowly() {
    check(8, &[450, 700, 900, 1170], 0.15);
}

#[test]
fn figures_of_many() {
    for gap in [70, 150, 210, 330] {
        let (least, _, _) = joined(8, gap);
        assert!(least > 0.0, "{gap}");
    }
    for gap in [30, 100, 190, 300, 400, 530] {
        let (least, _, _) = joined(16, gap);
        assert!(least > 0.0, "{gap}");
    }
}
