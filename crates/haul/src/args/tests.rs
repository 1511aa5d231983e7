use clap::{CommandFactory, Parser};
use transfer::message::Compression;
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
fn what_others_have_is_answered_with_what_there_is_here() {
    let said = |words: &str| {
        let words = ["haul"].into_iter().chain(words.split_whitespace()).map(OsString::from);
        Arguments::read(words).unwrap_err().to_string()
    };
    for (words, advice) in [
        ("cp -a a host:b", "times, permissions and links are always kept"),
        ("cp -rav a host:b", "times, permissions and links are always kept"),
        ("cp -avz a host:b", "times, permissions and links are always kept"),
        ("cp -P 22 a host:b", "HOST:4285:PATH"),
        ("cp --bwlimit=1000 a host:b", "--limit 1000KiB"),
        ("cp --bwlimit 1000 a host:b", "--limit 1000KiB"),
        ("cp -l 800 a host:b", "--limit 1MB"),
        ("cp --delete a host:b", "--delete-extra"),
        ("cp -P a host:b", "what has arrived is always kept"),
        ("cp --partial-dir=x a host:b", "used again by itself"),
        ("cp -ri a host:b", "-v names each file"),
        ("cp -J jump a host:b", "option of ssh"),
        ("cp -o X=y a host:b", "option of ssh"),
        ("cp -u a host:b", "does not compare ages"),
        ("cp --inplace a host:b", "leave it out"),
        ("cp --delete-excluded a host:b", "always stays"),
        ("cp --ignore-existing a host:b", "--existing skip"),
        ("sync a host:b", "--delete-extra SOURCE/."),
        ("copy a host:b", "haul cp SOURCE"),
        ("lsf host:", "haul ls HOST:PATH"),
        ("help cp", "haul COMMAND --help"),
        ("cp --limit 800 a host:b", "bytes per second"),
        ("cp --pace 800 a host:b", "bytes per second"),
        ("key allow --max-rate 800 line", "bytes per second"),
    ] {
        let text = said(words);
        assert!(text.contains(advice), "{words}: {text}");
    }
    let other = said("cp --delet-extra a host:b");
    assert!(other.contains("--delete-extra") && !other.contains("removes from"), "{other}");
    assert!(!said("ls -a host:").contains("always kept"));
}

/// Every option that is answered with advice is one that `haul cp` does not have.
#[test]
fn what_there_is_needs_no_advice() {
    let command = Arguments::command();
    let copy = command.find_subcommand("cp").unwrap();
    for option in habits::options() {
        let known = copy.get_arguments().any(|argument| {
            let long = argument.get_long_and_visible_aliases().unwrap_or_default();
            let short = argument.get_short_and_visible_aliases().unwrap_or_default();
            long.iter().any(|long| format!("--{long}") == option)
                || short.iter().any(|short| format!("-{short}") == option)
        });
        assert!(!known, "{option} means something here");
    }
}

#[test]
fn completions_and_manual_pages_know_every_command_and_option() {
    fn check(command: &clap::Command, name: &str, pages: &[(String, Vec<u8>)]) {
        let page = pages.iter().find(|(file, _)| *file == format!("{name}.1"));
        let text = String::from_utf8(page.unwrap_or_else(|| panic!("no page {name}")).1.clone());
        let text = text.unwrap().replace("\\-", "-");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let Some(long) = argument.get_long() else { continue };
            assert!(text.contains(&format!("--{long}")), "{name} has no --{long}");
        }
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            check(inner, &format!("{name}-{}", inner.get_name()), pages);
        }
    }
    let pages = Arguments::man_pages().unwrap();
    let mut command = Arguments::command();
    command.build();
    check(&command, "haul", &pages);
    assert!(!pages.iter().any(|(name, _)| name.starts_with("haul-man")));
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish]
    {
        let text = String::from_utf8(Arguments::completions(shell)).unwrap();
        for word in ["doctor", "receipt", "diode", "delete-extra", "files-from", "accept-new"] {
            assert!(text.contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn verbosity_may_be_repeated() {
    for words in ["-vv a b", "-v -v a b", "-vvv a b", "--verbose -v a b"] {
        assert!(copy(words).unwrap().verbose, "{words}");
    }
    assert!(!copy("a b").unwrap().verbose);
    assert!(copy("-vv -q a b").is_err());
    assert!(Arguments::try_parse_from(["haul", "try", "-vv"]).is_ok());
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
    let compression = |words: &str| copy(words).unwrap().compress;
    assert_eq!(compression("a b"), Compression::Auto);
    assert_eq!([compression("-rz a b"), compression("-C a b")], [Compression::Always; 2]);
    assert_eq!(compression("--compress=never a b"), Compression::Never);
    assert!(copy("-W a b").unwrap().whole_file && !copy("a b").unwrap().whole_file);
    assert_eq!(copy("--limit 10MB a b").unwrap().limit, Some(10_000_000));
    assert_eq!(copy("- host:x -r").unwrap().words, ["-", "host:x"]);
    assert_eq!(copy("host:x -").unwrap().words, ["host:x", "-"]);
    for wrong in ["", "--limit 0 a b", "--existing maybe a b", "--json --quiet a b", "--bogus a b"]
    {
        assert!(copy(wrong).is_err(), "{wrong}");
    }
}

/// What the guide says to type is understood, and what it says others type is taken or answered.
#[test]
fn the_page_for_those_who_come_from_elsewhere_is_true() {
    let page = include_str!("../../../../docs/guide/coming-from.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let commands = |cell: &str| -> Vec<String> {
        let parts = cell.split('`').skip(1).step_by(2);
        parts.map(|part| part.replace('…', "a HOST:")).collect()
    };
    // What stands between quotes is one word, as for a shell.
    let read = |words: &str| {
        let parts = words.split('\'').enumerate();
        let words = parts.flat_map(|(number, part)| match number % 2 {
            0 => part.split_whitespace().map(OsString::from).collect(),
            _ => vec![OsString::from(part)],
        });
        Arguments::read(words.collect::<Vec<_>>())
    };
    let mut tried = 0;
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        for command in commands(cells[1]).iter().filter(|text| text.starts_with("haul ")) {
            let whole = format!("{command} a HOST:");
            let found = read(command).or_else(|_| read(&whole));
            assert!(found.is_ok(), "{row}: {}", found.unwrap_err());
            tried += 1;
        }
        let Some((from, rest)) = commands(cells[0]).first().and_then(|text| {
            text.split_once(' ').map(|(from, rest)| (from.to_owned(), rest.to_owned()))
        }) else {
            continue;
        };
        // A command of rclone is its first word.
        let words = match from.as_str() {
            "rclone" => format!("haul {rest}"),
            _ => format!("haul cp {rest}"),
        };
        let answer = read(&words).or_else(|_| read(&format!("{words} a HOST:")));
        if let Err(error) = answer {
            assert!(error.to_string().contains("tip:"), "{words}: {error}");
        }
    }
    assert!(tried > 30, "only {tried} were found");
}
