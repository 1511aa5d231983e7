//! How haul shares a link, on the page, and whether it does so as it is to.

use std::fmt::Write;

use super::cells::align;
use super::plots::haul_bar;
use super::words::HOW_SHARING;
use crate::bench::plot::{Bar, Group, Kind, Plot};
use crate::bench::sharing::{self, Scene, Shared};
use crate::bench::stats::{mean, percentile};

/// By how many milliseconds a ping may rise through what haul sends, with each pace.
const RISES: [(Scene, Scene, f64); 2] = [
    (Scene::Fair, Scene::FairAndCubic, 60.0),
    (Scene::Background, Scene::BackgroundAndCubic, 15.0),
];

/// Whoever has less than this part of an equal share is starved.
const STARVED: f64 = 0.5;

/// The section with its table.
pub fn sharing_section(shared: &[Shared], origin: &str) -> String {
    let head = [
        "Who sends",
        "Transfers MB/s",
        "CUBIC MB/s",
        "Shares %",
        "Ping idle ms, mean / 95th percentile",
        "Rise, mean",
        "Rise, 95th percentile",
        "Pings lost",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for it in shared {
        let (rise, high) = it.rise();
        lines.push(vec![
            it.scene.describe(),
            joined(&it.transfers, |rate| format!("{:.2}", rate / 1e6)),
            it.flow.map_or("-".to_owned(), |rate| format!("{:.2}", rate / 1e6)),
            joined(&shares(it), |share| format!("{:.0}", 100.0 * share)),
            format!("{:.1} / {:.1}", mean(&it.idle), percentile(&it.idle, 0.95)),
            format!("{rise:.1} ms"),
            format!("{high:.1} ms"),
            format!("{} of {}", it.lost, it.lost + it.busy.len()),
        ]);
    }
    let options: Vec<String> = sharing::WORDS
        .split_whitespace()
        .map(|word| format!("--{}", word.replace('=', " ")))
        .collect();
    format!(
        "\n## Sharing a link\n\n{HOW_SHARING}{origin} The link is made as by `badlink {}`.\n\n{}\n{}\n\
         ![rates on the shared link](plots/sharing.svg)\n",
        options.join(" "),
        align(&lines),
        verdicts(shared),
    )
}

fn joined(figures: &[f64], of: impl Fn(f64) -> String) -> String {
    match figures.is_empty() {
        true => "-".to_owned(),
        false => figures.iter().map(|figure| of(*figure)).collect::<Vec<_>>().join(", "),
    }
}

/// What part of all each has, the plain flow last.
fn shares(shared: &Shared) -> Vec<f64> {
    let rates = shared.rates();
    let sum: f64 = rates.iter().sum();
    rates.iter().map(|rate| rate / sum).collect()
}

/// Whether haul leaves others what it is to leave them, a line for each aim.
pub fn verdicts(shared: &[Shared]) -> String {
    let of = |scene| shared.iter().find(|it| it.scene == scene);
    let rise = |scene| of(scene).map(|it| it.rise().0).filter(|rise| rise.is_finite());
    let mut text = String::new();
    for (alone, beside, most) in RISES {
        let _ = writeln!(text, "- Ping, {}: {}.", alone.describe(), below(rise(alone), most, ""));
        let added = rise(beside).zip(rise(Scene::Cubic)).map(|(both, cubic)| both - cubic);
        let than = " above CUBIC alone";
        let _ = writeln!(text, "- Ping, {}: {}.", beside.describe(), below(added, most, than));
    }
    for scene in [Scene::Fair, Scene::FairAndCubic] {
        let _ = writeln!(text, "- Shares, {}: {}.", scene.describe(), nobody_starves(of(scene)));
    }
    let flow = |scene| of(scene).and_then(|it| it.flow);
    if let Some((left, alone)) = flow(Scene::BackgroundAndCubic).zip(flow(Scene::Cubic)) {
        let (percent, scene) = (100.0 * left / alone, Scene::BackgroundAndCubic.describe());
        let _ =
            writeln!(text, "- Shares, {scene}: CUBIC keeps {percent:.0} % of what it has alone.");
    }
    text
}

fn below(rise: Option<f64>, most: f64, than: &str) -> String {
    match rise {
        None => "not measured".to_owned(),
        Some(rise) => {
            let word = if rise < most { "met" } else { "missed" };
            format!("{word}, its mean rises by {rise:.1} ms{than}, wanted below {most:.0} ms")
        }
    }
}

fn nobody_starves(shared: Option<&Shared>) -> String {
    let Some(shared) = shared else { return "not measured".to_owned() };
    let shares = shares(shared);
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let wanted = STARVED / shares.len() as f64;
    let word = if least >= wanted { "met" } else { "missed" };
    format!(
        "{word}, the least share is {:.0} %, wanted half of an equal one, {:.0} %",
        100.0 * least,
        100.0 * wanted
    )
}

/// The rates.
pub fn sharing_plot(shared: &[Shared]) -> Plot {
    let groups = shared.iter().map(|it| {
        let transfers = it.transfers.iter().enumerate();
        let transfer =
            |(at, rate): (usize, &f64)| haul_bar(format!("transfer {}", at + 1), rate / 1e6);
        let flow = it.flow.map(|rate| Bar {
            kind: Kind::Rival,
            ..haul_bar("TCP flow with CUBIC".to_owned(), rate / 1e6)
        });
        // A plot has no code font.
        let heading = it.scene.describe().replace('`', "");
        Group { heading, bars: transfers.map(transfer).chain(flow).collect() }
    });
    Plot {
        title: "Who has what of 100 Mbit/s, 40 ms round trip".to_owned(),
        unit: "MB/s".to_owned(),
        groups: groups.collect(),
        limit: Some((12.5, "the link".to_owned())),
    }
}

#[cfg(test)]
mod tests;
