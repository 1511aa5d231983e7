//! Floors: a crate imports only from floors below its own. The table in `ARCHITECTURE.md` is the rule,
//! and the manifests are held against it, dependencies for tests included.

use super::{Finding, Project};

/// Where the table is.
const MAP: &str = "ARCHITECTURE.md";

/// What the table says of one crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place<'a> {
    /// The crate's name, which is its folder's.
    pub name: &'a str,
    /// Its floor; none for what only tests may import.
    pub floor: Option<u32>,
}

/// Every manifest that imports what it must not, and every crate without a floor.
pub fn check(project: &Project) -> Vec<Finding> {
    let places = places(project);
    let mut findings = Vec::new();
    for (path, text) in project.texts() {
        let Some(name) =
            path.strip_prefix("crates/").and_then(|rest| rest.strip_suffix("/Cargo.toml"))
        else {
            continue;
        };
        let Some(place) = places.iter().find(|place| place.name == name) else {
            findings.push(Finding::new(
                path,
                1,
                format!("give `{name}` a place in the floors of {MAP}"),
            ));
            continue;
        };
        findings.extend(manifest(path, text, place, &places));
    }
    findings
}

/// The crates of the table that exist. A row is `floor N`, names, and then words that are no names.
pub fn places(project: &Project) -> Vec<Place<'_>> {
    let text = project.text(MAP).unwrap_or_default();
    let mut places = Vec::new();
    for (_, line) in section(text, "## Floors") {
        let mut words = line.split_whitespace().peekable();
        let floor = match words.next() {
            Some("floor") => match words.next().and_then(|number| number.parse().ok()) {
                Some(number) => Some(number),
                None => continue,
            },
            Some("tests") => None,
            _ => continue,
        };
        // The description comes after the names and may use one of them as a word.
        for name in words.take_while(|word| project.holds(&format!("crates/{word}/Cargo.toml"))) {
            places.push(Place { name, floor });
        }
    }
    places
}

/// The indented lines below a heading, with their numbers.
pub fn section<'a>(text: &'a str, heading: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let lines = text.lines().enumerate().skip_while(move |(_, line)| *line != heading).skip(1);
    let lines = lines.take_while(|(_, line)| !line.starts_with("## "));
    lines.filter(|(_, line)| line.starts_with("    ")).map(|(at, line)| (at + 1, line.trim()))
}

fn manifest(path: &str, text: &str, place: &Place<'_>, places: &[Place<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, table, dependency) in dependencies(text) {
        let Some(other) = places.iter().find(|other| other.name == dependency) else { continue };
        let message = match (place.floor, other.floor) {
            // What serves the tests may import anything.
            (None, _) => continue,
            (Some(_), None) if table == "dev-dependencies" => continue,
            (Some(_), None) => {
                format!("`{dependency}` is for tests: move it to [dev-dependencies]")
            }
            (Some(mine), Some(theirs)) if theirs < mine => continue,
            (Some(mine), Some(theirs)) => format!(
                "`{}` on floor {mine} must not import `{dependency}` on floor {theirs}: move what both need below \
                 both, or hand it in as an argument",
                place.name
            ),
        };
        findings.push(Finding::new(path, line, message));
    }
    findings
}

/// Line, table and name of every dependency in a manifest. It reads the forms that Cargo's own commands
/// write: `name = …`, `name.workspace = …` and `[dependencies.name]`.
fn dependencies(text: &str) -> Vec<(usize, &str, &str)> {
    const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let mut found = Vec::new();
    let mut table = None;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let (before, last) = header.rsplit_once('.').unwrap_or(("", header));
            let named = |text: &str| TABLES.into_iter().find(|name| *name == text);
            table = named(last);
            // `[dependencies.name]` is a dependency by itself, and its keys are none.
            if let Some(outer) = named(before.rsplit('.').next().unwrap_or(before)) {
                found.push((at + 1, outer, last));
            }
        } else if let (Some(table), Some((key, _))) = (table, line.split_once('=')) {
            let name = key.split('.').next().unwrap_or(key).trim();
            if !name.starts_with('#') {
                found.push((at + 1, table, name.trim_matches('"')));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
