//! How haul shares a link, on the page.

use super::cells::align;
use super::plots::haul_bar;
use super::words::HOW_SHARING;
use crate::bench::plot::{Bar, Group, Kind, Plot};
use crate::bench::sharing::{self, Shared};
use crate::bench::stats::{mean, percentile};

/// The section with its table.
pub fn sharing_section(shared: &[Shared], origin: &str) -> String {
    let head = [
        "haul cp",
        "Transfers MB/s",
        "TCP MB/s",
        "Shares %",
        "Ping idle ms",
        "Rise, mean",
        "Rise, 95th percentile",
        "Pings lost",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for it in shared {
        let sum = it.sum();
        let shares = [it.transfers[0], it.transfers[1], it.flow]
            .map(|rate| format!("{:.0}", 100.0 * rate / sum));
        let (rise, high) = it.rise();
        lines.push(vec![
            it.pace.as_ref().map_or("as it is".to_owned(), |pace| format!("--pace {pace}")),
            format!("{:.2}, {:.2}", it.transfers[0] / 1e6, it.transfers[1] / 1e6),
            format!("{:.2}", it.flow / 1e6),
            shares.join(", "),
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
        "\n## Sharing a link\n\n{HOW_SHARING}{origin} The link is made as by `badlink {}`.\n\n{}\n\
         ![rates on the shared link](plots/sharing.svg)\n",
        options.join(" "),
        align(&lines)
    )
}

/// The rates.
pub fn sharing_plot(shared: &[Shared]) -> Plot {
    let groups = shared.iter().map(|it| {
        let heading =
            it.pace.as_ref().map_or("haul cp".to_owned(), |pace| format!("haul cp --pace {pace}"));
        let flow =
            Bar { kind: Kind::Rival, ..haul_bar("TCP flow with CUBIC".to_owned(), it.flow / 1e6) };
        let transfer = |at: usize| haul_bar(format!("transfer {}", at + 1), it.transfers[at] / 1e6);
        Group { heading, bars: vec![transfer(0), transfer(1), flow] }
    });
    Plot {
        title: "Two transfers and one TCP flow on 100 Mbit/s, 40 ms round trip".to_owned(),
        unit: "MB/s".to_owned(),
        groups: groups.collect(),
        limit: Some((12.5, "the link".to_owned())),
    }
}
