//! What an interface needs: worked out from what is given, without a kernel.

use std::net::IpAddr;

use ipnet::IpNet;

use super::kernel::{FoundRoute, KernelRoute, MAIN, NODE_TABLE, Rule};
use super::{GivenAddress, Interface};

/// Where the pod's packets for the node go: an address on the veth alone, which the pod's neighbour table leads to the node's end.
const HOPS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 1, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
];
/// Tables of interfaces are numbered from here by the index of the interface in the pod, beyond those that have names.
const FIRST_TABLE: u32 = 1000;

/// What is known when an interface is set up.
pub(super) struct Given<'a> {
    /// The interface, as the plugin before this one made it.
    pub(super) interface: &'a Interface,
    /// Its index in the pod.
    pub(super) link: u32,
    /// The index of the veth's end in the pod.
    pub(super) pod_end: u32,
    /// The index of the veth's end at the node.
    pub(super) node_end: u32,
    /// The node's addresses.
    pub(super) node: &'a [IpNet],
    /// What lies behind the node: pods and Services of the cluster.
    pub(super) cluster: &'a [IpNet],
    /// The pod's main table.
    pub(super) main: &'a [FoundRoute],
}

/// What is to be put in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) node_routes: Vec<KernelRoute>,
    pub(super) pod_routes: Vec<KernelRoute>,
    pub(super) rules: Vec<Rule>,
    /// The pod's neighbours at the node's end.
    pub(super) hops: Vec<IpAddr>,
}

/// The table of an interface.
pub(super) fn table(link: u32) -> u32 {
    FIRST_TABLE.saturating_add(link)
}

/// The interface that a table is for.
pub(super) fn link_of(table: u32) -> Option<u32> {
    table.checked_sub(FIRST_TABLE)
}

/// Works it out.
pub(super) fn plan(given: &Given<'_>) -> Plan {
    let mut plan = Plan::default();
    for address in &given.interface.addresses {
        let own = address.address.addr();
        let table = table(given.link);
        plan.rules.push(Rule { source: own, table });
        plan.node_routes.push(KernelRoute {
            destination: own.into(),
            gateway: None,
            link: given.node_end,
            source: source_at_node(address, given.node),
            table: NODE_TABLE,
        });
        let on_the_network: Vec<KernelRoute> = on_the_network(given, address, table).collect();
        let hop = HOPS[usize::from(own.is_ipv6())];
        let is_elsewhere = |range: &IpNet| on_the_network.iter().all(|route| route.destination != *range);
        let behind: Vec<IpNet> = behind_the_node(given, address).filter(is_elsewhere).collect();
        plan.pod_routes.extend(on_the_network);
        let by_the_node = |destination: IpNet, source: Option<IpAddr>, table: u32| KernelRoute {
            destination,
            gateway: Some(hop),
            link: given.pod_end,
            source,
            table,
        };
        plan.pod_routes.extend(behind.iter().map(|destination| by_the_node(*destination, None, table)));
        if !plan.hops.contains(&hop) {
            plan.hops.push(hop);
            if leads_outside(given, own) {
                let is_free = |destination: &&IpNet| {
                    !given.main.iter().any(|route| route.destination == **destination && !route.is_ours)
                };
                let main = behind.iter().filter(is_free);
                plan.pod_routes.extend(main.map(|destination| by_the_node(*destination, Some(own), MAIN)));
            }
        }
    }
    plan
}

/// What leaves by the interface itself: its subnet, what its pool has routes to, and everything else, if it has a gateway.
fn on_the_network<'a>(
    given: &'a Given<'_>,
    address: &'a GivenAddress,
    table: u32,
) -> impl Iterator<Item = KernelRoute> + 'a {
    let own = address.address.addr();
    let everything = if own.is_ipv4() { IpNet::default() } else { IpNet::V6(ipnet::Ipv6Net::default()) };
    let subnet = (address.address.trunc(), None);
    let routes = given.interface.routes.iter().filter_map(move |(destination, gateway)| {
        let gateway = gateway.or(address.gateway)?;
        let is_here = address.gateway == Some(gateway) || address.address.contains(&gateway);
        (is_here && destination.prefix_len() > 0).then_some((*destination, Some(gateway)))
    });
    let outside = address.gateway.map(|gateway| (everything, Some(gateway)));
    let all = std::iter::once(subnet).chain(routes).chain(outside);
    all.filter(move |(destination, _)| destination.addr().is_ipv4() == own.is_ipv4())
        .map(move |(destination, gateway)| KernelRoute { destination, gateway, link: given.link, source: None, table })
}

/// What can be reached by way of the node alone. A range that the interface's own subnet is a part of is not: it is on the network.
fn behind_the_node<'a>(given: &'a Given<'_>, address: &'a GivenAddress) -> impl Iterator<Item = IpNet> + 'a {
    let own = address.address;
    let node = given.node.iter().map(|node| IpNet::from(node.addr()));
    let cluster = given.cluster.iter().copied().filter(move |range| !overlap(range, &own));
    node.chain(cluster).filter(move |range| range.addr().is_ipv4() == own.addr().is_ipv4())
}

/// Whether connections of the pod leave by this interface unless they say otherwise: it has the default route, or nobody has.
fn leads_outside(given: &Given<'_>, own: IpAddr) -> bool {
    let is_default = |route: &&FoundRoute| {
        route.destination.prefix_len() == 0 && route.destination.addr().is_ipv4() == own.is_ipv4()
    };
    let mut defaults = given.main.iter().filter(is_default).peekable();
    defaults.peek().is_none() || defaults.any(|route| route.link == Some(given.link))
}

/// Which of its addresses the node calls the pod from: that of the pod's subnet, else its first.
fn source_at_node(address: &GivenAddress, node: &[IpNet]) -> Option<IpAddr> {
    let of_family = || node.iter().map(IpNet::addr).filter(|node| node.is_ipv4() == address.address.addr().is_ipv4());
    of_family().find(|node| address.address.contains(node)).or_else(|| of_family().next())
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

#[cfg(test)]
mod tests;
