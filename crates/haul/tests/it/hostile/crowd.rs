//! A hundred peers at once, over both kinds of link, that stall at whatever place they can, each with as much of the daemon's
//! memory in use as it gets. The daemon stays small, and an honest copy beside them goes through.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use badlink::{Profile, Relay, RelayOptions};
use haul::files::CHUNK;
use haul::link::{Identity, LaneKind, LinkError, Pace};
use haul::transfer::message::{
    Deletion, Entry, EntryKind, Extent, Need, Opening, Order, ParcelHead, SourceMessage,
    TargetMessage, Xattr,
};
use testkit::hostile::{Peer, Step, entry, file, offer, send_parcel};
use testkit::tree::Scratch;

use super::runtime;
use crate::pair::{Pair, machine};

const PEERS: usize = 100;
/// How many must have been let in; one in seven does not ask.
const ENOUGH: usize = PEERS * 3 / 4;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long they then have, to do what they can.
const HARM: Duration = Duration::from_secs(6);
/// A file that is larger than what the transports on the way hold.
const HUGE: u64 = 64 << 20;
/// What the daemon may take at its worst.
const MOST_BYTES: u64 = 256 << 20;

/// The most memory that a process has had.
fn peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// A daemon with a list of keys that was written and not asked for one by one.
fn crowded(scratch: &Scratch, keys: &[Identity]) -> Pair {
    let (near, far) = (machine(scratch.join("near")), machine(scratch.join("far")));
    far.allow(&near, &[]);
    let list = far.home().join("authorized_keys");
    let mut text = std::fs::read_to_string(&list).unwrap();
    for (number, key) in keys.iter().enumerate() {
        text += &key.public_key().to_line(&format!("peer {number}"));
        text.push('\n');
    }
    std::fs::write(&list, text).unwrap();
    let served = scratch.folder("served");
    std::fs::write(served.join("huge"), vec![1; HUGE as usize]).unwrap();
    let daemon = far.serve(&[crate::pair::data(&served)]);
    near.trust(&far, daemon.address());
    Pair { scratch: Scratch::new("hostile-crowd-pair"), near, far, daemon }
}

#[test]
fn a_crowd_that_stalls_costs_little() {
    let scratch = Scratch::new("hostile-crowd");
    let keys: Vec<_> = (0..PEERS).map(|_| Identity::generate().unwrap()).collect();
    let pair = crowded(&scratch, &keys);
    let begun = peak(pair.daemon.pid());
    let accepted = Arc::new(AtomicUsize::new(0));
    runtime().block_on(async {
        // Parcels that trickle through a slow link with losses are half-sent for a long time.
        let mut slow = RelayOptions::new(pair.daemon.address());
        slow.to_target = Profile { rate: Some(20e6), loss: 0.2, ..Profile::default() };
        let relay = Relay::start(slow).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for (number, key) in keys.into_iter().enumerate() {
            let slow = number % 7 == 2;
            let address = if slow { relay.local_addr() } else { pair.daemon.address() };
            // Each way of stalling is tried over both kinds of link, but for the slow one.
            let kind = if number % 2 == 0 || slow { LaneKind::Quic } else { LaneKind::Tcp };
            let accepted = accepted.clone();
            tasks.spawn(async move {
                let peer = loop {
                    // On a busy machine a handshake may be too late.
                    match Peer::dial_by(kind, address, &key).await {
                        Ok(peer) => break peer,
                        Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                    }
                };
                // What it came to is no matter; the lane is held to the end where the daemon lets it.
                match stall(number, peer, &accepted).await {
                    Ok(peer) => peer.lane.closed().await,
                    Err(error) => error,
                };
            });
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let begun_at = Instant::now();
        while accepted.load(Ordering::Relaxed) < ENOUGH && begun_at.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(HARM).await;
        let honest = tokio::task::spawn_blocking(move || copy_beside(pair, scratch.path(), begun));
        honest.await.unwrap();
        relay.close().await;
    });
    let accepted = accepted.load(Ordering::Relaxed);
    assert!(accepted >= ENOUGH, "only {accepted} peers were let in to do harm");
}

fn copy_beside(pair: Pair, at: &Path, begun: u64) {
    let local = at.join("honest");
    std::fs::create_dir(&local).unwrap();
    for number in 0..50u8 {
        std::fs::write(local.join(number.to_string()), vec![number; 100_000]).unwrap();
    }
    pair.copy(&["-r".as_ref(), local.as_os_str(), &pair.at("data")]).expect_code(0);
    testkit::tree::assert_same(&local, &at.join("served/honest"));
    let most = peak(pair.daemon.pid());
    assert!(most < MOST_BYTES, "the daemon grew from {begun} to {most} bytes");
    eprintln!("the daemon grew from {begun} to {most} bytes");
}

/// Does as much harm as the daemon takes, and then nothing more.
async fn stall(number: usize, mut peer: Peer, accepted: &AtomicUsize) -> Result<Peer, LinkError> {
    let way = number % 7;
    if way == 6 {
        return hoard(peer, number, accepted).await;
    }
    if way == 0 {
        let hello = Opening::Hello { lowest: 1, highest: 1, software: String::new() };
        peer.frame(&hello.encode()).await?;
        return Ok(peer);
    }
    let order = Order {
        target: format!("data/{number}").into_bytes(),
        contents: true,
        xattrs: true,
        deletion: if way == 5 { Deletion::All } else { Deletion::No },
        ..Order::default()
    };
    let Opening::Accept { window, .. } = peer.put([number as u8; 16], &order).await? else {
        return Ok(peer);
    };
    accepted.fetch_add(1, Ordering::Relaxed);
    match way {
        1 => {
            fill(&mut peer, window, |index| Entry {
                xattrs: vec![Xattr { name: b"user.x".to_vec(), value: vec![1; 30_000] }],
                ..entry(index, 0, &index.to_string(), EntryKind::Folder)
            })
            .await?
        }
        2 => parcels(&peer).await,
        3 => {
            fill(&mut peer, window, |index| {
                let target = EntryKind::Symlink { target: vec![b't'; 4000] };
                entry(index, 0, &index.to_string(), target)
            })
            .await?
        }
        4 => {
            fill(&mut peer, window, |index| file(index, 0, &index.to_string(), 100 * CHUNK)).await?
        }
        _ => endless(&mut peer).await?,
    }
    Ok(peer)
}

/// Asks for a large file, grants all the credit there is, and reads nothing of what comes.
async fn hoard(mut peer: Peer, number: usize, accepted: &AtomicUsize) -> Result<Peer, LinkError> {
    let (id, sources) = ([number as u8; 16], vec![b"data/huge".to_vec()]);
    let order = Order::default();
    let (resume, window, pace) = (false, u64::MAX, Pace::Fixed(u64::MAX));
    let extent = Extent::All;
    let request = Opening::Get { id, resume, window, pace, order, sources, extent };
    if let Opening::Accept { .. } = peer.ask(&request).await? {
        accepted.fetch_add(1, Ordering::Relaxed);
        let need = Need { index: 1, have: None, ranges: vec![(0, HUGE / CHUNK)] };
        let credit = TargetMessage::Credit { allowed: u64::MAX, stored: 0 };
        for message in [TargetMessage::Ready, credit] {
            peer.frame(&message.encode()).await?;
        }
        // The offer must have been made before it can be answered.
        peer.receive().await?;
        peer.frame(&TargetMessage::Need(vec![need]).encode()).await?;
    }
    Ok(peer)
}

/// Offers what just fits into the window.
async fn fill(peer: &mut Peer, window: u64, make: impl Fn(u64) -> Entry) -> Result<(), LinkError> {
    let (mut cost, mut index) = (0, 0);
    loop {
        index += 1;
        let entry = make(index);
        cost += entry.cost(entry.name.as_bytes().len());
        if cost > window {
            return Ok(());
        }
        peer.say(&SourceMessage::Offer(vec![entry])).await?;
    }
}

/// As many parcels as the link lets it begin, none of which is asked for.
async fn parcels(peer: &Peer) {
    let head = ParcelHead::Zeros { index: 1, first: 0, count: 1 }.encode();
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (lane, head) = (peer.lane.clone(), head.clone());
        sending.spawn(send_parcel(lane, head, vec![0; CHUNK as usize]));
    }
    while sending.join_next().await.is_some() {}
}

/// Links without end, of which the outcomes are neither read nor confirmed.
async fn endless(peer: &mut Peer) -> Result<(), LinkError> {
    for message in 0..60u64 {
        let links = (1..=100u64).map(|at| {
            let name = format!("{at}-{message}-{}", "n".repeat(200));
            entry(message * 100 + at, 0, &name, EntryKind::Symlink { target: b"x".to_vec() })
        });
        let Step::Say(message) = offer(links.collect()) else { return Ok(()) };
        peer.say(&message).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = TargetMessage::Ready;
    peer.frame(&answer.encode()).await
}
