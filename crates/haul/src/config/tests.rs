use std::path::Path;

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
    assert_eq!(config, Config { listen: Some("[::]:4285".to_owned()), exports });

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
