//! The order: what the target of a transfer is to do, as the one who starts it wants it.

use files::Digest;
use link::wire::{Decoder, Encoder, WireError};
use tree::{Filter, Rule, Verdict};

use super::MAX_PATH;

/// What a filter takes; `Filter::new` bounds the whole.
const MAX_RULES: u64 = 1000;
const MAX_PATTERN: usize = 1024;

/// What the one who starts a transfer wants the target to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// The target path as typed; empty when the dialler is the target.
    pub target: Vec<u8>,
    /// Several sources, or a trailing slash: the target must be a folder that exists.
    pub into_folder: bool,
    /// The one source is `folder/.`: its children go into the target, which is made if missing.
    pub contents: bool,
    /// Nothing is acknowledged before it would survive a power cut.
    pub durable: bool,
    /// Files of the same size and time are compared by content.
    pub checksum: bool,
    /// Nothing is changed; outcomes say what would be.
    pub dry_run: bool,
    /// User and group are carried.
    pub owner: bool,
    /// Extended attributes are carried.
    pub xattrs: bool,
    /// Set-id and sticky bits are carried.
    pub setid: bool,
    /// What to do when something different has the name.
    pub existing: Existing,
    /// Whether what the source does not have is removed.
    pub deletion: Deletion,
    /// Whether the source compresses what it sends.
    pub compression: Compression,
    /// A file that differs is sent whole, whatever the target has of it.
    pub whole: bool,
    /// The last name of the target path is the one that the one source gets, also where a folder of that name
    /// exists: an earlier try of the same job may have made it.
    pub named: bool,
    /// Both ends read again what an earlier order has copied, from the disk as far as the system allows. Only with
    /// `checksum` and `dry_run`; see [`Order::second_reading`].
    pub reread: bool,
    /// What is left out of the walk and protected from deletion.
    pub rules: Vec<Rule>,
}

/// What to do when something different has the name of an arriving file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// Replace it, in one step, once the new file is verified.
    #[default]
    Overwrite,
    /// Leave it and count the file as skipped.
    Skip,
    /// Leave it and count the file as failed.
    Fail,
    /// Keep it under the name `NAME.~N~`.
    Rename,
}

/// Whether what the source does not have is removed from the target's folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deletion {
    /// Nothing is removed.
    #[default]
    No,
    /// Extras are removed unless they are more than half of what is there.
    Guarded,
    /// Extras are removed, however many.
    All,
}

/// Whether a source compresses what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// While the link is what everything waits for, and what gives way.
    #[default]
    Auto,
    /// Nothing.
    Never,
    /// All that gives way, from the first byte on.
    Always,
}

impl Order {
    /// The order that has both ends read again what this one has copied, and changes nothing. `named` is what the
    /// target has said of the copy.
    pub fn second_reading(&self, named: bool) -> Self {
        Self {
            checksum: true,
            dry_run: true,
            reread: true,
            named: self.named || named,
            // Nothing is written, and all that differs is to be named, also what the copy has left alone.
            durable: false,
            existing: Existing::Overwrite,
            deletion: Deletion::No,
            xattrs: false,
            ..self.clone()
        }
    }

    /// Two orders with the same digest say the same.
    pub fn digest(&self) -> Digest {
        let mut out = Encoder::new();
        self.encode(&mut out);
        Digest::of(&out.finish())
    }

    fn flags(&self) -> [bool; 8] {
        let Self {
            into_folder, contents, durable, checksum, dry_run, owner, xattrs, setid, ..
        } = self;
        [*into_folder, *contents, *durable, *checksum, *dry_run, *owner, *xattrs, *setid]
    }

    pub(in crate::message) fn encode(&self, out: &mut Encoder) {
        let bits = self.flags().iter().rev().fold(0u8, |bits, flag| bits << 1 | u8::from(*flag));
        out.bytes(&self.target).u8(bits).u8(self.existing as u8).u8(self.deletion as u8);
        let further = [self.whole, self.named, self.reread];
        let further = further.iter().rev().fold(0u8, |bits, flag| bits << 1 | u8::from(*flag));
        out.u8(self.compression as u8).u8(further);
        out.varint(self.rules.len() as u64);
        for rule in &self.rules {
            out.boolean(rule.verdict == Verdict::Include).bytes(&rule.pattern);
        }
    }

    pub(in crate::message) fn decode(input: &mut Decoder) -> Result<Self, WireError> {
        let target = input.bytes("target path", MAX_PATH)?.to_vec();
        let bits = input.u8("order flags")?;
        let flag = |place: u32| bits & 1 << place != 0;
        let existing = match input.u8("existing")? {
            0 => Existing::Overwrite,
            1 => Existing::Skip,
            2 => Existing::Fail,
            3 => Existing::Rename,
            _ => return Err(WireError::invalid("existing")),
        };
        let deletion = match input.u8("deletion")? {
            0 => Deletion::No,
            1 => Deletion::Guarded,
            2 => Deletion::All,
            _ => return Err(WireError::invalid("deletion")),
        };
        let compression = match input.u8("compression")? {
            0 => Compression::Auto,
            1 => Compression::Never,
            2 => Compression::Always,
            _ => return Err(WireError::invalid("compression")),
        };
        let further = input.u8("further flags")?;
        let reread = further & 4 != 0;
        if further > 7 || (reread && !(flag(3) && flag(4))) {
            return Err(WireError::invalid("further flags"));
        }
        let mut rules = Vec::new();
        for _ in 0..input.varint_at_most("filter rules", MAX_RULES)? {
            let include = input.boolean("filter rule's kind")?;
            let pattern = input.bytes("filter pattern", MAX_PATTERN)?;
            rules.push(if include { Rule::include(pattern) } else { Rule::exclude(pattern) });
        }
        // Checked here, so that whoever builds the filter from an order that was read cannot fail.
        Filter::new(rules.clone()).map_err(|_| WireError::invalid("filter pattern"))?;
        Ok(Self {
            target,
            into_folder: flag(0),
            contents: flag(1),
            durable: flag(2),
            checksum: flag(3),
            dry_run: flag(4),
            owner: flag(5),
            xattrs: flag(6),
            setid: flag(7),
            existing,
            deletion,
            compression,
            whole: further & 1 != 0,
            named: further & 2 != 0,
            reread,
            rules,
        })
    }
}
