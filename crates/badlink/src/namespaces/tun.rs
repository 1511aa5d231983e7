//! Makes a TUN device: a network interface whose other side is a file descriptor of this program. This is
//! the one place of the project with `unsafe` code, because the kernel makes such a device by an ioctl
//! only, and nothing wraps that ioctl safely without much else beside it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Opcode, Updater, ioctl};

/// `TUNSETIFF` of linux/if_tun.h, which is `_IOW('T', 202, int)`.
const SET_INTERFACE: Opcode = rustix::ioctl::opcode::write::<i32>(b'T', 202);

/// `IFF_TUN | IFF_NO_PI` of linux/if_tun.h: IP packets, with nothing before them.
const IP_PACKETS_ONLY: u16 = 0x0001 | 0x1000;

/// `struct ifreq` of netdevice(7): a name that ends with a zero, and a union that begins with the flags.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// A device called `name` in the network namespace of the calling thread. It is not up yet, goes away
/// with its descriptor, and reads and writes of it do not wait.
pub(super) fn open(name: &str) -> io::Result<OwnedFd> {
    let mut request = InterfaceRequest { name: [0; 16], flags: IP_PACKETS_ONLY, rest: [0; 22] };
    let room = request.name.get_mut(..name.len());
    // The last byte must stay zero.
    match room {
        Some(room) if name.len() < 16 => room.copy_from_slice(name.as_bytes()),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name is too long")),
    }
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    set_interface(&device, &mut request)?;
    Ok(device)
}

#[allow(unsafe_code)]
fn set_interface(device: &OwnedFd, request: &mut InterfaceRequest) -> io::Result<()> {
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which is 40 bytes on every 64-bit Linux and
    // 32 on 32-bit ones; `InterfaceRequest` has 40 of initialised plain bytes, lives across the call and
    // is borrowed by nobody else. Every bit pattern that the kernel may write is a valid one.
    unsafe {
        let update = Updater::<'_, SET_INTERFACE, InterfaceRequest>::new(request);
        ioctl(device, update)?;
    }
    Ok(())
}
