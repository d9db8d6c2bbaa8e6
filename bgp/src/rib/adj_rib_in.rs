//! Adj-RIB-In: the routes of one peer that the import policy accepted.
//!
//! A route is in doubt from the moment on in which the peer is to announce it again ([`Unconfirmed`]) until it has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::Family;
use crate::attributes::PathAttributes;

/// One accepted route. Prefixes of one UPDATE share their attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AcceptedRoute {
    pub(crate) attributes: Arc<PathAttributes>,
    pub(crate) next_hop: IpAddr,
}

/// Why a route is to be announced again, or else forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unconfirmed {
    /// Its session was lost and the peer is expected back (RFC 4724): the route is *stale*.
    Restart,
    /// The peer tells everything again within its session (RFC 7313).
    Refresh,
}

#[derive(Debug, Default)]
pub(crate) struct AdjRibIn {
    routes: BTreeMap<IpNet, AcceptedRoute>,
    /// By [`Unconfirmed`]. Each of them is in `routes`.
    unconfirmed: [BTreeSet<IpNet>; 2],
}

impl AdjRibIn {
    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    pub(crate) fn unconfirmed(&self, why: Unconfirmed) -> usize {
        self.unconfirmed[why as usize].len()
    }

    /// Every route, and whether it is stale.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&IpNet, &AcceptedRoute, bool)> {
        let stale = &self.unconfirmed[Unconfirmed::Restart as usize];
        self.routes.iter().map(|(prefix, route)| (prefix, route, stale.contains(prefix)))
    }

    /// Whether this changed anything. The route is in doubt no longer.
    pub(crate) fn insert(&mut self, prefix: IpNet, route: AcceptedRoute) -> bool {
        let was_stale = self.confirm(&prefix);
        let changed = self.routes.get(&prefix) != Some(&route);
        if changed {
            self.routes.insert(prefix, route);
        }
        changed || was_stale
    }

    /// Whether this changed anything: a withdrawal of what was never accepted does not (RFC 4271 section 9).
    pub(crate) fn remove(&mut self, prefix: &IpNet) -> bool {
        self.confirm(prefix);
        self.routes.remove(prefix).is_some()
    }

    /// Whether this changed anything.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&IpNet, &AcceptedRoute) -> bool) -> bool {
        let before = self.routes.len();
        self.routes.retain(|prefix, route| keep(prefix, route));
        for prefixes in &mut self.unconfirmed {
            prefixes.retain(|prefix| self.routes.contains_key(prefix));
        }
        before != self.routes.len()
    }

    /// Whether this changed anything.
    pub(crate) fn clear(&mut self) -> bool {
        self.retain(|_, _| false)
    }

    /// Whether this changed anything.
    pub(crate) fn drop_family(&mut self, family: Family) -> bool {
        self.retain(|prefix, _| Family::of(prefix) != family)
    }

    /// Every route of the family is in doubt from now on; returns how many that are.
    pub(crate) fn doubt(&mut self, why: Unconfirmed, family: Family) -> usize {
        let prefixes = &mut self.unconfirmed[why as usize];
        let before = prefixes.len();
        prefixes.extend(self.routes.keys().filter(|prefix| Family::of(prefix) == family));
        prefixes.len() - before
    }

    /// Forgets what is still in doubt in the family. Whether this changed anything.
    pub(crate) fn drop_unconfirmed(&mut self, why: Unconfirmed, family: Family) -> bool {
        let (dropped, kept): (BTreeSet<IpNet>, BTreeSet<IpNet>) = std::mem::take(&mut self.unconfirmed[why as usize])
            .into_iter()
            .partition(|prefix| Family::of(prefix) == family);
        self.unconfirmed[why as usize] = kept;
        for prefix in &dropped {
            self.remove(prefix);
        }
        !dropped.is_empty()
    }

    /// Nobody will say what is wrong any more: everything stays as it is.
    pub(crate) fn end_doubt(&mut self, why: Unconfirmed) {
        self.unconfirmed[why as usize].clear();
    }

    /// Whether the route was stale.
    fn confirm(&mut self, prefix: &IpNet) -> bool {
        self.unconfirmed[Unconfirmed::Refresh as usize].remove(prefix);
        self.unconfirmed[Unconfirmed::Restart as usize].remove(prefix)
    }
}
