//! What decides on a receiving or giving machine: which folder an order means, who may write there,
//! and what is refused. A daemon's exports are one such policy; inboxes will be another.

use files::{Dir, Name, RelPath};
use link::{Identity, Lane, PeerName, Permissions};

use crate::grant::Granter;
use crate::message::{Entry, Listed, Order, RefuseCode};

/// The policy of a daemon. Calls may touch the disk; they are made on threads that may block.
pub trait Host: Send + Sync + 'static {
    /// Where an order of this peer lands, or why it is refused.
    fn landing(&self, lane: &Lane, order: &Order) -> Result<Landing, Refusal>;

    /// What this peer asks for, or why it is refused.
    fn sources(
        &self,
        lane: &Lane,
        paths: &[Vec<u8>],
        order: &Order,
    ) -> Result<Vec<SourceRoot>, Refusal>;

    /// What is in a folder, or the exports when the path is empty.
    fn list(&self, lane: &Lane, path: &[u8]) -> Result<Vec<Listed>, Refusal>;

    /// Who signs receipts here.
    fn identity(&self) -> std::sync::Arc<Identity>;

    /// Where an order of this peer would land: it wants another machine to carry it out. The same as for a
    /// landing, but nothing begins.
    fn grants(&self, lane: &Lane, order: &Order) -> Result<Landing, Refusal> {
        let _ = (lane, order);
        Err(no_grants())
    }

    /// What the one who has granted something may do here now. It must not block.
    fn permissions_of(&self, granter: &Granter) -> Result<Permissions, Refusal> {
        let _ = granter;
        Err(no_grants())
    }

    /// Where an order lands that `source` carries out in the name of somebody who may do so much.
    fn granted(
        &self,
        allowed: &Permissions,
        source: &PeerName,
        order: &Order,
    ) -> Result<Landing, Refusal> {
        let _ = (allowed, source, order);
        Err(no_grants())
    }
}

/// What a policy says that knows nothing of grants.
fn no_grants() -> Refusal {
    let text = "this daemon takes nothing in the name of others".to_owned();
    Refusal { code: RefuseCode::Denied, text }
}

/// A folder into which a transfer goes, and what may go there.
#[derive(Clone)]
pub struct Landing {
    /// The handle that nothing leaves and below which the staging area lies: an export, or the folder
    /// that the user named.
    pub root: Dir,
    /// The target folder below it (folder 0 of the protocol), without symbolic links on the way, which
    /// are not followed. It exists, or is to be made when
    /// `make` is set.
    pub folder: RelPath,
    /// Make the target folder if it is missing.
    pub make: bool,
    /// The name that the one top entry gets here instead of its own.
    pub rename_top: Option<Name>,
    /// The path as receipts and messages name it.
    pub shown: String,
    /// Payload bytes per second that this peer may send, if limited.
    pub max_rate_bytes_per_s: Option<u64>,
    /// The most bytes of content that may be stored, if limited: what would go beyond fails before it is.
    pub max_bytes: Option<u64>,
    /// Whether set-id and sticky bits are kept when the order asks for it.
    pub allow_setid: bool,
    /// Whether owner and group are kept when the order asks for it.
    pub allow_owner: bool,
    /// Whether the source may learn what is there: pieces of older versions, digests, content under other names.
    pub may_read: bool,
    /// Decides about each entry as it is offered.
    pub admission: std::sync::Arc<dyn Admission>,
    /// Follows what arrives and takes it over at the end, where it is more than files in a folder.
    pub intake: Option<std::sync::Arc<dyn Intake>>,
}

impl Landing {
    /// The order as it is carried out here: what the one who runs this machine does not allow, a peer cannot ask
    /// for.
    pub(crate) fn narrowed(&self, order: Order) -> Result<Order, Refusal> {
        if order.checksum && !self.may_read {
            // Where it can be guessed, a digest tells what is there as well as the content does.
            let text = "this key may only write here, so nothing is compared by content (--checksum, --verify)";
            return Err(Refusal { code: RefuseCode::Denied, text: text.to_owned() });
        }
        let (setid, owner) = (order.setid && self.allow_setid, order.owner && self.allow_owner);
        Ok(Order { setid, owner, ..order })
    }
}

/// Decides about single entries: the receiving policy.
pub trait Admission: Send + Sync {
    /// Whether this entry may be created at this path below the target folder.
    fn admit(&self, entry: &Entry, path: &RelPath) -> Result<(), Refusal>;
}

/// Follows a transfer into a landing, and takes over what has arrived when all of it is there. A transfer with an
/// intake is one whole: it publishes nothing if an entry of it failed.
pub trait Intake: Send + Sync {
    /// A file stands at this path below the target folder, verified, durable if the order says so. Called for each
    /// file when its outcome is final, from the transfer's own loop: it must not block.
    fn stands(&self, file: Standing);

    /// Carries out something at the disk, as long as this transfer is the one that may write; false, and nothing done,
    /// if another has taken its place or what it was for is over. Called on threads that may block.
    fn during(&self, job: &mut dyn FnMut()) -> bool {
        job();
        true
    }

    /// The transfer has a lane from now on, or has lost it. Whether it may go on, also if all that is left is to tell what
    /// came of it; if not, its source is told that it is not known any more, and begins anew. It must not block.
    fn link(&self, up: bool) -> bool;

    /// So many bytes of content are on the disk, or need not come. Called some times a second: it must not block.
    fn progress(&self, bytes: u64);

    /// All that was offered stands. Takes it over, durably, and gives the signed receipt that the source gets; what
    /// it says is in the statement, but for what only the intake knows. Called on a thread that may block.
    fn publish(
        &self,
        statement: crate::receipt::Statement,
        identity: &Identity,
    ) -> Result<Vec<u8>, Refusal>;
}

/// A file of a transfer with an intake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Below the target folder.
    pub path: RelPath,
    /// Its size in bytes.
    pub size: u64,
    /// Its BLAKE3 digest.
    pub digest: files::Digest,
    /// Its SHA-256 digest, where the disk has summed it up in passing.
    pub sha256: Option<files::Sha256>,
}

/// Takes everything but the names that haul itself uses in a folder.
pub struct AdmitAll;

impl Admission for AdmitAll {
    fn admit(&self, entry: &Entry, _path: &RelPath) -> Result<(), Refusal> {
        if files::is_reserved(&entry.name) {
            let text = format!("the name {} is kept for haul's own use", entry.name);
            return Err(Refusal { code: RefuseCode::Denied, text });
        }
        Ok(())
    }
}

/// One of the things that are to be copied.
#[derive(Clone)]
pub struct SourceRoot {
    /// The handle that nothing leaves.
    pub root: Dir,
    /// The file, folder or link, below it, without symbolic links on the way, which are not followed.
    pub path: RelPath,
    /// The name under which it is offered. `None` for `folder/.`: what it holds is offered.
    pub name: Option<Name>,
    /// Payload bytes per second that may be sent to this peer, if limited.
    pub max_rate_bytes_per_s: Option<u64>,
    /// Of what a folder holds, only these paths in it. Only where `name` is none.
    pub only: Option<std::sync::Arc<tree::Selection>>,
}

/// A refusal in words that the peer will read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// The kind of reason.
    pub code: RefuseCode,
    /// What is refused and what to do.
    pub text: String,
}
