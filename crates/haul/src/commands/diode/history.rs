//! Figures over time: what `status --json` tells, a line every ten seconds, in the state folder. Two files of bounded
//! size take turns, so that the last days are there, some ten of a receiver and three weeks of a sender at most, and the
//! disk is not filled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use files::{Dir, Follow, RelPath, Replace};
use serde_json::Value;

use super::home::now_ms;
use crate::render;
use crate::state::own_name;
use crate::units;

const NEW: &str = "history.jsonl";
const OLD: &str = "history-before.jsonl";

/// Bytes of a file, beyond which the other one begins: some five days of a receiver, whose lines have about 720 bytes,
/// and ten of a sender.
const MOST: u64 = 32 << 20;

const EVERY: Duration = Duration::from_secs(10);

/// Writes the figures of one side down.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    dir: Dir,
    read: Box<dyn Fn() -> Value + Send + Sync>,
}

impl History {
    /// Begins; it goes on until the process ends.
    pub fn keep(dir: &Dir, read: impl Fn() -> Value + Send + Sync + 'static) -> Result<Self> {
        let history = Self(Arc::new(Inner { dir: dir.clone(), read: Box::new(read) }));
        let kept = history.clone();
        std::thread::Builder::new()
            .name("diode history".to_owned())
            .spawn(move || {
                loop {
                    std::thread::sleep(EVERY);
                    kept.note();
                }
            })
            .context("cannot start a thread for the history")?;
        Ok(history)
    }

    /// Writes the figures down as they are now.
    pub fn note(&self) {
        let mut told = (self.0.read)();
        told["time_ms"] = now_ms().into();
        // A disk that is full is told by others; the figures of ten seconds are no reason to stop.
        let _ = append(&self.0.dir, &told, MOST);
    }
}

fn append(dir: &Dir, told: &Value, most: u64) -> Result<()> {
    dir.append_line(&own_name(NEW), told.to_string().as_bytes())?;
    if dir.attributes_of(&own_name(NEW).into())?.size >= most {
        dir.rename(&own_name(NEW), (dir, &own_name(OLD)), Replace::Yes)?;
    }
    Ok(())
}

/// What was written down since a time in milliseconds since 1970, in order.
fn since(dir: &Dir, from_ms: u64) -> Result<Vec<Value>> {
    let mut lines = Vec::new();
    for name in [OLD, NEW] {
        let file = match dir.open_file(&RelPath::from(own_name(name)), Follow::Never) {
            Err(error) if error.is_not_found() => continue,
            file => file?,
        };
        // A line that a power cut left half is none.
        let text = file.read_whole(2 * MOST)?;
        let told =
            text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        lines.extend(told.filter(|line: &Value| line["time_ms"].as_u64() >= Some(from_ms)));
    }
    Ok(lines)
}

/// Prints what was written down for so long, of both sides.
pub fn print(sides: &[Dir], back: Duration, as_json: bool) -> Result<()> {
    let back = u64::try_from(back.as_millis()).unwrap_or(u64::MAX);
    let from_ms = now_ms().saturating_sub(back);
    for dir in sides {
        let lines = since(dir, from_ms)?;
        if as_json {
            lines.iter().for_each(|line| render::print_line(&line.to_string()));
        } else {
            table(&lines).iter().for_each(|line| render::print_line(line));
        }
    }
    Ok(())
}

/// A line for each span between two of the figures, with what went on in it.
fn table(lines: &[Value]) -> Vec<String> {
    let Some(first) = lines.first() else { return Vec::new() };
    let is_sender = first["side"] == "send";
    let mut rows = vec![if is_sender {
        format!(
            "{:<20}{:>15}{:>14}{:>14}{:>10}{:>10}",
            "sent", "generation", "rate", "of it again", "waiting", "problems"
        )
    } else {
        format!(
            "{:<20}{:>15}{:>14}{:>10}{:>10}{:>10}{:>10}",
            "received", "generation", "rate", "missing", "lost", "dropped", "refused"
        )
    }];
    for pair in lines.windows(2) {
        let [before, now] = pair else { continue };
        let number = |value: &Value, name: &str| value[name].as_u64().unwrap_or(0);
        let at = i64::try_from(number(now, "time_ms")).ok();
        let at = at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
        let at =
            at.map_or_else(|| "?".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string());
        let seconds =
            number(now, "time_ms").saturating_sub(number(before, "time_ms")).max(1) as f64 / 1e3;
        // Counts begin anew when the process does.
        let is_same = number(now, "began_ms") == number(before, "began_ms");
        let more = |names: &[&str]| -> u64 {
            let count =
                |value: &Value| -> u64 { names.iter().map(|name| number(value, name)).sum() };
            if is_same { count(now).saturating_sub(count(before)) } else { count(now) }
        };
        let rate = |names: &[&str]| units::rate(more(names) as f64 / seconds);
        rows.push(if is_sender {
            format!(
                "{at:<20}{:>15}{:>14}{:>14}{:>10}{:>10}",
                number(now, "generation"),
                rate(&["first_bytes", "again_bytes", "other_bytes"]),
                rate(&["again_bytes"]),
                number(now, "waiting"),
                number(now, "problems"),
            )
        } else {
            let refused: u64 = refusals(now).values().sum();
            let refused = if is_same {
                refused.saturating_sub(refusals(before).values().sum())
            } else {
                refused
            };
            format!(
                "{at:<20}{:>15}{:>14}{:>10}{:>10}{:>10}{refused:>10}",
                number(now, "complete"),
                rate(&["bytes"]),
                number(now, "missing"),
                more(&["lost_link"]),
                more(&["dropped_kernel", "dropped_program"]),
            )
        });
    }
    rows
}

fn refusals(told: &Value) -> HashMap<String, u64> {
    let fields = told["refused"].as_object().into_iter().flatten();
    fields.map(|(why, count)| (why.clone(), count.as_u64().unwrap_or(0))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scratch(name: &str) -> Dir {
        let path = std::env::temp_dir().join(format!("haul-history-{name}-{}", std::process::id()));
        Dir::create_ambient(&path, 0o700).unwrap()
    }

    #[test]
    fn two_files_take_turns_and_are_read_as_one() {
        let dir = scratch("turns");
        for at in 0..100_u64 {
            append(&dir, &json!({ "time_ms": at }), 600).unwrap();
        }
        let kept = since(&dir, 0).unwrap();
        let times: Vec<u64> = kept.iter().map(|line| line["time_ms"].as_u64().unwrap()).collect();
        let expected: Vec<u64> = (100 - times.len() as u64..100).collect();
        assert_eq!(times, expected, "the last ones, in order");
        assert!((36..100).contains(&times.len()), "{}", times.len());
        assert_eq!(since(&dir, 97).unwrap().len(), 3);
        std::fs::remove_dir_all(dir.path()).unwrap();
    }

    #[test]
    fn a_row_tells_what_went_on_since_the_one_before() {
        let line = |began: u64, at: u64, bytes: u64, lost: u64| {
            json!({ "side": "recv", "began_ms": began, "time_ms": at, "bytes": bytes, "lost_link": lost,
                "complete": 4, "missing": 2, "refused": { "replayed": lost } })
        };
        let lines = [line(0, 0, 50, 1), line(0, 10_000, 1_000_050, 4), line(9, 20_000, 500_000, 2)];
        let rows = table(&lines);
        assert_eq!(rows.len(), 3);
        let words: Vec<&str> = rows[1].split_whitespace().collect();
        assert_eq!(words[..3], ["1970-01-01", "00:00:10", "4"]);
        assert_eq!(words[words.len() - 4..], ["2", "3", "0", "3"]);
        let words: Vec<&str> = rows[2].split_whitespace().collect();
        assert_eq!(words[words.len() - 4..], ["2", "2", "0", "2"], "counts have begun anew");
        assert!(table(&[]).is_empty());
    }
}
