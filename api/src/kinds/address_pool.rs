//! `AddressPool`: addresses for Services.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, LabelSelector, ObjectName, RangeText};

/// A set of addresses that Services of type LoadBalancer may have, and which Services may have them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "AddressPool",
    plural = "addresspools",
    shortname = "ap",
    category = "roadstead",
    status = "AddressPoolStatus",
    derive = "PartialEq",
    doc = "Addresses for Services of type LoadBalancer.",
    printcolumn = r#"{"name":"Addresses","type":"string","jsonPath":".spec.addresses"}"#,
    printcolumn = r#"{"name":"Auto-Assign","type":"boolean","jsonPath":".spec.autoAssign"}"#,
    printcolumn = r#"{"name":"IPv4","type":"string","jsonPath":".status.ipv4.allocated"}"#,
    printcolumn = r#"{"name":"IPv6","type":"string","jsonPath":".status.ipv6.allocated"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolSpec {
    /// CIDRs, single addresses and ranges `first-last`, of both families.
    #[schemars(length(min = 1, max = 256))]
    pub addresses: Vec<RangeText>,
    /// Addresses of these that are never handed out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub exclude: Vec<RangeText>,
    /// False: only Services that ask for this pool, or for one of its addresses, are served from it.
    #[serde(default = "yes")]
    pub auto_assign: bool,
    /// True: IPv4 addresses that end in .0 and .255 are never handed out.
    #[serde(default, rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,
    /// Pools with a smaller number are tried first; pools without one last; equal ones by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub priority: Option<i32>,
    /// Only Services of these namespaces, or of those that `namespaceSelector` takes. Neither given: of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub namespaces: Vec<ObjectName>,
    /// Only Services of namespaces with these labels, or of those in `namespaces`. One that takes no namespace takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Only Services with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
    /// Who may share one address by a share key.
    #[serde(default)]
    pub sharing: Sharing,
    /// True: when an edit of this pool strands an address that is in use, the Service gets another at once. False: it keeps it
    /// until the Service is changed, and the condition `Ready` says so.
    #[serde(default)]
    pub reclaim: bool,
    /// Seconds that a freed address rests before it is handed out again.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2592000))]
    pub reuse_delay_seconds: i64,
}

/// Who may share one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Sharing {
    /// Services of one namespace.
    #[default]
    Namespace,
    /// Services of all namespaces.
    Cluster,
}

/// What the controller says of an [`AddressPool`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolStatus {
    /// The pool's IPv4 addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<AddressCount>,
    /// The pool's IPv6 addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<AddressCount>,
    /// `Ready`: whether addresses are handed out, and if not or not all, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// How many addresses of one family. Decimal text, because an IPv6 /64 holds more than a 64-bit integer counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressCount {
    /// All that may be handed out.
    #[schemars(length(max = 40))]
    pub total: String,
    /// Those that belong to a Service.
    #[schemars(length(max = 40))]
    pub allocated: String,
    /// Those that are left.
    #[schemars(length(max = 40))]
    pub available: String,
}

fn yes() -> bool {
    true
}
