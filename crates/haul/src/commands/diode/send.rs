//! `haul diode send`, and what changes a sender that runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use diode::{
    ChannelIn, Control, EngineOptions, Inlets, OutMeter, OutOptions, Outgoing, Request, SendEvent,
    SendOptions, Sender, WantList,
};
use files::Dir;
use serde_json::{Value, json};
use tree::{Filter, WalkOptions};

use super::door;
use super::figures::Sent;
use super::history::History;
use super::home::Home;
use super::telling::Teller;
use crate::args::{ResendArguments, SendArguments};
use crate::interrupt::Interrupt;
use crate::render;
use crate::report::{Code, Failure};
use crate::units;

/// What is read of a want-list's file: more than the longest list.
const MOST_LIST: u64 = 64 << 20;

/// How often it is looked whether the line takes what is sent.
const LOOK_EVERY: Duration = Duration::from_secs(2);

pub fn run(home: &Home, arguments: SendArguments) -> Result<Code> {
    if arguments.dir.is_none() && arguments.channels.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "there is nothing to send: neither DIR nor --channel",
        )
        .into());
    }
    let receivers = home.trusted_some("receiver")?;
    let root = arguments.dir.as_deref().map(Dir::open_ambient).transpose()?;
    let teller = Teller::new(&arguments.telling)?;
    let state = home.sends()?;
    let identity = Arc::new(home.places.identity()?);
    let channels = channels(&arguments.channels)?;
    let mut options = options(&arguments, &teller)?;
    options.identity = identity.clone();
    options.receivers = receivers.iter().map(|line| line.receives).collect();
    let sender = Sender::open(root, &state, home.epochs()?, arguments.rate, options)
        .map_err(|error| super::busy(error.into(), "sender"))?;
    let out = OutOptions { packet: arguments.packet as usize, ..OutOptions::default() };
    let stop = Arc::new(AtomicBool::new(false));
    let line = Outgoing::open(&arguments.to, &out, stop.clone())?;
    let control = sender.control();
    super::stop_at_a_signal(&Interrupt::listen()?, &stop)?;
    let inlets = Arc::new(Inlets::start(channels, sender.streams(line.frame_bytes()))?);
    let figures = Sent::new(control.clone(), line.meter(), &inlets);
    let read = figures.clone();
    let history = History::keep(&state, move || read.told())?;
    let receivers_keys = receivers.iter().map(|line| line.identity).collect();
    serve(&state, &control, figures.clone(), identity.public_key(), receivers_keys)?;
    watch_line(line.meter(), teller.clone(), stop.clone())?;
    let names: Vec<&str> = receivers.iter().map(|line| &*line.name).collect();
    let text = format!(
        "sending to {} at {}, for {}",
        arguments.to,
        units::rate(arguments.rate as f64),
        names.join(", ")
    );
    let fields = json!({ "side": "send", "version": env!("CARGO_PKG_VERSION"), "to": arguments.to.to_string(),
        "rate": arguments.rate, "receivers": names });
    teller.tell("started", &text, false, fields);
    if arguments.insecure_plain {
        let text = "WARNING: --insecure-plain: nothing that is sent is encrypted or authenticated; anybody on the \
                    way can read it. It is for measurements, and for nothing else";
        teller.tell("insecure_plain", text, true, json!({}));
    }
    let ran = sender.run(line, &stop);
    history.note();
    let report = ran?;
    let told = report.status;
    let last = figures.told_of(&told);
    drop(inlets);
    let text = format!(
        "{}: {} up to generation {}, of {} in the tree",
        if report.was_stopped { "stopped" } else { "all was sent" },
        units::count(told.files, "file"),
        told.generation,
        told.entries,
    );
    teller.tell("stopped", &text, false, last);
    teller.finish();
    Ok(Code::Done)
}

fn options(arguments: &SendArguments, teller: &Teller) -> Result<SendOptions> {
    let mut rules = arguments.rules.0.clone();
    if !arguments.unfinished {
        rules.extend(tree::unfinished_names());
    }
    let filter =
        Filter::new(rules).map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
    let teller = teller.clone();
    // Who signs and who reads is put in by the caller.
    let nobody = Arc::new(link::Identity::generate()?);
    Ok(SendOptions {
        walk: WalkOptions { filter, ..WalkOptions::default() },
        settle: arguments.settle,
        with_owner: arguments.owner,
        with_xattrs: arguments.xattrs,
        once: arguments.once,
        every: arguments.every.max(Duration::from_secs(1)),
        watch: !arguments.no_watch,
        full_every: arguments.full_every,
        times: arguments.repeat,
        repair: f64::from(arguments.repair) / 100.0,
        engine: EngineOptions {
            outage: arguments.outage,
            filler: arguments.filler,
            insecure_plain: arguments.insecure_plain,
            ..EngineOptions::default()
        },
        on_event: Arc::new(move |event| tell(&teller, event)),
        ..SendOptions::new(nobody, Vec::new())
    })
}

fn channels(texts: &[String]) -> Result<Vec<ChannelIn>> {
    let mut channels: Vec<ChannelIn> = Vec::new();
    for text in texts {
        let number = channels.len() as u16;
        let channel = ChannelIn::parse(text, number)
            .map_err(|error| Failure::new(Code::Usage, format!("--channel {text}: {error}")))?;
        if channels.iter().any(|other| other.name == channel.name) {
            let text = format!("two channels are named {}", files::escape(channel.name.as_bytes()));
            return Err(Failure::new(Code::Usage, text).into());
        }
        channels.push(channel);
    }
    Ok(channels)
}

fn tell(teller: &Teller, event: &SendEvent) {
    let shown = |path: &files::RelPath| files::escape(path.as_bytes()).to_string();
    match event {
        SendEvent::Generation { generation, files, bytes, removed, entries, is_full } => {
            let what = if *is_full { ", the whole tree told anew" } else { "" };
            let text = format!(
                "generation {generation}: {} with {}, {removed} removed, {entries} in the tree{what}",
                units::count(*files, "file"),
                units::bytes(*bytes),
            );
            let fields = json!({ "generation": generation, "files": files, "bytes": bytes,
                "removed": removed, "entries": entries, "full": is_full });
            teller.tell("generation", &text, false, fields);
        }
        SendEvent::Unreadable { path, reason } => {
            let text = format!("{}: {reason}; it is not sent", shown(path));
            teller.tell(
                "unreadable",
                &text,
                true,
                json!({ "path": shown(path), "reason": reason }),
            );
        }
        SendEvent::Unsettled { files } => {
            let text = format!(
                "{} still being written at the end; run it again to send what they become",
                units::count(*files, "file")
            );
            teller.tell("unsettled", &text, true, json!({ "files": files }));
        }
        SendEvent::Resending { pages, blocks, changed } => {
            let text = format!(
                "sending again what a receiver lacks: {} and {}; of what has changed since, {} will not come",
                units::count(*pages, "range of pages"),
                units::count(*blocks, "block"),
                units::count(*changed, "object"),
            );
            let fields = json!({ "pages": pages, "blocks": blocks, "changed": changed });
            teller.tell("resending", &text, false, fields);
        }
        SendEvent::SetBack => {
            let text = "the memory of what was sent is older than the last run, as after a restore from a backup: \
                        the whole tree is told anew";
            teller.tell("set_back", text, true, json!({}));
        }
        SendEvent::NotWatched { reason } => {
            let text = format!(
                "{reason}; what changes elsewhere is found by the next look at the whole tree"
            );
            teller.tell("not_watched", &text, true, json!({ "reason": reason }));
        }
        other => teller.say(&format!("{other:?}")),
    }
}

/// Answers the commands that ask a sender.
fn serve(
    state: &Dir,
    control: &Arc<Control>,
    figures: Sent,
    sender: link::PublicKey,
    receivers: Vec<link::PublicKey>,
) -> Result<()> {
    let control = control.clone();
    door::open(state, move |question| match question["do"].as_str() {
        Some("status") => Ok(figures.told()),
        Some("rate") => {
            let rate = question["rate"].as_u64().context("no rate is given")?;
            control.set_rate(rate);
            Ok(json!({ "rate": rate }))
        }
        Some("full") => {
            control.ask(Request::Full);
            Ok(json!({}))
        }
        Some("resend") => {
            let text = question["list"].as_str().context("no list is given")?;
            let list = WantList::parse(text, &sender, &receivers)?;
            let (pages, blocks) = (list.pages.len(), list.blocks.len());
            control.ask(Request::Resend(list));
            Ok(json!({ "pages": pages, "blocks": blocks }))
        }
        _ => anyhow::bail!("the sender does not know this command"),
    })
}

/// Tells when the line takes nothing any more, and when it does again, until the end is near.
fn watch_line(meter: OutMeter, teller: Teller, stop: Arc<AtomicBool>) -> Result<()> {
    let watch = move || {
        let (mut unsent, mut is_broken) = (0, false);
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK_EVERY);
            let counters = meter.counters();
            let fails = counters.unsent > unsent || !counters.is_connected;
            unsent = counters.unsent;
            if fails == is_broken {
                continue;
            }
            is_broken = fails;
            if fails {
                let why = counters.last_error.unwrap_or_else(|| "it is not connected".to_owned());
                let text = format!("the line takes nothing, and what is sent is lost: {why}");
                teller.tell("link_failed", &text, true, json!({ "reason": why, "unsent": unsent }));
            } else {
                teller.tell(
                    "link_back",
                    "the line takes frames again",
                    false,
                    json!({ "unsent": unsent }),
                );
            }
        }
    };
    std::thread::Builder::new()
        .name("diode line".to_owned())
        .spawn(watch)
        .context("cannot start a thread that watches the line")?;
    Ok(())
}

fn asked(home: &Home, question: &Value) -> Result<Value> {
    door::ask(&home.sends()?, question)?.ok_or_else(|| {
        Failure::new(Code::Usage, "no sender of this name runs on this machine")
            .hint("start it: haul diode send DIR --to URL")
            .into()
    })
}

pub fn rate(home: &Home, rate: u64) -> Result<Code> {
    asked(home, &json!({ "do": "rate", "rate": rate }))?;
    render::tell(&format!("the sender sends at {} from now on", units::rate(rate as f64)));
    Ok(Code::Done)
}

pub fn resend(home: &Home, arguments: &ResendArguments) -> Result<Code> {
    if let Some(path) = &arguments.list {
        let text = if path.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin())?
        } else {
            String::from_utf8_lossy(&files::File::open_ambient(path)?.read_whole(MOST_LIST)?)
                .into_owned()
        };
        let answer = asked(home, &json!({ "do": "resend", "list": text }))
            .with_context(|| format!("{} cannot be served", files::escape_path(path)))?;
        render::tell(&format!(
            "will be sent again: {} and {}",
            units::count(answer["pages"].as_u64().unwrap_or(0), "range of pages"),
            units::count(answer["blocks"].as_u64().unwrap_or(0), "range of blocks"),
        ));
    }
    if arguments.full {
        asked(home, &json!({ "do": "full" }))?;
        render::tell("the whole tree will be told anew");
    }
    Ok(Code::Done)
}
