//! Objects whose every field was checked: what the rest of Roadstead works with.
//!
//! Each type here is made from its raw form in [`crate::kinds`] or [`crate::kubernetes`] by a function that is the only validator,
//! and that returns everything that is wrong at once ([`Invalid`]): object, field, the value given and what is allowed.

mod advertisement;
mod claim;
mod error;
mod import;
mod network;
mod peer;
mod pool;
mod range;
mod route_server;
mod selector;
mod service;

pub use advertisement::{Advertisement, Bandwidth, LinkBandwidth, LoadBalancerSource, PeerChoice, RouteSettings};
pub use claim::{ClaimName, host_prefix};
pub use error::{Findings, Invalid, ObjectRef};
pub use import::{Excess, Import, MaxPrefixes, PrefixRule};
pub use network::Network;
pub use peer::{Authentication, Bfd, Family, Peer, PeerAsn, SecretKey, TransportMode, Ttl, asn};
pub use pool::{NamespaceChoice, Pool};
pub use range::{AddressRange, RangeError};
pub use route_server::{RouteServer, RouteServerClient, RouteServerRestart};
pub use selector::{Expression, Selector};
pub use service::{FamilyPolicy, LoadBalancer, Port, Protocol, ServiceKey, TrafficPolicy, status_addresses};

/// The labels of an object.
pub type Labels = std::collections::BTreeMap<String, String>;
