//! Hands the bytes of connections on to programs, with a thread for each connection: to one that it connects to, or to
//! the next that connects to us. A connection that did not come across whole is reset, so that nobody takes it for one
//! that did.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Figures;
use super::pipe::{Next, Pipe};
use crate::carrier::{Address, Redial, TICK, tune, wait_readable, wait_writable};
use crate::priority;

/// How long bytes go out once the receiver stops.
const AFTER_STOP: Duration = Duration::from_secs(1);

/// How long a connection that has ended waits for a program to take it.
const AFTER_END: Duration = Duration::from_secs(60);

/// How long a program may take to close its side.
const FAREWELL: Duration = Duration::from_secs(2);

/// How to get to a program.
#[derive(Debug, Clone)]
pub(super) enum Way {
    Dial(Address),
    Listen(Arc<Door>),
}

/// Where programs connect to us. Connections take them in the order in which they began.
#[derive(Debug)]
pub(super) struct Door {
    listener: TcpListener,
    waiting: Mutex<(VecDeque<u64>, u64)>,
}

impl Way {
    pub(super) fn listen(listener: TcpListener) -> Self {
        Self::Listen(Arc::new(Door { listener, waiting: Mutex::default() }))
    }
}

impl Door {
    #[cfg(test)]
    pub(super) fn place(&self) -> std::net::SocketAddr {
        self.listener.local_addr().unwrap()
    }

    fn waiting(&self) -> MutexGuard<'_, (VecDeque<u64>, u64)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place in the queue.
    fn queue(&self) -> u64 {
        let mut waiting = self.waiting();
        let ticket = waiting.1;
        waiting.1 += 1;
        waiting.0.push_back(ticket);
        ticket
    }

    fn leave(&self, ticket: u64) {
        self.waiting().0.retain(|other| *other != ticket);
    }

    fn accept(&self, ticket: u64, mut is_over: impl FnMut() -> bool) -> Option<TcpStream> {
        while !is_over() {
            let is_first = self.waiting().0.front() == Some(&ticket);
            match is_first.then(|| self.listener.accept()) {
                Some(Ok((stream, _))) if tune(&stream).is_ok() => return Some(stream),
                Some(Ok(_)) => {}
                Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_readable(&self.listener, TICK);
                }
                // Such as too many open files, which passes.
                Some(Err(_)) | None => std::thread::sleep(TICK),
            }
        }
        None
    }
}

/// All threads.
#[derive(Debug, Default)]
pub(super) struct Writers {
    stop: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    waiting: Arc<AtomicUsize>,
}

impl Writers {
    /// Begins to hand a connection on; None if no thread can be had.
    pub(super) fn begin(
        &self,
        way: &Way,
        figures: &Arc<Figures>,
        goes_on: bool,
    ) -> Option<Arc<Pipe>> {
        let pipe = Pipe::new(goes_on, figures.clone(), self.waiting.clone());
        let ticket = match way {
            Way::Listen(door) => Some(door.queue()),
            Way::Dial(_) => None,
        };
        let writer = Writer {
            pipe: pipe.clone(),
            way: way.clone(),
            figures: figures.clone(),
            goes_on,
            stop: self.stop.clone(),
            stopped: None,
            ended: None,
            ticket,
            redial: Redial::default(),
            stream: None,
            is_broken: false,
        };
        let thread = std::thread::Builder::new().name("diode-outlet".to_owned());
        let thread = thread
            .spawn(move || {
                priority::give_way(priority::WRITE);
                writer.run();
            })
            .ok()?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Some(pipe)
    }

    /// Ends all threads, which have a second for what waits.
    pub(super) fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // What it panicked of was printed.
            let _ = thread.join();
        }
    }
}

/// Hands one connection on.
struct Writer {
    pipe: Arc<Pipe>,
    way: Way,
    figures: Arc<Figures>,
    goes_on: bool,
    stop: Arc<AtomicBool>,
    stopped: Option<Instant>,
    ended: Option<Instant>,
    /// Its place among those that wait for a program to connect.
    ticket: Option<u64>,
    redial: Redial,
    stream: Option<TcpStream>,
    /// Whether a part of it is lost.
    is_broken: bool,
}

impl Writer {
    fn run(mut self) {
        let is_whole = self.work();
        if !is_whole {
            self.reset();
        }
        self.pipe.die();
        if let (Way::Listen(door), Some(ticket)) = (&self.way, self.ticket) {
            door.leave(ticket);
        }
        self.figures.ends(is_whole);
    }

    /// Whether everything was handed on.
    fn work(&mut self) -> bool {
        loop {
            match self.pipe.next(TICK) {
                Next::Bytes(bytes) => {
                    let left = if self.open() { self.write(&bytes) } else { bytes.len() };
                    Figures::add(&self.figures.bytes, bytes.len() - left);
                    Figures::add(&self.figures.lost_bytes, left);
                    if left > 0 {
                        self.reset();
                        if !self.goes_on || self.is_over() {
                            return false;
                        }
                    }
                }
                Next::Cut => {
                    self.reset();
                    // The program is not to blame, so the next connection need not wait.
                    self.redial = Redial::default();
                }
                Next::End(false) | Next::Dead => return false,
                Next::End(true) => return self.open() && self.finish(),
                Next::Nothing if self.is_over() => return false,
                Next::Nothing => {}
            }
        }
    }

    /// Whether to give up.
    fn is_over(&mut self) -> bool {
        let is_stopped = self.stop.load(Ordering::Relaxed)
            && self.stopped.get_or_insert_with(Instant::now).elapsed() >= AFTER_STOP;
        let has_ended = self.pipe.has_ended()
            && self.ended.get_or_insert_with(Instant::now).elapsed() >= AFTER_END;
        is_stopped || has_ended || self.pipe.is_dead()
    }

    /// Whether there is a program to write to.
    fn open(&mut self) -> bool {
        if self.stream.is_some() {
            return true;
        }
        let (way, mut redial) = (self.way.clone(), std::mem::take(&mut self.redial));
        let stream = match &way {
            Way::Dial(address) => redial.dial(address, &mut || self.is_over(), |_| {}),
            Way::Listen(door) => {
                let ticket = self.ticket.unwrap_or_else(|| door.queue());
                let stream = door.accept(ticket, || self.is_over());
                door.leave(ticket);
                self.ticket = None;
                stream
            }
        };
        self.redial = redial;
        self.stream = stream;
        self.stream.is_some()
    }

    /// Writes bytes. Gives how many could not be written.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(stream) = &mut self.stream else { break };
            match stream.write(rest) {
                Ok(0) => break,
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_writable(&*stream, TICK);
                    if self.is_over() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        rest.len()
    }

    /// Closes the connection as its sender did, and waits for the program to do so too, since what it might have sent
    /// would reset the connection otherwise. Whether nothing was lost.
    fn finish(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        if stream.shutdown(Shutdown::Write).is_err() {
            return false;
        }
        let (until, mut ignored) = (Instant::now() + FAREWELL, [0; 4096]);
        while Instant::now() < until && !self.stop.load(Ordering::Relaxed) {
            match stream.read(&mut ignored) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait_readable(&*stream, TICK);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        !self.is_broken
    }

    /// Ends the connection in a way that the program notices.
    fn reset(&mut self) {
        self.is_broken = true;
        if let Some(stream) = self.stream.take() {
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }
}
