//! What everybody must have learned in the end, from the definitions: no order of events, nothing kept between two looks, no cleverness.
//!
//! Routes go from host to host until nothing changes any more. Each look at a prefix compares all paths rule by rule, as RFC 4271
//! section 9.1.2.2 says it: whatever is worse by a rule is out, and the next rule looks at the rest.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use roadstead_bgp::{Asn, Community, ExtendedCommunity, LargeCommunity, Relay};

/// What can be seen of a learned route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(crate) next_hop: IpAddr,
    pub(crate) as_path: Vec<Asn>,
    pub(crate) med: Option<u32>,
    pub(crate) local_preference: Option<u32>,
    pub(crate) communities: Vec<Community>,
    pub(crate) large_communities: Vec<LargeCommunity>,
    pub(crate) extended_communities: Vec<ExtendedCommunity>,
}

/// A path on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) seen: Seen,
    /// Who has told it first, within the AS.
    pub(crate) originator: Option<usize>,
    pub(crate) clusters: Vec<std::net::Ipv4Addr>,
}

/// One direction of a session.
pub(crate) struct Direction {
    pub(crate) internal: bool,
    /// The part that the sender gives to the receiver.
    pub(crate) relay: Relay,
    /// How many paths of a prefix are told.
    pub(crate) paths: usize,
    /// What the sender itself wants the receiver to know, as it is told.
    pub(crate) own: BTreeMap<IpNet, Path>,
    /// Prefixes that the receiver takes.
    pub(crate) takes: Box<dyn Fn(&IpNet) -> bool>,
    /// The receiver's AS.
    pub(crate) asn: Asn,
    /// The receiver's, if it is a reflector on this session.
    pub(crate) cluster: Option<std::net::Ipv4Addr>,
}

/// By sender and receiver.
pub(crate) type Directions = BTreeMap<(usize, usize), Direction>;

/// By sender, receiver and prefix: what the receiver keeps, best first.
pub(crate) type Learned = BTreeMap<(usize, usize, IpNet), Vec<Path>>;

pub(crate) fn learned(directions: &Directions) -> Learned {
    let mut learned = Learned::new();
    // A path passes two reflectors at most, and what was told before may be taken back.
    for _ in 0..10 {
        let next = step(directions, &learned);
        if next == learned {
            return learned;
        }
        learned = next;
    }
    panic!("the model does not come to rest");
}

fn step(directions: &Directions, known: &Learned) -> Learned {
    let mut next = Learned::new();
    for (&(from, to), direction) in directions {
        let mut told: BTreeMap<IpNet, Vec<Path>> =
            direction.own.iter().map(|(prefix, path)| (*prefix, vec![path.clone()])).collect();
        if direction.relay != Relay::Nothing {
            let mut candidates: BTreeMap<IpNet, Vec<(usize, Path)>> = BTreeMap::new();
            for ((source, at, prefix), paths) in known {
                if *at == from && *source != to && passes(directions[&(from, *source)].relay, direction.relay) {
                    let of_source = paths.iter().map(|path| (*source, path.clone()));
                    candidates.entry(*prefix).or_default().extend(of_source);
                }
            }
            for (prefix, mut candidates) in candidates {
                let mut chosen = Vec::new();
                while chosen.len() < direction.paths
                    && let Some(position) = best(&candidates, |source| directions[&(source, from)].internal)
                {
                    let (source, mut path) = candidates.remove(position);
                    if let Relay::ReflectorClient { cluster } | Relay::ReflectorPeer { cluster } = direction.relay {
                        path.originator = path.originator.or(Some(source));
                        path.clusters.insert(0, cluster);
                    }
                    chosen.push(path);
                }
                told.insert(prefix, chosen);
            }
        }
        for (prefix, mut paths) in told {
            paths.retain(|path| {
                (direction.takes)(&prefix)
                    && !path.seen.as_path.contains(&direction.asn)
                    && path.originator != Some(to)
                    && direction.cluster.is_none_or(|cluster| !path.clusters.contains(&cluster))
            });
            if !paths.is_empty() {
                next.insert((from, to, prefix), paths);
            }
        }
    }
    next
}

/// RFC 4456 section 6, RFC 7947.
fn passes(from: Relay, to: Relay) -> bool {
    let client = |relay| matches!(relay, Relay::ReflectorClient { .. });
    let other = |relay| matches!(relay, Relay::ReflectorPeer { .. });
    (from == Relay::RouteServerClient && to == Relay::RouteServerClient)
        || (client(from) && (client(to) || other(to)))
        || (other(from) && client(to))
}

/// The position of the best among paths from several sources.
fn best(paths: &[(usize, Path)], internal: impl Fn(usize) -> bool) -> Option<usize> {
    let mut left: Vec<usize> = (0..paths.len()).collect();
    let path = |index: usize| &paths[index].1;
    let seen = |index: usize| &paths[index].1.seen;
    keep_lowest(&mut left, |index| u32::MAX - seen(index).local_preference.unwrap_or(100));
    keep_lowest(&mut left, |index| seen(index).as_path.len() as u32);
    // Of each neighbouring AS the lowest MED.
    let all = left.clone();
    left.retain(|&index| {
        let worse = |other: &usize| {
            seen(*other).as_path.first() == seen(index).as_path.first()
                && seen(*other).med.unwrap_or(0) < seen(index).med.unwrap_or(0)
        };
        !all.iter().any(worse)
    });
    keep_lowest(&mut left, |index| u32::from(internal(paths[index].0)));
    // Router IDs and addresses go up with the hosts' numbers.
    keep_lowest(&mut left, |index| path(index).originator.unwrap_or(paths[index].0) as u32);
    keep_lowest(&mut left, |index| path(index).clusters.len() as u32);
    keep_lowest(&mut left, |index| paths[index].0 as u32);
    assert!(left.len() <= 1, "one path of each source");
    left.first().copied()
}

fn keep_lowest(left: &mut Vec<usize>, of: impl Fn(usize) -> u32) {
    let lowest = left.iter().map(|index| of(*index)).min();
    left.retain(|index| Some(of(*index)) == lowest);
}
