//! What a network is: who is who, who has a session with whom, and who passes on what.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use roadstead_bgp::{AddPath, AddPathReceive, Asn, Relay, Role};

use crate::network::address;
use crate::random::Random;
use crate::sayings::Added;

/// Who has a session with whom; the lower number first.
pub(crate) type Links = BTreeSet<(usize, usize)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Everybody tells neighbours what is wanted for them, and nobody passes anything on.
    Plain,
    /// Host 0 is a route server, and everybody else its client (RFC 7947).
    RouteServer,
    /// Host 0 is a route reflector, and everybody else a client of it or not (RFC 4456).
    Reflector,
    /// Hosts 0 and 1 are, of one cluster or of two, and have a session with each other; most clients have both.
    Reflectors,
}

impl Shape {
    pub(crate) fn links(self, random: &mut Random, hosts: usize) -> Links {
        match self {
            Self::Plain => any_links(random, hosts),
            Self::RouteServer | Self::Reflector => (1..hosts).map(|host| (0, host)).collect(),
            Self::Reflectors => {
                let mut links = Links::from([(0, 1)]);
                for host in 2..hosts {
                    match random.below(4) {
                        0 => links.extend([(0, host)]),
                        1 => links.extend([(1, host)]),
                        _ => links.extend([(0, host), (1, host)]),
                    }
                }
                links
            }
        }
    }

    /// Some of the hosts share an AS, some have numbers that do not fit into two octets.
    pub(crate) fn asn(self, seed: u64, host: usize) -> Asn {
        let number = match seed % 3 {
            0 => host as u32,
            _ => host as u32 / 2,
        };
        match self {
            Self::RouteServer if host == 0 => Asn(65500),
            Self::Reflector | Self::Reflectors => Asn(64512),
            Self::RouteServer | Self::Plain if number.is_multiple_of(2) => Asn(64500 + number),
            Self::RouteServer | Self::Plain => Asn(4_200_000_000 + number),
        }
    }

    /// The part that `local` gives to `remote`.
    pub(crate) fn relay(self, seed: u64, local: usize, remote: usize) -> Relay {
        let cluster = address(if seed.is_multiple_of(2) { 0 } else { local });
        match (self, local, remote) {
            (Self::RouteServer, 0, _) => Relay::RouteServerClient,
            // Every second is no client.
            (Self::Reflector, 0, _) if remote % 2 == 1 => Relay::ReflectorPeer { cluster },
            (Self::Reflectors, 0 | 1, 0 | 1) => Relay::ReflectorPeer { cluster },
            (Self::Reflector, 0, _) | (Self::Reflectors, 0 | 1, _) => Relay::ReflectorClient { cluster },
            (Self::Plain | Self::RouteServer | Self::Reflector | Self::Reflectors, _, _) => Relay::Nothing,
        }
    }

    /// The cluster for which `local` reflects routes to and from `remote`, if it does.
    pub(crate) fn reflects(self, seed: u64, local: usize, remote: usize) -> Option<Ipv4Addr> {
        match self.relay(seed, local, remote) {
            Relay::ReflectorClient { cluster } | Relay::ReflectorPeer { cluster } => Some(cluster),
            Relay::Nothing | Relay::RouteServerClient => None,
        }
    }

    /// What `local` is to `remote` (RFC 9234), if they are in different ASes; two pairs in seven say nothing of that.
    pub(crate) fn role(self, seed: u64, local: usize, remote: usize) -> Option<Role> {
        if self.asn(seed, local) == self.asn(seed, remote) {
            return None;
        }
        let (low, high) = (local.min(remote), local.max(remote));
        let of_low = match (seed / 5 + (7 * low + high) as u64) % 7 {
            0 => Role::Provider,
            1 => Role::Customer,
            2 => Role::Peer,
            3 => Role::RouteServer,
            4 => Role::RouteServerClient,
            _ => return None,
        };
        Some(if local == low { of_low } else { of_low.counterpart() })
    }

    /// What somebody writes into all that a host announces of its own.
    pub(crate) fn added(self, seed: u64, host: usize) -> Added {
        if self.is_relay(host) {
            return Added::default();
        }
        let aigp = match (seed / 3 + host as u64) % 4 {
            0 => Some(10),
            1 => Some(20),
            _ => None,
        };
        Added { aigp, mark: (seed / 11 + host as u64).is_multiple_of(4).then_some(LEAKED) }
    }

    /// Whether nothing is wanted of this host but that it passes on.
    pub(crate) fn is_relay(self, host: usize) -> bool {
        match self {
            Self::Plain => false,
            Self::RouteServer | Self::Reflector => host == 0,
            Self::Reflectors => host < 2,
        }
    }

    /// Every third client gets several paths of each prefix.
    pub(crate) fn add_path(self, local: usize, remote: usize) -> AddPath {
        match (self.is_relay(local), self.is_relay(remote)) {
            (true, false) if remote.is_multiple_of(3) => AddPath { receive: AddPathReceive::One, send: SEVERAL },
            (false, true) if local.is_multiple_of(3) => AddPath { receive: AddPathReceive::Several, send: 0 },
            _ => AddPath::default(),
        }
    }

    /// How many paths `from` tells `to` of a prefix.
    pub(crate) fn paths(self, from: usize, to: usize) -> usize {
        usize::from(self.add_path(from, to).send).max(1)
    }
}

const SEVERAL: u8 = 2;

/// Whose customers alone are to have a route that is told on all the same.
const LEAKED: Asn = Asn(64666);

/// Everybody with everybody where there are few; else a tree, a star or a ring, and a few links across.
fn any_links(random: &mut Random, hosts: usize) -> Links {
    let mut links = Links::new();
    let mut join = |one: usize, other: usize| {
        if one != other {
            links.insert((one.min(other), one.max(other)));
        }
    };
    let shape = if hosts <= 5 { 0 } else { 1 + random.below(3) };
    for host in 1..hosts {
        match shape {
            0 => (0..host).for_each(|other| join(host, other)),
            1 => join(host, random.below(host as u64) as usize),
            2 => join(host, 0),
            _ => {
                join(host, host - 1);
                join(0, hosts - 1);
            }
        }
    }
    for _ in 0..hosts / 10 {
        join(random.below(hosts as u64) as usize, random.below(hosts as u64) as usize);
    }
    links
}
