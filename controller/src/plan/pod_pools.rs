//! Pools for pods, as far as the plan is concerned: which are in force beside those for Services, and what is said of them.
//!
//! The speakers hand their addresses out. Whose an address is stands in its claim, or, where a node needs none because no other may hand
//! it out, in that node's journal, of which its report has the count. So what is allocated is the claims of pods and the counts of
//! all reports together, and each address is in one of the two.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use roadstead_api::checked::{AddressSet, Invalid, Overlap, PodPool};
use roadstead_api::kinds::ConditionStatus::{False, True};

use super::choice::State;
use super::known::Known;
use super::ledger::is_service;
use super::message::{NodePods, Now, PodPoolReport};
use super::settle::whole_second;
use crate::verdict::{Ready, Verdict, findings, shorten};

/// How many addresses a message lists.
const LISTED: usize = 3;

/// How many left-out addresses a status lists.
const LISTED_IN_STATUS: usize = 1024;

/// What a condition's message may be long.
const MESSAGE_LIMIT: usize = 4096;

/// Every pool for pods.
#[derive(Debug, Default)]
pub(super) struct PodPools {
    known: BTreeMap<String, Known<PodPool>>,
    /// What each node says.
    reported: BTreeMap<String, NodePods>,
    /// What no pool in force hands out, because pods may have it from one that is not.
    contested: AddressSet,
}

impl PodPools {
    /// Notes what the store has; true where that makes a difference to addresses.
    pub(super) fn apply(
        &mut self,
        name: &str,
        checked: Result<PodPool, Vec<Invalid>>,
        generation: Option<i64>,
    ) -> bool {
        let same = |old: &PodPool, new: &PodPool| {
            PodPool {
                generation: new.generation,
                foreign: new.foreign.clone(),
                is_judged: new.is_judged,
                ..old.clone()
            } == *new
        };
        self.known.entry(name.to_owned()).or_default().apply(checked, generation, same)
    }

    /// Forgets a pool; true where it was known.
    pub(super) fn delete(&mut self, name: &str) -> bool {
        self.known.remove(name).is_some()
    }

    /// Notes what a node says; the answer is the pools of which that is something else than before.
    pub(super) fn report(&mut self, node: &str, pods: NodePods) -> BTreeSet<String> {
        let before = self.reported.remove(node).unwrap_or_default();
        let names = |pods: &NodePods| pods.allocated.keys().chain(pods.exhausted.keys()).cloned().collect::<Vec<_>>();
        let differs = |name: &String| {
            before.allocated.get(name) != pods.allocated.get(name)
                || before.exhausted.get(name) != pods.exhausted.get(name)
        };
        let changed = names(&before).into_iter().chain(names(&pods)).filter(differs).collect();
        if pods != NodePods::default() {
            self.reported.insert(node.to_owned(), pods);
        }
        changed
    }

    /// The pools as they last could be read.
    pub(super) fn good(&self) -> impl Iterator<Item = &PodPool> {
        self.known.values().filter_map(|known| known.good.as_ref())
    }

    /// Notes which are not in force, and what pods may have from these.
    pub(super) fn judge(&mut self, mut verdicts: BTreeMap<String, Result<(), Overlap>>, contested: AddressSet) {
        self.contested = contested;
        for (name, known) in &mut self.known {
            known.overlap = verdicts.remove(name).and_then(Result::err);
        }
    }

    /// Whether a pool that can be read is in force beside the others.
    pub(super) fn is_in_force(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|known| known.good.is_some() && known.overlap.is_none())
    }

    /// The names of all pools, in force or not.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.known.keys()
    }

    /// Whether a pool has this address.
    pub(super) fn has(&self, name: &str, address: IpAddr) -> bool {
        let good = self.known.get(name).and_then(|known| known.good.as_ref());
        good.is_some_and(|pool| pool.usable().contains(address))
    }

    /// How long a freed address of a pool rests; `None`: there is no pool of that name which ever could be read.
    pub(super) fn reuse_delay(&self, name: &str) -> Option<Duration> {
        Some(self.known.get(name)?.good.as_ref()?.reuse_delay)
    }
}

/// What there is to say of a pool.
pub(super) fn find(state: &State, name: &str, stored: Option<&PodPoolReport>, now: Now) -> PodPoolReport {
    let nothing = Known::default();
    let known = state.pod_pools.known.get(name).unwrap_or(&nothing);
    let fault = known.fault();
    let usable = known.good.as_ref().map(PodPool::usable).unwrap_or_default();
    let (claimed, stranded) = claims(state, name, &usable);
    let reported = &state.pod_pools.reported;
    let allocated = claimed + reported.values().filter_map(|pods| pods.allocated.get(name)).sum::<u64>();
    let exhausted: Vec<String> = reported
        .iter()
        .filter_map(|(node, pods)| Some(format!("on node {node}, {}", pods.exhausted.get(name)?)))
        .collect();
    let contested: Vec<String> =
        state.pod_pools.contested.common(&usable).ranges().map(|range| range.to_string()).collect();
    let mut left_out: Vec<(IpAddr, String)> = known.good.iter().flat_map(named).collect();
    // Whoever these belong to, they are in somebody's use.
    let reserved = state.reserved.iter().filter(|(address, _)| usable.contains(**address));
    let reserved: Vec<_> =
        reserved.filter_map(|(address, owners)| Some((*address, owners.first()?.to_string()))).collect();
    let total = usable.count().saturating_sub(reserved.len() as u128);
    left_out.extend(reserved);
    let found = Found {
        total,
        allocated,
        left_out: &left_out,
        stranded: &stranded,
        exhausted: &exhausted,
        contested: &contested,
    };
    let (status, reason, message) = if !fault.invalid.is_empty() {
        let is_in_force = known.good.is_some() && fault.overlap.is_none();
        let force = if is_in_force { "the last good version stays in force" } else { "not in force" };
        (False, "Invalid", format!("{force}: {}", findings(fault.invalid)))
    } else if let Some(overlap) = fault.overlap {
        (False, "Overlap", format!("not in force: {overlap}; take these addresses out of one of the two"))
    } else if known.good.as_ref().is_some_and(|pool| pool.disabled) {
        (
            False,
            "Disabled",
            "no address is handed out, because disabled is true; pods keep those that they have".to_owned(),
        )
    } else if total == 0 {
        let left_out = found.left_out().map(|left_out| format!(": {left_out}")).unwrap_or_default();
        (False, "NoAddresses", format!("no address may be handed out{left_out}"))
    } else {
        found.judge()
    };
    let message = shorten(message, MESSAGE_LIMIT);
    let verdict = Verdict { status, reason: reason.to_owned(), message, generation: fault.generation };
    left_out.truncate(LISTED_IN_STATUS);
    PodPoolReport {
        is_ipv4: known.good.as_ref().map(PodPool::is_ipv4),
        total: known.good.as_ref().filter(|_| fault.overlap.is_none()).map(|_| total),
        allocated: allocated.into(),
        left_out,
        ready: Ready::next(stored.map(|stored| &stored.ready), verdict, whole_second(now.wall)),
    }
}

/// How many claims pods have of a pool, and those of them whose address is not the pool's any more.
fn claims(state: &State, name: &str, usable: &AddressSet) -> (u64, Vec<String>) {
    let (mut count, mut stranded) = (0, Vec::new());
    for (address, held) in state.ledger.iter().filter(|(_, held)| held.pool == name) {
        let owners: Vec<String> =
            held.owners.values().filter(|owner| !is_service(owner)).map(ToString::to_string).collect();
        if owners.is_empty() {
            continue;
        }
        count += 1;
        if !usable.contains(address) {
            stranded.push(format!("{address} ({})", owners.join(", ")));
        }
    }
    (count, stranded)
}

/// What a pool leaves out of its own ranges, and why.
fn named(pool: &PodPool) -> impl Iterator<Item = (IpAddr, String)> {
    pool.left_out().into_iter().map(|(address, reason)| (address, reason.to_string()))
}

/// What was found of a pool in force.
struct Found<'a> {
    total: u128,
    allocated: u64,
    left_out: &'a [(IpAddr, String)],
    stranded: &'a [String],
    exhausted: &'a [String],
    contested: &'a [String],
}

impl Found<'_> {
    fn judge(&self) -> (roadstead_api::kinds::ConditionStatus, &'static str, String) {
        let (reason, message) = if !self.stranded.is_empty() {
            let what = match self.stranded.len() {
                1 => "1 address in use is no longer in this pool, and stays until its pod is gone".to_owned(),
                count => {
                    format!("{count} addresses in use are no longer in this pool, and stay until their pods are gone")
                }
            };
            ("Stranded", format!("in force; {what}: {}", list(self.stranded)))
        } else if let Some(first) = self.exhausted.first() {
            let more = match self.exhausted.len() {
                1 => String::new(),
                nodes => format!(" (and so it is on {} more nodes)", nodes - 1),
            };
            ("Exhausted", format!("in force; {first}{more}"))
        } else if !self.contested.is_empty() {
            ("Contested", "in force".to_owned())
        } else if u128::from(self.allocated) >= self.total {
            ("Exhausted", format!("in force; all {} addresses are in use", self.total))
        } else if self.left_out.is_empty() {
            ("InForce", "addresses are handed out".to_owned())
        } else {
            ("LeftOut", "in force".to_owned())
        };
        let left_out = self.left_out().map(|left_out| format!("; {left_out}")).unwrap_or_default();
        let contested = match self.contested {
            [] => String::new(),
            ranges => {
                format!("; not handed out, because pods may have it from a younger pool: {}", list(ranges))
            }
        };
        (True, reason, message + &contested + &left_out)
    }

    fn left_out(&self) -> Option<String> {
        let words: Vec<String> =
            self.left_out.iter().map(|(address, reason)| format!("{address} ({reason})")).collect();
        (!words.is_empty()).then(|| format!("left out of its ranges: {}", list(&words)))
    }
}

/// The first few of a list.
fn list(words: &[String]) -> String {
    let more = if words.len() > LISTED { format!(" and {} more", words.len() - LISTED) } else { String::new() };
    words[..words.len().min(LISTED)].join(", ") + &more
}
