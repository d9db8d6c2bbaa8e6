//! Two sides on virtual time: stories of what happens to a session, and properties over many seeds.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::packet::ControlPacket;
use super::*;

/// Any moment will do to start virtual time from.
#[allow(clippy::disallowed_methods, reason = "the origin of virtual time; nothing is measured")]
fn start_of_time() -> Instant {
    Instant::now()
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn config(transmit: u64, receive: u64, multiplier: u8) -> BfdConfig {
    BfdConfig { transmit_interval: ms(transmit), receive_interval: ms(receive), multiplier, hops: Hops::Single }
}

fn path(remote: &str) -> Path {
    Path { remote: address(remote), scope: 0, local: None, interface: None, port: Port::SingleHop }
}

fn datagram<'a>(source: &str, payload: &'a [u8]) -> Datagram<'a> {
    Datagram {
        source: address(source),
        destination: address("192.0.2.9"),
        interface_index: 2,
        interface: Some("eth0"),
        ttl: 255,
        port: Port::SingleHop,
        payload,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    A,
    B,
}

const SIDES: [Side; 2] = [Side::A, Side::B];

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    const fn address(self) -> &'static str {
        match self {
            Self::A => "192.0.2.1",
            Self::B => "192.0.2.2",
        }
    }
}

/// What the cable does to one direction.
#[derive(Debug, Clone, Copy)]
struct Line {
    cut: bool,
    /// In percent, but never more than `longest_run` in a row.
    loss: u64,
    longest_run: u64,
    run: u64,
    least_delay: Duration,
    delay_spread: Duration,
    /// No packet overtakes another: a link does not do that, and BFD has no numbers to tell.
    last_arrival: Option<Instant>,
}

/// Two machines, a cable, and a clock that jumps from event to event.
struct World {
    now: Instant,
    began: Instant,
    machines: [Bfd; 2],
    lines: [Line; 2],
    random: SplitMix64,
    /// Packets on their way to a side, by the time of arrival and a number that tells those of one moment apart.
    travelling: BTreeMap<(Instant, u64), (Side, [u8; 24])>,
    sent: u64,
    events: Vec<(Side, BfdEvent)>,
    /// Every packet that a side has sent, lost or not.
    packets: Vec<(Side, Instant, ControlPacket)>,
}

impl World {
    /// A cable without faults, and nothing that anybody wants.
    fn new(seed: u64) -> Self {
        let now = start_of_time();
        let line = Line {
            cut: false,
            loss: 0,
            longest_run: 0,
            run: 0,
            least_delay: ms(1),
            delay_spread: Duration::ZERO,
            last_arrival: None,
        };
        Self {
            now,
            began: now,
            machines: [Bfd::new(seed), Bfd::new(seed + 1_000_000)],
            lines: [line; 2],
            random: SplitMix64::new(seed ^ 0x5eed),
            travelling: BTreeMap::new(),
            sent: 0,
            events: Vec::new(),
            packets: Vec::new(),
        }
    }

    /// Both sides want the session.
    fn with(seed: u64, a: BfdConfig, b: BfdConfig) -> Self {
        let mut world = Self::new(seed);
        world.want(Side::A, a);
        world.want(Side::B, b);
        world
    }

    fn want(&mut self, side: Side, config: BfdConfig) {
        let now = self.now;
        self.machine(side).set_session(now, "peer".into(), path(side.other().address()), config);
        self.collect();
    }

    fn forsake(&mut self, side: Side) {
        let now = self.now;
        self.machine(side).remove_session(now, &"peer".into());
        self.collect();
    }

    fn machine(&mut self, side: Side) -> &mut Bfd {
        &mut self.machines[side as usize]
    }

    fn line_from(&mut self, side: Side) -> &mut Line {
        &mut self.lines[side as usize]
    }

    fn cut(&mut self, cut: bool) {
        self.lines.iter_mut().for_each(|line| line.cut = cut);
    }

    fn status(&self, side: Side) -> BfdSessionStatus {
        self.machines[side as usize].status().sessions.remove(&"peer".into()).unwrap()
    }

    fn states(&self) -> (State, State) {
        (self.status(Side::A).state, self.status(Side::B).state)
    }

    /// Puts on the line what the machines want to send, and notes what they say.
    fn collect(&mut self) {
        for side in SIDES {
            while let Some(output) = self.machines[side as usize].poll_output() {
                match output {
                    BfdOutput::Event { event, .. } => self.events.push((side, event)),
                    BfdOutput::Send { packet, .. } => self.send(side, packet),
                }
            }
        }
    }

    fn send(&mut self, side: Side, packet: [u8; 24]) {
        self.packets.push((side, self.now, ControlPacket::decode(&packet).unwrap()));
        let (drawn, spread) = (self.random.next() % 100, self.random.next() % 1000);
        let line = &mut self.lines[side as usize];
        if line.cut || (drawn < line.loss && line.run < line.longest_run) {
            line.run += 1;
            return;
        }
        line.run = 0;
        let arrival = self.now + line.least_delay + line.delay_spread * spread as u32 / 1000;
        let arrival = line.last_arrival.map_or(arrival, |last| last.max(arrival));
        line.last_arrival = Some(arrival);
        self.travelling.insert((arrival, self.sent), (side.other(), packet));
        self.sent += 1;
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let arrival = self.travelling.keys().next().map(|(arrival, _)| *arrival);
            let deadlines = self.machines.iter().filter_map(Bfd::next_deadline);
            let Some(next) = deadlines.chain(arrival).min().filter(|next| *next <= end) else { break };
            assert!(next > self.now || arrival == Some(next) || self.packets.len() < 1_000_000, "time stands still");
            self.now = self.now.max(next);
            while let Some(entry) = self.travelling.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (to, packet) = entry.remove();
                let now = self.now;
                // Refused packets are counted by the machine itself.
                let _ = self.machine(to).handle_datagram(now, datagram(to.other().address(), &packet));
            }
            let now = self.now;
            self.machines.iter_mut().for_each(|machine| machine.handle_timeout(now));
            self.collect();
        }
        self.now = end;
    }

    fn elapsed(&self) -> Duration {
        self.now - self.began
    }
}

fn down(diagnostic: Diagnostic, remote_diagnostic: Diagnostic, detection_time: Duration) -> BfdEvent {
    BfdEvent::Down(BfdFailure { diagnostic, remote_diagnostic, detection_time })
}

#[test]
fn a_session_comes_up_slowly_and_then_runs_at_the_agreed_pace() {
    let mut world = World::with(1, config(300, 300, 3), config(50, 400, 5));
    world.run(Duration::from_secs(4));
    assert_eq!(world.states(), (State::Up, State::Up));
    assert_eq!(world.events, [(Side::A, BfdEvent::Up), (Side::B, BfdEvent::Up)]);
    let (a, b) = (world.status(Side::A), world.status(Side::B));
    // A sends at what B bears, B at what A bears; each waits as many of the other's packets as the other says.
    assert_eq!((a.transmit_interval, a.detection_time), (Some(ms(400)), Some(ms(5 * 300))));
    assert_eq!((b.transmit_interval, b.detection_time), (Some(ms(300)), Some(ms(3 * 400))));
    assert_eq!(a.remote.map(|remote| remote.discriminator), Some(b.local_discriminator));
    for (side, _, packet) in &world.packets {
        if packet.state != State::Up {
            assert!(packet.desired_min_tx >= Duration::from_secs(1), "{side:?} is fast in {}", packet.state);
        }
        assert!(!packet.control_plane_independent && !packet.demand && packet.required_min_echo_rx.is_zero());
    }
    // Who came up polled, because the interval changed, and was answered.
    for side in SIDES {
        let of = |wanted: fn(&ControlPacket) -> bool| {
            world.packets.iter().filter(|(sender, _, packet)| *sender == side && wanted(packet)).count()
        };
        assert!(of(|packet| packet.poll) > 0 && of(|packet| packet.is_final) > 0, "{side:?}");
        assert_eq!(of(|packet| packet.poll && packet.is_final), 0, "{side:?}");
    }
    let last = &world.packets[world.packets.len() - 10..];
    assert!(last.iter().all(|(_, _, packet)| !packet.poll && !packet.is_final), "the polls have ended");
}

#[test]
fn a_cut_is_noticed_within_the_detection_time_by_both() {
    let mut world = World::with(2, config(300, 300, 3), config(300, 300, 3));
    world.run(Duration::from_secs(5));
    world.events.clear();
    world.cut(true);
    world.run(ms(901));
    let expired = down(Diagnostic::DETECTION_TIME_EXPIRED, Diagnostic::NONE, ms(900));
    assert_eq!(world.states(), (State::Down, State::Down));
    assert_eq!(world.events.len(), 2);
    assert!(SIDES.into_iter().all(|side| world.events.contains(&(side, expired))), "{:?}", world.events);
    assert_eq!(world.status(Side::A).remote, None, "a silent side is forgotten");
    let (_, _, last) = world.packets.iter().rfind(|(side, _, _)| *side == Side::A).unwrap();
    assert_eq!((last.state, last.your_discriminator), (State::Down, 0));

    world.cut(false);
    world.run(Duration::from_secs(5));
    assert_eq!(world.states(), (State::Up, State::Up));
    assert_eq!((world.status(Side::A).ups, world.status(Side::A).downs), (2, 1));
}

#[test]
fn a_cut_in_one_direction_is_told_by_the_side_that_notices() {
    let mut world = World::with(3, config(300, 300, 3), config(300, 300, 3));
    world.run(Duration::from_secs(5));
    world.events.clear();
    world.line_from(Side::B).cut = true;
    world.run(Duration::from_secs(1));
    let (expired, signaled) = (Diagnostic::DETECTION_TIME_EXPIRED, Diagnostic::NEIGHBOR_SIGNALED_DOWN);
    let expected = [
        (Side::A, down(expired, Diagnostic::NONE, ms(900))),
        (Side::B, down(signaled, expired, Duration::from_secs(3))),
    ];
    assert_eq!(world.events.len(), 2);
    assert_eq!(world.events[0], expected[0]);
    let (Side::B, BfdEvent::Down(failure)) = world.events[1] else { panic!("{:?}", world.events) };
    assert_eq!((failure.diagnostic, failure.remote_diagnostic), (signaled, expired));
    // B hears A, and says so; A does not hear it.
    world.run(Duration::from_secs(3));
    assert_eq!(world.states(), (State::Down, State::Init));
}

#[test]
fn what_is_taken_down_on_purpose_is_no_failure() {
    let mut world = World::with(4, config(300, 300, 3), config(300, 300, 3));
    world.run(Duration::from_secs(5));
    world.events.clear();
    world.forsake(Side::A);
    world.run(ms(10));
    let told = BfdEvent::RemoteAdminDown { diagnostic: Diagnostic::ADMINISTRATIVELY_DOWN };
    assert_eq!(world.events, [(Side::B, told)]);
    assert!(world.machine(Side::A).is_idle(), "B has shown that it knows");
    world.run(Duration::from_secs(10));
    assert_eq!(world.events.len(), 1, "and no detection time expires afterwards: {:?}", world.events);
    assert_eq!(world.status(Side::B).state, State::Down);
    // Asked for again it comes up again.
    world.want(Side::A, config(300, 300, 3));
    world.run(Duration::from_secs(5));
    assert_eq!(world.states(), (State::Up, State::Up));
}

#[test]
fn a_farewell_that_nobody_answers_ends_after_a_detection_time() {
    let mut world = World::with(5, config(300, 300, 3), config(300, 300, 3));
    world.run(Duration::from_secs(5));
    world.cut(true);
    let now = world.now;
    world.machine(Side::A).shutdown(now);
    world.collect();
    world.packets.clear();
    // Three times the second of a session that is not up.
    world.run(ms(2999));
    assert!(!world.machine(Side::A).is_idle());
    world.run(ms(2));
    assert!(world.machine(Side::A).is_idle());
    let said: Vec<_> = world.packets.iter().filter(|(side, _, _)| *side == Side::A).collect();
    assert!(said.len() >= 2, "said again: {said:?}");
    assert!(said.iter().all(|(_, _, packet)| packet.state == State::AdminDown));
    world.want(Side::A, config(300, 300, 3));
    assert!(world.machine(Side::A).is_idle(), "after a shutdown nothing begins");
}

#[test]
fn a_session_that_was_never_heard_just_goes() {
    let mut world = World::new(6);
    world.want(Side::A, config(300, 300, 3));
    world.run(Duration::from_secs(3));
    world.packets.clear();
    world.forsake(Side::A);
    assert!(world.machine(Side::A).is_idle());
    assert!(world.packets.is_empty());
}

#[test]
fn what_comes_and_goes_costs_a_bounded_number_of_ends() {
    let now = start_of_time();
    let mut machine = Bfd::new(1);
    let mut farewells = 0;
    for number in 0..1_000_u32 {
        let remote = std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string();
        let key = PeerKey::from(remote.as_str());
        machine.set_session(now, key.clone(), path(&remote), BfdConfig::new());
        // Whoever wants to be told slowly would be told for hours.
        let slow = ControlPacket { required_min_rx: Duration::from_secs(4_000), ..opening() };
        machine.handle_datagram(now, datagram(&remote, &slow.encode())).unwrap();
        machine.remove_session(now, &key);
        while let Some(output) = machine.poll_output() {
            if let BfdOutput::Send { packet, .. } = output {
                farewells += u32::from(ControlPacket::decode(&packet).unwrap().state == State::AdminDown);
            }
        }
    }
    assert_eq!(machine.paths().count(), MOST_ENDING);
    assert_eq!(machine.by_discriminator.len(), MOST_ENDING);
    assert_eq!(farewells, 1_000, "each is told once");
}

#[test]
fn only_those_who_are_to_hear_last_are_kept() {
    let mut world = World::with(1, config(300, 300, 3), config(300, 300, 3));
    world.run(ms(5_000));
    assert_eq!(world.states(), (State::Up, State::Up));
    let client = world.machine(Side::A).by_client.keys().next().cloned().unwrap();
    let now = world.now;
    world.machine(Side::A).keep_only(now, &BTreeSet::from([client]));
    world.run(ms(5_000));
    assert_eq!(world.states(), (State::Up, State::Up));
    let now = world.now;
    world.machine(Side::A).keep_only(now, &BTreeSet::new());
    world.collect();
    world.run(ms(5_000));
    assert!(world.machine(Side::A).is_idle());
    assert!(matches!(world.events.last(), Some((Side::B, BfdEvent::RemoteAdminDown { .. }))), "{:?}", world.events);
}

#[test]
fn a_restart_of_the_other_side_is_a_failure_and_a_new_session() {
    let mut world = World::with(7, config(300, 300, 3), config(300, 300, 3));
    world.run(Duration::from_secs(5));
    world.events.clear();
    world.machines[Side::A as usize] = Bfd::new(99);
    world.want(Side::A, config(300, 300, 3));
    world.run(Duration::from_secs(5));
    assert_eq!(world.states(), (State::Up, State::Up));
    let told: Vec<BfdEvent> =
        world.events.iter().filter(|(side, _)| *side == Side::B).map(|(_, event)| *event).collect();
    assert!(
        matches!(told[..], [BfdEvent::Down(BfdFailure { diagnostic: Diagnostic(3), .. }), BfdEvent::Up]),
        "{told:?}"
    );
}

#[test]
fn peers_with_one_path_share_a_session_with_the_strictest_wishes() {
    let mut world = World::with(8, config(300, 300, 5), config(50, 50, 3));
    let now = world.now;
    world.machine(Side::A).set_session(now, "second".into(), path(Side::B.address()), config(100, 700, 4));
    world.run(Duration::from_secs(5));
    let both = world.machines[0].status().sessions;
    assert_eq!(both.len(), 2);
    assert_eq!(both[&"peer".into()], both[&"second".into()]);
    assert_eq!(world.status(Side::A).transmit_interval, Some(ms(100)));
    assert_eq!(world.status(Side::B).detection_time, Some(ms(4 * 100)));
    world.forsake(Side::A);
    world.run(Duration::from_secs(5));
    let left = world.machines[0].status().sessions;
    assert_eq!(left.keys().map(PeerKey::as_str).collect::<Vec<_>>(), ["second"]);
    assert_eq!((left[&"second".into()].downs, left[&"second".into()].state), (0, State::Up));
    assert_eq!(world.status(Side::B).downs, 0);
}

/// What a packet with `edit` is answered with by a machine that has a session with 192.0.2.2.
fn refusal(edit: impl FnOnce(&mut Datagram<'_>, &mut ControlPacket)) -> Result<(), Discard> {
    let now = start_of_time();
    let mut bfd = Bfd::new(1);
    bfd.set_session(now, "peer".into(), path("192.0.2.2"), config(300, 300, 3));
    let far = Path { port: Port::Multihop, ..path("198.51.100.1") };
    let over_hops = BfdConfig { hops: Hops::Multi { minimum_ttl: 250 }, ..config(300, 300, 3) };
    bfd.set_session(now, "far".into(), far, over_hops);
    let mut packet = opening();
    let mut received = datagram("192.0.2.2", &[]);
    edit(&mut received, &mut packet);
    let octets = packet.encode();
    let mut octets = octets.to_vec();
    if packet.authentication_present {
        octets[1] |= 4;
        octets[3] = 26;
        octets.extend([1, 2]);
    }
    let outcome = bfd.handle_datagram(now, Datagram { payload: &octets, ..received });
    let status = bfd.status();
    let counted = status.discarded.iter().chain(status.sessions.values().flat_map(|session| &session.discarded));
    let counted: Vec<(Discard, u64)> = counted.map(|(reason, count)| (*reason, *count)).collect();
    assert_eq!(counted, outcome.err().map(|reason| (reason, 1)).into_iter().collect::<Vec<_>>(), "what is counted");
    let accepted: u64 = status.sessions.values().map(|session| session.packets_in).sum();
    assert_eq!(accepted, u64::from(outcome.is_ok()));
    outcome
}

fn opening() -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::NONE,
        state: State::Down,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        authentication_present: false,
        demand: false,
        detect_multiplier: 3,
        my_discriminator: 77,
        your_discriminator: 0,
        desired_min_tx: Duration::from_secs(1),
        required_min_rx: ms(300),
        required_min_echo_rx: Duration::ZERO,
    }
}

#[test]
fn packets_that_belong_to_no_session_or_come_from_too_far_are_discarded() {
    let far = |datagram: &mut Datagram<'_>, ttl: u8| {
        (datagram.source, datagram.port, datagram.ttl) = (address("198.51.100.1"), Port::Multihop, ttl);
    };
    assert_eq!(refusal(|_, _| {}), Ok(()));
    assert_eq!(refusal(|datagram, _| datagram.ttl = 254), Err(Discard::TimeToLive));
    assert_eq!(refusal(|datagram, _| datagram.source = address("192.0.2.3")), Err(Discard::UnknownSource));
    assert_eq!(refusal(|datagram, _| datagram.port = Port::Multihop), Err(Discard::UnknownSource));
    assert_eq!(refusal(|_, packet| packet.your_discriminator = 5), Err(Discard::UnknownDiscriminator));
    assert_eq!(refusal(|_, packet| packet.authentication_present = true), Err(Discard::Authentication));
    assert_eq!(refusal(|datagram, _| far(datagram, 250)), Ok(()));
    assert_eq!(refusal(|datagram, _| far(datagram, 249)), Err(Discard::TimeToLive));
    // The other port is no way around the TTL of a single hop.
    assert_eq!(
        refusal(|datagram, _| {
            far(datagram, 255);
            datagram.port = Port::SingleHop;
        }),
        Err(Discard::UnknownSource)
    );
}

#[test]
fn the_discriminator_counts_and_else_the_path_that_says_most() {
    let now = start_of_time();
    let mut bfd = Bfd::new(3);
    let remote = "fe80::1";
    let paths = [
        ("any", Path { ..path(remote) }),
        ("local", Path { local: Some(address("fe80::9")), ..path(remote) }),
        ("eth1", Path { interface: Some("eth1".to_owned()), ..path(remote) }),
        ("scope", Path { scope: 7, local: Some(address("fe80::9")), ..path(remote) }),
    ];
    for (key, path) in paths {
        bfd.set_session(now, key.into(), path, config(300, 300, 3));
    }
    let packet = opening();
    let mut heard_by = |destination: &str, index: u32, interface: &str, packet: &ControlPacket| {
        let before = bfd.status().sessions;
        let octets = packet.encode();
        let received = Datagram {
            destination: address(destination),
            interface_index: index,
            interface: Some(interface),
            ..datagram(remote, &octets)
        };
        bfd.handle_datagram(now, received).unwrap();
        let after = bfd.status().sessions;
        let mut keys = after.iter().filter(|(key, status)| before[*key].packets_in < status.packets_in);
        keys.next().unwrap().0.as_str().to_owned()
    };
    assert_eq!(heard_by("fe80::8", 2, "eth0", &packet), "any");
    assert_eq!(heard_by("fe80::9", 2, "eth0", &packet), "local");
    assert_eq!(heard_by("fe80::9", 3, "eth1", &packet), "eth1");
    // Where the discriminator is known nothing else is looked at.
    let discriminator = {
        let mut other = Bfd::new(3);
        other.set_session(now, "any".into(), path(remote), config(300, 300, 3));
        other.status().sessions[&"any".into()].local_discriminator
    };
    let known = ControlPacket { your_discriminator: discriminator, state: State::Init, ..packet };
    assert_eq!(heard_by("fe80::9", 3, "eth1", &known), "any");
}

#[test]
fn in_demand_mode_only_polls_are_heard_of_us() {
    let mut world = World::with(9, config(100, 100, 3), config(100, 100, 3));
    world.run(Duration::from_secs(5));
    let b = world.status(Side::B);
    let demanding = ControlPacket {
        state: State::Up,
        demand: true,
        my_discriminator: b.local_discriminator,
        your_discriminator: world.status(Side::A).local_discriminator,
        desired_min_tx: ms(100),
        required_min_rx: ms(100),
        ..opening()
    };
    let mut machine = std::mem::replace(&mut world.machines[0], Bfd::new(0));
    let mut now = world.now;
    let mut sent = Vec::new();
    for round in 0..20 {
        machine.handle_datagram(now, datagram(Side::B.address(), &demanding.encode())).unwrap();
        if round == 10 {
            machine.set_session(now, "peer".into(), path(Side::B.address()), config(200, 100, 3));
        }
        for _ in 0..5 {
            now += ms(20);
            machine.handle_timeout(now);
        }
        while let Some(output) = machine.poll_output() {
            if let BfdOutput::Send { packet, .. } = output {
                sent.push((round, ControlPacket::decode(&packet).unwrap().poll));
            }
        }
    }
    assert!(sent.iter().all(|(round, poll)| *round >= 10 && *poll), "{sent:?}");
    assert!(sent.len() >= 5, "{sent:?}");
}

#[test]
fn a_side_that_wants_no_packets_gets_none_but_answers() {
    let now = start_of_time();
    let mut bfd = Bfd::new(4);
    bfd.set_session(now, "peer".into(), path("192.0.2.2"), config(300, 300, 3));
    let silence = ControlPacket { required_min_rx: Duration::ZERO, ..opening() };
    bfd.handle_datagram(now, datagram("192.0.2.2", &silence.encode())).unwrap();
    while bfd.poll_output().is_some() {}
    let poll = ControlPacket { poll: true, ..silence };
    bfd.handle_timeout(now + ms(1500));
    assert_eq!(bfd.poll_output(), None);
    bfd.handle_datagram(now + ms(1500), datagram("192.0.2.2", &poll.encode())).unwrap();
    let Some(BfdOutput::Send { packet, .. }) = bfd.poll_output() else { panic!("no answer") };
    assert!(ControlPacket::decode(&packet).unwrap().is_final);
    // Silent for a detection time, it is a stranger, and strangers are called.
    bfd.handle_timeout(now + ms(1500) + Duration::from_secs(3));
    assert!(bfd.poll_output().is_some());
}

/// Below the loss bound (two packets fewer in a row than the multiplier bears, and delays that spread by less than an interval) a
/// session comes up and stays up, also while both sides change their minds about intervals.
#[test]
fn a_lossy_line_below_the_bound_never_flaps_a_session() {
    for seed in 0..300 {
        let mut choices = SplitMix64::new(seed);
        let mut draw = |most: u64| choices.next() % most;
        // Kept for the whole run: a multiplier that is raised counts when it was heard, and nothing polls for it.
        let multipliers = SIDES.map(|_| 2 + draw(4) as u8);
        let wish = |draw: &mut dyn FnMut(u64) -> u64, side: Side| {
            let mut interval = || [50, 100, 300, 300, 1000][draw(5) as usize];
            config(interval(), interval(), multipliers[side as usize])
        };
        let (a, b) = (wish(&mut draw, Side::A), wish(&mut draw, Side::B));
        let mut world = World::with(seed, a, b);
        for (side, config) in [(Side::A, a), (Side::B, b)] {
            let line = world.line_from(side);
            (line.loss, line.longest_run) = (draw(60), u64::from(config.multiplier) - 2);
            (line.least_delay, line.delay_spread) = (ms(draw(30)), ms(10));
        }
        world.run(Duration::from_secs(30));
        assert_eq!(world.states(), (State::Up, State::Up), "seed {seed}: not up after {:?}", world.elapsed());
        world.events.clear();
        for _ in 0..12 {
            let side = SIDES[draw(2) as usize];
            let config = wish(&mut draw, side);
            world.want(side, config);
            // Often before the poll for the last change was answered.
            world.run(ms([0, 20, 70, 400, 6000][draw(5) as usize]));
        }
        world.run(Duration::from_secs(20));
        assert_eq!(world.events, [], "seed {seed}");
        for side in SIDES {
            let (mine, theirs) = (world.status(side), world.status(side.other()));
            let polls = world.packets.iter().rev().take(20).filter(|(_, _, packet)| packet.poll).count();
            assert_eq!(polls, 0, "seed {seed}: a poll that never ends");
            assert!(mine.detection_time > theirs.transmit_interval, "seed {seed}");
        }
    }
}

/// With a multiplier of 1 the first packet lost ends it; without loss it holds, because packets leave before 90 % of the interval.
#[test]
fn a_multiplier_of_one_holds_on_a_clean_line() {
    for seed in 0..50 {
        let mut world = World::with(seed, config(100, 100, 1), config(100, 100, 1));
        for side in SIDES {
            world.line_from(side).delay_spread = ms(5);
        }
        world.run(Duration::from_secs(60));
        assert_eq!(world.states(), (State::Up, State::Up), "seed {seed}");
        assert_eq!(world.events.len(), 2, "seed {seed}: {:?}", world.events);
    }
}

/// Above the bound it goes down: the bound is not a matter of luck.
#[test]
fn as_many_losses_as_the_multiplier_end_it() {
    for seed in 0..50 {
        let mut world = World::with(seed, config(100, 100, 3), config(100, 100, 3));
        world.run(Duration::from_secs(5));
        world.events.clear();
        world.line_from(Side::A).cut = true;
        world.run(ms(301));
        assert!(
            world.events.iter().any(|(side, event)| *side == Side::B && matches!(event, BfdEvent::Down(_))),
            "seed {seed}"
        );
    }
}

/// Whatever comes in: no panic, no session but those that were asked for, and a next deadline that moves on.
#[test]
fn anything_may_come_in() {
    for seed in 0..200 {
        let mut random = SplitMix64::new(seed);
        let mut now = start_of_time();
        let mut bfd = Bfd::new(seed);
        bfd.set_session(now, "peer".into(), path("192.0.2.2"), config(10, 10, 3));
        for _ in 0..200 {
            let mut octets: Vec<u8> = (0..random.next() % 40).map(|_| random.next() as u8).collect();
            // Mostly well-formed, or all would end at the version.
            for (index, octet) in [(0, 0x20), (2, 1), (3, 24)] {
                if let Some(place) = octets.get_mut(index)
                    && !random.next().is_multiple_of(8)
                {
                    *place = octet;
                }
            }
            let known = bfd.status().sessions[&"peer".into()].local_discriminator;
            if octets.len() >= 12 {
                let yours = if random.next().is_multiple_of(3) { 0 } else { known };
                octets[8..12].copy_from_slice(&yours.to_be_bytes());
            }
            // The outcome is counted; here only what it leads to matters.
            let _ = bfd.handle_datagram(now, datagram("192.0.2.2", &octets));
            now += Duration::from_micros(random.next() % 20_000);
            bfd.handle_timeout(now);
            assert!(bfd.next_deadline().is_none_or(|deadline| deadline > now), "seed {seed}");
            let mut outputs = 0;
            while bfd.poll_output().is_some() {
                outputs += 1;
            }
            assert!(outputs <= 6, "seed {seed}: {outputs} outputs of one packet and one timeout");
            assert_eq!(bfd.status().sessions.len(), 1);
        }
    }
}

#[test]
fn a_failure_is_told_in_words() {
    let failure = |diagnostic, remote_diagnostic| BfdFailure { diagnostic, remote_diagnostic, detection_time: ms(900) };
    let cases = [
        (failure(Diagnostic(1), Diagnostic(0)), "control detection time expired (1): no packet for 900ms"),
        (
            failure(Diagnostic(3), Diagnostic(1)),
            "neighbor signaled session down (3): its side says control detection time expired (1)",
        ),
        (
            failure(Diagnostic(3), Diagnostic(30)),
            "neighbor signaled session down (3): its side says unassigned diagnostic (30)",
        ),
    ];
    for (failure, words) in cases {
        assert_eq!(failure.to_string(), words);
    }
}

#[test]
fn paths_are_shared_by_address_and_not_by_port() {
    let transport = |remote: &str| crate::Transport {
        remote: remote.parse().unwrap(),
        source: None,
        source_interface: None,
        password: None,
        signature: crate::Signature::Md5,
        ttl: crate::Ttl::Default,
    };
    let path = |remote: &str, hops| Arc::new(Path::of(&transport(remote), hops));
    assert_eq!(path("192.0.2.1:179", Hops::Single), path("192.0.2.1:1790", Hops::Single));
    assert_ne!(path("192.0.2.1:179", Hops::Single), path("192.0.2.1:179", Hops::Multi { minimum_ttl: 1 }));
    assert_eq!(path("[fe80::1%3]:179", Hops::Single).scope, 3);
}
