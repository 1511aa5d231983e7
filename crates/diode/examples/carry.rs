//! How much the carriers move, with nothing in the frames: no encryption, no repair symbols, no disk.
//!
//! ```text
//! carry receive ADDRESS                 until nothing has come for two seconds
//! carry send ADDRESS PACKET SECONDS     as fast as the system takes it
//! carry send ADDRESS PACKET SECONDS MB  so many megabytes a second
//! ```
//!
//! Both print their figures at the end: frames, bytes, drops, and seconds of processor time.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diode::{Address, Arrival, InOptions, Incoming, OutOptions, Outgoing};

const USAGE: &str = "usage: carry receive ADDRESS | carry send ADDRESS PACKET SECONDS [MB]";

/// Nothing came for so long: the sender is done.
const QUIET: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let told = match words[..] {
        ["receive", address] => receive(&address.parse()?)?,
        ["send", address, packet, seconds] => {
            send(&address.parse()?, packet.parse()?, seconds.parse()?, None)?
        }
        ["send", address, packet, seconds, rate] => {
            send(&address.parse()?, packet.parse()?, seconds.parse()?, Some(rate.parse()?))?
        }
        _ => return Err(USAGE.into()),
    };
    writeln!(std::io::stdout(), "{told}, {}", processor())?;
    Ok(())
}

fn receive(address: &Address) -> Result<String, Box<dyn Error>> {
    let mut incoming = Incoming::open(address, &InOptions::default())?;
    let (mut frames, mut bytes, mut arrivals) = (0_u64, 0_u64, 0_u64);
    let (mut first, mut last) = (None, Instant::now());
    while first.is_none() || last.elapsed() < QUIET {
        let Some(arrival) = incoming.next(QUIET) else { continue };
        last = Instant::now();
        first.get_or_insert(last);
        arrivals += 1;
        match arrival {
            Arrival::Datagrams(mut datagrams) => {
                for datagram in &mut datagrams {
                    frames += 1;
                    bytes += datagram.len() as u64;
                }
            }
            Arrival::Stream { bytes: piece, .. } => bytes += piece.len() as u64,
        }
    }
    let seconds = first.map_or(0.0, |first| (last - first).as_secs_f64());
    let counters = incoming.counters();
    let rate = bytes as f64 / 1e6 / seconds;
    Ok(format!(
        "{frames} frames, {:.0}/s, {bytes} bytes, {rate:.0} MB/s, {:.1} frames each time, dropped by kernel {}, by us {}{}",
        frames as f64 / seconds,
        frames as f64 / arrivals.max(1) as f64,
        counters.dropped_by_kernel,
        counters.dropped_by_us,
        counters.advice().map_or(String::new(), |advice| format!(", {advice}")),
    ))
}

fn send(
    address: &Address,
    packet: usize,
    seconds: f64,
    rate: Option<f64>,
) -> Result<String, Box<dyn Error>> {
    let options = OutOptions { packet, ..OutOptions::default() };
    let mut outgoing = Outgoing::open(address, &options, Arc::default())?;
    let frame = outgoing.frame_bytes();
    let batch = vec![7; outgoing.most_batch() / frame * frame];
    let began = Instant::now();
    let mut sent = 0_u64;
    while began.elapsed().as_secs_f64() < seconds {
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(sent as f64 / (rate * 1e6));
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        outgoing.send(&batch, frame)?;
        sent += batch.len() as u64;
    }
    let seconds = began.elapsed().as_secs_f64();
    let counters = outgoing.counters();
    Ok(format!(
        "{} frames, {:.0}/s, {} bytes, {:.0} MB/s, {} waits, {} errors",
        counters.frames,
        counters.frames as f64 / seconds,
        counters.bytes,
        counters.bytes as f64 / 1e6 / seconds,
        counters.waits,
        counters.errors,
    ))
}

/// Seconds of processor time of this process, in all its threads.
fn processor() -> String {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    format!("{:.2} s of processor time", time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}
