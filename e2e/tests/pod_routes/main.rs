//! Blocks of pods' addresses on real parts: claimed on a real API server under the chart's rights, held in the kernel, told to FRR and
//! BIRD, and reached from behind both.

mod single;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::kubernetes::{Chart, ControlPlane, User};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::routers::{Bird, Connect, Frr, Neighbor, Router, RouterConfig};
use roadstead_e2e::{Process, Scene, output_of, product, scene, wait_until};
use serde_json::{Value, json};

/// Blocks are looked at every ten seconds, and routers drop what a dead speaker told them after nine.
const SOON: Duration = Duration::from_secs(60);
const NODES: [(&str, &str); 2] = [("node-1", "10.99.0.11"), ("node-2", "10.99.0.12")];
/// Their other addresses.
const NODES_IPV6: [&str; 2] = ["fd99::11", "fd99::12"];
/// Behind the routers.
const OUTSIDE: &str = "198.51.100.9";

const OBJECTS: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: underlay, labels: {routed: 'yes'}}
spec: {subnet: 10.64.0.0/24, blockPrefixLength: 28, advertise: Block, default: true}
---
apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {name: frr}
spec: {localASN: 64500, peerASN: 64512, address: 10.99.0.1, timers: {connectRetrySeconds: 1}, gracefulRestart: {enabled: false}}
---
apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {name: bird}
spec: {localASN: 64500, peerASN: 64513, address: 10.99.0.2, timers: {connectRetrySeconds: 1}, gracefulRestart: {enabled: false}}
---
apiVersion: roadstead.dev/v1alpha1
kind: Advertisement
metadata: {name: pods}
spec: {from: [{podPools: {selector: {matchLabels: {routed: 'yes'}}}}]}
";

struct Stage<'a> {
    scene: &'a Scene,
    plane: ControlPlane,
    machines: Vec<Namespace>,
    speakers: Vec<Option<Process>>,
    outside: Namespace,
    frr: Frr,
    bird: Bird,
    _controller: Process,
}

fn router(asn: u32, router_id: &'static str, nodes: [u32; 2]) -> Result<RouterConfig> {
    let neighbor = |((_, address), asn): (&(&str, &str), u32)| Neighbor::new(address, asn);
    let neighbors = NODES.iter().zip(nodes).map(neighbor).collect::<Result<Vec<_>>>()?;
    let neighbors = neighbors.into_iter().map(|neighbor| Neighbor { connect: Connect::Passive, ..neighbor });
    Ok(RouterConfig { asn, router_id, neighbors: neighbors.collect(), routes: &[] })
}

impl<'a> Stage<'a> {
    fn build(scene: &'a Scene) -> Result<Self> {
        Self::build_with(scene, OBJECTS, [64500, 64500])
    }

    /// With these objects, and routers that take the nodes for neighbours in these ASs.
    fn build_with(scene: &'a Scene, objects: &str, asns: [u32; 2]) -> Result<Self> {
        let (inside, behind) = (Fabric::new(scene, "inside")?, Fabric::new(scene, "behind")?);
        let control = inside.machine(scene, "control", &["10.99.0.100/24"])?;
        let plane = ControlPlane::start(scene, Some(&control), "10.99.0.100", &[])?;
        plane.serve_our_kinds()?;
        plane.kubectl("create namespace roadstead-system")?;
        plane.apply(&Chart::render_with(&["speaker.pods=true"])?.rights())?;
        plane.apply(objects)?;
        let mut controller = product::command("roadstead-controller", Some(&control))?;
        controller.arg("--kubeconfig").arg(plane.kubeconfig(User::CONTROLLER)).args(["--node-grace-seconds", "15"]);
        let controller = Process::start(scene, "controller", &controller)?;

        let mut routers = Vec::new();
        for (label, own, own_ipv6, outer) in [
            ("frr", "10.99.0.1/24", "fd99::1/64", "198.51.100.1/24"),
            ("bird", "10.99.0.2/24", "fd99::2/64", "198.51.100.2/24"),
        ] {
            let machine = inside.machine(scene, label, &[own, own_ipv6])?;
            behind.plug(&machine, "eth1", &[outer])?;
            machine.forward()?;
            routers.push(machine);
        }
        let outside = behind.machine(scene, "outside", &[&format!("{OUTSIDE}/24")])?;
        let frr = Frr::start_with_kernel(scene, &routers[0], &router(64512, "10.99.0.1", asns)?)?;
        let bird = Bird::start_with_kernel(scene, &routers[1], &router(64513, "10.99.0.2", asns)?)?;

        let mut machines = Vec::new();
        for ((name, address), ipv6) in NODES.into_iter().zip(NODES_IPV6) {
            plane.make_node(name, &[address, ipv6])?;
            let machine = inside.machine(scene, name, &[&format!("{address}/24"), &format!("{ipv6}/64")])?;
            machine.ip("route add default via 10.99.0.1")?;
            machine.forward()?;
            machines.push(machine);
        }
        let speakers = vec![None, None];
        let mut stage = Self { scene, plane, machines, speakers, outside, frr, bird, _controller: controller };
        for node in 0..NODES.len() {
            stage.start_speaker(node)?;
        }
        Ok(stage)
    }

    fn socket(&self, node: usize) -> Result<PathBuf> {
        Ok(self.scene.subdirectory(&format!("state-{}", NODES[node].0))?.join("speaker.sock"))
    }

    fn start_speaker(&mut self, node: usize) -> Result<()> {
        let (name, _) = NODES[node];
        let socket = self.socket(node)?;
        let mut command = product::command("roadstead-speaker", Some(&self.machines[node]))?;
        command.arg("--kubeconfig").arg(self.plane.speaker_kubeconfig(name)?).args(["--node", name]);
        command.arg("--state").arg(socket.with_file_name("")).arg("--socket").arg(&socket);
        command.args(["--block-return-seconds", "5"]);
        self.speakers[node] = Some(Process::start(self.scene, &format!("speaker-{name}"), &command)?);
        wait_until("the speaker serves pods", SOON, || self.call(node, "STATUS", "none").map(drop))
    }

    fn kill_speaker(&mut self, node: usize) -> Result<()> {
        let mut speaker = self.speakers[node].take().context("no speaker")?;
        speaker.signal("KILL")?;
        speaker.wait(product::GRACE).map(drop)
    }

    fn config(&self, node: usize) -> Value {
        let socket = self.socket(node).unwrap_or_default();
        json!({ "cniVersion": "1.1.0", "name": "pods", "type": "ptp", "ipam": { "type": "roadstead-cni", "socket": socket } })
    }

    /// Calls our plugin by itself, for a container that is no pod's.
    fn call(&self, node: usize, verb: &str, container: &str) -> Result<Value> {
        self.call_with(node, verb, container, &self.config(node))
    }

    fn call_with(&self, node: usize, verb: &str, container: &str, config: &Value) -> Result<Value> {
        let mut call = self.machines[node].command(product::binary("roadstead-cni")?);
        call.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", container).env("CNI_IFNAME", "eth0");
        call.env("CNI_NETNS", "/run/netns/none").env("CNI_PATH", "/");
        let mut process = call.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("roadstead-cni")?;
        process.stdin.take().context("no standard input")?.write_all(config.to_string().as_bytes())?;
        let output = process.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{text}");
        if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text).with_context(|| text.to_string()) }
    }

    fn add(&self, node: usize, container: &str) -> Result<IpAddr> {
        address_of(&self.call(node, "ADD", container)?)
    }

    /// A pod behind a pair of cables, as the main plugin ptp makes it.
    fn pod(&self, node: usize, label: &str) -> Result<(Namespace, IpAddr)> {
        let plugins = PathBuf::from(std::env::var_os("ROADSTEAD_TOOLS").context("ROADSTEAD_TOOLS is not set")?);
        let plugins = plugins.with_file_name("cni");
        let pod = Namespace::new(self.scene, label)?;
        let directory = self.scene.subdirectory(&format!("net.d-{node}"))?;
        let mut plugin = self.config(node);
        let list = json!({ "cniVersion": plugin["cniVersion"].take(), "name": "pods", "plugins": [plugin] });
        std::fs::write(directory.join("pods.conflist"), list.to_string())?;
        let ours = product::binary("roadstead-cni")?;
        let path = format!("{}:{}", plugins.display(), ours.parent().context("it lies nowhere")?.display());
        let mut call: Command = self.machines[node].command(plugins.join("cnitool"));
        call.env("CNI_CONTAINERID", label).env("CNI_IFNAME", "eth0");
        call.env("CNI_PATH", path).env("NETCONFPATH", directory).args(["add", "pods"]).arg(pod.path());
        let text = output_of(&mut call)?;
        let address = address_of(&serde_json::from_str(&text).with_context(|| text)?)?;
        Ok((pod, address))
    }

    /// The blocks that a node has claimed.
    fn blocks(&self, node: usize) -> Result<BTreeSet<String>> {
        let list = self.plane.get("addressclaims")?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let of_node = items.iter().filter(|item| item["spec"]["nodeName"] == NODES[node].0);
        Ok(of_node.filter_map(|item| Some(item["spec"]["cidr"].as_str()?.to_owned())).collect())
    }

    /// Fails unless both routers know exactly these blocks by exactly their nodes. The claims are read first: what is claimed by
    /// nobody then must be known to no router.
    fn ensure_routes(&self) -> Result<()> {
        let claimed: Vec<BTreeSet<String>> = (0..NODES.len()).map(|node| self.blocks(node)).collect::<Result<_>>()?;
        for number in 0..16 {
            let block = format!("10.64.0.{}/28", number * 16);
            let holders = NODES.iter().zip(&claimed).filter(|(_, blocks)| blocks.contains(&block));
            let holders: Vec<&str> = holders.map(|((_, address), _)| *address).collect();
            ensure!(holders.len() <= 1, "{block} is claimed twice");
            self.frr.ensure_next_hops(&block, &holders)?;
            self.bird.ensure_next_hops(&block, &holders)?;
        }
        Ok(())
    }

    /// Fails when a router knows a way to a block that nobody has claimed.
    fn ensure_nothing_unclaimed(&self) -> Result<()> {
        let claimed: BTreeSet<String> =
            (0..NODES.len()).map(|node| self.blocks(node)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        for block in (0..16).map(|number| format!("10.64.0.{}/28", number * 16)) {
            if !claimed.contains(&block) {
                self.frr.ensure_next_hops(&block, &[]).context("nobody's, and still announced")?;
                self.bird.ensure_next_hops(&block, &[]).context("nobody's, and still announced")?;
            }
        }
        Ok(())
    }

    fn kernel_holds(&self, node: usize) -> Result<BTreeSet<String>> {
        let table = self.machines[node].ip("route show type unreachable proto 179")?;
        Ok(table.lines().filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned)).collect())
    }
}

fn address_of(answer: &Value) -> Result<IpAddr> {
    let address = answer.pointer("/ips/0/address").and_then(Value::as_str).with_context(|| answer.to_string())?;
    Ok(address.split('/').next().unwrap_or_default().parse()?)
}

/// Connects from one machine to an address of another; both ends have to see the other's own address.
fn converse(from: &Namespace, own: IpAddr, to: &Namespace, address: IpAddr) -> Result<()> {
    let listener = to.within(move || TcpListener::bind((address, 0)))?.with_context(|| format!("{address}"))?;
    let port = listener.local_addr()?.port();
    let answer = std::thread::spawn(move || -> Result<SocketAddr> {
        let (mut stream, peer) = listener.accept()?;
        stream.write_all(b"hello")?;
        Ok(peer)
    });
    let said = from.within(move || -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&(address, port).into(), Duration::from_secs(10))?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    })??;
    ensure!(said == "hello", "{said:?}");
    let peer = answer.join().map_err(|_| anyhow::anyhow!("the listener panicked"))??;
    ensure!(peer.ip() == own, "it came from {peer}, not from {own}");
    Ok(())
}

#[test]
fn blocks_are_routes_that_pods_are_reached_by() -> Result<()> {
    scene("pod-routes", routes)
}

fn routes(scene: &Scene) -> Result<()> {
    let mut stage = Stage::build(scene)?;
    scene.step("two nodes, two routers");

    // Traffic through either router, with everybody's own addresses.
    let (pod, address) = stage.pod(0, "pod-1")?;
    let (other, other_address) = stage.pod(1, "pod-2")?;
    wait_until("one route for each node's block", SOON, || {
        ensure!(stage.blocks(0)?.len() == 1 && stage.blocks(1)?.len() == 1, "no block yet");
        stage.ensure_routes()
    })?;
    ensure!(stage.kernel_holds(0)? == stage.blocks(0)?, "the kernel holds {:?}", stage.kernel_holds(0)?);
    // A speaker has rights on its own node's claims alone.
    let first = stage.blocks(0)?.pop_first().context("no block")?.replace('/', "-");
    let thief = stage.plane.speaker_kubeconfig("node-2")?;
    let refused = stage.plane.kubectl_with(&thief, &["delete", "addressclaim", &first]).err();
    let refused = format!("{:#}", refused.context("node-2's speaker deleted node-1's claim")?);
    ensure!(refused.contains("a speaker writes the claims of its own node, node-2"), "{refused}");
    let outside: IpAddr = OUTSIDE.parse()?;
    for (name, gateway) in [("FRR", "198.51.100.1"), ("BIRD", "198.51.100.2")] {
        stage.outside.ip(&format!("route replace default via {gateway}"))?;
        wait_until(&format!("from behind {name} to the pods"), SOON, || {
            converse(&stage.outside, outside, &pod, address)?;
            converse(&stage.outside, outside, &other, other_address)
        })?;
        converse(&pod, address, &stage.outside, outside)?;
    }
    converse(&pod, address, &other, other_address).context("from pod to pod, over the router")?;
    scene.step("pods reach what is behind the routers, and are reached, each with its own address");

    // Another block when the first is nearly full: 13 of 16, of which the first block of all lacks two.
    let first = stage.blocks(0)?;
    let mut given = BTreeSet::from([address]);
    for n in 0..12 {
        ensure!(given.insert(stage.add(0, &format!("c{n}"))?), "an address was given twice");
    }
    wait_until("another block", SOON, || {
        let blocks = stage.blocks(0)?;
        ensure!(blocks.len() == 2 && blocks.is_superset(&first), "{blocks:?}");
        stage.ensure_routes()
    })?;
    ensure!(stage.blocks(1)?.len() == 1, "the other node has no need of another");
    scene.step("another block when the first is four fifths full");

    // Killed, and started again: every address is where it was, and nobody's twice. A claim that its node died upon is its own still.
    stage.kill_speaker(0)?;
    let all: BTreeSet<String> = (0..16).map(|n| format!("10.64.0.{}/28", n * 16)).collect();
    let taken: BTreeSet<String> = stage.blocks(0)?.union(&stage.blocks(1)?).cloned().collect();
    let orphan = all.difference(&taken).next().context("no block is free")?.clone();
    let claim = json!({
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "AddressClaim",
        "metadata": { "name": orphan.replace('/', "-") },
        "spec": { "cidr": orphan, "pool": "underlay", "nodeName": "node-1", "owners": [{ "kind": "Node", "name": "node-1", "uid": "u" }] },
    });
    stage.plane.apply(&claim.to_string())?;
    stage.start_speaker(0)?;
    for n in 12..16 {
        let address = stage.add(0, &format!("c{n}"))?;
        ensure!(given.insert(address), "{address} was given twice");
    }
    for n in 0..12 {
        ensure!(given.contains(&stage.add(0, &format!("c{n}"))?), "a container has another address now");
    }
    wait_until("the block that nobody needs is given back", SOON, || {
        stage.ensure_nothing_unclaimed()?;
        let blocks = stage.blocks(0)?;
        ensure!(!blocks.contains(&orphan), "{blocks:?}");
        Ok(())
    })?;
    wait_until("routes and claims agree", SOON, || stage.ensure_routes())?;
    scene.step("a speaker that is killed goes on where it was");

    // All but the last block go back, each withdrawn before it is anybody's.
    for n in 0..16 {
        stage.call(0, "DEL", &format!("c{n}"))?;
    }
    let released = wait_until("one block is left", SOON, || {
        stage.ensure_nothing_unclaimed()?;
        let blocks = stage.blocks(0)?;
        ensure!(blocks.len() == 1, "{blocks:?}");
        Ok(blocks)
    })?;
    wait_until("the kernel holds that one", SOON, || {
        let held = stage.kernel_holds(0)?;
        ensure!(held == released, "{held:?}");
        stage.ensure_routes()
    })?;
    scene.step("all but the last block are given back");

    // The other node dies, and is deleted: its block is nobody's when the routers have forgotten it, and not before.
    stage.kill_speaker(1)?;
    // The report is the node's, and goes with it where there is a garbage collector.
    stage.plane.kubectl("delete node node-2")?;
    stage.plane.kubectl("delete nodereport node-2")?;
    wait_until("the lost node's block is nobody's", SOON, || {
        stage.ensure_nothing_unclaimed()?;
        let blocks = stage.blocks(1)?;
        ensure!(blocks.is_empty(), "{blocks:?}");
        Ok(())
    })?;
    stage.ensure_routes()?;
    scene.step("a lost node's block is nobody's once no router knows it");
    Ok(())
}
