//! `haul diode rehearse`: the side before the diode sends at one rate after the other; the side behind it counts what
//! arrives, and says with which options to send.

mod shown;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use diode::{
    Address, HeardRehearsal, InOptions, Incoming, MOST_STEPS, OutOptions, Outgoing, Refusal,
    RehearsalReceiver, RehearseOptions, advise,
};
use serde_json::json;

use super::home::Home;
use super::telling::Teller;
use crate::args::RehearseArguments;
use crate::interrupt::Interrupt;
use crate::render;
use crate::report::{Code, Failure};
use crate::units;

/// Slower than this a rehearsal would take for ever, since pauses wait for frames.
const LEAST_RATE: u64 = 12_500;

/// No step takes longer than this: the other side keeps a bit for each packet.
const LONGEST: Duration = Duration::from_secs(600);

pub fn run(home: &Home, arguments: &RehearseArguments) -> Result<Code> {
    match (&arguments.to, &arguments.from) {
        (Some(to), _) => send(home, arguments, to),
        (_, Some(from)) => listen(home, arguments, from),
        // The command line has made sure of one.
        (None, None) => Err(Failure::new(Code::Usage, "neither --to nor --from is given").into()),
    }
}

fn send(home: &Home, arguments: &RehearseArguments, to: &Address) -> Result<Code> {
    let receivers = home.trusted_some("receiver")?;
    let teller = Teller::new(&arguments.telling)?;
    let rates = rates(arguments)?;
    let each = arguments.each.min(LONGEST);
    if each < Duration::from_millis(100) {
        return Err(Failure::new(Code::Usage, "--each of less than 100ms shows nothing").into());
    }
    let state = home.sends()?;
    let out = OutOptions { packet: arguments.packet as usize, ..OutOptions::default() };
    let (stop, hurry) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let line = Outgoing::open(to, &out, hurry.clone())?;
    let meter = line.meter();
    let interrupt = Interrupt::listen()?;
    super::stop_at_a_signal(&interrupt, &stop)?;
    super::stop_at_a_signal(&interrupt, &hurry)?;
    let told = teller.clone();
    let options = RehearseOptions {
        identity: Arc::new(home.places.identity()?),
        receivers: receivers.iter().map(|line| line.receives).collect(),
        rates: rates.clone(),
        each,
        on_step: Arc::new(move |step| {
            // Behind the last end nothing is worth another connection: the other side may have gone.
            hurry.fetch_or(step.is_last_end(), Ordering::Relaxed);
            shown::tell_step(&told, step, false);
        }),
    };
    let names: Vec<&str> = receivers.iter().map(|line| &*line.name).collect();
    teller.say(&format!(
        "rehearsing to {to} for {}: {} of {} each, from {} to {}",
        names.join(", "),
        units::count(rates.len() as u64, "rate"),
        units::duration(each),
        shown::rate(rates.first().copied().unwrap_or_default()),
        shown::rate(rates.last().copied().unwrap_or_default()),
    ));
    diode::rehearse(line, &state, home.epochs()?, options, &stop)
        .map_err(|error| alone(error.into(), "sender"))?;
    let sent = meter.counters();
    let was_stopped = stop.load(Ordering::Relaxed);
    let mut text = if was_stopped { "stopped" } else { "all was sent" }.to_owned();
    if sent.unsent > 0 {
        let error = sent.last_error.as_deref().unwrap_or("an error");
        text =
            format!("{text}; {} could not be sent: {error}", units::count(sent.unsent, "packet"));
    }
    text.push_str("; the other side says what has arrived");
    let fields = json!({ "frames": sent.frames, "bytes": sent.bytes, "unsent": sent.unsent,
        "stopped": was_stopped });
    teller.tell("stopped", &text, sent.unsent > 0, fields);
    Ok(Code::Done)
}

/// Names what is in the way of a rehearsal.
fn alone(error: anyhow::Error, what: &str) -> anyhow::Error {
    if super::is_busy(&error) {
        let text = format!("a {what} of this name runs, or rehearses, already");
        return Failure::new(Code::Usage, text)
            .hint("stop it, rehearse, and start it again")
            .into();
    }
    error
}

/// The rates that are tried: each by the same factor above the one before, in round numbers.
fn rates(arguments: &RehearseArguments) -> Result<Vec<u64>> {
    let most = arguments.most;
    let least = arguments.least.unwrap_or((most / 16).max(LEAST_RATE.min(most)));
    if least < LEAST_RATE || least > most {
        let text = "the lowest rate is to be at least 100kbit, and no higher than --most";
        return Err(Failure::new(Code::Usage, text).into());
    }
    let steps = usize::from(arguments.steps).min(MOST_STEPS);
    if steps == 1 {
        return Ok(vec![most]);
    }
    let factor = (most as f64 / least as f64).powf(1.0 / (steps - 1) as f64);
    let mut rates: Vec<u64> = (0..steps as i32 - 1)
        .map(|step| shown::round_down(least as f64 * factor.powi(step)))
        .collect();
    rates.push(most);
    rates.dedup();
    Ok(rates)
}

fn listen(home: &Home, arguments: &RehearseArguments, from: &Address) -> Result<Code> {
    let senders = home.trusted_some("sender")?;
    let teller = Teller::new(&arguments.telling)?;
    let state = home.receives()?;
    let receiver = RehearsalReceiver::open(&state, &senders, Instant::now());
    let mut receiver = receiver.map_err(|error| alone(error.into(), "receiver"))?;
    let buffer = usize::try_from(arguments.receive_buffer).unwrap_or(usize::MAX);
    let ring = InOptions::default().ring.max(buffer);
    let mut incoming = Incoming::open(from, &InOptions { receive_buffer: buffer, ring })?;
    let stop = Arc::new(AtomicBool::new(false));
    super::stop_at_a_signal(&Interrupt::listen()?, &stop)?;
    let names: Vec<String> = senders.iter().map(|line| line.name.clone()).collect();
    teller.say(&format!(
        "waiting at {from} for {} to rehearse: haul diode rehearse --to URL",
        names.join(", ")
    ));
    receiver.run(&mut incoming, &stop, &mut |heard| tell(&teller, heard));
    let counters = incoming.counters();
    drop(incoming);
    let (reports, is_whole, refused) =
        (receiver.reports(), receiver.is_whole(), receiver.refused());
    receiver.close()?;
    let advice = advise(&reports, counters.buffer_asked, counters.buffer_granted);
    if arguments.telling.json {
        let fields = shown::fields(&reports, &advice, is_whole);
        teller.tell("rehearsed", "the rehearsal is over", false, fields);
    } else {
        for line in shown::lines(&reports, &advice, is_whole) {
            render::print_line(&line);
        }
    }
    // What came twice is in the table.
    let is_told = |why: Refusal| why == Refusal::Replayed && !reports.is_empty();
    let refused = Refusal::ALL.into_iter().zip(refused);
    for (why, count) in refused.filter(|(why, count)| *count > 0 && !is_told(*why)) {
        let text = format!("{} not taken: {why}", units::count(count, "frame"));
        teller.tell("refused", &text, true, json!({ "why": why.to_string(), "count": count }));
    }
    match advice.recommended {
        Some(_) => Ok(Code::Done),
        None => Ok(Code::Partial),
    }
}

fn tell(teller: &Teller, heard: &HeardRehearsal) {
    match heard {
        HeardRehearsal::SessionBegan { sender, epoch } => {
            let text = format!("a session of {} begins", sender.fingerprint());
            let fields = json!({ "sender": sender.fingerprint(), "epoch": epoch });
            teller.tell("session", &text, false, fields);
        }
        HeardRehearsal::Step(step) => shown::tell_step(teller, step, true),
        HeardRehearsal::Files => {
            let text = "files arrive, which are lost here: stop `haul diode send` on the other side, and run \
                        haul diode rehearse --to URL there";
            teller.tell("files", text, true, json!({}));
        }
        HeardRehearsal::Anew => {
            teller.tell(
                "anew",
                "the other side begins anew, and so does the count",
                true,
                json!({}),
            );
        }
        other => teller.say(&format!("{other:?}")),
    }
}
