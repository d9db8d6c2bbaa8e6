//! Objects whose every field was checked: what the rest of Roadstead works with.
//!
//! Each type here is made from its raw form in [`crate::kinds`] or [`crate::kubernetes`] by a function that is the only validator,
//! and that returns everything that is wrong at once ([`Invalid`]): object, field, the value given and what is allowed.

mod address_set;
mod advertisement;
mod blocks;
mod claim;
mod edge;
mod error;
mod import;
mod link;
mod network;
mod peer;
mod pod_pool;
mod pool;
mod pools_in_force;
mod range;
mod route_server;
mod selector;
mod service;

pub use address_set::AddressSet;
pub use advertisement::{
    Advertisement, Bandwidth, LinkBandwidth, LoadBalancerSource, PeerChoice, PodPoolSource, RouteSettings,
};
pub use blocks::Blocks;
pub use claim::{ClaimName, host_prefix};
pub use edge::{EdgeHost, EdgePrefix};
pub use error::{Findings, Invalid, ObjectRef};
pub use import::{Excess, Import, MaxPrefixes, PrefixRule};
pub use link::Link;
pub use network::Network;
pub use peer::{Authentication, Bfd, Family, Peer, PeerAsn, SecretKey, TransportMode, Ttl, asn};
pub use pod_pool::{LeftOut, PodPool, PodRanges, PoolRoute};
pub use pool::{NamespaceChoice, Pool};
pub use pools_in_force::{InForce, Overlap, pools_in_force};
pub use range::{AddressRange, RangeError};
pub use route_server::{RouteServer, RouteServerClient, RouteServerRestart};
pub use selector::{Expression, Selector};
pub use service::{FamilyPolicy, LoadBalancer, Port, Protocol, ServiceKey, TrafficPolicy, status_addresses};

/// The labels of an object.
pub type Labels = std::collections::BTreeMap<String, String>;
