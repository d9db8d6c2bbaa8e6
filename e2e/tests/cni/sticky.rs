//! Addresses that a StatefulSet's pods keep over their being made anew, where the pool says so and the node may have them.

use anyhow::{Context, Result, ensure};
use roadstead_e2e::{Scene, scene, wait_until};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::{Container, SOON, addresses};

/// One pool that the nodes share, one with a range for each, one of blocks, and one that is not sticky.
const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: shop}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: shared}
spec: {subnet: 10.64.0.0/24, gateway: 10.64.0.1, sticky: true}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: own}
spec:
  subnet: 10.65.0.0/24
  sticky: true
  nodeRanges:
  - {nodes: [node-1], ranges: [10.65.0.10-10.65.0.19]}
  - {nodes: [node-2], ranges: [10.65.0.20-10.65.0.29]}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: blocks}
spec: {subnet: 10.66.0.0/24, blockPrefixLength: 28, sticky: true}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: plain}
spec: {subnet: 10.67.0.0/24, gateway: 10.67.0.1}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, namespace: shop}
spec:
  serviceName: web
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: none}]}
";
const POOLS: [(&str, &str); 4] = [("eth0", "shared"), ("net1", "own"), ("net2", "blocks"), ("net3", "plain")];

/// A pod with an interface of each pool.
struct Pod {
    name: String,
    node: usize,
    container: Container,
    addresses: Vec<String>,
}

struct Stage<'a> {
    cluster: Cluster<'a>,
    made: usize,
}

impl Stage<'_> {
    /// Makes a pod on a node, as the StatefulSet's controller and a kubelet do.
    fn start(&mut self, name: &str, node: usize) -> Result<Pod> {
        let Cluster { plane, nodes, .. } = &self.cluster;
        let set = plane.get("statefulset -n shop web")?;
        let annotation: Vec<Value> =
            POOLS.iter().map(|(interface, pool)| json!({ "interface": interface, "pools": [pool] })).collect();
        let owner = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": set["metadata"]["uid"], "controller": true,
        });
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "shop", "labels": { "app": "web" }, "ownerReferences": [owner],
                "annotations": { "roadstead.dev/pools": json!(annotation).to_string() },
            },
            "spec": {
                "nodeName": nodes[node].name, "automountServiceAccountToken": false, "containers": [{ "name": "c", "image": "none" }],
            },
        });
        plane.apply(&object.to_string())?;
        self.made += 1;
        let container = Container::of_pod(&format!("c{}", self.made), name, &self.cluster.uid_of(name)?);
        let add = |(interface, _): &(&'static str, &str)| {
            let answer =
                nodes[node].call("ADD", &container.on(interface)).with_context(|| format!("{name} {interface}"))?;
            Ok(addresses(&answer).concat())
        };
        let addresses = POOLS.iter().map(add).collect::<Result<_>>()?;
        Ok(Pod { name: name.to_owned(), node, container, addresses })
    }

    /// Its sandbox goes, and then its object.
    fn end(&self, pod: &Pod) -> Result<()> {
        let Cluster { plane, nodes, .. } = &self.cluster;
        for (interface, _) in POOLS {
            nodes[pod.node].call("DEL", &pod.container.on(interface))?;
        }
        plane.kubectl(&format!("delete pod -n shop {} --force --grace-period=0", pod.name)).map(drop)
    }

    fn allocated(&self, pool: &str) -> Result<Value> {
        let pool = self.cluster.plane.get(&format!("podpool {pool}"))?;
        Ok(pool.pointer("/status/allocated").cloned().unwrap_or_default())
    }

    fn wait_for_allocated(&self, expected: [&str; 4]) -> Result<()> {
        wait_until("the pools' counts", SOON, || {
            for ((_, pool), expected) in POOLS.iter().zip(expected) {
                let found = self.allocated(pool)?;
                ensure!(found == expected, "pool {pool}: {found} allocated, not {expected}");
            }
            Ok(())
        })
    }
}

#[test]
fn a_stateful_sets_pod_keeps_its_addresses_where_the_pool_says_so() -> Result<()> {
    scene("cni-sticky", keeps)
}

fn keeps(scene: &Scene) -> Result<()> {
    let mut stage = Stage { cluster: Cluster::build(scene, &["node-1", "node-2"], OBJECTS)?, made: 0 };
    let first = stage.start("web-0", 0)?;
    let other = stage.start("web-1", 1)?;
    scene.step("two pods with four interfaces each");

    // Made anew on its node: all but the last are what they were.
    stage.end(&first)?;
    let again = stage.start("web-0", 0)?;
    ensure!(again.addresses[..3] == first.addresses[..3], "{:?} before, {:?} now", first.addresses, again.addresses);
    ensure!(again.addresses[3] != first.addresses[3], "pool plain is not sticky, and gave {:?}", again.addresses);
    scene.step("made anew on its node it has the same addresses");

    // Gone while the speaker is away, which is killed before it knows, and starts again with its journal.
    stage.cluster.kill_speaker(0)?;
    stage.end(&again)?;
    stage.cluster.start_speaker(0)?;
    wait_until("what is kept is said in the store", SOON, || {
        let claims = stage.cluster.claims()?;
        ensure!(claims.iter().any(|claim| claim["spec"]["kept"].is_string()), "{claims:?}");
        Ok(())
    })?;
    stage.cluster.kill_speaker(0)?;
    stage.cluster.start_speaker(0)?;
    let third = stage.start("web-0", 0)?;
    ensure!(third.addresses[..3] == first.addresses[..3], "{:?} before, {:?} now", first.addresses, third.addresses);
    scene.step("over two ends of its speaker too");

    // On the other node it has what both share, and of what is a node's own something else.
    stage.end(&third)?;
    let moved = stage.start("web-0", 1)?;
    ensure!(moved.addresses[0] == first.addresses[0], "{:?} before, {:?} now", first.addresses, moved.addresses);
    ensure!(moved.addresses[1].starts_with("10.65.0.2"), "{:?} on node-2", moved.addresses);
    ensure!(moved.addresses[2] != first.addresses[2], "an address of another node's block: {:?}", moved.addresses);
    let claim = stage.cluster.plane.get(&format!("addressclaim {}", moved.addresses[0].trim_end_matches("/24")))?;
    ensure!(claim["spec"]["nodeName"] == "node-2" && claim["spec"]["kept"].is_null(), "{claim}");
    let all: std::collections::BTreeSet<&String> = moved.addresses.iter().chain(&other.addresses).collect();
    ensure!(all.len() == 8, "an address was given twice: {all:?}");
    scene.step("on another node it has what is legal there");

    // Before it runs the node before keeps what it had: the counts have to show that, or it would not be seen to go.
    stage.wait_for_allocated(["2", "3", "3", "2"])?;

    // The kubelet says that it runs; so what the node before has kept for it is free.
    let running = json!({ "status": { "phase": "Running", "podIP": "10.64.0.9", "podIPs": [{ "ip": "10.64.0.9" }] } })
        .to_string();
    let patch = ["patch", "pod", "-n", "shop", "web-0", "--subresource=status", "--type=merge", "--patch", &running];
    stage.cluster.plane.kubectl_as(roadstead_e2e::kubernetes::User::ADMIN, &patch)?;
    stage.wait_for_allocated(["2", "2", "2", "2"])?;

    // Kept for as long as the StatefulSet wants the pod, and no longer: scaled down, and then deleted.
    stage.end(&moved)?;
    stage.end(&other)?;
    stage.wait_for_allocated(["2", "2", "2", "0"])?;
    stage.cluster.plane.kubectl("scale statefulset -n shop web --replicas=1")?;
    stage.wait_for_allocated(["1", "1", "1", "0"])?;
    scene.step("scaled down: kept for the pod alone that is still wanted");
    stage.cluster.plane.kubectl("delete statefulset -n shop web")?;
    stage.wait_for_allocated(["0", "0", "0", "0"])?;
    wait_until("no claim of a pod is left", SOON, || {
        let claims = stage.cluster.claims()?;
        let of_pods = claims.iter().filter(|claim| claim.pointer("/spec/owners/0/kind") == Some(&json!("Pod")));
        ensure!(of_pods.count() == 0, "{claims:?}");
        Ok(())
    })?;
    scene.step("the StatefulSet is gone, and nothing is kept");
    Ok(())
}
