//! What goes out and what is kept of what comes in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use roadstead_bgp::MalformedOutcome::{self, AttributeDiscarded, SessionReset, TreatedAsWithdrawn};
use roadstead_bgp::{Asn, Community, Family, NextHops, PeerAsn, Refusal, RefusalReason, RouteAttributes, RouteChange};
use rustbgpd_wire::{Message, OpenMessage, PathAttribute};

use crate::script::{Script, announce, announcement, config, hex, key, peer_open, raw, withdraw};
use crate::stage::Stage as _;

/// The UPDATEs and refreshes among the messages, one word for each thing that they say.
pub(crate) fn said(messages: &[Message]) -> Vec<String> {
    let mut words = Vec::new();
    for message in messages {
        if let Message::RouteRefresh(refresh) = message {
            let kind = ["refresh", "begin", "end of refresh"][usize::from(refresh.subtype_raw)];
            words.push(format!("{kind} {}", if refresh.afi_raw == 1 { "IPv4" } else { "IPv6" }));
        }
        let Message::Update(update) = message else { continue };
        let parsed = update.parse(true, false, &[]).unwrap();
        words.extend(parsed.withdrawn.iter().map(|entry| format!("-{}", entry.prefix)));
        words.extend(parsed.announced.iter().map(|entry| format!("+{}", entry.prefix)));
        let mut empty = parsed.withdrawn.is_empty() && parsed.announced.is_empty();
        for attribute in &parsed.attributes {
            match attribute {
                PathAttribute::MpReachNlri(reach) => {
                    empty = false;
                    words.extend(reach.announced.iter().map(|entry| format!("+{}", prefix(entry))));
                }
                PathAttribute::MpUnreachNlri(unreach) => {
                    empty = false;
                    words.extend(unreach.withdrawn.iter().map(|entry| format!("-{}", prefix(entry))));
                    if unreach.withdrawn.is_empty() {
                        words.push("end IPv6".to_owned());
                    }
                }
                _ => {}
            }
        }
        if empty {
            words.push("end IPv4".to_owned());
        }
    }
    words
}

fn prefix(entry: &rustbgpd_wire::NlriEntry) -> String {
    match entry.prefix {
        rustbgpd_wire::Prefix::V4(prefix) => prefix.to_string(),
        rustbgpd_wire::Prefix::V6(prefix) => prefix.to_string(),
    }
}

fn updates(messages: &[Message]) -> usize {
    messages.iter().filter(|message| matches!(message, Message::Update(_))).count()
}

#[test]
fn the_first_dump_ends_with_end_of_rib_once_everything_was_said() {
    let mut script = Script::connected(config());
    script.update_routes(vec![announce("192.0.2.0/24"), announce("2001:db8:1::/48")]);
    script.establish_and_keep();
    assert_eq!(said(&script.read()), ["+192.0.2.0/24", "+2001:db8:1::/48"]);
    script.update_routes(vec![announce("198.51.100.0/24")]);
    assert_eq!(said(&script.read()), ["+198.51.100.0/24"]);
    script.speaker.initial_set_complete(script.now, &key()).unwrap();
    script.perform();
    assert_eq!(said(&script.read()), ["end IPv4", "end IPv6"]);

    // On the next session the dump is complete at once.
    script.send(&raw(3, &[6, 4]));
    script.advance(Duration::from_secs(20));
    script.answer_dial();
    script.establish_and_keep();
    let expected = ["+192.0.2.0/24", "+198.51.100.0/24", "+2001:db8:1::/48", "end IPv4", "end IPv6"];
    assert_eq!(said(&script.read()), expected);
}

#[test]
fn an_empty_table_has_an_end_too() {
    let mut script = Script::connected(config());
    script.speaker.initial_set_complete(script.now, &key()).unwrap();
    script.establish_and_keep();
    assert_eq!(said(&script.read()), ["end IPv4", "end IPv6"]);
}

impl Script {
    /// Like `establish`, but what follows the handshake is left to be read.
    pub(crate) fn establish_and_keep(&mut self) {
        self.read();
        self.send(&crate::script::encode(&Message::Open(peer_open())));
        self.read();
        self.send(&raw(4, &[]));
        assert!(self.is_established());
    }
}

#[test]
fn only_differences_are_sent_and_withdrawals_come_first() {
    let mut script = Script::established(config());
    script.update_routes(vec![announce("192.0.2.0/24"), announce("198.51.100.0/24")]);
    assert_eq!(said(&script.read()), ["+192.0.2.0/24", "+198.51.100.0/24"]);

    script.update_routes(vec![announce("192.0.2.0/24")]);
    assert_eq!(said(&script.read()), [""; 0], "told already");
    script.update_routes(vec![withdraw("203.0.113.0/24")]);
    assert_eq!(said(&script.read()), [""; 0], "never told");
    script.update_routes(vec![announce("203.0.113.0/24"), withdraw("192.0.2.0/24")]);
    assert_eq!(said(&script.read()), ["-192.0.2.0/24", "+203.0.113.0/24"]);
    // Host bits name the same route.
    script.update_routes(vec![RouteChange::Withdraw("203.0.113.77/24".parse().unwrap())]);
    assert_eq!(said(&script.read()), ["-203.0.113.0/24"]);
}

/// `told` is announced first; then comes one change, and what is said about it is read.
#[track_caller]
fn check_order(told: &[&str], change: &[&str], expected: &[&str]) {
    let parse = |word: &&str| match word.split_at(1) {
        ("+", prefix) => announce(prefix),
        (_, prefix) => withdraw(prefix),
    };
    let mut script = Script::established(config());
    script.update_routes(told.iter().map(|prefix| announce(prefix)).collect());
    script.read();
    script.update_routes(change.iter().map(parse).collect());
    assert_eq!(said(&script.read()), expected, "{change:?}");
}

#[test]
fn a_route_that_replaces_another_goes_before_its_withdrawal() {
    let (host, net) = ("203.0.113.7/32", "203.0.113.0/24");
    check_order(&[host], &["-203.0.113.7/32", "+203.0.113.0/24"], &["+203.0.113.0/24", "-203.0.113.7/32"]);
    check_order(&[net], &["+203.0.113.7/32", "-203.0.113.0/24"], &["+203.0.113.7/32", "-203.0.113.0/24"]);
    check_order(&["2001:db8::1/128"], &["-2001:db8::1/128", "+2001:db8::/64"], &["+2001:db8::/64", "-2001:db8::1/128"]);
    // What has nothing to do with it keeps the order that it has.
    check_order(
        &[host, "198.51.100.1/32"],
        &["+192.0.2.0/24", "-203.0.113.7/32", "-198.51.100.1/32", "+203.0.113.0/24"],
        &["-198.51.100.1/32", "+203.0.113.0/24", "-203.0.113.7/32", "+192.0.2.0/24"],
    );
    // The peer has the covering route already: it need not wait for its new attributes.
    check_order(&[host, net], &["-203.0.113.7/32", "+203.0.113.0/24"], &["-203.0.113.7/32"]);
    // The last word about a prefix counts.
    check_order(&[host], &["+203.0.113.0/24", "-203.0.113.7/32", "-203.0.113.0/24"], &["-203.0.113.7/32"]);
}

#[test]
fn a_replacement_that_changes_before_a_full_socket_still_goes_first() {
    let mut script = Script::established(config());
    script.update_routes(vec![announce("203.0.113.7/32"), announce("198.51.100.1/32")]);
    script.read();
    // More than the buffer takes, so that what follows waits where it can still change.
    script.reading = false;
    let bulk = (0..30_000u32).map(|index| announce(&format!("20.{}.{}.0/24", index / 256, index % 256)));
    script.update_routes(bulk.collect());
    script.update_routes(vec![withdraw("203.0.113.7/32"), announce("203.0.113.0/24"), announce("192.0.2.0/24")]);
    // A change of its own, so the withdrawal in it waits for nothing.
    script.update_routes(vec![withdraw("198.51.100.1/32")]);
    script.update_routes(vec![announce("198.51.100.0/24")]);
    let tagged = Arc::new(RouteAttributes { med: Some(1), ..RouteAttributes::default() });
    script.update_routes(vec![RouteChange::Announce("203.0.113.0/24".parse().unwrap(), tagged)]);
    script.update_routes(vec![withdraw("203.0.113.0/24"), announce("203.0.113.0/25")]);
    // All is put in line again.
    script.send(&raw(5, &[0, 1, 0, 1]));
    script.reading = true;
    script.drain();
    let expected = ["-198.51.100.1/32", "+203.0.113.0/25", "-203.0.113.7/32", "+192.0.2.0/24", "+198.51.100.0/24"];
    let words = said(&script.read());
    let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.starts_with("+20.")).collect();
    assert_eq!(words, expected);
}

#[test]
fn a_change_of_attributes_alone_is_sent() {
    let mut script = Script::established(config());
    script.update_routes(vec![announce("192.0.2.0/24")]);
    script.read();
    let tagged = RouteAttributes { communities: vec![Community::NO_EXPORT], ..RouteAttributes::default() };
    let change = RouteChange::Announce("192.0.2.0/24".parse().unwrap(), Arc::new(tagged));
    script.update_routes(vec![change]);
    let messages = script.read();
    // NO_EXPORT is for the peer to obey; what we add on export does not filter it.
    assert_eq!(said(&messages), ["+192.0.2.0/24"]);
}

#[test]
fn prefixes_with_the_same_attributes_share_an_update() {
    let mut script = Script::established(config());
    let med = |med: u32| Arc::new(RouteAttributes { med: Some(med), ..RouteAttributes::default() });
    let route = |index: u32, med: &Arc<RouteAttributes>| {
        RouteChange::Announce(format!("10.{}.{}.0/24", index / 256, index % 256).parse().unwrap(), Arc::clone(med))
    };
    let sets = [med(1), med(2)];
    let changes: Vec<RouteChange> = (0..2000).map(|index| route(index, &sets[index as usize % 2])).collect();
    script.update_routes(changes);
    let messages = script.read();
    assert_eq!(said(&messages).len(), 2000);
    assert_eq!(updates(&messages), 2, "1000 prefixes of 4 octets fit into one message");
}

#[test]
fn a_prefix_that_flaps_before_a_full_socket_costs_one_entry_and_ends_in_its_last_state() {
    for last_is_announced in [true, false] {
        let mut script = Script::established(config());
        script.update_routes(vec![announce("192.0.2.0/24")]);
        script.read();
        script.reading = false;
        // Something has to be in the buffer for the socket to be full of.
        script.update_routes(vec![announce("198.51.100.0/24")]);
        for _ in 0..10_000 {
            script.update_routes(vec![withdraw("192.0.2.0/24")]);
            script.update_routes(vec![announce("192.0.2.0/24")]);
        }
        if !last_is_announced {
            script.update_routes(vec![withdraw("192.0.2.0/24")]);
        }
        let id = script.connection.unwrap();
        assert!(script.speaker.pending_write(script.now, id).len() < 80 * 1024, "a slow peer costs bounded memory");
        script.reading = true;
        script.drain();
        let words = said(&script.read());
        let last = words.iter().rfind(|word| word.ends_with("192.0.2.0/24"));
        match last_is_announced {
            true => assert!(last.is_none_or(|word| word.starts_with('+')), "{last:?}"),
            false => assert_eq!(last.map(String::as_str), Some("-192.0.2.0/24")),
        }
    }
}

#[test]
fn a_peer_that_does_not_read_costs_a_buffer_and_no_table() {
    let mut script = Script::established(config());
    script.reading = false;
    let changes = (0..60_000u32).map(|index| announce(&format!("20.{}.{}.0/24", index / 256, index % 256)));
    script.update_routes(changes.collect());
    let id = script.connection.unwrap();
    assert!(script.speaker.pending_write(script.now, id).len() <= 64 * 1024 + 4096);
    assert!(script.status().prefixes_sent < 20_000);
    script.reading = true;
    script.drain();
    assert_eq!(said(&script.read()).len(), 60_000);
    assert_eq!(script.status().prefixes_sent, 60_000);
}

#[test]
fn a_refresh_brings_one_family_again_and_loses_no_withdrawal() {
    let mut script = Script::established(config());
    script.update_routes(vec![announce("192.0.2.0/24"), announce("198.51.100.0/24"), announce("2001:db8:1::/48")]);
    script.read();
    script.send(&raw(5, &[0, 1, 0, 1]));
    assert_eq!(said(&script.read()), ["+192.0.2.0/24", "+198.51.100.0/24"]);
    script.send(&raw(5, &[0, 2, 0, 1]));
    assert_eq!(said(&script.read()), ["+2001:db8:1::/48"]);
    // Families that were not negotiated, and demarcations that nobody asked for, are ignored.
    script.send(&raw(5, &[0, 1, 0, 128]));
    script.send(&raw(5, &[0x40, 4, 0, 1]));
    script.send(&raw(5, &[0, 1, 1, 1]));
    assert_eq!(said(&script.read()), [""; 0]);

    // A route that goes while the refresh waits for the socket was still known to the peer.
    script.reading = false;
    script.send(&raw(5, &[0, 1, 0, 1]));
    let id = script.connection.unwrap();
    let _ = script.speaker.pending_write(script.now, id);
    script.send(&raw(5, &[0, 1, 0, 1]));
    script.update_routes(vec![withdraw("192.0.2.0/24")]);
    script.reading = true;
    script.drain();
    let words = said(&script.read());
    assert_eq!(words.iter().rfind(|word| word.contains("192.0.2.0")).map(String::as_str), Some("-192.0.2.0/24"));
}

#[test]
fn next_hops_can_change_under_a_session() {
    let mut script = Script::established(config());
    script.update_routes(vec![announce("192.0.2.0/24"), announce("2001:db8:1::/48")]);
    script.read();
    let mut changed = config();
    changed.next_hops = NextHops { ipv4: Some("203.0.113.5".parse().unwrap()), ipv6: config().next_hops.ipv6 };
    script.speaker.set_peer(script.now, key(), changed.clone()).unwrap();
    script.perform();
    let messages = script.read();
    assert_eq!(said(&messages), ["+192.0.2.0/24"], "IPv6 has the next hop that it had");
    let Message::Update(update) = &messages[0] else { panic!("an UPDATE") };
    let parsed = update.parse(true, false, &[]).unwrap();
    assert!(parsed.attributes.contains(&PathAttribute::NextHop("203.0.113.5".parse().unwrap())));

    changed.next_hops.ipv6 = None;
    script.speaker.set_peer(script.now, key(), changed).unwrap();
    script.perform();
    assert_eq!(said(&script.read()), ["-2001:db8:1::/48"]);
    assert_eq!(script.status().withheld, BTreeSet::from([Family::Ipv6Unicast]));
    assert!(script.is_established());
}

#[test]
fn next_hops_come_from_configuration_session_interface_and_fallback_in_this_order() {
    let v6 = |text: &str| Some(text.parse().unwrap());
    // Configured, of the interface, fallback; what is taken for IPv6 over an IPv4 session.
    let cases = [
        (v6("2001:db8::a"), v6("2001:db8::b"), v6("2001:db8::c"), Some("2001:db8::a")),
        (None, v6("2001:db8::b"), v6("2001:db8::c"), Some("2001:db8::b")),
        (None, None, v6("2001:db8::c"), Some("2001:db8::c")),
        (None, None, None, None),
    ];
    for (configured, interface, fallback, expected) in cases {
        let mut config = config();
        config.next_hops.ipv6 = configured;
        config.fallback_next_hops.ipv6 = fallback;
        let mut script = Script::configured(config);
        script.update_routes(vec![announce("192.0.2.0/24"), announce("2001:db8:1::/48")]);
        let (_, id) = script.dials[0];
        let mut endpoints = crate::script::endpoints();
        endpoints.interface.ipv6 = interface;
        script.connection = Some(id);
        script.speaker.handle_dialled(script.now, id, endpoints);
        script.perform();
        script.establish_and_keep();
        let mut seen = BTreeMap::new();
        for message in script.read() {
            let Message::Update(update) = message else { continue };
            for attribute in update.parse(true, false, &[]).unwrap().attributes {
                match attribute {
                    PathAttribute::NextHop(next_hop) => seen.insert("IPv4", next_hop.to_string()),
                    PathAttribute::MpReachNlri(reach) => seen.insert("IPv6", reach.next_hop.to_string()),
                    _ => None,
                };
            }
        }
        assert_eq!(seen.get("IPv4").map(String::as_str), Some("192.0.2.10"));
        assert_eq!(seen.get("IPv6").map(String::as_str), expected);
        assert_eq!(script.status().withheld.contains(&Family::Ipv6Unicast), expected.is_none());
    }
}

#[test]
fn routes_whose_attributes_do_not_fit_are_left_out_and_shown() {
    let mut script = Script::established(config());
    let huge =
        Arc::new(RouteAttributes { communities: (0..1100).map(Community).collect(), ..RouteAttributes::default() });
    let prefix = "192.0.2.0/24".parse().unwrap();
    script.update_routes(vec![announce("192.0.2.0/24"), announce("198.51.100.0/24")]);
    script.read();
    script.update_routes(vec![RouteChange::Announce(prefix, huge), announce("203.0.113.0/24")]);
    let words = said(&script.read());
    // What the peer was told before is not true any more.
    assert_eq!(BTreeSet::from_iter(words), ["-192.0.2.0/24", "+203.0.113.0/24"].map(str::to_owned).into());
    assert_eq!(script.status().prefixes_too_large, 1);
    script.update_routes(vec![announce("192.0.2.0/24")]);
    assert_eq!(said(&script.read()), ["+192.0.2.0/24"]);
    assert_eq!(script.status().prefixes_too_large, 0);
}

#[test]
fn a_family_that_was_not_negotiated_is_not_announced() {
    let mut open = peer_open();
    open.capabilities.remove(1);
    let mut script = Script::established_with(config(), open);
    script.speaker.initial_set_complete(script.now, &key()).unwrap();
    script.update_routes(vec![announce("192.0.2.0/24"), announce("2001:db8:1::/48")]);
    assert_eq!(said(&script.read()), ["+192.0.2.0/24", "end IPv4"]);
}

#[test]
fn an_internal_peer_gets_local_preference_and_an_empty_path() {
    let mut config = config();
    config.peer_asn = PeerAsn::Exactly(Asn(64500));
    let mut open = OpenMessage { my_as: 64500, ..peer_open() };
    open.capabilities[3] = rustbgpd_wire::Capability::FourOctetAs { asn: 64500 };
    let mut script = Script::established_with(config, open);
    script.update_routes(vec![announce("192.0.2.0/24")]);
    let messages = script.read();
    let Some(Message::Update(update)) = messages.first() else { panic!("an UPDATE") };
    let attributes = update.parse(true, false, &[]).unwrap().attributes;
    assert!(attributes.contains(&PathAttribute::LocalPref(100)));
    assert!(attributes.contains(&PathAttribute::AsPath(rustbgpd_wire::AsPath { segments: Vec::new() })));
}

#[test]
fn accepted_routes_are_shown_and_refused_ones_counted_and_not_kept() {
    let mut config = config();
    let rule = |text: &str, le| roadstead_bgp::PrefixRule { prefix: text.parse().unwrap(), ge: None, le };
    config.import.accept = vec![rule("10.0.0.0/8", Some(24))];
    let mut script = Script::established(config);
    // 10.1.0.0/16, 10.1.1.1/32, 192.0.2.0/24, 127.0.0.0/8.
    script.send(&announcement("100a01 200a010101 18c00002 087f"));
    assert_eq!(script.learned(), ["10.1.0.0/16"]);
    let status = script.status();
    let refused: Vec<(RefusalReason, u64)> = status.refused.into_iter().collect();
    assert_eq!(refused, [(RefusalReason::NotAccepted, 2), (RefusalReason::Martian, 1)]);
    assert_eq!((status.prefixes_received, status.prefixes_accepted), (4, 1));
    let last: Vec<String> = status.last_refusals.iter().map(explain).collect();
    let not_accepted = |prefix| format!("{prefix} by 192.0.2.1, path 64512: not accepted by the import rules");
    let expected = [
        not_accepted("10.1.1.1/32"),
        not_accepted("192.0.2.0/24"),
        "127.0.0.0/8 by 192.0.2.1, path 64512: martian prefix".to_owned(),
    ];
    assert_eq!(last, expected);

    let path = &script.speaker.learned()[&"10.1.0.0/16".parse().unwrap()][0];
    assert_eq!(
        (path.peer.as_str(), path.next_hop.to_string(), path.as_path.to_string()),
        ("tor-a", "192.0.2.1".into(), "64512".into())
    );

    // The same route with our own AS number in its path replaces what was accepted: it is gone.
    script.send(&raw(2, &hex("0000 0018 400101 00 40020a 0202 0000fc00 0000fbf4 400304 c0000201 100a01")));
    assert_eq!(script.learned(), [""; 0]);
    assert_eq!(script.status().refused[&RefusalReason::OwnAsn], 1);
}

#[test]
fn withdrawn_and_replaced_in_one_update_is_announced() {
    let mut script = Script::established(config());
    script.send(&announcement("18c00002"));
    script.send(&raw(2, &hex("0004 18c00002 0014 400101 00 400206 0201 0000fc00 400304 c0000201 18c00002")));
    assert_eq!(script.learned(), ["192.0.2.0/24"]);
    script.send(&raw(2, &hex("0004 18c00002 0000")));
    assert_eq!(script.learned(), [""; 0]);
}

#[test]
fn learned_routes_end_with_their_session() {
    let mut script = Script::established(config());
    script.send(&announcement("18c00002"));
    script.events.clear();
    script.send(&raw(3, &[6, 2]));
    assert_eq!(script.learned(), [""; 0]);
    assert!(script.events.contains(&roadstead_bgp::Event::RoutesChanged));
}

#[test]
fn a_changed_import_policy_applies_at_once_and_asks_again() {
    let mut script = Script::established(config());
    script.send(&announcement("18c00002 180a0001"));
    script.read();
    let mut narrow = config();
    narrow.import.accept =
        vec![roadstead_bgp::PrefixRule { prefix: "10.0.0.0/8".parse().unwrap(), ge: None, le: Some(32) }];
    script.speaker.set_peer(script.now, key(), narrow).unwrap();
    script.perform();
    assert_eq!(script.learned(), ["10.0.1.0/24"]);
    assert!(script.is_established());
    let refreshes = script.read().iter().filter(|message| matches!(message, Message::RouteRefresh(_))).count();
    assert_eq!(refreshes, 2, "one for each family");
}

#[test]
fn malformed_updates_cost_routes_and_not_the_session() {
    let mut script = Script::established(config());
    script.send(&announcement("18c00002"));
    // ORIGIN 3.
    script.send(&raw(2, &hex("0000 0014 400101 03 400206 0201 0000fc00 400304 c0000201 18c00002")));
    assert_eq!(script.learned(), [""; 0]);
    // ATOMIC_AGGREGATE with a value.
    script.send(&raw(2, &hex("0000 0018 400101 00 400206 0201 0000fc00 400304 c0000201 400601 00 18c00002")));
    assert_eq!(script.learned(), ["192.0.2.0/24"]);
    let status = script.status();
    assert!(script.is_established());
    assert_eq!((status.updates_treated_as_withdrawn, status.updates_with_discarded_attributes), (1, 1));
    assert_eq!(status.refused[&RefusalReason::TreatedAsWithdrawn], 1);
}

fn explain(refusal: &Refusal) -> String {
    let next_hop = refusal.next_hop.map(|address| address.to_string()).unwrap_or_default();
    format!("{} by {next_hop}, path {}: {}", refusal.prefix, refusal.as_path, refusal.reason)
}

#[test]
fn malformed_updates_are_kept_with_the_octets_to_blame() {
    let good = "400206 0201 0000fc00 400304 c0000201";
    let long = format!("c00805 {}", "00".repeat(5)) + &format!("d0fe 0190 {}", "ab".repeat(400));
    let (wide, narrow) = (format!("400101 00 {good} {long}"), hex(&long));
    // Attributes, prefixes; what becomes of the UPDATE, and the octets that are kept.
    let cases: [(&str, &str, &str, MalformedOutcome, Vec<u8>); 5] = [
        ("ORIGIN 3", &format!("400101 03 {good}"), "18c00002", TreatedAsWithdrawn, hex(&format!("400101 03 {good}"))),
        ("no ORIGIN", good, "18c00002", TreatedAsWithdrawn, hex(good)),
        ("COMMUNITIES of length 5", &wide, "18c00002", TreatedAsWithdrawn, narrow[..256].to_vec()),
        ("a value", &format!("400101 00 {good} 400601 00"), "18c00002", AttributeDiscarded, hex("400601 00")),
        ("prefix cut", &format!("400101 00 {good}"), "18c000", SessionReset, hex("18c000")),
    ];
    for (name, attributes, nlri, outcome, octets) in cases {
        let mut script = Script::established(config());
        let attributes = hex(attributes);
        let mut body = [&[0, 0][..], &u16::try_from(attributes.len()).unwrap().to_be_bytes(), &attributes].concat();
        body.extend_from_slice(&hex(nlri));
        script.send(&raw(2, &body));
        let status = script.status();
        let malformed = status.last_malformed.unwrap();
        assert_eq!(
            (malformed.outcome, &malformed.octets[..], malformed.at),
            (outcome, &octets[..], script.now),
            "{name}"
        );
        let refused: Vec<String> = status.last_refusals.iter().map(explain).collect();
        match outcome {
            TreatedAsWithdrawn => {
                assert_eq!(
                    refused,
                    ["192.0.2.0/24 by 192.0.2.1, path : malformed UPDATE, treated as withdrawn"],
                    "{name}"
                );
                assert_eq!(status.last_refusals[0].malformed, Some(malformed), "{name}");
            }
            AttributeDiscarded | SessionReset => assert_eq!(refused, [""; 0], "{name}"),
        }
    }
    // Lengths that do not add up leave nothing to tell apart: the body as it came.
    let mut script = Script::established(config());
    script.send(&raw(2, &hex("0000 0009 400101")));
    assert_eq!(script.status().last_malformed.unwrap().octets[..], hex("0000 0009 400101"));
}

#[test]
fn routes_of_a_family_that_was_not_negotiated_are_refused_by_name() {
    let mut open = peer_open();
    open.capabilities.remove(1);
    let mut script = Script::established_with(config(), open);
    let reach = "800e1c 0002 01 10 20010db8000000000000000000000002 00 3020010db80001";
    script.send(&raw(2, &hex(&format!("0000 002c {reach} 400101 00 400206 0201 0000fc00"))));
    let refused: Vec<String> = script.status().last_refusals.iter().map(explain).collect();
    assert_eq!(refused, ["2001:db8:1::/48 by 2001:db8::2, path 64512: address family not negotiated"]);
    assert!(script.is_established());
}

#[test]
fn the_last_hundred_refusals_are_kept_also_when_the_session_is_gone() {
    let mut config = config();
    config.import.accept.clear();
    let mut script = Script::established(config);
    for index in 0..300u32 {
        script.send(&announcement(&format!("20 0a00{index:04x}")));
        script.advance(Duration::from_millis(1));
    }
    // A path that is longer than what is kept of it.
    let path = format!("5002 00ca 0232 0000fc00 {}", "0000fde9".repeat(49));
    let attributes = hex(&format!("400101 00 {path} 400304 c0000201"));
    script.send(&raw(2, &[&hex("0000")[..], &[0, attributes.len() as u8], &attributes, &hex("20 0a00ffff")].concat()));
    script.send(&raw(3, &[6, 2]));
    let status = script.status();
    assert!(status.uptime.is_none());
    let last = &status.last_refusals;
    assert_eq!((last.len(), last[0].prefix), (100, "10.0.0.201/32".parse().unwrap()));
    assert!(last.is_sorted_by_key(|refusal| refusal.at));
    assert_eq!((last[99].prefix, last[99].as_path.0.len()), ("10.0.255.255/32".parse().unwrap(), Refusal::MAX_AS_PATH));
}

#[test]
fn whoever_follows_the_routes_is_told_what_there_is_and_then_what_changes() {
    let mut script = Script::established(config());
    let changed = |script: &mut Script, limit| -> Vec<(String, usize)> {
        let changed = script.speaker.changed_routes(limit);
        changed.into_iter().map(|route| (route.prefix.to_string(), route.paths.len())).collect()
    };
    script.send(&announcement("18 cb 00 71"));
    assert!(changed(&mut script, 9).is_empty(), "nobody follows");
    script.speaker.follow_routes();
    assert_eq!(changed(&mut script, 9), [("203.0.113.0/24".to_owned(), 1)]);
    assert!(changed(&mut script, 9).is_empty());
    // Twice changed is one entry, as it is when it is asked for; and no more are given than are asked for.
    script.send(&announcement("18 c6 33 64"));
    script.send(&announcement("18 c6 33 64"));
    script.send(&announcement("18 cb 00 71"));
    assert_eq!(changed(&mut script, 1), [("198.51.100.0/24".to_owned(), 1)]);
    script.speaker.remove_peer(script.now, &key()).unwrap();
    let gone = [("198.51.100.0/24".to_owned(), 0), ("203.0.113.0/24".to_owned(), 0)];
    assert_eq!(changed(&mut script, 9), gone);
    assert!(changed(&mut script, 9).is_empty());
}
