//! Every packet on a cable, judged by a decoder that is not ours.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::network::Namespace;
use crate::process::Process;
use crate::run::output_of;
use crate::scene::Scene;

/// A running capture of BGP and BFD on a machine's `eth0`.
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Captures from now on.
    pub fn start(scene: &Scene, machine: &Namespace, label: &str) -> Result<Self> {
        let file = scene.directory().join(format!("{label}.pcap"));
        let mut command = machine.command("tcpdump");
        command
            .args(["--immediate-mode", "-U", "-Z", "root", "-i", "eth0", "-w"])
            .arg(&file)
            .args(["tcp port 179 or udp port 3784 or udp port 4784"]);
        let mut process = Process::start(scene, &format!("tcpdump-{label}"), &command)?;
        process.wait_for_log("listening on", Duration::from_secs(10))?;
        Ok(Self { process, file })
    }

    /// Ends the capture. Fails when tshark calls one of the packets malformed, or finds no BGP at all.
    pub fn ensure_well_formed(self, sender: &str) -> Result<()> {
        self.finish()?.ensure_well_formed("bgp", sender)
    }

    /// Ends the capture.
    pub fn finish(self) -> Result<Trace> {
        self.process.terminate(Duration::from_secs(10))?;
        Ok(Trace { file: self.file })
    }
}

/// What was captured.
pub struct Trace {
    file: PathBuf,
}

impl Trace {
    /// Fails when tshark calls one of the packets of this protocol malformed, or finds none at all.
    pub fn ensure_well_formed(&self, protocol: &str, sender: &str) -> Result<()> {
        let from_us = format!("{} && {protocol}", sent_by(sender));
        let sent = packets(&self.file, &from_us)?;
        ensure!(!sent.is_empty(), "no {protocol} from {sender} in {}", self.file.display());
        let broken = packets(&self.file, &format!("{from_us} && (_ws.malformed || _ws.expert.severity == error)"))?;
        ensure!(broken.is_empty(), "tshark calls these packets of ours malformed:\n{broken}");
        Ok(())
    }

    /// Fails when a display filter takes any packet, or there is none at all.
    pub fn ensure_none(&self, filter: &str) -> Result<()> {
        ensure!(!packets(&self.file, "frame")?.is_empty(), "nothing in {}", self.file.display());
        let taken = packets(&self.file, filter)?;
        ensure!(taken.is_empty(), "these packets are {filter}:\n{taken}");
        Ok(())
    }

    /// The number of the first packet from there that a display filter takes.
    pub fn first(&self, sender: &str, filter: &str) -> Result<u64> {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(&self.file).args(["-T", "fields", "-e", "frame.number"]);
        command.args(["-Y", &format!("{} && ({filter})", sent_by(sender))]);
        let numbers = output_of(&mut command)?;
        let first = numbers.lines().next().with_context(|| format!("no packet from {sender} is {filter}"))?;
        first.parse().with_context(|| format!("{first} is no number of a packet"))
    }
}

fn sent_by(sender: &str) -> String {
    format!("{}.src == {sender}", if sender.contains(':') { "ipv6" } else { "ip" })
}

fn packets(file: &PathBuf, filter: &str) -> Result<String> {
    output_of(Command::new("tshark").arg("-r").arg(file).args(["-Y", filter]))
}
