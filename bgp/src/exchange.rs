//! What crosses the line between the engine and whoever holds the sockets: connections and their ends, what is to be done, and what
//! an embedder may want to know.

use std::net::SocketAddr;

use crate::{Family, NextHops, PeerKey};
#[cfg(doc)]
use crate::{PeerStatus, Speaker};

/// A connection, from the order to dial it (or the moment it came in) until it was closed. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct ConnectionId(pub u64);

/// Both ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
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
    /// Open a connection, as [`Speaker::config`] says; answer with [`Speaker::handle_dialled`] or
    /// [`Speaker::handle_closed`].
    Dial {
        connection: ConnectionId,
        peer: PeerKey,
    },
    /// [`Speaker::pending_write`] has something for this connection.
    Write {
        connection: ConnectionId,
    },
    /// Write these last bytes as far as they go, then close; or stop dialling. The id is dead.
    Close {
        connection: ConnectionId,
        last: Vec<u8>,
    },
    Event(Event),
}

/// What an embedder may want to know at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    SessionUp {
        peer: PeerKey,
    },
    /// A session was lost, or failed to come up for another reason than the last time. `reason` is in words, as in
    /// [`PeerStatus::last_error`].
    SessionDown {
        peer: PeerKey,
        reason: String,
    },
    /// The peer has come to the share of its maximum of prefixes from which on it is warned of; told at most once a minute.
    MaxPrefixesNear {
        peer: PeerKey,
        family: Family,
        accepted: usize,
        limit: u32,
    },
    /// [`Speaker::learned`] has changed.
    RoutesChanged,
    /// The BFD session beside this peer's came up or went down. Said by the driver, which has BFD on a thread of its own.
    BfdChanged {
        peer: PeerKey,
    },
    /// So many events were lost because nobody fetched them: ask for the status.
    Missed {
        events: u64,
    },
}
