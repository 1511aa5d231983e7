//! The numbers by which receivers tell a newer session from an older one. Each is on the disk before the first packet of
//! its session goes out, so that none is used twice whatever happens.

use files::{Dir, FilesError, Name};
use thiserror::Error;

const FILE: &str = "epoch";
const LINE: &str = "haul-diode-epoch-1";

/// The last run of a sender, which is kept apart from what it has sent, so that one of them shows when the other was set
/// back.
const RUN_FILE: &str = "run";
const RUN_LINE: &str = "haul-diode-run-1";

/// Why the epochs cannot be told.
#[derive(Debug, Error)]
pub enum EpochError {
    /// The disk does not do as it should.
    #[error("the memory of past sessions cannot be kept")]
    Disk(#[from] FilesError),
    /// The file is there and says something else.
    #[error(
        "the memory of past sessions in {0} is damaged; without it receivers cannot tell new from old"
    )]
    Damaged(String),
}

/// What a sender remembers of its sessions, in one file.
#[derive(Debug)]
pub struct Epochs {
    dir: Dir,
    floor: u64,
    last: u64,
}

impl Epochs {
    /// Reads the file, or begins one whose floor is this time in milliseconds since 1970.
    pub fn open(dir: &Dir, now_ms: u64) -> Result<Self, EpochError> {
        match dir.read_small(&file().into(), 256) {
            Ok(bytes) => {
                let shown = dir.path().join(FILE);
                let damaged = || EpochError::Damaged(files::escape_path(&shown).to_string());
                let text = String::from_utf8(bytes).map_err(|_| damaged())?;
                let rest = text.strip_prefix(LINE).ok_or_else(damaged)?;
                let mut numbers = rest.split_whitespace().map(str::parse);
                match (numbers.next(), numbers.next(), numbers.next()) {
                    (Some(Ok(floor)), Some(Ok(last)), None) if floor <= last => {
                        Ok(Self { dir: dir.clone(), floor, last })
                    }
                    _ => Err(damaged()),
                }
            }
            Err(error) if error.is_not_found() => {
                let epochs = Self { dir: dir.clone(), floor: now_ms, last: now_ms };
                epochs.write()?;
                Ok(epochs)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// No session of a lower epoch is ever this sender's: what its line tells receivers, and what its signatures are
    /// bound to.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// The epoch of a session that begins now.
    pub fn begin(&mut self, now_ms: u64) -> Result<u64, EpochError> {
        let before = self.last;
        self.last = now_ms.max(before.saturating_add(1));
        if let Err(error) = self.write() {
            self.last = before;
            return Err(error);
        }
        Ok(self.last)
    }

    /// Another floor, above all sessions so far: for receivers that lost their memory and are told a new line.
    pub fn raise_floor(&mut self, now_ms: u64) -> Result<u64, EpochError> {
        self.floor = self.begin(now_ms)?;
        self.write()?;
        Ok(self.floor)
    }

    /// The number of the last run of a sender; 0 if there was none.
    pub(crate) fn last_run(&self) -> Result<u64, EpochError> {
        let bytes = match self.dir.read_small(&own(RUN_FILE).into(), 256) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let text = String::from_utf8(bytes).unwrap_or_default();
        let number = text.strip_prefix(RUN_LINE).and_then(|rest| rest.trim().parse().ok());
        let shown = self.dir.path().join(RUN_FILE);
        number.ok_or_else(|| EpochError::Damaged(files::escape_path(&shown).to_string()))
    }

    /// A run with this number has begun.
    pub(crate) fn began_run(&self, run: u64) -> Result<(), EpochError> {
        let text = format!("{RUN_LINE} {run}\n");
        Ok(self.dir.write_private(&own(RUN_FILE), text.as_bytes())?)
    }

    fn write(&self) -> Result<(), EpochError> {
        let text = format!("{LINE} {} {}\n", self.floor, self.last);
        Ok(self.dir.write_private(&file(), text.as_bytes())?)
    }
}

fn file() -> Name {
    own(FILE)
}

fn own(text: &str) -> Name {
    Name::new(text).expect("it is a name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Scratch;

    #[test]
    fn no_epoch_comes_twice_even_if_the_clock_goes_back() {
        let scratch = Scratch::new();
        let mut epochs = Epochs::open(&scratch.dir(), 1000).unwrap();
        assert_eq!(epochs.floor(), 1000);
        let mut before = 0;
        for now in [1000, 5000, 200, 200, 6000] {
            let epoch = epochs.begin(now).unwrap();
            assert!(epoch > before && epoch >= epochs.floor());
            before = epoch;
            epochs = Epochs::open(&scratch.dir(), 0).unwrap();
            assert_eq!(epochs.floor(), 1000);
        }
        let floor = epochs.raise_floor(10).unwrap();
        assert!(floor > before && Epochs::open(&scratch.dir(), 0).unwrap().floor() == floor);
    }

    #[test]
    fn the_last_run_is_remembered() {
        let scratch = Scratch::new();
        let epochs = Epochs::open(&scratch.dir(), 1000).unwrap();
        assert_eq!(epochs.last_run().unwrap(), 0);
        epochs.began_run(77).unwrap();
        assert_eq!(Epochs::open(&scratch.dir(), 0).unwrap().last_run().unwrap(), 77);
        scratch.dir().write_private(&own(RUN_FILE), b"haul-diode-run-1 x").unwrap();
        assert!(matches!(epochs.last_run(), Err(EpochError::Damaged(_))));
    }

    #[test]
    fn a_damaged_memory_is_not_taken_for_none() {
        let scratch = Scratch::new();
        for text in
            ["", "haul-diode-epoch-1 5", "haul-diode-epoch-1 6 5", "haul-diode-epoch-1 1 2 3"]
        {
            scratch.dir().write_private(&file(), text.as_bytes()).unwrap();
            let error = Epochs::open(&scratch.dir(), 0).unwrap_err();
            assert!(matches!(error, EpochError::Damaged(_)), "{text}: {error}");
        }
    }
}
