//! Floors in a project of three crates.

use crate::tidy::tests::{project, shown};

const MAP: &str = "# Map\n\n## Floors\n\nWords.\n\n    floor 4   haul        the binary and tree\n    floor 1   link  tree\n    \
    floor 0   files\n    tests     testkit     for tests\n\n## Next\n\n    floor 9   link\n";

/// Findings when `link` has this manifest.
fn findings(manifest: &str) -> Vec<String> {
    let others =
        ["haul", "tree", "files", "testkit"].map(|name| format!("crates/{name}/Cargo.toml"));
    let mut files = vec![("ARCHITECTURE.md", MAP), ("crates/link/Cargo.toml", manifest)];
    files.extend(others.iter().map(|path| (path.as_str(), "[dependencies]\n")));
    shown(&super::check(&project(&files)))
}

#[test]
fn below_is_allowed_and_beside_and_above_are_not() {
    let check = |manifest: &str, expected: &[&str]| {
        let found = findings(manifest);
        assert_eq!(found.len(), expected.len(), "{manifest}: {found:?}");
        for (finding, expected) in found.iter().zip(expected) {
            assert!(
                finding.starts_with(&format!("crates/link/Cargo.toml:{expected}")),
                "{finding}"
            );
        }
    };
    check("[dependencies]\nfiles.workspace = true\nserde = \"1\"\n", &[]);
    check("[package]\nname = \"link\"\ntree = 1\n", &[]);
    check(
        "[dependencies]\ntree.workspace = true\n",
        &["2: `link` on floor 1 must not import `tree` on floor 1"],
    );
    check(
        "[dependencies]\nhaul = { path = \"../haul\" }\n",
        &["2: `link` on floor 1 must not import `haul`"],
    );
    check("[dependencies.haul]\nworkspace = true\n", &["1: "]);
    check("[target.'cfg(unix)'.dependencies]\nhaul.workspace = true\n", &["2: "]);
    check("[dev-dependencies]\ntestkit.workspace = true\n", &[]);
    check("[dev-dependencies]\nhaul.workspace = true\n", &["2: "]);
    check("[dependencies]\ntestkit.workspace = true\n", &["2: `testkit` is for tests"]);
    check("[dependencies]\n# haul = 1\n", &[]);
}

#[test]
fn a_crate_without_a_floor_is_told_to_get_one() {
    let found =
        shown(&super::check(&project(&[("ARCHITECTURE.md", MAP), ("crates/new/Cargo.toml", "")])));
    assert_eq!(
        found,
        ["crates/new/Cargo.toml:1: give `new` a place in the floors of ARCHITECTURE.md"]
    );
}
