//! Where a diode's two ends keep what is theirs: lists of keys in the configuration folder, memory in the state folder.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use diode::{Epochs, TrustLine};
use files::Dir;

use crate::report::{Code, Failure};
use crate::state::{Places, own_name};

/// One diode of this machine.
pub struct Home {
    pub places: Places,
    pub name: String,
}

impl Home {
    pub fn new(name: &str) -> Result<Self> {
        Ok(Self { places: Places::from_environment()?, name: name.to_owned() })
    }

    fn state(&self) -> Result<Dir> {
        Ok(self.places.state("diode")?.make_private_dir(&own_name(&self.name))?)
    }

    /// The sender's memory.
    pub fn sends(&self) -> Result<Dir> {
        Ok(self.state()?.make_private_dir(&own_name("send"))?)
    }

    /// The receiver's memory, and with it its key.
    pub fn receives(&self) -> Result<Dir> {
        Ok(self.state()?.make_private_dir(&own_name("recv"))?)
    }

    pub fn epochs(&self) -> Result<Epochs> {
        Ok(Epochs::open(&self.state()?, now_ms())?)
    }

    fn list(&self) -> String {
        match &*self.name {
            "main" => "diode_keys".to_owned(),
            name => format!("diode_keys_{name}"),
        }
    }

    /// The list's path, for messages.
    pub fn shown_list(&self) -> String {
        self.places.shown(&self.list())
    }

    /// The machines on the other side.
    pub fn trusted(&self) -> Result<Vec<TrustLine>> {
        let text = self.places.read_list(&self.list())?;
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        lines
            .enumerate()
            .map(|(number, line)| {
                TrustLine::parse(line)
                    .with_context(|| format!("line {} of {}", number + 1, self.shown_list()))
            })
            .collect()
    }

    /// As [`Self::trusted`], of which there must be some.
    pub fn trusted_some(&self, what: &str) -> Result<Vec<TrustLine>> {
        let trusted = self.trusted()?;
        if trusted.is_empty() {
            let text = format!("no {what} is trusted: {} holds no key", self.shown_list());
            return Err(Failure::new(Code::Refused, text)
                .hint("on the other side run `haul diode key show`, and here: haul diode key trust 'LINE'")
                .into());
        }
        Ok(trusted)
    }

    pub fn write_trusted(&self, lines: &[TrustLine]) -> Result<()> {
        let text: String = lines.iter().map(|line| line.to_line() + "\n").collect();
        self.places.write_list(&self.list(), &text)
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
