//! What a peer's configuration changes in routes that are passed on, and which of them can be reached.

use roadstead_bgp::{AigpSession, ConfigError, NextHopRoute, RefusalReason, RelayedNextHop, Role};

use super::*;

const REFLECTOR: Relay = Relay::ReflectorClient { cluster: CLUSTER };

fn reflector(peers: impl IntoIterator<Item = (u8, PeerConfig)>) -> Hub {
    let mut hub = Hub::new();
    for (number, config) in peers {
        hub.add(config, open(number, 64999), number);
        hub.read(number);
    }
    hub
}

fn client(number: u8) -> PeerConfig {
    config(number, 64999, REFLECTOR)
}

const PREFERENCE: PathAttribute = PathAttribute::LocalPref(100);

/// An announcement with an accumulated metric, which the codec does not write.
fn announce_far(hub: &mut Hub, number: u8, path: &[u32], more: &[PathAttribute], metric: u64) {
    let segments = vec![rustbgpd_wire::AsPathSegment::AsSequence(path.to_vec())];
    let known = [
        PathAttribute::Origin(rustbgpd_wire::Origin::Igp),
        PathAttribute::AsPath(rustbgpd_wire::AsPath { segments }),
        PathAttribute::NextHop(address(number)),
    ];
    let mut octets = Vec::new();
    let list: Vec<PathAttribute> = known.iter().chain(more).cloned().collect();
    rustbgpd_wire::attribute::encode_path_attributes(&list, &mut octets, true, false).unwrap();
    octets.extend([0x80, 26, 11, 1, 0, 11]);
    octets.extend(metric.to_be_bytes());
    hub.update(number, &[], octets, nlri("192.0.2.0/24", None));
}

/// RFC 9234 section 5, egress, in the order of its two rules.
#[test]
fn routes_that_are_passed_on_are_marked_and_withheld_by_our_role() {
    let mut hub = Hub::new();
    let roles = [(1, None), (2, None), (3, Some(Role::RouteServer)), (4, Some(Role::Peer)), (5, Some(Role::Customer))];
    for (number, role) in roles {
        let asn = 64600 + u32::from(number);
        hub.add(PeerConfig { role, ..config(number, asn, Relay::RouteServerClient) }, open(number, asn), number);
        hub.read(number);
    }
    let mark = |attributes: &[PathAttribute]| attributes.iter().find_map(PathAttribute::only_to_customer);
    hub.announce(1, "192.0.2.0/24", &[64601], &[]);
    let marks = [(2, None), (3, Some(SERVER.0)), (4, Some(SERVER.0)), (5, None)];
    for (number, expected) in marks {
        assert_eq!(mark(&hub.attributes(number)), expected, "without a mark, to client {number}");
    }
    // The same route with a mark of its own: nobody's mark is replaced, and where it must not go it is taken back.
    hub.announce(1, "192.0.2.0/24", &[64601], &[PathAttribute::OnlyToCustomer(64601)]);
    for number in [2, 3] {
        assert_eq!(mark(&hub.attributes(number)), Some(64601), "to client {number}");
    }
    for number in [4, 5] {
        assert_eq!(hub.heard(number), ["-192.0.2.0/24"], "to client {number}");
    }
    // And a client of ours must not pass on what was marked for it.
    hub.announce(3, "198.51.100.0/24", &[64603], &[PathAttribute::OnlyToCustomer(64603)]);
    assert_eq!(hub.heard(2), Vec::<String>::new());
    let status = hub.speaker.status(hub.now).into_iter().find(|status| status.key == key(3)).unwrap();
    assert_eq!(status.refused.get(&RefusalReason::RouteLeak), Some(&1));
}

#[test]
fn a_reflector_names_itself_as_next_hop_where_it_is_told_to() {
    let own = |number| PeerConfig { relayed_next_hop: RelayedNextHop::Own, ..client(number) };
    let mut hub = reflector([(1, client(1)), (2, own(2)), (3, client(3))]);
    hub.announce(1, "192.0.2.0/24", &[65010], &[PREFERENCE, PathAttribute::Med(7)]);
    for (number, expected) in [(2, address(100)), (3, address(1))] {
        let attributes = hub.attributes(number);
        assert!(attributes.contains(&PathAttribute::NextHop(expected)), "to client {number}: {attributes:?}");
        // RFC 4456 section 10: nothing else is touched.
        assert!(attributes.contains(&PathAttribute::Med(7)) && attributes.contains(&PREFERENCE));
        assert!(attributes.contains(&PathAttribute::OriginatorId(address(1))));
    }
    let server = PeerConfig { relayed_next_hop: RelayedNextHop::Own, ..config(1, 64601, Relay::RouteServerClient) };
    assert_eq!(server.check(), Err(ConfigError::OwnNextHop));
}

/// The metrics of the only UPDATE that a client has heard.
fn metrics(hub: &mut Hub, number: u8) -> Vec<u64> {
    let messages = hub.read(number);
    let block = messages.iter().find_map(|message| match message {
        Message::Update(update) if !update.nlri.is_empty() => Some(update.path_attributes.clone()),
        _ => None,
    });
    let block = block.unwrap_or_else(|| panic!("client {number} has heard nothing"));
    let header = [0x90, 26, 0, 11, 1, 0, 11];
    let found = block.windows(header.len() + 8).filter(|window| window.starts_with(&header));
    found.map(|window| u64::from_be_bytes(window[header.len()..].try_into().unwrap())).collect()
}

/// RFC 7311 sections 3.3 and 3.4.3.
#[test]
fn accumulated_metrics_are_passed_on_inside_our_network_only() {
    let own = |number| PeerConfig { relayed_next_hop: RelayedNextHop::Own, ..client(number) };
    let without = |number| PeerConfig { aigp: AigpSession::Disabled, ..client(number) };
    let mut hub = reflector([(1, client(1)), (2, client(2)), (3, own(3)), (4, without(4))]);
    hub.speaker.handle_next_hop_routes(hub.now, &[route("10.0.0.0/24", Some(5))]);
    announce_far(&mut hub, 1, &[65010], &[PREFERENCE], 100);
    assert_eq!(metrics(&mut hub, 2), [100], "whoever leaves the next hop alone leaves the metric alone");
    assert_eq!(metrics(&mut hub, 3), [105], "with the way from us");
    assert_eq!(metrics(&mut hub, 4), Vec::<u64>::new());
    hub.speaker.handle_next_hop_routes(hub.now, &[route("10.0.0.0/24", Some(7))]);
    hub.perform();
    assert_eq!(hub.heard(2), Vec::<String>::new(), "nothing that it knows has changed");
    assert_eq!(metrics(&mut hub, 3), [107]);

    // Ours is none of an external peer's business, nor its own ours, unless somebody says so.
    for (session, expected) in [(AigpSession::Internal, vec![]), (AigpSession::Enabled, vec![100])] {
        let mut hub = Hub::new();
        for (number, asn) in [(1, 64601), (2, 64602)] {
            let config = PeerConfig { aigp: session, ..config(number, asn, Relay::RouteServerClient) };
            hub.add(config, open(number, asn), number);
            hub.read(number);
        }
        announce_far(&mut hub, 1, &[64601], &[], 100);
        assert_eq!(metrics(&mut hub, 2), expected, "{session:?}");
    }
}

/// RFC 7311 section 4.1.
#[test]
fn an_accumulated_metric_decides_behind_the_local_preference() {
    let mut hub = reflector([(1, client(1)), (2, client(2)), (3, client(3)), (4, client(4))]);
    hub.announce(1, "192.0.2.0/24", &[65010], &[PREFERENCE]);
    announce_far(&mut hub, 2, &[65010, 65011], &[PREFERENCE], 100);
    announce_far(&mut hub, 3, &[65010, 65011, 65012], &[PREFERENCE], 99);
    let explained = |hub: &Hub| -> Vec<(String, Verdict)> {
        let paths = hub.speaker.explain(&"192.0.2.0/24".parse().unwrap());
        paths.iter().map(|path| (path.path.peer.to_string(), path.verdict)).collect()
    };
    let worse = |number: u8, rule| (key(number).to_string(), Verdict::Worse(rule));
    let best = |number: u8| (key(number).to_string(), Verdict::Best);
    let rule = SelectionRule::AccumulatedMetric;
    assert_eq!(explained(&hub), [best(3), worse(2, rule), worse(1, rule)]);
    // The way to the next hop counts too.
    let far = [route("10.0.0.0/24", Some(1)), route("10.0.0.3/32", Some(3))];
    hub.speaker.handle_next_hop_routes(hub.now, &far);
    assert_eq!(explained(&hub), [best(2), worse(3, rule), worse(1, rule)]);
    hub.announce(1, "192.0.2.0/24", &[65010], &[PathAttribute::LocalPref(101)]);
    let preferred = SelectionRule::LocalPreference;
    assert_eq!(explained(&hub), [best(1), worse(2, preferred), worse(3, preferred)]);
}

fn route(prefix: &str, metric: Option<u32>) -> NextHopRoute {
    NextHopRoute { prefix: prefix.parse().unwrap(), metric }
}

/// RFC 4271 section 9.1.2.1, and RFC 7947 for whom it is not.
#[test]
fn what_cannot_be_reached_is_told_to_nobody_until_it_can() {
    let mut hub = reflector([(1, client(1)), (2, client(2)), (3, client(3))]);
    hub.announce(1, "192.0.2.0/24", &[65010], &[PREFERENCE]);
    hub.announce(2, "192.0.2.0/24", &[65010, 65011], &[PREFERENCE]);
    assert_eq!(hub.heard(3).last().map(String::as_str), Some("+192.0.2.0/24 65010"));
    let mut change = |changes: &[NextHopRoute]| {
        hub.speaker.handle_next_hop_routes(hub.now, changes);
        hub.perform();
        (hub.heard(3), hub.speaker.learned().values().map(Vec::len).sum::<usize>())
    };
    let heard = |text: &str| (text.split(';').filter(|line| !line.is_empty()).map(str::to_owned).collect(), 2);
    assert_eq!(change(&[route("10.0.0.0/30", Some(1))]), heard(""));
    assert_eq!(change(&[route("10.0.0.0/30", None)]), heard("-192.0.2.0/24"));
    assert_eq!(change(&[route("10.0.0.2/32", Some(9))]), heard("+192.0.2.0/24 65010 65011"));
    assert_eq!(change(&[route("10.0.0.1/32", Some(99))]), heard("+192.0.2.0/24 65010"));
    assert_eq!(change(&[route("10.0.0.1/32", None)]), heard("+192.0.2.0/24 65010 65011"));

    let mut hub = Hub::route_server(&[(1, 64601), (2, 64602)]);
    hub.read(2);
    hub.speaker.handle_next_hop_routes(hub.now, &[]);
    hub.announce(1, "192.0.2.0/24", &[64601], &[]);
    assert_eq!(hub.heard(2), ["+192.0.2.0/24 64601"]);
}
