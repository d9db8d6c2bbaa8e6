//! Several speakers on virtual time, joined by links that delay, split, fill up, break and fall silent, all from one seed.
//!
//! Every speaker has one address and one peer per neighbour. A run is a function of the seed: the queue is ordered by time
//! and then by number, and every random choice comes from one generator.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use roadstead_bgp::{
    Accepted, Asn, Connect, ConnectionId, Endpoints, Event, Family, GracefulRestart, NextHops, Output, PeerAsn,
    PeerConfig, PeerKey, PrefixRule, Speaker,
};

use crate::script::start_of_time;

/// SplitMix64, as good as any for choosing what goes wrong.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// One end of a connection: which speaker, and its name for it.
type End = (usize, ConnectionId);

#[derive(Debug)]
enum Happening {
    /// A SYN arrives at the second speaker.
    Syn {
        from: End,
        to: usize,
        local: SocketAddr,
    },
    SynAck {
        to: End,
        endpoints: Endpoints,
    },
    Refused {
        to: End,
    },
    Bytes {
        to: End,
        bytes: Vec<u8>,
    },
    End {
        to: End,
        reason: Option<String>,
    },
    /// The receiver has read so much; the sender's buffer has room again.
    Read {
        by: End,
        count: usize,
    },
}

#[derive(Debug)]
struct Wire {
    other: End,
    /// When the last thing that was sent from here arrives: a stream keeps its order.
    arrives: Instant,
    /// Sent from here and not read there.
    in_flight: usize,
}

/// What a link's buffers hold.
const WINDOW: usize = 8 * 1024;

pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) speakers: Vec<Speaker>,
    pub(crate) random: Random,
    pub(crate) events: Vec<(usize, Event)>,
    /// Pairs of speakers between which nothing arrives. TCP keeps what was sent, and sends it again when it can.
    silent: Vec<(usize, usize)>,
    held: BTreeMap<End, Vec<Happening>>,
    wires: BTreeMap<End, Wire>,
    queue: BTreeMap<(Instant, u64), Happening>,
    number: u64,
    ports: u16,
    seed: u64,
}

pub(crate) fn address(speaker: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, u8::try_from(speaker + 1).unwrap())
}

pub(crate) fn peer_key(speaker: usize) -> PeerKey {
    PeerKey::from(format!("speaker-{speaker}").as_str())
}

pub(crate) fn asn(speaker: usize) -> Asn {
    Asn(64500 + u32::try_from(speaker).unwrap())
}

pub(crate) fn peer_config(seed: u64, local: usize, remote: usize) -> PeerConfig {
    let mut config = PeerConfig::new(
        asn(local),
        PeerAsn::Exactly(asn(remote)),
        address(local),
        SocketAddr::new(address(remote).into(), 179),
    );
    config.hold_time = Duration::from_secs(9);
    config.connect = Connect::Both;
    // Half of the pairs restart gracefully, some of them after words too.
    if (local + remote).is_multiple_of(2) || seed.is_multiple_of(2) {
        let forwarding_preserved = if seed.is_multiple_of(3) { Family::ALL.into() } else { BTreeSet::new() };
        let notification = seed.is_multiple_of(5);
        config.graceful_restart =
            Some(GracefulRestart { restart_time: Duration::from_secs(20), notification, forwarding_preserved });
    }
    config.next_hops = NextHops { ipv4: None, ipv6: Some(format!("2001:db8::{}", local + 1).parse().unwrap()) };
    for everything in ["0.0.0.0/0", "::/0"] {
        config.import.accept.push(PrefixRule { prefix: everything.parse().unwrap(), ge: Some(0), le: None });
    }
    config
}

impl Network {
    /// A full mesh, every side dialling and listening.
    pub(crate) fn mesh(seed: u64, speakers: usize) -> Self {
        let now = start_of_time();
        let mut network = Self {
            now,
            speakers: (0..speakers).map(|index| Speaker::new(seed ^ (index as u64) << 32)).collect(),
            random: Random(seed),
            events: Vec::new(),
            silent: Vec::new(),
            held: BTreeMap::new(),
            wires: BTreeMap::new(),
            queue: BTreeMap::new(),
            number: 0,
            ports: 1024,
            seed,
        };
        for local in 0..speakers {
            for remote in (0..speakers).filter(|remote| *remote != local) {
                network.speakers[local].set_peer(now, peer_key(remote), peer_config(seed, local, remote)).unwrap();
                network.speakers[local].initial_set_complete(now, &peer_key(remote)).unwrap();
            }
            network.perform(local);
        }
        network
    }

    /// Runs for so long, with an invariant checked after every step.
    pub(crate) fn run(&mut self, duration: Duration, mut invariant: impl FnMut(&Self)) {
        let end = self.now + duration;
        for _ in 0..5_000_000 {
            let happening = self.queue.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.speakers.iter().filter_map(Speaker::next_deadline).min();
            let Some(next) = [happening, deadline].into_iter().flatten().min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if happening.is_some_and(|at| at <= self.now) {
                if let Some((_, happening)) = self.queue.pop_first() {
                    self.happen(happening);
                }
            } else {
                for index in 0..self.speakers.len() {
                    self.speakers[index].handle_timeout(self.now);
                    self.perform(index);
                }
            }
            invariant(self);
        }
        panic!("seed {}: the network does not come to rest", self.seed);
    }

    /// Breaks a random connection: both ends learn it, each in its own time.
    pub(crate) fn cut(&mut self) {
        let ends: Vec<End> = self.wires.keys().copied().collect();
        if ends.is_empty() {
            return;
        }
        let end = ends[self.random.below(ends.len() as u64) as usize];
        let Some(wire) = self.wires.remove(&end) else { return };
        self.wires.remove(&wire.other);
        for to in [end, wire.other] {
            let at = self.now + self.delay();
            self.schedule(at, Happening::End { to, reason: Some("connection reset".to_owned()) });
        }
    }

    pub(crate) fn silence(&mut self, one: usize, other: usize) {
        self.silent.push((one, other));
    }

    pub(crate) fn end_silence(&mut self) {
        self.silent.clear();
        for happening in std::mem::take(&mut self.held).into_values().flatten() {
            // At this very moment, so that nothing sent later arrives before it.
            self.schedule(self.now, happening);
        }
    }

    /// After a change from outside, such as `update_routes`.
    pub(crate) fn perform(&mut self, index: usize) {
        while let Some(output) = self.speakers[index].poll_output() {
            match output {
                Output::Dial { connection, peer } => {
                    let Some(config) = self.speakers[index].config(&peer) else { continue };
                    let IpAddr::V4(remote) = config.transport.remote.ip() else { continue };
                    let to = usize::from(remote.octets()[3]) - 1;
                    self.ports = self.ports.checked_add(1).unwrap_or(1024);
                    let local = SocketAddr::new(address(index).into(), self.ports);
                    let at = self.now + self.delay();
                    self.schedule(at, Happening::Syn { from: (index, connection), to, local });
                }
                Output::Write { connection } => self.write((index, connection)),
                Output::Close { connection, last } => {
                    let end = (index, connection);
                    if self.wires.contains_key(&end) {
                        self.send(end, last);
                        self.finish(end);
                    }
                }
                Output::Event(event) => self.events.push((index, event)),
            }
        }
    }

    fn delay(&mut self) -> Duration {
        Duration::from_micros(100 + self.random.below(40_000))
    }

    fn is_silent(&self, one: usize, other: usize) -> bool {
        self.silent.contains(&(one, other)) || self.silent.contains(&(other, one))
    }

    fn schedule(&mut self, at: Instant, happening: Happening) {
        self.number += 1;
        self.queue.insert((at, self.number), happening);
    }

    /// Puts a happening behind everything that this end has sent.
    fn schedule_in_order(&mut self, end: End, happening: impl FnOnce(End) -> Happening) {
        let delay = self.delay();
        let Some(wire) = self.wires.get_mut(&end) else { return };
        let at = wire.arrives.max(self.now + delay);
        wire.arrives = at;
        let other = wire.other;
        self.schedule(at, happening(other));
    }

    /// Sends in pieces of any size.
    fn send(&mut self, end: End, bytes: Vec<u8>) {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let size = (1 + self.random.below(1500) as usize).min(rest.len());
            let (piece, behind) = rest.split_at(size);
            let piece = piece.to_vec();
            self.schedule_in_order(end, |to| Happening::Bytes { to, bytes: piece });
            rest = behind;
        }
    }

    fn finish(&mut self, end: End) {
        self.schedule_in_order(end, |to| Happening::End { to, reason: None });
        self.wires.remove(&end);
    }

    fn write(&mut self, end: End) {
        for _ in 0..10_000 {
            let Some(wire) = self.wires.get_mut(&end) else { return };
            let pending = self.speakers[end.0].pending_write(self.now, end.1);
            assert!(pending.len() <= 64 * 1024 + 4096, "{} octets wait for one peer", pending.len());
            let size = pending.len().min(WINDOW - wire.in_flight);
            if size == 0 {
                return;
            }
            let bytes = pending[..size].to_vec();
            wire.in_flight += size;
            self.speakers[end.0].handle_written(self.now, end.1, size);
            self.send(end, bytes);
        }
        panic!("seed {}: a connection never runs dry", self.seed);
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        match happening {
            Happening::Syn { from, to, local } => {
                if self.is_silent(from.0, to) {
                    return;
                }
                let at = now + self.delay();
                let listening = SocketAddr::new(address(to).into(), 179);
                let accepted = Endpoints { local: listening, remote: local, interface: NextHops::default() };
                let dialled = Endpoints { local, remote: listening, interface: NextHops::default() };
                match self.speakers[to].handle_accepted(now, accepted) {
                    Accepted::Connection(id, _) => {
                        let other = (to, id);
                        self.wires.insert(from, Wire { other, arrives: at, in_flight: 0 });
                        self.wires.insert(other, Wire { other: from, arrives: at, in_flight: 0 });
                        self.schedule(at, Happening::SynAck { to: from, endpoints: dialled });
                    }
                    Accepted::Refused(last) => {
                        self.schedule(at, Happening::SynAck { to: from, endpoints: dialled });
                        if !last.is_empty() {
                            self.schedule(at, Happening::Bytes { to: from, bytes: last });
                        }
                        self.schedule(at, Happening::Refused { to: from });
                    }
                }
                self.perform(to);
            }
            Happening::SynAck { to, endpoints } => {
                self.speakers[to.0].handle_dialled(now, to.1, endpoints);
                self.perform(to.0);
            }
            Happening::Refused { to } => {
                self.speakers[to.0].handle_closed(now, to.1, None);
                self.perform(to.0);
            }
            Happening::Bytes { to, bytes } => {
                if let Some(wire) = self.wires.get(&to) {
                    let other = wire.other;
                    if self.is_silent(to.0, other.0) {
                        self.held.entry(to).or_default().push(Happening::Bytes { to, bytes });
                        return;
                    }
                    // Slow readers: the sender hears of room only later.
                    let at = now + self.delay();
                    self.schedule(at, Happening::Read { by: other, count: bytes.len() });
                }
                self.speakers[to.0].handle_bytes(now, to.1, &bytes);
                self.perform(to.0);
            }
            Happening::End { to, reason } => {
                let silent = self.wires.get(&to).is_some_and(|wire| self.is_silent(to.0, wire.other.0));
                if silent && reason.is_none() {
                    self.held.entry(to).or_default().push(Happening::End { to, reason });
                    return;
                }
                self.wires.remove(&to);
                self.speakers[to.0].handle_closed(now, to.1, reason);
                self.perform(to.0);
            }
            Happening::Read { by, count } => {
                if let Some(wire) = self.wires.get_mut(&by) {
                    wire.in_flight = wire.in_flight.saturating_sub(count);
                    self.write(by);
                }
            }
        }
    }

    pub(crate) fn established(&self) -> VecDeque<(usize, PeerKey)> {
        let statuses = self
            .speakers
            .iter()
            .enumerate()
            .flat_map(|(index, speaker)| speaker.status(self.now).into_iter().map(move |status| (index, status)));
        statuses.filter(|(_, status)| status.uptime.is_some()).map(|(index, status)| (index, status.key)).collect()
    }
}
