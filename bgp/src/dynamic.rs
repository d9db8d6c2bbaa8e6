//! Peers that are not named one by one: whoever dials us from inside a prefix and is in an allowed AS.
//!
//! Such a peer exists as long as there is a connection with it, or routes of it that wait for its restart (RFC 4724). After
//! that nothing is kept of it but a line among the last [`Range::KEPT`] ends, so memory is bounded by `max_sessions` and not by
//! the number of addresses that try. A flood of connections costs the range its free sessions for [`OPEN_TIME`] at the
//! longest, and no other peer anything.
//!
//! Which peer a connection belongs to is asked in this order: a configured peer with the address; the range with the longest
//! prefix that contains it. The answer is asked for again whenever a peer or a range is set, and a session that now belongs to
//! somebody else ends.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ipnet::IpNet;

use crate::error::ConfigError;
use crate::refusal::quotation;
use crate::{Connect, PeerConfig, PeerKey, SessionError, Transport};

/// Sessions for everybody inside a prefix. Each is a passive peer of its own, named after the range and its address:
/// `clients/10.77.0.5`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicPeers {
    pub prefix: IpNet,
    /// At least 1. Lowering it ends no session.
    pub max_sessions: usize,
    /// What each of them is configured with, but for `connect` (always passive) and the address in `transport.remote`. Which
    /// AS numbers they may have is said by its `peer_asn`; [`PeerAsn::Within`](crate::PeerAsn::Within) takes ranges.
    pub template: PeerConfig,
}

/// A range as it is now. Its sessions are among [`Speaker::status`](crate::Speaker::status).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicStatus {
    pub key: PeerKey,
    pub prefix: IpNet,
    pub max_sessions: usize,
    /// Peers that exist, with a session or on the way to one.
    pub sessions: usize,
    /// Connections refused because there were `max_sessions` already.
    pub refused_at_limit: u64,
    /// Connections refused because the last one from the same address had failed a moment ago.
    pub refused_too_soon: u64,
    /// Sessions that ended or did not come up.
    pub ended: u64,
    /// The last 32 of these, oldest first.
    pub last_ends: Vec<DynamicEnd>,
}

/// One session of a range that ended or did not come up. What is quoted of messages is cut to
/// [`MalformedUpdate::MAX_OCTETS`](crate::MalformedUpdate::MAX_OCTETS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicEnd {
    pub at: Instant,
    pub remote: IpAddr,
    pub error: SessionError,
}

/// How long a peer that nobody has named may take for its OPEN. RFC 4271 section 8.2.2 suggests 4 minutes, and for peers that
/// an operator knows.
pub(crate) const OPEN_TIME: Duration = Duration::from_secs(30);

impl DynamicPeers {
    /// The configuration of the peer with this address.
    pub(crate) fn config_for(&self, remote: IpAddr) -> PeerConfig {
        let remote = SocketAddr::new(remote, self.template.transport.remote.port());
        PeerConfig {
            connect: Connect::Passive,
            transport: Transport { remote, ..self.template.transport.clone() },
            ..self.template.clone()
        }
    }

    /// Refuses what no session could run with.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.max_sessions == 0 {
            return Err(ConfigError::NoSessions { prefix: self.prefix });
        }
        // Any address of it will do, but the first may be one that stands for something else.
        self.config_for(self.prefix.broadcast()).check()
    }

    /// Whether the same connection could be meant by both, and neither is narrower.
    pub(crate) fn competes_with(&self, other: &Self) -> bool {
        let sources = (self.template.transport.source, other.template.transport.source);
        let same_source = !matches!(sources, (Some(one), Some(another)) if one != another);
        self.prefix.trunc() == other.prefix.trunc() && same_source
    }
}

/// A range with what is remembered of those who are gone.
#[derive(Debug)]
pub(crate) struct Range {
    pub(crate) peers: DynamicPeers,
    pub(crate) refused_at_limit: u64,
    pub(crate) refused_too_soon: u64,
    ended: u64,
    last_ends: VecDeque<DynamicEnd>,
    /// Addresses that were refused a session, and until when they may not try again. At most `max_sessions`.
    resting: BTreeMap<IpAddr, Instant>,
}

impl Range {
    /// Enough to see what is wrong with those who try.
    pub(crate) const KEPT: usize = 32;

    pub(crate) fn new(peers: DynamicPeers) -> Self {
        Self {
            peers,
            refused_at_limit: 0,
            refused_too_soon: 0,
            ended: 0,
            last_ends: VecDeque::new(),
            resting: BTreeMap::new(),
        }
    }

    /// What somebody was refused for was another configuration's business.
    pub(crate) fn reconfigure(&mut self, peers: DynamicPeers) {
        if self.peers != peers {
            self.resting.clear();
            self.peers = peers;
        }
    }

    pub(crate) fn is_resting(&self, now: Instant, remote: IpAddr) -> bool {
        self.resting.get(&remote).is_some_and(|until| now < *until)
    }

    /// Notes the end of a session; tells whether it is another one than the last time.
    pub(crate) fn note_end(
        &mut self,
        now: Instant,
        remote: IpAddr,
        error: SessionError,
        rests: Option<Instant>,
    ) -> bool {
        self.resting.retain(|_, until| now < *until);
        if let Some(until) = rests
            && self.resting.len() < self.peers.max_sessions
        {
            self.resting.insert(remote, until);
        }
        let error = cut(error);
        let news = self.last_ends.back().is_none_or(|last| last.error != error);
        self.ended += 1;
        if self.last_ends.len() == Self::KEPT {
            self.last_ends.pop_front();
        }
        self.last_ends.push_back(DynamicEnd { at: now, remote, error });
        news
    }

    pub(crate) fn status(&self, key: &PeerKey, sessions: usize) -> DynamicStatus {
        DynamicStatus {
            key: key.clone(),
            prefix: self.peers.prefix,
            max_sessions: self.peers.max_sessions,
            sessions,
            refused_at_limit: self.refused_at_limit,
            refused_too_soon: self.refused_too_soon,
            ended: self.ended,
            last_ends: self.last_ends.iter().cloned().collect(),
        }
    }
}

/// Without the long quotations: a message that is kept may have 65535 octets.
fn cut(mut error: SessionError) -> SessionError {
    if let SessionError::NotificationReceived { notification, .. }
    | SessionError::Header { notification, .. }
    | SessionError::Update { notification, .. }
    | SessionError::RouteRefresh { notification, .. } = &mut error
    {
        let data: Bytes = quotation(&notification.data);
        notification.data = data;
    }
    error
}
