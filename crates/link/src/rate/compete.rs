//! How a lane holds its ground beside senders that fill the queue until it overflows.
//! Giving way to their queue would starve it, so it grows and falls as they do (CUBIC, RFC 9438), from
//! losses above those of the path, and looks now and then whether it is alone.

/// The constants of RFC 9438.
const C: f64 = 0.4;
const BETA: f64 = 0.7;

/// How often it looks whether it is alone: after so many seconds and rounds.
const LOOK_AFTER: (f64, u32) = (4.0, 16);

/// It only looks while the queue is this part of the base, since a shorter one goes in any case, or after so many
/// seconds.
const LOOK_AT: f64 = 0.35;
const LOOK_ANYWAY: f64 = 12.0;

/// Within this of the base, in seconds and as a share of it, the queue is gone.
const GONE: (f64, f64) = (0.0015, 0.02);

/// How much faster it grows in a round while there is no queue.
const FREE: f64 = 1.05;

/// A lane that competes.
#[derive(Debug, Clone)]
pub(super) struct Compete {
    /// The window at the last loss, in packets.
    most: f64,
    since: f64,
    /// The window that the additive growth of RFC 9438 (4.3) would have, in packets.
    additive: f64,
    rounds: u32,
    looked: f64,
    look: Option<Look>,
    rounds_since_cut: u32,
    /// The queue is deep, so that a short one says that nobody else is there.
    pub(super) deep: bool,
    /// For so many rounds there has been no queue.
    pub(super) gone: u32,
}

#[derive(Debug, Clone)]
struct Look {
    window: f64,
    rtt: f64,
    rounds: u32,
}

/// What becomes of the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Next {
    /// The window in bytes.
    Window(f64),
    /// Nobody else is there.
    Alone,
}

impl Compete {
    pub(super) fn new(now: f64, window: f64, mtu: f64, deep: bool) -> Self {
        let window = window / mtu;
        Self {
            most: window,
            since: now,
            additive: window,
            rounds: 0,
            looked: now,
            look: None,
            rounds_since_cut: 0,
            deep,
            gone: 0,
        }
    }

    /// At the end of a round. `excess` says that more was lost than the path loses by itself.
    pub(super) fn round(
        &mut self,
        now: f64,
        window: f64,
        mtu: f64,
        rtt_min: f64,
        base: f64,
        excess: bool,
    ) -> Next {
        let gone = rtt_min < base + GONE.0.max(GONE.1 * base);
        self.gone = if gone { self.gone + 1 } else { self.gone.saturating_sub(1) };
        if let Some(look) = &mut self.look {
            look.rounds += 1;
            if gone || rtt_min < 0.62 * look.rtt {
                return Next::Alone;
            }
            if look.rounds < 3 {
                return Next::Window(window);
            }
            let back = look.window;
            self.look = None;
            self.looked = now;
            self.rounds = 0;
            // The curve stood still meanwhile.
            self.since = now - self.age_at(back / mtu);
            return Next::Window(back);
        }
        self.rounds += 1;
        self.rounds_since_cut += 1;
        let packets = window / mtu;
        if excess && self.rounds_since_cut >= 2 {
            self.most = packets;
            self.since = now;
            self.additive = packets * BETA;
            self.rounds_since_cut = 0;
            return Next::Window(packets * BETA * mtu);
        }
        let past = now - self.looked;
        let due = past > LOOK_AFTER.0 && rtt_min > (1.0 + LOOK_AT) * base;
        if (due || past > LOOK_ANYWAY) && self.rounds >= LOOK_AFTER.1 {
            self.look = Some(Look { window, rtt: rtt_min, rounds: 0 });
            return Next::Window(0.5 * window);
        }
        self.additive += 3.0 * (1.0 - BETA) / (1.0 + BETA);
        let age = now - self.since - self.turn();
        let aim = (C * age.powi(3) + self.most).max(self.additive);
        let least = if gone { FREE * packets } else { packets };
        Next::Window(aim.clamp(least, 1.5 * packets) * mtu)
    }

    /// After how many seconds the curve is back at its most.
    fn turn(&self) -> f64 {
        (self.most * (1.0 - BETA) / C).cbrt()
    }

    /// How old the curve is at a window in packets.
    fn age_at(&self, packets: f64) -> f64 {
        self.turn() + ((packets - self.most) / C).cbrt()
    }
}
