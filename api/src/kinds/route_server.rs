//! `RouteServer`: passes routes on between peers without being in the path.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AddressFamily, AsnNumber, Authentication, Bfd, CidrText, EbgpMultihop, Ipv4Text, ObjectName, OnExcess, SocketText,
    Timers, TtlSecurity,
};

/// A route server (RFC 7947) or a route reflector (RFC 4456), as `roadstead route-server` runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "RouteServer",
    shortname = "rs",
    category = "roadstead",
    derive = "PartialEq",
    doc = "Passes routes on between BGP peers, and no packets.",
    printcolumn = r#"{"name":"ASN","type":"integer","jsonPath":".spec.asn"}"#,
    printcolumn = r#"{"name":"Router-ID","type":"string","jsonPath":".spec.routerID"}"#,
    printcolumn = r#"{"name":"Listen","type":"string","jsonPath":".spec.listen"}"#,
    printcolumn = r#"{"name":"Reflector","type":"boolean","jsonPath":".spec.reflector"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.clusterID) || (has(self.reflector) && self.reflector)").message("clusterID is a reflector's (RFC 4456)"),
    validation = Rule::new("(has(self.reflector) && self.reflector) != self.clients.exists(client, has(client.asnRanges))").message("clients of a route server need asnRanges; those of a reflector are in its own ASN and have none"),
    validation = Rule::new("(has(self.reflector) && self.reflector) || self.clients.all(client, has(client.asnRanges))").message("clients of a route server need asnRanges"),
    validation = Rule::new("(has(self.reflector) && self.reflector) || !self.clients.exists(client, has(client.nextHopSelf) && client.nextHopSelf)").message("nextHopSelf is a reflector's: a route server is in nobody's way (RFC 7947)"),
    validation = Rule::new("(has(self.reflector) && self.reflector) || self.clients.all(client, !has(client.nonClient) || !client.nonClient)").message("nonClient is for a reflector's peers (RFC 4456)"),
    validation = Rule::new("!(has(self.reflector) && self.reflector) || self.clients.all(client, !has(client.role))").message("role is for external sessions (RFC 9234), and a reflector has none")
)]
pub struct RouteServerSpec {
    /// Our ASN. It appears in no path that is passed on (RFC 7947 section 2.2.2).
    pub asn: AsnNumber,
    /// Our BGP identifier.
    #[serde(rename = "routerID")]
    #[x_kube(validation = Rule::new("self != '0.0.0.0'").message("0.0.0.0 is no BGP identifier (RFC 6286)"))]
    pub router_id: Ipv4Text,
    /// Where clients are waited for.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub listen: Vec<SocketText>,
    /// Who may be a client. Whoever dials from an address that none of these has is refused.
    #[schemars(length(min = 1, max = 128))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub clients: Vec<RouteServerClient>,
    /// True: clients are in our own ASN, and routes are reflected to them (RFC 4456).
    #[serde(default)]
    pub reflector: bool,
    /// Of a reflector: the cluster that it is one of the reflectors of; by default the router ID.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self != '0.0.0.0'").message("0.0.0.0 is no cluster ID"))]
    pub cluster_id: Option<Ipv4Text>,
    /// Graceful restart (RFC 4724), in both directions: routes of a client whose connection broke stay until it is back, and where the
    /// client agrees it keeps ours while this process restarts. Not given: off, and a lost session takes its routes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graceful_restart: Option<RouteServerRestart>,
}

/// Graceful restart of a route server. No packet goes through it, so its restart disturbs none: clients are told that forwarding goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.establishSeconds <= self.deferralSeconds").message("establishSeconds must not exceed deferralSeconds"))]
pub struct RouteServerRestart {
    /// How long clients keep our routes after a session broke.
    #[serde(default = "restart_time")]
    #[schemars(range(min = 1, max = 4095))]
    pub restart_time_seconds: i32,
    /// After its start the server tells nothing for so long, so that clients can come back. Then it waits for those who are telling
    /// their routes to say End-of-RIB.
    #[serde(default = "establish")]
    #[schemars(range(min = 0, max = 3600))]
    pub establish_seconds: i32,
    /// After its start the server tells nothing for so long at the most (RFC 4724 section 4.1: Selection_Deferral_Timer).
    #[serde(default = "deferral")]
    #[schemars(range(min = 0, max = 3600))]
    pub deferral_seconds: i32,
}

/// Everybody inside a prefix, or one machine. The entry is the policy (RFC 8212): what it lets in is told to all other clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.ttlSecurity) && has(self.ebgpMultihop))").message("ttlSecurity and ebgpMultihop exclude each other (RFC 5082)"),
    validation = Rule::new("!has(self.bfd) || !has(self.bfd.minimumTTL) || !has(self.ttlSecurity) || self.ttlSecurity.hops > 1").message("bfd.minimumTTL is for clients several hops away, and ttlSecurity says one (RFC 5881 section 5)"),
    validation = Rule::new("!has(self.authentication) || has(self.passwordFile)").message("authentication says how a password signs: it needs passwordFile"),
    validation = Rule::new("!has(self.passive) || self.passive || self.prefix.endsWith(self.prefix.contains(':') ? '/128' : '/32')").message("passive: false needs a prefix of one address: nobody can dial a whole network"),
    validation = Rule::new("has(self.maxPrefixes) || !(has(self.warnAtPercent) || has(self.onExcess) || has(self.restartSeconds))").message("warnAtPercent, onExcess and restartSeconds need maxPrefixes"),
    validation = Rule::new("!has(self.restartSeconds) || !has(self.onExcess) || self.onExcess == 'Close'").message("restartSeconds is for onExcess: Close")
)]
pub struct RouteServerClient {
    /// What sessions are called after: `clients/10.77.0.5`.
    pub name: ObjectName,
    /// Where its machines are. Of several entries the one with the longest prefix counts.
    pub prefix: CidrText,
    /// The ASNs that they may have; ours is never among them. Not for a reflector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub asn_ranges: Option<Vec<AsnRange>>,
    /// Of a reflector: an internal peer that is no client (RFC 4456): it is told what clients tell, and clients what it tells.
    #[serde(default)]
    pub non_client: bool,
    /// What we are to it (RFC 9234), as in a BGPPeer; not for a reflector. Given: a client that says it is something else than the client of a
    /// route server is refused, and so is a route of its that is marked, as a leak; what it is told is marked to go down to customers only. By
    /// default nothing is said of roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<RouteServerRole>,
    /// So many accepted prefixes of each family are in order, for each session; by default there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100000000))]
    pub max_prefixes: Option<i32>,
    /// From this share of `maxPrefixes` on there is a warning; default 75.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub warn_at_percent: Option<i32>,
    /// What the first prefix beyond `maxPrefixes` costs; default Close.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_excess: Option<OnExcess>,
    /// How long a session that was closed for its prefixes is refused; default 300; 0: until this object changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604800))]
    pub restart_seconds: Option<i32>,
    /// How many sessions the prefix may have at a time.
    #[serde(default = "max_sessions")]
    #[schemars(range(min = 1, max = 65536))]
    pub max_sessions: i32,
    /// How many paths to one prefix are told, at most, to those who take more than one (RFC 7911); by default one.
    #[serde(default = "max_paths")]
    #[schemars(range(min = 1, max = 64))]
    pub max_paths: i32,
    /// True: it may tell several paths to one prefix (RFC 7911); each counts towards `maxPrefixes`.
    #[serde(default)]
    pub several_paths: bool,
    /// The address families offered.
    #[serde(default = "both_families")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub families: Vec<AddressFamily>,
    /// The sessions' timers.
    #[serde(default)]
    pub timers: Timers,
    /// What stands in this file, without the end of its line, signs the sessions, by TCP MD5 (RFC 2385) unless `authentication` says
    /// otherwise. A relative path is below the directory of manifests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub password_file: Option<String>,
    /// How the password signs; by default TCP MD5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// GTSM (RFC 5082): accept only packets whose TTL shows that they crossed at most so many hops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<TtlSecurity>,
    /// Clients are not on our own network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebgp_multihop: Option<EbgpMultihop>,
    /// Watch each client by BFD (RFC 5880), and end its session as soon as it is not reached any more. With clients that dial, BFD begins when
    /// the session is up. Not given: none; `{}`: 3 x 300 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
    /// False: also dial the client, which then is one address.
    #[serde(default = "passive")]
    pub passive: bool,
    /// Of a reflector, true: routes are told with its own address as next hop, so packets go through this machine and must find their way from
    /// here. Two reflectors that do so can send packets in circles (RFC 4456 section 10).
    #[serde(default)]
    pub next_hop_self: bool,
}

/// The one role that a route server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RouteServerRole {
    /// We are a route server, and it a client.
    RouteServer,
}

/// ASNs from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("self.from <= self.to").message("from must not exceed to"))]
pub struct AsnRange {
    /// The first.
    pub from: AsnNumber,
    /// The last.
    pub to: AsnNumber,
}

fn both_families() -> Vec<AddressFamily> {
    vec![AddressFamily::IPv4Unicast, AddressFamily::IPv6Unicast]
}

fn restart_time() -> i32 {
    120
}

fn establish() -> i32 {
    30
}

fn deferral() -> i32 {
    120
}

fn max_sessions() -> i32 {
    1024
}

fn max_paths() -> i32 {
    1
}

fn passive() -> bool {
    true
}
