//! What stands of an upload while its transfer runs: a line for each file, in `records`. Who notes a file never waits for
//! the disk unless the disk lies far behind; a thread of the upload's own writes. The lines need not survive a crash: a
//! transfer does not either, and the next one notes everything again.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use files::{Digest, File, FilesError, RelPath, Sha256};
use transfer::host::Standing;

use super::manifest::{escaped, hex, unescaped, unhex};

/// So much is gathered before it is written.
const BATCH: usize = 256 << 10;
/// So much waits for a disk at most; then who notes waits too.
const MOST_WAITING: usize = 8 << 20;

/// The records of one upload.
#[derive(Debug)]
pub(super) struct Records {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Bytes in the file.
    written: u64,
    is_writing: bool,
    has_ended: bool,
    /// What went wrong; whatever was noted since is lost.
    error: Option<FilesError>,
}

impl Records {
    /// Begins with nothing in the file.
    pub(super) fn new(file: File) -> Result<Self, FilesError> {
        file.set_len(0)?;
        let (state, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { file, state, changed });
        Ok(Self { shared, writer: Mutex::default() })
    }

    /// Notes a file. The last note of a path counts.
    pub(super) fn note(&self, standing: &Standing) {
        let line = encode(standing);
        let mut state = self.shared.lock();
        while state.waiting.len() > MOST_WAITING && state.error.is_none() {
            state = self.shared.wait(state);
        }
        if state.error.is_some() {
            return;
        }
        state.waiting.extend_from_slice(&line);
        if state.waiting.len() >= BATCH {
            self.shared.changed.notify_all();
            drop(state);
            self.start();
        }
    }

    fn start(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_none() {
            let shared = self.shared.clone();
            let thread = std::thread::Builder::new().name("records".into());
            match thread.spawn(move || shared.write_on()) {
                Ok(handle) => *writer = Some(handle),
                // Without a thread it is written here, at the price of waiting.
                Err(_) => self.shared.write_once(self.shared.lock()),
            }
        }
    }

    /// Everything noted is in the file, of which this many bytes count. After an error something is lost, and
    /// [`Records::clear`] must follow.
    pub(super) fn settle(&self) -> Result<(&File, u64), FilesError> {
        let mut state = self.shared.lock();
        while state.is_writing {
            state = self.shared.wait(state);
        }
        self.shared.write_once(state);
        let mut state = self.shared.lock();
        match state.error.take() {
            Some(error) => Err(error),
            None => Ok((&self.shared.file, state.written)),
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) -> Result<(), FilesError> {
        let mut state = self.shared.lock();
        while state.is_writing {
            state = self.shared.wait(state);
        }
        state.waiting.clear();
        (state.written, state.error) = (0, None);
        self.shared.file.set_len(0)
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        self.shared.lock().has_ended = true;
        self.shared.changed.notify_all();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It ends by itself, and a panic of it has been told where it was.
        let _ = writer.map(JoinHandle::join);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn write_on(&self) {
        loop {
            let mut state = self.lock();
            while !state.has_ended && (state.waiting.len() < BATCH || state.is_writing) {
                state = self.wait(state);
            }
            if state.has_ended {
                return;
            }
            self.write_once(state);
        }
    }

    /// Writes what waits, without holding the lock meanwhile.
    fn write_once(&self, mut state: MutexGuard<'_, State>) {
        while state.is_writing {
            state = self.wait(state);
        }
        let bytes = std::mem::take(&mut state.waiting);
        let at = state.written;
        state.is_writing = true;
        drop(state);
        let result = self.file.write_all_at(&bytes, at);
        let mut state = self.lock();
        state.is_writing = false;
        match result {
            Ok(()) => state.written += bytes.len() as u64,
            Err(error) => state.error = Some(error),
        }
        self.changed.notify_all();
    }
}

/// `SIZE BLAKE3 SHA256 PATH`, the third a `-` where it is not known, the path escaped as in a manifest.
fn encode(standing: &Standing) -> Vec<u8> {
    let sha256 = standing.sha256.as_ref().map_or("-".to_owned(), |sum| hex(sum.as_bytes()));
    let mut line = format!("{} {} {sha256} ", standing.size, standing.digest).into_bytes();
    line.extend_from_slice(&escaped(standing.path.as_bytes()));
    line.push(b'\n');
    line
}

/// Reads a line without its end.
pub(super) fn parse(line: &[u8]) -> Option<Standing> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let mut text = || std::str::from_utf8(fields.next()?).ok();
    let (size, digest, sha256) = (text()?, text()?, text()?);
    let sha256 = match sha256 {
        "-" => None,
        sum => Some(Sha256::from_bytes(unhex(sum)?)),
    };
    let path = RelPath::parse(&unescaped(fields.next()?)?).ok().filter(|path| !path.is_root())?;
    let digest = Digest::from_bytes(unhex(digest)?);
    let size = size.parse().ok().filter(|number: &u64| number.to_string() == size)?;
    Some(Standing { path, size, digest, sha256 })
}

/// What is read is written as it was read.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        if let Some(standing) = parse(line) {
            assert_eq!(encode(&standing), [line, b"\n"].concat());
        }
    }
}

#[cfg(test)]
mod tests;
