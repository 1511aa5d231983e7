//! Source paths that are patterns. A path that stands there as it is written is meant as it is written;
//! otherwise it is what a shell would make of it, of what the peer may see.

use files::RelPath;
use link::Permissions;
use transfer::host::{Refusal, SourceRoot};
use transfer::message::RefuseCode;
use tree::{Glob, NameGlob};

use super::{Export, Exports, full_path, leads_to, strip_dots, strip_slashes};
use crate::glob::{self, Budget, Match, Rights, check_apart, pattern_of};
use crate::landing::refusal;

/// What a peer may do in one export.
struct InExport<'a> {
    export: &'a Export,
    allowed: &'a Permissions,
}

impl Rights for InExport<'_> {
    fn sees(&self, path: &RelPath) -> bool {
        leads_to(self.allowed, &full_path(self.export, path))
    }

    fn takes(&self, path: &RelPath) -> bool {
        self.allowed.covers(&full_path(self.export, path))
    }
}

/// An export that a pattern may lie in, and what is behind its name; none where the export itself is meant.
type Meant<'e, 't> = (&'e Export, Option<&'t [u8]>);

impl Exports {
    /// What all these paths stand for.
    pub(super) fn all_sources(
        &self,
        paths: &[Vec<u8>],
        allowed: &Permissions,
    ) -> Result<Vec<SourceRoot>, Refusal> {
        let mut budget = Budget::default();
        let mut sources = Vec::new();
        let mut expanded = false;
        for typed in paths {
            match pattern_of(typed).filter(|_| !self.has(typed, allowed)) {
                None => sources.push(self.source(typed, allowed)?),
                Some((pattern, contents)) => {
                    expanded = true;
                    let found = self.matching(typed, &pattern, allowed, &mut budget)?;
                    let of = |(export, found): (&Export, Match)| SourceRoot {
                        root: export.dir.clone(),
                        path: found.path,
                        name: (!contents).then_some(found.name),
                        max_rate_bytes_per_s: allowed.max_rate_bytes_per_s,
                        only: None,
                    };
                    sources.extend(found.into_iter().map(of));
                }
            }
        }
        if expanded {
            check_apart(&sources)?;
        }
        Ok(sources)
    }

    /// Whether the peer may know that something stands there under just this path.
    fn has(&self, typed: &[u8], allowed: &Permissions) -> bool {
        self.find(typed, allowed).is_ok_and(|found| {
            let attributes = found.export.dir.attributes_of(&found.path);
            allowed.covers(&found.full()) && attributes.is_ok()
        })
    }

    /// What a pattern stands for in all exports, at least one.
    fn matching(
        &self,
        typed: &[u8],
        pattern: &Glob,
        allowed: &Permissions,
        budget: &mut Budget,
    ) -> Result<Vec<(&Export, Match)>, Refusal> {
        let mut found = Vec::new();
        for (export, rest) in self.meant(typed, allowed)? {
            let rights = InExport { export, allowed };
            let Some(rest) = rest else {
                // The pattern is one for the names of exports.
                let root = RelPath::root();
                if rights.takes(&root) {
                    found.push((export, Match { path: root, name: export.name.clone() }));
                }
                continue;
            };
            let below = match Glob::parse(strip_slashes(rest)) {
                Some(below) => below,
                // Only the first name was a pattern, or only an escape of it.
                None => {
                    let full = [export.name.as_bytes(), rest].concat();
                    if self.has(&full, allowed) {
                        let source = self.source(&full, allowed)?;
                        let name = source.name.unwrap_or_else(|| export.name.clone());
                        found.push((export, Match { path: source.path, name }));
                    }
                    continue;
                }
            };
            let below = glob::expand(&export.dir, &below, &rights, budget)?;
            found.extend(below.into_iter().map(|found| (export, found)));
        }
        if found.is_empty() {
            let shown = files::escape(typed);
            let text = match pattern.is_wild() {
                true => format!("no file matches {shown}"),
                false => format!("cannot use {shown}: it does not exist"),
            };
            return Err(refusal(RefuseCode::NotFound, text));
        }
        Ok(found)
    }

    /// The exports that a pattern may lie in.
    fn meant<'a>(
        &self,
        typed: &'a [u8],
        allowed: &Permissions,
    ) -> Result<Vec<Meant<'_, 'a>>, Refusal> {
        let trimmed = strip_dots(typed);
        let end = trimmed.iter().position(|byte| *byte == b'/').unwrap_or(trimmed.len());
        let (first, rest) = trimmed.split_at(end);
        let names = NameGlob::parse(first).filter(|_| self.list().len() > 1);
        let is_named = self.list().iter().any(|export| export.name.as_bytes() == first);
        let Some(names) = names.filter(|_| !is_named && !typed.starts_with(b"/")) else {
            let (export, rest) = self.split(typed, allowed)?;
            return Ok(vec![(export, Some(rest))]);
        };
        let meant = |export: &&Export| {
            let name = export.name.as_bytes();
            names.matches(name) && leads_to(allowed, name)
        };
        // Nothing is behind them where the pattern has no more than one name.
        let rest = (!strip_slashes(rest).is_empty()).then_some(rest);
        let mut found: Vec<&Export> = self.list().iter().filter(meant).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found.into_iter().map(|export| (export, rest)).collect())
    }
}
