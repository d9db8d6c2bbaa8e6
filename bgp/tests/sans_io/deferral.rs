//! A route server after its own start: it tells nothing before those who are back have told theirs (RFC 4724 section 4.1).

use std::time::Duration;

use roadstead_bgp::{GracefulRestart, Relay, SelectionDeferral};
use rustbgpd_wire::{Afi, Capability, GracefulRestartFamily, Message, Safi};

use crate::relay::{Hub, config, open};
use crate::script::raw;
use crate::stage::Stage as _;

const ESTABLISH: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(60);
const END_OF_RIB_IPV4: &[u8] = &[0, 0, 0, 0];
const END_OF_RIB_IPV6: &[u8] = &[0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1];

/// What a client says of its restarts.
#[derive(Clone, Copy)]
enum Says {
    Nothing,
    Running,
    Restarting,
}

fn hub() -> Hub {
    let mut hub = Hub::new();
    hub.speaker.defer_selection(hub.now, SelectionDeferral { establish: ESTABLISH, limit: LIMIT });
    hub
}

fn join(hub: &mut Hub, number: u8, says: Says) {
    let asn = 64600 + u32::from(number);
    let mut config = config(number, asn, Relay::RouteServerClient);
    config.graceful_restart = Some(GracefulRestart::new(Duration::from_secs(120)));
    let mut open = open(number, asn);
    let family = |afi| GracefulRestartFamily { afi, safi: Safi::Unicast, forwarding_preserved: true };
    let capability = |restart_state| Capability::GracefulRestart {
        restart_state,
        notification: false,
        restart_time: 120,
        families: [Afi::Ipv4, Afi::Ipv6].map(family).into(),
    };
    match says {
        Says::Nothing => {}
        Says::Running => open.capabilities.push(capability(false)),
        Says::Restarting => open.capabilities.push(capability(true)),
    }
    hub.add(config, open, number);
}

fn end_of_rib(hub: &mut Hub, number: u8) {
    hub.send(number, &raw(2, END_OF_RIB_IPV4));
    hub.send(number, &raw(2, END_OF_RIB_IPV6));
}

/// The prefixes that a client has heard, and how often End-of-RIB.
fn heard(hub: &mut Hub, number: u8) -> (Vec<String>, usize) {
    let (mut prefixes, mut ends) = (Vec::new(), 0);
    for message in hub.read(number) {
        let Message::Update(update) = message else { continue };
        let parsed = update.parse(true, false, &[]).unwrap();
        let nothing = parsed.announced.is_empty() && parsed.withdrawn.is_empty();
        ends += usize::from(nothing);
        prefixes.extend(parsed.announced.iter().map(|entry| format!("{}/{}", entry.prefix.addr, entry.prefix.len)));
    }
    prefixes.sort();
    (prefixes, ends)
}

#[test]
fn nothing_is_told_before_everybody_has_said_end_of_rib() {
    let mut hub = hub();
    join(&mut hub, 1, Says::Running);
    join(&mut hub, 2, Says::Running);
    hub.announce(1, "192.0.2.0/24", &[64601], &[]);
    end_of_rib(&mut hub, 1);
    hub.advance(ESTABLISH);
    assert_eq!(heard(&mut hub, 2), (vec![], 0), "client 2 is still telling");
    assert!(hub.speaker.is_deferring());
    hub.announce(2, "198.51.100.0/24", &[64602], &[]);
    hub.send(2, &raw(2, END_OF_RIB_IPV4));
    assert_eq!(heard(&mut hub, 1), (vec![], 0), "IPv6 has an end of its own");
    hub.send(2, &raw(2, END_OF_RIB_IPV6));
    assert_eq!(heard(&mut hub, 1), (vec!["198.51.100.0/24".to_owned()], 2));
    assert_eq!(heard(&mut hub, 2), (vec!["192.0.2.0/24".to_owned()], 2));
    assert!(!hub.speaker.is_deferring());

    // From here on it is as ever.
    hub.announce(1, "203.0.113.0/24", &[64601], &[]);
    assert_eq!(heard(&mut hub, 2), (vec!["203.0.113.0/24".to_owned()], 0));
}

#[test]
fn clients_have_the_time_to_come_back() {
    let mut hub = hub();
    join(&mut hub, 1, Says::Running);
    hub.announce(1, "192.0.2.0/24", &[64601], &[]);
    end_of_rib(&mut hub, 1);
    assert_eq!(heard(&mut hub, 1), (vec![], 0), "another may be on its way");
    hub.advance(ESTABLISH - Duration::from_secs(1));
    join(&mut hub, 2, Says::Running);
    end_of_rib(&mut hub, 2);
    assert_eq!(heard(&mut hub, 2), (vec![], 0));
    hub.advance(Duration::from_secs(1));
    assert_eq!(heard(&mut hub, 2), (vec!["192.0.2.0/24".to_owned()], 2));
}

#[test]
fn nobody_is_waited_for_who_may_never_say_it() {
    for says in [Says::Nothing, Says::Restarting] {
        let mut hub = hub();
        join(&mut hub, 1, Says::Running);
        join(&mut hub, 2, says);
        hub.announce(1, "192.0.2.0/24", &[64601], &[]);
        end_of_rib(&mut hub, 1);
        hub.advance(ESTABLISH);
        assert_eq!(heard(&mut hub, 2), (vec!["192.0.2.0/24".to_owned()], 2));
    }
}

#[test]
fn whoever_never_ends_does_not_hold_the_others_for_ever() {
    let mut hub = hub();
    join(&mut hub, 1, Says::Running);
    join(&mut hub, 2, Says::Running);
    hub.announce(1, "192.0.2.0/24", &[64601], &[]);
    end_of_rib(&mut hub, 1);
    hub.advance(LIMIT - Duration::from_secs(1));
    assert_eq!(heard(&mut hub, 2), (vec![], 0));
    hub.advance(Duration::from_secs(1));
    assert_eq!(heard(&mut hub, 2), (vec!["192.0.2.0/24".to_owned()], 2));
}

#[test]
fn a_client_that_goes_is_not_waited_for() {
    let mut hub = hub();
    join(&mut hub, 1, Says::Running);
    join(&mut hub, 2, Says::Running);
    hub.announce(2, "192.0.2.0/24", &[64602], &[]);
    end_of_rib(&mut hub, 2);
    hub.advance(ESTABLISH);
    hub.cut(1);
    assert!(!hub.speaker.is_deferring());
    assert_eq!(heard(&mut hub, 2), (vec![], 2));
}
