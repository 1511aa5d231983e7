//! Rules for pages and for what every text file may hold: links lead somewhere, the contents page knows
//! every page, every fuzz target is described and fed, and no file names a folder of somebody's machine.

use super::{Finding, Project};

/// The contents page of the documentation.
const CONTENTS: &str = "docs/README.md";

/// Folders of somebody's machine. What follows may be a name that only ever stands in examples.
const WORKPLACES: [&str; 3] = ["/home/", "/root/", "/work/"];
const EXAMPLE_NAMES: [&str; 5] = ["ada", "alice", "bob", "user", "you"];

/// Files that name such folders for a reason: this rule, and what a tool wrote.
const MAY_NAME_WORKPLACES: [&str; 2] = ["xtask/src/tidy/", "Cargo.lock"];

/// Every finding in pages and in texts at large.
pub fn check(project: &Project) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in project.texts() {
        if path.ends_with(".md") {
            dead_links(project, path, text, &mut findings);
        }
        workplaces(path, text, &mut findings);
    }
    contents(project, &mut findings);
    fuzz_targets(project, &mut findings);
    findings
}

fn dead_links(project: &Project, path: &str, text: &str, findings: &mut Vec<Finding>) {
    for (line, link) in links(text) {
        let target = link.split('#').next().unwrap_or(link);
        if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let resolved = resolve(path, target);
        if !resolved.as_deref().is_some_and(|resolved| project.holds(resolved)) {
            findings.push(Finding::new(
                path,
                line,
                format!("the link `{link}` leads nowhere: mend or remove it"),
            ));
        }
    }
}

/// Line and target of every link of a page; what stands in a block of code is no link.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (at, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code || line.starts_with("    ") {
            continue;
        }
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, behind)) = after.split_once(')') else { break };
            found.push((at + 1, target));
            rest = behind;
        }
    }
    found
}

/// A link of a page as a path from the root; none when it climbs out of the project.
fn resolve(page: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

fn contents(project: &Project, findings: &mut Vec<Finding>) {
    let listed: Vec<String> = links(project.text(CONTENTS).unwrap_or_default())
        .into_iter()
        .filter_map(|(_, link)| resolve(CONTENTS, link.split('#').next().unwrap_or(link)))
        .collect();
    for (path, _) in project.texts() {
        if path.starts_with("docs/")
            && path.ends_with(".md")
            && path != CONTENTS
            && !listed.iter().any(|l| l == path)
        {
            findings.push(Finding::new(
                path,
                1,
                format!("no reader finds this page: link it from {CONTENTS}"),
            ));
        }
    }
}

fn fuzz_targets(project: &Project, findings: &mut Vec<Finding>) {
    const TABLE: &str = "fuzz/src/lib.rs";
    let Some(table) = project.text(TABLE) else { return };
    let page = project.text("fuzz/README.md").unwrap_or_default();
    for (line, name) in target_names(table) {
        if !page.contains(&format!("`{name}`")) {
            findings.push(Finding::new(
                TABLE,
                line,
                format!("say in fuzz/README.md what `{name}` holds"),
            ));
        }
        if !project.holds(&format!("fuzz/corpus/{name}")) {
            findings.push(Finding::new(
                TABLE,
                line,
                format!("give `{name}` a first input in fuzz/corpus/{name}"),
            ));
        }
    }
}

/// Line and name of each row `("name", …)` in the table of targets.
fn target_names(table: &str) -> Vec<(usize, &str)> {
    let lines = table.lines().enumerate().skip_while(|(_, line)| !line.contains("const TARGETS"));
    let mut found = Vec::new();
    for (at, line) in lines {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("(\"") {
            let Some((name, behind)) = after.split_once('"') else { break };
            found.push((at + 1, name));
            rest = behind;
        }
        if line.contains("];") {
            break;
        }
    }
    found
}

fn workplaces(path: &str, text: &str, findings: &mut Vec<Finding>) {
    if MAY_NAME_WORKPLACES.iter().any(|allowed| path.starts_with(allowed)) {
        return;
    }
    for (at, line) in text.lines().enumerate() {
        if let Some(folder) = WORKPLACES.into_iter().find(|folder| names_workplace(line, folder)) {
            let message = format!(
                "`{folder}` is a folder of somebody's machine: name it from the project's root"
            );
            findings.push(Finding::new(path, at + 1, message));
        }
    }
}

/// Whether the folder stands there as the start of a path, with no name of an example behind it.
fn names_workplace(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let starts_path =
            before.is_none_or(|letter| !letter.is_alphanumeric() && !"_~.}/-*".contains(letter));
        let after = &line[at + folder.len()..];
        let end = after.find(|letter: char| !letter.is_alphanumeric()).unwrap_or(after.len());
        starts_path && !EXAMPLE_NAMES.contains(&&after[..end])
    })
}

#[cfg(test)]
mod tests;
