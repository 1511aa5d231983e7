//! Both ends of a copy in this process: a daemon takes it over the loopback, with the same checks as from
//! another machine.

use std::sync::Arc;

use anyhow::Result;
use link::{Identity, Target};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use transfer::client::Connect;
use transfer::host::Landing;

use crate::contact::{self, Links};
use crate::daemon::{Daemon, DaemonOptions};
use crate::local::OneLanding;
use crate::trust::{OneKey, Pinned};

/// A daemon for one copy.
pub struct Within {
    /// What the copy connects by.
    pub connect: Connect,
    /// Warnings that come with each of its lanes.
    pub hushed: Vec<String>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Within {
    /// Begins to serve what is to land there.
    pub fn start(landing: Landing, identity: &Arc<Identity>) -> Result<Self> {
        let options = DaemonOptions {
            listen: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            identity: identity.clone(),
            host: Arc::new(OneLanding { landing, identity: identity.clone() }),
            sink: events::Sink::default(),
            carrier: None,
            reception: None,
        };
        let ours = identity.public_key();
        let daemon = Daemon::bind(options, Arc::new(OneKey(ours)))?;
        let hushed = daemon.warnings().iter().map(|warning| warning.text.clone()).collect();
        let address = daemon.local_addr();
        let host = Target::new(&address.ip().to_string(), address.port())?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(daemon.run(async {
            // Stopped by a word or by the end of whoever could have said it.
            let _ = stopped.await;
        }));
        let check = Arc::new(Pinned(ours));
        let connect = contact::connect_by(host, identity.clone(), check, Links::default(), None);
        Ok(Self { connect, hushed, stop, serving })
    }

    /// Stops, when the copy is over.
    pub async fn stop(self) {
        drop(self.stop);
        // A daemon that failed has said so to the copy.
        let _ = self.serving.await;
    }
}
