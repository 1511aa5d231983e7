//! Either end of a diode is killed at random moments while the tree changes. Whatever bears a name behind the diode is
//! then, and at every moment, a whole version of a file that once had that name before it, with the time of that version;
//! what was seen or said to be there is not lost; and in the end both trees are the same.

mod past;

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::crash::{runs, seed};
use testkit::daemon::Running;
use testkit::tree::Random;

use crate::across::Diode;
use past::{Past, Seen};

/// Kills of each side where nobody says otherwise.
const KILLS: u32 = 8;
/// A kill comes at most so many microseconds after the start.
const LATEST: u64 = 2_000_000;
/// Every so many kills both sides may finish, and must be the same.
const REST: u32 = 25;
/// Changes come in bursts, since the sender waits until nothing has changed for a moment.
const BURST: u32 = 8;
/// From one burst to the next.
const PAUSE: Duration = Duration::from_millis(180);
/// How long an end may take until it answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two machines, the tree and all that it ever was, and the chance.
struct Stage {
    diode: Diode,
    past: Past,
    random: Random,
    /// Kills after which something new was there since the one before.
    struck: u32,
    last: Seen,
}

/// What an end has said of itself, which must hold after any kill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    complete: u64,
    generation: u64,
}

impl Said {
    /// None if the end does not answer.
    fn of(status: &Value) -> Option<Self> {
        let number = |name: &str| status[name].as_u64();
        let generation = number("generation")?;
        Some(Self { complete: number("complete").unwrap_or(0), generation })
    }

    #[track_caller]
    fn check(&self, later: Self, when: &str) {
        let holds = later.complete >= self.complete && later.generation >= self.generation;
        assert!(holds, "{when}: it had said {self:?}, and now {later:?}");
    }
}

impl Stage {
    fn new(name: &str, first_seed: u64) -> Self {
        let mut random = Random::new(seed(first_seed));
        let diode = Diode::new(name);
        let mut past = Past::new(diode.tree(), diode.scratch.folder("outside"));
        for _ in 0..150 {
            past.add(&mut random);
        }
        Self { diode, past, random, struck: 0, last: Seen::default() }
    }

    /// The tree changes for a random time; some of these are so short that an end dies while it starts.
    fn pass(&mut self) -> Duration {
        let most = if self.random.below(5) == 0 { LATEST / 16 } else { LATEST };
        let moment = Duration::from_micros(self.random.below(most));
        let end = Instant::now() + moment;
        while Instant::now() + PAUSE < end {
            (0..BURST).for_each(|_| self.past.step(&mut self.random));
            std::thread::sleep(PAUSE);
        }
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        moment
    }

    /// Looks at what is behind the diode, and whether all of it may be there.
    #[track_caller]
    fn look(&mut self, when: &str) -> Seen {
        let seen = Seen::of(&self.diode.copy());
        self.past.check(&seen).unwrap_or_else(|wrong| panic!("{when}: {wrong}"));
        self.past
            .check_order(&self.last, &seen)
            .unwrap_or_else(|wrong| panic!("{when}, which was there before: {wrong}"));
        seen
    }

    fn strike(&mut self, when: &str) {
        let seen = self.look(when);
        self.struck += u32::from(seen != self.last);
        self.last = seen;
    }

    /// The tree rests until both sides are the same.
    fn rest(&mut self) {
        self.diode.heal();
        self.last = self.look("at rest");
    }

    fn end(mut self, name: &str, kills: u32) {
        self.rest();
        let (files, versions) = self.past.counts();
        eprintln!(
            "{name}: {kills} kills, {} of them after something new had come; {versions} versions of {files} files",
            self.struck
        );
        // Else the kills hit nothing that was at work.
        assert!(self.struck * 4 >= kills, "{name}: nothing new came between most kills");
    }
}

/// What an end says of itself, as soon as it answers.
fn said(diode: &Diode, side: &str) -> Said {
    let began = Instant::now();
    loop {
        if let Some(said) = asked(diode, side) {
            return said;
        }
        assert!(began.elapsed() < PATIENCE, "the {side}ing end does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The same if it answers now.
fn asked(diode: &Diode, side: &str) -> Option<Said> {
    let machine = if side == "send" { &diode.low } else { &diode.high };
    let ended = machine.run(["diode", "status", "--json"]);
    let status: Value = serde_json::from_str(ended.text().lines().last()?).ok()?;
    Said::of(&status[side])
}

fn start(diode: &Diode, side: &str) -> Running {
    match side {
        "send" => diode.send(&[]),
        // What the changes remove is many times what a careful operator lets pass.
        _ => diode.start_receiver(&diode.url(), &["--deletes", "now", "--brake", "100"]),
    }
}

/// Kills one side so many times; the other one lives.
fn kill_one_side(name: &str, first_seed: u64, side: &str) {
    let kills = runs(KILLS);
    let mut stage = Stage::new(name, first_seed);
    let other = if side == "send" { "recv" } else { "send" };
    let mut living = start(&stage.diode, other);
    said(&stage.diode, other);
    let mut dying = start(&stage.diode, side);
    let mut acknowledged = Said::default();
    for kill in 1..=kills {
        let moment = stage.pass();
        let is_asked = asked(&stage.diode, side);
        if let Some(now) = is_asked {
            acknowledged.check(now, &format!("before kill {kill}"));
            acknowledged = now;
        }
        // What is seen now is there to stay as well.
        let when = format!("before kill {kill}, {moment:?} after the start");
        stage.strike(&when);
        assert!(dying.is_running(), "{when}: it had ended: {}", dying.wait().told());
        dying.kill();
        drop(dying);
        stage.look(&format!("after kill {kill}"));
        // Some changes come while nobody is there.
        for _ in 0..stage.random.below(4) {
            stage.past.step(&mut stage.random);
        }
        dying = start(&stage.diode, side);
        if stage.random.below(5) == 0 {
            continue;
        }
        let now = said(&stage.diode, side);
        acknowledged.check(now, &format!("after kill {kill}"));
        acknowledged = now;
        stage.look(&format!("restarted after kill {kill}"));
        assert!(living.is_running(), "the other end has ended: {}", living.wait().told());
        // Else it would wait for what came while it was dead.
        if side == "recv" {
            stage.diode.wait("the sender is heard", |status| status["recv"]["sender"].is_object());
            stage.diode.resend();
        }
        if kill % REST == 0 {
            stage.rest();
        }
    }
    said(&stage.diode, side);
    stage.end(name, kills);
    drop((dying, living));
}

#[test]
fn crash_of_the_receiver_behind_a_diode() {
    kill_one_side("crash-diode-recv", 81, "recv");
}

#[test]
fn crash_of_the_sender_before_a_diode() {
    kill_one_side("crash-diode-send", 82, "send");
}
