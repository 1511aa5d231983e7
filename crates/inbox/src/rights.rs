//! Whether a client may hand something in, and whether a disk has room for what was declared. Pure: what is used and
//! what is free is counted by others.

use std::collections::BTreeMap;

use events::units;
use link::{InboxRights, Inboxes};
use thiserror::Error;

/// What a client has here already, over all inboxes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of content that were published.
    pub bytes: u64,
    /// Datasets that were published.
    pub datasets: u64,
    /// Bytes that were declared for uploads that were taken in and are not published yet.
    pub incoming_bytes: u64,
    /// How many such uploads there are.
    pub incoming_datasets: u64,
}

/// Why a client may not hand something in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotAllowed {
    /// It has no right to this inbox.
    #[error("this key may not hand in to inbox {inbox}{}", others(.may))]
    Inbox {
        /// The inbox.
        inbox: String,
        /// Into which it may.
        may: Vec<String>,
    },
    /// It would have too many bytes.
    #[error(
        "this dataset has {}, but of this key's quota of {} only {} are left{}",
        units::bytes(*.declared), units::bytes(*.quota), units::bytes(*.left),
        on_their_way(&units::bytes(*.incoming), *.incoming)
    )]
    Bytes {
        /// What it wants to hand in.
        declared: u64,
        /// What it may have in all.
        quota: u64,
        /// What is left of that.
        left: u64,
        /// What is counted as used because it is on its way.
        incoming: u64,
    },
    /// It would have too many datasets.
    #[error("this key may have {quota} datasets here and has as many{}", on_their_way(&.incoming.to_string(), *.incoming))]
    Datasets {
        /// How many it may have.
        quota: u64,
        /// How many of those are on their way.
        incoming: u64,
    },
}

fn others(may: &[String]) -> String {
    match may {
        [] => String::new(),
        [one] => format!("; it may to {one}"),
        _ => format!("; it may to {}", may.join(", ")),
    }
}

fn on_their_way(shown: &str, incoming: u64) -> String {
    match incoming {
        0 => String::new(),
        _ => format!(", with {shown} on their way"),
    }
}

/// Whether one more dataset of so many bytes may be handed in to this inbox.
pub fn check(
    rights: &InboxRights,
    inbox: &str,
    declared: u64,
    usage: Usage,
) -> Result<(), NotAllowed> {
    if !rights.inboxes.hold(inbox) {
        let may = match &rights.inboxes {
            Inboxes::Named(names) => names.clone(),
            Inboxes::None | Inboxes::All => Vec::new(),
        };
        return Err(NotAllowed::Inbox { inbox: inbox.to_owned(), may });
    }
    if let Some(quota) = rights.quota_bytes {
        let used = usage.bytes.saturating_add(usage.incoming_bytes);
        let left = quota.saturating_sub(used);
        if declared > left || used > quota {
            let incoming = usage.incoming_bytes;
            return Err(NotAllowed::Bytes { declared, quota, left, incoming });
        }
    }
    if let Some(quota) = rights.quota_datasets
        && usage.datasets.saturating_add(usage.incoming_datasets) >= quota
    {
        return Err(NotAllowed::Datasets { quota, incoming: usage.incoming_datasets });
    }
    Ok(())
}

/// What was declared for uploads and has not arrived yet, by the disks on which it will: room that the disk still
/// shows as free. `K` names an upload.
#[derive(Debug, Clone)]
pub struct Reserve<K> {
    uploads: BTreeMap<K, Share>,
    disks: BTreeMap<usize, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Share {
    disk: usize,
    declared: u64,
    left: u64,
}

impl<K> Default for Reserve<K> {
    fn default() -> Self {
        Self { uploads: BTreeMap::new(), disks: BTreeMap::new() }
    }
}

impl<K: Ord> Reserve<K> {
    /// Bytes that are held on a disk.
    pub fn held(&self, disk: usize) -> u64 {
        self.disks.get(&disk).copied().unwrap_or(0)
    }

    /// Bytes that are held for an upload.
    pub fn left(&self, upload: &K) -> u64 {
        self.uploads.get(upload).map_or(0, |share| share.left)
    }

    /// Whether so many bytes more fit on a disk that has `free_bytes`, of which `keep_free` stay so whatever comes.
    pub fn fits(&self, disk: usize, free_bytes: u64, keep_free: u64, declared: u64) -> bool {
        let taken =
            self.held(disk).checked_add(keep_free).and_then(|sum| sum.checked_add(declared));
        taken.is_some_and(|taken| taken <= free_bytes)
    }

    /// Holds room for an upload. What was held for it before is let go. False, and nothing held, if the sum would
    /// be beyond what can be counted.
    pub fn hold(&mut self, upload: K, disk: usize, declared: u64) -> bool {
        self.release(&upload);
        let Some(sum) = self.held(disk).checked_add(declared) else { return false };
        self.disks.insert(disk, sum);
        self.uploads.insert(upload, Share { disk, declared, left: declared });
        true
    }

    /// Of an upload so many bytes are on the disk now, in all.
    pub fn stored(&mut self, upload: &K, bytes: u64) {
        let Some(share) = self.uploads.get_mut(upload) else { return };
        let left = share.declared.saturating_sub(bytes);
        let sum = self.disks.entry(share.disk).or_default();
        *sum = sum.saturating_sub(share.left).saturating_add(left);
        share.left = left;
    }

    /// Nothing more comes of an upload.
    pub fn release(&mut self, upload: &K) {
        let Some(share) = self.uploads.remove(upload) else { return };
        let sum = self.disks.entry(share.disk).or_default();
        *sum = sum.saturating_sub(share.left);
        if *sum == 0 {
            self.disks.remove(&share.disk);
        }
    }
}

#[cfg(test)]
mod tests;
