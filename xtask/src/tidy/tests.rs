//! What the rules share: finding files and folders, and how a finding reads.

use super::*;

/// A project of these paths and texts, for the tests of the rules.
pub fn project(files: &[(&str, &str)]) -> Project {
    let file = |(path, text): &(&str, &str)| File {
        path: (*path).to_owned(),
        text: Some((*text).to_owned()),
    };
    Project { files: files.iter().map(file).collect() }
}

/// `line message` for each finding, warnings marked.
pub fn shown(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(Finding::to_string).collect()
}

#[test]
fn files_and_folders_are_found_by_whole_components() {
    let project = project(&[("docs/formats/a.md", "")]);
    assert!(
        project.holds("docs/formats/a.md")
            && project.holds("docs/formats")
            && project.holds("docs/")
    );
    assert!(!project.holds("docs/form") && !project.holds("a.md"));
}

#[test]
fn a_finding_names_its_place() {
    assert_eq!(Finding::new("a.rs", 3, "mend it").to_string(), "a.rs:3: mend it");
    assert_eq!(Finding::warning("a.rs", 3, "look").to_string(), "a.rs:3: warning: look");
}

/// The rules hold for the project itself, as far as its files are there to be read.
#[test]
fn the_project_can_be_read() {
    let project = Project::read(&steps::root()).expect("git lists the files");
    assert!(project.text("Cargo.toml").is_some());
}
