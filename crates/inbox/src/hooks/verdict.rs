//! What follows from how a hook ended: whether it is done, what an offer's client is told, and when to try again.
//! It is pure.

use std::time::Duration;

use crate::catalogue::outbox::{LONGEST_WAIT_MS, Next};

/// How long after the first failure a hook is tried again; each further wait is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// No wait is longer than this.
const LONGEST_WAIT: Duration = Duration::from_millis(LONGEST_WAIT_MS as u64);

/// The most bytes of a reason that a client is told.
pub const MAX_REASON: usize = 500;

/// How a hook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The program exited with this.
    Exited(i32),
    /// The program was ended by this signal.
    Signalled(i32),
    /// The server answered with this status.
    Answered(u16),
    /// It took longer than it may; what had come of it by then.
    TimedOut(&'static str),
    /// It could not be started or reached, or its answer could not be read; safe to show.
    Failed(String),
}

/// What came of running a hook once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// How it ended.
    pub ended: Ended,
    /// The end of what it wrote or answered, as it came.
    pub output: Vec<u8>,
    /// The beginning of what it wrote to its standard error, or answered.
    pub said: Vec<u8>,
}

impl Ran {
    /// One that came to nothing, for a reason that is safe to show.
    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self { ended: Ended::Failed(reason.into()), output: Vec::new(), said: Vec::new() }
    }

    /// Whether the hook has done what it is for.
    pub fn is_done(&self) -> bool {
        matches!(self.ended, Ended::Exited(0) | Ended::Answered(200..=299))
    }

    /// How it ended, in words that are safe to show.
    pub fn words(&self) -> String {
        match &self.ended {
            Ended::Exited(code) => format!("exited with {code}"),
            Ended::Signalled(signal) => format!("was ended by signal {signal}"),
            Ended::Answered(status @ 300..=399) => {
                format!(
                    "answered {status}, which leads elsewhere: give the hook the address itself"
                )
            }
            Ended::Answered(status) => format!("answered {status}"),
            Ended::TimedOut(so_far) => format!("took longer than its timeout ({so_far})"),
            Ended::Failed(reason) => reason.clone(),
        }
    }

    /// What it says of an offer.
    pub fn answer(&self) -> Answer {
        match self.ended {
            // Too many requests and the like are no word on this offer.
            Ended::Answered(408 | 425 | 429) => Answer::Unable,
            Ended::Exited(1) | Ended::Answered(400..=499) => {
                let said = reason(&self.said);
                let plain = || "the inbox does not take it, and gives no reason".to_owned();
                Answer::No(if said.is_empty() { plain() } else { said })
            }
            _ if self.is_done() => Answer::Yes,
            _ => Answer::Unable,
        }
    }
}

/// What a hook says of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It may be taken.
    Yes,
    /// It may not, for this reason, which is for the client.
    No(String),
    /// Nothing: it could not judge.
    Unable,
}

/// The first line that says something, without what moves cursors or hides, at most [`MAX_REASON`] bytes.
fn reason(said: &[u8]) -> String {
    let is_blank = |line: &&[u8]| line.iter().all(u8::is_ascii_whitespace);
    let mut lines = said.split(|&byte| byte == b'\n').skip_while(is_blank);
    let line = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let mut reason = String::new();
    for character in line.trim().chars() {
        let character = if is_shown_as_it_is(character) { character } else { ' ' };
        if reason.len() + character.len_utf8() > MAX_REASON {
            break;
        }
        reason.push(character);
    }
    reason.trim().to_owned()
}

fn is_shown_as_it_is(character: char) -> bool {
    let mut bytes = [0; 4];
    let text: &str = character.encode_utf8(&mut bytes);
    character == '\\' || files::escape(text.as_bytes()).to_string() == text
}

/// What follows a failure of a hook that was begun `tries` times, this one included, and may be `most` times. Waits grow
/// from 10 s to an hour; `random`, of which all bits are used, spreads them over their second half.
pub fn after_failure(tries: u32, most: u32, random: u64, now_ms: i64) -> Next {
    if tries >= most {
        return Next::Stuck;
    }
    let wait = link::delay(FIRST_WAIT, LONGEST_WAIT, tries.saturating_sub(1), random);
    Next::At(now_ms.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
}

/// Takes values that are nobody's business out of what a hook wrote or was answered. Very short ones stay: they would
/// be found in any text.
pub fn redacted(mut output: Vec<u8>, secrets: &[Vec<u8>]) -> Vec<u8> {
    const SHORTEST: usize = 4;
    const HIDDEN: &[u8] = b"(secret)";
    for secret in secrets.iter().filter(|secret| secret.len() >= SHORTEST) {
        let mut clean = Vec::with_capacity(output.len());
        let mut rest = &output[..];
        while let Some(at) = rest.windows(secret.len()).position(|window| window == secret) {
            clean.extend_from_slice(&rest[..at]);
            clean.extend_from_slice(HIDDEN);
            rest = &rest[at + secret.len()..];
        }
        clean.extend_from_slice(rest);
        output = clean;
    }
    output
}

#[cfg(test)]
mod tests;
