//! `PodPool`: addresses for pods.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AddressText, CidrText, Condition, LabelSelector, NetworkName, ObjectName, RangeText};

/// A set of addresses of one network that pods may have: which nodes hand them out, to which pods, and for which of their interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "PodPool",
    plural = "podpools",
    shortname = "pp",
    category = "roadstead",
    status = "PodPoolStatus",
    derive = "PartialEq",
    doc = "Addresses for pods.",
    printcolumn = r#"{"name":"Version","type":"string","jsonPath":".status.version"}"#,
    printcolumn = r#"{"name":"Subnet","type":"string","jsonPath":".spec.subnet"}"#,
    printcolumn = r#"{"name":"Allocated","type":"string","jsonPath":".status.allocated"}"#,
    printcolumn = r#"{"name":"Total","type":"string","jsonPath":".status.total"}"#,
    printcolumn = r#"{"name":"Default","type":"boolean","jsonPath":".spec.default"}"#,
    printcolumn = r#"{"name":"Nodes","type":"string","priority":1,"jsonPath":".spec.nodeNames"}"#,
    printcolumn = r#"{"name":"Networks","type":"string","priority":1,"jsonPath":".spec.networks"}"#,
    printcolumn = r#"{"name":"Advertise","type":"string","priority":1,"jsonPath":".spec.advertise"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.ranges) || size(self.ranges) == 0 || !has(self.nodeRanges) || size(self.nodeRanges) == 0").message("ranges and nodeRanges exclude each other: give every node its own in nodeRanges, or all the same in ranges"),
    validation = Rule::new("!has(self.gateway) || !isIP(self.gateway) || !isCIDR(self.subnet) || cidr(self.subnet).containsIP(self.gateway)").message("gateway must be inside subnet"),
    validation = Rule::new("!has(self.ranges) || !isCIDR(self.subnet) || self.ranges.all(r, isCIDR(r) ? cidr(self.subnet).containsCIDR(r) : r.split('-').all(end, !isIP(end.trim()) || cidr(self.subnet).containsIP(end.trim())))").message("ranges must be inside subnet"),
    validation = Rule::new("!has(self.exclude) || !isCIDR(self.subnet) || self.exclude.all(r, isCIDR(r) ? cidr(self.subnet).containsCIDR(r) : r.split('-').all(end, !isIP(end.trim()) || cidr(self.subnet).containsIP(end.trim())))").message("exclude must be inside subnet"),
    validation = Rule::new("!has(self.routes) || !isCIDR(self.subnet) || self.routes.all(route, !isCIDR(route.destination) || cidr(route.destination).ip().family() == cidr(self.subnet).ip().family())").message("routes must be of subnet's family"),
    validation = Rule::new("!has(self.routes) || !isCIDR(self.subnet) || self.routes.all(route, !has(route.gateway) || !isIP(route.gateway) || cidr(self.subnet).containsIP(route.gateway))").message("the gateways of routes must be inside subnet"),
    validation = Rule::new("has(self.blockPrefixLength) == has(oldSelf.blockPrefixLength) && (!has(self.blockPrefixLength) || self.blockPrefixLength == oldSelf.blockPrefixLength)").message("blockPrefixLength stays as it is, because blocks of another length would lie across those that nodes have: make another pool"),
    validation = Rule::new("!has(self.blockPrefixLength) || !isCIDR(self.subnet) || (self.blockPrefixLength >= cidr(self.subnet).prefixLength() && (cidr(self.subnet).ip().family() == 6 || self.blockPrefixLength <= 32))").message("blockPrefixLength must be from the length of subnet to that of a single address"),
    validation = Rule::new("!has(self.blockPrefixLength) || !has(self.nodeRanges) || size(self.nodeRanges) == 0").message("blockPrefixLength and nodeRanges exclude each other: nodes claim blocks, or you give each its own"),
    validation = Rule::new("!has(self.advertise) || self.advertise != 'Block' || has(self.blockPrefixLength)").message("advertise: Block needs blockPrefixLength"),
    validation = Rule::new("!has(self.advertise) || self.advertise != 'Address' || !has(self.blockPrefixLength)").message("advertise: Address is for pools without blockPrefixLength: a block is announced as a whole, or not at all")
)]
pub struct PodPoolSpec {
    /// The network that the pool's addresses are in; its length is the one that pods' interfaces get.
    #[x_kube(validation = Rule::new("self == oldSelf").message("a pool stays in its subnet: make another pool"))]
    pub subnet: CidrText,
    /// Addresses of the subnet that are handed out, by every node that the pool is for. Neither these nor `nodeRanges` given: all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub ranges: Vec<RangeText>,
    /// Addresses of these that are never handed out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub exclude: Vec<RangeText>,
    /// Nodes claim blocks of this length (`26`) and hand their addresses out by themselves. Only blocks that `ranges` name as a whole are
    /// claimed. Not given: no blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 128))]
    pub block_prefix_length: Option<i32>,
    /// The subnet's router: the next hop of the pods' routes, and never handed out. With `blockPrefixLength` it is what every node
    /// answers to on its side of the pods' links; by default the subnet's first address behind its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<AddressText>,
    /// Routes that pods get with an address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["destination"]))]
    pub routes: Vec<PodRoute>,
    /// Only these nodes hand addresses out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub node_names: Vec<ObjectName>,
    /// Only nodes with these labels hand addresses out; where `nodeNames` is given, those of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// Addresses that only some nodes may use, as where a network card accepts only its own. A node that no entry names hands out none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 384))]
    pub node_ranges: Vec<NodeRanges>,
    /// Only pods of these namespaces, or of those that `namespaceSelector` takes. Neither given: of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub namespaces: Vec<ObjectName>,
    /// Only pods of namespaces with these labels, or of those in `namespaces`. One that takes no namespace takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Only pods with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Only interfaces of these NetworkAttachmentDefinitions, as `namespace/name`. None given: of any network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub networks: Vec<NetworkName>,
    /// True: serves interfaces that ask for no pool.
    #[serde(default)]
    pub default: bool,
    /// Pools with a smaller number are tried first; pools without one last; equal ones by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647))]
    pub priority: Option<i32>,
    /// Seconds that a freed address rests before it is handed out again.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2592000))]
    pub reuse_delay_seconds: i64,
    /// True: a StatefulSet's pod that is made anew gets the address that the pod of its name had, where its node may hand that out.
    #[serde(default)]
    pub sticky: bool,
    /// True: no address is handed out any more; pods keep those that they have.
    #[serde(default)]
    pub disabled: bool,
    /// What routers are told of the pool's addresses, by the Advertisements that select the pool.
    #[serde(default)]
    pub advertise: PodAdvertisement,
}

/// A route that pods get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!self.destination.endsWith('/0')").message("must not be the default route: pods get that on one interface, whatever pool it is from"))]
pub struct PodRoute {
    /// Where it leads.
    pub destination: CidrText,
    /// The next hop; by default the pool's gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<AddressText>,
}

// What holds between entries, and that they are in the subnet, would as CEL rules cost more than an API server allows.
/// Addresses that some nodes may use, and no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeRanges {
    /// The nodes; one is named once in all of `nodeRanges`. Several share the addresses.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub nodes: Vec<ObjectName>,
    /// The addresses; those of two entries do not overlap. Whether they are in the subnet is said in the condition `Ready`.
    #[schemars(length(min = 1, max = 32))]
    pub ranges: Vec<RangeText>,
}

/// What routers are told of a pool's addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PodAdvertisement {
    /// Nothing: they are on the subnet themselves.
    #[default]
    None,
    /// A route for each block, by the node that has it.
    Block,
    /// A route for each address that a pod has, by the pod's node.
    Address,
}

/// What the controller says of a [`PodPool`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodPoolStatus {
    /// The version of IP, `4` or `6`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1))]
    pub version: Option<String>,
    /// All addresses that may be handed out, on all nodes. Decimal text, because an IPv6 /64 holds more than a 64-bit integer counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub total: Option<String>,
    /// Those that belong to a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub allocated: Option<String>,
    /// Addresses inside the ranges that are never handed out, because they are the subnet's own or those of a node or router. Not every
    /// one is listed where there are more than a thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["address"]))]
    pub left_out: Vec<LeftOutAddress>,
    /// `Ready`: whether addresses are handed out, and if not or not all, why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// An address that a pool never hands out, although its ranges name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOutAddress {
    /// The address.
    pub address: AddressText,
    /// Whose it is: `gateway`, `network`, `Node worker1`.
    #[schemars(length(max = 256))]
    pub reason: String,
}
