//! Answers: what is missing, as a list to carry back and as paths, and what the brake and the quarantine hold.

use std::sync::mpsc::channel;
use std::time::{Duration, UNIX_EPOCH};

use files::RelPath;

use super::{Keeper, Result};
use crate::block::BLOCK;
use crate::receive::journal::{Wanted, What};
use crate::receive::note::{Ask, Job};
use crate::want::{MOST_RANGES, Range, WantList};

/// Rows that are gone through at a time.
const BATCH: usize = 1000;

/// So many generations before the last are named one by one.
const NEAREST: u64 = 63;

/// How long the thread that writes blocks may take to say what a staged object lacks: it reads what is there.
const STAGED_WITHIN: Duration = Duration::from_secs(600);

impl Keeper {
    pub(super) fn answer(&mut self, ask: Ask) -> Result {
        // Who asked may have gone.
        match ask {
            Ask::Want { time, reply } => {
                let text = self.want_list(time)?.to_text(&self.context.options.identity);
                let _ = reply.send(text);
            }
            Ask::Release { reply } => drop(reply.send(self.release()?)),
            Ask::Restore { path, reply } => drop(reply.send(self.restore(&path)?)),
            Ask::Missing { limit, reply } => drop(reply.send(self.missing(limit)?)),
            Ask::Quarantined { limit, reply } => {
                let _ = reply.send(self.list_quarantined(limit)?);
            }
        }
        Ok(())
    }

    fn missing(&self, limit: usize) -> Result<Vec<RelPath>> {
        let (mut missing, mut after): (Vec<RelPath>, Option<Wanted>) = (Vec::new(), None);
        while missing.len() < limit {
            let wanted =
                self.tx().wanted_after(after.as_ref(), BATCH.min(limit - missing.len()))?;
            let Some(last) = wanted.last() else { break };
            after = Some(last.clone());
            missing.extend(wanted.into_iter().map(|wanted| wanted.path));
        }
        missing.sort();
        Ok(missing)
    }

    fn want_list(&mut self, time: std::time::SystemTime) -> Result<WantList> {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let pages = self.wanted_pages();
        Ok(WantList {
            receiver: self.context.options.identity.public_key(),
            sender: self.context.line.identity,
            time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            generation: self.place.whole,
            pages,
            blocks: self.wanted_blocks()?,
        })
    }

    /// Pages that are known to be missing. Where the end of a generation is not known, all behind the last that has come.
    /// Numbers go up in leaps when the sender begins anew, so the first one stands for all before the next that is named.
    fn wanted_pages(&self) -> Vec<Range> {
        let place = &self.place;
        let is_open = place.generation > place.whole;
        let mut first = if is_open { place.generation } else { place.whole.saturating_add(1) };
        let known = self.pages.last_key_value().map_or(0, |((generation, _), _)| *generation);
        let ended = self.ends.last_key_value().map_or(0, |(generation, _)| *generation);
        let astray = self.set_back.map_or(0, |(generation, _)| generation);
        let last = self.heard.max(known).max(ended).max(astray);
        // What a full manifest comes behind is not needed any more.
        let full_pages =
            self.pages.iter().filter(|((_, page), (base, _))| *page == 0 && *base == 0);
        let full_ends = self.ends.values().filter(|end| end.base == 0);
        let full = full_pages.map(|((at, _), _)| *at).chain(full_ends.map(|end| end.generation));
        first = full.max().map_or(first, |full| full.max(first));
        let numbers = match last.checked_sub(first) {
            Some(count) if count <= NEAREST => vec![first..=last],
            Some(_) => vec![first..=first, last - NEAREST..=last],
            None => Vec::new(),
        };
        let mut ranges = Vec::new();
        for generation in numbers.into_iter().flatten() {
            let mut next = if is_open && generation == place.generation { place.page } else { 0 };
            for (_, page) in
                self.pages.range((generation, 0)..=(generation, u32::MAX)).map(|(at, _)| at)
            {
                if *page > next {
                    ranges.push(Range { of: generation, first: next, count: page - next });
                }
                next = next.max(page.saturating_add(1));
            }
            let end = self.ends.get(&generation).map_or(u32::MAX, |end| end.pages);
            if end > next {
                ranges.push(Range { of: generation, first: next, count: end - next });
            }
        }
        ranges
    }

    fn wanted_blocks(&mut self) -> Result<Vec<Range>> {
        let (mut ranges, mut after): (Vec<Range>, Option<Wanted>) = (Vec::new(), None);
        loop {
            let wanted = self.tx().wanted_after(after.as_ref(), BATCH)?;
            let Some(last) = wanted.last().filter(|_| ranges.len() < MOST_RANGES) else { break };
            after = Some(last.clone());
            for wanted in wanted {
                if ranges.last().is_some_and(|range| range.of == wanted.object) {
                    continue;
                }
                let entry = self.tx().entry(&wanted.path)?;
                let Some(What::File { size, .. }) = entry.map(|entry| entry.what) else { continue };
                if size <= BLOCK as u64 {
                    ranges.push(Range { of: wanted.object, first: 0, count: 1 });
                } else {
                    self.missing_blocks(wanted.object, size, &mut ranges);
                }
            }
        }
        ranges.truncate(MOST_RANGES);
        Ok(ranges)
    }

    fn missing_blocks(&self, object: u64, size: u64, ranges: &mut Vec<Range>) {
        let all = vec![(0, (size - 1) / BLOCK as u64)];
        let missing = match self.staged.contains_key(&object) && !self.whole.contains_key(&object) {
            true => {
                let (reply, answer) = channel();
                self.job(Job::Missing { object, length: size, reply });
                answer.recv_timeout(STAGED_WITHIN).unwrap_or(all)
            }
            false if self.whole.contains_key(&object) => return,
            false => all,
        };
        for (first, last) in missing {
            let count = u32::try_from(last - first + 1);
            if let (Ok(first), Ok(count)) = (u32::try_from(first), count) {
                ranges.push(Range { of: object, first, count });
            }
        }
    }
}
