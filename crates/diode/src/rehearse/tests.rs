//! Links that lose from a seed, in virtual time, and what is advised for them.

use std::time::Duration;

use super::*;
use crate::block::{BLOCK, Layout};
use crate::record::RehearsalStep;
use crate::rig::Random;
use crate::span::{Spread, span};
use crate::symbol::SYMBOL_HEAD;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MBIT: u64 = 125_000;

/// What becomes of a packet at a rate, after a time of its step.
type Fate<'a> = dyn FnMut(&mut Random, u64, Duration) -> Arrives + 'a;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrives {
    Once,
    Twice,
    /// Behind so many others.
    Late(u64),
    Never,
}

use Arrives::{Late, Never, Once, Twice};

/// Rates are tried for five seconds each, with drops by kernel and program at each of them.
struct Trial {
    rates: Vec<u64>,
    /// Of what is asked for a sender comes to this share.
    reaches: f64,
    packet: u16,
    frame: usize,
    by_kernel: fn(u64) -> u64,
    by_program: fn(u64) -> u64,
}

impl Trial {
    fn new(megabits: &[u64]) -> Self {
        let rates = megabits.iter().map(|rate| rate * MBIT).collect();
        let (packet, frame, reaches) = (1500, 1472, 1.0);
        Self { rates, reaches, packet, frame, by_kernel: |_| 0, by_program: |_| 0 }
    }

    fn reports(&self, fate: &mut Fate<'_>) -> Vec<StepReport> {
        let (mut counts, mut random, mut now) = (Counts::default(), Random(7), Duration::ZERO);
        let (mut number, mut drops) = (1000, (5, 7));
        // What others lost before is not ours.
        counts.dropped(drops.0, drops.1);
        for (at, rate) in self.rates.iter().enumerate() {
            let bytes = if self.packet == 0 { self.frame as u64 } else { u64::from(self.packet) };
            let every = Duration::from_secs_f64(bytes as f64 / (*rate as f64 * self.reaches));
            let mut step = RehearsalStep {
                step: at as u16 + 1,
                steps: self.rates.len() as u16,
                rate: *rate,
                first: number,
                end: 0,
                micros: 0,
                packet: self.packet,
            };
            let (began, mut late) = (now, Vec::new());
            while now < began + 5 * SECOND {
                step.micros = (now - began).as_micros() as u64;
                let fate = fate(&mut random, *rate, now - began);
                if let Late(by) = fate {
                    late.push((number + by, number, step));
                }
                if fate == Once || fate == Twice {
                    counts.says(number, step, now);
                    counts.arrived(number, self.frame, now);
                }
                if fate == Twice {
                    counts.doubled(number);
                }
                late.retain(|(due, late, step)| {
                    if *due == number {
                        counts.says(*late, *step, now);
                        counts.arrived(*late, self.frame, now);
                    }
                    *due > number
                });
                number += 1;
                now += every;
            }
            for (_, late, step) in late {
                counts.says(late, step, now);
                counts.arrived(late, self.frame, now);
            }
            step.end = number;
            step.micros = (now - began).as_micros() as u64;
            drops.0 += (self.by_kernel)(*rate);
            drops.1 += (self.by_program)(*rate);
            counts.dropped(drops.0, drops.1);
            for _ in 0..10 {
                counts.says(number, step, now);
                counts.arrived(number, self.frame, now);
                number += 1;
                now += 50 * MS;
            }
        }
        assert!(counts.is_over());
        counts.reports()
    }

    fn advice(&self, fate: &mut Fate<'_>) -> (Vec<StepReport>, Advice) {
        let reports = self.reports(fate);
        let advice = advise(&reports, 64 << 20, 64 << 20);
        (reports, advice)
    }
}

fn one_in(random: &mut Random, count: usize) -> bool {
    random.below(count) == 0
}

fn lost(is_lost: bool) -> Arrives {
    if is_lost { Never } else { Once }
}

const RATES: [u64; 3] = [10, 30, 100];

#[test]
fn a_link_that_loses_nothing_carries_the_highest_rate_with_the_usual_options() {
    let (reports, advice) = Trial::new(&RATES).advice(&mut |_, _, _| Once);
    assert_eq!(advice.verdicts, [Verdict::Carried; 3]);
    let best = advice.recommended.unwrap();
    assert_eq!((best.report, best.rate), (2, 100 * MBIT));
    assert_eq!((best.repair, best.outage, best.packet), (15, 50 * MS, Some(1500)));
    assert!(best.has_spare && best.memory.is_none() && advice.buffer.is_none());
    for (report, rate) in reports.iter().zip(RATES) {
        assert_eq!((report.lost, report.late, report.doubled, report.runs), (0, 0, 0, 0));
        assert_eq!((report.by_kernel, report.by_program), (0, 0), "before the rehearsal");
        assert!(report.is_whole && report.sent.abs_diff(rate * MBIT * 5 / 1500) <= 1);
        assert!(report.reached.abs_diff(rate * MBIT) < rate * MBIT / 100);
        assert!(report.arriving.abs_diff(rate * MBIT) < rate * MBIT / 100);
    }
}

#[test]
fn one_percent_at_random_is_what_the_usual_options_mend() {
    let (reports, advice) =
        Trial::new(&RATES).advice(&mut |random, _, _| lost(one_in(random, 100)));
    let best = advice.recommended.unwrap();
    assert_eq!((best.report, best.repair, best.outage), (2, 15, 50 * MS));
    assert!(best.has_spare);
    let last = &reports[2];
    let share = last.lost as f64 / last.sent as f64;
    assert!((0.008..0.012).contains(&share), "{share}");
    assert_eq!((last.outages, last.run_median), (0, 1));
    assert!(last.longest_run <= 4 && last.run_99 <= 2, "{last:?}");
}

#[test]
fn more_at_random_takes_more_repair_and_much_more_is_not_mended() {
    let trial = Trial::new(&RATES);
    let of = |percent: usize| {
        trial.advice(&mut |random, _, _| lost(random.below(100) < percent)).1.recommended
    };
    let five = of(5).unwrap();
    assert!(five.repair > 15 || !five.has_spare, "{five:?}");
    assert_eq!(of(14), None);
}

#[test]
fn outages_are_told_from_other_losses_and_provided_for() {
    // 50 ms of each 2 s, and one in a thousand beside.
    let outage = |now: Duration| now.as_millis() % 2000 >= 1950;
    let (reports, advice) =
        Trial::new(&RATES).advice(&mut |random, _, now| lost(outage(now) || one_in(random, 1000)));
    let best = advice.recommended.unwrap();
    assert_eq!((best.report, best.outage), (2, 100 * MS));
    assert!(best.has_spare);
    let last = &reports[2];
    assert_eq!(last.outages, 2);
    let longest = last.longest_outage;
    assert!(longest.abs_diff(50 * MS) < 2 * MS, "{longest:?}");
    assert!(last.one_by_one() < last.sent / 500 && last.in_outages > 400 * 2);
    assert_eq!(last.run_99, last.longest_run);
}

/// Sends blocks as a sender with these options does, over a link of another seed. How many of them there were, and how many
/// lost more than their repair symbols replace.
fn blocks(best: &Recommended, seed: u64, fate: &mut Fate<'_>) -> (usize, usize) {
    let layout = Layout::new(BLOCK, (1472 - 40 - SYMBOL_HEAD) & !1).unwrap();
    let repair = layout.repair_to_send(f64::from(best.repair) / 100.0);
    let (symbols, over) = (layout.source() + repair, span(layout, repair, best.outage));
    let per_s = best.rate as f64 / 1500.0;
    let (mut spread, mut lost, mut random) = (Spread::default(), Vec::new(), Random(seed));
    for slot in 0..(30.0 * per_s) as u64 {
        let now = Duration::from_secs_f64(slot as f64 / per_s);
        while spread.has_room(per_s) {
            spread.begin(now, lost.len(), symbols, over);
            lost.push(0);
        }
        let fate = fate(&mut random, best.rate, now);
        if let Some((block, _)) = spread.next(now) {
            lost[block] += usize::from(fate == Never);
        }
    }
    (lost.len(), lost.iter().filter(|lost| **lost > repair).count())
}

#[test]
fn what_is_recommended_mends_such_a_link() {
    let outage = |now: Duration, every: u128, length: u128| now.as_millis() % every < length;
    let fates: [(&str, Box<Fate<'_>>); 6] = [
        ("1%", Box::new(|random, _, _| lost(one_in(random, 100)))),
        ("4%", Box::new(|random, _, _| lost(one_in(random, 25)))),
        ("7%", Box::new(|random, _, _| lost(random.below(100) < 7))),
        (
            "50 ms and 1%",
            Box::new(|random, _, now| lost(outage(now, 2000, 50) || one_in(random, 100))),
        ),
        ("200 ms", Box::new(|_, _, now| lost(outage(now, 4000, 200)))),
        // Half of all packets for 100 ms: no outage by its name.
        ("half", Box::new(|random, _, now| lost(outage(now, 3000, 100) && one_in(random, 2)))),
    ];
    for (name, mut fate) in fates {
        let (_, advice) = Trial::new(&[30, 100]).advice(&mut fate);
        let best = advice.recommended.unwrap_or_else(|| panic!("{name}: {advice:?}"));
        let (count, failed) = blocks(&best, 99, &mut fate);
        assert!(count > 200 && failed == 0, "{name}: {failed} of {count} with {best:?}");
    }
    // And the options are what makes it so.
    let mut fate = |_: &mut Random, _: u64, now: Duration| lost(outage(now, 4000, 200));
    let best = Trial::new(&[100]).advice(&mut fate).1.recommended.unwrap();
    let usual = Recommended { repair: 15, outage: 50 * MS, ..best };
    assert!(best.outage > 200 * MS && blocks(&usual, 99, &mut fate).1 > 0);
}

#[test]
fn a_seldom_outage_at_a_lower_rate_is_provided_for_at_the_best_one() {
    let (_, advice) = Trial::new(&RATES).advice(&mut |_, rate, now| {
        lost(rate == 10 * MBIT && (1000..1300).contains(&now.as_millis()))
    });
    let best = advice.recommended.unwrap();
    assert_eq!((best.report, best.outage), (2, 500 * MS));
}

#[test]
fn a_policer_is_stayed_below_also_where_repair_would_make_up_for_it() {
    // A bucket of 20 kB that is filled at 65 Mbit/s.
    let mut bucket = (20_000.0, Duration::ZERO);
    let mut policer = |_: &mut Random, rate: u64, now: Duration| {
        let since = now.checked_sub(bucket.1).unwrap_or_default();
        bucket = ((bucket.0 + since.as_secs_f64() * 65e6 / 8.0).min(20_000.0), now);
        let passes = bucket.0 >= 1500.0;
        if passes {
            bucket.0 -= 1500.0;
        }
        assert!(rate > 0);
        lost(!passes)
    };
    let (reports, advice) = Trial::new(&[30, 60, 67, 100]).advice(&mut policer);
    use Verdict::{Carried, Saturated};
    assert_eq!(advice.verdicts, [Carried, Carried, Saturated, Saturated]);
    assert_eq!(advice.recommended.unwrap().report, 1);
    assert!(reports[2].lost * 50 > reports[2].sent && reports[1].lost == 0);
    let arriving = reports[3].arriving;
    assert!(arriving.abs_diff(65 * MBIT) < 2 * MBIT, "{arriving}");
}

#[test]
fn what_this_machine_drops_rules_a_rate_out_and_the_buffer_is_spoken_of() {
    let mut trial = Trial::new(&RATES);
    trial.by_kernel = |rate| if rate == 100 * MBIT { 30 } else { 0 };
    let drops = |_: &mut Random, rate: u64, now: Duration| {
        lost(rate == 100 * MBIT && (1000..1020).contains(&now.as_millis()))
    };
    let reports = trial.reports(&mut { drops });
    assert_eq!((reports[1].by_kernel, reports[2].by_kernel), (0, 30));
    let small = advise(&reports, 64 << 20, 208 << 10);
    assert_eq!(small.verdicts[2], Verdict::DroppedHere);
    assert_eq!(small.recommended.unwrap().report, 1);
    assert_eq!(small.buffer, Some(BufferAdvice::Limit(64 << 20)));
    let large = advise(&reports, 64 << 20, 64 << 20);
    assert_eq!(large.buffer, Some(BufferAdvice::Larger(128 << 20)));
    // The same losses, where nobody here dropped anything, are the link's and mended.
    let (_, link) = Trial::new(&RATES).advice(&mut { drops });
    assert_eq!((link.recommended.unwrap().report, link.buffer), (2, None));
    // And so does what the program drops.
    let mut trial = Trial::new(&RATES);
    trial.by_program = |rate| if rate == 30 * MBIT { 100 } else { 0 };
    let one_percent = trial.advice(&mut |random, _, _| lost(one_in(random, 100))).1;
    let expected = [Verdict::Carried, Verdict::DroppedHere, Verdict::Carried];
    assert_eq!(one_percent.verdicts, expected);
}

#[test]
fn a_rate_that_the_sender_did_not_come_to_is_not_recommended() {
    let mut trial = Trial::new(&RATES);
    trial.reaches = 0.7;
    let (reports, advice) = trial.advice(&mut |_, _, _| Once);
    assert_eq!(advice.verdicts, [Verdict::NotReached; 3]);
    assert!(advice.recommended.is_none());
    assert!(reports[2].reached.abs_diff(70 * MBIT) < MBIT);
    trial.reaches = 0.9;
    let best = trial.advice(&mut |_, _, _| Once).1.recommended.unwrap();
    assert!(best.report == 2 && best.rate.abs_diff(90 * MBIT) < MBIT, "it was not tried at more");
}

#[test]
fn a_stream_has_no_packets_and_large_frames() {
    let mut trial = Trial::new(&RATES);
    (trial.packet, trial.frame) = (0, 16_456);
    let (reports, advice) = trial.advice(&mut |_, _, _| Once);
    let best = advice.recommended.unwrap();
    assert_eq!((best.report, best.packet), (2, None));
    assert!(reports[2].reached.abs_diff(100 * MBIT) < MBIT);
}

#[test]
fn what_comes_twice_or_out_of_turn_is_counted_and_not_lost() {
    let mut sent = 0_u64;
    let (reports, _) = Trial::new(&[10]).advice(&mut |_, _, _| {
        sent += 1;
        match sent % 100 {
            10 => Twice,
            20 => Late(3),
            30 => Late(40),
            _ => Once,
        }
    });
    let report = &reports[0];
    assert_eq!((report.lost, report.doubled), (0, report.sent.div_ceil(100)));
    assert!(report.late.abs_diff(report.sent / 50) <= 1 && report.latest == 40);
}

#[test]
fn a_long_outage_at_a_high_rate_takes_memory_that_is_told_and_not_without_bound() {
    let outage = |now: Duration| (1000..1650).contains(&now.as_millis());
    let (_, advice) = Trial::new(&[600]).advice(&mut |_, _, now| lost(outage(now)));
    let best = advice.recommended.unwrap();
    assert_eq!(best.outage, SECOND);
    assert!(best.memory.unwrap() > 1 << 30, "{best:?}");
    let outage = |now: Duration| (1000..3500).contains(&now.as_millis());
    let (_, advice) = Trial::new(&[200]).advice(&mut |_, _, now| lost(outage(now)));
    assert_eq!(advice.verdicts, [Verdict::NotMended]);
    assert!(advice.recommended.is_none());
}

/// Whoever has the keys of a session may say anything of its steps.
#[test]
fn what_no_sender_says_changes_nothing() {
    let sound = RehearsalStep {
        step: 2,
        steps: 3,
        rate: 1000,
        first: 100,
        end: 0,
        micros: 1,
        packet: 1500,
    };
    let mut counts = Counts::default();
    for wrong in [
        RehearsalStep { step: 0, ..sound },
        RehearsalStep { step: 4, ..sound },
        RehearsalStep { step: u16::MAX, steps: u16::MAX, ..sound },
        RehearsalStep { steps: 65, ..sound },
        RehearsalStep { rate: 0, ..sound },
        RehearsalStep { first: 151, ..sound },
        RehearsalStep { first: u64::MAX, ..sound },
        RehearsalStep { end: 100, ..sound },
        RehearsalStep { end: 151, ..sound },
    ] {
        assert!(!counts.says(150, wrong, SECOND), "{wrong:?}");
        assert!(!counts.has_begun());
    }
    assert!(counts.says(150, sound, SECOND) && !counts.says(151, sound, SECOND));
    let ended = RehearsalStep { end: 160, ..sound };
    assert!(counts.says(170, ended, SECOND) && !counts.says(171, ended, SECOND));
    let other = RehearsalStep { end: 170, ..sound };
    assert!(!counts.says(171, other, SECOND), "an end is said once");
    for wrong in [
        RehearsalStep { step: 3, first: 100, ..sound },
        RehearsalStep { step: 1, first: 120, ..sound },
        RehearsalStep { step: 1, first: 90, end: 101, ..sound },
    ] {
        assert!(!counts.says(180, wrong, SECOND), "{wrong:?}");
    }
    assert!(!counts.is_over());
    // A number far away takes no more memory than is set aside, and what is not known of is not counted.
    counts.arrived(1 << 35, 1472, SECOND);
    counts.arrived(3, 1472, SECOND);
    let last = RehearsalStep { step: 3, steps: 3, first: 200, end: (1 << 35) + 1, ..sound };
    assert!(counts.says((1 << 35) + 1, last, SECOND) && counts.is_over());
    let reports = counts.reports();
    assert_eq!((reports[0].sent, reports[0].lost), (60, 60));
    assert!(reports[1].sent <= 1 << 28 && !reports[1].is_whole);
    assert!(reports[1].slots.len() <= 1 << 17);
    drop(advise(&reports, 0, 0));
}

#[test]
fn a_step_whose_end_was_not_heard_counts_as_far_as_it_was() {
    let mut counts = Counts::default();
    let step = RehearsalStep {
        step: 1,
        steps: 1,
        rate: 10 * MBIT,
        first: 10,
        end: 0,
        micros: 1,
        packet: 1500,
    };
    for number in (10..5000).filter(|number| number % 100 != 0) {
        counts.says(number, step, Duration::from_micros(number * 1200));
        counts.arrived(number, 1472, Duration::from_micros(number * 1200));
    }
    let report = &counts.reports()[0];
    assert!(!report.is_whole && !counts.is_over());
    assert_eq!((report.sent, report.lost), (4990, 49));
    assert!(advise(&counts.reports(), 0, 0).recommended.is_some());
    assert!(advise(&[], 1, 0).recommended.is_none());
}
