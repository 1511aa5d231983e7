//! Hooks: what an operator wants done when a dataset was published, and who is asked before an offer is taken
//! (`docs/formats/inbox.md`). A hook after publication is run until it says that all is well, at least once, also when
//! the server is killed at any moment: what is to run stands in the catalogue's outbox, and [`Hooks`] carries it out.
//! One that judges offers is asked by an [`Asker`]; where it cannot judge, nothing is taken.

mod address;
mod ask;
mod command;
pub mod object;
mod runner;
mod tail;
mod value;
pub mod verdict;
mod webhook;

use std::path::Path;

use thiserror::Error;

use crate::options::{HookAction, HookOptions};
use address::Address;
use verdict::Ran;

pub use ask::{Asker, Refused};
pub use runner::{Bell, Books, Hooks, HooksOptions};

/// What every program that is run as a hook finds in its environment, beside what is said to it alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// Its `PATH`, in which the program is looked for too.
    pub path: String,
    /// Its `HOME`.
    pub home: String,
    /// Its `LANG`.
    pub lang: String,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
            home: "/".to_owned(),
            lang: "C.UTF-8".to_owned(),
        }
    }
}

/// What is wrong with a hook as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HookFault {
    /// It is not called as hooks are.
    #[error("the name of a hook has 1 to 64 small letters, digits, - and _; {0} is none")]
    Name(String),
    /// There is nothing to run.
    #[error("hook {0} names no program")]
    NoProgram(String),
    /// An environment variable or a header has a name that cannot be.
    #[error("hook {hook} cannot set {name}: {why}")]
    Setting {
        /// The hook.
        hook: String,
        /// The variable or header, safe to show.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Its address is none.
    #[error("the address of hook {hook} cannot be used: {why}")]
    Address {
        /// The hook.
        hook: String,
        /// What is wrong with it; the address itself may hold a secret.
        why: &'static str,
    },
    /// It has no time or no try.
    #[error("hook {0} needs a timeout and a number of tries above 0")]
    Never(String),
}

/// Says what is wrong with a hook; files that it names are not looked at.
pub fn check(hook: &HookOptions) -> Result<(), HookFault> {
    let name = || hook.name.clone();
    if !link::is_inbox_name(&hook.name) {
        return Err(HookFault::Name(files::escape(hook.name.as_bytes()).to_string()));
    }
    if hook.timeout.is_zero() || hook.tries == 0 {
        return Err(HookFault::Never(name()));
    }
    let setting = |of: &str, why| {
        let of = files::escape(of.as_bytes()).to_string();
        HookFault::Setting { hook: name(), name: of, why }
    };
    match &hook.action {
        HookAction::Command(command) => {
            if command.arguments.first().is_none_or(String::is_empty) {
                return Err(HookFault::NoProgram(name()));
            }
            for (variable, _) in &command.environment {
                if variable.is_empty() || variable.contains(['=', '\0']) {
                    return Err(setting(variable, "it is no name of a variable"));
                }
                if variable.starts_with("HAUL_") {
                    return Err(setting(variable, "names that begin with HAUL_ are set by haul"));
                }
            }
        }
        HookAction::Webhook(webhook) => {
            let address = Address::parse(&webhook.address);
            let address = address.map_err(|why| HookFault::Address { hook: name(), why })?;
            if webhook.token.is_some() && !address.is_tls && !address.is_here() {
                let why = "a token would be sent for all to read: use https";
                return Err(HookFault::Address { hook: name(), why });
            }
            for (header, _) in &webhook.headers {
                webhook::check_header(header).map_err(|why| setting(header, why))?;
            }
        }
    }
    Ok(())
}

/// One run of a hook.
struct Job<'a> {
    hook: &'a HookOptions,
    event: &'static str,
    inbox: &'a str,
    dataset: Option<&'a str>,
    /// The dataset's folder.
    path: Option<&'a Path>,
    /// The JSON object that it is given.
    body: &'a str,
    surroundings: &'a Surroundings,
}

impl Job<'_> {
    /// Runs it, for as long as it may take at most. Dropped, it ends what it has begun.
    async fn run(&self) -> Ran {
        match &self.hook.action {
            HookAction::Command(command) => command::run(self, command).await,
            HookAction::Webhook(webhook) => webhook::post(self, webhook).await,
        }
    }

    /// What tells a repeated telling from another one.
    fn key(&self) -> String {
        format!("{}-{}-{}", self.dataset.unwrap_or_default(), self.event, self.hook.name)
    }
}

#[cfg(test)]
pub(crate) mod rig;
#[cfg(test)]
mod tests;
