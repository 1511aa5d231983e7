use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;

/// A path of a daemon.
fn far(host: &str, port: u16, path: &str) -> Result<Address, AddressError> {
    Ok(Address::Far { host: Host::daemon(Target::new(host, port).unwrap()), path: path.into() })
}

/// A path that ssh may lead to as well.
fn either(host: &str, path: &str) -> Result<Address, AddressError> {
    let login = Login { user: None, host: host.to_owned(), port: None };
    let daemon = Some(Target::new(host, 4285).unwrap());
    Ok(Address::Far { host: Host { daemon, login: Some(login) }, path: path.into() })
}

/// A path of a login.
fn login(user: &str, host: &str, port: Option<u16>, path: &str) -> Result<Address, AddressError> {
    let user = (!user.is_empty()).then(|| user.to_owned());
    let login = Some(Login { user, host: host.to_owned(), port });
    Ok(Address::Far { host: Host { daemon: None, login }, path: path.into() })
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
    check("host:", either("host", ""));
    check("Host:a/b", either("Host", "a/b"));
    check("host:/a:b", either("host", "/a:b"));
    check("host:4285:a", far("host", 4285, "a"));
    check("host:99:", far("host", 99, ""));
    check("host:99", either("host", "99"));
    check("host:./99:a", either("host", "./99:a"));
    check("10.0.0.1:a", either("10.0.0.1", "a"));
    check("[::1]:a", either("::1", "a"));
    check("[::1]:99:a", far("::1", 99, "a"));
    check("[host]:4286:path", far("host", 4286, "path"));
    check("haul://host", far("host", 4285, ""));
    check("haul://host/a%20b", far("host", 4285, "a b"));
    check("haul://[::1]:9/a", far("::1", 9, "a"));
    check("haul://host:9//srv/a", far("host", 9, "/srv/a"));

    check("me@Host:a", login("me", "Host", None, "a"));
    check("me@host:", login("me", "host", None, ""));
    check("me@host:22:a", login("me", "host", Some(22), "a"));
    check("me@corp@host:a", login("me@corp", "host", None, "a"));
    check("me@[::1]:a", login("me", "::1", None, "a"));
    check("me@[::1]:22:/a", login("me", "::1", Some(22), "/a"));
    check("ssh://host/a", login("", "host", None, "a"));
    check("ssh://me@host:22//a%20b", login("me", "host", Some(22), "/a b"));
    check("ssh://me@[::1]:22/a", login("me", "::1", Some(22), "a"));
    check("ssh://::1/a", login("", "::1", None, "a"));
    check("me@host", local("me@host"));
    check("mail/me@host:a", local("mail/me@host:a"));
    check("host:me@x", either("host", "me@x"));

    check("", Err(AddressError::Empty));
    check("haul://user@host/a", Err(AddressError::DaemonUser));
    check("@host:a", Err(AddressError::User));
    check("-oProxyCommand=x@host:a", Err(AddressError::User));
    check("a b@host:a", Err(AddressError::User));
    check("u$(x)@host:a", Err(AddressError::User));
    check("me@:a", Err(AddressError::Host(TargetError::Empty)));
    check("me@-oX:a", Err(AddressError::Host(TargetError::Character)));
    check("me@[::1]a:", Err(AddressError::Bracket));
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
    for word in
        ["host:a", "[::1]:a", "[::1]:99:a", "host:99:a", "me@host:a", "me@[::1]:22:a", "-", "x/y"]
    {
        let address = Address::parse(OsStr::new(word)).unwrap();
        assert_eq!(Address::parse(OsStr::new(&address.to_string())), Ok(address), "{word}");
    }
}
