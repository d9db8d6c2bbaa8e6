//! What becomes of claims: what is heard of them, what is given back, what rests, and what moves to another pool.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::claim::StoredClaim;
use super::ledger::{Observation, is_service};
use super::lost_nodes::is_block;
use super::message::Now;
use super::pools::Family;
use super::services::{Service, WaitFor};
use super::timers::Timer;
use super::{ORPHAN_GRACE, Plan, REFUSED_RETRY, choice, settle};

impl Plan {
    pub(super) fn claim_applied(&mut self, now: Now, stored: StoredClaim) {
        let net = stored.claim.net;
        self.note_holding(now, net, stored.claim.node.as_deref());
        if is_block(net) {
            self.block_applied(now, stored);
            return self.edge_claim_told(now, net);
        }
        let address = net.addr();
        let known = self.state.ledger.get(address).is_some();
        let observation = self.state.ledger.observe(address, stored);
        self.after_claim(now, address, known, observation);
    }

    pub(super) fn claim_deleted(&mut self, now: Now, net: IpNet, uid: &str) {
        if is_block(net) {
            self.block_deleted(now, net, uid);
            return self.edge_claim_told(now, net);
        }
        self.state.ledger.observe_deleted(net.addr(), uid);
        self.after_claim(now, net.addr(), true, Observation::default());
    }

    /// Draws the consequences of what is known of a claim now.
    pub(super) fn after_claim(&mut self, now: Now, address: IpAddr, known: bool, observation: Observation) {
        if !known && self.state.ledger.get(address).is_some() {
            self.state.pools.take(address);
        }
        for uid in observation.found {
            let owner = self.state.ledger.get(address).and_then(|held| held.owners.get(&uid));
            let Some(is_service) = owner.map(is_service) else { continue };
            match self.state.services.by_uid(&uid).map(|service| service.key.clone()) {
                Some(key) => {
                    if let Some(service) = self.state.services.get_mut(&key) {
                        service.holds.insert(address);
                    }
                }
                None if is_service => {
                    self.orphans.entry(uid.clone()).or_default().insert(address);
                    self.timers.set(Timer::Orphan(uid), now.instant + ORPHAN_GRACE);
                }
                None => {}
            }
        }
        for uid in observation.unconfirmed {
            // The store has others there: whoever cannot share with them was too late, and takes the next address.
            let Some(service) = self.state.services.by_uid(&uid) else {
                self.state.ledger.deny(address, &uid);
                continue;
            };
            let key = service.key.clone();
            let is_former = !service.assigned.contains(&address) && !service.is_told(address);
            if is_former || !choice::may_join(&self.state, service, address) {
                self.state.ledger.deny(address, &uid);
                if let Some(service) = self.state.services.get_mut(&key) {
                    service.holds.remove(&address);
                    service.assigned.remove(&address);
                    self.unsettled.insert(service.age());
                }
            }
        }
        if self.state.ledger.is_absent(address) {
            self.bury(address);
        }
        if let Some(held) = self.state.ledger.get(address) {
            let resting = held.released.is_some();
            let owners = held.owners.keys().filter_map(|uid| self.state.services.by_uid(uid));
            self.unsettled.extend(owners.map(Service::age));
            self.touch_reports(address);
            if resting {
                self.rest(now, address);
            }
        }
        self.collect(address);
    }

    /// Forgets the owners of a claim that is gone, but for those that are to have the address: for them it is made again.
    fn bury(&mut self, address: IpAddr) {
        let owners = self.state.ledger.get(address).map(|held| held.owners.keys().cloned().collect::<Vec<_>>());
        for uid in owners.unwrap_or_default() {
            let key = self.state.services.by_uid(&uid).map(|service| service.key.clone());
            let service = key.and_then(|key| self.state.services.get_mut(&key));
            if let Some(service) = service {
                if service.assigned.contains(&address) || service.is_told(address) {
                    continue;
                }
                service.holds.remove(&address);
            } else if let Some(addresses) = self.orphans.get_mut(&uid) {
                addresses.remove(&address);
            }
            self.state.ledger.deny(address, &uid);
        }
    }

    pub(super) fn claim_refused(&mut self, now: Now, address: IpAddr, reason: &str) {
        self.state.ledger.refuse(address);
        self.timers.set(Timer::Claim(address), now.instant + REFUSED_RETRY);
        let owners = self.state.ledger.get(address).map(|held| held.owners.keys().cloned().collect::<Vec<_>>());
        for uid in owners.unwrap_or_default() {
            if let Some(key) = self.state.services.by_uid(&uid).map(|service| service.key.clone()) {
                self.tell(&key, settle::NOT_ASSIGNED, format!("{address} cannot be claimed: {reason}"));
            }
        }
    }

    /// Takes an address from an owner in whose status it is no more.
    pub(super) fn give_back(&mut self, now: Now, address: IpAddr, uid: &str) {
        let Some(held) = self.state.ledger.get(address) else { return };
        let share_key = held.owners.get(uid).and_then(|owner| owner.share_key.clone());
        let rests = !self.reuse_delay(address, &held.pool).is_zero();
        self.state.ledger.remove_owner(address, uid, rests.then(|| settle::whole_second(now.wall)));
        self.touch_reports(address);
        self.awaited.push_back(share_key.map(WaitFor::Share).into_iter().chain([WaitFor::Address(address)]).collect());
        if self.state.ledger.get(address).is_some_and(|held| held.released.is_some()) {
            self.rest(now, address);
        }
        self.collect(address);
    }

    /// Forgets an address that nobody has any more, and lets those know that wait for it.
    pub(super) fn collect(&mut self, address: IpAddr) {
        if self.state.ledger.collect(address) {
            self.holdings.remove(IpNet::from(address));
            self.vacate(address);
        }
    }

    pub(super) fn vacate(&mut self, address: IpAddr) {
        self.touch_reports(address);
        if self.state.ledger.get(address).is_some() || self.state.reserved.contains_key(&address) {
            return;
        }
        if let Some(pool) = self.state.pools.release(address) {
            self.awaited.push_back(vec![WaitFor::Address(address), WaitFor::Pool(pool, Family::of(address))]);
        }
    }

    /// Ends the rest of an address, or looks again when it ends.
    pub(super) fn rest(&mut self, now: Now, address: IpAddr) {
        if !self.synced {
            return;
        }
        let Some(held) = self.state.ledger.get(address) else { return };
        let Some(released) = held.released else { return };
        let delay = self.reuse_delay(address, &held.pool);
        // A clock that was set back must not make it rest for longer than the pool says.
        let rested = Duration::try_from(now.wall.duration_since(released)).unwrap_or(Duration::ZERO);
        match delay.checked_sub(rested).filter(|left| !left.is_zero()) {
            Some(left) => self.timers.set(Timer::Rest(address), now.instant + left),
            None => self.state.ledger.end_rest(address),
        }
    }

    /// How long an address rests that came from this pool. Pools for Services and for pods may have one name: then the one that has the
    /// address counts.
    fn reuse_delay(&self, address: IpAddr, pool: &str) -> Duration {
        let of_pods = || self.state.pod_pools.reuse_delay(pool);
        match self.state.pools.of(address) {
            Some(pool) => pool.pool.reuse_delay,
            None if self.state.pod_pools.has(pool, address) => of_pods().unwrap_or_default(),
            None => self.state.pools.get(pool).map(|pool| pool.pool.reuse_delay).or_else(of_pods).unwrap_or_default(),
        }
    }

    /// Books an address that its pool lost to the pool that has it now, unless an owner asks for the former by name: then the claim
    /// is what says that it got what it asked for.
    pub(super) fn take_over(&mut self, address: IpAddr, former: &str) {
        let Some(pool) = self.state.pools.of(address).map(|pool| pool.pool.name.clone()) else { return };
        let Some(held) = self.state.ledger.get(address) else { return };
        if held.owners.values().any(|owner| !is_service(owner)) {
            return;
        }
        let asked_for = held.owners.keys().any(|uid| {
            let wish = self.state.services.by_uid(uid).and_then(|service| service.wish.as_ref());
            wish.is_some_and(|wish| wish.pool.as_deref() == Some(former))
        });
        if pool != former && !asked_for {
            self.state.ledger.move_to_pool(address, &pool);
        }
    }
}
