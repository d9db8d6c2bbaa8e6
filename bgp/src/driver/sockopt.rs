//! Socket options that no safe crate offers, the addresses of interfaces, and what BFD's thread needs of the kernel: the only `unsafe` in
//! the workspace.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

use ipnet::IpNet;

use crate::AoAlgorithm;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface_index: u32,
    key: [u8; MAX_KEY],
}

/// `struct tcp_ao_add` of linux/tcp.h.
#[repr(C, align(8))]
struct TcpAoAdd {
    address: libc::sockaddr_storage,
    algorithm: [u8; 64],
    interface_index: i32,
    /// Bits of which none is set: which key is current follows from what the peer sends.
    flags: u32,
    reserved: u16,
    prefix_length: u8,
    send_id: u8,
    receive_id: u8,
    mac_length: u8,
    key_flags: u8,
    key_length: u8,
    key: [u8; MAX_KEY],
}

/// `struct tcp_ao_del` of linux/tcp.h.
#[repr(C, align(8))]
struct TcpAoDelete {
    address: libc::sockaddr_storage,
    interface_index: i32,
    flags: u32,
    reserved: u16,
    prefix_length: u8,
    send_id: u8,
    receive_id: u8,
    current_key: u8,
    next_key: u8,
    key_flags: u8,
}

/// As in linux/tcp.h; libc does not have them.
const TCP_AO_ADD_KEY: libc::c_int = 38;
const TCP_AO_DEL_KEY: libc::c_int = 39;
/// RFC 5926 section 2.2: 96 bits of whatever the algorithm yields.
const MAC_LENGTH: u8 = 12;

/// The struct's prefix length counts.
const TCP_MD5SIG_FLAG_PREFIX: u8 = 1;
const MAX_KEY: usize = crate::Password::MAX_LENGTH;

/// RFC 2385: segments from and to the addresses of `peers` must be signed with `key`, unless a longer prefix has another; an
/// empty key removes it.
pub(super) fn set_md5_key(socket: BorrowedFd<'_>, peers: IpNet, key: &[u8]) -> io::Result<()> {
    if key.len() > MAX_KEY {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the struct consists of integers and arrays of them, for which all zeros is a value.
    let mut option: TcpMd5Sig = unsafe { mem::zeroed() };
    option.key_length = key.len() as u16;
    option.key[..key.len()].copy_from_slice(key);
    option.flags = TCP_MD5SIG_FLAG_PREFIX;
    option.prefix_length = peers.prefix_len();
    option.address = first_address(peers);
    let result = set_option(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG_EXT, &option);
    match result {
        // Removing what is not there.
        Err(error) if key.is_empty() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// RFC 5925: segments from and to the addresses of `peers` must be signed with `key`.
pub(super) fn add_ao_key(
    socket: BorrowedFd<'_>,
    peers: IpNet,
    key: &[u8],
    algorithm: AoAlgorithm,
    (send_id, receive_id): (u8, u8),
) -> io::Result<()> {
    if key.len() > MAX_KEY {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // The kernel's names, with the key derivation functions that belong to them (RFC 5926 section 3.1.1).
    let name: &[u8] = match algorithm {
        AoAlgorithm::HmacSha1 => b"hmac(sha1)",
        AoAlgorithm::AesCmac => b"cmac(aes128)",
    };
    // SAFETY: the struct consists of integers and arrays of them, for which all zeros is a value.
    let mut option: TcpAoAdd = unsafe { mem::zeroed() };
    option.address = first_address(peers);
    option.prefix_length = peers.prefix_len();
    option.algorithm[..name.len()].copy_from_slice(name);
    (option.send_id, option.receive_id, option.mac_length) = (send_id, receive_id, MAC_LENGTH);
    option.key_length = key.len() as u8;
    option.key[..key.len()].copy_from_slice(key);
    set_option(socket, libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &option)
}

/// Takes such a key off a listening socket.
pub(super) fn delete_ao_key(socket: BorrowedFd<'_>, peers: IpNet, (send_id, receive_id): (u8, u8)) -> io::Result<()> {
    // SAFETY: as for a key that is added.
    let mut option: TcpAoDelete = unsafe { mem::zeroed() };
    option.address = first_address(peers);
    option.prefix_length = peers.prefix_len();
    (option.send_id, option.receive_id) = (send_id, receive_id);
    set_option(socket, libc::IPPROTO_TCP, TCP_AO_DEL_KEY, &option)
}

/// The kernel compares whole addresses when a key is replaced or removed, so what is behind the prefix is zero.
fn first_address(peers: IpNet) -> libc::sockaddr_storage {
    // SAFETY: the struct consists of integers and arrays of them, for which all zeros is a value.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let address = ptr::from_mut(&mut storage);
    match peers.network() {
        IpAddr::V4(v4) => {
            let inet = address.cast::<libc::sockaddr_in>();
            // SAFETY: `sockaddr_storage` is as large and as aligned as any address type, and `inet` points to one that is
            // ours alone.
            unsafe {
                (*inet).sin_family = libc::AF_INET as libc::sa_family_t;
                (*inet).sin_addr.s_addr = u32::from_ne_bytes(v4.octets());
            }
        }
        IpAddr::V6(v6) => {
            let inet6 = address.cast::<libc::sockaddr_in6>();
            // SAFETY: as above.
            unsafe {
                (*inet6).sin6_family = libc::AF_INET6 as libc::sa_family_t;
                (*inet6).sin6_addr.s6_addr = v6.octets();
            }
        }
    }
    storage
}

/// RFC 5082: packets with a lower TTL do not reach this connection.
pub(super) fn set_minimum_ttl(socket: BorrowedFd<'_>, of_family: IpAddr, minimum: u8) -> io::Result<()> {
    let minimum = libc::c_int::from(minimum);
    match of_family {
        IpAddr::V4(_) => set_option(socket, libc::IPPROTO_IP, libc::IP_MINTTL, &minimum),
        IpAddr::V6(_) => set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, &minimum),
    }
}

fn set_option<T>(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as it is borrowed; the pointer and the length describe `value`, which the
    // kernel reads only.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The index of an interface.
pub(super) fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the name is a C string that is read only.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Every address of every interface, with the name of the interface.
pub(super) fn interface_addresses() -> io::Result<Vec<(String, IpAddr)>> {
    let mut list: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: `list` is a place for one pointer, which is what the function writes.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `next` is a node of the list that getifaddrs made and that is freed only below; its name is a C string,
        // its address is null or points to an address of the type that its family names.
        unsafe {
            let node = &*next;
            if let Some(address) = ip_address(node.ifa_addr) {
                addresses.push((CStr::from_ptr(node.ifa_name).to_string_lossy().into_owned(), address));
            }
            next = node.ifa_next;
        }
    }
    // SAFETY: `list` came from getifaddrs, and nothing points into it any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(addresses)
}

/// # Safety
/// `address` must be null or point to a socket address of the type that its family names.
unsafe fn ip_address(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, and by the contract of this function what its family says.
    unsafe {
        match libc::c_int::from((*address).sa_family) {
            libc::AF_INET => {
                let inet = address.cast::<libc::sockaddr_in>();
                Some(IpAddr::V4(Ipv4Addr::from((*inet).sin_addr.s_addr.to_ne_bytes())))
            }
            libc::AF_INET6 => {
                let inet6 = address.cast::<libc::sockaddr_in6>();
                Some(IpAddr::V6(Ipv6Addr::from((*inet6).sin6_addr.s6_addr)))
            }
            _ => None,
        }
    }
}

/// A datagram that came in, and what its socket was asked to tell of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) length: usize,
    pub(super) source: IpAddr,
    /// The address of ours that it came to.
    pub(super) destination: IpAddr,
    pub(super) interface_index: u32,
    /// TTL or hop limit.
    pub(super) ttl: u8,
}

/// Asks for what [`receive`] tells of each datagram.
pub(super) fn tell_origin(socket: BorrowedFd<'_>, of_family: IpAddr) -> io::Result<()> {
    let on: libc::c_int = 1;
    match of_family {
        IpAddr::V4(_) => {
            set_option(socket, libc::IPPROTO_IP, libc::IP_RECVTTL, &on)?;
            set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, &on)
        }
        IpAddr::V6(_) => {
            set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT, &on)?;
            set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &on)
        }
    }
}

/// Room for the control messages of [`tell_origin`], aligned as they need it.
#[repr(C, align(8))]
struct Control([u8; 256]);

/// Takes one datagram without waiting for it; what does not fit into `buffer` is cut.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([0; 256]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: both structs consist of integers, pointers and arrays of integers, for which all zeros is a value.
    let (mut from, mut message): (libc::sockaddr_storage, libc::msghdr) = unsafe { (mem::zeroed(), mem::zeroed()) };
    message.msg_name = ptr::from_mut(&mut from).cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: every pointer in `message` is to a living local of the length beside it, and the descriptor is borrowed.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written an address of the type that its family names, or left it zero.
    let source = unsafe { ip_address(ptr::from_ref(&from).cast()) }.ok_or(io::ErrorKind::InvalidData)?;
    // A datagram without a TTL passes no check of one.
    let mut received = Received { length, source, destination: source, interface_index: 0, ttl: 0 };
    // SAFETY: the kernel has written whole control messages and set their length; CMSG_NXTHDR stays within it. The data of
    // each is read unaligned, as the type that its level and type name.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            let data = libc::CMSG_DATA(header);
            match ((*header).cmsg_level, (*header).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                    let ttl = data.cast::<libc::c_int>().read_unaligned();
                    received.ttl = u8::try_from(ttl).unwrap_or(0);
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                    received.destination = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()).into();
                    received.interface_index = u32::try_from(info.ipi_ifindex).unwrap_or(0);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                    received.destination = Ipv6Addr::from(info.ipi6_addr.s6_addr).into();
                    received.interface_index = info.ipi6_ifindex as u32;
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(received)
}

/// Waits until one of these can be read, or for so long; `None`: for ever. A signal ends it too.
pub(super) fn wait(sockets: &[BorrowedFd<'_>], at_most: Option<Duration>) -> io::Result<()> {
    let entry = |socket: &BorrowedFd<'_>| libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries: Vec<libc::pollfd> = sockets.iter().map(entry).collect();
    let timeout = at_most.map(|time| libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: pointer and length are of `entries`; the timeout is null or a local that outlives the call; no signal mask is given.
    let ready = unsafe { libc::ppoll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, timeout, ptr::null()) };
    match io::Error::last_os_error() {
        error if ready < 0 && error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Moves the calling thread before all that is not real-time. The lowest real-time priority: that suffices, and leaves room above.
pub(super) fn schedule_in_real_time() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // By system call, because musl's function of this name only says that it does nothing.
    // SAFETY: 0 is the calling thread; the pointer is to a local that the kernel reads only.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            0,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            ptr::from_ref(&parameters),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling thread the most that an ordinary one can have of a processor.
pub(super) fn schedule_before_others() -> io::Result<()> {
    // SAFETY: no pointer; on Linux 0 is the calling thread and not its process.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The name of an interface, as long as it exists.
pub(super) fn interface_name(index: u32) -> Option<String> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the length that the function wants, and is a C string if it returns one.
    unsafe {
        let found = libc::if_indextoname(index, name.as_mut_ptr());
        (!found.is_null()).then(|| CStr::from_ptr(found).to_string_lossy().into_owned())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::mem::offset_of;
    use std::os::fd::AsFd;

    use super::*;

    /// Whether this kernel knows the option at all: where it does, four octets are too short for it.
    pub(in super::super) fn kernel_has_tcp_ao() -> bool {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error =
            set_option(socket.as_fd(), libc::IPPROTO_TCP, TCP_AO_ADD_KEY, &0_u32).expect_err("four octets are no key");
        match error.raw_os_error() {
            Some(libc::EINVAL) => true,
            Some(libc::ENOPROTOOPT | libc::EOPNOTSUPP) => false,
            _ => panic!("neither known nor unknown: {error}"),
        }
    }

    /// As the C compiler lays the structs of linux/tcp.h out.
    #[test]
    fn the_kernels_structs_are_laid_out_as_the_kernel_has_them() {
        assert_eq!((size_of::<TcpAoAdd>(), align_of::<TcpAoAdd>()), (288, 8));
        let offsets = [
            offset_of!(TcpAoAdd, address),
            offset_of!(TcpAoAdd, algorithm),
            offset_of!(TcpAoAdd, interface_index),
            offset_of!(TcpAoAdd, flags),
            offset_of!(TcpAoAdd, reserved),
            offset_of!(TcpAoAdd, prefix_length),
            offset_of!(TcpAoAdd, send_id),
            offset_of!(TcpAoAdd, receive_id),
            offset_of!(TcpAoAdd, mac_length),
            offset_of!(TcpAoAdd, key_flags),
            offset_of!(TcpAoAdd, key_length),
            offset_of!(TcpAoAdd, key),
        ];
        assert_eq!(offsets, [0, 128, 192, 196, 200, 202, 203, 204, 205, 206, 207, 208]);
        assert_eq!((size_of::<TcpAoDelete>(), align_of::<TcpAoDelete>()), (144, 8));
        let offsets = [
            offset_of!(TcpAoDelete, address),
            offset_of!(TcpAoDelete, interface_index),
            offset_of!(TcpAoDelete, flags),
            offset_of!(TcpAoDelete, reserved),
            offset_of!(TcpAoDelete, prefix_length),
            offset_of!(TcpAoDelete, send_id),
            offset_of!(TcpAoDelete, receive_id),
            offset_of!(TcpAoDelete, current_key),
            offset_of!(TcpAoDelete, next_key),
            offset_of!(TcpAoDelete, key_flags),
        ];
        assert_eq!(offsets, [0, 128, 132, 136, 138, 139, 140, 141, 142, 143]);
        let (address, length) = (offset_of!(TcpMd5Sig, address), offset_of!(TcpMd5Sig, prefix_length));
        assert_eq!((address, length, offset_of!(TcpMd5Sig, key), size_of::<TcpMd5Sig>()), (0, 129, 136, 216));
    }
}
