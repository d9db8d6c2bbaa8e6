//! Links without addresses: everything between the two machines is link-local, and each learns who the other is from its router
//! advertisements.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::network::Namespace;
use crate::process::Process;
use crate::scene::Scene;

/// Ours, as [`peer`] has it.
pub const NODE_ASN: u32 = 64500;

/// The BGPPeer of whoever is behind an interface, by the name `behind-INTERFACE`. `mode` is `listen`, `passive`, or anything else
/// behind a `#`. More lines of its spec may follow.
pub fn peer(interface: &str, mode: &str) -> String {
    format!(
        "apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {{name: behind-{interface}}}
spec:
  localASN: {NODE_ASN}
  peerType: External
  interface: {interface}
  routerID: 10.99.0.11
  {mode}: true
  timers: {{holdSeconds: 9, keepaliveSeconds: 3, connectRetrySeconds: 1}}
  import: {{accept: [{{prefix: 198.51.100.0/24, le: 32}}, {{prefix: \"2001:db8:51::/48\"}}, {{prefix: \"2001:db8:f::/48\", le: 128}}]}}
"
    )
}

/// Gives an interface this one link-local address.
pub fn set_link_local(machine: &Namespace, interface: &str, address: &str) -> Result<()> {
    machine.ip(&format!("address flush dev {interface} scope link"))?;
    machine.ip(&format!("address add {address}/64 dev {interface} nodad")).map(drop)
}

/// Sends router advertisements on a machine's `eth0`, beside a daemon that sends none: a BIRD without BGP. Nobody is to send it
/// packets for that.
pub fn advertise(scene: &Scene, machine: &Namespace) -> Result<Process> {
    let directory = scene.subdirectory(&format!("advertiser-{}", machine.name()))?;
    let file = directory.join("bird.conf");
    const CONFIGURATION: &str = "log stderr all;\nrouter id 10.99.0.99;\nprotocol device {}\n\
        protocol radv { interface \"eth0\" { min ra interval 3; max ra interval 4; default lifetime 0; }; }\n";
    fs::write(&file, CONFIGURATION).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = machine.command("bird");
    command.arg("-f").arg("-c").arg(&file).arg("-s").arg(directory.join("ctl")).arg("-P").arg(directory.join("pid"));
    let mut process = Process::start(scene, "advertiser", &command)?;
    process.wait_for_log("Started", Duration::from_secs(20))?;
    Ok(process)
}
