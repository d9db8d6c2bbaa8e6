//! The handle: notes for the thread, and what it last said.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::watch;

use super::status::FibStatus;

/// How long [`Fib::close`] waits for the thread.
const PATIENCE: Duration = Duration::from_secs(1);

/// How learned routes are kept.
#[derive(Clone, Debug)]
pub struct FibOptions {
    /// Routes of an earlier run stay that long, unless they are set again or [`Fib::settle`] is called.
    pub keep: Duration,
}

/// It does not even begin.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}")]
pub struct FibError {
    /// What was to be done.
    pub what: &'static str,
    /// What the kernel says.
    pub source: io::Error,
}

/// What becomes of the routes when it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// They stay, as under graceful restart: who starts next adopts them.
    Keep,
    /// Routes, rules and the nftables table go.
    Remove,
}

/// Learned routes in the kernel. Clones are one and the same; when the last goes, the thread ends and the routes stay.
#[derive(Clone)]
pub struct Fib {
    inbox: Arc<Inbox>,
    status: watch::Receiver<Arc<FibStatus>>,
    _last: Arc<Last>,
}

/// What the handles have said and the thread has not read.
pub(super) struct Inbox {
    notes: Mutex<Notes>,
    wake: OwnedFd,
    is_over: Mutex<bool>,
    over: Condvar,
}

/// Bounded by what exists: one entry for each prefix, and whole sets replace each other.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) changes: BTreeMap<IpNet, BTreeSet<IpAddr>>,
    pub(super) settle: bool,
    pub(super) unmasqueraded: Option<Unmasqueraded>,
    pub(super) close: Option<Ending>,
}

/// Between whom the source address is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unmasqueraded {
    pub(super) sources: BTreeSet<IpNet>,
    pub(super) destinations: BTreeSet<IpNet>,
}

struct Last(Arc<Inbox>);

impl Unmasqueraded {
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty() || self.destinations.is_empty()
    }
}

/// Starts a thread of its own, with sockets in the network namespace of this one.
pub fn start(options: FibOptions) -> Result<Fib, FibError> {
    let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
        .map_err(|error| FibError { what: "make an eventfd", source: error.into() })?;
    let inbox =
        Arc::new(Inbox { notes: Mutex::new(Notes::default()), wake, is_over: Mutex::new(false), over: Condvar::new() });
    let (said, status) = watch::channel(Arc::new(FibStatus::default()));
    let worker = super::worker::Worker::new(Arc::clone(&inbox), said, options.keep)?;
    std::thread::Builder::new()
        .name("fib".to_owned())
        .spawn(move || worker.run())
        .map_err(|source| FibError { what: "start a thread", source })?;
    let last = Arc::new(Last(Arc::clone(&inbox)));
    Ok(Fib { inbox, status, _last: last })
}

impl Fib {
    /// What is wanted of these prefixes from now on: the next hops, of which all that resolve share the traffic; none removes the route.
    /// Never blocks.
    pub fn set(&self, changes: Vec<(IpNet, BTreeSet<IpAddr>)>) {
        self.inbox
            .leave(|notes| notes.changes.extend(changes.into_iter().map(|(prefix, hops)| (prefix.trunc(), hops))));
    }

    /// Everything that is wanted has been said: what an earlier run left and nobody wants goes now.
    pub fn settle(&self) {
        self.inbox.leave(|notes| notes.settle = true);
    }

    /// Traffic from these to those keeps its source address. Whole sets, which replace the last ones in one step; an empty one means that
    /// all may be masqueraded.
    pub fn set_unmasqueraded(&self, sources: BTreeSet<IpNet>, destinations: BTreeSet<IpNet>) {
        self.inbox.leave(|notes| notes.unmasqueraded = Some(Unmasqueraded { sources, destinations }));
    }

    /// What the kernel has of us, as last seen.
    pub fn status(&self) -> Arc<FibStatus> {
        Arc::clone(&self.status.borrow())
    }

    /// Every change of [`Self::status`].
    pub fn subscribe(&self) -> watch::Receiver<Arc<FibStatus>> {
        self.status.clone()
    }

    /// Ends the thread, and waits up to a second until that is done: the answer is whether it was. Other handles are without effect then.
    pub fn close(self, ending: Ending) -> bool {
        self.inbox.leave(|notes| notes.close = Some(ending));
        let is_over = self.inbox.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.inbox.over.wait_timeout_while(is_over, PATIENCE, |is_over| !*is_over);
        let (is_over, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *is_over
    }
}

impl Inbox {
    fn leave(&self, note: impl FnOnce(&mut Notes)) {
        note(&mut self.notes());
        // It refuses only when its count is full, and then the thread is awake already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Everything said since it was last asked.
    pub(super) fn take(&self) -> Notes {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        std::mem::take(&mut *self.notes())
    }

    /// Becomes readable when something has been said.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Lets go of whoever waits in [`Fib::close`].
    pub(super) fn end(&self) {
        *self.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.over.notify_all();
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        self.0.leave(|notes| {
            notes.close.get_or_insert(Ending::Keep);
        });
    }
}
