//! Two machines that know each other, one of them serving a folder: what nearly every test begins with.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::daemon::{Daemon, Ended, Machine};
use testkit::tree::Scratch;

/// A machine that copies and one that serves.
pub struct Pair {
    /// Where everything lies.
    pub scratch: Scratch,
    /// The machine that copies.
    pub near: Machine,
    /// The machine that serves.
    pub far: Machine,
    /// Its daemon, which exports `served` as `data`.
    pub daemon: Daemon,
}

impl Pair {
    /// Both machines, the daemon running, `near` allowed to do everything.
    pub fn new(name: &str) -> Self {
        Self::with(name, &[])
    }

    /// The same with options of `key allow`.
    pub fn with(name: &str, allowed: &[&str]) -> Self {
        let scratch = Scratch::new(name);
        scratch.folder("local");
        let (near, far) = (machine(scratch.join("near")), machine(scratch.join("far")));
        far.allow(&near, allowed);
        let daemon = far.serve(&[data(&scratch.folder("served"))]);
        near.trust(&far, daemon.address());
        Self { scratch, near, far, daemon }
    }

    /// A path in the folder that is served.
    pub fn served(&self, below: impl AsRef<Path>) -> PathBuf {
        self.scratch.join("served").join(below)
    }

    /// A path on the machine that copies. What is served does not lie beside it, where a pull would find it and send
    /// nothing.
    pub fn local(&self, below: impl AsRef<Path>) -> PathBuf {
        self.scratch.join("local").join(below)
    }

    /// SOURCE or TARGET for a path on the machine that serves.
    pub fn at(&self, path: impl AsRef<OsStr>) -> OsString {
        self.daemon.at(path)
    }

    /// `haul cp` with these words.
    pub fn copy<W: AsRef<OsStr>>(&self, words: &[W]) -> Ended {
        self.near.run(copy_words(words))
    }

    /// Copies with `--json` and gives the line that says how it ended.
    #[track_caller]
    pub fn copy_json(&self, source: impl AsRef<OsStr>, target: impl AsRef<OsStr>) -> Value {
        self.copy_json_with(&[], source, target)
    }

    /// The same with further options.
    #[track_caller]
    pub fn copy_json_with(
        &self,
        options: &[&str],
        source: impl AsRef<OsStr>,
        target: impl AsRef<OsStr>,
    ) -> Value {
        let mut words: Vec<&OsStr> = vec!["--json".as_ref()];
        words.extend(options.iter().map(AsRef::<OsStr>::as_ref));
        words.extend([source.as_ref(), target.as_ref()]);
        finished(&self.copy(&words).expect_code(0))
    }
}

/// A machine whose home is this folder.
pub fn machine(home: PathBuf) -> Machine {
    Machine::new(env!("CARGO_BIN_EXE_haul"), home)
}

/// A folder as `--export` takes it, under the name `data`.
pub fn data(folder: &Path) -> OsString {
    let mut word = folder.as_os_str().to_owned();
    word.push("=data");
    word
}

/// `cp` and these words.
pub fn copy_words<W: AsRef<OsStr>>(words: &[W]) -> Vec<OsString> {
    let words = words.iter().map(|word| word.as_ref().to_owned());
    std::iter::once(OsString::from("cp")).chain(words).collect()
}

/// The last line of `--json`, which must be the end of a job that was carried out.
#[track_caller]
pub fn finished(ended: &Ended) -> Value {
    let line: Value = serde_json::from_str(&ended.last_line())
        .unwrap_or_else(|error| panic!("the last line is no JSON: {error}\n{}", ended.told()));
    assert_eq!(line["event"], "finished", "{}", ended.told());
    line
}

/// A number of a JSON line.
#[track_caller]
pub fn number(line: &Value, key: &str) -> u64 {
    line[key].as_u64().unwrap_or_else(|| panic!("no number '{key}' in {line}"))
}

/// The address that a relay listens on, as SOURCE or TARGET.
pub fn at(address: SocketAddr, path: impl AsRef<OsStr>) -> OsString {
    testkit::daemon::far(address, path)
}
