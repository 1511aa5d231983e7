//! The keys that hosts have shown us before: the text of a `known_hosts` file and questions to it.
//! It is pure: the caller reads and writes the file. Lines that this version does not understand are
//! kept as they are when the text is written again.

use crate::{PublicKey, Target};

/// The text of a `known_hosts` file, understood.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
enum Line {
    Entry { text: String, target: Target, key: PublicKey },
    Kept(String),
}

/// What the file says about a host that showed a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// The host is known by this key.
    Known,
    /// The host is known, by other keys.
    Changed {
        /// The keys that it is known by.
        expected: Vec<PublicKey>,
    },
    /// Nothing is known of the host.
    Unknown,
}

impl KnownHosts {
    /// Reads the text. It cannot fail: what is not understood answers no question and is kept.
    pub fn parse(text: &str) -> Self {
        Self { lines: text.lines().map(parse_line).collect() }
    }

    /// What is known of the host at `target`, which showed `key`.
    pub fn lookup(&self, target: &Target, key: &PublicKey) -> Lookup {
        let expected = self.keys(target);
        if expected.is_empty() {
            Lookup::Unknown
        } else if expected.contains(key) {
            Lookup::Known
        } else {
            Lookup::Changed { expected }
        }
    }

    /// All keys that the host is known by; several while it moves from one key to the next.
    pub fn keys(&self, target: &Target) -> Vec<PublicKey> {
        let matching = |line: &Line| match line {
            Line::Entry { target: known, key, .. } if same_host(known, target) => Some(*key),
            _ => None,
        };
        self.lines.iter().filter_map(matching).collect()
    }

    /// Whether there is a key of this host.
    pub fn knows(&self, target: &Target) -> bool {
        !self.keys(target).is_empty()
    }

    /// Adds a line; keys that the host has already stay. Gives false if the line was there.
    pub fn add(&mut self, target: &Target, key: &PublicKey, comment: &str) -> bool {
        if self.keys(target).contains(key) {
            return false;
        }
        let host =
            if target.port == crate::DEFAULT_PORT { bare_host(target) } else { target.to_string() };
        let text = format!("{host} {}", key.to_line(comment));
        self.lines.push(Line::Entry { text, target: target.clone(), key: *key });
        true
    }

    /// Removes the lines of a host, or only the one with `key`; gives how many went.
    pub fn remove(&mut self, target: &Target, key: Option<&PublicKey>) -> usize {
        let before = self.lines.len();
        self.lines.retain(|line| match line {
            Line::Entry { target: known, key: known_key, .. } => {
                !(same_host(known, target) && key.is_none_or(|key| key == known_key))
            }
            Line::Kept(_) => true,
        });
        before - self.lines.len()
    }

    /// The text to write back.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for line in &self.lines {
            match line {
                Line::Entry { text, .. } | Line::Kept(text) => out.push_str(text),
            }
            out.push('\n');
        }
        out
    }
}

fn same_host(known: &Target, asked: &Target) -> bool {
    known.port == asked.port && known.host.eq_ignore_ascii_case(&asked.host)
}

fn bare_host(target: &Target) -> String {
    if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() }
}

fn parse_line(text: &str) -> Line {
    parse_entry(text).unwrap_or_else(|| Line::Kept(text.to_owned()))
}

fn parse_entry(text: &str) -> Option<Line> {
    if text.trim_start().starts_with('#') {
        return None;
    }
    let (host, rest) = text.trim_start().split_once([' ', '\t'])?;
    let target = Target::parse(host).ok()?;
    let (key, _comment) = PublicKey::parse_line(rest).ok()?;
    Some(Line::Entry { text: text.to_owned(), target, key })
}

#[cfg(test)]
mod tests;
