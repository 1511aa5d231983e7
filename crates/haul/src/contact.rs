//! The first contact with a host: is its key known, does it know ours, and if not, what has to be done.
//! Later connections of the same job only repeat what was settled here.

use std::io::{BufRead, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use link::{
    DialOptions, HostRefused, Identity, KnownHosts, Lane, LinkChoice, LinkError, PublicKey, Target,
    TransportOptions,
};
use transfer::client::{Connect, Way};

use crate::address::bare;
use crate::interrupt::Interrupt;
use crate::keys;
use crate::report::{self, Code, Failure, Hinted};
use crate::state::{KNOWN_HOSTS, Places};
use crate::trust::KnownHostCheck;

/// How long the first contact is tried where the user gave no time.
pub const FIRST_CONTACT: Duration = Duration::from_secs(30);
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// How to make the first contact.
#[derive(Debug, Clone)]
pub struct ContactOptions {
    /// Take the key that an unknown host shows.
    pub accept_new: bool,
    /// Refuse an unknown host without asking, whether or not somebody sits there.
    pub asks_nobody: bool,
    /// How long a host that does not answer is tried.
    pub patience: Duration,
    /// How long one try may take, where that is less than usual.
    pub deadline: Option<Duration>,
    /// How the links are made.
    pub links: Links,
}

/// The links of a job.
#[derive(Debug, Clone, Default)]
pub struct Links {
    /// Which kinds of lane may be used.
    pub choice: LinkChoice,
    /// The transport's settings.
    pub transport: TransportOptions,
}

impl Links {
    /// How lanes are dialed.
    pub fn dial_options(&self) -> DialOptions {
        DialOptions { transport: self.transport.clone(), ..DialOptions::default() }
    }

    /// The kinds of lane that may be used when this one is asked for.
    pub fn choice_for(&self, way: Way) -> LinkChoice {
        match (self.choice, way) {
            (LinkChoice::Auto, Way::Only(kind)) => LinkChoice::Only(kind),
            (choice, _) => choice,
        }
    }
}

/// A host that has been reached.
pub struct Contact {
    target: Target,
    identity: Arc<Identity>,
    check: Arc<KnownHostCheck>,
    links: Links,
    lane: Lane,
}

impl Contact {
    /// The lane of the first contact.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// What its socket lacks; every further lane will lack the same.
    pub fn warnings(&self) -> Vec<String> {
        self.lane.warnings().iter().map(|warning| warning.text.clone()).collect()
    }

    /// What a job connects by: first the lane that is there already, then new ones.
    pub fn into_connect(self) -> Connect {
        let Self { target, identity, check, links, lane } = self;
        connect_by(target, identity, check, links, Some(lane))
    }
}

/// Takes leave on a lane that is needed no more, so that the host need not wait to find out.
pub async fn part(lane: &Lane) {
    lane.close(link::close_code::DONE, "done");
    lane.drained(FAREWELL).await;
}

/// Dials this target each time it is asked, but gives `first` away before.
pub fn connect_by(
    target: Target,
    identity: Arc<Identity>,
    check: Arc<dyn link::HostCheck>,
    links: Links,
    first: Option<Lane>,
) -> Connect {
    let first = Mutex::new(first);
    Arc::new(move |way| {
        let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (target, identity, check) = (target.clone(), identity.clone(), check.clone());
        let (options, choice) = (links.dial_options(), links.choice_for(way));
        Box::pin(async move {
            match ready {
                Some(lane) => Ok(lane),
                None => link::reach(&target, &identity, &*check, &options, choice).await,
            }
        })
    })
}

/// Connects to a host for the first time in this job. `say` is told what a waiting user should know.
pub async fn reach(
    target: &Target,
    identity: Arc<Identity>,
    places: &Places,
    options: &ContactOptions,
    interrupt: &Interrupt,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Contact> {
    let began = Instant::now();
    let mut warned = false;
    loop {
        let known = KnownHosts::parse(&places.read_list(KNOWN_HOSTS)?);
        let check = Arc::new(KnownHostCheck(known));
        let mut dial_options = options.links.dial_options();
        dial_options.deadline = options.deadline.unwrap_or(dial_options.deadline);
        let choice = options.links.choice;
        let dialling = link::reach(target, &identity, &*check, &dial_options, choice);
        let dialled = tokio::select! {
            dialled = dialling => dialled,
            () = interrupt.wait() => return Err(transfer::TransferError::Cancelled.into()),
        };
        let error = match dialled {
            Ok(lane) => {
                let (target, links) = (target.clone(), options.links.clone());
                return Ok(Contact { target, identity, check, links, lane });
            }
            Err(error) => error,
        };
        match &error {
            LinkError::HostKey { peer, refused: HostRefused::Unknown } => {
                let key = *peer.key().context("the host showed no key")?;
                introduce(target, &key, places, options, interrupt, say).await?;
            }
            LinkError::HostKey { peer, refused: HostRefused::Changed { expected } } => {
                return Err(changed(target, peer.key(), expected, places));
            }
            LinkError::NoAnswer { .. }
            | LinkError::NobodyServes { .. }
            | LinkError::Unreachable { .. }
            | LinkError::TimedOut { .. }
            | LinkError::Reset { .. }
            | LinkError::Busy { .. }
            | LinkError::Closed { .. }
            | LinkError::Transport { .. }
                if error.fault().is_transient() && began.elapsed() < options.patience =>
            {
                if !warned {
                    let left = options.patience.saturating_sub(began.elapsed());
                    say(&format!("{error}; trying for another {}", crate::units::duration(left)));
                    warned = true;
                }
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = interrupt.wait() => return Err(transfer::TransferError::Cancelled.into()),
                }
            }
            _ => {
                return Err(match report::unanswered_hint(&error, choice) {
                    Some(hint) => Hinted { error: error.into(), hint }.into(),
                    None => with_our_line(error.into(), &identity),
                });
            }
        }
    }
}

/// Where a host does not let us in: the same error, with what its operator has to do.
pub fn with_our_line(error: anyhow::Error, identity: &Identity) -> anyhow::Error {
    let refused = error.chain().find_map(|cause| match cause.downcast_ref::<LinkError>() {
        Some(LinkError::Refused { reason, .. }) => Some(reason),
        _ => None,
    });
    let Some(reason) = refused else { return error };
    let line = keys::own_line(&identity.public_key());
    let hint = match reason.contains("is not in authorized_keys") {
        true => format!("whoever runs that machine has to run there:\n  haul key allow '{line}'"),
        false => format!("ask whoever runs that machine; your key is\n  {line}"),
    };
    Hinted { error, hint }.into()
}

/// A host that shows itself for the first time: its key is taken down if the user wants it.
async fn introduce(
    target: &Target,
    key: &PublicKey,
    places: &Places,
    options: &ContactOptions,
    interrupt: &Interrupt,
    say: &(dyn Fn(&str) + Sync),
) -> Result<()> {
    let name = bare(target);
    let terminals = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let asked = terminals && !options.asks_nobody;
    if !options.accept_new {
        if !asked {
            let text = format!("the key of {name} is not known here: {}", key.fingerprint());
            let hint = format!(
                "compare it with what `haul key show --fingerprint` says there, then either run\n  \
                 haul key trust '{name}' '{}'\nor repeat the command with --accept-new",
                key.to_line("")
            );
            return Err(Failure::new(Code::Refused, text).hint(hint).into());
        }
        say(&format!(
            "{name} is not known here. Its key is {}\n\
             (`haul key show --fingerprint` shows it there.) Trust it from now on? [yes/no] ",
            key.fingerprint()
        ));
        let answer = tokio::select! {
            answer = tokio::task::spawn_blocking(read_answer) => answer??,
            () = interrupt.wait() => return Err(transfer::TransferError::Cancelled.into()),
        };
        if !answer {
            return Err(
                Failure::new(Code::Refused, format!("the key of {name} was not accepted")).into()
            );
        }
    }
    // Read again: the user may have taken a while.
    let mut known = KnownHosts::parse(&places.read_list(KNOWN_HOSTS)?);
    known.add(target, key, "");
    places.write_list(KNOWN_HOSTS, &known.to_text())?;
    say(&format!("{name} is now known by {}", key.fingerprint()));
    Ok(())
}

fn read_answer() -> std::io::Result<bool> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "yes" | "y"))
}

fn changed(
    target: &Target,
    shown: Option<&PublicKey>,
    expected: &[PublicKey],
    places: &Places,
) -> anyhow::Error {
    let name = bare(target);
    let list = |keys: &[PublicKey]| {
        keys.iter().map(PublicKey::fingerprint).collect::<Vec<_>>().join(" or ")
    };
    let text = format!(
        "the key of {name} has changed: it showed {}, but {} knows it by {}",
        shown.map_or_else(|| "none".to_owned(), PublicKey::fingerprint),
        places.shown(KNOWN_HOSTS),
        list(expected)
    );
    let hint = format!(
        "somebody may be in between, so nothing was sent; if the operator confirms the new key, run\n  \
         haul key revoke --host '{name}'\nand connect again"
    );
    Failure::new(Code::Refused, text).hint(hint).into()
}
