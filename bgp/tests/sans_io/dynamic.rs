//! Peers that come out of a prefix: who is taken, as what, and that nothing is left of them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use roadstead_bgp::bfd::{BfdConfig, BfdFailure, Diagnostic};
use roadstead_bgp::{
    Accepted, Asn, AsnRanges, Connect, ConnectionId, DynamicPeers, DynamicStatus, Endpoints, Event, Excess,
    GracefulRestart, MaxPrefixes, NextHops, OpenError, Output, PeerAsn, PeerConfig, PeerKey, PeerStatus, PrefixRule,
    SessionError, Shutdown, Speaker,
};
use rustbgpd_wire::{Afi, Safi};
use rustbgpd_wire::{Capability, GracefulRestartFamily, Message};

use crate::script::{announcement, encode, peer_open, raw, start_of_time};
use crate::stage::Stage;

const MAX_SESSIONS: usize = 3;

fn template() -> PeerConfig {
    let ranges = AsnRanges(vec![Asn(64600)..=Asn(64699), Asn(64512)..=Asn(64512)]);
    let remote = "0.0.0.0:179".parse().unwrap();
    let mut config = PeerConfig::new(Asn(64999), PeerAsn::Within(ranges), Ipv4Addr::new(10, 0, 0, 1), remote);
    let everything = PrefixRule { prefix: "0.0.0.0/0".parse().unwrap(), ge: Some(0), le: None };
    config.import.accept.push(everything);
    config
}

fn clients(prefix: &str) -> DynamicPeers {
    DynamicPeers { prefix: prefix.parse().unwrap(), max_sessions: MAX_SESSIONS, template: template() }
}

/// A speaker with the range `clients`, and what it says to those who dial it.
struct Hub {
    speaker: Speaker,
    now: Instant,
    /// Last bytes of connections that were closed.
    closed: Vec<(ConnectionId, Vec<u8>)>,
    events: Vec<Event>,
    dialled: Vec<PeerKey>,
}

impl Hub {
    fn new(prefix: &str) -> Self {
        let mut hub = Self {
            speaker: Speaker::new(1),
            now: start_of_time(),
            closed: Vec::new(),
            events: Vec::new(),
            dialled: Vec::new(),
        };
        hub.set("clients", clients(prefix));
        hub
    }

    fn set(&mut self, key: &str, peers: DynamicPeers) {
        self.speaker.set_dynamic_peers(self.now, key.into(), peers).unwrap();
        self.perform();
    }

    fn dial(&mut self, remote: &str) -> Accepted {
        let remote: IpAddr = remote.parse().unwrap();
        let local = if remote.is_ipv4() { "10.77.255.1:179" } else { "[2001:db8::1]:179" };
        let (local, remote) = (local.parse().unwrap(), (remote, 40000).into());
        let accepted =
            self.speaker.handle_accepted(self.now, Endpoints { local, remote, interface: NextHops::default() });
        self.perform();
        accepted
    }

    /// A connection that must be taken, and as whom.
    fn connect(&mut self, remote: &str) -> (ConnectionId, String) {
        match self.dial(remote) {
            Accepted::Connection(id, key) => (id, key.to_string()),
            Accepted::Refused(last) => panic!("{remote} was refused: {last:02x?}"),
        }
    }

    /// Code and subcode of the refusal; `None`: closed without a word.
    fn refusal(&mut self, remote: &str) -> Option<(u8, u8)> {
        match self.dial(remote) {
            Accepted::Refused(last) => last.get(19).copied().zip(last.get(20).copied()),
            Accepted::Connection(_, key) => panic!("{remote} was taken as {key}"),
        }
    }

    fn send(&mut self, id: ConnectionId, bytes: &[u8]) {
        self.speaker.handle_bytes(self.now, id, bytes);
        self.perform();
    }

    /// A session with AS 64512.
    fn establish(&mut self, remote: &str) -> ConnectionId {
        self.establish_with(remote, vec![])
    }

    fn establish_with(&mut self, remote: &str, capabilities: Vec<Capability>) -> ConnectionId {
        let (id, key) = self.connect(remote);
        let mut open = peer_open();
        open.capabilities.extend(capabilities);
        self.send(id, &encode(&Message::Open(open)));
        self.send(id, &raw(4, &[]));
        assert!(self.status(&key).is_some_and(|status| status.uptime.is_some()), "{key} is not up");
        id
    }

    fn status(&self, key: &str) -> Option<PeerStatus> {
        self.speaker.status(self.now).into_iter().find(|status| status.key.as_str() == key)
    }

    fn names(&self) -> Vec<String> {
        self.speaker.status(self.now).into_iter().map(|status| status.key.to_string()).collect()
    }

    fn range(&self, key: &str) -> DynamicStatus {
        self.speaker.dynamic_status().into_iter().find(|status| status.key.as_str() == key).unwrap()
    }

    /// Code and subcode with which a connection ended.
    fn ended_with(&self, id: ConnectionId) -> Option<(u8, u8)> {
        let (_, last) = self.closed.iter().find(|(closed, _)| *closed == id).expect("the connection was closed");
        last.len().checked_sub(2).map(|at| (last[at], last[at + 1]))
    }
}

impl Stage for Hub {
    fn speaker_and_clock(&mut self) -> (&mut Speaker, &mut Instant) {
        (&mut self.speaker, &mut self.now)
    }

    fn perform(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Dial { peer, .. } => self.dialled.push(peer),
                Output::Write { connection } => {
                    let count = self.speaker.pending_write(self.now, connection).len();
                    self.speaker.handle_written(self.now, connection, count);
                }
                Output::Close { connection, last } => self.closed.push((connection, last)),
                Output::Event(event) => self.events.push(event),
            }
        }
    }
}

#[test]
fn whoever_dials_from_inside_the_prefix_is_a_peer_of_its_own() {
    let mut hub = Hub::new("10.77.0.0/16");
    let first = hub.establish("10.77.0.5");
    let second = hub.establish("10.77.3.6");
    assert_eq!(hub.names(), ["clients/10.77.0.5", "clients/10.77.3.6"]);
    let status = hub.status("clients/10.77.0.5").unwrap();
    assert_eq!(status.range, Some("clients".into()));
    assert_eq!((status.remote.ip().to_string().as_str(), status.remote_asn), ("10.77.0.5", Some(Asn(64512))));
    assert!(hub.events.contains(&Event::SessionUp { peer: "clients/10.77.0.5".into() }));
    assert_eq!(hub.refusal("10.78.0.1"), Some((6, 5)), "outside");

    hub.send(first, &announcement("18c00002"));
    assert_eq!(hub.speaker.learned().len(), 1);
    hub.advance(Duration::from_secs(1));
    hub.speaker.handle_closed(hub.now, first, None);
    hub.perform();
    assert_eq!(hub.names(), ["clients/10.77.3.6"], "forgotten with its session");
    assert!(hub.speaker.learned().is_empty());
    assert!(
        hub.events
            .iter()
            .any(|event| matches!(event, Event::SessionDown { peer, .. } if peer.as_str() == "clients/10.77.0.5"))
    );
    hub.send(second, &raw(4, &[]));
    assert!(hub.status("clients/10.77.3.6").unwrap().uptime.is_some(), "the other is not touched");
    hub.establish("10.77.0.5");
}

#[test]
fn an_asn_outside_the_ranges_is_refused_and_can_be_seen() {
    for (asn, taken) in [(64512, true), (64513, false), (64599, false), (64600, true), (64699, true), (64700, false)] {
        let mut hub = Hub::new("10.77.0.0/16");
        let (id, key) = hub.connect("10.77.0.5");
        let mut open = peer_open();
        open.capabilities[3] = Capability::FourOctetAs { asn };
        hub.send(id, &encode(&Message::Open(open)));
        assert_eq!(hub.status(&key).is_some(), taken, "AS {asn}");
        if taken {
            continue;
        }
        assert_eq!(hub.ended_with(id), Some((2, 2)), "AS {asn}");
        let range = hub.range("clients");
        let [end] = range.last_ends.as_slice() else { panic!("{range:?}") };
        let allowed = AsnRanges(vec![Asn(64600)..=Asn(64699), Asn(64512)..=Asn(64512)]);
        assert_eq!(end.remote.to_string(), "10.77.0.5");
        assert_eq!(end.error, SessionError::Open(OpenError::AsnNotAllowed { given: Asn(asn), allowed }));
        assert_eq!(end.error.to_string(), format!("peer says AS {asn} in its OPEN, allowed are 64600-64699, 64512"));
        // Who was refused rests for a while, as a configured peer would.
        assert_eq!(hub.refusal("10.77.0.5"), None);
        assert_eq!(hub.range("clients").refused_too_soon, 1);
        hub.connect("10.77.0.6");
        hub.advance(Duration::from_secs(5));
        hub.connect("10.77.0.5");
    }
}

#[test]
fn our_own_asn_in_the_ranges_makes_internal_sessions() {
    let mut hub = Hub::new("10.77.0.0/16");
    let mut internal = clients("10.77.0.0/16");
    internal.template.local_asn = Asn(64512);
    hub.set("clients", internal.clone());
    let id = hub.establish("10.77.0.5");
    // LOCAL_PREF is missing, which an internal session does not forgive (RFC 7606 section 3 d).
    hub.send(id, &announcement("18c00002"));
    assert_eq!(hub.status("clients/10.77.0.5").unwrap().updates_treated_as_withdrawn, 1);

    internal.template.role = Some(roadstead_bgp::Role::Provider);
    let error = hub.speaker.set_dynamic_peers(hub.now, "clients".into(), internal).unwrap_err();
    assert!(error.to_string().contains("role Provider is not allowed on an internal session"), "{error}");
}

#[test]
fn sessions_beyond_the_limit_are_refused_and_counted() {
    let mut hub = Hub::new("10.77.0.0/16");
    let first = hub.establish("10.77.0.1");
    hub.establish("10.77.0.2");
    hub.connect("10.77.0.3");
    for host in 4..=200 {
        assert_eq!(hub.refusal(&format!("10.77.0.{host}")), Some((6, 8)));
    }
    // A second connection of somebody who is there already is a matter of that peer's.
    assert_eq!(hub.refusal("10.77.0.1"), Some((6, 7)));
    let range = hub.range("clients");
    assert_eq!((range.sessions, range.refused_at_limit, range.max_sessions), (3, 197, 3));
    // Who connects and says nothing has the place for half a minute.
    hub.advance(Duration::from_secs(29));
    assert_eq!(hub.refusal("10.77.0.4"), Some((6, 8)));
    hub.advance(Duration::from_secs(1));
    hub.connect("10.77.0.4");
    hub.speaker.handle_closed(hub.now, first, None);
    hub.perform();
    hub.connect("10.77.0.5");
}

#[test]
fn addresses_that_tried_cost_no_memory() {
    let mut hub = Hub::new("10.0.0.0/8");
    for address in 0..10_000_u32 {
        let remote = Ipv4Addr::from(0x0a00_0000 + address).to_string();
        let (id, _) = hub.connect(&remote);
        // A third of each: nothing at all, nonsense, a wrong AS number.
        match address % 3 {
            0 => hub.speaker.handle_closed(hub.now, id, None),
            1 => hub.send(id, &[0; 64]),
            _ => {
                let mut open = peer_open();
                open.capabilities[3] = Capability::FourOctetAs { asn: 1 };
                hub.send(id, &encode(&Message::Open(open)));
            }
        }
        hub.perform();
    }
    assert!(hub.names().is_empty());
    let range = hub.range("clients");
    assert_eq!((range.sessions, range.ended, range.last_ends.len()), (0, 10_000, 32));
    assert!(hub.events.is_empty(), "nobody is told of each: {:?}", hub.events.first());
    assert!(format!("{:?}", hub.speaker).len() < 100_000, "what is kept of 10,000 addresses");
}

#[test]
fn a_configured_peer_wins_and_then_the_longest_prefix() {
    let mut hub = Hub::new("10.0.0.0/8");
    hub.set("rack", clients("10.77.0.0/16"));
    let mut configured = PeerConfig { connect: Connect::Passive, ..template() };
    configured.transport.remote = "10.77.0.9:179".parse().unwrap();
    hub.speaker.set_peer(hub.now, "host".into(), configured.clone()).unwrap();
    for (remote, expected) in [
        ("10.1.0.1", "clients/10.1.0.1"),
        ("10.77.0.1", "rack/10.77.0.1"),
        ("10.77.0.9", "host"),
        ("::ffff:10.77.0.2", "rack/10.77.0.2"),
    ] {
        assert_eq!(hub.connect(remote).1, expected, "{remote}");
    }
    // A configured peer that does not listen is not replaced by one that does.
    let dialled = PeerConfig { connect: Connect::Dial, ..configured };
    hub.speaker.set_peer(hub.now, "host".into(), dialled).unwrap();
    assert_eq!(hub.refusal("10.77.0.9"), Some((6, 5)));
    assert_eq!(hub.dialled, [PeerKey::from("host")]);

    let error = hub.speaker.set_dynamic_peers(hub.now, "again".into(), clients("10.77.3.4/16")).unwrap_err();
    assert_eq!(error.to_string(), "peers from 10.77.0.0/16 are rack's already");
}

#[test]
fn sessions_that_belong_to_somebody_else_now_end() {
    let mut hub = Hub::new("10.0.0.0/8");
    let wide = hub.establish("10.1.0.1");
    let moved = hub.establish("10.77.0.1");
    hub.set("rack", clients("10.77.0.0/16"));
    assert_eq!(hub.ended_with(moved), Some((6, 6)));
    assert_eq!(hub.names(), ["clients/10.1.0.1"]);
    assert_eq!(hub.connect("10.77.0.1").1, "rack/10.77.0.1");

    let mut configured = PeerConfig { connect: Connect::Passive, ..template() };
    configured.transport.remote = "10.1.0.1:179".parse().unwrap();
    hub.speaker.set_peer(hub.now, "host".into(), configured).unwrap();
    hub.perform();
    assert_eq!(hub.ended_with(wide), Some((6, 6)));
    assert_eq!(hub.connect("10.1.0.1").1, "host");

    // A range that has become narrower lets go of those outside.
    let outside = hub.establish("10.2.0.1");
    hub.set("clients", clients("10.3.0.0/16"));
    assert_eq!(hub.ended_with(outside), Some((6, 3)));
    assert_eq!(hub.refusal("10.2.0.1"), Some((6, 5)));
}

#[test]
fn a_name_that_the_embedder_gives_is_the_embedders() {
    let mut hub = Hub::new("10.77.0.0/16");
    let taken = hub.establish("10.77.0.5");
    let mut configured = PeerConfig { connect: Connect::Passive, ..template() };
    configured.transport.remote = "192.0.2.1:179".parse().unwrap();
    hub.speaker.set_peer(hub.now, "clients/10.77.0.5".into(), configured).unwrap();
    hub.perform();
    assert_eq!(hub.ended_with(taken), Some((6, 6)));
    assert_eq!(hub.status("clients/10.77.0.5").unwrap().range, None);
    assert_eq!(hub.refusal("10.77.0.5"), Some((6, 5)));
}

#[test]
fn a_changed_template_reaches_live_sessions() {
    let mut hub = Hub::new("10.77.0.0/16");
    let id = hub.establish("10.77.0.5");
    hub.send(id, &announcement("18c00002"));
    assert_eq!(hub.speaker.learned().len(), 1);
    let mut changed = clients("10.77.0.0/16");
    changed.template.import.accept.clear();
    hub.set("clients", changed.clone());
    assert!(hub.speaker.learned().is_empty(), "the import policy is changed under the session");
    assert!(hub.status("clients/10.77.0.5").unwrap().uptime.is_some());

    changed.template.hold_time = Duration::from_secs(30);
    hub.set("clients", changed.clone());
    assert_eq!(hub.ended_with(id), Some((6, 6)));
    assert!(hub.names().is_empty());

    let id = hub.establish("10.77.0.5");
    changed.max_sessions = 1;
    hub.set("clients", changed);
    assert!(hub.status("clients/10.77.0.5").unwrap().uptime.is_some(), "a lower limit ends nothing");
    assert_eq!(hub.refusal("10.77.0.6"), Some((6, 8)));
    hub.speaker.remove_dynamic_peers(hub.now, &"clients".into()).unwrap();
    hub.perform();
    assert_eq!(hub.ended_with(id), Some((6, 3)));
    assert!(hub.names().is_empty() && hub.speaker.dynamic_status().is_empty());
    assert_eq!(hub.refusal("10.77.0.5"), Some((6, 5)));
    assert!(hub.speaker.remove_dynamic_peers(hub.now, &PeerKey::from("clients")).is_err());
}

#[test]
fn routes_that_wait_for_a_restart_keep_their_peer() {
    let mut hub = Hub::new("10.77.0.0/16");
    let mut restarting = clients("10.77.0.0/16");
    restarting.template.graceful_restart = Some(GracefulRestart::new(Duration::from_secs(120)));
    hub.set("clients", restarting);
    let restart = Capability::GracefulRestart {
        restart_state: false,
        notification: false,
        restart_time: 60,
        families: vec![GracefulRestartFamily { afi: Afi::Ipv4, safi: Safi::Unicast, forwarding_preserved: true }],
    };
    let id = hub.establish_with("10.77.0.5", vec![restart.clone()]);
    hub.send(id, &announcement("18c00002"));
    hub.speaker.handle_closed(hub.now, id, None);
    hub.perform();
    assert_eq!(hub.status("clients/10.77.0.5").unwrap().prefixes_stale, 1);
    hub.establish("10.77.0.6");
    hub.establish("10.77.0.7");
    assert_eq!(hub.refusal("10.77.0.8"), Some((6, 8)), "who is waited for has a place");

    // It comes back in time, and goes for good.
    hub.advance(Duration::from_secs(30));
    let id = hub.establish_with("10.77.0.5", vec![restart]);
    hub.send(id, &announcement("18c00002"));
    assert_eq!(hub.status("clients/10.77.0.5").unwrap().prefixes_stale, 0);
    hub.speaker.handle_closed(hub.now, id, None);
    hub.perform();
    hub.advance(Duration::from_secs(60));
    assert!(hub.speaker.learned().is_empty());
    assert_eq!(hub.status("clients/10.77.0.5"), None);
}

#[test]
fn too_many_prefixes_keep_a_peer_away_for_its_time_or_until_the_range_changes() {
    for (restart, rest) in [(Some(300), 300), (None, 86_400)] {
        let mut hub = Hub::new("10.77.0.0/16");
        let mut peers = clients("10.77.0.0/16");
        let excess = Excess::Close { restart: restart.map(Duration::from_secs) };
        peers.template.import.max_prefixes = Some(MaxPrefixes { excess, ..MaxPrefixes::new(1) });
        hub.set("clients", peers.clone());
        let id = hub.establish("10.77.0.5");
        hub.send(id, &announcement("18c00002 18c00003"));
        let (_, last) = hub.closed.iter().find(|(closed, _)| *closed == id).unwrap();
        assert!(last.ends_with(&[6, 1, 0, 1, 1, 0, 0, 0, 1]), "{last:02x?}");
        hub.advance(Duration::from_secs(rest - 1));
        assert_eq!(hub.refusal("10.77.0.5"), None);
        if restart.is_some() {
            hub.advance(Duration::from_secs(1));
        } else {
            peers.template.import.max_prefixes = Some(MaxPrefixes::new(10));
            hub.set("clients", peers);
        }
        hub.establish("10.77.0.5");
    }
}

#[test]
fn what_cannot_work_is_refused_in_words() {
    let cases: [(&str, fn(&mut DynamicPeers), &str); 4] = [
        ("no sessions", |peers| peers.max_sessions = 0, "at most 0 sessions from 10.77.0.0/16"),
        ("no ranges", |peers| peers.template.peer_asn = PeerAsn::Within(AsnRanges(vec![])), "allow nobody"),
        (
            "a range that ends before it begins",
            |peers| peers.template.peer_asn = PeerAsn::Within(AsnRanges(vec![Asn(5)..=Asn(1)])),
            "AS number ranges \"5-1\"",
        ),
        ("a source of another family", |peers| peers.template.transport.source = Some("::1".parse().unwrap()), "::1"),
    ];
    for (name, spoil, expected) in cases {
        let mut peers = clients("10.77.0.0/16");
        assert_eq!(peers.check(), Ok(()));
        spoil(&mut peers);
        let message = peers.check().expect_err(name).to_string();
        assert!(message.contains(expected), "{name}: {message}");
    }
}

/// RFC 5882 section 2: BFD is for the machine that is there, and a range is none.
#[test]
fn a_member_is_watched_as_long_as_its_session_is_up() {
    let mut hub = Hub::new("10.77.0.0/16");
    let mut peers = clients("10.77.0.0/16");
    peers.template.bfd = Some(BfdConfig::new());
    hub.set("clients", peers.clone());
    let watched = |hub: &Hub, key: &str| hub.speaker.watched(&key.into()).map(|(path, _)| path.to_string());
    let (connecting, key) = hub.connect("10.77.0.4");
    assert_eq!(watched(&hub, &key), None, "nobody is known to be there before its OPEN");
    hub.speaker.handle_closed(hub.now, connecting, None);
    hub.establish("10.77.0.5");
    let lost = hub.establish("10.77.0.6");
    assert_eq!(watched(&hub, "clients/10.77.0.5").as_deref(), Some("10.77.0.5 from 10.77.255.1"));
    assert_eq!(watched(&hub, "clients"), None);

    let failure = BfdFailure {
        diagnostic: Diagnostic::DETECTION_TIME_EXPIRED,
        remote_diagnostic: Diagnostic::NONE,
        detection_time: Duration::from_millis(900),
    };
    hub.speaker.handle_bfd_down(hub.now, &"clients/10.77.0.6".into(), failure).unwrap();
    hub.perform();
    assert_eq!(hub.ended_with(lost), Some((6, 10)));
    assert_eq!(watched(&hub, "clients/10.77.0.6"), None);
    assert_eq!(hub.range("clients").last_ends.last().map(|end| &end.error), Some(&SessionError::BfdDown { failure }));

    // Without a restart of the session, in both directions.
    peers.template.bfd = None;
    hub.set("clients", peers.clone());
    assert_eq!(watched(&hub, "clients/10.77.0.5"), None);
    peers.template.bfd = Some(BfdConfig::new());
    hub.set("clients", peers);
    assert!(watched(&hub, "clients/10.77.0.5").is_some());
    assert!(hub.status("clients/10.77.0.5").unwrap().uptime.is_some());
}

#[test]
fn a_shutdown_ends_them_too() {
    let mut hub = Hub::new("10.77.0.0/16");
    let id = hub.establish("10.77.0.5");
    hub.speaker.shutdown(hub.now, &Shutdown::Leave(String::new()));
    hub.perform();
    assert_eq!(hub.ended_with(id), Some((6, 2)));
    assert_eq!(hub.refusal("10.77.0.5"), Some((6, 5)));
    assert!(hub.names().is_empty());
}
