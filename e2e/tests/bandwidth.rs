//! Extended communities of an Advertisement, and the link bandwidth among them (RFC 10005), as FRR and BIRD read them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::network::Fabric;
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::routers::{Bird, Frr, Neighbor, Router, RouterConfig};
use roadstead_e2e::scene;

const SESSION: Duration = Duration::from_secs(40);
/// A change of a manifest shows within a second; ten, because two cores also run two routers.
const CHANGE: Duration = Duration::from_secs(10);

const PREFIX: &str = "203.0.113.10/32";

const OBJECTS: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {kubernetes.io/hostname: node-1}}
status: {addresses: [{type: InternalIP, address: 10.99.0.11}]}
---
apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: [203.0.113.10-203.0.113.20]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80, protocol: TCP}]}
---
apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {name: frr}
spec: {localASN: 64500, peerASN: 64512, address: 10.99.0.1, timers: {holdSeconds: 9, keepaliveSeconds: 3, connectRetrySeconds: 1}}
---
apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {name: bird}
spec: {localASN: 64500, peerType: Internal, address: 10.99.0.2, timers: {holdSeconds: 9, keepaliveSeconds: 3, connectRetrySeconds: 1}}
";

fn advertisement(attributes: &str) -> String {
    format!(
        "{{apiVersion: roadstead.dev/v1alpha1, kind: Advertisement, metadata: {{name: all}},
           spec: {{from: [{{loadBalancers: {{}}}}], attributes: {attributes}}}}}"
    )
}

/// So many ready endpoints here and elsewhere.
fn endpoints(here: usize, elsewhere: usize) -> String {
    let nodes = std::iter::repeat_n("node-1", here).chain(std::iter::repeat_n("node-2", elsewhere));
    let endpoint = |(index, node)| {
        format!("{{addresses: [10.88.1.{index}], nodeName: {node}, conditions: {{ready: true, serving: true}}}}")
    };
    let endpoints: Vec<String> = (1..).zip(nodes).map(endpoint).collect();
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
endpoints: [{}]
ports: [{{port: 8080, protocol: TCP}}]
",
        endpoints.join(", ")
    )
}

fn ensure_extended(router: &dyn Router, expected: &[&str]) -> Result<()> {
    let path = router.paths(PREFIX)?.into_iter().next().context("no path")?;
    let expected: BTreeSet<String> = expected.iter().map(|&text| text.to_owned()).collect();
    let found = path.extended_communities;
    ensure!(found == expected, "{} has {found:?}, not {expected:?}", router.name());
    Ok(())
}

#[test]
fn routers_see_how_much_is_behind_a_route() -> Result<()> {
    scene("link bandwidth", |scene| {
        let fabric = Fabric::new(scene, "switch")?;
        let frr_machine = fabric.machine(scene, "frr", &["10.99.0.1/24"])?;
        let bird_machine = fabric.machine(scene, "bird", &["10.99.0.2/24"])?;
        let node = fabric.machine(scene, "node", &["10.99.0.11/24"])?;
        let config = |asn, router_id, node| RouterConfig { asn, router_id, neighbors: vec![node], routes: &[] };
        let to_us = || Neighbor::new("10.99.0.11", 64500);
        let frr = Frr::start(scene, &frr_machine, &config(64512, "10.99.0.1", to_us()?))?;
        let bird = Bird::start(scene, &bird_machine, &config(64500, "10.99.0.2", to_us()?))?;
        let both = |frr_sees: &[&str], bird_sees: &[&str]| {
            ensure_extended(&frr, frr_sees)?;
            ensure_extended(&bird, bird_sees)
        };

        let manifests = Manifests::with(scene, "manifests", &[("objects.yaml", OBJECTS)])?;
        let communities = "extendedCommunities: [\"rt:64500:1\", \"soo:4200000000:7\", \"rt:[2001:db8::1]:7\"]";
        manifests.write("endpoints.yaml", &endpoints(1, 1))?;
        manifests.write("adv.yaml", &advertisement(&format!("{{{communities}, linkBandwidth: PerEndpoint}}")))?;
        let mut ours = product::run(scene, Some(&node), &manifests, "node-1")?;
        ours.wait_until("the route at both", SESSION, || {
            both(&Words::Frr.with("LB:64500:125000000"), &Words::Bird.with("unknown 0x4:64500:1290693416"))
        })?;
        scene.step("one endpoint on the node is one Gbit/s, and the other communities are there");

        manifests.write("endpoints.yaml", &endpoints(3, 1))?;
        ours.wait_until("three on the node", CHANGE, || {
            both(&Words::Frr.with("LB:64500:375000000"), &Words::Bird.with("unknown 0x4:64500:1303564382"))
        })?;
        scene.step("it follows the endpoints");

        manifests
            .write("adv.yaml", &advertisement("{linkBandwidth: 10Gbps, linkBandwidthTransitivity: NonTransitive}"))?;
        ours.wait_until("a fixed number that goes no further", CHANGE, || {
            both(&["LB:64500:1250000000"], &["unknown 0x4004:64500:1318388473"])
        })?;
        manifests.write("adv.yaml", &advertisement("{}"))?;
        ours.wait_until("none", CHANGE, || both(&[], &[]))?;
        frr.ensure_established("10.99.0.11".parse()?)?;
        bird.ensure_established("10.99.0.11".parse()?)?;
        ours.terminate(product::GRACE).map(drop)
    })
}

/// The same communities in the words of each router.
#[derive(Clone, Copy)]
enum Words {
    Frr,
    Bird,
}

impl Words {
    fn with(self, bandwidth: &'static str) -> [&'static str; 3] {
        match self {
            Self::Frr => ["RT:64500:1", "SoO:4200000000:7", bandwidth],
            Self::Bird => ["rt:64500:1", "ro:4200000000:7", bandwidth],
        }
    }
}
