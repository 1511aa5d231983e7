//! The manifests of a dataset: a line for each file as `sha256sum` and `b3sum` write them, in the order of the paths'
//! bytes. Written and read line by line.

use std::fmt::Write;

use files::{File, FilesError, MAX_PATH, RelPath};

/// Where the files of a dataset are, seen from its manifests.
const PREFIX: &[u8] = b"files/";
/// The longest line: a mark, a digest, two spaces, a path of which each byte is escaped.
const MOST_LINE: usize = 1 + 64 + 2 + 2 * (MAX_PATH + PREFIX.len());
const BUFFER: usize = 256 << 10;

/// Which digest a manifest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Sha256,
    Blake3,
}

impl Method {
    /// The manifest's file.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Sha256 => super::MANIFEST_SHA256,
            Self::Blake3 => super::MANIFEST_BLAKE3,
        }
    }
}

pub(super) fn hex(digest: &[u8; 32]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads 64 hex digits in lower case.
pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let digest = *files::Digest::parse(text).ok()?.as_bytes();
    (!text.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(digest)
}

/// A path on one line: a backslash, a newline and a carriage return become two characters each.
pub(super) fn escaped(path: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(path.len());
    for byte in path {
        match byte {
            b'\\' => line.extend_from_slice(b"\\\\"),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            other => line.push(*other),
        }
    }
    line
}

/// The path that became this; none for what no path becomes.
pub(super) fn unescaped(line: &[u8]) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(line.len());
    let mut bytes = line.iter();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'\\' => match bytes.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                b'r' => b'\r',
                _ => return None,
            },
            b'\n' | b'\r' => return None,
            other => *other,
        });
    }
    Some(path)
}

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Below `files/`.
    pub(crate) path: RelPath,
    pub(crate) digest: [u8; 32],
}

impl Line {
    fn encode(&self, out: &mut Vec<u8>) {
        let path = escaped(self.path.as_bytes());
        if path.len() > self.path.as_bytes().len() {
            out.push(b'\\');
        }
        out.extend_from_slice(hex(&self.digest).as_bytes());
        out.extend_from_slice(b"  ");
        out.extend_from_slice(PREFIX);
        out.extend_from_slice(&path);
        out.push(b'\n');
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let (is_escaped, line) = match line.strip_prefix(b"\\") {
            Some(line) => (true, line),
            None => (false, line),
        };
        let (digest, rest) = line.split_at_checked(64)?;
        let rest = rest.strip_prefix(b"  ")?.strip_prefix(PREFIX)?;
        let path = if is_escaped { unescaped(rest)? } else { rest.to_vec() };
        // Each path has one form.
        let again = escaped(&path);
        if again != rest || is_escaped != (again.len() > path.len()) {
            return None;
        }
        let digest = unhex(std::str::from_utf8(digest).ok()?)?;
        let path = RelPath::parse(&path).ok().filter(|path| !path.is_root())?;
        Some(Self { path, digest })
    }
}

/// What is read is written as it was read.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(data: &[u8]) {
    for bytes in data.split(|byte| *byte == b'\n') {
        if let Some(line) = Line::parse(bytes) {
            let mut again = Vec::new();
            line.encode(&mut again);
            assert_eq!(again, [bytes, b"\n"].concat());
        }
    }
}

/// Writes a manifest, and sums up its bytes.
pub(super) struct ManifestWriter {
    file: File,
    buffer: Vec<u8>,
    written: u64,
    hasher: blake3::Hasher,
}

impl ManifestWriter {
    pub(super) fn new(file: File) -> Self {
        let buffer = Vec::with_capacity(BUFFER + MOST_LINE);
        Self { file, buffer, written: 0, hasher: blake3::Hasher::new() }
    }

    pub(super) fn push(&mut self, line: &Line) -> Result<(), FilesError> {
        line.encode(&mut self.buffer);
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), FilesError> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.hasher.update(&self.buffer);
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// All of it is written, though not durable yet: the file, and the digest of its bytes.
    pub(super) fn finish(mut self) -> Result<(File, files::Digest), FilesError> {
        self.flush()?;
        let digest = files::Digest::from_bytes(*self.hasher.finalize().as_bytes());
        Ok((self.file, digest))
    }
}

/// Reads a file line by line in bounded memory.
pub(super) struct Lines<'a> {
    file: &'a File,
    offset: u64,
    end: u64,
    buffer: Vec<u8>,
    at: usize,
    most: usize,
}

impl<'a> Lines<'a> {
    /// The lines of the first `end` bytes, each at most `most` bytes long.
    pub(super) fn new(file: &'a File, end: u64, most: usize) -> Self {
        Self { file, offset: 0, end, buffer: Vec::new(), at: 0, most }
    }

    /// The next line without its end; none at the end of the file. A line that is too long, and one without an end,
    /// give `Some(None)`.
    pub(super) fn next(&mut self) -> Result<Option<Option<&[u8]>>, FilesError> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(len) = rest.iter().position(|byte| *byte == b'\n') {
                let start = self.at;
                self.at += len + 1;
                return Ok(Some(Some(&self.buffer[start..start + len])));
            }
            let left = self.end.saturating_sub(self.offset);
            if left == 0 {
                let is_cut = !rest.is_empty();
                self.at = self.buffer.len();
                return Ok(is_cut.then_some(None));
            }
            if rest.len() > self.most {
                (self.offset, self.at) = (self.end, self.buffer.len());
                return Ok(Some(None));
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            let (old, step) = (self.buffer.len(), left.min(BUFFER as u64) as usize);
            self.buffer.resize(old + step, 0);
            self.file.read_exact_at(&mut self.buffer[old..], self.offset)?;
            self.offset += step as u64;
        }
    }
}

/// Goes through a manifest.
pub(crate) struct ManifestReader<'a> {
    lines: Lines<'a>,
    last: Option<RelPath>,
}

impl<'a> ManifestReader<'a> {
    pub(crate) fn new(file: &'a File) -> Result<Self, FilesError> {
        let end = file.attributes()?.size;
        Ok(Self { lines: Lines::new(file, end, MOST_LINE), last: None })
    }

    /// The next line; `Some(None)` for one that no manifest of ours has, or that is not behind the one before it.
    pub(crate) fn next(&mut self) -> Result<Option<Option<Line>>, FilesError> {
        let Some(line) = self.lines.next()? else { return Ok(None) };
        let line = line.and_then(Line::parse);
        let in_order = |line: &Line| {
            self.last.as_ref().is_none_or(|last| last.as_bytes() < line.path.as_bytes())
        };
        let line = line.filter(in_order);
        if let Some(line) = &line {
            self.last = Some(line.path.clone());
        }
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_one_form() {
        let digest = "0123456789abcdef".repeat(4);
        let parse = |mark: &str, path: &str| {
            Line::parse(format!("{mark}{digest}  {path}").as_bytes())
                .map(|line| line.path.as_bytes().to_vec())
        };
        assert_eq!(parse("", "files/a b"), Some(b"a b".to_vec()));
        assert_eq!(parse("\\", "files/a\\\\\\n\\r"), Some(b"a\\\n\r".to_vec()));
        for (mark, path) in [
            ("\\", "files/a"),
            ("", "files/a\\\\"),
            ("", "files/a\rb"),
            ("\\", "files/a\r\\n"),
            ("\\", "files/a\\t"),
            ("", "files/"),
            ("", "files/../a"),
            ("", "files//a"),
            ("", "a"),
            ("", "/files/a"),
        ] {
            assert_eq!(parse(mark, path), None, "{mark}{path:?}");
        }
        assert_eq!(Line::parse(format!("{}  files/a", digest.to_uppercase()).as_bytes()), None);
    }
}
