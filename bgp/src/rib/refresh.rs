//! Answers to ROUTE-REFRESH: plain (RFC 2918), or between BoRR and EoRR (RFC 7313), so that the peer can tell what it
//! holds wrongly.
//!
//! An answer that is demarcated is given to its end before the next one begins: a peer that asks again and again gets
//! pairs, one after the other, and costs one entry per family.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use rustbgpd_wire::{RouteRefreshMessage, RouteRefreshSubtype, Safi};

use crate::Family;

/// Where the answers stand that are demarcated.
#[derive(Debug, Default)]
pub(super) struct Refreshes {
    /// BoRR is to be sent.
    due: BTreeSet<Family>,
    /// BoRR was sent; EoRR follows the last announcement.
    running: BTreeSet<Family>,
    /// Asked for again meanwhile.
    again: BTreeSet<Family>,
}

impl Refreshes {
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty() && self.running.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The peer has asked. Whether an answer is to begin, and not only after the one that it is getting.
    pub(super) fn request(&mut self, family: Family) -> bool {
        if self.running.contains(&family) {
            self.again.insert(family);
            return false;
        }
        self.due.insert(family)
    }

    /// Sent before any of the answer.
    pub(super) fn begin(&mut self) -> Option<Bytes> {
        let family = self.due.pop_first()?;
        self.running.insert(family);
        Some(message(family, RouteRefreshSubtype::BoRR))
    }

    /// To be sent when nothing is pending any more; with the family, if it is to begin again.
    pub(super) fn end(&mut self) -> Option<(Bytes, Option<Family>)> {
        let family = self.running.pop_first()?;
        let again = self.again.remove(&family).then_some(family);
        Some((message(family, RouteRefreshSubtype::EoRR), again))
    }
}

fn message(family: Family, subtype: RouteRefreshSubtype) -> Bytes {
    let mut message = BytesMut::with_capacity(23);
    let encoded = RouteRefreshMessage::new_with_subtype(family.afi(), Safi::Unicast, subtype).encode(&mut message);
    debug_assert!(encoded.is_ok(), "a refresh without filters always fits");
    message.freeze()
}
