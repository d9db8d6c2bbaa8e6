//! Accumulated metrics (AIGP, RFC 7311) at a speaker: two BIRDs tell the same prefix, and the one with the lower metric has the higher
//! router ID. So which of the two is best says whether metrics count.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::network::Fabric;
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::routers::{Bird, Neighbor, Router, RouterConfig};
use roadstead_e2e::scene;
use serde_json::Value;

const SESSION: Duration = Duration::from_secs(60);
const CHANGE: Duration = Duration::from_secs(30);
const NODE: &str = "node-1";
const NODE_ADDRESS: &str = "10.99.0.11";
const FAR: &str = "10.99.0.1";
const NEAR: &str = "10.99.0.2";
const PREFIX: &str = "198.51.100.0/24";

/// An eBGP router's metrics say how somebody else's network is built: they count where that is asked for (section 3.3).
#[test]
fn external_metrics_count_when_asked_for() -> Result<()> {
    metrics(64512, [("", Counts::No), (", aigp: Enabled", Counts::Yes), (", aigp: Disabled", Counts::No)])
}

#[test]
fn internal_metrics_count_unless_told_otherwise() -> Result<()> {
    metrics(64500, [("", Counts::Yes), (", aigp: Disabled", Counts::No), (", aigp: Enabled", Counts::Yes)])
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    Yes,
    No,
}

/// `cases`: more of `import`, one after the other while it runs, and whether metrics count then.
fn metrics(asn: u32, cases: [(&str, Counts); 3]) -> Result<()> {
    scene(&format!("accumulated metrics from AS {asn}"), |scene| {
        let fabric = Fabric::new(scene, "switch")?;
        let router = |label: &str, address: &'static str, metric| -> Result<Bird> {
            let machine = fabric.machine(scene, label, &[&format!("{address}/24")])?;
            let neighbors = vec![Neighbor::new(NODE_ADDRESS, 64500)?];
            let config = RouterConfig { asn, router_id: address, neighbors, routes: &[PREFIX] };
            let bird = Bird::start(scene, &machine, &config)?;
            bird.originate_aigp(metric)?;
            Ok(bird)
        };
        let routers = [router("far", FAR, 20)?, router("near", NEAR, 10)?];
        let node = fabric.machine(scene, "node", &[&format!("{NODE_ADDRESS}/24")])?;
        let manifests = Manifests::new(scene, "manifests")?;
        let write = |more: &str| {
            for (name, address) in [("far", FAR), ("near", NEAR)] {
                manifests.write(&format!("{name}.yaml"), &peer(name, address, asn, more))?;
            }
            Ok::<(), anyhow::Error>(())
        };
        write(cases[0].0)?;
        let mut ours = product::run(scene, Some(&node), &manifests, NODE)?;
        for (more, counts) in cases {
            write(more)?;
            for router in &routers {
                ours.wait_until("the sessions", SESSION, || router.ensure_established(NODE_ADDRESS.parse()?))?;
            }
            // By router ID, or by the metric.
            let expected = match counts {
                Counts::No => (FAR, NEAR, [None, None], "as good as the best; the tie went by lower router ID"),
                Counts::Yes => (NEAR, FAR, [Some(10), Some(20)], "the best has lower accumulated metric"),
            };
            ours.wait_until(&format!("{counts:?} with {more:?}"), CHANGE, || ensure_paths(scene, &expected))?;
            scene.step(&format!("import {more:?}: metrics count: {counts:?}"));
        }
        Ok(())
    })
}

/// Next hops of the best and of the other, the metrics of both, and why the other is worse.
type Expected<'a> = (&'a str, &'a str, [Option<u64>; 2], &'a str);

fn ensure_paths(scene: &roadstead_e2e::Scene, (best, other, metrics, verdict): &Expected<'_>) -> Result<()> {
    let answer = product::look_json(scene, NODE, &["explain", PREFIX])?;
    let paths = answer.get("paths").and_then(Value::as_array).with_context(|| format!("no paths in {answer}"))?;
    ensure!(paths.len() == 2, "{answer}");
    for (path, (next_hop, metric)) in paths.iter().zip([best, other].into_iter().zip(metrics)) {
        let route = path.get("route").context("a path without a route")?;
        let (found, aigp) = (route.get("nextHop").and_then(Value::as_str), route.get("aigp").and_then(Value::as_u64));
        ensure!(found == Some(next_hop) && aigp == *metric, "{answer}");
    }
    ensure!(paths[1].get("verdict").and_then(Value::as_str) == Some(verdict), "{answer}");
    Ok(())
}

fn peer(name: &str, address: &str, asn: u32, import: &str) -> String {
    format!(
        "apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {{name: {name}}}
spec:
  localASN: 64500
  peerASN: {asn}
  address: {address}
  timers: {{holdSeconds: 9, keepaliveSeconds: 3, connectRetrySeconds: 1}}
  import: {{accept: [{{prefix: 198.51.100.0/24}}]{import}}}
"
    )
}
