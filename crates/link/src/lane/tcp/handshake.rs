//! The TLS handshake over a TCP socket, up to the point where the records take over.
//! What the peer makes us hold until it has proven its key is one small buffer.

use std::io;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};
use rustls::{ClientConfig, ServerConfig};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::records::{self, RecordError};
use super::stream::{Reader, Writer};
use crate::{PublicKey, tls};

/// The most that a peer may send for one message of the handshake.
const MAX_FLIGHT: usize = 20 * 1024;

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum HandshakeError {
    /// The socket failed, or the peer closed it.
    #[error("the connection was lost")]
    Lost {
        /// Whether the peer had said anything before.
        heard: bool,
        source: io::Error,
    },
    /// The two sides do not understand each other.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// The keys are of a kind that is not expected.
    #[error(transparent)]
    Record(#[from] RecordErrorShown),
}

/// Keeps the kind of error private to the records.
#[derive(Debug, Error)]
#[error(transparent)]
pub(crate) struct RecordErrorShown(#[from] RecordError);

/// A connection whose peer has proven its key.
#[derive(Debug)]
pub(crate) struct Secured {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    /// None only if the peer showed something that is no key of ours.
    pub(crate) key: Option<PublicKey>,
}

/// The side that dials.
pub(crate) async fn dial(
    socket: TcpStream,
    config: Arc<ClientConfig>,
) -> Result<Secured, HandshakeError> {
    // The library wants a name; none is sent, since a raw key is bound to none.
    let name = rustls::pki_types::ServerName::try_from("haul")
        .map_err(|_| rustls::Error::General("the server name is not one".to_owned()))?;
    let tls = UnbufferedClientConnection::new(config, name)?;
    let (tls, met) = shake(tls, socket).await?;
    let key = tls.peer_certificates().and_then(tls::peer_key);
    let (secrets, kernel) = tls.dangerous_into_kernel_connection()?;
    let (sealer, opener) = records::pair(secrets, kernel).map_err(RecordErrorShown)?;
    Ok(met.secured(sealer, opener, key))
}

/// The side that listens.
pub(crate) async fn answer(
    socket: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<Secured, HandshakeError> {
    let tls = UnbufferedServerConnection::new(config)?;
    let (tls, met) = shake(tls, socket).await?;
    let key = tls.peer_certificates().and_then(tls::peer_key);
    let (secrets, kernel) = tls.dangerous_into_kernel_connection()?;
    let (sealer, opener) = records::pair(secrets, kernel).map_err(RecordErrorShown)?;
    Ok(met.secured(sealer, opener, key))
}

/// The two kinds of connection, which the library gives no common trait.
trait Party {
    type Data;
    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn is_handshaking(&self) -> bool;
}

impl Party for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn is_handshaking(&self) -> bool {
        (**self).is_handshaking()
    }
}

impl Party for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn step<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn is_handshaking(&self) -> bool {
        (**self).is_handshaking()
    }
}

/// The socket after the handshake, and what came behind it.
struct Met {
    socket: TcpStream,
    /// Plain bytes that the library has decrypted already; at most one record.
    plain: Vec<u8>,
    /// Records that were not looked at yet.
    sealed: Vec<u8>,
}

impl Met {
    fn secured(
        self,
        sealer: records::Sealer,
        opener: records::Opener,
        key: Option<PublicKey>,
    ) -> Secured {
        let socket = Arc::new(self.socket);
        let reader = Reader::new(socket.clone(), opener, self.plain, self.sealed);
        Secured { reader, writer: Writer::new(socket, sealer), key }
    }
}

enum Next {
    Again,
    Send,
    Receive,
    Done,
    Fail(rustls::Error),
}

async fn shake<P: Party>(mut tls: P, mut socket: TcpStream) -> Result<(P, Met), HandshakeError> {
    let mut incoming = Vec::with_capacity(MAX_FLIGHT);
    let (mut outgoing, mut plain) = (Vec::new(), Vec::new());
    let mut heard = false;
    let lost = |heard, source| HandshakeError::Lost { heard, source };
    loop {
        // What comes behind the handshake is the records' business, so it is not shown to the library.
        let shown = if tls.is_handshaking() { incoming.len() } else { 0 };
        let UnbufferedStatus { discard, state } = tls.step(&mut incoming[..shown]);
        let next = advance::<P>(state, &mut outgoing, &mut plain);
        incoming.drain(..discard);
        match next {
            Next::Again => {}
            Next::Send => {
                socket.write_all(&outgoing).await.map_err(|error| lost(heard, error))?;
                outgoing.clear();
            }
            Next::Receive => {
                if incoming.len() >= MAX_FLIGHT {
                    return Err(rustls::Error::General("the handshake is too long".into()).into());
                }
                let room = (MAX_FLIGHT - incoming.len()) as u64;
                let read = (&mut socket).take(room).read_buf(&mut incoming).await;
                if read.map_err(|error| lost(heard, error))? == 0 {
                    return Err(lost(heard, io::ErrorKind::UnexpectedEof.into()));
                }
                heard = true;
            }
            Next::Done => return Ok((tls, Met { socket, plain, sealed: incoming })),
            Next::Fail(error) => {
                // The peer is told why; whether that arrives changes nothing for us.
                while let Ok(ConnectionState::EncodeTlsData(mut data)) = tls.step(&mut []).state {
                    encode(|out| data.encode(out), &mut outgoing);
                }
                let _ = socket.write_all(&outgoing).await;
                let _ = socket.shutdown().await;
                return Err(error.into());
            }
        }
    }
}

fn advance<P: Party>(
    state: Result<ConnectionState<'_, '_, P::Data>, rustls::Error>,
    outgoing: &mut Vec<u8>,
    plain: &mut Vec<u8>,
) -> Next {
    match state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            encode(|out| data.encode(out), outgoing);
            Next::Again
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Next::Send
        }
        Ok(ConnectionState::BlockedHandshake) => Next::Receive,
        Ok(ConnectionState::WriteTraffic(_)) => Next::Done,
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => plain.extend_from_slice(record.payload),
                    Err(error) => return Next::Fail(error),
                }
            }
            Next::Again
        }
        Ok(_) => Next::Fail(rustls::Error::General("the peer ended the handshake".into())),
        Err(error) => Next::Fail(error),
    }
}

/// Appends a message of the handshake; the first try asks how long it is.
fn encode(mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>, out: &mut Vec<u8>) {
    let start = out.len();
    let mut room = 0;
    loop {
        out.resize(start + room, 0);
        match write(&mut out[start..]) {
            Ok(written) => return out.truncate(start + written),
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                room = required_size;
            }
            Err(EncodeError::AlreadyEncoded) => return out.truncate(start),
        }
    }
}
