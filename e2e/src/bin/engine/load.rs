//! What is sent: every byte is there before the clock starts, and the same in every run.
//!
//! The device is a route server in AS 64999 at 10.77.0.1. Each of its clients is known by its address; their AS numbers lie
//! in one range, as the route server's manifest has it.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::Arc;

use crate::wire::{self, Attributes};

/// Where the device under test listens.
pub(crate) const DEVICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const DEVICE_ASN: u16 = 64999;
/// AS numbers of all clients.
pub(crate) const CLIENT_ASNS: Range<u16> = 64600..64999;

/// 20.0.0.0/24, the first of those that come one after the other.
const FIRST: u32 = (1 << 24) + 0x14_0000;
/// The prefix that comes and goes alone; in no other load.
const ALONE: u32 = (1 << 24) + 0xdf_ffff;

/// A client of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) role: Role,
    pub(crate) address: Ipv4Addr,
    pub(crate) asn: u16,
}

/// What a client is there for. Its address says it too, to the floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Sends; what it receives is thrown away.
    Feeder,
    /// Receives.
    Monitor,
    /// Both, in a mesh.
    Node,
}

impl Role {
    pub(crate) const ALL: [Self; 3] = [Self::Feeder, Self::Monitor, Self::Node];

    fn network(self) -> u8 {
        match self {
            Self::Feeder => 1,
            Self::Monitor => 2,
            Self::Node => 3,
        }
    }

    pub(crate) fn of(address: Ipv4Addr) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.network() == address.octets()[2])
    }

    pub(crate) fn sends(self) -> bool {
        self != Self::Monitor
    }

    pub(crate) fn receives(self) -> bool {
        self != Self::Feeder
    }
}

/// Everything that one measurement sends, and what is to arrive.
pub(crate) struct Load {
    pub(crate) clients: Vec<Client>,
    /// One for each client that sends, in their order.
    pub(crate) feeds: Vec<Feed>,
    /// All prefixes lie in here.
    pub(crate) nodes: Range<u32>,
    /// So many prefixes are at each receiver in the end.
    pub(crate) expected: usize,
    pub(crate) afterwards: Afterwards,
}

/// The bytes of one feeder.
pub(crate) struct Feed {
    pub(crate) announce: Arc<[u8]>,
    pub(crate) withdraw: Arc<[u8]>,
}

/// What else is measured while all routes are there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    Nothing,
    /// How much of a core the device takes with nothing to do.
    Idle,
    /// How long one prefix takes from the feeder to the monitor, so many times.
    OnePrefix(usize),
}

/// The loads by name. In `quick` form they are a tenth, and show nothing but that the bench works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Name {
    OneFeeder,
    TenFeeders,
    SamePrefixes,
    FullTable,
    Mesh,
}

impl Name {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::OneFeeder => "one-feeder: 1 feeder x 100,000 /24, 10 per attribute set -> 1 monitor",
            Self::TenFeeders => "ten-feeders: 10 feeders x 20,000 /24, all distinct -> 2 monitors",
            Self::SamePrefixes => "same-prefixes: 10 feeders x the same 20,000 /24 -> 2 monitors",
            Self::FullTable => "full-table: 1 feeder x 1,000,000 prefixes as in the public table -> 1 monitor",
            Self::Mesh => "mesh: 200 peers x 50 /24, everybody to everybody",
        }
    }

    pub(crate) fn load(self, quick: bool) -> Load {
        let tenth = |count: u32| if quick { count / 10 } else { count };
        match self {
            Self::OneFeeder => feeders(1, 1, |_| FIRST..FIRST + tenth(100_000)),
            Self::TenFeeders => {
                let each = tenth(20_000);
                feeders(10, 2, |feeder| FIRST + feeder * each..FIRST + (feeder + 1) * each)
            }
            Self::SamePrefixes => feeders(10, 2, |_| FIRST..FIRST + tenth(20_000)),
            Self::FullTable => full_table(tenth(1_000_000), if quick { 100 } else { 2_000 }),
            Self::Mesh => mesh(if quick { 20 } else { 200 }),
        }
    }
}

/// A message that announces one prefix alone, and one that withdraws it; from the first feeder.
pub(crate) fn one_prefix() -> (Vec<u8>, Vec<u8>) {
    let feeder = client(Role::Feeder, 0, 0);
    let (mut announce, mut withdraw) = (Vec::new(), Vec::new());
    wire::push_announcements(&mut announce, &numbered_attributes(feeder, 999_999), &[ALONE]);
    wire::push_withdrawals(&mut withdraw, &[ALONE]);
    (announce, withdraw)
}

fn client(role: Role, index: u16, overall: u16) -> Client {
    // No load has more than 200 clients of a kind.
    let address = Ipv4Addr::new(10, 77, role.network(), index as u8 + 1);
    Client { role, address, asn: CLIENT_ASNS.start + 1 + overall }
}

fn feeders(feeders: u16, monitors: u16, prefixes: impl Fn(u32) -> Range<u32>) -> Load {
    let senders: Vec<Client> = (0..feeders).map(|index| client(Role::Feeder, index, index)).collect();
    let receivers = (0..monitors).map(|index| client(Role::Monitor, index, feeders + index));
    let ranges: Vec<Range<u32>> = (0..u32::from(feeders)).map(prefixes).collect();
    let first = ranges.iter().map(|range| range.start).min().unwrap_or_default();
    let last = ranges.iter().map(|range| range.end).max().unwrap_or_default();
    // The last prefix of each feeder is its own: when it is there, all before it was read.
    let mut marker = last;
    let mut feeds = Vec::new();
    for (feeder, range) in senders.iter().zip(ranges) {
        feeds.push(in_tens(*feeder, range.chain([marker])));
        marker += 1;
    }
    let expected = (marker - first) as usize;
    let clients = senders.into_iter().chain(receivers).collect();
    Load { clients, feeds, nodes: first..marker, expected, afterwards: Afterwards::Nothing }
}

/// Everybody tells 50 and hears everybody else's.
fn mesh(nodes: u16) -> Load {
    const EACH: u32 = 50;
    let clients: Vec<Client> = (0..nodes).map(|index| client(Role::Node, index, index)).collect();
    let feeds =
        clients.iter().zip(0..).map(|(node, index)| in_tens(*node, FIRST + index * EACH..FIRST + (index + 1) * EACH));
    let feeds = feeds.collect();
    let end = FIRST + u32::from(nodes) * EACH;
    let expected = ((u32::from(nodes) - 1) * EACH) as usize;
    Load { clients, feeds, nodes: FIRST..end, expected, afterwards: Afterwards::Idle }
}

/// Ten prefixes to each attribute set.
fn in_tens(feeder: Client, nodes: impl Iterator<Item = u32>) -> Feed {
    let nodes: Vec<u32> = nodes.collect();
    let mut announce = Vec::new();
    for (set, ten) in (0..).zip(nodes.chunks(10)) {
        wire::push_announcements(&mut announce, &numbered_attributes(feeder, set), ten);
    }
    feed(announce, &nodes)
}

fn feed(announce: Vec<u8>, nodes: &[u32]) -> Feed {
    let mut withdraw = Vec::new();
    wire::push_withdrawals(&mut withdraw, nodes);
    Feed { announce: announce.into(), withdraw: withdraw.into() }
}

/// One attribute set of many: path and community have its number.
fn numbered_attributes(feeder: Client, number: u32) -> Attributes {
    Attributes {
        as_path: vec![feeder.asn.into(), 100_000 + number % 64, 200_000 + number],
        next_hop: feeder.address,
        med: None,
        communities: vec![(u32::from(feeder.asn) << 16) | (number & 0xffff)],
        large_communities: Vec::new(),
    }
}

/// The public IPv4 table as one of its routers would tell it: lengths, path lengths, communities and the number of prefixes
/// to an attribute set are spread as they are there (late 2025, from the public summaries); the prefixes themselves are
/// drawn from a seed.
fn full_table(prefixes: u32, one_prefix: usize) -> Load {
    let mut random = SplitMix64(20_251_121);
    let feeder = client(Role::Feeder, 0, 0);
    let nodes = public_prefixes(prefixes, &mut random);
    let mut announce = Vec::new();
    let mut rest = &nodes[..];
    while !rest.is_empty() {
        let size =
            random.choose(&[(1..2, 50), (2..3, 20), (3..6, 12), (6..16, 10), (16..61, 6), (61..401, 2)]) as usize;
        let (set, behind) = rest.split_at(size.min(rest.len()));
        wire::push_announcements(&mut announce, &public_attributes(feeder, &mut random), set);
        rest = behind;
    }
    let expected = nodes.len();
    Load {
        clients: vec![feeder, client(Role::Monitor, 0, 1)],
        feeds: vec![feed(announce, &nodes)],
        nodes: 0..wire::NODES,
        expected,
        afterwards: Afterwards::OnePrefix(one_prefix),
    }
}

/// Distinct prefixes in the order of a router that walks no table: neighbours now and then, else anywhere.
fn public_prefixes(count: u32, random: &mut SplitMix64) -> Vec<u32> {
    let mut taken = vec![0u64; wire::NODES as usize / 64];
    let mut nodes = Vec::with_capacity(count as usize);
    let mut address = 0;
    let mut run = 0;
    while nodes.len() < count as usize {
        let length = random.choose(&[
            (24..25, 600),
            (23..24, 100),
            (22..23, 110),
            (21..22, 52),
            (20..21, 44),
            (19..20, 26),
            (18..19, 14),
            (17..18, 8),
            (16..17, 14),
            (10..16, 4),
        ]) as u8;
        if run == 0 {
            run = random.choose(&[(1..2, 40), (2..9, 40), (9..65, 20)]);
            address = random.next() as u32;
        }
        run -= 1;
        let node = wire::node(address, length);
        let (word, bit) = (node as usize / 64, 1 << (node % 64));
        let usable = is_public(address);
        address = address.wrapping_add(1 << (32 - u32::from(length)));
        if usable && taken[word] & bit == 0 {
            taken[word] |= bit;
            nodes.push(node);
        }
    }
    nodes
}

/// Unicast that a router takes: nobody's own addresses, no private and no shared ones.
fn is_public(address: u32) -> bool {
    !matches!(
        address.to_be_bytes(),
        [0 | 10 | 127 | 224.., ..]
            | [100, 64..128, ..]
            | [169, 254, ..]
            | [172, 16..32, ..]
            | [192, 0 | 168, ..]
            | [198, 18 | 19, ..]
            | [223, 255, ..]
    )
}

fn public_attributes(feeder: Client, random: &mut SplitMix64) -> Attributes {
    let hops = random.choose(&[(1..2, 2), (2..3, 13), (3..4, 30), (4..5, 28), (5..6, 15), (6..7, 7), (7..16, 5)]);
    let mut as_path = vec![u32::from(feeder.asn)];
    // A few hundred transit providers, and tens of thousands of origins.
    as_path.extend((1..hops).map(|_| 1_000 + random.choose(&[(0..300, 90), (300..9_000, 10)])));
    as_path.push(10_000 + random.choose(&[(0..50_000, 100)]));
    let communities = random.choose(&[(0..1, 30), (1..5, 35), (5..13, 25), (13..30, 10)]);
    let large_communities = random.choose(&[(0..1, 92), (1..4, 8)]);
    Attributes {
        as_path,
        next_hop: feeder.address,
        med: (random.choose(&[(0..100, 100)]) < 20).then(|| random.choose(&[(0..500, 100)])),
        communities: (0..communities)
            .map(|_| ((1_000 + random.choose(&[(0..300, 100)])) << 16) | random.choose(&[(0..4_000, 100)]))
            .collect(),
        large_communities: (0..large_communities)
            .map(|_| [200_000 + random.choose(&[(0..2_000, 100)]), 1, 2])
            .collect(),
    }
}

/// Steele, Lea and Flood's generator: a few operations, and every seed is as good as any other.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A range by its weight, and a number in it.
    fn choose(&mut self, weighted: &[(Range<u32>, u32)]) -> u32 {
        let sum: u32 = weighted.iter().map(|(_, weight)| weight).sum();
        let mut left = (self.next() % u64::from(sum.max(1))) as u32;
        for (range, weight) in weighted {
            if left < *weight {
                return range.start + (self.next() % u64::from(range.end - range.start)) as u32;
            }
            left -= weight;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn announced(bytes: &[u8]) -> Vec<u32> {
        let mut nodes = Vec::new();
        wire::messages(bytes, |_, message| nodes.extend(wire::update(&message[wire::HEADER..]).unwrap().1));
        nodes
    }

    #[test]
    fn every_load_sends_what_it_expects() {
        for name in [Name::OneFeeder, Name::TenFeeders, Name::SamePrefixes, Name::FullTable, Name::Mesh] {
            let load = name.load(true);
            let senders = load.clients.iter().filter(|client| client.role.sends()).count();
            assert_eq!(load.feeds.len(), senders, "{name:?}");
            let mut all = BTreeSet::new();
            for feed in &load.feeds {
                let own = announced(&feed.announce);
                assert_eq!(own.iter().collect::<BTreeSet<_>>().len(), own.len(), "{name:?} sends a prefix twice");
                assert!(own.iter().all(|node| load.nodes.contains(node)), "{name:?}");
                all.extend(own);
            }
            // In a mesh nobody hears its own.
            let own = if name == Name::Mesh { 50 } else { 0 };
            assert_eq!(all.len() - own, load.expected, "{name:?}");
            assert!(load.clients.iter().all(|client| CLIENT_ASNS.contains(&client.asn)), "{name:?}");
            assert!(load.clients.iter().all(|client| Role::of(client.address) == Some(client.role)), "{name:?}");
        }
    }

    #[test]
    fn the_same_load_every_time() {
        let (one, other) = (Name::FullTable.load(true), Name::FullTable.load(true));
        assert_eq!(one.feeds[0].announce, other.feeds[0].announce);
    }
}
