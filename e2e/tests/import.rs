//! What is accepted of a router that announces more than it should, and what an operator sees of it: FRR on the other end,
//! `roadstead status`, `routes` and `explain` on ours.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::network::Fabric;
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::routers::{Frr, Neighbor, Router, RouterConfig};
use roadstead_e2e::{Process, Scene, scene};
use serde_json::Value;

const SESSION: Duration = Duration::from_secs(60);
const CHANGE: Duration = Duration::from_secs(30);
const NODE: &str = "node-1";
const NODE_ADDRESS: &str = "10.99.0.11";

/// FRR as a router, and `roadstead run` beside it with this `import`.
struct Stage<'a> {
    scene: &'a Scene,
    frr: Frr,
    node: IpAddr,
    ours: Process,
}

impl<'a> Stage<'a> {
    fn build(scene: &'a Scene, import: &str) -> Result<Self> {
        let fabric = Fabric::new(scene, "switch")?;
        let router = fabric.machine(scene, "router", &["10.99.0.1/24"])?;
        let machine = fabric.machine(scene, "node", &["10.99.0.11/24"])?;
        let neighbor = Neighbor::new(NODE_ADDRESS, 64500)?;
        let node = neighbor.address;
        let frr = Frr::start(
            scene,
            &router,
            &RouterConfig { asn: 64512, router_id: "10.99.0.1", neighbors: vec![neighbor], routes: &[] },
        )?;
        // What it announces need not be in its kernel.
        frr.configure(&["router bgp 64512", "no bgp network import-check"])?;
        let timers = "{holdSeconds: 9, keepaliveSeconds: 3, connectRetrySeconds: 1}";
        let peer = format!(
            "apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {{name: router}}
spec: {{localASN: 64500, peerASN: 64512, address: 10.99.0.1, timers: {timers}, import: {import}}}
"
        );
        let manifests = Manifests::with(scene, "manifests", &[("peer.yaml", &peer)])?;
        let mut ours = product::run(scene, Some(&machine), &manifests, NODE)?;
        ours.wait_until("the session", SESSION, || frr.ensure_established(node))?;
        Ok(Self { scene, frr, node, ours })
    }

    fn networks(&self, word: &str, prefixes: &[&str]) -> Result<()> {
        let lines: Vec<String> = prefixes.iter().map(|prefix| format!("{word}network {prefix}")).collect();
        let mut all = vec!["router bgp 64512", "address-family ipv4 unicast"];
        all.extend(lines.iter().map(String::as_str));
        self.frr.configure(&all)
    }

    fn announce(&self, prefixes: &[&str]) -> Result<()> {
        self.networks("", prefixes)
    }

    fn withdraw(&self, prefixes: &[&str]) -> Result<()> {
        self.networks("no ", prefixes)
    }

    fn status(&self) -> Result<Value> {
        let answer = product::look_json(self.scene, NODE, &["status", "router"])?;
        answer.pointer("/sessions/0").cloned().with_context(|| format!("no session in {answer}"))
    }

    /// The accepted prefixes.
    fn routes(&self) -> Result<Vec<String>> {
        let answer = product::look_json(self.scene, NODE, &["routes", "--peer", "router"])?;
        let routes = answer.as_array().context("no list")?;
        Ok(routes.iter().filter_map(|route| Some(route.get("prefix")?.as_str()?.to_owned())).collect())
    }

    fn wait_for_routes(&mut self, expected: &[&str]) -> Result<()> {
        let Self { scene, ours, .. } = self;
        let expected: Vec<String> = expected.iter().map(|&prefix| prefix.to_owned()).collect();
        ours.wait_until(&format!("{expected:?}"), CHANGE, || {
            let answer = product::look_json(scene, NODE, &["routes", "--peer", "router"])?;
            let found: Vec<String> = answer
                .as_array()
                .context("no list")?
                .iter()
                .filter_map(|route| Some(route.get("prefix")?.as_str()?.to_owned()))
                .collect();
            ensure!(found == expected, "accepted are {found:?}");
            Ok(())
        })
    }
}

/// A rule that takes what these tests announce but for one.
const ACCEPT: &str = "accept: [{prefix: 198.51.0.0/16, le: 24}]";
const THREE: [&str; 3] = ["198.51.1.0/24", "198.51.2.0/24", "198.51.3.0/24"];
const FOURTH: &str = "198.51.4.0/24";

/// RFC 4486: exactly as many as are allowed are in order, refused ones do not count, and one more is Cease 6/1; then the session
/// rests for its time and comes back.
#[test]
fn one_prefix_too_many_closes_for_a_time() -> Result<()> {
    scene("maxPrefixes, Close", |scene| {
        let mut stage = Stage::build(scene, &format!("{{{ACCEPT}, maxPrefixes: 3, restartSeconds: 12}}"))?;
        stage.announce(&THREE[..2])?;
        stage.announce(&["10.200.0.0/16"])?;
        stage.wait_for_routes(&THREE[..2])?;
        stage.announce(&THREE[2..])?;
        stage.wait_for_routes(&THREE)?;
        stage.frr.ensure_established(stage.node)?;
        let status = stage.status()?;
        let text = |pointer: &str| status.pointer(pointer).map(ToString::to_string).unwrap_or_default();
        ensure!(text("/limits/0/state") == "\"Warned\"", "{status}");
        ensure!(text("/refused/not accepted by the import rules") == "1", "{status}");
        ensure!(text("/capabilitiesReceived").contains("route refresh"), "{status}");
        ensure!(stage.ours.log().contains("comes close to its maximum of prefixes"), "there is no warning in the log");
        scene.step("as many as are allowed, with a warning");

        let explained = product::look(scene, NODE, &["explain", THREE[0]])?;
        ensure!(explained.contains("by 10.99.0.1 from router, path 64512: the best"), "{explained}");
        let table = product::look(scene, NODE, &["status"])?;
        ensure!(table.contains("router") && table.contains("Established"), "{table}");
        let whole = product::look(scene, NODE, &["status", "router"])?;
        ensure!(whole.contains("10.200.0.0/16 by 10.99.0.1, path 64512: not accepted by the import rules"), "{whole}");
        scene.step("explained, refused ones too");

        stage.announce(&[FOURTH])?;
        let (frr, node) = (&stage.frr, stage.node);
        stage.ours.wait_until("the Cease", CHANGE, || {
            let seen = frr.last_notification(node)?;
            ensure!(seen.starts_with("0601"), "FRR's last notification: {seen}");
            Ok(())
        })?;
        let status = stage.status()?;
        let error = status.pointer("/lastError").and_then(Value::as_str).unwrap_or_default();
        ensure!(error.contains("more than the 3 IPv4 unicast prefixes"), "{status}");
        ensure!(status.pointer("/state") == Some(&Value::from("Idle")), "{status}");
        ensure!(stage.routes()?.is_empty(), "routes outlive the session");
        scene.step("one more: Cease 6/1, and Idle");

        stage.withdraw(&[FOURTH])?;
        stage.ours.wait_until("the session after its rest", SESSION, || frr.ensure_established(node))?;
        stage.wait_for_routes(&THREE)
    })
}

/// What is beyond is refused, the session stays, and when there is room FRR is asked for it (RFC 2918).
#[test]
fn what_is_beyond_is_dropped_and_asked_for_again() -> Result<()> {
    scene("maxPrefixes, Drop", |scene| {
        let mut stage = Stage::build(scene, &format!("{{{ACCEPT}, maxPrefixes: 3, onExcess: Drop}}"))?;
        stage.announce(&THREE)?;
        stage.wait_for_routes(&THREE)?;
        stage.announce(&[FOURTH])?;
        stage.ours.wait_until("the refusal", CHANGE, || {
            let answer = product::look(scene, NODE, &["status", "router"])?;
            ensure!(answer.contains("beyond the maximum of prefixes"), "{answer}");
            ensure!(answer.contains("3 of 3, further ones are refused"), "{answer}");
            Ok(())
        })?;
        stage.frr.ensure_established(stage.node)?;
        scene.step("the fourth is refused, the session is up");

        stage.withdraw(&THREE[..1])?;
        stage.wait_for_routes(&[THREE[1], THREE[2], FOURTH])?;
        scene.step("asked for again when there was room");
        Ok(())
    })
}
