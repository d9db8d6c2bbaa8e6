//! Deadlines as data: each timer runs once at most, and setting it again moves it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use roadstead_api::checked::ServiceKey;

use super::claim::Uid;

/// Something to look at when its time has come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Whether the address has rested.
    Rest(IpAddr),
    /// Whether the owner of claims is still unknown.
    Orphan(Uid),
    /// Whether a former address of the Service can be given back.
    Former(ServiceKey),
    /// Whether the claims of a node that is gone can go.
    LostNode(String),
    /// Whether owners of edge hosts' prefixes are still unknown, and whether the store takes their claims by now.
    EdgeHosts,
    /// Whether the store takes the claim by now.
    Claim(IpAddr),
    /// Whether the store takes the status by now.
    Status(ServiceKey),
}

/// The timers that run.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_deadline: BTreeSet<(Instant, Timer)>,
    deadlines: BTreeMap<Timer, Instant>,
}

impl Timers {
    /// Lets a timer run, or moves it.
    pub(super) fn set(&mut self, timer: Timer, deadline: Instant) {
        if let Some(former) = self.deadlines.insert(timer.clone(), deadline) {
            self.by_deadline.remove(&(former, timer.clone()));
        }
        self.by_deadline.insert((deadline, timer));
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// The next timer whose time has come; it runs no more.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        if self.next_deadline()? > now {
            return None;
        }
        let (_, timer) = self.by_deadline.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }
}
