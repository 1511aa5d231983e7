//! The figures as a page of the documentation, and each part on the terminal.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::channels::{EVERY, MESSAGE};
use super::grid::{Cell, DiodeGrid, Found};
use super::link::shown_rules;
use super::pass::Pass;
use super::rivals::Rival;
use super::{DiodeChannels, DiodeMillion, DiodeRivals, GRID, MILLION, PARTS};
use crate::bench::archive::{Archive, Figures, Record};
use crate::bench::data::grouped;
use crate::bench::page::cells::{align, cpu, memory};
use crate::bench::page::changed;
use crate::bench::plot::{Bar, Group, Kind, Plot, shown as figure};
use crate::bench::race::Measurement;
use crate::bench::stats::Spread;

/// What is to be reached with packets of 1,500 bytes, in bytes per second.
const AIM: f64 = 450e6;

/// The most memory that a million files may take on each side.
const AIM_MEMORY: u64 = 300 << 20;

/// Writes the page, its figures beside it, and its plot.
pub fn write(page: &Path, record: &Record) -> Result<()> {
    record.archive.write(&page.with_extension("json"))?;
    let text = self::page(record);
    if let Some(grid) = grid(&record.archive) {
        let plots = page.parent().unwrap_or(Path::new("")).join("plots");
        fs::create_dir_all(&plots).with_context(|| format!("make {}", plots.display()))?;
        let path = plots.join("diode.svg");
        fs::write(&path, plot(grid).svg()).with_context(|| format!("write {}", path.display()))?;
    }
    fs::write(page, text).with_context(|| format!("write {}", page.display()))
}

/// The page.
fn page(record: &Record) -> String {
    let archive = &record.archive;
    let mut page = format!(
        "# What a link with no way back carries\n\nThis page is written by `cargo xtask bench diode`, last \
         on {}. The figures of single runs are in [benchmarks-diode.json](benchmarks-diode.json); copies over \
         links with a way back are on [another page](benchmarks.md).\n\n",
        record.day
    );
    page += &changed(archive, str::to_owned);
    let lacking: Vec<&str> =
        PARTS.into_iter().filter(|part| !archive.parts.contains_key(*part)).collect();
    if !lacking.is_empty() {
        let _ = write!(page, "Not measured yet: {}.\n\n", lacking.join(", "));
    }
    page += &verdicts(archive);
    let _ = write!(page, "## How it is measured\n\n{HOW}\n    ");
    page += &shown_rules().join("\n    ");
    let _ = write!(
        page,
        "\n\nSource and target lie on {}.\n\n## Machine and programs\n\n",
        archive.disk
    );
    for line in &archive.machine {
        let _ = writeln!(page, "- {line}");
    }
    for line in archive.lines(|part| part.versions.get(1..).unwrap_or_default()) {
        let _ = writeln!(page, "- {line}");
    }
    for reason in archive.lines(|part| &part.missing) {
        let _ = writeln!(page, "- Note: {}", reason.replace('\n', " "));
    }
    page.extend(PARTS.map(|part| section(part, archive)));
    page + REPEAT
}

/// One part, as it is on the page.
pub fn section(name: &str, archive: &Archive) -> String {
    let Some(part) = archive.parts.get(name) else { return String::new() };
    let origin = format!("{} Runs of each: {}.", archive.origin(name), part.runs);
    match &part.figures {
        Figures::DiodeGrid(grid) => grid_section(grid, &origin),
        Figures::DiodeRivals(rivals) => rivals_section(rivals, &origin),
        Figures::DiodeChannels(channels) => channels_section(channels, &archive.origin(name)),
        Figures::DiodeMillion(million) => million_section(million, &archive.origin(name)),
        _ => String::new(),
    }
}

fn grid(archive: &Archive) -> Option<&DiodeGrid> {
    match &archive.parts.get(GRID)?.figures {
        Figures::DiodeGrid(grid) => Some(grid),
        _ => None,
    }
}

/// Whether it reaches what it is to reach.
fn verdicts(archive: &Archive) -> String {
    let mut lines = Vec::new();
    let mut verdict = |is_so: bool, text: String| {
        lines.push(format!("- {}: {text}", if is_so { "Yes" } else { "**No**" }));
    };
    if let Some(grid) = grid(archive) {
        let small = |cell: &&Cell| cell.setting.packet == 1500 && cell.load.files() == 1;
        let whole = grid.cells.iter().find(|cell| small(cell) && cell.setting.offload);
        if let Some(cell) = whole {
            let (speed, ours) = (cell.goodput().median, cell.sum(Pass::lost_by_us));
            verdict(
                speed >= AIM && ours == 0,
                format!(
                    "at least {:.0} MB/s with packets of 1,500 bytes and no loss of ours: {:.0} MB/s, {ours} \
                     packets",
                    AIM / 1e6,
                    speed / 1e6
                ),
            );
        }
        let most = grid.cells.iter().map(|cell| cell.per_mille).max().unwrap_or(0);
        let lost: u64 = grid.cells.iter().map(|cell| cell.sum(|pass| pass.lost_files)).sum();
        verdict(
            lost == 0,
            format!(
                "no file lost in one pass with up to {} % of all packets lost: {lost}",
                percent(most)
            ),
        );
        let back: u64 = grid.cells.iter().map(|cell| cell.sum(|pass| pass.back)).sum();
        verdict(back == 0, format!("no packet sent by the receiving host: {back}"));
    }
    if let Some(Figures::DiodeMillion(million)) = archive.parts.get(MILLION).map(|it| &it.figures) {
        let peaks = [&million.first.cost, &million.look, &million.second.cost];
        let most = |of: fn(&&Measurement) -> u64| peaks.iter().map(of).max().unwrap_or(0);
        let (near, far) = (most(|it| it.memory.0), most(|it| it.memory.1));
        verdict(
            near.max(far) < AIM_MEMORY,
            format!(
                "a tree of {} files with less than {} MiB on each side: {} and {} MiB",
                grouped(million.load.files() as u32),
                AIM_MEMORY >> 20,
                near >> 20,
                far >> 20
            ),
        );
    }
    match lines.is_empty() {
        true => String::new(),
        false => format!("## What it is to reach\n\n{}\n\n", lines.join("\n")),
    }
}

impl Cell {
    fn goodput(&self) -> Spread {
        Spread::of(self.passes.iter().filter_map(|pass| pass.goodput(self.load)).collect())
    }

    fn sum(&self, of: impl Fn(&Pass) -> u64) -> u64 {
        self.passes.iter().map(of).sum()
    }

    fn median(&self, of: impl Fn(&Measurement) -> f64) -> f64 {
        Spread::of(self.passes.iter().map(|pass| of(&pass.cost)).collect()).median
    }
}

fn grid_section(grid: &DiodeGrid, origin: &str) -> String {
    let mut text =
        format!("\n## One pass\n\n{HOW_GRID}{origin}\n\n![Goodput](plots/diode.svg)\n\n");
    for found in &grid.found {
        text += &found_line(found);
    }
    let _ = writeln!(text, "- Receive buffer that the kernel granted: {} MiB", grid.buffer >> 20);
    let mut packets: Vec<u32> = grid.found.iter().map(|found| found.setting.packet).collect();
    packets.dedup();
    for packet in packets {
        let head = [
            "Load",
            "Packets lost",
            "--rate, MB/s",
            "Goodput, MB/s",
            "Files lost",
            "CPU s/GiB, near + far",
            "Memory MiB, near + far",
            "Lost on purpose",
            "haul says: by the link",
            "by the kernel",
            "by haul",
        ];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        let mut cells: Vec<&Cell> =
            grid.cells.iter().filter(|cell| cell.setting.packet == packet).collect();
        cells.sort_by_key(|cell| (cell.load.files(), cell.per_mille, !cell.setting.offload));
        lines.extend(cells.into_iter().map(|cell| line(grid, cell)));
        let _ = write!(text, "\nPackets of {} bytes:\n\n{}", grouped(packet), align(&lines));
    }
    text
}

fn found_line(found: &Found) -> String {
    let tried = found.tried.iter().map(|(rate, fault)| match fault {
        Some(fault) => format!("{rate} ({fault})"),
        None => format!("{rate} (whole)"),
    });
    let tried: Vec<String> = tried.collect();
    format!(
        "- Highest rate, packets of {} bytes{}: **{} MB/s**. Tried: {}.\n",
        grouped(found.setting.packet),
        if found.setting.offload { "" } else { ", each for itself" },
        found.rate,
        tried.join(", ")
    )
}

fn line(grid: &DiodeGrid, cell: &Cell) -> Vec<String> {
    let gibibytes = cell.load.bytes() as f64 / f64::from(1 << 30);
    let is_lower = grid.rate(cell.setting).is_some_and(|rate| cell.rate < rate);
    let goodput = cell.goodput();
    let share = |count: u64| {
        let frames = cell.sum(|pass| pass.frames).max(1);
        format!("{count} ({:.2} %)", 100.0 * count as f64 / frames as f64)
    };
    vec![
        cell.load.describe(),
        format!(
            "{} %{}",
            percent(cell.per_mille),
            if cell.setting.offload { ", whole buffers" } else { "" }
        ),
        format!("{}{}", cell.rate, if is_lower { ", lower" } else { "" }),
        ranged(goodput),
        cell.sum(|pass| pass.lost_files).to_string(),
        cpu(|of| cell.median(of) / gibibytes),
        memory(|of| cell.median(of)),
        share(cell.sum(|pass| pass.dropped)),
        share(cell.sum(|pass| pass.lost_link)),
        cell.sum(|pass| pass.lost_kernel).to_string(),
        cell.sum(|pass| pass.lost_program + pass.lost_disk).to_string(),
    ]
}

/// A median in megabytes per second and the range around it.
fn ranged(spread: Spread) -> String {
    if !spread.median.is_finite() {
        return "-".to_owned();
    }
    let [median, least, most] =
        [spread.median, spread.least, spread.most].map(|bytes| figure(bytes / 1e6));
    format!("{median} [{least}-{most}]")
}

fn percent(per_mille: u32) -> String {
    let figure = f64::from(per_mille) / 10.0;
    figure.to_string()
}

fn plot(grid: &DiodeGrid) -> Plot {
    let mut groups: Vec<Group> = Vec::new();
    for cell in &grid.cells {
        let how = if cell.setting.offload { ", buffers pass whole" } else { "" };
        let packet = grouped(cell.setting.packet);
        let heading = format!("{}, packets of {packet} bytes", cell.load.describe());
        let goodput = cell.goodput();
        let bar = Bar {
            label: format!("{} % lost{how}", percent(cell.per_mille)),
            value: goodput.median / 1e6,
            range: Some((goodput.least / 1e6, goodput.most / 1e6)),
            note: None,
            kind: Kind::Haul,
        };
        match groups.iter_mut().find(|group| group.heading == heading) {
            Some(group) => group.bars.push(bar),
            None => groups.push(Group { heading, bars: vec![bar] }),
        }
    }
    Plot {
        title: "Goodput of one pass, no file lost".to_owned(),
        unit: "MB/s of files that arrived and were verified".to_owned(),
        groups,
        limit: None,
    }
}

fn rivals_section(rivals: &DiodeRivals, origin: &str) -> String {
    let head = [
        "Program",
        "Packets lost",
        "Rate it is told, MB/s",
        "Arrived identical",
        "Goodput, MB/s",
        "CPU s, near + far",
        "Memory MiB, near + far",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for line in &rivals.lines {
        let median = |of: fn(&Measurement) -> f64| {
            Spread::of(line.runs.iter().map(|(_, cost)| of(cost)).collect()).median
        };
        lines.push(vec![
            line.rival.name(),
            format!("{} %", percent(line.per_mille)),
            line.rate.map_or_else(|| "none".to_owned(), |rate| rate.to_string()),
            format!("{} of {}", line.arrived(), line.runs.len()),
            ranged(line.goodput(rivals.load)),
            cpu(median),
            memory(median),
        ]);
    }
    let mut text = format!("\n## Beside others\n\n{HOW_RIVALS}{origin}\n\n{}", align(&lines));
    let mut seen: Vec<Rival> = Vec::new();
    for line in &rivals.lines {
        if line.rival != Rival::Haul && !seen.contains(&line.rival) {
            seen.push(line.rival);
            let _ = write!(text, "\n    {}\n", line.commands.join("\n    "));
        }
    }
    if let Some(uftp) = &rivals.uftp {
        let _ = write!(text, "\nuftp needs answers, and over this link has none: {uftp}\n");
    }
    text
}

fn channels_section(channels: &[DiodeChannels], origin: &str) -> String {
    let head = [
        "Channel",
        "--rate, MB/s",
        "Messages beside files",
        "Alone, ms: 50 %, 99 %, most",
        "Beside files, ms",
        "Added, ms",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let three = |of: [f64; 3]| of.map(|it| format!("{it:.2}")).join(", ");
    for one in channels {
        for (name, delays) in [("TCP", &one.tcp), ("UDP", &one.udp)] {
            let added = [0, 1, 2].map(|at| delays.beside[at] - delays.alone[at]);
            lines.push(vec![
                name.to_owned(),
                one.rate.to_string(),
                delays.count.to_string(),
                three(delays.alone),
                three(delays.beside),
                three(added),
            ]);
        }
    }
    let told: Vec<String> = channels
        .iter()
        .map(|one| {
            format!(
                "- At {} MB/s: {} GiB of files in {:.1} s; {} messages through each channel, of which {} \
                 datagrams were lost and none of the others.\n",
                one.rate,
                figure(one.bytes as f64 / f64::from(1 << 30)),
                one.seconds,
                grouped(one.messages as u32),
                one.lost
            )
        })
        .collect();
    format!(
        "\n## Channels beside files\n\nMessages of {MESSAGE} bytes go every {} ms through a TCP channel and a \
         UDP channel. {HOW_CHANNELS}{origin}\n\n{}\n{}",
        EVERY.as_millis(),
        align(&lines),
        told.concat()
    )
}

fn million_section(million: &DiodeMillion, origin: &str) -> String {
    let head = [
        "What",
        "Seconds",
        "Known to the sender after",
        "MB sent",
        "Same in the end",
        "CPU s, near + far",
        "Memory MiB, near + far",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let changed = format!("{} files changed", grouped(million.changes as u32));
    for (name, one) in [("From nothing", &million.first), (&changed, &million.second)] {
        let (cost, dash) = (&one.cost, || "-".to_owned());
        lines.push(vec![
            name.to_owned(),
            format!("{:.1}", cost.wall),
            one.scanned.map_or_else(dash, |at| format!("{at:.1} s")),
            figure(one.sent_bytes as f64 / 1e6),
            grouped(one.same as u32),
            cpu(|of| of(cost)),
            memory(|of| of(cost)),
        ]);
    }
    let told = million.lost.iter().map(|(rate, why)| format!("; not at {rate} MB/s ({why})"));
    let lost: String = told.collect();
    let look = &million.look;
    lines.push(vec![
        "A look, nothing changed".to_owned(),
        format!("{:.1}", look.wall),
        "-".to_owned(),
        "-".to_owned(),
        "-".to_owned(),
        cpu(|of| of(look)),
        memory(|of| of(look)),
    ]);
    format!(
        "\n## A million files\n\n{}, at {} MB/s with packets of 1,500 bytes{lost}.\n{HOW_MILLION}{origin}\n\n{}",
        million.load.describe(),
        million.rate,
        align(&lines)
    )
}

/// How all of it is measured.
const HOW: &str = "\
- `haul diode send` and `haul diode recv` run on one machine, each in a network namespace of its own, so both
  share its processors. A pair of virtual Ethernet devices joins the namespaces. Nothing leads back: there is no
  IPv6, the far device knows no link address, and what the far host sends is counted.
- Each pass has fresh keys and a fresh receiver, `--once --settle 0`, and otherwise defaults: everything is
  encrypted, 15 % repair, an outage of 50 ms bridged.
- Time is from the start of the sender's command to the moment at which the receiver says that the generation is
  complete, with each file's BLAKE3 checked and the tree compared; after that the bench compares it byte by byte.
- Processor time is the two programs' own, as the kernel accounts it; memory is the peak that is resident.
- Before each run 3 GiB of memory are written to and given back: where the machine is a guest, its host may take
  free memory back, and the first touch of each page then takes longer than all that is measured.
- Losses are what the receiver's status says: what the link lost, what its kernel dropped because the program
  was slow, and what the program dropped itself or for a slow disk.
- Virtual devices hand large buffers over whole, as segmentation offload lets them, and nothing of one packet
  could get lost. Where packets are lost, the sender's kernel cuts buffers up before they leave, which takes
  processor time that a network card would not; so loss of 0 % is measured in both ways. `net.core.netdev_max_backlog`
  is 10000 meanwhile: what waits between such devices is no part of any real link. Packets are lost at random:
";

const HOW_GRID: &str = "\
The highest rate is searched by halving steps of 50 MB/s: the highest `--rate` at which a file of 1 GiB arrives whole
in one pass, in every run, with nothing lost by link, kernel or program; a rate counts as too high when it fails twice.
All passes over the same kind of link use it, or a lower one where files would be lost or the kernel or haul would drop
something at it, which the table says. Medians with the range.
";

const HOW_RIVALS: &str = "\
The same file over the same link, in turn; haul at the rates of the tables above. Packets have 1,500 bytes and pass each
for itself, also at 0 %. udpcast runs in its one-way mode with the FEC that its manual suggests, at the highest rate at
which a file of 256 MiB arrived; lidi takes no rate, and runs with its default repair and with 10 %. Their time is to the
last byte of the file. The receiver of udpcast sends packets at its start, and does without an answer.
";

const HOW_CHANNELS: &str = "\
The time is in each message. First they go alone for 5 s, of which the first does not count, then while files of one generation fill the link, from 0.3 s after they were
moved into the tree until the receiver says that they are complete. The time is from the write to the far end's read.
Every byte of every message is checked: through the TCP channel all must come in their order, through the UDP channel
none twice. Where files get lost beside channels, the rate is lowered in steps of a fifth.
";

const HOW_MILLION: &str = "\
The receiver keeps running; each line is one run of `haul diode send --once`. Seconds are to the moment at which the
receiver says that all is the same, compared with the disk; those of a look are to the sender's end. Entries that are
the same are files and folders.
";

const REPEAT: &str = "
## Repeat it

On a machine that does nothing else, as root:

    cargo xtask bench diode

It takes about a quarter of an hour and leaves no namespace, process or setting behind, also when it is interrupted; what
was measured until then is kept. It needs iproute2, nft and ethtool, and installs these, udpcast and uftp with apt-get
where that is possible; lidi takes part if its programs are in PATH. `--parts grid,rivals,channels,million` measures
these anew and leaves the others as they are; `--runs N` sets the number of runs; `--quick` and `--haul FILE` do not write
this page, unless `--page FILE` says where. Commit all changes first, or the page begins with a warning. In the commands
above, `$D` is the folder of the bench, and `$A` and `$B` are the namespaces.
";

#[cfg(test)]
mod tests;
