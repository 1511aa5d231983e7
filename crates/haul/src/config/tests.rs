use std::path::Path;
use std::time::Duration;

use ::inbox::{Budgets, Duplicates, InboxOptions, SameName};

use super::*;
use crate::state::own_name;

#[test]
fn a_configuration_is_read_and_mistakes_are_not_passed_over() {
    let text = r#"
        listen = "[::]:4285"
        [[export]]
        path = "/srv/data"
        mode = "ro"
        [[export]]
        name = "drop"
        path = "inbox"
        setid = true
        owner = true
        [enrolment]
        requests = true
    "#;
    let config = Config::parse(text, Path::new("/etc/haul")).unwrap();
    let export = |name: &str, path: &str, mode: Mode| ExportSpec {
        name: own_name(name),
        path: path.into(),
        mode,
        grants: Grants::default(),
    };
    let generous = ExportSpec {
        grants: Grants { setid: true, owner: true },
        ..export("drop", "/etc/haul/inbox", Mode::Rw)
    };
    let exports = vec![export("data", "/srv/data", Mode::Ro), generous];
    let inboxes = InboxesOptions::default();
    assert_eq!(
        config,
        Config { listen: Some("[::]:4285".to_owned()), exports, inboxes, takes_requests: true }
    );

    for wrong in [
        "listne = \"x\"",
        "[[export]]\nname = \"x\"",
        "[[export]]\npath = \"/x\"\nmode = \"r\"",
        "[[export]]\npath = \"/x\"\nread-only = true",
        "[[export]]\npath = \"/x\"\nsetid = 1",
        "[[export]]\npath = \"/\"",
        "[[export]]\npath = \"/x\"\nname = \"a/b\"",
    ] {
        assert!(Config::parse(wrong, Path::new("")).is_err(), "{wrong}");
    }
}

#[test]
fn inboxes_are_read_with_their_policies() {
    let text = r#"
        [[inbox]]
        name = "ngs"
        path = "lab"
        schema = "ngs.schema.json"
        max_dataset = "5TB"
        duplicates = "link"
        same_name = "refuse"
        expire = "2d"
        [[inbox]]
        name = "any"
        path = "/srv/any"
        [inboxes]
        active = 3
        small = "10MB"
        keep_free = "20GB"
        idle = "1m"
    "#;
    let config = Config::parse(text, Path::new("/etc/haul")).unwrap().inboxes;
    let ngs = InboxOptions {
        schema: Some("/etc/haul/ngs.schema.json".into()),
        max_dataset_bytes: Some(5_000_000_000_000),
        duplicates: Duplicates::Link,
        same_name: SameName::Refuse,
        expire: Duration::from_secs(2 * 86_400),
        ..InboxOptions::new("ngs", "/etc/haul/lab")
    };
    assert_eq!(config.inboxes, [ngs, InboxOptions::new("any", "/srv/any")]);
    let budgets = Budgets {
        active: 3,
        small_bytes: 10_000_000,
        keep_free_bytes: 20_000_000_000,
        idle: Duration::from_secs(60),
        ..Budgets::default()
    };
    assert_eq!(config.budgets, budgets);
    for wrong in [
        "[[inbox]]\nname = \"x\"",
        "[[inbox]]\nname = \"X\"\npath = \"x\"",
        "[[inbox]]\nname = \"x\"\npath = \"x\"\nmax_files = 0",
        "[[inbox]]\nname = \"x\"\npath = \"x\"\nmax_metadata = \"1GB\"",
        "[[inbox]]\nname = \"x\"\npath = \"x\"\nduplicates = \"drop\"",
        "[[inbox]]\nname = \"x\"\npath = \"x\"\nexpires = \"2d\"",
        "[[inbox]]\nname = \"x\"\npath = \"x\"\n[[inbox]]\nname = \"x\"\npath = \"y\"",
        "[inboxes]\nactive = 0",
    ] {
        assert!(Config::parse(wrong, Path::new("")).is_err(), "{wrong}");
    }
}
