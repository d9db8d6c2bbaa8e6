use rustbgpd_wire::{AsPath, AsPathSegment, Origin};

use super::*;
use crate::oracle::{SeenUpdate, read_update, younger};
use crate::rib::Rib;
use crate::update::ReceivedAttributes;

fn session() -> RelaySession {
    RelaySession {
        families: [true, true],
        paths: [1, 1],
        four_octet_asn: true,
        max_message: 4096,
        extended_next_hops: ExtendedNextHops::No,
        cluster: None,
        own_next_hops: None,
        only_to_customer: None,
        withholds_marked: false,
        aigp: false,
    }
}

/// One route, as peers with different settings get it: octets, and what two decoders see in them that have nothing to do with ours.
#[test]
fn golden_bytes() {
    let next_hop = Ipv4Addr::new(198, 51, 100, 1);
    let path = AsPath { segments: vec![AsPathSegment::AsSequence(vec![65001, 4_200_000_000])] };
    let list = vec![PathAttribute::Origin(Origin::Igp), PathAttribute::AsPath(path), PathAttribute::NextHop(next_hop)];
    let route = Rib::new(1).route(&ReceivedAttributes::new(list, true, None), next_hop.into());
    let ours = SessionNextHops { ipv4: Some(NextHop::V4([10, 0, 0, 1].into())), ipv6: None };
    let as_it_came = SeenUpdate {
        announced: vec!["10.0.0.0/24".to_owned()],
        next_hop: Some("198.51.100.1".to_owned()),
        as_path: Some(vec![65001, 4_200_000_000]),
        ..SeenUpdate::default()
    };
    let cases = [
        (
            "as it came",
            session(),
            "0033 02 0000 0018  400101 00  40020a 0202 0000fde9 fa56ea00  400304 c6336401  180a0000",
            as_it_came.clone(),
        ),
        (
            "reflected",
            RelaySession { cluster: Some([10, 9, 9, 9].into()), ..session() },
            "003a 02 0000 001f  400101 00  40020a 0202 0000fde9 fa56ea00  400304 c6336401  800a04 0a090909  180a0000",
            as_it_came.clone(),
        ),
        (
            "through us",
            RelaySession { own_next_hops: Some(ours), ..session() },
            "0033 02 0000 0018  400101 00  40020a 0202 0000fde9 fa56ea00  400304 0a000001  180a0000",
            SeenUpdate { next_hop: Some("10.0.0.1".to_owned()), ..as_it_came.clone() },
        ),
        (
            "to a peer with two-octet AS numbers",
            RelaySession { four_octet_asn: false, ..session() },
            "003c 02 0000 0021  400101 00  400206 0202 fde9 5ba0  c0110a 0202 0000fde9 fa56ea00
             400304 c6336401  180a0000",
            SeenUpdate {
                as_path: Some(vec![65001, 23456]),
                as4_path: Some(vec![65001, 4_200_000_000]),
                ..as_it_came.clone()
            },
        ),
        (
            "to a customer",
            RelaySession { only_to_customer: Some(Asn(64500)), ..session() },
            "003a 02 0000 001f  400101 00  40020a 0202 0000fde9 fa56ea00  400304 c6336401  c02304 0000fbf4  180a0000",
            SeenUpdate { only_to_customer: Some(64500), ..as_it_came },
        ),
    ];
    let prefix = "10.0.0.0/24".parse().unwrap();
    for (name, session, expected, meant) in cases {
        let mut rewritten = Rewritten::default();
        for rewritten in [None, Some(&mut rewritten)] {
            let mut output = BytesMut::new();
            let mut message =
                session.begin_announcement(Family::Ipv4Unicast, &route, rewritten, &mut output).expect(name);
            assert!(message.push(&mut output, &prefix, 0));
            message.finish(&mut output);
            let hex: String = output[16..].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected.replace([' ', '\n'], ""), "{name}");
            let seen = match session.only_to_customer {
                None => read_update(&output, session.four_octet_asn),
                Some(_) => younger::read_update(&output, session.four_octet_asn),
            };
            assert_eq!(seen, meant, "{name}");
        }
    }
    let mut output = BytesMut::new();
    let mut message = session().begin_withdrawal(Family::Ipv4Unicast, &mut output);
    assert!(message.push(&mut output, &prefix, 0));
    message.finish(&mut output);
    let withdrawn = SeenUpdate { withdrawn: vec!["10.0.0.0/24".to_owned()], ..SeenUpdate::default() };
    assert_eq!(read_update(&output, true), withdrawn);
}
