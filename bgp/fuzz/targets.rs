//! What is done with arbitrary octets, and what must hold whatever they are.
//!
//! Four targets, from the narrowest to the widest: the body of an UPDATE, the body of an OPEN, a stream of messages, and a
//! whole life of two sessions. Each is a function of octets, so libFuzzer (`fuzz_targets/`) and the tests of the engine
//! (`bgp/tests/sans_io/fuzz.rs`) call the same.
//!
//! What must hold: no panic; of each UPDATE exactly one of ok, an attribute discarded, its routes withdrawn, the session
//! reset; work and memory in proportion to what came in; any split of a stream gives the same result; and whatever a route server or
//! reflector makes of a route for another peer, that peer finds nothing wrong with, and nothing of it is left when the first is gone.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roadstead_bgp::{
    Accepted, AddPath, AddPathReceive, AigpSession, Asn, Connect, ConnectionId, Endpoints, ExtendedMessages, NextHops,
    Output, PeerAsn, PeerConfig, PeerKey, PrefixRule, Relay, Role, RouteAttributes, RouteChange, Shutdown, Speaker,
};

/// What became of the octets. `words` tells apart what became of them for different reasons: a new one is new behaviour.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Verdict {
    pub(crate) outcome: &'static str,
    pub(crate) words: String,
}

/// More outputs than this for one input are a loop.
const MANY: usize = 10_000;

/// One session, played without a socket; and where routes are passed on, a second one beside it to which they are.
struct Play {
    speaker: Speaker,
    now: Instant,
    connection: Option<ConnectionId>,
    /// The last octets written to the connection.
    last: Vec<u8>,
    /// Of the second session, and everything that was written to it.
    receiver: Option<ConnectionId>,
    told: Vec<u8>,
}

fn key() -> PeerKey {
    PeerKey::from("peer")
}

/// After [`key`] in any order.
fn receiver() -> PeerKey {
    PeerKey::from("receiver")
}

/// A bit of the first octet: routes are passed on, with marks, metrics and several paths.
const RELAYS: u8 = 8;

/// The four lowest bits of the first octet choose what kind of session it is.
fn config(kind: u8) -> PeerConfig {
    config_of(kind, 1)
}

fn config_of(kind: u8, host: u8) -> PeerConfig {
    let remote = ([192, 0, 2, host], 179).into();
    let asn = if kind & 1 == 0 { 64512 } else { 64500 };
    let mut config = PeerConfig::new(Asn(64500), PeerAsn::Exactly(Asn(asn)), Ipv4Addr::new(10, 0, 0, 1), remote);
    config.next_hops = NextHops { ipv4: Some(Ipv4Addr::new(192, 0, 2, 10)), ipv6: None };
    config.extended_messages = if kind & 4 == 0 { ExtendedMessages::Withheld } else { ExtendedMessages::Offered };
    config.connect = Connect::Both;
    if kind & RELAYS != 0 {
        (config.relay, config.role) = match config.is_internal() {
            true => (Relay::ReflectorClient { cluster: Ipv4Addr::new(10, 0, 0, 9) }, None),
            false => (Relay::RouteServerClient, Some(Role::RouteServer)),
        };
        config.aigp = AigpSession::Enabled;
        config.add_path = AddPath { receive: AddPathReceive::Several, send: 0 };
    }
    for (prefix, le) in [("0.0.0.0/0", 32), ("::/0", 128)] {
        let prefix = prefix.parse().expect("a prefix");
        config.import.accept.push(PrefixRule { prefix, ge: None, le: Some(le) });
    }
    config
}

fn endpoints() -> Endpoints {
    Endpoints {
        local: ([192, 0, 2, 10], 40_000).into(),
        remote: ([192, 0, 2, 1], 179).into(),
        interface: NextHops::default(),
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).unwrap_or(u16::MAX);
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind], body].concat()
}

fn good_open(kind: u8) -> Vec<u8> {
    good_open_of(kind, 1)
}

fn good_open_of(kind: u8, host: u8) -> Vec<u8> {
    let asn: u16 = if kind & 1 == 0 { 64512 } else { 64500 };
    let [high, low] = asn.to_be_bytes();
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 2, 0, 70, 0, 64, 10, 0, 60, 0, 1, 1, 0, 0, 2, 1, 0];
    if kind & 2 == 0 {
        capabilities.extend([65, 4, 0, 0, high, low]);
    }
    if kind & 4 != 0 {
        capabilities.extend([6, 0]);
    }
    if kind & RELAYS != 0 {
        // It tells several paths, and is the client of a route server, if it is external.
        capabilities.extend([69, 8, 0, 1, 1, 2, 0, 2, 1, 2]);
        capabilities.extend([9, 1, 2].iter().filter(|_| kind & 1 == 0));
    }
    let length = capabilities.len() as u8;
    message(1, &[&[4, high, low, 0, 90, 10, 0, 0, 1 + host, length + 2, 2, length][..], &capabilities].concat())
}

impl Play {
    #[allow(clippy::disallowed_methods, reason = "the origin of virtual time; nothing is measured")]
    fn start(kind: u8) -> Self {
        let (speaker, now) = (Speaker::new(1), Instant::now());
        let mut play = Self { speaker, now, connection: None, last: Vec::new(), receiver: None, told: Vec::new() };
        play.speaker.set_peer(play.now, key(), config(kind)).expect("a configuration that can work");
        if kind & RELAYS != 0 {
            play.speaker.set_peer(play.now, receiver(), config_of(kind, 2)).expect("another that can work");
        }
        play.perform();
        if let Some(connection) = play.receiver {
            play.speaker.handle_dialled(play.now, connection, endpoints());
            for message in [good_open_of(kind & !RELAYS, 2), message(4, &[])] {
                play.speaker.handle_bytes(play.now, connection, &message);
                play.perform();
            }
            play.told.clear();
        }
        let connection = play.connection.expect("it dials");
        play.speaker.handle_dialled(play.now, connection, endpoints());
        play.perform();
        play
    }

    fn established(kind: u8) -> Self {
        let mut play = Self::start(kind);
        play.send(&good_open(kind));
        play.send(&message(4, &[]));
        assert!(play.status().uptime.is_some(), "{:?}", play.status());
        play
    }

    fn send(&mut self, octets: &[u8]) {
        if let Some(connection) = self.connection {
            self.speaker.handle_bytes(self.now, connection, octets);
            self.perform();
        }
    }

    fn perform(&mut self) {
        for _ in 0..MANY {
            match self.speaker.poll_output() {
                Some(Output::Dial { connection, peer }) if peer == receiver() => self.receiver = Some(connection),
                Some(Output::Dial { connection, .. }) => self.connection = Some(connection),
                Some(Output::Write { connection }) => {
                    let octets = self.speaker.pending_write(self.now, connection).to_vec();
                    assert!(octets.len() <= 140 * 1024, "{} octets wait", octets.len());
                    self.speaker.handle_written(self.now, connection, octets.len());
                    match self.receiver == Some(connection) {
                        true => self.told.extend(octets),
                        false => self.last = octets,
                    }
                }
                Some(Output::Close { connection, last }) => {
                    if self.connection == Some(connection) {
                        self.connection = None;
                        self.last = last;
                    }
                }
                Some(_) => {}
                None => return,
            }
        }
        panic!("an input without end");
    }

    fn status(&self) -> roadstead_bgp::PeerStatus {
        self.speaker.status(self.now).remove(0)
    }

    /// Code and subcode of the NOTIFICATION that ended the connection.
    fn notification(&self) -> Option<(u8, u8)> {
        match *self.last.get(18..)? {
            [3, code, subcode, ..] => Some((code, subcode)),
            _ => None,
        }
    }

    fn check(&self, octets: usize) {
        let status = self.status();
        assert!(status.last_refusals.len() <= 100, "{}", status.last_refusals.len());
        assert!(status.last_malformed.as_ref().is_none_or(|update| update.octets.len() <= 256));
        assert!(status.last_error.as_ref().is_none_or(|error| error.len() <= 64 * 1024));
        // A prefix takes an octet at least, and so does a route.
        assert!(self.speaker.learned().len() <= octets, "{} routes of {octets} octets", self.speaker.learned().len());
        assert_eq!(self.connection.is_none(), status.uptime.is_none(), "{status:?}");
    }
}

/// What the second session was told is in order, and the other end of it keeps what is to be kept.
fn check_relayed(play: &mut Play, kind: u8) {
    let mut other = Play::established(kind & !RELAYS);
    let mut hear = |play: &mut Play| {
        assert!(play.receiver.is_some(), "the second session ended with the first");
        let told = std::mem::take(&mut play.told);
        other.send(&told);
        let status = other.status();
        assert!(status.uptime.is_some(), "what is passed on ends the session: {:?}", status.last_error);
        assert_eq!(status.last_malformed, None, "what is passed on is malformed");
        other.speaker.learned().len()
    };
    let passed_on = hear(play);
    assert!(passed_on <= play.speaker.learned().len(), "{passed_on} prefixes were made of fewer");
    if let Some(connection) = play.connection.take() {
        play.speaker.handle_closed(play.now, connection, None);
        play.perform();
    }
    assert_eq!(hear(play), 0, "something is left of a peer that is gone");
}

/// What is said, without the numbers in it and without the octets of the message itself: those are no new behaviour.
fn words(text: &str) -> String {
    let mut depth = 0_u32;
    let mut words = String::new();
    for character in text.chars() {
        match character {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ if depth == 0 && !character.is_ascii_digit() => words.push(character),
            _ => {}
        }
    }
    words.truncate(words.char_indices().nth(80).map_or(words.len(), |(end, _)| end));
    words
}

/// The body of an UPDATE behind one octet that chooses the session.
pub(crate) fn update(data: &[u8]) -> Verdict {
    let (kind, body) = data.split_first().map_or((0, data), |(kind, body)| (*kind, body));
    let mut play = Play::established(kind);
    let before = play.status();
    let octets = message(2, &body[..body.len().min(65_000)]);
    play.send(&octets);
    play.check(octets.len());
    let after = play.status();
    let discarded = after.updates_with_discarded_attributes - before.updates_with_discarded_attributes;
    let withdrawn = after.updates_treated_as_withdrawn - before.updates_treated_as_withdrawn;
    let reset = u64::from(play.connection.is_none());
    let outcome = match (discarded, withdrawn, reset) {
        (0, 0, 0) => "ok",
        (1, 0, 0) => "discard",
        (0, 1, 0) => "withdraw",
        // What the session counted ends with it.
        (_, _, 1) => "reset",
        other => panic!("not exactly one of them: {other:?}"),
    };
    if outcome == "reset" {
        assert!(matches!(play.notification(), Some((1 | 3, _))), "{:?}", play.notification());
    }
    let detail = match outcome {
        "ok" => format!(
            "{} {}",
            after.refused.keys().map(ToString::to_string).collect::<String>(),
            play.speaker.learned().is_empty()
        ),
        "reset" => format!("{:?} {}", play.notification(), after.last_error.unwrap_or_default()),
        _ => after.last_malformed.map(|update| update.detail.clone()).unwrap_or_default(),
    };
    if kind & RELAYS != 0 {
        check_relayed(&mut play, kind);
    }
    Verdict { outcome, words: words(&detail) }
}

/// The body of an OPEN.
pub(crate) fn open(data: &[u8]) -> Verdict {
    let (kind, body) = data.split_first().map_or((0, data), |(kind, body)| (*kind, body));
    let mut play = Play::start(kind);
    play.send(&message(1, &body[..body.len().min(65_000)]));
    if play.connection.is_some() {
        play.send(&message(4, &[]));
        let status = play.status();
        assert!(status.uptime.is_some(), "an OPEN was taken, and the session is not up: {status:?}");
        let agreed = format!("{:?} {}", status.families, status.max_message > Some(4096));
        return Verdict { outcome: "ok", words: words(&agreed) };
    }
    let notification = play.notification();
    assert!(matches!(notification, Some((1 | 2 | 6, _))), "{notification:?}");
    let error = play.status().last_error.unwrap_or_default();
    Verdict { outcome: "reset", words: words(&format!("{notification:?} {error}")) }
}

/// A stream of messages into an established session: at once, and in pieces of a size that the first octet says.
pub(crate) fn stream(data: &[u8]) -> Verdict {
    let (kind, octets) = data.split_first().map_or((0, data), |(kind, octets)| (*kind, octets));
    let size = 1 + usize::from(kind >> 3);
    let mut whole = Play::established(kind);
    whole.send(octets);
    whole.check(octets.len());
    let mut pieces = Play::established(kind);
    for piece in octets.chunks(size) {
        pieces.send(piece);
    }
    let seen = |play: &Play| {
        let status = play.status();
        (play.connection.is_some(), play.notification(), status.messages_in, status.prefixes_received)
    };
    assert_eq!(seen(&whole), seen(&pieces), "in pieces of {size}");
    assert!(whole.speaker.learned().keys().eq(pieces.speaker.learned().keys()), "in pieces of {size}");
    let status = whole.status();
    let outcome = if whole.connection.is_some() { "ok" } else { "reset" };
    let (code, subcode) = whole.notification().unwrap_or_default();
    Verdict { outcome, words: format!("{code}/{subcode} after {}", status.messages_in.min(6)) }
}

/// Two sessions and everything that can happen to them, two octets for each happening.
pub(crate) fn session(data: &[u8]) -> Verdict {
    let mut play = Play::start(0);
    let mut ids: Vec<ConnectionId> = play.connection.into_iter().collect();
    let mut states = "";
    for step in data.chunks_exact(2).take(400) {
        let (what, value) = (step[0] % 12, step[1]);
        let id = ids.get(usize::from(value) % ids.len().max(1)).copied();
        let now = play.now;
        match (what, id) {
            (0, Some(id)) => play.speaker.handle_dialled(now, id, endpoints()),
            (1, Some(id)) => play.speaker.handle_closed(now, id, (value & 1 == 0).then(|| "reset".to_owned())),
            (2, Some(id)) => play.speaker.handle_bytes(now, id, &good_open(0)),
            (3, Some(id)) => play.speaker.handle_bytes(now, id, &message(4, &[])),
            (4, Some(id)) => play.speaker.handle_bytes(now, id, &message(2, &announcement(value))),
            (5, Some(id)) => play.speaker.handle_bytes(now, id, &message(5, &[0, 1 + (value & 1), value >> 1 & 3, 1])),
            (6, Some(id)) => play.speaker.handle_bytes(now, id, &message(3, &[value >> 4, value & 15])),
            (7, _) => {
                if let Accepted::Connection(id, _) = play.speaker.handle_accepted(now, endpoints()) {
                    ids.push(id);
                }
            }
            (8, _) => {
                play.now += Duration::from_secs(u64::from(value));
                play.speaker.handle_timeout(play.now);
            }
            (9, _) => {
                let prefix = format!("10.{value}.0.0/16").parse().expect("a prefix");
                let change = match value & 1 {
                    0 => RouteChange::Announce(prefix, Arc::new(RouteAttributes::default())),
                    _ => RouteChange::Withdraw(prefix),
                };
                drop(play.speaker.update_routes(now, &key(), vec![change]));
            }
            (10, _) => {
                let hold_time = Duration::from_secs(u64::from(value) + 3);
                drop(play.speaker.set_peer(now, key(), PeerConfig { hold_time, ..config(0) }));
            }
            (11, _) if value == 255 => play.speaker.shutdown(now, &Shutdown::Leave(String::new())),
            _ => {}
        }
        play.connection = None;
        play.perform();
        ids.extend(play.connection);
        let keep = ids.len().saturating_sub(8);
        ids.drain(..keep);
        if let Some(deadline) = play.speaker.next_deadline() {
            assert!(deadline + Duration::from_secs(1) >= play.now || what != 8, "a deadline was forgotten");
        }
        let status = play.status();
        assert!(status.prefixes_sent <= 256 && status.prefixes_accepted <= 256, "{status:?}");
        assert!(status.uptime.is_some() || status.prefixes_sent == 0, "{status:?}");
        assert!(status.last_refusals.len() <= 100, "{status:?}");
        states = status.state.name();
    }
    let error = play.status().last_error.unwrap_or_default();
    let error: String = words(&error).chars().take(45).collect();
    Verdict { outcome: "ok", words: format!("{states} {error}") }
}

/// Announces 10.`value`.0.0/16, from AS 64512.
fn announcement(value: u8) -> Vec<u8> {
    let attributes = [64, 1, 1, 0, 64, 2, 6, 2, 1, 0, 0, 252, 0, 64, 3, 4, 192, 0, 2, 1];
    [&[0, 0, 0, attributes.len() as u8][..], &attributes, &[16, 10, value]].concat()
}
