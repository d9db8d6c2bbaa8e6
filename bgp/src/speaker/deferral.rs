//! Selection deferral (RFC 4724 section 4.1): after its own start a route server has heard one client and not yet the next. What it
//! told now would be a worse choice than the one that the clients still hold from before the start, and End-of-RIB would have
//! them drop the rest. So nothing is told of others' routes until those who are back have told all of theirs.
//!
//! ```text
//!  start --(establish)--> everybody who has a session by now has said End-of-RIB? --yes--> others' routes, End-of-RIB
//!                                         '--no--> wait for that, or for `limit` ------------^
//! ```
//!
//! Not waited for: who offers no graceful restart, as it may never say End-of-RIB; who has restarted itself, as it waits for ours;
//! who has no session when `establish` is over, as clients of a range come without having been announced.

use std::time::{Duration, Instant};

use tracing::info;

use super::Speaker;
use crate::peer::Peer;

/// How long a route server keeps its choice to itself after its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct SelectionDeferral {
    /// So long sessions are waited for: nobody says how many there will be.
    pub establish: Duration,
    /// At the longest, whoever is missing: the Selection_Deferral_Timer.
    pub limit: Duration,
}

#[derive(Debug)]
pub(super) struct Deferral {
    /// The next moment that decides something.
    pub(super) deadline: Instant,
    establish_until: Instant,
    until: Instant,
}

impl Speaker {
    /// From now on nothing is told of others' routes, until [`SelectionDeferral`] says that it is enough. What the embedder wants
    /// announced is not affected. For the start, before there is a session.
    pub fn defer_selection(&mut self, now: Instant, deferral: SelectionDeferral) {
        let SelectionDeferral { establish, limit } = deferral;
        let until = now + limit;
        let establish_until = (now + establish).min(until);
        self.deferral = Some(Deferral { deadline: establish_until, establish_until, until });
        self.rib.hold();
    }

    /// Whether others' routes are told by now.
    pub fn is_deferring(&self) -> bool {
        self.deferral.is_some()
    }

    /// Ends the deferral, if it is time.
    pub(super) fn tend_deferral(&mut self, now: Instant) {
        let Some(deferral) = &mut self.deferral else { return };
        if now < deferral.establish_until {
            return;
        }
        deferral.deadline = deferral.until;
        let awaited = self.peers.values().filter(|peer| peer.is_awaited()).count();
        if awaited > 0 && now < deferral.until {
            return;
        }
        info!(awaited, "routes are told from now on: the clients that are back have told theirs, or it took too long");
        self.deferral = None;
        self.rib.release();
        let (peers, mut context) = self.split(now);
        peers.values_mut().for_each(|peer: &mut Peer| peer.request_writes(&mut context));
    }
}
