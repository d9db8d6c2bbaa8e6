//! The maximum of prefixes: what counts, the warning, and both ways to deal with one too many.

use std::time::Duration;

use roadstead_bgp::{Accepted, Connect, Event, Excess, Family, LimitState, MaxPrefixes, PeerConfig, RefusalReason};

use super::routes::said;
use super::script::{Script, announcement, config, hex, key, peer_open, raw};
use super::stage::Stage as _;

fn limited(limit: u32, excess: Excess) -> PeerConfig {
    let mut config = config();
    config.import.max_prefixes = Some(MaxPrefixes { excess, ..MaxPrefixes::new(limit) });
    config
}

/// Prefixes 10.`first`.0.0/16 and so on.
fn sixteens(first: u8, count: u8) -> Vec<u8> {
    let nlri: Vec<String> = (first..first + count).map(|second| format!("100a{second:02x}")).collect();
    announcement(&nlri.join(" "))
}

/// 10.`second`.0.0/16.
fn withdrawal(second: u8) -> Vec<u8> {
    raw(2, &hex(&format!("0003 100a{second:02x} 0000")))
}

fn state(script: &Script, family: Family) -> LimitState {
    let limits = script.status().limits;
    limits.iter().find(|limit| limit.family == family).unwrap().state
}

fn warnings(script: &Script) -> usize {
    script.events.iter().filter(|event| matches!(event, Event::MaxPrefixesNear { .. })).count()
}

/// Lets time pass; the peer stays alive.
fn pass(script: &mut Script, seconds: u64) {
    for _ in 0..seconds {
        script.advance(Duration::from_secs(1));
        script.send(&raw(4, &[]));
    }
}

#[test]
fn the_limit_counts_accepted_prefixes_only() {
    let mut script = Script::established(limited(3, Excess::Close { restart: None }));
    // Three, one of them a martian, one announced twice, one withdrawn that never was.
    script.send(&announcement("18c00002 087f 180a0001"));
    script.send(&announcement("18c00002"));
    script.send(&raw(2, &hex("0004 18c63364 0000")));
    script.send(&announcement("180a0002"));
    assert!(script.is_established());
    assert_eq!(script.status().prefixes_accepted, 3);
    script.send(&announcement("180a0003"));
    let notification = script.last_words().unwrap();
    assert_eq!((notification.code.as_u8(), notification.subcode), (6, 1));
    assert_eq!(notification.data[..], [0, 1, 1, 0, 0, 0, 3], "AFI, SAFI and the limit (RFC 4486)");
    assert!(script.learned().is_empty());
    let error = script.status().last_error.unwrap();
    assert!(error.contains("more than the 3 IPv4 unicast prefixes allowed by import.maxPrefixes"), "{error}");
}

#[test]
fn each_family_has_the_limit_for_itself() {
    let mut script = Script::established(limited(2, Excess::Close { restart: None }));
    script.send(&sixteens(1, 2));
    // 2001:db8:1::/48 and 2001:db8:2::/48 by 2001:db8::1.
    let attributes = "400101 00  400206 0201 0000fc00";
    let nlri = |prefixes: &str, length: &str| {
        format!("900e {length} 0002 01 10 20010db8000000000000000000000001 00 {prefixes}")
    };
    let two = nlri("30 20010db80001 30 20010db80002", "0023");
    script.send(&raw(2, &hex(&format!("0000 0034 {two} {attributes}"))));
    assert!(script.is_established());
    let three = nlri("30 20010db80003", "001c");
    script.send(&raw(2, &hex(&format!("0000 002d {three} {attributes}"))));
    assert_eq!(script.last_words().unwrap().data[..], [0, 2, 1, 0, 0, 0, 2]);
}

#[test]
fn the_operator_is_warned_once_per_crossing_and_never_in_a_flood() {
    let mut script = Script::established(limited(4, Excess::Close { restart: None }));
    script.send(&sixteens(1, 2));
    assert_eq!((warnings(&script), state(&script, Family::Ipv4Unicast)), (0, LimitState::Below));
    script.send(&sixteens(3, 1));
    let expected = Event::MaxPrefixesNear { peer: key(), family: Family::Ipv4Unicast, accepted: 3, limit: 4 };
    assert!(script.events.contains(&expected), "{:?}", script.events);
    script.send(&sixteens(4, 1));
    assert_eq!((warnings(&script), state(&script, Family::Ipv4Unicast)), (1, LimitState::Warned));
    assert_eq!(state(&script, Family::Ipv6Unicast), LimitState::Below);

    for _ in 0..10 {
        script.send(&[withdrawal(3), withdrawal(4)].concat());
        assert_eq!(state(&script, Family::Ipv4Unicast), LimitState::Below);
        script.send(&sixteens(3, 2));
    }
    assert_eq!(warnings(&script), 1, "within a minute");
    pass(&mut script, 60);
    script.send(&[withdrawal(3), withdrawal(4)].concat());
    script.send(&sixteens(3, 2));
    assert_eq!(warnings(&script), 2);
}

#[test]
fn a_session_with_too_many_rests_for_its_time_and_comes_back() {
    let mut config = limited(2, Excess::Close { restart: Some(Duration::from_secs(300)) });
    config.connect = Connect::Both;
    let mut script = Script::established(config);
    script.send(&sixteens(1, 3));
    let closed = script.now;
    assert_eq!(script.last_words().unwrap().subcode, 1);
    assert_eq!(script.status().state.name(), "Idle");
    assert_eq!(script.status().next_attempt, Some(closed + Duration::from_secs(300)));
    assert!(script.status().last_error.unwrap().ends_with("stays closed for 300s"));
    let dials = script.dials.len();
    script.advance(Duration::from_secs(299));
    assert_eq!(script.dials.len(), dials, "it does not dial");
    assert_eq!(script.dial_in(), Accepted::Refused(Vec::new()), "nor is it there for who dials");
    script.advance(Duration::from_secs(1));
    assert_eq!(script.dials.len(), dials + 1);
    script.answer_dial();
    script.establish(peer_open());
    script.send(&sixteens(1, 2));
    assert!(script.is_established());
}

#[test]
fn without_a_time_only_another_configuration_opens_it_again() {
    let mut config = limited(2, Excess::Close { restart: None });
    config.connect = Connect::Both;
    let mut script = Script::established(config.clone());
    script.send(&sixteens(1, 3));
    assert_eq!(script.last_words().unwrap().subcode, 1);
    assert!(script.status().last_error.unwrap().ends_with("stays closed until its configuration changes"));
    let dials = script.dials.len();
    script.advance(Duration::from_secs(86_400));
    assert_eq!((script.dials.len(), script.status().state.name()), (dials, "Idle"));
    assert_eq!(script.speaker.next_deadline(), None);
    let Accepted::Refused(words) = script.dial_in() else { panic!("a connection was taken") };
    assert_eq!(words[19..21], [6, 5], "connection rejected");

    // The same once more is no other configuration.
    script.speaker.set_peer(script.now, key(), config.clone()).unwrap();
    script.perform();
    assert_eq!(script.dials.len(), dials);
    config.import.max_prefixes = Some(MaxPrefixes::new(3));
    script.speaker.set_peer(script.now, key(), config).unwrap();
    script.perform();
    script.answer_dial();
    script.establish(peer_open());
    script.send(&sixteens(1, 3));
    assert!(script.is_established());
}

#[test]
fn what_is_beyond_can_be_dropped_and_is_asked_for_when_there_is_room() {
    let mut script = Script::established(limited(2, Excess::Drop));
    script.read();
    script.send(&sixteens(1, 4));
    assert_eq!(script.learned(), ["10.1.0.0/16", "10.2.0.0/16"]);
    let status = script.status();
    assert_eq!(status.refused[&RefusalReason::BeyondMaxPrefixes], 2);
    assert_eq!(status.last_refusals.last().unwrap().reason, RefusalReason::BeyondMaxPrefixes);
    assert_eq!(state(&script, Family::Ipv4Unicast), LimitState::Dropping);
    assert!(script.is_established());

    // The same again, with MED 7: what is there can change.
    script.send(&raw(2, &hex("0000 001b 400101 00 400206 0201 0000fc00 400304 c0000201 800404 00000007 100a02")));
    assert_eq!(script.speaker.learned()[&"10.2.0.0/16".parse().unwrap()][0].med, Some(7));

    script.send(&withdrawal(9));
    assert_eq!(said(&script.read()), [""; 0], "what was not there leaves no room");
    script.send(&withdrawal(1));
    assert_eq!(said(&script.read()), ["refresh IPv4"]);
    script.send(&sixteens(2, 3));
    assert_eq!(script.learned(), ["10.2.0.0/16", "10.3.0.0/16"]);

    // A peer that plays with its table is not asked for all of it each time.
    script.send(&[withdrawal(2), sixteens(2, 1), withdrawal(3), sixteens(3, 1), withdrawal(2)].concat());
    assert_eq!(said(&script.read()), [""; 0]);
    pass(&mut script, 30);
    let asked: Vec<String> = said(&script.read()).into_iter().filter(|said| said.starts_with("refresh")).collect();
    assert_eq!(asked, ["refresh IPv4"]);
    script.send(&sixteens(3, 1));
    assert_eq!(state(&script, Family::Ipv4Unicast), LimitState::Below);
}

#[test]
fn a_peer_that_cannot_be_asked_is_not() {
    let mut open = peer_open();
    open.capabilities.retain(|capability| !matches!(capability, rustbgpd_wire::Capability::RouteRefresh));
    let mut script = Script::established_with(limited(1, Excess::Drop), open);
    script.read();
    script.send(&sixteens(1, 2));
    script.send(&withdrawal(1));
    assert_eq!(said(&script.read()), [""; 0]);
    assert_eq!(state(&script, Family::Ipv4Unicast), LimitState::Dropping, "the operator sees that some are missing");
}

#[test]
fn more_room_brings_what_was_dropped() {
    let mut script = Script::established(limited(1, Excess::Drop));
    script.send(&sixteens(1, 2));
    script.read();
    script.speaker.set_peer(script.now, key(), limited(5, Excess::Drop)).unwrap();
    script.perform();
    assert_eq!(said(&script.read()), ["refresh IPv4", "refresh IPv6"]);
    // Less room than there is routes ends nothing when what is beyond is to be dropped, and the session when not.
    script.send(&sixteens(1, 2));
    script.speaker.set_peer(script.now, key(), limited(1, Excess::Drop)).unwrap();
    script.perform();
    assert_eq!(script.learned().len(), 2);
    script.speaker.set_peer(script.now, key(), limited(1, Excess::Close { restart: None })).unwrap();
    script.perform();
    assert_eq!(script.last_words().unwrap().subcode, 1);
}
