//! Rules for Rust source: what a module may touch, how long it may be, what it may be called, and what
//! must not be left behind in it.

use super::floors::{places, section};
use super::tokens::{PathUse, Token, functions, paths, tokens};
use super::{Finding, Project};

/// Above this a source file fails.
const MOST_LINES: usize = 1_000;
/// Above this a source file deserves a look.
const MANY_LINES: usize = 600;
/// Above this a function deserves a look.
const MANY_FUNCTION_LINES: usize = 100;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 9] =
    ["util", "utils", "common", "helper", "helpers", "manager", "core", "misc", "mod"];

/// One source file with what was found out about it.
struct Source<'a> {
    path: &'a str,
    text: &'a str,
    tokens: Vec<Token<'a>>,
    paths: Vec<PathUse<'a>>,
    /// The crate below `crates/` that it belongs to.
    krate: Option<&'a str>,
    is_test: bool,
}

/// Every finding in a Rust file, and pure modules that are not there.
pub fn check(project: &Project) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pure = pure_modules(project, &mut findings);
    let silent = silent_crates(project);
    let rust = || project.texts().filter(|(path, _)| path.ends_with(".rs"));
    let mut sources: Vec<Source<'_>> = rust().map(|(path, text)| Source::new(path, text)).collect();
    let for_tests: Vec<String> = sources.iter().flat_map(modules_for_tests).collect();
    for source in &mut sources {
        source.is_test |= for_tests.iter().any(|module| belongs_to(source.path, module));
    }
    for source in sources {
        let path = source.path;
        names(&source, &mut findings);
        leftovers(&source, &mut findings);
        lengths(&source, &mut findings);
        disk(&source, &mut findings);
        unwraps(&source, &mut findings);
        if source.krate.is_some_and(|krate| silent.contains(&krate)) {
            printing(&source, &mut findings);
        }
        if pure.iter().any(|module| belongs_to(path, module)) {
            purity(&source, &mut findings);
        }
    }
    findings
}

impl<'a> Source<'a> {
    fn new(path: &'a str, text: &'a str) -> Self {
        let tokens = tokens(text);
        let krate = path.strip_prefix("crates/").and_then(|rest| rest.split('/').next());
        let in_tests =
            path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/");
        let is_test = in_tests || krate == Some("testkit");
        Self { path, text, paths: paths(&tokens), tokens, krate, is_test }
    }

    fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding::new(self.path, line, message)
    }

    /// The lines outside of tests at which these tokens follow each other.
    fn places_of(&self, wanted: &[&str]) -> Vec<usize> {
        let outside = |window: &&[Token<'_>]| !self.is_test && !window[0].in_test;
        self.everywhere(wanted).filter(outside).map(|window| window[0].line).collect()
    }

    fn everywhere(&self, wanted: &[&str]) -> impl Iterator<Item = &[Token<'a>]> {
        let same = move |window: &&[Token<'_>]| {
            window.iter().zip(wanted).all(|(token, text)| token.text == *text)
        };
        self.tokens.windows(wanted.len()).filter(same)
    }

    /// The paths outside of tests.
    fn own_paths(&self) -> impl Iterator<Item = &PathUse<'a>> {
        self.paths.iter().filter(|path| !self.is_test && !path.in_test)
    }
}

/// The modules that the map calls pure; those that do not exist are findings.
fn pure_modules<'a>(project: &'a Project, findings: &mut Vec<Finding>) -> Vec<&'a str> {
    let map = project.text("ARCHITECTURE.md").unwrap_or_default();
    let mut modules = Vec::new();
    for (line, module) in section(map, "## Pure modules") {
        modules.push(module);
        if project.text(module).is_none() {
            let message =
                format!("the pure module {module} does not exist: mend the list or the module");
            findings.push(Finding::new("ARCHITECTURE.md", line, message));
        }
    }
    modules
}

/// Whether a file is the module or lies in its folder, its tests aside.
fn belongs_to(path: &str, module: &str) -> bool {
    let folder = module.strip_suffix(".rs").unwrap_or(module);
    path == module || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// The files of modules that a source file declares for tests only, as in `#[cfg(test)] mod rig;`.
fn modules_for_tests(source: &Source<'_>) -> Vec<String> {
    let stem = source.path.trim_end_matches(".rs");
    let (folder, file) = stem.rsplit_once('/').unwrap_or(("", stem));
    let folder = if ["lib", "main"].contains(&file) { folder } else { stem };
    let declared =
        source.tokens.windows(3).filter(|w| w[0].in_test && w[0].text == "mod" && w[2].text == ";");
    declared.map(|window| format!("{folder}/{}.rs", window[1].text)).collect()
}

/// The crates on floors 0 to 3: libraries, which never print.
fn silent_crates(project: &Project) -> Vec<&str> {
    places(project)
        .iter()
        .filter(|place| place.floor.is_some_and(|floor| floor <= 3))
        .map(|place| place.name)
        .collect()
}

fn names(source: &Source<'_>, findings: &mut Vec<Finding>) {
    let advice = |name: &str| match name {
        "mod" => "write `foo.rs` beside a folder `foo` in place of `foo/mod.rs`".to_owned(),
        _ => format!("`{name}` says nothing: name the module after what it does"),
    };
    for name in source.path.trim_end_matches(".rs").split('/') {
        if EMPTY_NAMES.contains(&name) {
            findings.push(source.finding(1, advice(name)));
        }
    }
    for window in source.tokens.windows(3) {
        let [keyword, name, open] = [window[0].text, window[1].text, window[2].text];
        if keyword == "mod" && open == "{" && EMPTY_NAMES.contains(&name) {
            findings.push(source.finding(window[1].line, advice(name)));
        }
    }
}

fn leftovers(source: &Source<'_>, findings: &mut Vec<Finding>) {
    for name in ["todo", "unimplemented", "dbg"] {
        for window in source.everywhere(&[name, "!"]) {
            findings.push(source.finding(
                window[0].line,
                format!("`{name}!` is left over: finish it or take it out"),
            ));
        }
    }
    for window in source.everywhere(&["#", "[", "ignore"]) {
        let message = "a disabled test: delete it, or let it assert what happens today and say why";
        findings.push(source.finding(window[0].line, message));
    }
}

fn lengths(source: &Source<'_>, findings: &mut Vec<Finding>) {
    if source.is_test {
        return;
    }
    let lines = source.text.lines().count();
    if lines > MOST_LINES {
        findings.push(
            source.finding(lines, format!("{lines} lines, {MOST_LINES} at most: split the module")),
        );
    } else if lines > MANY_LINES {
        let message = format!("{lines} lines: see whether the module is two");
        findings.push(Finding::warning(source.path, lines, message));
    }
    let long = |function: &&super::tokens::Function<'_>| {
        function.lines > MANY_FUNCTION_LINES && !function.in_test
    };
    for function in functions(&source.tokens).iter().filter(long) {
        let message = format!(
            "`{}` has {} lines: extract what deserves a name",
            function.name, function.lines
        );
        findings.push(Finding::warning(source.path, function.line, message));
    }
}

/// Calls that take a path outside of the one crate that may make them.
fn disk(source: &Source<'_>, findings: &mut Vec<Finding>) {
    if source.path.ends_with("/build.rs") || source.krate.is_none_or(|krate| krate == "files") {
        return;
    }
    for path in source.own_paths().filter(|path| takes_a_path(&path.segments)) {
        let shown = path.segments.join("::");
        findings
            .push(source.finding(path.line, format!("`{shown}` goes by a path: use `files::Dir`")));
    }
}

fn takes_a_path(segments: &[&str]) -> bool {
    match segments {
        // The type alone opens nothing.
        ["std" | "tokio", "fs", "File"] => false,
        ["std" | "tokio", "fs", ..] => true,
        ["File", "open" | "create" | "create_new" | "options"] => true,
        [.., "fs", "symlink" | "chown" | "lchown" | "chroot"] => true,
        _ => false,
    }
}

fn unwraps(source: &Source<'_>, findings: &mut Vec<Finding>) {
    if source.krate.is_none() {
        return;
    }
    for line in source.places_of(&[".", "unwrap", "("]) {
        let message = "`unwrap` is for tests: return an error, or say in `expect` why it holds";
        findings.push(source.finding(line, message));
    }
}

fn printing(source: &Source<'_>, findings: &mut Vec<Finding>) {
    if source.path.ends_with("/main.rs") || source.path.contains("/bin/") {
        return;
    }
    for name in ["println", "eprintln", "print", "eprint"] {
        for line in source.places_of(&[name, "!"]) {
            findings.push(source.finding(
                line,
                format!("a library does not print (`{name}!`): tell it as an event"),
            ));
        }
    }
}

fn purity(source: &Source<'_>, findings: &mut Vec<Finding>) {
    for path in source.own_paths().filter(|path| is_impure(&path.segments, path.imported)) {
        let shown = path.segments.join("::");
        let message =
            format!("`{shown}` in a pure module: move it to the shell, and hand its result in");
        findings.push(source.finding(path.line, message));
    }
    for line in source.places_of(&["panic", "!"]) {
        findings
            .push(source.finding(line, "`panic!` where peers' bytes are read: return an error"));
    }
}

fn is_impure(segments: &[&str], imported: bool) -> bool {
    const CRATES: [&str; 7] =
        ["tokio", "quinn", "quinn_proto", "socket2", "rustix", "rand", "getrandom"];
    let is_crate = CRATES.contains(&segments[0]) && (imported || segments.len() > 1);
    let is_socket =
        segments.iter().any(|name| ["TcpStream", "TcpListener", "UdpSocket"].contains(name));
    let is_clock =
        segments.ends_with(&["Instant", "now"]) || segments.ends_with(&["SystemTime", "now"]);
    let is_system = matches!(segments, ["std", "fs" | "env" | "process" | "thread", ..]);
    let is_random = segments.len() > 1 && segments.contains(&"rand");
    is_crate
        || is_socket
        || is_clock
        || is_system
        || is_random
        || segments.starts_with(&["File", "open"])
}

#[cfg(test)]
mod tests;
