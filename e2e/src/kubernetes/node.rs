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

/// Directories of the machine that daemons write to whatever they are told: in the node's mount namespace each is empty
/// and its own.
const PRIVATE_DIRECTORIES: &[&str] = &["/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers"];

/// What a node is made of.
pub struct NodeSpec<'a> {
    pub name: &'a str,
    /// Its address on `eth0`.
    pub address: &'a str,
    /// The addresses of its Pods, a /24.
    pub pod_subnet: &'a str,
    /// Tarball of the one image that its Pods use, and the image's name.
    pub image: (&'a Path, &'a str),
}

/// A running node.
pub struct Node {
    // Dropped in this order: the kubelet first, or it would restart what dies.
    _kube_proxy: Process,
    _kubelet: Process,
    _containerd: Process,
}

impl Node {
    /// Starts a node on `machine` and waits until it is Ready.
    pub fn start(scene: &Scene, machine: &Namespace, plane: &ControlPlane, spec: &NodeSpec<'_>) -> Result<Self> {
        let name = spec.name;
        let directory = scene.subdirectory(name)?;
        machine.forward()?;
        let cgroup = make_cgroup(&format!("{}-{name}", scene.id()))?;
        write_configuration(&directory, spec, &cgroup)?;

        let containerd = start_containerd(scene, machine, &directory, spec)?;

        let kubeconfig = plane.kubeconfig(User::ADMIN);
        let mut kubelet = Command::new("nsenter");
        kubelet.arg(format!("--mount=/proc/{}/ns/mnt", containerd.id())).arg("--");
        kubelet.args(words(&machine.command(tool("kubelet")?)));
        kubelet.arg("--config").arg(directory.join("kubelet.yaml")).arg("--kubeconfig").arg(&kubeconfig);
        kubelet.arg("--root-dir").arg(directory.join("kubelet")).arg("--cert-dir").arg(directory.join("pki"));
        kubelet.arg(format!("--hostname-override={name}")).arg(format!("--node-ip={}", spec.address));
        let mut kubelet = Process::start(scene, &format!("kubelet-{name}"), &kubelet)?;

        let mut kube_proxy = machine.command(tool("kube-proxy")?);
        kube_proxy.arg("--kubeconfig").arg(&kubeconfig).arg(format!("--hostname-override={name}"));
        // conntrack-max is the machine's and not the namespace's: not ours to set.
        kube_proxy.args(["--proxy-mode=nftables", "--conntrack-max-per-core=0", "--cluster-cidr=10.88.0.0/16"]);
        let kube_proxy = Process::start(scene, &format!("kube-proxy-{name}"), &kube_proxy)?;

        kubelet.wait_until(&format!("{name} to be Ready"), READY, || {
            let node = plane.get(&format!("node {name}"))?;
            let conditions =
                node.pointer("/status/conditions").and_then(|list| list.as_array()).context("no conditions")?;
            let ready =
                conditions.iter().find(|condition| condition["type"] == "Ready").context("no condition Ready")?;
            ensure!(ready["status"] == "True", "{ready}");
            Ok(())
        })?;
        Ok(Self { _kube_proxy: kube_proxy, _kubelet: kubelet, _containerd: containerd })
    }
}

fn start_containerd(scene: &Scene, machine: &Namespace, directory: &Path, spec: &NodeSpec<'_>) -> Result<Process> {
    let mounts: Vec<String> =
        PRIVATE_DIRECTORIES.iter().map(|path| format!("mkdir -p {path} && mount -t tmpfs tmpfs {path}")).collect();
    let script = format!("{} && exec containerd -c {}/containerd.toml", mounts.join(" && "), directory.display());
    let mut command = machine.command("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    let mut containerd = Process::start(scene, &format!("containerd-{}", spec.name), &command)?;
    let socket = directory.join("containerd.sock");
    let (tarball, _) = spec.image;
    containerd.wait_until("containerd to take the image", Duration::from_secs(60), || {
        let arguments =
            format!("--address {} --namespace k8s.io images import {}", socket.display(), tarball.display());
        run("ctr", &arguments).map(drop)
    })?;
    Ok(containerd)
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
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{at}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
"#
    );
    let (name, subnet) = (spec.name, spec.pod_subnet);
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
    let cni_directory = directory.join("cni");
    fs::create_dir_all(&cni_directory).with_context(|| format!("cannot create {}", cni_directory.display()))?;
    let files: [(PathBuf, String); 3] = [
        (directory.join("containerd.toml"), containerd),
        (cni_directory.join("10-pods.conflist"), cni),
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

fn words(command: &Command) -> Vec<std::ffi::OsString> {
    let mut words = vec![command.get_program().to_owned()];
    words.extend(command.get_args().map(std::ffi::OsStr::to_owned));
    words
}
