//! What a copy says holds it back: in its lines of JSON, in words, and through the other end.

use std::ffi::OsString;

use serde_json::Value;

use crate::pair::Pair;

/// As much as takes some seconds at the rate below, which is set at either end.
const BYTES: usize = 6 << 20;
const RATE: &str = "2MB";

/// The words of a copy of one file to the daemon or from it.
fn words(pair: &Pair, pull: bool, options: &[&str]) -> Vec<OsString> {
    let content = vec![7; BYTES];
    let (from, to) = match pull {
        true => (pair.served("a"), pair.local("a")),
        false => (pair.local("a"), pair.served("a")),
    };
    std::fs::write(&from, content).unwrap();
    let far = pair.at("data/a");
    let mut words: Vec<OsString> = options.iter().map(OsString::from).collect();
    words.extend(if pull { [far, to.into()] } else { [from.into(), far] });
    words
}

fn check(name: &str, allowed: &[&str], options: &[&str], pull: bool) {
    let pair = Pair::with(name, allowed);
    let ended = pair.copy(&words(&pair, pull, &[options, &["--json"]].concat())).expect_code(0);
    let text = ended.text();
    let lines: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let bounded = |event: &str| {
        lines.iter().any(|line| {
            line["event"] == event
                && line["bound"]["by"] == "limit"
                && line["bound"]["bytes_per_second"] == 2e6
        })
    };
    assert!(bounded("progress"), "{text}");
    assert!(bounded("bound"), "{text}");
}

#[test]
fn a_limit_of_this_end_is_named() {
    check("bound-push", &[], &["--limit", RATE], false);
    check("bound-pull", &[], &["--limit", RATE], true);
}

/// A pull asks for its pace, and gets no more than its key may have.
#[test]
fn a_pace_that_was_asked_for_is_named() {
    check("bound-pull-pace", &[], &["--pace", RATE], true);
    check("bound-pull-both", &["--max-rate", RATE], &["--pace", "50MB"], true);
    check("bound-push-pace", &[], &["--pace", RATE, "--link", "tcp"], false);
}

/// The dialler cannot know it: the daemon says it on the control stream.
#[test]
fn a_limit_of_the_other_end_is_named() {
    check("bound-push-far", &["--max-rate", RATE], &[], false);
    check("bound-pull-far", &["--max-rate", RATE], &[], true);
}

#[test]
fn in_words_with_shares_of_the_time_and_what_to_change() {
    let pair = Pair::new("bound-words");
    let words = words(&pair, false, &["--limit", RATE, "-v"]);
    pair.copy(&words).expect_code(0).expect_says(&[
        "bound by the limit of 2.0 MB/s\n",
        // A busy machine takes the way to itself for a longer one, and begins with two.
        "link: TCP, ",
        "; 6.3 MB sent at ",
        "bound by: a limit ",
        "a limit of 2.0 MB/s is set: raise --limit",
    ]);
}
