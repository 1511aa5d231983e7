//! The settings that both sides run QUIC with, each with its reason.
//! Window sizes are about memory, timeouts about how soon a lost peer is noticed, and the rest about
//! links that lose and reorder packets.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::LinkError;
use crate::rate::{Pace, PathMemory, RateFactory};

/// The most that one stream may have in flight: a parcel's body of 2 MiB, and its head. The QUIC stack
/// drops the whole connection when one stream has more than 1,024 gaps, and this many bytes in
/// full-size packets cannot have that many.
pub const PARCEL_WINDOW: u32 = 2 * 1024 * 1024 + 64 * 1024;

/// The number of control streams that the peer may have open.
const CONTROL_STREAMS: u32 = 2;

/// The largest packet that is tried when segmentation offload hands the kernel several at once. The
/// kernel refuses too large a batch as one whole, which the library takes for a probe that was too
/// large: with 8952 probes pass and full batches vanish, until the lane falls back to 1200. On loopback
/// 6500 carries twice as much as 1452; on a path of 1500 discovery ends at 1468 after some fifteen
/// round trips.
const LARGEST_MTU_BATCHED: u16 = 6500;

/// The most packets that the library puts in one batch, and the most bytes that Linux takes in one.
const BATCH: (usize, usize) = (10, 65_507);

const _: () = assert!(LARGEST_MTU_BATCHED as usize * BATCH.0 <= BATCH.1, "a full batch must fit");

/// The largest packet that is tried when packets go out singly: a 9,000-byte frame less its headers.
const LARGEST_MTU_SINGLE: u16 = 8952;

/// How soon larger packets are tried again after the path seemed to stop taking them.
const BLACK_HOLE_COOLDOWN: Duration = Duration::from_secs(10);

/// Path MTU discovery ends when it knows the size to this many bytes.
const SMALLEST_MTU_STEP: u16 = 10;

/// The version of RFC 9000.
const QUIC_V1: u32 = 1;

/// What both sides can tune.
#[derive(Debug, Clone)]
pub struct TransportOptions {
    /// After how long a silent peer counts as gone.
    pub idle_timeout: Duration,
    /// How often an idle lane says that it is alive. Must be well below `idle_timeout`.
    pub keep_alive: Duration,
    /// How the sending rate is found.
    pub congestion: Congestion,
    /// How much of the path is taken. Only [`Congestion::Rate`] follows it.
    pub pace: Pace,
    /// What an earlier lane learnt of the path, to start from.
    pub known_path: Option<PathMemory>,
    /// How many bytes may go out before the first acknowledgement, with BBR and CUBIC.
    pub initial_window: u64,
    /// How many sent bytes are kept until they are acknowledged, over all streams of a lane.
    pub send_window: u64,
    /// Whether the kernel is handed several packets at once. Off helps where a policer on the way drops
    /// bursts; it costs most of the speed on a fast link.
    pub segmentation_offload: bool,
    /// The largest packet that path MTU discovery tries; the default depends on
    /// `segmentation_offload`. 1200 turns discovery off.
    pub largest_mtu: Option<u16>,
    /// How large the socket's buffers should be, each way.
    pub socket_buffer_bytes: usize,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(3),
            congestion: Congestion::Rate,
            pace: Pace::Fair,
            known_path: None,
            initial_window: 256 * 1024,
            send_window: 32 * 1024 * 1024,
            segmentation_offload: true,
            largest_mtu: None,
            socket_buffer_bytes: 8 * 1024 * 1024,
        }
    }
}

/// How the sending rate is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Congestion {
    /// By our own rate control, from delivery and delay: see `docs/decisions/rate-control.md`.
    Rate,
    /// From the rate at which packets are delivered (BBR, version 1), which survives random loss of 10%
    /// and more. It may fill queues on the way and take more than its part; the receiver's window
    /// bounds it.
    Bbr,
    /// From loss: fair to others, and dead at 1% of random loss over a long path.
    Cubic,
}

impl TransportOptions {
    /// The transport's settings for a side that lets its peer fill `receive_window` with `parcels`.
    pub(crate) fn to_config(
        &self,
        receive_window: u64,
        parcels: u32,
    ) -> Result<TransportConfig, LinkError> {
        let unusable = |detail: &str| LinkError::Setup { detail: detail.to_owned() };
        let idle = IdleTimeout::try_from(self.idle_timeout)
            .map_err(|_| unusable("the idle timeout is too long"))?;
        let receive_window = VarInt::try_from(receive_window)
            .map_err(|_| unusable("the receive window is too large"))?;
        let mut config = TransportConfig::default();
        config
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(self.keep_alive))
            .stream_receive_window(VarInt::from_u32(PARCEL_WINDOW))
            .receive_window(receive_window)
            .send_window(self.send_window)
            .max_concurrent_uni_streams(VarInt::from_u32(parcels))
            .max_concurrent_bidi_streams(VarInt::from_u32(CONTROL_STREAMS))
            .datagram_receive_buffer_size(None)
            // Each parcel has a priority of its own, so no two take turns. Without fairness the library
            // finishes the stream that it has begun, and neither a control frame nor what is missing of
            // an older parcel would overtake it.
            .send_fairness(true)
            // With 3 packets, reordering by a few milliseconds counts as loss and halves the rate. The
            // time threshold, 9/8 of a round trip, finds real losses almost as soon. Beyond 128 the
            // peer's duplicate filter throws late packets away, so waiting longer gains nothing.
            .packet_threshold(128)
            // The first timeout is three times this. The default of 333 ms makes each handshake packet
            // that is lost cost a second, and deadlines here are a few seconds.
            .initial_rtt(Duration::from_millis(100))
            .initial_mtu(self.initial_mtu())
            .mtu_discovery_config(self.mtu_discovery())
            .enable_segmentation_offload(self.segmentation_offload);
        match self.congestion {
            Congestion::Rate => {
                let factory = RateFactory { pace: self.pace, known: self.known_path };
                config.congestion_controller_factory(Arc::new(factory));
            }
            Congestion::Bbr => {
                let mut bbr = BbrConfig::default();
                bbr.initial_window(self.initial_window);
                config.congestion_controller_factory(Arc::new(bbr));
            }
            Congestion::Cubic => {
                let mut cubic = CubicConfig::default();
                cubic.initial_window(self.initial_window);
                config.congestion_controller_factory(Arc::new(cubic));
            }
        }
        Ok(config)
    }

    /// The socket's settings. The size of packets that we take is told to the peer and bounds its
    /// discovery, so it must follow ours.
    pub(crate) fn to_endpoint_config(&self) -> Result<EndpointConfig, LinkError> {
        let mut config = EndpointConfig::default();
        // The drafts that the library also takes have no users left.
        config.supported_versions(vec![QUIC_V1]);
        config
            .max_udp_payload_size(self.largest_mtu())
            .map_err(|error| LinkError::Setup { detail: error.to_string() })?;
        Ok(config)
    }

    /// The same for a path that takes UDP payloads of `payload` bytes at most, as far as the system knows.
    /// Each probe that is too large costs a round trip, and three are sent of every size.
    pub(crate) fn within(mut self, payload: Option<u16>) -> Self {
        if let Some(payload) = payload {
            self.largest_mtu = Some(self.largest_mtu().min(payload));
        }
        self
    }

    /// A size that the path took before is tried at once.
    fn initial_mtu(&self) -> u16 {
        self.known_path.map_or(1200, |known| known.mtu).clamp(1200, self.largest_mtu())
    }

    fn largest_mtu(&self) -> u16 {
        let most = if self.segmentation_offload { LARGEST_MTU_BATCHED } else { LARGEST_MTU_SINGLE };
        self.largest_mtu.unwrap_or(most).clamp(1200, most)
    }

    fn mtu_discovery(&self) -> Option<MtuDiscoveryConfig> {
        let largest = self.largest_mtu();
        if largest <= 1200 {
            return None;
        }
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(largest);
        discovery.minimum_change(SMALLEST_MTU_STEP);
        // Heavy loss can look like a black hole, and small packets are then kept for this long.
        discovery.black_hole_cooldown(BLACK_HOLE_COOLDOWN);
        Some(discovery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_ends_where_the_route_does() {
        let mtu = |payload| TransportOptions::default().within(payload).largest_mtu();
        assert_eq!(mtu(None), LARGEST_MTU_BATCHED);
        assert_eq!(mtu(Some(1472)), 1472);
        assert_eq!(mtu(Some(65_507)), LARGEST_MTU_BATCHED);
        assert_eq!(mtu(Some(576)), 1200);
        let known = PathMemory {
            rate_bytes_per_s: 1_000_000,
            base_rtt: Duration::from_millis(10),
            loss: 0.0,
            mtu: 1452,
        };
        let options = TransportOptions { known_path: Some(known), ..TransportOptions::default() };
        assert_eq!(options.clone().within(Some(1472)).initial_mtu(), 1452);
        assert_eq!(options.within(Some(1392)).initial_mtu(), 1392);
    }
}
