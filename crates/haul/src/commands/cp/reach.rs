//! The first contact of a copy with the other machine.

use anyhow::Result;
use link::{LinkChoice, Pace, TransportOptions};
use transfer::client::{Connect, LaneEnded};

use super::Copy;
use crate::address::Host;
use crate::contact::{self, ContactOptions, FIRST_CONTACT, Links};
use crate::paths::PathStore;
use crate::render;
use crate::report::{Code, Failure};

/// A host that was reached.
pub(super) struct Reached {
    pub(super) connect: Connect,
    pub(super) lane_ended: Option<LaneEnded>,
    /// Warnings that come with each of its lanes.
    pub(super) hushed: Vec<String>,
}

impl Copy {
    /// The first contact, before anything is read from the disk.
    pub(super) async fn reach(&self, host: &Host) -> Result<Reached> {
        let Some(host) = &host.daemon else {
            let text =
                format!("cannot copy to or from {host}: only daemons are reached, not logins");
            return Err(Failure::new(Code::Usage, text).into());
        };
        // TCP goes at the pace of the kernel, which gives way to few.
        let choice = match (self.link(), self.pace()) {
            (LinkChoice::Auto, Pace::Background | Pace::Fixed(_)) => LinkChoice::PreferQuic,
            (choice, _) => choice,
        };
        let memory = PathStore::open(&self.places, host);
        let transport = TransportOptions {
            pace: self.pace(),
            known_path: memory.load(),
            ..TransportOptions::default()
        };
        let options = ContactOptions {
            accept_new: self.arguments.accept_new,
            patience: self.arguments.give_up_after.unwrap_or(FIRST_CONTACT),
            links: Links { choice, transport },
        };
        let quiet = self.arguments.quiet;
        let say = |text: &str| {
            // A question is asked however quiet the user wants it.
            if !quiet || text.ends_with(' ') {
                render::tell(text);
            }
        };
        let (identity, places) = (self.identity.clone(), &self.places);
        let contact =
            contact::reach(host, identity, places, &options, &self.interrupt, &say).await?;
        let (hushed, lane_ended) = (contact.warnings(), Some(memory.watch()));
        Ok(Reached { hushed, connect: contact.into_connect(), lane_ended })
    }
}
