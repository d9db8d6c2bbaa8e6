//! The scripted peers, from the test's side: their script, and what they say about how their sessions ended.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};

use super::cases::Case;
use super::{Neighbor, story};
use crate::network::Namespace;
use crate::process::Process;
use crate::product;
use crate::scene::Scene;

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Reset(u8, u8),
    Closed,
}

/// One peer for each case.
pub(super) struct Peers {
    process: Process,
    count: usize,
}

impl Peers {
    pub(super) fn start(
        scene: &Scene,
        machine: &Namespace,
        router: Ipv4Addr,
        neighbors: &[Neighbor],
        cases: &[&Case],
    ) -> Result<Self> {
        let mut script = String::new();
        for (neighbor, case) in neighbors.iter().zip(cases) {
            machine.ip(&format!("address add {}/16 dev eth0", neighbor.address))?;
            write!(script, "{} {router}", neighbor.address)?;
            for message in story(case) {
                write!(script, " ")?;
                message.iter().try_for_each(|octet| write!(script, "{octet:02x}"))?;
            }
            writeln!(script)?;
        }
        let file = scene.directory().join("scripted-peers.txt");
        fs::write(&file, script).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = machine.command(product::beside_this("e2e-scripted-peers")?);
        command.arg(&file);
        Ok(Self { process: Process::start(scene, "scripted-peers", &command)?, count: cases.len() })
    }

    /// How each session ended, or that it has not.
    pub(super) fn ended(&self) -> Result<Vec<Option<Ended>>> {
        let log = self.process.log();
        let mut ended = BTreeMap::new();
        for line in log.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (index, end) = match words[..] {
                [_, "sent"] => continue,
                [index, "reset", code, subcode] => (index, Ended::Reset(code.parse()?, subcode.parse()?)),
                [index, "closed"] => (index, Ended::Closed),
                _ => bail!("the scripted peers said: {line}"),
            };
            ended.insert(index.parse::<usize>()?, end);
        }
        Ok((0..self.count).map(|index| ended.get(&index).copied()).collect())
    }
}
