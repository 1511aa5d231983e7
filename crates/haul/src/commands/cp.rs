//! `haul cp`: from words to one job, and from its outcome to an exit code.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use events::{BoundKind, Counters, Event, LinkSnapshot};
use files::Name;
use link::{Identity, LinkChoice, Pace, PublicKey, Target, TransportOptions};
use tokio::task::spawn_blocking;
use transfer::client::{self, Connect, JobOptions, JobReport, LaneEnded};
use transfer::host::SourceRoot;
use transfer::message::{Deletion, Existing, Order};
use transfer::receipt::Receipt;
use transfer::{Totals, TransferError};

use crate::args::{CopyArguments, DeletionChoice, ExistingChoice};
use crate::bounds::{self, Here};
use crate::contact::{self, ContactOptions, FIRST_CONTACT, Links};
use crate::daemon::{Daemon, DaemonOptions};
use crate::interrupt::Interrupt;
use crate::landing::Wish;
use crate::local::{self, OneLanding};
use crate::paths::PathStore;
use crate::render::{self, Render, RenderOptions, Style, json};
use crate::report::{self, Code, Failure};
use crate::spool::{self, Scratch};
use crate::state::{self, Places, own_name};
use crate::trust::{OneKey, Pinned};
use crate::units;

mod plan;
mod third;

use plan::{Given, Plan, Taken};

/// How long a link may be down where the user gave no time.
const GIVE_UP_AFTER: Duration = Duration::from_secs(300);
/// Where receipts are kept.
const RECEIPTS: &str = "receipts";
/// Where pipes are spooled.
const SPOOL: &str = "spool";
/// The name of a pipe's content while it is spooled.
const PIPED: &str = "content";

/// Carries the command out.
pub fn run(arguments: CopyArguments) -> Result<Code> {
    let plan = plan::plan(&arguments.words)?;
    if plan.writes_to_stdout() && arguments.json {
        let text = "--json writes to standard output, and so does the target -";
        return Err(Failure::new(Code::Usage, text).into());
    }
    // A pattern that cannot be used is found before anything is dialled.
    tree::Filter::new(arguments.rules.0.clone())
        .map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
    let places = Places::from_environment()?;
    let identity = Arc::new(places.identity()?);
    let interrupt = Interrupt::listen()?;
    let copy = Copy { arguments, places, identity, interrupt, counters: Counters::new() };
    super::block_on(copy.carry_out(plan))
}

/// One run of the command.
struct Copy {
    arguments: CopyArguments,
    places: Places,
    identity: Arc<Identity>,
    interrupt: Interrupt,
    counters: Arc<Counters>,
}

impl Copy {
    async fn carry_out(self, plan: Plan) -> Result<Code> {
        match plan {
            Plan::Push { given: Given::Paths(paths), host, path, wish } => {
                let sources = sources(&paths)?;
                let order = self.order(path, wish);
                let Reached { connect, lane_ended, hushed, .. } = self.reach(&host).await?;
                self.run_job(Here::Source, hushed, lane_ended, |options| {
                    client::put(connect, sources, order, options)
                })
                .await
            }
            Plan::Push { given: Given::Pipe(name), host, path, wish } => {
                let Reached { connect, lane_ended, hushed, .. } = self.reach(&host).await?;
                let scratch = self.scratch()?;
                self.spool(&scratch).await?;
                let source = piped(&scratch, name);
                let order = self.order(path, wish);
                self.run_job(Here::Source, hushed, lane_ended, |options| {
                    client::put(connect, vec![source], order, options)
                })
                .await
            }
            Plan::Pull { host, paths, taken: Taken::Path(target), wish } => {
                let landing = local::landing(&target, wish)?;
                let order = self.order(Vec::new(), wish);
                let Reached { connect, lane_ended, hushed, .. } = self.reach(&host).await?;
                let identity = self.identity.clone();
                self.run_job(Here::Target, hushed, lane_ended, |options| {
                    client::get(connect, paths, landing, order, identity, options)
                })
                .await
            }
            Plan::Pull { host, paths, taken: Taken::Pipe, wish } => {
                let Reached { connect, lane_ended, hushed, .. } = self.reach(&host).await?;
                let scratch = self.scratch()?;
                let landing = local::landing_in(scratch.dir(), own_name(PIPED), "standard output");
                let order = self.order(Vec::new(), wish);
                let identity = self.identity.clone();
                let code = self
                    .run_job(Here::Target, hushed, lane_ended, |options| {
                        client::get(connect, paths, landing, order, identity, options)
                    })
                    .await?;
                if code == Code::Done && !self.arguments.dry_run {
                    self.pour(scratch).await?;
                }
                Ok(code)
            }
            Plan::Third { from, paths, to, path, wish } => {
                self.copy_between((from, paths), (to, path), wish).await
            }
            Plan::Local { given, target, wish } => self.copy_here(given, &target, wish).await,
        }
    }

    /// Both ends are on this machine: a daemon in this process takes the copy, over the loopback.
    async fn copy_here(&self, given: Given, target: &Path, wish: Wish) -> Result<Code> {
        let landing = local::landing(target, wish)?;
        let scratch;
        let sources = match given {
            Given::Paths(paths) => {
                let sources = sources(&paths)?;
                local::check_apart(&paths, &sources, &landing, target)?;
                sources
            }
            Given::Pipe(name) => {
                scratch = self.scratch()?;
                self.spool(&scratch).await?;
                vec![piped(&scratch, name)]
            }
        };
        let host = Arc::new(OneLanding { landing, identity: self.identity.clone() });
        let options = DaemonOptions {
            listen: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            identity: self.identity.clone(),
            host,
            sink: events::Sink::default(),
        };
        let ours = self.identity.public_key();
        let daemon = Daemon::bind(options, Arc::new(OneKey(ours)))?;
        let hushed = daemon.warnings().iter().map(|warning| warning.text.clone()).collect();
        let address = daemon.local_addr();
        let host = Target::new(&address.ip().to_string(), address.port())?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(daemon.run(async {
            // Stopped by a word or by the end of whoever could have said it.
            let _ = stopped.await;
        }));
        let check = Arc::new(Pinned(ours));
        let connect =
            contact::connect_by(host, self.identity.clone(), check, Links::default(), None);
        let order = self.order(Vec::new(), wish);
        let result = self
            .run_job(Here::Both, hushed, None, |options| {
                client::put(connect, sources, order, options)
            })
            .await;
        drop(stop);
        let _ = serving.await;
        result
    }

    fn order(&self, target: Vec<u8>, wish: Wish) -> Order {
        let a = &self.arguments;
        Order {
            target,
            into_folder: wish.into_folder,
            contents: wish.contents,
            durable: a.fsync,
            checksum: a.checksum,
            dry_run: a.dry_run,
            owner: a.owner,
            xattrs: a.xattrs,
            setid: a.setid,
            existing: match a.existing {
                ExistingChoice::Overwrite => Existing::Overwrite,
                ExistingChoice::Skip => Existing::Skip,
                ExistingChoice::Fail => Existing::Fail,
                ExistingChoice::Rename => Existing::Rename,
            },
            deletion: match a.delete_extra {
                None => Deletion::No,
                Some(DeletionChoice::Guarded) => Deletion::Guarded,
                Some(DeletionChoice::All) => Deletion::All,
            },
            compression: a.compress,
            whole: a.whole_file,
            named: false,
            rules: a.rules.0.clone(),
        }
    }

    /// The kinds of lane that suit the options. TCP goes at the pace of the kernel, which gives way to few.
    fn link_choice(&self) -> LinkChoice {
        match (self.arguments.link, self.arguments.pace) {
            (LinkChoice::Auto, Pace::Background | Pace::Fixed(_)) => LinkChoice::PreferQuic,
            (choice, _) => choice,
        }
    }

    /// The first contact, before anything is read from the disk.
    async fn reach(&self, host: &Target) -> Result<Reached> {
        let choice = self.link_choice();
        let memory = PathStore::open(&self.places, host);
        let transport = TransportOptions {
            pace: self.arguments.pace,
            known_path: memory.load(),
            ..TransportOptions::default()
        };
        let options = ContactOptions {
            accept_new: self.arguments.accept_new,
            patience: self.arguments.give_up_after.unwrap_or(FIRST_CONTACT),
            links: Links { choice, transport },
        };
        let quiet = self.arguments.quiet;
        let say = |text: &str| {
            // A question is asked however quiet the user wants it.
            if !quiet || text.ends_with(' ') {
                render::tell(text);
            }
        };
        let (identity, places) = (self.identity.clone(), &self.places);
        let contact =
            contact::reach(host, identity, places, &options, &self.interrupt, &say).await?;
        let (hushed, lane_ended) = (contact.warnings(), Some(memory.watch()));
        let key = *contact.lane().peer();
        Ok(Reached { key, hushed, connect: contact.into_connect(), lane_ended })
    }

    /// Shows the job while it runs, and tells how it ended.
    async fn run_job<F>(
        &self,
        here: Here,
        hushed: Vec<String>,
        lane_ended: Option<LaneEnded>,
        start: impl FnOnce(JobOptions) -> F,
    ) -> Result<Code>
    where
        F: Future<Output = Result<JobReport, TransferError>>,
    {
        let a = &self.arguments;
        let style = Style::choose(a.json, a.quiet);
        if style == Style::Json {
            let shown = |word: &std::ffi::OsString| files::escape_path(Path::new(word)).to_string();
            let mut sources: Vec<String> = a.words.iter().map(shown).collect();
            let target = sources.pop().unwrap_or_default();
            render::print_line(&json::started(&sources, &target));
        }
        let began = Instant::now();
        let shown = RenderOptions { style, verbose: a.verbose, dry_run: a.dry_run, here, hushed };
        let render = Render::start(shown, self.counters.clone());
        let disk_failed = Arc::new(OnceLock::new());
        let noted = disk_failed.clone();
        let options = JobOptions {
            give_up_after: a.give_up_after.unwrap_or(GIVE_UP_AFTER),
            limit_bytes_per_s: a.limit,
            pace: a.pace,
            may_move: a.link == LinkChoice::Auto && a.pace == Pace::Fair,
            lane_ended,
            sink: render.sink().and(move |event| {
                if let Event::FileFailed { reason, .. } = event
                    && let Some(hint) = report::disk_hint(reason)
                {
                    // The first one is told; the disk that is full once stays so.
                    let _ = noted.set(hint);
                }
            }),
            counters: self.counters.clone(),
        };
        let ended = tokio::select! {
            ended = start(options) => Some(ended),
            () = self.interrupt.wait() => None,
        };
        // What was drawn goes before anything else is written.
        drop(render);
        let report = match ended {
            Some(Err(TransferError::Cancelled)) | None => return Err(self.interrupted().await),
            Some(Err(error)) => return Err(contact::with_our_line(error.into(), &self.identity)),
            Some(Ok(report)) => report,
        };
        let receipt = self.keep_receipt(report.receipt.as_deref())?;
        let elapsed = began.elapsed();
        if a.verbose && matches!(style, Style::Bar | Style::Lines) {
            self.tell_link(here, &report, elapsed);
        }
        self.conclude(style, &report, elapsed, receipt);
        let by_disk = report.totals.failed_by_disk > 0;
        if report.totals.failed > 0 && (by_disk || disk_failed.get().is_some()) {
            let otherwise = "make room or mend the disk, then run the same command again";
            let hint = disk_failed.get().copied().unwrap_or(otherwise);
            render::tell(&format!("hint: {hint}"));
            return Ok(Code::Disk);
        }
        Ok(if report.totals.failed > 0 { Code::Partial } else { Code::Done })
    }

    async fn interrupted(&self) -> anyhow::Error {
        // The link's farewell leaves with the next turn of the runtime.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Failure::new(Code::Interrupted, "interrupted; what has arrived is kept")
            .hint("the same command goes on where this one stopped")
            .into()
    }

    /// Writes the receipt where it is kept and where the user wants it; gives the place to tell.
    fn keep_receipt(&self, receipt: Option<&[u8]>) -> Result<Option<String>> {
        let Some(bytes) = receipt else { return Ok(None) };
        let kept = self.file_receipt(bytes);
        if let Some(path) = &self.arguments.receipt {
            state::write_named(path, bytes).context("the copy is done, but not its receipt")?;
            return Ok(Some(files::escape_path(path).to_string()));
        }
        match kept {
            Ok(place) => Ok(Some(place)),
            Err(error) => {
                // The copy is done all the same, and the target machine can be asked again.
                render::tell(&format!("warning: the receipt could not be kept: {error:#}"));
                Ok(None)
            }
        }
    }

    fn file_receipt(&self, bytes: &[u8]) -> Result<String> {
        let statement = Receipt::verify(bytes).context("the receipt cannot be read")?.statement;
        let name = receipt_name(&statement.transfer, statement.ended);
        self.places.state(RECEIPTS)?.write_private(&own_name(&name), bytes)?;
        let path = self.places.state_path(RECEIPTS).join(name);
        Ok(files::escape_path(&path).to_string())
    }

    /// What the link did, and what held the copy back.
    fn tell_link(&self, here: Here, report: &JobReport, elapsed: Duration) {
        let link = self.counters.snapshot().link;
        render::tell(&link_words(&link, here, report.bytes_sent, elapsed));
        let times = self.counters.bound.times();
        let Some(shares) = bounds::shares(&times, here) else { return };
        render::tell(&format!("bound by: {shares}"));
        let longest = times.iter().find(|(kind, _)| *kind != BoundKind::Unknown);
        let last = longest.map(|(kind, _)| self.counters.bound.last(*kind));
        if let Some(advice) = last.and_then(|bound| bounds::advice(bound, here)) {
            render::tell(&advice);
        }
    }

    fn conclude(
        &self,
        style: Style,
        report: &JobReport,
        elapsed: Duration,
        receipt: Option<String>,
    ) {
        let t = &report.totals;
        match style {
            Style::Quiet => {}
            Style::Json => {
                let end = json::Finished {
                    files: t.copied,
                    bytes: t.bytes_copied,
                    bytes_sent: report.bytes_sent,
                    skipped: t.unchanged + t.skipped,
                    failed: t.failed,
                    elapsed,
                    receipt,
                };
                render::print_line(&json::finished(&end));
            }
            Style::Bar | Style::Lines => {
                render::tell(&summary(t, self.arguments.dry_run, elapsed, receipt.as_deref()));
            }
        }
    }

    fn scratch(&self) -> Result<Scratch> {
        let parent = self.places.state(SPOOL)?;
        Scratch::below(parent, &self.places.state_path(SPOOL), "pipe-")
    }

    /// Reads standard input to its end, so that a cut link loses nothing of it.
    async fn spool(&self, scratch: &Scratch) -> Result<()> {
        if std::io::stdin().is_terminal() && !self.arguments.quiet {
            render::tell("reading standard input; Ctrl-D ends it");
        }
        let dir = scratch.dir().clone();
        let reading = spawn_blocking(move || spool::fill(&dir, PIPED, std::io::stdin().lock()));
        tokio::select! {
            read = reading => read?.map(drop),
            () = self.interrupt.wait() => Err(TransferError::Cancelled.into()),
        }
    }

    /// Writes what has arrived, and was verified, to standard output.
    async fn pour(&self, scratch: Scratch) -> Result<()> {
        let dir = scratch.dir().clone();
        let writing =
            spawn_blocking(move || spool::empty(&dir, &own_name(PIPED), std::io::stdout().lock()));
        tokio::select! {
            written = writing => written?,
            () = self.interrupt.wait() => Err(TransferError::Cancelled.into()),
        }
    }
}

/// A host that was reached.
struct Reached {
    key: PublicKey,
    connect: Connect,
    lane_ended: Option<LaneEnded>,
    /// Warnings that come with each of its lanes.
    hushed: Vec<String>,
}

/// The sources, opened; two of the same name are refused before anything is sent.
fn sources(paths: &[std::path::PathBuf]) -> Result<Vec<SourceRoot>> {
    let sources = paths.iter().map(|path| local::source(path)).collect::<Result<Vec<_>>>()?;
    plan::check_names(sources.iter().map(|source| source.name.clone()))?;
    Ok(sources)
}

fn piped(scratch: &Scratch, name: Name) -> SourceRoot {
    SourceRoot {
        root: scratch.dir().clone(),
        path: state::path_of(PIPED),
        name: Some(name),
        max_rate_bytes_per_s: None,
    }
}

/// `2027-01-31T120000Z-0123abcd.json`.
fn receipt_name(transfer: &str, ended: u64) -> String {
    let moment = i64::try_from(ended).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    let date = moment.map_or_else(
        || format!("{ended}"),
        |moment| moment.strftime("%Y-%m-%dT%H%M%SZ").to_string(),
    );
    let id: String = transfer.chars().filter(char::is_ascii_hexdigit).take(8).collect();
    format!("{date}-{id}.json")
}

/// What the link did.
fn link_words(link: &LinkSnapshot, here: Here, sent: u64, elapsed: Duration) -> String {
    let mut text = format!(
        "link: {}, {}",
        if link.is_tcp { "TCP" } else { "QUIC" },
        units::count(link.connections, "connection"),
    );
    // How the other end sends is not known here.
    let sends = here != Here::Target;
    if sends && link.gives_way {
        text.push_str(", giving way to others");
    }
    text.push_str(&format!(
        "; {} sent at {}; loss {}, round trip {:.1} ms",
        units::bytes(sent),
        units::rate(sent as f64 / elapsed.as_secs_f64().max(0.001)),
        bounds::percent(link.loss()),
        link.rtt.as_secs_f64() * 1000.0,
    ));
    if sends && link.remembered_rate > 0 {
        let rate = units::rate(link.remembered_rate as f64);
        text.push_str(&format!("; begun with the {rate} of an earlier copy"));
    }
    text
}

/// The last line of a copy.
fn summary(t: &Totals, dry_run: bool, elapsed: Duration, receipt: Option<&str>) -> String {
    let mut parts = vec![if dry_run {
        {
            let entries = if t.planned == 1 { "entry" } else { "entries" };
            format!("would copy {} {entries}; nothing was changed", t.planned)
        }
    } else {
        let rate = t.bytes_copied as f64 / elapsed.as_secs_f64().max(0.001);
        format!(
            "copied {}, {} in {} ({})",
            units::count(t.copied, "file"),
            units::bytes(t.bytes_copied),
            units::duration(elapsed),
            units::rate(rate)
        )
    }];
    let further = [("unchanged", t.unchanged), ("skipped", t.skipped), ("failed", t.failed)];
    let further = further.iter().filter(|(_, number)| *number > 0);
    parts.extend(further.map(|(word, number)| format!("{number} {word}")));
    if let Some(receipt) = receipt {
        parts.push(format!("receipt {receipt}"));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests;
