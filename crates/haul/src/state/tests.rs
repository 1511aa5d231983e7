use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::*;
use crate::spool::Scratch;

#[test]
fn folders_come_from_the_environment() {
    let check = |variables: &[(&str, &str)], expected: Option<(&str, &str)>| {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let expected =
            expected.map(|(config, state)| Places { config: config.into(), state: state.into() });
        assert_eq!(Places::from(variable).ok(), expected, "{variables:?}");
    };
    check(&[("HAUL_HOME", "/h"), ("HOME", "/u")], Some(("/h", "/h")));
    check(&[("HOME", "/u")], Some(("/u/.config/haul", "/u/.local/state/haul")));
    check(
        &[("HOME", "/u"), ("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "s")],
        Some(("/c/haul", "/u/.local/state/haul")),
    );
    check(&[], None);
}

#[test]
fn paths_are_split() {
    let check = |path: &str, expected: Option<(&str, &str)>| {
        let expected = expected.map(|(parent, name)| (PathBuf::from(parent), own_name(name)));
        assert_eq!(split_path(Path::new(path)), expected, "{path}");
    };
    check("a", Some((".", "a")));
    check("a/", Some((".", "a")));
    check("/a", Some(("/", "a")));
    check("x/y//z//", Some(("x/y//", "z")));
    check("/", None);
    check("", None);
    check("a/..", None);
    check(".", None);
}

#[test]
fn a_key_is_made_once_and_refused_when_others_can_read_it() {
    let scratch = Scratch::in_temporary("haul-state-test-").unwrap();
    let home = scratch.path().join("home");
    let places = Places { config: home.clone(), state: home };
    let made = places.identity().unwrap().public_key();
    assert_eq!(places.identity().unwrap().public_key(), made);
    let dir = places.config().unwrap();
    assert_eq!(dir.attributes().unwrap().mode, 0o700);
    assert_eq!(dir.attributes_of(&path_of(KEY)).unwrap().mode, 0o600);
    assert_eq!(dir.entries().unwrap().count(), 1, "nothing passing is left behind");

    dir.set_mode(&own_name(KEY), 0o640).unwrap();
    let error = places.identity().unwrap_err();
    assert_eq!(crate::report::explain(&error).code, Code::Refused, "{error:#}");
    dir.set_mode(&own_name(KEY), 0o600).unwrap();
    dir.set_own_mode(0o770).unwrap();
    let error = places.identity().unwrap_err();
    assert_eq!(crate::report::explain(&error).code, Code::Refused, "{error:#}");
}
