//! How haul's cost grows, on the page.

use super::cells::{align, cpu, memory};
use super::plots::haul_bar;
use super::words::HOW_SCALE;
use crate::bench::data::grouped;
use crate::bench::plot::{Group, Plot, shown as figure};
use crate::bench::scale::{Clients, Scale};

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
    format!(
        "\n## Cost as work grows\n\n{HOW_SCALE}{origin}\n\n{files}\nClients at once against one daemon, each with {}:\n\n{}\n\
         ![time per file and speed of all clients](plots/scale.svg)\n",
        Clients::describe(),
        align(&lines)
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
        unit: "microseconds per file of 256 bytes, shorter is better".to_owned(),
        groups: vec![Group { heading: String::new(), bars: files.collect() }],
        limit: None,
    }
}
