//! An engine, and its peers played by hand: peer `n` has the address 192.0.2.n and the AS 64600 + n.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use roadstead_bgp::{
    Accepted, Asn, Connect, ConnectionId, Endpoints, NextHops, Output, PeerAsn, PeerConfig, PeerKey, PrefixRule, Relay,
    RouteChange, Speaker,
};
use rustbgpd_wire::{
    Afi, AsPath, AsPathSegment, Capability, Message, OpenMessage, Origin, PathAttribute, Safi, UpdateMessage,
    attribute::encode_path_attributes, encode_message,
};

const LOCAL: Asn = Asn(64999);

pub(crate) struct Network {
    speaker: Speaker,
    now: Instant,
    peers: BTreeMap<u8, ConnectionId>,
    /// Connections with something to write.
    writers: Vec<ConnectionId>,
}

impl Default for Network {
    #[allow(clippy::disallowed_methods, reason = "the origin of virtual time; nothing is measured by it")]
    fn default() -> Self {
        Self { speaker: Speaker::new(1), now: Instant::now(), peers: BTreeMap::new(), writers: Vec::new() }
    }
}

impl Network {
    /// One more peer, of which everything is accepted. Its number.
    pub(crate) fn add(&mut self, relay: Relay) -> u8 {
        let accept = ["0.0.0.0/0", "::/0"].map(|prefix| PrefixRule {
            prefix: prefix.parse().expect("a prefix"),
            ge: Some(0),
            le: None,
        });
        self.establish(relay, accept.into())
    }

    /// One more peer, of which nothing is accepted.
    pub(crate) fn add_refused(&mut self) -> u8 {
        self.establish(Relay::Nothing, Vec::new())
    }

    fn establish(&mut self, relay: Relay, accept: Vec<PrefixRule>) -> u8 {
        let number = u8::try_from(self.peers.len() + 1).expect("few peers");
        let remote = SocketAddr::from((address(number), 179));
        let mut config = PeerConfig::new(LOCAL, PeerAsn::Exactly(asn(number)), Ipv4Addr::new(192, 0, 2, 254), remote);
        (config.relay, config.connect, config.import.accept) = (relay, Connect::Passive, accept);
        self.speaker.set_peer(self.now, key(number), config).expect("a configuration in order");
        let endpoints = Endpoints {
            local: SocketAddr::from((address(254), 179)),
            remote: SocketAddr::from((address(number), 40_000)),
            interface: NextHops::default(),
        };
        let Accepted::Connection(connection, _) = self.speaker.handle_accepted(self.now, endpoints) else {
            panic!("peer {number} is refused");
        };
        self.peers.insert(number, connection);
        let open = OpenMessage {
            version: 4,
            my_as: u16::try_from(asn(number).0).expect("two octets"),
            hold_time: 90,
            bgp_identifier: address(number),
            capabilities: vec![
                Capability::MultiProtocol { afi: Afi::Ipv4, safi: Safi::Unicast },
                Capability::MultiProtocol { afi: Afi::Ipv6, safi: Safi::Unicast },
                Capability::RouteRefresh,
                Capability::FourOctetAs { asn: asn(number).0 },
            ],
        };
        self.send(number, &[encode(&Message::Open(open)), encode(&Message::Keepalive)]);
        self.drain();
        assert!(self.speaker.status(self.now).iter().all(|peer| peer.uptime.is_some()), "peer {number} is not up");
        number
    }

    pub(crate) fn send(&mut self, number: u8, messages: &[Bytes]) {
        let connection = self.peers[&number];
        for message in messages {
            self.speaker.handle_bytes(self.now, connection, message);
        }
    }

    pub(crate) fn update_routes(&mut self, number: u8, changes: Vec<RouteChange>) {
        self.speaker.update_routes(self.now, &key(number), changes).expect("the peer is there");
    }

    /// The peer's end of the connection is gone.
    pub(crate) fn cut(&mut self, number: u8) {
        let connection = self.peers[&number];
        self.speaker.handle_closed(self.now, connection, None);
    }

    /// Every socket takes all there is; so many octets.
    pub(crate) fn drain(&mut self) -> usize {
        while let Some(output) = self.speaker.poll_output() {
            if let Output::Write { connection } = output {
                self.writers.push(connection);
            }
        }
        let mut octets = 0;
        while let Some(connection) = self.writers.pop() {
            loop {
                let count = self.speaker.pending_write(self.now, connection).len();
                if count == 0 {
                    break;
                }
                self.speaker.handle_written(self.now, connection, count);
                octets += count;
            }
        }
        octets
    }

    /// Paths of all peers.
    pub(crate) fn accepted(&self) -> usize {
        self.speaker.learned().values().map(Vec::len).sum()
    }

    pub(crate) fn refused(&self, number: u8) -> u64 {
        let status = self.speaker.status(self.now);
        let peer = status.iter().find(|peer| peer.key == key(number)).expect("the peer is there");
        peer.refused.values().sum()
    }
}

/// UPDATEs for /24s of 11.0.0.0/8 and on, so many to a set of attributes; `further` stands behind the peer's AS.
pub(crate) fn announcements(number: u8, routes: u32, together: u32, further: &[u32]) -> Vec<Bytes> {
    let message = |group: u32| {
        // Another set of attributes for each message.
        let path: Vec<u32> = [asn(number).0, 65_536 + group].into_iter().chain(further.iter().copied()).collect();
        let attributes = [
            PathAttribute::Origin(Origin::Igp),
            PathAttribute::AsPath(AsPath { segments: vec![AsPathSegment::AsSequence(path)] }),
            PathAttribute::NextHop(address(number)),
            PathAttribute::Communities(vec![0xfbf4_0001, 0xfbf4_0002]),
        ];
        let mut octets = Vec::new();
        encode_path_attributes(&attributes, &mut octets, true, false).expect("attributes in order");
        update(&[], octets, &nlri(group * together..(group + 1) * together))
    };
    (0..routes / together).map(message).collect()
}

/// UPDATEs that withdraw them, each as long as it may be.
pub(crate) fn withdrawals(routes: u32) -> Vec<Bytes> {
    let message = |first: u32| update(&nlri(first..routes.min(first + 1000)), Vec::new(), &[]);
    (0..routes).step_by(1000).map(message).collect()
}

fn nlri(numbers: std::ops::Range<u32>) -> Vec<u8> {
    let prefix = |number: u32| {
        let [first, second, third, _] = (0x0b00_0000 + (number << 8)).to_be_bytes();
        [24, first, second, third]
    };
    numbers.flat_map(prefix).collect()
}

fn update(withdrawn: &[u8], attributes: Vec<u8>, nlri: &[u8]) -> Bytes {
    let message = UpdateMessage {
        withdrawn_routes: Bytes::copy_from_slice(withdrawn),
        path_attributes: attributes.into(),
        nlri: Bytes::copy_from_slice(nlri),
    };
    encode(&Message::Update(message))
}

fn encode(message: &Message) -> Bytes {
    BytesMut::from(encode_message(message).expect("a message in order").as_ref()).freeze()
}

fn key(number: u8) -> PeerKey {
    PeerKey::from(format!("peer-{number}").as_str())
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

fn asn(number: u8) -> Asn {
    Asn(64_600 + u32::from(number))
}
