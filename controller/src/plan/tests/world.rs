//! The API server of the simulation: objects with versions, preconditions, and what must never be seen there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use roadstead_api::checked::{AddressRange, FamilyPolicy, LoadBalancer, Pool, ServiceKey, status_addresses};
use roadstead_api::kinds::AddressPool;
use roadstead_api::kubernetes::Service;

use crate::edge;
use crate::plan::*;

/// Milliseconds since the simulation began.
pub(super) type Millis = u64;

/// How long two Services may tell an address that they may not share: somebody changed one of them, and a controller has to hear
/// of it, move it, and may be killed meanwhile.
const CLASH_LIMIT: Millis = 60_000;

/// How long a Service may tell an address without a claim: no two requests can be made one, so a controller that had not heard of a
/// change may give back what another has just begun to tell, until either hears of it.
const UNCLAIMED_LIMIT: Millis = 20_000;

/// The kinds, each with a watch of its own: what is told of two kinds is in no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Pool,
    Claim,
    Service,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Pool, Self::Claim, Self::Service];
}

/// One request.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Create(Claim),
    Replace(Claim, Version),
    Delete(IpNet, Version),
    Read(IpNet),
    Status(ServiceKey, Version, Vec<IpAddr>),
}

/// Its answer.
pub(super) enum Reply {
    /// What is under the claim's name now.
    Claim(Option<StoredClaim>),
    /// A precondition failed.
    Denied,
    Status(StatusOutcome),
}

/// Everything that the API server has.
#[derive(Default)]
pub(super) struct World {
    version: u64,
    /// The version that was last looked at.
    checked: u64,
    pools: BTreeMap<String, AddressPool>,
    pub(super) claims: BTreeMap<IpNet, StoredClaim>,
    pub(super) services: BTreeMap<ServiceKey, Service>,
    /// What the watches are to tell.
    pub(super) events: Vec<(Kind, Event)>,
    /// Since when two Services tell an address that they may not share.
    clashes: BTreeMap<(IpAddr, ServiceKey, ServiceKey), Millis>,
    /// Since when a Service tells an address without a claim, and how often that was so.
    unclaimed: BTreeMap<(IpAddr, ServiceKey), Millis>,
    pub(super) unclaims: u64,
    /// Services that people changed since their status was written.
    changed: BTreeSet<ServiceKey>,
    /// Claims made.
    pub(super) created: u64,
    /// Addresses that left the status of a Service which nobody had changed.
    pub(super) moves: Vec<String>,
    /// What happened, for whoever reads a failure.
    pub(super) journal: Vec<String>,
}

impl World {
    pub(super) fn note(&mut self, now: Millis, line: String) {
        self.journal.push(format!("{now:>7} {line}"));
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    pub(super) fn list(&self, kind: Kind) -> Vec<Event> {
        match kind {
            Kind::Pool => self.pools.values().map(edge::pool).collect(),
            Kind::Claim => self.claims.values().cloned().map(Event::ClaimApplied).collect(),
            Kind::Service => self.services.values().map(edge::service).collect(),
        }
    }

    pub(super) fn apply_pool(&mut self, name: &str, spec: &str) {
        let mut pool = AddressPool::new(name, serde_json::from_str(spec).unwrap());
        pool.metadata.creation_timestamp = Some(serde_json::from_str("\"2025-01-01T00:00:00Z\"").unwrap());
        self.events.push((Kind::Pool, edge::pool(&pool)));
        self.pools.insert(name.to_owned(), pool);
    }

    /// Makes a Service, or changes what it asks for.
    pub(super) fn apply_service(&mut self, key: &ServiceKey, annotations: &[(&str, String)], spec: serde_json::Value) {
        let version = self.next_version();
        let mut service = self.services.get(key).cloned().unwrap_or_else(|| {
            serde_json::from_value(serde_json::json!({"metadata": {
                "namespace": key.namespace, "name": key.name, "uid": format!("{}-{version}", key.name),
                "creationTimestamp": format!("2025-02-01T{:02}:{:02}:{:02}Z", self.version / 3600 % 24, self.version / 60 % 60, self.version % 60),
            }}))
            .unwrap()
        });
        service.metadata.resource_version = Some(version);
        let annotations = annotations.iter().map(|(name, value)| (format!("roadstead.dev/{name}"), value.clone()));
        service.metadata.annotations = Some(annotations.collect());
        service.spec = serde_json::from_value(spec).unwrap();
        self.events.push((Kind::Service, edge::service(&service)));
        self.changed.insert(key.clone());
        self.services.insert(key.clone(), service);
    }

    pub(super) fn delete_service(&mut self, key: &ServiceKey) {
        if let Some(service) = self.services.remove(key) {
            self.version += 1;
            self.events.push((Kind::Service, Event::ServiceDeleted(key.clone(), service.metadata.uid.unwrap())));
        }
    }

    /// Does a request as the API server does.
    pub(super) fn perform(&mut self, request: Request) -> Reply {
        match request {
            Request::Create(claim) => {
                if self.claims.contains_key(&claim.net) {
                    return Reply::Denied;
                }
                self.created += 1;
                let uid = format!("claim-{}", self.version + 1);
                Reply::Claim(Some(self.store(claim, uid)))
            }
            Request::Replace(claim, version) => match self.claims.get(&claim.net) {
                None => Reply::Claim(None),
                Some(stored) if stored.version != version => Reply::Denied,
                // What changes nothing makes no version and no event.
                Some(stored) if stored.claim == claim => Reply::Claim(Some(stored.clone())),
                Some(_) => Reply::Claim(Some(self.store(claim, version.uid))),
            },
            Request::Delete(net, version) => match self.claims.get(&net) {
                None => Reply::Claim(None),
                Some(stored) if stored.version != version => Reply::Denied,
                Some(_) => {
                    self.claims.remove(&net);
                    self.version += 1;
                    self.events.push((Kind::Claim, Event::ClaimDeleted(net, version.uid)));
                    Reply::Claim(None)
                }
            },
            Request::Read(net) => Reply::Claim(self.claims.get(&net).cloned()),
            Request::Status(key, version, addresses) => Reply::Status(self.write_status(&key, &version, &addresses)),
        }
    }

    fn store(&mut self, claim: Claim, uid: Uid) -> StoredClaim {
        let stored = StoredClaim { claim, version: Version { uid, resource_version: self.next_version() } };
        self.claims.insert(stored.claim.net, stored.clone());
        self.events.push((Kind::Claim, Event::ClaimApplied(stored.clone())));
        stored
    }

    fn write_status(&mut self, key: &ServiceKey, upon: &Version, addresses: &[IpAddr]) -> StatusOutcome {
        let Some(service) =
            self.services.get_mut(key).filter(|service| service.metadata.uid.as_ref() == Some(&upon.uid))
        else {
            return StatusOutcome::Gone;
        };
        if service.metadata.resource_version.as_ref() != Some(&upon.resource_version) {
            return StatusOutcome::Conflict;
        }
        let before = status_addresses(service);
        if before == addresses {
            return StatusOutcome::Done;
        }
        if before.iter().any(|address| !addresses.contains(address)) && !self.changed.contains(key) {
            let line = format!("{key} moves without cause from {before:?} to {addresses:?}");
            self.journal.push(format!("        {line}"));
            self.moves.push(line);
        }
        // A move may take two writes: out of the former address, and into the new one.
        if addresses.iter().any(|address| !before.contains(address)) {
            self.changed.remove(key);
        }
        let ingress: Vec<_> = addresses.iter().map(|address| serde_json::json!({"ip": address})).collect();
        service.status = serde_json::from_value(serde_json::json!({"loadBalancer": {"ingress": ingress}})).unwrap();
        self.version += 1;
        service.metadata.resource_version = Some(self.version.to_string());
        self.events.push((Kind::Service, edge::service(service)));
        StatusOutcome::Done
    }

    /// Who tells which address.
    fn told(&self) -> BTreeMap<IpAddr, BTreeSet<&ServiceKey>> {
        let mut told: BTreeMap<IpAddr, BTreeSet<&ServiceKey>> = BTreeMap::new();
        for (key, service) in &self.services {
            for address in status_addresses(service) {
                told.entry(address).or_default().insert(key);
            }
        }
        told
    }

    fn owns(&self, key: &ServiceKey, address: IpAddr) -> bool {
        let uid = self.services[key].metadata.uid.as_ref().unwrap();
        self.claims.get(&IpNet::from(address)).is_some_and(|stored| stored.claim.owners.contains_key(uid))
    }

    /// What must be so at every moment.
    pub(super) fn check_always(&mut self, now: Millis) -> Result<(), String> {
        if self.version == self.checked && self.clashes.is_empty() && self.unclaimed.is_empty() {
            return Ok(());
        }
        self.checked = self.version;
        let (mut clashes, mut unclaimed) = (BTreeMap::new(), BTreeMap::new());
        for (address, keys) in self.told() {
            for key in &keys {
                if self.owns(key, address) {
                    continue;
                }
                let place = (address, (*key).clone());
                let since = self.unclaimed.get(&place).copied().unwrap_or(now);
                if now - since > UNCLAIMED_LIMIT {
                    return Err(format!("{key} still tells {address} without a claim"));
                }
                unclaimed.insert(place, since);
            }
            let pairs = keys.iter().flat_map(|a| keys.iter().filter(move |b| a < *b).map(move |b| (*a, *b)));
            for (a, b) in pairs.filter(|(a, b)| !self.may_share(a, b)) {
                if !self.owns(a, address) || !self.owns(b, address) {
                    return Err(format!("{a} and {b} tell {address}, and not both have a claim"));
                }
                let place = (address, a.clone(), b.clone());
                let since = self.clashes.get(&place).copied().unwrap_or(now);
                if now - since > CLASH_LIMIT {
                    return Err(format!("{a} and {b} still tell {address}, which they may not share"));
                }
                clashes.insert(place, since);
            }
        }
        if unclaimed.keys().any(|place| !self.unclaimed.contains_key(place)) {
            self.unclaims += 1;
        }
        (self.clashes, self.unclaimed) = (clashes, unclaimed);
        Ok(())
    }

    /// What must be so when nothing has happened for a while.
    pub(super) fn check_settled(&self) -> Result<(), String> {
        let told = self.told();
        for (net, stored) in &self.claims {
            let owners: BTreeSet<&Uid> = stored.claim.owners.keys().collect();
            let keys = told.get(&net.addr()).into_iter().flatten();
            let expected: BTreeSet<&Uid> = keys.map(|key| self.services[*key].metadata.uid.as_ref().unwrap()).collect();
            if owners != expected || owners.is_empty() {
                return Err(format!("{net} is claimed by {owners:?} and told by {expected:?}"));
            }
        }
        for (key, service) in &self.services {
            let has = status_addresses(service);
            match LoadBalancer::check(service) {
                Ok(Some(wish)) if self.could_have(key, &wish) => {
                    if has.is_empty() || !wish.requested.is_empty() && has != wish.requested {
                        return Err(format!("{key} could have an address that it asks for, and has {has:?}"));
                    }
                }
                Ok(Some(_)) => {}
                _ if has.is_empty() => {}
                _ => return Err(format!("{key} asks for nothing and tells {has:?}")),
            }
        }
        if let Some(((address, a, b), _)) = self.clashes.first_key_value() {
            return Err(format!("{a} and {b} tell {address}, which they may not share"));
        }
        Ok(())
    }

    /// Whether nothing stands in the way of what a Service asks for.
    fn could_have(&self, key: &ServiceKey, wish: &LoadBalancer) -> bool {
        if !wish.requested.is_empty() {
            let is_free = |address: &IpAddr| !self.claims.contains_key(&IpNet::from(*address));
            return wish.requested.iter().all(|address| is_free(address) || self.owns(key, *address));
        }
        let in_question = |name: &&String| wish.pool.as_ref().is_none_or(|wanted| wanted == *name);
        let (mut v4, mut v6) = (false, false);
        for address in self.pools.keys().filter(in_question).flat_map(|name| self.free(name)) {
            *(if address.is_ipv4() { &mut v4 } else { &mut v6 }) = true;
        }
        match wish.families {
            FamilyPolicy::Ipv4 => v4,
            FamilyPolicy::Ipv6 => v6,
            FamilyPolicy::Both => v4 && v6,
            FamilyPolicy::PreferBoth { .. } => v4 || v6,
        }
    }

    /// The addresses of a pool that nobody has.
    fn free(&self, pool: &str) -> Vec<IpAddr> {
        let pool = Pool::check(&self.pools[pool]).unwrap();
        let all = pool.addresses.iter().flat_map(|range| {
            let (first, last) = range.bounds();
            let family = if range.is_ipv4() { AddressRange::ipv4 } else { AddressRange::ipv6 };
            (first..=last).map(family)
        });
        all.filter(|address| !self.claims.contains_key(&IpNet::from(*address))).collect()
    }

    fn may_share(&self, a: &ServiceKey, b: &ServiceKey) -> bool {
        let wish = |key: &ServiceKey| LoadBalancer::check(&self.services[key]).ok().flatten();
        let (Some(one), Some(other)) = (wish(a), wish(b)) else { return false };
        one.share_key.is_some()
            && one.share_key == other.share_key
            && one.ports.is_disjoint(&other.ports)
            && a.namespace == b.namespace
    }
}
