//! Tokens, paths and functions of small pieces of source.

use super::*;

fn words(source: &str) -> String {
    tokens(source).iter().map(|token| token.text).collect::<Vec<_>>().join(" ")
}

#[test]
fn comments_and_literals_lose_their_insides() {
    assert_eq!(words("a // todo!()\nb /* x /* y */ z */ c"), "a b c");
    assert_eq!(words(r##"f("a \" b", r#"x " y"#, b"z", br"\")"##), "f ( \" , \" , \" , \" )");
    assert_eq!(
        words(r"match c { 'x' | '\'' | '\u{1}' => b'\\', }"),
        "match c { \" | \" | \" = > b \" , }"
    );
    assert_eq!(words("fn f<'a>(x: &'a str, r#type: u8)"), "fn f < > ( x : & str , type : u8 )");
    assert_eq!(words("let r = rank; br + 1_000.5"), "let r = rank ; br + 1_000 . 5");
}

#[test]
fn lines_are_counted_through_everything() {
    let source = "a\n/* 1\n2 */ b \"x\ny\" c\n'\\n' d";
    let lines: Vec<(&str, usize)> =
        tokens(source).iter().map(|token| (token.text, token.line)).collect();
    assert_eq!(lines, [("a", 1), ("b", 3), ("\"", 3), ("c", 4), ("\"", 5), ("d", 5)]);
}

#[test]
fn broken_source_ends_all_the_same() {
    for source in [
        "\"open",
        "r#\"open",
        "/* open",
        "'",
        "#[cfg(test)",
        "use a::{b",
        "fn f(",
        "é'é'é",
        "b'",
        "use",
        "#",
    ] {
        let found = tokens(source);
        paths(&found);
        functions(&found);
    }
}

#[test]
fn what_is_for_tests_is_marked() {
    let check = |source: &str, outside: &str| {
        let kept: Vec<&str> =
            tokens(source).iter().filter(|token| !token.in_test).map(|token| token.text).collect();
        assert_eq!(kept.join(" "), outside, "{source}");
    };
    check("a #[cfg(test)] mod tests; b", "a b");
    check("a #[cfg(test)] #[allow(x)] mod tests { fn f() { g() } } b", "a b");
    check("#[test] fn t() {} b", "b");
    check("#[tokio::test] async fn t() {} b", "b");
    check("#[cfg(any(test, fuzzing))] use x::{y, z}; b", "b");
    check("#[cfg(not(test))] b", "# [ cfg ( not ( test ) ) ] b");
    check("#[cfg(test)] const A: [u8; 2] = [1, 2]; b", "b");
}

#[test]
fn imports_are_written_out() {
    let check = |source: &str, expected: &[&str]| {
        let tokens = tokens(source);
        let found: Vec<String> =
            paths(&tokens).iter().map(|path| path.segments.join("::")).collect();
        assert_eq!(found, expected, "{source}");
    };
    check("use std::fs;", &["std::fs"]);
    check("use std::{fs::{self, File}, io as x};", &["std::fs", "std::fs::File", "std::io"]);
    check("pub use ::a::{b, c::*,}; d::e(f)", &["pub", "a::b", "a::c::*", "d::e", "f"]);
    check("fn f() -> impl use<'a> + g {}", &["fn", "f", "impl", "use", "g"]);
}

#[test]
fn functions_are_measured_from_fn_to_brace() {
    let source = "trait T { fn a(&self); }\nfn b(x: [u8; 2]) -> fn(u8) {\n  if x {\n }\n}\n#[test]\nfn c() {}";
    let found = tokens(source);
    let found: Vec<(&str, usize, bool)> =
        functions(&found).iter().map(|f| (f.name, f.lines, f.in_test)).collect();
    assert_eq!(found, [("b", 4, false), ("c", 1, true)]);
}
