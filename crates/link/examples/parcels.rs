//! What a lane costs: parcels of memory to nowhere over loopback, in a process of its own for each side.
//! `parcels listen` prints its port; `parcels send tcp PORT 1024` sends a GiB there. Run both under
//! `perf stat` to see what a side pays.

use std::error::Error;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use link::{
    Denied, DialOptions, Gatekeeper, HostCheck, HostRefused, Identity, LaneKind, ListenOptions,
    Listener, Permissions, PublicKey, Target, dial,
};
use tokio::task::JoinSet;

const BODY: usize = 1024 * 1024;
const UNDER_WAY: usize = 16;

/// Takes everybody: there is nothing here to guard.
struct Open;

impl Gatekeeper for Open {
    fn admit(&self, _peer: &PublicKey, _remote: SocketAddr) -> Result<Permissions, Denied> {
        Ok(Permissions::unrestricted())
    }
}

impl HostCheck for Open {
    fn check(&self, _host: &str, _port: u16, _key: &PublicKey) -> Result<(), HostRefused> {
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["listen"] => listen().await,
        ["send", kind, port, mib] => {
            let kind = if kind == "tcp" { LaneKind::Tcp } else { LaneKind::Quic };
            send(kind, port.parse()?, mib.parse()?).await
        }
        _ => Err("usage: parcels listen | parcels send quic|tcp PORT MIB".into()),
    }
}

/// Takes one lane's parcels until it ends.
async fn listen() -> Result<(), Box<dyn Error>> {
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let identity = Identity::generate()?;
    let listener = Listener::bind(address, &identity, Arc::new(Open), ListenOptions::default())?;
    writeln!(std::io::stdout(), "{}", listener.local_addr().port())?;
    let lane = listener.accept().await?;
    let mut reading = JoinSet::new();
    while let Ok(parcel) = lane.accept_parcel().await {
        reading.spawn(parcel.read(100, BODY));
        while let Some(read) = reading.try_join_next() {
            read??;
        }
    }
    writeln!(std::io::stderr(), "received: {:?}", lane.stats())?;
    Ok(())
}

async fn send(kind: LaneKind, port: u16, mib: u64) -> Result<(), Box<dyn Error>> {
    let options = DialOptions { kind, ..DialOptions::default() };
    let lane =
        dial(&Target::new("127.0.0.1", port)?, &Identity::generate()?, &Open, &options).await?;
    let body = Bytes::from(vec![7; BODY]);
    let began = Instant::now();
    let mut sending = JoinSet::new();
    for order in 0..mib {
        if sending.len() == UNDER_WAY {
            sending.join_next().await.transpose()?.transpose()?;
        }
        let (lane, body) = (lane.clone(), body.clone());
        sending.spawn(async move { lane.send_parcel(Bytes::new(), body, order).await });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    let rate = mib as f64 * BODY as f64 / 1e6 / began.elapsed().as_secs_f64();
    writeln!(std::io::stderr(), "sent at {rate:.0} MB/s: {:?}", lane.stats())?;
    lane.close(0, "done");
    lane.drained(std::time::Duration::from_secs(5)).await;
    Ok(())
}
