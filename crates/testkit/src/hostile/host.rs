//! A hostile machine that is dialled: it admits everybody, speaks the opening like an honest daemon, and
//! then does what a test wants with the lane.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use link::{
    ControlReceiver, ControlSender, Denied, Gatekeeper, Identity, Lane, LinkError, ListenOptions,
    Listener, MAX_FRAME, Permissions, PublicKey,
};
use tokio::task::JoinHandle;
use transfer::message::{MAX_WINDOW, Opening, SourceMessage, TargetMessage};

/// What a host does with a lane once it has answered the request.
pub type Act =
    Arc<dyn Fn(Guest) -> Pin<Box<dyn Future<Output = Result<(), LinkError>> + Send>> + Send + Sync>;

/// How a host answers a request.
pub type Answer = Arc<dyn Fn(&Opening) -> Opening + Send + Sync>;

/// The frame that a host answers a request with, which need not be a message.
pub type Words = Arc<dyn Fn(&Opening) -> Vec<u8> + Send + Sync>;

struct Everybody;

impl Gatekeeper for Everybody {
    fn admit(&self, _: &PublicKey, _: SocketAddr) -> Result<Permissions, Denied> {
        Ok(Permissions::unrestricted())
    }
}

/// A lane of somebody who has dialled.
pub struct Guest {
    /// The lane.
    pub lane: Lane,
    /// What was asked for.
    pub request: Opening,
    sender: ControlSender,
    receiver: ControlReceiver,
}

impl Guest {
    /// Sends bytes as one frame.
    pub async fn frame(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        self.sender.send(bytes).await
    }

    /// Says something as a target.
    pub async fn say(&mut self, message: TargetMessage) -> Result<(), LinkError> {
        self.frame(&message.encode()).await
    }

    /// Says something as a source.
    pub async fn offer(&mut self, message: SourceMessage) -> Result<(), LinkError> {
        self.frame(&message.encode()).await
    }

    /// The next frame.
    pub async fn hear(&mut self) -> Result<Vec<u8>, LinkError> {
        let frame = self.receiver.recv(MAX_FRAME).await?;
        frame.ok_or(LinkError::CutShort { peer: self.lane.peer_name().clone() })
    }

    /// Reads until the source has said its end; gives how many entries it has offered.
    pub async fn hear_all(&mut self) -> Result<u64, LinkError> {
        loop {
            if let Ok(SourceMessage::End { entries, .. }) =
                SourceMessage::decode(&self.hear().await?)
            {
                return Ok(entries);
            }
        }
    }
}

/// The host.
pub struct Host {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Host {
    /// Listens on the loopback, and takes on whatever is asked for. Must be called within a tokio runtime.
    pub fn start(identity: &Identity, act: Act) -> Self {
        let accept = |_: &Opening| Opening::Accept {
            resumed: false,
            seen: 0,
            window: MAX_WINDOW,
            named: false,
        };
        Self::answering(identity, Arc::new(accept), act)
    }

    /// The same with answers of the test's own.
    pub fn answering(identity: &Identity, answer: Answer, act: Act) -> Self {
        Self::saying(identity, Arc::new(move |request| answer(request).encode()), act)
    }

    /// The same with answers that are bytes.
    pub fn saying(identity: &Identity, words: Words, act: Act) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any, identity, Arc::new(Everybody), ListenOptions::default())
            .expect("a socket on the loopback");
        let address = listener.local_addr();
        let serving = tokio::spawn(async move {
            while let Ok(lane) = listener.accept().await {
                let (act, words) = (act.clone(), words.clone());
                tokio::spawn(async move {
                    // The guest leaves when it has had enough, which is what tests look at.
                    if let Ok(guest) = welcome(lane.clone(), &words).await {
                        let _ = act(guest).await;
                        lane.closed().await;
                    }
                });
            }
        });
        Self { address, serving }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn welcome(lane: Lane, words: &Words) -> Result<Guest, LinkError> {
    let (mut sender, mut receiver) = lane.accept_control().await?;
    receiver.recv(MAX_FRAME).await?;
    let short = || LinkError::CutShort { peer: lane.peer_name().clone() };
    let request = receiver.recv(MAX_FRAME).await?.ok_or_else(short)?;
    let request = Opening::decode(&request).map_err(|_| short())?;
    let software = "hostile".to_owned();
    sender.send(&Opening::Welcome { version: 1, software }.encode()).await?;
    sender.send(&words(&request)).await?;
    Ok(Guest { lane, request, sender, receiver })
}
