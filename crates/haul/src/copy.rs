//! Copies as a library makes them: what `haul cp` does, without its command line and its output.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use events::{Counters, Event, Sink};
use link::{LinkChoice, Pace};
use transfer::client::{self, JobOptions, JobReport};
use transfer::message::Order;

use crate::commands::cp::plan::{self, Given, Plan, Taken};
use crate::interrupt::Interrupt;
use crate::landing::Wish;
use crate::local;
use crate::reach::{Around, Reached, Reacher, Wishes};
use crate::remotes::Remotes;
use crate::report::{self, Code, Failure, Report};
use crate::state::Places;
use crate::within::Within;

/// How long a link may be down where nothing else is said.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(300);

/// A copy of files and folders, between this machine and another or within this one.
///
/// Sources and target are what `haul cp` takes: paths of this machine, `HOST:PATH`, `USER@HOST:PATH` over ssh.
/// A link that is cut is dialled again; the same copy made again goes on where it was.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = std::env::temp_dir().join(format!("haul-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(folder.join("photos"))?;
/// # std::fs::write(folder.join("photos/one"), "content")?;
/// use haul::{Copy, events::Event};
///
/// let copied = Copy::new([folder.join("photos")], folder.join("kept")) // or "HOST:archive"
///     .home(folder.join("keys")) // where this machine's key is; that of `haul` itself otherwise
///     .on_event(|event| {
///         if let Event::FileDone { path, size, .. } = event {
///             println!("{}, {size} bytes", String::from_utf8_lossy(path));
///         }
///     })
///     .run()?;
/// assert_eq!((copied.totals.copied, copied.totals.failed), (1, 0));
/// # assert_eq!(std::fs::read(folder.join("kept/one"))?, b"content");
/// # std::fs::remove_dir_all(folder)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Copy {
    words: Vec<OsString>,
    home: Option<PathBuf>,
    order: Order,
    link: LinkChoice,
    pace: Pace,
    limit_bytes_per_s: Option<u64>,
    give_up_after: Option<Duration>,
    accept_new: bool,
    sink: Sink,
    counters: Arc<Counters>,
}

impl fmt::Debug for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Copy").field("words", &self.words).finish_non_exhaustive()
    }
}

impl Copy {
    /// A copy of these sources to this target, which nobody watches, as `haul cp` makes it without options.
    pub fn new<S: AsRef<OsStr>>(
        sources: impl IntoIterator<Item = S>,
        target: impl AsRef<OsStr>,
    ) -> Self {
        let sources = sources.into_iter().map(|source| source.as_ref().to_owned());
        Self {
            words: sources.chain([target.as_ref().to_owned()]).collect(),
            home: None,
            order: Order::default(),
            link: LinkChoice::Auto,
            pace: Pace::Fair,
            limit_bytes_per_s: None,
            give_up_after: None,
            accept_new: false,
            sink: Sink::default(),
            counters: Counters::new(),
        }
    }

    /// Keeps key, known hosts and state in this folder, as `HAUL_HOME` does for the program.
    pub fn home(mut self, folder: impl Into<PathBuf>) -> Self {
        self.home = Some(folder.into());
        self
    }

    /// Changes what is to be done: what is left out, compared, removed, made durable. Target and folders
    /// in it are the copy's own.
    pub fn order(mut self, change: impl FnOnce(&mut Order)) -> Self {
        change(&mut self.order);
        self
    }

    /// Calls this with what happens, from several threads, one after another or at once. It must not block.
    pub fn on_event(mut self, tell: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.sink = self.sink.and(tell);
        self
    }

    /// The counts that a progress line is drawn from; they may be read at any time.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// Which kinds of lane may be used.
    pub fn link(mut self, choice: LinkChoice) -> Self {
        self.link = choice;
        self
    }

    /// How hard to push.
    pub fn pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Sends at most so many bytes of content per second.
    pub fn limit(mut self, bytes_per_s: u64) -> Self {
        self.limit_bytes_per_s = Some(bytes_per_s);
        self
    }

    /// How long a link may be down: five minutes, and 30 seconds for the first contact, unless said here.
    pub fn give_up_after(mut self, time: Duration) -> Self {
        self.give_up_after = Some(time);
        self
    }

    /// Trusts a daemon that is not known yet. Otherwise it is an error, for nobody is asked.
    pub fn accept_new(mut self) -> Self {
        self.accept_new = true;
        self
    }

    /// Makes the copy on a runtime of its own, and returns when it is over. Files that failed are counted in
    /// the report and are no error.
    pub fn run(self) -> Result<JobReport, Error> {
        crate::commands::block_on(self.carry_out()).map_err(Error)
    }

    /// The same within a tokio runtime, which should have time and io enabled.
    pub async fn start(self) -> Result<JobReport, Error> {
        self.carry_out().await.map_err(Error)
    }

    async fn carry_out(mut self) -> Result<JobReport> {
        let places = match self.home.take() {
            Some(home) => Places::at(home),
            None => Places::from_environment()?,
        };
        let remotes = Remotes::read(&places)?;
        self.words.iter_mut().for_each(|word| *word = remotes.spelled(word));
        let identity = Arc::new(places.identity()?);
        let interrupt = Interrupt::never();
        let wishes = Wishes {
            link: self.link,
            pace: self.pace,
            accept_new: self.accept_new,
            patience: self.give_up_after,
            asks_nobody: true,
            quiet: true,
            ..Wishes::default()
        };
        // A pattern that cannot be used is found before anything is dialled.
        tree::Filter::new(self.order.rules.clone())
            .map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
        let (places, interrupt) = (&places, &interrupt);
        let mut reacher = Reacher { identity: identity.clone(), places, interrupt, wishes };
        match plan::plan(&self.words, false)? {
            Plan::Push { given: Given::Paths(paths), host, path, wish } => {
                let sources = plan::sources(&paths)?;
                let order = self.order_to(path, wish);
                reacher.wishes.words = self.words.clone();
                let Reached { connect, around, .. } = reacher.reach(&host).await?;
                self.job(around, |options| client::put(connect, sources, order, options)).await
            }
            Plan::Pull { host, paths, taken: Taken::Path(target), wish } => {
                let landing = local::landing(&target, wish)?;
                let order = self.order_to(Vec::new(), wish);
                let Reached { connect, around, .. } = reacher.reach(&host).await?;
                self.job(around, |options| {
                    client::get(connect, paths, landing, order, identity, options)
                })
                .await
            }
            Plan::Local { given: Given::Paths(paths), target, wish } => {
                let (sources, landing) = (plan::sources(&paths)?, local::landing(&target, wish)?);
                local::check_apart(&paths, &sources, &landing, &target)?;
                let order = self.order_to(Vec::new(), wish);
                let within = Within::start(landing, &identity)?;
                let connect = within.connect.clone();
                let put = |options| client::put(connect, sources, order, options);
                let report = self.job(Around::default(), put).await;
                within.stop().await;
                report
            }
            Plan::Third { .. } => Err(unsupported("a copy between two other machines")),
            Plan::Push { .. } | Plan::Pull { .. } | Plan::Local { .. } => {
                Err(unsupported("standard input or output"))
            }
        }
    }

    fn order_to(&self, target: Vec<u8>, wish: Wish) -> Order {
        let Wish { into_folder, contents, named } = wish;
        Order { target, into_folder, contents, named, ..self.order.clone() }
    }

    async fn job<F>(&self, around: Around, start: impl FnOnce(JobOptions) -> F) -> Result<JobReport>
    where
        F: Future<Output = Result<JobReport, transfer::TransferError>>,
    {
        let ended = start(JobOptions {
            give_up_after: self.give_up_after.unwrap_or(GIVE_UP_AFTER),
            limit_bytes_per_s: self.limit_bytes_per_s,
            pace: self.pace,
            may_move: self.link == LinkChoice::Auto && self.pace == Pace::Fair,
            lane_ended: around.lane_ended,
            sink: self.sink.clone(),
            counters: self.counters.clone(),
        })
        .await;
        if let Some(login) = around.login {
            login.part().await;
        }
        Ok(ended?)
    }
}

fn unsupported(what: &str) -> anyhow::Error {
    Failure::new(Code::Usage, format!("{what} is for the command line")).into()
}

/// Why a copy could not be made, as `haul cp` would say it.
#[derive(Debug)]
pub struct Error(anyhow::Error);

impl Error {
    /// The kind of failure, as an exit code.
    pub fn code(&self) -> Code {
        self.report().code
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        self.report().hint
    }

    fn report(&self) -> Report {
        report::explain(&self.0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report().line())
    }
}

impl std::error::Error for Error {}
