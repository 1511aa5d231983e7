//! Bytes that nobody can guess, from the system.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// So many of them; at most 256, which the system never gives in part.
pub(crate) fn chance<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    match getrandom(&mut bytes, GetRandomFlags::empty())? {
        got if got == N => Ok(bytes),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
