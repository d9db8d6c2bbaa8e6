//! The devices under test: each takes the same clients, and does for them what a route server does.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use roadstead_e2e::network::Namespace;
use roadstead_e2e::{Process, Scene, product, run};

use crate::floor;
use crate::load::{CLIENT_ASNS, Client, DEVICE, DEVICE_ASN};

/// What stands between feeders and monitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Device {
    Floor,
    Bird,
    Frr,
    Roadstead,
}

impl Device {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Bird => "BIRD",
            Self::Frr => "FRR",
            Self::Roadstead => "roadstead",
        }
    }

    /// Starts it on its machine. It may need a moment until it takes sessions.
    pub(crate) fn start(self, scene: &Scene, machine: &Namespace, clients: &[Client]) -> Result<Process> {
        let directory = scene.subdirectory(self.name())?;
        let command = match self {
            Self::Floor => {
                let mut command = machine.command(std::env::current_exe().context("cannot tell who we are")?);
                command.arg(floor::ARGUMENT);
                command
            }
            Self::Bird => {
                let file = directory.join("bird.conf");
                fs::write(&file, bird(clients)?).with_context(|| format!("cannot write {}", file.display()))?;
                let mut command = machine.command("bird");
                command.args(["-f", "-c"]).arg(&file).arg("-s").arg(directory.join("ctl"));
                command.arg("-P").arg(directory.join("pid"));
                command
            }
            Self::Frr => {
                let file = directory.join("frr.conf");
                fs::write(&file, frr(clients)?).with_context(|| format!("cannot write {}", file.display()))?;
                // bgpd gives up root for this user, and then makes its sockets here.
                run("chown", &format!("frr:frr {}", directory.display()))?;
                let mut command = machine.command("/usr/lib/frr/bgpd");
                // Without zebra: no kernel table, as BIRD without its kernel protocol.
                command.args(["-Z", "--log", "stdout", "--vty_socket"]).arg(&directory).arg("-f").arg(&file);
                command.arg("-i").arg(directory.join("bgpd.pid")).arg("-z").arg(directory.join("zserv.api"));
                command
            }
            Self::Roadstead => {
                let manifests = product::Manifests::with(scene, "roadstead", &[("server.yaml", &roadstead())])?;
                let mut command = product::command("roadstead", Some(machine))?;
                command.args(["route-server", "--manifests"]).arg(manifests.path());
                // As in production: a debug log of every session would be measured too.
                command.env("RUST_LOG", "info");
                command
            }
        };
        let mut process = Process::start(scene, self.name(), &command)?;
        if self == Self::Bird {
            process.wait_for_log("Started", Duration::from_secs(10))?;
        }
        Ok(process)
    }
}

/// Nothing but the sessions: no kernel, no filters, no debugging, and timers that wait for nothing.
fn bird(clients: &[Client]) -> Result<String> {
    let mut text = format!("log stderr all;\nrouter id {DEVICE};\nprotocol device {{}}\n");
    for client in clients {
        writeln!(text, "protocol bgp as{} {{", client.asn)?;
        writeln!(text, "  local {DEVICE} as {DEVICE_ASN};\n  neighbor {} as {};", client.address, client.asn)?;
        writeln!(text, "  rs client; passive on; connect delay time 1; error wait time 1, 1;")?;
        writeln!(text, "  ipv4 {{ import all; export all; }};\n}}")?;
    }
    Ok(text)
}

/// One entry for all: that the clients are who they are is known from their OPENs.
fn roadstead() -> String {
    let (first, last) = (CLIENT_ASNS.start, CLIENT_ASNS.end - 1);
    format!(
        "apiVersion: roadstead.dev/v1alpha1
kind: RouteServer
metadata: {{name: default}}
spec:
  asn: {DEVICE_ASN}
  routerID: {DEVICE}
  listen: [\"{DEVICE}:179\"]
  clients:
  - {{name: clients, prefix: 10.77.0.0/16, asnRanges: [{{from: {first}, to: {last}}}], families: [IPv4Unicast]}}
"
    )
}

fn frr(clients: &[Client]) -> Result<String> {
    let mut text = format!("frr defaults traditional\nhostname device\nrouter bgp {DEVICE_ASN}\n");
    writeln!(text, " bgp router-id {DEVICE}\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast")?;
    // By default it waits for a second after each change before it tells a peer of it.
    writeln!(text, " coalesce-time 0")?;
    for Client { address, asn, .. } in clients {
        writeln!(text, " neighbor {address} remote-as {asn}\n neighbor {address} passive")?;
        writeln!(text, " neighbor {address} advertisement-interval 0\n neighbor {address} timers connect 1")?;
    }
    writeln!(text, " address-family ipv4 unicast")?;
    for Client { address, .. } in clients {
        writeln!(text, "  neighbor {address} activate\n  neighbor {address} route-server-client")?;
    }
    writeln!(text, " exit-address-family")?;
    Ok(text)
}
