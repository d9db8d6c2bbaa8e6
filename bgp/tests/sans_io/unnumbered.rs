//! Peers that are known by their link: whose connection is it, when the same address is on several.

use std::time::Duration;

use roadstead_bgp::bfd::{BfdConfig, Hops};
use roadstead_bgp::{Accepted, Connect, DynamicPeers, Endpoints, NextHops, PeerConfig, Speaker};

use rustbgpd_wire::Message;

use crate::script::{config, encode, peer_open, start_of_time};

fn on(interface: &str, remote: &str) -> PeerConfig {
    let mut config = config();
    config.connect = Connect::Passive;
    config.transport.remote = remote.parse().unwrap();
    config.transport.source_interface = Some(interface.to_owned());
    config
}

#[test]
fn the_link_says_whose_a_connection_is() {
    let now = start_of_time();
    let mut speaker = Speaker::new(1);
    let anywhere = DynamicPeers { prefix: "::/0".parse().unwrap(), max_sessions: 9, template: config() };
    speaker.set_dynamic_peers(now, "anywhere".into(), anywhere).unwrap();
    for (key, interface, remote) in [
        ("one", "eth1", "[::]:179"),
        ("two", "eth2", "[::]:179"),
        ("three", "eth3", "[fe80::1]:179"),
        ("four", "eth4", "[fe80::1]:179"),
        ("global", "eth5", "[2001:db8::5]:179"),
    ] {
        speaker.set_peer(now, key.into(), on(interface, remote)).unwrap();
    }
    let cases = [
        (Some("eth1"), "fe80::1", Some("one")),
        (Some("eth2"), "fe80::1", Some("two")),
        (Some("eth2"), "fe80::77", Some("two")),
        (Some("eth3"), "fe80::1", Some("three")),
        (Some("eth4"), "fe80::1", Some("four")),
        (Some("eth4"), "fe80::77", None),
        (Some("eth9"), "fe80::1", None),
        (None, "fe80::1", None),
        // A global address is the same everywhere, whatever the dialled connection is bound to; and it is never on a link.
        (None, "2001:db8::5", Some("global")),
        (None, "2001:db8::1", Some("anywhere/2001:db8::1")),
    ];
    for (link, remote, expected) in cases {
        let endpoints = Endpoints {
            local: "[fe80::2]:179".parse().unwrap(),
            remote: format!("[{remote}]:40000").parse().unwrap(),
            interface: NextHops::default(),
        };
        let accepted = match link {
            Some(link) => speaker.handle_accepted_on_link(now, link, endpoints),
            None => speaker.handle_accepted(now, endpoints),
        };
        let taken = match accepted {
            Accepted::Connection(_, key) => Some(key.to_string()),
            Accepted::Refused(_) => None,
        };
        assert_eq!(taken.as_deref(), expected, "{remote} on {link:?}");
    }
}

#[test]
fn what_an_unnumbered_session_cannot_be_is_refused_in_words() {
    assert_eq!(on("eth1", "[::]:179").check(), Ok(()));
    let cases: [(&str, fn(&mut PeerConfig), &str); 3] = [
        ("over IPv4", |config| config.transport.remote = "0.0.0.0:179".parse().unwrap(), "0.0.0.0 is nobody's address"),
        ("without a link", |config| config.transport.source_interface = None, ":: is nobody's address"),
        (
            "with BFD over several hops",
            |config| config.bfd = Some(BfdConfig { hops: Hops::Multi { minimum_ttl: 254 }, ..BfdConfig::new() }),
            "BFD over several hops is not possible on the unnumbered session over eth1",
        ),
    ];
    for (name, spoil, expected) in cases {
        let mut config = on("eth1", "[::]:179");
        spoil(&mut config);
        let message = config.check().expect_err(name).to_string();
        assert!(message.contains(expected), "{name}: {message}");
    }
}

/// RFC 5881: BFD runs between the link-local addresses of the session, on its link.
#[test]
fn bfd_is_between_the_ends_of_the_session() {
    let now = start_of_time();
    let mut speaker = Speaker::new(1);
    for interface in ["eth1", "eth2"] {
        let with_bfd = PeerConfig { bfd: Some(BfdConfig::new()), ..on(interface, "[::]:179") };
        speaker.set_peer(now, interface.into(), with_bfd).unwrap();
        assert_eq!(speaker.watched(&interface.into()), None, "the router is not known yet");
    }
    for (scope, interface) in [(2, "eth1"), (3, "eth2")] {
        let endpoints = Endpoints {
            local: format!("[fe80::2%{scope}]:179").parse().unwrap(),
            remote: format!("[fe80::1%{scope}]:40000").parse().unwrap(),
            interface: NextHops::default(),
        };
        let Accepted::Connection(id, key) = speaker.handle_accepted_on_link(now, interface, endpoints) else {
            panic!("refused")
        };
        speaker.handle_bytes(now, id, &encode(&Message::Open(peer_open())));
        speaker.handle_bytes(now, id, &encode(&Message::Keepalive));
        let (path, _) = speaker.watched(&key).expect("the session is up");
        assert_eq!((path.to_string(), path.scope), (format!("fe80::1 from fe80::2 over {interface}"), scope));
        speaker.handle_closed(now, id, None);
        assert_eq!(speaker.watched(&key), None);
    }
}

/// What the operator reads while nobody has been heard of.
#[test]
fn a_session_is_told_by_its_interface() {
    let now = start_of_time();
    let mut speaker = Speaker::new(1);
    let mut dialled = on("eth1", "[::]:179");
    dialled.connect = Connect::Dial;
    speaker.set_peer(now, "router".into(), dialled).unwrap();
    let Some(roadstead_bgp::Output::Dial { connection, .. }) = speaker.poll_output() else { panic!("no dial") };
    speaker.handle_closed(now + Duration::from_secs(1), connection, Some("nobody there".to_owned()));
    let status = speaker.status(now).remove(0);
    assert_eq!(status.interface.as_deref(), Some("eth1"));
    assert_eq!(status.last_error.as_deref(), Some("router (eth1): cannot connect: nobody there"));
}
