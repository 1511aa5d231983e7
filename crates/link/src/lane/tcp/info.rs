//! What the kernel knows of the data connections, summed up.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

/// The figures of some connections together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    /// The mean over connections.
    pub(crate) rtt: Duration,
    /// The smallest.
    pub(crate) min_rtt: Duration,
    pub(crate) sent_packets: u64,
    pub(crate) lost_packets: u64,
    pub(crate) lost_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) acknowledged_bytes: u64,
    pub(crate) congestion_window: u64,
    pub(crate) delivery_rate: u64,
    /// The longest of the connections.
    pub(crate) peer_limited: Duration,
    pub(crate) buffer_limited: Duration,
    pub(crate) busy: Duration,
    pub(crate) mtu: u16,
}

/// Asks the kernel. A system that does not tell gives zeros.
pub(crate) fn sum(sockets: &[Arc<TcpStream>]) -> Figures {
    let mut sum = Figures::default();
    let mut known = 0;
    for socket in sockets {
        let Ok(info) = tcpinfo::TcpInfo::of(&**socket) else { continue };
        known += 1;
        sum.rtt += info.rtt;
        if known == 1 || info.min_rtt < sum.min_rtt {
            sum.min_rtt = info.min_rtt;
        }
        sum.sent_packets += u64::from(info.segments_out);
        sum.lost_packets += u64::from(info.retransmitted);
        sum.lost_bytes += info.bytes_retransmitted;
        sum.sent_bytes += info.bytes_sent;
        sum.received_bytes += info.bytes_received;
        sum.acknowledged_bytes += info.bytes_acknowledged;
        sum.congestion_window += u64::from(info.congestion_window) * u64::from(info.send_mss);
        sum.delivery_rate += info.delivery_rate;
        sum.peer_limited = sum.peer_limited.max(info.receive_window_limited);
        sum.buffer_limited = sum.buffer_limited.max(info.send_buffer_limited);
        sum.busy = sum.busy.max(info.busy);
        sum.mtu = sum.mtu.max(u16::try_from(info.path_mtu).unwrap_or(u16::MAX));
    }
    if known > 0 {
        sum.rtt /= known;
    }
    sum
}
