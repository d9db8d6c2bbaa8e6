//! FRR's bgpd alone, with a passive neighbour for each case.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::cases;
use super::{Neighbor, Route, Router, Routes};
use crate::network::Namespace;
use crate::process::Process;
use crate::run::{output_of, run};
use crate::scene::Scene;

/// Members of a path in FRR's JSON, and the attributes that they stand for.
const MEMBERS: &[(&str, u8)] = &[
    ("origin", 1),
    ("aspath", 2),
    ("nexthops", 3),
    ("metric", 4),
    ("atomicAggregate", 6),
    ("aggregatorAs", 7),
    ("community", 8),
    ("originatorId", 9),
    ("clusterList", 10),
    ("extendedCommunity", 16),
    ("largeCommunity", 32),
    ("otc", 35),
];

struct Frr {
    machine: Namespace,
    sockets: PathBuf,
    process: Process,
}

pub(super) fn start(scene: &Scene, machine: &Namespace, neighbors: &[Neighbor]) -> Result<Box<dyn Router>> {
    let sockets = scene.subdirectory("malformed-frr")?;
    let file = sockets.join("frr.conf");
    fs::write(&file, configuration(neighbors)?).with_context(|| format!("cannot write {}", file.display()))?;
    run("chown", &format!("frr:frr {}", sockets.display()))?;
    let mut command = machine.command("/usr/lib/frr/bgpd");
    command.args(["--log", "stdout", "-Z", "--vty_socket"]).arg(&sockets).arg("-f").arg(&file);
    command.arg("-i").arg(sockets.join("bgpd.pid")).arg("-z").arg(sockets.join("zserv.api"));
    let mut process = Process::start(scene, "malformed-bgpd", &command)?;
    let ask = || vtysh(machine, &sockets, "show bgp summary json").map(drop);
    process.wait_until("bgpd to answer", Duration::from_secs(20), ask)?;
    Ok(Box::new(Frr { machine: machine.clone(), sockets, process }))
}

fn vtysh(machine: &Namespace, sockets: &PathBuf, question: &str) -> Result<String> {
    output_of(machine.command("vtysh").arg("--vty_socket").arg(sockets).args(["-d", "bgpd", "-c", question]))
}

fn configuration(neighbors: &[Neighbor]) -> Result<String> {
    let mut text = String::from("frr defaults traditional\nhostname router\ndebug bgp updates in\n");
    writeln!(text, "router bgp {}\n bgp router-id {}", cases::LOCAL_ASN, Ipv4Addr::from(cases::LOCAL_ADDRESS))?;
    writeln!(text, " no bgp ebgp-requires-policy\n no bgp default ipv4-unicast")?;
    for neighbor in neighbors {
        writeln!(text, " neighbor {} remote-as {}", neighbor.address, neighbor.session.asn())?;
        writeln!(text, " neighbor {} passive", neighbor.address)?;
    }
    for family in ["ipv4", "ipv6"] {
        writeln!(text, " address-family {family} unicast")?;
        for neighbor in neighbors {
            writeln!(text, "  neighbor {} activate", neighbor.address)?;
        }
        writeln!(text, " exit-address-family")?;
    }
    Ok(text)
}

impl Router for Frr {
    fn name(&self) -> &'static str {
        "FRR 8.4.4"
    }

    fn routes(&self, prefix: &str) -> Result<Routes> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let answer = vtysh(&self.machine, &self.sockets, &format!("show bgp {family} unicast {prefix} json"))?;
        let answer: Value = serde_json::from_str(&answer).with_context(|| format!("vtysh answered {answer}"))?;
        let paths = answer.get("paths").and_then(Value::as_array).into_iter().flatten();
        paths.map(route).collect()
    }

    fn shows(&self) -> &'static [u8] {
        &[1, 2, 3, 4, 6, 7, 8, 9, 10, 16, 32]
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn route(path: &Value) -> Result<(Ipv4Addr, Route)> {
    let peer = path.pointer("/peer/peerId").and_then(Value::as_str).context("a path of nobody")?;
    let med = path.get("metric").and_then(Value::as_u64).and_then(|med| u32::try_from(med).ok());
    let attributes = MEMBERS.iter().filter(|(name, _)| path.get(*name).is_some()).map(|(_, kind)| *kind).collect();
    Ok((peer.parse()?, Route { med, attributes }))
}
