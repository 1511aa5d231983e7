//! What a line of the audit log says. It is pure.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Texts from outside are cut after so many bytes.
const MOST: usize = 1_024;

/// Whom a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who<'a> {
    /// The key, as [`crate::Client::id`] has it.
    pub key: &'a str,
    /// What it is called.
    pub label: &'a str,
    /// Where it came from, if that is known.
    pub address: Option<SocketAddr>,
}

/// A dataset, or what was to become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dataset<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its inbox.
    pub inbox: &'a str,
    /// Its name.
    pub name: &'a str,
    /// How many files it has.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
}

/// A decision, or what leads to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditEvent<'a> {
    /// An unknown key asks to be let in.
    Requested {
        /// Who.
        who: Who<'a>,
    },
    /// It was let in at once, for it had a code.
    AdmittedByCode {
        /// Who.
        who: Who<'a>,
        /// What it may do: its line.
        rights: &'a str,
    },
    /// It was let in by somebody.
    Approved {
        /// Who.
        who: Who<'a>,
        /// What it may do: its line.
        rights: &'a str,
        /// By whom.
        by: &'a str,
    },
    /// It may do nothing here any more.
    Revoked {
        /// Who.
        who: Who<'a>,
        /// By whom.
        by: &'a str,
        /// Why, if that was said.
        reason: &'a str,
    },
    /// Nobody answered its request in time.
    RequestExpired {
        /// Who.
        who: Who<'a>,
    },
    /// An offer was not taken.
    OfferRefused {
        /// Who made it.
        who: Who<'a>,
        /// Into which inbox.
        inbox: &'a str,
        /// What it would have been called.
        name: &'a str,
        /// The code that the client was told, or a word.
        code: &'a str,
        /// What it was told.
        reason: &'a str,
    },
    /// A dataset was published.
    Published {
        /// Whose it is.
        who: Who<'a>,
        /// Which.
        dataset: Dataset<'a>,
    },
    /// An upload that had begun will not be published.
    Rejected {
        /// Whose it was.
        who: Who<'a>,
        /// Which.
        dataset: Dataset<'a>,
        /// Why.
        reason: &'a str,
    },
    /// An upload was removed, for its client did not come back.
    Expired {
        /// Whose it was.
        who: Who<'a>,
        /// Which.
        dataset: Dataset<'a>,
    },
}

/// The line, without its end.
pub(super) fn of(event: &AuditEvent<'_>, now: Timestamp) -> String {
    let line = match event {
        AuditEvent::Requested { who } => begin("requested", now).who(who),
        AuditEvent::AdmittedByCode { who, rights } => {
            begin("admitted by code", now).who(who).text("rights", rights)
        }
        AuditEvent::Approved { who, rights, by } => {
            begin("approved", now).who(who).text("rights", rights).text("by", by)
        }
        AuditEvent::Revoked { who, by, reason } => {
            begin("revoked", now).who(who).text("by", by).text("reason", reason)
        }
        AuditEvent::RequestExpired { who } => begin("request expired", now).who(who),
        AuditEvent::OfferRefused { who, inbox, name, code, reason } => begin("offer refused", now)
            .who(who)
            .text("inbox", inbox)
            .text("name", name)
            .text("code", code)
            .text("reason", reason),
        AuditEvent::Published { who, dataset } => begin("published", now).who(who).dataset(dataset),
        AuditEvent::Rejected { who, dataset, reason } => {
            begin("rejected", now).who(who).dataset(dataset).text("reason", reason)
        }
        AuditEvent::Expired { who, dataset } => begin("expired", now).who(who).dataset(dataset),
    };
    line.end()
}

/// That so many lines were not written.
pub(super) fn left_out(what: &str, count: u64, since_ms: i64, now: Timestamp) -> String {
    let since = Timestamp::from_millisecond(since_ms).unwrap_or(now);
    let line = begin("left out", now).text("of", what).value("count", count);
    line.text("since", &moment(since)).end()
}

/// That a line was cut short.
pub(super) fn repaired(torn: &[u8], bytes: u64, now: Timestamp) -> String {
    let line = begin("repaired", now).value("bytes", bytes);
    line.text("torn", &String::from_utf8_lossy(torn)).end()
}

struct Line(Map<String, Value>);

fn begin(what: &str, now: Timestamp) -> Line {
    Line(Map::new()).text("at", &moment(now)).text("what", what)
}

fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

impl Line {
    fn value(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    fn text(self, name: &str, text: &str) -> Self {
        let cut = text.floor_char_boundary(MOST);
        match cut == text.len() {
            true => self.value(name, text),
            false => self.value(name, format!("{}…", &text[..cut])),
        }
    }

    fn who(self, who: &Who<'_>) -> Self {
        let line = self.text("key", who.key).text("label", who.label);
        match who.address {
            Some(address) => line.text("address", &address.to_string()),
            None => line,
        }
    }

    fn dataset(self, dataset: &Dataset<'_>) -> Self {
        let line = self.text("inbox", dataset.inbox).text("dataset", dataset.id);
        let line = line.text("name", dataset.name);
        line.value("files", dataset.files).value("bytes", dataset.bytes)
    }

    fn end(self) -> String {
        files::escape_json(&Value::Object(self.0).to_string())
    }
}

#[cfg(test)]
mod tests;
