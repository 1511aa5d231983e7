//! The first words on a lane: which version is spoken and what is asked for, each within a deadline.

use std::time::Duration;

use link::{ControlReceiver, ControlSender, Lane, LinkError};
use tokio::time::timeout;

use crate::TransferError;
use crate::message::{MAX_MESSAGE, Opening, RefuseCode, VERSION};

/// How long either side waits for one of the first words.
const DEADLINE: Duration = Duration::from_secs(20);
/// The answer to a request may need the disk of the other side.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

pub(crate) type Control = (ControlSender, ControlReceiver);

/// Dialler: opens the control stream and asks, without waiting for an answer.
pub(crate) async fn ask_ahead(lane: &Lane, request: &Opening) -> Result<Control, TransferError> {
    let mut control = lane.open_control().await?;
    let hello = Opening::Hello { lowest: VERSION, highest: VERSION, software: software() };
    control.0.send(&hello.encode()).await?;
    control.0.send(&request.encode()).await?;
    Ok(control)
}

/// The answers to a request that was made ahead, of which two are to come.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    welcomed: bool,
}

/// What a target says that takes a transfer on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    /// What it grants for unfinished entries.
    pub(crate) window: u64,
    /// The last name of the target path is the name that the one source gets.
    pub(crate) named: bool,
}

impl Answers {
    /// Takes the next frame: the answer, or nothing as long as more is to come.
    pub(crate) fn take(
        &mut self,
        lane: &Lane,
        frame: &[u8],
    ) -> Result<Option<Accepted>, TransferError> {
        let message = Opening::decode(frame)
            .map_err(|error| TransferError::Unreadable { peer: lane.peer_name().clone(), error })?;
        match message {
            Opening::Welcome { version: VERSION, .. } if !self.welcomed => {
                self.welcomed = true;
                Ok(None)
            }
            Opening::Accept { resumed: false, window, named, .. } if self.welcomed => {
                Ok(Some(Accepted { window, named }))
            }
            other => Err(unexpected(lane, other)),
        }
    }
}

/// Dialler: asks, and waits for the answer.
pub(crate) async fn ask(
    lane: &Lane,
    request: &Opening,
) -> Result<(Control, Opening), TransferError> {
    ask_with(lane, request, &[]).await
}

/// The same for a request of which more messages follow.
pub(crate) async fn ask_with(
    lane: &Lane,
    request: &Opening,
    further: &[Opening],
) -> Result<(Control, Opening), TransferError> {
    let (mut sender, mut receiver) = ask_ahead(lane, request).await?;
    let answer = {
        let answering = async {
            match read(lane, &mut receiver, DEADLINE).await? {
                Opening::Welcome { version: VERSION, .. } => {}
                other => return Err(unexpected(lane, other)),
            }
            match read(lane, &mut receiver, ANSWER_DEADLINE).await? {
                refusal @ Opening::Refuse { .. } => Err(unexpected(lane, refusal)),
                answer => Ok(answer),
            }
        };
        let sending = async {
            for message in further {
                sender.send(&message.encode()).await?;
            }
            Ok::<_, TransferError>(())
        };
        let (mut answering, mut sending) = (std::pin::pin!(answering), std::pin::pin!(sending));
        // Who says no does not read the rest.
        tokio::select! {
            biased;
            answer = &mut answering => answer?,
            sent = &mut sending => {
                sent?;
                answering.await?
            }
        }
    };
    Ok(((sender, receiver), answer))
}

/// Daemon: takes the control stream, agrees on a version, and returns the request.
pub(crate) async fn answer(lane: &Lane) -> Result<(Control, Opening), TransferError> {
    let silent = || LinkError::TimedOut { peer: lane.peer_name().clone() };
    let mut control = timeout(DEADLINE, lane.accept_control()).await.map_err(|_| silent())??;
    let (lowest, highest) = match read(lane, &mut control.1, DEADLINE).await? {
        Opening::Hello { lowest, highest, .. } => (lowest, highest),
        other => return Err(unexpected(lane, other)),
    };
    if !(lowest..=highest).contains(&VERSION) {
        let text = format!(
            "this end speaks version {VERSION} of the protocol, the other {lowest} to {highest}: \
             update the older one"
        );
        refuse(&mut control, RefuseCode::Version, text).await?;
        // The dialler closes the lane when it has read the words; closed from here, it might not get
        // them.
        let _ = timeout(DEADLINE, lane.closed()).await;
        return Err(unexpected(
            lane,
            Opening::Refuse {
                code: RefuseCode::Version,
                text: format!("no common version: {lowest} to {highest} there, {VERSION} here"),
            },
        ));
    }
    let welcome = Opening::Welcome { version: VERSION, software: software() };
    control.0.send(&welcome.encode()).await?;
    let request = read(lane, &mut control.1, DEADLINE).await?;
    Ok((control, request))
}

/// Says no and ends the stream; the words arrive before the lane is closed.
pub(crate) async fn refuse(
    control: &mut Control,
    code: RefuseCode,
    text: String,
) -> Result<(), TransferError> {
    control.0.send(&Opening::Refuse { code, text }.encode()).await?;
    control.0.finish().await?;
    Ok(())
}

/// Reads one opening message.
pub(crate) async fn read(
    lane: &Lane,
    receiver: &mut ControlReceiver,
    deadline: Duration,
) -> Result<Opening, TransferError> {
    let peer = || lane.peer_name().clone();
    let frame = timeout(deadline, receiver.recv(MAX_MESSAGE))
        .await
        .map_err(|_| LinkError::TimedOut { peer: peer() })??;
    let Some(frame) = frame else {
        return Err(LinkError::CutShort { peer: peer() }.into());
    };
    Opening::decode(&frame).map_err(|error| TransferError::Unreadable { peer: peer(), error })
}

/// What an opening message that does not belong here means.
pub(crate) fn unexpected(lane: &Lane, message: Opening) -> TransferError {
    let peer = lane.peer_name().clone();
    match message {
        Opening::Refuse { code, text } => TransferError::Refused { peer, code, text },
        _ => TransferError::Violation {
            peer,
            violation: crate::Violation("another message was expected here"),
        },
    }
}

fn software() -> String {
    concat!("haul ", env!("CARGO_PKG_VERSION")).to_owned()
}
