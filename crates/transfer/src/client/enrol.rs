//! Asking to be let in.

use link::Lane;

use crate::TransferError;
use crate::host::Refusal;
use crate::message::{MAX_CODE, MAX_LABEL, Opening, RefuseCode};
use crate::session;

/// Asks the daemon at the other end to let our key in, with a code that its operator has given out, or with an empty
/// one. Whether it is let in from now on, and in words what follows.
pub async fn enrol(lane: &Lane, code: &[u8], label: &str) -> Result<(bool, String), TransferError> {
    if code.len() > MAX_CODE || label.len() > MAX_LABEL {
        let text = format!("a code has at most {MAX_CODE} bytes, and a label {MAX_LABEL}");
        return Err(Refusal { code: RefuseCode::Protocol, text }.into());
    }
    let request = Opening::Enrol { code: code.to_vec(), label: label.to_owned() };
    match session::ask(lane, &request).await? {
        (_, Opening::Enrolled { admitted, text }) => Ok((admitted, text)),
        (_, other) => Err(session::unexpected(lane, other)),
    }
}
