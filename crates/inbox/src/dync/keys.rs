//! Keys of clients of dync: the files of pyzmq's `zmq.auth.create_certificates`, and the folder in which a server has
//! its own pair and those of its clients (`docs/formats/dync.md`). What a key may do stands in a file of the operator
//! beside it, never in the file that the client sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use files::{Dir, FilesError, Follow, Name, RelPath};
use jiff::Timestamp;
use link::{InboxRights, Inboxes, LineOptions};
use omq_proto::{CurveKeypair, CurvePublicKey, CurveSecretKey};
use thiserror::Error;

use crate::Client;

/// The server's own pair, with its secret half.
const SECRET_FILE: &str = "server.key_secret";
/// Its public half, which clients are given.
const PUBLIC_FILE: &str = "server.key";
/// The folder of the clients' public keys.
const CLIENTS: &str = "clients";
const KEY_SUFFIX: &[u8] = b".key";
/// Stands behind the name of a key's file for the file that says what it may do.
const OPTIONS_SUFFIX: &[u8] = b".options";
/// The longest key file that is read; one has about 400 bytes.
pub const MAX_KEY_FILE: u64 = 16 << 10;
/// The most clients.
const MAX_CLIENTS: usize = 10_000;

/// What a key file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// The public key.
    pub public: [u8; 32],
    /// The secret key, where there is one.
    pub secret: Option<Secret>,
    /// What it says of its owner, in the owner's words.
    pub metadata: BTreeMap<String, String>,
}

/// A secret key that does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why keys cannot be read or written.
#[derive(Debug, Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("cannot read or write the keys of dync")]
    Files(#[from] FilesError),
    /// A text is no key file.
    #[error("{file}: {reason}")]
    Text {
        /// Which file.
        file: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl KeyFile {
    /// Reads a key file: sections whose names stand at the margin, and below them `name = "value"`, with or without
    /// quotation marks. What other sections say is passed over. The error says what is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8")?;
        let (mut section, mut metadata) = ("", BTreeMap::new());
        let (mut public, mut secret) = (None, None);
        for line in text.lines() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with('#') {
                continue;
            }
            let Some((name, value)) = trimmed.split_once('=') else {
                section = trimmed;
                continue;
            };
            let (name, value) = (name.trim(), unquoted(value.trim()));
            match (section, name) {
                ("curve", "public-key") => public = Some(key_of(value)?),
                ("curve", "secret-key") => secret = Some(Secret(key_of(value)?)),
                ("metadata", _) => drop(metadata.insert(name.to_owned(), value.to_owned())),
                _ => {}
            }
        }
        let public = public.ok_or("it has no public-key in a section curve")?;
        if let Some(Secret(secret)) = &secret
            && CurveSecretKey::from_bytes(*secret).derive_public().as_bytes() != &public
        {
            return Err("its public and its secret key do not belong together");
        }
        Ok(Self { public, secret, metadata })
    }

    /// A new pair.
    pub fn generate() -> Self {
        let CurveKeypair { public, secret } = CurveKeypair::generate();
        let secret = Some(Secret(*secret.as_bytes()));
        Self { public: *public.as_bytes(), secret, metadata: BTreeMap::new() }
    }

    /// The text of its file, with the secret half if `with_secret` says so and there is one.
    pub fn to_text(&self, now: Timestamp, with_secret: bool) -> String {
        let secret = self.secret.as_ref().filter(|_| with_secret);
        let kind = match secret {
            Some(_) => "**Secret** Certificate\n#   Do not hand this file to anybody.",
            None => "Public Certificate\n#   Exchange it over a way that nobody can change it on.",
        };
        let mut text =
            format!("#   Generated on {now} by haul\n#   ZeroMQ CURVE {kind}\n\nmetadata\n");
        for (name, value) in &self.metadata {
            text.push_str(&format!("    {name} = \"{value}\"\n"));
        }
        text.push_str(&format!("curve\n    public-key = \"{}\"\n", z85(&self.public)));
        if let Some(Secret(secret)) = secret {
            let secret = CurveSecretKey::from_bytes(*secret).to_z85();
            text.push_str(&format!("    secret-key = \"{secret}\"\n"));
        }
        text
    }
}

/// A key in the letters of Z85 (ZeroMQ RFC 32): 40 of them.
pub fn z85(key: &[u8; 32]) -> String {
    CurvePublicKey::from_bytes(*key).to_z85()
}

fn key_of(value: &str) -> Result<[u8; 32], &'static str> {
    let key = CurvePublicKey::from_z85(value).map_err(|_| "a key is not 40 letters of Z85")?;
    Ok(*key.as_bytes())
}

fn unquoted(value: &str) -> &str {
    let quoted = |mark| value.strip_prefix(mark).and_then(|rest: &str| rest.strip_suffix(mark));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(value)
}

/// The folder with the server's pair and its clients' keys.
#[derive(Debug, Clone)]
pub struct KeyFolder {
    dir: Dir,
    /// Into which inboxes clients may hand in of whom nothing else is said.
    inboxes: Inboxes,
}

/// A key that may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    label: String,
    /// None: nothing but the defaults.
    options: Option<LineOptions>,
}

/// All keys that may connect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clients {
    keys: BTreeMap<[u8; 32], Enrolled>,
    inboxes: Inboxes,
    /// Files that are not understood, and why; they let nobody in.
    pub problems: Vec<(String, String)>,
}

impl KeyFolder {
    /// The keys in this folder. Clients of whom nothing else is said may hand in to `inboxes`.
    pub fn new(dir: Dir, inboxes: Inboxes) -> Self {
        Self { dir, inboxes }
    }

    /// The server's pair, which is made if there is none.
    pub fn server_pair(&self, now: Timestamp) -> Result<KeyFile, KeyError> {
        let path = RelPath::from(&name(SECRET_FILE));
        let pair = match self.dir.read_small(&path, MAX_KEY_FILE) {
            Ok(text) => KeyFile::parse(&text).and_then(|pair| match pair.secret {
                Some(_) => Ok(pair),
                None => Err("it has no secret-key"),
            }),
            Err(error) if error.is_not_found() => {
                let pair = KeyFile::generate();
                self.dir.write_private(&name(SECRET_FILE), pair.to_text(now, true).as_bytes())?;
                Ok(pair)
            }
            Err(error) => return Err(error.into()),
        };
        let pair =
            pair.map_err(|reason| KeyError::Text { file: SECRET_FILE.to_owned(), reason })?;
        if self.dir.attributes_of(&RelPath::from(&name(PUBLIC_FILE))).is_err() {
            let text = pair.to_text(now, false);
            self.dir.write_private(&name(PUBLIC_FILE), text.as_bytes())?;
        }
        Ok(pair)
    }

    /// Takes a key in under a label, which becomes a file's name; `options` are what `authorized_keys` has before a key.
    pub fn import(
        &self,
        key: &KeyFile,
        label: &str,
        options: &str,
        now: Timestamp,
    ) -> Result<(), KeyError> {
        let wrong = |reason| KeyError::Text { file: label.to_owned(), reason };
        let file = |suffix: &[u8]| {
            Name::new([label.as_bytes(), suffix].concat())
                .map_err(|_| wrong("a label is a name that a file can have"))
        };
        if label.is_empty() || label.starts_with('.') {
            return Err(wrong("a label is not empty and does not begin with a dot"));
        }
        LineOptions::parse(options).map_err(|_| wrong("its options are not understood"))?;
        let clients = self.clients_dir()?;
        let options_file = file(OPTIONS_SUFFIX)?;
        // What it had before does not stay.
        let has_some = clients.attributes_of(&RelPath::from(&options_file)).is_ok();
        if !options.is_empty() || has_some {
            clients.write_private(&options_file, format!("{options}\n").as_bytes())?;
        }
        clients.write_private(&file(KEY_SUFFIX)?, key.to_text(now, false).as_bytes())?;
        Ok(())
    }

    /// The keys as they are now. A file that is not understood lets nobody in, and is among the problems.
    pub fn clients(&self) -> Result<Clients, KeyError> {
        let dir = self.clients_dir()?;
        let mut clients = Clients { inboxes: self.inboxes.clone(), ..Clients::default() };
        let mut doubled = BTreeSet::new();
        for entry in dir.entries()? {
            let Ok(entry) = entry?.name() else { continue };
            let Some(label) = entry.as_bytes().strip_suffix(KEY_SUFFIX) else { continue };
            let label = String::from_utf8_lossy(label).into_owned();
            match enrolled(&dir, &entry, &label) {
                Ok(_) if clients.keys.len() >= MAX_CLIENTS => {
                    let problem = format!("there are more than {MAX_CLIENTS} keys");
                    clients.problems.push((label, problem));
                }
                // Two files, perhaps with other rights: neither can be taken for what is meant.
                Ok((key, _)) if clients.keys.contains_key(&key) => {
                    doubled.insert(key);
                    let problem = "the same key is in another file too: remove one".to_owned();
                    clients.problems.push((label, problem));
                }
                Ok((key, enrolled)) => drop(clients.keys.insert(key, enrolled)),
                Err(problem) => clients.problems.push((label, problem)),
            }
        }
        clients.keys.retain(|key, _| !doubled.contains(key));
        Ok(clients)
    }

    fn clients_dir(&self) -> Result<Dir, KeyError> {
        Ok(self.dir.make_private_dir(&name(CLIENTS))?)
    }
}

fn enrolled(dir: &Dir, file: &Name, label: &str) -> Result<([u8; 32], Enrolled), String> {
    let text = dir.read_small(&RelPath::from(file), MAX_KEY_FILE).map_err(|e| e.to_string())?;
    let key = KeyFile::parse(&text)?;
    let options = Name::new([label.as_bytes(), OPTIONS_SUFFIX].concat())
        .map_err(|_| "its name is too long".to_owned())?;
    let options = match dir.open_file(&RelPath::from(&options), Follow::Beneath) {
        Ok(file) => {
            let text = file.read_whole(MAX_KEY_FILE).map_err(|e| e.to_string())?;
            let text = String::from_utf8(text).map_err(|_| "its options are not UTF-8")?;
            Some(LineOptions::parse(text.trim())?)
        }
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.to_string()),
    };
    let label = key.metadata.get("user_id").map_or(label, String::as_str).to_owned();
    Ok((key.public, Enrolled { label, options }))
}

impl Clients {
    /// Who bears this key and comes from there at this time, or why that is nobody.
    pub fn client(
        &self,
        key: &[u8; 32],
        address: Option<SocketAddr>,
        now: Timestamp,
    ) -> Result<Client, String> {
        let unknown = || format!("its key {} is not among the clients'", z85(key));
        let enrolled = self.keys.get(key).ok_or_else(unknown)?;
        let (mut rights, mut max_rate_bytes_per_s) = (InboxRights::default(), None);
        rights.inboxes = self.inboxes.clone();
        if let Some(options) = &enrolled.options {
            let from = address.ok_or("nobody knows where it comes from")?.ip();
            let denied = |denied| format!("its key is that of {}, but {denied}", enrolled.label);
            options.admit(from, now).map_err(denied)?;
            let permissions = options.permissions(&enrolled.label);
            max_rate_bytes_per_s = permissions.max_rate_bytes_per_s;
            // A line of options that names no inbox leaves the default.
            rights = match permissions.inboxes {
                InboxRights {
                    inboxes: Inboxes::All | Inboxes::None,
                    quota_bytes,
                    quota_datasets,
                } if !options.names_inboxes() => {
                    InboxRights { inboxes: rights.inboxes, quota_bytes, quota_datasets }
                }
                named => named,
            };
        }
        Ok(Client {
            id: format!("dync:{}", z85(key)),
            label: enrolled.label.clone(),
            address,
            rights,
            max_rate_bytes_per_s,
        })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Keys that are here and not in `later`, or with other rights there.
    pub fn gone_in(&self, later: &Clients) -> Vec<[u8; 32]> {
        let gone = |(key, enrolled): (&[u8; 32], &Enrolled)| {
            (later.keys.get(key) != Some(enrolled)).then_some(*key)
        };
        self.keys.iter().filter_map(gone).collect()
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("it is a plain name")
}

#[cfg(test)]
mod tests;
