//! What this node wants announced, to whom and with which attributes: a function of Services, EndpointSlices, this Node, pools,
//! claims and advertisements, kept incrementally.
//!
//! The state is three layers, and a change costs what lies above it:
//!
//! ```text
//!  Service ----(addresses it may announce)---> Advertisement: prefix -> how many addresses want it ---> peers it selects
//!  endpoints, claims, traffic policy           pools, labels, aggregation                               attributes merged
//! ```
//!
//! One Service changing costs its own prefixes; a prefix that two Services share stays while either wants it, because each
//! advertisement counts. Changes of the node, a pool or an advertisement's selectors go over all Services once; they are rare.
//! [`Intent::changes`] gives what changed since it was last asked, as announcements and withdrawals by peer.
//!
//! Prefixes of pods are a second kind of source beside Services: blocks and addresses that this node has, told as they are.
//!
//! An address is announced only under a claim of that very Service (by UID): what somebody else wrote into a status is theirs.
//! Several advertisements of one prefix to one peer are one route: communities are united, the highest local preference, the lowest
//! MED, the fewest prepends and the most bandwidth count.
//!
//! Where an advertisement asks for link bandwidth per endpoint, each address brings the number of endpoints that packets to it go
//! to from this node, and a prefix has the sum of its addresses. A Service whose endpoints change brings another number, and that
//! costs its own prefixes as everything else. Of Services that share an address each brings its own endpoints: they have different
//! ports, and so different packets. Under policy Cluster every node sends to all endpoints, so all nodes say the same and get equal
//! shares, as the packets are spread over all endpoints by whichever node they come to.
//!
//! Pure: no clock, no socket, no Kubernetes.

mod endpoints;
mod route;
mod silence;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use roadstead_api::checked::{Advertisement, Bandwidth, Labels, ServiceKey, TrafficPolicy};
use roadstead_bgp::{PeerKey, RouteAttributes, RouteChange};

pub use endpoints::{EndpointState, SliceEndpoints, SliceFamily};
pub use silence::Silence;

use endpoints::ServiceEndpoints;
use route::Route;

/// The state of this node's wish; see the module's essay.
#[derive(Default)]
pub struct Intent {
    node: Option<NodeView>,
    peers: BTreeMap<PeerKey, Audience>,
    pools: BTreeMap<String, Labels>,
    claims: BTreeMap<IpAddr, ClaimView>,
    advertisements: BTreeMap<String, Announcing>,
    services: BTreeMap<ServiceKey, ServiceState>,
    /// Prefixes of pods, each with its pool.
    pods: BTreeMap<IpNet, PodPrefix>,
    pod_pools: BTreeMap<String, Labels>,
    /// The owner of each claimed address, so that a claim that changes finds the Services that it concerns.
    by_uid: BTreeMap<String, ServiceKey>,
    dirty_services: BTreeSet<ServiceKey>,
    dirty_pods: BTreeSet<IpNet>,
    dirty_prefixes: BTreeMap<PeerKey, BTreeSet<IpNet>>,
}

/// This node, as far as announcements depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its labels.
    pub labels: Labels,
    /// False: nothing is announced from it (excluded from load balancers, or its network is unavailable).
    pub may_announce: bool,
}

/// A Service of type LoadBalancer, as far as announcements depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// Its UID, which its claims name.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
    /// Whether only nodes with endpoints announce it.
    pub traffic_policy: TrafficPolicy,
    /// The addresses in its status.
    pub addresses: Vec<IpAddr>,
}

/// Whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimView {
    /// The pool that it came from.
    pub pool: String,
    /// The UIDs of its owners.
    pub owners: BTreeSet<String>,
}

/// To whom a session leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// A router: advertisements select it by its name or these labels.
    Router(Labels),
    /// Another cluster, or a host outside: it is told of one advertisement alone, that of its own which has this name.
    Own(String),
}

impl Audience {
    fn hears(&self, peer: &PeerKey, name: &str, advertisement: &Advertisement) -> bool {
        match self {
            // An object's name has no slash.
            Self::Router(labels) => !name.contains('/') && advertisement.selects_peer(peer.as_str(), labels),
            Self::Own(own) => own == name,
        }
    }
}

struct Announcing {
    advertisement: Advertisement,
    attributes: Route,
    prefixes: BTreeMap<IpNet, Wanted>,
}

/// Why a prefix is announced.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Wanted {
    /// So many addresses want it.
    addresses: u32,
    /// So many endpoints are behind them; zero unless the advertisement asks for bandwidth per endpoint.
    endpoints: u32,
}

/// What one address of a Service adds to an advertisement.
#[derive(Clone, PartialEq, Eq)]
struct Contribution {
    advertisement: String,
    prefix: IpNet,
    endpoints: u32,
}

/// A prefix of pods.
#[derive(Default)]
struct PodPrefix {
    /// `None`: it is not to be told any more.
    pool: Option<String>,
    contributes: Vec<Contribution>,
}

#[derive(Default)]
struct ServiceState {
    view: Option<ServiceView>,
    endpoints: ServiceEndpoints,
    /// What it contributes at present, once for each address.
    contributes: Vec<Contribution>,
}

impl Intent {
    /// This node; `None` as long as, or since, it does not exist.
    pub fn set_node(&mut self, node: Option<NodeView>) {
        if self.node != node {
            self.node = node;
            self.reconsider_all();
        }
    }

    /// A peer that this node has a session with. Everything that it is to be told is told (again).
    pub fn set_peer(&mut self, key: PeerKey, audience: Audience) {
        if self.peers.get(&key) == Some(&audience) {
            return;
        }
        // What it was told under other labels must be looked at again too.
        self.touch_all_prefixes(&key);
        self.peers.insert(key.clone(), audience);
        self.touch_all_prefixes(&key);
    }

    /// The node has no session with the peer any longer; nothing more is said of it.
    pub fn remove_peer(&mut self, key: &PeerKey) {
        self.peers.remove(key);
        self.dirty_prefixes.remove(key);
    }

    /// A pool's labels; `None`: it is gone.
    pub fn set_pool(&mut self, name: &str, labels: Option<Labels>) {
        let changed = match labels {
            Some(labels) => self.pools.insert(name.to_owned(), labels.clone()) != Some(labels),
            None => self.pools.remove(name).is_some(),
        };
        if changed {
            self.reconsider_all();
        }
    }

    /// Whose an address is; `None`: nobody's.
    pub fn set_claim(&mut self, address: IpAddr, claim: Option<ClaimView>) {
        let before = match claim.clone() {
            Some(claim) => self.claims.insert(address, claim),
            None => self.claims.remove(&address),
        };
        if before == claim {
            return;
        }
        for uid in [before, claim].into_iter().flatten().flat_map(|claim| claim.owners) {
            if let Some(key) = self.by_uid.get(&uid) {
                self.dirty_services.insert(key.clone());
            }
        }
    }

    /// An advertisement; `None`: it is gone.
    pub fn set_advertisement(&mut self, name: &str, advertisement: Option<Advertisement>) {
        if self.advertisements.get(name).map(|announcing| &announcing.advertisement) == advertisement.as_ref() {
            return;
        }
        // What it announced so far is looked at again under the new rules, or withdrawn.
        self.touch_advertisement(name);
        let Some(advertisement) = advertisement else {
            self.advertisements.remove(name);
            let services = self.services.values_mut().map(|state| &mut state.contributes);
            for contributes in services.chain(self.pods.values_mut().map(|state| &mut state.contributes)) {
                contributes.retain(|contribution| contribution.advertisement != name);
            }
            return;
        };
        let attributes = Route::from(&advertisement.settings);
        match self.advertisements.get_mut(name) {
            Some(announcing) => {
                announcing.advertisement = advertisement;
                announcing.attributes = attributes;
            }
            None => {
                let announcing = Announcing { advertisement, attributes, prefixes: BTreeMap::new() };
                self.advertisements.insert(name.to_owned(), announcing);
            }
        }
        self.touch_advertisement(name);
        self.reconsider_all();
    }

    /// A Service; `None`: it is gone, or not of type LoadBalancer.
    pub fn set_service(&mut self, key: ServiceKey, view: Option<ServiceView>) {
        if view.is_none() && !self.services.contains_key(&key) {
            return;
        }
        let state = self.services.entry(key.clone()).or_default();
        if state.view == view {
            return;
        }
        if let Some(before) = &state.view {
            self.by_uid.remove(&before.uid);
        }
        if let Some(now) = &view {
            self.by_uid.insert(now.uid.clone(), key.clone());
        }
        state.view = view;
        self.dirty_services.insert(key);
    }

    /// The endpoints in one slice of a Service; `None`: the slice is gone.
    pub fn set_slice(&mut self, service: ServiceKey, slice: &str, endpoints: Option<SliceEndpoints>) {
        if endpoints.is_none() && !self.services.contains_key(&service) {
            return;
        }
        let state = self.services.entry(service.clone()).or_default();
        let before = state.endpoints.summary();
        state.endpoints.set(slice, endpoints);
        if state.endpoints.summary() != before || state.is_forgotten() {
            self.dirty_services.insert(service);
        }
    }

    /// The labels of a pool for pods; `None`: it is gone.
    pub fn set_pod_pool(&mut self, name: &str, labels: Option<Labels>) {
        let changed = match labels {
            Some(labels) => self.pod_pools.insert(name.to_owned(), labels.clone()) != Some(labels),
            None => self.pod_pools.remove(name).is_some(),
        };
        if changed {
            self.dirty_pods.extend(self.pods.keys());
        }
    }

    /// All prefixes of pods that are to be told, each with its pool.
    pub fn set_pods(&mut self, mut wanted: BTreeMap<IpNet, String>) {
        for (net, prefix) in &mut self.pods {
            let pool = wanted.remove(net);
            if prefix.pool != pool {
                prefix.pool = pool;
                self.dirty_pods.insert(*net);
            }
        }
        for (net, pool) in wanted {
            self.pods.insert(net, PodPrefix { pool: Some(pool), contributes: Vec::new() });
            self.dirty_pods.insert(net);
        }
    }

    /// What changed for each peer since this was last asked.
    pub fn changes(&mut self) -> Vec<(PeerKey, Vec<RouteChange>)> {
        for net in std::mem::take(&mut self.dirty_pods) {
            self.reconsider_pods(net);
        }
        for key in std::mem::take(&mut self.dirty_services) {
            self.reconsider(&key);
        }
        let dirty = std::mem::take(&mut self.dirty_prefixes);
        let change = |peer: &PeerKey, prefix: IpNet| match self.route(peer, &prefix) {
            Some(attributes) => RouteChange::Announce(prefix, attributes),
            None => RouteChange::Withdraw(prefix),
        };
        dirty
            .into_iter()
            .map(|(peer, prefixes)| {
                let changes = prefixes.into_iter().map(|prefix| change(&peer, prefix)).collect();
                (peer, changes)
            })
            .collect()
    }

    /// Everything that a peer is to be told, as of the last call of [`Intent::changes`].
    pub fn routes(&self, peer: &PeerKey) -> BTreeMap<IpNet, Arc<RouteAttributes>> {
        let prefixes: BTreeSet<IpNet> = self.advertisements.values().flat_map(|a| a.prefixes.keys().copied()).collect();
        prefixes.into_iter().filter_map(|prefix| Some((prefix, self.route(peer, &prefix)?))).collect()
    }

    /// How many distinct prefixes the node wants announced.
    pub fn prefix_count(&self) -> usize {
        let prefixes: BTreeSet<&IpNet> = self.advertisements.values().flat_map(|a| a.prefixes.keys()).collect();
        prefixes.len()
    }

    /// What a peer is to be told of a prefix: what all advertisements that select it say together.
    fn route(&self, peer: &PeerKey, prefix: &IpNet) -> Option<Arc<RouteAttributes>> {
        let audience = self.peers.get(peer)?;
        let all = self.advertisements.iter().filter(|(name, a)| audience.hears(peer, name, &a.advertisement));
        let routes = all.filter_map(|(_, a)| Some(a.attributes.with_endpoints(a.prefixes.get(prefix)?.endpoints)));
        Route::merge(routes).map(Route::into_attributes)
    }

    /// Brings what one Service contributes up to date.
    fn reconsider(&mut self, key: &ServiceKey) {
        let Some(state) = self.services.get(key) else { return };
        let wanted = self.wanted(state);
        if state.is_forgotten() {
            self.contribute(key, Vec::new());
            self.services.remove(key);
        } else {
            self.contribute(key, wanted);
        }
    }

    /// Brings what a prefix of pods contributes up to date. What keeps a node from announcing Services does not keep it from having
    /// pods.
    fn reconsider_pods(&mut self, net: IpNet) {
        let Some(prefix) = self.pods.get(&net) else { return };
        let mut wanted = Vec::new();
        if let (Some(pool), Some(node)) = (&prefix.pool, &self.node) {
            let labels = self.pod_pools.get(pool);
            for (name, Announcing { advertisement, .. }) in &self.advertisements {
                if advertisement.selects_node(&node.labels) && advertisement.selects_pod_pool(pool, labels) {
                    wanted.push(Contribution { advertisement: name.clone(), prefix: net, endpoints: 0 });
                }
            }
        }
        let Some(prefix) = self.pods.get_mut(&net) else { return };
        let dropped = std::mem::replace(&mut prefix.contributes, wanted.clone());
        if prefix.pool.is_none() {
            self.pods.remove(&net);
        }
        self.count(dropped, wanted);
    }

    fn wanted(&self, state: &ServiceState) -> Vec<Contribution> {
        let (Some(view), Some(node)) = (&state.view, &self.node) else { return Vec::new() };
        if !node.may_announce {
            return Vec::new();
        }
        let endpoints = state.endpoints.summary();
        let mut wanted = Vec::new();
        for address in &view.addresses {
            let endpoints = endpoints.of(*address).reached(view.traffic_policy);
            if endpoints == 0 {
                continue;
            }
            let Some(claim) = self.claims.get(address).filter(|claim| claim.owners.contains(&view.uid)) else {
                continue;
            };
            let pool_labels = self.pools.get(&claim.pool);
            for (name, announcing) in &self.advertisements {
                let advertisement = &announcing.advertisement;
                if advertisement.selects_node(&node.labels)
                    && advertisement.selects(&claim.pool, pool_labels, &view.labels)
                {
                    wanted.push(Contribution {
                        advertisement: name.clone(),
                        prefix: advertisement.prefix_of(*address),
                        endpoints: if counts_endpoints(advertisement) { endpoints } else { 0 },
                    });
                }
            }
        }
        wanted
    }

    /// Replaces what a Service contributes. What is looked at again is what has changed once all is counted, so a prefix that stays
    /// is not withdrawn in between.
    fn contribute(&mut self, key: &ServiceKey, wanted: Vec<Contribution>) {
        let Some(state) = self.services.get_mut(key) else { return };
        if state.contributes == wanted {
            return;
        }
        let dropped = std::mem::replace(&mut state.contributes, wanted.clone());
        self.count(dropped, wanted);
    }

    /// Counts contributions that came and went.
    fn count(&mut self, dropped: Vec<Contribution>, wanted: Vec<Contribution>) {
        let mut before: BTreeMap<(String, IpNet), Wanted> = BTreeMap::new();
        let signed = wanted.into_iter().map(|added| (added, true)).chain(dropped.into_iter().map(|gone| (gone, false)));
        for (Contribution { advertisement, prefix, endpoints }, added) in signed {
            let Some(announcing) = self.advertisements.get_mut(&advertisement) else { continue };
            let count = announcing.prefixes.entry(prefix).or_default();
            before.entry((advertisement, prefix)).or_insert(*count);
            // What is taken away was added before, and sums of endpoints do not reach four thousand million.
            let change = if added { u32::saturating_add } else { u32::saturating_sub };
            *count = Wanted { addresses: change(count.addresses, 1), endpoints: change(count.endpoints, endpoints) };
        }
        for ((advertisement, prefix), before) in before {
            let Some(announcing) = self.advertisements.get_mut(&advertisement) else { continue };
            let now = announcing.prefixes.get(&prefix).copied().unwrap_or_default();
            if now.addresses == 0 {
                announcing.prefixes.remove(&prefix);
            }
            if (now.addresses == 0) != (before.addresses == 0) || now.endpoints != before.endpoints {
                self.touch(&advertisement, prefix);
            }
        }
    }

    fn reconsider_all(&mut self) {
        self.dirty_services.extend(self.services.keys().cloned());
        self.dirty_pods.extend(self.pods.keys());
    }

    /// Marks a prefix of an advertisement for every peer that it selects.
    fn touch(&mut self, advertisement: &str, prefix: IpNet) {
        let Some(announcing) = self.advertisements.get(advertisement) else { return };
        for (peer, audience) in &self.peers {
            if audience.hears(peer, advertisement, &announcing.advertisement) {
                self.dirty_prefixes.entry(peer.clone()).or_default().insert(prefix);
            }
        }
    }

    fn touch_advertisement(&mut self, name: &str) {
        let prefixes: Vec<IpNet> =
            self.advertisements.get(name).map(|a| a.prefixes.keys().copied().collect()).unwrap_or_default();
        for prefix in prefixes {
            self.touch(name, prefix);
        }
    }

    fn touch_all_prefixes(&mut self, peer: &PeerKey) {
        let Some(audience) = self.peers.get(peer) else { return };
        let heard = self.advertisements.iter().filter(|(name, a)| audience.hears(peer, name, &a.advertisement));
        let prefixes: BTreeSet<IpNet> = heard.flat_map(|(_, a)| a.prefixes.keys().copied()).collect();
        self.dirty_prefixes.entry(peer.clone()).or_default().extend(prefixes);
    }
}

fn counts_endpoints(advertisement: &Advertisement) -> bool {
    advertisement.settings.link_bandwidth.is_some_and(|link| link.bandwidth == Bandwidth::PerEndpoint)
}

impl ServiceState {
    /// Neither the Service nor a slice of it is there.
    fn is_forgotten(&self) -> bool {
        self.view.is_none() && self.endpoints.is_empty()
    }
}
