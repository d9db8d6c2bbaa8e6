//! Which pools may hand addresses out: no address is in two of them, be they for Services or for pods.
//!
//! Of two that overlap the older is in force. That is a function of the objects alone, so that the controller and every speaker come
//! to the same answer, before and after a restart.

use std::collections::BTreeMap;
use std::fmt;

use rangemap::RangeInclusiveMap;

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
    /// The older pool; where it overlaps several, that with the lowest address in common.
    pub with: ObjectRef,
    /// What they have in common, lowest first; not empty.
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
    let pods = pod_pools.into_iter().map(|pool| Candidate {
        created: &pool.created,
        object: ObjectRef::cluster("PodPool", &pool.name),
        usable: pool.usable(),
    });
    let services = address_pools.into_iter().map(|pool| Candidate {
        created: &pool.created,
        object: ObjectRef::cluster("AddressPool", &pool.name),
        usable: pool.usable(),
    });
    let mut by_age: Vec<Candidate<'_>> = pods.chain(services).collect();
    by_age.sort_by(|one, other| one.age().cmp(&other.age()));
    let mut in_force = InForce::default();
    let mut territory = Territory::default();
    for (index, candidate) in by_age.iter().enumerate() {
        let overlap = territory.common(&candidate.usable).map(|(other, ranges)| Overlap {
            pool: candidate.object.clone(),
            with: by_age[other].object.clone(),
            ranges,
        });
        if overlap.is_none() {
            territory.take(&candidate.usable, index);
        }
        let verdict = overlap.map_or(Ok(()), Err);
        let is_for_pods = candidate.object.kind == "PodPool";
        let verdicts = if is_for_pods { &mut in_force.pod_pools } else { &mut in_force.address_pools };
        verdicts.insert(candidate.object.name.clone(), verdict);
    }
    in_force
}

/// A pool that is to be judged.
struct Candidate<'a> {
    created: &'a str,
    object: ObjectRef,
    usable: AddressSet,
}

impl Candidate<'_> {
    /// What pools are ordered by. The API has no finer time than seconds, so names decide between those of one.
    fn age(&self) -> (&str, &str, &str) {
        (self.created, &self.object.name, self.object.kind)
    }
}

/// The addresses of all pools that are in force so far, each with the place of its pool.
#[derive(Default)]
struct Territory {
    ipv4: RangeInclusiveMap<u128, usize>,
    ipv6: RangeInclusiveMap<u128, usize>,
}

impl Territory {
    fn take(&mut self, usable: &AddressSet, place: usize) {
        for range in usable.ranges() {
            let (first, last) = range.bounds();
            let family = if range.is_ipv4() { &mut self.ipv4 } else { &mut self.ipv6 };
            family.insert(first..=last, place);
        }
    }

    /// The first pool that has an address of these, and all that it has of them.
    fn common(&self, usable: &AddressSet) -> Option<(usize, Vec<AddressRange>)> {
        let mut with = None;
        let mut common = Vec::new();
        for range in usable.ranges() {
            let (first, last) = range.bounds();
            let family = if range.is_ipv4() { &self.ipv4 } else { &self.ipv6 };
            let address = if range.is_ipv4() { AddressRange::ipv4 } else { AddressRange::ipv6 };
            for (taken, place) in family.overlapping(first..=last) {
                if *with.get_or_insert(*place) == *place {
                    let (first, last) = (first.max(*taken.start()), last.min(*taken.end()));
                    // Two ranges that overlap have their later start before their earlier end.
                    common.extend(AddressRange::new(address(first), address(last)));
                }
            }
        }
        with.map(|with| (with, common))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    const OLD: &str = "2026-01-01T00:00:00Z";
    const YOUNG: &str = "2026-01-01T00:00:01Z";

    fn raw(name: &str, created: &str, spec: &str) -> String {
        format!(r#"{{"metadata":{{"name":"{name}","creationTimestamp":"{created}"}},"spec":{spec}}}"#)
    }

    fn pods(name: &str, created: &str, spec: &str) -> PodPool {
        let raw: kinds::PodPool = serde_json::from_str(&raw(name, created, spec)).unwrap();
        PodPool::check(&raw).unwrap()
    }

    fn services(name: &str, created: &str, spec: &str) -> Pool {
        let raw: kinds::AddressPool = serde_json::from_str(&raw(name, created, spec)).unwrap();
        Pool::check(&raw).unwrap()
    }

    /// What keeps pools from being in force, in words.
    #[track_caller]
    fn check(what: &str, pod_pools: &[PodPool], address_pools: &[Pool], expected: &[&str]) {
        let judge = |pods: Vec<&PodPool>, services: Vec<&Pool>| pools_in_force(pods, services);
        let in_force = judge(pod_pools.iter().collect(), address_pools.iter().collect());
        let verdicts = in_force.pod_pools.values().chain(in_force.address_pools.values());
        let overlaps: Vec<String> =
            verdicts.filter_map(|verdict| verdict.as_ref().err().map(ToString::to_string)).collect();
        assert_eq!(overlaps, expected, "{what}");
        let reversed = judge(pod_pools.iter().rev().collect(), address_pools.iter().rev().collect());
        assert_eq!(reversed, in_force, "{what}: the order in which they were told must not matter");
    }

    #[test]
    fn of_two_that_overlap_the_older_is_in_force() {
        let subnet = |ranges: &str| format!(r#"{{"subnet":"10.1.0.0/24","ranges":["{ranges}"],"gateway":"10.1.0.1"}}"#);
        let old = pods("z", OLD, &subnet("10.1.0.10-10.1.0.20"));
        let young = pods("a", YOUNG, &subnet("10.1.0.20-10.1.0.30"));
        check(
            "pods",
            &[young.clone(), old.clone()],
            &[],
            &["PodPool a overlaps PodPool z, which is older, in 10.1.0.20"],
        );
        let beside = pods("a", YOUNG, &subnet("10.1.0.21-10.1.0.30"));
        check("one subnet, other ranges", &[old.clone(), beside], &[], &[]);
        let excluding = r#"{"subnet":"10.1.0.0/24","ranges":["10.1.0.20-10.1.0.30"],"exclude":["10.1.0.20"]}"#;
        check("excluded", &[old.clone(), pods("a", YOUNG, excluding)], &[], &[]);
        let service = services("s", OLD, r#"{"addresses":["10.1.0.1","10.1.0.30-10.1.0.40"]}"#);
        check(
            "an older AddressPool",
            std::slice::from_ref(&young),
            std::slice::from_ref(&service),
            &["PodPool a overlaps AddressPool s, which is older, in 10.1.0.30"],
        );
        let same_age = pods("t", OLD, &subnet("10.1.0.40"));
        check(
            "one age: by name",
            &[same_age],
            &[service],
            &["PodPool t overlaps AddressPool s, which is older, in 10.1.0.40"],
        );
        let service = services("s", YOUNG, r#"{"addresses":["10.0.0.0/8"]}"#);
        check(
            "a younger AddressPool",
            std::slice::from_ref(&old),
            &[service],
            &["AddressPool s overlaps PodPool z, which is older, in 10.1.0.10-10.1.0.20"],
        );
        let third = services("third", "2026-01-01T00:00:02Z", r#"{"addresses":["10.1.0.25"]}"#);
        check(
            "what is not in force stands in nobody's way",
            &[old, young],
            &[third],
            &["PodPool a overlaps PodPool z, which is older, in 10.1.0.20"],
        );
    }

    #[test]
    fn ranges_of_all_nodes_count() {
        let old = pods(
            "old",
            OLD,
            r#"{"subnet":"10.1.0.0/24","nodeRanges":[{"nodes":["a"],"ranges":["10.1.0.8"]},{"nodes":["b"],"ranges":["10.1.0.10"]}]}"#,
        );
        let young = pods("young", YOUNG, r#"{"subnet":"10.1.0.0/24","nodeNames":["c"]}"#);
        check(
            "per node",
            &[old, young],
            &[],
            &["PodPool young overlaps PodPool old, which is older, in 10.1.0.8, 10.1.0.10"],
        );
    }

    #[test]
    fn a_message_is_short() {
        let old = services("old", OLD, r#"{"addresses":["10.1.0.2","10.1.0.4","10.1.0.6","10.1.0.8"]}"#);
        let young = pods("young", YOUNG, r#"{"subnet":"10.1.0.0/24"}"#);
        let expected = "PodPool young overlaps AddressPool old, which is older, in 10.1.0.2, 10.1.0.4, 10.1.0.6, …";
        check("many", &[young], &[old], &[expected]);
    }
}
