//! The engine's interface: peers, what happens to them, and what is to be done about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use ipnet::IpNet;

use crate::{
    ConfigError, LearnedPath, NextHops, PeerConfig, PeerKey, PeerStatus, RouteChange, Transport, UnknownPeer,
};

/// A connection, from the order to dial it (or the moment it came in) until it was closed. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Both ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoints {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    /// Addresses of the interface that has the local address: a next hop for the family that the session is not over.
    pub interface: NextHops,
}

/// What becomes of a connection that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// It belongs to this peer.
    Connection(ConnectionId, PeerKey),
    /// Nobody wants it. Write these bytes, then close it.
    Refused(Vec<u8>),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    Dial { connection: ConnectionId, peer: PeerKey, transport: Transport, ttl: u8 },
    /// [`Speaker::pending_write`] has something for this connection.
    Write { connection: ConnectionId },
    /// Write these last bytes as far as they go, then close. The id is dead.
    Close { connection: ConnectionId, last: Vec<u8> },
    Event(Event),
}

/// What an embedder may want to know at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    SessionUp { peer: PeerKey },
    /// `reason` is in words, as in [`PeerStatus::last_error`].
    SessionDown { peer: PeerKey, reason: String },
    /// [`Speaker::learned`] has changed.
    RoutesChanged,
    /// Events were lost because nobody fetched them: ask for the status.
    Missed { events: u64 },
}

/// The engine.
#[derive(Debug)]
pub struct Speaker {
    _seed: u64,
}

impl Speaker {
    pub fn new(seed: u64) -> Self {
        Self { _seed: seed }
    }
    pub fn set_peer(&mut self, _now: Instant, _key: PeerKey, config: PeerConfig) -> Result<(), ConfigError> {
        config.check()
    }
    pub fn remove_peer(&mut self, _now: Instant, key: &PeerKey) -> Result<(), UnknownPeer> {
        Err(UnknownPeer(key.clone()))
    }
    pub fn update_routes(&mut self, _now: Instant, key: &PeerKey, _changes: Vec<RouteChange>) -> Result<(), UnknownPeer> {
        Err(UnknownPeer(key.clone()))
    }
    pub fn initial_set_complete(&mut self, _now: Instant, key: &PeerKey) -> Result<(), UnknownPeer> {
        Err(UnknownPeer(key.clone()))
    }
    pub fn shutdown(&mut self, _now: Instant, _text: &str) {}
    pub fn status(&self, _now: Instant) -> Vec<PeerStatus> {
        Vec::new()
    }
    pub fn learned(&self) -> BTreeMap<IpNet, Vec<LearnedPath>> {
        BTreeMap::new()
    }
}
