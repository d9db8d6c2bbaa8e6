//! Ranges of peers: whose connection is it, and what becomes of a peer that is gone. The rules are those of
//! [`dynamic`](crate::dynamic).

use std::net::IpAddr;
use std::time::Instant;

use rustbgpd_wire::constants::MAX_MESSAGE_LEN;
use rustbgpd_wire::notification::cease_subcode;
use tracing::{debug, info};

use super::Speaker;
use crate::dynamic::Range;
use crate::exchange::{Accepted, Endpoints};
use crate::notification::Notification;
use crate::peer::Peer;
use crate::{ConfigError, DynamicPeers, DynamicStatus, PeerConfig, PeerKey, SessionError, UnknownPeer};

/// Who takes a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taker {
    Peer(PeerKey),
    Range(PeerKey),
}

impl Speaker {
    /// Takes everybody inside a prefix as a passive peer, or gives a range another configuration; live sessions are then
    /// reconfigured or restarted as by [`Speaker::set_peer`], and those of a wider range that now belong to this one end
    /// (Cease 6/6). A peer of a range is known by [`Event::SessionUp`](crate::Event::SessionUp); from then until its
    /// [`Event::SessionDown`](crate::Event::SessionDown) its key can be used like any other.
    pub fn set_dynamic_peers(&mut self, now: Instant, key: PeerKey, peers: DynamicPeers) -> Result<(), ConfigError> {
        peers.check()?;
        let taken = self.ranges.iter().find(|(other, range)| **other != key && range.peers.competes_with(&peers));
        if let Some((other, range)) = taken {
            return Err(ConfigError::PrefixTaken { prefix: range.peers.prefix, other: other.clone() });
        }
        if self.stopped {
            return Ok(());
        }
        self.started.get_or_insert(now);
        match self.ranges.get_mut(&key) {
            Some(range) => range.reconfigure(peers.clone()),
            None => drop(self.ranges.insert(key.clone(), Range::new(peers.clone()))),
        }
        self.end_misplaced_sessions(now);
        for member in self.members(&key) {
            // The keys were just taken from the map.
            let _ = self.with_peer(now, &member, |peer, context| {
                peer.reconfigure(context, peers.config_for(peer.remote_ip()));
            });
        }
        Ok(())
    }

    /// Ends the sessions of a range (Cease 6/3) and forgets it.
    pub fn remove_dynamic_peers(&mut self, now: Instant, key: &PeerKey) -> Result<(), UnknownPeer> {
        if !self.ranges.contains_key(key) {
            return Err(UnknownPeer(key.clone()));
        }
        for member in self.members(key) {
            self.end_member(now, &member, &SessionError::Deconfigured);
        }
        self.ranges.remove(key);
        Ok(())
    }

    /// One entry per range, by name.
    pub fn dynamic_status(&self) -> Vec<DynamicStatus> {
        self.ranges.iter().map(|(key, range)| range.status(key, self.members(key).len())).collect()
    }

    /// Every range, by name.
    pub fn dynamic_peers(&self) -> impl Iterator<Item = (&PeerKey, &DynamicPeers)> {
        self.ranges.iter().map(|(key, range)| (key, &range.peers))
    }

    /// A connection from inside a range.
    pub(super) fn accept_from_range(&mut self, now: Instant, key: &PeerKey, endpoints: Endpoints) -> Accepted {
        let refuse = |subcode| Accepted::Refused(Notification::cease(subcode).encode(MAX_MESSAGE_LEN).to_vec());
        let remote = endpoints.remote.ip().to_canonical();
        let member = PeerKey::new(format!("{key}/{remote}"));
        let sessions = self.members(key).len();
        let Some(range) = self.ranges.get_mut(key) else { return refuse(cease_subcode::CONNECTION_REJECTED) };
        match self.peers.get(&member) {
            Some(peer) if peer.range() == Some(key) => {}
            // The embedder has given the name to a peer with another address.
            Some(_) => return refuse(cease_subcode::CONNECTION_REJECTED),
            None if self.stopped => return refuse(cease_subcode::CONNECTION_REJECTED),
            None if range.is_resting(now, remote) => {
                range.refused_too_soon += 1;
                return Accepted::Refused(Vec::new());
            }
            None if sessions >= range.peers.max_sessions => {
                range.refused_at_limit += 1;
                debug!(range = %key, %remote, "connection refused: there are max_sessions already");
                // RFC 4486 section 4: what has run out is the room that the operator gave the range.
                return refuse(cease_subcode::OUT_OF_RESOURCES);
            }
            None => {
                let config = range.peers.config_for(remote);
                self.add_peer(now, member.clone(), config, Some(key.clone()));
            }
        }
        self.accept_for(now, &member, endpoints)
    }

    /// Whose a connection is: see [`dynamic`](crate::dynamic). Of several configured peers with one address, the first that
    /// listens and is not up.
    pub(super) fn taker(&self, remote: IpAddr, local: Option<IpAddr>, link: Option<&str>) -> Option<Taker> {
        let (remote, local) = (remote.to_canonical(), local.map(|local| local.to_canonical()));
        let ours =
            |config: &PeerConfig| config.transport.source.is_none_or(|source| Some(source.to_canonical()) == local);
        let configured = self.peers.iter().filter(|(_, peer)| peer.range().is_none());
        let candidates = configured.filter(|(_, peer)| {
            let config = peer.config();
            config.transport.expects(remote, link) && ours(config)
        });
        let peer = candidates.min_by_key(|(_, peer)| (!peer.config().connect.listens(), peer.is_established()));
        if let Some((key, _)) = peer {
            return Some(Taker::Peer(key.clone()));
        }
        // The same address on two links would be two peers of one name.
        if matches!(remote, IpAddr::V6(address) if address.is_unicast_link_local()) {
            return None;
        }
        let ranges =
            self.ranges.iter().filter(|(_, range)| range.peers.prefix.contains(&remote) && ours(&range.peers.template));
        let longest = ranges.max_by_key(|(_, range)| range.peers.prefix.prefix_len());
        longest.map(|(key, _)| Taker::Range(key.clone()))
    }

    /// Ends the sessions of ranges that would not be taken as they were, now that peers or ranges have changed.
    pub(super) fn end_misplaced_sessions(&mut self, now: Instant) {
        let members = self.peers.iter().filter_map(|(key, peer)| Some((key, peer, peer.range()?)));
        let misplaced: Vec<(PeerKey, SessionError)> = members
            .filter_map(|(key, peer, range)| match self.taker(peer.remote_ip(), peer.local_ip(), None) {
                Some(Taker::Range(taker)) if taker == *range => None,
                Some(_) => Some((key.clone(), SessionError::ConfigurationChanged)),
                None => Some((key.clone(), SessionError::Deconfigured)),
            })
            .collect();
        for (key, error) in misplaced {
            self.end_member(now, &key, &error);
        }
    }

    pub(super) fn end_member(&mut self, now: Instant, key: &PeerKey, error: &SessionError) {
        // The key was taken from the map, and whoever is stopped is spent.
        let _ = self.with_peer(now, key, |peer, context| peer.stop(context, error));
    }

    /// A peer of a range exists as long as there is something to keep of it.
    pub(super) fn forget_if_spent(&mut self, now: Instant, key: &PeerKey) {
        let Some(spent) = self.peers.get(key).filter(|peer| peer.is_spent()) else { return };
        let range = spent.range().and_then(|range| self.ranges.get_mut(range));
        if let (Some(range), Some(error)) = (range, spent.ended_by()) {
            let (remote, known) = (spent.remote_ip(), spent.was_established());
            let news = range.note_end(now, remote, error.clone(), spent.idle_until());
            // A session that was up has been told of already; of those that never were there may be any number.
            if news && !known {
                info!(peer = %key, %error, "session did not come up; further ones that fail like this are counted");
            }
        }
        self.forget(key);
    }

    /// The peers of a range that exist, by name.
    pub fn members(&self, range: &PeerKey) -> Vec<PeerKey> {
        let members = self.peers.iter().filter(|(_, peer): &(&PeerKey, &Peer)| peer.range() == Some(range));
        members.map(|(key, _)| key.clone()).collect()
    }
}
