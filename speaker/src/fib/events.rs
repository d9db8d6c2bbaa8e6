//! What others change in the kernel. Our own changes are kept out of it by a filter on the socket: ten thousand routes of ours would overrun
//! its buffer with news that we do not need.

use std::io;

use ipnet::IpNet;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{SockFilter, SockRef};

use super::kernel::{self, Link, MAIN, TABLE};
use super::plan::Foreign;

/// Links, IPv4 addresses and routes, IPv6 addresses, routes, IPv4 and IPv6 rules, settings of both, nexthop objects: `enum
/// rtnetlink_groups` of linux/rtnetlink.h.
const GROUPS: [u32; 10] = [1, 5, 7, 8, 9, 11, 19, 24, 25, 32];
/// Nexthop objects, which the library does not read, and settings: RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_NEWNETCONF of linux/rtnetlink.h.
const NEXTHOPS: [u16; 2] = [104, 105];
const SETTINGS: u16 = 80;
/// For some thousand notifications; a node that starts a hundred pods makes that many.
const BUFFER: usize = 4 << 20;

/// Somebody else has changed something.
#[derive(Debug)]
pub(super) enum Event {
    Link(u32, Link),
    LinkGone(u32),
    Address,
    Rule,
    /// In our own table.
    OurTable,
    /// In the main table: what is there now, or nothing.
    Main(IpNet, Option<Foreign>),
    /// In a table to which rules of others lead; or a default route.
    Elsewhere(Option<IpNet>),
    /// rp_filter and forwarding are among them.
    Settings,
    /// Something that we do not know, or too much at once: anything may have changed.
    Anything,
}

pub(super) struct Events {
    socket: Socket,
}

impl Events {
    /// All but what the socket with port number `ours` does.
    pub(super) fn open(ours: u32) -> io::Result<Self> {
        let socket = subscribe(NETLINK_ROUTE, &GROUPS, ours)?;
        Ok(Self { socket })
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Everything that has come.
    pub(super) fn read(&self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            match self.socket.recv_from_full() {
                Ok((bytes, _)) => events.extend(messages(&bytes).filter_map(event)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return events,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(%error, "the kernel's notifications are incomplete: everything is read anew");
                    events.push(Event::Anything);
                    // Nothing but an overrun is known to happen here, and that is over once it was read.
                    if error.raw_os_error() != Some(rustix::io::Errno::NOBUFS.raw_os_error()) {
                        return events;
                    }
                }
            }
        }
    }
}

/// A socket that hears these groups, and nothing that the socket with port number `ours` does.
pub(super) fn subscribe(protocol: isize, groups: &[u32], ours: u32) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    // Takes CAP_NET_ADMIN; without, there is nothing of ours to be looked after.
    let _ = set_socket_recv_buffer_size_force(&socket, BUFFER);
    SockRef::from(&socket).attach_filter(&all_but(ours))?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    Ok(socket)
}

/// A message is dropped whose header (`struct nlmsghdr`) names this port at offset 12, in the machine's own order; a filter reads in the
/// network's.
fn all_but(port: u32) -> [SockFilter; 4] {
    const LOAD_WORD_AT: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_WORD_AT, 0, 0, 12),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, port.to_be()),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ]
}

/// The messages of one read, each with its header.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let message = bytes.get(..length).filter(|message| message.len() >= 16)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The type of a message.
pub(super) fn kind(message: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(*message.get(4..)?.first_chunk()?))
}

fn event(message: &[u8]) -> Option<Event> {
    let kind = kind(message)?;
    if NEXTHOPS.contains(&kind) {
        return Some(Event::Elsewhere(None));
    }
    if kind == SETTINGS {
        return Some(Event::Settings);
    }
    let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message) else { return Some(Event::Anything) };
    let NetlinkPayload::InnerMessage(message) = message.payload else { return None };
    match message {
        RouteNetlinkMessage::NewLink(message) => new_link(&message),
        RouteNetlinkMessage::DelLink(message) => Some(Event::LinkGone(message.header.index)),
        RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => Some(Event::Address),
        RouteNetlinkMessage::NewRule(_) | RouteNetlinkMessage::DelRule(_) => Some(Event::Rule),
        RouteNetlinkMessage::NewRoute(message) => Some(route(&message, kernel::foreign(&message))),
        RouteNetlinkMessage::DelRoute(message) => Some(route(&message, None)),
        _ => None,
    }
}

fn new_link(message: &LinkMessage) -> Option<Event> {
    // A bridge speaks of its ports in messages of the same type.
    let is_of_bridge = message.header.interface_family != netlink_packet_route::AddressFamily::Unspec;
    kernel::link(message).filter(|_| !is_of_bridge).map(|(index, link)| Event::Link(index, link))
}

fn route(message: &RouteMessage, now: Option<Foreign>) -> Event {
    match (kernel::table_of(message), kernel::prefix(message)) {
        (TABLE, _) => Event::OurTable,
        (MAIN, Some(prefix)) => Event::Main(prefix, now),
        (_, prefix) => Event::Elsewhere(prefix),
    }
}
