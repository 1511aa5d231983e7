//! Parcels as they come in, read beside each other and handed to the receiver's loop in bounded numbers.

use std::sync::Arc;

use files::CHUNK;
use link::{Lane, ParcelError};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::buffers::Buffers;
use crate::message::MAX_MESSAGE;

/// Parcels that have arrived and wait for the loop.
const PARCELS_WAITING: usize = 4;

/// A head and a body, or why there will be no more.
pub(super) type Arrived = Result<(Vec<u8>, Vec<u8>), ParcelError>;

/// Reads parcels beside each other, as many as the lane lets the peer open.
pub(super) fn accept_parcels(
    lane: &Lane,
    buffers: Arc<Buffers>,
) -> (mpsc::Receiver<Arrived>, JoinSet<()>) {
    let (sender, receiver) = mpsc::channel(PARCELS_WAITING);
    let mut tasks = JoinSet::new();
    let lane = lane.clone();
    tasks.spawn(async move {
        let mut reading = JoinSet::new();
        loop {
            tokio::select! {
                parcel = lane.accept_parcel() => {
                    let Ok(parcel) = parcel else { return };
                    let (sender, buffers) = (sender.clone(), buffers.clone());
                    reading.spawn(async move {
                        let body = |len| buffers.take(len);
                        let arrived = parcel.read_into(MAX_MESSAGE, CHUNK as usize, body).await;
                        let _ = sender.send(arrived).await;
                    });
                }
                Some(_) = reading.join_next(), if !reading.is_empty() => {}
            }
        }
    });
    (receiver, tasks)
}
