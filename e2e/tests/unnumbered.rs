//! Sessions without addresses: the router is whoever is on the link, and everything between the two is link-local.
//!
//! FRR takes the source of a router advertisement for its neighbour's address and sends such itself as soon as a neighbour
//! is configured by interface; zebra does that, so it must run. It wants no router lifetime in them: ours is zero.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::capture::Capture;
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::routers::{Bfd, Frr, Hops, Neighbor, Router, RouterConfig};
use roadstead_e2e::unnumbered::{NODE_ASN, peer, set_link_local};
use roadstead_e2e::{Process, Scene, scene};

/// Link-local addresses become usable after a second or two, and an advertisement may take ten.
const SESSION: Duration = Duration::from_secs(60);
const CHANGE: Duration = Duration::from_secs(20);

/// Several detection times, and several attempts to connect.
const QUIET: Duration = Duration::from_secs(4);

const METRICS: &str = "127.0.0.1:9473";
const V4_PREFIX: &str = "203.0.113.10/32";
const V6_PREFIX: &str = "2001:db8:100::10/128";

/// A Service with an address of either family, and an endpoint here.
const SERVICE: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: node-1}
---
apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: [203.0.113.10-203.0.113.20, "2001:db8:100::10-2001:db8:100::20"]}
---
apiVersion: roadstead.dev/v1alpha1
kind: Advertisement
metadata: {name: all}
spec: {from: [{loadBalancers: {}}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  ipFamilyPolicy: RequireDualStack
  ipFamilies: [IPv4, IPv6]
  ports: [{port: 80, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.88.1.5], nodeName: node-1}]
ports: [{port: 8080, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-6, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
endpoints: [{addresses: ["fd00:88::5"], nodeName: node-1}]
ports: [{port: 8080, protocol: TCP}]
"#;

const SECRETS: &str = "
apiVersion: v1
kind: Secret
metadata: {name: right, namespace: roadstead-system}
type: kubernetes.io/basic-auth
stringData: {username: bgp, password: s3cret}
---
apiVersion: v1
kind: Secret
metadata: {name: wrong, namespace: roadstead-system}
type: kubernetes.io/basic-auth
stringData: {username: bgp, password: an0ther}
";

fn router(scene: &Scene, machine: &Namespace, asn: u32) -> Result<Frr> {
    let config =
        RouterConfig { asn, router_id: "10.99.0.1", neighbors: vec![Neighbor::behind("eth0", NODE_ASN)], routes: &[] };
    Frr::start_with_kernel(scene, machine, &config)
}

/// The next hops in the kernel's table, `via inet6 fe80::…`: IPv4 packets to an IPv6 neighbour.
fn kernel_route(machine: &Namespace, prefix: &str) -> Result<String> {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    machine.ip(&format!("{family} route show {}", prefix.trim_end_matches("/32")))
}

/// `roadstead run` with its sessions shown.
fn run(scene: &Scene, node: &Namespace, manifests: &Manifests) -> Result<Process> {
    let mut command = product::command("roadstead", Some(node))?;
    command.arg("run").arg("--manifests").arg(manifests.path()).args(["--node", "node-1"]);
    command.arg("--state").arg(scene.subdirectory("state")?).args(["--metrics-address", METRICS]);
    Process::start(scene, "roadstead", &command)
}

/// Fails, saying what it saw, unless so many routes were accepted from a peer.
fn ensure_accepted(node: &Namespace, peer: &str, count: u32) -> Result<()> {
    let metrics = node.run("curl", &format!("-s --max-time 5 http://{METRICS}/metrics"))?;
    let wanted = format!("roadstead_bgp_prefixes_accepted{{peer=\"{peer}\"}} {count}");
    ensure!(metrics.lines().any(|line| line == wanted), "no {wanted} in {metrics}");
    Ok(())
}

fn ensure_up(frr: &Frr) -> Result<()> {
    let state = frr.session_behind("eth0")?;
    ensure!(state == "Established", "FRR says {state}");
    Ok(())
}

/// FRR dials as soon as it knows us, and so do we: each must do alone.
#[test]
fn frr_by_interface_both_dial() -> Result<()> {
    frr_by_interface("listen")
}

#[test]
fn frr_by_interface_and_dials() -> Result<()> {
    frr_by_interface("passive")
}

#[test]
fn frr_by_interface_and_we_dial() -> Result<()> {
    frr_by_interface("# nobody listens here: passive")
}

fn frr_by_interface(mode: &str) -> Result<()> {
    scene(&format!("a session with FRR by interface, without any address ({mode})"), |scene| {
        let fabric = Fabric::new(scene, "switch")?;
        let machine = fabric.machine(scene, "router", &[])?;
        let node = fabric.machine(scene, "node", &[])?;
        let frr = router(scene, &machine, 64512)?;
        let manifests =
            Manifests::with(scene, "manifests", &[("service.yaml", SERVICE), ("peer.yaml", &peer("eth0", mode))])?;
        let mut ours = run(scene, &node, &manifests)?;
        ours.wait_until("the session", SESSION, || ensure_up(&frr))?;
        scene.step("session is up");
        for prefix in [V4_PREFIX, V6_PREFIX] {
            ours.wait_until(prefix, CHANGE, || {
                let path = frr.paths(prefix)?.into_iter().next().with_context(|| format!("no path to {prefix}"))?;
                ensure!(path.next_hop.to_string().starts_with("fe80:"), "{prefix} by {}", path.next_hop);
                let route = kernel_route(&machine, prefix)?;
                ensure!(route.contains("fe80:") && route.contains("dev eth0"), "{prefix} in the kernel: {route:?}");
                Ok(())
            })?;
        }
        scene.step("both families learned, and in the router's kernel");
        for prefix in ["198.51.100.0/24", "2001:db8:51::/48"] {
            frr.announce(64512, prefix)?;
        }
        ours.wait_until("the router's routes", CHANGE, || ensure_accepted(&node, "behind-eth0", 2))?;
        scene.step("and its routes are accepted");
        let status = ours.terminate(product::GRACE)?;
        ensure!(status.success(), "after SIGTERM roadstead ended with {status}");
        Ok(())
    })
}

/// BFD is between the link-local addresses of the session, on its link, and begins and ends with it (RFC 5881).
#[test]
fn bfd_with_frr_by_interface() -> Result<()> {
    scene("BFD beside a session by interface, with FRR", |scene| {
        let fabric = Fabric::new(scene, "switch")?;
        let machine = fabric.machine(scene, "router", &[])?;
        let node = fabric.machine(scene, "node", &[])?;
        set_link_local(&machine, "eth0", "fe80::1")?;
        set_link_local(&node, "eth0", "fe80::2")?;
        let address: IpAddr = "fe80::2".parse().context("no address")?;
        let bfd = Bfd { milliseconds: 300, multiplier: 3, hops: Hops::Single };
        let neighbors = vec![Neighbor::behind("eth0", NODE_ASN).with_bfd(bfd)];
        let config = RouterConfig { asn: 64512, router_id: "10.99.0.1", neighbors, routes: &[] };
        let frr = Frr::start_with_kernel(scene, &machine, &config)?;
        // Only BFD is as fast as what follows.
        let with_bfd = |more: &str| peer("eth0", "listen").replace("holdSeconds: 9, keepaliveSeconds: 3, ", "") + more;
        let files = [("service.yaml", SERVICE), ("peer.yaml", &with_bfd("  bfd: {}\n"))];
        let manifests = Manifests::with(scene, "manifests", &files)?;
        let mut ours = run(scene, &node, &manifests)?;
        let up = |frr: &Frr| -> Result<()> {
            ensure_up(frr)?;
            let theirs = frr.bfd(address)?;
            ensure!(theirs == "up", "FRR's BFD session is {theirs}");
            let metrics = node.run("curl", &format!("-s --max-time 5 http://{METRICS}/metrics"))?;
            let wanted = "roadstead_bfd_session_up{peer=\"behind-eth0\"} 1";
            ensure!(metrics.lines().any(|line| line == wanted), "no {wanted} in {metrics}");
            Ok(())
        };
        ours.wait_until("both sessions", SESSION, || up(&frr))?;
        scene.step("BGP and BFD are up");
        // FRR makes its BFD session anew when it has learnt who we are.
        std::thread::sleep(QUIET);
        ours.wait_until("both sessions still", SESSION, || up(&frr))?;

        machine.ip("link set eth0 down")?;
        let line = ours.wait_for_log("BFD session down: control detection time expired (1)", CHANGE)?;
        scene.step(&format!("the router's cable is noticed: {line}"));
        machine.ip("link set eth0 up")?;
        machine.ip("address replace fe80::1/64 dev eth0 nodad")?;
        ours.wait_until("both sessions again", SESSION, || up(&frr))?;

        manifests.write("peer.yaml", &with_bfd(""))?;
        ours.wait_until("FRR to hear of BFD's end", CHANGE, || {
            let theirs = frr.bfd(address)?;
            ensure!(theirs != "up", "FRR's BFD session is {theirs}");
            Ok(())
        })?;
        ours.wait_until("BGP without BFD", SESSION, || ensure_up(&frr))
    })
}

/// TCP MD5 with whoever is on the link: our listener has the key for every link-local address, FRR's for the one that it has learnt.
fn signed(mode: &str) -> Result<()> {
    scene(&format!("a signed session with FRR by interface ({mode})"), |scene| {
        let fabric = Fabric::new(scene, "switch")?;
        let machine = fabric.machine(scene, "router", &[])?;
        let node = fabric.machine(scene, "node", &[])?;
        let neighbors = vec![Neighbor::behind("eth0", NODE_ASN).with_password("s3cret")];
        let config = RouterConfig { asn: 64512, router_id: "10.99.0.1", neighbors, routes: &[] };
        let frr = Frr::start_with_kernel(scene, &machine, &config)?;
        let with_secret = |secret: &str| format!("{}  passwordSecret: {{name: {secret}}}\n", peer("eth0", mode));
        let files = [("service.yaml", SERVICE), ("secrets.yaml", SECRETS), ("peer.yaml", &with_secret("right"))];
        let manifests = Manifests::with(scene, "manifests", &files)?;
        let capture = Capture::start(scene, &node, "signed")?;
        let mut ours = run(scene, &node, &manifests)?;
        ours.wait_until("the session", SESSION, || ensure_up(&frr))?;
        ours.wait_until("the route", CHANGE, || {
            ensure!(kernel_route(&machine, V6_PREFIX)?.contains("fe80:"), "no route in the router's kernel");
            Ok(())
        })?;
        scene.step("session and route are there");
        manifests.write("peer.yaml", &with_secret("wrong"))?;
        ours.wait_until("the session to end", SESSION, || {
            ensure!(ensure_up(&frr).is_err(), "it is up");
            Ok(())
        })?;
        std::thread::sleep(QUIET);
        ensure!(ensure_up(&frr).is_err(), "the session came up with another password");
        manifests.write("peer.yaml", &with_secret("right"))?;
        ours.wait_until("the session again", SESSION, || ensure_up(&frr))?;
        capture.finish()?.ensure_none("tcp.port == 179 && tcp.flags.reset == 0 && !tcp.options.md5.digest")
    })
}

#[test]
fn frr_by_interface_signed_both_dial() -> Result<()> {
    signed("listen")
}

#[test]
fn frr_by_interface_signed_and_dials() -> Result<()> {
    signed("passive")
}

#[test]
fn frr_by_interface_signed_and_we_dial() -> Result<()> {
    signed("# nobody listens here: passive")
}

/// Row 35 of the list of classic bugs: the same address on two links is two routers.
#[test]
fn two_routers_of_one_address() -> Result<()> {
    scene("fe80::1 on two links, FRR on both", |scene| {
        let node = Namespace::new(scene, "node")?;
        let mut routers = Vec::new();
        for (index, interface) in ["eth0", "eth1"].into_iter().enumerate() {
            let fabric = Fabric::new(scene, &format!("switch{index}"))?;
            let machine = fabric.machine(scene, &format!("router{index}"), &[])?;
            fabric.plug(&node, interface, &[])?;
            set_link_local(&machine, "eth0", "fe80::1")?;
            set_link_local(&node, interface, "fe80::2")?;
            routers.push(router(scene, &machine, if index == 0 { 64512 } else { 64513 })?);
        }
        let (first, second) = (peer("eth0", "listen"), peer("eth1", "listen"));
        let files = [("service.yaml", SERVICE), ("first.yaml", first.as_str()), ("second.yaml", second.as_str())];
        let manifests = Manifests::with(scene, "manifests", &files)?;
        let mut ours = run(scene, &node, &manifests)?;
        for (frr, asn, interface) in [(&routers[0], 64512, "eth0"), (&routers[1], 64513, "eth1")] {
            ours.wait_until(interface, SESSION, || ensure_up(frr))?;
            for prefix in [V4_PREFIX, V6_PREFIX] {
                ours.wait_until(prefix, CHANGE, || frr.ensure_next_hops(prefix, &["fe80::2"]))?;
            }
            frr.announce(asn, "198.51.100.0/24")?;
            ours.wait_until("its route", CHANGE, || ensure_accepted(&node, &format!("behind-{interface}"), 1))?;
        }
        scene.step("both sessions are up, each with its own router");
        routers.iter().try_for_each(ensure_up)
    })
}

/// Without CAP_NET_RAW nothing can be said or heard of addresses on the link, and that is said.
#[test]
fn without_the_capability_it_says_so() -> Result<()> {
    scene("unnumbered without CAP_NET_RAW", |scene| {
        let fabric = Fabric::new(scene, "switch")?;
        let node = fabric.machine(scene, "node", &[])?;
        let manifests =
            Manifests::with(scene, "manifests", &[("service.yaml", SERVICE), ("peer.yaml", &peer("eth0", "listen"))])?;
        let mut command = node.command("setpriv");
        command.args(["--bounding-set=-net_raw", "--inh-caps=-net_raw"]).arg(product::binary("roadstead")?);
        command.arg("run").arg("--manifests").arg(manifests.path()).args(["--node", "node-1"]);
        command.arg("--state").arg(scene.subdirectory("state")?);
        let mut ours = Process::start(scene, "roadstead", &command)?;
        let line = ours.wait_for_log("without CAP_NET_RAW on eth0", SESSION)?;
        scene.step(&format!("we say: {line}"));
        ours.wait_for_log("cannot connect: cannot send and receive router advertisements", SESSION).map(drop)
    })
}
