use super::*;
use crate::Community;

/// Attributes as bytes, so that what is tested is what a peer can send.
const ORIGIN: &str = "400101 00";
const AS_PATH: &str = "400206 0201 0000fde9";
const NEXT_HOP: &str = "400304 c0000201";
const LOCAL_PREF: &str = "400504 000000c8";
/// 2001:db8:1::/48 by way of 2001:db8::2.
const MP_REACH: &str = "800e1c 0002 01 10 20010db8000000000000000000000002 00 3020010db80001";
const MP_UNREACH: &str = "800f0a 0002 01 3020010db80001";
const NLRI: &str = "18c00002";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn decode_with(
    withdrawn: &str,
    attributes: &[&str],
    nlri: &str,
    internal: bool,
    families: &[Family],
) -> Result<Received, SessionError> {
    let message = UpdateMessage {
        withdrawn_routes: bytes(withdrawn).into(),
        path_attributes: bytes(&attributes.concat()).into(),
        nlri: bytes(nlri).into(),
    };
    let families = families.iter().copied().collect();
    decode_update(&message, Import { internal, ..import(&families, &BTreeSet::new()) })
}

fn import<'a>(families: &'a BTreeSet<Family>, several_paths: &'a BTreeSet<Family>) -> Import<'a> {
    Import {
        internal: false,
        four_octet_asn: true,
        families,
        several_paths,
        aigp: false,
        extended_next_hops: ExtendedNextHops::No,
        local_address: [192, 0, 2, 9].into(),
    }
}

fn plain(prefix: &str) -> Nlri {
    Nlri { prefix: prefix.parse().unwrap(), path_id: 0 }
}

fn decode(withdrawn: &str, attributes: &[&str], nlri: &str) -> Result<Received, SessionError> {
    decode_with(withdrawn, attributes, nlri, false, &Family::ALL)
}

/// One word for what became of an UPDATE: `ok`, `discard`, `withdraw`, or `reset` with the codes.
fn outcome(result: &Result<Received, SessionError>) -> String {
    match result {
        Ok(received) => match &received.disposition {
            Disposition::Ok => "ok".to_owned(),
            Disposition::AttributeDiscarded { .. } => "discard".to_owned(),
            Disposition::TreatedAsWithdrawn { .. } => {
                assert!(received.announced.is_empty() && received.attributes.is_none());
                "withdraw".to_owned()
            }
        },
        Err(SessionError::Update { notification, .. }) => {
            format!("reset {}/{}", notification.code, notification.subcode)
        }
        Err(other) => panic!("not an error of an UPDATE: {other}"),
    }
}

#[test]
fn a_good_update_is_understood() {
    let attributes = [
        ORIGIN,
        "40020a 0202 0000fde9 fa56ea00",
        NEXT_HOP,
        "800404 00000007",
        "c00808 fbf40064 ffffff01",
        "c0200c 0000fbf4 00000001 00000007",
    ];
    let received = decode("180a0000", &attributes, NLRI).unwrap();
    assert_eq!(received.disposition, Disposition::Ok);
    assert_eq!(received.withdrawn, [plain("10.0.0.0/24")]);
    assert_eq!(received.announced, [Reach { nlri: plain("192.0.2.0/24"), next_hop: "192.0.2.1".parse().unwrap() }]);
    let attributes = received.attributes.unwrap().meaning();
    assert_eq!(attributes.as_path.to_string(), "65001 4200000000");
    assert_eq!((attributes.med, attributes.local_preference), (Some(7), None));
    assert_eq!(attributes.communities, ["64500:100".parse().unwrap(), Community::NO_EXPORT]);
    assert_eq!(attributes.large_communities, ["64500:1:7".parse().unwrap()]);
}

#[test]
fn both_families_in_one_update_have_their_own_next_hops() {
    let received = decode("", &[MP_REACH, ORIGIN, AS_PATH, NEXT_HOP], NLRI).unwrap();
    let next_hops: Vec<String> =
        received.announced.iter().map(|reach| format!("{} by {}", reach.nlri.prefix, reach.next_hop)).collect();
    assert_eq!(next_hops, ["2001:db8:1::/48 by 2001:db8::2", "192.0.2.0/24 by 192.0.2.1"]);
}

/// RFC 8950: IPv4 prefixes in MP_REACH_NLRI, with next hops of 4, 16 and 32 octets, and withdrawn by MP_UNREACH_NLRI.
#[test]
fn ipv4_routes_with_ipv6_next_hops_count_where_that_is_agreed_on() {
    let global = "20010db8000000000000000000000002";
    let link_local = "fe800000000000000000000000000002";
    let reach = |next_hop: &str| {
        format!("800e{:02x} 0001 01 {:02x} {next_hop} 00 18c00002", 9 + next_hop.len() / 2, next_hop.len() / 2)
    };
    let both = format!("{global}{link_local}");
    let cases = [
        ("0a000001", "10.0.0.1", "10.0.0.1"),
        (global, "", "2001:db8::2"),
        (&both, "", "2001:db8::2"),
        (link_local, "", "fe80::2"),
    ];
    let families = Family::ALL.into();
    for (next_hop, without, with) in cases {
        for (extended_next_hops, expected) in [(ExtendedNextHops::No, without), (ExtendedNextHops::Agreed, with)] {
            let message = UpdateMessage {
                withdrawn_routes: Bytes::new(),
                path_attributes: bytes(&[&reach(next_hop), ORIGIN, AS_PATH].concat()).into(),
                nlri: Bytes::new(),
            };
            let received =
                decode_update(&message, Import { extended_next_hops, ..import(&families, &BTreeSet::new()) }).unwrap();
            let found: Vec<String> = received.announced.iter().map(|reach| reach.next_hop.to_string()).collect();
            assert_eq!(found.concat(), expected, "{next_hop} {extended_next_hops:?}");
            assert_eq!(received.not_negotiated.len(), usize::from(expected.is_empty()), "{next_hop}");
        }
    }
    let withdrawal = decode("", &["800f07 0001 01 18c00002"], "").unwrap();
    assert_eq!(withdrawal.withdrawn, [plain("192.0.2.0/24")]);
    assert_eq!(decode("", &["800f03 0001 01"], "").unwrap().end_of_rib, Some(Family::Ipv4Unicast));
    // RFC 7606 section 7.11: any other length is a reset.
    for next_hop in ["", "0a0000", &global[2..], &both[2..]] {
        assert_eq!(outcome(&decode("", &[&reach(next_hop), ORIGIN, AS_PATH], "")), "reset 3/9", "{next_hop}");
    }
}

#[test]
fn what_was_not_negotiated_is_ignored_and_counted() {
    let received =
        decode_with("", &[MP_REACH, ORIGIN, AS_PATH, NEXT_HOP], NLRI, false, &[Family::Ipv6Unicast]).unwrap();
    assert_eq!((received.announced.len(), received.not_negotiated.len()), (1, 1));
    let received = decode_with("180a0000", &[MP_UNREACH], "", false, &[Family::Ipv4Unicast]).unwrap();
    assert_eq!(received.withdrawn, [plain("10.0.0.0/24")]);
    assert_eq!(received.end_of_rib, None);
}

#[test]
fn end_of_rib_is_an_empty_update_and_nothing_else() {
    let cases = [
        ("IPv4", decode("", &[], ""), Some(Family::Ipv4Unicast)),
        ("IPv6", decode("", &["800f03 0002 01"], ""), Some(Family::Ipv6Unicast)),
        ("a withdrawal", decode("180a0000", &[], ""), None),
        ("an IPv6 withdrawal", decode("", &[MP_UNREACH], ""), None),
        ("with other attributes", decode("", &["800f03 0002 01", ORIGIN], ""), None),
    ];
    for (name, result, expected) in cases {
        assert_eq!(result.unwrap().end_of_rib, expected, "{name}");
    }
}

#[test]
fn as4_path_is_merged_by_number_of_asns() {
    let families = Family::ALL.into();
    let message = UpdateMessage {
        withdrawn_routes: Bytes::new(),
        // AS_PATH 65001 23456 23456, AS4_PATH 4200000000 4200000001.
        path_attributes: bytes(&format!(
            "{ORIGIN} 400208 0203 fde9 5ba0 5ba0 {NEXT_HOP} c0110a 0202 fa56ea00 fa56ea01"
        ))
        .into(),
        nlri: bytes(NLRI).into(),
    };
    let received =
        decode_update(&message, Import { four_octet_asn: false, ..import(&families, &BTreeSet::new()) }).unwrap();
    assert_eq!(received.attributes.unwrap().meaning().as_path.to_string(), "65001 4200000000 4200000001");
}

/// RFC 7606, row by row. The first three attributes are good unless the case is about them.
#[test]
fn each_error_costs_what_rfc_7606_says() {
    let long_path = format!("5002 0be2 02ff {0} 02ff {0} 02f1 {1}", "0000fde9".repeat(255), "0000fde9".repeat(241));
    let cases: &[(&str, &[&str], &str)] = &[
        ("nothing wrong", &[ORIGIN, AS_PATH, NEXT_HOP], "ok"),
        ("ORIGIN of length 2", &["400102 0000", AS_PATH, NEXT_HOP], "withdraw"),
        ("ORIGIN 3", &["400101 03", AS_PATH, NEXT_HOP], "withdraw"),
        ("ORIGIN optional", &["c00101 00", AS_PATH, NEXT_HOP], "withdraw"),
        ("ORIGIN missing", &[AS_PATH, NEXT_HOP], "withdraw"),
        ("ORIGIN twice", &[ORIGIN, "400101 02", AS_PATH, NEXT_HOP], "discard"),
        ("AS_PATH missing", &[ORIGIN, NEXT_HOP], "withdraw"),
        ("AS_PATH empty from outside", &[ORIGIN, "400200", NEXT_HOP], "withdraw"),
        ("AS_PATH segment of unknown type", &[ORIGIN, "400206 0501 0000fde9", NEXT_HOP], "withdraw"),
        ("AS_PATH segment without ASNs", &[ORIGIN, "400202 0200", NEXT_HOP], "withdraw"),
        ("AS_PATH segment overruns", &[ORIGIN, "400206 0202 0000fde9", NEXT_HOP], "withdraw"),
        ("AS_PATH with AS 0 (RFC 7607)", &[ORIGIN, "400206 0201 00000000", NEXT_HOP], "withdraw"),
        ("AS_PATH with a set (RFC 9774)", &[ORIGIN, "400206 0101 0000fde9", NEXT_HOP], "withdraw"),
        ("AS_PATH of 751 ASNs", &[ORIGIN, &long_path, NEXT_HOP], "withdraw"),
        ("NEXT_HOP of length 3", &[ORIGIN, AS_PATH, "400303 c00002"], "withdraw"),
        ("NEXT_HOP missing", &[ORIGIN, AS_PATH], "withdraw"),
        ("MED of length 3", &[ORIGIN, AS_PATH, NEXT_HOP, "800403 000000"], "withdraw"),
        ("LOCAL_PREF from outside", &[ORIGIN, AS_PATH, NEXT_HOP, LOCAL_PREF], "discard"),
        ("LOCAL_PREF malformed, from outside", &[ORIGIN, AS_PATH, NEXT_HOP, "400503 000000"], "discard"),
        ("ATOMIC_AGGREGATE of length 1", &[ORIGIN, AS_PATH, NEXT_HOP, "400601 00"], "discard"),
        ("AGGREGATOR of length 6", &[ORIGIN, AS_PATH, NEXT_HOP, "c00706 fde9 c0000201"], "discard"),
        ("COMMUNITIES of length 0", &[ORIGIN, AS_PATH, NEXT_HOP, "c00800"], "withdraw"),
        ("COMMUNITIES of length 5", &[ORIGIN, AS_PATH, NEXT_HOP, "c00805 0000000000"], "withdraw"),
        ("ORIGINATOR_ID malformed, from outside", &[ORIGIN, AS_PATH, NEXT_HOP, "800903 000000"], "discard"),
        ("CLUSTER_LIST malformed, from outside", &[ORIGIN, AS_PATH, NEXT_HOP, "800a03 000000"], "discard"),
        ("EXTENDED COMMUNITIES of length 7", &[ORIGIN, AS_PATH, NEXT_HOP, "c01007 00000000000000"], "withdraw"),
        ("AS4_PATH from a four-octet speaker", &[ORIGIN, AS_PATH, NEXT_HOP, "c01106 0201 0000fde9"], "discard"),
        ("LARGE_COMMUNITY of length 11", &[ORIGIN, AS_PATH, NEXT_HOP, "c0200b 0000000000000000000000"], "withdraw"),
        ("OTC of length 3", &[ORIGIN, AS_PATH, NEXT_HOP, "c02303 000000"], "withdraw"),
        ("unknown optional transitive", &[ORIGIN, AS_PATH, NEXT_HOP, "c0fe03 010203"], "ok"),
        ("unknown optional non-transitive", &[ORIGIN, AS_PATH, NEXT_HOP, "80fe03 010203"], "ok"),
        ("unknown well-known", &[ORIGIN, AS_PATH, NEXT_HOP, "40fe03 010203"], "withdraw"),
        ("attribute overruns the block", &[ORIGIN, AS_PATH, NEXT_HOP, "c0080f 00000000"], "withdraw"),
        ("attribute header cut", &[ORIGIN, AS_PATH, NEXT_HOP, "c0"], "withdraw"),
        ("MP_REACH_NLRI twice", &[MP_REACH, MP_REACH, ORIGIN, AS_PATH, NEXT_HOP], "reset 3/1"),
        ("MP_UNREACH_NLRI twice", &[MP_UNREACH, MP_UNREACH, ORIGIN, AS_PATH, NEXT_HOP], "reset 3/1"),
        ("MP_REACH_NLRI too short", &["800e04 00020110", ORIGIN, AS_PATH, NEXT_HOP], "reset 3/9"),
        ("MP_UNREACH_NLRI too short", &["800f02 0002", ORIGIN, AS_PATH, NEXT_HOP], "reset 3/9"),
        ("MP_REACH_NLRI with next hop of 5", &["800e0b 000201 05 2001000000 00 00", ORIGIN, AS_PATH], "reset 3/9"),
        ("MP_UNREACH_NLRI with /129", &["800f05 000201 81 20", ORIGIN, AS_PATH, NEXT_HOP], "reset 3/9"),
    ];
    for (name, attributes, expected) in cases {
        let result = decode("", attributes, NLRI);
        assert_eq!(outcome(&result), *expected, "{name}");
        // What is treated as withdrawn has to be withdrawn.
        if *expected == "withdraw" {
            assert!(result.unwrap().withdrawn.contains(&plain("192.0.2.0/24")), "{name}");
        }
    }
}

#[test]
fn errors_of_internal_peers_cost_as_much() {
    let cases: &[(&str, &[&str], &str)] = &[
        ("nothing wrong", &[ORIGIN, "400200", NEXT_HOP, LOCAL_PREF], "ok"),
        ("LOCAL_PREF missing", &[ORIGIN, "400200", NEXT_HOP], "withdraw"),
        ("LOCAL_PREF of length 3", &[ORIGIN, "400200", NEXT_HOP, "400503 000000"], "withdraw"),
        ("CLUSTER_LIST of length 3", &[ORIGIN, "400200", NEXT_HOP, LOCAL_PREF, "800a03 000000"], "withdraw"),
    ];
    for (name, attributes, expected) in cases {
        assert_eq!(outcome(&decode_with("", attributes, NLRI, true, &Family::ALL)), *expected, "{name}");
    }
}

#[test]
fn prefixes_that_cannot_be_read_reset_the_session() {
    let good = [ORIGIN, AS_PATH, NEXT_HOP];
    let cases = [
        ("NLRI /33", decode("", &good, "21c0000200 00"), "reset 3/10"),
        ("NLRI cut", decode("", &good, "18c000"), "reset 3/10"),
        ("withdrawn /33", decode("210a000000 00", &[], ""), "reset 3/10"),
        ("withdrawn cut", decode("180a00", &[], ""), "reset 3/10"),
        // RFC 7606 section 5.2: an error, and no route that could be withdrawn for it.
        ("malformed attribute beside a mere withdrawal", decode("180a0000", &["400101 03"], ""), "reset 3/1"),
        ("discarded attribute beside a mere withdrawal", decode("180a0000", &["400601 00"], ""), "discard"),
    ];
    for (name, result, expected) in cases {
        assert_eq!(outcome(&result), expected, "{name}");
    }
    let masked = decode("", &good, "18c00002ff".get(..8).unwrap()).unwrap();
    assert_eq!(masked.announced.len(), 1);
    // Host bits beyond the length are of no meaning.
    let masked = decode("", &good, "14c000ff").unwrap();
    assert_eq!(masked.announced[0].nlri, plain("192.0.240.0/20"));
}
