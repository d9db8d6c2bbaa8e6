//! Which ranges are held, and by whom.

use std::iter;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use prefix_trie::joint::map::JointPrefixMap;

use super::Holder;
use crate::checked::AddressRange;

/// Prefixes of both families with their holders.
///
/// A prefix may have several holders, and a holder may hold a prefix several times (a subnet that ten Nodes are on, an address that
/// two objects name): it is held until everything that was put in was taken out again. Prefixes may lie in each other; nothing is
/// merged, so that a message can name the holder that fits best.
#[derive(Clone, Debug)]
pub struct Territory<H = Holder> {
    held: JointPrefixMap<IpNet, Vec<(H, u32)>>,
}

/// A prefix, and one who holds it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held<'a, H = Holder> {
    /// The prefix as it was put in.
    pub prefix: IpNet,
    /// Whose it is.
    pub holder: &'a H,
}

// Not derived: a reference is copied whatever it leads to.
impl<H> Clone for Held<'_, H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for Held<'_, H> {}

impl<H> Default for Territory<H> {
    fn default() -> Self {
        Self { held: JointPrefixMap::new() }
    }
}

impl<H: Ord> Territory<H> {
    /// Puts a prefix in; host bits count for nothing.
    pub fn insert(&mut self, prefix: IpNet, holder: H) {
        let holders = self.held.entry(prefix.trunc()).or_default();
        // Sorted, so that what is told first does not depend on what came first.
        match holders.binary_search_by(|(known, _)| known.cmp(&holder)) {
            Ok(index) => holders[index].1 += 1,
            Err(index) => holders.insert(index, (holder, 1)),
        }
    }

    /// Takes a prefix out once. False: this holder does not hold it.
    pub fn remove(&mut self, prefix: IpNet, holder: &H) -> bool {
        let prefix = prefix.trunc();
        let Some(holders) = self.held.get_mut(&prefix) else { return false };
        let Ok(index) = holders.binary_search_by(|(known, _)| known.cmp(holder)) else { return false };
        holders[index].1 -= 1;
        if holders[index].1 == 0 {
            holders.remove(index);
        }
        if holders.is_empty() {
            self.held.remove(&prefix);
        }
        true
    }

    /// Puts a range in, as the fewest prefixes that make it up.
    pub fn insert_range(&mut self, range: AddressRange, holder: &H)
    where
        H: Clone,
    {
        prefixes(range).for_each(|prefix| self.insert(prefix, holder.clone()));
    }

    /// Takes a range out that was put in as the same.
    pub fn remove_range(&mut self, range: AddressRange, holder: &H) {
        prefixes(range).for_each(|prefix| {
            self.remove(prefix, holder);
        });
    }
}

impl<H> Territory<H> {
    /// How many different prefixes are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Everything: IPv4 before IPv6, lowest first, a prefix before what lies in it.
    pub fn iter(&self) -> impl Iterator<Item = Held<'_, H>> {
        self.held.iter().flat_map(each)
    }

    /// What has addresses in common with a prefix: what it lies in, the longest first, then what lies in it, the lowest first.
    pub fn overlaps(&self, prefix: IpNet) -> impl Iterator<Item = Held<'_, H>> {
        let prefix = prefix.trunc();
        let inside = self.held.children(&prefix).filter(move |(found, _)| *found != prefix).flat_map(each);
        self.covering(prefix).chain(inside)
    }

    /// Who holds what a prefix lies in, the prefix itself included: the longest first.
    pub fn covering(&self, prefix: IpNet) -> impl Iterator<Item = Held<'_, H>> {
        let mut next = self.held.get_lpm(&prefix.trunc());
        iter::from_fn(move || {
            let found = next?;
            next = found.0.supernet().and_then(|above| self.held.get_lpm(&above));
            Some(found)
        })
        .flat_map(each)
    }

    /// The first of [`Territory::overlaps`], in a time that does not depend on how many there are.
    pub fn first_overlap(&self, prefix: IpNet) -> Option<Held<'_, H>> {
        let prefix = prefix.trunc();
        let found = self.held.get_lpm(&prefix).or_else(|| self.held.children(&prefix).next());
        found.into_iter().flat_map(each).next()
    }
}

impl<H: Ord> Extend<(IpNet, H)> for Territory<H> {
    fn extend<T: IntoIterator<Item = (IpNet, H)>>(&mut self, held: T) {
        held.into_iter().for_each(|(prefix, holder)| self.insert(prefix, holder));
    }
}

impl<H: Ord> FromIterator<(IpNet, H)> for Territory<H> {
    fn from_iter<T: IntoIterator<Item = (IpNet, H)>>(held: T) -> Self {
        let mut territory = Self::default();
        territory.extend(held);
        territory
    }
}

fn each<H>((prefix, holders): (IpNet, &Vec<(H, u32)>)) -> impl Iterator<Item = Held<'_, H>> {
    holders.iter().map(move |(holder, _)| Held { prefix, holder })
}

/// The fewest prefixes that make up a range, lowest first.
pub fn prefixes(range: AddressRange) -> impl Iterator<Item = IpNet> {
    let subnets = match (range.first(), range.last()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (Some(Ipv4Subnets::new(first, last, 0)), None),
        (IpAddr::V6(first), IpAddr::V6(last)) => (None, Some(Ipv6Subnets::new(first, last, 0))),
        // Both ends of a range are of one family.
        _ => (None, None),
    };
    let (ipv4, ipv6) = subnets;
    ipv4.into_iter().flatten().map(IpNet::V4).chain(ipv6.into_iter().flatten().map(IpNet::V6))
}
