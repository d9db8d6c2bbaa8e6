//! BGP-4 for a host: it announces what it is told to announce, learns what it is allowed to learn, and forwards nothing.
//!
//! The core is a machine without hands. [`Speaker`] takes what happened (bytes, connections, time) through `handle_*`
//! and says what to do through [`Speaker::poll_output`] and [`Speaker::next_deadline`]; it opens no socket, reads no
//! clock and draws no randomness but from its seed. So the same inputs give the same outputs, whole networks run on
//! virtual time in a test, and an incident can be replayed. The feature `driver` adds the hands: sockets and a clock on
//! tokio, and nothing that decides.
//!
//! ```text
//!  embedder: set_peer, update_routes ---.
//!                                        v
//!  bytes, connections, time ---> [ Speaker: Peer, Peer, ... ] ---> dial, write, close, events
//!                                   Peer: 0..2 connections (one state machine each), timers,
//!                                         Adj-RIB-In, Adj-RIB-Out
//! ```
//!
//! Where to read on: [`Speaker`] for the interface, `peer` for sessions and collisions, `peer::state` for the state
//! machine as a table, `update` for what becomes of an UPDATE in both directions, `rib` for what is kept of it.
//!
//! # What it does
//!
//! RFC 4271 (BGP-4), 4760 and 2545 (IPv4 and IPv6 unicast), 5492 and 9072 (capabilities, long OPENs), 6793 (four-octet AS
//! numbers, also towards those who lack them), 7606 and 7607 (malformed UPDATEs), 1997 and 8092 (communities), 2918 and
//! 7313 (route refresh), 4486, 6608, 9003 (codes and texts of closing), 6286 (identifiers), 8212 (nothing in or out by
//! default), 8654 (messages of up to 65535 octets), 9687 (send hold timer), 4724 and 8538 (graceful restart, ours and the peer's; [`GracefulRestart`]), 9234 (roles; [`Role`]); in the
//! driver 2385 (TCP MD5) and 5082 (GTSM).
//!
//! # What it deliberately does not do
//!
//! No best path selection: there is no table to forward by, and whoever needs one sees every learned path. No route of one
//! peer is passed on to another. No codec: `rustbgpd-wire` is the only code that knows the bytes.

mod asn;
mod attributes;
mod community;
mod config;
mod error;
mod exchange;
mod family;
mod graceful_restart;
mod notification;
#[cfg(test)]
mod oracle;
mod peer;
mod policy;
mod random;
mod refusal;
mod rib;
mod role;
mod speaker;
mod status;
mod update;

#[cfg(feature = "driver")]
#[allow(clippy::disallowed_methods, reason = "the driver is where the clock is")]
pub mod driver;

pub use asn::Asn;
pub use attributes::{AsPath, LearnedPath, Origin, RouteAttributes};
pub use community::{Community, LargeCommunity};
pub use config::{Connect, ExtendedMessages, NextHops, Password, PeerAsn, PeerConfig, PeerKey, Transport, Ttl};
pub use error::{ConfigError, OpenError, ParseError, SessionError, UnknownPeer};
pub use exchange::{Accepted, ConnectionId, Endpoints, Event, Output};
pub use family::Family;
pub use graceful_restart::{GracefulRestart, Shutdown};
pub use notification::Notification;
pub use policy::{ImportPolicy, Martians, PrefixRule, RefusalReason};
pub use refusal::{MalformedOutcome, MalformedUpdate, Refusal};
pub use rib::RouteChange;
pub use role::{Role, RoleStrictness};
pub use speaker::Speaker;
pub use status::{PeerStatus, SessionState};
