//! The queue as those who wait see it: the pure machine of `admission.rs` with a clock, and a channel for each upload
//! that tells how it stands.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use transfer::host::Refusal;
use transfer::message::{RefuseCode, Waiting};
use transfer::reception::Turn;

use crate::Budgets;
use crate::admission::{Admission, Entered, NoPlace, Output, Standing, Ticket, UploadKey};

/// How long it sleeps at most: nothing depends on it.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// See the module's text.
pub(crate) struct Turns {
    began: Instant,
    state: Mutex<State>,
    /// Something may be due earlier than was thought.
    wake: Notify,
}

struct State {
    admission: Admission,
    told: BTreeMap<UploadKey, watch::Sender<Turn>>,
}

impl Turns {
    pub(crate) fn new(budgets: Budgets) -> Self {
        let state = State { admission: Admission::new(budgets), told: BTreeMap::new() };
        Self { began: Instant::now(), state: Mutex::new(state), wake: Notify::new() }
    }

    /// Somebody is there and wants a turn; how it stands from now on. [`Turns::left`] follows, or [`Turns::began`].
    pub(crate) fn enter(&self, ticket: Ticket) -> Result<watch::Receiver<Turn>, NoPlace> {
        let key = ticket.key.clone();
        self.act(|state, now| {
            let entered = state.admission.enter(now, ticket)?;
            let turn = match (entered, state.admission.standing(now, &key)) {
                (Entered::Waits, Some(standing)) => Turn::Waits(waiting(&standing)),
                (Entered::Waits, None) | (Entered::HasTurn, _) => Turn::Admitted,
            };
            let told = state.told.entry(key.clone());
            let told = told.or_insert_with(|| watch::channel(turn.clone()).0);
            told.send_if_modified(|now| std::mem::replace(now, turn.clone()) != turn);
            Ok(told.subscribe())
        })
    }

    /// A connection that waited is gone.
    pub(crate) fn left(&self, key: &UploadKey) {
        self.act(|state, now| state.admission.left(now, key));
    }

    /// The upload whose turn it is begins. False, if it is not its turn.
    pub(crate) fn began(&self, key: &UploadKey) -> bool {
        self.act(|state, now| {
            state.admission.began(key) || {
                // One that is carried already goes on with another connection.
                state.admission.came_back(now, key) == Some(Entered::HasTurn)
            }
        })
    }

    /// An upload that is carried has a connection from now on, or has lost it. Whether it may go on.
    pub(crate) fn link(&self, key: &UploadKey, up: bool) -> bool {
        self.act(|state, now| state.admission.link(now, key, up))
    }

    /// A disk has no room, or has room again. Whether that is news.
    pub(crate) fn disk_is_full(&self, disk: usize, is_full: bool) -> bool {
        self.act(|state, now| state.admission.disk_is_full(now, disk, is_full))
    }

    pub(crate) fn progress(&self, key: &UploadKey, stored: u64) {
        self.act(|state, now| state.admission.progress(now, key, stored));
    }

    pub(crate) fn ended(&self, key: &UploadKey) {
        self.act(|state, now| {
            state.admission.ended(now, key);
            state.told.remove(key);
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn act<T>(&self, act: impl FnOnce(&mut State, Duration) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state, self.began.elapsed());
        state.carry_out();
        drop(state);
        self.wake.notify_one();
        result
    }

    /// Keeps time, for as long as it is polled.
    pub(crate) async fn run(&self) {
        loop {
            let due = {
                let mut state = self.lock();
                let now = self.began.elapsed();
                state.admission.handle_timeout(now);
                for (key, standing) in state.admission.changes(now) {
                    state.tell(&key, Turn::Waits(waiting(&standing)));
                }
                state.carry_out();
                state.admission.poll_timeout()
            };
            let now = self.began.elapsed();
            let sleep = due.map_or(LONGEST_SLEEP, |due| due.saturating_sub(now).min(LONGEST_SLEEP));
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.wake.notified() => {}
            }
        }
    }
}

impl State {
    fn carry_out(&mut self) {
        while let Some(output) = self.admission.poll_output() {
            match output {
                Output::Admitted(key) => self.tell(&key, Turn::Admitted),
                Output::Dropped(key) => {
                    let text = "the place in the queue was given up: offer it again".to_owned();
                    self.tell(&key, Turn::Refused(Refusal { code: RefuseCode::Busy, text }));
                    self.told.remove(&key);
                }
            }
        }
    }

    fn tell(&self, key: &UploadKey, turn: Turn) {
        if let Some(told) = self.told.get(key) {
            told.send_if_modified(|now| std::mem::replace(now, turn.clone()) != turn);
        }
    }
}

fn waiting(standing: &Standing) -> Waiting {
    Waiting {
        position: standing.position,
        length: standing.length,
        seconds: standing.estimate.map(|estimate| estimate.as_secs()),
        reason: standing.reason.to_string(),
    }
}
