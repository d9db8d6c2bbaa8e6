//! Which addresses a Service is to have.
//!
//! The order: what it asks for by address; what is in its status and it may have; what else it holds and may keep; then the pools,
//! the one it asks for or else those in order, from each the lowest address that it may share, or else the first that is free in the
//! order in which the pool lists its ranges. Nothing here changes anything, and nothing depends on anything but the state: the same history gives the same addresses.
//!
//! A Service that has an address keeps it for as long as it asks for the same, whatever becomes of the pools, unless the pool says
//! `reclaim: true` or it can no longer share it. A wish that cannot be had does not cost a Service the address that is announced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use roadstead_api::checked::{AddressRange, FamilyPolicy, LoadBalancer, ObjectRef, TrafficPolicy};
use roadstead_api::kinds::Sharing;

use super::claim::Owner;
use super::ledger::{Held, Ledger, is_service};
use super::pod_pools::PodPools;
use super::pools::{Family, InForce, Pools};
use super::refusal::{Refusal, ShareRefusal};
use super::services::{Service, Services, WaitFor, WishKey};

/// Everything that a choice depends on.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) pools: Pools,
    pub(super) pod_pools: PodPools,
    pub(super) ledger: Ledger,
    pub(super) services: Services,
    /// The labels of namespaces.
    pub(super) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Addresses that are somebody's own.
    pub(super) reserved: BTreeMap<IpAddr, BTreeSet<ObjectRef>>,
}

/// What was chosen.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The addresses, each with its pool.
    pub(super) picks: BTreeMap<IpAddr, String>,
    /// Whether the Service has what it asks for.
    pub(super) satisfied: bool,
    /// What stood in the way of the rest.
    pub(super) refusals: Vec<Refusal>,
    /// What may remove it.
    pub(super) waits: BTreeSet<WaitFor>,
}

/// Whether the Service is there already, or wants to join.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coming {
    Joins,
    Stays,
}

/// Chooses for a Service that is ours and whose wish is known.
pub(super) fn choose(state: &State, service: &Service, wish: &LoadBalancer) -> Choice {
    let mut chooser = Chooser { state, service, wish, picks: BTreeMap::new(), refusals: Vec::new() };
    chooser.requested();
    if chooser.refusals.is_empty() {
        chooser.keep();
        chooser.fresh();
    }
    chooser.conclude()
}

/// Whether a Service may have an address together with all that own it already.
pub(super) fn may_join(state: &State, service: &Service, address: IpAddr) -> bool {
    let (Some(wish), Some(held)) = (&service.wish, state.ledger.get(address)) else { return false };
    let chooser = Chooser { state, service, wish, picks: BTreeMap::new(), refusals: Vec::new() };
    chooser.shares(address, held, Coming::Joins).is_ok()
}

impl State {
    /// The addresses that a Service may not be deprived of while its wish cannot be told.
    pub(super) fn untouched(&self, service: &Service) -> BTreeMap<IpAddr, String> {
        let held = service.holds.iter();
        held.filter_map(|address| Some((*address, self.ledger.get(*address)?.pool.clone()))).collect()
    }

    /// Whether a held address is one that no pool in force has.
    pub(super) fn is_stranded(&self, address: IpAddr) -> bool {
        self.pools.of(address).is_none()
    }

    fn is_reclaimed(&self, address: IpAddr, held: &Held) -> bool {
        self.is_stranded(address) && self.pools.get(&held.pool).is_some_and(|pool| pool.pool.reclaim)
    }
}

struct Chooser<'a> {
    state: &'a State,
    service: &'a Service,
    wish: &'a LoadBalancer,
    picks: BTreeMap<Family, (IpAddr, String)>,
    refusals: Vec<Refusal>,
}

impl<'a> Chooser<'a> {
    fn wants(&self, family: Family) -> bool {
        match self.wish.families {
            FamilyPolicy::Ipv4 => family == Family::Ipv4,
            FamilyPolicy::Ipv6 => family == Family::Ipv6,
            FamilyPolicy::Both | FamilyPolicy::PreferBoth { .. } => true,
        }
    }

    fn missing(&self) -> Vec<Family> {
        Family::BOTH.into_iter().filter(|family| self.wants(*family) && !self.picks.contains_key(family)).collect()
    }

    fn pick(&mut self, address: IpAddr, pool: &str) {
        self.picks.insert(Family::of(address), (address, pool.to_owned()));
    }

    /// Takes the addresses that the Service asks for.
    fn requested(&mut self) {
        for address in &self.wish.requested {
            match self.take_requested(*address) {
                Ok(pool) => self.pick(*address, &pool),
                Err(refusal) => self.refusals.push(refusal),
            }
        }
    }

    fn take_requested(&self, address: IpAddr) -> Result<String, Refusal> {
        let family = Family::of(address);
        if !self.wants(family) {
            return Err(Refusal::OtherFamily { address, family });
        }
        if let Some(pool) = self.retained(address) {
            return Ok(pool);
        }
        let Some(pool) = self.state.pools.of(address) else {
            let pools = self.state.pools.in_force().map(|pool| (pool.pool.name.clone(), pool.pool.addresses.clone()));
            return Err(Refusal::OutsideEveryPool { address, pools: pools.collect() });
        };
        if let Some(wanted) = self.wish.pool.as_ref().filter(|wanted| **wanted != pool.pool.name) {
            let wanted = self.state.pools.get(wanted).ok_or_else(|| self.no_such_pool(wanted))?;
            let (pool, ranges) = (wanted.pool.name.clone(), wanted.pool.addresses.clone());
            return Err(Refusal::OutsidePool { address, pool, ranges });
        }
        self.admits(pool)?;
        self.joins(address, pool)?;
        Ok(pool.pool.name.clone())
    }

    /// Keeps what the Service has, as far as it still asks for it.
    fn keep(&mut self) {
        for family in self.missing() {
            let (service, of_family) = (self.service, |address: &&IpAddr| Family::of(**address) == family);
            // It may hold two: after a crash in the middle of a move, or when another controller served it at the same time. What
            // was told goes first, also where the claim for it was not heard of yet: so both controllers keep the same, whichever
            // was first to write the status. Only then what it holds, lowest first.
            let told = service.status.intersection(&service.holds);
            let candidates = told.chain(&service.status).chain(&service.holds);
            let kept = candidates.filter(of_family).find_map(|address| {
                let pool = self.retained(*address)?;
                self.still_asked_for(*address, &pool).then_some((*address, pool))
            });
            if let Some((address, pool)) = kept {
                self.pick(address, &pool);
            }
        }
    }

    /// Whether a retained address is what the Service asks for.
    fn still_asked_for(&self, address: IpAddr, pool: &str) -> bool {
        let asked = WishKey::from(self.wish);
        if self.service.satisfied.as_ref() == Some(&asked) && self.service.assigned.contains(&address) {
            return true;
        }
        let changed = self.service.satisfied.is_some();
        let now_in = self.state.pools.of(address).map(|pool| pool.pool.name.as_str());
        let from_pool = |wanted: &String| pool == wanted || now_in == Some(wanted);
        self.wish.pool.as_ref().is_none_or(from_pool) && !(changed && now_in.is_none())
    }

    /// The pool of an address that the Service may go on having.
    fn retained(&self, address: IpAddr) -> Option<String> {
        if self.service.holds.contains(&address) {
            let held = self.state.ledger.get(address)?;
            let may_stay = self.shares(address, held, Coming::Stays).is_ok() && !self.state.is_reclaimed(address, held);
            return may_stay.then(|| held.pool.clone());
        }
        // In its status without a claim: written by us before a crash of the store, or by whoever assigned addresses before us.
        let pool = self.state.pools.of(address).filter(|_| self.service.status.contains(&address))?;
        self.joins(address, pool).ok()?;
        Some(pool.pool.name.clone())
    }

    /// Takes what is still missing from the pools.
    fn fresh(&mut self) {
        let missing = self.missing();
        if missing.is_empty() {
            return;
        }
        let pools = self.candidates();
        // Both from one pool, where one has both; else the pool of the family that it has goes first.
        let whole = |pool: &&InForce| missing.iter().all(|family| self.next_in(pool, *family).is_some());
        let first = match self.picks.values().next() {
            Some((_, has)) => pools.iter().find(|pool| pool.pool.name == *has),
            None => pools.iter().find(|pool| whole(pool)),
        };
        let ordered: Vec<&InForce> = first.into_iter().chain(&pools).copied().collect();
        for family in missing {
            let found = ordered.iter().find_map(|pool| Some((self.next_in(pool, family)?, pool.pool.name.clone())));
            match found {
                Some((address, pool)) => self.pick(address, &pool),
                None => self.refusals.extend(pools.iter().map(|pool| exhausted(pool, family))),
            }
        }
    }

    /// The pools that may serve the Service, best first; why others may not is noted.
    fn candidates(&mut self) -> Vec<&'a InForce> {
        let state = self.state;
        if let Some(wanted) = &self.wish.pool {
            let Some(pool) = state.pools.get(wanted) else {
                self.refusals.push(self.no_such_pool(wanted));
                return Vec::new();
            };
            return match self.admits(pool) {
                Ok(()) => vec![pool],
                Err(refusal) => {
                    self.refusals.push(refusal);
                    Vec::new()
                }
            };
        }
        let mut candidates = Vec::new();
        for pool in state.pools.in_order() {
            match self.admits(pool) {
                Ok(()) => candidates.push(pool),
                Err(refusal) => self.refusals.push(refusal),
            }
        }
        let manual = state.pools.in_force().filter(|pool| !pool.pool.auto_assign);
        self.refusals.extend(manual.map(|pool| Refusal::NotAutomatic { pool: pool.pool.name.clone() }));
        if state.pools.in_force().next().is_none() {
            self.refusals.push(Refusal::NoPools);
        }
        candidates
    }

    /// Whether a pool serves this Service at all.
    fn admits(&self, pool: &InForce) -> Result<(), Refusal> {
        let (name, namespace) = (pool.pool.name.clone(), &self.service.key.namespace);
        let nothing = BTreeMap::new();
        let labels = self.state.namespaces.get(namespace).unwrap_or(&nothing);
        if !pool.pool.takes_namespace(namespace, labels) {
            return Err(Refusal::Namespace { pool: name, namespace: namespace.clone() });
        }
        if !pool.pool.takes_service(&self.wish.labels) {
            return Err(Refusal::Service { pool: name });
        }
        Ok(())
    }

    /// The lowest address of a pool that the Service may share, or else the next free one.
    fn next_in(&self, pool: &InForce, family: Family) -> Option<IpAddr> {
        let shared = self.wish.share_key.iter().flat_map(|key| self.state.ledger.shared(key));
        let mut in_pool = shared.filter(|address| Family::of(*address) == family && pool.contains(*address));
        in_pool.find(|address| self.joins(*address, pool).is_ok()).or_else(|| pool.next_free(family))
    }

    /// Whether the Service may have an address that it does not have.
    fn joins(&self, address: IpAddr, pool: &InForce) -> Result<(), Refusal> {
        if let Some(held) = self.state.ledger.get(address) {
            return self.shares(address, held, Coming::Joins);
        }
        if pool.allocator(Family::of(address)).is_free(AddressRange::number(address)) {
            return Ok(());
        }
        match self.state.reserved.get(&address).and_then(BTreeSet::first) {
            Some(owner) if *owner != self.service.key.object() => {
                Err(Refusal::Reserved { address, owner: owner.clone() })
            }
            // Not free, not held and nobody's: nothing of the kind is.
            _ => Err(Refusal::BeingReleased { address }),
        }
    }

    /// Whether the Service may have an address together with its other owners.
    fn shares(&self, address: IpAddr, held: &Held, coming: Coming) -> Result<(), Refusal> {
        if held.owners.is_empty() {
            let pool = held.pool.clone();
            let delay = self.state.pools.get(&pool).map_or(0, |pool| pool.pool.reuse_delay.as_secs());
            return Err(match held.released {
                Some(_) => Refusal::Resting { address, pool, seconds: delay },
                None => Refusal::BeingReleased { address },
            });
        }
        let others = held.owners.iter().filter(|(uid, _)| **uid != self.service.version.uid);
        for (uid, owner) in others {
            let other = self.state.services.by_uid(uid);
            // One that is on its way out, or not there at all, does not drive out another.
            let leaves = is_service(owner) && other.is_none_or(|other| !other.assigned.contains(&address));
            if coming == Coming::Stays && leaves {
                continue;
            }
            self.shares_with(address, held, owner, other)?;
        }
        Ok(())
    }

    fn shares_with(&self, address: IpAddr, held: &Held, owner: &Owner, other: Option<&Service>) -> Result<(), Refusal> {
        let taken = || Refusal::Taken { address, owner: owner.to_string() };
        let same_key = owner.share_key.is_some() && owner.share_key == self.wish.share_key;
        let other_wish = other.and_then(|other| other.wish.as_ref());
        let Some(other_wish) = other_wish.filter(|_| same_key && is_service(owner)) else { return Err(taken()) };
        let refuse = |reason| Refusal::NotShareable { address, owner: owner.to_string(), reason };
        // The ports on record decide, not those wished for: whoever changes its ports into a clash is the one to go.
        if let Some(port) = self.wish.ports.intersection(&owner.ports).next() {
            return Err(refuse(ShareRefusal::Port(*port)));
        }
        let pool = self.state.pools.of(address).or_else(|| self.state.pools.get(&held.pool));
        let anywhere = pool.is_some_and(|pool| pool.pool.sharing == Sharing::Cluster);
        if owner.namespace.as_ref() != Some(&self.service.key.namespace) && !anywhere {
            return Err(refuse(ShareRefusal::Namespace(held.pool.clone())));
        }
        // Under policy Local a node announces the address when it has endpoints, so all owners must have them on the same nodes.
        if backends(self.wish) != backends(other_wish) {
            return Err(refuse(ShareRefusal::Backends));
        }
        Ok(())
    }

    fn no_such_pool(&self, wanted: &str) -> Refusal {
        let pools = self.state.pools.in_force().map(|pool| pool.pool.name.clone()).collect();
        Refusal::NoSuchPool { pool: wanted.to_owned(), pools }
    }

    fn conclude(mut self) -> Choice {
        let missing = self.missing();
        let satisfied = match self.wish.families {
            FamilyPolicy::PreferBoth { .. } => {
                // A requested address that cannot be had is not made up for by another family.
                missing.len() < 2 && self.wish.requested.iter().all(|address| self.has(*address))
            }
            FamilyPolicy::Ipv4 | FamilyPolicy::Ipv6 | FamilyPolicy::Both => missing.is_empty(),
        };
        let waits = if missing.is_empty() { BTreeSet::new() } else { self.waits() };
        if !satisfied {
            self.picks.clear();
            // What is announced stays until something better is there.
            for address in &self.service.status {
                let family = Family::of(*address);
                if self.wants(family)
                    && !self.picks.contains_key(&family)
                    && let Some(pool) = self.retained(*address)
                {
                    self.pick(*address, &pool);
                }
            }
        }
        let refusals = if satisfied { Vec::new() } else { self.refusals };
        Choice { picks: self.picks.into_values().collect(), satisfied, refusals, waits }
    }

    fn has(&self, address: IpAddr) -> bool {
        self.picks.get(&Family::of(address)).is_some_and(|(picked, _)| *picked == address)
    }

    fn waits(&self) -> BTreeSet<WaitFor> {
        let mut waits: BTreeSet<WaitFor> = self.wish.share_key.iter().cloned().map(WaitFor::Share).collect();
        for refusal in &self.refusals {
            match refusal {
                Refusal::Full { pool, family, .. } => {
                    waits.insert(WaitFor::Pool(pool.clone(), *family));
                }
                Refusal::Taken { address, .. }
                | Refusal::Reserved { address, .. }
                | Refusal::Resting { address, .. }
                | Refusal::BeingReleased { address }
                | Refusal::NotShareable { address, .. } => {
                    waits.insert(WaitFor::Address(*address));
                }
                // These end when a pool or the Service itself changes, and then every Service is looked at.
                Refusal::NoPools
                | Refusal::OutsideEveryPool { .. }
                | Refusal::OutsidePool { .. }
                | Refusal::OtherFamily { .. }
                | Refusal::NoSuchPool { .. }
                | Refusal::Namespace { .. }
                | Refusal::Service { .. }
                | Refusal::NotAutomatic { .. }
                | Refusal::NoFamily { .. } => {}
            }
        }
        waits
    }
}

/// Why a pool has no address of this family to give.
fn exhausted(pool: &InForce, family: Family) -> Refusal {
    let (name, allocator) = (pool.pool.name.clone(), pool.allocator(family));
    match allocator.total() {
        0 => Refusal::NoFamily { pool: name, family },
        total => Refusal::Full { pool: name, family, taken: total - allocator.available(), total },
    }
}

/// Where a Service's traffic ends, as far as it decides which nodes announce.
fn backends(wish: &LoadBalancer) -> Option<&BTreeMap<String, String>> {
    (wish.traffic_policy == TrafficPolicy::Local).then_some(&wish.selector)
}
