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

use std::collections::btree_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;

use super::refresh::Refreshes;
use super::replacement::{Side, exchanged};
use super::sorted::{SortedAttributes, SortedPrefix};
use crate::update::{self, EncodedAttributes, Export};
use crate::{Family, RouteAttributes, RouteChange};

#[derive(Debug, Default)]
pub(crate) struct AdjRibOut {
    /// Every prefix that is wanted, or that the peer has of us.
    entries: BTreeMap<SortedPrefix, Entry>,
    counts: Counts,
    /// Families in which something may be announced now: negotiated, and with a next hop.
    open: BTreeSet<Family>,
    /// Families whose End-of-RIB has not been sent in this session.
    end_of_rib_due: BTreeSet<Family>,
    refreshes: Refreshes,
    /// What waits to be sent; none of the sets is empty, and each prefix stands where its entry says.
    pending: BTreeMap<Batch, BTreeSet<SortedPrefix>>,
}

/// What there is to know about one prefix.
#[derive(Debug, Default)]
struct Entry {
    /// Kept while the session is down too.
    wanted: Option<Arc<RouteAttributes>>,
    told: Told,
    /// In which batch of its family and of the attributes in `wanted` it waits.
    waits: Option<Turn>,
    /// Wanted, but with attributes that leave no room for a prefix in the largest message.
    too_large: bool,
}

/// What the peer has of us.
#[derive(Debug, Default)]
enum Told {
    #[default]
    Nothing,
    /// Something, but not what is wanted now (a refresh, another next hop).
    Outdated,
    This(Arc<RouteAttributes>),
}

/// Of all entries.
#[derive(Debug, Default)]
struct Counts {
    wanted: usize,
    told: usize,
    too_large: usize,
}

/// What may share an UPDATE, in the order of sending.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Batch {
    turn: Turn,
    family: Family,
    /// Of announcements.
    attributes: Option<SortedAttributes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    /// Nothing comes in their place.
    Withdrawals,
    /// Announcements that a withdrawal of the same change waits for.
    Replacements,
    /// The withdrawals that wait for those.
    Replaced,
    Announcements,
}

impl Turn {
    const fn announces(self) -> bool {
        matches!(self, Self::Replacements | Self::Announcements)
    }

    /// The same for a part of an exchange.
    const fn in_exchange(self) -> Self {
        if self.announces() { Self::Replacements } else { Self::Replaced }
    }

    /// For a prefix that waited in `earlier`: an exchange that has begun is not forgotten because one side of it changes
    /// its attributes.
    fn after(self, earlier: Option<Self>) -> Self {
        match earlier {
            Some(earlier) if earlier == self.in_exchange() => earlier,
            _ => self,
        }
    }
}

impl Told {
    const fn is_something(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    const fn attributes(&self) -> Option<&Arc<RouteAttributes>> {
        match self {
            Self::This(attributes) => Some(attributes),
            Self::Nothing | Self::Outdated => None,
        }
    }
}

impl Entry {
    /// When it has to be sent, if what the peer was told is not what it should know.
    fn turn(&self, open: bool) -> Option<Turn> {
        match (self.wanted.as_ref().filter(|_| open), &self.told) {
            (Some(wanted), Told::This(told)) if wanted == told => None,
            (Some(_), _) => Some(Turn::Announcements),
            (None, Told::Outdated | Told::This(_)) => Some(Turn::Withdrawals),
            (None, Told::Nothing) => None,
        }
    }

    /// The batch in which it waits.
    fn batch(&self, turn: Turn, family: Family) -> Batch {
        let attributes = self.wanted.clone().filter(|_| turn.announces());
        Batch { turn, family, attributes: attributes.map(SortedAttributes) }
    }

    /// Takes it out of whatever it waits in, and says what that was. To be called before `wanted` changes.
    fn unqueue(&mut self, prefix: &IpNet, pending: &mut BTreeMap<Batch, BTreeSet<SortedPrefix>>) -> Option<Turn> {
        let turn = self.waits.take()?;
        let batch = self.batch(turn, Family::of(prefix));
        if let Some(prefixes) = pending.get_mut(&batch) {
            prefixes.remove(&SortedPrefix(*prefix));
            if prefixes.is_empty() {
                pending.remove(&batch);
            }
        }
        Some(turn)
    }

    fn queue(&mut self, prefix: IpNet, turn: Turn, pending: &mut BTreeMap<Batch, BTreeSet<SortedPrefix>>) {
        self.waits = Some(turn);
        pending.entry(self.batch(turn, Family::of(&prefix))).or_default().insert(SortedPrefix(prefix));
    }

    const fn is_unused(&self) -> bool {
        self.wanted.is_none() && !self.told.is_something()
    }
}

impl AdjRibOut {
    pub(crate) const fn wanted(&self) -> usize {
        self.counts.wanted
    }

    pub(crate) const fn told(&self) -> usize {
        self.counts.told
    }

    /// What the peer has of us, by prefix, from there on: with which attributes, if they are those that it was to get, and with
    /// which it is to have it now.
    pub(super) fn told_after(
        &self,
        start: Bound<IpNet>,
    ) -> impl Iterator<Item = (&IpNet, Option<&RouteAttributes>, Option<&RouteAttributes>)> {
        let from = (start.map(SortedPrefix), Bound::Unbounded);
        let told = self.entries.range(from).filter(|(_, entry)| entry.told.is_something());
        told.map(|(prefix, entry)| (&prefix.0, entry.told.attributes().map(AsRef::as_ref), entry.wanted.as_deref()))
    }

    pub(crate) const fn too_large(&self) -> usize {
        self.counts.too_large
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
            let mut place = match self.entries.entry(SortedPrefix(prefix)) {
                MapEntry::Vacant(_) if attributes.is_none() => continue,
                MapEntry::Vacant(vacant) => vacant.insert_entry(Entry::default()),
                MapEntry::Occupied(known) => known,
            };
            let entry = place.get_mut();
            let earlier = entry.unqueue(&prefix, &mut self.pending);
            self.counts.too_large -= usize::from(std::mem::take(&mut entry.too_large));
            let wanted_before = std::mem::replace(&mut entry.wanted, attributes);
            self.counts.wanted += usize::from(entry.wanted.is_some());
            self.counts.wanted -= usize::from(wanted_before.is_some());
            if let Some(turn) = entry.turn(self.open.contains(&Family::of(&prefix))) {
                entry.queue(prefix, turn.after(earlier), &mut self.pending);
                touched.push(prefix);
            }
            if entry.is_unused() {
                place.remove();
            }
        }
        self.order_exchanges(touched);
    }

    /// Puts withdrawals behind the announcements of the same change that replace them. A withdrawal that waits for its
    /// replacement already waits for a newer one too.
    fn order_exchanges(&mut self, touched: Vec<IpNet>) {
        let waits = |announces| self.pending.keys().any(|batch| batch.turn.announces() == announces);
        if !(waits(true) && waits(false)) {
            return;
        }
        let replaced = |family| self.pending.get(&Batch { turn: Turn::Replaced, family, attributes: None });
        let replaced = Family::ALL.into_iter().filter_map(replaced).flatten();
        let mut sides: BTreeMap<IpNet, Side> = replaced.map(|prefix| (prefix.0, Side::Withdrawn)).collect();
        for prefix in touched {
            match self.entries.get(&SortedPrefix(prefix)) {
                Some(Entry { waits: Some(Turn::Withdrawals | Turn::Replaced), .. }) => {
                    sides.insert(prefix, Side::Withdrawn)
                }
                // What the peer has already does not become a better replacement with other attributes.
                Some(Entry { waits: Some(_), told: Told::Nothing, .. }) => sides.insert(prefix, Side::Announced),
                _ => None,
            };
        }
        for prefix in exchanged(&sides) {
            let Some(entry) = self.entries.get_mut(&SortedPrefix(prefix)) else { continue };
            if let Some(turn) = entry.unqueue(&prefix, &mut self.pending) {
                entry.queue(prefix, turn.in_exchange(), &mut self.pending);
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
        self.open.clear();
        self.end_of_rib_due.clear();
        self.refreshes.clear();
        self.pending.clear();
        self.entries.retain(|_, entry| {
            (entry.told, entry.waits, entry.too_large) = (Told::Nothing, None, false);
            entry.wanted.is_some()
        });
        (self.counts.told, self.counts.too_large) = (0, 0);
    }

    /// The UPDATEs after which the peer knows nothing of us any more.
    pub(crate) fn withdraw_all(&mut self, export: &Export) -> Vec<u8> {
        self.pending.clear();
        self.refreshes.clear();
        self.entries.retain(|prefix, entry| {
            (entry.wanted, entry.waits, entry.too_large) = (None, None, false);
            if entry.told.is_something() {
                entry.queue(prefix.0, Turn::Withdrawals, &mut self.pending);
            }
            entry.told.is_something()
        });
        (self.counts.wanted, self.counts.too_large) = (0, 0);
        // Withdrawals have none.
        let mut attributes = EncodedAttributes::default();
        let mut messages = Vec::new();
        while let Some(message) = self.next_message(export, &mut attributes) {
            messages.extend_from_slice(&message);
        }
        messages
    }

    /// Sends everything of this family again (RFC 2918), because the peer asked or because the next hop is another one.
    pub(crate) fn resend(&mut self, family: Family) {
        for (prefix, entry) in &mut self.entries {
            if Family::of(&prefix.0) == family && entry.told.is_something() {
                // Still there for the peer: should the route be withdrawn before its turn comes, it must hear that.
                entry.told = Told::Outdated;
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
    pub(crate) fn next_message(&mut self, export: &Export, encoded: &mut EncodedAttributes) -> Option<Bytes> {
        if let Some(begin) = self.refreshes.begin() {
            return Some(begin);
        }
        while let Some(mut first) = self.pending.first_entry() {
            let family = first.key().family;
            let attributes = first.key().attributes.clone();
            let prefixes = first.get_mut();
            let listed = prefixes.iter().map(|prefix| &prefix.0);
            let encoded = match &attributes {
                None => Ok(update::encode_withdrawals(family, listed, export)),
                Some(attributes) => update::encode_announcements(family, &attributes.0, listed, export, encoded),
            };
            match encoded {
                Ok((message, count)) => {
                    for _ in 0..count {
                        let Some(prefix) = prefixes.pop_first() else { break };
                        note_told(&mut self.entries, &mut self.counts, prefix, attributes.as_ref());
                    }
                    if prefixes.is_empty() {
                        first.remove();
                    }
                    return Some(message);
                }
                Err(too_large) => {
                    let prefixes = first.remove();
                    tracing::warn!(%family, prefixes = prefixes.len(), %too_large, "routes are not announced");
                    self.give_up(prefixes);
                }
            }
        }
        None
    }

    /// These are wanted, and cannot be said. What the peer has of them is not wanted any more.
    fn give_up(&mut self, prefixes: BTreeSet<SortedPrefix>) {
        for prefix in prefixes {
            let Some(entry) = self.entries.get_mut(&prefix) else { continue };
            (entry.waits, entry.too_large) = (None, true);
            self.counts.too_large += 1;
            if entry.told.is_something() {
                entry.queue(prefix.0, Turn::Withdrawals, &mut self.pending);
            }
        }
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

    fn queue_all(&mut self, selected: impl Fn(&IpNet) -> bool) {
        for (prefix, entry) in self.entries.iter_mut().filter(|(prefix, _)| selected(&prefix.0)) {
            let prefix = &prefix.0;
            let earlier = entry.unqueue(prefix, &mut self.pending);
            self.counts.too_large -= usize::from(std::mem::take(&mut entry.too_large));
            if let Some(turn) = entry.turn(self.open.contains(&Family::of(prefix))) {
                entry.queue(*prefix, turn.after(earlier), &mut self.pending);
            }
        }
    }
}

/// A message says this of the prefix: a withdrawal, if there are no attributes.
fn note_told(
    entries: &mut BTreeMap<SortedPrefix, Entry>,
    counts: &mut Counts,
    prefix: SortedPrefix,
    attributes: Option<&SortedAttributes>,
) {
    let MapEntry::Occupied(mut place) = entries.entry(prefix) else { return };
    let entry = place.get_mut();
    entry.waits = None;
    let told = attributes.map_or(Told::Nothing, |attributes| Told::This(Arc::clone(&attributes.0)));
    let before = std::mem::replace(&mut entry.told, told);
    counts.told += usize::from(attributes.is_some());
    counts.told -= usize::from(before.is_something());
    if entry.is_unused() {
        place.remove();
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
