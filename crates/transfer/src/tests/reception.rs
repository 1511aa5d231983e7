//! Datasets that are handed in to a reception that does what each test wants: over both kinds of lane.

use std::collections::HashMap;
use std::sync::Weak;

use files::{Digest, Sha256};
use tokio::sync::watch;

use super::*;
use crate::TransferError;
use crate::client::{Dataset, Judged, check, hand_in, inventory, schema, upload_id};
use crate::host::{Admission, Intake, Standing};
use crate::message::{Entry, Fault, Offer, RefuseCode, Waiting};
use crate::receipt::{DatasetStatement, Statement};
use crate::reception::{Begun, Offered, Place, Reception, Turn, Turned};

const METADATA: &[u8] = br#"{"sample": "QTEST001"}"#;
const ID: &str = "0000000000000abc";

/// What the reception of a test does, and what it has seen.
#[derive(Default)]
struct Desk {
    far: Option<Dir>,
    faults: Vec<Fault>,
    refuses_to_publish: bool,
    admits_no: Option<Name>,
    waits: u64,
    published: Mutex<HashMap<[u8; 16], Vec<u8>>>,
    stands: Mutex<Vec<Standing>>,
    links: Mutex<Vec<bool>>,
    /// What is being carried, for as long as it is.
    carried: Mutex<Weak<Sealing>>,
}

struct AtDesk(Arc<Desk>);

impl Reception for AtDesk {
    fn most_metadata(&self) -> u64 {
        100_000
    }

    fn schema(&self, _: &Lane, inbox: &str) -> Result<Vec<u8>, Refusal> {
        // Longer than one part.
        Ok(format!("{inbox}:").into_bytes().into_iter().cycle().take(150_000).collect())
    }

    fn check(&self, _: &Lane, _: &Offer, metadata: &[u8]) -> Result<Vec<String>, Turned> {
        assert_eq!(metadata, METADATA);
        match self.0.faults.is_empty() {
            true => Ok(vec!["2 wait".to_owned()]),
            false => Err(Turned::Unfit { faults: self.0.faults.clone(), more: 3 }),
        }
    }

    fn offer(&self, lane: &Lane, offer: Offer, metadata: Vec<u8>) -> Result<Offered, Turned> {
        self.check(lane, &offer, &metadata)?;
        let known = self.0.published.lock().unwrap().get(&offer.upload).cloned();
        if let Some(receipt) = known {
            return Ok(Offered::Finished { dataset: ID.to_owned(), receipt });
        }
        let (told, turns) = watch::channel(Turn::Waits(waiting(self.0.waits + 1)));
        let waits = self.0.waits;
        tokio::runtime::Handle::current().spawn(async move {
            for position in (1..=waits).rev() {
                let _ = told.send(Turn::Waits(waiting(position)));
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
            let _ = told.send(Turn::Admitted);
            told.closed().await;
        });
        Ok(Offered::Queued(Box::new(InQueue { desk: self.0.clone(), offer, metadata, turns })))
    }

    fn enrol(&self, _: &Lane, _: &[u8], _: &str) -> Result<(bool, String), Refusal> {
        Ok((false, String::new()))
    }
}

fn waiting(position: u64) -> Waiting {
    Waiting { position, length: 9, seconds: Some(60), reason: "8 uploads".to_owned() }
}

struct InQueue {
    desk: Arc<Desk>,
    offer: Offer,
    metadata: Vec<u8>,
    turns: watch::Receiver<Turn>,
}

impl Place for InQueue {
    fn turns(&self) -> watch::Receiver<Turn> {
        self.turns.clone()
    }

    fn begin(self: Box<Self>) -> Result<Begun, Refusal> {
        let far = self.desk.far.clone().unwrap();
        let intake = Arc::new(At { desk: self.desk.clone(), offer: self.offer.clone() });
        let intake = Arc::new(Sealing { at: intake, metadata: self.metadata });
        *self.desk.carried.lock().unwrap() = Arc::downgrade(&intake);
        let intake: Arc<dyn Intake> = intake;
        let landing = Landing {
            intake: Some(intake),
            max_bytes: Some(self.offer.bytes),
            admission: Arc::new(Picky(self.desk.admits_no.clone())),
            ..landing(&far, b"files")
        };
        Ok(Begun { dataset: ID.to_owned(), notes: vec!["note".to_owned()], landing })
    }
}

struct At {
    desk: Arc<Desk>,
    offer: Offer,
}

struct Sealing {
    at: Arc<At>,
    metadata: Vec<u8>,
}

impl Intake for Sealing {
    fn stands(&self, file: Standing) {
        self.at.desk.stands.lock().unwrap().push(file);
    }

    fn link(&self, up: bool) -> bool {
        self.at.desk.links.lock().unwrap().push(up);
        true
    }

    fn progress(&self, bytes: u64) {
        assert!(bytes <= self.at.offer.bytes, "{bytes}");
    }

    fn publish(&self, statement: Statement, identity: &Identity) -> Result<Vec<u8>, Refusal> {
        if self.at.desk.refuses_to_publish {
            let text = "the disk is full".to_owned();
            return Err(Refusal { code: RefuseCode::Disk, text });
        }
        let dataset = DatasetStatement {
            id: ID.to_owned(),
            inbox: self.at.offer.inbox.clone(),
            name: self.at.offer.name.clone(),
            metadata: Digest::of(&self.metadata),
        };
        let receipt = Statement { dataset: Some(dataset), ..statement }.sign(identity);
        self.at.desk.published.lock().unwrap().insert(self.at.offer.upload, receipt.clone());
        Ok(receipt)
    }
}

/// Admits all names but one.
struct Picky(Option<Name>);

impl Admission for Picky {
    fn admit(&self, entry: &Entry, _: &RelPath) -> Result<(), Refusal> {
        match self.0.as_ref() == Some(&entry.name) {
            true => Err(Refusal { code: RefuseCode::Denied, text: "not this".to_owned() }),
            false => Ok(()),
        }
    }
}

/// A daemon with this desk, and a dataset of a large and two small files.
struct Set {
    scratch: Scratch,
    rig: Rig,
    desk: Arc<Desk>,
}

impl Set {
    fn new(name: &str, kind: LaneKind, desk: Desk) -> Self {
        let scratch = Scratch::new(&format!("reception-{name}-{kind:?}"));
        let far = scratch.dir("far");
        let desk = Arc::new(Desk { far: Some(far.clone()), ..desk });
        let reception: Arc<dyn Reception> = Arc::new(AtDesk(desk.clone()));
        let rig = Rig { kind, ..Rig::receiving(far, Some(reception)) };
        let near = scratch.path("near/run");
        std::fs::create_dir_all(near.join("sub")).unwrap();
        let large: Vec<u8> = (0..5_000_000u32).map(|at| (at * 7 % 251) as u8).collect();
        std::fs::write(near.join("large"), large).unwrap();
        std::fs::write(near.join("sub/small"), b"small").unwrap();
        std::fs::write(near.join("empty"), b"").unwrap();
        Self { scratch, rig, desk }
    }

    fn sources(&self) -> Vec<SourceRoot> {
        vec![source(&self.scratch.dir("near"), b"run")]
    }

    fn dataset(&self) -> Dataset {
        let sources = self.sources();
        let looked = std::thread::spawn(move || inventory(&sources, &Order::default(), true));
        let found = looked.join().unwrap().unwrap();
        assert_eq!((found.files, found.bytes), (3, 5_000_005));
        let server = self.rig.identity.public_key();
        let offer = Offer {
            upload: upload_id(&server, "ngs", "run", &found.stamp),
            inbox: "ngs".to_owned(),
            name: "run".to_owned(),
            metadata_len: METADATA.len() as u64,
            files: found.files,
            bytes: found.bytes,
            content: found.content,
            check: false,
        };
        Dataset { offer, metadata: METADATA.to_vec(), by: self.rig.identity.public_key() }
    }

    async fn hand_in(&self, options: JobOptions) -> Result<crate::client::HandedIn, TransferError> {
        let (dataset, sources) = (self.dataset(), self.sources());
        hand_in(self.rig.connect(), dataset, sources, Order::default(), options).await
    }
}

both_kinds! {
    a_dataset_waits_and_is_taken_over
    metadata_that_do_not_fit_cost_nothing
    what_is_not_whole_is_not_published
    an_answer_that_was_lost_is_given_again
    who_does_not_come_back_is_let_go
}

fn a_dataset_waits_and_is_taken_over(kind: LaneKind) {
    runtime().block_on(async {
        let set = Set::new("waits", kind, Desk { waits: 2, ..Desk::default() });
        let (heard, told) = std::sync::mpsc::channel();
        let sink = Sink::new(move |event| {
            if let Event::Waiting { .. } | Event::Admitted { .. } = event {
                heard.send(event.clone()).unwrap();
            }
        });
        let done = set.hand_in(JobOptions { sink, ..options() }).await.unwrap();
        assert_eq!((done.dataset.as_str(), done.before), (ID, false));
        let told: Vec<Event> = told.try_iter().collect();
        let places: Vec<u64> = told
            .iter()
            .filter_map(|event| match event {
                Event::Waiting { position, .. } => Some(*position),
                _ => None,
            })
            .collect();
        assert!(places.contains(&2) && places.is_sorted_by(|a, b| a >= b), "{places:?}");
        let admitted = Event::Admitted { dataset: ID.to_owned(), notes: vec!["note".to_owned()] };
        assert!(
            matches!(told.last(), Some(last) if format!("{last:?}") == format!("{admitted:?}"))
        );
        let mut stands = set.desk.stands.lock().unwrap().clone();
        stands.sort_by_key(|file| file.path.as_bytes().to_vec());
        let paths: Vec<String> = stands.iter().map(|file| file.path.to_string()).collect();
        assert_eq!(paths, ["run/empty", "run/large", "run/sub/small"]);
        for file in &stands {
            let content = std::fs::read(set.scratch.path("far/files").join(file.path.to_string()));
            let content = content.unwrap();
            assert_eq!(file.size, content.len() as u64);
            assert_eq!(file.digest, Digest::of(&content));
            assert_eq!(file.sha256, Some(Sha256::of(&content)), "{}", file.path);
        }
        assert_eq!(set.desk.links.lock().unwrap().first(), Some(&true));
        let receipt = Receipt::verify(&done.report.receipt.unwrap()).unwrap().statement;
        let dataset = receipt.dataset.unwrap();
        assert_eq!((dataset.name.as_str(), dataset.metadata), ("run", Digest::of(METADATA)));
        assert!(receipt.durable);
        let lane = set.rig.connect()(Way::Any).await.unwrap();
        assert_eq!(schema(&lane, "ngs").await.unwrap().len(), 150_000);
        set.rig.close().await;
    });
}

fn metadata_that_do_not_fit_cost_nothing(kind: LaneKind) {
    runtime().block_on(async {
        let fault = Fault { path: "/sample".to_owned(), reason: "is missing".to_owned() };
        let faults = vec![fault.clone()];
        let set = Set::new("unfit", kind, Desk { faults, ..Desk::default() });
        let error = set.hand_in(options()).await.unwrap_err();
        let TransferError::Unfit { faults, more: 3, .. } = error else { panic!("{error}") };
        assert_eq!(faults, [fault]);
        let lane = set.rig.connect()(Way::Any).await.unwrap();
        let judged = check(&lane, &set.dataset()).await.unwrap();
        assert!(matches!(judged, Judged::Unfit { more: 3, .. }));
        assert!(!set.scratch.path("far/files").exists());
        set.rig.close().await;
    });
}

fn what_is_not_whole_is_not_published(kind: LaneKind) {
    runtime().block_on(async {
        let admits_no = Some(Name::new("small").unwrap());
        let set = Set::new("partial", kind, Desk { admits_no, ..Desk::default() });
        let error = set.hand_in(options()).await.unwrap_err();
        assert!(
            matches!(error, TransferError::Refused { code: RefuseCode::Corrupt, .. }),
            "{error}"
        );
        assert!(set.desk.published.lock().unwrap().is_empty());
        set.rig.close().await;
        let full = Desk { refuses_to_publish: true, ..Desk::default() };
        let set = Set::new("full", kind, full);
        let error = set.hand_in(options()).await.unwrap_err();
        assert!(matches!(error, TransferError::Refused { code: RefuseCode::Disk, .. }), "{error}");
        set.rig.close().await;
    });
}

fn an_answer_that_was_lost_is_given_again(kind: LaneKind) {
    runtime().block_on(async {
        let set = Set::new("again", kind, Desk::default());
        let first = set.hand_in(options()).await.unwrap();
        let again = set.hand_in(options()).await.unwrap();
        assert!(again.before && again.report.bytes_sent == 0);
        assert_eq!(again.report.receipt, first.report.receipt);
        // Somebody else's content under the same id proves nothing.
        let dataset = set.dataset();
        std::fs::write(set.scratch.path("near/run/sub/small"), b"other").unwrap();
        let error = hand_in(set.rig.connect(), dataset, set.sources(), Order::default(), options());
        let error = error.await.unwrap_err();
        assert!(matches!(error, TransferError::BadReceipt { .. }), "{error}");
        set.rig.close().await;
    });
}

fn who_does_not_come_back_is_let_go(kind: LaneKind) {
    runtime().block_on(async {
        let set = Set::new("gone", kind, Desk::default());
        let carried = || set.desk.carried.lock().unwrap().upgrade().is_some();
        let link = || set.desk.links.lock().unwrap().last().copied();
        let (connect, lanes) = (set.rig.connect(), Lanes::default());
        let dialled = lanes.clone();
        let connect: Connect = Arc::new(move |way| {
            let (dialling, dialled) = (connect(way), dialled.clone());
            Box::pin(async move {
                let lane = dialling.await?;
                dialled.lock().unwrap().push(lane.clone());
                Ok(lane)
            })
        });
        let slowly = JobOptions { limit_bytes_per_s: Some(100_000), ..options() };
        let (dataset, sources) = (set.dataset(), set.sources());
        let handing_in = hand_in(connect, dataset, sources, Order::default(), slowly);
        let until_cut = async {
            while link() != Some(true) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // It does not take leave: its machine goes to sleep.
            lanes.lock().unwrap()[0].close(link::close_code::GOING_AWAY, "cut");
        };
        tokio::select! {
            done = handing_in => panic!("it was done: {:?}", done.map(|done| done.dataset)),
            () = until_cut => {}
        }
        let let_go = async {
            while link() != Some(false) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            set.rig.server.sweep(crate::serve::KEEP);
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(carried(), "it may come back");
            while carried() {
                set.rig.server.sweep(Duration::ZERO);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), let_go).await.expect("it is let go of");
        set.rig.close().await;
    });
}
