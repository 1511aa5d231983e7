//! Sizes, rates and durations as people write and read them. Pure. Thousands are 1000, as on the
//! labels of disks and links; what is read here is also what an `authorized_keys` line may say.

use std::time::Duration;

pub use events::units::bytes;

/// Why a text is no rate, size or duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a number of bytes.
    #[error("write a number of bytes such as 10MB, 500k or 1.5GB")]
    Bytes,
    /// So small a rate is most likely meant in another unit.
    #[error(
        "a rate is in bytes per second, so this is hardly any: write 100k for 100,000 bytes per second (scp's -l \
         800, in kbit/s, and rsync's --bwlimit=98, in KiB/s), or B behind the number if it is meant"
    )]
    Unitless,
    /// Nothing would ever move.
    #[error("it is zero, which would carry nothing")]
    Zero,
    /// Not a duration.
    #[error("write a duration such as 30s, 5m, 2h or 1d")]
    Duration,
}

/// Below this a rate must say its unit. Others that copy count in kbit/s or KiB/s, and a habit would make a copy
/// a thousand times slower than was meant.
const LEAST_UNITLESS: u64 = 10_000;

/// Reads bytes per second: `10MB`, `10MB/s`, `500k`, `1.5G`, `800B`; with `bit` at its end bits per second: `500mbit`.
pub fn parse_rate(text: &str) -> Result<u64, UnitError> {
    let text = text.strip_suffix("/s").unwrap_or(text);
    if let Some(bits) = text.to_ascii_lowercase().strip_suffix("bit") {
        // The unit that is left is k, M or G, of bits.
        return match parse_bytes(bits)? / 8 {
            0 => Err(UnitError::Zero),
            rate => Ok(rate),
        };
    }
    match parse_bytes(text)? {
        0 => Err(UnitError::Zero),
        rate if rate < LEAST_UNITLESS && text.ends_with(|end: char| end.is_ascii_digit()) => {
            Err(UnitError::Unitless)
        }
        rate => Ok(rate),
    }
}

/// Reads a number of bytes: `10MB`, `500k`, `1.5G`; KiB, MiB and GiB are 1024-based.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(UnitError::Bytes),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or(UnitError::Bytes);
    }
    let value = number.parse::<f64>().map_err(|_| UnitError::Bytes)? * factor as f64;
    // Above 2^53 a fraction means nothing any more, and nobody writes one there.
    if !value.is_finite() || value >= 9e15 {
        return Err(UnitError::Bytes);
    }
    Ok(value as u64)
}

/// Reads a duration: `90`, `50ms`, `30s`, `5m`, `2h`, `1d`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit {
        "ms" => {
            let number: u64 = number.parse().map_err(|_| UnitError::Duration)?;
            return Ok(Duration::from_millis(number.min(1 << 40)));
        }
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(UnitError::Duration),
    };
    let number: u64 = number.parse().map_err(|_| UnitError::Duration)?;
    let seconds = number.checked_mul(factor).ok_or(UnitError::Duration)?;
    // A century is as good as for ever, and cannot overflow any clock.
    Ok(Duration::from_secs(seconds.min(100 * 366 * 86_400)))
}

/// Shows a rate.
pub fn rate(bytes_per_s: f64) -> String {
    format!("{}/s", bytes(bytes_per_s.max(0.0) as u64))
}

/// Shows a duration: `0.4 s`, `12.0 s`, `3m07s`, `2h05m`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// `1 file`, `2 files`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests;
