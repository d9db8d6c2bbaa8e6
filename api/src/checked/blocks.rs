//! The blocks that a pool is made of.

use ipnet::IpNet;

use super::AddressRange;

/// Blocks of one length, numbered from the lowest: those that lie in the pool's ranges as a whole. A block is announced as one route, so
/// whatever else lies in it would be led astray.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    length: u8,
    is_ipv4: bool,
    /// The first block of each stretch, as a number of blocks from zero, and how many there are.
    stretches: Vec<(u128, u128)>,
}

impl Blocks {
    /// The blocks of this length in disjoint ranges of one family, lowest first.
    pub(super) fn new(length: u8, ranges: impl IntoIterator<Item = AddressRange>) -> Self {
        let mut blocks = Self { length, is_ipv4: true, stretches: Vec::new() };
        for range in ranges {
            blocks.is_ipv4 = range.is_ipv4();
            let Some(shift) = blocks.shift() else { continue };
            let (first, last) = range.bounds();
            // Numbers of addresses that begin and end a block; the last of all addresses ends one too.
            let begin = (first >> shift) + u128::from(first != first >> shift << shift);
            let is_end = last == u128::MAX || (last + 1) & ((1 << shift) - 1) == 0;
            let end = (last >> shift) + u128::from(is_end);
            if end > begin {
                blocks.stretches.push((begin, end - begin));
            }
        }
        blocks
    }

    /// How many there are.
    pub fn count(&self) -> u128 {
        self.stretches.iter().map(|(_, count)| count).sum()
    }

    /// The block of this number.
    pub fn nth(&self, mut number: u128) -> Option<IpNet> {
        for (begin, count) in &self.stretches {
            if number < *count {
                let first = (begin + number) << self.shift()?;
                let address = if self.is_ipv4 { AddressRange::ipv4(first) } else { AddressRange::ipv6(first) };
                return IpNet::new(address, self.length).ok();
            }
            number -= count;
        }
        None
    }

    /// Whether a prefix is one of them.
    pub fn contains(&self, net: IpNet) -> bool {
        let is_alike = net.prefix_len() == self.length && net.network().is_ipv4() == self.is_ipv4;
        let Some(shift) = self.shift().filter(|_| is_alike) else { return false };
        let number = AddressRange::number(net.network()) >> shift;
        self.stretches.iter().any(|(begin, count)| (*begin..begin + count).contains(&number))
    }

    /// How many bits of an address tell its place in its block.
    fn shift(&self) -> Option<u8> {
        (if self.is_ipv4 { 32_u8 } else { 128 }).checked_sub(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(length: u8, ranges: &[&str], expected: &[&str]) {
        let blocks = Blocks::new(length, ranges.iter().map(|range| range.parse().unwrap()));
        let found: Vec<String> = (0..blocks.count()).map(|n| blocks.nth(n).unwrap().to_string()).collect();
        assert_eq!(found, expected, "{ranges:?}");
        assert_eq!(blocks.nth(blocks.count()), None);
        assert!(expected.iter().all(|net| blocks.contains(net.parse().unwrap())));
    }

    #[test]
    fn blocks_lie_in_the_ranges_as_a_whole() {
        check(30, &["10.1.0.0/29"], &["10.1.0.0/30", "10.1.0.4/30"]);
        check(30, &["10.1.0.1-10.1.0.11", "10.1.0.14-10.1.0.20"], &["10.1.0.4/30", "10.1.0.8/30", "10.1.0.16/30"]);
        check(26, &["10.1.0.1-10.1.0.62"], &[]);
        check(32, &["10.1.0.7"], &["10.1.0.7/32"]);
        check(31, &["255.255.255.252-255.255.255.255"], &["255.255.255.252/31", "255.255.255.254/31"]);
        check(1, &["128.0.0.0/1"], &["128.0.0.0/1"]);
        check(128, &["2001:db8::1-2001:db8::2"], &["2001:db8::1/128", "2001:db8::2/128"]);
        check(2, &["8000::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], &["8000::/2", "c000::/2"]);
    }

    #[test]
    fn there_may_be_more_than_anybody_counts() {
        let blocks = Blocks::new(64, ["2001:db8::/32".parse().unwrap()]);
        assert_eq!(blocks.count(), 1 << 32);
        assert_eq!(blocks.nth(0x1_0002).unwrap().to_string(), "2001:db8:1:2::/64");
        assert!(!blocks.contains("2001:db8:1:2::/65".parse().unwrap()));
        assert!(!blocks.contains("2001:db9::/64".parse().unwrap()));
        assert!(!blocks.contains("10.0.0.0/64".parse::<IpNet>().unwrap_or_default()));
    }
}
