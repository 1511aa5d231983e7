//! What channels feel of files: messages with the time in them go through a TCP channel and a UDP channel,
//! first alone and then beside files that fill the link. Every byte and every datagram is checked.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use badlink::End;
use serde::{Deserialize, Serialize};

use super::Track;
use super::ends::{Ends, completes};
use super::link::{Link, Setting};
use crate::bench::data::Load;
use crate::bench::machine;
use crate::bench::peers::{silent, wait_for};
use crate::bench::stats::percentile;
use crate::bench::warden::Process;

/// The hidden words that make this program the ends of the channels.
pub const STAMP: &str = "stamp";
/// See [`STAMP`].
pub const TAKE: &str = "take";

/// Bytes of a message.
pub const MESSAGE: usize = 200;

/// From one message to the next, of each channel.
pub const EVERY: Duration = Duration::from_millis(5);

/// How long messages go alone.
const ALONE: Duration = Duration::from_secs(5);

/// What of that does not count: a session begins after some outages that it could bridge.
const WARM_UP: Duration = Duration::from_secs(1);

/// What of the time beside files does not count: until the first of them is on its way.
const BEGIN: Duration = Duration::from_millis(300);

/// So many rates are tried, each four fifths of the one before.
const TRIES: usize = 8;

/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// After this long without a datagram, no more of them come.
const QUIET: Duration = Duration::from_secs(2);

/// Where both channels begin, and where they end.
const INTO: &str = "127.0.0.1:7000";
const OUT: &str = "127.0.0.1:7001";

/// What was found out at one rate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiodeChannels {
    /// Of everything together, in megabytes per second.
    pub rate: u32,
    /// Of the files, and how many seconds they took.
    pub bytes: u64,
    /// See there.
    pub seconds: f64,
    /// Messages that were sent through each channel.
    pub messages: u64,
    /// Of the TCP channel.
    pub tcp: Delays,
    /// Of the UDP channel.
    pub udp: Delays,
    /// Datagrams that did not arrive.
    pub lost: u64,
}

/// How long messages took, in milliseconds: the median, the 99th percentile, and the longest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Delays {
    /// Alone.
    pub alone: [f64; 3],
    /// Beside files.
    pub beside: [f64; 3],
    /// Messages beside files.
    pub count: usize,
}

/// What the far end of the channels has got: when a message was sent, in nanoseconds since 1970, and how
/// long it took, in microseconds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Taken {
    tcp: Vec<(u64, u64)>,
    udp: Vec<(u64, u64)>,
    /// Messages that came twice, or were not as they were sent.
    wrong: u64,
}

impl Track<'_> {
    /// At the given rate, which fills the link, and at half of it.
    pub fn channels(&self, rate: u32) -> Result<Vec<DiodeChannels>> {
        eprintln!("\n== channels");
        [rate, rate / 2].into_iter().map(|rate| self.channels_below(rate)).collect()
    }

    /// At this rate, or at a lower one where files get lost beside channels.
    fn channels_below(&self, rate: u32) -> Result<DiodeChannels> {
        let rates = std::iter::successors(Some(rate), |rate| Some(rate * 4 / 5));
        for rate in rates.take(TRIES) {
            if let Some(told) = self.channels_at(rate)? {
                return Ok(told);
            }
            eprintln!("{rate} MB/s: files were lost");
        }
        bail!("files are lost beside channels at {rate} MB/s, and at a quarter of that")
    }

    /// At this rate; none if files did not arrive.
    fn channels_at(&self, rate: u32) -> Result<Option<DiodeChannels>> {
        self.place.clear_source()?;
        self.place.clear()?;
        let bulk = self.place.fresh("bulk")?;
        let load = Load::Large { bytes: if self.quick { 32 << 20 } else { 512 << 20 } };
        load.write(&bulk)?;
        let files = 6;
        for number in 1..files {
            fs::copy(bulk.join(load.name()), bulk.join(format!("copy-{number}")))
                .context("copy what is to be sent")?;
        }
        let link = Link::make(self.warden, Setting::FAST)?;
        let ends = Ends::new(self, &link)?;
        let channels = |at: &str| [format!("feed=tcp://{at}"), format!("log=udp://{at}")];
        let words = |names: &[String; 2]| {
            names.iter().flat_map(|name| ["--channel".to_owned(), name.clone()]).collect::<Vec<_>>()
        };
        let (into, out) = (words(&channels(INTO)), words(&channels(OUT)));
        let (into, out) = (texts(&into), texts(&out));
        let stop = self.place.private().join("stop");
        // It may be there from the rate before.
        let _ = fs::remove_file(&stop);
        let mut take = self.end(&link, End::B, &[TAKE, OUT], &stop)?;
        let mut receiver = ends.receive(&out)?;
        let mut sender = ends.send(rate, &[&into[..], &["--every", "1h"]].concat())?;
        until(|| Ok(receiver.news()?.iter().any(|event| event["event"] == "session")))
            .with_context(|| format!("no session began: {}", sender.said()))?;
        machine::warm_memory();
        let mut stamp = self.end(&link, End::A, &[STAMP, INTO], &stop)?;
        let alone = now() + WARM_UP.as_nanos() as u64;
        thread::sleep(ALONE);
        let (began, since) = (Instant::now(), now());
        fs::rename(&bulk, self.place.source().join("bulk")).context("give the files away")?;
        let mut is_lost = false;
        until(|| {
            let is_there = |event: &serde_json::Value| {
                completes(event, 1) && event["same"].as_u64().is_some_and(|same| same >= files)
            };
            ensure!(sender.process.ended()?.is_none(), "the sender ended: {}", sender.said());
            let news = receiver.news()?;
            is_lost = news.iter().any(|event| event["event"] == "missing");
            Ok(is_lost || news.iter().any(is_there))
        })
        .with_context(|| format!("the files did not arrive: {}", receiver.said()))?;
        if is_lost {
            return Ok(None);
        }
        let (seconds, until_then) = (began.elapsed().as_secs_f64(), now());
        fs::write(&stop, "").context("end the messages")?;
        let messages = self.ended(&mut stamp, STAMP)?.trim().parse().context("no count")?;
        let taken: Taken = serde_json::from_str(&self.ended(&mut take, TAKE)?)?;
        sender.stop()?;
        receiver.stop()?;
        self.place.clear_source()?;
        let window = since + BEGIN.as_nanos() as u64..until_then;
        let told = told(&taken, messages, alone..since, window)?;
        let (tcp, udp) = told;
        eprintln!(
            "{rate} MB/s: TCP 99 % {:.2} ms alone, {:.2} beside files; UDP {:.2} and {:.2}",
            tcp.alone[1], tcp.beside[1], udp.alone[1], udp.beside[1]
        );
        let lost = messages - taken.udp.len() as u64;
        let bytes = load.bytes() * files;
        Ok(Some(DiodeChannels { rate, bytes, seconds, messages, tcp, udp, lost }))
    }

    /// Starts this program as an end of both channels.
    fn end(&self, link: &Link, end: End, words: &[&str], stop: &Path) -> Result<Process> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = link.pair.command(end, program);
        command.arg("bench").args(words).arg(stop);
        let log = self.log(words[0]);
        // What an earlier one said is not what this one says.
        fs::write(&log, "").with_context(|| format!("make {}", log.display()))?;
        let mut process = self.warden.spawn(silent(&mut command, &log)?)?;
        wait_for(&mut process, &log, || (!fs::read(&log).ok()?.is_empty()).then_some(()))?;
        Ok(process)
    }

    fn log(&self, word: &str) -> std::path::PathBuf {
        self.place.private().join(format!("{word}.log"))
    }

    /// Waits for such an end, and takes the last line that it said.
    fn ended(&self, process: &mut Process, word: &str) -> Result<String> {
        let mut status = None;
        until(|| {
            status = process.ended()?;
            Ok(status.is_some())
        })
        .with_context(|| format!("the {word} of messages does not end"))?;
        let said = fs::read_to_string(self.log(word))?;
        ensure!(status.is_some_and(|status| status.success()), "{word}: {}", said.trim());
        Ok(said.lines().last().unwrap_or_default().to_owned())
    }
}

fn texts(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// Looks again and again until it is so.
fn until(mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "it took more than {} s", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Holds what arrived against what was sent: the TCP channel has all, the UDP channel nothing twice.
fn told(
    taken: &Taken,
    messages: u64,
    alone: Range<u64>,
    beside: Range<u64>,
) -> Result<(Delays, Delays)> {
    ensure!(taken.wrong == 0, "{} messages are not as they were sent", taken.wrong);
    let (tcp, udp) = (taken.tcp.len() as u64, taken.udp.len() as u64);
    ensure!(tcp == messages, "{tcp} of {messages} messages came through the TCP channel");
    ensure!(udp <= messages, "{udp} datagrams came where {messages} were sent");
    let of = |all: &[(u64, u64)]| -> Result<Delays> {
        let among = |window: &Range<u64>| -> Vec<f64> {
            let of_it = all.iter().filter(|(sent, _)| window.contains(sent));
            of_it.map(|(_, delay)| *delay as f64 / 1e3).collect()
        };
        let (alone, beside) = (among(&alone), among(&beside));
        if alone.is_empty() || beside.is_empty() {
            bail!("no message came alone, or none beside files");
        }
        let three = |of: &[f64]| [0.5, 0.99, 1.0].map(|part| percentile(of, part));
        Ok(Delays { alone: three(&alone), beside: three(&beside), count: beside.len() })
    };
    Ok((of(&taken.tcp)?, of(&taken.udp)?))
}

/// Nanoseconds since 1970: both ends are on one machine.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

fn message(number: u64, at: u64) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    // Whatever of number and time is changed, some of these bytes do not fit.
    let mixed = (number ^ at.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    for (place, byte) in message.iter_mut().enumerate() {
        *byte = mixed[place % 8].wrapping_add(place as u8);
    }
    message[..8].copy_from_slice(&number.to_be_bytes());
    message[8..16].copy_from_slice(&at.to_be_bytes());
    message
}

/// The number of a message and when it was sent; none if it is not as it was sent.
fn read(bytes: &[u8]) -> Option<(u64, u64)> {
    let number = u64::from_be_bytes(*bytes.first_chunk()?);
    let at = u64::from_be_bytes(*bytes.get(8..)?.first_chunk()?);
    (message(number, at)[..] == *bytes).then_some((number, at))
}

/// The near end of both channels: sends messages until there is a file of that name, and says how many.
pub fn stamp(words: &[String]) -> Result<ExitCode> {
    let [address, stop] = words else { bail!("stamp needs an address and a file's name") };
    let mut stream =
        TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_nodelay(true)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address)?;
    println!("begins");
    let (mut next, mut number) = (Instant::now(), 0);
    while !Path::new(stop).exists() {
        stream.write_all(&message(number, now()))?;
        socket.send(&message(number, now()))?;
        number += 1;
        next += EVERY;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    println!("{number}");
    Ok(ExitCode::SUCCESS)
}

/// The far end of both channels: takes messages until there is a file of that name and no more come, and
/// says when each was sent and how long it took.
pub fn take(words: &[String]) -> Result<ExitCode> {
    let [address, stop] = words else { bail!("take needs an address and a file's name") };
    let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
    let socket = UdpSocket::bind(address).with_context(|| format!("listen on {address}"))?;
    println!("listens");
    let reading = thread::spawn(move || take_stream(&listener));
    let mut taken = take_datagrams(&socket, Path::new(stop))?;
    match reading.join() {
        Ok(read) => {
            let (messages, wrong) = read?;
            taken.tcp = messages;
            taken.wrong += wrong;
        }
        Err(_) => bail!("the thread of the TCP channel panicked"),
    }
    println!("{}", serde_json::to_string(&taken)?);
    Ok(ExitCode::SUCCESS)
}

/// All messages of one connection, which come one after the other.
fn take_stream(listener: &TcpListener) -> Result<(Vec<(u64, u64)>, u64)> {
    let mut stream = listener.accept()?.0;
    let (mut messages, mut wrong) = (Vec::new(), 0);
    let mut bytes = [0; MESSAGE];
    while stream.read_exact(&mut bytes).is_ok() {
        match read(&bytes) {
            Some((number, at)) if number == messages.len() as u64 => {
                messages.push((at, now().saturating_sub(at) / 1000));
            }
            _ => wrong += 1,
        }
    }
    Ok((messages, wrong))
}

fn take_datagrams(socket: &UdpSocket, stop: &Path) -> Result<Taken> {
    socket.set_read_timeout(Some(QUIET))?;
    let mut taken = Taken::default();
    let mut seen = std::collections::BTreeSet::new();
    let mut bytes = [0; 65_536];
    loop {
        match socket.recv(&mut bytes) {
            Ok(length) => match read(&bytes[..length]) {
                Some((number, at)) if seen.insert(number) => {
                    taken.udp.push((at, now().saturating_sub(at) / 1000));
                }
                _ => taken.wrong += 1,
            },
            Err(_) if stop.exists() => return Ok(taken),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
