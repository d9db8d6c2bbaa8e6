use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::conditions::Conditions;

/// A cluster, and what happens to it.
struct Story {
    clusters: Clusters,
    conditions: Conditions,
    now: Now,
}

impl Story {
    /// What is there when the controller starts.
    fn begin(objects: &[Value]) -> Self {
        let now = Now { instant: Instant::now(), wall: "2026-01-01T00:00:00Z".parse().unwrap() };
        let mut story = Self { clusters: Clusters::default(), conditions: Conditions::default(), now };
        objects.iter().for_each(|object| story.apply(object));
        story.clusters.handle_synced();
        story
    }

    fn apply(&mut self, object: &Value) {
        let read = |object: &Value| -> Object {
            let object = object.clone();
            match object["kind"].as_str().unwrap() {
                "ClusterNetwork" => {
                    serde_json::from_value::<roadstead_api::kinds::ClusterNetwork>(object).unwrap().into()
                }
                "ClusterLink" => serde_json::from_value::<roadstead_api::kinds::ClusterLink>(object).unwrap().into(),
                "EdgeHost" => serde_json::from_value::<roadstead_api::kinds::EdgeHost>(object).unwrap().into(),
                "PodPool" => serde_json::from_value::<roadstead_api::kinds::PodPool>(object).unwrap().into(),
                "AddressPool" => serde_json::from_value::<roadstead_api::kinds::AddressPool>(object).unwrap().into(),
                "NodeReport" => serde_json::from_value::<roadstead_api::kinds::NodeReport>(object).unwrap().into(),
                "AddressClaim" => serde_json::from_value::<roadstead_api::kinds::AddressClaim>(object).unwrap().into(),
                "ServiceCIDR" => {
                    serde_json::from_value::<roadstead_api::kubernetes::ServiceCidr>(object).unwrap().into()
                }
                "Node" => serde_json::from_value::<roadstead_api::kubernetes::Node>(object).unwrap().into(),
                "Namespace" => serde_json::from_value::<roadstead_api::kubernetes::Namespace>(object).unwrap().into(),
                other => panic!("no {other} in these stories"),
            }
        };
        let object = read(object);
        self.clusters.apply(&object);
        if let Object::NodeReport(report) = &object {
            self.conditions.apply_report(self.now, report);
            self.clusters.handle_report();
        }
    }

    fn delete(&mut self, kind: Kind, name: &str) {
        self.clusters.delete(&ObjectKey { kind, namespace: String::new(), name: name.to_owned() });
    }

    /// What is written within the next second, by object: ranges and the rest, then each condition in a line.
    fn written(&mut self) -> BTreeMap<String, Vec<String>> {
        self.now.instant += Duration::from_secs(1);
        let mut written = BTreeMap::new();
        while let Some(write) = self.clusters.poll_write(self.now, self.conditions.nodes(), |_| None) {
            let (_, name, status) = write.parts();
            let (said, conditions) = match &status {
                Status::ClusterNetwork(status) => {
                    let mut said = json!(status);
                    said.as_object_mut().unwrap().remove("conditions");
                    (said.to_string(), &status.conditions)
                }
                Status::ClusterLink(status) => {
                    let sessions = status.sessions.clone().unwrap_or_default();
                    let refusals: Vec<String> = status.refusals.iter().map(|text| json!(text).to_string()).collect();
                    let said = format!("{sessions} {} {} {}", status.accepted, status.refused, refusals.join(" "));
                    (said.trim().to_owned(), &status.conditions)
                }
                Status::EdgeHost(status) => {
                    let prefix = status.prefix.as_ref().map(ToString::to_string).unwrap_or_default();
                    (
                        format!("{prefix} {}", status.sessions.clone().unwrap_or_default()).trim().to_owned(),
                        &status.conditions,
                    )
                }
                other => panic!("{other:?}"),
            };
            let lines = conditions.iter().map(|c| format!("{} {:?} {}: {}", c.type_, c.status, c.reason, c.message));
            written.insert(name.to_owned(), [said].into_iter().chain(lines).collect());
            self.clusters.finish(self.now, &write, true);
        }
        written
    }
}

fn ours(kind: &str, name: &str, created: u32, spec: Value) -> Value {
    let metadata = json!({"name": name, "creationTimestamp": format!("2026-01-01T00:00:0{created}Z")});
    json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

fn network(spec: Value) -> Value {
    ours("ClusterNetwork", "default", 0, spec)
}

fn node(name: &str, pods: &str, address: &str) -> Value {
    json!({"kind": "Node", "metadata": {"name": name}, "spec": {"podCIDRs": [pods]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
}

fn services(cidr: &str) -> Value {
    json!({"kind": "ServiceCIDR", "metadata": {"name": "kubernetes"}, "spec": {"cidrs": [cidr]}})
}

fn report(node: &str, session: &str, state: &str, link: Value) -> Value {
    let session = json!({"peer": session, "address": "192.0.2.1", "state": state, "sent": 0, "received": 0, "accepted": 0,
        "refused": {}});
    json!({"apiVersion": "roadstead.dev/v1alpha1", "kind": "NodeReport", "metadata": {"name": node},
        "spec": {"nodeName": node}, "status": {"heartbeat": "1", "established": "", "prefixes": 0,
        "sessions": [session], "links": [link], "connected": [{"cidr": "10.80.1.0/24", "interface": "eth0"}]}})
}

fn link(name: &str, created: u32, remote: &str, asn: u32, pods: &str) -> Value {
    let spec = json!({"remoteCluster": remote, "remoteASN": asn, "endpoints": ["10.80.2.11"], "acceptCIDRs": {"pods": [pods]}});
    ours("ClusterLink", name, created, spec)
}

#[test]
fn what_is_in_effect_is_what_is_in_use() {
    let declared = json!({"asn": 64501, "podCIDRs": ["10.244.0.0/16"], "serviceCIDRs": ["10.96.0.0/12"],
        "fabricCIDRs": ["10.80.0.0/16"], "loadBalancerCIDRs": ["192.0.2.0/24"]});
    let pool = ours("AddressPool", "public", 0, json!({"addresses": ["192.0.2.10-192.0.2.50"]}));
    let objects = [network(declared), node("w1", "10.244.1.0/24", "10.80.1.5"), services("10.96.0.0/16"), pool];
    let mut story = Story::begin(&objects);
    assert_eq!(
        story.written()["default"],
        [
            r#"{"asn":64501,"fabricCIDRs":["10.80.0.0/16"],"loadBalancerCIDRs":["192.0.2.0/24"],"podCIDRs":["10.244.0.0/16"],"serviceCIDRs":["10.96.0.0/12"]}"#,
            "AsDeclared True AsDeclared: what is in use lies within what was declared",
        ]
    );
    assert!(story.written().is_empty(), "nothing has changed");

    // The trap of field reports: what was configured, and what the cluster was made with, are two ranges.
    story.apply(&node("w1", "10.48.1.0/24", "10.80.1.5"));
    story.apply(&services("10.112.0.0/16"));
    let written = story.written();
    assert_eq!(
        written["default"],
        [
            r#"{"asn":64501,"fabricCIDRs":["10.80.0.0/16"],"loadBalancerCIDRs":["192.0.2.0/24"],"podCIDRs":["10.48.1.0/24"],"serviceCIDRs":["10.112.0.0/16"]}"#,
            "AsDeclared False Differs: what is in use is not what was declared: 10.48.1.0/24, podCIDR of Node w1, is outside spec.podCIDRs; 10.244.0.0/16 of spec.podCIDRs has nothing in use; 10.112.0.0/16, ServiceCIDR kubernetes, is outside spec.serviceCIDRs; and 1 more",
        ]
    );
}

#[test]
fn what_is_not_declared_is_found() {
    let namespace = json!({"kind": "Namespace", "metadata": {"name": "kube-system", "uid": "00000000-0000-0000-0000-000000000007"}});
    let mut story = Story::begin(&[network(json!({})), namespace, node("w1", "10.244.1.0/24", "10.80.1.5")]);
    let found = r#"{"asn":4200000007,"fabricCIDRs":["10.80.1.5/32"],"podCIDRs":["10.244.1.0/24"]}"#;
    let written = story.written();
    assert_eq!(written["default"], [found, "AsDeclared True AsDeclared: what is in use lies within what was declared"]);
    // Side by side is one range, and a node tells which network it is on.
    story.apply(&node("w2", "10.244.0.0/24", "10.80.1.6"));
    story.apply(&report("w1", "x", "Idle", json!({"link": "x", "accepted": 0, "installed": 0, "refused": 0})));
    let found = r#"{"asn":4200000007,"fabricCIDRs":["10.80.1.0/24"],"podCIDRs":["10.244.0.0/23"]}"#;
    assert_eq!(story.written()["default"][0], found);
    story.delete(Kind::Node, "w1");
    assert!(story.written()["default"][0].contains("10.244.0.0/24"));
}

#[test]
fn a_link_that_collides_is_in_force_without_what_collides() {
    let north = network(json!({"clusterName": "north", "asn": 64501, "podCIDRs": ["10.1.0.0/16"]}));
    let mut story = Story::begin(&[north, link("south", 1, "south", 64502, "10.2.0.0/16")]);
    let disjoint = "Disjoint True Disjoint: nothing that is accepted is in use here, or accepted of another cluster";
    let written = story.written();
    assert_eq!(
        written["south"],
        ["0 0", "Ready Unknown NoReports: no node has reported a session with this peer", disjoint]
    );

    let refusal = "10.2.7.0/24 from ClusterLink south overlaps";
    let said = json!({"link": "south", "accepted": 3, "installed": 3, "refused": 1, "refusals": [refusal]});
    story.apply(&report("w1", "link/south/10.80.2.11", "Established", said.clone()));
    story.apply(&report("w2", "link/south/10.80.2.11", "Connect", said));
    let written = story.written();
    assert_eq!(written["south"][0], format!("1/2 3 1 \"{refusal}\""));
    assert_eq!(written["south"][1], "Ready False SessionsDown: 1 of 2 sessions not established: w2: Connect");

    // A later change of our own: what is in use here wins, and both are named.
    story.apply(&ours("PodPool", "tenants", 5, json!({"subnet": "10.2.7.0/24"})));
    let overlap = "Disjoint False Overlap: routes into these are refused, all others are in order: 10.2.0.0/16 of spec.acceptCIDRs.pods overlaps 10.2.7.0/24, PodPool tenants";
    assert_eq!(story.written()["south"][2], overlap);
    story.delete(Kind::PodPool, "tenants");
    assert_eq!(story.written()["south"][2], disjoint);

    // The other direction: what is accepted lies in what is in use here.
    story.apply(&ours("AddressPool", "all", 5, json!({"addresses": ["10.0.0.0/8"]})));
    assert!(
        story.written()["south"][2]
            .ends_with("10.2.0.0/16 of spec.acceptCIDRs.pods overlaps 10.0.0.0/8, AddressPool all")
    );
}

#[test]
fn of_two_links_the_older_has_what_both_accept() {
    let north = network(json!({"clusterName": "north", "asn": 64501}));
    let links = [
        link("south", 1, "south", 64502, "10.2.0.0/16"),
        link("west", 2, "west", 64503, "10.2.128.0/17"),
        link("again", 3, "south", 64504, "10.5.0.0/16"),
        link("self", 3, "north", 64505, "10.6.0.0/16"),
        link("same", 3, "east", 64501, "10.7.0.0/16"),
    ];
    let mut story = Story::begin(&[vec![north], links.to_vec()].concat());
    let written = story.written();
    assert!(written["south"][2].starts_with("Disjoint True"));
    assert_eq!(
        written["west"][2],
        "Disjoint False Overlap: routes into these are refused, all others are in order: 10.2.128.0/17 of spec.acceptCIDRs.pods overlaps 10.2.0.0/16, ClusterLink south, spec.acceptCIDRs.pods"
    );
    let ready = |name: &str| written[name][1].split(':').next().unwrap_or_default().to_owned();
    assert_eq!(
        (ready("again"), ready("self"), ready("same")),
        ("Ready False SameCluster".to_owned(), "Ready False LinkToOneself".to_owned(), "Ready False OwnASN".to_owned())
    );
    // The older is gone, and the younger has both.
    story.delete(Kind::ClusterLink, "south");
    let written = story.written();
    assert!(written["west"][2].starts_with("Disjoint True"));
    assert!(written["again"][1].starts_with("Ready Unknown NoReports"), "{written:?}");
}

#[test]
fn an_edge_host_has_what_is_nobody_elses() {
    let stand = |name: &str, asn: u32, prefix: Value| {
        let mut spec = json!({"address": "10.90.0.17", "asn": asn});
        spec.as_object_mut().unwrap().extend(prefix.as_object().unwrap().clone());
        ours("EdgeHost", name, 1, spec)
    };
    let pool = ours("PodPool", "stands", 0, json!({"subnet": "10.99.0.0/16", "blockPrefixLength": 28}));
    let claim = ours(
        "AddressClaim",
        "10.99.0.16-28",
        2,
        json!({"cidr": "10.99.0.16/28", "pool": "stands", "owners": [{"kind": "EdgeHost", "name": "taken", "uid": "1"}]}),
    );
    let objects = [
        network(json!({"asn": 64501})),
        pool,
        claim,
        stand("given", 64617, json!({"prefix": "10.98.17.0/28"})),
        stand("inside", 64618, json!({"prefix": "10.99.17.0/28"})),
        stand("taken", 64619, json!({"pool": "stands"})),
        stand("waits", 64620, json!({"pool": "stands"})),
        stand("ours", 64501, json!({"prefix": "10.97.0.0/28"})),
        stand("late", 64621, json!({"prefix": "10.98.17.0/24"})),
    ];
    let mut story = Story::begin(&objects);
    let said = json!({"link": "edge/given", "accepted": 1, "installed": 1, "refused": 0});
    story.apply(&report("w1", "edge/given", "Established", said));
    let written = story.written();
    let nobody = "Ready Unknown NoReports: no node has reported a session with this peer";
    assert_eq!(written["given"], ["10.98.17.0/28 1/1", "Ready True Established: all sessions established: 1"]);
    assert_eq!(
        written["inside"][1],
        "Ready False Overlap: nothing is accepted of it: 10.99.17.0/28 overlaps 10.99.0.0/16, PodPool stands"
    );
    assert_eq!(
        written["late"][1],
        "Ready False Overlap: nothing is accepted of it: 10.98.17.0/24 overlaps 10.98.17.0/28, EdgeHost given"
    );
    assert_eq!(written["taken"], ["10.99.0.16/28", nobody]);
    assert_eq!(written["waits"][1], "Ready False NoPrefix: no prefix of PodPool stands is allocated to it as yet");
    assert!(
        written["ours"][1].starts_with("Ready False OwnASN: not in force: spec.asn: 64501 is the ASN of this cluster")
    );
}
