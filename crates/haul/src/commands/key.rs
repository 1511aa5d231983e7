//! `haul key`: this machine's own key, and the lists of those it trusts.

use anyhow::Result;
use inbox::audit::{Audit, AuditEvent, Who};
use link::{AuthorizedKeys, KnownHosts, PublicKey, Target};

use crate::address::bare;
use crate::args::{AllowArguments, KeyCommand};
use crate::enrolment::{Requests, Rights};
use crate::keys;
use crate::render;
use crate::report::{Code, Failure};
use crate::state::{self, AUTHORIZED_KEYS, KNOWN_HOSTS, Places};

mod enrol;

/// Carries the command out.
pub fn run(command: KeyCommand) -> Result<Code> {
    let places = Places::from_environment()?;
    match command {
        KeyCommand::Show { fingerprint } => {
            let key = places.identity()?.public_key();
            render::print_line(&if fingerprint { key.fingerprint() } else { keys::own_line(&key) });
        }
        KeyCommand::Allow(allow_arguments) => allow(&places, &allow_arguments)?,
        #[cfg(feature = "dync")]
        KeyCommand::Import { file, label, inboxes, rights } => {
            let options = Rights { inboxes: &inboxes, rights: &rights }.options()?;
            crate::dync::allow(&places, &file, &label, &options.join(","))?;
            let label = files::escape(label.as_bytes());
            render::tell(&format!("{label} may connect with dync, within seconds"));
        }
        KeyCommand::Trust { host, line } => trust(&places, &host, &line.join(" "))?,
        KeyCommand::List => list(&places)?,
        KeyCommand::Request(arguments) => return enrol::request(&places, &arguments),
        KeyCommand::Invite(arguments) => enrol::invite(&places, &arguments)?,
        KeyCommand::Pending => enrol::pending(&places)?,
        KeyCommand::Approve(arguments) => enrol::approve(&places, &arguments)?,
        KeyCommand::Revoke { host: Some(host), .. } => forget(&places, &host)?,
        KeyCommand::Revoke { which, host: None } => revoke(&places, &which.join(" "))?,
    }
    Ok(Code::Done)
}

fn allow(places: &Places, arguments: &AllowArguments) -> Result<()> {
    let mut line = arguments.line.join(" ");
    if line == "-" {
        line.clear();
        std::io::stdin().read_line(&mut line)?;
    }
    let (key, comment) = parse_line(&line)?;
    let config = places.config()?;
    let _lock = state::lock_lists(&config)?;
    let mut list = AuthorizedKeys::parse(&places.read_list(AUTHORIZED_KEYS)?);
    if list.keys().iter().any(|(known, _)| *known == key) {
        let text = format!("the key {} is on the list already", key.fingerprint());
        return Err(Failure::new(Code::Usage, text)
            .hint(format!(
                "to change what it may do, first run: haul key revoke {}",
                key.fingerprint()
            ))
            .into());
    }
    let options = options_text(arguments)?;
    let entry = format!("{options}{}", key.to_line(&comment));
    list.add_line(&entry).map_err(|problem| Failure::new(Code::Usage, problem.reason))?;
    places.write_list(AUTHORIZED_KEYS, &list.to_text())?;
    let who = if comment.is_empty() {
        key.fingerprint()
    } else {
        files::escape(comment.as_bytes()).to_string()
    };
    render::tell(&format!("{who} may connect: {}", places.shown(AUTHORIZED_KEYS)));
    Ok(())
}

/// The options in front of a key, with a blank behind them; nothing if there are none.
fn options_text(arguments: &AllowArguments) -> Result<String, Failure> {
    let mut options = Vec::new();
    let quoted = |name: &str, value: &str| {
        if value.chars().any(char::is_control) {
            let text = format!("--{name} holds a control character");
            return Err(Failure::new(Code::Usage, text));
        }
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        Ok(format!("{name}=\"{value}\""))
    };
    for path in &arguments.paths {
        options.push(quoted("path", path)?);
    }
    if arguments.read_only {
        options.push("read-only".to_owned());
    }
    if arguments.write_only {
        options.push("write-only".to_owned());
    }
    let rights = Rights { inboxes: &arguments.inboxes, rights: &arguments.rights };
    options.extend(rights.options()?);
    if let Some(expires) = &arguments.expires {
        options.push(quoted("expires", expires)?);
    }
    if let Some(from) = &arguments.from {
        options.push(quoted("from", from)?);
    }
    let end = if options.is_empty() { "" } else { " " };
    Ok(format!("{}{end}", options.join(",")))
}

fn trust(places: &Places, host: &str, line: &str) -> Result<()> {
    let target = parse_host(host)?;
    let (key, comment) = parse_line(line)?;
    let mut known = KnownHosts::parse(&places.read_list(KNOWN_HOSTS)?);
    let others = known.keys(&target);
    let name = bare(&target);
    if !known.add(&target, &key, &comment) {
        render::tell(&format!("{name} is known by this key already"));
        return Ok(());
    }
    places.write_list(KNOWN_HOSTS, &known.to_text())?;
    render::tell(&format!("{name} is now known by {}", key.fingerprint()));
    if !others.is_empty() {
        render::tell(&format!(
            "it stays known by {} other too; to forget all: haul key revoke --host '{name}'",
            crate::units::count(others.len() as u64, "key")
        ));
    }
    Ok(())
}

fn list(places: &Places) -> Result<()> {
    let text = places.read_list(AUTHORIZED_KEYS)?;
    let allowed = AuthorizedKeys::parse(&text);
    let mut out = format!("May connect here ({}):\n", places.shown(AUTHORIZED_KEYS));
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if let Some((key, options, comment)) = split_line(line) {
            let comment = files::escape(comment.as_bytes());
            out.push_str(&format!("  {}  {comment}", key.fingerprint()));
            if !options.is_empty() {
                out.push_str(&format!("  [{}]", files::escape(options.as_bytes())));
            }
            out.push('\n');
        }
    }
    for problem in allowed.problems() {
        out.push_str(&format!("  line {}: {}; it admits nobody\n", problem.line, problem.reason));
    }
    if allowed.keys().is_empty() {
        out.push_str("  nobody yet: haul key allow 'LINE'\n");
    }
    out.push_str(&format!("Known hosts ({}):\n", places.shown(KNOWN_HOSTS)));
    let known = keys::known_hosts(&places.read_list(KNOWN_HOSTS)?);
    for host in &known {
        let comment = files::escape(host.comment.as_bytes());
        let line = format!("  {}  {}  {comment}", host.key.fingerprint(), bare(&host.target));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    if known.is_empty() {
        out.push_str("  none yet: they are added at the first contact\n");
    }
    render::print_line(out.trim_end());
    Ok(())
}

/// Key, options and comment of a line that is understood.
fn split_line(line: &str) -> Option<(PublicKey, String, String)> {
    let parsed = AuthorizedKeys::parse(line);
    let (key, comment) =
        parsed.keys().first().map(|(key, comment)| (*key, (*comment).to_owned()))?;
    let end = line.find(&format!("{} {}", link::KEY_TYPE, key.to_base64()));
    let options = line[..end.unwrap_or(0)].trim().to_owned();
    Some((key, options, comment))
}

fn revoke(places: &Places, which: &str) -> Result<()> {
    let config = places.config()?;
    let _lock = state::lock_lists(&config)?;
    let mut list = AuthorizedKeys::parse(&places.read_list(AUTHORIZED_KEYS)?);
    let which = whole(&config, &list, which)?;
    let asked = enrol::drop_requests(&config, &which)?;
    let before = list.keys().iter().map(|(key, comment)| (*key, (*comment).to_owned())).collect();
    let gone = list.revoke(&which);
    if gone == 0 && asked.is_empty() {
        let shown = files::escape(which.as_bytes());
        return Err(Failure::new(Code::Partial, format!("no key on the list is '{shown}'"))
            .hint("`haul key list` shows fingerprints and comments; a comment is spelled exactly")
            .into());
    }
    if !asked.is_empty() {
        let count = crate::units::count(asked.len() as u64, "request");
        render::tell(&format!("{count} to be let in dropped"));
    }
    if gone == 0 {
        return Ok(());
    }
    record_revoked(places, before, &list)?;
    places.write_list(AUTHORIZED_KEYS, &list.to_text())?;
    render::tell(&format!(
        "{} taken off the list; open connections end within seconds",
        crate::units::count(gone as u64, "key")
    ));
    Ok(())
}

/// The whole fingerprint where only its beginning was written.
fn whole(config: &files::Dir, list: &AuthorizedKeys, which: &str) -> Result<String> {
    if !which.trim().starts_with("SHA256:") {
        return Ok(which.to_owned());
    }
    let mut keys: Vec<PublicKey> = list.keys().into_iter().map(|(key, _)| key).collect();
    keys.extend(Requests::open(config)?.list()?.into_iter().map(|request| request.key));
    // A line that is not understood can be revoked by its whole fingerprint only.
    let found = enrol::find(&keys, which)?;
    Ok(found.map_or_else(|| which.trim().to_owned(), |key| key.fingerprint()))
}

fn record_revoked(
    places: &Places,
    before: Vec<(PublicKey, String)>,
    list: &AuthorizedKeys,
) -> Result<()> {
    let audit = Audit::open(&places.state_root()?)?;
    let by = keys::own_comment();
    for (key, label) in before.iter().filter(|(key, _)| !list.names(key)) {
        let key = key.to_line("");
        let who = Who { key: &key, label, address: None };
        audit.record(&AuditEvent::Revoked { who, by: &by, reason: "" })?;
    }
    Ok(())
}

fn forget(places: &Places, host: &str) -> Result<()> {
    let target = parse_host(host)?;
    let mut known = KnownHosts::parse(&places.read_list(KNOWN_HOSTS)?);
    if known.remove(&target, None) == 0 {
        let text = format!("{} is not known here", bare(&target));
        return Err(Failure::new(Code::Partial, text).hint("`haul key list` shows who is").into());
    }
    places.write_list(KNOWN_HOSTS, &known.to_text())?;
    render::tell(&format!("{} is not known here any more", bare(&target)));
    Ok(())
}

fn parse_host(text: &str) -> Result<Target, Failure> {
    Target::parse(text).map_err(|error| {
        let shown = files::escape(text.as_bytes());
        Failure::new(Code::Usage, format!("'{shown}' is no HOST[:PORT]: {error}"))
    })
}

fn parse_line(line: &str) -> Result<(PublicKey, String), Failure> {
    PublicKey::parse_line(line).map_err(|error| {
        Failure::new(Code::Usage, format!("this is no key line: {error}"))
            .hint("`haul key show` on the other machine prints it; put quotes around it")
    })
}

#[cfg(test)]
mod tests;
