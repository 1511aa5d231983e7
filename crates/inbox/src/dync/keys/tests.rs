use std::path::PathBuf;

use super::*;

/// What `zmq.auth.create_certificates('.', 'x', metadata={'user_id': 'lab1'})` of pyzmq 27.3 wrote.
const PYZMQ: &str = r#"#   ****  Generated on 2026-11-22 08:51:41.732939 by pyzmq  ****
#   ZeroMQ CURVE **Secret** Certificate
#   DO NOT PROVIDE THIS FILE TO OTHER USERS nor change its permissions.

metadata
    user_id = lab1
curve
    public-key = "8*iUkIGshb]T*Dd^}bnthexQ*.K]S)Ik^Tn:g0Bz"
    secret-key = "A>#Y8puYB:<%d@R8]Mqq].*[QbyY&gefkr6(L>}:"
"#;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("haul-dync-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn folder(&self) -> KeyFolder {
        KeyFolder::new(Dir::open_ambient(&self.0).unwrap(), Inboxes::Named(vec!["main".into()]))
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join("clients").join(name), text).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_of_pyzmq_are_read_and_ours_are_like_them() {
    let key = KeyFile::parse(PYZMQ.as_bytes()).unwrap();
    assert_eq!(z85(&key.public), "8*iUkIGshb]T*Dd^}bnthexQ*.K]S)Ik^Tn:g0Bz");
    assert_eq!(key.metadata.get("user_id").map(String::as_str), Some("lab1"));
    assert!(!format!("{key:?}").contains("A>#Y"), "the secret shows");
    for with_secret in [true, false] {
        let again = KeyFile::parse(key.to_text(NOW, with_secret).as_bytes()).unwrap();
        assert_eq!((again.public, &again.metadata), (key.public, &key.metadata));
        assert_eq!(again.secret, key.secret.clone().filter(|_| with_secret));
    }
}

#[test]
fn what_is_no_key_file_says_why() {
    let check = |text: &str, reason: &str| {
        assert_eq!(KeyFile::parse(text.as_bytes()), Err(reason), "{text}");
    };
    check("", "it has no public-key in a section curve");
    check(&PYZMQ.replace("curve\n", "other\n"), "it has no public-key in a section curve");
    check(&PYZMQ.replace("8*iUk", "8*iU"), "a key is not 40 letters of Z85");
    check(&PYZMQ.replace("8*iUk", "8*i~k"), "a key is not 40 letters of Z85");
    check(&PYZMQ.replace("8*iUk", "9*iUk"), "its public and its secret key do not belong together");
    assert_eq!(KeyFile::parse(b"\xff"), Err("it is not UTF-8"));
}

#[test]
fn the_servers_pair_is_made_once_and_is_nobody_elses() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("pair");
    let pair = scratch.folder().server_pair(NOW).unwrap();
    assert_eq!(scratch.folder().server_pair(NOW).unwrap(), pair);
    let secret = scratch.0.join(SECRET_FILE);
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let public = std::fs::read_to_string(scratch.0.join(PUBLIC_FILE)).unwrap();
    assert!(!public.contains("secret") && public.contains(&z85(&pair.public)));
    // A file that is not understood is not replaced.
    std::fs::write(&secret, "nothing").unwrap();
    assert!(scratch.folder().server_pair(NOW).is_err());
}

#[test]
fn clients_have_what_their_operator_says() {
    let scratch = Scratch::new("clients");
    let folder = scratch.folder();
    assert!(folder.clients().unwrap().is_empty());
    let [a, b, c] = std::array::from_fn(|_| KeyFile::generate());
    // What the client writes about itself gives it no rights.
    let mut boastful = a.clone();
    boastful.metadata.insert("inbox".into(), "*".into());
    boastful.metadata.insert("user_id".into(), "lab a".into());
    folder.import(&boastful, "a", "", NOW).unwrap();
    let options = "inbox=\"ngs\",quota=2000,from=\"10.0.0.0/8\",expires=\"2030-01-01\"";
    folder.import(&b, "b", options, NOW).unwrap();
    folder.import(&c, "c", "quota=5", NOW).unwrap();
    let clients = folder.clients().unwrap();
    assert_eq!((clients.len(), &clients.problems), (3, &vec![]));
    let client = |key: &KeyFile, from: &str| {
        clients.client(&key.public, Some(SocketAddr::new(from.parse().unwrap(), 1)), NOW).ok()
    };
    let named = |name: &str| Inboxes::Named(vec![name.to_owned()]);
    let of_a = client(&a, "1.2.3.4").unwrap();
    assert_eq!((of_a.label.as_str(), &of_a.rights.inboxes), ("lab a", &named("main")));
    assert_eq!(of_a.id, format!("dync:{}", z85(&a.public)));
    let of_b = client(&b, "10.1.1.1").unwrap();
    assert_eq!((&of_b.rights.inboxes, of_b.rights.quota_bytes), (&named("ngs"), Some(2000)));
    assert_eq!(client(&b, "1.2.3.4"), None);
    let later: Timestamp = "2031-01-01T00:00:00Z".parse().unwrap();
    let near = Some(SocketAddr::from(([10, 1, 1, 1], 1)));
    let denied = clients.client(&b.public, near, later).unwrap_err();
    assert_eq!(denied, "its key is that of b, but the authorization of this key has expired");
    // What it was given before does not stay when it is let in anew.
    folder.import(&c, "c", "", NOW).unwrap();
    let clients = folder.clients().unwrap();
    assert_eq!(clients.client(&c.public, near, NOW).unwrap().rights.quota_bytes, None);
    folder.import(&c, "c", "quota=5", NOW).unwrap();
    let clients = folder.clients().unwrap();
    let client = |key: &KeyFile, from: &str| {
        clients.client(&key.public, Some(SocketAddr::new(from.parse().unwrap(), 1)), NOW).ok()
    };
    let of_c = client(&c, "1.2.3.4").unwrap();
    assert_eq!((&of_c.rights.inboxes, of_c.rights.quota_bytes), (&named("main"), Some(5)));
    assert_eq!(client(&KeyFile::generate(), "10.1.1.1"), None);

    // One is taken away, one has other rights; one has a file that is not understood, one two files.
    std::fs::remove_file(scratch.0.join("clients/a.key")).unwrap();
    scratch.write("b.options", "inbox=\"other\"");
    scratch.write("c.options", "inbox=");
    let now = folder.clients().unwrap();
    assert_eq!((now.len(), now.problems.len()), (1, 1));
    assert_eq!(clients.gone_in(&now).len(), 3);
    assert_eq!(now.gone_in(&now).len(), 0);
    scratch.write("again.key", &b.to_text(NOW, false));
    let doubled = folder.clients().unwrap();
    assert_eq!((doubled.len(), doubled.problems.len()), (0, 2));
    for label in ["../x", "", ".x", "a/b"] {
        assert!(folder.import(&a, label, "", NOW).is_err(), "{label}");
    }
    assert!(folder.import(&a, "d", "nonsense", NOW).is_err());
}
