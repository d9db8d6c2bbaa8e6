//! What is told on the sessions of links: this cluster's own ranges by class, and what was learnt, inside and by transit.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use roadstead_api::checked::{Advertisement, LoadBalancerSource, Network, PeerChoice, RouteSettings};
use roadstead_api::kinds::{LinkNextHop, RouteClass};
use roadstead_api::overlap::Neighbour;
use roadstead_bgp::{Community, LargeCommunity, NextHops, PeerKey, RouteAttributes, RouteChange};

use super::{Counterpart, Links};

/// The second number of the large community that says what a route leads to (RFC 8092 section 3 leaves the meaning to the AS).
const fn class_number(class: RouteClass) -> u32 {
    match class {
        RouteClass::Pods => 1,
        RouteClass::Services => 2,
        RouteClass::LoadBalancers => 3,
    }
}

/// `ASN:class:origin ASN`; where the cluster tells of itself both are its own.
pub(super) fn class_community(asn: u32, class: RouteClass) -> LargeCommunity {
    LargeCommunity { global: asn, local1: class_number(class), local2: asn }
}

/// The name of the advertisement that a neighbour hears. Objects have no slash in theirs.
pub(super) fn advertisement_of(neighbour: &Neighbour) -> String {
    match neighbour {
        Neighbour::Link(link) => format!("link/{link}"),
        Neighbour::Edge(host) => format!("edge/{host}"),
    }
}

impl Links {
    /// Addresses of Services are announced by this node as to any router, when it may speak for them.
    pub fn advertisements(&self) -> Vec<Advertisement> {
        let Some(asn) = self.cluster_asn() else { return Vec::new() };
        let links = self.links.values().map(|link| (Neighbour::Link(link.name.clone()), &link.exports));
        let hosts = self.hosts.values().map(|host| &host.host);
        let hosts = hosts.map(|host| (Neighbour::Edge(host.name.clone()), &host.exports));
        let exporting = links.chain(hosts).filter(|(_, exports)| exports.contains(&RouteClass::LoadBalancers));
        let community = class_community(asn, RouteClass::LoadBalancers).to_string();
        let settings = RouteSettings { large_communities: vec![community], ..RouteSettings::default() };
        let advertisement = |neighbour: Neighbour| Advertisement {
            name: advertisement_of(&neighbour),
            sources: vec![LoadBalancerSource::default()],
            pod_pools: Vec::new(),
            peers: PeerChoice::All,
            node_selector: None,
            aggregate_ipv4: 32,
            aggregate_ipv6: 128,
            settings: settings.clone(),
        };
        exporting.map(|(neighbour, _)| advertisement(neighbour)).collect()
    }

    /// Brings what every session was told up to date.
    pub(super) fn announce(&mut self) -> Vec<(PeerKey, Vec<RouteChange>)> {
        let (untold, passed_on) = (std::mem::take(&mut self.untold), std::mem::take(&mut self.passed_on));
        let keys: Vec<PeerKey> = self.told.keys().cloned().collect();
        let mut all = Vec::new();
        for key in keys {
            let Some(counterpart) = Counterpart::of(&key) else { continue };
            let mut wanted: BTreeMap<IpNet, Option<Arc<RouteAttributes>>> = BTreeMap::new();
            if untold.contains(&key) {
                let own = self.own_routes(&counterpart);
                // What is not wanted any more, what is, and what was learnt.
                wanted.extend(self.told[&key].keys().map(|net| (*net, None)));
                for net in self.learned.keys() {
                    wanted.insert(*net, self.learned_route(&counterpart, *net));
                }
                wanted.extend(own.iter().map(|(net, route)| (*net, Some(Arc::clone(route)))));
                self.own.insert(key.clone(), own);
            } else {
                let own = self.own.get(&key);
                for net in &passed_on {
                    let route =
                        own.and_then(|own| own.get(net)).cloned().or_else(|| self.learned_route(&counterpart, *net));
                    wanted.insert(*net, route);
                }
            }
            let told = self.told.entry(key.clone()).or_default();
            let mut changes = Vec::new();
            for (net, route) in wanted {
                match route {
                    Some(route) if told.get(&net) != Some(&route) => {
                        told.insert(net, Arc::clone(&route));
                        changes.push(RouteChange::Announce(net, route));
                    }
                    None if told.remove(&net).is_some() => changes.push(RouteChange::Withdraw(net)),
                    _ => {}
                }
            }
            if !changes.is_empty() {
                all.push((key, changes));
            }
        }
        all
    }

    /// This cluster's own ranges, as a counterpart is told them.
    fn own_routes(&self, counterpart: &Counterpart) -> BTreeMap<IpNet, Arc<RouteAttributes>> {
        let (exports, next_hop) = match counterpart {
            Counterpart::Link { link, .. } => match self.links.get(link) {
                Some(link) => (&link.exports, link.next_hop),
                None => return BTreeMap::new(),
            },
            Counterpart::Edge(host) => match self.hosts.get(host) {
                Some(host) => (&host.host.exports, LinkNextHop::Gateway),
                None => return BTreeMap::new(),
            },
            // Nodes know their own cluster.
            Counterpart::Node(_) => return BTreeMap::new(),
        };
        let Some(asn) = self.cluster_asn() else { return BTreeMap::new() };
        let mut routes = BTreeMap::new();
        if exports.contains(&RouteClass::Services) {
            let attributes = attributes(asn, RouteClass::Services, NextHops::default());
            routes.extend(self.service_cidrs().iter().map(|net| (*net, Arc::clone(&attributes))));
        }
        if exports.contains(&RouteClass::Pods) {
            let of_nodes =
                self.members.iter().flat_map(|(node, member)| member.pod_cidrs.iter().map(move |net| (*net, node)));
            let of_blocks = self.blocks.iter().map(|(net, node)| (*net, node));
            let mut by_node: BTreeMap<&str, Arc<RouteAttributes>> = BTreeMap::new();
            for (net, node) in of_nodes.chain(of_blocks) {
                let attributes = by_node.entry(node).or_insert_with(|| {
                    let next_hops = match next_hop {
                        LinkNextHop::Gateway => NextHops::default(),
                        LinkNextHop::Keep => self.next_hops_of(node),
                    };
                    attributes(asn, RouteClass::Pods, next_hops)
                });
                routes.insert(net, Arc::clone(attributes));
            }
        }
        routes
    }

    fn service_cidrs(&self) -> &[IpNet] {
        match &self.network {
            Some(Network { service_cidrs, .. }) if !service_cidrs.is_empty() => service_cidrs,
            _ => &self.effective.service_cidrs,
        }
    }

    fn next_hops_of(&self, node: &str) -> NextHops {
        let Some(member) = self.members.get(node) else { return NextHops::default() };
        let ipv4 = member.address(true).and_then(|address| if let IpAddr::V4(v4) = address { Some(v4) } else { None });
        let ipv6 = member.address(false).and_then(|address| if let IpAddr::V6(v6) = address { Some(v6) } else { None });
        NextHops { ipv4, ipv6 }
    }

    /// A learned route, as a counterpart is told it.
    fn learned_route(&self, counterpart: &Counterpart, net: IpNet) -> Option<Arc<RouteAttributes>> {
        let chosen = self.learned.get(&net)?.chosen()?;
        // RFC 4271 section 9.2: what was learnt inside is not told inside again, and nobody gets back what is its own.
        if chosen.is_internal {
            return None;
        }
        // RFC 1997: well-known communities bind whoever gets them.
        let communities = &chosen.attributes.communities;
        let stays = communities.contains(&Community::NO_ADVERTISE);
        let stays_here = stays || communities.contains(&Community::NO_EXPORT) || chosen.only_to_customer;
        let passes = match (counterpart, &chosen.from) {
            (Counterpart::Node(_), _) => !stays,
            (Counterpart::Link { link: to, .. }, Neighbour::Link(from)) => {
                to != from && !stays_here && self.is_transit(from, to)
            }
            (Counterpart::Link { .. } | Counterpart::Edge(_), _) => false,
        };
        passes.then(|| Arc::clone(&chosen.attributes))
    }

    fn is_transit(&self, from: &str, to: &str) -> bool {
        let says = |name: &str| self.link_in_use(name).is_some_and(|link| link.transit);
        says(from) && says(to)
    }
}

fn attributes(asn: u32, class: RouteClass, next_hops: NextHops) -> Arc<RouteAttributes> {
    let large_communities = vec![class_community(asn, class)];
    Arc::new(RouteAttributes { large_communities, next_hops, ..RouteAttributes::default() })
}
