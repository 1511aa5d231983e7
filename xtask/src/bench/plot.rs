//! Plots as SVG, dark on light: horizontal bars with the range of the runs, and a line for a limit. Plain
//! shapes and text, so that every viewer shows them.

use std::fmt::Write;

/// What a bar stands for, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// haul.
    Haul,
    /// A tool that people copy with.
    Rival,
    /// Something to measure both by.
    Yardstick,
}

/// One bar.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Left of it.
    pub label: String,
    /// How long it is.
    pub value: f64,
    /// Between which values the runs lie.
    pub range: Option<(f64, f64)>,
    /// Behind it; the value if there is nothing.
    pub note: Option<String>,
    /// Its colour.
    pub kind: Kind,
}

/// Bars that belong together, below a heading.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Above the bars; nothing if it is empty.
    pub heading: String,
    /// From the top.
    pub bars: Vec<Bar>,
}

/// A whole plot.
#[derive(Debug, Clone, Default)]
pub struct Plot {
    /// Above everything.
    pub title: String,
    /// What the values are.
    pub unit: String,
    /// From the top.
    pub groups: Vec<Group>,
    /// A value that cannot be passed, and what it is.
    pub limit: Option<(f64, String)>,
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 275.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 74.0;
const BAR: f64 = 17.0;
const STEP: f64 = 23.0;
const HEADING: f64 = 26.0;
const BOTTOM: f64 = 42.0;
const TEXT: &str = "#1b1f24";
const FAINT: &str = "#d4d8dd";

impl Kind {
    fn colour(self) -> &'static str {
        match self {
            Self::Haul => "#1f5fa8",
            Self::Rival => "#8d949d",
            Self::Yardstick => "#d8bf85",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Haul => "haul",
            Self::Rival => "other programs",
            Self::Yardstick => "yardsticks",
        }
    }
}

impl Plot {
    /// The picture.
    pub fn svg(&self) -> String {
        let bars = || self.groups.iter().flat_map(|group| &group.bars);
        let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
        let tops = bars().map(|bar| finite(bar.range.map_or(bar.value, |range| range.1)));
        let limit = self.limit.as_ref().map(|limit| limit.0);
        let most = tops.chain(limit).fold(0.0, f64::max).max(1e-9);
        let tick = tick(most);
        let most = (most / tick).ceil() * tick;
        let across = |value: f64| LEFT + finite(value) / most * (WIDTH - LEFT - RIGHT);
        let headings = self.groups.iter().filter(|group| !group.heading.is_empty()).count();
        let height = TOP + bars().count() as f64 * STEP + headings as f64 * HEADING + BOTTOM;

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        );
        text(&mut svg, 12.0, 26.0, "start", "16", &self.title);
        self.legend(&mut svg);
        let floor = height - BOTTOM;
        let mut value = 0.0;
        while value <= most * 1.0001 {
            let x = across(value);
            line(&mut svg, (x, TOP - 6.0), (x, floor), FAINT, "1");
            text(&mut svg, x, floor + 16.0, "middle", "12", &round(value));
            value += tick;
        }
        text(&mut svg, across(most / 2.0), floor + 34.0, "middle", "12", &self.unit);
        let mut y = TOP;
        for group in &self.groups {
            if !group.heading.is_empty() {
                text(&mut svg, 12.0, y + HEADING - 9.0, "start", "13", &group.heading);
                y += HEADING;
            }
            for bar in &group.bars {
                draw(&mut svg, bar, y, &across);
                y += STEP;
            }
        }
        if let Some((limit, name)) = &self.limit {
            let x = across(*limit);
            line(&mut svg, (x, TOP - 6.0), (x, floor), "#b3261e", "1.5");
            text(&mut svg, x, TOP - 10.0, "middle", "12", name);
        }
        svg + "</svg>\n"
    }

    fn legend(&self, svg: &mut String) {
        let mut x = 12.0;
        for kind in [Kind::Haul, Kind::Rival, Kind::Yardstick] {
            if !self.groups.iter().any(|group| group.bars.iter().any(|bar| bar.kind == kind)) {
                continue;
            }
            let colour = kind.colour();
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"38\" width=\"11\" height=\"11\" fill=\"{colour}\"/>"
            );
            text(svg, x + 16.0, 48.0, "start", "12", kind.name());
            x += 30.0 + 7.5 * kind.name().len() as f64;
        }
    }
}

fn draw(svg: &mut String, bar: &Bar, y: f64, across: &impl Fn(f64) -> f64) {
    let (zero, end) = (across(0.0), across(bar.value));
    let (width, colour) = ((end - zero).max(0.0), bar.kind.colour());
    text(svg, LEFT - 8.0, y + 13.0, "end", "13", &bar.label);
    let _ = writeln!(
        svg,
        "<rect x=\"{zero:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
    );
    let mut behind = end;
    if let Some((least, most)) = bar.range.filter(|(least, most)| most > least) {
        let (from, to, middle) = (across(least), across(most), y + BAR / 2.0);
        line(svg, (from, middle), (to, middle), TEXT, "1.2");
        for x in [from, to] {
            line(svg, (x, middle - 4.0), (x, middle + 4.0), TEXT, "1.2");
        }
        behind = behind.max(to);
    }
    let note = bar.note.clone().unwrap_or_else(|| shown(bar.value));
    text(svg, behind + 6.0, y + 13.0, "start", "12", &note);
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, width: &str) {
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" \
         stroke-width=\"{width}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, size: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" \
         fill=\"{TEXT}\" stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\">{words}</text>"
    );
}

/// A round distance between lines, so that there are about five.
fn tick(most: f64) -> f64 {
    let unit = 10_f64.powf((most / 5.0).log10().floor());
    let times = most / 5.0 / unit;
    let round = [1.0, 2.0, 5.0, 10.0].into_iter().find(|round| times <= *round).unwrap_or(10.0);
    unit * round
}

/// A round value without the zeros that say nothing.
fn round(value: f64) -> String {
    ((value * 1e6).round() / 1e6).to_string()
}

/// Three digits that count, which is more than the figures are good for.
pub fn shown(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "-".to_owned(),
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests;
