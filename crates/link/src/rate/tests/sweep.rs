//! Many seeds, of which the worst counts: `RATE_SEEDS=200 cargo test --release -p link --lib
//! rate::tests::sweep -- --nocapture` prints the worst of more.

use badlink::model::Profile;

use super::super::pauses::Pauses;
use super::super::sim::{Flow, MS, SECOND, Sim};
use super::table::whole;
use super::{limit, link, wifi};
use crate::rate::Pace;

fn seeds(usual: u64) -> u64 {
    std::env::var("RATE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(usual)
}

#[test]
fn no_seed_sags() {
    let only = std::env::var("RATE_ONLY").unwrap_or_default();
    let cases: [(&str, Profile, u64); 8] = [
        ("wifi", wifi(), 0),
        ("wan1", link(200.0, 50.0, 2500, 0.01), 0),
        ("wan0", link(200.0, 50.0, 2500, 0.0), 0),
        ("bad5", link(100.0, 100.0, 2500, 0.05), 0),
        ("wifi-p", wifi(), 150),
        ("wan1-p", link(200.0, 50.0, 2500, 0.01), 150),
        ("wifi-pp", wifi(), 60),
        ("wan1-pp", link(200.0, 50.0, 2500, 0.01), 60),
    ];
    for (name, profile, every) in &cases {
        if !name.contains(&only) {
            continue;
        }
        let mut all = Vec::new();
        let from = std::env::var("RATE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
        for seed in from..from + seeds(6) {
            let mut sim = Sim::new(profile.clone(), seed, 2 * SECOND);
            if *every > 0 {
                let pauses = |seed| Some(Pauses::new(every * MS, 5 * MS, 30 * MS, seed));
                sim.pauses = [pauses(seed), pauses(seed + 1000)];
            }
            sim.flows.push(Flow::ours(Pace::Fair, None));
            sim.run(12 * SECOND);
            let limit = limit(profile);
            let second = (2..12)
                .map(|at| sim.goodput(0, at * SECOND, (at + 1) * SECOND) / limit)
                .fold(9.9, f64::min);
            let w = whole(&sim, profile);
            let w = if w.is_nan() { 0.0 } else { w };
            all.push((w, second, sim.wait(0.95, 2 * SECOND, 12 * SECOND), seed));
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let least = all.iter().map(|run| run.1).fold(9.9, f64::min);
        println!(
            "{name:8} 105 MB {:.3}..{:.3}..{:.3} worst second {least:.3} wait {:.1}; {:.3?}",
            all[0].0,
            all[all.len() / 2].0,
            all[all.len() - 1].0,
            all[all.len() / 2].2,
            &all[..all.len().min(4)]
        );
    }
}
