//! A parcel with more than its content: repair symbols behind it let the receiver make up for packets
//! that were lost, and so spare the last parcels of a transfer the round trips of being sent again.
//! The code is Reed-Solomon over pieces of 512 bytes: any as many pieces as the content has will do.

use super::parcel::Lie;

/// Bytes of one symbol. Smaller ones fit the gaps that lost packets leave more closely; of this size a
/// packet of 1,400 bytes costs 1.4 times its length.
pub(super) const SYMBOL: usize = 512;
/// Packets are taken to carry so many bytes of content.
const PACKET: f64 = 1400.0;
/// What random loss scatters about its mean, in standard deviations; bursts scatter more.
const MARGIN: f64 = 5.0;
/// The most repair symbols that a parcel may have: the bits that its header has for the number.
const MOST_REPAIR: usize = (1 << 12) - 1;

/// Shorter content is not worth a decoder, whose cost hardly depends on the length.
const LEAST: usize = 64 * 1024;

/// How many repair symbols bring content of so many bytes through a path that loses this share of
/// packets, nearly always.
pub(super) fn repair_for(length: usize, loss: f64) -> usize {
    let loss = loss.clamp(0.0, 0.3);
    if length < LEAST || loss == 0.0 {
        return 0;
    }
    let symbols = length.div_ceil(SYMBOL) as f64;
    let packets = (length as f64 / PACKET).max(1.0);
    let hit = loss * (1.0 + SYMBOL as f64 / PACKET) + MARGIN * (loss / packets).sqrt();
    ((symbols * hit).ceil() as usize + 2).min(MOST_REPAIR).min(most(length))
}

/// The bytes of repair symbols that a receiver takes for content of this length.
pub(super) fn most_repair(length: usize) -> usize {
    most(length).saturating_mul(SYMBOL)
}

/// What a receiver takes of repair symbols for content of this length.
fn most(length: usize) -> usize {
    length.div_ceil(SYMBOL) + 16
}

/// The repair symbols of a content that comes in two pieces.
pub(super) fn repair_of(head: &[u8], body: &[u8], repair: usize) -> Option<Vec<u8>> {
    let mut content = Vec::with_capacity(head.len() + body.len() + SYMBOL);
    content.extend_from_slice(head);
    content.extend_from_slice(body);
    let symbols = content.len().div_ceil(SYMBOL);
    content.resize(symbols * SYMBOL, 0);
    let coded = reed_solomon_simd::encode(symbols, repair, content.chunks(SYMBOL)).ok()?;
    Some(coded.concat())
}

/// Puts a parcel with repair symbols together.
pub(super) struct Coded {
    head: usize,
    /// Bytes of head and body.
    length: usize,
    symbols: usize,
    repair: usize,
    /// Head, body and repair symbols, as far as they have come.
    bytes: Vec<u8>,
    /// Bytes that have come of each symbol.
    came: Vec<u16>,
    whole: usize,
}

impl Coded {
    /// For lengths that were held against their limits; a breach if there are more repair symbols than
    /// any loss could need.
    pub(super) fn new(head: usize, body: usize, repair: usize) -> Result<Self, Lie> {
        let length = head + body;
        if repair > most(length) || length < LEAST {
            return Err(Lie::TooMuchRepair);
        }
        let symbols = length.div_ceil(SYMBOL);
        let came = vec![0; symbols + repair];
        Ok(Self { head, length, symbols, repair, bytes: Vec::new(), came, whole: 0 })
    }

    /// The bytes that the parcel has behind its lengths.
    pub(super) fn all(&self) -> usize {
        self.length + self.repair * SYMBOL
    }

    /// Places bytes, each of which comes once. True when enough has come.
    pub(super) fn place(&mut self, start: usize, bytes: &[u8]) -> Result<bool, Lie> {
        let end = start + bytes.len();
        if end > self.all() {
            return Err(Lie::TrailingBytes);
        }
        if bytes.is_empty() {
            return Ok(self.is_enough());
        }
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
        let mut at = start;
        while at < end {
            let (symbol, symbol_end) = self.symbol_at(at);
            let upto = symbol_end.min(end);
            self.came[symbol] += (upto - at) as u16;
            self.whole += usize::from(usize::from(self.came[symbol]) == self.length_of(symbol));
            at = upto;
        }
        Ok(self.is_enough())
    }

    pub(super) fn is_enough(&self) -> bool {
        self.whole >= self.symbols
    }

    /// The symbol that this byte is of, and where it ends.
    fn symbol_at(&self, at: usize) -> (usize, usize) {
        if at < self.length {
            let symbol = at / SYMBOL;
            return (symbol, ((symbol + 1) * SYMBOL).min(self.length));
        }
        let nth = (at - self.length) / SYMBOL;
        (self.symbols + nth, self.length + (nth + 1) * SYMBOL)
    }

    /// Bytes of a symbol that are sent; the content's last one ends with the content.
    fn length_of(&self, symbol: usize) -> usize {
        if symbol + 1 == self.symbols { self.length - symbol * SYMBOL } else { SYMBOL }
    }

    /// Head and body, once enough has come.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Vec<u8>), Lie> {
        if !self.is_enough() {
            return Err(Lie::EndsEarly);
        }
        let repaired = self.bytes.split_off(self.length.min(self.bytes.len()));
        let mut content = std::mem::take(&mut self.bytes);
        content.resize(self.symbols * SYMBOL, 0);
        let is_whole = |symbol: usize| usize::from(self.came[symbol]) == self.length_of(symbol);
        if !(0..self.symbols).all(is_whole) {
            let originals = content.chunks(SYMBOL).enumerate().filter(|(nth, _)| is_whole(*nth));
            let repairs = repaired.chunks_exact(SYMBOL).enumerate();
            let repairs = repairs.filter(|(nth, _)| is_whole(self.symbols + nth));
            let restored = reed_solomon_simd::decode(self.symbols, self.repair, originals, repairs)
                .map_err(|_| Lie::EndsEarly)?;
            for (nth, symbol) in restored {
                content[nth * SYMBOL..(nth + 1) * SYMBOL].copy_from_slice(&symbol);
            }
        }
        content.truncate(self.length);
        let body = content.split_off(self.head);
        Ok((content, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Random;

    /// Cuts a parcel into packets, loses some of them, and gives what is left in another order.
    fn through(
        random: &mut Random,
        head: &[u8],
        body: &[u8],
        loss: f64,
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        let repair = repair_for(head.len() + body.len(), loss);
        let mut all = [head, body].concat();
        all.extend(repair_of(head, body, repair).unwrap());
        let mut coded = Coded::new(head.len(), body.len(), repair).unwrap();
        assert_eq!(coded.all(), all.len());
        let mut pieces: Vec<_> = all.chunks(1389).enumerate().collect();
        for at in (1..pieces.len()).rev() {
            pieces.swap(at, random.below(at as u64 + 1) as usize);
        }
        for (nth, piece) in pieces {
            if random.below(10_000) as f64 >= loss * 10_000.0
                && coded.place(nth * 1389, piece).unwrap()
            {
                return coded.finish().ok();
            }
        }
        None
    }

    #[test]
    fn lost_packets_need_not_come_again() {
        let mut random = Random(7);
        for loss in [0.001, 0.01, 0.05, 0.15] {
            let mut failed = 0;
            for round in 0..60 {
                let length = if round % 3 == 0 { 1 << 20 } else { 65_536 + random.below(900_000) };
                let (head, body) = (random.bytes(40), random.bytes(length as usize));
                match through(&mut random, &head, &body, loss) {
                    Some(got) => assert!(got == (head, body), "loss {loss}, round {round}"),
                    None => failed += 1,
                }
            }
            assert!(failed <= 3, "{failed} of 60 were not enough at a loss of {loss}");
        }
    }

    #[test]
    fn the_cost_is_near_what_is_lost() {
        let share = |loss| (repair_for(1 << 20, loss) * SYMBOL) as f64 / f64::from(1 << 20);
        assert_eq!(share(0.0), 0.0);
        assert!(share(0.01) < 0.04, "{}", share(0.01));
        assert!(share(0.05) < 0.12, "{}", share(0.05));
    }

    #[test]
    fn lies_about_repair_are_seen() {
        assert!(matches!(Coded::new(0, 65_536, 145), Err(Lie::TooMuchRepair)));
        assert!(matches!(Coded::new(100, 60_000, 1), Err(Lie::TooMuchRepair)));
        assert_eq!(repair_for(60_000, 0.1), 0);
        let mut coded = Coded::new(10, 65_526, 1).unwrap();
        assert_eq!(coded.place(66_000, &[0; 49]), Err(Lie::TrailingBytes));
        assert_eq!(coded.place(65_536, &[0; 511]), Ok(false));
        assert!(matches!(coded.finish(), Err(Lie::EndsEarly)));
    }
}
