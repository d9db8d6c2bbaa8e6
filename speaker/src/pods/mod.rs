//! Addresses for the pods of this node, for the CNI plugin that asks on the speaker's socket.
//!
//! ```text
//!  store: PodPool, Pod, Namespace, AddressClaim --> [ Book: pure ] <--reserve, enter, release-- [server] <--socket-- roadstead-cni
//!                                                        |                                         |
//!                                          journal on disk'                 AddressClaim, where nodes share a pool
//!  [tend]: DELs that were left, claims to delete, containers that are gone
//! ```
//!
//! A pool with blocks needs no claim for an address, but one for each block (`blocks.rs`). The kernel holds a block by a route
//! (`kernel.rs`), and only then are routers told of it; and only when none of them knows the way any more is its claim deleted.
//!
//! Which interface has which address is this node's own knowledge: the book (`book.rs`), kept on disk by the journal. Nothing
//! is written to the API for a pool whose addresses are this node's alone; an address of a pool that nodes share is claimed first,
//! and the claim's name is the lock.
//!
//! An address comes back by DEL, by GC, or because container and pod are both gone, and not before: a pod that the API server has
//! forgotten may still run here.

mod blocks;
mod book;
mod choice;
mod hold;
mod journal;
mod kept;
mod kernel;
mod reach;
mod record;
mod room;
mod server;
mod tend;
mod wish;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use roadstead_api::kinds::{BlockReport, CidrText, PodPoolReport, PodsReport};
use roadstead_api::store::{Event, Kind, Store, Watch};
use roadstead_cni::socket::Attachment;
use tokio::sync::Notify;

use crate::picture::MissingNode;
use book::Book;
use journal::Journal;
use record::{ClaimVersion, Owner, Record};
use world::World;

/// The journal's name in the state directory.
const JOURNAL: &str = "pods.journal";

/// How pods' addresses are served.
#[derive(Clone, Debug)]
pub struct PodOptions {
    /// Where the journal is kept.
    pub state: PathBuf,
    /// The socket, beside which the plugin leaves the DELs that nobody heard.
    pub socket: PathBuf,
    /// How long a block is kept that no pod has an address of.
    pub block_return: Duration,
}

/// How long a block is kept that no pod has an address of, unless somebody says otherwise.
pub const BLOCK_RETURN: Duration = Duration::from_secs(300);

/// What a report has room for.
const MOST_REPORTED: usize = 1024;
const LONGEST_REASON: usize = 1024;
const LONGEST_PROBLEM: usize = 256;

/// The journal cannot be had: without it an address could be given twice.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the journal of pods' addresses at {}: {source}; choose another directory with --state", path.display())]
pub struct JournalError {
    path: PathBuf,
    source: io::Error,
}

/// The addresses of this node's pods; cheap to clone.
#[derive(Clone)]
pub struct Pods(Arc<Shared>);

struct Shared {
    store: Store,
    node: String,
    socket: PathBuf,
    /// Whether a pod that no store knows is served.
    unknown_pods: MissingNode,
    block_return: Duration,
    state: Mutex<State>,
    /// One block at a time: whoever waits for one may be served by it.
    claiming: tokio::sync::Mutex<()>,
    /// Something in the world changed: who waits for a pod looks again.
    changed: Notify,
    /// There is something to tend to.
    untended: Notify,
    /// There is something to report.
    news: Notify,
}

struct State {
    book: Book,
    journal: Journal,
    world: World,
    leaving: Vec<Leaving>,
    /// DELs that came before everything was read: until then nobody knows what waits for whom.
    early: BTreeSet<Attachment>,
    /// Blocks that the kernel holds, and why it does not hold others.
    held: BTreeSet<IpNet>,
    problems: BTreeMap<IpNet, String>,
    /// What routers are told of, as the speaker was last told, with its pool.
    announced: BTreeMap<IpNet, String>,
    /// What they are not to be told of any more, and since when; until none of them knows it.
    withdrawing: BTreeMap<IpNet, Instant>,
    /// Blocks of nodes that are gone.
    lost_blocks: BTreeSet<IpNet>,
    /// Whether it is known which of our blocks the kernel holds.
    is_settled: bool,
}

/// Claims that are to be deleted, or marked as kept. Their addresses are given to nobody before.
struct Leaving {
    /// Who is out of the journal once they are.
    owner: Option<Owner>,
    claims: Vec<(IpAddr, ClaimVersion, End)>,
}

/// What is to become of a claim whose address nobody has any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Anybody may have the address.
    Free,
    /// It waits for the next pod of its owner's name.
    Kept,
}

impl State {
    /// Whether a router may know the way to a prefix.
    fn is_told(&self, net: IpNet) -> bool {
        self.announced.contains_key(&net) || self.withdrawing.contains_key(&net)
    }

    /// Lets addresses go whose claims are to be deleted.
    fn leave(&mut self, claims: Vec<(IpAddr, ClaimVersion)>) {
        let claims = claims.into_iter().map(|(address, claim)| (address, claim, End::Free));
        self.part(None, claims.collect());
    }

    /// Lets addresses go: those of shared pools when that is done with their claims, and the journal forgets the owner then.
    fn part(&mut self, owner: Option<Owner>, claims: Vec<(IpAddr, ClaimVersion, End)>) {
        if claims.is_empty() {
            if let Some(owner) = owner {
                self.forget(&owner);
            }
            return;
        }
        for (address, ..) in &claims {
            self.book.set_foreign(*address, true);
        }
        self.leaving.push(Leaving { owner, claims });
    }

    /// Notes in the journal what waits from now on. Where that fails, its container is found gone once more after a restart.
    fn note_kept(&mut self, kept: &Record) {
        if let Err(error) = self.journal.has(kept) {
            tracing::warn!(%error, "the node's journal of addresses cannot be written");
        }
    }

    /// Strikes an owner out of the journal. Where that fails it is found gone once more after a restart.
    fn forget(&mut self, owner: &Owner) {
        if self.book.has(owner) {
            return;
        }
        let done = self.journal.gone(owner).and_then(|()| self.journal.tidy(self.book.journal()));
        if let Err(error) = done {
            tracing::warn!(%error, "the node's journal of addresses cannot be written");
        }
    }
}

impl Pods {
    /// What has to be watched besides what the routes need.
    pub fn watches(node: &str) -> Vec<Watch> {
        vec![Watch::all(Kind::PodPool), Watch::all(Kind::Namespace), Watch::pods_of_node(node)]
    }

    /// Opens the journal.
    pub fn open(
        store: Store,
        node: &str,
        unknown_pods: MissingNode,
        options: &PodOptions,
    ) -> Result<Self, JournalError> {
        let path = options.state.join(JOURNAL);
        let (journal, records) = Journal::open(&path).map_err(|source| JournalError { path, source })?;
        let state = State {
            book: Book::new(node, records),
            journal,
            world: World::new(node, &Self::watches(node)),
            leaving: Vec::new(),
            early: BTreeSet::new(),
            held: BTreeSet::new(),
            problems: BTreeMap::new(),
            announced: BTreeMap::new(),
            withdrawing: BTreeMap::new(),
            lost_blocks: BTreeSet::new(),
            is_settled: false,
        };
        Ok(Self(Arc::new(Shared {
            store,
            node: node.to_owned(),
            socket: options.socket.clone(),
            unknown_pods,
            block_return: options.block_return,
            state: Mutex::new(state),
            claiming: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            untended: Notify::new(),
            news: Notify::new(),
        })))
    }

    /// Takes an event of the store in.
    pub fn handle(&self, event: &Event) {
        let State { book, world, lost_blocks, .. } = &mut *self.state();
        if world.handle(event, book, lost_blocks) {
            self.0.changed.notify_waiters();
            self.0.untended.notify_one();
        }
    }

    /// Whether all is known that routers are to be told of from the start.
    pub fn is_settled(&self) -> bool {
        self.state().is_settled
    }

    /// What routers are to be told of, with its pool, where that is something else than before.
    pub fn new_announcements(&self) -> Option<BTreeMap<IpNet, String>> {
        let state = &mut *self.state();
        if !state.world.unsynced().is_empty() {
            return None;
        }
        let wanted = state.book.announcements(&state.held);
        if wanted == state.announced {
            return None;
        }
        let now = Instant::now();
        let gone = state.announced.keys().filter(|net| !wanted.contains_key(*net));
        state.withdrawing.extend(gone.map(|net| (*net, now)));
        state.withdrawing.retain(|net, _| !wanted.contains_key(net));
        state.announced.clone_from(&wanted);
        Some(wanted)
    }

    /// What no router is to know any more, and since when.
    pub fn withdrawing(&self) -> BTreeMap<IpNet, Instant> {
        self.state().withdrawing.clone()
    }

    /// No router knows the way to this prefix any more.
    pub fn withdrawn(&self, net: IpNet) {
        self.state().withdrawing.remove(&net);
        self.0.untended.notify_one();
        self.0.news.notify_one();
    }

    /// Blocks of nodes that are gone. Whether a router still knows a way there is worth a report.
    pub fn lost_blocks(&self) -> BTreeSet<IpNet> {
        self.state().lost_blocks.clone()
    }

    /// Waits until a pod got or gave back an address.
    pub async fn news(&self) {
        self.0.news.notified().await;
    }

    /// What the node's report says of them; `heard` are blocks of nodes that are gone, and that some router still knows a way to.
    pub fn report(&self, heard: BTreeSet<IpNet>) -> PodsReport {
        let state = &*self.state();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let mut pools: BTreeMap<String, PodPoolReport> = BTreeMap::new();
        for (name, allocated) in state.book.unclaimed() {
            pools.insert(name.clone(), PodPoolReport { name, allocated, exhausted: None });
        }
        for (name, why) in state.book.exhausted() {
            let why = why.chars().take(LONGEST_REASON).collect();
            let report =
                pools.entry(name.clone()).or_insert_with(|| PodPoolReport { name, ..PodPoolReport::default() });
            report.exhausted = Some(why);
        }
        let mut blocks: BTreeMap<IpNet, BlockReport> = BTreeMap::new();
        for (net, block) in state.book.own_blocks() {
            let problem = state.problems.get(net).map(|problem| problem.chars().take(LONGEST_PROBLEM).collect());
            let allocated = count(state.book.allocated_in(*net));
            let (cidr, pool) = (CidrText(net.to_string()), block.pool.clone());
            blocks.insert(*net, BlockReport { cidr, pool, allocated, announced: state.is_told(*net), problem });
        }
        // What may be announced still, although it is nothing of ours any more.
        for net in state.announced.keys().chain(state.withdrawing.keys()) {
            let pool = state.announced.get(net).cloned().unwrap_or_default();
            let allocated = i64::from(state.announced.contains_key(net) && net.prefix_len() == net.max_prefix_len());
            let cidr = CidrText(net.to_string());
            blocks.entry(*net).or_insert(BlockReport { cidr, pool, allocated, announced: true, problem: None });
        }
        PodsReport {
            attachments: count(state.book.records().len()),
            pools: pools.into_values().collect(),
            blocks: blocks.into_values().take(MOST_REPORTED).collect(),
            heard: heard.into_iter().take(MOST_REPORTED).map(|net| CidrText(net.to_string())).collect(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self) -> &Path {
        &self.0.socket
    }
}
