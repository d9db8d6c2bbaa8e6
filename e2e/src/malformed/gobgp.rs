//! GoBGP, with a passive neighbour for each case.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::cases;
use super::{Neighbor, Route, Router, Routes};
use crate::network::Namespace;
use crate::process::Process;
use crate::run::output_of;
use crate::scene::Scene;

struct Gobgp {
    machine: Namespace,
    process: Process,
}

pub(super) fn start(scene: &Scene, machine: &Namespace, neighbors: &[Neighbor]) -> Result<Box<dyn Router>> {
    let file = scene.subdirectory("malformed-gobgp")?.join("gobgp.toml");
    fs::write(&file, configuration(neighbors)?).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = machine.command("gobgpd");
    command.args(["-t", "toml", "--api-hosts", "127.0.0.1:50051", "--pprof-disable", "-f"]).arg(&file);
    let mut process = Process::start(scene, "malformed-gobgpd", &command)?;
    process.wait_until("gobgpd to answer", Duration::from_secs(20), || ask(machine, "neighbor").map(drop))?;
    Ok(Box::new(Gobgp { machine: machine.clone(), process }))
}

fn ask(machine: &Namespace, question: &str) -> Result<Value> {
    let answer = output_of(machine.command("gobgp").arg("-j").args(question.split_whitespace()))?;
    if answer.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&answer).with_context(|| format!("gobgp answered to {question}: {answer}"))
}

fn configuration(neighbors: &[Neighbor]) -> Result<String> {
    let mut text = format!(
        "[global.config]\n  as = {}\n  router-id = \"{}\"\n",
        cases::LOCAL_ASN,
        Ipv4Addr::from(cases::LOCAL_ADDRESS)
    );
    for neighbor in neighbors {
        writeln!(text, "[[neighbors]]\n  [neighbors.config]")?;
        writeln!(text, "    neighbor-address = \"{}\"", neighbor.address)?;
        writeln!(text, "    peer-as = {}", neighbor.session.asn())?;
        writeln!(text, "  [neighbors.transport.config]\n    passive-mode = true")?;
        for family in ["ipv4-unicast", "ipv6-unicast"] {
            writeln!(text, "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]")?;
            writeln!(text, "      afi-safi-name = \"{family}\"")?;
        }
    }
    Ok(text)
}

impl Router for Gobgp {
    fn name(&self) -> &'static str {
        "GoBGP 3.10.0"
    }

    fn routes(&self, prefix: &str) -> Result<Routes> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let table = ask(&self.machine, &format!("global rib {prefix} -a {family}"))?;
        let paths = table.get(prefix).and_then(Value::as_array).into_iter().flatten();
        paths.map(route).collect()
    }

    fn shows(&self) -> &'static [u8] {
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 17, 18, 22, 23, 25, 26, 32, 35, 40, 128, 254]
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn route(path: &Value) -> Result<(Ipv4Addr, Route)> {
    let peer = path.get("neighbor-ip").and_then(Value::as_str).with_context(|| format!("a path of nobody: {path}"))?;
    let mut route = Route::default();
    for attribute in path.get("attrs").and_then(Value::as_array).into_iter().flatten() {
        let kind = attribute.get("type").and_then(Value::as_u64).and_then(|kind| u8::try_from(kind).ok());
        route.attributes.extend(kind);
        if kind == Some(4) {
            route.med = attribute.get("metric").and_then(Value::as_u64).and_then(|med| u32::try_from(med).ok());
        }
    }
    Ok((peer.parse()?, route))
}
