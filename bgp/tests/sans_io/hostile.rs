//! Whatever is sent in whatever order: no panic, bounded memory, and a state that makes sense.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use roadstead_bgp::{Family, GracefulRestart, PeerConfig, Shutdown};
use rustbgpd_wire::{Afi, Capability, GracefulRestartFamily, Message, OpenMessage, Safi};

use crate::script::{self, Script, announce, announcement, encode, key, raw, withdraw};
use crate::stage::Stage as _;

#[derive(Debug, Clone)]
enum Step {
    Dialled(usize),
    Closed(usize, bool),
    Bytes(usize, Vec<u8>),
    Written(usize, usize),
    Accepted,
    Pass(u64),
    Announce(u8),
    Withdraw(u8),
    Reconfigure(u8),
    Remove,
    Restart,
    Leave,
}

/// With everything that has consequences for routes.
fn config() -> PeerConfig {
    let restart = GracefulRestart {
        notification: true,
        forwarding_preserved: Family::ALL.into(),
        ..GracefulRestart::new(Duration::from_secs(120))
    };
    PeerConfig { graceful_restart: Some(restart), ..script::config() }
}

fn peer_open() -> OpenMessage {
    let mut open = script::peer_open();
    let family = |afi| GracefulRestartFamily { afi, safi: Safi::Unicast, forwarding_preserved: true };
    open.capabilities.push(Capability::EnhancedRouteRefresh);
    open.capabilities.push(Capability::GracefulRestart {
        restart_state: true,
        notification: true,
        restart_time: 60,
        families: vec![family(Afi::Ipv4), family(Afi::Ipv6)],
    });
    open
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let spoiled = (0..good_messages().len(), 0usize..120, any::<u8>()).prop_map(|(which, position, value)| {
        let mut bytes = good_messages().swap_remove(which);
        let position = position % bytes.len();
        bytes[position] = value;
        bytes
    });
    let garbage = (any::<u8>(), vec(any::<u8>(), 0..60)).prop_map(|(kind, body)| raw(kind % 7, &body));
    let attributes = vec((any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..12)), 0..6).prop_map(|attributes| {
        let mut block = Vec::new();
        for (flags, kind, value) in attributes {
            block.extend_from_slice(&[flags & 0xef, kind % 40, value.len() as u8]);
            block.extend_from_slice(&value);
        }
        let mut body = vec![0, 0, 0, block.len() as u8];
        body.extend_from_slice(&block);
        body.extend_from_slice(&[24, 192, 0, 2]);
        raw(2, &body)
    });
    prop_oneof![
        4 => (0..good_messages().len()).prop_map(|which| good_messages().swap_remove(which)),
        2 => spoiled,
        1 => garbage,
        2 => attributes,
        1 => vec(any::<u8>(), 0..40),
    ]
}

fn good_messages() -> Vec<Vec<u8>> {
    vec![
        encode(&Message::Open(peer_open())),
        raw(4, &[]),
        announcement("18c00002 180a0001"),
        raw(2, &[0, 4, 24, 192, 0, 2, 0, 0]),
        raw(5, &[0, 1, 0, 1]),
        raw(5, &[0, 1, 1, 1]),
        raw(5, &[0, 1, 2, 1]),
        raw(2, &[0, 0, 0, 0]),
        raw(3, &[6, 4]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0usize..4).prop_map(Step::Dialled),
        1 => ((0usize..4), any::<bool>()).prop_map(|(which, ordered)| Step::Closed(which, ordered)),
        8 => ((0usize..4), message()).prop_map(|(which, bytes)| Step::Bytes(which, bytes)),
        2 => ((0usize..4), 0usize..100).prop_map(|(which, count)| Step::Written(which, count)),
        1 => Just(Step::Accepted),
        3 => (0u64..100).prop_map(Step::Pass),
        2 => any::<u8>().prop_map(Step::Announce),
        2 => any::<u8>().prop_map(Step::Withdraw),
        1 => any::<u8>().prop_map(Step::Reconfigure),
        1 => Just(Step::Remove),
        1 => Just(Step::Restart),
        1 => Just(Step::Leave),
    ]
}

fn take(script: &mut Script, step: Step) {
    let now = script.now;
    let id = |script: &Script, which: usize| {
        let count = script.dials.len();
        script.dials.get(count.wrapping_sub(1 + which % 2)).map(|(_, id)| *id)
    };
    match step {
        Step::Dialled(which) => {
            if let Some(id) = id(script, which) {
                script.speaker.handle_dialled(now, id, script::endpoints());
            }
        }
        Step::Closed(which, ordered) => {
            if let Some(id) = id(script, which) {
                script.speaker.handle_closed(now, id, (!ordered).then(|| "reset".to_owned()));
            }
        }
        Step::Bytes(which, bytes) => {
            if let Some(id) = id(script, which) {
                script.speaker.handle_bytes(now, id, &bytes);
            }
        }
        Step::Written(which, count) => {
            if let Some(id) = id(script, which) {
                assert!(script.speaker.pending_write(now, id).len() <= 70 * 1024);
                script.speaker.handle_written(now, id, count);
            }
        }
        Step::Accepted => drop(script.dial_in()),
        Step::Pass(seconds) => script.advance(Duration::from_secs(seconds)),
        // The peer may have been removed.
        Step::Announce(index) => {
            let _ = script.speaker.update_routes(now, &key(), vec![announce(&format!("10.{index}.0.0/16"))]);
        }
        Step::Withdraw(index) => {
            let _ = script.speaker.update_routes(now, &key(), vec![withdraw(&format!("10.{index}.0.0/16"))]);
        }
        Step::Reconfigure(index) => {
            let mut config = config();
            config.hold_time = Duration::from_secs(3 + u64::from(index % 3));
            config.connect =
                if index.is_multiple_of(2) { roadstead_bgp::Connect::Both } else { roadstead_bgp::Connect::Dial };
            script.speaker.set_peer(now, key(), config).unwrap();
        }
        Step::Remove => {
            let _ = script.speaker.remove_peer(now, &key());
        }
        Step::Restart => script.speaker.shutdown(now, &Shutdown::Restart("test".into())),
        Step::Leave => script.speaker.shutdown(now, &Shutdown::Leave("test".into())),
    }
    script.perform();
}

fn check(script: &Script) {
    for status in script.speaker.status(script.now) {
        assert!(status.uptime.is_some() || status.prefixes_accepted == status.prefixes_stale, "{status:?}");
        assert!(status.prefixes_stale <= status.prefixes_accepted, "{status:?}");
        assert!(status.uptime.is_some() || status.prefixes_sent == 0, "{status:?}");
        assert!(status.last_refusals.len() <= 100, "{status:?}");
        assert!(status.last_malformed.as_ref().is_none_or(|update| update.octets.len() <= 256));
        assert!(status.prefixes_sent <= 600, "{status:?}");
        assert_eq!(status.uptime.is_some(), status.state == roadstead_bgp::SessionState::Established);
    }
    if let Some(deadline) = script.speaker.next_deadline() {
        assert!(deadline >= script.now, "a deadline in the past was not handled");
    }
}

/// An octet a second, until the connection is gone: how many those were, and the code of the NOTIFICATION.
fn send_slowly(script: &mut Script, octets: &[u8]) -> (usize, u8) {
    for (sent, octet) in octets.iter().enumerate() {
        if script.connection.is_none() {
            return (sent, script.last_words().unwrap().code.as_u8());
        }
        script.send(&[*octet]);
        script.advance(Duration::from_secs(1));
    }
    panic!("{} octets were heard out", octets.len());
}

/// RFC 4271 sections 6.5 and 8.2.2: half a message is none, so neither an OPEN nor an UPDATE that never ends holds a timer off.
#[test]
fn an_octet_a_second_holds_no_timer_off() {
    // As long as an OPEN can be with capabilities that nobody knows.
    let unknown = [&[2, 253, 200, 251][..], &[0; 251]].concat();
    let open = raw(1, &[&[4, 0xfc, 0, 0, 90, 10, 0, 0, 2, 255][..], &unknown].concat());
    let mut script = Script::connected(script::config());
    assert_eq!(send_slowly(&mut script, &open), (240, 4), "four minutes are for the OPEN");

    let mut script = Script::established(script::config());
    assert_eq!(send_slowly(&mut script, &raw(2, &[0; 4000])), (90, 4), "the hold time");
    assert_eq!(script.status().messages_in, 2, "OPEN and KEEPALIVE");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_events_is_survived(steps in vec(step(), 0..60)) {
        let mut script = Script::configured(config());
        // Outputs are taken, but whether anything is written is up to the steps.
        script.reading = false;
        for step in steps {
            take(&mut script, step);
            script.advance(Duration::ZERO);
            check(&script);
        }
    }

    #[test]
    fn any_bytes_in_an_established_session_are_survived(messages in vec(message(), 1..20), size in 1usize..50) {
        let mut script = Script::established_with(config(), peer_open());
        for piece in messages.concat().chunks(size) {
            if script.connection.is_some() {
                script.send(piece);
            }
        }
        check(&script);
        // Ended in words, or still there.
        if script.connection.is_none() {
            prop_assert!(script.status().last_error.is_some());
        }
    }
}
