//! From an error to what the user sees: an exit code, the chain of causes, and a hint that says what to
//! do. The codes are a promise to scripts (`docs/guide/cp.md`).

use std::process::ExitCode;

use files::FilesError;
use link::{HostRefused, LaneKind, LinkChoice, LinkError};
use transfer::TransferError;
use transfer::host::Refusal;
use transfer::message::{RefuseCode, Stopped, Stretch};

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// All of it is done.
    Done = 0,
    /// Some files failed, or what was checked is not so.
    Partial = 1,
    /// The command cannot work as it was given.
    Usage = 2,
    /// A key or a permission is in the way.
    Refused = 3,
    /// The link did not come, or did not come back.
    Link = 4,
    /// The disk is full or failing.
    Disk = 5,
    /// The user ended it.
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// An error that a command words itself.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    code: Code,
    text: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure with these words.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), hint: None }
    }

    /// The same, with what to do about it.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// An error of another crate, with a hint that only the command can give.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Hinted {
    /// What went wrong.
    pub error: anyhow::Error,
    /// What to do about it.
    pub hint: String,
}

/// What the user sees of an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How the program ends.
    pub code: Code,
    /// The error and its causes, the outermost first.
    pub causes: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Report {
    /// Prints it; with `json` also as an event on standard output.
    pub fn print(&self, json: bool) {
        use std::io::Write;
        let mut text = format!("haul: {}\n", self.causes.join(": "));
        if let Some(hint) = &self.hint {
            text.push_str("hint: ");
            text.push_str(&hint.replace('\n', "\n      "));
            text.push('\n');
        }
        // Where standard error is gone there is nobody to tell.
        let _ = std::io::stderr().write_all(text.as_bytes());
        if json {
            crate::render::print_json(&crate::render::json::failed(self));
        }
    }

    /// The whole error in one line.
    pub fn line(&self) -> String {
        self.causes.join(": ")
    }
}

/// Maps an error to what the user sees.
///
/// The first cause that means something decides, seen from outside.
pub fn explain(error: &anyhow::Error) -> Report {
    if let Some(hinted) = error.chain().find_map(|cause| cause.downcast_ref::<Hinted>()) {
        let inner = explain(&hinted.error);
        return Report { hint: Some(hinted.hint.clone()), ..inner };
    }
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Some errors repeat their source in their own words.
        if !causes.iter().any(|known| known.contains(&text)) {
            causes.push(text);
        }
    }
    let (code, hint) = error.chain().find_map(judge).unwrap_or((Code::Partial, None));
    Report { code, causes, hint }
}

/// What to do about a file that failed, if its reason speaks of the disk: full, over quota, read-only
/// or failing. Of an error at the far end only words are left, so the system's number in them tells.
pub fn disk_hint(reason: &str) -> Option<&'static str> {
    use rustix::io::Errno;
    let full = "the disk is full: make room, then run the same command again";
    let hints = [
        (Errno::NOSPC, full),
        (Errno::DQUOT, full),
        (
            Errno::ROFS,
            "the filesystem is mounted read-only: choose another target, or mount it anew",
        ),
        (Errno::IO, "the disk fails: look into the system's log before you rely on it"),
    ];
    let names = |error: &Errno| reason.contains(&format!("(os error {})", error.raw_os_error()));
    hints.iter().find(|(error, _)| names(error)).map(|(_, hint)| *hint)
}

/// What one cause means, if it is of a kind that means something.
fn judge(cause: &(dyn std::error::Error + 'static)) -> Option<(Code, Option<String>)> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return Some((failure.code, failure.hint.clone()));
    }
    if let Some(error) = cause.downcast_ref::<TransferError>() {
        return of_transfer(error);
    }
    if let Some(error) = cause.downcast_ref::<LinkError>() {
        return Some(of_link(error));
    }
    if let Some(error) = cause.downcast_ref::<FilesError>() {
        return Some(of_files(error));
    }
    if let Some(refusal) = cause.downcast_ref::<Refusal>() {
        // It is this machine's own, so a hint at another one would lead astray.
        let hint = (refusal.code == RefuseCode::NotFound)
            .then(|| "make the folder first, or name one that exists".to_owned());
        return Some((of_refusal(refusal.code).0, hint));
    }
    if let Some(error) = cause.downcast_ref::<std::io::Error>() {
        return Some(of_io(error));
    }
    None
}

fn of_transfer(error: &TransferError) -> Option<(Code, Option<String>)> {
    let hint = |text: &str| Some(text.to_owned());
    Some(match error {
        // Their sources say more.
        TransferError::Link(_) | TransferError::Files(_) => return None,
        // It is this machine's own, and shown in its place.
        TransferError::Here(refusal) => (of_refusal(refusal.code).0, None),
        TransferError::GaveUp { .. } => (
            Code::Link,
            hint(
                "what has arrived is kept: run the same command again when the link is back, or \
                 allow more time with --give-up-after",
            ),
        ),
        TransferError::Stalled { .. } | TransferError::Abandoned { .. } => {
            (Code::Link, hint("what has arrived is kept: run the same command again to go on"))
        }
        // The guard of --delete-extra says itself what to do.
        TransferError::Refused { code: RefuseCode::Denied, text, .. }
            if !text.contains("--delete-extra") =>
        {
            (
                Code::Refused,
                hint(
                    "whoever runs that machine decides: its exports may be read-only, and \
                     `haul key list` shows there what this key may do",
                ),
            )
        }
        TransferError::Refused { code, .. } => of_refusal(*code),
        TransferError::Elsewhere { source_host, target_host, stopped } => {
            return Some(of_third(source_host.address(), target_host, stopped));
        }
        TransferError::Violation { .. } | TransferError::Unreadable { .. } => {
            (Code::Link, hint("install the same version of haul on both sides"))
        }
        TransferError::BadReceipt { .. } => {
            (Code::Partial, hint("do not rely on this copy: run the same command again"))
        }
        TransferError::Unfit { .. } => (Code::Refused, None),
        TransferError::Cancelled => (Code::Interrupted, None),
    })
}

/// A copy between two other machines.
fn of_third(source: &str, target: &str, stopped: &Stopped) -> (Code, Option<String>) {
    let (code, hint) = of_refusal(stopped.code);
    match stopped.at {
        Stretch::Unreached => (
            Code::Link,
            Some(format!(
                "{source} has to reach {target} by that name and port, and find the machine there that this one \
                 finds; where it cannot, --via-me carries the bytes through this machine"
            )),
        ),
        Stretch::LinkLost => (
            Code::Link,
            Some("what has arrived is kept: run the same command again to go on".to_owned()),
        ),
        Stretch::Source | Stretch::Target => (code, hint),
    }
}

fn of_refusal(code: RefuseCode) -> (Code, Option<String>) {
    let hint = |text: &str| Some(text.to_owned());
    match code {
        RefuseCode::Denied => (Code::Refused, None),
        RefuseCode::NotFound => (
            Code::Usage,
            hint("`haul ls HOST` shows what a machine exports; folders are not made on the way"),
        ),
        RefuseCode::NotAFolder | RefuseCode::Exists => (Code::Usage, None),
        RefuseCode::Disk => {
            (Code::Disk, hint("make room or mend the disk there, then run the same command again"))
        }
        RefuseCode::Busy | RefuseCode::UnknownTransfer | RefuseCode::Cancelled => {
            (Code::Link, hint("run the same command again in a while"))
        }
        RefuseCode::Version | RefuseCode::Protocol => {
            (Code::Link, hint("install the same version of haul on both sides"))
        }
        RefuseCode::Corrupt => (Code::Partial, hint("run the same command again")),
        RefuseCode::UnknownGrant => (Code::Link, hint("run the same command again")),
        RefuseCode::TooMuch => (Code::Refused, None),
    }
}

/// What to look at where a host did not answer over the kinds of link that were tried; none for other errors.
pub fn unanswered_hint(error: &LinkError, choice: LinkChoice) -> Option<String> {
    let (LinkError::NoAnswer { peer, .. }
    | LinkError::NobodyServes { peer, .. }
    | LinkError::Unreachable { peer, .. }) = error
    else {
        return None;
    };
    let (protocols, otherwise) = match choice {
        LinkChoice::Auto | LinkChoice::PreferQuic => ("UDP or TCP", ""),
        LinkChoice::Only(LaneKind::Quic) => {
            ("UDP", "\nWhere that is blocked, --link auto finds another way")
        }
        LinkChoice::Only(LaneKind::Tcp | LaneKind::Pipe) => {
            ("TCP", "\nWhere that is blocked, --link auto finds another way")
        }
    };
    let address = peer.address();
    Some(format!(
        "is `haul serve` running there, and does every firewall on the way let {protocols} through to \
         {address}?{otherwise}"
    ))
}

fn of_link(error: &LinkError) -> (Code, Option<String>) {
    let code = match error {
        LinkError::HostKey { .. } | LinkError::Refused { .. } => Code::Refused,
        LinkError::Socket { .. } => Code::Usage,
        _ => Code::Link,
    };
    let hint = match error {
        LinkError::NoAnswer { .. }
        | LinkError::NobodyServes { .. }
        | LinkError::Unreachable { .. } => unanswered_hint(error, LinkChoice::Auto),
        LinkError::Socket { source, local, .. }
            if source.kind() == std::io::ErrorKind::AddrInUse =>
        {
            Some(format!(
                "another program has port {} (UDP or TCP); stop it, or choose another port with --listen",
                local.port()
            ))
        }
        LinkError::HostKey { refused: HostRefused::Other { .. }, .. } => None,
        error => error.hint(),
    };
    (code, hint)
}

fn of_files(error: &FilesError) -> (Code, Option<String>) {
    let hint = |text: &str| Some(text.to_owned());
    if error.is_disk_full() {
        return (
            Code::Disk,
            hint("make room, then run the same command again: what has arrived is kept"),
        );
    }
    if error.is_read_only() {
        return (Code::Disk, hint("the filesystem is mounted read-only"));
    }
    if error.is_permission_denied() {
        return (Code::Refused, hint("check who owns the file and the folders above it"));
    }
    if error.is_not_found()
        || error.is_not_a_directory()
        || matches!(error, FilesError::NotAFile { .. })
    {
        return (Code::Usage, hint("check how the path is spelled"));
    }
    (Code::Disk, None)
}

fn of_io(error: &std::io::Error) -> (Code, Option<String>) {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::PermissionDenied => (Code::Refused, None),
        ErrorKind::NotFound => (Code::Usage, None),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (Code::Disk, Some("make room".to_owned()))
        }
        _ => (Code::Disk, None),
    }
}

#[cfg(test)]
mod tests;
