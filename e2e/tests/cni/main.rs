//! `roadstead-cni` under the real main plugins, called as a container runtime calls them, on machines with the network cards of a cloud.

mod bad_input;
mod cluster;
mod multus;
mod reach;
mod shared;
mod sticky;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::{Process, Scene, output_of, scene, wait_until};
use serde_json::{Value, json};

/// Manifests are read at once, and tended to every ten seconds.
const SOON: Duration = Duration::from_secs(45);

/// A machine with a network card `ens5` that is a node.
struct Stage<'a> {
    scene: &'a Scene,
    node: Namespace,
    manifests: Manifests,
    speaker: Option<Process>,
}

fn main_plugins() -> Result<PathBuf> {
    let tools =
        std::env::var_os("ROADSTEAD_TOOLS").context("ROADSTEAD_TOOLS is not set: run `cargo xtask test cni`")?;
    Ok(PathBuf::from(tools).with_file_name("cni"))
}

const POOLS: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: ens5}
spec:
  subnet: 172.31.16.0/20
  # The first is the gateway's, which no pod gets, and the second the node's own.
  ranges: [172.31.16.1-172.31.16.14]
  gateway: 172.31.16.1
  nodeNames: [node-1]
  networks: [kube-system/ens5]
  default: true
---
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: ens6}
spec:
  subnet: 172.31.32.0/20
  gateway: 172.31.32.1
  nodeRanges: [{nodes: [node-1], ranges: [172.31.32.11-172.31.32.14]}]
  networks: [kube-system/ens6]
  default: true
";

impl<'a> Stage<'a> {
    fn build(scene: &'a Scene, pools: &str) -> Result<Self> {
        let node = Namespace::new(scene, "node")?;
        for (card, address) in [("ens5", "172.31.16.2/20"), ("ens6", "172.31.32.2/20")] {
            Fabric::new(scene, &format!("subnet-of-{card}"))?.plug(&node, card, &[address])?;
        }
        let own = "apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: 172.31.16.2}]}
";
        let manifests = Manifests::with(scene, "manifests", &[("node.yaml", own), ("pools.yaml", pools)])?;
        let mut stage = Self { scene, node, manifests, speaker: None };
        stage.start()?;
        Ok(stage)
    }

    fn start(&mut self) -> Result<()> {
        self.speaker = Some(product::run(self.scene, Some(&self.node), &self.manifests, "node-1")?);
        wait_until("the speaker's socket answers", SOON, || {
            self.call("STATUS", &self.config("ipvlan", "ens5"), &Container::default()).map(drop)
        })
    }

    /// Whether the kernel makes interfaces of this kind; those without which no node works are taken for granted.
    fn kernel_has(&self, plugin: &str) -> Result<bool> {
        let kind = match plugin {
            "ipvlan" => "ipvlan",
            "vlan" => "vlan id 7",
            _ => return Ok(true),
        };
        match self.node.ip(&format!("link add link ens5 name probe type {kind}")) {
            Ok(_) => self.node.ip("link del probe").map(|_| true),
            Err(error) if error.to_string().contains("Unknown device type") => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn socket(&self) -> Result<PathBuf> {
        Ok(self.scene.subdirectory("state-node-1")?.join("speaker.sock"))
    }

    fn config(&self, plugin: &str, card: &str) -> Value {
        let socket = self.socket().unwrap_or_default();
        let network = format!("kube-system/{card}");
        json!({
            "cniVersion": "1.1.0",
            "name": card,
            "type": plugin,
            "master": card,
            "ipam": { "type": "roadstead-cni", "socket": socket, "network": network },
        })
    }

    fn call(&self, command: &str, config: &Value, container: &Container) -> Result<Value> {
        call(&self.node, command, config, container)
    }

    /// Lets cnitool call a main plugin, which calls ours.
    fn cnitool(&self, command: &str, config: &Value, container: &Container) -> Result<Value> {
        let mut plugin = config.clone();
        let version = plugin["cniVersion"].take();
        let list = json!({ "cniVersion": version, "name": config["name"], "plugins": [plugin] });
        cnitool(self.scene, &self.node, command, &list, container)
    }

    /// A container with a network namespace of its own.
    fn container(&self, label: &str) -> Result<Container> {
        let netns = Namespace::new(self.scene, label)?.path();
        Ok(Container { id: label.to_owned(), netns: netns.display().to_string(), ..Container::default() })
    }
}

/// Lets cnitool call the plugins of a list.
fn cnitool(scene: &Scene, node: &Namespace, command: &str, list: &Value, container: &Container) -> Result<Value> {
    let plugins = main_plugins()?;
    let ours = product::binary("roadstead-cni")?;
    let path = format!("{}:{}", plugins.display(), ours.parent().context("it lies nowhere")?.display());
    let name = list["name"].as_str().unwrap_or_default();
    let directory = scene.subdirectory(&format!("net.d-{name}"))?;
    fs::write(directory.join("pods.conflist"), list.to_string())?;
    let mut call = node.command(plugins.join("cnitool"));
    container.describe(&mut call);
    // cnitool remembers what it added, below its own directory alone.
    call.env("CNI_PATH", path).env("NETCONFPATH", directory).args([command, name, &container.netns]);
    let text = output_of(&mut call)?;
    Ok(if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).with_context(|| text)? })
}

/// Calls our plugin by itself, as main plugins do; what it answers, or the error that it prints.
fn call(node: &Namespace, command: &str, config: &Value, container: &Container) -> Result<Value> {
    let mut call = node.command(product::binary("roadstead-cni")?);
    container.describe(&mut call);
    call.env("CNI_COMMAND", command).env("CNI_PATH", main_plugins()?).env("CNI_NETNS", &container.netns);
    let mut process = call.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("roadstead-cni")?;
    process.stdin.take().context("no standard input")?.write_all(config.to_string().as_bytes())?;
    let output = process.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let answer =
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).with_context(|| text.to_string())? };
    ensure!(output.status.success(), "{answer}");
    Ok(answer)
}

/// Makes all calls at the same time.
fn at_once<T: Send>(calls: Vec<impl FnOnce() -> Result<T> + Send>) -> Vec<Result<T>> {
    std::thread::scope(|scope| {
        #[allow(clippy::needless_collect, reason = "all are started before the first is waited for")]
        let threads: Vec<_> = calls.into_iter().map(|call| scope.spawn(call)).collect();
        let result = |thread: std::thread::ScopedJoinHandle<'_, Result<T>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a call panicked")))
        };
        threads.into_iter().map(result).collect()
    })
}

/// A container, as a runtime names it.
#[derive(Clone)]
struct Container {
    id: String,
    interface: &'static str,
    netns: String,
    /// The pod's name and UID.
    pod: Option<(String, String)>,
}

impl Default for Container {
    fn default() -> Self {
        Self { id: "c0".to_owned(), interface: "eth0", netns: "/run/netns/none".to_owned(), pod: None }
    }
}

impl Container {
    fn named(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    fn of_pod(id: &str, name: &str, uid: &str) -> Self {
        Self { id: id.to_owned(), pod: Some((name.to_owned(), uid.to_owned())), ..Self::default() }
    }

    fn on(&self, interface: &'static str) -> Self {
        Self { interface, ..self.clone() }
    }

    fn describe(&self, call: &mut Command) {
        call.env("CNI_CONTAINERID", &self.id).env("CNI_IFNAME", self.interface);
        if let Some((name, uid)) = &self.pod {
            let pod = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name};K8S_POD_UID={uid}");
            call.env("CNI_ARGS", pod);
        }
    }
}

fn addresses(answer: &Value) -> Vec<&str> {
    let ips = answer["ips"].as_array().map(Vec::as_slice).unwrap_or_default();
    ips.iter().filter_map(|ip| ip["address"].as_str()).collect()
}

/// The code and the words of the error that an answer was.
#[track_caller]
fn check_refused(answer: Result<Value>, code: u32, words: &[&str]) -> Result<()> {
    let error = match answer {
        Ok(answer) => anyhow::bail!("was not refused: {answer}"),
        Err(error) => error.to_string(),
    };
    let printed: Value = serde_json::from_str(&error).with_context(|| error.clone())?;
    ensure!(printed["code"] == code, "not code {code}: {error}");
    for word in words {
        ensure!(error.contains(word), "no {word:?} in {error}");
    }
    Ok(())
}

#[test]
fn every_main_plugin_in_every_version() -> Result<()> {
    scene("cni-plugins", every_plugin)
}

fn every_plugin(scene: &Scene) -> Result<()> {
    let stage = Stage::build(scene, POOLS)?;
    for plugin in ["ipvlan", "macvlan", "bridge", "ptp", "vlan"] {
        if !stage.kernel_has(plugin)? {
            scene.step(&format!("this kernel has no {plugin}: its plugin was not called"));
            continue;
        }
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let what = format!("{plugin} {version}");
            let mut config = stage.config(plugin, "ens5");
            config["cniVersion"] = version.into();
            if plugin == "vlan" {
                config["vlanId"] = 7.into();
            }
            let container = stage.container(&format!("{plugin}-{}", version.replace('.', "")))?;
            let added = stage.cnitool("add", &config, &container).with_context(|| format!("ADD, {what}"))?;
            let [address] = addresses(&added)[..] else { anyhow::bail!("{what}: {added}") };
            ensure!(address.starts_with("172.31.16.") && address.ends_with("/20"), "{what}: {address}");
            let inside = |arguments: &str| {
                output_of(Command::new("ip").args(["-n", netns_name(&container.netns)]).args(arguments.split(' ')))
            };
            ensure!(inside("-4 address show eth0")?.contains(address), "{what}: {address} is not on the interface");
            ensure!(inside("route show default")?.contains("via 172.31.16.1"), "{what}: no default route");
            if version != "0.3.1" {
                stage.cnitool("check", &config, &container).with_context(|| format!("CHECK, {what}"))?;
            }
            stage.cnitool("del", &config, &container).with_context(|| format!("DEL, {what}"))?;
        }
    }
    // More containers than addresses came and went: none was kept.
    let config = stage.config("ipvlan", "ens5");
    let all: BTreeSet<String> = (0..12)
        .map(|n| {
            stage.call("ADD", &config, &Container::named(&format!("n{n}"))).map(|answer| addresses(&answer).concat())
        })
        .collect::<Result<_>>()?;
    // Fourteen in the range, without the gateway's and the node's own.
    let expected: BTreeSet<String> = (3..=14).map(|n| format!("172.31.16.{n}/20")).collect();
    ensure!(all == expected, "{all:?}");
    let last = stage.call("ADD", &config, &Container::named("one-more"));
    check_refused(last, 101, &["no IPv4 address is free", "pool ens5: all of its addresses for this node are taken"])?;
    let status = stage.call("STATUS", &config, &Container::default());
    check_refused(status, 50, &["no address is free on node node-1", "ens5"])
}

fn netns_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[test]
fn an_interface_keeps_its_address_and_no_other_gets_it() -> Result<()> {
    scene("cni-verbs", every_verb)
}

fn every_verb(scene: &Scene) -> Result<()> {
    let mut stage = Stage::build(scene, POOLS)?;
    let (ens5, ens6) = (stage.config("ipvlan", "ens5"), stage.config("ipvlan", "ens6"));
    let first = Container::of_pod("c1", "front-0", "u1");
    let added = stage.call("ADD", &ens5, &first)?;
    ensure!(added == stage.call("ADD", &ens5, &first)?, "the same asked again is answered the same");
    ensure!(added["routes"] == json!([{ "dst": "0.0.0.0/0", "gw": "172.31.16.1" }]), "{added}");

    // A second card, from the other subnet and without a second default route.
    let second = stage.call("ADD", &ens6, &first.on("net1"))?;
    ensure!(addresses(&second)[0].starts_with("172.31.32.1") && second["routes"] == json!([]), "{second}");

    // Another sandbox of the same pod has its address; the DEL of the one before comes late, and frees nothing.
    let again = Container::of_pod("c2", "front-0", "u1");
    ensure!(addresses(&stage.call("ADD", &ens5, &again)?) == addresses(&added), "the pod has another address now");
    stage.call("DEL", &ens5, &first)?;
    stage.call("CHECK", &ens5, &again)?;
    check_refused(stage.call("CHECK", &ens5, &first), 103, &["c1", "has no addresses"])?;

    // A pod of the same name that is another has another.
    let other = stage.call("ADD", &ens5, &Container::of_pod("c3", "front-0", "u2"))?;
    ensure!(addresses(&other) != addresses(&added), "two pods have {other}");

    // What is asked for is given, or refused in words.
    let mut wish = ens5.clone();
    wish["runtimeConfig"] = json!({ "ips": ["172.31.16.9"] });
    ensure!(
        addresses(&stage.call("ADD", &wish, &Container::named("c4"))?) == ["172.31.16.9/20"],
        "not the requested one"
    );
    check_refused(stage.call("ADD", &wish, &Container::named("c5")), 102, &["172.31.16.9 is taken"])?;
    for (address, words) in
        [("172.31.16.1", "is not among"), ("172.31.16.2", "172.31.16.2 is"), ("172.31.16.200", "is not among")]
    {
        wish["runtimeConfig"]["ips"] = json!([address]);
        check_refused(stage.call("ADD", &wish, &Container::named("c5")), 102, &[address, words])?;
    }

    // A network that a pool is not for.
    let mut elsewhere = stage.config("ipvlan", "ens6");
    elsewhere["ipam"]["network"] = "kube-system/ens7".into();
    elsewhere["ipam"]["pools"] = json!(["ens6", "none"]);
    let words = ["pool ens6: not for network kube-system/ens7", "pool none: there is no such pool"];
    check_refused(stage.call("ADD", &elsewhere, &Container::named("c6")), 100, &words)?;

    // GC keeps what it names, and what is of other networks.
    let mut valid = ens5.clone();
    valid["cni.dev/valid-attachments"] = json!([{ "containerID": "c2", "ifname": "eth0" }]);
    stage.call("GC", &valid, &Container::default())?;
    stage.call("CHECK", &ens5, &again)?;
    stage.call("CHECK", &ens6, &first.on("net1"))?;
    check_refused(stage.call("CHECK", &ens5, &Container::named("c4")), 103, &["c4"])?;

    // Killed, with half a line in its journal: nobody loses an address, and a DEL that nobody heard is done afterwards.
    let journal = scene.subdirectory("state-node-1")?.join("pods.journal");
    let mut speaker = stage.speaker.take().context("no speaker")?;
    speaker.signal("KILL")?;
    speaker.wait(SOON)?;
    fs::OpenOptions::new().append(true).open(&journal)?.write_all(b"{\"has\":{\"owner")?;
    stage.call("DEL", &ens6, &first.on("net1"))?;
    check_refused(stage.call("ADD", &ens5, &again), 11, &["speaker.sock"])?;
    check_refused(stage.call("STATUS", &ens5, &again), 50, &["speaker.sock"])?;
    stage.start()?;
    ensure!(addresses(&stage.call("ADD", &ens5, &again)?) == addresses(&added), "the pod has another address now");
    wait_until("the DEL that was left is done", SOON, || {
        check_refused(stage.call("CHECK", &ens6, &first.on("net1")), 103, &["c1"])
    })
}

#[test]
fn two_hundred_at_once_and_containers_that_vanish() -> Result<()> {
    scene("cni-many", many_containers)
}

fn many_containers(scene: &Scene) -> Result<()> {
    let pool = "
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: wide}
spec: {subnet: 10.64.0.0/24, gateway: 10.64.0.1, nodeNames: [node-1], default: true}
";
    let stage = Stage::build(scene, pool)?;
    let config = stage.config("ipvlan", "ens5");
    // Files are enough: of a container's network namespace it is looked whether its path is still there.
    let netns = |n: usize| scene.directory().join(format!("netns-{n}"));
    let add_all = |from: usize| -> Result<BTreeSet<String>> {
        let add = &|n: usize| {
            fs::write(netns(n), "").context("cannot write a file")?;
            let netns = netns(n).to_string_lossy().into_owned();
            let container = Container { netns, ..Container::named(&format!("c{n}")) };
            stage.call("ADD", &config, &container).map(|answer| addresses(&answer).concat())
        };
        at_once((from..from + 200).map(|n| move || add(n)).collect()).into_iter().collect()
    };
    ensure!(add_all(0)?.len() == 200, "two containers have one address");
    // As after a reboot: nobody says that they are gone, and it is found out.
    for n in 0..200 {
        fs::remove_file(netns(n)).context("cannot remove a file")?;
    }
    let mut addresses = None;
    wait_until("the addresses of vanished containers are free", SOON, || {
        addresses = Some(add_all(200)?);
        Ok(())
    })?;
    ensure!(addresses.is_some_and(|all| all.len() == 200), "two containers have one address");
    Ok(())
}
