use std::collections::BTreeSet;

use rustbgpd_wire::{Message, decode_message};

use super::*;
use crate::next_hop::ExtendedNextHops;
use crate::oracle::{SeenUpdate, read_update, younger};
use crate::update::{Disposition, Import, Nlri, decode_update};
use crate::{Community, LargeCommunity as Large, LinkBandwidth, Transitivity};

/// For one peer.
fn encode_announcements<'a>(
    family: Family,
    attributes: &RouteAttributes,
    prefixes: impl Iterator<Item = &'a IpNet>,
    export: &Export,
) -> Result<(Bytes, usize), TooLarge> {
    let attributes = Arc::new(attributes.clone());
    super::encode_announcements(family, &attributes, prefixes, export, &mut EncodedAttributes::default())
}

fn export(internal: bool, four_octet_asn: bool) -> Export {
    Export {
        local_asn: Asn(64500),
        internal,
        four_octet_asn,
        next_hops: SessionNextHops {
            ipv4: Some(NextHop::V4([10, 0, 0, 1].into())),
            ipv6: over_v6("2001:db8::1", None),
        },
        only_to_customer: None,
        max_message: 4096,
    }
}

fn over_v6(address: &str, link_local: Option<&str>) -> Option<NextHop> {
    let link_local = link_local.map(|text| text.parse().unwrap());
    Some(NextHop::V6 { address: address.parse().unwrap(), link_local })
}

fn prefixes(texts: &[&str]) -> BTreeSet<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `expected` is without the marker, which is the same in all. Whoever reads these octets sees what `meant` says: two decoders that
/// have nothing to do with ours, as far as they know such messages, and ours.
fn check_golden(name: &str, message: &[u8], expected: &str, known: Known, meant: &SeenUpdate) {
    assert_eq!(message[..16], [0xff; 16], "{name}");
    assert_eq!(hex(&message[16..]), expected.replace([' ', '\n'], ""), "{name}");
    let seen = match known {
        Known::ByBoth => read_update(message, true),
        Known::ByTheYounger => younger::read_update(message, true),
    };
    assert_eq!(seen, *meant, "{name}");
    assert_eq!(read_ourselves(message), *meant, "{name}");
}

/// What the other decoders know of a message.
#[derive(Debug, Clone, Copy)]
enum Known {
    ByBoth,
    ByTheYounger,
}

/// As a peer that is us: an internal one if LOCAL_PREF is there.
fn read_ourselves(message: &[u8]) -> SeenUpdate {
    let mut octets = Bytes::copy_from_slice(message);
    let Ok(Message::Update(update)) = decode_message(&mut octets, 4096) else { panic!("not an UPDATE") };
    let (families, several_paths) = (Family::ALL.into(), BTreeSet::new());
    let import = Import {
        internal: message.windows(4).any(|octets| octets == [0x40, 5, 4, 0]),
        four_octet_asn: true,
        families: &families,
        extended_next_hops: ExtendedNextHops::Agreed,
        local_address: [192, 0, 2, 9].into(),
        several_paths: &several_paths,
        aigp: false,
    };
    let received = decode_update(&update, import).unwrap();
    assert_eq!(received.disposition, Disposition::Ok);
    let name = |nlri: &Nlri| nlri.prefix.to_string();
    let mut seen = SeenUpdate {
        withdrawn: received.withdrawn.iter().map(name).collect(),
        announced: received.announced.iter().map(|reach| name(&reach.nlri)).collect(),
        next_hop: received.announced.first().map(|reach| reach.next_hop.to_string()),
        ..SeenUpdate::default()
    };
    if let Some(meaning) = received.attributes.map(|attributes| attributes.meaning()) {
        let short = |community: &ExtendedCommunity| match community {
            ExtendedCommunity::Short(octets) => Some(u64::from_be_bytes(*octets)),
            ExtendedCommunity::Ipv6(_) => None,
        };
        seen.as_path = Some(meaning.as_path.0.iter().map(|asn| asn.0).collect());
        (seen.local_preference, seen.med) = (meaning.local_preference, meaning.med);
        seen.communities = meaning.communities.iter().map(|community| community.0).collect();
        seen.extended_communities = meaning.extended_communities.iter().filter_map(short).collect();
        seen.only_to_customer = meaning.only_to_customer.map(|asn| asn.0);
    }
    seen
}

#[test]
fn golden_bytes() {
    let v4 = prefixes(&["192.0.2.0/24", "198.51.100.1/32"]);
    let v6 = prefixes(&["2001:db8:1::/48"]);
    let attributes = RouteAttributes {
        communities: vec!["64500:100".parse().unwrap(), Community::NO_EXPORT],
        ..RouteAttributes::default()
    };

    let announced = SeenUpdate {
        announced: vec!["192.0.2.0/24".to_owned(), "198.51.100.1/32".to_owned()],
        next_hop: Some("10.0.0.1".to_owned()),
        as_path: Some(vec![64500]),
        ..SeenUpdate::default()
    };
    let (message, count) =
        encode_announcements(Family::Ipv4Unicast, &attributes, v4.iter(), &export(false, true)).unwrap();
    assert_eq!(count, 2);
    check_golden(
        "IPv4 to an external peer",
        &message,
        "003f 02 0000 001f  400101 00  400206 0201 0000fbf4  400304 0a000001  c00808 fbf40064 ffffff01
         18c00002 20c6336401",
        Known::ByBoth,
        &SeenUpdate { communities: vec![0xfbf4_0064, 0xffff_ff01], ..announced.clone() },
    );

    let extended = RouteAttributes {
        extended_communities: ["rt:[2001:db8::1]:7", "rt:64500:1"].map(|text| text.parse().unwrap()).into(),
        link_bandwidth: Some(LinkBandwidth {
            bits_per_second: 1_000_000_000,
            transitivity: Transitivity::NonTransitive,
        }),
        ..RouteAttributes::default()
    };
    let (message, _) =
        encode_announcements(Family::Ipv4Unicast, &extended, v4.iter().take(1), &export(false, true)).unwrap();
    check_golden(
        "extended communities of both lengths, and link bandwidth",
        &message,
        "0059 02 0000 003e  400101 00  400206 0201 0000fbf4  400304 0a000001
         c01010 0002fbf400000001 4004fbf44cee6b28  c01914 000220010db80000000000000000000000010007  18c00002",
        Known::ByTheYounger,
        &SeenUpdate {
            announced: vec!["192.0.2.0/24".to_owned()],
            extended_communities: vec![0x0002_fbf4_0000_0001, 0x4004_fbf4_4cee_6b28],
            ..announced.clone()
        },
    );

    let plain = RouteAttributes::default();
    let marked = Export { only_to_customer: Some(Asn(64500)), ..export(false, true) };
    let (message, _) = encode_announcements(Family::Ipv4Unicast, &plain, v4.iter(), &marked).unwrap();
    check_golden(
        "IPv4 for customers only",
        &message,
        "003b 02 0000 001b  400101 00  400206 0201 0000fbf4  400304 0a000001  c02304 0000fbf4  18c00002 20c6336401",
        Known::ByTheYounger,
        &SeenUpdate { only_to_customer: Some(64500), ..announced.clone() },
    );
    let (message, _) = encode_announcements(Family::Ipv4Unicast, &plain, v4.iter(), &export(true, true)).unwrap();
    check_golden(
        "IPv4 to an internal peer",
        &message,
        "0035 02 0000 0015  400101 00  400200  400304 0a000001  400504 00000064  18c00002 20c6336401",
        Known::ByBoth,
        &SeenUpdate { as_path: Some(Vec::new()), local_preference: Some(100), ..announced.clone() },
    );

    let (message, _) = encode_announcements(Family::Ipv6Unicast, &plain, v6.iter(), &export(false, true)).unwrap();
    check_golden(
        "IPv6 to an external peer",
        &message,
        "0043 02 0000 002c  800e1c 0002 01 10 20010db8000000000000000000000001 00 3020010db80001
         400101 00  400206 0201 0000fbf4",
        Known::ByBoth,
        &SeenUpdate {
            announced: vec!["2001:db8:1::/48".to_owned()],
            next_hop: Some("2001:db8::1".to_owned()),
            ..announced.clone()
        },
    );

    let extended =
        |next_hop| Export { next_hops: SessionNextHops { ipv4: next_hop, ipv6: None }, ..export(false, true) };
    let over_ipv6 = SeenUpdate { next_hop: Some("2001:db8::1".to_owned()), ..announced.clone() };
    let global = extended(over_v6("2001:db8::1", None));
    let (message, count) = encode_announcements(Family::Ipv4Unicast, &plain, v4.iter(), &global).unwrap();
    assert_eq!(count, 2);
    check_golden(
        "IPv4 with an IPv6 next hop (RFC 8950)",
        &message,
        "0045 02 0000 002e  800e1e 0001 01 10 20010db8000000000000000000000001 00 18c00002 20c6336401
         400101 00  400206 0201 0000fbf4",
        Known::ByTheYounger,
        &over_ipv6,
    );
    let unnumbered = extended(over_v6("2001:db8::1", Some("fe80::1")));
    let (message, _) = encode_announcements(Family::Ipv4Unicast, &plain, v4.iter(), &unnumbered).unwrap();
    check_golden(
        "IPv4 with a global and a link-local next hop",
        &message,
        "0055 02 0000 003e  800e2e 0001 01 20 20010db8000000000000000000000001 fe800000000000000000000000000001 00
         18c00002 20c6336401  400101 00  400206 0201 0000fbf4",
        Known::ByTheYounger,
        &over_ipv6,
    );

    let (message, _) = encode_withdrawals(Family::Ipv4Unicast, v4.iter(), &export(false, true));
    let withdrawn = SeenUpdate { withdrawn: announced.announced, ..SeenUpdate::default() };
    check_golden("IPv4 withdrawal", &message, "0020 02 0009 18c00002 20c6336401 0000", Known::ByBoth, &withdrawn);
    let (message, _) = encode_withdrawals(Family::Ipv6Unicast, v6.iter(), &export(false, true));
    let withdrawn = SeenUpdate { withdrawn: vec!["2001:db8:1::/48".to_owned()], ..SeenUpdate::default() };
    check_golden(
        "IPv6 withdrawal",
        &message,
        "0024 02 0000 000d 800f0a 0002 01 3020010db80001",
        Known::ByBoth,
        &withdrawn,
    );

    let end = |family| encode_end_of_rib(family, &export(false, true));
    let nothing = SeenUpdate::default();
    let (ipv4, ipv6) = (end(Family::Ipv4Unicast), end(Family::Ipv6Unicast));
    check_golden("IPv4 End-of-RIB", &ipv4, "0017 02 0000 0000", Known::ByBoth, &nothing);
    check_golden("IPv6 End-of-RIB", &ipv6, "001d 02 0000 0006 800f03 0002 01", Known::ByBoth, &nothing);
}

#[test]
fn a_route_of_another_session_keeps_its_path_and_may_keep_its_next_hop() {
    let behind: Vec<Asn> = (0..300).map(|index| Asn(65_000 + index)).collect();
    let next_hops = crate::NextHops { ipv4: Some("10.80.1.21".parse().unwrap()), ipv6: None };
    let attributes =
        RouteAttributes { as_path: crate::AsPath(behind.clone()), next_hops, ..RouteAttributes::default() };
    let list = prefixes(&["203.0.113.0/24"]);
    for internal in [false, true] {
        let (message, _) =
            encode_announcements(Family::Ipv4Unicast, &attributes, list.iter(), &export(internal, true)).unwrap();
        let seen = read_update(&message, true);
        let own = (!internal).then_some(64500);
        let expected: Vec<u32> = own.into_iter().chain(behind.iter().map(|asn| asn.0)).collect();
        // More than one segment holds.
        assert_eq!(seen.as_path, Some(expected));
        assert_eq!(seen.next_hop.as_deref(), Some("10.80.1.21"));
    }
}

#[test]
fn a_second_decoder_sees_what_was_meant() {
    let attributes = RouteAttributes {
        communities: vec!["64500:100".parse().unwrap(), Community::NO_EXPORT, "64500:100".parse().unwrap()],
        large_communities: vec![Large { global: 64500, local1: 1, local2: 7 }; 2],
        extended_communities: ["soo:64500:7", "rt:64500:1", "soo:64500:7"].map(|text| text.parse().unwrap()).into(),
        link_bandwidth: Some(LinkBandwidth { bits_per_second: 8, transitivity: Transitivity::Transitive }),
        local_preference: Some(200),
        med: Some(5),
        prepend: 2,
        ..RouteAttributes::default()
    };
    let common = SeenUpdate {
        med: Some(5),
        communities: vec![0xfbf4_0064, 0xffff_ff01],
        large_communities: vec![(64500, 1, 7)],
        extended_communities: vec![0x0002_fbf4_0000_0001, 0x0003_fbf4_0000_0007, 0x0004_fbf4_3f80_0000],
        ..SeenUpdate::default()
    };
    for (family, text, next_hop) in
        [(Family::Ipv4Unicast, "203.0.113.0/24", "10.0.0.1"), (Family::Ipv6Unicast, "2001:db8:77::/48", "2001:db8::1")]
    {
        let list = prefixes(&[text]);
        for internal in [false, true] {
            let export = export(internal, true);
            let (message, _) = encode_announcements(family, &attributes, list.iter(), &export).unwrap();
            let seen = read_update(&message, true);
            assert_eq!(seen.announced, [text]);
            assert_eq!(seen.next_hop.as_deref(), Some(next_hop));
            assert_eq!(seen.as_path.as_deref(), Some(if internal { &[][..] } else { &[64500, 64500, 64500] }));
            // RFC 4271 section 5.1.5: LOCAL_PREF is for internal peers, and only for them.
            assert_eq!(seen.local_preference, internal.then_some(200));
            assert_eq!(
                (seen.med, seen.communities, seen.large_communities, seen.extended_communities),
                (
                    common.med,
                    common.communities.clone(),
                    common.large_communities.clone(),
                    common.extended_communities.clone()
                )
            );
        }
        let (message, _) = encode_withdrawals(family, list.iter(), &export(false, true));
        assert_eq!(
            read_update(&message, true),
            SeenUpdate { withdrawn: vec![text.to_owned()], ..SeenUpdate::default() }
        );
        let end = encode_end_of_rib(family, &export(false, true));
        assert_eq!(read_update(&end, true), SeenUpdate::default());
    }
}

#[test]
fn a_peer_with_two_octet_asns_gets_as_trans_and_as4_path() {
    let list = prefixes(&["203.0.113.0/24"]);
    let cases = [
        ("small ASN", 64500, Some(vec![64500]), None),
        ("large ASN", 4_200_000_000, Some(vec![23456]), Some(vec![4_200_000_000])),
    ];
    for (name, asn, as_path, as4_path) in cases {
        let export = Export { local_asn: Asn(asn), ..export(false, false) };
        let (message, _) =
            encode_announcements(Family::Ipv4Unicast, &RouteAttributes::default(), list.iter(), &export).unwrap();
        let seen = read_update(&message, false);
        assert_eq!((seen.as_path, seen.as4_path), (as_path, as4_path), "{name}");
    }
}

/// Every prefix is sent once, in messages that are as full as they can be and never too large.
#[test]
fn messages_are_filled_and_never_overfilled() {
    let many = |family: Family, count: u32| -> BTreeSet<IpNet> {
        (0..count)
            .map(|index| match family {
                Family::Ipv4Unicast => IpNet::new(IpAddr::V4((0x0a00_0000 + (index << 8)).into()), 24).unwrap(),
                Family::Ipv6Unicast => {
                    IpNet::new(IpAddr::V6(((0x2001_0db8_u128 << 96) + (u128::from(index) << 64)).into()), 64).unwrap()
                }
            })
            .collect()
    };
    let attributes = |communities: u32| RouteAttributes {
        communities: (0..communities).map(|index| Community(0xfbf4_0000 + index)).collect(),
        prepend: 255,
        ..RouteAttributes::default()
    };
    // The limit, with as many prefixes as need more than one message of it.
    let sizes: [(u16, u32, &[u32]); 2] = [(4096, 3000, &[0, 62, 63, 64, 200, 500]), (65535, 17_000, &[200])];
    let cases = sizes.into_iter().flat_map(|size| Family::ALL.map(|family| (family, size)));
    for (family, (max_message, count, numbers_of_communities)) in cases {
        let prefixes = many(family, count);
        let export = Export { max_message, ..export(false, true) };
        let limit = usize::from(max_message);
        let longest = if family == Family::Ipv4Unicast { 4 } else { 9 };
        for &communities in numbers_of_communities {
            let attributes = attributes(communities);
            let mut left = prefixes.clone();
            let mut seen = Vec::new();
            while !left.is_empty() {
                let (message, count) = encode_announcements(family, &attributes, left.iter(), &export).unwrap();
                assert!(message.len() <= limit, "{} octets", message.len());
                seen.extend(read_update(&message, true).announced);
                for _ in 0..count {
                    left.pop_first();
                }
                let spare = limit - message.len();
                assert!(
                    left.is_empty() || spare < longest + 1,
                    "{communities} communities leave {spare} octets unused"
                );
            }
            let expected: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
            assert_eq!(seen, expected, "{family} with {communities} communities");
        }
        let mut left = prefixes.clone();
        while !left.is_empty() {
            let (message, count) = encode_withdrawals(family, left.iter(), &export);
            assert!(message.len() <= limit && count > 0);
            assert_eq!(read_update(&message, true).withdrawn.len(), count);
            for _ in 0..count {
                left.pop_first();
            }
        }
    }
}

#[test]
fn attributes_without_room_for_a_prefix_are_an_error() {
    let attributes = RouteAttributes { communities: (0..1020).map(Community).collect(), ..RouteAttributes::default() };
    for family in Family::ALL {
        let list = prefixes(if family == Family::Ipv4Unicast { &["10.0.0.0/8"] } else { &["2001:db8::/32"] });
        let error = encode_announcements(family, &attributes, list.iter(), &export(false, true)).unwrap_err();
        assert!(matches!(error, TooLarge::Attributes { .. }), "{error}");
        let extended = Export { max_message: 65535, ..export(false, true) };
        let (message, count) = encode_announcements(family, &attributes, list.iter(), &extended).unwrap();
        assert_eq!((message.len() > 4096, count, read_update(&message, true).announced.len()), (true, 1, 1));
    }
}

#[test]
fn attributes_are_encoded_once_for_peers_with_the_same_settings() {
    let list = prefixes(&["10.0.0.0/8"]);
    let sets = [None, Some(7)].map(|med| Arc::new(RouteAttributes { med, ..RouteAttributes::default() }));
    let mut encoded = EncodedAttributes::default();
    let mut tell = |attributes: &Arc<RouteAttributes>, export: &Export| {
        let (message, _) =
            super::encode_announcements(Family::Ipv4Unicast, attributes, list.iter(), export, &mut encoded).unwrap();
        assert_eq!(message, encode_announcements(Family::Ipv4Unicast, attributes, list.iter(), export).unwrap().0);
        encoded.known.len()
    };
    for (attributes, export, known) in [
        (&sets[0], export(false, true), 1),
        (&sets[0], export(false, true), 1),
        (&sets[1], export(false, true), 2),
        (&sets[0], export(true, true), 3),
        (&sets[0], export(false, false), 4),
        (&sets[1], export(false, true), 4),
    ] {
        assert_eq!(tell(attributes, &export), known);
    }
    for med in 0..10_000 {
        tell(&Arc::new(RouteAttributes { med: Some(med), ..RouteAttributes::default() }), &export(false, true));
    }
    assert!(encoded.octets <= KEPT + 100, "{} octets are kept", encoded.octets);
}
