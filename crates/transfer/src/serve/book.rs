//! The grants of a daemon as its tasks share them: the table with a clock and chance, and the mark of a
//! transfer that runs under one. A grant is over when the last hold on its transfer is gone.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use link::{Permissions, PublicKey};

use crate::chance::chance;
use crate::grant::{Granter, Grants, Terms};
use crate::host::Refusal;
use crate::message::{Order, RefuseCode};

/// Time since any fixed moment.
type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The grants of a daemon. Clones are handles to the same.
#[derive(Clone)]
pub struct GrantBook {
    grants: Arc<Mutex<Grants>>,
    clock: Clock,
}

impl Default for GrantBook {
    fn default() -> Self {
        let began = Instant::now();
        Self::with_clock(Arc::new(move || began.elapsed()))
    }
}

impl GrantBook {
    /// A book that has the time from this clock.
    pub fn with_clock(clock: Clock) -> Self {
        Self { grants: Arc::default(), clock }
    }

    fn lock(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose grants this key may still use, or uses: it is to be let in as long as one of them may write.
    pub fn granters_of(&self, key: &PublicKey) -> Vec<Granter> {
        self.lock().granters_of(key, (self.clock)())
    }

    /// Gives a grant, for the time that is wanted or less.
    pub(super) fn give(
        &self,
        terms: Terms,
        wanted: Duration,
    ) -> Result<([u8; 32], Duration), Refusal> {
        let id = chance().map_err(|error| {
            let text = format!("the system has no randomness to give: {error}");
            Refusal { code: RefuseCode::Busy, text }
        })?;
        let time = self.lock().give(id, terms, wanted, (self.clock)())?;
        Ok((id, time))
    }

    /// Uses a grant for a transfer that begins.
    pub(super) fn take(
        &self,
        id: [u8; 32],
        key: &PublicKey,
        order: &Order,
    ) -> Result<Under, Refusal> {
        let terms = self.lock().take(&id, key, order, (self.clock)())?;
        Ok(Under { book: self.clone(), id, terms, allowed: None })
    }
}

/// A grant that is in use, until this is dropped.
pub(super) struct Under {
    book: GrantBook,
    id: [u8; 32],
    terms: Terms,
    /// What the one who gave it could do when it was used.
    allowed: Option<Permissions>,
}

impl Under {
    pub(super) fn allow(&mut self, allowed: Permissions) {
        self.allowed = Some(allowed);
    }

    pub(super) fn allowed(&self) -> Option<&Permissions> {
        self.allowed.as_ref()
    }

    pub(super) fn id(&self) -> &[u8; 32] {
        &self.id
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.book.lock().end(&self.id);
    }
}

impl fmt::Debug for Under {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Under").field("terms", &self.terms).finish_non_exhaustive()
    }
}
