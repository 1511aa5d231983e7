//! Carries messages, parcels and results between a source and a target in virtual time, and holds what
//! comes out against what must be true of every transfer.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::super::{JobResult, Output, Source};
use super::world::{Rng, SourceDisk, TargetDisk};
use crate::message::{
    Deletion, Existing, MAX_WINDOW, MIN_WINDOW, Outcome, ParcelHead, SourceMessage, TargetMessage,
};
use crate::target::{self, Taken, Target, TargetOptions};

/// Microseconds of a world in which nothing takes longer than a second.
type Time = u64;

/// More than any seed needs; a transfer that takes more turns in a circle.
const MOST_EVENTS: usize = 200_000;

/// What a seed has drawn.
pub struct Plan {
    pub entries: u64,
    pub contents: bool,
    pub cuts: u32,
    /// How often, of a hundred times, something goes wrong.
    pub trouble: u64,
    /// The source does not wait for the target to begin.
    pub ahead: bool,
    /// Entries have long names and targets and many attributes.
    pub dear: bool,
    /// So many folders lie in each other.
    pub chain: u64,
    pub window: u64,
    pub credit: u64,
    pub options: TargetOptions,
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Self {
        let window = [MIN_WINDOW, MAX_WINDOW][rng.below(2) as usize];
        let existing = [Existing::Overwrite, Existing::Skip, Existing::Fail, Existing::Rename];
        Self {
            entries: 1 + rng.below(120),
            contents: rng.percent(30),
            cuts: rng.below(5) as u32,
            trouble: [0, 0, 1, 3][rng.below(4) as usize],
            ahead: rng.percent(50),
            dear: false,
            chain: 0,
            window,
            credit: (2 + rng.below(8)) << 20,
            options: TargetOptions {
                delta: rng.percent(70),
                existing: existing[rng.below(4) as usize],
                checksum: rng.percent(30),
                dry_run: rng.percent(5),
                reread: false,
                deletion: if rng.percent(20) { Deletion::All } else { Deletion::No },
                window,
                contents: true,
                rename_top: None,
                max_bytes: None,
            },
        }
    }
}

impl Plan {
    /// The same as a second reading.
    pub fn second_reading(self) -> Self {
        let options = TargetOptions {
            existing: Existing::Overwrite,
            checksum: true,
            dry_run: true,
            reread: true,
            deletion: Deletion::No,
            ..self.options
        };
        Self { options, ..self }
    }
}

enum Event {
    ToTarget(SourceMessage),
    ToSource(TargetMessage),
    Parcel(ParcelHead, u64),
    Read(JobResult, Option<(ParcelHead, u64)>),
    Looked(u64, Result<files::Attributes, String>),
    Done(target::JobResult),
    Walk,
    Cut,
    Join,
}

impl Event {
    /// Whether it is on the link, and so lost with it.
    fn is_carried(&self) -> bool {
        matches!(self, Self::ToTarget(_) | Self::ToSource(_) | Self::Parcel(..))
    }
}

/// How an entry ended, once at either side.
#[derive(Default)]
struct Ends {
    at_source: HashMap<u64, Outcome>,
    at_target: HashMap<u64, Outcome>,
}

pub struct Pair {
    rng: Rng,
    plan: Plan,
    source: Source,
    target: Target,
    tree: SourceDisk,
    disk: TargetDisk,
    now: Time,
    number: u64,
    queue: BinaryHeap<Reverse<(Time, u64)>>,
    events: HashMap<u64, Event>,
    /// When the last message of each direction arrives: control streams keep their order.
    last: [Time; 2],
    linked: bool,
    epoch: u64,
    ends: Ends,
    offered: u64,
    problems: u64,
    receipt: bool,
    /// The target's shell holds the body of an early parcel.
    held: bool,
}

impl Pair {
    pub fn new(mut rng: Rng, plan: Plan) -> Self {
        let options = TargetOptions { window: plan.window, ..plan.options.clone() };
        let reread = plan.options.reread;
        let mut source = if reread { Source::rereading() } else { Source::new() };
        source.set_window(plan.window);
        let tree = SourceDisk::grow(&mut rng, &plan);
        let (target, disk) = (Target::new(options, plan.credit), TargetDisk::new(&plan));
        let mut pair = Self {
            rng,
            source,
            target,
            tree,
            disk,
            now: 0,
            number: 0,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            last: [0; 2],
            linked: false,
            epoch: 0,
            ends: Ends::default(),
            offered: 0,
            problems: 0,
            receipt: false,
            held: false,
            plan,
        };
        pair.later(1, Event::Join);
        pair.later(1000, Event::Walk);
        pair
    }

    /// Runs until the source has the receipt, and then looks at the whole.
    pub fn run(mut self) {
        for _ in 0..MOST_EVENTS {
            self.drain();
            if self.receipt {
                return self.verdict();
            }
            let Some(Reverse((at, number))) = self.queue.pop() else {
                panic!("nothing is under way any more: {:#?} {:#?}", self.source, self.target);
            };
            self.now = at;
            if let Some(event) = self.events.remove(&number) {
                self.happen(event);
            }
        }
        panic!("it does not end");
    }

    fn later(&mut self, most: Time, event: Event) {
        let at = self.now + 1 + self.rng.below(most);
        self.at(at, event);
    }

    fn at(&mut self, at: Time, event: Event) {
        self.number += 1;
        self.queue.push(Reverse((at, self.number)));
        self.events.insert(self.number, event);
    }

    fn in_order(&mut self, way: usize, event: Event) {
        let at = (self.now + 1 + self.rng.below(20_000)).max(self.last[way] + 1);
        self.last[way] = at;
        self.at(at, event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToTarget(message) => {
                // What is sent must also be what can be read.
                let message = SourceMessage::decode(&message.encode()).unwrap();
                self.target
                    .message(message.clone())
                    .unwrap_or_else(|v| panic!("{v} by {message:?}"));
            }
            Event::ToSource(message) => {
                let message = TargetMessage::decode(&message.encode()).unwrap();
                self.source
                    .message(message.clone())
                    .unwrap_or_else(|v| panic!("{v} by {message:?}"));
            }
            Event::Parcel(head, body) => {
                let head = ParcelHead::decode(&head.encode(), body as usize).unwrap();
                let taken = self.target.parcel(&head, body);
                match taken.unwrap_or_else(|violation| panic!("{violation} by {head:?}")) {
                    Taken::Do(job) => self.start(job),
                    Taken::Hold => self.held = true,
                    Taken::Drop => {}
                }
            }
            Event::Looked(index, now) => self.source.looked(index, now),
            Event::Read(result, parcel) => {
                let fresh = result.epoch() == self.epoch;
                self.source.job_done(result);
                if let (Some((head, body)), true, true) = (parcel, fresh, self.linked) {
                    self.later(50_000, Event::Parcel(head, body));
                }
            }
            Event::Done(result) => self.target.job_done(result),
            Event::Walk => self.walk(),
            Event::Cut => self.cut(),
            Event::Join => self.join(),
        }
    }

    fn walk(&mut self) {
        let room = self.source.walk_room().min(256) as u64;
        let steps = if room == 0 { 0 } else { 1 + self.rng.below(room) };
        for _ in 0..steps {
            let Some(step) = self.tree.step() else { return };
            self.source.walked(step);
        }
        self.later(3000, Event::Walk);
    }

    fn cut(&mut self) {
        self.linked = false;
        self.events.retain(|_, event| !event.is_carried());
        self.source.link_lost();
        self.target.link_lost();
        self.held = false;
        self.epoch += 1;
        self.last = [0; 2];
        self.later(60_000, Event::Join);
    }

    fn join(&mut self) {
        self.linked = true;
        if self.plan.ahead && self.epoch == 0 {
            self.source.begin_ahead(!self.plan.options.dry_run);
        }
        self.target.link_up(self.source.seen()).unwrap();
        if self.plan.cuts > 0 {
            self.plan.cuts -= 1;
            self.later(150_000, Event::Cut);
        }
    }

    fn start(&mut self, job: target::Job) {
        if let target::Job::FinishFolder { placed, .. } = &job {
            let index = placed.as_ref().map_or(0, |placed| placed.entry.index);
            assert!(self.disk.finishing.insert(index), "folder {index} is finished twice");
        }
        let result = self.disk.run(&mut self.rng, job);
        self.later(40_000, Event::Done(result));
    }

    fn drain(&mut self) {
        while let Some(output) = self.source.poll_output() {
            self.source_says(output);
        }
        while let Some(output) = self.target.poll_output() {
            self.target_says(output);
        }
    }

    fn source_says(&mut self, output: Output) {
        match output {
            Output::Send(message) => {
                if let SourceMessage::Offer(entries) = &message {
                    let last = entries.last().map_or(0, |entry| entry.index);
                    self.offered = self.offered.max(last);
                }
                if self.linked {
                    self.in_order(0, Event::ToTarget(message));
                }
            }
            Output::Read(job) => {
                let (result, parcel) = self.tree.read(&mut self.rng, job);
                self.later(10_000, Event::Read(result, parcel));
            }
            Output::Look { read, after } => {
                let now = self.tree.glance(&mut self.rng, &read);
                self.later(after.as_micros() as u64, Event::Looked(read.index, now));
            }
            Output::Forget(_) | Output::Extras(_) => {}
            Output::Ended { entry, outcome, .. } => {
                let before = self.ends.at_source.insert(entry.index, outcome);
                assert_eq!(before, None, "entry {} ended twice", entry.index);
            }
            Output::Problem { .. } => self.problems += 1,
            Output::Receipt(_) => self.receipt = true,
            Output::Aborted { text, .. } => panic!("the target gave up: {text}"),
        }
    }

    fn target_says(&mut self, output: target::Output) {
        match output {
            target::Output::Send(message) => {
                if self.linked {
                    self.in_order(1, Event::ToSource(message));
                }
            }
            target::Output::Do(job) => self.start(job),
            target::Output::DoHeld(job) => {
                assert!(std::mem::take(&mut self.held), "there is a body to write");
                self.start(job);
            }
            target::Output::DropHeld => {
                assert!(std::mem::take(&mut self.held), "there is a body to drop");
            }
            target::Output::Ended { entry, outcome, .. } => {
                let late = self.disk.finishing.contains(&entry.parent);
                let failed = matches!(outcome, Outcome::Failed { .. });
                assert!(!late || failed, "entry {} ended in a finished folder", entry.index);
                let before = self.ends.at_target.insert(entry.index, outcome);
                assert_eq!(before, None, "entry {} ended twice", entry.index);
            }
        }
    }

    /// Every entry has ended once, alike on both sides, and both have counted the same.
    fn verdict(self) {
        let Ends { at_source, at_target } = &self.ends;
        let all = at_target.len() as u64;
        // The target may be done when a file that failed there is offered anew.
        let unanswered = at_source.iter().filter(|(index, _)| !at_target.contains_key(index));
        let mut given_up = 0;
        for (index, outcome) in unanswered {
            assert!(matches!(outcome, Outcome::Failed { .. }), "entry {index} was not answered");
            given_up += 1;
        }
        assert!(all + given_up <= self.offered, "every entry that was offered ends");
        assert!(all == self.offered || self.plan.trouble > 0, "every entry that was offered ends");
        for (index, theirs) in at_target {
            assert!((1..=all).contains(index));
            match (theirs, at_source.get(index)) {
                // Offered anew under another index, or given up.
                (Outcome::Withdrawn, None) => {}
                (Outcome::Withdrawn, Some(Outcome::Failed { .. })) => {}
                (theirs, ours) => assert_eq!(Some(theirs), ours, "entry {index}"),
            }
        }
        let (ours, theirs) = (self.source.totals(), self.target.totals());
        let counts = |totals: &crate::Totals| {
            let t = *totals;
            [t.copied, t.unchanged, t.links, t.folders, t.skipped, t.planned, t.bytes_present]
        };
        assert_eq!(counts(ours), counts(theirs));
        assert_eq!(ours.failed, theirs.failed + given_up, "both know what is missing");
        assert_eq!(self.problems > 0, self.plan.chain > 0 || self.tree.has_problems);
        assert_eq!(self.source.live_cost, 0, "nothing is left of ended entries");
    }
}
