//! Which paths a walk leaves out: `--exclude` and `--include` rules in order, the first match wins.
//!
//! Pure. Patterns and paths are bytes. Rules also come from peers, so their number and length are
//! capped and a match costs at most (bytes of the path) x (bytes of the rules): a star never starts
//! a search inside a search. `globset` is not used, because it takes patterns as text only and
//! compiles each to a regular expression, whose size a peer would choose.

use std::fmt;

use files::{Fault, RelPath, escape};

/// Rules in one filter, at most.
pub const MAX_RULES: usize = 1000;
/// Bytes of one pattern, at most.
pub const MAX_PATTERN: usize = 1024;
/// Bytes of all patterns of a filter, at most.
pub const MAX_PATTERNS: usize = 32 * 1024;

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is copied; a directory is entered.
    Include,
    /// It is left out; a directory is not entered, whatever later rules say about its content.
    Exclude,
}

/// One `--exclude` or `--include`.
///
/// A pattern without a slash matches the last name of a path, at any depth. One with a slash is
/// anchored at the walk's root; a slash in front does only that. A slash at the end matches
/// directories only. `*` and `?` match within one name, `[a-z]` and `[!a-z]` one character, and a
/// backslash takes the next character as it is. `**` as a whole name matches any number of names,
/// also none; at the end it matches everything inside. A character is a UTF-8 character, or a
/// single byte where the name is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it says of the paths that it matches.
    pub verdict: Verdict,
    /// What it matches.
    pub pattern: Vec<u8>,
}

impl Rule {
    /// A rule that leaves out what matches `pattern`.
    #[must_use]
    pub fn exclude(pattern: impl Into<Vec<u8>>) -> Self {
        Self { verdict: Verdict::Exclude, pattern: pattern.into() }
    }

    /// A rule that keeps what matches `pattern` from the rules after it.
    #[must_use]
    pub fn include(pattern: impl Into<Vec<u8>>) -> Self {
        Self { verdict: Verdict::Include, pattern: pattern.into() }
    }
}

/// Why rules do not make a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// More than [`MAX_RULES`].
    #[error("{0} filter rules are too many: {MAX_RULES} are allowed")]
    TooManyRules(usize),
    /// More than [`MAX_PATTERNS`] bytes.
    #[error("the filter rules have {0} bytes: {MAX_PATTERNS} are allowed")]
    TooLong(usize),
    /// A pattern cannot be used.
    #[error("bad filter pattern '{}': {defect}", escape(pattern))]
    Pattern {
        /// The pattern, cut to [`MAX_PATTERN`] bytes.
        pattern: Vec<u8>,
        /// What is wrong with it.
        defect: PatternDefect,
    },
}

impl FilterError {
    /// What the failure means for a retry: nothing changes until somebody writes other rules.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Permanent
    }
}

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternDefect {
    /// It names nothing.
    Empty,
    /// It has more than [`MAX_PATTERN`] bytes.
    TooLong,
    /// It holds a NUL byte, or `.` or `..` as a name: no path has those.
    NeverMatches,
    /// A `[` has no `]`.
    OpenClass,
    /// A range such as `[z-a]` is upside down.
    EmptyRange,
    /// A class of names such as `[[:alpha:]]`, which is not supported.
    NamedClass,
    /// It ends in a backslash.
    OpenEscape,
}

impl fmt::Display for PatternDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it names nothing",
            Self::TooLong => "it is longer than 1024 bytes",
            Self::NeverMatches => "it can match no path",
            Self::OpenClass => "a '[' is not closed",
            Self::EmptyRange => "a range is upside down",
            Self::NamedClass => "named classes such as [:alpha:] are not supported",
            Self::OpenEscape => "nothing follows the last backslash",
        })
    }
}

/// Rules, parsed. The default has none and leaves nothing out.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    rules: Vec<Rule>,
    patterns: Vec<Pattern>,
}

impl Filter {
    /// Parses `rules`.
    ///
    /// # Errors
    /// When there are too many, or when one cannot be used.
    pub fn new(rules: Vec<Rule>) -> Result<Self, FilterError> {
        if rules.len() > MAX_RULES {
            return Err(FilterError::TooManyRules(rules.len()));
        }
        let bytes = rules.iter().fold(0, |sum: usize, rule| sum.saturating_add(rule.pattern.len()));
        let parse = |rule: &Rule| {
            Pattern::parse(&rule.pattern).map_err(|defect| {
                let end = rule.pattern.len().min(MAX_PATTERN);
                FilterError::Pattern { pattern: rule.pattern[..end].to_vec(), defect }
            })
        };
        let patterns = rules.iter().map(parse).collect::<Result<_, _>>()?;
        if bytes > MAX_PATTERNS {
            return Err(FilterError::TooLong(bytes));
        }
        Ok(Self { rules, patterns })
    }

    /// The rules as they were given, to be sent to a peer.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What the first rule that matches `path` says; without one it is included.
    ///
    /// Only the path itself is looked at: a walk asks for each directory before it enters it.
    #[must_use]
    pub fn matches(&self, path: &RelPath, is_dir: bool) -> Verdict {
        self.matches_bytes(path.as_bytes(), is_dir)
    }

    fn matches_bytes(&self, path: &[u8], is_dir: bool) -> Verdict {
        if self.rules.is_empty() {
            return Verdict::Include;
        }
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        let matching = self.patterns.iter().position(|pattern| pattern.matches(&names, is_dir));
        matching.map_or(Verdict::Include, |index| self.rules[index].verdict)
    }
}

/// A parsed pattern.
#[derive(Clone, Debug)]
struct Pattern {
    /// Matched against the whole path and not only against its last name.
    anchored: bool,
    only_dirs: bool,
    names: Vec<NamePattern>,
}

/// What one name of a path is matched against.
#[derive(Clone, Debug)]
enum NamePattern {
    /// `**`: any number of names.
    Any,
    One(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// `*`
    Star,
    /// `?`
    One,
    Char(Char),
    Class {
        negated: bool,
        /// Inclusive.
        ranges: Vec<(Char, Char)>,
    },
}

/// A UTF-8 character, or a byte that is not part of one: those sort after all characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Char {
    Unicode(char),
    Byte(u8),
}

impl Char {
    /// Its bytes, as they stand in a name.
    pub(crate) fn push_to(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Unicode(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Self::Byte(byte) => bytes.push(byte),
        }
    }

    /// The first character of `bytes` and its length.
    fn first(bytes: &[u8]) -> Option<(Self, usize)> {
        let &byte = bytes.first()?;
        let len = match byte {
            0..0x80 => return Some((Self::Unicode(byte.into()), 1)),
            0xc2..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0..0xf5 => 4,
            _ => return Some((Self::Byte(byte), 1)),
        };
        let text = bytes.get(..len).and_then(|bytes| std::str::from_utf8(bytes).ok());
        let character = text.and_then(|text| text.chars().next());
        Some(character.map_or((Self::Byte(byte), 1), |c| (Self::Unicode(c), len)))
    }
}

impl Pattern {
    fn parse(bytes: &[u8]) -> Result<Self, PatternDefect> {
        if bytes.len() > MAX_PATTERN {
            return Err(PatternDefect::TooLong);
        }
        if bytes.contains(&0) {
            return Err(PatternDefect::NeverMatches);
        }
        let (only_dirs, body) = match bytes.strip_suffix(b"/") {
            Some(body) => (true, body),
            None => (false, bytes),
        };
        let anchored = body.contains(&b'/');
        let mut names = Vec::new();
        for name in body.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            match name {
                b"." | b".." => return Err(PatternDefect::NeverMatches),
                b"**" if anchored => names.push(NamePattern::Any),
                _ => names.push(NamePattern::One(parse_name(name)?)),
            }
        }
        match names.last() {
            None => return Err(PatternDefect::Empty),
            // What is inside has at least one name more than what it is inside of.
            Some(NamePattern::Any) => names.push(NamePattern::One(vec![Token::Star])),
            Some(NamePattern::One(_)) => {}
        }
        Ok(Self { anchored, only_dirs, names })
    }

    fn matches(&self, path: &[&[u8]], is_dir: bool) -> bool {
        if self.only_dirs && !is_dir {
            return false;
        }
        let path = if self.anchored { path } else { &path[path.len().saturating_sub(1)..] };
        matches_names(&self.names, path)
    }
}

/// Splits one name of a pattern into tokens.
pub(crate) fn parse_name(mut rest: &[u8]) -> Result<Vec<Token>, PatternDefect> {
    let mut tokens = Vec::new();
    while let Some((first, len)) = Char::first(rest) {
        rest = &rest[len..];
        let token = match first {
            Char::Unicode('*') if tokens.last() == Some(&Token::Star) => continue,
            Char::Unicode('*') => Token::Star,
            Char::Unicode('?') => Token::One,
            Char::Unicode('[') => parse_class(&mut rest)?,
            Char::Unicode('\\') => Token::Char(take(&mut rest, PatternDefect::OpenEscape)?),
            other => Token::Char(other),
        };
        tokens.push(token);
    }
    Ok(tokens)
}

/// Parses what follows a `[`, up to its `]`.
fn parse_class(rest: &mut &[u8]) -> Result<Token, PatternDefect> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    if negated {
        *rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    loop {
        let first = take(rest, PatternDefect::OpenClass)?;
        let low = match first {
            // A bracket in front is one of the characters.
            Char::Unicode(']') if !ranges.is_empty() => break,
            Char::Unicode('[') if rest.first() == Some(&b':') => {
                return Err(PatternDefect::NamedClass);
            }
            Char::Unicode('\\') => take(rest, PatternDefect::OpenClass)?,
            other => other,
        };
        let mut high = low;
        if let [b'-', after, ..] = *rest
            && *after != b']'
        {
            *rest = &rest[1..];
            high = take(rest, PatternDefect::OpenClass)?;
            if high == Char::Unicode('\\') {
                high = take(rest, PatternDefect::OpenClass)?;
            }
        }
        if low > high {
            return Err(PatternDefect::EmptyRange);
        }
        ranges.push((low, high));
    }
    Ok(Token::Class { negated, ranges })
}

fn take(rest: &mut &[u8], otherwise: PatternDefect) -> Result<Char, PatternDefect> {
    let (first, len) = Char::first(rest).ok_or(otherwise)?;
    *rest = &rest[len..];
    Ok(first)
}

/// Matches names against a pattern's names. On a mismatch only the last `**` takes one name more:
/// what an earlier one could take instead, the last one can take as well.
fn matches_names(pattern: &[NamePattern], path: &[&[u8]]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry = None;
    loop {
        match pattern.get(p) {
            None if n == path.len() => return true,
            Some(NamePattern::Any) => {
                p += 1;
                retry = Some((p, n));
                continue;
            }
            Some(NamePattern::One(tokens)) if n < path.len() && matches_name(tokens, path[n]) => {
                p += 1;
                n += 1;
                continue;
            }
            _ => {}
        }
        match retry {
            Some((after, taken)) if taken < path.len() => {
                (p, n) = (after, taken + 1);
                retry = Some((after, taken + 1));
            }
            _ => return false,
        }
    }
}

/// The same for the characters of one name and `*`.
pub(crate) fn matches_name(pattern: &[Token], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry = None;
    loop {
        let next = Char::first(&name[n..]);
        match (pattern.get(p), next) {
            (None, None) => return true,
            (Some(Token::Star), _) => {
                p += 1;
                retry = Some((p, n));
                continue;
            }
            (Some(token), Some((character, len))) if token.matches(character) => {
                p += 1;
                n += len;
                continue;
            }
            _ => {}
        }
        let Some((after, taken)) = retry else { return false };
        let Some((_, len)) = Char::first(&name[taken..]) else { return false };
        (p, n) = (after, taken + len);
        retry = Some((after, taken + len));
    }
}

impl Token {
    pub(crate) fn is_dot(&self) -> bool {
        *self == Self::Char(Char::Unicode('.'))
    }

    fn matches(&self, character: Char) -> bool {
        match self {
            Self::Star => false,
            Self::One => true,
            Self::Char(own) => *own == character,
            Self::Class { negated, ranges } => {
                let inside =
                    ranges.iter().any(|&(low, high)| low <= character && character <= high);
                inside != *negated
            }
        }
    }
}

#[cfg(test)]
mod tests;
