//! OpenBGPD, with a passive neighbour for each case.
//!
//! What surprises who starts it outside of its service: it chroots into a directory below /run that its service makes, and
//! it refuses a configuration file that others may read.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::cases;
use super::{Neighbor, Route, Router, Routes};
use crate::network::Namespace;
use crate::process::Process;
use crate::run::output_of;
use crate::scene::Scene;

/// Members of a path in OpenBGPD's JSON, and the attributes that they stand for.
const MEMBERS: &[(&str, u8)] = &[
    ("origin", 1),
    ("aspath", 2),
    ("exit_nexthop", 3),
    ("metric", 4),
    ("communities", 8),
    ("extended_communities", 16),
    ("large_communities", 32),
];

struct Openbgpd {
    machine: Namespace,
    socket: PathBuf,
    process: Process,
}

pub(super) fn start(scene: &Scene, machine: &Namespace, neighbors: &[Neighbor]) -> Result<Box<dyn Router>> {
    let directory = scene.subdirectory("malformed-openbgpd")?;
    let (file, socket, run) = (directory.join("bgpd.conf"), directory.join("control"), directory.join("run"));
    fs::write(&file, configuration(neighbors, &socket)?).with_context(|| format!("cannot write {}", file.display()))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).context("cannot protect bgpd.conf")?;
    fs::create_dir_all(run.join("openbgpd")).with_context(|| format!("cannot create {}", run.display()))?;
    let mut command = machine.command("unshare");
    let script = format!("mount --bind {} /run && exec bgpd -d -f {}", run.display(), file.display());
    command.args(["--mount", "sh", "-c", &script]);
    let mut process = Process::start(scene, "malformed-openbgpd", &command)?;
    let ask = || bgpctl(machine, &socket, "show").map(drop);
    process.wait_until("OpenBGPD to answer", Duration::from_secs(20), ask)?;
    Ok(Box::new(Openbgpd { machine: machine.clone(), socket, process }))
}

fn bgpctl(machine: &Namespace, socket: &Path, question: &str) -> Result<String> {
    output_of(machine.command("bgpctl").arg("-s").arg(socket).arg("-j").args(question.split_whitespace()))
}

fn configuration(neighbors: &[Neighbor], socket: &Path) -> Result<String> {
    let mut text = format!("AS {}\nrouter-id {}\n", cases::LOCAL_ASN, Ipv4Addr::from(cases::LOCAL_ADDRESS));
    writeln!(text, "fib-update no\nsocket \"{}\"", socket.display())?;
    for neighbor in neighbors {
        writeln!(text, "neighbor {} {{\n  remote-as {}", neighbor.address, neighbor.session.asn())?;
        writeln!(text, "  passive\n  announce IPv4 unicast\n  announce IPv6 unicast\n}}")?;
    }
    writeln!(text, "allow from any\ndeny to any")?;
    Ok(text)
}

impl Router for Openbgpd {
    fn name(&self) -> &'static str {
        "OpenBGPD 7.7"
    }

    fn routes(&self, prefix: &str) -> Result<Routes> {
        let answer = bgpctl(&self.machine, &self.socket, &format!("show rib detail {prefix}"))?;
        let answer: Value = serde_json::from_str(&answer).with_context(|| format!("bgpctl answered {answer}"))?;
        let paths = answer.get("rib").and_then(Value::as_array).into_iter().flatten();
        paths.map(route).collect()
    }

    fn shows(&self) -> &'static [u8] {
        &[1, 2, 3, 4, 8, 16, 32]
    }

    fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn route(path: &Value) -> Result<(Ipv4Addr, Route)> {
    let peer = path.pointer("/neighbor/remote_addr").and_then(Value::as_str).context("a path of nobody")?;
    let med = path.get("metric").and_then(Value::as_u64).and_then(|med| u32::try_from(med).ok());
    let attributes = MEMBERS.iter().filter(|(name, _)| path.get(*name).is_some()).map(|(_, kind)| *kind).collect();
    Ok((peer.parse()?, Route { med, attributes }))
}
