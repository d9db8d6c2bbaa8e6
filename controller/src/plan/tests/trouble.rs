//! Lost answers, other writers, crashes between two writes: no address ever has two owners, and none is lost.

use super::story::{Fate, Story};
use crate::plan::*;

const PUBLIC: (&str, &str) = ("public", r#"{"addresses":["203.0.113.1-203.0.113.3"]}"#);

#[test]
fn a_crash_after_any_write_is_made_good() {
    // The story, up to the n-th write, whose answer never comes; then another process goes on.
    for cut in 0..12 {
        for done in [true, false] {
            let mut story = Story::begin(&[PUBLIC]);
            let mut count = 0;
            let mut fate = |_: &Write| {
                count += 1;
                match count.cmp(&(cut + 1)) {
                    std::cmp::Ordering::Less => Fate::Done,
                    std::cmp::Ordering::Equal if done => Fate::Unanswered,
                    _ => Fate::Lost,
                }
            };
            story.plain_with("a", &mut fate);
            story.requesting_with("a", "203.0.113.3", &mut fate);
            story.restart();
            story.wait(60);
            story.expect("a=203.0.113.3");
            assert_eq!(story.claims.len(), 1, "cut {cut}, done {done}");
        }
    }
}

#[test]
fn an_address_that_another_claimed_first_is_left_to_it() {
    let mut story = Story::begin(&[PUBLIC]);
    story.claim_silently("203.0.113.1", "public", "theirs", "uid-of-theirs");
    // The event is told before the Service, but take it away: only the refused create says it.
    story.forget_events();
    story.plain("a");
    story.expect_status("a", "203.0.113.2");
    assert_eq!(story.claims.len(), 2);
}

#[test]
fn an_address_that_was_claimed_for_us_is_used() {
    let mut story = Story::begin(&[PUBLIC]);
    // An earlier write that seemed lost, by a process before this one.
    story.claim_silently("203.0.113.1", "public", "a", "uid-1");
    story.forget_events();
    story.plain("a");
    story.expect("a=203.0.113.1");
}

#[test]
fn a_requested_address_that_another_claimed_first() {
    let mut story = Story::begin(&[PUBLIC]);
    story.claim_silently("203.0.113.2", "public", "theirs", "uid-of-theirs");
    story.forget_events();
    story.requesting("a", "203.0.113.2");
    story.expect_notices(&["a AddressNotAssigned: 203.0.113.2 belongs to Service default/theirs"]);
    // Nobody is of that UID, so it is nobody's after a while.
    story.wait(4);
    story.expect("a=203.0.113.2");
}

#[test]
fn half_of_a_dual_stack_address_is_given_back() {
    let mut story = Story::begin(&[("dual", r#"{"addresses":["203.0.113.1","2001:db8::1"]}"#)]);
    story.claim_silently("2001:db8::1", "dual", "theirs", "uid-of-theirs");
    story.forget_events();
    story.service("a", &[], r#"{"ipFamilyPolicy":"RequireDualStack"}"#);
    story.expect_status("a", "");
    story.plain("b");
    story.expect_status("b", "");
    // It is kept for a while, should the other half come free, and given back when that cannot be any more.
    story.pool("dual", r#"{"addresses":["203.0.113.1"]}"#);
    story.wait(6);
    story.expect_status("b", "203.0.113.1");
}

#[test]
fn a_service_that_changed_meanwhile_is_written_upon_its_new_version() {
    let mut story = Story::begin(&[PUBLIC]);
    story.plain_with("a", &mut |write: &Write| match write {
        Write::ServiceStatus { .. } => Fate::Lost,
        _ => Fate::Done,
    });
    // The write is under way, upon version 1, while somebody changes the Service.
    story.service("a", &[("note", "new")], "{}");
    let late = story.late_status_write("a", "1");
    assert_eq!(late, StatusOutcome::Conflict);
    story.expect("a=203.0.113.1");
}

#[test]
fn a_service_deleted_while_its_claim_is_made_leaves_none() {
    let mut story = Story::begin(&[PUBLIC]);
    let mut held = None;
    story.plain_with("a", &mut |write: &Write| {
        held = Some(write.clone());
        Fate::Lost
    });
    story.delete_service("a");
    let result = story.perform(held.unwrap()).unwrap();
    story.answer(result);
    assert!(story.claims.is_empty());
    story.plain("b");
    story.expect("b=203.0.113.1");
}

#[test]
fn a_claim_that_somebody_deletes_is_made_again() {
    let mut story = Story::begin(&[PUBLIC]);
    story.plain("a");
    story.delete_claim("203.0.113.1");
    story.expect("a=203.0.113.1");
    assert_eq!(story.claims.len(), 1);
}

#[test]
fn a_status_that_somebody_empties_is_written_again() {
    let mut story = Story::begin(&[PUBLIC]);
    story.plain("a");
    story.write_status("a", &[]);
    story.expect("a=203.0.113.1");
}

#[test]
fn a_status_that_somebody_overwrites_is_followed_where_the_service_may_have_it() {
    let mut story = Story::begin(&[PUBLIC]);
    story.plain("a");
    story.plain("b");
    // Taken by another: written again.
    story.write_status("a", &["203.0.113.2"]);
    story.expect("a=203.0.113.1 b=203.0.113.2");
    // Free, as far as is known here: whoever wrote that, another controller perhaps, has told it to everybody.
    story.write_status("a", &["203.0.113.3"]);
    story.expect_status("a", "203.0.113.3");
    story.wait(6);
    story.expect("a=203.0.113.3 b=203.0.113.2");
}

#[test]
fn the_same_name_made_again_is_another_service() {
    let mut story = Story::begin(&[("public", r#"{"addresses":["203.0.113.1"]}"#)]);
    story.plain("a");
    let first = story.uid("a");
    story.delete_service("a");
    story.plain("a");
    assert_ne!(story.uid("a"), first);
    story.expect("a=203.0.113.1");
}

#[test]
fn a_refused_claim_is_said_and_tried_again() {
    let mut story = Story::begin(&[PUBLIC]);
    let mut refused = None;
    story.plain_with("a", &mut |write: &Write| {
        refused = Some(write.clone());
        Fate::Lost
    });
    assert!(matches!(refused, Some(Write::CreateClaim(_))));
    let net = "203.0.113.1/32".parse().unwrap();
    story.answer(WriteResult::ClaimRefused(net, "forbidden".to_owned()));
    story.expect_notices(&["a AddressNotAssigned: 203.0.113.1 cannot be claimed: forbidden"]);
    story.expect("a=-");
    story.wait(10);
    story.expect("a=203.0.113.1");
}
