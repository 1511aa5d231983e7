use super::*;

/// Whether `path` is one that `pattern` stands for.
fn stands_for(pattern: &str, path: &str) -> bool {
    let glob = Glob::parse(pattern.as_bytes()).unwrap_or_else(|| panic!("{pattern} is no pattern"));
    let names = path.split('/');
    let places =
        names.fold(glob.start(), |places, name| glob.after(places, name.as_bytes(), false));
    glob.is_match(places)
}

#[test]
fn patterns_stand_for_what_they_stand_for_in_a_shell() {
    let check = |pattern: &str, yes: &[&str], no: &[&str]| {
        for path in yes {
            assert!(stands_for(pattern, path), "{pattern} for {path}");
        }
        for path in no {
            assert!(!stands_for(pattern, path), "{pattern} for {path}");
        }
    };
    check("*.gz", &["a.gz", "ä.gz"], &[".gz", ".a.gz", "a.gz.b", "d/a.gz"]);
    check(".*", &[".a", ".a.gz"], &["a"]);
    check("logs/*", &["logs/a"], &["logs", "logs/a/b", "logs/.a", "other/a"]);
    check("l?gs/[ab]*/x", &["logs/a/x", "lags/bcd/x"], &["logs/c/x", "lgs/a/x", "logs/a/y"]);
    check("./logs//*.gz/", &["logs/a.gz"], &["a.gz"]);
    check("a/**/b*", &["a/b", "a/bc", "a/x/b", "a/x/y/b"], &["a", "b", "a/.x/b", "x/a/b", "a/b/c"]);
    check("**/x", &["x", "a/x", "a/b/x"], &[".a/x", "x/a"]);
    check("a/**", &["a/b"], &["a", "a/b/c", "a/.b"]);
    check(r"a\*b", &["a*b"], &["axb", r"a\*b"]);
    check(r"\.*", &[".a"], &["a"]);
    check("[.]a", &[], &[".a"]);
    check("[!a]b", &["cb"], &["ab", ".b"]);
}

#[test]
fn plain_paths_are_no_patterns() {
    let deep = "*/".repeat(MAX_PARTS + 1);
    let long = "*".repeat(MAX_PATTERN + 1);
    for path in ["", "a", "a/b.gz", "/", "../*", "*/..", "[a", "a/b\\", "a[z-a]", &deep, &long] {
        assert!(Glob::parse(path.as_bytes()).is_none(), "{path}");
    }
    let at_most = "*/".repeat(MAX_PARTS);
    assert!(Glob::parse(at_most.as_bytes()).is_some());
}

#[test]
fn folders_are_listed_only_where_several_names_can_lead_on() {
    let glob = Glob::parse(b"a\\*/b/*/c").unwrap();
    assert!(glob.is_wild());
    let first = glob.start();
    assert_eq!(glob.next_name(first), Some(b"a*".to_vec()));
    let second = glob.after(first, b"a*", false);
    assert_eq!(glob.next_name(second), Some(b"b".to_vec()));
    let third = glob.after(second, b"b", false);
    assert_eq!(glob.next_name(third), None);
    assert!(glob.goes_on(third) && !glob.is_match(third));
    assert!(glob.after(first, b"b", false).is_empty());
    let any = Glob::parse(b"**/c").unwrap();
    assert_eq!(any.next_name(any.start()), None);
    let link = any.after(any.start(), b"link", true);
    assert!(link.is_empty(), "a link is not passed");
    assert!(any.is_match(any.after(any.start(), b"c", true)), "and is found as what it is");
    assert!(!Glob::parse(br"a\*b").unwrap().is_wild());
}

#[test]
fn one_name_is_matched_as_a_last_name_is() {
    let check = |pattern: &str, name: &str, expected: bool| {
        let glob = NameGlob::parse(pattern.as_bytes()).unwrap();
        assert_eq!(glob.matches(name.as_bytes()), expected, "{pattern} for {name}");
    };
    check("*.gz", "a.gz", true);
    check("*.gz", ".a.gz", false);
    check("*", "..", false);
    check("a", "a", true);
    for none in ["", "a/b", "[a", "\\"] {
        assert!(NameGlob::parse(none.as_bytes()).is_none(), "{none}");
    }
}
