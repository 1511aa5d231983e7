//! What must not be forgotten about sessions, so that nothing is accepted twice even when the power fails: the key that
//! opens them and, for each sender, the last session and a packet number that is above every one that was taken. The file
//! holds the key too, so that who loses the memory loses the key with it.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use files::{Dir, Name, RelPath};
use link::PublicKey;

use super::ReceiveError;
use crate::key::{DiodeKey, DiodePublicKey};
use crate::priority::{self, prefer};
use crate::session::SessionId;

const FILE: &str = "session";
const MAGIC: &[u8; 16] = b"haul-diode-recv1";
const PEER: usize = 32 + 8 + 16 + 8;
/// So many senders may be remembered.
const MOST_PEERS: usize = 4096;

/// What is remembered.
pub(super) struct Memory {
    pub(super) key: DiodeKey,
    pub(super) peers: Vec<Remembered>,
}

/// What is remembered of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remembered {
    pub(super) sender: PublicKey,
    /// No session of a lower epoch is followed, and of this epoch no other one.
    pub(super) epoch: u64,
    pub(super) id: SessionId,
    /// In that session no packet of a lower number is taken after a restart.
    pub(super) floor: u64,
}

/// The key that senders seal their sessions for, made and kept in this state folder if there is none yet.
pub fn receiver_key(state: &Dir) -> Result<DiodePublicKey, ReceiveError> {
    Memory::open(state).map(|memory| memory.key.public_key())
}

impl Memory {
    /// Reads the file, or makes one with a new key.
    pub(super) fn open(state: &Dir) -> Result<Self, ReceiveError> {
        let most = (16 + 32 + 4 + MOST_PEERS * PEER) as u64;
        match state.read_small(&RelPath::from(file()), most) {
            Ok(bytes) => Self::decode(&bytes).ok_or(ReceiveError::DamagedMemory),
            Err(error) if error.is_not_found() => {
                let memory = Self { key: DiodeKey::generate(), peers: Vec::new() };
                state.write_private(&file(), &memory.encode())?;
                Ok(memory)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What is remembered of this sender.
    pub(super) fn of(&self, sender: &PublicKey) -> Option<Remembered> {
        self.peers.iter().find(|peer| peer.sender == *sender).copied()
    }

    /// Remembers this of its sender.
    pub(super) fn set(&mut self, remembered: Remembered) {
        match self.peers.iter_mut().find(|peer| peer.sender == remembered.sender) {
            Some(peer) => *peer = remembered,
            None => {
                // The one that was heard first goes; it can come back only with a new session.
                if self.peers.len() == MOST_PEERS {
                    self.peers.remove(0);
                }
                self.peers.push(remembered);
            }
        }
    }

    /// Remembers nothing of this sender.
    pub(super) fn forget(&mut self, sender: &PublicKey) {
        self.peers.retain(|peer| peer.sender != *sender);
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.key.to_bytes());
        bytes.extend_from_slice(&(self.peers.len() as u32).to_be_bytes());
        for peer in &self.peers {
            bytes.extend_from_slice(peer.sender.as_bytes());
            bytes.extend_from_slice(&peer.epoch.to_be_bytes());
            bytes.extend_from_slice(&peer.id.0);
            bytes.extend_from_slice(&peer.floor.to_be_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (key, rest) = rest.split_first_chunk::<32>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let count = u32::from_be_bytes(*count) as usize;
        if count > MOST_PEERS || rest.len() != count * PEER {
            return None;
        }
        let number = |bytes: &[u8]| u64::from_be_bytes(std::array::from_fn(|byte| bytes[byte]));
        let peers = rest.chunks_exact(PEER).map(|peer| Remembered {
            sender: PublicKey(std::array::from_fn(|at| peer[at])),
            epoch: number(&peer[32..]),
            id: SessionId(std::array::from_fn(|at| peer[40 + at])),
            floor: number(&peer[56..]),
        });
        Some(Self { key: DiodeKey::from_bytes(key).ok()?, peers: peers.collect() })
    }
}

fn file() -> Name {
    Name::new(FILE).expect("a name without a slash")
}

/// Writes the file on a thread of its own, so that who reads the link does not wait for the disk more often than it must.
pub(super) struct Writer {
    orders: Option<Sender<(u64, Vec<u8>)>>,
    thread: Option<JoinHandle<()>>,
    done: Arc<(Mutex<u64>, Condvar)>,
    asked: u64,
}

impl Writer {
    pub(super) fn start(state: &Dir) -> Result<Self, ReceiveError> {
        let (orders, taken) = channel();
        let done = Arc::new((Mutex::new(0), Condvar::new()));
        let (state, is_done) = (state.clone(), done.clone());
        let thread = std::thread::Builder::new()
            .name("diode-memory".to_owned())
            .spawn(move || {
                prefer(priority::WORK);
                write_all(&state, &taken, &is_done);
            })
            .map_err(ReceiveError::Thread)?;
        Ok(Self { orders: Some(orders), thread: Some(thread), done, asked: 0 })
    }

    /// Has this written; the number says which it is.
    pub(super) fn ask(&mut self, memory: &Memory) -> u64 {
        self.asked += 1;
        if let Some(orders) = &self.orders {
            // Should the thread be gone, nothing counts as written any more.
            let _ = orders.send((self.asked, memory.encode()));
        }
        self.asked
    }

    /// Whether it is on the disk.
    pub(super) fn is_written(&self, asked: u64) -> bool {
        *self.done.0.lock().unwrap_or_else(PoisonError::into_inner) >= asked
    }

    /// The same, after waiting for it.
    pub(super) fn wait(&self, asked: u64, at_most: Duration) -> bool {
        let done = self.done.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.done.1.wait_timeout_while(done, at_most, |done| *done < asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0 >= asked
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_all(state: &Dir, orders: &Receiver<(u64, Vec<u8>)>, done: &(Mutex<u64>, Condvar)) {
    while let Ok(mut order) = orders.recv() {
        // The last one says all.
        while let Ok(later) = orders.try_recv() {
            order = later;
        }
        // What could not be written is not remembered; who waits for it takes nothing until a later one is.
        if state.write_private(&file(), &order.1).is_ok() {
            *done.0.lock().unwrap_or_else(PoisonError::into_inner) = order.0;
            done.1.notify_all();
        }
    }
}

/// The file has one form, but for bits of the key that mean nothing.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(data: &[u8]) {
    if let Some(memory) = Memory::decode(data) {
        let (key, rest) = (MAGIC.len(), MAGIC.len() + 32);
        let again = memory.encode();
        assert_eq!((&again[..key], &again[rest..]), (&data[..key], &data[rest..]));
        assert_eq!(Memory::decode(&again).map(|memory| memory.encode()), Some(again));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_as_it_was_written() {
        let mut memory = Memory { key: DiodeKey::generate(), peers: Vec::new() };
        let peer = |sender: u8, floor| Remembered {
            sender: PublicKey([sender; 32]),
            epoch: 1 << 41,
            id: SessionId([sender + 1; 16]),
            floor,
        };
        memory.set(peer(1, 5));
        memory.set(peer(2, 6));
        memory.set(peer(1, 1 << 35));
        let bytes = memory.encode();
        let again = Memory::decode(&bytes).unwrap();
        assert_eq!(again.key.public_key(), memory.key.public_key());
        assert_eq!(again.peers, [peer(1, 1 << 35), peer(2, 6)]);
        assert_eq!(again.of(&PublicKey([2; 32])), Some(peer(2, 6)));
        for length in 0..bytes.len() {
            assert!(Memory::decode(&bytes[..length]).is_none(), "{length} bytes");
        }
    }
}
