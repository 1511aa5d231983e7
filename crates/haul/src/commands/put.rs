//! `haul put`: hands a dataset in, and says what became of it.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use events::Counters;
use files::{Name, escape};
use link::{Identity, LinkChoice, Pace, PeerName};
use tokio::task::spawn_blocking;
use transfer::TransferError;
use transfer::client::{
    self, Dataset, HandedIn, Inventory, JobOptions, Judged, Way, inventory, upload_id,
};
use transfer::host::SourceRoot;
use transfer::message::{Fault, MAX_DATASET_NAME, Offer, Order};

use super::cp::plan;
use super::ls;
use crate::args::PutArguments;
use crate::bounds::Here;
use crate::contact;
use crate::copy::GIVE_UP_AFTER;
use crate::interrupt::Interrupt;
use crate::metadata;
use crate::reach::{Around, Reached, Reacher, Wishes};
use crate::receipts;
use crate::remotes::Remotes;
use crate::render::{self, Render, RenderOptions, Style, json};
use crate::report::{Code, Failure};
use crate::spool::{self, Scratch};
use crate::state::{Places, path_of};
use crate::units;

/// Where pipes are spooled, and what one is called there.
const SPOOL: &str = "spool";
const PIPED: &str = "content";
/// Up to so many bytes all is read before it is offered, so that the server can say whether it has it.
const HASHED_FIRST: u64 = 64 << 20;
/// The longest file of metadata that is read; the server says what it takes.
const MAX_METADATA: u64 = 64 << 20;

/// Carries the command out.
pub fn run(arguments: PutArguments) -> Result<Code> {
    let places = Places::from_environment()?;
    let host = Remotes::read(&places)?.spelled_place(&arguments.host);
    let (host, path) = ls::place(&host)?;
    if !path.is_empty() || host.daemon.is_none() {
        let shown = escape(std::os::unix::ffi::OsStrExt::as_bytes(&*arguments.host));
        return Err(Failure::new(Code::Usage, format!("'{shown}' is no HOST or HOST:PORT"))
            .hint("an inbox is named with --inbox; haul cp copies to paths")
            .into());
    }
    // Nobody but a daemon has inboxes.
    let host = crate::address::Host { login: None, ..host };
    let metadata = read_metadata(&arguments)?;
    let given = Given::of(&arguments)?;
    tree::Filter::new(arguments.rules.0.clone())
        .map_err(|error| Failure::new(Code::Usage, error.to_string()))?;
    let identity = Arc::new(places.identity()?);
    let interrupt = Interrupt::listen()?;
    let put = Put { arguments, places, identity, interrupt, counters: Counters::new() };
    super::block_on(put.carry_out(&host, given, metadata))
}

/// What is handed in, as it was named.
enum Given {
    Paths(Vec<PathBuf>),
    Pipe,
}

impl Given {
    fn of(arguments: &PutArguments) -> Result<Self, Failure> {
        let pipes = arguments.words.iter().filter(|word| *word == "-").count();
        match (pipes, arguments.words.len()) {
            (0, _) => Ok(Self::Paths(arguments.words.iter().map(PathBuf::from).collect())),
            (1, 1) if arguments.name.is_none() => {
                Err(Failure::new(Code::Usage, "what comes from standard input has no name")
                    .hint("name it with -n NAME"))
            }
            (1, 1) if arguments.metadata.as_deref() == Some(Path::new("-")) => {
                let text = "both the metadata and the content are to come from standard input";
                Err(Failure::new(Code::Usage, text))
            }
            (1, 1) => Ok(Self::Pipe),
            _ => Err(Failure::new(Code::Usage, "- stands alone: a pipe is a dataset of its own")),
        }
    }
}

fn read_metadata(arguments: &PutArguments) -> Result<Vec<u8>> {
    let text = match arguments.metadata.as_deref() {
        None => None,
        Some(path) if path == Path::new("-") => {
            let mut text = Vec::new();
            std::io::stdin().lock().take(MAX_METADATA).read_to_end(&mut text)?;
            Some(text)
        }
        Some(path) => Some(files::File::open_ambient(path)?.read_whole(MAX_METADATA)?),
    };
    let shown = arguments.metadata.as_deref().map(|path| files::escape_path(path).to_string());
    metadata::compose(text.as_deref(), &arguments.keys).map_err(|error| {
        let text = match shown {
            Some(shown) => format!("{shown}: {error}"),
            None => error.to_string(),
        };
        Failure::new(Code::Usage, text).into()
    })
}

/// One run of the command.
struct Put {
    arguments: PutArguments,
    places: Places,
    identity: Arc<Identity>,
    interrupt: Interrupt,
    counters: Arc<Counters>,
}

impl Put {
    async fn carry_out(
        self,
        host: &crate::address::Host,
        given: Given,
        metadata: Vec<u8>,
    ) -> Result<Code> {
        let reached = self.reacher().reach(host).await?;
        let scratch;
        let (name, sources) = match given {
            Given::Paths(paths) => self.named(&paths)?,
            Given::Pipe => {
                scratch = self.spooled().await?;
                let name = self.arguments.name.clone().unwrap_or_default();
                let root = scratch.dir().clone();
                let source = SourceRoot {
                    root,
                    path: path_of(PIPED),
                    name: Some(as_file_name(&name)?),
                    max_rate_bytes_per_s: None,
                    only: None,
                };
                (name, vec![source])
            }
        };
        let order = self.order(&sources);
        let found = self.look(&sources, &order).await?;
        let inbox = self.arguments.inbox.clone().unwrap_or_default();
        let upload = upload_id(&reached.peer, &inbox, &name, &found.stamp);
        let offer = Offer {
            upload,
            inbox,
            name,
            metadata_len: metadata.len() as u64,
            files: found.files,
            bytes: found.bytes,
            content: found.content,
            check: self.arguments.dry_run,
        };
        let dataset = Dataset { offer, metadata, by: self.identity.public_key() };
        match self.arguments.dry_run {
            true => self.check(reached, &dataset).await,
            false => self.hand_in(reached, dataset, sources, order).await,
        }
    }

    /// What the dataset is called, and its sources.
    fn named(&self, paths: &[PathBuf]) -> Result<(String, Vec<SourceRoot>)> {
        let mut sources = plan::sources(paths)?;
        let name = match (&self.arguments.name, paths) {
            (Some(name), _) => name.clone(),
            (None, [path]) => own_name_of(path, &sources[0])?,
            (None, _) => {
                return Err(Failure::new(Code::Usage, "several files have no common name")
                    .hint("name the dataset with -n NAME")
                    .into());
            }
        };
        if name.len() > MAX_DATASET_NAME {
            let text = format!("the name is longer than {MAX_DATASET_NAME} bytes");
            return Err(Failure::new(Code::Usage, text).into());
        }
        // As ever, the name of a single file is the file's.
        if let ([source], Some(_)) = (sources.as_mut_slice(), &self.arguments.name) {
            let kind = source.root.attributes_of(&source.path)?.kind;
            if kind == files::Kind::File {
                source.name = Some(as_file_name(&name)?);
            }
        }
        Ok((name, sources))
    }

    fn order(&self, sources: &[SourceRoot]) -> Order {
        Order {
            into_folder: true,
            contents: matches!(sources, [source] if source.name.is_none()),
            durable: true,
            compression: self.arguments.compress,
            rules: self.arguments.rules.0.clone(),
            ..Order::default()
        }
    }

    /// Looks through what is to be handed in, and reads it where that is wanted or quickly done.
    async fn look(&self, sources: &[SourceRoot], order: &Order) -> Result<Inventory> {
        let looked = |read: bool| {
            let (sources, order) = (sources.to_vec(), order.clone());
            async move {
                tokio::select! {
                    found = spawn_blocking(move || inventory(&sources, &order, read)) => {
                        Ok::<_, anyhow::Error>(found??)
                    }
                    () = self.interrupt.wait() => Err(TransferError::Cancelled.into()),
                }
            }
        };
        let found = looked(false).await?;
        if !found.unfit.is_empty() {
            for unfit in &found.unfit {
                render::tell(&format!("haul: {}: {}", unfit.path, escape(unfit.reason.as_bytes())));
            }
            let text = "not all of it can be handed in, so nothing was";
            return Err(Failure::new(Code::Partial, text)
                .hint("leave out with --exclude what does not belong to the dataset")
                .into());
        }
        if found.files == 0 {
            return Err(Failure::new(Code::Usage, "there is no file to hand in").into());
        }
        match self.arguments.hash_first || found.bytes <= HASHED_FIRST {
            true => looked(true).await,
            false => Ok(found),
        }
    }

    async fn check(&self, reached: Reached, dataset: &Dataset) -> Result<Code> {
        let lane = (reached.connect)(Way::Any).await?;
        let judged = tokio::select! {
            judged = client::check(&lane, dataset) => judged,
            () = self.interrupt.wait() => Err(TransferError::Cancelled),
        };
        contact::part(&lane).await;
        let style = self.style();
        match judged.map_err(|error| contact::with_our_line(error.into(), &self.identity))? {
            Judged::Fits { notes } => {
                if style == Style::Json {
                    render::print_json(&json::fits(&notes));
                } else if style != Style::Quiet {
                    let Offer { name, files, bytes, .. } = &dataset.offer;
                    let what =
                        format!("{}, {}", units::count(*files, "file"), units::bytes(*bytes));
                    let name = escape(name.as_bytes());
                    render::tell(&format!("{name} ({what}) would be taken; nothing was handed in"));
                    notes.iter().for_each(|note| {
                        render::tell(&format!("note: {}", escape(note.as_bytes())))
                    });
                }
                Ok(Code::Done)
            }
            Judged::Unfit { faults, more } => Err(unfit(lane.peer_name(), &faults, more, style)),
        }
    }

    async fn hand_in(
        &self,
        reached: Reached,
        dataset: Dataset,
        sources: Vec<SourceRoot>,
        order: Order,
    ) -> Result<Code> {
        let style = self.style();
        let a = &self.arguments;
        if style == Style::Json {
            let shown = |word: &std::ffi::OsString| files::escape_path(Path::new(word)).to_string();
            let words: Vec<String> = a.words.iter().map(shown).collect();
            render::print_json(&json::started(&words, &shown(&a.host)));
        }
        let Around { lane_ended, hushed, .. } = reached.around;
        let began = Instant::now();
        let shown = RenderOptions {
            style,
            verbose: a.verbose,
            dry_run: false,
            verifying: false,
            here: Here::Source,
            hushed,
        };
        let render = Render::start(shown, self.counters.clone());
        let options = JobOptions {
            give_up_after: a.give_up_after.unwrap_or(GIVE_UP_AFTER),
            limit_bytes_per_s: a.limit,
            pace: a.pace,
            may_move: a.link == LinkChoice::Auto && a.pace == Pace::Fair,
            lane_ended,
            sink: render.sink(),
            counters: self.counters.clone(),
        };
        let ended = tokio::select! {
            ended = client::hand_in(reached.connect, dataset, sources, order, options) => Some(ended),
            () = self.interrupt.wait() => None,
        };
        drop(render);
        match ended {
            None | Some(Err(TransferError::Cancelled)) => {
                // The link's farewell leaves with the next turn of the runtime.
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err(Failure::new(Code::Interrupted, "interrupted; what has arrived is kept")
                    .hint("the same command goes on where this one stopped")
                    .into())
            }
            Some(Err(TransferError::Unfit { peer, faults, more })) => {
                Err(unfit(&peer, &faults, more, style))
            }
            Some(Err(error)) => Err(contact::with_our_line(error.into(), &self.identity)),
            Some(Ok(done)) => self.conclude(&done, style, began.elapsed()),
        }
    }

    fn conclude(&self, done: &HandedIn, style: Style, elapsed: Duration) -> Result<Code> {
        let report = &done.report;
        let named = self.arguments.receipt.as_deref();
        let receipt = receipts::keep(&self.places, report.receipt.as_deref(), named)?;
        let t = &report.totals;
        match style {
            Style::Quiet => {}
            Style::Json => render::print_json(&json::handed_in(done, elapsed, receipt)),
            Style::Bar | Style::Lines => {
                let files = units::count(t.copied + t.unchanged, "file");
                let bytes = units::bytes(t.bytes_present.max(t.bytes_copied));
                let receipt = receipt.map(|place| format!("; receipt {place}")).unwrap_or_default();
                render::tell(&match done.before {
                    true => format!(
                        "published before as dataset {}: {files}, {bytes}; nothing was sent{receipt}",
                        done.dataset
                    ),
                    false => format!(
                        "published as dataset {}: {files}, {bytes} in {}{receipt}",
                        done.dataset,
                        units::duration(elapsed)
                    ),
                });
            }
        }
        Ok(Code::Done)
    }

    fn style(&self) -> Style {
        Style::choose(self.arguments.json, self.arguments.quiet)
    }

    fn reacher(&self) -> Reacher<'_> {
        let a = &self.arguments;
        let wishes = Wishes {
            link: a.link,
            pace: a.pace,
            accept_new: a.accept_new,
            patience: a.give_up_after,
            quiet: a.quiet,
            ..Wishes::default()
        };
        let (identity, places, interrupt) = (self.identity.clone(), &self.places, &self.interrupt);
        Reacher { identity, places, interrupt, wishes }
    }

    /// Reads standard input to its end, so that a cut link loses nothing of it.
    async fn spooled(&self) -> Result<Scratch> {
        let parent = self.places.state(SPOOL)?;
        let scratch = Scratch::below(parent, &self.places.state_path(SPOOL), "pipe-")?;
        if std::io::stdin().is_terminal() && !self.arguments.quiet {
            render::tell("reading standard input; Ctrl-D ends it");
        }
        let dir = scratch.dir().clone();
        let reading = spawn_blocking(move || spool::fill(&dir, PIPED, std::io::stdin().lock()));
        tokio::select! {
            read = reading => read?.map(|_| scratch),
            () = self.interrupt.wait() => Err(TransferError::Cancelled.into()),
        }
    }
}

/// Names each fault on a line of its own.
fn unfit(peer: &PeerName, faults: &[Fault], more: u64, style: Style) -> anyhow::Error {
    if style == Style::Json {
        render::print_json(&json::unfit(faults, more));
    }
    for Fault { path, reason } in faults {
        let place = if path.is_empty() { "the metadata" } else { path };
        render::tell(&format!("  {}: {}", escape(place.as_bytes()), escape(reason.as_bytes())));
    }
    if more > 0 {
        render::tell(&format!("  and {more} more"));
    }
    let text = format!("{} does not take these metadata; nothing was sent", peer.address());
    Failure::new(Code::Refused, text)
        .hint("`haul inbox schema HOST` prints what it wants, --dry-run checks without sending")
        .into()
}

/// The name of what one path names: of `folder/.` that of the folder.
fn own_name_of(path: &Path, source: &SourceRoot) -> Result<String> {
    let name = source.name.as_ref().map(|name| name.as_bytes().to_vec());
    let name = name.or_else(|| {
        let whole = std::path::absolute(path).ok()?;
        let name = whole.components().next_back()?.as_os_str().to_owned();
        Some(std::os::unix::ffi::OsStrExt::as_bytes(&*name).to_vec())
    });
    let text = name.and_then(|name| String::from_utf8(name).ok());
    text.with_context(|| format!("{} gives no name", files::escape_path(path))).map_err(|error| {
        Failure::new(Code::Usage, format!("{error:#}")).hint("name it with -n NAME").into()
    })
}

fn as_file_name(name: &str) -> Result<Name, Failure> {
    Name::new(name).map_err(|error| {
        let shown = escape(name.as_bytes());
        Failure::new(Code::Usage, format!("'{shown}' is no name of a file: {error}"))
    })
}
