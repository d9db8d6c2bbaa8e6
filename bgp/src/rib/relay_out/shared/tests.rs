//! What is made, and how often. That it is what each peer should hear is shown by the tests of the table.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use rustbgpd_wire::{AsPath, AsPathSegment, Origin, PathAttribute};

use super::*;
use crate::next_hop::ExtendedNextHops;
use crate::rib::{Identity, Rib};
use crate::update::ReceivedAttributes;
use crate::update::relayed::RelaySession;
use crate::{PeerKey, Relay};

const CLUSTER: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

fn session(relay: Relay) -> RelaySession {
    RelaySession {
        families: [true, true],
        paths: [1, 1],
        four_octet_asn: true,
        max_message: 4096,
        extended_next_hops: ExtendedNextHops::No,
        cluster: relay.cluster(),
        own_next_hops: None,
        only_to_customer: None,
        withholds_marked: false,
        aigp: false,
    }
}

/// So many peers with a session, all alike.
fn peers(rib: &mut Rib, relay: Relay, count: u8) -> Vec<MemberId> {
    let peer = |number: u8| {
        let member = rib.add_member(PeerKey::from(&*number.to_string()), relay);
        let internal = relay != Relay::RouteServerClient;
        let address = Ipv4Addr::new(192, 0, 2, number).into();
        let identity = Identity { internal, transparent: !internal, router_id: number.into(), address };
        rib.begin_session(member, identity, Some(session(relay)));
        member
    };
    (1..=count).map(peer).collect()
}

fn announce(rib: &mut Rib, member: MemberId, prefixes: &[&str], asns: &[u32]) {
    let path = AsPath { segments: vec![AsPathSegment::AsSequence(asns.to_vec())] };
    let next_hop = Ipv4Addr::new(198, 51, 100, 1);
    let list = vec![PathAttribute::Origin(Origin::Igp), PathAttribute::AsPath(path), PathAttribute::NextHop(next_hop)];
    let route = rib.route(&ReceivedAttributes::new(list, true, None), next_hop.into());
    for prefix in prefixes {
        let prefix: IpNet = prefix.parse().unwrap();
        rib.insert(member, prefix, 0, &route);
    }
}

/// All that it is to be told.
fn hear(rib: &mut Rib, member: MemberId) -> Vec<u8> {
    let mut octets = BytesMut::new();
    while rib.next_message(member, &mut octets) {}
    octets.to_vec()
}

/// Messages that were made, and sets of attributes that were.
fn made(rib: &Rib) -> (usize, usize, usize) {
    let shared = &rib.groups[0].shared;
    (shared.withdrawals.len(), shared.announcements.len(), shared.rewritten.len())
}

#[test]
fn what_is_the_same_for_all_is_made_once() {
    for relay in [Relay::RouteServerClient, Relay::ReflectorClient { cluster: CLUSTER }] {
        let mut rib = Rib::new(1);
        let peers = peers(&mut rib, relay, 6);
        peers.iter().for_each(|peer| assert!(hear(&mut rib, *peer).is_empty()));
        announce(&mut rib, peers[0], &["10.0.0.0/24", "10.0.1.0/24"], &[65001]);
        announce(&mut rib, peers[0], &["10.0.2.0/24"], &[65001, 65002]);
        let rewritten = if relay.cluster().is_some() { 2 } else { 0 };
        let first = hear(&mut rib, peers[1]);
        assert_eq!(made(&rib), (0, 2, rewritten));
        for peer in &peers[2..5] {
            assert_eq!(hear(&mut rib, *peer), first);
            assert_eq!(made(&rib), (0, 2, rewritten));
        }
        // The last one leaves nothing behind.
        assert_eq!(hear(&mut rib, peers[5]), first);
        assert_eq!(made(&rib), (0, 0, 0));
        assert!(peers[1..].iter().all(|peer| rib.told(*peer) == 3));

        for prefix in ["10.0.0.0/24", "10.0.2.0/24"] {
            rib.remove(peers[0], &prefix.parse().unwrap(), 0);
        }
        let first = hear(&mut rib, peers[1]);
        assert_eq!(made(&rib), (1, 0, 0));
        for peer in &peers[2..] {
            assert_eq!(hear(&mut rib, *peer), first);
        }
        assert!(peers[1..].iter().all(|peer| rib.told(*peer) == 1));
    }
}

#[test]
fn whoever_is_not_in_step_gets_messages_of_its_own() {
    let mut rib = Rib::new(1);
    let peers = peers(&mut rib, Relay::RouteServerClient, 5);
    peers.iter().for_each(|peer| assert!(hear(&mut rib, *peer).is_empty()));
    // One whose own path is the best of all, and gets another's.
    announce(&mut rib, peers[0], &["10.0.0.0/24"], &[65001]);
    announce(&mut rib, peers[1], &["10.0.0.0/24"], &[65001, 65002]);
    let of_second = hear(&mut rib, peers[0]);
    assert_eq!(made(&rib), (0, 0, 0), "nobody else is to hear it");
    let of_first = hear(&mut rib, peers[1]);
    assert_ne!(of_second, of_first);
    assert_eq!(made(&rib), (0, 1, 0));
    assert_eq!(hear(&mut rib, peers[2]), of_first);
    assert_eq!(made(&rib), (0, 1, 0));
    // One that has heard less so far: what it hears now is not what was made before the change.
    announce(&mut rib, peers[1], &["10.0.1.0/24"], &[65001, 65002]);
    let both = hear(&mut rib, peers[3]);
    let further = hear(&mut rib, peers[2]);
    assert!(both.len() > further.len() && both.ends_with(&further));
    assert_eq!(hear(&mut rib, peers[4]), both);
    assert_eq!(made(&rib), (0, 2, 0));
    assert!(hear(&mut rib, peers[1]).is_empty());
    assert_eq!(hear(&mut rib, peers[0]), further);
    // Gone for all but those that have another path now.
    rib.remove(peers[0], &"10.0.0.0/24".parse().unwrap(), 0);
    let other = hear(&mut rib, peers[2]);
    assert!(hear(&mut rib, peers[0]).is_empty(), "it has that of the second");
    assert_eq!(hear(&mut rib, peers[1]).len(), 19 + 4 + 4, "a withdrawal");
    assert_eq!(hear(&mut rib, peers[3]), other);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut rib = Rib::new(1);
    let peers = peers(&mut rib, Relay::ReflectorClient { cluster: CLUSTER }, 3);
    for number in 0..20_000u32 {
        let [_, a, b, _] = (number << 8).to_be_bytes();
        announce(&mut rib, peers[0], &[&format!("10.{a}.{b}.0/24")], &[65536 + number]);
    }
    let first = hear(&mut rib, peers[1]);
    assert!(first.len() > 4 * MOST, "{}", first.len());
    assert!(rib.groups[0].shared.octets.len() <= MOST + 4096, "{}", rib.groups[0].shared.octets.len());
    assert_eq!(hear(&mut rib, peers[2]).len(), first.len());
}
