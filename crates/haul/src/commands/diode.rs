//! `haul diode`: both ends of a link with no way back.

mod door;
mod figures;
mod heard;
mod history;
mod home;
mod key;
mod recv;
mod rehearse;
mod send;
mod telling;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use diode::{ChannelOut, Outlets};
use serde_json::json;

use self::home::Home;
use crate::args::{DiodeArguments, DiodeCommand};
use crate::interrupt::Interrupt;
use crate::render;
use crate::report::{Code, Failure};

/// Carries the command out.
pub fn run(arguments: DiodeArguments) -> Result<Code> {
    let home = Home::new(&arguments.name)?;
    match arguments.command {
        DiodeCommand::Key(command) => key::run(&home, command),
        DiodeCommand::Send(send) => send::run(&home, *send),
        DiodeCommand::Recv(recv) => recv::run(&home, *recv),
        DiodeCommand::Rehearse(rehearse) => rehearse::run(&home, &rehearse),
        DiodeCommand::Want { out } => recv::want(&home, out.as_deref()),
        DiodeCommand::Resend(resend) => send::resend(&home, &resend),
        DiodeCommand::Rate { rate } => send::rate(&home, rate),
        DiodeCommand::Status { json, history } => status(&home, json, history),
        DiodeCommand::Quarantine(command) => recv::quarantine(&home, command),
        DiodeCommand::Release => recv::release(&home),
    }
}

/// The first signal asks for an end.
fn stop_at_a_signal(interrupt: &Interrupt, stop: &Arc<AtomicBool>) -> Result<()> {
    let (interrupt, stop) = (interrupt.clone(), stop.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .context("cannot listen for signals")?;
    std::thread::Builder::new()
        .name("diode stop".to_owned())
        .spawn(move || {
            runtime.block_on(interrupt.wait());
            stop.store(true, Ordering::Relaxed);
        })
        .context("cannot listen for signals")?;
    Ok(())
}

/// The channels that were asked for; None if there are none.
fn outlets(texts: &[String]) -> Result<Option<Arc<Outlets>>> {
    if texts.is_empty() {
        return Ok(None);
    }
    let parse = |text: &String| {
        ChannelOut::parse(text).map_err(|error| {
            Failure::new(
                Code::Usage,
                format!("--channel {}: {error}", files::escape(text.as_bytes())),
            )
        })
    };
    let channels = texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(Arc::new(Outlets::start(channels)?)))
}

/// Names what an open database means.
fn busy(error: anyhow::Error, what: &str) -> anyhow::Error {
    if is_busy(&error) {
        return Failure::new(Code::Usage, format!("a {what} of this name runs already"))
            .hint("another diode of this machine takes another --name")
            .into();
    }
    error
}

/// Whether another process has the database open, or the state folder of a receiver.
fn is_busy(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(tree::SnapshotError::InUse { .. }))
            || matches!(cause.downcast_ref(), Some(diode::ReceiveError::Busy))
    })
}

/// What both sides of this name say of themselves, or said for so long.
fn status(home: &Home, as_json: bool, history: Option<Duration>) -> Result<Code> {
    if let Some(back) = history {
        history::print(&[home.sends()?, home.receives()?], back, as_json)?;
        return Ok(Code::Done);
    }
    let question = json!({ "do": "status" });
    let send = door::ask(&home.sends()?, &question)?;
    let recv = door::ask(&home.receives()?, &question)?;
    if as_json {
        render::print_line(&json!({ "name": home.name, "send": send, "recv": recv }).to_string());
        return Ok(Code::Done);
    }
    if send.is_none() && recv.is_none() {
        render::print_line("neither a sender nor a receiver of this name runs on this machine");
        return Ok(Code::Partial);
    }
    for told in [send, recv].into_iter().flatten() {
        let fields = told.as_object().into_iter().flatten();
        for (name, value) in fields {
            render::print_line(&format!("{:<24} {}", name.replace('_', " "), plain(value)));
        }
    }
    Ok(Code::Done)
}

fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => render::clean(text).to_string(),
        other => other.to_string(),
    }
}
