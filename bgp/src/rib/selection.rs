//! Best path selection: RFC 4271 section 9.1.2 with the additions of RFC 4456 section 9, in an order that depends on
//! nothing but the paths, so that the same paths give the same choice whatever came first.
//!
//! Paths are compared rule by rule ([`SelectionRule`], in that order), and the first that differs decides. Age is not
//! among the rules: it makes the choice depend on history.
//!
//! MED is compared between paths of the same neighbouring AS only (RFC 4271 section 9.1.2.2 (c)), so it gives no order of
//! all paths: A before B, B before C and C before A can all hold. What is meant by the RFC is an elimination, and
//! [`best`] is that: first among the paths of each neighbouring AS, then among those that are left. As long as no MED
//! decides anything, which is nearly always, the paths of a destination are in one order and the best of any part of
//! them is its first.

use std::cmp::Ordering;
use std::fmt;
use std::net::Ipv4Addr;

use super::member::Identity;
use super::path::{Path, Route};
use super::paths::Paths;
use super::table::Destination;
use crate::Asn;

/// What made one path better than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SelectionRule {
    /// The higher LOCAL_PREF (RFC 4271 section 9.1.1); 100 where there is none, and 0 for what an external peer has marked with
    /// GRACEFUL_SHUTDOWN (RFC 8326).
    LocalPreference,
    /// The lower accumulated metric with the way to the next hop added, and any before none (RFC 7311 section 4.1).
    AccumulatedMetric,
    /// The shorter AS_PATH (section 9.1.2.2 (a)).
    AsPathLength,
    /// The lower ORIGIN: IGP before EGP before INCOMPLETE (b).
    Origin,
    /// The lower MULTI_EXIT_DISC of two paths from the same neighbouring AS (c); 0 where there is none.
    Med,
    /// From an external peer rather than from an internal one (d).
    External,
    /// The nearer next hop (e); all are equally near unless [`Speaker::handle_next_hop_routes`](crate::Speaker::handle_next_hop_routes)
    /// was told otherwise.
    InteriorCost,
    /// The lower BGP identifier of the peer, or ORIGINATOR_ID where there is one (f; RFC 4456 section 9).
    RouterId,
    /// The shorter CLUSTER_LIST (RFC 4456 section 9).
    ClusterListLength,
    /// The lower address of the peer (RFC 4271 section 9.1.2.2 (g)).
    PeerAddress,
    /// The lower path identifier of two paths from the same peer (RFC 7911).
    PathIdentifier,
}

impl SelectionRule {
    /// Whether it stands behind everything that says how good a path is (multipath).
    pub const fn breaks_ties(self) -> bool {
        matches!(self, Self::RouterId | Self::ClusterListLength | Self::PeerAddress | Self::PathIdentifier)
    }
}

impl fmt::Display for SelectionRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LocalPreference => "higher local preference",
            Self::AccumulatedMetric => "lower accumulated metric",
            Self::AsPathLength => "shorter AS path",
            Self::Origin => "lower origin",
            Self::Med => "lower MED from the same neighbouring AS",
            Self::External => "from an external peer",
            Self::InteriorCost => "lower cost of the way to the next hop",
            Self::RouterId => "lower router ID",
            Self::ClusterListLength => "shorter cluster list",
            Self::PeerAddress => "lower peer address",
            Self::PathIdentifier => "lower path identifier",
        })
    }
}

const DEFAULT_LOCAL_PREFERENCE: u32 = 100;

/// Puts `path` where it belongs, and returns where that is.
pub(super) fn insert(destination: &mut Destination, path: Path, identities: &[Identity]) -> usize {
    if destination.paths.is_empty() {
        destination.paths = Paths::One(path);
        return 0;
    }
    let before = |other: &Path| rank(other, &path, identities).0 == Ordering::Less;
    let position = destination.paths.iter().position(|other| !before(other)).unwrap_or(destination.paths.len());
    let differs = |other: &Path| med(&path.route, &other.route) != Ordering::Equal;
    destination.med_decides = destination.med_decides || destination.paths.iter().any(differs);
    destination.paths.insert(position, path);
    position
}

/// Notes whether MED still has a say, after a path went.
pub(super) fn note_removal(destination: &mut Destination) {
    if !destination.med_decides {
        return;
    }
    let paths = &destination.paths;
    let decides = |(position, path): (usize, &Path)| {
        paths.iter().skip(position + 1).any(|other| med(&path.route, &other.route) != Ordering::Equal)
    };
    destination.med_decides = paths.iter().enumerate().any(decides);
}

/// The best of the paths that `eligible` lets pass.
pub(super) fn best<'a>(
    destination: &'a Destination,
    identities: &[Identity],
    eligible: impl Fn(&Path) -> bool,
) -> Option<&'a Path> {
    let mut candidates = destination.paths.iter().filter(|path| eligible(path));
    if destination.med_decides { by_elimination(candidates, identities) } else { candidates.next() }
}

/// The best where MED gives paths no order.
fn by_elimination<'a>(candidates: impl Iterator<Item = &'a Path>, identities: &[Identity]) -> Option<&'a Path> {
    // The first of each neighbouring AS by MED and then by rank; of those the first by rank.
    let mut winners: Vec<&Path> = Vec::new();
    for path in candidates {
        match winners.iter_mut().find(|winner| neighbour(&winner.route) == neighbour(&path.route)) {
            Some(winner) if compare(path, winner, identities).0 == Ordering::Less => *winner = path,
            Some(_) => {}
            None => winners.push(path),
        }
    }
    winners.into_iter().min_by(|one, other| rank(one, other, identities).0)
}

/// The best, then the best of the rest, and so on, `most` of them.
pub(super) fn first<'a>(
    destination: &'a Destination,
    identities: &[Identity],
    most: usize,
    eligible: impl Fn(&Path) -> bool,
) -> Vec<&'a Path> {
    if !destination.med_decides {
        return destination.paths.iter().filter(|path| eligible(path)).take(most).collect();
    }
    let mut chosen: Vec<&Path> = Vec::new();
    while chosen.len() < most {
        let taken = |path: &Path| chosen.iter().any(|other| std::ptr::eq(*other, path));
        let Some(next) = best(destination, identities, |path| eligible(path) && !taken(path)) else { break };
        chosen.push(next);
    }
    chosen
}

/// Which of two paths is better (`Less`), and by which rule.
pub(super) fn compare(one: &Path, other: &Path, identities: &[Identity]) -> (Ordering, SelectionRule) {
    let (order, rule) = rank(one, other, identities);
    // Before every rule that stands behind it.
    if rule > SelectionRule::Med {
        let by_med = med(&one.route, &other.route);
        if by_med != Ordering::Equal {
            return (by_med, SelectionRule::Med);
        }
    }
    (order, rule)
}

/// The comparison without MED, which alone is an order of all paths.
fn rank(one: &Path, other: &Path, identities: &[Identity]) -> (Ordering, SelectionRule) {
    let (a, b) = (&one.route.attributes, &other.route.attributes);
    let (from, of) = (&identities[one.member.index()], &identities[other.member.index()]);
    let preference = |path: &Path, peer: &Identity| match path.route.attributes.local_preference {
        // RFC 8326 section 4: about to go, so anything else is better.
        _ if path.route.graceful_shutdown && !peer.internal && !peer.transparent => 0,
        given => given.unwrap_or(DEFAULT_LOCAL_PREFERENCE),
    };
    let originator = |given: Option<Ipv4Addr>, peer: &Identity| given.map_or(peer.router_id, u32::from);
    // One after the other, because the first few decide nearly always.
    let route = preference(other, of)
        .cmp(&preference(one, from))
        .named(SelectionRule::LocalPreference)
        .or_else(|| accumulated(one, other, identities).named(SelectionRule::AccumulatedMetric))
        .or_else(|| a.as_path.0.len().cmp(&b.as_path.0.len()).named(SelectionRule::AsPathLength))
        .or_else(|| a.origin.cmp(&b.origin).named(SelectionRule::Origin));
    let tie = || {
        from.internal
            .cmp(&of.internal)
            .named(SelectionRule::External)
            .or_else(|| one.cost(identities).cmp(&other.cost(identities)).named(SelectionRule::InteriorCost))
            .or_else(|| {
                originator(a.originator_id, from).cmp(&originator(b.originator_id, of)).named(SelectionRule::RouterId)
            })
            .or_else(|| a.cluster_list.len().cmp(&b.cluster_list.len()).named(SelectionRule::ClusterListLength))
            .or_else(|| from.address.cmp(&of.address).named(SelectionRule::PeerAddress))
            // Two sessions with one address.
            .or_else(|| one.member.cmp(&other.member).named(SelectionRule::PeerAddress))
    };
    route.or_else(tie).unwrap_or_else(|| (one.received_id.cmp(&other.received_id), SelectionRule::PathIdentifier))
}

/// An order that decides, with the rule that it is by.
trait Named {
    fn named(self, rule: SelectionRule) -> Option<(Ordering, SelectionRule)>;
}

impl Named for Ordering {
    fn named(self, rule: SelectionRule) -> Option<(Ordering, SelectionRule)> {
        self.is_ne().then_some((self, rule))
    }
}

fn accumulated(one: &Path, other: &Path, identities: &[Identity]) -> Ordering {
    let metric = |path: &Path, metric: u64| metric.saturating_add(path.cost(identities).into());
    match (one.route.attributes.aigp, other.route.attributes.aigp) {
        (None, None) => Ordering::Equal,
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (Some(a), Some(b)) => metric(one, a).cmp(&metric(other, b)),
    }
}

fn med(one: &Route, other: &Route) -> Ordering {
    if neighbour(one) != neighbour(other) {
        return Ordering::Equal;
    }
    one.attributes.med.unwrap_or(0).cmp(&other.attributes.med.unwrap_or(0))
}

/// RFC 4271 section 9.1.2.2 (c): the AS that we heard it from, or that our own AS did.
fn neighbour(route: &Route) -> Option<Asn> {
    route.attributes.as_path.0.first().copied()
}
