//! IPv4 routes with IPv6 next hops (RFC 8950): who offers it, and what it changes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use roadstead_bgp::{
    Accepted, Connect, ConnectionId, Endpoints, ExtendedNextHop, Family, NextHops, Output, PeerConfig, RefusalReason,
    Relay, Speaker,
};
use rustbgpd_wire::{
    Afi, Capability, ExtendedNextHopFamily, Message, OpenMessage, PathAttribute, Safi, decode_message,
};

use crate::script::{Script, announce, config, encode, hex, peer_open, raw, start_of_time};
use crate::stage::Stage as _;

const ROUTER: &str = "[2001:db8:1::1]:179";
const NODE: &str = "[2001:db8:1::10]:40000";

fn over_ipv6() -> PeerConfig {
    let mut config = config();
    config.transport.remote = ROUTER.parse().unwrap();
    config.next_hops = NextHops::default();
    config
}

fn capability() -> Capability {
    Capability::ExtendedNextHop(vec![ExtendedNextHopFamily {
        nlri_afi: Afi::Ipv4,
        nlri_safi: Safi::Unicast,
        next_hop_afi: Afi::Ipv6,
    }])
}

fn open_with(capability: Option<Capability>) -> OpenMessage {
    let mut open = peer_open();
    open.capabilities.extend(capability);
    open
}

/// A session over IPv6, up; and our OPEN.
fn session(config: PeerConfig, local: &str, open: OpenMessage) -> (Script, OpenMessage) {
    let mut script = Script::configured(config);
    let (_, id) = script.dials[0];
    script.connection = Some(id);
    let (local, remote): (SocketAddr, SocketAddr) = (local.parse().unwrap(), ROUTER.parse().unwrap());
    script.speaker.handle_dialled(script.now, id, Endpoints { local, remote, interface: NextHops::default() });
    script.perform();
    let Some(Message::Open(ours)) = script.read().pop() else { panic!("no OPEN") };
    script.send(&encode(&Message::Open(open)));
    script.send(&raw(4, &[]));
    assert!(script.is_established());
    script.read();
    (script, ours)
}

/// The next hops of what is announced: `prefix by address`.
fn announced(messages: &[Message]) -> Vec<String> {
    let mut found = Vec::new();
    for message in messages {
        let Message::Update(update) = message else { continue };
        let update = update.parse(true, false, &[]).unwrap();
        for attribute in &update.attributes {
            match attribute {
                PathAttribute::NextHop(next_hop) => {
                    found.extend(
                        update
                            .announced
                            .iter()
                            .map(|entry| format!("{}/{} by {next_hop}", entry.prefix.addr, entry.prefix.len)),
                    );
                }
                PathAttribute::MpReachNlri(reach) => {
                    let link_local = reach.link_local_next_hop.map(|address| format!(" {address}")).unwrap_or_default();
                    found.extend(
                        reach
                            .announced
                            .iter()
                            .map(|entry| format!("{} by {}{link_local}", entry.prefix, reach.next_hop)),
                    );
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn it_is_offered_over_ipv6_where_ipv4_routes_are() {
    let ipv6_only = |config: &mut PeerConfig| config.families = [Family::Ipv6Unicast].into();
    let cases: [(&str, fn(&mut PeerConfig), bool); 4] = [
        ("over IPv6", |_| {}, true),
        ("withheld", |config| config.extended_next_hop = ExtendedNextHop::Withheld, false),
        ("no IPv4 routes", ipv6_only, false),
        ("over IPv4", |config| config.transport.remote = "192.0.2.1:179".parse().unwrap(), false),
    ];
    for (name, adjust, offered) in cases {
        let mut config = over_ipv6();
        adjust(&mut config);
        let (_, ours) = session(config, NODE, open_with(None));
        assert_eq!(ours.capabilities.contains(&capability()), offered, "{name}");
    }
}

#[test]
fn ipv4_routes_have_the_sessions_own_address_where_it_is_agreed_on() {
    let with_multicast =
        Capability::Unknown { code: 5, data: hex("0001 0002 0002  0001 0001 0002  0001 0005 0002").into() };
    let other = Capability::Unknown { code: 5, data: hex("0001 0005 0002").into() };
    let cases = [
        ("not offered by the peer", None, NODE, ""),
        ("for other routes only", Some(other), NODE, ""),
        ("agreed", Some(capability()), NODE, "192.0.2.0/24 by 2001:db8:1::10"),
        ("among others that we do not know", Some(with_multicast), NODE, "192.0.2.0/24 by 2001:db8:1::10"),
        ("on a link without addresses", Some(capability()), "[fe80::10]:40000", "192.0.2.0/24 by fe80::10"),
    ];
    for (name, capability, local, expected) in cases {
        let (mut script, _) = session(over_ipv6(), local, open_with(capability));
        script.update_routes(vec![announce("192.0.2.0/24")]);
        let withheld: BTreeSet<Family> = expected.is_empty().then_some(Family::Ipv4Unicast).into_iter().collect();
        assert_eq!(announced(&script.read()).concat(), expected, "{name}");
        let status = script.status();
        assert_eq!((status.extended_next_hop, status.withheld), (!expected.is_empty(), withheld), "{name}");
    }
    // What is configured is what is told, whatever the peer could take.
    let mut configured = over_ipv6();
    configured.next_hops.ipv4 = Some("192.0.2.10".parse().unwrap());
    let (mut script, _) = session(configured, NODE, open_with(Some(capability())));
    script.update_routes(vec![announce("192.0.2.0/24")]);
    assert_eq!(announced(&script.read()), ["192.0.2.0/24 by 192.0.2.10"]);
}

/// Row 26 of the list of classic bugs: nothing changes but the next hop, and that from one family to the other.
#[test]
fn a_next_hop_of_another_family_is_told() {
    let (mut script, _) = session(over_ipv6(), NODE, open_with(Some(capability())));
    script.update_routes(vec![announce("192.0.2.0/24")]);
    script.read();
    let mut changed = over_ipv6();
    changed.next_hops.ipv4 = Some("192.0.2.10".parse().unwrap());
    script.speaker.set_peer(script.now, crate::script::key(), changed).unwrap();
    script.perform();
    assert_eq!(announced(&script.read()), ["192.0.2.0/24 by 192.0.2.10"]);
    script.speaker.set_peer(script.now, crate::script::key(), over_ipv6()).unwrap();
    script.perform();
    assert_eq!(announced(&script.read()), ["192.0.2.0/24 by 2001:db8:1::10"]);
}

/// 192.0.2.0/24 by way of 2001:db8:1::1.
fn reach() -> Vec<u8> {
    let reach = "800e19 0001 01 10 20010db8000100000000000000000001 00 18c00002";
    let attributes = hex(&format!("{reach} 400101 00 400206 0201 0000fc00"));
    raw(2, &[&[0, 0, 0, u8::try_from(attributes.len()).unwrap()], attributes.as_slice()].concat())
}

#[test]
fn such_routes_are_learned_and_withdrawn() {
    let (mut script, _) = session(over_ipv6(), NODE, open_with(Some(capability())));
    script.send(&reach());
    let learned = script.speaker.learned();
    let next_hops: Vec<IpAddr> = learned.values().flatten().map(|path| path.next_hop).collect();
    assert_eq!(next_hops, ["2001:db8:1::1".parse::<IpAddr>().unwrap()]);
    // As FRR and BIRD withdraw them.
    script.send(&raw(2, &hex("0000 000a 800f07 0001 01 18c00002")));
    assert!(script.learned().is_empty());

    let (mut script, _) = session(over_ipv6(), NODE, open_with(None));
    script.send(&reach());
    assert!(script.learned().is_empty());
    assert_eq!(script.status().refused.get(&RefusalReason::FamilyNotNegotiated), Some(&1));
}

#[test]
fn they_are_passed_on_to_those_who_take_them() {
    let now = start_of_time();
    let mut speaker = Speaker::new(1);
    let mut output = Vec::new();
    // The first tells; of the others one takes it.
    for (host, capability) in [(1, Some(capability())), (2, Some(capability())), (3, None)] {
        let mut config = over_ipv6();
        config.transport.remote = format!("[2001:db8:1::{host}]:179").parse().unwrap();
        config.connect = Connect::Passive;
        config.relay = Relay::RouteServerClient;
        let remote = config.transport.remote;
        speaker.set_peer(now, format!("client-{host}").as_str().into(), config).unwrap();
        let endpoints =
            Endpoints { local: "[2001:db8:1::ff]:179".parse().unwrap(), remote, interface: NextHops::default() };
        let Accepted::Connection(id, _) = speaker.handle_accepted(now, endpoints) else { panic!("refused") };
        let open = OpenMessage { bgp_identifier: [10, 0, 0, 10 + host].into(), ..open_with(capability) };
        speaker.handle_bytes(now, id, &encode(&Message::Open(open)));
        speaker.handle_bytes(now, id, &raw(4, &[]));
        output.push(id);
    }
    written(&mut speaker, &output);
    speaker.handle_bytes(now, output[0], &reach());
    let told = written(&mut speaker, &output);
    let told: Vec<Vec<String>> = told.iter().map(|messages| announced(messages)).collect();
    assert_eq!(told, [vec![], vec!["192.0.2.0/24 by 2001:db8:1::1".to_owned()], vec![]]);
}

/// What was written to each of these connections.
fn written(speaker: &mut Speaker, connections: &[ConnectionId]) -> Vec<Vec<Message>> {
    let now = start_of_time();
    while let Some(output) = speaker.poll_output() {
        assert!(!matches!(output, Output::Close { .. }), "{output:?}");
    }
    let mut all = Vec::new();
    for &id in connections {
        let mut bytes = bytes::BytesMut::new();
        loop {
            let pending = speaker.pending_write(now, id).to_vec();
            if pending.is_empty() {
                break;
            }
            bytes.extend_from_slice(&pending);
            speaker.handle_written(now, id, pending.len());
        }
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let length = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
            messages.push(decode_message(&mut bytes.split_to(length).freeze(), 4096).unwrap());
        }
        all.push(messages);
    }
    all
}
