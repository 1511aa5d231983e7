//! Keys that ask to be let in: requests that the operator looks at, and one-time codes. Both lie in the configuration
//! folder (`docs/formats/inbox.md`), where the daemon and the commands change them, one at a time. What a stranger can
//! make this machine keep or do is bounded, and every decision is in the audit log before it takes effect.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use files::Dir;
use inbox::audit::{Audit, AuditEvent, Who};
use jiff::Timestamp;
use link::{AuthorizedKeys, Lane, Permissions, PublicKey};
use transfer::host::Refusal;
use transfer::message::{Offer, RefuseCode};
use transfer::reception::{Offered, Reception, Turned};

use crate::state::{self, AUTHORIZED_KEYS, own_name};
use crate::trust::Log;

mod codes;
mod limit;
mod requests;
mod rights;

pub use codes::Codes;
use limit::PerAddress;
pub use requests::{Request, Requests};
pub use rights::{Rights, check_name};

/// How often one address may ask anything in a minute.
const ASKED_PER_MINUTE: usize = 10;
/// How many wrong codes may come from one address in ten minutes.
const WRONG_CODES: usize = 5;

/// The desk at which unknown keys ask.
pub struct Enrolment {
    config: Dir,
    takes_requests: bool,
    audit: Arc<Audit>,
    log: Log,
    asked: Mutex<PerAddress>,
    wrong: Mutex<PerAddress>,
}

/// What came of a question.
type Answer = Result<(bool, String), Refusal>;

impl Enrolment {
    /// A desk over this configuration folder.
    pub fn new(config: Dir, takes_requests: bool, audit: Arc<Audit>, log: Log) -> Self {
        let asked = PerAddress::new(Duration::from_secs(60), ASKED_PER_MINUTE);
        let wrong = PerAddress::new(Duration::from_secs(600), WRONG_CODES);
        let (asked, wrong) = (Mutex::new(asked), Mutex::new(wrong));
        Self { config, takes_requests, audit, log, asked, wrong }
    }

    /// Whether a key that no line names may ask at all: if requests are taken, or codes are given out.
    pub fn is_open(&self) -> bool {
        self.takes_requests || Codes::are_given_out(&self.config)
    }

    /// A key asks to be let in.
    fn ask(&self, key: &PublicKey, from: SocketAddr, code: &[u8], label: &str) -> Answer {
        let (address, now) = (from.ip(), Instant::now());
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if !asked.admits(address, now) {
            let text = "your address has asked too often; try again in a minute";
            return Err(refusal(RefuseCode::Busy, text));
        }
        asked.count(address, now);
        drop(asked);
        let answer = match code.is_empty() {
            true => self.request(key, from, label),
            false => self.admit_by_code(key, from, code, label),
        };
        answer.map_err(|problem| match problem {
            Problem::Refused(refusal) => refusal,
            Problem::Here(error) => {
                // What is wrong with this machine's disk is no business of strangers.
                (self.log)(&format!("warning: {from} could not be let in: {error:#}"));
                let text =
                    "this machine cannot write it down; tell its operator to look at the log";
                refusal(RefuseCode::Disk, text)
            }
        })
    }

    fn request(
        &self,
        key: &PublicKey,
        from: SocketAddr,
        label: &str,
    ) -> Result<(bool, String), Problem> {
        if !self.takes_requests {
            let text =
                "this machine takes no requests; ask its operator for a code, and say --code";
            return Err(refusal(RefuseCode::Denied, text).into());
        }
        let _lock = state::lock_lists(&self.config)?;
        let requests = Requests::open(&self.config)?;
        let line = key.to_line("");
        for gone in requests.expire(Timestamp::now())? {
            let (key, label) = (gone.key.to_line(""), gone.label.clone());
            let address = gone.address.parse().ok();
            let who = Who { key: &key, label: &label, address };
            self.audit.record(&AuditEvent::RequestExpired { who }).map_err(anyhow::Error::from)?;
        }
        let request = Request::new(*key, label, from, Timestamp::now());
        let is_new = match requests.would_take(&request)? {
            Ok(is_new) => is_new,
            Err(full) => return Err(refusal(RefuseCode::Busy, &full.to_string()).into()),
        };
        let fingerprint = key.fingerprint();
        if is_new {
            let who = Who { key: &line, label, address: Some(from) };
            self.audit.record(&AuditEvent::Requested { who }).map_err(anyhow::Error::from)?;
            (self.log)(&format!(
                "{from} asks to be let in as '{}', with the key {fingerprint}: haul key approve {fingerprint} \
                 --as NAME --inbox NAME",
                files::escape(label.as_bytes())
            ));
        }
        requests.put(&request)?;
        Ok((false, "the request is on the operator's list for a week".to_owned()))
    }

    fn admit_by_code(
        &self,
        key: &PublicKey,
        from: SocketAddr,
        code: &[u8],
        label: &str,
    ) -> Result<(bool, String), Problem> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if !wrong.admits(from.ip(), Instant::now()) {
            let text = "too many wrong codes came from your address; try again in ten minutes";
            return Err(refusal(RefuseCode::Busy, text).into());
        }
        let _lock = state::lock_lists(&self.config)?;
        let codes = Codes::read(&self.config)?;
        let Some((code, left)) = codes.take(code, Timestamp::now()) else {
            wrong.count(from.ip(), Instant::now());
            (self.log)(&format!("{from} has shown a code that is not taken"));
            return Err(refusal(RefuseCode::Denied, "this code is not taken").into());
        };
        drop(wrong);
        let rights = format!("{} {}", code.options, key.to_line(&code.name));
        let line = key.to_line("");
        // First the code is gone for good: whatever happens now, it lets nobody else in.
        left.write(&self.config)?;
        let who = Who { key: &line, label, address: Some(from) };
        let admitted = AuditEvent::AdmittedByCode { who, rights: &rights };
        self.audit.record(&admitted).map_err(anyhow::Error::from)?;
        admit(&self.config, &rights)?;
        Requests::open(&self.config)?.remove(key)?;
        let name = files::escape(code.name.as_bytes()).to_string();
        (self.log)(&format!("{from} was let in by a code as {name}: {}", key.fingerprint()));
        Ok((true, format!("this key is let in from now on, as {name}")))
    }
}

/// Adds a line to the keys that may connect, in one step. The lists are locked by the caller.
pub fn admit(config: &Dir, line: &str) -> Result<()> {
    let mut list = AuthorizedKeys::parse(&state::read_list(config, AUTHORIZED_KEYS)?);
    let wrong = |problem: link::LineProblem| anyhow::anyhow!("the line {line}: {}", problem.reason);
    list.add_line(line).map_err(wrong)?;
    Ok(config.write_private(&own_name(AUTHORIZED_KEYS), list.to_text().as_bytes())?)
}

/// Why a question has no good answer.
enum Problem {
    Refused(Refusal),
    Here(anyhow::Error),
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::Here(error)
    }
}

fn refusal(code: RefuseCode, text: &str) -> Refusal {
    Refusal { code, text: text.to_owned() }
}

/// The inboxes of a daemon, if it has any, and its desk for unknown keys.
pub struct Front {
    /// What takes datasets.
    pub inboxes: Option<Arc<dyn Reception>>,
    /// Who lets keys in.
    pub enrolment: Arc<Enrolment>,
}

impl Front {
    fn inboxes(&self) -> Result<&dyn Reception, Refusal> {
        let none = || refusal(RefuseCode::NotFound, "this daemon has no inboxes");
        self.inboxes.as_deref().ok_or_else(none)
    }
}

/// Without inboxes, as much of the metadata is read as an inbox takes that says nothing else.
const METADATA_OF_NOBODY: u64 = 1 << 20;

impl Reception for Front {
    fn most_metadata(&self) -> u64 {
        self.inboxes.as_ref().map_or(METADATA_OF_NOBODY, |inboxes| inboxes.most_metadata())
    }

    fn schema(&self, lane: &Lane, inbox: &str) -> Result<Vec<u8>, Refusal> {
        self.inboxes()?.schema(lane, inbox)
    }

    fn check(&self, lane: &Lane, offer: &Offer, metadata: &[u8]) -> Result<Vec<String>, Turned> {
        self.inboxes()?.check(lane, offer, metadata)
    }

    fn offer(&self, lane: &Lane, offer: Offer, metadata: Vec<u8>) -> Result<Offered, Turned> {
        self.inboxes()?.offer(lane, offer, metadata)
    }

    fn enrol(&self, lane: &Lane, code: &[u8], label: &str) -> Answer {
        let may_something = |allowed: &Permissions| {
            allowed.read || allowed.write || !allowed.inboxes.inboxes.are_none()
        };
        if lane.permissions().is_none_or(may_something) {
            // A code that it may have brought stays good for somebody else.
            return Ok((true, "this key was known here before".to_owned()));
        }
        self.enrolment.ask(lane.peer(), lane.remote_address(), code, label)
    }
}

/// An address as limits count it.
fn counted(address: IpAddr) -> IpAddr {
    link::network_of(address.to_canonical())
}

#[cfg(test)]
mod tests;
