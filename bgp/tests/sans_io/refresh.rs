//! Route refresh with its beginning and end (RFC 7313), in both directions.

use std::time::Duration;

use roadstead_bgp::{Event, GracefulRestart, PeerConfig};
use rustbgpd_wire::{Capability, Message, OpenMessage};

use crate::routes::said;
use crate::script::{Script, announce, announcement, encode, key, peer_open, raw, withdraw};
use crate::stage::Stage as _;

/// With graceful restart, without which the capability is not offered.
fn config() -> PeerConfig {
    PeerConfig { graceful_restart: Some(GracefulRestart::new(Duration::from_secs(60))), ..crate::script::config() }
}

/// The peer's OPEN with the capability.
fn open() -> OpenMessage {
    let mut open = peer_open();
    open.capabilities.push(Capability::EnhancedRouteRefresh);
    open
}

const REQUEST: &[u8] = &[0, 1, 0, 1];
const BEGIN: &[u8] = &[0, 1, 1, 1];
const END: &[u8] = &[0, 1, 2, 1];
const END_OF_RIB: &[u8] = &[0, 0, 0, 0];

/// Established, two routes told, and End-of-RIB too.
fn told() -> Script {
    let mut script = Script::established_with(config(), open());
    script.speaker.initial_set_complete(script.now, &key()).unwrap();
    script.update_routes(vec![announce("192.0.2.0/24"), announce("198.51.100.0/24"), announce("2001:db8:1::/48")]);
    script.read();
    script
}

#[test]
fn an_answer_stands_between_its_beginning_and_its_end() {
    let mut script = told();
    script.send(&raw(5, REQUEST));
    assert_eq!(said(&script.read()), ["begin IPv4", "+192.0.2.0/24", "+198.51.100.0/24", "end of refresh IPv4"]);
    script.send(&raw(5, &[0, 2, 0, 1]));
    assert_eq!(said(&script.read()), ["begin IPv6", "+2001:db8:1::/48", "end of refresh IPv6"]);
    // An empty table has a beginning and an end too.
    script.update_routes(vec![withdraw("2001:db8:1::/48")]);
    script.read();
    script.send(&raw(5, &[0, 2, 0, 1]));
    assert_eq!(said(&script.read()), ["begin IPv6", "end of refresh IPv6"]);
    // Families that were not negotiated are not answered.
    script.send(&raw(5, &[0, 1, 0, 128]));
    assert_eq!(said(&script.read()), [""; 0]);
}

#[test]
fn whoever_asks_again_and_again_gets_one_answer_after_the_other() {
    let mut script = told();
    script.reading = false;
    let bulk = (0..30_000u32).map(|index| announce(&format!("20.{}.{}.0/24", index / 256, index % 256)));
    script.update_routes(bulk.collect());
    for _ in 0..100 {
        script.send(&raw(5, REQUEST));
        let id = script.connection.unwrap();
        let _ = script.speaker.pending_write(script.now, id);
    }
    script.reading = true;
    script.drain();
    let words = said(&script.read());
    let marks: Vec<&str> = words.iter().map(String::as_str).filter(|word| word.contains("IPv4")).collect();
    assert_eq!(marks, ["begin IPv4", "end of refresh IPv4"], "nothing was answered yet when it asked again");

    // While an answer is on its way another one waits for its end.
    script.reading = false;
    script.send(&raw(5, REQUEST));
    for _ in 0..100 {
        script.send(&raw(5, REQUEST));
    }
    script.reading = true;
    script.drain();
    let words = said(&script.read());
    let marks: Vec<&str> = words.iter().map(String::as_str).filter(|word| word.contains("IPv4")).collect();
    assert_eq!(marks, ["begin IPv4", "end of refresh IPv4", "begin IPv4", "end of refresh IPv4"]);
    assert_eq!(words.iter().filter(|word| *word == "+192.0.2.0/24").count(), 2);
}

#[test]
fn before_end_of_rib_an_answer_has_no_marks() {
    let mut script = Script::established_with(config(), open());
    script.update_routes(vec![announce("192.0.2.0/24")]);
    script.read();
    script.send(&raw(5, REQUEST));
    assert_eq!(said(&script.read()), ["+192.0.2.0/24"]);
    script.speaker.initial_set_complete(script.now, &key()).unwrap();
    script.perform();
    assert_eq!(said(&script.read()), ["end IPv4", "end IPv6"]);
    script.send(&raw(5, REQUEST));
    assert_eq!(said(&script.read()), ["begin IPv4", "+192.0.2.0/24", "end of refresh IPv4"]);
}

/// 10.1.0.0/16, 10.2.0.0/16 are known; then comes a refresh of the first alone.
#[track_caller]
fn check(name: &str, config: PeerConfig, open: OpenMessage, messages: &[&[u8]], expected: &[&str]) {
    let mut script = Script::established_with(config, open);
    script.send(&announcement("100a01 100a02"));
    for message in messages {
        script.send(message);
    }
    assert_eq!(script.learned(), expected, "{name}");
}

#[test]
fn what_a_refresh_does_not_confirm_is_gone() {
    let (first, both) = (["10.1.0.0/16"], ["10.1.0.0/16", "10.2.0.0/16"]);
    let (begin, end, again) = (raw(5, BEGIN), raw(5, END), announcement("100a01"));
    check("marked", config(), open(), &[&begin, &again, &end], &first);
    check("not over yet", config(), open(), &[&begin, &again], &both);
    check("an end alone", config(), open(), &[&end], &both);
    check("another family", config(), open(), &[&begin, &again, &raw(5, &[0, 2, 2, 1])], &both);
    check("nothing any more", config(), open(), &[&begin, &end], &[]);
    check("not agreed", config(), peer_open(), &[&begin, &again, &end], &both);
    check("begun twice", config(), open(), &[&begin, &announcement("100a02"), &begin, &again, &end], &first);

    // RFC 7313 section 4: of a peer that restarts gracefully not before End-of-RIB.
    let restarting =
        || PeerConfig { graceful_restart: Some(GracefulRestart::new(Duration::from_secs(120))), ..config() };
    let mut helper = open();
    helper.capabilities.push(Capability::GracefulRestart {
        restart_state: false,
        notification: false,
        restart_time: 120,
        families: Vec::new(),
    });
    check("before End-of-RIB", restarting(), helper.clone(), &[&begin, &again, &end], &both);
    check("after End-of-RIB", restarting(), helper, &[&raw(2, END_OF_RIB), &begin, &again, &end], &first);
}

#[test]
fn a_refresh_without_an_end_ends_with_time_or_the_session() {
    let mut script = Script::established_with(config(), open());
    script.send(&announcement("100a01 100a02"));
    script.send(&raw(5, BEGIN));
    script.send(&announcement("100a01"));
    script.events.clear();
    for _ in 0..12 {
        script.advance(Duration::from_secs(30));
        script.send(&raw(4, &[]));
    }
    assert_eq!(script.learned(), ["10.1.0.0/16"]);
    assert!(script.events.contains(&Event::RoutesChanged));

    script.send(&raw(5, BEGIN));
    script.send(&raw(3, &[6, 4]));
    assert_eq!(script.learned(), [""; 0]);
}

#[test]
fn our_own_requests_are_answered_the_same_way() {
    let mut script = Script::established_with(config(), open());
    script.send(&announcement("100a01 100a02"));
    script.read();
    let mut changed = config();
    changed.import.max_prefixes = Some(roadstead_bgp::MaxPrefixes::new(10));
    script.speaker.set_peer(script.now, key(), changed).unwrap();
    script.perform();
    assert_eq!(said(&script.read()), ["refresh IPv4", "refresh IPv6"]);
    let answer = [raw(5, BEGIN), announcement("100a02"), raw(5, END), encode(&Message::Keepalive)].concat();
    script.send(&answer);
    assert_eq!(script.learned(), ["10.2.0.0/16"]);
}
