//! Finding datasets: words anywhere in name, label and metadata, values at a place in the metadata, and plain filters.
//! A query of a user is never part of a statement's text but for its shape.

use jiff::Timestamp;
use rusqlite::ToSql;
use rusqlite::types::Value;

use super::{Catalogue, DatasetRow, Result};

/// The most parts of a query.
const MOST_TERMS: usize = 50;

/// Which datasets, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this inbox alone.
    pub inbox: Option<String>,
    /// Of this client alone.
    pub client: Option<String>,
    /// Published at this time or later.
    pub since: Option<Timestamp>,
    /// At most so many; 0 means all.
    pub most: usize,
}

/// What stands for one client, or for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of content.
    pub bytes: u64,
    /// Datasets.
    pub datasets: u64,
}

/// A query that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Its parts are too many.
    #[error("a query has at most {MOST_TERMS} parts")]
    TooLong,
    /// A key that no dotted path can name.
    #[error(
        "the key \"{0}\" cannot be searched for: write it as names joined by dots, without quotes and backslashes"
    )]
    Key(String),
    /// A quote has no end.
    #[error("a quote in the query has no end")]
    Quote,
}

/// One part of a query; all must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    /// A word, or words in a row, somewhere.
    Words(String),
    /// At this place of the metadata, this value.
    Equals(String, String),
    /// At this place of the metadata, a text that holds this one, in any case.
    Holds(String, String),
}

impl Catalogue {
    /// The datasets of a filter, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn list(&self, filter: &Filter) -> Result<Vec<DatasetRow>> {
        self.find(filter, &[])
    }

    /// The datasets that a query finds, newest first. Its parts are separated by spaces, and all must hold: a word of name,
    /// label or metadata (`mou*` for all that begin so, `"two words"` for these in a row); `key=value` for a value at that
    /// place of the metadata, as text or as number; `key:value` for a text there that holds it, in any case. A key is names
    /// joined by dots; of a list, any entry counts.
    ///
    /// # Errors
    /// When the query cannot be understood, or the database cannot be read.
    pub fn search(&self, query: &str, filter: &Filter) -> Result<Vec<DatasetRow>> {
        Ok(self.find(filter, &parse(query)?)?)
    }

    /// What stands for a client in all inboxes: what is missing counts no more.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn usage(&self, client: &str) -> Result<Usage> {
        let connection = self.lock();
        let statement = "SELECT COALESCE(SUM(bytes), 0), COUNT(*) FROM datasets WHERE client = ?1 AND state = 'ok'";
        let usage = connection.query_row(statement, [client], |row| {
            let count = |column| row.get::<_, i64>(column).map(|count| count.max(0) as u64);
            Ok(Usage { bytes: count(0)?, datasets: count(1)? })
        })?;
        Ok(usage)
    }

    fn find(&self, filter: &Filter, terms: &[Term]) -> Result<Vec<DatasetRow>> {
        let mut wheres: Vec<String> = Vec::new();
        let mut values: Vec<Value> = Vec::new();
        let mut bind = |value: Value| {
            values.push(value);
            format!("?{}", values.len())
        };
        for (column, wanted) in [("inbox", &filter.inbox), ("client", &filter.client)] {
            if let Some(wanted) = wanted {
                wheres.push(format!("{column} = {}", bind(wanted.clone().into())));
            }
        }
        if let Some(since) = filter.since {
            wheres.push(format!("published_ms >= {}", bind(since.as_millisecond().into())));
        }
        for term in terms {
            wheres.push(match term {
                Term::Words(words) => {
                    let words = bind(words.clone().into());
                    format!("number IN (SELECT rowid FROM words WHERE words MATCH {words})")
                }
                Term::Equals(path, value) => {
                    let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
                    let (path, value) = (bind(path.clone().into()), bind(value.clone().into()));
                    let as_number = number.map_or(String::new(), |number| {
                        let number = bind(number.into());
                        format!(" OR (type IN ('integer', 'real') AND atom = {number})")
                    });
                    at_place(&path, &format!("{AS_TEXT} = {value}{as_number}"))
                }
                Term::Holds(path, value) => {
                    let (path, value) = (bind(path.clone().into()), bind(value.clone().into()));
                    at_place(&path, &format!("instr(lower({AS_TEXT}), lower({value})) > 0"))
                }
            });
        }
        let wheres = if wheres.is_empty() { "1".to_owned() } else { wheres.join(" AND ") };
        let most = match filter.most {
            0 => -1,
            most => i64::try_from(most).unwrap_or(-1),
        };
        let most = bind(most.into());
        let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
        self.many(
            &format!("WHERE {wheres} ORDER BY published_ms DESC, id DESC LIMIT {most}"),
            &values,
        )
    }
}

/// A value of JSON as a user writes it.
const AS_TEXT: &str = "CASE type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' WHEN 'null' THEN 'null' \
    ELSE CAST(atom AS TEXT) END";

/// Whether something holds of the value at a place, or of an entry of the list there. Metadata that are no JSON any more
/// have nothing at any place.
fn at_place(path: &str, holds: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(datasets.metadata) THEN datasets.metadata ELSE '{{}}' END, {path}) \
         WHERE {holds})"
    )
}

fn parse(query: &str) -> Result<Vec<Term>, QueryError> {
    let mut terms = Vec::new();
    for part in split(query)? {
        if terms.len() == MOST_TERMS {
            return Err(QueryError::TooLong);
        }
        let (text, quoted_from_start) = part;
        let sign = text.find(['=', ':']).filter(|at| *at > 0 && !quoted_from_start);
        terms.push(match sign {
            Some(at) => {
                let (path, value) = (json_path(&text[..at])?, text[at + 1..].to_owned());
                match text.as_bytes()[at] {
                    b'=' => Term::Equals(path, value),
                    _ => Term::Holds(path, value),
                }
            }
            None => {
                // As a phrase: what stands in it has no meaning of its own for the search.
                let (words, star) = match text.strip_suffix('*') {
                    Some(head) if !quoted_from_start => (head, "*"),
                    _ => (text.as_str(), ""),
                };
                if !words.chars().any(char::is_alphanumeric) {
                    continue;
                }
                Term::Words(format!("\"{}\"{star}", words.replace(['"', '\0'], " ")))
            }
        });
    }
    Ok(terms)
}

/// The parts of a query, without the quotes that hold spaces together, and whether each began with one.
fn split(query: &str) -> Result<Vec<(String, bool)>, QueryError> {
    let (mut parts, mut part, mut is_open, mut within) = (Vec::new(), String::new(), false, false);
    let mut quoted_from_start = false;
    for character in query.chars() {
        match character {
            '"' => {
                quoted_from_start |= !within;
                (is_open, within) = (!is_open, true);
            }
            space if space.is_whitespace() && !is_open => {
                if std::mem::take(&mut within) {
                    parts.push((std::mem::take(&mut part), std::mem::take(&mut quoted_from_start)));
                }
            }
            other => {
                within = true;
                part.push(other);
            }
        }
    }
    if is_open {
        return Err(QueryError::Quote);
    }
    if within {
        parts.push((part, quoted_from_start));
    }
    Ok(parts)
}

/// `a.b` as the database writes the way to it.
fn json_path(key: &str) -> Result<String, QueryError> {
    let is_sound = |name: &str| !name.is_empty() && !name.contains(['"', '\\', '\0']);
    let mut path = "$".to_owned();
    for name in key.split('.') {
        if !is_sound(name) {
            return Err(QueryError::Key(files::escape(key.as_bytes()).to_string()));
        }
        path.push_str(&format!(".\"{name}\""));
    }
    Ok(path)
}
