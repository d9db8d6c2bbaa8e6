//! The table against a naive one: any sequence of changes, sessions and half-finished sending ends with every receiver
//! holding what RFC 4271 section 9.1.2 chooses among what it may get, found by elimination over all paths.

use std::collections::BTreeSet;

use rustbgpd_wire::attribute::decode_path_attributes;
use rustbgpd_wire::{AsPath, AsPathSegment, Message, NlriEntry, Origin, PathAttribute, decode_message};

use super::*;
use crate::Community;
use crate::random::SplitMix64;
use crate::update::Aigp;

/// What a path looks like from outside: the next hop and the attributes.
type Told = (IpAddr, Vec<u8>);

/// A path as the model keeps it.
#[derive(Debug, Clone)]
struct ModelPath {
    member: usize,
    path_id: u32,
    route: Arc<Route>,
}

struct Model {
    rib: Rib,
    random: SplitMix64,
    members: Vec<MemberId>,
    relays: Vec<Relay>,
    identities: Vec<Identity>,
    paths: BTreeMap<IpNet, Vec<ModelPath>>,
    /// What leads to next hops, once something was said of that.
    next_hop_routes: Option<BTreeMap<IpNet, u32>>,
    /// Whether something is.
    resolves: bool,
    /// All have the same settings and no MED decides, so that what is made for one is mostly good for others.
    alike: bool,
    /// By member: what it holds, while it has a session; and how many paths of a prefix it takes.
    holds: Vec<Option<(u8, BTreeMap<(IpNet, u32), Told>)>>,
}

const PEERS: usize = 5;
const PREFIXES: [&str; 6] =
    ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.128/25", "0.0.0.0/0", "2001:db8::/32", "2001:db8:1::/48"];

/// Some within others, so that what goes leaves another behind.
const NEXT_HOP_ROUTES: [&str; 7] =
    ["0.0.0.0/0", "192.0.2.0/24", "192.0.2.0/31", "192.0.2.2/32", "::/0", "2001:db8::/32", "2001:db8::1/128"];

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = SplitMix64::new(seed);
        let mut rib = Rib::new(seed);
        let cluster = Ipv4Addr::new(10, 9, 9, 9);
        let reflector = random.next().is_multiple_of(3);
        let relay = |index: usize| match (reflector, index) {
            (false, PEERS..) => Relay::Nothing,
            (false, _) => Relay::RouteServerClient,
            (true, index) if index % 2 == 0 => Relay::ReflectorClient { cluster },
            (true, _) => Relay::ReflectorPeer { cluster },
        };
        let relays: Vec<Relay> = (0..PEERS).map(relay).collect();
        let members =
            relays.iter().enumerate().map(|(n, relay)| rib.add_member(PeerKey::from(&*n.to_string()), *relay));
        let members: Vec<MemberId> = members.collect();
        // Some share their router ID, and the higher number has the lower address.
        let identity = |n: usize| Identity {
            internal: reflector,
            transparent: !reflector,
            router_id: 1 + (n as u32) / 2,
            address: Ipv4Addr::from(0x0a00_0100 - n as u32).into(),
        };
        let identities: Vec<Identity> = (0..PEERS).map(identity).collect();
        for (member, identity) in members.iter().zip(&identities) {
            rib.begin_session(*member, *identity, None);
        }
        let (paths, holds) = (BTreeMap::new(), (0..PEERS).map(|_| None).collect());
        let (resolves, alike) = (random.next().is_multiple_of(2), random.next().is_multiple_of(2));
        Self { rib, random, members, relays, identities, paths, next_hop_routes: None, resolves, alike, holds }
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random.next() % limit as u64) as usize
    }

    fn prefix(&mut self) -> IpNet {
        PREFIXES[self.below(PREFIXES.len())].parse().unwrap()
    }

    /// Few values each, so that every rule gets to decide.
    fn route(&mut self, member: usize, prefix: &IpNet) -> Arc<Route> {
        let neighbour = 65001 + self.below(2) as u32;
        let length = 1 + self.below(2);
        let asns = std::iter::once(neighbour).chain(std::iter::repeat_n(65100, length)).collect();
        let mut list = vec![
            PathAttribute::Origin(if self.below(2) == 0 { Origin::Igp } else { Origin::Incomplete }),
            PathAttribute::AsPath(AsPath { segments: vec![AsPathSegment::AsSequence(asns)] }),
            PathAttribute::Med(if self.alike { 0 } else { self.below(3) as u32 }),
        ];
        if self.relays[0] != Relay::RouteServerClient {
            list.push(PathAttribute::LocalPref(100 + self.below(2) as u32));
            if self.below(5) == 0 {
                list.push(PathAttribute::Communities(vec![Community::NO_EXPORT.0, Community::NO_ADVERTISE.0]));
            }
            if self.below(3) == 0 {
                list.push(PathAttribute::OriginatorId(Ipv4Addr::from(1 + self.below(3) as u32)));
                list.push(PathAttribute::ClusterList(vec![Ipv4Addr::LOCALHOST; 1 + self.below(2)]));
            }
        }
        let next_hop: IpAddr = match prefix {
            IpNet::V4(_) => {
                let next_hop = Ipv4Addr::new(192, 0, 2, 1 + self.below(2) as u8);
                list.push(PathAttribute::NextHop(next_hop));
                next_hop.into()
            }
            IpNet::V6(_) => format!("2001:db8::{}", 1 + self.below(2)).parse().unwrap(),
        };
        let internal = self.relays[0] != Relay::RouteServerClient;
        let aigp = (internal && self.below(3) == 0).then(|| Aigp::of(self.random.next() % 3));
        let mut attributes = ReceivedAttributes::new(list, internal, aigp);
        if internal {
            attributes.name_originator(Ipv4Addr::from(self.identities[member].router_id));
        }
        self.rib.route(&attributes, next_hop)
    }

    fn step(&mut self) {
        let member = self.below(PEERS);
        let id = self.members[member];
        match self.below(20 + 2 * usize::from(self.resolves)) {
            20.. => self.change_next_hop_routes(),
            0 => {
                self.rib.end_session(id);
                self.holds[member] = None;
            }
            1 | 2 if self.holds[member].is_none() => {
                let paths = if self.alike { 1 } else { [1, 1, 2, 4][self.below(4)] };
                let session = RelaySession {
                    families: [true, self.alike || self.below(4) > 0],
                    paths: [paths, paths],
                    four_octet_asn: true,
                    max_message: 4096,
                    extended_next_hops: crate::next_hop::ExtendedNextHops::No,
                    cluster: self.relays[member].cluster(),
                    own_next_hops: None,
                    only_to_customer: None,
                    withholds_marked: false,
                    aigp: self.alike || self.below(2) == 0,
                };
                self.rib.begin_session(id, self.identities[member], Some(session));
                self.holds[member] = Some((paths, BTreeMap::new()));
            }
            3 => {
                self.rib.clear(id);
                self.paths.values_mut().for_each(|paths| paths.retain(|path| path.member != member));
            }
            4 => {
                let family = Family::ALL[self.below(2)];
                self.rib.resend(id, family);
            }
            5 => {
                let family = Family::ALL[self.below(2)];
                self.rib.doubt(id, Unconfirmed::Restart, family);
                self.rib.drop_unconfirmed(id, Unconfirmed::Restart, family);
                let kept = |path: &ModelPath, prefix: &IpNet| path.member != member || Family::of(prefix) != family;
                self.paths.iter_mut().for_each(|(prefix, paths)| paths.retain(|path| kept(path, prefix)));
            }
            6..=8 => {
                self.receive(member);
            }
            9..=12 => {
                let (prefix, path_id) = (self.prefix(), self.below(2) as u32);
                let paths = self.paths.entry(prefix).or_default();
                let before = paths.len();
                paths.retain(|path| (path.member, path.path_id) != (member, path_id));
                assert_eq!(self.rib.remove(id, &prefix, path_id), before != paths.len());
            }
            _ => {
                let (prefix, path_id) = (self.prefix(), self.below(2) as u32);
                let route = self.route(member, &prefix);
                self.rib.insert(id, prefix, path_id, &route);
                let paths = self.paths.entry(prefix).or_default();
                paths.retain(|path| (path.member, path.path_id) != (member, path_id));
                paths.push(ModelPath { member, path_id, route });
            }
        }
    }

    fn change_next_hop_routes(&mut self) {
        let change = |model: &mut Self| NextHopRoute {
            prefix: NEXT_HOP_ROUTES[model.below(NEXT_HOP_ROUTES.len())].parse().unwrap(),
            metric: (model.below(3) > 0).then_some(model.random.next() as u32 % 3),
        };
        let changes: Vec<NextHopRoute> = (0..self.below(3)).map(|_| change(self)).collect();
        self.rib.change_next_hop_routes(&changes);
        let routes = self.next_hop_routes.get_or_insert_default();
        for NextHopRoute { prefix, metric } in changes {
            match metric {
                Some(metric) => routes.insert(prefix, metric),
                None => routes.remove(&prefix),
            };
        }
    }

    /// How far the next hop is, if it can be reached.
    fn cost(&self, path: &ModelPath) -> Option<u32> {
        let Some(routes) = self.next_hop_routes.as_ref().filter(|_| !self.identities[path.member].transparent) else {
            return Some(0);
        };
        let covering = routes.iter().filter(|(prefix, _)| prefix.contains(&path.route.next_hop));
        covering.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, metric)| *metric)
    }

    /// Lets a member have its next message. Whether there was one.
    fn receive(&mut self, member: usize) -> bool {
        let mut message = BytesMut::new();
        if !self.rib.next_message(self.members[member], &mut message) {
            return false;
        }
        let (several, holds) = self.holds[member].as_mut().map(|(paths, holds)| (*paths > 1, holds)).unwrap();
        let mut bytes = message.freeze();
        assert!(bytes.len() <= 4096);
        let Message::Update(update) = decode_message(&mut bytes, 4096).unwrap() else { panic!("not an UPDATE") };
        assert!(bytes.is_empty(), "one message at a time");
        let families: Vec<_> =
            Family::ALL.iter().filter(|_| several).map(|family| (family.afi(), rustbgpd_wire::Safi::Unicast)).collect();
        let parsed = update.parse(true, several, &families).unwrap();
        let entries = |entry: &NlriEntry| {
            let prefix: IpNet = match entry.prefix {
                rustbgpd_wire::Prefix::V4(net) => format!("{}/{}", net.addr, net.len).parse().unwrap(),
                rustbgpd_wire::Prefix::V6(net) => format!("{}/{}", net.addr, net.len).parse().unwrap(),
            };
            (prefix, entry.path_id)
        };
        let classic = |entry: &rustbgpd_wire::Ipv4NlriEntry| {
            entries(&NlriEntry { path_id: entry.path_id, prefix: rustbgpd_wire::Prefix::V4(entry.prefix) })
        };
        let mut withdrawn: Vec<_> = parsed.withdrawn.iter().map(classic).collect();
        let mut announced: Vec<_> = parsed.announced.iter().map(classic).collect();
        let mut others = Vec::new();
        let mut next_hop = None;
        for attribute in parsed.attributes {
            match attribute {
                PathAttribute::MpReachNlri(reach) => {
                    announced.extend(reach.announced.iter().map(entries));
                    next_hop = Some(reach.next_hop);
                }
                PathAttribute::MpUnreachNlri(unreach) => withdrawn.extend(unreach.withdrawn.iter().map(entries)),
                other => {
                    if let PathAttribute::NextHop(address) = other {
                        next_hop = Some(address.into());
                    }
                    others.push(other);
                }
            }
        }
        for key in withdrawn {
            assert!(holds.remove(&key).is_some(), "{key:?} is withdrawn and was never told");
        }
        let mut octets = Vec::new();
        rustbgpd_wire::attribute::encode_path_attributes(&others, &mut octets, true, false).unwrap();
        for key in announced {
            holds.insert(key, (next_hop.unwrap(), octets.clone()));
        }
        true
    }

    /// Everything is sent, and everybody holds what the naive choice says.
    fn check(&mut self) {
        for member in 0..PEERS {
            if self.holds[member].is_none() {
                assert!(!self.rib.has_pending(self.members[member]));
                continue;
            }
            while self.receive(member) {}
            assert!(!self.rib.has_pending(self.members[member]));
            let (most, holds) = self.holds[member].as_ref().unwrap();
            assert_eq!(self.rib.told(self.members[member]), holds.len());
            let families = self.rib.members[self.members[member].index()].out.as_ref().unwrap().session.families;
            for prefix in PREFIXES.map(|prefix| prefix.parse::<IpNet>().unwrap()) {
                let held: BTreeSet<Told> =
                    holds.iter().filter(|((held, _), _)| *held == prefix).map(|(_, told)| told.clone()).collect();
                let eligible = |path: &&ModelPath| {
                    path.member != member
                        && self.relays[path.member].passes_to(self.relays[member])
                        && !path.route.attributes.communities.contains(&Community::NO_ADVERTISE)
                        && families[Family::of(&prefix) as usize]
                        && self.cost(path).is_some()
                };
                let paths: Vec<ModelPath> =
                    self.paths.get(&prefix).into_iter().flatten().filter(eligible).cloned().collect();
                let expected: BTreeSet<Told> = self
                    .chosen(paths, usize::from(*most))
                    .iter()
                    .map(|path| (path.route.next_hop, self.octets_of(path, self.relays[member])))
                    .collect();
                assert_eq!(held, expected, "{prefix} at {member}");
            }
        }
        let waiting: usize = self.paths.values().map(Vec::len).sum();
        assert_eq!(waiting, self.members.iter().map(|member| self.rib.accepted(*member)).sum::<usize>());
    }

    fn chosen(&self, mut paths: Vec<ModelPath>, most: usize) -> Vec<ModelPath> {
        let mut chosen = Vec::new();
        while chosen.len() < most && !paths.is_empty() {
            let best = self.naive_best(&paths);
            let position =
                paths.iter().position(|path| (path.member, path.path_id) == (best.member, best.path_id)).unwrap();
            chosen.push(paths.remove(position));
        }
        chosen
    }

    /// Elimination, step by step.
    fn naive_best(&self, paths: &[ModelPath]) -> ModelPath {
        fn keep<Key: Ord>(left: &mut Vec<ModelPath>, key: impl Fn(&ModelPath) -> Key) {
            let least = left.iter().map(&key).min().unwrap();
            left.retain(|path| key(path) == least);
        }
        let mut left = paths.to_vec();
        keep(&mut left, |path| std::cmp::Reverse(path.route.attributes.local_preference));
        keep(&mut left, |path| path.route.attributes.aigp.is_none());
        keep(&mut left, |path| path.route.attributes.aigp.map(|metric| metric + u64::from(self.cost(path).unwrap())));
        keep(&mut left, |path| path.route.attributes.as_path.0.len());
        keep(&mut left, |path| path.route.attributes.origin);
        let all = left.clone();
        left.retain(|path| {
            let (a, neighbour) = (&path.route.attributes, path.route.attributes.as_path.0[0]);
            !all.iter().map(|other| &other.route.attributes).any(|b| b.as_path.0[0] == neighbour && b.med < a.med)
        });
        keep(&mut left, |path| self.cost(path));
        let identity = |path: &ModelPath| self.identities[path.member];
        keep(&mut left, |path| path.route.attributes.originator_id.map_or_else(|| identity(path).router_id, u32::from));
        keep(&mut left, |path| path.route.attributes.cluster_list.len());
        keep(&mut left, |path| identity(path).address);
        keep(&mut left, |path| path.path_id);
        assert_eq!(left.len(), 1);
        left.remove(0)
    }

    /// What a receiver sees of it.
    fn octets_of(&self, path: &ModelPath, to: Relay) -> Vec<u8> {
        let mut list = decode_path_attributes(&path.route.octets, true, &[]).unwrap();
        if let Some(cluster) = to.cluster() {
            let known = list.iter_mut().find_map(|attribute| match attribute {
                PathAttribute::ClusterList(clusters) => Some(clusters),
                _ => None,
            });
            match known {
                Some(clusters) => clusters.insert(0, cluster),
                None => list.push(PathAttribute::ClusterList(vec![cluster])),
            }
        }
        let mut octets = Vec::new();
        rustbgpd_wire::attribute::encode_path_attributes(&list, &mut octets, true, false).unwrap();
        octets
    }
}

#[test]
fn every_receiver_ends_with_what_a_naive_choice_says() {
    for seed in 0..2_000 {
        let outcome = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            for step in 0..150 {
                model.step();
                if step % 50 == 49 {
                    model.check();
                }
            }
            model.check();
        });
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

#[test]
fn a_table_without_peers_is_empty() {
    let mut model = Model::new(7);
    for _ in 0..500 {
        model.step();
    }
    for member in model.members.clone() {
        model.rib.remove_member(member);
    }
    assert_eq!(model.rib.learned(), BTreeMap::new());
    assert_eq!(model.rib.table.reachable().count(), 0);
    model.rib.change_next_hop_routes(&[]);
    assert_eq!(model.rib.next_hops.as_ref().unwrap().used(), 0);
    model.rib.table.free_unused();
    assert!(PREFIXES.iter().all(|prefix| model.rib.table.find(&prefix.parse().unwrap()).is_none()));
}

/// RFC 8326: what an external router is about to take away is the last choice of a host; for the clients of a route server it
/// is as it came.
#[test]
fn graceful_shutdown_is_obeyed_where_it_is_meant() {
    for (transparent, expected) in [(false, "other"), (true, "leaving")] {
        let mut rib = Rib::new(1);
        let prefix: IpNet = "192.0.2.0/24".parse().unwrap();
        for (index, (name, path, communities)) in
            [("leaving", vec![65001], vec![Community::GRACEFUL_SHUTDOWN.0]), ("other", vec![65002, 65003], vec![1])]
                .into_iter()
                .enumerate()
        {
            let member = rib.add_member(PeerKey::from(name), Relay::Nothing);
            let address = Ipv4Addr::from(index as u32 + 1).into();
            rib.begin_session(member, Identity { internal: false, transparent, router_id: 1, address }, None);
            let list = vec![
                PathAttribute::Origin(Origin::Igp),
                PathAttribute::AsPath(AsPath { segments: vec![AsPathSegment::AsSequence(path)] }),
                PathAttribute::Communities(communities),
            ];
            let route = rib.route(&ReceivedAttributes::new(list, false, None), "192.0.2.1".parse().unwrap());
            rib.insert(member, prefix, 0, &route);
        }
        let best = rib.explain(&prefix).remove(0);
        assert_eq!((best.path.peer.as_str(), best.verdict), (expected, Verdict::Best), "transparent: {transparent}");
    }
}

#[test]
fn what_cannot_be_reached_is_kept_and_is_not_chosen() {
    let mut rib = Rib::new(1);
    let prefix: IpNet = "192.0.2.0/24".parse().unwrap();
    for (index, next_hop) in ["10.1.0.1", "10.2.0.1", "fe80::1"].into_iter().enumerate() {
        let member = rib.add_member(PeerKey::from(next_hop), Relay::Nothing);
        let address = Ipv4Addr::from(index as u32 + 1).into();
        rib.begin_session(member, Identity { internal: true, transparent: false, router_id: 1, address }, None);
        let path = AsPath { segments: vec![AsPathSegment::AsSequence(vec![65001; 1 + usize::from(index == 2)])] };
        let list = vec![PathAttribute::Origin(Origin::Igp), PathAttribute::AsPath(path)];
        let route = rib.route(&ReceivedAttributes::new(list, true, None), next_hop.parse().unwrap());
        rib.insert(member, prefix, 0, &route);
    }
    let check = |rib: &Rib, name: &str, expected: [(&str, Verdict); 3]| {
        let explained = rib.explain(&prefix);
        let found: Vec<_> = explained.iter().map(|path| (path.path.peer.as_str(), path.verdict)).collect();
        assert_eq!(found, expected, "{name}");
    };
    let longer = Verdict::Worse(SelectionRule::AsPathLength);
    let lower_address = Verdict::Equal(SelectionRule::PeerAddress);
    check(&rib, "nothing is known", [("10.1.0.1", Verdict::Best), ("10.2.0.1", lower_address), ("fe80::1", longer)]);
    let none = Verdict::Unreachable;
    assert!(rib.change_next_hop_routes(&[]));
    check(&rib, "nothing leads anywhere", [("fe80::1", Verdict::Best), ("10.1.0.1", none), ("10.2.0.1", none)]);
    let route = |prefix: &str, metric| NextHopRoute { prefix: prefix.parse().unwrap(), metric };
    assert!(rib.change_next_hop_routes(&[route("10.0.0.0/8", Some(5))]));
    check(&rib, "both", [("10.1.0.1", Verdict::Best), ("10.2.0.1", lower_address), ("fe80::1", longer)]);
    assert!(rib.change_next_hop_routes(&[route("10.2.0.0/16", Some(4))]));
    let farther = Verdict::Worse(SelectionRule::InteriorCost);
    check(&rib, "one is nearer", [("10.2.0.1", Verdict::Best), ("10.1.0.1", farther), ("fe80::1", longer)]);
    assert!(!rib.change_next_hop_routes(&[route("10.3.0.0/16", Some(1)), route("10.2.0.0/16", Some(4))]));
    assert!(rib.change_next_hop_routes(&[route("10.0.0.0/8", None)]));
    check(&rib, "one is left", [("10.2.0.1", Verdict::Best), ("fe80::1", longer), ("10.1.0.1", none)]);
}
