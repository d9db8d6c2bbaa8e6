//! What everybody must have learned in the end, from the definitions: no order of events, nothing kept between two looks, no cleverness.
//!
//! Routes go from host to host until nothing changes any more. Each look at a prefix compares all paths rule by rule, as RFC 4271
//! section 9.1.2.2 says it: whatever is worse by a rule is out, and the next rule looks at the rest.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use roadstead_bgp::{Asn, Community, ExtendedCommunity, LargeCommunity, Relay, Role};

use crate::ways::{self, Ways};

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
    pub(crate) only_to_customer: Option<Asn>,
    pub(crate) aigp: Option<u64>,
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
    /// The sender's AS and the receiver's.
    pub(crate) from_asn: Asn,
    pub(crate) asn: Asn,
    /// What the sender says that it is to the receiver, and the other way round.
    pub(crate) role: Option<Role>,
    pub(crate) receiver_role: Option<Role>,
    /// Whether the sender tells accumulated metrics, and the receiver hears them.
    pub(crate) tells_metrics: bool,
    pub(crate) hears_metrics: bool,
    /// What the sender tells as next hop of what it passes on, by family; nothing: what it came with.
    pub(crate) own_next_hops: Option<[IpAddr; 2]>,
    /// Which next hops the sender can reach.
    pub(crate) ways: Ways,
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
                    let of_source = paths.iter().filter(|path| may_get(direction, path));
                    let of_source = of_source.map(|path| (*source, path.clone()));
                    candidates.entry(*prefix).or_default().extend(of_source);
                }
            }
            for (prefix, mut candidates) in candidates {
                let mut chosen = Vec::new();
                while chosen.len() < direction.paths
                    && let Some(position) = best(
                        &candidates,
                        |source| directions[&(source, from)].internal,
                        |path| cost(direction, path).unwrap_or(0),
                    )
                {
                    let (source, mut path) = candidates.remove(position);
                    tell(direction, &prefix, &mut path.seen);
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
            for path in &mut paths {
                path.seen.aigp = path.seen.aigp.filter(|_| direction.hears_metrics);
            }
            paths.retain_mut(|path| {
                hear_mark(direction, &mut path.seen.only_to_customer)
                    && (direction.takes)(&prefix)
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

/// How far it is from the sender to where the path leads; what a route server passes on is no matter of its own ways.
fn cost(direction: &Direction, path: &Path) -> Option<u32> {
    match direction.relay {
        Relay::RouteServerClient => Some(0),
        _ => ways::cost(&direction.ways, path.seen.next_hop),
    }
}

/// Whether the sender may pass this on to the receiver: it can get there itself, and RFC 9234 section 5 does not forbid it.
fn may_get(direction: &Direction, path: &Path) -> bool {
    let upwards = matches!(direction.role, Some(Role::Customer | Role::Peer | Role::RouteServerClient));
    cost(direction, path).is_some() && !(upwards && path.seen.only_to_customer.is_some())
}

/// What the sender makes of a path that it passes on.
fn tell(direction: &Direction, prefix: &IpNet, seen: &mut Seen) {
    if matches!(direction.role, Some(Role::Provider | Role::Peer | Role::RouteServer)) {
        seen.only_to_customer = seen.only_to_customer.or(Some(direction.from_asn));
    }
    seen.aigp = seen.aigp.filter(|_| direction.tells_metrics);
    if let Some([ipv4, ipv6]) = direction.own_next_hops {
        let cost = ways::cost(&direction.ways, seen.next_hop).unwrap_or(0);
        seen.aigp = seen.aigp.map(|metric| metric + u64::from(cost));
        seen.next_hop = if matches!(prefix, IpNet::V4(_)) { ipv4 } else { ipv6 };
    }
}

/// RFC 9234 section 5, at the receiver: `false` for a leak.
fn hear_mark(direction: &Direction, mark: &mut Option<Asn>) -> bool {
    match direction.receiver_role {
        None => true,
        Some(Role::Provider | Role::RouteServer) => mark.is_none(),
        Some(Role::Peer) if mark.is_some_and(|mark| mark != direction.from_asn) => false,
        Some(Role::Peer | Role::Customer | Role::RouteServerClient) => {
            *mark = mark.or(Some(direction.from_asn));
            true
        }
    }
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
fn best(paths: &[(usize, Path)], internal: impl Fn(usize) -> bool, cost: impl Fn(&Path) -> u32) -> Option<usize> {
    let mut left: Vec<usize> = (0..paths.len()).collect();
    let path = |index: usize| &paths[index].1;
    let seen = |index: usize| &paths[index].1.seen;
    keep_lowest(&mut left, |index| u32::MAX - seen(index).local_preference.unwrap_or(100));
    // RFC 7311 section 4.1
    keep_lowest(&mut left, |index| seen(index).aigp.map_or(u32::MAX, |metric| metric as u32 + cost(path(index))));
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
    keep_lowest(&mut left, |index| cost(path(index)));
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
