//! What two clusters both hold.

use std::fmt;

use ipnet::IpNet;

use super::{Holder, Territory};
use crate::checked::AddressRange;

/// How many holders a collision names on each side; the rest is counted.
const NAMED: usize = 8;

/// Addresses that both sides hold, with the holders on each. What lies in a collision is told with it: where two clusters declare one
/// range, that their nodes' podCIDRs in it collide too goes without saying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// The addresses.
    pub range: AddressRange,
    /// Who holds all of them in the first territory.
    pub one: Side,
    /// Who holds all of them in the second.
    pub other: Side,
}

/// Those who hold a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The holder of the longest prefix first, with the prefix that it holds; not empty.
    pub holders: Vec<(IpNet, Holder)>,
    /// How many more there are.
    pub more: usize,
}

impl Side {
    fn new(territory: &Territory, range: IpNet) -> Self {
        let mut all = territory.covering(range);
        let holders = all.by_ref().take(NAMED).map(|held| (held.prefix, held.holder.clone())).collect();
        Self { holders, more: all.count() }
    }

    fn is_of_the_same(&self, other: &Self) -> bool {
        let names = |side: &Self| side.holders.first().map(|(_, holder)| holder.clone());
        names(self) == names(other)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((prefix, holder)) = self.holders.first() else { return Ok(()) };
        write!(f, "{prefix}, {holder}")?;
        match self.holders.len() - 1 + self.more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Everything that two territories have in common, lowest first; what the same holders have side by side is told as one.
pub fn collisions(one: &Territory, other: &Territory) -> Vec<Collision> {
    let mut found: Vec<Collision> = Vec::new();
    for range in common(one, other) {
        let collision = Collision { range: range.into(), one: Side::new(one, range), other: Side::new(other, range) };
        match found.last_mut() {
            Some(last) if last.goes_on_with(&collision) => {
                // Both are of one family and in order, so the range is one.
                last.range = AddressRange::new(last.range.first(), collision.range.last()).unwrap_or(last.range);
            }
            _ => found.push(collision),
        }
    }
    found
}

impl Collision {
    fn goes_on_with(&self, next: &Self) -> bool {
        let (last, first) = (self.range.bounds().1, next.range.bounds().0);
        self.range.is_ipv4() == next.range.is_ipv4()
            && last.checked_add(1) == Some(first)
            && self.one.is_of_the_same(&next.one)
            && self.other.is_of_the_same(&next.other)
    }
}

/// The largest prefixes that both hold, lowest first.
fn common(one: &Territory, other: &Territory) -> Vec<IpNet> {
    let mut common = Vec::new();
    let mut root: Option<IpNet> = None;
    for held in one.iter() {
        // A prefix comes before what lies in it.
        if root.is_some_and(|root| root.contains(&held.prefix)) {
            continue;
        }
        root = Some(held.prefix);
        if other.covering(held.prefix).next().is_some() {
            common.push(held.prefix);
            continue;
        }
        for inside in other.overlaps(held.prefix) {
            if common.last().is_none_or(|last| !last.contains(&inside.prefix)) {
                common.push(inside.prefix);
            }
        }
    }
    common
}
