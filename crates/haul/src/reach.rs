//! The first contact of a command with another machine: its daemon, a login over ssh, or whichever is there.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use link::{
    Identity, KnownHosts, LaneKind, LinkChoice, LinkError, Pace, PublicKey, Target,
    TransportOptions,
};
use tokio::time::timeout;
use transfer::client::{Connect, LaneEnded};

use crate::address::{Host, Login};
use crate::contact::{self, ContactOptions, FIRST_CONTACT, Links};
use crate::interrupt::Interrupt;
use crate::over_ssh::near::{self, Say, SshContact, SshOptions};
use crate::over_ssh::ssh::Ssh;
use crate::paths::PathStore;
use crate::render;
use crate::report::{self, Code, Failure, Hinted};
use crate::state::{KNOWN_HOSTS, Places};

/// How long a daemon that nobody has promised may take to answer before ssh is tried.
const UNPROMISED: Duration = Duration::from_secs(3);
/// How much later than ssh we may hear of a signal that was for both.
const TOLD_WITHIN: Duration = Duration::from_millis(100);

/// How a command wants its links, and what the user said about the ways to a host.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// Which kinds of lane.
    pub link: LinkChoice,
    /// How hard to push.
    pub pace: Pace,
    /// Take the key that an unknown daemon shows.
    pub accept_new: bool,
    /// How long a daemon that does not answer is tried.
    pub patience: Option<Duration>,
    /// The user's ssh.
    pub ssh: Option<String>,
    /// Where haul is at a login.
    pub far_haul: Option<String>,
    /// The ports that the other end of ssh may listen on.
    pub far_ports: Option<(u16, u16)>,
    /// What a command was given that writes at the other end: in one folder, the same words are the same job,
    /// of which only one run can be at it. Empty for others.
    pub words: Vec<OsString>,
    /// Nothing is said but questions.
    pub quiet: bool,
    /// Not even those: what would be asked is an error.
    pub asks_nobody: bool,
}

/// Reaches hosts for a command.
pub struct Reacher<'a> {
    /// Who we are.
    pub identity: Arc<Identity>,
    /// Where what is known of hosts is kept.
    pub places: &'a Places,
    /// Ends every wait.
    pub interrupt: &'a Interrupt,
    /// What the user wants.
    pub wishes: Wishes,
}

/// A host that was reached.
pub struct Reached {
    /// What a job connects by; its first lane is there already.
    pub connect: Connect,
    /// Who it is.
    pub peer: PublicKey,
    /// What else belongs to the job.
    pub around: Around,
}

/// What a job has beside its lanes.
#[derive(Default)]
pub struct Around {
    /// Told of each lane when it is no longer used.
    pub lane_ended: Option<LaneEnded>,
    /// Warnings that come with each of its lanes.
    pub hushed: Vec<String>,
    /// The login that it goes to, which is told when the job is over.
    pub login: Option<Arc<SshContact>>,
}

impl Reacher<'_> {
    /// The first contact, before anything is read from the disk.
    pub async fn reach(&self, host: &Host) -> Result<Reached> {
        let through_ssh = self.wishes.link == LinkChoice::Only(LaneKind::Pipe);
        match (&host.daemon, &host.login) {
            (Some(daemon), Some(login)) if !through_ssh => {
                // A daemon that was spoken with before is the one that is meant.
                let known = KnownHosts::parse(&self.places.read_list(KNOWN_HOSTS)?);
                if known.knows(daemon) {
                    return self.reach_daemon(daemon, None).await;
                }
                let error = match self.reach_daemon(daemon, Some(UNPROMISED)).await {
                    Err(error) if is_nobody(&error) => error,
                    reached => return reached,
                };
                self.reach_login(login).await.map_err(|over_ssh| neither(login, error, over_ssh))
            }
            (_, Some(login)) => self.reach_login(login).await,
            (Some(daemon), None) if through_ssh => {
                let text = format!("{} is a daemon's address, which ssh does not lead to", daemon);
                Err(Failure::new(Code::Usage, text)
                    .hint("write HOST:PATH or USER@HOST:PATH")
                    .into())
            }
            (Some(daemon), None) => self.reach_daemon(daemon, None).await,
            (None, None) => Err(Failure::new(Code::Usage, "no host was named").into()),
        }
    }

    /// `deadline` is for a daemon that may not be there.
    async fn reach_daemon(&self, host: &Target, deadline: Option<Duration>) -> Result<Reached> {
        let memory = PathStore::open(self.places, host);
        let links = self.links(Some(&memory));
        let patience = match deadline {
            Some(_) => Duration::ZERO,
            None => self.wishes.patience.unwrap_or(FIRST_CONTACT),
        };
        let accept_new = self.wishes.accept_new;
        let asks_nobody = self.wishes.asks_nobody;
        let options = ContactOptions { accept_new, asks_nobody, patience, deadline, links };
        let say = self.say();
        let (identity, places) = (self.identity.clone(), self.places);
        let contact =
            contact::reach(host, identity, places, &options, self.interrupt, &*say).await?;
        let (hushed, lane_ended) = (contact.warnings(), Some(memory.watch()));
        let peer = *contact.lane().peer();
        let around = Around { hushed, lane_ended, login: None };
        Ok(Reached { connect: contact.into_connect(), peer, around })
    }

    async fn reach_login(&self, login: &Login) -> Result<Reached> {
        let w = &self.wishes;
        let named = w.ssh.clone().or_else(|| std::env::var("HAUL_SSH").ok());
        let ssh = Ssh::new(named.as_deref(), w.far_haul.as_deref());
        let options = SshOptions {
            ssh: match w.asks_nobody {
                true => ssh.asking_nobody(),
                false => ssh,
            },
            ports: w.far_ports,
            command: self.command(),
            links: self.links(None),
        };
        let reaching = near::reach(login, self.identity.clone(), options, self.say());
        let contact = tokio::select! {
            contact = reaching => match contact {
                // Where both were told to end, that is what it ended of.
                Err(_) if timeout(TOLD_WITHIN, self.interrupt.wait()).await.is_ok() => {
                    return Err(transfer::TransferError::Cancelled.into());
                }
                contact => contact?,
            },
            () = self.interrupt.wait() => return Err(transfer::TransferError::Cancelled.into()),
        };
        let hushed = contact.warnings().await;
        let around = Around { hushed, lane_ended: None, login: Some(contact.clone()) };
        let peer = contact.peer().await?;
        Ok(Reached { connect: contact.connect(), peer, around })
    }

    /// The kinds of lane that suit the wishes.
    pub fn choice(&self) -> LinkChoice {
        // TCP goes at the pace of the kernel, which gives way to few.
        match (self.wishes.link, self.wishes.pace) {
            (LinkChoice::Auto, Pace::Background | Pace::Fixed(_)) => LinkChoice::PreferQuic,
            (choice, _) => choice,
        }
    }

    fn links(&self, memory: Option<&PathStore>) -> Links {
        let pace = self.wishes.pace;
        let choice = self.choice();
        let known_path = memory.and_then(PathStore::load);
        let transport = TransportOptions { pace, known_path, ..TransportOptions::default() };
        Links { choice, transport }
    }

    fn say(&self) -> Say {
        let quiet = self.wishes.quiet;
        Arc::new(move |text| {
            // A question is asked however quiet the user wants it.
            if !quiet || text.ends_with(' ') {
                render::tell(text);
            }
        })
    }

    /// The same for every run of this command in this folder; zeros where runs are not in each other's way.
    fn command(&self) -> [u8; 16] {
        if self.wishes.words.is_empty() {
            return [0; 16];
        }
        let folder = std::env::current_dir().unwrap_or_default();
        let mut whole = folder.as_os_str().as_bytes().to_vec();
        for word in &self.wishes.words {
            whole.push(0);
            whole.extend_from_slice(word.as_bytes());
        }
        let digest = files::Digest::of(&whole);
        *digest.as_bytes().first_chunk().expect("a digest has 32 bytes")
    }
}

/// Whether the error says that no daemon is there to be talked with.
fn is_nobody(error: &anyhow::Error) -> bool {
    matches!(
        of_link(error),
        Some(
            LinkError::NoAnswer { .. }
                | LinkError::NobodyServes { .. }
                | LinkError::Unreachable { .. }
                | LinkError::Resolve { .. }
                | LinkError::NoAddress { .. }
        )
    )
}

fn of_link(error: &anyhow::Error) -> Option<&LinkError> {
    error.chain().find_map(|cause| match cause.downcast_ref::<Hinted>() {
        Some(hinted) => hinted.error.downcast_ref::<LinkError>(),
        None => cause.downcast_ref::<LinkError>(),
    })
}

/// Neither a daemon nor a login was reached: what ssh says is the error, unless there is no ssh there either.
fn neither(login: &Login, daemon: anyhow::Error, over_ssh: anyhow::Error) -> anyhow::Error {
    let (of_daemon, of_ssh) = (report::explain(&daemon), report::explain(&over_ssh));
    if matches!(over_ssh.downcast_ref(), Some(transfer::TransferError::Cancelled)) {
        return over_ssh;
    }
    // A name that only ssh's configuration knows is no host's.
    let is_name =
        matches!(of_link(&daemon), Some(LinkError::Resolve { .. } | LinkError::NoAddress { .. }));
    let text = match is_name {
        true => of_ssh.line(),
        false => format!("{}, and over ssh: {}", of_daemon.line(), of_ssh.line()),
    };
    let hint = match (of_ssh.code, of_ssh.hint) {
        (Code::Link, _) => format!(
            "is `haul serve` running there, or can you log in with `ssh {}`?",
            login.destination()
        ),
        (_, Some(hint)) => hint,
        (_, None) => return Failure::new(of_ssh.code, text).into(),
    };
    Failure::new(of_ssh.code, text).hint(hint).into()
}
