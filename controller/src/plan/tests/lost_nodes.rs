//! What a node held goes to others when the node is gone, and not a moment before nobody objects any more.

use std::collections::BTreeSet;

use super::story::Story;
use crate::plan::NodePods;

const BLOCKS: &str = r#"{"subnet":"10.64.0.0/24","blockPrefixLength":26,"advertise":"Block"}"#;

/// Two nodes with a block each, and a pod with an address of a shared pool.
fn two_nodes() -> Story {
    let mut story = Story::begin(&[]);
    story.pod_pool("underlay", BLOCKS);
    story.node("n1", true);
    story.node("n2", true);
    story.block_claim("10.64.0.0/26", "underlay", "n1");
    story.block_claim("10.64.0.64/26", "underlay", "n2");
    story
}

fn announcing(nets: &[&str]) -> NodePods {
    NodePods { announced: nets.iter().map(|net| net.parse().unwrap()).collect(), ..NodePods::default() }
}

fn hearing(nets: &[&str]) -> NodePods {
    NodePods { heard: announcing(nets).announced, announced: BTreeSet::new(), ..NodePods::default() }
}

#[test]
fn blocks_of_a_lost_node_are_marked_and_then_go() {
    let mut story = two_nodes();
    story.wait(3600);
    assert_eq!(story.claimed(), "10.64.0.0/26 10.64.0.64/26");
    story.node("n1", false);
    story.wait(299);
    assert_eq!(story.claimed(), "10.64.0.0/26 10.64.0.64/26", "the grace is not over");
    story.wait(1);
    assert_eq!(story.claimed(), "10.64.0.0/26! 10.64.0.64/26");
    story.wait(5);
    assert_eq!(story.claimed(), "10.64.0.0/26! 10.64.0.64/26", "somebody may hear of it still");
    story.wait(5);
    story.wait(5);
    assert_eq!(story.claimed(), "10.64.0.64/26");
    story.wait(3600);
    assert_eq!(story.claimed(), "10.64.0.64/26");
}

#[test]
fn a_node_that_comes_back_keeps_its_blocks() {
    let mut story = two_nodes();
    story.node("n1", false);
    story.wait(200);
    story.node("n1", true);
    story.wait(3600);
    assert_eq!(story.claimed(), "10.64.0.0/26 10.64.0.64/26");
    // Gone again, and back when its block is marked already: its speaker takes the mark off.
    story.node("n1", false);
    story.wait(300);
    assert_eq!(story.claimed(), "10.64.0.0/26! 10.64.0.64/26");
    story.node("n1", true);
    story.wait(3600);
    assert_eq!(story.claimed(), "10.64.0.0/26! 10.64.0.64/26");
    story.block_claim("10.64.0.0/26", "underlay", "n1");
    story.wait(3600);
    assert_eq!(story.claimed(), "10.64.0.0/26 10.64.0.64/26");
}

#[test]
fn what_is_announced_or_heard_stays() {
    let mut story = two_nodes();
    story.node("n1", false);
    for _ in 0..100 {
        // The node lives on without an object, and reports.
        story.pods_report_of("n1", announcing(&["10.64.0.0/26"]));
        story.wait(10);
    }
    assert_eq!(story.claimed(), "10.64.0.0/26! 10.64.0.64/26");
    story.pods_report_of("n1", NodePods::default());
    for _ in 0..10 {
        story.pods_report_of("n2", hearing(&["10.64.0.0/26"]));
        story.wait(10);
    }
    assert_eq!(story.claimed(), "10.64.0.0/26! 10.64.0.64/26", "a router has the route");
    story.pods_report_of("n2", hearing(&[]));
    story.wait(5);
    assert_eq!(story.claimed(), "10.64.0.64/26");
}

#[test]
fn a_report_that_is_not_renewed_tells_nothing() {
    let mut story = two_nodes();
    story.pods_report_of("n1", announcing(&["10.64.0.0/26"]));
    story.node("n1", false);
    story.wait(300);
    story.wait(5);
    story.wait(10);
    assert_eq!(story.claimed(), "10.64.0.64/26");
}

#[test]
fn addresses_of_pods_on_a_lost_node_go_too() {
    let mut story = two_nodes();
    story.pod_pool("shared", r#"{"subnet":"10.1.0.0/24"}"#);
    for pod in ["a", "b"] {
        story.node(&format!("node-of-{pod}"), true);
    }
    story.pod_claim("10.1.0.10", "shared", &["a"]);
    story.pod_claim("10.1.0.11", "shared", &["b"]);
    story.pods_report_of("node-of-b", announcing(&["10.1.0.11/32"]));
    story.node("node-of-a", false);
    story.node("node-of-b", false);
    for _ in 0..30 {
        story.pods_report_of("node-of-b", announcing(&["10.1.0.11/32"]));
        story.wait(10);
    }
    assert_eq!(story.claimed(), "10.1.0.11/32 10.64.0.0/26 10.64.0.64/26");
    story.pods_report_of("node-of-b", NodePods::default());
    story.wait(5);
    assert_eq!(story.claimed(), "10.64.0.0/26 10.64.0.64/26");
}

#[test]
fn a_controller_that_begins_anew_finds_what_is_lost() {
    let mut story = Story::new();
    story.pod_pool("underlay", BLOCKS);
    story.block_claim("10.64.0.0/26", "underlay", "n1");
    story.start();
    story.wait(300);
    assert_eq!(story.claimed(), "10.64.0.0/26!");
    // Nobody tells that of n1 again, so the grace begins anew, and the wait with it.
    story.restart();
    story.wait(299);
    assert_eq!(story.claimed(), "10.64.0.0/26!");
    for _ in 0..5 {
        story.wait(5);
    }
    assert_eq!(story.claimed(), "");
}

#[test]
fn an_older_pool_that_grows_leaves_pods_of_a_younger_alone() {
    let mut story = Story::begin(&[("public", r#"{"addresses":["10.1.0.1-10.1.0.9"]}"#)]);
    story.pod_pool("pods", r#"{"subnet":"10.1.0.0/24","ranges":["10.1.0.10-10.1.0.12"],"nodeNames":["n1"]}"#);
    story.pods_report("n1", &[("pods", 1)]);
    assert_eq!(story.pods_ready("pods"), "1/3 True InForce: addresses are handed out");
    story.pool("public", r#"{"addresses":["10.1.0.10-10.1.0.13"]}"#);
    story.plain("a");
    // Which of the three the pod has only its node knows, so no Service gets any of them.
    story.expect_status("a", "10.1.0.13");
    assert!(story.pods_ready("pods").contains("False Overlap"), "{}", story.pods_ready("pods"));
}
