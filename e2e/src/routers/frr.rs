//! FRRouting: bgpd alone, or with zebra, which puts what bgpd learns into the kernel.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Path, Router, RouterConfig};
use crate::network::Namespace;
use crate::process::Process;
use crate::run::{output_of, run};
use crate::scene::Scene;
use crate::wait::wait_until;

const DAEMONS: &str = "/usr/lib/frr";

/// A running FRR.
pub struct Frr {
    machine: Namespace,
    sockets: PathBuf,
    bgpd: Process,
    // Held for its drop.
    _zebra: Option<Process>,
}

impl Frr {
    /// bgpd alone: it learns routes, and the kernel knows nothing of them.
    pub fn start(scene: &Scene, machine: &Namespace, config: &RouterConfig) -> Result<Self> {
        Self::start_with(scene, machine, config, false)
    }

    /// With zebra: routes go to the kernel, all equal paths of them.
    pub fn start_with_kernel(scene: &Scene, machine: &Namespace, config: &RouterConfig) -> Result<Self> {
        Self::start_with(scene, machine, config, true)
    }

    fn start_with(scene: &Scene, machine: &Namespace, config: &RouterConfig, kernel: bool) -> Result<Self> {
        let sockets = scene.subdirectory("frr")?;
        let file = sockets.join("frr.conf");
        fs::write(&file, configuration(config)?).with_context(|| format!("cannot write {}", file.display()))?;
        // The daemons give up root for this user, and then make their sockets here.
        run("chown", &format!("frr:frr {}", sockets.display()))?;
        let daemon = |name: &str| {
            let mut command = machine.command(format!("{DAEMONS}/{name}"));
            command.args(["--log", "stdout", "--log-level", "debugging", "--vty_socket"]).arg(&sockets);
            // zebra has nothing to be told: it takes the machine's interfaces as it finds them.
            command.arg("-f").arg(if name == "bgpd" { file.as_path() } else { std::path::Path::new("/dev/null") });
            command.arg("-i").arg(sockets.join(format!("{name}.pid")));
            command.arg("-z").arg(sockets.join("zserv.api"));
            command
        };
        let zebra = if kernel {
            let process = Process::start(scene, "zebra", &daemon("zebra"))?;
            let socket = sockets.join("zserv.api");
            wait_until("zebra's socket", Duration::from_secs(10), || {
                ensure!(socket.exists(), "no {}", socket.display());
                Ok(())
            })?;
            Some(process)
        } else {
            None
        };
        let mut command = daemon("bgpd");
        if !kernel {
            command.arg("-Z");
        }
        let bgpd = Process::start(scene, "bgpd", &command)?;
        let mut frr = Self { machine: machine.clone(), sockets, bgpd, _zebra: zebra };
        wait_until("bgpd to answer", Duration::from_secs(10), || {
            frr.bgpd.ensure_running()?;
            frr.ask("show bgp summary").map(drop)
        })?;
        Ok(frr)
    }

    /// What `vtysh` answers to a `show … json`.
    pub fn ask(&self, question: &str) -> Result<Value> {
        let mut command = self.machine.command("vtysh");
        command.arg("--vty_socket").arg(&self.sockets).args(["-d", "bgpd", "-c", &format!("{question} json")]);
        let answer = output_of(&mut command)?;
        serde_json::from_str(&answer).with_context(|| format!("vtysh answered to {question}: {answer}"))
    }

    /// The last NOTIFICATION of a session in both directions: code and subcode in hexadecimal, and FRR's words for it.
    pub fn last_notification(&self, neighbor: IpAddr) -> Result<String> {
        let answer = self.ask(&format!("show bgp neighbors {neighbor}"))?;
        let state = super::member(&answer, &neighbor.to_string())?;
        let text = |name: &str| state.get(name).and_then(Value::as_str).unwrap_or_default();
        Ok(format!("{} {} {}", text("lastErrorCodeSubcode"), text("lastNotificationReason"), text("lastResetDueTo")))
    }

    /// Has it ask a neighbor for everything again (RFC 2918).
    pub fn ask_again(&self, neighbor: IpAddr) -> Result<()> {
        let mut command = self.machine.command("vtysh");
        command.arg("--vty_socket").arg(&self.sockets);
        command.args(["-d", "bgpd", "-c", &format!("clear bgp {neighbor} soft in")]);
        output_of(&mut command).map(drop)
    }

    /// All that bgpd has logged.
    pub fn log(&self) -> String {
        self.bgpd.log()
    }
}

impl Router for Frr {
    fn name(&self) -> &'static str {
        "FRR"
    }

    fn paths(&self, prefix: &str) -> Result<Vec<Path>> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let answer = self.ask(&format!("show bgp {family} unicast {prefix}"))?;
        let Some(paths) = answer.get("paths").and_then(Value::as_array) else { return Ok(Vec::new()) };
        paths.iter().map(path).collect()
    }

    fn session(&self, neighbor: IpAddr) -> Result<String> {
        let answer = self.ask(&format!("show bgp neighbors {neighbor}"))?;
        let state = super::member(&answer, &format!("{neighbor}/bgpState"))?;
        Ok(state.as_str().unwrap_or_default().to_owned())
    }
}

/// Of an IPv6 path FRR tells the global next hop and, where there is one, the link-local one; the global counts.
fn path(path: &Value) -> Result<Path> {
    let next_hops = path.get("nexthops").and_then(Value::as_array).context("a path without nexthops")?;
    let global = next_hops.iter().find(|hop| hop.get("scope").and_then(Value::as_str) != Some("link-local"));
    let address = global.and_then(|hop| hop.get("ip")).and_then(Value::as_str).context("a path without a next hop")?;
    let list = |kind: &str| {
        let text = path.pointer(&format!("/{kind}/string")).and_then(Value::as_str).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    };
    Ok(Path {
        next_hop: address.parse().with_context(|| format!("{address} is no next hop"))?,
        communities: list("community"),
        large_communities: list("largeCommunity"),
    })
}

fn configuration(config: &RouterConfig) -> Result<String> {
    let mut text =
        String::from("frr defaults traditional\nhostname router\ndebug bgp neighbor-events\ndebug bgp updates in\n");
    writeln!(text, "router bgp {}", config.asn)?;
    writeln!(text, " bgp router-id {}", config.router_id)?;
    // RFC 8212 would have FRR refuse everything on eBGP sessions without a policy.
    writeln!(text, " no bgp ebgp-requires-policy")?;
    writeln!(text, " no bgp default ipv4-unicast")?;
    writeln!(text, " bgp bestpath as-path multipath-relax")?;
    for neighbor in &config.neighbors {
        let address = neighbor.address;
        writeln!(text, " neighbor {address} remote-as {}", neighbor.asn)?;
        writeln!(text, " neighbor {address} timers connect 1")?;
        if let Some(password) = neighbor.password {
            writeln!(text, " neighbor {address} password {password}")?;
        }
    }
    for family in ["ipv4", "ipv6"] {
        writeln!(text, " address-family {family} unicast")?;
        for neighbor in &config.neighbors {
            writeln!(text, "  neighbor {} activate", neighbor.address)?;
        }
        writeln!(text, "  maximum-paths 8")?;
        writeln!(text, " exit-address-family")?;
    }
    Ok(text)
}
