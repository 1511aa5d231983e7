//! What the kernel knows of a TCP connection (`TCP_INFO`, Linux).
//! The crate is apart since the rest of the project forbids unsafe code, and one call here needs it. It
//! asks for plain bytes and reads numbers out of them, so a kernel that tells less leaves zeros.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// The part of `struct tcp_info` that is of use. Counters run from the start of the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// The smallest round-trip time of late.
    pub min_rtt: Duration,
    /// The largest segment that is sent, in bytes.
    pub send_mss: u32,
    /// The largest packet of the path, in bytes.
    pub path_mtu: u32,
    /// How many segments may be under way.
    pub congestion_window: u32,
    /// Segments that were sent, those that were sent again included.
    pub segments_out: u32,
    /// Segments that were sent again.
    pub retransmitted: u32,
    /// Bytes that were sent, those that were sent again included.
    pub bytes_sent: u64,
    /// Bytes that were sent again.
    pub bytes_retransmitted: u64,
    /// Bytes that the peer has acknowledged.
    pub bytes_acknowledged: u64,
    /// Bytes that have come.
    pub bytes_received: u64,
    /// Bytes that wait in the kernel and were not sent yet.
    pub not_sent: u32,
    /// Bytes per second that were acknowledged of late.
    pub delivery_rate: u64,
    /// How long there was something to send or to be acknowledged.
    pub busy: Duration,
    /// How long of that the peer's window held it up.
    pub receive_window_limited: Duration,
    /// How long of that our own buffer was too small.
    pub send_buffer_limited: Duration,
}

/// More than any kernel tells today.
#[cfg(target_os = "linux")]
const MOST_BYTES: usize = 512;

impl TcpInfo {
    /// Asks the kernel about `socket`.
    #[cfg(target_os = "linux")]
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;
        let mut bytes = [0; MOST_BYTES];
        let mut length = MOST_BYTES as libc::socklen_t;
        // SAFETY: the descriptor is open as long as `socket` is borrowed; the kernel writes no more than
        // `length` bytes to `bytes`, which has that many and may hold any, and what it wrote to `length`.
        #[allow(unsafe_code, reason = "no library in use reads TCP_INFO")]
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                bytes.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self::parse(bytes.get(..length as usize).unwrap_or(&bytes)))
    }

    /// Other systems do not tell.
    #[cfg(not(target_os = "linux"))]
    pub fn of(_socket: impl AsFd) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Reads the structure as `linux/tcp.h` has it; what lies behind the end is zero.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    fn parse(bytes: &[u8]) -> Self {
        let four = |at: usize| {
            let bytes = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        let eight = |at: usize| {
            let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_ne_bytes)
        };
        Self {
            send_mss: four(16),
            path_mtu: four(60),
            rtt: Duration::from_micros(four(68).into()),
            congestion_window: four(80),
            retransmitted: four(100),
            bytes_acknowledged: eight(120),
            bytes_received: eight(128),
            segments_out: four(136),
            not_sent: four(144),
            // A connection that has measured nothing shows the largest number.
            min_rtt: Duration::from_micros(match four(148) {
                u32::MAX => 0,
                micros => micros.into(),
            }),
            delivery_rate: eight(160),
            busy: Duration::from_micros(eight(168)),
            receive_window_limited: Duration::from_micros(eight(176)),
            send_buffer_limited: Duration::from_micros(eight(184)),
            bytes_sent: eight(200),
            bytes_retransmitted: eight(208),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_tells_what_was_sent() {
        use std::io::{Read as _, Write as _};
        use std::net::{Ipv4Addr, TcpListener, TcpStream};
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(&[7; 5000]).unwrap();
        far.read_exact(&mut [0; 5000]).unwrap();
        far.write_all(&[7; 100]).unwrap();
        near.read_exact(&mut [0; 100]).unwrap();
        let info = TcpInfo::of(&near).unwrap();
        assert_eq!((info.bytes_sent, info.bytes_acknowledged - 1), (5000, 5000), "{info:?}");
        assert_eq!((info.bytes_received, info.bytes_retransmitted), (100, 0), "{info:?}");
        assert!(info.rtt > Duration::ZERO && info.min_rtt <= info.rtt * 100, "{info:?}");
        assert!(info.segments_out >= 2 && info.congestion_window > 0, "{info:?}");
        assert!(info.send_mss > 500 && info.path_mtu >= info.send_mss, "{info:?}");
        let udp = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(TcpInfo::of(&udp).is_err());
    }

    #[test]
    fn an_old_kernel_leaves_zeros() {
        let mut bytes = vec![0; 104];
        bytes[68..72].copy_from_slice(&1500u32.to_ne_bytes());
        bytes[100..104].copy_from_slice(&9u32.to_ne_bytes());
        let info = TcpInfo::parse(&bytes);
        let expected =
            TcpInfo { rtt: Duration::from_micros(1500), retransmitted: 9, ..TcpInfo::default() };
        assert_eq!(info, expected);
        assert_eq!(TcpInfo::parse(&[]), TcpInfo::default());
    }
}
