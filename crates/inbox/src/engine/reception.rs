//! The inboxes as the daemon's protocol asks them: peers on lanes become clients.

use link::Lane;
use tokio::sync::watch;
use transfer::host::Refusal;
use transfer::message::{Offer, RefuseCode};
use transfer::reception::{self, Begun, Offered, Turn, Turned};

use super::{Answer, Inboxes, Place};
use crate::Client;

impl Client {
    /// The peer of a lane that was let in.
    pub fn of(lane: &Lane) -> Result<Self, Refusal> {
        let allowed = lane.permissions().ok_or_else(|| Refusal {
            code: RefuseCode::Denied,
            text: "nothing is served on this lane".to_owned(),
        })?;
        let label = match allowed.comment.is_empty() {
            true => lane.peer().fingerprint(),
            false => allowed.comment.clone(),
        };
        Ok(Self {
            id: lane.peer().to_line("").trim_end().to_owned(),
            label,
            address: Some(lane.remote_address()),
            rights: allowed.inboxes.clone(),
            max_rate_bytes_per_s: allowed.max_rate_bytes_per_s,
        })
    }
}

/// What lets a key in that is not known yet: whether it may enter from now on, and what follows from it.
pub type Enrol = Box<dyn Fn(&Lane, &[u8], &str) -> Result<(bool, String), Refusal> + Send + Sync>;

/// Inboxes and enrolment behind the daemon's protocol.
pub struct Reception {
    /// None where keys enrol for other things.
    pub inboxes: Option<Inboxes>,
    /// None where keys are let in by the operator alone.
    pub enrol: Option<Enrol>,
}

impl Reception {
    fn inboxes(&self) -> Result<&Inboxes, Refusal> {
        let text = "this daemon has no inboxes";
        self.inboxes
            .as_ref()
            .ok_or_else(|| Refusal { code: RefuseCode::NotFound, text: text.to_owned() })
    }
}

impl reception::Reception for Reception {
    fn most_metadata(&self) -> u64 {
        self.inboxes.as_ref().map_or(0, Inboxes::most_metadata)
    }

    fn schema(&self, lane: &Lane, inbox: &str) -> Result<Vec<u8>, Refusal> {
        self.inboxes()?.schema(&Client::of(lane)?, inbox)
    }

    fn check(&self, lane: &Lane, offer: &Offer, metadata: &[u8]) -> Result<Vec<String>, Turned> {
        self.inboxes()?.check(&Client::of(lane)?, offer, metadata)
    }

    fn offer(&self, lane: &Lane, offer: Offer, metadata: Vec<u8>) -> Result<Offered, Turned> {
        let client = Client::of(lane)?;
        Ok(match self.inboxes()?.offer(&client, &offer, &metadata)? {
            Answer::Finished { dataset, receipt } => {
                Offered::Finished { dataset: dataset.to_string(), receipt }
            }
            Answer::Queued(place) => {
                let max_rate_bytes_per_s = client.max_rate_bytes_per_s;
                Offered::Queued(Box::new(OnLane { place, max_rate_bytes_per_s }))
            }
        })
    }

    fn enrol(&self, lane: &Lane, code: &[u8], label: &str) -> Result<(bool, String), Refusal> {
        let Some(enrol) = &self.enrol else {
            let text = "this daemon takes no requests; whoever runs it lets keys in".to_owned();
            return Err(Refusal { code: RefuseCode::Denied, text });
        };
        enrol(lane, code, label)
    }
}

struct OnLane {
    place: Place,
    max_rate_bytes_per_s: Option<u64>,
}

impl reception::Place for OnLane {
    fn turns(&self) -> watch::Receiver<Turn> {
        self.place.turns()
    }

    fn begin(self: Box<Self>) -> Result<Begun, Refusal> {
        let (dataset, notes) = (self.place.dataset().to_string(), self.place.notes().to_vec());
        let landing = self.place.begin()?.landing(self.max_rate_bytes_per_s);
        Ok(Begun { dataset, notes, landing })
    }
}
