//! `roadstead lab`: the product on loopback, for somebody who just wants to see it work. No root, no cluster.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use roadstead_e2e::product;
use roadstead_e2e::{Process, Scene, scene};
use serde_json::Value;

/// `--once` gives up after 30 s by itself.
const ONCE: Duration = Duration::from_secs(35);
/// A change of a manifest shows within a second; five, because the machine may be busy with other tests.
const CHANGE: Duration = Duration::from_secs(5);
/// Ctrl-C ends it within a second; two, for the same reason.
const GOODBYE: Duration = Duration::from_secs(2);

fn lab() -> Result<Command> {
    let mut command = product::command("roadstead", None)?;
    command.arg("lab");
    // A debug log would drown the table.
    command.env("RUST_LOG", "info");
    Ok(command)
}

#[test]
fn once_prints_what_it_learned_as_json() -> Result<()> {
    scene("lab --once --output json", |scene| ensure_complete(&once(scene)?))
}

#[test]
fn once_prints_a_table_for_people() -> Result<()> {
    scene("lab --once", |scene| {
        let mut command = lab()?;
        command.arg("--once").current_dir(scene.directory()).env("TMPDIR", scene.directory());
        let output = command.output().context("cannot start roadstead")?;
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        for word in ["SERVICE", "ADDRESS", "NEXT"] {
            ensure!(table.to_uppercase().contains(word), "no {word} in the table: {table}");
        }
        Ok(())
    })
}

#[test]
fn a_router_port_or_root_is_not_needed() -> Result<()> {
    scene("lab as nobody", |scene| {
        let directory = directory_of_nobody(scene)?;
        // A copy of the binary: where the sources lie in root's home, nobody else can reach it.
        let binary = directory.join("roadstead");
        fs::copy(product::binary("roadstead")?, &binary).context("cannot copy the binary")?;
        let mut command = Command::new(&binary);
        command.args(["lab", "--once", "--output", "json"]).env("RUST_LOG", "info");
        // Without root to give up there is nobody to become: the user who runs the tests has no rights either.
        let mut command = if is_root()? { product::as_nobody(&command) } else { command };
        let output =
            command.current_dir(&directory).env("TMPDIR", &directory).output().context("cannot start roadstead")?;
        ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        ensure_complete(&serde_json::from_slice(&output.stdout).context("no JSON")?)
    })
}

#[test]
fn an_edit_shows_and_ctrl_c_ends_it() -> Result<()> {
    scene("lab follows an edit", |scene| {
        let manifests = scene.subdirectory("manifests")?;
        for (name, text) in SMALL_LAB {
            fs::write(manifests.join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        let mut command = lab()?;
        command.arg("--manifests").arg(&manifests).current_dir(scene.directory()).env("TMPDIR", scene.directory());
        let mut lab = Process::start(scene, "lab", &command)?;
        lab.wait_for_log("203.0.113.10", ONCE)?;
        scene.step("the first Service has its address");

        fs::write(manifests.join("second.yaml"), SECOND_SERVICE).context("cannot write second.yaml")?;
        lab.wait_for_log("203.0.113.11", CHANGE)?;
        scene.step("a second manifest shows");

        fs::write(manifests.join("second.yaml"), "spec: [broken").context("cannot write second.yaml")?;
        lab.wait_for_log("second.yaml", CHANGE)?;
        lab.ensure_running()?;
        scene.step("a broken manifest is named, and the lab goes on");

        let asked = Instant::now();
        lab.signal("INT")?;
        let status = lab.wait(GOODBYE)?;
        ensure!(status.success(), "after Ctrl-C it ended with {status}");
        scene.step(&format!("Ctrl-C ended it in {:?}", asked.elapsed()));
        let left = files_besides(scene, &["manifests", "lab.log"])?;
        ensure!(left.is_empty(), "it left behind {left:?}");
        Ok(())
    })
}

fn once(scene: &Scene) -> Result<Value> {
    let mut command = lab()?;
    command.args(["--once", "--output", "json"]).current_dir(scene.directory()).env("TMPDIR", scene.directory());
    let started = Instant::now();
    let output = command.output().context("cannot start roadstead")?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    ensure!(started.elapsed() < ONCE, "it took {:?}", started.elapsed());
    scene.step(&format!("complete after {:?}", started.elapsed()));
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no JSON: {}", String::from_utf8_lossy(&output.stdout)))
}

/// The documented shape, and what it has to say: every Service has an address of a pool, every address a route, and as
/// many next hops as nodes that have its endpoints, at least one with two.
fn ensure_complete(document: &Value) -> Result<()> {
    let list = |value: &Value, name: &str| -> Result<Vec<Value>> {
        value.get(name).and_then(Value::as_array).cloned().with_context(|| format!("no list {name} in {value}"))
    };
    let (services, routes) = (list(document, "services")?, list(document, "routes")?);
    ensure!(!services.is_empty() && !routes.is_empty(), "empty: {document}");
    let mut most_next_hops = 0;
    for service in &services {
        for name in ["namespace", "name", "pool"] {
            ensure!(service.get(name).is_some_and(Value::is_string), "no {name} in {service}");
        }
        let (addresses, nodes) = (list(service, "addresses")?, list(service, "nodes")?);
        ensure!(!addresses.is_empty(), "no address in {service}");
        for address in addresses.iter().filter_map(Value::as_str) {
            let prefix = format!("{address}/{}", if address.contains(':') { 128 } else { 32 });
            let route = routes.iter().find(|route| route["prefix"] == prefix.as_str());
            let route = route.with_context(|| format!("no route to {prefix} in {document}"))?;
            list(route, "communities")?;
            let next_hops = list(route, "nextHops")?;
            ensure!(next_hops.len() >= nodes.len(), "{service} has more nodes than {route} has next hops");
            most_next_hops = most_next_hops.max(next_hops.len());
        }
    }
    ensure!(most_next_hops >= 2, "no address has two next hops: {document}");
    Ok(())
}

const SMALL_LAB: &[(&str, &str)] = &[
    (
        "nodes.yaml",
        "apiVersion: v1
kind: Node
metadata: {name: node-1}
---
apiVersion: v1
kind: Node
metadata: {name: node-2}
",
    ),
    (
        "pool.yaml",
        "apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: [203.0.113.10-203.0.113.20]}
",
    ),
    (
        "advertisement.yaml",
        "apiVersion: roadstead.dev/v1alpha1
kind: Advertisement
metadata: {name: all}
spec: {from: [{loadBalancers: {}}]}
",
    ),
    (
        "web.yaml",
        "apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- {addresses: [10.88.1.5], nodeName: node-1, conditions: {ready: true}}
- {addresses: [10.88.2.5], nodeName: node-2, conditions: {ready: true}}
",
    ),
];

const SECOND_SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: second, namespace: default}
spec: {type: LoadBalancer, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: second-1, namespace: default, labels: {kubernetes.io/service-name: second}}
addressType: IPv4
endpoints: [{addresses: [10.88.1.6], nodeName: node-1, conditions: {ready: true}}]
";

fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    Ok(status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0")))
}

/// A directory that anybody may write to.
fn directory_of_nobody(scene: &Scene) -> Result<std::path::PathBuf> {
    let directory = scene.subdirectory("nobody")?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).context("cannot open the directory to all")?;
    Ok(directory)
}

fn files_besides(scene: &Scene, known: &[&str]) -> Result<Vec<String>> {
    let entries = fs::read_dir(scene.directory()).context("cannot list the scene's directory")?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| !known.contains(&name.as_str())).collect())
}
