//! The router on an unnumbered link: who it is, and that it learns who we are (RFC 4861).
//!
//! Between link-local addresses nobody is configured with the other's address. Routers that do BGP so (FRR's `neighbor eth0
//! interface`, and what follows it) send router advertisements and take the source of the other side's for its address. So
//! do we: for each interface with such a peer one raw ICMPv6 socket, which needs CAP_NET_RAW. It asks once for an
//! advertisement, sends ours every ten seconds and whenever somebody asks, and remembers the last source that was heard.
//!
//! Our advertisements have a router lifetime of zero: a host on the link that listens learns that we are there, and not to
//! send anything through us. What is heard must have come with a hop limit of 255, which nothing has that crossed a router.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket as StdUdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::sockopt::{self, Received};

/// What is known of the router on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Neighbor {
    /// Nothing, for this reason.
    Unknown(String),
    Known(SocketAddrV6),
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// RFC 4861 section 6.1.2: an advertisement without options.
const SHORTEST_ADVERTISEMENT: usize = 16;
const SHORTEST_SOLICITATION: usize = 8;
/// Between advertisements; FRR's interval for such sessions.
const INTERVAL: Duration = Duration::from_secs(10);
/// So many come first, one a second, so that a router that starts at the same time is not missed.
const INITIAL: u32 = 4;
/// Between the first ones, between answers to solicitations, and before an interface is looked for again.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches a link for as long as somebody wants to know.
pub(super) async fn watch(interface: String, neighbor: watch::Sender<Neighbor>) {
    loop {
        let error = match open(&interface) {
            Ok((socket, index)) => {
                let heard = format!("no router advertisement has come on {interface} yet");
                neighbor.send_if_modified(|known| renew(known, Neighbor::Unknown(heard)));
                speak_and_listen(&interface, index, &socket, &neighbor).await
            }
            Err(error) => error,
        };
        let news = Neighbor::Unknown(error.to_string());
        if neighbor.send_if_modified(|known| renew(known, news)) {
            warn!(interface, %error, "no unnumbered session is possible here as yet");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Where the router is to be dialled; waits for so long to hear of it.
pub(super) async fn address(
    mut neighbor: watch::Receiver<Neighbor>,
    port: u16,
    patience: Duration,
) -> io::Result<SocketAddr> {
    let known = neighbor.wait_for(|neighbor| matches!(neighbor, Neighbor::Known(_)));
    // Ends with an error too: when nobody watches any more.
    let _ = tokio::time::timeout(patience, known).await;
    match neighbor.borrow().clone() {
        Neighbor::Known(address) => Ok(SocketAddr::V6(SocketAddrV6::new(*address.ip(), port, 0, address.scope_id()))),
        Neighbor::Unknown(reason) => Err(io::Error::other(reason)),
    }
}

fn renew(known: &mut Neighbor, news: Neighbor) -> bool {
    let changed = *known != news;
    *known = news;
    changed
}

/// A socket for neighbour discovery on this interface, and the interface's index.
fn open(interface: &str) -> io::Result<(UdpSocket, u32)> {
    let naming = |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what} on {interface}: {error}"));
    let index = sockopt::interface_index(interface)
        .map_err(|error| io::Error::new(error.kind(), format!("there is no interface {interface}: {error}")))?;
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            naming("cannot send and receive router advertisements without CAP_NET_RAW", error)
        }
        _ => naming("cannot open a socket for router advertisements", error),
    })?;
    let prepared = || {
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        // RFC 4861 section 6.1.2: who receives it drops what could have been forwarded.
        socket.set_multicast_hops_v6(255)?;
        socket.set_multicast_loop_v6(false)?;
        socket.set_multicast_if_v6(index)?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        sockopt::tell_origin(socket.as_fd(), ALL_NODES.into())?;
        UdpSocket::from_std(StdUdpSocket::from(socket))
    };
    let socket = prepared().map_err(|error| naming("cannot prepare for router advertisements", error))?;
    Ok((socket, index))
}

/// Returns when the interface is not what it was.
async fn speak_and_listen(
    interface: &str,
    index: u32,
    socket: &UdpSocket,
    neighbor: &watch::Sender<Neighbor>,
) -> io::Error {
    let mut buffer = [0; 1500];
    let (mut sent, mut next) = (0, Instant::now());
    let mut last = None;
    loop {
        tokio::select! {
            received = receive(socket, &mut buffer) => match received {
                Ok(received) => match understood(&buffer[..received.length], &received) {
                    Some(Heard::Advertisement(router)) => {
                        let address = SocketAddrV6::new(router, 0, 0, index);
                        if neighbor.send_if_modified(|known| renew(known, Neighbor::Known(address))) {
                            info!(interface, %router, "the router on this link is known");
                        }
                    }
                    // At most one answer in a second, whatever comes.
                    Some(Heard::Solicitation) => {
                        let soonest = last.map_or_else(Instant::now, |last| last + PAUSE);
                        next = next.min(soonest);
                    }
                    None => {}
                },
                Err(error) => return error,
            },
            () = tokio::time::sleep_until(next) => {
                match sockopt::interface_index(interface) {
                    Ok(now) if now == index => {}
                    Ok(_) => return io::Error::other(format!("{interface} has become another interface")),
                    Err(error) => return io::Error::new(error.kind(), format!("{interface} is gone: {error}")),
                }
                let mut outcome = send(socket, index, ALL_NODES, &advertisement()).await;
                if outcome.is_ok() && matches!(*neighbor.borrow(), Neighbor::Unknown(_)) {
                    outcome = send(socket, index, ALL_ROUTERS, &[ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]).await;
                }
                if let Err(error) = outcome {
                    // The link is down, or its address not there yet.
                    debug!(interface, %error, "no router advertisement was sent");
                    sent = 0;
                }
                sent += 1;
                last = Some(Instant::now());
                next = Instant::now() + if sent < INITIAL { PAUSE } else { INTERVAL };
            }
        }
    }
}

async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    loop {
        socket.readable().await?;
        match socket.try_io(Interest::READABLE, || sockopt::receive(socket.as_fd(), buffer)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

async fn send(socket: &UdpSocket, index: u32, group: Ipv6Addr, message: &[u8]) -> io::Result<()> {
    // The kernel fills the checksum in, and takes the link-local address of the interface for this group.
    socket.send_to(message, SocketAddrV6::new(group, 0, 0, index)).await.map(drop)
}

/// RFC 4861 section 4.2: no hop limit recommended, no flags, not a default router (lifetime zero), nothing said of timers.
fn advertisement() -> [u8; SHORTEST_ADVERTISEMENT] {
    let mut message = [0; SHORTEST_ADVERTISEMENT];
    message[0] = ROUTER_ADVERTISEMENT;
    message
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Advertisement(Ipv6Addr),
    Solicitation,
}

/// RFC 4861 sections 6.1.1 and 6.1.2, as far as we need of it. The kernel has checked the checksum.
fn understood(message: &[u8], received: &Received) -> Option<Heard> {
    let IpAddr::V6(source) = received.source else { return None };
    match message {
        _ if received.ttl != 255 => None,
        [ROUTER_ADVERTISEMENT, 0, ..] if message.len() >= SHORTEST_ADVERTISEMENT && source.is_unicast_link_local() => {
            Some(Heard::Advertisement(source))
        }
        [ROUTER_SOLICITATION, 0, ..] if message.len() >= SHORTEST_SOLICITATION => Some(Heard::Solicitation),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_on_the_link_counts() {
        let solicitation = [133, 0, 0, 0, 0, 0, 0, 0];
        let mut with_code = advertisement();
        with_code[1] = 1;
        let router = Some(Heard::Advertisement("fe80::1".parse().unwrap()));
        let cases: [(&str, &[u8], &str, u8, Option<Heard>); 9] = [
            ("ours", &advertisement(), "fe80::1", 255, router),
            ("across a router", &advertisement(), "fe80::1", 254, None),
            ("from a global address", &advertisement(), "2001:db8::1", 255, None),
            ("too short", &advertisement()[..15], "fe80::1", 255, None),
            ("another code", &with_code, "fe80::1", 255, None),
            ("solicitation", &solicitation, "fe80::1", 255, Some(Heard::Solicitation)),
            ("of somebody without an address", &solicitation, "::", 255, Some(Heard::Solicitation)),
            ("neighbour solicitation", &[135; 24], "fe80::1", 255, None),
            ("nothing", &[], "fe80::1", 255, None),
        ];
        for (name, message, source, ttl, expected) in cases {
            let source = source.parse().unwrap();
            let received = Received { length: message.len(), source, destination: source, interface_index: 7, ttl };
            assert_eq!(understood(message, &received), expected, "{name}");
        }
        // Octets 6 and 7: nobody is to send packets through us.
        assert_eq!(advertisement()[6..8], [0, 0]);
    }

    #[tokio::test]
    async fn a_router_that_is_not_heard_of_is_waited_for_and_then_the_reason_told() {
        let (sender, receiver) = watch::channel(Neighbor::Unknown("nothing on eth1".to_owned()));
        let error = address(receiver.clone(), 179, Duration::ZERO).await.expect_err("nobody is there");
        assert_eq!(error.to_string(), "nothing on eth1");
        let waiting = tokio::spawn(address(receiver, 179, Duration::from_secs(60)));
        sender.send(Neighbor::Known(SocketAddrV6::new("fe80::1".parse().unwrap(), 0, 0, 7))).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().to_string(), "[fe80::1%7]:179");
    }
}
