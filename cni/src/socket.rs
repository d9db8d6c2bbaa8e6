//! The messages between plugin and speaker: JSON over HTTP on the speaker's Unix socket.
//!
//! | `POST` | asks with | answers |
//! |---|---|---|
//! | [`ADD`] | [`AddRequest`] | [`Assignment`] |
//! | [`DEL`] | [`DelRequest`] | `{}` |
//! | [`CHECK`] | [`CheckRequest`] | `{}` |
//! | [`STATUS`] | [`StatusRequest`] | `{}` |
//! | [`GC`] | [`GcRequest`] | `{}` |
//! | [`REACH`] | [`ReachRequest`] | [`Reach`] |
//!
//! Whatever is refused is answered with a status of 4xx or 5xx and a [`Refusal`].

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where an interface gets its addresses.
pub const ADD: &str = "/v1/cni/add";
/// Where it gives them back.
pub const DEL: &str = "/v1/cni/del";
/// Where it is asked whether it still has them.
pub const CHECK: &str = "/v1/cni/check";
/// Where it is asked whether an ADD could be served.
pub const STATUS: &str = "/v1/cni/status";
/// Where the runtime says what is still in use.
pub const GC: &str = "/v1/cni/gc";
/// Where it is told what lies behind the node.
pub const REACH: &str = "/v1/cni/reach";

/// An interface of a container, as the runtime names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The runtime's ID of the container; for a pod, of its sandbox.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface's name in the container.
    #[serde(rename = "ifname")]
    pub interface: String,
}

/// The pod that a container is the sandbox of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, which old runtimes do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// The network that an interface belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkIdentity {
    /// The name in the network configuration.
    pub name: String,
    /// The NetworkAttachmentDefinition, `namespace/name`, where the configuration's `ipam.network` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// The pools that the configuration's `ipam.pools` names, in its order; `*` and `?` stand for parts of names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<String>,
}

/// Asks for the addresses of an interface. Asked again it is answered the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddRequest {
    /// The interface.
    pub attachment: Attachment,
    /// The pod; `None` for a container that no kubelet made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodIdentity>,
    /// The path of the network namespace.
    pub netns: String,
    /// The network.
    pub network: NetworkIdentity,
    /// Addresses that it is to have: all of them, or the answer is a refusal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requested: Vec<IpAddr>,
}

/// Gives the addresses of an interface back. One that has none is fine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DelRequest {
    /// The interface.
    pub attachment: Attachment,
    /// The name of the network.
    pub network: String,
}

/// Asks whether the addresses of an interface are still its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckRequest {
    /// The interface.
    pub attachment: Attachment,
    /// The name of the network.
    pub network: String,
    /// The addresses that the runtime believes it to have, of all plugins together; empty where it does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
}

/// Asks whether an interface of this network would get addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusRequest {
    /// The network.
    pub network: NetworkIdentity,
}

/// Says which interfaces of a network are there: all others are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GcRequest {
    /// The name of the network.
    pub network: String,
    /// Those that are there.
    pub valid: Vec<Attachment>,
}

/// Asks what a pod reaches by way of its node alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReachRequest {
    /// The name of the network.
    pub network: String,
}

/// What a pod reaches by way of its node alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reach {
    /// Services, and pods that are not on the network themselves.
    #[serde(rename = "clusterCIDRs")]
    pub cluster_cidrs: Vec<IpNet>,
}

/// The addresses of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// Its addresses, at most one of each family unless more were requested.
    pub addresses: Vec<AssignedAddress>,
    /// Its routes.
    pub routes: Vec<Route>,
}

/// One address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignedAddress {
    /// The address with its subnet's length.
    pub address: IpNet,
    /// The subnet's gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// A route of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// By way of; `None`: of the gateway of the address of its family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// Why the speaker does not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// The code for the runtime.
    pub code: u32,
    /// One sentence.
    pub message: String,
    /// More lines: for each pool why it does not serve.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl Refusal {
    /// The specification's "I/O failure".
    pub const IO: u32 = 5;
    /// The specification's "try again later".
    pub const TRY_LATER: u32 = 11;
    /// The specification's "the plugin cannot service ADD requests".
    pub const NOT_AVAILABLE: u32 = 50;
    /// No pool serves this interface.
    pub const NO_POOL: u32 = 100;
    /// Every pool that serves it is used up.
    pub const EXHAUSTED: u32 = 101;
    /// A requested address cannot be had.
    pub const ADDRESS: u32 = 102;
    /// The addresses are not its own any more.
    pub const LOST: u32 = 103;
    /// The container is not of the pod that it says.
    pub const POD: u32 = 104;
    /// The ways between an interface and its node are not all there.
    pub const WAYS: u32 = 105;
}
