//! The store as one node sees it: events go in, and out come the sessions that the node is to have and the routes that it wants told.
//!
//! Pure, like [`Intent`]: whoever has the events has the same picture. The speaker acts on it; the lab keeps one for each of its
//! nodes, to know what its routers have to learn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use roadstead_api::checked::{Advertisement, ClaimName, Invalid, Peer, ServiceKey, TrafficPolicy, status_addresses};
use roadstead_api::kinds::{AddressClaim, BgpPeer};
use roadstead_api::kubernetes::{EndpointSlice, Node, Secret, Service};
use roadstead_api::store::{Event, Kind, Object, ObjectKey, Watch};
use roadstead_bgp::{PeerConfig, PeerKey};

use crate::intent::{Audience, ClaimView, EndpointState, Intent, ServiceView, SliceEndpoints, SliceFamily};
use crate::links::Links;
use crate::node::LocalNode;
use crate::session::{Redirect, Refusal, Surroundings};

/// The port of BGP (RFC 4271 section 8).
const BGP_PORT: u16 = 179;

/// What to do while there is no Node object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingNode {
    /// Announce nothing: in a cluster the node is not part of it.
    Silent,
    /// Speak for a node without labels: on a single machine nobody writes a Node.
    Implied,
}

/// Whose picture it is.
#[derive(Clone)]
pub struct Viewpoint {
    /// The node.
    pub node: String,
    /// What to do while there is no Node object of that name.
    pub missing_node: MissingNode,
    /// Where the Secrets of the sessions are.
    pub namespace: String,
    /// Leads all sessions elsewhere.
    pub redirect: Option<Redirect>,
}

impl Viewpoint {
    /// What has to be watched to have the picture.
    pub fn watches(&self) -> Vec<Watch> {
        vec![
            Watch::all(Kind::AddressPool),
            Watch::all(Kind::AddressClaim),
            Watch::all(Kind::BgpPeer),
            Watch::all(Kind::Advertisement),
            Watch::all(Kind::ClusterNetwork),
            Watch::all(Kind::Service),
            Watch::all(Kind::EndpointSlice),
            Watch::namespace(Kind::Secret, &self.namespace),
        ]
        .into_iter()
        .chain(Links::watches())
        .collect()
    }
}

/// The picture; see the module's essay.
pub struct Picture {
    viewpoint: Viewpoint,
    unsynced: BTreeSet<Kind>,
    intent: Intent,
    node: Option<LocalNode>,
    links: Links,
    /// The advertisements of theirs that the intent has.
    of_links: BTreeSet<String>,
    peers: BTreeMap<String, Peer>,
    secrets: BTreeMap<String, Arc<Secret>>,
    /// The Service of each slice, by namespace and name: an event of its deletion does not say.
    slices: BTreeMap<(String, String), ServiceKey>,
    sessions_are_stale: bool,
    uptime: Duration,
    listen_port: u16,
}

/// The sessions that a node is to have.
#[derive(Default)]
pub struct Sessions {
    /// And to whom each leads.
    pub wanted: BTreeMap<PeerKey, (PeerConfig, Audience)>,
    /// Peers that select the node and can have no session; with their address.
    pub refused: BTreeMap<PeerKey, (String, Refusal)>,
}

impl Picture {
    /// Nothing is known as yet.
    pub fn new(viewpoint: Viewpoint) -> Self {
        let unsynced = viewpoint.watches().into_iter().map(|watch| watch.kind).collect();
        let links = Links::new(&viewpoint.node);
        let mut picture = Self {
            viewpoint,
            unsynced,
            intent: Intent::default(),
            node: None,
            links,
            of_links: BTreeSet::new(),
            peers: BTreeMap::new(),
            secrets: BTreeMap::new(),
            slices: BTreeMap::new(),
            sessions_are_stale: true,
            uptime: Duration::ZERO,
            listen_port: BGP_PORT,
        };
        picture.set_node(None);
        picture
    }

    /// How long the node's kernel had run when this process started; unless told it may have started just now.
    pub fn with_uptime(self, uptime: Duration) -> Self {
        Self { uptime, ..self }
    }

    /// The port on which the speakers of the cluster are dialled; 179 unless told.
    pub fn with_listen_port(self, listen_port: u16) -> Self {
        Self { listen_port, ..self }
    }

    /// Takes an event in. What is wrong with an object is returned; its last good version stays in force.
    pub fn handle(&mut self, event: Event) -> Result<(), Vec<Invalid>> {
        self.links.handle(&event)?;
        match event {
            Event::Synced(kind) => {
                self.unsynced.remove(&kind);
            }
            Event::Applied(object) => self.apply(object)?,
            Event::Deleted(key, _) => self.delete(key),
        }
        Ok(())
    }

    /// The kinds that are not complete yet; nothing should be acted on before there are none.
    pub fn unsynced(&self) -> &BTreeSet<Kind> {
        &self.unsynced
    }

    /// The node itself.
    pub fn node(&self) -> Option<&LocalNode> {
        self.node.as_ref()
    }

    /// What the node wants told.
    pub fn intent(&mut self) -> &mut Intent {
        &mut self.intent
    }

    /// Other clusters and hosts outside.
    pub fn links(&mut self) -> &mut Links {
        &mut self.links
    }

    /// Whether [`Picture::sessions`] may have changed since this was last asked.
    pub fn take_stale_sessions(&mut self) -> bool {
        let of_links = self.links.take_stale_sessions();
        if of_links {
            let mut before = std::mem::take(&mut self.of_links);
            for advertisement in self.links.advertisements() {
                before.remove(&advertisement.name);
                self.of_links.insert(advertisement.name.clone());
                self.intent.set_advertisement(&advertisement.name.clone(), Some(advertisement));
            }
            before.iter().for_each(|name| self.intent.set_advertisement(name, None));
        }
        std::mem::take(&mut self.sessions_are_stale) || of_links
    }

    /// The sessions with all peers that select this node, and those of links. A rehearsal has no other clusters.
    pub fn sessions(&self) -> Sessions {
        let mut sessions = Sessions::default();
        let Some(node) = &self.node else { return sessions };
        let surroundings = Surroundings {
            node,
            cluster_asn: self.links.cluster_asn(),
            secret_namespace: &self.viewpoint.namespace,
            secrets: &self.secrets,
            redirect: self.viewpoint.redirect.as_ref(),
            uptime: self.uptime,
        };
        for peer in self.peers.values().filter(|peer| surroundings.selects(peer)) {
            let key = PeerKey::from(peer.name.as_str());
            match surroundings.session(peer) {
                Ok(config) => {
                    sessions.wanted.insert(key, (config, Audience::Router(peer.labels.clone())));
                }
                Err(refusal) => {
                    sessions.refused.insert(key, (peer.router(), refusal));
                }
            }
        }
        if self.viewpoint.redirect.is_none() {
            self.links.add_sessions(&surroundings, self.listen_port, &mut sessions);
        }
        sessions
    }

    fn apply(&mut self, object: Object) -> Result<(), Vec<Invalid>> {
        match object {
            Object::Node(node) if node.metadata.name.as_deref() == Some(&self.viewpoint.node) => {
                self.set_node(Some(&node))
            }
            Object::Secret(secret) => {
                self.secrets.insert(secret.metadata.name.clone().unwrap_or_default(), secret);
                self.sessions_are_stale = true;
            }
            Object::BgpPeer(raw) => self.set_peer(&raw)?,
            Object::Advertisement(raw) => {
                let advertisement = Advertisement::check(&raw)?;
                let name = advertisement.name.clone();
                self.intent.set_advertisement(&name, Some(advertisement));
            }
            Object::AddressPool(pool) => {
                let labels = pool.metadata.labels.clone().unwrap_or_default();
                self.intent.set_pool(pool.metadata.name.as_deref().unwrap_or_default(), Some(labels));
            }
            Object::AddressClaim(claim) => {
                if let Some(address) = claim.metadata.name.as_deref().and_then(ClaimName::address) {
                    self.intent.set_claim(address, Some(claim_view(&claim)));
                }
            }
            Object::Service(service) => self.intent.set_service(ServiceKey::from(&*service), service_view(&service)),
            Object::EndpointSlice(slice) => self.set_slice(&slice),
            Object::PodPool(pool) => {
                let labels = pool.metadata.labels.clone().unwrap_or_default();
                self.intent.set_pod_pool(pool.metadata.name.as_deref().unwrap_or_default(), Some(labels));
            }
            // Not watched, or not for routes.
            Object::ClusterLink(_)
            | Object::ClusterNetwork(_)
            | Object::EdgeHost(_)
            | Object::Namespace(_)
            | Object::Node(_)
            | Object::NodeReport(_)
            | Object::Pod(_)
            | Object::RouteServer(_)
            | Object::ServiceCidr(_) => {}
        }
        Ok(())
    }

    fn delete(&mut self, key: ObjectKey) {
        match key.kind {
            Kind::Node if key.name == self.viewpoint.node => self.set_node(None),
            Kind::Secret => {
                self.secrets.remove(&key.name);
                self.sessions_are_stale = true;
            }
            Kind::BgpPeer => {
                self.peers.remove(&key.name);
                self.sessions_are_stale = true;
            }
            Kind::Advertisement => self.intent.set_advertisement(&key.name, None),
            Kind::AddressPool => self.intent.set_pool(&key.name, None),
            Kind::AddressClaim => {
                if let Some(address) = ClaimName::address(&key.name) {
                    self.intent.set_claim(address, None);
                }
            }
            Kind::Service => {
                self.intent.set_service(ServiceKey { namespace: key.namespace, name: key.name }, None);
            }
            Kind::EndpointSlice => {
                let name = key.name.clone();
                if let Some(service) = self.slices.remove(&(key.namespace, key.name)) {
                    self.intent.set_slice(service, &name, None);
                }
            }
            Kind::PodPool => self.intent.set_pod_pool(&key.name, None),
            Kind::ClusterLink
            | Kind::ClusterNetwork
            | Kind::EdgeHost
            | Kind::Namespace
            | Kind::Node
            | Kind::NodeReport
            | Kind::Pod
            | Kind::RouteServer
            | Kind::ServiceCidr => {}
        }
    }

    fn set_node(&mut self, raw: Option<&Node>) {
        let node = match (raw, self.viewpoint.missing_node) {
            (Some(raw), _) => Some(LocalNode::new(raw)),
            (None, MissingNode::Implied) => Some(LocalNode::implied(&self.viewpoint.node)),
            (None, MissingNode::Silent) => None,
        };
        if node == self.node {
            return;
        }
        self.intent.set_node(node.as_ref().map(LocalNode::view));
        self.node = node;
        self.sessions_are_stale = true;
    }

    fn set_peer(&mut self, raw: &BgpPeer) -> Result<(), Vec<Invalid>> {
        let peer = Peer::check(raw)?;
        self.peers.insert(peer.name.clone(), peer);
        self.sessions_are_stale = true;
        Ok(())
    }

    fn set_slice(&mut self, raw: &EndpointSlice) {
        let namespace = raw.metadata.namespace.clone().unwrap_or_default();
        let slice = raw.metadata.name.clone().unwrap_or_default();
        let id = (namespace.clone(), slice.clone());
        let service = raw.service_name().map(|name| ServiceKey { namespace, name: name.to_owned() });
        let before = match &service {
            Some(service) => self.slices.insert(id, service.clone()),
            None => self.slices.remove(&id),
        };
        if let Some(before) = before.filter(|before| Some(before) != service.as_ref()) {
            self.intent.set_slice(before, &slice, None);
        }
        if let Some(service) = service {
            let endpoints = raw.endpoints.iter().map(|endpoint| {
                let c = endpoint.conditions;
                (endpoint.node_name.as_deref(), EndpointState::from_conditions(c.ready, c.serving, c.terminating))
            });
            let family = SliceFamily::from_address_type(raw.address_type.as_deref());
            let counts = SliceEndpoints::count(family, endpoints, &self.viewpoint.node);
            self.intent.set_slice(service, &slice, Some(counts));
        }
    }
}

/// A Service of type LoadBalancer. Only what announcements depend on is read, so that a mistake elsewhere in the object withdraws
/// nothing.
fn service_view(raw: &Service) -> Option<ServiceView> {
    if raw.spec.type_.as_deref() != Some("LoadBalancer") {
        return None;
    }
    let traffic_policy = match raw.spec.external_traffic_policy.as_deref() {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    };
    Some(ServiceView {
        uid: raw.metadata.uid.clone().unwrap_or_default(),
        labels: raw.metadata.labels.clone().unwrap_or_default(),
        traffic_policy,
        addresses: status_addresses(raw),
    })
}

fn claim_view(raw: &AddressClaim) -> ClaimView {
    let owners = raw.spec.owners.iter().map(|owner| owner.uid.clone()).collect();
    ClaimView { pool: raw.spec.pool.0.clone(), owners }
}
