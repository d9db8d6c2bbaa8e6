//! Called as Multus calls the plugins of a pod's networks: the default network first, then each NetworkAttachmentDefinition with an
//! interface name and a configuration of its own, all with the arguments that Multus writes.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::network::Namespace;
use roadstead_e2e::{Scene, output_of, product, scene};
use serde_json::{Value, json};

use super::{POOLS, Stage, addresses, main_plugins, netns_name};

/// Its sandbox, as the runtime names it.
const SANDBOX: &str = "8f1c0d3e5a7b9c2d4e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5";
/// An interface, the NetworkAttachmentDefinition that it is from, its card, and the address that the pod's annotation asks for.
const NETWORKS: [(&str, &str, &str, Option<&str>); 4] = [
    ("eth0", "ens5", "ens5", None),
    ("net1", "ens6", "ens6", None),
    ("net2", "ens6", "ens6", Some("172.31.32.14")),
    ("net3", "ens5", "ens5", None),
];

/// The configuration of a NetworkAttachmentDefinition as Multus gives it on: in the name of the definition, which names our pools by it.
fn delegate(stage: &Stage<'_>, network: &str, card: &str) -> Result<Value> {
    let ipam = json!({ "type": "roadstead-cni", "socket": stage.socket()? });
    let main =
        json!({ "type": "macvlan", "master": card, "mode": "bridge", "capabilities": { "ips": true }, "ipam": ipam });
    Ok(json!({ "cniVersion": "1.0.0", "name": network, "plugins": [main] }))
}

fn call(stage: &Stage<'_>, verb: &str, netns: &str, number: usize) -> Result<Value> {
    let (interface, network, card, requested) = NETWORKS[number];
    let directory = stage.scene.subdirectory(&format!("multus-{network}"))?;
    std::fs::write(directory.join("delegate.conflist"), delegate(stage, network, card)?.to_string())?;
    let ours = product::binary("roadstead-cni")?;
    let plugins = main_plugins()?;
    let path = format!("{}:{}", plugins.display(), ours.parent().context("it lies nowhere")?.display());
    let mut call: Command = stage.node.command(plugins.join("cnitool"));
    call.env("CNI_CONTAINERID", SANDBOX).env("CNI_IFNAME", interface).env("CNI_PATH", path);
    // Exactly as Multus writes them, its `true` among them.
    let args = format!(
        "IgnoreUnknown=true;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=front-0;K8S_POD_INFRA_CONTAINER_ID={SANDBOX};K8S_POD_UID=u1"
    );
    call.env("CNI_ARGS", args).env("NETCONFPATH", directory);
    if let Some(requested) = requested {
        call.env("CAP_ARGS", json!({ "ips": [requested] }).to_string());
    }
    let text = output_of(call.args([verb, network, netns]))?;
    Ok(if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).with_context(|| text)? })
}

#[test]
fn a_pod_with_four_networks() -> Result<()> {
    scene("cni-multus", networks)
}

fn networks(scene: &Scene) -> Result<()> {
    let stage = Stage::build(scene, POOLS)?;
    let netns = Namespace::new(scene, "pod")?.path().display().to_string();
    let inside = |arguments: &str| {
        output_of(Command::new("ip").args(["-n", netns_name(&netns)]).args(arguments.split_whitespace()))
    };
    let mut given = BTreeSet::new();
    for (number, (interface, _, card, requested)) in NETWORKS.into_iter().enumerate() {
        let added = call(&stage, "add", &netns, number).with_context(|| interface.to_owned())?;
        let [address] = addresses(&added)[..] else { anyhow::bail!("{interface}: {added}") };
        let subnet = if card == "ens5" { "172.31.16." } else { "172.31.32." };
        ensure!(address.starts_with(subnet) && address.ends_with("/20"), "{interface} has {address}");
        ensure!(requested.is_none_or(|wanted| address == format!("{wanted}/20")), "{interface} has {address}");
        ensure!(given.insert(address.to_owned()), "{address} was given twice");
        ensure!(inside(&format!("-4 address show {interface}"))?.contains(address), "{address} is not on {interface}");
    }
    let routes = inside("route show default")?;
    ensure!(routes.lines().count() == 1 && routes.contains("via 172.31.16.1 dev eth0"), "default routes: {routes}");
    scene.step("four interfaces of two networks, four addresses, one default route");

    // Another sandbox's DEL, as Multus makes one from its cache after a restart, takes nothing away; its own takes all, in reverse.
    for number in (0..NETWORKS.len()).rev() {
        call(&stage, "check", &netns, number)?;
        call(&stage, "del", &netns, number)?;
    }
    for number in 0..NETWORKS.len() {
        call(&stage, "del", &netns, number).context("a second DEL")?;
    }
    for (interface, ..) in NETWORKS {
        ensure!(inside(&format!("link show {interface}")).is_err(), "{interface} is still there");
    }
    let again = call(&stage, "add", &netns, 2)?;
    ensure!(addresses(&again) == ["172.31.32.14/20"], "it was not given back: {again}");
    call(&stage, "del", &netns, 2).map(drop)
}
