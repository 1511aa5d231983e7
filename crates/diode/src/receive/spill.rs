//! What waits on the disk beside the journal: blocks of which too little has come, and small objects that no page has
//! named yet. Each is a file of its own, replaced in one step and sealed with a hash, so that after a power cut one that
//! was torn is none.

use files::{Dir, FilesError, Follow, Name, PublishOptions, RelPath, Staging};

use crate::block::{Assembly, BLOCK, Layout};
use crate::intake::{BlockId, Spilled};
use crate::symbol::ObjectKind;

const MAGIC: &[u8; 8] = b"haulspl1";
const HEAD: usize = 8 + 8 + 8 + 1 + 4 + 4 + 4 + 4;
const HASH: usize = 32;

/// The longest file: a block lacks at least one symbol, and its repair symbols are as long as those that they replace.
const MOST: u64 = (2 * BLOCK + (2 << 16) + HEAD + HASH) as u64;

/// So many blocks may wait on the disk: 4 GiB at most.
pub(super) const MOST_SPILLED: usize = 4096;

/// The folder.
pub(super) struct Spill {
    dir: Dir,
    staging: Staging,
}

impl Spill {
    pub(super) fn open(state: &Dir) -> Result<Self, FilesError> {
        let dir = state.make_private_dir(&own("spill"))?;
        let staging = Staging::open(&dir)?;
        Ok(Self { dir, staging })
    }

    /// The blocks that are kept, and the small objects.
    pub(super) fn list(&self) -> Result<(Vec<BlockId>, Vec<u64>), FilesError> {
        let (mut blocks, mut objects) = (Vec::new(), Vec::new());
        for entry in self.dir.entries()? {
            let entry = entry?;
            let Ok(text) = str::from_utf8(entry.bytes()) else { continue };
            let number = |text: &str| u64::from_str_radix(text, 16).ok();
            if let Some((object, block)) = text.strip_prefix("b-").and_then(|t| t.split_once('-')) {
                let block = number(block).and_then(|block| u32::try_from(block).ok());
                blocks.extend(
                    number(object).zip(block).map(|(object, block)| BlockId { object, block }),
                );
            } else if let Some(object) = text.strip_prefix("o-") {
                objects.extend(number(object));
            }
        }
        Ok((blocks, objects))
    }

    /// Keeps what came of a block.
    pub(super) fn keep(&self, spilled: &Spilled) -> Result<(), FilesError> {
        self.write(&block_name(spilled.id), encode(spilled))
    }

    /// What was kept of a block; None if there is nothing, or nothing whole.
    pub(super) fn load(&self, id: BlockId) -> Option<Spilled> {
        let spilled = decode(&self.read(&block_name(id))?)?;
        (spilled.id == id).then_some(spilled)
    }

    /// Keeps nothing of a block any more.
    pub(super) fn forget(&self, id: BlockId) {
        // One that stays costs room, and is found again at the next start.
        let _ = self.dir.unlink(&block_name(id));
    }

    /// Keeps a small object.
    pub(super) fn keep_object(&self, object: u64, bytes: &[u8]) -> Result<(), FilesError> {
        self.write(&object_name(object), bytes.to_vec())
    }

    /// A small object that was kept.
    pub(super) fn load_object(&self, object: u64) -> Option<Vec<u8>> {
        self.read(&object_name(object))
    }

    pub(super) fn forget_object(&self, object: u64) {
        let _ = self.dir.unlink(&object_name(object));
    }

    fn write(&self, name: &Name, mut bytes: Vec<u8>) -> Result<(), FilesError> {
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        let options = PublishOptions { mode: Some(0o600), ..PublishOptions::default() };
        self.staging.small(&bytes, &self.dir, name, &options).map(|_| ())
    }

    fn read(&self, name: &Name) -> Option<Vec<u8>> {
        let file = self.dir.open_file(&RelPath::from(name), Follow::Never).ok()?;
        let mut bytes = file.read_whole(MOST).ok()?;
        let length = bytes.len().checked_sub(HASH)?;
        let is_whole = *blake3::hash(&bytes[..length]).as_bytes() == bytes[length..];
        bytes.truncate(length);
        is_whole.then_some(bytes)
    }
}

fn encode(spilled: &Spilled) -> Vec<u8> {
    let Spilled { id, assembly, length, kind } = spilled;
    let layout = assembly.layout();
    let (mut numbers, mut symbols) = (Vec::new(), Vec::new());
    for (number, symbol) in assembly.symbols() {
        numbers.extend_from_slice(&number.to_be_bytes());
        symbols.extend_from_slice(symbol);
    }
    let mut bytes = Vec::with_capacity(HEAD + numbers.len() + symbols.len() + HASH);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&id.object.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.push(matches!(kind, ObjectKind::Page).into());
    bytes.extend_from_slice(&id.block.to_be_bytes());
    bytes.extend_from_slice(&(layout.length() as u32).to_be_bytes());
    bytes.extend_from_slice(&(layout.symbol() as u32).to_be_bytes());
    bytes.extend_from_slice(&(numbers.len() as u32 / 2).to_be_bytes());
    bytes.extend_from_slice(&numbers);
    bytes.extend_from_slice(&symbols);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Spilled> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    if head[..8] != *MAGIC {
        return None;
    }
    let long = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| head[at + byte]));
    let short = |at: usize| u32::from_be_bytes(std::array::from_fn(|byte| head[at + byte]));
    let kind = if head[24] == 1 { ObjectKind::Page } else { ObjectKind::Content };
    let layout = Layout::new(short(29) as usize, short(33) as usize).ok()?;
    let count = short(37) as usize;
    if count > layout.symbols() {
        return None;
    }
    let (numbers, symbols) = rest.split_at_checked(2 * count)?;
    if symbols.len() != count * layout.symbol() {
        return None;
    }
    let mut assembly = Assembly::new(layout);
    for (number, symbol) in numbers.chunks_exact(2).zip(symbols.chunks_exact(layout.symbol())) {
        assembly.add(u16::from_be_bytes([number[0], number[1]]), symbol);
    }
    let id = BlockId { object: long(8), block: short(25) };
    Some(Spilled { id, assembly, length: long(16), kind })
}

fn block_name(id: BlockId) -> Name {
    own(&format!("b-{:016x}-{:08x}", id.object, id.block))
}

fn object_name(object: u64) -> Name {
    own(&format!("o-{object:016x}"))
}

fn own(text: &str) -> Name {
    Name::new(text).expect("hex digits and letters are a name")
}

/// What was read can be written and read again.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(data: &[u8]) {
    let Some(spilled) = decode(data) else { return };
    let layout = spilled.assembly.layout();
    assert!(spilled.assembly.symbols().count() <= layout.symbols());
    if spilled.assembly.missing() == 0 {
        let bytes = spilled.assembly.finish(&mut crate::block::Restorer::default());
        assert_eq!(bytes.map(|bytes| bytes.len()), Some(layout.length()));
        return;
    }
    let again = decode(&encode(&spilled)).expect("it was written by us");
    assert!(again.assembly.symbols().eq(spilled.assembly.symbols()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::{Random, Scratch};

    #[test]
    fn what_is_kept_comes_back_and_what_is_torn_does_not() {
        let scratch = Scratch::new();
        let mut random = Random(4);
        let spill = Spill::open(&scratch.dir()).unwrap();
        let layout = Layout::new(200_000, 1408).unwrap();
        let mut assembly = Assembly::new(layout);
        for number in [3, 140, 0, 141, 77] {
            let symbol: Vec<u8> = (0..1408).map(|_| random.below(256) as u8).collect();
            assembly.add(number, &symbol);
        }
        let id = BlockId { object: 1 << 50, block: 9 };
        let spilled = Spilled { id, assembly, length: 9 << 20, kind: ObjectKind::Content };
        assert!(spill.load(id).is_none());
        spill.keep(&spilled).unwrap();
        spill.keep_object(77, b"several files").unwrap();
        assert_eq!(spill.list().unwrap(), (vec![id], vec![77]));
        let again = spill.load(id).unwrap();
        assert_eq!((again.id, again.length, again.kind), (id, 9 << 20, ObjectKind::Content));
        assert!(again.assembly.symbols().eq(spilled.assembly.symbols()));
        assert_eq!(again.assembly.missing(), spilled.assembly.missing());
        assert_eq!(spill.load_object(77).unwrap(), b"several files");
        let path = scratch.path().join("spill").join(format!("{}", block_name(id)));
        let whole = std::fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(997) {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(spill.load(id).is_none(), "{length} bytes");
        }
        for at in (0..whole.len()).step_by(499) {
            let mut changed = whole.clone();
            changed[at] ^= 4;
            std::fs::write(&path, &changed).unwrap();
            assert!(spill.load(id).is_none(), "byte {at}");
        }
        spill.forget(id);
        spill.forget_object(77);
        assert_eq!(spill.list().unwrap(), (vec![], vec![]));
    }
}
