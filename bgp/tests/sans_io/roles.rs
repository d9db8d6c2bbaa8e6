//! Roles, and routes that must only go down to customers (RFC 9234).

use roadstead_bgp::{Asn, PeerConfig, RefusalReason, Role, RoleStrictness};
use rustbgpd_wire::{BgpRole, Capability, Message, PathAttribute};

use crate::script::{Script, announce, config, encode, hex, peer_open, raw};

fn config_of(role: Role) -> PeerConfig {
    PeerConfig { role: Some(role), ..config() }
}

#[test]
fn a_mismatch_is_refused_in_words() {
    let cases = [
        ("two customers", RoleStrictness::Lenient, Some(BgpRole::Customer), "it must be Provider"),
        ("silence to a strict one", RoleStrictness::Strict, None, "it must say Provider"),
    ];
    for (name, role_strictness, role, expected) in cases {
        let mut open = peer_open();
        open.capabilities.extend(role.map(|role| Capability::Role { role }));
        let mut script = Script::connected(PeerConfig { role_strictness, ..config_of(Role::Customer) });
        script.send(&encode(&Message::Open(open)));
        let notification = script.last_words().unwrap();
        assert_eq!((notification.code.as_u8(), notification.subcode), (2, 11), "{name}");
        let error = script.status().last_error.unwrap();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let mut script = Script::connected(config_of(Role::Customer));
    script.send(&raw(3, &[2, 11]));
    assert!(script.status().last_error.unwrap().contains("role mismatch (2/11)"));
}

#[test]
fn marked_routes_are_kept_or_refused_by_our_role() {
    let path = "400101 00 400206 0201 0000fc00 400304 c0000201";
    let (none, from_peer, from_other) = ("", "c02304 0000fc00", "c02304 0000fde9");
    let (peer, other) = (Some(Some(Asn(64512))), Some(Some(Asn(65001))));
    // Our role, the mark of a received route; the mark that it is kept with, or `None` if it is refused.
    let cases = [
        (Some(Role::Customer), none, peer),
        (Some(Role::Customer), from_other, other),
        (Some(Role::RouteServerClient), none, peer),
        (Some(Role::Peer), none, peer),
        (Some(Role::Peer), from_peer, peer),
        (Some(Role::Peer), from_other, None),
        (Some(Role::Provider), none, Some(None)),
        (Some(Role::Provider), from_peer, None),
        (Some(Role::RouteServer), from_peer, None),
        (None, none, Some(None)),
        (None, from_other, other),
    ];
    for (role, mark, expected) in cases {
        let mut script = Script::established(PeerConfig { role, ..config() });
        let attributes = hex(&format!("{path} {mark}"));
        let length = u8::try_from(attributes.len()).unwrap();
        script.send(&raw(2, &[&[0, 0, 0, length][..], &attributes, &hex("18c00002")].concat()));
        let learned = script.speaker.learned();
        let kept = learned.get(&"192.0.2.0/24".parse().unwrap()).map(|paths| paths[0].only_to_customer);
        assert_eq!(kept, expected, "{role:?} {mark}");
        let refused = script.status().refused.get(&RefusalReason::RouteLeak).copied();
        assert_eq!(refused, expected.is_none().then_some(1), "{role:?} {mark}");
    }
}

#[test]
fn what_goes_to_customers_and_peers_is_marked_as_ours() {
    let cases = [
        (None, false),
        (Some(Role::Customer), false),
        (Some(Role::RouteServerClient), false),
        (Some(Role::Peer), true),
        (Some(Role::Provider), true),
        (Some(Role::RouteServer), true),
    ];
    for (role, expected) in cases {
        let mut script = Script::established(PeerConfig { role, ..config() });
        script.update_routes(vec![announce("192.0.2.0/24"), announce("2001:db8:1::/48")]);
        let messages = script.read();
        assert_eq!(messages.len(), 2, "one for each family");
        for message in messages {
            let Message::Update(update) = message else { panic!("an UPDATE") };
            let attributes = update.parse(true, false, &[]).unwrap().attributes;
            let marked = attributes.contains(&PathAttribute::OnlyToCustomer(64500));
            assert_eq!(marked, expected, "{role:?}");
        }
    }
}
