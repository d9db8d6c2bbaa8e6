//! The engine's interface: peers, what happens to them, and what is to be done about it.
//!
//! Inputs go in through `set_peer`, `update_routes` and the like (from the embedder) and `handle_*` (from whoever holds the
//! sockets and the clock). After each of them the caller takes all of [`Speaker::poll_output`], and calls
//! [`Speaker::handle_timeout`] when [`Speaker::next_deadline`] has come. Nothing blocks, nothing fails that the caller could
//! not have known, and an input for a connection that is gone meanwhile is ignored, as it can happen at any time.
//!
//! Bytes to be written stay inside until the socket can take them: on [`Output::Write`] the caller writes what
//! [`Speaker::pending_write`] shows, reports how far it got with [`Speaker::handle_written`], and goes on until there is
//! nothing left or the socket is full; then it waits for the socket and goes on. So an UPDATE is not made before it can be
//! sent, and always says the newest.

mod deadlines;
mod deferral;
mod dynamic;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use ipnet::IpNet;
use rustbgpd_wire::constants::MAX_MESSAGE_LEN;

pub use self::deferral::SelectionDeferral;

use self::deadlines::Deadlines;
use self::deferral::Deferral;
use self::dynamic::Taker;
use crate::bfd::{BfdConfig, BfdFailure, Path};
use crate::dynamic::Range;
use crate::exchange::{Accepted, ConnectionId, Endpoints, Event, Output};
use crate::notification::Notification;
use crate::peer::{Context, Peer};
use crate::random::SplitMix64;
use crate::rib::{Interner, Rib};
use crate::{
    ChangedRoute, ConfigError, ExplainedPath, LearnedPath, NextHopRoute, PeerConfig, PeerKey, PeerStatus, RouteChange,
    RoutePage, RouteQuery, RouteTable, SessionError, Shutdown, UnknownPeer,
};

/// The engine: every peer, and the routes of each.
///
/// ```
/// use roadstead_bgp::{Asn, Endpoints, NextHops, Output, PeerAsn, PeerConfig, Speaker};
///
/// let now = std::time::Instant::now();
/// let mut speaker = Speaker::new(1);
/// let router = "192.0.2.1:179".parse()?;
/// let config = PeerConfig::new(Asn(64500), PeerAsn::Exactly(Asn(64512)), "10.0.0.1".parse()?, router);
/// speaker.set_peer(now, "router".into(), config)?;
///
/// // It wants a connection; say that there is one.
/// let Some(Output::Dial { connection, .. }) = speaker.poll_output() else { panic!("no dial") };
/// let local = "192.0.2.10:40000".parse()?;
/// speaker.handle_dialled(now, connection, Endpoints { local, remote: router, interface: NextHops::default() });
///
/// // Now it has an OPEN to send.
/// assert_eq!(speaker.poll_output(), Some(Output::Write { connection }));
/// let open = speaker.pending_write(now, connection).to_vec();
/// assert_eq!(open[18], 1);
/// speaker.handle_written(now, connection, open.len());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Speaker {
    peers: BTreeMap<PeerKey, Peer>,
    ranges: BTreeMap<PeerKey, Range>,
    connections: BTreeMap<ConnectionId, PeerKey>,
    deadlines: Deadlines,
    next_connection: u64,
    outputs: VecDeque<Output>,
    routes_changed: bool,
    interner: Interner,
    rib: Rib,
    seeds: SplitMix64,
    stopped: bool,
    /// As long as nothing is told of others' routes.
    deferral: Option<Deferral>,
    /// When the first peer was set.
    started: Option<Instant>,
}

impl Speaker {
    /// `seed` decides every jitter; the same seed and the same inputs give the same outputs.
    pub fn new(seed: u64) -> Self {
        Self {
            peers: BTreeMap::new(),
            ranges: BTreeMap::new(),
            connections: BTreeMap::new(),
            deadlines: Deadlines::default(),
            next_connection: 1,
            outputs: VecDeque::new(),
            routes_changed: false,
            interner: Interner::default(),
            rib: Rib::new(seed),
            seeds: SplitMix64::new(seed),
            stopped: false,
            deferral: None,
            started: None,
        }
    }

    /// Adds a peer, or gives one another configuration. Without a difference nothing happens; what can be changed under a
    /// running session (import policy, next hops, retry time) is; for anything else the session restarts (Cease 6/6).
    pub fn set_peer(&mut self, now: Instant, key: PeerKey, config: PeerConfig) -> Result<(), ConfigError> {
        config.check()?;
        if self.stopped {
            return Ok(());
        }
        if self.peers.get(&key).is_some_and(|peer| peer.range().is_some()) {
            // The name is the embedder's to give.
            self.end_member(now, &key, &SessionError::ConfigurationChanged);
        }
        if self.with_peer(now, &key, |peer, context| peer.reconfigure(context, config.clone())).is_err() {
            self.add_peer(now, key, config, None);
        }
        self.end_misplaced_sessions(now);
        Ok(())
    }

    fn add_peer(&mut self, now: Instant, key: PeerKey, config: PeerConfig, range: Option<PeerKey>) {
        let started = *self.started.get_or_insert(now);
        let seed = self.seeds.next();
        let (_, mut context) = self.split(now);
        let peer = Peer::new(key.clone(), config, range, seed, started, &mut context);
        self.deadlines.set(&key, peer.next_deadline());
        self.peers.insert(key, peer);
    }

    /// Withdraws everything, ends the session (Cease 6/3) and forgets the peer and what was wanted for it.
    pub fn remove_peer(&mut self, now: Instant, key: &PeerKey) -> Result<(), UnknownPeer> {
        self.with_peer(now, key, |peer, context| peer.stop(context, &SessionError::Deconfigured))?;
        self.forget(key);
        self.wake(now);
        Ok(())
    }

    fn forget(&mut self, key: &PeerKey) {
        if let Some(peer) = self.peers.remove(key) {
            self.rib.remove_member(peer.member());
            self.deadlines.set(key, None);
        }
    }

    /// Changes what this peer is to know. Kept while the session is down. Nothing is announced to a peer but this (RFC 8212).
    pub fn update_routes(
        &mut self,
        now: Instant,
        key: &PeerKey,
        mut changes: Vec<RouteChange>,
    ) -> Result<(), UnknownPeer> {
        for change in &mut changes {
            if let RouteChange::Announce(_, attributes) = change {
                *attributes = self.interner.intern(std::sync::Arc::clone(attributes));
            }
        }
        self.with_peer(now, key, |peer, context| peer.update_routes(context, changes))
    }

    /// Everything that is wanted for this peer has been said once. End-of-RIB (RFC 4724) is withheld until then: a router
    /// that has restarted removes at that marker what it has not heard of again.
    pub fn initial_set_complete(&mut self, now: Instant, key: &PeerKey) -> Result<(), UnknownPeer> {
        self.with_peer(now, key, Peer::release_end_of_rib)
    }

    /// Ends every session, with Cease 6/2 and the text (RFC 9003) unless it is to restart in silence, and takes no
    /// connection any more.
    pub fn shutdown(&mut self, now: Instant, shutdown: &Shutdown) {
        self.stopped = true;
        let keys: Vec<PeerKey> = self.peers.keys().cloned().collect();
        for key in keys {
            // The keys were taken from the map a line above.
            let _ = self.with_peer(now, &key, |peer, context| match shutdown {
                Shutdown::Restart(text) => peer.stop_to_restart(context, text),
                Shutdown::Leave(text) => peer.stop(context, &SessionError::Shutdown { text: text.clone() }),
            });
        }
    }

    /// The peers that a shutdown like this leaves without a word, because they keep our routes meanwhile (RFC 4724).
    pub fn left_silently(&self, shutdown: &Shutdown) -> BTreeSet<PeerKey> {
        let silent = self.peers.iter().filter(|(_, peer)| match shutdown {
            Shutdown::Restart(_) => peer.restarts_silently(),
            Shutdown::Leave(_) => false,
        });
        silent.map(|(key, _)| key.clone()).collect()
    }

    /// A dialled connection is up.
    pub fn handle_dialled(&mut self, now: Instant, connection: ConnectionId, endpoints: Endpoints) {
        self.with_connection(now, connection, |peer, context| peer.handle_dialled(context, connection, endpoints));
    }

    /// A connection came in.
    pub fn handle_accepted(&mut self, now: Instant, endpoints: Endpoints) -> Accepted {
        self.accept(now, endpoints, None)
    }

    /// A connection came in, from a link-local address over this interface.
    pub fn handle_accepted_on_link(&mut self, now: Instant, link: &str, endpoints: Endpoints) -> Accepted {
        self.accept(now, endpoints, Some(link))
    }

    fn accept(&mut self, now: Instant, endpoints: Endpoints, link: Option<&str>) -> Accepted {
        match self.taker(endpoints.remote.ip(), Some(endpoints.local.ip()), link) {
            Some(Taker::Peer(key)) => self.accept_for(now, &key, endpoints),
            Some(Taker::Range(key)) => self.accept_from_range(now, &key, endpoints),
            // RFC 4486 section 4: a peer that is not configured.
            None => Accepted::Refused(Notification::connection_rejected().encode(MAX_MESSAGE_LEN).to_vec()),
        }
    }

    fn accept_for(&mut self, now: Instant, key: &PeerKey, endpoints: Endpoints) -> Accepted {
        let mut accepted = Accepted::Refused(Vec::new());
        let known = self.with_peer(now, key, |peer, context| accepted = peer.accept(context, endpoints));
        debug_assert_eq!(known, Ok(()), "the key was found among the peers");
        accepted
    }

    /// Bytes came in. Any split of the stream gives the same result.
    pub fn handle_bytes(&mut self, now: Instant, connection: ConnectionId, bytes: &[u8]) {
        self.with_connection(now, connection, |peer, context| peer.handle_bytes(context, connection, bytes));
    }

    /// A connection could not be dialled, failed, or was closed by the peer (then without a reason).
    pub fn handle_closed(&mut self, now: Instant, connection: ConnectionId, reason: Option<String>) {
        self.with_connection(now, connection, |peer, context| peer.handle_closed(context, connection, reason));
    }

    /// The BFD session that belongs to this peer has gone from Up to Down: its BGP session ends (Cease 6/10, RFC 9384). It is
    /// tried again as ever, whether BFD comes up or not.
    pub fn handle_bfd_down(&mut self, now: Instant, key: &PeerKey, failure: BfdFailure) -> Result<(), UnknownPeer> {
        self.with_peer(now, key, |peer, context| peer.handle_bfd_down(context, failure))
    }

    /// Routes that are not BGP's have changed, and with them which next hops can be reached and how far they are (RFC 4271
    /// section 9.1.2.1): the longest route that covers a next hop counts. Of BGP's own routes none belongs here, or two could
    /// hold each other up.
    ///
    /// Until the first call, which may be one without changes, every next hop counts as reachable. What clients of a route
    /// server tell is never judged by this.
    pub fn handle_next_hop_routes(&mut self, now: Instant, changes: &[NextHopRoute]) {
        self.routes_changed |= self.rib.change_next_hop_routes(changes);
        self.wake(now);
    }

    /// What is to be written to this connection now; empty when there is nothing.
    pub fn pending_write(&mut self, now: Instant, connection: ConnectionId) -> &[u8] {
        let Some(key) = self.connections.get(&connection) else { return &[] };
        let Some(peer) = self.peers.get_mut(key) else { return &[] };
        peer.prepare_write(now, connection, &mut self.rib);
        self.deadlines.set(key, peer.next_deadline());
        peer.pending_write(connection)
    }

    /// So many octets of it were taken by the socket.
    pub fn handle_written(&mut self, _now: Instant, connection: ConnectionId, count: usize) {
        let Some(key) = self.connections.get(&connection) else { return };
        if let Some(peer) = self.peers.get_mut(key) {
            peer.handle_written(connection, count);
            self.deadlines.set(key, peer.next_deadline());
        }
    }

    /// The time has come that [`next_deadline`](Self::next_deadline) named. Too early or too late does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        for key in self.deadlines.due(now) {
            // Whoever has a deadline is a peer.
            let _ = self.with_peer(now, &key, Peer::handle_timeout);
        }
        self.tend_deferral(now);
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let deferral = self.deferral.as_ref().map(|deferral| deferral.deadline);
        self.deadlines.next().into_iter().chain(deferral).min()
    }

    /// The next thing to be done. [`Event::RoutesChanged`] comes last, once for all changes since the queue was empty.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs
            .pop_front()
            .or_else(|| std::mem::take(&mut self.routes_changed).then_some(Output::Event(Event::RoutesChanged)))
    }

    /// The configuration in force.
    pub fn config(&self, key: &PeerKey) -> Option<&PeerConfig> {
        self.peers.get(key).map(Peer::config)
    }

    /// Between which ends BFD is to watch this peer now, and how. Of a peer from a range and of an unnumbered one that is known while
    /// its session is up: it changes with [`Event::SessionUp`] and [`Event::SessionDown`].
    pub fn watched(&self, key: &PeerKey) -> Option<(Path, BfdConfig)> {
        self.peers.get(key).filter(|_| !self.stopped)?.watched()
    }

    /// Every configured peer with its configuration, by name; for those of ranges see [`Speaker::dynamic_peers`].
    pub fn configs(&self) -> impl Iterator<Item = (&PeerKey, &PeerConfig)> {
        let configured = self.peers.iter().filter(|(_, peer)| peer.range().is_none());
        configured.map(|(key, peer)| (key, peer.config()))
    }

    /// One entry per peer, by name.
    pub fn status(&self, now: Instant) -> Vec<PeerStatus> {
        self.peers.values().map(|peer| peer.status(now, &self.rib)).collect()
    }

    /// Every accepted route of every peer: for each prefix all paths, by the name of the peer.
    pub fn learned(&self) -> BTreeMap<IpNet, Vec<LearnedPath>> {
        self.rib.learned()
    }

    /// A page of accepted or told routes.
    ///
    /// # Errors
    /// A peer that is not there.
    pub fn routes(&self, query: &RouteQuery) -> Result<RoutePage, UnknownPeer> {
        let peer = |key: &PeerKey| self.peers.get(key).ok_or_else(|| UnknownPeer(key.clone()));
        match &query.table {
            RouteTable::In(None) => Ok(self.rib.page_in(None, query)),
            RouteTable::In(Some(key)) => Ok(self.rib.page_in(Some(peer(key)?.member()), query)),
            RouteTable::Out(key) => Ok(peer(key)?.routes_out(&self.rib, query)),
        }
    }

    /// From now on [`Speaker::changed_routes`] tells what changes, beginning with everything that there is.
    pub fn follow_routes(&mut self) {
        self.rib.follow();
    }

    /// Up to `limit` accepted routes that have changed since they were asked for, as they are now; to be asked for again until there
    /// are none. [`Event::RoutesChanged`] says when there are more. A prefix that changes often meanwhile is told once.
    pub fn changed_routes(&mut self, limit: usize) -> Vec<ChangedRoute> {
        self.rib.take_changed(limit)
    }

    /// The paths to a prefix, the best first, and for each other one the rule by which the best is better.
    pub fn explain(&self, prefix: &IpNet) -> Vec<ExplainedPath> {
        self.rib.explain(prefix)
    }

    fn with_connection(
        &mut self,
        now: Instant,
        connection: ConnectionId,
        input: impl FnOnce(&mut Peer, &mut Context<'_>),
    ) {
        if let Some(key) = self.connections.get(&connection).cloned() {
            // A connection in the map belongs to a peer in the map: both end together.
            let known = self.with_peer(now, &key, input);
            debug_assert_eq!(known, Ok(()), "connection {connection:?} has no peer");
        }
    }

    fn with_peer(
        &mut self,
        now: Instant,
        key: &PeerKey,
        input: impl FnOnce(&mut Peer, &mut Context<'_>),
    ) -> Result<(), UnknownPeer> {
        let (peers, mut context) = self.split(now);
        let peer = peers.get_mut(key).ok_or_else(|| UnknownPeer(key.clone()))?;
        input(peer, &mut context);
        let deadline = peer.next_deadline();
        self.deadlines.set(key, deadline);
        self.forget_if_spent(now, key);
        self.tend_deferral(now);
        self.wake(now);
        Ok(())
    }

    /// Routes of one peer may be news for others.
    fn wake(&mut self, now: Instant) {
        for member in self.rib.take_woken() {
            let (peers, mut context) = self.split(now);
            if let Some(peer) = peers.get_mut(context.rib.key(member)) {
                peer.request_writes(&mut context);
            }
        }
    }

    /// The peers, and what an input to one of them may reach beyond it.
    fn split(&mut self, now: Instant) -> (&mut BTreeMap<PeerKey, Peer>, Context<'_>) {
        let context = Context {
            now,
            outputs: &mut self.outputs,
            connections: &mut self.connections,
            next_connection: &mut self.next_connection,
            routes_changed: &mut self.routes_changed,
            rib: &mut self.rib,
        };
        (&mut self.peers, context)
    }
}
