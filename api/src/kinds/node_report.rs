//! `NodeReport`: what the speaker on one node is doing. Written by that speaker alone.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CidrText, ObjectName};

/// The node that is reported on; what is reported stands in the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "NodeReport",
    plural = "nodereports",
    shortname = "nr",
    category = "roadstead",
    status = "NodeReportStatus",
    derive = "PartialEq",
    doc = "What the speaker on one node is doing. Written by that speaker, not by people.",
    printcolumn = r#"{"name":"Established","type":"string","jsonPath":".status.established"}"#,
    printcolumn = r#"{"name":"Prefixes","type":"integer","jsonPath":".status.prefixes"}"#,
    printcolumn = r#"{"name":"Last Error","type":"string","priority":1,"jsonPath":".status.sessions[*].lastError"}"#,
    printcolumn = r#"{"name":"Heartbeat","type":"date","jsonPath":".status.heartbeat"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeReportSpec {
    /// The node's name, which is the report's too.
    pub node_name: ObjectName,
}

/// What the speaker is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeReportStatus {
    /// When this was last written, RFC 3339; older than a minute means that nobody knows.
    #[schemars(length(max = 40), extend("format" = "date-time"))]
    pub heartbeat: String,
    /// Established sessions of those wanted, as `2/3`.
    #[schemars(length(max = 32))]
    pub established: String,
    /// Distinct prefixes that the node wants announced.
    pub prefixes: i64,
    /// How BFD's thread is scheduled: `real-time`, `preferred` (nice -20), or `ordinary` where the speaker has no right to more. Not given:
    /// no peer asks for BFD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub bfd_scheduling: Option<String>,
    /// The node's sessions, by peer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["peer"]))]
    pub sessions: Vec<SessionReport>,
    /// What the node makes of the routes of each other cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["link"]))]
    pub links: Vec<LinkReport>,
    /// The networks that the node is directly connected to. Not given: nobody has looked, as no cluster is linked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub connected: Vec<ConnectedReport>,
    /// What keeps learned routes from working on the node, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub problems: Vec<ReportText>,
    /// The pods that have addresses of ours. Not given: the speaker hands none out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<PodsReport>,
}

/// What a node makes of the routes of another cluster, or of a host outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkReport {
    /// The ClusterLink's name, or `edge/` and the EdgeHost's.
    #[schemars(length(max = 253))]
    pub link: String,
    /// Prefixes that are in order.
    pub accepted: i64,
    /// Prefixes of these that the node's kernel has a route to.
    pub installed: i64,
    /// Prefixes that are refused now.
    pub refused: i64,
    /// The first refusals by prefix, with the names of both owners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub refusals: Vec<ReportText>,
}

/// A network that a node is directly connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectedReport {
    /// The network.
    pub cidr: CidrText,
    /// The interface.
    #[schemars(length(max = 15))]
    pub interface: String,
}

/// The pods of a node that have addresses of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodsReport {
    /// Interfaces that have at least one address.
    pub attachments: i64,
    /// What the node handed out by itself, by pool.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub pools: Vec<PodPoolReport>,
    /// The node's blocks, and prefixes of pods that it has told routers of or is about to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["cidr"]))]
    pub blocks: Vec<BlockReport>,
    /// Blocks of nodes that are gone, and that this node still has a route to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub heard: Vec<CidrText>,
}

/// A block of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockReport {
    /// The block.
    pub cidr: CidrText,
    /// The PodPool's name.
    #[schemars(length(max = 253))]
    pub pool: String,
    /// Addresses of it that pods have.
    pub allocated: i64,
    /// Whether routers were told of it, or may have been.
    pub announced: bool,
    /// What keeps it from being announced, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub problem: Option<String>,
}

/// What a node handed out of one pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodPoolReport {
    /// The PodPool's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Addresses in use that have no AddressClaim, because no other node may hand them out. An address that has one is counted by its
    /// claim, so that the sum of both counts each once.
    pub allocated: i64,
    /// Why the last pod that wanted an address of the pool got none, where that is because it has no more for this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub exhausted: Option<String>,
}

/// One session of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionReport {
    /// The BGPPeer's name.
    #[schemars(length(max = 253))]
    pub peer: String,
    /// The router's address.
    #[schemars(length(max = 64))]
    pub address: String,
    /// Idle, Connect, Active, OpenSent, OpenConfirm or Established (RFC 4271 section 8.2.2); Refused where the object or its Secret
    /// does not permit a session.
    #[schemars(length(max = 32))]
    pub state: String,
    /// When the session came into or left Established, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), extend("format" = "date-time"))]
    pub since: Option<String>,
    /// Prefixes told to the router.
    pub sent: i64,
    /// Prefixes received from the router.
    pub received: i64,
    /// Prefixes of these that were accepted.
    pub accepted: i64,
    /// Prefixes refused, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub refused: BTreeMap<String, i64>,
    /// The BFD session beside this one, where the BGPPeer asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<BfdReport>,
    /// The address families of the session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub families: Vec<ReportText>,
    /// Negotiated hold time; 0: no keepalives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<i64>,
    /// What both sides offered in their OPENs, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Established sessions lost since the peer was configured.
    #[serde(default)]
    pub flaps: i64,
    /// Maxima of prefixes that are near or reached, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub limits: Vec<ReportText>,
    /// The last few routes that were refused, and why; `roadstead status` on the node has a hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub last_refusals: Vec<ReportText>,
    /// The last malformed UPDATE, what it cost, and what was wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_malformed: Option<ReportText>,
    /// What ended the last session, or keeps this one from coming up, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_error: Option<String>,
}

/// A BFD session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BfdReport {
    /// AdminDown, Down, Init or Up (RFC 5880 section 6.2).
    #[schemars(length(max = 32))]
    pub state: String,
    /// When it entered this state, RFC 3339.
    #[schemars(length(max = 40), extend("format" = "date-time"))]
    pub since: String,
    /// The router's discriminator; not given while it is not heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_discriminator: Option<i64>,
    /// How long the router may be silent; not given while it is not heard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection_milliseconds: Option<i64>,
    /// How often it went from Up to Down.
    pub downs: i64,
    /// Why it last went down, or cannot come up, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_error: Option<String>,
}

/// A short text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReportText(#[schemars(length(max = 256))] pub String);

impl ReportText {
    /// As much of a text as may be reported.
    pub fn cut(text: &str) -> Self {
        Self(text.chars().take(256).collect())
    }
}

/// The capabilities of both sides (RFC 5492).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// What we have offered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub sent: Vec<ReportText>,
    /// What the router has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub received: Vec<ReportText>,
}
