//! Adj-RIB-Out: what one peer is to be told, what it was told, and the difference that is still to be sent.
//!
//! The difference is kept by prefix. A prefix that changes a hundred times while the peer's socket is full is one entry,
//! and what is sent in the end is its last state: a slow peer costs memory for the prefixes that there are, never for
//! the changes that there were. A prefix that comes back to what the peer was told already is not sent at all.
//!
//! Entries wait grouped by what goes into one UPDATE: withdrawals by family, announcements by family and attributes. They
//! leave that way too, withdrawals first, so a packet goes to nowhere for as short a time as possible.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;

use crate::update::{self, Export};
use crate::{Family, RouteAttributes, RouteChange};

#[derive(Debug, Default)]
pub(crate) struct AdjRibOut {
    /// Kept while the session is down too.
    wanted: BTreeMap<IpNet, Arc<RouteAttributes>>,
    /// What the peer has of us. `None`: something, but not what is wanted now (a refresh, another next hop).
    told: BTreeMap<IpNet, Option<Arc<RouteAttributes>>>,
    /// Families in which something may be announced now: negotiated, and with a next hop.
    open: BTreeSet<Family>,
    /// Families whose End-of-RIB has not been sent in this session.
    end_of_rib_due: BTreeSet<Family>,
    withdrawals: BTreeMap<Family, BTreeSet<IpNet>>,
    /// Every prefix in here stands under its attributes in `wanted`.
    announcements: BTreeMap<(Family, Arc<RouteAttributes>), BTreeSet<IpNet>>,
    /// Wanted, but with attributes that leave no room for a prefix in the largest message.
    too_large: BTreeSet<IpNet>,
}

impl AdjRibOut {
    pub(crate) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    pub(crate) fn told(&self) -> usize {
        self.told.len()
    }

    pub(crate) fn too_large(&self) -> usize {
        self.too_large.len()
    }

    /// Whether [`next_message`](Self::next_message) would yield something.
    pub(crate) fn has_pending(&self, end_of_rib: EndOfRib) -> bool {
        !self.withdrawals.is_empty()
            || !self.announcements.is_empty()
            || (end_of_rib == EndOfRib::Release && !self.end_of_rib_due.is_empty())
    }

    pub(crate) fn change(&mut self, change: RouteChange) {
        match change {
            RouteChange::Announce(prefix, attributes) => {
                // An address inside the prefix names the same route: on the wire its host bits do not exist.
                let prefix = prefix.trunc();
                self.unqueue(&prefix);
                self.wanted.insert(prefix, attributes);
                self.queue(prefix);
            }
            RouteChange::Withdraw(prefix) => {
                let prefix = prefix.trunc();
                self.unqueue(&prefix);
                self.wanted.remove(&prefix);
                self.queue(prefix);
            }
        }
    }

    /// A session begins: the peer knows nothing. `open` are the families that can be announced, a part of `negotiated`.
    pub(crate) fn begin_session(&mut self, negotiated: &BTreeSet<Family>, open: BTreeSet<Family>) {
        self.end_session();
        self.open = open;
        self.end_of_rib_due.clone_from(negotiated);
        self.queue_all(|_| true);
    }

    /// A session has ended: the peer has forgotten everything.
    pub(crate) fn end_session(&mut self) {
        self.told.clear();
        self.open.clear();
        self.end_of_rib_due.clear();
        self.withdrawals.clear();
        self.announcements.clear();
        self.too_large.clear();
    }

    /// Sends everything of this family again (RFC 2918), because the peer asked or because the next hop is another one.
    pub(crate) fn resend(&mut self, family: Family) {
        for (prefix, told) in &mut self.told {
            if Family::of(prefix) == family {
                // Still there for the peer: should the route be withdrawn before its turn comes, it must hear that.
                *told = None;
            }
        }
        self.queue_all(|prefix| Family::of(prefix) == family);
    }

    /// A family got a next hop, or lost the one that it had.
    pub(crate) fn set_open(&mut self, family: Family, open: bool) {
        let changed = if open { self.open.insert(family) } else { self.open.remove(&family) };
        if changed {
            self.queue_all(|prefix| Family::of(prefix) == family);
        }
    }

    /// The next UPDATE, as large as it may be. What it says counts as told.
    pub(crate) fn next_message(&mut self, export: &Export, end_of_rib: EndOfRib) -> Option<Bytes> {
        if let Some((&family, prefixes)) = self.withdrawals.iter_mut().next() {
            let (message, count) = update::encode_withdrawals(family, prefixes.iter(), export);
            for _ in 0..count {
                if let Some(prefix) = prefixes.pop_first() {
                    self.told.remove(&prefix);
                }
            }
            if prefixes.is_empty() {
                self.withdrawals.remove(&family);
            }
            return Some(message);
        }
        while let Some(((family, attributes), prefixes)) = self.announcements.iter_mut().next() {
            let (family, attributes) = (*family, Arc::clone(attributes));
            match update::encode_announcements(family, &attributes, prefixes.iter(), export) {
                Ok((message, count)) => {
                    for _ in 0..count {
                        if let Some(prefix) = prefixes.pop_first() {
                            self.told.insert(prefix, Some(Arc::clone(&attributes)));
                        }
                    }
                    if prefixes.is_empty() {
                        self.announcements.remove(&(family, attributes));
                    }
                    return Some(message);
                }
                Err(too_large) => {
                    let mut prefixes = std::mem::take(prefixes);
                    self.announcements.remove(&(family, attributes));
                    tracing::warn!(%family, prefixes = prefixes.len(), %too_large, "routes are not announced");
                    // What the peer has of them is not wanted any more, and what is wanted cannot be said.
                    let stale = prefixes.iter().filter(|prefix| self.told.contains_key(prefix)).copied();
                    let stale: BTreeSet<IpNet> = stale.collect();
                    self.too_large.append(&mut prefixes);
                    if !stale.is_empty() {
                        self.withdrawals.entry(family).or_default().extend(stale);
                        return self.next_message(export, end_of_rib);
                    }
                }
            }
        }
        if end_of_rib == EndOfRib::Release {
            return self.end_of_rib_due.pop_first().map(|family| update::encode_end_of_rib(family, export));
        }
        None
    }

    /// Takes a prefix out of whatever it waits in. To be called before `wanted` changes.
    fn unqueue(&mut self, prefix: &IpNet) {
        let family = Family::of(prefix);
        self.too_large.remove(prefix);
        if let Some(prefixes) = self.withdrawals.get_mut(&family) {
            prefixes.remove(prefix);
            if prefixes.is_empty() {
                self.withdrawals.remove(&family);
            }
        }
        if let Some(attributes) = self.wanted.get(prefix) {
            let group = (family, Arc::clone(attributes));
            if let Some(prefixes) = self.announcements.get_mut(&group) {
                prefixes.remove(prefix);
                if prefixes.is_empty() {
                    self.announcements.remove(&group);
                }
            }
        }
    }

    /// Puts a prefix where it has to wait, if what the peer was told is not what it should know.
    fn queue(&mut self, prefix: IpNet) {
        let family = Family::of(&prefix);
        let wanted = self.wanted.get(&prefix).filter(|_| self.open.contains(&family));
        match (wanted, self.told.get(&prefix)) {
            (Some(wanted), Some(Some(told))) if wanted == told => {}
            (Some(wanted), _) => {
                self.announcements.entry((family, Arc::clone(wanted))).or_default().insert(prefix);
            }
            (None, Some(_)) => {
                self.withdrawals.entry(family).or_default().insert(prefix);
            }
            (None, None) => {}
        }
    }

    fn queue_all(&mut self, mut selected: impl FnMut(&IpNet) -> bool) {
        let prefixes: BTreeSet<IpNet> =
            self.wanted.keys().chain(self.told.keys()).filter(|prefix| selected(prefix)).copied().collect();
        for prefix in prefixes {
            self.unqueue(&prefix);
            self.queue(prefix);
        }
    }
}

/// Whether the first dump counts as complete once nothing is pending: not before the embedder has said all that it knows,
/// or a restarted router would drop the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndOfRib {
    Withhold,
    Release,
}
