//! What is wrong is said in one line that names the object, the field, the value and what is allowed; the rest works on.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::byte_peer::BytePeer;
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::{Process, Scene, scene, wait_until};

/// Manifests are read at the start and again at each change.
const SAID: Duration = Duration::from_secs(15);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A directory of manifests in which all is well, with a router at loopback: whatever a case breaks, this goes on.
struct Stage {
    router: BytePeer,
    manifests: Manifests,
    ours: Process,
}

impl Stage {
    fn build(scene: &Scene) -> Result<Self> {
        let router = BytePeer::listen(LOOPBACK, 64512)?;
        let peer = format!(
            "apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {{name: good}}
spec: {{localASN: 64500, peerASN: 64512, address: 127.0.0.1, port: {}, nextHop: {{ipv4: 192.0.2.11}}, timers: {{connectRetrySeconds: 1}}}}
",
            router.address().port()
        );
        let manifests = Manifests::with(scene, "manifests", &[("good.yaml", GOOD), ("peer.yaml", &peer)])?;
        manifests.write("service.yaml", &service("first", ""))?;
        let ours = product::run(scene, None, &manifests, "node-1")?;
        router.wait_for("203.0.113.10/32", SAID).with_context(|| ours.log())?;
        Ok(Self { router, manifests, ours })
    }

    /// Waits for one line that has all these words.
    fn wait_for_line(&mut self, words: &[&str]) -> Result<String> {
        let ours = &self.ours;
        wait_until(&format!("one line with {words:?}"), SAID, || {
            let log = ours.log();
            let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned).with_context(|| format!("none among:\n{log}"))
        })
    }
}

const GOOD: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: 192.0.2.11}]}
---
apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: [203.0.113.10-203.0.113.20]}
---
apiVersion: roadstead.dev/v1alpha1
kind: Advertisement
metadata: {name: all}
spec: {from: [{loadBalancers: {}}]}
";

fn service(name: &str, annotations: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default, annotations: {{{annotations}}}}}
spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
endpoints: [{{addresses: [10.88.1.5], nodeName: node-1, conditions: {{ready: true}}}}]
"
    )
}

/// A manifest with something wrong, and the words of the one line that says so.
struct Case {
    name: &'static str,
    fault: Fault,
    manifest: &'static str,
    words: &'static [&'static str],
}

/// Whether one object shows the fault, or only the controller, which knows what others have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Alone,
    AmongOthers,
}

const CASES: &[Case] = &[
    Case {
        name: "an unknown field",
        fault: Fault::Alone,
        manifest: "{apiVersion: roadstead.dev/v1alpha1, kind: AddressPool, metadata: {name: typo}, spec: {addresses: [192.0.2.0/24], autoassign: false}}",
        words: &["bad.yaml", "AddressPool typo", "autoassign"],
    },
    Case {
        name: "a reversed range",
        fault: Fault::Alone,
        manifest: "{apiVersion: roadstead.dev/v1alpha1, kind: AddressPool, metadata: {name: reversed}, spec: {addresses: [192.0.2.9-192.0.2.1]}}",
        words: &["AddressPool reversed", "spec.addresses[0]", "192.0.2.9-192.0.2.1"],
    },
    Case {
        name: "mixed families",
        fault: Fault::Alone,
        manifest: "{apiVersion: roadstead.dev/v1alpha1, kind: AddressPool, metadata: {name: mixed}, spec: {addresses: [\"192.0.2.1-2001:db8::1\"]}}",
        words: &["AddressPool mixed", "spec.addresses[0]", "192.0.2.1-2001:db8::1", "family"],
    },
    Case {
        name: "host bits",
        fault: Fault::Alone,
        manifest: "{apiVersion: roadstead.dev/v1alpha1, kind: AddressPool, metadata: {name: hostbits}, spec: {addresses: [192.0.2.1/24]}}",
        words: &["AddressPool hostbits", "spec.addresses[0]", "192.0.2.1/24", "host bits"],
    },
    Case {
        name: "pools that overlap",
        fault: Fault::AmongOthers,
        manifest: "{apiVersion: roadstead.dev/v1alpha1, kind: AddressPool, metadata: {name: zz-overlap}, spec: {addresses: [203.0.113.20-203.0.113.30]}}",
        words: &["zz-overlap", "public", "203.0.113.20"],
    },
    Case {
        name: "a peer without an ASN",
        fault: Fault::Alone,
        manifest: "{apiVersion: roadstead.dev/v1alpha1, kind: BGPPeer, metadata: {name: none}, spec: {localASN: 64500, address: 192.0.2.1}}",
        words: &["BGPPeer none", "peerASN"],
    },
    Case {
        name: "ASN 0",
        fault: Fault::Alone,
        manifest: "{apiVersion: roadstead.dev/v1alpha1, kind: BGPPeer, metadata: {name: zero}, spec: {localASN: 64500, peerASN: 0, address: 192.0.2.1}}",
        words: &["BGPPeer zero", "spec.peerASN", "\"0\"", "4294967295"],
    },
    Case {
        name: "ASN 23456",
        fault: Fault::Alone,
        manifest: "{apiVersion: roadstead.dev/v1alpha1, kind: BGPPeer, metadata: {name: trans}, spec: {localASN: 64500, peerASN: 23456, address: 192.0.2.1}}",
        words: &["BGPPeer trans", "spec.peerASN", "23456"],
    },
    Case {
        name: "hold time 2",
        fault: Fault::Alone,
        manifest: "{apiVersion: roadstead.dev/v1alpha1, kind: BGPPeer, metadata: {name: hasty}, spec: {localASN: 64500, peerASN: 64512, address: 192.0.2.1, timers: {holdSeconds: 2}}}",
        words: &["BGPPeer hasty", "spec.timers.holdSeconds", "\"2\"", "65535"],
    },
    Case {
        name: "a missing Secret",
        fault: Fault::AmongOthers,
        manifest: "{apiVersion: roadstead.dev/v1alpha1, kind: BGPPeer, metadata: {name: secretive}, spec: {localASN: 64500, peerASN: 64512, address: 127.0.0.1, port: 9, passwordSecret: {name: absent}}}",
        words: &["secretive", "absent"],
    },
    Case {
        name: "a bad community",
        fault: Fault::Alone,
        manifest: "{apiVersion: roadstead.dev/v1alpha1, kind: Advertisement, metadata: {name: loud}, spec: {from: [{loadBalancers: {}}], attributes: {communities: [\"65536:1\"]}}}",
        words: &["Advertisement loud", "spec.attributes.communities[0]", "65536:1"],
    },
    Case {
        name: "an address outside every pool",
        fault: Fault::AmongOthers,
        manifest: "{apiVersion: v1, kind: Service, metadata: {name: outside, namespace: default, annotations: {roadstead.dev/addresses: 198.51.100.1}}, spec: {type: LoadBalancer, ports: [{port: 80}]}}",
        words: &["default/outside", "198.51.100.1"],
    },
    Case {
        name: "an address that is taken",
        fault: Fault::AmongOthers,
        manifest: "{apiVersion: v1, kind: Service, metadata: {name: taken, namespace: default, annotations: {roadstead.dev/addresses: 203.0.113.10}}, spec: {type: LoadBalancer, ports: [{port: 80}]}}",
        words: &["default/taken", "203.0.113.10", "default/first"],
    },
    Case {
        name: "a pool that does not exist",
        fault: Fault::AmongOthers,
        manifest: "{apiVersion: v1, kind: Service, metadata: {name: lost, namespace: default, annotations: {roadstead.dev/address-pool: nowhere}}, spec: {type: LoadBalancer, ports: [{port: 80}]}}",
        words: &["default/lost", "nowhere"],
    },
    Case { name: "no YAML", fault: Fault::Alone, manifest: "spec: [broken", words: &["bad.yaml"] },
    Case {
        name: "no kind",
        fault: Fault::Alone,
        manifest: "{apiVersion: v1, metadata: {name: x}}",
        words: &["bad.yaml", "kind"],
    },
];

#[test]
fn one_line_says_what_is_wrong_and_the_rest_works_on() -> Result<()> {
    scene("bad manifests", |scene| {
        let mut stage = Stage::build(scene)?;
        let mut failures = Vec::new();
        for (index, case) in CASES.iter().enumerate() {
            stage.manifests.write("bad.yaml", case.manifest)?;
            if let Err(error) = stage.wait_for_line(case.words) {
                let first = format!("{error:#}");
                failures.push(format!("{}: {}", case.name, first.lines().next().unwrap_or_default()));
            }
            // A Service that comes now gets its address and its route: the rest works on.
            let name = format!("later-{index}");
            stage.manifests.write("later.yaml", &service(&name, "roadstead.dev/addresses: 203.0.113.19"))?;
            stage.router.wait_for("203.0.113.19/32", SAID).with_context(|| format!("after {}", case.name))?;
            stage.manifests.remove("later.yaml")?;
            stage.router.wait_gone("203.0.113.19/32", SAID).with_context(|| format!("after {}", case.name))?;
            stage.ours.ensure_running()?;
        }
        ensure!(!stage.ours.log().contains("panicked"), "something panicked:\n{}", stage.ours.log());
        ensure!(failures.is_empty(), "{} of {} are not said:\n{}", failures.len(), CASES.len(), failures.join("\n"));
        // The first Service was never touched.
        stage.router.wait_for("203.0.113.10/32", SAID)?;
        Ok(())
    })
}

#[test]
fn the_last_good_version_stays_in_force() -> Result<()> {
    scene("a good object turns bad", |scene| {
        let mut stage = Stage::build(scene)?;
        let broken = GOOD.replace("203.0.113.10-203.0.113.20", "203.0.113.20-203.0.113.10");
        stage.manifests.write("good.yaml", &broken)?;
        stage.wait_for_line(&["AddressPool public", "spec.addresses[0]", "203.0.113.20-203.0.113.10"])?;
        stage.manifests.write("second.yaml", &service("second", ""))?;
        stage.router.wait_for("203.0.113.11/32", SAID).context("the pool's last good version is not in force")?;
        Ok(())
    })
}

/// A binary that cannot start says why in its last line, and ends with a failure.
#[track_caller]
fn check_refusal(name: &str, program: &str, arguments: &[&str], words: &[&str]) -> Result<()> {
    scene(name, |scene| {
        let mut command = product::command(program, None)?;
        command.args(arguments);
        let mut process = Process::start(scene, program, &command)?;
        let status = process.wait(SAID).with_context(|| process.log())?;
        let log = process.log();
        ensure!(!status.success(), "{program} ended well: {log}");
        ensure!(!log.contains("panicked"), "{program} panicked: {log}");
        let said = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        ensure!(said, "no line of {program} has all of {words:?}: {log}");
        Ok(())
    })
}

#[test]
fn an_unreadable_kubeconfig() -> Result<()> {
    let path = "/nonexistent/kubeconfig";
    check_refusal("controller", "roadstead-controller", &["--kubeconfig", path], &[path])?;
    check_refusal("speaker", "roadstead-speaker", &["--kubeconfig", path, "--node", "node-1"], &[path])
}

#[test]
fn a_port_in_use() -> Result<()> {
    let holder = TcpListener::bind((LOOPBACK, 0)).context("cannot hold a port")?;
    let address = holder.local_addr().context("cannot tell the port")?.to_string();
    scene("a port in use", |scene| {
        // Nobody answers there: the port is refused before the API server is asked.
        let kubeconfig = scene.directory().join("kubeconfig");
        let text = "{apiVersion: v1, kind: Config, current-context: x, contexts: [{name: x, context: {cluster: c, user: u}}], users: [{name: u, user: {token: t}}], clusters: [{name: c, cluster: {server: \"https://127.0.0.1:9\"}}]}";
        std::fs::write(&kubeconfig, text).context("cannot write a kubeconfig")?;
        let kubeconfig = kubeconfig.to_string_lossy().into_owned();
        let metrics = ["--kubeconfig", &kubeconfig, "--metrics-address", &address];
        check_refusal("controller", "roadstead-controller", &metrics, &[&address])?;
        let speaker = ["--node", "node-1", "--kubeconfig", &kubeconfig, "--metrics-address", &address];
        check_refusal("speaker", "roadstead-speaker", &speaker, &[&address])
    })
}

#[test]
fn a_directory_that_is_not_there() -> Result<()> {
    let path = "/nonexistent/manifests";
    check_refusal("run", "roadstead", &["run", "--manifests", path, "--node", "node-1"], &[path])
}

#[test]
fn a_dry_run_names_every_fault_and_touches_nothing() -> Result<()> {
    scene("a dry run", |scene| {
        let manifests = Manifests::with(scene, "manifests", &[("good.yaml", GOOD)])?;
        let good = dry_run(scene, &manifests)?;
        ensure!(good.0, "a good directory is refused: {}", good.1);
        for case in CASES.iter().filter(|case| case.fault == Fault::Alone) {
            manifests.write("bad.yaml", case.manifest)?;
            let (success, said) = dry_run(scene, &manifests)?;
            ensure!(!success, "{}: accepted: {said}", case.name);
            let line = said.lines().any(|line| case.words.iter().all(|word| line.contains(word)));
            ensure!(line, "{}: no line has all of {:?}: {said}", case.name, case.words);
        }
        Ok(())
    })
}

/// Whether it succeeded, and all that it said.
fn dry_run(scene: &Scene, manifests: &Manifests) -> Result<(bool, String)> {
    let state = scene.directory().join("untouched");
    let mut command = product::command("roadstead", None)?;
    command.arg("run").arg("--dry-run").arg("--manifests").arg(manifests.path()).args(["--node", "node-1"]);
    command.arg("--state").arg(&state);
    let mut process = Process::start(scene, "dry-run", &command)?;
    let status = process.wait(SAID)?;
    ensure!(!state.exists(), "a dry run wrote to {}", state.display());
    Ok((status.success(), process.log()))
}
