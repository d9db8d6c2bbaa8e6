//! Ranges with a special purpose, as a written list: what no router has any business to announce, and what an operator may not
//! want to hear of.
//!
//! The rows are those of RFC 6890 and of the IANA registries that it set up, with multicast and the later ones beside them. A
//! *martian* can be no destination beyond one link or one machine, wherever it comes from. Private and documentation ranges can,
//! inside a network that uses them, so they pass unless an import policy says otherwise; laboratories live on them. Blocks of
//! which parts are given out to be routed (192.0.0.0/24, 2001::/23) are no row: their parts are what matters, and new ones come.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::policy::covers;

/// The purpose of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Purpose {
    /// Never a destination beyond one link or one machine.
    Martian,
    /// For use inside one network, not between them.
    Private,
    /// For examples and for test benches.
    Documentation,
}

impl Purpose {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Martian => "martian",
            Self::Private => "private",
            Self::Documentation => "documentation",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One row of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialRange {
    pub prefix: IpNet,
    pub purpose: Purpose,
    /// As the registry calls it.
    pub name: &'static str,
    pub source: &'static str,
}

impl SpecialRange {
    /// The whole list, in order. No two rows overlap.
    pub const ALL: [Self; 26] = {
        use Purpose::{Documentation, Martian, Private};
        [
            v4([0, 0, 0, 0], 8, Martian, "this network", "RFC 791 section 3.2"),
            v4([10, 0, 0, 0], 8, Private, "private use", "RFC 1918"),
            v4([100, 64, 0, 0], 10, Private, "shared address space", "RFC 6598"),
            v4([127, 0, 0, 0], 8, Martian, "loopback", "RFC 1122 section 3.2.1.3"),
            v4([169, 254, 0, 0], 16, Martian, "link local", "RFC 3927"),
            v4([172, 16, 0, 0], 12, Private, "private use", "RFC 1918"),
            v4([192, 0, 2, 0], 24, Documentation, "TEST-NET-1", "RFC 5737"),
            v4([192, 168, 0, 0], 16, Private, "private use", "RFC 1918"),
            v4([198, 18, 0, 0], 15, Documentation, "benchmarking", "RFC 2544"),
            v4([198, 51, 100, 0], 24, Documentation, "TEST-NET-2", "RFC 5737"),
            v4([203, 0, 113, 0], 24, Documentation, "TEST-NET-3", "RFC 5737"),
            v4([224, 0, 0, 0], 4, Martian, "multicast", "RFC 5771"),
            v4([240, 0, 0, 0], 4, Martian, "reserved, and limited broadcast", "RFC 1112 section 4, RFC 8190"),
            v6([0, 0, 0, 0, 0, 0, 0, 0], 128, Martian, "unspecified address", "RFC 4291"),
            v6([0, 0, 0, 0, 0, 0, 0, 1], 128, Martian, "loopback address", "RFC 4291"),
            v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, Martian, "IPv4-mapped addresses", "RFC 4291"),
            v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, Private, "IPv4-IPv6 translation", "RFC 8215"),
            v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, Private, "discard only", "RFC 6666"),
            v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, Documentation, "benchmarking", "RFC 5180"),
            v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, Martian, "ORCHID, deprecated", "RFC 4843"),
            v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Documentation, "documentation", "RFC 3849"),
            v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Documentation, "documentation", "RFC 9637"),
            v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, Private, "segment routing identifiers", "RFC 9602"),
            v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Private, "unique local", "RFC 4193"),
            v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, Martian, "link local", "RFC 4291"),
            v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Martian, "multicast", "RFC 4291"),
        ]
    };

    /// The row that a prefix lies in. A default route, or any other that is wider than a row, lies in none: it covers martians
    /// without being one.
    pub fn of(prefix: &IpNet) -> Option<&'static Self> {
        const ALL: &[SpecialRange] = &SpecialRange::ALL;
        // Asked of every prefix that any peer announces, and most begin like no row.
        let begins_like_a_row = match prefix {
            IpNet::V4(net) => FIRST_OCTETS_V4[usize::from(net.network().octets()[0])],
            IpNet::V6(net) => FIRST_OCTETS_V6[usize::from(net.network().octets()[0])],
        };
        if !begins_like_a_row {
            return None;
        }
        // The last that does not begin behind it is the only one that it can lie in.
        let behind = ALL.partition_point(|range| range.prefix <= *prefix);
        ALL[..behind].last().filter(|range| covers(&range.prefix, prefix))
    }
}

const FIRST_OCTETS_V4: [bool; 256] = first_octets(false);
const FIRST_OCTETS_V6: [bool; 256] = first_octets(true);

/// The first octets of all addresses in rows of one family.
const fn first_octets(v6: bool) -> [bool; 256] {
    let mut octets = [false; 256];
    let mut row = 0;
    while row < SpecialRange::ALL.len() {
        let (first, length) = match SpecialRange::ALL[row].prefix {
            IpNet::V4(net) if !v6 => (net.addr().octets()[0], net.prefix_len()),
            IpNet::V6(net) if v6 => (net.addr().octets()[0], net.prefix_len()),
            _ => {
                row += 1;
                continue;
            }
        };
        let many = if length < 8 { 1 << (8 - length) } else { 1 };
        let mut next = 0;
        while next < many {
            octets[first as usize + next] = true;
            next += 1;
        }
        row += 1;
    }
    octets
}

const fn v4(
    [a, b, c, d]: [u8; 4],
    length: u8,
    purpose: Purpose,
    name: &'static str,
    source: &'static str,
) -> SpecialRange {
    let prefix = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length));
    SpecialRange { prefix, purpose, name, source }
}

const fn v6(
    segments: [u16; 8],
    length: u8,
    purpose: Purpose,
    name: &'static str,
    source: &'static str,
) -> SpecialRange {
    let [a, b, c, d, e, f, g, h] = segments;
    let prefix = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length));
    SpecialRange { prefix, purpose, name, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_told_by_their_purpose() {
        let cases = [
            ("0.0.0.0/0", None),
            ("0.0.0.0/1", None),
            ("0.0.0.0/8", Some(Purpose::Martian)),
            ("1.0.0.0/8", None),
            ("10.0.0.0/8", Some(Purpose::Private)),
            ("10.1.0.0/16", Some(Purpose::Private)),
            ("100.64.0.0/10", Some(Purpose::Private)),
            ("100.128.0.0/10", None),
            ("127.0.0.1/32", Some(Purpose::Martian)),
            ("169.254.1.0/24", Some(Purpose::Martian)),
            ("172.32.0.0/12", None),
            ("192.0.0.9/32", None),
            ("192.0.2.0/24", Some(Purpose::Documentation)),
            ("198.18.0.0/15", Some(Purpose::Documentation)),
            ("224.0.0.5/32", Some(Purpose::Martian)),
            ("255.255.255.255/32", Some(Purpose::Martian)),
            ("::/0", None),
            ("::/128", Some(Purpose::Martian)),
            ("::1/128", Some(Purpose::Martian)),
            ("::2/128", None),
            ("::ffff:192.0.2.0/120", Some(Purpose::Martian)),
            ("2001:db8:1::/48", Some(Purpose::Documentation)),
            ("2001:20::/28", None),
            ("fd00::/8", Some(Purpose::Private)),
            ("fe80::/64", Some(Purpose::Martian)),
            ("ff02::1/128", Some(Purpose::Martian)),
        ];
        for (prefix, expected) in cases {
            let found = SpecialRange::of(&prefix.parse().unwrap());
            assert_eq!(found.map(|range| range.purpose), expected, "{prefix}");
        }
    }

    #[test]
    fn no_two_rows_overlap_and_each_is_documented() {
        assert!(SpecialRange::ALL.is_sorted_by_key(|range| range.prefix));
        let page = include_str!("../../docs/import.md");
        for (index, range) in SpecialRange::ALL.iter().enumerate() {
            for other in &SpecialRange::ALL[index + 1..] {
                assert!(
                    !range.prefix.contains(&other.prefix) && !other.prefix.contains(&range.prefix),
                    "{range:?} {other:?}"
                );
            }
            let row = format!("| {} | {} | {} | {} |", range.prefix, range.purpose, range.name, range.source);
            assert!(page.lines().any(|line| line == row), "docs/import.md has no row {row}");
        }
    }
}
