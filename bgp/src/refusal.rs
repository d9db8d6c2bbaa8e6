//! What was refused last, for the person who asks why a route is not there.
//!
//! Refused routes are not stored: a peer decides how many there are. What is kept of them is bounded whatever it sends: a
//! counter for each reason, the last [`Refusals::KEPT`] refusals with the little that explains each, and of malformed
//! UPDATEs the octets that are to blame. It outlives the session, because the question is often asked after its end.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ipnet::IpNet;

use crate::{AsPath, RefusalReason};

/// One route that a peer announced and that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub at: Instant,
    pub prefix: IpNet,
    /// `None`: the UPDATE had none.
    pub next_hop: Option<IpAddr>,
    /// The first [`Refusal::MAX_AS_PATH`] AS numbers of it; empty where a malformed UPDATE leaves open what the path is.
    pub as_path: Arc<AsPath>,
    pub reason: RefusalReason,
    /// The UPDATE that it came in, where that is the reason.
    pub malformed: Option<Arc<MalformedUpdate>>,
}

impl Refusal {
    /// Ten times what paths in the Internet have on average: who wants to see a loop sees it, and a hundred refusals stay
    /// below 20 KiB.
    pub const MAX_AS_PATH: usize = 40;
}

/// An UPDATE in which something was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedUpdate {
    pub at: Instant,
    pub outcome: MalformedOutcome,
    /// What is wrong with it, in words.
    pub detail: String,
    /// Where it begins to be wrong: see [`MalformedUpdate::MAX_OCTETS`].
    pub octets: Bytes,
}

impl MalformedUpdate {
    /// So many octets are kept, from the first attribute of the type to blame on; from the first attribute at all, if none
    /// is (a mandatory one is missing); of the prefixes, if they cannot be read.
    pub const MAX_OCTETS: usize = 256;
}

/// What an error in an UPDATE cost (RFC 7606 section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MalformedOutcome {
    /// The attribute; the routes stay.
    AttributeDiscarded,
    /// The routes of the message.
    TreatedAsWithdrawn,
    /// The session.
    SessionReset,
}

/// The last refusals of one peer.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    last: VecDeque<Refusal>,
    malformed: Option<Arc<MalformedUpdate>>,
}

impl Refusals {
    /// Enough to see a pattern, and what an operator reads at one sitting.
    pub(crate) const KEPT: usize = 100;

    pub(crate) fn push(&mut self, refusal: Refusal) {
        if self.last.len() == Self::KEPT {
            self.last.pop_front();
        }
        self.last.push_back(refusal);
    }

    /// Kept as the last malformed UPDATE; returned for the routes in it.
    pub(crate) fn malformed(&mut self, update: MalformedUpdate) -> Arc<MalformedUpdate> {
        Arc::clone(self.malformed.insert(Arc::new(update)))
    }

    /// Oldest first.
    pub(crate) fn last(&self) -> Vec<Refusal> {
        self.last.iter().cloned().collect()
    }

    pub(crate) fn last_malformed(&self) -> Option<Arc<MalformedUpdate>> {
        self.malformed.clone()
    }
}

/// As much of a path as a refusal keeps.
pub(crate) fn trimmed(as_path: &AsPath) -> Arc<AsPath> {
    Arc::new(AsPath(as_path.0.iter().take(Refusal::MAX_AS_PATH).copied().collect()))
}

/// As much of the offending octets as is kept. Copied: a slice would keep its whole message in memory.
pub(crate) fn quotation(octets: &[u8]) -> Bytes {
    Bytes::copy_from_slice(octets.get(..MalformedUpdate::MAX_OCTETS).unwrap_or(octets))
}
