//! From a Service's creation to the UPDATE at a router, on a real API server, with 1,000 Services already there.
//!
//! The clock starts when the API server has answered the creation, and stops when the bytes of the UPDATE are read from
//! the socket: in between lie two watches, an address, a claim, a status write, and a BGP session. Beside it, in the same
//! run, the time of one bare status write of another client: the machine's speed and its other work are in both, so
//! their ratio is a property of the product.
//!
//! All runs on loopback, and the router is the byte-peer: nothing here needs a namespace. The client is the one that our
//! components use too (over TLS, connections kept): a process for each write, or a proxy in between, would be slower
//! than what is measured and flatter the ratio.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use roadstead_e2e::byte_peer::BytePeer;
use roadstead_e2e::kubernetes::{Chart, ControlPlane, User};
use roadstead_e2e::{Process, Scene, product, scene};
use serde_json::json;
use tokio::task::JoinSet;

const ALREADY_THERE: usize = 1000;
const ONE_AT_A_TIME: usize = 200;
/// Creations in flight while the first thousand is made.
const CLIENTS: usize = 8;

const RATIO_BUDGET: f64 = 5.0;
const CONTROLLER_BUDGET_MIB: f64 = 40.0;
const SPEAKER_BUDGET_MIB: f64 = 24.0;

/// Long enough for a machine that does other things too: what takes longer is broken, not slow.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    let mut within_budget = false;
    scene("first-route", |scene| {
        within_budget = measure(scene)?;
        Ok(())
    })?;
    ensure!(within_budget, "over budget");
    Ok(())
}

/// Measures and prints, and says whether all figures are within their budget.
fn measure(scene: &Scene) -> Result<bool> {
    // A worker beside this thread, so that connections are served while this one waits for the router.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;

    // Each Service with policy Local takes a health-check port from the same range.
    let plane = ControlPlane::start(scene, None, "127.0.0.1", &["--service-node-port-range=1024-65535"])?;
    plane.serve_our_kinds()?;
    plane.kubectl("create namespace roadstead-system")?;
    plane.apply(&Chart::render()?.rights())?;
    plane.make_node("node-1", &["192.0.2.11"])?;
    let router = BytePeer::listen(IpAddr::V4(Ipv4Addr::LOCALHOST), 64512)?;
    plane.apply(&configuration(router.address().port()))?;

    let controller = start(scene, &plane, "roadstead-controller", User::CONTROLLER, &[])?;
    let speaker = start(scene, &plane, "roadstead-speaker", User::SPEAKER, &["--node", "node-1"])?;
    router.wait_established(PATIENCE)?;

    let writer = runtime.block_on(Writer::connect(&plane))?;
    let started = Instant::now();
    runtime.block_on(writer.create_many(ALREADY_THERE))?;
    let created = started.elapsed();
    router.wait_for_count(ALREADY_THERE, PATIENCE)?;
    say(&format!(
        "{ALREADY_THERE} Services: created in {created:.1?}, all at the router after {:.1?}",
        started.elapsed()
    ))?;

    runtime.block_on(writer.create_bare())?;
    let (mut to_route, mut bare) = (Vec::new(), Vec::new());
    for index in 0..ONE_AT_A_TIME {
        let name = format!("one-{index}");
        runtime.block_on(writer.create_service(&name))?;
        let answered = Instant::now();
        router.wait_for_count(ALREADY_THERE + index + 1, PATIENCE)?;
        let prefix = format!("{}/32", runtime.block_on(writer.address_of(&name))?);
        to_route.push(router.wait_for(&prefix, PATIENCE)?.saturating_duration_since(answered));
        bare.push(runtime.block_on(writer.write_status(index))?);
    }

    let ratio = percentile(&to_route, 50).as_secs_f64() / percentile(&bare, 50).as_secs_f64();
    say(&format!(
        "creation answered -> UPDATE at the router: p50 {:.2?}, p99 {:.2?} over {ONE_AT_A_TIME}",
        percentile(&to_route, 50),
        percentile(&to_route, 99)
    ))?;
    say(&format!(
        "one bare status write:                    p50 {:.2?}, p99 {:.2?}",
        percentile(&bare, 50),
        percentile(&bare, 99)
    ))?;
    let verdicts = [
        verdict("p50 in bare writes", ratio, RATIO_BUDGET)?,
        verdict("controller, peak MiB", controller.peak_memory()? as f64 / 1024.0, CONTROLLER_BUDGET_MIB)?,
        verdict("speaker, peak MiB", speaker.peak_memory()? as f64 / 1024.0, SPEAKER_BUDGET_MIB)?,
    ];
    Ok(verdicts.iter().all(|within| *within))
}

fn start(scene: &Scene, plane: &ControlPlane, program: &str, user: User, arguments: &[&str]) -> Result<Process> {
    let mut command = product::command(program, None)?;
    // As in production: the debug log of a thousand Services would be measured too.
    command.env("RUST_LOG", "info").arg("--kubeconfig").arg(plane.kubeconfig(user)).args(arguments);
    command.args(["--metrics-address", "127.0.0.1:0"]);
    Process::start(scene, program, &command)
}

fn configuration(port: u16) -> String {
    format!(
        "apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {{name: bench}}
spec: {{addresses: [10.200.0.0/20]}}
---
apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {{name: router}}
spec: {{localASN: 64500, peerASN: 64512, address: 127.0.0.1, port: {port}, nextHop: {{ipv4: 192.0.2.11}}, timers: {{connectRetrySeconds: 1}}}}
---
apiVersion: roadstead.dev/v1alpha1
kind: Advertisement
metadata: {{name: all}}
spec: {{from: [{{loadBalancers: {{}}}}]}}
"
    )
}

/// The client that creates Services, as a user's would.
#[derive(Clone)]
struct Writer {
    services: Api<Service>,
    slices: Api<EndpointSlice>,
}

impl Writer {
    async fn connect(plane: &ControlPlane) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(plane.kubeconfig(User::ADMIN)).context("cannot read the kubeconfig")?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        Ok(Self { services: Api::default_namespaced(client.clone()), slices: Api::default_namespaced(client) })
    }

    async fn create_many(&self, count: usize) -> Result<()> {
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let writer = self.clone();
            clients.spawn(async move {
                for index in (client..count).step_by(CLIENTS) {
                    writer.create_service(&format!("many-{index}")).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(outcome) = clients.join_next().await {
            outcome.context("a client panicked")??;
        }
        Ok(())
    }

    /// The slice first: when the Service's address is known, all is there for its route.
    async fn create_service(&self, name: &str) -> Result<()> {
        let slice = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.88.1.5"], "nodeName": "node-1", "conditions": {"ready": true}}],
            "ports": [{"port": 8080}],
        });
        self.slices.create(&PostParams::default(), &serde_json::from_value(slice)?).await?;
        let service = json!({
            "metadata": {"name": name},
            "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]},
        });
        self.services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
        Ok(())
    }

    async fn address_of(&self, name: &str) -> Result<String> {
        let service = self.services.get(name).await?;
        let ingress = service.status.and_then(|status| status.load_balancer).and_then(|balancer| balancer.ingress);
        let address = ingress.and_then(|ingress| ingress.into_iter().next()).and_then(|first| first.ip);
        address.with_context(|| format!("{name} is at the router and has no address"))
    }

    /// A Service of somebody else's class: its status is ours to write here, and nobody's business there.
    async fn create_bare(&self) -> Result<()> {
        let service = json!({
            "metadata": {"name": "bare"},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/other", "ports": [{"port": 80}]},
        });
        self.services.create(&PostParams::default(), &serde_json::from_value(service)?).await?;
        Ok(())
    }

    /// One write of the kind that the controller does, and its time.
    async fn write_status(&self, index: usize) -> Result<Duration> {
        let ip = Ipv4Addr::from(0xc633_6400 + u32::try_from(index % 256)?).to_string();
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}});
        let started = Instant::now();
        self.services.patch_status("bare", &PatchParams::default(), &Patch::Merge(status)).await?;
        Ok(started.elapsed())
    }
}

fn verdict(what: &str, measured: f64, budget: f64) -> Result<bool> {
    let within = measured <= budget;
    say(&format!("{what}: {measured:.1} (budget {budget}): {}", if within { "within" } else { "OVER" }))?;
    Ok(within)
}

/// The smallest of the values that at least `percent` of them do not exceed.
fn percentile(values: &[Duration], percent: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("cannot print")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let values: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        for (percent, expected) in [(50, 100), (99, 198), (100, 200), (1, 2)] {
            assert_eq!(percentile(&values, percent), Duration::from_millis(expected), "p{percent}");
        }
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
