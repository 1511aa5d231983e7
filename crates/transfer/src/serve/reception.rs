//! Offers of datasets, as the daemon that has inboxes sees them: it reads the metadata, lets the policy judge, keeps
//! whoever waits informed, and carries out the transfer of whose turn it is (`docs/formats/inbox.md`).

use std::time::Duration;

use link::Lane;
use tokio::sync::watch::{self, error::RecvError};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep, timeout};

use super::{Put, Refused, Running, Server, blocking};
use crate::host::{Landing, Refusal};
use crate::message::inbox::{fitting, parts};
use crate::message::{Offer, Opening, Order, RefuseCode, Waiting};
use crate::reception::{Begun, Offered, Place, Reception, Turn, Turned};
use crate::session::{self, Control};
use crate::{TransferError, Violation};

/// How often whoever waits hears of it, also when nothing changes.
const TELL: Duration = Duration::from_secs(10);
/// How long changes of a place are gathered.
const SETTLE: Duration = Duration::from_millis(300);
/// How long one part of a text, or the word that follows an admission, may take to come.
const DEADLINE: Duration = Duration::from_secs(60);

impl Server {
    fn receives(&self) -> Result<std::sync::Arc<dyn Reception>, Refusal> {
        let text = "this daemon has no inboxes";
        self.reception
            .clone()
            .ok_or_else(|| Refusal { code: RefuseCode::NotFound, text: text.to_owned() })
    }

    /// What an inbox wants of metadata.
    pub(super) async fn tell_schema(
        &self,
        lane: &Lane,
        control: &mut Control,
        inbox: String,
    ) -> Result<Option<Running>, Refused> {
        let (reception, asking) = (self.receives()?, lane.clone());
        let schema = blocking(move || reception.schema(&asking, &inbox)).await?;
        say_all(control, &parts(&schema)).await?;
        Ok(None)
    }

    /// A dataset is offered. The transfer that follows, if it comes to that.
    pub(super) async fn take_offer(
        &self,
        lane: &Lane,
        control: &mut Control,
        offer: Offer,
    ) -> Result<Option<Running>, Refused> {
        let reception = self.receives()?;
        let most = reception.most_metadata();
        if offer.metadata_len > most {
            let len = offer.metadata_len;
            let text = format!("the metadata have {len} bytes; {most} are taken at most");
            return Err(Refusal { code: RefuseCode::TooMuch, text }.into());
        }
        let metadata = read_text(lane, control, offer.metadata_len as usize).await?;
        let (asking, check) = (lane.clone(), offer.check);
        let judged = tokio::task::spawn_blocking(move || match check {
            true => reception.check(&asking, &offer, &metadata).map(Err),
            false => reception.offer(&asking, offer, metadata).map(Ok),
        });
        let reason = "the inbox is judging the offer";
        match meanwhile(lane, control, judged, reason).await?.map_err(|_| broken())? {
            Ok(Err(notes)) => {
                say_all(control, &[Opening::Fits { notes }]).await?;
                Ok(None)
            }
            Ok(Ok(Offered::Finished { dataset, receipt })) => {
                say_all(control, &[Opening::Finished { dataset }]).await?;
                say_all(control, &parts(&receipt)).await?;
                Ok(None)
            }
            Ok(Ok(Offered::Queued(place))) => self.take_in(lane, control, place).await,
            Err(Turned::Refused(refusal)) => Err(refusal.into()),
            Err(Turned::Unfit { faults, more }) => {
                let all = faults.len() as u64;
                let faults = fitting(faults);
                let more = more + all - faults.len() as u64;
                say_all(control, &[Opening::Unfit { faults, more }]).await?;
                Ok(None)
            }
        }
    }

    async fn take_in(
        &self,
        lane: &Lane,
        control: &mut Control,
        place: Box<dyn Place>,
    ) -> Result<Option<Running>, Refused> {
        let place = wait(lane, control, place).await?;
        // Where much has arrived already it is looked at, which may take a while.
        let beginning = tokio::task::spawn_blocking(move || place.begin());
        let reason = "the inbox is looking at what has arrived";
        let begun = meanwhile(lane, control, beginning, reason).await?.map_err(|_| broken())?;
        let Begun { dataset, notes, landing } = begun?;
        say_all(control, &[Opening::Admitted { dataset, notes }]).await?;
        match session::read(lane, &mut control.1, DEADLINE).await? {
            Opening::Put { id, resume: false, order, .. } => {
                let order = order_into(&landing, order);
                let put = Put { id, resume: None, order, grant: None, landing: Some(landing) };
                self.put(lane, control, put).await
            }
            other => Err(session::unexpected(lane, other).into()),
        }
    }
}

fn broken() -> Refusal {
    Refusal { code: RefuseCode::Disk, text: "internal error".to_owned() }
}

/// Waits for what an upload has to wait for before it has a place or begins, and says so if that takes long.
async fn meanwhile<T>(
    lane: &Lane,
    control: &mut Control,
    mut working: JoinHandle<T>,
    reason: &str,
) -> Result<Result<T, JoinError>, TransferError> {
    loop {
        tokio::select! {
            worked = &mut working => return Ok(worked),
            () = sleep(TELL) => {}
        }
        let reason = reason.to_owned();
        tell(lane, control, Waiting { position: 0, length: 0, seconds: None, reason }).await?;
    }
}

/// Tells how it stands. Who does not read is not waited for: its place is kept.
async fn tell(lane: &Lane, control: &mut Control, waiting: Waiting) -> Result<(), TransferError> {
    let message = Opening::Waiting(waiting);
    let said = timeout(DEADLINE, say_all(control, &[message])).await;
    said.map_err(|_| TransferError::Stalled {
        peer: lane.peer_name().clone(),
        seconds: DEADLINE.as_secs(),
    })?
}

/// Tells how it stands until it is its turn.
async fn wait(
    lane: &Lane,
    control: &mut Control,
    place: Box<dyn Place>,
) -> Result<Box<dyn Place>, Refused> {
    let mut turns = place.turns();
    loop {
        let turn = turns.borrow_and_update().clone();
        match turn {
            Turn::Admitted => return Ok(place),
            Turn::Refused(refusal) => return Err(refusal.into()),
            Turn::Waits(waiting) => tell(lane, control, waiting).await?,
        }
        tokio::select! {
            () = sleep(TELL) => {}
            // Places change often in a long queue; what is told is how it stands, not each step to it.
            changed = settled(&mut turns) => if changed.is_err() {
                let text = "this upload has ended meanwhile, or the daemon is being stopped: offer it again".to_owned();
                return Err(Refusal { code: RefuseCode::Busy, text }.into());
            },
            // It has nothing to say until it is its turn.
            frame = control.1.recv(crate::message::MAX_MESSAGE) => return Err(match frame {
                Ok(Some(_)) => spoke_early(lane),
                Ok(None) => TransferError::Abandoned { peer: lane.peer_name().clone() },
                Err(error) => error.into(),
            }.into()),
            error = lane.closed() => return Err(TransferError::Link(error).into()),
        }
    }
}

/// Waits until something has changed: at once when it is their turn, and otherwise for a moment longer.
async fn settled(turns: &mut watch::Receiver<Turn>) -> Result<(), RecvError> {
    turns.changed().await?;
    if !matches!(&*turns.borrow(), Turn::Waits(_)) {
        return Ok(());
    }
    tokio::select! {
        turned = turns.wait_for(|turn| !matches!(turn, Turn::Waits(_))) => turned.map(drop),
        () = sleep(SETTLE) => Ok(()),
    }
}

fn spoke_early(lane: &Lane) -> TransferError {
    let violation = Violation("nothing is said while an offer waits");
    TransferError::Violation { peer: lane.peer_name().clone(), violation }
}

/// What an order means here: the client says how it sends, the inbox where it goes and how.
fn order_into(landing: &Landing, order: Order) -> Order {
    let Order { contents, compression, rules, .. } = order;
    let named = landing.rename_top.is_some();
    Order {
        into_folder: true,
        contents,
        durable: true,
        compression,
        named,
        rules,
        ..Order::default()
    }
}

/// Reads a text of which so many bytes were announced.
async fn read_text(
    lane: &Lane,
    control: &mut Control,
    len: usize,
) -> Result<Vec<u8>, TransferError> {
    let mut text = Vec::new();
    loop {
        match session::read(lane, &mut control.1, DEADLINE).await? {
            Opening::Part { last, bytes } if text.len() + bytes.len() <= len => {
                text.extend_from_slice(&bytes);
                if last && text.len() == len {
                    return Ok(text);
                }
                if last {
                    break;
                }
            }
            Opening::Part { .. } => break,
            other => return Err(session::unexpected(lane, other)),
        }
    }
    let violation = Violation("a text of another length than was announced");
    Err(TransferError::Violation { peer: lane.peer_name().clone(), violation })
}

async fn say_all(control: &mut Control, messages: &[Opening]) -> Result<(), TransferError> {
    for message in messages {
        control.0.send(&message.encode()).await?;
    }
    Ok(())
}
