//! What this cluster uses, whom it is joined with, and what is said of that.
//!
//! One [`Territory`] is kept as objects come and go: a change costs that object's prefixes. From it come the ranges in effect of the
//! `ClusterNetwork` ([`network`]), and the verdicts on links and edge hosts ([`links`]). Pure, like the plan: what is told goes in,
//! what shall be written comes out of [`Clusters::poll_write`], for each object at most once a second.

mod links;
mod network;

use std::collections::BTreeMap;
use std::time::Instant;

use ipnet::IpNet;
use roadstead_api::checked::{AddressRange, ClaimName, EdgeHost, Link, Network};
use roadstead_api::kinds::{ClusterLinkStatus, ClusterNetworkStatus, EdgeHostStatus, OwnerKind};
use roadstead_api::overlap::{Holding, Identity, Territory, declared, derived_asn, used_by};
use roadstead_api::store::{Kind, Object, ObjectKey, Status};

use crate::conditions::NodeState;
use crate::judged::Judged;
use crate::plan::Now;
use links::{HostReport, LinkState};
use network::NetworkReport;

/// The namespace by whose UID a cluster is told from others.
const CLUSTER_NAMESPACE: &str = "kube-system";

/// What is known of this cluster and of those that it is joined with.
#[derive(Debug, Default)]
pub(crate) struct Clusters {
    own: Territory,
    /// What each object has put into `own`.
    held: BTreeMap<ObjectKey, Vec<(AddressRange, Holding)>>,
    /// Of the namespace `kube-system`.
    uid: Option<String>,
    network: Option<Judged<Network, NetworkReport>>,
    links: BTreeMap<String, Judged<Link, LinkState>>,
    hosts: BTreeMap<String, Judged<EdgeHost, HostReport>>,
    /// What was allocated to edge hosts, by the host's name.
    allocated: BTreeMap<String, IpNet>,
    synced: bool,
}

/// A status to be written.
#[derive(Debug)]
pub(crate) struct StatusWrite {
    kind: Kind,
    name: String,
    status: Status,
}

impl StatusWrite {
    /// The kind for metrics, the object's name, and the status.
    pub(crate) fn parts(&self) -> (&'static str, &str, Status) {
        let metric = match self.kind {
            Kind::ClusterNetwork => "cluster_network_status",
            Kind::ClusterLink => "cluster_link_status",
            _ => "edge_host_status",
        };
        (metric, &self.name, self.status.clone())
    }
}

impl Clusters {
    /// Takes note of an object; those that tell nothing about addresses are passed over.
    pub(crate) fn apply(&mut self, object: &Object) {
        let key = ObjectKey::from(object);
        match object {
            Object::Namespace(raw) if key.name == CLUSTER_NAMESPACE => {
                self.uid.clone_from(&raw.metadata.uid);
                return self.touch(true);
            }
            Object::ClusterNetwork(raw) => {
                let stored = raw.status.as_ref().and_then(NetworkReport::of);
                let network = self.network.get_or_insert_default();
                network.apply(Network::check(raw), raw.metadata.generation, stored);
                // What is wrong leaves the last good version in force.
                let held = network.object.good.as_ref().map(declared).unwrap_or_default();
                return self.hold(key, held);
            }
            Object::ClusterLink(raw) => {
                let stored = raw.status.as_ref().and_then(LinkState::of);
                let link = self.links.entry(key.name).or_default();
                link.apply(Link::check(raw), raw.metadata.generation, stored);
                return self.touch(false);
            }
            Object::EdgeHost(raw) => {
                let stored = raw.status.as_ref().and_then(HostReport::of);
                let host = self.hosts.entry(key.name.clone()).or_default();
                host.apply(EdgeHost::check(raw), raw.metadata.generation, stored);
                if !host.object.invalid.is_empty() {
                    return self.touch(false);
                }
            }
            Object::AddressClaim(raw) => {
                let owner = raw.spec.owners.first().filter(|owner| owner.kind == OwnerKind::EdgeHost);
                if let (Some(owner), Some(net)) = (owner, ClaimName::net(&key.name)) {
                    self.allocated.insert(owner.name.0.clone(), net);
                }
            }
            Object::AddressPool(_)
            | Object::PodPool(_)
            | Object::ServiceCidr(_)
            | Object::Node(_)
            | Object::NodeReport(_) => {}
            _ => return,
        }
        self.hold(key, used_by(object));
    }

    /// Takes note that an object is gone.
    pub(crate) fn delete(&mut self, key: &ObjectKey) {
        let was_judged_by = match key.kind {
            Kind::Namespace if key.name == CLUSTER_NAMESPACE => self.uid.take().is_some(),
            Kind::ClusterNetwork if key.name == Network::NAME => self.network.take().is_some(),
            Kind::ClusterLink => self.links.remove(&key.name).is_some(),
            Kind::EdgeHost => self.hosts.remove(&key.name).is_some(),
            Kind::AddressClaim => {
                self.allocated.retain(|_, net| ClaimName::from(*net).as_str() != key.name);
                false
            }
            _ => false,
        };
        self.hold(key.clone(), Vec::new());
        if was_judged_by {
            self.touch(true);
        }
    }

    /// Whether there are objects that tell where ClusterIPs come from.
    pub(crate) fn has_service_cidrs(&self) -> bool {
        self.held.keys().any(|key| key.kind == Kind::ServiceCidr)
    }

    /// Takes note of what the API server says of that by itself.
    pub(crate) fn set_service_ranges(&mut self, ranges: Vec<IpNet>) {
        let key = ObjectKey { kind: Kind::ServiceCidr, namespace: String::new(), name: String::new() };
        self.hold(key, ranges.into_iter().map(|net| (net.into(), Holding::ServiceRange)).collect());
    }

    /// A node's report has changed: links and edge hosts have their sessions from there.
    pub(crate) fn handle_report(&mut self) {
        self.touch_links();
    }

    /// Everything that exists was told.
    pub(crate) fn handle_synced(&mut self) {
        self.synced = true;
    }

    /// Puts what an object uses in the place of what it used.
    fn hold(&mut self, key: ObjectKey, now: Vec<(AddressRange, Holding)>) {
        let is_single = key.kind == Kind::AddressClaim && ClaimName::address(&key.name).is_some();
        let before = if now.is_empty() { self.held.remove(&key) } else { self.held.insert(key, now.clone()) };
        let before = before.unwrap_or_default();
        if before == now {
            return;
        }
        for (range, holding) in now {
            self.own.insert_range(range, &holding.ours());
        }
        for (range, holding) in before {
            self.own.remove_range(range, &holding.ours());
        }
        self.touch(!is_single);
    }

    /// Single addresses lie in ranges that the network's status tells of.
    fn touch(&mut self, is_network: bool) {
        if let Some(network) = self.network.as_mut().filter(|_| is_network) {
            network.status.touch();
        }
        self.touch_links();
    }

    fn touch_links(&mut self) {
        self.links.values_mut().for_each(|link| link.status.touch());
        self.hosts.values_mut().for_each(|host| host.status.touch());
    }

    fn identity(&self) -> Identity {
        let network = self.network.as_ref().and_then(|network| network.object.good.as_ref());
        Identity::new(network, self.uid.as_deref().and_then(derived_asn))
    }

    /// The next status to be written; `edge_refusal` tells why the plan has no prefix for an edge host.
    pub(crate) fn poll_write(
        &mut self,
        now: Now,
        nodes: &BTreeMap<String, NodeState>,
        edge_refusal: impl Fn(&str) -> Option<String>,
    ) -> Option<StatusWrite> {
        if !self.synced {
            return None;
        }
        let this = self.identity();
        if let Some(Judged { object, status }) = &mut self.network {
            let found =
                status.poll(now.instant, |stored| network::find(object, &this, &self.held, &self.own, stored, now));
            if let Some(found) = found {
                let status = Status::ClusterNetwork(ClusterNetworkStatus::from(&found));
                return Some(StatusWrite { kind: Kind::ClusterNetwork, name: Network::NAME.to_owned(), status });
            }
        }
        // Every event of the store comes by here.
        let is_due = self.links.values().any(|link| link.status.is_due(now.instant))
            || self.hosts.values().any(|host| host.status.is_due(now.instant));
        if !is_due {
            return None;
        }
        let all: Vec<Link> = self.links.values().filter_map(|link| link.object.good.clone()).collect();
        let hosts = self.hosts.iter().filter_map(|(name, host)| Some((name, host.object.good.as_ref()?)));
        let hosts = hosts.map(|(name, host)| (name.clone(), host.created.clone())).collect();
        let world = links::World::new(&all, &this, &self.own, &hosts, nodes);
        for (name, Judged { object, status }) in &mut self.links {
            if let Some(found) = status.poll(now.instant, |stored| world.link(name, object, stored, now)) {
                let status = Status::ClusterLink(ClusterLinkStatus::from(&found));
                return Some(StatusWrite { kind: Kind::ClusterLink, name: name.clone(), status });
            }
        }
        for (name, Judged { object, status }) in &mut self.hosts {
            let allocated = self.allocated.get(name).copied().ok_or_else(|| edge_refusal(name));
            if let Some(found) = status.poll(now.instant, |stored| world.host(name, object, allocated, stored, now)) {
                let status = Status::EdgeHost(EdgeHostStatus::from(&found));
                return Some(StatusWrite { kind: Kind::EdgeHost, name: name.clone(), status });
            }
        }
        None
    }

    /// Takes note of how a write ended.
    pub(crate) fn finish(&mut self, now: Now, write: &StatusWrite, done: bool) {
        match write.kind {
            Kind::ClusterNetwork => {
                if let Some(network) = &mut self.network {
                    network.status.finish(done, now.instant);
                }
            }
            Kind::ClusterLink => {
                if let Some(link) = self.links.get_mut(&write.name) {
                    link.status.finish(done, now.instant);
                }
            }
            _ => {
                if let Some(host) = self.hosts.get_mut(&write.name) {
                    host.status.finish(done, now.instant);
                }
            }
        }
    }

    /// When [`Clusters::poll_write`] has something to look at again.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let network = self.network.iter().filter_map(|network| network.status.next_deadline());
        let links = self.links.values().filter_map(|link| link.status.next_deadline());
        let hosts = self.hosts.values().filter_map(|host| host.status.next_deadline());
        network.chain(links).chain(hosts).min()
    }
}

#[cfg(test)]
mod tests;
