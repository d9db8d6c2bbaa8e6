//! The plan: the one owner of the question which address belongs to whom.
//!
//! It is pure. What stores tell goes in as [`Event`]s, what became of writes as [`WriteResult`]s, the time with both; what shall be
//! written comes out of [`Plan::poll_write`] and [`Plan::poll_report`]. Call them until they have nothing more, and
//! [`Plan::handle_deadline`] when [`Plan::next_deadline`] has come.
//!
//! Nothing is decided before [`Event::Synced`]. Then what exists is adopted: claims, then addresses that stand in the status of
//! Services, oldest first; only then do those without an address get one. So a restart changes nothing.
//!
//! An address is handed out in two steps, each a write whose failure is harmless: the claim is made, which only one can, because its
//! name is the address; then the Service's status is written, upon the very version that was judged. It is given back in the
//! opposite order: no status names it any more, then the claim goes. A crash between any two steps leaves a claim too many, never
//! an address with two owners; and a claim too many is found by its owner's UID.
//!
//! Another controller may be at work on the same objects, or the one before this may still have a write under way. What keeps two
//! from undoing each other's work: both follow the address that stands in the status, whoever wrote it; a claim that only a watch
//! told is asked for again before its address is told, and counted up so that a deletion under way upon its former state fails; and a
//! claim that a living Service does not need is given back at once only when we have just written another address into its
//! status, else after [`FORMER_GRACE`]. One gap is left, because no two objects can be written at once: a controller whose view is
//! seconds old may give a claim back between the other's making sure of it and its writing the status. Then two Services may
//! tell one address, until either controller hears of it. A lease, so that only one controller writes, will close it.
//!
//! Inside, three parts keep three things apart: `pools` and `allocator` what there is, `ledger` who has what and whether the
//! store agrees, `choice` who shall have what. `settle` brings the second in line with the third, one Service at a time.

mod allocator;
mod choice;
mod claim;
mod claims;
mod edge_hosts;
mod known;
mod ledger;
mod lost_nodes;
mod message;
mod pod_pools;
mod pools;
mod refusal;
mod report;
mod services;
mod settle;
mod timers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use roadstead_api::checked::{AddressRange, AddressSet, InForce, Network, ObjectRef, ServiceKey, pools_in_force};

use choice::State;
use edge_hosts::EdgeHosts;
use ledger::Moment;
use lost_nodes::Holdings;
use report::Reports;
use services::{Age, Service, StatusWrite, WaitFor};
use timers::{Timer, Timers};

pub use allocator::{Allocator, Avoid, Number};
pub use claim::{Claim, Owner, StoredClaim, Uid, Version};
pub use lost_nodes::NodeLoss;
pub use message::{
    Count, EdgeWish, Event, NodePods, Now, PodPoolReport, PoolReport, ServiceState, StatusOutcome, Wish, Write,
    WriteResult,
};
pub use services::{CLASS, Classes};

/// How long a claim may name a Service that is not there. The lists that a start reads are not of one moment, so a claim may be
/// known before the Service that it was made for.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// How long a claim may be one too many for a Service before it is given back. Another controller may have made it for a wish that is
/// not heard of here yet, or may be about to tell it.
pub const FORMER_GRACE: Duration = Duration::from_secs(5);

/// When a write that the store refused is tried again: somebody has to change something first.
pub const REFUSED_RETRY: Duration = Duration::from_secs(10);

/// Which address belongs to whom.
#[derive(Debug, Default)]
pub struct Plan {
    classes: Classes,
    synced: bool,
    /// Counts what was heard.
    moment: Moment,
    state: State,
    /// Owners in claims that are no known Service, and what they own.
    orphans: BTreeMap<Uid, BTreeSet<IpAddr>>,
    /// Claimed blocks, from which no single address is handed out.
    blocks: BTreeMap<IpNet, StoredClaim>,
    node_loss: NodeLoss,
    holdings: Holdings,
    edge_hosts: EdgeHosts,
    /// What is to be written about blocks, and is not under way.
    block_writes: BTreeMap<IpNet, Write>,
    network: Option<Network>,
    /// What is in `state.reserved`, by whose it is.
    reservations: BTreeMap<ObjectRef, BTreeSet<IpAddr>>,
    timers: Timers,
    /// Services to look at.
    unsettled: BTreeSet<Age>,
    /// What waiting Services may have waited for; those of one entry are tried together, in the order of their age.
    awaited: VecDeque<Vec<WaitFor>>,
    /// Addresses that the store is asked about, and the Services whose status waits for the answer.
    questions: BTreeMap<IpAddr, BTreeSet<ServiceKey>>,
    status_due: VecDeque<ServiceKey>,
    notice_due: VecDeque<ServiceKey>,
    reports: Reports<PoolReport>,
    pod_reports: Reports<PodPoolReport>,
}

impl Plan {
    /// An empty plan.
    pub fn new(classes: Classes) -> Self {
        Self { classes, ..Self::default() }
    }

    /// The plan, with what becomes of the claims of a node that is gone.
    pub fn with_node_loss(self, node_loss: NodeLoss) -> Self {
        Self { node_loss, ..self }
    }

    /// Takes note of something that the store told.
    pub fn handle_event(&mut self, now: Now, event: Event) {
        self.moment += 1;
        match event {
            Event::PoolApplied { name, checked, generation, report } => {
                self.reports.observe(&name, report);
                if self.state.pools.apply(&name, checked, generation) {
                    self.pools_changed(now);
                }
            }
            Event::PoolDeleted(name) => {
                self.reports.forget(&name);
                if self.state.pools.delete(&name) {
                    self.pools_changed(now);
                }
            }
            Event::PodPoolApplied { name, checked, generation, report } => {
                self.pod_reports.observe(&name, report);
                if let Ok(pool) = &checked {
                    // The router of a pod's subnet is no Service either.
                    self.reserve(ObjectRef::cluster("PodPool", &name), pool.gateway.into_iter().collect());
                }
                if self.state.pod_pools.apply(&name, checked, generation) {
                    self.pools_changed(now);
                }
            }
            Event::PodPoolDeleted(name) => {
                self.pod_reports.forget(&name);
                self.reserve(ObjectRef::cluster("PodPool", &name), BTreeSet::new());
                if self.state.pod_pools.delete(&name) {
                    self.pools_changed(now);
                }
            }
            Event::PodsReported(node, pods) => {
                self.holdings.hear(now.instant, &node, &pods);
                for pool in self.state.pod_pools.report(&node, pods) {
                    self.pod_reports.touch(&pool);
                }
            }
            Event::NodeApplied(name) => self.holdings.node_applied(&name),
            Event::NodeDeleted(name) => self.node_deleted(now, &name),
            Event::NetworkApplied(network) => {
                if self.network != network {
                    self.network = network;
                    self.pools_changed(now);
                }
            }
            Event::ClaimApplied(stored) => self.claim_applied(now, stored),
            Event::ClaimDeleted(net, uid) => self.claim_deleted(now, net, &uid),
            Event::ServiceApplied(state) => self.service_applied(now, state),
            Event::ServiceDeleted(key, uid) => {
                if self.state.services.get(&key).is_some_and(|service| service.version.uid == uid) {
                    self.service_gone(now, &key);
                }
            }
            Event::EdgeHostApplied(uid, wish) => self.edge_host_applied(now, uid, wish),
            Event::EdgeHostDeleted(uid) => self.edge_host_deleted(now, &uid),
            Event::NamespaceApplied(name, labels) => {
                if self.state.namespaces.get(&name) != Some(&labels) {
                    self.state.namespaces.insert(name.clone(), labels);
                    self.unsettle_namespace(&name);
                }
            }
            Event::NamespaceDeleted(name) => {
                self.state.namespaces.remove(&name);
            }
            Event::Reserved(owner, addresses) => self.reserve(owner, addresses),
            Event::Synced => self.adopt(now),
        }
        self.work(now);
    }

    /// Takes note of how a write ended.
    pub fn handle_result(&mut self, now: Now, result: WriteResult) {
        match result {
            WriteResult::Claim(net, found) if lost_nodes::is_block(net) => {
                match found {
                    Some(stored) => self.block_applied(now, stored),
                    None => {
                        let known = self.blocks.get(&net).map(|stored| stored.version.uid.clone());
                        self.block_deleted(now, net, &known.unwrap_or_default());
                    }
                }
                self.edge_claim_told(now, net);
            }
            WriteResult::ClaimRefused(net, reason) if lost_nodes::is_block(net) => {
                // Of a node that is gone it is tried again anyhow.
                self.edge_claim_refused(now, net, &reason);
            }
            WriteResult::Claim(net, found) => {
                let address = net.addr();
                let observation = self.state.ledger.finish(address, found);
                self.after_claim(now, address, true, observation);
                for key in self.questions.remove(&address).unwrap_or_default() {
                    self.unsettled.extend(self.state.services.get(&key).map(Service::age));
                }
            }
            WriteResult::ClaimRefused(net, reason) => self.claim_refused(now, net.addr(), &reason),
            WriteResult::ServiceStatus(key, uid, outcome) => self.status_written(now, &key, &uid, outcome),
            WriteResult::PoolStatus(name, done) => self.reports.finish(&name, done, now),
            WriteResult::PodPoolStatus(name, done) => self.pod_reports.finish(&name, done, now),
        }
        self.work(now);
    }

    /// The next write that an address waits for.
    pub fn poll_write(&mut self) -> Option<Write> {
        // The last step of one Service goes before the first of another.
        self.poll_status_write()
            .or_else(|| self.state.ledger.poll_write(self.moment))
            .or_else(|| self.block_writes.pop_first().map(|(_, write)| write))
    }

    /// The next write that only people wait for.
    pub fn poll_report(&mut self, now: Now) -> Option<Write> {
        if !self.synced {
            return None;
        }
        if let Some(notice) = self.poll_notice() {
            return Some(notice);
        }
        let state = &self.state;
        let pool = self.reports.poll(now, |name, stored| report::find(state, name, stored, now));
        if let Some((name, report)) = pool {
            return Some(Write::PoolStatus(name, report));
        }
        let pod_pool = self.pod_reports.poll(now, |name, stored| pod_pools::find(state, name, stored, now));
        pod_pool.map(|(name, report)| Write::PodPoolStatus(name, report))
    }

    /// When [`Plan::handle_deadline`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.synced {
            return None;
        }
        let reports = [self.reports.next_deadline(), self.pod_reports.next_deadline()];
        reports.into_iter().chain([self.timers.next_deadline()]).flatten().min()
    }

    /// Does what the time has come for.
    pub fn handle_deadline(&mut self, now: Now) {
        if !self.synced {
            return;
        }
        while let Some(timer) = self.timers.pop(now.instant) {
            match timer {
                Timer::Rest(address) => self.rest(now, address),
                Timer::Orphan(uid) => {
                    for address in self.orphans.remove(&uid).unwrap_or_default() {
                        self.give_back(now, address, &uid);
                    }
                }
                Timer::LostNode(node) => self.reclaim(now, &node),
                Timer::Former(key) => self.unsettled.extend(self.state.services.get(&key).map(Service::age)),
                Timer::EdgeHosts => self.settle_edge_hosts(now),
                Timer::Claim(address) => self.state.ledger.touch(address),
                Timer::Status(key) => {
                    if let Some(service) = self.state.services.get_mut(&key) {
                        if service.status_write == StatusWrite::AwaitEvent {
                            service.status_write = StatusWrite::Idle;
                        }
                        self.unsettled.insert(service.age());
                    }
                }
            }
        }
        self.work(now);
    }

    /// Whether everything that exists was told.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// How many Services are ours and have no address.
    pub fn pending(&self) -> usize {
        self.state.services.pending()
    }

    /// What was last found of each pool.
    pub fn pools(&self) -> impl Iterator<Item = (&str, &PoolReport)> {
        self.reports.iter()
    }

    /// Decides about all that exists, in the order in which it has a right to its address.
    fn adopt(&mut self, now: Now) {
        if self.synced {
            return;
        }
        self.synced = true;
        self.pools_changed(now);
        self.look_for_lost_nodes(now);
        for uid in self.orphans.keys() {
            self.timers.set(Timer::Orphan(uid.clone()), now.instant + ORPHAN_GRACE);
        }
        // Nobody who shares an address is on the way out of it before that was decided.
        for service in self.state.services.iter_mut() {
            service.assigned.clone_from(&service.holds);
        }
        let mut ranked: Vec<(u8, Age)> = Vec::new();
        for service in self.state.services.iter() {
            let rank = match service {
                service if !service.ours => 0,
                service if !service.holds.is_empty() => 1,
                service if !service.status.is_empty() => 2,
                _ => 3,
            };
            ranked.push((rank, service.age()));
        }
        ranked.sort();
        for (_, (_, key)) in ranked {
            self.settle(now, &key);
        }
        self.unsettled.clear();
    }

    /// Looks at everything that is to be looked at.
    fn work(&mut self, now: Now) {
        if !self.synced {
            return;
        }
        loop {
            if let Some((_, key)) = self.unsettled.pop_first() {
                self.settle(now, &key);
            } else if let Some(awaited) = self.awaited.pop_front() {
                self.wake(now, awaited);
            } else {
                return;
            }
        }
    }

    /// Tries those that wait, oldest first, for as long as there is something to have.
    fn wake(&mut self, now: Now, mut awaited: Vec<WaitFor>) {
        let mut previous = None;
        loop {
            awaited.retain(|wait| match wait {
                WaitFor::Pool(pool, family) => {
                    self.state.pools.get(pool).is_some_and(|pool| pool.next_free(*family).is_some())
                }
                WaitFor::Address(_) | WaitFor::Share(_) => true,
            });
            let waiting = |wait| self.state.services.next_waiting(wait, previous.as_ref());
            let Some(age) = awaited.iter().filter_map(waiting).min() else { return };
            self.settle(now, &age.1);
            previous = Some(age);
        }
    }

    fn pools_changed(&mut self, now: Now) {
        if !self.synced {
            return;
        }
        let taken: Vec<IpAddr> = self.state.ledger.addresses().chain(self.state.reserved.keys().copied()).collect();
        let InForce { pod_pools, address_pools, contested } =
            pools_in_force(self.state.pod_pools.good(), self.state.pools.good(), self.network.as_ref());
        let blocks = self.blocks.keys().map(|net| AddressRange::from(*net)).chain(contested.ranges());
        let blocks = blocks.collect::<AddressSet>();
        self.state.pod_pools.judge(pod_pools, contested);
        self.state.pools.recompute(address_pools, &taken, &blocks);
        let held: Vec<(IpAddr, String, bool)> = self
            .state
            .ledger
            .iter()
            .map(|(address, held)| (address, held.pool.clone(), held.released.is_some()))
            .collect();
        for (address, pool, resting) in held {
            self.take_over(address, &pool);
            if resting {
                self.rest(now, address);
            }
        }
        for name in self.state.pools.names() {
            self.reports.touch(name);
        }
        for name in self.state.pod_pools.names() {
            self.pod_reports.touch(name);
        }
        self.unsettled.extend(self.state.services.iter().map(Service::age));
        self.settle_edge_hosts(now);
    }

    fn service_applied(&mut self, now: Now, seen: ServiceState) {
        let known = self.state.services.get(&seen.key).map(|service| service.version.uid.clone());
        if known.as_ref().is_some_and(|uid| *uid != seen.version.uid) {
            self.service_gone(now, &seen.key);
        }
        let service = match self.state.services.get_mut(&seen.key) {
            Some(service) => service,
            None => {
                let service = Service::new(seen.key.clone(), seen.version.clone());
                self.state.services.insert(service)
            }
        };
        service.update(seen, &self.classes, self.moment);
        if let Some(addresses) = self.orphans.remove(&service.version.uid) {
            service.holds.extend(addresses);
        }
        self.unsettled.insert(service.age());
    }

    fn service_gone(&mut self, now: Now, key: &ServiceKey) {
        let Some(service) = self.state.services.remove(key) else { return };
        self.unsettled.remove(&service.age());
        self.reserve(key.object(), BTreeSet::new());
        if !self.synced {
            // Whether its addresses are to rest is for pools to say that may not be known yet.
            self.orphans.entry(service.version.uid).or_default().extend(service.holds);
            return;
        }
        for address in service.holds {
            self.give_back(now, address, &service.version.uid);
        }
    }

    /// Notes which addresses are somebody's own.
    fn reserve(&mut self, owner: ObjectRef, addresses: BTreeSet<IpAddr>) {
        let former = match addresses.is_empty() {
            true => self.reservations.remove(&owner),
            false => self.reservations.insert(owner.clone(), addresses.clone()),
        };
        let former = former.unwrap_or_default();
        for address in addresses.difference(&former) {
            self.state.reserved.entry(*address).or_default().insert(owner.clone());
            self.state.pools.take(*address);
            self.touch_reports(*address);
        }
        if addresses != former {
            for name in self.state.pod_pools.names() {
                self.pod_reports.touch(name);
            }
        }
        for address in former.difference(&addresses) {
            if let Some(owners) = self.state.reserved.get_mut(address) {
                owners.remove(&owner);
                if owners.is_empty() {
                    self.state.reserved.remove(address);
                    self.vacate(*address);
                }
            }
        }
    }

    fn unsettle_namespace(&mut self, namespace: &str) {
        let in_namespace = self.state.services.iter().filter(|service| service.key.namespace == namespace);
        self.unsettled.extend(in_namespace.map(Service::age));
    }

    fn touch_reports(&mut self, address: IpAddr) {
        if let Some(pool) = self.state.pools.of(address) {
            self.reports.touch(&pool.pool.name);
        }
        if let Some(held) = self.state.ledger.get(address) {
            self.reports.touch(&held.pool);
            self.pod_reports.touch(&held.pool);
        }
    }
}

#[cfg(test)]
mod tests;
