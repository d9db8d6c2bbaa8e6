//! `roadstead route-server` between routers that other people wrote: what each of them is told of the others.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::product::{self, GRACE, Manifests};
use roadstead_e2e::routers::{Bfd, Bird, Frr, Gobgp, Hops, Neighbor, Path, Router, RouterConfig};
use roadstead_e2e::{Process, Scene, scene};

/// A session that has to be tried again waits for both ends' retry timers; GoBGP rests for half a minute after an error.
const SESSION: Duration = Duration::from_secs(60);
/// A route through three processes on two cores that do other things too.
const CHANGE: Duration = Duration::from_secs(20);

const SERVER_ASN: u32 = 64999;
const SERVER: &str = "10.77.0.1";
const FRR: &str = "10.77.0.11";
const BIRD: &str = "10.77.0.12";
const GOBGP: &str = "10.77.0.13";

/// The switch, the server on it, and where its clients go.
struct Stage<'a> {
    scene: &'a Scene,
    fabric: Fabric,
    manifests: Manifests,
    server: Process,
}

impl<'a> Stage<'a> {
    fn new(scene: &'a Scene, spec: &str) -> Result<Self> {
        let fabric = Fabric::new(scene, "switch")?;
        let machine = fabric.machine(scene, "server", &["10.77.0.1/24"])?;
        let manifests = Manifests::with(scene, "manifests", &[("server.yaml", &object(spec))])?;
        let mut command = product::command("roadstead", Some(&machine))?;
        command.args(["route-server", "--manifests"]).arg(manifests.path());
        let server = Process::start(scene, "route-server", &command)?;
        Ok(Self { scene, fabric, manifests, server })
    }

    fn machine(&self, label: &str, address: &str) -> Result<Namespace> {
        self.fabric.machine(self.scene, label, &[&format!("{address}/24")])
    }

    /// Another version of the manifest.
    fn edit(&self, spec: &str) -> Result<()> {
        self.manifests.write("server.yaml", &object(spec))
    }

    fn frr(&self, asn: u32) -> Result<Frr> {
        let frr = Frr::start(self.scene, &self.machine("frr", FRR)?, &config(asn, FRR)?)?;
        // It would announce only what zebra has, and there is none.
        frr.configure(&[&format!("router bgp {asn}"), "no bgp network import-check"])?;
        Ok(frr)
    }

    fn bird(&self, asn: u32) -> Result<Bird> {
        Bird::start(self.scene, &self.machine("bird", BIRD)?, &config(asn, BIRD)?)
    }

    fn gobgp(&self, asn: u32) -> Result<Gobgp> {
        Gobgp::start(self.scene, &self.machine("gobgp", GOBGP)?, &config(asn, GOBGP)?)
    }

    fn established(&mut self, routers: &[&dyn Router]) -> Result<()> {
        for router in routers {
            let what = format!("the session with {}", router.name());
            self.server.wait_until(&what, SESSION, || router.ensure_established(server()?))?;
        }
        Ok(())
    }

    /// Waits until a router's paths to a prefix are those that `expected` says, by next hop.
    fn next_hops(&mut self, router: &dyn Router, prefix: &str, expected: &[&str]) -> Result<()> {
        let what = format!("{} and its next hops at {}", prefix, router.name());
        self.server.wait_until(&what, CHANGE, || router.ensure_next_hops(prefix, expected))
    }
}

fn object(spec: &str) -> String {
    format!("apiVersion: roadstead.dev/v1alpha1\nkind: RouteServer\nmetadata: {{name: default}}\nspec:\n{spec}")
}

fn server() -> Result<IpAddr> {
    SERVER.parse().context("no address")
}

fn config(asn: u32, router_id: &'static str) -> Result<RouterConfig> {
    Ok(RouterConfig { asn, router_id, neighbors: vec![Neighbor::new(SERVER, SERVER_ASN)?], routes: &[] })
}

/// Three entries, so that each can be edited alone.
fn spec(frr_asns: &str, gobgp_limit: u32) -> String {
    format!(
        "  asn: {SERVER_ASN}
  routerID: {SERVER}
  listen: [\"{SERVER}:179\"]
  clients:
  - {{name: frr, prefix: {FRR}/32, asnRanges: [{frr_asns}]}}
  - {{name: gobgp, prefix: {GOBGP}/32, asnRanges: [{{from: 64600, to: 64700}}], maxPrefixes: {gobgp_limit}}}
  - {{name: everybody, prefix: 10.77.0.0/24, asnRanges: [{{from: 64600, to: 64700}}], maxPaths: 4}}
"
    )
}

const ALLOWED: &str = "{from: 64600, to: 64700}";

#[test]
fn clients_are_told_each_others_routes_as_they_came() -> Result<()> {
    scene("a route server and three clients", |scene| {
        let mut stage = Stage::new(scene, &spec(ALLOWED, 3))?;
        let frr = stage.frr(64601)?;
        let bird = stage.bird(64602)?;
        let gobgp = stage.gobgp(64603)?;
        stage.established(&[&frr, &bird, &gobgp])?;
        scene.step("three sessions are up");

        transparency(&mut stage, &frr, &[&bird, &gobgp])?;
        no_path_hiding(&mut stage, &frr, &bird, &gobgp)?;
        add_path(&mut stage, &bird)?;
        limits_and_edits(&mut stage, &frr, &bird, &gobgp)?;

        let status = stage.server.terminate(GRACE)?;
        ensure!(status.success(), "the route server ended with {status}");
        Ok(())
    })
}

/// RFC 7947 section 2.2: next hop, AS path, MED and communities as they came, NO_EXPORT (section 2.2.4) too.
fn transparency(stage: &mut Stage<'_>, frr: &Frr, others: &[&dyn Router]) -> Result<()> {
    frr.configure(&[
        "route-map tell permit 10",
        "set metric 77",
        "set community 64601:1 no-export",
        "set large-community 64601:2:3",
        "exit",
        "router bgp 64601",
        "address-family ipv4 unicast",
        "network 203.0.113.0/24",
        &format!("neighbor {SERVER} route-map tell out"),
    ])?;
    let text = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<BTreeSet<_>>();
    let expected = Path {
        from: SERVER.parse()?,
        next_hop: FRR.parse()?,
        as_path: "64601".to_owned(),
        med: Some(77),
        local_preference: None,
        otc: None,
        communities: text(&["64601:1", "no-export"]),
        large_communities: text(&["64601:2:3"]),
        extended_communities: BTreeSet::new(),
    };
    for router in others {
        stage.next_hops(*router, "203.0.113.0/24", &[FRR])?;
        // Each gives a route that has none its own default.
        let own = |path: Path| Path { local_preference: None, ..path };
        let paths: Vec<Path> = router.paths("203.0.113.0/24")?.into_iter().map(own).collect();
        ensure!(paths == [expected.clone()], "{} has {paths:?}, not {expected:?}", router.name());
    }
    stage.scene.step("routes are passed on as they came");
    Ok(())
}

/// RFC 7947 section 2.3: what is best for everybody is the announcing client's own, and it gets the next best.
fn no_path_hiding(stage: &mut Stage<'_>, frr: &Frr, bird: &Bird, gobgp: &Gobgp) -> Result<()> {
    frr.configure(&["router bgp 64601", "address-family ipv4 unicast", "network 198.51.100.0/24"])?;
    gobgp.announce("198.51.100.0/24")?;
    // FRR and GoBGP count their own route among the paths.
    stage.next_hops(frr, "198.51.100.0/24", &["0.0.0.0", GOBGP])?;
    stage.next_hops(gobgp, "198.51.100.0/24", &["0.0.0.0", FRR])?;
    // Of two equal ones everybody else gets the one of the lower identifier.
    stage.next_hops(bird, "198.51.100.0/24", &[FRR])?;
    stage.scene.step("nobody's own route hides another's");
    Ok(())
}

/// RFC 7911: BIRD asks for all paths now.
fn add_path(stage: &mut Stage<'_>, bird: &Bird) -> Result<()> {
    bird.edit("import all;", "import all; add paths rx;")?;
    stage.next_hops(bird, "198.51.100.0/24", &[FRR, GOBGP])?;
    stage.scene.step("a client that takes several paths gets them");
    Ok(())
}

fn limits_and_edits(stage: &mut Stage<'_>, frr: &Frr, bird: &Bird, gobgp: &Gobgp) -> Result<()> {
    // It has one route there already.
    let more = ["192.0.2.0/26", "192.0.2.64/26", "192.0.2.128/26"];
    for prefix in more {
        gobgp.announce(prefix)?;
    }
    stage.server.wait_for_log("announced more than the 3 IPv4 unicast prefixes", CHANGE)?;
    stage.next_hops(bird, "198.51.100.0/24", &[FRR])?;
    for prefix in more {
        stage.next_hops(bird, prefix, &[])?;
    }
    stage.scene.step("a client that tells too much is gone with all of its routes");

    let since = bird.session_since(server()?)?;
    stage.edit(&spec("{from: 64690, to: 64700}", 3))?;
    stage.next_hops(bird, "203.0.113.0/24", &[])?;
    stage.server.wait_until("FRR to be told why", CHANGE, || {
        let said = frr.last_notification(server()?)?;
        ensure!(said.starts_with("0202"), "FRR's last NOTIFICATION is {said}");
        Ok(())
    })?;
    ensure!(bird.session_since(server()?)? == since, "BIRD's session restarted by an edit of another's entry");
    stage.scene.step("a client outside of its ASNs is refused in words, and the others do not notice");

    stage.edit(&spec(ALLOWED, 100))?;
    stage.established(&[frr])?;
    stage.next_hops(bird, "203.0.113.0/24", &[FRR])?;
    stage.scene.step("and let in again");
    Ok(())
}

#[test]
fn a_client_that_dies_takes_its_routes_along() -> Result<()> {
    scene("a client that dies", |scene| {
        let mut stage = Stage::new(scene, &spec(ALLOWED, 100))?;
        let bird = stage.bird(64602)?;
        let gobgp = stage.gobgp(64603)?;
        stage.established(&[&bird, &gobgp])?;
        gobgp.announce("198.51.100.0/24")?;
        stage.next_hops(&bird, "198.51.100.0/24", &[GOBGP])?;
        drop(gobgp);
        stage.next_hops(&bird, "198.51.100.0/24", &[])?;
        bird.ensure_established(server()?)
    })
}

/// RFC 4456: between clients in one AS, with the originator's identifier and the reflector's cluster on the route.
#[test]
fn a_reflector_says_where_a_route_came_from() -> Result<()> {
    scene("a route reflector", |scene| {
        let spec = format!(
            "  asn: {SERVER_ASN}
  routerID: {SERVER}
  reflector: true
  clusterID: 10.0.0.99
  listen: [\"{SERVER}:179\"]
  clients: [{{name: clients, prefix: 10.77.0.0/24}}]
"
        );
        let mut stage = Stage::new(scene, &spec)?;
        let frr = stage.frr(SERVER_ASN)?;
        let gobgp = stage.gobgp(SERVER_ASN)?;
        stage.established(&[&frr, &gobgp])?;
        gobgp.announce("198.51.100.0/24")?;
        stage.next_hops(&frr, "198.51.100.0/24", &[GOBGP])?;
        let answer = frr.ask("show bgp ipv4 unicast 198.51.100.0/24")?;
        for (member, expected) in
            [("originatorId", GOBGP), ("clusterList/list/0", "10.0.0.99"), ("aspath/string", "Local")]
        {
            let found = answer.pointer(&format!("/paths/0/{member}")).and_then(|value| value.as_str());
            ensure!(found == Some(expected), "{member} is {found:?}, not {expected}: {answer}");
        }
        Ok(())
    })
}

/// BFD with machines that nobody has named: it begins when one has a session, and ends with it.
#[test]
fn clients_are_watched_by_bfd() -> Result<()> {
    scene("a route server that watches its clients by BFD", |scene| {
        let spec = |bfd: &str| {
            format!(
                "  asn: {SERVER_ASN}
  routerID: {SERVER}
  listen: [\"{SERVER}:179\"]
  clients: [{{name: everybody, prefix: 10.77.0.0/24, asnRanges: [{ALLOWED}]{bfd}}}]
"
            )
        };
        let mut stage = Stage::new(scene, &spec(", bfd: {}"))?;
        let usual = Bfd { milliseconds: 300, multiplier: 3, hops: Hops::Single };
        // Far above what BFD needs.
        let config = |asn, router_id| -> Result<RouterConfig> {
            let neighbor = Neighbor { hold_time: 90, ..Neighbor::new(SERVER, SERVER_ASN)?.with_bfd(usual) };
            Ok(RouterConfig { asn, router_id, neighbors: vec![neighbor], routes: &[] })
        };
        let machine = stage.machine("frr", FRR)?;
        let frr = Frr::start(scene, &machine, &config(64601, FRR)?)?;
        let bird = Bird::start(scene, &stage.machine("bird", BIRD)?, &config(64602, BIRD)?)?;
        let up = |router: &dyn Router| -> Result<()> {
            router.ensure_established(server()?)?;
            let state = router.bfd(server()?)?;
            ensure!(state.eq_ignore_ascii_case("up"), "{}'s BFD session is {state}", router.name());
            Ok(())
        };
        for router in [&frr as &dyn Router, &bird] {
            stage.server.wait_until("both sessions", SESSION, || up(router))?;
        }
        scene.step("BGP and BFD are up with both");

        let lost = |client: &str| {
            format!("peer=everybody/{client} error=BFD session down: control detection time expired (1)")
        };
        machine.ip("link set eth0 down")?;
        let line = stage.server.wait_for_log(&lost(FRR), CHANGE)?;
        scene.step(&format!("FRR's cable is noticed: {line}"));
        up(&bird).context("BIRD's sessions were to stay")?;
        machine.ip("link set eth0 up")?;
        stage.server.wait_until("both sessions with FRR again", SESSION, || up(&frr))?;

        stage.edit(&spec(""))?;
        for router in [&frr as &dyn Router, &bird] {
            stage.server.wait_until("the end of BFD", CHANGE, || {
                ensure!(up(router).is_err(), "{}'s BFD session is still up", router.name());
                Ok(())
            })?;
            stage.server.wait_until("BGP without BFD", SESSION, || router.ensure_established(server()?))?;
        }
        Ok(())
    })
}
