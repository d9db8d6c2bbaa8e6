//! Who gets which address.

use roadstead_api::checked::ObjectRef;

use super::story::Story;

const PUBLIC: (&str, &str) = ("public", r#"{"addresses":["203.0.113.1-203.0.113.3"]}"#);
const DUAL: (&str, &str) = ("dual", r#"{"addresses":["203.0.113.1-203.0.113.3","2001:db8::1-2001:db8::2"]}"#);

#[test]
fn ranges_are_used_up_in_the_order_in_which_the_pool_lists_them() {
    let mut story = Story::begin(&[("public", r#"{"addresses":["203.0.113.0/31","198.51.100.10-198.51.100.50"]}"#)]);
    for name in ["a", "b", "c"] {
        story.plain(name);
    }
    story.expect("a=203.0.113.0 b=203.0.113.1 c=198.51.100.10");
}

#[test]
fn the_lowest_address_and_it_is_free_again_when_the_service_is_gone() {
    let mut story = Story::begin(&[PUBLIC]);
    story.plain("a");
    story.plain("b");
    story.expect("a=203.0.113.1 b=203.0.113.2");
    story.expect_notices(&[
        "a AddressAssigned: 203.0.113.1 from pool public",
        "b AddressAssigned: 203.0.113.2 from pool public",
    ]);
    story.delete_service("a");
    story.expect("b=203.0.113.2");
    story.plain("c");
    story.expect("b=203.0.113.2 c=203.0.113.1");
}

#[test]
fn two_writes_and_nothing_else_stand_between_a_service_and_its_address() {
    let mut story = Story::begin(&[PUBLIC]);
    story.plain("a");
    let writes: Vec<String> = story.writes.iter().map(|write| format!("{write:?}")).collect();
    let address_writes: Vec<&str> =
        writes.iter().filter_map(|write| write.split(['(', ' ']).next()).filter(|name| *name != "PoolStatus").collect();
    assert_eq!(address_writes, ["CreateClaim", "ServiceStatus", "Notice"]);
}

#[test]
fn a_requested_address() {
    let mut story = Story::begin(&[PUBLIC]);
    story.requesting("a", "203.0.113.3");
    story.expect("a=203.0.113.3");
    story.requesting("b", "203.0.113.3");
    story.requesting("c", "192.0.2.9");
    story.expect("a=203.0.113.3 b=- c=-");
    story.expect_notices(&[
        "a AddressAssigned: 203.0.113.3 from pool public",
        "b AddressNotAssigned: 203.0.113.3 belongs to Service default/a",
        "c AddressNotAssigned: requested 192.0.2.9 is in no pool; pools: public (203.0.113.1-203.0.113.3)",
    ]);
    // Another wish moves the one, and frees the address for the other.
    story.requesting("a", "203.0.113.2");
    story.expect("a=203.0.113.2 b=203.0.113.3 c=-");
}

#[test]
fn a_wish_that_cannot_be_had_does_not_cost_the_address() {
    let mut story = Story::begin(&[PUBLIC]);
    story.plain("a");
    story.requesting("a", "192.0.2.9");
    story.expect("a=203.0.113.1");
    story.requesting("a", "nonsense");
    story.expect("a=203.0.113.1");
    story.expect_notices(&[
        "a AddressAssigned: 203.0.113.1 from pool public",
        "a AddressNotAssigned: requested 192.0.2.9 is in no pool; pools: public (203.0.113.1-203.0.113.3); it keeps 203.0.113.1",
        "a AddressNotAssigned: Service default/a: metadata.annotations[roadstead.dev/addresses]: \"nonsense\": \
         must be addresses joined by commas; it keeps 203.0.113.1",
    ]);
}

#[test]
fn the_oldest_that_waits_is_served_when_an_address_comes_free() {
    let mut story = Story::begin(&[PUBLIC]);
    for name in ["a", "b", "c", "e", "d"] {
        story.plain(name);
    }
    story.expect("a=203.0.113.1 b=203.0.113.2 c=203.0.113.3 d=- e=-");
    assert_eq!(story.plan.pending(), 2);
    story.delete_service("b");
    story.expect("a=203.0.113.1 c=203.0.113.3 d=- e=203.0.113.2");
    story.expect_notices(&[
        "a AddressAssigned: 203.0.113.1 from pool public",
        "b AddressAssigned: 203.0.113.2 from pool public",
        "c AddressAssigned: 203.0.113.3 from pool public",
        "e AddressNotAssigned: pool public: full (3 of 3 IPv4 addresses)",
        "d AddressNotAssigned: pool public: full (3 of 3 IPv4 addresses)",
        "e AddressAssigned: 203.0.113.2 from pool public",
    ]);
}

#[test]
fn pools_in_order_selective_first_then_priority_then_name() {
    let mut story = Story::begin(&[
        ("a-any", r#"{"addresses":["192.0.2.1"]}"#),
        ("b-any", r#"{"addresses":["192.0.2.2"],"priority":1}"#),
        ("c-manual", r#"{"addresses":["192.0.2.3"],"autoAssign":false}"#),
        ("y-team", r#"{"addresses":["192.0.2.4"],"namespaces":["default"],"priority":20}"#),
        ("z-team", r#"{"addresses":["192.0.2.5"],"namespaceSelector":{"matchLabels":{"team":"a"}},"priority":10}"#),
    ]);
    for name in ["s1", "s2", "s3", "s4"] {
        story.plain(name);
    }
    story.expect("s1=192.0.2.4 s2=192.0.2.2 s3=192.0.2.1 s4=-");
    story.expect_notices(&[
        "s1 AddressAssigned: 192.0.2.4 from pool y-team",
        "s2 AddressAssigned: 192.0.2.2 from pool b-any",
        "s3 AddressAssigned: 192.0.2.1 from pool a-any",
        "s4 AddressNotAssigned: pool z-team: takes no Service of namespace default; \
         pool c-manual: autoAssign is false, so a Service must ask for it by name or address; \
         pool y-team: full (1 of 1 IPv4 addresses); pool b-any: full (1 of 1 IPv4 addresses); \
         pool a-any: full (1 of 1 IPv4 addresses)",
    ]);
    story.namespace("default", &[("team", "a")]);
    story.expect("s1=192.0.2.4 s2=192.0.2.2 s3=192.0.2.1 s4=192.0.2.5");
    story.service("s5", &[("roadstead.dev/address-pool", "c-manual")], "{}");
    story.service("s6", &[("roadstead.dev/address-pool", "nowhere")], "{}");
    story.expect("s1=192.0.2.4 s2=192.0.2.2 s3=192.0.2.1 s4=192.0.2.5 s5=192.0.2.3 s6=-");
    story.expect_notices(&[
        "s4 AddressAssigned: 192.0.2.5 from pool z-team",
        "s5 AddressAssigned: 192.0.2.3 from pool c-manual",
        "s6 AddressNotAssigned: there is no pool nowhere in force; pools in force: a-any, b-any, c-manual, y-team, z-team",
    ]);
}

#[test]
fn another_requested_pool_moves_a_service() {
    let mut story = Story::begin(&[PUBLIC, ("other", r#"{"addresses":["192.0.2.1"]}"#)]);
    story.service("a", &[("roadstead.dev/address-pool", "public")], "{}");
    story.service("a", &[("roadstead.dev/address-pool", "other")], "{}");
    story.expect("a=192.0.2.1");
    assert_eq!(story.claims.len(), 1);
}

#[test]
fn dual_stack() {
    let both = r#"{"ipFamilyPolicy":"RequireDualStack"}"#;
    let prefer = r#"{"ipFamilyPolicy":"PreferDualStack","ipFamilies":["IPv4","IPv6"]}"#;
    let mut story = Story::begin(&[DUAL]);
    story.service("a", &[], both);
    story.service("b", &[], prefer);
    story.service("c", &[], both);
    story.service("d", &[], prefer);
    // c gets both or nothing, d what can be had.
    story.expect("a=203.0.113.1,2001:db8::1 b=203.0.113.2,2001:db8::2 c=- d=203.0.113.3");
    story.delete_service("a");
    // c is older than d.
    story.expect("b=203.0.113.2,2001:db8::2 c=203.0.113.1,2001:db8::1 d=203.0.113.3");
    story.delete_service("b");
    story.expect("c=203.0.113.1,2001:db8::1 d=203.0.113.3,2001:db8::2");
}

#[test]
fn both_families_come_from_one_pool_where_one_has_both() {
    let mut story = Story::begin(&[
        ("a-v4", r#"{"addresses":["192.0.2.0/28"]}"#),
        ("b-both", r#"{"addresses":["203.0.113.1","2001:db8:1::/64"]}"#),
        ("c-v6", r#"{"addresses":["2001:db8:2::/64"]}"#),
    ]);
    let both = r#"{"ipFamilyPolicy":"RequireDualStack"}"#;
    story.service("a", &[], both);
    story.expect("a=203.0.113.1,2001:db8:1::");
    // Then from two, if it must be.
    story.service("b", &[], both);
    story.expect("a=203.0.113.1,2001:db8:1:: b=192.0.2.0,2001:db8:1::1");
    // A second family is added beside the first, which stays.
    story.plain("c");
    story.service("c", &[], both);
    story.expect("a=203.0.113.1,2001:db8:1:: b=192.0.2.0,2001:db8:1::1 c=192.0.2.1,2001:db8:1::2");
}

#[test]
fn what_makes_a_service_ours() {
    let mut story = Story::begin(&[PUBLIC]);
    story.service("ours", &[], r#"{"loadBalancerClass":"roadstead.dev/bgp"}"#);
    story.service("theirs", &[], r#"{"loadBalancerClass":"example.com/other"}"#);
    story.service("inside", &[], r#"{"type":"ClusterIP"}"#);
    story.expect("inside=- ours=203.0.113.1 theirs=-");
    story.service("ours", &[], r#"{"type":"ClusterIP"}"#);
    story.expect("inside=- ours=- theirs=-");
    assert!(story.claims.is_empty());
    story.service("inside", &[], "{}");
    story.expect("inside=203.0.113.1 ours=- theirs=-");
}

#[test]
fn addresses_of_nodes_and_routers_are_never_handed_out() {
    let mut story = Story::begin(&[PUBLIC]);
    let node = || ObjectRef::cluster("Node", "node-1");
    story.reserve(node(), &["203.0.113.1", "10.0.0.1"]);
    story.reserve(ObjectRef::cluster("BGPPeer", "tor"), &["203.0.113.2"]);
    story.plain("a");
    story.requesting("b", "203.0.113.2");
    story.plain("c");
    story.expect("a=203.0.113.3 b=- c=-");
    story.expect_notices(&[
        "a AddressAssigned: 203.0.113.3 from pool public",
        "b AddressNotAssigned: 203.0.113.2 is an address of BGPPeer tor and is never handed out",
        "c AddressNotAssigned: pool public: full (3 of 3 IPv4 addresses)",
    ]);
    story.reserve(node(), &[]);
    story.expect("a=203.0.113.3 b=- c=203.0.113.1");
    // One that a Service has already stays.
    story.reserve(node(), &["203.0.113.1"]);
    story.expect("a=203.0.113.3 b=- c=203.0.113.1");
}
