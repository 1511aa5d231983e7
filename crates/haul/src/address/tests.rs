use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;

fn far(host: &str, port: u16, path: &str) -> Result<Address, AddressError> {
    Ok(Address::Far { host: Target::new(host, port).unwrap(), path: path.into() })
}

fn local(path: &str) -> Result<Address, AddressError> {
    Ok(Address::Local(path.into()))
}

#[test]
fn words_are_understood() {
    let check = |word: &str, expected: Result<Address, AddressError>| {
        assert_eq!(Address::parse(OsStr::new(word)), expected, "{word}");
    };
    check("-", Ok(Address::Pipe));
    check("file", local("file"));
    check("./-", local("./-"));
    check("./a:b", local("./a:b"));
    check("/a:b", local("/a:b"));
    check("dir/a:b", local("dir/a:b"));
    check("[x", local("[x"));
    check("host:", far("host", 4285, ""));
    check("Host:a/b", far("host", 4285, "a/b"));
    check("host:/a:b", far("host", 4285, "/a:b"));
    check("host:4285:a", far("host", 4285, "a"));
    check("host:99:", far("host", 99, ""));
    check("host:99", far("host", 4285, "99"));
    check("host:./99:a", far("host", 4285, "./99:a"));
    check("10.0.0.1:a", far("10.0.0.1", 4285, "a"));
    check("[::1]:a", far("::1", 4285, "a"));
    check("[::1]:99:a", far("::1", 99, "a"));
    check("[host]:4286:path", far("host", 4286, "path"));
    check("haul://host", far("host", 4285, ""));
    check("haul://host/a%20b", far("host", 4285, "a b"));
    check("haul://[::1]:9/a", far("::1", 9, "a"));
    check("haul://host:9//srv/a", far("host", 9, "/srv/a"));

    check("", Err(AddressError::Empty));
    check("user@host:a", Err(AddressError::User));
    check("haul://user@host/a", Err(AddressError::User));
    check("host:0:a", Err(AddressError::Host(TargetError::Port)));
    check("host:99999:a", Err(AddressError::Host(TargetError::Port)));
    check(":a", Err(AddressError::Host(TargetError::Empty)));
    check("ho st:a", Err(AddressError::Host(TargetError::Character)));
    check("[::1]a", Err(AddressError::Bracket));
    check("haul://host/%g1", Err(AddressError::Percent));
    check("haul://host/%1", Err(AddressError::Percent));
    check("haul://host/%00", Err(AddressError::Nul));
}

#[test]
fn paths_need_not_be_utf8_but_hosts_must() {
    let word = OsStr::from_bytes(b"host:\xff");
    assert!(matches!(Address::parse(word), Ok(Address::Far { path, .. }) if path == b"\xff"));
    assert_eq!(Address::parse(OsStr::from_bytes(b"\xff:a")), Err(AddressError::HostBytes));
}

#[test]
fn what_is_shown_can_be_typed_again() {
    for word in ["host:a", "[::1]:a", "[::1]:99:a", "host:99:a", "-", "x/y"] {
        let address = Address::parse(OsStr::new(word)).unwrap();
        assert_eq!(Address::parse(OsStr::new(&address.to_string())), Ok(address), "{word}");
    }
}
