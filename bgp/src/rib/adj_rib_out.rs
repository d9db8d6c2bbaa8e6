//! Adj-RIB-Out: what one peer is to be told, what it was told, and the difference that is still to be sent.
//!
//! The difference is kept by prefix. A prefix that changes a hundred times while the peer's socket is full is one entry,
//! and what is sent in the end is its last state: a slow peer costs memory for the prefixes that there are, never for
//! the changes that there were. A prefix that comes back to what the peer was told already is not sent at all.
//!
//! Entries wait grouped by what goes into one UPDATE ([`Batch`]): withdrawals by family, announcements by family and
//! attributes. They leave that way too, withdrawals first, so a packet goes to nowhere for as short a time as possible.
//! Where a change replaces one prefix by another around or inside it, the new one goes before the old one is withdrawn,
//! so a packet that had a way always has one; `replacement` finds such pairs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;

use super::refresh::Refreshes;
use super::replacement::{Side, exchanged};
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
    refreshes: Refreshes,
    /// What waits to be sent; none of the sets is empty, and a prefix is in one of them at most. Announced prefixes stand
    /// under their attributes in `wanted`.
    pending: BTreeMap<Batch, BTreeSet<IpNet>>,
    /// Wanted, but with attributes that leave no room for a prefix in the largest message.
    too_large: BTreeSet<IpNet>,
}

/// What may share an UPDATE, in the order of sending.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Batch {
    /// Nothing comes in their place.
    Withdrawals(Family),
    /// Announcements that a withdrawal of the same change waits for.
    Replacements(Family, Arc<RouteAttributes>),
    /// The withdrawals that wait for those.
    Replaced(Family),
    Announcements(Family, Arc<RouteAttributes>),
}

impl Batch {
    /// The same for a part of an exchange.
    fn in_exchange(self) -> Self {
        match self {
            Self::Withdrawals(family) | Self::Replaced(family) => Self::Replaced(family),
            Self::Announcements(family, attributes) | Self::Replacements(family, attributes) => {
                Self::Replacements(family, attributes)
            }
        }
    }

    /// For a prefix that waited in `earlier`: an exchange that has begun is not forgotten because one side of it changes
    /// its attributes.
    fn after(self, earlier: Option<&Self>) -> Self {
        match (earlier, &self) {
            (Some(Self::Replacements(..)), Self::Announcements(..))
            | (Some(Self::Replaced(_)), Self::Withdrawals(_)) => self.in_exchange(),
            _ => self,
        }
    }
}

impl AdjRibOut {
    pub(crate) fn wanted(&self) -> usize {
        self.wanted.len()
    }

    pub(crate) fn told(&self) -> usize {
        self.told.len()
    }

    /// What the peer has of us, by prefix, from there on: with which attributes, if they are those that it was to get, and with
    /// which it is to have it now.
    pub(super) fn told_after(
        &self,
        start: Bound<IpNet>,
    ) -> impl Iterator<Item = (&IpNet, Option<&RouteAttributes>, Option<&RouteAttributes>)> {
        let told = self.told.range((start, Bound::Unbounded));
        told.map(|(prefix, told)| (prefix, told.as_deref(), self.wanted.get(prefix).map(AsRef::as_ref)))
    }

    pub(crate) fn too_large(&self) -> usize {
        self.too_large.len()
    }

    /// Whether [`next_message`](Self::next_message) would yield something.
    pub(crate) fn has_pending(&self, end_of_rib: EndOfRib) -> bool {
        !self.pending.is_empty()
            || !self.refreshes.is_empty()
            || (end_of_rib == EndOfRib::Release && !self.end_of_rib_due.is_empty())
    }

    /// Takes changes that belong together.
    pub(crate) fn change(&mut self, changes: Vec<RouteChange>) {
        let mut touched = Vec::with_capacity(changes.len());
        for change in changes {
            // An address inside the prefix names the same route: on the wire its host bits do not exist.
            let (prefix, attributes) = match change {
                RouteChange::Announce(prefix, attributes) => (prefix.trunc(), Some(attributes)),
                RouteChange::Withdraw(prefix) => (prefix.trunc(), None),
            };
            let earlier = self.unqueue(&prefix);
            match attributes {
                Some(attributes) => self.wanted.insert(prefix, attributes),
                None => self.wanted.remove(&prefix),
            };
            self.queue(prefix, earlier.as_ref());
            touched.push(prefix);
        }
        self.order_exchanges(touched);
    }

    /// Puts withdrawals behind the announcements of the same change that replace them. A withdrawal that waits for its
    /// replacement already waits for a newer one too.
    fn order_exchanges(&mut self, touched: Vec<IpNet>) {
        let replaced = Family::ALL.into_iter().filter_map(|family| self.pending.get(&Batch::Replaced(family)));
        let mut sides: BTreeMap<IpNet, Side> = replaced.flatten().map(|prefix| (*prefix, Side::Withdrawn)).collect();
        for prefix in touched {
            match self.batch(&prefix) {
                Some(Batch::Withdrawals(_)) => sides.insert(prefix, Side::Withdrawn),
                // What the peer has already does not become a better replacement with other attributes.
                Some(Batch::Announcements(..)) if !self.told.contains_key(&prefix) => {
                    sides.insert(prefix, Side::Announced)
                }
                _ => None,
            };
        }
        for prefix in exchanged(&sides) {
            if let Some(batch) = self.unqueue(&prefix) {
                self.pending.entry(batch.in_exchange()).or_default().insert(prefix);
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
        self.refreshes.clear();
        self.pending.clear();
        self.too_large.clear();
    }

    /// The UPDATEs after which the peer knows nothing of us any more.
    pub(crate) fn withdraw_all(&mut self, export: &Export) -> Vec<u8> {
        self.wanted.clear();
        self.pending.clear();
        self.refreshes.clear();
        for prefix in self.told.keys() {
            self.pending.entry(Batch::Withdrawals(Family::of(prefix))).or_default().insert(*prefix);
        }
        let mut messages = Vec::new();
        while let Some(message) = self.next_message(export) {
            messages.extend_from_slice(&message);
        }
        messages
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

    /// The peer has asked for everything of this family, and takes BoRR and EoRR around it (RFC 7313). Whether it is to be
    /// sent again now, and not only after the answer that it is getting.
    pub(crate) fn refresh(&mut self, family: Family) -> bool {
        // Section 4: no BoRR before End-of-RIB. What that comes after is the answer.
        let now = self.end_of_rib_due.contains(&family) || self.refreshes.request(family);
        if now {
            self.resend(family);
        }
        now
    }

    /// A family got a next hop, or lost the one that it had.
    pub(crate) fn set_open(&mut self, family: Family, open: bool) {
        let changed = if open { self.open.insert(family) } else { self.open.remove(&family) };
        if changed {
            self.queue_all(|prefix| Family::of(prefix) == family);
        }
    }

    /// The next UPDATE, as large as it may be. What it says counts as told. And before that, the beginning of an answer.
    pub(crate) fn next_message(&mut self, export: &Export) -> Option<Bytes> {
        if let Some(begin) = self.refreshes.begin() {
            return Some(begin);
        }
        while let Some(mut first) = self.pending.first_entry() {
            let (batch, prefixes) = (first.key().clone(), first.get_mut());
            match &batch {
                Batch::Withdrawals(family) | Batch::Replaced(family) => {
                    let (message, count) = update::encode_withdrawals(*family, prefixes.iter(), export);
                    for _ in 0..count {
                        if let Some(prefix) = prefixes.pop_first() {
                            self.told.remove(&prefix);
                        }
                    }
                    if prefixes.is_empty() {
                        first.remove();
                    }
                    return Some(message);
                }
                Batch::Announcements(family, attributes) | Batch::Replacements(family, attributes) => {
                    match update::encode_announcements(*family, attributes, prefixes.iter(), export) {
                        Ok((message, count)) => {
                            for _ in 0..count {
                                if let Some(prefix) = prefixes.pop_first() {
                                    self.told.insert(prefix, Some(Arc::clone(attributes)));
                                }
                            }
                            if prefixes.is_empty() {
                                first.remove();
                            }
                            return Some(message);
                        }
                        Err(too_large) => {
                            let mut prefixes = first.remove();
                            tracing::warn!(%family, prefixes = prefixes.len(), %too_large, "routes are not announced");
                            // What the peer has of them is not wanted any more, and what is wanted cannot be said.
                            let stale = prefixes.iter().filter(|prefix| self.told.contains_key(prefix)).copied();
                            let stale: BTreeSet<IpNet> = stale.collect();
                            self.too_large.append(&mut prefixes);
                            if !stale.is_empty() {
                                self.pending.entry(Batch::Withdrawals(*family)).or_default().extend(stale);
                            }
                        }
                    }
                }
            }
        }
        None
    }

    /// When there is nothing to announce or withdraw any more: the end of an answer to ROUTE-REFRESH, with the family if
    /// the peer has asked for it again meanwhile; End-of-RIB.
    pub(crate) fn next_marker(&mut self, export: &Export, end_of_rib: EndOfRib) -> Option<(Bytes, Option<Family>)> {
        let end_of_rib = |due: &mut BTreeSet<Family>| match end_of_rib {
            EndOfRib::Release => Some((update::encode_end_of_rib(due.pop_first()?, export), None)),
            EndOfRib::Withhold => None,
        };
        self.refreshes.end().or_else(|| end_of_rib(&mut self.end_of_rib_due))
    }

    /// Takes a prefix out of whatever it waits in, and says what that was. To be called before `wanted` changes.
    fn unqueue(&mut self, prefix: &IpNet) -> Option<Batch> {
        self.too_large.remove(prefix);
        let family = Family::of(prefix);
        let announced = self.wanted.get(prefix).map(|attributes| Batch::Announcements(family, Arc::clone(attributes)));
        for plain in [Some(Batch::Withdrawals(family)), announced].into_iter().flatten() {
            for batch in [plain.clone().in_exchange(), plain] {
                let Some(prefixes) = self.pending.get_mut(&batch) else { continue };
                if prefixes.remove(prefix) {
                    if prefixes.is_empty() {
                        self.pending.remove(&batch);
                    }
                    return Some(batch);
                }
            }
        }
        None
    }

    /// What a prefix has to wait in, if what the peer was told is not what it should know.
    fn batch(&self, prefix: &IpNet) -> Option<Batch> {
        let family = Family::of(prefix);
        let wanted = self.wanted.get(prefix).filter(|_| self.open.contains(&family));
        match (wanted, self.told.get(prefix)) {
            (Some(wanted), Some(Some(told))) if wanted == told => None,
            (Some(wanted), _) => Some(Batch::Announcements(family, Arc::clone(wanted))),
            (None, Some(_)) => Some(Batch::Withdrawals(family)),
            (None, None) => None,
        }
    }

    fn queue(&mut self, prefix: IpNet, earlier: Option<&Batch>) {
        if let Some(batch) = self.batch(&prefix) {
            self.pending.entry(batch.after(earlier)).or_default().insert(prefix);
        }
    }

    fn queue_all(&mut self, mut selected: impl FnMut(&IpNet) -> bool) {
        let prefixes: BTreeSet<IpNet> =
            self.wanted.keys().chain(self.told.keys()).filter(|prefix| selected(prefix)).copied().collect();
        for prefix in prefixes {
            let earlier = self.unqueue(&prefix);
            self.queue(prefix, earlier.as_ref());
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

impl EndOfRib {
    /// While others' routes are held back the dump is not complete, whatever the embedder says.
    pub(crate) const fn while_held(self, held: bool) -> Self {
        if held { Self::Withhold } else { self }
    }
}
