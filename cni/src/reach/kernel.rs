//! The kernel's links, addresses, routes, rules and neighbours of one network namespace.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::netlink::{Netlink, PROTOCOL};

/// In pods, before the main table (32766) and behind the local one (0).
const RULE_PRIORITY: u32 = 1000;
/// On nodes, before what the images of clouds have for each of several network cards (10000 and more).
const NODE_RULE_PRIORITY: u32 = 500;
/// The node's ways to its pods. Not in its main table, because packets from the address of a further card do not look there.
pub(super) const NODE_TABLE: u32 = 820;
/// The main table.
pub(super) const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

/// The kernel refuses.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct KernelError {
    /// What was to be done.
    pub what: String,
    /// What it says.
    pub source: io::Error,
}

/// One network namespace, as the kernel has it.
pub(super) struct Kernel {
    netlink: Netlink,
}

/// An interface.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mtu: u32,
    pub(super) kind: Option<InfoKind>,
}

/// One end of a veth pair.
pub(super) struct VethEnd<'a> {
    pub(super) name: &'a str,
    pub(super) mac: [u8; 6],
}

/// A route of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KernelRoute {
    pub(super) destination: IpNet,
    /// Taken to be on the link, whatever its subnet is.
    pub(super) gateway: Option<IpAddr>,
    pub(super) link: u32,
    /// The address that a connection comes from that has none yet.
    pub(super) source: Option<IpAddr>,
    pub(super) table: u32,
}

/// A route that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundRoute {
    pub(super) destination: IpNet,
    pub(super) link: Option<u32>,
    pub(super) is_ours: bool,
}

/// A rule of ours: packets from an address look into a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) source: IpAddr,
    pub(super) table: u32,
}

/// Runs a function in a network namespace, in a thread that goes there: files below `/proc/sys/net` are those of whoever opens them.
pub(super) fn within<T: Send>(netns: &File, function: impl FnOnce() -> T + Send) -> Result<T, KernelError> {
    let visit = || {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| KernelError { what: "enter the network namespace".to_owned(), source: error.into() })?;
        Ok(function())
    };
    std::thread::scope(|scope| scope.spawn(visit).join()).unwrap_or_else(|_| {
        let source = io::Error::other("it panicked");
        Err(KernelError { what: "a thread in the network namespace".to_owned(), source })
    })
}

impl Kernel {
    /// The namespace of this thread.
    pub(super) fn here() -> Result<Self, KernelError> {
        let netlink =
            Netlink::open().map_err(|source| KernelError { what: "open a netlink socket".to_owned(), source })?;
        Ok(Self { netlink })
    }

    /// An interface by its name.
    pub(super) fn link(&mut self, name: &str) -> Result<Option<Link>, KernelError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.one_link(&format!("look for interface {name}"), message)
    }

    /// An interface by its index.
    pub(super) fn link_of(&mut self, index: u32) -> Result<Option<Link>, KernelError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.one_link(&format!("look for interface {index}"), message)
    }

    fn one_link(&mut self, what: &str, message: LinkMessage) -> Result<Option<Link>, KernelError> {
        match self.ask(what, RouteNetlinkMessage::GetLink(message), NLM_F_ACK) {
            Err(error) if is_missing(&error.source) => Ok(None),
            Err(error) => Err(error),
            Ok(answers) => Ok(answers.into_iter().find_map(link)),
        }
    }

    /// All interfaces.
    pub(super) fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        Ok(self.ask("list the interfaces", question, NLM_F_DUMP)?.into_iter().filter_map(link).collect())
    }

    /// Makes a veth pair whose other end is in another namespace; both ends are down.
    pub(super) fn add_veth(
        &mut self,
        near: &VethEnd<'_>,
        far: &VethEnd<'_>,
        netns: &File,
        mtu: u32,
    ) -> Result<(), KernelError> {
        let end = |end: &VethEnd<'_>| {
            let mut message = LinkMessage::default();
            // An address that was chosen is left alone by udev; one that the kernel made up is not.
            message.attributes.extend([
                LinkAttribute::IfName(end.name.to_owned()),
                LinkAttribute::Mtu(mtu),
                LinkAttribute::Address(end.mac.to_vec()),
            ]);
            message
        };
        let mut peer = end(far);
        peer.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
        let mut message = end(near);
        let data = InfoData::Veth(InfoVeth::Peer(peer));
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)]));
        let what = format!("make the veth pair {}", near.name);
        self.ask(&what, RouteNetlinkMessage::NewLink(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Brings an interface up.
    pub(super) fn bring_up(&mut self, index: u32) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        let what = format!("bring up interface {index}");
        self.ask(&what, RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
    }

    /// Removes an interface; one that is not there is fine.
    pub(super) fn delete_link(&mut self, name: &str) -> Result<(), KernelError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let what = format!("remove interface {name}");
        gone(self.ask(&what, RouteNetlinkMessage::DelLink(message), NLM_F_ACK))
    }

    /// Every address that other machines can use, with the index of its interface.
    pub(super) fn addresses(&mut self) -> Result<Vec<(u32, IpNet)>, KernelError> {
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.ask("list the addresses", question, NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(address).collect())
    }

    /// The routes of a table.
    pub(super) fn routes(&mut self, table: u32) -> Result<Vec<FoundRoute>, KernelError> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let answers = self.ask("list the routes", RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
            let routes = answers.into_iter().filter_map(route);
            found.extend(routes.filter(|(of, _)| *of == table).map(|(_, route)| route));
        }
        Ok(found)
    }

    /// Puts a route in; the one that we had for the same destination goes.
    pub(super) fn add_route(&mut self, route: &KernelRoute) -> Result<(), KernelError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(route.destination.addr());
        message.header.destination_prefix_length = route.destination.prefix_len();
        message.header.protocol = PROTOCOL;
        message.header.kind = RouteType::Unicast;
        message.header.scope = if route.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
        message.attributes.push(RouteAttribute::Table(route.table));
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(route.destination.network())));
        message.attributes.push(RouteAttribute::Oif(route.link));
        if let Some(gateway) = route.gateway {
            message.header.flags = RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
        }
        if let Some(source) = route.source {
            message.attributes.push(RouteAttribute::PrefSource(RouteAddress::from(source)));
        }
        let what = format!("put in the route to {} of table {}", route.destination, route.table);
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.ask(&what, RouteNetlinkMessage::NewRoute(message), flags).map(drop)
    }

    /// Removes our routes of a table.
    pub(super) fn flush(&mut self, table: u32) -> Result<(), KernelError> {
        for route in self.routes(table)?.into_iter().filter(|route| route.is_ours) {
            let mut message = RouteMessage::default();
            message.header.address_family = family(route.destination.addr());
            message.header.destination_prefix_length = route.destination.prefix_len();
            message.header.protocol = PROTOCOL;
            message.header.scope = RouteScope::NoWhere;
            message.attributes.push(RouteAttribute::Table(table));
            message.attributes.push(RouteAttribute::Destination(RouteAddress::from(route.destination.network())));
            let what = format!("remove the route to {} of table {table}", route.destination);
            gone(self.ask(&what, RouteNetlinkMessage::DelRoute(message), NLM_F_ACK))?;
        }
        Ok(())
    }

    /// Says where an address is on a link, for as long as the link is there.
    pub(super) fn add_neighbour(&mut self, address: IpAddr, mac: [u8; 6], link: u32) -> Result<(), KernelError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = link;
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::Destination(address.into()));
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        let what = format!("put in the neighbour {address}");
        self.ask(&what, RouteNetlinkMessage::NewNeighbour(message), flags).map(drop)
    }

    /// Our rules.
    pub(super) fn rules(&mut self) -> Result<Vec<Rule>, KernelError> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RuleMessage::default();
            message.header.family = family;
            let answers = self.ask("list the rules", RouteNetlinkMessage::GetRule(message), NLM_F_DUMP)?;
            found.extend(answers.into_iter().filter_map(rule));
        }
        Ok(found)
    }

    /// Puts a rule in; one that is there is fine.
    pub(super) fn add_rule(&mut self, rule: Rule) -> Result<(), KernelError> {
        self.put_in_rule(&format!("put in the rule for packets from {}", rule.source), rule_message(rule))
    }

    /// Has the node look for its pods before anything else. It stays when the last pod goes: an empty table says nothing.
    pub(super) fn look_for_pods(&mut self, is_ipv6: bool) -> Result<(), KernelError> {
        let mut message = RuleMessage::default();
        message.header.family = if is_ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        message.header.action = RuleAction::ToTable;
        message.attributes.extend([
            RuleAttribute::Table(NODE_TABLE),
            RuleAttribute::Priority(NODE_RULE_PRIORITY),
            RuleAttribute::Protocol(PROTOCOL),
        ]);
        self.put_in_rule("put in the node's rule for pods", message)
    }

    fn put_in_rule(&mut self, what: &str, message: RuleMessage) -> Result<(), KernelError> {
        match self.ask(what, RouteNetlinkMessage::NewRule(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done.map(drop),
        }
    }

    /// Removes a rule; one that is not there is fine.
    pub(super) fn delete_rule(&mut self, rule: Rule) -> Result<(), KernelError> {
        let question = RouteNetlinkMessage::DelRule(rule_message(rule));
        gone(self.ask(&format!("remove the rule for packets from {}", rule.source), question, NLM_F_ACK))
    }

    fn ask(
        &mut self,
        what: &str,
        question: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        self.netlink.ask(question, flags).map_err(|source| KernelError { what: what.to_owned(), source })
    }
}

fn rule_message(rule: Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.source);
    message.header.src_len = if rule.source.is_ipv4() { 32 } else { 128 };
    message.header.action = RuleAction::ToTable;
    message.attributes.extend([
        RuleAttribute::Source(rule.source),
        RuleAttribute::Table(rule.table),
        RuleAttribute::Priority(RULE_PRIORITY),
        RuleAttribute::Protocol(PROTOCOL),
    ]);
    message
}

fn link(answer: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = answer else { return None };
    let (mut name, mut mtu, mut kind) = (None, 1500, None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(given) => name = Some(given),
            LinkAttribute::Mtu(given) => mtu = given,
            LinkAttribute::LinkInfo(infos) => {
                kind = infos.into_iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Some(Link { index: message.header.index, name: name?, mtu, kind })
}

fn address(answer: RouteNetlinkMessage) -> Option<(u32, IpNet)> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let (mut peer, mut local) = (None, None);
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Address(address) => peer = Some(address),
            AddressAttribute::Local(address) => local = Some(address),
            _ => {}
        }
    }
    // On a link to one other machine, the first is that one's.
    Some((message.header.index, IpNet::new(local.or(peer)?, message.header.prefix_len).ok()?))
}

fn route(answer: RouteNetlinkMessage) -> Option<(u32, FoundRoute)> {
    let RouteNetlinkMessage::NewRoute(message) = answer else { return None };
    let header = &message.header;
    if header.kind != RouteType::Unicast {
        return None;
    }
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let (mut link, mut table) = (None, u32::from(header.table));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = IpAddr::V4(*address),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => destination = IpAddr::V6(*address),
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    let destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some((table, FoundRoute { destination, link, is_ours: header.protocol == PROTOCOL }))
}

fn rule(answer: RouteNetlinkMessage) -> Option<Rule> {
    let RouteNetlinkMessage::NewRule(message) = answer else { return None };
    let (mut source, mut table, mut is_ours) = (None, u32::from(message.header.table), false);
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Source(address) => source = Some(address),
            RuleAttribute::Table(number) => table = number,
            RuleAttribute::Protocol(protocol) => is_ours = protocol == PROTOCOL,
            _ => {}
        }
    }
    Some(Rule { source: source.filter(|_| is_ours)?, table })
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn gone(done: Result<Vec<RouteNetlinkMessage>, KernelError>) -> Result<(), KernelError> {
    match done {
        Err(error) if !is_missing(&error.source) => Err(error),
        _ => Ok(()),
    }
}

fn is_missing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::NODEV, Errno::NOENT, Errno::SRCH].iter().any(|missing| error.raw_os_error() == Some(missing.raw_os_error()))
}
