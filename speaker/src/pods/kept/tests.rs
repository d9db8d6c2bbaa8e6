//! Nodes before one store, with pods of StatefulSets that come and go on any of them. Whatever order it happens in, and whenever a
//! node's speaker is killed, no address is at two containers, and in the end none is kept.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use roadstead_api::checked::{ClaimName, PodPool};
use roadstead_api::kinds;
use roadstead_api::store::{Event, Kind, Object, ObjectKey};
use roadstead_cni::socket::{Attachment, NetworkIdentity, PodIdentity};
use serde_json::json;

use super::*;
use crate::pods::End;
use crate::pods::book::Reservation;
use crate::pods::world::World;

const NODES: usize = 3;
/// Six addresses that all nodes share.
const SHARED: &str = r#"{"subnet":"192.0.2.0/24","ranges":["192.0.2.10-192.0.2.15"],"sticky":true,"default":true}"#;
/// Four for each node alone.
const OWN: &str = r#"{"subnet":"2001:db8::/64","sticky":true,"default":true,"nodeRanges":[
    {"nodes":["node-0"],"ranges":["2001:db8::10-2001:db8::13"]},
    {"nodes":["node-1"],"ranges":["2001:db8::20-2001:db8::23"]},
    {"nodes":["node-2"],"ranges":["2001:db8::30-2001:db8::33"]}]}"#;

fn pool(name: &str, spec: &str) -> PodPool {
    let raw = format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{spec}}}"#);
    let raw: kinds::PodPool = serde_json::from_str(&raw).unwrap();
    PodPool { is_judged: true, ..PodPool::check(&raw).unwrap() }
}

/// A node: its journal and its containers outlive its speaker.
struct Node {
    name: String,
    book: Book,
    world: World,
    heard: usize,
    leaving: Vec<(Option<Owner>, IpAddr, ClaimVersion, End)>,
    journal: BTreeMap<Owner, Record>,
}

/// What a container was told.
#[derive(Clone, Debug)]
struct Container {
    node: usize,
    request: AddRequest,
    addresses: Vec<IpAddr>,
}

struct Cluster {
    now: Instant,
    wall: i64,
    pools: Vec<(&'static str, &'static str)>,
    nodes: Vec<Node>,
    claims: BTreeMap<IpAddr, AddressClaim>,
    log: Vec<Event>,
    version: u64,
    containers: Vec<Container>,
    made: usize,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The pod of this number starts on a node, whether or not an earlier one has a container somewhere still.
    Start {
        pod: usize,
        node: usize,
    },
    /// One of the containers ends, with a DEL.
    Stop(usize),
    /// One ends, and nobody says so.
    Vanish(usize),
    Hear(usize, usize),
    /// The node writes what it has to say of its claims.
    Settle(usize),
    /// It looks for containers that are gone.
    Look(usize),
    /// It lets everything go that it keeps.
    LetGo(usize),
    Kill(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = 0..NODES;
    let step = prop_oneof![
        8 => (0..4usize, node.clone()).prop_map(|(pod, node)| Step::Start { pod, node }),
        6 => (0..8usize).prop_map(Step::Stop),
        1 => (0..8usize).prop_map(Step::Vanish),
        8 => (node.clone(), 1..6usize).prop_map(|(node, count)| Step::Hear(node, count)),
        5 => node.clone().prop_map(Step::Settle),
        1 => node.clone().prop_map(Step::Look),
        1 => node.clone().prop_map(Step::LetGo),
        1 => node.prop_map(Step::Kill),
    ];
    prop::collection::vec(step, 1..150)
}

impl Cluster {
    fn new(pools: &[(&'static str, &'static str)]) -> Self {
        let node = |number: usize| {
            let name = format!("node-{number}");
            let (book, world) = (Book::new(&name, Vec::new()), World::new(&name, &[]));
            Node { name, book, world, heard: 0, leaving: Vec::new(), journal: BTreeMap::new() }
        };
        let mut cluster = Self {
            now: Instant::now(),
            wall: 1_800_000_000,
            pools: pools.to_vec(),
            nodes: (0..NODES).map(node).collect(),
            claims: BTreeMap::new(),
            log: Vec::new(),
            version: 0,
            containers: Vec::new(),
            made: 0,
        };
        for number in 0..NODES {
            cluster.set_pools(number);
        }
        cluster
    }

    fn set_pools(&mut self, number: usize) {
        for (name, spec) in &self.pools {
            self.nodes[number].book.set_pool(name, Some(pool(name, spec)));
        }
    }

    fn hear(&mut self, number: usize, count: usize) {
        let node = &mut self.nodes[number];
        for event in self.log.iter().skip(node.heard).take(count) {
            node.heard += 1;
            node.world.handle(event, &mut node.book, &mut BTreeSet::new());
        }
    }

    /// The store takes a claim, with a new version.
    fn write(&mut self, address: IpAddr, mut claim: AddressClaim) -> ClaimVersion {
        self.version += 1;
        claim.metadata.uid.get_or_insert_with(|| format!("claim-{}", self.version));
        claim.metadata.resource_version = Some(self.version.to_string());
        let version = ClaimVersion::of(&claim);
        self.log.push(Event::Applied(Object::AddressClaim(std::sync::Arc::new(claim.clone()))));
        self.claims.insert(address, claim);
        version
    }

    fn delete(&mut self, address: IpAddr) {
        self.claims.remove(&address);
        let name = ClaimName::from(address).as_str().to_owned();
        let key = ObjectKey { kind: Kind::AddressClaim, namespace: String::new(), name };
        self.log.push(Event::Deleted(key, String::new()));
    }

    /// The address that a claim in the store is for, taken over or made, as the server does it.
    fn claim(&mut self, number: usize, record: &Record, address: IpAddr, pool: &str) -> Option<ClaimVersion> {
        let node = &mut self.nodes[number];
        let pod = record.pod.as_ref().unwrap();
        let owner = json!({ "kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": record.owner.uid, "interface": record.owner.interface });
        let spec = json!({ "cidr": format!("{address}/32"), "pool": pool, "nodeName": node.name, "owners": [owner] });
        let wanted: AddressClaim =
            serde_json::from_value(json!({ "metadata": { "name": ClaimName::from(address).as_str() }, "spec": spec }))
                .unwrap();
        let found = self.claims.get(&address);
        if node.book.is_kept_in_store(record, address) {
            let waits =
                |found: &&AddressClaim| found.spec.kept.is_some() && Heir::of_claim(found) == Heir::of_claim(&wanted);
            let Some(mut taken) = found.filter(waits).cloned() else {
                node.book.forget_kept(address);
                return None;
            };
            taken.spec = wanted.spec;
            return Some(self.write(address, taken));
        }
        if found.is_some() {
            node.book.forget_kept(address);
            node.book.set_foreign(address, true);
            return None;
        }
        Some(self.write(address, wanted))
    }

    fn start(&mut self, pod: usize, number: usize) -> Option<Container> {
        let name = format!("web-{pod}");
        self.made += 1;
        let uid = format!("uid-{}", self.made);
        let request = AddRequest {
            attachment: Attachment { container_id: format!("c{}", self.made), interface: "eth0".to_owned() },
            pod: Some(PodIdentity { namespace: "shop".to_owned(), name, uid: Some(uid.clone()) }),
            netns: "/run/netns/x".to_owned(),
            network: NetworkIdentity { name: "net".to_owned(), definition: None, pools: Vec::new() },
            requested: Vec::new(),
        };
        let pod = Pod { uid, namespace: "shop".to_owned(), is_of_stateful_set: true, ..Pod::default() };
        self.add(number, request, &pod)
    }

    fn add(&mut self, number: usize, request: AddRequest, pod: &Pod) -> Option<Container> {
        'tries: for _ in 0..20 {
            let Ok(reservation) = self.nodes[number].book.reserve(self.now, &request, Some(pod)) else { return None };
            let Reservation::New(mut record, to_claim) = reservation else { panic!("{reservation:?}") };
            for (address, pool) in to_claim {
                let Some(version) = self.claim(number, &record, address, &pool) else {
                    self.nodes[number].book.give_up(&record.owner);
                    // What was claimed on the way is found again: nothing else has a claim in these pools.
                    continue 'tries;
                };
                let held = record.held.iter_mut().find(|held| held.address == address).unwrap();
                held.claim = Some(version);
            }
            let node = &mut self.nodes[number];
            node.journal.insert(record.owner.clone(), record.clone());
            for owner in node.book.heir_has_come(&record) {
                node.journal.remove(&owner);
            }
            let addresses = record.held.iter().map(|held| held.address).collect();
            node.book.enter(self.now, record);
            let container = Container { node: number, request, addresses };
            self.containers.push(container.clone());
            return Some(container);
        }
        None
    }

    fn release(&mut self, number: usize, attachment: &Attachment) {
        let node = &mut self.nodes[number];
        let Some(released) = node.book.release(self.now, self.wall, attachment) else { return };
        if let Some(kept) = &released.kept {
            node.journal.insert(kept.owner.clone(), kept.clone());
        }
        if released.free.is_empty() && released.waiting.is_empty() && !node.book.has(&released.owner) {
            node.journal.remove(&released.owner);
        }
        for (claims, end) in [(released.free, End::Free), (released.waiting, End::Kept)] {
            for (address, version) in claims {
                node.book.set_foreign(address, true);
                node.leaving.push((Some(released.owner.clone()), address, version, end));
            }
        }
    }

    fn settle(&mut self, number: usize) {
        for (owner, address, version, end) in std::mem::take(&mut self.nodes[number].leaving) {
            let node = &self.nodes[number];
            let is_left = |found: &&AddressClaim| {
                found.metadata.uid.as_ref() == Some(&version.uid)
                    && found.spec.node_name.as_ref().is_some_and(|name| name.0 == node.name)
                    && !found.spec.owners.iter().any(|owner| node.book.has_address_of(&owner.uid, address))
            };
            if let Some(mut found) = self.claims.get(&address).filter(is_left).cloned() {
                match end {
                    // A write that comes too late finds another version, and looks anew.
                    End::Free => self.delete(address),
                    End::Kept => {
                        found.spec.kept = Some("2027-01-15T08:00:00Z".to_owned());
                        self.write(address, found);
                    }
                }
            }
            let node = &mut self.nodes[number];
            if let Some(owner) = owner.filter(|owner| !node.book.has(owner)) {
                node.journal.remove(&owner);
            }
        }
    }

    fn let_go(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        for one in node.book.waiting() {
            match one.place {
                Place::Book(owner) => {
                    node.book.let_go(&owner);
                    if !node.book.has(&owner) {
                        node.journal.remove(&owner);
                    }
                }
                Place::Store(address, version) => {
                    node.book.forget_kept(address);
                    node.book.set_foreign(address, true);
                    node.leaving.push((None, address, version, End::Free));
                }
            }
        }
    }

    fn look(&mut self, number: usize) {
        let is_there = |attachment: &Attachment| {
            self.containers.iter().any(|container| container.request.attachment == *attachment)
        };
        let attachments = self.nodes[number].book.records().map(|record| record.attachment.clone());
        let gone: Vec<Attachment> = attachments.filter(|attachment| !is_there(attachment)).collect();
        for attachment in gone {
            self.release(number, &attachment);
        }
        // Claims of this node that nothing here knows of, as the look for strays finds them.
        let node = &self.nodes[number];
        let strays: Vec<IpAddr> = self
            .claims
            .iter()
            .filter_map(|(address, claim)| {
                let is_here = claim.spec.node_name.as_ref().is_some_and(|name| name.0 == node.name);
                let leaves = node.leaving.iter().any(|(_, leaving, ..)| leaving == address);
                let has_it = claim.spec.owners.iter().any(|owner| node.book.has_address_of(&owner.uid, *address));
                (is_here && claim.spec.kept.is_none() && !leaves && !has_it).then_some(*address)
            })
            .collect();
        for address in strays {
            self.delete(address);
        }
    }

    /// The journal is left, and the store tells what there is.
    fn kill(&mut self, number: usize) {
        let name = self.nodes[number].name.clone();
        let records = self.nodes[number].journal.values().cloned().collect();
        let node = &mut self.nodes[number];
        (node.book, node.world, node.leaving) = (Book::new(&name, records), World::new(&name, &[]), Vec::new());
        self.set_pools(number);
        let claims: Vec<AddressClaim> = self.claims.values().cloned().collect();
        let node = &mut self.nodes[number];
        for claim in claims {
            let event = Event::Applied(Object::AddressClaim(std::sync::Arc::new(claim)));
            node.world.handle(&event, &mut node.book, &mut BTreeSet::new());
        }
        node.heard = self.log.len();
    }

    fn step(&mut self, step: Step) {
        self.now += Duration::from_secs(1);
        self.wall += 1;
        let count = self.containers.len();
        match step {
            Step::Start { pod, node } => drop(self.start(pod, node)),
            Step::Stop(number) if number < count => {
                let gone = self.containers.remove(number);
                self.release(gone.node, &gone.request.attachment);
            }
            Step::Vanish(number) if number < count => drop(self.containers.remove(number)),
            Step::Stop(_) | Step::Vanish(_) => {}
            Step::Hear(number, count) => self.hear(number, count),
            Step::Settle(number) => self.settle(number),
            Step::Look(number) => self.look(number),
            Step::LetGo(number) => self.let_go(number),
            Step::Kill(number) => self.kill(number),
        }
        let mut all = BTreeSet::new();
        for address in self.containers.iter().flat_map(|container| &container.addresses) {
            assert!(all.insert(address), "{address} is at two containers after {step:?}");
        }
    }

    fn hear_all(&mut self) {
        for number in 0..NODES {
            self.hear(number, usize::MAX);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_address_is_at_two_containers_and_none_is_kept_for_ever(steps in steps()) {
        let mut cluster = Cluster::new(&[("shared", SHARED), ("own", OWN)]);
        for step in steps {
            cluster.step(step);
        }
        while !cluster.containers.is_empty() {
            cluster.step(Step::Stop(0));
        }
        for _ in 0..3 {
            for number in 0..NODES {
                cluster.hear_all();
                for step in [Step::Look(number), Step::Settle(number), Step::LetGo(number), Step::Settle(number)] {
                    cluster.step(step);
                }
            }
        }
        cluster.hear_all();
        prop_assert!(cluster.claims.is_empty(), "{:?}", cluster.claims);
        for node in &cluster.nodes {
            prop_assert!(node.journal.is_empty(), "{:?}", node.journal);
            prop_assert!(node.book.waiting().is_empty());
            prop_assert_eq!(node.book.unclaimed(), BTreeMap::new());
        }
    }
}

/// Ends the only container, and lets everybody know.
fn end(cluster: &mut Cluster) {
    cluster.step(Step::Stop(0));
    (0..NODES).for_each(|number| cluster.settle(number));
    cluster.hear_all();
}

#[test]
fn what_nodes_share_goes_where_the_pod_goes_and_what_is_a_nodes_own_stays() {
    let mut cluster = Cluster::new(&[("shared", SHARED), ("own", OWN)]);
    let first = cluster.start(0, 0).unwrap().addresses;
    end(&mut cluster);
    assert_eq!(cluster.claims[&first[0]].spec.kept.as_deref(), Some("2027-01-15T08:00:00Z"));
    assert_eq!(cluster.nodes[0].book.unclaimed(), BTreeMap::from([("own".to_owned(), 1)]));
    // Others get others meanwhile, on the node and elsewhere.
    for (pod, node) in [(1, 0), (2, 1)] {
        let other = cluster.start(pod, node).unwrap().addresses;
        assert!(other.iter().all(|address| !first.contains(address)), "{other:?}");
        end(&mut cluster);
    }
    let mut elsewhere = cluster.start(0, 0).unwrap();
    cluster.step(Step::Stop(0));
    elsewhere.request.pod.as_mut().unwrap().namespace = "office".to_owned();
    elsewhere.request.attachment.container_id = "of-office".to_owned();
    let pod = Pod { uid: "of-office".to_owned(), is_of_stateful_set: true, ..Pod::default() };
    let same_name = cluster.add(0, elsewhere.request, &pod).unwrap().addresses;
    assert!(same_name.iter().all(|address| !first.contains(address)), "of the same name, in another namespace");
    end(&mut cluster);
    // A speaker that is killed knows it still.
    cluster.kill(0);
    assert_eq!(cluster.start(0, 0).unwrap().addresses, first);
    end(&mut cluster);
    // On another node it has what is legal there.
    let moved = cluster.start(0, 1).unwrap().addresses;
    assert_eq!(moved[0], first[0]);
    assert!(moved[1].to_string().starts_with("2001:db8::2"), "{moved:?}");
    assert_eq!(cluster.claims[&first[0]].spec.node_name.as_ref().unwrap().0, "node-1");
    assert_eq!(cluster.claims[&first[0]].spec.kept, None);
    cluster.hear_all();
    let is_of_pod = |one: &Waiting| one.heir.namespace == "shop" && one.heir.pod == "web-0";
    let of_pod = cluster.nodes[0].book.waiting().into_iter().filter(is_of_pod);
    let places: Vec<Place> = of_pod.map(|one| one.place).collect();
    assert!(matches!(places[..], [Place::Book(_)]), "{places:?}");
}

#[test]
fn only_pods_of_stateful_sets_and_only_where_the_pool_says_so() {
    const PLAIN: &str = r#"{"subnet":"198.51.100.0/24","nodeNames":["node-0"],"default":true}"#;
    let mut cluster = Cluster::new(&[("plain", PLAIN)]);
    let first = cluster.start(0, 0).unwrap().addresses;
    end(&mut cluster);
    assert_ne!(cluster.start(0, 0).unwrap().addresses, first, "the pool does not say so");

    let mut cluster = Cluster::new(&[("own", OWN)]);
    let Container { request, addresses, .. } = cluster.start(0, 0).unwrap();
    cluster.containers.clear();
    cluster.nodes[0] = Cluster::new(&[("own", OWN)]).nodes.remove(0);
    let pod = Pod { uid: "u".to_owned(), ..Pod::default() };
    assert_eq!(cluster.add(0, request.clone(), &pod).unwrap().addresses, addresses);
    end(&mut cluster);
    let other = AddRequest { attachment: Attachment { container_id: "d".to_owned(), ..request.attachment }, ..request };
    let pod = Pod { uid: "v".to_owned(), ..pod };
    assert_ne!(cluster.add(0, other, &pod).unwrap().addresses, addresses, "no StatefulSet made it");
}

#[test]
fn never_an_address_that_is_not_legal_any_more() {
    let mut cluster = Cluster::new(&[("own", OWN)]);
    let first = cluster.start(0, 0).unwrap().addresses;
    end(&mut cluster);
    assert!(!cluster.nodes[0].book.waiting()[0].is_void);
    let narrow = OWN.replace("2001:db8::10-", "2001:db8::12-");
    cluster.nodes[0].book.set_pool("own", Some(pool("own", &narrow)));
    assert!(cluster.nodes[0].book.waiting()[0].is_void);
    let next = cluster.start(0, 0).unwrap().addresses;
    assert_ne!(next, first);
    assert!(cluster.nodes[0].book.waiting().is_empty(), "it has come, and has another");
}

#[test]
fn a_pod_waits_for_what_is_about_to_be_kept() {
    let mut cluster = Cluster::new(&[("shared", SHARED)]);
    let first = cluster.start(0, 0).unwrap();
    cluster.hear_all();
    let request = AddRequest {
        attachment: Attachment { container_id: "next".to_owned(), interface: "eth0".to_owned() },
        ..first.request.clone()
    };
    let pod = Pod { uid: "next".to_owned(), is_of_stateful_set: true, ..Pod::default() };
    let is_awaited = |cluster: &Cluster, number: usize| cluster.nodes[number].book.is_awaited(&request, Some(&pod));
    assert!(is_awaited(&cluster, 1), "the node that it was on has not said that it is gone");
    end(&mut cluster);
    assert!(!is_awaited(&cluster, 1));
    assert_eq!(cluster.add(1, request.clone(), &pod).unwrap().addresses, first.addresses);
}
