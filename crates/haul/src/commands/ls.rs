//! `haul ls`: what another machine exports, and what is in a folder there.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use anyhow::Result;
use link::Target;
use transfer::client;

use crate::address::Address;
use crate::args::ListArguments;
use crate::contact::{self, ContactOptions, FIRST_CONTACT, Links};
use crate::interrupt::Interrupt;
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
    let options = ContactOptions {
        accept_new: arguments.accept_new,
        patience: FIRST_CONTACT,
        links: Links::default(),
    };
    let ours = identity.clone();
    let entries = super::block_on(async {
        let reaching =
            contact::reach(&host, identity, &places, &options, &interrupt, &render::tell);
        let contact = reaching.await?;
        let listed = tokio::select! {
            listed = client::list(contact.lane(), &path) => listed,
            () = interrupt.wait() => Err(transfer::TransferError::Cancelled),
        };
        contact.part().await;
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

/// `HOST` alone asks for the exports, and so does `HOST:`; a folder is asked for by its path. Without a
/// path behind it a number is a port, because a host may stand alone here.
pub(super) fn place(word: &OsStr) -> Result<(Target, Vec<u8>), Failure> {
    let wrong = |why: String| {
        let shown = files::escape(word.as_bytes());
        Failure::new(Code::Usage, format!("'{shown}' is no HOST or HOST:PATH: {why}"))
    };
    match Address::parse(word) {
        Ok(Address::Far { host, path }) => {
            match (Target::parse(&word.to_string_lossy()), host.daemon) {
                (Ok(with_port), _) if !path.is_empty() => Ok((with_port, Vec::new())),
                (_, Some(daemon)) => Ok((daemon, path)),
                (_, None) => Err(wrong("only a copy goes over ssh".to_owned())),
            }
        }
        Ok(Address::Pipe) => Err(wrong("it is standard input".to_owned())),
        Ok(Address::Local(path)) => {
            let text = path.to_string_lossy().into_owned();
            Ok((Target::parse(&text).map_err(|error| wrong(error.to_string()))?, Vec::new()))
        }
        // A bare address in brackets has no colon behind it.
        Err(error) => {
            let text = word.to_string_lossy();
            Ok((Target::parse(&text).map_err(|_| wrong(error.to_string()))?, Vec::new()))
        }
    }
}
