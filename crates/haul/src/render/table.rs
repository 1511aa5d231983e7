//! Listings and receipts as text in columns. Pure; whatever came from elsewhere is escaped.

use jiff::Timestamp;
use transfer::message::Listed;
use transfer::receipt::Statement;

use crate::units;

/// A folder, short: one name per line, folders with a slash behind.
pub fn names(entries: &[Listed]) -> String {
    entries.iter().map(|entry| format!("{}{}\n", entry.name, mark(entry.kind))).collect()
}

/// A folder with kind, permissions, size and time.
pub fn long(entries: &[Listed]) -> String {
    let sizes: Vec<String> = entries.iter().map(|entry| units::bytes(entry.size)).collect();
    let wide = sizes.iter().map(String::len).max().unwrap_or(0);
    let line = |(entry, size): (&Listed, &String)| {
        let size = if entry.kind == b'f' { size.as_str() } else { "-" };
        format!(
            "{:<7} {} {size:>wide$}  {}  {}{}\n",
            kind_word(entry.kind),
            permissions(entry.mode),
            time(entry.mtime.seconds),
            entry.name,
            mark(entry.kind)
        )
    };
    entries.iter().zip(&sizes).map(line).collect()
}

/// What a receipt says, in words.
pub fn receipt(statement: &Statement) -> String {
    let t = &statement.totals;
    let roots = match (statement.roots.as_slice(), statement.root_count) {
        ([], _) => "the contents of a folder".to_owned(),
        (roots, count) if count > roots.len() as u64 => {
            format!("{} and {} more", safe(roots).join(", "), count - roots.len() as u64)
        }
        (roots, _) => safe(roots).join(", "),
    };
    let rows = [
        ("what", roots),
        ("to", safe_text(&statement.path)),
        ("from key", statement.source.fingerprint()),
        ("signed by", statement.target.fingerprint()),
        ("began", time(i64::try_from(statement.began).unwrap_or(i64::MAX))),
        ("ended", time(i64::try_from(statement.ended).unwrap_or(i64::MAX))),
        ("copied", format!("{}, {}", units::count(t.copied, "file"), units::bytes(t.bytes_copied))),
        ("unchanged", units::count(t.unchanged, "file")),
        (
            "also",
            format!("{}, {}", units::count(t.folders, "folder"), units::count(t.links, "link")),
        ),
        ("skipped", t.skipped.to_string()),
        ("failed", t.failed.to_string()),
        ("removed", statement.removed.to_string()),
        ("durable", if statement.durable { "yes" } else { "not asked for" }.to_owned()),
        ("content", statement.tree.content.to_string()),
        ("attributes", statement.tree.attributes.to_string()),
        ("transfer", safe_text(&statement.transfer)),
    ];
    rows.iter().map(|(name, value)| format!("{name:<11}{value}\n")).collect()
}

/// What kind an entry is, in a word.
pub fn kind_word(kind: u8) -> &'static str {
    match kind {
        b'e' => "export",
        b'd' => "folder",
        b'f' => "file",
        b'l' => "link",
        _ => "other",
    }
}

/// Seconds since 1970 as a moment in UTC.
pub fn time(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(moment) => moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("{seconds} s after 1970"),
    }
}

fn mark(kind: u8) -> &'static str {
    if matches!(kind, b'd' | b'e') { "/" } else { "" }
}

fn permissions(mode: u32) -> String {
    let letters = ['r', 'w', 'x'];
    (0..9).map(|place| if mode & 0o400 >> place != 0 { letters[place % 3] } else { '-' }).collect()
}

/// Names in receipts are escaped already, which a forger need not have done.
fn safe(names: &[String]) -> Vec<String> {
    names.iter().map(|name| safe_text(name)).collect()
}

fn safe_text(text: &str) -> String {
    // Doubling the backslashes of what is escaped already would only make it harder to read.
    files::escape(text.as_bytes()).to_string().replace("\\\\", "\\")
}
