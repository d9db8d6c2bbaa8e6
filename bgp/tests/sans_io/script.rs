//! One peer of a [`Speaker`], played byte by byte.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use roadstead_bgp::{
    Accepted, Asn, ConnectionId, Endpoints, Event, NextHops, Output, PeerAsn, PeerConfig, PeerKey, PeerStatus,
    PrefixRule, RouteAttributes, RouteChange, Speaker,
};
use rustbgpd_wire::{
    Afi, Capability, Message, NotificationMessage, OpenMessage, Safi, decode_message, encode_message,
    peek_message_length,
};

use crate::stage::Stage;

/// Any moment will do to start virtual time from.
#[allow(clippy::disallowed_methods, reason = "the origin of virtual time; nothing is measured")]
pub(crate) fn start_of_time() -> Instant {
    Instant::now()
}

pub(crate) fn config() -> PeerConfig {
    let remote = "192.0.2.1:179".parse().unwrap();
    let mut config = PeerConfig::new(Asn(64500), PeerAsn::Exactly(Asn(64512)), Ipv4Addr::new(10, 0, 0, 1), remote);
    config.next_hops.ipv6 = Some("2001:db8::10".parse().unwrap());
    for everything in ["0.0.0.0/0", "::/0"] {
        config.import.accept.push(PrefixRule { prefix: everything.parse().unwrap(), ge: Some(0), le: None });
    }
    config
}

pub(crate) fn key() -> PeerKey {
    PeerKey::from("tor-a")
}

pub(crate) fn endpoints() -> Endpoints {
    Endpoints {
        local: "192.0.2.10:40000".parse().unwrap(),
        remote: "192.0.2.1:179".parse().unwrap(),
        interface: NextHops::default(),
    }
}

/// What the peer says of itself, unless a test wants something else.
pub(crate) fn peer_open() -> OpenMessage {
    OpenMessage {
        version: 4,
        my_as: 64512,
        hold_time: 90,
        bgp_identifier: Ipv4Addr::new(10, 0, 0, 2),
        capabilities: vec![
            Capability::MultiProtocol { afi: Afi::Ipv4, safi: Safi::Unicast },
            Capability::MultiProtocol { afi: Afi::Ipv6, safi: Safi::Unicast },
            Capability::RouteRefresh,
            Capability::FourOctetAs { asn: 64512 },
        ],
    }
}

pub(crate) fn encode(message: &Message) -> Vec<u8> {
    encode_message(message).unwrap().to_vec()
}

/// A message of any type with any body.
pub(crate) fn raw(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&u16::try_from(19 + body.len()).unwrap().to_be_bytes());
    message.push(kind);
    message.extend_from_slice(body);
    message
}

pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// An UPDATE of AS 64512 that announces IPv4 prefixes, given as NLRI.
pub(crate) fn announcement(nlri: &str) -> Vec<u8> {
    let attributes = hex("400101 00  400206 0201 0000fc00  400304 c0000201");
    let mut body = vec![0, 0, 0, u8::try_from(attributes.len()).unwrap()];
    body.extend_from_slice(&attributes);
    body.extend_from_slice(&hex(nlri));
    raw(2, &body)
}

pub(crate) fn announce(prefix: &str) -> RouteChange {
    RouteChange::Announce(prefix.parse().unwrap(), Arc::new(RouteAttributes::default()))
}

pub(crate) fn withdraw(prefix: &str) -> RouteChange {
    RouteChange::Withdraw(prefix.parse().unwrap())
}

pub(crate) struct Script {
    pub(crate) speaker: Speaker,
    pub(crate) now: Instant,
    /// The connection that is being played, if it is open.
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) dials: Vec<(Instant, ConnectionId)>,
    pub(crate) events: Vec<Event>,
    /// Whether the socket takes bytes.
    pub(crate) reading: bool,
    /// The longest message that the peer has said it takes.
    limit: u16,
    inbox: BytesMut,
}

impl Script {
    /// Configured, and the connection that it dialled is up.
    pub(crate) fn connected(config: PeerConfig) -> Self {
        let mut script = Self::configured(config);
        script.answer_dial();
        script
    }

    pub(crate) fn configured(config: PeerConfig) -> Self {
        let mut script = Self {
            speaker: Speaker::new(1),
            now: start_of_time(),
            connection: None,
            dials: Vec::new(),
            events: Vec::new(),
            reading: true,
            limit: 4096,
            inbox: BytesMut::new(),
        };
        script.speaker.set_peer(script.now, key(), config).unwrap();
        script.perform();
        script
    }

    pub(crate) fn established(config: PeerConfig) -> Self {
        Self::established_with(config, peer_open())
    }

    /// Established, and what it took is read.
    pub(crate) fn established_with(config: PeerConfig, open: OpenMessage) -> Self {
        let mut script = Self::connected(config);
        script.establish(open);
        script
    }

    pub(crate) fn establish(&mut self, open: OpenMessage) {
        self.limit = if open.capabilities.contains(&Capability::ExtendedMessage) { 65535 } else { 4096 };
        self.send(&encode(&Message::Open(open)));
        self.send(&encode(&Message::Keepalive));
        assert!(matches!(self.read().as_slice(), [Message::Open(_), Message::Keepalive, ..]));
        assert!(self.is_established(), "{:?}", self.status());
    }

    /// Lets the latest dial succeed.
    pub(crate) fn answer_dial(&mut self) {
        self.answer_dial_at(endpoints());
    }

    pub(crate) fn answer_dial_at(&mut self, endpoints: Endpoints) {
        let (_, id) = *self.dials.last().expect("a connection was dialled");
        self.connection = Some(id);
        self.speaker.handle_dialled(self.now, id, endpoints);
        self.perform();
    }

    /// Another connection, from the peer.
    pub(crate) fn dial_in(&mut self) -> Accepted {
        let accepted = self.speaker.handle_accepted(self.now, endpoints());
        self.perform();
        accepted
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let id = self.connection.expect("the connection is open");
        self.speaker.handle_bytes(self.now, id, bytes);
        self.perform();
    }

    pub(crate) fn update_routes(&mut self, changes: Vec<RouteChange>) {
        self.speaker.update_routes(self.now, &key(), changes).unwrap();
        self.perform();
    }

    /// Every message since the last time.
    pub(crate) fn read(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(length) = peek_message_length(&self.inbox, self.limit).expect("what we emit has a header") {
            let mut message = self.inbox.split_to(usize::from(length)).freeze();
            messages.push(decode_message(&mut message, self.limit).expect("what we emit can be decoded"));
        }
        assert!(self.inbox.is_empty(), "half a message was left");
        messages
    }

    /// The NOTIFICATION that ended the connection, which must be the last thing said on it.
    pub(crate) fn last_words(&mut self) -> Option<NotificationMessage> {
        assert_eq!(self.connection, None, "the connection is still open");
        match self.read().pop() {
            Some(Message::Notification(notification)) => Some(notification),
            _ => None,
        }
    }

    pub(crate) fn status(&self) -> PeerStatus {
        self.speaker.status(self.now).remove(0)
    }

    pub(crate) fn is_established(&self) -> bool {
        self.status().uptime.is_some()
    }

    pub(crate) fn learned(&self) -> Vec<String> {
        self.speaker.learned().keys().map(ToString::to_string).collect()
    }

    /// The socket takes all that there is.
    pub(crate) fn drain(&mut self) {
        let Some(id) = self.connection else { return };
        while self.reading {
            let pending = Bytes::copy_from_slice(self.speaker.pending_write(self.now, id));
            if pending.is_empty() {
                return;
            }
            self.inbox.extend_from_slice(&pending);
            self.speaker.handle_written(self.now, id, pending.len());
        }
        // A socket that is full still shows what waits for it.
        let _ = self.speaker.pending_write(self.now, id);
    }
}

impl Stage for Script {
    fn speaker_and_clock(&mut self) -> (&mut Speaker, &mut Instant) {
        (&mut self.speaker, &mut self.now)
    }

    fn perform(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            match output {
                Output::Dial { connection, .. } => self.dials.push((self.now, connection)),
                Output::Write { connection } if Some(connection) == self.connection => self.drain(),
                Output::Write { .. } => {}
                Output::Close { connection, last } => {
                    if Some(connection) == self.connection {
                        self.connection = None;
                        self.inbox.extend_from_slice(&last);
                    }
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }
}
