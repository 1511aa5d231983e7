//! `badlink`: two network namespaces joined by a bad link, for tests of whole programs. `badlink --help`
//! lists what the link can do.

mod args;

use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use std::os::unix::process::ExitStatusExt;

use badlink::{Change, End, Nanos, Pair, PairError};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout};

use args::Args;

/// How long the command may take to end after it was asked to.
const END_AT_MOST: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h") {
        print!("{}", args::USAGE);
        return ExitCode::SUCCESS;
    }
    let args = match args::parse(words) {
        Ok(args) => args,
        Err(error) => {
            eprintln!("badlink: {error} (see --help)");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(args)),
        Err(source) => Err(Failure::System(source)),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("badlink: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::from(125)
        }
    }
}

/// Why there is no link or no command.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Pair(#[from] PairError),
    #[error("cannot run {program}")]
    Command { program: String, source: std::io::Error },
    #[error("the system refuses a signal handler or a thread")]
    System(#[source] std::io::Error),
}

async fn run(args: Args) -> Result<u8, Failure> {
    // Listened to before anything is made, so that no signal leaves it behind.
    let mut ending = Ending::new().map_err(Failure::System)?;
    let mut pair = Pair::start(args.pair)?;
    let began = Instant::now();
    let mut child = start(&pair, &args.command)?;
    let mut schedule = args.schedule.into_iter();
    let mut next = schedule.next();
    let code = loop {
        tokio::select! {
            status = wait(&mut child) => break code_of(status.map_err(Failure::System)?),
            number = ending.recv() => {
                if let Some(child) = &mut child {
                    end(child).await.map_err(Failure::System)?;
                }
                break 128 + number;
            }
            change = due(began, next.as_ref()) => {
                pair.change(&change)?;
                next = schedule.next();
            }
        }
    };
    let stats = pair.stop();
    if !args.quiet {
        eprintln!("badlink A->B: {}", stats.a_to_b);
        eprintln!("badlink B->A: {}", stats.b_to_a);
    }
    Ok(code)
}

fn start(pair: &Pair, words: &[String]) -> Result<Option<Child>, Failure> {
    let (a, b) = (End::A, End::B);
    let Some((program, rest)) = words.split_first() else {
        let (name, other) = (pair.name(a), pair.name(b));
        println!("A={name} {}  B={other} {}  (Ctrl-C ends)", pair.address(a), pair.address(b));
        return Ok(None);
    };
    let mut command = Command::new(program);
    command.args(rest);
    for (end, letter) in [(a, "A"), (b, "B")] {
        command.env(format!("BADLINK_{letter}"), pair.name(end));
        command.env(format!("BADLINK_{letter}_IP"), pair.address(end).to_string());
        command.env(format!("BADLINK_{letter}_IP6"), pair.address6(end).to_string());
    }
    let failed = |source| Failure::Command { program: program.clone(), source };
    command.spawn().map(Some).map_err(failed)
}

/// Waits for the command; for ever if there is none.
async fn wait(child: &mut Option<Child>) -> std::io::Result<ExitStatus> {
    match child {
        Some(child) => child.wait().await,
        None => std::future::pending().await,
    }
}

/// Waits for the time of the next change; for ever if there is none.
async fn due(began: Instant, next: Option<&(Nanos, Change)>) -> Change {
    match next {
        Some((at, change)) => {
            sleep_until(began + Duration::from_nanos(*at)).await;
            change.clone()
        }
        None => std::future::pending().await,
    }
}

fn code_of(status: ExitStatus) -> u8 {
    let code = status.signal().map_or(status.code(), |signal| Some(128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Asks the command to end, and after a while makes it.
async fn end(child: &mut Child) -> std::io::Result<()> {
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(id) = id {
        // It fails when the command has ended by itself.
        let _ = kill_process(id, Signal::TERM);
    }
    match timeout(END_AT_MOST, child.wait()).await {
        Ok(status) => status.map(drop),
        Err(_) => child.kill().await,
    }
}

/// The signals that end the link.
struct Ending([(Signals, u8); 3]);

impl Ending {
    fn new() -> std::io::Result<Self> {
        let of = |kind: SignalKind| -> std::io::Result<(Signals, u8)> {
            Ok((signal(kind)?, u8::try_from(kind.as_raw_value()).unwrap_or(0)))
        };
        Ok(Self([
            of(SignalKind::interrupt())?,
            of(SignalKind::terminate())?,
            of(SignalKind::hangup())?,
        ]))
    }

    /// The number of the one that came.
    async fn recv(&mut self) -> u8 {
        let [(interrupt, first), (terminate, second), (hangup, third)] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => *first,
            _ = terminate.recv() => *second,
            _ = hangup.recv() => *third,
        }
    }
}
