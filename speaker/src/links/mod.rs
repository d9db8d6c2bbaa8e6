//! Joined clusters and hosts outside, as one node sees them: sessions that no `BGPPeer` asks for, what is told on them, and what becomes
//! of the routes that are learnt.
//!
//! ```text
//!  other cluster --eBGP--> [ gateway: learned --> border: judged ]--iBGP--> [ other nodes: judged again ]
//!                             |          '--> kernel                          '--> kernel
//!  other cluster <--eBGP-- [ exports: podCIDRs, blocks, service CIDRs ]
//! ```
//!
//! A gateway has a session with each gateway of the other cluster, with each host outside that may dial it, and with each node of its own
//! cluster; a node that is none has one with each gateway of its own. What a gateway learns it judges ([`overlap::Border`]), installs, and
//! tells its own nodes under its own address; they judge it again, as each knows best what is connected to it, and install it too. A node
//! tells gateways nothing: gateways know the cluster's addresses from the store. So a route never goes through this cluster to a third,
//! unless both links say `transit`.
//!
//! [`Links`] is pure: events and learned routes go in, sessions, announcements and kernel routes come out. A change costs what it
//! concerns: a learned route its own prefix, a pool that collides the routes that it collides with.

mod counterpart;
mod exports;
mod learned;
mod members;
mod report;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use roadstead_api::checked::{AddressRange, ClaimName, EdgeHost, EdgePrefix, Invalid, Link, Network};
use roadstead_api::kinds::{self, LinkMode, OwnerKind};
use roadstead_api::overlap::{self, Acceptance, Border, Holding, Identity, Neighbour};
use roadstead_api::store::{Event, Kind, Object, ObjectKey, Watch};
use roadstead_bgp::{PeerKey, RouteAttributes, RouteChange};

pub use counterpart::{Counterpart, described};
pub use session::NoSession;

use learned::{Destination, LinkCounts};
use members::Member;

/// The state; see the module's essay.
pub struct Links {
    node: String,
    links: BTreeMap<String, Link>,
    hosts: BTreeMap<String, Host>,
    members: BTreeMap<String, Member>,
    network: Option<Network>,
    /// The ASN and the service CIDRs that the controller has found out.
    effective: Effective,
    /// Blocks of pods' addresses, each with the node that has it.
    blocks: BTreeMap<IpNet, String>,
    /// What each object has put into the border.
    used: HashMap<ObjectKey, Vec<(AddressRange, Holding)>>,
    /// What each link and host has put into the border.
    accepted: HashMap<Neighbour, Vec<(IpNet, Acceptance)>>,
    border: Border,
    learned: BTreeMap<IpNet, Destination>,
    /// Where they are, to find those that a change of the border concerns.
    learned_where: overlap::Territory<()>,
    /// To be judged again.
    unjudged: BTreeSet<IpNet>,
    /// The sessions that there are, and what was told on each.
    told: BTreeMap<PeerKey, BTreeMap<IpNet, Arc<RouteAttributes>>>,
    /// What of this cluster's own is told on each, as it was when that was last worked out.
    own: BTreeMap<PeerKey, BTreeMap<IpNet, Arc<RouteAttributes>>>,
    /// Sessions that all has to be told on again, and prefixes that may have changed for all.
    untold: BTreeSet<PeerKey>,
    passed_on: BTreeSet<IpNet>,
    installed: BTreeMap<IpNet, BTreeSet<IpAddr>>,
    unmasqueraded: (BTreeSet<IpNet>, BTreeSet<IpNet>),
    unmasqueraded_is_stale: bool,
    sessions_are_stale: bool,
}

/// A host outside, with the prefix that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    host: EdgeHost,
    prefix: Option<IpNet>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Effective {
    asn: Option<u32>,
    service_cidrs: Vec<IpNet>,
}

/// What has changed for the outside.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LinkChanges {
    /// For sessions.
    pub routes: Vec<(PeerKey, Vec<RouteChange>)>,
    /// For the kernel: the next hops of each prefix; none: it is not wanted any more.
    pub kernel: Vec<(IpNet, BTreeSet<IpAddr>)>,
}

impl Links {
    /// Of this node. Nothing is known as yet.
    pub fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            links: BTreeMap::new(),
            hosts: BTreeMap::new(),
            members: BTreeMap::new(),
            network: None,
            effective: Effective::default(),
            blocks: BTreeMap::new(),
            used: HashMap::new(),
            accepted: HashMap::new(),
            border: Border::default(),
            learned: BTreeMap::new(),
            learned_where: overlap::Territory::default(),
            unjudged: BTreeSet::new(),
            told: BTreeMap::new(),
            own: BTreeMap::new(),
            untold: BTreeSet::new(),
            passed_on: BTreeSet::new(),
            installed: BTreeMap::new(),
            unmasqueraded: Default::default(),
            unmasqueraded_is_stale: false,
            sessions_are_stale: false,
        }
    }

    /// What has to be watched besides what announcements need.
    pub fn watches() -> Vec<Watch> {
        [Kind::ClusterLink, Kind::EdgeHost, Kind::Node, Kind::PodPool].into_iter().map(Watch::all).collect()
    }

    /// Whether any cluster is linked, or any host outside expected.
    pub fn is_wanted(&self) -> bool {
        !self.links.is_empty() || !self.hosts.is_empty()
    }

    /// The cluster's ASN: declared, or else as the controller has derived it.
    pub fn cluster_asn(&self) -> Option<u32> {
        self.identity().asn
    }

    fn identity(&self) -> Identity {
        Identity::new(self.network.as_ref(), self.effective.asn)
    }

    /// Takes an event in. What is wrong with an object is returned; its last good version stays in force.
    pub fn handle(&mut self, event: &Event) -> Result<(), Vec<Invalid>> {
        match event {
            Event::Synced(_) => Ok(()),
            Event::Applied(object) => self.apply(object),
            Event::Deleted(key, _) => {
                self.delete(key);
                Ok(())
            }
        }
    }

    fn apply(&mut self, object: &Object) -> Result<(), Vec<Invalid>> {
        match object {
            Object::ClusterLink(raw) => {
                let link = Link::check(raw)?;
                if self.links.get(&link.name) == Some(&link) {
                    return Ok(());
                }
                self.links.insert(link.name.clone(), link);
                self.touch_sessions();
            }
            Object::EdgeHost(raw) => {
                let host = EdgeHost::check(raw)?;
                let host = Host { prefix: edge_prefix(&host, raw), host };
                if self.hosts.get(&host.host.name) == Some(&host) {
                    return Ok(());
                }
                let (name, prefix) = (host.host.name.clone(), host.prefix);
                let mut acceptance = acceptance(&host.host.created, Neighbour::Edge(name.clone()), None);
                if let EdgePrefix::FromPool { pool, .. } = &host.host.prefix {
                    acceptance.carved_from = Some(Holding::PodPool(pool.clone()));
                }
                self.accept(
                    Neighbour::Edge(name.clone()),
                    prefix.map(|prefix| (prefix, acceptance)).into_iter().collect(),
                );
                self.hosts.insert(name, host);
                self.touch_sessions();
            }
            Object::Node(raw) => {
                let (name, member) = (raw.metadata.name.clone().unwrap_or_default(), Member::new(raw));
                let before = self.members.insert(name.clone(), member);
                // Whether a link leads to a node of ours is read there.
                self.occupy(ObjectKey::from(object), overlap::used_by(object));
                if before.as_ref() != self.members.get(&name) {
                    self.touch_sessions();
                }
            }
            Object::ClusterNetwork(raw) => {
                let now = (Some(Network::check(raw)?), Effective::of(raw));
                if (&self.network, &self.effective) != (&now.0, &now.1) {
                    (self.network, self.effective) = now;
                    self.touch_sessions();
                }
            }
            Object::AddressClaim(claim) => {
                let owner = claim.spec.owners.first().filter(|owner| owner.kind == OwnerKind::Node);
                self.set_block(claim.metadata.name.as_deref(), owner.map(|owner| owner.name.0.clone()));
            }
            _ => {}
        }
        self.occupy(ObjectKey::from(object), overlap::used_by(object));
        Ok(())
    }

    fn delete(&mut self, key: &ObjectKey) {
        self.occupy(key.clone(), Vec::new());
        match key.kind {
            Kind::ClusterLink => {
                self.links.remove(&key.name);
                self.accept(Neighbour::Link(key.name.clone()), Vec::new());
                self.touch_sessions();
            }
            Kind::EdgeHost => {
                self.hosts.remove(&key.name);
                self.accept(Neighbour::Edge(key.name.clone()), Vec::new());
                self.touch_sessions();
            }
            Kind::Node => {
                self.members.remove(&key.name);
                self.touch_sessions();
            }
            Kind::ClusterNetwork if key.name == Network::NAME => {
                (self.network, self.effective) = (None, Effective::default());
                self.touch_sessions();
            }
            Kind::AddressClaim => {
                self.set_block(Some(&key.name), None);
            }
            _ => {}
        }
    }

    /// Which node has a block, by the claim's name.
    fn set_block(&mut self, claim: Option<&str>, node: Option<String>) {
        let Some(net) = claim.and_then(ClaimName::net).filter(|net| net.prefix_len() < net.max_prefix_len()) else {
            return;
        };
        let before = match node.clone() {
            Some(node) => self.blocks.insert(net, node),
            None => self.blocks.remove(&net),
        };
        if before != node {
            self.touch_exports();
        }
    }

    /// The networks that this node is directly connected to, each with its interface.
    pub fn set_connected(&mut self, connected: &BTreeSet<(IpNet, String)>) {
        let node = self.node.clone();
        let holding = |interface: &String| Holding::Connected { node: node.clone(), interface: interface.clone() };
        let used = connected.iter().map(|(net, interface)| (AddressRange::from(*net), holding(interface))).collect();
        // Under the name of the report that tells others of it.
        let key = ObjectKey { kind: Kind::NodeReport, namespace: String::new(), name: self.node.clone() };
        self.occupy(key, used);
    }

    /// What an object stands for in the border from now on.
    fn occupy(&mut self, key: ObjectKey, used: Vec<(AddressRange, Holding)>) {
        let before = self.used.remove(&key).unwrap_or_default();
        if before == used {
            if !used.is_empty() {
                self.used.insert(key, used);
            }
            return;
        }
        for (range, holding) in before {
            self.border.own_mut().remove_range(range, &holding.ours());
            self.rejudge(range);
        }
        for (range, holding) in &used {
            self.border.own_mut().insert_range(*range, &holding.clone().ours());
            self.rejudge(*range);
        }
        if !used.is_empty() {
            self.used.insert(key, used);
        }
    }

    /// What a neighbour may announce from now on.
    fn accept(&mut self, neighbour: Neighbour, accepted: Vec<(IpNet, Acceptance)>) {
        let before = self.accepted.remove(&neighbour).unwrap_or_default();
        for (net, acceptance) in &before {
            self.border.neighbours_mut().remove(*net, acceptance);
            self.rejudge((*net).into());
        }
        for (net, acceptance) in &accepted {
            self.border.neighbours_mut().insert(*net, acceptance.clone());
            self.rejudge((*net).into());
        }
        if !accepted.is_empty() {
            self.accepted.insert(neighbour, accepted);
        }
    }

    /// What links accept, those that are in force: the others stand in nobody's way.
    fn accept_links(&mut self) {
        let verdicts = overlap::links_in_force(self.links.values(), &self.identity(), self.border.own());
        let in_force = |link: &Link| verdicts.get(&link.name).is_some_and(Result::is_ok);
        let accepted = |link: &Link| {
            let from = Neighbour::Link(link.name.clone());
            let accept = |(class, within): &(kinds::RouteClass, IpNet)| {
                (*within, acceptance(&link.created, from.clone(), Some(*class)))
            };
            let accepted = if in_force(link) { link.accept.iter().map(accept).collect() } else { Vec::new() };
            (from, accepted)
        };
        let all: Vec<(Neighbour, Vec<(IpNet, Acceptance)>)> = self.links.values().map(accepted).collect();
        for (from, accepted) in all {
            if self.accepted.get(&from).map_or(&[][..], Vec::as_slice) != accepted {
                self.accept(from, accepted);
            }
        }
    }

    fn rejudge(&mut self, range: AddressRange) {
        for net in overlap::prefixes(range) {
            self.unjudged.extend(self.learned_where.overlaps(net).map(|held| held.prefix));
        }
    }

    fn touch_sessions(&mut self) {
        self.sessions_are_stale = true;
        self.accept_links();
        // Who tells, and to whom, may have changed with it.
        self.touch_exports();
        self.passed_on.extend(self.learned.keys());
        self.unjudged.extend(self.learned.keys());
    }

    fn touch_exports(&mut self) {
        self.unmasqueraded_is_stale = true;
        self.untold.extend(self.told.keys().cloned());
    }

    /// Whether the sessions may have changed since this was last asked.
    pub fn take_stale_sessions(&mut self) -> bool {
        std::mem::take(&mut self.sessions_are_stale)
    }

    /// The sessions that the engine has now. A new one is told everything.
    pub fn set_sessions<'a>(&mut self, keys: impl Iterator<Item = &'a PeerKey>) {
        let now: BTreeSet<&PeerKey> = keys.filter(|key| Counterpart::of(key).is_some()).collect();
        self.told.retain(|key, _| now.contains(key));
        self.own.retain(|key, _| now.contains(key));
        for key in now {
            if !self.told.contains_key(key) {
                self.told.insert(key.clone(), BTreeMap::new());
                self.untold.insert(key.clone());
            }
        }
    }

    /// The engine knows nothing of what was told on this session: it is new there.
    pub fn renew_session(&mut self, key: &PeerKey) {
        if let Some(told) = self.told.get_mut(key) {
            told.clear();
            self.untold.insert(key.clone());
        }
    }

    /// What has changed since this was last asked.
    pub fn changes(&mut self) -> LinkChanges {
        let kernel = self.judge();
        self.unmasqueraded_is_stale |= !kernel.is_empty();
        LinkChanges { routes: self.announce(), kernel }
    }

    /// Whether some other cluster keeps our routes over a restart: then its routes stay here too.
    pub fn survive_restart(&self) -> bool {
        self.links.values().any(|link| link.graceful_restart.is_some())
    }

    /// Between whom source addresses are kept, if that has changed since it was last asked: our pods, and what is accepted now.
    pub fn new_unmasqueraded(&mut self) -> Option<(BTreeSet<IpNet>, BTreeSet<IpNet>)> {
        if !std::mem::take(&mut self.unmasqueraded_is_stale) {
            return None;
        }
        let of_nodes = self.members.values().flat_map(|member| member.pod_cidrs.iter().copied());
        let sources = of_nodes.chain(self.blocks.keys().copied()).collect();
        let now = (sources, self.installed.keys().copied().collect());
        let has_none = |(_, destinations): &(BTreeSet<IpNet>, BTreeSet<IpNet>)| destinations.is_empty();
        // Nothing was ever said: what a former run has left stays until it is known what is accepted.
        if now == self.unmasqueraded || (has_none(&now) && has_none(&self.unmasqueraded)) {
            return None;
        }
        self.unmasqueraded.clone_from(&now);
        Some(now)
    }

    fn link_in_use(&self, name: &str) -> Option<&Link> {
        self.links.get(name).filter(|link| link.mode == LinkMode::Active)
    }
}

impl Effective {
    fn of(raw: &kinds::ClusterNetwork) -> Self {
        let Some(status) = &raw.status else { return Self::default() };
        let service_cidrs = status.service_cidrs.iter().filter_map(|text| text.0.parse().ok()).collect();
        Self { asn: status.asn.and_then(|asn| u32::try_from(asn.0).ok()), service_cidrs }
    }
}

fn acceptance(created: &str, from: Neighbour, class: Option<kinds::RouteClass>) -> Acceptance {
    Acceptance { created: created.to_owned(), from, class, carved_from: None }
}

/// Its own, or what the controller has claimed for it.
fn edge_prefix(host: &EdgeHost, raw: &kinds::EdgeHost) -> Option<IpNet> {
    match &host.prefix {
        EdgePrefix::Given(prefix) => Some(*prefix),
        EdgePrefix::FromPool { .. } => raw.status.as_ref()?.prefix.as_ref()?.0.parse().ok(),
    }
}
