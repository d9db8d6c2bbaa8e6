//! Two real nodes, a real router, and a client behind it: packets reach a Pod through the address of its Service, and
//! the route is where the Pods are.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::kubernetes::{Chart, ControlPlane, Node, NodeSpec, User, build_image};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::routers::{Frr, Neighbor, RouterConfig};
use roadstead_e2e::{Process, Scene, output_of, product, scene, wait_until};

const IMAGE: &str = "localhost/roadstead-e2e/box:1";
/// What the pool hands out first, and only.
const ADDRESS: &str = "203.0.113.10";
const NODES: [(&str, &str, &str); 2] =
    [("node-1", "10.99.0.11", "10.88.1.0/24"), ("node-2", "10.99.0.12", "10.88.2.0/24")];
/// A Pod starts, its endpoint is published, its address is announced, kube-proxy has its rules.
const SLOW: Duration = Duration::from_secs(90);

const OBJECTS: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: [203.0.113.10/32]}
---
apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {name: router}
spec: {localASN: 64500, peerASN: 64512, address: 10.99.0.1, timers: {connectRetrySeconds: 1}}
---
apiVersion: roadstead.dev/v1alpha1
kind: Advertisement
metadata: {name: all}
spec: {from: [{loadBalancers: {}}]}
";

const WORKLOAD: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {kubernetes.io/hostname: node-1}
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: localhost/roadstead-e2e/box:1
        imagePullPolicy: Never
        command: [sh, -c, \"mkdir -p /www && echo $NODE > /www/index.html && exec httpd -f -p 8080 -h /www\"]
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
";

#[test]
fn a_client_reaches_pods_wherever_they_are() -> Result<()> {
    scene("a client reaches Pods wherever they are", |scene| {
        let network = Network::build(scene)?;
        let mut plane = ControlPlane::start(scene, Some(&network.control), "10.99.0.100", &[])?;
        plane.start_controllers(scene)?;
        scene.step("control plane is up");

        let image = build_image(scene, IMAGE)?;
        let mut nodes = Vec::new();
        for (machine, (name, address, pod_subnet)) in network.nodes.iter().zip(NODES) {
            let spec =
                NodeSpec { name, address, pod_subnet: Some(pod_subnet), image: (&image, IMAGE), more_images: &[] };
            nodes.push(Node::start(scene, machine, &plane, &spec)?);
            scene.step(&format!("{name} is Ready"));
        }

        let chart = Chart::render()?;
        plane.apply(&chart.crds())?;
        plane.kubectl("create namespace roadstead-system")?;
        plane.apply(&chart.rights())?;
        wait_until("our kinds to be served", SLOW, || plane.apply(OBJECTS))?;
        let router = Frr::start_with_kernel(scene, &network.router, &router_config()?)?;
        let _ours = start_roadstead(scene, &network, &plane)?;

        plane.apply(WORKLOAD)?;
        wait_until("the Service's address", SLOW, || {
            let service = plane.get("service web")?;
            let address = service.pointer("/status/loadBalancer/ingress/0/ip").context("no address yet")?;
            ensure!(address == ADDRESS, "the address is {address}");
            Ok(())
        })?;
        wait_until("one next hop in the router's kernel", SLOW, || network.ensure_kernel_route(&["10.99.0.11"]))?;
        wait_until("the Pod to answer", SLOW, || network.ensure_answer("node-1"))?;
        scene.step("the client reaches the Pod on node-1");

        plane.kubectl_as(
            User::ADMIN,
            &[
                "patch",
                "deployment",
                "web",
                "--patch",
                r#"{"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "node-2"}}}}}"#,
            ],
        )?;
        wait_until("the route to follow", SLOW, || network.ensure_kernel_route(&["10.99.0.12"]))?;
        wait_until("the Pod to answer", SLOW, || network.ensure_answer("node-2"))?;
        scene.step("the Pod moved to node-2, and the route with it");

        plane.kubectl_as(
            User::ADMIN,
            &[
                "patch",
                "deployment",
                "web",
                "--patch",
                r#"{"spec": {"replicas": 2, "template": {"spec": {"nodeSelector": null, "topologySpreadConstraints": [{
                "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "web"}}, "matchLabelKeys": ["pod-template-hash"]}]}}}}"#,
            ],
        )?;
        let both = ["10.99.0.11", "10.99.0.12"];
        wait_until("two next hops in the router's kernel", SLOW, || network.ensure_kernel_route(&both))?;
        // The router spreads connections, and every node that it knows answers.
        for (name, _, _) in NODES {
            wait_until("each Pod to answer", SLOW, || network.ensure_answer(name))?;
        }
        scene.step("two Pods, two next hops, both answer");

        plane.kubectl("scale deployment web --replicas=0")?;
        wait_until("the route to go", SLOW, || network.ensure_kernel_route(&[]))?;
        router.ask("show bgp summary")?;
        scene.step("no Pods, no route");
        Ok(())
    })
}

/// A router between a client and the cluster.
struct Network {
    router: Namespace,
    client: Namespace,
    control: Namespace,
    nodes: Vec<Namespace>,
}

impl Network {
    fn build(scene: &Scene) -> Result<Self> {
        let inside = Fabric::new(scene, "inside")?;
        let outside = Fabric::new(scene, "outside")?;
        let router = inside.machine(scene, "router", &["10.99.0.1/24"])?;
        outside.plug(&router, "eth1", &["10.98.0.1/24"])?;
        router.forward()?;
        // Spread by ports too, so that one client sees every path.
        router.run("sysctl", "-qw net.ipv4.fib_multipath_hash_policy=1")?;
        let client = outside.machine(scene, "client", &["10.98.0.2/24"])?;
        client.ip("route add default via 10.98.0.1")?;
        let control = inside.machine(scene, "control", &["10.99.0.100/24"])?;
        control.ip("route add default via 10.99.0.1")?;
        let nodes: Result<Vec<Namespace>> = NODES
            .iter()
            .map(|(name, address, _)| {
                let machine = inside.machine(scene, name, &[&format!("{address}/24")])?;
                machine.ip("route add default via 10.99.0.1")?;
                Ok(machine)
            })
            .collect();
        Ok(Self { router, client, control, nodes: nodes? })
    }

    /// Fails, saying what it saw, unless exactly these next hops lead to the address in the router's kernel.
    fn ensure_kernel_route(&self, expected: &[&str]) -> Result<()> {
        let shown = self.router.ip(&format!("route show {ADDRESS}"))?;
        let mut found: Vec<&str> = Vec::new();
        let mut words = shown.split_whitespace();
        while let Some(word) = words.next() {
            if word == "via" {
                found.extend(words.next());
            }
        }
        found.sort_unstable();
        ensure!(found == expected, "next hops in the router's kernel: {found:?}, not {expected:?}");
        Ok(())
    }

    /// Fails, saying what it saw, unless the Service's address answers with this node's name.
    fn ensure_answer(&self, node: &str) -> Result<()> {
        // bash, because busybox's static wget falls over in glibc's resolver, and nothing else is on every Debian.
        let script = format!(r#"exec 3<>/dev/tcp/{ADDRESS}/80; printf "GET / HTTP/1.0\r\n\r\n" >&3; cat <&3"#);
        let response = output_of(self.client.command("timeout").args(["2", "bash", "-c", &script]))?;
        let answer = response.lines().last().unwrap_or_default();
        ensure!(answer == node, "{ADDRESS} answered {answer:?}, not {node}");
        Ok(())
    }
}

fn router_config() -> Result<RouterConfig> {
    let neighbors: Result<Vec<Neighbor>> = NODES.iter().map(|(_, address, _)| Neighbor::new(address, 64500)).collect();
    Ok(RouterConfig { asn: 64512, router_id: "10.99.0.1", neighbors: neighbors?, routes: &[] })
}

/// The controller beside the control plane, a speaker on each node, all with the chart's rights.
fn start_roadstead(scene: &Scene, network: &Network, plane: &ControlPlane) -> Result<Vec<Process>> {
    let mut controller = product::command("roadstead-controller", Some(&network.control))?;
    controller.arg("--kubeconfig").arg(plane.kubeconfig(User::CONTROLLER));
    let mut processes = vec![Process::start(scene, "controller", &controller)?];
    for (machine, (name, _, _)) in network.nodes.iter().zip(NODES) {
        let mut speaker = product::command("roadstead-speaker", Some(machine))?;
        speaker.arg("--kubeconfig").arg(plane.speaker_kubeconfig(name)?).args(["--node", name]);
        processes.push(Process::start(scene, &format!("speaker-{name}"), &speaker)?);
    }
    Ok(processes)
}
