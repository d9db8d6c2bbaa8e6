//! Several Services on one address.

use super::story::Story;

const KEY: (&str, &str) = ("roadstead.dev/share-key", "k");

fn port(port: u16) -> String {
    format!(r#"{{"ports":[{{"port":{port}}}],"selector":{{"app":"x"}}}}"#)
}

fn local(port: u16, app: &str) -> String {
    format!(r#"{{"ports":[{{"port":{port}}}],"selector":{{"app":"{app}"}},"externalTrafficPolicy":"Local"}}"#)
}

fn story() -> Story {
    Story::begin(&[("public", r#"{"addresses":["203.0.113.1-203.0.113.3"]}"#)])
}

#[test]
fn the_same_key_and_other_ports_share() {
    let mut story = story();
    story.service("a", &[KEY], &port(80));
    story.service("b", &[KEY], &port(81));
    story.service("c", &[KEY], &port(80));
    story.service("d", &[("roadstead.dev/share-key", "other")], &port(82));
    story.expect("a=203.0.113.1 b=203.0.113.1 c=203.0.113.2 d=203.0.113.3");
    // The claim is kept for as long as somebody has the address.
    story.delete_service("a");
    story.expect("b=203.0.113.1 c=203.0.113.2 d=203.0.113.3");
    story.delete_service("b");
    story.expect("c=203.0.113.2 d=203.0.113.3");
}

#[test]
fn one_address_for_tcp_and_udp() {
    let mut story = story();
    let request = ("roadstead.dev/addresses", "203.0.113.2");
    story.service("tcp", &[KEY, request], r#"{"ports":[{"port":53,"protocol":"TCP"}]}"#);
    story.service("udp", &[KEY, request], r#"{"ports":[{"port":53,"protocol":"UDP"}]}"#);
    story.expect("tcp=203.0.113.2 udp=203.0.113.2");
}

#[test]
fn why_an_address_is_not_shared() {
    let mut story = story();
    let request = ("roadstead.dev/addresses", "203.0.113.2");
    story.service("a", &[KEY, request], &port(80));
    story.expect_notices(&["a AddressAssigned: 203.0.113.2 from pool public"]);
    story.service("port", &[KEY, request], &port(80));
    story.service("key", &[("roadstead.dev/share-key", "other"), request], &port(81));
    story.service("none", &[request], &port(81));
    story.service("local", &[KEY, request], &local(81, "x"));
    story.service("other/space", &[KEY, request], &port(81));
    story.expect_notices(&[
        "port AddressNotAssigned: 203.0.113.2 cannot be shared with Service default/a: both have port TCP/80",
        "key AddressNotAssigned: 203.0.113.2 belongs to Service default/a",
        "none AddressNotAssigned: 203.0.113.2 belongs to Service default/a",
        "local AddressNotAssigned: 203.0.113.2 cannot be shared with Service default/a: \
         with externalTrafficPolicy: Local both must have that policy and the same selector",
        "space AddressNotAssigned: 203.0.113.2 cannot be shared with Service default/a: \
         they are in different namespaces and pool public does not say sharing: Cluster",
    ]);
    // What stood in the way goes, and the oldest that fits is served.
    story.delete_service("a");
    story.expect("key=- local=- none=- port=203.0.113.2 other/space=-");
}

#[test]
fn across_namespaces_where_the_pool_says_so() {
    let mut story = Story::begin(&[("public", r#"{"addresses":["203.0.113.1"],"sharing":"Cluster"}"#)]);
    story.service("a", &[KEY], &port(80));
    story.service("other/b", &[KEY], &port(81));
    story.expect("a=203.0.113.1 other/b=203.0.113.1");
}

#[test]
fn under_policy_local_the_selectors_must_be_one() {
    let mut story = story();
    story.service("a", &[KEY], &local(80, "x"));
    story.service("b", &[KEY], &local(81, "x"));
    story.service("c", &[KEY], &local(82, "y"));
    story.expect("a=203.0.113.1 b=203.0.113.1 c=203.0.113.2");
}

#[test]
fn whoever_changes_into_a_clash_is_the_one_to_go() {
    let mut story = story();
    story.service("a", &[KEY], &port(80));
    story.service("b", &[KEY], &port(81));
    story.service("a", &[KEY], &port(81));
    story.expect("a=203.0.113.2 b=203.0.113.1");
    // And the place that it left is free for another.
    story.service("c", &[KEY], &port(80));
    story.expect("a=203.0.113.2 b=203.0.113.1 c=203.0.113.1");
    story.service("c", &[KEY], &port(88));
    story.expect("a=203.0.113.2 b=203.0.113.1 c=203.0.113.1");
}

#[test]
fn a_service_that_waits_joins_when_another_leaves() {
    let mut story = Story::begin(&[("public", r#"{"addresses":["203.0.113.1"]}"#)]);
    story.service("a", &[KEY], &port(80));
    story.service("b", &[KEY], &port(81));
    story.service("c", &[KEY], &port(80));
    story.expect("a=203.0.113.1 b=203.0.113.1 c=-");
    story.delete_service("a");
    story.expect("b=203.0.113.1 c=203.0.113.1");
}

#[test]
fn another_key_moves_a_service() {
    let mut story = story();
    story.service("a", &[KEY], &port(80));
    story.service("b", &[KEY], &port(81));
    story.service("b", &[("roadstead.dev/share-key", "other")], &port(81));
    story.expect("a=203.0.113.1 b=203.0.113.2");
    // The only owner of an address changes its key in place.
    story.service("a", &[("roadstead.dev/share-key", "third")], &port(80));
    story.expect("a=203.0.113.1 b=203.0.113.2");
}
