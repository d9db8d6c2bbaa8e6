//! Headers, OPENs, NOTIFICATIONs and ROUTE-REFRESHes, and messages that come at the wrong moment.

use super::Look::{Ipv4, Session as Up};
use super::Moment::{Established, OpenConfirm, OpenSent};
use super::Outcome::{Closed, Ignored, Ok, Reset};
use super::Session::{External, Internal, TwoOctet};
use super::bytes::{capabilities, hex, message, open, with_length};
use super::{Case, EXTERNAL_ASN, LOCAL_ADDRESS, LOCAL_ASN, Moment, Outcome, PEER_ROUTER_ID, Session, keepalive, other};

pub(crate) fn cases() -> Vec<Case> {
    [headers(), opens(), capability_cases(), unexpected(), notifications(), refreshes()].concat()
}

fn headers() -> Vec<Case> {
    const HEADER: &str = "RFC 4271 section 6.1";
    let case = |name, moment, bytes, outcome| other(name, HEADER, (External, moment, Ipv4), bytes, outcome);
    let mut marker = keepalive();
    marker[7] = 0xfe;
    vec![
        case("a marker with a zero in it", Established, marker.clone(), Reset(1, 1)),
        case("a marker with a zero in it, instead of an OPEN", OpenSent, marker, Reset(1, 1)),
        case("a length of 18", Established, with_length(4, 18, &[]), Reset(1, 2)),
        case("a length of 0", Established, with_length(4, 0, &[]), Reset(1, 2)),
        case("a KEEPALIVE of 4097 octets", Established, message(4, &[0; 4078]), Reset(1, 2)),
        case("an OPEN of 4097 octets", OpenSent, message(1, &[4; 4078]), Reset(1, 2)),
        case("an OPEN of 65535 octets", OpenSent, message(1, &[4; 65516]), Reset(1, 2)),
        case("a KEEPALIVE of 20 octets", Established, message(4, &[0]), Reset(1, 2)),
        case("an UPDATE of 22 octets", Established, message(2, &[0; 3]), Reset(1, 2)),
        case("a NOTIFICATION of 20 octets", Established, message(3, &[6]), Reset(1, 2)),
        case("an OPEN of 28 octets", OpenSent, message(1, &[4, 0xfc, 0, 0, 90, 10, 98, 0, 254]), Reset(1, 2)),
        case("a ROUTE-REFRESH of 22 octets", Established, message(5, &[0, 1, 0]), Reset(1, 2)),
        case("a message of type 0", Established, message(0, &[]), Reset(1, 3)),
        case("a message of type 7", Established, message(7, &[]), Reset(1, 3)),
        case("a message of type 255 instead of an OPEN", OpenSent, message(255, &[]), Reset(1, 3)),
    ]
}

/// An OPEN of AS 64512, but for what the case says.
fn odd_open(asn: u32, hold_time: u16, router_id: [u8; 4]) -> Vec<u8> {
    let mut list = hex("01 04 0001 0001  01 04 0002 0001  41 04");
    list.extend(asn.to_be_bytes());
    open(asn, hold_time, router_id, &capabilities(&list))
}

fn opens() -> Vec<Case> {
    const OPEN: &str = "RFC 4271 section 6.2";
    const LONG: &str = "RFC 9072 section 2";
    let case = |name, source, bytes, outcome| other(name, source, (External, OpenSent, Up), bytes, outcome);
    let with_parameters = |parameters: &str| open(EXTERNAL_ASN, 90, PEER_ROUTER_ID, &hex(parameters));
    // Who says nothing of four-octet numbers is taken to write two octets.
    let old = |name, source, parameters| other(name, source, (TwoOctet, OpenSent, Up), with_parameters(parameters), Ok);
    let mut version = odd_open(EXTERNAL_ASN, 90, PEER_ROUTER_ID);
    version[19] = 3;
    let mut long = vec![255, 255, 0, 9, 2, 0, 6];
    long.extend(hex("41 04 0000fc00"));
    vec![
        case("an OPEN with nothing wrong", OPEN, odd_open(EXTERNAL_ASN, 90, PEER_ROUTER_ID), Ok),
        case("version 3", OPEN, version, Reset(2, 1)),
        case("another AS number than is configured", OPEN, odd_open(64999, 90, PEER_ROUTER_ID), Reset(2, 2)),
        case("AS 0", "RFC 7607 section 2", odd_open(0, 90, PEER_ROUTER_ID), Reset(2, 2)),
        case("AS 23456", "RFC 6793 section 4.2.1", odd_open(23456, 90, PEER_ROUTER_ID), Reset(2, 2)),
        case("router ID 0.0.0.0", "RFC 6286 section 2.2", odd_open(EXTERNAL_ASN, 90, [0; 4]), Reset(2, 3)),
        case("router ID 255.255.255.255", "RFC 6286 section 2.1", odd_open(EXTERNAL_ASN, 90, [255; 4]), Ok),
        case("router ID 224.0.0.1", "RFC 6286 section 2.1", odd_open(EXTERNAL_ASN, 90, [224, 0, 0, 1]), Ok),
        case(
            "the receiver's router ID, from another AS",
            "RFC 6286 section 2.2",
            odd_open(EXTERNAL_ASN, 90, LOCAL_ADDRESS),
            Ok,
        ),
        other(
            "the receiver's router ID, from its own AS",
            "RFC 6286 section 2.2",
            (Internal, OpenSent, Up),
            odd_open(LOCAL_ASN, 90, LOCAL_ADDRESS),
            Reset(2, 3),
        ),
        case("hold time 0", "RFC 4271 section 4.2", odd_open(EXTERNAL_ASN, 0, PEER_ROUTER_ID), Ok),
        case("hold time 1", OPEN, odd_open(EXTERNAL_ASN, 1, PEER_ROUTER_ID), Reset(2, 6)),
        case("hold time 2", OPEN, odd_open(EXTERNAL_ASN, 2, PEER_ROUTER_ID), Reset(2, 6)),
        case("hold time 3", "RFC 4271 section 4.2", odd_open(EXTERNAL_ASN, 3, PEER_ROUTER_ID), Ok),
        old("no optional parameters", "RFC 5492 section 3", "00"),
        old("capabilities of length 0", "RFC 5492 section 4", "02 02 00"),
        case("an optional parameter of type 1", OPEN, with_parameters("03 01 01 00"), Reset(2, 4)),
        case("an optional parameter of type 9", OPEN, with_parameters("03 09 01 00"), Reset(2, 4)),
        case("optional parameters that are longer than the OPEN", OPEN, with_parameters("09 02 02 02 00"), Reset(2, 0)),
        case(
            "optional parameters that are shorter than the OPEN",
            OPEN,
            with_parameters("02 02 02 02 00"),
            Reset(2, 0),
        ),
        case("an optional parameter that overruns its block", OPEN, with_parameters("04 02 09 02 00"), Reset(2, 0)),
        case("an optional parameter that is cut after its type", OPEN, with_parameters("01 02"), Reset(2, 0)),
        case("the long form of optional parameters", LONG, open(EXTERNAL_ASN, 90, PEER_ROUTER_ID, &long), Ok),
        case("the long form, cut in its length", LONG, with_parameters("ff ff 00"), Reset(2, 0)),
        case("the long form, longer than the OPEN", LONG, with_parameters("ff ff 0009 02 0002 0200"), Reset(2, 0)),
    ]
}

fn capability_cases() -> Vec<Case> {
    const SYNTAX: &str = "RFC 5492 section 4";
    let case = |name, source, list: &str, outcome| {
        let bytes = open(EXTERNAL_ASN, 90, PEER_ROUTER_ID, &capabilities(&hex(list)));
        other(name, source, (External, OpenSent, Up), bytes, outcome)
    };
    vec![
        case("a capability that overruns its parameter", SYNTAX, "01 04 0001 0001 41 04 0000", Reset(2, 0)),
        case("a capability that is cut after its code", SYNTAX, "01 04 0001 0001 41", Reset(2, 0)),
        case("a capability that nobody knows", "RFC 5492 section 3", "01 04 0001 0001 41 04 0000fc00 fa 03 010203", Ok),
        case("the same capability twice", SYNTAX, "01 04 0001 0001 01 04 0001 0001 41 04 0000fc00 41 04 0000fc00", Ok),
        case("multiprotocol capability of length 3", SYNTAX, "01 03 000100 41 04 0000fc00", Reset(2, 7)),
        case(
            "multiprotocol capability of AFI 99",
            "RFC 4760 section 8",
            "01 04 0063 0001 01 04 0001 0001 41 04 0000fc00",
            Ok,
        ),
        case("no address family in common", "RFC 5492 section 5", "01 04 0001 0004 41 04 0000fc00", Reset(2, 7)),
        other(
            "four-octet AS number capability of length 3",
            SYNTAX,
            (TwoOctet, OpenSent, Up),
            open(EXTERNAL_ASN, 90, PEER_ROUTER_ID, &capabilities(&hex("01 04 0001 0001 41 03 00fc00"))),
            Ok,
        ),
        case(
            "route refresh capability of length 1",
            "RFC 2918 section 2",
            "01 04 0001 0001 41 04 0000fc00 02 01 00",
            Ok,
        ),
        case(
            "graceful restart capability of length 1",
            "RFC 4724 section 3",
            "01 04 0001 0001 41 04 0000fc00 40 01 00",
            Ok,
        ),
        case(
            "graceful restart capability with half a family",
            "RFC 4724 section 3",
            "01 04 0001 0001 41 04 0000fc00 40 04 0078 0001",
            Ok,
        ),
        case("role capability of length 2", "RFC 9234 section 4.1", "01 04 0001 0001 41 04 0000fc00 09 02 0000", Ok),
        case("role capability of value 200", "RFC 9234 section 4.1", "01 04 0001 0001 41 04 0000fc00 09 01 c8", Ok),
        case(
            "extended message capability of length 1",
            "RFC 8654 section 3",
            "01 04 0001 0001 41 04 0000fc00 06 01 00",
            Ok,
        ),
        case(
            "Add-Path capability of length 3",
            "RFC 7911 section 4",
            "01 04 0001 0001 41 04 0000fc00 45 03 000101",
            Ok,
        ),
    ]
}

fn unexpected() -> Vec<Case> {
    const UNEXPECTED: &str = "RFC 6608 section 4";
    let case = |name, moment: Moment, bytes, outcome| other(name, UNEXPECTED, (External, moment, Ipv4), bytes, outcome);
    let refresh = || message(5, &[0, 1, 0, 1]);
    let update = || message(2, &[0; 4]);
    vec![
        case("a KEEPALIVE instead of an OPEN", OpenSent, keepalive(), Reset(5, 1)),
        case("an UPDATE instead of an OPEN", OpenSent, update(), Reset(5, 1)),
        case("a ROUTE-REFRESH instead of an OPEN", OpenSent, refresh(), Reset(5, 1)),
        case("an UPDATE before the first KEEPALIVE", OpenConfirm, update(), Reset(5, 2)),
        case("a ROUTE-REFRESH before the first KEEPALIVE", OpenConfirm, refresh(), Reset(5, 2)),
        case("a second OPEN before the first KEEPALIVE", OpenConfirm, External.open(), Reset(5, 2)),
        case("a second OPEN", Established, External.open(), Reset(5, 3)),
    ]
}

fn notifications() -> Vec<Case> {
    const NOTIFICATION: &str = "RFC 4271 section 6.4";
    let case =
        |name, source, body: &str| other(name, source, (External, Established, Up), message(3, &hex(body)), Closed);
    vec![
        case("a NOTIFICATION", NOTIFICATION, "06 04"),
        case("a NOTIFICATION of a code that does not exist", NOTIFICATION, "2a 07"),
        case("a NOTIFICATION of a subcode that does not exist", NOTIFICATION, "06 c8"),
        case("a shutdown with a text", "RFC 9003 section 2", "06 02 03 627965"),
        case("a shutdown with a text shorter than it says", "RFC 9003 section 4", "06 02 09 627965"),
        case("a shutdown with a text that is no UTF-8", "RFC 9003 section 4", "06 02 02 fffe"),
        case("a hard reset with nothing inside", "RFC 8538 section 3.2", "06 09"),
        case("a hard reset inside a hard reset", "RFC 8538 section 3.2", "06 09 06 09 06 09"),
    ]
}

fn refreshes() -> Vec<Case> {
    const ENHANCED: &str = "RFC 7313 section 5";
    let case = |name, source, (session, body): (Session, &str), outcome: Outcome| {
        other(name, source, (session, Established, Ipv4), message(5, &hex(body)), outcome)
    };
    vec![
        case("a ROUTE-REFRESH", "RFC 2918 section 4", (External, "0001 00 01"), Ignored),
        case(
            "a ROUTE-REFRESH of a family that was not negotiated",
            "RFC 2918 section 4",
            (External, "0001 00 02"),
            Ignored,
        ),
        case("a ROUTE-REFRESH of AFI 99", "RFC 2918 section 4", (Internal, "0063 00 01"), Ignored),
        case("a ROUTE-REFRESH of subtype 7", ENHANCED, (External, "0001 07 01"), Ignored),
        case("a ROUTE-REFRESH of subtype 255", ENHANCED, (External, "0001 ff 01"), Ignored),
        case("a ROUTE-REFRESH of 24 octets", "RFC 2918 section 3", (External, "0001 00 01 00"), Ignored),
    ]
}
