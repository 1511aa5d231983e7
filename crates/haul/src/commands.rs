//! One module for each command; what they share is below.

use anyhow::{Context, Result};

use crate::args::{Arguments, Command};
use crate::render;
use crate::report::Code;
use crate::state;

pub(crate) mod cp;
mod diode;
mod doctor;
mod inbox;
mod key;
mod ls;
mod put;
mod receipt;
mod serve;
mod try_it;

/// Carries the command out and says how it ended.
pub fn run(arguments: Arguments) -> Result<Code> {
    match arguments.command {
        Command::Cp(copy) => cp::run(*copy),
        Command::Put(put) => put::run(*put),
        Command::Inbox(inbox) => inbox::run(inbox),
        Command::Doctor(doctor) => doctor::run(doctor),
        Command::Serve(serve) => serve::run(serve),
        Command::Ls(list) => ls::run(&list),
        Command::Key(key) => key::run(key),
        Command::Receipt(receipt) => receipt::run(receipt),
        Command::Diode(arguments) => diode::run(arguments),
        Command::Try(trial) => try_it::run(&trial),
        Command::OverSsh => crate::over_ssh::far::run(),
        Command::Completions { shell } => {
            let text = Arguments::completions(shell);
            render::print_line(String::from_utf8_lossy(&text).trim_end());
            Ok(Code::Done)
        }
        Command::Man { dir } => {
            for (name, page) in Arguments::man_pages()? {
                state::write_named(&dir.join(name), &page)?;
            }
            Ok(Code::Done)
        }
    }
}

/// Descriptors that are wanted: all connections of a full listener, and files for each.
const FILES: u64 = 16_384;

/// Connections and files share one limit, which is often set for programs of the last century.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(FILES, |most| most.min(FILES));
    if limit.current.is_some_and(|now| now < wanted) {
        // What cannot be raised is as it was; the listener counts its connections anyway.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit });
    }
}

/// Runs a future on one thread, where QUIC is fastest; the disk has threads of its own. What those are
/// still at when the future is done is not waited for long.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(future);
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}
