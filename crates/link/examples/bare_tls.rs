//! The fastest that an encrypted copy over one TCP connection can be: TLS 1.3 with the cipher of a lane,
//! from file to file, and nothing else, no hashing, no protocol and no trust. Benches hold haul against it.
//! It opens no path: the sender reads the file on its standard input, and the receiver writes to the file
//! on its standard output.
//!
//! ```text
//! bare_tls receive ADDRESS > TARGET   prints the address it listens on to standard error, takes one file
//! bare_tls send ADDRESS < SOURCE
//! ```

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, ErrorKind, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection, Stream};

#[path = "bare/tls.rs"]
mod tls;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How much is read from the file and from the socket at once.
const CHUNK: usize = 256 * 1024;

/// What the receiver says when it has everything.
const DONE: &[u8] = b"done";

const USAGE: &str = "usage: bare_tls receive ADDRESS > TARGET | bare_tls send ADDRESS < SOURCE";

/// A socket that is read in large pieces: the TLS library asks for 4 KiB at a time.
struct Buffered {
    from: BufReader<TcpStream>,
    to: TcpStream,
}

impl Buffered {
    fn new(socket: TcpStream) -> Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { from: BufReader::with_capacity(CHUNK, socket.try_clone()?), to: socket })
    }
}

impl Read for Buffered {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.from.read(buffer)
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.to.write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> std::io::Result<usize> {
        self.to.write_vectored(pieces)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["receive", address] => receive(address),
        ["send", address] => send(address),
        _ => Err(USAGE.into()),
    }
}

fn send(address: &str) -> Result<()> {
    let mut file = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let name = ServerName::try_from("bench")?;
    let mut connection = ClientConnection::new(Arc::new(tls::client()?), name)?;
    let mut socket = Buffered::new(TcpStream::connect(address)?)?;
    let mut stream = Stream::new(&mut connection, &mut socket);
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        stream.write_all(&buffer[..read])?;
    }
    stream.conn.send_close_notify();
    stream.flush()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer == DONE { Ok(()) } else { Err("the receiver did not confirm".into()) }
}

fn receive(address: &str) -> Result<()> {
    let mut file = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let listener = TcpListener::bind(address)?;
    writeln!(std::io::stderr(), "{}", listener.local_addr()?)?;
    let mut connection = ServerConnection::new(Arc::new(tls::server()?))?;
    let mut socket = Buffered::new(listener.accept()?.0)?;
    let mut stream = Stream::new(&mut connection, &mut socket);
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => file.write_all(&buffer[..read])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    stream.write_all(DONE)?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}
