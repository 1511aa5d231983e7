//! Rust source as tokens, as far as the rules need it: comments and the insides of literals are gone,
//! every token knows its line and whether it is compiled for tests only. It parses no grammar.

/// A word, a number, `::`, a single sign, or `"` for any string or character literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// Counted from 1.
    pub line: usize,
    /// What stands there.
    pub text: &'a str,
    /// Whether it belongs to an item under `#[cfg(test)]` or `#[test]`.
    pub in_test: bool,
}

/// A path such as `std::fs::read`, written out in full where it was imported as part of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathUse<'a> {
    /// Counted from 1.
    pub line: usize,
    /// The names between the colons.
    pub segments: Vec<&'a str>,
    /// Whether it stands in a `use` item.
    pub imported: bool,
    /// Whether it is compiled for tests only.
    pub in_test: bool,
}

/// A function with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// The line of `fn`.
    pub line: usize,
    /// From `fn` to the closing brace.
    pub lines: usize,
    /// Whether it is compiled for tests only.
    pub in_test: bool,
}

/// The tokens of a source file. What is not Rust gives some tokens all the same.
pub fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut scanner = Scanner { source, at: 0, line: 1 };
    let mut found = Vec::new();
    while let Some(token) = scanner.next_token() {
        found.push(token);
    }
    mark_tests(&mut found);
    found
}

struct Scanner<'a> {
    source: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Scanner<'a> {
    fn next_token(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = self.rest();
            let first = rest.chars().next()?;
            if first.is_whitespace() {
                self.skip(first.len_utf8());
            } else if rest.starts_with("//") {
                self.skip(rest.find('\n').unwrap_or(rest.len()));
            } else if rest.starts_with("/*") {
                self.skip(block_comment(rest));
            } else if let Some(length) = string(rest) {
                return Some(self.take(length, Some("\"")));
            } else if first == '\'' {
                match character(rest) {
                    Some(length) => return Some(self.take(length, Some("\""))),
                    // A lifetime is of no use to any rule.
                    None => self.skip(1 + word(&rest[1..])),
                }
            } else if word(rest) > 0 {
                let start = if rest.starts_with("r#") { 2 } else { 0 };
                self.skip(start);
                return Some(self.take(word(self.rest()), None));
            } else if rest.starts_with("::") {
                return Some(self.take(2, None));
            } else {
                return Some(self.take(first.len_utf8(), None));
            }
        }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn take(&mut self, length: usize, shown: Option<&'static str>) -> Token<'a> {
        let text = shown.unwrap_or(&self.rest()[..length]);
        let token = Token { line: self.line, text, in_test: false };
        self.skip(length);
        token
    }

    fn skip(&mut self, length: usize) {
        self.line += self.rest()[..length].matches('\n').count();
        self.at += length;
    }
}

/// How long the word at the start is.
fn word(text: &str) -> usize {
    text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len())
}

/// How long the block comment at the start is; block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// How long the string literal at the start is, with its prefix.
fn string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        text.strip_prefix(prefix).is_some_and(|rest| {
            let hashes = if prefix.ends_with('r') { rest.trim_start_matches('#') } else { rest };
            hashes.starts_with('"')
        })
    })?;
    let body = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let start = prefix.len() + hashes + 1;
        return Some(
            text[start..].find(&end).map_or(text.len(), |found| start + found + end.len()),
        );
    }
    Some(prefix.len() + quoted(body, '"').unwrap_or(body.len()))
}

/// How long the character or byte literal at the start is; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let mut letters = text.chars().skip(1);
    let (first, second) = (letters.next()?, letters.next()?);
    if first == '\\' || second == '\'' { quoted(text, '\'') } else { None }
}

/// How long the text in quotes at the start is, with both quotes; a backslash shields what follows it.
fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut shielded = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if shielded => shielded = false,
            '\\' => shielded = true,
            _ if letter == quote => return Some(at + letter.len_utf8()),
            _ => {}
        }
    }
    None
}

/// Marks every item that an attribute limits to tests, together with that attribute.
fn mark_tests(tokens: &mut [Token<'_>]) {
    let mut at = 0;
    while at < tokens.len() {
        let Some(end) = attribute_end(tokens, at) else {
            at += 1;
            continue;
        };
        let words: Vec<&str> = tokens[at + 2..end].iter().map(|token| token.text).collect();
        let of_cfg =
            words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not");
        let is_test = of_cfg || words.first() == Some(&"test") || words.ends_with(&["::", "test"]);
        let mut until = if is_test { item_end(tokens, end + 1) } else { end };
        if is_test {
            // `use a::{b};` goes on after its block.
            until += usize::from(tokens.get(until + 1).is_some_and(|token| token.text == ";"));
            tokens[at..=until].iter_mut().for_each(|token| token.in_test = true);
        }
        at = until + 1;
    }
}

/// Where the attribute that starts here has its closing bracket.
fn attribute_end(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    if tokens[at].text == "#" && tokens.get(at + 1)?.text == "[" {
        matching(tokens, at + 1)
    } else {
        None
    }
}

/// Where the item that starts here ends: at its semicolon or at the end of its first block.
fn item_end(tokens: &[Token<'_>], start: usize) -> usize {
    let last = tokens.len() - 1;
    let mut at = start;
    while at <= last {
        match tokens[at].text {
            ";" => return at,
            "{" => return matching(tokens, at).unwrap_or(last),
            "(" | "[" => at = matching(tokens, at).unwrap_or(last) + 1,
            _ => at += 1,
        }
    }
    last
}

/// Where the bracket that opens here is closed.
fn matching(tokens: &[Token<'_>], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            _ => continue,
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Every function that has a body.
pub fn functions<'a>(tokens: &[Token<'a>]) -> Vec<Function<'a>> {
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        // After `fn` stands a name, or a bracket where the type of a function is meant.
        if pair[0].text != "fn" || word(pair[1].text) == 0 {
            continue;
        }
        let end = item_end(tokens, at);
        if tokens[end].text == "}" {
            let lines = tokens[end].line + 1 - pair[0].line;
            found.push(Function {
                name: pair[1].text,
                line: pair[0].line,
                lines,
                in_test: pair[0].in_test,
            });
        }
    }
    found
}

/// Every path, those in `use` items written out in full.
pub fn paths<'a>(tokens: &[Token<'a>]) -> Vec<PathUse<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let begins_use =
            tokens[at].text == "use" && tokens.get(at + 1).is_some_and(|next| next.text != "<");
        if begins_use {
            at = use_tree(tokens, at + 1, &[], &mut found);
        } else if word(tokens[at].text) > 0 {
            at = plain_path(tokens, at, &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads a path outside of `use`, and says where it ends.
fn plain_path<'a>(tokens: &[Token<'a>], start: usize, found: &mut Vec<PathUse<'a>>) -> usize {
    let Token { line, in_test, .. } = tokens[start];
    let mut segments = vec![tokens[start].text];
    let mut at = start + 1;
    while at + 1 < tokens.len() && tokens[at].text == "::" && word(tokens[at + 1].text) > 0 {
        segments.push(tokens[at + 1].text);
        at += 2;
    }
    found.push(PathUse { line, segments, imported: false, in_test });
    at
}

/// Reads one branch of a `use` item below what was read before it, and says where it ends.
fn use_tree<'a>(
    tokens: &[Token<'a>],
    start: usize,
    before: &[&'a str],
    found: &mut Vec<PathUse<'a>>,
) -> usize {
    let mut segments = before.to_vec();
    let mut at = start;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}" && token.text != ";") {
                    at = use_tree(tokens, at, &segments, found);
                    if tokens.get(at).is_some_and(|token| token.text == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "as" => at += 2,
            "self" if !before.is_empty() => at += 1,
            "," | "}" | ";" => break,
            text => {
                segments.push(text);
                at += 1;
            }
        }
    }
    let Token { line, in_test, .. } = tokens[at.min(tokens.len()) - 1];
    found.push(PathUse { line, segments, imported: true, in_test });
    at
}

#[cfg(test)]
mod tests;
