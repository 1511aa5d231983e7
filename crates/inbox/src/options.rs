//! What an operator says of inboxes: plain data, with the defaults that hold where nothing is said.

use std::path::PathBuf;
use std::time::Duration;

/// All inboxes of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxesOptions {
    /// Each of them; names differ.
    pub inboxes: Vec<InboxOptions>,
    /// What they share.
    pub budgets: Budgets,
}

/// One inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxOptions {
    /// What clients call it; see [`link::is_inbox_name`].
    pub name: String,
    /// Its root: where `incoming/` and `store/` are. Several inboxes may share one.
    pub path: PathBuf,
    /// The file that holds its JSON Schema. Without one any JSON object will do.
    pub schema: Option<PathBuf>,
    /// The most bytes of metadata.
    pub max_metadata_bytes: u64,
    /// The most bytes of content that one dataset may have, if limited.
    pub max_dataset_bytes: Option<u64>,
    /// The most files of one dataset.
    pub max_files: u64,
    /// What becomes of a dataset whose content is here already.
    pub duplicates: Duplicates,
    /// What becomes of a dataset whose name another one has.
    pub same_name: SameName,
    /// How long an upload whose client does not come back is kept.
    pub expire: Duration,
    /// Asked before an offer is taken in; it may say no.
    pub offer_hook: Option<HookOptions>,
    /// Run after a dataset was published, at least once each.
    pub hooks: Vec<HookOptions>,
}

impl InboxOptions {
    /// An inbox with this name and root, and the defaults for the rest.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            schema: None,
            max_metadata_bytes: 1 << 20,
            max_dataset_bytes: None,
            max_files: 1_000_000,
            duplicates: Duplicates::default(),
            same_name: SameName::default(),
            expire: Duration::from_secs(7 * 24 * 3600),
            offer_hook: None,
            hooks: Vec::new(),
        }
    }
}

/// What becomes of a dataset whose content the inbox has already, under whatever name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Duplicates {
    /// It is taken like any other.
    #[default]
    Keep,
    /// It is not taken; the client is told which dataset has it.
    Refuse,
    /// It becomes a dataset of its own whose files are hard links to those that are there.
    Link,
}

/// What becomes of a dataset whose name another one of the same inbox has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SameName {
    /// Both are kept: ids differ.
    #[default]
    Keep,
    /// It is not taken.
    Refuse,
}

/// What all inboxes of a server share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budgets {
    /// Uploads that are carried at once.
    pub active: usize,
    /// Small uploads that are carried at once beside these.
    pub small_active: usize,
    /// Up to how many bytes an upload counts as small.
    pub small_bytes: u64,
    /// Uploads of one client that may wait.
    pub waiting_per_client: usize,
    /// Uploads that may wait in all.
    pub waiting: usize,
    /// Uploads of one client that were taken in and are not published yet, waiting, under way or interrupted.
    pub unfinished_per_client: usize,
    /// The same in all.
    pub unfinished: usize,
    /// Bytes of the disk that stay free, whatever is offered.
    pub keep_free_bytes: u64,
    /// How long a place in the queue is kept for a client whose connection broke.
    pub keep_place: Duration,
    /// After what time an upload that has no connection gives its turn to others. It may go on later.
    pub idle: Duration,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            active: 8,
            small_active: 4,
            small_bytes: 64 << 20,
            waiting_per_client: 1_000,
            waiting: 10_000,
            unfinished_per_client: 2_000,
            unfinished: 20_000,
            keep_free_bytes: 1 << 30,
            keep_place: Duration::from_secs(600),
            idle: Duration::from_secs(30),
        }
    }
}

/// Something that the operator wants done. [`crate::hooks::check`] says what is wrong with one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookOptions {
    /// What it is called, in logs and lists; unique in its inbox, and written like the name of one.
    pub name: String,
    /// What is done.
    pub action: HookAction,
    /// How long it may take, all in all.
    pub timeout: Duration,
    /// After so many tries that failed it waits for somebody to look at it. An offer is asked about once.
    pub tries: u32,
    /// Whether it is also told of uploads that will soon be removed because their client does not come back.
    pub expiring: bool,
}

impl HookOptions {
    /// A hook with the defaults: a minute, and 20 tries, which take about half a day.
    pub fn new(name: impl Into<String>, action: HookAction) -> Self {
        let timeout = Duration::from_secs(60);
        Self { name: name.into(), action, timeout, tries: 20, expiring: false }
    }
}

/// What a hook does. It is given one JSON object: the dataset, or the offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookAction {
    /// A program; the object comes on its standard input.
    Command(HookCommand),
    /// An address to which the object is posted.
    Webhook(Webhook),
}

/// A program to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookCommand {
    /// The program and its arguments, which every user of the machine can see: no place for a secret.
    pub arguments: Vec<String>,
    /// What its environment has beside the little that each hook gets.
    pub environment: Vec<(String, HookValue)>,
}

/// Where to post.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Webhook {
    /// `http://` or `https://`, host, port, path. It is shown without its path, in which some services have a secret.
    pub address: String,
    /// Headers beside those that are always sent.
    pub headers: Vec<(String, HookValue)>,
    /// The file that holds a token, which is sent as `Authorization: Bearer TOKEN`.
    pub token: Option<PathBuf>,
    /// A file of certificates in PEM: who may vouch for the server, in place of those that this machine trusts.
    pub authorities: Option<PathBuf>,
}

/// A value that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookValue {
    /// No secret: it stands in the configuration.
    Plain(String),
    /// What this file holds, without the newline at its end. It is read anew each time.
    File(PathBuf),
}
