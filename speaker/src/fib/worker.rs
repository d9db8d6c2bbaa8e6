//! The thread: reads the notes, and does in the kernel what they say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::watch;

use super::handle::{FibError, Inbox};
use super::status::{FibStatus, Missing};

/// Owns everything that the kernel has of us.
pub(super) struct Worker {
    inbox: Arc<Inbox>,
    said: watch::Sender<Arc<FibStatus>>,
    wanted: BTreeMap<ipnet::IpNet, std::collections::BTreeSet<std::net::IpAddr>>,
}

impl Worker {
    pub(super) fn new(
        inbox: Arc<Inbox>,
        said: watch::Sender<Arc<FibStatus>>,
        _keep: Duration,
    ) -> Result<Self, FibError> {
        Ok(Self { inbox, said, wanted: BTreeMap::new() })
    }

    pub(super) fn run(mut self) {
        loop {
            let wake = self.inbox.wake();
            let _ = poll(&mut [PollFd::new(&wake, PollFlags::IN)], None);
            let notes = self.inbox.take();
            self.wanted.extend(notes.changes);
            self.wanted.retain(|_, hops| !hops.is_empty());
            let missing = self.wanted.keys().map(|net| (*net, Missing("not installed".to_owned())));
            let status = FibStatus {
                missing: missing.take(super::status::MISSING_LISTED).collect(),
                missing_total: self.wanted.len(),
                ..FibStatus::default()
            };
            self.said.send_replace(Arc::new(status));
            if let Some(ending) = notes.close {
                tracing::debug!(?ending, settle = notes.settle, unmasqueraded = ?notes.unmasqueraded, "learned routes end");
                return self.inbox.end();
            }
        }
    }
}
