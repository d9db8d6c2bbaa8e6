//! The stage: a plan, a store of the simplest kind, and a clock that goes when told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use roadstead_api::checked::{ObjectRef, ServiceKey};
use roadstead_api::kinds::{AddressPool, OwnerKind, PodPool};
use roadstead_api::kubernetes::Service;

use crate::edge;
use crate::plan::*;

/// A plan and the world around it. Whatever a step does, the plan's writes are carried out until it wants none, and events of the
/// store come back in the order in which they arose.
pub(super) struct Story {
    pub(super) plan: Plan,
    now: Now,
    version: u64,
    uids: u64,
    pools: BTreeMap<String, AddressPool>,
    pod_pools: BTreeMap<String, PodPool>,
    pub(super) claims: BTreeMap<IpNet, StoredClaim>,
    services: BTreeMap<ServiceKey, Service>,
    edge_hosts: BTreeMap<String, EdgeWish>,
    events: VecDeque<Event>,
    /// What people were told, since somebody last looked.
    notices: Vec<String>,
    /// Writes done, since somebody last looked.
    pub(super) writes: Vec<Write>,
    /// What each pool's status says.
    pub(super) reports: BTreeMap<String, PoolReport>,
    /// What the status of each pool for pods says.
    pub(super) pod_reports: BTreeMap<String, PodPoolReport>,
}

/// What becomes of a write.
pub(super) enum Fate {
    Done,
    /// Not done, and never answered: the process dies first.
    Lost,
    /// Done, and never answered.
    Unanswered,
}

impl Story {
    pub(super) fn new() -> Self {
        let wall = "2026-01-01T00:00:00.25Z".parse().unwrap();
        Self {
            plan: Plan::default(),
            now: Now { instant: Instant::now(), wall },
            version: 0,
            uids: 0,
            pools: BTreeMap::new(),
            pod_pools: BTreeMap::new(),
            claims: BTreeMap::new(),
            services: BTreeMap::new(),
            edge_hosts: BTreeMap::new(),
            events: VecDeque::new(),
            notices: Vec::new(),
            writes: Vec::new(),
            reports: BTreeMap::new(),
            pod_reports: BTreeMap::new(),
        }
    }

    /// A plan that has begun, and these pools: name and spec.
    pub(super) fn begin(pools: &[(&str, &str)]) -> Self {
        let mut story = Self::new();
        for (name, spec) in pools {
            story.pool(name, spec);
        }
        story.start();
        story
    }

    /// Everything was told.
    pub(super) fn start(&mut self) {
        self.tell_events();
        self.plan.handle_event(self.now, Event::Synced);
        self.act();
    }

    /// The process dies and another begins, with all that the store has.
    pub(super) fn restart(&mut self) {
        self.restart_as(Classes::default());
    }

    pub(super) fn restart_as(&mut self, classes: Classes) {
        self.plan = Plan::new(classes);
        self.events.clear();
        self.events.extend(self.claims.values().cloned().map(Event::ClaimApplied));
        self.events.extend(self.services.values().map(edge::service));
        let pools: Vec<Event> = self.pools.values().map(|pool| self.pool_event(pool)).collect();
        self.events.extend(pools);
        self.events.extend(self.pod_pools.values().map(edge::pod_pool));
        let hosts = self.edge_hosts.values().map(|wish| Event::EdgeHostApplied(wish.name.clone(), Some(wish.clone())));
        self.events.extend(hosts);
        self.start();
    }

    pub(super) fn pool(&mut self, name: &str, spec: &str) {
        let created = self.pools.get(name).map(|pool| pool.metadata.creation_timestamp.clone());
        let mut pool = AddressPool::new(name, serde_json::from_str(spec).unwrap());
        pool.metadata.creation_timestamp = created.unwrap_or_else(|| {
            let text = format!("\"2025-01-01T00:00:{:02}Z\"", self.pools.len() + self.pod_pools.len());
            Some(serde_json::from_str(&text).unwrap())
        });
        self.events.push_back(self.pool_event(&pool));
        self.pools.insert(name.to_owned(), pool);
        self.act();
    }

    pub(super) fn delete_pool(&mut self, name: &str) {
        self.pools.remove(name);
        self.events.push_back(Event::PoolDeleted(name.to_owned()));
        self.act();
    }

    pub(super) fn pod_pool(&mut self, name: &str, spec: &str) {
        let created = self.pod_pools.get(name).map(|pool| pool.metadata.creation_timestamp.clone());
        let mut pool = PodPool::new(name, serde_json::from_str(spec).unwrap());
        pool.status = self.pod_pools.get(name).and_then(|pool| pool.status.clone());
        pool.metadata.creation_timestamp = created.unwrap_or_else(|| {
            let text = format!("\"2025-01-01T00:00:{:02}Z\"", self.pools.len() + self.pod_pools.len());
            Some(serde_json::from_str(&text).unwrap())
        });
        self.events.push_back(edge::pod_pool(&pool));
        self.pod_pools.insert(name.to_owned(), pool);
        self.act();
    }

    /// A speaker makes a claim, or changes one: for pods of these names, whose UIDs are the same; without any it is released now.
    pub(super) fn pod_claim(&mut self, address: &str, pool: &str, pods: &[&str]) {
        let owner = |name: &&str| Owner {
            kind: OwnerKind::Pod,
            namespace: Some("default".to_owned()),
            name: (*name).to_owned(),
            share_key: None,
            ports: BTreeSet::new(),
        };
        let net = IpNet::from(address.parse::<IpAddr>().unwrap());
        let owners: BTreeMap<Uid, Owner> = pods.iter().map(|name| ((*name).to_owned(), owner(name))).collect();
        let released = owners.is_empty().then(|| Timestamp::from_second(self.now.wall.as_second()).unwrap());
        let node = (!pods.is_empty()).then(|| format!("node-of-{}", pods[0]));
        let claim = Claim { net, pool: pool.to_owned(), owners, node, released, assured: 0 };
        let uid = self.claims.get(&net).map(|stored| stored.version.uid.clone());
        let stored = self.store(claim, uid);
        self.events.push_back(Event::ClaimApplied(stored));
        self.act();
    }

    /// A node reports how many addresses it handed out of a pool without a claim.
    pub(super) fn pods_report(&mut self, node: &str, allocated: &[(&str, u64)]) {
        let allocated = allocated.iter().map(|(pool, count)| (pool.to_string(), *count)).collect();
        self.pods_report_of(node, NodePods { allocated, ..NodePods::default() });
    }

    /// A node reports all this.
    pub(super) fn pods_report_of(&mut self, node: &str, pods: NodePods) {
        self.events.push_back(Event::PodsReported(node.to_owned(), pods));
        self.act();
    }

    pub(super) fn node(&mut self, name: &str, is_there: bool) {
        let name = name.to_owned();
        self.events.push_back(if is_there { Event::NodeApplied(name) } else { Event::NodeDeleted(name) });
        self.act();
    }

    /// An edge host, whose UID is its name, asks for a prefix of a pool.
    pub(super) fn edge_host(&mut self, name: &str, pool: &str, length: Option<u8>) {
        let wish = EdgeWish { name: name.to_owned(), pool: pool.to_owned(), length };
        self.edge_hosts.insert(name.to_owned(), wish.clone());
        self.events.push_back(Event::EdgeHostApplied(name.to_owned(), Some(wish)));
        self.act();
    }

    pub(super) fn delete_edge_host(&mut self, name: &str) {
        self.edge_hosts.remove(name);
        self.events.push_back(Event::EdgeHostDeleted(name.to_owned()));
        self.act();
    }

    /// It goes while nobody looks.
    pub(super) fn lose_edge_host(&mut self, name: &str) {
        self.edge_hosts.remove(name);
    }

    /// Whose each claim is: `10.64.0.0/28 stand`.
    pub(super) fn owned(&self) -> String {
        let owners = |stored: &StoredClaim| {
            stored.claim.owners.values().map(|owner| owner.name.clone()).collect::<Vec<_>>().join("+")
        };
        let text = |(net, stored): (&IpNet, &StoredClaim)| format!("{net} {}", owners(stored));
        self.claims.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    /// A node claims a block, or writes to its claim.
    pub(super) fn block_claim(&mut self, net: &str, pool: &str, node: &str) {
        self.block_claim_silently(net, pool, node);
        self.act();
    }

    /// The same, and the plan hears of it by event later, or from a refusal.
    pub(super) fn block_claim_silently(&mut self, net: &str, pool: &str, node: &str) {
        let net: IpNet = net.parse().unwrap();
        let owner = Owner {
            kind: OwnerKind::Node,
            namespace: None,
            name: node.to_owned(),
            share_key: None,
            ports: BTreeSet::new(),
        };
        let owners = BTreeMap::from([(format!("uid-of-{node}"), owner)]);
        let node = Some(node.to_owned());
        let claim = Claim { net, pool: pool.to_owned(), owners, node, released: None, assured: 0 };
        let uid = self.claims.get(&net).map(|stored| stored.version.uid.clone());
        let stored = self.store(claim, uid);
        self.events.push_back(Event::ClaimApplied(stored));
    }

    /// What is claimed, with `!` where it is marked: `10.64.0.0/26 10.64.0.7/32!`.
    pub(super) fn claimed(&self) -> String {
        let text = |(net, stored): (&IpNet, &StoredClaim)| {
            format!("{net}{}", if stored.claim.released.is_some() { "!" } else { "" })
        };
        self.claims.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    fn pool_event(&self, pool: &AddressPool) -> Event {
        edge::pool(pool)
    }

    /// Makes or changes a Service, in `default` unless the name says another namespace: annotations and spec.
    pub(super) fn service(&mut self, name: &str, annotations: &[(&str, &str)], spec: &str) {
        self.service_with(name, annotations, spec, &mut |_| Fate::Done);
    }

    fn service_with(
        &mut self,
        name: &str,
        annotations: &[(&str, &str)],
        spec: &str,
        fate: &mut dyn FnMut(&Write) -> Fate,
    ) {
        let key = key(name);
        let spec: serde_json::Value = serde_json::from_str(spec).unwrap();
        let mut full = serde_json::json!({"type": "LoadBalancer", "ports": [{"port": 80}]});
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        self.version += 1;
        let known = self.services.get(&key).cloned();
        let mut service = known.unwrap_or_else(|| {
            self.uids += 1;
            let created = format!("2025-02-01T00:{:02}:{:02}Z", self.uids / 60, self.uids % 60);
            serde_json::from_value(serde_json::json!({
                "metadata": {"namespace": key.namespace, "name": key.name, "uid": format!("uid-{}", self.uids),
                             "creationTimestamp": created}
            }))
            .unwrap()
        });
        service.metadata.resource_version = Some(self.version.to_string());
        let annotations = annotations.iter().map(|(key, value)| (key.to_string(), value.to_string()));
        service.metadata.annotations = Some(annotations.collect());
        service.spec = serde_json::from_value(full).unwrap();
        self.events.push_back(edge::service(&service));
        self.services.insert(key, service);
        self.act_with(fate);
    }

    pub(super) fn plain_with(&mut self, name: &str, fate: &mut dyn FnMut(&Write) -> Fate) {
        self.service_with(name, &[], "{}", fate);
    }

    pub(super) fn requesting_with(&mut self, name: &str, addresses: &str, fate: &mut dyn FnMut(&Write) -> Fate) {
        self.service_with(name, &[("roadstead.dev/addresses", addresses)], "{}", fate);
    }

    /// A Service that asks for nothing in particular.
    pub(super) fn plain(&mut self, name: &str) {
        self.service(name, &[], "{}");
    }

    /// A Service that asks for these addresses.
    pub(super) fn requesting(&mut self, name: &str, addresses: &str) {
        self.service(name, &[("roadstead.dev/addresses", addresses)], "{}");
    }

    pub(super) fn delete_service(&mut self, name: &str) {
        let service = self.services.remove(&key(name)).unwrap();
        self.events.push_back(Event::ServiceDeleted(key(name), service.metadata.uid.unwrap()));
        self.act();
    }

    /// Somebody else writes a Service's status.
    pub(super) fn write_status(&mut self, name: &str, addresses: &[&str]) {
        self.version += 1;
        let service = self.services.get_mut(&key(name)).unwrap();
        set_status(service, &addresses.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>());
        service.metadata.resource_version = Some(self.version.to_string());
        self.events.push_back(edge::service(service));
        self.act();
    }

    /// Somebody else makes a claim for the Service of this UID; the plan hears of it by event later, or from a refusal.
    pub(super) fn claim_silently(&mut self, address: &str, pool: &str, name: &str, uid: &str) {
        let owner = Owner {
            kind: OwnerKind::Service,
            namespace: Some("default".to_owned()),
            name: name.to_owned(),
            share_key: None,
            ports: BTreeSet::new(),
        };
        let net = IpNet::from(address.parse::<IpAddr>().unwrap());
        let owners = BTreeMap::from([(uid.to_owned(), owner)]);
        let claim = Claim { net, pool: pool.to_owned(), owners, node: None, released: None, assured: 0 };
        let stored = self.store(claim, None);
        self.events.push_back(Event::ClaimApplied(stored));
    }

    pub(super) fn claim(&mut self, address: &str, pool: &str, name: &str, uid: &str) {
        self.claim_silently(address, pool, name, uid);
        self.act();
    }

    /// Somebody deletes a claim.
    pub(super) fn delete_claim(&mut self, address: &str) {
        let net = IpNet::from(address.parse::<IpAddr>().unwrap());
        let stored = self.claims.remove(&net).unwrap();
        self.events.push_back(Event::ClaimDeleted(net, stored.version.uid));
        self.act();
    }

    pub(super) fn reserve(&mut self, owner: ObjectRef, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.events.push_back(Event::Reserved(owner, addresses));
        self.act();
    }

    pub(super) fn namespace(&mut self, name: &str, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        self.events.push_back(Event::NamespaceApplied(name.to_owned(), labels));
        self.act();
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        self.now.instant += Duration::from_secs(seconds);
        self.now.wall += SignedDuration::from_secs(seconds as i64);
        self.plan.handle_deadline(self.now);
        self.act();
    }

    /// Takes back what the store was about to tell.
    pub(super) fn forget_events(&mut self) {
        self.events.clear();
    }

    /// An answer comes at last.
    pub(super) fn answer(&mut self, result: WriteResult) {
        self.plan.handle_result(self.now, result);
        self.act();
    }

    /// A status write upon this version reaches the store at last, and is answered.
    pub(super) fn late_status_write(&mut self, name: &str, upon: &str) -> StatusOutcome {
        let version = Version { uid: self.uid(name), resource_version: upon.to_owned() };
        let write = Write::ServiceStatus { key: key(name), version, addresses: Vec::new() };
        let Some(WriteResult::ServiceStatus(key, uid, outcome)) = self.perform(write) else { unreachable!() };
        self.answer(WriteResult::ServiceStatus(key, uid, outcome.clone()));
        outcome
    }

    /// Lets the plan do all that it wants.
    fn act(&mut self) {
        self.act_with(|_| Fate::Done);
    }

    /// The same, with a say in what becomes of each write.
    fn act_with(&mut self, mut fate: impl FnMut(&Write) -> Fate) {
        // Far more steps than any story has: one that goes on has begun to repeat itself.
        for _ in 0..2000 {
            self.tell_events();
            let Some(write) = self.plan.poll_write().or_else(|| self.plan.poll_report(self.now)) else { return };
            match fate(&write) {
                Fate::Done => {
                    let result = self.perform(write);
                    if let Some(result) = result {
                        self.plan.handle_result(self.now, result);
                    }
                }
                Fate::Unanswered => {
                    self.perform(write);
                }
                Fate::Lost => {}
            }
        }
        panic!("the plan goes on writing: {:#?}", &self.writes[self.writes.len() - 6..]);
    }

    fn tell_events(&mut self) {
        while let Some(event) = self.events.pop_front() {
            self.plan.handle_event(self.now, event);
        }
    }

    /// Does a write as a store does: with its preconditions, and with an event.
    pub(super) fn perform(&mut self, write: Write) -> Option<WriteResult> {
        self.writes.push(write.clone());
        match write {
            Write::CreateClaim(claim) => {
                let net = claim.net;
                let found = match self.claims.get(&net) {
                    Some(found) => found.clone(),
                    None => {
                        let stored = self.store(claim, None);
                        self.events.push_back(Event::ClaimApplied(stored.clone()));
                        stored
                    }
                };
                Some(WriteResult::Claim(net, Some(found)))
            }
            Write::ReplaceClaim(claim, version) => {
                let net = claim.net;
                if self.claims.get(&net).is_some_and(|stored| stored.version == version) {
                    let stored = self.store(claim, Some(version.uid));
                    self.events.push_back(Event::ClaimApplied(stored));
                }
                Some(WriteResult::Claim(net, self.claims.get(&net).cloned()))
            }
            Write::DeleteClaim(net, version) => {
                if self.claims.get(&net).is_some_and(|stored| stored.version == version) {
                    self.claims.remove(&net);
                    self.events.push_back(Event::ClaimDeleted(net, version.uid));
                }
                Some(WriteResult::Claim(net, self.claims.get(&net).cloned()))
            }
            Write::ServiceStatus { key, version, addresses } => {
                let service = self.services.get_mut(&key);
                let is_that = |service: &&mut Service| service.metadata.uid.as_ref() == Some(&version.uid);
                let outcome = match service.filter(is_that) {
                    None => StatusOutcome::Gone,
                    Some(service) if service.metadata.resource_version.as_ref() != Some(&version.resource_version) => {
                        StatusOutcome::Conflict
                    }
                    Some(service) => {
                        self.version += 1;
                        set_status(service, &addresses);
                        service.metadata.resource_version = Some(self.version.to_string());
                        self.events.push_back(edge::service(service));
                        StatusOutcome::Done
                    }
                };
                Some(WriteResult::ServiceStatus(key, version.uid, outcome))
            }
            Write::PoolStatus(name, report) => {
                self.reports.insert(name.clone(), report);
                Some(WriteResult::PoolStatus(name, true))
            }
            Write::PodPoolStatus(name, report) => {
                if let Some(pool) = self.pod_pools.get_mut(&name) {
                    pool.status = Some(edge::raw_pod_pool_status(&report));
                    self.events.push_back(edge::pod_pool(pool));
                }
                self.pod_reports.insert(name.clone(), report);
                Some(WriteResult::PodPoolStatus(name, true))
            }
            Write::Notice(notice) => {
                self.notices.push(format!("{} {}: {}", notice.object.name, notice.reason, notice.message));
                None
            }
        }
    }

    fn store(&mut self, claim: Claim, uid: Option<Uid>) -> StoredClaim {
        self.version += 1;
        let uid = uid.unwrap_or_else(|| format!("claim-{}", self.version));
        let version = Version { uid, resource_version: self.version.to_string() };
        let stored = StoredClaim { claim, version };
        self.claims.insert(stored.claim.net, stored.clone());
        stored
    }

    /// What every Service has, as `a=203.0.113.1 b=-`; and that the claims say exactly the same.
    #[track_caller]
    pub(super) fn expect(&self, expected: &str) {
        let mut found = Vec::new();
        let mut told: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
        for (key, service) in &self.services {
            let addresses = roadstead_api::checked::status_addresses(service);
            for address in &addresses {
                told.entry(*address).or_default().insert(service.metadata.uid.clone().unwrap());
            }
            let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            let name = if key.namespace == "default" { key.name.clone() } else { key.to_string() };
            found.push(format!("{name}={}", if addresses.is_empty() { "-".to_owned() } else { addresses.join(",") }));
        }
        assert_eq!(found.join(" "), expected);
        let owned = self.claims.values().filter(|stored| !stored.claim.owners.is_empty());
        let owned: BTreeMap<IpAddr, BTreeSet<String>> =
            owned.map(|stored| (stored.claim.net.addr(), stored.claim.owners.keys().cloned().collect())).collect();
        let told: BTreeMap<_, _> = told.into_iter().filter(|(address, _)| owned.contains_key(address)).collect();
        assert_eq!(owned, told, "claims on the left, statuses on the right");
    }

    /// What one Service has, joined by commas.
    #[track_caller]
    pub(super) fn expect_status(&self, name: &str, expected: &str) {
        let addresses = roadstead_api::checked::status_addresses(&self.services[&key(name)]);
        let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(addresses.join(","), expected, "{name}");
    }

    /// What people were told since the last look.
    #[track_caller]
    pub(super) fn expect_notices(&mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.notices), expected);
    }

    /// That nothing was written since the last look, but what only people read.
    #[track_caller]
    pub(super) fn expect_no_writes(&mut self) {
        self.writes
            .retain(|write| !matches!(write, Write::PoolStatus(..) | Write::PodPoolStatus(..) | Write::Notice(_)));
        assert_eq!(std::mem::take(&mut self.writes), []);
    }

    /// A pool's condition: reason and message.
    pub(super) fn ready(&self, pool: &str) -> String {
        let verdict = &self.reports[pool].ready.verdict;
        format!("{:?} {}: {}", verdict.status, verdict.reason, verdict.message)
    }

    /// What is said of a pool for pods, after a while: allocated, total, reason and message.
    pub(super) fn pods_ready(&mut self, pool: &str) -> String {
        self.wait(2);
        let PodPoolReport { total, allocated, ready, .. } = &self.pod_reports[pool];
        let total = total.map_or_else(|| "-".to_owned(), |total| total.to_string());
        let verdict = &ready.verdict;
        format!("{allocated}/{total} {:?} {}: {}", verdict.status, verdict.reason, verdict.message)
    }

    /// A pool's IPv4 addresses: total, allocated, available.
    pub(super) fn ipv4(&self, pool: &str) -> (u128, u128, u128) {
        let count = self.reports[pool].ipv4.unwrap();
        (count.total, count.allocated, count.available)
    }

    pub(super) fn uid(&self, name: &str) -> Uid {
        self.services[&key(name)].metadata.uid.clone().unwrap()
    }

    pub(super) fn wall(&self) -> Timestamp {
        self.now.wall
    }
}

fn key(name: &str) -> ServiceKey {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    ServiceKey { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn set_status(service: &mut Service, addresses: &[IpAddr]) {
    let ingress: Vec<_> = addresses.iter().map(|address| serde_json::json!({"ip": address})).collect();
    service.status = serde_json::from_value(serde_json::json!({"loadBalancer": {"ingress": ingress}})).unwrap();
}
