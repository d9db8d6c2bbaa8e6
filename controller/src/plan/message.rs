//! What goes into the plan and what comes out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use ipnet::IpNet;
use jiff::Timestamp;
use roadstead_api::checked::{Invalid, LoadBalancer, Network, ObjectRef, PodPool, Pool, ServiceKey};
use roadstead_api::store::Notice;

use super::allocator::Number;
use super::claim::{Claim, StoredClaim, Uid, Version};
use crate::verdict::Ready;

/// The time, told to the plan with everything that happens.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// For what is written down.
    pub wall: Timestamp,
}

/// Something that a store told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A pool is there, or changed.
    PoolApplied {
        /// Its name.
        name: String,
        /// What it says, or all that is wrong with it.
        checked: Result<Pool, Vec<Invalid>>,
        /// Its `metadata.generation`.
        generation: Option<i64>,
        /// What its status says.
        report: Option<PoolReport>,
    },
    /// A pool is gone.
    PoolDeleted(String),
    /// A pool for pods is there, or changed.
    PodPoolApplied {
        /// Its name.
        name: String,
        /// What it says, or all that is wrong with it.
        checked: Result<PodPool, Vec<Invalid>>,
        /// Its `metadata.generation`.
        generation: Option<i64>,
        /// What its status says.
        report: Option<PodPoolReport>,
    },
    /// A pool for pods is gone.
    PodPoolDeleted(String),
    /// What a node's report says of pods' addresses; nothing, when the report is gone.
    PodsReported(String, NodePods),
    /// A node is there.
    NodeApplied(String),
    /// A node is gone.
    NodeDeleted(String),
    /// What the cluster itself uses; `None`, when nobody says.
    NetworkApplied(Option<Network>),
    /// A claim is there, or changed.
    ClaimApplied(StoredClaim),
    /// A claim is gone.
    ClaimDeleted(IpNet, Uid),
    /// A Service is there, or changed.
    ServiceApplied(ServiceState),
    /// A Service is gone.
    ServiceDeleted(ServiceKey, Uid),
    /// An edge host is there, or changed: its UID, and what it wishes for unless its prefix is given.
    EdgeHostApplied(Uid, Option<EdgeWish>),
    /// The edge host of this UID is gone.
    EdgeHostDeleted(Uid),
    /// A namespace has these labels now.
    NamespaceApplied(String, BTreeMap<String, String>),
    /// A namespace is gone.
    NamespaceDeleted(String),
    /// These addresses are somebody's own, and never handed out; none, when that object is gone.
    Reserved(ObjectRef, BTreeSet<IpAddr>),
    /// Everything that exists was told.
    Synced,
}

/// What a node says of pods' addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePods {
    /// How many it handed out without a claim, by pool.
    pub allocated: BTreeMap<String, u64>,
    /// Why a pod got none, by pool, where the pool has no more for this node.
    pub exhausted: BTreeMap<String, String>,
    /// What routers were told, or may have been.
    pub announced: BTreeSet<IpNet>,
    /// Blocks of nodes that are gone, and that it still has a route to.
    pub heard: BTreeSet<IpNet>,
}

/// What an edge host asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeWish {
    /// The host's name.
    pub name: String,
    /// The PodPool that its prefix shall come from.
    pub pool: String,
    /// The length of the prefix; `None`: 28, of IPv6 124.
    pub length: Option<u8>,
}

/// A Service as the store has it.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// Its namespace and name.
    pub key: ServiceKey,
    /// Which state of it.
    pub version: Version,
    /// When it was made, as sortable text.
    pub created: String,
    /// What it asks for.
    pub wish: Wish,
    /// The addresses in its status.
    pub status: Vec<IpAddr>,
    /// Whether its status holds anything but addresses, which we never write.
    pub foreign_ingress: bool,
}

/// What a Service asks for.
#[derive(Clone, Debug)]
pub enum Wish {
    /// It is not of type LoadBalancer.
    Nothing,
    /// It cannot be told.
    Invalid {
        /// Its `loadBalancerClass`.
        class: Option<String>,
        /// All that is wrong.
        findings: Vec<Invalid>,
    },
    /// This.
    LoadBalancer(LoadBalancer),
}

/// Something that a store shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Make a claim.
    CreateClaim(Claim),
    /// Replace a claim that is still of this version.
    ReplaceClaim(Claim, Version),
    /// Delete a claim that is still of this version.
    DeleteClaim(IpNet, Version),
    /// Write addresses into the status of a Service that is still of this version; none clears it.
    ServiceStatus {
        /// The Service.
        key: ServiceKey,
        /// Its state.
        version: Version,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// Write a pool's status.
    PoolStatus(String, PoolReport),
    /// Write the status of a pool for pods.
    PodPoolStatus(String, PodPoolReport),
    /// Tell the people who look at an object.
    Notice(Notice),
}

/// How a write ended. A store that cannot be reached is no ending: the writer tries again until it knows.
#[derive(Clone, Debug)]
pub enum WriteResult {
    /// What the store has under a claim's name now, whoever wrote it.
    Claim(IpNet, Option<StoredClaim>),
    /// The store will not do it.
    ClaimRefused(IpNet, String),
    /// A Service's status.
    ServiceStatus(ServiceKey, Uid, StatusOutcome),
    /// A pool's status; true: done.
    PoolStatus(String, bool),
    /// The status of a pool for pods; true: done.
    PodPoolStatus(String, bool),
}

/// How writing a Service's status ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusOutcome {
    /// It is written.
    Done,
    /// The Service is another version by now, which an event tells or told.
    Conflict,
    /// The Service is gone.
    Gone,
    /// The store will not do it, for this reason.
    Refused(String),
}

/// What is said of a pool in its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolReport {
    /// Its IPv4 addresses, where it has any.
    pub ipv4: Option<Count>,
    /// Its IPv6 addresses, where it has any.
    pub ipv6: Option<Count>,
    /// Whether it is in force.
    pub ready: Ready,
}

/// What is said of a pool for pods in its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPoolReport {
    /// Its family; `None` where it never could be read.
    pub is_ipv4: Option<bool>,
    /// All that may be handed out, where it is in force.
    pub total: Option<Number>,
    /// Those that belong to a pod.
    pub allocated: Number,
    /// Those inside its ranges that are never handed out, and why.
    pub left_out: Vec<(IpAddr, String)>,
    /// Whether it is in force.
    pub ready: Ready,
}

/// Addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// All that may be handed out.
    pub total: Number,
    /// Those that belong to somebody.
    pub allocated: Number,
    /// Those that are left.
    pub available: Number,
}
