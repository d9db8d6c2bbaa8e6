//! Adj-RIB-In: the routes of one peer that the import policy accepted.
//!
//! A route is *stale* while its session is gone and the peer is expected back (RFC 4724), and until it has been announced
//! again.

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

#[derive(Debug, Default)]
pub(crate) struct AdjRibIn {
    routes: BTreeMap<IpNet, AcceptedRoute>,
    /// Each of them is in `routes`.
    stale: BTreeSet<IpNet>,
}

impl AdjRibIn {
    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    /// How many of them are stale.
    pub(crate) fn stale(&self) -> usize {
        self.stale.len()
    }

    /// Every route, and whether it is stale.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&IpNet, &AcceptedRoute, bool)> {
        self.routes.iter().map(|(prefix, route)| (prefix, route, self.stale.contains(prefix)))
    }

    /// Whether this changed anything. The route is not stale any more.
    pub(crate) fn insert(&mut self, prefix: IpNet, route: AcceptedRoute) -> bool {
        let was_stale = self.stale.remove(&prefix);
        let changed = self.routes.get(&prefix) != Some(&route);
        if changed {
            self.routes.insert(prefix, route);
        }
        changed || was_stale
    }

    /// Whether this changed anything: a withdrawal of what was never accepted does not (RFC 4271 section 9).
    pub(crate) fn remove(&mut self, prefix: &IpNet) -> bool {
        self.stale.remove(prefix);
        self.routes.remove(prefix).is_some()
    }

    /// Whether this changed anything.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&IpNet, &AcceptedRoute) -> bool) -> bool {
        let before = self.routes.len();
        self.routes.retain(|prefix, route| keep(prefix, route));
        self.stale.retain(|prefix| self.routes.contains_key(prefix));
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

    /// Every route of the family is stale from now on; returns how many that are.
    pub(crate) fn mark_stale(&mut self, family: Family) -> usize {
        let before = self.stale.len();
        self.stale.extend(self.routes.keys().filter(|prefix| Family::of(prefix) == family));
        self.stale.len() - before
    }

    /// Forgets what is stale in the family. Whether this changed anything.
    pub(crate) fn drop_stale(&mut self, family: Family) -> bool {
        let (dropped, kept) =
            std::mem::take(&mut self.stale).into_iter().partition(|prefix| Family::of(prefix) == family);
        self.stale = kept;
        let dropped: BTreeSet<IpNet> = dropped;
        for prefix in &dropped {
            self.routes.remove(prefix);
        }
        !dropped.is_empty()
    }
}
