//! Targets for the readers of `diode`. What is signed is signed here, so that the readers behind a signature are
//! reached as a sender that lies reaches them.

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine as _;
use diode::{
    Announcement, Assembly, BlockId, Check, Class, HEADER, Header, Intake, Intervals, Judge,
    ObjectKind, Opener, Page, Records, Replay, Restorer, Resync, Sealer, SymbolHead, Taken,
    TrustLine, WantList,
};
use link::Identity;

/// Takes frames with the check of announcements, and opens those that begin with an even byte.
struct Even(Check);

impl Judge for Even {
    type Taken = Vec<u8>;

    fn believes(&self, _header: &Header, bytes: &[u8; HEADER]) -> bool {
        Header::is_checked(bytes, &self.0)
    }

    fn take(&mut self, header: &Header, frame: &mut [u8]) -> Option<Vec<u8>> {
        assert_eq!(frame.len(), header.frame_length());
        let taken = frame.to_vec();
        frame.fill(0);
        taken[HEADER].is_multiple_of(2).then_some(taken)
    }
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::generate().expect("the system gives randomness"))
}

/// A damaged stream of frames. The input is a length, so many bytes in which each header that can be read is given its
/// check, and pieces of the length that the first byte says. What is taken stands there, and nothing is lost.
pub fn stream(data: &[u8]) {
    let Some((&piece, data)) = data.split_first() else { return };
    let mut bytes = data.to_vec();
    let key = link::PublicKey([7; 32]);
    for at in 0..bytes.len().saturating_sub(HEADER - 1) {
        let head: [u8; HEADER] = bytes[at..at + HEADER].try_into().expect("as long as a header");
        if let Some(header) = Header::read(&head) {
            bytes[at..at + HEADER].copy_from_slice(&header.encode(&Check::of_announcements(&key)));
        }
    }
    let (mut resync, mut judge) = (Resync::default(), Even(Check::of_announcements(&key)));
    let mut taken = 0;
    for piece in bytes.chunks(usize::from(piece) + 1) {
        resync.push(piece);
        while let Some(frame) = resync.next(&mut judge) {
            assert!(bytes.windows(frame.len()).any(|window| window == frame), "it was never sent");
            taken += frame.len() as u64;
        }
    }
    while let Some(frame) = resync.last(&mut judge) {
        taken += frame.len() as u64;
    }
    assert_eq!(taken + resync.skipped(), bytes.len() as u64);
}

/// An announcement that its sender has signed, and in which it stands where a sender does.
pub fn announcement(data: &[u8]) {
    let mut said = data.to_vec();
    if let Some(sender) = said.get_mut(25..57) {
        sender.copy_from_slice(identity().public_key().as_bytes());
    }
    let signature = identity().sign(&[&b"haul diode announcement"[..], &said].concat());
    let signed = [&said[..], &signature].concat();
    if let Ok(read) = Announcement::read(&signed, &identity().public_key()) {
        assert_eq!(read.sender, identity().public_key());
    }
    assert!(Announcement::read(data, &identity().public_key()).is_err(), "it is not signed");
}

/// A page of a manifest that its sender has signed: one form, and no path that climbs.
pub fn page(data: &[u8]) {
    let signature =
        identity().sign(&[&b"haul diode manifest"[..], &3_u64.to_be_bytes(), data].concat());
    let signed = [data, &signature].concat();
    if let Ok(read) = Page::read(&signed, &identity().public_key(), 3) {
        let written = read.sign(identity(), 3).expect("it was read");
        assert_eq!(written, signed, "what was read and what it is written as differ");
    }
}

/// The records of a control or stream frame: what is written again is read again.
pub fn records(data: &[u8]) {
    let mut written = Vec::new();
    let read: Vec<_> = Records::of(data).map_while(Result::ok).collect();
    for record in &read {
        record.encode(&mut written).expect("it was short enough to be read");
    }
    let again: Vec<_> = Records::of(&written).map_while(Result::ok).collect();
    assert_eq!(read, again);
}

/// Symbols of one block, one after another, each with a length before it.
pub fn symbols(data: &[u8]) {
    let mut rest = data;
    let mut assembly: Option<Assembly> = None;
    let mut restorer = Restorer::default();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (payload, after) = after.split_at(length);
        rest = after;
        let Ok((head, layout, symbol)) = SymbolHead::read(payload) else { continue };
        assert_eq!(payload[..diode::SYMBOL_HEAD], head.encode());
        let block = assembly.get_or_insert_with(|| Assembly::new(layout));
        block.add(head.symbol, symbol);
        if block.missing() == 0 {
            let layout = block.layout();
            let whole = assembly.take().expect("it is there").finish(&mut restorer);
            let whole = whole.expect("nothing is missing");
            assert_eq!(whole.len(), layout.length());
        }
    }
}

/// Bytes of blocks that the intake of the target may hold, and those of one block with all its symbols.
const MOST: usize = 3 << 20;
const MOST_BLOCK: usize = 3 << 20;

/// What a receiver does with frames and with blocks that lie elsewhere, in any order. The input is steps, each a kind, a
/// length (two bytes, the most significant first) and bytes: payloads that the sender seals, bytes that nobody has sealed,
/// and objects that are forgotten, begin anew and so on.
pub fn intake(data: &[u8]) {
    let (mut sealer, id, secret) = Sealer::begin().expect("the system gives randomness");
    let (opener, mut replay) = (Opener::new(id, &secret), Replay::new(0));
    let mut intake = Intake::new(MOST, Intervals::default(), []);
    let mut kept: HashMap<BlockId, Assembly> = HashMap::new();
    let mut restorer = Restorer::default();
    let mut rest = data;
    while let Some((&[step, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(after.len());
        let (bytes, after) = after.split_at(length);
        rest = after;
        let object = bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        let class = Class::ALL[usize::from(step >> 3) % 8];
        match step % 8 {
            0 => {
                let mut frame = Vec::new();
                if sealer.seal(class, bytes, &mut frame).is_err() {
                    continue;
                }
                let head = *frame.first_chunk().expect("it has a header");
                let header = Header::read(&head).expect("it was written by us");
                assert!(opener.believes(&header, &head) && replay.is_new(header.number));
                let payload = opener.open(&header, &mut frame).expect("it was sealed by us");
                assert_eq!(payload, bytes);
                assert!(replay.take(header.number) && !replay.take(header.number));
                let Ok((head, layout, symbol)) = SymbolHead::read(bytes) else { continue };
                if let Taken::Block(block) = intake.take(&head, layout, symbol) {
                    let whole = block.finish(&mut restorer).expect("it has enough");
                    assert_eq!(whole.len(), layout.length());
                }
            }
            1 => {
                let header = bytes.first_chunk().and_then(Header::read);
                if let Some(header) = header.filter(|header| header.class != Class::Announcement) {
                    assert!(opener.open(&header, &mut bytes.to_vec()).is_none());
                }
            }
            2 => intake.at(object % (1 << 40)),
            3 => intake.forget(object % (1 << 62)),
            4 => intake.again(object % (1 << 62)),
            5 => intake.forget_to(object % (1 << 62), &[object / 3].into()),
            6 => {
                let id = BlockId { object: object % (1 << 62), block: u32::from(step >> 3) };
                intake.undo(id, 40 << 20, ObjectKind::Content);
            }
            _ => {
                for id in intake.idle(1000) {
                    if let Some(spilled) = intake.give_out(id) {
                        kept.insert(id, spilled.assembly);
                    }
                }
            }
        }
        while let Some(spilled) = intake.spill() {
            kept.insert(spilled.id, spilled.assembly);
        }
        while let Some(id) = intake.recall() {
            if let Some((block, ..)) = kept.get(&id).and_then(|block| intake.merge(id, block)) {
                let length = block.layout().length();
                let whole = block.finish(&mut restorer).expect("it has enough");
                assert_eq!(whole.len(), length);
            }
        }
        assert!(intake.memory() <= MOST + MOST_BLOCK, "{} bytes are held", intake.memory());
    }
}

/// A want-list that a receiver has signed: one form.
pub fn want_list(data: &[u8]) {
    let (sender, receiver) = (link::PublicKey([4; 32]), identity().public_key());
    let mut said = [receiver.as_bytes(), sender.as_bytes(), data].concat();
    let signature = identity().sign(&[&b"haul diode want"[..], &said].concat());
    said.extend_from_slice(&signature);
    let text =
        format!("haul-diode-want-1\n{}", base64::engine::general_purpose::STANDARD.encode(said));
    if let Ok(list) = WantList::parse(&text, &sender, &[receiver]) {
        let written = list.to_text(identity());
        let lines: String = written.lines().skip(1).collect();
        assert_eq!(text.lines().nth(1), Some(lines.as_str()), "it is written as it was read");
    }
}

/// The line that two hosts are told of each other: it is written as it was read.
pub fn trust_line(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(line) = TrustLine::parse(&text) {
        assert_eq!(TrustLine::parse(&line.to_line()), Ok(line));
    }
}
