//! `ClusterLink`: the way to one other cluster.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AddressText, AsnNumber, Bfd, CidrText, Condition, EbgpMultihop, GracefulRestart, LabelSelector, ObjectName,
    ReportText, SecretReference, Timers, TtlSecurity,
};

/// Another cluster, who of this one speaks to it, and which routes pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "ClusterLink",
    plural = "clusterlinks",
    shortname = "cl",
    category = "roadstead",
    status = "ClusterLinkStatus",
    derive = "PartialEq",
    doc = "The way to one other cluster: gateways of both speak BGP, and pods and Services reach each other by plain routing.",
    printcolumn = r#"{"name":"Remote","type":"string","jsonPath":".spec.remoteCluster"}"#,
    printcolumn = r#"{"name":"ASN","type":"integer","jsonPath":".spec.remoteASN"}"#,
    printcolumn = r#"{"name":"Sessions","type":"string","jsonPath":".status.sessions"}"#,
    printcolumn = r#"{"name":"Accepted","type":"integer","jsonPath":".status.accepted"}"#,
    printcolumn = r#"{"name":"Refused","type":"integer","jsonPath":".status.refused"}"#,
    printcolumn = r#"{"name":"Mode","type":"string","jsonPath":".spec.mode"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.ttlSecurity) && has(self.ebgpMultihop))").message("ttlSecurity and ebgpMultihop exclude each other (RFC 5082)"),
    validation = Rule::new("!has(self.bfd) || !has(self.bfd.minimumTTL) || !has(self.ttlSecurity) || self.ttlSecurity.hops > 1").message("bfd.minimumTTL is for gateways several hops away, and ttlSecurity says one (RFC 5881 section 5)")
)]
pub struct ClusterLinkSpec {
    /// The name that the other cluster's ClusterNetwork gives it.
    pub remote_cluster: ObjectName,
    /// The other cluster's ASN. It must not be ours: the session would be iBGP, on which nothing is passed on.
    #[serde(rename = "remoteASN")]
    pub remote_asn: AsnNumber,
    /// The addresses of the other cluster's gateways. Each gateway of ours has a session with each; both ends dial, and listen
    /// unless `listen` is false.
    #[schemars(length(min = 1, max = 16))]
    pub endpoints: Vec<AddressText>,
    /// The gateways' TCP port.
    #[serde(default = "bgp_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// False: the other cluster's gateways are dialled, and not waited for.
    #[serde(default = "yes")]
    pub listen: bool,
    /// The nodes that are gateways; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_selector: Option<LabelSelector>,
    /// What is accepted of the other cluster: these and longer prefixes. By default nothing.
    #[serde(default, rename = "acceptCIDRs")]
    pub accept_cidrs: ClassCidrs,
    /// What is told to the other cluster; by default nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub exports: Vec<RouteClass>,
    /// Whether what is learnt is used, or only judged.
    #[serde(default)]
    pub mode: LinkMode,
    /// The next hop that the other cluster is told: the gateway that speaks, or the node that has the addresses, where the network
    /// between the clusters carries that.
    #[serde(default)]
    pub next_hop: LinkNextHop,
    /// True: what is learnt here is told on other links that say so too. By default no cluster learns by us of a third.
    #[serde(default)]
    pub transit: bool,
    /// So many accepted prefixes of each family are in order; one more closes the session for five minutes.
    #[serde(default = "max_prefixes")]
    #[schemars(range(min = 1, max = 1000000))]
    pub max_prefixes: i32,
    /// Key `password` of this Secret in the controller's namespace signs the sessions by TCP MD5 (RFC 2385).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretReference>,
    /// GTSM (RFC 5082): accept only packets whose TTL shows that they crossed at most so many hops. Both ends have to say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<TtlSecurity>,
    /// How far away the other gateways may be; default 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebgp_multihop: Option<EbgpMultihop>,
    /// Watch the other gateways by BFD (RFC 5880, 5883). Not given: none; `{}`: 3 x 300 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
    /// Graceful restart (RFC 4724): the other cluster keeps our routes while a gateway's speaker restarts. Not given: off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graceful_restart: Option<GracefulRestart>,
    /// The sessions' timers.
    #[serde(default)]
    pub timers: Timers,
}

/// Ranges by class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClassCidrs {
    /// Of pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub pods: Vec<CidrText>,
    /// Of Services: ClusterIPs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub services: Vec<CidrText>,
    /// Of Services of type LoadBalancer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub load_balancers: Vec<CidrText>,
}

/// What a route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RouteClass {
    /// Pods: the nodes' blocks and podCIDRs.
    Pods,
    /// ClusterIPs: the service CIDRs.
    Services,
    /// Addresses of Services of type LoadBalancer.
    LoadBalancers,
}

/// Whether what is learnt is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LinkMode {
    /// Routes are told, learnt and judged, and none is installed or passed on. The status says what `Active` would do.
    Observe,
    /// Routes that are accepted are installed on all nodes.
    #[default]
    Active,
}

/// The next hop that the other cluster is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LinkNextHop {
    /// The gateway's address on the session.
    #[default]
    #[serde(rename = "Self", alias = "self")]
    Gateway,
    /// The address of the node that has the pods, where one has them; else the gateway's.
    #[serde(alias = "keep")]
    Keep,
}

/// What the controller says of a [`ClusterLink`], derived from the nodes' reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterLinkStatus {
    /// Established sessions of those wanted, as `3/4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub sessions: Option<String>,
    /// Prefixes of the other cluster that are in order: used, or in `Observe` would be.
    #[serde(default)]
    pub accepted: i64,
    /// Prefixes of the other cluster that are refused now.
    #[serde(default)]
    pub refused: i64,
    /// The first refusals by prefix, with the names of both owners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub refusals: Vec<ReportText>,
    /// `Ready`: the link is in force and every session is up; `Disjoint`: nothing that is accepted of the other cluster is in use here
    /// or accepted of another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

fn yes() -> bool {
    true
}

fn bgp_port() -> i32 {
    179
}

fn max_prefixes() -> i32 {
    10_000
}
