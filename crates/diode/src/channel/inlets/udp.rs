//! Datagrams of programs on the sending side. One that fits no frame is cut in pieces.

use std::time::Instant;

use super::{Figures, Inlet, NAMED_EVERY, first_number};
use crate::carrier::{Arrival, Incoming, TICK};
use crate::record::{Carrier, Record};

/// Bytes of a record before the data: kind, length, channel, connection, number; for a piece where it begins and the
/// length of the whole too.
const FIELDS: usize = 3 + 2 + 4 + 8;
const PIECE_FIELDS: usize = FIELDS + 2 + 2;

/// Takes datagrams until the channel ends.
pub(super) fn take(inlet: &Inlet, mut incoming: Incoming) {
    let connection = first_number();
    let opened = Record::ChannelOpened {
        channel: inlet.number,
        connection,
        carrier: Carrier::Udp,
        name: &inlet.name,
    };
    let (mut memory, mut number, mut named) = (Vec::new(), 0, None::<Instant>);
    inlet.figures.begins();
    let mut dropped_before = 0;
    while !inlet.is_over() {
        if named.is_none_or(|named| named.elapsed() >= NAMED_EVERY) {
            named = Some(Instant::now());
            inlet.push(&opened, &mut memory, false);
            let counters = incoming.counters();
            let dropped = counters.dropped_by_us + counters.dropped_by_kernel;
            Figures::add(&inlet.figures.dropped, (dropped - dropped_before) as usize);
            dropped_before = dropped;
        }
        let Some(Arrival::Datagrams(mut datagrams)) = incoming.next(TICK) else { continue };
        for datagram in &mut datagrams {
            if push(inlet, connection, number, datagram, &mut memory) {
                Figures::add(&inlet.figures.datagrams, 1);
                Figures::add(&inlet.figures.bytes, datagram.len());
            } else {
                Figures::add(&inlet.figures.dropped, 1);
            }
            // One that was dropped has its number too, so that the other side knows.
            number += 1;
        }
    }
    let closed =
        Record::ChannelClosed { channel: inlet.number, connection, length: number, is_whole: true };
    inlet.push(&closed, &mut memory, false);
    inlet.figures.ends(true);
}

/// Gives a datagram away, whole or in pieces; false if there is no room.
fn push(
    inlet: &Inlet,
    connection: u32,
    number: u64,
    datagram: &[u8],
    memory: &mut Vec<u8>,
) -> bool {
    let channel = inlet.number;
    if datagram.len() <= inlet.room(FIELDS) {
        let data = Record::ChannelData { channel, connection, offset: number, bytes: datagram };
        return inlet.push(&data, memory, false);
    }
    // No datagram is longer than its length can tell.
    let Ok(total) = u16::try_from(datagram.len()) else { return false };
    let size = inlet.room(PIECE_FIELDS);
    let mut at = 0;
    datagram.chunks(size).all(|bytes| {
        let piece = Record::ChannelPiece { channel, connection, number, at, total, bytes };
        at += bytes.len().min(usize::from(u16::MAX)) as u16;
        inlet.push(&piece, memory, false)
    })
}
