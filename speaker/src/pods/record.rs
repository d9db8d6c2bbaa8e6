//! What is remembered of an interface that has addresses.

use std::net::IpAddr;

use roadstead_api::kinds::AddressClaim;
use roadstead_cni::socket::{Assignment, Attachment, PodIdentity};
use serde::{Deserialize, Serialize};

/// Whose the addresses are: an interface of a pod, whichever container is its sandbox now. A kubelet makes a new sandbox for the
/// same pod after every failure, and a runtime may bring the DEL of the old one after the ADD of the new.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owner {
    /// The pod's UID; the container's ID where there is no pod.
    pub(crate) uid: String,
    /// The interface.
    pub(crate) interface: String,
}

/// An interface that has addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Whose they are.
    pub(crate) owner: Owner,
    /// The container that has them now.
    pub(crate) attachment: Attachment,
    /// The pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<PodIdentity>,
    /// The network's name.
    pub(crate) network: String,
    /// Where the container's network namespace is: gone with the container.
    pub(crate) netns: String,
    /// The addresses, each with its pool.
    pub(crate) held: Vec<Held>,
    /// What was answered.
    pub(crate) assignment: Assignment,
    /// Whether a StatefulSet made the pod.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_of_stateful_set: bool,
    /// Since when the addresses wait for the next pod of this name, in seconds of Unix time; `None`: the pod has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept_since: Option<i64>,
}

/// One address of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Held {
    /// The address.
    pub(crate) address: IpAddr,
    /// The pool that it is from.
    pub(crate) pool: String,
    /// Its claim, where the pool is shared by nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) claim: Option<ClaimVersion>,
}

/// Which claim it is, for its deletion.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClaimVersion {
    /// The claim's UID.
    pub(crate) uid: String,
    /// The version that was written.
    pub(crate) resource_version: String,
}

impl ClaimVersion {
    /// The version of a claim as it is.
    pub(super) fn of(claim: &AddressClaim) -> Self {
        let metadata = &claim.metadata;
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// The claims behind addresses.
pub(super) fn claims(held: &[Held]) -> Vec<(IpAddr, ClaimVersion)> {
    held.iter().filter_map(|held| Some((held.address, held.claim.clone()?))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pod's `eth0` with one address.
    pub(crate) fn record(uid: &str, address: &str) -> Record {
        let interface = "eth0".to_owned();
        Record {
            owner: Owner { uid: uid.to_owned(), interface: interface.clone() },
            attachment: Attachment { container_id: format!("container-of-{uid}"), interface },
            pod: None,
            network: "net".to_owned(),
            netns: "/run/netns/none".to_owned(),
            held: vec![Held { address: address.parse().unwrap(), pool: "pool".to_owned(), claim: None }],
            assignment: Assignment::default(),
            is_of_stateful_set: false,
            kept_since: None,
        }
    }
}
