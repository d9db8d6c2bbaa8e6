//! Every packet on a cable, judged by a decoder that is not ours.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::network::Namespace;
use crate::process::Process;
use crate::run::output_of;
use crate::scene::Scene;

/// A running capture of BGP on a machine's `eth0`.
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
            .args(["tcp", "port", "179"]);
        let mut process = Process::start(scene, &format!("tcpdump-{label}"), &command)?;
        process.wait_for_log("listening on", Duration::from_secs(10))?;
        Ok(Self { process, file })
    }

    /// Ends the capture. Fails when tshark calls one of the packets malformed, or finds no BGP at all.
    pub fn ensure_well_formed(self, sender: &str) -> Result<()> {
        self.process.terminate(Duration::from_secs(10))?;
        let family = if sender.contains(':') { "ipv6" } else { "ip" };
        let from_us = format!("{family}.src == {sender} && bgp");
        let sent = packets(&self.file, &from_us)?;
        ensure!(!sent.is_empty(), "no BGP from {sender} in {}", self.file.display());
        let broken = packets(&self.file, &format!("{from_us} && (_ws.malformed || _ws.expert.severity == error)"))?;
        ensure!(broken.is_empty(), "tshark calls these packets of ours malformed:\n{broken}");
        Ok(())
    }
}

fn packets(file: &PathBuf, filter: &str) -> Result<String> {
    output_of(Command::new("tshark").arg("-r").arg(file).args(["-Y", filter]))
}
