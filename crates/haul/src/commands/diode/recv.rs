//! `haul diode recv`, and what asks a receiver, whether it runs or not.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use diode::{InOptions, Incoming, ReceiveError, ReceiveOptions, Receiver, Requests, WantList};
use files::{Dir, RelPath};
use serde_json::{Value, json};

use super::door;
use super::figures::Received;
use super::history::History;
use super::home::Home;
use super::telling::Teller;
use crate::args::{QuarantineCommand, RecvArguments};
use crate::interrupt::Interrupt;
use crate::render;
use crate::report::{Code, Failure};
use crate::state::own_name;
use crate::units;

/// The path of the tree, so that commands find it while no receiver runs.
const INTO: &str = "into";

/// How many missing or quarantined paths are listed.
const MOST_LISTED: usize = 1000;

pub fn run(home: &Home, arguments: RecvArguments) -> Result<Code> {
    let senders = home.trusted_some("sender")?;
    let into = Dir::create_ambient(&arguments.into, 0o755)?;
    let state = home.receives()?;
    let identity = Arc::new(home.places.identity()?);
    let teller = Teller::new(&arguments.telling)?;
    let names: Vec<String> = senders.iter().map(|line| line.name.clone()).collect();
    let mut options = ReceiveOptions::new(senders, identity);
    options.deletes = arguments.deletes;
    options.brake = f64::from(arguments.brake) / 100.0;
    options.fsync = arguments.fsync;
    options.memory = usize::try_from(arguments.memory).unwrap_or(usize::MAX).max(16 << 20);
    options.owner = arguments.owner;
    options.setid = arguments.setid;
    options.insecure_plain = arguments.insecure_plain;
    let told = teller.clone();
    options.on_event = Arc::new(move |event| super::heard::tell(&told, event));
    let mut receiver = open(&into, &state, options)?;
    let path = std::path::absolute(&arguments.into)?;
    state.write_private(&own_name(INTO), path.as_os_str().as_bytes())?;
    let buffer = usize::try_from(arguments.receive_buffer).unwrap_or(usize::MAX);
    let ring = InOptions::default().ring.max(buffer);
    let mut incoming =
        Incoming::open(&arguments.from, &InOptions { receive_buffer: buffer, ring })?;
    if let Some(advice) = incoming.counters().advice() {
        teller.tell("advice", &advice, true, json!({ "advice": advice }));
    }
    let stop = Arc::new(AtomicBool::new(false));
    super::stop_at_a_signal(&Interrupt::listen()?, &stop)?;
    let outlets = super::outlets(&arguments.channels)?;
    if let Some(outlets) = &outlets {
        receiver.set_sink(Box::new(outlets.clone()));
    }
    let figures = Received::new(receiver.status(), incoming.meter(), outlets);
    let read = figures.clone();
    let history = History::keep(&state, move || read.told())?;
    serve(&state, receiver.requests(), figures.clone())?;
    let text = format!(
        "receiving from {} into {}, from {}",
        arguments.from,
        files::escape_path(&arguments.into),
        names.join(", ")
    );
    let fields = json!({ "side": "recv", "version": env!("CARGO_PKG_VERSION"), "from": arguments.from.to_string(),
        "into": files::escape_path(&path).to_string(), "senders": names });
    teller.tell("started", &text, false, fields);
    if arguments.insecure_plain {
        let text = "WARNING: --insecure-plain: sessions are taken that are neither encrypted nor authenticated; it is for \
                    measurements, and for nothing else";
        teller.tell("insecure_plain", text, true, json!({}));
    }
    let ran = receiver.run(&mut incoming, &stop);
    history.note();
    drop(incoming);
    ran.and(receiver.close())?;
    let told = figures.status();
    let text = format!(
        "stopped: generation {} of {}, {} missing",
        told.tree.complete,
        names.first().map_or("the sender", |name| name),
        units::count(told.tree.wanted, "file")
    );
    teller.tell("stopped", &text, false, figures.told());
    teller.finish();
    Ok(Code::Done)
}

fn open(into: &Dir, state: &Dir, options: ReceiveOptions) -> Result<Receiver> {
    Receiver::open(into, state, options).map_err(|error| match error {
        ReceiveError::Busy => Failure::new(Code::Usage, "a receiver of this name runs already")
            .hint("another diode of this machine takes another --name")
            .into(),
        error => error.into(),
    })
}

/// Answers the commands that ask a receiver.
fn serve(state: &Dir, requests: Requests, figures: Received) -> Result<()> {
    door::open(state, move |question| match question["do"].as_str() {
        Some("status") => Ok(figures.told()),
        _ => answer(&requests, question),
    })
}

/// What both a receiver that runs and one that was opened for it can answer.
fn answer(requests: &Requests, question: &Value) -> Result<Value> {
    let shown = |path: &RelPath| files::escape(path.as_bytes()).to_string();
    Ok(match question["do"].as_str() {
        Some("want") => json!({ "list": requests.want_list(SystemTime::now())?,
            "missing": requests.missing(MOST_LISTED)?.iter().map(shown).collect::<Vec<_>>() }),
        Some("release") => json!({ "generations": requests.release()? }),
        Some("restore") => {
            let path = question["path"].as_str().context("no path is given")?;
            let path = RelPath::parse_user(path.as_bytes())?;
            requests.restore(&path)?;
            json!({})
        }
        Some("quarantine") => {
            let kept = requests.quarantined(MOST_LISTED)?;
            let kept = kept.iter().map(|kept| {
                let since = kept.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                json!({ "path": shown(&kept.path), "since": since, "generation": kept.generation })
            });
            json!({ "kept": kept.collect::<Vec<_>>() })
        }
        _ => anyhow::bail!("the receiver does not know this command"),
    })
}

/// Asks the receiver that runs, or one that is opened for the question.
fn asked(home: &Home, question: &Value) -> Result<Value> {
    let state = home.receives()?;
    if let Some(answer) = door::ask(&state, question)? {
        return Ok(answer);
    }
    let into = match state.read_small(&own_name(INTO).into(), 4096) {
        Ok(bytes) => PathBuf::from(OsStr::from_bytes(&bytes)),
        Err(error) if error.is_not_found() => {
            return Err(Failure::new(
                Code::Usage,
                "no receiver of this name ever ran on this machine",
            )
            .hint("start it: haul diode recv --from URL --into DIR")
            .into());
        }
        Err(error) => return Err(error.into()),
    };
    let senders = home.trusted_some("sender")?;
    let options = ReceiveOptions::new(senders, Arc::new(home.places.identity()?));
    let receiver = open(&Dir::open_ambient(&into)?, &state, options)?;
    let answer = answer(&receiver.requests(), question);
    receiver.close()?;
    answer
}

pub fn want(home: &Home, out: Option<&Path>) -> Result<Code> {
    let answer = asked(home, &json!({ "do": "want" }))?;
    let list = answer["list"].as_str().context("there is no list in the answer")?;
    match out {
        Some(path) => crate::state::write_named(path, list.as_bytes())?,
        None => render::print_line(list.trim_end()),
    }
    let missing = answer["missing"].as_array().map_or(&[][..], |missing| &missing[..]);
    for path in missing.iter().filter_map(Value::as_str) {
        render::tell(&format!("missing: {path}"));
    }
    let own = home.places.identity()?.public_key();
    let parsed =
        home.trusted()?.iter().find_map(|line| WantList::parse(list, &line.identity, &[own]).ok());
    let unknown: BTreeSet<u64> =
        parsed.iter().flat_map(|list| &list.pages).map(|range| range.of).collect();
    if !unknown.is_empty() {
        let count = units::count(unknown.len() as u64, "generation");
        render::tell(&format!(
            "{count} or more are not fully known here; what they bring may be missing, too"
        ));
    }
    let some = if missing.len() == MOST_LISTED { " or more" } else { "" };
    let what = match missing.len() {
        0 if unknown.is_empty() => {
            render::tell("nothing is missing that this side knows of");
            return Ok(Code::Done);
        }
        0 => "the list asks for these generations".to_owned(),
        count => format!("{}{some} missing", units::count(count as u64, "file")),
    };
    render::tell(&format!("{what}; carry the list to the other side: haul diode resend FILE"));
    Ok(Code::Done)
}

pub fn release(home: &Home) -> Result<Code> {
    let answer = asked(home, &json!({ "do": "release" }))?;
    let generations = answer["generations"].as_array().map_or(0, Vec::len);
    render::tell(&match generations {
        0 => "the brake holds nothing".to_owned(),
        count => {
            format!("{} may remove now what it was to", units::count(count as u64, "generation"))
        }
    });
    Ok(Code::Done)
}

pub fn quarantine(home: &Home, command: QuarantineCommand) -> Result<Code> {
    match command {
        QuarantineCommand::List => {
            let answer = asked(home, &json!({ "do": "quarantine" }))?;
            for kept in answer["kept"].as_array().into_iter().flatten() {
                let since = jiff::Timestamp::from_second(kept["since"].as_i64().unwrap_or(0));
                let since = since.map_or_else(
                    |_| "?".to_owned(),
                    |at| at.strftime("%Y-%m-%d %H:%M").to_string(),
                );
                let path = kept["path"].as_str().unwrap_or_default();
                render::print_line(&format!("{since}  {path}"));
            }
        }
        QuarantineCommand::Restore { path } => {
            let text = path.to_str().context("the path is no text")?;
            asked(home, &json!({ "do": "restore", "path": text }))?;
            render::tell(&format!("restored: {}", files::escape(text.as_bytes())));
        }
    }
    Ok(Code::Done)
}
