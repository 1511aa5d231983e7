//! What the link does to a packet: pure arithmetic on virtual time, no IO and no clock.
//!
//! A [`Link`] is one direction. It is asked once for each packet, in order of entry, and its answers
//! depend on nothing but the profile, the seed, the times and the lengths.

/// Nanoseconds; both points in time (since an arbitrary start) and durations.
pub type Nanos = u64;

/// Two-state burst loss: each packet may switch the state, then is lost with the state's ratio.
///
/// The long-run loss of a link that loses everything in the bad state and nothing in the good one
/// is `good_to_bad / (good_to_bad + bad_to_good)`; its bursts last `1 / bad_to_good` packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GilbertElliott {
    /// Chance to enter the bad state, for each packet.
    pub good_to_bad: f64,
    /// Chance to leave the bad state, for each packet.
    pub bad_to_good: f64,
    /// Loss ratio in the bad state.
    pub loss_in_bad: f64,
    /// Loss ratio in the good state.
    pub loss_in_good: f64,
}

/// A token bucket that drops what does not fit, and lets nothing wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policer {
    /// Bits per second that the bucket gains.
    pub rate: f64,
    /// Bytes that it holds at most, and at first.
    pub burst: u64,
}

/// The settings of one direction. Ratios are in 0..=1. The default is a perfect wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// How long every packet is under way.
    pub delay: Nanos,
    /// Up to so much earlier or later, uniformly; never changes the order.
    pub jitter: Nanos,
    /// Ratio of packets that are lost, each on its own.
    pub loss: f64,
    /// Loss in bursts, in addition to `loss`.
    pub burst_loss: Option<GilbertElliott>,
    /// Ratio of packets that are held back and overtaken.
    pub reorder: f64,
    /// How long an overtaken packet is held back.
    pub reorder_by: Nanos,
    /// Ratio of packets that arrive twice.
    pub duplicate: f64,
    /// Ratio of packets that arrive with one bit flipped.
    pub corrupt: f64,
    /// Bits per second; `None` is as fast as the machine.
    pub rate: Option<f64>,
    /// Bytes that may wait for the rate limiter; `None` is 100 ms worth of the rate, 64 KiB at least.
    pub queue: Option<u64>,
    /// Drops what comes faster than agreed, before it reaches the queue.
    pub police: Option<Policer>,
    /// A cut wire: nothing passes.
    pub blocked: bool,
}

impl Profile {
    /// Room before the rate limiter, in bytes.
    fn queue_bytes(&self) -> f64 {
        let tenth_of_second = self.rate.map_or(0.0, |rate| rate / 80.0);
        self.queue.map_or(tenth_of_second.max(65_536.0), |queue| queue as f64)
    }
}

/// What became of a packet that entered the link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fate {
    /// The wire is cut.
    Blocked,
    /// The policer had no tokens left for it.
    Policed,
    /// The queue before the rate limiter had no room.
    QueueFull,
    /// Lost on its own.
    Lost,
    /// Lost in a burst.
    BurstLost,
    /// Arrives, perhaps damaged.
    Delivered {
        /// When it arrives.
        at: Nanos,
        /// Which bit of the packet to flip.
        flip: Option<u64>,
        /// Arrives twice.
        duplicate: bool,
        /// Was held back so that later packets overtake it.
        late: bool,
    },
}

/// xorshift64*: small, seedable, and good enough to draw losses.
#[derive(Debug)]
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        // One round of splitmix64, so that seeds 1, 2, 3... give unrelated streams.
        let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self((z ^ (z >> 27)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in 0..1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn chance(&mut self, ratio: f64) -> bool {
        ratio > 0.0 && self.unit() < ratio
    }
}

/// One direction of a bad link.
#[derive(Debug)]
pub struct Link {
    profile: Profile,
    rng: Rng,
    bad_state: bool,
    /// When the rate limiter will have sent all that it has accepted.
    busy_until: Nanos,
    /// What the policer grants, in bytes, as of `tokens_at`.
    tokens: f64,
    tokens_at: Nanos,
    /// Delivery of the last packet that was not held back: jitter alone never reorders.
    last_at: Nanos,
}

impl Link {
    /// A link whose draws come from `seed`.
    #[must_use]
    pub fn new(profile: Profile, seed: u64) -> Self {
        Self {
            profile,
            rng: Rng::new(seed),
            bad_state: false,
            busy_until: 0,
            tokens: f64::INFINITY,
            tokens_at: 0,
            last_at: 0,
        }
    }

    /// Changes the settings from the next packet on. Packets under way keep their fate, and later
    /// ones do not overtake them, also when the new delay is shorter.
    pub fn set_profile(&mut self, profile: Profile) {
        if profile.rate != self.profile.rate {
            // What waits was timed by the old rate; a new limiter starts with an empty queue.
            self.busy_until = 0;
        }
        if profile.police != self.profile.police {
            self.tokens = f64::INFINITY;
        }
        self.profile = profile;
    }

    /// Forgets what is under way: the caller has thrown it away, so nothing must wait behind it.
    pub fn clear(&mut self) {
        self.busy_until = 0;
        self.last_at = 0;
    }

    /// Decides about a packet of `len` bytes that enters the link at `now`.
    pub fn admit(&mut self, now: Nanos, len: usize) -> Fate {
        let p = &self.profile;
        if p.blocked {
            return Fate::Blocked;
        }
        if let Some(policer) = p.police {
            let earned = now.saturating_sub(self.tokens_at) as f64 * policer.rate / 8e9;
            self.tokens = (self.tokens + earned).min(policer.burst as f64);
            self.tokens_at = self.tokens_at.max(now);
            if self.tokens < len as f64 {
                return Fate::Policed;
            }
            self.tokens -= len as f64;
        }
        let mut at = now;
        if let Some(rate) = p.rate {
            let waiting = self.busy_until.saturating_sub(now) as f64 * rate / 8e9;
            if waiting + len as f64 > p.queue_bytes() {
                return Fate::QueueFull;
            }
            // The cast saturates: a rate of zero sends at the end of time.
            let sending = (len as f64 * 8e9 / rate) as Nanos;
            at = self.busy_until.max(now).saturating_add(sending);
            self.busy_until = at;
        }
        // A packet lost on the wire has used its share of the rate.
        if self.rng.chance(p.loss) {
            return Fate::Lost;
        }
        if let Some(ge) = p.burst_loss {
            let switch = if self.bad_state { ge.bad_to_good } else { ge.good_to_bad };
            self.bad_state ^= self.rng.chance(switch);
            if self.rng.chance(if self.bad_state { ge.loss_in_bad } else { ge.loss_in_good }) {
                return Fate::BurstLost;
            }
        }
        at = at.saturating_add(p.delay);
        if p.jitter > 0 {
            let spread = (self.rng.unit() * 2.0 - 1.0) * p.jitter as f64;
            at = at.saturating_add_signed(spread as i64).max(now);
        }
        at = at.max(self.last_at);
        let late = self.rng.chance(p.reorder);
        if late {
            at = at.saturating_add(p.reorder_by);
        } else {
            self.last_at = at;
        }
        let bits = len as u64 * 8;
        let flip = (bits > 0 && self.rng.chance(p.corrupt)).then(|| self.rng.next() % bits);
        Fate::Delivered { at, flip, duplicate: self.rng.chance(p.duplicate), late }
    }
}

#[cfg(test)]
mod tests;
