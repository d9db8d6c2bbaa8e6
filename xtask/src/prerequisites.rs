//! What the end-to-end tests find on the machine: Debian's routers and the parts of a Kubernetes node.
//!
//! When this runs as root on Debian, what lacks is installed, with a line that says so. Otherwise the run fails with the
//! list and the command that would help.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::step;

/// A Debian package and a file by which we know that it is there. Any other way to bring that file is as good.
struct Package {
    name: &'static str,
    file: &'static str,
}

const PACKAGES: &[Package] = &[
    Package { name: "bird2", file: "/usr/sbin/bird" },
    // Not /bin/busybox: the dynamic one lies there too, and cannot run in an image that holds nothing else.
    Package { name: "busybox-static", file: "/usr/share/doc/busybox-static/copyright" },
    Package { name: "containerd", file: "/usr/bin/containerd" },
    Package { name: "containernetworking-plugins", file: "/usr/lib/cni/bridge" },
    Package { name: "curl", file: "/usr/bin/curl" },
    Package { name: "etcd-server", file: "/usr/bin/etcd" },
    Package { name: "exabgp", file: "/usr/sbin/exabgp" },
    Package { name: "frr", file: "/usr/lib/frr/bgpd" },
    Package { name: "gobgpd", file: "/usr/bin/gobgpd" },
    Package { name: "iproute2", file: "/sbin/ip" },
    Package { name: "iptables", file: "/usr/sbin/iptables-nft" },
    Package { name: "nftables", file: "/usr/sbin/nft" },
    Package { name: "openbgpd", file: "/usr/sbin/bgpctl" },
    Package { name: "openssl", file: "/usr/bin/openssl" },
    Package { name: "procps", file: "/sbin/sysctl" },
    Package { name: "python3", file: "/usr/bin/python3" },
    Package { name: "runc", file: "/usr/sbin/runc" },
    Package { name: "tcpdump", file: "/usr/bin/tcpdump" },
    Package { name: "tshark", file: "/usr/bin/tshark" },
    Package { name: "util-linux", file: "/usr/bin/nsenter" },
];

/// For the counting benches alone, and so not among what the tests need.
const VALGRIND: Package = Package { name: "valgrind", file: "/usr/bin/valgrind" };

/// Debian asks this script before a package starts its daemon; 101 means "not now". The tests start the daemons
/// themselves, in namespaces, and nobody who runs tests asked for a router on their machine.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Fails at once when the end-to-end tests cannot run here, before anything is built.
pub(crate) fn possible() -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "the end-to-end tests need Linux: `cargo xtask test --fast` runs anywhere");
    ensure!(
        is_root()?,
        "the end-to-end tests make network namespaces, so they need root: run `cargo xtask test` as root, or \
         `cargo xtask test --fast` for all tests that need none"
    );
    let missing = missing();
    ensure!(
        missing.is_empty() || Path::new("/usr/bin/apt-get").exists(),
        "not on this machine, and no apt-get to install them: {} (Debian's package names)",
        missing.join(" ")
    );
    crate::tools::possible()
}

/// Installs what lacks, saying so.
pub(crate) fn ensure() -> Result<()> {
    possible()?;
    let missing = missing();
    if missing.is_empty() {
        step::say(&format!("    ok  prerequisites: all {} Debian packages are here", PACKAGES.len()));
        return Ok(());
    }
    install(&missing)?;
    if Path::new("/run/systemd/system").exists() {
        step::say(
            "        Debian enables daemons for the next boot; `systemctl disable frr bird openbgpd exabgp etcd containerd` keeps them off",
        );
    }
    let missing = self::missing();
    if !missing.is_empty() {
        bail!("apt-get installed them, and yet their files are not here: {}", missing.join(" "));
    }
    Ok(())
}

/// Installs valgrind where it lacks and that is possible.
pub(crate) fn ensure_valgrind() -> Result<()> {
    let there = || Path::new(VALGRIND.file).exists();
    if there() {
        return Ok(());
    }
    ensure!(
        is_root()? && Path::new("/usr/bin/apt-get").exists(),
        "instructions are counted by valgrind, and {} is not there: install Debian's package {}, or run this as root on Debian",
        VALGRIND.file,
        VALGRIND.name
    );
    install(&[VALGRIND.name])?;
    ensure!(there(), "apt-get installed {}, and yet {} is not here", VALGRIND.name, VALGRIND.file);
    Ok(())
}

fn install(packages: &[&str]) -> Result<()> {
    step::say(&format!("        not on this machine, installing with apt-get: {}", packages.join(" ")));
    let _no_daemons = NoDaemons::ask_for()?;
    let mut update = Command::new("apt-get");
    step::run("apt-get update", step::nothing, update.args(["update", "-q"]))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-q", "--yes", "--no-install-recommends"]).args(packages);
    step::run("apt-get install", step::nothing, install.env("DEBIAN_FRONTEND", "noninteractive"))
}

fn missing() -> Vec<&'static str> {
    PACKAGES.iter().filter(|package| !Path::new(package.file).exists()).map(|package| package.name).collect()
}

fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    Ok(effective == Some("0"))
}

/// While this lives, packages do not start their daemons. A policy that the machine already has stays untouched.
struct NoDaemons {
    ours: bool,
}

impl NoDaemons {
    fn ask_for() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        // It says no only while this program lives: one that is killed must not leave a machine that starts no daemons.
        let script = format!("#!/bin/sh\nkill -0 {} 2>/dev/null && exit 101\nexit 0\n", std::process::id());
        fs::write(POLICY, script).with_context(|| format!("cannot write {POLICY}"))?;
        let guard = Self { ours: true };
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot set {POLICY}"))?;
        Ok(guard)
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.ours && fs::remove_file(POLICY).is_err() {
            step::say(&format!("        please remove {POLICY}: this run wrote it and could not remove it"));
        }
    }
}
