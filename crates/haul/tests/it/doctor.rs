//! `haul doctor`, the real program: what it measures, what it says of a bad link, and what it is refused.

use badlink::{Profile, Relay, RelayOptions};
use haul::link::Identity;
use haul::transfer::message::{Opening, RefuseCode};
use serde_json::Value;
use testkit::hostile::{End, Peer};

use crate::hostile::runtime;
use crate::pair::{Pair, number};

fn host(address: std::net::SocketAddr) -> String {
    address.to_string()
}

#[test]
fn in_words_on_a_good_link() {
    let pair = Pair::new("doctor-words");
    let disk = pair.scratch.folder("disk");
    let place = host(pair.daemon.address());
    let ended =
        pair.near.run(["doctor", &place, "--seconds", "1", "--disk", disk.to_str().unwrap()]);
    says(
        &ended.expect_code(0).text(),
        &[
            "host        127.0.0.1",
            ", which is known here; it lets this key in",
            "1 export is open to this key",
            "QUIC        gets through to 127.0.0.1:",
            "to there    ",
            "from there  ",
            " cores there",
            "the clock",
            "one core here hashes ",
            " with fsync, reads ",
            "a copy to there is bound by ",
            "a copy from there is bound by ",
        ],
    );
    assert_eq!(std::fs::read_dir(disk).unwrap().count(), 0, "the scratch files are gone");
    let served = std::fs::read_dir(pair.served(".")).unwrap().count();
    assert_eq!(served, 0, "the far end stores nothing");
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no '{part}' in:\n{text}");
    }
}

fn json(pair: &Pair, place: &str) -> Value {
    let ended = pair.near.run(["doctor", place, "--seconds", "2", "--json"]).expect_code(0);
    serde_json::from_str(&ended.last_line()).unwrap()
}

#[test]
fn in_json_and_held_to_the_rate_of_the_key() {
    let pair = Pair::with("doctor-rate", &["--max-rate", "2MB"]);
    let line = json(&pair, &host(pair.daemon.address()));
    assert_eq!(line["event"], "doctor");
    assert_eq!(line["links"][0]["reached"], true);
    for direction in ["to_there", "from_there"] {
        let seen = &line[direction];
        let rate = number(seen, "bytes_per_second");
        assert!((200_000..4_000_000).contains(&rate), "{direction}: {seen}");
        assert_eq!(number(seen, "rate_allowed"), 2_000_000);
        assert_eq!(seen["bound"]["by"], "limit", "{direction}: {seen}");
        assert!(number(seen, "cores_there") > 0);
    }
    assert!(line["findings"].as_array().unwrap().len() >= 9, "{line}");
}

#[test]
fn a_path_that_loses_is_named_with_its_loss() {
    let pair = Pair::new("doctor-loss");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut options = RelayOptions::new(pair.daemon.address());
    // So slow that no processor is busy with it, and so long that the queue of the rate control is short
    // against it: a longer one would say that the path is full.
    let profile = Profile {
        delay: 30_000_000,
        loss: 0.06,
        rate: Some(32e6),
        queue: Some(1_000_000),
        ..Profile::default()
    };
    (options.to_target, options.to_client) = (profile.clone(), profile);
    let relay = runtime.block_on(async { Relay::start(options) }).unwrap();
    pair.near.trust(&pair.far, relay.local_addr());
    // A machine that others keep busy all the time has no time for this either: one of three must do.
    let wrong: Vec<String> = (0..3)
        .map_while(|_| names_the_loss(&json(&pair, &host(relay.local_addr()))).err())
        .collect();
    assert!(wrong.len() < 3, "{wrong:#?}");
    runtime.block_on(relay.close());
}

/// Whether both directions are said to be bound by what the path loses, and with how much; what else is said if
/// not.
fn names_the_loss(line: &Value) -> Result<(), String> {
    for (topic, direction) in [("to there", "to_there"), ("from there", "from_there")] {
        let seen = &line[direction];
        let of_topic = |topic: &str, part: &str| {
            let found = line["findings"].as_array().unwrap().iter();
            let mut of_topic = found.filter(|found| found["topic"] == topic);
            of_topic.any(|found| found["text"].to_string().contains(part))
        };
        let (loss, idle) = (seen["loss"].as_f64().unwrap(), seen["idle_rtt_ms"].as_f64().unwrap());
        let advice = line["findings"].as_array().unwrap().iter();
        let advice = advice.filter(|found| found["topic"] == topic).map(|found| &found["advice"]);
        let named = advice.clone().any(|advice| advice.to_string().contains("of the packets"));
        let is_so = seen["bound"]["by"] == "path_loss"
            && (0.03..0.12).contains(&loss)
            && idle >= 60.0
            && named
            && of_topic("bound", &format!("a copy {topic} is bound by path loss "));
        if !is_so {
            return Err(format!("{direction}: {line}"));
        }
    }
    Ok(())
}

#[test]
fn one_kind_of_link_alone_is_measured_where_that_is_wanted() {
    let pair = Pair::new("doctor-link");
    for kind in ["quic", "tcp"] {
        let place = host(pair.daemon.address());
        let words = ["doctor", &place, "--seconds", "1", "--json", "--link", kind];
        let ended = pair.near.run(words).expect_code(0);
        let line: Value = serde_json::from_str(&ended.last_line()).unwrap();
        let links: Vec<_> = line["links"].as_array().unwrap().iter().collect();
        assert_eq!(links.len(), 1, "{line}");
        assert_eq!((&links[0]["kind"], &links[0]["reached"]), (&kind.into(), &true.into()));
        for direction in ["to_there", "from_there"] {
            assert_eq!(line[direction]["kind"], kind, "{line}");
        }
    }
}

#[test]
fn a_host_that_does_not_let_us_in_and_one_that_is_not_there() {
    let pair = Pair::new("doctor-refused");
    let stranger = crate::pair::machine(pair.scratch.join("stranger"));
    stranger.trust(&pair.far, pair.daemon.address());
    let place = host(pair.daemon.address());
    let ended = stranger.run(["doctor", &place]).expect_code(3);
    says(&ended.text(), &["host        127.0.0.1"]);
    ended.expect_says(&["not in authorized_keys", "hint: ", "haul key allow"]);
    let unknown = crate::pair::machine(pair.scratch.join("unknown"));
    unknown
        .run(["doctor", &place])
        .expect_code(3)
        .expect_says(&["is not known here", "--accept-new"]);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let place = host(silent.local_addr().unwrap());
    pair.near
        .run(["doctor", &place, "--json"])
        .expect_code(4)
        .expect_says(&["UDP or TCP through to"]);
    let words = ["doctor", &place, "--link", "tcp"];
    let ended = pair.near.run(words).expect_code(4);
    ended.expect_says(&["let TCP through to", "--link auto"]);
    let words = ["doctor", &place, "--link", "quic"];
    let ended = pair.near.run(words).expect_code(4);
    ended.expect_says(&["let UDP through to", "--link auto"]);
}

#[test]
fn what_a_key_may_not_see_is_said_and_the_rest_is_measured() {
    let pair = Pair::with("doctor-write-only", &["--write-only"]);
    let place = host(pair.daemon.address());
    let ended = pair.near.run(["doctor", &place, "--seconds", "1"]).expect_code(1);
    says(
        &ended.text(),
        &["this key may only write here", "-> whoever runs", "a copy to there is bound by"],
    );
}

/// A peer that wants too much of it: longer than there is, twice at once, again and again.
#[test]
fn a_greedy_peer_is_refused() {
    let pair = Pair::new("doctor-greedy");
    let identity = Identity::generate().unwrap();
    pair.far.run(["key", "allow", &identity.public_key().to_line("greedy")]).expect_code(0);
    runtime().block_on(async {
        let dial = || Peer::dial(pair.daemon.address(), &identity);
        for seconds in [0, 11, u64::MAX] {
            let mut peer = dial().await.unwrap();
            assert!(peer.ask(&Opening::Measure { up: true, seconds }).await.is_err());
            let End::Closed(2, _) = peer.closed().await else { panic!("{seconds} s are taken") };
        }
        let ask = Opening::Measure { up: true, seconds: 10 };
        let mut first = dial().await.unwrap();
        assert!(matches!(first.ask(&ask).await, Ok(Opening::Accept { .. })));
        let mut second = dial().await.unwrap();
        refused(second.ask(&ask).await.unwrap(), "already");
        // Words in the middle of it end it.
        first.frame(&ask.encode()).await.unwrap();
        let End::Closed(2, _) = first.closed().await else { panic!("it goes on") };
        for _ in 0..5 {
            let mut peer = dial().await.unwrap();
            assert!(matches!(peer.ask(&ask).await, Ok(Opening::Accept { .. })));
            peer.finish().await.unwrap();
            assert!(matches!(peer.opening().await, Ok(Opening::Measured(_))));
            peer.lane.close(0, "done");
        }
        let mut last = dial().await.unwrap();
        refused(last.ask(&ask).await.unwrap(), "long enough");
    });
    // The daemon serves on.
    pair.near.run(["ls", &host(pair.daemon.address())]).expect_code(0);
}

#[track_caller]
fn refused(answer: Opening, part: &str) {
    let Opening::Refuse { code: RefuseCode::Busy, text } = answer else { panic!("{answer:?}") };
    assert!(text.contains(part), "{text}");
}
