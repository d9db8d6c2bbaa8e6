//! Graceful restart, ours and the peer's: which routes outlive a session, and for how long.

use std::time::Duration;

use roadstead_bgp::bfd::{BfdFailure, Diagnostic};
use roadstead_bgp::{Accepted, GracefulRestart, PeerConfig, Shutdown};
use rustbgpd_wire::{Afi, Capability, GracefulRestartFamily, Message, OpenMessage, Safi};

use crate::script::{Script, announce, announcement, config, encode, key, peer_open, raw};
use crate::stage::Stage as _;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn restarting(adjust: impl FnOnce(&mut GracefulRestart)) -> PeerConfig {
    let mut restart = GracefulRestart::new(seconds(120));
    adjust(&mut restart);
    PeerConfig { graceful_restart: Some(restart), ..config() }
}

/// The peer's OPEN with the capability: 60 s, N as asked for, and these families with their F.
fn open(notification: bool, families: &[(Afi, bool)]) -> OpenMessage {
    let mut open = peer_open();
    let family =
        |&(afi, forwarding_preserved)| GracefulRestartFamily { afi, safi: Safi::Unicast, forwarding_preserved };
    open.capabilities.push(Capability::GracefulRestart {
        restart_state: true,
        notification,
        restart_time: 60,
        families: families.iter().map(family).collect(),
    });
    open
}

const BOTH: &[(Afi, bool)] = &[(Afi::Ipv4, true), (Afi::Ipv6, true)];
/// 10.1.0.0/16, 10.2.0.0/16.
const TWO: &str = "100a01 100a02";
const END_OF_RIB: &[u8] = &[0, 0, 0, 0];

/// 2001:db8::/32 over MP_REACH_NLRI.
fn ipv6_announcement() -> Vec<u8> {
    let reach = "800e1a 000201 10 20010db8000000000000000000000001 00 20 20010db8";
    let attributes = crate::script::hex(&format!("{reach} 400101 00 400206 0201 0000fc00"));
    let mut body = vec![0, 0, 0, u8::try_from(attributes.len()).unwrap()];
    body.extend_from_slice(&attributes);
    raw(2, &body)
}

impl Script {
    /// `10.1.0.0/16` or, when it is stale, `10.1.0.0/16 stale`.
    fn learned_and_stale(&self) -> Vec<String> {
        let word = |stale| if stale { " stale" } else { "" };
        let table = self.speaker.learned();
        table.iter().map(|(prefix, paths)| format!("{prefix}{}", word(paths[0].stale))).collect()
    }

    /// The peer's end of the connection is gone.
    pub(crate) fn lose(&mut self) {
        let id = self.connection.take().expect("the connection is open");
        self.speaker.handle_closed(self.now, id, None);
        self.perform();
    }

    /// Waits until it dials, and lets the session come up.
    pub(crate) fn come_back(&mut self, open: OpenMessage) {
        let dials = self.dials.len();
        while self.dials.len() == dials {
            let deadline = self.speaker.next_deadline().expect("it will dial");
            self.advance(deadline - self.now);
        }
        self.read();
        self.answer_dial();
        self.establish(open);
    }
}

#[test]
fn a_lost_connection_leaves_stale_routes_and_end_of_rib_sweeps_them() {
    let mut script = Script::established_with(restarting(|_| {}), open(false, BOTH));
    script.send(&announcement(TWO));
    script.send(&ipv6_announcement());
    script.lose();
    let stale = ["10.1.0.0/16 stale", "10.2.0.0/16 stale", "2001:db8::/32 stale"];
    assert_eq!(script.learned_and_stale(), stale);
    assert_eq!(script.status().prefixes_stale, 3);

    script.come_back(open(false, BOTH));
    assert_eq!(script.learned_and_stale(), stale, "nothing was said yet");
    script.send(&announcement("100a01"));
    assert_eq!(script.learned_and_stale(), ["10.1.0.0/16", "10.2.0.0/16 stale", "2001:db8::/32 stale"]);
    script.send(&raw(2, END_OF_RIB));
    assert_eq!(script.learned_and_stale(), ["10.1.0.0/16", "2001:db8::/32 stale"], "the other family has its own end");
    // The peer never says it for IPv6.
    script.send(&raw(4, &[]));
    for half_minute in 1..=12 {
        script.advance(seconds(30));
        script.send(&raw(4, &[]));
        // Its restart time was for coming back, and it is back.
        assert_eq!(script.learned_and_stale().len(), if half_minute < 12 { 2 } else { 1 }, "{half_minute}");
    }
    assert_eq!(script.learned_and_stale(), ["10.1.0.0/16"]);
    assert_eq!(script.status().prefixes_stale, 0);
}

#[test]
fn stale_routes_end_with_the_peers_restart_time() {
    let mut script = Script::established_with(restarting(|_| {}), open(false, BOTH));
    script.send(&announcement(TWO));
    script.lose();
    script.advance(seconds(59));
    assert_eq!(script.learned_and_stale().len(), 2);
    script.events.clear();
    script.advance(seconds(2));
    assert_eq!(script.learned(), [""; 0]);
    assert!(script.events.contains(&roadstead_bgp::Event::RoutesChanged));
}

#[test]
fn what_a_peer_did_not_preserve_goes_when_it_is_back() {
    // The OPEN that the peer comes back with, and what is left at once.
    let cases: [(&str, OpenMessage, &[&str]); 4] = [
        ("F for both", open(false, BOTH), &["10.1.0.0/16 stale", "10.2.0.0/16 stale", "2001:db8::/32 stale"]),
        ("F for IPv6", open(false, &[(Afi::Ipv4, false), (Afi::Ipv6, true)]), &["2001:db8::/32 stale"]),
        ("only IPv4", open(false, &[(Afi::Ipv4, true)]), &["10.1.0.0/16 stale", "10.2.0.0/16 stale"]),
        ("no capability", peer_open(), &[]),
    ];
    for (name, open_again, expected) in cases {
        let mut script = Script::established_with(restarting(|_| {}), open(false, BOTH));
        script.send(&announcement(TWO));
        script.send(&ipv6_announcement());
        script.lose();
        script.come_back(open_again);
        assert_eq!(script.learned_and_stale(), expected, "{name}");
    }
}

#[test]
fn only_what_was_agreed_is_kept() {
    let cases: [(&str, PeerConfig, OpenMessage, &[&str]); 4] = [
        ("not offered by us", config(), open(true, BOTH), &[]),
        ("not by the peer", restarting(|_| {}), peer_open(), &[]),
        ("it only helps", restarting(|_| {}), open(false, &[]), &[]),
        ("IPv6 alone", restarting(|_| {}), open(false, &[(Afi::Ipv6, false)]), &["2001:db8::/32 stale"]),
    ];
    for (name, config, open, expected) in cases {
        let mut script = Script::established_with(config, open);
        script.send(&announcement(TWO));
        script.send(&ipv6_announcement());
        script.lose();
        assert_eq!(script.learned_and_stale(), expected, "{name}");
    }
}

#[test]
fn a_second_restart_before_the_end_of_the_first_drops_what_was_not_confirmed() {
    let mut script = Script::established_with(restarting(|_| {}), open(false, BOTH));
    script.send(&announcement(TWO));
    script.lose();
    script.come_back(open(false, BOTH));
    script.send(&announcement("100a01"));
    script.lose();
    assert_eq!(script.learned_and_stale(), ["10.1.0.0/16 stale"]);
}

#[test]
fn the_end_of_a_session_decides_what_it_leaves() {
    // How it ends; whether that leaves routes, without and with N on both sides.
    let cases: [(&str, fn(&mut Script), [bool; 2]); 10] = [
        ("connection closed", Script::lose, [true, true]),
        ("hold timer", |script| script.advance(seconds(91)), [false, true]),
        ("NOTIFICATION 6/4", |script| script.send(&raw(3, &[6, 4])), [false, true]),
        ("NOTIFICATION 3/1", |script| script.send(&raw(3, &[3, 1])), [false, true]),
        ("hard reset", |script| script.send(&raw(3, &[6, 9, 6, 4])), [false, false]),
        (
            "BFD",
            |script| {
                let (diagnostic, remote_diagnostic) = (Diagnostic::DETECTION_TIME_EXPIRED, Diagnostic::NONE);
                let failure = BfdFailure { diagnostic, remote_diagnostic, detection_time: seconds(1) };
                script.speaker.handle_bfd_down(script.now, &key(), failure).unwrap();
            },
            [false, false],
        ),
        ("bad header", |script| script.send(&raw(77, &[])), [false, true]),
        ("OPEN again", |script| script.send(&encode(&Message::Open(peer_open()))), [false, true]),
        (
            "configuration",
            |script| {
                let changed = PeerConfig { hold_time: seconds(30), ..script.speaker.config(&key()).unwrap().clone() };
                script.speaker.set_peer(script.now, key(), changed).unwrap();
            },
            [false, false],
        ),
        ("shutdown", |script| script.speaker.shutdown(script.now, &Shutdown::Leave(String::new())), [false, false]),
    ];
    for (name, end, expected) in cases {
        for (notification, kept) in [false, true].into_iter().zip(expected) {
            let config = restarting(|restart| restart.notification = notification);
            let mut script = Script::established_with(config, open(true, BOTH));
            script.send(&announcement(TWO));
            end(&mut script);
            script.perform();
            assert!(!script.is_established(), "{name}");
            let expected: &[&str] = if kept { &["10.1.0.0/16 stale", "10.2.0.0/16 stale"] } else { &[] };
            assert_eq!(script.learned_and_stale(), expected, "{name}, N: {notification}");
        }
    }
}

#[test]
fn a_removed_peer_leaves_nothing() {
    let mut script = Script::established_with(restarting(|_| {}), open(false, BOTH));
    script.send(&announcement(TWO));
    script.lose();
    script.events.clear();
    script.speaker.remove_peer(script.now, &key()).unwrap();
    script.perform();
    assert!(script.events.contains(&roadstead_bgp::Event::RoutesChanged));
    assert_eq!(script.speaker.next_deadline(), None);
}

#[test]
fn stale_routes_do_not_count_against_the_limit() {
    let mut config = restarting(|_| {});
    config.import.max_prefixes = Some(roadstead_bgp::MaxPrefixes::new(2));
    let mut script = Script::established_with(config, open(false, BOTH));
    script.send(&announcement(TWO));
    script.lose();
    script.come_back(open(false, BOTH));
    script.send(&announcement("100a03 100a04"));
    assert!(script.is_established());
    script.send(&raw(2, END_OF_RIB));
    assert_eq!(script.learned_and_stale(), ["10.3.0.0/16", "10.4.0.0/16"]);
    script.send(&announcement("100a05"));
    assert!(!script.is_established());
}

#[test]
fn another_connection_is_the_peers_restart_where_that_is_agreed() {
    // Whether graceful restart is agreed, how long the session has been up, and whether the new connection gets it.
    let cases = [("agreed", true, 60, true), ("not agreed", false, 60, false), ("a late twin", true, 1, false)];
    for (name, agreed, uptime, taken) in cases {
        let mut config = restarting(|_| {});
        config.connect = roadstead_bgp::Connect::Both;
        let mut script = Script::established_with(config, if agreed { open(false, BOTH) } else { peer_open() });
        script.send(&announcement(TWO));
        script.advance(seconds(uptime));
        let earlier = script.connection.unwrap();
        let Accepted::Connection(id, _) = script.dial_in() else {
            assert!(!taken, "{name}: the connection was refused");
            continue;
        };
        assert!(taken, "{name}: the connection was taken");
        assert!(script.is_established(), "until somebody with the right OPEN is there");
        // Until then messages of the established session count too.
        script.send(&announcement("100a03"));
        script.read();
        script.connection = Some(id);
        script.drain();
        script.send(&encode(&Message::Open(open(false, BOTH))));
        assert!(!script.is_established());
        assert!(script.status().last_error.unwrap().contains("the peer has restarted"));
        script.speaker.handle_bytes(script.now, earlier, &raw(4, &[]));
        script.send(&raw(4, &[]));
        assert!(script.is_established());
        assert!(
            script.read().iter().all(|message| !matches!(message, Message::Notification(_))),
            "no word to the dead"
        );
        assert_eq!(script.status().prefixes_stale, 3);
        script.send(&announcement(TWO));
        script.send(&raw(2, END_OF_RIB));
        assert_eq!(script.learned_and_stale(), ["10.1.0.0/16", "10.2.0.0/16"]);
    }
}

/// R of our latest OPEN.
fn restart_state(script: &mut Script) -> bool {
    let messages = script.read();
    let Some(Message::Open(open)) = messages.first() else { panic!("no OPEN in {messages:?}") };
    let state = open.capabilities.iter().find_map(|capability| match capability {
        Capability::GracefulRestart { restart_state, .. } => Some(*restart_state),
        _ => None,
    });
    state.expect("the capability is offered")
}

#[test]
fn the_first_opens_say_that_we_have_restarted() {
    let mut script = Script::connected(restarting(|_| {}));
    assert!(restart_state(&mut script));
    script.lose();
    script.advance(seconds(20));
    script.answer_dial();
    assert!(restart_state(&mut script), "no session yet");
    script.send(&encode(&Message::Open(open(false, BOTH))));
    script.send(&raw(4, &[]));
    assert!(script.is_established());
    script.lose();
    script.advance(seconds(5));
    script.read();
    script.answer_dial();
    assert!(!restart_state(&mut script), "the session was up once");

    let mut script = Script::configured(restarting(|_| {}));
    script.advance(seconds(121));
    script.answer_dial();
    assert!(!restart_state(&mut script), "the restart time is over");
}

#[test]
fn a_restart_is_silent_where_the_peer_keeps_our_routes() {
    let helper = open(false, &[]);
    let cases = [
        ("agreed", restarting(|_| {}), helper.clone(), None),
        ("not by the peer", restarting(|_| {}), peer_open(), Some((6, 2))),
        ("not by us", config(), helper, Some((6, 2))),
    ];
    for (name, config, open, expected) in cases {
        let mut script = Script::established_with(config, open);
        script.update_routes(vec![announce("192.0.2.0/24")]);
        script.read();
        script.speaker.shutdown(script.now, &Shutdown::Restart("upgrade".to_owned()));
        script.perform();
        assert_eq!(script.connection, None, "{name}");
        let codes: Vec<_> = script.read().iter().map(notification).collect();
        match expected {
            None => assert_eq!(codes, [], "{name}: the peer must see the end of the connection only"),
            // What was announced is withdrawn first.
            Some(expected) => assert_eq!(codes, [None, Some(expected)], "{name}"),
        }
        script.advance(seconds(1000));
        assert_eq!(script.dials.len(), 1, "{name}");
    }
}

fn notification(message: &Message) -> Option<(u8, u8)> {
    match message {
        Message::Notification(notification) => Some((notification.code.as_u8(), notification.subcode)),
        _ => None,
    }
}

#[test]
fn whoever_leaves_withdraws_first_and_resets_hard_where_that_is_agreed() {
    for notification in [false, true] {
        let config = restarting(|restart| restart.notification = notification);
        let mut script = Script::established_with(config, open(true, &[]));
        script.update_routes(vec![announce("192.0.2.0/24"), announce("2001:db8:1::/48")]);
        script.read();
        // Still on its way at the time of the end.
        script.reading = false;
        script.update_routes(vec![announce("198.51.100.0/24")]);
        script.speaker.shutdown(script.now, &Shutdown::Leave("node is drained".to_owned()));
        script.perform();
        let messages = script.read();
        let [Message::Update(_), Message::Update(ipv4), Message::Update(ipv6), Message::Notification(last)] =
            messages.as_slice()
        else {
            panic!("{messages:?}");
        };
        let withdrawn = ipv4.parse(true, false, &[]).unwrap().withdrawn;
        assert_eq!(withdrawn.len(), 2, "what is on its way is withdrawn too");
        assert!(!ipv6.parse(true, false, &[]).unwrap().attributes.is_empty());
        match notification {
            true => assert_eq!((last.code.as_u8(), last.subcode, &last.data[..2]), (6, 9, &[6, 2][..])),
            false => assert_eq!((last.code.as_u8(), last.subcode), (6, 2)),
        }
        assert!(String::from_utf8_lossy(&last.data).ends_with("node is drained"));
    }
}

#[test]
fn a_hard_reset_is_told_with_what_is_inside() {
    let mut script = Script::established_with(restarting(|_| {}), open(false, BOTH));
    script.send(&raw(3, &[6, 9, 6, 2, 3, b'b', b'y', b'e']));
    let error = script.status().last_error.unwrap();
    assert!(error.contains("(6/9)") && error.contains("(6/2)") && error.contains("\"bye\""), "{error}");
}
