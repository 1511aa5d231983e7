//! Publishing, with each of its steps failing once, and with everything failing from each of them on.

use super::super::steps::Failure;
use super::*;
use crate::reconcile::reconcile;

/// An upload that is ready to be published.
fn ready(bench: &Bench) -> (Root, Incoming) {
    let root = bench.open();
    let incoming = root.take_in(&bench.offer(1), &metadata(1)).unwrap();
    fill(&incoming, &files());
    fs::write(on_disk(&incoming, "leftover"), b"old").unwrap();
    // What a crash leaves of a sidecar that was being written.
    let torn = incoming.dir().unwrap().path().join("dataset/.haul-tmp-0123456789abcdef");
    fs::write(torn, b"{").unwrap();
    bench.steps.plan(None);
    (root, incoming)
}

/// What is in the store is nothing, or whole; and a row is never there without it.
#[track_caller]
fn check_nothing_half(bench: &Bench, root: &Root, id: DatasetId) {
    let found = root.find_published("ngs", id).unwrap();
    let row = root.catalogue().dataset(id).unwrap();
    if let Some(row) = &row {
        assert_eq!(found.as_ref(), Some(&row.path));
        bench.check_whole(root, id, &files());
    }
    if let Some(path) = found {
        let mut verified = crate::verify::Verified::default();
        let options = VerifyOptions::default();
        crate::verify::look_at(root.dir(), &path, &options, &mut verified).unwrap();
        assert!(verified.is_whole(), "{:?}", verified.findings);
    }
}

fn steps_of_a_publication() -> Vec<&'static str> {
    let bench = Bench::new();
    let (_root, incoming) = ready(&bench);
    bench.publish(&incoming).unwrap();
    bench.steps.passed()
}

#[test]
fn each_step_is_durable_before_the_next_begins() {
    let mut steps = steps_of_a_publication();
    steps.dedup();
    let files = steps.iter().filter(|step| matches!(**step, "read file" | "sync file"));
    assert!(files.count() > 3);
    steps.retain(|step| !matches!(*step, "read file" | "sync file"));
    steps.dedup();
    let expected = [
        "clear sidecars",
        "make manifests",
        "write manifest",
        "sync manifest",
        "write manifest",
        "sync manifest",
        "remove extra",
        "sync folder",
        "sync files",
        "write metadata.json",
        "write receipt.json",
        "sync dataset",
        "make month",
        "sync shelf",
        "sync store",
        "rename",
        "sync month",
        "sync upload",
        "catalogue",
        "answer",
    ];
    assert_eq!(steps, expected);
}

/// The server goes on, and the client tries again: by the same upload, whose files are sent anew if the disk failed them.
#[test]
fn a_step_that_fails_publishes_nothing_and_the_next_try_does() {
    for number in 1..=steps_of_a_publication().len() {
        let bench = Bench::new();
        let (root, incoming) = ready(&bench);
        bench.steps.plan(Some(Failure::At(number)));
        bench.publish(&incoming).expect_err("a step has failed");
        let failed = bench.steps.passed()[number - 1];
        bench.steps.plan(None);
        check_nothing_half(&bench, &root, incoming.id());
        if failed.starts_with("sync") {
            assert!(root.find_published("ngs", incoming.id()).unwrap().is_none(), "{failed}");
            let again = bench.publish(&incoming);
            assert!(
                matches!(again, Err(StoreError::Broken(_))),
                "{failed}: a sync is not asked again"
            );
            assert!(!on_disk(&incoming, "reads.txt").exists(), "{failed}");
            incoming.restart_records().unwrap();
            fill(&incoming, &files());
        }
        bench.publish(&incoming).unwrap_or_else(|error| panic!("{failed}: {error}"));
        bench.check_whole(&root, incoming.id(), &files());
    }
}

/// The machine stops before a step; the next start finds what is there.
#[test]
fn wherever_it_stops_the_next_start_makes_it_right() {
    let steps = steps_of_a_publication();
    let rename = steps.iter().position(|step| *step == "rename").unwrap() + 1;
    for number in 1..=steps.len() {
        let bench = Bench::new();
        let (root, incoming) = ready(&bench);
        bench.steps.plan(Some(Failure::From(number)));
        bench.publish(&incoming).expect_err("a step has failed");
        bench.steps.plan(None);
        let id = incoming.id();
        drop((root, incoming));

        let root = bench.open();
        check_nothing_half(&bench, &root, id);
        let mut entered = Vec::new();
        let signer = bench.identity.public_key();
        let report = reconcile(&root, Some(&signer), |_, row| {
            entered.push(row.id);
            Ok(())
        });
        let report = report.unwrap();
        assert_eq!(report.unclear, vec![], "{number}");
        let has_row = number == steps.len();
        if number > rename {
            let registered = if has_row { vec![] } else { vec![id] };
            assert_eq!((&report.registered, &entered), (&registered, &registered));
            assert_eq!(report.removed, vec![format!("incoming/{id}")]);
            assert!(report.waiting.is_empty());
        } else {
            let [waiting] = &report.waiting[..] else { panic!("{number}: it waits") };
            waiting.restart_records().unwrap();
            fill(waiting, &files());
            bench.publish(waiting).unwrap();
        }
        bench.check_whole(&root, id, &files());
    }
}

#[test]
fn an_upload_that_is_taken_in_or_discarded_is_so_or_not() {
    let walk = |begin: &dyn Fn(&Bench, &Root) -> Result<()>| {
        for number in 1.. {
            let bench = Bench::new();
            let root = bench.open();
            bench.steps.plan(Some(Failure::From(number)));
            let result = begin(&bench, &root);
            let passed = bench.steps.passed().len();
            bench.steps.plan(None);
            drop(root);
            let root = bench.open();
            let report = reconcile(&root, None, |_, _| Ok(())).unwrap();
            assert_eq!(report.unclear, vec![]);
            let rejected = fs::read_dir(bench.path().join("rejected")).unwrap().count();
            assert!(report.waiting.len() + rejected + usize::from(result.is_err()) >= 1);
            for waiting in &report.waiting {
                waiting.restart_records().unwrap();
                fill(waiting, &files());
                bench.publish(waiting).unwrap();
                bench.check_whole(&root, waiting.id(), &files());
            }
            if passed < number {
                assert!(result.is_ok());
                break;
            }
        }
    };
    walk(&|bench, root| root.take_in(&bench.offer(1), &metadata(1)).map(drop));
    walk(&|bench, root| {
        let incoming = root.take_in(&bench.offer(1), &metadata(1))?;
        incoming.discard("for no reason", time(1_795_000_300_000))?;
        incoming.clear()
    });
}

/// The row fails, the folder stands: the same upload asked for again gets its row, and keeps its receipt.
#[test]
fn a_row_that_fails_is_entered_by_the_next_try() {
    let bench = Bench::new();
    let (root, incoming) = ready(&bench);
    let mut first = Vec::new();
    let result = incoming.publish(
        &publication(),
        |facts| {
            first = bench.statement(incoming.offer(), facts).sign(&bench.identity);
            Ok(first.clone())
        },
        |transaction, _| transaction.execute("INSERT INTO none VALUES (1)", []).map(drop),
    );
    assert!(matches!(result, Err(StoreError::Catalogue(_))));
    assert_eq!(root.catalogue().dataset(incoming.id()).unwrap(), None);
    let published = bench.publish(&incoming).unwrap();
    assert_eq!(published.receipt, first);
    bench.check_whole(&root, incoming.id(), &files());
    // And once more, for a client that did not get the answer.
    assert_eq!(bench.publish(&incoming).unwrap(), published);
}

#[test]
fn without_a_receipt_nothing_is_published() {
    let bench = Bench::new();
    let (root, incoming) = ready(&bench);
    let result = incoming.publish(&publication(), |_| Err("no key".into()), |_, _| Ok(()));
    assert!(matches!(result, Err(StoreError::Receipt(_))));
    assert!(root.find_published("ngs", incoming.id()).unwrap().is_none());
    bench.publish(&incoming).unwrap();
}
