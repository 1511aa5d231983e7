//! A parcel with repair symbols, of which a hostile path brings what it likes in the order that it likes,
//! and whose sender may lie about its lengths.

use super::*;

const MAX_HEAD: usize = 1000;
/// So that a few hundred bytes of input reach all of it.
const MAX_BODY: usize = 72 * 1024;
/// The bytes of the parcel that one step of a piece stands for; a piece has at most 255 of them.
const STEP: usize = 64;

pub(crate) fn assemble(data: &[u8]) {
    let Some((lies, rest)) = data.split_first_chunk::<LENGTHS_BYTES>() else { return };
    let Some(([size, repair], pieces)) = rest.split_first_chunk::<2>() else { return };
    let head: Vec<u8> = (0..usize::from(*size)).map(|at| at as u8).collect();
    let length = 64 * 1024 + usize::from(*size) * 31;
    let body: Vec<u8> = (0..length).map(|at| (at * 7 + at / 253) as u8).collect();
    let most = most_repair(head.len() + body.len()) / SYMBOL;
    let repair = (usize::from(*repair) + 1).min(most);
    let Some(repairs) = repair_of(&head, &body, repair) else { return };
    let symbols = repairs.len() / SYMBOL;
    let first = (symbols << HEAD_BITS | head.len()) as u32;
    let mut all = [&first.to_be_bytes()[..], &(body.len() as u32).to_be_bytes()].concat();
    all.iter_mut().zip(lies).for_each(|(byte, lie)| *byte ^= lie);
    for part in [&head, &body, &repairs] {
        all.extend_from_slice(part);
    }
    let is_true = *lies == [0; LENGTHS_BYTES];
    let mut assembly = Assembly::new(MAX_HEAD, MAX_BODY);
    let mut came = vec![false; all.len()];
    for [high, low, steps] in pieces.as_chunks::<3>().0 {
        // The library gives each byte once.
        let start = usize::from(u16::from_be_bytes([*high, *low])) * 4 % all.len();
        let most = (start + usize::from(*steps) * STEP + 1).min(all.len());
        let start = start + came[start..most].iter().take_while(|came| **came).count();
        let end = start + came[start..most].iter().take_while(|came| !**came).count();
        came[start..end].fill(true);
        match assembly.place(start as u64, &all[start..end]) {
            Ok(false) => {}
            Ok(true) => break,
            Err(_) => {
                assert!(!is_true, "what is true is taken for a lie");
                return;
            }
        }
    }
    assert!(assembly.head.len() + assembly.body.len() <= MAX_HEAD + MAX_BODY);
    if let Ok((got_head, got_body)) = assembly.finish() {
        let fits = got_head.len() <= MAX_HEAD && got_body.len() <= MAX_BODY;
        assert!(fits, "{} and {} bytes", got_head.len(), got_body.len());
        assert!(!is_true || (got_head, got_body) == (head, body), "other bytes come out");
    }
}
