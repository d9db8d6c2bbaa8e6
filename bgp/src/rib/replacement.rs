//! Which prefixes of one change stand in for each other: an announced one around or inside a withdrawn one.
//!
//! Prefixes sort such that what lies inside another follows it, before anything that does not. So one walk with a stack of
//! the prefixes around the current one finds every pair, and the stack is never deeper than an address has bits.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

/// What is to become of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Announced,
    Withdrawn,
}

/// Every prefix that lies around or inside one of the other side.
pub(super) fn exchanged(sides: &BTreeMap<IpNet, Side>) -> BTreeSet<IpNet> {
    let mut exchanged = BTreeSet::new();
    let mut around: Vec<(IpNet, Side)> = Vec::new();
    for (&prefix, &side) in sides {
        while around.last().is_some_and(|(outer, _)| !outer.contains(&prefix)) {
            around.pop();
        }
        for (outer, _) in around.iter().filter(|(_, other)| *other != side) {
            exchanged.extend([*outer, prefix]);
        }
        around.push((prefix, side));
    }
    exchanged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(changes: &str, expected: &str) {
        let sides = changes.split_whitespace().map(|word| {
            let side = if word.starts_with('+') { Side::Announced } else { Side::Withdrawn };
            (word[1..].parse().unwrap(), side)
        });
        let found: Vec<String> = exchanged(&sides.collect()).iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), expected, "{changes}");
    }

    #[test]
    fn prefixes_around_and_inside_each_other_are_found() {
        check("", "");
        check("+10.0.0.0/24 -10.0.0.1/32", "10.0.0.0/24 10.0.0.1/32");
        check("-10.0.0.0/24 +10.0.0.1/32", "10.0.0.0/24 10.0.0.1/32");
        check("+10.0.0.0/24 +10.0.0.1/32", "");
        check("+10.0.0.0/24 -10.0.1.1/32", "");
        check("+10.0.0.0/24 -10.0.0.0/25 -10.0.0.1/32 -10.0.1.0/32", "10.0.0.0/24 10.0.0.0/25 10.0.0.1/32");
        // Over one that is on the same side, and back out of it.
        check("-10.0.0.0/8 -10.0.0.0/24 +10.0.0.1/32 +10.9.0.0/16", "10.0.0.0/8 10.0.0.0/24 10.0.0.1/32 10.9.0.0/16");
        check("+::/0 -10.0.0.0/8", "");
        check("+::/0 -2001:db8::/32", "::/0 2001:db8::/32");
    }
}
