//! `haul diode rehearse`: what a link carries, with the real program at both ends.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::daemon::{Ended, Machine, Running};
use testkit::tree::{Scratch, write};

use crate::pair::machine;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Two machines that trust each other.
struct Diode {
    scratch: Scratch,
    low: Machine,
    high: Machine,
}

impl Diode {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let (low, high) = (machine(scratch.join("low")), machine(scratch.join("high")));
        let line = |machine: &Machine| machine.run(["diode", "key", "show"]).expect_code(0).text();
        high.run(["diode", "key", "trust", line(&low).trim()]).expect_code(0);
        low.run(["diode", "key", "trust", line(&high).trim()]).expect_code(0);
        Self { scratch, low, high }
    }

    fn listen(&self, url: &str) -> Running {
        let words = ["diode", "rehearse", "--json", "--from", url, "--receive-buffer", "100kB"];
        Running::start(self.high.command(words))
    }

    /// Rehearses two rates to this address.
    fn rehearse(&self, url: &str) -> Ended {
        let words = ["diode", "rehearse", "--json", "--to", url, "--least", "16mbit"];
        let more = ["--most", "32mbit", "--steps", "2", "--each", "800ms"];
        self.low.run(words.into_iter().chain(more))
    }

    fn status(&self) -> Value {
        let ended = self.high.run(["diode", "status", "--json"]);
        serde_json::from_str(&ended.last_line()).unwrap()
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let began = Instant::now();
        loop {
            let status = self.status();
            if is_so(&status) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: {status:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A port that was free a moment ago, which is all that can be had.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Passes datagrams on and keeps them; every `lose`th gets lost, and of the rest every `double`th comes twice.
struct Recorder {
    address: SocketAddr,
    kept: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    fn start(to: u16, lose: usize, double: usize) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (kept, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (keeps, stops) = (kept.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let (mut buffer, mut count) = ([0; 65_536], 0_usize);
            while !stops.load(Ordering::Relaxed) {
                let Ok(length) = socket.recv(&mut buffer) else { continue };
                keeps.lock().unwrap().push(buffer[..length].to_vec());
                count += 1;
                let times = match count {
                    count if count.is_multiple_of(lose) => 0,
                    count if count.is_multiple_of(double) => 2,
                    _ => 1,
                };
                for _ in 0..times {
                    let _ = socket.send_to(&buffer[..length], ("127.0.0.1", to));
                }
            }
        });
        Self { address, kept, stop, thread: Some(thread) }
    }

    fn end(mut self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        std::mem::take(&mut *self.kept.lock().unwrap())
    }
}

/// The line that says what a rehearsal came to.
#[track_caller]
fn outcome(ended: &Ended) -> Value {
    let text = ended.text();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut outcomes = lines.filter(|line| line["event"] == "rehearsed");
    outcomes.next().unwrap_or_else(|| panic!("{}", ended.told()))
}

#[test]
fn a_lossy_link_is_judged_and_nothing_of_the_rehearsal_is_taken_again() {
    let diode = Diode::new("rehearse_udp");
    let port = free_port();
    let url = format!("udp://127.0.0.1:{port}");
    let receiver = diode.listen(&url);
    let recorder = Recorder::start(port, 50, 31);
    diode.rehearse(&format!("udp://{}", recorder.address)).expect_code(0);
    let ended = receiver.wait_until(PATIENCE);
    let told = outcome(&ended);
    assert_eq!(told["whole"], true, "{told:#}");
    let steps = told["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{told:#}");
    for (step, rate) in steps.iter().zip([2_000_000, 4_000_000]) {
        assert_eq!((&step["rate"], &step["ended"]), (&rate.into(), &true.into()), "{told:#}");
        let (packets, lost) = (step["packets"].as_f64().unwrap(), step["lost"].as_f64().unwrap());
        // How many go out in the time depends on who else runs here; each fiftieth is lost, and what kernels drop.
        assert!(packets >= 50.0 && lost >= (packets / 50.0).floor(), "{told:#}");
        assert!(step["twice"].as_u64().unwrap() > 0, "{told:#}");
    }
    // What was asked for, 100 kB, any kernel grants.
    assert_eq!(told["rmem_max"].is_null(), told["receive_buffer"].is_null(), "{told:#}");
    match &told["recommended"] {
        Value::Null => assert_eq!(ended.code, Some(1), "{}", ended.told()),
        recommended => {
            assert_eq!(ended.code, Some(0), "{}", ended.told());
            let options = recommended["options"].as_str().unwrap();
            for part in ["bit --repair ", " --outage ", "ms --packet 1500"] {
                assert!(options.contains(part), "{options}");
            }
        }
    }

    // Whoever kept it and sends it again is not believed, by a receiver of files either.
    let kept = recorder.end();
    let copy = diode.scratch.join("copy");
    let words = ["diode", "recv", "--from", &url, "--into", copy.to_str().unwrap()];
    let receiver = Running::start(diode.high.command(words));
    diode.wait("the receiver answers", |status| status["recv"].is_object());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for frame in kept.iter().take(500) {
        socket.send_to(frame, ("127.0.0.1", port)).unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
    diode.wait("what was kept is refused", |status| {
        let refused = status["recv"]["refused"].as_object();
        refused.is_some_and(|refused| refused.values().filter_map(Value::as_u64).sum::<u64>() > 100)
    });
    assert_eq!(diode.status()["recv"]["sender"], Value::Null);
    // The sender itself is, with what it has to send.
    let tree = diode.scratch.folder("tree");
    write(&tree.join("file"), b"after the rehearsal");
    let words = ["diode", "send", tree.to_str().unwrap(), "--to", &url, "--once", "--settle", "0"];
    diode.low.run(words).expect_code(0);
    diode.wait("the file is there", |_| copy.join("file").exists());
    drop(receiver);
}

#[test]
fn an_appliance_with_a_stream_is_rehearsed_too() {
    let diode = Diode::new("rehearse_tcp");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let receiver = diode.listen(&format!("tcp-listen://127.0.0.1:{port}"));
    diode.rehearse(&format!("tcp://127.0.0.1:{port}")).expect_code(0);
    let ended = receiver.wait_until(PATIENCE);
    let told = outcome(&ended);
    assert_eq!(told["whole"], true, "{told:#}");
    for step in told["steps"].as_array().unwrap() {
        assert_eq!((&step["lost"], &step["twice"]), (&0.into(), &0.into()), "{told:#}");
        assert!(step["packets"].as_u64().unwrap() > 10, "{told:#}");
    }
    assert_eq!(told["recommended"]["packet"], Value::Null, "{told:#}");
    assert_eq!(told["rmem_max"], Value::Null, "{told:#}");
}

#[test]
fn a_rehearsal_that_is_stopped_says_what_is_known() {
    let diode = Diode::new("rehearse_stop");
    let port = free_port();
    let url = format!("udp://127.0.0.1:{port}");
    let mut receiver = Running::start(diode.high.command(["diode", "rehearse", "--from", &url]));
    let recorder = Recorder::start(port, usize::MAX, usize::MAX);
    let to = format!("udp://{}", recorder.address);
    let words = ["diode", "rehearse", "--to", &to, "--most", "8mbit", "--each", "1m", "-q"];
    let mut sender = Running::start(diode.low.command(words));
    let began = Instant::now();
    // Pauses and announcements are fewer than a hundred.
    while recorder.kept.lock().unwrap().len() < 300 {
        assert!(began.elapsed() < PATIENCE && sender.is_running(), "nothing comes");
        std::thread::sleep(Duration::from_millis(20));
    }
    receiver.interrupt();
    let ended = receiver.wait_until(PATIENCE);
    let text = ended.text();
    assert!(text.contains("The end was not heard") && text.contains(" kbit/s"), "{}", ended.told());
    sender.interrupt();
    sender.wait_until(PATIENCE).expect_code(0);
    // It says that it was stopped, so that the other side would have ended too.
    drop(recorder);
}

#[test]
fn neither_side_rehearses_beside_what_runs() {
    let diode = Diode::new("rehearse_busy");
    let url = format!("udp://127.0.0.1:{}", free_port());
    let (tree, copy) = (diode.scratch.folder("tree"), diode.scratch.join("copy"));
    let words = ["diode", "recv", "--from", &url, "--into", copy.to_str().unwrap()];
    let receiver = Running::start(diode.high.command(words));
    diode.wait("the receiver answers", |status| status["recv"].is_object());
    let other = format!("udp://127.0.0.1:{}", free_port());
    let refused = diode.high.run(["diode", "rehearse", "--from", &other]);
    refused.expect_code(2).expect_says(&["a receiver of this name runs", "stop it"]);
    let words = ["diode", "send", tree.to_str().unwrap(), "--to", &url];
    let sender = Running::start(diode.low.command(words));
    diode.wait("the sender is heard", |status| status["recv"]["sender"].is_object());
    let refused = diode.low.run(["diode", "rehearse", "--to", &url]);
    refused.expect_code(2).expect_says(&["a sender of this name runs", "stop it"]);
    drop((receiver, sender));

    // What the command line must not say.
    for words in [
        &["--to", "udp://127.0.0.1:9", "--from", "udp://127.0.0.1:9"][..],
        &["--from", "udp://127.0.0.1:9", "--most", "1gbit"],
        &["--to", "udp://127.0.0.1:9", "--least", "2gbit"],
        &["--to", "udp://127.0.0.1:9", "--least", "50kbit"],
        &["--to", "udp://127.0.0.1:9", "--each", "10ms"],
        &[],
    ] {
        let words = ["diode", "rehearse"].into_iter().chain(words.iter().copied());
        diode.low.run(words).expect_code(2);
    }
    let stranger = machine(diode.scratch.join("stranger"));
    for side in ["--to", "--from"] {
        let refused = stranger.run(["diode", "rehearse", side, "udp://127.0.0.1:9"]);
        refused.expect_code(3).expect_says(&["is trusted", "haul diode key trust"]);
    }
}
