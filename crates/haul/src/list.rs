//! The list of names that `--files-from` reads, checked before anything is sent.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use files::{RelPath, is_reserved};
use rustix::fs::{Mode, OFlags};
use tree::{Selection, TooLong};

use crate::report::{Code, Failure};

/// The most that a list may take in memory: more than a million names.
const MOST: usize = 256 << 20;
/// The longest line that is looked at.
const LONGEST: u64 = 4 * files::MAX_PATH as u64;

/// Reads the list in this file, or of standard input for `-`. With `from0` names end with a NUL byte
/// instead of a line break; with `whole` a folder stands for all that is in it.
pub fn read(file: &Path, from0: bool, whole: bool) -> Result<Selection, Failure> {
    let shown = match file.as_os_str() == "-" {
        true => "standard input".to_owned(),
        false => files::escape_path(file).to_string(),
    };
    let input: Box<dyn Read> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        // As the shell hands it over it may be a pipe, which a `Dir` does not open.
        let opened = rustix::fs::open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let opened = opened.map_err(|error| unreadable(&shown, &error.into()))?;
        Box::new(File::from(opened))
    };
    let end = if from0 { 0 } else { b'\n' };
    let names = Names { input: BufReader::new(input), end, number: 0, shown: &shown };
    Selection::of(names, whole, MOST)
}

impl From<TooLong> for Failure {
    fn from(error: TooLong) -> Self {
        Self::new(Code::Usage, error.to_string())
            .hint("copy in several runs, each with a part of the list")
    }
}

struct Names<'a, R> {
    input: R,
    end: u8,
    number: u64,
    shown: &'a str,
}

impl<R: BufRead> Names<'_, R> {
    /// The next name, without what ends it; none at the end.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        self.number += 1;
        let mut line = Vec::new();
        let read = (&mut self.input).take(LONGEST).read_until(self.end, &mut line);
        if read.map_err(|error| unreadable(self.shown, &error))? == 0 {
            return Ok(None);
        }
        line.pop_if(|last| *last == self.end);
        Ok(Some(line))
    }

    fn path(&self, line: &[u8]) -> Result<RelPath, Failure> {
        let bad = |why: &str| {
            let (shown, number, name) = (self.shown, self.number, files::escape(line));
            Failure::new(
                Code::Usage,
                format!("{shown}, name {number}: '{name}' cannot be used: {why}"),
            )
        };
        // As rsync has it, a slash in front means nothing.
        let below = line.iter().position(|byte| *byte != b'/').map_or(&[][..], |at| &line[at..]);
        let path = RelPath::parse_user(below).map_err(|error| bad(&error.to_string()))?;
        let is_ours = path.names().any(|name| is_reserved(&name));
        if is_ours { Err(bad("it is kept for haul's own use")) } else { Ok(path) }
    }
}

impl<R: BufRead> Iterator for Names<'_, R> {
    type Item = Result<RelPath, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.line() {
                Ok(Some(line)) if line.is_empty() => {}
                Ok(Some(line)) => return Some(self.path(&line)),
                Ok(None) => return None,
                Err(failure) => return Some(Err(failure)),
            }
        }
    }
}

fn unreadable(shown: &str, error: &std::io::Error) -> Failure {
    Failure::new(Code::Usage, format!("cannot read the list in {shown}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(bytes: &[u8], end: u8) -> Result<Vec<String>, String> {
        let names = Names { input: bytes, end, number: 0, shown: "list" };
        let list = Selection::of(names, false, 10_000);
        let list = list.map_err(|failure| failure.to_string())?;
        Ok(list.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect())
    }

    #[test]
    fn names_are_read_as_find_and_rsync_write_them() {
        let check = |bytes: &[u8], end: u8, expected: &[&str]| {
            assert_eq!(listed(bytes, end).unwrap(), expected, "{}", bytes.escape_ascii());
        };
        check(b"", b'\n', &[]);
        check(b"./b\n\na/c\nb/\n/d\ne", b'\n', &["a/c", "b", "d", "e"]);
        check(b"#a\n; b \n", b'\n', &["#a", "; b "]);
        check(b".\n./x\n", b'\n', &["", "x"]);
        check(b"a\nb\0c\0\0", 0, &["a\nb", "c"]);
    }

    #[test]
    fn a_name_that_cannot_be_used_is_told_with_its_place() {
        for (bytes, why) in [
            (&b"a\n../b\n"[..], "list, name 2: '../b'"),
            (b"a\0b\n", "NUL"),
            (b"\n.haul/x\n", "name 2: '.haul/x' cannot be used: it is kept"),
        ] {
            let text = listed(bytes, b'\n').unwrap_err();
            assert!(text.contains(why), "{text}");
        }
        let long = vec![b'a'; 100_000];
        assert!(listed(&long, b'\n').unwrap_err().contains("longer than"));
    }
}
