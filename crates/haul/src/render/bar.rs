//! The progress line. Pure but for the question how wide the terminal is; names are escaped and the
//! line is cut, so that it never wraps.

use std::time::Duration;

use events::Snapshot;

use crate::bounds::{self, Here};
use crate::units;

/// The width where the terminal does not say.
const USUAL_WIDTH: usize = 80;
/// A shorter piece of a name says nothing.
const LEAST_NAME: usize = 8;

/// What the line shows.
#[derive(Debug, Clone)]
pub struct Figures {
    /// The counters.
    pub snapshot: Snapshot,
    /// Bytes per second just now.
    pub rate: f64,
    /// How long the rest will take, if that can be said.
    pub left: Option<Duration>,
    /// What was copied is read a second time.
    pub verifying: bool,
}

/// Columns of the terminal that standard error goes to.
pub fn width() -> usize {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => USUAL_WIDTH,
    }
}

/// The line, at most `width` columns less one: some terminals wrap when the last column is written.
pub fn line(figures: &Figures, here: Here, width: usize) -> String {
    let Figures { snapshot, rate, left, verifying } = figures;
    let acknowledged = units::bytes(snapshot.bytes_acknowledged);
    let total = units::bytes(snapshot.bytes_total);
    let mut text = match snapshot.walk_finished {
        true => {
            let share = match snapshot.bytes_total {
                0 => 100,
                total => {
                    u128::from(snapshot.bytes_acknowledged.min(total)) * 100 / u128::from(total)
                }
            };
            format!("{share:3}%  {acknowledged} of {total}")
        }
        false => format!("{acknowledged} of {total} found so far"),
    };
    if *verifying {
        text.insert_str(0, "verifying  ");
    }
    text.push_str(&format!("  {}", units::rate(*rate)));
    if let Some(left) = left.filter(|left| !left.is_zero()) {
        text.push_str(&format!("  {} left", units::duration(left)));
    }
    if snapshot.link.packets_sent > 0 {
        let loss = snapshot.link.loss() * 100.0;
        let rtt = snapshot.link.rtt.as_secs_f64() * 1000.0;
        text.push_str(&format!("  loss {loss:.1}% rtt {rtt:.0} ms"));
    }
    let room = width.saturating_sub(1);
    let failed = match snapshot.files_failed {
        0 => String::new(),
        failed => format!("  {failed} failed"),
    };
    if let Some(mut words) = bounds::words(snapshot.bound, here) {
        const BEFORE: &str = "  bound by ";
        // A figure that is cut off would say something else.
        if columns(&text) + columns(BEFORE) + columns(&words) + columns(&failed) > room {
            words = bounds::kind_words(snapshot.bound.kind, here);
        }
        text.push_str(BEFORE);
        text.push_str(&words);
    }
    text.push_str(&failed);
    let used = columns(&text);
    if let Some(current) = &snapshot.current
        && used + 2 + LEAST_NAME <= room
    {
        let name = files::escape(current).to_string();
        text.push_str("  ");
        text.push_str(&keep_end(&name, room - used - 2));
    }
    cut(&text, room)
}

/// The end of a name, which says most, behind dots if something is missing.
fn keep_end(name: &str, room: usize) -> String {
    if columns(name) <= room {
        return name.to_owned();
    }
    let mut left = room.saturating_sub(3);
    let mut start = name.len();
    for (at, character) in name.char_indices().rev() {
        let wide = columns_of(character);
        if wide > left {
            break;
        }
        left -= wide;
        start = at;
    }
    format!("...{}", &name[start..])
}

fn cut(text: &str, room: usize) -> String {
    let mut left = room;
    let fits = |character: &char| {
        let wide = columns_of(*character);
        let fits = wide <= left;
        left = left.saturating_sub(wide);
        fits
    };
    text.chars().take_while(fits).collect()
}

fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// Two for what East Asian scripts and most symbols of pictures take. To take too many for one narrow
/// character costs a column; to take one for a wide one would wrap the line.
fn columns_of(character: char) -> usize {
    match u32::from(character) {
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xa960..=0xa97c
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f000..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests;
