//! Which next hops packets can be sent to, and how far it is (RFC 4271 section 9.1.2.1).
//!
//! What leads to a next hop is not the engine's to know: the embedder says which routes there are besides those of BGP, and
//! the longest that covers an address is the one that counts. Until it has said anything, every next hop is reachable at no
//! cost, as for a route server always (RFC 7947 section 2.3.2.1 leaves that to its clients), and nothing here is kept.
//!
//! From then on each next hop of a path in the table has an entry with the prefixes that are reached through it. A route that
//! comes or goes costs a look at the next hops that it covers, and where the answer is another one, at their prefixes.
//!
//! Who gives that input and who does not: `docs/adr/0008`.
//!
//! The answer stands with the attributes ([`Route::cost`]), because that is where selection looks. A path that is not
//! reachable stays in the table, and is not eligible.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::member::MemberId;
use super::path::{Route, UNREACHABLE};
use super::table::PrefixId;
use super::{Change, Rib, selection};

/// A route that is not BGP's, as far as next hops depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct NextHopRoute {
    pub prefix: IpNet,
    /// How far it is, in the measure of the network's own routing protocol; 0 for what is directly connected. `None`: the route
    /// is gone.
    pub metric: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct NextHops {
    routes: BTreeMap<IpNet, u32>,
    /// Every next hop of a path in the table.
    used: BTreeMap<IpAddr, NextHop>,
}

#[derive(Debug, Default)]
struct NextHop {
    cost: u32,
    /// Those that have a path through it.
    prefixes: BTreeSet<PrefixId>,
}

impl NextHops {
    /// A path through it leads to this prefix from now on.
    pub(super) fn add(&mut self, route: &Route, id: PrefixId) {
        let Self { routes, used } = self;
        let new = || NextHop { cost: cost(routes, route.next_hop), prefixes: BTreeSet::new() };
        let next_hop = used.entry(route.next_hop).or_insert_with(new);
        next_hop.prefixes.insert(id);
        // One that nobody had for a while may have been passed over when the answer changed.
        route.set_cost(next_hop.cost);
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.len()
    }

    /// No path through it leads to this prefix any more.
    pub(super) fn remove(&mut self, address: IpAddr, id: PrefixId) {
        if let Some(next_hop) = self.used.get_mut(&address) {
            next_hop.prefixes.remove(&id);
            if next_hop.prefixes.is_empty() {
                self.used.remove(&address);
            }
        }
    }

    /// Takes the changes over, and returns the next hops that they concern.
    fn change(&mut self, changes: &[NextHopRoute]) -> BTreeSet<IpAddr> {
        let mut covered = BTreeSet::new();
        for &NextHopRoute { prefix, metric } in changes {
            let prefix = prefix.trunc();
            let before = match metric {
                Some(metric) => self.routes.insert(prefix, metric.min(UNREACHABLE - 1)),
                None => self.routes.remove(&prefix),
            };
            if before != metric {
                let inside = self.used.range(prefix.network()..=last_address(&prefix));
                covered.extend(inside.map(|(address, _)| *address));
            }
        }
        covered
    }
}

impl Rib {
    /// Whether this changed anything.
    pub(crate) fn change_next_hop_routes(&mut self, changes: &[NextHopRoute]) -> bool {
        let mut next_hops = self.next_hops.take().unwrap_or_else(|| Box::new(self.reachable_next_hops()));
        let covered = match next_hops.routes.is_empty() {
            // As good as any time to ask for all: there was no answer before, or none but one.
            true => {
                next_hops.change(changes);
                next_hops.used.keys().copied().collect()
            }
            false => next_hops.change(changes),
        };
        // First what the answers are, then the order that follows from all of them.
        let mut concerned = BTreeMap::<PrefixId, BTreeSet<MemberId>>::new();
        let NextHops { routes, used } = &mut *next_hops;
        for address in covered {
            let Some(next_hop) = used.get_mut(&address) else { continue };
            let cost = cost(routes, address);
            if std::mem::replace(&mut next_hop.cost, cost) == cost {
                continue;
            }
            for &id in &next_hop.prefixes {
                for path in self.table.get(id).paths.iter().filter(|path| path.route.next_hop == address) {
                    path.route.set_cost(cost);
                    concerned.entry(id).or_default().insert(path.member);
                }
            }
        }
        self.next_hops = Some(next_hops);
        if !concerned.is_empty() {
            // Metrics that are told depend on it (RFC 7311 section 3.4.3).
            self.groups.iter_mut().for_each(|group| group.shared.clear());
        }
        for (&id, members) in &concerned {
            let destination = self.table.get_mut(id);
            for path in destination.paths.take() {
                selection::insert(destination, path, &self.identities);
            }
            for receiver in self.groups.iter().flat_map(|group| &group.members) {
                self.members[receiver.index()].out.iter_mut().for_each(|out| out.note_cost(id));
            }
            members.iter().for_each(|member| self.mark(id, *member, Change::Other));
        }
        !concerned.is_empty()
    }

    /// The next hops of all paths, each reachable at no cost as they were so far.
    fn reachable_next_hops(&self) -> NextHops {
        let mut next_hops = NextHops::default();
        for (id, destination) in self.table.reachable() {
            for path in destination.paths.iter() {
                next_hops.used.entry(path.route.next_hop).or_default().prefixes.insert(id);
            }
        }
        next_hops
    }

    /// A path through this next hop is gone from the prefix.
    pub(super) fn forget_next_hop(&mut self, id: PrefixId, address: IpAddr) {
        if let Some(next_hops) = &mut self.next_hops
            && self.table.get(id).paths.iter().all(|path| path.route.next_hop != address)
        {
            next_hops.remove(address, id);
        }
    }
}

/// By the longest route that covers the address.
fn cost(routes: &BTreeMap<IpNet, u32>, address: IpAddr) -> u32 {
    if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
        // On the link that it came over, whatever is routed.
        return 0;
    }
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let covering = (0..=longest).rev().filter_map(|length| IpNet::new(address, length).ok());
    covering.filter_map(|prefix| routes.get(&prefix.trunc())).next().copied().unwrap_or(UNREACHABLE)
}

fn last_address(prefix: &IpNet) -> IpAddr {
    match prefix {
        IpNet::V4(net) => Ipv4Addr::from(net.network().to_bits() | net.hostmask().to_bits()).into(),
        IpNet::V6(net) => Ipv6Addr::from(net.network().to_bits() | net.hostmask().to_bits()).into(),
    }
}
