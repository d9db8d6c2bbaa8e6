//! BIRD, with a passive protocol for each case.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cases::{self, Session};
use super::{Neighbor, Router, Routes, number};
use crate::network::Namespace;
use crate::process::Process;
use crate::run::output_of;
use crate::scene::Scene;

/// BIRD prints attributes that it does not know by their number, the others by these names.
const NAMES: &[(&str, u8)] = &[
    ("origin", 1),
    ("as_path", 2),
    ("next_hop", 3),
    ("med", 4),
    ("local_pref", 5),
    ("atomic_aggr", 6),
    ("aggregator", 7),
    ("community", 8),
    ("originator_id", 9),
    ("cluster_list", 10),
    ("ext_community", 16),
    ("large_community", 32),
    ("otc", 35),
];

struct Bird {
    machine: Namespace,
    socket: PathBuf,
    neighbors: Vec<Ipv4Addr>,
    process: Process,
}

pub(super) fn start(scene: &Scene, machine: &Namespace, neighbors: &[Neighbor]) -> Result<Box<dyn Router>> {
    let directory = scene.subdirectory("malformed-bird")?;
    let (file, socket) = (directory.join("bird.conf"), directory.join("ctl"));
    fs::write(&file, configuration(neighbors)?).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = machine.command("bird");
    command.arg("-f").arg("-c").arg(&file).arg("-s").arg(&socket).arg("-P").arg(directory.join("pid"));
    let mut process = Process::start(scene, "malformed-bird", &command)?;
    process.wait_for_log("Started", Duration::from_secs(20))?;
    let neighbors = neighbors.iter().map(|neighbor| neighbor.address).collect();
    Ok(Box::new(Bird { machine: machine.clone(), socket, neighbors, process }))
}

fn configuration(neighbors: &[Neighbor]) -> Result<String> {
    let mut text =
        format!("log stderr all;\nprotocol device {{}}\nrouter id {};\n", Ipv4Addr::from(cases::LOCAL_ADDRESS));
    for (index, neighbor) in neighbors.iter().enumerate() {
        writeln!(text, "protocol bgp peer{index} {{\n  local as {};", cases::LOCAL_ASN)?;
        writeln!(text, "  neighbor {} as {};\n  passive; direct;", neighbor.address, neighbor.session.asn())?;
        if neighbor.session == Session::Extended {
            writeln!(text, "  enable extended messages on;")?;
        }
        for family in ["ipv4", "ipv6"] {
            writeln!(text, "  {family} {{ import all; export none; gateway direct; }};")?;
        }
        writeln!(text, "}}")?;
    }
    Ok(text)
}

impl Router for Bird {
    fn name(&self) -> &'static str {
        "BIRD 2.0.12"
    }

    fn routes(&self, prefix: &str) -> Result<Routes> {
        let mut command = self.machine.command("birdc");
        command.arg("-s").arg(&self.socket).args(["show", "route", "all", prefix]);
        let answer = match output_of(&mut command) {
            Err(error) if error.to_string().contains("Network not found") => return Ok(Routes::new()),
            answer => answer?,
        };
        let mut routes = Routes::new();
        let mut last = None;
        for line in answer.lines() {
            // `203.0.113.0/24  unicast [peer7 09:00:00.000] * (100) [AS64512i]`, then lines of attributes.
            let peer = line.split_once("[peer").and_then(|(_, rest)| rest.split_once(' '));
            if let Some((index, _)) = peer.filter(|_| !line.trim_start().starts_with("BGP")) {
                let index: usize = index.parse().with_context(|| format!("whose is {line}?"))?;
                let address = self.neighbors.get(index).with_context(|| format!("whose is {line}?"))?;
                last = Some(routes.entry(*address).or_default());
            } else if let Some((name, value)) = line.trim().strip_prefix("BGP.").and_then(|rest| rest.split_once(':'))
                && let Some(route) = &mut last
            {
                let known = NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
                if known == Some(4) {
                    route.med = Some(number(value)?);
                }
                // `BGP.fe [t]: 01 02 03`
                let unknown = name.split_whitespace().next().and_then(|word| u8::from_str_radix(word, 16).ok());
                route.attributes.extend(known.or(unknown));
            }
        }
        Ok(routes)
    }

    fn shows(&self) -> &'static [u8] {
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 23, 25, 26, 32, 35, 40, 128, 254]
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
