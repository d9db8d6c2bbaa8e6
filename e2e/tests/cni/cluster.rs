//! Nodes with a speaker each at a real API server, under the rights of the chart: no kubelet, so that a test says which pods there are
//! and makes a runtime's calls for them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use roadstead_e2e::kubernetes::{Chart, ControlPlane, User};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::{Process, Scene, product};
use serde_json::{Value, json};

use super::{Container, SOON, call};

pub(super) struct Cluster<'a> {
    scene: &'a Scene,
    pub(super) plane: ControlPlane,
    pub(super) nodes: Vec<Node>,
    _controller: Process,
}

pub(super) struct Node {
    pub(super) name: &'static str,
    machine: Namespace,
    socket: PathBuf,
    speaker: Option<Process>,
}

impl<'a> Cluster<'a> {
    /// Nodes of these names on one switch, beside an API server with these objects.
    pub(super) fn build(scene: &'a Scene, names: &[&'static str], objects: &str) -> Result<Self> {
        let fabric = Fabric::new(scene, "switch")?;
        let control = fabric.machine(scene, "control", &["10.99.0.100/24"])?;
        let plane = ControlPlane::start(scene, Some(&control), "10.99.0.100", &[])?;
        plane.serve_our_kinds()?;
        plane.kubectl("create namespace roadstead-system")?;
        plane.apply(&Chart::render_with(&["speaker.pods=true"])?.rights())?;
        plane.apply(objects)?;
        let mut controller = product::command("roadstead-controller", Some(&control))?;
        controller.arg("--kubeconfig").arg(plane.kubeconfig(User::CONTROLLER));
        let controller = Process::start(scene, "controller", &controller)?;
        let mut cluster = Self { scene, plane, nodes: Vec::new(), _controller: controller };
        for (name, host) in names.iter().zip(11..) {
            let address = format!("10.99.0.{host}");
            cluster.plane.make_node(name, &[&address])?;
            let machine = fabric.machine(scene, name, &[&format!("{address}/24")])?;
            let socket = scene.subdirectory(&format!("state-{name}"))?.join("speaker.sock");
            cluster.nodes.push(Node { name, machine, socket, speaker: None });
            cluster.start_speaker(cluster.nodes.len() - 1)?;
        }
        scene.step("every node has its speaker");
        Ok(cluster)
    }

    pub(super) fn start_speaker(&mut self, number: usize) -> Result<()> {
        let node = &mut self.nodes[number];
        let mut command = product::command("roadstead-speaker", Some(&node.machine))?;
        command.arg("--kubeconfig").arg(self.plane.speaker_kubeconfig(node.name)?).args(["--node", node.name]);
        command.arg("--state").arg(node.socket.with_file_name("")).arg("--socket").arg(&node.socket);
        node.speaker = Some(Process::start(self.scene, &format!("speaker-{}", node.name), &command)?);
        Ok(())
    }

    pub(super) fn kill_speaker(&mut self, number: usize) -> Result<()> {
        let mut speaker = self.nodes[number].speaker.take().context("no speaker")?;
        speaker.signal("KILL")?;
        speaker.wait(SOON).map(drop)
    }

    /// The UID of a pod of namespace `shop`.
    pub(super) fn uid_of(&self, pod: &str) -> Result<String> {
        let object = self.plane.get(&format!("pod -n shop {pod}"))?;
        Ok(object.pointer("/metadata/uid").and_then(Value::as_str).context("no UID")?.to_owned())
    }

    /// A directory for files of the test.
    pub(super) fn directory(&self) -> Result<PathBuf> {
        self.scene.subdirectory("files")
    }

    /// The claims that there are.
    pub(super) fn claims(&self) -> Result<Vec<Value>> {
        let list = self.plane.get("addressclaims")?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }
}

impl Node {
    /// Calls our plugin by itself, as main plugins do.
    pub(super) fn call(&self, command: &str, container: &Container) -> Result<Value> {
        self.call_with(command, container, &json!({}))
    }

    /// The same with more keys in the network's configuration.
    pub(super) fn call_with(&self, command: &str, container: &Container, more: &Value) -> Result<Value> {
        let mut config = json!({
            "cniVersion": "1.0.0", "name": "net", "type": "bridge",
            "ipam": { "type": "roadstead-cni", "socket": self.socket },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        call(&self.machine, command, &config, container)
    }
}

/// A pod of namespace `shop`, given to a node.
pub(super) fn pod(name: &str, node: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop}}
spec: {{nodeName: {node}, automountServiceAccountToken: false, containers: [{{name: c, image: none}}]}}
"
    )
}
