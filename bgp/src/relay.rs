//! What peers are told of each other's routes.
//!
//! A host's speaker passes nothing on. A route server (RFC 7947) and a route reflector (RFC 4456) do nothing else.

use std::net::Ipv4Addr;

/// The peer's part in the passing on of routes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Relay {
    /// Its routes go to no other peer, and it gets none of another's.
    #[default]
    Nothing,
    /// A client of a route server (RFC 7947), external: it gets the best of the other clients' routes with the next hop, the
    /// AS path and every other attribute as they came. That stands in for an import and export policy (RFC 8212): what the
    /// import policy accepts of one client is told to all others.
    RouteServerClient,
    /// A client of a route reflector (RFC 4456), internal: it gets what clients and the others tell.
    ReflectorClient { cluster: Ipv4Addr },
    /// An internal peer of a route reflector that is not a client: it gets what clients tell.
    ReflectorPeer { cluster: Ipv4Addr },
}

impl Relay {
    /// Whether what came from a peer with this part goes to one with that.
    pub(crate) const fn passes_to(self, other: Self) -> bool {
        match (self, other) {
            (Self::RouteServerClient, Self::RouteServerClient)
            // RFC 4456 section 6.
            | (Self::ReflectorClient { .. }, Self::ReflectorClient { .. } | Self::ReflectorPeer { .. })
            | (Self::ReflectorPeer { .. }, Self::ReflectorClient { .. }) => true,
            (Self::Nothing | Self::RouteServerClient | Self::ReflectorClient { .. } | Self::ReflectorPeer { .. }, _) => false,
        }
    }

    pub(crate) const fn cluster(self) -> Option<Ipv4Addr> {
        match self {
            Self::ReflectorClient { cluster } | Self::ReflectorPeer { cluster } => Some(cluster),
            Self::Nothing | Self::RouteServerClient => None,
        }
    }
}

/// What a reflector's peer gets as next hop of others' routes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum RelayedNextHop {
    /// What the route came with.
    #[default]
    Unchanged,
    /// Ours on the session, as for routes of our own: packets then go through us, and must find their way from here. RFC 4456
    /// section 10 warns of it: two reflectors that do so can send packets in circles.
    Own,
}

/// Whether accumulated metrics (AIGP) are heard from a peer and told to it (RFC 7311 section 3.3). Without, the attribute is
/// left out in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum AigpSession {
    /// If the peer is internal.
    #[default]
    Internal,
    Enabled,
    Disabled,
}

impl AigpSession {
    pub(crate) const fn applies(self, internal: bool) -> bool {
        match self {
            Self::Internal => internal,
            Self::Enabled => true,
            Self::Disabled => false,
        }
    }
}

/// Several paths to one prefix on a session (RFC 7911).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct AddPath {
    /// We take them.
    pub receive: AddPathReceive,
    /// So many paths are told of a prefix at most, if the peer takes them; 0 and 1 mean that it is not offered.
    pub send: u8,
}

/// Whether a peer may tell several paths to one prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum AddPathReceive {
    #[default]
    One,
    /// As many as it likes; each counts as a prefix towards the limit of the import policy.
    Several,
}
