//! Whom the engine tells: hooks that are to run, hooks that judge offers, the audit log.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use events::Sink;
use rusqlite::Transaction;
use tokio::runtime::Handle;
use transfer::host::Refusal;
use transfer::message::{Offer, RefuseCode};
use transfer::reception::Turned;

use super::door::Door;
use super::{Inboxes, Tell};
use crate::audit::{Audit, AuditEvent, Dataset, Who};
use crate::catalogue::DatasetRow;
use crate::catalogue::outbox::{self, HookEvent, Telling};
use crate::hooks::object::{self, Expiring};
use crate::hooks::{Asker, Bell, Hooks, HooksOptions, Refused, Surroundings};
use crate::store::{OfferRecord, Root};
use crate::{Client, HookOptions};

/// Offers that hooks judge at once.
const ASKED_AT_ONCE: usize = 8;

/// Who is told what the inboxes of a server do.
#[derive(Clone)]
pub struct Told {
    /// The operator.
    pub tell: Tell,
    /// Where decisions are written down, if anywhere.
    pub audit: Option<Arc<Audit>>,
    /// Whoever follows hooks that fail.
    pub sink: Sink,
    /// What programs that are run find in their environment.
    pub surroundings: Surroundings,
}

impl Told {
    /// Nobody but this.
    pub fn only(tell: Tell) -> Self {
        let (audit, sink) = (None, Sink::default());
        Self { tell, audit, sink, surroundings: Surroundings::default() }
    }
}

/// What hooks need of the engine.
pub(super) struct Hooked {
    pub(super) told: Told,
    asker: Asker,
    /// One for each root.
    bells: Vec<Bell>,
}

impl Hooked {
    pub(super) fn new(told: Told, roots: usize) -> Self {
        let asker = Asker::new(ASKED_AT_ONCE, told.surroundings.clone());
        Self { told, asker, bells: (0..roots).map(|_| Bell::default()).collect() }
    }
}

impl Inboxes {
    /// Runs what stands in the outboxes, for as long as it is polled.
    pub(super) async fn run_hooks(&self) {
        let mut running = Vec::new();
        for (disk, root) in self.0.roots.iter().enumerate() {
            let of_root = self.0.doors.iter().filter(|door| door.disk == disk);
            let hooks = of_root.map(|door| (door.options.name.clone(), door.options.hooks.clone()));
            let told = &self.0.hooked.told;
            let options = HooksOptions {
                hooks: hooks.collect(),
                surroundings: told.surroundings.clone(),
                sink: told.sink.clone(),
                bell: self.0.hooked.bells[disk].clone(),
                ..HooksOptions::default()
            };
            match Hooks::start(Arc::new(root.clone()), options).await {
                Ok(hooks) => running.push(hooks),
                Err(error) => (told.tell)(&format!("warning: no hooks are run: {error}")),
            }
        }
        // They end when these are dropped.
        std::future::pending::<()>().await;
        drop(running);
    }

    /// Enters the hooks of a dataset that is published in the transaction that enters its row.
    pub(super) fn enter_hooks(
        &self,
        disk: usize,
        transaction: &Transaction<'_>,
        row: &DatasetRow,
    ) -> rusqlite::Result<()> {
        let door = self.0.doors.iter().find(|door| door.options.name == row.inbox);
        let Some(door) = door.filter(|door| !door.options.hooks.is_empty()) else { return Ok(()) };
        let path = folder_of(&self.0.roots[disk], row);
        // Without it there is nothing to tell hooks of, and then it is not entered either: it is tried again.
        let text = self.0.roots[disk].metadata_of(row);
        let text =
            text.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let Some(body) = object::published(&text, &path) else { return Ok(()) };
        let telling = Telling {
            dataset: row.id.as_str(),
            event: HookEvent::Published,
            inbox: &row.inbox,
            path: Some(&path),
            body: &body,
        };
        let names = door.options.hooks.iter().map(|hook| hook.name.as_str());
        outbox::add(transaction, &telling, names, jiff::Timestamp::now().as_millisecond())
    }

    /// Has hooks looked for that are due.
    pub(super) fn ring(&self, disk: usize) {
        self.0.hooked.bells.iter().skip(disk).take(1).for_each(Bell::ring);
    }

    /// Tells hooks that want to know of an upload that will be removed soon.
    pub(super) fn warn_hooks(&self, door: &Door, offer: &OfferRecord, at: jiff::Timestamp) {
        let wants = |hook: &&HookOptions| hook.expiring;
        let names: Vec<&str> =
            door.options.hooks.iter().filter(wants).map(|hook| hook.name.as_str()).collect();
        if names.is_empty() {
            return;
        }
        let client = client_of(offer);
        let expiring = Expiring {
            id: offer.id.as_str(),
            inbox: &offer.inbox,
            name: &offer.name,
            client: &client,
            files: offer.files,
            bytes: offer.bytes,
            at,
        };
        let body = object::expiring(&expiring);
        let telling = Telling {
            dataset: offer.id.as_str(),
            event: HookEvent::Expiring,
            inbox: &offer.inbox,
            path: None,
            body: &body,
        };
        let now = jiff::Timestamp::now().as_millisecond();
        let entered = door.root.catalogue().change(|tx| outbox::add(tx, &telling, names, now));
        match entered {
            Ok(()) => self.ring(door.disk),
            Err(error) => {
                (self.0.hooked.told.tell)(&format!("warning: hooks were not told: {error}"))
            }
        }
    }

    /// Asks the hook that judges offers, if the inbox has one. It is called on threads that may block.
    pub(super) fn ask_hook(
        &self,
        door: &Door,
        client: &Client,
        offer: &Offer,
        metadata: &str,
    ) -> Result<(), Turned> {
        let Some(hook) = &door.options.offer_hook else { return Ok(()) };
        let object = object::offer(client, &door.options.name, offer, metadata);
        let unable = "the inbox cannot judge offers now; try again later";
        let Ok(runtime) = Handle::try_current() else {
            return Err(Refusal { code: RefuseCode::Busy, text: unable.to_owned() }.into());
        };
        let asked = self.0.hooked.asker.ask(hook, &door.options.name, &object);
        match runtime.block_on(asked) {
            Ok(()) => Ok(()),
            Err(Refused::No { reason }) => {
                Err(Refusal { code: RefuseCode::Denied, text: reason }.into())
            }
            Err(error @ Refused::Unable { .. }) => {
                if let Refused::Unable { detail } = &error {
                    (self.0.hooked.told.tell)(&format!("warning: {detail}"));
                }
                Err(Refusal { code: RefuseCode::Busy, text: error.to_string() }.into())
            }
        }
    }

    /// Writes a decision down. What cannot be written is told, and stops nothing here: data that is safe is not given
    /// up for a line in a log.
    pub(super) fn audit(&self, event: &AuditEvent<'_>) {
        if let Some(audit) = &self.0.hooked.told.audit
            && let Err(error) = audit.record(event)
        {
            (self.0.hooked.told.tell)(&format!("warning: {error}"));
        }
    }

    /// Writes down that an offer was refused.
    pub(super) fn audit_refusal(&self, client: &Client, offer: &Offer, turned: &Turned) {
        let (code, reason) = match turned {
            Turned::Refused(refusal) => (format!("{:?}", refusal.code), refusal.text.clone()),
            Turned::Unfit { faults, more } => {
                let first = faults.first().map(|fault| format!("{}: {}", fault.path, fault.reason));
                let count = faults.len() as u64 + more;
                ("Unfit".to_owned(), format!("{count} faults: {}", first.unwrap_or_default()))
            }
        };
        self.audit(&AuditEvent::OfferRefused {
            who: Who { key: &client.id, label: &client.label, address: client.address },
            inbox: &offer.inbox,
            name: &offer.name,
            code: &code,
            reason: &reason,
        });
    }
}

/// The folder of a dataset, as programs find it.
fn folder_of(root: &Root, row: &DatasetRow) -> PathBuf {
    let path: &Path = root.dir().path();
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    whole.join(&row.path)
}

/// Who made an offer, as far as the record says.
fn client_of(offer: &OfferRecord) -> Client {
    Client {
        id: offer.client.clone(),
        label: offer.label.clone(),
        address: address_of(offer),
        rights: link::InboxRights::default(),
        max_rate_bytes_per_s: None,
    }
}

/// How an upload that was taken in is named in the audit log.
pub(super) fn dataset_of(offer: &OfferRecord) -> Dataset<'_> {
    let OfferRecord { id, inbox, name, files, bytes, .. } = offer;
    Dataset { id: id.as_str(), inbox, name, files: *files, bytes: *bytes }
}

/// Whose it is, in the audit log.
pub(super) fn who_of(offer: &OfferRecord) -> Who<'_> {
    Who { key: &offer.client, label: &offer.label, address: address_of(offer) }
}

pub(super) fn address_of(offer: &OfferRecord) -> Option<std::net::SocketAddr> {
    offer.address.as_ref()?.parse().ok()
}
