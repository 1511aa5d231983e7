//! Transfers of a daemon by peer and id. A transfer is owned by whoever holds its guard: the lane that it
//! runs on, or nobody while it waits for its dialler to come back. What waits for too long is dropped,
//! and so is the oldest that waits when a peer has too many.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use link::PublicKey;
use tokio::sync::{Mutex as Baton, Notify, OwnedMutexGuard};
use tokio::time::timeout;

use super::book::Under;
use super::{superseded, unknown_transfer};
use crate::host::Refusal;
use crate::message::RefuseCode;
use crate::receive::Receiver;
use crate::send::Sender;

/// How long a transfer waits for its dialler.
pub const KEEP: Duration = Duration::from_secs(600);
/// Transfers that one peer may have here, running or waiting.
const PER_PEER: usize = 16;
/// Transfers of all peers.
const IN_ALL: usize = 512;
/// A transfer that has waited for this long when its peer begins another one is dropped: who can begin
/// one could have come back.
const COME_BACK: Duration = Duration::from_secs(10);
/// The part of a transfer's id that is the same for every run of the same copy.
const JOB: usize = 8;
/// How long a lane that is taken over has to let go.
const LET_GO: Duration = Duration::from_secs(10);

/// A transfer that lives longer than a lane.
pub(super) enum Kept {
    Receive(Box<Receiver>),
    Send(Box<Sender>),
}

impl Kept {
    /// Begins nothing more, and waits until it has let go of the disk, for as long as that may reasonably take.
    pub(super) async fn settle(&mut self) {
        if let Self::Receive(receiver) = self {
            // A disk that hangs must not keep another run from saying so itself.
            let _ = timeout(LET_GO, receiver.settle()).await;
        }
    }

    /// The lane was taken away in the middle.
    pub(super) fn link_lost(&mut self) {
        match self {
            Self::Receive(receiver) => receiver.link_lost(),
            Self::Send(sender) => sender.link_lost(),
        }
    }
}

pub(super) struct Slot {
    kept: Arc<Baton<Kept>>,
    take_over: Notify,
    superseded: AtomicBool,
    parked: Mutex<Option<Instant>>,
    /// The grant that it runs under, which is over when this is dropped.
    under: Option<Under>,
}

impl Slot {
    /// The grant that it runs under, if it does.
    pub(super) fn under(&self) -> Option<&Under> {
        self.under.as_ref()
    }

    /// Waits until the transfer is wanted on another lane.
    pub(super) async fn taken_over(&self) {
        self.take_over.notified().await;
    }

    /// Whether it was another run of the same copy that wants it to end.
    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Acquire)
    }

    /// For how long nobody has had it, if nobody has it or is about to.
    fn parked_for(self: &Arc<Self>) -> Option<Duration> {
        let parked = *self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        // The registry has one; whoever else has one may be taking it up just now.
        parked.filter(|_| Arc::strong_count(self) == 1).map(|since| since.elapsed())
    }
}

type Key = (PublicKey, [u8; 16]);

/// A transfer in the hands of a lane. However it is let go of, it waits for its dialler from then on, if it was not
/// removed.
pub(super) struct Held {
    /// There until it is let go of, which is before anybody else may have the transfer.
    kept: Option<OwnedMutexGuard<Kept>>,
    slot: Arc<Slot>,
    /// It runs on a lane, and does not know yet that this has ended.
    is_linked: bool,
}

impl Held {
    fn new(slot: Arc<Slot>, kept: OwnedMutexGuard<Kept>) -> Self {
        Self { kept: Some(kept), slot, is_linked: false }
    }

    /// It runs on a lane from now on. Until this is told to have ended, the lane counts as lost when it is let go of.
    pub(super) fn is_linked(&mut self, is_linked: bool) {
        self.is_linked = is_linked;
    }

    pub(super) fn slot(&self) -> Arc<Slot> {
        self.slot.clone()
    }

    /// It is over: waits until nothing of it is at the disk any more. Until then it is known, so that another run of the
    /// same copy waits for it.
    pub(super) async fn end(mut self, registry: &Registry, peer: &PublicKey, id: &[u8; 16]) {
        self.settle().await;
        registry.remove(peer, id, &self.slot);
    }
}

impl Deref for Held {
    type Target = Kept;

    fn deref(&self) -> &Kept {
        self.kept.as_deref().expect("it is let go of when this ends")
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Kept {
        self.kept.as_deref_mut().expect("it is let go of when this ends")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // What a fault of ours left in the middle is not gone through again.
        if self.is_linked && !std::thread::panicking() {
            self.link_lost();
        }
        // In this order: whoever waits for it clears the time when it has it.
        *self.slot.parked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.kept = None;
    }
}

/// Earlier runs of a copy that has been started again.
pub(super) struct Superseded(Vec<Arc<Baton<Kept>>>);

impl Superseded {
    /// Waits until they have let go of the disk, for as long as that may reasonably take.
    pub(super) async fn settle(self) {
        for kept in self.0 {
            if let Ok(mut kept) = timeout(LET_GO, kept.lock_owned()).await {
                kept.settle().await;
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Registry(Mutex<HashMap<Key, Arc<Slot>>>);

impl Registry {
    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what has waited for so long.
    pub(super) fn sweep(&self, keep: Duration) {
        let is_over = |slot: &Arc<Slot>| slot.parked_for().is_some_and(|waited| waited >= keep);
        let over = self.slots().extract_if(|_, slot| is_over(slot)).map(|(_, slot)| slot).collect();
        let_go(over);
    }

    /// Takes this transfer out, and no other that has come by the same name.
    fn remove(&self, peer: &PublicKey, id: &[u8; 16], slot: &Arc<Slot>) {
        let mut slots = self.slots();
        if slots.get(&(*peer, *id)).is_some_and(|there| Arc::ptr_eq(there, slot)) {
            slots.remove(&(*peer, *id));
        }
    }

    /// Takes in a new transfer, which the caller runs at once.
    pub(super) fn add(
        &self,
        peer: &PublicKey,
        id: &[u8; 16],
        kept: Kept,
        under: Option<Under>,
    ) -> Result<(Held, Superseded), Refusal> {
        let mut gone = Vec::new();
        let mut slots = self.slots();
        let mut superseded = Vec::new();
        let old = slots.extract_if(|(owner, other), slot| {
            // Somebody has started the same copy again: the earlier run was killed, or is to end now,
            // for they would be in each other's way.
            let same = owner == peer && other[..JOB] == id[..JOB];
            if same {
                slot.superseded.store(true, Ordering::Release);
                slot.take_over.notify_one();
                superseded.push(slot.kept.clone());
            }
            same || (owner == peer && slot.parked_for().is_some_and(|waited| waited > COME_BACK))
        });
        gone.extend(old.map(|(_, slot)| slot));
        let of_peer = slots.keys().filter(|(owner, _)| owner == peer).count();
        if of_peer >= PER_PEER || slots.len() >= IN_ALL {
            let oldest = slots
                .iter()
                .filter(|((owner, _), _)| of_peer < PER_PEER || owner == peer)
                .filter_map(|(key, slot)| Some((slot.parked_for()?, *key)))
                .max();
            let Some((_, key)) = oldest else {
                drop(slots);
                let_go(gone);
                let text = "too many transfers are running here: try again later".to_owned();
                return Err(Refusal { code: RefuseCode::Busy, text });
            };
            gone.extend(slots.remove(&key));
        }
        let kept = Arc::new(Baton::new(kept));
        let guard = kept.clone().try_lock_owned().expect("nobody else knows of it yet");
        let slot = Arc::new(Slot {
            kept,
            take_over: Notify::new(),
            superseded: AtomicBool::new(false),
            parked: Mutex::new(None),
            under,
        });
        slots.insert((*peer, *id), slot.clone());
        drop(slots);
        let_go(gone);
        Ok((Held::new(slot, guard), Superseded(superseded)))
    }

    /// Gives a transfer to a new lane, taking it from the old one if that has not noticed its end yet. It must
    /// be asked for by the grant that it was begun under.
    pub(super) async fn resume(
        &self,
        peer: &PublicKey,
        id: &[u8; 16],
        grant: Option<&[u8; 32]>,
    ) -> Result<Held, Refusal> {
        let slot = self.slots().get(&(*peer, *id)).cloned();
        let slot = slot.filter(|slot| slot.under().map(Under::id) == grant);
        let slot = slot.ok_or_else(unknown_transfer)?;
        let kept = slot.kept.clone();
        let guard = match kept.clone().try_lock_owned() {
            Ok(guard) => guard,
            Err(_) => {
                slot.take_over.notify_one();
                timeout(LET_GO, kept.lock_owned()).await.map_err(|_| {
                    let text = "the transfer is still busy with its last connection".to_owned();
                    Refusal { code: RefuseCode::Busy, text }
                })?
            }
        };
        *slot.parked.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // The old lane may have let go by itself; then the call to do so must not reach the new one.
        let _ = timeout(Duration::ZERO, slot.take_over.notified()).await;
        // It may have ended or been superseded while it was waited for. If that comes now, it calls again.
        let is_there =
            self.slots().get(&(*peer, *id)).is_some_and(|there| Arc::ptr_eq(there, &slot));
        if slot.is_superseded() {
            return Err(superseded());
        }
        if !is_there {
            return Err(unknown_transfer());
        }
        Ok(Held::new(slot, guard))
    }
}

/// Drops transfers, which let go of what they hold at the disk. Nobody waits for that.
fn let_go(gone: Vec<Arc<Slot>>) {
    if !gone.is_empty() {
        drop(tokio::task::spawn_blocking(move || drop(gone)));
    }
}
