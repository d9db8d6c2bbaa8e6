//! How sessions come up and end: codes, timers, patience.

use std::net::Ipv4Addr;
use std::time::Duration;

use roadstead_bgp::{Accepted, Asn, Connect, Event, PeerAsn, SessionState, Shutdown};
use rustbgpd_wire::{Capability, Message, NotificationMessage, OpenMessage, decode_message};

use crate::script::{Script, announcement, config, encode, hex, key, peer_open, raw};
use crate::stage::Stage as _;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn codes(notification: &NotificationMessage) -> (u8, u8) {
    (notification.code.as_u8(), notification.subcode)
}

fn open_with(adjust: impl FnOnce(&mut OpenMessage)) -> Vec<u8> {
    let mut open = peer_open();
    adjust(&mut open);
    encode(&Message::Open(open))
}

/// What the peer sends in which state, and the NOTIFICATION that it gets: code, subcode, data.
#[test]
fn every_error_has_its_notification() {
    let keepalive = || raw(4, &[]);
    let mut unsynchronized = keepalive();
    unsynchronized[3] = 0;
    let mut wrong_length = keepalive();
    wrong_length[17] = 20;
    let mut too_long = keepalive();
    too_long[16..18].copy_from_slice(&4097_u16.to_be_bytes());
    let plain_update = || raw(2, &[0, 0, 0, 0]);
    let refresh = || raw(5, &[0, 1, 0, 1]);
    let body = |mut message: Vec<u8>| message.split_off(19);
    let version_3 = {
        let mut body = body(encode(&Message::Open(peer_open())));
        body[0] = 3;
        raw(1, &body)
    };
    let strange_parameter = raw(1, &hex("04 fc00 005a 0a000002 03 09 01 00"));

    use SessionState::{Established, OpenConfirm, OpenSent};
    let cases: Vec<(&str, SessionState, Vec<u8>, (u8, u8), Vec<u8>)> = vec![
        ("marker", OpenSent, unsynchronized.clone(), (1, 1), vec![]),
        ("marker", Established, unsynchronized, (1, 1), vec![]),
        ("length of KEEPALIVE", Established, wrong_length, (1, 2), vec![0, 20]),
        ("length over 4096", Established, too_long, (1, 2), vec![0x10, 0x01]),
        ("type", OpenConfirm, raw(9, &[]), (1, 3), vec![9]),
        ("version", OpenSent, version_3, (2, 1), vec![0, 4]),
        (
            "AS number",
            OpenSent,
            open_with(|open| open.capabilities[3] = Capability::FourOctetAs { asn: 64999 }),
            (2, 2),
            vec![],
        ),
        ("identifier", OpenSent, open_with(|open| open.bgp_identifier = Ipv4Addr::UNSPECIFIED), (2, 3), vec![]),
        ("optional parameter", OpenSent, strange_parameter, (2, 4), vec![]),
        ("hold time 1", OpenSent, open_with(|open| open.hold_time = 1), (2, 6), vec![]),
        ("hold time 2", OpenSent, open_with(|open| open.hold_time = 2), (2, 6), vec![]),
        (
            "no family in common",
            OpenSent,
            open_with(|open| {
                open.capabilities[..2].fill(Capability::Unknown { code: 1, data: vec![0, 1, 0, 4].into() })
            }),
            (2, 7),
            vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1],
        ),
        ("OPEN cut in a capability", OpenSent, raw(1, &hex("04 fc00 005a 0a000002 04 02 06 41 04")), (2, 0), vec![]),
        (
            "OPEN says length 255 and ends (CVE-2022-43681)",
            OpenSent,
            raw(1, &hex("04 fc00 005a 0a000002 ff")),
            (2, 0),
            vec![],
        ),
        (
            "extended OPEN cut (CVE-2022-40302)",
            OpenSent,
            raw(1, &hex("04 fc00 005a 0a000002 ff ff 0002 02 00")),
            (2, 0),
            vec![],
        ),
        ("KEEPALIVE too early", OpenSent, keepalive(), (5, 1), vec![4]),
        ("UPDATE too early", OpenSent, plain_update(), (5, 1), vec![2]),
        ("ROUTE-REFRESH too early", OpenSent, refresh(), (5, 1), vec![5]),
        ("UPDATE too early", OpenConfirm, plain_update(), (5, 2), vec![2]),
        ("ROUTE-REFRESH too early", OpenConfirm, refresh(), (5, 2), vec![5]),
        ("second OPEN", OpenConfirm, encode(&Message::Open(peer_open())), (5, 2), vec![1]),
        ("second OPEN", Established, encode(&Message::Open(peer_open())), (5, 3), vec![1]),
        ("withdrawn routes beyond the end", Established, raw(2, &[0, 9, 0, 0]), (3, 1), vec![]),
        ("attributes beyond the end", Established, raw(2, &[0, 0, 0, 9]), (3, 1), vec![]),
        ("prefix /33", Established, raw(2, &hex("0000 0000 21c0000200 00")), (3, 10), hex("21c000020000")),
        ("BoRR too long", Established, raw(5, &[0, 1, 1, 1, 0]), (7, 1), raw(5, &[0, 1, 1, 1, 0])),
    ];
    for (name, state, bytes, expected, data) in cases {
        let mut script = Script::connected(config());
        if state >= OpenConfirm {
            script.send(&encode(&Message::Open(peer_open())));
        }
        if state == Established {
            script.send(&keepalive());
        }
        assert_eq!(script.status().state, state, "{name}");
        script.send(&bytes);
        let notification = script.last_words().unwrap_or_else(|| panic!("{name} in {state}: no NOTIFICATION"));
        assert_eq!(codes(&notification), expected, "{name} in {state}");
        assert_eq!(notification.data, data, "{name} in {state}");
        assert!(script.status().last_error.is_some(), "{name} in {state}");
    }
}

#[test]
fn a_received_notification_is_not_answered_and_told_in_words() {
    let cases: &[(&[u8], &str)] = &[
        (
            &[2, 2],
            "tor-a (192.0.2.1): peer refused our OPEN: bad peer AS (2/2): we are AS 64500; check localASN here and the ASN configured there",
        ),
        (&[2, 6], "unacceptable hold time (2/6)"),
        (&[4, 0], "(4/0)"),
        (&[6, 2], "(6/2)"),
        (&[6, 2, 3, b'b', b'y', b'e'], "(6/2): \"bye\""),
        // RFC 9003: a text that is not what its length says is not shown.
        (&[6, 2, 9, b'b', b'y', b'e'], "(6/2)"),
        (&[6, 5], "peer rejected the connection (6/5)"),
        (&[8, 0], "(8/0)"),
        (&[42, 7], "(42/7)"),
    ];
    for (body, expected) in cases {
        let mut script = Script::connected(config());
        script.read();
        script.send(&raw(3, body));
        assert_eq!(script.last_words(), None, "{body:?}");
        let error = script.status().last_error.unwrap();
        assert!(error.contains(expected), "{error}");
    }
}

/// A router that has closed a session for a reason often takes connections and drops them: the reason is still what matters.
#[test]
fn words_are_not_followed_by_less() {
    for (body, expected) in [(&[2, 2][..], "(2/2)"), (&[6, 1], "(6/1)"), (&[6, 2, 3, b'b', b'y', b'e'], "bye")] {
        let mut script = Script::established(config());
        script.advance(seconds(1));
        script.send(&raw(3, body));
        for closing in [None, Some("reset".to_owned())] {
            dial_again(&mut script);
            script.speaker.handle_closed(script.now, script.connection.unwrap(), closing);
            script.perform();
        }
        let error = script.status().last_error.unwrap();
        assert!(error.contains(expected), "{error}");
    }
    // What is lost of a session that was up is told, whatever was told before it.
    let mut script = Script::connected(config());
    script.send(&raw(3, &[6, 1]));
    script.read();
    dial_again(&mut script);
    script.establish(peer_open());
    script.speaker.handle_closed(script.now, script.connection.unwrap(), None);
    script.perform();
    let error = script.status().last_error.unwrap();
    assert!(error.contains("closed the connection without a NOTIFICATION"), "{error}");
}

#[test]
fn a_failed_dial_is_forgotten_once_there_is_a_session() {
    let mut script = Script::configured(config());
    let (_, dialled) = script.dials[0];
    script.speaker.handle_closed(script.now, dialled, Some("connection refused".to_owned()));
    script.perform();
    assert!(script.status().last_error.unwrap().contains("connection refused"));
    dial_again(&mut script);
    script.establish(peer_open());
    assert_eq!(script.status().last_error, None);
}

/// Lets time pass until there is another attempt, and that succeed.
fn dial_again(script: &mut Script) {
    let before = script.dials.len();
    while script.dials.len() == before {
        script.advance(seconds(1));
    }
    script.answer_dial();
}

#[test]
fn bytes_may_come_in_any_pieces() {
    let stream = [encode(&Message::Open(peer_open())), raw(4, &[]), announcement("18c00002"), raw(4, &[])].concat();
    for size in [1, 2, 7, 19, 20, 64, stream.len()] {
        let mut script = Script::connected(config());
        for piece in stream.chunks(size) {
            script.send(piece);
        }
        assert_eq!(script.learned(), ["192.0.2.0/24"], "pieces of {size}");
    }
}

#[test]
fn a_peer_that_does_not_answer_is_given_up() {
    let mut silent = Script::connected(config());
    silent.advance(seconds(239));
    assert_eq!(silent.status().state, SessionState::OpenSent);
    silent.advance(seconds(1));
    // RFC 4271 section 8.2.2: the large hold time.
    assert_eq!(codes(&silent.last_words().unwrap()), (4, 0));

    let mut stopped = Script::established(config());
    stopped.advance(seconds(89));
    assert!(stopped.is_established());
    stopped.advance(seconds(1));
    assert_eq!(codes(&stopped.last_words().unwrap()), (4, 0));
    assert!(stopped.status().last_error.unwrap().contains("hold timer expired: nothing heard from the peer for 90s"));
}

#[test]
fn any_message_keeps_a_session_alive() {
    for message in [raw(4, &[]), raw(2, &[0, 0, 0, 0]), raw(5, &[0, 1, 0, 1])] {
        let mut script = Script::established(config());
        for _ in 0..5 {
            script.advance(seconds(80));
            script.send(&message);
        }
        assert!(script.is_established(), "message of type {}", message[18]);
    }
}

#[test]
fn keepalives_are_sent_three_times_in_a_hold_time() {
    let mut script = Script::established(config());
    script.advance(seconds(85));
    let keepalives = script.read().iter().filter(|message| matches!(message, Message::Keepalive)).count();
    // One every 22.5 to 30 s.
    assert!((2..=3).contains(&keepalives), "{keepalives}");
}

#[test]
fn a_hold_time_of_zero_has_no_timers() {
    let mut script = Script::established_with(config(), OpenMessage { hold_time: 0, ..peer_open() });
    assert_eq!(script.speaker.next_deadline(), None);
    script.advance(seconds(100_000));
    assert!(script.is_established());
    assert_eq!(script.read(), []);
}

#[test]
fn a_peer_that_takes_no_data_is_ended_by_the_send_hold_timer() {
    let mut script = Script::established(config());
    script.reading = false;
    for _ in 0..16 {
        script.advance(seconds(30));
        script.send(&raw(4, &[]));
    }
    // RFC 9687: 8 minutes after the first byte that was not taken, which was a KEEPALIVE of the first half minute.
    assert!(script.is_established());
    script.advance(seconds(30));
    assert_eq!(codes(&script.last_words().unwrap()), (8, 0));
}

#[test]
fn progress_of_any_size_holds_the_send_hold_timer_off() {
    let mut script = Script::established(config());
    script.reading = false;
    for _ in 0..40 {
        script.advance(seconds(30));
        script.send(&raw(4, &[]));
        let id = script.connection.expect("still open");
        if !script.speaker.pending_write(script.now, id).is_empty() {
            script.speaker.handle_written(script.now, id, 1);
        }
    }
    assert!(script.is_established());
}

#[test]
fn ends_that_we_choose_say_why() {
    let text = "replaced by rack b, \u{e4}ndert nichts";
    let mut script = Script::established(config());
    script.speaker.shutdown(script.now, &Shutdown::Leave(text.into()));
    script.perform();
    let notification = script.last_words().unwrap();
    assert_eq!(codes(&notification), (6, 2));
    assert_eq!(notification.data[0] as usize, text.len());
    assert_eq!(&notification.data[1..], text.as_bytes());
    script.advance(seconds(1000));
    assert_eq!(script.dials.len(), 1, "nothing is dialled after a shutdown");

    let mut script = Script::established(config());
    script.speaker.remove_peer(script.now, &key()).unwrap();
    script.perform();
    assert_eq!(codes(&script.last_words().unwrap()), (6, 3));
    assert!(script.speaker.status(script.now).is_empty());
    assert!(script.speaker.remove_peer(script.now, &key()).is_err());

    let mut script = Script::established(config());
    let mut changed = config();
    changed.hold_time = seconds(30);
    script.speaker.set_peer(script.now, key(), changed).unwrap();
    script.perform();
    assert_eq!(codes(&script.last_words().unwrap()), (6, 6));
    assert_eq!(script.dials.len(), 2, "the new configuration is tried at once");
}

#[test]
fn setting_the_same_configuration_again_does_nothing() {
    let mut script = Script::established(config());
    script.events.clear();
    script.speaker.set_peer(script.now, key(), config()).unwrap();
    script.perform();
    assert!(script.is_established() && script.read().is_empty() && script.events.is_empty());
}

#[test]
fn connections_that_are_not_wanted_are_refused() {
    let first_notification = |accepted: Accepted| match accepted {
        Accepted::Refused(bytes) if bytes.is_empty() => None,
        Accepted::Refused(bytes) => match decode_message(&mut bytes.into(), 4096) {
            Ok(Message::Notification(notification)) => Some(codes(&notification)),
            other => panic!("{other:?}"),
        },
        Accepted::Connection(..) => panic!("it was taken"),
    };
    // We dial only.
    assert_eq!(first_notification(Script::configured(config()).dial_in()), Some((6, 5)));
    // Nobody of that address.
    let mut elsewhere = config();
    elsewhere.transport.remote = "192.0.2.99:179".parse().unwrap();
    assert_eq!(first_notification(Script::configured(elsewhere).dial_in()), Some((6, 5)));
    // There is a session already, and it stays.
    let both = || roadstead_bgp::PeerConfig { connect: Connect::Both, ..config() };
    let mut established = Script::established(both());
    assert_eq!(first_notification(established.dial_in()), Some((6, 7)));
    assert!(established.is_established());
    // In Idle, after an error: RFC 4271 section 8.2.2.
    let mut idle = Script::connected(both());
    idle.send(&raw(9, &[]));
    assert_eq!(idle.status().state, SessionState::Idle);
    assert_eq!(first_notification(idle.dial_in()), None);
    // But not for longer than one retry time.
    idle.advance(seconds(5));
    assert!(matches!(Script::dial_in(&mut idle), Accepted::Connection(..)));
}

#[test]
fn a_passive_peer_waits_and_is_not_dialled() {
    let mut script = Script::configured(roadstead_bgp::PeerConfig { connect: Connect::Passive, ..config() });
    script.advance(seconds(1000));
    assert_eq!((script.dials.len(), script.status().state), (0, SessionState::Active));
    let Accepted::Connection(id, peer) = script.speaker.handle_accepted(script.now, crate::script::endpoints()) else {
        panic!("refused")
    };
    assert_eq!(peer, key());
    script.connection = Some(id);
    script.perform();
    script.establish(peer_open());
}

/// RFC 4271 section 6.8 and RFC 6286 section 2.3: over which of two connections the session comes up.
#[test]
fn a_collision_is_won_by_the_higher_identifier_and_then_by_the_higher_asn() {
    let cases = [
        ("ours is higher", [10, 0, 0, 9], 64500, 64512, true),
        ("theirs is higher", [10, 0, 0, 1], 64500, 64512, false),
        ("compared as numbers, not as octets in host order", [10, 0, 1, 0], 64500, 64512, true),
        ("equal, their ASN is higher", [10, 0, 0, 2], 64500, 64512, false),
        ("equal, our ASN is higher", [10, 0, 0, 2], 64513, 64512, true),
    ];
    for (name, router_id, local_asn, peer_asn, dialled_wins) in cases {
        for dialled_first in [true, false] {
            let mut config = config();
            config.connect = Connect::Both;
            config.router_id = router_id.into();
            config.local_asn = Asn(local_asn);
            config.peer_asn = PeerAsn::Exactly(Asn(peer_asn));
            let mut script = Script::connected(config);
            let dialled = script.connection.unwrap();
            let Accepted::Connection(accepted, _) = script.dial_in() else { panic!("{name}: refused") };
            let order = if dialled_first { [dialled, accepted] } else { [accepted, dialled] };
            for id in order {
                script.speaker.handle_bytes(script.now, id, &encode(&Message::Open(peer_open())));
            }
            let (winner, loser) = if dialled_wins { (dialled, accepted) } else { (accepted, dialled) };
            let mut closed = Vec::new();
            while let Some(output) = script.speaker.poll_output() {
                if let roadstead_bgp::Output::Close { connection, last } = output {
                    assert_eq!(last[last.len() - 2..], [6, 7], "{name}");
                    closed.push(connection);
                }
            }
            assert_eq!(closed, [loser], "{name}, dialled first: {dialled_first}");
            script.speaker.handle_bytes(script.now, winner, &raw(4, &[]));
            assert!(script.is_established(), "{name}");
            assert_eq!(script.status().flaps, 0);
        }
    }
}

#[test]
fn a_second_connection_survives_when_the_first_is_gone() {
    let mut script = Script::connected(roadstead_bgp::PeerConfig { connect: Connect::Both, ..config() });
    let dialled = script.connection.unwrap();
    let Accepted::Connection(accepted, _) = script.dial_in() else { panic!("refused") };
    // The one that would have won is dead before it was known.
    script.speaker.handle_bytes(script.now, dialled, &encode(&Message::Open(peer_open())));
    script.speaker.handle_closed(script.now, dialled, Some("reset".to_owned()));
    script.perform();
    script.read();
    script.connection = Some(accepted);
    script.drain();
    script.establish(peer_open());
}

#[test]
fn refused_sessions_are_tried_ever_more_rarely() {
    let mut script = Script::configured(config());
    let end = script.now + seconds(600);
    while script.now < end {
        let dials = script.dials.len();
        script.answer_dial();
        script.send(&raw(3, &[2, 2]));
        let before = script.now;
        for _ in 0..200 {
            if script.dials.len() > dials || script.now >= end {
                break;
            }
            script.advance(seconds(1));
        }
        assert!(script.now - before >= seconds(3) || script.now >= end, "tried again too soon");
    }
    // 5, 10, 20, 40, 80, 120, 120, ... less a quarter at most.
    assert!((7..=11).contains(&script.dials.len()), "{} attempts in ten minutes", script.dials.len());
    let told = script.events.iter().filter(|event| matches!(event, Event::SessionDown { .. })).count();
    assert_eq!(told, 1, "the same reason is told once");
}

#[test]
fn a_refusal_is_not_forgotten_over_connections_that_are_just_closed() {
    let mut script = Script::connected(config());
    script.send(&raw(3, &[2, 2]));
    script.advance(seconds(5));
    script.answer_dial();
    let id = script.connection.expect("dialled again");
    script.speaker.handle_closed(script.now, id, None);
    script.perform();
    assert!(script.status().last_error.unwrap().contains("(2/2)"));
    // That nobody is there any more is news.
    script.advance(seconds(5));
    let (_, id) = *script.dials.last().unwrap();
    script.speaker.handle_closed(script.now, id, Some("No route to host".to_owned()));
    assert!(script.status().last_error.unwrap().contains("No route to host"));
}

#[test]
fn connections_that_fail_are_tried_every_retry_time() {
    let mut script = Script::configured(config());
    let end = script.now + seconds(100);
    while script.now < end {
        let dials = script.dials.len();
        let (_, id) = *script.dials.last().unwrap();
        script.speaker.handle_closed(script.now, id, Some("Connection refused".to_owned()));
        script.perform();
        for _ in 0..100 {
            if script.dials.len() > dials {
                break;
            }
            script.advance(Duration::from_millis(100));
        }
    }
    assert!((20..=32).contains(&script.dials.len()), "{} attempts", script.dials.len());
    assert!(script.status().last_error.unwrap().contains("cannot connect: Connection refused"));
}

#[test]
fn a_dial_without_an_answer_is_given_up_and_tried_again() {
    let mut script = Script::configured(config());
    script.advance(seconds(60));
    assert!((5..=12).contains(&script.dials.len()), "{} attempts", script.dials.len());
    assert!(script.status().last_error.unwrap().contains("no answer within 5s"));
}

#[test]
fn what_comes_for_a_connection_that_is_gone_is_ignored() {
    let mut script = Script::established(config());
    let id = script.connection.unwrap();
    script.send(&raw(9, &[]));
    script.speaker.handle_bytes(script.now, id, &announcement("18c00002"));
    script.speaker.handle_written(script.now, id, 100);
    script.speaker.handle_closed(script.now, id, None);
    assert!(script.speaker.pending_write(script.now, id).is_empty());
    assert!(script.learned().is_empty());
    assert_eq!(script.status().flaps, 1);
}
