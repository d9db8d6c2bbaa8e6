//! Which addresses of one pool and family are free, and which is next.
//!
//! Free addresses are kept as ranges, so that the next one is the start of the first range: O(log n) whatever is in use, and an
//! IPv6 /64 costs one range. Used addresses are not kept here at all; whose they are is the ledger's business.
//!
//! What a pool lists first is handed out first, each range from its lowest address. So free ranges are kept for each listed range
//! apart; an address that two of them have counts for the one that is listed first.
//!
//! Addresses ending in .0 and .255, where the pool avoids them, are no exception that a search would have to step over: none is
//! ever the start or the end of a free range. Both ends are trimmed whenever one comes to be, which is at most two addresses each
//! time. Inside a range they stay until their neighbour is taken, so that avoiding them costs a pool nothing until it fills.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rangemap::{RangeInclusiveMap, RangeInclusiveSet};

/// Addresses as numbers: those of one family, so that arithmetic is plain.
pub type Number = u128;

/// Free addresses of one pool and family.
#[derive(Clone, Debug)]
pub struct Allocator {
    /// Everything that may ever be handed out, and the avoided addresses in between; and the place in the pool's list that it is from.
    territory: RangeInclusiveMap<Number, usize>,
    avoid: Avoid,
    /// What is free of each listed range; none that is used up.
    free: BTreeMap<usize, RangeInclusiveSet<Number>>,
    total: Number,
    taken: Number,
}

/// Which addresses inside the territory are never handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Avoid {
    /// None.
    Nothing,
    /// Those whose last octet is 0 or 255, which some old clients take for network and broadcast addresses.
    BuggyIpv4,
}

impl Avoid {
    fn takes(self, address: Number) -> bool {
        self == Self::BuggyIpv4 && matches!(address & 0xff, 0 | 0xff)
    }

    /// How many of `0..=last` are avoided.
    fn count_to(self, last: Number) -> Number {
        match self {
            Self::Nothing => 0,
            Self::BuggyIpv4 => (last >> 8) * 2 + 1 + Number::from(last & 0xff == 0xff),
        }
    }

    fn count(self, range: &RangeInclusive<Number>) -> Number {
        let below = range.start().checked_sub(1).map_or(0, |last| self.count_to(last));
        self.count_to(*range.end()).saturating_sub(below)
    }
}

impl Allocator {
    /// All of `addresses` but `exclude` is free, and handed out in the order of `addresses`.
    pub fn new(
        addresses: impl IntoIterator<Item = RangeInclusive<Number>>,
        exclude: impl IntoIterator<Item = RangeInclusive<Number>>,
        avoid: Avoid,
    ) -> Self {
        let mut territory = RangeInclusiveMap::new();
        let listed: Vec<RangeInclusive<Number>> = addresses.into_iter().collect();
        // The last one first: where two overlap, the one that is listed first is entered later and wins.
        for (place, range) in listed.into_iter().enumerate().rev() {
            territory.insert(range, place);
        }
        for range in exclude {
            territory.remove(range);
        }
        let mut free: BTreeMap<usize, RangeInclusiveSet<Number>> = BTreeMap::new();
        let mut total: Number = 0;
        for (range, place) in territory.iter() {
            // The whole of IPv6 is one more than fits; nobody will miss that address.
            let size = (range.end() - range.start()).saturating_add(1);
            total = total.saturating_add(size.saturating_sub(avoid.count(range)));
            if let Some(trimmed) = trim(range.clone(), avoid) {
                free.entry(*place).or_default().insert(trimmed);
            }
        }
        Self { territory, avoid, free, total, taken: 0 }
    }

    /// Whether the address is one that may be handed out, free or not.
    pub fn contains(&self, address: Number) -> bool {
        self.territory.contains_key(&address) && !self.avoid.takes(address)
    }

    /// The lowest free address of the first listed range that has one.
    pub fn next_free(&self) -> Option<Number> {
        let (_, free) = self.free.first_key_value()?;
        free.first().map(|range| *range.start())
    }

    /// Whether the address may be handed out now.
    pub fn is_free(&self, address: Number) -> bool {
        !self.avoid.takes(address) && self.free_around(address).is_some()
    }

    /// Takes a free address; false: it was not free.
    pub fn take(&mut self, address: Number) -> bool {
        if self.avoid.takes(address) {
            return false;
        }
        let Some((place, range)) = self.free_around(address) else { return false };
        let Some(free) = self.free.get_mut(&place) else { return false };
        self.taken += 1;
        free.remove(range.clone());
        let below = address.checked_sub(1).filter(|end| end >= range.start()).map(|end| *range.start()..=end);
        let above = address.checked_add(1).filter(|start| start <= range.end()).map(|start| start..=*range.end());
        for rest in [below, above].into_iter().flatten() {
            if let Some(trimmed) = trim(rest, self.avoid) {
                free.insert(trimmed);
            }
        }
        if free.is_empty() {
            self.free.remove(&place);
        }
        true
    }

    /// Gives an address back; false: it is not of this pool, or was free.
    pub fn release(&mut self, address: Number) -> bool {
        let Some(place) = self.territory.get(&address).copied() else { return false };
        if self.avoid.takes(address) || self.free_around(address).is_some() {
            return false;
        }
        self.free.entry(place).or_default().insert(address..=address);
        self.taken -= 1;
        true
    }

    /// The free range that an address is in, and its place in the pool's list.
    fn free_around(&self, address: Number) -> Option<(usize, RangeInclusive<Number>)> {
        let place = *self.territory.get(&address)?;
        Some((place, self.free.get(&place)?.get(&address)?.clone()))
    }

    /// How many addresses may be handed out in all; saturates for the whole of IPv6.
    pub fn total(&self) -> Number {
        self.total
    }

    /// How many may be handed out now.
    pub fn available(&self) -> Number {
        self.total.saturating_sub(self.taken)
    }

    /// The ranges that addresses are handed out from, lowest first.
    pub fn territory(&self) -> impl Iterator<Item = &RangeInclusive<Number>> {
        self.territory.iter().map(|(range, _)| range)
    }
}

/// The range without avoided addresses at its ends; they come in pairs (.255, .0), so each end loses at most two.
fn trim(range: RangeInclusive<Number>, avoid: Avoid) -> Option<RangeInclusive<Number>> {
    let (mut first, mut last) = range.into_inner();
    while avoid.takes(first) {
        first = first.checked_add(1).filter(|first| *first <= last)?;
    }
    while avoid.takes(last) {
        last = last.checked_sub(1).filter(|last| *last >= first)?;
    }
    Some(first..=last)
}

#[cfg(test)]
mod tests;
