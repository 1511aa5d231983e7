//! The settings of a link as people write them: `delay 50ms`, `ab-loss 1%`, `udp-drop`. Pure; whoever
//! reads a command line or a schedule hands the words in.

use std::ops::Range;

use crate::model::{GilbertElliott, Nanos, Policer, Profile};

/// How both directions of a link behave.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// From A to B, then from B to A.
    pub profiles: [Profile; 2],
    /// UDP packets vanish, in both directions, as behind a firewall. Only a link that sees whole IP
    /// packets can tell.
    pub drop_udp: bool,
    /// The same for TCP.
    pub drop_tcp: bool,
    /// Nothing passes in either direction, and what was under way is lost.
    pub down: bool,
}

impl Default for Settings {
    /// A perfect wire. Packets that are held back once `reorder` is set are so for 2 ms.
    fn default() -> Self {
        let profile = Profile { reorder_by: 2_000_000, ..Profile::default() };
        Self { profiles: [profile.clone(), profile], drop_udp: false, drop_tcp: false, down: false }
    }
}

/// One change of the settings, at some time while a link runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// UDP vanishes from now on, or no longer.
    DropUdp(bool),
    /// TCP vanishes from now on, or no longer.
    DropTcp(bool),
    /// The link is down from now on, or up again.
    Down(bool),
    /// An option of one or both directions has another value.
    Option {
        /// Its name, with `ab-` or `ba-` before it for one direction.
        name: String,
        /// Its value; empty for `blocked`.
        value: String,
    },
}

/// Words that say nothing that a link can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// There is no such option or change.
    #[error("there is no link option or change {name:?}")]
    Unknown {
        /// What was read.
        name: String,
    },
    /// The value of an option is not understood.
    #[error("{name}: {value:?} is not {wanted}")]
    Value {
        /// The option.
        name: String,
        /// What was read.
        value: String,
        /// What it may be.
        wanted: String,
    },
}

impl Settings {
    /// Both directions alike.
    #[must_use]
    pub fn both(profile: Profile) -> Self {
        Self { profiles: [profile.clone(), profile], ..Self::default() }
    }

    /// Sets an option such as `delay` in both directions, or `ab-delay` and `ba-delay` in one.
    ///
    /// # Errors
    /// The option or its value is unknown; nothing is changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), WordsError> {
        let (directions, option) = directions(name);
        let mut profiles = self.profiles.clone();
        for profile in &mut profiles[directions] {
            set(profile, option, value).map_err(|wanted| match wanted {
                Some(wanted) => {
                    WordsError::Value { name: name.to_owned(), value: value.to_owned(), wanted }
                }
                None => WordsError::Unknown { name: name.to_owned() },
            })?;
        }
        self.profiles = profiles;
        Ok(())
    }

    /// Carries out a change.
    ///
    /// # Errors
    /// As [`Settings::set`]; nothing is changed then.
    pub fn apply(&mut self, change: &Change) -> Result<(), WordsError> {
        match change {
            Change::DropUdp(drop) => self.drop_udp = *drop,
            Change::DropTcp(drop) => self.drop_tcp = *drop,
            Change::Down(down) => self.down = *down,
            Change::Option { name, value } => self.set(name, value)?,
        }
        Ok(())
    }
}

impl Change {
    /// Reads `udp-drop`, `udp-pass`, `tcp-drop`, `tcp-pass`, `down`, `up`, `blocked` or `OPTION=VALUE`.
    ///
    /// # Errors
    /// It is none of these, or would not be understood by [`Settings::apply`].
    pub fn parse(text: &str) -> Result<Self, WordsError> {
        let change = match text {
            "udp-drop" => Self::DropUdp(true),
            "udp-pass" => Self::DropUdp(false),
            "tcp-drop" => Self::DropTcp(true),
            "tcp-pass" => Self::DropTcp(false),
            "down" => Self::Down(true),
            "up" => Self::Down(false),
            _ => {
                let (name, value) = text.split_once('=').unwrap_or((text, ""));
                Self::Option { name: name.to_owned(), value: value.to_owned() }
            }
        };
        Settings::default().apply(&change)?;
        Ok(change)
    }

    /// Reads a change with its time since the start of the link, `3s:rate=30mbit`.
    ///
    /// # Errors
    /// As [`Change::parse`], and for a time that is none.
    pub fn parse_at(text: &str) -> Result<(Nanos, Self), WordsError> {
        let wrong = |wanted: String| WordsError::Value {
            name: "at".to_owned(),
            value: text.to_owned(),
            wanted,
        };
        let (at, change) = text.split_once(':').ok_or_else(|| wrong("TIME:CHANGE".to_owned()))?;
        Ok((time(at).map_err(wrong)?, Self::parse(change)?))
    }
}

/// Whether an option takes a value.
#[must_use]
pub fn takes_a_value(name: &str) -> bool {
    directions(name).1 != "blocked"
}

fn directions(name: &str) -> (Range<usize>, &str) {
    match (name.strip_prefix("ab-"), name.strip_prefix("ba-")) {
        (Some(option), _) => (0..1, option),
        (_, Some(option)) => (1..2, option),
        _ => (0..2, name),
    }
}

/// The error is what the value may be; none for an option that does not exist.
fn set(profile: &mut Profile, option: &str, text: &str) -> Result<(), Option<String>> {
    match option {
        "delay" => profile.delay = time(text)?,
        "jitter" => profile.jitter = time(text)?,
        "loss" => profile.loss = percent(text)?,
        "burst-loss" => {
            let ratios = text.split(',').map(percent).collect::<Result<Vec<_>, _>>()?;
            let (good_to_bad, bad_to_good, losses) = match ratios[..] {
                [good_to_bad, bad_to_good, ref losses @ ..] if losses.len() <= 2 => {
                    (good_to_bad, bad_to_good, losses)
                }
                _ => return Err(Some("two to four percentages".to_owned())),
            };
            profile.burst_loss = Some(GilbertElliott {
                good_to_bad,
                bad_to_good,
                loss_in_bad: *losses.first().unwrap_or(&1.0),
                loss_in_good: *losses.get(1).unwrap_or(&0.0),
            });
        }
        "reorder" => profile.reorder = percent(text)?,
        "reorder-by" => profile.reorder_by = time(text)?,
        "duplicate" => profile.duplicate = percent(text)?,
        "corrupt" => profile.corrupt = percent(text)?,
        "rate" => {
            let rate = rate(text)?;
            profile.rate = (rate > 0.0).then_some(rate);
        }
        "queue" => profile.queue = Some(size(text)?),
        "police" => {
            let wanted = || "RATE:SIZE, such as 100mbit:60KB".to_owned();
            let (granted, burst) = text.split_once(':').ok_or_else(wanted)?;
            profile.police = Some(Policer { rate: rate(granted)?, burst: size(burst)? });
        }
        "blocked" if text.is_empty() => profile.blocked = true,
        "blocked" => return Err(Some("empty: it takes no value".to_owned())),
        _ => return Err(None),
    }
    Ok(())
}

fn time(text: &str) -> Result<Nanos, String> {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9)];
    Ok(with_unit(text, &units)? as Nanos)
}

fn rate(text: &str) -> Result<f64, String> {
    with_unit(text, &[("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)])
}

fn size(text: &str) -> Result<u64, String> {
    let units = [("MiB", 1_048_576.0), ("KiB", 1024.0), ("MB", 1e6), ("KB", 1e3), ("B", 1.0)];
    Ok(with_unit(text, &units)? as u64)
}

fn percent(text: &str) -> Result<f64, String> {
    let ratio = with_unit(text, &[("%", 0.01)])?;
    if ratio > 1.0 { Err("at most 100%".to_owned()) } else { Ok(ratio) }
}

fn with_unit(text: &str, units: &[(&str, f64)]) -> Result<f64, String> {
    units
        .iter()
        .find_map(|(unit, scale)| {
            let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
            (number.is_finite() && number >= 0.0).then_some(number * scale)
        })
        .ok_or_else(|| {
            let names: Vec<_> = units.iter().map(|unit| unit.0).collect();
            format!("a number with one of the units {}", names.join(", "))
        })
}

#[cfg(test)]
mod tests;
