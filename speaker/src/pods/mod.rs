//! Addresses for the pods of this node, for the CNI plugin that asks on the speaker's socket.
//!
//! ```text
//!  store: PodPool, Pod, Namespace, AddressClaim --> [ Book: pure ] <--reserve, enter, release-- [server] <--socket-- roadstead-cni
//!                                                        |                                         |
//!                                          journal on disk'                 AddressClaim, where nodes share a pool
//!  [tend]: DELs that were left, claims to delete, containers that are gone
//! ```
//!
//! Which interface has which address is this node's own knowledge: the book (`book.rs`), kept on disk by the journal. Nothing
//! is written to the API for a pool whose addresses are this node's alone; an address of a pool that nodes share is claimed first,
//! and the claim's name is the lock.
//!
//! An address comes back by DEL, by GC, or because container and pod are both gone, and not before: a pod that the API server has
//! forgotten may still run here.

mod book;
mod choice;
mod free;
mod journal;
mod reach;
mod record;
mod server;
mod tend;
mod wish;
mod world;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roadstead_api::kinds::{PodPoolReport, PodsReport};
use roadstead_api::store::{Event, Kind, Store, Watch};
use tokio::sync::Notify;

use crate::picture::MissingNode;
use book::Book;
use journal::Journal;
use reach::Behind;
use record::{ClaimVersion, Owner};
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
}

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
    state: Mutex<State>,
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
    behind: Behind,
    leaving: Vec<Leaving>,
}

/// Claims that are to be deleted. Their addresses are given to nobody before.
struct Leaving {
    /// Who is out of the journal once they are.
    owner: Option<Owner>,
    claims: Vec<(IpAddr, ClaimVersion)>,
}

impl State {
    /// Lets addresses go: those of shared pools when their claims are deleted, and the journal forgets the owner then.
    fn leave(&mut self, owner: Option<Owner>, claims: Vec<(IpAddr, ClaimVersion)>) {
        if claims.is_empty() {
            if let Some(owner) = owner {
                self.forget(&owner);
            }
            return;
        }
        for (address, _) in &claims {
            self.book.set_foreign(*address, true);
        }
        self.leaving.push(Leaving { owner, claims });
    }

    /// Strikes an owner out of the journal. Where that fails it is found gone once more after a restart.
    fn forget(&mut self, owner: &Owner) {
        if self.book.has(owner) {
            return;
        }
        let done = self.journal.gone(owner).and_then(|()| self.journal.tidy(self.book.records()));
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
            world: World::new(&Self::watches(node)),
            behind: Behind::default(),
            leaving: Vec::new(),
        };
        Ok(Self(Arc::new(Shared {
            store,
            node: node.to_owned(),
            socket: options.socket.clone(),
            unknown_pods,
            state: Mutex::new(state),
            changed: Notify::new(),
            untended: Notify::new(),
            news: Notify::new(),
        })))
    }

    /// Takes an event of the store in.
    pub fn handle(&self, event: &Event) {
        let State { book, world, behind, .. } = &mut *self.state();
        behind.handle(event);
        if world.handle(event, book) {
            self.0.changed.notify_waiters();
        }
    }

    /// Waits until a pod got or gave back an address.
    pub async fn news(&self) {
        self.0.news.notified().await;
    }

    /// What the node's report says of them.
    pub fn report(&self) -> PodsReport {
        let book = &self.state().book;
        let pools = book.unclaimed().into_iter().map(|(name, allocated)| PodPoolReport { name, allocated });
        PodsReport { attachments: i64::try_from(book.records().len()).unwrap_or(i64::MAX), pools: pools.collect() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self) -> &Path {
        &self.0.socket
    }
}
