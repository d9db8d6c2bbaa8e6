//! An edge host has a block of its pool for as long as it asks for one, and nobody else has it.

use super::story::Story;

/// Four blocks, and the pool's gateway in the first.
const STANDS: &str = r#"{"subnet":"10.64.0.0/26","blockPrefixLength":28}"#;

fn stands() -> Story {
    let mut story = Story::begin(&[]);
    story.pod_pool("stands", STANDS);
    story
}

#[test]
fn hosts_have_the_lowest_free_blocks_and_keep_them() {
    let mut story = stands();
    story.edge_host("a", "stands", None);
    story.edge_host("b", "stands", Some(28));
    assert_eq!(story.owned(), "10.64.0.16/28 a, 10.64.0.32/28 b");
    story.edge_host("a", "stands", None);
    story.restart();
    story.wait(3600);
    assert_eq!(story.owned(), "10.64.0.16/28 a, 10.64.0.32/28 b");
    story.delete_edge_host("a");
    assert_eq!(story.owned(), "10.64.0.32/28 b");
    story.edge_host("c", "stands", None);
    assert_eq!(story.owned(), "10.64.0.16/28 c, 10.64.0.32/28 b");
}

#[test]
fn a_node_and_a_host_never_have_the_same() {
    let mut story = stands();
    story.block_claim("10.64.0.0/28", "stands", "n1");
    // The plan has not heard of this one when it claims it too, and takes the next.
    story.block_claim_silently("10.64.0.16/28", "stands", "n2");
    story.forget_events();
    story.edge_host("a", "stands", None);
    assert_eq!(story.owned(), "10.64.0.0/28 n1, 10.64.0.16/28 n2, 10.64.0.32/28 a");
    // Blocks of another length, from before the pool was changed.
    story.pod_pool("stands", r#"{"subnet":"10.64.0.0/26","blockPrefixLength":29}"#);
    story.edge_host("b", "stands", Some(29));
    assert_eq!(story.owned(), "10.64.0.0/28 n1, 10.64.0.16/28 n2, 10.64.0.32/28 a, 10.64.0.48/29 b");
}

#[test]
fn who_gets_none_is_told_why_and_waits() {
    let mut story = Story::begin(&[]);
    let refusal = |story: &Story, host: &str| story.plan.edge_refusal(host).unwrap_or_default().to_owned();
    story.edge_host("a", "stands", None);
    assert_eq!(refusal(&story, "a"), "spec.pool: \"stands\": there is no PodPool of that name that can be read");
    story.pod_pool("stands", r#"{"subnet":"10.64.0.0/26"}"#);
    assert_eq!(
        refusal(&story, "a"),
        "PodPool stands has no blocks, of which a prefix is one: say blockPrefixLength: 28 there"
    );
    story.pod_pool("stands", r#"{"subnet":"10.64.0.0/26","blockPrefixLength":27}"#);
    assert_eq!(
        refusal(&story, "a"),
        "PodPool stands is made of blocks of /27, and a prefix is one of them: say prefixLength: 27 here, or blockPrefixLength: 28 there"
    );
    story.pod_pool("stands", STANDS);
    assert_eq!((refusal(&story, "a").as_str(), story.owned().as_str()), ("", "10.64.0.16/28 a"));
    for host in ["b", "c", "e"] {
        story.edge_host(host, "stands", None);
    }
    assert_eq!(refusal(&story, "e"), "PodPool stands has no free block left of 4");
    story.delete_edge_host("b");
    assert_eq!(story.owned(), "10.64.0.16/28 a, 10.64.0.32/28 e, 10.64.0.48/28 c");
    assert_eq!(refusal(&story, "e"), "");
}

#[test]
fn a_host_that_is_gone_leaves_nothing() {
    let mut story = stands();
    story.edge_host("a", "stands", None);
    story.lose_edge_host("a");
    story.restart();
    assert_eq!(story.owned(), "10.64.0.16/28 a", "lists are not of one moment");
    story.wait(2);
    assert_eq!(story.owned(), "10.64.0.16/28 a");
    story.wait(2);
    assert_eq!(story.owned(), "");
    // Another pool: another block, and the former goes.
    story.pod_pool("others", r#"{"subnet":"10.65.0.0/26","blockPrefixLength":28}"#);
    story.edge_host("b", "stands", None);
    story.edge_host("b", "others", None);
    assert_eq!(story.owned(), "10.65.0.16/28 b");
}
