//! TCP-AO (RFC 5925) between `roadstead run` and `roadstead route-server`: none of the routers here speaks it.
//!
//! Whether there is a session is the kernel's doing. Where it has CONFIG_TCP_AO every segment must be signed; where it has not, both
//! sides must say so, to whoever looks in the log, in the report or at the object, and there must be no session.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use roadstead_e2e::capture::Capture;
use roadstead_e2e::network::Fabric;
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::{Process, Scene, scene};

/// Both sides may have to try again.
const SESSION: Duration = Duration::from_secs(60);
/// Enough for whatever is repeated to have been repeated.
const QUIET: Duration = Duration::from_secs(12);

const TCP_AO_HERE: &str = ", authentication: {type: TCPAO, algorithm: AESCMAC, sendID: 6, receiveID: 5}";
const TCP_AO_THERE: &str = ", authentication: {type: TCPAO, algorithm: AESCMAC, sendID: 5, receiveID: 6}";
const REASON: &str = "is to be signed by TCP-AO (RFC 5925), and this kernel cannot do that: it takes Linux 6.7 or newer, built with \
                      CONFIG_TCP_AO; the session stays down";

fn server(authentication: &str) -> String {
    format!(
        "apiVersion: roadstead.dev/v1alpha1
kind: RouteServer
metadata: {{name: default}}
spec:
  asn: 64999
  routerID: 10.77.0.1
  listen: [\"10.77.0.1:179\"]
  clients: [{{name: nodes, prefix: 10.77.0.0/24, asnRanges: [{{from: 64600, to: 64700}}], passwordFile: key{authentication}}}]
"
    )
}

fn peer(authentication: &str) -> String {
    format!(
        "apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {{name: server}}
spec: {{localASN: 64601, peerASN: 64999, address: 10.77.0.1, timers: {{connectRetrySeconds: 1}}, passwordSecret: {{name: key}}{authentication}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: key, namespace: roadstead-system}}
type: kubernetes.io/basic-auth
stringData: {{username: bgp, password: s3cret}}
---
apiVersion: v1
kind: Node
metadata: {{name: node-1}}
status: {{addresses: [{{type: InternalIP, address: 10.77.0.11}}]}}
"
    )
}

/// Asks the kernel without us: to one that knows the option, four octets are too short for it (EINVAL); else there is no such option.
fn kernel_has_tcp_ao() -> Result<bool> {
    let ask = "import socket, sys\n\
               try: socket.socket().setsockopt(6, 38, bytes(4))\n\
               except OSError as error: sys.exit(error.errno)";
    let status = Command::new("python3").args(["-c", ask]).status().context("cannot start python3")?;
    match status.code() {
        Some(22) => Ok(true),
        Some(92 | 95) => Ok(false),
        other => bail!("the kernel says {other:?} to TCP_AO_ADD_KEY"),
    }
}

#[test]
fn tcp_ao_signs_or_says_why_not() -> Result<()> {
    scene("TCP-AO between a node and a route server", |scene| {
        let fabric = Fabric::new(scene, "switch")?;
        let machine = fabric.machine(scene, "server", &["10.77.0.1/24"])?;
        let node = fabric.machine(scene, "node", &["10.77.0.11/24"])?;
        let there = Manifests::with(scene, "server", &[("server.yaml", &server(TCP_AO_THERE)), ("key", "s3cret\n")])?;
        let here = Manifests::with(scene, "node", &[("peer.yaml", &peer(TCP_AO_HERE))])?;
        let capture = Capture::start(scene, &node, "signed")?;
        let mut command = product::command("roadstead", Some(&machine))?;
        command.args(["route-server", "--manifests"]).arg(there.path());
        let mut theirs = Process::start(scene, "route-server", &command)?;
        let mut ours = product::run(scene, Some(&node), &here, "node-1")?;
        if kernel_has_tcp_ao()? {
            ours.wait_for_log("session established", SESSION)?;
            std::thread::sleep(QUIET);
            scene.step("the session is up");
            return capture.finish()?.ensure_none("tcp.port == 179 && tcp.flags.reset == 0 && !tcp.options.ao.mac");
        }
        refused(scene, &mut theirs, &mut ours)?;
        // The way out of it.
        there.write("server.yaml", &server(""))?;
        here.write("peer.yaml", &peer(""))?;
        ours.wait_for_log("session established", SESSION)?;
        capture.finish()?.ensure_none("tcp.port == 179 && tcp.flags.reset == 0 && !tcp.options.md5.digest")?;
        scene.step("with TCP MD5 it comes up, and nothing was ever sent unsigned");
        Ok(())
    })
}

fn refused(scene: &Scene, theirs: &mut Process, ours: &mut Process) -> Result<()> {
    theirs.wait_for_log(&format!("client nodes: 10.77.0.0/24 {REASON}"), SESSION)?;
    ours.wait_for_log(&format!("BGPPeer server: no session: 10.77.0.1/32 {REASON}"), SESSION)?;
    for file in ["nodereports/node-1.yaml", "bgppeers/server.yaml"] {
        let path = scene.directory().join("state-node-1").join(file);
        ours.wait_until(file, SESSION, || {
            let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
            ensure!(text.contains("CONFIG_TCP_AO"), "{file} does not say why: {text}");
            Ok(())
        })?;
    }
    scene.step("both sides say why there is no session");
    std::thread::sleep(QUIET);
    for log in [theirs.log(), ours.log()] {
        let said = log.lines().filter(|line| line.contains("TCP-AO")).count();
        ensure!(said == 1, "it is said {said} times: {log}");
        ensure!(!log.contains("session established"), "there is a session: {log}");
    }
    Ok(())
}
