//! The end that starts ssh: one pipe for the whole job, and what lanes can be had by it. A pipe that died is
//! replaced when it is needed; a job whose lanes go by another way does not need it.

use std::process::Stdio;
use std::sync::{self, Arc, PoisonError};
use std::time::Duration;

use anyhow::Result;
use link::pipe::{self, Job, PipeError, Served, Tunnel, TunnelOptions};
use link::{
    DialOptions, HostCheck, HostRefused, Identity, Lane, LaneKind, LinkChoice, LinkError, PeerName,
    PublicKey, Target,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use transfer::client::{Connect, Way};

use super::ssh::{self, Ssh};
use crate::address::Login;
use crate::contact::Links;
use crate::report::{self, Code, Failure};

/// How long a direct lane is tried while there is the pipe: at least, and in round trips through it.
const DIRECT: Duration = Duration::from_millis(1500);
const DIRECT_TRIPS: u32 = 6;
/// How long the first round trip through the pipe is waited for, which says how far away the other end is.
const FIRST_TRIP: Duration = Duration::from_secs(5);
/// How long a pipe that replaces a dead one may take. The first may take as long as the user types.
const AGAIN: Duration = Duration::from_secs(60);
/// How long ssh may take to end once its output has.
const ENDING: Duration = Duration::from_secs(3);
/// How long ssh may take to say what its configuration is.
const ASKING: Duration = Duration::from_secs(5);
/// Lines of ssh's standard error that are kept for an explanation.
const KEPT_LINES: usize = 20;
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// Told what a waiting user should know.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// What a login is reached with.
#[derive(Clone)]
pub struct SshOptions {
    /// The user's ssh.
    pub ssh: Ssh,
    /// The ports that the other end may listen on, if not all.
    pub ports: Option<(u16, u16)>,
    /// The same for every run of the same command; zeros where runs are not in each other's way.
    pub command: [u8; 16],
    /// How lanes are made.
    pub links: Links,
}

/// A login that has been reached.
pub struct SshContact {
    login: Login,
    identity: Arc<Identity>,
    options: SshOptions,
    /// Another for every run.
    run: [u8; 16],
    say: Say,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pipe: Option<Pipe>,
    /// Whether direct lanes get through; none as long as nothing is known.
    direct: Option<bool>,
    /// The lane of the first contact.
    first: Option<Lane>,
}

/// One run of ssh, with haul at its other end.
struct Pipe {
    tunnel: Tunnel,
    served: Served,
    /// What may be dialed, the likeliest first.
    targets: Vec<Target>,
    /// Killed when this goes.
    child: Child,
    _errors: JoinHandle<()>,
}

/// Accepts the one-time key of a pipe's other end.
struct OneTime {
    shown: PublicKey,
    identity: PublicKey,
}

impl HostCheck for OneTime {
    fn check(&self, _host: &str, _port: u16, key: &PublicKey) -> Result<(), HostRefused> {
        match *key == self.shown {
            true => Ok(()),
            false => Err(HostRefused::Other { reason: "another machine answers there".to_owned() }),
        }
    }

    fn stands_for(&self, _key: &PublicKey) -> PublicKey {
        self.identity
    }
}

/// Starts ssh and makes a first lane.
pub async fn reach(
    login: &Login,
    identity: Arc<Identity>,
    options: SshOptions,
    say: Say,
) -> Result<Arc<SshContact>> {
    let (login, state) = (login.clone(), Mutex::default());
    let random = Identity::generate()?.public_key();
    let run = *random.as_bytes().first_chunk().expect("a key has 32 bytes");
    let contact = SshContact { login, identity, options, run, say, state };
    let mut state = contact.state.lock().await;
    state.pipe = Some(contact.start(false).await?);
    let lane = contact.lane(&mut state, Way::Any).await;
    let made = lane.map(|lane| state.first = Some(lane));
    drop(state);
    if let Err(error) = made {
        contact.part().await;
        return Err(error.into());
    }
    Ok(Arc::new(contact))
}

impl SshContact {
    /// What a job connects by.
    pub fn connect(self: &Arc<Self>) -> Connect {
        let contact = self.clone();
        Arc::new(move |way| {
            let contact = contact.clone();
            Box::pin(async move { contact.connect_by(way).await })
        })
    }

    /// Who the other end is.
    pub async fn peer(&self) -> Result<PublicKey> {
        let state = self.state.lock().await;
        let peer = state.pipe.as_ref().map(|pipe| pipe.served.keys.peer);
        peer.ok_or_else(|| {
            Failure::new(Code::Link, format!("ssh to {} has ended", self.login)).into()
        })
    }

    /// What the socket of its first lane lacks; every further one will lack the same.
    pub async fn warnings(&self) -> Vec<String> {
        let state = self.state.lock().await;
        let warnings = state.first.iter().flat_map(|lane| lane.warnings());
        warnings.map(|warning| warning.text.clone()).collect()
    }

    /// Tells the other end that nobody will come back.
    pub async fn part(&self) {
        let Some(mut pipe) = self.state.lock().await.pipe.take() else { return };
        let leaving = async {
            pipe.tunnel.bye().await;
            // It ends with its pipe.
            let _ = pipe.child.wait().await;
        };
        let _ = timeout(FAREWELL, leaving).await;
    }

    async fn connect_by(&self, way: Way) -> Result<Lane, LinkError> {
        let mut state = self.state.lock().await;
        if let Some(lane) = state.first.take() {
            return Ok(lane);
        }
        let lost = |error: anyhow::Error| {
            let report = report::explain(&error);
            let (peer, line) = (self.name(), report.line());
            match report.code {
                Code::Refused => LinkError::Refused { peer, reason: line },
                Code::Usage => LinkError::Incompatible { peer, detail: line },
                _ => LinkError::Transport { peer, detail: line },
            }
        };
        // Whoever serves behind a dead pipe may still be reached directly.
        let is_open = state.pipe.as_ref().is_some_and(|pipe| pipe.tunnel.is_open());
        if !is_open && (state.direct != Some(true) || state.pipe.is_none()) {
            self.replace(&mut state).await.map_err(lost)?;
        }
        match self.lane(&mut state, way).await {
            Err(_) if way == Way::Any && !is_open => {}
            made => return made,
        }
        self.replace(&mut state).await.map_err(lost)?;
        self.lane(&mut state, way).await
    }

    /// Starts ssh again.
    async fn replace(&self, state: &mut State) -> Result<()> {
        state.pipe = None;
        // What did not get through may do so now.
        state.direct = None;
        let started = timeout(AGAIN, self.start(true)).await;
        let late = |_| Failure::new(Code::Link, format!("ssh to {} takes too long", self.login));
        state.pipe = Some(started.map_err(late)??);
        Ok(())
    }

    fn name(&self) -> PeerName {
        PeerName::new(self.login.destination())
    }

    /// Starts ssh, for the first time or again, and meets haul at its other end.
    async fn start(&self, again: bool) -> Result<Pipe> {
        let SshOptions { ssh, ports, command: of_command, .. } = &self.options;
        let job = Job { command: *of_command, run: self.run, again };
        let (program, words) = ssh.starting(&self.login);
        let mut command = Command::new(program);
        command.args(words).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            Failure::new(Code::Usage, format!("cannot run a shell to start ssh: {error}"))
        })?;
        let missing = || anyhow::anyhow!("a pipe of ssh is missing");
        let (mut write, read) =
            (child.stdin.take().ok_or_else(missing)?, child.stdout.take().ok_or_else(missing)?);
        let mut read = BufReader::with_capacity(256 * 1024, read);
        let said: Arc<sync::Mutex<Vec<String>>> = Arc::default();
        let errors = child.stderr.take().ok_or_else(missing)?;
        let errors = tokio::spawn(overhear(errors, said.clone(), self.say.clone()));
        let asking = configured_host(ssh.clone(), self.login.clone());
        let greeting = pipe::greet(&mut read, &mut write, &self.identity, job, *ports);
        let asking = tokio::spawn(asking);
        let served = match greeting.await {
            Ok(served) => served,
            Err(error) => {
                asking.abort();
                return Err(self.explain(error, child, errors, &said).await);
            }
        };
        let configured = asking.await.unwrap_or_default();
        let targets = self.targets(&served, configured);
        let tunnel = Tunnel::enter(read, write, TunnelOptions::default()).await?;
        Ok(Pipe { tunnel, served, targets, child, _errors: errors })
    }

    /// Why there is nobody at the other end.
    async fn explain(
        &self,
        error: PipeError,
        mut child: Child,
        errors: JoinHandle<()>,
        said: &sync::Mutex<Vec<String>>,
    ) -> anyhow::Error {
        let name = self.login.destination();
        match &error {
            PipeError::Refused { reason } => {
                let text = format!("haul at {name} does not serve: {reason}");
                return Failure::new(Code::Refused, text).into();
            }
            PipeError::NotHaul { noise } => {
                let text = format!("what answers at {name} is not haul: {noise}");
                return Failure::new(Code::Usage, text)
                    .hint("programs that a login starts must print nothing where there is no terminal")
                    .into();
            }
            PipeError::Ended { .. } | PipeError::Io(_) => {}
            _ => {
                let text = format!("haul at {name} cannot be understood: {error}");
                return Failure::new(Code::Usage, text)
                    .hint("install the same version of haul on both sides")
                    .into();
            }
        }
        let ended = timeout(ENDING, child.wait()).await;
        let code = ended.ok().and_then(Result::ok).and_then(|status| status.code());
        // What it said last may still be under way.
        let _ = timeout(ENDING, errors).await;
        let said = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let own = std::env::current_exe().unwrap_or_else(|_| "haul".into());
        self.options.ssh.explain(&self.login, code, &said, &own.to_string_lossy()).into()
    }

    /// Where the other end may be dialed: by the name that ssh goes by, and at the address that it came to
    /// there. Neither need be right: behind a jump host or a translated address they are not. It does
    /// no harm, as nobody else has the key.
    fn targets(&self, served: &Served, configured: Option<String>) -> Vec<Target> {
        let host = configured.unwrap_or_else(|| self.login.host.clone());
        let reached = served.address.map(|address| address.to_string());
        let hosts = [Some(host), reached].into_iter().flatten();
        let mut targets: Vec<Target> =
            hosts.filter_map(|host| Target::new(&host, served.port).ok()).collect();
        targets.dedup();
        targets
    }

    /// Makes a lane of the kind that is asked for: directly, or through the pipe where nothing else gets
    /// through.
    async fn lane(&self, state: &mut State, way: Way) -> Result<Lane, LinkError> {
        let Some(pipe) = &state.pipe else {
            let detail = "ssh has ended".to_owned();
            return Err(LinkError::Transport { peer: self.name(), detail });
        };
        let choice = self.options.links.choice_for(way);
        let may_pipe = matches!(
            choice,
            LinkChoice::Auto | LinkChoice::PreferQuic | LinkChoice::Only(LaneKind::Pipe)
        ) && pipe.tunnel.is_open();
        let may_dial = choice != LinkChoice::Only(LaneKind::Pipe)
            && (state.direct != Some(false) || !may_pipe);
        if may_dial {
            let trip = pipe.tunnel.carrier().measured(FIRST_TRIP).await.unwrap_or_default();
            let patience = (DIRECT + trip * DIRECT_TRIPS).min(DialOptions::default().deadline);
            let dialed = match may_pipe {
                true => timeout(patience, self.dial(pipe, choice)).await.ok(),
                false => Some(self.dial(pipe, choice).await),
            };
            match dialed {
                Some(Ok(lane)) => {
                    state.direct = Some(true);
                    return Ok(lane);
                }
                Some(Err(error)) if !may_pipe => return Err(error),
                _ => {}
            }
            // Nobody can be reached where the far end itself is gone.
            if pipe.tunnel.is_open() && state.direct.replace(false) != Some(false) {
                (self.say)(&format!(
                    "neither UDP nor TCP port {} of {} can be reached: the copy goes through ssh",
                    pipe.served.port,
                    self.login.destination()
                ));
            }
        }
        let target = Target {
            host: pipe.tunnel.address().ip().to_string(),
            port: pipe.tunnel.address().port(),
        };
        let options = DialOptions {
            kind: LaneKind::Tcp,
            carrier: Some(pipe.tunnel.carrier().clone()),
            ..self.dial_options()
        };
        let keys = &pipe.served.keys;
        link::dial(&target, &keys.one_time, &self.check(pipe), &options).await
    }

    fn dial_options(&self) -> DialOptions {
        DialOptions { name: Some(self.name()), ..self.options.links.dial_options() }
    }

    fn check(&self, pipe: &Pipe) -> OneTime {
        let keys = &pipe.served.keys;
        OneTime { shown: keys.peer_one_time, identity: keys.peer }
    }

    /// Dials all places where the other end may be, and takes the first that is it.
    async fn dial(&self, pipe: &Pipe, choice: LinkChoice) -> Result<Lane, LinkError> {
        let mut dialing = JoinSet::new();
        for target in &pipe.targets {
            let (target, identity) = (target.clone(), pipe.served.keys.one_time.clone());
            let (check, options) = (self.check(pipe), self.dial_options());
            dialing.spawn(async move {
                let lane = link::reach(&target, &identity, &check, &options, choice).await?;
                lane.welcomed().await?;
                Ok(lane)
            });
        }
        let mut failure = LinkError::NoAddress { peer: self.name() };
        while let Some(dialed) = dialing.join_next().await {
            match dialed {
                Ok(Ok(lane)) => return Ok(lane),
                Ok(Err(error)) => failure = error,
                Err(error) => failure = LinkError::Setup { detail: error.to_string() },
            }
        }
        Err(failure)
    }
}

/// The host that the user's configuration means by the login's, if ssh says so.
async fn configured_host(ssh: Ssh, login: Login) -> Option<String> {
    let mut command = Command::new(ssh.program());
    command.args(ssh.asking_arguments(&login)).kill_on_drop(true);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = timeout(ASKING, command.output()).await.ok()?.ok()?;
    ssh::configured_host(&String::from_utf8_lossy(&output.stdout))
}

/// Passes on what ssh says, and keeps the last of it.
async fn overhear(errors: ChildStderr, said: Arc<sync::Mutex<Vec<String>>>, say: Say) {
    /// A longer line is cut.
    const MOST: u64 = 1000;
    let mut lines = BufReader::new(errors);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut lines).take(MOST).read_until(b'\n', &mut line).await {
            Ok(1..) => {}
            _ => return,
        }
        let text = files::escape(line.trim_ascii()).to_string();
        if text.is_empty() {
            continue;
        }
        if !ssh::is_for_us(&text) {
            let prefix = if text.starts_with("ssh: ") { "" } else { "ssh: " };
            say(&format!("{prefix}{text}"));
        }
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == KEPT_LINES {
            said.remove(0);
        }
        said.push(text);
    }
}
