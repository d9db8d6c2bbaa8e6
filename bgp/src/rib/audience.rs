//! Who is to hear of a new path: peers that get the same of each path are asked together.
//!
//! A path that is not the best changes nothing for anybody but the peer whose path is better: nobody gets its own back, so it may be
//! the first that this peer gets. A route server's clients are nearly always all alike, so with ten paths from ten of them nine look
//! at two paths each, however many clients there are.

use super::member::MemberId;
use super::relay_out::{Shared, View};
use super::table::Destination;
use crate::Relay;
use crate::update::relayed::RelaySession;

/// Peers with a session on which others' routes are passed on. Of each path all of them get the same, but for the one whose it
/// is.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) relay: Relay,
    pub(super) session: RelaySession,
    pub(super) members: Vec<MemberId>,
    /// How many of them may have something to write.
    awake: usize,
    /// What one of them has made and others may want.
    pub(super) shared: Shared,
}

/// For whom of a group something may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Audience {
    All,
    /// For this peer, if it is one of them.
    Only(MemberId),
    Nobody,
}

impl Group {
    pub(super) fn new(relay: Relay, session: RelaySession) -> Self {
        Self { relay, session, members: Vec::new(), awake: 0, shared: Shared::default() }
    }

    /// One more of them may have something to write.
    pub(super) fn note_awake(&mut self) {
        self.awake += 1;
        self.shared.wanted = self.awake > 1;
    }

    /// One of them has nothing to write any more.
    pub(super) fn note_idle(&mut self) {
        self.awake -= 1;
        if self.awake == 0 {
            self.shared.wanted = false;
            self.shared.clear();
        }
    }

    /// For whom one more path to a prefix, at this place, changes what they get. Only what costs less to know than to look again
    /// later is left out.
    pub(super) fn audience(&self, destination: &Destination, position: usize, view: &View<'_>) -> Audience {
        // By elimination the best of some paths cannot be read off the order of all.
        if destination.med_decides || self.session.takes_several() {
            return Audience::All;
        }
        let mut better =
            destination.paths[..position].iter().filter(|path| self.session.may_get(destination, path, view));
        match better.next().map(|path| path.member) {
            None => Audience::All,
            Some(first) if better.all(|path| path.member == first) => Audience::Only(first),
            Some(_) => Audience::Nobody,
        }
    }
}
