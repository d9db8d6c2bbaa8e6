//! ExaBGP, which is no router: it says what it is told to say and prints what it hears.
//!
//! It starts a program of ours that writes every event to a file, one JSON document a line, and hands on every line of
//! another file as a command. What it "learned" is what those events add up to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{AsnOctets, Connect, GracefulRestart, Neighbor, Path, Router, RouterConfig};
use crate::network::Namespace;
use crate::process::Process;
use crate::scene::Scene;

/// Between its start and its first words: Python has a good deal to load.
const START: Duration = Duration::from_secs(30);

/// A running ExaBGP.
pub struct Exabgp {
    machine: Namespace,
    directory: PathBuf,
    /// Where it listens: it has to be told.
    listen: String,
    process: Process,
    earlier_log: String,
}

impl Exabgp {
    /// Starts ExaBGP on a machine.
    pub fn start(scene: &Scene, machine: &Namespace, config: &RouterConfig) -> Result<Self> {
        let directory = scene.subdirectory("exabgp")?;
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        let here = directory.display();
        write("exabgp.conf", &configuration(config, &directory)?)?;
        write("ear", &format!("cd {here}\ntail -n +1 -f commands &\nexec cat >> events\n"))?;
        write("events", "")?;
        // Here already when the first command is given, however late the program starts.
        write("commands", "")?;
        let listen = config.neighbors.iter().filter_map(|neighbor| neighbor.local_address);
        let listen = listen.map(|address| address.to_string()).collect::<Vec<_>>().join(" ");
        let process = spawn(scene, machine, &directory, &listen)?;
        Ok(Self { machine: machine.clone(), directory, listen, process, earlier_log: String::new() })
    }

    /// Announces a path of its own to one neighbour: `198.51.100.0/24 next-hop 10.0.0.1 path-information 0.0.0.1`.
    pub fn announce(&self, neighbor: IpAddr, route: &str) -> Result<()> {
        self.order(&format!("neighbor {neighbor} announce route {route}"))
    }

    /// What it has printed since its last start, about one neighbour or, without one, about all.
    fn events(&self, neighbor: Option<IpAddr>) -> Result<Vec<Value>> {
        let path = self.directory.join("events");
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        // It prints the data of a NOTIFICATION as it came, control characters and all, which is no JSON.
        let text = String::from_utf8_lossy(&bytes).replace(|c: char| c.is_control() && c != '\n', " ");
        // The last line may be half written.
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(events.filter(|event| neighbor.is_none() || from(event) == neighbor).collect())
    }

    fn order(&self, command: &str) -> Result<()> {
        let path = self.directory.join("commands");
        let mut file = OpenOptions::new().append(true).open(&path).context("cannot open the commands")?;
        writeln!(file, "{command}").context("cannot write a command")
    }
}

fn spawn(scene: &Scene, machine: &Namespace, directory: &FilePath, listen: &str) -> Result<Process> {
    let mut command = machine.command("exabgp");
    command.env("exabgp.daemon.user", "root").env("exabgp.tcp.bind", listen).env("exabgp.tcp.port", "179");
    command.env("exabgp.log.level", "INFO").env("exabgp.log.destination", "stdout").env("exabgp.cli.pipe", "");
    command.arg(directory.join("exabgp.conf"));
    let mut process = Process::start(scene, "exabgp", &command)?;
    process.wait_for_log("loaded new configuration successfully", START)?;
    Ok(process)
}

impl Router for Exabgp {
    fn name(&self) -> &'static str {
        "ExaBGP"
    }

    fn paths(&self, prefix: &str) -> Result<Vec<Path>> {
        let mut paths = BTreeMap::new();
        for event in self.events(None)? {
            let Some(neighbor) = from(&event) else { continue };
            if state(&event).is_some_and(|state| state != "up") {
                paths.retain(|(from, _), _| *from != neighbor);
            }
            let Some(update) = event.pointer("/neighbor/message/update") else { continue };
            for (_, id) in mentions(update.get("withdraw"), prefix) {
                paths.remove(&(neighbor, id));
            }
            for (next_hop, id) in mentions(update.get("announce"), prefix) {
                let attributes = update.get("attribute").unwrap_or(&Value::Null);
                paths.insert((neighbor, id), path(neighbor, &next_hop, attributes)?);
            }
        }
        Ok(paths.into_values().collect())
    }

    fn session(&self, neighbor: IpAddr) -> Result<String> {
        let events = self.events(Some(neighbor))?;
        let last = events.iter().rev().find_map(state).unwrap_or("silent");
        Ok(if last == "up" { "established" } else { last }.to_owned())
    }

    fn ask_again(&self, neighbor: IpAddr) -> Result<()> {
        self.order(&format!("neighbor {neighbor} announce route-refresh ipv4 unicast"))?;
        self.order(&format!("neighbor {neighbor} announce route-refresh ipv6 unicast"))
    }

    fn shut_down(&self, neighbor: IpAddr, _text: &str) -> Result<()> {
        // It takes a subcode here, and no text.
        self.order(&format!("neighbor {neighbor} teardown 2"))
    }

    fn log(&self) -> String {
        let events = fs::read(self.directory.join("events")).unwrap_or_default();
        format!("{}{}{}", self.earlier_log, self.process.log(), String::from_utf8_lossy(&events))
    }

    fn crash(&mut self) -> Result<()> {
        self.machine.signal("KILL")
    }

    fn start_again(&mut self, scene: &Scene) -> Result<()> {
        self.earlier_log = self.log();
        fs::write(self.directory.join("events"), "").context("cannot forget the events")?;
        fs::write(self.directory.join("commands"), "").context("cannot forget the commands")?;
        self.process = spawn(scene, &self.machine, &self.directory, &self.listen)?;
        Ok(())
    }
}

/// The neighbour that an event is about.
fn from(event: &Value) -> Option<IpAddr> {
    event.pointer("/neighbor/address/peer")?.as_str()?.parse().ok()
}

/// `connected`, `up` or `down`, of an event that says so.
fn state(event: &Value) -> Option<&str> {
    event.pointer("/neighbor/state")?.as_str()
}

/// The next hops (nothing, in a withdrawal) under which a part of an UPDATE has the prefix, each with its path identifier, if there
/// is one: `{"ipv4 unicast": {"10.99.0.11": [{"nlri": "203.0.113.10/32", "path-information": "0.0.0.1"}]}}`, and without next
/// hops in a withdrawal.
fn mentions(part: Option<&Value>, prefix: &str) -> Vec<(String, String)> {
    let text = |route: &Value, name: &str| route.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let ids = |next_hop: &str, list: &Value| -> Vec<(String, String)> {
        let routes = list.as_array().into_iter().flatten().filter(|route| text(route, "nlri") == prefix);
        routes.map(|route| (next_hop.to_owned(), text(route, "path-information"))).collect()
    };
    let families = part.and_then(Value::as_object).into_iter().flat_map(|families| families.values());
    let of_family = |family: &Value| match family.as_object() {
        Some(next_hops) => next_hops.iter().flat_map(|(next_hop, list)| ids(next_hop, list)).collect(),
        None => ids("", family),
    };
    families.flat_map(of_family).collect()
}

fn path(from: IpAddr, next_hop: &str, attributes: &Value) -> Result<Path> {
    let number = |name: &str| attributes.get(name).and_then(Value::as_u64).and_then(|value| u32::try_from(value).ok());
    let list = |name: &str| attributes.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let joined = |value: &Value, separator: &str| {
        let parts = value.as_array().into_iter().flatten().map(ToString::to_string);
        parts.collect::<Vec<_>>().join(separator)
    };
    let community = |value: &Value| match joined(value, ":").as_str() {
        "65535:65281" => "no-export".to_owned(),
        other => other.to_owned(),
    };
    Ok(Path {
        from,
        next_hop: next_hop.parse().with_context(|| format!("{next_hop} is no next hop"))?,
        as_path: attributes.get("as-path").map(|path| joined(path, " ")).unwrap_or_default(),
        med: number("med"),
        local_preference: number("local-preference"),
        otc: None,
        aigp: None,
        communities: list("community").iter().map(community).collect(),
        large_communities: list("large-community").iter().map(|value| joined(value, ":")).collect(),
        extended_communities: std::collections::BTreeSet::new(),
    })
}

fn configuration(config: &RouterConfig, directory: &FilePath) -> Result<String> {
    let ear = directory.join("ear");
    let mut text = format!("process ear {{ run /bin/sh {}; encoder json; }}\n", ear.display());
    for neighbor in &config.neighbors {
        writeln!(text, "neighbor {} {{", neighbor.address)?;
        session(&mut text, config, neighbor)?;
        writeln!(text, "}}")?;
    }
    Ok(text)
}

fn session(text: &mut String, config: &RouterConfig, neighbor: &Neighbor) -> Result<()> {
    let local = neighbor.local_address.context("ExaBGP wants to know its own address")?;
    writeln!(text, "  router-id {}; local-address {local};", config.router_id)?;
    writeln!(text, "  local-as {}; peer-as {}; hold-time {};", config.asn, neighbor.asn, neighbor.hold_time)?;
    let passive = neighbor.connect == Connect::Passive;
    writeln!(text, "  passive {passive};{}", if passive { " listen 179;" } else { "" })?;
    if let Some(password) = neighbor.password {
        writeln!(text, "  md5-password \"{password}\"; md5-base64 false;")?;
    }
    if neighbor.ttl_security {
        writeln!(text, "  outgoing-ttl 255; incoming-ttl 255;")?;
    }
    writeln!(text, "  family {{ ipv4 unicast; ipv6 unicast; }}")?;
    let switch = |on: bool| if on { "enable" } else { "disable" };
    write!(text, "  capability {{ route-refresh enable; asn4 {};", switch(neighbor.asn_octets == AsnOctets::Four))?;
    write!(text, " extended-message {};", switch(neighbor.extended_messages))?;
    if let GracefulRestart::Restarting(seconds) = neighbor.graceful_restart {
        write!(text, " graceful-restart {seconds};")?;
    }
    if neighbor.add_path {
        write!(text, " add-path send/receive;")?;
    }
    writeln!(text, " {} }}", if neighbor.extended_next_hop { "nexthop enable;" } else { "" })?;
    if neighbor.extended_next_hop {
        writeln!(text, "  nexthop {{ ipv4 unicast ipv6; }}")?;
    }
    if neighbor.add_path {
        writeln!(text, "  add-path {{ ipv4 unicast; ipv6 unicast; }}")?;
    }
    writeln!(text, "  api {{ processes [ ear ]; neighbor-changes;")?;
    writeln!(text, "    receive {{ parsed; update; notification; open; }} }}")?;
    // A next hop of the other family has to be said.
    for (family, six) in [("ipv4", false), ("ipv6", true)] {
        writeln!(text, "  announce {{ {family} {{")?;
        for route in config.routes.iter().filter(|route| route.contains(':') == six) {
            let next_hop = if local.is_ipv6() == six { Some(local) } else { config.next_hop_of(route) };
            let next_hop = next_hop.with_context(|| format!("no {family} address of its own"))?;
            writeln!(text, "    unicast {route} next-hop {next_hop};")?;
        }
        writeln!(text, "  }} }}")?;
    }
    Ok(())
}
