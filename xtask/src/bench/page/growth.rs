//! How haul's cost grows, on the page.

use super::cells::{align, cpu, memory};
use super::plots::haul_bar;
use super::rivals::MEMORY_AIM;
use super::words::HOW_SCALE;
use crate::bench::data::{Load, grouped};
use crate::bench::plot::{Group, Plot, shown as figure};
use crate::bench::race::Measurement;
use crate::bench::scale::{Clients, Scale};

/// With fewer files, what a copy costs once is a large part of what each file costs.
const BASE: u64 = 10_000;

/// A cost per file that grows to no more than so many times what it was with fewer files, [`BASE`] at least,
/// is flat: one run each is no surer than that.
const FLAT: f64 = 1.25;

/// The section with both tables.
pub fn scale_section(scale: &Scale, origin: &str) -> String {
    let head = [
        "Files",
        "Seconds",
        "Microseconds per file",
        "CPU s, near + far",
        "Memory MiB, near + far",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for (load, cost) in &scale.files {
        let files = load.files();
        lines.push(vec![
            grouped(files as u32),
            format!("{:.2}", cost.wall),
            figure(cost.wall * 1e6 / files as f64),
            cpu(|of| of(cost)),
            memory(|of| of(cost)),
        ]);
    }
    let files = align(&lines);
    let head = [
        "Clients",
        "Seconds",
        "MB/s together",
        "CPU s, near + far",
        "Memory MiB, one client + daemon",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for clients in &scale.clients {
        let cost = &clients.cost;
        lines.push(vec![
            clients.count.to_string(),
            format!("{:.2}", cost.wall),
            figure(clients.bytes() as f64 / 1e6 / cost.wall),
            cpu(|of| of(cost)),
            memory(|of| of(cost)),
        ]);
    }
    let clients = align(&lines);
    format!(
        "\n## Cost as work grows\n\n{HOW_SCALE}{origin}\n\n{files}\n{}\nClients at once against one daemon, each with {}:\n\n{clients}\n{}\n\
         ![time per file](plots/scale.svg)\n",
        file_verdicts(scale),
        Clients::describe(),
        client_verdicts(scale),
    )
}

/// Whether cost is flat as files grow, with the figures.
fn file_verdicts(scale: &Scale) -> String {
    let per_file = |of: fn(&Measurement) -> f64| -> Vec<f64> {
        let cost = |(load, cost): &(Load, Measurement)| of(cost) * 1e6 / load.files() as f64;
        scale.files.iter().filter(|(load, _)| load.files() >= BASE).map(cost).collect()
    };
    let costs = scale.files.iter().map(|(_, cost)| cost);
    format!(
        "- Time per file: {}.\n- CPU time per file, both sides: {}.\n- Memory: {}.\n",
        flat(scale, &per_file(|cost| cost.wall)),
        flat(scale, &per_file(Measurement::cpu_sum)),
        bounded(costs),
    )
}

/// Whether memory stays within bounds as clients grow, with the figures.
fn client_verdicts(scale: &Scale) -> String {
    format!("- Memory: {}.\n", bounded(scale.clients.iter().map(|clients| &clients.cost)))
}

/// Whether a figure per file stays about what it was with fewer files, and the two between which it grows most.
fn flat(scale: &Scale, per_file: &[f64]) -> String {
    let most_files = scale.files.iter().map(|(load, _)| load.files()).max().unwrap_or(0);
    let ([first, ..], true) = (per_file, most_files > BASE) else {
        return "not measured".to_owned();
    };
    let (mut least, mut from, mut to) = (*first, *first, *first);
    for cost in per_file {
        least = least.min(*cost);
        if cost / least > to / from {
            (from, to) = (least, *cost);
        }
    }
    let times = to / from;
    format!(
        "{}. From {} to {} files it grows from {} to {} microseconds, {times:.2} times; up to {FLAT} counts \
         as flat",
        if times <= FLAT { "met, it is flat" } else { "missed, it is not flat" },
        grouped(BASE as u32),
        grouped(most_files as u32),
        figure(from),
        figure(to),
    )
}

fn bounded<'a>(costs: impl Iterator<Item = &'a Measurement>) -> String {
    let all: Vec<(u64, u64)> = costs.map(|cost| cost.memory).collect();
    let most = |side: fn(&(u64, u64)) -> u64| all.iter().map(side).max();
    let (Some(near), Some(far)) = (most(|it| it.0), most(|it| it.1)) else {
        return "not measured".to_owned();
    };
    let word = if near.max(far) < MEMORY_AIM { "met" } else { "missed" };
    format!(
        "{word}. At most {} MiB near and {} MiB far; the aim is below {} MiB a side",
        near >> 20,
        far >> 20,
        MEMORY_AIM >> 20
    )
}

/// Time per file.
pub fn scale_plot(scale: &Scale) -> Plot {
    let files = scale.files.iter().map(|(load, cost)| {
        let files = load.files();
        haul_bar(format!("{} files", grouped(files as u32)), cost.wall * 1e6 / files as f64)
    });
    Plot {
        title: "Time per file as files grow".to_owned(),
        unit: "microseconds per file of 4096 bytes, shorter is better".to_owned(),
        groups: vec![Group { heading: String::new(), bars: files.collect() }],
        limit: None,
    }
}

#[cfg(test)]
mod tests;
