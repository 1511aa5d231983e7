//! `--exclude` and `--include` as one list. The first rule that matches decides, so their order among
//! each other matters, and the parser keeps it only as the places where the options stood.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tree::Rule;

/// The rules in the order in which they were typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

impl clap::Args for Rules {
    fn augment_args(command: Command) -> Command {
        let option = |name: &'static str| {
            Arg::new(name)
                .long(name)
                .value_name("PATTERN")
                .action(ArgAction::Append)
                .value_parser(value_parser!(OsString))
        };
        command
            .arg(option("exclude").help("Leave out what matches, such as target, '*.o' or /src/old/").long_help(
                "Leave out what matches.\n\n\
                 A pattern without a slash matches names at any depth; one with a slash is anchored, and \
                 paths begin with the name of the source's folder. A slash at the end matches folders \
                 only. * and ? stay within one name, ** does not. Of several --exclude and --include the \
                 first that matches decides.",
            ))
            .arg(option("include").help("Take what matches, whatever later --exclude say"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Rules {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut placed: Vec<(usize, Rule)> = Vec::new();
        for name in ["exclude", "include"] {
            let make = |pattern| {
                if name == "include" { Rule::include(pattern) } else { Rule::exclude(pattern) }
            };
            let places = matches.indices_of(name).into_iter().flatten();
            let patterns = matches.get_many::<OsString>(name).into_iter().flatten();
            placed.extend(
                places
                    .zip(patterns)
                    .map(|(place, pattern)| (place, make(pattern.clone().into_vec()))),
            );
        }
        placed.sort_by_key(|(place, _)| *place);
        Ok(Self(placed.into_iter().map(|(_, rule)| rule).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
