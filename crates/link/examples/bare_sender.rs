//! The fastest that a copy over this QUIC library can be: one connection with the settings of a lane,
//! chunks on a stream each, and nothing else, no hashing, no protocol and no trust. Benches hold haul
//! against it. It opens no path: the sender reads the file on its standard input, and the receiver
//! writes to the file on its standard output.
//!
//! ```text
//! bare_sender receive ADDRESS > TARGET    prints the address it listens on to standard error (port 0
//!                                         takes a free one), takes one file
//! bare_sender send ADDRESS < SOURCE
//! bare_sender receive ADDRESS nowhere     drops what arrives
//! bare_sender send ADDRESS memory BYTES
//! ```
//!
//! With `stock` as the first word, at both ends, the library's own default settings are used instead; with
//! `bbr` a lane's settings with the library's BBR. At its end the sender prints its figures.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use link::{LARGEST_SHARE, LinkError};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, TokioRuntime, VarInt};

// These are the lane's own, so that both are measured with the same settings.
#[allow(dead_code, unused_imports)]
#[path = "../src/rate.rs"]
mod rate;
#[allow(dead_code)]
#[path = "../src/socket.rs"]
mod socket;
#[path = "bare/tls.rs"]
mod tls;
#[allow(dead_code)]
#[path = "../src/transport.rs"]
mod transport;

use transport::TransportOptions;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How much of the file goes on one stream.
const CHUNK: usize = 1024 * 1024;

/// As many streams as a lane's peer may have open.
const STREAMS: u32 = 16;

/// Each stream begins with the chunk's offset and the file's length, eight bytes each.
const HEAD: usize = 16;

/// The code with which the receiver says that it has everything.
const DONE: VarInt = VarInt::from_u32(0);

const USAGE: &str = "usage: bare_sender [stock|bbr] receive ADDRESS [nowhere] | bare_sender [stock|bbr] send ADDRESS [memory BYTES]";

/// Whose settings are used.
#[derive(Clone, Copy)]
enum Settings {
    /// Those of haul's lanes.
    Lane,
    /// Those, with the library's BBR.
    Bbr,
    /// The library's defaults.
    Stock,
}

impl Settings {
    fn transport(self, peer: Option<SocketAddr>) -> Result<Arc<quinn::TransportConfig>> {
        let payload = peer.and_then(socket::path_payload);
        Ok(Arc::new(match self {
            Self::Lane | Self::Bbr => {
                self.options().within(payload).to_config(LARGEST_SHARE, STREAMS)?
            }
            Self::Stock => quinn::TransportConfig::default(),
        }))
    }

    fn options(self) -> TransportOptions {
        let congestion = match self {
            Self::Bbr => transport::Congestion::Bbr,
            Self::Lane | Self::Stock => transport::Congestion::Rate,
        };
        TransportOptions { congestion, ..TransportOptions::default() }
    }

    fn endpoint(self, local: SocketAddr, server: Option<quinn::ServerConfig>) -> Result<Endpoint> {
        let options = self.options();
        let (socket, config) = match self {
            Self::Lane | Self::Bbr => {
                let (socket, _warnings) = socket::open(local, options.socket_buffer_bytes)?;
                (socket, options.to_endpoint_config()?)
            }
            Self::Stock => (std::net::UdpSocket::bind(local)?, quinn::EndpointConfig::default()),
        };
        Ok(Endpoint::new(config, server, socket, Arc::new(TokioRuntime))?)
    }
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (settings, words) = match &words[..] {
        ["stock", rest @ ..] => (Settings::Stock, rest),
        ["bbr", rest @ ..] => (Settings::Bbr, rest),
        all => (Settings::Lane, all),
    };
    match words[..] {
        ["receive", address] => {
            let file = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
            runtime.block_on(receive(settings, address.parse()?, Some(file)))
        }
        ["receive", address, "nowhere"] => {
            runtime.block_on(receive(settings, address.parse()?, None))
        }
        ["send", address] => {
            let file = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
            let length = file.metadata()?.len();
            runtime.block_on(send(settings, address.parse()?, Source::File(file), length))
        }
        ["send", address, "memory", length] => {
            let source = Source::Memory(Bytes::from(vec![0x5a; CHUNK]));
            runtime.block_on(send(settings, address.parse()?, source, length.parse()?))
        }
        _ => Err(USAGE.into()),
    }
}

/// What the sender sends.
enum Source {
    File(File),
    /// The same chunk again and again.
    Memory(Bytes),
}

impl Source {
    fn chunk(&self, offset: u64, length: usize) -> Result<Bytes> {
        match self {
            Self::File(file) => {
                let mut chunk = vec![0; length];
                file.read_exact_at(&mut chunk, offset)?;
                Ok(chunk.into())
            }
            Self::Memory(chunk) => Ok(chunk.slice(..length)),
        }
    }
}

async fn send(settings: Settings, address: SocketAddr, source: Source, total: u64) -> Result<()> {
    let endpoint = settings.endpoint((Ipv4Addr::UNSPECIFIED, 0).into(), None)?;
    let crypto = QuicClientConfig::try_from(tls::client()?)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(settings.transport(Some(address))?);
    let begun = Instant::now();
    let connection = endpoint.connect_with(config, address, "bench")?.await?;
    let mut offset = 0;
    while offset < total {
        let length = (total - offset).min(CHUNK as u64);
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&offset.to_be_bytes());
        head[8..].copy_from_slice(&total.to_be_bytes());
        let body = source.chunk(offset, length as usize)?;
        let mut stream = connection.open_uni().await?;
        stream.set_priority(-((offset / CHUNK as u64) as i32))?;
        stream.write_all_chunks(&mut [Bytes::copy_from_slice(&head), body]).await?;
        stream.finish()?;
        offset += length;
    }
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) if close.error_code == DONE => {}
        error => return Err(error.into()),
    }
    let path = connection.stats().path;
    let seconds = begun.elapsed().as_secs_f64();
    let learned = rate::control_of(connection.congestion_state()).and_then(|rate| rate.learned());
    writeln!(
        std::io::stderr(),
        "{:.2} MB/s whole, {} packets, {} lost, mtu {}, {}",
        total as f64 / 1e6 / seconds,
        path.sent_packets,
        path.lost_packets,
        path.current_mtu,
        learned.map_or_else(String::new, |learned| learned.to_line()),
    )?;
    Ok(())
}

async fn receive(settings: Settings, local: SocketAddr, file: Option<File>) -> Result<()> {
    let crypto = QuicServerConfig::try_from(tls::server()?)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(settings.transport(None)?);
    let endpoint = settings.endpoint(local, Some(config))?;
    writeln!(std::io::stderr(), "{}", endpoint.local_addr()?)?;
    let connection = endpoint.accept().await.ok_or("the endpoint was closed")?.await?;
    take_all(&connection, file.as_ref()).await?;
    connection.close(DONE, b"all of it arrived");
    endpoint.wait_idle().await;
    Ok(())
}

/// Takes chunks, one stream after the other as the sender's priorities have them come.
async fn take_all(connection: &Connection, file: Option<&File>) -> Result<()> {
    let mut arrived = 0;
    let mut tenth = None;
    let mut told = false;
    loop {
        let mut stream = connection.accept_uni().await?;
        let mut head = [0; HEAD];
        stream.read_exact(&mut head).await?;
        let number = |at: usize| {
            u64::from_be_bytes(head[at..at + 8].try_into().expect("eight bytes were sliced"))
        };
        let (offset, total) = (number(0), number(8));
        arrived += match file {
            Some(file) => {
                let body = stream.read_to_end(CHUNK).await?;
                file.write_all_at(&body, offset)?;
                body.len() as u64
            }
            None => drop_all(&mut stream).await?,
        };
        if tenth.is_none() && arrived >= total / 10 {
            tenth = Some((Instant::now(), arrived));
        }
        if let Some((then, before)) = tenth.filter(|_| arrived >= total / 10 * 9 && !told) {
            told = true;
            let rate = (arrived - before) as f64 / 1e6 / then.elapsed().as_secs_f64();
            writeln!(std::io::stderr(), "{rate:.2} MB/s from a tenth to nine tenths")?;
        }
        if arrived >= total {
            return Ok(());
        }
    }
}

/// Reads a stream to its end, keeps nothing, and says how much it was.
async fn drop_all(stream: &mut RecvStream) -> Result<u64> {
    let mut length = 0;
    while let Some(chunk) = stream.read_chunk(usize::MAX, false).await? {
        length += chunk.bytes.len() as u64;
    }
    Ok(length)
}
