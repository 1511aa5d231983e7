//! The course of a rehearsal at its sender: one rate after the other, and between them pauses in which what waits anywhere
//! can drain and the ends of steps are said again and again, for nobody can ask.

use std::time::Duration;

use crate::record::{Record, RehearsalStep};

/// Frames a second between steps.
const QUIET_FRAMES: u64 = 20;

/// How long the pauses last, and the fewest frames that are sent in them.
const QUIET: (Duration, u32) = (Duration::from_millis(1500), 6);
const LAST: (Duration, u32) = (Duration::from_millis(2000), 12);

/// For so long before the end the rate is the highest again, so that what the engine says at its end takes no time.
const LEAVING: Duration = Duration::from_millis(100);

/// Times are since any start.
#[derive(Debug)]
pub(crate) struct Steps {
    rates: Vec<u64>,
    each: Duration,
    quiet_rate: u64,
    packet: u16,
    state: State,
    /// Those that have ended.
    done: Vec<RehearsalStep>,
    is_stopped: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    New,
    /// Since when, and how many frames were sent.
    Quiet(Duration, u32),
    On(Duration, RehearsalStep),
    Last(Duration, u32),
    Leaving(Duration),
    Over,
}

/// What has come of giving a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It goes on as before.
    Same,
    /// A step has begun, or ended.
    Step(RehearsalStep),
    /// All was said.
    Over,
}

impl Steps {
    /// For rates in bytes a second, each of which is tried for so long, in packets of so many bytes or, if that is 0, in
    /// frames of a stream of `frame` bytes.
    pub(crate) fn new(rates: Vec<u64>, each: Duration, packet: u16, frame: usize) -> Self {
        let bytes = if packet == 0 { frame as u64 } else { u64::from(packet) };
        let least = rates.iter().copied().min().unwrap_or(u64::MAX);
        let quiet_rate = (QUIET_FRAMES * bytes).min(least).max(1);
        let (state, done) = (State::New, Vec::new());
        Self { rates, each, quiet_rate, packet, state, done, is_stopped: false }
    }

    /// Ends the step that is under way, and all with it.
    pub(crate) fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// Fills the payload of the frame with this number, which has room for so many bytes, and says what has changed.
    pub(crate) fn fill(
        &mut self,
        now: Duration,
        number: u64,
        most: usize,
        payload: &mut Vec<u8>,
    ) -> Turn {
        let turn = self.turn(now, number);
        match &mut self.state {
            State::On(since, step) => {
                step.micros = micros(now.saturating_sub(*since));
                let step = *step;
                say(&step, most, payload);
            }
            State::Quiet(_, frames) | State::Last(_, frames) => {
                *frames += 1;
                for step in self.done.iter().rev() {
                    say(step, most, payload);
                }
            }
            State::New | State::Leaving(_) | State::Over => {}
        }
        // What a reader of a stream takes is a frame of full size too.
        payload.resize(most.max(payload.len()), 0);
        turn
    }

    /// Bytes a second that may be sent now.
    pub(crate) fn rate(&self) -> u64 {
        match &self.state {
            State::On(_, step) => step.rate,
            State::Leaving(_) | State::Over => self.rates.iter().copied().max().unwrap_or(1),
            _ => self.quiet_rate,
        }
    }

    fn turn(&mut self, now: Duration, number: u64) -> Turn {
        let is_past = |since: Duration, frames: u32, (time, least): (Duration, u32)| {
            now.saturating_sub(since) >= time && frames >= least
        };
        match self.state {
            State::New => self.state = State::Quiet(now, 0),
            State::Quiet(since, frames) if is_past(since, frames, QUIET) || self.is_stopped => {
                match self.rates.get(self.done.len()).filter(|_| !self.is_stopped) {
                    Some(rate) => {
                        let step = RehearsalStep {
                            step: self.done.len() as u16 + 1,
                            steps: self.rates.len() as u16,
                            rate: *rate,
                            first: number,
                            end: 0,
                            micros: 0,
                            packet: self.packet,
                        };
                        self.state = State::On(now, step);
                        return Turn::Step(step);
                    }
                    None => self.last(now),
                }
            }
            State::On(since, step)
                if now.saturating_sub(since) >= self.each && number > step.first
                    || self.is_stopped =>
            {
                let mut step = RehearsalStep {
                    end: number,
                    micros: micros(now.saturating_sub(since)),
                    ..step
                };
                if self.is_stopped {
                    step.steps = step.step;
                }
                self.done.push(step);
                match step.is_last_end() {
                    true => self.state = State::Last(now, 0),
                    false => self.state = State::Quiet(now, 0),
                }
                return Turn::Step(step);
            }
            State::Last(since, frames) if is_past(since, frames, LAST) => {
                self.state = State::Leaving(now);
            }
            State::Leaving(since) if now.saturating_sub(since) >= LEAVING => {
                self.state = State::Over;
                return Turn::Over;
            }
            _ => {}
        }
        Turn::Same
    }

    /// It was stopped between two steps: the one before was the last.
    fn last(&mut self, now: Duration) {
        if let Some(step) = self.done.last_mut() {
            step.steps = step.step;
        }
        self.state = State::Last(now, 0);
    }
}

fn say(step: &RehearsalStep, most: usize, payload: &mut Vec<u8>) {
    let before = payload.len();
    let said = Record::Rehearsal(*step).encode(payload);
    if said.is_err() || payload.len() > most {
        payload.truncate(before);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Records;

    /// The course of it, with frames at the rate that it asks for: what each said, and the turns.
    fn run(mut steps: Steps, stop_at: Option<Duration>) -> (Vec<Vec<RehearsalStep>>, Vec<Turn>) {
        let (mut now, mut said, mut turns) = (Duration::ZERO, Vec::new(), Vec::new());
        for number in 100.. {
            if stop_at.is_some_and(|at| now >= at) {
                steps.stop();
            }
            let mut payload = Vec::new();
            let turn = steps.fill(now, number, 508, &mut payload);
            assert_eq!(payload.len(), 508);
            let records = Records::of(&payload).map(|record| match record.unwrap() {
                Record::Rehearsal(step) => step,
                other => panic!("{other:?}"),
            });
            said.push(records.collect());
            let is_over = turn == Turn::Over;
            turns.extend((turn != Turn::Same).then_some(turn));
            if is_over {
                return (said, turns);
            }
            now += Duration::from_secs_f64(1500.0 / steps.rate() as f64);
        }
        unreachable!("it ends");
    }

    fn of(turn: &Turn) -> RehearsalStep {
        match turn {
            Turn::Step(step) => *step,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_rate_has_its_time_and_numbers_and_all_ends_are_said() {
        let rates = vec![150_000, 300_000, 600_000];
        let (said, turns) = run(Steps::new(rates.clone(), Duration::from_secs(2), 1500, 0), None);
        assert_eq!(turns.len(), 7);
        let mut before = 100;
        for (at, rate) in rates.into_iter().enumerate() {
            let (began, ended) = (of(&turns[2 * at]), of(&turns[2 * at + 1]));
            assert_eq!((began.step, began.steps, began.end), (at as u16 + 1, 3, 0));
            assert_eq!((ended.first, ended.rate), (began.first, rate));
            assert!(began.first >= before + 6, "there is a pause");
            before = ended.end;
            let per_s = (ended.end - ended.first) as f64 / (ended.micros as f64 / 1e6);
            assert!((per_s / (rate as f64 / 1500.0) - 1.0).abs() < 0.02, "{per_s}");
            // Each of its frames says so, and none of another.
            for (number, said) in (100..).zip(&said) {
                let is_of = (ended.first..ended.end).contains(&number);
                let says = said.iter().any(|said| said.step == began.step && said.end == 0);
                assert_eq!(is_of, says, "{number}");
            }
        }
        let last = said.iter().rfind(|said| !said.is_empty()).unwrap();
        let ends: Vec<u16> = last.iter().map(|step| step.step).collect();
        assert_eq!(ends, [3, 2, 1]);
        assert!(last.iter().all(|step| step.end > 0) && last[0].is_last_end());
        assert_eq!(said.iter().filter(|said| said.first() == last.first()).count(), 40);
    }

    #[test]
    fn whoever_stops_it_hears_an_end() {
        let second = Duration::from_secs(1);
        for (stop_at, steps) in [(second, 0), (2 * second, 1), (5 * second, 1), (7 * second, 2)] {
            let course = Steps::new(vec![150_000; 4], 3 * second, 1500, 0);
            let (said, turns) = run(course, Some(stop_at));
            assert_eq!(turns.last(), Some(&Turn::Over), "{stop_at:?}");
            let last = said.iter().rev().find_map(|said| said.first().copied());
            assert_eq!(last.map_or(0, |step| step.step), steps, "{stop_at:?}");
            assert!(last.is_none_or(|step| step.is_last_end()), "{stop_at:?}");
        }
    }
}
