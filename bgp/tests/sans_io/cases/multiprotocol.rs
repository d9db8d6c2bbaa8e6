//! MP_REACH_NLRI and MP_UNREACH_NLRI: what is wrong with them leaves open which routes are meant (RFC 7606 sections 3 (j), 5.3).

use super::Edit::{First, Instead, LookAtIpv6, Nlri, Without};
use super::Outcome::{Ignored, Ok, Refused, Reset, Withdrawn};
use super::{Case, MP_REACH, MP_UNREACH, both, external, rows};

pub(crate) fn cases() -> Vec<Case> {
    [reach(), unreach()].concat()
}

fn reach() -> Vec<Case> {
    const SYNTAX: &str = "RFC 4760 section 7, RFC 7606 section 7.11";
    const NLRI: &str = "RFC 4760 section 7, RFC 7606 section 5.3";
    const TWICE: &str = "RFC 7606 section 3 (g)";
    let only = |attribute| [First(attribute), Without(3), Nlri(""), LookAtIpv6];
    let mut last = only("");
    last[0] = Instead(14, MP_REACH);
    [
        rows("MP_REACH_NLRI", "RFC 4760 section 3", &only(MP_REACH), &both(Ok)),
        rows("MP_REACH_NLRI behind the others", "RFC 7606 section 5.1", &last, &both(Ok)),
        rows("MP_REACH_NLRI beside NLRI", "RFC 7606 section 5.1", &[First(MP_REACH), LookAtIpv6], &both(Ok)),
        rows("MP_REACH_NLRI of length 0", SYNTAX, &only("80 0e 00"), &both(Reset(3, 9))),
        rows("MP_REACH_NLRI of length 4", SYNTAX, &only("80 0e 04 0002 01 00"), &both(Reset(3, 9))),
        rows("MP_REACH_NLRI with a next hop of length 0", SYNTAX, &only("80 0e 0c 0002 01 00 00 30 20010db80001"), &external(Reset(3, 9))),
        rows("MP_REACH_NLRI with a next hop of length 5", SYNTAX, &only("80 0e 11 0002 01 05 fd00009800 00 30 20010db80001"), &both(Reset(3, 9))),
        rows("MP_REACH_NLRI with a next hop of length 4", SYNTAX, &only("80 0e 10 0002 01 04 0a6200fe 00 30 20010db80001"), &external(Reset(3, 9))),
        rows("MP_REACH_NLRI whose next hop overruns it", SYNTAX, &only("80 0e 0b 0002 01 20 fd0000980000fe"), &both(Reset(3, 9))),
        rows("MP_REACH_NLRI with a link-local next hop too", "RFC 2545 section 3", &only("80 0e 2c 0002 01 20 fd0000980000000000000000000000fe fe8000000000000000000000000000fe 00 30 20010db80001"), &both(Ok)),
        rows("MP_REACH_NLRI with next hop ::", "RFC 4271 section 6.3", &only("80 0e 1c 0002 01 10 00000000000000000000000000000000 00 30 20010db80001"), &external(Refused)),
        rows("MP_REACH_NLRI with a prefix of length 129", NLRI, &only("80 0e 27 0002 01 10 fd0000980000000000000000000000fe 00 81 20010db80001000000000000000000 0000"), &both(Reset(3, 9))),
        rows("MP_REACH_NLRI whose prefix is cut", NLRI, &only("80 0e 19 0002 01 10 fd0000980000000000000000000000fe 00 30 200100"), &both(Reset(3, 9))),
        rows("MP_REACH_NLRI twice", TWICE, &[First(MP_REACH), First(MP_REACH)], &both(Reset(3, 1))),
        rows("MP_REACH_NLRI with the Transitive flag", SYNTAX, &only(&MP_REACH.replacen("80", "c0", 1)), &both(Reset(3, 4))),
        rows("MP_REACH_NLRI without the Optional flag", SYNTAX, &only(&MP_REACH.replacen("80", "40", 1)), &external(Reset(3, 4))),
        rows("MP_REACH_NLRI of AFI 99", "RFC 4760 section 6", &[First("80 0e 0d 0063 01 04 0a6200fe 00 18 cb0071")], &external(Ok)),
        rows("MP_REACH_NLRI of a SAFI that was not negotiated", "RFC 4760 section 6", &[First("80 0e 0d 0001 02 04 0a6200fe 00 18 cb0071")], &external(Ok)),
        rows("MP_REACH_NLRI beside a malformed ORIGIN", "RFC 7606 section 7.1", &[First(MP_REACH), Without(3), Nlri(""), Instead(1, "40 01 01 03"), LookAtIpv6], &both(Withdrawn)),
    ]
    .concat()
}

fn unreach() -> Vec<Case> {
    const SYNTAX: &str = "RFC 4760 section 7, RFC 7606 section 7.12";
    let only = |attribute| [First(attribute), Without(1), Without(2), Without(3), Without(5), Nlri(""), LookAtIpv6];
    let mut beside = only("80 0f 03 0002 01").to_vec();
    beside.remove(1);
    [
        rows("MP_UNREACH_NLRI of length 0", SYNTAX, &only("80 0f 00"), &both(Reset(3, 9))),
        rows("MP_UNREACH_NLRI of length 2", SYNTAX, &only("80 0f 02 0002"), &both(Reset(3, 9))),
        rows(
            "MP_UNREACH_NLRI with a prefix of length 129",
            SYNTAX,
            &only("80 0f 15 0002 01 81 20010db80001000000000000000000 0000"),
            &both(Reset(3, 9)),
        ),
        rows("MP_UNREACH_NLRI whose prefix is cut", SYNTAX, &only("80 0f 07 0002 01 30 200100"), &both(Reset(3, 9))),
        rows(
            "MP_UNREACH_NLRI twice",
            "RFC 7606 section 3 (g)",
            &[First(MP_UNREACH), First(MP_UNREACH)],
            &both(Reset(3, 1)),
        ),
        rows(
            "MP_UNREACH_NLRI with the Transitive flag",
            SYNTAX,
            &only(&MP_UNREACH.replacen("80", "c0", 1)),
            &both(Reset(3, 4)),
        ),
        rows(
            "MP_UNREACH_NLRI of AFI 99",
            "RFC 4760 section 6",
            &only("80 0f 07 0063 01 18 cb0071"),
            &external(Ignored),
        ),
        rows("MP_UNREACH_NLRI empty: End-of-RIB", "RFC 4724 section 2", &only("80 0f 03 0002 01"), &both(Ignored)),
        rows("MP_UNREACH_NLRI empty beside ORIGIN: no End-of-RIB", "RFC 4724 section 2", &beside, &external(Ignored)),
    ]
    .concat()
}
