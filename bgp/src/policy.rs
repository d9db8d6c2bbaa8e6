//! Import policy: which of a peer's routes are kept, and the reason why the others are not.
//!
//! The default is to keep nothing (RFC 8212). A route that is refused is counted under its [`RefusalReason`] and, but for
//! the last hundred ([`Refusal`](crate::Refusal)), not stored, so a peer that sends a full table where ten prefixes were expected costs ten entries.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::attributes::PathAttributes;
use crate::martians::{Purpose, SpecialRange};
use crate::{Asn, MaxPrefixes};

/// What is accepted from a peer. The default accepts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct ImportPolicy {
    /// A prefix that matches any of these rules is accepted.
    pub accept: Vec<PrefixRule>,
    /// `None`: as many as the rules accept.
    pub max_prefixes: Option<MaxPrefixes>,
    /// Prefixes in ranges of these purposes are refused whatever the rules say; by default martians.
    pub refuse: BTreeSet<Purpose>,
    /// So many times our own AS number may stand in a path, for networks that are joined through somebody else's AS. By default
    /// never: the route has been here before (RFC 4271 section 9.1.2).
    pub allow_own_asn: u8,
}

impl Default for ImportPolicy {
    fn default() -> Self {
        Self { accept: Vec::new(), max_prefixes: None, refuse: BTreeSet::from([Purpose::Martian]), allow_own_asn: 0 }
    }
}

/// Prefixes within `prefix` whose length is from `ge` to `le`, as routers' prefix lists have it.
///
/// Without both the length is that of `prefix`; with `ge` alone it may go up to the family's full length; with `le`
/// alone it starts at the length of `prefix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct PrefixRule {
    pub prefix: IpNet,
    pub ge: Option<u8>,
    pub le: Option<u8>,
}

impl PrefixRule {
    /// The lengths that match, both ends included.
    pub fn lengths(&self) -> (u8, u8) {
        let own = self.prefix.prefix_len();
        match (self.ge, self.le) {
            (None, None) => (own, own),
            (Some(ge), None) => (ge, self.prefix.max_prefix_len()),
            (None, Some(le)) => (own, le),
            (Some(ge), Some(le)) => (ge, le),
        }
    }

    pub fn matches(&self, prefix: &IpNet) -> bool {
        let (shortest, longest) = self.lengths();
        (shortest..=longest).contains(&prefix.prefix_len()) && covers(&self.prefix, prefix)
    }
}

/// Whether `inner` is `outer` or lies within it. By bits, because it is asked of every route, and `IpNet::contains` makes first and
/// last addresses of both to compare them.
pub(crate) fn covers(outer: &IpNet, inner: &IpNet) -> bool {
    let length = outer.prefix_len();
    length <= inner.prefix_len()
        && match (outer, inner) {
            // Shifted by the whole width nothing is left, and nothing differs.
            (IpNet::V4(outer), IpNet::V4(inner)) => {
                let differing = outer.addr().to_bits() ^ inner.addr().to_bits();
                differing.checked_shr(32 - u32::from(length)).unwrap_or_default() == 0
            }
            (IpNet::V6(outer), IpNet::V6(inner)) => {
                let differing = outer.addr().to_bits() ^ inner.addr().to_bits();
                differing.checked_shr(128 - u32::from(length)).unwrap_or_default() == 0
            }
            (IpNet::V4(_), IpNet::V6(_)) | (IpNet::V6(_), IpNet::V4(_)) => false,
        }
}

impl fmt::Display for PrefixRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix.fmt(f)?;
        self.ge.map_or(Ok(()), |ge| write!(f, " ge {ge}"))?;
        self.le.map_or(Ok(()), |le| write!(f, " le {le}"))
    }
}

/// Why a route that a peer sent was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// No rule of the import policy accepts the prefix.
    NotAccepted,
    /// The prefix is one that no router may announce.
    Martian,
    /// The prefix is for use inside one network, and the policy refuses those.
    Private,
    /// The prefix is for examples and test benches, and the policy refuses those.
    Documentation,
    /// Our own AS number is in the path, more often than is allowed: the route has been here before (RFC 4271 section 9.1.2).
    OwnAsn,
    /// We have told it first, and a reflector sends it back (RFC 4456 section 8).
    OwnOriginator,
    /// It has come through our cluster already (RFC 4456 section 8).
    OwnCluster,
    /// The next hop is not an address that packets could be sent to (RFC 4271 section 6.3).
    InvalidNextHop,
    /// The next hop is our own address on this session (RFC 4271 section 6.3).
    NextHopIsOurs,
    /// It is marked to go down to customers only, and came from where it must not (RFC 9234 section 5).
    RouteLeak,
    /// There are as many accepted prefixes as are allowed, and those beyond are to be dropped ([`Excess::Drop`](crate::Excess)).
    BeyondMaxPrefixes,
    /// The family was not negotiated (RFC 4760 section 6).
    FamilyNotNegotiated,
    /// The UPDATE was malformed, and its routes count as withdrawn (RFC 7606 section 2).
    TreatedAsWithdrawn,
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAccepted => "not accepted by the import rules",
            Self::Martian => "martian prefix",
            Self::Private => "prefix for private use",
            Self::Documentation => "prefix for documentation or benchmarks",
            Self::OwnAsn => "own AS number in the path",
            Self::OwnOriginator => "own router ID as the originator",
            Self::OwnCluster => "own cluster ID in the cluster list",
            Self::InvalidNextHop => "invalid next hop",
            Self::NextHopIsOurs => "next hop is our own address",
            Self::RouteLeak => "route leak: marked for customers only",
            Self::BeyondMaxPrefixes => "beyond the maximum of prefixes",
            Self::FamilyNotNegotiated => "address family not negotiated",
            Self::TreatedAsWithdrawn => "malformed UPDATE, treated as withdrawn",
        })
    }
}

/// What the verdict over the routes of an UPDATE depends on, besides their prefixes and the policy.
pub(crate) struct Candidate<'a> {
    pub(crate) next_hop: IpAddr,
    pub(crate) attributes: &'a PathAttributes,
    pub(crate) local_asn: Asn,
    /// Our end of the session.
    pub(crate) local_address: IpAddr,
    /// Our BGP identifier.
    pub(crate) router_id: Ipv4Addr,
    /// Ours, if routes are reflected.
    pub(crate) cluster: Option<Ipv4Addr>,
}

impl ImportPolicy {
    /// Decides over a route, whatever its prefix. What is wrong with the route itself comes before what we merely do not want
    /// ([`judge_prefix`](Self::judge_prefix)).
    pub(crate) fn judge(&self, route: &Candidate<'_>) -> Result<(), RefusalReason> {
        let attributes = route.attributes;
        if attributes.as_path.count(route.local_asn) > usize::from(self.allow_own_asn) {
            return Err(RefusalReason::OwnAsn);
        }
        // RFC 4456 section 8.
        if attributes.originator_id == Some(route.router_id) {
            return Err(RefusalReason::OwnOriginator);
        }
        if route.cluster.is_some_and(|cluster| attributes.cluster_list.contains(&cluster)) {
            return Err(RefusalReason::OwnCluster);
        }
        if route.next_hop == route.local_address {
            return Err(RefusalReason::NextHopIsOurs);
        }
        // Two speakers on one machine talk over loopback, and there a loopback next hop is where packets can be sent.
        let loopback_is_fine = route.local_address.is_loopback();
        if !is_next_hop(route.next_hop, loopback_is_fine) {
            return Err(RefusalReason::InvalidNextHop);
        }
        Ok(())
    }

    /// Decides over one prefix of a route that is accepted as such.
    pub(crate) fn judge_prefix(&self, prefix: &IpNet) -> Result<(), RefusalReason> {
        if let Some(range) = SpecialRange::of(prefix).filter(|range| self.refuse.contains(&range.purpose)) {
            return Err(match range.purpose {
                Purpose::Martian => RefusalReason::Martian,
                Purpose::Private => RefusalReason::Private,
                Purpose::Documentation => RefusalReason::Documentation,
            });
        }
        if !self.accept.iter().any(|rule| rule.matches(prefix)) {
            return Err(RefusalReason::NotAccepted);
        }
        Ok(())
    }
}

fn is_next_hop(address: IpAddr, loopback_is_fine: bool) -> bool {
    let specific = match address {
        IpAddr::V4(v4) => v4.octets()[0] != 0 && v4.octets()[0] < 240,
        IpAddr::V6(v6) => !v6.is_unspecified() && v6.to_ipv4_mapped().is_none(),
    };
    specific && !address.is_multicast() && (loopback_is_fine || !address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AsPath;

    fn rule(text: &str, ge: Option<u8>, le: Option<u8>) -> PrefixRule {
        PrefixRule { prefix: text.parse().unwrap(), ge, le }
    }

    fn judge(
        policy: &ImportPolicy,
        prefix: &str,
        next_hop: &str,
        attributes: &PathAttributes,
    ) -> Result<(), RefusalReason> {
        let route = Candidate {
            next_hop: next_hop.parse().unwrap(),
            attributes,
            local_asn: Asn(64500),
            local_address: "10.0.0.1".parse().unwrap(),
            router_id: Ipv4Addr::new(10, 0, 0, 1),
            cluster: Some(Ipv4Addr::new(10, 0, 0, 9)),
        };
        policy.judge(&route).and_then(|()| policy.judge_prefix(&prefix.parse().unwrap()))
    }

    #[test]
    fn covering_is_what_ipnet_calls_containing() {
        let prefixes: Vec<IpNet> = [
            "0.0.0.0/0",
            "0.0.0.0/1",
            "128.0.0.0/1",
            "10.0.0.0/8",
            "10.0.0.0/9",
            "10.128.0.0/9",
            "10.0.0.0/32",
            "10.0.0.1/32",
            "255.255.255.255/32",
            "::/0",
            "::/1",
            "8000::/1",
            "2001:db8::/32",
            "2001:db8:8000::/33",
            "2001:db9::/32",
            "::1/128",
            "::/128",
            "::a00:0/104",
        ]
        .map(|text| text.parse().unwrap())
        .into();
        for outer in &prefixes {
            for inner in &prefixes {
                assert_eq!(covers(outer, inner), outer.contains(inner), "{outer} and {inner}");
            }
        }
    }

    #[test]
    fn prefix_rules_match_as_on_routers() {
        let cases = [
            ("10.0.0.0/8", None, None, "10.0.0.0/8", true),
            ("10.0.0.0/8", None, None, "10.1.0.0/16", false),
            ("10.0.0.0/8", None, Some(24), "10.0.0.0/8", true),
            ("10.0.0.0/8", None, Some(24), "10.1.2.0/24", true),
            ("10.0.0.0/8", None, Some(24), "10.1.2.0/25", false),
            ("10.0.0.0/8", Some(24), None, "10.1.2.3/32", true),
            ("10.0.0.0/8", Some(24), None, "10.1.0.0/16", false),
            ("10.0.0.0/8", Some(16), Some(24), "10.1.0.0/16", true),
            ("10.0.0.0/8", Some(16), Some(24), "11.1.0.0/16", false),
            ("0.0.0.0/0", None, Some(32), "192.0.2.1/32", true),
            ("0.0.0.0/0", None, Some(32), "2001:db8::/32", false),
            ("2001:db8::/32", None, Some(64), "2001:db8:1::/64", true),
        ];
        for (prefix, ge, le, given, expected) in cases {
            let rule = rule(prefix, ge, le);
            assert_eq!(rule.matches(&given.parse().unwrap()), expected, "{rule} against {given}");
        }
    }

    #[test]
    fn every_refusal_has_its_reason() {
        let policy = ImportPolicy {
            accept: vec![rule("0.0.0.0/0", None, Some(32)), rule("2001:db8::/32", None, Some(128))],
            ..ImportPolicy::default()
        };
        let cases = [
            ("accepted", "192.0.2.0/24", "10.0.0.2", &[65001, 65002][..], Ok(())),
            ("default route", "0.0.0.0/0", "10.0.0.2", &[65001], Ok(())),
            ("private", "10.0.0.0/8", "10.0.0.2", &[65001], Ok(())),
            ("no rule", "2001:db9::/32", "10.0.0.2", &[65001], Err(RefusalReason::NotAccepted)),
            ("loop", "192.0.2.0/24", "10.0.0.2", &[65001, 64500], Err(RefusalReason::OwnAsn)),
            ("loopback", "127.0.0.0/16", "10.0.0.2", &[65001], Err(RefusalReason::Martian)),
            ("link-local", "fe80::/64", "10.0.0.2", &[65001], Err(RefusalReason::Martian)),
            ("multicast", "224.0.0.5/32", "10.0.0.2", &[65001], Err(RefusalReason::Martian)),
            ("our address", "192.0.2.0/24", "10.0.0.1", &[65001], Err(RefusalReason::NextHopIsOurs)),
            ("zero next hop", "192.0.2.0/24", "0.0.0.0", &[65001], Err(RefusalReason::InvalidNextHop)),
            ("multicast next hop", "192.0.2.0/24", "224.0.0.1", &[65001], Err(RefusalReason::InvalidNextHop)),
            ("loopback next hop", "192.0.2.0/24", "127.0.0.2", &[65001], Err(RefusalReason::InvalidNextHop)),
        ];
        for (name, prefix, next_hop, path, expected) in cases {
            let as_path = AsPath(path.iter().copied().map(Asn).collect());
            let attributes = PathAttributes { as_path, ..PathAttributes::default() };
            assert_eq!(judge(&policy, prefix, next_hop, &attributes), expected, "{name}");
        }
    }

    #[test]
    fn a_reflected_route_does_not_come_round() {
        let policy = ImportPolicy { accept: vec![rule("0.0.0.0/0", None, Some(32))], ..ImportPolicy::default() };
        let (here, elsewhere) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let (cluster, other) = (Ipv4Addr::new(10, 0, 0, 9), Ipv4Addr::new(10, 0, 0, 8));
        let cases = [
            ("from elsewhere", Some(elsewhere), vec![other], Ok(())),
            ("from here", Some(here), vec![other], Err(RefusalReason::OwnOriginator)),
            ("through here", Some(elsewhere), vec![other, cluster], Err(RefusalReason::OwnCluster)),
        ];
        for (name, originator_id, cluster_list, expected) in cases {
            let attributes = PathAttributes { originator_id, cluster_list, ..PathAttributes::default() };
            assert_eq!(judge(&policy, "192.0.2.0/24", "10.0.0.2", &attributes), expected, "{name}");
        }
    }

    #[test]
    fn what_is_refused_by_default_and_what_is_not_can_be_told() {
        let everything = || vec![rule("0.0.0.0/0", None, Some(32)), rule("::/0", None, Some(128))];
        let policy = |purposes: &[Purpose], allow_own_asn| ImportPolicy {
            accept: everything(),
            refuse: purposes.iter().copied().collect(),
            allow_own_asn,
            ..ImportPolicy::default()
        };
        let all = [Purpose::Martian, Purpose::Private, Purpose::Documentation];
        let cases = [
            ("martians", policy(&[], 0), "127.0.0.0/8", &[65001][..], Ok(())),
            ("private", policy(&all, 0), "10.1.0.0/16", &[65001], Err(RefusalReason::Private)),
            ("documentation", policy(&all, 0), "192.0.2.0/24", &[65001], Err(RefusalReason::Documentation)),
            ("others", policy(&all, 0), "9.9.9.0/24", &[65001], Ok(())),
            ("ours once", policy(&[], 1), "9.9.9.0/24", &[65001, 64500], Ok(())),
            ("ours twice", policy(&[], 1), "9.9.9.0/24", &[64500, 64500], Err(RefusalReason::OwnAsn)),
        ];
        for (name, policy, prefix, path, expected) in cases {
            let as_path = AsPath(path.iter().copied().map(Asn).collect());
            let attributes = PathAttributes { as_path, ..PathAttributes::default() };
            assert_eq!(judge(&policy, prefix, "10.0.0.2", &attributes), expected, "{name}");
        }
    }

    #[test]
    fn the_default_policy_accepts_nothing() {
        let verdict = judge(&ImportPolicy::default(), "192.0.2.0/24", "10.0.0.2", &PathAttributes::default());
        assert_eq!(verdict, Err(RefusalReason::NotAccepted));
    }
}
