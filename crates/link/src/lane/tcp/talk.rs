//! The two halves of a control connection: what is said on it, and what is heard.

use std::sync::Arc;

use tokio::task::coop::consume_budget;

use super::frame::Frames;
use super::outbox::Batch;
use super::session::{End, REASON_WAIT, Session, Task};
use super::stream::{Reader, Writer};

/// How many frames are as much work as one read.
const FRAMES_PER_TURN: usize = 32;

/// Says what the outbox holds until the last word is out.
pub(super) async fn speak(session: Arc<Session>, mut writer: Writer) -> Task {
    let mut out = Vec::new();
    loop {
        out.clear();
        match session.outbox.take(&mut out) {
            Batch::Empty => {
                writer.release();
                let mut over = session.end.subscribe();
                tokio::select! {
                    () = session.outbox.wait() => continue,
                    // An end without a last word.
                    _ = over.wait_for(Option::is_some) => {}
                }
                if session.outbox.take(&mut out) == Batch::Empty {
                    return writer.finish().await.map_err(End::from);
                }
                write_last(&session, &mut writer, &out).await?;
            }
            Batch::Some => write_last(&session, &mut writer, &out).await?,
            Batch::Last => {
                writer.write(&mut [&out]).await?;
                return writer.finish().await.map_err(End::from);
            }
        }
    }
}

async fn write_last(session: &Session, writer: &mut Writer, out: &[u8]) -> Task {
    match writer.write(&mut [out]).await {
        Ok(()) => Ok(()),
        Err(error) => {
            // The half that reads may know the peer's reason.
            let _ = tokio::time::timeout(REASON_WAIT, session.ended()).await;
            let end = End::from(error);
            session.fail(end.clone());
            Err(end)
        }
    }
}

/// Takes in what comes on the control connection until it ends, and with it the lane.
pub(crate) async fn listen(session: Arc<Session>, reader: Reader) {
    if let Err(end) = take_frames(&session, reader).await {
        session.fail(end);
    }
}

async fn take_frames(session: &Session, mut reader: Reader) -> Task {
    let mut frames = Frames::default();
    loop {
        if !reader.fill(false).await? {
            return Err(End::Reset);
        }
        session.heard();
        let ready = reader.ready()?;
        let length = ready.len();
        let mut taken = 0;
        // After our own end only the peer's matters, which is the end of the connection.
        if session.end().is_none() {
            frames.feed(ready, |frame| {
                taken += 1;
                session.take(frame)
            })?;
        }
        reader.consume(length);
        // A record can hold thousands of frames, and other tasks run in between.
        for _ in 0..taken / FRAMES_PER_TURN {
            consume_budget().await;
        }
    }
}
