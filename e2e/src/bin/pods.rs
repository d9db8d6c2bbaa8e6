//! Pods' addresses beside their budget: ten nodes with a speaker each, on a real API server under the chart's rights. Calls are made as
//! the plugin makes them, over the speaker's socket, and as a runtime makes them, by starting the plugin.

#![allow(clippy::print_stdout, reason = "a benchmark is for reading")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::api::{Api, DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use roadstead_e2e::kubernetes::{Chart, ControlPlane, User};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::{Process, Scene, output_of, product, scene, wait_until};
use serde_json::{Value, json};

const NODES: usize = 10;
const IN_PARALLEL: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);

/// Addresses that are left in a pool that is almost full.
const LEFT: usize = 300;
/// Of the /64 all but so many are left out, because nobody can use the others up; of these all but a few are in use.
const OF_64: usize = 1 << 16;
const SIMULATED: usize = 1000;

const POOLS: &str = r#"
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: blocks}
spec: {subnet: 10.64.0.0/14, blockPrefixLength: 22}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: small-blocks}
spec: {subnet: 10.68.0.0/16, blockPrefixLength: 26}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: shared}
spec: {subnet: 10.80.0.0/16, nodeNames: [node-0, node-1]}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: empty-12}
spec: {subnet: 10.96.0.0/12, nodeNames: [full], gateway: 10.96.0.1}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: full-12}
spec: {subnet: 10.112.0.0/12, nodeNames: [full]}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: full-64}
spec: {subnet: "2001:db8::/64", nodeNames: [full], exclude: ["2001:db8::1:0-2001:db8::ffff:ffff:ffff:ffff"]}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: first-0}
spec: {subnet: 10.128.0.0/14, blockPrefixLength: 26}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: first-1}
spec: {subnet: 10.132.0.0/14, blockPrefixLength: 26}
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: first-2}
spec: {subnet: 10.136.0.0/14, blockPrefixLength: 26}
"#;

fn main() -> Result<()> {
    let mut within_budget = false;
    scene("pods", |scene| {
        within_budget = measure(scene)?;
        Ok(())
    })?;
    ensure!(within_budget, "over budget");
    Ok(())
}

/// A node with its speaker.
struct Node {
    machine: Namespace,
    socket: PathBuf,
    speaker: Process,
}

/// Prints figures, and remembers whether one was over its budget.
struct Table {
    is_within: bool,
}

impl Table {
    fn line(&mut self, what: &str, found: f64, budget: f64, unit: &str) {
        let verdict = if found <= budget { "ok" } else { "OVER" };
        self.is_within &= found <= budget;
        println!("{what:<66} {found:>9.2} {unit:<4} budget {budget:>6.2} {unit:<4} {verdict}");
    }
}

fn measure(scene: &Scene) -> Result<bool> {
    let fabric = Fabric::new(scene, "switch")?;
    let control = fabric.machine(scene, "control", &["10.99.0.100/24"])?;
    let plane = ControlPlane::start(scene, Some(&control), "10.99.0.100", &[])?;
    plane.serve_our_kinds()?;
    plane.kubectl("create namespace roadstead-system")?;
    plane.apply(&Chart::render_with(&["speaker.pods=true"])?.rights())?;
    let mut controller = product::command("roadstead-controller", Some(&control))?;
    controller.arg("--kubeconfig").arg(plane.kubeconfig(User::CONTROLLER)).env("RUST_LOG", "warn");
    let _controller = Process::start(scene, "controller", &controller)?;
    let nodes: Vec<Node> = (0..NODES)
        .map(|number| start_node(scene, &plane, &fabric, &format!("node-{number}")))
        .collect::<Result<_>>()?;
    plane.apply(POOLS)?;
    for (number, node) in nodes.iter().enumerate() {
        // With the first block claimed, and every pool looked at.
        wait_until("a node serves pods", PATIENCE, || node.add("blocks", "first").map(drop))?;
        if number == 0 {
            wait_until("a node serves pods", PATIENCE, || node.add("shared", "shared-first").map(drop))?;
        }
    }
    scene.step("ten nodes serve pods");
    let mut table = Table { is_within: true };
    println!();

    let claims = count_claims(&plane)?;
    let alone = in_parallel(IN_PARALLEL, 800, |n| nodes[0].add("blocks", &format!("b{n}")))?;
    ensure!(count_claims(&plane)? == claims, "an ADD from a block wrote to the API");
    table.line("ADD from a block, 8 in parallel, on the socket: p99", percentile(&alone, 99), 5.0, "ms");
    let started = in_parallel(IN_PARALLEL, 200, |n| nodes[1].add_by_plugin(&format!("p{n}")))?;
    table.line("ADD from a block, 8 in parallel, with the plugin's start: p99", percentile(&started, 99), 15.0, "ms");

    let kubeconfig = plane.kubeconfig(User::ADMIN);
    let bare = control.within(move || bare_writes(&kubeconfig))??;
    let shared = in_parallel(IN_PARALLEL, 400, |n| nodes[0].add("shared", &format!("s{n}")))?;
    println!(
        "a bare write of a claim, 8 in parallel: p99 {:.2} ms; an ADD from a shared pool {:.2} ms",
        percentile(&bare, 99),
        percentile(&shared, 99)
    );
    table.line(
        "ADD from a shared pool, in bare writes: p99",
        percentile(&shared, 99) / percentile(&bare, 99),
        3.0,
        "x",
    );

    let begin = Instant::now();
    in_parallel(NODES, 1000, |n| nodes[n % NODES].add("small-blocks", &format!("m{n}")))?;
    table.line("1,000 pods' addresses on 10 nodes, blocks claimed on the way", begin.elapsed().as_secs_f64(), 2.0, "s");

    first_blocks(scene, &plane, &control, &mut table)?;

    // Another node, whose journal says that nearly all of its addresses are in use.
    write_full_journal(&scene.subdirectory("state-full")?)?;
    let node = start_node(scene, &plane, &fabric, "full")?;
    for pool in ["empty-12", "full-12", "full-64"] {
        wait_until("a full node serves pods", PATIENCE, || node.add(pool, &format!("{pool}-first")).map(drop))?;
    }
    let empty = in_parallel(1, 250, |n| node.add("empty-12", &format!("e{n}")))?;
    for pool in ["full-12", "full-64"] {
        let full = in_parallel(1, 250, |n| node.add(pool, &format!("{pool}{n}")))?;
        let ratio = percentile(&full, 50) / percentile(&empty, 50);
        table.line(&format!("ADD from {pool}, almost full, beside an empty /12: p50"), ratio, 1.25, "x");
    }

    let idle = nodes[9].memory()?;
    in_parallel(1, 250, |n| nodes[9].add("blocks", &format!("w{n}")))?;
    table.line("speaker's memory with 250 pods, over idle", nodes[9].memory()? - idle, 2.0, "MiB");
    println!();
    Ok(table.is_within)
}

/// A thousand nodes that want their first block at once, three times over, in a program that has our speaker's part for pods.
fn first_blocks(scene: &Scene, plane: &ControlPlane, control: &Namespace, table: &mut Table) -> Result<()> {
    let program =
        std::env::var_os("ROADSTEAD_NODES").context("ROADSTEAD_NODES is not set: run `cargo xtask bench pods`")?;
    let mut command = control.command(program);
    command.arg(plane.kubeconfig(User::ADMIN)).arg(scene.subdirectory("simulated")?).arg(SIMULATED.to_string());
    let said = output_of(command.args(["first-0", "first-1", "first-2"]))?;
    let said: Value = serde_json::from_str(said.trim()).with_context(|| said)?;
    let times =
        |key: &str| -> Vec<f64> { said[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect() };
    let (bare, blocks) = (times("bare"), times("blocks"));
    println!(
        "{SIMULATED} bare creates of claims at once: {bare:.2?} s; first blocks of as many nodes at once: {blocks:.2?} s"
    );
    let ratio = percentile(&blocks, 50) / percentile(&bare, 50);
    table.line("1,000 nodes' first blocks at once, in bare creates: median of 3", ratio, 1.5, "x");
    Ok(())
}

/// All addresses of `full-12` and `full-64` in use, but for some that lie scattered.
fn write_full_journal(state: &Path) -> Result<()> {
    let mut journal = std::io::BufWriter::new(std::fs::File::create(state.join("pods.journal"))?);
    let twelve = 1usize << 20;
    for (pool, size) in [("full-12", twelve), ("full-64", OF_64)] {
        for number in (0..size).filter(|number| number % (size / LEFT) != 7) {
            let address = match pool {
                "full-12" => std::net::Ipv4Addr::from(0x0a70_0000 + u32::try_from(number)?).to_string(),
                _ => format!("2001:db8::{number:x}"),
            };
            let container = format!("{pool}-{number}");
            // A container that is there: what it has is not looked upon as lost.
            let record = json!({ "has": {
                "owner": { "uid": container, "interface": "eth0" },
                "attachment": { "containerID": container, "ifname": "eth0" },
                "network": "net", "netns": "/proc/self/ns/net",
                "held": [{ "address": address, "pool": pool }],
                "assignment": { "addresses": [], "routes": [] },
            }});
            writeln!(journal, "{record}")?;
        }
    }
    journal.flush()?;
    Ok(())
}

fn start_node(scene: &Scene, plane: &ControlPlane, fabric: &Fabric, name: &str) -> Result<Node> {
    let address = format!("10.99.0.{}", name.strip_prefix("node-").map_or(Ok(90), |number| number.parse::<u8>())? + 10);
    plane.make_node(name, &[&address])?;
    let machine = fabric.machine(scene, name, &[&format!("{address}/24")])?;
    let state = scene.subdirectory(&format!("state-{name}"))?;
    let socket = state.join("speaker.sock");
    let mut command = product::command("roadstead-speaker", Some(&machine))?;
    command.arg("--kubeconfig").arg(plane.speaker_kubeconfig(name)?).args(["--node", name]);
    command.arg("--state").arg(&state).arg("--socket").arg(&socket).env("RUST_LOG", "warn");
    let speaker = Process::start(scene, &format!("speaker-{name}"), &command)?;
    Ok(Node { machine, socket, speaker })
}

impl Node {
    /// Asks as the plugin does.
    fn add(&self, pool: &str, container: &str) -> Result<()> {
        let request = json!({
            "attachment": { "containerID": container, "ifname": "eth0" },
            "netns": "/run/netns/none",
            "network": { "name": "net", "pools": [pool] },
        });
        post(&self.socket, "/v1/cni/add", &request)
    }

    /// Lets a runtime's call of the plugin do so.
    fn add_by_plugin(&self, container: &str) -> Result<()> {
        let ipam = json!({ "type": "roadstead-cni", "socket": self.socket, "pools": ["blocks"] });
        let config = json!({ "cniVersion": "1.1.0", "name": "net", "type": "bridge", "ipam": ipam });
        let plugin = std::env::var_os("ROADSTEAD_PLUGIN")
            .context("ROADSTEAD_PLUGIN is not set: run `cargo xtask bench pods`")?;
        let mut call = std::process::Command::new(plugin);
        call.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", container).env("CNI_IFNAME", "eth0");
        call.env("CNI_NETNS", "/run/netns/none").env("CNI_PATH", "/");
        let mut process = call.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("roadstead-cni")?;
        process.stdin.take().context("no standard input")?.write_all(config.to_string().as_bytes())?;
        let output = process.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        Ok(())
    }

    /// What the speaker has in memory now, in MiB.
    fn memory(&self) -> Result<f64> {
        // The process that was started is the one that enters the namespace, and becomes the speaker.
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.speaker.id()))
            .with_context(|| format!("the speaker in {} is gone", self.machine.name()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib / 1024.0)
    }
}

/// One request on a connection of its own, as each call of the plugin makes it.
fn post(socket: &Path, path: &str, body: &Value) -> Result<()> {
    let body = body.to_string();
    let mut stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: speaker\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

/// Makes so many calls, so many of them at a time; how long each took, in milliseconds.
fn in_parallel(threads: usize, calls: usize, call: impl Fn(usize) -> Result<()> + Sync) -> Result<Vec<f64>> {
    let times = Mutex::new(Vec::with_capacity(calls));
    let work = |first: usize| {
        for n in (first..calls).step_by(threads) {
            let begin = Instant::now();
            call(n)?;
            let took = begin.elapsed().as_secs_f64() * 1000.0;
            times.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(took);
        }
        anyhow::Ok(())
    };
    let work = &work;
    std::thread::scope(|scope| {
        #[allow(clippy::needless_collect, reason = "all are started before the first is waited for")]
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || work(first))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a caller panicked"))?)
    })?;
    Ok(times.into_inner().unwrap_or_default())
}

fn percentile(times: &[f64], percent: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

fn count_claims(plane: &ControlPlane) -> Result<usize> {
    Ok(plane.get("addressclaims")?["items"].as_array().map_or(0, Vec::len))
}

/// As many claims as speakers would make, by somebody who does nothing else, on this thread alone: it is where the API server is.
fn bare_writes(kubeconfig: &Path) -> Result<Vec<f64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).context("cannot read the kubeconfig")?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let kind = GroupVersionKind::gvk("roadstead.dev", "v1alpha1", "AddressClaim");
        let kind = ApiResource::from_gvk_with_plural(&kind, "addressclaims");
        let claims: Api<DynamicObject> = Api::all_with(Client::try_from(config)?, &kind);
        let mut clients = tokio::task::JoinSet::new();
        for first in 0..IN_PARALLEL {
            let claims = claims.clone();
            clients.spawn(async move {
                let mut times = Vec::new();
                for n in (first..400).step_by(IN_PARALLEL) {
                    let begin = Instant::now();
                    create_claim(&claims, n).await?;
                    times.push(begin.elapsed().as_secs_f64() * 1000.0);
                }
                anyhow::Ok(times)
            });
        }
        let mut times = Vec::new();
        while let Some(outcome) = clients.join_next().await {
            times.extend(outcome.context("a client panicked")??);
        }
        Ok(times)
    })
}

async fn create_claim(claims: &Api<DynamicObject>, n: usize) -> Result<()> {
    let address = format!("192.0.{}.{}", n / 250, n % 250);
    let claim = json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "AddressClaim", "metadata": { "name": address },
        "spec": { "cidr": format!("{address}/32"), "pool": "none", "owners": [{ "kind": "EdgeHost", "name": "bench", "uid": "bench" }] },
    });
    claims.create(&PostParams::default(), &serde_json::from_value(claim)?).await?;
    Ok(())
}
