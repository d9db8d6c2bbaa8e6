//! GoBGP.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Path, Router, RouterConfig};
use crate::network::Namespace;
use crate::process::Process;
use crate::run::output_of;
use crate::scene::Scene;
use crate::wait::wait_until;

/// GoBGP's path attribute types, as its JSON numbers them (those of IANA).
const NEXT_HOP: u64 = 3;
const COMMUNITIES: u64 = 8;
const MP_REACH: u64 = 14;
const LARGE_COMMUNITIES: u64 = 32;

/// A running gobgpd.
pub struct Gobgp {
    machine: Namespace,
    _process: Process,
}

impl Gobgp {
    /// Starts gobgpd on a machine.
    pub fn start(scene: &Scene, machine: &Namespace, config: &RouterConfig) -> Result<Self> {
        let file = scene.subdirectory("gobgp")?.join("gobgp.toml");
        fs::write(&file, configuration(config)?).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = machine.command("gobgpd");
        command
            .args(["-t", "toml", "--api-hosts", "127.0.0.1:50051", "--pprof-disable", "-l", "debug", "-f"])
            .arg(&file);
        let gobgp = Self { machine: machine.clone(), _process: Process::start(scene, "gobgpd", &command)? };
        wait_until("gobgpd to answer", Duration::from_secs(10), || gobgp.ask("neighbor").map(drop))?;
        Ok(gobgp)
    }

    fn ask(&self, question: &str) -> Result<Value> {
        let answer = output_of(self.machine.command("gobgp").arg("-j").args(question.split_whitespace()))?;
        if answer.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&answer).with_context(|| format!("gobgp answered to {question}: {answer}"))
    }
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
}

fn path(path: &Value) -> Result<Path> {
    let attributes = path.get("attrs").and_then(Value::as_array).context("a path without attributes")?;
    let attribute =
        |number: u64| attributes.iter().find(|found| found.get("type").and_then(Value::as_u64) == Some(number));
    let next_hop = attribute(NEXT_HOP).or_else(|| attribute(MP_REACH)).and_then(|found| found.get("nexthop"));
    let next_hop = next_hop.and_then(Value::as_str).with_context(|| format!("a path without a next hop: {path}"))?;
    let list = |number: u64| {
        attribute(number).and_then(|found| found.get(if number == COMMUNITIES { "communities" } else { "value" }))
    };
    let communities = list(COMMUNITIES).and_then(Value::as_array).cloned().unwrap_or_default();
    let large = list(LARGE_COMMUNITIES).and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(Path {
        next_hop: next_hop.parse().with_context(|| format!("{next_hop} is no next hop"))?,
        communities: communities.iter().filter_map(Value::as_u64).map(community).collect(),
        large_communities: large.iter().filter_map(large_community).collect(),
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
    for neighbor in &config.neighbors {
        writeln!(text, "[[neighbors]]\n  [neighbors.config]")?;
        writeln!(text, "    neighbor-address = \"{}\"\n    peer-as = {}", neighbor.address, neighbor.asn)?;
        if let Some(password) = neighbor.password {
            writeln!(text, "    auth-password = \"{password}\"")?;
        }
        writeln!(text, "  [neighbors.timers.config]\n    connect-retry = 5")?;
        for family in ["ipv4-unicast", "ipv6-unicast"] {
            writeln!(
                text,
                "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"{family}\""
            )?;
        }
    }
    Ok(text)
}
