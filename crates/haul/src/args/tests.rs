use clap::{CommandFactory, Parser};
use tree::Rule;

use super::*;

fn copy(words: &str) -> Result<CopyArguments, clap::Error> {
    let words = ["haul", "cp"].into_iter().chain(words.split_whitespace());
    match Arguments::try_parse_from(words)?.command {
        Command::Cp(copy) => Ok(*copy),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_parser_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn rules_keep_their_order() {
    let found = copy("--exclude a --include b a x --exclude c host:").unwrap();
    let expected = vec![Rule::exclude("a"), Rule::include("b"), Rule::exclude("c")];
    assert_eq!(found.rules, Rules(expected));
    assert_eq!(found.words, ["a", "x", "host:"]);
    assert_eq!(copy("a b").unwrap().rules, Rules::default());
}

#[test]
fn options_are_read_as_scp_users_type_them() {
    let found = copy("-rp a host:b").unwrap();
    assert!(found.recursive && found.preserve);
    assert_eq!(copy("a b").unwrap().delete_extra, None);
    assert_eq!(
        copy("--delete-extra a b").unwrap().delete_extra,
        Some(DeletionChoice::Guarded),
        "the next word is a source"
    );
    assert_eq!(copy("--delete-extra=all a b").unwrap().delete_extra, Some(DeletionChoice::All));
    assert_eq!(copy("--limit 10MB a b").unwrap().limit, Some(10_000_000));
    assert_eq!(copy("- host:x -r").unwrap().words, ["-", "host:x"]);
    assert_eq!(copy("host:x -").unwrap().words, ["host:x", "-"]);
    for wrong in ["", "--limit 0 a b", "--existing maybe a b", "--json --quiet a b", "--bogus a b"]
    {
        assert!(copy(wrong).is_err(), "{wrong}");
    }
}
