//! One way to a prefix, and the attributes that many prefixes share.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use hashbrown::HashTable;

use super::MemberId;
use super::hash::SeededHash;
use super::member::Identity;
use crate::attributes::PathAttributes;
use crate::{Community, Family};

/// The attributes of one or more paths with their next hop. There is one of each ([`Routes`]), so two are equal exactly
/// if their serial numbers are.
#[derive(Debug)]
pub(crate) struct Route {
    /// Never zero.
    pub(crate) serial: u32,
    pub(crate) next_hop: IpAddr,
    pub(crate) attributes: PathAttributes,
    /// NO_ADVERTISE is among its communities (RFC 1997).
    pub(super) no_advertise: bool,
    /// GRACEFUL_SHUTDOWN is (RFC 8326).
    pub(super) graceful_shutdown: bool,
    /// All attributes that are passed on, as octets with four-octet AS numbers; the next hop among them if it is IPv4.
    pub(crate) octets: Bytes,
    /// How far the next hop is; see `next_hops`. The one thing that changes, and with it the order of all paths with it.
    cost: AtomicU32,
}

/// The cost of what cannot be reached.
pub(super) const UNREACHABLE: u32 = u32::MAX;

/// A route with no more octets of attributes fits into the shortest message, whatever is added to them or said twice.
const PLAIN_OCTETS: usize = 512;

impl Route {
    /// Whether nothing that is in it keeps anybody from getting it who takes prefixes of this family: asked once, because it is
    /// so of nearly all.
    pub(super) fn is_plain(&self, family: Family) -> bool {
        !self.no_advertise
            && self.attributes.only_to_customer.is_none()
            && self.octets.len() <= PLAIN_OCTETS
            && Family::of_address(&self.next_hop) == family
    }

    pub(crate) fn cost(&self) -> u32 {
        // The engine is one thread; it is atomic because routes are shared.
        self.cost.load(Ordering::Relaxed)
    }

    pub(super) fn set_cost(&self, cost: u32) {
        self.cost.store(cost, Ordering::Relaxed);
    }
}

/// A path: whose, and what was said of it.
#[derive(Debug, Clone)]
pub(super) struct Path {
    pub(super) route: Arc<Route>,
    pub(super) member: MemberId,
    /// As the peer gave it (RFC 7911); zero without Add-Path.
    pub(super) received_id: u32,
    /// As our peers get it: the same for as long as the path is there, and no other path's to this prefix.
    pub(super) sent_id: u32,
    pub(super) doubt: Doubts,
    /// [`Route::is_plain`] for the family of the prefix, so that the route itself is looked at seldom.
    pub(super) plain: bool,
}

impl Path {
    /// How far its next hop is. What a client of a route server tells is for other clients to reach.
    pub(super) fn cost(&self, identities: &[Identity]) -> u32 {
        if identities[self.member.index()].transparent { 0 } else { self.route.cost() }
    }

    /// RFC 4271 section 9.1.2.1: a path that leads nowhere is not to be chosen.
    pub(super) fn is_eligible(&self, identities: &[Identity]) -> bool {
        identities[self.member.index()].transparent || self.route.cost() != UNREACHABLE
    }
}

/// Why a route is to be announced again, or else forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unconfirmed {
    /// Its session was lost and the peer is expected back (RFC 4724): the route is *stale*.
    Restart,
    /// The peer tells everything again within its session (RFC 7313).
    Refresh,
}

/// A set of [`Unconfirmed`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Doubts {
    restart: bool,
    refresh: bool,
}

impl Doubts {
    pub(super) const fn contains(self, why: Unconfirmed) -> bool {
        match why {
            Unconfirmed::Restart => self.restart,
            Unconfirmed::Refresh => self.refresh,
        }
    }

    /// Whether it was not there.
    pub(super) const fn insert(&mut self, why: Unconfirmed) -> bool {
        !std::mem::replace(self.get_mut(why), true)
    }

    /// Whether it was there.
    pub(super) const fn remove(&mut self, why: Unconfirmed) -> bool {
        std::mem::replace(self.get_mut(why), false)
    }

    const fn get_mut(&mut self, why: Unconfirmed) -> &mut bool {
        match why {
            Unconfirmed::Restart => &mut self.restart,
            Unconfirmed::Refresh => &mut self.refresh,
        }
    }
}

/// One copy of each [`Route`].
#[derive(Debug)]
pub(super) struct Routes {
    hash: SeededHash,
    known: HashTable<Arc<Route>>,
    last_serial: u32,
    /// How many there may be before those that nobody uses any more are looked for. Doubling keeps the cost of looking
    /// constant per route added.
    sweep_at: usize,
}

impl Routes {
    /// Adj-RIBs-Out have a meaning of their own for what is beyond.
    const LAST_SERIAL: u32 = u32::MAX - 1;

    pub(super) fn new(hash: SeededHash) -> Self {
        Self { hash, known: HashTable::new(), last_serial: 0, sweep_at: 64 }
    }

    /// The route with these octets and this next hop; `attributes` is what they mean.
    pub(super) fn intern(
        &mut self,
        octets: &[u8],
        next_hop: IpAddr,
        attributes: impl FnOnce() -> PathAttributes,
    ) -> Arc<Route> {
        let hash = self.hash.route(octets, next_hop);
        if let Some(known) = self.known.find(hash, |route| route.octets == octets && route.next_hop == next_hop) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|route| Arc::strong_count(route) > 1);
            self.sweep_at = (self.known.len() * 2).max(64);
        }
        // Comes round after four thousand million different routes; one of the first that is still there would then be
        // taken for another one by the peers that know it, with that chance in each.
        self.last_serial = if self.last_serial < Self::LAST_SERIAL { self.last_serial + 1 } else { 1 };
        let attributes = attributes();
        let route = Arc::new(Route {
            serial: self.last_serial,
            next_hop,
            no_advertise: attributes.communities.contains(&Community::NO_ADVERTISE),
            graceful_shutdown: attributes.communities.contains(&Community::GRACEFUL_SHUTDOWN),
            attributes,
            octets: Bytes::copy_from_slice(octets),
            cost: AtomicU32::new(0),
        });
        let rehash = |route: &Arc<Route>| self.hash.route(&route.octets, route.next_hop);
        self.known.insert_unique(hash, Arc::clone(&route), rehash);
        route
    }
}
