//! One TCP connection with TLS on it, as two halves that know nothing of each other.
//! Each half has one large buffer that is used again and again: a read takes what the socket has, and what
//! is to be sent is sealed and handed to the kernel many records at a time.

use std::io;
use std::net::Shutdown;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;

use super::records::{MAX_PLAIN, MAX_RECORD, OVERHEAD, Opened, Opener, RecordError, Sealer};
use crate::Congestion;

/// How many plain bytes are sealed before the kernel gets them.
const BATCH: usize = 16 * MAX_PLAIN;

/// How much a read takes at most.
const READ_BYTES: usize = 16 * (MAX_PLAIN + OVERHEAD);

/// What the two halves of a connection hold at most.
pub(crate) const MOST_BUFFERED: usize = READ_BYTES + BATCH + BATCH / MAX_PLAIN * OVERHEAD;

/// The buffer of a connection that waits; a hello or a frame of control fits.
const SMALL_READ_BYTES: usize = MAX_RECORD;

/// How many records in a row may bring nothing; key updates and tickets do not.
const MOST_EMPTY: u32 = 64;

/// How much the kernel may hold that was not sent yet. What is queued there can no longer be overtaken.
const NOT_SENT_BYTES: u32 = 512 * 1024;

/// Why a connection ended.
#[derive(Debug, Error)]
pub(crate) enum StreamError {
    /// The socket failed, or was closed without a word.
    #[error("the connection was lost")]
    Io(#[from] io::Error),
    /// The peer gave up, with this alert of TLS.
    #[error("the peer gave up with alert {0}")]
    Alert(u8),
    /// What came is not TLS.
    #[error("{0}")]
    Broken(String),
}

impl From<RecordError> for StreamError {
    fn from(error: RecordError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// The half that reads.
#[derive(Debug)]
pub(crate) struct Reader {
    socket: Arc<TcpStream>,
    opener: Opener,
    buffer: Vec<u8>,
    /// Plain bytes that were not consumed.
    plain: Range<usize>,
    /// Sealed bytes behind them.
    sealed: Range<usize>,
    /// Records in a row that brought nothing.
    empty: u32,
    ended: bool,
}

impl Reader {
    /// A half that begins with what has come already.
    pub(super) fn new(
        socket: Arc<TcpStream>,
        opener: Opener,
        plain: Vec<u8>,
        sealed: Vec<u8>,
    ) -> Self {
        let (middle, end) = (plain.len(), plain.len() + sealed.len());
        let mut buffer = plain;
        buffer.extend_from_slice(&sealed);
        let (plain, sealed) = (0..middle, middle..end);
        Self { socket, opener, buffer, plain, sealed, empty: 0, ended: false }
    }

    pub(crate) fn socket(&self) -> &Arc<TcpStream> {
        &self.socket
    }

    /// Plain bytes that are there, of one record; empty when more must be awaited first. Decrypts, and
    /// does not wait.
    pub(crate) fn ready(&mut self) -> Result<&[u8], StreamError> {
        while self.plain.is_empty() && !self.ended {
            let sealed = &mut self.buffer[self.sealed.clone()];
            let Some(length) = Opener::length(sealed)? else { break };
            let Some(record) = sealed.get_mut(..length) else { break };
            match self.opener.open(record)? {
                Opened::Data(place) => {
                    let start = self.sealed.start;
                    self.plain = start + place.start..start + place.end;
                }
                Opened::Nothing => {}
                Opened::End => self.ended = true,
                Opened::Alert(alert) => return Err(StreamError::Alert(alert)),
            }
            self.sealed.start += length;
            self.empty = if self.plain.is_empty() { self.empty + 1 } else { 0 };
            if self.empty > MOST_EMPTY {
                return Err(StreamError::Broken("too many records that hold nothing".to_owned()));
            }
        }
        Ok(&self.buffer[self.plain.clone()])
    }

    /// Marks bytes of `ready` as used.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.plain.start = (self.plain.start + bytes).min(self.plain.end);
    }

    /// Waits until there is something to read, or the peer has ended the connection: false. It can be
    /// cancelled. `large` says whether much is expected.
    pub(crate) async fn fill(&mut self, large: bool) -> Result<bool, StreamError> {
        loop {
            if !self.ready()?.is_empty() {
                return Ok(true);
            }
            if self.ended {
                return Ok(false);
            }
            // A peer that is quicker than we are must not keep everything else from running.
            consume_budget().await;
            self.make_room(large);
            match self.socket.try_read(&mut self.buffer[self.sealed.end..]) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => self.sealed.end += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.readable().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives the buffer back while nothing is in it.
    pub(crate) fn release(&mut self) {
        if self.plain.is_empty() && self.sealed.is_empty() {
            self.buffer = Vec::new();
            (self.plain, self.sealed) = (0..0, 0..0);
        }
    }

    /// Moves the rest to the front, where what comes must be appended to it.
    fn make_room(&mut self, large: bool) {
        let wanted = if large { READ_BYTES } else { SMALL_READ_BYTES };
        if self.sealed.start > 0 {
            self.buffer.copy_within(self.sealed.clone(), 0);
            self.sealed = 0..self.sealed.len();
            self.plain = 0..0;
        }
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
    }

    /// Reads exactly this many bytes.
    pub(crate) async fn read_exact<const N: usize>(&mut self) -> Result<[u8; N], StreamError> {
        let mut bytes = [0; N];
        let mut have = 0;
        while have < N {
            if !self.fill(false).await? {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let ready = self.ready()?;
            let taken = ready.len().min(N - have);
            bytes[have..have + taken].copy_from_slice(&ready[..taken]);
            self.consume(taken);
            have += taken;
        }
        Ok(bytes)
    }
}

/// The half that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    socket: Arc<TcpStream>,
    sealer: Sealer,
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn new(socket: Arc<TcpStream>, sealer: Sealer) -> Self {
        Self { socket, sealer, out: Vec::new() }
    }

    pub(crate) fn socket(&self) -> &Arc<TcpStream> {
        &self.socket
    }

    /// Seals and hands over all of `parts`. After an error, or when it was cancelled, the connection is
    /// of no use.
    pub(crate) async fn write(&mut self, parts: &mut [&[u8]]) -> Result<(), StreamError> {
        let mut left: usize = parts.iter().map(|part| part.len()).sum();
        while left > 0 {
            self.out.clear();
            let mut batch = 0;
            while left > 0 && batch < BATCH {
                let length = left.min(MAX_PLAIN);
                self.sealer.seal(parts, &mut self.out)?;
                left -= length;
                batch += length;
            }
            self.hand_over().await?;
        }
        Ok(())
    }

    /// Says that nothing follows, and means it.
    pub(crate) async fn finish(&mut self) -> Result<(), StreamError> {
        self.out.clear();
        self.sealer.seal_close(&mut self.out)?;
        self.hand_over().await?;
        SockRef::from(&*self.socket).shutdown(Shutdown::Write)?;
        Ok(())
    }

    /// Gives the buffer back while nothing is to be sent.
    pub(crate) fn release(&mut self) {
        self.out = Vec::new();
    }

    async fn hand_over(&mut self) -> Result<(), StreamError> {
        let mut rest = &self.out[..];
        while !rest.is_empty() {
            consume_budget().await;
            match self.socket.try_write(rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.socket.writable().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Writes records that hold nothing.
    #[cfg(test)]
    pub(crate) async fn write_empty(&mut self, records: usize) -> Result<(), StreamError> {
        self.out.clear();
        for _ in 0..records {
            self.sealer.seal(&mut [&[]], &mut self.out)?;
        }
        self.hand_over().await
    }

    #[cfg(test)]
    pub(crate) fn sealer(&mut self) -> &mut Sealer {
        &mut self.sealer
    }
}

/// Sets what must be set before a socket connects or listens; a system that lacks it works without it.
pub(crate) fn prepare<'s>(socket: impl Into<SockRef<'s>>) {
    #[cfg(target_os = "linux")]
    super::congestion::prepare(socket.into());
    #[cfg(not(target_os = "linux"))]
    let _: SockRef<'s> = socket.into();
}

/// Sets what can be set on a connection; a system that lacks an option works without it.
pub(crate) fn tune(socket: &TcpStream, congestion: Congestion, silence: Duration) {
    let _ = socket.set_nodelay(true);
    #[cfg(target_os = "linux")]
    if congestion != Congestion::Cubic {
        super::congestion::begin(socket);
    }
    let socket = SockRef::from(socket);
    #[cfg(target_os = "linux")]
    {
        let _ = socket.set_tcp_notsent_lowat(NOT_SENT_BYTES);
        let _ = socket.set_tcp_user_timeout(Some(silence));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, congestion, silence, NOT_SENT_BYTES);
}

/// Takes the manners that give way to others, of those that the system has and allows.
pub(crate) fn give_way(socket: &TcpStream) {
    #[cfg(target_os = "linux")]
    {
        let socket = SockRef::from(socket);
        // Reno is always there, and takes less of a long path than any other that is.
        if socket.set_tcp_congestion(b"lp").is_err() {
            let _ = socket.set_tcp_congestion(b"reno");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}
