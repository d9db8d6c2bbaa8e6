//! What the lab shows: every Service with its addresses, every route of the routers, and what is missing still.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use roadstead_api::checked::{ClaimName, ServiceKey, status_addresses};
use roadstead_api::kubernetes::Service;
use roadstead_api::store::{Event, Kind, Object, ObjectKey};
use roadstead_bgp::PeerKey;
use roadstead_speaker::picture::Picture;
use serde::Serialize;

use super::routers::{Learned, NodeSession};

/// The lab as the store has it, and as each node sees it.
pub(crate) struct Lab {
    pictures: BTreeMap<String, Picture>,
    services: BTreeMap<ServiceKey, ServiceRow>,
    pools: BTreeMap<IpAddr, String>,
    unsynced: BTreeSet<Kind>,
}

struct ServiceRow {
    addresses: Vec<IpAddr>,
}

/// What is shown, in the documented form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct View {
    /// Services of type LoadBalancer.
    pub(crate) services: Vec<ServiceView>,
    /// What the routers learned.
    pub(crate) routes: Vec<RouteView>,
    /// What is not there yet, in words.
    #[serde(skip)]
    pub(crate) missing: Vec<String>,
    /// Services that no node wants announced, and why: as the manifests have it, so nothing is missing.
    #[serde(skip)]
    pub(crate) silent: Vec<String>,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ServiceView {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// In its status.
    pub(crate) addresses: Vec<IpAddr>,
    /// The pool of the first of them.
    pub(crate) pool: Option<String>,
    /// The nodes that announce any of them.
    pub(crate) nodes: BTreeSet<String>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RouteView {
    pub(crate) prefix: IpNet,
    /// Of all paths.
    pub(crate) next_hops: BTreeSet<IpAddr>,
    /// Standard and large ones, of all paths.
    pub(crate) communities: Vec<String>,
}

impl Lab {
    /// A lab of these nodes, of which nothing is known as yet.
    pub(crate) fn new(pictures: Vec<(String, Picture)>) -> Self {
        let unsynced = super::watches().into_iter().map(|watch| watch.kind).collect();
        let pictures = pictures.into_iter().collect();
        Self { pictures, services: BTreeMap::new(), pools: BTreeMap::new(), unsynced }
    }

    /// Whether all that exists was seen.
    pub(crate) fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// Takes an event in, for the view and for every node that it concerns.
    pub(crate) fn handle(&mut self, event: Event) {
        match &event {
            Event::Synced(kind) => {
                self.unsynced.remove(kind);
            }
            Event::Applied(Object::Service(service)) => self.set_service(service),
            Event::Applied(Object::AddressClaim(claim)) => {
                if let Some(address) = claim.metadata.name.as_deref().and_then(ClaimName::address) {
                    self.pools.insert(address, claim.spec.pool.0.clone());
                }
            }
            Event::Deleted(ObjectKey { kind: Kind::Service, namespace, name }, _) => {
                self.services.remove(&ServiceKey { namespace: namespace.clone(), name: name.clone() });
            }
            Event::Applied(_) | Event::Deleted(..) => {}
        }
        for picture in self.pictures.values_mut() {
            // What is wrong with an object is said by the speakers, which see it too.
            let _ = picture.handle(event.clone());
        }
    }

    /// The sessions that the nodes want.
    pub(crate) fn sessions(&mut self) -> Vec<NodeSession> {
        let mut sessions = Vec::new();
        for (name, picture) in &mut self.pictures {
            for (peer, (config, audience)) in picture.sessions().wanted {
                picture.intent().set_peer(peer.clone(), audience);
                sessions.push((name.clone(), peer, config));
            }
        }
        sessions
    }

    /// The lab at this moment.
    pub(crate) fn view(&mut self, learned: &Learned) -> View {
        let routes = routes(learned);
        let services: Vec<ServiceView> = self
            .services
            .iter()
            .map(|(key, row)| ServiceView {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                addresses: row.addresses.clone(),
                pool: row.addresses.first().and_then(|address| self.pools.get(address).cloned()),
                nodes: row.addresses.iter().flat_map(|address| announcers(learned, *address)).collect(),
            })
            .collect();
        let missing = self.missing(learned);
        let silent = self.silent();
        View { services, routes, missing, silent }
    }

    /// Services that every node is silent about. The reason shown is that of the node which came furthest.
    fn silent(&mut self) -> Vec<String> {
        let mut silent = Vec::new();
        for key in self.services.iter().filter(|(_, row)| !row.addresses.is_empty()).map(|(key, _)| key) {
            let reasons = self.pictures.values_mut().map(|picture| picture.intent().silence(key));
            if let Some(reason) = reasons.collect::<Option<BTreeSet<_>>>().and_then(|reasons| reasons.last().copied()) {
                silent.push(format!("Service {key}: {reason}"));
            }
        }
        silent
    }

    fn set_service(&mut self, service: &Service) {
        let key = ServiceKey::from(service);
        let class = service.spec.load_balancer_class.as_deref();
        if service.spec.type_.as_deref() == Some("LoadBalancer") && matches!(class, None | Some("roadstead.dev/bgp")) {
            self.services.insert(key, ServiceRow { addresses: status_addresses(service) });
        } else {
            self.services.remove(&key);
        }
    }

    /// Services without an address, sessions that cannot be, and routes that a node wants told and a router has not learned.
    fn missing(&mut self, learned: &Learned) -> Vec<String> {
        let mut missing: Vec<String> = self.unsynced.iter().map(|kind| format!("{kind}s were not read yet")).collect();
        for (key, _) in self.services.iter().filter(|(_, row)| row.addresses.is_empty()) {
            missing.push(format!("Service {key} has no address"));
        }
        for (node, picture) in &mut self.pictures {
            let sessions = picture.sessions();
            for (peer, (_, refusal)) in &sessions.refused {
                missing.push(format!("{node} has no session with BGPPeer {peer}: {refusal}"));
            }
            // The changes themselves are for the speaker; here they only bring the intent up to date.
            picture.intent().changes();
            for peer in sessions.wanted.keys() {
                let known = learned.get(peer.as_str());
                for prefix in picture.intent().routes(peer).keys() {
                    let has = known
                        .and_then(|routes| routes.get(prefix))
                        .is_some_and(|paths| paths.iter().any(|path| path.peer == PeerKey::from(node.as_str())));
                    if !has {
                        missing.push(format!("the router of BGPPeer {peer} has no route to {prefix} from {node}"));
                    }
                }
            }
        }
        missing
    }
}

/// All routers' routes as one table.
fn routes(learned: &Learned) -> Vec<RouteView> {
    let mut routes: BTreeMap<IpNet, (BTreeSet<IpAddr>, BTreeSet<_>, BTreeSet<_>)> = BTreeMap::new();
    for (prefix, paths) in learned.values().flatten() {
        let (next_hops, communities, large) = routes.entry(*prefix).or_default();
        for path in paths {
            next_hops.insert(path.next_hop);
            communities.extend(path.communities.iter().copied());
            large.extend(path.large_communities.iter().copied());
        }
    }
    let view = |(prefix, (next_hops, communities, large)): (
        IpNet,
        (_, BTreeSet<roadstead_bgp::Community>, BTreeSet<roadstead_bgp::LargeCommunity>),
    )| {
        let standard = communities.iter().map(ToString::to_string);
        let communities = standard.chain(large.iter().map(ToString::to_string)).collect();
        RouteView { prefix, next_hops, communities }
    };
    routes.into_iter().map(view).collect()
}

/// The nodes from which a router learned a way to the address.
fn announcers(learned: &Learned, address: IpAddr) -> impl Iterator<Item = String> {
    learned
        .values()
        .flatten()
        .filter(move |(prefix, _)| prefix.contains(&address))
        .flat_map(|(_, paths)| paths.iter().map(|path| path.peer.to_string()))
}
