//! `haul serve`: from arguments and configuration to a daemon that runs until a signal.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use events::{Event, Sink};
use inbox::audit::Audit;
use inbox::hooks::Surroundings;
use inbox::{InboxOptions, Inboxes, InboxesOptions, Reception, Told};
use link::{DEFAULT_PORT, Identity};

use crate::args::ServeArguments;
use crate::config::Config;
use crate::daemon::{Daemon, DaemonOptions};
use crate::exports::{Export, ExportSpec, Exports, Mode};
use crate::interrupt::Interrupt;
use crate::render;
use crate::report::{Code, Failure};
use crate::state::{AUTHORIZED_KEYS, Places};
use crate::trust::{LiveKeys, Log};

/// Carries the command out.
pub fn run(arguments: ServeArguments) -> Result<Code> {
    let Settled { listen, specs, inboxes } = settle(&arguments)?;
    let exports = open(specs)?;
    let places = Places::from_environment()?;
    let identity = Arc::new(places.identity()?);
    let interrupt = Interrupt::listen()?;
    let quiet = arguments.quiet;
    let log: Log = Arc::new(move |text| {
        if !quiet {
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
            render::tell(&format!("{now} {}", render::clean(text)));
        }
    });
    let keys = Arc::new(LiveKeys::new(places.config()?, log.clone()));
    let host = Exports::new(exports, identity.clone()).with_log(log.clone());
    let host = Arc::new(host.with_keys(keys.clone()));
    let inboxes = open_inboxes(inboxes, &places, &identity, &log)?;
    super::block_on(async {
        let reception = inboxes.clone().map(|inboxes| {
            let reception = Reception { inboxes: Some(inboxes), enrol: None };
            Arc::new(reception) as Arc<dyn transfer::reception::Reception>
        });
        let options = DaemonOptions {
            listen,
            identity: identity.clone(),
            host: host.clone(),
            sink: sink(log.clone()),
            carrier: None,
            reception,
        };
        let daemon = Daemon::bind_live(options, keys.clone(), log.clone())?;
        log(&format!("listening on {}", daemon.local_addr()));
        log(&format!("this machine is {}", identity.public_key().fingerprint()));
        for export in host.list() {
            log(&told(export));
        }
        for inbox in inboxes.iter().flat_map(Inboxes::list) {
            log(&told_of_inbox(inbox));
        }
        for warning in daemon.warnings() {
            log(&format!("warning: {warning}"));
        }
        if keys.count() == 0 {
            log(&format!(
                "nobody may connect yet: {} holds no key; run `haul key show` on the other machine, \
                 and here: haul key allow 'LINE'",
                places.shown(AUTHORIZED_KEYS)
            ));
        }
        tokio::select! {
            () = daemon.run(interrupt.wait()) => {}
            () = look_after(inboxes.as_ref()) => {}
        }
        log("stopped");
        Ok(())
    })?;
    Ok(Code::Done)
}

/// What is to be served, and where.
struct Settled {
    listen: SocketAddr,
    specs: Vec<ExportSpec>,
    inboxes: InboxesOptions,
}

/// Opens the inboxes, if there are any, and notes where they are for `haul inbox`.
fn open_inboxes(
    options: InboxesOptions,
    places: &Places,
    identity: &Arc<Identity>,
    log: &Log,
) -> Result<Option<Inboxes>> {
    if options.inboxes.is_empty() {
        return Ok(None);
    }
    let paths: Vec<PathBuf> = options.inboxes.iter().map(|inbox| inbox.path.clone()).collect();
    let audit = Arc::new(Audit::open(&places.state(AUDIT)?)?);
    let told = Told {
        audit: Some(audit),
        sink: sink(log.clone()),
        surroundings: surroundings(),
        ..Told::only(log.clone())
    };
    let inboxes = Inboxes::open(options, identity.clone(), told)?;
    super::inbox::note_roots(places, &paths)?;
    Ok(Some(inboxes))
}

/// The folder of the state folder that has the audit log.
const AUDIT: &str = "audit";

/// What programs that are run as hooks find: what this daemon was started with.
fn surroundings() -> Surroundings {
    let otherwise = Surroundings::default();
    let variable = |name: &str, otherwise: String| std::env::var(name).unwrap_or(otherwise);
    Surroundings {
        path: variable("PATH", otherwise.path),
        home: variable("HOME", otherwise.home),
        lang: variable("LANG", otherwise.lang),
    }
}

/// Keeps the queue's time and the house in order; never ends.
async fn look_after(inboxes: Option<&Inboxes>) {
    match inboxes {
        Some(inboxes) => inboxes.run().await,
        None => std::future::pending().await,
    }
}

/// An inbox in one line.
fn told_of_inbox(inbox: &InboxOptions) -> String {
    let schema = match &inbox.schema {
        Some(schema) => format!("schema {}", files::escape_path(schema)),
        None => "no schema: any metadata will do".to_owned(),
    };
    format!(
        "takes datasets into inbox {} ({}), {schema}",
        inbox.name,
        files::escape_path(&inbox.path)
    )
}

/// Arguments win over the configuration for the address and add to it for exports.
fn settle(arguments: &ServeArguments) -> Result<Settled> {
    let config = match &arguments.config {
        Some(path) => Config::read(path)
            .map_err(|error| Failure::new(Code::Usage, crate::report::explain(&error).line()))?,
        None => Config::default(),
    };
    let listen = match (arguments.listen, &config.listen) {
        (Some(listen), _) => listen,
        (None, Some(text)) => text.parse().map_err(|_| {
            let text = files::escape(text.as_bytes());
            Failure::new(Code::Usage, format!("listen = \"{text}\" is not ADDRESS:PORT"))
        })?,
        (None, None) => (Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into(),
    };
    let mut specs = config.exports;
    for word in &arguments.export {
        use std::os::unix::ffi::OsStrExt;
        let spec = ExportSpec::parse(word).map_err(|error| {
            let shown = files::escape(word.as_bytes());
            Failure::new(Code::Usage, format!("--export {shown}: {error}"))
        })?;
        specs.push(spec);
    }
    let inboxes = config.inboxes;
    if specs.is_empty() && inboxes.inboxes.is_empty() {
        return Err(Failure::new(Code::Usage, "there is nothing to serve")
            .hint("name a folder with --export PATH, or a file with --config")
            .into());
    }
    for (at, spec) in specs.iter().enumerate() {
        if specs[..at].iter().any(|other| other.name == spec.name) {
            let text = format!("two exports are called {}", spec.name);
            return Err(Failure::new(Code::Usage, text)
                .hint("give one of them another name: --export PATH=NAME")
                .into());
        }
    }
    Ok(Settled { listen, specs, inboxes })
}

fn open(specs: Vec<ExportSpec>) -> Result<Vec<Export>> {
    let open = |spec: ExportSpec| {
        let name = spec.name.clone();
        Export::open(spec.name, &spec.path, spec.mode)
            .map(|export| export.granting(spec.grants))
            .with_context(|| format!("cannot export {name}"))
    };
    specs.into_iter().map(open).collect()
}

/// An export in one line, with everything that a peer may do there.
fn told(export: &Export) -> String {
    let mode = if export.mode == Mode::Ro { "read-only" } else { "read and write" };
    let setid = if export.grants.setid { ", set-id bits" } else { "" };
    let owner = if export.grants.owner { ", owners" } else { "" };
    let path = files::escape_path(export.path());
    format!("exports {} ({path}), {mode}{setid}{owner}", export.name)
}

/// What the operator is told of the jobs of peers. Files are too many for a log; their sums are in the
/// receipts.
fn sink(log: Log) -> Sink {
    Sink::new(move |event| match event {
        Event::Started { source, target, .. } => log(&format!("{source} -> {target}: began")),
        Event::Finished { outcome, totals, elapsed, .. } => {
            let word = match outcome {
                events::Outcome::Complete => "done".to_owned(),
                events::Outcome::Partial => format!("done, {} failed", totals.files_failed),
                events::Outcome::Failed { reason } => format!("ended: {reason}"),
                _ => "ended".to_owned(),
            };
            log(&format!(
                "{word}: {}, {} in {}",
                crate::units::count(totals.files_done, "file"),
                crate::units::bytes(totals.bytes_acknowledged),
                crate::units::duration(*elapsed)
            ));
        }
        Event::FileFailed { path, reason } => {
            log(&format!("failed: {}: {reason}", files::escape(path)));
        }
        Event::LinkLost { reason } => log(reason),
        Event::Warning { text } => log(&format!("warning: {text}")),
        _ => {}
    })
}
