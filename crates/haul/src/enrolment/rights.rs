//! What a key will be able to do, as the options of its line.

use crate::args::RightsArguments;
use crate::report::{Code, Failure};

/// The longest name of a key.
const MAX_NAME: usize = 128;

/// What an operator gives a key.
pub struct Rights<'a> {
    /// Into which inboxes it may hand in.
    pub inboxes: &'a [String],
    /// How much.
    pub rights: &'a RightsArguments,
}

impl Rights<'_> {
    /// Its options, one by one.
    pub fn options(&self) -> Result<Vec<String>, Failure> {
        let mut options = Vec::new();
        for inbox in self.inboxes {
            if inbox != "*" && !link::is_inbox_name(inbox) {
                let shown = files::escape(inbox.as_bytes());
                let text = format!("--inbox '{shown}' is no name of an inbox");
                return Err(Failure::new(Code::Usage, text)
                    .hint("it has small letters, digits, - and _; '*' stands for all inboxes"));
            }
            if inbox == "*" && self.inboxes.len() > 1 {
                return Err(Failure::new(Code::Usage, "--inbox '*' stands beside another --inbox"));
            }
            options.push(format!("inbox=\"{inbox}\""));
        }
        let RightsArguments { quota, quota_datasets, max_rate } = self.rights;
        options.extend(quota.as_ref().map(|quota| format!("quota={}", written(*quota))));
        options.extend(quota_datasets.map(|count| format!("quota-datasets={count}")));
        options.extend(max_rate.map(|rate| format!("max-rate={rate}")));
        Ok(options)
    }
}

/// What an operator calls a key; it becomes the comment of its line.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let is_fine = !name.trim().is_empty()
        && name.trim() == name
        && name.len() <= MAX_NAME
        && !name.chars().any(link::is_unprintable);
    match is_fine {
        true => Ok(()),
        false => {
            let shown = files::escape(name.as_bytes());
            let text =
                format!("--as '{shown}' is empty, too long, or holds what cannot be printed");
            Err(Failure::new(Code::Usage, text))
        }
    }
}

/// Bytes as lines have them: with the largest unit of which they are a whole number.
fn written(bytes: u64) -> String {
    let units = [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let whole = units.into_iter().find(|(unit, _)| bytes > 0 && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{}{name}", bytes / unit))
}
