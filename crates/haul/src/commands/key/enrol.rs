//! Keys that ask to be let in: asking as one of them, and deciding as the operator of the other machine.

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result};
use inbox::audit::{Audit, AuditEvent, Who};
use jiff::Timestamp;
use link::{AuthorizedKeys, PublicKey};
use transfer::message::{MAX_CODE, MAX_LABEL, RefuseCode};
use transfer::{TransferError, client};

use crate::address::bare;
use crate::args::{ApproveArguments, InviteArguments, RequestArguments};
use crate::contact::{self, ContactOptions, FIRST_CONTACT, Links};
use crate::enrolment::{Codes, Request, Requests, Rights, admit, check_name};
use crate::interrupt::Interrupt;
use crate::keys;
use crate::render;
use crate::report::{Code, Failure};
use crate::state::{self, AUTHORIZED_KEYS, Places};

/// A fingerprint may be cut to so many characters.
const LEAST_PREFIX: usize = 8;
/// What fingerprints begin with.
const PREFIX: &str = "SHA256:";
/// Nobody needs a code for longer.
const LONGEST_CODE: std::time::Duration = std::time::Duration::from_secs(366 * 86_400);

/// `haul key request`.
pub(super) fn request(places: &Places, arguments: &RequestArguments) -> Result<Code> {
    let target = super::parse_host(&arguments.host)?;
    let label = arguments.label.clone().unwrap_or_else(keys::own_comment);
    if label.len() > MAX_LABEL {
        return Err(too_long("--label", MAX_LABEL).into());
    }
    let code = code_of(arguments.code.as_deref())?;
    let identity = Arc::new(places.identity()?);
    let interrupt = Interrupt::listen()?;
    let options = ContactOptions {
        accept_new: arguments.accept_new,
        asks_nobody: false,
        patience: FIRST_CONTACT,
        deadline: None,
        links: Links::default(),
    };
    let ours = identity.clone();
    let (interrupt, say) = (&interrupt, &|text: &str| render::tell(text));
    let (admitted, text) = super::super::block_on(async {
        let contact = contact::reach(&target, identity, places, &options, interrupt, say).await?;
        let asked = tokio::select! {
            asked = client::enrol(contact.lane(), code.as_bytes(), &label) => asked,
            () = interrupt.wait() => Err(TransferError::Cancelled),
        };
        contact::part(contact.lane()).await;
        asked.map_err(|error| match error {
            TransferError::Refused {
                code: RefuseCode::Denied | RefuseCode::Busy, text, ..
            } => Failure::new(Code::Refused, render::clean(&text)).into(),
            error => contact::with_our_line(error.into(), &ours),
        })
    })?;
    let host = bare(&target);
    render::tell(&format!("{host}: {}", render::clean(&text)));
    if admitted {
        return Ok(Code::Done);
    }
    let key = ours.public_key();
    render::tell(&format!(
        "tell its operator this fingerprint, by another way than this link:\n  {}\n\
         it is let in there by: haul key approve {} --as NAME --inbox NAME\n\
         then haul works as it is; to see whether it is: haul key request {host}",
        key.fingerprint(),
        key.fingerprint()
    ));
    Ok(Code::Partial)
}

/// The code that was given, which other users must not see in the list of processes if it comes by `-`.
fn code_of(given: Option<&str>) -> Result<String> {
    let code = match given {
        None => return Ok(String::new()),
        Some("-") => {
            let mut line = String::new();
            std::io::stdin().take(4 * MAX_CODE as u64).read_to_string(&mut line)?;
            line.trim().to_owned()
        }
        Some(code) => code.trim().to_owned(),
    };
    if code.is_empty() {
        return Err(Failure::new(Code::Usage, "--code is empty").into());
    }
    match code.len() <= MAX_CODE {
        true => Ok(code),
        false => Err(too_long("--code", MAX_CODE).into()),
    }
}

fn too_long(option: &str, most: usize) -> Failure {
    Failure::new(Code::Usage, format!("{option} has more than {most} bytes"))
}

/// `haul key invite`.
pub(super) fn invite(places: &Places, arguments: &InviteArguments) -> Result<()> {
    check_name(&arguments.name)?;
    let rights = Rights { inboxes: &arguments.inboxes, rights: &arguments.rights };
    let options = rights.options()?.join(",");
    let now = Timestamp::now();
    let span = arguments.expires.min(LONGEST_CODE);
    let expires = Timestamp::from_second(now.as_second().saturating_add(span.as_secs() as i64))?;
    let config = places.config()?;
    let code = {
        let _lock = state::lock_lists(&config)?;
        let mut codes = Codes::read(&config)?;
        let code = codes.invite(&options, &arguments.name, now, expires)?;
        codes.write(&config)?;
        code
    };
    render::print_line(&code);
    render::tell(&format!(
        "the code lets one key in, as {}, until {expires}; it is shown this once. There:\n  \
         haul key request HOST --code -",
        files::escape(arguments.name.as_bytes())
    ));
    Ok(())
}

/// `haul key pending`.
pub(super) fn pending(places: &Places) -> Result<()> {
    let config = places.config()?;
    let all = {
        let _lock = state::lock_lists(&config)?;
        let requests = Requests::open(&config)?;
        let gone = requests.expire(Timestamp::now())?;
        record_expired(places, &gone)?;
        requests.list()?
    };
    if all.is_empty() {
        render::print_line("nobody asks to be let in");
        return Ok(());
    }
    let line = |Request { key, label, address, at }: &Request| {
        let (label, address) = (files::escape(label.as_bytes()), files::escape(address.as_bytes()));
        let at = at.strftime("%Y-%m-%dT%H:%M:%SZ");
        format!("{}  {at}  {address}  '{label}'", key.fingerprint())
    };
    render::print_line(&all.iter().map(line).collect::<Vec<_>>().join("\n"));
    render::tell(
        "what they call themselves proves nothing: compare fingerprints, then haul key approve",
    );
    Ok(())
}

fn record_expired(places: &Places, gone: &[Request]) -> Result<()> {
    if gone.is_empty() {
        return Ok(());
    }
    let audit = Audit::open(&places.state_root()?)?;
    for Request { key, label, address, .. } in gone {
        let key = key.to_line("");
        let who = Who { key: &key, label, address: address.parse().ok() };
        audit.record(&AuditEvent::RequestExpired { who })?;
    }
    Ok(())
}

/// `haul key approve`.
pub(super) fn approve(places: &Places, arguments: &ApproveArguments) -> Result<()> {
    check_name(&arguments.name)?;
    let rights = Rights { inboxes: &arguments.inboxes, rights: &arguments.rights };
    let options = rights.options()?.join(",");
    let config = places.config()?;
    let _lock = state::lock_lists(&config)?;
    let requests = Requests::open(&config)?;
    let all = requests.list()?;
    let keys: Vec<PublicKey> = all.iter().map(|request| request.key).collect();
    let key = match find(&keys, &arguments.fingerprint)? {
        Some(key) => key,
        None => {
            let shown = files::escape(arguments.fingerprint.as_bytes());
            let text = format!("no key that asks to be let in has the fingerprint '{shown}'");
            return Err(Failure::new(Code::Partial, text).hint("see haul key pending").into());
        }
    };
    let request = all.iter().find(|request| request.key == key).context("it was just found")?;
    if AuthorizedKeys::parse(&places.read_list(AUTHORIZED_KEYS)?).names(&key) {
        let text = format!("the key {} is on the list already", key.fingerprint());
        return Err(Failure::new(Code::Usage, text)
            .hint(format!(
                "to change what it may do, first run: haul key revoke {}",
                key.fingerprint()
            ))
            .into());
    }
    let line = format!("{options} {}", key.to_line(&arguments.name));
    let audit = Audit::open(&places.state_root()?)?;
    let known = key.to_line("");
    let who = Who { key: &known, label: &request.label, address: request.address.parse().ok() };
    let by = keys::own_comment();
    audit.record(&AuditEvent::Approved { who, rights: &line, by: &by })?;
    admit(&config, &line)?;
    requests.remove(&key)?;
    let name = files::escape(arguments.name.as_bytes());
    render::tell(&format!("{name} is let in, with the key {} [{options}]", key.fingerprint()));
    Ok(())
}

/// The one key whose fingerprint begins so. `SHA256:` may be left out.
pub(super) fn find(keys: &[PublicKey], beginning: &str) -> Result<Option<PublicKey>, Failure> {
    let beginning = beginning.trim();
    let beginning = beginning.strip_prefix(PREFIX).unwrap_or(beginning);
    if beginning.len() < LEAST_PREFIX {
        let text = format!("a fingerprint is written with {LEAST_PREFIX} characters at least");
        return Err(Failure::new(Code::Usage, text));
    }
    let begins = |key: &&PublicKey| {
        key.fingerprint().strip_prefix(PREFIX).is_some_and(|whole| whole.starts_with(beginning))
    };
    let mut found: Vec<PublicKey> = keys.iter().filter(begins).copied().collect();
    found.sort_by_key(|key| key.0);
    found.dedup();
    match found.as_slice() {
        [] => Ok(None),
        [key] => Ok(Some(*key)),
        _ => {
            let shown = files::escape(beginning.as_bytes());
            let text = format!("{} keys have a fingerprint that begins with {shown}", found.len());
            Err(Failure::new(Code::Usage, text).hint("write more of it"))
        }
    }
}

/// Drops the requests that `which` names, and gives their keys: a whole key line, a key, or a fingerprint.
pub(super) fn drop_requests(config: &files::Dir, which: &str) -> Result<Vec<PublicKey>> {
    let requests = Requests::open(config)?;
    let named =
        PublicKey::from_base64(which).ok().or_else(|| Some(PublicKey::parse_line(which).ok()?.0));
    let mut gone = Vec::new();
    for Request { key, .. } in requests.list()? {
        if Some(key) == named || key.fingerprint() == which {
            requests.remove(&key)?;
            gone.push(key);
        }
    }
    Ok(gone)
}
