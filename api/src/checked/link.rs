//! Links to other clusters.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use super::peer::{asn, bfd, graceful_restart, timers, ttl};
use super::range::parse_cidr;
use super::{Bfd, Findings, Invalid, ObjectRef, SecretKey, Selector, Ttl};
use crate::kinds::{self, CidrText, ClusterLink, EbgpMultihop, LinkMode, LinkNextHop, RouteClass, TtlSecurity};

/// A `ClusterLink` whose fields were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The object's name.
    pub name: String,
    /// When the object was made, as sortable text (RFC 3339, UTC); empty where unknown. Of two that exclude each other the older is in
    /// force.
    pub created: String,
    /// The object's `metadata.generation`.
    pub generation: Option<i64>,
    /// The other cluster's name.
    pub remote_cluster: String,
    /// The other cluster's ASN.
    pub remote_asn: u32,
    /// The other cluster's gateways.
    pub endpoints: BTreeSet<SocketAddr>,
    /// Whether they are waited for as well as dialled.
    pub listen: bool,
    /// The nodes that are gateways; `None`: all.
    pub gateway_selector: Option<Selector>,
    /// What is accepted, each range with its class.
    pub accept: Vec<(RouteClass, IpNet)>,
    /// What is told.
    pub exports: BTreeSet<RouteClass>,
    /// Whether what is learnt is used.
    pub mode: LinkMode,
    /// The next hop that is told.
    pub next_hop: LinkNextHop,
    /// Whether what is learnt is told on other links.
    pub transit: bool,
    /// So many accepted prefixes of each family; at least 1.
    pub max_prefixes: u32,
    /// The Secret that signs the sessions.
    pub password: Option<SecretKey>,
    /// The TTL of the sessions' packets.
    pub ttl: Ttl,
    /// BFD beside the sessions.
    pub bfd: Option<Bfd>,
    /// How long the other cluster is asked to keep our routes while a gateway's speaker restarts; `None`: not at all.
    pub graceful_restart: Option<Duration>,
    /// Proposed hold time; zero or at least 3 s.
    pub hold_time: Duration,
    /// Time between keepalives; `None`: a third of the negotiated hold time.
    pub keepalive: Option<Duration>,
    /// First pause before a connection is tried again.
    pub connect_retry: Duration,
}

/// Gateways of clusters are seldom neighbours, and how many routers are between them is nobody's to know.
const DEFAULT_TTL: u8 = 64;

impl Link {
    /// Checks an object.
    pub fn check(raw: &ClusterLink) -> Result<Self, Vec<Invalid>> {
        let name = raw.metadata.name.clone().unwrap_or_default();
        let mut findings = Findings::new(ObjectRef::cluster("ClusterLink", &name));
        let link = Self::check_spec(name, raw, &mut findings);
        findings.conclude(link)
    }

    fn check_spec(name: String, raw: &ClusterLink, findings: &mut Findings) -> Option<Self> {
        let spec = &raw.spec;
        let remote_asn = findings.take("spec.remoteASN", spec.remote_asn, asn(spec.remote_asn));
        let port = u16::try_from(spec.port).ok().filter(|port| *port != 0);
        if port.is_none() {
            findings.refuse("spec.port", spec.port, "must be from 1 to 65535");
        }
        if spec.endpoints.is_empty() {
            findings.refuse("spec.endpoints", "[]", "must list the addresses of the other cluster's gateways");
        }
        let mut endpoints = BTreeSet::new();
        for (index, text) in spec.endpoints.iter().enumerate() {
            let field = format!("spec.endpoints[{index}]");
            let endpoint = address(&field, &text.0, findings).zip(port).map(SocketAddr::from);
            if endpoint.is_some_and(|endpoint| !endpoints.insert(endpoint)) {
                findings.refuse(field, text, "is listed twice");
            }
        }
        let max_prefixes = u32::try_from(spec.max_prefixes).ok().filter(|limit| (1..=1_000_000).contains(limit));
        if max_prefixes.is_none() {
            findings.refuse("spec.maxPrefixes", spec.max_prefixes, "must be from 1 to 1000000");
        }
        let ttl = distance(spec.ttl_security.as_ref(), spec.ebgp_multihop.as_ref(), findings);
        let (hold_time, keepalive, connect_retry) = timers("spec", &spec.timers, findings);
        Some(Self {
            name,
            created: raw.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()).unwrap_or_default(),
            generation: raw.metadata.generation,
            remote_cluster: spec.remote_cluster.0.clone(),
            remote_asn: remote_asn?,
            endpoints,
            listen: spec.listen,
            gateway_selector: Selector::check_option(spec.gateway_selector.as_ref(), "spec.gatewaySelector", findings),
            accept: accepted(&spec.accept_cidrs, findings),
            exports: spec.exports.iter().copied().collect(),
            mode: spec.mode,
            next_hop: spec.next_hop,
            transit: spec.transit,
            max_prefixes: max_prefixes?,
            password: spec.password_secret.as_ref().map(|secret| SecretKey { name: secret.name.0.clone() }),
            ttl,
            bfd: bfd("spec", spec.bfd.as_ref(), ttl, findings),
            graceful_restart: graceful_restart(spec.graceful_restart.as_ref(), findings),
            hold_time,
            keepalive,
            connect_retry,
        })
    }
}

/// The address of one machine that can be dialled.
pub(super) fn address(field: &str, text: &str, findings: &mut Findings) -> Option<IpAddr> {
    let parsed = text.parse::<IpAddr>().map_err(|_| "must be an IPv4 or IPv6 address");
    let address = findings.take(field, text, parsed)?;
    let is_one = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
    if !is_one {
        findings.refuse(field, text, "must be the address of one machine");
    }
    is_one.then_some(address)
}

/// The TTL of sessions between machines that are seldom neighbours.
pub(super) fn distance(
    security: Option<&TtlSecurity>,
    multihop: Option<&EbgpMultihop>,
    findings: &mut Findings,
) -> Ttl {
    match ttl("spec", security, multihop, findings) {
        Ttl::Default => Ttl::Multihop(DEFAULT_TTL),
        given => given,
    }
}

fn accepted(raw: &kinds::ClassCidrs, findings: &mut Findings) -> Vec<(RouteClass, IpNet)> {
    let classes = [
        (RouteClass::Pods, "pods", &raw.pods),
        (RouteClass::Services, "services", &raw.services),
        (RouteClass::LoadBalancers, "loadBalancers", &raw.load_balancers),
    ];
    let mut accepted: Vec<(RouteClass, IpNet)> = Vec::new();
    for (class, name, texts) in classes {
        for (index, text) in texts.iter().enumerate() {
            let field = format!("spec.acceptCIDRs.{name}[{index}]");
            let Some(net) = cidr(&field, text, findings) else { continue };
            let overlaps = |other: &&(RouteClass, IpNet)| other.1.contains(&net) || net.contains(&other.1);
            if let Some((_, other)) = accepted.iter().find(overlaps) {
                findings.refuse(field, text, format!("overlaps {other}, which acceptCIDRs has already"));
            } else {
                accepted.push((class, net));
            }
        }
    }
    accepted
}

/// A range that somebody may have: not the whole of a family.
pub(super) fn cidr(field: &str, text: &CidrText, findings: &mut Findings) -> Option<IpNet> {
    let net = findings.take(field, text, parse_cidr(&text.0))?;
    if net.prefix_len() == 0 {
        findings.refuse(field, text, "must not be the default route");
        return None;
    }
    Some(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(spec: &str) -> Result<Link, Vec<String>> {
        let raw = ClusterLink::new("south", serde_json::from_str(spec).unwrap());
        Link::check(&raw).map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_not_given_is_nothing_or_the_safe_choice() {
        let link = link(r#"{"remoteCluster":"south","remoteASN":64502,"endpoints":["10.80.2.11"]}"#).unwrap();
        assert_eq!((link.accept.len(), link.exports.len()), (0, 0));
        assert_eq!((link.mode, link.next_hop, link.transit), (LinkMode::Active, LinkNextHop::Gateway, false));
        assert_eq!((link.ttl, link.max_prefixes), (Ttl::Multihop(64), 10_000));
    }

    #[test]
    fn says_what_is_wrong_and_what_is_allowed() {
        let with = |more: &str| {
            link(&format!(r#"{{"remoteCluster":"south","remoteASN":64502,"endpoints":["10.80.2.11"]{more}}}"#))
        };
        let cases = [
            (r#","port":0"#, "spec.port: \"0\": must be from 1 to 65535"),
            (r#","maxPrefixes":0"#, "spec.maxPrefixes: \"0\": must be from 1 to 1000000"),
            (
                r#","acceptCIDRs":{"pods":["0.0.0.0/0"]}"#,
                "spec.acceptCIDRs.pods[0]: \"0.0.0.0/0\": must not be the default",
            ),
            (
                r#","acceptCIDRs":{"pods":["10.2.0.0/16"],"services":["10.2.4.0/24"]}"#,
                "spec.acceptCIDRs.services[0]: \"10.2.4.0/24\": overlaps 10.2.0.0/16, which acceptCIDRs has already",
            ),
            (r#","acceptCIDRs":{"pods":["10.2.0.1/16"]}"#, "host bits must be zero"),
            (r#","ttlSecurity":{"hops":3},"ebgpMultihop":{"ttl":4}"#, "exclude each other"),
            (r#","timers":{"holdSeconds":2}"#, "spec.timers.holdSeconds"),
        ];
        for (more, expected) in cases {
            let found = with(more).expect_err(more);
            assert!(found.len() == 1 && found[0].contains(expected), "{more}: {found:?}");
        }
        for endpoints in [r#"[]"#, r#"["banana"]"#, r#"["::"]"#, r#"["127.0.0.1"]"#, r#"["10.80.2.11","10.80.2.11"]"#] {
            let spec = format!(r#"{{"remoteCluster":"south","remoteASN":64502,"endpoints":{endpoints}}}"#);
            let found = link(&spec).expect_err(endpoints);
            assert!(found[0].contains("spec.endpoints"), "{endpoints}: {found:?}");
        }
    }
}
