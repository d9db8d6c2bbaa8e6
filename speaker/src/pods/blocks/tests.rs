//! Nodes, each with its book, before a store that tells everybody the same in the same order. Whatever order they act in, and
//! whenever they are killed, no block is at two nodes and no address at two pods.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use roadstead_api::checked::{AddressSet, ClaimName, PodPool};
use roadstead_api::kinds;
use roadstead_cni::socket::{AddRequest, Attachment, NetworkIdentity};

use super::*;
use crate::pods::book::Reservation;
use crate::pods::record::Record;

const NODES: usize = 4;
/// Sixteen blocks of four.
const POOL: &str = r#"{"subnet":"10.1.0.0/26","blockPrefixLength":30,"advertise":"Block","default":true}"#;

/// What the store tells, in its order.
#[derive(Clone, Debug)]
enum Told {
    Claimed { net: IpNet, node: usize, version: u64 },
    Gone(IpNet),
}

/// A node: what is lost when it is killed, and what is not.
struct Node {
    book: Book,
    /// How much of what the store tells it has heard.
    heard: usize,
    /// What it asked the store for last, and has no answer to.
    journal: Vec<Record>,
    containers: usize,
}

struct World {
    now: Instant,
    nodes: Vec<Node>,
    claims: BTreeMap<IpNet, (usize, u64)>,
    log: Vec<Told>,
    version: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A container of this node wants an address; where that takes a block, it is asked for.
    Add(usize),
    /// One of its containers goes.
    Del(usize),
    /// The node hears so much of what it has not heard.
    Hear(usize, usize),
    /// Empty blocks go on their way, and what is on its way is given back.
    GiveBack(usize),
    /// The node asks for a block, and is killed before it hears of it.
    ClaimAndDie(usize),
    Kill(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = 0..NODES;
    let step = prop_oneof![
        8 => node.clone().prop_map(Step::Add),
        6 => node.clone().prop_map(Step::Del),
        6 => (node.clone(), 1..5usize).prop_map(|(node, count)| Step::Hear(node, count)),
        3 => node.clone().prop_map(Step::GiveBack),
        1 => node.clone().prop_map(Step::ClaimAndDie),
        1 => node.prop_map(Step::Kill),
    ];
    prop::collection::vec(step, 1..200)
}

fn pool() -> PodPool {
    let raw = format!(r#"{{"metadata":{{"name":"p"}},"spec":{POOL}}}"#);
    let raw: kinds::PodPool = serde_json::from_str(&raw).unwrap();
    PodPool { is_judged: true, ..PodPool::check(&raw).unwrap() }
}

fn request(node: usize, container: usize) -> AddRequest {
    AddRequest {
        attachment: Attachment { container_id: format!("c{node}-{container}"), interface: "eth0".to_owned() },
        pod: None,
        netns: "/run/netns/x".to_owned(),
        network: NetworkIdentity { name: "net".to_owned(), definition: None, pools: Vec::new() },
        requested: Vec::new(),
    }
}

impl World {
    fn new() -> Self {
        let node =
            |number: usize| Node { book: book(number, Vec::new()), heard: 0, journal: Vec::new(), containers: 0 };
        Self {
            now: Instant::now(),
            nodes: (0..NODES).map(node).collect(),
            claims: BTreeMap::new(),
            log: Vec::new(),
            version: 0,
        }
    }

    /// The store's answer to a claim: its name is the lock.
    fn claim(&mut self, net: IpNet, node: usize) -> bool {
        if self.claims.contains_key(&net) {
            return false;
        }
        self.version += 1;
        self.claims.insert(net, (node, self.version));
        self.log.push(Told::Claimed { net, node, version: self.version });
        true
    }

    fn hear(&mut self, number: usize, count: usize) {
        let node = &mut self.nodes[number];
        for told in self.log.iter().skip(node.heard).take(count) {
            node.heard += 1;
            tell(&mut node.book, self.now, number, told);
        }
    }

    /// Only the journal is left, and the store tells what there is.
    fn kill(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        node.book = book(number, node.journal.clone());
        for (net, (owner, version)) in &self.claims {
            let told = Told::Claimed { net: *net, node: *owner, version: *version };
            tell(&mut node.book, self.now, number, &told);
        }
        node.heard = self.log.len();
    }

    fn step(&mut self, step: Step) {
        self.now += Duration::from_secs(1);
        match step {
            Step::Add(number) => self.add(number),
            Step::Del(number) => {
                let node = &mut self.nodes[number];
                if !node.journal.is_empty() {
                    let record = node.journal.remove(0);
                    assert!(node.book.release(self.now, 0, &record.attachment).is_some(), "it forgot {record:?}");
                }
            }
            Step::Hear(number, count) => self.hear(number, count),
            Step::GiveBack(number) => {
                let book = &mut self.nodes[number].book;
                book.let_empty_blocks_go(self.now, Duration::from_secs(2));
                for (net, version) in book.leaving_blocks() {
                    let is_that = |(_, stored): &(usize, u64)| stored.to_string() == version.resource_version;
                    if self.claims.get(&net).is_some_and(is_that) {
                        self.claims.remove(&net);
                        self.log.push(Told::Gone(net));
                    }
                }
            }
            Step::ClaimAndDie(number) => {
                if let Some(net) = self.nodes[number].book.next_block("p") {
                    self.claim(net, number);
                }
                self.kill(number);
            }
            Step::Kill(number) => self.kill(number),
        }
        self.check();
    }

    fn add(&mut self, number: usize) {
        let container = self.nodes[number].containers;
        loop {
            let node = &mut self.nodes[number];
            match node.book.reserve(self.now, &request(number, container), None) {
                Ok(Reservation::New(record, to_claim)) => {
                    assert_eq!(to_claim, [], "an address of a block needs no claim");
                    node.journal.push(record.clone());
                    node.book.enter(self.now, record);
                    node.containers += 1;
                    return;
                }
                Ok(Reservation::NeedsBlock(pool)) => {
                    let net = node.book.next_block(&pool).unwrap();
                    if self.claim(net, number) {
                        // The watch tells of it later, and then the next ADD is served.
                        return;
                    }
                    self.nodes[number].book.set_foreign_block(net);
                }
                Ok(other) => panic!("{other:?}"),
                // All blocks are somebody's, as far as it has heard.
                Err(_) => return,
            }
        }
    }

    fn check(&self) {
        let mut addresses = BTreeSet::new();
        for held in self.nodes.iter().flat_map(|node| &node.journal).flat_map(|record| &record.held) {
            assert!(addresses.insert(held.address), "{} is at two pods", held.address);
        }
        let mut announced = BTreeSet::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let all: BTreeSet<IpNet> = node.book.own_blocks().map(|(net, _)| *net).collect();
            for net in node.book.announcements(&all).into_keys() {
                assert!(announced.insert(net), "{net} is announced by two nodes");
                assert_eq!(self.claims.get(&net).map(|(owner, _)| *owner), Some(number), "{net} is not claimed");
            }
        }
        for held in self.nodes.iter().flat_map(|node| &node.journal).flat_map(|record| &record.held) {
            assert!(announced.iter().any(|net| net.contains(&held.address)), "no route leads to {}", held.address);
        }
    }
}

fn book(number: usize, journal: Vec<Record>) -> Book {
    let mut book = Book::new(&format!("node-{number}"), journal);
    book.set_pool("p", Some(pool()));
    book
}

fn tell(book: &mut Book, now: Instant, number: usize, told: &Told) {
    match told {
        Told::Claimed { net, node, version } if *node == number => {
            let version = ClaimVersion { uid: version.to_string(), resource_version: version.to_string() };
            book.set_own_block(now, *net, OwnBlock::confirmed("p", version));
        }
        Told::Claimed { net, .. } => book.set_foreign_block(*net),
        Told::Gone(net) => book.forget_block(*net),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_block_is_at_two_nodes_and_no_address_at_two_pods(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        // When all is heard and everybody's pods are gone, each node has one block at most.
        for number in 0..NODES {
            world.hear(number, usize::MAX);
            while !world.nodes[number].journal.is_empty() {
                world.step(Step::Del(number));
            }
        }
        for _ in 0..2 * NODES {
            world.now += Duration::from_secs(60);
            for number in 0..NODES {
                world.step(Step::GiveBack(number));
                world.hear(number, usize::MAX);
            }
        }
        for number in 0..NODES {
            let blocks = world.nodes[number].book.own_blocks().count();
            prop_assert!(blocks <= 1, "node {number} keeps {blocks}");
        }
        prop_assert_eq!(world.claims.len(), world.nodes.iter().map(|node| node.book.own_blocks().count()).sum::<usize>());
    }
}

#[test]
fn another_block_when_all_are_four_fifths_full() {
    let mut world = World::new();
    let nearly_full = |world: &World| world.nodes[0].book.pools_nearly_full();
    let block = |world: &mut World| {
        let net = world.nodes[0].book.next_block("p").unwrap();
        assert!(world.claim(net, 0));
        world.hear(0, 9);
        net
    };
    // Those at the ends have less than four addresses.
    for net in ["10.1.0.0/30", "10.1.0.60/30"] {
        assert!(world.claim(net.parse().unwrap(), 1));
    }
    world.hear(0, 9);
    assert!(nearly_full(&world).is_empty(), "it wants none before a pod does");
    block(&mut world);
    for _ in 0..3 {
        world.add(0);
        assert!(nearly_full(&world).is_empty());
    }
    world.add(0);
    assert_eq!(nearly_full(&world), ["p"]);
    block(&mut world);
    assert!(nearly_full(&world).is_empty());
    world.step(Step::Del(0));
    world.step(Step::Kill(0));
    world.add(0);
    assert_eq!(world.nodes[0].journal.len(), 4, "its blocks are its own after a restart");
}

#[test]
fn a_block_across_what_others_have_is_void() {
    let mut book = book(0, Vec::new());
    let now = Instant::now();
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let own = |uid: &str| {
        let version = ClaimVersion { uid: uid.to_owned(), resource_version: "1".to_owned() };
        OwnBlock::confirmed("p", version)
    };
    book.set_foreign_block(net("10.1.0.0/29"));
    book.set_others_claim("10.1.0.9".parse().unwrap(), true);
    book.set_own_block(now, net("10.1.0.4/30"), own("a"));
    book.set_own_block(now, net("10.1.0.8/30"), own("b"));
    book.set_own_block(now, net("10.1.0.12/30"), own("c"));
    let leaving: Vec<String> = book.leaving_blocks().iter().map(|(net, _)| ClaimName::from(*net).to_string()).collect();
    assert_eq!(leaving, ["10.1.0.4-30", "10.1.0.8-30"]);
    // Ours was told first: then theirs is the one that is void, and they will say so.
    book.set_foreign_block(net("10.1.0.12/31"));
    assert_eq!(book.leaving_blocks().len(), 2);
    let mut claimable = BTreeSet::new();
    while let Some(next) = book.next_block("p") {
        claimable.insert(next);
        book.set_foreign_block(next);
    }
    assert_eq!(claimable.len(), 12, "sixteen but for four");
    book.set_verdicts(BTreeMap::new(), AddressSet::default());
}

#[test]
fn the_last_block_of_a_large_pool_is_found() {
    let mut book = Book::new("node-1", Vec::new());
    let raw = r#"{"metadata":{"name":"p"},"spec":{"subnet":"10.0.0.0/12","blockPrefixLength":26}}"#;
    let large = PodPool::check(&serde_json::from_str::<kinds::PodPool>(raw).unwrap()).unwrap();
    book.set_pool("p", Some(large));
    let last: IpNet = "10.9.7.64/26".parse().unwrap();
    for number in 0..1u32 << 14 {
        let net: IpNet = format!("{}/26", std::net::Ipv4Addr::from(0x0a00_0000 + (number << 6))).parse().unwrap();
        if net != last {
            book.set_foreign_block(net);
        }
    }
    assert_eq!(book.next_block("p"), Some(last));
    book.set_foreign_block(last);
    assert_eq!(book.next_block("p"), None);
}
