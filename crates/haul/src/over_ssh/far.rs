//! The end that ssh starts: `haul over-ssh`. It serves the one who started it until that one has said that
//! the job is over, or has gone and does not come back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use link::pipe::{self, Carrier, Guest, Tunnel, TunnelEnd, TunnelOptions};
use link::{Denied, Gatekeeper, Identity, Permissions, PublicKey};
use tokio::io::BufReader;
use tokio::sync::watch;

use super::login::Login;
use super::turn::{self, Taken};
use crate::daemon::{Daemon, DaemonOptions, Guests};
use crate::interrupt::Interrupt;
use crate::report::Code;
use crate::state::Places;

/// How long somebody whose ssh has died may take to come back by a lane of his own.
const LINGER: Duration = Duration::from_secs(60);

/// Carries the command out.
pub fn run() -> Result<Code> {
    let interrupt = Interrupt::listen()?;
    crate::commands::block_on(serve(interrupt))?;
    Ok(Code::Done)
}

async fn serve(interrupt: Interrupt) -> Result<()> {
    let (mut read, mut write) = (BufReader::new(tokio::io::stdin()), tokio::io::stdout());
    let places = Places::from_environment()?;
    let identity = match places.identity() {
        Ok(identity) => Arc::new(identity),
        // A full disk must not keep anybody from fetching what is on it. What ssh passes on is shown there.
        Err(error) => {
            eprintln!(
                "warning: what is signed here cannot be told from others' later on: {error:#}"
            );
            Arc::new(Identity::generate()?)
        }
    };
    let guest = pipe::await_greeting(&mut read, &mut write, &identity).await?;
    // It blocks while an earlier run ends, and nothing else goes on here yet.
    let _turn = match turn::take(&places, &guest) {
        Ok(Taken::Yes(turn)) => turn,
        Ok(Taken::Superseded) => {
            pipe::refuse(&mut write, "another run of the same command has taken over").await?;
            return Ok(());
        }
        Err(error) => {
            pipe::refuse(&mut write, &format!("{error:#}")).await?;
            return Err(error);
        }
    };
    let carrier = Carrier::new();
    let daemon = match bind(&guest, &identity, &carrier) {
        Ok(daemon) => daemon,
        Err(error) => {
            pipe::refuse(&mut write, &format!("{error:#}")).await?;
            return Err(error);
        }
    };
    let port = daemon.local_addr().port();
    guest.serve(&mut write, port, reached_at()).await.context("cannot answer")?;
    let listener = (Ipv4Addr::LOCALHOST, port).into();
    let tunnel = Tunnel::leave(read, write, listener, &carrier, TunnelOptions::default());
    let guests = daemon.guests();
    daemon
        .run(async {
            tokio::select! {
                () = over(&tunnel, guests) => {}
                () = interrupt.wait() => {}
            }
        })
        .await;
    Ok(())
}

/// Waits until the job is over: until the dialer says so, or is gone with all its lanes and does not come
/// back.
async fn over(tunnel: &Tunnel, mut guests: watch::Receiver<Guests>) {
    if tunnel.closed().await == TunnelEnd::Bye {
        return;
    }
    // Lanes that go by another way live on without ssh.
    loop {
        match guests.wait_for(|guests| guests.lanes == 0).await.map(|guests| guests.parted) {
            // Nobody came by another way, or whoever did has taken leave.
            Ok(true) | Err(_) => return,
            Ok(false) => {}
        }
        let back = guests.wait_for(|guests| guests.lanes > 0);
        if tokio::time::timeout(LINGER, back).await.is_err() {
            return;
        }
    }
}

/// A daemon for this guest alone, on the first of the ports that it asks for that is free.
fn bind(guest: &Guest, identity: &Arc<Identity>, carrier: &Carrier) -> Result<Daemon> {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let login = Arc::new(Login { home, identity: identity.clone() });
    let gatekeeper =
        Arc::new(OneGuest { one_time: guest.keys.peer_one_time, identity: guest.keys.peer });
    let bind = |address: IpAddr, port| {
        let options = DaemonOptions {
            listen: SocketAddr::new(address, port),
            identity: guest.keys.one_time.clone(),
            host: login.clone(),
            sink: events::Sink::default(),
            carrier: Some(carrier.clone()),
            reception: None,
        };
        Daemon::bind(options, gatekeeper.clone())
    };
    let (first, last) = guest.ports.unwrap_or((0, 0));
    let mut failure = None;
    for port in first..=last {
        for address in [IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)] {
            match bind(address, port) {
                Ok(daemon) => return Ok(daemon),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
    }
    match failure {
        Some(error) => Err(error).context("cannot listen on the other machine"),
        None => anyhow::bail!("no port was named to listen on"),
    }
}

/// The address that ssh was reached at, as sshd tells it: client, its port, server, its port.
fn reached_at() -> Option<IpAddr> {
    let text = std::env::var("SSH_CONNECTION").ok()?;
    let address = text.split(' ').nth(2)?;
    // A zone means something on this machine only.
    address.split('%').next()?.parse().ok()
}

/// Admits who has started this process, by the key that came through the pipe.
struct OneGuest {
    one_time: PublicKey,
    identity: PublicKey,
}

impl Gatekeeper for OneGuest {
    fn admit(&self, peer: &PublicKey, _remote: SocketAddr) -> Result<Permissions, Denied> {
        match *peer == self.one_time {
            true => Ok(Permissions::unrestricted()),
            false => Err(Denied::new(
                "this process serves the one who has started it, and only that one",
            )),
        }
    }

    fn stands_for(&self, _peer: &PublicKey) -> PublicKey {
        self.identity
    }
}
