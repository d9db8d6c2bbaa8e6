//! A real node on one machine of the scene: containerd, kubelet and kube-proxy.
//!
//! containerd and the kubelet share a mount namespace that is theirs alone: what they mount for Pods (root file systems,
//! tokens, network namespaces) is gone with them, whatever way they go.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{ControlPlane, User, tool};
use crate::network::Namespace;
use crate::process::Process;
use crate::run::run;
use crate::scene::Scene;

/// From the kubelet's start to a Node that is Ready; ten seconds where this was written.
const READY: Duration = Duration::from_secs(90);
const CGROUPS: &str = "/sys/fs/cgroup";

/// Directories of the machine that daemons write to whatever they are told, or that Pods mount: in the node's mount
/// namespace each is empty and its own.
const PRIVATE_DIRECTORIES: &[&str] = &[
    "/etc/cni/net.d",
    "/opt/cni/bin",
    "/run/containerd",
    "/run/netns",
    "/run/roadstead",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/lib/roadstead",
    "/var/log/containers",
];
/// Plugins that a node has from the start. What is not Debian's is among the tools.
const PLUGINS: &[&str] = &["bridge", "host-local", "loopback", "macvlan"];

/// What a node is made of.
pub struct NodeSpec<'a> {
    pub name: &'a str,
    /// Its address on `eth0`.
    pub address: &'a str,
    /// The addresses of its Pods, a /24, from a bridge; `None`: somebody else brings a list of plugins.
    pub pod_subnet: Option<&'a str>,
    /// Tarball of the image that its Pods use, and the image's name.
    pub image: (&'a Path, &'a str),
    /// Tarballs of further images.
    pub more_images: &'a [&'a Path],
}

/// A running node.
pub struct Node {
    // Dropped in this order: the kubelet first, or it would restart what dies.
    _kube_proxy: Process,
    _kubelet: Process,
    containerd: Process,
    /// Does nothing but keep the node's mount and network namespaces.
    anchor: Process,
    name: String,
    directory: PathBuf,
}

impl Node {
    /// Starts a node on `machine` and waits until its kubelet has told of it; Ready it is when Pods have a network.
    pub fn start(scene: &Scene, machine: &Namespace, plane: &ControlPlane, spec: &NodeSpec<'_>) -> Result<Self> {
        let name = spec.name;
        let directory = scene.subdirectory(name)?;
        machine.forward()?;
        let cgroup = make_cgroup(&format!("{}-{name}", scene.id()))?;
        write_configuration(&directory, spec, &cgroup)?;
        let mut anchor = start_anchor(scene, machine, &directory, spec)?;

        let containerd = start_containerd(scene, &anchor, &directory, name)?;
        for image in spec.more_images.iter().copied().chain([spec.image.0]) {
            anchor.wait_until("containerd to take the image", Duration::from_secs(120), || {
                let socket = directory.join("containerd.sock");
                let arguments =
                    format!("--address {} --namespace k8s.io images import {}", socket.display(), image.display());
                run("ctr", &arguments).map(drop)
            })?;
        }

        let kubeconfig = plane.kubeconfig(User::ADMIN);
        let mut kubelet = inside(&anchor, &tool("kubelet")?);
        kubelet.arg("--config").arg(directory.join("kubelet.yaml")).arg("--kubeconfig").arg(&kubeconfig);
        kubelet.arg("--root-dir").arg(directory.join("kubelet")).arg("--cert-dir").arg(directory.join("pki"));
        kubelet.arg(format!("--hostname-override={name}")).arg(format!("--node-ip={}", spec.address));
        let mut kubelet = Process::start(scene, &format!("kubelet-{name}"), &kubelet)?;

        let mut kube_proxy = machine.command(tool("kube-proxy")?);
        kube_proxy.arg("--kubeconfig").arg(&kubeconfig).arg(format!("--hostname-override={name}"));
        // conntrack-max is the machine's and not the namespace's: not ours to set.
        kube_proxy.args(["--proxy-mode=nftables", "--conntrack-max-per-core=0", "--cluster-cidr=10.88.0.0/16"]);
        let kube_proxy = Process::start(scene, &format!("kube-proxy-{name}"), &kube_proxy)?;

        let brings_network = spec.pod_subnet.is_some();
        kubelet.wait_until(&format!("{name} to be Ready"), READY, || {
            let node = plane.get(&format!("node {name}"))?;
            ensure!(!brings_network || is_ready(&node)?, "it is not Ready");
            Ok(())
        })?;
        let name = name.to_owned();
        Ok(Self { _kube_proxy: kube_proxy, _kubelet: kubelet, containerd, anchor, name, directory })
    }

    /// Kills containerd with SIGKILL and starts it again; the containers go on.
    pub fn kill_containerd(&mut self, scene: &Scene) -> Result<()> {
        self.containerd.signal("KILL")?;
        self.containerd.wait(Duration::from_secs(10))?;
        self.containerd = start_containerd(scene, &self.anchor, &self.directory, &self.name)?;
        Ok(())
    }

    /// A command that sees the node's files and network.
    pub fn command(&self, program: &Path) -> Command {
        inside(&self.anchor, program)
    }

    /// A command of containerd's client, arguments separated by blanks.
    pub fn ctr(&self, arguments: &str) -> Result<String> {
        let socket = self.directory.join("containerd.sock");
        run("ctr", &format!("--address {} --namespace k8s.io {arguments}", socket.display()))
    }
}

/// Whether a Node says that it is Ready.
pub fn is_ready(node: &serde_json::Value) -> Result<bool> {
    let conditions = node.pointer("/status/conditions").and_then(|list| list.as_array()).context("no conditions")?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").context("no condition Ready")?;
    Ok(ready["status"] == "True")
}

fn start_anchor(scene: &Scene, machine: &Namespace, directory: &Path, spec: &NodeSpec<'_>) -> Result<Process> {
    let mut lines: Vec<String> =
        PRIVATE_DIRECTORIES.iter().map(|path| format!("mkdir -p {path} && mount -t tmpfs tmpfs {path}")).collect();
    for plugin in PLUGINS {
        let newer = tool("kubectl")?.with_file_name("../cni").join(plugin);
        let from = if newer.exists() { newer } else { Path::new("/usr/lib/cni").join(plugin) };
        lines.push(format!("cp --dereference {} /opt/cni/bin/{plugin}", from.display()));
    }
    // What a container mounts of it is to follow what comes later; so is what it covers, which containerd finds first.
    lines.push("mount --make-rshared /run/netns".to_owned());
    lines.insert(0, "{ mount --make-rshared /run/netns || true; }".to_owned());
    if spec.pod_subnet.is_some() {
        lines.push(format!("cp {}/10-pods.conflist /etc/cni/net.d/", directory.display()));
    }
    let done = directory.join("mounted");
    lines.push(format!("touch {} && exec sleep infinity", done.display()));
    let mut command = machine.command("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &lines.join(" && ")]);
    let mut anchor = Process::start(scene, &format!("machine-{}", spec.name), &command)?;
    anchor.wait_until("the machine's directories", Duration::from_secs(30), || {
        ensure!(done.exists(), "they are not mounted yet");
        Ok(())
    })?;
    Ok(anchor)
}

/// A command in the anchor's namespaces. By its process and not by name: the node has a /run/netns of its own.
fn inside(anchor: &Process, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--target={}", anchor.id())).args(["--mount", "--net", "--"]).arg(program);
    command
}

fn start_containerd(scene: &Scene, anchor: &Process, directory: &Path, name: &str) -> Result<Process> {
    let mut command = inside(anchor, Path::new("/usr/bin/containerd"));
    command.arg("-c").arg(directory.join("containerd.toml"));
    Process::start(scene, &format!("containerd-{name}"), &command)
}

fn write_configuration(directory: &Path, spec: &NodeSpec<'_>, cgroup: &str) -> Result<()> {
    let at = directory.display();
    let sandbox = spec.image.1;
    // restrict_oom_score_adj: runc must not lower the score where CAP_SYS_RESOURCE lacks. native: overlayfs may lack.
    let containerd = format!(
        r#"version = 2
root = "{at}/containerd"
state = "{at}/containerd-run"
[grpc]
  address = "{at}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{at}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
"#
    );
    let (name, subnet) = (spec.name, spec.pod_subnet.unwrap_or_default());
    // host-local keeps its state by network name, so each node has a name and a directory of its own.
    let cni = format!(
        r#"{{"cniVersion":"1.0.0","name":"pods-{name}","plugins":[{{"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":false,
"ipam":{{"type":"host-local","dataDir":"{at}/host-local","ranges":[[{{"subnet":"{subnet}"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}}}}]}}"#
    );
    let kubelet = format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
podLogsDir: {at}/logs
volumePluginDir: {at}/volume-plugins
containerRuntimeEndpoint: unix://{at}/containerd.sock
evictionHard: {{memory.available: "1Mi", nodefs.available: "1%", imagefs.available: "1%"}}
"#
    );
    let files: [(PathBuf, String); 3] = [
        (directory.join("containerd.toml"), containerd),
        (directory.join("10-pods.conflist"), cni),
        (directory.join("kubelet.yaml"), kubelet),
    ];
    for (path, text) in files {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Makes the cgroup below which a kubelet puts its Pods: two kubelets that share a root would end each other's.
fn make_cgroup(name: &str) -> Result<String> {
    let root = Path::new(CGROUPS);
    if root.join("cgroup.controllers").exists() {
        // Version 2: one hierarchy; a controller works below a directory that hands it down.
        let directory = root.join(name);
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let controllers =
            fs::read_to_string(root.join("cgroup.controllers")).context("cannot read cgroup.controllers")?;
        let all: Vec<String> = controllers.split_whitespace().map(|controller| format!("+{controller}")).collect();
        for level in [root, &directory] {
            let file = level.join("cgroup.subtree_control");
            fs::write(&file, all.join(" ")).with_context(|| format!("cannot write {}", file.display()))?;
        }
        return Ok(name.to_owned());
    }
    // Version 1: a directory in each hierarchy, and cpuset wants its two files filled before a process may enter.
    for hierarchy in fs::read_dir(root).context("cannot list the cgroup hierarchies")?.flatten() {
        let directory = hierarchy.path().join(name);
        if hierarchy.path().is_symlink() || !hierarchy.path().is_dir() {
            continue;
        }
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (from, to) = (hierarchy.path().join(file), directory.join(file));
            if from.exists() {
                let value = fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
                fs::write(&to, value).with_context(|| format!("cannot write {}", to.display()))?;
            }
        }
    }
    Ok(name.to_owned())
}
