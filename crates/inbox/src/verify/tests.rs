use std::fs;
use std::path::Path;

use super::*;
use crate::store::tests::Bench;

/// What is found after something was changed in the folder of a dataset.
fn findings(change: impl FnOnce(&Path)) -> Vec<String> {
    let bench = Bench::new();
    let root = bench.open();
    let row = bench.dataset(&root, 1);
    change(&bench.path().join(&row.path));
    let options = VerifyOptions { skip_contents: false, signer: Some(bench.identity.public_key()) };
    let verified = verify(root.dir(), &row, &options).unwrap();
    verified.findings.iter().map(Finding::to_string).collect()
}

#[track_caller]
fn check(expected: &[&str], change: impl FnOnce(&Path)) {
    let found = findings(change);
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found}");
    }
}

fn edit(path: impl AsRef<Path>, from: &str, to: &str) {
    let text = fs::read(path.as_ref()).unwrap();
    fs::write(path, replaced(&text, from, to)).unwrap();
}

/// The bytes with the first occurrence of a text replaced; they need not be UTF-8.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).expect(from);
    [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

#[test]
fn every_kind_of_damage_is_named() {
    check(&[], |_| {});
    check(&["reads.txt is missing", "not as many"], |folder| {
        fs::remove_file(folder.join("files/reads.txt")).unwrap();
    });
    check(&["reads/extra was not published", "not as many"], |folder| {
        fs::write(folder.join("files/reads/extra"), b"").unwrap();
    });
    check(&["its blake3 differs", "its sha256 differs"], |folder| {
        fs::write(folder.join("files/reads/a-b"), b"y").unwrap();
    });
    check(
        &["blake3", "sha256", "those of receipt.json", "those of metadata.json", "not as many"],
        |folder| fs::write(folder.join("files/reads/a-b"), b"longer").unwrap(),
    );
    check(&["tür is a symbolic link", "is missing", "not as many"], |folder| {
        fs::rename(folder.join("files/tür"), folder.join("away")).unwrap();
        std::os::unix::fs::symlink("../away", folder.join("files/tür")).unwrap();
    });
    check(&["those of receipt.json", "those of metadata.json"], |folder| {
        fs::create_dir(folder.join("files/empty")).unwrap();
    });
    check(&["its folder is not there"], |folder| fs::remove_dir_all(folder).unwrap());
}

#[test]
fn sidecars_that_were_changed_are_named() {
    check(&["differ in the name", "another name"], |folder| {
        edit(folder.join("metadata.json"), "Läufe 1", "Läufe 2");
    });
    check(&["another client"], |folder| edit(folder.join("metadata.json"), "lab one", "lab two"));
    check(&["their digest differs"], |folder| {
        edit(folder.join("metadata.json"), "\"run\": 1", "\"run\": 2");
    });
    check(&["was written again"], |folder| {
        let path = folder.join("metadata.json");
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        fs::write(path, json.to_string()).unwrap();
    });
    check(&["version 2"], |folder| {
        edit(folder.join("metadata.json"), "\"haul_dataset\": 1", "\"haul_dataset\": 2");
    });
    check(&["signature does not fit"], |folder| {
        edit(folder.join("receipt.json"), "Läufe 1", "Läufe 2");
    });
    check(&["cannot open"], |folder| fs::remove_file(folder.join("receipt.json")).unwrap());
    check(&["cannot open"], |folder| fs::remove_file(folder.join("manifest.blake3")).unwrap());
    check(&["manifest.sha256 is damaged", "is not in manifest.sha256"], |folder| {
        let path = folder.join("manifest.sha256");
        let text = fs::read(&path).unwrap();
        let last = text[..text.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
        fs::write(&path, &text[..last + 10]).unwrap();
    });
}
