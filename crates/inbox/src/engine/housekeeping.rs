//! What is done without anybody asking: bringing the roots into order at the start, and ending uploads whose client does
//! not come back.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use files::Dir;

use super::hooked::{address_of, dataset_of, who_of};
use super::upload::{Known, is_open};
use super::{Inboxes, OpenError, aside};
use crate::audit::{AuditEvent, Dataset, Who};
use crate::catalogue::DatasetRow;
use crate::reconcile::{Reconciled, reconcile};
use crate::store::{Root, StoreError};

/// How often it is looked for uploads that have expired, at most and at least; between them, some times while one is kept.
const EXPIRE_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// How often it is looked how full the disks are.
const DISKS_EVERY: Duration = Duration::from_secs(10);
/// How long before its end an upload is told of.
const WARN_BEFORE: Duration = Duration::from_secs(24 * 3600);

/// The number of the root that is at this path, if it is open.
pub(super) fn find_root(roots: &[Root], path: &Path) -> Result<Option<usize>, StoreError> {
    // One that is not there yet is nobody's.
    let Ok(dir) = Dir::open_ambient(path) else { return Ok(None) };
    for (number, root) in roots.iter().enumerate() {
        if root.dir().is_same(&dir)? {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

impl Inboxes {
    /// After whatever ended the server before.
    pub(super) fn tidy_up(&self) -> Result<(), OpenError> {
        let inner = &*self.0;
        for (disk, root) in inner.roots.iter().enumerate() {
            let inbox = inner.doors.iter().find(|door| door.disk == disk);
            let inbox = inbox.map_or_else(String::new, |door| door.options.name.clone());
            let wrong = |source| OpenError::Root { inbox: inbox.clone(), source };
            if let Some(aside) = root.set_aside() {
                (inner.tell)(&format!(
                    "warning: the catalogue of inbox {inbox} could not be used: it is made again from what is stored, \
                     and the old one is {aside}"
                ));
            }
            let a_day_ago = jiff::Timestamp::now().as_millisecond() - 24 * 3_600_000;
            let rows = root.catalogue().after(None, 1).map_err(StoreError::from).map_err(wrong)?;
            // Where the whole catalogue is made anew, what is old has had its hooks and its line in the log.
            let is_news =
                |row: &DatasetRow| !rows.is_empty() || row.published.as_millisecond() >= a_day_ago;
            let enter =
                |transaction: &rusqlite::Transaction<'_>, row: &DatasetRow| match is_news(row) {
                    true => self.enter_hooks(disk, transaction, row),
                    false => Ok(()),
                };
            let report = reconcile(root, Some(&self.key()), enter).map_err(wrong)?;
            self.tell_of(&inbox, &report);
            let unsaid: BTreeSet<_> = report.registered.iter().chain(&report.completed).collect();
            for id in unsaid {
                let row = root.catalogue().dataset(*id).map_err(StoreError::from).map_err(wrong)?;
                // It may have been cut off between the store and the log.
                if let Some(row) = row.filter(is_news) {
                    self.audit_published(&row, None);
                }
            }
            for incoming in report.waiting {
                // Of one whose size was not told nothing else says what it takes, and it is one file.
                let arrived = match is_open(incoming.offer()) {
                    true => incoming.arrived().ok(),
                    false => None,
                };
                let known = Arc::new(Known::new(incoming.offer().clone(), incoming, arrived));
                let mut uploads = self.uploads();
                uploads.reserve.hold(known.key.clone(), disk, known.offer.bytes);
                uploads.known.insert(known.key.clone(), known);
            }
        }
        Ok(())
    }

    fn tell_of(&self, inbox: &str, report: &Reconciled) {
        let tell = |text: String| (self.0.tell)(&format!("inbox {inbox}: {text}"));
        for id in &report.registered {
            tell(format!("dataset {id} was published and is in the catalogue now"));
        }
        for id in &report.found_again {
            tell(format!("dataset {id} was missing and is there again"));
        }
        for id in &report.missing {
            tell(format!("warning: the folder of dataset {id} is not there"));
        }
        for (place, reason) in &report.unclear {
            tell(format!("warning: {place} is left as it is: {reason}"));
        }
        if report.more_unclear > 0 {
            tell(format!("warning: {} more such", report.more_unclear));
        }
        let (removed, waiting) = (report.removed.len(), report.waiting.len());
        if removed > 0 {
            tell(format!("{removed} leftovers of uploads were removed"));
        }
        if waiting > 0 {
            tell(format!("{waiting} uploads wait for their clients"));
        }
    }

    /// Ends what has expired and watches the disks, for as long as it is polled.
    pub(super) async fn keep_house(&self) {
        let inboxes = self.clone();
        aside(move || inboxes.measure_kept());
        let kept = self.list().map(|inbox| inbox.expire / 8).min().unwrap_or(EXPIRE_EVERY.1);
        let every = kept.clamp(EXPIRE_EVERY.0, EXPIRE_EVERY.1);
        let expire = self.each(every, |inboxes| inboxes.expire(SystemTime::now()));
        tokio::join!(expire, self.each(DISKS_EVERY, Self::look_at_disks));
    }

    /// Does something again and again, on threads that may block.
    async fn each(&self, period: Duration, work: fn(&Self)) {
        let mut every = tokio::time::interval(period);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            let inboxes = self.clone();
            // What it could not do it does the next time.
            let _ = tokio::task::spawn_blocking(move || work(&inboxes)).await;
        }
    }

    /// Ends uploads that nobody has been at for as long as their inbox allows, and tells of those that end soon.
    pub(super) fn expire(&self, now: SystemTime) {
        let known: Vec<Arc<Known>> = self.uploads().known.values().cloned().collect();
        for known in known {
            if known.is_carried() {
                continue;
            }
            let door = self.0.doors.iter().find(|door| door.options.name == known.offer.inbox);
            // An inbox that is not served any more expires as they do by default.
            let expire =
                door.map_or(Duration::from_secs(7 * 24 * 3600), |door| door.options.expire);
            // While the server was away nobody could come back.
            let up = now.duration_since(self.0.started).unwrap_or_default();
            let Some(idle) = idle(&known, now) else { continue };
            let grace = WARN_BEFORE.min(expire / 2);
            let what = format!(
                "dataset {} ({}) of {}",
                known.offer.id,
                files::escape(known.offer.name.as_bytes()),
                files::escape(known.offer.label.as_bytes())
            );
            if idle >= expire && up >= grace {
                // Somebody is at it after all.
                let Some(alone) = known.alone_now() else { continue };
                let (who, dataset) = (who_of(&known.offer), dataset_of(&known.offer));
                self.audit(&AuditEvent::Expired { who, dataset });
                match self.forget(&known, &alone, "its client did not come back in time") {
                    Ok(()) => {
                        (self.0.tell)(&format!("{what} has expired: what had arrived is gone"))
                    }
                    Err(refusal) => (self.0.tell)(&format!("{what} has expired: {refusal}")),
                }
            } else if idle + grace >= expire && known.is_first_warning() {
                let left = expire.saturating_sub(idle).max(grace.saturating_sub(up));
                if let Some(door) = door {
                    let at = jiff::Timestamp::try_from(now + left).unwrap_or_default();
                    self.warn_hooks(door, &known.offer, at);
                }
                let hours = left.as_secs().div_ceil(3600);
                (self.0.tell)(&format!(
                    "warning: {what} will expire in {hours} hours unless its client comes back"
                ));
            }
        }
    }

    fn audit_published(&self, row: &DatasetRow, address: Option<std::net::SocketAddr>) {
        let who = Who { key: &row.client, label: &row.label, address };
        let DatasetRow { id, inbox, name, files, bytes, .. } = row;
        let dataset = Dataset { id: id.as_str(), inbox, name, files: *files, bytes: *bytes };
        self.audit(&AuditEvent::Published { who, dataset });
    }

    /// Nothing more is to come of an upload that was published; its leftovers go.
    pub(super) fn is_published(&self, known: &Arc<Known>, row: &DatasetRow) {
        self.0.turns.ended(&known.key);
        let mut uploads = self.uploads();
        uploads.reserve.release(&known.key);
        uploads.known.remove(&known.key);
        drop(uploads);
        self.audit_published(row, address_of(&known.offer));
        if let Some(door) = self.0.doors.iter().find(|door| door.options.name == row.inbox) {
            self.ring(door.disk);
        }
        (self.0.tell)(&format!(
            "published dataset {} ({}) of {} in inbox {}: {} files, {} bytes",
            row.id,
            files::escape(row.name.as_bytes()),
            files::escape(row.label.as_bytes()),
            row.inbox,
            row.files,
            row.bytes
        ));
        let left = known.incoming.clone();
        // What cannot be removed now is at the next start. Nobody waits for it.
        aside(move || drop(left.remove()));
    }
}

/// For how long nobody has been at an upload.
fn idle(known: &Known, now: SystemTime) -> Option<Duration> {
    now.duration_since(known.incoming.touched().ok()?).ok()
}
