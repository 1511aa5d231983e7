mod crash;
mod links;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use files::{Digest, Kind};
use link::Identity;
use transfer::Totals;
use transfer::host::Standing;
use transfer::receipt::{DatasetStatement, Statement};
use tree::TreeDigests;

use super::*;
use crate::catalogue::{DatasetRow, DatasetState, UploadId};
use crate::scratch::Scratch;
use crate::verify::{VerifyOptions, verify};

/// A root, and a server that signs.
pub(crate) struct Bench {
    pub(crate) scratch: Scratch,
    pub(crate) steps: Steps,
    pub(crate) identity: Identity,
}

/// The files of an ordinary dataset: names that hurt, one that is empty, one of more than a buffer.
pub(crate) fn files() -> Vec<(Vec<u8>, Vec<u8>)> {
    vec![
        (b"reads/a.fastq".to_vec(), b"ACGT".repeat(100_000)),
        (b"reads/a-b".to_vec(), b"x".to_vec()),
        (b"reads.txt".to_vec(), Vec::new()),
        (b"new\nline \\ back\rslash".to_vec(), b"1".to_vec()),
        (b"\\leading".to_vec(), b"2".to_vec()),
        (b"deep/er/\xff\xfe".to_vec(), b"3".to_vec()),
        ("tür/日本".as_bytes().to_vec(), b"4".to_vec()),
    ]
}

/// What stands with an offer of this number.
pub(crate) fn metadata(number: u32) -> String {
    format!(" {{\"run\": {number}, \"u\": \"\\u00e4\"}}\n")
}

impl Bench {
    pub(crate) fn new() -> Self {
        let identity = Identity::generate().unwrap();
        Self { scratch: Scratch::new(), steps: Steps::default(), identity }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    pub(crate) fn open(&self) -> Root {
        Root::open_with(&self.path(), self.steps.clone()).unwrap()
    }

    pub(crate) fn offer(&self, number: u32) -> OfferRecord {
        let offered = time(1_795_000_000_000 + i64::from(number));
        OfferRecord {
            id: DatasetId::new(offered.as_millisecond() as u64, number),
            upload: UploadId([number as u8; 16]),
            inbox: "ngs".into(),
            name: format!("Läufe {number}"),
            client: "haul-ed25519 AAAA".into(),
            label: "lab one".into(),
            address: Some("192.0.2.1:4321".into()),
            offered,
            files: 7,
            bytes: 1,
            content: None,
            metadata_digest: Digest::of(metadata(number).as_bytes()),
            schema: Some(SchemaRecord {
                name: Some("s".into()),
                version: None,
                digest: Digest::of(b"s"),
            }),
            program: "haul 0".into(),
        }
    }

    pub(crate) fn publish(&self, incoming: &Incoming) -> Result<PublishedDataset> {
        self.publish_as(incoming, &publication())
    }

    pub(crate) fn publish_as(
        &self,
        incoming: &Incoming,
        publication: &Publication,
    ) -> Result<PublishedDataset> {
        let offer = incoming.offer();
        let receipt = |facts: &Facts| Ok(self.statement(offer, facts).sign(&self.identity));
        incoming.publish(publication, receipt, |_, _| Ok(()))
    }

    fn statement(&self, offer: &OfferRecord, facts: &Facts) -> Statement {
        Statement {
            transfer: "00".into(),
            source: self.identity.public_key(),
            target: self.identity.public_key(),
            path: facts.path.clone(),
            began: 1,
            ended: 2,
            durable: true,
            roots: Vec::new(),
            root_count: 0,
            tree: TreeDigests { content: facts.content, attributes: facts.content, records: 1 },
            totals: Totals::default(),
            removed: 0,
            dataset: Some(DatasetStatement {
                id: facts.id.to_string(),
                inbox: offer.inbox.clone(),
                name: offer.name.clone(),
                metadata: facts.metadata,
            }),
        }
    }

    /// A dataset in the store of a root that is open.
    pub(crate) fn dataset(&self, root: &Root, number: u32) -> DatasetRow {
        let incoming = root.take_in(&self.offer(number), &metadata(number)).unwrap();
        fill(&incoming, &files());
        let row = self.publish(&incoming).unwrap().row;
        incoming.remove().unwrap();
        row
    }

    /// Everything of a dataset is as it was published, and the catalogue knows it.
    #[track_caller]
    pub(crate) fn check_whole(&self, root: &Root, id: DatasetId, expected: &[(Vec<u8>, Vec<u8>)]) {
        let row = root.catalogue().dataset(id).unwrap().expect("it has a row");
        assert_eq!(row.state, DatasetState::Ok);
        let options =
            VerifyOptions { skip_contents: false, signer: Some(self.identity.public_key()) };
        let verified = verify(root.dir(), &row, &options).unwrap();
        let mut parts: Vec<_> = fs::read_dir(self.path().join(&row.path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        parts.sort();
        let whole = [FILES, "manifest.blake3", "manifest.sha256", METADATA, RECEIPT];
        assert_eq!(parts, whole, "{}", row.path);
        assert!(verified.is_whole(), "{:?}", verified.findings);
        let folder = self.path().join(&row.path).join("files");
        for (path, content) in expected {
            assert_eq!(&fs::read(folder.join(OsStr::from_bytes(path))).unwrap(), content);
        }
        assert_eq!(verified.files, expected.len() as u64);
    }
}

pub(crate) fn time(millis: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(millis).unwrap()
}

pub(crate) fn publication() -> Publication {
    Publication {
        began: time(1_795_000_100_000),
        published: time(1_795_000_200_000),
        by: "haul-ed25519 SERVER".into(),
        program: "haul 0".into(),
        content: None,
        link_to: None,
    }
}

/// Does what a transfer does: files that stand, and a note of each, every second one with its SHA-256.
pub(crate) fn fill(incoming: &Incoming, files: &[(Vec<u8>, Vec<u8>)]) {
    for (number, (path, content)) in files.iter().enumerate() {
        let on_disk =
            incoming.dir().unwrap().path().join("dataset/files").join(OsStr::from_bytes(path));
        fs::create_dir_all(on_disk.parent().unwrap()).unwrap();
        fs::write(on_disk, content).unwrap();
        let sha256 = ring::digest::digest(&ring::digest::SHA256, content);
        let sha256: [u8; 32] = sha256.as_ref().try_into().unwrap();
        incoming.note(&Standing {
            path: RelPath::parse(path).unwrap(),
            size: content.len() as u64,
            digest: Digest::of(content),
            sha256: (number % 2 == 0).then_some(files::Sha256::from_bytes(sha256)),
        });
    }
}

fn on_disk(incoming: &Incoming, path: &str) -> PathBuf {
    incoming.dir().unwrap().path().join("dataset/files").join(path)
}

#[test]
fn a_dataset_appears_whole_with_what_proves_it() {
    let bench = Bench::new();
    let root = bench.open();
    let offer = bench.offer(1);
    let incoming = root.take_in(&offer, &metadata(1)).unwrap();
    assert_eq!(root.incoming().unwrap()[0].offer(), &offer);
    fill(&incoming, &files());
    let published = bench.publish(&incoming).unwrap();
    bench.check_whole(&root, offer.id, &files());
    let row = &published.row;
    assert_eq!(row.path, format!("store/ngs/2026-11/{}-L_ufe_1", offer.id));
    assert_eq!((row.files, row.bytes), (7, 400_005));
    assert_eq!(row.metadata, metadata(1));
    assert_eq!(root.receipt(row).unwrap(), published.receipt);
    assert_eq!(root.catalogue().dataset(offer.id).unwrap().as_ref(), Some(row));
    // The metadata stand in the sidecar as they were sent, and the whole is JSON.
    let sidecar = fs::read(bench.path().join(&row.path).join("metadata.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&sidecar).unwrap();
    assert_eq!(json["metadata"]["run"], 1);
    assert_eq!(json["received"]["address"], "192.0.2.1:4321");
    assert!(String::from_utf8(sidecar).unwrap().contains(&metadata(1)));
    incoming.remove().unwrap();
    assert!(root.incoming().unwrap().is_empty());
    incoming.remove().unwrap();
}

#[test]
fn sha256sum_takes_the_manifest_whatever_the_names_are() {
    let bench = Bench::new();
    let root = bench.open();
    let row = bench.dataset(&root, 1);
    let folder = bench.path().join(&row.path);
    let sum = || {
        let mut command = Command::new("sha256sum");
        command.args(["--check", "--strict", "--quiet", "manifest.sha256"]);
        command.current_dir(&folder).output().expect("sha256sum runs")
    };
    let output = sum();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = fs::read(folder.join("manifest.sha256")).unwrap();
    assert_eq!(manifest.iter().filter(|byte| **byte == b'\n').count(), files().len());
    fs::write(folder.join("files/reads/a-b"), b"y").unwrap();
    assert!(!sum().status.success());
    // What sha256sum itself writes of these files is what we write.
    fs::write(folder.join("files/reads/a-b"), b"x").unwrap();
    let mut lines: Vec<&[u8]> = manifest.split_inclusive(|byte| *byte == b'\n').collect();
    let names = files().into_iter().map(|(path, _)| [b"files/", &path[..]].concat());
    let output = Command::new("sha256sum")
        .args(names.map(|name| OsStr::from_bytes(&name).to_owned()))
        .current_dir(&folder)
        .output()
        .unwrap();
    let mut theirs: Vec<&[u8]> = output.stdout.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort();
    theirs.sort();
    assert_eq!(lines, theirs);
}

#[test]
fn what_is_there_must_be_what_was_noted() {
    type Change = fn(&Incoming);
    type Expected = fn(&StoreError) -> bool;
    let cases: [(Change, Expected); 7] = [
        (
            |incoming| fs::remove_file(on_disk(incoming, "reads.txt")).unwrap(),
            |error| matches!(error, StoreError::Missing(path) if path.as_bytes() == b"reads.txt"),
        ),
        (
            |incoming| fs::remove_file(on_disk(incoming, "tür/日本")).unwrap(),
            |error| matches!(error, StoreError::Missing(_)),
        ),
        (
            |incoming| fs::write(on_disk(incoming, "reads.txt"), b"more").unwrap(),
            |error| matches!(error, StoreError::Size { expected: 0, found: 4, .. }),
        ),
        (
            // One that was noted without SHA-256, so that it is read.
            |incoming| fs::write(on_disk(incoming, "reads/a-b"), b"y").unwrap(),
            |error| matches!(error, StoreError::Content(_)),
        ),
        (
            |incoming| symlink("/etc/passwd", on_disk(incoming, "link")).unwrap(),
            |error| matches!(error, StoreError::Kind { kind: Kind::Symlink, .. }),
        ),
        (
            |incoming| {
                fs::remove_file(on_disk(incoming, "reads.txt")).unwrap();
                fs::create_dir(on_disk(incoming, "reads.txt")).unwrap();
            },
            |error| matches!(error, StoreError::Kind { kind: Kind::Directory, .. }),
        ),
        (
            |incoming| {
                fs::rename(on_disk(incoming, "tür"), on_disk(incoming, "away")).unwrap();
                symlink("away", on_disk(incoming, "tür")).unwrap();
            },
            |error| matches!(error, StoreError::Kind { .. } | StoreError::Missing(_)),
        ),
    ];
    for (number, (change, is_expected)) in cases.into_iter().enumerate() {
        let bench = Bench::new();
        let root = bench.open();
        let incoming = root.take_in(&bench.offer(1), &metadata(1)).unwrap();
        fill(&incoming, &files());
        change(&incoming);
        let error = bench.publish(&incoming).unwrap_err();
        assert!(is_expected(&error), "{number}: {error:?}");
        assert!(root.find_published("ngs", incoming.id()).unwrap().is_none());
        assert_eq!(root.catalogue().dataset(incoming.id()).unwrap(), None);
        // Once it is put right it goes.
        incoming.begin_anew().unwrap();
        fill(&incoming, &files());
        bench.publish(&incoming).unwrap();
        bench.check_whole(&root, incoming.id(), &files());
    }
}

#[test]
fn leftovers_of_an_earlier_attempt_go_once_the_whole_is_known_to_be_right() {
    let bench = Bench::new();
    let root = bench.open();
    let incoming = root.take_in(&bench.offer(1), &metadata(1)).unwrap();
    let leftovers = [(b"old".to_vec(), b"old".to_vec()), (b"reads/zz".to_vec(), b"old".to_vec())];
    fill(&incoming, &leftovers);
    incoming.restart_records().unwrap();
    let mut first = files();
    first[1].1 = b"older".to_vec();
    fill(&incoming, &first);
    // The last note of a path counts.
    fill(&incoming, &files());
    let wrong = Publication { content: Some(Digest::of(b"another")), ..publication() };
    assert!(matches!(bench.publish_as(&incoming, &wrong), Err(StoreError::Tree)));
    assert!(on_disk(&incoming, "old").exists(), "nothing is removed for a guess");
    let row = bench.publish(&incoming).unwrap().row;
    bench.check_whole(&root, incoming.id(), &files());
    // The same files have the same content digest, wherever they lie.
    let second = root.take_in(&bench.offer(2), &metadata(2)).unwrap();
    fill(&second, &files());
    let right = Publication { content: Some(row.content), ..publication() };
    bench.publish_as(&second, &right).unwrap();
}

#[test]
fn a_dataset_without_files_is_one_too() {
    let bench = Bench::new();
    let root = bench.open();
    let incoming = root.take_in(&bench.offer(1), &metadata(1)).unwrap();
    bench.publish(&incoming).unwrap();
    bench.check_whole(&root, incoming.id(), &[]);
}

#[test]
fn many_files_go_through_scratch_files() {
    let bench = Bench::new();
    let root = bench.open();
    let incoming = root.take_in(&bench.offer(1), &metadata(1)).unwrap();
    let many: Vec<_> = (0..3_000)
        .map(|number| {
            let path = format!("{:03}/{:0>200}", number % 7, number * 7919 % 3_001);
            (path.into_bytes(), number.to_string().into_bytes())
        })
        .collect();
    fill(&incoming, &many);
    bench.publish(&incoming).unwrap();
    bench.check_whole(&root, incoming.id(), &many);
}

#[test]
fn what_is_discarded_is_known_and_gone() {
    let bench = Bench::new();
    let root = bench.open();
    let incoming = root.take_in(&bench.offer(1), &metadata(1)).unwrap();
    fill(&incoming, &files());
    incoming.discard("its client did not come back", time(1_795_000_300_000)).unwrap();
    // What had arrived goes when nobody waits for it.
    assert_eq!(fs::read_dir(bench.path().join("incoming")).unwrap().count(), 1);
    incoming.clear().unwrap();
    assert!(root.incoming().unwrap().is_empty());
    let folder = bench.path().join("rejected").join(incoming.id().as_str());
    let reason: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("reason.json")).unwrap()).unwrap();
    assert_eq!(reason["reason"], "its client did not come back");
    let (offer, text) = OfferRecord::parse(&fs::read(folder.join("offer.json")).unwrap()).unwrap();
    assert_eq!((&offer, text), (incoming.offer(), metadata(1)));
    assert_eq!(fs::read_dir(bench.path().join("incoming")).unwrap().count(), 0);
}

#[test]
fn a_root_has_one_server_and_offers_that_can_be_kept() {
    let bench = Bench::new();
    let root = bench.open();
    assert!(matches!(Root::open(&bench.path()), Err(StoreError::Locked { .. })));
    let refused = |offer: OfferRecord| root.take_in(&offer, &metadata(1)).unwrap_err().to_string();
    assert!(refused(OfferRecord { name: "../x".into(), ..bench.offer(1) }).contains("no '/'"));
    assert!(refused(OfferRecord { inbox: "../x".into(), ..bench.offer(1) }).contains("its inbox"));
    assert!(fs::read_dir(bench.path().join("incoming")).unwrap().next().is_none());
    root.take_in(&bench.offer(1), &metadata(1)).unwrap();
    assert!(root.take_in(&bench.offer(1), &metadata(1)).is_err(), "an id is used once");
    drop(root);
    let mode = fs::metadata(bench.path().join("incoming")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o700);
    bench.open();
}

/// Where the test may mount, a folder on another filesystem is refused; elsewhere shared memory is one.
#[test]
fn all_of_a_root_lies_on_one_filesystem() {
    let bench = Bench::new();
    drop(bench.open());
    let elsewhere = PathBuf::from(format!("/dev/shm/haul-inbox-{}", std::process::id()));
    fs::create_dir_all(&elsewhere).unwrap();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_ne!(device(&elsewhere), device(&bench.path()), "the test needs two filesystems");
    fs::remove_dir(bench.path().join("store")).unwrap();
    symlink(&elsewhere, bench.path().join("store")).unwrap();
    let result = Root::open(&bench.path());
    fs::remove_dir_all(&elsewhere).unwrap();
    // No link is followed, so what lies elsewhere can only be mounted.
    assert!(
        matches!(result, Err(StoreError::Files(error)) if error.is_symlink_refused() || error.is_not_a_directory())
    );
}

#[test]
fn records_and_offers_that_nobody_wrote_are_none() {
    let bench = Bench::new();
    let offer = bench.offer(1);
    let text = String::from_utf8(offer.to_bytes(&metadata(1))).unwrap();
    assert_eq!(OfferRecord::parse(text.as_bytes()), Ok((offer, metadata(1))));
    for (from, to) in [
        ("\"haul_offer\": 1", "\"haul_offer\": 2"),
        ("\"inbox\": \"ngs\"", "\"inbox\": \"../x\""),
        ("Läufe 1", "a/b"),
        ("\"upload\": \"01", "\"upload\": \"0"),
        ("\"files\": 7", "\"files\": -7"),
        ("2026-", "1-"),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(OfferRecord::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{from}");
    }
}
