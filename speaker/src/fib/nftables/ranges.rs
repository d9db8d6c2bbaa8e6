//! Prefixes as ranges that neither overlap nor touch, as a set of intervals takes them.

use std::collections::BTreeSet;

use ipnet::IpNet;

/// Addresses as numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) first: u128,
    pub(super) last: u128,
}

/// Those of IPv4, and those of IPv6, in order.
pub(super) fn ranges(prefixes: &BTreeSet<IpNet>) -> (Vec<Range>, Vec<Range>) {
    let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
    for prefix in prefixes {
        match prefix {
            IpNet::V4(net) => push(&mut ipv4, net.network().to_bits().into(), net.broadcast().to_bits().into()),
            IpNet::V6(net) => push(&mut ipv6, net.network().to_bits(), net.broadcast().to_bits()),
        }
    }
    (ipv4, ipv6)
}

/// Prefixes come in the order of their first addresses.
fn push(ranges: &mut Vec<Range>, first: u128, last: u128) {
    match ranges.last_mut() {
        Some(before) if first <= before.last.saturating_add(1) => before.last = before.last.max(last),
        _ => ranges.push(Range { first, last }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(prefixes: &[&str], expected: &[(u128, u128)]) {
        let prefixes = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        let (ipv4, ipv6) = ranges(&prefixes);
        let found: Vec<(u128, u128)> = ipv4.iter().chain(&ipv6).map(|range| (range.first, range.last)).collect();
        assert_eq!(found, expected, "{prefixes:?}");
    }

    #[test]
    fn neither_overlap_nor_touch() {
        check(&[], &[]);
        check(&["0.0.1.0/24"], &[(0x100, 0x1ff)]);
        check(&["0.0.1.0/24", "0.0.1.128/25"], &[(0x100, 0x1ff)]);
        check(&["0.0.1.0/24", "0.0.2.0/23"], &[(0x100, 0x3ff)]);
        check(&["0.0.1.0/24", "0.0.3.0/24"], &[(0x100, 0x1ff), (0x300, 0x3ff)]);
        check(&["255.255.255.0/24", "::/0"], &[(0xffff_ff00, 0xffff_ffff), (0, u128::MAX)]);
        check(&["::/0", "ffff::/16"], &[(0, u128::MAX)]);
    }
}
