//! `roadstead run` with routers that other people wrote: sessions, routes, withdrawals, and what is said when it goes
//! wrong.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::capture::Capture;
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::routers::{Bird, Frr, Gobgp, Neighbor, Router, RouterConfig};
use roadstead_e2e::{Process, Scene, scene, wait_until};

/// A session that has to be tried again waits for both ends' retry timers.
const SESSION: Duration = Duration::from_secs(40);
/// A change of a manifest shows within a second; ten, because two cores also run a router's debug log.
const CHANGE: Duration = Duration::from_secs(10);

const NODE_ASN: u32 = 64500;
const ROUTER_ASN: u32 = 64512;
const PASSWORD: &str = "s3cret";

const V4_PREFIX: &str = "203.0.113.10/32";
const V6_PREFIX: &str = "2001:db8:100::10/128";

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {kubernetes.io/hostname: node-1}}
status:
  addresses:
  - {type: InternalIP, address: 10.99.0.11}
  - {type: InternalIP, address: \"fd00:99::11\"}
";

const POOL: &str = "
apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: [203.0.113.10-203.0.113.20, \"2001:db8:100::10-2001:db8:100::20\"]}
---
apiVersion: roadstead.dev/v1alpha1
kind: Advertisement
metadata: {name: all}
spec:
  from: [{loadBalancers: {}}]
  attributes: {communities: [\"64500:100\", no-export], largeCommunities: [\"64500:1:7\"]}
";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  ipFamilyPolicy: RequireDualStack
  ipFamilies: [IPv4, IPv6]
  ports: [{port: 80, protocol: TCP}]
";

/// The two machines of every scenario here.
struct Stage<'a> {
    scene: &'a Scene,
    router: Namespace,
    node: Namespace,
}

impl<'a> Stage<'a> {
    fn build(scene: &'a Scene) -> Result<Self> {
        let fabric = Fabric::new(scene, "switch")?;
        let router = fabric.machine(scene, "router", &["10.99.0.1/24", "fd00:99::1/64"])?;
        let node = fabric.machine(scene, "node", &["10.99.0.11/24", "fd00:99::11/64"])?;
        Ok(Self { scene, router, node })
    }

    fn manifests(&self, peer: &str) -> Result<Manifests> {
        let files = [("node.yaml", NODE), ("pool.yaml", POOL), ("service.yaml", SERVICE), ("peer.yaml", peer)];
        let manifests = Manifests::with(self.scene, "manifests", &files)?;
        manifests.write("endpoints.yaml", &endpoints(true))?;
        Ok(manifests)
    }

    fn run(&self, manifests: &Manifests) -> Result<Process> {
        product::run(self.scene, Some(&self.node), manifests, "node-1")
    }
}

/// The Service's endpoints, of both families, one on our node.
fn endpoints(ready: bool) -> String {
    let slice = |family: &str, address: &str| {
        format!(
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-{}, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: {family}
endpoints: [{{addresses: [\"{address}\"], nodeName: node-1, conditions: {{ready: {ready}, serving: {ready}, terminating: false}}}}]
ports: [{{port: 8080, protocol: TCP}}]
",
            family.to_lowercase()
        )
    };
    slice("IPv4", "10.88.1.5") + &slice("IPv6", "fd00:88::5")
}

fn peer(address: &str, asn: u32, password: bool) -> String {
    let secret = if password { ", passwordSecret: {name: router}" } else { "" };
    let mut text = format!(
        "apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {{name: router}}
spec: {{localASN: {NODE_ASN}, peerASN: {asn}, address: \"{address}\", timers: {{holdSeconds: 9, keepaliveSeconds: 3, connectRetrySeconds: 1}}{secret}}}
"
    );
    if password {
        text += &format!(
            "---
apiVersion: v1
kind: Secret
metadata: {{name: router, namespace: roadstead-system}}
type: kubernetes.io/basic-auth
stringData: {{username: bgp, password: {PASSWORD}}}
"
        );
    }
    text
}

fn router_config(neighbor: Neighbor) -> RouterConfig {
    RouterConfig { asn: ROUTER_ASN, router_id: "10.99.0.1", neighbors: vec![neighbor], routes: &[] }
}

fn start_frr(stage: &Stage<'_>, config: &RouterConfig) -> Result<Box<dyn Router>> {
    Ok(Box::new(Frr::start(stage.scene, &stage.router, config)?))
}

fn start_bird(stage: &Stage<'_>, config: &RouterConfig) -> Result<Box<dyn Router>> {
    Ok(Box::new(Bird::start(stage.scene, &stage.router, config)?))
}

fn start_gobgp(stage: &Stage<'_>, config: &RouterConfig) -> Result<Box<dyn Router>> {
    Ok(Box::new(Gobgp::start(stage.scene, &stage.router, config)?))
}

/// One way to reach a router, and what it must see then.
struct Case {
    name: &'static str,
    router_address: &'static str,
    node_address: &'static str,
    /// What it must see as next hop of the IPv4 routes.
    ipv4_next_hop: &'static str,
    password: bool,
}

const PLAIN: Case = Case {
    name: "IPv4",
    router_address: "10.99.0.1",
    node_address: "10.99.0.11",
    ipv4_next_hop: "10.99.0.11",
    password: false,
};
const MD5: Case = Case { name: "IPv4 with MD5", password: true, ..PLAIN };
/// Without RFC 8950: the IPv4 address of the interface.
const OVER_V6: Case = Case { name: "IPv6", router_address: "fd00:99::1", node_address: "fd00:99::11", ..PLAIN };
const OVER_V6_MD5: Case = Case { name: "IPv6 with MD5", password: true, ..OVER_V6 };
/// With it: the session's own.
const EXTENDED: Case = Case { name: "IPv6 with IPv6 next hops for all", ipv4_next_hop: "fd00:99::11", ..OVER_V6 };

/// The whole life of a route with one router: learned, withdrawn when its endpoint is not ready, back, withdrawn when its
/// Service goes.
fn life_of_a_route(
    router: &str,
    start: fn(&Stage<'_>, &RouterConfig) -> Result<Box<dyn Router>>,
    case: &Case,
) -> Result<()> {
    scene(&format!("{router} over {}", case.name), |scene| {
        let stage = Stage::build(scene)?;
        let mut neighbor = Neighbor::new(case.node_address, NODE_ASN)?;
        if case.password {
            neighbor = neighbor.with_password(PASSWORD);
        }
        if case.ipv4_next_hop.contains(':') {
            neighbor = neighbor.with_extended_next_hop();
        }
        let node: IpAddr = neighbor.address;
        let router = start(&stage, &router_config(neighbor))?;
        let capture = Capture::start(scene, &stage.node, "node")?;
        let manifests = stage.manifests(&peer(case.router_address, ROUTER_ASN, case.password))?;
        let mut ours = stage.run(&manifests)?;

        ours.wait_until("the session", SESSION, || router.ensure_established(node))?;
        scene.step("session is up");
        for (prefix, next_hop) in [(V4_PREFIX, case.ipv4_next_hop), (V6_PREFIX, "fd00:99::11")] {
            ours.wait_until(prefix, CHANGE, || router.ensure_next_hops(prefix, &[next_hop]))?;
            ensure_attributes(router.as_ref(), prefix)?;
        }
        scene.step("both families learned, with next hops and communities");

        manifests.write("endpoints.yaml", &endpoints(false))?;
        ours.wait_until("the withdrawal of a Service without ready endpoints", CHANGE, || {
            ensure_gone(router.as_ref())
        })?;
        manifests.write("endpoints.yaml", &endpoints(true))?;
        ours.wait_until("the routes to come back", CHANGE, || {
            router.ensure_next_hops(V4_PREFIX, &[case.ipv4_next_hop])
        })?;
        scene.step("withdrawn and back with the endpoint");

        manifests.remove("service.yaml")?;
        ours.wait_until("the withdrawal of a Service that is gone", CHANGE, || ensure_gone(router.as_ref()))?;
        router.ensure_established(node)?;
        scene.step("withdrawn with the Service, session still up");

        let status = ours.terminate(product::GRACE)?;
        ensure!(status.success(), "after SIGTERM roadstead ended with {status}");
        capture.ensure_well_formed(case.node_address)
    })
}

fn ensure_gone(router: &dyn Router) -> Result<()> {
    router.ensure_next_hops(V4_PREFIX, &[])?;
    router.ensure_next_hops(V6_PREFIX, &[])
}

fn ensure_attributes(router: &dyn Router, prefix: &str) -> Result<()> {
    let path = router.paths(prefix)?.into_iter().next().context("no path")?;
    let set = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<BTreeSet<String>>();
    ensure!(path.communities == set(&["64500:100", "no-export"]), "communities are {:?}", path.communities);
    ensure!(path.large_communities == set(&["64500:1:7"]), "large communities are {:?}", path.large_communities);
    Ok(())
}

#[test]
fn frr_plain() -> Result<()> {
    life_of_a_route("FRR", start_frr, &PLAIN)
}

#[test]
fn frr_md5() -> Result<()> {
    life_of_a_route("FRR", start_frr, &MD5)
}

#[test]
fn frr_over_ipv6() -> Result<()> {
    life_of_a_route("FRR", start_frr, &OVER_V6)
}

#[test]
fn frr_over_ipv6_md5() -> Result<()> {
    life_of_a_route("FRR", start_frr, &OVER_V6_MD5)
}

#[test]
fn frr_with_extended_next_hops() -> Result<()> {
    life_of_a_route("FRR", start_frr, &EXTENDED)
}

#[test]
fn bird_plain() -> Result<()> {
    life_of_a_route("BIRD", start_bird, &PLAIN)
}

#[test]
fn bird_md5() -> Result<()> {
    life_of_a_route("BIRD", start_bird, &MD5)
}

#[test]
fn bird_over_ipv6() -> Result<()> {
    life_of_a_route("BIRD", start_bird, &OVER_V6)
}

#[test]
fn bird_with_extended_next_hops() -> Result<()> {
    life_of_a_route("BIRD", start_bird, &EXTENDED)
}

#[test]
fn gobgp_plain() -> Result<()> {
    life_of_a_route("GoBGP", start_gobgp, &PLAIN)
}

#[test]
fn gobgp_md5() -> Result<()> {
    life_of_a_route("GoBGP", start_gobgp, &MD5)
}

/// It offers RFC 8950 on every session and cannot be told not to.
#[test]
fn gobgp_over_ipv6() -> Result<()> {
    life_of_a_route("GoBGP", start_gobgp, &EXTENDED)
}

/// Over iBGP a route carries LOCAL_PREF (RFC 4271 section 5.1.5), and under policy Cluster a node announces a Service
/// whose endpoints are all elsewhere.
#[test]
fn ibgp_and_policy_cluster() -> Result<()> {
    scene("iBGP, policy Cluster", |scene| {
        let stage = Stage::build(scene)?;
        let neighbor = Neighbor::new("10.99.0.11", NODE_ASN)?;
        let node = neighbor.address;
        let config = RouterConfig { asn: NODE_ASN, ..router_config(neighbor) };
        let frr = Frr::start(scene, &stage.router, &config)?;
        let manifests = stage.manifests(&peer("10.99.0.1", NODE_ASN, false))?;
        manifests.write("pool.yaml", &POOL.replace("attributes: {", "attributes: {localPreference: 250, "))?;
        manifests.write(
            "service.yaml",
            &SERVICE.replace("externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster"),
        )?;
        manifests.write("endpoints.yaml", &endpoints(true).replace("nodeName: node-1", "nodeName: node-2"))?;
        let mut ours = stage.run(&manifests)?;
        ours.wait_until("the session", SESSION, || frr.ensure_established(node))?;
        ours.wait_until("the route", CHANGE, || frr.ensure_next_hops(V4_PREFIX, &["10.99.0.11"]))?;
        let answer = frr.ask(&format!("show bgp ipv4 unicast {V4_PREFIX}"))?;
        let preference = answer.pointer("/paths/0/locPrf").context("no local preference")?;
        ensure!(preference == 250, "the local preference is {preference}");
        manifests.write("service.yaml", SERVICE)?;
        ours.wait_until("the withdrawal under policy Local", CHANGE, || ensure_gone(&frr))
    })
}

/// RFC 4271 section 6.2: an unexpected ASN in the OPEN is answered by NOTIFICATION 2/2, "Bad Peer AS".
#[test]
fn a_wrong_asn_is_said_on_both_sides() -> Result<()> {
    scene("the manifest says another ASN than FRR has", |scene| {
        let stage = Stage::build(scene)?;
        let frr = Frr::start(scene, &stage.router, &router_config(Neighbor::new("10.99.0.11", NODE_ASN)?))?;
        let manifests = stage.manifests(&peer("10.99.0.1", 64513, false))?;
        let mut ours = stage.run(&manifests)?;
        // From FRR's log: what it shows of a neighbour is of its own connection, and this one was ours.
        ours.wait_until("FRR to see Bad Peer AS", SESSION, || {
            let log = frr.log();
            let line = log.lines().find(|line| line.contains("NOTIFICATION: received from neighbor 10.99.0.11"));
            ensure!(line.is_some_and(|line| line.contains(" 2/2 ")), "FRR logged {line:?}");
            Ok(())
        })?;
        let said = ours.log();
        let line =
            said.lines().find(|line| line.contains("64513") && line.contains("64512") && line.contains("router"));
        ensure!(line.is_some(), "our log names no line with the peer, the ASN that came and the one that was expected");
        Ok(())
    })
}

/// The other way round: FRR expects another ASN than ours and says so.
#[test]
fn a_wrong_asn_of_ours_is_said_in_words() -> Result<()> {
    scene("FRR expects another ASN than ours", |scene| {
        let stage = Stage::build(scene)?;
        let frr = Frr::start(scene, &stage.router, &router_config(Neighbor::new("10.99.0.11", 64501)?))?;
        let manifests = stage.manifests(&peer("10.99.0.1", ROUTER_ASN, false))?;
        let mut ours = stage.run(&manifests)?;
        let line = wait_for_words(&mut ours, &["router", "bad peer as"])?;
        scene.step(&format!("we say: {line}"));
        ensure!(frr.session("10.99.0.11".parse()?)? != "Established", "FRR took a session with the wrong ASN");
        Ok(())
    })
}

/// RFC 4271 section 8.2.2 and RFC 4486: where nobody asked for graceful restart, an ended speaker says Cease,
/// Administrative Shutdown.
#[test]
fn sigterm_is_a_cease() -> Result<()> {
    scene("SIGTERM", |scene| {
        let stage = Stage::build(scene)?;
        let neighbor = Neighbor::new("10.99.0.11", NODE_ASN)?;
        let node = neighbor.address;
        let frr = Frr::start(scene, &stage.router, &router_config(neighbor))?;
        let manifests = stage.manifests(&peer("10.99.0.1", ROUTER_ASN, false))?;
        let mut ours = stage.run(&manifests)?;
        ours.wait_until("the session", SESSION, || frr.ensure_established(node))?;
        let status = ours.terminate(product::GRACE)?;
        ensure!(status.success(), "after SIGTERM roadstead ended with {status}");
        wait_until("FRR to see the Cease", CHANGE, || {
            let seen = frr.last_notification(node)?;
            ensure!(seen.starts_with("0602"), "FRR's last notification: {seen}");
            Ok(())
        })
    })
}

/// The peer of IPv4 with this `gracefulRestart`.
fn with_graceful_restart(field: &str) -> String {
    peer("10.99.0.1", ROUTER_ASN, false).replace("timers:", &format!("gracefulRestart: {field}, timers:"))
}

/// RFC 4724: on SIGTERM the connection just ends, FRR keeps the routes, and has them from us again after the restart. What
/// went in the meantime it forgets at our End-of-RIB.
#[test]
fn a_restart_keeps_the_routes() -> Result<()> {
    scene("restart with FRR", |scene| {
        let stage = Stage::build(scene)?;
        let neighbor = Neighbor::new("10.99.0.11", NODE_ASN)?;
        let node = neighbor.address;
        let frr = Frr::start(scene, &stage.router, &router_config(neighbor))?;
        let manifests = stage.manifests(&with_graceful_restart("{}"))?;
        let learned = || {
            frr.ensure_next_hops(V4_PREFIX, &["10.99.0.11"])?;
            frr.ensure_next_hops(V6_PREFIX, &["fd00:99::11"])
        };
        let mut ours = stage.run(&manifests)?;
        ours.wait_until("the routes", SESSION, learned)?;
        let status = ours.terminate(product::GRACE)?;
        ensure!(status.success(), "after SIGTERM roadstead ended with {status}");
        wait_until("FRR to see the end", CHANGE, || {
            ensure!(frr.session(node)? != "Established", "the session is still up");
            Ok(())
        })?;
        learned().context("FRR does not keep the routes")?;
        scene.step("the session is down, the routes are there");

        let mut ours = stage.run(&manifests)?;
        ours.wait_until("the session", SESSION, || frr.ensure_established(node))?;
        ours.wait_until("the routes", CHANGE, learned)?;
        wait_until("our End-of-RIB", CHANGE, || {
            for family in ["IPv4 Unicast", "IPv6 Unicast"] {
                let line = format!("rcvd End-of-RIB for {family} from {node}");
                let times = frr.log().matches(&line).count();
                ensure!(times == 2, "{line}: {times} times, once for each session is right");
            }
            Ok(())
        })?;
        learned()?;
        scene.step("back, with the same routes and End-of-RIB");

        // While it is away the Service goes.
        ours.terminate(product::GRACE)?;
        manifests.remove("service.yaml")?;
        learned().context("FRR does not keep the routes")?;
        let mut ours = stage.run(&manifests)?;
        ours.wait_until("the routes to go with End-of-RIB", SESSION, || ensure_gone(&frr))?;
        frr.ensure_established(node)
    })
}

/// RFC 7313: FRR asks for everything again, and hears where the answer begins and ends.
#[test]
fn a_refresh_has_a_beginning_and_an_end() -> Result<()> {
    scene("refresh with FRR", |scene| {
        let stage = Stage::build(scene)?;
        let neighbor = Neighbor::new("10.99.0.11", NODE_ASN)?;
        let node = neighbor.address;
        let frr = Frr::start(scene, &stage.router, &router_config(neighbor))?;
        // Without graceful restart FRR puts every answer off, so enhanced refresh is not offered (docs/interop.md).
        let manifests = stage.manifests(&with_graceful_restart("{}"))?;
        let mut ours = stage.run(&manifests)?;
        ours.wait_until("the routes", SESSION, || frr.ensure_next_hops(V4_PREFIX, &["10.99.0.11"]))?;
        // RFC 7313 section 4: what is asked for before End-of-RIB is answered by what that ends.
        ours.wait_until("our End-of-RIB", CHANGE, || {
            let log = frr.log();
            for family in ["IPv4 Unicast", "IPv6 Unicast"] {
                let line = format!("rcvd End-of-RIB for {family} from {node}");
                ensure!(log.contains(&line), "FRR's log lacks: {line}");
            }
            Ok(())
        })?;
        frr.ask_again(node)?;
        ours.wait_until("the answer", CHANGE, || {
            let log = frr.log();
            for family in ["IPv4/unicast", "IPv6/unicast"] {
                for mark in ["BoRR", "EoRR"] {
                    let line = format!("rcvd route-refresh ({mark}) for {family}");
                    ensure!(log.contains(&line), "FRR's log lacks: {line}");
                }
            }
            Ok(())
        })?;
        frr.ensure_next_hops(V4_PREFIX, &["10.99.0.11"])?;
        frr.ensure_established(node)
    })
}

/// Whoever ends it by hand does not want it back: the routes go, graceful restart or not.
#[test]
fn sigint_withdraws_the_routes() -> Result<()> {
    scene("SIGINT with graceful restart", |scene| {
        let stage = Stage::build(scene)?;
        let neighbor = Neighbor::new("10.99.0.11", NODE_ASN)?;
        let node = neighbor.address;
        let frr = Frr::start(scene, &stage.router, &router_config(neighbor))?;
        let manifests = stage.manifests(&with_graceful_restart("{}"))?;
        let mut ours = stage.run(&manifests)?;
        ours.wait_until("the routes", SESSION, || frr.ensure_next_hops(V4_PREFIX, &["10.99.0.11"]))?;
        ours.signal("INT")?;
        let status = ours.wait(product::GRACE)?;
        ensure!(status.success(), "after SIGINT roadstead ended with {status}");
        wait_until("FRR to see the Cease and forget the routes", CHANGE, || {
            let seen = frr.last_notification(node)?;
            ensure!(seen.starts_with("0602"), "FRR's last notification: {seen}");
            ensure_gone(&frr)
        })
    })
}

/// A speaker that does not come back: the router keeps its routes for the restart time and no longer.
fn killed_for_good(router: &str, start: fn(&Stage<'_>, &RouterConfig) -> Result<Box<dyn Router>>) -> Result<()> {
    scene(&format!("kill -9 with {router}"), |scene| {
        let stage = Stage::build(scene)?;
        let neighbor = Neighbor::new("10.99.0.11", NODE_ASN)?;
        let node = neighbor.address;
        let router = start(&stage, &router_config(neighbor))?;
        let manifests = stage.manifests(&with_graceful_restart("{restartTimeSeconds: 6}"))?;
        let mut ours = stage.run(&manifests)?;
        ours.wait_until("the routes", SESSION, || router.ensure_next_hops(V4_PREFIX, &["10.99.0.11"]))?;
        // Ended with SIGKILL.
        drop(ours);
        wait_until("the router to see the end", CHANGE, || {
            ensure!(router.ensure_established(node).is_err(), "the session is still up");
            Ok(())
        })?;
        router.ensure_next_hops(V4_PREFIX, &["10.99.0.11"]).context("the router does not keep the routes")?;
        scene.step("the session is down, the routes are there");
        wait_until("the router to give us up", SESSION, || ensure_gone(router.as_ref()))
    })
}

#[test]
fn frr_keeps_a_killed_speakers_routes_for_the_restart_time() -> Result<()> {
    killed_for_good("FRR", start_frr)
}

#[test]
fn bird_keeps_a_killed_speakers_routes_for_the_restart_time() -> Result<()> {
    killed_for_good("BIRD", start_bird)
}

/// A password on one side only: TCP drops the segments, so no NOTIFICATION can tell; the log must.
#[test]
fn a_wrong_password_keeps_the_session_down() -> Result<()> {
    scene("FRR has a password, we have none", |scene| {
        let stage = Stage::build(scene)?;
        let neighbor = Neighbor::new("10.99.0.11", NODE_ASN)?.with_password(PASSWORD);
        let node = neighbor.address;
        let frr = Frr::start(scene, &stage.router, &router_config(neighbor))?;
        let manifests = stage.manifests(&peer("10.99.0.1", ROUTER_ASN, false))?;
        let mut ours = stage.run(&manifests)?;
        let line = wait_for_words(&mut ours, &["router", "cannot connect"])?;
        scene.step(&format!("we say: {line}"));
        ensure!(frr.session(node)? != "Established", "FRR took a session without its password");
        // The password arrives, and the session comes up without a restart.
        manifests.write("peer.yaml", &peer("10.99.0.1", ROUTER_ASN, true))?;
        ours.wait_until("the session", SESSION, || frr.ensure_established(node))
    })
}

/// The kernel finds the key of an incoming connection by the peer's address, so of two passwords for one address one is
/// refused in words, and the session that is there stays.
#[test]
fn a_second_password_for_one_address_is_refused() -> Result<()> {
    scene("two BGPPeers that listen for one address with two passwords", |scene| {
        let stage = Stage::build(scene)?;
        let neighbor = Neighbor::new("10.99.0.11", NODE_ASN)?.with_password(PASSWORD);
        let node = neighbor.address;
        let frr = Frr::start(scene, &stage.router, &router_config(neighbor))?;
        let listening = peer("10.99.0.1", ROUTER_ASN, true).replace("timers:", "listen: true, timers:");
        let manifests = stage.manifests(&listening)?;
        let mut ours = stage.run(&manifests)?;
        ours.wait_until("the session", SESSION, || frr.ensure_established(node))?;
        let twin = listening.replace("name: router", "name: twin").replace(PASSWORD, "another");
        manifests.write("twin.yaml", &twin)?;
        let line = wait_for_words(&mut ours, &["bgppeer twin: no session", "10.99.0.1/32 of router"])?;
        scene.step(&format!("we say: {line}"));
        // As soon as it is one password, both are fine: whoever calls from there can be heard.
        manifests.write("twin.yaml", &twin.replace("another", PASSWORD))?;
        wait_for_words(&mut ours, &["session added", "peer=twin"])?;
        frr.ensure_established(node)
    })
}

/// The first line of the log that has all these words, whatever their case.
fn wait_for_words(process: &mut Process, words: &[&str]) -> Result<String> {
    wait_until(&format!("a log line with {words:?}"), SESSION, || {
        let log = process.log();
        let found = log.lines().find(|line| words.iter().all(|word| line.to_lowercase().contains(word)));
        found.map(str::to_owned).context("no such line")
    })
}
