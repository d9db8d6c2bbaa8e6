//! What becomes of a BGP session when BFD loses the peer (RFC 5882 section 3.2, RFC 9384).

use std::time::Duration;

use roadstead_bgp::bfd::{BfdConfig, BfdFailure, Diagnostic};
use roadstead_bgp::{DynamicPeers, PeerConfig, SessionState};
use rustbgpd_wire::Message;

use crate::script::{Script, announcement, config, encode, key, peer_open};

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

/// A BFD session needs an address from the start; a range has none.
#[test]
fn peers_from_a_prefix_are_refused_bfd_in_words() {
    let template = PeerConfig { bfd: Some(BfdConfig::new()), ..config() };
    let mut peers = DynamicPeers { prefix: "10.77.0.0/16".parse().unwrap(), max_sessions: 4, template };
    let error = peers.check().unwrap_err().to_string();
    assert!(error.contains("BFD is for peers with an address, and 10.77.0.0/16 is none"), "{error}");
    peers.template.bfd = None;
    assert_eq!(peers.check(), Ok(()));
}
