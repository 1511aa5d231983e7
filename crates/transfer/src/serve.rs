//! The daemon's side: answers what peers ask on their lanes, and keeps transfers that were cut until
//! their dialler comes back. What a peer can make it keep is bounded.

mod book;
mod enrol;
mod names;
mod reception;
mod registry;
mod sending;
mod third;
mod tunnel;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use events::{Counters, Event, Sink};
use link::{Lane, LinkError, Pace, close_code};
use tokio::time::timeout;

use crate::TransferError;
use crate::client::{Wanted, chain};
use crate::host::{Host, Landing, Refusal};
use crate::measure::{self, Allowances};
use crate::message::{Extent, Listed, Opening, Order, RefuseCode, pack};
use crate::receive::{ReceiveOptions, Receiver};
use crate::reception::Reception;
use crate::send::{Sender, Start};
use crate::session::{self, Control};
use crate::tell::Watch;
pub use book::GrantBook;
pub use registry::KEEP;
use registry::{Held, Kept, Registry};
pub use tunnel::OwnListener;
use turns::Turns;

/// How long the last words may take to reach a peer that is to close the lane.
const GOODBYE: Duration = Duration::from_secs(10);

/// Copies to other machines that one peer may have sent from here at once, and all together.
const SENT_BY_PEER: usize = 4;
const SENT_IN_ALL: usize = 32;

/// Tunnels to this machine that one peer may carry at once, and all together. Each may hold some 12 MiB.
const TUNNELS_OF_PEER: usize = 2;
const TUNNELS_IN_ALL: usize = 4;

/// Frames that may wait to be sent where bytes of a pipe are among them. On a slow link each of them delays the signs of
/// life of the lane that goes through the pipe.
const QUEUE: usize = 2;

/// The transfers of a daemon, across connections.
pub struct Server {
    host: Arc<dyn Host>,
    sink: Sink,
    registry: Registry,
    allowances: Allowances,
    /// What was granted here.
    book: GrantBook,
    /// Who has what sent elsewhere.
    sending: Turns,
    /// Where tunnels lead to, if there may be any.
    own: Option<OwnListener>,
    /// Who carries tunnels to this machine.
    tunnels: Turns,
    /// Its inboxes, if it has any.
    reception: Option<Arc<dyn Reception>>,
}

/// What a daemon's server is made of.
pub struct ServerOptions {
    /// Which folders, and who may what in them.
    pub host: Arc<dyn Host>,
    /// Told what happens.
    pub sink: Sink,
    /// What was granted here; whoever guards the door looks into it as well.
    pub book: GrantBook,
    /// The listener that tunnels lead to, if there may be any.
    pub own: Option<OwnListener>,
    /// Its inboxes, if it has any.
    pub reception: Option<Arc<dyn Reception>>,
}

impl Server {
    /// A daemon's server over this policy.
    pub fn new(host: Arc<dyn Host>, sink: Sink) -> Arc<Self> {
        let (book, own, reception) = (GrantBook::default(), None, None);
        Self::open(ServerOptions { host, sink, book, own, reception })
    }

    /// The same with all that it may have.
    pub fn open(options: ServerOptions) -> Arc<Self> {
        let ServerOptions { host, sink, book, own, reception } = options;
        Arc::new(Self {
            reception,
            host,
            sink,
            registry: Registry::default(),
            allowances: Allowances::default(),
            book,
            sending: Turns::new("copies to other machines", SENT_BY_PEER, SENT_IN_ALL),
            own,
            tunnels: Turns::new("tunnels", TUNNELS_OF_PEER, TUNNELS_IN_ALL),
        })
    }

    /// Lets go of transfers whose diallers have not come back for so long, which should be [`KEEP`]. To be called now and
    /// then, within a runtime.
    pub fn sweep(&self, keep: Duration) {
        self.registry.sweep(keep);
    }

    /// Serves one lane until it ends. `asked` is called when a request has come: a dialler that tries several
    /// kinds of lane asks on one of them. True if the peer has taken leave, so that it will not come back for
    /// what was going on.
    pub async fn serve(self: Arc<Self>, lane: Lane, asked: impl FnOnce() + Send) -> bool {
        let result = self.serve_request(&lane, asked).await;
        let parted = match &result {
            Ok(()) | Err(TransferError::Abandoned { .. }) => true,
            Err(TransferError::Link(LinkError::Closed { code, .. })) => {
                *code == u64::from(close_code::DONE)
            }
            Err(_) => false,
        };
        match &result {
            Ok(()) => lane.close(close_code::DONE, "done"),
            Err(error) => {
                self.sink.emit(&Event::LinkLost {
                    reason: format!("{}: {}", lane.peer_name(), chain(error)),
                });
                if matches!(error, TransferError::Here(_)) {
                    // Not to be tried again.
                    lane.close(close_code::FIRST_FREE, &chain(error));
                } else if error.fault() == files::Fault::Corrupt {
                    lane.close(close_code::PROTOCOL, &chain(error));
                } else {
                    lane.close(close_code::GOING_AWAY, &chain(error));
                }
            }
        }
        parted
    }

    async fn serve_request(
        &self,
        lane: &Lane,
        asked: impl FnOnce() + Send,
    ) -> Result<(), TransferError> {
        let (mut control, request) = match session::answer(lane).await {
            // A dialler that tries several kinds of lane leaves those that it does not take.
            Err(TransferError::Link(LinkError::Closed { code, .. }))
                if code == u64::from(close_code::DONE) =>
            {
                return Ok(());
            }
            answered => answered?,
        };
        asked();
        if let Err(refusal) = check_guest(lane, &request) {
            session::refuse(&mut control, refusal.code, refusal.text.clone()).await?;
            goodbye(lane, control).await?;
            return Err(refusal.into());
        }
        let result = match request {
            Opening::Put { id, resume, seen, order } => {
                let asked =
                    Put { id, resume: resume.then_some(seen), order, grant: None, landing: None };
                self.put(lane, &mut control, asked).await
            }
            Opening::PutGranted { grant, id, resume, seen, order } => {
                let grant = Some(grant);
                let asked = Put { id, resume: resume.then_some(seen), order, grant, landing: None };
                self.put(lane, &mut control, asked).await
            }
            Opening::Grant { to, bytes, seconds, order } => {
                self.grant(lane, &mut control, (to, bytes, seconds), order).await
            }
            Opening::Send { order, sources } => {
                match self.begin_sending(lane, &order, sources).await {
                    Ok(sending) => return sending.carry_out(lane, control, order).await,
                    Err(refusal) => Err(refusal.into()),
                }
            }
            Opening::Tunnel => match self.begin_tunnel(lane) {
                Ok(leaving) => return leaving.carry(lane, control).await,
                Err(refusal) => Err(refusal.into()),
            },
            Opening::Get { id, resume, window, pace, order, sources, extent } => {
                let only = match extent {
                    Extent::Listed | Extent::ListedWhole if !resume => {
                        names::read(lane, &mut control, extent == Extent::ListedWhole).await
                    }
                    _ => Ok(None),
                };
                match only {
                    Ok(only) => {
                        let wanted = Wanted { paths: sources, only };
                        let begins = (!resume).then_some((order, wanted));
                        self.get(lane, &mut control, id, (window, pace), begins).await
                    }
                    Err(refused) => Err(refused),
                }
            }
            Opening::Offer(offer) => self.take_offer(lane, &mut control, offer).await,
            Opening::Enrol { code, label } => self.enrol(lane, &mut control, code, label).await,
            Opening::AskSchema { inbox } => self.tell_schema(lane, &mut control, inbox).await,
            Opening::List { path } => self.list(lane, &mut control, path).await,
            Opening::Measure { up, seconds } => self.measure(lane, &mut control, up, seconds).await,
            other => return Err(session::unexpected(lane, other)),
        };
        let job = match result {
            Ok(Some(job)) => job,
            Ok(None) => return goodbye(lane, control).await,
            Err(Refused::Here(refusal)) => {
                session::refuse(&mut control, refusal.code, refusal.text.clone()).await?;
                goodbye(lane, control).await?;
                return Err(refusal.into());
            }
            Err(Refused::Lane(error)) => return Err(error),
        };
        self.run(lane, control, job).await
    }

    async fn run(&self, lane: &Lane, control: Control, job: Running) -> Result<(), TransferError> {
        let Running { id, mut held, seen, start } = job;
        let (peer, slot) = (*lane.peer(), held.slot());
        held.is_linked(true);
        let result = tokio::select! {
            result = async {
                match &mut *held {
                    Kept::Receive(receiver) => receiver.run(lane, control, seen).await,
                    Kept::Send(sender) => sender.run(lane, control, start).await.map(drop),
                }
            } => result,
            // The same transfer has come back on another lane.
            () = slot.taken_over() => Err(TransferError::Cancelled),
            refusal = self.not_granted_any_more(slot.under()) => Err(refusal.into()),
        };
        if matches!(result, Err(TransferError::Cancelled)) {
            // It was cut off in the middle.
            if slot.is_superseded() {
                return Err(superseded().into());
            }
            return result;
        }
        held.is_linked(false);
        if matches!(&result, Err(error) if error.fault() == files::Fault::Transient) {
            return result;
        }
        held.end(&self.registry, &peer, &id).await;
        result
    }

    async fn put(
        &self,
        lane: &Lane,
        control: &mut Control,
        asked: Put,
    ) -> Result<Option<Running>, Refused> {
        let Put { id, resume, order, grant, landing } = asked;
        let peer = *lane.peer();
        let mut held = match resume {
            Some(_) => {
                let held = self.registry.resume(&peer, &id, grant.as_ref()).await?;
                if let Kept::Receive(receiver) = &*held
                    && !receiver.may_go_on()
                {
                    // It begins anew, with what has arrived.
                    held.end(&self.registry, &peer, &id).await;
                    return Err(unknown_transfer().into());
                }
                held
            }
            None => {
                let under = grant.map(|grant| self.book.take(grant, &peer, &order)).transpose()?;
                let (host, asking) = (self.host.clone(), lane.clone());
                let watch = self.watch();
                let share = lane.memory_share();
                let starting = blocking(move || {
                    let (mut under, identity) = (under, host.identity());
                    let landing = match (landing, &mut under) {
                        (Some(landing), _) => landing,
                        (None, None) => host.landing(&asking, &order)?,
                        (None, Some(under)) => third::landing(&*host, under, &asking, &order)?,
                    };
                    let receiver = Receiver::start(ReceiveOptions {
                        id,
                        landing,
                        order,
                        source: peer,
                        identity,
                        share,
                        limit_bytes_per_s: None,
                        watch,
                    })?;
                    Ok((receiver, under))
                });
                let (receiver, under) = starting.await?;
                let kept = Kept::Receive(Box::new(receiver));
                let (held, superseded) = self.registry.add(&peer, &id, kept, under)?;
                superseded.settle().await;
                held
            }
        };
        let Kept::Receive(receiver) = &*held else {
            return Err(unknown_transfer().into());
        };
        let (window, named) = (receiver.window(), receiver.is_named());
        let accept = Opening::Accept { resumed: resume.is_some(), seen: 0, window, named };
        if let Err(error) = control.0.send(&accept.encode()).await {
            // It waits for its dialler, as if it had run.
            held.link_lost();
            return Err(TransferError::Link(error).into());
        }
        let start = Start::Resumed { window };
        Ok(Some(Running { id, held, seen: resume.unwrap_or(0), start }))
    }

    async fn get(
        &self,
        lane: &Lane,
        control: &mut Control,
        id: [u8; 16],
        (window, pace): (u64, Pace),
        begins: Option<(Order, Wanted)>,
    ) -> Result<Option<Running>, Refused> {
        let peer = *lane.peer();
        let resume = begins.is_none();
        // A rate is held as a limit, not kept whatever is lost: a peer may ask for less and not for more.
        let limit = match pace {
            Pace::Fair => None,
            Pace::Background => {
                lane.give_way();
                None
            }
            Pace::Fixed(rate) => Some(rate),
        };
        let held = if let Some((order, Wanted { paths, only })) = begins {
            let (host, asking) = (self.host.clone(), lane.clone());
            let wanted = order.clone();
            let sources = blocking(move || host.sources(&asking, &paths, &wanted)).await?;
            let sources = names::listed(sources, only)?;
            let sender = Sender::start(sources, order, limit, self.watch());
            self.registry.add(&peer, &id, Kept::Send(Box::new(sender)), None)?.0
        } else {
            self.registry.resume(&peer, &id, None).await?
        };
        let Kept::Send(sender) = &*held else {
            return Err(unknown_transfer().into());
        };
        let accept = Opening::Accept { resumed: resume, seen: sender.seen(), window, named: false };
        control.0.send(&accept.encode()).await.map_err(TransferError::Link)?;
        let start = match resume {
            true => Start::Resumed { window },
            false => Start::Ahead { window: Some(window) },
        };
        Ok(Some(Running { id, held, seen: 0, start }))
    }

    async fn list(
        &self,
        lane: &Lane,
        control: &mut Control,
        path: Vec<u8>,
    ) -> Result<Option<Running>, Refused> {
        let (host, asking) = (self.host.clone(), lane.clone());
        let entries = blocking(move || host.list(&asking, &path)).await?;
        let mut pieces = pack(entries, Listed::encoded_len);
        if pieces.is_empty() {
            pieces.push(Vec::new());
        }
        let count = pieces.len();
        for (number, entries) in pieces.into_iter().enumerate() {
            let message = Opening::Listing { entries, last: number + 1 == count };
            control.0.send(&message.encode()).await.map_err(TransferError::Link)?;
        }
        Ok(None)
    }

    async fn measure(
        &self,
        lane: &Lane,
        control: &mut Control,
        up: bool,
        seconds: u64,
    ) -> Result<Option<Running>, Refused> {
        let _turn = self.allowances.begin(lane.peer(), seconds, std::time::Instant::now())?;
        let accept = Opening::Accept { resumed: false, seen: 0, window: 0, named: false };
        control.0.send(&accept.encode()).await.map_err(TransferError::Link)?;
        measure::answer(lane, control, up, seconds).await?;
        Ok(None)
    }

    /// A daemon has no progress line: counters are made and not looked at.
    fn watch(&self) -> Watch {
        Watch { sink: Sink::default(), counters: Counters::new() }
    }
}

/// What somebody asks who has data to give.
struct Put {
    id: [u8; 16],
    /// Outcomes that the source has seen, if it goes on with a transfer that was cut.
    resume: Option<u64>,
    order: Order,
    grant: Option<[u8; 32]>,
    /// Where it goes, if that was settled before.
    landing: Option<Landing>,
}

/// A transfer that is about to run on a lane.
struct Running {
    id: [u8; 16],
    held: Held,
    /// Outcomes that the source has seen, for a receiver.
    seen: u64,
    /// For a sender.
    start: Start,
}

/// Why a request is not carried out.
enum Refused {
    /// By the policy or the registry: the peer is told.
    Here(Refusal),
    /// The lane failed: nobody can be told.
    Lane(TransferError),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Here(refusal)
    }
}

impl From<TransferError> for Refused {
    fn from(error: TransferError) -> Self {
        Self::Lane(error)
    }
}

/// A peer that may neither read nor write is here to use a grant, and may do nothing else.
fn check_guest(lane: &Lane, request: &Opening) -> Result<(), Refusal> {
    let Some(allowed) = lane.permissions() else { return Ok(()) };
    let is_guest = !allowed.read && !allowed.write;
    let may = match request {
        Opening::PutGranted { .. } | Opening::Enrol { .. } => true,
        // A transfer that is resumed was taken in before, or is not known.
        Opening::Offer(_) | Opening::AskSchema { .. } | Opening::Put { resume: true, .. } => {
            !allowed.inboxes.inboxes.are_none()
        }
        _ => false,
    };
    if is_guest && !may {
        let text = match allowed.inboxes.inboxes.are_none() {
            true if allowed.is_stranger => {
                "this key is not known here; it may ask to be let in (haul key request), and nothing else"
            }
            true => "this key may do nothing here but what was granted to it",
            false => "this key may hand in datasets here (haul put), and nothing else",
        };
        let text = text.to_owned();
        return Err(Refusal { code: RefuseCode::Denied, text });
    }
    Ok(())
}

fn superseded() -> Refusal {
    let text = "another run of the same copy has taken over".to_owned();
    Refusal { code: RefuseCode::Cancelled, text }
}

fn unknown_transfer() -> Refusal {
    let text = "this transfer is not known here (any more)".to_owned();
    Refusal { code: RefuseCode::UnknownTransfer, text }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let broken = |_| Refusal { code: RefuseCode::Disk, text: "internal error".to_owned() };
    tokio::task::spawn_blocking(act).await.map_err(broken)?
}

/// The dialler closes the lane when it has read the last words.
async fn goodbye(lane: &Lane, mut control: Control) -> Result<(), TransferError> {
    control.0.finish().await?;
    // Whoever does not go is sent away.
    let _ = timeout(GOODBYE, lane.closed()).await;
    Ok(())
}
