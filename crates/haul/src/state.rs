//! Where haul keeps what is its own on this machine: the key and the lists of trusted keys in a
//! configuration folder, spooled pipes and receipts in a state folder. Folders are made when first
//! needed, for their owner alone; a key that others can read is refused rather than used.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use files::{Dir, Follow, Name, RelPath, Replace};
use link::{Identity, MAX_PEM_BYTES};

use crate::report::{Code, Failure};

const KEY: &str = "id_ed25519";
/// Keys that may connect here.
pub const AUTHORIZED_KEYS: &str = "authorized_keys";
/// Keys of hosts that were dialled.
pub const KNOWN_HOSTS: &str = "known_hosts";
/// What is locked by who changes a list.
const LOCK: &str = "lists.lock";
/// How long somebody else may take to change one.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest list of keys that is read.
pub const MAX_LIST_BYTES: u64 = 16 * 1024 * 1024;

/// The two folders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    config: PathBuf,
    state: PathBuf,
}

impl Places {
    /// From the environment: `HAUL_HOME` for both, else the folders of the XDG base directories.
    pub fn from_environment() -> Result<Self> {
        Self::from(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    /// Both in this folder.
    pub fn at(home: PathBuf) -> Self {
        Self { config: home.clone(), state: home }
    }

    /// From what `variable` says the environment is.
    pub fn from(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        if let Some(home) = variable("HAUL_HOME") {
            return Ok(Self::at(home.into()));
        }
        let folder = |name: &str, below_home: &str| {
            // The XDG specification has relative paths ignored.
            let named = variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
            let base = named.or_else(|| Some(PathBuf::from(variable("HOME")?).join(below_home)));
            base.map(|base| base.join("haul")).ok_or_else(|| {
                Failure::new(Code::Usage, "neither HAUL_HOME nor HOME is set")
                    .hint("set HAUL_HOME to a folder where haul may keep its key")
            })
        };
        Ok(Self {
            config: folder("XDG_CONFIG_HOME", ".config")?,
            state: folder("XDG_STATE_HOME", ".local/state")?,
        })
    }

    /// The path of a file in the configuration folder, for messages.
    pub fn shown(&self, name: &str) -> String {
        files::escape_path(&self.config.join(name)).to_string()
    }

    /// The configuration folder.
    pub fn config(&self) -> Result<Dir> {
        let dir = Dir::create_ambient(&self.config, 0o700)?;
        // Whoever can rename files in there decides whom this machine trusts.
        if dir.attributes()?.mode & 0o022 != 0 {
            let shown = files::escape_path(&self.config);
            return Err(Failure::new(Code::Refused, format!("others may write to {shown}"))
                .hint(format!("chmod 700 {shown}"))
                .into());
        }
        Ok(dir)
    }

    /// A private folder below the state folder.
    pub fn state(&self, name: &str) -> Result<Dir> {
        let dir = Dir::create_ambient(&self.state, 0o700)?;
        Ok(dir.make_private_dir(&own_name(name))?)
    }

    /// The state folder itself.
    pub fn state_root(&self) -> Result<Dir> {
        Ok(Dir::create_ambient(&self.state, 0o700)?)
    }

    /// The path of a folder below the state folder, for messages.
    pub fn state_path(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// Our key, made when there is none yet.
    pub fn identity(&self) -> Result<Identity> {
        let dir = self.config()?;
        match self.read_key(&dir)? {
            Some(identity) => Ok(identity),
            None => {
                // Of two processes that make a key at once, the slower one takes that of the faster.
                make_key(&dir).context("cannot make a key for this machine")?;
                let missing =
                    || Failure::new(Code::Disk, "the key that was just made is not there");
                Ok(self.read_key(&dir)?.ok_or_else(missing)?)
            }
        }
    }

    /// Our key, if there is one.
    pub fn existing_identity(&self) -> Result<Option<Identity>> {
        self.read_key(&self.config()?)
    }

    fn read_key(&self, dir: &Dir) -> Result<Option<Identity>> {
        let file = match dir.open_file(&own_name(KEY).into(), Follow::Beneath) {
            Err(error) if error.is_not_found() => return Ok(None),
            result => result?,
        };
        let shown = self.shown(KEY);
        let mode = file.attributes()?.mode;
        if mode & 0o077 != 0 {
            return Err(Failure::new(
                Code::Refused,
                format!("others can read the key {shown} (mode {mode:04o}), so it is not used"),
            )
            .hint(format!("chmod 600 {shown}; if others had a look at it, delete it for a new one"))
            .into());
        }
        let bytes = file.read_whole(MAX_PEM_BYTES as u64)?;
        let text = String::from_utf8_lossy(&bytes);
        let identity =
            Identity::from_pem(&text).with_context(|| format!("cannot use the key {shown}"))?;
        Ok(Some(identity))
    }

    /// The text of a list of keys; empty if there is none.
    pub fn read_list(&self, name: &str) -> Result<String> {
        read_list(&self.config()?, name)
    }

    /// Replaces a list of keys in one step.
    pub fn write_list(&self, name: &str, text: &str) -> Result<()> {
        Ok(self.config()?.write_private(&own_name(name), text.as_bytes())?)
    }
}

/// The text of a list of keys in this folder; empty if there is none.
pub fn read_list(dir: &Dir, name: &str) -> Result<String> {
    match dir.read_small(&own_name(name).into(), MAX_LIST_BYTES) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.is_not_found() => Ok(String::new()),
        Err(error) => Err(error.into()),
    }
}

/// Locks the lists of a configuration folder against others who would change them too, until it is dropped. A daemon
/// changes them as well, and a change is read, made and written.
pub fn lock_lists(dir: &Dir) -> Result<files::File> {
    let file = dir.open_private(&own_name(LOCK))?;
    let until = Instant::now() + PATIENCE;
    while !file.try_lock()? {
        if Instant::now() > until {
            let shown = files::escape_path(&dir.path().join(LOCK)).to_string();
            return Err(Failure::new(Code::Disk, format!("another process holds {shown}"))
                .hint("it does so for a moment only: see which process it is, and end it")
                .into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(file)
}

fn make_key(dir: &Dir) -> Result<()> {
    let identity = Identity::generate()?;
    let passing = own_name(&format!("{KEY}.{}", crate::spool::random_hex()));
    dir.write_private(&passing, identity.to_pem().as_bytes())?;
    match dir.rename(&passing, (dir, &own_name(KEY)), Replace::No) {
        Err(error) if error.is_already_exists() => Ok(dir.unlink(&passing)?),
        result => {
            result?;
            Ok(dir.sync()?)
        }
    }
}

/// A name that this program made up.
pub fn own_name(text: &str) -> Name {
    Name::new(text).expect("names made here hold no slash")
}

/// The path of the folder that a file of this machine lies in, and its name.
pub fn split_path(path: &Path) -> Option<(PathBuf, Name)> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = path.as_os_str().as_bytes();
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let start = bytes[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let name = Name::new(&bytes[start..end]).ok()?;
    let parent = match start {
        0 => Path::new("."),
        _ => Path::new(std::ffi::OsStr::from_bytes(&bytes[..start])),
    };
    Some((parent.to_owned(), name))
}

/// Writes a small file that the user named, in one step.
pub fn write_named(path: &Path, bytes: &[u8]) -> Result<()> {
    let (parent, name) = split_path(path).with_context(|| {
        format!("{} names no file that could be written", files::escape_path(path))
    })?;
    Ok(Dir::open_ambient(&parent)?.write_private(&name, bytes)?)
}

/// The path of this name.
pub fn path_of(name: &str) -> RelPath {
    own_name(name).into()
}

#[cfg(test)]
mod tests;
