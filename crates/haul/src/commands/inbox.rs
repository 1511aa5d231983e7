//! `haul inbox`: what an inbox wants, and what the inboxes of this machine hold.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use files::Dir;
use inbox::catalogue::outbox::{HookRow, HookState};
use inbox::{Catalogue, DatasetId, DatasetRow, DatasetState, Filter, Verified, VerifyOptions};
use link::Identity;
use serde_json::{Value, json};
use transfer::client::{self, Way};

use super::ls;
use crate::args::{InboxCommand, RootOptions};
use crate::contact;
use crate::interrupt::Interrupt;
use crate::reach::{Reached, Reacher, Wishes};
use crate::remotes::Remotes;
use crate::render;
use crate::report::{Code, Failure};
use crate::state::{Places, own_name, path_of};
use crate::units;

/// Carries the command out.
pub fn run(command: InboxCommand) -> Result<Code> {
    match command {
        InboxCommand::Schema { host, inbox, accept_new } => {
            schema(&host, &inbox.unwrap_or_default(), accept_new)
        }
        InboxCommand::List { inbox, most, at } => {
            let filter = Filter { inbox, most, ..Filter::default() };
            tell_rows(&at, |catalogue| Ok(catalogue.list(&filter)?))
        }
        InboxCommand::Search { query, most, at } => {
            let parts: Vec<String> = query.iter().map(|part| as_written(part)).collect();
            let (query, filter) = (parts.join(" "), Filter { most, ..Filter::default() });
            tell_rows(&at, |catalogue| Ok(catalogue.search(&query, &filter)?))
        }
        InboxCommand::Show { id, at } => show(&id, &at),
        InboxCommand::RetryHooks { id, at } => retry_hooks(&id, &at),
        InboxCommand::Verify { id, at } => verify(id.as_deref(), &at),
    }
}

/// A part of a query with the quotes that the shell has taken off: a value that has blanks is one value.
fn as_written(part: &str) -> String {
    let Some(at) = part.find(['=', ':']).filter(|_| !part.contains('"')) else {
        return part.to_owned();
    };
    let (key, value) = part.split_at(at + 1);
    match value.contains(char::is_whitespace) && !key.contains(char::is_whitespace) {
        true => format!("{key}\"{value}\""),
        false => part.to_owned(),
    }
}

/// The file of the state folder that says where inboxes are: a path a line, escaped.
const ROOTS: &str = "roots";
/// The folder it is in.
const INBOXES: &str = "inboxes";

/// Notes where the inboxes are that are served, so that they are found without being named.
pub(super) fn note_roots(places: &Places, paths: &[PathBuf]) -> Result<()> {
    let mut text = Vec::new();
    for path in paths {
        let whole = std::path::absolute(path)?;
        let line = whole.as_os_str().as_bytes().to_vec();
        if !line.contains(&b'\n') && !text.split(|byte| *byte == b'\n').any(|known| known == line) {
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
    }
    Ok(places.state(INBOXES)?.write_private(&own_name(ROOTS), &text)?)
}

/// The roots that are meant, with their catalogues, to be read.
fn roots(at: &RootOptions) -> Result<Vec<(PathBuf, Dir, Catalogue)>> {
    let paths = match &at.root {
        Some(root) => vec![root.clone()],
        None => noted_roots()?,
    };
    let open = |path: PathBuf| {
        let shown = files::escape_path(&path).to_string();
        let opened = Dir::open_ambient(&path)
            .map_err(anyhow::Error::from)
            .and_then(|dir| Ok((Catalogue::open_to_read(&dir)?, dir)));
        let (catalogue, dir) = opened.with_context(|| format!("{shown} is no inbox's path"))?;
        Ok((path, dir, catalogue))
    };
    paths.into_iter().map(open).collect()
}

fn noted_roots() -> Result<Vec<PathBuf>> {
    let state = Places::from_environment()?.state(INBOXES)?;
    let text = match state.read_small(&path_of(ROOTS), 1 << 20) {
        Err(error) if error.is_not_found() => Vec::new(),
        text => text?,
    };
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let paths: Vec<PathBuf> = lines.map(|line| OsStr::from_bytes(line).into()).collect();
    if paths.is_empty() {
        return Err(Failure::new(Code::Usage, "haul serve has served no inbox here")
            .hint("name its path with --root, or run this as the user that the daemon runs as")
            .into());
    }
    Ok(paths)
}

fn tell_rows(
    at: &RootOptions,
    find: impl Fn(&Catalogue) -> Result<Vec<DatasetRow>>,
) -> Result<Code> {
    let mut rows = Vec::new();
    for (_, _, catalogue) in roots(at)? {
        rows.extend(find(&catalogue)?);
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.published));
    if at.json {
        rows.iter().for_each(|row| render::print_json(&json_of(row).to_string()));
        return Ok(Code::Done);
    }
    for row in &rows {
        let missing = if row.state == DatasetState::Ok { "" } else { "  (missing)" };
        render::print_line(&format!(
            "{}  {}  {:<10} {:>10}  {:>7}  {}  {}{missing}",
            row.id,
            row.published.strftime("%Y-%m-%d %H:%M"),
            row.inbox,
            units::bytes(row.bytes),
            row.files,
            files::escape(row.label.as_bytes()),
            files::escape(row.name.as_bytes()),
        ));
    }
    if rows.is_empty() {
        render::tell("no dataset");
    }
    for (_, _, catalogue) in roots(at)? {
        for hook in catalogue.troubled_hooks(10)? {
            let words = hook_words(&hook);
            render::tell(&format!("warning: dataset {}: hook {words}", hook.dataset));
        }
    }
    Ok(Code::Done)
}

fn json_of(row: &DatasetRow) -> Value {
    let metadata: Value = serde_json::from_str(&row.metadata).unwrap_or(Value::Null);
    json!({
        "dataset": row.id.to_string(), "inbox": row.inbox, "name": row.name, "label": row.label,
        "client": row.client, "offered": row.offered.to_string(),
        "published": row.published.to_string(), "files": row.files, "bytes": row.bytes,
        "content": row.content.to_string(), "metadata": metadata, "path": row.path,
        "missing": row.state == DatasetState::Missing,
    })
}

/// The dataset of this id, and where it is.
fn find(id: &str, at: &RootOptions) -> Result<(PathBuf, Dir, DatasetRow)> {
    let id: DatasetId = id.parse().map_err(|error| {
        Failure::new(Code::Usage, format!("'{}': {error}", files::escape(id.as_bytes())))
    })?;
    for (path, dir, catalogue) in roots(at)? {
        if let Some(row) = catalogue.dataset(id)? {
            return Ok((path, dir, row));
        }
    }
    let text = format!("no inbox here has a dataset {id}");
    Err(Failure::new(Code::Partial, text).hint("`haul inbox list` shows what there is").into())
}

fn show(id: &str, at: &RootOptions) -> Result<Code> {
    let (path, dir, row) = find(id, at)?;
    if at.json {
        render::print_json(&json_of(&row).to_string());
        return Ok(Code::Done);
    }
    let metadata: Value = serde_json::from_str(&row.metadata).unwrap_or(Value::Null);
    let lines = [
        ("dataset", row.id.to_string()),
        ("name", row.name.clone()),
        ("inbox", row.inbox.clone()),
        ("from", format!("{} ({})", row.label, row.client)),
        ("offered", row.offered.to_string()),
        ("published", row.published.to_string()),
        ("files", format!("{}, {}", row.files, units::bytes(row.bytes))),
        ("content", format!("{} (tree digest)", row.content)),
        ("path", path.join(&row.path).display().to_string()),
    ];
    for (what, said) in lines {
        render::print_line(&format!("{what:<10} {}", files::escape(said.as_bytes())));
    }
    if row.state == DatasetState::Missing {
        render::print_line("missing    its folder was not there when the server was last started");
    }
    for hook in hooks_of(&dir, &row)? {
        render::print_line(&format!("hook       {hook}"));
    }
    let pretty = serde_json::to_string_pretty(&metadata).unwrap_or_default();
    render::print_line("metadata");
    pretty.lines().for_each(|line| render::print_line(&format!("  {}", render::clean(line))));
    Ok(Code::Done)
}

/// The hooks of a dataset, a line each, with the end of what the last try wrote where it failed.
fn hooks_of(dir: &Dir, row: &DatasetRow) -> Result<Vec<String>> {
    let hooks = Catalogue::open_to_read(dir)?.hooks_of(row.id)?;
    Ok(hooks.iter().map(hook_words).collect())
}

fn hook_words(hook: &HookRow) -> String {
    let mut text = format!(
        "{} ({}): {}, begun {}; {}",
        hook.hook,
        hook.event.word(),
        hook.state.word(),
        units::count(hook.tries.into(), "time"),
        hook.outcome
    );
    let last = hook.output.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    if let (Some(last), true) = (last, hook.state != HookState::Done) {
        let shown: String = files::escape(last).to_string().chars().take(200).collect();
        text.push_str(&format!(": {shown}"));
    }
    text
}

fn retry_hooks(id: &str, at: &RootOptions) -> Result<Code> {
    let (_, dir, row) = find(id, at)?;
    match Catalogue::open_beside(&dir)?.retry_hooks(row.id)? {
        0 => {
            render::tell(&format!("no hook of dataset {} has failed", row.id));
            Ok(Code::Partial)
        }
        count => {
            let hooks = units::count(count as u64, "hook");
            render::tell(&format!(
                "{hooks} will run again, within seconds if the server is at work"
            ));
            Ok(Code::Done)
        }
    }
}

fn verify(id: Option<&str>, at: &RootOptions) -> Result<Code> {
    let options = VerifyOptions::default();
    let mut tally = Tally { json: at.json, ..Tally::default() };
    match id {
        Some(id) => {
            let (_, dir, row) = find(id, at)?;
            tally.tell(&row, &inbox::verify(&dir, &row, &options)?);
        }
        None => {
            for (_, dir, catalogue) in roots(at)? {
                inbox::verify_all(&dir, &catalogue, &options, |row, verified| {
                    tally.tell(row, &verified);
                })?;
            }
        }
    }
    if !at.json {
        let datasets = units::count(tally.datasets, "dataset");
        render::tell(&match tally.broken {
            0 => format!("{datasets} read, all whole"),
            broken => format!("{datasets} read, {broken} not whole"),
        });
    }
    Ok(if tally.broken == 0 { Code::Done } else { Code::Partial })
}

/// What was verified so far.
#[derive(Default)]
struct Tally {
    json: bool,
    datasets: u64,
    broken: u64,
}

impl Tally {
    fn tell(&mut self, row: &DatasetRow, verified: &Verified) {
        self.datasets += 1;
        self.broken += u64::from(!verified.is_whole());
        let findings: Vec<String> = verified.findings.iter().map(ToString::to_string).collect();
        if self.json {
            let line = json!({
                "dataset": row.id.to_string(), "whole": verified.is_whole(), "findings": findings,
                "more": verified.more,
            });
            render::print_json(&line.to_string());
            return;
        }
        for finding in findings {
            render::print_line(&format!("{}: {}", row.id, files::escape(finding.as_bytes())));
        }
        if verified.more > 0 {
            render::print_line(&format!("{}: and {} more", row.id, verified.more));
        }
    }
}

fn schema(host: &std::ffi::OsStr, inbox: &str, accept_new: bool) -> Result<Code> {
    let places = Places::from_environment()?;
    let (host, _) = ls::place(&Remotes::read(&places)?.spelled_place(host))?;
    let host = crate::address::Host { login: None, ..host };
    let identity: Arc<Identity> = Arc::new(places.identity()?);
    let interrupt = Interrupt::listen()?;
    let ours = identity.clone();
    let wishes = Wishes { accept_new, ..Wishes::default() };
    let (places, interrupt) = (&places, &interrupt);
    let text = super::block_on(async {
        let reacher = Reacher { identity, places, interrupt, wishes };
        let Reached { connect, .. } = reacher.reach(&host).await?;
        let lane = connect(Way::Any).await?;
        let asked = tokio::select! {
            asked = client::schema(&lane, inbox) => asked,
            () = interrupt.wait() => Err(transfer::TransferError::Cancelled),
        };
        contact::part(&lane).await;
        let text = asked.map_err(|error| contact::with_our_line(error.into(), &ours))?;
        let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok();
        let text = String::from_utf8(text).ok().filter(|_| is_json);
        text.ok_or_else(|| {
            let text = format!("what {} gave for a schema is no JSON", lane.peer_name());
            anyhow::Error::from(Failure::new(Code::Link, text))
        })
    })?;
    render::print_json(text.trim_end());
    Ok(Code::Done)
}

#[cfg(test)]
mod tests {
    use super::as_written;

    #[test]
    fn a_value_keeps_its_blanks() {
        assert_eq!(as_written("run.instrument=NovaSeq X"), "run.instrument=\"NovaSeq X\"");
        assert_eq!(as_written("a:two words"), "a:\"two words\"");
        for part in ["a=\"b c\"", "a=b", "two words", "liver a=b", ""] {
            assert_eq!(as_written(part), part);
        }
    }
}
