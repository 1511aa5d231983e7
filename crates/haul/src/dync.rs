//! The door for clients of dync: its keys in the configuration folder, and the listener that feeds the inboxes.

use std::sync::Arc;

use anyhow::{Context, Result};
use inbox::dync::keys::{KeyFile, KeyFolder};
use inbox::dync::listener::{ListenOptions, Listener, Notice};
use inbox::{DyncDesk, Inboxes};

use crate::config::DyncConfig;
use crate::report::{Code, Failure};
use crate::state::{Places, own_name};
use crate::trust::Log;

/// The folder of the keys, in the configuration folder.
const KEYS: &str = "dync";
/// The longest key file that is read.
const MAX_KEY_FILE: u64 = 64 << 10;

/// Listens, if the configuration says so.
pub async fn listen(
    config: Option<&DyncConfig>,
    inboxes: Option<&Inboxes>,
    places: &Places,
    log: &Log,
) -> Result<Option<Listener>> {
    let (Some(config), Some(inboxes)) = (config, inboxes) else { return Ok(None) };
    let into = match &config.inbox {
        Some(inbox) => link::Inboxes::Named(vec![inbox.clone()]),
        None => link::Inboxes::None,
    };
    let keys = KeyFolder::new(places.config()?.make_private_dir(&own_name(KEYS))?, into);
    let options = ListenOptions {
        max_metadata_bytes: usize::try_from(inboxes.most_metadata())?,
        ..ListenOptions::new(config.listen)
    };
    let desk = Arc::new(DyncDesk::new(inboxes.clone()));
    let told = log.clone();
    let listener =
        Listener::start(options, keys, desk, move |notice| told(&words(&notice))).await?;
    log(&format!("listening for dync clients on {}", listener.address()));
    Ok(Some(listener))
}

fn words(notice: &Notice) -> String {
    match notice {
        Notice::Key { file, reason } => {
            format!("dync key {}: {reason}; it lets nobody in", files::escape(file.as_bytes()))
        }
        Notice::Disconnected { client, reason } => {
            format!("dync client {} was sent away: {reason}", files::escape(client.as_bytes()))
        }
        Notice::Refused { address, reason, same, others } => {
            let reason = files::escape(reason.as_bytes());
            let mut text =
                format!("a connection to the dync port from {address} was not let in: {reason}");
            if *same > 0 {
                text += &format!(" ({same} more like it since that was told last)");
            }
            if *others > 0 {
                text += &format!(" ({others} of others were not told)");
            }
            text
        }
    }
}

/// Lets the bearer of a key file of pyzmq in.
pub fn allow(places: &Places, file: &std::path::Path, label: &str, options: &str) -> Result<()> {
    let text = files::File::open_ambient(file)?.read_whole(MAX_KEY_FILE)?;
    let key = KeyFile::parse(&text).map_err(|reason| {
        let text = format!("{} is no key file of dync: {reason}", files::escape_path(file));
        Failure::new(Code::Usage, text)
    })?;
    let dir = places.config()?.make_private_dir(&own_name(KEYS))?;
    let folder = KeyFolder::new(dir, link::Inboxes::None);
    folder
        .import(&key, label, options, jiff::Timestamp::now())
        .with_context(|| format!("cannot let {} in", files::escape(label.as_bytes())))
}
