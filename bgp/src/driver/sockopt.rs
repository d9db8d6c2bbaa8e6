//! Socket options that no safe crate offers, and the addresses of interfaces: the only `unsafe` in the workspace.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

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

const MAX_KEY: usize = crate::Password::MAX_LENGTH;

/// RFC 2385: segments from and to `peer` must be signed with `key`; an empty key removes it.
pub(super) fn set_md5_key(socket: BorrowedFd<'_>, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    if key.len() > MAX_KEY {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the struct consists of integers and arrays of them, for which all zeros is a value.
    let mut option: TcpMd5Sig = unsafe { mem::zeroed() };
    option.key_length = key.len() as u16;
    option.key[..key.len()].copy_from_slice(key);
    let address = ptr::from_mut(&mut option.address);
    match peer {
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
    let result = set_option(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &option);
    match result {
        // Removing what is not there.
        Err(error) if key.is_empty() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
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
