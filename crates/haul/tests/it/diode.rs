//! `haul diode`: a tree across links with no way back, with the real program at both ends.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::daemon::Running;
use testkit::tree::{Growth, Random, Scratch, write};

use crate::across::{Diode, PATIENCE};
use crate::pair::machine;

#[test]
fn a_tree_its_changes_and_both_ends_killed() {
    let diode = Diode::new("diode_tree");
    Growth::small(1, 300).grow(&diode.tree());
    let mut receiver = diode.receive();
    let mut sender = diode.send(&[]);
    diode.wait_same();
    // What users do.
    fs::create_dir(diode.tree().join("new")).unwrap();
    write(&diode.tree().join("new/file"), b"new");
    write(&diode.tree().join("new/large"), &Random::new(2).bytes(3 << 20));
    fs::rename(diode.tree().join("new"), diode.tree().join("moved")).unwrap();
    diode.wait_same();
    fs::remove_file(diode.tree().join("moved/file")).unwrap();
    diode.wait_same();
    // The receiver dies in the middle, and lacks what came meanwhile.
    write(&diode.tree().join("moved/larger"), &Random::new(3).bytes(30 << 20));
    std::thread::sleep(Duration::from_millis(300));
    receiver.kill();
    drop(receiver);
    write(&diode.tree().join("meanwhile"), b"nobody was there");
    std::thread::sleep(Duration::from_secs(2));
    let receiver = diode.receive();
    // Then the sender.
    sender.kill();
    drop(sender);
    let sender = diode.send(&[]);
    diode.wait_sender();
    diode.low.run(["diode", "resend", "--full"]).expect_code(0);
    diode.heal();
    drop((sender, receiver));
}

/// How many bytes the appliance swallows where nobody says otherwise with the variable: 250000000 is what one of 1 Gbit/s
/// throws away.
const SWALLOW: &str = "HAUL_TEST_DIODE_SWALLOW";
const SWALLOWED: u64 = 6 << 20;

/// What has passed before it swallows, and from then to where it resets the connection besides what it swallows.
const BEFORE: u64 = 4 << 20;
const BEHIND: u64 = 2 << 20;

/// Takes a stream on one side, gives it on the other, and swallows a part of it; then it resets the connection.
struct Appliance {
    /// Where it takes the stream.
    to: SocketAddr,
    /// Where it gives it.
    from: SocketAddr,
    passed: Arc<AtomicU64>,
    swallows: u64,
}

impl Appliance {
    fn start() -> Self {
        let said = std::env::var(SWALLOW).ok().and_then(|text| text.parse().ok());
        let swallows: u64 = said.unwrap_or(SWALLOWED);
        let (inside, outside) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (to, from) = (inside.local_addr().unwrap(), outside.local_addr().unwrap());
        let passed = Arc::new(AtomicU64::new(0));
        let counted = passed.clone();
        let resets_at = BEFORE + swallows + BEHIND;
        std::thread::spawn(move || {
            let (mut reader, _) = outside.accept().unwrap();
            for taken in inside.incoming() {
                let mut taken: TcpStream = taken.unwrap();
                let mut buffer = vec![0; 1 << 16];
                while let Ok(length) = taken.read(&mut buffer) {
                    if length == 0 {
                        break;
                    }
                    let before = counted.fetch_add(length as u64, Ordering::Relaxed);
                    if before < resets_at && before + length as u64 >= resets_at {
                        break;
                    }
                    let is_swallowed = (BEFORE..BEFORE + swallows).contains(&before);
                    if !is_swallowed && reader.write_all(&buffer[..length]).is_err() {
                        reader = outside.accept().unwrap().0;
                    }
                }
            }
        });
        Self { to, from, passed, swallows }
    }

    /// Bytes that it has taken.
    fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

#[test]
fn an_appliance_that_swallows_and_resets_is_healed_by_the_next_pass() {
    let diode = Diode::new("diode_appliance");
    let appliance = Appliance::start();
    Growth::small(4, 60).grow(&diode.tree());
    let large = (14 << 20) + appliance.swallows;
    write(&diode.tree().join("large"), &Random::new(5).bytes(large as usize));
    let receiver = diode.receive_from(&format!("tcp://{}", appliance.from), &[]);
    let tree = diode.tree();
    let url = format!("tcp://{}", appliance.to);
    let mut words = vec!["diode", "send", tree.to_str().unwrap(), "--to", &url, "--rate", "60MB"];
    words.extend(["--settle", "20ms", "--once", "--repeat", "2"]);
    diode.low.run(words).expect_code(0);
    assert!(appliance.passed() > 2 * large);
    diode.wait_same();
    drop(receiver);
}

#[test]
fn what_an_appliance_swallowed_is_healed_by_a_want_list_without_what_had_come() {
    let diode = Diode::new("diode_appliance_want");
    let appliance = Appliance::start();
    Growth::small(4, 60).grow(&diode.tree());
    let large = (48 << 20) + appliance.swallows;
    write(&diode.tree().join("large"), &Random::new(5).bytes(large as usize));
    let receiver = diode.receive_from(&format!("tcp://{}", appliance.from), &[]);
    let tree = diode.tree();
    let url = format!("tcp://{}", appliance.to);
    let mut words = vec!["diode", "send", tree.to_str().unwrap(), "--to", &url, "--rate", "60MB"];
    // Blocks that are spread over a short time are whole, or not there at all.
    words.extend(["--settle", "20ms", "--outage", "1ms"]);
    diode.low.run(words.iter().chain(&["--once"])).expect_code(0);
    let all = appliance.passed();
    assert!(all > large);
    assert!(!diode.differences().is_empty(), "nothing was swallowed");
    let sender = Running::start(diode.low.command(words));
    diode.wait_sender();
    let began = Instant::now();
    while !diode.differences().is_empty() {
        assert!(began.elapsed() < PATIENCE, "{:#}", Diode::status(&diode.high));
        diode.resend();
        wait_until_quiet(&diode);
    }
    // Most of what had come did not come again.
    let status = Diode::status(&diode.low);
    let again = sent_since(&status).unwrap();
    assert!(again >= appliance.swallows / 2, "{again} of {all}: {status:#}");
    assert!(again + (16 << 20) < all, "{again} of {all}: {status:#}");
    drop((sender, receiver));
}

/// Bytes of frames with files and pages that a sender has sent since its start.
fn sent_since(status: &Value) -> Option<u64> {
    Some(status["send"]["first_bytes"].as_u64()? + status["send"]["again_bytes"].as_u64()?)
}

/// Waits until the sender sends nothing of files any more, so that nothing that is on its way is asked for again.
fn wait_until_quiet(diode: &Diode) {
    let began = Instant::now();
    let mut before = None;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let status = Diode::status(&diode.low);
        let now = sent_since(&status);
        if now.is_some() && now == before {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{status:#}");
        before = now;
    }
}

#[test]
fn streams_pass_while_files_flow() {
    let diode = Diode::new("diode_streams");
    write(&diode.tree().join("large"), &Random::new(6).bytes(40 << 20));
    let sink = TcpListener::bind("127.0.0.1:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let free_udp = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let out = [
        format!("feed=tcp://{}", sink.local_addr().unwrap()),
        format!("log=udp://{}", datagrams.local_addr().unwrap()),
    ];
    let into = [format!("feed=tcp://{free}"), format!("log=udp://{free_udp}")];
    let receiver = diode.receive_from(
        &format!("udp://{}", diode.address),
        &["--channel", &out[0], "--channel", &out[1]],
    );
    let sender = diode.send(&["--channel", &into[0], "--channel", &into[1]]);
    diode.wait("the sender is heard", |status| status["recv"]["sender"].is_object());
    let bytes = Random::new(7).bytes(2 << 20);
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(free).unwrap();
        for piece in sent.chunks(10_000) {
            stream.write_all(piece).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let reading = std::thread::spawn(move || {
        datagrams.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut numbers = std::collections::BTreeSet::new();
        let mut buffer = [0; 65_536];
        while numbers.len() < 200 {
            let Ok(length) = datagrams.recv(&mut buffer) else { break };
            let number = u32::from_be_bytes(*buffer.first_chunk().unwrap());
            assert_eq!(length, [4, 100, 1400, 5000][number as usize % 4]);
            assert!(buffer[4..length].iter().all(|byte| *byte == number as u8));
            assert!(numbers.insert(number), "{number} came twice");
        }
        numbers
    });
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..200_u32 {
        let length = [4, 100, 1400, 5000][number as usize % 4];
        let mut datagram = vec![number as u8; length];
        datagram[..4].copy_from_slice(&number.to_be_bytes());
        socket.send_to(&datagram, free_udp).unwrap();
        std::thread::sleep(Duration::from_millis(3));
    }
    let (mut taken, _) = sink.accept().unwrap();
    taken.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = Vec::new();
    taken.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == bytes, "{} of {} bytes", received.len(), bytes.len());
    let numbers = reading.join().unwrap();
    assert_eq!(numbers.len(), 200);
    // What was handed on is counted by name, soon after it was.
    let figure = |status: &Value, name: &str, what: &str| {
        let channels = status["recv"]["channels"].as_array();
        let channel = channels.into_iter().flatten().find(|channel| channel["name"] == name);
        channel.and_then(|channel| channel[what].as_u64())
    };
    let in_datagrams = 50 * (4 + 100 + 1400 + 5000);
    diode.wait("the channels are counted", |status| {
        figure(status, "feed", "bytes") >= Some(bytes.len() as u64)
            && figure(status, "log", "bytes") >= Some(in_datagrams)
            && figure(status, "log", "datagrams") >= Some(200)
    });
    let status = Diode::status(&diode.high);
    assert_eq!(status["recv"]["channels"].as_array().map(Vec::len), Some(2), "{status:#}");
    for name in ["feed", "log"] {
        assert_eq!(figure(&status, name, "dropped"), Some(0), "{name}: {status:#}");
    }
    diode.wait_same();
    drop((sender, receiver));
}

#[test]
fn whoever_is_not_trusted_is_told_what_to_do() {
    let scratch = Scratch::new("diode_keys");
    let (low, high) = (machine(scratch.join("low")), machine(scratch.join("high")));
    let tree = scratch.folder("tree");
    let tree = tree.to_str().unwrap();
    let send = ["diode", "send", tree, "--to", "udp://127.0.0.1:9", "--once"];
    low.run(send).expect_code(3).expect_says(&["no receiver is trusted", "haul diode key trust"]);
    let line = low.run(["diode", "key", "show"]).expect_code(0).text();
    low.run(["diode", "key", "trust", line.trim()]).expect_code(2).expect_says(&["own line"]);
    let cut = &line.trim()[..60];
    high.run(["diode", "key", "trust", cut]).expect_code(2).expect_says(&["haul diode key show"]);
    let fingerprint = low.run(["diode", "key", "show", "--fingerprint"]).expect_code(0).text();
    let trusted = high.run(["diode", "key", "trust", line.trim()]).expect_code(0);
    trusted.expect_says(&[fingerprint.trim()]);
    assert!(high.run(["diode", "key", "list"]).text().starts_with(fingerprint.trim()));
    let want = high.run(["diode", "want"]).expect_code(2);
    want.expect_says(&["no receiver", "haul diode recv"]);
    low.run(["diode", "rate", "5MB"]).expect_code(2).expect_says(&["no sender", "haul diode send"]);
    high.run(["diode", "status"]).expect_code(1);
    // The line stays the same, until it is renewed.
    assert_eq!(low.run(["diode", "key", "show"]).text(), line);
    assert_ne!(low.run(["diode", "key", "show", "--renew"]).text(), line);
}
