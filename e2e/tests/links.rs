//! Two clusters that are joined: real API servers, gateways and nodes in namespaces, a segment between the gateways, and packets from
//! the pods of one to the pods of the other with their own addresses.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::kubernetes::{Chart, ControlPlane, User};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::{Process, Scene, output_of, product, scene, wait_until};

/// Sessions come up within seconds; everything else is far quicker.
const SOON: Duration = Duration::from_secs(60);

/// A cluster: two gateways, which are on the segment between the clusters too, and a node that is none.
struct Cluster {
    name: &'static str,
    plane: ControlPlane,
    /// The third number of its fabric, the second of its pods' and Services' addresses.
    number: u8,
    fabric: Fabric,
    nodes: Vec<Node>,
    _controller: Process,
}

struct Node {
    name: String,
    machine: Namespace,
    /// Dropped, it is ended.
    speaker: Option<Process>,
}

impl Cluster {
    fn build(scene: &Scene, between: &Fabric, name: &'static str, number: u8) -> Result<Self> {
        let fabric = Fabric::new(scene, name)?;
        let at = |host: u8| format!("10.80.{number}.{host}");
        let control = fabric.machine(scene, &format!("{name}-control"), &[&format!("{}/24", at(100))])?;
        let plane = ControlPlane::start(scene, Some(&control), &at(100), &[])?;
        plane.serve_our_kinds()?;
        plane.kubectl("create namespace roadstead-system")?;
        plane.apply(&Chart::render()?.rights())?;
        plane.apply(&format!(
            "
apiVersion: roadstead.dev/v1alpha1
kind: ClusterNetwork
metadata: {{name: default}}
spec: {{clusterName: {name}, asn: {asn}, podCIDRs: [10.{number}.0.0/16], serviceCIDRs: [10.1{number}.0.0/16],
  fabricCIDRs: [10.80.{number}.0/24]}}
",
            asn = asn(number)
        ))?;
        let mut controller = product::command("roadstead-controller", Some(&control))?;
        controller.arg("--kubeconfig").arg(plane.kubeconfig(User::CONTROLLER));
        let controller = Process::start(scene, &format!("{name}-controller"), &controller)?;
        let mut cluster = Self { name, plane, number, fabric, nodes: Vec::new(), _controller: controller };
        for (index, role) in [(1, "gw1"), (2, "gw2"), (3, "worker")] {
            let label = format!("{name}-{role}");
            let machine = cluster.fabric.machine(scene, &label, &[&format!("{}/24", at(10 + index))])?;
            machine.forward()?;
            if role != "worker" {
                between.plug(&machine, "eth1", &[&format!("192.0.2.{}/24", gateway(number, index))])?;
            }
            // What a CNI does: pods have addresses of their node's range, and nodes know each other's.
            machine.ip(&format!("address add 10.{number}.{index}.10/32 dev lo"))?;
            for other in (1..=3).filter(|other| *other != index) {
                machine.ip(&format!("route add 10.{number}.{other}.0/24 via {}", at(10 + other)))?;
            }
            cluster.plane.make_node(&label, &[&at(10 + index)])?;
            let patch = format!(
                r#"{{"spec":{{"podCIDR":"10.{number}.{index}.0/24","podCIDRs":["10.{number}.{index}.0/24"]}}}}"#
            );
            cluster.plane.kubectl_as(User::ADMIN, &["patch", "node", &label, "--patch", &patch])?;
            if role != "worker" {
                cluster.plane.kubectl_as(User::ADMIN, &["label", "node", &label, "roadstead.dev/gateway="])?;
            }
            cluster.nodes.push(Node { name: label, machine, speaker: None });
        }
        for index in 0..cluster.nodes.len() {
            cluster.start_speaker(scene, index)?;
        }
        Ok(cluster)
    }

    fn start_speaker(&mut self, scene: &Scene, index: usize) -> Result<()> {
        let node = &mut self.nodes[index];
        let mut speaker = product::command("roadstead-speaker", Some(&node.machine))?;
        speaker.arg("--kubeconfig").arg(self.plane.speaker_kubeconfig(&node.name)?).args(["--node", &node.name]);
        let socket = scene.subdirectory(&format!("state-{}", node.name))?.join("speaker.sock");
        speaker.arg("--socket").arg(socket);
        node.speaker = Some(Process::start(scene, &format!("speaker-{}", node.name), &speaker)?);
        Ok(())
    }

    /// A link to the other cluster, from this side.
    fn link(&self, to: &Self, more: &str) -> String {
        let Self { name, number, .. } = to;
        format!(
            "
apiVersion: roadstead.dev/v1alpha1
kind: ClusterLink
metadata: {{name: {name}}}
spec:
  remoteCluster: {name}
  remoteASN: {asn}
  endpoints: [192.0.2.{}, 192.0.2.{}]
  gatewaySelector: {{matchLabels: {{roadstead.dev/gateway: ''}}}}
  acceptCIDRs: {{pods: [10.{number}.0.0/16], services: [10.1{number}.0.0/16]}}
  exports: [Pods, Services]
  timers: {{connectRetrySeconds: 1, holdSeconds: 9}}
  {more}
",
            gateway(*number, 1),
            gateway(*number, 2),
            asn = asn(*number),
        )
    }

    /// Fails unless exactly these routes stand in our table on a node, each as `ip` shows it.
    fn ensure_routes(&self, node: usize, expected: &[&str]) -> Result<()> {
        // A table that nobody has put a route into does not exist.
        let shown = self.nodes[node].machine.ip("route show table 179").unwrap_or_default();
        let joined = shown.replace("\n\t", " ");
        let found: Vec<String> = joined
            .lines()
            .filter(|line| !line.starts_with("throw"))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let is_there = |route: &&str| found.iter().any(|line| line.starts_with(*route));
        let all = expected.iter().all(is_there) && found.len() == expected.len();
        ensure!(all, "{}: routes {found:#?}, not {expected:#?}", self.nodes[node].name);
        Ok(())
    }

    /// Fails unless a packet of a pod of one node reaches a pod of a node of the other cluster with its own address, and the answer
    /// comes back.
    fn ensure_reaches(&self, node: usize, other: &Self, there: usize) -> Result<()> {
        let from = format!("10.{}.{}.10", self.number, node + 1);
        let to = format!("10.{}.{}.10", other.number, there + 1);
        exchange((&self.nodes[node].machine, &from), (&other.nodes[there].machine, &to))
    }
}

/// Fails unless a packet from one address reaches the other as it was sent, and the answer comes back.
fn exchange(from: (&Namespace, &str), to: (&Namespace, &str)) -> Result<()> {
    let socket = |(machine, address): (&Namespace, &str), port: u16| -> Result<UdpSocket> {
        let address = SocketAddr::new(address.parse()?, port);
        // A socket belongs to the machine that it was made on.
        let socket = machine.within(move || UdpSocket::bind(address))??;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        Ok(socket)
    };
    let (server, client) = (socket(to, 7777)?, socket(from, 0)?);
    let (server_address, client_address) = (server.local_addr()?, client.local_addr()?);
    client.send_to(b"question", server_address)?;
    let mut octets = [0; 16];
    let arrived = server.recv_from(&mut octets);
    let (_, seen) = arrived.with_context(|| format!("no packet from {client_address} at {server_address}"))?;
    ensure!(seen == client_address, "{server_address} sees {seen}, not {client_address}");
    server.send_to(b"answer", seen)?;
    let answered = client.recv_from(&mut octets);
    let (_, answered) = answered.with_context(|| format!("no answer from {server_address} at {client_address}"))?;
    ensure!(answered == server_address, "{answered} answers, not {server_address}");
    Ok(())
}

fn asn(number: u8) -> u32 {
    64500 + u32::from(number)
}

/// The last number of a gateway's address on the segment between the clusters.
fn gateway(number: u8, index: u8) -> u8 {
    10 * number + index
}

#[test]
fn pods_of_two_clusters_reach_each_other() -> Result<()> {
    scene("pods of two clusters reach each other", |scene| {
        let between = Fabric::new(scene, "between")?;
        let mut north = Cluster::build(scene, &between, "north", 1)?;
        let mut south = Cluster::build(scene, &between, "south", 2)?;
        scene.step("two clusters are up");

        north.plane.apply(&north.link(&south, "mode: Observe"))?;
        south.plane.apply(&south.link(&north, ""))?;
        wait_until("the sessions", SOON, || {
            let link = north.plane.get("clusterlink south")?;
            let sessions = link.pointer("/status/sessions").and_then(|text| text.as_str()).context("no status")?;
            ensure!(sessions == "4/4", "{sessions}");
            let accepted = link.pointer("/status/accepted").and_then(|n| n.as_i64()).unwrap_or_default();
            ensure!(accepted == 4, "{accepted} accepted");
            Ok(())
        })?;
        north.ensure_routes(0, &[])?;
        scene.step("observed: four sessions, four prefixes that would be in order, none installed");

        north.plane.apply(&north.link(&south, "mode: Active"))?;
        let by_both =
            ["10.2.1.0/24 proto 179", "10.2.2.0/24 proto 179", "10.2.3.0/24 proto 179", "10.12.0.0/16 proto 179"];
        for node in 0..3 {
            wait_until("the routes", SOON, || north.ensure_routes(node, &by_both))?;
        }
        wait_until("the routes of the other side", SOON, || {
            south.ensure_routes(2, &["10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24", "10.11.0.0/16"])
        })?;
        for (from, to) in [(0, 0), (0, 2), (2, 0), (2, 2), (1, 2)] {
            wait_until("packets there", SOON, || north.ensure_reaches(from, &south, to))?;
            wait_until("packets back", SOON, || south.ensure_reaches(from, &north, to))?;
        }
        scene.step("every pod reaches every pod");

        // A pool that begins to use what is learnt: the local use wins.
        north.plane.apply(
            "{apiVersion: roadstead.dev/v1alpha1, kind: AddressPool, metadata: {name: late}, spec: {addresses: [10.2.3.128/25]}}",
        )?;
        wait_until("the collision", SOON, || north.ensure_routes(2, &["10.2.1.0/24", "10.2.2.0/24", "10.12.0.0/16"]))?;
        wait_until("both names in the status", SOON, || {
            let link = north.plane.get("clusterlink south")?;
            let refusals = link.pointer("/status/refusals").context("no refusals")?.to_string();
            ensure!(refusals.contains("10.2.3.0/24") && refusals.contains("AddressPool late"), "{refusals}");
            Ok(())
        })?;
        north.plane.kubectl("delete addresspool late")?;
        wait_until("the route again", SOON, || north.ensure_routes(2, &by_both))?;
        scene.step("the local use wins, and both are named");

        // A gateway is killed: the other one carries on.
        let mut speaker = north.nodes[0].speaker.take().context("no speaker")?;
        speaker.signal("KILL")?;
        speaker.wait(product::GRACE)?;
        north.nodes[0].machine.ip("link set eth1 down")?;
        north.nodes[0].machine.ip("link set eth0 down")?;
        wait_until("one way", SOON, || {
            north.ensure_routes(
                2,
                &[
                    "10.2.1.0/24 via 10.80.1.12",
                    "10.2.2.0/24 via 10.80.1.12",
                    "10.2.3.0/24 via 10.80.1.12",
                    "10.12.0.0/16 via 10.80.1.12",
                ],
            )
        })?;
        wait_until("packets by the other gateway", SOON, || north.ensure_reaches(2, &south, 2))?;
        scene.step("one gateway is lost, and the other carries on");

        // Whoever leaves leaves nothing behind.
        let mut speaker = south.nodes[2].speaker.take().context("no speaker")?;
        speaker.signal("INT")?;
        speaker.wait(product::GRACE)?;
        south.ensure_routes(2, &[])?;
        let rules = south.nodes[2].machine.ip("rule show")?;
        ensure!(!rules.contains("179"), "{rules}");
        south.start_speaker(scene, 2)?;
        wait_until("the routes again", SOON, || {
            south.ensure_routes(2, &["10.1.1.0/24", "10.1.2.0/24", "10.1.3.0/24", "10.11.0.0/16"])
        })?;
        south.plane.kubectl("delete clusterlink north")?;
        wait_until("no routes", SOON, || south.ensure_routes(2, &[]))?;
        scene.step("what is not linked any more is gone");
        Ok(())
    })
}

/// The host's own address, in its prefix.
const EDGE: &str = "10.99.17.1";

#[test]
fn a_host_outside_reaches_pods_from_one_file() -> Result<()> {
    scene("a host outside reaches pods from one file", |scene| {
        let between = Fabric::new(scene, "between")?;
        let north = Cluster::build(scene, &between, "north", 1)?;
        let host = north.fabric.machine(scene, "stand", &["10.80.1.50/24"])?;
        host.ip(&format!("address add {EDGE}/32 dev lo"))?;
        north.plane.apply(
            "
apiVersion: v1
kind: Secret
metadata: {name: stand-17, namespace: roadstead-system}
stringData: {password: a-key-of-its-own}
---
apiVersion: roadstead.dev/v1alpha1
kind: EdgeHost
metadata: {name: stand-17}
spec: {address: 10.80.1.50, asn: 64617, prefix: 10.99.17.0/28, exports: [Pods, Services], passwordSecret: {name: stand-17},
  gatewaySelector: {matchLabels: {roadstead.dev/gateway: ''}}}
",
        )?;
        let directory = scene.subdirectory("stand")?;
        let (config, state) = (directory.join("edge.yaml"), directory.join("state"));
        let mut print = product::command("roadstead", Some(&north.nodes[0].machine))?;
        print.args(["edge-config", "stand-17", "--kubeconfig"]).arg(north.plane.kubeconfig(User::ADMIN));
        let printed = output_of(&mut print)?;
        std::fs::write(&config, &printed)?;
        let mut speaker = product::command("roadstead-speaker", Some(&host))?;
        speaker.args(["edge", "--config"]).arg(&config).arg("--state").arg(&state);
        speaker.arg("--socket").arg(directory.join("speaker.sock"));
        let mut stand = Process::start(scene, "stand", &speaker)?;
        let (straight, by_gateways) =
            (["10.99.17.0/28 via 10.80.1.50"], ["10.99.17.0/28 proto 179 nexthop via 10.80.1.11"]);
        for gateway in 0..2 {
            wait_until("the route to the host", SOON, || north.ensure_routes(gateway, &straight))?;
        }
        wait_until("the route to the host", SOON, || north.ensure_routes(2, &by_gateways))?;
        let reaches = || -> Result<()> {
            exchange((&host, EDGE), (&north.nodes[2].machine, "10.1.3.10"))?;
            exchange((&north.nodes[2].machine, "10.1.3.10"), (&host, EDGE))
        };
        wait_until("packets", SOON, reaches)?;
        let learned = host.ip("route show table 179")?;
        ensure!(learned.contains("10.11.0.0/16") && learned.contains("10.1.3.0/24"), "{learned}");
        scene.step("the host and the pods reach each other");

        // It announces what is not its own: refused, said with both names, and its own prefix stays.
        let more = |line: &str| match line.strip_suffix("- 10.99.17.0/28") {
            Some(indent) => format!("{line}\n{indent}- 10.1.3.0/26\n{indent}- 10.99.18.0/28\n"),
            None => format!("{line}\n"),
        };
        std::fs::write(&config, printed.lines().map(more).collect::<String>())?;
        wait_until("the refusal", SOON, || {
            let reports = north.plane.get("nodereports")?.to_string();
            ensure!(reports.contains("10.1.3.0/26") && reports.contains("EdgeHost stand-17"), "{reports}");
            ensure!(reports.contains("podCIDR of Node north-worker"), "{reports}");
            Ok(())
        })?;
        north.ensure_routes(2, &by_gateways)?;
        std::fs::write(&config, &printed)?;
        wait_until("packets again", SOON, reaches)?;
        scene.step("what is not its own is refused, and names both");

        north.plane.kubectl("delete edgehost stand-17")?;
        for node in 0..3 {
            wait_until("no route to the host", SOON, || north.ensure_routes(node, &[]))?;
        }
        wait_until("no route at the host", SOON, || {
            let left = host.ip("route show table 179").unwrap_or_default();
            ensure!(!left.contains("proto 179 "), "{left}");
            Ok(())
        })?;
        scene.step("deleted, it is cut off");
        stand.signal("TERM")?;
        stand.wait(product::GRACE).map(drop)
    })
}
