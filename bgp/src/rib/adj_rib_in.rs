//! Adj-RIB-In: the routes of one peer that the import policy accepted.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

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
}

impl AdjRibIn {
    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&IpNet, &AcceptedRoute)> {
        self.routes.iter()
    }

    /// Whether this changed anything.
    pub(crate) fn insert(&mut self, prefix: IpNet, route: AcceptedRoute) -> bool {
        let changed = self.routes.get(&prefix) != Some(&route);
        if changed {
            self.routes.insert(prefix, route);
        }
        changed
    }

    /// Whether this changed anything: a withdrawal of what was never accepted does not (RFC 4271 section 9).
    pub(crate) fn remove(&mut self, prefix: &IpNet) -> bool {
        self.routes.remove(prefix).is_some()
    }

    /// Whether this changed anything.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&IpNet, &AcceptedRoute) -> bool) -> bool {
        let before = self.routes.len();
        self.routes.retain(|prefix, route| keep(prefix, route));
        before != self.routes.len()
    }

    /// Whether this changed anything.
    pub(crate) fn clear(&mut self) -> bool {
        let changed = !self.routes.is_empty();
        self.routes.clear();
        changed
    }
}
