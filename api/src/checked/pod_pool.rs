//! Pools of addresses for pods.
//!
//! A pool's addresses are either handed out by every node that the pool is for ([`PodRanges::Shared`]), or each node has its own
//! ([`PodRanges::PerNode`]). Whoever hands one out that another node may hand out too needs an `AddressClaim`;
//! [`PodPool::is_pinned_to`] says where none is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::pool::{NamespaceChoice, priority, ranges, reuse_delay};
use super::range::parse_cidr;
use super::{AddressRange, AddressSet, Blocks, Findings, Invalid, Labels, ObjectRef, Selector};
use crate::kinds::{self, AddressText, NetworkName, NodeRanges, PodAdvertisement};

/// A `PodPool` whose fields were checked. Whether it overlaps another pool is for [`super::pools_in_force()`] to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPool {
    /// The object's name.
    pub name: String,
    /// When the object was made, as sortable text (RFC 3339, UTC); empty where unknown. Of two pools that overlap the older is in force.
    pub created: String,
    /// The object's `metadata.generation`.
    pub generation: Option<i64>,
    /// The network that all addresses are in.
    pub subnet: IpNet,
    /// The addresses, and which nodes hand them out.
    pub ranges: PodRanges,
    /// Addresses of these that are never handed out.
    pub exclude: Vec<AddressRange>,
    /// Addresses of these that the controller found to be a node's or a router's, as the status says: no node knows all others. They do
    /// not count when pools are compared, because that is to be a function of what people wrote.
    pub foreign: BTreeSet<IpAddr>,
    /// The length of the blocks that nodes claim; `None`: they claim none.
    pub block_length: Option<u8>,
    /// The subnet's router; of a pool of blocks, what each node answers to on its side of its pods' links.
    pub gateway: Option<IpAddr>,
    /// Routes that pods get with an address; each leads elsewhere.
    pub routes: Vec<PoolRoute>,
    /// Only these nodes; empty: all.
    pub node_names: BTreeSet<String>,
    /// Only nodes with these labels; `None`: all.
    pub node_selector: Option<Selector>,
    /// Which namespaces are served.
    pub namespaces: NamespaceChoice,
    /// Which pods are served; `None`: all.
    pub pod_selector: Option<Selector>,
    /// Interfaces of which networks are served, as `namespace/name`; empty: of any.
    pub networks: BTreeSet<String>,
    /// Whether interfaces that ask for no pool are served.
    pub default: bool,
    /// Smaller first; `None` last.
    pub priority: Option<i32>,
    /// How long a freed address rests.
    pub reuse_delay: Duration,
    /// Whether a StatefulSet's pod that is made anew gets the address that the pod of its name had.
    pub sticky: bool,
    /// Whether no address is handed out any more.
    pub disabled: bool,
    /// What routers are told.
    pub advertise: PodAdvertisement,
    /// Whether the controller has looked at the object as it is: only then are all of `foreign` known.
    pub is_judged: bool,
    /// Whether, as far as the controller knows, pods may have addresses of it.
    pub is_in_use: bool,
}

/// The addresses of a pool, and which nodes hand them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodRanges {
    /// Every node that the pool is for.
    Shared(Vec<AddressRange>),
    /// These nodes, each its own. Nodes of one entry of `nodeRanges` have the same; those of two entries have none in common.
    PerNode(BTreeMap<String, Vec<AddressRange>>),
}

/// A route that pods get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolRoute {
    /// Where it leads; never everywhere.
    pub destination: IpNet,
    /// The next hop; `None`: the pool's gateway.
    pub gateway: Option<IpAddr>,
}

/// Why an address of a pool's ranges is never handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// It is the subnet's network address.
    Network,
    /// It is the subnet's broadcast address.
    Broadcast,
    /// It is the anycast address of the subnet's routers (RFC 4291 section 2.6.1).
    SubnetRouter,
    /// It is the gateway.
    Gateway,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::Broadcast => "broadcast",
            Self::SubnetRouter => "subnet-router anycast",
            Self::Gateway => "gateway",
        })
    }
}

impl PodPool {
    /// Checks an object.
    pub fn check(raw: &kinds::PodPool) -> Result<Self, Vec<Invalid>> {
        let name = raw.metadata.name.clone().unwrap_or_default();
        let mut findings = Findings::new(ObjectRef::cluster("PodPool", &name));
        let pool = Self::check_spec(name, raw, &mut findings);
        findings.conclude(pool)
    }

    fn check_spec(name: String, raw: &kinds::PodPool, findings: &mut Findings) -> Option<Self> {
        let spec = &raw.spec;
        let subnet = findings.take("spec.subnet", &spec.subnet, parse_cidr(&spec.subnet.0));
        let shared = ranges("spec.ranges", &spec.ranges, findings);
        let exclude = ranges("spec.exclude", &spec.exclude, findings);
        let entries: Vec<Vec<AddressRange>> =
            (0..).zip(&spec.node_ranges).map(|(index, entry)| node_ranges(index, entry, findings)).collect();
        if let (Some(first), false) = (spec.ranges.first(), spec.node_ranges.is_empty()) {
            let allowed = "cannot be given beside nodeRanges: give every node its own there, or all the same here";
            findings.refuse("spec.ranges", first, allowed);
        }
        let node_names: BTreeSet<String> = spec.node_names.iter().map(|name| name.0.clone()).collect();
        let node_selector = Selector::check_option(spec.node_selector.as_ref(), "spec.nodeSelector", findings);
        let namespaces = NamespaceChoice::check(&spec.namespaces, spec.namespace_selector.as_ref(), findings);
        let pod_selector = Selector::check_option(spec.pod_selector.as_ref(), "spec.podSelector", findings);
        for (index, network) in spec.networks.iter().enumerate() {
            check_network(&format!("spec.networks[{index}]"), network, findings);
        }
        let priority = priority(spec.priority, findings);
        let reuse_delay = reuse_delay(spec.reuse_delay_seconds, findings);
        // What follows is about the subnet, or about what could be read.
        let subnet = subnet?;
        if findings.is_empty() {
            let lists = [("spec.ranges".to_owned(), &shared), ("spec.exclude".to_owned(), &exclude)];
            let entries =
                entries.iter().enumerate().map(|(index, entry)| (format!("spec.nodeRanges[{index}].ranges"), entry));
            for (field, list) in lists.into_iter().chain(entries) {
                check_inside(&field, list, subnet, findings);
            }
        }
        let block_length = block_length(spec, subnet, findings);
        let gateway = gateway("spec.gateway", spec.gateway.as_ref(), subnet, findings)
            .or_else(|| block_length.and_then(|_| first_behind(subnet)));
        let routes = routes(&spec.routes, subnet, findings);
        let ranges = if !spec.node_ranges.is_empty() {
            check_disjoint(&entries, findings);
            PodRanges::PerNode(by_node(&spec.node_ranges, &entries, findings))
        } else if shared.is_empty() {
            PodRanges::Shared(vec![AddressRange::from(subnet)])
        } else {
            PodRanges::Shared(shared)
        };
        if let (Some(length), PodRanges::Shared(ranges)) = (block_length, &ranges)
            && findings.is_empty()
            && blocks_of(length, ranges).count() == 0
        {
            let allowed = "must fit into spec.ranges at least once, from its first address to its last";
            findings.refuse("spec.blockPrefixLength", length, allowed);
        }
        Some(Self {
            name,
            created: raw.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
            generation: raw.metadata.generation,
            subnet,
            ranges,
            exclude,
            foreign: raw
                .status
                .iter()
                .flat_map(|status| &status.left_out)
                .filter_map(|left| left.address.0.parse().ok())
                .collect(),
            block_length,
            gateway,
            routes,
            node_names,
            node_selector,
            namespaces,
            pod_selector,
            networks: spec.networks.iter().map(|network| network.0.clone()).collect(),
            default: spec.default,
            priority,
            reuse_delay,
            sticky: spec.sticky,
            disabled: spec.disabled,
            advertise: spec.advertise,
            is_judged: is_judged(raw),
            is_in_use: is_in_use(raw),
        })
    }

    /// Whether the addresses are of IPv4.
    pub fn is_ipv4(&self) -> bool {
        matches!(self.subnet, IpNet::V4(_))
    }

    /// Whether a node hands out addresses of this pool.
    pub fn takes_node(&self, node: &str, labels: &Labels) -> bool {
        self.may_name(node) && self.node_selector.as_ref().is_none_or(|selector| selector.matches(labels))
    }

    /// Whether a node hands out addresses of this pool if it has the labels.
    fn may_name(&self, node: &str) -> bool {
        let has_ranges = match &self.ranges {
            PodRanges::Shared(_) => true,
            PodRanges::PerNode(nodes) => nodes.contains_key(node),
        };
        has_ranges && (self.node_names.is_empty() || self.node_names.contains(node))
    }

    /// What a node that the pool is for may hand out: lowest first, disjoint; empty where there is nothing.
    pub fn usable_on(&self, node: &str) -> Vec<AddressRange> {
        let given = match &self.ranges {
            _ if !self.may_name(node) => return Vec::new(),
            PodRanges::Shared(ranges) => ranges,
            PodRanges::PerNode(nodes) => match nodes.get(node) {
                Some(ranges) => ranges,
                None => return Vec::new(),
            },
        };
        let mut usable = self.without_left_out(given.iter().copied().collect());
        for address in &self.foreign {
            usable.remove(AddressRange::from(IpNet::from(*address)));
        }
        usable.ranges().collect()
    }

    /// The blocks that nodes may claim; none where the pool is not made of blocks.
    pub fn blocks(&self) -> Blocks {
        match (&self.ranges, self.block_length) {
            (PodRanges::Shared(ranges), Some(length)) => blocks_of(length, ranges),
            _ => Blocks::default(),
        }
    }

    /// What all nodes together may hand out.
    pub fn usable(&self) -> AddressSet {
        self.without_left_out(self.given())
    }

    /// Addresses that stand in `ranges` or `nodeRanges` and are never handed out, whatever `exclude` says, and why. None where the pool
    /// names no ranges: nobody expects these of a whole subnet.
    pub fn left_out(&self) -> Vec<(IpAddr, LeftOut)> {
        let whole = AddressRange::from(self.subnet);
        if matches!(&self.ranges, PodRanges::Shared(ranges) if *ranges == [whole]) {
            return Vec::new();
        }
        let given = self.given();
        self.reserved().into_iter().filter(|(address, _)| given.contains(*address)).collect()
    }

    /// Whether no other node may hand out what [`PodPool::usable_on`] gives this one, so that no claim is needed.
    pub fn is_pinned_to(&self, node: &str) -> bool {
        let is_alone = self.node_names.len() == 1;
        self.may_name(node)
            && (is_alone
                || match &self.ranges {
                    PodRanges::Shared(_) => false,
                    // Nodes of one entry have the same ranges, all others have others.
                    PodRanges::PerNode(nodes) => {
                        let own = nodes.get(node);
                        !nodes
                            .iter()
                            .any(|(other, ranges)| other != node && self.may_name(other) && Some(ranges) == own)
                    }
                })
    }

    /// Whether pods of a namespace with these labels are served.
    pub fn takes_namespace(&self, namespace: &str, labels: &Labels) -> bool {
        self.namespaces.takes(namespace, labels)
    }

    /// Whether a pod with these labels is served.
    pub fn takes_pod(&self, labels: &Labels) -> bool {
        self.pod_selector.as_ref().is_none_or(|selector| selector.matches(labels))
    }

    /// Whether an interface of a network is served: of the NetworkAttachmentDefinition `namespace/name`, or where its configuration does
    /// not say which it is from, of the configuration of this name.
    pub fn takes_network(&self, definition: Option<&str>, name: &str) -> bool {
        let is_named = |network: &String| network.split_once('/').is_some_and(|(_, network)| network == name);
        self.networks.is_empty()
            || definition
                .map_or_else(|| self.networks.iter().any(is_named), |definition| self.networks.contains(definition))
    }

    /// All that the pool names.
    fn given(&self) -> AddressSet {
        match &self.ranges {
            PodRanges::Shared(ranges) => ranges.iter().copied().collect(),
            PodRanges::PerNode(nodes) => nodes.values().flatten().copied().collect(),
        }
    }

    fn without_left_out(&self, mut given: AddressSet) -> AddressSet {
        let reserved = self.reserved();
        let reserved = reserved.iter().map(|(address, _)| AddressRange::from(IpNet::from(*address)));
        for range in self.exclude.iter().copied().chain(reserved) {
            given.remove(range);
        }
        given
    }

    /// Addresses of the subnet that are no pod's.
    fn reserved(&self) -> Vec<(IpAddr, LeftOut)> {
        let whole = AddressRange::from(self.subnet);
        let mut reserved = match self.subnet {
            IpNet::V4(subnet) if subnet.prefix_len() <= 30 => {
                vec![(whole.first(), LeftOut::Network), (whole.last(), LeftOut::Broadcast)]
            }
            IpNet::V6(subnet) if subnet.prefix_len() <= 126 => vec![(whole.first(), LeftOut::SubnetRouter)],
            // RFC 3021, RFC 6164: on a link of two all addresses are hosts.
            IpNet::V4(_) | IpNet::V6(_) => Vec::new(),
        };
        reserved.extend(self.gateway.map(|gateway| (gateway, LeftOut::Gateway)));
        reserved
    }
}

fn blocks_of(length: u8, ranges: &[AddressRange]) -> Blocks {
    Blocks::new(length, ranges.iter().copied().collect::<AddressSet>().ranges())
}

/// The length of the pool's blocks, and whether what else the pool says goes with it.
fn block_length(spec: &kinds::PodPoolSpec, subnet: IpNet, findings: &mut Findings) -> Option<u8> {
    let Some(given) = spec.block_prefix_length else {
        if spec.advertise == PodAdvertisement::Block {
            findings.refuse("spec.advertise", "Block", "needs spec.blockPrefixLength");
        }
        return None;
    };
    if spec.advertise == PodAdvertisement::Address {
        let allowed = "is for pools without spec.blockPrefixLength: a block is announced as a whole, or not at all";
        findings.refuse("spec.advertise", "Address", allowed);
    }
    if !spec.node_ranges.is_empty() {
        let allowed = "cannot be given beside nodeRanges: nodes claim blocks, or you give each its own";
        findings.refuse("spec.blockPrefixLength", given, allowed);
    }
    let allowed = subnet.prefix_len()..=subnet.max_prefix_len();
    let length = u8::try_from(given).ok().filter(|length| allowed.contains(length));
    let (shortest, longest) = allowed.into_inner();
    findings.take(
        "spec.blockPrefixLength",
        given,
        length.ok_or_else(|| format!("must be from {shortest}, the length of spec.subnet, to {longest}")),
    )
}

/// The first address of a subnet that a host may have.
fn first_behind(subnet: IpNet) -> Option<IpAddr> {
    let mut hosts = AddressSet::from_iter([AddressRange::from(subnet)]);
    if subnet.prefix_len() + 1 < subnet.max_prefix_len() {
        hosts.remove(AddressRange::from(IpNet::from(subnet.network())));
    }
    hosts.ranges().next().map(|range| range.first())
}

/// Whether the status is about the object as it is.
fn is_judged(raw: &kinds::PodPool) -> bool {
    let ready = raw.status.iter().flat_map(|status| &status.conditions).find(|condition| condition.type_ == "Ready");
    ready.is_some_and(|ready| ready.observed_generation == raw.metadata.generation)
}

/// Whether pods have addresses of a pool, or it was in force when the controller last looked, so that they may.
fn is_in_use(raw: &kinds::PodPool) -> bool {
    let is_some = |count: &Option<String>| count.as_ref().is_some_and(|count| count != "0");
    raw.status.as_ref().is_some_and(|status| is_some(&status.total) || is_some(&status.allocated))
}

fn node_ranges(index: usize, entry: &NodeRanges, findings: &mut Findings) -> Vec<AddressRange> {
    let field = format!("spec.nodeRanges[{index}]");
    if entry.nodes.is_empty() {
        findings.refuse(format!("{field}.nodes"), "[]", "must name at least one node");
    }
    if entry.ranges.is_empty() {
        findings.refuse(format!("{field}.ranges"), "[]", "must list at least one CIDR, address or range");
    }
    ranges(&format!("{field}.ranges"), &entry.ranges, findings)
}

/// The ranges of each node; one that two entries name is refused.
fn by_node(
    raw: &[NodeRanges],
    entries: &[Vec<AddressRange>],
    findings: &mut Findings,
) -> BTreeMap<String, Vec<AddressRange>> {
    let mut nodes: BTreeMap<String, (usize, Vec<AddressRange>)> = BTreeMap::new();
    for (index, (entry, ranges)) in raw.iter().zip(entries).enumerate() {
        for (place, node) in entry.nodes.iter().enumerate() {
            if let Some((earlier, _)) = nodes.get(&node.0) {
                let allowed = format!("is named by spec.nodeRanges[{earlier}] already: give each node one entry");
                findings.refuse(format!("spec.nodeRanges[{index}].nodes[{place}]"), node, allowed);
            } else {
                nodes.insert(node.0.clone(), (index, ranges.clone()));
            }
        }
    }
    nodes.into_iter().map(|(node, (_, ranges))| (node, ranges)).collect()
}

/// Refuses an address that two entries of `nodeRanges` have.
fn check_disjoint(entries: &[Vec<AddressRange>], findings: &mut Findings) {
    let merged = |(index, ranges): (usize, &Vec<AddressRange>)| {
        let ranges: AddressSet = ranges.iter().copied().collect();
        ranges.ranges().map(|range| (range, index)).collect::<Vec<_>>()
    };
    let mut all: Vec<(AddressRange, usize)> = entries.iter().enumerate().flat_map(merged).collect();
    all.sort();
    // The ranges of one entry are disjoint now, so whatever begins before an earlier one has ended is of another entry.
    let mut reaching: Option<(AddressRange, usize)> = None;
    for (range, index) in all {
        if let Some((earlier, other)) = reaching.filter(|(earlier, _)| earlier.overlaps(&range)) {
            let (index, other) = (index.max(other), index.min(other));
            let allowed = format!(
                "has addresses of spec.nodeRanges[{other}] too: name the nodes in one entry, or give each its own"
            );
            let shared = if earlier.last() < range.last() { earlier.last() } else { range.last() };
            // Both are of the subnet's family, and the one begins before the other ends.
            let value = AddressRange::new(range.first(), shared).unwrap_or(range);
            findings.refuse(format!("spec.nodeRanges[{index}].ranges"), value, allowed);
        }
        if reaching.is_none_or(|(earlier, _)| earlier.last() < range.last()) {
            reaching = Some((range, index));
        }
    }
}

fn check_inside(field: &str, ranges: &[AddressRange], subnet: IpNet, findings: &mut Findings) {
    let whole = AddressRange::from(subnet);
    for (index, range) in ranges.iter().enumerate() {
        if !whole.contains(range.first()) || !whole.contains(range.last()) {
            findings.refuse(format!("{field}[{index}]"), range, format!("must be inside spec.subnet {subnet}"));
        }
    }
}

fn gateway(field: &str, text: Option<&AddressText>, subnet: IpNet, findings: &mut Findings) -> Option<IpAddr> {
    let text = text?;
    let parsed = match text.0.parse::<IpAddr>() {
        Ok(address) if subnet.contains(&address) => Ok(address),
        Ok(_) => Err(format!("must be inside spec.subnet {subnet}")),
        Err(_) => Err("must be an IPv4 or IPv6 address".to_owned()),
    };
    findings.take(field, text, parsed)
}

fn routes(raw: &[kinds::PodRoute], subnet: IpNet, findings: &mut Findings) -> Vec<PoolRoute> {
    let mut routes: Vec<PoolRoute> = Vec::new();
    for (index, route) in raw.iter().enumerate() {
        let field = format!("spec.routes[{index}]");
        let gateway = gateway(&format!("{field}.gateway"), route.gateway.as_ref(), subnet, findings);
        let field = format!("{field}.destination");
        let Some(destination) = findings.take(&field, &route.destination, parse_cidr(&route.destination.0)) else {
            continue;
        };
        if destination.prefix_len() == 0 {
            let allowed = "must not be the default route: pods get that on one interface, whatever pool it is from";
            findings.refuse(&field, destination, allowed);
        } else if destination.network().is_ipv4() != subnet.network().is_ipv4() {
            findings.refuse(&field, destination, format!("must be of the family of spec.subnet {subnet}"));
        } else if routes.iter().any(|earlier| earlier.destination == destination) {
            findings.refuse(&field, destination, "is the destination of an earlier route already");
        } else {
            routes.push(PoolRoute { destination, gateway });
        }
    }
    routes
}

fn check_network(field: &str, network: &NetworkName, findings: &mut Findings) {
    let is_whole = |(namespace, name): (&str, &str)| !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    if !network.0.split_once('/').is_some_and(is_whole) {
        let allowed = "must be the namespace and name of a NetworkAttachmentDefinition, like kube-system/macvlan-ens5";
        findings.refuse(field, network, allowed);
    }
}

#[cfg(test)]
mod tests;
