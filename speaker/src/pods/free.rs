//! Which addresses of one family are taken, and the next that is not.

use std::net::IpAddr;

use rangemap::RangeInclusiveSet;
use roadstead_api::checked::AddressRange;

/// Taken addresses of both families, as intervals: a search costs as much in an IPv6 /64 as in an IPv4 /28.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    ipv4: RangeInclusiveSet<u128>,
    ipv6: RangeInclusiveSet<u128>,
}

impl Taken {
    pub(super) fn insert(&mut self, address: IpAddr) {
        let number = AddressRange::number(address);
        self.family_mut(address.is_ipv4()).insert(number..=number);
    }

    pub(super) fn remove(&mut self, address: IpAddr) {
        let number = AddressRange::number(address);
        self.family_mut(address.is_ipv4()).remove(number..=number);
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.family(address.is_ipv4()).contains(&AddressRange::number(address))
    }

    /// The first address that is not taken, of sorted ranges of one family, from `start` on and then from the beginning: an address
    /// that was given back comes up again as late as possible.
    pub(super) fn next_free(&self, ranges: &[AddressRange], start: u128) -> Option<IpAddr> {
        let is_ipv4 = ranges.first()?.is_ipv4();
        let bounds = || ranges.iter().map(AddressRange::bounds);
        let from_start = bounds().filter(|(_, last)| *last >= start).map(|(first, last)| (first.max(start), last));
        let before = bounds().filter(|(first, _)| *first < start).map(|(first, last)| (first, last.min(start - 1)));
        let taken = self.family(is_ipv4);
        let free = from_start
            .chain(before)
            .find_map(|(first, last)| taken.gaps(&(first..=last)).next().map(|gap| *gap.start()))?;
        Some(if is_ipv4 { AddressRange::ipv4(free) } else { AddressRange::ipv6(free) })
    }

    fn family(&self, is_ipv4: bool) -> &RangeInclusiveSet<u128> {
        if is_ipv4 { &self.ipv4 } else { &self.ipv6 }
    }

    fn family_mut(&mut self, is_ipv4: bool) -> &mut RangeInclusiveSet<u128> {
        if is_ipv4 { &mut self.ipv4 } else { &mut self.ipv6 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(ranges: &[&str], taken: &[&str], start: &str) -> String {
        let ranges: Vec<AddressRange> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        let mut all = Taken::default();
        taken.iter().for_each(|address| all.insert(address.parse().unwrap()));
        let start = AddressRange::number(start.parse().unwrap());
        all.next_free(&ranges, start).map_or_else(|| "none".to_owned(), |address| address.to_string())
    }

    #[test]
    fn the_next_free_address_goes_round() {
        let ranges = ["192.0.2.2-192.0.2.3", "192.0.2.9"];
        assert_eq!(next(&ranges, &[], "0.0.0.0"), "192.0.2.2");
        assert_eq!(next(&ranges, &[], "192.0.2.3"), "192.0.2.3");
        assert_eq!(next(&ranges, &["192.0.2.3"], "192.0.2.3"), "192.0.2.9");
        assert_eq!(next(&ranges, &["192.0.2.9"], "192.0.2.4"), "192.0.2.2");
        assert_eq!(next(&ranges, &["192.0.2.2", "192.0.2.9"], "192.0.2.9"), "192.0.2.3");
        assert_eq!(next(&ranges, &["192.0.2.2", "192.0.2.3", "192.0.2.9"], "0.0.0.0"), "none");
        assert_eq!(next(&[], &[], "0.0.0.0"), "none");
        assert_eq!(next(&["2001:db8::/64"], &["2001:db8::", "2001:db8::1"], "::"), "2001:db8::2");
        assert_eq!(next(&["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], &["::"], "::"), "::1");
    }

    #[test]
    fn what_is_given_back_is_free() {
        let address = "192.0.2.2".parse().unwrap();
        let mut taken = Taken::default();
        taken.insert(address);
        assert!(taken.contains(address));
        taken.remove(address);
        assert!(!taken.contains(address));
    }
}
