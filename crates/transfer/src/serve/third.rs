//! Copies between two other machines, as the daemon at their target sees them: it gives grants, and takes what
//! comes under them as long as whoever gave them could have sent it. What the source does is in `sending`.

use std::time::Duration;

use link::{Lane, PublicKey};
use tokio::time::interval;

use super::book::Under;
use super::{Refused, Running, Server, blocking};
use crate::TransferError;
use crate::grant::{Granter, Terms};
use crate::host::{Host, Landing, Refusal};
use crate::message::{Granted, Opening, Order, RefuseCode};
use crate::session::Control;

/// How often it is asked whether who has granted a transfer may still write.
const ASK_EVERY: Duration = Duration::from_secs(2);

impl Server {
    /// Lets another machine write here what this peer could.
    pub(super) async fn grant(
        &self,
        lane: &Lane,
        control: &mut Control,
        (to, bytes, seconds): (PublicKey, u64, u64),
        order: Order,
    ) -> Result<Option<Running>, Refused> {
        let granter = Granter { key: *lane.peer(), remote: lane.remote_address() };
        let terms = Terms::new(granter, to, &order, bytes);
        let (host, asking) = (self.host.clone(), lane.clone());
        let landing = blocking(move || host.grants(&asking, &order)).await?;
        let (grant, time) = self.book.give(terms, Duration::from_secs(seconds))?;
        let (named, seconds) = (landing.rename_top.is_some(), time.as_secs());
        let granted = Opening::Granted(Granted { grant, seconds, named, shown: landing.shown });
        control.0.send(&granted.encode()).await.map_err(TransferError::Link)?;
        Ok(None)
    }

    /// Never, unless a transfer runs under a grant: then as soon as the key that gave it may do other things
    /// than before.
    pub(super) async fn not_granted_any_more(&self, under: Option<&Under>) -> Refusal {
        let Some(under) = under else { return std::future::pending().await };
        let mut ask = interval(ASK_EVERY);
        loop {
            ask.tick().await;
            let now = self.host.permissions_of(&under.terms().granter);
            if now.as_ref().ok() != under.allowed() {
                let text = "the key that has granted this copy may not do here what it could then";
                return Refusal { code: RefuseCode::Denied, text: text.to_owned() };
            }
        }
    }
}

/// Where an order lands that somebody else carries out under a grant. What the one who gave it may do is
/// noted, for it must not change meanwhile.
pub(super) fn landing(
    host: &dyn Host,
    under: &mut Under,
    source: &Lane,
    order: &Order,
) -> Result<Landing, Refusal> {
    let allowed = host.permissions_of(&under.terms().granter)?;
    let landing = host.granted(&allowed, source.peer_name(), order)?;
    under.allow(allowed);
    let max_bytes = landing.max_bytes.into_iter().chain([under.terms().bytes]).min();
    Ok(Landing { max_bytes, ..landing })
}
