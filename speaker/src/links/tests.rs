//! Stories of one node: objects and learned routes in, announcements and kernel routes out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use roadstead_api::store::Object;
use roadstead_bgp::{
    AsPath, Asn, ChangedRoute, Connect, ExplainedPath, LearnedPath, Origin, PeerAsn, SelectionRule, Verdict,
};
use serde_json::{Value, json};

use super::*;
use crate::node::LocalNode;
use crate::picture::Sessions;
use crate::session::Surroundings;

const SOUTH: &str = "link/south/192.0.2.21";
const SOUTH_TOO: &str = "link/south/192.0.2.22";

struct Story {
    links: Links,
    node: String,
}

impl Story {
    /// Three nodes, the first two of which are gateways, and a link to the cluster in the south.
    fn of(node: &str) -> Self {
        let mut story = Self { links: Links::new(node), node: node.to_owned() };
        for (number, name, label) in [(1, "gw1", "yes"), (2, "gw2", "yes"), (3, "w", "no")] {
            story.node(json!({
                "metadata": { "name": name, "labels": { "gateway": label } },
                "spec": { "podCIDRs": [format!("10.1.{number}.0/24")] },
                "status": { "addresses": [{ "type": "InternalIP", "address": format!("10.80.1.1{number}") }] },
            }));
        }
        story.network(json!({ "clusterName": "north", "asn": 64501, "serviceCIDRs": ["10.11.0.0/16"] }));
        story.link("south", 64502, json!({}));
        story.connect();
        story
    }

    fn apply(&mut self, object: impl Into<Object>) {
        self.links.handle(&Event::Applied(object.into())).unwrap();
    }

    fn node(&mut self, node: Value) {
        self.apply(serde_json::from_value::<roadstead_api::kubernetes::Node>(node).unwrap());
    }

    fn network(&mut self, spec: Value) {
        self.apply(kinds::ClusterNetwork::new("default", serde_json::from_value(spec).unwrap()));
    }

    fn link(&mut self, name: &str, asn: u32, more: Value) {
        let mut spec = json!({
            "remoteCluster": name, "remoteASN": asn, "endpoints": ["192.0.2.21", "192.0.2.22"],
            "gatewaySelector": { "matchLabels": { "gateway": "yes" } },
            "acceptCIDRs": { "pods": ["10.2.0.0/16"] }, "exports": ["Pods", "Services"],
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.apply(kinds::ClusterLink::new(name, serde_json::from_value(spec).unwrap()));
    }

    fn pool(&mut self, addresses: &str) {
        let spec = json!({ "addresses": [addresses] });
        self.apply(kinds::AddressPool::new("late", serde_json::from_value(spec).unwrap()));
    }

    fn sessions(&self) -> Sessions {
        let ipv4 = match self.node.as_str() {
            "gw1" => "10.80.1.11",
            "gw2" => "10.80.1.12",
            _ => "10.80.1.13",
        };
        let labels = self.links.members[&self.node].labels.clone();
        let node = LocalNode { name: self.node.clone(), labels, ipv4: ipv4.parse().ok(), ..LocalNode::default() };
        let secrets = BTreeMap::new();
        let surroundings = Surroundings {
            node: &node,
            cluster_asn: self.links.cluster_asn(),
            secret_namespace: "roadstead-system",
            secrets: &secrets,
            redirect: None,
            uptime: Duration::ZERO,
        };
        let mut sessions = Sessions::default();
        self.links.add_sessions(&surroundings, 179, &mut sessions);
        sessions
    }

    /// As the speaker does when sessions may have changed.
    fn connect(&mut self) {
        let sessions = self.sessions();
        self.links.set_sessions(sessions.wanted.keys());
    }

    /// The engine tells of a prefix with these paths, the best first, each a session and a next hop.
    fn learn(&mut self, prefix: &str, paths: &[(&str, &str)]) {
        let path = |(peer, next_hop): &(&str, &str)| LearnedPath {
            peer: PeerKey::from(*peer),
            path_id: 0,
            stale: false,
            next_hop: next_hop.parse().unwrap(),
            origin: Origin::Igp,
            as_path: AsPath(vec![Asn(64502)]),
            med: None,
            local_preference: None,
            communities: Vec::new(),
            large_communities: Vec::new(),
            extended_communities: Vec::new(),
            only_to_customer: None,
            aigp: None,
        };
        let verdict = |index| if index == 0 { Verdict::Best } else { Verdict::Equal(SelectionRule::RouterId) };
        let paths = paths.iter().map(path).enumerate();
        let paths = paths.map(|(index, path)| ExplainedPath { path, verdict: verdict(index) }).collect();
        self.links.handle_routes(vec![ChangedRoute { prefix: prefix.parse().unwrap(), paths }]);
    }

    /// What changed, a word for each: `10.2.1.0/24>192.0.2.21` in the kernel, `node/w+10.2.1.0/24` on a session.
    #[track_caller]
    fn check(&mut self, expected: &[&str]) {
        let LinkChanges { routes, kernel } = self.links.changes();
        let mut words: Vec<String> = kernel
            .into_iter()
            .map(|(net, hops)| format!("{net}>{}", hops.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")))
            .collect();
        for (peer, changes) in routes {
            words.extend(changes.into_iter().map(|change| match change {
                RouteChange::Announce(net, _) => format!("{peer}+{net}"),
                RouteChange::Withdraw(net) => format!("{peer}-{net}"),
            }));
        }
        assert_eq!(words, expected);
    }

    fn told(&self, peer: &str) -> Vec<(String, String)> {
        let told = &self.links.told[&PeerKey::from(peer)];
        let community = |attributes: &Arc<RouteAttributes>| {
            attributes.large_communities.iter().map(ToString::to_string).collect::<String>()
        };
        told.iter().map(|(net, attributes)| (net.to_string(), community(attributes))).collect()
    }
}

#[test]
fn a_gateway_tells_its_cluster_and_passes_on_what_it_learns_to_nodes_alone() {
    let mut story = Story::of("gw1");
    story.links.changes();
    let own = [
        ("10.1.1.0/24", "64501:1:64501"),
        ("10.1.2.0/24", "64501:1:64501"),
        ("10.1.3.0/24", "64501:1:64501"),
        ("10.11.0.0/16", "64501:2:64501"),
    ];
    let own: Vec<(String, String)> = own.map(|(net, community)| (net.to_owned(), community.to_owned())).into();
    assert_eq!(story.told(SOUTH), own);
    assert_eq!(story.told("node/w"), []);

    story.learn("10.2.1.0/24", &[(SOUTH, "192.0.2.21"), (SOUTH_TOO, "192.0.2.22")]);
    story.check(&["10.2.1.0/24>192.0.2.21,192.0.2.22", "node/gw2+10.2.1.0/24", "node/w+10.2.1.0/24"]);
    // One of the two goes: the same route by one way.
    story.learn("10.2.1.0/24", &[(SOUTH_TOO, "192.0.2.22")]);
    story.check(&["10.2.1.0/24>192.0.2.22"]);
    // What another gateway of ours tells is installed, and told nobody.
    story.learn("10.2.2.0/24", &[("node/gw2", "10.80.1.12")]);
    story.check(&["10.2.2.0/24>10.80.1.12"]);
    story.learn("10.2.1.0/24", &[]);
    story.check(&["10.2.1.0/24>", "node/gw2-10.2.1.0/24", "node/w-10.2.1.0/24"]);
    // A router's routes are not ours to install.
    story.learn("10.2.3.0/24", &[("tor-a", "10.80.1.1")]);
    story.check(&[]);
}

#[test]
fn a_node_spreads_over_gateways_and_tells_nobody() {
    let mut story = Story::of("w");
    story.links.changes();
    story.learn("10.2.1.0/24", &[("node/gw1", "10.80.1.11"), ("node/gw2", "10.80.1.12")]);
    story.check(&["10.2.1.0/24>10.80.1.11,10.80.1.12"]);
    // Connected here, whatever gateways say.
    story.links.set_connected(&BTreeSet::from([("10.2.1.0/26".parse().unwrap(), "eth7".to_owned())]));
    story.check(&["10.2.1.0/24>"]);
}

#[test]
fn what_is_observed_is_judged_and_not_used() {
    let mut story = Story::of("gw1");
    story.link("south", 64502, json!({ "mode": "Observe" }));
    story.links.changes();
    story.learn("10.2.1.0/24", &[(SOUTH, "192.0.2.21")]);
    story.learn("10.9.1.0/24", &[(SOUTH, "192.0.2.21")]);
    story.check(&[]);
    let counts = &story.links.counts()[&Neighbour::Link("south".to_owned())];
    assert_eq!((counts.accepted, counts.wanted.len(), counts.refused.len()), (1, 0, 1));
    story.link("south", 64502, json!({}));
    story.check(&["10.2.1.0/24>192.0.2.21", "node/gw2+10.2.1.0/24", "node/w+10.2.1.0/24"]);
    story.link("south", 64502, json!({ "mode": "Observe" }));
    story.check(&["10.2.1.0/24>", "node/gw2-10.2.1.0/24", "node/w-10.2.1.0/24"]);
}

#[test]
fn the_local_use_wins_whenever_it_began() {
    let mut story = Story::of("w");
    story.links.changes();
    story.learn("10.2.1.0/24", &[("node/gw1", "10.80.1.11")]);
    story.learn("10.2.2.0/24", &[("node/gw1", "10.80.1.11")]);
    story.check(&["10.2.1.0/24>10.80.1.11", "10.2.2.0/24>10.80.1.11"]);
    story.pool("10.2.1.128-10.2.1.200");
    story.check(&["10.2.1.0/24>"]);
    let refused = &story.links.counts()[&Neighbour::Link("south".to_owned())].refused;
    let text = &refused[&"10.2.1.0/24".parse::<IpNet>().unwrap()];
    assert!(text.contains("ClusterLink south") && text.contains("AddressPool late"), "{text}");
    // The pool moves away.
    story.pool("10.3.0.0/24");
    story.check(&["10.2.1.0/24>10.80.1.11"]);
}

#[test]
fn nothing_goes_to_a_third_cluster_unless_both_links_say_so() {
    let third = json!({ "endpoints": ["192.0.2.31"], "acceptCIDRs": { "pods": ["10.3.0.0/16"] }, "exports": [] });
    let with = |transit: bool| {
        let mut spec = third.clone();
        spec["transit"] = transit.into();
        spec
    };
    let mut story = Story::of("gw1");
    story.link("west", 64503, with(true));
    story.connect();
    story.links.changes();
    story.learn("10.2.1.0/24", &[(SOUTH, "192.0.2.21")]);
    story.check(&["10.2.1.0/24>192.0.2.21", "node/gw2+10.2.1.0/24", "node/w+10.2.1.0/24"]);
    story.link("south", 64502, json!({ "transit": true }));
    story.check(&["link/west/192.0.2.31+10.2.1.0/24"]);
    let route = &story.links.told[&PeerKey::from("link/west/192.0.2.31")][&"10.2.1.0/24".parse::<IpNet>().unwrap()];
    assert_eq!(route.as_path, AsPath(vec![Asn(64502)]));
    story.link("west", 64503, with(false));
    story.check(&["link/west/192.0.2.31-10.2.1.0/24"]);
}

#[test]
fn who_has_sessions_with_whom() {
    let described = |story: &Story| -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for (key, (config, _)) in story.sessions().wanted {
            let how = match config.connect {
                Connect::Dial => "dials",
                Connect::Passive => "waits",
                Connect::Both => "both",
            };
            let asn = matches!(config.peer_asn, PeerAsn::Internal);
            all.push(format!("{key} {how}{}", if asn { " inside" } else { "" }));
        }
        all
    };
    let gateway =
        ["link/south/192.0.2.21 both", "link/south/192.0.2.22 both", "node/gw2 waits inside", "node/w waits inside"];
    assert_eq!(described(&Story::of("gw1")), gateway);
    assert_eq!(described(&Story::of("w")), ["node/gw1 dials inside", "node/gw2 dials inside"]);
    // Of two gateways one dials.
    assert!(described(&Story::of("gw2")).contains(&"node/gw1 dials inside".to_owned()));
}

#[test]
fn a_link_that_cannot_be_has_no_session_and_says_why() {
    let refused = |name: &str, asn: u32, more: Value| -> String {
        let mut story = Story::of("gw1");
        story.link(name, asn, more);
        let refused = story.sessions().refused;
        refused.into_iter().map(|(key, (_, refusal))| format!("{key}: {refusal}\n")).collect()
    };
    let cases = [
        (refused("south", 64501, json!({})), "is the ASN of this cluster too"),
        (refused("north", 64509, json!({})), "is the name of this cluster"),
        (refused("south", 64502, json!({ "endpoints": ["10.80.1.12"] })), "address of Node gw2"),
        (refused("south", 64502, json!({ "endpoints": ["2001:db8::1"] })), "has no IPv6 address"),
        (
            refused("south", 64502, json!({ "passwordSecret": { "name": "key" } })),
            "Secret roadstead-system/key does not exist",
        ),
        (refused("west", 64502, json!({})), "spec.remoteASN: 64502 is that of cluster south too"),
    ];
    for (found, expected) in cases {
        assert!(found.contains(expected), "{found} lacks {expected}");
    }
}

#[test]
fn what_was_told_goes_with_the_session_and_is_told_again_on_the_next() {
    let mut story = Story::of("gw1");
    story.links.changes();
    let link = story.links.links["south"].clone();
    story
        .links
        .handle(&Event::Deleted(
            ObjectKey { kind: Kind::ClusterLink, namespace: String::new(), name: "south".to_owned() },
            String::new(),
        ))
        .unwrap();
    assert!(!story.links.is_wanted());
    story.connect();
    story.check(&[]);
    assert!(story.links.told.is_empty());
    story.link(&link.name, link.remote_asn, json!({ "exports": ["Services"] }));
    story.connect();
    story.check(&["link/south/192.0.2.21+10.11.0.0/16", "link/south/192.0.2.22+10.11.0.0/16"]);
    // The cluster's range changes under the link.
    story.network(json!({ "clusterName": "north", "asn": 64501, "serviceCIDRs": ["10.12.0.0/16"] }));
    story.check(&[
        "link/south/192.0.2.21-10.11.0.0/16",
        "link/south/192.0.2.21+10.12.0.0/16",
        "link/south/192.0.2.22-10.11.0.0/16",
        "link/south/192.0.2.22+10.12.0.0/16",
    ]);
}

#[test]
fn packets_are_not_sent_to_ourselves() {
    let mut story = Story::of("gw1");
    story.links.changes();
    story.learn("10.2.1.0/24", &[(SOUTH, "10.80.1.12")]);
    story.check(&[]);
    let refused = &story.links.counts()[&Neighbour::Link("south".to_owned())].refused;
    let text = refused.values().next().unwrap();
    assert!(text.contains("next hop 10.80.1.12, address of Node gw2"), "{text}");
    // The other path is in order.
    story.learn("10.2.1.0/24", &[(SOUTH, "10.80.1.12"), (SOUTH_TOO, "192.0.2.22")]);
    story.check(&["10.2.1.0/24>192.0.2.22", "node/gw2+10.2.1.0/24", "node/w+10.2.1.0/24"]);
}

#[test]
fn a_link_that_is_not_in_force_stands_in_nobodys_way() {
    let mut story = Story::of("gw1");
    // Its ASN is ours; it accepts what the second link accepts, and is older by its name.
    story.link("a-mistake", 64501, json!({ "acceptCIDRs": { "pods": ["10.2.0.0/16"] } }));
    story.connect();
    story.links.changes();
    story.learn("10.2.1.0/24", &[(SOUTH, "192.0.2.21")]);
    story.check(&["10.2.1.0/24>192.0.2.21", "node/gw2+10.2.1.0/24", "node/w+10.2.1.0/24"]);
}

#[test]
fn an_edge_host_is_before_an_older_link_on_every_node() {
    for (node, peer, next_hop) in [("gw1", "edge/stand", "10.80.1.50"), ("w", "node/gw1", "10.80.1.11")] {
        let mut story = Story::of(node);
        let spec = json!({ "address": "10.80.1.50", "asn": 64617, "prefix": "10.2.17.0/28" });
        story.apply(kinds::EdgeHost::new("stand", serde_json::from_value(spec).unwrap()));
        story.connect();
        story.links.changes();
        story.learn("10.2.17.0/28", &[(peer, next_hop)]);
        let LinkChanges { kernel, .. } = story.links.changes();
        assert_eq!(kernel.len(), 1, "{node}");
    }
    // It may send packets to itself alone.
    let mut story = Story::of("gw1");
    let spec = json!({ "address": "10.80.1.50", "asn": 64617, "prefix": "10.2.17.0/28" });
    story.apply(kinds::EdgeHost::new("stand", serde_json::from_value(spec).unwrap()));
    story.connect();
    story.links.changes();
    story.learn("10.2.17.0/28", &[("edge/stand", "10.80.1.51")]);
    story.check(&[]);
}

#[test]
fn gateways_hear_nothing_from_nodes_and_bear_more_than_one_session_of_a_link_may_bring() {
    let sessions = Story::of("gw1").sessions().wanted;
    let import = |key: &str| sessions[&PeerKey::from(key)].0.import.clone();
    assert!(import("node/w").accept.is_empty());
    assert!(!import("node/gw2").accept.is_empty());
    let limit = |key: &str| import(key).max_prefixes.map(|max| max.limit);
    assert_eq!((limit(SOUTH), limit("node/gw2")), (Some(10_000), Some(20_000)));
}

#[test]
fn a_node_that_comes_later_puts_a_link_to_itself_out_of_force() {
    let mut story = Story::of("gw1");
    story.link("west", 64503, json!({ "endpoints": ["10.80.1.14"], "acceptCIDRs": { "pods": ["10.3.0.0/16"] } }));
    assert!(story.links.accepted.contains_key(&Neighbour::Link("west".to_owned())));
    story.node(json!({
        "metadata": { "name": "late" },
        "status": { "addresses": [{ "type": "InternalIP", "address": "10.80.1.14" }] },
    }));
    assert!(!story.links.accepted.contains_key(&Neighbour::Link("west".to_owned())));
    let late = ObjectKey { kind: Kind::Node, namespace: String::new(), name: "late".to_owned() };
    story.links.handle(&Event::Deleted(late, String::new())).unwrap();
    assert!(story.links.accepted.contains_key(&Neighbour::Link("west".to_owned())));
}
