//! What the store knows that concerns pods' addresses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use roadstead_api::checked::{ClaimName, Labels, PodPool, Pool, pools_in_force};
use roadstead_api::kinds::{AddressClaim, OwnerKind};
use roadstead_api::kubernetes;
use roadstead_api::store::{Event, Kind, Object, ObjectKey, Watch};

use super::book::{Book, Pod};

/// See the module's essay.
pub(super) struct World {
    unsynced: BTreeSet<Kind>,
    pod_pools: BTreeMap<String, PodPool>,
    address_pools: BTreeMap<String, Pool>,
    pods: HashMap<(String, String), KnownPod>,
    namespaces: HashMap<String, (Labels, Labels)>,
    node_addresses: BTreeSet<IpAddr>,
}

#[derive(Clone)]
struct KnownPod {
    uid: String,
    labels: Labels,
    annotations: Labels,
    is_finished: bool,
}

impl World {
    pub(super) fn new(watches: &[Watch]) -> Self {
        let unsynced =
            watches.iter().map(|watch| watch.kind).chain([Kind::AddressPool, Kind::AddressClaim, Kind::Node]);
        Self {
            unsynced: unsynced.collect(),
            pod_pools: BTreeMap::new(),
            address_pools: BTreeMap::new(),
            pods: HashMap::new(),
            namespaces: HashMap::new(),
            node_addresses: BTreeSet::new(),
        }
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
        })
    }

    /// Whether a pod of this UID is on this node and not at its end.
    pub(super) fn is_alive(&self, uid: &str) -> bool {
        self.pods.values().any(|pod| pod.uid == uid && !pod.is_finished)
    }

    /// Takes an event in, and tells the book what it should know of it. Returns whether somebody may have waited for it.
    pub(super) fn handle(&mut self, event: &Event, book: &mut Book) -> bool {
        match event {
            Event::Synced(kind) => {
                let news = self.unsynced.remove(kind);
                self.judge(book);
                news
            }
            Event::Applied(object) => self.apply(object, book),
            Event::Deleted(key, _) => self.delete(key, book),
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
            Object::Node(node) => {
                let addresses: BTreeSet<IpAddr> = node.internal_addresses().collect();
                book.set_node_labels(node.metadata.labels.clone().unwrap_or_default());
                self.set_node_addresses(addresses, book);
            }
            Object::AddressClaim(claim) => return set_claim(claim, book),
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
            Kind::Node => self.set_node_addresses(BTreeSet::new(), book),
            Kind::AddressClaim => {
                if let Some(address) = ClaimName::address(&key.name) {
                    book.set_foreign(address, self.node_addresses.contains(&address));
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
        let verdicts = pools_in_force(self.pod_pools.values(), self.address_pools.values()).pod_pools;
        let overlaps = verdicts.into_iter().filter_map(|(name, verdict)| Some((name, verdict.err()?.to_string())));
        book.set_overlaps(overlaps.collect());
    }
}

/// A claim of a pod on another node takes its address out of what this one may give.
fn set_claim(claim: &AddressClaim, book: &mut Book) -> bool {
    let Some(address) = claim.metadata.name.as_deref().and_then(ClaimName::address) else { return false };
    let mut owners = claim.spec.owners.iter();
    // Those of Services are from other pools.
    if owners.clone().all(|owner| owner.kind == OwnerKind::Service) && !claim.spec.owners.is_empty() {
        return false;
    }
    let is_ours = owners.any(|owner| book.has_owner(&owner.uid));
    book.set_foreign(address, !is_ours);
    true
}
