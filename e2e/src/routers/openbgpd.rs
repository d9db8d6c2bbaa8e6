//! OpenBGPD, the portable one.
//!
//! What surprises who configures it: a family other than the session's own is off unless asked for; nothing at all is
//! learned or told without filter rules; a control socket elsewhere must be said in the configuration; and its
//! processes chroot into a directory below /run that its service makes, which here is the scene's own.
//!
//! Over a session of one family it tells as the next hop of its own routes of the other 127.0.0.1 or ::1, which nobody can use
//! and we refuse. `set nexthop`, with `no-modify` in the filter or without, changes nothing about it.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{AsnOctets, Connect, Neighbor, Path, Router, RouterConfig};
use crate::network::Namespace;
use crate::process::Process;
use crate::run::output_of;
use crate::scene::Scene;

/// Between its start and its first answer, on a machine that has other things to do.
const START: Duration = Duration::from_secs(20);

/// A running OpenBGPD.
pub struct Openbgpd {
    machine: Namespace,
    directory: PathBuf,
    process: Process,
    earlier_log: String,
}

impl Openbgpd {
    /// Starts OpenBGPD on a machine.
    pub fn start(scene: &Scene, machine: &Namespace, config: &RouterConfig) -> Result<Self> {
        let directory = scene.subdirectory("openbgpd")?;
        let file = directory.join("bgpd.conf");
        let text = configuration(config, &directory.join("control"))?;
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        // It refuses a configuration that others may read, because passwords stand in it.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).context("cannot protect bgpd.conf")?;
        let jail = directory.join("run/openbgpd");
        fs::create_dir_all(&jail).with_context(|| format!("cannot create {}", jail.display()))?;
        let process = spawn(scene, machine, &directory)?;
        Ok(Self { machine: machine.clone(), directory, process, earlier_log: String::new() })
    }

    /// What `bgpctl` answers, as JSON.
    fn ask(&self, question: &str) -> Result<Value> {
        let answer = bgpctl(&self.machine, &self.directory, &format!("-j {question}"), None)?;
        serde_json::from_str(&answer).with_context(|| format!("bgpctl answered to {question}: {answer}"))
    }
}

fn spawn(scene: &Scene, machine: &Namespace, directory: &FilePath) -> Result<Process> {
    let mut command = machine.command("unshare");
    let (run, file) = (directory.join("run"), directory.join("bgpd.conf"));
    let script = format!("mount --bind {} /run && exec bgpd -d -v -f {}", run.display(), file.display());
    command.args(["--mount", "sh", "-c", &script]);
    let mut process = Process::start(scene, "openbgpd", &command)?;
    process.wait_until("OpenBGPD to answer", START, || bgpctl(machine, directory, "show", None).map(drop))?;
    Ok(process)
}

fn bgpctl(machine: &Namespace, directory: &FilePath, arguments: &str, text: Option<&str>) -> Result<String> {
    let mut command = machine.command("bgpctl");
    command.arg("-s").arg(directory.join("control")).args(arguments.split_whitespace()).args(text);
    output_of(&mut command)
}

impl Router for Openbgpd {
    fn name(&self) -> &'static str {
        "OpenBGPD"
    }

    fn paths(&self, prefix: &str) -> Result<Vec<Path>> {
        let answer = self.ask(&format!("show rib detail {prefix}"))?;
        let Some(paths) = answer.get("rib").and_then(Value::as_array) else { return Ok(Vec::new()) };
        paths.iter().filter(|path| path.get("source").and_then(Value::as_str) != Some("announced")).map(path).collect()
    }

    fn session(&self, neighbor: IpAddr) -> Result<String> {
        let answer = self.ask(&format!("show neighbor {neighbor}"))?;
        Ok(super::member(&answer, "neighbors/0/state")?.as_str().unwrap_or_default().to_owned())
    }

    fn ask_again(&self, neighbor: IpAddr) -> Result<()> {
        bgpctl(&self.machine, &self.directory, &format!("neighbor {neighbor} refresh"), None).map(drop)
    }

    fn shut_down(&self, neighbor: IpAddr, text: &str) -> Result<()> {
        bgpctl(&self.machine, &self.directory, &format!("neighbor {neighbor} down"), Some(text)).map(drop)
    }

    fn hurry(&self, neighbor: IpAddr) -> Result<()> {
        // Half a minute after the first error, twice as long after each more, and two minutes after a connection was refused.
        bgpctl(&self.machine, &self.directory, &format!("neighbor {neighbor} clear"), None).map(drop)
    }

    fn log(&self) -> String {
        format!("{}{}", self.earlier_log, self.process.log())
    }

    fn crash(&mut self) -> Result<()> {
        self.machine.signal("KILL")
    }

    fn start_again(&mut self, scene: &Scene) -> Result<()> {
        self.earlier_log = self.log();
        self.process = spawn(scene, &self.machine, &self.directory)?;
        Ok(())
    }
}

fn path(path: &Value) -> Result<Path> {
    let text = |name: &str| {
        let value = path.pointer(name).and_then(Value::as_str);
        value.with_context(|| format!("a path without {name}: {path}"))
    };
    let (from, next_hop) = (text("/neighbor/remote_addr")?, text("/exit_nexthop")?);
    let number = |name: &str| path.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    let list = |name: &str| {
        let values = path.get(name).and_then(Value::as_array).into_iter().flatten();
        // It writes well-known communities as NO_EXPORT, others write no-export.
        values.filter_map(Value::as_str).map(|value| value.to_lowercase().replace('_', "-")).collect()
    };
    Ok(Path {
        // Its own routes come from `???`.
        from: super::address(from).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        next_hop: super::address(next_hop)?,
        as_path: text("/aspath")?.to_owned(),
        med: number("metric"),
        local_preference: number("localpref"),
        otc: attribute(path, "OTC", "as").and_then(|otc| u32::try_from(otc).ok()),
        aigp: None,
        communities: list("communities"),
        large_communities: list("large_communities"),
        extended_communities: std::collections::BTreeSet::new(),
    })
}

/// A number of an attribute that has no place of its own in the answer: `{"attributes": [{"type": "OTC", "as": 64500}]}`.
fn attribute(path: &Value, kind: &str, member: &str) -> Option<u64> {
    let attributes = path.get("attributes")?.as_array()?;
    let found = attributes.iter().find(|attribute| attribute.get("type").and_then(Value::as_str) == Some(kind))?;
    found.get(member)?.as_u64()
}

fn configuration(config: &RouterConfig, socket: &FilePath) -> Result<String> {
    let mut text = format!("AS {}\nrouter-id {}\nfib-update no\n", config.asn, config.router_id);
    writeln!(text, "socket \"{}\"\nlog updates", socket.display())?;
    for route in config.routes {
        writeln!(text, "network {route}")?;
    }
    for neighbor in &config.neighbors {
        let link = neighbor.interface.map(|interface| format!("%{interface}")).unwrap_or_default();
        writeln!(text, "neighbor {}{link} {{", neighbor.address)?;
        session(&mut text, neighbor)?;
        writeln!(text, "}}")?;
    }
    writeln!(text, "allow from any\ndeny to any")?;
    for route in config.routes {
        writeln!(text, "allow to any prefix {route}")?;
    }
    for neighbor in config.neighbors.iter().filter(|neighbor| neighbor.told_all) {
        writeln!(text, "allow to {}", neighbor.address)?;
    }
    Ok(text)
}

fn session(text: &mut String, neighbor: &Neighbor) -> Result<()> {
    writeln!(text, "  remote-as {}\n  holdtime {}", neighbor.asn, neighbor.hold_time)?;
    writeln!(text, "  announce IPv4 unicast\n  announce IPv6 unicast")?;
    if let Some(local) = neighbor.local_address {
        writeln!(text, "  local-address {local}")?;
    }
    if let Some(password) = neighbor.password {
        writeln!(text, "  tcp md5sig password {password}")?;
    }
    if neighbor.connect == Connect::Passive {
        writeln!(text, "  passive")?;
    }
    if neighbor.ttl_security {
        writeln!(text, "  ttl-security yes")?;
    }
    if neighbor.asn_octets == AsnOctets::Two {
        writeln!(text, "  announce as-4byte no")?;
    }
    if let Some(role) = neighbor.role {
        writeln!(text, "  announce policy {}", role.name())?;
    }
    if neighbor.add_path {
        writeln!(text, "  announce add-path recv yes\n  announce add-path send all")?;
    }
    if neighbor.route_server {
        writeln!(text, "  enforce neighbor-as no")?;
    }
    if let Some(limit) = neighbor.max_prefixes {
        writeln!(text, "  max-prefix {limit}")?;
    }
    Ok(())
}
