//! What the shells of both ends tell while they work: events, and the counters that go with them.

use std::sync::Arc;

use events::{Counters, Event, How, Sink};
use files::RelPath;

use crate::message::Outcome;

/// What a shell tells while it works.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) sink: Sink,
    pub(crate) counters: Arc<Counters>,
}

/// Tells what is extra at the target.
pub(crate) fn tell_extras(watch: &Watch, paths: &[RelPath]) {
    for path in paths {
        watch.sink.emit_with(|| Event::Extra { path: path.as_bytes().to_vec() });
    }
}

/// Counts an outcome and tells the event that belongs to it.
pub(crate) fn tell_outcome(watch: &Watch, path: &[u8], size: Option<u64>, outcome: &Outcome) {
    let counters = &watch.counters;
    let done = |how, digest: Option<&files::Digest>| Event::FileDone {
        path: path.to_vec(),
        size: size.unwrap_or(0),
        how,
        digest: digest.map(|digest| *digest.as_bytes()),
    };
    match outcome {
        Outcome::Copied(digest) => {
            counters.files_done.add(1);
            watch.sink.emit_with(|| done(How::Copied, Some(digest)));
        }
        Outcome::Unchanged(digest) => {
            counters.files_skipped.add(1);
            watch.sink.emit_with(|| done(How::Unchanged, Some(digest)));
        }
        Outcome::Made => watch.sink.emit_with(|| done(How::Linked, None)),
        Outcome::Planned(why) => {
            let (path, size, why) = (path.to_vec(), size.unwrap_or(0), why.word());
            watch.sink.emit_with(|| Event::Planned { path, size, why });
        }
        Outcome::Skipped => counters.files_skipped.add(1),
        Outcome::Failed { text, .. } => {
            counters.files_failed.add(1);
            let (path, reason) = (path.to_vec(), text.clone());
            watch.sink.emit_with(|| Event::FileFailed { path, reason });
        }
        Outcome::Withdrawn => {}
    }
}
