use std::path::Path;

use super::*;

fn database() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    create(&db).unwrap();
    // A second time changes nothing.
    create(&db).unwrap();
    db
}

fn publish(db: &mut Connection, dataset: &str, hooks: &[&str], now_ms: i64) {
    let path = Path::new("/srv/store/ngs").join(dataset);
    let body = format!("{{\"id\":\"{dataset}\"}}");
    let telling = Telling {
        dataset,
        event: HookEvent::Published,
        inbox: "ngs",
        path: Some(&path),
        body: &body,
    };
    let transaction = db.transaction().unwrap();
    add(&transaction, &telling, hooks.iter().copied(), now_ms).unwrap();
    transaction.commit().unwrap();
}

/// The datasets and hooks that are due.
fn due_now(db: &Connection, now_ms: i64) -> Vec<(String, String)> {
    let due = due(db, now_ms, 100).unwrap();
    due.into_iter().map(|due| (due.dataset, due.hook)).collect()
}

fn states(db: &Connection, dataset: &str) -> Vec<(String, HookState)> {
    of(db, dataset).unwrap().into_iter().map(|row| (row.hook, row.state)).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn first(db: &Connection, now_ms: i64) -> Due {
    due(db, now_ms, 1).unwrap().remove(0)
}

#[test]
fn hooks_of_a_dataset_run_one_after_another_and_those_of_others_beside_them() {
    let mut db = database();
    publish(&mut db, "a", &["index", "mail"], 1_000);
    publish(&mut db, "b", &["index", "mail"], 1_001);
    assert_eq!(due_now(&db, 999), []);
    assert_eq!(due_now(&db, 1_000), pairs(&[("a", "index")]));
    assert_eq!(due_now(&db, 1_001), pairs(&[("a", "index"), ("b", "index")]));
    let a = first(&db, 1_001);
    assert_eq!(began(&db, &a, 1_002).unwrap().as_deref(), Some("{\"id\":\"a\"}"));
    assert_eq!(due_now(&db, 1_002), pairs(&[("b", "index")]));
    // Who comes second gets nothing: it runs already.
    assert_eq!(began(&db, &a, 1_002).unwrap(), None);
    done(&db, &a, "exited with 0", b"fine", 1_003).unwrap();
    assert_eq!(due_now(&db, 1_003), pairs(&[("a", "mail"), ("b", "index")]));
    let row = &of(&db, "a").unwrap()[0];
    assert_eq!((row.state, row.tries, &row.output[..]), (HookState::Done, 1, &b"fine"[..]));
    assert_eq!((row.next_ms, row.changed_ms), (None, 1_003));
}

#[test]
fn one_that_fails_lets_the_next_of_its_dataset_run() {
    let mut db = database();
    publish(&mut db, "a", &["index", "mail"], 0);
    let index = first(&db, 0);
    began(&db, &index, 1).unwrap().unwrap();
    failed(&db, &index, Next::At(50), "exited with 3", b"", 2).unwrap();
    assert_eq!(due_now(&db, 49), pairs(&[("a", "mail")]));
    assert_eq!(due_now(&db, 50), pairs(&[("a", "index")]));
    assert_eq!(next_due(&db, 2).unwrap(), Some(50));
    let mail = first(&db, 3);
    began(&db, &mail, 3).unwrap().unwrap();
    done(&db, &mail, "", b"", 4).unwrap();
    // The object is kept for the one that is not done, and goes with the last.
    let index = first(&db, 60);
    assert_eq!(index.tries, 1);
    assert!(began(&db, &index, 60).unwrap().is_some());
    done(&db, &index, "", b"", 61).unwrap();
    let left: Option<String> =
        db.query_row("select body from hook_telling", [], |row| row.get(0)).unwrap();
    assert_eq!(left, None);
    assert_eq!(next_due(&db, 0).unwrap(), None);
}

#[test]
fn what_ran_when_the_server_ended_waits_again() {
    let mut db = database();
    publish(&mut db, "a", &["index", "mail"], 0);
    let index = first(&db, 0);
    began(&db, &index, 1).unwrap().unwrap();
    assert_eq!(due_now(&db, 10), []);
    start(&mut db, [("ngs", "index"), ("ngs", "mail")], 10).unwrap();
    assert_eq!(due_now(&db, 10), pairs(&[("a", "index")]));
    assert_eq!(of(&db, "a").unwrap()[0].outcome, "the server ended while it ran");
    // A late word of the try that was cut off changes nothing.
    done(&db, &index, "", b"", 11).unwrap();
    assert_eq!(states(&db, "a")[0].1, HookState::Waiting);
    // The tries are counted, so that one which ends the server each time is found out.
    assert_eq!(first(&db, 10).tries, 1);
}

#[test]
fn a_hook_that_left_the_configuration_is_set_aside_and_comes_back() {
    let mut db = database();
    publish(&mut db, "a", &["index", "mail"], 0);
    start(&mut db, [("ngs", "mail"), ("other", "index")], 10).unwrap();
    let is = [("index".to_owned(), HookState::Removed), ("mail".to_owned(), HookState::Waiting)];
    assert_eq!(states(&db, "a"), is);
    assert_eq!(due_now(&db, 10), pairs(&[("a", "mail")]));
    assert_eq!(troubled(&db, 10).unwrap().len(), 1);
    assert_eq!(troubled(&db, 10).unwrap()[0].hook, "index");
    start(&mut db, [("ngs", "mail"), ("ngs", "index")], 20).unwrap();
    assert_eq!(due_now(&db, 20), pairs(&[("a", "index")]));
    removed(&db, &first(&db, 20), 21).unwrap();
    assert_eq!(states(&db, "a")[0].1, HookState::Removed);
}

#[test]
fn a_new_hook_does_not_run_for_old_datasets_and_nothing_is_told_twice() {
    let mut db = database();
    publish(&mut db, "a", &["index"], 0);
    publish(&mut db, "a", &["index", "mail"], 5);
    publish(&mut db, "quiet", &[], 5);
    start(&mut db, [("ngs", "index"), ("ngs", "mail")], 10).unwrap();
    assert_eq!(states(&db, "a"), [("index".to_owned(), HookState::Waiting)]);
    assert_eq!(of(&db, "quiet").unwrap(), []);
    let tellings: i64 =
        db.query_row("select count(*) from hook_telling", [], |row| row.get(0)).unwrap();
    assert_eq!(tellings, 1);
}

#[test]
fn one_that_is_stuck_is_tried_again_by_hand_alone() {
    let mut db = database();
    publish(&mut db, "a", &["index"], 0);
    publish(&mut db, "b", &["index"], 0);
    for (dataset, next) in [("a", Next::Stuck), ("b", Next::At(1 << 40))] {
        let due = first(&db, 0);
        assert_eq!(due.dataset, dataset);
        began(&db, &due, 1).unwrap().unwrap();
        failed(&db, &due, next, "exited with 3", b"no such table", 2).unwrap();
    }
    assert_eq!(due_now(&db, 1 << 39), []);
    // No wait is that long: the clock must have been set back.
    start(&mut db, [("ngs", "index")], 10).unwrap();
    assert_eq!(due_now(&db, LONGEST_WAIT_MS + 9), []);
    assert_eq!(due_now(&db, LONGEST_WAIT_MS + 10), pairs(&[("b", "index")]));
    let shown = troubled(&db, 10).unwrap();
    let shown: Vec<_> = shown.iter().map(|row| (&row.dataset[..], row.state)).collect();
    assert_eq!(shown, [("a", HookState::Stuck), ("b", HookState::Failing)]);
    assert_eq!(troubled(&db, 1).unwrap().len(), 1);
    assert_eq!(retry(&db, "a", 20).unwrap(), 1);
    assert_eq!(retry(&db, "a", 20).unwrap(), 0);
    assert_eq!(first(&db, 20).tries, 0);
    assert_eq!(due_now(&db, 20), pairs(&[("a", "index")]));
}

#[test]
fn many_of_one_hook_do_not_hide_another() {
    let mut db = database();
    for number in 0..50 {
        publish(&mut db, &format!("a{number:02}"), &["slow"], number);
    }
    publish(&mut db, "b", &["quick"], 100);
    let due = due(&db, 100, 2).unwrap();
    let hooks: Vec<&str> = due.iter().map(|due| &due.hook[..]).collect();
    assert_eq!(hooks, ["slow", "quick"]);
}

#[test]
fn rows_are_there_only_with_what_they_tell_of() {
    let mut db = database();
    let transaction = db.transaction().unwrap();
    let telling =
        Telling { dataset: "a", event: HookEvent::Expiring, inbox: "ngs", path: None, body: "{}" };
    add(&transaction, &telling, ["index"], 0).unwrap();
    drop(transaction);
    assert_eq!(due_now(&db, 10), []);
    let transaction = db.transaction().unwrap();
    add(&transaction, &telling, ["index"], 0).unwrap();
    transaction.commit().unwrap();
    let due = first(&db, 0);
    assert_eq!((due.event, due.path), (HookEvent::Expiring, None));
}
