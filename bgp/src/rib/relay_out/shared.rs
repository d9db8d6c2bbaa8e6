//! What was made for one peer of a group and is good for others of it.
//!
//! Peers with the same settings get the same of each path, but for their own. Where several of them have something to be told, the
//! first makes each message, and those that are in step with it copy its octets. Whoever is not makes messages of its own, as if it
//! were alone.
//!
//! In step with an announcement is a peer that is to take a look at each of its prefixes, was told otherwise of each, and is not
//! the one whose path it is, while the table is still what it was: then its own choice would be the same. In step with a withdrawal is
//! one that has each of its prefixes to withdraw.
//!
//! Kept only while somebody of the group has something to write, and never much more than [`MOST`] octets. What stays is what they were
//! told, as far as it is the same.

use std::ops::Range;

use bytes::BytesMut;

use super::told::{NOTHING, SharedSerials, Told};
use super::{RelayOut, View};
use crate::Family;
use crate::rib::member::MemberId;
use crate::rib::table::PrefixId;
use crate::rib::table::{Generation, Table};
use crate::update::relayed::Rewritten;

/// As much as the engine takes from sockets at a time; what comes later is made by each peer for itself.
const MOST: usize = 256 * 1024;

/// Of one group.
#[derive(Debug, Default)]
pub(in crate::rib) struct Shared {
    /// Whether anybody but the one that makes a message may want it.
    pub(in crate::rib) wanted: bool,
    pub(super) rewritten: Rewritten,
    /// What they were told.
    pub(super) told: SharedSerials,
    /// The table for which these messages were made.
    made_at: Generation,
    /// Another one whenever the messages are other ones.
    round: u64,
    octets: Vec<u8>,
    prefixes: Vec<PrefixId>,
    withdrawals: Vec<Message>,
    announcements: Vec<Message>,
}

#[derive(Debug)]
struct Message {
    said: Said,
    /// Among those of all messages.
    octets: Range<usize>,
    prefixes: Range<usize>,
}

/// What a message says of each of its prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// There is no path any more.
    Withdrawn(Family),
    /// The best of all paths is this peer's, with this route.
    Announced { source: MemberId, serial: u32 },
}

/// Which messages a peer has looked at.
#[derive(Debug, Default)]
pub(super) struct Looked {
    round: u64,
    withdrawals: usize,
    announcements: usize,
}

/// A message that is being made, and its prefixes so far.
#[must_use]
pub(super) struct Making {
    first: usize,
}

impl Shared {
    /// Nobody wants anything any more, or what was made is not true any more.
    pub(in crate::rib) fn clear(&mut self) {
        let told = std::mem::take(&mut self.told);
        *self = Self { wanted: self.wanted, told, round: self.round + 1, ..Self::default() };
    }

    /// `None`: it is good for nobody else, or there is no room for it.
    pub(super) fn begin(&mut self, now: Generation) -> Option<Making> {
        if !self.wanted {
            return None;
        }
        if self.made_at != now {
            // The room is kept: as much will be needed again.
            [&mut self.withdrawals, &mut self.announcements].into_iter().for_each(Vec::clear);
            self.octets.clear();
            self.prefixes.clear();
            (self.made_at, self.round) = (now, self.round + 1);
        }
        (self.octets.len() < MOST).then_some(Making { first: self.prefixes.len() })
    }

    pub(super) fn note(&mut self, id: PrefixId) {
        self.prefixes.push(id);
    }

    pub(super) fn abandon(&mut self, making: Making) {
        self.prefixes.truncate(making.first);
    }

    /// It is good for others.
    pub(super) fn finish(&mut self, making: Making, said: Said, octets: &[u8]) {
        let start = self.octets.len();
        self.octets.extend_from_slice(octets);
        let prefixes = making.first..self.prefixes.len();
        let list = match said {
            Said::Withdrawn(_) => &mut self.withdrawals,
            Said::Announced { .. } => &mut self.announcements,
        };
        list.push(Message { said, octets: start..self.octets.len(), prefixes });
    }
}

impl RelayOut {
    /// Appends the next withdrawal of another's that this peer is in step with. `false`: there is none.
    pub(super) fn copy_withdrawal(&mut self, shared: &Shared, table: &mut Table, output: &mut BytesMut) -> bool {
        if !self.may_copy(shared, table) {
            return false;
        }
        let Told::One(told) = &mut self.told else { return false };
        while let Some(message) = shared.withdrawals.get(self.looked.withdrawals) {
            self.looked.withdrawals += 1;
            let Said::Withdrawn(family) = message.said else { continue };
            let (urgent, prefixes) = (&mut self.urgent[family as usize], &shared.prefixes[message.prefixes.clone()]);
            if prefixes.iter().all(|id| urgent.contains(*id) && told.get(*id) != NOTHING) {
                for &id in prefixes {
                    urgent.remove(id);
                    told.clear(id);
                    table.release(id, 2);
                }
                output.extend_from_slice(&shared.octets[message.octets.clone()]);
                return true;
            }
        }
        false
    }

    /// Appends the next announcement of another's that this peer is in step with. `false`: there is none.
    pub(super) fn copy_announcement(
        &mut self,
        shared: &Shared,
        table: &mut Table,
        view: &View<'_>,
        output: &mut BytesMut,
    ) -> bool {
        if !self.may_copy(shared, table) {
            return false;
        }
        let Told::One(told) = &mut self.told else { return false };
        while let Some(message) = shared.announcements.get(self.looked.announcements) {
            self.looked.announcements += 1;
            let Said::Announced { source, serial } = message.said else { continue };
            let prefixes = &shared.prefixes[message.prefixes.clone()];
            if Some(source) != view.member
                && prefixes.iter().all(|id| self.queue.contains(*id) && told.get(*id) != serial)
            {
                for &id in prefixes {
                    self.queue.remove(id);
                    // It was held because it waited, and is now because it was told.
                    if told.set(id, serial) != NOTHING {
                        table.release(id, 1);
                    }
                }
                output.extend_from_slice(&shared.octets[message.octets.clone()]);
                return true;
            }
        }
        false
    }

    fn may_copy(&mut self, shared: &Shared, table: &Table) -> bool {
        if shared.made_at != table.generation() {
            return false;
        }
        self.keep_up(shared);
        true
    }

    fn keep_up(&mut self, shared: &Shared) {
        if self.looked.round != shared.round {
            self.looked = Looked { round: shared.round, ..Looked::default() };
        }
    }

    /// It need not look at what it has made itself.
    pub(super) fn pass_own(&mut self, shared: &Shared, said: Said) {
        self.keep_up(shared);
        match said {
            Said::Withdrawn(_) => self.looked.withdrawals = shared.withdrawals.len(),
            Said::Announced { .. } => self.looked.announcements = shared.announcements.len(),
        }
    }
}

#[cfg(test)]
mod tests;
