//! One-time codes, each a line of the file `codes`: the BLAKE3 digest of the code, until when it can be used, and what
//! its bearer will be able to do and be called. The code itself is nowhere but with who was given it. A line that is
//! not understood lets nobody in and is kept.

use anyhow::{Context, Result};
use files::{Digest, Dir};
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};

use crate::state::{self, own_name, path_of};

const FILE: &str = "codes";
/// The most codes that are given out at once.
const MOST: usize = 1_000;
/// What codes are written in: Crockford's base 32, which has no letters that look like digits.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// A code has so many letters of five bits each, which nobody guesses.
const LENGTH: usize = 25;
/// They are read in groups of so many.
const GROUP: usize = 5;

/// A code that is given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    digest: Digest,
    expires: Timestamp,
    /// The options of the line of its bearer.
    pub options: String,
    /// The comment of that line.
    pub name: String,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct Codes {
    lines: Vec<(String, Option<Code>)>,
}

impl Code {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(4, ' ');
        let digest = words.next()?.parse().ok()?;
        let expires = words.next()?.parse().ok()?;
        let (options, name) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Self { digest, expires, options, name })
    }
}

impl Codes {
    /// Whether there is any line in the file of this configuration folder.
    pub fn are_given_out(config: &Dir) -> bool {
        config.attributes_of(&path_of(FILE)).is_ok_and(|found| found.size > 0)
    }

    /// The file of this configuration folder.
    pub fn read(config: &Dir) -> Result<Self> {
        let text = state::read_list(config, FILE)?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        Ok(Self { lines: lines.map(|line| (line.to_owned(), Code::parse(line))).collect() })
    }

    /// Writes them back, in one durable step.
    pub fn write(&self, config: &Dir) -> Result<()> {
        let text: String = self.lines.iter().flat_map(|(line, _)| [line.as_str(), "\n"]).collect();
        Ok(config.write_private(&own_name(FILE), text.as_bytes())?)
    }

    /// Makes a code that gives these rights, and its line. What has expired goes.
    pub fn invite(
        &mut self,
        options: &str,
        name: &str,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<String> {
        self.lines.retain(|(_, code)| code.as_ref().is_none_or(|code| code.expires > now));
        anyhow::ensure!(self.lines.len() < MOST, "{MOST} codes are given out, which is the most");
        let mut random = [0; LENGTH];
        let drawn = SystemRandom::new().fill(&mut random);
        drawn.map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
        let letters = random.map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
        let groups: Vec<String> =
            letters.chunks(GROUP).map(|group| group.iter().collect()).collect();
        let code = groups.join("-");
        let digest = digest_of(code.as_bytes());
        let line = format!("{digest} {expires} {options} {name}");
        let parsed = Code::parse(&line).context("a code that was just made is not understood")?;
        self.lines.push((line, Some(parsed)));
        Ok(code)
    }

    /// What a code gives, and the codes that are left without it; nothing, if it is wrong, was used, or has expired.
    /// How long it takes says nothing of how wrong it is.
    pub fn take(&self, code: &[u8], now: Timestamp) -> Option<(Code, Self)> {
        let shown = digest_of(code);
        let mut found = None;
        for (index, (_, code)) in self.lines.iter().enumerate() {
            let Some(code) = code else { continue };
            let pairs = code.digest.as_bytes().iter().zip(shown.as_bytes());
            let differing = pairs.fold(0, |sum, (one, other)| sum | (one ^ other));
            if std::hint::black_box(differing) == 0 && code.expires > now {
                found = Some((index, code.clone()));
            }
        }
        let (index, code) = found?;
        let mut left = self.clone();
        left.lines.remove(index);
        Some((code, left))
    }
}

/// The digest of a code as its bearer may type it: case and hyphens do not matter.
fn digest_of(code: &[u8]) -> Digest {
    let typed = code.iter().filter(|byte| !matches!(byte, b'-' | b' ' | b'\n' | b'\r'));
    Digest::of(&typed.map(u8::to_ascii_lowercase).collect::<Vec<u8>>())
}
