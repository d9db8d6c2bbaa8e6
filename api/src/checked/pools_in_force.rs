//! Which pools may hand addresses out: no address is in two of them, be they for Services or for pods.
//!
//! Of two that overlap the older is in force. That is a function of the objects alone, so that the controller and every speaker come
//! to the same answer, before and after a restart.

use std::collections::BTreeMap;
use std::fmt;

use super::{AddressRange, AddressSet, ObjectRef, PodPool, Pool};

/// How many ranges a message lists.
const LISTED: usize = 3;

/// What became of each pool, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// Pools for pods.
    pub pod_pools: BTreeMap<String, Result<(), Overlap>>,
    /// Pools for Services.
    pub address_pools: BTreeMap<String, Result<(), Overlap>>,
}

impl InForce {
    /// Whether a pool for pods may hand addresses out.
    pub fn has_pod_pool(&self, name: &str) -> bool {
        matches!(self.pod_pools.get(name), Some(Ok(())))
    }
}

/// Why a pool is not in force beside another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Overlap {
    /// The pool.
    pub pool: ObjectRef,
    /// The older pool.
    pub with: ObjectRef,
    /// What they have in common; not empty.
    pub ranges: Vec<AddressRange>,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges: Vec<String> = self.ranges.iter().take(LISTED).map(AddressRange::to_string).collect();
        let more = if self.ranges.len() > LISTED { ", …" } else { "" };
        write!(f, "{} overlaps {}, which is older, in {}{more}", self.pool, self.with, ranges.join(", "))
    }
}

/// Decides which of all pools are in force.
pub fn pools_in_force<'a>(
    pod_pools: impl IntoIterator<Item = &'a PodPool>,
    address_pools: impl IntoIterator<Item = &'a Pool>,
) -> InForce {
    let pods = pod_pools.into_iter().map(|pool| {
        let object = ObjectRef::cluster("PodPool", &pool.name);
        (&pool.created, &pool.name, object, pool.usable())
    });
    let services = address_pools.into_iter().map(|pool| {
        let object = ObjectRef::cluster("AddressPool", &pool.name);
        (&pool.created, &pool.name, object, pool.usable())
    });
    let mut by_age: Vec<_> = pods.chain(services).collect();
    by_age.sort_by(|(created, name, object, _), (other_created, other_name, other, _)| {
        (created, name, object).cmp(&(other_created, other_name, other))
    });
    let mut standing: Vec<(ObjectRef, AddressSet)> = Vec::new();
    let mut in_force = InForce::default();
    for (_, name, pool, usable) in by_age {
        let overlap = standing.iter().find_map(|(with, other)| {
            let ranges: Vec<AddressRange> = usable.common(other).ranges().collect();
            (!ranges.is_empty()).then(|| Overlap { pool: pool.clone(), with: with.clone(), ranges })
        });
        let of_kind = if pool.kind == "PodPool" { &mut in_force.pod_pools } else { &mut in_force.address_pools };
        of_kind.insert(name.clone(), overlap.map_or(Ok(()), Err));
        if of_kind.get(name) == Some(&Ok(())) {
            standing.push((pool, usable));
        }
    }
    in_force
}
