//! Speakers on virtual time, joined by links that delay, split, fill up, stall, break and fall silent, all from one seed.
//!
//! Every host has one address and one speaker, which can be killed and started again. A connection is two [`Wire`]s, one for each
//! direction; what travels is in one queue, ordered by time and then by number, so a run is a function of its seed.
//!
//! After every step what must always be true is checked at the speaker that was touched: see [`Network::check`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use roadstead_bgp::record::{RecordedSpeaker, Recording, Replay};
use roadstead_bgp::{
    Accepted, AigpSession, ConnectionId, Endpoints, Event, NextHopRoute, NextHops, Output, PeerConfig, PeerKey, Relay,
    RouteChange, Shutdown, Verdict,
};

use crate::random::Random;
use crate::sayings::{Added, Sayings, Speaking};
use crate::ways::{self, Ways};

/// A speaker of a host: of how many that it has had, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    host: usize,
    incarnation: u32,
}

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    process: Process,
    connection: ConnectionId,
}

#[derive(Debug)]
enum Happening {
    Syn {
        from: End,
        to: usize,
        local: SocketAddr,
    },
    SynAck {
        to: End,
        endpoints: Endpoints,
    },
    Bytes {
        to: End,
        from: End,
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

/// What one end of a connection has sent.
#[derive(Debug)]
struct Wire {
    other: End,
    /// When the last thing that was sent from here arrives: a stream keeps its order.
    arrives: Instant,
    /// Sent from here and not read there.
    in_flight: usize,
    sayings: Sayings,
}

impl Wire {
    fn new(other: End, arrives: Instant) -> Self {
        Self { other, arrives, in_flight: 0, sayings: Sayings::default() }
    }
}

/// The other end where there is none.
const NOBODY: ConnectionId = ConnectionId(u64::MAX);

/// What a link's buffers hold.
const WINDOW: usize = 8 * 1024;

struct Host {
    /// `None`: the process is not running.
    speaker: Option<RecordedSpeaker>,
    incarnation: u32,
    /// What the speaker is configured with, and is given again when it starts again.
    peers: BTreeMap<usize, PeerConfig>,
    /// Which next hops it can reach, and is told again so.
    ways: Ways,
    /// What somebody writes into its announcements.
    added: Added,
    deadline: Option<Instant>,
    /// How often the speaker was touched.
    touched: u64,
    recorded: Vec<u8>,
}

pub(crate) struct Network {
    pub(crate) now: Instant,
    began: Instant,
    pub(crate) random: Random,
    pub(crate) events: Vec<(usize, Event)>,
    /// Connections that were dialled so far.
    pub(crate) dials: u64,
    hosts: Vec<Host>,
    deadlines: BTreeSet<(Instant, usize)>,
    /// From one host to another nothing arrives. TCP keeps what was sent, and sends it again when it can.
    stalled: BTreeSet<(usize, usize)>,
    held: BTreeMap<(usize, usize), Vec<Happening>>,
    /// One host refuses the other's connections.
    refusing: BTreeSet<(usize, usize)>,
    /// The longest time that something travels, in microseconds, where it is not the usual one.
    slow: BTreeMap<(usize, usize), u64>,
    /// When one host dialled another, in the last ten seconds.
    dialled: BTreeMap<(usize, usize), VecDeque<Instant>>,
    /// Connections that were asked for and not answered.
    dialling: BTreeSet<End>,
    wires: BTreeMap<End, Wire>,
    /// Ends that were closed in order: what still arrives there is thrown away, so that no reset overtakes the last message.
    farewell: BTreeSet<End>,
    queue: BTreeMap<(Instant, u64), Happening>,
    number: u64,
    ports: u16,
    seed: u64,
    recording: bool,
    trace: bool,
}

pub(crate) fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, u8::try_from(host + 1).unwrap())
}

pub(crate) fn peer_key(host: usize) -> PeerKey {
    PeerKey::from(format!("host-{host}").as_str())
}

/// Any moment will do to start virtual time from.
#[allow(clippy::disallowed_methods, reason = "the origin of virtual time; nothing is measured")]
pub(crate) fn start_of_time() -> Instant {
    Instant::now()
}

impl Network {
    /// Hosts without peers.
    pub(crate) fn new(seed: u64, hosts: usize) -> Self {
        let now = start_of_time();
        let mut network = Self {
            now,
            began: now,
            random: Random(seed),
            events: Vec::new(),
            dials: 0,
            hosts: Vec::new(),
            deadlines: BTreeSet::new(),
            stalled: BTreeSet::new(),
            held: BTreeMap::new(),
            refusing: BTreeSet::new(),
            slow: BTreeMap::new(),
            dialled: BTreeMap::new(),
            dialling: BTreeSet::new(),
            wires: BTreeMap::new(),
            farewell: BTreeSet::new(),
            queue: BTreeMap::new(),
            number: 0,
            ports: 1024,
            seed,
            // Some of them, because it takes its time.
            recording: seed.is_multiple_of(16) && hosts <= 5,
            trace: std::env::var_os("ROADSTEAD_TRACE").is_some(),
        };
        for host in 0..hosts {
            let speaker = network.new_speaker(host, 0);
            network.hosts.push(Host {
                speaker: Some(speaker),
                incarnation: 0,
                peers: BTreeMap::new(),
                ways: None,
                added: Added::default(),
                deadline: None,
                touched: 0,
                recorded: Vec::new(),
            });
        }
        network
    }

    fn new_speaker(&self, host: usize, incarnation: u32) -> RecordedSpeaker {
        let seed = self.seed ^ (host as u64) << 32 ^ u64::from(incarnation) << 48;
        if self.recording { RecordedSpeaker::recorded(seed, self.now, u64::MAX) } else { RecordedSpeaker::new(seed) }
    }

    pub(crate) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    pub(crate) fn speaker(&self, host: usize) -> Option<&RecordedSpeaker> {
        self.hosts[host].speaker.as_ref()
    }

    pub(crate) fn is_up(&self, host: usize) -> bool {
        self.hosts[host].speaker.is_some()
    }

    /// Runs for so long.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..20_000_000u64 {
            let happening = self.queue.first_key_value().map(|((at, _), _)| *at);
            let deadline = self.deadlines.first().map(|(at, _)| *at);
            let Some(next) = [happening, deadline].into_iter().flatten().min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if happening.is_some_and(|at| at <= self.now) {
                if let Some((_, happening)) = self.queue.pop_first() {
                    self.happen(happening);
                }
            } else if let Some(&(_, host)) = self.deadlines.first() {
                let now = self.now;
                self.input(host, |speaker| speaker.handle_timeout(now));
                let next = self.hosts[host].deadline;
                assert!(next.is_none_or(|next| next > now), "a deadline of host {host} comes back at once");
            }
        }
        panic!("the network does not come to rest");
    }

    // What an embedder does.

    pub(crate) fn set_peer(&mut self, host: usize, peer: usize, config: PeerConfig) {
        self.hosts[host].peers.insert(peer, config.clone());
        let now = self.now;
        self.input(host, |speaker| speaker.set_peer(now, peer_key(peer), config).unwrap());
    }

    pub(crate) fn remove_peer(&mut self, host: usize, peer: usize) {
        self.hosts[host].peers.remove(&peer);
        let now = self.now;
        self.input(host, |speaker| speaker.remove_peer(now, &peer_key(peer)).unwrap());
    }

    pub(crate) fn update_routes(&mut self, host: usize, peer: usize, changes: Vec<RouteChange>) {
        let now = self.now;
        self.input(host, |speaker| speaker.update_routes(now, &peer_key(peer), changes).unwrap());
    }

    pub(crate) fn initial_set_complete(&mut self, host: usize, peer: usize) {
        let now = self.now;
        self.input(host, |speaker| speaker.initial_set_complete(now, &peer_key(peer)).unwrap());
    }

    pub(crate) fn ways(&self, host: usize) -> &Ways {
        &self.hosts[host].ways
    }

    pub(crate) fn change_ways(&mut self, host: usize, changes: &[NextHopRoute]) {
        ways::change(&mut self.hosts[host].ways, changes);
        let now = self.now;
        self.input(host, |speaker| speaker.handle_next_hop_routes(now, changes));
    }

    // What goes wrong.

    /// From now on somebody writes this into what a host announces.
    pub(crate) fn add(&mut self, host: usize, added: Added) {
        self.hosts[host].added = added;
    }

    /// Breaks a random connection: both ends learn it, each in its own time; or one of them, or none.
    pub(crate) fn cut(&mut self) {
        let ends: Vec<End> = self.wires.keys().copied().collect();
        if ends.is_empty() {
            return;
        }
        let end = ends[self.random.below(ends.len() as u64) as usize];
        let Some(wire) = self.wires.get(&end) else { return };
        let other = wire.other;
        let told = match self.random.below(4) {
            0 => {
                // Something between them has forgotten it: each end notices when it sends, because that is answered with a
                // reset.
                for (end, other) in [(end, other), (other, end)] {
                    if let Some(wire) = self.wires.get_mut(&end) {
                        wire.other = End { connection: NOBODY, ..other };
                    }
                }
                return;
            }
            1 => vec![end],
            _ => vec![end, other],
        };
        for to in told {
            self.wires.remove(&to);
            let at = self.now + self.delay(other.process.host, end.process.host);
            self.schedule(at, Happening::End { to, reason: Some("connection reset".to_owned()) });
        }
    }

    /// From now on nothing gets from one host to the other.
    pub(crate) fn stall(&mut self, from: usize, to: usize) {
        self.stalled.insert((from, to));
    }

    pub(crate) fn end_stalls(&mut self) {
        self.stalled.clear();
        for happening in std::mem::take(&mut self.held).into_values().flatten() {
            // At this very moment, so that nothing sent later arrives before it.
            self.schedule(self.now, happening);
        }
    }

    pub(crate) fn refuse(&mut self, from: usize, to: usize) {
        self.refusing.insert((from, to));
    }

    pub(crate) fn end_refusals(&mut self) {
        self.refusing.clear();
    }

    /// What travels between these takes up to two seconds.
    pub(crate) fn slow_down(&mut self, one: usize, other: usize) {
        self.slow.insert((one.min(other), one.max(other)), 2_000_000);
    }

    pub(crate) fn end_slowness(&mut self) {
        self.slow.clear();
    }

    /// Ends a host's speaker in order. It can be started again.
    pub(crate) fn shut_down(&mut self, host: usize, shutdown: &Shutdown) {
        let now = self.now;
        self.input(host, |speaker| speaker.shutdown(now, shutdown));
        self.bury(host);
    }

    /// Ends a host's speaker without a word. If the machine goes on, its kernel resets the connections.
    pub(crate) fn kill(&mut self, host: usize, machine_too: bool) {
        self.bury(host);
        let process = Process { host, incarnation: self.hosts[host].incarnation };
        let ends: Vec<(End, End)> =
            self.wires.iter().filter(|(end, _)| end.process == process).map(|(end, wire)| (*end, wire.other)).collect();
        for (end, other) in ends {
            self.wires.remove(&end);
            if !machine_too {
                let at = self.now + self.delay(host, other.process.host);
                self.schedule(at, Happening::End { to: other, reason: Some("connection reset".to_owned()) });
            }
        }
    }

    fn bury(&mut self, host: usize) {
        let speaker = self.hosts[host].speaker.take();
        self.hosts[host].recorded.extend(speaker.into_iter().flat_map(|mut speaker| speaker.take_recorded()));
        self.check_recording(host);
        self.note_deadline(host);
    }

    /// Starts a host's speaker again, with the peers that it had.
    pub(crate) fn start(&mut self, host: usize) {
        assert!(!self.is_up(host));
        self.hosts[host].incarnation += 1;
        self.hosts[host].speaker = Some(self.new_speaker(host, self.hosts[host].incarnation));
        let now = self.now;
        for (peer, config) in self.hosts[host].peers.clone() {
            self.input(host, |speaker| speaker.set_peer(now, peer_key(peer), config).unwrap());
        }
        if let Some(ways) = self.hosts[host].ways.clone() {
            let route = |(prefix, metric)| NextHopRoute { prefix, metric: Some(metric) };
            let routes: Vec<NextHopRoute> = ways.into_iter().map(route).collect();
            self.input(host, |speaker| speaker.handle_next_hop_routes(now, &routes));
        }
    }

    // How it works.

    fn input(&mut self, host: usize, input: impl FnOnce(&mut RecordedSpeaker)) {
        if let Some(speaker) = &mut self.hosts[host].speaker {
            input(speaker);
            self.perform(host);
            self.note_deadline(host);
            self.hosts[host].touched += 1;
            self.check(host);
        }
    }

    /// The same for a connection of a speaker that may not be there any more.
    fn input_of(&mut self, end: End, input: impl FnOnce(&mut RecordedSpeaker)) {
        if self.is_alive(end.process) {
            self.input(end.process.host, input);
        }
    }

    fn is_alive(&self, process: Process) -> bool {
        let host = &self.hosts[process.host];
        host.speaker.is_some() && host.incarnation == process.incarnation
    }

    fn note_deadline(&mut self, host: usize) {
        let next = self.hosts[host].speaker.as_ref().and_then(|speaker| speaker.next_deadline());
        let before = std::mem::replace(&mut self.hosts[host].deadline, next);
        if before != next {
            self.deadlines.extend(next.map(|next| (next, host)));
            if let Some(before) = before {
                self.deadlines.remove(&(before, host));
            }
        }
    }

    fn perform(&mut self, host: usize) {
        let process = Process { host, incarnation: self.hosts[host].incarnation };
        for _ in 0..100_000 {
            let output = self.hosts[host].speaker.as_mut().and_then(RecordedSpeaker::poll_output);
            let Some(output) = output else { return };
            if self.trace {
                self.say(&format!("host {host}: {output:?}"));
            }
            match output {
                Output::Dial { connection, peer } => {
                    self.dials += 1;
                    let speaker = self.hosts[host].speaker.as_ref();
                    let Some(config) = speaker.and_then(|speaker| speaker.config(&peer)) else { continue };
                    let IpAddr::V4(remote) = config.transport.remote.ip() else { continue };
                    let to = usize::from(remote.octets()[3]) - 1;
                    self.ports = self.ports.checked_add(1).unwrap_or(1024);
                    let local = SocketAddr::new(address(host).into(), self.ports);
                    let at = self.now + self.delay(host, to);
                    self.note_dial(host, to);
                    let from = End { process, connection };
                    self.dialling.insert(from);
                    self.schedule(at, Happening::Syn { from, to, local });
                }
                Output::Write { connection } => self.write(End { process, connection }),
                Output::Close { connection, last } => {
                    let end = End { process, connection };
                    self.dialling.remove(&end);
                    if let Some(wire) = self.wires.get_mut(&end) {
                        let rest = wire.sayings.take_rest();
                        self.send(end, [rest, last].concat());
                        self.schedule_in_order(end, |to| Happening::End { to, reason: None });
                        self.wires.remove(&end);
                        self.farewell.insert(end);
                    }
                }
                Output::Event(event) => self.events.push((host, event)),
            }
        }
        panic!("host {host} never runs out of outputs");
    }

    /// Whatever the other side does, and however often a configuration changes: nobody hammers at it.
    fn note_dial(&mut self, from: usize, to: usize) {
        let now = self.now;
        let dials = self.dialled.entry((from, to)).or_default();
        dials.retain(|at| *at + Duration::from_secs(10) > now);
        dials.push_back(now);
        assert!(dials.len() <= 20, "host {from} dials host {to} {} times in ten seconds", dials.len());
    }

    fn delay(&mut self, one: usize, other: usize) -> Duration {
        let longest = self.slow.get(&(one.min(other), one.max(other))).copied().unwrap_or(40_000);
        Duration::from_micros(100 + self.random.below(longest))
    }

    fn schedule(&mut self, at: Instant, happening: Happening) {
        self.number += 1;
        self.queue.insert((at, self.number), happening);
    }

    /// Puts a happening behind everything that this end has sent.
    fn schedule_in_order(&mut self, end: End, happening: impl FnOnce(End) -> Happening) {
        let Some(other) = self.wires.get(&end).map(|wire| wire.other) else { return };
        let at = self.now + self.delay(end.process.host, other.process.host);
        if let Some(wire) = self.wires.get_mut(&end) {
            wire.arrives = wire.arrives.max(at);
            let at = wire.arrives;
            self.schedule(at, happening(other));
        }
    }

    /// Sends in pieces of any size.
    fn send(&mut self, end: End, bytes: Vec<u8>) {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let size = (1 + self.random.below(1500) as usize).min(rest.len());
            let (piece, behind) = rest.split_at(size);
            let bytes = piece.to_vec();
            self.schedule_in_order(end, |to| Happening::Bytes { to, from: end, bytes });
            rest = behind;
        }
    }

    fn write(&mut self, end: End) {
        let now = self.now;
        for _ in 0..10_000 {
            let Some(wire) = self.wires.get_mut(&end) else { return };
            let Some(speaker) = &mut self.hosts[end.process.host].speaker else { return };
            let pending = speaker.pending_write(now, end.connection);
            assert!(pending.len() <= 128 * 1024 + 4096, "{} octets wait for one peer", pending.len());
            let size = pending.len().min(WINDOW - wire.in_flight);
            if size == 0 {
                return;
            }
            let bytes = pending[..size].to_vec();
            wire.in_flight += size;
            speaker.handle_written(now, end.connection, size);
            let bytes = self.pass(end, &bytes);
            self.send(end, bytes);
        }
        panic!("a connection of host {} never runs dry", end.process.host);
    }

    /// What goes on of what an end has said.
    fn pass(&mut self, end: End, bytes: &[u8]) -> Vec<u8> {
        let Some(wire) = self.wires.get_mut(&end) else { return Vec::new() };
        let Host { peers, added, .. } = &self.hosts[end.process.host];
        let Some(config) = peers.get(&wire.other.process.host) else { return bytes.to_vec() };
        let aigp = match config.aigp {
            AigpSession::Internal => config.is_internal(),
            AigpSession::Enabled => true,
            AigpSession::Disabled => false,
        };
        let speaking = Speaking { asn: config.local_asn, role: config.role, aigp };
        wire.sayings.pass(bytes, speaking, *added)
    }

    /// Keeps what cannot get through for later; `None` if it has been kept.
    fn unless_stalled(&mut self, from: usize, to: usize, happening: Happening) -> Option<Happening> {
        // What is held is in front of everything that follows it.
        if self.stalled.contains(&(from, to)) {
            self.held.entry((from, to)).or_default().push(happening);
            return None;
        }
        Some(happening)
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.now;
        if self.trace {
            self.say(&format!("{happening:?}"));
        }
        match happening {
            Happening::Syn { from, to, local } => self.connect(from, to, local),
            Happening::SynAck { to, endpoints } => {
                if !self.dialling.remove(&to) || !self.is_alive(to.process) {
                    // Given up meanwhile: the other end is told so.
                    if let Some(wire) = self.wires.remove(&to) {
                        let at = now + self.delay(to.process.host, wire.other.process.host);
                        self.schedule(
                            at,
                            Happening::End { to: wire.other, reason: Some("connection reset".to_owned()) },
                        );
                    }
                    return;
                }
                self.input_of(to, |speaker| speaker.handle_dialled(now, to.connection, endpoints));
            }
            Happening::Bytes { to, from, bytes } => {
                let (sender, receiver) = (from.process.host, to.process.host);
                let happening = Happening::Bytes { to, from, bytes };
                let Some(Happening::Bytes { bytes, .. }) = self.unless_stalled(sender, receiver, happening) else {
                    return;
                };
                if !self.wires.contains_key(&to) || !self.is_alive(to.process) {
                    // Nobody there knows this connection. A machine that is off does not even say that.
                    if self.is_up(receiver)
                        && !self.farewell.contains(&to)
                        && self.wires.get(&from).is_some_and(|wire| wire.other == to)
                    {
                        self.wires.remove(&from);
                        let at = now + self.delay(sender, receiver);
                        self.schedule(at, Happening::End { to: from, reason: Some("connection reset".to_owned()) });
                    }
                    return;
                }
                // Slow readers: the sender hears of room only later.
                let at = now + self.delay(sender, receiver);
                self.schedule(at, Happening::Read { by: from, count: bytes.len() });
                self.input_of(to, |speaker| speaker.handle_bytes(now, to.connection, &bytes));
            }
            Happening::End { to, reason } => {
                let from = self.wires.get(&to).map(|wire| wire.other.process.host);
                if let (Some(from), None) = (from, &reason)
                    && self.unless_stalled(from, to.process.host, Happening::End { to, reason: None }).is_none()
                {
                    return;
                }
                self.wires.remove(&to);
                self.dialling.remove(&to);
                self.input_of(to, |speaker| speaker.handle_closed(now, to.connection, reason));
            }
            Happening::Read { by, count } => {
                if let Some(wire) = self.wires.get_mut(&by) {
                    wire.in_flight = wire.in_flight.saturating_sub(count);
                    if self.is_alive(by.process) {
                        self.write(by);
                        self.note_deadline(by.process.host);
                    }
                }
            }
        }
    }

    fn connect(&mut self, from: End, to: usize, local: SocketAddr) {
        let (now, sender) = (self.now, from.process.host);
        if self.stalled.contains(&(sender, to))
            || self.stalled.contains(&(to, sender))
            || !self.dialling.contains(&from)
        {
            // Nobody answers, or nobody hears the answer.
            return;
        }
        let at = now + self.delay(sender, to);
        if self.refusing.contains(&(sender, to)) || !self.is_up(to) {
            let reason = Some("connection refused".to_owned());
            return self.schedule(at, Happening::End { to: from, reason });
        }
        let listening = SocketAddr::new(address(to).into(), 179);
        let accepted = Endpoints { local: listening, remote: local, interface: NextHops::default() };
        let dialled = Endpoints { local, remote: listening, interface: NextHops::default() };
        let process = Process { host: to, incarnation: self.hosts[to].incarnation };
        let answer = self.hosts[to].speaker.as_mut().map(|speaker| speaker.handle_accepted(now, accepted));
        self.schedule(at, Happening::SynAck { to: from, endpoints: dialled });
        match answer {
            Some(Accepted::Connection(connection, _)) => {
                let other = End { process, connection };
                self.wires.insert(from, Wire::new(other, at));
                self.wires.insert(other, Wire::new(from, at));
            }
            Some(Accepted::Refused(last)) => {
                if !last.is_empty() {
                    // In answer to nobody: there is no other end.
                    let nobody = End { process, connection: NOBODY };
                    self.wires.insert(from, Wire::new(nobody, at));
                    self.schedule(at, Happening::Bytes { to: from, from: nobody, bytes: last });
                }
                self.schedule(at, Happening::End { to: from, reason: None });
            }
            None => {}
        }
        self.input(to, |_| {});
    }

    // What must be true.

    /// No route without a session or a timer that ends it; bounded queues; every deadline in the future.
    fn check(&self, host: usize) {
        let Host { speaker: Some(speaker), touched, .. } = &self.hosts[host] else { return };
        let deadline = self.hosts[host].deadline;
        let peers = self.hosts[host].peers.len();
        // A look at each of two hundred peers after each input of a hub would be most of what this test does.
        if peers > 8 && !touched.is_multiple_of(4 * peers as u64) {
            return;
        }
        for status in speaker.status(self.now) {
            if status.uptime.is_none() {
                assert_eq!(status.prefixes_accepted, status.prefixes_stale, "routes without a session: {status:?}");
                assert_eq!(status.prefixes_sent, 0, "told without a session: {status:?}");
            }
            assert!(status.prefixes_stale <= status.prefixes_accepted, "{status:?}");
            assert!(status.prefixes_stale == 0 || deadline.is_some(), "stale for ever: {status:?}");
            assert!(status.last_refusals.len() <= 100, "{status:?}");
        }
        if peers <= 8 && touched.is_multiple_of(16) {
            self.check_best(host, speaker);
        }
        if peers <= 8 {
            let process = Process { host, incarnation: self.hosts[host].incarnation };
            let first = End { process, connection: ConnectionId(0) };
            let last = End { process, connection: NOBODY };
            let connections = self.wires.range(first..=last).count();
            // One in each direction, and an established one that may be dead.
            assert!(connections <= 3 * peers, "host {host} has {connections} connections with {peers} peers");
        }
    }

    /// RFC 4271 section 9.1.2.1: no path is the best whose next hop cannot be reached, but at a route server, which sends nothing
    /// there.
    fn check_best(&self, host: usize, speaker: &RecordedSpeaker) {
        let Host { ways, peers, .. } = &self.hosts[host];
        if ways.is_none() || peers.values().any(|config| config.relay == Relay::RouteServerClient) {
            return;
        }
        for prefix in speaker.learned().keys() {
            for path in speaker.explain(prefix) {
                let reachable = ways::cost(ways, path.path.next_hop).is_some();
                assert_eq!(
                    reachable,
                    path.verdict != Verdict::Unreachable,
                    "host {host}, {prefix}: {path:?}, {ways:?}"
                );
            }
        }
    }

    /// How many there are, half a connection counted as one.
    pub(crate) fn connections(&self) -> usize {
        self.wires.len().div_ceil(2)
    }

    /// Every speaker was what its recording says.
    pub(crate) fn check_recordings(&mut self) {
        for host in 0..self.hosts.len() {
            if let Some(speaker) = &mut self.hosts[host].speaker {
                let recorded = speaker.take_recorded();
                self.hosts[host].recorded.extend(recorded);
                self.check_recording(host);
            }
        }
    }

    fn check_recording(&mut self, host: usize) {
        let recorded = std::mem::take(&mut self.hosts[host].recorded);
        if !recorded.is_empty() {
            let recording = Recording::read(&recorded).unwrap();
            for step in Replay::new(&recording, start_of_time()) {
                let step = step.unwrap();
                assert!(step.agrees, "the replay of host {host} does something else: {step:?}");
            }
        }
    }

    pub(crate) fn say(&self, what: &str) {
        if self.trace {
            eprintln!("{:>12.6} {what}", (self.now - self.began).as_secs_f64());
        }
    }
}
