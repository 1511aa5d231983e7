//! A copy between two other machines: both are dialled from here, as for any copy, and the bytes go straight from
//! the one to the other, or through here where that is asked for.

use anyhow::Result;
use link::{LaneKind, LinkChoice, Target};
use transfer::client::{self, Between};

use super::Copy;
use crate::address::Host;
use crate::bounds::Here;
use crate::landing::Wish;
use crate::reach::{Around, Reached};
use crate::render;
use crate::report::{Code, Failure};

impl Copy {
    /// Has paths of the one machine copied to a path of the other.
    pub(super) async fn copy_between(
        &self,
        (from, paths): (Host, Vec<Vec<u8>>),
        (to, path): (Host, Vec<u8>),
        wish: Wish,
    ) -> Result<Code> {
        if self.only.is_some() {
            let text = "--files-from does not go with a copy between two other machines";
            return Err(Failure::new(Code::Usage, text)
                .hint("run haul cp with the list on one of the two")
                .into());
        }
        if self.arguments.verify {
            let text = "--verify does not go with a copy between two other machines";
            return Err(Failure::new(Code::Usage, text)
                .hint("run haul cp --verify on one of the two")
                .into());
        }
        let at = daemon_of(&to)?.clone();
        daemon_of(&from)?;
        // The target first: it is asked only when the source has been looked through.
        let target = self.reach_daemon(&to).await?;
        let source = self.reach_daemon(&from).await?;
        if source.peer == target.peer {
            let text = format!("{from} and {to} are the same machine");
            return Err(Failure::new(Code::Usage, text)
                .hint("run haul cp there, with paths of that machine")
                .into());
        }
        let via_me = self.arguments.via_me;
        if via_me && self.arguments.verbose {
            render::tell(&format!("what {from} sends to {to} goes through this machine"));
        }
        let order = self.order(path, wish);
        let hushed = [source.around.hushed, target.around.hushed].concat();
        let between = Between {
            source: source.connect,
            target: target.connect,
            at,
            choice: match via_me {
                true => LinkChoice::Only(LaneKind::Pipe),
                false => self.reacher().choice(),
            },
        };
        let around = Around { hushed, ..Around::default() };
        self.run_job(Here::Neither, around, order, |order, options| {
            client::third(between.clone(), paths.clone(), order, options)
        })
        .await
    }

    /// Reaches a machine by its daemon: a login has nothing that others could be let into.
    async fn reach_daemon(&self, host: &Host) -> Result<Reached> {
        self.reach(&Host { daemon: host.daemon.clone(), login: None }).await
    }
}

fn daemon_of(host: &Host) -> Result<&Target, Failure> {
    host.daemon.as_ref().ok_or_else(|| {
        Failure::new(
            Code::Usage,
            format!("{host} is a login, and between two other machines only daemons copy"),
        )
        .hint("log in on one of the two and run haul cp there, or run haul serve on both")
    })
}
