//! Names for other machines, from `remotes.toml` in the configuration folder (`docs/formats/config.md`): what
//! stands before the colon of an address, a folder there, and how copies go. Reading the text is pure; a key
//! that is not known is an error, as in the daemon's configuration.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use anyhow::{Context, Result};
use link::{LinkChoice, Pace};
use serde::Deserialize;

use crate::address::Address;
use crate::args::{parse_link, parse_pace};
use crate::report::{Code, Failure};
use crate::state::{Places, path_of};
use crate::units;

/// The file in the configuration folder.
const FILE: &str = "remotes.toml";
/// The longest file that is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// A machine that has a name here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// What one would type before the colon, or a URL without a path.
    host: String,
    /// The folder that paths are relative to.
    path: String,
    /// Which kind of link, where the command does not say.
    pub link: Option<LinkChoice>,
    /// How hard to push, where the command does not say.
    pub pace: Option<Pace>,
    /// Bytes per second, where the command does not say.
    pub limit: Option<u64>,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remotes(BTreeMap<String, Remote>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(default)]
    remote: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    host: String,
    #[serde(default)]
    path: String,
    link: Option<String>,
    pace: Option<String>,
    limit: Option<String>,
}

impl Remotes {
    /// Reads the file; without one there are none.
    pub fn read(places: &Places) -> Result<Self> {
        let bytes = match places.config()?.read_small(&path_of(FILE), MAX_BYTES) {
            Err(error) if error.is_not_found() => return Ok(Self::default()),
            bytes => bytes?,
        };
        let wrong = |error: String| {
            let shown = places.shown(FILE);
            Failure::new(Code::Usage, format!("{shown} cannot be used: {}", error.trim_end()))
                .hint("docs/formats/config.md says what may stand in it")
        };
        let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
        Ok(Self::parse(&text).map_err(|error| wrong(format!("{error:#}")))?)
    }

    /// Reads the text of the file.
    pub fn parse(text: &str) -> Result<Self> {
        let text: Text = toml::from_str(text)?;
        let made = text.remote.into_iter().map(|(name, entry)| {
            let remote = Remote::of(&name, entry).with_context(|| format!("[remote.{name}]"))?;
            Ok((name, remote))
        });
        Ok(Self(made.collect::<Result<_>>()?))
    }

    /// The remote that a word names, and what stands behind the colon.
    fn find<'a>(&self, word: &'a OsStr) -> Option<(&Remote, &'a [u8])> {
        let bytes = word.as_bytes();
        let colon = bytes.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&bytes[..colon]).ok()?;
        let path = &bytes[colon + 1..];
        // With `//` behind it, it is a URL whatever the name is.
        let remote = self.0.get(name).filter(|_| !path.starts_with(b"//"))?;
        Some((remote, path))
    }

    /// The remote that a word names.
    pub fn of_word(&self, word: &OsStr) -> Option<&Remote> {
        self.find(word).map(|(remote, _)| remote)
    }

    /// The same where the name may stand alone, without a colon.
    pub fn spelled_place(&self, word: &OsStr) -> OsString {
        match word.to_str().is_some_and(|name| self.0.contains_key(name)) {
            true => self.spelled(&OsString::from_vec([word.as_bytes(), b":"].concat())),
            false => self.spelled(word),
        }
    }

    /// The same word with the machine itself in place of its name here.
    pub fn spelled(&self, word: &OsStr) -> OsString {
        match self.find(word) {
            Some((remote, path)) => OsString::from_vec(remote.address(path)),
            None => word.to_owned(),
        }
    }
}

impl Remote {
    fn of(name: &str, entry: Entry) -> Result<Self> {
        let is_plain = |letter: char| letter.is_alphanumeric() || "._-".contains(letter);
        if name.is_empty() || name.starts_with('-') || !name.chars().all(is_plain) {
            anyhow::bail!("a name has letters, digits and . _ -, and does not begin with '-'");
        }
        let Entry { host, path, link, pace, limit } = entry;
        let remote = Self {
            path,
            link: link.map(|text| parse_link(&text)).transpose().map_err(anyhow::Error::msg)?,
            pace: pace.map(|text| parse_pace(&text)).transpose().map_err(anyhow::Error::msg)?,
            limit: limit.map(|text| units::parse_rate(&text)).transpose()?,
            host,
        };
        let host = &remote.host;
        match Address::parse(&OsString::from_vec(
            Self { path: String::new(), ..remote.clone() }.address(b""),
        ))
        .with_context(|| format!("host = \"{host}\""))?
        {
            Address::Far { path, .. } if path.is_empty() => Ok(remote),
            _ => {
                anyhow::bail!("host = \"{host}\": write what stands before the colon of an address")
            }
        }
    }

    /// The address of a path there, as one types it without a remote.
    fn address(&self, path: &[u8]) -> Vec<u8> {
        let base = self.path.as_bytes();
        let joined = match (base, path) {
            (base, b"") => base.to_vec(),
            (b"", path) => path.to_vec(),
            (_, [b'/', ..]) => path.to_vec(),
            (base, path) => [base.strip_suffix(b"/").unwrap_or(base), b"/", path].concat(),
        };
        let host = self.host.as_bytes();
        if self.host.contains("://") {
            let encoded: Vec<u8> =
                joined.split(|byte| *byte == b'%').collect::<Vec<_>>().join(&b"%25"[..]);
            return [host.strip_suffix(b"/").unwrap_or(host), b"/", &encoded].concat();
        }
        // What looks like a port is a part of the path.
        let guard: &[u8] = if joined.first().is_some_and(u8::is_ascii_digit) { b"./" } else { b"" };
        [host, b":", guard, &joined].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        [remote.nas]
        host = "nas.example.org"
        path = "backup/"
        link = "tcp"
        pace = "background"
        limit = "10MB"
        [remote.port]
        host = "10.0.0.1:4300"
        [remote.six]
        host = "[::1]"
        path = "/srv"
        [remote.login]
        host = "ssh://me@host:22"
        path = "x"
        [remote.user]
        host = "me@host"
    "#;

    #[test]
    fn a_name_means_its_machine_and_folder() {
        let remotes = Remotes::parse(TEXT).unwrap();
        let check = |word: &str, expected: &str| {
            let spelled = remotes.spelled(word.as_ref());
            assert_eq!(spelled, OsStr::new(expected), "{word}");
            assert!(Address::parse(&spelled).is_ok(), "{word}");
        };
        check("nas:", "nas.example.org:backup/");
        check("nas:a/b", "nas.example.org:backup/a/b");
        check("nas:/a", "nas.example.org:/a");
        check("port:", "10.0.0.1:4300:");
        check("port:99:x", "10.0.0.1:4300:./99:x");
        check("six:.", "[::1]:/srv/.");
        check("login:a%b", "ssh://me@host:22/x/a%25b");
        check("login:/a", "ssh://me@host:22//a");
        check("user:a", "me@host:a");
        for word in
            ["nas", "./nas:x", "other:x", "haul://nas/x", "nas://x", "me@nas:x", "a/nas:x", "-"]
        {
            assert_eq!(remotes.spelled(word.as_ref()), OsStr::new(word));
        }
        assert_eq!(remotes.spelled_place("nas".as_ref()), "nas.example.org:backup/");
        assert_eq!(remotes.spelled_place("none".as_ref()), "none");
        let nas = remotes.of_word("nas:x".as_ref()).unwrap();
        assert_eq!((nas.limit, nas.pace), (Some(10_000_000), Some(Pace::Background)));
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_its_place() {
        for (text, why) in [
            ("[remote.a]\nhost = \"h\"\nport = 1\n", "line 3"),
            ("[remotes.a]\nhost = \"h\"\n", "unknown field `remotes`"),
            ("[remote.a]\npath = \"h\"\n", "host"),
            ("[remote.a]\nhost = \"h:x\"\n", "before the colon"),
            ("[remote.a]\nhost = \"./h\"\n", "before the colon"),
            ("[remote.a]\nhost = \"\"\n", "[remote.a]"),
            ("[remote.\"a:b\"]\nhost = \"h\"\n", "letters, digits"),
            ("[remote.a]\nhost = \"h\"\nlink = \"udp\"\n", "quic or tcp"),
            ("[remote.a]\nhost = \"h\"\nlimit = \"10\"\n", "bytes per second"),
        ] {
            let error = format!("{:#}", Remotes::parse(text).unwrap_err());
            assert!(error.contains(why), "{text}: {error}");
        }
        assert_eq!(Remotes::parse("").unwrap(), Remotes::default());
    }
}
