//! Sockets as BGP wants them. An option that cannot be set is an error: a session without the password or the TTL check
//! that was asked for is worse than none.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::sockopt;
use crate::{Endpoints, NextHops, Password, PeerConfig, Signature, Transport, Ttl};

/// DSCP CS6, network control (RFC 4594 section 3.1), in the upper six bits of the octet.
const TOS_CS6: u32 = 0xc0;
/// Connections that wait for `accept`: every peer of a large node at the same time.
const BACKLOG: i32 = 128;
/// How much longer than the send hold timer the kernel goes on resending (RFC 9687 has the decision with BGP).
const USER_TIMEOUT_MARGIN: Duration = Duration::from_secs(60);

/// Puts what was attempted in front of what the kernel says about it.
pub(super) fn naming<T>(what: impl FnOnce() -> String, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", what())))
}

pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            // One socket, one family: keys and TTLs are per family.
            socket.set_only_v6(true)?;
        }
        // A peer with GTSM (RFC 5082) drops a SYN-ACK with less, and at that time it is not known yet who it is.
        set_ttl(&socket, address.ip(), 255)?;
        set_dscp(&socket, address.ip())?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    naming(|| format!("cannot listen on {} port {}", address.ip(), address.port()), bound())
}

/// Dials with everything in place before the SYN. Ends when the kernel gives up; the engine gives up before.
pub(super) async fn dial(config: &PeerConfig, remote: SocketAddr) -> io::Result<TcpStream> {
    let transport = &config.transport;
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(interface) = &transport.source_interface {
        naming(|| format!("cannot bind to interface {interface}"), socket.bind_device(Some(interface.as_bytes())))?;
    }
    if let Some(source) = transport.source {
        let address = SocketAddr::new(source, 0);
        naming(|| format!("cannot bind to source address {source}"), socket.bind(&address.into()))?;
    }
    prepare(&socket, remote.ip(), config)?;
    if let Some(key) = Key::of(transport) {
        naming(
            || format!("cannot set the {} password", key.signature.name()),
            key.put_on(&socket, remote.ip().into()),
        )?;
    }
    TcpSocket::from_std_stream(socket.into()).connect(remote).await
}

/// The options of a connection that came in. Its password was the listener's.
pub(super) fn prepare_accepted(stream: &TcpStream, config: &PeerConfig) -> io::Result<()> {
    let remote = stream.peer_addr()?.ip();
    prepare(&SockRef::from(stream), remote, config)
}

fn prepare(socket: &Socket, remote: IpAddr, config: &PeerConfig) -> io::Result<()> {
    let ttl = config.outgoing_ttl();
    naming(|| format!("cannot set TTL {ttl}"), set_ttl(socket, remote, ttl.into()))?;
    if let Ttl::Security { hops } = config.transport.ttl {
        // RFC 5082 section 3: sent with 255, and one less for each router on the way. `hops` is at least 1.
        let minimum = 255 - (hops - 1);
        naming(
            || format!("cannot refuse TTLs under {minimum}"),
            sockopt::set_minimum_ttl(socket.as_fd(), remote, minimum),
        )?;
    }
    naming(|| "cannot set DSCP CS6".to_owned(), set_dscp(socket, remote))?;
    naming(|| "cannot set TCP_NODELAY".to_owned(), socket.set_tcp_nodelay(true))?;
    let send_hold = config.send_hold.unwrap_or_else(|| Duration::from_secs(480).max(config.hold_time * 2));
    let user_timeout = send_hold + USER_TIMEOUT_MARGIN;
    naming(|| "cannot set TCP_USER_TIMEOUT".to_owned(), socket.set_tcp_user_timeout(Some(user_timeout)))
}

/// What a connection is signed with, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) password: Password,
    pub(super) signature: Signature,
}

impl Key {
    pub(super) fn of(transport: &Transport) -> Option<Self> {
        Some(Self { password: transport.password.clone()?, signature: transport.signature })
    }

    /// Has what comes from a peer's address, or from a prefix, signed with it, on a listening or a dialling socket. Any other key for
    /// them has been taken off.
    pub(super) fn put_on(&self, socket: impl AsFd, peers: IpNet) -> io::Result<()> {
        let secret = self.password.reveal().as_bytes();
        match self.signature {
            Signature::Md5 => sockopt::set_md5_key(socket.as_fd(), peers, secret),
            Signature::TcpAo { algorithm, send_id, receive_id } => {
                sockopt::add_ao_key(socket.as_fd(), peers, secret, algorithm, (send_id, receive_id))
            }
        }
    }

    /// Whether it can be put where the other one is: the kernel replaces a key of TCP MD5, and never one of TCP-AO.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self == other || (self.signature == Signature::Md5 && other.signature == Signature::Md5)
    }

    /// Takes it off a listening socket.
    pub(super) fn take_off(&self, socket: impl AsFd, peers: IpNet) -> io::Result<()> {
        match self.signature {
            Signature::Md5 => sockopt::set_md5_key(socket.as_fd(), peers, &[]),
            Signature::TcpAo { send_id, receive_id, .. } => {
                sockopt::delete_ao_key(socket.as_fd(), peers, (send_id, receive_id))
            }
        }
    }

    /// Whether this kernel can sign so: it takes the key on a socket that is for nothing else.
    pub(super) fn try_out(&self, peers: IpNet) -> io::Result<()> {
        let of_family = SocketAddr::new(peers.addr(), 0);
        self.put_on(Socket::new(Domain::for_address(of_family), Type::STREAM, Some(Protocol::TCP))?, peers)
    }
}

/// Both ends, and the addresses of the interface that has the local one.
pub(super) fn endpoints(stream: &TcpStream) -> io::Result<Endpoints> {
    let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
    Ok(Endpoints { local, remote, interface: interface_of(local)? })
}

/// The interface that a link-local address is on the other end of.
pub(super) fn link(remote: SocketAddr) -> Option<String> {
    match remote {
        SocketAddr::V6(remote) if remote.ip().is_unicast_link_local() => sockopt::interface_name(remote.scope_id()),
        SocketAddr::V4(_) | SocketAddr::V6(_) => None,
    }
}

fn interface_of(local: SocketAddr) -> io::Result<NextHops> {
    let addresses = sockopt::interface_addresses()?;
    let has_it = |(_, address): &&(String, IpAddr)| *address == local.ip().to_canonical();
    // Several interfaces may have the same link-local address; the scope says which is meant.
    let Some(name) = link(local).or_else(|| addresses.iter().find(has_it).map(|(name, _)| name.clone())) else {
        return Ok(NextHops::default());
    };
    let mut found = NextHops::default();
    for address in addresses.iter().filter(|(other, _)| *other == name).map(|(_, address)| address) {
        match address {
            // Nobody else can send packets to these.
            address if address.is_loopback() => {}
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {}
            IpAddr::V4(v4) => found.ipv4 = found.ipv4.or(Some(*v4)),
            IpAddr::V6(v6) => found.ipv6 = found.ipv6.or(Some(*v6)),
        }
    }
    Ok(found)
}

pub(super) fn set_ttl(socket: &Socket, of_family: IpAddr, ttl: u32) -> io::Result<()> {
    match of_family {
        IpAddr::V4(_) => socket.set_ttl_v4(ttl),
        IpAddr::V6(_) => socket.set_unicast_hops_v6(ttl),
    }
}

pub(super) fn set_dscp(socket: &Socket, of_family: IpAddr) -> io::Result<()> {
    match of_family {
        IpAddr::V4(_) => socket.set_tos_v4(TOS_CS6),
        IpAddr::V6(_) => socket.set_tclass_v6(TOS_CS6),
    }
}
