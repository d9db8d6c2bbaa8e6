//! `EdgeHost`: one machine outside the cluster that reaches pods and Services by BGP, without a kubeconfig.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AddressText, AsnNumber, Bfd, CidrText, Condition, EbgpMultihop, LabelSelector, ObjectName, RouteClass,
    SecretReference, TtlSecurity,
};

/// A machine outside, what it may announce, and what it learns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "EdgeHost",
    plural = "edgehosts",
    shortname = "eh",
    category = "roadstead",
    status = "EdgeHostStatus",
    derive = "PartialEq",
    doc = "A machine outside the cluster that speaks BGP to its gateways. Deleting the object cuts it off.",
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".spec.address"}"#,
    printcolumn = r#"{"name":"ASN","type":"integer","jsonPath":".spec.asn"}"#,
    printcolumn = r#"{"name":"Prefix","type":"string","jsonPath":".status.prefix"}"#,
    printcolumn = r#"{"name":"Sessions","type":"string","jsonPath":".status.sessions"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.prefix) != has(self.pool)").message("exactly one of prefix and pool must be given"),
    validation = Rule::new("!has(self.prefixLength) || has(self.pool)").message("prefixLength is for a prefix from pool"),
    validation = Rule::new("!(has(self.ttlSecurity) && has(self.ebgpMultihop))").message("ttlSecurity and ebgpMultihop exclude each other (RFC 5082)")
)]
pub struct EdgeHostSpec {
    /// Where the machine dials from.
    pub address: AddressText,
    /// The machine's ASN; not ours.
    pub asn: AsnNumber,
    /// What the machine may announce: this and longer prefixes of it, for its own containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<CidrText>,
    /// Instead of `prefix`: the PodPool that one is taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<ObjectName>,
    /// The length of a prefix from `pool`; default 28, for IPv6 124.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 128))]
    pub prefix_length: Option<i32>,
    /// What the machine is told; by default nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub exports: Vec<RouteClass>,
    /// The nodes that the machine may dial; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_selector: Option<LabelSelector>,
    /// Key `password` of this Secret in the controller's namespace signs the sessions by TCP MD5 (RFC 2385).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretReference>,
    /// GTSM (RFC 5082): accept only packets whose TTL shows that they crossed at most so many hops. The machine has to say so too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<TtlSecurity>,
    /// How far away the machine may be; default 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebgp_multihop: Option<EbgpMultihop>,
    /// Watch the machine by BFD (RFC 5880, 5883). Not given: none; `{}`: 3 x 300 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
}

/// What the controller says of an [`EdgeHost`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeHostStatus {
    /// What the machine may announce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<CidrText>,
    /// Established sessions with gateways, as `2/2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub sessions: Option<String>,
    /// `Ready`: the machine has a prefix and at least one session; else why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}
