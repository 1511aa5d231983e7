//! Which files are still being written, as far as that can be told from outside: those that changed a
//! moment ago, and those that bear a name that programs give to unfinished ones. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use files::{Kind, Timestamp};

use crate::filter::Rule;
use crate::stamp::Stamp;

/// Ends of names, after which a program renames the file once it is whole.
const ENDINGS: [&str; 8] =
    ["*.part", "*.partial", "*.tmp", "*.crdownload", "*.dlm", "*.ut", "*.!ut", "*.swp"];
/// Locks and drafts of office programs.
const BEGINNINGS: [&str; 2] = ["~$*", ".~lock.*"];

/// Rules that leave out files whose names say that they are unfinished; folders of such names are kept.
/// They belong behind the user's own rules, which may then keep some of them.
///
/// Where rsync writes `.NAME.XXXXXX`, those six letters and digits are required to hold a capital or a
/// digit, which all but one in two hundred of its names do: `.profile.backup` is somebody's file.
#[must_use]
pub fn unfinished_names() -> Vec<Rule> {
    let fixed = ENDINGS.iter().chain(&BEGINNINGS).map(|pattern| (*pattern).to_owned());
    let of_rsync = (0..6).map(|place| {
        let letter = |at| if at == place { "[A-Z0-9]" } else { "[a-zA-Z0-9]" };
        format!(".*.{}", (0..6).map(letter).collect::<String>())
    });
    fixed
        .chain(of_rsync)
        .flat_map(|pattern| [Rule::include(format!("{pattern}/")), Rule::exclude(pattern)])
        .collect()
}

/// When a file will have been left alone for `settle`; `None` if it has been, seen at `now`.
///
/// A time that lies further ahead than `settle` was not set by this machine's clock just now, so it says
/// nothing about who is writing. Folders and links are never half written.
pub(crate) fn settles_at(stamp: &Stamp, settle: Duration, now: Timestamp) -> Option<Timestamp> {
    if stamp.kind != Kind::File || settle.is_zero() {
        return None;
    }
    let young = |time: &Timestamp| *time > minus(now, settle) && *time < plus(now, settle);
    let last = [stamp.mtime, stamp.ctime].into_iter().filter(young).max()?;
    Some(plus(last, settle))
}

/// The moment as the system's type; one that it cannot hold is the beginning of 1970.
pub(crate) fn system_time(time: Timestamp) -> SystemTime {
    let nanos = Duration::from_nanos(time.nanos.into());
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let second = match time.seconds < 0 {
        true => UNIX_EPOCH.checked_sub(whole),
        false => UNIX_EPOCH.checked_add(whole),
    };
    second.and_then(|second| second.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

/// A moment later by `by`.
pub(crate) fn plus(time: Timestamp, by: Duration) -> Timestamp {
    let nanos = time.nanos.saturating_add(by.subsec_nanos());
    let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    let carried = i64::from(nanos / 1_000_000_000);
    Timestamp {
        seconds: time.seconds.saturating_add(seconds).saturating_add(carried),
        nanos: nanos % 1_000_000_000,
    }
}

fn minus(time: Timestamp, by: Duration) -> Timestamp {
    let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    let (nanos, borrowed) = match time.nanos.checked_sub(by.subsec_nanos()) {
        Some(nanos) => (nanos, 0),
        None => ((time.nanos + 1_000_000_000).saturating_sub(by.subsec_nanos()), 1),
    };
    Timestamp { seconds: time.seconds.saturating_sub(seconds).saturating_sub(borrowed), nanos }
}

#[cfg(test)]
mod tests;
