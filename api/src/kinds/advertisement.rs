//! `Advertisement`: what is told to whom, and how.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CommunityText, Condition, ExtendedCommunityText, LabelSelector, LargeCommunityText, LinkBandwidthText, ObjectName,
};

/// Which addresses are announced to which peers, from which nodes, with which attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "Advertisement",
    plural = "advertisements",
    shortname = "adv",
    category = "roadstead",
    status = "AdvertisementStatus",
    derive = "PartialEq",
    doc = "What is told to which BGP peers, and how. A peer without an Advertisement that selects it is told nothing.",
    printcolumn = r#"{"name":"Peers","type":"string","jsonPath":".spec.peers"}"#,
    printcolumn = r#"{"name":"Communities","type":"string","jsonPath":".spec.attributes.communities"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AdvertisementSpec {
    /// What is announced: the union of these.
    #[schemars(length(min = 1, max = 16))]
    pub from: Vec<AdvertisementSource>,
    /// Peers by name. With `peerSelector`: either suffices; neither given: every peer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub peers: Vec<ObjectName>,
    /// Peers by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_selector: Option<LabelSelector>,
    /// The nodes that announce; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// The length of what is announced; by default single addresses.
    #[serde(default)]
    pub aggregate: Aggregate,
    /// The path attributes of what is announced.
    #[serde(default)]
    pub attributes: Attributes,
}

/// One kind of thing that is announced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.loadBalancers) != has(self.podPools)").message("each entry of from is one of loadBalancers and podPools"))]
pub struct AdvertisementSource {
    /// Addresses of Services of type LoadBalancer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancers: Option<LoadBalancers>,
    /// Blocks or addresses of pools for pods, as `advertise` of each pool says. They are told as they are, whatever `aggregate` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_pools: Option<AdvertisedPodPools>,
}

/// Pools for pods; nothing given takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AdvertisedPodPools {
    /// These pools, or those that `selector` takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub names: Vec<ObjectName>,
    /// Pools with these labels, or those in `names`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Addresses of Services of type LoadBalancer; all that is given must hold, and nothing given takes all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancers {
    /// Only addresses from these pools, or from those that `poolSelector` takes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub pools: Vec<ObjectName>,
    /// Only addresses from pools with these labels, or from those in `pools`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_selector: Option<LabelSelector>,
    /// Only Services with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
}

/// Prefix lengths that addresses are rolled up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Aggregate {
    /// For IPv4; default 32.
    #[serde(default = "host_route_ipv4")]
    #[schemars(range(min = 1, max = 32))]
    pub ipv4: i32,
    /// For IPv6; default 128.
    #[serde(default = "host_route_ipv6")]
    #[schemars(range(min = 1, max = 128))]
    pub ipv6: i32,
}

impl Default for Aggregate {
    fn default() -> Self {
        Self { ipv4: host_route_ipv4(), ipv6: host_route_ipv6() }
    }
}

/// Path attributes of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.linkBandwidthTransitivity) || has(self.linkBandwidth)").message("linkBandwidthTransitivity needs linkBandwidth"),
    validation = Rule::new("!has(self.linkBandwidth) || !has(self.extendedCommunities) || !self.extendedCommunities.exists(c, c.startsWith('0x0004') || c.startsWith('0x4004'))").message("one of linkBandwidth and a link bandwidth among extendedCommunities (0x0004, 0x4004)")
)]
pub struct Attributes {
    /// Communities (RFC 1997): told to the peer; they do not filter what we send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub communities: Vec<CommunityText>,
    /// Large communities (RFC 8092).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub large_communities: Vec<LargeCommunityText>,
    /// Extended communities (RFC 4360), and those with an IPv6 address (RFC 5701).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub extended_communities: Vec<ExtendedCommunityText>,
    /// Link bandwidth (RFC 10005), by which routers weigh the nodes that announce one address. `PerEndpoint` is 1 Gbit/s for each
    /// endpoint that this node sends packets to: those on the node under externalTrafficPolicy Local, all of them under Cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_bandwidth: Option<LinkBandwidthText>,
    /// Whether routers may pass the link bandwidth on to another AS; default Transitive. Older routers know only one of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_bandwidth_transitivity: Option<Transitivity>,
    /// LOCAL_PREF, told to iBGP peers only; default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295i64))]
    pub local_preference: Option<i64>,
    /// MULTI_EXIT_DISC; by default none is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4294967295i64))]
    pub med: Option<i64>,
    /// How often our ASN is put before the path once more; eBGP only.
    #[serde(default)]
    #[schemars(range(min = 0, max = 32))]
    pub prepend: i32,
}

/// Whether an extended community may cross the border of an AS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Transitivity {
    /// It may.
    #[default]
    Transitive,
    /// It may not.
    NonTransitive,
}

/// What the controller says of an [`Advertisement`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdvertisementStatus {
    /// `Ready`: the object is in force; else why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

fn host_route_ipv4() -> i32 {
    32
}

fn host_route_ipv6() -> i32 {
    128
}
