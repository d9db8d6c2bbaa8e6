//! Pools for pods, and claims that are theirs: the plan counts and judges them, and leaves them alone.

use roadstead_api::checked::ObjectRef;

use super::story::Story;

const SHARED: &str = r#"{"subnet":"10.1.0.0/24","ranges":["10.1.0.10-10.1.0.13"],"gateway":"10.1.0.1"}"#;

#[test]
fn what_pods_have_is_left_alone() {
    let mut story = Story::begin(&[("public", r#"{"addresses":["203.0.113.1-203.0.113.2"]}"#)]);
    story.pod_pool("pods", SHARED);
    story.pod_claim("10.1.0.10", "pods", &["a"]);
    story.wait(60);
    // The address goes from one pod to another in one write.
    story.pod_claim("10.1.0.10", "pods", &["b"]);
    story.wait(60);
    story.restart();
    story.wait(60);
    story.delete_claim("10.1.0.10");
    story.wait(60);
    assert!(story.claims.is_empty());
    // An AddressPool has the address meanwhile: the claim still is what the speaker wrote.
    story.pod_claim("203.0.113.1", "pods", &["a"]);
    story.wait(60);
    story.expect_no_writes();
    story.plain("a");
    story.expect_status("a", "203.0.113.2");
}

#[test]
fn a_released_address_rests_as_its_pool_says() {
    // Another kind's pool of the same name says nothing about it.
    let mut story = Story::begin(&[("pods", r#"{"addresses":["203.0.113.1"],"reuseDelaySeconds":9}"#)]);
    story.pod_pool("pods", r#"{"subnet":"10.1.0.0/24","reuseDelaySeconds":60}"#);
    story.pod_claim("10.1.0.10", "pods", &["a"]);
    story.pod_claim("10.1.0.11", "pods", &["b"]);
    story.pod_claim("10.1.0.10", "pods", &[]);
    story.pod_claim("10.1.0.11", "pods", &[]);
    story.wait(50);
    assert_eq!(story.claims.len(), 2);
    // Its speaker hands one out again.
    story.pod_claim("10.1.0.11", "pods", &["c"]);
    story.wait(15);
    let left: Vec<String> = story.claims.keys().map(ToString::to_string).collect();
    assert_eq!(left, ["10.1.0.11/32"]);
}

#[test]
fn claims_and_reports_are_counted_once_each() {
    let mut story = Story::begin(&[]);
    story.pod_pool("pods", SHARED);
    assert_eq!(story.pods_ready("pods"), "0/4 True InForce: addresses are handed out");
    story.pod_claim("10.1.0.10", "pods", &["a"]);
    story.pods_report("n1", &[("pods", 1), ("other", 7)]);
    story.pods_report("n2", &[("pods", 1)]);
    assert_eq!(story.pods_ready("pods"), "3/4 True InForce: addresses are handed out");
    story.pod_claim("10.1.0.11", "pods", &["b"]);
    assert_eq!(story.pods_ready("pods"), "4/4 True Exhausted: in force; all 4 addresses are in use");
    story.pods_report("n1", &[]);
    story.pod_claim("10.1.0.10", "pods", &[]);
    assert_eq!(story.pods_ready("pods"), "2/4 True InForce: addresses are handed out");
    story.pod_pool("pods", r#"{"subnet":"10.1.0.0/24","ranges":["10.1.0.12"]}"#);
    assert_eq!(
        story.pods_ready("pods"),
        "2/1 True Stranded: in force; 1 address in use is no longer in this pool, and stays until its pod is gone: 10.1.0.11 \
         (Pod default/b)"
    );
}

#[test]
fn what_a_pool_leaves_out_is_said() {
    let mut story = Story::begin(&[]);
    story.reserve(ObjectRef::cluster("Node", "n1"), &["10.1.0.3", "10.9.0.3"]);
    story.pod_pool("pods", r#"{"subnet":"10.1.0.0/24","ranges":["10.1.0.0-10.1.0.3"],"gateway":"10.1.0.1"}"#);
    assert_eq!(
        story.pods_ready("pods"),
        "0/1 True LeftOut: in force; left out of its ranges: 10.1.0.0 (network), 10.1.0.1 (gateway), 10.1.0.3 (Node n1)"
    );
    story.reserve(ObjectRef::cluster("Node", "n2"), &["10.1.0.2"]);
    assert_eq!(
        story.pods_ready("pods"),
        "0/0 False NoAddresses: no address may be handed out: left out of its ranges: 10.1.0.0 (network), 10.1.0.1 \
         (gateway), 10.1.0.2 (Node n2) and 1 more"
    );
    assert_eq!(story.pod_reports["pods"].left_out.len(), 4);
    story.reserve(ObjectRef::cluster("Node", "n2"), &[]);
    story.pod_pool("pods", r#"{"subnet":"10.1.0.0/24","ranges":["10.1.0.2"],"disabled":true}"#);
    assert_eq!(
        story.pods_ready("pods"),
        "0/1 False Disabled: no address is handed out, because disabled is true; pods keep those that they have"
    );
}

#[test]
fn no_service_gets_what_is_a_pools_for_pods() {
    let mut story = Story::begin(&[]);
    story.pod_pool("pods", SHARED);
    story.pool("public", r#"{"addresses":["10.1.0.1-10.1.0.2","10.1.0.13"]}"#);
    story.plain("a");
    story.wait(2);
    story.expect_status("a", "");
    assert_eq!(
        story.ready("public"),
        "False Overlap: not in force: AddressPool public overlaps PodPool pods, which is older, in 10.1.0.13; take these \
         addresses out of one of the two"
    );
    // The router of the subnet is not in the pool, and no Service's either.
    story.pool("public", r#"{"addresses":["10.1.0.1-10.1.0.2"]}"#);
    story.expect("a=10.1.0.2");
    story.pod_pool("younger", r#"{"subnet":"10.1.0.0/24","ranges":["10.1.0.2-10.1.0.9"]}"#);
    assert_eq!(
        story.pods_ready("younger"),
        "0/- False Overlap: not in force: PodPool younger overlaps AddressPool public, which is older, in 10.1.0.2; take \
         these addresses out of one of the two"
    );
    assert_eq!(story.pods_ready("pods"), "0/4 True InForce: addresses are handed out");
}

#[test]
fn a_pool_that_cannot_be_read_stays_as_it_last_could() {
    let mut story = Story::begin(&[]);
    story.pod_pool("pods", SHARED);
    story.pod_pool("pods", r#"{"subnet":"10.1.0.0/24","ranges":["10.2.0.0/24"]}"#);
    assert_eq!(
        story.pods_ready("pods"),
        "0/4 False Invalid: the last good version stays in force: PodPool pods: spec.ranges[0]: \"10.2.0.0-10.2.0.255\": \
         must be inside spec.subnet 10.1.0.0/24"
    );
}
