//! Which addresses an object stands for.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Holding;
use crate::checked::{AddressRange, AddressSet, ClaimName, EdgeHost, EdgePrefix, Network, PodPool, PodRanges, Pool};
use crate::kinds::{AddressClaim, ClusterNetwork, NodeReport, OwnerKind};
use crate::kubernetes::{Node, Service};
use crate::store::Object;

/// The addresses that a cluster uses because of one object, and by what they are held there. An object that is wrong uses none, nor
/// does a value in it that cannot be read.
///
/// Whoever keeps a [`super::Territory`] puts in what an object gives and takes it out when the object goes or changes.
pub fn used_by(object: &Object) -> Vec<(AddressRange, Holding)> {
    match object {
        Object::ClusterNetwork(raw) => of_network(raw),
        Object::AddressPool(raw) => Pool::check(raw).map(|pool| of_pool(&pool)).unwrap_or_default(),
        Object::PodPool(raw) => PodPool::check(raw).map(|pool| of_pod_pool(&pool)).unwrap_or_default(),
        Object::AddressClaim(claim) => of_claim(claim),
        Object::Node(node) => of_node(node),
        Object::NodeReport(report) => of_report(report),
        Object::EdgeHost(raw) => EdgeHost::check(raw).map(|host| of_edge(&host)).unwrap_or_default(),
        Object::Service(service) => of_service(service),
        Object::ServiceCidr(range) => {
            let holding = Holding::ServiceCidr(range.metadata.name.clone().unwrap_or_default());
            nets(&range.spec.cidrs).map(|net| (net, holding.clone())).collect()
        }
        _ => Vec::new(),
    }
}

/// What is declared, and where ClusterIPs come from as the controller found it: not every cluster has `ServiceCIDR`s.
fn of_network(raw: &ClusterNetwork) -> Vec<(AddressRange, Holding)> {
    let found = raw.status.iter().flat_map(|status| &status.service_cidrs);
    let found = found.filter_map(|text| text.0.parse::<IpNet>().ok());
    let found = found.map(|net| (net.into(), Holding::ServiceRange));
    Network::check(raw).map(|network| declared(&network)).unwrap_or_default().into_iter().chain(found).collect()
}

/// The ranges that a `ClusterNetwork` declares.
pub fn declared(network: &Network) -> Vec<(AddressRange, Holding)> {
    let fields = [
        ("spec.podCIDRs", &network.pod_cidrs),
        ("spec.serviceCIDRs", &network.service_cidrs),
        ("spec.loadBalancerCIDRs", &network.load_balancer_cidrs),
        ("spec.fabricCIDRs", &network.fabric_cidrs),
    ];
    let of = |(field, nets): (&'static str, &Vec<IpNet>)| {
        nets.iter().map(|net| ((*net).into(), Holding::Declared(field))).collect::<Vec<_>>()
    };
    fields.into_iter().flat_map(of).collect()
}

fn of_pool(pool: &Pool) -> Vec<(AddressRange, Holding)> {
    pool.usable().ranges().map(|range| (range, Holding::AddressPool(pool.name.clone()))).collect()
}

fn of_pod_pool(pool: &PodPool) -> Vec<(AddressRange, Holding)> {
    let of_nodes;
    let ranges: &[AddressRange] = match &pool.ranges {
        PodRanges::Shared(ranges) => ranges,
        PodRanges::PerNode(nodes) => {
            of_nodes = nodes.values().flatten().copied().collect::<Vec<_>>();
            &of_nodes
        }
    };
    // Several nodes may have the same.
    let mut usable: AddressSet = ranges.iter().copied().collect();
    pool.exclude.iter().for_each(|range| usable.remove(*range));
    usable.ranges().map(|range| (range, Holding::PodPool(pool.name.clone()))).collect()
}

/// A claim outlives the pool that it came from, so its address is in use whatever the pools say.
fn of_claim(claim: &AddressClaim) -> Vec<(AddressRange, Holding)> {
    let Some(net) = claim.metadata.name.as_deref().and_then(ClaimName::net) else { return Vec::new() };
    let holding = match claim.spec.owners.first() {
        Some(owner) => match owner.kind {
            OwnerKind::Node => Holding::Block(owner.name.0.clone()),
            OwnerKind::EdgeHost => Holding::EdgeHost(owner.name.0.clone()),
            OwnerKind::Service => Holding::ServiceAddress {
                namespace: owner.namespace.as_ref().map(|namespace| namespace.0.clone()).unwrap_or_default(),
                name: owner.name.0.clone(),
            },
            OwnerKind::Pod => Holding::PodPool(claim.spec.pool.0.clone()),
        },
        // Released: it rests, and may come back.
        None => return Vec::new(),
    };
    vec![(net.into(), holding)]
}

fn of_node(node: &Node) -> Vec<(AddressRange, Holding)> {
    let name = node.metadata.name.clone().unwrap_or_default();
    let pods = nets(&node.spec.pod_cidrs).map(|net| (net, Holding::PodCidr(name.clone())));
    let is_address = |kind: &str| matches!(kind, "InternalIP" | "ExternalIP");
    let own = node.status.addresses.iter().filter(|address| is_address(&address.type_));
    let own = own.filter_map(|address| address.address.parse::<IpAddr>().ok());
    pods.chain(own.map(|address| (IpNet::from(address).into(), Holding::NodeAddress(name.clone())))).collect()
}

fn of_report(report: &NodeReport) -> Vec<(AddressRange, Holding)> {
    let node = report.metadata.name.clone().unwrap_or_default();
    let connected = report.status.iter().flat_map(|status| &status.connected);
    let connected = connected.filter_map(|route| Some((route.cidr.0.parse::<IpNet>().ok()?, &route.interface)));
    connected
        .map(|(net, interface)| (net.into(), Holding::Connected { node: node.clone(), interface: interface.clone() }))
        .collect()
}

/// A prefix that was allocated stands in a claim.
fn of_edge(host: &EdgeHost) -> Vec<(AddressRange, Holding)> {
    match host.prefix {
        EdgePrefix::Given(prefix) => vec![(prefix.into(), Holding::EdgeHost(host.name.clone()))],
        EdgePrefix::FromPool { .. } => Vec::new(),
    }
}

fn of_service(service: &Service) -> Vec<(AddressRange, Holding)> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (namespace, name) = (text(&service.metadata.namespace), text(&service.metadata.name));
    let holding = Holding::ServiceAddress { namespace, name };
    let spec = &service.spec;
    let cluster_ips = if spec.cluster_ips.is_empty() { spec.cluster_ip.as_slice() } else { &spec.cluster_ips };
    let given = service.status.load_balancer.ingress.iter().filter_map(|ingress| ingress.ip.as_ref());
    let addresses = cluster_ips.iter().chain(given);
    // A headless Service has `None`, in letters.
    let addresses = addresses.filter_map(|address| address.parse::<IpAddr>().ok());
    addresses.map(|address| (IpNet::from(address).into(), holding.clone())).collect()
}

fn nets(texts: &[String]) -> impl Iterator<Item = AddressRange> {
    texts.iter().filter_map(|text| text.parse::<IpNet>().ok()).map(AddressRange::from)
}
