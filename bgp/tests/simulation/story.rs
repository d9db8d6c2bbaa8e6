//! What happens to a network, and what must be true in the end.
//!
//! A story changes routes and configurations while connections break, stall and are refused and speakers die and come back. Then
//! it heals whatever is broken, and waits. From then on every session is up, each side has learned exactly what the other wants it
//! to know, nothing is stale, and nothing happens any more but KEEPALIVEs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use roadstead_bgp::{
    AigpSession, Asn, Community, Connect, ExtendedCommunity, Family, GracefulRestart, LargeCommunity, NextHops,
    PeerAsn, PeerConfig, PrefixRule, RelayedNextHop, Role, RouteAttributes, RouteChange, Shutdown,
};

use crate::model::{self, Direction, Path, Seen};
use crate::network::{Network, address, peer_key};
use crate::random::Random;
use crate::shape::{Links, Shape};
use crate::ways;

/// What a session is configured with on one side, besides what follows from the seed.
#[derive(Debug, Clone, Copy)]
struct Settings {
    hold_time: Duration,
    next_hop: u16,
    /// Which prefixes are accepted.
    accept: usize,
    ipv4_only: bool,
    /// So that the other side's OPEN is refused.
    wrong_asn: bool,
    removed: bool,
    /// Says nothing of its role (RFC 9234).
    silent: bool,
    aigp: AigpSession,
    /// Of a reflector: it gives itself as next hop.
    own_next_hop: bool,
}

/// Import rules that a side may have.
const ACCEPTED: [&[&str]; 3] = [&["0.0.0.0/0", "::/0"], &["0.0.0.0/0"], &["10.0.0.0/12", "2001:db8::/32"]];

pub(crate) struct Story {
    pub(crate) network: Network,
    seed: u64,
    shape: Shape,
    links: Links,
    settings: BTreeMap<(usize, usize), Settings>,
    /// What each speaker wants each neighbour to know.
    wanted: BTreeMap<(usize, usize), BTreeMap<IpNet, Arc<RouteAttributes>>>,
    /// Who has not said yet that it has said everything.
    incomplete: BTreeSet<(usize, usize)>,
}

impl Story {
    pub(crate) fn begin(seed: u64, shape: Shape, hosts: usize) -> Self {
        let mut network = Network::new(seed, hosts);
        let links = shape.links(&mut network.random, hosts);
        let mut story = Self {
            network,
            seed,
            shape,
            links: links.clone(),
            settings: BTreeMap::new(),
            wanted: BTreeMap::new(),
            incomplete: BTreeSet::new(),
        };
        for host in 0..hosts {
            story.network.add(host, shape.added(seed, host));
            if shape.is_relay(host) && story.has_ways() {
                let ways = ways::to_everywhere(&mut story.network.random, hosts);
                story.network.change_ways(host, &ways);
            }
        }
        for (one, other) in links {
            for (local, remote) in [(one, other), (other, one)] {
                let settings = Settings {
                    hold_time: Duration::from_secs(9),
                    next_hop: 0,
                    accept: 0,
                    ipv4_only: false,
                    wrong_asn: false,
                    removed: false,
                    silent: number_of(seed, local, remote).is_multiple_of(5),
                    aigp: AIGP[(number_of(seed, local, remote) / 5 % 3) as usize],
                    own_next_hop: number_of(seed, local, remote).is_multiple_of(3),
                };
                story.settings.insert((local, remote), settings);
                story.configure(local, remote);
                story.say_everything(local, remote);
            }
        }
        story
    }

    /// Everything, to the end.
    pub(crate) fn tell(mut self, steps: u64) {
        self.live(steps);
        self.heal();
        self.settle();
        self.check_agreement();
        self.check_quiet();
        self.network.check_recordings();
    }

    /// So many things happen, up to three seconds apart.
    pub(crate) fn live(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step();
            let time = Duration::from_millis(self.network.random.below(3_000));
            self.network.run(time);
        }
    }

    fn step(&mut self) {
        let (from, to) = self.any_session();
        let network = &mut self.network;
        let running = network.is_up(from);
        match network.random.below(30) {
            0 | 1 => network.cut(),
            // For longer than the hold time, or shorter; in one direction or both.
            2 => {
                network.stall(from, to);
                if network.random.one_in(2) {
                    network.stall(to, from);
                }
            }
            3 => network.end_stalls(),
            4 => network.refuse(from, to),
            5 => network.end_refusals(),
            6 => network.slow_down(from, to),
            7 => network.end_slowness(),
            8 if running => {
                self.say_everything(from, to);
                let shutdown = match self.network.random.below(2) {
                    0 => Shutdown::Restart("upgrade".into()),
                    _ => Shutdown::Leave("maintenance".into()),
                };
                self.network.shut_down(from, &shutdown);
            }
            9 if running => {
                let machine_too = network.random.one_in(2);
                network.kill(from, machine_too);
            }
            8 | 9 => self.start(from),
            10 => self.change(from, to, |random, settings| {
                settings.hold_time = Duration::from_secs(3 + 3 * random.below(4));
            }),
            11 => self.change(from, to, |random, settings| settings.accept = random.below(3) as usize),
            12 => self.change(from, to, |random, settings| settings.next_hop = random.below(3) as u16),
            13 => self.change(from, to, |_, settings| settings.ipv4_only = !settings.ipv4_only),
            // A reflector is refused an AS that is not its own when it is configured; its clients can still be wrong.
            14 if self.shape.reflects(self.seed, from, to).is_none() => {
                self.change(from, to, |_, settings| settings.wrong_asn = !settings.wrong_asn);
            }
            15 => self.change(from, to, |_, settings| settings.removed = !settings.removed),
            16 => self.say_everything(from, to),
            17 => self.change(from, to, |_, settings| settings.silent = !settings.silent),
            18 => self.change(from, to, |random, settings| settings.aigp = AIGP[random.below(3) as usize]),
            19 if self.shape.reflects(self.seed, from, to).is_some() => {
                self.change(from, to, |_, settings| settings.own_next_hop = !settings.own_next_hop);
            }
            20..=22 if self.has_ways() => {
                // Most of all those who choose for others.
                let host = if self.shape.is_relay(to) { to } else { from };
                let hosts = self.network.hosts();
                let changes = ways::any_changes(&mut self.network.random, hosts);
                self.network.change_ways(host, &changes);
            }
            _ => self.change_routes(from, to),
        }
    }

    /// Mends everything that is broken.
    fn heal(&mut self) {
        self.network.end_stalls();
        self.network.end_refusals();
        self.network.end_slowness();
        for host in 0..self.network.hosts() {
            if !self.network.is_up(host) {
                self.start(host);
            }
        }
        let sessions: Vec<(usize, usize)> = self.settings.keys().copied().collect();
        for (from, to) in sessions {
            self.change(from, to, |_, settings| {
                settings.wrong_asn = false;
                settings.removed = false;
            });
            self.say_everything(from, to);
        }
    }

    /// Until every session is up and no other connection is left, for longer than the longest pause and the 240 s that one end of a
    /// forgotten connection waits for an OPEN; and for what is under way then.
    fn settle(&mut self) {
        for _ in 0..50 {
            self.network.run(Duration::from_secs(10));
            if self.established() == self.settings.len() && self.network.connections() == self.links.len() {
                break;
            }
        }
        self.network.run(Duration::from_secs(20));
    }

    fn established(&self) -> usize {
        let speakers = (0..self.network.hosts()).filter_map(|host| self.network.speaker(host));
        speakers.flat_map(|speaker| speaker.status(self.network.now)).filter(|status| status.uptime.is_some()).count()
    }

    fn check_agreement(&self) {
        assert_eq!(self.established(), self.settings.len(), "sessions are up");
        assert_eq!(self.network.connections(), self.links.len(), "connections");
        let mut learned: BTreeMap<(usize, usize, IpNet), Vec<Seen>> = BTreeMap::new();
        for at in 0..self.network.hosts() {
            let Some(speaker) = self.network.speaker(at) else { panic!("host {at} is down") };
            for status in speaker.status(self.network.now) {
                assert_eq!(status.prefixes_stale, 0, "host {at}: {status:?}");
                assert_eq!(status.prefixes_too_large, 0, "host {at}: {status:?}");
            }
            for (prefix, paths) in speaker.learned() {
                for path in paths {
                    let from = self.neighbours(at).find(|from| peer_key(*from) == path.peer).unwrap();
                    learned.entry((at, from, prefix)).or_default().push(Seen {
                        next_hop: path.next_hop,
                        as_path: path.as_path.0,
                        med: path.med,
                        local_preference: path.local_preference,
                        communities: path.communities,
                        large_communities: path.large_communities,
                        extended_communities: path.extended_communities,
                        only_to_customer: path.only_to_customer,
                        aigp: path.aigp,
                    });
                }
            }
        }
        learned.values_mut().for_each(|paths| paths.sort());
        let expected = self.expected();
        let keys: BTreeSet<_> = learned.keys().chain(expected.keys()).collect();
        for key @ (at, from, prefix) in keys {
            let (found, expected) = (learned.get(key), expected.get(key));
            assert_eq!(found, expected, "what host {at} has learned from host {from} about {prefix}");
        }
    }

    /// For a minute nothing happens but that everybody says that it is alive.
    fn check_quiet(&mut self) {
        let messages = |story: &Self| -> Vec<u64> {
            let speakers = (0..story.network.hosts()).filter_map(|host| story.network.speaker(host));
            speakers.flat_map(|speaker| speaker.status(story.network.now)).map(|status| status.messages_out).collect()
        };
        let (before, events, dials) = (messages(self), self.network.events.len(), self.network.dials);
        self.network.run(Duration::from_secs(60));
        assert_eq!(self.network.events[events..], [], "in a quiet network");
        assert_eq!(self.network.dials, dials, "dials in a quiet network");
        for (before, after) in before.into_iter().zip(messages(self)) {
            // Hold time 3 s at least, so a KEEPALIVE each 750 ms at most.
            assert!((6..=80).contains(&(after - before)), "{} messages of one peer in a minute", after - before);
        }
    }

    /// What everybody must have learned: by receiver, sender and prefix.
    fn expected(&self) -> BTreeMap<(usize, usize, IpNet), Vec<Seen>> {
        let direction = |(&(from, to), sender): (&(usize, usize), &Settings)| {
            let receiver = self.settings[&(to, from)];
            let internal = self.asn(from) == self.asn(to);
            let ipv4_only = sender.ipv4_only || receiver.ipv4_only;
            let own = self.wanted.get(&(from, to)).into_iter().flatten();
            let added = self.shape.added(self.seed, from);
            let metrics = |settings: &Settings| match settings.aigp {
                AigpSession::Internal => internal,
                AigpSession::Enabled => true,
                AigpSession::Disabled => false,
            };
            let gives_itself = sender.own_next_hop && self.shape.reflects(self.seed, from, to).is_some();
            let told = |prefix: &IpNet, attributes: &RouteAttributes| Seen {
                next_hop: match Family::of(prefix) {
                    Family::Ipv4Unicast => IpAddr::V4(address(from)),
                    Family::Ipv6Unicast => IpAddr::V6(next_hop(from, sender.next_hop)),
                },
                as_path: match internal {
                    true => Vec::new(),
                    false => vec![self.asn(from); usize::from(attributes.prepend) + 1],
                },
                med: attributes.med,
                local_preference: internal.then(|| attributes.local_preference.unwrap_or(100)),
                communities: attributes.communities.clone(),
                large_communities: attributes.large_communities.clone(),
                extended_communities: attributes.extended_communities.clone(),
                // Its own mark, or what somebody else has written.
                only_to_customer: match self.role(from, to) {
                    Some(Role::Provider | Role::Peer | Role::RouteServer) => Some(self.asn(from)),
                    _ => added.mark,
                },
                aigp: added.aigp,
            };
            let path = |(prefix, attributes): (&IpNet, &Arc<RouteAttributes>)| {
                (*prefix, Path { seen: told(prefix, attributes), originator: None, clusters: Vec::new() })
            };
            let rules: Vec<IpNet> = ACCEPTED[receiver.accept].iter().map(|rule| rule.parse().unwrap()).collect();
            let takes = move |prefix: &IpNet| {
                !(ipv4_only && Family::of(prefix) == Family::Ipv6Unicast)
                    && rules.iter().any(|rule| rule.contains(prefix))
            };
            let cluster = self.shape.reflects(self.seed, to, from);
            let direction = Direction {
                internal,
                relay: self.shape.relay(self.seed, from, to),
                paths: self.shape.paths(from, to),
                own: own.map(path).collect(),
                takes: Box::new(takes),
                from_asn: self.asn(from),
                asn: self.asn(to),
                role: self.role(from, to),
                receiver_role: self.role(to, from),
                tells_metrics: metrics(sender),
                hears_metrics: metrics(&receiver),
                own_next_hops: gives_itself.then(|| [address(from).into(), next_hop(from, sender.next_hop).into()]),
                ways: self.network.ways(from).clone(),
                cluster,
            };
            ((from, to), direction)
        };
        let learned = model::learned(&self.settings.iter().map(direction).collect());
        let seen = |paths: Vec<Path>| {
            let mut seen: Vec<Seen> = paths.into_iter().map(|path| path.seen).collect();
            seen.sort();
            seen
        };
        learned.into_iter().map(|((from, to, prefix), paths)| ((to, from, prefix), seen(paths))).collect()
    }

    fn neighbours(&self, of: usize) -> impl Iterator<Item = usize> {
        self.settings.range((of, 0)..(of + 1, 0)).map(|((_, neighbour), _)| *neighbour)
    }

    fn any_session(&mut self) -> (usize, usize) {
        let index = self.network.random.below(self.settings.len() as u64) as usize;
        *self.settings.keys().nth(index).unwrap()
    }

    fn start(&mut self, host: usize) {
        self.network.start(host);
        let neighbours: Vec<usize> = self.neighbours(host).collect();
        for neighbour in neighbours {
            self.incomplete.insert((host, neighbour));
            self.announce_all(host, neighbour);
        }
    }

    fn announce_all(&mut self, from: usize, to: usize) {
        if !self.network.is_up(from) || self.settings[&(from, to)].removed {
            return;
        }
        let wanted = self.wanted.get(&(from, to)).into_iter().flatten();
        let all = wanted.map(|(prefix, attributes)| RouteChange::Announce(*prefix, Arc::clone(attributes)));
        self.network.update_routes(from, to, all.collect());
        if self.network.random.one_in(2) {
            self.say_everything(from, to);
        }
    }

    fn say_everything(&mut self, from: usize, to: usize) {
        if self.network.is_up(from) && !self.settings[&(from, to)].removed {
            self.incomplete.remove(&(from, to));
            self.network.initial_set_complete(from, to);
        }
    }

    fn change(&mut self, from: usize, to: usize, change: impl FnOnce(&mut Random, &mut Settings)) {
        if !self.network.is_up(from) {
            return;
        }
        let Some(settings) = self.settings.get_mut(&(from, to)) else { return };
        let (was_removed, before) = (settings.removed, *settings);
        change(&mut self.network.random, settings);
        let what_restarts = |settings: &Settings| (settings.hold_time, settings.ipv4_only, settings.wrong_asn);
        let restarts = what_restarts(&before) != what_restarts(settings);
        match (was_removed, settings.removed) {
            (false, true) => self.network.remove_peer(from, to),
            (true, false) => {
                self.configure(from, to);
                self.announce_all(from, to);
            }
            (false, false) => {
                self.configure(from, to);
                let kept = self.network.speaker(from).and_then(|speaker| {
                    speaker.status(self.network.now).into_iter().find(|status| status.key == peer_key(to))
                });
                // Another session is wanted: what came over the one before counts no more, stale or not.
                if restarts {
                    assert_eq!(kept.map(|status| status.prefixes_accepted), Some(0), "of a session that is not wanted");
                }
            }
            (true, true) => {}
        }
    }

    fn change_routes(&mut self, from: usize, to: usize) {
        if self.shape.is_relay(from) {
            return;
        }
        let random = &mut self.network.random;
        let count = 1 + random.below(20);
        let table = self.wanted.entry((from, to)).or_default();
        let mut changes = Vec::new();
        for _ in 0..count {
            let prefix = any_prefix(random);
            if random.one_in(3) {
                table.remove(&prefix);
                changes.push(RouteChange::Withdraw(prefix));
            } else {
                let attributes = Arc::new(any_attributes(random));
                table.insert(prefix, Arc::clone(&attributes));
                changes.push(RouteChange::Announce(prefix, attributes));
            }
        }
        if self.network.is_up(from) && !self.settings[&(from, to)].removed {
            self.network.update_routes(from, to, changes);
        }
    }

    fn asn(&self, host: usize) -> Asn {
        self.shape.asn(self.seed, host)
    }

    /// In half of the networks somebody knows of other routes than those of BGP.
    fn has_ways(&self) -> bool {
        self.seed.is_multiple_of(2)
    }

    /// As `local` says it to `remote`.
    fn role(&self, local: usize, remote: usize) -> Option<Role> {
        self.shape.role(self.seed, local, remote).filter(|_| !self.settings[&(local, remote)].silent)
    }

    fn configure(&mut self, local: usize, remote: usize) {
        let config = self.config(local, remote);
        self.network.set_peer(local, remote, config);
    }

    fn config(&self, local: usize, remote: usize) -> PeerConfig {
        let settings = self.settings[&(local, remote)];
        let relay = self.shape.relay(self.seed, local, remote);
        let remote_asn = if settings.wrong_asn { Asn(65000) } else { self.asn(remote) };
        let there = SocketAddr::new(address(remote).into(), 179);
        let mut config = PeerConfig::new(self.asn(local), PeerAsn::Exactly(remote_asn), address(local), there);
        config.hold_time = settings.hold_time;
        config.connect = match ((local + remote) as u64 + self.seed) % 4 {
            0 if local < remote => Connect::Dial,
            0 => Connect::Passive,
            _ => Connect::Both,
        };
        // Half of the pairs restart gracefully, some of them after words too.
        if (local + remote).is_multiple_of(2) || self.seed.is_multiple_of(2) {
            let forwarding_preserved = if self.seed.is_multiple_of(3) { Family::ALL.into() } else { BTreeSet::new() };
            let notification = self.seed.is_multiple_of(5);
            let restart_time = Duration::from_secs(20);
            config.graceful_restart = Some(GracefulRestart { restart_time, notification, forwarding_preserved });
        }
        config.relay = relay;
        config.role = self.role(local, remote);
        config.aigp = settings.aigp;
        if settings.own_next_hop && self.shape.reflects(self.seed, local, remote).is_some() {
            config.relayed_next_hop = RelayedNextHop::Own;
        }
        config.add_path = self.shape.add_path(local, remote);
        config.next_hops = NextHops { ipv4: None, ipv6: Some(next_hop(local, settings.next_hop)) };
        if settings.ipv4_only {
            config.families.remove(&Family::Ipv6Unicast);
        }
        for rule in ACCEPTED[settings.accept] {
            config.import.accept.push(PrefixRule {
                prefix: rule.parse().unwrap(),
                ge: None,
                le: Some(if rule.contains(':') { 128 } else { 32 }),
            });
        }
        config
    }
}

const AIGP: [AigpSession; 3] = [AigpSession::Internal, AigpSession::Enabled, AigpSession::Disabled];

/// A number of its own for each side of each session.
fn number_of(seed: u64, local: usize, remote: usize) -> u64 {
    seed / 2 + (3 * local + remote) as u64
}

fn next_hop(host: usize, which: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, which, 0, 0, 0, host as u16 + 1)
}

fn any_prefix(random: &mut Random) -> IpNet {
    let index = random.below(40);
    // Some lie inside others, so that they replace each other.
    let inside = random.one_in(4);
    let text = match (index.is_multiple_of(2), inside) {
        (true, false) => format!("10.{index}.0.0/16"),
        (true, true) => format!("10.{index}.1.0/24"),
        (false, false) => format!("2001:db8:{index:x}::/48"),
        (false, true) => format!("2001:db8:{index:x}:1::/64"),
    };
    text.parse().unwrap()
}

fn any_attributes(random: &mut Random) -> RouteAttributes {
    let mut attributes = RouteAttributes { med: Some(random.below(3) as u32), ..RouteAttributes::default() };
    match random.below(8) {
        0 => attributes.communities = vec![Community(64500 << 16 | random.below(3) as u32)],
        1 => {
            attributes.large_communities =
                vec![LargeCommunity { global: 64500, local1: 1, local2: random.below(2) as u32 }]
        }
        2 => attributes.prepend = random.below(4) as u8,
        4 => {
            attributes.extended_communities =
                vec![ExtendedCommunity::Short([0, 2, 0xfb, 0xf4, 0, 0, 0, random.below(2) as u8])]
        }
        3 => attributes.local_preference = Some(100 + random.below(3) as u32),
        _ => {}
    }
    attributes
}
