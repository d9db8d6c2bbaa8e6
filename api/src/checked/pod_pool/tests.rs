use super::*;

fn parse(spec: &str) -> Result<PodPool, Vec<Invalid>> {
    let raw = format!(r#"{{"metadata":{{"name":"p"}},"spec":{spec}}}"#);
    PodPool::check(&serde_json::from_str::<kinds::PodPool>(&raw).unwrap())
}

/// A pool in 10.1.0.0/24 with these further fields.
fn pool(fields: &str) -> PodPool {
    parse(&format!(r#"{{"subnet":"10.1.0.0/24"{fields}}}"#)).unwrap()
}

fn text(ranges: impl IntoIterator<Item = AddressRange>) -> String {
    ranges.into_iter().map(|range| range.to_string()).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn refuses(spec: &str, expected: &[&str]) {
    let found: Vec<String> = parse(spec).unwrap_err().iter().map(ToString::to_string).collect();
    let expected: Vec<String> = expected.iter().map(|line| format!("PodPool p: {line}")).collect();
    assert_eq!(found, expected, "{spec}");
}

#[test]
fn what_is_wrong_is_said_in_words() {
    let subnet = |fields: &str| format!(r#"{{"subnet":"10.1.0.0/24",{fields}}}"#);
    refuses(
        r#"{"subnet":"10.1.0.1/24"}"#,
        &[r#"spec.subnet: "10.1.0.1/24": host bits must be zero: write 10.1.0.0/24"#],
    );
    refuses(
        &subnet(r#""ranges":["10.1.0.250-10.1.1.3","2001:db8::1"],"exclude":["10.2.0.0/24"]"#),
        &[
            r#"spec.ranges[0]: "10.1.0.250-10.1.1.3": must be inside spec.subnet 10.1.0.0/24"#,
            r#"spec.ranges[1]: "2001:db8::1": must be inside spec.subnet 10.1.0.0/24"#,
            r#"spec.exclude[0]: "10.2.0.0-10.2.0.255": must be inside spec.subnet 10.1.0.0/24"#,
        ],
    );
    refuses(
        &subnet(r#""gateway":"10.2.0.1""#),
        &[r#"spec.gateway: "10.2.0.1": must be inside spec.subnet 10.1.0.0/24"#],
    );
    refuses(
        &subnet(
            r#""routes":[{"destination":"0.0.0.0/0"},{"destination":"2001:db8::/32"},{"destination":"10.9.0.0/16","gateway":"10.9.0.1"},{"destination":"10.9.0.0/16"}]"#,
        ),
        &[
            r#"spec.routes[0].destination: "0.0.0.0/0": must not be the default route: pods get that on one interface, whatever pool it is from"#,
            r#"spec.routes[1].destination: "2001:db8::/32": must be of the family of spec.subnet 10.1.0.0/24"#,
            r#"spec.routes[2].gateway: "10.9.0.1": must be inside spec.subnet 10.1.0.0/24"#,
            r#"spec.routes[3].destination: "10.9.0.0/16": is the destination of an earlier route already"#,
        ],
    );
    refuses(
        &subnet(r#""ranges":["10.1.0.9"],"nodeRanges":[{"nodes":["a"],"ranges":["10.1.0.8"]}]"#),
        &[
            r#"spec.ranges: "10.1.0.9": cannot be given beside nodeRanges: give every node its own there, or all the same here"#,
        ],
    );
    refuses(
        &subnet(r#""nodeRanges":[{"nodes":[],"ranges":[]}]"#),
        &[
            r#"spec.nodeRanges[0].nodes: "[]": must name at least one node"#,
            r#"spec.nodeRanges[0].ranges: "[]": must list at least one CIDR, address or range"#,
        ],
    );
    refuses(
        &subnet(r#""networks":["macvlan"],"priority":-1,"reuseDelaySeconds":-1"#),
        &[
            r#"spec.networks[0]: "macvlan": must be the namespace and name of a NetworkAttachmentDefinition, like kube-system/macvlan-ens5"#,
            r#"spec.priority: "-1": must be from 0 to 2147483647"#,
            r#"spec.reuseDelaySeconds: "-1": must be from 0 to 2592000 (30 days)"#,
        ],
    );
}

#[test]
fn an_address_is_of_one_entry_of_node_ranges_and_a_node_too() {
    let entries = |entries: &str| format!(r#"{{"subnet":"10.1.0.0/24","nodeRanges":[{entries}]}}"#);
    let shares = |value: &str, index: usize, other: usize| {
        format!(
            "spec.nodeRanges[{index}].ranges: {value:?}: has addresses of spec.nodeRanges[{other}] too: name the nodes in one \
             entry, or give each its own"
        )
    };
    refuses(
        &entries(
            r#"{"nodes":["a"],"ranges":["10.1.0.8-10.1.0.40"]},{"nodes":["b"],"ranges":["10.1.0.10"]},{"nodes":["c"],"ranges":["10.1.0.40-10.1.0.50","10.1.0.45"]}"#,
        ),
        &[&shares("10.1.0.10", 1, 0), &shares("10.1.0.40", 2, 0)],
    );
    refuses(
        &entries(r#"{"nodes":["a","b"],"ranges":["10.1.0.8"]},{"nodes":["b"],"ranges":["10.1.0.10"]}"#),
        &[r#"spec.nodeRanges[1].nodes[0]: "b": is named by spec.nodeRanges[0] already: give each node one entry"#],
    );
}

#[test]
fn what_a_node_may_hand_out() {
    #[track_caller]
    fn check(what: &str, spec: &str, expected: &str) {
        let pool = parse(spec).unwrap();
        assert_eq!(text(pool.usable_on("a")), expected, "{what}");
    }
    check("the whole subnet", r#"{"subnet":"10.1.0.0/24","gateway":"10.1.0.1"}"#, "10.1.0.2-10.1.0.254");
    check("/31", r#"{"subnet":"10.1.0.0/31"}"#, "10.1.0.0-10.1.0.1");
    check("/32", r#"{"subnet":"10.1.0.7/32"}"#, "10.1.0.7");
    check("/30", r#"{"subnet":"10.1.0.4/30"}"#, "10.1.0.5-10.1.0.6");
    check("/127", r#"{"subnet":"2001:db8::/127"}"#, "2001:db8::-2001:db8::1");
    check("/126", r#"{"subnet":"2001:db8::/126"}"#, "2001:db8::1-2001:db8::3");
    check("IPv6 /32", r#"{"subnet":"2001:db8::/32"}"#, "2001:db8::1-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff");
    check("ranges merge", r#"{"subnet":"10.1.0.0/24","ranges":["10.1.0.9","10.1.0.4-10.1.0.8"]}"#, "10.1.0.4-10.1.0.9");
    check(
        "what is the subnet's own is left out, though a range names it",
        r#"{"subnet":"10.1.0.0/29","ranges":["10.1.0.0/29"],"gateway":"10.1.0.3","exclude":["10.1.0.5"]}"#,
        "10.1.0.1-10.1.0.2 10.1.0.4 10.1.0.6",
    );
    check("all excluded", r#"{"subnet":"10.1.0.0/24","ranges":["10.1.0.9"],"exclude":["10.1.0.0/24"]}"#, "");
    check("another node's", r#"{"subnet":"10.1.0.0/24","nodeNames":["b"]}"#, "");
    let entries =
        r#""nodeRanges":[{"nodes":["a","b"],"ranges":["10.1.0.8-10.1.0.9"]},{"nodes":["c"],"ranges":["10.1.0.20"]}]"#;
    check("per node", &format!(r#"{{"subnet":"10.1.0.0/24",{entries}}}"#), "10.1.0.8-10.1.0.9");
    check("per node, and not this one", &format!(r#"{{"subnet":"10.1.0.0/24","nodeNames":["c"],{entries}}}"#), "");
}

#[test]
fn all_nodes_together() {
    let pool = pool(
        r#","gateway":"10.1.0.8","nodeRanges":[{"nodes":["a","b"],"ranges":["10.1.0.8-10.1.0.9"]},{"nodes":["c"],"ranges":["10.1.0.20"]}]"#,
    );
    assert_eq!(text(pool.usable().ranges()), "10.1.0.9 10.1.0.20");
    assert_eq!(pool.left_out(), [("10.1.0.8".parse().unwrap(), LeftOut::Gateway)]);
    let huge = parse(r#"{"subnet":"2001:db8::/32"}"#).unwrap();
    assert_eq!(huge.usable().count(), (1 << 96) - 1);
}

#[test]
fn what_the_controller_left_out_is_not_handed_out_and_changes_no_verdict() {
    let raw = r#"{"metadata":{"name":"p"},"spec":{"subnet":"10.1.0.0/24","ranges":["10.1.0.8-10.1.0.10"]},
                  "status":{"leftOut":[{"address":"10.1.0.9","reason":"Node n2"}]}}"#;
    let pool = PodPool::check(&serde_json::from_str::<kinds::PodPool>(raw).unwrap()).unwrap();
    assert_eq!(text(pool.usable_on("a")), "10.1.0.8 10.1.0.10");
    assert_eq!(text(pool.usable().ranges()), "10.1.0.8-10.1.0.10");
}

#[test]
fn what_is_left_out_is_told_where_a_range_names_it() {
    let left_out =
        |fields: &str| pool(fields).left_out().into_iter().map(|(a, why)| format!("{a} {why}")).collect::<Vec<_>>();
    assert_eq!(left_out(r#","gateway":"10.1.0.1""#), Vec::<String>::new(), "a whole subnet");
    assert_eq!(left_out(r#","gateway":"10.1.0.1","ranges":["10.1.0.2-10.1.0.9"]"#), Vec::<String>::new(), "none named");
    assert_eq!(
        left_out(r#","gateway":"10.1.0.1","ranges":["10.1.0.0/25","10.1.0.255"]"#),
        ["10.1.0.0 network", "10.1.0.255 broadcast", "10.1.0.1 gateway"]
    );
}

#[test]
fn which_nodes() {
    let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect::<Labels>();
    let blue = labels(&[("rack", "blue")]);
    #[track_caller]
    fn check(what: &str, pool: &PodPool, labels: &Labels, expected: &str) {
        let nodes = ["a", "b", "c"];
        let taken: Vec<&str> = nodes.into_iter().filter(|node| pool.takes_node(node, labels)).collect();
        let pinned: Vec<&str> = nodes.into_iter().filter(|node| pool.is_pinned_to(node)).collect();
        assert_eq!(format!("takes {} pinned to {}", taken.concat(), pinned.concat()), expected, "{what}");
    }
    check("any", &pool(""), &blue, "takes abc pinned to ");
    check("one by name", &pool(r#","nodeNames":["a"]"#), &blue, "takes a pinned to a");
    check("two by name", &pool(r#","nodeNames":["a","b"]"#), &blue, "takes ab pinned to ");
    let selector = r#","nodeSelector":{"matchLabels":{"rack":"blue"}}"#;
    check("labels pin nothing", &pool(selector), &blue, "takes abc pinned to ");
    check("other labels", &pool(selector), &Labels::new(), "takes  pinned to ");
    check("name and labels", &pool(&format!(r#"{selector},"nodeNames":["a"]"#)), &Labels::new(), "takes  pinned to a");
    let entries = r#","nodeRanges":[{"nodes":["a","b"],"ranges":["10.1.0.8"]},{"nodes":["c"],"ranges":["10.1.0.20"]}]"#;
    check("per node", &pool(entries), &blue, "takes abc pinned to c");
    check(
        "per node, of those one",
        &pool(&format!(r#"{entries},"nodeNames":["a","c"]"#)),
        &blue,
        "takes ac pinned to ac",
    );
}

#[test]
fn which_networks() {
    let any = pool("");
    assert!(any.takes_network(None, "cbr0") && any.takes_network(Some("shop/x"), "x"));
    let one = pool(r#","networks":["kube-system/macvlan-ens5"]"#);
    assert!(one.takes_network(Some("kube-system/macvlan-ens5"), "anything"));
    assert!(!one.takes_network(Some("shop/macvlan-ens5"), "macvlan-ens5"), "the definition counts, where one is named");
    assert!(one.takes_network(None, "macvlan-ens5"));
    assert!(!one.takes_network(None, "kube-system"));
}

#[test]
fn pools_of_blocks() {
    let blocks = pool(r#","blockPrefixLength":26,"advertise":"Block""#);
    let all = blocks.blocks();
    assert_eq!((all.count(), all.nth(3).unwrap().to_string()), (4, "10.1.0.192/26".to_owned()));
    assert_eq!(blocks.gateway.unwrap().to_string(), "10.1.0.1", "what every node answers to");
    assert!(!blocks.usable().contains("10.1.0.1".parse().unwrap()));
    assert_eq!(pool(r#","blockPrefixLength":26,"gateway":"10.1.0.9""#).gateway.unwrap().to_string(), "10.1.0.9");
    assert_eq!(pool(r#","blockPrefixLength":32"#).blocks().count(), 256);
    assert_eq!(pool("").blocks().count(), 0);
    let with = |fields: &str| format!(r#"{{"subnet":"10.1.0.0/24",{fields}}}"#);
    refuses(
        &with(r#""blockPrefixLength":23"#),
        &[r#"spec.blockPrefixLength: "23": must be from 24, the length of spec.subnet, to 32"#],
    );
    refuses(
        &with(r#""blockPrefixLength":26,"ranges":["10.1.0.1-10.1.0.126"]"#),
        &[
            r#"spec.blockPrefixLength: "26": must fit into spec.ranges at least once, from its first address to its last"#,
        ],
    );
    refuses(&with(r#""advertise":"Block""#), &[r#"spec.advertise: "Block": needs spec.blockPrefixLength"#]);
    refuses(
        &with(r#""advertise":"Address","blockPrefixLength":26"#),
        &[
            r#"spec.advertise: "Address": is for pools without spec.blockPrefixLength: a block is announced as a whole, or not at all"#,
        ],
    );
    refuses(
        &with(r#""blockPrefixLength":26,"nodeRanges":[{"nodes":["a"],"ranges":["10.1.0.8"]}]"#),
        &[
            r#"spec.blockPrefixLength: "26": cannot be given beside nodeRanges: nodes claim blocks, or you give each its own"#,
        ],
    );
}

#[test]
fn the_controllers_verdict_is_about_one_generation() {
    let judged = |generation: i64, observed: i64| {
        let condition = format!(
            r#"{{"type":"Ready","status":"True","reason":"r","message":"m","lastTransitionTime":"2026-01-01T00:00:00Z","observedGeneration":{observed}}}"#
        );
        let raw = format!(
            r#"{{"metadata":{{"name":"p","generation":{generation}}},"spec":{{"subnet":"10.1.0.0/24"}},"status":{{"conditions":[{condition}]}}}}"#
        );
        PodPool::check(&serde_json::from_str::<kinds::PodPool>(&raw).unwrap()).unwrap().is_judged
    };
    assert!(judged(3, 3));
    assert!(!judged(3, 2));
    assert!(!pool("").is_judged);
}
