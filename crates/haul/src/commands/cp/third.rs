//! A copy between two other machines: both are dialled from here, as for any copy, and the bytes go straight from
//! the one to the other.

use anyhow::Result;
use link::Target;
use transfer::client::{self, Between};

use super::Copy;
use crate::address::bare;
use crate::bounds::Here;
use crate::landing::Wish;
use crate::report::{Code, Failure};

impl Copy {
    /// Has paths of the one machine copied to a path of the other.
    pub(super) async fn copy_between(
        &self,
        (from, paths): (Target, Vec<Vec<u8>>),
        (to, path): (Target, Vec<u8>),
        wish: Wish,
    ) -> Result<Code> {
        // The target first: it is asked only when the source has been looked through.
        let target = self.reach(&to).await?;
        let source = self.reach(&from).await?;
        if source.key == target.key {
            let text = format!("{} and {} are the same machine", bare(&from), bare(&to));
            return Err(Failure::new(Code::Usage, text)
                .hint("run haul cp there, with paths of that machine")
                .into());
        }
        let order = self.order(path, wish);
        let hushed = [source.hushed, target.hushed].concat();
        let between = Between {
            source: source.connect,
            target: target.connect,
            at: to,
            choice: self.link_choice(),
        };
        self.run_job(Here::Neither, hushed, None, |options| {
            client::third(between, paths, order, options)
        })
        .await
    }
}
