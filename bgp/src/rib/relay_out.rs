//! Adj-RIB-Out for routes of other peers: what one peer was told, and which prefixes wait for a look.
//!
//! Only the numbers of prefixes wait, and what is to be said of them is found out when the socket can take it: the best
//! path that this peer may get against what it was told. So a prefix that changes a hundred times meanwhile is one entry,
//! a slow peer costs an entry for each prefix that there is and no more, and what it gets is always the newest.
//!
//! ```text
//!  change --> urgent: no path is left for this peer -----------------------------> UPDATEs with withdrawals
//!        '--> queue --(some thousands at a time)--> staged, sorted by route -----> UPDATEs with many prefixes
//! ```
//!
//! What waits is a set of bits that is gone through in rounds ([`Waiting`]). A withdrawal waits behind no announcement:
//! whoever removes the last path for a peer sees it at once, without choosing.
//!
//! What was found out and made for one peer is copied by others with the same settings ([`shared`]).

mod shared;
mod told;
mod waiting;

use std::cmp::Reverse;
use std::sync::Arc;

use bytes::BytesMut;
use smallvec::SmallVec;

pub(super) use self::shared::Shared;

use self::shared::{Looked, Said};
use self::told::{NOTHING, Told};
use self::waiting::Waiting;
use super::member::{Identity, MemberId};
use super::path::Path;
use super::selection;
use super::table::{Destination, Generation, PrefixId, Table};
use crate::update::relayed::{self, RelaySession};
use crate::{Family, Relay};

/// What decides which paths a peer may get.
pub(super) struct View<'a> {
    /// Whose paths are left out, because nobody gets its own back. `None`: nobody's.
    pub(super) member: Option<MemberId>,
    pub(super) relay: Relay,
    pub(super) identities: &'a [Identity],
    /// By member.
    pub(super) relays: &'a [Relay],
}

#[derive(Debug)]
pub(super) struct RelayOut {
    pub(super) session: RelaySession,
    told: Told,
    queue: Waiting,
    /// By family.
    urgent: [Waiting; 2],
    staged: Vec<Staged>,
    /// The table when they were staged: as long as it is still that, they need no second look.
    staged_at: Generation,
    /// Of what others of its group have made.
    looked: Looked,
    /// In the list of groups.
    pub(super) group: usize,
    /// The engine knows that there is something to write.
    pub(super) awake: bool,
}

/// To be announced, if nothing has changed when its turn comes.
#[derive(Debug, Clone, Copy)]
struct Staged {
    serial: u32,
    family: Family,
    id: PrefixId,
    path_id: u32,
    /// Whose path it is.
    source: MemberId,
    /// Whoever of the group has no better path himself is to be told this one too.
    for_all: bool,
}

impl Staged {
    /// Sorted by this, what shares attributes stands together.
    fn key(&self) -> u64 {
        // There are not two thousand million prefixes.
        u64::from(self.serial) << 32 | u64::from(self.family as u8) << 31 | u64::from(self.id.0)
    }
}

/// So many prefixes are sorted at a time: enough to fill messages, little enough not to be noticed.
const STAGE: usize = 16 * 1024;

impl RelayOut {
    /// Of a peer that belongs to this group.
    pub(super) fn new(session: RelaySession, group: usize) -> Self {
        Self {
            told: if session.takes_several() { Told::several() } else { Told::one() },
            session,
            queue: Waiting::default(),
            urgent: Default::default(),
            staged: Vec::new(),
            staged_at: Generation::default(),
            looked: Looked::default(),
            group,
            awake: false,
        }
    }

    /// How many paths the peer was told.
    pub(super) fn told(&self) -> usize {
        self.told.len()
    }

    /// The paths that the peer was told to a prefix: identifier, and serial number of the route.
    pub(super) fn told_of(&self, id: PrefixId) -> SmallVec<[(u32, u32); 1]> {
        self.told.paths_of(id)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.staged.is_empty() && self.urgent.iter().all(Waiting::is_empty)
    }

    /// A look has to be taken at this prefix.
    pub(super) fn mark(&mut self, id: PrefixId, destination: &mut Destination, member: MemberId) {
        let others = !destination.paths.is_empty() && destination.paths.iter().any(|path| path.member != member);
        if others {
            self.enqueue(id, destination);
        } else if self.told.anything(id) {
            self.hurry(id, destination);
        }
        // Else it was not told, and is not to be: what waits elsewhere will find that out.
    }

    /// Everything of the family is to be told again.
    pub(super) fn resend(&mut self, family: Family, table: &mut Table) {
        for id in self.told.forget(|id| Family::of(&table.get(id).prefix) == family) {
            self.enqueue(id, table.get_mut(id));
        }
    }

    /// The way to the next hop of a path to this prefix has changed. Where we name ourselves as next hop, what we tell of the
    /// path changes with it (RFC 7311 section 3.4.3).
    pub(super) fn note_cost(&mut self, id: PrefixId) {
        if self.session.aigp && self.session.own_next_hops.is_some() {
            self.told.tell_again(id);
        }
    }

    /// The session is gone: nothing is held any more.
    pub(super) fn release(self, table: &mut Table) {
        let told = self.told.prefixes();
        let waiting = self.queue.chain(self.urgent.into_iter().flatten());
        for id in told.into_iter().chain(waiting) {
            table.release(id, 1);
        }
    }

    /// Appends the next UPDATE, as large as it may be. What it says counts as told. `false`: there is nothing to say.
    pub(super) fn next_message(
        &mut self,
        table: &mut Table,
        view: &View<'_>,
        shared: &mut Shared,
        output: &mut BytesMut,
    ) -> bool {
        loop {
            if self.copy_withdrawal(shared, table, output) {
                return true;
            }
            for family in Family::ALL {
                if self.withdraw(family, table, view, shared, output) {
                    return true;
                }
            }
            if self.staged.is_empty() && self.copy_announcement(shared, table, view, output) {
                return true;
            }
            if self.staged.is_empty() && !self.stage(table, view) {
                // Mostly there is nothing to say, and there may be hundreds of peers.
                self.staged = Vec::new();
                self.told.settle(&mut shared.told);
                return false;
            }
            // Staging may have found something to withdraw, and that goes first.
            if self.urgent.iter().all(Waiting::is_empty) && self.announce(table, view, shared, output) {
                return true;
            }
        }
    }

    /// One UPDATE with withdrawals, if there are any.
    fn withdraw(
        &mut self,
        family: Family,
        table: &mut Table,
        view: &View<'_>,
        shared: &mut Shared,
        output: &mut BytesMut,
    ) -> bool {
        if self.urgent[family as usize].is_empty() {
            return false;
        }
        let start = output.len();
        let mut message: Option<relayed::Withdrawal> = None;
        let mut making = matches!(self.told, Told::One(_)).then(|| shared.begin(table.generation())).flatten();
        while let Some(id) = self.urgent[family as usize].pop() {
            let (session, destination) = (&self.session, table.get(id));
            let mut push = |path_id| {
                let message = message.get_or_insert_with(|| session.begin_withdrawal(family, output));
                message.push(output, &destination.prefix, path_id)
            };
            // What waits here is a hold as well, and so is each path that was told.
            let (fitted, released) = match &mut self.told {
                Told::One(told) => match told.get(id) != NOTHING && !session.gets_any(destination, view) {
                    true if push(0) => {
                        if let Some(begun) = making.take() {
                            shared.note(id);
                            match destination.paths.is_empty() {
                                true => making = Some(begun),
                                // Others get that of this peer.
                                false => shared.abandon(begun),
                            }
                        }
                        (true, u32::from(told.clear(id)))
                    }
                    obsolete => (!obsolete, 0),
                },
                Told::Several(told) => {
                    let obsolete = told::obsolete(told, id, session, destination, view);
                    let withdrawn = obsolete.iter().take_while(|path_id| push(**path_id)).count();
                    for path_id in &obsolete[..withdrawn] {
                        told.remove(&(id, *path_id));
                    }
                    (withdrawn == obsolete.len(), withdrawn as u32)
                }
            };
            if !fitted {
                self.urgent[family as usize].put_back(id);
                table.release(id, released);
                break;
            }
            table.release(id, released + 1);
        }
        let said = message.map(|message| message.finish(output)).is_some();
        if let Some(making) = making.filter(|_| said) {
            let said = Said::Withdrawn(family);
            shared.finish(making, said, &output[start..]);
            self.pass_own(shared, said);
        }
        said
    }

    /// Takes the next prefixes from the queue. `false`: it is empty.
    fn stage(&mut self, table: &mut Table, view: &View<'_>) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        for _ in 0..STAGE {
            let Some(id) = self.queue.pop() else { break };
            self.examine(id, table, view);
            table.release(id, 1);
        }
        // Taken from the end.
        self.staged.sort_unstable_by_key(|staged| Reverse(staged.key()));
        self.staged_at = table.generation();
        true
    }

    /// Compares what the peer may get of a prefix with what it was told.
    fn examine(&mut self, id: PrefixId, table: &mut Table, view: &View<'_>) {
        let destination = table.get_mut(id);
        let family = Family::of(&destination.prefix);
        let obsolete = match &self.told {
            Told::One(_) => match self.session.best(destination, view) {
                Some(path) => {
                    let (serial, source) = (path.route.serial, path.member);
                    if self.told.get(id, 0) != serial {
                        let for_all = is_best_of_all(destination, path, view);
                        self.staged.push(Staged { serial, family, id, path_id: 0, source, for_all });
                    }
                    false
                }
                None => self.told.anything(id),
            },
            Told::Several(told) => {
                for path in self.session.several(destination, view) {
                    let (serial, path_id, source) = (path.route.serial, path.sent_id, path.member);
                    if told.get(&(id, path_id)) != Some(&serial) {
                        self.staged.push(Staged { serial, family, id, path_id, source, for_all: false });
                    }
                }
                !told::obsolete(told, id, &self.session, destination, view).is_empty()
            }
        };
        if obsolete {
            self.hurry(id, destination);
        }
    }

    /// One UPDATE with announcements that share their attributes, if any of those that are staged is still to be made.
    fn announce(&mut self, table: &mut Table, view: &View<'_>, shared: &mut Shared, output: &mut BytesMut) -> bool {
        let start = output.len();
        while let Some(first) = self.staged.pop() {
            let path = self.selected(&first, table.get(first.id), view);
            let Some(route) = path.map(|path| Arc::clone(&path.route)) else {
                // It has changed meanwhile, and with that was queued again.
                continue;
            };
            let rewritten = shared.wanted.then_some(&mut shared.rewritten);
            let Some(mut message) = self.session.begin_announcement(first.family, &route, rewritten, output) else {
                // Its size was looked at when it was chosen, so this is a route that the codec does not write.
                continue;
            };
            // What was found when they were staged may not be so any more.
            let unchanged = self.staged_at == table.generation();
            let mut making = unchanged.then(|| shared.begin(table.generation())).flatten();
            let mut next = first;
            loop {
                let destination = table.get_mut(next.id);
                if !message.push(output, &destination.prefix, next.path_id) {
                    self.staged.push(next);
                    break;
                }
                if let Some(begun) = making.take() {
                    shared.note(next.id);
                    match next.for_all && next.source == first.source {
                        true => making = Some(begun),
                        false => shared.abandon(begun),
                    }
                }
                if self.told.set(next.id, next.path_id, next.serial) == NOTHING {
                    destination.holds += 1;
                }
                let Some(following) = self.next_like(&first, table, view) else { break };
                next = following;
            }
            message.finish(output);
            if let Some(making) = making {
                let said = Said::Announced { source: first.source, serial: first.serial };
                shared.finish(making, said, &output[start..]);
                self.pass_own(shared, said);
            }
            return true;
        }
        false
    }

    /// The next that is staged, if it can go into the message that began with `first`.
    fn next_like(&mut self, first: &Staged, table: &Table, view: &View<'_>) -> Option<Staged> {
        let unchanged = self.staged_at == table.generation();
        loop {
            let next = *self.staged.last()?;
            if (next.serial, next.family) != (first.serial, first.family) {
                return None;
            }
            self.staged.pop();
            if unchanged || self.selected(&next, table.get(next.id), view).is_some() {
                return Some(next);
            }
        }
    }

    /// The path that was staged, if the peer may still have it.
    fn selected<'a>(&self, staged: &Staged, destination: &'a Destination, view: &View<'_>) -> Option<&'a Path> {
        let path = match &self.told {
            Told::One(_) => self.session.best(destination, view),
            Told::Several(_) => {
                let mut selected = self.session.several(destination, view).into_iter();
                selected.find(|path| path.sent_id == staged.path_id)
            }
        };
        path.filter(|path| path.route.serial == staged.serial)
    }

    fn enqueue(&mut self, id: PrefixId, destination: &mut Destination) {
        destination.holds += u32::from(self.queue.insert(id));
    }

    fn hurry(&mut self, id: PrefixId, destination: &mut Destination) {
        let family = Family::of(&destination.prefix);
        destination.holds += u32::from(self.urgent[family as usize].insert(id));
    }
}

/// Whether nobody's own paths count in the choice of this one, but his whose it is.
fn is_best_of_all(destination: &Destination, path: &Path, view: &View<'_>) -> bool {
    let mut better = destination.paths.iter().take_while(|other| !std::ptr::eq(*other, path));
    // By elimination a path that is not chosen can decide which is.
    !destination.med_decides && better.all(|other| Some(other.member) != view.member)
}

impl RelaySession {
    /// Whether there is a path for this peer.
    fn gets_any(&self, destination: &Destination, view: &View<'_>) -> bool {
        // Which one does not matter, and mostly there is none.
        !destination.paths.is_empty() && destination.paths.iter().any(|path| self.may_get(destination, path, view))
    }

    /// The one path that this peer gets.
    fn best<'a>(&self, destination: &'a Destination, view: &View<'_>) -> Option<&'a Path> {
        selection::best(destination, view.identities, |path| self.may_get(destination, path, view))
    }

    /// The paths that this peer gets, where it takes several.
    fn several<'a>(&self, destination: &'a Destination, view: &View<'_>) -> Vec<&'a Path> {
        let most = self.paths[Family::of(&destination.prefix) as usize].max(1);
        selection::first(destination, view.identities, most.into(), |path| self.may_get(destination, path, view))
    }

    /// Whether this peer may have that path, were there no better one.
    pub(super) fn may_get(&self, destination: &Destination, path: &Path, view: &View<'_>) -> bool {
        let family = Family::of(&destination.prefix);
        // A next hop of ours there may not be.
        let fits = || path.plain && self.own_next_hops.is_none() || self.fits(family, &path.route);
        self.families[family as usize] && view.may_get(path) && fits()
    }
}

impl View<'_> {
    fn may_get(&self, path: &Path) -> bool {
        Some(path.member) != self.member
            && self.relays[path.member.index()].passes_to(self.relay)
            && path.is_eligible(self.identities)
            // RFC 1997. NO_EXPORT and NO_EXPORT_SUBCONFED say nothing about internal peers, and a route server obeys none of
            // them (RFC 7947 section 2.2.4).
            && (path.plain || !path.route.no_advertise || self.relay == Relay::RouteServerClient)
    }
}
