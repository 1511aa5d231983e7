//! A peer that does not keep to the protocol. It proves its key like everybody else, and then says what a
//! script tells it to say: whole messages, or bytes that are none. What it hears is noted, so that a test
//! can hold it against what the protocol promises.

pub mod host;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use files::{ChunkHash, Name, Timestamp, hash_chunk};
use link::{
    ControlReceiver, ControlSender, DialOptions, HostCheck, HostRefused, Identity, Lane, LaneKind,
    LinkError, MAX_FRAME, PublicKey, Target, dial,
};
use tokio::time::{Instant, timeout, timeout_at};
use transfer::message::{
    BundleItem, Entry, EntryKind, Need, Opening, Order, Outcome, ParcelHead, RefuseCode,
    SourceMessage, TargetMessage,
};

/// Nothing that a script waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes any host for the right one.
pub struct AnyHost;

impl HostCheck for AnyHost {
    fn check(&self, _: &str, _: u16, _: &PublicKey) -> Result<(), HostRefused> {
        Ok(())
    }
}

/// One thing that the peer does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Says this.
    Say(SourceMessage),
    /// Sends these bytes as one frame.
    Frame(Vec<u8>),
    /// Sends a parcel.
    Parcel(ParcelHead, Vec<u8>),
    /// Sends these bytes as the head and the body of a parcel.
    RawParcel(Vec<u8>, Vec<u8>),
    /// Waits until the content of this entry is asked for.
    AwaitNeed(u64),
    /// Waits until the digest of this entry is asked for.
    AwaitAsk(u64),
    /// Waits until this entry has an outcome.
    AwaitOutcome(u64),
}

/// How it ended for the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The other side closed the lane, with this code and these words.
    Closed(u64, String),
    /// The other side said no.
    Refused(RefuseCode, String),
    /// The other side signed that it has everything.
    Receipt,
    /// The other side waits for more.
    Silence,
}

/// What the peer heard.
#[derive(Debug)]
pub struct Heard {
    /// The content that was asked for.
    pub needs: Vec<Need>,
    /// How entries ended.
    pub outcomes: BTreeMap<u64, Outcome>,
    /// How it ended.
    pub end: End,
}

/// A peer with a lane and a control stream, on which nothing was said yet.
pub struct Peer {
    /// The lane.
    pub lane: Lane,
    sender: ControlSender,
    receiver: ControlReceiver,
    needs: Vec<Need>,
    asks: Vec<u64>,
    outcomes: BTreeMap<u64, Outcome>,
}

impl Peer {
    /// Dials a daemon with a key that it admits, over QUIC.
    pub async fn dial(address: SocketAddr, identity: &Identity) -> Result<Self, LinkError> {
        Self::dial_by(LaneKind::Quic, address, identity).await
    }

    /// Dials a daemon with a key that it admits.
    pub async fn dial_by(
        kind: LaneKind,
        address: SocketAddr,
        identity: &Identity,
    ) -> Result<Self, LinkError> {
        let target = Target::new(&address.ip().to_string(), address.port()).expect("an address");
        let deadline = Duration::from_secs(30);
        let options = DialOptions { kind, deadline, ..DialOptions::default() };
        let lane = dial(&target, identity, &AnyHost, &options).await?;
        lane.welcomed().await?;
        let (sender, receiver) = lane.open_control().await?;
        Ok(Self {
            lane,
            sender,
            receiver,
            needs: Vec::new(),
            asks: Vec::new(),
            outcomes: BTreeMap::new(),
        })
    }

    /// Sends bytes as one frame.
    pub async fn frame(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.sender.send(bytes).await
    }

    /// The next frame, whatever it says.
    pub async fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        let frame = self.receiver.recv(MAX_FRAME).await?;
        frame.ok_or(LinkError::CutShort { peer: self.lane.peer_name().clone() })
    }

    /// Says that nothing follows on the control stream.
    pub async fn finish(&mut self) -> Result<(), LinkError> {
        self.sender.finish().await
    }

    /// Says hello and asks, as everybody does; gives the answer to the request.
    pub async fn ask(&mut self, request: &Opening) -> Result<Opening, LinkError> {
        let hello = Opening::Hello { lowest: 1, highest: 1, software: "hostile".to_owned() };
        self.frame(&hello.encode()).await?;
        self.frame(&request.encode()).await?;
        self.opening().await?;
        self.opening().await
    }

    /// Asks for a transfer to this target.
    pub async fn put(&mut self, id: [u8; 16], order: &Order) -> Result<Opening, LinkError> {
        let order = order.clone();
        self.ask(&Opening::Put { id, resume: false, seen: 0, order }).await
    }

    /// The next opening message of the other side.
    pub async fn opening(&mut self) -> Result<Opening, LinkError> {
        let late = |_| LinkError::TimedOut { peer: self.lane.peer_name().clone() };
        let frame = timeout(PATIENCE, self.receiver.recv(MAX_FRAME)).await.map_err(late)??;
        let frame = frame.ok_or(LinkError::CutShort { peer: self.lane.peer_name().clone() })?;
        Ok(Opening::decode(&frame).expect("an honest daemon sends messages"))
    }

    /// Says one message.
    pub async fn say(&mut self, message: &SourceMessage) -> Result<(), LinkError> {
        self.frame(&message.encode()).await
    }

    /// Carries out a script and listens until the other side has ended it or waits for more.
    pub async fn play(mut self, script: &[Step], listen: Duration) -> Heard {
        for step in script {
            // A lane that was closed in the middle is what many scripts are for; why, is heard below.
            if self.step(step).await.is_err() {
                break;
            }
        }
        let end = self.listen(Instant::now() + listen).await;
        Heard { needs: self.needs, outcomes: self.outcomes, end }
    }

    async fn step(&mut self, step: &Step) -> Result<(), LinkError> {
        match step {
            Step::Say(message) => self.say(message).await,
            Step::Frame(bytes) => self.frame(bytes).await,
            Step::Parcel(head, body) => self.parcel(head.encode(), body.clone()).await,
            Step::RawParcel(head, body) => self.parcel(head.clone(), body.clone()).await,
            Step::AwaitNeed(index) => {
                while !self.needs.iter().any(|need| need.index == *index) {
                    self.hear(Instant::now() + PATIENCE).await?;
                }
                Ok(())
            }
            Step::AwaitAsk(index) => {
                while !self.asks.contains(index) {
                    self.hear(Instant::now() + PATIENCE).await?;
                }
                Ok(())
            }
            Step::AwaitOutcome(index) => {
                while !self.outcomes.contains_key(index) {
                    self.hear(Instant::now() + PATIENCE).await?;
                }
                Ok(())
            }
        }
    }

    /// Sends a parcel; one that the other side does not take is no error.
    async fn parcel(&mut self, head: Vec<u8>, body: Vec<u8>) -> Result<(), LinkError> {
        match timeout(PATIENCE, send_parcel(self.lane.clone(), head, body)).await {
            Ok(Err(LinkError::StreamStopped { .. })) | Err(_) => Ok(()),
            Ok(result) => result,
        }
    }

    async fn hear(&mut self, until: Instant) -> Result<Option<End>, LinkError> {
        let late = |_| LinkError::TimedOut { peer: self.lane.peer_name().clone() };
        let frame = timeout_at(until, self.receiver.recv(MAX_FRAME)).await.map_err(late)??;
        let Some(frame) = frame else {
            return Err(LinkError::CutShort { peer: self.lane.peer_name().clone() });
        };
        match TargetMessage::decode(&frame).expect("an honest daemon sends messages") {
            TargetMessage::Need(needs) => self.needs.extend(needs),
            TargetMessage::Ask(list) => self.asks.extend(list),
            TargetMessage::Outcomes { list, .. } => {
                for (index, outcome) in list {
                    let before = self.outcomes.insert(index, outcome);
                    assert_eq!(before, None, "entry {index} has two outcomes");
                }
            }
            TargetMessage::Receipt(_) => return Ok(Some(End::Receipt)),
            TargetMessage::Abort { code, text } => return Ok(Some(End::Refused(code, text))),
            TargetMessage::Credit { .. }
            | TargetMessage::Ready
            | TargetMessage::Bound(_)
            | TargetMessage::Extras(_)
            | TargetMessage::Older { .. }
            | TargetMessage::Pieces { .. } => {}
        }
        Ok(None)
    }

    async fn listen(&mut self, until: Instant) -> End {
        loop {
            match self.hear(until).await {
                Ok(Some(end)) => return end,
                Ok(None) => {}
                Err(LinkError::TimedOut { .. }) if Instant::now() >= until => return End::Silence,
                Err(_) => return self.closed().await,
            }
        }
    }

    /// Why the other side has closed the lane, if it has.
    pub async fn closed(&self) -> End {
        match timeout(PATIENCE, self.lane.closed()).await {
            Ok(LinkError::Closed { code, reason, .. }) => End::Closed(code, reason),
            Ok(error) => End::Closed(u64::MAX, error.to_string()),
            Err(_) => End::Silence,
        }
    }
}

/// Sends these bytes as a parcel, and returns when they have arrived.
pub async fn send_parcel(lane: Lane, head: Vec<u8>, body: Vec<u8>) -> Result<(), LinkError> {
    lane.send_parcel(Bytes::from(head), Bytes::from(body), 0).await
}

/// A regular file as an honest source would offer it.
pub fn file(index: u64, parent: u64, name: &str, size: u64) -> Entry {
    entry(index, parent, name, EntryKind::File { size, sparse: false, shared: false })
}

/// An entry of any kind.
pub fn entry(index: u64, parent: u64, name: &str, kind: EntryKind) -> Entry {
    Entry {
        index,
        parent,
        name: Name::new(name).expect("a name"),
        kind,
        mode: 0o644,
        mtime: Timestamp { seconds: 1_600_000_000, nanos: 0 },
        owner: None,
        xattrs: Vec::new(),
    }
}

/// One small file in a parcel, as it should be.
pub fn bundle(index: u64, data: &[u8]) -> Step {
    bundle_of(index, data.len() as u64, hash_chunk(data.len() as u64, 0, data), data)
}

/// One small file in a parcel whose head says what it is told.
pub fn bundle_of(index: u64, len: u64, hash: ChunkHash, data: &[u8]) -> Step {
    Step::Parcel(ParcelHead::Bundle(vec![BundleItem { index, len, hash }]), data.to_vec())
}

/// Offers these entries.
pub fn offer(entries: Vec<Entry>) -> Step {
    Step::Say(SourceMessage::Offer(entries))
}
