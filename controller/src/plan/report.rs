//! What is said of pools in their status.

use std::collections::BTreeMap;
use std::time::Instant;

use roadstead_api::kinds::ConditionStatus;

use super::choice::State;
use super::ledger::is_service;
use super::message::{Count, Now, PoolReport};
use super::pools::{Family, InForce};
use crate::reported::Reported;
use crate::verdict::{Ready, Verdict, findings};

/// How many stranded addresses a message lists.
const LISTED: usize = 3;

/// What is said of each pool of a kind.
#[derive(Debug)]
pub(super) struct Reports<T>(BTreeMap<String, Reported<T>>);

impl<T> Default for Reports<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Clone + PartialEq> Reports<T> {
    pub(super) fn observe(&mut self, name: &str, stored: Option<T>) {
        self.0.entry(name.to_owned()).or_default().observe(stored);
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    pub(super) fn touch(&mut self, name: &str) {
        if let Some(report) = self.0.get_mut(name) {
            report.touch();
        }
    }

    pub(super) fn finish(&mut self, name: &str, done: bool, now: Now) {
        if let Some(report) = self.0.get_mut(name) {
            report.finish(done, now.instant);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.values().filter_map(Reported::next_deadline).min()
    }

    /// The next status that is to be written; `find` gets a pool's name and what is stored.
    pub(super) fn poll(&mut self, now: Now, find: impl Fn(&str, Option<&T>) -> T) -> Option<(String, T)> {
        self.0.iter_mut().find_map(|(name, report)| {
            let found = report.poll(now.instant, |stored| find(name, stored))?;
            Some((name.clone(), found))
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().filter_map(|(name, report)| Some((name.as_str(), report.found()?)))
    }
}

/// What there is to say of a pool.
pub(super) fn find(state: &State, name: &str, stored: Option<&PoolReport>, now: Now) -> PoolReport {
    let fault = state.pools.fault(name);
    let pool = state.pools.get(name);
    let mut allocated = BTreeMap::new();
    let mut stranded = Vec::new();
    for (address, held) in state.ledger.iter().filter(|(_, held)| held.owners.values().any(is_service)) {
        if pool.is_some_and(|pool| pool.contains(address)) {
            *allocated.entry(Family::of(address)).or_insert(0u128) += 1;
        } else if held.pool == name && state.is_stranded(address) {
            let owners: Vec<String> = held.owners.values().map(ToString::to_string).collect();
            stranded.push(format!("{address} ({})", owners.join(", ")));
        }
    }
    let count = |pool: &InForce, family: Family| {
        let allocator = pool.allocator(family);
        let allocated = allocated.get(&family).copied().unwrap_or_default();
        (allocator.total() > 0).then(|| Count { total: allocator.total(), allocated, available: allocator.available() })
    };
    let (status, reason, message) = if !fault.invalid.is_empty() {
        let force = if pool.is_some() { "the last good version stays in force" } else { "not in force" };
        (ConditionStatus::False, "Invalid", format!("{force}: {}", findings(fault.invalid)))
    } else if let Some(overlap) = fault.overlap {
        let message = format!("not in force: {overlap}; take these addresses out of one of the two");
        (ConditionStatus::False, "Overlap", message)
    } else if stranded.is_empty() {
        (ConditionStatus::True, "InForce", "addresses are handed out".to_owned())
    } else {
        let more = if stranded.len() > LISTED { ", …" } else { "" };
        let what = match stranded.len() {
            1 => "1 address in use is no longer in this pool; it stays until its Service changes or the pool says reclaim: true".to_owned(),
            count => format!(
                "{count} addresses in use are no longer in this pool; they stay until their Services change or the pool says reclaim: true"
            ),
        };
        let listed: Vec<&str> = stranded.iter().take(LISTED).map(String::as_str).collect();
        let message = format!("in force; {what}: {}{more}", listed.join(", "));
        (ConditionStatus::True, "Stranded", message)
    };
    let verdict = Verdict { status, reason: reason.to_owned(), message, generation: fault.generation };
    PoolReport {
        ipv4: pool.and_then(|pool| count(pool, Family::Ipv4)),
        ipv6: pool.and_then(|pool| count(pool, Family::Ipv6)),
        ready: Ready::next(stored.map(|stored| &stored.ready), verdict, super::settle::whole_second(now.wall)),
    }
}
