//! `roadstead route-server` between routers that other people wrote: what each of them is told of the others.

mod policy;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::product::GRACE;
use roadstead_e2e::route_server::RouteServer;
use roadstead_e2e::routers::{
    Bfd, Bird, Connect, Frr, Gobgp, GracefulRestart, Hops, Neighbor, Path, Router, RouterConfig,
};
use roadstead_e2e::{Scene, scene};

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
    server: RouteServer,
}

impl<'a> Stage<'a> {
    fn new(scene: &'a Scene, spec: &str) -> Result<Self> {
        let fabric = Fabric::new(scene, "switch")?;
        let machine = fabric.machine(scene, "server", &["10.77.0.1/24", "2001:db8:77::1/64"])?;
        let server = RouteServer::start(scene, &machine, spec)?;
        Ok(Self { scene, fabric, server })
    }

    /// Ends the server as an upgrade does, runs `meanwhile`, and starts it again.
    fn restart(self, meanwhile: impl FnOnce() -> Result<()>) -> Result<Self> {
        let server = self.server.restart(self.scene, meanwhile)?;
        Ok(Self { server, ..self })
    }

    fn ensure_listening(&self, address: &str, expected: Listening) -> Result<()> {
        let found = self.server.listens(address)?;
        ensure!(found == (expected == Listening::Yes), "{address} is not as expected ({expected:?})");
        Ok(())
    }

    fn machine(&self, label: &str, address: &str) -> Result<Namespace> {
        self.fabric.machine(self.scene, label, &[&format!("{address}/24")])
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
            self.server.wait_until(&what, SESSION, |_| router.ensure_established(server()?))?;
        }
        Ok(())
    }

    /// Waits until a router's paths to a prefix are those that `expected` says, by next hop.
    fn next_hops(&mut self, router: &dyn Router, prefix: &str, expected: &[&str]) -> Result<()> {
        let what = format!("{} and its next hops at {}", prefix, router.name());
        self.server.wait_until(&what, CHANGE, |_| router.ensure_next_hops(prefix, expected))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listening {
    Yes,
    No,
}

/// A server that listens for these clients.
fn with_clients(clients: &[String], more: &str) -> String {
    let head = format!("  asn: {SERVER_ASN}\n  routerID: {SERVER}\n  listen: [\"{SERVER}:179\"]\n{more}  clients:\n");
    clients.iter().fold(head, |spec, client| format!("{spec}  - {{{client}}}\n"))
}

/// One machine, with more to its entry.
fn client(name: &str, address: &str, more: &str) -> String {
    let length = if address.contains(':') { 128 } else { 32 };
    format!("name: {name}, prefix: \"{address}/{length}\", asnRanges: [{ALLOWED}]{more}")
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

        let status = stage.server.process.terminate(GRACE)?;
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
        aigp: None,
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
    stage.server.process.wait_for_log("announced more than the 3 IPv4 unicast prefixes", CHANGE)?;
    stage.next_hops(bird, "198.51.100.0/24", &[FRR])?;
    for prefix in more {
        stage.next_hops(bird, prefix, &[])?;
    }
    stage.scene.step("a client that tells too much is gone with all of its routes");

    let since = bird.session_since(server()?)?;
    stage.server.edit(&spec("{from: 64690, to: 64700}", 3))?;
    stage.next_hops(bird, "203.0.113.0/24", &[])?;
    stage.server.wait_until("FRR to be told why", CHANGE, |_| {
        let said = frr.last_notification(server()?)?;
        ensure!(said.starts_with("0202"), "FRR's last NOTIFICATION is {said}");
        Ok(())
    })?;
    ensure!(bird.session_since(server()?)? == since, "BIRD's session restarted by an edit of another's entry");
    stage.scene.step("a client outside of its ASNs is refused in words, and the others do not notice");

    stage.server.edit(&spec(ALLOWED, 100))?;
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
            stage.server.wait_until("both sessions", SESSION, |_| up(router))?;
        }
        scene.step("BGP and BFD are up with both");

        let lost = |client: &str| {
            format!("peer=everybody/{client} error=BFD session down: control detection time expired (1)")
        };
        machine.ip("link set eth0 down")?;
        let line = stage.server.process.wait_for_log(&lost(FRR), CHANGE)?;
        scene.step(&format!("FRR's cable is noticed: {line}"));
        up(&bird).context("BIRD's sessions were to stay")?;
        machine.ip("link set eth0 up")?;
        stage.server.wait_until("both sessions with FRR again", SESSION, |_| up(&frr))?;

        stage.server.edit(&spec(""))?;
        for router in [&frr as &dyn Router, &bird] {
            stage.server.wait_until("the end of BFD", CHANGE, |_| {
                ensure!(up(router).is_err(), "{}'s BFD session is still up", router.name());
                Ok(())
            })?;
            stage.server.wait_until("BGP without BFD", SESSION, |_| router.ensure_established(server()?))?;
        }
        Ok(())
    })
}

/// A password that changes while the server runs, a client that waits to be called, and one with GTSM; and how an operator sees them.
#[test]
fn each_client_is_met_as_its_entry_says() -> Result<()> {
    scene("a password, a dialled client and GTSM", |scene| {
        let clients = [
            client("frr", FRR, ", passwordFile: secret"),
            client("bird", BIRD, ", ttlSecurity: {hops: 1}"),
            client("gobgp", GOBGP, ", passive: false"),
        ];
        let mut stage = Stage::new(scene, &with_clients(&clients, ""))?;
        stage.server.process.wait_for_log("cannot read its password file", CHANGE)?;
        stage.server.manifests.write("secret", "first\n")?;
        let neighbor = || Neighbor::new(SERVER, SERVER_ASN);
        let of = |asn, router_id, neighbor| RouterConfig { asn, router_id, neighbors: vec![neighbor], routes: &[] };
        let signed = of(64601, FRR, neighbor()?.with_password("first"));
        let frr = Frr::start(scene, &stage.machine("frr", FRR)?, &signed)?;
        frr.configure(&["router bgp 64601", "no bgp network import-check"])?;
        let near = of(64602, BIRD, Neighbor { ttl_security: true, ..neighbor()? });
        let bird = Bird::start(scene, &stage.machine("bird", BIRD)?, &near)?;
        let waiting = of(64603, GOBGP, Neighbor { connect: Connect::Passive, ..neighbor()? });
        let gobgp = Gobgp::start(scene, &stage.machine("gobgp", GOBGP)?, &waiting)?;
        stage.established(&[&frr, &bird, &gobgp])?;
        frr.announce(64601, "203.0.113.0/24")?;
        stage.next_hops(&bird, "203.0.113.0/24", &[FRR])?;
        stage.next_hops(&gobgp, "203.0.113.0/24", &[FRR])?;
        scene.step("signed, near and dialled sessions are up");

        let sessions = stage.server.page("/sessions")?;
        for (name, address) in
            [(format!("frr/{FRR}"), FRR), (format!("bird/{BIRD}"), BIRD), ("gobgp".to_owned(), GOBGP)]
        {
            let line = sessions.lines().find(|line| line.starts_with(&format!("{name} ")));
            let fits = line.is_some_and(|line| line.contains(address) && line.contains(" Established "));
            ensure!(fits, "{name} is not established in {sessions}");
            let status = stage.server.look(&["status", &name])?;
            ensure!(status.contains("Established"), "{status}");
        }
        let metrics = stage.server.page("/metrics")?;
        let wanted = format!("roadstead_bgp_session_up{{peer=\"frr/{FRR}\"}} 1");
        ensure!(metrics.contains(&wanted) && !metrics.contains("roadstead_speaker_"), "{metrics}");
        let explained = stage.server.look(&["explain", "203.0.113.0/24"])?;
        ensure!(explained.contains(&format!("frr/{FRR}")), "{explained}");
        scene.step("an operator sees them");

        let since = bird.session_since(server()?)?;
        stage.server.manifests.write("secret", "second\n")?;
        stage.next_hops(&bird, "203.0.113.0/24", &[])?;
        frr.configure(&["router bgp 64601", &format!("neighbor {SERVER} password second")])?;
        stage.established(&[&frr])?;
        stage.next_hops(&bird, "203.0.113.0/24", &[FRR])?;
        ensure!(bird.session_since(server()?)? == since, "BIRD's session restarted with FRR's password");
        scene.step("another password without a restart of the server");

        let elsewhere = |address: &str| with_clients(&clients, "").replace(&format!("{SERVER}:179"), address);
        stage.server.edit(&elsewhere("10.77.0.1:1179"))?;
        stage.server.wait_until("the other port", CHANGE, |server| {
            ensure!(server.listens("10.77.0.1:1179")?, "nothing listens there");
            Ok(())
        })?;
        stage.ensure_listening("10.77.0.1:179", Listening::No)?;
        ensure!(bird.session_since(server()?)? == since, "BIRD's session ended with the address that it came by");
        stage.server.edit(&elsewhere("0.0.0.0:179"))?;
        stage.server.wait_until("every address", CHANGE, |server| {
            ensure!(server.listens("0.0.0.0:179")?, "nothing listens there");
            Ok(())
        })?;
        stage.ensure_listening("10.77.0.1:1179", Listening::No)?;
        scene.step("listening follows the manifest");
        Ok(())
    })
}

/// Sessions over IPv6, and next hops of clients as they came (RFC 7947 section 2.2.1).
#[test]
fn clients_over_ipv6() -> Result<()> {
    scene("clients over IPv6", |scene| {
        const SERVER: &str = "2001:db8:77::1";
        const FRR: &str = "2001:db8:77::11";
        const BIRD: &str = "2001:db8:77::12";
        let clients = [client("everybody", "2001:db8:77::", "").replace("/128", "/64")];
        let spec = with_clients(&clients, "").replace("10.77.0.1:179", "[2001:db8:77::1]:179");
        let mut stage = Stage::new(scene, &spec)?;
        let of = |asn, router_id| -> Result<RouterConfig> {
            Ok(RouterConfig { asn, router_id, neighbors: vec![Neighbor::new(SERVER, SERVER_ASN)?], routes: &[] })
        };
        let machine = |label, address: &str| stage.fabric.machine(scene, label, &[&format!("{address}/64")]);
        let frr = Frr::start(scene, &machine("frr", FRR)?, &of(64601, "10.77.0.11")?)?;
        frr.configure(&["router bgp 64601", "no bgp network import-check"])?;
        let bird = Bird::start(scene, &machine("bird", BIRD)?, &of(64602, "10.77.0.12")?)?;
        for router in [&frr as &dyn Router, &bird] {
            stage.server.wait_until("a session over IPv6", SESSION, |_| router.ensure_established(SERVER.parse()?))?;
        }
        frr.announce(64601, "2001:db8:beef::/48")?;
        stage.next_hops(&bird, "2001:db8:beef::/48", &[FRR])?;
        let path = bird.path_from(SERVER.parse()?, "2001:db8:beef::/48")?;
        ensure!(path.as_path == "64601", "{path:?}");
        Ok(())
    })
}

/// RFC 7911 from BIRD and to FRR, which takes all there are; RFC 9234 between the server and FRR; and a limit that costs no session.
#[test]
fn paths_roles_and_a_limit_that_drops() -> Result<()> {
    scene("several paths, roles, and a limit that drops", |scene| {
        let clients = [
            client("frr", FRR, ", role: RouteServer, maxPaths: 4"),
            client("bird", BIRD, ", severalPaths: true"),
            client("gobgp", GOBGP, ", maxPrefixes: 2, onExcess: Drop"),
        ];
        let mut stage = Stage::new(scene, &with_clients(&clients, ""))?;
        let frr = stage.frr(64601)?;
        frr.configure(&["router bgp 64601", &format!("neighbor {SERVER} local-role rs-client")])?;
        let bird = stage.bird(64602)?;
        let gobgp = stage.gobgp(64603)?;
        bird.edit(
            "protocol static static_ipv4 { ipv4;",
            "protocol static second { ipv4 { preference 90; }; route 198.51.100.0/24 via 10.77.0.98; }
             protocol static static_ipv4 { ipv4; route 198.51.100.0/24 via 10.77.0.99;",
        )?;
        bird.edit("export none;", "export where source = RTS_STATIC; next hop keep; add paths tx;")?;
        stage.established(&[&frr, &bird, &gobgp])?;
        stage.next_hops(&frr, "198.51.100.0/24", &["10.77.0.98", "10.77.0.99"])?;
        // GoBGP takes one.
        let one = gobgp.paths("198.51.100.0/24")?;
        ensure!(one.len() == 1, "GoBGP has {one:?}");
        scene.step("both paths of BIRD's come to FRR");

        let marks: Vec<_> = frr.paths("198.51.100.0/24")?.iter().map(|path| path.otc).collect();
        ensure!(marks == [Some(SERVER_ASN), Some(SERVER_ASN)], "FRR has the marks {marks:?}");
        frr.configure(&["router bgp 64601", &format!("neighbor {SERVER} local-role customer")])?;
        stage.server.wait_until("FRR to be told why", SESSION, |_| {
            let said = frr.last_notification(server()?)?;
            ensure!(said.starts_with("020B"), "FRR's last NOTIFICATION is {said}");
            Ok(())
        })?;
        frr.configure(&["router bgp 64601", &format!("neighbor {SERVER} local-role rs-client")])?;
        stage.established(&[&frr])?;
        scene.step("a client in another role is refused in words");

        for prefix in ["192.0.2.0/26", "192.0.2.64/26", "192.0.2.128/26"] {
            gobgp.announce(prefix)?;
        }
        stage.next_hops(&frr, "192.0.2.64/26", &[GOBGP])?;
        stage.server.wait_until("a refusal beyond the limit", CHANGE, |server| {
            let metrics = server.page("/metrics")?;
            let wanted = format!("roadstead_bgp_prefixes_accepted{{peer=\"gobgp/{GOBGP}\"}} 2");
            let refused = format!("roadstead_bgp_prefixes_refused{{peer=\"gobgp/{GOBGP}\"}} 1");
            ensure!(metrics.contains(&wanted) && metrics.contains(&refused), "{metrics}");
            Ok(())
        })?;
        gobgp.ensure_established(server()?)?;
        ensure!(frr.paths("192.0.2.128/26")?.is_empty(), "the prefix beyond the limit was told");
        Ok(())
    })
}

/// RFC 4724: clients keep what they were told while the server restarts, and it tells nothing before they have told theirs.
#[test]
fn a_restart_costs_no_route() -> Result<()> {
    scene("a route server that restarts", |scene| {
        let restart = "  gracefulRestart: {restartTimeSeconds: 120, establishSeconds: 10, deferralSeconds: 90}\n";
        // FRR dials once and then waits to be dialled by whoever restarts.
        let clients = [client("bird", BIRD, ""), client("frr", FRR, ", passive: false")];
        let mut stage = Stage::new(scene, &with_clients(&clients, restart))?;
        let restarting = |asn, router_id| -> Result<RouterConfig> {
            let graceful_restart = GracefulRestart::Restarting(120);
            let neighbor = Neighbor { graceful_restart, ..Neighbor::new(SERVER, SERVER_ASN)? };
            Ok(RouterConfig { neighbors: vec![neighbor], ..config(asn, router_id)? })
        };
        let bird = Bird::start(scene, &stage.machine("bird", BIRD)?, &restarting(64602, BIRD)?)?;
        let frr = Frr::start(scene, &stage.machine("frr", FRR)?, &restarting(64601, FRR)?)?;
        stage.established(&[&bird, &frr])?;
        frr.announce(64601, "203.0.113.0/24")?;
        // Not before the first wait is over.
        stage.server.wait_until("the first routes", SESSION, |_| bird.ensure_next_hops("203.0.113.0/24", &[FRR]))?;
        let mut stage = stage.restart(|| {
            for _ in 0..20 {
                bird.ensure_next_hops("203.0.113.0/24", &[FRR])?;
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        })?;
        stage.server.process.wait_for_log("routes are held back until clients are back", CHANGE)?;
        let deadline = std::time::Instant::now() + SESSION;
        while !stage.server.process.log().contains("routes are told from now on") {
            bird.ensure_next_hops("203.0.113.0/24", &[FRR])?;
            ensure!(
                std::time::Instant::now() < deadline,
                "the server keeps its routes to itself: {}",
                stage.server.process.log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        stage.established(&[&bird, &frr])?;
        stage.next_hops(&bird, "203.0.113.0/24", &[FRR])?;
        Ok(())
    })
}

/// RFC 4456 section 6: between clients and others, and nothing between others.
#[test]
fn a_reflector_with_peers_that_are_no_clients() -> Result<()> {
    scene("a reflector and non-clients", |scene| {
        let entry = |name: &str, address: &str, more: &str| format!("name: {name}, prefix: {address}/32{more}");
        let clients = [
            entry("frr", FRR, ", nonClient: true"),
            entry("bird", BIRD, ", nonClient: true"),
            entry("gobgp", GOBGP, ""),
        ];
        let mut stage = Stage::new(scene, &with_clients(&clients, "  reflector: true\n"))?;
        let frr = stage.frr(SERVER_ASN)?;
        let bird = stage.bird(SERVER_ASN)?;
        let gobgp = stage.gobgp(SERVER_ASN)?;
        stage.established(&[&frr, &bird, &gobgp])?;
        frr.announce(SERVER_ASN, "203.0.113.0/24")?;
        gobgp.announce("198.51.100.0/24")?;
        stage.next_hops(&gobgp, "203.0.113.0/24", &[FRR])?;
        stage.next_hops(&frr, "198.51.100.0/24", &[GOBGP])?;
        // After this one, so what was to come before it has come.
        stage.next_hops(&bird, "198.51.100.0/24", &[GOBGP])?;
        bird.ensure_next_hops("203.0.113.0/24", &[])
    })
}
