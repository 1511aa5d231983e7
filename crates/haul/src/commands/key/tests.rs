use super::*;
use crate::args::RightsArguments;

#[test]
fn options_are_written_so_that_they_are_read_the_same() {
    let key = PublicKey([7; 32]);
    let arguments = AllowArguments {
        line: Vec::new(),
        paths: vec!["data/a \"b\"".to_owned(), "drop".to_owned()],
        read_only: true,
        write_only: false,
        inboxes: vec!["ngs".to_owned()],
        rights: RightsArguments {
            quota: Some(2_000_000_000_000),
            quota_datasets: Some(7),
            max_rate: Some(10_000_000),
        },
        expires: Some("2999-01-31".to_owned()),
        from: Some("10.0.0.0/8,2001:db8::7".to_owned()),
    };
    let line = format!("{}{}", options_text(&arguments).unwrap(), key.to_line("me"));
    let list = AuthorizedKeys::parse(&line);
    assert_eq!(list.problems(), [], "{line}");
    let now = jiff::Timestamp::UNIX_EPOCH;
    let allowed = list.check(&key, "10.1.2.3".parse().unwrap(), now).unwrap();
    assert_eq!(allowed.paths, arguments.paths);
    assert!(allowed.read && !allowed.write);
    assert_eq!(allowed.max_rate_bytes_per_s, Some(10_000_000));
    assert!(allowed.inboxes.inboxes.hold("ngs") && !allowed.inboxes.inboxes.hold("other"));
    let quotas = (allowed.inboxes.quota_bytes, allowed.inboxes.quota_datasets);
    assert_eq!(quotas, (Some(2_000_000_000_000), Some(7)));
    assert!(list.check(&key, "11.1.2.3".parse().unwrap(), now).is_err());

    let (found, options, comment) = split_line(&line).unwrap();
    assert_eq!((found, comment.as_str()), (key, "me"));
    assert!(options.starts_with("path=") && options.ends_with('"'), "{options}");

    let none = AllowArguments {
        paths: Vec::new(),
        read_only: false,
        inboxes: Vec::new(),
        rights: RightsArguments::default(),
        expires: None,
        from: None,
        ..arguments
    };
    assert_eq!(options_text(&none).unwrap(), "");
}
