use std::fs;

use super::*;
use crate::store::tests::{Bench, files, fill, metadata};

fn quiet(_: &Transaction<'_>, _: &DatasetRow) -> rusqlite::Result<()> {
    Ok(())
}

fn start(bench: &Bench) -> (Root, Reconciled) {
    let root = bench.open();
    let report = reconcile(&root, Some(&bench.identity.public_key()), quiet).unwrap();
    (root, report)
}

#[test]
fn a_catalogue_that_is_gone_or_damaged_is_made_again() {
    let damages: [fn(&std::path::Path); 2] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, b"this is no database at all, and never was one").unwrap(),
    ];
    for damage in damages {
        let bench = Bench::new();
        let root = bench.open();
        let rows: Vec<_> = (1..4).map(|number| bench.dataset(&root, number)).collect();
        drop(root);
        damage(&bench.path().join("catalogue.db"));
        for rest in ["catalogue.db-wal", "catalogue.db-shm"] {
            let _ = fs::remove_file(bench.path().join(rest));
        }
        let (root, report) = start(&bench);
        let mut registered = report.registered.clone();
        registered.sort();
        assert_eq!(registered, rows.iter().map(|row| row.id).collect::<Vec<_>>());
        assert_eq!(root.catalogue().after(None, 10).unwrap(), rows);
        drop(root);
        let (_, report) = start(&bench);
        assert!(
            report.registered.is_empty() && report.missing.is_empty() && report.unclear.is_empty()
        );
    }
}

#[test]
fn a_folder_that_is_gone_is_told_once_and_found_again() {
    let bench = Bench::new();
    let root = bench.open();
    let row = bench.dataset(&root, 1);
    drop(root);
    let (there, away) = (bench.path().join(&row.path), bench.scratch.path().join("away"));
    fs::rename(&there, &away).unwrap();
    let (root, report) = start(&bench);
    assert_eq!(report.missing, vec![row.id]);
    assert_eq!(root.catalogue().dataset(row.id).unwrap().unwrap().state, DatasetState::Missing);
    drop(root);
    assert!(start(&bench).1.missing.is_empty());
    fs::rename(&away, &there).unwrap();
    let (root, report) = start(&bench);
    assert_eq!(report.found_again, vec![row.id]);
    bench.check_whole(&root, row.id, &files());
}

#[test]
fn what_nobody_signed_for_gets_no_row() {
    type Change = fn(&std::path::Path);
    let changes: [(Change, &str); 5] = [
        (|folder| fs::remove_file(folder.join("receipt.json")).unwrap(), "cannot open"),
        (|folder| fs::remove_file(folder.join("files/reads.txt")).unwrap(), "reads.txt is missing"),
        (|folder| fs::write(folder.join("files/more"), b"").unwrap(), "was not published"),
        (|folder| fs::write(folder.join("metadata.json"), b"{}").unwrap(), "not readable"),
        (
            |folder| {
                let to = folder.with_file_name("0000000000000000-other");
                fs::rename(folder, to).unwrap();
            },
            "another dataset",
        ),
    ];
    for (change, reason) in changes {
        let bench = Bench::new();
        let root = bench.open();
        let row = bench.dataset(&root, 1);
        drop(root);
        fs::remove_file(bench.path().join("catalogue.db")).unwrap();
        change(&bench.path().join(&row.path));
        let (root, report) = start(&bench);
        assert!(report.registered.is_empty());
        let [(place, found)] = &report.unclear[..] else { panic!("{:?}", report.unclear) };
        assert!(place.starts_with("store/ngs/2026-11/") && found.contains(reason), "{found}");
        assert_eq!(root.catalogue().dataset(row.id).unwrap(), None);
    }
    // A server with another key has not signed it.
    let bench = Bench::new();
    let root = bench.open();
    bench.dataset(&root, 1);
    drop(root);
    fs::remove_file(bench.path().join("catalogue.db")).unwrap();
    let root = bench.open();
    let other = Bench::new().identity.public_key();
    let report = reconcile(&root, Some(&other), quiet).unwrap();
    assert!(report.unclear[0].1.contains("another key"), "{:?}", report.unclear);
}

#[test]
fn of_what_was_arriving_only_offers_wait() {
    let bench = Bench::new();
    let root = bench.open();
    let incoming = root.take_in(&bench.offer(1), &metadata(1)).unwrap();
    fill(&incoming, &files());
    let later = root.take_in(&bench.offer(2), &metadata(2)).unwrap();
    let id = later.id();
    drop((root, incoming, later));
    let folder = bench.path().join("incoming");
    fs::create_dir_all(folder.join("never-begun/dataset/files")).unwrap();
    fs::write(folder.join("a-file"), b"").unwrap();
    fs::create_dir(folder.join("cut-short")).unwrap();
    fs::write(folder.join("cut-short/offer.json"), b"{\"haul_offer\": 1, \"id\":").unwrap();
    let offer = folder.join(id.as_str()).join("offer.json");
    let text =
        fs::read_to_string(&offer).unwrap().replace("\"haul_offer\": 1", "\"haul_offer\": 9");
    fs::write(&offer, text).unwrap();
    fs::write(bench.path().join("store/note.txt"), b"mine").unwrap();

    let (root, report) = start(&bench);
    let [waiting] = &report.waiting[..] else { panic!("{:?}", report.waiting) };
    assert_eq!(waiting.offer(), &bench.offer(1));
    let mut removed = report.removed.clone();
    removed.sort();
    assert_eq!(removed, ["incoming/a-file", "incoming/cut-short", "incoming/never-begun"]);
    let mut unclear: Vec<_> = report.unclear.iter().map(|(place, _)| place.clone()).collect();
    unclear.sort();
    assert_eq!(unclear, [format!("incoming/{id}"), "store/note.txt".to_owned()]);
    assert!(offer.exists());
    // What had arrived is there still, and is used.
    waiting.restart_records().unwrap();
    fill(waiting, &files());
    bench.publish(waiting).unwrap();
    bench.check_whole(&root, waiting.id(), &files());
}
