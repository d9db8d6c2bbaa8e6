//! What is said of BGPPeers and Advertisements in their status, from the objects themselves and from the nodes' reports.
//!
//! Speakers write only their own NodeReport; this is the one place where reports of many nodes become one verdict. Pure, like the
//! plan: what is told goes in with the time, what shall be written comes out of [`Conditions::poll_write`].

pub(crate) mod judge;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use roadstead_api::checked::{Advertisement, ObjectRef, Peer};
use roadstead_api::kinds::{self, AdvertisementStatus, BgpPeer, BgpPeerStatus, LinkReport, NodeReport};
use roadstead_api::store::Status;

use crate::judged::Judged;
use crate::plan::{Event, Now};
use crate::verdict::Ready;

/// A report that has not changed for so long says nothing any more: its speaker renews it several times within.
const SILENCE: Duration = Duration::from_secs(90);

/// How often silence is looked for.
const SWEEP: Duration = Duration::from_secs(15);

/// What is known of peers, advertisements and sessions.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    peers: BTreeMap<String, Judged<Peer, PeerReport>>,
    advertisements: BTreeMap<String, Judged<Advertisement, Ready>>,
    nodes: BTreeMap<String, NodeState>,
    synced: bool,
    sweep: Option<Instant>,
}

/// What is said of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PeerReport {
    /// `2/3`.
    sessions: Option<String>,
    ready: Ready,
}

/// What a node last reported.
#[derive(Debug)]
pub(crate) struct NodeState {
    heartbeat: String,
    /// When the heartbeat last changed, by our clock: the node's may be wrong.
    heard: Instant,
    pub(crate) silent: bool,
    /// By peer.
    pub(crate) sessions: BTreeMap<String, Session>,
    /// What it makes of the routes of other clusters and of edge hosts.
    pub(crate) links: Vec<LinkReport>,
}

/// A session as its node reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    state: String,
    last_error: Option<String>,
}

impl Session {
    fn is_established(&self) -> bool {
        self.state == "Established"
    }
}

/// A status to be written.
#[derive(Debug)]
pub(crate) enum StatusWrite {
    /// Of a BGPPeer.
    Peer(String, BgpPeerStatus),
    /// Of an Advertisement.
    Advertisement(String, AdvertisementStatus),
}

impl StatusWrite {
    /// The kind for metrics, the object's name, and the status.
    pub(crate) fn parts(&self) -> (&'static str, &str, Status) {
        match self {
            Self::Peer(name, status) => ("peer_status", name, Status::BgpPeer(status.clone())),
            Self::Advertisement(name, status) => ("advertisement_status", name, Status::Advertisement(status.clone())),
        }
    }
}

impl Conditions {
    /// Takes note of a peer; the plan hears that the router's address is its own.
    pub(crate) fn apply_peer(&mut self, raw: &BgpPeer) -> Option<Event> {
        let name = raw.metadata.name.clone().unwrap_or_default();
        let stored = raw.status.as_ref().and_then(|status| {
            Some(PeerReport { sessions: status.sessions.clone(), ready: Ready::find(&status.conditions)? })
        });
        let peer = self.peers.entry(name.clone()).or_default();
        peer.apply(Peer::check(raw), raw.metadata.generation, stored);
        // A peer that cannot be read keeps the address that it had.
        let address = peer.object.good.as_ref().map(|good| good.remote.ip());
        self.touch_advertisements();
        // Of a router behind an interface nobody knows the address here, and it is of that link alone.
        let reserved = Some(address?).filter(|address| !address.is_unspecified());
        Some(Event::Reserved(ObjectRef::cluster("BGPPeer", name), reserved.into_iter().collect()))
    }

    /// A peer is gone.
    pub(crate) fn delete_peer(&mut self, name: &str) {
        self.peers.remove(name);
        self.touch_advertisements();
    }

    /// Takes note of an advertisement.
    pub(crate) fn apply_advertisement(&mut self, raw: &kinds::Advertisement) {
        let name = raw.metadata.name.clone().unwrap_or_default();
        let stored = raw.status.as_ref().and_then(|status| Ready::find(&status.conditions));
        let advertisement = self.advertisements.entry(name).or_default();
        advertisement.apply(Advertisement::check(raw), raw.metadata.generation, stored);
    }

    /// An advertisement is gone.
    pub(crate) fn delete_advertisement(&mut self, name: &str) {
        self.advertisements.remove(name);
    }

    /// Takes note of what a node reports.
    pub(crate) fn apply_report(&mut self, now: Now, raw: &NodeReport) {
        let name = raw.metadata.name.clone().unwrap_or_default();
        let status = raw.status.clone().unwrap_or_default();
        let links = status.links;
        let sessions = status.sessions.into_iter().map(|session| {
            let (state, last_error) = (session.state, session.last_error);
            (session.peer, Session { state, last_error })
        });
        let sessions: BTreeMap<String, Session> = sessions.collect();
        let former = self.nodes.remove(&name);
        let known = former.as_ref().filter(|former| former.heartbeat == status.heartbeat);
        let (heard, silent) = known.map_or((now.instant, false), |known| (known.heard, known.silent));
        let nothing = BTreeMap::new();
        let before = former.as_ref().map_or(&nothing, |former| &former.sessions);
        let was_silent = former.as_ref().is_some_and(|former| former.silent);
        for peer in before.keys().chain(sessions.keys()) {
            if was_silent != silent || before.get(peer) != sessions.get(peer) {
                Self::touch_peer(&mut self.peers, peer);
            }
        }
        self.nodes.insert(name, NodeState { heartbeat: status.heartbeat, heard, silent, sessions, links });
    }

    /// What nodes last reported.
    pub(crate) fn nodes(&self) -> &BTreeMap<String, NodeState> {
        &self.nodes
    }

    /// A node's report is gone.
    pub(crate) fn delete_report(&mut self, name: &str) {
        for peer in self.nodes.remove(name).into_iter().flat_map(|node| node.sessions.into_keys()) {
            Self::touch_peer(&mut self.peers, &peer);
        }
    }

    /// Everything that exists was told.
    pub(crate) fn handle_synced(&mut self, now: Now) {
        self.synced = true;
        self.sweep = Some(now.instant + SWEEP);
    }

    /// The next status to be written.
    pub(crate) fn poll_write(&mut self, now: Now) -> Option<StatusWrite> {
        if !self.synced {
            return None;
        }
        for (name, Judged { object, status }) in &mut self.peers {
            let report = status.poll(now.instant, |stored| judge::peer(name, object, &self.nodes, stored, now.wall));
            if let Some(PeerReport { sessions, ready }) = report {
                let status = BgpPeerStatus { sessions, conditions: vec![ready.condition()] };
                return Some(StatusWrite::Peer(name.clone(), status));
            }
        }
        let peers: Vec<&Peer> = self.peers.values().filter_map(|peer| peer.object.good.as_ref()).collect();
        for (name, Judged { object, status }) in &mut self.advertisements {
            let ready = status.poll(now.instant, |stored| judge::advertisement(object, &peers, stored, now.wall));
            if let Some(ready) = ready {
                let status = AdvertisementStatus { conditions: vec![ready.condition()] };
                return Some(StatusWrite::Advertisement(name.clone(), status));
            }
        }
        None
    }

    /// Takes note of how a write ended.
    pub(crate) fn finish(&mut self, now: Now, write: &StatusWrite, done: bool) {
        match write {
            StatusWrite::Peer(name, _) => {
                if let Some(peer) = self.peers.get_mut(name) {
                    peer.status.finish(done, now.instant);
                }
            }
            StatusWrite::Advertisement(name, _) => {
                if let Some(advertisement) = self.advertisements.get_mut(name) {
                    advertisement.status.finish(done, now.instant);
                }
            }
        }
    }

    /// When [`Conditions::handle_deadline`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let peers = self.peers.values().filter_map(|peer| peer.status.next_deadline());
        let advertisements = self.advertisements.values().filter_map(|judged| judged.status.next_deadline());
        peers.chain(advertisements).chain(self.sweep).min()
    }

    /// Looks for nodes that fell silent; true where one did.
    pub(crate) fn handle_deadline(&mut self, now: Now) -> bool {
        if self.sweep.is_none_or(|sweep| now.instant < sweep) {
            return false;
        }
        self.sweep = Some(now.instant + SWEEP);
        let mut any = false;
        for node in self.nodes.values_mut() {
            if !node.silent && now.instant.duration_since(node.heard) > SILENCE {
                node.silent = true;
                any = true;
                for peer in node.sessions.keys() {
                    Self::touch_peer(&mut self.peers, peer);
                }
            }
        }
        any
    }

    fn touch_peer(peers: &mut BTreeMap<String, Judged<Peer, PeerReport>>, name: &str) {
        if let Some(peer) = peers.get_mut(name) {
            peer.status.touch();
        }
    }

    fn touch_advertisements(&mut self) {
        for advertisement in self.advertisements.values_mut() {
            advertisement.status.touch();
        }
    }
}

#[cfg(test)]
mod tests;
