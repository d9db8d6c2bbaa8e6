//! Controller and speakers at a real API server, each under the rights that the chart gives it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::kubernetes::{Chart, ControlPlane, User, workspace};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::routers::{Frr, Neighbor, Router, RouterConfig};
use roadstead_e2e::{Process, Scene, output_of, product, scene, wait_until};
use serde_json::Value;

/// A component starts, lists everything, and acts.
const SETTLED: Duration = Duration::from_secs(60);

/// An API server that serves our kinds, on a machine of its own.
fn start_plane(scene: &Scene, machine: &Namespace) -> Result<ControlPlane> {
    let plane = ControlPlane::start(scene, Some(machine), "10.99.0.100", &[])?;
    plane.serve_our_kinds()?;
    plane.kubectl("create namespace roadstead-system")?;
    scene.step("our kinds are served");
    Ok(plane)
}

const CONFIGURATION: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: ClusterNetwork
metadata: {name: default}
spec: {asn: 64500}
---
apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: [203.0.113.10-203.0.113.20, \"2001:db8:100::10-2001:db8:100::20\"]}
---
apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {name: router}
spec: {peerASN: 64512, address: 10.99.0.1, timers: {connectRetrySeconds: 1}, passwordSecret: {name: router}}
---
apiVersion: roadstead.dev/v1alpha1
kind: Advertisement
metadata: {name: all}
spec: {from: [{loadBalancers: {}}], attributes: {communities: [\"64500:100\"], largeCommunities: [\"64500:1:7\"]}}
";

const SECRET: &str = "
apiVersion: v1
kind: Secret
metadata: {name: router, namespace: roadstead-system}
type: kubernetes.io/basic-auth
stringData: {username: bgp, password: s3cret}
";

/// Services without selectors, so that nobody but the test writes their slices.
fn service(name: &str, annotations: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec: {{type: LoadBalancer, externalTrafficPolicy: Local, ipFamilyPolicy: SingleStack, ipFamilies: [IPv4], ports: [{{port: 80}}]}}
"
    )
}

fn slice(service: &str, endpoints: &[(&str, bool)]) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .enumerate()
        .map(|(index, (node, ready))| {
            format!("{{addresses: [10.88.{index}.5], nodeName: {node}, conditions: {{ready: {ready}}}}}")
        })
        .collect();
    format!(
        "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-hand, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
endpoints: [{}]
ports: [{{port: 8080}}]
",
        endpoints.join(", ")
    )
}

fn address_of(plane: &ControlPlane, service: &str) -> Result<String> {
    let object = plane.get(&format!("service {service}"))?;
    let address = object.pointer("/status/loadBalancer/ingress/0/ip").and_then(Value::as_str);
    Ok(address.with_context(|| format!("{service} has no address"))?.to_owned())
}

fn claims(plane: &ControlPlane) -> Result<BTreeSet<String>> {
    let list = plane.get("addressclaims")?;
    let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(items.iter().filter_map(|item| item.pointer("/metadata/name")?.as_str().map(str::to_owned)).collect())
}

#[test]
fn services_become_routes_under_the_charts_rights() -> Result<()> {
    scene("Services become routes under the chart's rights", |scene| {
        let fabric = Fabric::new(scene, "switch")?;
        let control = fabric.machine(scene, "control", &["10.99.0.100/24"])?;
        let router = fabric.machine(scene, "router", &["10.99.0.1/24"])?;
        let nodes = [("node-1", "10.99.0.11"), ("node-2", "10.99.0.12")];
        let plane = start_plane(scene, &control)?;
        plane.apply(&Chart::render()?.rights())?;
        let mut machines = Vec::new();
        let mut neighbors = Vec::new();
        for (name, address) in nodes {
            plane.make_node(name, &[address])?;
            machines.push(fabric.machine(scene, name, &[&format!("{address}/24")])?);
            neighbors.push(Neighbor::new(address, 64500)?.with_password("s3cret"));
        }
        let addresses: Vec<IpAddr> = neighbors.iter().map(|neighbor| neighbor.address).collect();
        let frr =
            Frr::start(scene, &router, &RouterConfig { asn: 64512, router_id: "10.99.0.1", neighbors, routes: &[] })?;
        plane.apply(CONFIGURATION)?;

        let controller = start_controller(scene, &plane, &control)?;
        let mut speakers = Vec::new();
        for ((name, _), machine) in nodes.iter().zip(&machines) {
            let mut command = product::command("roadstead-speaker", Some(machine))?;
            command.arg("--kubeconfig").arg(plane.speaker_kubeconfig(name)?).args(["--node", name]);
            speakers.push(Process::start(scene, &format!("speaker-{name}"), &command)?);
        }

        // A missing Secret keeps the session down, and the peer's condition says so.
        wait_until("the condition that names the missing Secret", SETTLED, || {
            let peer = plane.get("bgppeer router")?;
            let said = peer.pointer("/status/conditions").map(ToString::to_string).unwrap_or_default();
            ensure!(said.contains("Secret") && said.contains("roadstead-system/router"), "conditions: {said}");
            Ok(())
        })?;
        plane.apply(SECRET)?;
        for address in &addresses {
            wait_until("the sessions", SETTLED, || frr.ensure_established(*address))?;
        }
        scene.step("sessions are up, with the Secret's password");

        plane.apply(&(service("web", "") + &slice("web", &[("node-1", true), ("node-2", true)])))?;
        plane.apply(
            &(service("fixed", "roadstead.dev/addresses: 203.0.113.15") + &slice("fixed", &[("node-2", true)])),
        )?;
        let web = wait_until("an address for web", SETTLED, || address_of(&plane, "web"))?;
        let fixed = wait_until("an address for fixed", SETTLED, || address_of(&plane, "fixed"))?;
        ensure!(fixed == "203.0.113.15", "fixed asked for 203.0.113.15 and got {fixed}");
        let (web_route, fixed_route) = (format!("{web}/32"), format!("{fixed}/32"));
        wait_until("web from both nodes", SETTLED, || frr.ensure_next_hops(&web_route, &["10.99.0.11", "10.99.0.12"]))?;
        wait_until("fixed from node-2", SETTLED, || frr.ensure_next_hops(&fixed_route, &["10.99.0.12"]))?;
        let path = frr.paths(&web_route)?.remove(0);
        ensure!(path.communities.contains("64500:100") && path.large_communities.contains("64500:1:7"), "{path:?}");
        ensure!(claims(&plane)? == BTreeSet::from([web.clone(), fixed.clone()]), "claims: {:?}", claims(&plane)?);
        scene.step("two Services, two addresses, two claims, next hops where the endpoints are");

        plane.apply(&slice("web", &[("node-1", true), ("node-2", false)]))?;
        wait_until("web from node-1 alone", SETTLED, || frr.ensure_next_hops(&web_route, &["10.99.0.11"]))?;
        scene.step("an endpoint that is not ready withdraws its node");

        controller.terminate(product::GRACE)?;
        // What a restart must not do: hand the free, lower address to somebody who has one.
        let _controller = start_controller(scene, &plane, &control)?;
        plane.apply(&service("later", ""))?;
        let later = wait_until("an address for later", SETTLED, || address_of(&plane, "later"))?;
        ensure!(later != web && later != fixed, "{later} has two owners");
        ensure!(
            address_of(&plane, "web")? == web && address_of(&plane, "fixed")? == fixed,
            "a restart moved an address"
        );
        frr.ensure_next_hops(&web_route, &["10.99.0.11"])?;
        scene.step("a restarted controller changes no address");

        plane.kubectl("delete service web")?;
        wait_until("the route to go", SETTLED, || frr.ensure_next_hops(&web_route, &[]))?;
        wait_until("the claim to go", SETTLED, || {
            let left = claims(&plane)?;
            ensure!(left == BTreeSet::from([fixed.clone(), later.clone()]), "claims: {left:?}");
            Ok(())
        })?;
        scene.step("a deleted Service leaves no route and no claim");

        wait_until("the nodes' reports", SETTLED, || {
            for (name, _) in nodes {
                let report = plane.get(&format!("nodereport {name}"))?;
                let state = report.pointer("/status/sessions/0/state").cloned().unwrap_or_default();
                ensure!(state == "Established", "{name} reports {state}");
            }
            Ok(())
        })?;
        for speaker in &mut speakers {
            speaker.ensure_running()?;
        }
        Ok(())
    })
}

/// What the recipe for AWS makes of two nodes with two cards each.
#[test]
fn the_recipes_pools_are_taken() -> Result<()> {
    scene("the recipe's pools are taken", |scene| {
        let recipe = workspace().join("docs/recipes/aws");
        let generator = |nodes: &std::path::Path| {
            output_of(std::process::Command::new("python3").arg("-B").arg(recipe.join("pools.py")).arg(nodes))
        };
        let pools = generator(&recipe.join("nodes.json"))?;
        let fabric = Fabric::new(scene, "switch")?;
        let plane = start_plane(scene, &fabric.machine(scene, "control", &["10.99.0.100/24"])?)?;
        plane.apply(&pools)?;
        let ranges = |pool: &str| -> Result<Vec<String>> {
            let pool = plane.get(&format!("podpool {pool}"))?;
            let ranges = pool.pointer("/spec/nodeRanges").and_then(Value::as_array).context("no nodeRanges")?;
            Ok(ranges.iter().map(|one| format!("{} {}", one["nodes"], one["ranges"])).collect())
        };
        let expected = [
            r#"["worker1"] ["172.31.33.81","172.31.36.5","172.31.45.112"]"#,
            r#"["worker2"] ["172.31.32.70","172.31.41.41","172.31.47.20"]"#,
        ];
        ensure!(ranges("ens6")? == expected, "{:?}", ranges("ens6")?);
        // More addresses on a card, as after a second `terraform apply`.
        let text = std::fs::read_to_string(recipe.join("nodes.json")).context("no nodes.json")?;
        let more = scene.directory().join("nodes.json");
        let grown = text.replace("\"172.31.33.81\"", "\"172.31.33.81\", \"172.31.33.82\"");
        std::fs::write(&more, grown).context("cannot write nodes.json")?;
        plane.apply(&generator(&more)?)?;
        ensure!(ranges("ens6")?[0].contains("172.31.33.82"), "{:?}", ranges("ens6")?);
        // A card's own address is the node's.
        std::fs::write(&more, text.replace("172.31.33.81", "172.31.40.3")).context("cannot write nodes.json")?;
        let refused = generator(&more).err().context("the node's own address was given to pods")?.to_string();
        ensure!(refused.contains("worker1 ens6: 172.31.40.3: no secondary address"), "{refused}");
        Chart::render_with_values(&recipe.join("values.yaml")).map(drop)
    })
}

/// All speakers have one account, and each writes what is its own node's.
#[test]
fn a_speaker_writes_for_its_own_node_alone() -> Result<()> {
    scene("a speaker writes for its own node alone", |scene| {
        let fabric = Fabric::new(scene, "switch")?;
        let plane = start_plane(scene, &fabric.machine(scene, "control", &["10.99.0.100/24"])?)?;
        plane.apply(&Chart::render_with(&["speaker.pods=true"])?.rights())?;
        let mut speakers = Vec::new();
        for name in ["node-1", "node-2"] {
            plane.make_node(name, &["10.99.0.11"])?;
            speakers.push(plane.speaker_kubeconfig(name)?);
        }
        let write = |speaker: &std::path::Path, manifest: &str, status: &[&str]| {
            let path = scene.directory().join("write.yaml");
            std::fs::write(&path, manifest).context("cannot write a manifest")?;
            let path = path.to_string_lossy();
            let apply = ["apply", "--server-side", "--field-manager=roadstead-speaker", "-f", &path];
            plane.kubectl_with(speaker, &[&apply, status].concat())
        };
        let report = |node: &str, status: &str| {
            format!(
                "{{apiVersion: roadstead.dev/v1alpha1, kind: NodeReport, metadata: {{name: {node}}}, spec: {{nodeName: {node}}}{status}}}"
            )
        };
        // A policy that was just made is in force a moment later.
        wait_until("the policy", SETTLED, || {
            let refused =
                write(&speakers[0], &report("node-2", ""), &[]).err().context("node-1 wrote node-2's report")?;
            ensure!(refused.to_string().contains("a speaker writes the report of its own node, node-1"), "{refused}");
            plane.kubectl("delete nodereport node-2 --ignore-not-found").map(drop)
        })?;
        for (speaker, name) in speakers.iter().zip(["node-1", "node-2"]) {
            write(speaker, &report(name, ""), &[])?;
            write(
                speaker,
                &report(name, ", status: {heartbeat: \"2026-01-01T00:00:00Z\", established: 0/0, prefixes: 0}"),
                &["--subresource=status"],
            )?;
        }
        let foreign = write(
            &speakers[1],
            &report("node-1", ", status: {heartbeat: \"2026-01-01T00:00:00Z\", established: 0/0, prefixes: 0}"),
            &["--subresource=status"],
        );
        let foreign = foreign.err().context("node-2 wrote node-1's status")?;
        ensure!(foreign.to_string().contains("and not that of node-1"), "{foreign}");
        let nobody = write(&plane.kubeconfig(User::SPEAKER), &report("node-1", ""), &["--force-conflicts"]);
        let nobody = nobody.err().context("a token of no node wrote a report")?;
        ensure!(nobody.to_string().contains("does not say on which node"), "{nobody}");
        scene.step("reports: their own, and no other");
        Ok(())
    })
}

/// The roles are no more than what is used: what they do not need, they may not.
#[test]
fn the_charts_roles_are_narrow() -> Result<()> {
    scene("the chart's roles are narrow", |scene| {
        let fabric = Fabric::new(scene, "switch")?;
        let plane = start_plane(scene, &fabric.machine(scene, "control", &["10.99.0.100/24"])?)?;
        plane.apply(&Chart::render()?.rights())?;
        for (user, question, expected) in [
            (User::CONTROLLER, "create addressclaims.roadstead.dev", true),
            (User::CONTROLLER, "patch services --subresource=status", true),
            (User::CONTROLLER, "delete services", false),
            (User::CONTROLLER, "create services --namespace roadstead-system", true),
            (User::CONTROLLER, "create services --namespace default", false),
            (User::CONTROLLER, "get secrets --namespace kube-system", false),
            (User::SPEAKER, "list services", true),
            (User::SPEAKER, "watch endpointslices.discovery.k8s.io", true),
            (User::SPEAKER, "get secrets --namespace roadstead-system", true),
            (User::SPEAKER, "get secrets --namespace default", false),
            (User::SPEAKER, "patch services --subresource=status", false),
            (User::SPEAKER, "create pods", false),
            (User::SPEAKER, "update addresspools.roadstead.dev", false),
        ] {
            let mut arguments = vec!["auth", "can-i"];
            arguments.extend(question.split_whitespace());
            // It answers by its exit status too, so "no" comes as an error.
            let allowed = plane.kubectl_as(user, &arguments).is_ok();
            ensure!(allowed == expected, "{} may {question}: {allowed}", user.name);
        }
        Ok(())
    })
}

fn start_controller(scene: &Scene, plane: &ControlPlane, machine: &Namespace) -> Result<Process> {
    let mut command = product::command("roadstead-controller", Some(machine))?;
    command.arg("--kubeconfig").arg(plane.kubeconfig(User::CONTROLLER));
    Process::start(scene, "controller", &command)
}
