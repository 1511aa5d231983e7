use super::rig::{posts, sh};
use super::*;
use crate::options::{HookCommand, HookValue, Webhook};

fn fault(hook: &HookOptions) -> String {
    check(hook).unwrap_err().to_string()
}

#[test]
fn what_is_wrong_with_a_hook_is_said_without_what_may_be_secret() {
    assert_eq!(check(&sh("index", "exit 0")), Ok(()));
    assert!(fault(&sh("In dex", "")).contains("In dex"));
    assert!(fault(&HookOptions { tries: 0, ..sh("index", "") }).contains("tries"));
    let command = |arguments: &[&str], variable: &str| {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let environment = vec![(variable.to_owned(), HookValue::Plain("v4lue".to_owned()))];
        HookOptions::new("index", HookAction::Command(HookCommand { arguments, environment }))
    };
    assert_eq!(check(&command(&["true"], "TOKEN")), Ok(()));
    assert!(fault(&command(&[], "TOKEN")).contains("no program"));
    assert!(fault(&command(&["true"], "A=B")).contains("A=B"));
    assert!(fault(&command(&["true"], "HAUL_INBOX")).contains("HAUL_INBOX"));

    let webhook = |address: &str, header: &str, token: Option<&str>| {
        let headers = vec![(header.to_owned(), HookValue::Plain("v4lue".to_owned()))];
        let (address, token) = (address.to_owned(), token.map(Into::into));
        posts("index", Webhook { address, headers, token, authorities: None })
    };
    assert_eq!(check(&webhook("http://h.example/", "X-A", None)), Ok(()));
    assert_eq!(check(&webhook("https://h.example/", "X-A", Some("/t"))), Ok(()));
    assert_eq!(check(&webhook("http://127.0.0.1:80/", "X-A", Some("/t"))), Ok(()));
    assert!(fault(&webhook("http://h.example/", "X-A", Some("/t"))).contains("use https"));
    let hidden = fault(&webhook("https://me:s3cret@h.example/", "X-A", None));
    assert!(!hidden.contains("s3cret"), "{hidden}");
    assert!(fault(&webhook("https://h.example/", "X A", None)).contains("X A"));
    assert!(fault(&webhook("https://h.example/", "Host", None)).contains("Host"));
    assert!(fault(&webhook("https://h.example/", "Idempotency-Key", None)).contains("itself"));
}
