//! What must not matter: how TCP cuts the stream, and by which way a set of routes came about.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use roadstead_bgp::{LearnedPath, PeerStatus, RouteAttributes, RouteChange};
use rustbgpd_wire::{Message, PathAttribute};

use crate::script::{self, Script, announcement, raw};
use crate::stage::Stage as _;

/// One message, good or not: what a peer may send after its OPEN.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let prefix = (0u8..6, 16u8..25).prop_map(|(second, length)| format!("{length:02x}0a{second:02x}00"));
    let prefix = prefix.prop_map(|text| if text.starts_with("10") { text[..6].to_owned() } else { text });
    prop_oneof![
        6 => prefix.prop_map(|nlri| announcement(&nlri)),
        3 => (0u8..6).prop_map(|second| raw(2, &[0, 3, 16, 10, second, 0, 0])),
        2 => Just(raw(4, &[])),
        1 => Just(raw(5, &[0, 1, 0, 1])),
        1 => Just(raw(2, &[0, 0, 0, 0])),
        // Treated as a withdrawal: ORIGIN 3.
        1 => (0u8..6).prop_map(|second| {
            let mut body = vec![0, 0, 0, 20, 0x40, 1, 1, 3, 0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0, 0x40, 3, 4, 192, 0, 2, 1];
            body.extend_from_slice(&[16, 10, second]);
            raw(2, &body)
        }),
        // Ends the session: no such type.
        1 => Just(raw(9, &[])),
        1 => vec(any::<u8>(), 1..30),
    ]
}

/// Everything that can be seen of a session from outside.
fn play(stream: &[u8], sizes: &[usize]) -> (PeerStatus, BTreeMap<IpNet, Vec<LearnedPath>>, Vec<String>, Vec<Message>) {
    let mut script = Script::established(script::config());
    script.update_routes(vec![script::announce("192.0.2.0/24"), script::announce("198.51.100.0/24")]);
    let connection = script.connection.unwrap();
    let mut rest = stream;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        script.speaker.handle_bytes(script.now, connection, piece);
        rest = behind;
    }
    // What is answered depends on when the socket takes it, so that is at the end.
    script.perform();
    let (status, learned, said) = (script.status(), script.speaker.learned(), script.read());
    // How often the operator is told that routes have changed does depend on it.
    let events =
        script.events.iter().map(|event| format!("{event:?}")).filter(|event| !event.contains("RoutesChanged"));
    (status, learned, events.collect(), said)
}

/// Without its moments: they differ from run to run, as virtual time has no origin of its own.
fn comparable(status: &PeerStatus) -> String {
    let text = format!("{status:?}");
    let mut parts = text.split("Instant {");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('}').map_or(part, |(_, rest)| rest))
}

/// A prefix of a few, with attributes of a few.
fn change() -> impl Strategy<Value = (u8, Option<(u32, u8)>)> {
    (0u8..12, proptest::option::weighted(0.7, (0u32..3, 0u8..2)))
}

fn route(index: u8, attributes: Option<(u32, u8)>) -> RouteChange {
    // Some lie inside others, of both families.
    let text = match index % 4 {
        0 => format!("10.{index}.0.0/16"),
        1 => format!("10.{}.0.1/32", index - 1),
        2 => format!("2001:db8:{index}::/48"),
        _ => format!("2001:db8:{}::1/128", index - 1),
    };
    let prefix = text.parse().unwrap();
    match attributes {
        None => RouteChange::Withdraw(prefix),
        Some((med, prepend)) => {
            let attributes = RouteAttributes { med: Some(med), prepend, ..RouteAttributes::default() };
            RouteChange::Announce(prefix, Arc::new(attributes))
        }
    }
}

/// What a peer holds that has read all of this: prefix, next hop and attributes as octets.
#[derive(Debug, Default, PartialEq, Eq)]
struct Holds(BTreeMap<String, String>);

impl Holds {
    fn read(&mut self, messages: Vec<Message>) {
        for message in messages {
            let Message::Update(update) = message else { continue };
            let parsed = update.parse(true, false, &[]).unwrap();
            let mut reach = Vec::new();
            for attribute in &parsed.attributes {
                match attribute {
                    PathAttribute::MpUnreachNlri(unreach) => {
                        unreach.withdrawn.iter().for_each(|entry| drop(self.0.remove(&format!("{:?}", entry.prefix))));
                    }
                    PathAttribute::MpReachNlri(announced) => {
                        reach.extend(announced.announced.iter().map(|entry| format!("{:?}", entry.prefix)));
                    }
                    _ => {}
                }
            }
            for entry in &parsed.withdrawn {
                self.0.remove(&format!("{:?}", entry.prefix));
            }
            reach.extend(parsed.announced.iter().map(|entry| format!("{:?}", entry.prefix)));
            let attributes: Vec<String> = parsed
                .attributes
                .iter()
                .map(|attribute| match attribute {
                    // Without the prefixes that happen to share the message.
                    PathAttribute::MpReachNlri(reach) => format!("{:?}", reach.next_hop),
                    other => format!("{other:?}"),
                })
                .collect();
            for prefix in reach {
                self.0.insert(prefix, attributes.join(" "));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_the_stream_gives_the_same_result(messages in vec(message(), 1..25), sizes in vec(1usize..40, 1..20)) {
        let stream = messages.concat();
        let whole = play(&stream, &[usize::MAX]);
        let split = play(&stream, &sizes);
        prop_assert_eq!(comparable(&whole.0), comparable(&split.0));
        prop_assert_eq!(&whole.1, &split.1);
        prop_assert_eq!(&whole.2, &split.2);
        prop_assert_eq!(&whole.3, &split.3);
    }

    #[test]
    fn any_way_to_a_set_of_routes_ends_where_the_set_alone_does(
        batches in vec((vec(change(), 1..8), any::<bool>()), 1..30),
    ) {
        let mut script = Script::established(script::config());
        let mut holds = Holds::default();
        let mut wanted: BTreeMap<u8, Option<(u32, u8)>> = BTreeMap::new();
        for (changes, reading) in batches {
            // A socket that is full for a while.
            script.reading = reading;
            wanted.extend(changes.iter().copied());
            script.update_routes(changes.into_iter().map(|(index, attributes)| route(index, attributes)).collect());
            script.drain();
            holds.read(script.read());
        }
        script.reading = true;
        script.drain();
        holds.read(script.read());

        let mut direct = Script::established(script::config());
        let last = wanted.into_iter().filter(|(_, attributes)| attributes.is_some());
        direct.update_routes(last.map(|(index, attributes)| route(index, attributes)).collect());
        let mut expected = Holds::default();
        expected.read(direct.read());
        prop_assert_eq!(&holds, &expected);
        prop_assert_eq!(script.status().prefixes_sent, expected.0.len());
    }
}
