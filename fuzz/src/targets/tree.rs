//! Targets for the readers of `tree`.

use files::RelPath;
use tree::{Filter, Rule};

/// Filter rules that a peer has sent, and a path that they are held against: one pattern per line, the
/// path in the last. No pattern takes for ever, whatever it is matched with.
pub fn filter_patterns(data: &[u8]) {
    let mut lines: Vec<&[u8]> = data.split(|byte| *byte == b'\n').collect();
    let path = lines.pop().unwrap_or_default();
    let rules = lines.iter().map(|line| match line.strip_prefix(b"+") {
        Some(pattern) => Rule::include(pattern),
        None => Rule::exclude(*line),
    });
    let Ok(filter) = Filter::new(rules.collect()) else { return };
    let Ok(path) = RelPath::parse(path) else { return };
    let verdict = filter.matches(&path, false);
    let again = Filter::new(filter.rules().to_vec()).expect("what was taken is taken again");
    assert_eq!(again.matches(&path, false), verdict);
    let _ = filter.matches(&path, true);
}
