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
    let cases: [(&str, Profile, u64, f64); 7] = [
        ("wifi", wifi(), 0, 0.85),
        ("wan1", link(200.0, 50.0, 2500, 0.01), 0, 0.85),
        ("wan0", link(200.0, 50.0, 2500, 0.0), 0, 0.9),
        ("bad5", link(100.0, 100.0, 2500, 0.05), 0, 0.85),
        ("wifi-p", wifi(), 150, 0.5),
        ("wan1-p", link(200.0, 50.0, 2500, 0.01), 150, 0.75),
        ("lan-p", link(1000.0, 0.2, 1000, 0.0), 50, 0.4),
    ];
    for (name, profile, every, least) in &cases {
        if !name.contains(&only) {
            continue;
        }
        let mut all = Vec::new();
        let from = std::env::var("RATE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
        for seed in from..from + seeds(3) {
            let sim = held_up(profile, *every, seed);
            let limit = limit(profile);
            let second = (2..12)
                .map(|at| sim.goodput(0, at * SECOND, (at + 1) * SECOND) / limit)
                .fold(9.9, f64::min);
            all.push((
                through(&sim, profile),
                second,
                sim.wait(0.95, 2 * SECOND, 12 * SECOND),
                seed,
            ));
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let second = all.iter().map(|run| run.1).fold(9.9, f64::min);
        println!(
            "{name:8} 105 MB {:.3}..{:.3}..{:.3} worst second {second:.3} wait {:.1}; {:.3?}",
            all[0].0,
            all[all.len() / 2].0,
            all[all.len() - 1].0,
            all[all.len() / 2].2,
            &all[..all.len().min(4)]
        );
        // Of very many seeds some wear down on a busy machine: see `docs/decisions/rate-control.md`.
        let worst = all.get(all.len() / 100).unwrap_or(&all[0]);
        assert!(worst.0 >= *least, "{name}: {worst:.3?}");
    }
}

/// A lane of which both machines are held up about each `every` milliseconds, if that is not 0.
fn held_up(profile: &Profile, every: u64, seed: u64) -> Sim {
    let mut sim = Sim::new(profile.clone(), seed, 2 * SECOND);
    if every > 0 {
        let pauses = |seed| Some(Pauses::new(every * MS, 5 * MS, 30 * MS, seed));
        sim.pauses = [pauses(seed), pauses(seed + 1000)];
    }
    sim.flows.push(Flow::ours(Pace::Fair, None));
    sim.run(12 * SECOND);
    sim
}

/// How 105 MB were through against the limit; not in time is the worst.
fn through(sim: &Sim, profile: &Profile) -> f64 {
    Some(whole(sim, profile)).filter(|share| share.is_finite()).unwrap_or(0.0)
}

/// Single runs over Wi-Fi between busy machines, each of which is slower without a rule: the first two have 0.62 and
/// 0.67 where no probe counts that brings back what the lane had, and the others 0.71 and 0.63 where a clump of losses
/// passes for others on the queue.
#[test]
fn what_the_lane_had_comes_back_and_clumps_of_losses_are_no_others() {
    for (seed, least) in [(257, 0.72), (205, 0.76), (300, 0.82), (155, 0.8)] {
        let share = through(&held_up(&wifi(), 150, seed), &wifi());
        assert!(share > least, "{seed}: {share:.3}");
    }
}

#[test]
fn shares_with_cubic() {
    let only = std::env::var("RATE_ONLY").unwrap_or_default();
    type Make = fn(u64) -> Vec<Flow>;
    let cases: [(&str, Make); 6] = [
        ("join", |ms| vec![Flow::cubic(), Flow::ours(Pace::Fair, None).from(ms * MS, u64::MAX)]),
        ("together", |ms| {
            vec![Flow::cubic().from((ms - 5000) * MS, u64::MAX), Flow::ours(Pace::Fair, None)]
        }),
        ("joined", |ms| vec![Flow::cubic().from(ms * MS, u64::MAX), Flow::ours(Pace::Fair, None)]),
        ("2join", |ms| {
            vec![
                Flow::cubic(),
                Flow::ours(Pace::Fair, None).from(ms * MS, u64::MAX),
                Flow::ours(Pace::Fair, None).from((ms + 300) * MS, u64::MAX),
            ]
        }),
        ("2together", |ms| {
            vec![
                Flow::cubic().from((ms - 5000) * MS, u64::MAX),
                Flow::ours(Pace::Fair, None),
                Flow::ours(Pace::Fair, None),
            ]
        }),
        ("2joined", |ms| {
            vec![
                Flow::cubic().from(ms * MS, u64::MAX),
                Flow::ours(Pace::Fair, None),
                Flow::ours(Pace::Fair, None),
            ]
        }),
    ];
    for queue in [250, 500, 1000] {
        for (name, make) in &cases {
            let label = format!("{name}-{queue}-");
            if !label.contains(&only) {
                continue;
            }
            let mut all: Vec<Vec<f64>> = vec![Vec::new(); 3];
            let mut shown = Vec::new();
            for seed in 0..seeds(2) {
                let mut sim = Sim::new(link(100.0, 20.0, queue, 0.0), 1, 2 * SECOND);
                sim.flows = make(5000 + 137 * seed);
                sim.run(30 * SECOND);
                for (flow, parts) in all.iter_mut().enumerate().take(sim.flows.len()) {
                    let part = super::shares(&sim, 100.0, 18, 30)[flow];
                    let least = if sim.flows.len() == 2 { 0.15 } else { 0.08 };
                    assert!(part > least, "{label} {seed}: flow {flow} has {part:.2}");
                    parts.push(part);
                }
                if seed == 0 {
                    for flow in 0..sim.flows.len() {
                        let line: Vec<String> = (0..30)
                            .map(|at| {
                                format!(
                                    "{:.0}",
                                    100.0 * super::shares(&sim, 100.0, at, at + 1)[flow]
                                )
                            })
                            .collect();
                        shown.push(line.join(" "));
                    }
                }
            }
            print!("{label:16}");
            for parts in all.iter_mut().filter(|parts| !parts.is_empty()) {
                parts.sort_by(f64::total_cmp);
                print!(
                    " {:.2} {:.2} {:.2} |",
                    parts[0],
                    parts[parts.len() / 2],
                    parts[parts.len() - 1]
                );
            }
            println!();
            if std::env::var_os("RATE_SHOW").is_some() {
                for line in shown {
                    println!("    {line}");
                }
            }
        }
    }
}

/// Lanes of ours on one queue of which one is in trouble for a while. Whoever then takes the queue that the others hold
/// for the length of the path makes it longer for all.
#[test]
fn lanes_beside_one_in_trouble() {
    let only = std::env::var("RATE_ONLY").unwrap_or_default();
    let clean = link(100.0, 20.0, 1000, 0.0);
    // For how many milliseconds, and one of how many packets is lost.
    let cases = [
        ("many-3-dark", clean.clone(), 3, (600, 1)),
        ("many-4-dark", clean.clone(), 4, (600, 1)),
        ("many-4-lose", clean.clone(), 4, (1500, 10)),
        ("many-4-lose2", clean, 4, (3000, 5)),
        ("many-4-lossy", link(100.0, 20.0, 1000, 0.01), 4, (1500, 10)),
        ("many-4-wan", link(200.0, 50.0, 2500, 0.0), 4, (600, 1)),
    ];
    for (name, profile, lanes, trouble) in &cases {
        if !name.contains(&only) {
            continue;
        }
        let runs: Vec<_> =
            (0..seeds(1)).map(|seed| beside_trouble(profile, seed, *lanes, *trouble)).collect();
        let mean =
            |of: fn(&(f64, f64)) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
        println!("{name:12} wait {:.1}, least part {:.3}", mean(|run| run.0), mean(|run| run.1));
        if std::env::var_os("RATE_SHOW").is_some() {
            println!("    {runs:.3?}");
        }
        assert!(mean(|run| run.1) > 0.05, "{name}: somebody starves");
    }
}

/// How long half of the packets wait in milliseconds, and the least part that a lane has, from 20 s to 40 s.
fn beside_trouble(
    profile: &Profile,
    seed: u64,
    lanes: u64,
    (length, every): (u64, u64),
) -> (f64, f64) {
    let mut sim = Sim::new(profile.clone(), seed + 1, 2 * SECOND);
    let start = |lane| lane * (7 * seed % 50) * MS;
    sim.flows =
        (0..lanes).map(|lane| Flow::ours(Pace::Fair, None).from(start(lane), u64::MAX)).collect();
    let from = 6 * SECOND + 37 * seed * MS;
    sim.flows[0].trouble = Some((from, from + length * MS, every));
    let (from, to) = (20 * SECOND, 40 * SECOND);
    sim.run(to);
    let part = |flow| sim.goodput(flow, from, to) / limit(profile);
    (sim.wait(0.5, from, to), (0..lanes as usize).map(part).fold(9.9, f64::min))
}
