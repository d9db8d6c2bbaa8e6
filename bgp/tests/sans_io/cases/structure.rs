//! What no single attribute can be blamed for: lengths that do not add up, attributes that come twice, prefixes that cannot be
//! read, and errors where there is nothing to withdraw.

use super::Edit::{Also, Instead, Nlri, Shows, Withdrawn as Gone, Without};
use super::Moment::Established;
use super::Outcome::{Discarded, Ignored, Ok, Reset, Withdrawn};
use super::bytes::{hex, message, update};
use super::{Case, Look, NLRI_V4, ORIGIN, Session, both, external, other, rows};

pub(crate) fn cases() -> Vec<Case> {
    [twice(), framing(), blocks(), prefixes(), nothing_to_withdraw()].concat()
}

fn twice() -> Vec<Case> {
    const TWICE: &str = "RFC 7606 section 3 (g)";
    const STRONGEST: &str = "RFC 7606 section 3 (h)";
    [
        rows("ORIGIN twice", TWICE, &[Also("40 01 01 02")], &both(Discarded)),
        rows("NEXT_HOP twice", TWICE, &[Also("40 03 04 0a6200fd")], &external(Discarded)),
        rows("COMMUNITIES twice", TWICE, &[Also("c0 08 04 fc000001 c0 08 04 fc000002")], &both(Discarded)),
        rows(
            "COMMUNITIES twice, the second malformed",
            TWICE,
            &[Also("c0 08 04 fc000001 c0 08 03 fc0000")],
            &external(Discarded),
        ),
        rows(
            "a discard and a withdrawal",
            STRONGEST,
            &[Also("40 06 01 00"), Also("80 04 03 000000")],
            &both(Withdrawn),
        ),
        rows(
            "a withdrawal and a reset",
            STRONGEST,
            &[Instead(1, "40 01 01 03"), Also("80 0f 02 0002")],
            &both(Reset(3, 9)),
        ),
    ]
    .concat()
}

fn framing() -> Vec<Case> {
    const FRAMING: &str = "RFC 7606 section 4";
    [
        rows("an attribute that is cut after its flags", FRAMING, &[Also("c0")], &both(Withdrawn)),
        rows("an attribute that is cut after its type", FRAMING, &[Also("c0 08")], &both(Withdrawn)),
        rows("an extended length that is cut", FRAMING, &[Also("d0 08 00")], &both(Withdrawn)),
        rows("an attribute that is longer than what is left", FRAMING, &[Also("c0 08 0f 00000000")], &both(Withdrawn)),
        rows(
            "an extended length that is longer than what is left",
            FRAMING,
            &[Also("d0 08 ffff 00000000")],
            &external(Withdrawn),
        ),
        rows(
            "an attribute of 255 octets that lacks the last",
            FRAMING,
            &[Also(&format!("c0 fe ff {}", "00".repeat(254)))],
            &external(Withdrawn),
        ),
        rows(
            "an attribute of 256 octets",
            "RFC 4271 section 4.3",
            &[Also(&format!("d0 fe 0100 {}", "00".repeat(256)))],
            &both(Ok),
        ),
        rows(
            "an UPDATE of 4151 octets",
            "RFC 8654 section 4",
            &[Also(&format!("d0 fe 1000 {}", "00".repeat(4096)))],
            &[(Session::Extended, Ok)],
        ),
    ]
    .concat()
}

fn blocks() -> Vec<Case> {
    const BLOCKS: &str = "RFC 4271 section 6.3";
    let raw = |name, body: &str, session, outcome| {
        other(name, BLOCKS, (session, Established, Look::Ipv4), message(2, &hex(body)), outcome)
    };
    let mut cases = Vec::new();
    for session in [Session::External, Session::Internal] {
        cases.push(raw("withdrawn routes that overrun the message", "0009 0000", session, Reset(3, 1)));
        cases.push(raw("attributes that overrun the message", "0000 0009", session, Reset(3, 1)));
        cases.push(raw("withdrawn routes of 65535 octets", "ffff 0000", session, Reset(3, 1)));
        cases.push(raw("withdrawn routes that leave one octet for the attributes", "0001 00 00", session, Reset(3, 1)));
        cases.push(raw("nothing at all: End-of-RIB", "0000 0000", session, Ignored));
    }
    cases
}

fn prefixes() -> Vec<Case> {
    const PREFIXES: &str = "RFC 4271 section 6.3, RFC 7606 section 5.3";
    [
        rows("NLRI of length 33", PREFIXES, &[Nlri("21 cb00710000")], &both(Reset(3, 10))),
        rows("NLRI of length 255", PREFIXES, &[Nlri("ff cb007100")], &external(Reset(3, 10))),
        rows("NLRI that is cut", PREFIXES, &[Nlri("18 cb00")], &both(Reset(3, 10))),
        rows("NLRI that ends with a length", PREFIXES, &[Nlri("18 cb0071 18")], &external(Reset(3, 10))),
        rows("withdrawn route of length 33", PREFIXES, &[Gone("21 c000020000")], &both(Reset(3, 10))),
        rows("withdrawn route that is cut", PREFIXES, &[Gone("18 c000")], &external(Reset(3, 10))),
        rows("NLRI with host bits", "RFC 4271 section 4.3", &[Nlri("17 cb0071 18 cb0071")], &both(Ok)),
        rows("withdrawn and announced in one message", "RFC 4271 section 4.3", &[Gone(NLRI_V4)], &both(Ok)),
        rows(
            "NLRI of length 33 beside a malformed attribute",
            PREFIXES,
            &[Nlri("21 cb00710000"), Instead(1, "40 01 01 03")],
            &external(Reset(3, 10)),
        ),
        rows(
            "malformed attributes and a good withdrawal",
            "RFC 7606 section 2",
            &[Gone("18 c00002"), Instead(1, "40 01 01 03")],
            &external(Withdrawn),
        ),
        rows("the same prefix twice", "RFC 4271 section 4.3", &[Nlri("18 cb0071 18 cb0071")], &external(Ok)),
    ]
    .concat()
}

fn nothing_to_withdraw() -> Vec<Case> {
    const NOTHING: &str = "RFC 7606 section 5.2";
    let alone = |attributes: &'static str| {
        [Without(1), Without(2), Without(3), Without(5), Nlri(""), Also(attributes), Shows(0)]
    };
    let beside = |attributes: &'static str| {
        let mut edits = alone(attributes).to_vec();
        edits.push(Gone("18 c00002"));
        edits
    };
    let mut cases = [
        rows("a malformed attribute and no routes", NOTHING, &alone("40 01 01 03"), &both(Reset(3, 1))),
        rows("a malformed attribute beside a withdrawal", NOTHING, &beside("40 01 01 03"), &both(Reset(3, 1))),
        rows("a cut attribute beside a withdrawal", NOTHING, &beside("40 01"), &external(Reset(3, 1))),
        rows("an attribute to discard beside a withdrawal", NOTHING, &beside("40 06 01 00"), &both(Ignored)),
        rows("good attributes and no routes", "RFC 4271 section 5", &[Nlri(""), Shows(0)], &both(Ignored)),
    ]
    .concat();
    // The mandatory attributes are not missed where nothing is announced.
    let withdrawal = update("18 c00002", ORIGIN, "");
    let look = (Session::External, Established, Look::Ipv4);
    cases.push(other("ORIGIN alone beside a withdrawal", "RFC 7606 section 3 (d)", look, withdrawal, Ignored));
    cases.extend(rows(
        "a withdrawal of what was never announced",
        "RFC 4271 section 4.3",
        &beside("c0 08 04 fc000001"),
        &external(Ignored),
    ));
    cases.extend(rows(
        "ATOMIC_AGGREGATE twice, malformed",
        "RFC 7606 section 3 (g)",
        &[Also("40 06 01 00 40 06 01 00")],
        &external(Discarded),
    ));
    cases
}
