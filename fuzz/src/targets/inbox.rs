//! Targets for the readers of `inbox`.

use std::time::Duration;

use bytes::Bytes;
use inbox::dync::desk::{Refusal, UploadId};
use inbox::dync::keys::KeyFile;
use inbox::dync::machine::{Limits, Machine, Output, Speaker};
use inbox::dync::wire::ClientMessage;
use jiff::Timestamp;

/// Frames of a message, each behind its length in two bytes.
pub fn dync_message(data: &[u8]) {
    let mut frames = Vec::new();
    let mut rest = data;
    while let Some((len, behind)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len)).min(behind.len());
        frames.push(Bytes::copy_from_slice(&behind[..len]));
        rest = &behind[len..];
    }
    let Ok(message) = ClientMessage::read(&frames, 4096) else { return };
    let again = ClientMessage::read(&message.write(), 4096);
    // Only the words of an error may be longer when they are written: what is no UTF-8 was replaced.
    if !matches!(message, ClientMessage::Error { .. }) {
        assert_eq!(again.as_ref(), Ok(&message));
    }
}

/// A key file.
pub fn dync_key_file(data: &[u8]) {
    let Ok(key) = KeyFile::parse(data) else { return };
    for with_secret in [true, false] {
        let text = key.to_text(Timestamp::UNIX_EPOCH, with_secret);
        let again = KeyFile::parse(text.as_bytes()).expect("what was written is read");
        assert_eq!(again.public, key.public);
        assert_eq!(again.secret.is_some(), with_secret && key.secret.is_some());
    }
}

/// Four bytes for each thing that happens: what, to which of some uploads of two keys, and a number.
pub fn dync_machine(data: &[u8]) {
    let limits = Limits {
        chunk_bytes: 16,
        max_queue: 16,
        window: 8,
        credit: 20,
        uploads: 6,
        ..Limits::default()
    };
    let mut machine = Machine::new(limits.clone());
    let mut now = Duration::ZERO;
    // For each upload the round that it has and how much was taken in that.
    let mut rounds = [[(0u64, 0u64); 4]; 2];
    for happens in data.chunks_exact(4) {
        let (who, which) = (usize::from(happens[1] & 1), usize::from(happens[1] >> 1 & 3));
        let number = u64::from(happens[2]);
        let key = [who as u8; 32];
        let identity = [which as u8];
        let upload = UploadId::of(&key, &identity);
        let speaker = Speaker { upload, key: &key, identity: &identity };
        let (round, taken) = &mut rounds[who][which];
        let of = (upload, *round);
        match happens[0] % 12 {
            0 => {
                if let Some(begun) = machine.post_file(now, speaker) {
                    (*round, *taken) = (begun, 0);
                }
            }
            kind @ 1..=3 => {
                let seek = if kind == 1 { number * 16 } else { *taken };
                let (len, last) = (usize::from(happens[3] % 18), (kind == 3).then_some([0; 32]));
                if machine.post_chunk(now, speaker, (seek, len), last) {
                    assert_eq!(seek, *taken, "a chunk was taken out of order");
                    *taken += len as u64;
                }
            }
            4 => machine.query(now, speaker),
            5 => machine.client_error(speaker, 1, "no"),
            6 => machine.taken_in(now, of),
            7 => {
                // A desk opens an upload once; later openings say nothing.
                let rate = (happens[3] % 2 == 1).then_some(u64::from(happens[3]));
                machine.opened(of, *taken, rate);
            }
            8 => machine.wrote(of, u32::from(happens[3])),
            9 => machine.synced(of, *taken),
            10 => match happens[3] % 4 {
                0 => machine.finished(now, of, "id".to_owned()),
                1 => machine.failed(now, of, Refusal::new(500, "no")),
                2 => machine.revoke(&key),
                _ => machine.not_found(now, of),
            },
            _ => {
                now += Duration::from_secs(number);
                machine.tick(now);
            }
        }
        let mut said = 0;
        while let Some(output) = machine.poll() {
            said += 1;
            if let Output::Find(id, begun) = output {
                let place = rounds.iter_mut().enumerate().flat_map(|(who, places)| {
                    let of = move |which| UploadId::of(&[who as u8; 32], &[which as u8]);
                    places.iter_mut().enumerate().map(move |(which, place)| (of(which), place))
                });
                place.filter(|(of, _)| *of == id).for_each(|(_, place)| *place = (begun, 0));
            }
        }
        assert!(said <= 2 * limits.uploads + 2, "{said} wishes come of one thing");
        assert!(machine.uploads() <= limits.uploads);
        assert!(machine.credit_used() <= limits.credit + limits.uploads as u32);
    }
}
