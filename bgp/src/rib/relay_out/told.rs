//! What a peer was told of each prefix: four octets that say which route it was.

mod serials;

use std::collections::BTreeMap;

use smallvec::SmallVec;

pub(super) use self::serials::{Serials, SharedSerials};

use super::View;
use crate::rib::table::{Destination, PrefixId};
use crate::update::relayed::RelaySession;

/// What a peer was told: the serial number of the route, by prefix, or by prefix and path.
#[derive(Debug)]
pub(super) enum Told {
    One(Serials),
    Several(Paths),
}

/// By prefix and path identifier.
pub(super) type Paths = BTreeMap<(PrefixId, u32), u32>;

pub(super) const NOTHING: u32 = 0;
/// Told, and to be told again whatever it was.
const AGAIN: u32 = u32::MAX;

impl Told {
    pub(super) fn one() -> Self {
        Self::One(Serials::default())
    }

    pub(super) const fn several() -> Self {
        Self::Several(Paths::new())
    }

    /// How many paths.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(told) => told.count(),
            Self::Several(told) => told.len(),
        }
    }

    /// The paths to a prefix: identifier, and serial number of the route.
    pub(super) fn paths_of(&self, id: PrefixId) -> SmallVec<[(u32, u32); 1]> {
        match self {
            Self::One(told) => Some((0, told.get(id))).into_iter().filter(|(_, serial)| *serial != NOTHING).collect(),
            Self::Several(told) => {
                told.range((id, 0)..=(id, u32::MAX)).map(|((_, path_id), serial)| (*path_id, *serial)).collect()
            }
        }
    }

    pub(super) fn get(&self, id: PrefixId, path_id: u32) -> u32 {
        match self {
            Self::One(told) => told.get(id),
            Self::Several(told) => told.get(&(id, path_id)).copied().unwrap_or(NOTHING),
        }
    }

    /// Returns what it was before.
    pub(super) fn set(&mut self, id: PrefixId, path_id: u32, serial: u32) -> u32 {
        match self {
            Self::One(told) => told.set(id, serial),
            Self::Several(told) if serial == NOTHING => told.remove(&(id, path_id)).unwrap_or(NOTHING),
            Self::Several(told) => told.insert((id, path_id), serial).unwrap_or(NOTHING),
        }
    }

    pub(super) fn anything(&self, id: PrefixId) -> bool {
        match self {
            Self::One(told) => told.get(id) != NOTHING,
            Self::Several(told) => told.range((id, 0)..=(id, u32::MAX)).next().is_some(),
        }
    }

    /// Every prefix, as often as there is something told of it.
    pub(super) fn prefixes(&self) -> Vec<PrefixId> {
        match self {
            Self::One(told) => told.prefixes().collect(),
            Self::Several(told) => told.keys().map(|(id, _)| *id).collect(),
        }
    }

    /// The peer has nothing more to write; what it was told is mostly what others of its group were.
    pub(super) fn settle(&mut self, shared: &mut SharedSerials) {
        if let Self::One(told) = self {
            told.settle(shared);
        }
    }

    /// From now on none of them is what it should be.
    pub(super) fn forget(&mut self, selected: impl Fn(PrefixId) -> bool) -> Vec<PrefixId> {
        let forgotten: Vec<PrefixId> = self.prefixes().into_iter().filter(|id| selected(*id)).collect();
        forgotten.iter().for_each(|id| self.tell_again(*id));
        forgotten
    }

    /// What was told of the prefix, if anything was, is to be told again.
    pub(super) fn tell_again(&mut self, id: PrefixId) {
        match self {
            Self::One(told) => {
                if told.get(id) != NOTHING {
                    told.set(id, AGAIN);
                }
            }
            Self::Several(told) => {
                told.range_mut((id, 0)..=(id, u32::MAX)).for_each(|(_, serial)| *serial = AGAIN);
            }
        }
    }
}

/// Of several paths those that were told and that the peer may not have any more.
pub(super) fn obsolete(
    told: &Paths,
    id: PrefixId,
    session: &RelaySession,
    destination: &Destination,
    view: &View<'_>,
) -> Vec<u32> {
    let selected = session.several(destination, view);
    let known = told.range((id, 0)..=(id, u32::MAX)).map(|((_, path_id), _)| *path_id);
    known.filter(|path_id| selected.iter().all(|path| path.sent_id != *path_id)).collect()
}
