//! A route server and a reflector, and what their clients hear of each other.

mod policy;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use roadstead_bgp::{
    Accepted, AddPath, AddPathReceive, Asn, Connect, ConnectionId, Endpoints, NextHops, Output, PeerAsn, PeerConfig,
    PeerKey, PrefixRule, Relay, SelectionRule, Speaker, Verdict,
};
use rustbgpd_wire::{
    AddPathFamily, AddPathMode, Afi, Capability, Message, OpenMessage, PathAttribute, RawAttribute,
    RouteRefreshMessage, Safi, UpdateMessage, decode_message, peek_message_length,
};

use crate::script::{encode, start_of_time};
use crate::stage::Stage;

pub(crate) const SERVER: Asn = Asn(64999);
pub(crate) const CLUSTER: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

/// The speaker in the middle, and its clients played by hand: client `n` has the address 10.0.0.n.
pub(crate) struct Hub {
    pub(crate) speaker: Speaker,
    pub(crate) now: Instant,
    clients: Vec<Client>,
}

pub(crate) struct Client {
    number: u8,
    connection: ConnectionId,
    inbox: BytesMut,
    /// Whether prefixes come with path identifiers, in each direction.
    several: bool,
    four_octet_asn: bool,
}

pub(crate) fn key(number: u8) -> PeerKey {
    PeerKey::from(format!("client-{number}").as_str())
}

pub(crate) fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

pub(crate) fn config(number: u8, asn: u32, relay: Relay) -> PeerConfig {
    let remote = SocketAddr::from((address(number), 179));
    let local = if relay == Relay::RouteServerClient { SERVER } else { Asn(asn) };
    let mut config = PeerConfig::new(local, PeerAsn::Exactly(Asn(asn)), Ipv4Addr::new(10, 0, 0, 100), remote);
    config.relay = relay;
    config.connect = Connect::Passive;
    for everything in ["0.0.0.0/0", "::/0"] {
        config.import.accept.push(PrefixRule { prefix: everything.parse().unwrap(), ge: Some(0), le: None });
    }
    config
}

pub(crate) fn open(number: u8, asn: u32) -> OpenMessage {
    OpenMessage {
        version: 4,
        my_as: u16::try_from(asn).unwrap_or(23456),
        hold_time: 90,
        bgp_identifier: address(number),
        capabilities: vec![
            Capability::MultiProtocol { afi: Afi::Ipv4, safi: Safi::Unicast },
            Capability::MultiProtocol { afi: Afi::Ipv6, safi: Safi::Unicast },
            Capability::RouteRefresh,
            Capability::FourOctetAs { asn },
        ],
    }
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self { speaker: Speaker::new(1), now: start_of_time(), clients: Vec::new() }
    }

    pub(crate) fn route_server(clients: &[(u8, u32)]) -> Self {
        let mut hub = Self::new();
        for &(number, asn) in clients {
            hub.add(config(number, asn, Relay::RouteServerClient), open(number, asn), number);
        }
        hub
    }

    pub(crate) fn add(&mut self, config: PeerConfig, open: OpenMessage, number: u8) {
        let several = open.capabilities.iter().any(|capability| matches!(capability, Capability::AddPath(_)));
        let four_octet_asn =
            open.capabilities.iter().any(|capability| matches!(capability, Capability::FourOctetAs { .. }));
        self.speaker.set_peer(self.now, key(number), config).unwrap();
        let endpoints = Endpoints {
            local: SocketAddr::from((address(100), 179)),
            remote: SocketAddr::from((address(number), 40_000)),
            interface: NextHops::default(),
        };
        let Accepted::Connection(connection, _) = self.speaker.handle_accepted(self.now, endpoints) else {
            panic!("client {number} is not accepted");
        };
        self.clients.push(Client { number, connection, inbox: BytesMut::new(), several, four_octet_asn });
        self.perform();
        self.send(number, &encode(&Message::Open(open)));
        self.send(number, &encode(&Message::Keepalive));
        let greeting = self.read(number);
        assert!(matches!(greeting.as_slice(), [Message::Open(_), Message::Keepalive, ..]), "{greeting:?}");
    }

    pub(crate) fn client(&mut self, number: u8) -> &mut Client {
        self.clients.iter_mut().find(|client| client.number == number).unwrap()
    }

    pub(crate) fn send(&mut self, number: u8, bytes: &[u8]) {
        let connection = self.client(number).connection;
        self.speaker.handle_bytes(self.now, connection, bytes);
        self.perform();
    }

    /// Announces an IPv4 prefix with `more` behind ORIGIN, AS_PATH and NEXT_HOP.
    pub(crate) fn announce(&mut self, number: u8, prefix: &str, path: &[u32], more: &[PathAttribute]) {
        self.announce_as(number, 0, prefix, path, more);
    }

    pub(crate) fn announce_as(&mut self, number: u8, path_id: u32, prefix: &str, path: &[u32], more: &[PathAttribute]) {
        let client = self.client(number);
        let segments = match path {
            [] => Vec::new(),
            path => vec![rustbgpd_wire::AsPathSegment::AsSequence(path.to_vec())],
        };
        let mut attributes = vec![
            PathAttribute::Origin(rustbgpd_wire::Origin::Igp),
            PathAttribute::AsPath(rustbgpd_wire::AsPath { segments }),
            PathAttribute::NextHop(address(number)),
        ];
        attributes.extend_from_slice(more);
        let mut octets = Vec::new();
        let four_octet_asn = client.four_octet_asn;
        rustbgpd_wire::attribute::encode_path_attributes(&attributes, &mut octets, four_octet_asn, false).unwrap();
        let nlri = nlri(prefix, client.several.then_some(path_id));
        self.update(number, &[], octets, nlri);
    }

    pub(crate) fn withdraw(&mut self, number: u8, prefix: &str) {
        let several = self.client(number).several;
        self.update(number, &nlri(prefix, several.then_some(0)), Vec::new(), Vec::new());
    }

    pub(crate) fn update(&mut self, number: u8, withdrawn: &[u8], attributes: Vec<u8>, nlri: Vec<u8>) {
        let message = UpdateMessage {
            withdrawn_routes: Bytes::copy_from_slice(withdrawn),
            path_attributes: attributes.into(),
            nlri: nlri.into(),
        };
        self.send(number, &encode(&Message::Update(message)));
    }

    /// The connection of a client breaks.
    pub(crate) fn cut(&mut self, number: u8) {
        let connection = self.client(number).connection;
        self.speaker.handle_closed(self.now, connection, Some("connection reset".to_owned()));
        self.perform();
    }

    pub(crate) fn read(&mut self, number: u8) -> Vec<Message> {
        let client = self.client(number);
        let mut messages = Vec::new();
        while let Some(length) = peek_message_length(&client.inbox, 4096).unwrap() {
            let mut message = client.inbox.split_to(usize::from(length)).freeze();
            messages.push(decode_message(&mut message, 4096).unwrap());
        }
        messages
    }

    /// What a client has heard since the last time, one line for each prefix: `+prefix path` or `-prefix`; End-of-RIB
    /// left out.
    pub(crate) fn heard(&mut self, number: u8) -> Vec<String> {
        let messages = self.read(number);
        let (several, four_octet_asn) = {
            let client = self.client(number);
            (client.several, client.four_octet_asn)
        };
        let mut heard = Vec::new();
        for message in messages {
            let Message::Update(update) = message else { continue };
            let families = if several { vec![(Afi::Ipv6, Safi::Unicast)] } else { Vec::new() };
            let parsed = update.parse(four_octet_asn, several, &families).unwrap();
            let name = |path_id: u32, prefix: rustbgpd_wire::Ipv4Prefix| match several {
                true => format!("{}/{}#{path_id}", prefix.addr, prefix.len),
                false => format!("{}/{}", prefix.addr, prefix.len),
            };
            heard.extend(parsed.withdrawn.iter().map(|entry| format!("-{}", name(entry.path_id, entry.prefix))));
            let path = parsed.attributes.iter().find_map(|attribute| match attribute {
                PathAttribute::AsPath(path) => Some(path.to_aspath_string()),
                _ => None,
            });
            let path = path.unwrap_or_default();
            heard.extend(parsed.announced.iter().map(|entry| format!("+{} {path}", name(entry.path_id, entry.prefix))));
        }
        heard
    }

    /// The attributes of the only UPDATE that a client has heard.
    pub(crate) fn attributes(&mut self, number: u8) -> Vec<PathAttribute> {
        let messages = self.read(number);
        let four_octet_asn = self.client(number).four_octet_asn;
        let updates: Vec<&UpdateMessage> = messages
            .iter()
            .filter_map(|message| match message {
                Message::Update(update) if !update.nlri.is_empty() => Some(update),
                _ => None,
            })
            .collect();
        let [update] = updates.as_slice() else { panic!("{} UPDATEs", updates.len()) };
        update.parse(four_octet_asn, false, &[]).unwrap().attributes
    }
}

impl Stage for Hub {
    fn speaker_and_clock(&mut self) -> (&mut Speaker, &mut Instant) {
        (&mut self.speaker, &mut self.now)
    }

    fn perform(&mut self) {
        while let Some(output) = self.speaker.poll_output() {
            if let Output::Write { connection } = output {
                loop {
                    let pending = Bytes::copy_from_slice(self.speaker.pending_write(self.now, connection));
                    if pending.is_empty() {
                        break;
                    }
                    let client = self.clients.iter_mut().find(|client| client.connection == connection).unwrap();
                    client.inbox.extend_from_slice(&pending);
                    self.speaker.handle_written(self.now, connection, pending.len());
                }
            }
        }
    }
}

pub(crate) fn nlri(prefix: &str, path_id: Option<u32>) -> Vec<u8> {
    let prefix: ipnet::Ipv4Net = prefix.parse().unwrap();
    let mut octets = path_id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default();
    octets.push(prefix.prefix_len());
    octets.extend_from_slice(&prefix.network().octets()[..usize::from(prefix.prefix_len()).div_ceil(8)]);
    octets
}

#[test]
fn a_route_server_is_not_in_the_path() {
    let mut hub = Hub::route_server(&[(1, 64601), (2, 64602)]);
    hub.read(2);
    let unknown = RawAttribute { flags: 0xc0, type_code: 254, data: Bytes::from_static(&[1, 2, 3]) };
    let local = RawAttribute { flags: 0x80, type_code: 253, data: Bytes::from_static(&[9]) };
    let more = [
        PathAttribute::Med(77),
        PathAttribute::Communities(vec![0xfc59_0001, 0xffff_ff01]),
        PathAttribute::Unknown(unknown.clone()),
        PathAttribute::Unknown(local),
    ];
    hub.announce(1, "192.0.2.0/24", &[64601, 65010], &more);
    let attributes = hub.attributes(2);
    let expected = [
        PathAttribute::Origin(rustbgpd_wire::Origin::Igp),
        PathAttribute::AsPath(rustbgpd_wire::AsPath {
            segments: vec![rustbgpd_wire::AsPathSegment::AsSequence(vec![64601, 65010])],
        }),
        // RFC 7947 section 2.2.1: the client's, not ours.
        PathAttribute::NextHop(address(1)),
        PathAttribute::Med(77),
        PathAttribute::Communities(vec![0xfc59_0001, 0xffff_ff01]),
        // RFC 4271 section 5: not known and transitive: with the Partial bit; not transitive: not at all.
        PathAttribute::Unknown(RawAttribute { flags: 0xe0, ..unknown }),
    ];
    assert_eq!(attributes, expected);
    assert_eq!(hub.heard(1), Vec::<String>::new(), "nobody hears what he has said himself");
}

/// RFC 7947 section 2.3.
#[test]
fn no_client_hides_a_path_from_another() {
    let mut hub = Hub::route_server(&[(1, 64601), (2, 64602), (3, 64603)]);
    for number in [1, 2, 3] {
        hub.read(number);
    }
    hub.announce(1, "192.0.2.0/24", &[64601], &[]);
    hub.announce(2, "192.0.2.0/24", &[64602, 65000], &[]);
    assert_eq!(hub.heard(1), ["+192.0.2.0/24 64602 65000"], "the best that is not its own");
    assert_eq!(hub.heard(2), ["+192.0.2.0/24 64601"]);
    assert_eq!(hub.heard(3), ["+192.0.2.0/24 64601"]);

    let why: Vec<Verdict> =
        hub.speaker.explain(&"192.0.2.0/24".parse().unwrap()).iter().map(|path| path.verdict).collect();
    assert_eq!(why, [Verdict::Best, Verdict::Worse(SelectionRule::AsPathLength)]);

    hub.withdraw(1, "192.0.2.0/24");
    assert_eq!(hub.heard(1), Vec::<String>::new());
    assert_eq!(hub.heard(2), ["-192.0.2.0/24"]);
    assert_eq!(hub.heard(3), ["+192.0.2.0/24 64602 65000"]);
}

#[test]
fn a_client_that_goes_takes_its_routes_with_it() {
    let mut hub = Hub::route_server(&[(1, 64601), (2, 64602)]);
    hub.announce(1, "192.0.2.0/24", &[64601], &[]);
    hub.announce(1, "198.51.100.0/24", &[64601], &[]);
    hub.read(2);
    hub.cut(1);
    let mut heard = hub.heard(2);
    heard.sort();
    assert_eq!(heard, ["-192.0.2.0/24", "-198.51.100.0/24"]);
}

#[test]
fn a_client_that_comes_late_gets_all_and_then_end_of_rib() {
    let mut hub = Hub::route_server(&[(1, 64601)]);
    for third in 0..100 {
        hub.announce(1, &format!("20.0.{third}.0/24"), &[64601, 65000 + third % 3], &[]);
    }
    hub.add(config(2, 64602, Relay::RouteServerClient), open(2, 64602), 2);
    // The dump was a part of what came with the greeting.
    let refresh = RouteRefreshMessage::new(Afi::Ipv4, Safi::Unicast);
    hub.send(2, &encode(&Message::RouteRefresh(refresh)));
    let messages = hub.read(2);
    assert_eq!(messages.len(), 3, "one UPDATE for each set of attributes");
    assert_eq!(hub.speaker.status(hub.now)[1].prefixes_sent, 100);
}

#[test]
fn a_client_without_four_octets_gets_as_trans_and_the_rest_beside_it() {
    let mut hub = Hub::route_server(&[(1, 4_200_000_001)]);
    let old = OpenMessage {
        capabilities: vec![Capability::MultiProtocol { afi: Afi::Ipv4, safi: Safi::Unicast }],
        ..open(2, 64602)
    };
    hub.add(config(2, 64602, Relay::RouteServerClient), old, 2);
    hub.read(2);
    hub.announce(1, "192.0.2.0/24", &[4_200_000_001, 65010], &[]);
    let [Message::Update(update)] = &hub.read(2)[..] else { panic!("not one UPDATE") };
    let octets = &update.path_attributes[..];
    // RFC 6793 section 4.2.2: AS_PATH 23456 65010, and AS4_PATH with both in full.
    let as_path = [0x40, 2, 6, 2, 2, 0x5b, 0xa0, 0xfd, 0xf2];
    assert!(octets.windows(as_path.len()).any(|window| window == as_path), "{octets:02x?}");
    let as4_path = [17, 10, 2, 2, 0xfa, 0x56, 0xea, 0x01, 0, 0, 0xfd, 0xf2];
    assert!(octets.windows(as4_path.len()).any(|window| window == as4_path), "{octets:02x?}");
}

/// RFC 4456 sections 6 and 8.
#[test]
fn a_reflector_passes_routes_between_clients_and_the_others() {
    let mut hub = Hub::new();
    let (client, other) = (Relay::ReflectorClient { cluster: CLUSTER }, Relay::ReflectorPeer { cluster: CLUSTER });
    for (number, relay) in [(1, client), (2, client), (3, other), (4, other)] {
        hub.add(config(number, 64999, relay), open(number, 64999), number);
        hub.read(number);
    }
    let preference = [PathAttribute::LocalPref(150)];
    hub.announce(1, "192.0.2.0/24", &[], &preference);
    for number in [2, 3, 4] {
        let attributes = hub.attributes(number);
        assert!(attributes.contains(&PathAttribute::OriginatorId(address(1))), "{attributes:?}");
        assert!(attributes.contains(&PathAttribute::ClusterList(vec![CLUSTER])), "{attributes:?}");
        assert!(attributes.contains(&PathAttribute::NextHop(address(1))), "{attributes:?}");
        assert!(attributes.contains(&PathAttribute::LocalPref(150)), "{attributes:?}");
    }
    hub.announce(3, "198.51.100.0/24", &[], &preference);
    assert_eq!(hub.heard(1), ["+198.51.100.0/24 "]);
    assert_eq!(hub.heard(2), ["+198.51.100.0/24 "]);
    assert_eq!(hub.heard(4), Vec::<String>::new(), "from one that is not a client to another");
    assert_eq!(hub.heard(3), Vec::<String>::new());

    // From another reflector, by way of two clusters; the order of the list is that of the way.
    let elsewhere = Ipv4Addr::new(10, 8, 8, 8);
    let reflected = [
        PathAttribute::LocalPref(100),
        PathAttribute::OriginatorId(Ipv4Addr::new(10, 7, 7, 7)),
        PathAttribute::ClusterList(vec![elsewhere, Ipv4Addr::new(10, 6, 6, 6)]),
    ];
    hub.announce(3, "203.0.113.0/24", &[], &reflected);
    let attributes = hub.attributes(1);
    assert!(attributes.contains(&PathAttribute::OriginatorId(Ipv4Addr::new(10, 7, 7, 7))), "{attributes:?}");
    let list = vec![CLUSTER, elsewhere, Ipv4Addr::new(10, 6, 6, 6)];
    assert!(attributes.contains(&PathAttribute::ClusterList(list)), "{attributes:?}");
}

/// RFC 7911: both directions, and identifiers that stay.
#[test]
fn several_paths_to_a_client_that_takes_them() {
    let mut hub = Hub::route_server(&[(1, 64601), (2, 64602)]);
    let mut several = config(3, 64603, Relay::RouteServerClient);
    several.add_path = AddPath { receive: AddPathReceive::Several, send: 2 };
    let both = |afi| AddPathFamily { afi, safi: Safi::Unicast, send_receive: AddPathMode::Both };
    let mut open = open(3, 64603);
    open.capabilities.push(Capability::AddPath(vec![both(Afi::Ipv4), both(Afi::Ipv6)]));
    hub.add(several, open, 3);
    for number in [1, 2, 3] {
        hub.read(number);
    }
    hub.announce(1, "192.0.2.0/24", &[64601], &[]);
    hub.announce(2, "192.0.2.0/24", &[64602, 65000], &[]);
    assert_eq!(hub.heard(3), ["+192.0.2.0/24#1 64601", "+192.0.2.0/24#2 64602 65000"]);
    hub.withdraw(1, "192.0.2.0/24");
    assert_eq!(hub.heard(3), ["-192.0.2.0/24#1"], "the other keeps its identifier");

    // The other way round: two of its paths, of which the others hear the better; and a path 0 that it never told.
    hub.read(1);
    hub.announce_as(3, 5, "198.51.100.0/24", &[64603, 65001, 65002], &[]);
    hub.announce_as(3, 6, "198.51.100.0/24", &[64603, 65001], &[]);
    assert_eq!(hub.heard(1), ["+198.51.100.0/24 64603 65001 65002", "+198.51.100.0/24 64603 65001"]);
    hub.withdraw(3, "198.51.100.0/24");
    assert_eq!(hub.heard(1), Vec::<String>::new(), "path 0 is no wildcard");
    assert_eq!(hub.speaker.learned()[&"198.51.100.0/24".parse().unwrap()].len(), 2);
}

/// Whoever takes no long messages gets another path, or none: never a message that it would answer with a reset.
#[test]
fn a_route_that_does_not_fit_is_not_there_for_that_client() {
    let mut hub = Hub::new();
    let long = |number, asn| {
        let mut open = open(number, asn);
        open.capabilities.push(Capability::ExtendedMessage);
        open
    };
    hub.add(config(1, 64601, Relay::RouteServerClient), long(1, 64601), 1);
    hub.add(config(2, 64602, Relay::RouteServerClient), open(2, 64602), 2);
    hub.read(2);
    hub.announce(1, "192.0.2.0/24", &[64601], &[]);
    assert_eq!(hub.heard(2), ["+192.0.2.0/24 64601"]);
    let mut octets = Vec::new();
    let attributes = [
        PathAttribute::Origin(rustbgpd_wire::Origin::Igp),
        PathAttribute::AsPath(rustbgpd_wire::AsPath {
            segments: vec![rustbgpd_wire::AsPathSegment::AsSequence(vec![64601])],
        }),
        PathAttribute::NextHop(address(1)),
        PathAttribute::Communities((0..1100).collect()),
    ];
    rustbgpd_wire::attribute::encode_path_attributes(&attributes, &mut octets, true, false).unwrap();
    let message = UpdateMessage {
        withdrawn_routes: Bytes::new(),
        path_attributes: octets.into(),
        nlri: nlri("192.0.2.0/24", None).into(),
    };
    let mut bytes = BytesMut::new();
    message.encode_with_limit(&mut bytes, 65535).unwrap();
    hub.send(1, &bytes);
    assert_eq!(hub.heard(2), ["-192.0.2.0/24"]);
}
