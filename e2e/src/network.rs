//! Machines and cables: network namespaces, veth pairs and a bridge.
//!
//! The bridge lives in a namespace too, so nothing shows among the interfaces of the machine that runs the tests.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::run::{output_of, run};
use crate::scene::Scene;

/// A switch that namespaces are plugged into.
pub struct Fabric {
    namespace: Namespace,
}

/// A machine, as far as the network is concerned.
///
/// It is removed by the scene and not on drop: a namespace must outlive the processes in it, and the scene ends those
/// first.
#[derive(Clone)]
pub struct Namespace {
    name: String,
}

impl Fabric {
    /// A switch with nothing plugged in.
    pub fn new(scene: &Scene, label: &str) -> Result<Self> {
        let namespace = Namespace::new(scene, label)?;
        namespace.ip("link add br0 type bridge")?;
        namespace.ip("link set br0 up")?;
        Ok(Self { namespace })
    }

    /// A new machine on this switch: interface `eth0` with `addresses` (`192.0.2.1/24`).
    pub fn machine(&self, scene: &Scene, label: &str, addresses: &[&str]) -> Result<Namespace> {
        let machine = Namespace::new(scene, label)?;
        self.plug(&machine, "eth0", addresses)?;
        Ok(machine)
    }

    /// Lets nothing of IPv4 in through the cable that was plugged in last but from these addresses and ranges, as a cloud does with a
    /// network card; what it drops is counted.
    pub fn guard(&self, allowed: &[&str]) -> Result<()> {
        let ports = self.namespace.ip("-oneline link show type veth")?.lines().count();
        let port = format!("port{}", ports.saturating_sub(1));
        let chain = "{ type filter hook forward priority 0; }";
        let rules = format!(
            "add table bridge cloud; add chain bridge cloud forward {chain}; \
             add rule bridge cloud forward iifname {port} ip saddr != {{ {} }} counter drop",
            allowed.join(", ")
        );
        output_of(self.namespace.command("nft").arg(rules)).map(drop)
    }

    /// How many packets the guards of all its cables have dropped.
    pub fn dropped(&self) -> Result<u64> {
        let rules = self.namespace.run("nft", "list chain bridge cloud forward")?;
        let mut words = rules.split_whitespace();
        let mut dropped = 0;
        while let Some(word) = words.next() {
            if word == "packets" {
                dropped += words.next().unwrap_or_default().parse::<u64>().context("nft counts no number")?;
            }
        }
        Ok(dropped)
    }

    /// Another cable from this switch to a machine.
    pub fn plug(&self, machine: &Namespace, interface: &str, addresses: &[&str]) -> Result<()> {
        // The switch's end is named by a count, because interface names are short and labels are not.
        let ports = self.namespace.ip("-oneline link show type veth")?.lines().count();
        let port = format!("port{ports}");
        let (switch, name) = (&self.namespace.name, &machine.name);
        run("ip", &format!("link add {port} netns {switch} type veth peer name {interface} netns {name}"))?;
        self.namespace.ip(&format!("link set {port} master br0 up"))?;
        for address in addresses {
            // Duplicate address detection would keep an IPv6 address unusable for its first seconds.
            let flags = if address.contains(':') { "nodad" } else { "" };
            machine.ip(&format!("address add {address} dev {interface} {flags}"))?;
        }
        machine.ip(&format!("link set {interface} up"))?;
        Ok(())
    }
}

impl Namespace {
    /// A machine with nothing but loopback.
    pub fn new(scene: &Scene, label: &str) -> Result<Self> {
        let namespace = Self { name: format!("{}-{label}", scene.id()) };
        run("ip", &format!("netns add {}", namespace.name))
            .context("cannot make a network namespace: is this root?")?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The file that stands for it: who opens it can enter.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Its name, which no other has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs on this machine.
    ///
    /// By `nsenter` and not `ip netns exec`: the latter mounts a fresh /sys, in which a kubelet finds no cgroups.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }

    /// Runs a function on this machine, in a thread that goes there: sockets belong for ever to where they were made.
    pub fn within<T: Send + 'static>(&self, function: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let path = self.path();
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let visitor = std::thread::spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot enter a network namespace: is this root?")?;
            Ok(function())
        });
        visitor.join().map_err(|_| anyhow!("what ran in {} panicked", path.display()))?
    }

    /// Runs a short command on this machine, arguments separated by blanks.
    pub fn run(&self, program: &str, arguments: &str) -> Result<String> {
        output_of(self.command(program).args(arguments.split_whitespace()))
    }

    /// Runs `ip` on this machine.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        run("ip", &format!("-netns {} {arguments}", self.name))
    }

    /// Sends a signal by its name to every process on this machine: `STOP`, `CONT`, `KILL`.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let processes = run("ip", &format!("netns pids {}", self.name))?;
        for process in processes.split_whitespace() {
            // One of them may have ended since it was listed, as the others do when their parent is killed.
            let _ = run("kill", &format!("-{signal} {process}"));
        }
        Ok(())
    }

    /// Makes a router of it: packets pass through.
    pub fn forward(&self) -> Result<()> {
        self.run("sysctl", "-qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1").map(drop)
    }
}
