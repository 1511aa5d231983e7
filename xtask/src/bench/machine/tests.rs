use super::*;

#[test]
fn changes_of_pages_alone_are_no_changes() {
    for (status, changed) in [
        ("", false),
        // The blank before the first letter is cut off with the others around what a program prints.
        ("M docs/benchmarks.md\n M docs/benchmarks.json\n?? docs/plots/row-1.svg", false),
        ("M  docs/a.md\n?? \"docs/two words.md\"", false),
        ("M docs/benchmarks.md\n M xtask/src/bench.rs", true),
        ("?? crates/link/src/new.rs", true),
        ("R  docs/a.md -> docs/b.md", false),
        ("R  crates/a.rs -> docs/a.rs", true),
        ("R  docs/a.rs -> crates/a.rs", true),
        ("M docsets.toml", true),
    ] {
        assert_eq!(has_changes(status), changed, "{status}");
    }
}
