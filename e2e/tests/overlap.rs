//! Overlap is found before anybody peers, by `roadstead export` and `roadstead check` on files and at a real API server, and by the
//! controller when a link is declared or what is in use changes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::kubernetes::{Chart, ControlPlane, User};
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::{Process, Scene, scene, wait_until};
use serde_json::Value;

/// The controller starts, lists everything, and acts.
const SETTLED: Duration = Duration::from_secs(60);

/// What must never leave a cluster.
const HUSH: &str = "do-not-tell";

/// A cluster's manifests as people keep them, secrets and all.
fn cluster(name: &str, asn: u32, pods: &str, services: &str, pool: &str) -> String {
    format!(
        "apiVersion: roadstead.dev/v1alpha1
kind: ClusterNetwork
metadata: {{name: default}}
spec: {{clusterName: {name}, asn: {asn}, podCIDRs: [{pods}]}}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {{name: kubernetes}}
spec: {{cidrs: [{services}]}}
---
apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {{name: public, annotations: {{example.com/token: {HUSH}}}}}
spec: {{addresses: [{pool}]}}
---
apiVersion: v1
kind: Secret
metadata: {{name: tor, namespace: default}}
stringData: {{password: {HUSH}}}
---
apiVersion: v1
kind: Service
metadata: {{name: front, namespace: default, annotations: {{example.com/token: {HUSH}}}}}
spec: {{ports: [{{port: 80}}]}}
"
    )
}

fn roadstead(arguments: &[&str]) -> Result<Command> {
    let mut command = product::command("roadstead", None)?;
    command.args(arguments).env("RUST_LOG", "warn").env_remove("KUBECONFIG").env("HOME", "/nonexistent");
    Ok(command)
}

/// Runs it, and wants this exit code.
fn run(command: &mut Command, code: i32) -> Result<(String, String)> {
    let Output { status, stdout, stderr } = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let (out, err) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned());
    ensure!(status.code() == Some(code), "{command:?} ended with {status}, not {code}:\n{out}{err}");
    Ok((out, err))
}

fn has(text: &str, wanted: &[&str]) -> Result<()> {
    let missing: Vec<&&str> = wanted.iter().filter(|wanted| !text.contains(**wanted)).collect();
    ensure!(missing.is_empty(), "no {missing:?} in:\n{text}");
    Ok(())
}

/// The line of a table that begins like this, its columns parted by one blank.
fn line(table: &str, begin: &str) -> Result<String> {
    let line =
        table.lines().find(|line| line.starts_with(begin)).with_context(|| format!("no {begin} in:\n{table}"))?;
    Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

#[test]
fn files() -> Result<()> {
    scene("clusters that are files", |scene| {
        let manifests = |label: &str, text: &str| Manifests::with(scene, label, &[("all.yaml", text)]);
        let north =
            manifests("north", &cluster("north", 64501, "10.244.0.0/16", "10.96.0.0/12", "192.0.2.10-192.0.2.50"))?;
        let south = manifests("south", &cluster("south", 64502, "10.244.64.0/18", "10.96.0.0/12", "192.0.2.40/29"))?;
        let west = manifests(
            "west",
            &cluster("west", 64501, "10.3.0.0/16", "\"10.13.0.0/16\", \"fd00:13::/108\"", "198.51.100.0/24"),
        )?;
        let (north_at, south_at, west_at) = (path(north.path())?, path(south.path())?, path(west.path())?);

        let (exported, _) = run(&mut roadstead(&["export", "--manifests", north_at])?, 0)?;
        has(&exported, &["clusterName: north", "192.0.2.10-192.0.2.50", "kind: ServiceCIDR"])?;
        ensure!(!exported.contains(HUSH) && !exported.contains("Secret"), "an export tells secrets:\n{exported}");
        let file = scene.subdirectory("exports")?.join("north.yaml");
        fs::write(&file, &exported)?;
        scene.step("an export tells addresses and no secrets");

        let (table, _) = run(&mut roadstead(&["check", path(&file)?, south_at])?, 2)?;
        let expected = [
            "10.96.0.0/12 north ServiceCIDR kubernetes south ServiceCIDR kubernetes 10.112.0.0/12",
            "10.244.64.0/18 north ClusterNetwork default, spec.podCIDRs (10.244.0.0/16) south ClusterNetwork default, spec.podCIDRs \
             10.245.0.0/18",
            // The pool is held as several prefixes, of which one lies around the range.
            "192.0.2.40/29 north AddressPool public (192.0.2.32/28) south AddressPool public 10.0.0.0/29",
        ];
        for expected in expected {
            let told = line(&table, expected.split(' ').next().unwrap_or_default())?;
            ensure!(told == expected, "told:   {told}\nwanted: {expected}");
        }
        has(&table, &["north, south:", "3 collisions"])?;
        scene.step("collisions are told with both holders and free ranges");

        let (json, _) = run(&mut roadstead(&["check", "-o", "json", south_at, path(&file)?])?, 2)?;
        let json: Value = serde_json::from_str(&json)?;
        let first = &json["collisions"][0];
        ensure!(first["range"] == "10.96.0.0/12" && first["one"]["cluster"] == "south", "{json}");
        ensure!(first["other"]["holders"][0]["holder"] == "ServiceCIDR kubernetes", "{json}");

        let (told, _) = run(&mut roadstead(&["check", path(&file)?, west_at])?, 2)?;
        has(&told, &["north and west both have ASN 64501", "iBGP", "no address is used by two of them"])?;
        let named = west.path().join("all.yaml");
        let renamed = fs::read_to_string(&named)?.replace("clusterName: west", "clusterName: south");
        west.write("all.yaml", &renamed.replace("asn: 64501", "asn: 64503"))?;
        let (told, _) = run(&mut roadstead(&["check", south_at, west_at])?, 2)?;
        has(&told, &["two clusters are both called south"])?;
        let parted = fs::read_to_string(&named)?.replace("clusterName: south", "clusterName: west");
        west.write("all.yaml", &parted)?;
        let (told, _) = run(&mut roadstead(&["check", north_at, west_at])?, 0)?;
        has(&told, &["north, west:", "no address is used by two of them"])?;
        let (told, _) = run(&mut roadstead(&["check", west_at, north_at, south_at])?, 2)?;
        has(&told, &["west, north, south:", "3 collisions"])?;
        scene.step("the same ASN and the same name are refused in words; clusters that are apart pass");

        bad_input(scene, north_at, south_at)
    })
}

/// Each ends with 1, and says what is wrong where.
fn bad_input(scene: &Scene, north: &str, south: &str) -> Result<()> {
    let directory = scene.subdirectory("bad")?;
    let file = |name: &str, text: &str| -> Result<String> {
        let file = directory.join(name);
        fs::write(&file, text)?;
        Ok(path(&file)?.to_owned())
    };
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (before, name) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        bomb += &format!("{name}: &{name} [{}]\n", format!("*{before},").repeat(10));
    }
    let pool = "apiVersion: roadstead.dev/v1alpha1\nkind: AddressPool\nmetadata: {name: p}\nspec: {addresses: [10.0.0.1/24]}\n";
    let garbage = file("garbage.yaml", "this is: [no\n")?;
    let text = file("text.yaml", "hello\n")?;
    let bomb = file("bomb.yaml", &bomb)?;
    let wrong = file("wrong.yaml", pool)?;
    let other = file("other.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")?;
    let binary = directory.join("binary.yaml");
    fs::write(&binary, [0xff, 0xfe, 0, 1])?;
    let missing = format!("{}/missing", directory.display());
    let doubled = format!("{north}/.");
    let cases: [(&[&str], &[&str]); 12] = [
        (&["check"], &["give two clusters or more", "0 given"]),
        (&["check", north], &["give two clusters or more", "1 given"]),
        (&["check", north, south, &doubled], &["given twice"]),
        (&["check", north, &missing], &["missing: there is no such file or directory"]),
        (&["check", north, "nonsuch"], &["nonsuch: neither a file nor a directory", "context"]),
        (&["check", north, &garbage], &["garbage.yaml:1: document 1: not YAML"]),
        (&["check", north, &text], &["text.yaml:1: document 1: not an object"]),
        (&["check", north, &bomb], &["bomb.yaml", "budget"]),
        (&["check", north, &wrong], &["AddressPool p", "spec.addresses[0]", "10.0.0.1/24", "host bits must be zero"]),
        (&["check", north, &other], &["other.yaml: nothing in it tells which addresses"]),
        (&["check", north, path(&binary)?], &["binary.yaml"]),
        (&["check", "--wrong", north, south], &["--wrong"]),
    ];
    for (arguments, wanted) in cases {
        let (out, err) = run(&mut roadstead(arguments)?, 1)?;
        has(&err, wanted).with_context(|| format!("{arguments:?}"))?;
        ensure!(out.is_empty(), "{arguments:?} printed {out}");
    }
    run(&mut roadstead(&["export", "--manifests", &missing])?, 1)?;
    scene.step("bad input is named and refused");
    Ok(())
}

#[test]
fn api_server() -> Result<()> {
    scene("a cluster that is an API server", |scene| {
        let plane = ControlPlane::start(scene, None, "127.0.0.1", &[])?;
        let kubeconfig = plane.kubeconfig(User::ADMIN);
        let kubeconfig = path(&kubeconfig)?;
        let south = Manifests::with(
            scene,
            "south",
            &[("all.yaml", &cluster("south", 64502, "10.2.0.0/16", "10.96.128.0/17", "198.51.100.0/24"))],
        )?;
        let south = path(south.path())?;
        let (told, _) = run(&mut roadstead(&["check", kubeconfig, south])?, 2)?;
        has(&told, &["10.96.128.0/17", "ServiceCIDR kubernetes (10.96.0.0/16)"])?;
        scene.step("a cluster that has never heard of us can be compared");

        plane.serve_our_kinds()?;
        plane.kubectl("create namespace shop")?;
        let north = cluster("north", 64501, "10.1.0.0/16", "10.11.0.0/16", "192.0.2.0/28");
        // The API server has its own ServiceCIDR of that name.
        let own: Vec<&str> = north.split("---\n").filter(|document| !document.contains("ServiceCIDR")).collect();
        plane.apply(&own.join("---\n"))?;
        plane.make_node("w1", &["10.80.1.5"])?;
        plane.kubectl(
            r#"patch node w1 --type=merge --patch={"spec":{"podCIDR":"10.2.7.0/24","podCIDRs":["10.2.7.0/24"]}}"#,
        )?;

        let (exported, _) = run(&mut roadstead(&["export", "--kubeconfig", kubeconfig])?, 0)?;
        has(&exported, &["clusterName: north", "10.2.7.0/24", "10.80.1.5", "10.96.0.0/16", "fd00:96::/108"])?;
        ensure!(!exported.contains(HUSH) && !exported.contains("kind: Secret"), "an export tells secrets:\n{exported}");
        let (again, _) = run(&mut roadstead(&["export", "--kubeconfig", kubeconfig])?, 0)?;
        ensure!(exported == again, "two exports of one state differ");
        let file = scene.subdirectory("exports")?.join("north.yaml");
        fs::write(&file, &exported)?;
        let (from_file, _) = run(&mut roadstead(&["check", path(&file)?, south])?, 2)?;
        let (live, _) = run(&mut roadstead(&["check", kubeconfig, south])?, 2)?;
        ensure!(from_file == live, "an export says\n{from_file}and the cluster\n{live}");
        let told = line(&live, "10.2.7.0/24 ")?;
        let expected = "10.2.7.0/24 north podCIDR of Node w1 south ClusterNetwork default, spec.podCIDRs (10.2.0.0/16)";
        ensure!(told.starts_with(expected), "{told}");
        let context = plane.kubectl("config current-context")?;
        let (by_name, _) = run(roadstead(&["check", context.trim(), south])?.env("KUBECONFIG", kubeconfig), 2)?;
        ensure!(by_name == live, "the context says\n{by_name}and the kubeconfig\n{live}");
        scene.step("an export says what the cluster says");

        let speaker = plane.kubeconfig(User::SPEAKER);
        let (_, err) = run(&mut roadstead(&["check", path(&speaker)?, south])?, 1)?;
        has(&err, &["cannot be listed", "forbidden"])?;
        scene.step("who may not look is told so");
        Ok(())
    })
}

/// A condition's status, reason and message in one line.
fn condition(plane: &ControlPlane, object: &str, kind: &str) -> Result<String> {
    let object = plane.get(object)?;
    let conditions = object["status"]["conditions"].as_array().context("no conditions")?;
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    let found = found.with_context(|| format!("no {kind} in {conditions:?}"))?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Ok(format!("{} {}: {}", text("status"), text("reason"), text("message")))
}

/// Waits until a condition says all this.
fn wait_for(plane: &ControlPlane, object: &str, kind: &str, wanted: &[&str]) -> Result<()> {
    wait_until(&format!("{object}: {kind}: {wanted:?}"), SETTLED, || has(&condition(plane, object, kind)?, wanted))
}

#[test]
fn controller() -> Result<()> {
    scene("what the controller says of clusters", |scene| {
        let plane = ControlPlane::start(scene, None, "127.0.0.1", &[])?;
        plane.serve_our_kinds()?;
        plane.kubectl("create namespace roadstead-system")?;
        plane.apply(&Chart::render()?.rights())?;
        plane.make_node("w1", &["10.80.1.5"])?;
        plane.kubectl(
            r#"patch node w1 --type=merge --patch={"spec":{"podCIDR":"10.1.7.0/24","podCIDRs":["10.1.7.0/24"]}}"#,
        )?;
        plane.apply(NORTH)?;
        let mut command = product::command("roadstead-controller", None)?;
        command.arg("--kubeconfig").arg(plane.kubeconfig(User::CONTROLLER));
        let _controller = Process::start(scene, "controller", &command)?;

        wait_for(&plane, "clusternetwork default", "AsDeclared", &["True AsDeclared"])?;
        let status = plane.get("clusternetwork default")?["status"].clone();
        let asn = status["asn"].as_u64().context("no ASN")?;
        ensure!((4_200_000_000..=4_294_967_294).contains(&asn), "{asn} is no private 4-byte ASN");
        ensure!(status["podCIDRs"] == serde_json::json!(["10.1.0.0/16"]), "{status}");
        ensure!(status["serviceCIDRs"] == serde_json::json!(["10.96.0.0/16", "fd00:96::/108"]), "{status}");
        ensure!(status["fabricCIDRs"] == serde_json::json!(["10.80.1.5/32"]), "{status}");
        scene.step("what is in effect is found, and an ASN is derived");

        wait_for(&plane, "clusterlink south", "Disjoint", &["True Disjoint"])?;
        wait_for(&plane, "clusterlink south", "Ready", &["Unknown NoReports"])?;
        plane.apply(TENANTS)?;
        let both = ["False Overlap", "10.2.0.0/16 of spec.acceptCIDRs.pods overlaps 10.2.7.0/24, PodPool tenants"];
        wait_for(&plane, "clusterlink south", "Disjoint", &both)?;
        wait_for(
            &plane,
            "clusternetwork default",
            "AsDeclared",
            &["False", "10.2.7.0/24, PodPool tenants, is outside"],
        )?;
        plane.kubectl("delete podpool tenants")?;
        wait_for(&plane, "clusterlink south", "Disjoint", &["True Disjoint"])?;
        scene.step("a pool that collides later is told with both names, and no more when it is gone");

        plane.apply(&link("again", "south", 64503))?;
        wait_for(&plane, "clusterlink again", "Ready", &["False SameCluster", "as ClusterLink south does"])?;
        plane.apply(&link("self", "north", 64504))?;
        wait_for(&plane, "clusterlink self", "Ready", &["False LinkToOneself", "north"])?;
        plane.apply(&link("same", "east", asn))?;
        wait_for(&plane, "clusterlink same", "Ready", &["False OwnASN", "iBGP"])?;
        wait_for(&plane, "clusterlink south", "Ready", &["Unknown NoReports"])?;
        scene.step("links that lead nowhere are refused in words, and leave others alone");

        plane.apply(EDGES)?;
        wait_for(&plane, "edgehost first", "Ready", &["Unknown NoReports"])?;
        plane.apply(SECOND)?;
        wait_for(&plane, "edgehost first", "Ready", &["Unknown NoReports"])?;
        // The other of the two has the pool's gateway.
        wait_for(
            &plane,
            "edgehost second",
            "Ready",
            &["False NoPrefix", "PodPool stands has no free block left of 2"],
        )?;
        ensure!(plane.get("edgehost first")?["status"]["prefix"] == "10.99.0.16/28", "the first has no block");
        let owner = plane.get("addressclaim 10.99.0.16-28")?["spec"]["owners"][0].clone();
        ensure!(owner["kind"] == "EdgeHost" && owner["name"] == "first", "{owner}");
        plane.kubectl("delete edgehost first")?;
        wait_until("the second host to have what the first gave back", SETTLED, || {
            let host = plane.get("edgehost second")?;
            ensure!(host["status"]["prefix"] == "10.99.0.16/28", "{}", host["status"]);
            Ok(())
        })?;
        scene.step("edge hosts have a block each, and give it back");
        Ok(())
    })
}

/// Kubernetes before 1.33 has no ServiceCIDRs: its API server says where ClusterIPs come from when it refuses one.
#[test]
fn older_api_server() -> Result<()> {
    scene("a cluster without ServiceCIDRs", |scene| {
        let flags = ["--emulated-version=1.32", "--feature-gates=MultiCIDRServiceAllocator=false"];
        let plane = ControlPlane::start(scene, None, "127.0.0.1", &flags)?;
        plane.serve_our_kinds()?;
        plane.kubectl("create namespace roadstead-system")?;
        plane.apply(&Chart::render()?.rights())?;
        ensure!(plane.kubectl("get servicecidrs").is_err(), "this API server has ServiceCIDRs");
        plane.apply(NORTH)?;
        // In a pod the namespace is that of its account.
        let kubeconfig = plane.kubeconfig(User::CONTROLLER);
        let text = fs::read_to_string(&kubeconfig)?
            .replace("user: controller}", "user: controller, namespace: roadstead-system}");
        ensure!(text.contains("namespace: roadstead-system"), "no namespace in {text}");
        fs::write(&kubeconfig, text)?;
        let mut command = product::command("roadstead-controller", None)?;
        command.arg("--kubeconfig").arg(&kubeconfig);
        let _controller = Process::start(scene, "controller", &command)?;
        wait_until("the range of ClusterIPs in the status", SETTLED, || {
            let network = plane.get("clusternetwork default")?;
            let found = &network["status"]["serviceCIDRs"];
            ensure!(*found == serde_json::json!(["10.96.0.0/16", "fd00:96::/108"]), "{found}");
            Ok(())
        })?;
        let services = plane.kubectl("get services --namespace roadstead-system -o name")?;
        ensure!(services.trim().is_empty(), "asking left {services}");
        let south = cluster("south", 64502, "10.3.0.0/16", "10.96.128.0/17", "198.51.100.0/24");
        let south = Manifests::with(scene, "south", &[("all.yaml", &south)])?;
        let admin = plane.kubeconfig(User::ADMIN);
        let (told, _) = run(&mut roadstead(&["check", path(&admin)?, path(south.path())?])?, 2)?;
        has(&told, &["10.96.128.0/17", "range of ClusterIPs of the API server (10.96.0.0/16)"])?;
        let (exported, _) = run(&mut roadstead(&["export", "--kubeconfig", path(&admin)?])?, 0)?;
        has(&exported, &["asn: 4", "- 10.96.0.0/16"])?;
        scene.step("the range of ClusterIPs is known all the same");
        Ok(())
    })
}

const NORTH: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: ClusterNetwork
metadata: {name: default}
spec: {clusterName: north, podCIDRs: [10.1.0.0/16]}
---
apiVersion: roadstead.dev/v1alpha1
kind: ClusterLink
metadata: {name: south}
spec: {remoteCluster: south, remoteASN: 64502, endpoints: [10.80.2.11], acceptCIDRs: {pods: [10.2.0.0/16], services: [10.12.0.0/16]}}
";

const TENANTS: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: tenants}
spec: {subnet: 10.2.7.0/24}
";

const EDGES: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: PodPool
metadata: {name: stands}
spec: {subnet: 10.99.0.0/27, blockPrefixLength: 28}
---
apiVersion: roadstead.dev/v1alpha1
kind: EdgeHost
metadata: {name: first}
spec: {address: 10.90.0.1, asn: 64601, pool: stands}
";

const SECOND: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: EdgeHost
metadata: {name: second}
spec: {address: 10.90.0.2, asn: 64602, pool: stands}
";

fn link(name: &str, remote: &str, asn: u64) -> String {
    format!(
        "apiVersion: roadstead.dev/v1alpha1
kind: ClusterLink
metadata: {{name: {name}}}
spec: {{remoteCluster: {remote}, remoteASN: {asn}, endpoints: [10.80.9.11]}}
"
    )
}
