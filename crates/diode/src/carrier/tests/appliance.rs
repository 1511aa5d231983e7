//! An appliance between sender and receiver that misbehaves by a seed: it swallows spans, closes connections and resets
//! them, on the sender's side and on the receiver's. It remembers what it has passed on.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::rig::Random;

/// How often it looks whether it is to end.
const TICK: Duration = Duration::from_millis(20);

/// Faults at most, so that a test ends soon: each costs a pause until the sides connect again.
const MOST_CUTS: usize = 3;

pub(super) struct Appliance {
    in_port: u16,
    out_port: u16,
    stop: Arc<AtomicBool>,
    work: JoinHandle<Vec<Vec<u8>>>,
}

impl Appliance {
    /// Listens for the sender, and for the receiver unless that listens itself.
    pub(super) fn start(seed: u64, onward: Option<SocketAddr>) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (inward, outward) = (bind(), bind());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let (in_port, out_port) = (port(&inward), port(&outward));
        let stop = Arc::new(AtomicBool::new(false));
        let mut work = Work {
            random: Random(seed ^ 0xa5a5),
            inward,
            outward,
            onward,
            stop: stop.clone(),
            passed: Vec::new(),
            cuts: 0,
        };
        let work = std::thread::spawn(move || {
            work.run();
            work.passed
        });
        Self { in_port, out_port, stop, work }
    }

    pub(super) fn in_port(&self) -> u16 {
        self.in_port
    }

    pub(super) fn out_port(&self) -> u16 {
        self.out_port
    }

    /// Once the sender is gone: what was passed on, for each connection to the receiver.
    pub(super) fn end(self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.work.join().unwrap()
    }
}

struct Work {
    random: Random,
    inward: TcpListener,
    outward: TcpListener,
    onward: Option<SocketAddr>,
    stop: Arc<AtomicBool>,
    passed: Vec<Vec<u8>>,
    cuts: usize,
}

impl Work {
    fn run(&mut self) {
        let (mut sender, mut receiver) = (None, None);
        loop {
            if receiver.is_none() {
                receiver = Some(match self.onward {
                    Some(to) => TcpStream::connect(to).unwrap(),
                    None => self.outward.accept().unwrap().0,
                });
                self.passed.push(Vec::new());
            }
            if sender.is_none() {
                sender = self.accept();
            }
            let (Some(from), Some(to)) = (&mut sender, &mut receiver) else { return };
            let mut piece = vec![0; 1 + self.random.below(60_000)];
            match from.read(&mut piece) {
                Ok(0) => {
                    sender = None;
                    continue;
                }
                Ok(length) => piece.truncate(length),
                Err(_) if self.stop.load(Ordering::Relaxed) => return,
                Err(_) => continue,
            }
            let fault = self.random.below(30);
            match fault {
                0 if self.cuts < MOST_CUTS => {
                    self.cuts += 1;
                    // Closing what was not read to the end resets it.
                    reset(sender.take());
                }
                1 if self.cuts < MOST_CUTS => {
                    self.cuts += 1;
                    receiver = None;
                }
                2 => {
                    // Noise in place of what came.
                    let noise: Vec<u8> = (0..self.random.below(20_000))
                        .map(|_| self.random.below(256) as u8)
                        .collect();
                    to.write_all(&noise).unwrap();
                    self.passed.last_mut().unwrap().extend(noise);
                }
                // Swallowed.
                3 => {}
                _ => {
                    to.write_all(&piece).unwrap();
                    self.passed.last_mut().unwrap().extend(piece);
                }
            }
        }
    }

    fn accept(&self) -> Option<TcpStream> {
        self.inward.set_nonblocking(true).unwrap();
        while !self.stop.load(Ordering::Relaxed) {
            if let Ok((stream, _)) = self.inward.accept() {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(TICK)).unwrap();
                return Some(stream);
            }
            std::thread::sleep(TICK);
        }
        None
    }
}

fn reset(stream: Option<TcpStream>) {
    let Some(stream) = stream else { return };
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}
