//! `AddressClaim`: this address, or this block, belongs to that owner.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CidrText, ObjectName};

/// An address or a block, and whose it is. Its name is the address in one canonical form, so the
/// API server itself refuses a second owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "AddressClaim",
    plural = "addressclaims",
    shortname = "claim",
    category = "roadstead",
    derive = "PartialEq",
    doc = "This address, or this block, belongs to that owner. Written by Roadstead, not by people.",
    printcolumn = r#"{"name":"CIDR","type":"string","jsonPath":".spec.cidr"}"#,
    printcolumn = r#"{"name":"Pool","type":"string","jsonPath":".spec.pool"}"#,
    printcolumn = r#"{"name":"Owner","type":"string","jsonPath":".spec.owners[0].kind"}"#,
    printcolumn = r#"{"name":"Namespace","type":"string","jsonPath":".spec.owners[0].namespace"}"#,
    printcolumn = r#"{"name":"Name","type":"string","jsonPath":".spec.owners[*].name"}"#,
    printcolumn = r#"{"name":"Node","type":"string","priority":1,"jsonPath":".spec.nodeName"}"#,
    printcolumn = r#"{"name":"Released","type":"date","jsonPath":".spec.released"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.cidr == oldSelf.cidr").message("a claim is for one address for ever: delete it and make another"),
    validation = Rule::new("size(self.owners) > 0 || has(self.released)").message("a claim needs an owner, or the time at which it was released")
)]
pub struct AddressClaimSpec {
    /// The address (as /32 or /128) or the block.
    pub cidr: CidrText,
    /// The pool that it came from.
    pub pool: ObjectName,
    /// Whose it is; more than one where it is shared.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub owners: Vec<ClaimOwner>,
    /// The node that uses it, where one does: of a block, and of a pod's address. Is the node gone, the claim goes too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<ObjectName>,
    /// When the last owner gave it up, RFC 3339: it rests until the pool's `reuseDelaySeconds` have passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), extend("format" = "date-time"))]
    pub released: Option<String>,
    /// Since when the owner, a StatefulSet's pod, is gone, RFC 3339: the address waits for the next pod of its name (`sticky` of the pool).
    /// The speaker of the node where that starts takes the claim over; else that of `nodeName` deletes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), extend("format" = "date-time"))]
    pub kept: Option<String>,
}

/// One owner of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimOwner {
    /// The owner's kind.
    pub kind: OwnerKind,
    /// The owner's namespace, where its kind has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<ObjectName>,
    /// The owner's name.
    pub name: ObjectName,
    /// The owner's UID: a Service deleted and made again is another owner.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The interface of a Pod that has the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    pub interface: Option<String>,
    /// The key under which the owner shares the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub share_key: Option<String>,
    /// The owner's ports, where it shares the address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub ports: Vec<ClaimPort>,
}

/// What kind of object owns a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum OwnerKind {
    /// A Service of type LoadBalancer.
    Service,
    /// A Pod.
    Pod,
    /// A Node, for a block.
    Node,
    /// A machine outside the cluster.
    EdgeHost,
}

/// A port on a shared address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimPort {
    /// TCP, UDP or SCTP.
    #[schemars(length(max = 8))]
    pub protocol: String,
    /// 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}
