//! Pools that change while they are in use.

use super::story::Story;

const FIRST: &str = r#"{"addresses":["203.0.113.1-203.0.113.2"]}"#;

#[test]
fn an_edit_takes_nothing_away_and_says_so() {
    let mut story = Story::begin(&[("public", FIRST)]);
    story.plain("a");
    story.plain("b");
    story.wait(2);
    assert_eq!(story.ready("public"), "True InForce: addresses are handed out");
    assert_eq!(story.ipv4("public"), (2, 2, 0));
    story.pool("public", r#"{"addresses":["203.0.113.2-203.0.113.4"]}"#);
    story.wait(2);
    story.expect("a=203.0.113.1 b=203.0.113.2");
    assert_eq!(
        story.ready("public"),
        "True Stranded: in force; 1 address in use is no longer in this pool; it stays until its Service changes or the pool \
         says reclaim: true: 203.0.113.1 (Service default/a)"
    );
    assert_eq!(story.ipv4("public"), (3, 1, 2));
    // The Service changes what it asks for, and then gets what the pool has now.
    story.service("a", &[("roadstead.dev/address-pool", "public"), ("roadstead.dev/share-key", "k")], "{}");
    story.expect("a=203.0.113.3 b=203.0.113.2");
    story.wait(2);
    assert_eq!(story.ready("public"), "True InForce: addresses are handed out");
}

#[test]
fn reclaim_moves_what_an_edit_strands() {
    let mut story = Story::begin(&[("public", FIRST)]);
    story.plain("a");
    story.pool("public", r#"{"addresses":["192.0.2.7"],"reclaim":true}"#);
    story.expect("a=192.0.2.7");
    assert_eq!(story.claims.len(), 1);
}

#[test]
fn a_deleted_pool_leaves_its_addresses_and_another_takes_them_over() {
    let mut story = Story::begin(&[("public", FIRST)]);
    story.plain("a");
    story.delete_pool("public");
    story.plain("b");
    story.expect("a=203.0.113.1 b=-");
    story.expect_notices(&[
        "a AddressAssigned: 203.0.113.1 from pool public",
        "b AddressNotAssigned: no AddressPool is in force",
    ]);
    story.pool("renamed", FIRST);
    story.expect("a=203.0.113.1 b=203.0.113.2");
    assert!(story.claims.values().all(|stored| stored.claim.pool == "renamed"));
}

#[test]
fn of_two_that_overlap_the_older_is_in_force() {
    let mut story = Story::begin(&[("z-older", FIRST)]);
    story.pool("a-younger", r#"{"addresses":["203.0.113.2-203.0.113.9"]}"#);
    story.wait(2);
    assert_eq!(
        story.ready("a-younger"),
        "False Overlap: not in force: AddressPool a-younger overlaps AddressPool z-older, which is older, in 203.0.113.2; take these addresses out of one of the \
         two"
    );
    for name in ["a", "b", "c"] {
        story.plain(name);
    }
    story.expect("a=203.0.113.1 b=203.0.113.2 c=-");
    // An exclusion ends the overlap.
    story.pool("a-younger", r#"{"addresses":["203.0.113.2-203.0.113.9"],"exclude":["203.0.113.2"]}"#);
    story.wait(2);
    story.expect("a=203.0.113.1 b=203.0.113.2 c=203.0.113.3");
    assert_eq!(story.ready("a-younger"), "True InForce: addresses are handed out");
}

#[test]
fn a_pool_that_cannot_be_read_stays_as_it_last_could() {
    let mut story = Story::begin(&[("public", FIRST)]);
    story.pool("public", r#"{"addresses":["203.0.113.9-203.0.113.1"]}"#);
    story.plain("a");
    story.wait(2);
    story.expect("a=203.0.113.1");
    assert_eq!(
        story.ready("public"),
        "False Invalid: the last good version stays in force: AddressPool public: spec.addresses[0]: \
         \"203.0.113.9-203.0.113.1\": the first address of a range must not be above the last: write 203.0.113.1-203.0.113.9"
    );
    let mut fresh = Story::begin(&[("public", r#"{"addresses":["203.0.113.9-203.0.113.1"]}"#)]);
    fresh.plain("a");
    fresh.expect("a=-");
    assert!(fresh.ready("public").starts_with("False Invalid: not in force: AddressPool public"));
}

#[test]
fn a_freed_address_rests() {
    let spec = r#"{"addresses":["203.0.113.1"],"reuseDelaySeconds":30}"#;
    let mut story = Story::begin(&[("public", spec)]);
    story.plain("a");
    story.delete_service("a");
    story.plain("b");
    story.requesting("c", "203.0.113.1");
    story.expect("b=- c=-");
    let released = story.claims.values().next().unwrap().claim.released.unwrap();
    assert_eq!(released.as_second(), story.wall().as_second());
    story.expect_notices(&[
        "a AddressAssigned: 203.0.113.1 from pool public",
        "b AddressNotAssigned: pool public: full (1 of 1 IPv4 addresses)",
        "c AddressNotAssigned: 203.0.113.1 rests after its last use, for 30 s as pool public says",
    ]);
    story.wait(20);
    // Time already rested counts across a restart.
    story.restart();
    story.expect("b=- c=-");
    story.wait(11);
    story.expect("b=203.0.113.1 c=-");
}

#[test]
fn a_shorter_delay_ends_the_rest() {
    let mut story = Story::begin(&[("public", r#"{"addresses":["203.0.113.1"],"reuseDelaySeconds":3000}"#)]);
    story.plain("a");
    story.delete_service("a");
    story.plain("b");
    story.expect("b=-");
    story.pool("public", r#"{"addresses":["203.0.113.1"]}"#);
    story.expect("b=203.0.113.1");
}

#[test]
fn a_new_pool_serves_those_that_wait() {
    let mut story = Story::begin(&[]);
    story.plain("a");
    story.expect("a=-");
    story.pool("public", FIRST);
    story.expect("a=203.0.113.1");
}

#[test]
fn many_services_cost_a_pool_few_writes() {
    let mut story = Story::begin(&[("public", r#"{"addresses":["10.0.0.0/16"]}"#)]);
    story.writes.clear();
    for index in 0..300 {
        story.plain(&format!("s{index}"));
    }
    let pool_writes =
        |story: &Story| story.writes.iter().filter(|write| matches!(write, crate::plan::Write::PoolStatus(..))).count();
    assert_eq!(pool_writes(&story), 0, "the first look was less than a second ago");
    story.wait(1);
    assert_eq!(pool_writes(&story), 1);
    assert_eq!(story.ipv4("public"), (65536, 300, 65236));
}
