use super::*;

#[test]
fn addresses_are_read_and_shown_without_their_paths() {
    let check = |text: &str, host: &str, target: &str, shown: &str| {
        let address = Address::parse(text).unwrap();
        assert_eq!((&address.host[..], &address.target[..]), (host, target), "{text}");
        assert_eq!(address.to_string(), shown);
    };
    check("https://h.example", "h.example", "/", "https://h.example:443");
    check("http://h.example/a/b?c=d", "h.example", "/a/b?c=d", "http://h.example:80");
    check("https://h.example:8443?c", "h.example", "/?c", "https://h.example:8443");
    check("http://[::1]:81/s3cret", "::1", "/s3cret", "http://[::1]:81");
    for here in ["http://localhost", "http://127.0.0.9:1", "http://[::1]/"] {
        assert!(Address::parse(here).unwrap().is_here(), "{here}");
    }
    assert!(!Address::parse("http://localhost.example").unwrap().is_here());
}

#[test]
fn what_is_no_address_is_not_taken() {
    for text in [
        "",
        "h.example",
        "/path",
        "ftp://h.example/",
        "https://",
        "https:///path",
        "https://user:word@h.example/",
        "https://user@h.example/",
        "https://h.example/#part",
        "https://h.example:0/",
        "https://h.example:99999/",
        "https://h.example:/",
        "https://h example/",
        "https://h.example/\r\nX: y",
    ] {
        assert!(Address::parse(text).is_err(), "{text}");
    }
}
