//! Links, contents, fuzz targets and workplaces in small projects.

use crate::tidy::tests::{project, shown};

fn findings(files: &[(&str, &str)]) -> Vec<String> {
    shown(&super::check(&project(files)))
}

#[test]
fn links_lead_to_files_or_folders() {
    let check = |text: &str, dead: &[&str]| {
        let found = findings(&[("a/page.md", text), ("a/other.md", ""), ("b/c/d.md", "")]);
        let expected: Vec<String> = dead
            .iter()
            .map(|link| format!("a/page.md:1: the link `{link}` leads nowhere"))
            .collect();
        assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
        assert!(
            found.iter().zip(&expected).all(|(found, expected)| found.starts_with(expected)),
            "{found:?}"
        );
    };
    check("[x](other.md) [y](other.md#part) [z](#here)", &[]);
    check("[x](../b/c/d.md) [y](../b/c) [z](../b/c/)", &[]);
    check("[x](https://example.org/a) [y](mailto:a@example.org)", &[]);
    check("[x](missing.md) [y](other.md)", &["missing.md"]);
    check("[x](../../other.md)", &["../../other.md"]);
    check("    [x](code.md)", &[]);
    check("```\n[x](code.md)\n```", &[]);
}

#[test]
fn the_contents_page_links_every_page() {
    let found = findings(&[
        ("docs/README.md", "[a](formats/a.md)"),
        ("docs/formats/a.md", ""),
        ("docs/formats/b.md", ""),
        ("docs/formats/b.json", ""),
    ]);
    assert_eq!(
        found,
        ["docs/formats/b.md:1: no reader finds this page: link it from docs/README.md"]
    );
}

#[test]
fn fuzz_targets_are_described_and_fed() {
    let table = "pub const TARGETS: &[(&str, Target)] = &[\n    (\"one\", f),\n    (\"two\", g),\n];\nconst B: T = (\"no\", 1);";
    let found = findings(&[
        ("fuzz/src/lib.rs", table),
        ("fuzz/README.md", "`one` and what it does"),
        ("fuzz/corpus/two/a", ""),
    ]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("fuzz/src/lib.rs:2: give `one` a first input"));
    assert!(found[1].starts_with("fuzz/src/lib.rs:3: say in fuzz/README.md what `two` holds"));
}

#[test]
fn workplaces_are_found_and_examples_are_not() {
    let check = |text: &str, expected: bool| {
        assert_eq!(!findings(&[("a.txt", text)]).is_empty(), expected, "{text}");
    };
    check("see /work/main/a.rs", true);
    check("\"/root/.ssh\"", true);
    check("cd /home/carol", true);
    check("/home/alice/data and /home/bob", false);
    check("~/work/a, $HOME/work/a, https://example.org/work/a, crates/work/a", false);
    check("network/root/x", false);
}
