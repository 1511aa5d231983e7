//! Options and commands that people know from scp, rsync and rclone and that haul does not have: what to write
//! in their place.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Options, and what a user of one is told.
const OPTIONS: &[(&[&str], &str)] = &[
    (
        &["-a", "--archive"],
        "leave it out: folders, times, permissions and links are always kept; --owner keeps owners, for which the \
         receiver must be root, as with rsync; --xattrs and --setid keep more",
    ),
    (
        &["-P"],
        "leave it out: what has arrived is always kept, and progress is always shown; a port stands behind the host, as in \
         HOST:4285:PATH",
    ),
    (
        &["--partial", "--partial-dir"],
        "leave it out: what has arrived is kept, in a folder .haul of the target, and used again by itself",
    ),
    (
        &["--inplace", "--append", "--append-verify", "--no-whole-file"],
        "leave it out: of a file that differs only that is sent which the target lacks, and the file gets its name when \
         all of it is verified",
    ),
    (
        &["--progress", "--info", "--stats"],
        "leave it out: progress is always shown, and -v names each file",
    ),
    (
        &["--bwlimit"],
        "--limit RATE, in bytes per second: --bwlimit=1000, which is KiB/s, is --limit 1000KiB",
    ),
    (
        &["-l"],
        "--limit RATE, in bytes per second: scp's -l 8000, which is kbit/s, is --limit 1MB; links are always kept, \
         as with rsync's -l",
    ),
    (
        &[
            "--delete",
            "--delete-after",
            "--delete-before",
            "--delete-during",
            "--delete-delay",
            "--del",
        ],
        "--delete-extra removes from the target's folders what the source does not have",
    ),
    (
        &["--delete-excluded"],
        "--delete-extra removes what the source does not have; what --exclude leaves out always stays",
    ),
    (
        &["--rsh", "-o", "-F", "-J", "-S"],
        "this is an option of ssh: --ssh 'ssh -J gate -o Name=value' has the ssh that leads to a login use it; a daemon \
         is reached without ssh",
    ),
    (
        &["-i", "--itemize-changes"],
        "-v names each file, and -n says of each why it would be copied; as scp's -i: haul has a key of its own, see \
         `haul key show`",
    ),
    (
        &["-u", "--update"],
        "haul does not compare ages: what differs is replaced; --existing skip leaves what is there, and -n shows \
         what would be replaced",
    ),
    (&["--ignore-existing"], "--existing skip"),
    (&["-b", "--backup", "--suffix"], "--existing rename keeps what is there as NAME.~1~"),
    (
        &["-I", "--ignore-times", "--size-only"],
        "--checksum compares by content what has the same size and time",
    ),
    (
        &["-t", "--times", "--perms", "--links", "-H", "--hard-links", "--sparse"],
        "leave it out: it is always kept",
    ),
    (&["-g", "--group", "--chown"], "--owner carries user and group, for a receiver that is root"),
    (&["-X"], "--xattrs"),
    (&["-A", "--acls"], "access control lists are not carried"),
    (
        &["-L", "--copy-links"],
        "a link that you name is followed, and those in folders are copied as links",
    ),
    (
        &["--exclude-from", "--include-from", "-f", "--filter"],
        "write each pattern with an --exclude or --include of its own: of these the first that matches decides",
    ),
    (&["--relative", "--no-relative"], "--files-from keeps the folders of what it lists"),
    (
        &["--timeout", "--contimeout", "--retries"],
        "--give-up-after TIME: haul connects again by itself",
    ),
    (
        &["--transfers", "--checkers", "--multi-thread-streams"],
        "leave it out: files are read, sent and written beside each other as far as it pays",
    ),
    (&["--compress-level"], "-z: the level follows the link"),
    (&["--port"], "a port stands behind the host, as in HOST:4285:PATH"),
    (
        &["--remove-source-files"],
        "haul removes nothing at a source: remove it when the receipt is there",
    ),
];

/// Commands, and what a user of one is told.
const COMMANDS: &[(&[&str], &str)] = &[
    (
        &["copy", "copyto", "scp", "rsync", "push", "pull", "get", "put", "send", "fetch"],
        "haul cp SOURCE... TARGET",
    ),
    (
        &["sync", "mirror"],
        "haul cp --delete-extra SOURCE/. TARGET makes the target the same; with -n it says what it would do",
    ),
    (
        &["check", "cryptcheck"],
        "haul cp -n --checksum SOURCE TARGET names what differs, haul cp --verify reads both sides again after a copy, \
         and `haul receipt verify` checks a copy",
    ),
    (
        &["lsd", "lsf", "lsl", "lsjson", "list", "dir"],
        "haul ls HOST:PATH, with -l or --json for more",
    ),
    (
        &["cat", "rcat"],
        "haul cp HOST:FILE - writes to standard output, and haul cp - HOST:FILE reads standard input",
    ),
    (
        &["config", "listremotes"],
        "names for machines stand in remotes.toml in the configuration folder, see the guide",
    ),
    (&["daemon", "server", "listen"], "haul serve --export FOLDER"),
    (
        &["move", "mv", "rm", "delete", "purge", "mkdir"],
        "haul copies, and changes nothing else on other machines",
    ),
    (&["about", "version"], "haul --version"),
    (&["help"], "haul --help, or haul COMMAND --help"),
];

/// The same error, with what to write in place of an option that is known from elsewhere.
pub fn explain(mut error: clap::Error) -> clap::Error {
    let (what, known, similar) = match error.kind() {
        ErrorKind::UnknownArgument => (ContextKind::InvalidArg, OPTIONS, ContextKind::SuggestedArg),
        ErrorKind::InvalidSubcommand => {
            (ContextKind::InvalidSubcommand, COMMANDS, ContextKind::SuggestedSubcommand)
        }
        _ => return error,
    };
    let Some(ContextValue::String(word)) = error.get(what) else { return error };
    let name = word.split('=').next().unwrap_or(word);
    if let Some((_, advice)) = known.iter().find(|(names, _)| names.contains(&name)) {
        let advice = ContextValue::StyledStrs(vec![(*advice).into()]);
        // What the parser itself would suggest is a word that looks similar.
        error.remove(similar);
        error.insert(ContextKind::Suggested, advice);
    }
    error
}

/// Every option that has advice.
#[cfg(test)]
pub fn options() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().flat_map(|(names, _)| names.iter().copied())
}
