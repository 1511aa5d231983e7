//! What a lane learnt about its path, as one line of text that can be kept between runs.

use std::time::Duration;

/// What a lane learnt about its path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PathMemory {
    /// Bytes of UDP payload delivered per second.
    pub rate_bytes_per_s: u64,
    /// The round-trip time without queues.
    pub base_rtt: Duration,
    /// The share of packets that the path loses by itself, 0 to 1.
    pub loss: f64,
    /// The largest UDP payload that the path took.
    pub mtu: u16,
}

/// The longest line that [`PathMemory::parse`] reads.
const MAX_LINE: usize = 160;

/// The most that is believed of a line: 100 Gbit/s.
const MOST_RATE: u64 = 12_500_000_000;

impl PathMemory {
    /// One line without its end, as `rate_bytes_per_s=24000000 base_rtt_us=100120 loss_ppm=10000 mtu_bytes=1472`.
    pub fn to_line(self) -> String {
        format!(
            "rate_bytes_per_s={} base_rtt_us={} loss_ppm={} mtu_bytes={}",
            self.rate_bytes_per_s,
            self.base_rtt.as_micros(),
            (self.loss.clamp(0.0, 1.0) * 1e6).round() as u64,
            self.mtu
        )
    }

    /// Reads such a line: all four fields, in this order, each within what can be true. None otherwise.
    pub fn parse(line: &str) -> Option<Self> {
        if line.len() > MAX_LINE {
            return None;
        }
        let mut words = line.split(' ');
        let mut field = |name: &str, range: std::ops::RangeInclusive<u64>| {
            let digits = words.next()?.strip_prefix(name)?.strip_prefix('=')?;
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let value = digits.parse().ok().filter(|_| plain)?;
            range.contains(&value).then_some(value)
        };
        let rate_bytes_per_s = field("rate_bytes_per_s", 1_000..=MOST_RATE)?;
        let base_rtt = Duration::from_micros(field("base_rtt_us", 1..=10_000_000)?);
        let loss = field("loss_ppm", 0..=500_000)? as f64 / 1e6;
        let mtu = u16::try_from(field("mtu_bytes", 1_200..=65_527)?).ok()?;
        words.next().is_none().then_some(Self { rate_bytes_per_s, base_rtt, loss, mtu })
    }
}
