//! What an operator can see of a session.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{Asn, Family, MalformedUpdate, PeerKey, Refusal, RefusalReason, Role};

/// The states of RFC 4271 section 8.2.2. Of a peer with two connections it is the one that has come further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionState {
    /// Waiting after an error, or stopped. Connections are refused.
    Idle,
    /// Dialling.
    Connect,
    /// Waiting for the peer's connection, or for the next attempt.
    Active,
    OpenSent,
    OpenConfirm,
    Established,
}

impl SessionState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How far one family of a peer is from its maximum of prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitStatus {
    pub family: Family,
    /// What counts against the limit.
    pub accepted: usize,
    pub limit: u32,
    pub state: LimitState,
}

/// What the operator is to know of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitState {
    Below,
    /// From the share on that is warned of.
    Warned,
    /// Routes were refused for want of room, and the peer has not been asked for them since.
    Dropping,
}

/// One session as it is now. What was negotiated is there only while it is established.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    pub key: PeerKey,
    /// The range that it comes from, of a peer that was not configured itself.
    pub range: Option<PeerKey>,
    /// The peer's address: of the connection where there is one, else of the configuration.
    pub remote: SocketAddr,
    /// The interface that an unnumbered session is over.
    pub interface: Option<String>,
    pub local: Option<SocketAddr>,
    pub state: SessionState,
    /// When the session entered this state.
    pub since: Instant,
    /// How long the session has been established.
    pub uptime: Option<Duration>,
    pub local_asn: Asn,
    /// As in the peer's OPEN.
    pub remote_asn: Option<Asn>,
    pub remote_router_id: Option<Ipv4Addr>,
    /// As in the peer's OPEN; where it says nothing, what our role implies.
    pub remote_role: Option<Role>,
    /// Negotiated; zero means that neither side sends KEEPALIVEs.
    pub hold_time: Option<Duration>,
    /// Between our KEEPALIVEs, before jitter; zero: none are sent.
    pub keepalive: Option<Duration>,
    /// What we have offered in our OPEN and the peer in its, in words; at most 64 each.
    pub capabilities_sent: Vec<String>,
    pub capabilities_received: Vec<String>,
    /// The longest UPDATE that the peer takes (RFC 8654), in octets.
    pub max_message: Option<u16>,
    /// IPv4 routes may have IPv6 next hops, in both directions (RFC 8950).
    pub extended_next_hop: bool,
    /// Negotiated.
    pub families: BTreeSet<Family>,
    /// Families whose routes are not announced on this session, because there is no next hop for them: neither
    /// configured, nor the session's own address, nor one on its interface, nor a fallback.
    pub withheld: BTreeSet<Family>,
    /// Prefixes that the embedder wants this peer to know.
    pub prefixes_wanted: usize,
    /// Prefixes that this peer has been told.
    pub prefixes_sent: usize,
    /// Prefixes whose attributes do not fit into a message; they are not announced.
    pub prefixes_too_large: usize,
    /// Announcements received in this session, accepted or not.
    pub prefixes_received: u64,
    /// Prefixes that were accepted and not withdrawn since.
    pub prefixes_accepted: usize,
    /// Those of them that outlived their session and wait for the peer's restart to confirm them (RFC 4724).
    pub prefixes_stale: usize,
    /// By family, where there is a maximum.
    pub limits: Vec<LimitStatus>,
    /// Announcements refused in this session, by reason.
    pub refused: BTreeMap<RefusalReason, u64>,
    /// The last hundred refusals, oldest first, of earlier sessions too.
    pub last_refusals: Vec<Refusal>,
    /// UPDATEs in this session of which an attribute was discarded or whose routes were treated as withdrawn (RFC 7606).
    pub updates_with_discarded_attributes: u64,
    pub updates_treated_as_withdrawn: u64,
    /// The last UPDATE in which something was wrong, whatever that cost; of an earlier session too.
    pub last_malformed: Option<Arc<MalformedUpdate>>,
    /// When a connection is tried again, or one of the peer taken again.
    pub next_attempt: Option<Instant>,
    /// Messages since the peer was configured.
    pub messages_in: u64,
    pub messages_out: u64,
    /// Why the session last went down or did not come up, in words, with codes.
    pub last_error: Option<String>,
    /// How often an established session was lost since the peer was configured.
    pub flaps: u64,
}
