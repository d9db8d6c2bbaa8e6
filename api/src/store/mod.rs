//! Where objects live: the Kubernetes API, or a directory of manifests.
//!
//! Both homes look the same from here. [`Store::watch`] gives one ordered stream of [`Event`]s for everything that a component
//! watches: first what exists, `Synced` for each watch as soon as that is complete, then every change. A consumer never sees a
//! re-list: after a broken watch the store compares, and tells only what changed meanwhile.
//!
//! Writes carry their preconditions (`uid`, `resourceVersion`) and end in one of the outcomes of [`WriteError`], which both homes
//! give alike: the plan's safety rests on `AlreadyExists` and `Conflict`.

mod directory;
mod known;
mod kubernetes;
mod object;

use std::net::IpAddr;

use ipnet::IpNet;
use tokio::sync::mpsc;

use crate::checked::{ObjectRef, ServiceKey};
use crate::kinds::{
    AddressClaim, AddressPoolStatus, AdvertisementStatus, BgpPeerStatus, ClusterLinkStatus, ClusterNetworkStatus,
    EdgeHostStatus, NodeReport, PodPoolStatus,
};
use crate::kubernetes::{Pod, StatefulSet};

pub use directory::{DirectoryStore, OpenError, Place, Problem};
pub use kubernetes::{ConnectError, KubernetesStore, LOG_DIRECTIVES, ListError};
pub use object::{Kind, Object, ObjectKey};

/// A store of either home; cheap to clone.
#[derive(Clone)]
pub enum Store {
    /// The Kubernetes API.
    Kubernetes(KubernetesStore),
    /// A directory of manifests.
    Directory(DirectoryStore),
}

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The kind.
    pub kind: Kind,
    /// Only in this namespace.
    pub namespace: Option<String>,
    /// Only the object of this name.
    pub name: Option<String>,
    /// Only pods that were given to this node.
    pub node: Option<String>,
}

impl Watch {
    /// Every object of a kind.
    pub fn all(kind: Kind) -> Self {
        Self { kind, namespace: None, name: None, node: None }
    }

    /// Every object of a kind in one namespace.
    pub fn namespace(kind: Kind, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..Self::all(kind) }
    }

    /// One cluster-scoped object.
    pub fn one(kind: Kind, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::all(kind) }
    }

    /// The pods of one node; one that is moved to another is told as gone.
    pub fn pods_of_node(node: &str) -> Self {
        Self { node: Some(node.to_owned()), ..Self::all(Kind::Pod) }
    }
}

/// What a watch says.
#[derive(Clone, Debug)]
pub enum Event {
    /// The object is there, or changed.
    Applied(Object),
    /// The object is gone; the UID tells which of that name it was.
    Deleted(ObjectKey, String),
    /// All that existed of this kind when the watch began was told.
    Synced(Kind),
}

/// Events that may wait for a consumer. A store stops reading its source when they do, so this bounds memory, not correctness;
/// deep enough that a burst of a few thousand changes does not make the reader wait for each.
pub const EVENT_QUEUE: usize = 4096;

/// Why a write did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// An object of that name exists.
    #[error("{0} exists already")]
    AlreadyExists(ObjectRef),
    /// It changed since it was read.
    #[error("{0} changed since it was read")]
    Conflict(ObjectRef),
    /// It is gone.
    #[error("{0} does not exist")]
    NotFound(ObjectRef),
    /// The store refuses it, and will again.
    #[error("{object}: {reason}")]
    Refused {
        /// The object.
        object: ObjectRef,
        /// The store's words.
        reason: String,
    },
    /// The store cannot be reached, or it cannot be known whether the write was done.
    #[error("{object}: {reason}")]
    Unavailable {
        /// The object.
        object: ObjectRef,
        /// What happened.
        reason: String,
    },
}

/// Something that happened to an object, for the people who look at it (`kubectl describe`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The object that it happened to.
    pub object: ObjectRef,
    /// Its UID.
    pub uid: String,
    /// Whether somebody should act.
    pub severity: Severity,
    /// The reason in CamelCase.
    pub reason: &'static str,
    /// What happened, in words.
    pub message: String,
}

/// Whether somebody should act on a [`Notice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// All is as it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// The status of an object whose status Roadstead owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Of an AddressPool.
    AddressPool(AddressPoolStatus),
    /// Of a BGPPeer.
    BgpPeer(BgpPeerStatus),
    /// Of an Advertisement.
    Advertisement(AdvertisementStatus),
    /// Of a ClusterLink.
    ClusterLink(ClusterLinkStatus),
    /// Of the ClusterNetwork.
    ClusterNetwork(ClusterNetworkStatus),
    /// Of an EdgeHost.
    EdgeHost(EdgeHostStatus),
    /// Of a PodPool.
    PodPool(PodPoolStatus),
}

impl Status {
    /// The kind of the object whose status it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::AddressPool(_) => Kind::AddressPool,
            Self::BgpPeer(_) => Kind::BgpPeer,
            Self::Advertisement(_) => Kind::Advertisement,
            Self::ClusterLink(_) => Kind::ClusterLink,
            Self::ClusterNetwork(_) => Kind::ClusterNetwork,
            Self::EdgeHost(_) => Kind::EdgeHost,
            Self::PodPool(_) => Kind::PodPool,
        }
    }
}

/// Runs one method of whichever home the store has.
macro_rules! either {
    ($store:expr, $inner:ident => $call:expr) => {
        match $store {
            Store::Kubernetes($inner) => $call,
            Store::Directory($inner) => $call,
        }
    };
}

impl Store {
    /// Starts watching. The stream ends when the receiver is dropped; it never ends by itself.
    pub fn watch(&self, watches: Vec<Watch>) -> mpsc::Receiver<Event> {
        either!(self, store => store.watch(watches))
    }

    /// Makes a claim; the answer carries its `uid` and `resourceVersion`.
    pub async fn create_claim(&self, claim: &AddressClaim) -> Result<AddressClaim, WriteError> {
        either!(self, store => store.create_claim(claim).await)
    }

    /// Reads a claim from the store itself, not from a cache.
    pub async fn claim(&self, name: &str) -> Result<Option<AddressClaim>, WriteError> {
        either!(self, store => store.claim(name).await)
    }

    /// Reads a pod, on whatever node it is; `None`: there is none. A directory knows no more pods than it tells of.
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, WriteError> {
        match self {
            Self::Kubernetes(store) => store.pod(namespace, name).await,
            Self::Directory(_) => Err(not_in_a_directory("Pod", namespace, name)),
        }
    }

    /// Reads a StatefulSet; `None`: there is none. A directory has none, and cannot tell.
    pub async fn stateful_set(&self, namespace: &str, name: &str) -> Result<Option<StatefulSet>, WriteError> {
        match self {
            Self::Kubernetes(store) => store.stateful_set(namespace, name).await,
            Self::Directory(_) => Err(not_in_a_directory("StatefulSet", namespace, name)),
        }
    }

    /// Replaces a claim whose `uid` and `resourceVersion` are still those in it.
    pub async fn replace_claim(&self, claim: &AddressClaim) -> Result<AddressClaim, WriteError> {
        either!(self, store => store.replace_claim(claim).await)
    }

    /// Deletes a claim whose `uid` and `resourceVersion` are still these.
    pub async fn delete_claim(&self, name: &str, uid: &str, resource_version: &str) -> Result<(), WriteError> {
        either!(self, store => store.delete_claim(name, uid, resource_version).await)
    }

    /// Writes the addresses into the status of a Service whose `uid` and `resourceVersion` are still these; no address clears it.
    pub async fn write_service_status(
        &self,
        service: &ServiceKey,
        uid: &str,
        resource_version: &str,
        addresses: &[IpAddr],
    ) -> Result<(), WriteError> {
        either!(self, store => store.write_service_status(service, uid, resource_version, addresses).await)
    }

    /// Writes the status of one of our objects.
    pub async fn write_status(&self, name: &str, status: &Status) -> Result<(), WriteError> {
        either!(self, store => store.write_status(name, status).await)
    }

    /// Writes a node's report, making the object where it is missing.
    pub async fn write_node_report(&self, report: &NodeReport) -> Result<(), WriteError> {
        either!(self, store => store.write_node_report(report).await)
    }

    /// Where ClusterIPs come from on an API server that has no `ServiceCIDR`s; a directory has none at all.
    pub async fn service_ranges(&self) -> Result<Vec<IpNet>, ListError> {
        match self {
            Self::Kubernetes(store) => store.service_ranges().await,
            Self::Directory(_) => Ok(Vec::new()),
        }
    }

    /// Tells the people who look at an object what happened. Best effort: a notice that cannot be written is logged.
    pub async fn notify(&self, notice: &Notice) {
        match self {
            Self::Kubernetes(store) => store.notify(notice).await,
            Self::Directory(store) => store.notify(notice),
        }
    }
}

fn not_in_a_directory(kind: &'static str, namespace: &str, name: &str) -> WriteError {
    let reason = "not read from a directory of manifests".to_owned();
    WriteError::Unavailable { object: ObjectRef::namespaced(kind, namespace, name), reason }
}
