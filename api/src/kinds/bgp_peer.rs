//! `BGPPeer`: a session from some nodes to a router.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AddressText, AsnNumber, CidrText, Condition, Ipv4Text, Ipv6Text, LabelSelector, ObjectName};

/// A router, and how the nodes that are selected speak BGP to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "roadstead.dev",
    version = "v1alpha1",
    kind = "BGPPeer",
    root = "BgpPeer",
    plural = "bgppeers",
    shortname = "peer",
    category = "roadstead",
    status = "BgpPeerStatus",
    derive = "PartialEq",
    doc = "A BGP session from some nodes to a router.",
    printcolumn = r#"{"name":"Address","type":"string","jsonPath":".spec.address"}"#,
    printcolumn = r#"{"name":"Interface","type":"string","jsonPath":".spec.interface"}"#,
    printcolumn = r#"{"name":"Peer-ASN","type":"integer","jsonPath":".spec.peerASN"}"#,
    printcolumn = r#"{"name":"Local-ASN","type":"integer","jsonPath":".spec.localASN"}"#,
    printcolumn = r#"{"name":"Established","type":"string","jsonPath":".status.sessions"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.peerASN) != has(self.peerType)").message("exactly one of peerASN and peerType must be given"),
    validation = Rule::new("!has(self.role) || !has(self.peerType) || self.peerType != 'Internal'").message("role is for external sessions (RFC 9234)"),
    validation = Rule::new("!has(self.bfd) || !has(self.bfd.minimumTTL) || !has(self.ttlSecurity) || self.ttlSecurity.hops > 1").message("bfd.minimumTTL is for routers several hops away, and ttlSecurity says one (RFC 5881 section 5)"),
    validation = Rule::new("!has(self.bfd) || !has(self.bfd.minimumTTL) || !has(self.interface)").message("bfd.minimumTTL is for routers several hops away, and one behind interface is on that link (RFC 5881 section 5)"),
    validation = Rule::new("!has(self.authentication) || has(self.passwordSecret)").message("authentication says how a password signs: it needs passwordSecret"),
    validation = Rule::new("!(has(self.ttlSecurity) && has(self.ebgpMultihop))").message("ttlSecurity and ebgpMultihop exclude each other (RFC 5082)"),
    validation = Rule::new("has(self.address) != has(self.interface)").message("exactly one of address and interface must be given"),
    validation = Rule::new("!has(self.interface) || !(has(self.sourceAddress) || has(self.sourceInterface) || has(self.ebgpMultihop))").message("interface excludes sourceAddress, sourceInterface and ebgpMultihop, as the session is on that link"),
    validation = Rule::new("!has(self.sourceAddress) || !has(self.address) || !isIP(self.address) || !isIP(self.sourceAddress) || ip(self.sourceAddress).family() == ip(self.address).family()").message("sourceAddress must be of the same family as address")
)]
pub struct BgpPeerSpec {
    /// The router's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<AddressText>,
    /// Instead of `address`: the interface that the router is behind (unnumbered). The session is between link-local addresses; the router's
    /// is learnt from its router advertisements, and ours are sent, for which the speaker needs CAP_NET_RAW.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub interface: Option<String>,
    /// The router's TCP port.
    #[serde(default = "bgp_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The router's ASN.
    #[serde(default, rename = "peerASN", skip_serializing_if = "Option::is_none")]
    pub peer_asn: Option<AsnNumber>,
    /// Instead of `peerASN`: accept our own ASN (`Internal`) or any other (`External`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_type: Option<PeerType>,
    /// Our ASN; by default that of the ClusterNetwork.
    #[serde(default, rename = "localASN", skip_serializing_if = "Option::is_none")]
    pub local_asn: Option<AsnNumber>,
    /// The nodes that speak to this router; by default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// The address that the session starts from; by default the kernel chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<AddressText>,
    /// The interface that the session is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub source_interface: Option<String>,
    /// Our BGP identifier; by default the node's first IPv4 InternalIP, on an IPv6-only node derived from its name.
    #[serde(default, rename = "routerID", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self != '0.0.0.0'").message("0.0.0.0 is no BGP identifier (RFC 6286)"))]
    pub router_id: Option<Ipv4Text>,
    /// The session's timers.
    #[serde(default)]
    pub timers: Timers,
    /// Key `password` of this Secret in the controller's namespace signs the session, by TCP MD5 (RFC 2385) unless `authentication` says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretReference>,
    /// How the password signs; by default TCP MD5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    /// GTSM (RFC 5082): accept only packets whose TTL shows that they crossed at most so many hops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<TtlSecurity>,
    /// The router is not on the node's own network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ebgp_multihop: Option<EbgpMultihop>,
    /// The address families offered.
    #[serde(default = "both_families")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub families: Vec<AddressFamily>,
    /// The next hop told; by default the session's own address, over IPv6 for IPv4 routes too if the router takes that (RFC 8950),
    /// and else for the other family the interface's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<NextHop>,
    /// Graceful restart (RFC 4724): where the router agrees, it keeps our routes while the speaker restarts, and SIGTERM ends the session
    /// without a word. Not given: off, and SIGTERM is a Cease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graceful_restart: Option<GracefulRestart>,
    /// Watch the router by BFD (RFC 5880), and end the session as soon as it is not reached any more. The session does not wait for BFD
    /// to come up; with `interface` BFD begins when the session is up, as that tells who the router is. Not given: none; `{}`: 3 x 300 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
    /// What we are to the router, on external sessions; by default nothing is said of roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// True: also accept the router's connection.
    #[serde(default)]
    pub listen: bool,
    /// True: only accept the router's connection, never dial.
    #[serde(default)]
    pub passive: bool,
    /// What is accepted from the router; by default nothing (RFC 8212).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import: Option<Import>,
}

/// Which ASNs a peer may have, where `peerASN` does not fix it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PeerType {
    /// Ours (iBGP).
    Internal,
    /// Any but ours (eBGP).
    External,
}

/// What we are to the router (RFC 9234). A router that says it is something else than what belongs to that is refused, and so are
/// leaked routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// We sell it transit.
    Provider,
    /// We are a route server, and it a client.
    RouteServer,
    /// It is a route server, and we are a client.
    RouteServerClient,
    /// We buy transit from it.
    Customer,
    /// Neither: both tell their own routes and their customers'.
    Peer,
}

/// An address family of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum AddressFamily {
    /// AFI 1, SAFI 1.
    IPv4Unicast,
    /// AFI 2, SAFI 1.
    IPv6Unicast,
}

/// The timers of a session, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.holdSeconds) || self.holdSeconds == 0 || self.holdSeconds >= 3").message("holdSeconds must be 0 or from 3 to 65535 (RFC 4271 section 4.2)"),
    validation = Rule::new("!has(self.keepaliveSeconds) || self.keepaliveSeconds <= (has(self.holdSeconds) ? self.holdSeconds : 90)").message("keepaliveSeconds must not exceed holdSeconds (default 90)")
)]
pub struct Timers {
    /// Proposed hold time; 0 switches keepalives off; default 90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub hold_seconds: Option<i32>,
    /// Time between keepalives; default a third of the negotiated hold time, which also bounds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 21845))]
    pub keepalive_seconds: Option<i32>,
    /// First pause before a connection is tried again; it grows while tries fail; default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub connect_retry_seconds: Option<i32>,
}

/// A Secret in the controller's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretReference {
    /// The Secret's name.
    pub name: ObjectName,
}

/// How the segments of a session are signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'TCPAO' ? has(self.sendID) && has(self.receiveID) : !has(self.sendID) && !has(self.receiveID) && !has(self.algorithm)").message("TCPAO needs sendID and receiveID, as the router has them the other way round; MD5 takes neither, and no algorithm")
)]
pub struct Authentication {
    /// By which option of TCP.
    pub r#type: AuthenticationType,
    /// What TCP-AO signs with; default HMACSHA1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<AuthenticationAlgorithm>,
    /// The KeyID in what we send: the router's receive ID.
    #[serde(default, rename = "sendID", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 255))]
    pub send_id: Option<i32>,
    /// The KeyID in what the router sends: its send ID.
    #[serde(default, rename = "receiveID", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 255))]
    pub receive_id: Option<i32>,
}

/// An option of TCP that signs segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AuthenticationType {
    /// TCP MD5 (RFC 2385).
    MD5,
    /// TCP-AO (RFC 5925). Nodes need Linux 6.7 or newer, built with CONFIG_TCP_AO; without it the session stays down and says so.
    TCPAO,
}

/// What TCP-AO signs with (RFC 5926).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AuthenticationAlgorithm {
    /// HMAC-SHA-1-96.
    HMACSHA1,
    /// AES-128-CMAC-96.
    AESCMAC,
}

/// GTSM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TtlSecurity {
    /// How many hops away the router is; 1 for a neighbour.
    #[schemars(range(min = 1, max = 254))]
    pub hops: i32,
}

/// A router beyond the node's own network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EbgpMultihop {
    /// The TTL of our packets.
    #[schemars(range(min = 2, max = 255))]
    pub ttl: i32,
}

/// Next hops told in place of the session's own addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NextHop {
    /// For IPv4 routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Text>,
    /// For IPv6 routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Text>,
}

/// Graceful restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GracefulRestart {
    /// False switches it off.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// How long the router keeps our routes after the session broke.
    #[serde(default = "restart_time")]
    #[schemars(range(min = 1, max = 4095))]
    pub restart_time_seconds: i32,
}

/// BFD. Intervals are what we would like and bear; the slower side counts in each direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bfd {
    /// How often we would like to send.
    #[serde(default = "bfd_interval")]
    #[schemars(range(min = 10, max = 60000))]
    pub transmit_interval_milliseconds: i32,
    /// How often we bear packets.
    #[serde(default = "bfd_interval")]
    #[schemars(range(min = 10, max = 60000))]
    pub receive_interval_milliseconds: i32,
    /// So many of our packets in a row may be lost before the router takes us for gone.
    #[serde(default = "detect_multiplier")]
    #[schemars(range(min = 1, max = 255))]
    pub detect_multiplier: i32,
    /// BFD over several hops (RFC 5883, UDP port 4784), and packets with a lower TTL on arrival do not count. Not given: several hops where
    /// `ebgpMultihop` is (then from 1 on) or `ttlSecurity` says more than one (then from 256 - hops on); else a single hop (RFC 5881, port
    /// 3784), where the TTL must be 255.
    #[serde(default, rename = "minimumTTL", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 254))]
    pub minimum_ttl: Option<i32>,
}

/// What is accepted from a router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.maxPrefixes) || !(has(self.warnAtPercent) || has(self.onExcess) || has(self.restartSeconds))").message("warnAtPercent, onExcess and restartSeconds need maxPrefixes"),
    validation = Rule::new("!has(self.restartSeconds) || !has(self.onExcess) || self.onExcess == 'Close'").message("restartSeconds is for onExcess: Close")
)]
pub struct Import {
    /// Prefixes that are accepted; everything else is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub accept: Vec<PrefixRule>,
    /// So many accepted prefixes of each family are in order; by default there is no limit but `accept`.
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
    /// How long the session stays closed; default 300; 0: until this object changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604800))]
    pub restart_seconds: Option<i32>,
    /// How often our own ASN may stand in a path, for sites that are joined through somebody else's AS; default 0.
    #[serde(default, rename = "allowOwnASN", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub allow_own_asn: Option<i32>,
    /// Ranges that are refused whatever `accept` says, besides those that are no destinations anywhere (loopback, multicast, ...).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub refuse: Vec<Purpose>,
    /// Whether the router's accumulated metrics (AIGP, RFC 7311) count; by default those of iBGP routers do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aigp: Option<AigpSession>,
}

/// Whether accumulated metrics count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AigpSession {
    /// They are compared right behind the local preference.
    Enabled,
    /// They are left out.
    Disabled,
}

/// What a prefix beyond the limit costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnExcess {
    /// The session: Cease 6/1 (RFC 4486).
    Close,
    /// That prefix; it is asked for again when there is room.
    Drop,
}

/// The purpose of a special range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Purpose {
    /// For use inside one network: RFC 1918, unique local addresses and the like.
    Private,
    /// For examples and benchmarks.
    Documentation,
}

/// A prefix and the lengths of more specific ones that it takes along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.ge) || !has(self.le) || self.ge <= self.le").message("ge must not exceed le"))]
pub struct PrefixRule {
    /// The prefix.
    pub prefix: CidrText,
    /// Accept lengths from this on; default the prefix's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 128))]
    pub ge: Option<i32>,
    /// Accept lengths up to this; default the prefix's own, or the longest where only `ge` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 128))]
    pub le: Option<i32>,
}

/// What the controller says of a [`BgpPeer`], derived from the nodes' reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeerStatus {
    /// Established sessions of those wanted, as `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub sessions: Option<String>,
    /// `Ready`: the object is in force and every session is up; else why not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

fn bgp_port() -> i32 {
    179
}

fn both_families() -> Vec<AddressFamily> {
    vec![AddressFamily::IPv4Unicast, AddressFamily::IPv6Unicast]
}

fn enabled() -> bool {
    true
}

fn bfd_interval() -> i32 {
    300
}

fn detect_multiplier() -> i32 {
    3
}

fn restart_time() -> i32 {
    120
}
