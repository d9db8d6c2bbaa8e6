//! Adj-RIB-In: the routes of one peer that the import policy accepted, as a part of the table.
//!
//! A route is in doubt from the moment on in which the peer is to announce it again ([`Unconfirmed`]) until it has.

use std::sync::Arc;

use ipnet::IpNet;

use super::member::MemberId;
use super::path::{Doubts, Path, Route, Unconfirmed};
use super::selection;
use super::table::{Destination, PrefixId};
use super::{Change, Rib};
use crate::Family;

impl Rib {
    /// How many routes of the peer there are.
    pub(crate) fn accepted(&self, member: MemberId) -> usize {
        self.members[member.index()].paths.iter().sum()
    }

    pub(crate) fn unconfirmed(&self, member: MemberId, why: Unconfirmed) -> usize {
        self.members[member.index()].unconfirmed[why as usize].iter().sum()
    }

    /// How many routes of the peer and family are not stale.
    pub(crate) fn live(&self, member: MemberId, family: Family) -> usize {
        let member = &self.members[member.index()];
        member.paths[family as usize] - member.unconfirmed[Unconfirmed::Restart as usize][family as usize]
    }

    /// Whether the peer has this very route, not stale.
    pub(crate) fn is_live(&self, member: MemberId, prefix: &IpNet, path_id: u32) -> bool {
        let Some(id) = self.table.find(prefix) else { return false };
        let destination = self.table.get(id);
        let known = position(destination, member, path_id).map(|position| &destination.paths[position]);
        known.is_some_and(|path| !path.doubt.contains(Unconfirmed::Restart))
    }

    /// Whether this changed anything. The route is in doubt no longer.
    pub(crate) fn insert(&mut self, member: MemberId, prefix: IpNet, path_id: u32, route: &Arc<Route>) -> bool {
        let id = self.table.find_or_add(prefix);
        let destination = self.table.get_mut(id);
        let mut replaced = None;
        if let Some(position) = position(destination, member, path_id) {
            let known = &mut destination.paths[position];
            let was_stale = confirm(known, Family::of(&prefix), &mut self.members[member.index()].unconfirmed);
            if Arc::ptr_eq(&known.route, route) {
                return was_stale;
            }
            replaced = Some((known.sent_id, known.route.next_hop));
            destination.paths.remove(position);
            selection::note_removal(destination);
        } else {
            let state = &mut self.members[member.index()];
            state.paths[Family::of(&prefix) as usize] += 1;
            state.note_announced(id);
        }
        if let Some(next_hops) = &mut self.next_hops {
            next_hops.add(route, id);
        }
        let sent_id = replaced.map_or_else(|| free_id(destination), |(sent_id, _)| sent_id);
        let plain = route.is_plain(Family::of(&prefix));
        let route = Arc::clone(route);
        let path = Path { route, member, received_id: path_id, sent_id, doubt: Doubts::default(), plain };
        let position = selection::insert(destination, path, &self.identities);
        if let Some((_, next_hop)) = replaced {
            self.forget_next_hop(id, next_hop);
        }
        self.mark(id, member, if replaced.is_some() { Change::Other } else { Change::Added(position) });
        true
    }

    /// Whether this changed anything: a withdrawal of what was never accepted does not (RFC 4271 section 9).
    pub(crate) fn remove(&mut self, member: MemberId, prefix: &IpNet, path_id: u32) -> bool {
        let Some(id) = self.table.find(prefix) else { return false };
        let Some(position) = position(self.table.get(id), member, path_id) else { return false };
        self.remove_at(member, id, position);
        true
    }

    /// Whether this changed anything.
    pub(crate) fn retain(&mut self, member: MemberId, mut keep: impl FnMut(&IpNet, &Route) -> bool) -> bool {
        self.remove_if(member, |destination, path| !keep(&destination.prefix, &path.route))
    }

    /// Whether this changed anything.
    pub(crate) fn clear(&mut self, member: MemberId) -> bool {
        self.remove_if(member, |_, _| true)
    }

    /// Whether this changed anything.
    pub(crate) fn drop_family(&mut self, member: MemberId, family: Family) -> bool {
        self.remove_if(member, |destination, _| Family::of(&destination.prefix) == family)
    }

    /// Every route of the family is in doubt from now on; returns how many that are.
    pub(crate) fn doubt(&mut self, member: MemberId, why: Unconfirmed, family: Family) -> usize {
        let mut doubted = 0;
        for id in self.members[member.index()].announced() {
            let destination = self.table.get_mut(id);
            if Family::of(&destination.prefix) == family {
                let theirs = destination.paths.iter_mut().filter(|path| path.member == member);
                doubted += theirs.filter_map(|path| path.doubt.insert(why).then_some(())).count();
            }
        }
        self.members[member.index()].unconfirmed[why as usize][family as usize] += doubted;
        doubted
    }

    /// Forgets what is still in doubt in the family. Whether this changed anything.
    pub(crate) fn drop_unconfirmed(&mut self, member: MemberId, why: Unconfirmed, family: Family) -> bool {
        self.unconfirmed(member, why) > 0
            && self.remove_if(member, |destination, path| {
                path.doubt.contains(why) && Family::of(&destination.prefix) == family
            })
    }

    /// Nobody will say what is wrong any more: everything stays as it is.
    pub(crate) fn end_doubt(&mut self, member: MemberId, why: Unconfirmed) {
        if self.unconfirmed(member, why) == 0 {
            return;
        }
        for id in self.members[member.index()].announced() {
            for path in self.table.get_mut(id).paths.iter_mut().filter(|path| path.member == member) {
                path.doubt.remove(why);
            }
        }
        self.members[member.index()].unconfirmed[why as usize] = [0; 2];
    }

    fn remove_if(&mut self, member: MemberId, mut unwanted: impl FnMut(&Destination, &Path) -> bool) -> bool {
        let mut changed = false;
        for id in self.members[member.index()].announced() {
            let mut position = 0;
            while let Some(path) = self.table.get(id).paths.get(position) {
                if path.member == member && unwanted(self.table.get(id), path) {
                    self.remove_at(member, id, position);
                    changed = true;
                } else {
                    position += 1;
                }
            }
        }
        changed
    }

    fn remove_at(&mut self, member: MemberId, id: PrefixId, position: usize) {
        let destination = self.table.get_mut(id);
        let Some(mut path) = destination.paths.remove(position) else { return };
        let family = Family::of(&destination.prefix);
        selection::note_removal(destination);
        let state = &mut self.members[member.index()];
        state.paths[family as usize] -= 1;
        confirm(&mut path, family, &mut state.unconfirmed);
        if !destination.paths.iter().any(|path| path.member == member) {
            state.announced.set(id.index(), false);
        }
        self.forget_next_hop(id, path.route.next_hop);
        self.mark(id, member, Change::Other);
        self.table.note_if_unused(id);
    }
}

fn position(destination: &Destination, member: MemberId, path_id: u32) -> Option<usize> {
    destination.paths.iter().position(|path| path.member == member && path.received_id == path_id)
}

/// Whether the route was stale.
fn confirm(path: &mut Path, family: Family, unconfirmed: &mut [[usize; 2]; 2]) -> bool {
    let mut end = |why: Unconfirmed| {
        let was = path.doubt.remove(why);
        unconfirmed[why as usize][family as usize] -= usize::from(was);
        was
    };
    end(Unconfirmed::Refresh);
    end(Unconfirmed::Restart)
}

/// The lowest identifier that no path to this prefix has.
fn free_id(destination: &Destination) -> u32 {
    (1..).find(|id| destination.paths.iter().all(|path| path.sent_id != *id)).unwrap_or(u32::MAX)
}
