//! Patterns that stand for paths that exist, as a shell expands them: `logs/*.gz`. Pure: which names are
//! there is the caller's to find out. The characters mean what they mean in filter rules ([`crate::filter`]);
//! what differs is that a name that begins with a dot is matched only by a pattern that begins with one.
//!
//! Patterns come from peers, so what one may cost is capped, and a path is matched name by name against all
//! places of the pattern at once: nothing is tried twice.

use crate::filter::{MAX_PATTERN, Token, matches_name, parse_name};

/// Names in one pattern, at most.
pub const MAX_PARTS: usize = 60;

/// A pattern for one name.
#[derive(Clone, Debug, PartialEq)]
pub struct NameGlob {
    tokens: Vec<Token>,
}

impl NameGlob {
    /// Reads one name of a pattern; none for what cannot be one, such as `[a`, which then is a plain name.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let is_name = !bytes.is_empty() && !bytes.contains(&b'/') && !bytes.contains(&0);
        let short = bytes.len() <= MAX_PATTERN;
        let tokens = parse_name(bytes).ok().filter(|_| is_name && short)?;
        Some(Self { tokens })
    }

    /// The one name that it stands for, if there is only one.
    #[must_use]
    pub fn literal(&self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        for token in &self.tokens {
            let Token::Char(character) = token else { return None };
            character.push_to(&mut name);
        }
        Some(name)
    }

    /// Whether it may stand for several names.
    #[must_use]
    pub fn is_wild(&self) -> bool {
        self.tokens.iter().any(|token| !matches!(token, Token::Char(_)))
    }

    /// Whether this name is one that it stands for.
    #[must_use]
    pub fn matches(&self, name: &[u8]) -> bool {
        let shows_hidden = self.tokens.first().is_some_and(Token::is_dot);
        (shows_hidden || !name.starts_with(b".")) && matches_name(&self.tokens, name)
    }

    /// What a comparison with a name costs at most, in characters.
    #[must_use]
    pub fn cost(&self) -> usize {
        let of_token = |token: &Token| match token {
            Token::Class { ranges, .. } => ranges.len().max(1),
            _ => 1,
        };
        self.tokens.iter().map(of_token).sum()
    }
}

#[derive(Clone, Debug)]
enum Part {
    /// `**`: any number of folders, none of them hidden.
    Any,
    One(NameGlob),
}

/// A pattern for paths.
#[derive(Clone, Debug)]
pub struct Glob {
    parts: Vec<Part>,
    only_folders: bool,
}

/// How far into a pattern a path has come: all the places at which it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places(u64);

impl Places {
    /// Whether the path leads nowhere in the pattern.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Glob {
    /// Reads a pattern. None for a path that is none: without a star, question mark, bracket or backslash,
    /// with `..`, or with a name that cannot be part of one. Slashes and `.` count for nothing, but for a
    /// slash at the end, which asks for folders.
    #[must_use]
    pub fn parse(path: &[u8]) -> Option<Self> {
        let is_pattern = path.iter().any(|byte| b"*?[\\".contains(byte));
        if !is_pattern || path.len() > MAX_PATTERN {
            return None;
        }
        let only_folders = path.ends_with(b"/");
        let names = path.split(|byte| *byte == b'/');
        let mut parts = Vec::new();
        for name in names.filter(|name| !matches!(*name, b"" | b".")) {
            match name {
                b".." => return None,
                // Two of them stand for no more than one.
                b"**" if matches!(parts.last(), Some(Part::Any)) => {}
                b"**" => parts.push(Part::Any),
                name => parts.push(Part::One(NameGlob::parse(name)?)),
            }
        }
        // Everything that is in a folder, with what it holds, is each of its entries.
        if let Some(last @ Part::Any) = parts.last_mut() {
            *last = Part::One(NameGlob::parse(b"*")?);
        }
        let fits = (1..=MAX_PARTS).contains(&parts.len());
        fits.then_some(Self { parts, only_folders })
    }

    /// The pattern of the last name.
    #[must_use]
    pub fn last(&self) -> Option<&NameGlob> {
        match self.parts.last() {
            Some(Part::One(last)) => Some(last),
            _ => None,
        }
    }

    /// Whether it may stand for several paths.
    #[must_use]
    pub fn is_wild(&self) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Any => true,
            Part::One(name) => name.is_wild(),
        })
    }

    /// Whether only folders are meant.
    #[must_use]
    pub fn only_folders(&self) -> bool {
        self.only_folders
    }

    /// What the comparison of one name costs at most, in characters.
    #[must_use]
    pub fn cost(&self) -> usize {
        let cost = |part: &Part| match part {
            Part::Any => 1,
            Part::One(name) => name.cost(),
        };
        self.parts.iter().map(cost).sum()
    }

    /// The place of a path that has no names yet.
    #[must_use]
    pub fn start(&self) -> Places {
        self.settled(1)
    }

    /// Where a path is with this name behind it. A symbolic link is never what `**` stands for: it may lead
    /// in a circle.
    #[must_use]
    pub fn after(&self, places: Places, name: &[u8], is_link: bool) -> Places {
        let mut next = 0;
        for (number, part) in self.parts.iter().enumerate() {
            if places.0 >> number & 1 == 0 {
                continue;
            }
            match part {
                Part::Any if !is_link && !name.starts_with(b".") => next |= 1 << number,
                Part::One(pattern) if pattern.matches(name) => next |= 1 << (number + 1),
                _ => {}
            }
        }
        self.settled(next)
    }

    /// Whether a path that has come so far is one that the pattern stands for.
    #[must_use]
    pub fn is_match(&self, places: Places) -> bool {
        places.0 >> self.parts.len() & 1 == 1
    }

    /// Whether longer paths may be meant as well.
    #[must_use]
    pub fn goes_on(&self, places: Places) -> bool {
        places.0 & ((1 << self.parts.len()) - 1) != 0
    }

    /// The only name that can lead on from here, if that is known: then a folder need not be listed.
    #[must_use]
    pub fn next_name(&self, places: Places) -> Option<Vec<u8>> {
        let mut at =
            self.parts.iter().enumerate().filter(|(number, _)| places.0 >> number & 1 == 1);
        match (at.next(), at.next()) {
            // Bytes that were escaped one by one may be one character together, which none of them stands for.
            (Some((_, Part::One(name))), None) => {
                name.literal().filter(|literal| name.matches(literal))
            }
            _ => None,
        }
    }

    /// With the places behind each `**`, which may stand for nothing.
    fn settled(&self, mut places: u64) -> Places {
        for (number, part) in self.parts.iter().enumerate() {
            if matches!(part, Part::Any) && places >> number & 1 == 1 {
                places |= 1 << (number + 1);
            }
        }
        Places(places)
    }
}

#[cfg(test)]
mod tests;
