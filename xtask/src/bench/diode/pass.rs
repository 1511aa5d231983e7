//! One pass: a fresh sender sends the source once to a fresh receiver, and what that took.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Track;
use super::ends::{Ends, Running, completes};
use super::link::Link;
use crate::bench::data::Load;
use crate::bench::machine;
use crate::bench::processes::{self, Watch};
use crate::bench::race::Measurement;

/// The longest that a sender may take.
const AT_MOST: Duration = Duration::from_secs(300);

/// How long after the sender's end the receiver may publish nothing, before what is missing counts as lost:
/// nothing is on its way longer, but its disk may be behind.
const AFTER: Duration = Duration::from_secs(10);

/// How often it is asked how far it is.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long after that the sender's last words may take.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How often the receiver is asked for news, which is as exact as times are.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What one pass came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pass {
    /// Seconds to the moment at which the receiver said that its tree is complete, and what both ends took;
    /// the time is that of the sender where the tree was not complete.
    pub cost: Measurement,
    /// Files that did not arrive.
    pub lost_files: u64,
    /// Frames that were sent.
    pub frames: u64,
    /// Packets that were lost on purpose.
    pub dropped: u64,
    /// Frames that never came to the receiving host, as its haul says.
    pub lost_link: u64,
    /// Frames that its kernel dropped because the program was slow.
    pub lost_kernel: u64,
    /// Frames that the program dropped.
    pub lost_program: u64,
    /// Blocks for which the disk was too slow.
    pub lost_disk: u64,
    /// Blocks that arrived, and those of them that needed repair.
    pub blocks: (u64, u64),
    /// Packets that the receiving host has sent.
    pub back: u64,
}

impl Pass {
    /// What was lost that no link has lost.
    pub fn lost_by_us(&self) -> u64 {
        self.lost_kernel + self.lost_program + self.lost_disk
    }

    /// Why it is not as it should be; none if it is.
    pub fn fault(&self, per_mille: u32) -> Option<String> {
        let counts = [
            ("files lost", self.lost_files),
            ("packets dropped by the kernel", self.lost_kernel),
            ("packets dropped by haul", self.lost_program),
            ("blocks dropped because of the disk", self.lost_disk),
            // A link that loses nothing is this machine's, and so are its losses.
            ("packets lost between the devices", if per_mille == 0 { self.lost_link } else { 0 }),
        ];
        let told = counts.iter().filter(|(_, count)| *count > 0);
        let told: Vec<String> = told.map(|(what, count)| format!("{count} {what}")).collect();
        (!told.is_empty()).then(|| told.join(", "))
    }

    /// Bytes of a load per second, if all of it arrived.
    pub fn goodput(&self, load: Load) -> Option<f64> {
        (self.lost_files == 0).then(|| load.bytes() as f64 / self.cost.wall)
    }
}

/// How a sender's run ended.
pub struct Sent {
    /// What it took; of the time see [`Pass::cost`].
    pub cost: Measurement,
    /// Whether the receiver's tree is complete.
    pub is_complete: bool,
    /// The receiver's event that said so.
    pub event: Option<Value>,
    /// What the sender has told.
    pub events: Vec<(f64, Value)>,
}

/// How many files a receiver has published, since when, and when it was asked.
struct Progress {
    published: Option<u64>,
    at: Instant,
    asked: Instant,
}

impl Progress {
    fn stands_still(&mut self, ends: &Ends<'_>) -> Result<bool> {
        if self.asked.elapsed() < ASK_EVERY {
            return Ok(false);
        }
        self.asked = Instant::now();
        let now = ends.status()?["published"].as_u64();
        if now != self.published {
            (self.published, self.at) = (now, self.asked);
        }
        Ok(self.at.elapsed() > AFTER)
    }
}

impl Track<'_> {
    /// Sends the load that is in the source, once.
    pub fn pass(&self, link: &Link, load: Load, rate: u32) -> Result<Pass> {
        self.place.clear()?;
        let before = (link.back()?, link.dropped()?);
        let ends = Ends::new(self, link)?;
        let mut receiver = ends.receive(&[])?;
        let sent = self.send_once(&ends, &mut receiver, rate, Some(1))?;
        let status = ends.status()?;
        let counts = (link.back()? - before.0, link.dropped()? - before.1);
        let pass = pass(&status, &sent, load, counts);
        receiver.stop()?;
        if sent.is_complete {
            self.place.check_and_clear(load)?;
        }
        Ok(pass)
    }

    /// Runs a sender to its end, and waits until the receiver has all of a generation, if one is to come.
    pub fn send_once(
        &self,
        ends: &Ends<'_>,
        receiver: &mut Running,
        rate: u32,
        generation: Option<u64>,
    ) -> Result<Sent> {
        machine::warm_memory();
        let far = receiver.process.id();
        let far_before = processes::cpu_seconds(far);
        processes::forget_peak(far);
        let near_before = processes::own_children_seconds();
        let began = Instant::now();
        let mut sender = ends.send(rate, &["--once"])?;
        let watch = Watch::start(sender.process.id(), Some(far), AT_MOST);
        let (mut complete, mut near) = (None, None);
        let mut heard_last = false;
        let mut events = Vec::new();
        let mut progress = Progress { published: None, at: began, asked: began };
        loop {
            for event in receiver.news()? {
                if complete.is_none() && generation.is_some_and(|it| completes(&event, it)) {
                    complete = Some((began.elapsed().as_secs_f64(), event));
                } else {
                    heard_last |= event["event"] == "sender_stopped";
                }
            }
            let now = began.elapsed().as_secs_f64();
            events.extend(sender.news()?.into_iter().map(|event| (now, event)));
            if near.is_none()
                && let Some(status) = sender.process.ended()?
            {
                near = Some((now, processes::own_children_seconds() - near_before));
                if !status.success() {
                    bail!("the sender: {status}: {}", sender.said());
                }
            }
            if let Some((ended, _)) = near {
                let waited = now - ended;
                // How many frames were sent is among the last words.
                let is_told = heard_last || waited > LAST_WORDS.as_secs_f64();
                let is_over = complete.is_some() || generation.is_none();
                if is_told && (is_over || progress.stands_still(ends)?) {
                    break;
                }
            }
            if receiver.process.ended()?.is_some() {
                bail!("the receiver has ended: {}", receiver.said());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        events
            .extend(sender.news()?.into_iter().map(|event| (began.elapsed().as_secs_f64(), event)));
        let memory = watch.finish();
        let (ended, near) = near.unwrap_or_default();
        let cpu = (near, processes::cpu_seconds(far) - far_before);
        let wall = complete.as_ref().map_or(ended, |(at, _)| *at);
        Ok(Sent {
            cost: Measurement { wall, cpu, memory },
            is_complete: complete.is_some(),
            event: complete.map(|(_, event)| event),
            events,
        })
    }

    /// Writes a load as all that there is to send.
    pub fn lay(&self, load: Load) -> Result<()> {
        self.place.clear_source()?;
        load.write(&self.place.source())?;
        // What is written back while a pass runs would be in its figures.
        let _ = fs::File::open(self.place.source()).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

/// The figures of a pass from what both ends say, and from the packets that were sent back and dropped on purpose.
pub fn pass(status: &Value, sent: &Sent, load: Load, (back, dropped): (u64, u64)) -> Pass {
    let count = |name: &str| status[name].as_u64().unwrap_or(0);
    let lost_files = match sent.is_complete {
        true => 0,
        // Of a list that did not arrive nothing is known to be missing.
        false => load.files().saturating_sub(count("published")).max(1),
    };
    Pass {
        cost: sent.cost,
        lost_files,
        frames: status["sender"]["frames"].as_u64().unwrap_or(0),
        dropped,
        lost_link: count("lost_link"),
        lost_kernel: count("dropped_kernel"),
        lost_program: count("dropped_program"),
        lost_disk: count("dropped_disk_too_slow"),
        blocks: (count("blocks"), count("restored")),
        back,
    }
}

#[cfg(test)]
mod tests;
