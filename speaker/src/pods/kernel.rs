//! The routes that hold this node's blocks in the kernel: unreachable, so that a packet to an address that no pod has does not go back
//! to the router that sent it here. A pod's own route is more specific.
//!
//! They are told from everybody else's by their protocol, so that those of a former run are found again.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use roadstead_cni::netlink::{Netlink, PROTOCOL};

/// Behind whatever somebody else may have for the same prefix.
const PRIORITY: u32 = 1 << 30;

/// The kernel refuses.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}; that takes CAP_NET_ADMIN")]
pub(super) struct KernelError {
    what: String,
    source: io::Error,
}

/// Holds these prefixes and no others; the answer is what is held now, which is less where something went wrong.
pub(super) fn hold(wanted: &BTreeSet<IpNet>) -> (BTreeSet<IpNet>, Result<(), KernelError>) {
    let mut held = BTreeSet::new();
    let done = Kernel::open().and_then(|mut kernel| {
        held = kernel.held()?;
        let extra: Vec<IpNet> = held.difference(wanted).copied().collect();
        for net in extra {
            kernel.let_go(net)?;
            held.remove(&net);
            tracing::info!(%net, "the kernel holds this block no more");
        }
        let missing: Vec<IpNet> = wanted.difference(&held).copied().collect();
        for net in missing {
            kernel.hold(net)?;
            held.insert(net);
            tracing::info!(%net, "the kernel holds this block: what no pod has is unreachable");
        }
        Ok(())
    });
    (held, done)
}

/// A way to the kernel's table.
struct Kernel {
    netlink: Netlink,
}

impl Kernel {
    fn open() -> Result<Self, KernelError> {
        let netlink =
            Netlink::open().map_err(|source| KernelError { what: "open a netlink socket".to_owned(), source })?;
        Ok(Self { netlink })
    }

    fn held(&mut self) -> Result<BTreeSet<IpNet>, KernelError> {
        let mut held = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let answers = self.ask("list the routes".to_owned(), RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
            held.extend(answers.iter().filter_map(held_by));
        }
        Ok(held)
    }

    /// Puts a route in; one that is there is fine.
    fn hold(&mut self, net: IpNet) -> Result<(), KernelError> {
        let question = RouteNetlinkMessage::NewRoute(route(net));
        match self.ask(format!("put in a route for {net}"), question, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done.map(drop),
        }
    }

    fn let_go(&mut self, net: IpNet) -> Result<(), KernelError> {
        let question = RouteNetlinkMessage::DelRoute(route(net));
        self.ask(format!("remove the route for {net}"), question, NLM_F_ACK).map(drop)
    }

    fn ask(
        &mut self,
        what: String,
        question: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        self.netlink.ask(question, flags).map_err(|source| KernelError { what, source })
    }
}

fn route(net: IpNet) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = if net.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = net.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = PROTOCOL;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unreachable;
    message.attributes.push(RouteAttribute::Destination(RouteAddress::from(net.network())));
    message.attributes.push(RouteAttribute::Priority(PRIORITY));
    message
}

/// The prefix of a route that is one of ours.
fn held_by(answer: &RouteNetlinkMessage) -> Option<IpNet> {
    let RouteNetlinkMessage::NewRoute(RouteMessage { header, attributes, .. }) = answer else { return None };
    let is_ours = header.protocol == PROTOCOL
        && header.kind == RouteType::Unreachable
        && header.table == RouteHeader::RT_TABLE_MAIN;
    let address = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    address.filter(|_| is_ours).and_then(|address| IpNet::new(address, header.destination_prefix_length).ok())
}
