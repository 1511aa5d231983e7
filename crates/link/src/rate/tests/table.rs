//! Figures to tune the constants by: `cargo test -p link --lib rate::tests::table -- --nocapture`.
//! `RATE_ONLY` is part of the names of the links to show, empty for all of them; `RATE_TRACE` shows what the controller sees.

use badlink::model::{Nanos, Profile};

use super::super::sim::{Flow, MS, PAYLOAD, Policer, SECOND, Sim};
use super::{limit, link, single, wifi};
use crate::rate::Pace;

/// When 105 MB were through, against the limit.
pub(super) fn whole(sim: &Sim, profile: &Profile) -> f64 {
    let wanted = 105e6 / PAYLOAD as f64;
    let mut sum = 0.0;
    for (slot, count) in sim.flows[0].delivered.iter().enumerate() {
        sum += f64::from(*count);
        if sum >= wanted {
            let part = 1.0 - (sum - wanted) / f64::from(*count);
            return 105e6 / ((slot as f64 + part) / 10.0) / limit(profile);
        }
    }
    f64::NAN
}

#[test]
fn figures() {
    let links = [
        ("wan0", link(200.0, 50.0, 2500, 0.0)),
        ("wan1", link(200.0, 50.0, 2500, 0.01)),
        ("bad5", link(100.0, 100.0, 2500, 0.05)),
        ("wifi", wifi()),
        ("lan", link(1000.0, 0.5, 1000, 0.0)),
        ("loss10", link(200.0, 50.0, 2500, 0.10)),
        ("loss15", link(100.0, 40.0, 1000, 0.15)),
        ("fat1", link(1000.0, 20.0, 2500, 0.01)),
        ("slow", link(10.0, 25.0, 100, 0.0)),
        ("slow5", link(2.0, 50.0, 60, 0.05)),
        ("shallow", link(100.0, 20.0, 30, 0.0)),
    ];
    let only = std::env::var("RATE_ONLY").unwrap_or_else(|_| "slow".to_owned());
    println!(
        "link seed: share of limit 2-10 s, first 1 s, 105 MB | lost | wait ms 50% 95% 99% max in 2-10 s, max before"
    );
    for (name, profile) in &links {
        if !name.contains(&only) {
            continue;
        }
        for seed in 1..=if name == &"wifi" { 4 } else { 2 } {
            let sim = single(profile, seed, 10);
            let limit = limit(profile);
            let (from, to) = (2 * SECOND, 10 * SECOND);
            assert!(sim.goodput(0, from, to) > 0.8 * limit, "{name} {seed}");
            println!(
                "{name:8} {seed}: {:.3} {:.3} {:.3} | {:.3} | {:.1} {:.1} {:.1} {:.1}, {:.1} | {:?}",
                sim.goodput(0, from, to) / limit,
                sim.goodput(0, 0, SECOND) / limit,
                whole(&sim, profile),
                sim.loss(0),
                sim.wait(0.5, from, to),
                sim.wait(0.95, from, to),
                sim.wait(0.99, from, to),
                sim.wait(1.0, from, to),
                sim.wait(1.0, 0, from),
                sim.flows[0].control().view(),
            );
        }
    }
    others(&only);
}

/// A name, the link, who uses it, what changes, and a policer.
type Case = (&'static str, Profile, Vec<Flow>, Vec<(Nanos, Profile)>, Option<Policer>);

fn others(only: &str) {
    let fair = || Flow::ours(Pace::Fair, None);
    let shared = link(100.0, 20.0, 1000, 0.0);
    let deep = link(100.0, 20.0, 2500, 0.0);
    let small = link(100.0, 20.0, 250, 0.0);
    let random = link(100.0, 20.0, 1000, 0.01);
    let wan = link(200.0, 50.0, 2500, 0.0);
    let step = |factor: f64| Profile { rate: Some(100e6 * factor), ..link(100.0, 20.0, 1000, 0.0) };
    let dark = Profile { blocked: true, ..wan.clone() };
    let cases: Vec<Case> = vec![
        ("cubic250k", small.clone(), vec![fair(), Flow::cubic()], vec![], None),
        ("cubic1M", shared.clone(), vec![fair(), Flow::cubic()], vec![], None),
        ("cubic2.5M", deep.clone(), vec![fair(), Flow::cubic()], vec![], None),
        ("cubic1M+1%", random, vec![fair(), Flow::cubic()], vec![], None),
        (
            "cubic-late",
            shared.clone(),
            vec![fair(), Flow::cubic().from(5 * SECOND, Nanos::MAX)],
            vec![],
            None,
        ),
        (
            "late-cubic",
            shared.clone(),
            vec![fair().from(5 * SECOND, Nanos::MAX), Flow::cubic()],
            vec![],
            None,
        ),
        (
            "cubic-ends",
            shared.clone(),
            vec![fair(), Flow::cubic().from(2 * SECOND, 10 * SECOND)],
            vec![],
            None,
        ),
        ("2own+cubic", shared.clone(), vec![fair(), fair(), Flow::cubic()], vec![], None),
        ("two", shared.clone(), vec![fair(), fair()], vec![], None),
        (
            "two-late",
            shared.clone(),
            vec![fair(), fair().from(5 * SECOND, Nanos::MAX)],
            vec![],
            None,
        ),
        ("two-wan", wan.clone(), vec![fair(), fair().from(3 * SECOND, Nanos::MAX)], vec![], None),
        (
            "four",
            shared.clone(),
            vec![fair(), fair().from(2 * SECOND, Nanos::MAX), fair(), fair()],
            vec![],
            None,
        ),
        (
            "background",
            shared.clone(),
            vec![Flow::ours(Pace::Background, None), Flow::cubic().from(7 * SECOND, Nanos::MAX)],
            vec![],
            None,
        ),
        ("back-alone", shared.clone(), vec![Flow::ours(Pace::Background, None)], vec![], None),
        (
            "back-fair",
            shared.clone(),
            vec![Flow::ours(Pace::Background, None), fair().from(5 * SECOND, Nanos::MAX)],
            vec![],
            None,
        ),
        (
            "fixed",
            link(100.0, 50.0, 1000, 0.10),
            vec![Flow::ours(Pace::Fixed(8_000_000), None)],
            vec![],
            None,
        ),
        (
            "police",
            link(1000.0, 20.0, 1000, 0.0),
            vec![fair()],
            vec![],
            Some(Policer::new(12.5e6, 60e3)),
        ),
        (
            "police2%",
            link(1000.0, 50.0, 1000, 0.02),
            vec![fair()],
            vec![],
            Some(Policer::new(12.5e6, 60e3)),
        ),
        (
            "police15K",
            link(1000.0, 10.0, 1000, 0.0),
            vec![fair()],
            vec![],
            Some(Policer::new(12.5e6, 20e3)),
        ),
        (
            "x0.3x3",
            step(1.0),
            vec![fair()],
            vec![(5 * SECOND, step(0.3)), (8 * SECOND, step(1.0))],
            None,
        ),
        (
            "reroute",
            shared.clone(),
            vec![fair()],
            vec![
                (5 * SECOND, link(100.0, 60.0, 1000, 0.0)),
                (12 * SECOND, link(100.0, 20.0, 1000, 0.0)),
            ],
            None,
        ),
        (
            "outage",
            wan.clone(),
            vec![fair()],
            vec![(5 * SECOND, dark), (8 * SECOND, wan.clone())],
            None,
        ),
        ("bursty", shared, vec![fair().in_bursts(200 * MS, 300 * MS)], vec![], None),
    ];
    for (name, profile, flows, changes, policer) in cases {
        if !name.contains(only) {
            continue;
        }
        let mut sim = Sim::new(profile.clone(), 1, 2 * SECOND);
        sim.flows = flows;
        sim.changes = changes;
        sim.policer = policer;
        sim.run(15 * SECOND);
        let rate = profile.rate.unwrap() / 8.0 * PAYLOAD as f64 / 1480.0;
        let rate = sim.policer.as_ref().map_or(rate, |p| p.rate * PAYLOAD as f64 / 1480.0);
        print!("{name:11}");
        for flow in 0..sim.flows.len() {
            let shares: Vec<String> = (0..15)
                .map(|at| {
                    format!(
                        "{:.0}",
                        100.0 * sim.goodput(flow, at * SECOND, (at + 1) * SECOND) / rate
                    )
                })
                .collect();
            print!(" [{}] lost {:.3}", shares.join(" "), sim.loss(flow));
        }
        println!(
            " wait {:.1} {:.1}",
            sim.wait(0.5, 2 * SECOND, 15 * SECOND),
            sim.wait(0.95, 2 * SECOND, 15 * SECOND)
        );
    }
}
