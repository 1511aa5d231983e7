use std::sync::Mutex;

use super::*;
use crate::spool::Scratch;
use crate::state::own_name;

/// Keys in a folder of their own, and what was logged.
fn live() -> (Scratch, LiveKeys, Arc<Mutex<Vec<String>>>) {
    let scratch = Scratch::in_temporary("haul-trust-test-").unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let told = lines.clone();
    let log: Log = Arc::new(move |text| told.lock().unwrap().push(text.to_owned()));
    let keys = LiveKeys::new(scratch.dir().clone(), log);
    (scratch, keys, lines)
}

fn write(scratch: &Scratch, text: &str) {
    scratch.dir().write_private(&own_name(AUTHORIZED_KEYS), text.as_bytes()).unwrap();
}

#[test]
fn the_list_is_read_again_when_it_changes() {
    let (scratch, keys, _) = live();
    let (one, two) = (PublicKey([1; 32]), PublicKey([2; 32]));
    let remote = "10.0.0.1:5".parse().unwrap();
    let check = |expected: [bool; 2], count: usize| {
        let admitted = [one, two].map(|key| keys.admit(&key, remote).is_ok());
        assert_eq!((admitted, keys.count()), (expected, count));
    };
    check([false, false], 0);
    write(&scratch, &one.to_line("one"));
    check([true, false], 1);
    write(&scratch, &two.to_line("two"));
    check([false, true], 1);
    // The same length and other words: only the inode and the times tell.
    write(&scratch, &one.to_line("one"));
    check([true, false], 1);
    scratch.dir().unlink(&own_name(AUTHORIZED_KEYS)).unwrap();
    check([false, false], 0);
}

#[test]
fn strangers_are_logged_once_with_the_line_that_would_admit_them() {
    let (scratch, keys, lines) = live();
    let stranger = PublicKey([3; 32]);
    let remote = "10.0.0.1:5".parse().unwrap();
    for _ in 0..3 {
        assert!(keys.admit(&stranger, remote).is_err());
    }
    let logged = std::mem::take(&mut *lines.lock().unwrap());
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert!(logged[0].contains(&format!("haul key allow '{}'", stranger.to_line(""))));

    // A key that is listed and may not come from there needs no new line.
    let known = PublicKey([4; 32]);
    write(&scratch, &format!("from=\"192.0.2.1\" {}", known.to_line("me")));
    assert!(keys.admit(&known, remote).is_err());
    let logged = lines.lock().unwrap();
    assert!(logged.len() == 1 && !logged[0].contains("key allow"), "{logged:?}");
}

#[test]
fn hosts_are_checked_against_the_list() {
    let mut known = KnownHosts::default();
    let (right, wrong) = (PublicKey([1; 32]), PublicKey([2; 32]));
    known.add(&Target::new("host", 4285).unwrap(), &right, "");
    let check = KnownHostCheck(known);
    assert_eq!(check.check("host", 4285, &right), Ok(()));
    assert_eq!(
        check.check("host", 4285, &wrong),
        Err(HostRefused::Changed { expected: vec![right] })
    );
    assert_eq!(check.check("host", 4286, &right), Err(HostRefused::Unknown));
    assert!(Pinned(right).check("any", 1, &wrong).is_err());
    assert!(OneKey(right).admit(&wrong, "10.0.0.1:5".parse().unwrap()).is_err());
}
