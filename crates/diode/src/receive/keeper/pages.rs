//! Pages of manifests: put together, checked, and applied in the order of generation and page, as they come. One that
//! comes before its turn waits in the journal.

use std::time::Duration;

use super::{Keeper, Result};
use crate::block::BLOCK;
use crate::event::{DiodeEvent, Refusal};
use crate::manifest::{Change, MOST_PAGE, Page, PageError};
use crate::receive::note::Feedback;

/// Bytes of pages that are being put together, and that wait in the journal.
const MOST_PARTS: usize = 64 << 20;
const MOST_WAITING: u64 = 1 << 30;

/// A full manifest waits so long for the deltas before it: what they move would have to come anew.
const PATIENCE: Duration = Duration::from_secs(5);

/// A page of which some blocks have come.
pub(super) struct Parts {
    blocks: Vec<Option<Vec<u8>>>,
    length: u64,
}

impl Keeper {
    pub(super) fn page_part(
        &mut self,
        object: u64,
        length: u64,
        block: u32,
        bytes: Vec<u8>,
    ) -> Result {
        if self.settled.contains(object) || length > MOST_PAGE as u64 {
            self.feed(Feedback::Memory(bytes));
            return Ok(());
        }
        let count = (length as usize).div_ceil(BLOCK);
        let parts =
            self.parts.entry(object).or_insert_with(|| Parts { blocks: vec![None; count], length });
        if parts.length != length || block as usize >= count {
            return Ok(());
        }
        parts.blocks[block as usize] = Some(bytes);
        if parts.blocks.iter().all(Option::is_some) {
            let packed = self.parts.remove(&object).map(|parts| parts.blocks).unwrap_or_default();
            return self
                .page_arrived(object, packed.into_iter().flatten().collect::<Vec<_>>().concat());
        }
        let bytes_of = |parts: &Parts| parts.blocks.iter().flatten().map(Vec::len).sum::<usize>();
        if self.parts.values().map(bytes_of).sum::<usize>() > MOST_PARTS {
            let others = self.parts.keys().copied().filter(|other| *other != object);
            if let Some(other) = others.min() {
                self.parts.remove(&other);
                self.feed(Feedback::Again(other));
            }
        }
        Ok(())
    }

    fn page_arrived(&mut self, object: u64, packed: Vec<u8>) -> Result {
        let page = match self.unpack(&packed) {
            Ok((page, _)) => page,
            Err(why) => {
                self.refuse(why);
                self.feed(Feedback::Again(object));
                return Ok(());
            }
        };
        let (generation, number) = (page.generation, page.page);
        let place = &self.place;
        let is_applied = generation <= place.whole
            || generation < place.generation
            || generation == place.generation && number < place.page;
        if generation <= place.whole {
            self.refuse(Refusal::OldGeneration);
        }
        if !is_applied && !self.is_astray(generation, page.base) {
            let waiting: u64 = self.pages.values().map(|(_, length)| length).sum();
            let is_known = self.pages.contains_key(&(generation, number));
            if !is_known && waiting + packed.len() as u64 > MOST_WAITING {
                self.feed(Feedback::Again(object));
                return Ok(());
            }
            self.tx().put_page((generation, number), page.base, object, &packed)?;
            self.pages.insert((generation, number), (page.base, packed.len() as u64));
        }
        self.settle(object)?;
        self.apply_pages()
    }

    /// Whether a generation builds on one that others were built on which are here: then the sender knows nothing of these,
    /// and what it tells would make something of the tree that it never was. Only a full manifest helps.
    pub(super) fn is_astray(&mut self, generation: u64, base: u64) -> bool {
        let known = self.place.whole.max(self.place.generation);
        let is_astray = base > 0 && base < known && known < generation;
        if is_astray {
            let (last, before) = self.set_back.unwrap_or_default();
            self.set_back = Some((generation.max(last), base));
            self.is_dirty = true;
            if before != base {
                self.tell(&DiodeEvent::SenderSetBack { generation, base, known });
            }
        }
        is_astray
    }

    /// A page and its digest.
    fn unpack(&self, packed: &[u8]) -> Result<(Page, [u8; 32]), Refusal> {
        let bytes = zstd::bulk::decompress(packed, MOST_PAGE).map_err(|_| Refusal::Unreadable)?;
        let line = &self.context.line;
        match Page::read(&bytes, &line.identity, line.epoch) {
            Ok(page) => Ok((page, Page::digest(&bytes))),
            Err(PageError::Signature) => Err(Refusal::Unsigned),
            Err(_) => Err(Refusal::Unreadable),
        }
    }

    /// Applies the pages whose turn it is.
    pub(super) fn apply_pages(&mut self) -> Result {
        while let Some((generation, number)) = self.next_page() {
            let (packed, object) = self.tx().page(generation, number)?.unwrap_or_default();
            let unpacked = self.unpack(&packed).ok();
            let fits = |page: &Page| {
                (page.generation, page.page) == (generation, number)
                    && (number == 0
                        || page.before == self.place.last && page.base == self.place.base)
            };
            let Some((page, digest)) = unpacked.filter(|(page, _)| fits(page)) else {
                // Another story than that of the pages before it, though signed: it is asked for once more.
                self.forget_page(generation, number)?;
                if self.settled.remove(object) {
                    self.feed(Feedback::Again(object));
                }
                continue;
            };
            if number == 0 && self.place.generation != generation {
                self.begin_generation(&page)?;
            }
            self.apply(&page.entries)?;
            self.highest_page = self.highest_page.max(object);
            self.place.page = number.saturating_add(1);
            (self.place.entry, self.place.moving, self.place.last) = (0, 0, digest);
            self.forget_page(generation, number)?;
            self.publish_claimed()?;
            self.end_pages()?;
        }
        Ok(())
    }

    fn begin_generation(&mut self, page: &Page) -> Result {
        let place = &mut self.place;
        (place.generation, place.base) = (page.generation, page.base);
        (place.page, place.entry, place.moving, place.last) = (0, 0, 0, [0; 32]);
        self.waiting_since = None;
        self.set_back = None;
        let passed: Vec<_> =
            self.pages.range(..(page.generation, 0)).map(|(place, _)| *place).collect();
        for (generation, number) in passed {
            self.forget_page(generation, number)?;
        }
        Ok(())
    }

    fn apply(&mut self, entries: &[Change]) -> Result {
        if self.place.moving > self.place.entry {
            self.finish_moves(entries)?;
        }
        let mut at = self.place.entry as usize;
        while at < entries.len() {
            self.place.entry = at as u32;
            match &entries[at] {
                Change::Moved { .. } => at = self.moves(entries, at)?,
                change => {
                    self.change(change)?;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn forget_page(&mut self, generation: u64, number: u32) -> Result {
        self.is_dirty = true;
        self.pages.remove(&(generation, number));
        self.tx().remove_page(generation, number)?;
        Ok(())
    }

    /// The page whose turn it is: the next of the generation that is applied, or the first of one that builds on it, or of
    /// a full manifest.
    fn next_page(&mut self) -> Option<(u64, u32)> {
        let place = &self.place;
        let is_whole = place.whole == place.generation;
        let next = (place.generation, place.page);
        if !is_whole && self.pages.contains_key(&next) {
            return Some(next);
        }
        let firsts = || {
            let later = self.pages.range((place.generation.saturating_add(1), 0)..);
            later.filter(|((_, number), _)| *number == 0).map(|(at, (base, _))| (*at, *base))
        };
        let delta = firsts().find(|(_, base)| is_whole && *base > 0 && *base == place.whole);
        if let Some((at, _)) = delta {
            return Some(at);
        }
        let (at, _) = firsts().find(|(_, base)| *base == 0)?;
        let is_next = is_whole && at.0 - 1 == place.whole;
        // What comes before it has nothing to wait for that would be taken.
        if place.generation == 0 || is_next || self.set_back.is_some() {
            return Some(at);
        }
        let since = *self.waiting_since.get_or_insert(self.now);
        let waited = self.now.duration_since(since).unwrap_or_default();
        (waited >= PATIENCE).then_some(at)
    }
}
