//! What the words of `haul cp` ask for, before anything is dialled.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use files::Name;
use transfer::host::SourceRoot;
use tree::Glob;

use crate::address::{Address, Host};
use crate::exports::typed_name;
use crate::landing::Wish;
use crate::local;
use crate::report::{Code, Failure};

/// One job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// From here to another machine.
    Push {
        /// What.
        given: Given,
        /// To whom.
        host: Host,
        /// Where to, as typed.
        path: Vec<u8>,
        /// What is said about the target.
        wish: Wish,
    },
    /// From another machine to here.
    Pull {
        /// From whom.
        host: Host,
        /// What, as typed.
        paths: Vec<Vec<u8>>,
        /// Where to.
        taken: Taken,
        /// What is said about the target.
        wish: Wish,
    },
    /// From another machine to a third one.
    Third {
        /// From whom.
        from: Host,
        /// What, as typed.
        paths: Vec<Vec<u8>>,
        /// To whom.
        to: Host,
        /// Where to, as typed.
        path: Vec<u8>,
        /// What is said about the target.
        wish: Wish,
    },
    /// From here to here.
    Local {
        /// What.
        given: Given,
        /// Where to.
        target: PathBuf,
        /// What is said about the target.
        wish: Wish,
    },
}

/// What of this machine is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// Files and folders.
    Paths(Vec<PathBuf>),
    /// Standard input, to be offered under this name.
    Pipe(Name),
}

/// Where on this machine it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// A path.
    Path(PathBuf),
    /// Standard output.
    Pipe,
}

impl Plan {
    /// Whether standard output belongs to the data.
    pub fn writes_to_stdout(&self) -> bool {
        matches!(self, Self::Pull { taken: Taken::Pipe, .. })
    }
}

/// Finds the job that the words ask for: sources, and last the target. With `listed` there is one source,
/// a folder, of which only what is in a list is wanted.
pub fn plan(words: &[OsString], listed: bool) -> Result<Plan, Failure> {
    let Some((target, sources)) = words.split_last().filter(|(_, sources)| !sources.is_empty())
    else {
        return Err(usage("a SOURCE and a TARGET are needed")
            .hint("haul cp SOURCE HOST:TARGET; see haul cp --help"));
    };
    let target = parse(target)?;
    let mut sources = sources.iter().map(|word| parse(word)).collect::<Result<Vec<_>, _>>()?;
    if listed {
        sources = vec![contents_of(sources)?];
    }
    let hosts: Vec<Option<&Host>> = sources.iter().map(Address::host).collect();
    let first = hosts.first().copied().flatten();
    if hosts.iter().any(|host| *host != first) {
        return Err(usage("all sources of one command must be on one machine")
            .hint("copy from each machine with a command of its own"));
    }
    match (first.cloned(), target) {
        (Some(from), Address::Far { host: to, path }) => {
            let Asked { paths, contents, has_pattern } = far_paths(sources)?;
            let wish = wish(paths.len(), path.ends_with(b"/") || has_pattern, contents);
            Ok(Plan::Third { from, paths, to, path, wish })
        }
        (Some(host), target) => pull(host, sources, target),
        (None, Address::Far { host, path }) => {
            let (given, wish) = given(sources, &path)?;
            Ok(Plan::Push { given, host, path, wish })
        }
        (None, Address::Local(target)) => {
            let (given, wish) = given(sources, target.as_os_str().as_bytes())?;
            Ok(Plan::Local { given, target, wish })
        }
        (None, Address::Pipe) => {
            Err(usage("a file of this machine needs no haul to be written to standard output"))
        }
    }
}

/// What is wanted of another machine.
struct Asked {
    /// Paths as typed, of which no two have one name.
    paths: Vec<Vec<u8>>,
    /// They mean what is in a folder.
    contents: bool,
    /// Some of them are patterns.
    has_pattern: bool,
}

fn far_paths(sources: Vec<Address>) -> Result<Asked, Failure> {
    let paths: Vec<Vec<u8>> = sources
        .into_iter()
        .filter_map(|source| match source {
            Address::Far { path, .. } => Some(path),
            Address::Local(_) | Address::Pipe => None,
        })
        .collect();
    // What a pattern stands for is known there only, and so is whether two of its names are the same.
    let is_pattern = |path: &&Vec<u8>| Glob::parse(path).is_some_and(|pattern| pattern.is_wild());
    let has_pattern = paths.iter().any(|path| is_pattern(&path));
    check_names(paths.iter().filter(|path| !is_pattern(path)).map(|path| typed_name(path)))?;
    let contents = check_contents(paths.iter().map(|path| means_contents(path)))?;
    Ok(Asked { paths, contents, has_pattern })
}

fn pull(host: Host, sources: Vec<Address>, target: Address) -> Result<Plan, Failure> {
    let Asked { paths, contents, has_pattern } = far_paths(sources)?;
    let taken = match target {
        Address::Local(path) => Taken::Path(path),
        _ if paths.len() > 1 || contents => {
            return Err(usage("only one file can be written to standard output"));
        }
        _ if has_pattern => {
            let text =
                "only one file can be written to standard output, and a pattern may mean several";
            return Err(usage(text).hint("a backslash before * ? or [ makes it a plain character"));
        }
        _ => Taken::Pipe,
    };
    let slash = match &taken {
        Taken::Path(path) => path.as_os_str().as_bytes().ends_with(b"/"),
        Taken::Pipe => false,
    };
    let wish = wish(paths.len(), slash || has_pattern, contents);
    Ok(Plan::Pull { host, paths, taken, wish })
}

/// The target of `folder/.` is made if it is missing, also where a slash stands behind it.
fn wish(sources: usize, slash: bool, contents: bool) -> Wish {
    Wish { into_folder: !contents && (sources > 1 || slash), contents, named: false }
}

fn given(sources: Vec<Address>, target: &[u8]) -> Result<(Given, Wish), Failure> {
    let slash = target.ends_with(b"/");
    if sources.contains(&Address::Pipe) {
        if sources.len() > 1 {
            return Err(usage("standard input cannot be copied together with other sources"));
        }
        let name = typed_name(target).filter(|_| !slash).ok_or_else(|| {
            usage("standard input has no name: the target must say the name of the file")
        })?;
        return Ok((Given::Pipe(name), Wish::default()));
    }
    let paths: Vec<PathBuf> = sources
        .into_iter()
        .filter_map(|source| match source {
            Address::Local(path) => Some(path),
            Address::Far { .. } | Address::Pipe => None,
        })
        .collect();
    // What has no last name, as `..` and `/`, stands for what is in it too.
    let all = paths.iter().map(|path| typed_name(path.as_os_str().as_bytes()).is_none());
    let contents = check_contents(all)?;
    let wish = wish(paths.len(), slash, contents);
    Ok((Given::Paths(paths), wish))
}

/// Whether the one source is the contents of a folder.
fn check_contents(sources: impl Iterator<Item = bool>) -> Result<bool, Failure> {
    let all: Vec<bool> = sources.collect();
    if all.len() > 1 && all.contains(&true) {
        return Err(usage("a source that ends in /. must be the only one"));
    }
    Ok(all.contains(&true))
}

/// What is in the one folder that a list goes with.
fn contents_of(sources: Vec<Address>) -> Result<Address, Failure> {
    let mut sources = sources.into_iter();
    match (sources.next(), sources.next()) {
        (Some(Address::Local(path)), None) => Ok(Address::Local(path.join("."))),
        (Some(Address::Far { host, mut path }), None) => {
            if !path.is_empty() && !path.ends_with(b"/") {
                path.push(b'/');
            }
            path.push(b'.');
            Ok(Address::Far { host, path })
        }
        _ => Err(usage(
            "with --files-from there is one SOURCE, the folder that the names are relative to",
        )),
    }
}

fn means_contents(path: &[u8]) -> bool {
    path == b"." || path.ends_with(b"/.")
}

/// Refuses two sources that would land under one name.
pub fn check_names(names: impl Iterator<Item = Option<Name>>) -> Result<(), Failure> {
    let mut seen = HashSet::new();
    for name in names.flatten() {
        if seen.contains(&name) {
            return Err(usage(format!(
                "two sources are called {name}, and one would replace the other"
            ))
            .hint("copy them one after the other, each to a name of its own"));
        }
        seen.insert(name);
    }
    Ok(())
}

/// The sources, opened; two of the same name are refused before anything is sent.
pub fn sources(paths: &[PathBuf]) -> anyhow::Result<Vec<SourceRoot>> {
    let sources =
        paths.iter().map(|path| local::source(path)).collect::<anyhow::Result<Vec<_>>>()?;
    check_names(sources.iter().map(|source| source.name.clone()))?;
    Ok(sources)
}

fn parse(word: &OsStr) -> Result<Address, Failure> {
    Address::parse(word).map_err(|error| {
        let shown = files::escape(word.as_bytes());
        usage(format!("'{shown}' is no SOURCE or TARGET: {error}"))
    })
}

fn usage(text: impl Into<String>) -> Failure {
    Failure::new(Code::Usage, text)
}

#[cfg(test)]
mod tests;
