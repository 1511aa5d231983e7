//! A lane's control stream as two queues, so that the loop of a shell waits for neither the peer nor a
//! half-sent frame. The tasks behind them end with the handle.

use std::time::Duration;

use link::{ControlReceiver, ControlSender, Lane, LinkError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::message::MAX_MESSAGE;

/// Frames that may wait to be sent on the control stream of a transfer; a shell produces no more before some are gone.
pub(crate) const OUTGOING: usize = 64;
/// Frames that may wait to be read; then the peer has to wait.
const INCOMING: usize = 16;

/// Frames to the peer.
pub(crate) struct Outgoing(mpsc::Sender<Vec<u8>>);

/// Frames from the peer, and the tasks behind both queues.
pub(crate) struct Incoming {
    frames: mpsc::Receiver<Result<Option<Vec<u8>>, LinkError>>,
    _tasks: JoinSet<()>,
}

/// Puts the queues before a control stream; so many frames may wait to be sent.
pub(crate) fn queues(
    (mut sender, mut receiver): (ControlSender, ControlReceiver),
    most: usize,
) -> (Outgoing, Incoming) {
    let (outgoing, mut to_send) = mpsc::channel::<Vec<u8>>(most);
    let (arrived, frames) = mpsc::channel(INCOMING);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Some(frame) = to_send.recv().await {
            // A link that failed is noticed by the receiving half as well, with the reason.
            if sender.send(&frame).await.is_err() {
                return;
            }
        }
        // The queue has ended, so nobody is left to be told of an error.
        let _ = sender.finish().await;
    });
    tasks.spawn(async move {
        loop {
            let frame = receiver.recv(MAX_MESSAGE).await;
            let last = !matches!(frame, Ok(Some(_)));
            if arrived.send(frame).await.is_err() || last {
                return;
            }
        }
    });
    (Outgoing(outgoing), Incoming { frames, _tasks: tasks })
}

impl Outgoing {
    /// Whether a frame can be queued without waiting.
    pub(crate) fn has_room(&self) -> bool {
        self.0.capacity() > 0 && !self.0.is_closed()
    }

    /// Queues a frame; only after `has_room` said so. On a link that has failed it goes nowhere, which
    /// the receiving half reports.
    pub(crate) fn send(&self, frame: Vec<u8>) {
        let _ = self.0.try_send(frame);
    }

    /// Waits until a frame can be queued. Cancel-safe.
    pub(crate) async fn room(&self) {
        if self.0.reserve().await.is_err() {
            // The sending task is gone with the link; whoever waits learns it from `recv`.
            std::future::pending::<()>().await;
        }
    }
}

impl Incoming {
    /// The next frame, nothing when the peer has finished, or why there is none. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        self.frames.recv().await.unwrap_or(Ok(None))
    }
}

/// Why a control stream has ended: the lane ends in the same moment and says it, or the peer ended the
/// stream alone, which it must not.
pub(crate) async fn why_ended(lane: &Lane) -> LinkError {
    match tokio::time::timeout(Duration::from_secs(2), lane.closed()).await {
        Ok(error) => error,
        Err(_) => LinkError::CutShort { peer: lane.peer_name().clone() },
    }
}
