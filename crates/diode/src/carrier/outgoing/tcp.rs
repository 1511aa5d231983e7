//! Frames in a TCP stream into an appliance. Nothing that it answers is read. A connection that breaks is made again,
//! with growing pauses, for as long as it takes.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{OutMeter, Patience, Sent};
use crate::carrier::socket::{Redial, TICK, wait_writable};
use crate::carrier::{Address, CarrierError};

#[derive(Debug)]
pub(super) struct TcpOut {
    address: Address,
    stream: Option<TcpStream>,
    redial: Redial,
    had_one: bool,
    stop: Arc<AtomicBool>,
}

impl TcpOut {
    pub(super) fn new(address: Address, stop: Arc<AtomicBool>) -> Self {
        Self { address, stream: None, redial: Redial::default(), had_one: false, stop }
    }

    pub(super) fn send(
        &mut self,
        batch: &[u8],
        frame: usize,
        meter: &OutMeter,
    ) -> Result<Sent, CarrierError> {
        let stop = self.stop.clone();
        let mut patience = Patience::new(&stop);
        let had_one = self.had_one;
        if self.stream.is_none() {
            self.connect(&mut patience, meter)?;
            // Whoever was connected before has not sent anything on this connection yet.
            if had_one {
                return Ok(Sent::Again);
            }
        }
        let Some(stream) = &mut self.stream else { return Ok(Sent::Again) };
        match write(stream, batch, &mut patience, meter) {
            Ok(true) => {
                meter.sent(batch.len(), frame);
                Ok(Sent::All)
            }
            Ok(false) => {
                // Half a frame may have gone out; nothing may follow it as if it were whole.
                self.stream = None;
                meter.gave_up(batch.len(), frame);
                Err(CarrierError::Stopped { address: self.address.to_string() })
            }
            Err(error) => {
                meter.failed(&error);
                self.stream = None;
                self.connect(&mut patience, meter)?;
                Ok(Sent::Again)
            }
        }
    }

    /// Connects, however long it takes.
    fn connect(
        &mut self,
        patience: &mut Patience<'_>,
        meter: &OutMeter,
    ) -> Result<(), CarrierError> {
        meter.connected(false);
        let is_over = &mut || patience.is_over();
        let Some(stream) = self.redial.dial(&self.address, is_over, |error| meter.failed(error))
        else {
            return Err(CarrierError::Stopped { address: self.address.to_string() });
        };
        (self.stream, self.had_one) = (Some(stream), true);
        meter.connected(true);
        Ok(())
    }
}

/// Writes everything; false if it was given up before.
fn write(
    stream: &mut TcpStream,
    mut rest: &[u8],
    patience: &mut Patience<'_>,
    meter: &OutMeter,
) -> io::Result<bool> {
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                meter.waited();
                wait_writable(&*stream, TICK);
                if patience.is_over() {
                    return Ok(false);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
