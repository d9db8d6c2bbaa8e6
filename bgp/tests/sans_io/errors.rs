//! What becomes of each of the [`cases`], without a socket.
//!
//! The same table is sent over TCP by `e2e/tests/malformed.rs`; what it says about us has to hold in both.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use roadstead_bgp::{Asn, Endpoints, ExtendedMessages, NextHops, PeerAsn, PeerConfig, RefusalReason};

use crate::cases::{self, Case, LOCAL_ADDRESS, LOCAL_ASN, Look, Moment, Outcome, Session};
use crate::script::{self, Script};

fn config(session: Session) -> PeerConfig {
    PeerConfig {
        local_asn: Asn(LOCAL_ASN),
        peer_asn: PeerAsn::Exactly(Asn(session.asn())),
        router_id: Ipv4Addr::from(LOCAL_ADDRESS),
        extended_messages: ExtendedMessages::Offered,
        ..script::config()
    }
}

pub(crate) fn endpoints() -> Endpoints {
    Endpoints {
        local: (Ipv4Addr::from(LOCAL_ADDRESS), 40000).into(),
        remote: "192.0.2.1:179".parse().unwrap(),
        interface: NextHops::default(),
    }
}

/// Tells the whole story of a case, as far as the session lasts.
pub(crate) fn tell(case: &Case) -> Script {
    let mut script = Script::configured(config(case.session));
    script.answer_dial_at(endpoints());
    let open = if case.moment == Moment::OpenSent { case.bytes.clone() } else { case.session.open() };
    let confirmation = if case.moment == Moment::OpenConfirm { case.bytes.clone() } else { cases::keepalive() };
    let mut story = vec![open, confirmation, case.session.earlier()];
    if case.moment == Moment::Established {
        story.push(case.bytes.clone());
    }
    story.push(case.session.sentinel());
    for bytes in story {
        if script.connection.is_some() {
            script.send(&bytes);
        }
    }
    script
}

fn outcome(case: &Case, script: &mut Script) -> Outcome {
    if script.connection.is_none() {
        let last = script.last_words();
        return last.map_or(Outcome::Closed, |last| Outcome::Reset(last.code.as_u8(), last.subcode));
    }
    let digested = script.learned().contains(&cases::SENTINEL.to_owned());
    assert!(digested, "{} ({}): the session is stuck: {:?}", case.name, case.session.name(), script.status());
    let prefix = match case.look {
        Look::Session => return Outcome::Ok,
        Look::Ipv4 => cases::PREFIX_V4,
        Look::Ipv6 => cases::PREFIX_V6,
    };
    let learned = script.speaker.learned();
    let status = script.status();
    match learned.get(&prefix.parse().unwrap()).map(|paths| paths[0].med) {
        Some(Some(1)) => Outcome::Ignored,
        Some(_) if status.updates_with_discarded_attributes > 0 => Outcome::Discarded,
        // What was not read leaves no trace, so that the route is there is all that can be seen.
        Some(_) if case.outcome == Outcome::Unread => Outcome::Unread,
        Some(_) => Outcome::Ok,
        None if status.refused.contains_key(&RefusalReason::TreatedAsWithdrawn) => Outcome::Withdrawn,
        None => Outcome::Refused,
    }
}

/// Every case that `wanted` chooses, of which there must be some.
#[track_caller]
pub(crate) fn check(wanted: impl Fn(&Case) -> bool) {
    let cases: Vec<Case> = cases::all().into_iter().filter(wanted).collect();
    assert!(!cases.is_empty(), "no case of that name");
    let mut wrong = Vec::new();
    for case in cases {
        let found = outcome(&case, &mut tell(&case));
        if found != case.outcome {
            let (session, name) = (case.session.name(), &case.name);
            let (found, expected) = (found.in_words(), case.outcome.in_words());
            wrong.push(format!("{name} ({session}): {found}, and not {expected} ({})", case.source));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_message_costs_what_the_rfcs_say() {
    check(|_| true);
}

#[test]
fn every_case_has_a_name_of_its_own() {
    let mut seen = BTreeSet::new();
    for case in cases::all() {
        assert!(seen.insert((case.name.clone(), case.session)), "{} ({:?}) is there twice", case.name, case.session);
        let about_one = matches!(case.outcome, Outcome::Discarded | Outcome::Unread);
        assert!(!about_one || case.attribute.is_some(), "{} does not say which attribute", case.name);
    }
    assert!(seen.len() >= 90, "only {} cases", seen.len());
}
