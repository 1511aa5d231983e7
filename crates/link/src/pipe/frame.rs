//! The frames of a pipe that carries connections (`docs/formats/link.md`, "Through a pipe"). Pure.

use thiserror::Error;

/// The length of what each frame begins with.
pub(crate) const HEAD_BYTES: usize = 9;
/// The most data of one frame.
pub(crate) const MOST_DATA: usize = 64 * 1024;
/// What may be sent on a connection beyond what was read from it.
pub(crate) const WINDOW: usize = 4 * 1024 * 1024;
/// The most connections at once of any tunnel.
pub(crate) const MOST_CONNECTIONS: usize = 12;

/// What a frame begins with. Of data, the bytes follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// The dialer begins a connection.
    Open { connection: u32 },
    /// So many bytes follow.
    Data { connection: u32, length: usize },
    /// So many bytes more may be sent.
    Credit { connection: u32, bytes: usize },
    /// No more data in this direction.
    End { connection: u32 },
    /// The connection is over.
    Reset { connection: u32 },
    /// Asks for a sign of life.
    Ping { number: u32 },
    /// Gives it.
    Pong { number: u32 },
    /// The job is over.
    Bye,
}

/// Why bytes are no frame, or one that may not come now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct Violation(pub(crate) &'static str);

impl Head {
    pub(crate) fn encode(self) -> [u8; HEAD_BYTES] {
        let (kind, connection, value) = match self {
            Self::Open { connection } => (1, connection, 0),
            Self::Data { connection, length } => (2, connection, length as u32),
            Self::Credit { connection, bytes } => (3, connection, bytes as u32),
            Self::End { connection } => (4, connection, 0),
            Self::Reset { connection } => (5, connection, 0),
            Self::Ping { number } => (6, 0, number),
            Self::Pong { number } => (7, 0, number),
            Self::Bye => (8, 0, 0),
        };
        let mut out = [kind; HEAD_BYTES];
        out[1..5].copy_from_slice(&connection.to_be_bytes());
        out[5..].copy_from_slice(&value.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Self, Violation> {
        let [kind, c0, c1, c2, c3, v0, v1, v2, v3] = *bytes;
        let connection = u32::from_be_bytes([c0, c1, c2, c3]);
        let value = u32::from_be_bytes([v0, v1, v2, v3]);
        let at_most = |most: usize| match usize::try_from(value) {
            Ok(value) if (1..=most).contains(&value) => Ok(value),
            _ => Err(Violation("a frame with a length or credit that cannot be")),
        };
        let head = match kind {
            1 => Self::Open { connection },
            2 => Self::Data { connection, length: at_most(MOST_DATA)? },
            3 => Self::Credit { connection, bytes: at_most(WINDOW)? },
            4 => Self::End { connection },
            5 => Self::Reset { connection },
            6 => Self::Ping { number: value },
            7 => Self::Pong { number: value },
            8 => Self::Bye,
            _ => return Err(Violation("a frame of an unknown kind")),
        };
        // Each frame has one form only.
        match head.encode() == *bytes {
            true => Ok(head),
            false => Err(Violation("a frame with a number where there is none")),
        }
    }
}

/// What one end knows of the connections, and what their frames may be. It holds no data.
#[derive(Debug)]
pub(crate) struct Table {
    /// Whether this end opens connections.
    opens: bool,
    /// The most connections at once.
    most: usize,
    next: u32,
    open: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    number: u32,
    /// What the peer may still send.
    allowed: usize,
    /// What we may still send.
    credit: usize,
    ended_here: bool,
    ended_there: bool,
}

/// What an allowed frame means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A connection that is to be made here.
    Opened,
    /// A connection for which there is no place: it is to be reset.
    NoPlace,
    /// Data for a connection that is open.
    Data,
    /// More may be sent.
    Credited,
    /// The peer sends no more.
    Ended,
    /// The connection is over.
    Over,
    /// It is about a connection that is over already: what came with it is thrown away.
    Stale,
    /// About the pipe itself.
    Pipe,
}

impl Table {
    /// No connections yet, and so many at once at the most.
    pub(crate) fn new(opens: bool, most: usize) -> Self {
        let most = most.clamp(1, MOST_CONNECTIONS);
        Self { opens, most, next: 0, open: Vec::new() }
    }

    fn find(&mut self, number: u32) -> Option<&mut Connection> {
        self.open.iter_mut().find(|connection| connection.number == number)
    }

    fn begin(&mut self) -> u32 {
        let number = self.next;
        self.next += 1;
        let (allowed, credit) = (WINDOW, WINDOW);
        let fresh = Connection { number, allowed, credit, ended_here: false, ended_there: false };
        self.open.push(fresh);
        number
    }

    /// Opens a connection from this end; none where all places are taken.
    pub(crate) fn open(&mut self) -> Option<u32> {
        let has_place = self.open.len() < self.most && self.next < u32::MAX;
        (self.opens && has_place).then(|| self.begin())
    }

    /// Takes out so much credit, up to `wanted` bytes; none where the connection is over.
    pub(crate) fn spend(&mut self, number: u32, wanted: usize) -> Option<usize> {
        let connection = self.find(number)?;
        let spent = wanted.min(connection.credit);
        connection.credit -= spent;
        Some(spent)
    }

    /// Gives back what was taken out and not used.
    pub(crate) fn refund(&mut self, number: u32, bytes: usize) {
        if let Some(connection) = self.find(number) {
            connection.credit += bytes;
        }
    }

    /// So many bytes were passed on: the peer may send as many more. False if the connection is over.
    pub(crate) fn passed_on(&mut self, number: u32, bytes: usize) -> bool {
        let Some(connection) = self.find(number) else { return false };
        connection.allowed += bytes;
        true
    }

    /// This end sends no more on the connection. False if it is over.
    pub(crate) fn end(&mut self, number: u32) -> bool {
        let Some(connection) = self.find(number) else { return false };
        connection.ended_here = true;
        self.forget_ended(number);
        true
    }

    /// The connection is over here. False if it was already.
    pub(crate) fn close(&mut self, number: u32) -> bool {
        let before = self.open.len();
        self.open.retain(|connection| connection.number != number);
        self.open.len() < before
    }

    fn forget_ended(&mut self, number: u32) {
        self.open.retain(|c| c.number != number || !c.ended_here || !c.ended_there);
    }

    /// Takes a frame of the peer.
    pub(crate) fn take(&mut self, head: Head) -> Result<Meaning, Violation> {
        let number = match head {
            Head::Open { connection } => return self.opened(connection),
            Head::Ping { .. } | Head::Pong { .. } | Head::Bye => return Ok(Meaning::Pipe),
            Head::Data { connection, .. }
            | Head::Credit { connection, .. }
            | Head::End { connection }
            | Head::Reset { connection } => connection,
        };
        if number >= self.next {
            return Err(Violation("a frame of a connection that was not opened"));
        }
        let Some(connection) = self.find(number) else { return Ok(Meaning::Stale) };
        match head {
            Head::Data { length, .. } => {
                if connection.ended_there {
                    return Err(Violation("data behind its end"));
                }
                let left = connection.allowed.checked_sub(length);
                connection.allowed = left.ok_or(Violation("more data than was allowed"))?;
                Ok(Meaning::Data)
            }
            Head::Credit { bytes, .. } => {
                connection.credit += bytes;
                if connection.credit > WINDOW {
                    return Err(Violation("credit for what was not sent"));
                }
                Ok(Meaning::Credited)
            }
            Head::End { .. } => {
                if std::mem::replace(&mut connection.ended_there, true) {
                    return Err(Violation("an end behind the end"));
                }
                self.forget_ended(number);
                Ok(Meaning::Ended)
            }
            _ => {
                self.close(number);
                Ok(Meaning::Over)
            }
        }
    }

    fn opened(&mut self, number: u32) -> Result<Meaning, Violation> {
        if self.opens || number != self.next {
            return Err(Violation("a connection that is not the next one of the dialer"));
        }
        if number == u32::MAX {
            return Err(Violation("too many connections"));
        }
        if self.open.len() >= self.most {
            self.next += 1;
            return Ok(Meaning::NoPlace);
        }
        self.begin();
        Ok(Meaning::Opened)
    }
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use super::*;

    /// Reads frames as the listener's end does; what is allowed stays within bounds.
    pub(crate) fn read(data: &[u8]) {
        let mut table = Table::new(false, MOST_CONNECTIONS);
        let mut rest = data;
        while let Some((head, behind)) = rest.split_first_chunk::<HEAD_BYTES>() {
            rest = behind;
            let Ok(head) = Head::decode(head) else { return };
            if table.take(head).is_err() {
                return;
            }
            assert!(table.open.len() <= MOST_CONNECTIONS);
            assert!(table.open.iter().all(|c| c.allowed <= WINDOW && c.credit <= WINDOW));
            if let Head::Data { length, .. } = head {
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests;
