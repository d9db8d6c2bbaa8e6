//! BIRD 2.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Path, Router, RouterConfig};
use crate::network::Namespace;
use crate::process::Process;
use crate::run::output_of;
use crate::scene::Scene;

/// A running BIRD.
pub struct Bird {
    machine: Namespace,
    socket: PathBuf,
    neighbors: Vec<IpAddr>,
    _process: Process,
}

impl Bird {
    /// Starts BIRD on a machine.
    pub fn start(scene: &Scene, machine: &Namespace, config: &RouterConfig) -> Result<Self> {
        let directory = scene.subdirectory("bird")?;
        let (file, socket) = (directory.join("bird.conf"), directory.join("ctl"));
        fs::write(&file, configuration(config)?).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = machine.command("bird");
        command.arg("-f").arg("-c").arg(&file).arg("-s").arg(&socket).arg("-P").arg(directory.join("pid"));
        let mut process = Process::start(scene, "bird", &command)?;
        process.wait_for_log("Started", Duration::from_secs(10))?;
        let neighbors = config.neighbors.iter().map(|neighbor| neighbor.address).collect();
        Ok(Self { machine: machine.clone(), socket, neighbors, _process: process })
    }

    fn ask(&self, question: &str) -> Result<String> {
        output_of(self.machine.command("birdc").arg("-s").arg(&self.socket).args(question.split_whitespace()))
    }
}

impl Router for Bird {
    fn name(&self) -> &'static str {
        "BIRD"
    }

    fn paths(&self, prefix: &str) -> Result<Vec<Path>> {
        // birdc fails on "Network not found", which here is an answer as good as any.
        match self.ask(&format!("show route all for {prefix}")) {
            Ok(answer) => paths(&answer),
            Err(error) if error.to_string().contains("Network not found") => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn session(&self, neighbor: IpAddr) -> Result<String> {
        let index = self.neighbors.iter().position(|address| *address == neighbor);
        let index = index.with_context(|| format!("BIRD has no neighbour {neighbor}"))?;
        let answer = self.ask(&format!("show protocols all peer{index}"))?;
        let state = answer.lines().find_map(|line| line.trim().strip_prefix("BGP state:"));
        Ok(state.with_context(|| format!("no BGP state in {answer}"))?.trim().to_owned())
    }
}

/// BIRD prints for each path the lines `BGP.next_hop: …`, `BGP.community: (1,2) (3,4)`, `BGP.large_community: (1, 2, 3)`.
fn paths(answer: &str) -> Result<Vec<Path>> {
    let mut paths: Vec<Path> = Vec::new();
    for line in answer.lines().map(str::trim) {
        let Some((name, value)) = line.split_once(": ") else { continue };
        match (name, paths.last_mut()) {
            ("BGP.next_hop", _) => {
                let global = value.split_whitespace().next().unwrap_or_default();
                let next_hop = global.parse().with_context(|| format!("{value} is no next hop"))?;
                paths.push(Path { next_hop, communities: BTreeSet::new(), large_communities: BTreeSet::new() });
            }
            ("BGP.community", Some(path)) => path.communities = tuples(value),
            ("BGP.large_community", Some(path)) => path.large_communities = tuples(value),
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
    for (index, neighbor) in config.neighbors.iter().enumerate() {
        writeln!(text, "protocol bgp peer{index} {{")?;
        writeln!(text, "  local as {};", config.asn)?;
        writeln!(text, "  neighbor {} as {};", neighbor.address, neighbor.asn)?;
        writeln!(text, "  connect retry time 1; error wait time 1, 2;")?;
        if let Some(password) = neighbor.password {
            writeln!(text, "  password \"{password}\";")?;
        }
        // `gateway direct` is BIRD's rule for eBGP; said for iBGP too, because no IGP runs here.
        for family in ["ipv4", "ipv6"] {
            writeln!(text, "  {family} {{ import all; export none; gateway direct; }};")?;
        }
        writeln!(text, "}}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_bird_prints_them() {
        let answer = "BIRD 2.0.12 ready.\nTable master4:\n203.0.113.10/32      unicast [peer0 00:00:01] * (100) [AS64500i]\n\tvia 10.99.0.11 on eth0\n\tType: BGP univ\n\tBGP.origin: IGP\n\tBGP.as_path: 64500\n\tBGP.next_hop: 10.99.0.11\n\tBGP.community: (64500,100) (65535,65281)\n\tBGP.large_community: (64500, 1, 7)\n";
        let path = paths(answer).unwrap().remove(0);
        assert_eq!(path.next_hop.to_string(), "10.99.0.11");
        assert_eq!(path.communities, BTreeSet::from(["64500:100".to_owned(), "no-export".to_owned()]));
        assert_eq!(path.large_communities, BTreeSet::from(["64500:1:7".to_owned()]));
        assert_eq!(paths("BIRD 2.0.12 ready.\n").unwrap(), []);
    }
}
