//! How many tests passed, failed and were skipped, read from what the runners print. It counts nothing
//! itself: a summary that cannot be read is no summary.

use std::fmt;

/// The counts of one or several runs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Ran and passed.
    pub passed: u64,
    /// Ran and failed, or ran out of time.
    pub failed: u64,
    /// Were there and did not run.
    pub skipped: u64,
    /// A runner ended before it had counted everything, for example because something did not compile.
    pub incomplete: bool,
}

impl Counts {
    /// Reads the summary of `cargo nextest run`.
    pub fn of_nextest(output: &str) -> Option<Self> {
        let line =
            output.lines().rev().map(str::trim).find(|line| line.starts_with("Summary ["))?;
        let (_, numbers) = line.split_once(':')?;
        let mut counts = Self::default();
        // Such as `9 passed (2 slow), 1 failed, 1 timed out, 3 skipped`; what is in brackets is counted
        // before them already.
        for part in without_brackets(numbers).split(',') {
            let (number, word) = part.trim().split_once(' ')?;
            let number: u64 = number.parse().ok()?;
            match word.trim() {
                "passed" => counts.passed += number,
                "skipped" => counts.skipped += number,
                _ => counts.failed += number,
            }
        }
        Some(counts)
    }

    /// Reads the sum of every `test result` line of `cargo test`.
    pub fn of_libtest(output: &str) -> Option<Self> {
        let mut sum: Option<Self> = None;
        for line in output.lines().filter_map(|line| line.trim().strip_prefix("test result: ")) {
            let (_, numbers) = line.split_once(". ")?;
            let counts = sum.get_or_insert_with(Self::default);
            for part in numbers.split(';') {
                let Some((number, word)) = part.trim().split_once(' ') else { continue };
                let Ok(number) = number.parse::<u64>() else { continue };
                match word {
                    "passed" => counts.passed += number,
                    "failed" => counts.failed += number,
                    "ignored" | "filtered out" => counts.skipped += number,
                    _ => {}
                }
            }
        }
        sum
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.incomplete |= other.incomplete;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.incomplete {
            writeln!(
                out,
                "a test runner stopped before its end; these are the tests that it counted:"
            )?;
        }
        write!(out, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

fn without_brackets(text: &str) -> String {
    let mut depth = 0u32;
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 => out.push(letter),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests;
