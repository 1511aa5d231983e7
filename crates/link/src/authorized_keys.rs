//! Who may connect and do what: the text of an `authorized_keys` file and questions to it.
//! It is pure: the caller reads and writes the file and says what time it is. It fails closed: a line
//! that is not understood admits nobody, and it bars the key that it names even if another line admits it.

use std::net::IpAddr;

use jiff::Timestamp;
use thiserror::Error;

use crate::{KEY_TYPE, PublicKey};

mod options;

pub use options::{LineOptions, is_inbox_name};

/// What an admitted peer may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// The exported paths below which the peer may work; empty means everything that is exported.
    pub paths: Vec<String>,
    /// Whether it may read.
    pub read: bool,
    /// Whether it may write.
    pub write: bool,
    /// The rate it may have, over all its lanes; no limit if absent.
    pub max_rate_bytes_per_s: Option<u64>,
    /// What it may hand in.
    pub inboxes: InboxRights,
    /// The comment of its line, for logs and lists.
    pub comment: String,
}

/// What a peer may hand in to the inboxes of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxRights {
    /// Into which inboxes.
    pub inboxes: Inboxes,
    /// How many bytes of content all its datasets may have together, if limited.
    pub quota_bytes: Option<u64>,
    /// How many datasets it may have, if limited.
    pub quota_datasets: Option<u64>,
}

/// Some of the inboxes of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Inboxes {
    /// None of them.
    #[default]
    None,
    /// These.
    Named(Vec<String>),
    /// Each that there is or will be.
    All,
}

impl Inboxes {
    /// Whether this one is among them.
    pub fn hold(&self, inbox: &str) -> bool {
        match self {
            Self::None => false,
            Self::Named(names) => names.iter().any(|name| name == inbox),
            Self::All => true,
        }
    }

    /// Whether there is none.
    pub fn are_none(&self) -> bool {
        match self {
            Self::None => true,
            Self::Named(names) => names.is_empty(),
            Self::All => false,
        }
    }
}

impl Permissions {
    /// Everything that is exported, both ways, at any rate.
    pub fn unrestricted() -> Self {
        Self {
            paths: Vec::new(),
            read: true,
            write: true,
            max_rate_bytes_per_s: None,
            inboxes: InboxRights { inboxes: Inboxes::All, ..InboxRights::default() },
            comment: String::new(),
        }
    }

    /// Nothing at all: for a guest, who is let in for something that was granted to it alone.
    pub fn nothing() -> Self {
        let comment = "a guest".to_owned();
        let inboxes = InboxRights::default();
        Self { read: false, write: false, inboxes, comment, ..Self::unrestricted() }
    }

    /// Whether a path, written with `/` between its parts, is at or below one of `paths`. The caller
    /// has made sure that it holds no `.` and no `..`.
    pub fn covers(&self, path: &[u8]) -> bool {
        fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
            path.split(|byte| *byte == b'/').filter(|part| !part.is_empty())
        }
        let below = |allowed: &String| {
            let mut asked = parts(path);
            parts(allowed.as_bytes()).all(|part| asked.next() == Some(part))
        };
        self.paths.is_empty() || self.paths.iter().any(below)
    }
}

/// A peer is turned away. The reason is told to it, so it says nothing about other peers.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct Denied {
    /// Why, for the peer and for the log.
    pub reason: String,
}

impl Denied {
    /// A refusal for this reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }

    /// Somebody said no.
    pub fn fault(&self) -> crate::Fault {
        crate::Fault::Denied
    }
}

/// A line that is not understood and therefore denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineProblem {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong; option names are repeated only where they are plain words.
    pub reason: String,
}

/// The text of an `authorized_keys` file, understood.
#[derive(Debug, Clone, Default)]
pub struct AuthorizedKeys {
    lines: Vec<Line>,
}

#[derive(Debug, Clone)]
struct Line {
    text: String,
    meaning: Meaning,
}

#[derive(Debug, Clone)]
enum Meaning {
    /// Blank or a comment.
    Nothing,
    Key {
        key: PublicKey,
        options: LineOptions,
        comment: String,
    },
    /// Not understood. The keys are those that the line seems to be about, to bar or revoke them.
    Wrong {
        keys: Vec<PublicKey>,
        reason: String,
    },
}

impl AuthorizedKeys {
    /// Reads the text. It cannot fail: a line that is not understood is in [`Self::problems`].
    pub fn parse(text: &str) -> Self {
        Self { lines: text.lines().map(parse_line).collect() }
    }

    /// The lines that are not understood.
    pub fn problems(&self) -> Vec<LineProblem> {
        let problem = |(index, line): (usize, &Line)| match &line.meaning {
            Meaning::Wrong { reason, .. } => {
                Some(LineProblem { line: index + 1, reason: reason.clone() })
            }
            _ => None,
        };
        self.lines.iter().enumerate().filter_map(problem).collect()
    }

    /// The keys that lines name, with their comments, in the order of the file.
    pub fn keys(&self) -> Vec<(PublicKey, &str)> {
        let mut keys = Vec::new();
        for line in &self.lines {
            if let Meaning::Key { key, comment, .. } = &line.meaning {
                keys.push((*key, comment.as_str()));
            }
        }
        keys
    }

    /// Whether a line names this key, be it to bar it or for another time or place.
    pub fn names(&self, key: &PublicKey) -> bool {
        self.lines.iter().any(|line| match &line.meaning {
            Meaning::Nothing => false,
            Meaning::Key { key: listed, .. } => listed == key,
            Meaning::Wrong { keys, .. } => keys.contains(key),
        })
    }

    /// What `key`, coming from `remote`, may do at `now`. The first line that admits it decides.
    pub fn check(
        &self,
        key: &PublicKey,
        remote: IpAddr,
        now: Timestamp,
    ) -> Result<Permissions, Denied> {
        let barred = self.lines.iter().position(
            |line| matches!(&line.meaning, Meaning::Wrong { keys, .. } if keys.contains(key)),
        );
        if barred.is_some() {
            // The line number is for the operator, who finds it in `problems`, not for the peer.
            return Err(Denied::new("the authorized_keys line of this key is not understood"));
        }
        let mut denied =
            Denied::new(format!("key {} is not in authorized_keys", key.fingerprint()));
        let mut matched = false;
        for line in &self.lines {
            let Meaning::Key { key: listed, options, comment } = &line.meaning else { continue };
            if listed != key {
                continue;
            }
            match options.admit(remote, now) {
                Ok(()) => return Ok(options.permissions(comment)),
                Err(refusal) if !matched => denied = refusal,
                Err(_) => {}
            }
            matched = true;
        }
        Err(denied)
    }

    /// Adds a line, `[options] haul-ed25519 KEY comment`, if it is understood.
    pub fn add_line(&mut self, line: &str) -> Result<(), LineProblem> {
        let number = self.lines.len() + 1;
        if line.contains(['\n', '\r']) {
            return Err(LineProblem { line: number, reason: "one line was expected".to_owned() });
        }
        let line = parse_line(line);
        match &line.meaning {
            Meaning::Key { .. } => {
                self.lines.push(line);
                Ok(())
            }
            Meaning::Nothing => {
                Err(LineProblem { line: number, reason: "the line holds no key".to_owned() })
            }
            Meaning::Wrong { reason, .. } => {
                Err(LineProblem { line: number, reason: reason.clone() })
            }
        }
    }

    /// Removes every line that `which` names: a fingerprint `SHA256:...`, a key in base64, a whole key
    /// line, or a comment, spelled exactly. Gives how many lines went.
    pub fn revoke(&mut self, which: &str) -> usize {
        let which = which.trim();
        if which.is_empty() {
            return 0;
        }
        let key = PublicKey::from_base64(which)
            .ok()
            .or_else(|| Some(PublicKey::parse_line(which).ok()?.0));
        let names =
            |candidate: &PublicKey| Some(*candidate) == key || candidate.fingerprint() == which;
        let before = self.lines.len();
        self.lines.retain(|line| match &line.meaning {
            Meaning::Nothing => true,
            Meaning::Key { key, comment, .. } => !(names(key) || comment == which),
            Meaning::Wrong { keys, .. } => !keys.iter().any(names),
        });
        before - self.lines.len()
    }

    /// The text to write back; lines that were not changed are as they were.
    pub fn to_text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.text.as_str(), "\n"]).collect()
    }
}

fn parse_line(text: &str) -> Line {
    let trimmed = text.trim_matches([' ', '\t', '\r']);
    let meaning = if trimmed.is_empty() || trimmed.starts_with('#') {
        Meaning::Nothing
    } else {
        parse_entry(trimmed)
            .unwrap_or_else(|reason| Meaning::Wrong { keys: keys_in(trimmed), reason })
    };
    Line { text: text.to_owned(), meaning }
}

fn parse_entry(line: &str) -> Result<Meaning, String> {
    if line.len() > crate::MAX_LINE_BYTES {
        return Err(format!("the line is longer than {} bytes", crate::MAX_LINE_BYTES));
    }
    let starts_with_key =
        line.strip_prefix(KEY_TYPE).is_some_and(|rest| rest.starts_with([' ', '\t']));
    let (options, rest) = if starts_with_key { ("", line) } else { options::split_from_key(line)? };
    let options = LineOptions::parse(options)?;
    let (key, comment) = PublicKey::parse_line(rest).map_err(|error| error.to_string())?;
    Ok(Meaning::Key { key, options, comment })
}

/// Every key that a broken line might be about. Where its options end is unknown, so each word that
/// reads as a key counts.
fn keys_in(line: &str) -> Vec<PublicKey> {
    let words = line.split([' ', '\t', '"', ',', '=']);
    // The padding of base64 is an equals sign, which also ends a word here; so it is put back.
    words.filter_map(|word| PublicKey::from_base64(&format!("{word}=")).ok()).collect()
}

#[cfg(test)]
mod tests;
