//! `haul doctor`: what a copy to or from a machine would be bound by, measured.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use link::{Lane, LaneKind, LinkChoice, LinkError, close_code};
use transfer::client::{self, Connect, Way};
use transfer::measure::measure;

use crate::args::DoctorArguments;
use crate::contact::{self, ContactOptions, Links};
use crate::interrupt::Interrupt;
use crate::remotes::Remotes;
use crate::render;
use crate::report::{self, Code};
use crate::state::Places;

mod disk;
mod facts;
mod findings;
mod speed;

use facts::{Direction, Facts, LaneFacts};

/// How long a host that does not answer is tried.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// The kinds of lanes, which are tried one after the other.
const KINDS: [LaneKind; 2] = [LaneKind::Quic, LaneKind::Tcp];

/// Carries the command out.
pub fn run(arguments: DoctorArguments) -> Result<Code> {
    let places = Places::from_environment()?;
    let word = Remotes::read(&places)?.spelled_place(&arguments.place);
    let (host, path) = super::ls::place(&word)?;
    let host = host.daemon.ok_or_else(|| {
        report::Failure::new(
            Code::Usage,
            "only the way to a daemon is measured, not that to a login",
        )
        .hint("name the HOST of a `haul serve`")
    })?;
    let identity = Arc::new(places.identity()?);
    let interrupt = Interrupt::listen()?;
    let (json, ours) = (arguments.json, identity.clone());
    super::block_on(async {
        let mut told = Told { json, count: 0 };
        let mut facts = Facts { host: host.to_string(), ..Facts::default() };
        facts.addresses = look_up(&host).await;
        told.tell(&facts);
        let choice = arguments.link;
        let links = Links { choice, ..Links::default() };
        let options = ContactOptions {
            accept_new: arguments.accept_new,
            patience: PATIENCE,
            deadline: None,
            asks_nobody: false,
            links,
        };
        let reaching =
            contact::reach(&host, identity, &places, &options, &interrupt, &render::tell);
        let contact = reaching.await?;
        let welcomed = contact.lane().welcomed().await;
        welcomed.map_err(|error| contact::with_our_line(error.into(), &ours))?;
        facts.key = Some(contact.lane().peer().fingerprint());
        facts.warnings = contact.warnings();
        let examining = async {
            let connect = contact.into_connect();
            let lane = connect(Way::Any).await?;
            facts.access = Some(access(&lane, &path).await);
            part(&lane).await;
            told.tell(&facts);
            // Where the user wants one kind alone, the other is not touched.
            let wanted = |kind: &LaneKind| match choice {
                LinkChoice::Only(only) => *kind == only,
                LinkChoice::Auto | LinkChoice::PreferQuic => true,
            };
            for kind in KINDS.into_iter().filter(wanted) {
                facts.lanes.push(try_kind(kind, &connect).await);
            }
            told.tell(&facts);
            for up in [true, false] {
                let seen = direction(&connect, up, arguments.seconds).await;
                if let Ok(seen) = &seen {
                    facts.clock_offset = Some(clock_offset(seen.there.clock));
                }
                *(if up { &mut facts.up } else { &mut facts.down }) = Some(seen);
                told.tell(&facts);
            }
            facts.speeds = Some(tokio::task::spawn_blocking(speed::measure).await?);
            if let Some(path) = arguments.disk.clone() {
                facts.disk = Some(disk::measure(path).await);
            }
            facts.is_complete = true;
            told.tell(&facts);
            anyhow::Ok(())
        };
        tokio::select! {
            examined = examining => examined?,
            () = interrupt.wait() => return Err(transfer::TransferError::Cancelled.into()),
        }
        if json {
            render::print_line(&findings::json(&facts));
        }
        Ok(if facts.lacks_something() { Code::Partial } else { Code::Done })
    })
}

/// Tells in words what is new since the last time.
struct Told {
    json: bool,
    count: usize,
}

impl Told {
    fn tell(&mut self, facts: &Facts) {
        let findings = findings::of(facts);
        if !self.json {
            for finding in findings.iter().skip(self.count) {
                render::print_line(&finding.words());
            }
        }
        self.count = findings.len();
    }
}

async fn look_up(host: &link::Target) -> Vec<String> {
    // A name that is not found is an error of the contact that follows.
    match tokio::net::lookup_host((host.host.as_str(), host.port)).await {
        Ok(found) => {
            let mut addresses: Vec<String> =
                found.map(|address| address.ip().to_canonical().to_string()).collect();
            addresses.dedup();
            addresses
        }
        Err(_) => Vec::new(),
    }
}

/// Dials a lane of this kind and no other.
async fn dial(kind: LaneKind, connect: &Connect) -> Result<Lane, LinkError> {
    let lane = connect(Way::Only(kind)).await?;
    lane.welcomed().await?;
    Ok(lane)
}

async fn try_kind(kind: LaneKind, connect: &Connect) -> LaneFacts {
    let began = Instant::now();
    match dial(kind, connect).await {
        Ok(lane) => {
            let handshake = began.elapsed();
            let stats = lane.stats();
            let address = lane.remote_address().to_string();
            part(&lane).await;
            LaneFacts {
                kind,
                reached: Ok(facts::Reached { address, handshake, rtt: stats.min_rtt }),
            }
        }
        Err(error) => LaneFacts { kind, reached: Err(words(&error.into())) },
    }
}

/// What this key may see there, in words.
async fn access(lane: &Lane, path: &[u8]) -> Result<String, String> {
    let shown = files::escape(path);
    match client::list(lane, path).await {
        Ok(_) if !path.is_empty() => Ok(format!("this key may read {shown}")),
        Ok(exports) => {
            let count = crate::units::count(exports.len() as u64, "export");
            Ok(format!(
                "{count} {} open to this key",
                if exports.len() == 1 { "is" } else { "are" }
            ))
        }
        Err(error) => Err(words(&error.into())),
    }
}

async fn direction(connect: &Connect, up: bool, seconds: u64) -> Result<Direction, String> {
    let lane = connect(Way::Any).await.map_err(|error| words(&error.into()))?;
    let measured = measure(&lane, up, seconds).await;
    let stats = lane.stats();
    part(&lane).await;
    let measured = measured.map_err(|error| words(&error.into()))?;
    Ok(Direction {
        up,
        here: measured.here,
        there: measured.there,
        kind: stats.kind,
        mtu: stats.mtu,
        connections: stats.connections,
    })
}

/// By how many seconds the clock there is ahead of ours.
fn clock_offset(there: u64) -> i64 {
    let here = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(there).unwrap_or(i64::MAX).saturating_sub_unsigned(here)
}

async fn part(lane: &Lane) {
    lane.close(close_code::DONE, "done");
    lane.drained(FAREWELL).await;
}

fn words(error: &anyhow::Error) -> String {
    report::explain(error).line()
}
