//! Ranges that nobody holds, to be had instead of one that two do.

use std::collections::{BTreeMap, HashMap};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::Territory;
use crate::checked::AddressRange;

/// Private address space: RFC 1918.
const PRIVATE_IPV4: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12),
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// Unique local addresses: the half of RFC 4193 that sites number themselves.
const PRIVATE_IPV6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0), 8);

/// Finds ranges that none of several clusters uses. What was proposed once is not proposed again.
#[derive(Clone, Debug, Default)]
pub struct Vacancies {
    ipv4: Taken,
    ipv6: Taken,
    /// Where the last search in a block for a length ended, or that there is nothing left: what is taken never becomes free.
    cursors: HashMap<(IpNet, u8), Option<u128>>,
}

/// Disjoint stretches of numbers that do not touch: first to last.
type Taken = BTreeMap<u128, u128>;

impl Vacancies {
    /// Beside everything that these territories hold.
    pub fn beside<'a>(territories: impl IntoIterator<Item = &'a Territory>) -> Self {
        let mut vacancies = Self::default();
        for held in territories.into_iter().flat_map(|territory| territory.iter()) {
            vacancies.take(held.prefix);
        }
        vacancies
    }

    /// A free prefix in which as many addresses have room as in this range: in the same private block, above the range and what was
    /// proposed before if there is room, and else from the block's beginning; in another private block where that one is full. `None`
    /// where all are.
    ///
    /// The same territories and the same questions give the same answers.
    pub fn propose(&mut self, instead_of: AddressRange) -> Option<IpNet> {
        let (first, last) = instead_of.bounds();
        let bits = if instead_of.is_ipv4() { 32 } else { 128 };
        let length = bits - u8::try_from((last - first).checked_ilog2().map_or(0, |log| log + 1)).unwrap_or(bits);
        let blocks = blocks(instead_of).into_iter().filter(|block| block.prefix_len() <= length);
        let number = blocks.into_iter().find_map(|block| {
            let (begin, end) = AddressRange::from(block).bounds();
            let nearest = if (begin..=end).contains(&first) { first } else { begin };
            let from = self.cursors.get(&(block, length)).copied().unwrap_or(Some(nearest))?;
            let search = |from| self.search(instead_of.is_ipv4(), length, from, end);
            let found = search(from).or_else(|| search(begin));
            self.cursors.insert((block, length), found);
            found
        })?;
        let address = if instead_of.is_ipv4() { AddressRange::ipv4(number) } else { AddressRange::ipv6(number) };
        let proposal = IpNet::new(address, length).ok()?;
        self.take(proposal);
        Some(proposal)
    }

    fn take(&mut self, prefix: IpNet) {
        let taken = if prefix.network().is_ipv4() { &mut self.ipv4 } else { &mut self.ipv6 };
        let (mut first, mut last) = AddressRange::from(prefix).bounds();
        while let Some((&begin, &end)) = taken.range(..=last.saturating_add(1)).next_back() {
            if end.saturating_add(1) < first {
                break;
            }
            taken.remove(&begin);
            (first, last) = (first.min(begin), last.max(end));
        }
        taken.insert(first, last);
    }

    /// The first free prefix of a length that begins at `from` or later and ends at `end` at the latest.
    fn search(&self, is_ipv4: bool, length: u8, from: u128, end: u128) -> Option<u128> {
        let (taken, bits) = if is_ipv4 { (&self.ipv4, 32) } else { (&self.ipv6, 128) };
        let size = 1_u128.checked_shl(u32::from(bits - length)).unwrap_or(u128::MAX);
        let aligned = |number: u128| number.checked_next_multiple_of(size);
        let mut at = aligned(from)?;
        loop {
            let last = at.checked_add(size - 1).filter(|last| *last <= end)?;
            match taken.range(..=last).next_back().filter(|(_, taken_to)| **taken_to >= at) {
                None => return Some(at),
                Some((_, taken_to)) => at = aligned(taken_to.checked_add(1)?)?,
            }
        }
    }
}

/// Where to look, the best first.
fn blocks(instead_of: AddressRange) -> Vec<IpNet> {
    let holds = |block: &IpNet| {
        let block = AddressRange::from(*block);
        block.contains(instead_of.first()) && block.contains(instead_of.last())
    };
    let mut blocks: Vec<IpNet> = if instead_of.is_ipv4() {
        PRIVATE_IPV4.into_iter().map(IpNet::V4).collect()
    } else {
        // RFC 4193 section 3: a site is a /48, and stays one where there is room in it.
        let site = IpNet::new(instead_of.first(), 48).ok().map(|site| site.trunc());
        let site = site.filter(|site| IpNet::V6(PRIVATE_IPV6).contains(site) && holds(site));
        site.into_iter().chain([IpNet::V6(PRIVATE_IPV6)]).collect()
    };
    // Stable: the order of the rest stays.
    blocks.sort_by_key(|block| !holds(block));
    blocks
}
