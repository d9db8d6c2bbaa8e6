//! Pools for Services: which are in force, and what each has left.
//!
//! A pool that cannot be read any more stays in force as it last could be. Pools in force, those for pods among them, are disjoint
//! (`api::checked::pools_in_force`): an address is in one at most.

use std::collections::BTreeMap;
use std::net::IpAddr;

use roadstead_api::checked::{AddressRange, AddressSet, Invalid, Overlap, Pool};

use super::allocator::{Allocator, Avoid, Number};
use super::known::{Fault, Known};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Both, in the order in which addresses are written into a status.
    pub(super) const BOTH: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of an address.
    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// An address of this family.
    pub(super) fn address(self, number: Number) -> IpAddr {
        match self {
            Self::Ipv4 => AddressRange::ipv4(number),
            Self::Ipv6 => AddressRange::ipv6(number),
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Ipv4 { "IPv4" } else { "IPv6" })
    }
}

/// Every pool there is.
#[derive(Debug, Default)]
pub(super) struct Pools {
    known: BTreeMap<String, Known<Pool>>,
    in_force: BTreeMap<String, InForce>,
    /// Pools for Services that ask for none, best first.
    order: Vec<String>,
}

/// A pool that addresses are handed out from.
#[derive(Clone, Debug)]
pub(super) struct InForce {
    pub(super) pool: Pool,
    ipv4: Allocator,
    ipv6: Allocator,
}

impl InForce {
    fn new(pool: Pool) -> Self {
        let ranges = |ranges: &[AddressRange], family: Family| {
            let of_family = ranges.iter().filter(|range| range.is_ipv4() == (family == Family::Ipv4));
            let numbers = of_family.map(|range| {
                let (first, last) = range.bounds();
                first..=last
            });
            numbers.collect::<Vec<_>>()
        };
        let avoid = if pool.avoid_buggy_ips { Avoid::BuggyIpv4 } else { Avoid::Nothing };
        let allocator =
            |family, avoid| Allocator::new(ranges(&pool.addresses, family), ranges(&pool.exclude, family), avoid);
        let (ipv4, ipv6) = (allocator(Family::Ipv4, avoid), allocator(Family::Ipv6, Avoid::Nothing));
        Self { pool, ipv4, ipv6 }
    }

    pub(super) fn allocator(&self, family: Family) -> &Allocator {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    fn allocator_mut(&mut self, family: Family) -> &mut Allocator {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.allocator(Family::of(address)).contains(AddressRange::number(address))
    }

    pub(super) fn next_free(&self, family: Family) -> Option<IpAddr> {
        self.allocator(family).next_free().map(|number| family.address(number))
    }
}

impl Pools {
    /// Notes what the store has; true where that makes a difference to addresses.
    pub(super) fn apply(&mut self, name: &str, checked: Result<Pool, Vec<Invalid>>, generation: Option<i64>) -> bool {
        self.known.entry(name.to_owned()).or_default().apply(checked, generation, same_addresses)
    }

    /// Forgets a pool; true where it was known.
    pub(super) fn delete(&mut self, name: &str) -> bool {
        self.known.remove(name).is_some()
    }

    /// The pools as they last could be read.
    pub(super) fn good(&self) -> impl Iterator<Item = &Pool> {
        self.known.values().filter_map(|known| known.good.as_ref())
    }

    /// Goes by which pools are in force now; `taken` are all addresses that are not free, from `blocks` no single one is handed out.
    pub(super) fn recompute(
        &mut self,
        mut verdicts: BTreeMap<String, Result<(), Overlap>>,
        taken: &[IpAddr],
        blocks: &AddressSet,
    ) {
        self.in_force.clear();
        for (name, known) in &mut self.known {
            known.overlap = verdicts.remove(name).and_then(Result::err);
            if let (Some(good), None) = (&known.good, &known.overlap) {
                let mut pool = good.clone();
                pool.exclude.extend(blocks.common(&pool.usable()).ranges());
                self.in_force.insert(name.clone(), InForce::new(pool));
            }
        }
        for address in taken {
            self.take(*address);
        }
        let mut order: Vec<_> = self.in_force.iter().filter(|(_, candidate)| candidate.pool.auto_assign).collect();
        // Selective pools first; in each group by priority, none last; then by name, which is the map's order.
        order.sort_by_key(|(_, candidate)| {
            (!candidate.pool.is_selective(), candidate.pool.priority.is_none(), candidate.pool.priority)
        });
        self.order = order.into_iter().map(|(name, _)| name.clone()).collect();
    }

    /// Marks an address as taken in whatever pool has it.
    pub(super) fn take(&mut self, address: IpAddr) {
        if let Some(pool) = self.of_mut(address) {
            pool.allocator_mut(Family::of(address)).take(AddressRange::number(address));
        }
    }

    /// Marks an address as free in whatever pool has it, and names that pool.
    pub(super) fn release(&mut self, address: IpAddr) -> Option<String> {
        let pool = self.of_mut(address)?;
        pool.allocator_mut(Family::of(address)).release(AddressRange::number(address));
        Some(pool.pool.name.clone())
    }

    /// The pool in force that has this address.
    pub(super) fn of(&self, address: IpAddr) -> Option<&InForce> {
        self.in_force.values().find(|candidate| candidate.contains(address))
    }

    fn of_mut(&mut self, address: IpAddr) -> Option<&mut InForce> {
        self.in_force.values_mut().find(|candidate| candidate.contains(address))
    }

    /// A pool in force.
    pub(super) fn get(&self, name: &str) -> Option<&InForce> {
        self.in_force.get(name)
    }

    /// Every pool in force, by name.
    pub(super) fn in_force(&self) -> impl Iterator<Item = &InForce> {
        self.in_force.values()
    }

    /// Pools for Services that ask for none, best first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = &InForce> {
        self.order.iter().filter_map(|name| self.in_force.get(name))
    }

    /// The names of all pools, in force or not.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.known.keys()
    }

    /// What keeps a pool from being in force as it is written.
    pub(super) fn fault(&self, name: &str) -> Fault<'_> {
        self.known.get(name).map_or_else(Fault::default, Known::fault)
    }
}

/// Whether two versions of a pool are one as far as addresses depend on it.
fn same_addresses(old: &Pool, new: &Pool) -> bool {
    Pool { labels: new.labels.clone(), generation: new.generation, ..old.clone() } == *new
}
