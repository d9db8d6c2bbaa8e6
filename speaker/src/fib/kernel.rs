//! Routes, rules and links as the kernel says them, and ours as it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteScope,
    RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use roadstead_cni::netlink::{Netlink, PROTOCOL};

use super::plan::{Change, Entry, Foreign, Hop, Reach};
use super::writer::{Write, Writer};

/// Our table: `ip route show table 179`.
pub(super) const TABLE: u32 = 179;
/// The table that networks, default routes and most routes of others are in.
pub(super) const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;
/// Where packets are sent to our table: right before the main one (32766), so that a learned prefix wins over a wider route there, and
/// behind whatever CNI plugins (9 to 1536) and clouds (500, 10000 and more) have for some packets only. The local table is the first.
pub(super) const RULE_PRIORITY: u32 = 32179;
/// Who asks with this mark is not sent to our table: so we ask how a next hop is reached without us.
const UNMARKED: u32 = 0x0179_0179;

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Ways to ask and to tell.
pub(super) struct Kernel {
    netlink: Netlink,
    writer: Writer,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    /// Whether packets pass: it was brought up, and there is a carrier.
    pub(super) is_up: bool,
}

/// What a table holds.
#[derive(Default)]
pub(super) struct Table {
    pub(super) ours: BTreeMap<IpNet, Entry>,
    pub(super) others: BTreeMap<IpNet, Foreign>,
}

/// Rules that lead to our table.
#[derive(Default)]
pub(super) struct Rules {
    pub(super) has_ipv4: bool,
    pub(super) has_ipv6: bool,
}

impl Kernel {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()?.strict()?, writer: Writer::open()? })
    }

    /// The number that notifications of our own changes carry.
    pub(super) fn port(&self) -> u32 {
        self.writer.port()
    }

    /// Everything in a table but default routes.
    pub(super) fn table(&mut self, number: u32) -> io::Result<Table> {
        let mut table = Table::default();
        for family in FAMILIES {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            question.attributes.push(RouteAttribute::Table(number));
            let answers = match self.netlink.ask(RouteNetlinkMessage::GetRoute(question), NLM_F_DUMP) {
                // A table that nobody has used yet, or no IPv6.
                Err(error) if is_missing(&error) => continue,
                answers => answers?,
            };
            for answer in answers {
                let RouteNetlinkMessage::NewRoute(message) = answer else { continue };
                let Some(prefix) = prefix(&message).filter(|_| table_of(&message) == number) else { continue };
                if number == TABLE && message.header.protocol == PROTOCOL {
                    if let Some(entry) = entry(&message) {
                        table.ours.insert(prefix, entry);
                    }
                } else if let Some(route) = foreign(&message) {
                    table.others.insert(prefix, route);
                }
            }
        }
        Ok(table)
    }

    /// How an address is reached without us.
    pub(super) fn reach(&mut self, address: IpAddr) -> Reach {
        if let IpAddr::V6(address) = address
            && address.is_unicast_link_local()
        {
            return Reach::No("a link-local address says nothing without its interface".to_owned());
        }
        let route = match self.look_up(address, RouteFlags::FibMatch) {
            Ok(Some(route)) => route,
            Ok(None) => return Reach::No("no route leads to it".to_owned()),
            Err(error) => return Reach::No(format!("no route leads to it ({error})")),
        };
        match route.header.kind {
            RouteType::Unicast => {}
            RouteType::Local => return Reach::No("it is an address of this machine".to_owned()),
            kind => return Reach::No(format!("the route to it is {}", format!("{kind:?}").to_lowercase())),
        }
        if table_of(&route) == TABLE {
            return Reach::No(format!("only table {TABLE} leads to it, which is not asked about itself"));
        }
        let mut hops = usable_hops(&route, address);
        // A route by a nexthop object need not say its hops, but where a packet would go is said always.
        if hops.is_empty()
            && route.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::NhId(_)))
            && let Ok(Some(chosen)) = self.look_up(address, RouteFlags::empty())
        {
            hops = usable_hops(&chosen, address);
        }
        if hops.is_empty() {
            Reach::No("the interface on the way to it is down".to_owned())
        } else if route.header.destination_prefix_length == 0 {
            Reach::Default(hops)
        } else {
            Reach::Route(hops)
        }
    }

    fn look_up(&mut self, address: IpAddr, flags: RouteFlags) -> io::Result<Option<RouteMessage>> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(address);
        question.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
        // IPv6 refuses to be asked for the table, which it always says.
        question.header.flags = if address.is_ipv4() { flags | RouteFlags::LookupTable } else { flags };
        question.attributes.push(RouteAttribute::Destination(RouteAddress::from(address)));
        question.attributes.push(RouteAttribute::Mark(UNMARKED));
        match self.netlink.ask(RouteNetlinkMessage::GetRoute(question), NLM_F_ACK) {
            Err(error) if is_unreachable(&error) => Ok(None),
            Err(error) => Err(error),
            Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(route) => Some(route),
                _ => None,
            })),
        }
    }

    pub(super) fn links(&mut self) -> io::Result<BTreeMap<u32, Link>> {
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.netlink.ask(question, NLM_F_DUMP)?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(message) => link(message),
                _ => None,
            })
            .collect())
    }

    /// Those of our rules that are there.
    pub(super) fn rules(&mut self) -> io::Result<Rules> {
        let mut rules = Rules::default();
        for family in FAMILIES {
            let mut question = RuleMessage::default();
            question.header.family = family;
            let answers = match self.netlink.ask(RouteNetlinkMessage::GetRule(question), NLM_F_DUMP) {
                Err(error) if is_missing(&error) => continue,
                answers => answers?,
            };
            let is_there =
                answers.iter().any(|answer| matches!(answer, RouteNetlinkMessage::NewRule(rule) if is_ours(rule)));
            *if family == AddressFamily::Inet { &mut rules.has_ipv4 } else { &mut rules.has_ipv6 } = is_there;
        }
        Ok(rules)
    }

    pub(super) fn add_rule(&mut self, is_ipv6: bool) -> io::Result<()> {
        let rule = RouteNetlinkMessage::NewRule(rule(is_ipv6));
        match self.one(rule, NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }

    pub(super) fn remove_rule(&mut self, is_ipv6: bool) -> io::Result<()> {
        match self.one(RouteNetlinkMessage::DelRule(rule(is_ipv6)), 0) {
            Err(error) if is_missing(&error) => Ok(()),
            done => done,
        }
    }

    /// What came of each change; an error of the whole means that nobody knows.
    pub(super) fn apply(&mut self, changes: &[Change]) -> io::Result<Vec<io::Result<()>>> {
        let outcomes = self.writer.write(changes.iter().map(write).collect())?;
        let both = changes.iter().zip(outcomes);
        Ok(both
            .map(|(change, outcome)| match outcome {
                Err(error) if change.entry.is_none() && is_missing(&error) => Ok(()),
                outcome => outcome,
            })
            .collect())
    }

    fn one(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.writer.write(vec![(message, flags)])?.into_iter().next().unwrap_or(Ok(()))
    }
}

fn write(change: &Change) -> Write {
    let mut message = RouteMessage::default();
    message.header.address_family = family(change.prefix.addr());
    message.header.destination_prefix_length = change.prefix.prefix_len();
    message.header.table = TABLE as u8;
    message.header.protocol = PROTOCOL;
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(change.prefix.network())));
    match &change.entry {
        None => {
            message.header.scope = RouteScope::NoWhere;
            return (RouteNetlinkMessage::DelRoute(message), 0);
        }
        Some(Entry::Throw) => message.header.kind = RouteType::Throw,
        Some(Entry::Ways(hops)) => {
            message.header.kind = RouteType::Unicast;
            // The kernel would ask its tables, ours first, whether the gateway is on the link; we know that it is.
            if let (Some(hop), 1) = (hops.first(), hops.len()) {
                message.header.flags = RouteFlags::Onlink;
                message.attributes.extend([RouteAttribute::Oif(hop.link), gateway(change.prefix, hop.via)]);
            } else {
                let hops = hops.iter().map(|hop| {
                    let mut next_hop = RouteNextHop::default();
                    next_hop.flags = RouteNextHopFlags::Onlink;
                    next_hop.interface_index = hop.link;
                    next_hop.attributes.push(gateway(change.prefix, hop.via));
                    next_hop
                });
                message.attributes.push(RouteAttribute::MultiPath(hops.collect()));
            }
        }
    }
    (RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Of the prefix's own family it is a gateway; IPv4 over IPv6 has an attribute of its own.
fn gateway(prefix: IpNet, via: IpAddr) -> RouteAttribute {
    match via {
        IpAddr::V6(via) if prefix.addr().is_ipv4() => RouteAttribute::Via(RouteVia::Inet6(via)),
        via => RouteAttribute::Gateway(RouteAddress::from(via)),
    }
}

fn rule(is_ipv6: bool) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if is_ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    message.header.action = RuleAction::ToTable;
    message.header.flags = RuleFlags::Invert;
    message.attributes.extend([
        RuleAttribute::Table(TABLE),
        RuleAttribute::Priority(RULE_PRIORITY),
        RuleAttribute::Protocol(PROTOCOL),
        RuleAttribute::FwMark(UNMARKED),
        RuleAttribute::FwMask(u32::MAX),
    ]);
    message
}

fn is_ours(found: &RuleMessage) -> bool {
    let wanted = rule(found.header.family == AddressFamily::Inet6);
    found.header.action == wanted.header.action
        && found.header.flags.contains(RuleFlags::Invert)
        && wanted.attributes.iter().all(|attribute| found.attributes.contains(attribute))
}

/// The table of a route: a number above 255 stands in an attribute alone.
pub(super) fn table_of(message: &RouteMessage) -> u32 {
    let table = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(number) => Some(*number),
        _ => None,
    });
    table.unwrap_or_else(|| u32::from(message.header.table))
}

/// The prefix of a route; a default route has none.
pub(super) fn prefix(message: &RouteMessage) -> Option<IpNet> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    IpNet::new(address, message.header.destination_prefix_length).ok()
}

/// A route of the main table; what nobody else is reached by is none.
pub(super) fn foreign(message: &RouteMessage) -> Option<Foreign> {
    let destination = prefix(message)?.addr();
    let is_of_a_link = matches!(destination, IpAddr::V6(address) if address.is_unicast_link_local());
    if is_of_a_link || destination.is_multicast() || message.header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let protocol = message.header.protocol;
    let hops = hops(message, destination);
    let is_connected = protocol == netlink_packet_route::route::RouteProtocol::Kernel
        && !message.attributes.iter().any(|attribute| {
            matches!(attribute, RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_))
        });
    Some(Foreign { protocol: protocol.to_string(), link: hops.first().map(|(hop, _)| hop.link), is_connected })
}

/// What of ours this is; something that we never put in is shown as no way at all, so that it is replaced.
fn entry(message: &RouteMessage) -> Option<Entry> {
    match message.header.kind {
        RouteType::Throw => Some(Entry::Throw),
        RouteType::Unicast => {
            let destination = prefix(message)?.addr();
            Some(Entry::Ways(hops(message, destination).into_iter().map(|(hop, _)| hop).collect()))
        }
        _ => Some(Entry::Ways(BTreeSet::new())),
    }
}

fn usable_hops(message: &RouteMessage, address: IpAddr) -> BTreeSet<Hop> {
    hops(message, address).into_iter().filter(|(_, is_up)| *is_up).map(|(hop, _)| hop).collect()
}

/// The hops of a route, and whether the kernel would use each; a route without a gateway leads to `address` itself.
fn hops(message: &RouteMessage, address: IpAddr) -> Vec<(Hop, bool)> {
    // The flags of the message are those of its only hop, in the lower bits.
    let flags = RouteNextHopFlags::from_bits_retain(message.header.flags.bits() as u8);
    let (mut link, mut several) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::MultiPath(hops) => several = Some(hops),
            _ => {}
        }
    }
    let is_up = |flags: RouteNextHopFlags| !flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown);
    match (several, link) {
        (Some(hops), _) => hops
            .iter()
            .map(|hop| {
                (Hop { via: via(&hop.attributes).unwrap_or(address), link: hop.interface_index }, is_up(hop.flags))
            })
            .collect(),
        (None, Some(link)) => vec![(Hop { via: via(&message.attributes).unwrap_or(address), link }, is_up(flags))],
        (None, None) => Vec::new(),
    }
}

fn via(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Gateway(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

/// An interface and its index.
pub(super) fn link(message: &LinkMessage) -> Option<(u32, Link)> {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let is_up = message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
    Some((message.header.index, Link { name, is_up }))
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn is_missing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    is_one_of(error, &[Errno::NOENT, Errno::SRCH, Errno::NODEV, Errno::AFNOSUPPORT, Errno::OPNOTSUPP])
}

fn is_unreachable(error: &io::Error) -> bool {
    use rustix::io::Errno;
    is_one_of(error, &[Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::NODEV, Errno::AFNOSUPPORT])
}

fn is_one_of(error: &io::Error, numbers: &[rustix::io::Errno]) -> bool {
    numbers.iter().any(|number| error.raw_os_error() == Some(number.raw_os_error()))
}
