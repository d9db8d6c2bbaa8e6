//! FRRouting: bgpd alone, or with zebra, which puts what bgpd learns into the kernel, or with bfdd as well.
//!
//! bgpd asks for BFD over zebra, so where there is BFD there is zebra. Of what bfdd is told in its file only profiles count; its
//! sessions come from bgpd, which names a profile.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{AsnOctets, Connect, GracefulRestart, Hops, Neighbor, Path, Router, RouterConfig, Wanted};
use crate::network::Namespace;
use crate::process::Process;
use crate::run::{output_of, run};
use crate::scene::Scene;
use crate::wait::wait_until;

const DAEMONS: &str = "/usr/lib/frr";

/// A running FRR.
pub struct Frr {
    machine: Namespace,
    directory: PathBuf,
    forwarding: Forwarding,
    bgpd: Process,
    earlier_log: String,
    // Held for their drop.
    _bfdd: Option<Process>,
    _zebra: Option<Process>,
}

/// Whether what bgpd learns goes to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forwarding {
    Nothing,
    /// By zebra, all equal paths of each route.
    Kernel,
}

impl Frr {
    /// bgpd alone: it learns routes, and the kernel knows nothing of them.
    pub fn start(scene: &Scene, machine: &Namespace, config: &RouterConfig) -> Result<Self> {
        let bfd = config.neighbors.iter().any(|neighbor| neighbor.bfd.is_some());
        Self::start_with(scene, machine, config, if bfd { Forwarding::Kernel } else { Forwarding::Nothing })
    }

    /// With zebra: routes go to the kernel, all equal paths of them.
    pub fn start_with_kernel(scene: &Scene, machine: &Namespace, config: &RouterConfig) -> Result<Self> {
        Self::start_with(scene, machine, config, Forwarding::Kernel)
    }

    fn start_with(scene: &Scene, machine: &Namespace, config: &RouterConfig, forwarding: Forwarding) -> Result<Self> {
        // A scene may have several.
        let directory = scene.subdirectory(&format!("frr-{}", machine.name()))?;
        let file = directory.join("frr.conf");
        fs::write(&file, configuration(config)?).with_context(|| format!("cannot write {}", file.display()))?;
        let profiles = directory.join("bfdd.conf");
        fs::write(&profiles, bfd_profiles(config)?).with_context(|| format!("cannot write {}", profiles.display()))?;
        // The daemons give up root for this user, and then make their sockets here.
        run("chown", &format!("frr:frr {}", directory.display()))?;
        let zebra = match forwarding {
            Forwarding::Nothing => None,
            Forwarding::Kernel => {
                let process = Process::start(scene, "zebra", &daemon(machine, &directory, "zebra"))?;
                let socket = directory.join("zserv.api");
                wait_until("zebra's socket", START, || {
                    ensure!(socket.exists(), "no {}", socket.display());
                    Ok(())
                })?;
                Some(process)
            }
        };
        let bfdd = if config.neighbors.iter().any(|neighbor| neighbor.bfd.is_some()) {
            let mut command = daemon(machine, &directory, "bfdd");
            // Else all of a machine's would share one.
            command.arg("--bfdctl").arg(directory.join("bfdd.sock"));
            let process = Process::start(scene, "bfdd", &command)?;
            let socket = directory.join("bfdd.vty");
            wait_until("bfdd's socket", START, || {
                ensure!(socket.exists(), "no {}", socket.display());
                Ok(())
            })?;
            Some(process)
        } else {
            None
        };
        let bgpd = start_bgpd(scene, machine, &directory, forwarding)?;
        let machine = machine.clone();
        Ok(Self { machine, directory, forwarding, bgpd, earlier_log: String::new(), _bfdd: bfdd, _zebra: zebra })
    }

    /// What `vtysh` answers to a `show … json`.
    pub fn ask(&self, question: &str) -> Result<Value> {
        self.ask_daemon("bgpd", question)
    }

    fn ask_daemon(&self, daemon: &str, question: &str) -> Result<Value> {
        let answer = vtysh(&self.machine, &self.directory, daemon, &[&format!("{question} json")])?;
        serde_json::from_str(&answer).with_context(|| format!("vtysh answered to {question}: {answer}"))
    }

    /// The last NOTIFICATION of a session in both directions: code and subcode in hexadecimal, and FRR's words for it.
    pub fn last_notification(&self, neighbor: IpAddr) -> Result<String> {
        let answer = self.ask(&format!("show bgp neighbors {neighbor}"))?;
        let state = super::member(&answer, &neighbor.to_string())?;
        let text = |name: &str| state.get(name).and_then(Value::as_str).unwrap_or_default();
        Ok(format!("{} {} {}", text("lastErrorCodeSubcode"), text("lastNotificationReason"), text("lastResetDueTo")))
    }

    /// The state of the session with the neighbour behind an interface.
    pub fn session_behind(&self, interface: &str) -> Result<String> {
        let answer = self.ask(&format!("show bgp neighbors {interface}"))?;
        let state = super::member(&answer, &format!("{interface}/bgpState"))?;
        Ok(state.as_str().unwrap_or_default().to_owned())
    }

    /// Has it announce a prefix of its own.
    pub fn announce(&self, asn: u32, prefix: &str) -> Result<()> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let (router, network) = (format!("router bgp {asn}"), format!("network {prefix}"));
        self.configure(&[&router, &format!("address-family {family} unicast"), &network])
    }

    /// Gives it lines of configuration while it runs, from the top level on.
    pub fn configure(&self, lines: &[&str]) -> Result<()> {
        self.configure_daemon("bgpd", lines)
    }

    fn configure_daemon(&self, daemon: &str, lines: &[&str]) -> Result<()> {
        vtysh(&self.machine, &self.directory, daemon, &[&["configure terminal"], lines].concat()).map(drop)
    }

    /// Shuts its BFD sessions down on purpose, or has them up again.
    pub fn set_bfd(&self, wanted: Wanted) -> Result<()> {
        let line = if wanted == Wanted::Up { "no shutdown" } else { "shutdown" };
        self.configure_daemon("bfdd", &["bfd", "profile e2e", line])
    }

    fn bfd_details(&self, neighbor: IpAddr) -> Result<Value> {
        let answer = self.ask_daemon("bfdd", "show bfd peers")?;
        let peers = answer.as_array().context("no list of BFD peers")?;
        let of_neighbor = |peer: &&Value| peer.get("peer").and_then(Value::as_str) == Some(&neighbor.to_string());
        peers.iter().find(of_neighbor).cloned().with_context(|| format!("no BFD peer {neighbor} in {answer}"))
    }
}

/// Between the start of a daemon and its first answer, on a machine that has other things to do.
const START: Duration = Duration::from_secs(20);

fn daemon(machine: &Namespace, directory: &FilePath, name: &str) -> Command {
    let mut command = machine.command(format!("{DAEMONS}/{name}"));
    command.args(["--log", "stdout", "--log-level", "debugging", "--vty_socket"]).arg(directory);
    // zebra has nothing to be told: it takes the machine's interfaces as it finds them.
    let file = match name {
        "bgpd" => directory.join("frr.conf"),
        "bfdd" => directory.join("bfdd.conf"),
        _ => PathBuf::from("/dev/null"),
    };
    command.arg("-f").arg(file);
    command.arg("-i").arg(directory.join(format!("{name}.pid")));
    command.arg("-z").arg(directory.join("zserv.api"));
    command
}

fn start_bgpd(scene: &Scene, machine: &Namespace, directory: &FilePath, forwarding: Forwarding) -> Result<Process> {
    let mut command = daemon(machine, directory, "bgpd");
    if forwarding == Forwarding::Nothing {
        command.arg("-Z");
    }
    let mut bgpd = Process::start(scene, "bgpd", &command)?;
    bgpd.wait_until("bgpd to answer", START, || vtysh(machine, directory, "bgpd", &["show bgp summary"]).map(drop))?;
    Ok(bgpd)
}

fn vtysh(machine: &Namespace, directory: &FilePath, daemon: &str, lines: &[&str]) -> Result<String> {
    let mut command = machine.command("vtysh");
    command.arg("--vty_socket").arg(directory).args(["-d", daemon]);
    for line in lines {
        command.args(["-c", line]);
    }
    output_of(&mut command)
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

    fn bfd(&self, neighbor: IpAddr) -> Result<String> {
        let peer = self.bfd_details(neighbor)?;
        Ok(super::member(&peer, "status")?.as_str().unwrap_or_default().to_owned())
    }

    fn ask_again(&self, neighbor: IpAddr) -> Result<()> {
        vtysh(&self.machine, &self.directory, "bgpd", &[&format!("clear bgp {neighbor} soft in")]).map(drop)
    }

    fn shut_down(&self, neighbor: IpAddr, text: &str) -> Result<()> {
        self.configure(&["router bgp", &format!("neighbor {neighbor} shutdown message {text}")])
    }

    fn log(&self) -> String {
        format!("{}{}", self.earlier_log, self.bgpd.log())
    }

    fn crash(&mut self) -> Result<()> {
        // zebra lives on, as it does when only bgpd dies.
        self.bgpd.signal("KILL")
    }

    fn start_again(&mut self, scene: &Scene) -> Result<()> {
        self.earlier_log = self.log();
        self.bgpd = start_bgpd(scene, &self.machine, &self.directory, self.forwarding)?;
        Ok(())
    }
}

/// Of an IPv6 path FRR tells the global next hop and, where there is one, the link-local one; the global counts.
fn path(path: &Value) -> Result<Path> {
    let next_hops = path.get("nexthops").and_then(Value::as_array).context("a path without nexthops")?;
    let global = next_hops.iter().find(|hop| hop.get("scope").and_then(Value::as_str) != Some("link-local"));
    let address = global.and_then(|hop| hop.get("ip")).and_then(Value::as_str).context("a path without a next hop")?;
    let from = path.pointer("/peer/peerId").and_then(Value::as_str).context("a path from nobody")?;
    // Its word for an empty one.
    let as_path = path.pointer("/aspath/string").and_then(Value::as_str).unwrap_or_default();
    let list = |kind: &str| {
        let text = path.pointer(&format!("/{kind}/string")).and_then(Value::as_str).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    };
    let number = |name: &str| path.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    Ok(Path {
        // Its own routes come from `(unspec)`.
        from: from.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        next_hop: address.parse().with_context(|| format!("{address} is no next hop"))?,
        as_path: as_path.replace("Local", ""),
        med: number("metric"),
        local_preference: number("locPrf"),
        otc: number("otc"),
        aigp: None,
        communities: list("community"),
        large_communities: list("largeCommunity"),
        // Behind a bandwidth stands a remark of two words, in parentheses.
        extended_communities: {
            let text = path.pointer("/extendedCommunity/string").and_then(Value::as_str).unwrap_or_default();
            let remark = |word: &&str| word.starts_with('(') || word.ends_with(')');
            text.split_whitespace().filter(|word| !remark(word)).map(str::to_owned).collect()
        },
    })
}

/// One profile for all neighbours, with the first one's timers.
fn bfd_profiles(config: &RouterConfig) -> Result<String> {
    let mut text = String::from("hostname router\ndebug bfd peer\n");
    if let Some(bfd) = config.neighbors.iter().find_map(|neighbor| neighbor.bfd) {
        writeln!(text, "bfd\n profile e2e")?;
        writeln!(text, "  detect-multiplier {}", bfd.multiplier)?;
        writeln!(text, "  transmit-interval {0}\n  receive-interval {0}", bfd.milliseconds)?;
        if bfd.hops == Hops::Multi {
            writeln!(text, "  minimum-ttl 250")?;
        }
        writeln!(text, " exit\nexit")?;
    }
    Ok(text)
}

fn name(neighbor: &Neighbor) -> String {
    neighbor.interface.map_or_else(|| neighbor.address.to_string(), str::to_owned)
}

fn configuration(config: &RouterConfig) -> Result<String> {
    let mut text =
        String::from("frr defaults traditional\nhostname router\ndebug bgp neighbor-events\ndebug bgp updates in\n");
    writeln!(text, "bgp as-path access-list own permit ^$")?;
    writeln!(text, "router bgp {}", config.asn)?;
    writeln!(text, " bgp router-id {}", config.router_id)?;
    // RFC 8212 would have FRR refuse everything on eBGP sessions without a policy.
    writeln!(text, " no bgp ebgp-requires-policy")?;
    writeln!(text, " no bgp default ipv4-unicast")?;
    // It announces what the tests say, whether its machine has a route there or not.
    writeln!(text, " no bgp network import-check")?;
    writeln!(text, " bgp bestpath as-path multipath-relax")?;
    for neighbor in &config.neighbors {
        session(&mut text, neighbor)?;
        if let GracefulRestart::Restarting(seconds) = neighbor.graceful_restart {
            // The time is the router's, whichever neighbour it is said of; F is said when zebra keeps the routes.
            writeln!(text, " bgp graceful-restart restart-time {seconds}")?;
            writeln!(text, " bgp graceful-restart preserve-fw-state")?;
        }
    }
    for family in ["ipv4", "ipv6"] {
        writeln!(text, " address-family {family} unicast")?;
        for route in config.routes.iter().filter(|route| route.contains(':') == (family == "ipv6")) {
            writeln!(text, "  network {route}")?;
        }
        for neighbor in &config.neighbors {
            let address = name(neighbor);
            writeln!(text, "  neighbor {address} activate")?;
            if !config.routes.is_empty() && !neighbor.told_all {
                writeln!(text, "  neighbor {address} filter-list own out")?;
            }
            if neighbor.add_path {
                writeln!(text, "  neighbor {address} addpath-tx-all-paths")?;
            }
            if let Some(limit) = neighbor.max_prefixes {
                writeln!(text, "  neighbor {address} maximum-prefix {limit}")?;
            }
        }
        writeln!(text, "  maximum-paths 8")?;
        writeln!(text, " exit-address-family")?;
    }
    Ok(text)
}

fn session(text: &mut String, neighbor: &Neighbor) -> Result<()> {
    let address = name(neighbor);
    let kind = if neighbor.interface.is_some() { "interface " } else { "" };
    writeln!(text, " neighbor {address} {kind}remote-as {}", neighbor.asn)?;
    writeln!(text, " neighbor {address} timers connect 1")?;
    writeln!(text, " neighbor {address} timers {} {}", neighbor.hold_time / 3, neighbor.hold_time)?;
    if let Some(local) = neighbor.local_address {
        writeln!(text, " neighbor {address} update-source {local}")?;
    }
    if let Some(password) = neighbor.password {
        writeln!(text, " neighbor {address} password {password}")?;
    }
    if neighbor.connect == Connect::Passive {
        writeln!(text, " neighbor {address} passive")?;
    }
    if neighbor.ttl_security {
        writeln!(text, " neighbor {address} ttl-security hops 1")?;
    }
    // FRR has no switch for RFC 6793 alone: without any capability it is a speaker of RFC 4271 and nothing else.
    if neighbor.asn_octets == AsnOctets::Two {
        writeln!(text, " neighbor {address} dont-capability-negotiate")?;
    }
    if let Some(bfd) = neighbor.bfd {
        if bfd.hops == Hops::Multi {
            writeln!(text, " neighbor {address} ebgp-multihop 4")?;
        }
        writeln!(text, " neighbor {address} bfd profile e2e")?;
    }
    if neighbor.extended_next_hop {
        writeln!(text, " neighbor {address} capability extended-nexthop")?;
    }
    if let Some(role) = neighbor.role {
        writeln!(text, " neighbor {address} local-role {}", role.name())?;
    }
    if let GracefulRestart::Restarting(_) = neighbor.graceful_restart {
        writeln!(text, " neighbor {address} graceful-restart")?;
    }
    Ok(())
}
