//! A start finds what was there, and changes nothing of it.

use std::collections::BTreeSet;

use super::story::Story;
use crate::plan::Classes;

const PUBLIC: (&str, &str) = ("public", r#"{"addresses":["203.0.113.1-203.0.113.4"]}"#);

#[test]
fn a_restart_changes_nothing() {
    let mut story = Story::begin(&[PUBLIC, ("team", r#"{"addresses":["192.0.2.1","2001:db8::1"],"priority":1}"#)]);
    story.requesting("a", "203.0.113.4");
    story.service("b", &[], r#"{"ipFamilyPolicy":"RequireDualStack"}"#);
    story.service("c", &[("roadstead.dev/share-key", "k")], r#"{"ports":[{"port":80}]}"#);
    story.service("d", &[("roadstead.dev/share-key", "k")], r#"{"ports":[{"port":81}]}"#);
    story.service("e", &[("roadstead.dev/address-pool", "public")], "{}");
    let before = "a=203.0.113.4 b=192.0.2.1,2001:db8::1 c=203.0.113.1 d=203.0.113.1 e=203.0.113.2";
    story.expect(before);
    story.writes.clear();
    story.restart();
    story.expect(before);
    story.expect_no_writes();
}

#[test]
fn a_restart_changes_nothing_after_the_pool_was_edited_or_deleted() {
    for edit in [
        |story: &mut Story| story.pool("public", r#"{"addresses":["192.0.2.0/24"]}"#),
        |story: &mut Story| story.delete_pool("public"),
    ] {
        let mut story = Story::begin(&[PUBLIC]);
        story.plain("a");
        story.service("b", &[("roadstead.dev/address-pool", "public")], "{}");
        edit(&mut story);
        story.writes.clear();
        story.restart();
        story.expect("a=203.0.113.1 b=203.0.113.2");
        story.expect_no_writes();
    }
}

#[test]
fn statuses_without_claims_are_adopted_oldest_first_and_before_those_who_have_nothing() {
    let mut story = Story::new();
    story.pool(PUBLIC.0, PUBLIC.1);
    story.plain("new");
    for (name, address) in [("second", "203.0.113.1"), ("third", "203.0.113.1"), ("fourth", "203.0.113.3")] {
        story.plain(name);
        story.write_status(name, &[address]);
    }
    story.start();
    story.expect("fourth=203.0.113.3 new=203.0.113.4 second=203.0.113.1 third=203.0.113.2");
}

#[test]
fn a_claim_goes_before_a_status() {
    let mut story = Story::new();
    story.pool(PUBLIC.0, PUBLIC.1);
    story.plain("old");
    story.write_status("old", &["203.0.113.1"]);
    story.plain("young");
    let uid = story.uid("young");
    story.claim("203.0.113.1", "public", "young", &uid);
    story.start();
    story.expect("old=203.0.113.2 young=203.0.113.1");
}

#[test]
fn what_others_wrote_outside_our_pools_is_left_alone() {
    let mut story = Story::new();
    story.pool(PUBLIC.0, PUBLIC.1);
    story.plain("cloud");
    story.write_status("cloud", &["198.51.100.9"]);
    story.service("named", &[], r#"{"loadBalancerClass":"roadstead.dev/bgp"}"#);
    story.write_status("named", &["198.51.100.8"]);
    story.start();
    story.expect("cloud=198.51.100.9 named=198.51.100.8");
    story.expect_no_writes();
    story.expect_notices(&[
        "named AddressNotAssigned: its status holds what is in no pool and no claim: left as it is; clear the status to get an address",
    ]);
    story.write_status("named", &[]);
    story.expect("cloud=198.51.100.9 named=203.0.113.1");
}

#[test]
fn addresses_of_services_that_others_serve_are_not_handed_out_twice() {
    let mut story = Story::new();
    story.pool(PUBLIC.0, PUBLIC.1);
    story.plain("a");
    story.service("theirs", &[], r#"{"loadBalancerClass":"example.com/other"}"#);
    story.write_status("theirs", &["203.0.113.1"]);
    story.start();
    story.expect("a=203.0.113.2 theirs=203.0.113.1");
    story.requesting("b", "203.0.113.1");
    story.expect_notices(&[
        "a AddressAssigned: 203.0.113.2 from pool public",
        "b AddressNotAssigned: 203.0.113.1 is an address of Service default/theirs and is never handed out",
    ]);
    // The other load balancer goes, and its class is taken over: the address stays.
    story.restart_as(Classes { only_class: false, others: BTreeSet::from(["example.com/other".to_owned()]) });
    story.expect("a=203.0.113.2 b=- theirs=203.0.113.1");
}

#[test]
fn only_class_leaves_the_others_alone() {
    let mut story = Story::new();
    story.pool(PUBLIC.0, PUBLIC.1);
    story.plain("plain");
    story.service("ours", &[], r#"{"loadBalancerClass":"roadstead.dev/bgp"}"#);
    story.restart_as(Classes { only_class: true, others: BTreeSet::new() });
    story.expect("ours=203.0.113.1 plain=-");
}

#[test]
fn a_claim_whose_owner_is_unknown_goes_after_a_while() {
    let mut story = Story::new();
    story.pool(PUBLIC.0, r#"{"addresses":["203.0.113.1"]}"#);
    story.claim("203.0.113.1", "public", "gone", "uid-of-old");
    story.plain("a");
    story.start();
    assert_eq!(story.claims.len(), 1, "its Service may only be late");
    story.wait(4);
    story.expect("a=203.0.113.1");
}

#[test]
fn a_claim_may_be_heard_of_before_its_service() {
    let mut story = Story::begin(&[PUBLIC]);
    story.claim("203.0.113.3", "public", "late", "uid-1");
    story.plain("late");
    story.expect("late=203.0.113.3");
    story.wait(60);
    story.expect("late=203.0.113.3");
}

#[test]
fn a_wish_that_changed_while_nobody_looked_is_followed() {
    let mut story = Story::begin(&[PUBLIC]);
    story.plain("a");
    story.plan = crate::plan::Plan::default();
    story.requesting("a", "203.0.113.3");
    story.restart();
    story.expect("a=203.0.113.3");
}
