//! `haul try`: the whole program in one process, over a link that misbehaves, as a demonstration and as
//! a check of this machine. Everything it makes lies in one temporary folder.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use badlink::{Profile, Relay, RelayOptions, RelayStats};
use events::Counters;
use files::{Dir, RelPath};
use link::{Identity, LaneKind, LinkChoice, Target};
use transfer::client::{self, JobOptions, JobReport};
use transfer::message::Order;
use transfer::receipt::Receipt;
use tree::{CompareOptions, Comparison, Filter, Rule, Step, Walk, WalkOptions, WalkRoot, compare};

use crate::args::TryArguments;
use crate::contact::{self, Links};
use crate::daemon::{Daemon, DaemonOptions};
use crate::exports::{Export, Exports, Mode};
use crate::interrupt::Interrupt;
use crate::local;
use crate::render::{self, Render, RenderOptions, Style, table};
use crate::report::{Code, Failure};
use crate::spool::Scratch;
use crate::state::own_name;
use crate::trust::{OneKey, Pinned};
use crate::units;

/// More than this is copied only with --force.
const MOST_BYTES: u64 = 2_000_000_000;
/// One way.
const DELAY: Duration = Duration::from_millis(20);
const LOSS: f64 = 0.02;
const CUT: Duration = Duration::from_secs(2);
/// A copy that is not half done by then is cut all the same.
const CUT_AFTER: Duration = Duration::from_secs(1);
/// How often the trial looks whether half has passed.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Without a folder named, these are left out: they are made by tools and can be many gigabytes.
const LEFT_OUT: [&str; 2] = ["target", "node_modules"];
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// The folder that is copied to.
const ARRIVED: &str = "arrived";

/// Carries the command out.
pub fn run(arguments: &TryArguments) -> Result<Code> {
    let interrupt = Interrupt::listen()?;
    let scratch = Scratch::in_temporary("haul-try-")?;
    let dir = arguments.dir.clone().unwrap_or_else(|| PathBuf::from("."));
    let mut rules: Vec<Rule> = match arguments.dir {
        Some(_) => Vec::new(),
        None => LEFT_OUT.iter().map(|name| Rule::exclude(format!("{name}/"))).collect(),
    };
    // Where the temporary folder lies in the folder that is copied, it would copy itself for ever.
    rules.push(Rule::exclude(scratch.name().as_bytes()));
    let trial = Trial { arguments, dir, rules, scratch, interrupt };
    let result = super::block_on(trial.carry_out());
    trial.scratch.remove()?;
    result
}

struct Trial<'a> {
    arguments: &'a TryArguments,
    dir: PathBuf,
    rules: Vec<Rule>,
    scratch: Scratch,
    interrupt: Interrupt,
}

/// What was copied, and how.
struct Copied {
    report: JobReport,
    elapsed: Duration,
    link: RelayStats,
    was_cut: bool,
}

impl Trial<'_> {
    async fn carry_out(&self) -> Result<Code> {
        let source = Dir::open_ambient(&self.dir)?;
        let shown = shown_path(&self.dir);
        let bytes = self.check_size(&source, &shown).await?;
        let left_out = match self.arguments.dir {
            None => format!(" (without folders called {})", LEFT_OUT.join(" or ")),
            Some(_) => String::new(),
        };
        render::tell(&format!(
            "copying {shown}{left_out} over a link inside this machine that takes {} ms each way, loses \
             {:.0} % of the packets, and is cut for {} s on the way",
            DELAY.as_millis(),
            LOSS * 100.0,
            CUT.as_secs()
        ));
        let landed = self.scratch.folder(ARRIVED)?;
        let copied = tokio::select! {
            copied = self.copy(bytes) => copied?,
            () = self.interrupt.wait() => return Err(interrupted()),
        };
        self.tell_link(&copied);
        let compared = self.compare(source, landed.clone()).await?;
        let is_same = tell_comparison(&compared);
        let is_proven =
            tell_receipt(copied.report.receipt.as_deref(), copied.report.totals.failed)?;
        Ok(if is_same && is_proven { Code::Done } else { Code::Partial })
    }

    /// Counts before anything is copied; half of it is what the cut waits for.
    async fn check_size(&self, source: &Dir, shown: &str) -> Result<u64> {
        let (source, options) = (source.clone(), self.walk_options()?);
        let counting = tokio::task::spawn_blocking(move || size_of(source, options));
        let bytes = tokio::select! {
            bytes = counting => bytes??,
            () = self.interrupt.wait() => return Err(interrupted()),
        };
        if bytes > MOST_BYTES && !self.arguments.force {
            let text =
                format!("{shown} has {}, more than a trial should copy", units::bytes(bytes));
            return Err(Failure::new(Code::Usage, text)
                .hint(format!(
                    "name a smaller folder, or use --force if {} has room for it",
                    files::escape_path(&std::env::temp_dir())
                ))
                .into());
        }
        Ok(bytes)
    }

    fn walk_options(&self) -> Result<WalkOptions> {
        Ok(WalkOptions { filter: Filter::new(self.rules.clone())?, ..WalkOptions::default() })
    }

    /// A daemon, a bad link and a copy, all with keys that nobody else has.
    async fn copy(&self, bytes: u64) -> Result<Copied> {
        let (host, guest) = (Arc::new(Identity::generate()?), Arc::new(Identity::generate()?));
        let path = self.scratch.path().join(ARRIVED);
        let export = Export::open(own_name(ARRIVED), &path, Mode::Rw)?;
        let options = DaemonOptions {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            identity: host.clone(),
            host: Arc::new(Exports::new(vec![export], host.clone())),
            sink: events::Sink::default(),
            carrier: None,
            reception: None,
        };
        let daemon = Daemon::bind(options, Arc::new(OneKey(guest.public_key())))?;
        let hushed = daemon.warnings().iter().map(|warning| warning.text.clone()).collect();
        let profile = Profile { delay: nanos(DELAY), loss: LOSS, ..Profile::default() };
        let relay = Relay::start(RelayOptions {
            to_target: profile.clone(),
            to_client: profile,
            seed: self.arguments.seed,
            ..RelayOptions::new(daemon.local_addr())
        })?;
        let address = relay.local_addr();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(daemon.run(async {
            // Stopped by a word or by the end of whoever could have said it.
            let _ = stopped.await;
        }));
        let target = Target::new(&address.ip().to_string(), address.port())?;
        let check = Arc::new(Pinned(host.public_key()));
        // The relay carries datagrams.
        let links = Links { choice: LinkChoice::Only(LaneKind::Quic), ..Links::default() };
        let connect = contact::connect_by(target, guest, check, links, None);

        let counters = Counters::new();
        let shown = RenderOptions {
            style: Style::choose(false, false),
            verbose: self.arguments.verbose,
            dry_run: false,
            verifying: false,
            here: crate::bounds::Here::Both,
            hushed,
        };
        let drawing = Render::start(shown, counters.clone());
        let job = JobOptions {
            give_up_after: GIVE_UP_AFTER,
            limit_bytes_per_s: None,
            pace: link::Pace::Fair,
            may_move: false,
            lane_ended: None,
            sink: drawing.sink(),
            counters: counters.clone(),
        };
        let order = Order { contents: true, rules: self.rules.clone(), ..Order::default() };
        let source = local::source(&self.dir.join("."))?;
        let began = Instant::now();
        let putting = client::put(connect, vec![source], order, job);
        let (report, was_cut) = cut_halfway(putting, &relay, bytes, &drawing).await;
        let elapsed = began.elapsed();
        drop(drawing);
        let link = relay.stats();
        drop(stop);
        let _ = serving.await;
        relay.close().await;
        Ok(Copied { report: report.context("the trial copy failed")?, elapsed, link, was_cut })
    }

    fn tell_link(&self, copied: &Copied) {
        let t = &copied.report.totals;
        render::tell(&format!(
            "copied {}, {} in {} ({})",
            units::count(t.copied, "file"),
            units::bytes(t.bytes_copied),
            units::duration(copied.elapsed),
            units::rate(t.bytes_copied as f64 / copied.elapsed.as_secs_f64().max(0.001))
        ));
        let (there, back) = (&copied.link.to_target, &copied.link.to_client);
        render::tell(&format!(
            "the link had {} packets; {} were lost by chance and {} by the cut{}",
            there.packets + back.packets,
            there.lost + back.lost,
            there.blocked + back.blocked,
            if copied.was_cut { "" } else { " (the copy was done before there was one)" }
        ));
    }

    async fn compare(&self, source: Dir, landed: Dir) -> Result<Comparison> {
        let options = CompareOptions { walk: self.walk_options()?, ..CompareOptions::default() };
        let comparing = tokio::task::spawn_blocking(move || compare(&source, &landed, &options));
        tokio::select! {
            compared = comparing => Ok(compared??),
            () = self.interrupt.wait() => Err(interrupted()),
        }
    }
}

/// Waits for the copy, and cuts the link once: when half of the bytes have passed, or after a second.
async fn cut_halfway(
    putting: impl Future<Output = Result<JobReport, transfer::TransferError>>,
    relay: &Relay,
    bytes: u64,
    drawing: &Render,
) -> (Result<JobReport, transfer::TransferError>, bool) {
    let mut putting = std::pin::pin!(putting);
    let began = Instant::now();
    let mut was_cut = false;
    loop {
        tokio::select! {
            ended = &mut putting => return (ended, was_cut),
            () = tokio::time::sleep(LOOK_EVERY), if !was_cut => {
                // Headers count too, so that the cut of a small tree still comes before its end.
                let half = relay.stats().to_target.delivered_bytes > bytes / 2;
                if half || began.elapsed() >= CUT_AFTER {
                    was_cut = true;
                    relay.blackout(CUT);
                    drawing.say(format!("the link is cut for {} s", CUT.as_secs()));
                }
            }
        }
    }
}

fn size_of(source: Dir, options: WalkOptions) -> Result<u64> {
    let walk = Walk::new(source, WalkRoot::Inside(RelPath::root()), options)?;
    Ok(walk.fold(0, |sum: u64, step| match step {
        Step::Leaf(entry) if entry.attributes.kind == files::Kind::File => {
            sum.saturating_add(entry.attributes.size)
        }
        _ => sum,
    }))
}

fn tell_comparison(found: &Comparison) -> bool {
    for difference in &found.differences {
        render::tell(&format!("haul: {difference}"));
    }
    if found.is_same() {
        render::tell(&format!(
            "compared byte by byte: {} entries, {}, all the same",
            found.entries,
            units::bytes(found.bytes)
        ));
    } else {
        let more = if found.cut_short { "at least " } else { "" };
        render::tell(&format!(
            "compared byte by byte: {more}{} (was the folder changed meanwhile?)",
            units::count(found.differences.len() as u64, "difference")
        ));
    }
    found.is_same()
}

fn tell_receipt(receipt: Option<&[u8]>, failed: u64) -> Result<bool> {
    let bytes = receipt.context("there was no receipt")?;
    let receipt = Receipt::verify(bytes).context("the receipt proves nothing")?;
    render::print_line(table::receipt(&receipt.statement).trim_end());
    if failed > 0 {
        render::tell(&format!("{} could not be copied", units::count(failed, "thing")));
        return Ok(false);
    }
    render::tell("the receipt's signature is good; everything was removed again");
    Ok(true)
}

fn interrupted() -> anyhow::Error {
    Failure::new(Code::Interrupted, "interrupted; nothing is left behind").into()
}

fn shown_path(dir: &Path) -> String {
    let full = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    files::escape_path(&full).to_string()
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}
