use super::*;
use crate::GracefulRestart;
use crate::oracle::read_open;
use bgp_rs::{AFI, OpenCapability, OpenParameter, SAFI};
use rustbgpd_wire::Afi;

fn config() -> PeerConfig {
    let remote = "192.0.2.1:179".parse().unwrap();
    PeerConfig::new(Asn(64500), PeerAsn::Exactly(Asn(64512)), Ipv4Addr::new(10, 0, 0, 1), remote)
}

fn peer_open() -> OpenMessage {
    OpenMessage {
        version: 4,
        my_as: 64512,
        hold_time: 180,
        bgp_identifier: Ipv4Addr::new(10, 0, 0, 2),
        capabilities: vec![
            Capability::MultiProtocol { afi: Afi::Ipv4, safi: Safi::Unicast },
            Capability::MultiProtocol { afi: Afi::Ipv6, safi: Safi::Unicast },
            Capability::FourOctetAs { asn: 64512 },
            Capability::RouteRefresh,
        ],
    }
}

#[test]
fn golden_open_and_a_second_decoder() {
    let message = encode_open(&our_open(&config(), RestartState::Running));
    let expected: [u8; 37] = [
        0, 53, 1, 4, 0xfb, 0xf4, 0, 90, 10, 0, 0, 1, 24, // AS 64500, 90 s, 10.0.0.1
        2, 22, 1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, // both families
        2, 0, 6, 0, 65, 4, 0, 0, 0xfb, 0xf4, // route refresh, extended messages, four-octet AS
    ];
    assert_eq!(message[16..], expected);

    let withheld = PeerConfig { extended_messages: ExtendedMessages::Withheld, ..config() };
    assert_eq!(encode_open(&our_open(&withheld, RestartState::Running))[43..], [2, 0, 65, 4, 0, 0, 0xfb, 0xf4]);

    let mut large = config();
    large.local_asn = Asn(4_200_000_000);
    let open = read_open(&encode_open(&our_open(&large, RestartState::Running)));
    assert_eq!((open.version, open.peer_asn, open.hold_timer, open.identifier), (4, 23456, 90, 0x0a00_0001));
    let [OpenParameter::Capabilities(capabilities)] = open.parameters.as_slice() else { panic!("one parameter") };
    let expected = [
        OpenCapability::MultiProtocol((AFI::IPV4, SAFI::Unicast)),
        OpenCapability::MultiProtocol((AFI::IPV6, SAFI::Unicast)),
        OpenCapability::RouteRefresh,
        // Younger than the other decoder.
        OpenCapability::Unknown { cap_code: 6, cap_length: 0, value: Vec::new() },
        OpenCapability::FourByteASN(4_200_000_000),
    ];
    assert_eq!(format!("{capabilities:?}"), format!("{expected:?}"));
}

#[test]
fn graceful_restart_is_offered_and_agreed_on() {
    let capability = |adjust: fn(&mut GracefulRestart), state| {
        let mut config = config();
        let mut restart = GracefulRestart::new(Duration::from_secs(120));
        adjust(&mut restart);
        config.graceful_restart = Some(restart);
        let message = encode_open(&our_open(&config, state));
        message[message.len() - 12..].to_vec()
    };
    let expected = |flags, v6| [64, 10, flags, 120, 0, 1, 1, 0, 0, 2, 1, v6];
    assert_eq!(capability(|_| {}, RestartState::Running), expected(0x00, 0));
    assert_eq!(capability(|_| {}, RestartState::Restarting), expected(0x80, 0));
    assert_eq!(capability(|restart| restart.notification = true, RestartState::Restarting), expected(0xc0, 0));
    let forwarding = |restart: &mut GracefulRestart| restart.forwarding_preserved = [Family::Ipv6Unicast].into();
    assert_eq!(capability(forwarding, RestartState::Running), expected(0x00, 0x80));

    let entry = |afi, forwarding_preserved| GracefulRestartFamily { afi, safi: Safi::Unicast, forwarding_preserved };
    let offer = |notification, families| Capability::GracefulRestart {
        restart_state: true,
        notification,
        restart_time: 60,
        families,
    };
    let agreed = |ours: Option<bool>, theirs: Vec<Capability>| {
        let mut config = config();
        config.families = [Family::Ipv4Unicast].into();
        config.graceful_restart =
            ours.map(|notification| GracefulRestart { notification, ..GracefulRestart::new(Duration::from_secs(1)) });
        let mut open = peer_open();
        open.capabilities.extend(theirs);
        negotiate(&open, &config).unwrap().graceful_restart
    };
    let both = vec![entry(Afi::Ipv4, true), entry(Afi::Ipv6, true)];
    assert_eq!(agreed(None, vec![offer(true, both.clone())]), None, "not offered by us");
    assert_eq!(agreed(Some(true), vec![]), None, "not offered by the peer");
    let restart = |notification, forwarding: &[(Family, bool)]| {
        let forwarding = forwarding.iter().copied().collect();
        Some(PeerRestart { restarting: true, restart_time: Duration::from_secs(60), notification, forwarding })
    };
    let ipv4 = [(Family::Ipv4Unicast, true)];
    assert_eq!(agreed(Some(true), vec![offer(true, both.clone())]), restart(true, &ipv4), "IPv6 is not negotiated");
    assert_eq!(agreed(Some(false), vec![offer(true, both.clone())]), restart(false, &ipv4), "N takes both");
    assert_eq!(agreed(Some(true), vec![offer(false, both)]), restart(false, &ipv4), "N takes both");
    assert_eq!(agreed(Some(true), vec![offer(false, vec![])]), restart(false, &[]), "it only helps");
    let twice = vec![offer(true, vec![]), offer(false, vec![entry(Afi::Ipv4, false)])];
    assert_eq!(agreed(Some(true), twice), restart(false, &[(Family::Ipv4Unicast, false)]), "the last one counts");
}

#[test]
fn roles_are_offered_and_have_to_match() {
    let golden = encode_open(&our_open(&PeerConfig { role: Some(Role::Customer), ..config() }, RestartState::Running));
    assert_eq!(golden[43..], [2, 0, 6, 0, 9, 1, 3, 65, 4, 0, 0, 0xfb, 0xf4], "code 9, length 1, Customer");

    let role = |value: u8| Capability::Unknown { code: 9, data: vec![value].into() };
    let known = |role: Role| Capability::Role { role: role.to_wire() };
    let mismatch = |ours, given: &str| Err(OpenError::RoleMismatch { ours, given: given.to_owned() });
    let (lenient, strict) = (RoleStrictness::Lenient, RoleStrictness::Strict);
    let (customer, provider) = (Role::Customer, Role::Provider);
    let cases = [
        ("no role of ours", None, strict, vec![known(customer)], Ok(None)),
        ("matches", Some(customer), strict, vec![known(provider)], Ok(Some(provider))),
        ("said twice", Some(customer), lenient, vec![known(provider); 2], Ok(Some(provider))),
        ("the same", Some(customer), lenient, vec![known(customer)], mismatch(customer, "Customer")),
        (
            "two",
            Some(customer),
            lenient,
            vec![known(provider), known(Role::Peer)],
            mismatch(customer, "Provider and Peer"),
        ),
        ("peers", Some(Role::Peer), lenient, vec![known(Role::Peer)], Ok(Some(Role::Peer))),
        ("unknown", Some(Role::Peer), lenient, vec![role(5)], mismatch(Role::Peer, "unknown role [05]")),
        ("silent", Some(Role::RouteServer), lenient, vec![], Ok(Some(Role::RouteServerClient))),
        ("silent, strict", Some(provider), strict, vec![], Err(OpenError::NoRole { ours: provider })),
    ];
    for (name, role, role_strictness, capabilities, expected) in cases {
        let mut open = peer_open();
        open.capabilities.extend(capabilities);
        let config = PeerConfig { role, role_strictness, ..config() };
        assert_eq!(negotiate(&open, &config).map(|negotiated| negotiated.peer_role), expected, "{name}");
    }
}

#[test]
fn long_messages_go_to_those_who_take_them() {
    let cases = [
        ("both", ExtendedMessages::Offered, true, 65535),
        ("we alone", ExtendedMessages::Offered, false, 4096),
        ("the peer alone", ExtendedMessages::Withheld, true, 4096),
    ];
    for (name, extended_messages, offered, expected) in cases {
        let mut open = peer_open();
        if offered {
            open.capabilities.push(Capability::ExtendedMessage);
        }
        let config = PeerConfig { extended_messages, ..config() };
        assert_eq!(negotiate(&open, &config).unwrap().max_message, expected, "{name}");
    }
}

#[test]
fn an_open_is_judged_against_the_configuration() {
    let asn = |asn: u32| {
        move |open: &mut OpenMessage| {
            open.my_as = u16::try_from(asn).unwrap_or(23456);
            open.capabilities.retain(|capability| !matches!(capability, Capability::FourOctetAs { .. }));
            open.capabilities.push(Capability::FourOctetAs { asn });
        }
    };
    let cases: Vec<(&str, PeerAsn, Box<dyn Fn(&mut OpenMessage)>, Result<(), OpenError>)> = vec![
        ("good", PeerAsn::Exactly(Asn(64512)), Box::new(|_| {}), Ok(())),
        (
            "another AS",
            PeerAsn::Exactly(Asn(64513)),
            Box::new(|_| {}),
            Err(OpenError::PeerAsn { given: Asn(64512), expected: Asn(64513) }),
        ),
        ("large AS", PeerAsn::Exactly(Asn(4_200_000_000)), Box::new(asn(4_200_000_000)), Ok(())),
        ("AS 0", PeerAsn::External, Box::new(asn(0)), Err(OpenError::ReservedAsn { given: Asn(0) })),
        (
            "AS_TRANS without the capability",
            PeerAsn::External,
            Box::new(|open| (open.my_as, open.capabilities) = (23456, Vec::new())),
            Err(OpenError::ReservedAsn { given: Asn(23456) }),
        ),
        ("external, and is", PeerAsn::External, Box::new(|_| {}), Ok(())),
        (
            "external, but ours",
            PeerAsn::External,
            Box::new(asn(64500)),
            Err(OpenError::NotExternal { given: Asn(64500) }),
        ),
        ("internal, and is", PeerAsn::Internal, Box::new(asn(64500)), Ok(())),
        (
            "internal, but is not",
            PeerAsn::Internal,
            Box::new(|_| {}),
            Err(OpenError::NotInternal { given: Asn(64512), local: Asn(64500) }),
        ),
        (
            "identifier 0",
            PeerAsn::External,
            Box::new(|open| open.bgp_identifier = Ipv4Addr::UNSPECIFIED),
            Err(OpenError::ZeroRouterId),
        ),
        (
            "identifier need not be an address (RFC 6286)",
            PeerAsn::External,
            Box::new(|open| open.bgp_identifier = Ipv4Addr::new(255, 255, 255, 255)),
            Ok(()),
        ),
        (
            "our identifier in another AS (RFC 6286)",
            PeerAsn::External,
            Box::new(|open| open.bgp_identifier = Ipv4Addr::new(10, 0, 0, 1)),
            Ok(()),
        ),
        (
            "our identifier in our AS",
            PeerAsn::Internal,
            Box::new(move |open| {
                asn(64500)(open);
                open.bgp_identifier = Ipv4Addr::new(10, 0, 0, 1);
            }),
            Err(OpenError::SameRouterId { given: Ipv4Addr::new(10, 0, 0, 1) }),
        ),
        ("hold 1", PeerAsn::External, Box::new(|open| open.hold_time = 1), Err(OpenError::HoldTime { given: 1 })),
        ("hold 2", PeerAsn::External, Box::new(|open| open.hold_time = 2), Err(OpenError::HoldTime { given: 2 })),
        ("hold 3", PeerAsn::External, Box::new(|open| open.hold_time = 3), Ok(())),
        ("no capabilities at all", PeerAsn::External, Box::new(|open| open.capabilities.clear()), Ok(())),
    ];
    for (name, peer_asn, adjust, expected) in cases {
        let mut open = peer_open();
        adjust(&mut open);
        let result = negotiate(&open, &PeerConfig { peer_asn, ..config() });
        assert_eq!(result.map(|_| ()), expected, "{name}");
    }
}

#[test]
fn hold_and_keepalive_are_the_lower_of_both() {
    let seconds = Duration::from_secs;
    // Ours, the peer's, our keepalive; then hold and keepalive.
    let cases = [
        (90, 180, None, 90, 30),
        (90, 9, None, 9, 3),
        (0, 90, None, 0, 0),
        (90, 0, None, 0, 0),
        (3, 90, None, 3, 1),
        (90, 90, Some(10), 90, 10),
        (90, 9, Some(10), 9, 3),
        (90, 90, Some(0), 90, 30),
    ];
    for (own, given, keepalive, hold, interval) in cases {
        let config = PeerConfig { hold_time: seconds(own), keepalive: keepalive.map(seconds), ..config() };
        let negotiated = negotiate(&OpenMessage { hold_time: given, ..peer_open() }, &config).unwrap();
        let case = format!("{own} against {given}, keepalive {keepalive:?}");
        assert_eq!((negotiated.hold_time, negotiated.keepalive), (seconds(hold), seconds(interval)), "{case}");
    }
}

#[test]
fn families_are_those_that_both_have() {
    let v4 = Capability::MultiProtocol { afi: Afi::Ipv4, safi: Safi::Unicast };
    let v6 = Capability::MultiProtocol { afi: Afi::Ipv6, safi: Safi::Unicast };
    let vpn = Capability::MultiProtocol { afi: Afi::Ipv4, safi: Safi::MplsVpn };
    let strange = Capability::Unknown { code: 1, data: vec![0x40, 0x04, 0, 71].into() };
    let both = Family::ALL.to_vec();
    let cases = [
        ("both", vec![v4.clone(), v6.clone()], &both[..], Some(&both[..])),
        ("none said means IPv4", vec![], &both[..], Some(&both[..1])),
        ("said twice", vec![v4.clone(), v4.clone()], &both[..], Some(&both[..1])),
        ("IPv6 only", vec![v6.clone()], &both[..], Some(&both[1..])),
        ("we have IPv6 only", vec![v4.clone(), v6], &both[1..], Some(&both[1..])),
        ("nothing in common", vec![v4], &both[1..], None),
        ("VPN only", vec![vpn], &both[..], None),
        ("something unheard of", vec![strange], &both[..], None),
    ];
    for (name, capabilities, ours, expected) in cases {
        let config = PeerConfig { families: ours.iter().copied().collect(), ..config() };
        let result = negotiate(&OpenMessage { capabilities, ..peer_open() }, &config);
        let expected = expected.map(|families| families.iter().copied().collect::<BTreeSet<_>>());
        assert_eq!(result.ok().map(|negotiated| negotiated.families), expected, "{name}");
    }
}
