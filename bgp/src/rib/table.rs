//! The table: for each prefix every accepted path to it, best first.
//!
//! A prefix has a number ([`PrefixId`]) for as long as somebody has to do with it: a path leads to it, a peer was told of
//! it, or waits to be. So what is kept for each peer and prefix is an array or a set of bits and not another tree, and a
//! change costs one look-up by hash.
//!
//! With which nobody has to do any more stays where it is until its place is needed: often it comes back, and giving up many
//! places at once costs less than each by itself.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use ipnet::IpNet;

use super::hash::SeededHash;
use super::paths::Paths;

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
    pub(super) paths: Paths,
    /// How many notes there are about it in the peers' Adj-RIBs-Out: told, or waiting.
    pub(super) holds: u32,
    /// Two paths of one neighbouring AS are told apart by MED, so what is best among some of the paths cannot be read off
    /// the order of all of them.
    pub(super) med_decides: bool,
}

impl Destination {
    /// Nobody has to do with it.
    fn is_unused(&self) -> bool {
        self.holds == 0 && self.paths.is_empty()
    }
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
    /// How many prefixes have a place and are not used.
    unused: usize,
    generation: Generation,
}

impl Table {
    pub(super) fn new(hash: SeededHash) -> Self {
        Self {
            hash,
            index: HashTable::new(),
            destinations: Vec::new(),
            free: Vec::new(),
            unused: 0,
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

    /// A prefix that is added has to be given a path at once.
    pub(super) fn find_or_add(&mut self, prefix: IpNet) -> PrefixId {
        if self.free.is_empty() && self.unused > self.destinations.len() / 4 {
            self.free_unused();
        }
        let (hash, destinations) = (self.hash.prefix(&prefix), &mut self.destinations);
        let same = |slot: &Slot| slot.hash == hash && destinations[slot.id.index()].prefix == prefix;
        match self.index.entry(Slot::spread(hash), same, |slot| Slot::spread(slot.hash)) {
            Entry::Occupied(known) => {
                let id = known.get().id;
                self.unused -= usize::from(destinations[id.index()].is_unused());
                id
            }
            Entry::Vacant(vacant) => {
                let new = Destination { prefix, paths: Paths::None, holds: 0, med_decides: false };
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

    /// To be called once after a path or a hold went.
    pub(super) fn note_if_unused(&mut self, id: PrefixId) {
        self.unused += usize::from(self.destinations[id.index()].is_unused());
    }

    /// So many holds are given back.
    pub(super) fn release(&mut self, id: PrefixId, holds: u32) {
        self.destinations[id.index()].holds -= holds;
        self.note_if_unused(id);
    }

    /// Gives up the places of all prefixes that are not used.
    pub(super) fn free_unused(&mut self) {
        let (destinations, free) = (&self.destinations, &mut self.free);
        let before = free.len();
        self.index.retain(|slot| {
            let unused = destinations[slot.id.index()].is_unused();
            if unused {
                free.push(slot.id);
            }
            !unused
        });
        debug_assert_eq!(free.len() - before, self.unused);
        self.unused = 0;
    }
}
