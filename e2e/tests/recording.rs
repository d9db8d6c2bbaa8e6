//! `--record` and `roadstead replay`: what happened on a real session happens again, octet by octet.
//!
//! The file that this test leaves behind is how the fixtures of `bgp/tests/fixtures` are made: run it with `ROADSTEAD_KEEP_RECORDING`
//! set to a path, and the recording is copied there.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::network::Fabric;
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::routers::{Frr, Neighbor, Router, RouterConfig};
use roadstead_e2e::{Process, Scene, scene};

/// A session that has to be tried again waits for both ends' retry timers.
const SESSION: Duration = Duration::from_secs(40);
const CHANGE: Duration = Duration::from_secs(10);
const PASSWORD: &str = "a-secret-of-both";

const OBJECTS: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: 10.99.0.11}, {type: InternalIP, address: \"fd00:99::11\"}]}
---
apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: [203.0.113.10-203.0.113.20]}
---
apiVersion: roadstead.dev/v1alpha1
kind: Advertisement
metadata: {name: all}
spec: {from: [{loadBalancers: {}}], attributes: {communities: [\"64500:100\"]}}
---
apiVersion: v1
kind: Secret
metadata: {name: router, namespace: roadstead-system}
type: kubernetes.io/basic-auth
stringData: {username: bgp, password: a-secret-of-both}
---
apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {name: router}
spec:
  localASN: 64500
  peerASN: 64512
  address: 10.99.0.1
  timers: {holdSeconds: 9, keepaliveSeconds: 3, connectRetrySeconds: 1}
  passwordSecret: {name: router}
  import: {accept: [{prefix: 198.51.100.0/24, le: 32}]}
";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.88.1.5], nodeName: node-1, conditions: {ready: true}}]
";

#[test]
fn a_session_with_frr_is_replayed_octet_by_octet() -> Result<()> {
    scene("a recording of a session with FRR", |scene| {
        let fabric = Fabric::new(scene, "switch")?;
        let router = fabric.machine(scene, "router", &["10.99.0.1/24", "fd00:99::1/64"])?;
        let node = fabric.machine(scene, "node", &["10.99.0.11/24", "fd00:99::11/64"])?;
        let neighbor = Neighbor::new("10.99.0.11", 64500)?.with_password(PASSWORD);
        let at: IpAddr = neighbor.address;
        let config = RouterConfig { asn: 64512, router_id: "10.99.0.1", neighbors: vec![neighbor], routes: &[] };
        let frr = Frr::start(scene, &router, &config)?;
        let networks = ["network 198.51.100.0/24", "network 198.51.100.128/25", "network 192.0.2.0/24"];
        frr.configure(&[&["router bgp 64512", "no bgp network import-check"][..], &networks].concat())?;

        let manifests = Manifests::with(scene, "manifests", &[("objects.yaml", OBJECTS), ("service.yaml", SERVICE)])?;
        let file = scene.directory().join("engine.recording");
        let mut command = product::command("roadstead", Some(&node))?;
        command.arg("run").arg("--manifests").arg(manifests.path()).args(["--node", "node-1", "--record"]).arg(&file);
        let mut ours = Process::start(scene, "roadstead", &command)?;
        ours.wait_until("the session", SESSION, || frr.ensure_established(at))?;
        ours.wait_until("our route", CHANGE, || frr.ensure_next_hops("203.0.113.10/32", &["10.99.0.11"]))?;
        // A running engine can be looked at by its recording so far.
        let says = |expected: &str| {
            let (said, success) = replay(scene, &[], &file)?;
            ensure!(success && said.contains(expected), "the replay does not say {expected:?}: {said}");
            Ok(())
        };
        ours.wait_until("the router's routes", CHANGE, || says("learned routes have changed: 2 now"))?;
        scene.step("session and routes are up");

        frr.configure(&["router bgp 64512", "no network 198.51.100.128/25"])?;
        frr.ask_again(at)?;
        manifests.remove("service.yaml")?;
        ours.wait_until("the withdrawal", CHANGE, || frr.ensure_next_hops("203.0.113.10/32", &[]))?;
        frr.configure(&["router bgp 64512", "neighbor 10.99.0.11 shutdown message maintenance"])?;
        ours.wait_for_log("maintenance", CHANGE)?;
        frr.configure(&["router bgp 64512", "no neighbor 10.99.0.11 shutdown"])?;
        ours.wait_until("the session again", SESSION, || frr.ensure_established(at))?;
        ours.wait_until("the router's route", CHANGE, || {
            says("198.51.100.0/24  via 10.99.0.1 from router, path 64512")?;
            says("end: the recording breaks off").or_else(|_| says("end: the recording has no end"))
        })?;
        scene.step("session was lost and is back");

        let status = ours.terminate(product::GRACE)?;
        ensure!(status.success(), "after SIGTERM roadstead ended with {status}");

        let (said, success) = replay(scene, &[], &file)?;
        ensure!(success, "the replay does something else: {said}");
        for expected in [
            "set peer router: AS 64500 to 10.99.0.1:179 AS 64512",
            "< OPEN",
            "> OPEN",
            "session with router is up",
            "routes for router: 1 announced, 0 withdrawn",
            "routes for router: 0 announced, 1 withdrawn",
            "learned routes have changed: 2 now",
            "learned routes have changed: 1 now",
            "session with router is down: router (10.99.0.1): peer closed the session",
            "maintenance",
            "shut down: Restart",
            "end: the engine was shut down",
            "steps are as recorded by engine",
        ] {
            ensure!(said.contains(expected), "the replay does not say {expected:?}: {said}");
        }
        let octets = std::fs::read(&file).context("the recording is gone")?;
        let secret = PASSWORD.as_bytes();
        ensure!(!octets.windows(secret.len()).any(|window| window == secret), "the password is in the recording");
        let mode = std::fs::metadata(&file).context("the recording is gone")?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "the recording has mode {mode:o}");
        keep(&file)?;

        // A recording in which one octet of the router's OPEN is another one: its AS number.
        let at = octets.windows(4).position(|window| window == [65, 4, 0, 0]).context("no four-octet AS number")?;
        let mut spoiled = octets;
        spoiled[at + 5] ^= 1;
        let other = scene.directory().join("spoiled.recording");
        std::fs::write(&other, &spoiled).context("cannot write a recording")?;
        let (said, success) = replay(scene, &["--check"], &other)?;
        ensure!(!success && said.contains("is not as recorded"), "a spoiled recording passes: {said}");
        Ok(())
    })
}

fn replay(scene: &Scene, flags: &[&str], file: &Path) -> Result<(String, bool)> {
    let mut command = product::command("roadstead", None)?;
    command.arg("replay").args(flags).arg(file).env("RUST_LOG", "error");
    let mut process = Process::start(scene, "replay", &command)?;
    let status = process.wait(CHANGE)?;
    Ok((process.log(), status.success()))
}

fn keep(file: &Path) -> Result<()> {
    let Some(path) = std::env::var_os("ROADSTEAD_KEEP_RECORDING") else { return Ok(()) };
    std::fs::copy(file, &path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}
