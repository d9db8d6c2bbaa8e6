//! Sets of addresses, whatever their size: ranges and no single addresses.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use rangemap::RangeInclusiveSet;

use super::AddressRange;

/// Addresses of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressSet {
    ipv4: RangeInclusiveSet<u128>,
    ipv6: RangeInclusiveSet<u128>,
}

impl AddressSet {
    /// Puts addresses in.
    pub fn insert(&mut self, range: AddressRange) {
        self.family_mut(range).insert(numbers(range));
    }

    /// Takes addresses out; such as are not in it do no harm.
    pub fn remove(&mut self, range: AddressRange) {
        self.family_mut(range).remove(numbers(range));
    }

    /// Whether the address is in the set.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.family(address.is_ipv4()).contains(&AddressRange::number(address))
    }

    /// Whether any of these addresses is in the set.
    pub fn overlaps(&self, range: AddressRange) -> bool {
        self.family(range.is_ipv4()).overlaps(&numbers(range))
    }

    /// The lowest of these addresses that is in the set; costs no more in a set of many addresses than in one of few.
    pub fn first_in(&self, range: AddressRange) -> Option<IpAddr> {
        let wanted = numbers(range);
        let found = self.family(range.is_ipv4()).overlapping(&wanted).next()?;
        let first = *found.start().max(wanted.start());
        Some(if range.is_ipv4() { AddressRange::ipv4(first) } else { AddressRange::ipv6(first) })
    }

    /// How many of these addresses are in the set.
    pub fn count_in(&self, range: AddressRange) -> u128 {
        let wanted = numbers(range);
        let found = self.family(range.is_ipv4()).overlapping(&wanted);
        let sizes =
            found.map(|found| (found.end().min(wanted.end()) - found.start().max(wanted.start())).saturating_add(1));
        sizes.fold(0, u128::saturating_add)
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.ipv4.is_empty() && self.ipv6.is_empty()
    }

    /// How many addresses there are; saturates for the whole of IPv6.
    pub fn count(&self) -> u128 {
        let sizes =
            self.ipv4.iter().chain(self.ipv6.iter()).map(|range| (range.end() - range.start()).saturating_add(1));
        sizes.fold(0, u128::saturating_add)
    }

    /// The addresses as ranges that neither overlap nor touch each other: IPv4 first, then lowest first.
    pub fn ranges(&self) -> impl Iterator<Item = AddressRange> {
        let ipv4 = self.ipv4.iter().map(|range| (range, AddressRange::ipv4 as fn(u128) -> IpAddr));
        let ipv6 = self.ipv6.iter().map(|range| (range, AddressRange::ipv6 as fn(u128) -> IpAddr));
        // Both ends are of one family and in order, so none is refused.
        ipv4.chain(ipv6)
            .filter_map(|(range, address)| AddressRange::new(address(*range.start()), address(*range.end())).ok())
    }

    /// What is in both sets.
    pub fn common(&self, other: &Self) -> Self {
        let family = |one: &RangeInclusiveSet<u128>, other| one.intersection(other).collect();
        Self { ipv4: family(&self.ipv4, &other.ipv4), ipv6: family(&self.ipv6, &other.ipv6) }
    }

    fn family(&self, is_ipv4: bool) -> &RangeInclusiveSet<u128> {
        if is_ipv4 { &self.ipv4 } else { &self.ipv6 }
    }

    fn family_mut(&mut self, range: AddressRange) -> &mut RangeInclusiveSet<u128> {
        if range.is_ipv4() { &mut self.ipv4 } else { &mut self.ipv6 }
    }
}

impl FromIterator<AddressRange> for AddressSet {
    fn from_iter<T: IntoIterator<Item = AddressRange>>(ranges: T) -> Self {
        let mut set = Self::default();
        set.extend(ranges);
        set
    }
}

impl Extend<AddressRange> for AddressSet {
    fn extend<T: IntoIterator<Item = AddressRange>>(&mut self, ranges: T) {
        for range in ranges {
            self.family_mut(range).insert(numbers(range));
        }
    }
}

fn numbers(range: AddressRange) -> RangeInclusive<u128> {
    let (first, last) = range.bounds();
    first..=last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &str) -> AddressSet {
        ranges.split_whitespace().map(|range| range.parse::<AddressRange>().unwrap()).collect()
    }

    fn text(set: &AddressSet) -> String {
        set.ranges().map(|range| range.to_string()).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check(what: &str, given: &str, without: &str, expected: &str, count: u128) {
        let mut given = set(given);
        for range in set(without).ranges() {
            given.remove(range);
        }
        assert_eq!((text(&given).as_str(), given.count()), (expected, count), "{what}");
    }

    #[test]
    fn ranges_merge_and_split() {
        check("overlapping", "192.0.2.1-192.0.2.5 192.0.2.4-192.0.2.9", "", "192.0.2.1-192.0.2.9", 9);
        check("side by side", "192.0.2.0/31 192.0.2.2", "", "192.0.2.0-192.0.2.2", 3);
        check("out of order", "192.0.2.9 192.0.2.1", "", "192.0.2.1 192.0.2.9", 2);
        check("a hole", "192.0.2.0/29", "192.0.2.3", "192.0.2.0-192.0.2.2 192.0.2.4-192.0.2.7", 7);
        check("all of it", "192.0.2.0/29", "192.0.0.0/16", "", 0);
        check("another family", "192.0.2.0/30 ::/126", "0.0.0.0/0", "::-::3", 4);
        check(
            "huge",
            "2001:db8::/32",
            "2001:db8::",
            "2001:db8::1-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            (1 << 96) - 1,
        );
        check(
            "the ends",
            "0.0.0.0/0 ::/0",
            "",
            "0.0.0.0-255.255.255.255 ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            u128::MAX,
        );
    }

    #[test]
    fn what_is_in_a_range() {
        let all = set("192.0.2.2-192.0.2.3 192.0.2.9 2001:db8::/64");
        let look = |range: &str| {
            let range = range.parse().unwrap();
            let first = all.first_in(range).map(|address| address.to_string()).unwrap_or_default();
            assert_eq!(all.overlaps(range), !first.is_empty());
            (first, all.count_in(range))
        };
        assert_eq!(look("192.0.2.0/24"), ("192.0.2.2".to_owned(), 3));
        assert_eq!(look("192.0.2.3-192.0.2.8"), ("192.0.2.3".to_owned(), 1));
        assert_eq!(look("192.0.2.4-192.0.2.9"), ("192.0.2.9".to_owned(), 1));
        assert_eq!(look("192.0.2.4-192.0.2.8"), (String::new(), 0));
        assert_eq!(look("2001:db8::7-2001:db8::8"), ("2001:db8::7".to_owned(), 2));
        assert_eq!(look("::/0"), ("2001:db8::".to_owned(), 1 << 64));
    }

    #[test]
    fn what_two_sets_have_in_common() {
        let common = |one: &str, other: &str| text(&set(one).common(&set(other)));
        assert_eq!(
            common("192.0.2.0/28 ::/64", "192.0.2.4-192.0.2.40 192.0.2.2 ::5"),
            "192.0.2.2 192.0.2.4-192.0.2.15 ::5"
        );
        assert_eq!(common("192.0.2.0/28", "192.0.2.16/28 ::/0"), "");
    }
}
