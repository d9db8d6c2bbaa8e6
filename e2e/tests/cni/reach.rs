//! `roadstead-cni` behind macvlan in a list of plugins, on two machines with two network cards each, in a network that takes from a card
//! only what has an address of that card.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::{Process, Scene, output_of, scene, wait_until};
use serde_json::{Value, json};

use super::{Container, SOON, addresses, call, check_refused, cnitool};

/// Each card with its subnet's first three octets.
const CARDS: [(&str, &str); 2] = [("ens5", "172.31.16"), ("ens6", "172.31.32")];
/// The same of IPv6, each a /64.
const SIXES: [&str; 2] = ["2001:db8:16", "2001:db8:32"];

struct Machine {
    name: &'static str,
    namespace: Namespace,
    socket: PathBuf,
    /// On its cards.
    addresses: [String; 2],
    sixes: [String; 2],
    _speaker: Process,
}

/// A pod that is on both cards.
struct Pod<'a> {
    machine: &'a Machine,
    namespace: Namespace,
    container: Container,
    addresses: [String; 2],
    sixes: [String; 2],
}

struct Cloud<'a> {
    scene: &'a Scene,
    subnets: Vec<Fabric>,
    machines: Vec<Machine>,
}

impl Machine {
    /// Its addresses of one family: 0 for IPv4, 1 for IPv6.
    fn of_family(&self, family: usize) -> &[String; 2] {
        [&self.addresses, &self.sixes][family]
    }
}

impl Pod<'_> {
    fn of_family(&self, family: usize) -> &[String; 2] {
        [&self.addresses, &self.sixes][family]
    }
}

impl<'a> Cloud<'a> {
    fn build(scene: &'a Scene) -> Result<Self> {
        let router = Namespace::new(scene, "router")?;
        router.forward()?;
        let subnets: Vec<Fabric> = CARDS
            .iter()
            .zip(SIXES)
            .map(|((card, subnet), six)| {
                let fabric = Fabric::new(scene, &format!("subnet-of-{card}"))?;
                fabric.plug(&router, card, &[&format!("{subnet}.1/20"), &format!("{six}::1/64")])?;
                Ok(fabric)
            })
            .collect::<Result<_>>()?;
        let mut cloud = Self { scene, subnets, machines: Vec::new() };
        for (index, name) in ["node-1", "node-2"].into_iter().enumerate() {
            cloud.start(name, index + 2)?;
        }
        Ok(cloud)
    }

    /// A machine whose addresses end in `own`, with its speaker.
    fn start(&mut self, name: &'static str, own: usize) -> Result<()> {
        let namespace = Namespace::new(self.scene, name)?;
        for ((subnet, (card, prefix)), six) in self.subnets.iter().zip(CARDS).zip(SIXES) {
            subnet.plug(&namespace, card, &[&format!("{prefix}.{own}/20"), &format!("{six}::{own}/64")])?;
            subnet.guard(&[&format!("{prefix}.{own}"), &format!("{prefix}.{own}1-{prefix}.{own}9")])?;
        }
        namespace.ip("route add default via 172.31.16.1")?;
        namespace.ip(&format!("-6 route add default via {}::1", SIXES[0]))?;
        // As the images of clouds do, where the network drops what leaves by another card.
        for (table, (card, prefix)) in (10001..).zip(CARDS) {
            namespace.ip(&format!("route add {prefix}.0/20 dev {card} table {table}"))?;
            namespace.ip(&format!("route add default via {prefix}.1 dev {card} table {table}"))?;
            namespace.ip(&format!("rule add from {prefix}.{own} lookup {table} priority {table}"))?;
        }
        let pools: String = CARDS
            .iter()
            .zip(SIXES)
            .map(|((card, prefix), six)| {
                format!(
                    "---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {{name: {name}-{card}}}
spec:
  subnet: {prefix}.0/20
  ranges: [{prefix}.{own}1-{prefix}.{own}9]
  gateway: {prefix}.1
  nodeNames: [{name}]
  networks: [kube-system/{card}]
  default: true
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {{name: {name}-{card}-six}}
spec:
  subnet: {six}::/64
  ranges: [{six}::{own}1-{six}::{own}9]
  gateway: {six}::1
  nodeNames: [{name}]
  networks: [kube-system/{card}]
  default: true
"
                )
            })
            .collect();
        let cluster = "
apiVersion: roadstead.dev/v1alpha1
kind: ClusterNetwork
metadata: {name: default}
spec: {podCIDRs: [172.31.0.0/16, 10.88.0.0/16], serviceCIDRs: [10.96.0.0/16, \"fd96::/108\"]}
";
        let files = [("pools.yaml", pools.as_str()), ("cluster.yaml", cluster)];
        let manifests = Manifests::with(self.scene, &format!("manifests-{name}"), &files)?;
        let speaker = product::run(self.scene, Some(&namespace), &manifests, name)?;
        let socket = self.scene.subdirectory(&format!("state-{name}"))?.join("speaker.sock");
        let addresses = CARDS.map(|(_, prefix)| format!("{prefix}.{own}"));
        let sixes = SIXES.map(|prefix| format!("{prefix}::{own}"));
        let machine = Machine { name, namespace, socket, addresses, sixes, _speaker: speaker };
        wait_until("the speaker's socket answers", SOON, || {
            let own_part = self.list(&machine, "ens5", &json!({}))["plugins"][1].take();
            let status = with(own_part, &[("cniVersion", json!("1.1.0")), ("name", json!("ens5"))]);
            call(&machine.namespace, "STATUS", &status, &Container::default()).map(drop)
        })?;
        self.machines.push(machine);
        Ok(())
    }

    /// macvlan, and ours behind it.
    fn list(&self, machine: &Machine, card: &str, more: &Value) -> Value {
        let socket = &machine.socket;
        let ipam = json!({ "type": "roadstead-cni", "socket": socket, "network": format!("kube-system/{card}") });
        let main = json!({ "type": "macvlan", "master": card, "ipam": ipam });
        let mut own = json!({ "type": "roadstead-cni", "socket": socket });
        for (key, value) in more.as_object().into_iter().flatten() {
            own[key] = value.clone();
        }
        json!({ "cniVersion": "1.1.0", "name": card, "plugins": [main, own] })
    }

    /// A pod with an interface on each card.
    fn pod<'m>(&self, machine: &'m Machine, label: &str, more: &Value) -> Result<Pod<'m>> {
        let namespace = Namespace::new(self.scene, label)?;
        let netns = namespace.path().display().to_string();
        let container = Container { netns, ..Container::of_pod(label, label, &format!("uid-of-{label}")) };
        let (mut given, mut sixes) = (Vec::new(), Vec::new());
        for (interface, (card, _)) in ["eth0", "net1"].into_iter().zip(CARDS) {
            let list = self.list(machine, card, more);
            let added = cnitool(self.scene, &machine.namespace, "add", &list, &container.on(interface))?;
            for address in addresses(&added) {
                let address = address.split('/').next().unwrap_or_default().to_owned();
                if address.contains(':') { sixes.push(address) } else { given.push(address) }
            }
        }
        let both = |given: Vec<String>| <[String; 2]>::try_from(given).map_err(|given| anyhow::anyhow!("{given:?}"));
        Ok(Pod { machine, namespace, container, addresses: both(given)?, sixes: both(sixes)? })
    }
}

fn with(mut config: Value, more: &[(&str, Value)]) -> Value {
    for (key, value) in more {
        config[*key] = value.clone();
    }
    config
}

/// One question and its answer, from one address to another.
fn ping(from: &Namespace, source: &str, to: &str) -> Result<()> {
    let ping = ["ping", "-c", "1", "-W", "2", "-I", source, to];
    output_of(from.command("/bin/busybox").args(ping))
        .map(drop)
        .with_context(|| format!("{source} does not reach {to}"))
}

/// Our veth pairs on a machine.
fn pairs(machine: &Machine) -> Result<usize> {
    let links = machine.namespace.ip("-oneline link show type veth")?;
    Ok(links.lines().filter(|line| line.contains(": rs")).count())
}

#[test]
fn pods_on_two_cards_reach_their_node_and_each_other() -> Result<()> {
    scene("cni-reach", every_way)
}

fn every_way(scene: &Scene) -> Result<()> {
    let cloud = Cloud::build(scene)?;
    let [one, two] = &cloud.machines[..] else { anyhow::bail!("two machines were built") };
    let pods = [cloud.pod(one, "a", &json!({}))?, cloud.pod(one, "b", &json!({}))?, cloud.pod(two, "c", &json!({}))?];
    scene.step("three pods, each on two cards");
    for (family, pod) in [0, 1].into_iter().flat_map(|family| pods.iter().map(move |pod| (family, pod))) {
        for own in pod.of_family(family) {
            for address in cloud.machines.iter().flat_map(|machine| machine.of_family(family)) {
                ping(&pod.namespace, own, address).with_context(|| format!("pod on {}", pod.machine.name))?;
            }
            let others = pods.iter().filter(|other| other.addresses != pod.addresses);
            for address in others.flat_map(|other| other.of_family(family)) {
                ping(&pod.namespace, own, address)?;
            }
            for address in pod.machine.of_family(family) {
                ping(&pod.machine.namespace, address, own)?;
            }
        }
    }
    scene.step("every address reaches every other, and every node");
    for (subnet, (card, _)) in cloud.subnets.iter().zip(CARDS) {
        ensure!(subnet.dropped()? == 0, "something left by {card} with an address of another card");
    }

    // Services are looked for at the node, whichever of its addresses a pod speaks from.
    for own in &pods[0].addresses {
        let way = pods[0].namespace.ip(&format!("route get 10.96.0.10 from {own}"))?;
        ensure!(way.contains("via 169.254.1.1 dev rs"), "{way}");
    }
    let way = pods[0].namespace.ip("route get 10.96.0.10")?;
    ensure!(way.contains("dev rs") && way.contains(&format!("src {}", pods[0].addresses[0])), "{way}");
    for own in &pods[0].sixes {
        let way = pods[0].namespace.ip(&format!("-6 route get fd96::10 from {own}"))?;
        ensure!(way.contains("via fe80::1 dev rs"), "{way}");
    }
    let way = pods[0].namespace.ip("route get 172.31.77.1")?;
    ensure!(way.contains("dev eth0"), "pods on the network are not looked for at the node: {way}");

    // Switched off it does nothing, and without it the network drops what leaves by the wrong card, and the node is out of reach.
    let bare = cloud.pod(one, "bare", &json!({ "tunePodRoutes": false }))?;
    ensure!(ping(&bare.namespace, &bare.addresses[0], &one.addresses[0]).is_err(), "macvlan reaches its own node");
    ensure!(
        ping(&bare.namespace, &bare.addresses[0], &pods[2].addresses[1]).is_err(),
        "the network lets everything in"
    );
    ensure!(cloud.subnets[1].dropped()? > 0, "the guard has dropped nothing");
    scene.step("and none of it without the plugin");

    every_verb(&cloud, one, &pods)
}

/// What was made is missed when it goes, and is gone when it is to go.
fn every_verb(cloud: &Cloud<'_>, one: &Machine, pods: &[Pod<'_>]) -> Result<()> {
    let verb = |command: &str, pod: &Pod<'_>, index: usize| {
        let interface = ["eth0", "net1"][index];
        let list = cloud.list(one, CARDS[index].0, &json!({}));
        cnitool(cloud.scene, &one.namespace, command, &list, &pod.container.on(interface))
    };
    verb("check", &pods[0], 0)?;
    verb("check", &pods[0], 1)?;
    ensure!(pairs(one)? == 4, "{} pairs for two pods", pairs(one)?);
    let rules = |pod: &Pod<'_>| -> Result<usize> {
        let all = [pod.namespace.ip("rule show")?, pod.namespace.ip("-6 rule show")?].concat();
        Ok(all.matches("proto 179").count())
    };
    ensure!(rules(&pods[0])? == 4, "{}", pods[0].namespace.ip("rule show")?);

    pods[0].namespace.ip(&format!("rule del from {}", pods[0].addresses[1]))?;
    let missed = verb("check", &pods[0], 1).err().context("a rule is gone, and CHECK does not miss it")?;
    ensure!(missed.to_string().contains("rule for packets from"), "{missed}");
    // The same interface again: what is there is made anew.
    verb("del", &pods[0], 1)?;
    verb("add", &pods[0], 1)?;
    verb("check", &pods[0], 1)?;
    for index in [1, 0, 0] {
        verb("del", &pods[0], index)?;
    }
    ensure!(rules(&pods[0])? == 0 && pairs(one)? == 2, "DEL left something: {} pairs", pairs(one)?);

    // GC removes what no container has, and of its own network alone.
    let own_part = |card: &str, more: &[(&str, Value)]| {
        let own = cloud.list(one, card, &json!({}))["plugins"][1].take();
        with(with(own, &[("cniVersion", json!("1.1.0")), ("name", json!(card))]), more)
    };
    let none = own_part("ens5", &[("cni.dev/valid-attachments", json!([]))]);
    call(&one.namespace, "GC", &none, &Container::default())?;
    ensure!(pairs(one)? == 1, "GC left {} pairs", pairs(one)?);

    // An ADD that cannot be carried through leaves nothing behind.
    let before = json!({ "cniVersion": "1.1.0", "ips": [{ "address": "300::1/64" }] });
    let refused = own_part("ens5", &[("prevResult", before), ("clusterCIDRs", json!(["10.96.0.0/16"]))]);
    let container = Container { netns: pods[0].container.netns.clone(), ..Container::named("half") };
    let answer = call(&one.namespace, "ADD", &refused, &container);
    check_refused(answer, 105, &["the container has no interface eth0"])?;
    pods[0].namespace.ip("link add eth0 type veth peer name other")?;
    // Its address is not on the interface, so that the kernel refuses the routes.
    let answer = call(&one.namespace, "ADD", &refused, &container);
    check_refused(answer, 105, &["the ways between interface eth0 and the node: cannot put in the route"])?;
    ensure!(pairs(one)? == 1 && rules(&pods[0])? == 0, "half an ADD was left");
    let gone = Container { netns: "/run/netns/none".to_owned(), ..container };
    check_refused(call(&one.namespace, "ADD", &refused, &gone), 105, &["/run/netns/none"])?;
    call(&one.namespace, "DEL", &refused, &gone)?;
    Ok(())
}
