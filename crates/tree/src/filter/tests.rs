//! Which rule matches which path, as tables.

use super::*;

fn filter(rules: &[Rule]) -> Filter {
    Filter::new(rules.to_vec()).unwrap()
}

/// Whether a single pattern matches a path; a slash at the path's end makes it a directory.
#[track_caller]
fn check(pattern: &[u8], matched: &[&[u8]], unmatched: &[&[u8]]) {
    let filter = filter(&[Rule::exclude(pattern)]);
    for (paths, expected) in [(matched, Verdict::Exclude), (unmatched, Verdict::Include)] {
        for path in paths {
            let (bare, is_dir) = match path.strip_suffix(b"/") {
                Some(bare) => (bare, true),
                None => (*path, false),
            };
            let got = filter.matches_bytes(bare, is_dir);
            let (pattern, path) = (pattern.escape_ascii(), path.escape_ascii());
            assert_eq!(got, expected, "pattern '{pattern}', path '{path}'");
        }
    }
}

#[test]
fn a_name_matches_at_any_depth() {
    check(b"foo", &[b"foo", b"foo/", b"a/foo", b"a/b/foo"], &[b"foo/a", b"food", b"afoo", b"FOO"]);
    check(b"*.o", &[b".o", b"a.o", b"a/b.o"], &[b"a.o/b", b"a.oo", b"o"]);
    check(b"a*b*c", &[b"abc", b"aXbXc", b"abcbc", b"x/abbc"], &[b"ab/c", b"acb", b"abcd"]);
    check(b"?", &[b"a", b"x/b", "é".as_bytes(), b"\xff"], &[b"ab", "éé".as_bytes()]);
    check(b"*", &[b"a", b"a/b"], &[]);
    check(b"**", &[b"a", b"a/b"], &[]);
    check(b"a**b", &[b"ab", b"axxb"], &[b"a/b"]);
}

#[test]
fn a_slash_anchors() {
    check(b"/foo", &[b"foo", b"foo/"], &[b"a/foo", b"foo/a"]);
    check(b"a/b", &[b"a/b"], &[b"x/a/b", b"a", b"b", b"a/b/c"]);
    check(b"/a//b", &[b"a/b"], &[b"a"]);
    check(b"a/*", &[b"a/b", b"a/c/"], &[b"a", b"a/b/c", b"b/a/c"]);
    check(b"a/*/c", &[b"a/b/c"], &[b"a/c", b"a/b/b/c"]);
}

#[test]
fn a_slash_at_the_end_is_for_directories() {
    check(b"foo/", &[b"foo/", b"a/foo/"], &[b"foo", b"a/foo"]);
    check(b"/a/foo/", &[b"a/foo/"], &[b"a/foo", b"foo/", b"x/a/foo/"]);
}

#[test]
fn two_stars_match_any_number_of_names() {
    check(b"**/foo", &[b"foo", b"a/foo", b"a/b/foo"], &[b"foo/a", b"afoo"]);
    check(b"a/**", &[b"a/b", b"a/b/c", b"a/b/"], &[b"a", b"a/", b"b/a/c"]);
    check(b"a/**/b", &[b"a/b", b"a/x/b", b"a/x/y/b", b"a/b/b"], &[b"a", b"b", b"a/x", b"a/b/c"]);
    check(b"**/a/**/b/**", &[b"a/b/c", b"x/a/a/b/b"], &[b"a/b", b"b/a/c"]);
    check(b"/**/x/*/y", &[b"x/1/y", b"x/x/1/y", b"x/2/x/1/y"], &[b"x/y", b"x/1/2/y"]);
}

#[test]
fn classes_and_escapes() {
    check(b"[a-c]x", &[b"ax", b"cx"], &[b"dx", b"x", b"aax"]);
    check(b"[!a-c]x", &[b"dx", b"\xffx", "éx".as_bytes()], &[b"ax", b"bx", b"x"]);
    check(b"[^ab]", &[b"c"], &[b"a", b"b"]);
    check(b"[]a]", &[b"]", b"a"], &[b"[", b"b"]);
    check(b"[a-]", &[b"a", b"-"], &[b"b"]);
    check(b"[\\]\\\\]", &[b"]", b"\\"], &[b"a"]);
    check("[à-é]".as_bytes(), &["é".as_bytes(), "â".as_bytes()], &[b"e", b"\xc3"]);
    check(b"\\*", &[b"*"], &[b"a", b"\\*"]);
    check(b"a\\?b", &[b"a?b"], &[b"axb"]);
    check(b"\xff*", &[b"\xff", b"\xffa", b"\xff\xfe"], &[b"a", "ÿ".as_bytes()]);
}

#[test]
fn the_first_rule_that_matches_wins() {
    let rules = [
        Rule::include("keep.o"),
        Rule::exclude("*.o"),
        Rule::include("*.c"),
        Rule::exclude("/a/*"),
    ];
    let filter = filter(&rules);
    for (path, expected) in [
        ("keep.o", Verdict::Include),
        ("x/keep.o", Verdict::Include),
        ("a/other.o", Verdict::Exclude),
        ("a/b.c", Verdict::Include),
        ("a/b", Verdict::Exclude),
        ("b", Verdict::Include),
    ] {
        assert_eq!(filter.matches_bytes(path.as_bytes(), false), expected, "{path}");
    }
    assert_eq!(filter.rules(), rules);
    assert_eq!(Filter::default().matches_bytes(b"x", true), Verdict::Include);
}

#[test]
fn errors_name_the_pattern() {
    for (pattern, defect) in [
        (&b""[..], PatternDefect::Empty),
        (b"/", PatternDefect::Empty),
        (b"///", PatternDefect::Empty),
        (b"a/../b", PatternDefect::NeverMatches),
        (b"./a", PatternDefect::NeverMatches),
        (b"a\0", PatternDefect::NeverMatches),
        (b"[a", PatternDefect::OpenClass),
        (b"[]", PatternDefect::OpenClass),
        (b"[!]", PatternDefect::OpenClass),
        (b"[a-", PatternDefect::OpenClass),
        (b"[\\", PatternDefect::OpenClass),
        (b"[a/b]", PatternDefect::OpenClass),
        (b"[z-a]", PatternDefect::EmptyRange),
        (b"[[:alpha:]]", PatternDefect::NamedClass),
        (b"a\\", PatternDefect::OpenEscape),
        (b"a\\/b", PatternDefect::OpenEscape),
    ] {
        let error = Filter::new(vec![Rule::include("ok"), Rule::exclude(pattern)]).unwrap_err();
        assert_eq!(error, FilterError::Pattern { pattern: pattern.to_vec(), defect });
    }
    let error = Filter::new(vec![Rule::exclude("a\x1b[")]).unwrap_err().to_string();
    assert!(error.starts_with("bad filter pattern 'a") && !error.contains('\x1b'), "{error}");
}

#[test]
fn rules_are_capped() {
    let long = |bytes| Rule::exclude(vec![b'a'; bytes]);
    assert!(Filter::new(vec![long(MAX_PATTERN); MAX_PATTERNS / MAX_PATTERN]).is_ok());
    let error = Filter::new(vec![long(MAX_PATTERN); MAX_PATTERNS / MAX_PATTERN + 1]).unwrap_err();
    assert_eq!(error, FilterError::TooLong(MAX_PATTERNS + MAX_PATTERN));
    let error = Filter::new(vec![long(MAX_PATTERN + 1)]).unwrap_err();
    assert!(matches!(error, FilterError::Pattern { defect: PatternDefect::TooLong, .. }));
    let error = Filter::new(vec![long(1); MAX_RULES + 1]).unwrap_err();
    assert_eq!(error, FilterError::TooManyRules(MAX_RULES + 1));
}

/// A matcher that searches inside searches would need longer than the universe has.
#[test]
fn stars_do_not_multiply() {
    let name = vec![b'a'; 255];
    let pattern = [b"*a".repeat(500), b"b".to_vec()].concat();
    check(&pattern, &[], &[&name]);
    let path = b"a/".repeat(2000);
    let pattern = [b"**/a/".repeat(200), b"b".to_vec()].concat();
    check(&pattern, &[], &[&path]);
}

/// The matcher against the plain definition by recursion, on small random patterns and names.
#[test]
fn agrees_with_the_definition() {
    fn plain(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                plain(rest, name)
                    || name.split_first().is_some_and(|(_, tail)| plain(pattern, tail))
            }
            (Some((b'?', rest)), Some((_, tail))) => plain(rest, tail),
            (Some((a, rest)), Some((b, tail))) => a == b && plain(rest, tail),
            _ => false,
        }
    }
    let mut state = 1u64;
    let mut draw = |alphabet: &[u8], longest: u64| {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040);
            state >> 33
        };
        let len = 1 + next() % longest;
        (0..len).map(|_| alphabet[next() as usize % alphabet.len()]).collect::<Vec<u8>>()
    };
    let mut matched = 0;
    for _ in 0..50_000 {
        let (pattern, name) = (draw(b"ab*?", 6), draw(b"ab", 8));
        let expected = plain(&pattern, &name);
        matched += u32::from(expected);
        let (on, off): (&[&[u8]], &[&[u8]]) =
            if expected { (&[&name], &[]) } else { (&[], &[&name]) };
        check(&pattern, on, off);
    }
    assert!(matched > 5000, "{matched}");
}
