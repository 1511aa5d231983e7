//! `haul cp`: from words to one job, and from its outcome to an exit code.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use events::Counters;
use files::Name;
use link::{Identity, LinkChoice, Pace};
use tokio::task::spawn_blocking;
use transfer::TransferError;
use transfer::client::{self, Wanted};
use transfer::host::SourceRoot;
use transfer::message::{Deletion, Existing, Order};
use tree::Selection;

use crate::address::Host;
use crate::args::{CopyArguments, DeletionChoice, ExistingChoice};
use crate::bounds::Here;
use crate::interrupt::Interrupt;
use crate::landing::Wish;
use crate::list;
use crate::local;
use crate::reach::{Around, Reached, Reacher, Wishes};
use crate::remotes::Remotes;
use crate::render;
use crate::report::{Code, Failure};
use crate::spool::{self, Scratch};
use crate::state::{self, Places, own_name};
use crate::within::Within;

mod job;
pub mod plan;
mod third;
mod verify;
mod words;

use plan::{Given, Plan, Taken};

/// Where pipes are spooled.
const SPOOL: &str = "spool";
/// The name of a pipe's content while it is spooled.
const PIPED: &str = "content";

/// Carries the command out.
pub fn run(mut arguments: CopyArguments) -> Result<Code> {
    let places = Places::from_environment()?;
    let remotes = Remotes::read(&places)?;
    if let Some(remote) = arguments.words.iter().find_map(|word| remotes.of_word(word)) {
        arguments.link = arguments.link.or(remote.link);
        arguments.pace = arguments.pace.or(remote.pace);
        arguments.limit = arguments.limit.or(remote.limit);
    }
    arguments.words.iter_mut().for_each(|word| *word = remotes.spelled(word));
    let plan = plan::plan(&arguments.words, arguments.list.files_from.is_some())?;
    if plan.writes_to_stdout() && arguments.json {
        let text = "--json writes to standard output, and so does the target -";
        return Err(Failure::new(Code::Usage, text).into());
    }
    if arguments.via_me && !matches!(plan, Plan::Third { .. }) {
        let text =
            "--via-me is for copies between two other machines, and this machine is one of the two";
        return Err(Failure::new(Code::Usage, text).into());
    }
    // A pattern that cannot be used is found before anything is dialled.
    tree::Filter::new(arguments.rules.0.clone())
        .map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
    let identity = Arc::new(places.identity()?);
    let only = arguments
        .list
        .files_from
        .as_ref()
        .map(|file| list::read(file, arguments.list.from0, arguments.recursive).map(Arc::new));
    let only = only.transpose()?;
    let interrupt = Interrupt::listen()?;
    let copy = Copy { arguments, places, identity, interrupt, only, counters: Counters::new() };
    super::block_on(copy.carry_out(plan))
}

/// One run of the command.
struct Copy {
    arguments: CopyArguments,
    places: Places,
    identity: Arc<Identity>,
    interrupt: Interrupt,
    /// What of the one source is wanted, if that is not all.
    only: Option<Arc<Selection>>,
    counters: Arc<Counters>,
}

impl Copy {
    async fn carry_out(self, plan: Plan) -> Result<Code> {
        match plan {
            Plan::Push { given: Given::Paths(paths), host, path, wish } => {
                let sources = self.sources(&paths)?;
                let order = self.order(path, wish);
                let Reached { connect, around, .. } = self.reach_to_write(&host).await?;
                self.run_job(Here::Source, around, order, |order, options| {
                    client::put(connect.clone(), sources.clone(), order, options)
                })
                .await
            }
            Plan::Push { given: Given::Pipe(name), host, path, wish } => {
                let Reached { connect, around, .. } = self.reach_to_write(&host).await?;
                let scratch = self.scratch()?;
                self.spool(&scratch).await?;
                let source = piped(&scratch, name);
                let order = self.order(path, wish);
                self.run_job(Here::Source, around, order, |order, options| {
                    client::put(connect.clone(), vec![source.clone()], order, options)
                })
                .await
            }
            Plan::Pull { host, paths, taken: Taken::Path(target), wish } => {
                let landing = local::landing(&target, wish)?;
                let order = self.order(Vec::new(), wish);
                let Reached { connect, around, .. } = self.reach(&host).await?;
                let wanted = Wanted { paths, only: self.only.clone() };
                self.run_job(Here::Target, around, order, |order, options| {
                    let (wanted, landing) = (wanted.clone(), landing.clone());
                    let identity = self.identity.clone();
                    client::get(connect.clone(), wanted, landing, order, identity, options)
                })
                .await
            }
            Plan::Pull { host, paths, taken: Taken::Pipe, wish } => {
                let Reached { connect, around, .. } = self.reach(&host).await?;
                let scratch = self.scratch()?;
                let landing = local::landing_in(scratch.dir(), own_name(PIPED), "standard output");
                let order = self.order(Vec::new(), wish);
                let code = self
                    .run_job(Here::Target, around, order, |order, options| {
                        let (paths, landing) = (paths.clone(), landing.clone());
                        let identity = self.identity.clone();
                        client::get(connect.clone(), paths, landing, order, identity, options)
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
                let sources = self.sources(&paths)?;
                local::check_apart(&paths, &sources, &landing, target)?;
                sources
            }
            Given::Pipe(name) => {
                scratch = self.scratch()?;
                self.spool(&scratch).await?;
                vec![piped(&scratch, name)]
            }
        };
        let within = Within::start(landing, &self.identity)?;
        let around = Around { hushed: within.hushed.clone(), ..Around::default() };
        let (connect, order) = (within.connect.clone(), self.order(Vec::new(), wish));
        let result = self
            .run_job(Here::Both, around, order, |order, options| {
                client::put(connect.clone(), sources.clone(), order, options)
            })
            .await;
        within.stop().await;
        result
    }

    /// The first contact, before anything is read from the disk.
    async fn reach(&self, host: &Host) -> Result<Reached> {
        self.reacher().reach(host).await
    }

    /// The same where something is to be written there.
    async fn reach_to_write(&self, host: &Host) -> Result<Reached> {
        let mut reacher = self.reacher();
        reacher.wishes.words = self.arguments.words.clone();
        reacher.reach(host).await
    }

    fn reacher(&self) -> Reacher<'_> {
        let a = &self.arguments;
        let wishes = Wishes {
            link: self.link(),
            pace: self.pace(),
            accept_new: a.accept_new,
            patience: a.give_up_after,
            ssh: a.ssh.clone(),
            far_haul: a.far_haul.clone(),
            far_ports: a.far_ports,
            words: Vec::new(),
            quiet: a.quiet,
            asks_nobody: false,
        };
        let (identity, places, interrupt) = (self.identity.clone(), &self.places, &self.interrupt);
        Reacher { identity, places, interrupt, wishes }
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
            reread: false,
            rules: a.rules.0.clone(),
        }
    }

    /// The sources, opened; of the one there may be only a part that is wanted.
    fn sources(&self, paths: &[std::path::PathBuf]) -> Result<Vec<SourceRoot>> {
        let sources = plan::sources(paths)?.into_iter();
        Ok(sources.map(|source| SourceRoot { only: self.only.clone(), ..source }).collect())
    }

    fn link(&self) -> LinkChoice {
        self.arguments.link.unwrap_or_default()
    }

    fn pace(&self) -> Pace {
        self.arguments.pace.unwrap_or(Pace::Fair)
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

fn piped(scratch: &Scratch, name: Name) -> SourceRoot {
    SourceRoot {
        root: scratch.dir().clone(),
        path: state::path_of(PIPED),
        name: Some(name),
        max_rate_bytes_per_s: None,
        only: None,
    }
}
