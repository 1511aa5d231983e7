use std::path::Path;
use std::time::Duration;

use ::inbox::{
    Budgets, Duplicates, HookAction, HookCommand, HookOptions, HookValue, InboxOptions, SameName,
    Webhook,
};

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
    assert_eq!(config, Config { listen: Some("[::]:4285".to_owned()), exports, inboxes });

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
        [[inbox.hook]]
        name = "import"
        command = ["import", "--now"]
        env_files = { SECRET = "secret" }
        timeout = "10m"
        expiring = true
        [inbox.offer_hook]
        name = "judge"
        url = "https://lims.example/judge"
        token_file = "/etc/token"
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
    let import = HookAction::Command(HookCommand {
        arguments: vec!["import".to_owned(), "--now".to_owned()],
        environment: vec![("SECRET".to_owned(), HookValue::File("/etc/haul/secret".into()))],
    });
    let judge = HookAction::Webhook(Webhook {
        address: "https://lims.example/judge".to_owned(),
        token: Some("/etc/token".into()),
        ..Webhook::default()
    });
    let ngs = InboxOptions {
        schema: Some("/etc/haul/ngs.schema.json".into()),
        max_dataset_bytes: Some(5_000_000_000_000),
        duplicates: Duplicates::Link,
        same_name: SameName::Refuse,
        expire: Duration::from_secs(2 * 86_400),
        hooks: vec![HookOptions {
            timeout: Duration::from_secs(600),
            expiring: true,
            ..HookOptions::new("import", import)
        }],
        offer_hook: Some(HookOptions::new("judge", judge)),
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
        "[[inbox]]\nname = \"x\"\npath = \"x\"\n[[inbox.hook]]\nname = \"h\"",
        "[[inbox]]\nname = \"x\"\npath = \"x\"\n[[inbox.hook]]\nname = \"h\"\nurl = \"ftp://x\"",
        "[[inbox]]\nname = \"x\"\npath = \"x\"\n[[inbox.hook]]\nname = \"h\"\ncommand = [\"a\"]\ntoken_file = \"t\"",
    ] {
        assert!(Config::parse(wrong, Path::new("")).is_err(), "{wrong}");
    }
}
