//! What goes out again: what is due, what could not be read before, and what a receiver lacks.

use std::ops::Range;

use super::{Feed, MOST_DUE, Result, UnderWay};
use crate::block::BLOCK;
use crate::frame::Class;
use crate::send::SendEvent;
use crate::send::engine::now_ms;
use crate::send::loader::{Job, Part};
use crate::send::row::{GenerationRow, Row};
use crate::symbol::ObjectKind;
use crate::want::WantList;

impl Feed<'_> {
    /// Sends an object again, or some blocks of it.
    pub(super) fn send_again(
        &mut self,
        object: u64,
        row: &Row,
        blocks: Option<Vec<Range<u64>>>,
        class: Class,
    ) -> Result<()> {
        let is_pass = blocks.is_none();
        let all = row.length.div_ceil(BLOCK as u64);
        let blocks = blocks.unwrap_or_else(|| vec![Range { start: 0, end: all }]);
        let left = blocks.iter().map(|range| range.end - range.start).sum();
        let job = if row.kind == ObjectKind::Page {
            let Some(bytes) = self.ledger.page(object)? else { return Ok(()) };
            let class = if class == Class::Repeat { class } else { Class::Page };
            Job::Bytes { object, kind: ObjectKind::Page, bytes, class }
        } else {
            let Some(files) = self.parts(object, row)? else { return self.tell_anew(object) };
            Job::Again { object, length: row.length, files, blocks, class }
        };
        self.under_way.insert(object, UnderWay { left, is_pass });
        self.again.push_back(job);
        Ok(())
    }

    /// The files of an object as the snapshot knows them; None if one is gone, or has another content now.
    fn parts(&self, object: u64, row: &Row) -> Result<Option<Vec<Part>>> {
        let (mut parts, mut end) = (Vec::new(), 0);
        for (offset, path) in self.ledger.files_of(object)? {
            let Some(known) = self.ledger.snapshot().get(&path)? else { return Ok(None) };
            if offset != end {
                return Ok(None);
            }
            end += known.stamp.size;
            parts.push(Part { path, size: known.stamp.size, stamp: known.stamp });
        }
        Ok((end == row.length).then_some(parts))
    }

    /// What is due goes to be read again, where there is room.
    pub(super) fn repeat(&mut self) -> Result<()> {
        if !self.again.is_empty() {
            return Ok(());
        }
        for _ in 0..MOST_DUE.min(self.asked.len()) {
            let Some((object, blocks)) = self.asked.pop_front() else { break };
            if self.under_way.contains_key(&object) {
                self.asked.push_back((object, blocks));
            } else if let Some(row) = self.ledger.row(object)? {
                self.send_again(object, &row, blocks, Class::Repeat)?;
            }
        }
        let under_way = &self.under_way;
        let is_busy = |object| under_way.contains_key(&object);
        for (object, row) in self.ledger.due(now_ms(), MOST_DUE, is_busy)? {
            let class =
                if row.passes == 0 { self.first_class(row.generation) } else { Class::Repeat };
            self.send_again(object, &row, None, class)?;
        }
        let (waiting, repeats) = self.ledger.counts()?;
        self.control.tell(|told| (told.waiting, told.repeats) = (waiting, repeats));
        Ok(())
    }

    /// What a receiver lacks.
    pub(super) fn resend(&mut self, list: &WantList) -> Result<()> {
        let mut lost = 0_u64;
        self.resend_pages(list)?;
        let mut ranges = list.blocks.iter().peekable();
        while let Some(range) = ranges.next() {
            let Some(row) = self.ledger.row(range.of)? else {
                lost += 1;
                continue;
            };
            let all = row.length.div_ceil(BLOCK as u64);
            let clip = |range: &crate::want::Range| {
                let start = u64::from(range.first).min(all);
                start..(start + u64::from(range.count)).min(all)
            };
            let mut blocks = vec![clip(range)];
            while let Some(next) = ranges.next_if(|next| next.of == range.of) {
                blocks.push(clip(next));
            }
            blocks.retain(|blocks| !blocks.is_empty());
            if !blocks.is_empty() {
                self.asked.push_back((range.of, Some(blocks)));
            }
        }
        self.event(SendEvent::Resending {
            pages: list.pages.len() as u64,
            blocks: list.blocks.iter().map(|range| u64::from(range.count)).sum(),
            changed: lost,
        });
        Ok(())
    }

    /// Pages that a receiver lacks. A range of a generation that there is not stands for all before the next one that is
    /// named; numbers are not always one after another, and a receiver does not know them.
    fn resend_pages(&mut self, list: &WantList) -> Result<()> {
        let rows = self.ledger.generations()?;
        // Only a manifest of the whole tree helps one that stands where no generation goes on that is kept.
        let known = list.generation;
        let goes_on = |(number, row): &(u64, GenerationRow)| {
            row.base == known || row.base == 0 && *number > known
        };
        self.wants_full |= known != self.last_generation && !rows.iter().any(goes_on);
        let mut ranges = list.pages.iter().peekable();
        while let Some(range) = ranges.next() {
            let next = ranges.peek().map_or(u64::MAX, |next| next.of);
            let first = rows.partition_point(|(number, _)| *number < range.of);
            let named =
                rows[first..].iter().take_while(|(number, _)| *number < next.max(range.of + 1));
            for (number, row) in named {
                let (from, count) =
                    if *number == range.of { (range.first, range.count) } else { (0, u32::MAX) };
                // Beyond the last page is the end.
                let last = u64::from(from) + u64::from(count);
                if let Some(end) = row.end.clone().filter(|_| last > row.pages.len() as u64) {
                    self.control.generation_ended(*number, end);
                }
                let pages = row.pages.iter().skip(from as usize).take(count as usize);
                self.asked.extend(pages.map(|page| (*page, None)));
                if *number == range.of {
                    break;
                }
            }
        }
        Ok(())
    }
}
