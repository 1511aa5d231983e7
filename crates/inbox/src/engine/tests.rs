//! The engine as the protocol drives it, without a network: attempts at uploads, and what is left of them.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use files::{Digest, Name, RelPath, Sha256};
use transfer::Totals;
use transfer::host::{Intake, Standing};
use transfer::receipt::Statement;
use tree::{Body, Record, TreeDigest};

use super::*;
use crate::scratch::Scratch;
use crate::{Budgets, InboxOptions};

/// A server with the inbox `lab`, and one client.
struct House {
    scratch: Scratch,
    identity: Arc<Identity>,
    budgets: Budgets,
}

impl House {
    fn new(budgets: Budgets) -> Self {
        let identity = Arc::new(Identity::generate().unwrap());
        // Whatever this machine has free is enough.
        Self {
            scratch: Scratch::new(),
            identity,
            budgets: Budgets { keep_free_bytes: 0, ..budgets },
        }
    }

    fn open(&self) -> Inboxes {
        let inboxes = vec![InboxOptions::new("lab", self.scratch.path().join("root"))];
        let options = InboxesOptions { inboxes, budgets: self.budgets.clone() };
        let told = Told::only(Arc::new(|_: &str| {}));
        Inboxes::open(options, self.identity.clone(), told).unwrap()
    }

    fn incoming(&self) -> Vec<PathBuf> {
        let folder = self.scratch.path().join("root/incoming");
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

fn client() -> Client {
    let rights = link::InboxRights { inboxes: link::Inboxes::All, ..Default::default() };
    Client {
        id: "haul-ed25519 AAAA".into(),
        label: "lab one".into(),
        address: None,
        rights,
        max_rate_bytes_per_s: None,
    }
}

fn offer(number: u8, files: u64, bytes: u64) -> Offer {
    Offer {
        upload: [number; 16],
        inbox: "lab".into(),
        name: format!("run {number}"),
        metadata_len: 2,
        files,
        bytes,
        content: None,
        check: false,
    }
}

#[track_caller]
fn enter(inboxes: &Inboxes, offer: &Offer) -> Place {
    enter_as(inboxes, &client(), offer)
}

#[track_caller]
fn enter_as(inboxes: &Inboxes, client: &Client, offer: &Offer) -> Place {
    match inboxes.offer(client, offer, b"{}") {
        Ok(Answer::Queued(place)) => place,
        Ok(Answer::Finished { dataset, .. }) => panic!("it is dataset {dataset} already"),
        Err(turned) => panic!("{turned:?}"),
    }
}

#[track_caller]
fn refused(result: Result<Upload, Refusal>, says: &str) {
    let refusal = result.map(drop).unwrap_err();
    assert!(refusal.text.contains(says), "{}", refusal.text);
}

/// Writes a file as a transfer does, and notes it.
fn put(upload: &Upload, path: &str, bytes: &[u8]) {
    let (dir, folder) = upload.place();
    let files = dir.open_dir(&folder, files::Follow::Never).unwrap();
    let mut wrote = false;
    assert!(upload.during(&mut || {
        files.write_whole(&Name::new(path).unwrap(), bytes, 0o644).unwrap();
        wrote = true;
    }));
    assert!(wrote);
    let mut sha256 = ring::digest::Context::new(&ring::digest::SHA256);
    sha256.update(bytes);
    let sha256 = Sha256::from_bytes(sha256.finish().as_ref().try_into().unwrap());
    upload.stands(Standing {
        path: RelPath::parse(path.as_bytes()).unwrap(),
        size: bytes.len() as u64,
        digest: Digest::of(bytes),
        sha256: Some(sha256),
    });
}

/// What a transfer of these files states.
fn statement(house: &House, files: &[(&str, &[u8])]) -> Statement {
    let mut tree = TreeDigest::new();
    for (path, bytes) in files {
        let path = RelPath::parse(path.as_bytes()).unwrap();
        let body = Body::File { size: bytes.len() as u64, content: Digest::of(bytes) };
        tree.add(&Record { path: &path, body, mode: None, mtime: None });
    }
    Statement {
        transfer: "00".into(),
        source: house.identity.public_key(),
        target: house.identity.public_key(),
        path: String::new(),
        began: 1,
        ended: 2,
        durable: true,
        roots: Vec::new(),
        root_count: 0,
        tree: tree.finish(),
        totals: Totals::default(),
        removed: 0,
        dataset: None,
    }
}

fn held(inboxes: &Inboxes) -> u64 {
    inboxes.uploads().reserve.held(0)
}

#[test]
fn what_was_offered_and_has_come_is_published_once() {
    let house = House::new(Budgets::default());
    let inboxes = house.open();
    let offer = offer(1, 2, 7);
    let upload = enter(&inboxes, &offer).begin().unwrap();
    let files: [(&str, &[u8]); 2] = [("a", b"abc"), ("b", b"defg")];
    files.iter().for_each(|(path, bytes)| put(&upload, path, bytes));
    assert!(upload.link(true) && upload.link(false));
    let receipt = upload.publish(statement(&house, &files), &house.identity).unwrap();
    assert!(upload.link(true), "whoever comes back for the receipt gets it");
    drop(upload);
    match inboxes.offer(&client(), &offer, b"{}").map_err(|_| ()).unwrap() {
        Answer::Finished { receipt: again, .. } => assert_eq!(again, receipt),
        Answer::Queued(_) => panic!("it is there"),
    }
    assert_eq!((house.incoming().len(), held(&inboxes)), (0, 0));
}

#[test]
fn what_has_come_must_be_what_was_offered() {
    let house = House::new(Budgets::default());
    let inboxes = house.open();
    let wrong: [(&str, u64, u64, Option<Digest>); 3] = [
        ("were offered", 2, 3, None),
        ("were offered", 1, 4, None),
        ("another content", 1, 3, Some(Digest::of(b"other"))),
    ];
    for (number, (says, files, bytes, content)) in wrong.into_iter().enumerate() {
        let offer = Offer { content, ..offer(number as u8, files, bytes) };
        let upload = enter(&inboxes, &offer).begin().unwrap();
        put(&upload, "a", b"abc");
        let files: [(&str, &[u8]); 1] = [("a", b"abc")];
        let refusal = upload.publish(statement(&house, &files), &house.identity).unwrap_err();
        assert!(refusal.text.contains(says), "{}", refusal.text);
    }
    let store = house.scratch.path().join("root/store/lab");
    assert!(!store.exists() || fs::read_dir(store).unwrap().next().is_none());
}

/// Of two connections with one upload the later one has it, whatever the earlier one does then.
#[test]
fn a_later_try_takes_over() {
    let house = House::new(Budgets::default());
    let inboxes = house.open();
    let offer = offer(1, 1, 3);
    let (first, second) = (enter(&inboxes, &offer), enter(&inboxes, &offer));
    refused(first.begin(), "a later try");
    let old = second.begin().unwrap();
    put(&old, "a", b"old");
    let new = enter(&inboxes, &offer).begin().unwrap();
    assert!(!old.during(&mut || panic!("it may not write any more")));
    old.stands(Standing {
        path: RelPath::parse(b"ghost").unwrap(),
        size: 1,
        digest: Digest::of(b"x"),
        sha256: None,
    });
    let files: [(&str, &[u8]); 1] = [("a", b"new")];
    put(&new, "a", b"new");
    let late = old.publish(statement(&house, &files), &house.identity).unwrap_err();
    assert!(late.text.contains("taken over"), "{}", late.text);
    // The end of the old one does not end the new one.
    drop(old);
    new.publish(statement(&house, &files), &house.identity).unwrap();
}

/// Tries with other files leave theirs, which may not add up to more than was offered.
#[test]
fn more_than_was_offered_goes_at_the_next_try() {
    let house = House::new(Budgets::default());
    let inboxes = house.open();
    let offer = offer(1, 1, 20 << 20);
    let bytes = vec![7; 20 << 20];
    let files = |name: &str| {
        let folder = house.incoming().pop().unwrap().join("dataset/files");
        folder.join(name).exists()
    };
    for name in ["a", "b"] {
        let upload = enter(&inboxes, &offer).begin().unwrap();
        put(&upload, name, &bytes);
        // What it wrote counts as soon as it is looked at, and not twice.
        drop(upload);
    }
    assert!(files("a") && files("b"));
    drop(enter(&inboxes, &offer).begin().unwrap());
    assert!(!files("a") && !files("b"));
    assert_eq!(held(&inboxes), 20 << 20, "its room is held again");
}

/// What has arrived is on the disk and takes no room beside that, also after a new start.
#[test]
fn what_is_there_takes_no_room_twice() {
    let house = House::new(Budgets::default());
    let inboxes = house.open();
    let offer = offer(1, 2, 6 << 20);
    let upload = enter(&inboxes, &offer).begin().unwrap();
    assert_eq!(held(&inboxes), 6 << 20);
    put(&upload, "a", &vec![7; 4 << 20]);
    drop(upload);
    let again = enter(&inboxes, &offer).begin().unwrap();
    assert_eq!(held(&inboxes), 2 << 20);
    // The client comes to what is there only by and by.
    again.progress(1 << 20);
    assert_eq!(held(&inboxes), 2 << 20);
    again.progress(5 << 20);
    assert_eq!(held(&inboxes), 1 << 20);
    drop((again, inboxes));
    let inboxes = house.open();
    assert_eq!(held(&inboxes), 6 << 20, "nobody has looked yet");
    inboxes.measure_kept();
    assert_eq!(held(&inboxes), 2 << 20);
}

/// Where the disk has no room for what is still to come, an attempt does not begin, and nothing is lost.
#[test]
fn an_attempt_needs_room_for_the_rest() {
    let mut house = House::new(Budgets::default());
    let offer = offer(1, 2, 6 << 20);
    let inboxes = house.open();
    let upload = enter(&inboxes, &offer).begin().unwrap();
    put(&upload, "a", &vec![7; 4 << 20]);
    drop((upload, inboxes));
    house.budgets.keep_free_bytes = u64::MAX / 2;
    let inboxes = house.open();
    refused(enter(&inboxes, &offer).begin(), "no room for the 2097152 bytes");
    assert!(house.incoming()[0].join("dataset/files/a").exists());
    inboxes.look_at_disks();
    drop(inboxes);
    house.budgets.keep_free_bytes = 0;
    let inboxes = house.open();
    let upload = enter(&inboxes, &offer).begin().unwrap();
    drop(upload);
}

#[test]
fn so_many_are_unfinished_and_no_more() {
    let house =
        House::new(Budgets { unfinished_per_client: 2, unfinished: 3, ..Budgets::default() });
    let inboxes = house.open();
    let says =
        |client: &Client, number: u8| match inboxes.offer(client, &offer(number, 1, 1), b"{}") {
            Ok(_) => String::new(),
            Err(Turned::Refused(refusal)) => refusal.text,
            Err(unfit) => panic!("{unfit:?}"),
        };
    let other = Client { id: "haul-ed25519 BBBB".into(), ..client() };
    assert_eq!((says(&client(), 1), says(&client(), 2)), (String::new(), String::new()));
    assert!(says(&client(), 3).contains("2 uploads of this key"));
    assert_eq!(says(&client(), 1), "", "one that is known is no other one");
    assert_eq!(says(&other, 1), "");
    assert!(says(&other, 2).contains("3 uploads are not finished here"));
}

/// Those that wait cost no descriptors; the one that is carried does.
#[test]
fn uploads_that_wait_hold_nothing_open() {
    let house = House::new(Budgets::default());
    let inboxes = house.open();
    let path = house.scratch.path().join("root/incoming");
    let open = || {
        let links = fs::read_dir("/proc/self/fd").unwrap();
        let names = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
        // The folder of uploads itself is open all the time.
        names.filter(|name| name.starts_with(&path) && *name != path).count()
    };
    let places: Vec<Place> = (0..20).map(|number| enter(&inboxes, &offer(number, 1, 1))).collect();
    assert_eq!(open(), 0);
    let upload = places.into_iter().next().unwrap().begin().unwrap();
    assert!(open() > 0);
    drop(upload);
    assert_eq!(open(), 0);
}

/// An upload that lost its connection and whose turn others have now may not go on as if nothing had been.
#[test]
fn a_turn_that_was_given_up_is_not_simply_taken_back() {
    let budgets =
        Budgets { active: 1, small_active: 0, idle: Duration::from_secs(2), ..Budgets::default() };
    let house = House::new(budgets);
    let inboxes = house.open();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let keeps_time = inboxes.clone();
    runtime.spawn(async move { keeps_time.0.turns.run().await });
    let enter = |number: u8| {
        let client = Client { id: format!("haul-ed25519 {number}"), ..client() };
        enter_as(&inboxes, &client, &offer(number, 1, 3))
    };
    let turn_of = |number: u8| {
        let place = enter(number);
        let end = Instant::now() + Duration::from_secs(30);
        while *place.turns().borrow() != Turn::Admitted {
            assert!(Instant::now() < end, "upload {number} gets its turn");
            std::thread::sleep(Duration::from_millis(1));
        }
        place.begin().unwrap()
    };
    let first = turn_of(1);
    assert!(first.link(true) && first.link(false));
    let second = turn_of(2);
    assert!(second.link(true) && second.link(false));
    let third = turn_of(3);
    assert!(third.link(true));
    // As many as twice the turns may go on.
    assert!(second.link(true));
    assert!(!first.link(true));
    assert!(!first.during(&mut || panic!("it has no turn")));
    // It is the next, once somebody has ended.
    let place = enter(1);
    drop(first);
    assert!(matches!(&*place.turns().borrow(), Turn::Waits(waiting) if waiting.position == 1));
    drop((second, third));
    let end = Instant::now() + Duration::from_secs(30);
    while *place.turns().borrow() != Turn::Admitted {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    place.begin().unwrap();
}
