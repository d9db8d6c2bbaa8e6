//! Advertisements.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Findings, Invalid, Labels, ObjectRef, Selector};
use crate::kinds;

/// An `Advertisement` whose fields were checked. Communities stay text here: what they are is for BGP to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The object's name.
    pub name: String,
    /// What is announced: the union of these.
    pub sources: Vec<LoadBalancerSource>,
    /// And the union of these.
    pub pod_pools: Vec<PodPoolSource>,
    /// To whom.
    pub peers: PeerChoice,
    /// From which nodes; `None`: all.
    pub node_selector: Option<Selector>,
    /// IPv4 addresses are rolled up to this length.
    pub aggregate_ipv4: u8,
    /// IPv6 addresses are rolled up to this length.
    pub aggregate_ipv6: u8,
    /// With which attributes.
    pub settings: RouteSettings,
}

/// Which addresses of Services of type LoadBalancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadBalancerSource {
    /// Pools by name.
    pub pools: BTreeSet<String>,
    /// Pools by label.
    pub pool_selector: Option<Selector>,
    /// Services by label; `None`: all.
    pub service_selector: Option<Selector>,
}

/// Which pools for pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPoolSource {
    /// Pools by name.
    pub names: BTreeSet<String>,
    /// Pools by label.
    pub selector: Option<Selector>,
}

/// To which peers something is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerChoice {
    /// Every peer.
    All,
    /// Those named, and those whose labels the selector takes.
    Some {
        /// By name.
        names: BTreeSet<String>,
        /// By label; `None` takes none.
        selector: Option<Selector>,
    },
}

/// Path attributes as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteSettings {
    /// `ASN:value` or well-known names.
    pub communities: Vec<String>,
    /// `global:local1:local2`.
    pub large_communities: Vec<String>,
    /// `rt:` or `soo:` and so on, or hexadecimal digits.
    pub extended_communities: Vec<String>,
    /// How much the links behind a route carry.
    pub link_bandwidth: Option<LinkBandwidth>,
    /// LOCAL_PREF towards iBGP peers.
    pub local_preference: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// How often our ASN is repeated.
    pub prepend: u8,
}

/// How much the links behind a route carry, and to whom that may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkBandwidth {
    /// How much.
    pub bandwidth: Bandwidth,
    /// Whether routers may tell it to another AS.
    pub transitivity: kinds::Transitivity,
}

/// An amount of bandwidth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bandwidth {
    /// One Gbit/s for each endpoint that the node sends packets to.
    PerEndpoint,
    /// So many bits per second.
    Fixed(u64),
}

impl Advertisement {
    /// Checks an object.
    pub fn check(raw: &kinds::Advertisement) -> Result<Self, Vec<Invalid>> {
        let name = raw.metadata.name.clone().unwrap_or_default();
        let mut findings = Findings::new(ObjectRef::cluster("Advertisement", &name));
        let spec = &raw.spec;
        if spec.from.is_empty() {
            findings.refuse("spec.from", "[]", "must list at least one source, like loadBalancers: {}");
        }
        let mut sources = Vec::new();
        let mut pod_pools = Vec::new();
        for (index, source) in spec.from.iter().enumerate() {
            if source.load_balancers.is_some() == source.pod_pools.is_some() {
                let given = if source.pod_pools.is_some() { "both" } else { "neither" };
                findings.refuse(format!("spec.from[{index}]"), given, "must be one of loadBalancers and podPools");
            }
            if let Some(raw) = &source.pod_pools {
                let field = format!("spec.from[{index}].podPools.selector");
                pod_pools.push(PodPoolSource {
                    names: raw.names.iter().map(|name| name.0.clone()).collect(),
                    selector: Selector::check_option(raw.selector.as_ref(), &field, &mut findings),
                });
            }
            let field = format!("spec.from[{index}].loadBalancers");
            let Some(raw) = &source.load_balancers else { continue };
            sources.push(LoadBalancerSource {
                pools: raw.pools.iter().map(|name| name.0.clone()).collect(),
                pool_selector: Selector::check_option(
                    raw.pool_selector.as_ref(),
                    &format!("{field}.poolSelector"),
                    &mut findings,
                ),
                service_selector: Selector::check_option(
                    raw.service_selector.as_ref(),
                    &format!("{field}.serviceSelector"),
                    &mut findings,
                ),
            });
        }
        let peer_selector = Selector::check_option(spec.peer_selector.as_ref(), "spec.peerSelector", &mut findings);
        let peers = if spec.peers.is_empty() && peer_selector.is_none() {
            PeerChoice::All
        } else {
            let names = spec.peers.iter().map(|name| name.0.clone()).collect();
            PeerChoice::Some { names, selector: peer_selector }
        };
        let advertisement = Self {
            name,
            sources,
            pod_pools,
            peers,
            node_selector: Selector::check_option(spec.node_selector.as_ref(), "spec.nodeSelector", &mut findings),
            aggregate_ipv4: number("spec.aggregate.ipv4", spec.aggregate.ipv4.into(), 1, 32, &mut findings),
            aggregate_ipv6: number("spec.aggregate.ipv6", spec.aggregate.ipv6.into(), 1, 128, &mut findings),
            settings: settings(&spec.attributes, &mut findings),
        };
        findings.conclude(Some(advertisement))
    }

    /// Whether it tells a peer of this name and these labels anything.
    pub fn selects_peer(&self, name: &str, labels: &Labels) -> bool {
        match &self.peers {
            PeerChoice::All => true,
            PeerChoice::Some { names, selector } => {
                names.contains(name) || selector.as_ref().is_some_and(|selector| selector.matches(labels))
            }
        }
    }

    /// Whether a node with these labels announces.
    pub fn selects_node(&self, labels: &Labels) -> bool {
        self.node_selector.as_ref().is_none_or(|selector| selector.matches(labels))
    }

    /// Whether an address of a Service with these labels is announced. The claim says which pool it came from; the labels are those
    /// of the pool, if it still exists.
    pub fn selects(&self, pool: &str, pool_labels: Option<&Labels>, service_labels: &Labels) -> bool {
        self.sources.iter().any(|source| source.selects(pool, pool_labels, service_labels))
    }

    /// Whether the blocks or addresses of a pool for pods are announced.
    pub fn selects_pod_pool(&self, pool: &str, labels: Option<&Labels>) -> bool {
        self.pod_pools.iter().any(|source| source.selects(pool, labels))
    }

    /// The prefix under which an address is announced.
    pub fn prefix_of(&self, address: IpAddr) -> IpNet {
        let length = if address.is_ipv4() { self.aggregate_ipv4 } else { self.aggregate_ipv6 };
        // The length was checked against the family.
        IpNet::new(address, length).map_or_else(|_| IpNet::from(address), |net| net.trunc())
    }
}

impl PodPoolSource {
    fn selects(&self, pool: &str, labels: Option<&Labels>) -> bool {
        let by_label = |selector: &Selector| labels.is_some_and(|labels| selector.matches(labels));
        let any = self.names.is_empty() && self.selector.is_none();
        any || self.names.contains(pool) || self.selector.as_ref().is_some_and(by_label)
    }
}

impl LoadBalancerSource {
    fn selects(&self, pool: &str, pool_labels: Option<&Labels>, service_labels: &Labels) -> bool {
        let by_label = |selector: &Selector| pool_labels.is_some_and(|labels| selector.matches(labels));
        let any_pool = self.pools.is_empty() && self.pool_selector.is_none();
        let pool_fits = any_pool || self.pools.contains(pool) || self.pool_selector.as_ref().is_some_and(by_label);
        pool_fits && self.service_selector.as_ref().is_none_or(|selector| selector.matches(service_labels))
    }
}

fn settings(raw: &kinds::Attributes, findings: &mut Findings) -> RouteSettings {
    for (index, text) in raw.communities.iter().enumerate() {
        if !is_community(&text.0) {
            let field = format!("spec.attributes.communities[{index}]");
            let names = WELL_KNOWN_COMMUNITIES.join(", ");
            findings.refuse(field, text, format!("must be ASN:value with both from 0 to 65535, or one of {names}"));
        }
    }
    for (index, text) in raw.large_communities.iter().enumerate() {
        if !is_joined_numbers(&text.0, 3, u32::MAX.into()) {
            let field = format!("spec.attributes.largeCommunities[{index}]");
            findings.refuse(field, text, "must be three numbers from 0 to 4294967295 joined by colons");
        }
    }
    for (index, text) in raw.extended_communities.iter().enumerate() {
        if !is_extended_community(&text.0) {
            let field = format!("spec.attributes.extendedCommunities[{index}]");
            findings.refuse(
                field,
                text,
                "must be rt: or soo: with an ASN or an address and a number, like rt:65000:1, soo:192.0.2.1:1 or \
                 rt:[2001:db8::1]:1, or 16 or 40 hexadecimal digits like 0x0002fde800000001",
            );
        }
    }
    RouteSettings {
        extended_communities: raw.extended_communities.iter().map(|text| text.0.clone()).collect(),
        link_bandwidth: link_bandwidth(raw, findings),
        communities: raw.communities.iter().map(|text| text.0.clone()).collect(),
        large_communities: raw.large_communities.iter().map(|text| text.0.clone()).collect(),
        local_preference: raw
            .local_preference
            .map(|value| number("spec.attributes.localPreference", value, 0, u32::MAX.into(), findings)),
        med: raw.med.map(|value| number("spec.attributes.med", value, 0, u32::MAX.into(), findings)),
        prepend: number("spec.attributes.prepend", raw.prepend.into(), 0, 32, findings),
    }
}

fn link_bandwidth(raw: &kinds::Attributes, findings: &mut Findings) -> Option<LinkBandwidth> {
    let field = "spec.attributes.linkBandwidth";
    let Some(text) = &raw.link_bandwidth else {
        if let Some(transitivity) = raw.link_bandwidth_transitivity {
            let field = "spec.attributes.linkBandwidthTransitivity";
            findings.refuse(field, format!("{transitivity:?}"), "needs linkBandwidth");
        }
        return None;
    };
    let is_bandwidth =
        |text: &kinds::ExtendedCommunityText| text.0.starts_with("0x0004") || text.0.starts_with("0x4004");
    if raw.extended_communities.iter().any(is_bandwidth) {
        findings.refuse(field, text, "excludes a link bandwidth (0x0004, 0x4004) among extendedCommunities");
    }
    let Some(bandwidth) = bandwidth(&text.0) else {
        findings.refuse(
            field,
            text,
            "must be PerEndpoint, or a number from 1 to 999999 with Mbps or Gbps, like 25Gbps",
        );
        return None;
    };
    Some(LinkBandwidth { bandwidth, transitivity: raw.link_bandwidth_transitivity.unwrap_or_default() })
}

fn bandwidth(text: &str) -> Option<Bandwidth> {
    if text == "PerEndpoint" {
        return Some(Bandwidth::PerEndpoint);
    }
    let (digits, unit) = match text.strip_suffix("Mbps") {
        Some(digits) => (digits, 1_000_000),
        None => (text.strip_suffix("Gbps")?, 1_000_000_000),
    };
    let plain =
        (1..=6).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse::<u64>().ok().filter(|_| plain).map(|number| Bandwidth::Fixed(number * unit))
}

fn is_extended_community(text: &str) -> bool {
    if let Some(digits) = text.strip_prefix("0x") {
        let plain = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        return plain && matches!(digits.len(), 16 | 40);
    }
    let Some(rest) = ["rt:", "soo:", "ro:"].iter().find_map(|kind| text.strip_prefix(kind)) else { return false };
    let Some((administrator, number)) = rest.rsplit_once(':') else { return false };
    let short = u64::from(u16::MAX);
    if is_joined_numbers(administrator, 1, u32::MAX.into()) {
        let most = if is_joined_numbers(administrator, 1, short) { u32::MAX.into() } else { short };
        return is_joined_numbers(number, 1, most);
    }
    let bracketed = administrator.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => administrator.parse::<Ipv4Addr>().is_ok(),
    };
    address && is_joined_numbers(number, 1, short)
}

/// Names of well-known communities (IANA's registry of BGP well-known communities).
const WELL_KNOWN_COMMUNITIES: [&str; 5] =
    ["graceful-shutdown", "blackhole", "no-export", "no-advertise", "no-export-subconfed"];

fn is_community(text: &str) -> bool {
    WELL_KNOWN_COMMUNITIES.contains(&text) || is_joined_numbers(text, 2, u16::MAX.into())
}

fn is_joined_numbers(text: &str, count: usize, max: u64) -> bool {
    let fits = |part: &str| part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u64>().is_ok_and(|n| n <= max);
    text.split(':').count() == count && text.split(':').all(fits)
}

fn number<T: TryFrom<i64> + Default>(field: &str, value: i64, min: i64, max: i64, findings: &mut Findings) -> T {
    match T::try_from(value) {
        Ok(checked) if (min..=max).contains(&value) => checked,
        _ => {
            findings.refuse(field, value, format!("must be from {min} to {max}"));
            T::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(spec: &str, expected: &[&str]) {
        let raw = kinds::Advertisement::new("adv", serde_json::from_str(spec).unwrap());
        let found = Advertisement::check(&raw).err().unwrap_or_default();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} lacks {expected}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_what_is_allowed() {
        let with = |attributes: &str| format!(r#"{{"from":[{{"loadBalancers":{{}}}}],"attributes":{attributes}}}"#);
        check(&with(r#"{"communities":["64500:100","no-export"],"largeCommunities":["64500:1:7"]}"#), &[]);
        check(r#"{"from":[]}"#, &["spec.from"]);
        check(r#"{"from":[{"podPools":{"names":["underlay"],"selector":{}}},{"loadBalancers":{}}]}"#, &[]);
        check(r#"{"from":[{}]}"#, &["spec.from[0]: \"neither\": must be one of loadBalancers and podPools"]);
        check(r#"{"from":[{"podPools":{},"loadBalancers":{}}]}"#, &["spec.from[0]: \"both\""]);
        check(&with(r#"{"communities":["64500"]}"#), &["spec.attributes.communities[0]"]);
        check(&with(r#"{"communities":["1:2","70000:1"]}"#), &["communities[1]: \"70000:1\""]);
        check(&with(r#"{"largeCommunities":["1:2"]}"#), &["largeCommunities[0]"]);
        let good = [
            "rt:65000:4294967295",
            "ro:4200000000:1",
            "soo:192.0.2.1:65535",
            "rt:[2001:db8::1]:1",
            "0x0002fde800000001",
        ];
        check(&with(&format!(r#"{{"extendedCommunities":{good:?}}}"#)), &[]);
        let bad = [
            "",
            "rt:1",
            "rt:4200000000:65536",
            "rt:192.0.2.1:65536",
            "rt:[192.0.2.1]:1",
            "rt:2001:db8::1:1",
            "RT:1:1",
            "color:1",
            "0x0002",
            "0x0002FDE800000001",
        ];
        let fields: Vec<String> = (0..bad.len()).map(|index| format!("extendedCommunities[{index}]")).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        check(&with(&format!(r#"{{"extendedCommunities":{bad:?}}}"#)), &fields);
        check(&with(r#"{"linkBandwidth":"PerEndpoint","linkBandwidthTransitivity":"NonTransitive"}"#), &[]);
        for bad in ["0Gbps", "1000000Mbps", "25", "1Tbps", "+1Gbps", "perEndpoint"] {
            check(&with(&format!(r#"{{"linkBandwidth":{bad:?}}}"#)), &["must be PerEndpoint, or a number"]);
        }
        check(&with(r#"{"linkBandwidthTransitivity":"Transitive"}"#), &["needs linkBandwidth"]);
        check(
            &with(r#"{"linkBandwidth":"1Gbps","extendedCommunities":["0x4004fbf44cee6b28"]}"#),
            &["excludes a link bandwidth"],
        );
        check(&with(r#"{"localPreference":4294967296}"#), &["must be from 0 to 4294967295"]);
        check(&with(r#"{"prepend":33}"#), &["must be from 0 to 32"]);
        check(r#"{"from":[{"loadBalancers":{}}],"aggregate":{"ipv4":33}}"#, &["spec.aggregate.ipv4"]);
    }

    #[test]
    fn aggregates() {
        let cases = [
            (r#"{}"#, "203.0.113.7/32", "2001:db8::7/128"),
            (r#"{"ipv4":24}"#, "203.0.113.0/24", "2001:db8::7/128"),
            (r#"{"ipv6":64}"#, "203.0.113.7/32", "2001:db8::/64"),
            (r#"{"ipv4":31,"ipv6":127}"#, "203.0.113.6/31", "2001:db8::6/127"),
            (r#"{"ipv4":1,"ipv6":1}"#, "128.0.0.0/1", "::/1"),
        ];
        for (aggregate, ipv4, ipv6) in cases {
            let raw = format!(r#"{{"from":[{{"loadBalancers":{{}}}}],"aggregate":{aggregate}}}"#);
            let raw = kinds::Advertisement::new("adv", serde_json::from_str(&raw).unwrap());
            let advertisement = Advertisement::check(&raw).unwrap();
            let prefix_of = |address: &str| advertisement.prefix_of(address.parse().unwrap()).to_string();
            assert_eq!((&*prefix_of("203.0.113.7"), &*prefix_of("2001:db8::7")), (ipv4, ipv6), "{aggregate}");
        }
        // A default route is nothing that addresses of Services roll up to.
        check(
            r#"{"from":[{"loadBalancers":{}}],"aggregate":{"ipv4":0,"ipv6":129}}"#,
            &["spec.aggregate.ipv4", "spec.aggregate.ipv6"],
        );
    }
}
