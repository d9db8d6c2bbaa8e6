//! BGP peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{Findings, Import, Invalid, ObjectRef, Selector};
use crate::kinds::{
    self, AddressFamily, AsnNumber, AuthenticationAlgorithm, AuthenticationType, BgpPeer, BgpPeerSpec, PeerType, Role,
};

/// A `BGPPeer` whose fields were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The object's name.
    pub name: String,
    /// The object's labels, for `peerSelector`.
    pub labels: BTreeMap<String, String>,
    /// The router's address and port; `::` of a router that is behind `source_interface` and has no address that is known
    /// here.
    pub remote: SocketAddr,
    /// The router's ASN.
    pub peer_asn: PeerAsn,
    /// Our ASN; `None`: that of the ClusterNetwork.
    pub local_asn: Option<u32>,
    /// The nodes that speak to it; `None`: all.
    pub node_selector: Option<Selector>,
    /// Where the session starts from.
    pub source_address: Option<IpAddr>,
    /// What the session is bound to.
    pub source_interface: Option<String>,
    /// Our BGP identifier; `None`: from the node.
    pub router_id: Option<Ipv4Addr>,
    /// Proposed hold time; zero or at least 3 s.
    pub hold_time: Duration,
    /// Time between keepalives; `None`: a third of the negotiated hold time.
    pub keepalive: Option<Duration>,
    /// First pause before a connection is tried again.
    pub connect_retry: Duration,
    /// The Secret that signs the session.
    pub password: Option<SecretKey>,
    /// How the password signs.
    pub authentication: Authentication,
    /// The TTL of the session's packets.
    pub ttl: Ttl,
    /// The families offered.
    pub families: BTreeSet<Family>,
    /// The next hop told for IPv4 routes.
    pub next_hop_ipv4: Option<Ipv4Addr>,
    /// The next hop told for IPv6 routes.
    pub next_hop_ipv6: Option<Ipv6Addr>,
    /// How long the router is asked to keep our routes while we restart (RFC 4724); `None`: not at all.
    pub graceful_restart: Option<Duration>,
    /// BFD beside the session.
    pub bfd: Option<Bfd>,
    /// What we are to the router (RFC 9234); `None`: nothing is said of it.
    pub role: Option<Role>,
    /// Who opens the connection.
    pub mode: TransportMode,
    /// What is accepted.
    pub import: Import,
}

/// Which ASN the router may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAsn {
    /// This one.
    Exactly(u32),
    /// Ours.
    Internal,
    /// Any but ours.
    External,
}

/// A key of a Secret in the controller's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretKey {
    /// The Secret's name.
    pub name: String,
}

impl SecretKey {
    /// The key that holds the password, as in a Secret of type `kubernetes.io/basic-auth`.
    pub const KEY: &str = "password";
}

/// The TTL of a session's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// What fits the kind of session: 1 for eBGP, 255 for iBGP.
    Default,
    /// This for eBGP over more than one hop.
    Multihop(u8),
    /// 255, and at least `256 - hops` on what comes in (RFC 5082).
    Security {
        /// How many hops away the router is.
        hops: u8,
    },
}

/// How a password signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authentication {
    /// TCP MD5 (RFC 2385).
    #[default]
    Md5,
    /// TCP-AO (RFC 5925).
    TcpAo {
        /// With this.
        algorithm: AuthenticationAlgorithm,
        /// The KeyID in what we send.
        send_id: u8,
        /// The KeyID in what the router sends.
        receive_id: u8,
    },
}

/// BFD beside a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// How often we would like to send; 10 ms to 60 s.
    pub transmit_interval: Duration,
    /// How often we bear packets; 10 ms to 60 s.
    pub receive_interval: Duration,
    /// How many of our packets may be lost; at least 1.
    pub multiplier: u8,
    /// Over several hops, with at least this TTL on arrival; `None`: over one.
    pub minimum_ttl: Option<u8>,
}

/// An address family of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportMode {
    /// We dial.
    Dial,
    /// We dial and listen.
    Both,
    /// We listen.
    Passive,
}

impl Peer {
    /// The router in words: its address, or the interface that it is behind.
    pub fn router(&self) -> String {
        match &self.source_interface {
            Some(interface) if self.remote.ip().is_unspecified() => interface.clone(),
            _ => self.remote.ip().to_string(),
        }
    }

    /// Checks an object.
    pub fn check(raw: &BgpPeer) -> Result<Self, Vec<Invalid>> {
        let name = raw.metadata.name.clone().unwrap_or_default();
        let mut findings = Findings::new(ObjectRef::cluster("BGPPeer", &name));
        let peer = Self::check_spec(name, raw, &mut findings);
        findings.conclude(peer)
    }

    fn check_spec(name: String, raw: &BgpPeer, findings: &mut Findings) -> Option<Self> {
        let spec = &raw.spec;
        let address = router(spec, findings);
        let port = u16::try_from(spec.port).ok().filter(|port| *port != 0);
        if port.is_none() {
            findings.refuse("spec.port", spec.port, "must be from 1 to 65535");
        }
        let peer_asn = peer_asn(spec, findings);
        let local_asn = spec.local_asn.and_then(|number| findings.take("spec.localASN", number, asn(number)));
        let node_selector = Selector::check_option(spec.node_selector.as_ref(), "spec.nodeSelector", findings);
        let source_address = spec.source_address.as_ref().and_then(|text| {
            let parsed = text.0.parse::<IpAddr>().map_err(|_| "must be an IPv4 or IPv6 address");
            findings.take("spec.sourceAddress", text, parsed)
        });
        if let (Some(source), Some(address)) = (source_address, address)
            && source.is_ipv4() != address.is_ipv4()
        {
            findings.refuse(
                "spec.sourceAddress",
                source,
                format!("must be of the same family as spec.address {address}"),
            );
        }
        let source_interface = spec.interface.clone().or_else(|| spec.source_interface.clone());
        if source_interface.as_ref().is_some_and(|name| name.is_empty() || name.len() > 15) {
            let given = source_interface.clone().unwrap_or_default();
            let field = if spec.interface.is_some() { "spec.interface" } else { "spec.sourceInterface" };
            findings.refuse(field, given, "must be the name of an interface, 1 to 15 characters");
        }
        let router_id = spec.router_id.as_ref().and_then(|text| {
            let parsed = text.0.parse::<Ipv4Addr>().map_err(|_| "must be written as an IPv4 address");
            findings.take("spec.routerID", text, parsed)
        });
        if router_id.is_some_and(|id| id.is_unspecified()) {
            findings.refuse("spec.routerID", "0.0.0.0", "must not be zero (RFC 6286)");
        }
        let (hold_time, keepalive, connect_retry) = timers("spec", &spec.timers, findings);
        let ttl = ttl("spec", spec.ttl_security.as_ref(), spec.ebgp_multihop.as_ref(), findings);
        let next_hop = spec.next_hop.clone().unwrap_or_default();
        let next_hop_ipv4 = next_hop.ipv4.and_then(|text| {
            let parsed = text.0.parse::<Ipv4Addr>().map_err(|_| "must be an IPv4 address");
            findings.take("spec.nextHop.ipv4", &text, parsed)
        });
        let next_hop_ipv6 = next_hop.ipv6.and_then(|text| {
            let parsed = text.0.parse::<Ipv6Addr>().map_err(|_| "must be an IPv6 address");
            findings.take("spec.nextHop.ipv6", &text, parsed)
        });
        if spec.families.is_empty() {
            findings.refuse("spec.families", "[]", "must list IPv4Unicast, IPv6Unicast or both");
        }
        Some(Self {
            name,
            labels: raw.metadata.labels.clone().unwrap_or_default(),
            remote: SocketAddr::new(address?, port?),
            peer_asn: peer_asn?,
            local_asn,
            node_selector,
            source_address,
            source_interface,
            router_id,
            hold_time,
            keepalive,
            connect_retry,
            password: spec.password_secret.as_ref().map(|secret| SecretKey { name: secret.name.0.clone() }),
            authentication: authentication(
                ("spec", "passwordSecret"),
                spec.authentication.as_ref(),
                spec.password_secret.is_some(),
                findings,
            ),
            ttl,
            families: spec.families.iter().map(|family| Family::from(*family)).collect(),
            next_hop_ipv4,
            next_hop_ipv6,
            graceful_restart: graceful_restart(spec.graceful_restart.as_ref(), findings),
            bfd: bfd_of_peer(spec, ttl, findings),
            role: role(spec, findings),
            mode: match (spec.passive, spec.listen) {
                (true, _) => TransportMode::Passive,
                (false, true) => TransportMode::Both,
                (false, false) => TransportMode::Dial,
            },
            import: Import::check(spec.import.as_ref(), findings),
        })
    }
}

/// The router's address; `::` behind an interface.
fn router(spec: &BgpPeerSpec, findings: &mut Findings) -> Option<IpAddr> {
    match (&spec.address, &spec.interface) {
        (Some(text), None) => {
            let parsed = text.0.parse::<IpAddr>().map_err(|_| "must be an IPv4 or IPv6 address");
            let address = findings.take("spec.address", text, parsed);
            if address.is_some_and(|address| address.is_unspecified() || address.is_multicast()) {
                findings.refuse("spec.address", text, "must be the address of one router");
            }
            address
        }
        (None, Some(interface)) => {
            let others = [
                ("sourceAddress: the session is on that link", spec.source_address.is_some()),
                ("sourceInterface: the session is on that link", spec.source_interface.is_some()),
                ("ebgpMultihop: the session is on that link", spec.ebgp_multihop.is_some()),
            ];
            for (other, _) in others.into_iter().filter(|(_, given)| *given) {
                findings.refuse("spec.interface", interface, format!("excludes {other}"));
            }
            Some(Ipv6Addr::UNSPECIFIED.into())
        }
        (None, None) => {
            findings.refuse("spec.address", "", "give the router's address, or the interface that it is behind");
            None
        }
        (Some(text), Some(_)) => {
            findings.refuse("spec.address", text, "exactly one of address and interface must be given");
            None
        }
    }
}

impl From<AddressFamily> for Family {
    fn from(raw: AddressFamily) -> Self {
        match raw {
            AddressFamily::IPv4Unicast => Self::Ipv4Unicast,
            AddressFamily::IPv6Unicast => Self::Ipv6Unicast,
        }
    }
}

/// An ASN that somebody may have (RFC 7607: not 0; RFC 6793: not AS_TRANS).
pub fn asn(raw: AsnNumber) -> Result<u32, &'static str> {
    match u32::try_from(raw.0) {
        Ok(0) | Err(_) => Err("must be from 1 to 4294967295"),
        Ok(23456) => Err("is AS_TRANS (RFC 6793) and nobody's own ASN; allowed: 1 to 4294967295 but 23456"),
        Ok(asn) => Ok(asn),
    }
}

fn peer_asn(spec: &BgpPeerSpec, findings: &mut Findings) -> Option<PeerAsn> {
    match (spec.peer_asn, spec.peer_type) {
        (Some(number), None) => findings.take("spec.peerASN", number, asn(number)).map(PeerAsn::Exactly),
        (None, Some(PeerType::Internal)) => Some(PeerAsn::Internal),
        (None, Some(PeerType::External)) => Some(PeerAsn::External),
        (None, None) => {
            findings.refuse("spec.peerASN", "", "give peerASN, or peerType: Internal or External");
            None
        }
        (Some(number), Some(_)) => {
            findings.refuse("spec.peerASN", number, "exactly one of peerASN and peerType must be given");
            None
        }
    }
}

/// Hold time, time between keepalives and first pause between connections, of the object or the part of it that is `at`.
pub(super) fn timers(at: &str, raw: &kinds::Timers, findings: &mut Findings) -> (Duration, Option<Duration>, Duration) {
    let hold = u16::try_from(raw.hold_seconds.unwrap_or(90)).ok().filter(|seconds| *seconds == 0 || *seconds >= 3);
    if hold.is_none() {
        let given = raw.hold_seconds.unwrap_or_default();
        findings.refuse(
            format!("{at}.timers.holdSeconds"),
            given,
            "must be 0 or from 3 to 65535 (RFC 4271 section 4.2)",
        );
    }
    let hold = hold.unwrap_or(90);
    let keepalive = raw.keepalive_seconds.map(|seconds| {
        let fits =
            u16::try_from(seconds).ok().filter(|seconds| (1..=hold).contains(seconds) || (hold == 0 && *seconds > 0));
        if fits.is_none() {
            let allowed = format!("must be from 1 to holdSeconds ({hold})");
            findings.refuse(format!("{at}.timers.keepaliveSeconds"), seconds, allowed);
        }
        Duration::from_secs(fits.unwrap_or(1).into())
    });
    let retry = raw.connect_retry_seconds.unwrap_or(5);
    let checked_retry = u16::try_from(retry).ok().filter(|seconds| *seconds > 0);
    if checked_retry.is_none() {
        findings.refuse(format!("{at}.timers.connectRetrySeconds"), retry, "must be from 1 to 65535");
    }
    (Duration::from_secs(hold.into()), keepalive, Duration::from_secs(checked_retry.unwrap_or(5).into()))
}

/// Only where it is asked for: see `docs/adr/0006-graceful-restart-is-asked-for.md`.
pub(super) fn graceful_restart(raw: Option<&kinds::GracefulRestart>, findings: &mut Findings) -> Option<Duration> {
    let raw = raw?;
    let seconds = raw.restart_time_seconds;
    let checked = u16::try_from(seconds).ok().filter(|seconds| (1..=4095).contains(seconds));
    if checked.is_none() {
        findings.refuse(
            "spec.gracefulRestart.restartTimeSeconds",
            seconds,
            "must be from 1 to 4095 (RFC 4724 section 3)",
        );
    }
    raw.enabled.then(|| Duration::from_secs(checked.unwrap_or(1).into()))
}

/// How the password of the object or the part of it that is `at` signs, which stands in its field `password`.
pub(super) fn authentication(
    (at, password): (&str, &str),
    raw: Option<&kinds::Authentication>,
    has_password: bool,
    findings: &mut Findings,
) -> Authentication {
    let Some(raw) = raw else { return Authentication::Md5 };
    let at = format!("{at}.authentication");
    if !has_password {
        findings.refuse(&at, format!("{:?}", raw.r#type), format!("says how a password signs: it needs {password}"));
    }
    let mut id = |field: &str, given: Option<i32>| match given.map(u8::try_from) {
        Some(Ok(id)) => id,
        other => {
            let given = given.map(|given| given.to_string()).unwrap_or_default();
            let allowed = if other.is_some() { "must be from 0 to 255" } else { "must be given with type TCPAO" };
            findings.refuse(format!("{at}.{field}"), given, allowed);
            0
        }
    };
    match raw.r#type {
        AuthenticationType::TCPAO => Authentication::TcpAo {
            algorithm: raw.algorithm.unwrap_or(AuthenticationAlgorithm::HMACSHA1),
            send_id: id("sendID", raw.send_id),
            receive_id: id("receiveID", raw.receive_id),
        },
        AuthenticationType::MD5 => {
            let given = [
                ("sendID", raw.send_id.map(|id| id.to_string())),
                ("receiveID", raw.receive_id.map(|id| id.to_string())),
                ("algorithm", raw.algorithm.map(|algorithm| format!("{algorithm:?}"))),
            ];
            for (field, given) in given {
                if let Some(given) = given {
                    findings.refuse(format!("{at}.{field}"), given, "is TCP-AO's: give type TCPAO, or leave it out");
                }
            }
            Authentication::Md5
        }
    }
}

fn bfd_of_peer(spec: &BgpPeerSpec, ttl: Ttl, findings: &mut Findings) -> Option<Bfd> {
    let Some(interface) = &spec.interface else { return bfd("spec", spec.bfd.as_ref(), ttl, findings) };
    let minimum = spec.bfd.as_ref().and_then(|raw| raw.minimum_ttl);
    if let Some(given) = minimum {
        let allowed = format!("is for routers several hops away, and one behind interface {interface} is on that link");
        findings.refuse("spec.bfd.minimumTTL", given, allowed);
    }
    // Whatever the session's packets are checked for, a link is a single hop.
    bfd("spec", spec.bfd.as_ref(), Ttl::Default, findings)
}

/// BFD of the object or the part of it that is `at`, beside sessions with this TTL.
pub(super) fn bfd(at: &str, raw: Option<&kinds::Bfd>, ttl: Ttl, findings: &mut Findings) -> Option<Bfd> {
    let raw = raw?;
    let mut interval = |field: &str, given: i32| {
        let checked = u64::try_from(given).ok().filter(|milliseconds| (10..=60_000).contains(milliseconds));
        if checked.is_none() {
            findings.refuse(format!("{at}.bfd.{field}"), given, "must be from 10 to 60000");
        }
        Duration::from_millis(checked.unwrap_or(300))
    };
    let transmit_interval = interval("transmitIntervalMilliseconds", raw.transmit_interval_milliseconds);
    let receive_interval = interval("receiveIntervalMilliseconds", raw.receive_interval_milliseconds);
    let multiplier = u8::try_from(raw.detect_multiplier).ok().filter(|multiplier| *multiplier > 0);
    if multiplier.is_none() {
        findings.refuse(format!("{at}.bfd.detectMultiplier"), raw.detect_multiplier, "must be from 1 to 255");
    }
    let given = raw.minimum_ttl.map(|given| {
        let checked = u8::try_from(given).ok().filter(|ttl| (1..=254).contains(ttl));
        if checked.is_none() {
            findings.refuse(format!("{at}.bfd.minimumTTL"), given, "must be from 1 to 254");
        }
        checked.unwrap_or(1)
    });
    if let (Some(given), Ttl::Security { hops: 1 }) = (given, ttl) {
        let allowed = "is for routers several hops away, and ttlSecurity says one";
        findings.refuse(format!("{at}.bfd.minimumTTL"), given, allowed);
    }
    let implied = match ttl {
        Ttl::Multihop(_) => Some(1),
        // As for the session itself: 255, and one less for each router on the way.
        Ttl::Security { hops } if hops > 1 => Some(255 - (hops - 1)),
        Ttl::Security { .. } | Ttl::Default => None,
    };
    Some(Bfd {
        transmit_interval,
        receive_interval,
        multiplier: multiplier.unwrap_or(3),
        minimum_ttl: given.or(implied),
    })
}

fn role(spec: &BgpPeerSpec, findings: &mut Findings) -> Option<Role> {
    let role = spec.role?;
    if spec.peer_type == Some(PeerType::Internal) || (spec.peer_asn.is_some() && spec.peer_asn == spec.local_asn) {
        findings.refuse(
            "spec.role",
            format!("{role:?}"),
            "is for external sessions: the router's ASN must not be ours (RFC 9234)",
        );
    }
    Some(role)
}

/// The TTL of the object or the part of it that is `at`.
pub(super) fn ttl(
    at: &str,
    security: Option<&kinds::TtlSecurity>,
    multihop: Option<&kinds::EbgpMultihop>,
    findings: &mut Findings,
) -> Ttl {
    match (security, multihop) {
        (Some(_), Some(_)) => {
            findings.refuse(
                format!("{at}.ttlSecurity"),
                "{}",
                "ttlSecurity and ebgpMultihop exclude each other (RFC 5082)",
            );
            Ttl::Default
        }
        (Some(security), None) => match u8::try_from(security.hops) {
            Ok(hops) if (1..=254).contains(&hops) => Ttl::Security { hops },
            _ => {
                findings.refuse(format!("{at}.ttlSecurity.hops"), security.hops, "must be from 1 to 254");
                Ttl::Default
            }
        },
        (None, Some(multihop)) => match u8::try_from(multihop.ttl) {
            Ok(ttl) if ttl >= 2 => Ttl::Multihop(ttl),
            _ => {
                findings.refuse(format!("{at}.ebgpMultihop.ttl"), multihop.ttl, "must be from 2 to 255");
                Ttl::Default
            }
        },
        (None, None) => Ttl::Default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spec: &str, expected: &[&str]) {
        let raw = BgpPeer::new("tor", serde_json::from_str(spec).unwrap());
        let found = Peer::check(&raw).err().unwrap_or_default();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} lacks {expected}");
        }
    }

    #[test]
    fn graceful_restart_is_on_where_it_is_asked_for() {
        let checked = |spec: &str| {
            let spec = format!(r#"{{"address":"192.0.2.1","peerASN":64512{spec}}}"#);
            let raw = BgpPeer::new("tor", serde_json::from_str(&spec).unwrap());
            Peer::check(&raw).unwrap().graceful_restart.map(|time| time.as_secs())
        };
        assert_eq!(checked(""), None);
        assert_eq!(checked(r#","gracefulRestart":{}"#), Some(120));
        assert_eq!(checked(r#","gracefulRestart":{"restartTimeSeconds":30}"#), Some(30));
        assert_eq!(checked(r#","gracefulRestart":{"enabled":false}"#), None);
    }

    #[test]
    fn bfd_is_over_as_many_hops_as_the_session() {
        let checked = |spec: &str| {
            let spec = format!(r#"{{"address":"192.0.2.1","peerASN":64512{spec}}}"#);
            let raw = BgpPeer::new("tor", serde_json::from_str(&spec).unwrap());
            Peer::check(&raw).unwrap().bfd
        };
        assert_eq!(checked(""), None);
        let defaults = Bfd {
            transmit_interval: Duration::from_millis(300),
            receive_interval: Duration::from_millis(300),
            multiplier: 3,
            minimum_ttl: None,
        };
        assert_eq!(checked(r#","bfd":{}"#), Some(defaults));
        let own =
            r#","bfd":{"transmitIntervalMilliseconds":50,"receiveIntervalMilliseconds":100,"detectMultiplier":5}"#;
        let (transmit_interval, receive_interval) = (Duration::from_millis(50), Duration::from_millis(100));
        assert_eq!(checked(own), Some(Bfd { transmit_interval, receive_interval, multiplier: 5, minimum_ttl: None }));
        let cases = [
            (r#","bfd":{},"ttlSecurity":{"hops":1}"#, None),
            (r#","bfd":{},"ttlSecurity":{"hops":3}"#, Some(253)),
            (r#","bfd":{},"ebgpMultihop":{"ttl":4}"#, Some(1)),
            (r#","bfd":{"minimumTTL":60},"ebgpMultihop":{"ttl":4}"#, Some(60)),
            (r#","bfd":{"minimumTTL":254}"#, Some(254)),
        ];
        for (spec, expected) in cases {
            assert_eq!(checked(spec).unwrap().minimum_ttl, expected, "{spec}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_what_is_allowed() {
        check(r#"{"address":"192.0.2.1","peerASN":64512}"#, &[]);
        check(r#"{"address":"2001:db8::1","peerType":"External","timers":{"holdSeconds":0}}"#, &[]);
        check(
            r#"{"address":"192.0.2.1"}"#,
            &[r#"BGPPeer tor: spec.peerASN: "": give peerASN, or peerType: Internal or External"#],
        );
        check(r#"{"address":"192.0.2.1","peerASN":0}"#, &["spec.peerASN: \"0\": must be from 1 to 4294967295"]);
        check(r#"{"address":"192.0.2.1","peerASN":4294967296}"#, &["must be from 1 to 4294967295"]);
        check(r#"{"address":"192.0.2.1","peerASN":23456}"#, &["AS_TRANS"]);
        check(r#"{"address":"192.0.2.1","peerASN":1,"localASN":23456}"#, &["spec.localASN"]);
        check(r#"{"address":"192.0.2.1","peerASN":1,"peerType":"Internal"}"#, &["exactly one of"]);
        check(r#"{"interface":"eth1","peerASN":1}"#, &[]);
        check(r#"{"peerASN":1}"#, &["spec.address: \"\": give the router's address, or the interface"]);
        check(r#"{"address":"192.0.2.1","interface":"eth1","peerASN":1}"#, &["exactly one of address and interface"]);
        check(
            r#"{"interface":"eth1","sourceAddress":"::1","ebgpMultihop":{"ttl":2},"peerASN":1}"#,
            &["spec.interface: \"eth1\": excludes sourceAddress", "excludes ebgpMultihop"],
        );
        check(r#"{"interface":"eth1","peerASN":1,"bfd":{},"ttlSecurity":{"hops":2}}"#, &[]);
        check(
            r#"{"interface":"eth1","peerASN":1,"bfd":{"minimumTTL":254}}"#,
            &[
                "spec.bfd.minimumTTL: \"254\": is for routers several hops away, and one behind interface eth1 is on that link",
            ],
        );
        check(r#"{"interface":"a-very-long-name","peerASN":1}"#, &["spec.interface"]);
        check(r#"{"address":"router","peerASN":1}"#, &["spec.address: \"router\""]);
        for hold in ["1", "2", "-3", "65536"] {
            let spec = format!(r#"{{"address":"192.0.2.1","peerASN":1,"timers":{{"holdSeconds":{hold}}}}}"#);
            check(&spec, &["must be 0 or from 3 to 65535"]);
        }
        check(
            r#"{"address":"192.0.2.1","peerASN":1,"timers":{"holdSeconds":9,"keepaliveSeconds":10}}"#,
            &["must be from 1 to holdSeconds (9)"],
        );
        check(
            r#"{"address":"192.0.2.1","peerASN":1,"ttlSecurity":{"hops":1},"ebgpMultihop":{"ttl":4}}"#,
            &["exclude each other"],
        );
        for time in ["0", "4096"] {
            let restart = format!(r#"{{"restartTimeSeconds":{time}}}"#);
            check(
                &format!(r#"{{"address":"192.0.2.1","peerASN":1,"gracefulRestart":{restart}}}"#),
                &["spec.gracefulRestart.restartTimeSeconds"],
            );
        }
        let signed = |authentication: &str| {
            let secret = r#""passwordSecret":{"name":"tor"}"#;
            format!(r#"{{"address":"192.0.2.1","peerASN":1,{secret},"authentication":{{{authentication}}}}}"#)
        };
        check(&signed(r#""type":"MD5""#), &[]);
        check(&signed(r#""type":"TCPAO","sendID":0,"receiveID":255,"algorithm":"AESCMAC""#), &[]);
        check(
            &signed(r#""type":"TCPAO","sendID":256"#),
            &[
                "spec.authentication.sendID: \"256\": must be from 0 to 255",
                "spec.authentication.receiveID: \"\": must be given with type TCPAO",
            ],
        );
        check(
            &signed(r#""type":"MD5","sendID":1,"algorithm":"HMACSHA1""#),
            &[
                "spec.authentication.sendID: \"1\": is TCP-AO's",
                "spec.authentication.algorithm: \"HMACSHA1\": is TCP-AO's",
            ],
        );
        check(
            r#"{"address":"192.0.2.1","peerASN":1,"authentication":{"type":"MD5"}}"#,
            &["spec.authentication: \"MD5\": says how a password signs: it needs passwordSecret"],
        );
        for (field, given, allowed) in [
            ("transmitIntervalMilliseconds", "9", "must be from 10 to 60000"),
            ("receiveIntervalMilliseconds", "60001", "must be from 10 to 60000"),
            ("detectMultiplier", "0", "must be from 1 to 255"),
            ("minimumTTL", "255", "must be from 1 to 254"),
        ] {
            let spec = format!(r#"{{"address":"192.0.2.1","peerASN":1,"bfd":{{"{field}":{given}}}}}"#);
            check(&spec, &[&format!("spec.bfd.{field}: \"{given}\": {allowed}")]);
        }
        check(
            r#"{"address":"192.0.2.1","peerASN":1,"bfd":{"minimumTTL":250},"ttlSecurity":{"hops":1}}"#,
            &["spec.bfd.minimumTTL: \"250\": is for routers several hops away"],
        );
        check(r#"{"address":"192.0.2.1","peerASN":1,"localASN":2,"role":"Customer"}"#, &[]);
        for session in [r#""peerType":"Internal""#, r#""peerASN":1,"localASN":1"#] {
            let spec = format!(r#"{{"address":"192.0.2.1",{session},"role":"RouteServerClient"}}"#);
            check(&spec, &["spec.role: \"RouteServerClient\": is for external sessions"]);
        }
        check(r#"{"address":"192.0.2.1","peerASN":1,"sourceAddress":"2001:db8::1"}"#, &["same family"]);
        check(r#"{"address":"192.0.2.1","peerASN":1,"routerID":"0.0.0.0"}"#, &["must not be zero"]);
        check(r#"{"address":"x","peerASN":0,"port":0}"#, &["spec.address", "spec.port", "spec.peerASN"]);
    }
}
