//! What becomes of routes on the way through: marks of RFC 9234 made and obeyed, the server's own next hop, and the choice by
//! accumulated metrics (RFC 7311).

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::routers::{Bird, Neighbor, Role, Router, RouterConfig};
use roadstead_e2e::scene;

use crate::{BIRD, CHANGE, FRR, GOBGP, SERVER, SERVER_ASN, Stage, client, server, with_clients};

const PREFIX: &str = "203.0.113.0/24";
const MARKED: &str = "198.51.100.0/24";

/// RFC 9234 section 5 with clients that know roles (FRR) and one that does not say so (BIRD): what is told to a client is marked, and
/// what a client tells with a mark has come from a provider or peer of its, and is told to nobody.
#[test]
fn a_mark_goes_down_and_never_across() -> Result<()> {
    scene("marks on what is passed on", |scene| {
        let clients = [client("frr", FRR, ", role: RouteServer"), client("bird", BIRD, ", role: RouteServer")];
        let mut stage = Stage::new(scene, &with_clients(&clients, ""))?;
        let of = |asn, router_id, neighbor| RouterConfig { asn, router_id, neighbors: vec![neighbor], routes: &[] };
        let neighbor = || Neighbor::new(SERVER, SERVER_ASN);
        let knowing = Neighbor { role: Some(Role::RouteServerClient), ..neighbor()? };
        let frr = roadstead_e2e::routers::Frr::start(scene, &stage.machine("frr", FRR)?, &of(64601, FRR, knowing))?;
        let routes = RouterConfig { routes: &[PREFIX, MARKED], ..of(64602, BIRD, neighbor()?) };
        let bird = Bird::start(scene, &stage.machine("bird", BIRD)?, &routes)?;
        const LEAKING: &str = "export filter {
            if source != RTS_STATIC then reject;
            if net = 198.51.100.0/24 then bgp_otc = 64666;
            accept;
        };";
        bird.edit("export where source = RTS_STATIC;", LEAKING)?;
        stage.established(&[&frr, &bird])?;
        stage.next_hops(&frr, PREFIX, &[BIRD])?;
        let path = frr.path_from(server()?, PREFIX)?;
        ensure!(path.otc == Some(SERVER_ASN), "FRR has {path:?}");
        scene.step("what FRR is told is marked");

        let name = format!("bird/{BIRD}");
        stage.server.wait_until("the refusal of the leak", CHANGE, |server| {
            let status = server.look(&["status", &name])?;
            let refusal = status.lines().find(|line| line.contains(MARKED)).unwrap_or_default();
            ensure!(refusal.contains("route leak"), "{status}");
            Ok(())
        })?;
        ensure!(frr.paths(MARKED)?.is_empty(), "FRR was told a leaked route");
        scene.step("what BIRD leaks is refused, in words");

        // Its mark is all that was wrong with it.
        bird.edit(LEAKING, "export where source = RTS_STATIC;")?;
        stage.established(&[&bird])?;
        stage.next_hops(&frr, MARKED, &[BIRD])
    })
}

/// A reflector in the way of packets: to whom it says so, and only to them, it gives itself as next hop.
#[test]
fn a_reflector_gives_itself_as_next_hop() -> Result<()> {
    scene("a reflector in the way of packets", |scene| {
        let entry = |name: &str, address: &str, more: &str| format!("name: {name}, prefix: {address}/32{more}");
        let spec = |of_frr: &str| {
            let clients = [entry("frr", FRR, of_frr), entry("bird", BIRD, ""), entry("gobgp", GOBGP, "")];
            with_clients(&clients, "  reflector: true\n")
        };
        let mut stage = Stage::new(scene, &spec(", nextHopSelf: true"))?;
        let frr = stage.frr(SERVER_ASN)?;
        let bird = stage.bird(SERVER_ASN)?;
        let gobgp = stage.gobgp(SERVER_ASN)?;
        stage.established(&[&frr, &bird, &gobgp])?;
        gobgp.announce(PREFIX)?;
        stage.next_hops(&frr, PREFIX, &[SERVER])?;
        stage.next_hops(&bird, PREFIX, &[GOBGP])?;
        let answer = frr.ask(&format!("show bgp ipv4 unicast {PREFIX}"))?;
        let originator = answer.pointer("/paths/0/originatorId").and_then(|value| value.as_str());
        ensure!(originator == Some(GOBGP), "the originator is {originator:?}: {answer}");
        scene.step("FRR is told the reflector's next hop, BIRD the originator's");

        stage.server.edit(&spec(""))?;
        stage.established(&[&frr])?;
        stage.next_hops(&frr, PREFIX, &[GOBGP])?;
        bird.ensure_next_hops(PREFIX, &[GOBGP])
    })
}

/// RFC 7311: of two clients' routes the one with the lower metric is told, although the other's router ID is lower; and as nobody
/// changes its next hop, the metric is told as it came.
#[test]
fn a_reflector_chooses_by_accumulated_metrics() -> Result<()> {
    scene("a reflector and accumulated metrics", |scene| {
        const NEAR: &str = "10.77.0.14";
        let spec = "  asn: 64999\n  routerID: 10.77.0.1\n  reflector: true\n  listen: [\"10.77.0.1:179\"]
  clients: [{name: all, prefix: 10.77.0.0/24}]\n";
        let mut stage = Stage::new(scene, spec)?;
        let frr = stage.frr(SERVER_ASN)?;
        let source = |label, address: &'static str, metric| -> Result<Bird> {
            let neighbors = vec![Neighbor::new(SERVER, SERVER_ASN)?];
            let config = RouterConfig { asn: SERVER_ASN, router_id: address, neighbors, routes: &[PREFIX] };
            let bird = Bird::start(scene, &stage.machine(label, address)?, &config)?;
            bird.originate_aigp(metric)?;
            Ok(bird)
        };
        let far = source("far", BIRD, 20)?;
        let near = source("near", NEAR, 10)?;
        let listener = stage.gobgp(SERVER_ASN)?;
        stage.established(&[&frr, &far, &near, &listener])?;
        stage.next_hops(&frr, PREFIX, &[NEAR])?;
        stage.next_hops(&listener, PREFIX, &[NEAR])?;
        stage.next_hops(&far, PREFIX, &[NEAR])?;
        let metric = far.path_from(server()?, PREFIX)?.aigp;
        ensure!(metric == Some(10), "BIRD is told the metric {metric:?}");
        let explained = stage.server.look(&["explain", PREFIX])?;
        let worse = explained.lines().find(|line| line.contains(&format!("by {BIRD} "))).context("no such path")?;
        ensure!(worse.ends_with("the best has lower accumulated metric"), "{explained}");
        scene.step("the lower metric is told, as it came");

        near.shut_down(server()?, "no more")?;
        stage.next_hops(&frr, PREFIX, &[BIRD])?;
        ensure!(frr.path_from(server()?, PREFIX)?.next_hop == BIRD.parse::<IpAddr>()?, "another next hop");
        Ok(())
    })
}
