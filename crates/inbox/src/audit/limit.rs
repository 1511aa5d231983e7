//! How much of what clients can cause is written: within an hour the first 20 of each and the first 500 of all, which is
//! some 12,000 lines a day at most, whatever anybody does. The rest is counted, and the count is told when the hour is
//! over. It is pure.

use std::collections::HashMap;

/// How long counts hold.
const WINDOW_MS: i64 = 3_600_000;
/// The most of one client within that time.
const MOST_OF_ONE: u32 = 20;
/// The most of all of them, which bounds the table too.
const MOST: u32 = 500;

#[derive(Debug, Default)]
pub(super) struct Limit {
    /// When the window began.
    since_ms: Option<i64>,
    of_one: HashMap<String, u32>,
    all: u32,
    left_out: u64,
}

impl Limit {
    /// Whether one more of this client is written. [`Limit::left_out`] comes first.
    pub(super) fn admits(&mut self, client: &str, now_ms: i64) -> bool {
        self.since_ms.get_or_insert(now_ms);
        let has_room = self.all < MOST;
        let count = match has_room {
            true => self.of_one.entry(client.to_owned()).or_default(),
            // No table grows for those who are not written anyhow.
            false => &mut 0,
        };
        if has_room && *count < MOST_OF_ONE {
            *count += 1;
            self.all += 1;
            return true;
        }
        self.left_out += 1;
        false
    }

    /// Begins anew if the window is over, also because the clock was set back: how many were left out in it, if any, and
    /// since when.
    pub(super) fn left_out(&mut self, now_ms: i64) -> Option<(u64, i64)> {
        let since = self.since_ms?;
        if (since..since.saturating_add(WINDOW_MS)).contains(&now_ms) {
            return None;
        }
        let count = std::mem::take(self).left_out;
        (count > 0).then_some((count, since))
    }
}

#[cfg(test)]
mod tests;
