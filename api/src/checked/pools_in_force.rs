//! Which pools may hand addresses out: no address is in two of them, be they for Services or for pods.
//!
//! Of two that overlap the older is in force. That is a function of the objects alone, so that the controller and every speaker come
//! to the same answer, before and after a restart.
//!
//! An older pool may have grown onto a younger one, from which pods have addresses that stand in their nodes' journals alone. So what
//! the two have in common is handed out by neither, for as long as the status of the younger says that it may be in use.

use std::collections::BTreeMap;
use std::fmt;

use rangemap::RangeInclusiveMap;

use super::{AddressRange, AddressSet, Network, ObjectRef, PodPool, Pool};

/// How many ranges a message lists.
const LISTED: usize = 3;

/// What became of each pool, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InForce {
    /// Pools for pods.
    pub pod_pools: BTreeMap<String, Result<(), Overlap>>,
    /// Pools for Services.
    pub address_pools: BTreeMap<String, Result<(), Overlap>>,
    /// Addresses of pools in force that pods may have from a younger pool, which is not.
    pub contested: AddressSet,
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
        let (pool, with, ranges) = (&self.pool, &self.with, ranges.join(", "));
        if with.kind == NETWORK {
            write!(f, "{pool} overlaps what the cluster itself uses, as {with} says, in {ranges}{more}")
        } else {
            write!(f, "{pool} overlaps {with}, which is older, in {ranges}{more}")
        }
    }
}

/// The kind that says what the cluster itself uses.
const NETWORK: &str = "ClusterNetwork";

/// Decides which of all pools are in force. The cluster's own ranges are nobody's to hand out, however old a pool is: those of its
/// Services no pod's at all, and those of its nodes no block's, which would lead away what is for the nodes.
pub fn pools_in_force<'a>(
    pod_pools: impl IntoIterator<Item = &'a PodPool>,
    address_pools: impl IntoIterator<Item = &'a Pool>,
    network: Option<&Network>,
) -> InForce {
    let set = |cidrs: &[ipnet::IpNet]| cidrs.iter().copied().map(AddressRange::from).collect::<AddressSet>();
    let of_services = network.map(|network| set(&network.service_cidrs)).unwrap_or_default();
    let of_nodes = network.map(|network| set(&network.fabric_cidrs)).unwrap_or_default();
    let pods = pod_pools.into_iter().map(|pool| Candidate {
        created: &pool.created,
        object: ObjectRef::cluster("PodPool", &pool.name),
        usable: pool.usable(),
        pods: Some(pool),
    });
    let services = address_pools.into_iter().map(|pool| Candidate {
        created: &pool.created,
        object: ObjectRef::cluster("AddressPool", &pool.name),
        usable: pool.usable(),
        pods: None,
    });
    let mut by_age: Vec<Candidate<'_>> = pods.chain(services).collect();
    by_age.sort_by(|one, other| one.age().cmp(&other.age()));
    let mut in_force = InForce::default();
    let mut territory = Territory::default();
    for (index, candidate) in by_age.iter().enumerate() {
        let overlap = |with: ObjectRef, ranges| Overlap { pool: candidate.object.clone(), with, ranges };
        let with_cluster = candidate.pods.and_then(|pool| {
            let mut used = of_services.common(&candidate.usable);
            if pool.block_length.is_some() {
                used.extend(of_nodes.common(&candidate.usable).ranges());
            }
            let ranges: Vec<_> = used.ranges().collect();
            (!ranges.is_empty()).then(|| overlap(ObjectRef::cluster(NETWORK, Network::NAME), ranges))
        });
        let common = territory.common(&candidate.usable);
        if candidate.pods.is_some_and(|pool| pool.is_in_use) {
            in_force.contested.extend(common.iter().map(|(_, range)| *range));
        }
        let with_older = common.first().map(|(other, _)| {
            let ranges = common.iter().filter(|(place, _)| place == other).map(|(_, range)| *range);
            overlap(by_age[*other].object.clone(), ranges.collect())
        });
        let verdict = with_cluster.or(with_older).map_or(Ok(()), Err);
        if verdict.is_ok() {
            territory.take(&candidate.usable, index);
        }
        let verdicts = if candidate.pods.is_some() { &mut in_force.pod_pools } else { &mut in_force.address_pools };
        verdicts.insert(candidate.object.name.clone(), verdict);
    }
    in_force
}

/// A pool that is to be judged.
struct Candidate<'a> {
    created: &'a str,
    object: ObjectRef,
    usable: AddressSet,
    /// A pool for pods itself.
    pods: Option<&'a PodPool>,
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

    /// What is taken of these addresses, lowest first, with the place of the pool that has it.
    fn common(&self, usable: &AddressSet) -> Vec<(usize, AddressRange)> {
        let mut common = Vec::new();
        for range in usable.ranges() {
            let (first, last) = range.bounds();
            let family = if range.is_ipv4() { &self.ipv4 } else { &self.ipv6 };
            let address = if range.is_ipv4() { AddressRange::ipv4 } else { AddressRange::ipv6 };
            for (taken, place) in family.overlapping(first..=last) {
                let (first, last) = (first.max(*taken.start()), last.min(*taken.end()));
                // Two ranges that overlap have their later start before their earlier end.
                common.extend(AddressRange::new(address(first), address(last)).map(|range| (*place, range)));
            }
        }
        common
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
        let judge = |pods: Vec<&PodPool>, services: Vec<&Pool>| pools_in_force(pods, services, None);
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
    fn what_pods_may_have_from_a_younger_pool_is_contested() {
        let old = pods("old", OLD, r#"{"subnet":"10.1.0.0/24","ranges":["10.1.0.10-10.1.0.20"]}"#);
        let young = |status: &str| {
            let spec = r#"{"subnet":"10.1.0.0/24","ranges":["10.1.0.19-10.1.0.30"]}"#;
            let raw =
                format!(r#"{{"metadata":{{"name":"young","creationTimestamp":"{YOUNG}"}},"spec":{spec}{status}}}"#);
            PodPool::check(&serde_json::from_str::<kinds::PodPool>(&raw).unwrap()).unwrap()
        };
        let contested = |young: &PodPool| {
            let in_force = pools_in_force([&old, young], [], None);
            assert!(in_force.has_pod_pool("old") && !in_force.has_pod_pool("young"));
            in_force.contested.ranges().map(|range| range.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(contested(&young("")), "", "made by mistake: it stands in nobody's way");
        assert_eq!(contested(&young(r#","status":{"allocated":"0"}"#)), "");
        assert_eq!(contested(&young(r#","status":{"allocated":"1"}"#)), "10.1.0.19-10.1.0.20");
        assert_eq!(contested(&young(r#","status":{"total":"12","allocated":"0"}"#)), "10.1.0.19-10.1.0.20");
    }

    #[test]
    fn what_the_cluster_itself_uses_is_no_pods() {
        let raw =
            r#"{"metadata":{"name":"default"},"spec":{"serviceCIDRs":["10.96.0.0/16"],"fabricCIDRs":["10.2.0.0/16"]}}"#;
        let network = Network::check(&serde_json::from_str::<kinds::ClusterNetwork>(raw).unwrap()).unwrap();
        let overlap = |spec: &str| {
            let pool = pods("p", OLD, spec);
            let verdict = pools_in_force([&pool], [], Some(&network)).pod_pools.remove("p");
            verdict.and_then(Result::err).map(|overlap| overlap.to_string()).unwrap_or_default()
        };
        assert_eq!(
            overlap(r#"{"subnet":"10.96.0.0/12","ranges":["10.96.255.0-10.97.0.9"]}"#),
            "PodPool p overlaps what the cluster itself uses, as ClusterNetwork default says, in 10.96.255.0-10.96.255.255"
        );
        assert_eq!(overlap(r#"{"subnet":"10.2.0.0/20"}"#), "", "pods may be on the nodes' own subnet");
        let blocks = overlap(r#"{"subnet":"10.2.0.0/20","blockPrefixLength":26}"#);
        assert!(blocks.contains("overlaps what the cluster itself uses"), "{blocks}");
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
