//! What a target's shell is asked to do on its disk, and what comes back. Descriptions only: the bytes
//! of a parcel stay in the shell, beside the job that its head became.

use std::sync::Arc;

use files::{ChunkHash, Digest, Name, RelPath};

use crate::delta::{Op, Piece};
use crate::message::{Entry, RefuseCode, Why};
use crate::twins::Stamp;

/// Where an entry goes: a name in a folder below the target folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The folder, shared with all that goes there.
    pub folder: Arc<RelPath>,
    /// The name in it.
    pub name: Name,
}

impl Spot {
    /// The path below the target folder.
    pub fn path(&self) -> Option<RelPath> {
        self.folder.join(&self.name).ok()
    }
}

/// An entry and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// What is offered.
    pub entry: Entry,
    /// Where it goes.
    pub spot: Spot,
}

/// Something to do on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Make folders and symbolic links, and look what stands where files will go. In this order.
    Examine(Vec<Placed>),
    /// Hash the file that stands there, and give it the entry's mode and time if `adopt`.
    HashExisting {
        /// The entry.
        placed: Placed,
        /// Whether it is taken for the same file already, without a comparison.
        adopt: bool,
    },
    /// The file that stands there has the source's content: give it the entry's mode and time.
    Adopt(Placed),
    /// Open or resume the staged form of a large file.
    Open {
        /// The entry.
        placed: Placed,
        /// Look for an older file that it may be made of.
        delta: bool,
    },
    /// Cut the older file into pieces, from this byte on.
    Sign {
        /// The entry.
        index: u64,
        /// Where a piece begins.
        from: u64,
        /// For which link.
        link: u64,
    },
    /// Make one chunk of an open large file, of the older one and of what came.
    Patch {
        /// The entry.
        index: u64,
        /// Which chunk.
        chunk: u64,
        /// Its hash.
        hash: ChunkHash,
        /// What makes it.
        ops: Vec<Op>,
        /// Its length.
        len: u64,
        /// Whether blocks of zeros stay holes.
        sparse: bool,
    },
    /// Look at so many entries of the target folder more, for files that may be what others are to become.
    ListTwins {
        /// How many.
        most: u64,
    },
    /// Hash a file that may have this one's content, and keep it open.
    HashTwin {
        /// The entry.
        placed: Placed,
        /// The other file, below the target folder.
        from: RelPath,
    },
    /// Make a file of the one that was hashed: a small one whole, of a large one that is open some chunks that are missing.
    Fill {
        /// The entry.
        placed: Placed,
        /// What its content is to have.
        digest: Digest,
    },
    /// Close the file that was hashed for this one.
    ForgetTwin {
        /// The entry.
        index: u64,
    },
    /// Write small files, each whole, and publish them. Lengths and hashes come from the parcel.
    WriteSmall(Vec<(Placed, u64, ChunkHash)>),
    /// Write one chunk of an open large file.
    WriteChunk {
        /// The entry.
        index: u64,
        /// Which chunk.
        chunk: u64,
        /// Its hash.
        hash: ChunkHash,
        /// Its length.
        len: u64,
        /// Whether blocks of zeros stay holes.
        sparse: bool,
    },
    /// Chunks of an open large file are zeros.
    WriteZeros {
        /// The entry.
        index: u64,
        /// The first of them.
        first: u64,
        /// How many.
        count: u64,
        /// What they cost of the credit.
        len: u64,
    },
    /// All chunks are there: check the digest and publish.
    Publish {
        /// The entry.
        placed: Placed,
        /// The source's digest.
        digest: Digest,
    },
    /// A large file was taken back, or failed.
    Discard {
        /// The entry.
        index: u64,
        /// Also remove what is staged of it: the disk is full, and others may still fit.
        remove: bool,
    },
    /// Give a published file a further name.
    Link {
        /// The entry.
        placed: Placed,
        /// The file that it is another name of.
        to: RelPath,
    },
    /// Everything in this folder is done: remove or note extras, set its mode and time.
    FinishFolder {
        /// The entry, or nothing for the target folder itself.
        placed: Option<Placed>,
        /// Its path below the target folder.
        path: RelPath,
        /// The same in the names of the source, which its rules speak of.
        source_path: RelPath,
        /// Names that the source has in it, if others are to be removed.
        keep: Option<Vec<Name>>,
    },
    /// Everything is done: remove extras, make it durable, sign the receipt.
    Finish {
        /// Something failed, so nothing may be removed.
        failures: bool,
    },
}

/// What the disk says of an entry's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing is there; the content is wanted.
    Nothing,
    /// A file of the same size and time.
    SameStamp,
    /// The same, small enough that it was read at once: its digest. It has the entry's mode now.
    Unchanged(Digest),
    /// A different file or link that would be replaced; `same_size` allows a comparison.
    Different {
        /// A regular file of the same size.
        same_size: bool,
    },
    /// The folder or link stands now.
    Made,
    /// Something different stands there and is left alone by the order.
    Left,
    /// A dry run would have made it, for this reason.
    WouldMake(Why),
    /// It cannot be.
    Failed(Failed),
}

/// A large file that can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The chunks that are missing, as first and count.
    pub ranges: Vec<(u64, u64)>,
    /// There is an older file, whose pieces are so long on average, as an exponent of two.
    pub older: Option<u8>,
}

/// What has become of a file that is made of another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filled {
    /// A small one stands under its name.
    Published,
    /// More of a large one is to be made.
    Partly,
    /// A large one has all its chunks.
    Whole,
    /// The other one is not what it was; these chunks, as first and count, are not there. None for a small one.
    Lacks(Vec<(u64, u64)>),
}

/// Why something on the disk failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The kind of reason.
    pub code: RefuseCode,
    /// The reason in words.
    pub text: String,
}

/// What came of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobResult {
    /// What stands where, by index, in the order asked.
    Examined(Vec<(u64, Found)>),
    /// The digest of what stands there.
    Hashed {
        /// The entry.
        index: u64,
        /// The digest, or why there is none.
        result: Result<Digest, Failed>,
        /// As in the job.
        adopted: bool,
    },
    /// Mode and time were set.
    Adopted {
        /// The entry.
        index: u64,
        /// Whether it worked.
        result: Result<(), Failed>,
    },
    /// A large file can be written; these ranges (first, count) are missing.
    Opened {
        /// The entry.
        index: u64,
        /// What is missing, or why it cannot be staged.
        result: Result<Opened, Failed>,
    },
    /// Pieces of an older file.
    Signed {
        /// The entry.
        index: u64,
        /// As in the job.
        link: u64,
        /// The pieces.
        pieces: Vec<Piece>,
        /// Where it goes on, if it does.
        next: Option<u64>,
    },
    /// What a chunk was made of is not what was meant.
    Unpatched {
        /// The entry.
        index: u64,
        /// Which chunk.
        chunk: u64,
        /// Its length.
        len: u64,
    },
    /// A part of the target folder was looked at.
    TwinsListed {
        /// How many entries, or as many as their time was worth.
        looked: u64,
        /// Files that are worth to be known, and where they are.
        found: Vec<(Stamp, RelPath)>,
        /// Nothing is left to be looked at.
        is_all: bool,
    },
    /// The digest of a file that may have this one's content, if it can be used.
    TwinHashed {
        /// The entry.
        index: u64,
        /// As in the job.
        from: RelPath,
        /// The digest.
        digest: Option<Digest>,
    },
    /// A file was made of another one, or in part.
    Filled {
        /// The entry.
        index: u64,
        /// What has become of it, or why it cannot be written.
        result: Result<Filled, Failed>,
    },
    /// Small files were written.
    Small(Vec<(u64, u64, Result<Digest, Failed>)>),
    /// Chunks of a large file were written.
    Chunks {
        /// The entry.
        index: u64,
        /// The first.
        first: u64,
        /// How many.
        count: u64,
        /// Their payload in bytes.
        len: u64,
        /// Whether it worked.
        result: Result<(), Failed>,
    },
    /// A large file was published, or its digest was wrong and everything is missing again.
    Published {
        /// The entry.
        index: u64,
        /// `None` when the digest was wrong and what was staged has been discarded.
        result: Result<Option<Digest>, Failed>,
    },
    /// A link was made, or could not be.
    Linked {
        /// The entry.
        index: u64,
        /// Whether it worked.
        result: Result<(), Failed>,
    },
    /// A folder has its mode and time.
    FolderFinished {
        /// The entry, or nothing for the target folder itself.
        index: Option<u64>,
        /// Whether it worked.
        result: Result<(), Failed>,
    },
    /// The job is over.
    Finished(Result<Vec<u8>, Failed>),
    /// Nothing to say.
    Discarded,
}
