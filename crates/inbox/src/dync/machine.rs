//! The server's half of dync's protocol, for all uploads: who may send how much, and what is answered to whom
//! (`docs/formats/dync.md`). Pure: times come in, messages and wishes go out, and of chunks it sees offset and length
//! alone. Whatever clients send, what it holds is bounded by [`Limits`].

mod ended;
mod upload;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::desk::{Refusal, UploadId};
use super::wire::ServerMessage;
use ended::{End, Ended};
use upload::{Fate, Stage, Upload};

/// Bounds of what is going on at once. Credit and queue are counted in chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of a chunk.
    pub chunk_bytes: u32,
    /// How many chunks a client keeps. What a crash of the server takes is never more.
    pub max_queue: u32,
    /// The most credit of one upload.
    pub window: u32,
    /// The most credit of all uploads, but for one chunk of each.
    pub credit: u32,
    /// After what silence of its client an upload gives its credit back.
    pub idle: Duration,
    /// After what silence it is closed here; it may go on later.
    pub forget: Duration,
    /// After what time a client is told that it waits when the desk is slow. The old one stands 30 s.
    pub approve_within: Duration,
    /// How long it is remembered how an upload ended.
    pub remember: Duration,
    /// Of how many uploads.
    pub remembered: usize,
    /// The most uploads that are waiting or under way.
    pub uploads: usize,
    /// The same for one key.
    pub uploads_per_key: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            chunk_bytes: 256 << 10,
            max_queue: 128,
            window: 64,
            credit: 1024,
            idle: Duration::from_secs(30),
            forget: Duration::from_secs(120),
            approve_within: Duration::from_secs(5),
            remember: Duration::from_secs(2 * 3600),
            remembered: 4096,
            uploads: 2048,
            uploads_per_key: 256,
        }
    }
}

impl Limits {
    /// How often it is tried with a single chunk whether a client has sent any.
    fn trials(&self) -> u32 {
        (self.max_queue / 16).max(2)
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy)]
pub struct Speaker<'a> {
    /// The upload of this key and identity.
    pub upload: UploadId,
    /// The verified public key.
    pub key: &'a [u8; 32],
    /// What the client calls its upload, and where answers go.
    pub identity: &'a [u8],
}

/// What is to be done. A wish names the round of its upload, which what comes of it must name too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Say this.
    Send {
        /// To the client with this key...
        key: [u8; 32],
        /// ...under this identity, unless another key has it now.
        identity: Vec<u8>,
        /// What.
        message: ServerMessage,
    },
    /// Ask the desk what it knows of an upload.
    Find(UploadId, u64),
    /// All bytes of the file are on their way to the disk: publish it.
    Finish(UploadId, u64, [u8; 32]),
    /// Close it; what is durable is kept.
    Close(UploadId),
    /// Close it for good, for this reason.
    Abandon(UploadId, String),
    /// This client does what no client does: end its connection.
    Disconnect([u8; 32], Vec<u8>),
}

/// All uploads.
#[derive(Debug)]
pub struct Machine {
    limits: Limits,
    uploads: BTreeMap<UploadId, Upload>,
    ended: Ended,
    outputs: VecDeque<Output>,
    /// The credit that uploads have: given out, or for chunks that have come and do not count as written.
    used: u32,
    rounds: u64,
}

impl Machine {
    /// A machine that knows of no upload.
    pub fn new(limits: Limits) -> Self {
        let ended = Ended::new(limits.remembered, limits.remember);
        Self {
            limits,
            uploads: BTreeMap::new(),
            ended,
            outputs: VecDeque::new(),
            used: 0,
            rounds: 0,
        }
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How many uploads wait or are under way.
    pub fn uploads(&self) -> usize {
        self.uploads.len()
    }

    /// How many chunks may be on their way, or have come and do not count as written.
    pub fn credit_used(&self) -> u32 {
        self.used
    }

    /// A client wants to hand in a file. If the desk is to be asked, this is the round to name.
    pub fn post_file(&mut self, now: Duration, speaker: Speaker<'_>) -> Option<u64> {
        if let Some(upload) = self.uploads.get_mut(&speaker.upload) {
            upload.heard = now;
            let message = match (upload.approved, upload.taken) {
                (false, _) => return None,
                // It has begun anew, for our answer was lost.
                (true, 0) => approved(&self.limits, upload.outstanding),
                (true, _) => ServerMessage::error(409, "this identity has an upload already"),
            };
            self.say(speaker.upload, message);
            return None;
        }
        if let Some(End::Finished(id)) = self.ended.get(now, &speaker.upload) {
            let message = ServerMessage::UploadFinished(id.clone());
            self.answer(speaker, message);
            return None;
        }
        let round = self.begin(now, speaker);
        if round.is_none() {
            let text = "too many uploads are under way: try again later";
            self.answer(speaker, ServerMessage::error(429, text));
        }
        round
    }

    /// A chunk of so many bytes. If this is true, its bytes go to the disk behind those before.
    pub fn post_chunk(
        &mut self,
        now: Duration,
        speaker: Speaker<'_>,
        (seek, len): (u64, usize),
        last: Option<[u8; 32]>,
    ) -> bool {
        let id = speaker.upload;
        if !self.uploads.contains_key(&id) {
            self.unknown(now, speaker, true);
            return false;
        }
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        if len > self.limits.chunk_bytes || seek.checked_add(u64::from(len)).is_none() {
            let most = self.limits.chunk_bytes;
            let refusal = Refusal::new(413, format!("a chunk has more than {most} bytes"));
            self.end(now, id, refusal);
            return false;
        }
        let Some(upload) = self.uploads.get_mut(&id) else { return false };
        upload.heard = now;
        let mut fate = upload.chunk(seek, len, last.is_some());
        if fate == Fate::Beyond && self.find_credit(id, 1) {
            fate = self.take(id, seek, len, last.is_some());
        }
        match (fate, last) {
            (Fate::Taken, Some(sha256)) => self.last(id, sha256),
            (Fate::Taken, None) => {}
            (fate, _) => self.useless(id, fate),
        }
        fate == Fate::Taken
    }

    /// A client asks how it stands.
    pub fn query(&mut self, now: Duration, speaker: Speaker<'_>) {
        let id = speaker.upload;
        let Some(upload) = self.uploads.get_mut(&id) else {
            return self.unknown(now, speaker, false);
        };
        upload.heard = now;
        // The old client asks nothing before it was told that its file is taken in, and falls over any other word.
        if !upload.approved || (upload.outstanding == 0 && self.top_up(id, 1)) {
            return;
        }
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let (message, back) = upload.answer(&self.limits);
        self.used -= back;
        self.say(id, message);
    }

    /// A client gives up.
    pub fn client_error(&mut self, speaker: Speaker<'_>, code: u32, text: &str) {
        if self.remove(&speaker.upload).is_some() {
            let reason = format!("the client gave up: {text} (code {code})");
            self.outputs.push_back(Output::Abandon(speaker.upload, reason));
        }
    }

    /// The desk takes the file in: it waits for its turn.
    pub fn taken_in(&mut self, now: Duration, (id, round): (UploadId, u64)) {
        let Some(upload) = self.of(id, round) else { return };
        if matches!(upload.stage, Stage::Asked | Stage::Sought) {
            (upload.stage, upload.since) = (Stage::Waiting, now);
        }
    }

    /// The desk knows nothing of an upload.
    pub fn not_found(&mut self, now: Duration, (id, round): (UploadId, u64)) {
        let text = "there is no such upload here: begin it anew";
        self.failed(now, (id, round), Refusal::new(404, text));
    }

    /// It has come to its turn, and its file is open, with so many bytes. Where there is a most of bytes per second, its
    /// client has what that is in a second at once, and one chunk more; [`Self::wrote`] is then called no faster.
    pub fn opened(
        &mut self,
        (id, round): (UploadId, u64),
        durable: u64,
        max_rate_bytes_per_s: Option<u64>,
    ) {
        let chunk_bytes = u64::from(self.limits.chunk_bytes);
        let window = max_rate_bytes_per_s.map(|rate| {
            let chunks = rate.div_ceil(chunk_bytes).saturating_add(1);
            u32::try_from(chunks).unwrap_or(u32::MAX)
        });
        let share = self.share();
        let Some(upload) = self.of(id, round) else { return };
        if !matches!(upload.stage, Stage::Waiting | Stage::Asked | Stage::Sought) {
            return;
        }
        upload.opened(durable, window);
        if upload.approved {
            self.top_up(id, 1);
            return;
        }
        let free = self.free();
        let limits = &self.limits;
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let credit = upload.room(limits, share, free);
        (upload.approved, upload.outstanding) = (true, credit);
        self.used += credit;
        let message = approved(&self.limits, credit);
        self.say(id, message);
    }

    /// The disk has taken so many chunks, and the rate of the key allows as many more.
    pub fn wrote(&mut self, (id, round): (UploadId, u64), chunks: u32) {
        let Some(upload) = self.of(id, round) else { return };
        self.used -= upload.wrote(chunks);
        self.top_up_in_portions(id);
    }

    /// So many bytes are on the disk for good.
    pub fn synced(&mut self, (id, round): (UploadId, u64), durable: u64) {
        let Some(upload) = self.of(id, round) else { return };
        upload.synced(durable);
        self.top_up_in_portions(id);
    }

    /// It is published.
    pub fn finished(&mut self, now: Duration, (id, round): (UploadId, u64), dataset: String) {
        if self.of(id, round).is_some() {
            self.say(id, ServerMessage::UploadFinished(dataset.clone()));
            self.remove(&id);
            self.ended.put(now, id, End::Finished(dataset));
            self.outputs.push_back(Output::Close(id));
        }
    }

    /// It is not taken, or no more; the desk knows that.
    pub fn failed(&mut self, now: Duration, (id, round): (UploadId, u64), refusal: Refusal) {
        if self.of(id, round).is_some() {
            self.refuse(now, id, refusal);
            self.outputs.push_back(Output::Close(id));
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) {
        let ids: Vec<UploadId> = self.uploads.keys().copied().collect();
        for id in ids {
            self.look_after(now, id);
        }
        self.ended.expire(now);
    }

    /// A key was taken away: its uploads are closed.
    pub fn revoke(&mut self, key: &[u8; 32]) {
        let of_key = |(id, upload): (&UploadId, &Upload)| (upload.key == *key).then_some(*id);
        let ids: Vec<UploadId> = self.uploads.iter().filter_map(of_key).collect();
        for id in ids {
            self.remove(&id);
            self.outputs.push_back(Output::Close(id));
        }
    }

    fn look_after(&mut self, now: Duration, id: UploadId) {
        let limits = &self.limits;
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let silent = now.saturating_sub(upload.heard);
        let slow = now.saturating_sub(upload.since) >= limits.approve_within;
        if silent >= limits.forget && upload.stage != Stage::Finishing {
            self.remove(&id);
            self.outputs.push_back(Output::Close(id));
        } else if slow && !upload.approved {
            upload.approved = true;
            let message = approved(limits, 0);
            self.say(id, message);
        } else if silent >= limits.idle {
            // One chunk stays its own, so that a client on a very slow line comes through.
            let back = upload.outstanding.saturating_sub(1);
            upload.outstanding -= back;
            self.used -= back;
        } else {
            self.top_up(id, 1);
        }
    }

    /// Something was said of an upload that is not known here.
    fn unknown(&mut self, now: Duration, speaker: Speaker<'_>, sends: bool) {
        let message = match self.ended.get(now, &speaker.upload) {
            Some(End::Finished(id)) => ServerMessage::UploadFinished(id.clone()),
            Some(End::Refused(refusal)) => ServerMessage::error(refusal.code, &refusal.text),
            None => match self.begin(now, speaker) {
                Some(round) => {
                    if let Some(upload) = self.uploads.get_mut(&speaker.upload) {
                        upload.sought(sends);
                    }
                    self.outputs.push_back(Output::Find(speaker.upload, round));
                    return;
                }
                None => ServerMessage::error(429, "too many uploads are under way"),
            },
        };
        self.answer(speaker, message);
    }

    fn begin(&mut self, now: Duration, speaker: Speaker<'_>) -> Option<u64> {
        let of_key = self.uploads.values().filter(|upload| upload.key == *speaker.key).count();
        if self.uploads.len() >= self.limits.uploads || of_key >= self.limits.uploads_per_key {
            return None;
        }
        self.rounds += 1;
        let upload = Upload::new(*speaker.key, speaker.identity, self.rounds, now);
        self.uploads.insert(speaker.upload, upload);
        Some(self.rounds)
    }

    fn take(&mut self, id: UploadId, seek: u64, len: u32, last: bool) -> Fate {
        self.uploads.get_mut(&id).map_or(Fate::Dropped, |upload| upload.chunk(seek, len, last))
    }

    /// The last chunk has come: what credit is left goes back.
    fn last(&mut self, id: UploadId, sha256: [u8; 32]) {
        if let Some(upload) = self.uploads.get_mut(&id) {
            self.used -= std::mem::take(&mut upload.outstanding);
            self.outputs.push_back(Output::Finish(id, upload.round, sha256));
        }
    }

    /// A chunk was not taken.
    fn useless(&mut self, id: UploadId, fate: Fate) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        upload.lost |= fate == Fate::Beyond;
        if upload.is_flooding(&self.limits) {
            let (key, identity) = (upload.key, upload.identity.clone());
            self.remove(&id);
            self.outputs.push_back(Output::Close(id));
            self.outputs.push_back(Output::Disconnect(key, identity));
            return;
        }
        if fate == Fate::Ahead && upload.is_report_due() {
            // What was held back until it showed what the client has comes with the report.
            self.find_credit(id, u32::MAX);
            if let Some(message) = self.uploads.get_mut(&id).and_then(Upload::report_once) {
                self.say(id, message);
            }
        }
    }

    /// Credit for at most so many chunks that the client will not be told of by itself. Whether there is any.
    fn find_credit(&mut self, id: UploadId, most: u32) -> bool {
        let (share, free) = (self.share(), self.free());
        let Some(upload) = self.uploads.get_mut(&id) else { return false };
        let found = upload.room(&self.limits, share, free).min(most);
        upload.outstanding += found;
        self.used += found;
        found > 0
    }

    /// Gives an upload what it may have more when that is a quarter of all that it may have.
    fn top_up_in_portions(&mut self, id: UploadId) {
        if !self.is_running(id) {
            return;
        }
        let share = self.share();
        if let Some(upload) = self.uploads.get(&id) {
            let least = (upload.most(share) / 4).max(1);
            self.top_up(id, least);
        }
    }

    /// Gives an upload what it may have more, if that is at least so much or it has nothing. Whether it was told.
    fn top_up(&mut self, id: UploadId, least: u32) -> bool {
        if !self.is_running(id) {
            return false;
        }
        let (share, free) = (self.share(), self.free());
        let Some(upload) = self.uploads.get_mut(&id) else { return false };
        let room = upload.room(&self.limits, share, free);
        let worth = room >= least || upload.outstanding == 0 || upload.lost;
        if room == 0 || !worth {
            return false;
        }
        let message = upload.grant(room);
        self.used += room;
        self.say(id, message);
        true
    }

    /// Whether chunks of it come. Nothing else needs to know its share.
    fn is_running(&self, id: UploadId) -> bool {
        self.uploads.get(&id).is_some_and(|upload| upload.stage == Stage::Running)
    }

    /// Each upload's part of all credit. What is less because of a rate leaves more to the others.
    fn share(&self) -> u32 {
        let is_running = |upload: &&Upload| upload.stage == Stage::Running;
        let running = self.uploads.values().filter(is_running);
        let even = part(self.limits.credit, running.clone().count());
        let slow = running.clone().map(|upload| upload.most(even)).filter(|most| *most < even);
        let (count, taken) = slow.fold((0, 0), |(count, taken), most| (count + 1, taken + most));
        part(self.limits.credit.saturating_sub(taken), running.count() - count)
            .clamp(1, self.limits.window)
    }

    fn free(&self) -> u32 {
        self.limits.credit.saturating_sub(self.used)
    }

    fn of(&mut self, id: UploadId, round: u64) -> Option<&mut Upload> {
        self.uploads.get_mut(&id).filter(|upload| upload.round == round)
    }

    fn remove(&mut self, id: &UploadId) -> Option<Upload> {
        let upload = self.uploads.remove(id)?;
        self.used -= upload.holds();
        Some(upload)
    }

    /// An upload is over because of what its client sent.
    fn end(&mut self, now: Duration, id: UploadId, refusal: Refusal) {
        let reason = refusal.text.clone();
        self.refuse(now, id, refusal);
        self.outputs.push_back(Output::Abandon(id, reason));
    }

    fn refuse(&mut self, now: Duration, id: UploadId, refusal: Refusal) {
        self.say(id, ServerMessage::error(refusal.code, &refusal.text));
        self.remove(&id);
        self.ended.put(now, id, End::Refused(refusal));
    }

    fn say(&mut self, id: UploadId, message: ServerMessage) {
        if let Some(upload) = self.uploads.get(&id) {
            let (key, identity) = (upload.key, upload.identity.clone());
            self.outputs.push_back(Output::Send { key, identity, message });
        }
    }

    fn answer(&mut self, speaker: Speaker<'_>, message: ServerMessage) {
        let (key, identity) = (*speaker.key, speaker.identity.to_vec());
        self.outputs.push_back(Output::Send { key, identity, message });
    }
}

/// What of so much is each one's.
fn part(credit: u32, of: usize) -> u32 {
    credit / u32::try_from(of).unwrap_or(u32::MAX).max(1)
}

fn approved(limits: &Limits, credit: u32) -> ServerMessage {
    let (chunk_bytes, max_queue) = (limits.chunk_bytes, limits.max_queue);
    ServerMessage::UploadApproved { credit, chunk_bytes, max_queue }
}

#[cfg(test)]
mod tests;
