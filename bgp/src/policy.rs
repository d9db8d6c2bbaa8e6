//! Import policy: which of a peer's routes are kept, and the reason why the others are not.
//!
//! The default is to keep nothing (RFC 8212). A route that is refused is counted under its [`RefusalReason`] and, but for
//! the last hundred ([`Refusal`](crate::Refusal)), not stored, so a peer that sends a full table where ten prefixes were expected costs ten entries.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::attributes::AsPath;
use crate::{Asn, Family};

/// What is accepted from a peer. The default accepts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportPolicy {
    /// A prefix that matches any of these rules is accepted.
    pub accept: Vec<PrefixRule>,
    /// The session is closed with Cease 6/1 (RFC 4486) when the peer gets more than so many accepted prefixes across.
    pub max_prefixes: Option<u32>,
    pub martians: Martians,
}

/// What to do with prefixes that no router has any business to announce: "this network", loopback, link-local,
/// multicast, reserved. Private and documentation ranges are not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Martians {
    #[default]
    Refuse,
    Accept,
}

/// Prefixes within `prefix` whose length is from `ge` to `le`, as routers' prefix lists have it.
///
/// Without both the length is that of `prefix`; with `ge` alone it may go up to the family's full length; with `le`
/// alone it starts at the length of `prefix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
        (shortest..=longest).contains(&prefix.prefix_len()) && self.prefix.contains(prefix)
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
    /// Our own AS number is in the path: the route has been here before (RFC 4271 section 9.1.2).
    OwnAsn,
    /// The next hop is not an address that packets could be sent to (RFC 4271 section 6.3).
    InvalidNextHop,
    /// The next hop is our own address on this session (RFC 4271 section 6.3).
    NextHopIsOurs,
    /// It is marked to go down to customers only, and came from where it must not (RFC 9234 section 5).
    RouteLeak,
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
            Self::OwnAsn => "own AS number in the path",
            Self::InvalidNextHop => "invalid next hop",
            Self::NextHopIsOurs => "next hop is our own address",
            Self::RouteLeak => "route leak: marked for customers only",
            Self::FamilyNotNegotiated => "address family not negotiated",
            Self::TreatedAsWithdrawn => "malformed UPDATE, treated as withdrawn",
        })
    }
}

/// What the verdict over one route depends on, besides the policy.
pub(crate) struct Candidate<'a> {
    pub(crate) prefix: &'a IpNet,
    pub(crate) next_hop: IpAddr,
    pub(crate) as_path: &'a AsPath,
    pub(crate) local_asn: Asn,
    /// Our end of the session.
    pub(crate) local_address: IpAddr,
}

impl ImportPolicy {
    /// Decides over one route. The order is from what is wrong with the route itself to what we merely do not want.
    pub(crate) fn judge(&self, route: &Candidate<'_>) -> Result<(), RefusalReason> {
        if route.as_path.contains(route.local_asn) {
            return Err(RefusalReason::OwnAsn);
        }
        if route.next_hop == route.local_address {
            return Err(RefusalReason::NextHopIsOurs);
        }
        // Two speakers on one machine talk over loopback, and there a loopback next hop is where packets can be sent.
        let loopback_is_fine = route.local_address.is_loopback();
        if !is_next_hop(route.next_hop, loopback_is_fine) {
            return Err(RefusalReason::InvalidNextHop);
        }
        if self.martians == Martians::Refuse && is_martian(route.prefix) {
            return Err(RefusalReason::Martian);
        }
        if !self.accept.iter().any(|rule| rule.matches(route.prefix)) {
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

/// RFC 6890 and the IANA special-purpose registries: what is never a destination outside one link or one machine.
fn is_martian(prefix: &IpNet) -> bool {
    // A default route covers everything, martians included, without being one.
    if prefix.prefix_len() == 0 {
        return false;
    }
    MARTIANS_V4
        .iter()
        .map(|&(octets, length)| IpNet::V4(Ipv4Net::new_assert(octets.into(), length)))
        .chain(MARTIANS_V6.iter().map(|&(segments, length)| IpNet::V6(Ipv6Net::new_assert(segments.into(), length))))
        .any(|martian| Family::of(&martian) == Family::of(prefix) && martian.contains(prefix))
}

const MARTIANS_V4: [([u8; 4], u8); 5] =
    [([0, 0, 0, 0], 8), ([127, 0, 0, 0], 8), ([169, 254, 0, 0], 16), ([224, 0, 0, 0], 4), ([240, 0, 0, 0], 4)];

const MARTIANS_V6: [([u16; 8], u8); 5] = [
    ([0, 0, 0, 0, 0, 0, 0, 0], 128),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128),
    ([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str, ge: Option<u8>, le: Option<u8>) -> PrefixRule {
        PrefixRule { prefix: text.parse().unwrap(), ge, le }
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
            let verdict = policy.judge(&Candidate {
                prefix: &prefix.parse().unwrap(),
                next_hop: next_hop.parse().unwrap(),
                as_path: &AsPath(path.iter().copied().map(Asn).collect()),
                local_asn: Asn(64500),
                local_address: "10.0.0.1".parse().unwrap(),
            });
            assert_eq!(verdict, expected, "{name}");
        }
    }

    #[test]
    fn the_default_policy_accepts_nothing() {
        let verdict = ImportPolicy::default().judge(&Candidate {
            prefix: &"192.0.2.0/24".parse().unwrap(),
            next_hop: "10.0.0.2".parse().unwrap(),
            as_path: &AsPath::default(),
            local_asn: Asn(64500),
            local_address: "10.0.0.1".parse().unwrap(),
        });
        assert_eq!(verdict, Err(RefusalReason::NotAccepted));
    }
}
