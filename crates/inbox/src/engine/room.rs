//! Room for uploads: what a client may have, what the disk holds, and what of it an upload takes that comes back.

use transfer::host::Refusal;
use transfer::message::{Offer, RefuseCode};
use transfer::reception::Turned;

use super::door::Door;
use super::upload::{Alone, Known};
use super::{Inboxes, at_catalogue, at_store, duplicate};
use crate::admission::UploadKey;
use crate::rights::{self, Usage};
use crate::{Client, Duplicates, SameName};

/// What may be there beyond what was offered without being taken for leftovers of another try: blocks that are not full,
/// maps of what has arrived.
const SLACK: u64 = 16 << 20;

impl Inboxes {
    /// Whether there is a right, a quota, a name and room for what is offered, perhaps in place of another upload, and what
    /// the client should know.
    pub(super) fn find_room(
        &self,
        door: &Door,
        client: &Client,
        offer: &Offer,
        replaced: Option<&Known>,
    ) -> Result<Vec<String>, Turned> {
        let inbox = door.options.name.as_str();
        let mut usage = self.usage(client)?;
        if let Some(replaced) = replaced {
            usage.incoming_bytes = usage.incoming_bytes.saturating_sub(replaced.bytes());
            usage.incoming_datasets = usage.incoming_datasets.saturating_sub(1);
        }
        rights::check(&client.rights, inbox, offer.bytes, usage).map_err(|error| Refusal {
            code: match error {
                rights::NotAllowed::Inbox { .. } => RefuseCode::Denied,
                _ => RefuseCode::TooMuch,
            },
            text: error.to_string(),
        })?;
        self.check_unfinished(usage.incoming_datasets, replaced.is_some())?;
        let catalogue = door.root.catalogue();
        let mut notes = Vec::new();
        if let Some(row) = catalogue.of_name(inbox, &offer.name).map_err(at_catalogue)? {
            match door.options.same_name {
                SameName::Refuse => {
                    let text = format!(
                        "inbox {inbox} has a dataset of this name already, {}, published {}",
                        row.id, row.published
                    );
                    return Err(Refusal { code: RefuseCode::Exists, text }.into());
                }
                SameName::Keep => {
                    notes.push(format!("another dataset has this name too: {}", row.id))
                }
            }
        }
        if let Some(content) = &offer.content
            && let Some(row) = catalogue.of_content(inbox, content).map_err(at_catalogue)?
        {
            match door.options.duplicates {
                Duplicates::Refuse => return Err(duplicate(inbox, &row).into()),
                Duplicates::Keep => notes.push(format!("dataset {} has the same content", row.id)),
                Duplicates::Link => {
                    notes.push(format!(
                        "dataset {} has the same content, which is kept once",
                        row.id
                    ));
                }
            }
        }
        let free = door.root.free_bytes().map_err(|error| at_store(&error))?;
        let uploads = self.uploads();
        let given_back = replaced.map_or(0, |known| uploads.reserve.left(&known.key));
        let wanted = offer.bytes.saturating_sub(given_back);
        if !uploads.reserve.fits(door.disk, free, self.0.keep_free_bytes, wanted) {
            let held = uploads.reserve.held(door.disk);
            let room = free.saturating_sub(self.0.keep_free_bytes).saturating_sub(held);
            let bytes = offer.bytes;
            let text = format!(
                "the disk of this inbox has no room for {bytes} bytes: {room} are left, beside what is kept free and \
                 what others have been promised"
            );
            return Err(Refusal { code: RefuseCode::Disk, text }.into());
        }
        Ok(notes)
    }

    /// Whether one more upload may be begun beside so many of this client that are not finished.
    fn check_unfinished(&self, of_client: u64, in_place: bool) -> Result<(), Refusal> {
        let (most_of_client, most) = self.0.most_unfinished;
        if of_client >= most_of_client as u64 {
            let text = format!(
                "{of_client} uploads of this key are not finished, which is the most: finish them first, or wait until \
                 they expire"
            );
            return Err(Refusal { code: RefuseCode::TooMuch, text });
        }
        let all = self.uploads().known.len();
        if all >= most && !in_place {
            let text =
                format!("{all} uploads are not finished here, which is the most: try again later");
            return Err(Refusal { code: RefuseCode::Busy, text });
        }
        Ok(())
    }

    /// What a client has here, over all roots.
    pub(super) fn usage(&self, client: &Client) -> Result<Usage, Refusal> {
        let mut usage = Usage::default();
        for root in &self.0.roots {
            let stored = root.catalogue().usage(&client.id).map_err(at_catalogue)?;
            usage.bytes = usage.bytes.saturating_add(stored.bytes);
            usage.datasets = usage.datasets.saturating_add(stored.datasets);
        }
        let key = |upload| UploadKey { client: client.id.as_str().into(), upload };
        let uploads = self.uploads();
        for (_, known) in uploads.known.range(key([0; 16])..=key([u8::MAX; 16])) {
            usage.incoming_bytes = usage.incoming_bytes.saturating_add(known.bytes());
            usage.incoming_datasets += 1;
        }
        Ok(usage)
    }

    /// Before an attempt at an upload begins: what is there of it, and whether there is room for the rest. More than was
    /// offered is of another try, and goes.
    pub(super) fn claim(
        &self,
        known: &Known,
        attempt: u64,
        _alone: &Alone<'_>,
    ) -> Result<(), Refusal> {
        let door = self.door_of(known)?;
        let mut there = known.measure(attempt).map_err(|error| at_store(&error))?;
        let most = known.offer.bytes.saturating_add(known.offer.bytes / 8).saturating_add(SLACK);
        if known.is_spoilt() || (there > most && !known.is_open()) {
            known.incoming.begin_anew().map_err(|error| at_store(&error))?;
            known.is_emptied();
            there = 0;
        }
        let declared = known.bytes();
        let rest = declared.saturating_sub(there);
        let fits = || -> Result<bool, Refusal> {
            let free = door.root.free_bytes().map_err(|error| at_store(&error))?;
            let mut uploads = self.uploads();
            uploads.reserve.release(&known.key);
            let fits = uploads.reserve.fits(door.disk, free, self.0.keep_free_bytes, rest);
            uploads.reserve.hold(known.key.clone(), door.disk, declared);
            uploads.reserve.stored(&known.key, there);
            Ok(fits)
        };
        // After a new start what has arrived of others may count twice until somebody has looked.
        let has_room = fits()? || {
            self.measure_kept();
            fits()?
        };
        if !has_room {
            let text = format!(
                "the disk of this inbox has no room for the {rest} bytes that are still to come; what has arrived is \
                 kept"
            );
            return Err(Refusal { code: RefuseCode::Disk, text });
        }
        Ok(())
    }

    /// Looks at what was there of uploads when the server started. It may take a while: until then all of them has its
    /// room.
    pub(super) fn measure_kept(&self) {
        let kept: Vec<_> = self.uploads().known.values().cloned().collect();
        for known in kept {
            // One that has begun meanwhile was looked at.
            let Some(there) = known.measure_if_unknown() else { continue };
            let mut uploads = self.uploads();
            if !known.is_carried() {
                uploads.reserve.stored(&known.key, there);
            }
        }
    }

    /// Tells the queue of disks that have no room for anything.
    pub(super) fn look_at_disks(&self) {
        for (disk, root) in self.0.roots.iter().enumerate() {
            // Whoever wants to write there will hear what is wrong with it.
            let Ok(free) = root.free_bytes() else { continue };
            let is_full = free <= self.0.keep_free_bytes;
            if self.0.turns.disk_is_full(disk, is_full) {
                let inboxes: Vec<&str> = self
                    .0
                    .doors
                    .iter()
                    .filter(|door| door.disk == disk)
                    .map(|door| door.options.name.as_str())
                    .collect();
                let inboxes = inboxes.join(", ");
                (self.0.tell)(&match is_full {
                    true => format!(
                        "warning: the disk of inbox {inboxes} has no room: {free} bytes are free, and {} are to stay so; \
                         nothing new is begun there",
                        self.0.keep_free_bytes
                    ),
                    false => format!("the disk of inbox {inboxes} has room again"),
                });
            }
        }
    }

    /// The inbox of an upload, if it is served still.
    pub(super) fn door_of(&self, known: &Known) -> Result<&Door, Refusal> {
        let door = self.0.doors.iter().find(|door| door.options.name == known.offer.inbox);
        door.ok_or_else(|| Refusal {
            code: RefuseCode::NotFound,
            text: "this inbox is not served any more".to_owned(),
        })
    }
}
