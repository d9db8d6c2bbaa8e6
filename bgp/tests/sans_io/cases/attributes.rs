//! RFC 7606 section 7, attribute by attribute: its length, its value, its flags.

use super::Edit::{Also, Instead, Shows, Without};
use super::Outcome::{Discarded, Ok, Refused, Unread, Withdrawn};
use super::Session::{External, Internal, TwoOctet};
use super::{Case, both, external, rows};

pub(crate) fn cases() -> Vec<Case> {
    [origin(), as_path(), next_hop(), med_and_preference(), aggregation(), communities(), reflection(), as4(), newer()]
        .concat()
}

fn origin() -> Vec<Case> {
    const LENGTH: &str = "RFC 7606 section 7.1";
    [
        rows("nothing wrong", "RFC 4271 section 6.3", &[], &both(Ok)),
        rows("ORIGIN of length 0", LENGTH, &[Instead(1, "40 01 00")], &both(Withdrawn)),
        rows("ORIGIN of length 2", LENGTH, &[Instead(1, "40 01 02 0000")], &both(Withdrawn)),
        rows("ORIGIN 3", LENGTH, &[Instead(1, "40 01 01 03")], &both(Withdrawn)),
        rows("ORIGIN 255", LENGTH, &[Instead(1, "40 01 01 ff")], &external(Withdrawn)),
        rows("ORIGIN with the Optional flag", FLAGS, &[Instead(1, "c0 01 01 00")], &both(Withdrawn)),
        rows("ORIGIN without the Transitive flag", FLAGS, &[Instead(1, "00 01 01 00")], &external(Withdrawn)),
        rows("ORIGIN with unused flags set", "RFC 4271 section 4.3", &[Instead(1, "4f 01 01 00")], &both(Ok)),
        rows("ORIGIN with Extended Length", "RFC 4271 section 4.3", &[Instead(1, "50 01 0001 00")], &both(Ok)),
        rows("ORIGIN missing", MISSING, &[Without(1)], &both(Withdrawn)),
    ]
    .concat()
}

fn as_path() -> Vec<Case> {
    const SYNTAX: &str = "RFC 7606 section 7.2";
    let sequence = |count: usize| format!("02 {count:02x} {}", "0000fc00".repeat(count));
    let too_long = format!("50 02 0bc2 {0} {0} {1}", sequence(255), sequence(241));
    [
        rows("AS_PATH with a segment of type 5", SYNTAX, &[Instead(2, "40 02 06 0501 0000fc00")], &both(Withdrawn)),
        rows("AS_PATH with a segment of type 0", SYNTAX, &[Instead(2, "40 02 06 0001 0000fc00")], &external(Withdrawn)),
        rows("AS_PATH with an empty segment", SYNTAX, &[Instead(2, "40 02 02 0200")], &both(Withdrawn)),
        rows(
            "AS_PATH with an empty second segment",
            SYNTAX,
            &[Instead(2, "40 02 08 0201 0000fc00 0200")],
            &both(Withdrawn),
        ),
        rows("AS_PATH whose segment overruns it", SYNTAX, &[Instead(2, "40 02 06 0202 0000fc00")], &both(Withdrawn)),
        rows("AS_PATH with one octet left over", SYNTAX, &[Instead(2, "40 02 07 0201 0000fc00 02")], &both(Withdrawn)),
        rows("AS_PATH of length 1", SYNTAX, &[Instead(2, "40 02 01 02")], &external(Withdrawn)),
        rows(
            "AS_PATH in two-octet numbers on a four-octet session",
            SYNTAX,
            &[Instead(2, "40 02 04 0201 fc00")],
            &external(Withdrawn),
        ),
        rows(
            "AS_PATH in four-octet numbers on a two-octet session",
            SYNTAX,
            &[Instead(2, "40 02 06 0201 0000fc00")],
            &[(TwoOctet, Withdrawn)],
        ),
        rows(
            "AS_PATH with AS 0",
            "RFC 7607 section 2",
            &[Instead(2, "40 02 0a 0202 0000fc00 00000000")],
            &both(Withdrawn),
        ),
        rows(
            "AS_PATH with an AS_SET",
            "RFC 9774 section 3",
            &[Instead(2, "40 02 0c 0201 0000fc00 0101 0000fbf1")],
            &both(Withdrawn),
        ),
        rows(
            "AS_PATH with a confederation segment",
            "RFC 5065 section 5",
            &[Instead(2, "40 02 0c 0301 0000fde9 0201 0000fc00")],
            &both(Withdrawn),
        ),
        rows("AS_PATH with the Optional flag", FLAGS, &[Instead(2, "c0 02 06 0201 0000fc00")], &both(Withdrawn)),
        rows(
            "AS_PATH without the Transitive flag",
            FLAGS,
            &[Instead(2, "00 02 06 0201 0000fc00")],
            &external(Withdrawn),
        ),
        rows("AS_PATH missing", MISSING, &[Without(2)], &both(Withdrawn)),
        rows(
            "AS_PATH empty",
            "RFC 4271 section 5.1.2",
            &[Instead(2, "40 02 00")],
            &[(External, Withdrawn), (Internal, Ok)],
        ),
        rows(
            "AS_PATH with our own number",
            "RFC 4271 section 9.1.2",
            &[Instead(2, "40 02 0a 0202 0000fc00 0000fbf4")],
            &both(Refused),
        ),
        rows("AS_PATH of 751 numbers", "a limit of ours", &[Instead(2, &too_long)], &both(Withdrawn)),
    ]
    .concat()
}

fn next_hop() -> Vec<Case> {
    const LENGTH: &str = "RFC 7606 section 7.3";
    const MEANING: &str = "RFC 4271 section 6.3";
    [
        rows("NEXT_HOP of length 0", LENGTH, &[Instead(3, "40 03 00")], &both(Withdrawn)),
        rows("NEXT_HOP of length 3", LENGTH, &[Instead(3, "40 03 03 0a6200")], &both(Withdrawn)),
        rows("NEXT_HOP of length 5", LENGTH, &[Instead(3, "40 03 05 0a6200fe00")], &both(Withdrawn)),
        rows(
            "NEXT_HOP of length 16",
            LENGTH,
            &[Instead(3, "40 03 10 fd0000980000000000000000000000fe")],
            &external(Withdrawn),
        ),
        rows("NEXT_HOP with the Optional flag", FLAGS, &[Instead(3, "c0 03 04 0a6200fe")], &both(Withdrawn)),
        rows("NEXT_HOP missing", MISSING, &[Without(3)], &both(Withdrawn)),
        rows("NEXT_HOP 0.0.0.0", MEANING, &[Instead(3, "40 03 04 00000000")], &both(Refused)),
        rows("NEXT_HOP 127.0.0.1", MEANING, &[Instead(3, "40 03 04 7f000001")], &external(Refused)),
        rows("NEXT_HOP 224.0.0.1", MEANING, &[Instead(3, "40 03 04 e0000001")], &both(Refused)),
        rows("NEXT_HOP 255.255.255.255", MEANING, &[Instead(3, "40 03 04 ffffffff")], &external(Refused)),
        rows("NEXT_HOP is the receiver", MEANING, &[Instead(3, "40 03 04 0a62ff01")], &both(Refused)),
    ]
    .concat()
}

fn med_and_preference() -> Vec<Case> {
    const MED: &str = "RFC 7606 section 7.4";
    const PREFERENCE: &str = "RFC 7606 section 7.5";
    [
        rows("MULTI_EXIT_DISC of length 0", MED, &[Also("80 04 00")], &both(Withdrawn)),
        rows("MULTI_EXIT_DISC of length 3", MED, &[Also("80 04 03 000000")], &both(Withdrawn)),
        rows("MULTI_EXIT_DISC of length 5", MED, &[Also("80 04 05 0000000000")], &external(Withdrawn)),
        rows("MULTI_EXIT_DISC with the Transitive flag", FLAGS, &[Also("c0 04 04 00000007")], &both(Withdrawn)),
        rows("MULTI_EXIT_DISC without the Optional flag", FLAGS, &[Also("40 04 04 00000007")], &external(Withdrawn)),
        rows("LOCAL_PREF from outside", PREFERENCE, &[Also("40 05 04 000000c8")], &external(Discarded)),
        rows(
            "LOCAL_PREF of length 3",
            PREFERENCE,
            &[Instead(5, "40 05 03 000000")],
            &[(External, Discarded), (Internal, Withdrawn)],
        ),
        rows(
            "LOCAL_PREF of length 0",
            PREFERENCE,
            &[Instead(5, "40 05 00")],
            &[(External, Discarded), (Internal, Withdrawn)],
        ),
        rows("LOCAL_PREF with the Optional flag", FLAGS, &[Instead(5, "c0 05 04 00000064")], &[(Internal, Withdrawn)]),
        rows("LOCAL_PREF missing", MISSING, &[Without(5)], &[(Internal, Withdrawn)]),
    ]
    .concat()
}

fn aggregation() -> Vec<Case> {
    const ATOMIC: &str = "RFC 7606 section 7.6";
    const AGGREGATOR: &str = "RFC 7606 section 7.7";
    [
        rows("ATOMIC_AGGREGATE of length 1", ATOMIC, &[Also("40 06 01 00")], &both(Discarded)),
        rows("ATOMIC_AGGREGATE with the Optional flag", FLAGS, &[Also("c0 06 00")], &both(Withdrawn)),
        rows("AGGREGATOR of length 0", AGGREGATOR, &[Also("c0 07 00")], &external(Discarded)),
        rows(
            "AGGREGATOR of length 6 on a four-octet session",
            AGGREGATOR,
            &[Also("c0 07 06 fc00 0a6200fe")],
            &both(Discarded),
        ),
        rows(
            "AGGREGATOR of length 8 on a two-octet session",
            AGGREGATOR,
            &[Also("c0 07 08 0000fc00 0a6200fe")],
            &[(TwoOctet, Discarded)],
        ),
        rows("AGGREGATOR with AS 0", "RFC 7607 section 2", &[Also("c0 07 08 00000000 0a6200fe")], &both(Discarded)),
        rows("AGGREGATOR without the Optional flag", FLAGS, &[Also("40 07 08 0000fc00 0a6200fe")], &both(Withdrawn)),
    ]
    .concat()
}

fn communities() -> Vec<Case> {
    const PLAIN: &str = "RFC 7606 section 7.8";
    const EXTENDED: &str = "RFC 7606 section 7.14";
    const IPV6: &str = "RFC 7606 section 7.15";
    const LARGE: &str = "RFC 8092 section 6";
    [
        rows("COMMUNITIES of length 0", PLAIN, &[Also("c0 08 00")], &both(Withdrawn)),
        rows("COMMUNITIES of length 3", PLAIN, &[Also("c0 08 03 fc0000")], &external(Withdrawn)),
        rows("COMMUNITIES of length 5", PLAIN, &[Also("c0 08 05 fc00000100")], &both(Withdrawn)),
        rows("COMMUNITIES without the Transitive flag", FLAGS, &[Also("80 08 04 fc000001")], &both(Withdrawn)),
        rows("COMMUNITIES without the Optional flag", FLAGS, &[Also("40 08 04 fc000001")], &external(Withdrawn)),
        rows("COMMUNITIES with the Partial flag", "RFC 4271 section 4.3", &[Also("e0 08 04 fc000001")], &both(Ok)),
        rows("EXTENDED COMMUNITIES of length 0", EXTENDED, &[Also("c0 10 00")], &both(Withdrawn)),
        rows("EXTENDED COMMUNITIES of length 7", EXTENDED, &[Also("c0 10 07 0002fc00000000")], &both(Withdrawn)),
        rows(
            "EXTENDED COMMUNITIES without the Transitive flag",
            FLAGS,
            &[Also("80 10 08 0002fc0000000001")],
            &external(Withdrawn),
        ),
        rows(
            "EXTENDED COMMUNITIES of a type that does not exist",
            EXTENDED,
            &[Also("c0 10 08 3fff000000000001")],
            &both(Ok),
        ),
        rows("IPv6 EXTENDED COMMUNITIES of length 0", IPV6, &[Also("c0 19 00")], &external(Withdrawn)),
        rows(
            "IPv6 EXTENDED COMMUNITIES of length 19",
            IPV6,
            &[Also(&format!("c0 19 13 {}", "00".repeat(19)))],
            &both(Withdrawn),
        ),
        rows("LARGE_COMMUNITY of length 0", LARGE, &[Also("c0 20 00")], &external(Withdrawn)),
        rows("LARGE_COMMUNITY of length 11", LARGE, &[Also("c0 20 0b 0000fc00 00000001 000000")], &both(Withdrawn)),
        rows(
            "LARGE_COMMUNITY without the Transitive flag",
            FLAGS,
            &[Also("80 20 0c 0000fc00 00000001 00000002")],
            &external(Withdrawn),
        ),
    ]
    .concat()
}

fn reflection() -> Vec<Case> {
    const ORIGINATOR: &str = "RFC 7606 section 7.9";
    const CLUSTERS: &str = "RFC 7606 section 7.10";
    let outside_and_inside = |inside| [(External, Discarded), (Internal, inside)];
    [
        rows("ORIGINATOR_ID", ORIGINATOR, &[Also("80 09 04 0a620001")], &outside_and_inside(Ok)),
        rows("ORIGINATOR_ID of length 0", ORIGINATOR, &[Also("80 09 00")], &outside_and_inside(Withdrawn)),
        rows("ORIGINATOR_ID of length 3", ORIGINATOR, &[Also("80 09 03 0a6200")], &outside_and_inside(Withdrawn)),
        rows("CLUSTER_LIST", CLUSTERS, &[Also("80 0a 04 0a620001")], &outside_and_inside(Ok)),
        rows("CLUSTER_LIST of length 0", CLUSTERS, &[Also("80 0a 00")], &outside_and_inside(Withdrawn)),
        rows("CLUSTER_LIST of length 5", CLUSTERS, &[Also("80 0a 05 0a62000100")], &outside_and_inside(Withdrawn)),
        rows("ORIGINATOR_ID with the Transitive flag", FLAGS, &[Also("c0 09 04 0a620001")], &[(Internal, Withdrawn)]),
    ]
    .concat()
}

fn as4() -> Vec<Case> {
    const PATH: &str = "RFC 6793 section 6";
    let trans = Instead(2, "40 02 08 0203 fc00 5ba0 5ba0");
    [
        rows(
            "AS4_PATH on a two-octet session",
            "RFC 6793 section 4.2.3",
            &[trans.clone(), Also("c0 11 0a 0202 fa56ea00 fa56ea01")],
            &[(TwoOctet, Ok)],
        ),
        rows(
            "AS4_PATH that is longer than AS_PATH",
            "RFC 6793 section 4.2.3",
            &[Also("c0 11 0e 0203 fa56ea00 fa56ea01 fa56ea02")],
            &[(TwoOctet, Ok)],
        ),
        rows("AS4_PATH of length 5", PATH, &[trans.clone(), Also("c0 11 05 0201 fa56ea")], &[(TwoOctet, Discarded)]),
        rows(
            "AS4_PATH with a segment of type 9",
            PATH,
            &[trans.clone(), Also("c0 11 06 0901 fa56ea00")],
            &[(TwoOctet, Discarded)],
        ),
        rows("AS4_PATH with an empty segment", PATH, &[trans.clone(), Also("c0 11 02 0200")], &[(TwoOctet, Discarded)]),
        rows(
            "AS4_PATH with AS 0",
            "RFC 7607 section 2",
            &[trans, Also("c0 11 06 0201 00000000")],
            &[(TwoOctet, Discarded)],
        ),
        rows("AS4_PATH from a four-octet speaker", PATH, &[Also("c0 11 06 0201 0000fc00")], &both(Discarded)),
        rows(
            "AS4_AGGREGATOR of length 7",
            PATH,
            &[Also("c0 07 06 5ba0 0a6200fe c0 12 07 fa56ea00 0a6200"), Shows(18)],
            &[(TwoOctet, Discarded)],
        ),
        rows("AS4_AGGREGATOR from a four-octet speaker", PATH, &[Also("c0 12 08 0000fc00 0a6200fe")], &both(Discarded)),
    ]
    .concat()
}

/// Attributes that came after RFC 7606, and those that nobody knows.
fn newer() -> Vec<Case> {
    const OTC: &str = "RFC 9234 section 5";
    const UNKNOWN: &str = "RFC 4271 section 5";
    [
        rows("ONLY_TO_CUSTOMER of length 3", OTC, &[Also("c0 23 03 00fc00")], &both(Withdrawn)),
        rows("ONLY_TO_CUSTOMER of length 8", OTC, &[Also("c0 23 08 0000fc000000fc00")], &external(Withdrawn)),
        rows("ONLY_TO_CUSTOMER without the Transitive flag", FLAGS, &[Also("80 23 04 0000fc00")], &external(Withdrawn)),
        rows(
            "AIGP on a session without it",
            "RFC 7311 section 3.3",
            &[Also("80 1a 0b 01 000b 0000000000000064")],
            &external(Unread),
        ),
        rows(
            "AIGP with the Transitive flag",
            "RFC 7311 section 3.2",
            &[Also("c0 1a 0b 01 000b 0000000000000064")],
            &external(Discarded),
        ),
        rows("PREFIX_SID of length 1", "RFC 8669 section 6", &[Also("c0 28 01 01")], &external(Discarded)),
        rows("PMSI_TUNNEL of length 4", "RFC 6514 section 5", &[Also("c0 16 04 00000000")], &external(Withdrawn)),
        rows("unknown, optional and transitive", UNKNOWN, &[Also("c0 fe 03 010203")], &both(Ok)),
        rows("unknown, optional and transitive, of length 0", UNKNOWN, &[Also("c0 fe 00")], &external(Ok)),
        rows("unknown, optional and not transitive", UNKNOWN, &[Also("80 fe 03 010203")], &both(Unread)),
        rows(
            "unknown, and said to be well-known",
            "RFC 7606 section 3 (c)",
            &[Also("40 fe 03 010203")],
            &both(Withdrawn),
        ),
        rows("TUNNEL_ENCAPSULATION, corrupt", "RFC 9012 section 13", &[Also("c0 17 04 00010fff")], &both(Withdrawn)),
        rows("ATTR_SET of length 1", "RFC 7606 section 7.16", &[Also("c0 80 01 00")], &external(Withdrawn)),
    ]
    .concat()
}

const FLAGS: &str = "RFC 7606 section 3 (c)";
const MISSING: &str = "RFC 7606 section 3 (d)";
