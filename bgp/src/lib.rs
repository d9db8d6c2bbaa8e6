//! BGP-4 for a host: it announces what it is told to announce, learns what it is allowed to learn, and forwards nothing. As a
//! route server or a reflector it chooses among what its peers tell, and tells it the others.
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
//!                                   Peer: 0..2 connections (one state machine each), timers
//!                                   Rib:  one table of all that was accepted, and what each peer was told
//! ```
//!
//! Where to read on: [`Speaker`] for the interface, `peer` for sessions and collisions, `peer::state` for the state
//! machine as a table, `dynamic` for peers that are not named one by one, `update` for what becomes of an UPDATE in both
//! directions, `rib` for what is kept of it.
//!
//! # What it does
//!
//! - RFC 4271 (BGP-4), 4760 and 2545 (IPv4 and IPv6 unicast), 8950 (IPv4 routes with IPv6 next hops)
//! - 5492 and 9072 (capabilities, long OPENs), 8654 (messages of up to 65535 octets), 6286 (identifiers)
//! - 6793 (four-octet AS numbers, also towards those who lack them)
//! - 7606 and 7607 (malformed UPDATEs), 4486, 6608, 9003 (codes and texts of closing), 9687 (send hold timer)
//! - 1997, 8092, 4360 and 5701 (communities), 10005 (link bandwidth), 8212 (nothing in or out by default), 9234 (roles; [`Role`]), 7311 (accumulated metric; [`AigpSession`])
//! - 2918 and 7313 (route refresh), 4724 and 8538 (graceful restart, ours and the peer's; [`GracefulRestart`])
//! - 7911 (several paths to a prefix; [`AddPath`]), 4456 (reflection) and 7947 (route servers; [`Relay`])
//! - 5880 to 5883 and 9384 (BFD; [`bfd`])
//! - in the driver 2385 (TCP MD5), 5082 (GTSM), and of 4861 router advertisements, for unnumbered sessions
//!
//! # What it deliberately does not do
//!
//! It is no router: a route of one peer goes to another only where both are clients of a route server or of a reflector
//! ([`Relay`]), and never from an external peer to an internal one. No codec: `rustbgpd-wire` is what knows the bytes; the one
//! exception, prefixes behind attributes that it has encoded, is in `update::relayed`.

mod asn;
mod attributes;
pub mod bfd;
mod capability;
mod community;
mod config;
mod dynamic;
mod error;
mod exchange;
mod extended_community;
mod family;
mod graceful_restart;
mod martians;
mod max_prefixes;
mod next_hop;
mod notification;
#[cfg(test)]
mod oracle;
mod peer;
mod policy;
mod random;
#[cfg(feature = "record")]
pub mod record;
mod refusal;
mod relay;
mod rib;
mod role;
mod speaker;
mod status;
mod update;

#[cfg(feature = "driver")]
#[allow(clippy::disallowed_methods, reason = "the driver is where the clock is")]
pub mod driver;

pub use asn::{Asn, AsnRanges};
pub use attributes::{AsPath, LearnedPath, Origin, RouteAttributes};
pub use community::{Community, LargeCommunity};
pub use config::{
    AoAlgorithm, Connect, ExtendedMessages, ExtendedNextHop, NextHops, Password, PeerAsn, PeerConfig, PeerKey,
    Signature, Transport, Ttl,
};
pub use dynamic::{DynamicEnd, DynamicPeers, DynamicStatus};
pub use error::{ConfigError, OpenError, ParseError, SessionError, UnknownPeer};
pub use exchange::{Accepted, ConnectionId, Endpoints, Event, Output};
pub use extended_community::{ExtendedCommunity, LinkBandwidth, Transitivity};
pub use family::Family;
pub use graceful_restart::{GracefulRestart, Shutdown};
pub use martians::{Purpose, SpecialRange};
pub use max_prefixes::{Excess, MaxPrefixes};
pub use notification::Notification;
pub use policy::{ImportPolicy, PrefixRule, RefusalReason};
pub use refusal::{MalformedOutcome, MalformedUpdate, Refusal};
pub use relay::{AddPath, AddPathReceive, AigpSession, Relay, RelayedNextHop};
pub use rib::{ChangedRoute, ExplainedPath, NextHopRoute, RouteChange, SelectionRule, Verdict};
pub use rib::{Cursor, RouteFilter, RoutePage, RouteQuery, RouteTable, ShownRoute, Standing};
pub use role::{Role, RoleStrictness};
pub use speaker::{SelectionDeferral, Speaker};
pub use status::{LimitState, LimitStatus, PeerStatus, SessionState};
