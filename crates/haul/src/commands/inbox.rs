//! `haul inbox`: what an inbox wants, and what the inboxes of this machine hold.

use std::sync::Arc;

use anyhow::Result;
use link::Identity;
use transfer::client::{self, Way};

use super::ls;
use crate::args::InboxCommand;
use crate::contact;
use crate::interrupt::Interrupt;
use crate::reach::{Reached, Reacher, Wishes};
use crate::remotes::Remotes;
use crate::render;
use crate::report::Code;
use crate::state::Places;

/// Carries the command out.
pub fn run(command: InboxCommand) -> Result<Code> {
    match command {
        InboxCommand::Schema { host, inbox, accept_new } => {
            schema(&host, &inbox.unwrap_or_default(), accept_new)
        }
    }
}

fn schema(host: &std::ffi::OsStr, inbox: &str, accept_new: bool) -> Result<Code> {
    let places = Places::from_environment()?;
    let (host, _) = ls::place(&Remotes::read(&places)?.spelled_place(host))?;
    let host = crate::address::Host { login: None, ..host };
    let identity: Arc<Identity> = Arc::new(places.identity()?);
    let interrupt = Interrupt::listen()?;
    let ours = identity.clone();
    let wishes = Wishes { accept_new, ..Wishes::default() };
    let (places, interrupt) = (&places, &interrupt);
    let text = super::block_on(async {
        let reacher = Reacher { identity, places, interrupt, wishes };
        let Reached { connect, .. } = reacher.reach(&host).await?;
        let lane = connect(Way::Any).await?;
        let asked = tokio::select! {
            asked = client::schema(&lane, inbox) => asked,
            () = interrupt.wait() => Err(transfer::TransferError::Cancelled),
        };
        contact::part(&lane).await;
        asked.map_err(|error| contact::with_our_line(error.into(), &ours))
    })?;
    // It is a peer's text, and goes to a terminal or a file alike: control characters but line ends are no JSON anyway.
    let text = String::from_utf8_lossy(&text);
    let clean: String =
        text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    render::print_line(clean.trim_end());
    Ok(Code::Done)
}
