//! What is counted. Each is named after the work, and checks that the work was done.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use roadstead_bgp::{Community, Relay, RouteAttributes, RouteChange};

use crate::measured;
use crate::network::{Network, announcements, withdrawals};

/// Routes in a scene: enough for tables to grow and for caches to be of no help, few enough for seconds under valgrind.
const ROUTES: u32 = 10_000;
/// Prefixes with the same attributes, and so in one UPDATE.
const TOGETHER: u32 = 10;

/// By name.
pub(crate) const ALL: &[(&str, fn())] = &[
    ("decode-update", decode_update),
    ("encode-update", encode_update),
    ("encode-withdrawal", encode_withdrawal),
    ("insert", insert),
    ("insert-again", insert_again),
    ("replace", replace),
    ("withdraw", withdraw),
    ("select-of-ten", select_of_ten),
    ("relay", relay),
    ("relay-withdrawal", relay_withdrawal),
    ("relay-one-by-one", relay_one_by_one),
    ("relay-to-ten", relay_to_ten),
    ("withdraw-from-ten", withdraw_from_ten),
    ("session-lost", session_lost),
];

/// UPDATEs that the import policy refuses: read and judged, and nothing kept.
fn decode_update() {
    let mut network = Network::default();
    let peer = network.add_refused();
    let messages = announcements(peer, ROUTES, TOGETHER, &[]);
    measured(|| network.send(peer, &messages));
    assert_eq!(network.accepted(), 0);
    assert_eq!(network.refused(peer), u64::from(ROUTES));
}

/// The embedder's own routes, as for Services: from the call to the bytes.
fn encode_update() {
    let mut network = Network::default();
    let peer = network.add(Relay::Nothing);
    let changes = own_routes();
    let octets = measured(|| {
        network.update_routes(peer, changes);
        network.drain()
    });
    assert!(octets > ROUTES as usize * 4, "{octets}");
}

fn encode_withdrawal() {
    let mut network = Network::default();
    let peer = network.add(Relay::Nothing);
    let changes = own_routes();
    let withdrawals: Vec<RouteChange> = changes.iter().map(|change| RouteChange::Withdraw(prefix_of(change))).collect();
    network.update_routes(peer, changes);
    network.drain();
    let octets = measured(|| {
        network.update_routes(peer, withdrawals);
        network.drain()
    });
    assert!(octets > ROUTES as usize * 4, "{octets}");
}

fn insert() {
    let mut network = Network::default();
    let peer = network.add(Relay::Nothing);
    let messages = announcements(peer, ROUTES, TOGETHER, &[]);
    measured(|| network.send(peer, &messages));
    assert_eq!(network.accepted(), ROUTES as usize);
}

/// What is known already is said again, as after a route refresh.
fn insert_again() {
    let mut network = Network::default();
    let peer = network.add(Relay::Nothing);
    let messages = announcements(peer, ROUTES, TOGETHER, &[]);
    network.send(peer, &messages);
    measured(|| network.send(peer, &messages));
    assert_eq!(network.accepted(), ROUTES as usize);
}

fn replace() {
    let mut network = Network::default();
    let peer = network.add(Relay::Nothing);
    network.send(peer, &announcements(peer, ROUTES, TOGETHER, &[]));
    let messages = announcements(peer, ROUTES, TOGETHER, &[65_010]);
    measured(|| network.send(peer, &messages));
    assert_eq!(network.accepted(), ROUTES as usize);
}

fn withdraw() {
    let mut network = Network::default();
    let peer = network.add(Relay::Nothing);
    network.send(peer, &announcements(peer, ROUTES, TOGETHER, &[]));
    let messages = withdrawals(ROUTES);
    measured(|| network.send(peer, &messages));
    assert_eq!(network.accepted(), 0);
}

/// The tenth path to prefixes that have nine, and better than all of them.
fn select_of_ten() {
    let mut network = Network::default();
    let peers: Vec<u8> = (0..10).map(|_| network.add(Relay::RouteServerClient)).collect();
    let (last, first) = peers.split_last().expect("there are ten");
    for &peer in first {
        let longer: Vec<u32> = (0..u32::from(10 - peer % 10)).map(|hop| 65_010 + hop).collect();
        network.send(peer, &announcements(peer, ROUTES / 10, TOGETHER, &longer));
    }
    network.drain();
    let messages = announcements(*last, ROUTES / 10, TOGETHER, &[]);
    let octets = measured(|| {
        network.send(*last, &messages);
        network.drain()
    });
    assert_eq!(network.accepted(), ROUTES as usize);
    assert!(octets > 9 * (ROUTES as usize / 10) * 4, "nine hear of the better path: {octets}");
}

/// From one client of a route server to another.
fn relay() {
    let mut network = Network::default();
    let (feeder, _monitor) = (network.add(Relay::RouteServerClient), network.add(Relay::RouteServerClient));
    let messages = announcements(feeder, ROUTES, TOGETHER, &[]);
    let octets = measured(|| {
        network.send(feeder, &messages);
        network.drain()
    });
    assert!(octets > ROUTES as usize * 4, "{octets}");
}

fn relay_withdrawal() {
    let mut network = Network::default();
    let (feeder, _monitor) = (network.add(Relay::RouteServerClient), network.add(Relay::RouteServerClient));
    network.send(feeder, &announcements(feeder, ROUTES, TOGETHER, &[]));
    network.drain();
    let messages = withdrawals(ROUTES);
    let octets = measured(|| {
        network.send(feeder, &messages);
        network.drain()
    });
    assert!(octets > ROUTES as usize * 4, "{octets}");
}

/// Each prefix leaves before the next one comes: what a single change costs.
fn relay_one_by_one() {
    let mut network = Network::default();
    let (feeder, _monitor) = (network.add(Relay::RouteServerClient), network.add(Relay::RouteServerClient));
    let messages = announcements(feeder, ROUTES / 10, 1, &[]);
    let mut octets = 0;
    measured(|| {
        for message in &messages {
            network.send(feeder, std::slice::from_ref(message));
            octets += network.drain();
        }
    });
    assert!(octets > ROUTES as usize / 10 * 40, "{octets}");
}

/// One table to ten clients at a time.
fn relay_to_ten() {
    let mut network = Network::default();
    let feeder = network.add(Relay::RouteServerClient);
    for _ in 0..10 {
        network.add(Relay::RouteServerClient);
    }
    let messages = announcements(feeder, ROUTES / 10, TOGETHER, &[]);
    let octets = measured(|| {
        network.send(feeder, &messages);
        network.drain()
    });
    assert!(octets > ROUTES as usize * 4, "{octets}");
}

/// Each of ten clients forgets the whole table.
fn withdraw_from_ten() {
    let mut network = Network::default();
    let feeder = network.add(Relay::RouteServerClient);
    for _ in 0..10 {
        network.add(Relay::RouteServerClient);
    }
    network.send(feeder, &announcements(feeder, ROUTES / 10, TOGETHER, &[]));
    network.drain();
    let messages = withdrawals(ROUTES / 10);
    let octets = measured(|| {
        network.send(feeder, &messages);
        network.drain()
    });
    assert!(octets > ROUTES as usize * 4, "{octets}");
}

/// A client is gone, and with it what it told.
fn session_lost() {
    let mut network = Network::default();
    let (feeder, _monitor) = (network.add(Relay::RouteServerClient), network.add(Relay::RouteServerClient));
    network.send(feeder, &announcements(feeder, ROUTES, TOGETHER, &[]));
    network.drain();
    measured(|| {
        network.cut(feeder);
        network.drain()
    });
    assert_eq!(network.accepted(), 0);
}

/// Ten sets of attributes, as many as Advertisements may make.
fn own_routes() -> Vec<RouteChange> {
    let attributes: Vec<Arc<RouteAttributes>> = (0..10)
        .map(|number| {
            let communities = [Community(0xfbf4_0000 + number)].into();
            Arc::new(RouteAttributes { communities, ..RouteAttributes::default() })
        })
        .collect();
    let route = |number: u32| {
        let prefix = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(0x0a00_0000 + number), 32));
        RouteChange::Announce(prefix, Arc::clone(&attributes[number as usize % attributes.len()]))
    };
    (0..ROUTES).map(route).collect()
}

fn prefix_of(change: &RouteChange) -> IpNet {
    match change {
        RouteChange::Announce(prefix, _) | RouteChange::Withdraw(prefix) => *prefix,
    }
}
