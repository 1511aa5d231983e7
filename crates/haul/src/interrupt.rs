//! Ctrl-C and SIGTERM: the first one asks the program to stop cleanly, the second one ends it at once.
//! A thread of its own listens, so that the second is heard also when everything else is busy.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::report::Code;

/// Knows whether the user wants the program to end.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Begins to listen for the signals of this process.
    pub fn listen() -> Result<Self> {
        let (sender, receiver) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot listen for signals")?;
        let streams = {
            let _runtime = runtime.enter();
            signal(SignalKind::interrupt()).and_then(|interrupt| {
                signal(SignalKind::terminate()).map(|terminate| (interrupt, terminate))
            })
        };
        let (mut interrupt, mut terminate) = streams.context("cannot listen for signals")?;
        let listen = async move {
            let mut heard = false;
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if heard {
                    std::process::exit(Code::Interrupted as i32);
                }
                heard = true;
                // Nobody may be listening any more, when the work was just done.
                let _ = sender.send(true);
            }
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(listen))
            .context("cannot listen for signals")?;
        Ok(Self(receiver))
    }

    /// For a program that has the signals to itself: none is ever heard.
    pub fn never() -> Self {
        Self(watch::channel(false).1)
    }

    /// Waits for the first signal.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|heard| *heard).await.is_err() {
            // The listener is gone, which only the end of the process does.
            std::future::pending::<()>().await;
        }
    }
}
