//! What a rehearsal came to, as a table with advice below it, and as JSON. Pure but for telling steps.

use std::time::Duration;

use diode::{Advice, BufferAdvice, Recommended, RehearsalStep, StepReport, Verdict};
use serde_json::{Value, json};

use super::super::telling::Teller;
use crate::units;

const HEADS: [&str; 11] = [
    "rate",
    "sent",
    "arriving",
    "packets",
    "lost",
    "one by one",
    "outages",
    "runs",
    "late",
    "twice",
    "dropped here",
];

/// A rate in bits, as links are labelled.
pub fn rate(bytes_per_s: u64) -> String {
    let bits = bytes_per_s as f64 * 8.0;
    match bits {
        0.0..1e6 => format!("{:.0} kbit/s", bits / 1e3),
        1e6..1e9 => format!("{:.1} Mbit/s", bits / 1e6),
        _ => format!("{:.2} Gbit/s", bits / 1e9),
    }
}

/// Bytes per second so that a rate in bits has three digits.
pub fn round_down(bytes_per_s: f64) -> u64 {
    let bits = bytes_per_s * 8.0;
    let unit = 10_f64.powf((bits.log10().floor() - 2.0).max(3.0));
    // What is a hair below a round number is that number.
    let bits = (bits / unit * (1.0 + 1e-9)).floor() * unit;
    (bits / 8.0) as u64
}

/// As `--rate` takes it, and no more than this.
fn rate_option(bytes_per_s: u64) -> String {
    let kilobits = bytes_per_s * 8 / 1000;
    match kilobits % 1000 {
        0 => format!("{}mbit", kilobits / 1000),
        _ => format!("{kilobits}kbit"),
    }
}

/// Tells that a step began or ended.
pub fn tell_step(teller: &Teller, step: &RehearsalStep, is_heard: bool) {
    let RehearsalStep { step: number, steps, end, .. } = *step;
    let fields = json!({ "step": number, "steps": steps, "rate": step.rate, "ended": end != 0 });
    let which = format!("{number} of {steps}, {}", rate(step.rate));
    let text = match (end, is_heard) {
        (0, _) => format!("step {which}"),
        (end, false) => {
            let packets = units::count(end - step.first, "packet");
            let took = Duration::from_micros(step.micros);
            format!("step {which}: {packets} in {}", units::duration(took))
        }
        (_, true) => format!("step {which}: heard to its end"),
    };
    teller.tell("step", &text, false, fields);
}

/// The table, and what follows from it.
pub fn lines(reports: &[StepReport], advice: &Advice, is_whole: bool) -> Vec<String> {
    if reports.is_empty() {
        return vec![
            "Nothing of a rehearsal was heard: see \"When something goes wrong\" in the guide."
                .to_owned(),
        ];
    }
    let mut lines = table(reports, &advice.verdicts);
    if !is_whole {
        lines.push("The end was not heard: this is what is known so far.".to_owned());
    }
    lines.push(String::new());
    match &advice.recommended {
        Some(recommended) => lines.extend(recommendation(reports, advice, recommended)),
        None => {
            lines.push("No rate is recommended.".to_owned());
            if let (Some(report), Some(verdict)) = (reports.first(), advice.verdicts.first()) {
                lines.push(reason(report, *verdict));
            }
            lines.push("Try lower ones on the other side: --least, --most.".to_owned());
        }
    }
    lines.extend(advice.buffer.map(buffer_line));
    lines
}

fn recommendation(
    reports: &[StepReport],
    advice: &Advice,
    recommended: &Recommended,
) -> Vec<String> {
    let mut lines = vec![
        "Before the diode:".to_owned(),
        format!("  haul diode send DIR --to URL {}", send_options(recommended)),
    ];
    if let Some(memory) = recommended.memory {
        lines.push("Behind it:".to_owned());
        lines.push(format!("  haul diode recv --from URL --into DIR --memory {}MiB", memory >> 20));
    }
    lines.push(String::new());
    let Some(report) = reports.get(recommended.report) else { return lines };
    let lost = match (report.lost, report.outages) {
        (0, _) => "lost nothing".to_owned(),
        (lost, 0) => format!("lost {} of its packets, in no outage", share(lost, report.sent)),
        (lost, _) => format!(
            "lost {} of its packets, the longest outage being of {}",
            share(lost, report.sent),
            milliseconds(report.longest_outage)
        ),
    };
    // What was tried is what the sender came to, which a machine with other work to do may keep below the rate.
    let tried = match recommended.rate == report.rate {
        true => rate(report.rate),
        false => format!("{}, of which {} were sent,", rate(report.rate), rate(report.reached)),
    };
    lines.push(format!(
        "{tried} {lost}. --repair {} with --outage {} mends what was seen at this rate and below{}.",
        recommended.repair,
        milliseconds_option(recommended.outage),
        match recommended.has_spare {
            true => ", and an outage of that length on top of it",
            false => "; a longer outage on top of it may cost blocks, which --repeat 2 or a want-list brings",
        }
    ));
    let next = recommended.report + 1;
    match (reports.get(next), advice.verdicts.get(next)) {
        (Some(next), Some(verdict)) => {
            lines.push(reason(next, *verdict));
            lines.push(format!(
                "Rates between these two: --least {} --most {} on the other side.",
                rate_option(report.rate),
                rate_option(next.rate)
            ));
        }
        _ => {
            lines.push("Nothing higher was tried: --most on the other side tries more.".to_owned())
        }
    }
    lines.push(
        "What happens seldom is not seen in a short time, and the disk of this side was not tried: begin lower if \
         it is slow."
            .to_owned(),
    );
    lines
}

fn send_options(recommended: &Recommended) -> String {
    let mut options = format!(
        "--rate {} --repair {} --outage {}",
        rate_option(round_down(recommended.rate as f64)),
        recommended.repair,
        milliseconds_option(recommended.outage)
    );
    if let Some(packet) = recommended.packet {
        options.push_str(&format!(" --packet {packet}"));
    }
    options
}

fn reason(report: &StepReport, verdict: Verdict) -> String {
    let at = rate(report.rate);
    match verdict {
        Verdict::Carried => format!("{at} would be carried too."),
        Verdict::NotReached => {
            format!("{at} was not reached: the other side came to {}.", rate(report.reached))
        }
        Verdict::DroppedHere => format!(
            "{at} is more than this machine takes: of the {} that were lost its kernel dropped {}, each of which may \
             hold up to 64 that it had joined, and this program {}.",
            share(report.lost, report.sent),
            units::count(report.by_kernel, "packet"),
            report.by_program
        ),
        Verdict::Saturated => format!(
            "{at} is more than the link takes: {} of the packets were lost, and much less at lower rates.",
            share(report.lost, report.sent)
        ),
        Verdict::NotMended => format!(
            "{at} loses more than repair packets replace: {} of the packets, and {} at a time.",
            share(report.lost, report.sent),
            milliseconds(report.longest_outage)
        ),
    }
}

fn buffer_line(buffer: BufferAdvice) -> String {
    match buffer {
        BufferAdvice::Limit(bytes) => format!(
            "The kernel's receive buffer is smaller than what is asked for. As root, here, and in /etc/sysctl.d to stay:\n  \
             sysctl -w net.core.rmem_max={bytes}"
        ),
        BufferAdvice::Larger(bytes) => format!(
            "The kernel dropped packets though its receive buffer is as large as was asked for. Try it larger, here and \
             with `haul diode recv`:\n  sysctl -w net.core.rmem_max={bytes}\n  --receive-buffer {bytes}"
        ),
    }
}

fn table(reports: &[StepReport], verdicts: &[Verdict]) -> Vec<String> {
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(reports.iter().map(row));
    let widths: [usize; HEADS.len()] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let words = verdicts.iter().map(|verdict| word(*verdict));
    let words = std::iter::once("").chain(words);
    rows.iter()
        .zip(words)
        .map(|(row, word)| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}  "));
            (cells.collect::<String>() + word).trim_end().to_owned()
        })
        .collect()
}

fn row(report: &StepReport) -> [String; HEADS.len()] {
    let some = |number: u64, text: String| if number == 0 { "-".to_owned() } else { text };
    let runs = format!("{}/{}/{}", report.run_median, report.run_99, report.longest_run);
    let here = report.by_kernel.saturating_add(report.by_program);
    [
        rate(report.rate),
        rate(report.reached),
        rate(report.arriving),
        report.sent.to_string(),
        some(report.lost, share(report.lost, report.sent)),
        some(report.one_by_one(), share(report.one_by_one(), report.sent)),
        some(
            report.outages,
            format!("{} to {}", report.outages, milliseconds(report.longest_outage)),
        ),
        some(report.runs, runs),
        some(report.late, format!("{} by {}", report.late, report.latest)),
        some(report.doubled, report.doubled.to_string()),
        some(here, format!("{}+{}", report.by_kernel, report.by_program)),
    ]
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Carried => "carried",
        Verdict::NotReached => "not reached",
        Verdict::DroppedHere => "too much for this machine",
        Verdict::Saturated => "too much for the link",
        Verdict::NotMended => "not mended",
    }
}

fn share(part: u64, of: u64) -> String {
    let percent = 100.0 * part as f64 / of.max(1) as f64;
    match percent {
        0.005.. => format!("{percent:.2}%"),
        _ if part == 0 => "0%".to_owned(),
        _ => "<0.01%".to_owned(),
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

fn milliseconds_option(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// The same for programs.
pub fn fields(reports: &[StepReport], advice: &Advice, is_whole: bool) -> Value {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let steps = reports.iter().zip(&advice.verdicts).map(|(report, verdict)| {
        json!({
            "step": report.step, "rate": report.rate, "reached": report.reached,
            "arriving": report.arriving, "ended": report.is_whole, "seconds": report.took.as_secs_f64(),
            "packets": report.sent, "lost": report.lost, "lost_one_by_one": report.one_by_one(),
            "outages": report.outages, "lost_in_outages": report.in_outages,
            "longest_outage_ms": ms(report.longest_outage), "runs": report.runs,
            "run_median": report.run_median, "run_99": report.run_99, "run_longest": report.longest_run,
            "late": report.late, "latest_by": report.latest, "twice": report.doubled,
            "dropped_by_kernel": report.by_kernel, "dropped_by_program": report.by_program,
            "verdict": word(*verdict),
        })
    });
    let recommended = advice.recommended.as_ref().map(|recommended| {
        json!({
            "step": reports.get(recommended.report).map(|report| report.step), "rate": recommended.rate,
            "repair_percent": recommended.repair, "outage_ms": ms(recommended.outage),
            "has_spare": recommended.has_spare, "packet": recommended.packet,
            "memory": recommended.memory, "options": send_options(recommended),
        })
    });
    let (limit, larger) = match advice.buffer {
        Some(BufferAdvice::Limit(bytes)) => (Some(bytes), None),
        Some(BufferAdvice::Larger(bytes)) => (Some(bytes), Some(bytes)),
        None => (None, None),
    };
    json!({
        "whole": is_whole, "steps": steps.collect::<Vec<_>>(), "recommended": recommended,
        "rmem_max": limit, "receive_buffer": larger,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_round_and_read_as_they_are_written() {
        for (asked, bits) in [(62_500_000.0, 500_000_000), (88_388_347.6, 707_000_000)] {
            assert_eq!(round_down(asked) * 8, bits);
        }
        for (bytes, option) in [
            (62_500_000, "500mbit"),
            (1_250_000, "10mbit"),
            (12_625, "101kbit"),
            (88_437_500, "707500kbit"),
        ] {
            assert_eq!(rate_option(bytes), option);
            assert_eq!(units::parse_rate(option), Ok(bytes));
        }
        assert_eq!(rate(125_000_000), "1.00 Gbit/s");
        assert_eq!(rate(88_375_000), "707.0 Mbit/s");
    }

    #[test]
    fn shares_never_say_nothing_where_something_was_lost() {
        assert_eq!((share(0, 10), share(1, 1_000_000)), ("0%".to_owned(), "<0.01%".to_owned()));
        assert_eq!((share(1, 100), share(5, 0)), ("1.00%".to_owned(), "500.00%".to_owned()));
    }
}
