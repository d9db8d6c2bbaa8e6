//! The table: for each prefix every accepted path to it, best first.
//!
//! A prefix has a number ([`PrefixId`]) for as long as somebody has to do with it: a path leads to it, a peer was told of
//! it, or waits to be. So what is kept for each peer and prefix is an array or a set of bits and not another tree, and a
//! change costs one look-up by hash.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use ipnet::IpNet;
use smallvec::SmallVec;

use super::hash::SeededHash;
use super::path::Path;

/// The number of a prefix. Given anew once nobody holds it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PrefixId(pub(super) u32);

impl PrefixId {
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How often the paths have changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Generation(u64);

/// One prefix and the ways to it.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) prefix: IpNet,
    /// Best first; see `selection`.
    pub(super) paths: SmallVec<[Path; 1]>,
    /// How many notes there are about it in the peers' Adj-RIBs-Out: told, or waiting.
    pub(super) holds: u32,
    /// Two paths of one neighbouring AS are told apart by MED, so what is best among some of the paths cannot be read off
    /// the order of all of them.
    pub(super) med_decides: bool,
}

/// A place in the index. The hash stands beside the number, so that neither growing nor passing by has to look at prefixes.
#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    id: PrefixId,
}

impl Slot {
    /// The index takes its bits from both ends of sixty-four.
    const fn spread(hash: u32) -> u64 {
        (hash as u64) << 32 | hash as u64
    }
}

#[derive(Debug)]
pub(super) struct Table {
    hash: SeededHash,
    index: HashTable<Slot>,
    destinations: Vec<Destination>,
    free: Vec<PrefixId>,
    generation: Generation,
}

impl Table {
    pub(super) fn new(hash: SeededHash) -> Self {
        Self {
            hash,
            index: HashTable::new(),
            destinations: Vec::new(),
            free: Vec::new(),
            generation: Generation::default(),
        }
    }

    pub(super) const fn generation(&self) -> Generation {
        self.generation
    }

    /// To be called when the paths to a prefix have changed.
    pub(super) const fn note_change(&mut self) {
        self.generation.0 += 1;
    }

    pub(super) fn find(&self, prefix: &IpNet) -> Option<PrefixId> {
        let hash = self.hash.prefix(prefix);
        let same = |slot: &Slot| slot.hash == hash && self.destinations[slot.id.index()].prefix == *prefix;
        self.index.find(Slot::spread(hash), same).map(|slot| slot.id)
    }

    pub(super) fn find_or_add(&mut self, prefix: IpNet) -> PrefixId {
        let (hash, destinations) = (self.hash.prefix(&prefix), &mut self.destinations);
        let same = |slot: &Slot| slot.hash == hash && destinations[slot.id.index()].prefix == prefix;
        match self.index.entry(Slot::spread(hash), same, |slot| Slot::spread(slot.hash)) {
            Entry::Occupied(known) => known.get().id,
            Entry::Vacant(vacant) => {
                let new = Destination { prefix, paths: SmallVec::new(), holds: 0, med_decides: false };
                let id = if let Some(id) = self.free.pop() {
                    destinations[id.index()] = new;
                    id
                } else {
                    // A table of four thousand million prefixes does not fit into memory.
                    let id = PrefixId(u32::try_from(destinations.len()).unwrap_or(u32::MAX));
                    destinations.push(new);
                    id
                };
                vacant.insert(Slot { hash, id });
                id
            }
        }
    }

    pub(super) fn get(&self, id: PrefixId) -> &Destination {
        &self.destinations[id.index()]
    }

    pub(super) fn get_mut(&mut self, id: PrefixId) -> &mut Destination {
        &mut self.destinations[id.index()]
    }

    /// Every prefix from this number on.
    pub(super) fn from(&self, first: PrefixId) -> impl Iterator<Item = (PrefixId, &Destination)> {
        let numbered = self.destinations.iter().enumerate().skip(first.index());
        numbered.filter_map(|(index, destination)| Some((PrefixId(u32::try_from(index).ok()?), destination)))
    }

    /// Every prefix that has a path, in no order.
    pub(super) fn reachable(&self) -> impl Iterator<Item = (PrefixId, &Destination)> {
        self.index
            .iter()
            .map(|slot| (slot.id, self.get(slot.id)))
            .filter(|(_, destination)| !destination.paths.is_empty())
    }

    /// To be called after a path or a hold went.
    pub(super) fn free_if_unused(&mut self, id: PrefixId) {
        let destination = &self.destinations[id.index()];
        if !destination.paths.is_empty() || destination.holds > 0 {
            return;
        }
        let hash = self.hash.prefix(&destination.prefix);
        if let Ok(entry) = self.index.find_entry(Slot::spread(hash), |slot| slot.id == id) {
            entry.remove();
            self.free.push(id);
        }
    }
}
