//! Medians, ranges, and how sure a ratio of medians is.

/// How often the figures are drawn anew to see how much a ratio may vary.
const DRAWS: usize = 2000;

/// A median and the range around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The middle.
    pub median: f64,
    /// The lower end.
    pub least: f64,
    /// The upper end.
    pub most: f64,
}

impl Spread {
    /// Of all figures; not numbers if there are none.
    pub fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let end = |figure: Option<&f64>| figure.copied().unwrap_or(f64::NAN);
        Self { median: middle(&figures), least: end(figures.first()), most: end(figures.last()) }
    }

    /// The ratio of two medians, and between which 95 % of such ratios lie when runs are drawn from
    /// both with replacement (the bootstrap). The draws come from a seed.
    pub fn ratio(one: &[f64], other: &[f64]) -> Self {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |from: &[f64]| -> f64 {
            let mut drawn: Vec<f64> = from
                .iter()
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    from[(seed >> 11) as usize % from.len()]
                })
                .collect();
            drawn.sort_by(f64::total_cmp);
            middle(&drawn)
        };
        let mut ratios: Vec<f64> = match one.is_empty() || other.is_empty() {
            true => Vec::new(),
            false => (0..DRAWS).map(|_| draw(one) / draw(other)).collect(),
        };
        ratios.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let place = (part * ratios.len() as f64) as usize;
            ratios.get(place.min(ratios.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
        };
        let median = |figures: &[f64]| Self::of(figures.to_vec()).median;
        Self { median: median(one) / median(other), least: at(0.025), most: at(0.975) }
    }
}

/// The median of sorted figures.
fn middle(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

/// The figure that `part` of all are below, by the nearest rank.
pub fn percentile(figures: &[f64], part: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The mean; not a number without figures.
pub fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len() as f64
}

#[cfg(test)]
mod tests;
