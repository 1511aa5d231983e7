//! Each rule on the smallest source that breaks it, and on one beside it that does not.

use crate::tidy::tests::{project, shown};

const MAP: &str = "## Floors\n\n    floor 4   haul\n    floor 1   link\n    floor 0   files\n\n## Pure modules\n\n    \
    crates/link/src/wire.rs\n";

fn findings(path: &str, text: &str) -> Vec<String> {
    let mut files = vec![
        ("ARCHITECTURE.md", MAP),
        ("crates/haul/Cargo.toml", ""),
        ("crates/link/Cargo.toml", ""),
        ("crates/files/Cargo.toml", ""),
        (path, text),
    ];
    if path != "crates/link/src/wire.rs" {
        files.push(("crates/link/src/wire.rs", ""));
    }
    shown(&super::check(&project(&files)))
}

#[track_caller]
fn bad(path: &str, text: &str, expected: &str) {
    let found = findings(path, text);
    assert!(found.len() == 1 && found[0].contains(expected), "{path}: {text}: {found:?}");
}

#[track_caller]
fn good(path: &str, text: &str) {
    assert_eq!(findings(path, text), Vec::<String>::new(), "{path}: {text}");
}

#[test]
fn paths_on_disk_belong_to_files() {
    let lane = "crates/link/src/lane.rs";
    bad(lane, "fn f() {\n std::fs::read(p)?; }", "lane.rs:2: `std::fs::read` goes by a path");
    bad(lane, "use std::{fs, io};", "`std::fs`");
    bad(lane, "use tokio::fs::File as F;\nfn f() { tokio::fs::read(p) }", "`tokio::fs::read`");
    bad(lane, "use std::fs::File;\nfn f() { File::open(p) }", "`File::open`");
    bad(lane, "fn f() { std::os::unix::fs::symlink(a, b) }", "symlink");
    good(lane, "use std::fs::File;\nfn f(file: &File, other: std::fs::File) {}");
    good(lane, "use std::os::unix::fs::PermissionsExt;");
    good(lane, "// std::fs::read\n#[cfg(test)]\nmod tests { use std::fs; }");
    for path in
        ["crates/files/src/dir.rs", "crates/link/src/lane/tests.rs", "crates/haul/tests/it/main.rs"]
    {
        good(path, "use std::fs;");
    }
    good("crates/testkit/src/crash.rs", "use std::fs;");
    good("xtask/src/main.rs", "use std::fs;");
    good("crates/haul/build.rs", "use std::fs;");
}

#[test]
fn pure_modules_touch_nothing() {
    let wire = "crates/link/src/wire.rs";
    bad(wire, "use tokio::sync::mpsc;", "`tokio::sync::mpsc` in a pure module");
    bad(wire, "use std::net::{IpAddr, UdpSocket};", "UdpSocket");
    bad(wire, "fn f() { Instant::now() }", "Instant::now");
    bad(wire, "use ring::rand;", "ring::rand");
    bad("crates/link/src/wire/varint.rs", "use quinn::Connection;", "quinn");
    bad(wire, "fn f() { panic!() }", "return an error");
    good(
        wire,
        "use std::net::IpAddr; use std::time::Instant; fn f(now: Instant, rand: u8) { g(rand) }",
    );
    good("crates/link/src/wire/tests.rs", "use tokio::sync::mpsc;");
    good("crates/link/src/wires.rs", "use tokio::sync::mpsc;");
}

#[test]
fn a_pure_module_must_exist() {
    let map = project(&[("ARCHITECTURE.md", MAP)]);
    let found = shown(&super::check(&map));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with(
            "ARCHITECTURE.md:9: the pure module crates/link/src/wire.rs does not exist"
        )
    );
}

#[test]
fn long_files_and_functions() {
    let lane = "crates/link/src/lane.rs";
    bad(lane, &"//\n".repeat(1_001), "1001 lines, 1000 at most");
    bad(lane, &"//\n".repeat(601), "warning: 601 lines");
    good(lane, &"//\n".repeat(600));
    good("crates/link/src/lane/tests.rs", &"//\n".repeat(1_001));
    bad(
        lane,
        &format!("fn f() {{\n{}}}", "//\n".repeat(99)),
        "lane.rs:1: warning: `f` has 101 lines",
    );
    good(lane, &format!("fn f() {{\n{}}}", "//\n".repeat(98)));
}

#[test]
fn names_that_say_nothing() {
    bad("crates/link/src/util.rs", "", "`util` says nothing");
    bad("crates/link/src/common/a.rs", "", "`common` says nothing");
    bad("crates/link/src/lane/mod.rs", "", "`foo.rs` beside a folder");
    bad("crates/link/src/lane.rs", "mod helper { }", "`helper` says nothing");
    good("crates/link/src/lane.rs", "use core::fmt; mod utility { }");
}

#[test]
fn leftovers_are_found_in_tests_too() {
    bad("crates/link/src/lane.rs", "fn f() { todo!() }", "`todo!` is left over");
    bad("xtask/src/a.rs", "fn f() { dbg!(1); }", "`dbg!`");
    bad(
        "crates/link/src/lane/tests.rs",
        "#[test]\n#[ignore = \"slow\"]\nfn f() {}",
        "tests.rs:2: a disabled test",
    );
    good("crates/link/src/lane.rs", "const A: &str = \"todo!()\"; fn todo() {}");
}

#[test]
fn unwraps_and_prints() {
    let lane = "crates/link/src/lane.rs";
    bad(lane, "fn f() { g().unwrap() }", "`unwrap` is for tests");
    good(lane, "fn f() { g().unwrap_or(1); g().expect(\"why\") }");
    good("crates/link/src/lane/tests.rs", "fn f() { g().unwrap() }");
    good("xtask/src/a.rs", "fn f() { g().unwrap(); println!() }");
    bad(lane, "fn f() { eprintln!(\"x\") }", "a library does not print");
    good("crates/haul/src/render.rs", "fn f() { println!(\"x\") }");
    good("crates/link/src/main.rs", "fn main() { println!(\"x\") }");
}

#[test]
fn modules_that_are_declared_for_tests_are_tests() {
    let found = |declaration: &str| {
        shown(&super::check(&project(&[
            ("crates/link/src/lib.rs", declaration),
            ("crates/link/src/rig.rs", "#[cfg(test)]\nmod inner;\nfn f() { g().unwrap() }"),
            ("crates/link/src/rig/inner.rs", "use std::fs;"),
        ])))
    };
    assert_eq!(found("#[cfg(test)]\nmod rig;"), Vec::<String>::new());
    let lines = found("mod rig;");
    assert!(
        lines.len() == 1 && lines[0].starts_with("crates/link/src/rig.rs:3: `unwrap`"),
        "{lines:?}"
    );
}
