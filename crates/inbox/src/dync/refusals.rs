//! Connections that were refused before anything was said over them, as a log has them: the first at once, and while a
//! client tries again and again, one in a while with how many there were.

use std::time::Duration;

/// Between two that are told.
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// When one was told last.
    told: Option<Duration>,
    /// How many were not told since.
    untold: u64,
}

impl Refusals {
    /// One more. If it is to be told, how many were not told before it.
    pub(super) fn another(&mut self, now: Duration) -> Option<u64> {
        if self.told.is_some_and(|told| now.saturating_sub(told) < PAUSE) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// Why, in words that an operator understands.
pub(super) fn why(reason: &str) -> String {
    const KNOWN: [(&str, &str); 2] = [
        (
            "invalid peer identity",
            "its identity begins with a zero byte, which ZeroMQ keeps for itself, as one of 256 random ones does: let it \
             begin anew",
        ),
        (
            "authentication failed with status 400",
            "its key is not among the clients', or may not come from there, or has expired",
        ),
    ];
    let known = KNOWN.iter().find(|(part, _)| reason.contains(part));
    known.map_or(reason, |(_, words)| words).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_then_one_in_a_while() {
        let mut refusals = Refusals::default();
        let at = Duration::from_secs;
        let told: Vec<_> = [0, 1, 9, 10, 11, 60].map(|s| refusals.another(at(s))).to_vec();
        assert_eq!(told, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
