//! What the table knows of each peer.

use std::net::IpAddr;

use fixedbitset::FixedBitSet;

use super::relay_out::RelayOut;
use super::table::PrefixId;
use crate::PeerKey;

/// The number of a peer. Given anew once the peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId(pub(super) u32);

impl MemberId {
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What selection has to know of the peer that a path is from, as of its last session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) internal: bool,
    /// A client of a route server: its communities are for other clients to act on, and not for us (RFC 7947 section
    /// 2.2.4).
    pub(crate) transparent: bool,
    pub(crate) router_id: u32,
    pub(crate) address: IpAddr,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) key: PeerKey,
    /// The prefixes to which it has a path.
    pub(super) announced: FixedBitSet,
    /// How many paths those are, by [`Family`](crate::Family).
    pub(super) paths: [usize; 2],
    /// How many of them are in doubt, by [`Unconfirmed`](super::Unconfirmed) and then by family.
    pub(super) unconfirmed: [[usize; 2]; 2],
    /// While it has a session on which others' routes are passed on.
    pub(super) out: Option<Box<RelayOut>>,
}

impl Member {
    pub(super) fn new(key: PeerKey) -> Self {
        Self { key, announced: FixedBitSet::new(), paths: [0; 2], unconfirmed: [[0; 2]; 2], out: None }
    }

    /// Room is made for many numbers at a time: they come one after the other.
    pub(super) fn note_announced(&mut self, id: PrefixId) {
        if id.index() >= self.announced.len() {
            self.announced.grow((id.index() + 1).next_multiple_of(1024));
        }
        self.announced.insert(id.index());
    }

    /// A copy, because whoever asks is about to change it.
    pub(super) fn announced(&self) -> Vec<PrefixId> {
        // Made from such numbers.
        self.announced.ones().map(|index| PrefixId(u32::try_from(index).unwrap_or(u32::MAX))).collect()
    }
}
