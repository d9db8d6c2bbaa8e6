//! The UDP sockets of BFD: few that receive for all sessions, and one for each session to send from.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tracing::{debug, warn};

use super::super::socket::{naming, set_dscp, set_ttl};
use super::super::sockopt;
use crate::bfd::{Path, Port};
use crate::random::SplitMix64;

/// RFC 5881 section 4.
const SOURCE_PORTS: RangeInclusive<u16> = 49152..=65535;
/// So many ports are tried; all of them taken means that thousands of sockets are open there.
const TRIES: usize = 64;
/// A receiving socket that could not be bound is tried again after so long: the other daemon may have gone.
const RETRY: Duration = Duration::from_secs(5);

/// Where packets are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    port: Port,
    address: IpAddr,
}

impl Place {
    /// A path with an address of ours is heard at that address: then others may have the port at theirs. Link-local ones
    /// cannot be bound without their interface.
    fn of(path: &Path) -> Self {
        let any = if path.remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let bindable = |address: &IpAddr| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        Self { port: path.port, address: path.local.filter(bindable).unwrap_or(any) }
    }

    fn serves(self, path: &Path) -> bool {
        let wanted = Self::of(path);
        let same_family = self.address.is_ipv4() == wanted.address.is_ipv4();
        self.port == wanted.port && same_family && (self.address == wanted.address || self.address.is_unspecified())
    }
}

/// Where to listen for these paths. One that may be reached at any address takes the others of its kind along, because the
/// kernel gives a port to all addresses or to each.
fn places(paths: &BTreeSet<&Arc<Path>>) -> BTreeSet<Place> {
    let all: BTreeSet<Place> = paths.iter().map(|path| Place::of(path)).collect();
    let covered = |place: &Place| {
        let by = |other: &Place| {
            other.address.is_unspecified()
                && other.port == place.port
                && other.address.is_ipv4() == place.address.is_ipv4()
        };
        !place.address.is_unspecified() && all.iter().any(by)
    };
    all.iter().filter(|place| !covered(place)).copied().collect()
}

enum Receiver {
    Open(UdpSocket),
    Closed { why: String, retry: Instant },
}

#[derive(Default)]
struct Sender {
    socket: Option<UdpSocket>,
    /// Kept while the session lasts, whatever becomes of the socket.
    port: Option<u16>,
    /// Why the last packet did not leave.
    why: Option<String>,
}

/// All of them.
pub(super) struct Sockets {
    receivers: BTreeMap<Place, Receiver>,
    senders: BTreeMap<Arc<Path>, Sender>,
    random: SplitMix64,
}

impl Sockets {
    pub(super) fn new(seed: u64) -> Self {
        Self { receivers: BTreeMap::new(), senders: BTreeMap::new(), random: SplitMix64::new(seed) }
    }

    /// Opens what these paths need to be heard on and is not open, and closes what they do not need.
    pub(super) fn serve<'a>(&mut self, now: Instant, paths: impl Iterator<Item = &'a Arc<Path>>) {
        let paths: BTreeSet<&Arc<Path>> = paths.collect();
        let wanted = places(&paths);
        // First, because a port at one address is in the way of the same port at all.
        self.receivers.retain(|place, _| wanted.contains(place));
        for place in wanted {
            if let Some(Receiver::Open(_)) = self.receivers.get(&place) {
                continue;
            }
            if let Some(Receiver::Closed { retry, .. }) = self.receivers.get(&place)
                && *retry > now
            {
                continue;
            }
            let receiver = match listen(place) {
                Ok(socket) => Receiver::Open(socket),
                Err(error) => {
                    let why = error.to_string();
                    let known = matches!(self.receivers.get(&place), Some(Receiver::Closed { why: before, .. }) if *before == why);
                    if !known {
                        warn!(%error, "BFD hears nothing");
                    }
                    Receiver::Closed { why, retry: now + RETRY }
                }
            };
            self.receivers.insert(place, receiver);
        }
    }

    /// Closes what nobody sends from any more.
    pub(super) fn forget_senders(&mut self, paths: &[Arc<Path>]) {
        let paths: BTreeSet<&Arc<Path>> = paths.iter().collect();
        self.senders.retain(|path, _| paths.contains(path));
    }

    /// When a socket is to be tried again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        let retries = self.receivers.values().filter_map(|receiver| match receiver {
            Receiver::Open(_) => None,
            Receiver::Closed { retry, .. } => Some(*retry),
        });
        retries.min()
    }

    /// Every socket that packets come in on, with the port that they come to.
    pub(super) fn receivers(&self) -> impl Iterator<Item = (Port, BorrowedFd<'_>)> {
        self.receivers.iter().filter_map(|(place, receiver)| match receiver {
            Receiver::Open(socket) => Some((place.port, socket.as_fd())),
            Receiver::Closed { .. } => None,
        })
    }

    pub(super) fn send(&mut self, path: &Arc<Path>, packet: &[u8]) {
        let sender = self.senders.entry(Arc::clone(path)).or_default();
        let sent = match &sender.socket {
            Some(socket) => deliver(socket, path, packet),
            None => open(path, sender.port, &mut self.random).and_then(|(socket, port)| {
                sender.port = Some(port);
                deliver(sender.socket.insert(socket), path, packet)
            }),
        };
        let why = match sent {
            Ok(()) => None,
            Err(error) => {
                // An interface that was made anew has another index than the one that the socket is bound to.
                if path.interface.is_some() {
                    sender.socket = None;
                }
                Some(format!("cannot send: {error}"))
            }
        };
        if why.is_some() && sender.why != why {
            debug!(session = %path, why, "a BFD packet did not leave");
        }
        sender.why = why;
    }

    /// What keeps packets of this path from coming in or from leaving.
    pub(super) fn obstacle(&self, path: &Path) -> Option<String> {
        let receiving = self.receivers.iter().find_map(|(place, receiver)| match receiver {
            Receiver::Closed { why, .. } if place.serves(path) => Some(why.clone()),
            _ => None,
        });
        receiving.or_else(|| self.senders.get(path)?.why.clone())
    }
}

fn listen(Place { port, address }: Place) -> io::Result<UdpSocket> {
    let bound = || {
        let socket = Socket::new(Domain::for_address((address, 0).into()), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        sockopt::tell_origin(socket.as_fd(), address)?;
        socket.bind(&SocketAddr::new(address, port.number()).into())?;
        Ok(UdpSocket::from(socket))
    };
    naming(|| format!("cannot listen on UDP {address} port {}; is another BFD daemon running?", port.number()), bound())
}

fn open(path: &Path, port: Option<u16>, random: &mut SplitMix64) -> io::Result<(UdpSocket, u16)> {
    let any = if path.remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let local = path.local.unwrap_or(any);
    let socket = Socket::new(Domain::for_address((local, 0).into()), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if let Some(interface) = &path.interface {
        naming(|| format!("cannot bind to interface {interface}"), socket.bind_device(Some(interface.as_bytes())))?;
    }
    // RFC 5881 section 5: 255, so that the other side can tell that no router was in between.
    set_ttl(&socket, path.remote, 255)?;
    set_dscp(&socket, path.remote)?;
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for attempt in 0..TRIES {
        let width = u64::from(SOURCE_PORTS.end() - SOURCE_PORTS.start()) + 1;
        let drawn = SOURCE_PORTS.start() + (random.next() % width) as u16;
        let candidate = port.filter(|_| attempt == 0).unwrap_or(drawn);
        let scope = if matches!(local, IpAddr::V6(v6) if v6.is_unicast_link_local()) { path.scope } else { 0 };
        match socket.bind(&scoped(local, candidate, scope).into()) {
            Ok(()) => return Ok((UdpSocket::from(socket), candidate)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return naming(|| format!("cannot bind to source address {local}"), Err(error)),
        }
    }
    naming(|| format!("no free source port at {local}"), Err(last))
}

fn deliver(socket: &UdpSocket, path: &Path, packet: &[u8]) -> io::Result<()> {
    socket.send_to(packet, scoped(path.remote, path.port.number(), path.scope)).map(drop)
}

fn scoped(address: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match address {
        IpAddr::V4(_) => SocketAddr::new(address, port),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_to_any_address_takes_the_others_of_its_kind_along() {
        let path = |remote: &str, local: Option<&str>, port| {
            let (remote, local) = (remote.parse().unwrap(), local.map(|local| local.parse().unwrap()));
            Arc::new(Path { remote, scope: 0, local, interface: None, port })
        };
        let single = |remote, local| path(remote, local, Port::SingleHop);
        let check = |paths: &[Arc<Path>], expected: &[(&str, Port)]| {
            let expected: BTreeSet<Place> = expected
                .iter()
                .map(|(address, port)| Place { port: *port, address: address.parse().unwrap() })
                .collect();
            assert_eq!(places(&paths.iter().collect()), expected, "{paths:?}");
            for path in paths {
                assert_eq!(expected.iter().filter(|place| place.serves(path)).count(), 1, "{path}");
            }
        };
        let (one, two) = (single("192.0.2.1", Some("192.0.2.9")), single("192.0.2.2", Some("192.0.2.8")));
        check(&[], &[]);
        check(&[Arc::clone(&one), two], &[("192.0.2.9", Port::SingleHop), ("192.0.2.8", Port::SingleHop)]);
        check(&[Arc::clone(&one), single("192.0.2.3", None)], &[("0.0.0.0", Port::SingleHop)]);
        check(
            &[Arc::clone(&one), path("192.0.2.3", None, Port::Multihop), single("2001:db8::1", None)],
            &[("192.0.2.9", Port::SingleHop), ("0.0.0.0", Port::Multihop), ("::", Port::SingleHop)],
        );
        check(&[single("fe80::1", Some("fe80::9"))], &[("::", Port::SingleHop)]);
    }
}
