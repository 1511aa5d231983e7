//! Targets for the readers of `haul`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use haul::Address;

/// One SOURCE or TARGET of the command line.
pub fn address(data: &[u8]) {
    match Address::parse(OsStr::from_bytes(data)) {
        Ok(Address::Far { path, .. }) => assert!(!path.contains(&0), "a path holds no NUL byte"),
        Ok(Address::Local(_) | Address::Pipe) | Err(_) => {}
    }
}
