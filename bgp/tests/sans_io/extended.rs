//! Messages of more than 4096 octets (RFC 8654).

use std::sync::Arc;

use roadstead_bgp::{Community, ExtendedMessages, PeerConfig, RouteAttributes, RouteChange};
use rustbgpd_wire::{Capability, Message, OpenMessage};

use crate::routes::said;
use crate::script::{Script, announce, config, encode, hex, peer_open, raw};

/// A peer that takes long messages.
fn extended_open() -> OpenMessage {
    let mut open = peer_open();
    open.capabilities.push(Capability::ExtendedMessage);
    open
}

fn withheld() -> PeerConfig {
    PeerConfig { extended_messages: ExtendedMessages::Withheld, ..config() }
}

/// An UPDATE of this length, with an attribute that nobody knows to fill it.
fn update_of(length: usize) -> Vec<u8> {
    let known = hex("400101 00  400206 0201 0000fc00  400304 c0000201");
    let nlri = hex("18c00002");
    let filler = length - 19 - 4 - known.len() - nlri.len() - 4;
    let attributes = known.len() + 4 + filler;
    let size = |length: usize| u16::try_from(length).unwrap().to_be_bytes();
    let unknown = [&[0xd0, 0xfe][..], &size(filler), &vec![0xab; filler]].concat();
    raw(2, &[&[0, 0][..], &size(attributes), &known, &unknown, &nlri].concat())
}

#[test]
fn long_updates_are_taken_where_they_were_offered() {
    // What we offer, the length; whether the route is learned, or else the NOTIFICATION.
    let cases = [
        ("standard", withheld(), 4096, Ok(())),
        ("one too long", withheld(), 4097, Err([0x10, 0x01])),
        ("far too long", withheld(), 65535, Err([0xff, 0xff])),
        ("one longer", config(), 4097, Ok(())),
        ("the longest", config(), 65535, Ok(())),
    ];
    for (name, config, length, expected) in cases {
        for open in [peer_open(), extended_open()] {
            let mut script = Script::established_with(config.clone(), open);
            script.send(&update_of(length));
            match expected {
                Ok(()) => assert_eq!(script.learned(), ["192.0.2.0/24"], "{name}"),
                Err(data) => {
                    let notification = script.last_words().unwrap();
                    assert_eq!((notification.code.as_u8(), notification.subcode), (1, 2), "{name}");
                    assert_eq!(notification.data[..], data, "{name}: the length (RFC 4271 section 6.1)");
                }
            }
        }
    }
}

#[test]
fn a_long_open_or_keepalive_is_refused_whatever_was_offered() {
    for kind in [1, 4] {
        let mut script = Script::connected(config());
        if kind == 4 {
            script.send(&encode(&Message::Open(extended_open())));
        }
        script.send(&raw(kind, &vec![0; 4097 - 19]));
        let notification = script.last_words().unwrap();
        assert_eq!(
            (notification.code.as_u8(), notification.subcode, &notification.data[..]),
            (1, 2, &[0x10, 0x01][..])
        );
    }
}

/// How many messages carry 20,000 prefixes with the same attributes, and how many octets the longest has.
fn packed(config: PeerConfig, open: OpenMessage) -> (usize, usize) {
    let mut script = Script::established_with(config, open);
    script.read();
    script.update_routes((0..20_000).map(|i| announce(&format!("10.{}.{}.0/24", i / 256, i % 256))).collect());
    let messages = script.read();
    assert_eq!(said(&messages).len(), 20_000);
    let longest = messages.iter().map(|message| match message {
        Message::Update(update) => update.encoded_len(),
        other => panic!("{other:?}"),
    });
    (messages.len(), longest.max().unwrap())
}

#[test]
fn updates_are_as_long_as_the_peer_takes() {
    // 80,000 octets of prefixes; the rest of a message is 43 octets.
    assert_eq!(packed(config(), extended_open()), (2, 65535));
    assert_eq!(packed(config(), peer_open()), (20, 4095));
    assert_eq!(packed(withheld(), extended_open()), (20, 4095));
}

#[test]
fn a_route_that_needs_a_long_message_is_told_to_those_who_take_it() {
    let communities = (0..1100).map(Community).collect();
    let huge = Arc::new(RouteAttributes { communities, ..RouteAttributes::default() });
    for (open, told, too_large) in [(extended_open(), 1, 0), (peer_open(), 0, 1)] {
        let mut script = Script::established_with(config(), open);
        script.update_routes(vec![RouteChange::Announce("192.0.2.0/24".parse().unwrap(), Arc::clone(&huge))]);
        let status = script.status();
        assert_eq!((status.prefixes_sent, status.prefixes_too_large), (told, too_large));
        assert_eq!(said(&script.read()).len(), told);
    }
}

/// RFC 7313 section 5 wants the whole message quoted, which makes the NOTIFICATION longer still.
#[test]
fn a_notification_is_no_longer_than_the_peer_takes() {
    let refresh = raw(5, &[&[0, 1, 1, 1][..], &vec![0; 4060]].concat());
    for (open, quoted) in [(extended_open(), refresh.len()), (peer_open(), 0)] {
        let mut script = Script::established_with(config(), open);
        script.send(&refresh);
        let notification = script.last_words().unwrap();
        assert_eq!((notification.code.as_u8(), notification.subcode, notification.data.len()), (7, 1, quoted));
    }
}

#[test]
fn a_peer_that_does_not_read_costs_a_buffer_and_one_long_message() {
    let mut script = Script::established_with(config(), extended_open());
    script.reading = false;
    script.update_routes((0..60_000u32).map(|i| announce(&format!("20.{}.{}.0/24", i / 256, i % 256))).collect());
    let id = script.connection.unwrap();
    assert!(script.speaker.pending_write(script.now, id).len() <= 64 * 1024 + 65535);
    script.reading = true;
    script.drain();
    assert_eq!(said(&script.read()).len(), 60_000);
}
