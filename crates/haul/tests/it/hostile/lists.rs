//! Peers that lie in the list of a request: it ends in a refusal or a closed lane, and the daemon lives.

use haul::link::Pace;
use haul::transfer::message::{Extent, Opening, Order, RefuseCode};
use testkit::hostile::{End, Peer};

use super::{admitted, runtime, still_serves};
use crate::pair::Pair;
use haul::files::RelPath;

fn request(source: &[u8]) -> Opening {
    let order = Order { contents: true, ..Order::default() };
    let (id, pace, sources) = ([3; 16], Pace::Fair, vec![source.to_vec()]);
    let extent = Extent::Listed;
    Opening::Get { id, resume: false, window: 1 << 20, pace, order, sources, extent }
}

fn names(paths: &[&str], last: bool) -> Vec<u8> {
    let paths = paths.iter().map(|path| RelPath::parse(path.as_bytes()).unwrap()).collect();
    Opening::Names { paths, last }.encode()
}

#[test]
fn lists_that_are_none() {
    let pair = Pair::new("hostile-lists");
    std::fs::write(pair.served("a"), b"a").unwrap();
    let identity = admitted(&pair);
    let hello = Opening::Hello { lowest: 1, highest: 1, software: "hostile".to_owned() };
    let raw = |path: &[u8]| [&[11, 1, 1, path.len() as u8][..], path].concat();
    let long: Vec<String> = (0..2000).map(|number| format!("{number:020}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let much = names(&long, false);
    let endless = vec![much.clone(); 250];
    let ended = [vec![much; 120], vec![names(&["a"], true)]].concat();
    runtime().block_on(async {
        for (name, source, frames, refused) in [
            ("a part without names", &b"data/."[..], vec![names(&[], false)], None),
            ("another request", b"data/.", vec![request(b"data").encode()], None),
            ("a name that climbs", b"data/.", vec![raw(b"../x")], None),
            ("a name that is kept", b"data/.", vec![raw(b".haul/x")], None),
            ("a list without an end", b"data/.", endless, None),
            ("a list too long", b"data/.", ended, Some(RefuseCode::Exists)),
            ("no contents", b"data", vec![names(&["a"], true)], Some(RefuseCode::NotAFolder)),
            ("no folder", b"data/a/.", vec![names(&["a"], true)], Some(RefuseCode::NotAFolder)),
            ("nothing", b"data/.", vec![names(&[], true)], None),
        ] {
            let mut peer = Peer::dial(pair.daemon.address(), &identity).await.unwrap();
            peer.frame(&hello.encode()).await.unwrap();
            peer.frame(&request(source).encode()).await.unwrap();
            assert!(matches!(peer.opening().await, Ok(Opening::Welcome { .. })), "{name}");
            for frame in &frames {
                if peer.frame(frame).await.is_err() {
                    break;
                }
            }
            match (peer.opening().await, refused) {
                (Ok(Opening::Refuse { code, .. }), Some(expected)) => {
                    assert_eq!(code, expected, "{name}");
                }
                // An empty list is a list.
                (Ok(Opening::Accept { .. }), None) => assert_eq!(name, "nothing"),
                (Err(_), None) => {
                    let end = peer.closed().await;
                    assert!(matches!(end, End::Closed(2, _)), "{name}: {end:?}");
                }
                (answer, _) => panic!("{name}: {answer:?}"),
            }
        }
    });
    still_serves(&pair);
}
