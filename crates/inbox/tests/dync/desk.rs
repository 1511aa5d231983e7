//! A desk over a folder: what the listener is tried with, with real files. While there is a file `hold`, uploads wait.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use files::{Dir, Name};
use inbox::Client;
use inbox::dync::desk::{Desk, FileSink, Found, Offer, Refusal, Ticket, UploadId};
use inbox::dync::single::{Single, SingleError, SinglePlace};
use tokio::sync::watch;
use transfer::message::Waiting;
use transfer::reception::Turn;

pub struct FolderDesk {
    root: PathBuf,
    handle: tokio::runtime::Handle,
}

impl FolderDesk {
    pub fn new(root: &Path) -> Arc<Self> {
        for folder in ["incoming", "store"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let handle = tokio::runtime::Handle::current();
        Arc::new(Self { root: root.to_owned(), handle })
    }

    fn incoming(&self, id: UploadId) -> PathBuf {
        self.root.join("incoming").join(id.to_string())
    }

    fn store(&self, id: UploadId) -> PathBuf {
        self.root.join("store").join(id.to_string())
    }

    /// It is everybody's turn when nothing holds them.
    fn ticket(&self) -> Ticket {
        let hold = self.root.join("hold");
        let waiting = Waiting { position: 1, length: 1, seconds: None, reason: "held".into() };
        let turn = if hold.exists() { Turn::Waits(waiting) } else { Turn::Admitted };
        let (sender, turns) = watch::channel(turn);
        let task = self.handle.spawn(async move {
            while hold.exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let _ = sender.send(Turn::Admitted);
        });
        Ticket { turns, guard: Box::new(task) }
    }
}

impl Desk for FolderDesk {
    fn offer(&self, client: &Client, offer: Offer) -> Result<Ticket, Refusal> {
        assert!(client.id.starts_with("dync:"));
        if Name::new(offer.name.as_bytes()).is_err() {
            return Err(Refusal::new(422, "that is no name of a file"));
        }
        let metadata = serde_json::from_str::<serde_json::Value>(&offer.metadata);
        if !metadata.is_ok_and(|value| value.is_object()) {
            return Err(Refusal::new(422, "the metadata are no JSON object"));
        }
        let folder = self.incoming(offer.upload);
        fs::create_dir_all(folder.join("files")).unwrap();
        fs::write(folder.join("name"), offer.name).unwrap();
        fs::write(folder.join("metadata"), offer.metadata).unwrap();
        Ok(self.ticket())
    }

    fn find(&self, _client: &Client, upload: UploadId) -> Found {
        if self.store(upload).exists() {
            Found::Finished(upload.to_string())
        } else if self.incoming(upload).exists() {
            Found::Unfinished(self.ticket())
        } else {
            Found::Unknown
        }
    }

    fn open(&self, upload: UploadId) -> Result<Box<dyn FileSink>, Refusal> {
        let folder = self.incoming(upload);
        let place = SinglePlace {
            dir: Dir::open_ambient(&folder.join("files")).unwrap(),
            name: Name::new("data").unwrap(),
            records: Dir::open_ambient(&folder).unwrap(),
            record: Name::new("record").unwrap(),
            most_bytes: 1 << 30,
        };
        let single = Single::open(place).map_err(refusal)?;
        Ok(Box::new(Sink { single, folder, store: self.store(upload), upload }))
    }

    fn abandon(&self, upload: UploadId, _reason: &str) {
        fs::remove_dir_all(self.incoming(upload)).unwrap();
    }
}

struct Sink {
    single: Single,
    folder: PathBuf,
    store: PathBuf,
    upload: UploadId,
}

impl FileSink for Sink {
    fn durable(&self) -> u64 {
        self.single.durable()
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Refusal> {
        self.single.write(at, bytes).map_err(refusal)
    }

    fn sync(&mut self) -> Result<u64, Refusal> {
        self.single.sync().map_err(refusal)
    }

    fn finish(self: Box<Self>, sha256: [u8; 32]) -> Result<String, Refusal> {
        let done = match self.single.finish(&sha256) {
            Ok(done) => done,
            Err(error) => {
                fs::remove_dir_all(&self.folder).unwrap();
                return Err(refusal(error));
            }
        };
        fs::write(self.folder.join("digest"), done.digest.to_string()).unwrap();
        fs::rename(&self.folder, &self.store).unwrap();
        Ok(self.upload.to_string())
    }
}

fn refusal(error: SingleError) -> Refusal {
    let code = match &error {
        SingleError::TooLarge { .. } => 413,
        SingleError::Sha256 { .. } => 422,
        SingleError::Files(error) if error.is_disk_full() => 507,
        _ => 500,
    };
    Refusal::new(code, error.to_string())
}
