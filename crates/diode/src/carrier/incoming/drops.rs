//! What the kernel dropped of the datagrams for a socket, as it tells in its table of sockets.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

/// The column of the table that has the number of the socket, and the one that counts drops.
const NUMBER: usize = 9;
const DROPS: usize = 12;

/// Bytes read at once.
const READ: usize = 16 * 1024;

/// The longest line, by far.
const MOST_LINE: usize = 1024;

/// The drops of one socket.
#[derive(Debug)]
pub(super) struct Drops {
    /// Opened once, so that it stays the table of the socket's network namespace.
    table: OwnedFd,
    socket: u64,
    /// What the kernel, whose figure has 32 bits, said last.
    said: u32,
    count: u64,
}

impl Drops {
    /// Those of a UDP socket; None where the kernel tells nothing.
    pub(super) fn of(socket: impl AsFd, is_ipv6: bool) -> Option<Self> {
        let path = match is_ipv6 {
            false => "/proc/thread-self/net/udp",
            true => "/proc/thread-self/net/udp6",
        };
        let socket = rustix::fs::fstat(socket).ok()?.st_ino;
        let table = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        Some(Self { table, socket, said: 0, count: 0 })
    }

    /// How many were dropped, as of when the kernel was last asked.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Asks the kernel. What it does not tell changes nothing.
    pub(super) fn ask(&mut self) {
        if let Some(said) = self.find() {
            self.count += u64::from(said.wrapping_sub(self.said));
            self.said = said;
        }
    }

    fn find(&self) -> Option<u32> {
        let (mut bytes, mut offset) = (Vec::new(), 0);
        let mut piece = vec![0; READ];
        loop {
            let read = rustix::io::pread(&self.table, &mut piece[..], offset).ok()?;
            offset += read as u64;
            bytes.extend_from_slice(&piece[..read]);
            let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if read == 0 || bytes.len() > MOST_LINE => return None,
                None => continue,
            };
            let lines = String::from_utf8_lossy(&bytes[..whole]);
            if let Some(found) = drops_of(&lines, self.socket) {
                return Some(found);
            }
            if read == 0 {
                return None;
            }
            bytes.drain(..whole);
        }
    }
}

/// The drops of a socket, from lines of the table.
fn drops_of(lines: &str, socket: u64) -> Option<u32> {
    let mut rows = lines.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let row =
        rows.find(|row| row.get(NUMBER).and_then(|text| text.parse().ok()) == Some(socket))?;
    // The kernel prints a signed number.
    row.get(DROPS)?.parse::<i64>().ok().map(|drops| drops as u32)
}

#[cfg(test)]
mod tests;
