//! Frames in datagrams that lie behind each other, and in a stream of which spans are missing; records of channels.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::rig::*;
use crate::block::BLOCK;
use crate::receive::ChannelSink;
use crate::record::{Carrier, Record};

fn tree() -> Model {
    model(&[
        ("d", folder(1)),
        ("d/large", file(&noise(1, BLOCK + 77_000), 2)),
        ("d/small", file(&noise(2, 40_000), 3)),
    ])
}

#[test]
fn datagrams_that_came_together_are_taken_apart() {
    let mut rig = Rig::new();
    let generation = rig.sender.generation(tree(), &[], true);
    let mut together: Vec<(usize, Vec<u8>)> = Vec::new();
    for frame in rig.sender.seal(&generation.all()) {
        match together.last_mut() {
            // All of one length, but for the last.
            Some((stride, bytes))
                if bytes.len() % *stride == 0 && frame.len() <= *stride && bytes.len() < 60_000 =>
            {
                bytes.extend(frame);
            }
            _ => together.push((frame.len(), frame)),
        }
    }
    assert!(together.len() * 10 < generation.all().len());
    let now = rig.now;
    for (stride, mut bytes) in together {
        rig.receiver.as_mut().unwrap().datagrams(bytes.chunks_mut(stride), now);
    }
    rig.settle();
    rig.check("together");
}

#[test]
fn a_stream_that_swallows_spans_and_begins_again_is_read_on() {
    for seed in 0..8 {
        let mut rig = Rig::new();
        rig.sender.symbol = 16_384;
        let mut random = Random(seed);
        let generation = rig.sender.generation(tree(), &[], true);
        let payloads: Vec<Payload> = (0..3).flat_map(|_| generation.all()).collect();
        let bytes = rig.sender.seal(&payloads).concat();
        // Spans are missing, and after some the connection is another one.
        let (mut at, mut is_new, now) = (0, true, rig.now);
        while at < bytes.len() {
            let upto = bytes.len().min(at + 1 + random.below(300_000));
            rig.receiver.as_mut().unwrap().stream(&bytes[at..upto], is_new, now);
            at = upto;
            is_new = random.below(4) == 0;
            if random.below(3) == 0 {
                at += random.below(60_000);
            }
        }
        rig.receiver.as_mut().unwrap().stream(&[], true, now);
        rig.settle();
        let status = rig.receiver.as_ref().unwrap().status().read();
        assert!(status.link.skipped_bytes > 0, "seed {seed}");
        // What three passes did not bring, a fourth one over what is missing does.
        if status.tree.wanted > 0 || status.tree.complete == 0 {
            rig.send(&generation.all());
            rig.settle();
        }
        rig.check(&format!("seed {seed}"));
    }
}

struct Sink(Arc<Mutex<Vec<String>>>);

impl ChannelSink for Sink {
    fn take(&mut self, record: &Record<'_>, _: Instant) {
        self.0.lock().unwrap().push(format!("{record:?}"));
    }

    fn tick(&mut self, _: Instant) {}

    fn session_began(&mut self, _: Instant) {
        self.0.lock().unwrap().push("session".to_owned());
    }
}

#[test]
fn records_of_channels_go_where_they_belong() {
    let mut rig = Rig::new();
    let taken = Arc::new(Mutex::new(Vec::new()));
    rig.receiver.as_mut().unwrap().set_sink(Box::new(Sink(taken.clone())));
    let records = [
        Record::ChannelOpened { channel: 1, connection: 2, carrier: Carrier::Tcp, name: "log" },
        Record::ChannelData { channel: 1, connection: 2, offset: 0, bytes: b"line" },
        Record::ChannelClosed { channel: 1, connection: 2, length: 4, is_whole: true },
    ];
    rig.send(&records.each_ref().map(record));
    rig.sender.begin_session();
    rig.announce();
    let expected: Vec<String> = records.iter().map(|record| format!("{record:?}")).collect();
    assert_eq!(taken.lock().unwrap()[..3], expected);
    assert_eq!(taken.lock().unwrap()[3..], ["session"]);
}

#[test]
fn a_tree_arrives_over_a_socket() {
    use crate::carrier::{Address, InOptions, Incoming, OutOptions, Outgoing};
    use std::sync::atomic::{AtomicBool, Ordering};
    let mut rig = Rig::new();
    let generation = rig.sender.generation(tree(), &[], true);
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let there: Address = format!("udp://127.0.0.1:{port}").parse().unwrap();
    let options = InOptions { receive_buffer: 8 << 20, ..InOptions::default() };
    let mut incoming = Incoming::open(&there, &options).unwrap();
    let never = std::sync::Arc::new(AtomicBool::new(false));
    let mut outgoing = Outgoing::open(&there, &OutOptions::default(), never).unwrap();
    let (mut receiver, stop) = (rig.receiver.take().unwrap(), AtomicBool::new(false));
    let status = receiver.status();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| receiver.run(&mut incoming, &stop));
        let until = Instant::now() + std::time::Duration::from_secs(60);
        // Again and again, as repeats do, slowly enough for a small receive buffer.
        while status.read().tree.complete == 0 && Instant::now() < until {
            for frame in rig.sender.seal(&generation.all()).chunks(50) {
                for frame in frame {
                    outgoing.send(frame, frame.len()).unwrap();
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        stop.store(true, Ordering::Relaxed);
        run.join().unwrap().unwrap();
    });
    receiver.close().unwrap();
    rig.check("over a socket");
}
