//! Messages that have brought other implementations down, or made them bring others down: each name begins with the number
//! under which it is known.

use super::Edit::{Also, First, Instead, LookAtIpv6, Nlri, Without};
use super::Look::{Ipv4, Session as Up};
use super::Moment::{Established, OpenSent};
use super::Outcome::{Closed, Discarded, Ignored, Ok, Reset, Unread, Withdrawn};
use super::Session::{Extended, External, TwoOctet};
use super::bytes::{capabilities, hex, message, open, update};
use super::{Case, EXTERNAL_ASN, NEXT_HOP, NLRI_V4, ORIGIN, PEER_ROUTER_ID, both, external, other, rows};

pub(crate) fn cases() -> Vec<Case> {
    [opens(), updates(), paths(), other_messages()].concat()
}

fn opens() -> Vec<Case> {
    let case = |name, source, parameters: &[u8], outcome| {
        let bytes = open(EXTERNAL_ASN, 90, PEER_ROUTER_ID, parameters);
        other(name, source, (External, OpenSent, Up), bytes, outcome)
    };
    let listed = |list: &str| capabilities(&hex(&format!("01 04 0001 0001 41 04 0000fc00 {list}")));
    vec![
        case(
            "CVE-2022-40302: long parameter cut in its length",
            "RFC 9072 section 2",
            &hex("ff ff 0002 02 00"),
            Reset(2, 0),
        ),
        case("CVE-2022-43681: OPEN ends with length 255", "RFC 9072 section 2", &hex("ff"), Reset(2, 0)),
        case(
            "CVE-2022-40318: long parameter longer than its block",
            "RFC 9072 section 2",
            &hex("ff ff 0004 02 0009 41"),
            Reset(2, 0),
        ),
        case("CVE-2022-36440: capability cut after its code", "RFC 5492 section 4", &hex("03 02 01 41"), Reset(2, 0)),
        case(
            "CVE-2022-37032: capability past the end of the message",
            "RFC 5492 section 4",
            &hex("04 02 02 41 04"),
            Reset(2, 0),
        ),
        case(
            "CVE-2018-5381: multiprotocol capability of unknown AFI and SAFI",
            "RFC 4760 section 8",
            &listed("01 04 ffff 00ff"),
            Ok,
        ),
        case(
            "CVE-2026-5122: FQDN capability whose domain overruns it",
            "RFC 5492 section 3",
            &listed("49 04 01 61 ff 62"),
            Ok,
        ),
        case("CVE-2025-43970: software version capability of length 0", "RFC 5492 section 3", &listed("4b 00"), Ok),
    ]
}

fn updates() -> Vec<Case> {
    let otc = format!("d0 23 0400 {}", "0000fc00".repeat(256));
    let bare = |attribute: &'static str| [Without(1), Without(2), Without(3), Without(5), Also(attribute)];
    let flowspec = "80 0e 06 0001 85 00 00 00";
    [
        rows(
            "CVE-2023-38802: corrupt TUNNEL_ENCAPSULATION",
            "RFC 4271 section 5",
            &[Also("c0 17 04 0001ffff")],
            &both(Withdrawn),
        ),
        rows(
            "CVE-2023-38283: attribute of a wrong length",
            "RFC 7606 section 7.8",
            &[Also("c0 08 01 00")],
            &both(Withdrawn),
        ),
        rows(
            "CVE-2023-41358: NLRI without any attribute",
            "RFC 7606 section 3 (d)",
            &[Without(1), Without(2), Without(3), Without(5)],
            &both(Withdrawn),
        ),
        rows(
            "CVE-2023-41359: AIGP shorter than the header of its TLV",
            "RFC 7311 section 3",
            &[Also("80 1a 01 01")],
            &both(Unread),
        ),
        rows(
            "CVE-2023-46752: MP_REACH_NLRI with lengths beyond its end",
            "RFC 4760 section 7",
            &[First("80 0e 06 0002 01 ff 00 00")],
            &both(Reset(3, 9)),
        ),
        rows(
            "CVE-2023-46753: one unknown attribute and no other",
            "RFC 7606 section 3 (d)",
            &bare("c0 1f 01 00"),
            &both(Withdrawn),
        ),
        rows(
            "CVE-2023-47234: MP_UNREACH_NLRI beside NLRI and nothing else",
            "RFC 7606 section 3 (d)",
            &bare("80 0f 03 0002 01"),
            &both(Withdrawn),
        ),
        rows(
            "CVE-2023-47235: End-of-RIB with a malformed attribute",
            "RFC 7606 section 5.2",
            &[First("80 0f 03 0002 01"), Without(2), Without(3), Without(5), Instead(1, "40 01 01 07"), Nlri("")],
            &both(Reset(3, 1)),
        ),
        rows(
            "CVE-2023-38406: flow specification of length 0",
            "RFC 4760 section 6",
            &[First(flowspec), LookAtIpv6, Nlri(""), Without(3)],
            &external(Ignored),
        ),
        rows(
            "CVE-2024-31948: PREFIX_SID whose TLV overruns it",
            "RFC 8669 section 6",
            &[Also("c0 28 0a 01 00ff 00000000000000")],
            &both(Discarded),
        ),
        rows(
            "CVE-2024-44070: TUNNEL_ENCAPSULATION whose sub-TLV overruns it",
            "RFC 4271 section 5",
            &[Also("c0 17 08 0008 0004 01 ff 0000")],
            &both(Withdrawn),
        ),
        rows(
            "IXP event of October 2025: ONLY_TO_CUSTOMER of 1024 octets",
            "RFC 9234 section 5",
            &[Also(&otc)],
            &both(Withdrawn),
        ),
        rows(
            "CVE-2026-30405: NEXT_HOP of length 2",
            "RFC 7606 section 7.3",
            &[Instead(3, "40 03 02 0a62")],
            &both(Withdrawn),
        ),
        rows(
            "CVE-2026-37461: IPv6 extended community of length 4",
            "RFC 7606 section 7.15",
            &[Also("c0 19 04 00000000")],
            &both(Withdrawn),
        ),
        rows(
            "CVE-2026-48686: NLRI of length 200",
            "RFC 4271 section 6.3",
            &[Nlri("c8 cb00710000")],
            &both(Reset(3, 10)),
        ),
        rows(
            "CVE-2026-48688: MP_REACH_NLRI that ends in its next hop",
            "RFC 4760 section 7",
            &[First("80 0e 08 0002 01 10 fd000098")],
            &both(Reset(3, 9)),
        ),
        rows(
            "CVE-2026-48685: extended length that is cut",
            "RFC 7606 section 4",
            &[Also("d0 20 01")],
            &both(Withdrawn),
        ),
    ]
    .concat()
}

fn paths() -> Vec<Case> {
    let sequences = |count: usize| format!("02 ff {}", "0000fc00".repeat(255)).repeat(count);
    let many = format!("50 02 {:04x} {}", 9 * 1022, sequences(9));
    let two_octet = format!("50 02 {:04x} 02 ff {} 02 f5 {}", 2 * 2 + 500 * 2, "fc00".repeat(255), "fc00".repeat(245));
    let mut cases = [
        rows(
            "CVE-2026-48691: AS_PATH whose count multiplies beyond it",
            "RFC 7606 section 7.2",
            &[Instead(2, "40 02 06 02ff 0000fc00")],
            &both(Withdrawn),
        ),
        rows(
            "CVE-2017-16227: AS_PATH of 500 two-octet numbers",
            "RFC 6793 section 4.2.3",
            &[Instead(2, &two_octet)],
            &[(TwoOctet, Ok)],
        ),
        rows(
            "CVE-2026-49943: AS_PATH of 2295 numbers",
            "a limit of ours",
            &[Instead(2, &many)],
            &[(Extended, Withdrawn)],
        ),
    ]
    .concat();
    // AS4_PATH stands before AS_PATH here.
    let attributes = [ORIGIN, "c0 11 05 0201 fa56ea", TwoOctet.as_path(), NEXT_HOP].concat();
    cases.push(Case {
        attribute: Some(17),
        ..other(
            "CVE-2026-41643: malformed AS4_PATH before AS_PATH",
            "RFC 6793 section 6",
            (TwoOctet, Established, Ipv4),
            update("", &attributes, NLRI_V4),
            Discarded,
        )
    });
    cases
}

fn other_messages() -> Vec<Case> {
    let case = |name, source, kind, body: &str, outcome| {
        other(name, source, (External, Established, Ipv4), message(kind, &hex(body)), outcome)
    };
    vec![
        case("CVE-2023-41360: ROUTE-REFRESH cut in its filter", "RFC 2918 section 3", 5, "0001 00 01 01", Ignored),
        case("CVE-2024-31949: CAPABILITY message", "RFC 4271 section 6.1", 6, "00 01 04 0001 0001", Reset(1, 3)),
        case(
            "CVE-2019-16159: shutdown text longer than the message",
            "RFC 9003 section 4",
            3,
            "06 02 ff 627965",
            Closed,
        ),
        case(
            "CVE-2026-37462: withdrawn routes longer than the message",
            "RFC 4271 section 6.3",
            2,
            "0030 0000",
            Reset(3, 1),
        ),
    ]
}
