//! Unknown keys that ask for more than to be let in, or ask for it in ways that are none: nothing comes of it, and the
//! daemon goes on serving those that it knows.

use haul::link::{Identity, Pace};
use haul::transfer::message::{Extent, MAX_CODE, MAX_LABEL, Offer, Opening, Order, RefuseCode};
use testkit::hostile::{End, Peer};

use super::{order, runtime, still_serves};
use crate::pair::Pair;

/// A daemon that strangers may come to, for a code was given out.
fn open(name: &str) -> Pair {
    let pair = Pair::new(name);
    pair.far.run(["key", "invite", "--as", "lab", "--inbox", "ngs"]).expect_code(0);
    pair
}

fn enrol(code: usize, label: &str) -> Opening {
    Opening::Enrol { code: vec![b'x'; code], label: label.to_owned() }
}

#[test]
fn strangers_may_do_nothing_else() {
    let pair = open("hostile-strangers");
    std::fs::write(pair.served("a"), b"a").unwrap();
    let get = Opening::Get {
        id: [3; 16],
        resume: false,
        window: 1 << 20,
        pace: Pace::Fair,
        order: Order::default(),
        sources: vec![b"data/a".to_vec()],
        extent: Extent::All,
    };
    let put = |resume| Opening::Put { id: [4; 16], resume, seen: 0, order: order("data") };
    let offer = Opening::Offer(Offer {
        upload: [5; 16],
        inbox: "ngs".to_owned(),
        name: "n".to_owned(),
        metadata_len: 2,
        files: 1,
        bytes: 1,
        content: None,
        check: true,
    });
    let grant = [6; 32];
    let requests = [
        get,
        put(false),
        put(true),
        offer,
        Opening::AskSchema { inbox: "ngs".to_owned() },
        Opening::List { path: Vec::new() },
        Opening::Measure { up: true, seconds: 1 },
        Opening::Tunnel,
        Opening::Enrolled { admitted: true, text: String::new() },
        Opening::PutGranted { grant, id: [4; 16], resume: false, seen: 0, order: order("data") },
    ];
    runtime().block_on(async {
        for request in requests {
            let identity = Identity::generate().unwrap();
            let mut peer = Peer::dial(pair.daemon.address(), &identity).await.unwrap();
            let answer = peer.ask(&request).await;
            let is_refused = matches!(
                answer,
                Ok(Opening::Refuse { code: RefuseCode::Denied | RefuseCode::UnknownGrant, .. })
            );
            assert!(is_refused, "{request:?}: {answer:?}");
            peer.lane.close(0, "done");
            let _ = peer.closed().await;
        }
    });
    assert_eq!(std::fs::read_dir(pair.served("")).unwrap().count(), 1);
    still_serves(&pair);
}

#[test]
fn questions_that_are_none() {
    let pair = open("hostile-enrol");
    let valid = enrol(1, "me").encode();
    let with = |index: usize, byte: u8| {
        let mut bytes = valid.clone();
        bytes[index] = byte;
        bytes
    };
    let last = valid.len() - 1;
    let frames = [
        ("a code too long", enrol(MAX_CODE + 1, "").encode()),
        ("a label too long", enrol(0, &"x".repeat(MAX_LABEL + 1)).encode()),
        ("a label that is no text", with(last, 0xff)),
        ("more behind it", [valid.clone(), vec![0]].concat()),
        ("cut short", valid[..last].to_vec()),
        ("a length that is not there", with(1, 60)),
    ];
    let hello = Opening::Hello { lowest: 1, highest: 1, software: "hostile".to_owned() };
    runtime().block_on(async {
        for (name, frame) in frames {
            let identity = Identity::generate().unwrap();
            let mut peer = Peer::dial(pair.daemon.address(), &identity).await.unwrap();
            peer.frame(&hello.encode()).await.unwrap();
            peer.frame(&frame).await.unwrap();
            let welcome = peer.opening().await;
            assert!(matches!(welcome, Ok(Opening::Welcome { .. }) | Err(_)), "{name}: {welcome:?}");
            let answer = peer.opening().await;
            assert!(answer.is_err(), "{name}: {answer:?}");
            let end = peer.closed().await;
            assert!(matches!(end, End::Closed(2, _)), "{name}: {end:?}");
        }
        // One question, however often it is put.
        let identity = Identity::generate().unwrap();
        let mut peer = Peer::dial(pair.daemon.address(), &identity).await.unwrap();
        for frame in [hello.encode(), valid.clone(), valid.clone(), valid.clone()] {
            let _ = peer.frame(&frame).await;
        }
        assert!(matches!(peer.opening().await, Ok(Opening::Welcome { .. })));
        assert!(matches!(peer.opening().await, Ok(Opening::Refuse { .. })));
        assert!(peer.opening().await.is_err());
    });
    let audit = std::fs::read_to_string(pair.scratch.join("far/audit.jsonl")).unwrap();
    assert_eq!(audit, "", "nothing was decided");
    still_serves(&pair);
}
