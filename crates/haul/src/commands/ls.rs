//! `haul ls`: what another machine exports, and what is in a folder there.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use anyhow::Result;
use link::Target;
use transfer::client::{self, Way};

use crate::address::{Address, Host};
use crate::args::ListArguments;
use crate::contact;
use crate::interrupt::Interrupt;
use crate::reach::{Reached, Reacher, Wishes};
use crate::remotes::Remotes;
use crate::render::{self, json, table};
use crate::report::{Code, Failure};
use crate::state::Places;

/// Carries the command out.
pub fn run(arguments: &ListArguments) -> Result<Code> {
    let places = Places::from_environment()?;
    let (host, path) = place(&Remotes::read(&places)?.spelled_place(&arguments.place))?;
    let identity = Arc::new(places.identity()?);
    let interrupt = Interrupt::listen()?;
    let ours = identity.clone();
    let wishes = Wishes {
        accept_new: arguments.accept_new,
        ssh: arguments.ssh.clone(),
        far_haul: arguments.far_haul.clone(),
        ..Wishes::default()
    };
    let (places, interrupt) = (&places, &interrupt);
    let entries = super::block_on(async {
        let Reached { connect, around, .. } =
            Reacher { identity, places, interrupt, wishes }.reach(&host).await?;
        let lane = connect(Way::Any).await?;
        let listed = tokio::select! {
            listed = client::list(&lane, &path) => listed,
            () = interrupt.wait() => Err(transfer::TransferError::Cancelled),
        };
        contact::part(&lane).await;
        if let Some(login) = around.login {
            login.part().await;
        }
        listed.map_err(|error| contact::with_our_line(error.into(), &ours))
    })?;
    let text = if arguments.json {
        entries.iter().map(|entry| json::listed(entry) + "\n").collect()
    } else if arguments.long {
        table::long(&entries)
    } else {
        table::names(&entries)
    };
    if !text.is_empty() {
        render::print_line(text.trim_end_matches('\n'));
    }
    Ok(Code::Done)
}

/// `HOST` alone asks for the exports, or for the login folder, and so does `HOST:`; a folder is asked for by
/// its path. Without a path behind it a number is a port, because a host may stand alone here.
pub(super) fn place(word: &OsStr) -> Result<(Host, Vec<u8>), Failure> {
    let wrong = |why: String| {
        let shown = files::escape(word.as_bytes());
        Failure::new(Code::Usage, format!("'{shown}' is no HOST or HOST:PATH: {why}"))
    };
    // A bare host, or a bare address in brackets, has no colon behind it.
    let alone = || {
        let with_colon = [word.as_bytes(), b":"].concat();
        match Address::parse(OsStr::from_bytes(&with_colon)) {
            Ok(Address::Far { host, path }) if path.is_empty() => Some((host, path)),
            _ => Target::parse(&word.to_string_lossy())
                .ok()
                .map(|target| (Host { daemon: Some(target), login: None }, Vec::new())),
        }
    };
    match Address::parse(word) {
        Ok(Address::Far { host, path }) if path.is_empty() => Ok((host, path)),
        Ok(Address::Far { host, path }) => Ok(alone().unwrap_or((host, path))),
        Ok(Address::Pipe) => Err(wrong("it is standard input".to_owned())),
        Ok(Address::Local(_)) => alone().ok_or_else(|| wrong("no host is called so".to_owned())),
        Err(error) => alone().ok_or_else(|| wrong(error.to_string())),
    }
}
