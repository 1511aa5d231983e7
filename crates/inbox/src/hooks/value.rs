//! Values of a hook's environment and headers, some of which are secrets in files of their own. They are read anew for
//! each run, so that a token can be replaced while the server runs.

use std::path::Path;

use files::{File, escape_path};

use crate::options::HookValue;

/// No secret is longer.
const MAX_SECRET: u64 = 64 * 1024;

/// The value, and whether it is a secret. The error is safe to show.
pub(super) fn read(value: &HookValue) -> Result<(Vec<u8>, bool), String> {
    match value {
        HookValue::Plain(text) => Ok((text.clone().into_bytes(), false)),
        HookValue::File(path) => Ok((secret(path)?, true)),
    }
}

/// What a file holds, without what ends its last line.
pub(super) fn secret(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = whole(path, MAX_SECRET)?;
    while bytes.last().is_some_and(|last| b"\r\n".contains(last)) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Err(format!("{} is empty", escape_path(path)));
    }
    Ok(bytes)
}

/// A whole file of the operator's.
pub(super) fn whole(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let read = || File::open_ambient(path)?.read_whole(most);
    read().map_err(|error| causes(&error))
}

/// An error with its causes, safe to show.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // Some errors say their cause's words themselves.
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    files::escape(text.as_bytes()).to_string()
}
