//! GoBGP.
//!
//! Of its own routes it tells over IPv4 an IPv4 address as the next hop of IPv6, and over IPv6 it sends IPv4 with an IPv6 next
//! hop whether the other side has said that it knows RFC 8950 or not; so each has its next hop written down.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Connect, GracefulRestart, Neighbor, Path, Router, RouterConfig};
use crate::network::Namespace;
use crate::process::Process;
use crate::run::output_of;
use crate::scene::Scene;

/// GoBGP's path attribute types, as its JSON numbers them (those of IANA).
const AS_PATH: u64 = 2;
const NEXT_HOP: u64 = 3;
const MULTI_EXIT_DISC: u64 = 4;
const LOCAL_PREF: u64 = 5;
const COMMUNITIES: u64 = 8;
const MP_REACH: u64 = 14;
const LARGE_COMMUNITIES: u64 = 32;

/// A running gobgpd.
pub struct Gobgp {
    machine: Namespace,
    directory: PathBuf,
    routes: Vec<(&'static str, Option<IpAddr>)>,
    process: Process,
    earlier_log: String,
}

impl Gobgp {
    /// Starts gobgpd on a machine.
    pub fn start(scene: &Scene, machine: &Namespace, config: &RouterConfig) -> Result<Self> {
        let directory = scene.subdirectory("gobgp")?;
        let file = directory.join("gobgp.toml");
        fs::write(&file, configuration(config)?).with_context(|| format!("cannot write {}", file.display()))?;
        let process = spawn(scene, machine, &directory)?;
        let routes = config.routes.iter().map(|route| (*route, config.next_hop_of(route))).collect();
        let mut gobgp = Self { machine: machine.clone(), directory, routes, process, earlier_log: String::new() };
        gobgp.wait_and_announce()?;
        Ok(gobgp)
    }

    /// Routes of its own are no part of its configuration.
    fn wait_and_announce(&mut self) -> Result<()> {
        let machine = self.machine.clone();
        self.process.wait_until("gobgpd to answer", START, || ask(&machine, "neighbor").map(drop))?;
        for (route, next_hop) in &self.routes {
            let family = if route.contains(':') { "ipv6" } else { "ipv4" };
            let next_hop = next_hop.map(|next_hop| format!(" nexthop {next_hop}")).unwrap_or_default();
            self.machine.run("gobgp", &format!("global rib add -a {family} {route}{next_hop}"))?;
        }
        Ok(())
    }

    /// Announces a prefix of its own: `198.51.100.0/24 med 7 community 64603:1`.
    pub fn announce(&self, route: &str) -> Result<()> {
        self.machine.run("gobgp", &format!("global rib add -a ipv4 {route}")).map(drop)
    }

    fn ask(&self, question: &str) -> Result<Value> {
        ask(&self.machine, question)
    }
}

/// Between its start and its first answer, on a machine that has other things to do.
const START: Duration = Duration::from_secs(20);

fn spawn(scene: &Scene, machine: &Namespace, directory: &std::path::Path) -> Result<Process> {
    let mut command = machine.command("gobgpd");
    command.args(["-t", "toml", "--api-hosts", "127.0.0.1:50051", "--pprof-disable", "-l", "debug"]);
    // What it says at the restart that it keeps (F) and that it has restarted (R), it says only with -r.
    if directory.join("restarted").exists() {
        command.arg("-r");
    }
    command.arg("-f").arg(directory.join("gobgp.toml"));
    Process::start(scene, "gobgpd", &command)
}

fn ask(machine: &Namespace, question: &str) -> Result<Value> {
    let answer = output_of(machine.command("gobgp").arg("-j").args(question.split_whitespace()))?;
    if answer.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&answer).with_context(|| format!("gobgp answered to {question}: {answer}"))
}

impl Router for Gobgp {
    fn name(&self) -> &'static str {
        "GoBGP"
    }

    fn paths(&self, prefix: &str) -> Result<Vec<Path>> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let table = self.ask(&format!("global rib -a {family}"))?;
        let Some(paths) = table.get(prefix).and_then(Value::as_array) else { return Ok(Vec::new()) };
        paths.iter().map(path).collect()
    }

    fn session(&self, neighbor: IpAddr) -> Result<String> {
        let answer = self.ask(&format!("neighbor {neighbor}"))?;
        let answer = answer.get(0).unwrap_or(&answer);
        // gobgp prints the number of the state in its protocol's enumeration; 6 is ESTABLISHED.
        Ok(match super::member(answer, "state/session_state")?.as_u64() {
            Some(6) => "established".to_owned(),
            other => format!("{other:?}"),
        })
    }

    fn ask_again(&self, neighbor: IpAddr) -> Result<()> {
        self.machine.run("gobgp", &format!("neighbor {neighbor} softresetin")).map(drop)
    }

    fn shut_down(&self, neighbor: IpAddr, text: &str) -> Result<()> {
        let mut command = self.machine.command("gobgp");
        command.args(["neighbor", &neighbor.to_string(), "shutdown", "--reason", text]);
        output_of(&mut command).map(drop)
    }

    fn log(&self) -> String {
        format!("{}{}", self.earlier_log, self.process.log())
    }

    fn crash(&mut self) -> Result<()> {
        self.machine.signal("KILL")
    }

    fn start_again(&mut self, scene: &Scene) -> Result<()> {
        self.earlier_log = self.log();
        fs::write(self.directory.join("restarted"), "").context("cannot note the restart")?;
        self.process = spawn(scene, &self.machine, &self.directory)?;
        self.wait_and_announce()
    }
}

fn path(path: &Value) -> Result<Path> {
    let attributes = path.get("attrs").and_then(Value::as_array).context("a path without attributes")?;
    let attribute =
        |number: u64| attributes.iter().find(|found| found.get("type").and_then(Value::as_u64) == Some(number));
    let next_hop = attribute(NEXT_HOP).or_else(|| attribute(MP_REACH)).and_then(|found| found.get("nexthop"));
    let next_hop = next_hop.and_then(Value::as_str).with_context(|| format!("a path without a next hop: {path}"))?;
    let from = path.get("neighbor-ip").and_then(Value::as_str).unwrap_or_default();
    let list = |number: u64, name: &str| {
        let list = attribute(number).and_then(|found| found.get(name)).and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let number = |number: u64, name: &str| {
        let value = attribute(number).and_then(|found| found.get(name)).and_then(Value::as_u64);
        value.and_then(|value| u32::try_from(value).ok())
    };
    let segments = list(AS_PATH, "as_paths");
    let asns = segments.iter().filter_map(|segment| segment.get("asns").and_then(Value::as_array)).flatten();
    Ok(Path {
        // Its own routes come from nobody.
        from: super::address(from).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        next_hop: super::address(next_hop)?,
        as_path: asns.map(ToString::to_string).collect::<Vec<_>>().join(" "),
        med: number(MULTI_EXIT_DISC, "metric"),
        local_preference: number(LOCAL_PREF, "value"),
        otc: None,
        aigp: None,
        communities: list(COMMUNITIES, "communities").iter().filter_map(Value::as_u64).map(community).collect(),
        large_communities: list(LARGE_COMMUNITIES, "value").iter().filter_map(large_community).collect(),
        extended_communities: std::collections::BTreeSet::new(),
    })
}

fn community(number: u64) -> String {
    match number {
        // RFC 1997
        0xffff_ff01 => "no-export".to_owned(),
        number => format!("{}:{}", number >> 16, number & 0xffff),
    }
}

fn large_community(value: &Value) -> Option<String> {
    let part = |name: &str| value.get(name).and_then(Value::as_u64);
    Some(format!("{}:{}:{}", part("ASN")?, part("LocalData1")?, part("LocalData2")?))
}

fn configuration(config: &RouterConfig) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "[global.config]\n  as = {}\n  router-id = \"{}\"", config.asn, config.router_id)?;
    if config.neighbors.iter().any(|neighbor| neighbor.told_all) {
        policy(&mut text, config)?;
    }
    for neighbor in &config.neighbors {
        session(&mut text, neighbor)?;
    }
    Ok(text)
}

/// Else it tells everybody everything: its own routes go to all, and what it has learned to some.
fn policy(text: &mut String, config: &RouterConfig) -> Result<()> {
    writeln!(text, "  [global.apply-policy.config]\n    export-policy-list = [\"own-or-all\"]")?;
    writeln!(text, "    default-export-policy = \"reject-route\"")?;
    let told_all = config.neighbors.iter().filter(|neighbor| neighbor.told_all);
    let told_all: Vec<String> = told_all.map(|neighbor| format!("\"{}\"", neighbor.address)).collect();
    writeln!(text, "[[defined-sets.neighbor-sets]]\n  neighbor-set-name = \"told-all\"")?;
    writeln!(text, "  neighbor-info-list = [{}]", told_all.join(", "))?;
    writeln!(text, "[[policy-definitions]]\n  name = \"own-or-all\"")?;
    for condition in [
        "    [policy-definitions.statements.conditions.bgp-conditions]\n      route-type = \"local\"",
        "    [policy-definitions.statements.conditions.match-neighbor-set]\n      neighbor-set = \"told-all\"",
    ] {
        writeln!(text, "  [[policy-definitions.statements]]\n{condition}")?;
        writeln!(text, "    [policy-definitions.statements.actions]\n      route-disposition = \"accept-route\"")?;
    }
    Ok(())
}

fn session(text: &mut String, neighbor: &Neighbor) -> Result<()> {
    writeln!(text, "[[neighbors]]\n  [neighbors.config]")?;
    match neighbor.interface {
        Some(interface) => writeln!(text, "    neighbor-interface = \"{interface}\"")?,
        None => writeln!(text, "    neighbor-address = \"{}\"", neighbor.address)?,
    }
    writeln!(text, "    peer-as = {}", neighbor.asn)?;
    if let Some(password) = neighbor.password {
        writeln!(text, "    auth-password = \"{password}\"")?;
    }
    writeln!(text, "  [neighbors.transport.config]\n    passive-mode = {}", neighbor.connect == Connect::Passive)?;
    if let Some(local) = neighbor.local_address {
        writeln!(text, "    local-address = \"{local}\"")?;
    }
    // 5 s is the shortest that it takes; after an error it waits 30 s unless told otherwise.
    writeln!(text, "  [neighbors.timers.config]\n    connect-retry = 5\n    idle-hold-time-after-reset = 1")?;
    writeln!(text, "    hold-time = {}\n    keepalive-interval = {}", neighbor.hold_time, neighbor.hold_time / 3)?;
    if neighbor.ttl_security {
        writeln!(text, "  [neighbors.ttl-security.config]\n    enabled = true\n    ttl-min = 255")?;
    }
    let restarting = match neighbor.graceful_restart {
        GracefulRestart::Default => false,
        GracefulRestart::Restarting(seconds) => {
            writeln!(text, "  [neighbors.graceful-restart.config]\n    enabled = true\n    restart-time = {seconds}")?;
            true
        }
    };
    for family in ["ipv4-unicast", "ipv6-unicast"] {
        writeln!(text, "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]")?;
        writeln!(text, "      afi-safi-name = \"{family}\"")?;
        if restarting {
            writeln!(text, "    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true")?;
        }
        if neighbor.add_path {
            writeln!(text, "    [neighbors.afi-safis.add-paths.config]\n      receive = true\n      send-max = 8")?;
        }
        if let Some(limit) = neighbor.max_prefixes {
            writeln!(text, "    [neighbors.afi-safis.prefix-limit.config]\n      max-prefixes = {limit}")?;
        }
    }
    Ok(())
}
