//! A key asks to be let in, as the daemon sees it. It is the one thing that an unknown key may ask
//! (`docs/formats/inbox.md`); whether it is let in, and how often it may ask, is the policy's to say.

use link::Lane;

use super::{Refused, Running, Server, blocking};
use crate::TransferError;
use crate::host::Refusal;
use crate::message::{Opening, RefuseCode};
use crate::session::Control;

impl Server {
    pub(super) async fn enrol(
        &self,
        lane: &Lane,
        control: &mut Control,
        code: Vec<u8>,
        label: String,
    ) -> Result<Option<Running>, Refused> {
        let Some(reception) = self.reception.clone() else {
            let text = "this daemon lets nobody in by requests or codes".to_owned();
            return Err(Refusal { code: RefuseCode::Denied, text }.into());
        };
        let asking = lane.clone();
        let (admitted, text) = blocking(move || reception.enrol(&asking, &code, &label)).await?;
        let answer = Opening::Enrolled { admitted, text };
        control.0.send(&answer.encode()).await.map_err(TransferError::Link)?;
        Ok(None)
    }
}
