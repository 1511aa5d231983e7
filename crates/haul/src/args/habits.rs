//! Options that people know from scp and rsync and that `haul cp` does not have: what to write in their place.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// An option, and what a user of it is told.
const KNOWN: [(&[&str], &str); 8] = [
    (
        &["-a", "--archive"],
        "leave it out: folders, times, permissions and links are always kept; --owner, --xattrs and --setid keep more",
    ),
    (
        &["-P"],
        "leave it out: what has arrived is always kept, and progress is always shown; a port stands behind the host, as in \
         HOST:4285:PATH",
    ),
    (&["--partial"], "leave it out: what has arrived is always kept and used again"),
    (&["--progress"], "leave it out: progress is always shown, and -v names each file"),
    (
        &["--bwlimit"],
        "--limit RATE, in bytes per second: --bwlimit=1000, which is KiB/s, is --limit 1000KiB",
    ),
    (&["-l"], "--limit RATE, in bytes per second: scp's -l 8000, which is kbit/s, is --limit 1MB"),
    (
        &["--delete", "--delete-after", "--delete-before", "--delete-during"],
        "--delete-extra removes from the target's folders what the source does not have",
    ),
    (
        &["-e", "--rsh", "-i", "-o"],
        "haul does not go by ssh: both machines know each other by keys of their own, see `haul key --help`",
    ),
];

/// The same error, with what to write in place of an option that is known from elsewhere.
pub fn explain(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return error };
    let option = word.split('=').next().unwrap_or(word);
    let known = KNOWN.iter().find(|(options, _)| options.contains(&option));
    if let Some((_, advice)) = known {
        let advice = ContextValue::StyledStrs(vec![(*advice).into()]);
        // What the parser itself would suggest is an option of a similar name.
        error.remove(ContextKind::SuggestedArg);
        error.insert(ContextKind::Suggested, advice);
    }
    error
}
