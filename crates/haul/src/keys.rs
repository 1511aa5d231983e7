//! Key lines as this machine writes and lists them: its own with a comment that says whose it is, and
//! what the lists of trusted keys hold.

use link::{PublicKey, Target};

/// Our own line for the `authorized_keys` of another machine.
pub fn own_line(key: &PublicKey) -> String {
    key.to_line(&own_comment())
}

/// `user@machine`, as ssh comments its keys.
pub fn own_comment() -> String {
    let name = rustix::system::uname();
    let machine = name.nodename().to_string_lossy().into_owned();
    match std::env::var("USER").or_else(|_| std::env::var("LOGNAME")) {
        Ok(user) => format!("{user}@{machine}"),
        Err(_) => machine,
    }
}

/// A line of `known_hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHost {
    /// Where the host was dialled.
    pub target: Target,
    /// The key that it showed.
    pub key: PublicKey,
    /// What stands behind it.
    pub comment: String,
}

/// The lines of a `known_hosts` text that are understood.
pub fn known_hosts(text: &str) -> Vec<KnownHost> {
    let entry = |line: &str| {
        let (host, rest) = line.trim_start().split_once([' ', '\t'])?;
        let target = Target::parse(host).ok()?;
        let (key, comment) = PublicKey::parse_line(rest).ok()?;
        Some(KnownHost { target, key, comment })
    };
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.filter_map(entry).collect()
}
