//! BIRD 2.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{AsnOctets, Connect, GracefulRestart, Hops, Neighbor, Path, Router, RouterConfig};
use crate::network::Namespace;
use crate::process::Process;
use crate::run::output_of;
use crate::scene::Scene;

/// A running BIRD.
pub struct Bird {
    machine: Namespace,
    directory: PathBuf,
    neighbors: Vec<IpAddr>,
    process: Process,
    earlier_log: String,
}

impl Bird {
    /// Starts BIRD on a machine.
    pub fn start(scene: &Scene, machine: &Namespace, config: &RouterConfig) -> Result<Self> {
        Self::start_with(scene, machine, config, "")
    }

    /// The same, and what it learns goes to the kernel and outlives it there.
    pub fn start_with_kernel(scene: &Scene, machine: &Namespace, config: &RouterConfig) -> Result<Self> {
        Self::start_with(scene, machine, config, KERNEL)
    }

    fn start_with(scene: &Scene, machine: &Namespace, config: &RouterConfig, kernel: &str) -> Result<Self> {
        // A scene may have several.
        let directory = scene.subdirectory(&format!("bird-{}", machine.name()))?;
        let file = directory.join("bird.conf");
        fs::write(&file, configuration(config)? + kernel)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let process = run(scene, machine, &directory, None)?;
        let neighbors = config.neighbors.iter().map(|neighbor| neighbor.address).collect();
        Ok(Self { machine: machine.clone(), directory, neighbors, process, earlier_log: String::new() })
    }

    /// Changes its configuration, replacing a piece of text everywhere, and has it read that; sessions that are configured
    /// otherwise now restart.
    pub fn edit(&self, from: &str, to: &str) -> Result<()> {
        let file = self.directory.join("bird.conf");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        ensure!(text.contains(from), "no {from:?} in {text}");
        fs::write(&file, text.replace(from, to)).with_context(|| format!("cannot write {}", file.display()))?;
        self.ask(&["configure"]).map(drop)
    }

    /// Has its IPv4 routes told with an accumulated metric (RFC 7311), over sessions of either kind.
    pub fn originate_aigp(&self, metric: u32) -> Result<()> {
        self.edit(
            "protocol static static_ipv4 { ipv4;",
            &format!("protocol static static_ipv4 {{ ipv4 {{ import filter {{ igp_metric = {metric}; accept; }}; }};"),
        )?;
        self.edit("  ipv4 {", "  ipv4 { aigp originate;")
    }

    /// Since when a session is as it is, in BIRD's own words.
    pub fn session_since(&self, neighbor: IpAddr) -> Result<String> {
        let answer = self.ask(&["show", "protocols", &self.protocol(neighbor)?])?;
        let line = answer.lines().find(|line| line.contains("BGP")).with_context(|| format!("no BGP in {answer}"))?;
        Ok(line.split_whitespace().skip(4).take(1).collect())
    }

    fn ask(&self, question: &[&str]) -> Result<String> {
        output_of(self.machine.command("birdc").arg("-s").arg(self.directory.join("ctl")).args(question))
    }

    fn protocol(&self, neighbor: IpAddr) -> Result<String> {
        let index = self.neighbors.iter().position(|address| *address == neighbor);
        Ok(format!("peer{}", index.with_context(|| format!("BIRD has no neighbour {neighbor}"))?))
    }
}

/// During a recovery it leaves alone what it finds there.
const KERNEL: &str = "
graceful restart wait 60;
protocol kernel { persist on; graceful restart on; ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel { persist on; graceful restart on; ipv6 { import none; export where source = RTS_BGP; }; }
";

/// With `-R` it takes itself for restarted, and recovers gracefully.
fn run(scene: &Scene, machine: &Namespace, directory: &std::path::Path, recovery: Option<&str>) -> Result<Process> {
    let mut command: Command = machine.command("bird");
    command.arg("-f").arg("-c").arg(directory.join("bird.conf")).arg("-s").arg(directory.join("ctl"));
    command.args(recovery).arg("-P").arg(directory.join("pid"));
    let mut process = Process::start(scene, "bird", &command)?;
    process.wait_for_log("Started", Duration::from_secs(20))?;
    Ok(process)
}

impl Router for Bird {
    fn name(&self) -> &'static str {
        "BIRD"
    }

    fn paths(&self, prefix: &str) -> Result<Vec<Path>> {
        // birdc fails on "Network not found", which here is an answer as good as any.
        match self.ask(&["show", "route", "all", "for", prefix]) {
            Ok(answer) => paths(&answer, &self.neighbors),
            Err(error) if error.to_string().contains("Network not found") => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn session(&self, neighbor: IpAddr) -> Result<String> {
        let answer = self.ask(&["show", "protocols", "all", &self.protocol(neighbor)?])?;
        let state = answer.lines().find_map(|line| line.trim().strip_prefix("BGP state:"));
        Ok(state.with_context(|| format!("no BGP state in {answer}"))?.trim().to_owned())
    }

    fn bfd(&self, neighbor: IpAddr) -> Result<String> {
        let answer = self.ask(&["show", "bfd", "sessions"])?;
        let line = answer.lines().find(|line| line.split_whitespace().next() == Some(&neighbor.to_string()));
        let state = line.and_then(|line| line.split_whitespace().nth(2));
        Ok(state.with_context(|| format!("no BFD session with {neighbor} in {answer}"))?.to_owned())
    }

    fn ask_again(&self, neighbor: IpAddr) -> Result<()> {
        self.ask(&["reload", "in", &self.protocol(neighbor)?]).map(drop)
    }

    fn shut_down(&self, neighbor: IpAddr, text: &str) -> Result<()> {
        self.ask(&["disable", &self.protocol(neighbor)?, &format!("\"{text}\"")]).map(drop)
    }

    fn log(&self) -> String {
        format!("{}{}", self.earlier_log, self.process.log())
    }

    fn crash(&mut self) -> Result<()> {
        self.machine.signal("KILL")
    }

    fn start_again(&mut self, scene: &Scene) -> Result<()> {
        self.earlier_log = self.log();
        self.process = run(scene, &self.machine, &self.directory, Some("-R"))?;
        Ok(())
    }
}

/// BIRD prints for each path a line `203.0.113.10/32 unicast [peer0 …] …` (of a second path without the prefix), then
/// `BGP.next_hop: …`, `BGP.community: (1,2) (3,4)`, `BGP.large_community: (1, 2, 3)` and so on.
fn paths(answer: &str, neighbors: &[IpAddr]) -> Result<Vec<Path>> {
    let mut paths: Vec<Path> = Vec::new();
    for line in answer.lines().map(str::trim) {
        if let Some((_, rest)) = line.split_once("[peer") {
            let index = rest.split_whitespace().next().and_then(|index| index.parse::<usize>().ok());
            let from = index.and_then(|index| neighbors.get(index)).with_context(|| format!("from whom is {line}"))?;
            // Until its own line comes.
            paths.push(Path::bare(*from, *from));
        }
        let (Some((name, value)), Some(path)) = (line.split_once(": "), paths.last_mut()) else { continue };
        match name {
            "BGP.next_hop" => {
                // The global one, `::` if there is none, and then the link-local one, if there is one.
                let address = value.split_whitespace().find(|address| *address != "::").unwrap_or_default();
                path.next_hop = address.parse().with_context(|| format!("{value} is no next hop"))?;
            }
            "BGP.as_path" => value.clone_into(&mut path.as_path),
            "BGP.med" => path.med = value.parse().ok(),
            "BGP.local_pref" => path.local_preference = value.parse().ok(),
            "BGP.aigp" => path.aigp = value.parse().ok(),
            "BGP.otc" => path.otc = value.parse().ok(),
            "BGP.community" => path.communities = tuples(value),
            "BGP.ext_community" => path.extended_communities = tuples(value),
            "BGP.large_community" => path.large_communities = tuples(value),
            _ => {}
        }
    }
    Ok(paths)
}

/// `(64500,100) (64500, 1, 7)` as `64500:100` and `64500:1:7`; well-known communities by the names that others use too.
fn tuples(value: &str) -> BTreeSet<String> {
    value
        .split(')')
        .map(|tuple| tuple.trim().trim_start_matches('(').replace(", ", ":").replace(',', ":"))
        .filter(|tuple| !tuple.is_empty())
        .map(|tuple| if tuple == "65535:65281" { "no-export".to_owned() } else { tuple })
        .collect()
}

fn configuration(config: &RouterConfig) -> Result<String> {
    let mut text = String::from("log stderr all;\ndebug protocols { states, events };\nprotocol device {}\n");
    writeln!(text, "router id {};", config.router_id)?;
    if let Some(bfd) = config.neighbors.iter().find_map(|neighbor| neighbor.bfd) {
        let timers = format!("interval {} ms; multiplier {};", bfd.milliseconds, bfd.multiplier);
        writeln!(text, "protocol bfd bfd1 {{ interface \"*\" {{ {timers} }}; multihop {{ {timers} }}; }}")?;
    }
    for family in ["ipv4", "ipv6"] {
        writeln!(text, "protocol static static_{family} {{ {family};")?;
        for route in config.routes.iter().filter(|route| route.contains(':') == (family == "ipv6")) {
            writeln!(text, "  route {route} blackhole;")?;
        }
        writeln!(text, "}}")?;
    }
    for (index, neighbor) in config.neighbors.iter().enumerate() {
        writeln!(text, "protocol bgp peer{index} {{")?;
        protocol(&mut text, config, neighbor)?;
        writeln!(text, "}}")?;
    }
    Ok(text)
}

fn protocol(text: &mut String, config: &RouterConfig, neighbor: &Neighbor) -> Result<()> {
    let local = neighbor.local_address.map(|address| address.to_string()).unwrap_or_default();
    writeln!(text, "  local {local} as {};", config.asn)?;
    writeln!(text, "  neighbor {} as {};", neighbor.address, neighbor.asn)?;
    if let Some(interface) = neighbor.interface {
        writeln!(text, "  interface \"{interface}\";")?;
    }
    // BIRD's own defaults are slow: 5 s before the first attempt, 120 s after a failed one, 60 s after an error.
    writeln!(text, "  connect delay time 0; connect retry time 1; error wait time 1, 2;")?;
    writeln!(text, "  hold time {};", neighbor.hold_time)?;
    if let Some(password) = neighbor.password {
        writeln!(text, "  password \"{password}\";")?;
    }
    if neighbor.connect == Connect::Passive {
        writeln!(text, "  passive on;")?;
    }
    if neighbor.ttl_security {
        writeln!(text, "  ttl security on;")?;
    }
    if neighbor.asn_octets == AsnOctets::Two {
        writeln!(text, "  enable as4 off;")?;
    }
    if neighbor.extended_messages {
        writeln!(text, "  enable extended messages on;")?;
    }
    if let Some(role) = neighbor.role {
        // Its parser takes the hyphens of others for minus signs.
        writeln!(text, "  local role {};", role.name().replace('-', "_"))?;
    }
    if let GracefulRestart::Restarting(seconds) = neighbor.graceful_restart {
        writeln!(text, "  graceful restart on; graceful restart time {seconds};")?;
    }
    let limit = neighbor.max_prefixes.map(|limit| format!("import limit {limit} action disable;")).unwrap_or_default();
    match neighbor.bfd {
        Some(bfd) if bfd.hops == Hops::Multi => writeln!(text, "  bfd on; multihop 4;")?,
        // BIRD's rule for eBGP; said for iBGP too, because no IGP runs here that would resolve next hops.
        Some(_) => writeln!(text, "  bfd on; direct;")?,
        None => writeln!(text, "  direct;")?,
    }
    for family in ["ipv4", "ipv6"] {
        let export = match (neighbor.told_all, config.routes.is_empty()) {
            (true, _) => "where source ~ [RTS_STATIC, RTS_BGP]",
            (false, true) => "none",
            (false, false) => "where source = RTS_STATIC",
        };
        let paths = if neighbor.add_path { "add paths on;" } else { "" };
        let extended = if neighbor.extended_next_hop { "extended next hop on;" } else { "" };
        writeln!(text, "  {family} {{ {extended} {paths} import all; export {export}; gateway direct; {limit} }};")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_bird_prints_them() {
        let answer = "BIRD 2.0.12 ready.\nTable master4:\n203.0.113.10/32      unicast [peer0 00:00:01] * (100) [AS64500i]\n\tvia 10.99.0.11 on eth0\n\tType: BGP univ\n\tBGP.origin: IGP\n\tBGP.as_path: 64500\n\tBGP.next_hop: 10.99.0.11\n\tBGP.med: 7\n\tBGP.community: (64500,100) (65535,65281)\n\tBGP.large_community: (64500, 1, 7)\n\tBGP.ext_community: (rt, 64500, 1) (unknown 0x4, 64500, 1290693416)\n";
        let node = "10.99.0.11".parse().unwrap();
        let path = paths(answer, &[node]).unwrap().remove(0);
        assert_eq!((path.from, path.next_hop.to_string().as_str()), (node, "10.99.0.11"));
        assert_eq!((path.as_path.as_str(), path.med), ("64500", Some(7)));
        assert_eq!(path.communities, BTreeSet::from(["64500:100".to_owned(), "no-export".to_owned()]));
        assert_eq!(path.large_communities, BTreeSet::from(["64500:1:7".to_owned()]));
        let extended = ["rt:64500:1", "unknown 0x4:64500:1290693416"].map(str::to_owned);
        assert_eq!(path.extended_communities, BTreeSet::from(extended));
        assert_eq!(paths("BIRD 2.0.12 ready.\n", &[node]).unwrap(), []);
    }
}
