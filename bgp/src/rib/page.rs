//! Reading routes from outside, a page at a time: whoever looks at a table of a million routes keeps the engine from nothing.
//!
//! A page costs a bounded number of looks, whatever there is and however little of it was asked for. Between two pages the
//! table may change: what was there all the time is shown once, what came or went meanwhile may be or not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Bound;

use ipnet::IpNet;

use super::member::MemberId;
use super::path::Path;
use super::selection;
use super::table::{Destination, PrefixId};
use super::{AdjRibOut, Rib};
use crate::next_hop::NextHop;
use crate::update::Export;
use crate::{Family, LearnedPath, Origin, PeerKey, RouteAttributes};

/// Which routes are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteQuery {
    pub table: RouteTable,
    pub filter: RouteFilter,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// At most so many; no more than [`RouteQuery::MOST`].
    pub limit: usize,
}

impl RouteQuery {
    pub const MOST: usize = 1000;
}

/// Whose routes, and in which direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTable {
    /// What a peer has told and was accepted; of all peers if none is named.
    In(Option<PeerKey>),
    /// What a peer was told.
    Out(PeerKey),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteFilter {
    All,
    /// This prefix and what lies in it.
    Within(IpNet),
    /// The prefixes that a packet to this address could match.
    Covering(IpAddr),
}

impl RouteFilter {
    pub(crate) fn matches(&self, prefix: &IpNet) -> bool {
        match self {
            Self::All => true,
            Self::Within(wide) => wide.contains(prefix),
            Self::Covering(address) => prefix.contains(address),
        }
    }
}

/// A place between two pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// In what the embedder wants announced.
    Own(IpNet),
    /// In the table of all peers' routes, at the prefix with this number.
    Table(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePage {
    pub routes: Vec<ShownRoute>,
    /// `None`: that was the last page.
    pub next: Option<Cursor>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRoute {
    pub prefix: IpNet,
    /// Of a route that a peer was told, `peer` is that peer.
    pub path: LearnedPath,
    pub standing: Standing,
}

/// What is to be known of a route besides its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The best of all paths to this prefix.
    Best,
    /// Accepted, and another one is better.
    Other,
    /// Accepted, and no route leads to its next hop.
    Unreachable,
    /// The peer has it as it is to have it.
    Told,
    /// The peer has it, and is to be told something else. The attributes shown are those to come, if any are.
    Outdated,
}

/// So many entries are looked at for a page.
const LOOKS: usize = 16 * 1024;

impl Rib {
    pub(crate) fn page_in(&self, member: Option<MemberId>, query: &RouteQuery) -> RoutePage {
        self.page(query, |destination, _, routes| {
            let eligible = |path: &Path| path.is_eligible(&self.identities);
            let best = selection::best(destination, &self.identities, eligible);
            for path in destination.paths.iter().filter(|path| member.is_none_or(|member| path.member == member)) {
                let is_best = best.is_some_and(|best| std::ptr::eq(best, path));
                let standing = match is_best {
                    true => Standing::Best,
                    false if eligible(path) => Standing::Other,
                    false => Standing::Unreachable,
                };
                routes.push(ShownRoute { prefix: destination.prefix, path: self.learned_path(path), standing });
            }
        })
    }

    /// Of other peers' routes, what this one was told.
    pub(crate) fn page_out(&self, member: MemberId, query: &RouteQuery) -> RoutePage {
        let Some(out) = &self.members[member.index()].out else { return RoutePage { routes: Vec::new(), next: None } };
        self.page(query, |destination, id, routes| {
            for (path_id, serial) in out.told_of(id) {
                let known = destination.paths.iter().find(|path| path.route.serial == serial);
                let standing = if known.is_some() { Standing::Told } else { Standing::Outdated };
                let attributes = known.or_else(|| destination.paths.first());
                let told =
                    |path: &Path| LearnedPath { peer: self.key(member).clone(), path_id, ..self.learned_path(path) };
                // A withdrawal that waits has no attributes.
                if let Some(path) = attributes.map(told) {
                    routes.push(ShownRoute { prefix: destination.prefix, path, standing });
                }
            }
        })
    }

    fn page(
        &self,
        query: &RouteQuery,
        mut show: impl FnMut(&Destination, PrefixId, &mut Vec<ShownRoute>),
    ) -> RoutePage {
        let start = match query.after {
            Some(Cursor::Table(number)) => number,
            Some(Cursor::Own(_)) | None => 0,
        };
        let (mut routes, limit) = (Vec::new(), query.limit.min(RouteQuery::MOST));
        for (looks, (id, destination)) in self.table.from(PrefixId(start)).enumerate() {
            // A destination is shown whole or not at all, so a page may be a few routes longer than asked for.
            if looks == LOOKS || routes.len() >= limit {
                return RoutePage { routes, next: Some(Cursor::Table(id.0)) };
            }
            if query.filter.matches(&destination.prefix) {
                show(destination, id, &mut routes);
            }
        }
        RoutePage { routes, next: None }
    }
}

impl AdjRibOut {
    /// What the peer has of us. [`Cursor::Table`] as the next place: this was the last of it.
    pub(crate) fn page(&self, peer: &PeerKey, export: &Export, query: &RouteQuery) -> RoutePage {
        // What lies in a prefix follows it, before anything that does not.
        let within = match query.filter {
            RouteFilter::Within(wide) => Some(wide.trunc()),
            RouteFilter::All | RouteFilter::Covering(_) => None,
        };
        let start = match query.after {
            Some(Cursor::Own(last)) => Bound::Excluded(last),
            Some(Cursor::Table(_)) | None => within.map_or(Bound::Unbounded, Bound::Included),
        };
        let (mut routes, limit) = (Vec::new(), query.limit.min(RouteQuery::MOST));
        // What was to be told again, and is not wanted any more.
        let unknown = RouteAttributes::default();
        let mut last = None;
        let told = self.told_after(start).take_while(|(prefix, ..)| within.is_none_or(|wide| wide.contains(*prefix)));
        for (looks, (prefix, told, wanted)) in told.enumerate() {
            if looks == LOOKS || routes.len() >= limit {
                return RoutePage { routes, next: last.map(Cursor::Own) };
            }
            last = Some(*prefix);
            if !query.filter.matches(prefix) {
                continue;
            }
            let standing = if told.is_some() && told == wanted { Standing::Told } else { Standing::Outdated };
            let path = path_told(peer, Family::of(prefix), wanted.or(told).unwrap_or(&unknown), export);
            routes.push(ShownRoute { prefix: *prefix, path, standing });
        }
        RoutePage { routes, next: Some(Cursor::Table(0)) }
    }
}

/// A route of ours as the peer has it.
fn path_told(peer: &PeerKey, family: Family, attributes: &RouteAttributes, export: &Export) -> LearnedPath {
    let next_hop = match (export.next_hop(family, attributes), family) {
        (Some(NextHop::V4(address)), _) => IpAddr::V4(address),
        (Some(NextHop::V6 { address, .. }), _) => IpAddr::V6(address),
        // Nothing is told without one.
        (None, Family::Ipv4Unicast) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (None, Family::Ipv6Unicast) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    LearnedPath {
        peer: peer.clone(),
        path_id: 0,
        stale: false,
        next_hop,
        origin: Origin::Igp,
        as_path: export.as_path(attributes),
        med: attributes.med,
        local_preference: export.internal.then(|| attributes.local_preference.unwrap_or(100)),
        communities: attributes.communities.clone(),
        large_communities: attributes.large_communities.clone(),
        extended_communities: export.extended_communities(attributes),
        only_to_customer: export.only_to_customer,
        aigp: None,
    }
}
