//! What the store knows that concerns pods' addresses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;
use roadstead_api::checked::{ClaimName, Labels, Network, PodPool, Pool, pools_in_force};
use roadstead_api::kinds::{AddressClaim, OwnerKind};
use roadstead_api::kubernetes;
use roadstead_api::store::{Event, Kind, Object, ObjectKey, Watch};

use super::blocks::OwnBlock;
use super::book::{Book, Pod};
use super::kept::PodsClaim;
use super::record::ClaimVersion;

/// See the module's essay.
pub(super) struct World {
    node: String,
    unsynced: BTreeSet<Kind>,
    pod_pools: BTreeMap<String, PodPool>,
    address_pools: BTreeMap<String, Pool>,
    pods: HashMap<(String, String), KnownPod>,
    namespaces: HashMap<String, (Labels, Labels)>,
    node_addresses: BTreeSet<IpAddr>,
    node_uid: Option<String>,
    network: Option<Network>,
    /// Claims of single addresses that this node has made, with the UIDs of their owners.
    own_claims: BTreeMap<IpAddr, (Vec<String>, ClaimVersion)>,
}

#[derive(Clone)]
struct KnownPod {
    uid: String,
    labels: Labels,
    annotations: Labels,
    is_finished: bool,
    is_of_stateful_set: bool,
}

impl World {
    pub(super) fn new(node: &str, watches: &[Watch]) -> Self {
        let of_routes = [Kind::AddressPool, Kind::AddressClaim, Kind::Node, Kind::ClusterNetwork];
        let unsynced = watches.iter().map(|watch| watch.kind).chain(of_routes);
        Self {
            node: node.to_owned(),
            unsynced: unsynced.collect(),
            pod_pools: BTreeMap::new(),
            address_pools: BTreeMap::new(),
            pods: HashMap::new(),
            namespaces: HashMap::new(),
            node_addresses: BTreeSet::new(),
            node_uid: None,
            network: None,
            own_claims: BTreeMap::new(),
        }
    }

    /// The UID of the Node object; `None`: there is none.
    pub(super) fn node_uid(&self) -> Option<&str> {
        self.node_uid.as_deref()
    }

    /// Who the cluster is, where that is said.
    pub(super) fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// All pools for pods.
    pub(super) fn pod_pools(&self) -> impl Iterator<Item = &PodPool> {
        self.pod_pools.values()
    }

    /// Claims of single addresses that this node has made, with the UIDs of their owners.
    pub(super) fn own_claims(&self) -> &BTreeMap<IpAddr, (Vec<String>, ClaimVersion)> {
        &self.own_claims
    }

    /// The kinds that are not complete yet: no address is given before there are none.
    pub(super) fn unsynced(&self) -> &BTreeSet<Kind> {
        &self.unsynced
    }

    /// A pod of this node, with its namespace.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<Pod> {
        let pod = self.pods.get(&(namespace.to_owned(), name.to_owned()))?;
        let (labels, annotations) = self.namespaces.get(namespace).cloned().unwrap_or_default();
        Some(Pod {
            uid: pod.uid.clone(),
            labels: pod.labels.clone(),
            annotations: pod.annotations.clone(),
            namespace: namespace.to_owned(),
            namespace_labels: labels,
            namespace_annotations: annotations,
            is_of_stateful_set: pod.is_of_stateful_set,
        })
    }

    /// Whether a pod of this UID is on this node and not at its end.
    pub(super) fn is_alive(&self, uid: &str) -> bool {
        self.pods.values().any(|pod| pod.uid == uid && !pod.is_finished)
    }

    /// Takes an event in, and tells the book what it should know of it. Returns whether somebody may have waited for it.
    pub(super) fn handle(&mut self, event: &Event, book: &mut Book, lost_blocks: &mut BTreeSet<IpNet>) -> bool {
        match event {
            Event::Synced(kind) => {
                let news = self.unsynced.remove(kind);
                self.judge(book);
                news
            }
            Event::Applied(object) => {
                if let Object::AddressClaim(claim) = object {
                    return self.set_claim(claim, book, lost_blocks);
                }
                self.apply(object, book)
            }
            Event::Deleted(key, _) => {
                if let Some(net) = ClaimName::net(&key.name).filter(|_| key.kind == Kind::AddressClaim) {
                    lost_blocks.remove(&net);
                }
                self.delete(key, book)
            }
        }
    }

    fn apply(&mut self, object: &Object, book: &mut Book) -> bool {
        match object {
            Object::PodPool(raw) => match PodPool::check(raw) {
                Ok(pool) => {
                    book.set_pool(&pool.name, Some(pool.clone()));
                    self.pod_pools.insert(pool.name.clone(), pool);
                    self.judge(book);
                }
                Err(invalid) => {
                    for invalid in invalid {
                        tracing::warn!("{invalid}; its last good version stays in force");
                    }
                    return false;
                }
            },
            Object::AddressPool(raw) => {
                // What is wrong with one is said where Services get their addresses.
                let Ok(pool) = Pool::check(raw) else { return false };
                self.address_pools.insert(pool.name.clone(), pool);
                self.judge(book);
            }
            Object::Pod(pod) => self.set_pod(pod),
            Object::Namespace(namespace) => {
                let metadata = &namespace.metadata;
                let of = |labels: &Option<Labels>| labels.clone().unwrap_or_default();
                let known = (of(&metadata.labels), of(&metadata.annotations));
                self.namespaces.insert(metadata.name.clone().unwrap_or_default(), known);
            }
            Object::Node(node) if node.metadata.name.as_deref() == Some(&self.node) => {
                let addresses: BTreeSet<IpAddr> = node.internal_addresses().collect();
                book.set_node_labels(node.metadata.labels.clone().unwrap_or_default());
                self.node_uid = node.metadata.uid.clone();
                self.set_node_addresses(addresses, book);
            }
            Object::ClusterNetwork(raw) => {
                let Ok(network) = Network::check(raw) else { return false };
                self.network = Some(network);
                self.judge(book);
            }
            _ => return false,
        }
        true
    }

    fn delete(&mut self, key: &ObjectKey, book: &mut Book) -> bool {
        match key.kind {
            Kind::PodPool => {
                self.pod_pools.remove(&key.name);
                book.set_pool(&key.name, None);
                self.judge(book);
            }
            Kind::AddressPool => {
                self.address_pools.remove(&key.name);
                self.judge(book);
            }
            Kind::Pod => drop(self.pods.remove(&(key.namespace.clone(), key.name.clone()))),
            Kind::Namespace => drop(self.namespaces.remove(&key.name)),
            Kind::Node if key.name == self.node => {
                self.node_uid = None;
                self.set_node_addresses(BTreeSet::new(), book);
            }
            Kind::ClusterNetwork if key.name == Network::NAME => {
                self.network = None;
                self.judge(book);
            }
            Kind::AddressClaim => {
                if let Some(address) = ClaimName::address(&key.name) {
                    self.own_claims.remove(&address);
                    book.set_pods_claim(address, None);
                    book.set_others_claim(address, false);
                    book.set_foreign(address, self.node_addresses.contains(&address));
                } else if let Some(net) = ClaimName::net(&key.name) {
                    book.forget_block(net);
                }
            }
            _ => return false,
        }
        true
    }

    fn set_pod(&mut self, pod: &kubernetes::Pod) {
        let metadata = &pod.metadata;
        let key = (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
        let known = KnownPod {
            uid: metadata.uid.clone().unwrap_or_default(),
            labels: metadata.labels.clone().unwrap_or_default(),
            annotations: metadata.annotations.clone().unwrap_or_default(),
            is_finished: pod.is_over(),
            is_of_stateful_set: pod.stateful_set().is_some(),
        };
        self.pods.insert(key, known);
    }

    fn set_node_addresses(&mut self, addresses: BTreeSet<IpAddr>, book: &mut Book) {
        for gone in self.node_addresses.difference(&addresses) {
            book.set_foreign(*gone, false);
        }
        for address in &addresses {
            book.set_foreign(*address, true);
        }
        self.node_addresses = addresses;
    }

    /// Of two pools that overlap the older is in force, on every node alike. Nobody asks before all pools are known.
    fn judge(&self, book: &mut Book) {
        if [Kind::PodPool, Kind::AddressPool].iter().any(|kind| self.unsynced.contains(kind)) {
            return;
        }
        let judged = pools_in_force(self.pod_pools.values(), self.address_pools.values(), self.network.as_ref());
        let overlaps =
            judged.pod_pools.into_iter().filter_map(|(name, verdict)| Some((name, verdict.err()?.to_string())));
        book.set_verdicts(overlaps.collect(), judged.contested);
    }

    /// A claim tells whose an address or a block is: another's, ours, or that of a node that is taken for lost.
    fn set_claim(&mut self, claim: &AddressClaim, book: &mut Book, lost_blocks: &mut BTreeSet<IpNet>) -> bool {
        let Some(net) = claim.metadata.name.as_deref().and_then(ClaimName::net) else { return false };
        let is_here = claim.spec.node_name.as_ref().is_some_and(|node| node.0 == self.node);
        let version = ClaimVersion::of(claim);
        if net.prefix_len() == net.max_prefix_len() {
            let address = net.addr();
            let owners = &claim.spec.owners;
            book.set_pods_claim(address, PodsClaim::read(claim).map(|(_, claim)| claim));
            let is_kept = claim.spec.kept.is_some();
            if is_here && !is_kept {
                self.own_claims.insert(address, (owners.iter().map(|owner| owner.uid.clone()).collect(), version));
            }
            if is_kept || !is_here {
                self.own_claims.remove(&address);
            }
            let is_ours = !is_kept && owners.iter().any(|owner| book.has_address_of(&owner.uid, address));
            book.set_others_claim(address, !is_ours && !is_here);
            // Those of Services are from other pools.
            if owners.iter().all(|owner| owner.kind == OwnerKind::Service) && !owners.is_empty() {
                return false;
            }
            book.set_foreign(address, !is_ours);
            return true;
        }
        let is_marked = claim.spec.released.is_some();
        if is_here {
            let block = OwnBlock { is_marked, ..OwnBlock::confirmed(&claim.spec.pool.0, version) };
            book.set_own_block(Instant::now(), net, block);
        } else {
            book.set_foreign_block(net);
            if is_marked {
                lost_blocks.insert(net);
            } else {
                lost_blocks.remove(&net);
            }
        }
        true
    }
}
