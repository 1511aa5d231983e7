//! The inboxes in the daemon's configuration (`docs/formats/config.md`). Pure, as the rest of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use inbox::{
    Budgets, Duplicates, HookAction, HookCommand, HookOptions, HookValue, InboxOptions,
    InboxesOptions, SameName, Webhook,
};
use serde::Deserialize;

use crate::units;

/// A number of bytes such as `"2TB"`.
struct Bytes(u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        units::parse_bytes(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A time such as `"7d"`.
struct Time(Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        units::parse_duration(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// One `[[inbox]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    name: String,
    path: PathBuf,
    schema: Option<PathBuf>,
    max_metadata: Option<Bytes>,
    max_dataset: Option<Bytes>,
    max_files: Option<u64>,
    duplicates: Option<DuplicatesWord>,
    same_name: Option<SameNameWord>,
    expire: Option<Time>,
    #[serde(default)]
    hook: Vec<HookEntry>,
    offer_hook: Option<HookEntry>,
}

/// One `[[inbox.hook]]`, or the `[inbox.offer_hook]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HookEntry {
    name: String,
    command: Option<Vec<String>>,
    url: Option<String>,
    timeout: Option<Time>,
    tries: Option<u32>,
    #[serde(default)]
    expiring: bool,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    env_files: BTreeMap<String, PathBuf>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    header_files: BTreeMap<String, PathBuf>,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum DuplicatesWord {
    Keep,
    Refuse,
    Link,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum SameNameWord {
    Keep,
    Refuse,
}

/// The table `[inboxes]`: what all of them share.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Shared {
    active: Option<usize>,
    small_active: Option<usize>,
    small: Option<Bytes>,
    waiting: Option<usize>,
    waiting_per_client: Option<usize>,
    unfinished: Option<usize>,
    unfinished_per_client: Option<usize>,
    keep_free: Option<Bytes>,
    keep_place: Option<Time>,
    idle: Option<Time>,
}

/// The table `[dync]`: a door for clients of dync.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DyncEntry {
    listen: Option<String>,
    inbox: Option<String>,
}

/// Where clients of dync are listened to, and into which inbox they hand in of whom nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DyncConfig {
    /// Where.
    pub listen: SocketAddr,
    /// Which inbox.
    pub inbox: Option<String>,
}

/// The door for clients of dync, if there is to be one.
pub(super) fn dync(
    entry: Option<DyncEntry>,
    inboxes: &InboxesOptions,
) -> Result<Option<DyncConfig>> {
    let Some(DyncEntry { listen, inbox }) = entry else { return Ok(None) };
    let listen = listen.unwrap_or_else(|| "[::]:8889".to_owned());
    let listen = listen.parse().with_context(|| {
        format!("listen of [dync], {}, is not ADDRESS:PORT", files::escape(listen.as_bytes()))
    })?;
    let only = match inboxes.inboxes.as_slice() {
        [only] => Some(only.name.clone()),
        _ => None,
    };
    match &inbox {
        Some(inbox) if !inboxes.inboxes.iter().any(|known| known.name == *inbox) => {
            bail!("[dync] names an inbox that there is not: {}", files::escape(inbox.as_bytes()))
        }
        _ => Ok(Some(DyncConfig { listen, inbox: inbox.or(only) })),
    }
}

/// Inboxes whose paths are below `base` where they are relative.
pub(super) fn read(entries: Vec<Entry>, shared: Shared, base: &Path) -> Result<InboxesOptions> {
    let mut inboxes: Vec<InboxOptions> = Vec::new();
    for entry in entries {
        let inbox = inbox(entry, base)?;
        for (at, hook) in inbox.hooks.iter().enumerate() {
            if inbox.hooks[..at].iter().any(|other| other.name == hook.name) {
                bail!("two hooks of inbox {} are called {}", inbox.name, hook.name);
            }
        }
        if inboxes.iter().any(|other| other.name == inbox.name) {
            bail!("two inboxes are called {}", inbox.name);
        }
        inboxes.push(inbox);
    }
    Ok(InboxesOptions { inboxes, budgets: budgets(shared)? })
}

fn hook(entry: HookEntry, base: &Path) -> Result<HookOptions> {
    let name = entry.name.clone();
    let values = |plain: BTreeMap<String, String>, files: BTreeMap<String, PathBuf>| {
        let plain = plain.into_iter().map(|(name, value)| (name, HookValue::Plain(value)));
        let files = files.into_iter().map(|(name, path)| (name, HookValue::File(base.join(path))));
        plain.chain(files).collect::<Vec<_>>()
    };
    let environment = values(entry.env, entry.env_files);
    let headers = values(entry.headers, entry.header_files);
    let (token, authorities) = (entry.token_file, entry.ca_file);
    let of_web = !headers.is_empty() || token.is_some() || authorities.is_some();
    let action = match (entry.command, entry.url) {
        (Some(_), None) if of_web => {
            bail!("hook {name} is a command, and has what only a url has")
        }
        (None, Some(_)) if !environment.is_empty() => {
            bail!("hook {name} is a url, and has what only a command has")
        }
        (Some(arguments), None) => HookAction::Command(HookCommand { arguments, environment }),
        (None, Some(address)) => HookAction::Webhook(Webhook {
            address,
            headers,
            token: token.map(|path| base.join(path)),
            authorities: authorities.map(|path| base.join(path)),
        }),
        _ => bail!("hook {name} has either a command or a url"),
    };
    let defaults = HookOptions::new(name, action);
    let hook = HookOptions {
        timeout: entry.timeout.map_or(defaults.timeout, |time| time.0),
        tries: entry.tries.unwrap_or(defaults.tries),
        expiring: entry.expiring,
        ..defaults
    };
    ::inbox::hooks::check(&hook)?;
    Ok(hook)
}

fn inbox(entry: Entry, base: &Path) -> Result<InboxOptions> {
    let Entry { name, path, schema, hook: hooks, offer_hook, .. } = entry;
    if !link::is_inbox_name(&name) {
        let shown = files::escape(name.as_bytes());
        bail!("'{shown}' is no name of an inbox: it has 1 to 64 small letters, digits, - and _");
    }
    let defaults = InboxOptions::new(name, base.join(path));
    let checked = |number: Option<u64>, otherwise: u64, key: &str| match number {
        Some(0) => bail!("{key} of the inbox {} is zero, which would take nothing", defaults.name),
        number => Ok(number.unwrap_or(otherwise)),
    };
    let max_metadata_bytes = entry.max_metadata.map(|bytes| bytes.0);
    let max_metadata_bytes =
        checked(max_metadata_bytes, defaults.max_metadata_bytes, "max_metadata")?;
    if max_metadata_bytes > MOST_METADATA {
        bail!("max_metadata is more than {}", units::bytes(MOST_METADATA));
    }
    Ok(InboxOptions {
        schema: schema.map(|schema| base.join(schema)),
        max_metadata_bytes,
        max_dataset_bytes: entry.max_dataset.map(|bytes| bytes.0),
        max_files: checked(entry.max_files, defaults.max_files, "max_files")?,
        duplicates: match entry.duplicates {
            None | Some(DuplicatesWord::Keep) => Duplicates::Keep,
            Some(DuplicatesWord::Refuse) => Duplicates::Refuse,
            Some(DuplicatesWord::Link) => Duplicates::Link,
        },
        same_name: match entry.same_name {
            None | Some(SameNameWord::Keep) => SameName::Keep,
            Some(SameNameWord::Refuse) => SameName::Refuse,
        },
        expire: entry.expire.map_or(defaults.expire, |time| time.0),
        hooks: hooks.into_iter().map(|entry| hook(entry, base)).collect::<Result<_>>()?,
        offer_hook: offer_hook.map(|entry| hook(entry, base)).transpose()?,
        ..defaults
    })
}

/// Metadata are held in memory for each client that offers.
const MOST_METADATA: u64 = 16 << 20;

fn budgets(shared: Shared) -> Result<Budgets> {
    let defaults = Budgets::default();
    let bytes = |bytes: Option<Bytes>, otherwise| bytes.map_or(otherwise, |bytes| bytes.0);
    let time = |time: Option<Time>, otherwise| time.map_or(otherwise, |time| time.0);
    let budgets = Budgets {
        active: shared.active.unwrap_or(defaults.active),
        small_active: shared.small_active.unwrap_or(defaults.small_active),
        small_bytes: bytes(shared.small, defaults.small_bytes),
        waiting: shared.waiting.unwrap_or(defaults.waiting),
        waiting_per_client: shared.waiting_per_client.unwrap_or(defaults.waiting_per_client),
        unfinished: shared.unfinished.unwrap_or(defaults.unfinished),
        unfinished_per_client: shared
            .unfinished_per_client
            .unwrap_or(defaults.unfinished_per_client),
        keep_free_bytes: bytes(shared.keep_free, defaults.keep_free_bytes),
        keep_place: time(shared.keep_place, defaults.keep_place),
        idle: time(shared.idle, defaults.idle),
    };
    let numbers = [
        budgets.active,
        budgets.waiting,
        budgets.waiting_per_client,
        budgets.unfinished,
        budgets.unfinished_per_client,
    ];
    if numbers.contains(&0) {
        return Err(anyhow::anyhow!("a number of uploads is zero, which would take nothing"))
            .context("the table [inboxes]");
    }
    Ok(budgets)
}
