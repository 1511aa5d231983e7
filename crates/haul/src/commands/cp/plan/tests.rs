use super::*;

fn planned(words: &str) -> Result<Plan, String> {
    let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
    plan(&words, false).map_err(|error| error.to_string())
}

#[test]
fn words_become_jobs() {
    let Ok(Address::Far { host, .. }) = Address::parse("host:".as_ref()) else { panic!() };
    let host = || host.clone();
    let wish = |into_folder, contents| Wish { into_folder, contents, named: false };
    let paths = |words: &str| Given::Paths(words.split(' ').map(PathBuf::from).collect());
    let push =
        |given, path: &str, wish| Ok(Plan::Push { given, host: host(), path: path.into(), wish });
    let pull = |paths: &[&str], taken, wish| {
        let paths = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        Ok(Plan::Pull { host: host(), paths, taken, wish })
    };
    let path = |text: &str| Taken::Path(text.into());
    let check = |words: &str, expected: Result<Plan, String>| {
        assert_eq!(planned(words), expected, "{words}");
    };
    check("a host:b", push(paths("a"), "b", wish(false, false)));
    check("a host:", push(paths("a"), "", wish(false, false)));
    check("a host:b/", push(paths("a"), "b/", wish(true, false)));
    check("a b host:c", push(paths("a b"), "c", wish(true, false)));
    check("a/. host:c", push(paths("a/."), "c", wish(false, true)));
    check("a/. host:c/", push(paths("a/."), "c/", wish(false, true)));
    check("- host:c", push(Given::Pipe(Name::new("c").unwrap()), "c", wish(false, false)));
    check("host:a b", pull(&["a"], path("b"), wish(false, false)));
    check("host:a host:b/c d", pull(&["a", "b/c"], path("d"), wish(true, false)));
    check("host: d/", pull(&[""], path("d/"), wish(true, false)));
    check("host:a/. d", pull(&["a/."], path("d"), wish(false, true)));
    check("host:a -", pull(&["a"], Taken::Pipe, wish(false, false)));
    let third = |paths: &[&str], path: &str, wish| {
        let paths = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let Ok(Address::Far { host: to, .. }) = Address::parse("other:".as_ref()) else { panic!() };
        let from = host();
        Ok(Plan::Third { from, paths, to, path: path.into(), wish })
    };
    check("host:a other:b", third(&["a"], "b", wish(false, false)));
    check("host:a host:b other:c", third(&["a", "b"], "c", wish(true, false)));
    check("host:a other:b/", third(&["a"], "b/", wish(true, false)));
    check("host:a/. other:b", third(&["a/."], "b", wish(false, true)));
    check("host:a/*.gz d", pull(&["a/*.gz"], path("d"), wish(true, false)));
    check("host:a/*.gz host:b/*.gz d", pull(&["a/*.gz", "b/*.gz"], path("d"), wish(true, false)));
    check(r"host:a\*b d", pull(&[r"a\*b"], path("d"), wish(false, false)));
    check("host:*/. d", pull(&["*/."], path("d"), wish(false, true)));
    let here = Plan::Local { given: paths("a"), target: "b".into(), wish: wish(false, false) };
    check("a b", Ok(here));
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_sent() {
    let check = |words: &str, expected: &str| {
        let error = planned(words).unwrap_err();
        assert!(error.contains(expected), "{words}: {error}");
    };
    check("host:a/x host:b/x other:c", "two sources are called x");
    check("host:a/. host:b other:c", "must be the only one");
    check("host:a other:b c", "on one machine");
    check("host:a b c", "on one machine");
    check("host:a/x host:b/x c", "two sources are called x");
    check("host:a host:b -", "only one file");
    check("host:*.gz -", "only one file");
    check("a/. b host:c", "must be the only one");
    check("host:a/. host:b c", "must be the only one");
    check("host:a", "a SOURCE and a TARGET");
    check("- a host:c", "together with other sources");
    check("- host:", "must say the name");
    check("- host:c/", "must say the name");
    check("a -", "needs no haul");
    check("haul://me@host/a b", "no user names");
}

#[test]
fn a_list_goes_with_what_is_in_one_folder() {
    let listed = |words: &str| {
        let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        match plan(&words, true) {
            Ok(Plan::Push { given: Given::Paths(paths), wish, .. })
            | Ok(Plan::Local { given: Given::Paths(paths), wish, .. }) => {
                assert!(wish.contents && !wish.into_folder);
                paths[0].display().to_string()
            }
            Ok(Plan::Pull { paths, wish, .. }) => {
                assert!(wish.contents && !wish.into_folder);
                String::from_utf8(paths[0].clone()).unwrap()
            }
            Ok(other) => panic!("{other:?}"),
            Err(failure) => failure.to_string(),
        }
    };
    for (words, expected) in [
        ("src host:d", "src/."),
        ("src/ d/", "src/."),
        ("host:src d", "src/."),
        ("host:src/ d", "src/."),
        ("host: d", "."),
        ("host:/ d", "/."),
    ] {
        assert_eq!(listed(words), expected, "{words}");
    }
    for words in ["a b host:", "- host:x"] {
        assert!(listed(words).contains("one SOURCE"), "{words}");
    }
}
