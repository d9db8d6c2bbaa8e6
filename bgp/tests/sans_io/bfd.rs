//! What becomes of a BGP session when BFD loses the peer (RFC 5882 section 3.2, RFC 9384).

use std::time::Duration;

use roadstead_bgp::bfd::{BfdConfig, BfdFailure, Diagnostic};
use roadstead_bgp::{GracefulRestart, PeerConfig, SessionState, Shutdown};
use rustbgpd_wire::{Afi, Capability, GracefulRestartFamily, Message, Safi};

use crate::script::{Script, announcement, config, encode, key, peer_open};
use crate::stage::Stage as _;

const FAILURE: BfdFailure = BfdFailure {
    diagnostic: Diagnostic::DETECTION_TIME_EXPIRED,
    remote_diagnostic: Diagnostic::NONE,
    detection_time: Duration::from_millis(900),
};

fn lose_bfd(script: &mut Script) {
    script.speaker.handle_bfd_down(script.now, &key(), FAILURE).unwrap();
    script.perform();
}

#[test]
fn a_session_ends_at_once_and_says_why() {
    let mut script = Script::established(config());
    script.send(&announcement("18c00002"));
    lose_bfd(&mut script);
    let notification = script.last_words().unwrap();
    assert_eq!((notification.code.as_u8(), notification.subcode), (6, 10));
    assert_eq!(script.learned(), [""; 0]);
    let error = script.status().last_error.unwrap();
    assert!(error.contains("BFD session down: control detection time expired (1): no packet for 900ms"), "{error}");
    // It is tried again, whether BFD comes back or not.
    let dials = script.dials.len();
    script.advance(Duration::from_secs(10));
    assert!(script.dials.len() > dials);
    script.answer_dial();
    script.establish(peer_open());
}

/// A peer that restarts may lose BFD first: what is about to come up is its only way back (RFC 5882 section 4.3.2).
#[test]
fn what_is_not_a_session_yet_is_left_alone() {
    let mut connecting = Script::configured(config());
    lose_bfd(&mut connecting);
    assert_eq!(connecting.status().state, SessionState::Connect);
    let mut greeting = Script::connected(config());
    lose_bfd(&mut greeting);
    assert_eq!(greeting.status().state, SessionState::OpenSent);
    greeting.send(&encode(&Message::Open(peer_open())));
    lose_bfd(&mut greeting);
    assert_eq!(greeting.status().state, SessionState::OpenConfirm);
    greeting.send(&encode(&Message::Keepalive));
    assert!(greeting.is_established());
}

#[test]
fn news_of_a_peer_that_is_gone_is_no_error_of_the_others() {
    let mut script = Script::established(config());
    assert!(script.speaker.handle_bfd_down(script.now, &"other".into(), FAILURE).is_err());
    assert!(script.is_established());
}

#[test]
fn bfd_comes_and_goes_under_a_running_session() {
    let mut script = Script::established(config());
    let slower = BfdConfig { transmit_interval: Duration::from_secs(1), ..BfdConfig::new() };
    for bfd in [Some(BfdConfig::new()), Some(slower), None] {
        script.speaker.set_peer(script.now, key(), PeerConfig { bfd, ..config() }).unwrap();
        script.perform();
        assert!(script.is_established(), "{bfd:?}");
    }
    let unusable = Some(BfdConfig { multiplier: 0, ..BfdConfig::new() });
    assert!(script.speaker.set_peer(script.now, key(), PeerConfig { bfd: unusable, ..config() }).is_err());
}

/// A configured peer is watched all the time, and until it is known that nobody relies on it.
#[test]
fn a_peer_with_an_address_is_watched_whether_its_session_is_up_or_not() {
    let with_bfd = PeerConfig { bfd: Some(BfdConfig::new()), ..config() };
    let mut script = Script::configured(with_bfd.clone());
    let watched = |script: &Script| script.speaker.watched(&key()).map(|(path, bfd)| (path.to_string(), bfd));
    let expected = Some((with_bfd.transport.remote.ip().to_string(), BfdConfig::new()));
    assert_eq!(watched(&script), expected);
    script.answer_dial();
    script.establish(peer_open());
    assert_eq!(watched(&script), expected);
    lose_bfd(&mut script);
    assert_eq!(watched(&script), expected);
    script.speaker.set_peer(script.now, key(), config()).unwrap();
    assert_eq!(watched(&script), None);
    script.speaker.set_peer(script.now, key(), with_bfd).unwrap();
    script.speaker.shutdown(script.now, &Shutdown::Leave(String::new()));
    assert_eq!(watched(&script), None, "nothing begins any more");
}

/// Only a peer that keeps our routes is left without a word, and so hears of BFD's end last.
#[test]
fn who_keeps_our_routes_is_known_before_we_go() {
    let restart = Some(GracefulRestart::new(Duration::from_secs(120)));
    let agrees = Capability::GracefulRestart {
        restart_state: false,
        notification: false,
        restart_time: 60,
        families: vec![GracefulRestartFamily { afi: Afi::Ipv4, safi: Safi::Unicast, forwarding_preserved: true }],
    };
    let (restarting, leaving) = (Shutdown::Restart(String::new()), Shutdown::Leave(String::new()));
    for (ours, theirs, expected) in [(None, true, false), (restart.clone(), false, false), (restart, true, true)] {
        let mut script = Script::configured(PeerConfig { graceful_restart: ours, ..config() });
        script.answer_dial();
        let mut open = peer_open();
        open.capabilities.extend(theirs.then(|| agrees.clone()));
        script.establish(open);
        let silent = script.speaker.left_silently(&restarting);
        assert_eq!(silent.contains(&key()), expected, "they agree: {theirs}");
        assert!(script.speaker.left_silently(&leaving).is_empty());
        script.speaker.shutdown(script.now, &restarting);
        script.perform();
        assert_eq!(script.last_words().is_none(), expected, "what is said is what is done");
    }
}
