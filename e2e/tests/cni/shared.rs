//! A pool that nodes share: every address is claimed before a pod has it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::{Scene, scene, wait_until};
use serde_json::{Value, json};

use super::cluster::{Cluster, pod};
use super::{Container, SOON, addresses, at_once, check_refused};

const SHARED: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {roadstead.dev/pools: '[{\"interface\": \"eth0\", \"pools\": [\"sha*\"]}]'}}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: shared}
spec: {subnet: 10.64.0.0/24, ranges: [10.64.0.10-10.64.0.29], gateway: 10.64.0.1}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: shop}
";

/// Under the rights of the chart, never as admin.
#[test]
fn two_nodes_share_a_pool_and_no_address() -> Result<()> {
    scene("cni-shared", shared_pool)
}

fn shared_pool(scene: &Scene) -> Result<()> {
    let cluster = Cluster::build(scene, &["node-1", "node-2"], SHARED)?;
    let Cluster { plane, nodes, .. } = &cluster;

    // Twenty addresses for twenty-two pods, asked for by both nodes at once.
    let names: Vec<Vec<String>> =
        nodes.iter().map(|node| (0..11).map(|n| format!("{}-pod-{n}", node.name)).collect()).collect();
    let pods = nodes.iter().zip(&names).flat_map(|(node, names)| names.iter().map(|name| pod(name, node.name)));
    plane.apply(&pods.collect::<String>())?;
    let mut containers = Vec::new();
    for (node, names) in nodes.iter().zip(&names) {
        for name in names {
            containers.push((node, Container::of_pod(&format!("c-{name}"), name, &cluster.uid_of(name)?)));
        }
    }
    let calls = containers.iter().map(|(node, container)| move || node.call("ADD", container));
    let results = at_once(calls.collect());
    let mut given = BTreeSet::new();
    let mut holders = Vec::new();
    for (result, (node, container)) in results.into_iter().zip(&containers) {
        match result {
            Ok(answer) => {
                let address = addresses(&answer).concat();
                ensure!(given.insert(address.clone()), "{address} was given twice");
                holders.push((address, *node, container));
            }
            Err(error) => check_refused(Err(error), 101, &["pool shared: all of its addresses"])?,
        }
    }
    ensure!(given.len() == 20, "{} of 20 addresses were given", given.len());
    let claims = || -> Result<BTreeSet<String>> {
        let items = cluster.claims()?;
        Ok(items.iter().filter_map(|item| Some(format!("{}/24", item["metadata"]["name"].as_str()?))).collect())
    };
    ensure!(claims()? == given, "claims: {:?}", claims()?);
    scene.step("every address has one owner, and a claim that says so");

    wait_until("an event of a pod without an address", SOON, || {
        let events = plane.get("events -n shop")?.to_string();
        ensure!(events.contains("NoAddress") && events.contains("pool shared: all of its addresses"), "{events}");
        Ok(())
    })?;
    wait_until("the pool's status counts them, and says that it is exhausted", SOON, || {
        let pool = plane.get("podpool shared")?;
        let counts = (pool.pointer("/status/allocated"), pool.pointer("/status/total"));
        ensure!(counts == (Some(&json!("20")), Some(&json!("20"))), "{pool}");
        let ready = &pool.pointer("/status/conditions/0").context("no condition")?;
        let message = ready["message"].as_str().unwrap_or_default();
        ensure!(ready["type"] == "Ready" && ready["reason"] == "Exhausted", "{ready}");
        ensure!(message.contains("no IPv4 address is free") && message.contains("on node node-"), "{ready}");
        Ok(())
    })?;

    // A container that claims to be a pod which it is not.
    let (_, node, holder) = &holders[0];
    let (name, _) = holder.pod.clone().context("every container here is a pod's")?;
    let liar = Container { pod: Some((name, "another-uid".to_owned())), ..Container::named("liar") };
    check_refused(node.call("ADD", &liar), 104, &["another-uid"])?;
    ensure!(claims()? == given, "who lied has changed claims: {:?}", claims()?);

    // One whose pod is gone, or never was: the kubelet is told to come again, and nothing is claimed.
    plane.apply(&pod("gone", "node-1"))?;
    let late = Container::of_pod("late", "gone", &cluster.uid_of("gone")?);
    plane.kubectl("delete pod -n shop gone --force --grace-period=0")?;
    let nobody = Container::of_pod("nobody", "nobody", "u");
    let calls = [&late, &nobody].map(|container| move || nodes[0].call("ADD", container));
    for result in at_once(calls.into()) {
        check_refused(result, 11, &["no pod shop/", "is known on node node-1"])?;
    }
    ensure!(claims()? == given, "who is gone has changed claims: {:?}", claims()?);

    what_a_speaker_may_write(&cluster)?;
    scene.step("a speaker writes the claims of its own node's pods, and no others");

    // What is given back is claimed by nobody, and can be had by the other node.
    for (_, node, container) in &holders {
        node.call("DEL", container)?;
    }
    wait_until("no claim is left", SOON, || {
        let left = claims()?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    wait_until("the pool is not exhausted any more", SOON, || {
        let pool = plane.get("podpool shared")?;
        ensure!(pool.pointer("/status/conditions/0/reason") == Some(&json!("InForce")), "{pool}");
        Ok(())
    })?;
    scene.step("no claim is left");
    Ok(())
}

/// The chart's policy, asked by a speaker that does what none should.
fn what_a_speaker_may_write(cluster: &Cluster<'_>) -> Result<()> {
    let plane = &cluster.plane;
    let speaker = plane.speaker_kubeconfig("node-1")?;
    let claim = |owner: &Value, node: &str, kept: Option<&str>| {
        let mut spec = json!({ "cidr": "10.64.0.200/32", "pool": "shared", "nodeName": node, "owners": [owner] });
        if let Some(kept) = kept {
            spec["kept"] = kept.into();
        }
        json!({
            "apiVersion": "roadstead.dev/v1alpha1", "kind": "AddressClaim",
            "metadata": { "name": "10.64.0.200" }, "spec": spec,
        })
    };
    let pod = |name: &str| json!({ "kind": "Pod", "namespace": "shop", "name": name, "uid": "u", "interface": "eth0" });
    let path = cluster.directory()?.join("claim.json");
    let write = |verb: &str, claim: &Value| -> Result<String> {
        std::fs::write(&path, claim.to_string())?;
        plane.kubectl_with(&speaker, &[verb, "-f", &path.to_string_lossy()])
    };
    let refused = |verb: &str, claim: &Value, words: &str| -> Result<()> {
        let error = write(verb, claim).err().with_context(|| format!("may {verb} {claim}"))?;
        ensure!(format!("{error:#}").contains(words), "not {words:?}: {error:#}");
        Ok(())
    };
    let others = "a speaker writes the claims of its own node, node-1";
    let somebody = "a speaker claims for pods and for its own node, node-1";
    refused(
        "create",
        &claim(&json!({ "kind": "Service", "namespace": "shop", "name": "s", "uid": "u" }), "node-1", None),
        somebody,
    )?;
    refused("create", &claim(&json!({ "kind": "Node", "name": "node-2", "uid": "u" }), "node-1", None), somebody)?;
    refused("create", &claim(&json!({ "kind": "EdgeHost", "name": "e", "uid": "u" }), "node-1", None), somebody)?;
    refused("create", &claim(&pod("a-0"), "node-2", None), others)?;

    // Another node's, which its pod still has: not to be taken over. Once it waits for a pod of that name, for that one alone.
    let replace = |owner: &Value| -> Result<Value> {
        let mut new = plane.get("addressclaim 10.64.0.200")?;
        new["spec"] = claim(owner, "node-1", None)["spec"].take();
        Ok(new)
    };
    plane.apply(&claim(&pod("a-0"), "node-2", None).to_string())?;
    refused("replace", &replace(&pod("a-0"))?, others)?;
    plane.apply(&claim(&pod("a-0"), "node-2", Some("2026-01-01T00:00:00Z")).to_string())?;
    refused("replace", &replace(&pod("a-1"))?, others)?;
    let error = plane.kubectl_with(&speaker, &["delete", "addressclaim", "10.64.0.200"]).err().context("deleted")?;
    ensure!(format!("{error:#}").contains(others), "{error:#}");
    write("replace", &replace(&pod("a-0"))?)?;
    plane.kubectl_with(&speaker, &["delete", "addressclaim", "10.64.0.200"]).map(drop)
}
