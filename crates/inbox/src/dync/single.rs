//! One file that arrives in order and whose size nobody knows, written into a folder: what every sync brings to the
//! disk is written down after it, so that a server that was killed goes on where the disk has everything. Both digests
//! run along; after a reopening what is there is read again for them. It does not publish: the file lies where it was
//! asked to, and whoever keeps the folder moves it on.

use files::{Digest, Dir, File, FilesError, Name, RelPath};
use thiserror::Error;

/// What is hashed in one go when a file is read again.
const PIECE: usize = 256 << 10;
/// The first word of a record.
const MAGIC: &str = "haul-single-1";
/// The longest record.
const MAX_RECORD: u64 = 64;

/// Where a file and the record of it go.
#[derive(Debug, Clone)]
pub struct SinglePlace {
    /// The folder of the file.
    pub dir: Dir,
    /// What the file is called there. A file of that name is taken for an earlier part of it.
    pub name: Name,
    /// The folder of the record: another one, if the file's is to be published.
    pub records: Dir,
    /// What the record is called.
    pub record: Name,
    /// The most bytes that the file may have.
    pub most_bytes: u64,
}

/// A file that arrives.
pub struct Single {
    place: SinglePlace,
    file: File,
    written: u64,
    durable: u64,
    sha256: ring::digest::Context,
    blake3: Box<blake3::Hasher>,
    /// A sync that failed is final: what it was about may be lost though a later one would not say so.
    broken: bool,
}

/// A file that is whole and on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SingleDone {
    /// Its size.
    pub bytes: u64,
    /// Its BLAKE3.
    pub digest: Digest,
}

/// Why a file does not arrive.
#[derive(Debug, Error)]
pub enum SingleError {
    /// The disk says no.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// It would have more bytes than it may.
    #[error("the file has more than {most} bytes")]
    TooLarge {
        /// How many it may have.
        most: u64,
    },
    /// Bytes came that do not belong behind those before.
    #[error("bytes for {at} came where {expected} are written")]
    OutOfOrder {
        /// Where they belong.
        at: u64,
        /// How many are there.
        expected: u64,
    },
    /// The record of an earlier part cannot be read, or says what is not so.
    #[error("what has arrived of the file does not match its record")]
    Record,
    /// A sync has failed before.
    #[error("an earlier sync of the file failed")]
    Broken,
    /// The whole file has another SHA-256 than its client says.
    #[error("the SHA-256 of the file is {found}, not {said} as was sent with it")]
    Sha256 {
        /// What it has.
        found: String,
        /// What the client said.
        said: String,
    },
}

impl Single {
    /// Begins the file, or goes on with it behind what is recorded; that much is read again for the digests, which takes
    /// its time.
    pub fn open(place: SinglePlace) -> Result<Self, SingleError> {
        let durable = Self::recorded(&place)?;
        let file = place.dir.open_private(&place.name)?;
        let len = file.attributes()?.size;
        if len < durable {
            return Err(SingleError::Record);
        }
        // What is behind the record may be anything, after a crash.
        file.set_len(durable)?;
        place.dir.sync()?;
        let mut single = Self {
            place,
            file,
            written: durable,
            durable,
            sha256: ring::digest::Context::new(&ring::digest::SHA256),
            blake3: Box::new(blake3::Hasher::new()),
            broken: false,
        };
        single.read_again()?;
        Ok(single)
    }

    /// How much of the file is recorded, without opening it: where a client goes on.
    pub fn recorded(place: &SinglePlace) -> Result<u64, SingleError> {
        let path = RelPath::from(&place.record);
        let text = match place.records.read_small(&path, MAX_RECORD) {
            Ok(text) => text,
            Err(error) if error.is_not_found() => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        parse_record(&text).ok_or(SingleError::Record)
    }

    /// How many bytes are on the disk for good.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// How many bytes were written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes bytes, which must come right behind those before.
    pub fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), SingleError> {
        if self.broken {
            return Err(SingleError::Broken);
        }
        if at != self.written {
            return Err(SingleError::OutOfOrder { at, expected: self.written });
        }
        let most = self.place.most_bytes;
        let end = at.checked_add(bytes.len() as u64).filter(|end| *end <= most);
        let Some(end) = end else { return Err(SingleError::TooLarge { most }) };
        self.file.write_all_at(bytes, at)?;
        self.sha256.update(bytes);
        self.blake3.update(bytes);
        self.written = end;
        Ok(())
    }

    /// Brings everything to the disk, then records it.
    pub fn sync(&mut self) -> Result<u64, SingleError> {
        if self.broken {
            return Err(SingleError::Broken);
        }
        if self.durable < self.written {
            let record = record(self.written);
            let (records, name) = (&self.place.records, &self.place.record);
            let synced = self.file.sync().and_then(|()| records.write_private(name, &record));
            self.broken = synced.is_err();
            synced?;
            self.durable = self.written;
        }
        Ok(self.durable)
    }

    /// The file is whole: brings it to the disk and holds it against what its client says. The record stays, so that
    /// this can be done again.
    pub fn finish(mut self, sha256: &[u8; 32]) -> Result<SingleDone, SingleError> {
        let found = self.sha256.clone().finish();
        if found.as_ref() != sha256 {
            let (found, said) = (hex(found.as_ref()), hex(sha256));
            return Err(SingleError::Sha256 { found, said });
        }
        // Also where all of it is durable: it may be new and empty, or have been cut short where it was resumed.
        let synced = self.file.sync();
        self.broken |= synced.is_err();
        synced?;
        self.sync()?;
        let digest = blake3::Hasher::finalize(&self.blake3);
        Ok(SingleDone { bytes: self.written, digest: Digest::from_bytes(*digest.as_bytes()) })
    }

    fn read_again(&mut self) -> Result<(), SingleError> {
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        while at < self.durable {
            let len = (self.durable - at).min(PIECE as u64);
            let piece = &mut buffer[..len as usize];
            self.file.read_exact_at(piece, at)?;
            self.sha256.update(piece);
            self.blake3.update(piece);
            at += len;
        }
        Ok(())
    }
}

fn record(durable: u64) -> Vec<u8> {
    format!("{MAGIC} {durable}\n").into_bytes()
}

fn parse_record(text: &[u8]) -> Option<u64> {
    let rest = std::str::from_utf8(text).ok()?.strip_prefix(MAGIC)?;
    let durable: u64 = rest.strip_prefix(' ')?.strip_suffix('\n')?.parse().ok()?;
    // One form only, so that damage does not pass for another number.
    (record(durable) == text).then_some(durable)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
