//! `--pace` on its way to whoever sends: the lane of a push has it, and the machine of a pull is asked for it.

use std::ffi::OsString;
use std::sync::{Arc, Mutex};

use haul::link::{Identity, Pace, close_code};
use haul::transfer::message::Opening;
use testkit::hostile::host::{Act, Guest, Host};
use testkit::tree::{Random, Scratch};

use crate::pair::{Pair, copy_words, machine};

#[test]
fn a_push_in_the_background_gives_way_over_either_kind() {
    let pair = Pair::new("pace-push");
    let source = pair.local("file");
    std::fs::write(&source, Random::new(81).bytes(2 << 20)).unwrap();
    for (kind, shown) in [("quic", "link: QUIC, 1 connection"), ("tcp", "link: TCP, ")] {
        for (pace, gives_way) in [("fair", false), ("background", true), ("20MB", false)] {
            let options = ["-v", "--link", kind, "--pace", pace].map(OsString::from);
            let target = pair.at(format!("data/{kind}-{pace}"));
            let words = [&options[..], &[source.clone().into(), target]].concat();
            let ended = pair.copy(&words).expect_code(0);
            let line = ended.errors.lines().find(|line| line.starts_with(shown));
            let line = line.unwrap_or_else(|| panic!("{kind}: {}", ended.told()));
            assert_eq!(line.contains(", giving way to others"), gives_way, "{pace}: {line}");
        }
    }
}

#[test]
fn a_pull_asks_for_its_pace() {
    let scratch = Scratch::new("pace-pull");
    let near = machine(scratch.join("near"));
    let asked: Arc<Mutex<Vec<Pace>>> = Arc::default();
    let heard = asked.clone();
    let act: Act = Arc::new(move |guest: Guest| {
        if let Opening::Get { pace, .. } = &guest.request {
            heard.lock().unwrap().push(*pace);
        }
        // Nothing is given: this is about the question alone.
        guest.lane.close(close_code::FIRST_FREE, "that was all");
        Box::pin(async { Ok(()) })
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let identity = Identity::generate().unwrap();
    let host = runtime.block_on(async { Host::start(&identity, act) });
    for (word, pace) in
        [("fair", Pace::Fair), ("background", Pace::Background), ("20MB", Pace::Fixed(20_000_000))]
    {
        let options = ["--accept-new", "--give-up-after", "1s", "--pace", word];
        let mut words: Vec<OsString> = options.map(OsString::from).to_vec();
        words.push(testkit::daemon::far(host.address(), "data/file"));
        words.push(scratch.join("here").into());
        let ended = near.run(copy_words(&words)).expect_code(4);
        let asked = std::mem::take(&mut *asked.lock().unwrap());
        assert!(!asked.is_empty(), "{}", ended.told());
        assert!(asked.iter().all(|asked| *asked == pace), "{word}: {asked:?}");
    }
}
