//! Real nodes whose pods live on the network of the nodes' own cards, as in a cloud: the chart installed by helm, pods made by
//! kubelet and containerd through `roadstead-cni`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::kubernetes::{ControlPlane, Node, NodeSpec, build_image, is_ready, tool, workspace};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::{Scene, output_of, scene, wait_until};
use serde_json::{Value, json};

const BOX: &str = "localhost/roadstead-e2e/box:1";
const ROADSTEAD: &str = "localhost/roadstead-e2e/roadstead:1";
/// Each card of a node, with its subnet's first three octets.
const CARDS: [(&str, &str); 2] = [("ens5", "172.31.16"), ("ens6", "172.31.32")];
/// Each node with the end of its own addresses; its pods' begin with the same digit, and there are five on each card.
const NODES: [(&str, u8); 2] = [("node-1", 2), ("node-2", 3)];
const CONTROL: &str = "172.31.16.250";
/// What a busy machine may take to start or end some pods.
const SLOW: Duration = Duration::from_secs(240);
/// Pods that come and go at once.
const MANY: usize = 100;

struct Cloud {
    subnets: Vec<Fabric>,
    control: Namespace,
    machines: Vec<Namespace>,
}

impl Cloud {
    fn build(scene: &Scene) -> Result<Self> {
        let router = Namespace::new(scene, "router")?;
        router.forward()?;
        let mut subnets = Vec::new();
        for (card, subnet) in CARDS {
            let fabric = Fabric::new(scene, &format!("subnet-of-{card}"))?;
            fabric.plug(&router, card, &[&format!("{subnet}.1/20")])?;
            subnets.push(fabric);
        }
        let control = subnets[0].machine(scene, "control", &[&format!("{CONTROL}/20")])?;
        control.ip("route add default via 172.31.16.1")?;
        let machine = |(index, (name, own)): (usize, &(&str, u8))| {
            let machine = Namespace::new(scene, name)?;
            for ((subnet, (card, prefix)), table) in subnets.iter().zip(CARDS).zip(10001..) {
                subnet.plug(&machine, card, &[&format!("{prefix}.{own}/20")])?;
                // What the card has: its own address, five for pods, and on the first card a range for many.
                let mut allowed = vec![format!("{prefix}.{own}"), format!("{prefix}.{own}1-{prefix}.{own}5")];
                if card == "ens5" {
                    allowed.push(format!("{}.0/24", many(index)));
                }
                subnet.guard(&allowed.iter().map(String::as_str).collect::<Vec<_>>())?;
                // As the images of clouds do, where the network drops what leaves by another card.
                machine.ip(&format!("route add {prefix}.0/20 dev {card} table {table}"))?;
                machine.ip(&format!("route add default via {prefix}.1 dev {card} table {table}"))?;
                machine.ip(&format!("rule add from {prefix}.{own} lookup {table} priority {table}"))?;
            }
            machine.ip("route add default via 172.31.16.1")?;
            Ok(machine)
        };
        let machines = NODES.iter().enumerate().map(machine).collect::<Result<_>>()?;
        Ok(Self { subnets, control, machines })
    }

    fn dropped(&self) -> Result<u64> {
        self.subnets.iter().map(Fabric::dropped).sum()
    }
}

/// The first three octets of the addresses of a node's many pods, in the first subnet.
fn many(node: usize) -> String {
    format!("172.31.{}", 17 + node)
}

/// macvlan on a card, our IPAM for it, and ours behind it.
fn list(card: &str) -> Value {
    let ipam = json!({ "type": "roadstead-cni", "network": format!("kube-system/{card}") });
    let main = json!({ "type": "macvlan", "master": card, "ipam": ipam });
    json!({ "cniVersion": "1.0.0", "name": card, "plugins": [main, { "type": "roadstead-cni" }] })
}

fn values() -> String {
    let (repository, tag) = ROADSTEAD.rsplit_once(':').unwrap_or_default();
    json!({
        "image": { "repository": repository, "tag": tag, "pullPolicy": "Never" },
        "logLevel": "info,roadstead_speaker=debug",
        "speaker": { "pods": true, "cni": { "list": list("ens5") } },
    })
    .to_string()
}

/// One pool for each node and card, and one for each node's many.
fn pools() -> String {
    let mut text = String::from(
        "
apiVersion: roadstead.dev/v1alpha1
kind: ClusterNetwork
metadata: {name: default}
spec: {serviceCIDRs: [10.96.0.0/16]}
",
    );
    let pool = |name: &str, node: &str, card: &str, prefix: &str, range: &str, default: bool| {
        format!(
            "---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {{name: {name}}}
spec:
  subnet: {prefix}.0/20
  ranges: [{range}]
  gateway: {prefix}.1
  nodeNames: [{node}]
  networks: [kube-system/{card}]
  default: {default}
"
        )
    };
    for (index, (node, own)) in NODES.iter().enumerate() {
        for (card, prefix) in CARDS {
            let range = format!("{prefix}.{own}1-{prefix}.{own}5");
            text += &pool(&format!("{node}-{card}"), node, card, prefix, &range, true);
        }
        let range = format!("{}.0-{}.254", many(index), many(index));
        text += &pool(&format!("many-{node}"), node, CARDS[0].0, CARDS[0].1, &range, false);
    }
    text
}

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.80, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web}
spec:
  serviceName: web
  replicas: 4
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}
      containers:
      - name: web
        image: localhost/roadstead-e2e/box:1
        imagePullPolicy: Never
        command: [sh, -c, \"mkdir -p /www && echo $HOSTNAME > /www/index.html && exec httpd -f -p 8080 -h /www\"]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
";

const CROWD: &str = "
apiVersion: v1
kind: Namespace
metadata:
  name: crowd
  annotations: {roadstead.dev/pools: '[{\"interface\": \"eth0\", \"pools\": [\"many-*\"]}]'}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: crowd, namespace: crowd}
spec:
  replicas: 0
  selector: {matchLabels: {app: crowd}}
  template:
    metadata: {labels: {app: crowd}}
    spec:
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 1
      containers: [{name: sleep, image: localhost/roadstead-e2e/box:1, imagePullPolicy: Never, command: [sleep, \"100000\"]}]
";

#[test]
fn pods_on_the_network_of_their_nodes_cards() -> Result<()> {
    scene("pods on the network of their nodes' cards", |scene| {
        let cloud = Cloud::build(scene)?;
        let mut plane = ControlPlane::start(
            scene,
            Some(&cloud.control),
            CONTROL,
            &["--kubelet-preferred-address-types=InternalIP"],
        )?;
        plane.start_controllers(scene)?;
        let image = build_image(scene, BOX)?;
        let ours = our_image(scene)?;
        scene.step("control plane and images");
        let mut nodes = Vec::new();
        for (machine, (name, own)) in cloud.machines.iter().zip(NODES) {
            let address = format!("{}.{own}", CARDS[0].1);
            let spec =
                NodeSpec { name, address: &address, pod_subnet: None, image: (&image, BOX), more_images: &[&ours] };
            nodes.push(Node::start(scene, machine, &plane, &spec)?);
        }
        plane.install_chart(&values())?;
        for (name, _) in NODES {
            wait_until("the node to be Ready", SLOW, || {
                ensure_that(is_ready(&plane.get(&format!("node {name}"))?)?, "it is not")
            })?;
        }
        plane.apply(&pools())?;
        scene.step("helm has installed the chart, and the nodes are Ready by the list that it brought");

        field_case(scene, &cloud, &plane, &nodes)?;
        come_and_go(scene, &plane, &mut nodes)?;
        uninstalled(scene, &plane, &nodes)
    })
}

/// What people wrote stays, and so does what pods that still run are taken down with.
fn uninstalled(scene: &Scene, plane: &ControlPlane, nodes: &[Node]) -> Result<()> {
    plane.uninstall_chart()?;
    let pools = plane.get("podpools")?;
    ensure!(pools["items"].as_array().is_some_and(|pools| pools.len() == 6), "six pools were applied: {pools}");
    for node in nodes {
        for file in ["/opt/cni/bin/roadstead-cni", "/etc/cni/net.d/10-roadstead.conflist"] {
            output_of(node.command(Path::new("test")).args(["-s", file])).with_context(|| format!("{file} is gone"))?;
        }
    }
    scene.step("uninstalled: pools, plugin and list are still there");
    Ok(())
}

fn ensure_that(condition: bool, otherwise: &str) -> Result<()> {
    ensure!(condition, "{otherwise}");
    Ok(())
}

/// The image that users get, under a name of the tests.
fn our_image(scene: &Scene) -> Result<PathBuf> {
    let path = scene.directory().join("roadstead.tar");
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.current_dir(workspace()).args(["xtask", "image", "--dev", "--name", ROADSTEAD]);
    output_of(build.arg("--to").arg(&path))?;
    Ok(path)
}

/// A pod as its node runs it.
#[derive(Debug)]
struct Running {
    name: String,
    uid: String,
    node: usize,
    netns: String,
    /// On `eth0` and, once it is there, on `net1`.
    addresses: Vec<String>,
}

/// The pods of a StatefulSet, with the network namespaces in which containerd put them.
fn running(plane: &ControlPlane, nodes: &[Node]) -> Result<Vec<Running>> {
    let mut sandboxes = BTreeMap::new();
    for node in nodes {
        let filter = "labels.\"io.cri-containerd.kind\"==sandbox";
        for id in node.ctr(&format!("containers list --quiet {filter}"))?.split_whitespace() {
            // One may be gone since it was listed.
            let Ok(text) = node.ctr(&format!("containers info {id}")) else { continue };
            let info: Value = serde_json::from_str(&text).with_context(|| text)?;
            let namespaces = info.pointer("/Spec/linux/namespaces").and_then(Value::as_array);
            let network = namespaces.into_iter().flatten().find(|namespace| namespace["type"] == "network");
            let uid = info.pointer("/Labels/io.kubernetes.pod.uid").and_then(Value::as_str);
            if let (Some(uid), Some(path)) = (uid, network.and_then(|network| network["path"].as_str())) {
                sandboxes.insert(uid.to_owned(), path.replace("/var/run/", "/run/"));
            }
        }
    }
    let list = plane.get("pods --selector app=web")?;
    let pods = list["items"].as_array().context("no list")?;
    pods.iter()
        .map(|pod| {
            let text = |pointer: &str| {
                Ok::<_, anyhow::Error>(
                    pod.pointer(pointer).and_then(Value::as_str).context(pointer.to_owned())?.to_owned(),
                )
            };
            let uid = text("/metadata/uid")?;
            let node = text("/spec/nodeName")?;
            Ok(Running {
                name: text("/metadata/name")?,
                node: NODES.iter().position(|(name, _)| *name == node).context("an unknown node")?,
                netns: sandboxes.get(&uid).context("no sandbox")?.clone(),
                addresses: vec![text("/status/podIP")?],
                uid,
            })
        })
        .collect()
}

fn wait_for_web(plane: &ControlPlane, replicas: usize) -> Result<()> {
    wait_until("the StatefulSet's pods to be ready", SLOW, || {
        let set = plane.get("statefulset web")?;
        let ready = set.pointer("/status/readyReplicas").and_then(Value::as_u64).unwrap_or_default();
        ensure_that(ready == replicas as u64, &format!("{ready} of {replicas} are"))
    })
}

/// Two cards for each node, each with five addresses; a network that takes from a card only those.
fn field_case(scene: &Scene, cloud: &Cloud, plane: &ControlPlane, nodes: &[Node]) -> Result<()> {
    plane.apply(WEB)?;
    // Ready by the kubelet's probe: the node reaches its own pods.
    wait_for_web(plane, 4)?;
    let mut pods = wait_until("the sandboxes", SLOW, || running(plane, nodes))?;
    let config = second_list(scene)?;
    for pod in &mut pods {
        let (_, own) = NODES[pod.node];
        let address = second_interface(&nodes[pod.node], &config, "add", pod)?;
        pod.addresses.push(address);
        for (address, (_, prefix)) in pod.addresses.iter().zip(CARDS) {
            ensure!(address.starts_with(&format!("{prefix}.{own}")), "{} has {address}", pod.name);
        }
    }
    let on = |node: usize| pods.iter().filter(move |pod| pod.node == node).count();
    ensure!(on(0) == 2 && on(1) == 2, "two pods on each node: {pods:?}");
    scene.step("four pods on two nodes, each with an address of each card of its node");

    for pod in &pods {
        let others = pods.iter().filter(|other| other.name != pod.name).flat_map(|other| &other.addresses);
        let names: BTreeSet<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
        let of_nodes = NODES.iter().flat_map(|(_, own)| CARDS.map(|(_, prefix)| format!("{prefix}.{own}")));
        let script = format!(
            "get() {{ curl --silent --max-time 5 --interface $1 http://$2/; }}
             for source in {}; do
               for target in {} {}; do
                 /bin/busybox ping -c 1 -W 3 -I $source $target >/dev/null || echo \"no ping from $source to $target\"
               done
               for target in {}; do get $source $target:8080 >/dev/null || echo \"no answer from $target to $source\"; done
               for try in 1 2 3 4 5 6; do get $source 10.96.0.80 || echo \"no answer from the Service to $source\"; done
             done",
            pod.addresses.join(" "),
            others.clone().cloned().collect::<Vec<_>>().join(" "),
            of_nodes.collect::<Vec<_>>().join(" "),
            others.cloned().collect::<Vec<_>>().join(" "),
        );
        // From the pod's network, with a program that can choose the address that it calls from.
        let mut within = nodes[pod.node].command(Path::new("nsenter"));
        let said = output_of(within.arg(format!("--net={}", pod.netns)).args(["--", "sh", "-c", &script]))?;
        let answers: Vec<&str> = said.lines().collect();
        ensure!(answers.len() == 12 && answers.iter().all(|answer| names.contains(answer)), "{}: {said}", pod.name);
    }
    ensure!(cloud.dropped()? == 0, "{} packets left by a card that does not have their address", cloud.dropped()?);
    scene.step("each reaches each, both nodes and the Service from either address, and nothing left by the wrong card");

    // Not sticky: on another node it has an address of that node's cards.
    plane.kubectl("cordon node-1")?;
    let moved = pods.iter().find(|pod| pod.node == 0).context("no pod on node-1")?;
    plane.kubectl(&format!("delete pod {} --wait=true --timeout=120s", moved.name))?;
    wait_for_web(plane, 4)?;
    let pod = plane.get(&format!("pod {}", moved.name))?;
    let address = pod.pointer("/status/podIP").and_then(Value::as_str).unwrap_or_default();
    ensure!(address.starts_with("172.31.16.3"), "{} has {address} on node-2", moved.name);
    plane.kubectl("uncordon node-1")?;
    scene.step("a pod that moved has an address of its new node");

    // Five addresses for each node's card: more pods wait, say why, and start when others go.
    plane.kubectl("scale statefulset web --replicas=12")?;
    wait_until("an event of a pod that finds no address", SLOW, || {
        let events = plane.get("events")?.to_string();
        ensure_that(events.contains("all of its addresses for this node are taken"), &events)
    })?;
    let has_address = || -> Result<usize> {
        let list = plane.get("pods --selector app=web")?;
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        let addresses: Vec<Value> = pods.iter().filter_map(|pod| pod.pointer("/status/podIP").cloned()).collect();
        let different: BTreeSet<String> = addresses.iter().map(Value::to_string).collect();
        ensure!(different.len() == addresses.len(), "an address was given twice: {addresses:?}");
        Ok(addresses.len())
    };
    wait_until("ten pods with ten addresses", SLOW, || ensure_that(has_address()? == 10, "not ten yet"))?;
    plane.kubectl("scale statefulset web --replicas=0")?;
    ensure_all_free(plane)?;
    scene.step("ten addresses for twelve pods, and all ten free in the end, those of second interfaces too");
    Ok(())
}

/// No interface has an address any more.
fn ensure_all_free(plane: &ControlPlane) -> Result<()> {
    wait_until("every address to be free", SLOW, || {
        for (name, _) in NODES {
            let report = plane.get(&format!("nodereport {name}"))?;
            let attachments = report.pointer("/status/pods/attachments").cloned().unwrap_or_default();
            ensure!(attachments == json!(0), "{attachments} interfaces have addresses on {name}");
        }
        Ok(())
    })
}

/// The list of the second card, as a NetworkAttachmentDefinition has it.
fn second_list(scene: &Scene) -> Result<PathBuf> {
    let directory = scene.subdirectory("net.d-ens6")?;
    fs::write(directory.join("ens6.conflist"), list("ens6").to_string()).context("cannot write the second list")?;
    Ok(directory)
}

/// Calls the plugins as Multus does for a pod's second network; the address.
fn second_interface(node: &Node, config: &Path, command: &str, pod: &Running) -> Result<String> {
    let cnitool = tool("kubectl")?.with_file_name("../cni/cnitool");
    let mut call = node.command(&cnitool);
    let Running { name, uid, netns, .. } = pod;
    call.env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name};K8S_POD_UID={uid}"));
    call.env("CNI_PATH", "/opt/cni/bin").env("NETCONFPATH", config).env("CNI_IFNAME", "net1");
    let answer = output_of(call.args([command, "ens6", netns]))?;
    let answer: Value = serde_json::from_str(&answer).with_context(|| answer)?;
    let address = answer.pointer("/ips/0/address").and_then(Value::as_str).context("no address")?;
    Ok(address.split('/').next().unwrap_or_default().to_owned())
}

/// Many pods three times, while what serves them is killed.
fn come_and_go(scene: &Scene, plane: &ControlPlane, nodes: &mut [Node]) -> Result<()> {
    plane.apply(CROWD)?;
    for round in 1..=3 {
        plane.kubectl(&format!("scale deployment crowd --namespace crowd --replicas={MANY}"))?;
        wait_until("the first of many", SLOW, || ensure_that(ready(plane)? > MANY / 10, "none is ready"))?;
        let mut controllers = 0;
        for node in nodes.iter_mut() {
            ensure!(kill_containers(node, "speaker")? == 1, "no speaker was there to be killed");
            controllers += kill_containers(node, "controller")?;
            node.kill_containerd(scene)?;
        }
        ensure!(controllers == 1, "{controllers} controllers were killed");
        wait_until("all of many", SLOW * 2, || {
            let ready = ready(plane)?;
            ensure_that(ready == MANY, &format!("{ready} of {MANY} are ready"))
        })?;
        let pods = plane.get("pods --namespace crowd")?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let addresses: BTreeSet<String> =
            pods.iter().filter_map(|pod| Some(pod.pointer("/status/podIP")?.as_str()?.to_owned())).collect();
        ensure!(addresses.len() == MANY, "{MANY} pods have {} addresses", addresses.len());
        for pod in &pods {
            let of = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let node = NODES.iter().position(|(name, _)| *name == of("/spec/nodeName")).context("an unknown node")?;
            ensure!(
                of("/status/podIP").starts_with(&many(node)),
                "{} on {}",
                of("/status/podIP"),
                of("/spec/nodeName")
            );
        }
        plane.kubectl("scale deployment crowd --namespace crowd --replicas=0")?;
        wait_until("some of many to go", SLOW, || ensure_that(ready(plane)? < MANY, "none is gone"))?;
        for node in nodes.iter_mut() {
            kill_containers(node, "speaker")?;
            node.kill_containerd(scene)?;
        }
        wait_until("all of many to go", SLOW * 2, || {
            let left = plane.get("pods --namespace crowd")?;
            ensure_that(left["items"].as_array().is_some_and(Vec::is_empty), "some are left")
        })?;
        ensure_all_free(plane)?;
        scene.step(&format!("round {round}: {MANY} pods with {MANY} addresses, and none of them kept"));
    }
    Ok(())
}

fn ready(plane: &ControlPlane) -> Result<usize> {
    let deployment = plane.get("deployment crowd --namespace crowd")?;
    let ready = deployment.pointer("/status/readyReplicas").and_then(Value::as_u64).unwrap_or_default();
    Ok(usize::try_from(ready)?)
}

/// Kills what runs in the node's containers of this name; how many there were.
fn kill_containers(node: &Node, name: &str) -> Result<usize> {
    let filter = format!("labels.\"io.kubernetes.container.name\"=={name}");
    let ids = node.ctr(&format!("containers list --quiet {filter}"))?;
    let tasks = node.ctr("tasks list")?;
    let mut killed = 0;
    for id in ids.split_whitespace() {
        let task = tasks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let Some(task) = task.into_iter().find(|words| words.first() == Some(&id)) else { continue };
        if let [_, process, "RUNNING"] = task[..] {
            output_of(Command::new("kill").args(["-KILL", process]))?;
            killed += 1;
        }
    }
    Ok(killed)
}
