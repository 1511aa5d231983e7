//! Targets for the readers of `tree`.

use files::RelPath;
use tree::{Filter, Glob, NameGlob, Rule};

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

/// A pattern in a path that a peer asks for, and behind a line break a path that it may stand for. The only
/// name that can lead on is one that does.
pub fn globs(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (pattern, path) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let Some(glob) = Glob::parse(pattern) else { return };
    let mut places = glob.start();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        if let Some(only) = glob.next_name(places) {
            assert!(
                !glob.after(places, &only, false).is_empty(),
                "the name that was named leads on"
            );
            assert!(only == name || glob.after(places, name, false).is_empty(), "and no other");
        }
        places = glob.after(places, name, false);
    }
    if glob.is_match(places) && !path.ends_with(b"/") {
        let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        assert!(glob.last().is_some_and(|pattern| pattern.matches(last)), "the last name fits");
    }
    if let Some(name) = NameGlob::parse(pattern) {
        assert!(name.literal().is_none() == name.is_wild());
    }
}
