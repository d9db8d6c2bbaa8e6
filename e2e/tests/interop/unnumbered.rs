//! Links without addresses: the session, the next hops and everything else between us and each daemon is link-local.
//!
//! Each daemon has a link of its own to our node. Of the five FRR alone sends router advertisements for the sake of BGP, by which we
//! know who is there; beside the others something else sends them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::interop::{
    CHANGE, DAEMONS, Daemon, NODE, NODE_NAME, ROUTES_V4, ROUTES_V6, Table, V4_PREFIXES, V6_PREFIXES, services,
};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::routers::{Bird, Frr, Gobgp, Neighbor, Openbgpd, Router, RouterConfig};
use roadstead_e2e::unnumbered::{NODE_ASN, advertise, peer, set_link_local};
use roadstead_e2e::{Process, Scene, scene, wait_until};
use serde_json::Value;

/// Link-local addresses become usable after a second or two, an advertisement may take ten, and GoBGP dials every five.
const SETTLED: Duration = Duration::from_secs(90);

const OURS: &str = "fe80::2";
const THEIRS: &str = "fe80::1";

const ROUTES: [&str; 2] = [ROUTES_V4[0], ROUTES_V6[0]];

#[test]
fn unnumbered() -> Result<()> {
    scene("interop: unnumbered", |scene| {
        let stage = Stage::build(scene)?;
        let mut table = Table::new("unnumbered");
        for daemon in DAEMONS {
            scene.step(&format!("looking at {}", daemon.name()));
            stage.look(&mut table, daemon);
        }
        table.settle()
    })
}

struct Stage<'a> {
    scene: &'a Scene,
    daemons: BTreeMap<Daemon, Box<dyn Router>>,
    // Held for their drop.
    _ours: Process,
    _advertisers: Vec<Process>,
}

/// Why a daemon has no such session at all, or no IPv4 over it.
fn lacks(daemon: Daemon) -> (Option<&'static str>, Option<&'static str>) {
    match daemon {
        Daemon::Frr | Daemon::Bird | Daemon::Gobgp => (None, None),
        Daemon::Openbgpd => (None, Some("knows nothing of RFC 8950")),
        Daemon::Exabgp => {
            const NO_LINK: Option<&str> = Some("its configuration has no place for the link of an address");
            (NO_LINK, NO_LINK)
        }
    }
}

impl<'a> Stage<'a> {
    fn build(scene: &'a Scene) -> Result<Self> {
        let node = Namespace::new(scene, "node")?;
        let manifests = Manifests::with(scene, "manifests", &[("node.yaml", NODE), ("services.yaml", &services(""))])?;
        let mut daemons = BTreeMap::new();
        let mut advertisers = Vec::new();
        for daemon in DAEMONS.into_iter().filter(|daemon| lacks(*daemon).0.is_none()) {
            scene.step(&format!("starting {}", daemon.name()));
            let interface = interface(daemon);
            let fabric = Fabric::new(scene, &format!("switch{}", daemon.number()))?;
            let machine = fabric.machine(scene, daemon.name(), &[])?;
            fabric.plug(&node, &interface, &[])?;
            set_link_local(&machine, "eth0", THEIRS)?;
            set_link_local(&node, &interface, OURS)?;
            manifests.write(&format!("{interface}.yaml"), &peer(&interface, "listen"))?;
            if daemon != Daemon::Frr {
                advertisers.push(advertise(scene, &machine)?);
            }
            daemons.insert(daemon, start(scene, &machine, daemon)?);
        }
        let ours = product::run(scene, Some(&node), &manifests, NODE_NAME)?;
        Ok(Self { scene, daemons, _ours: ours, _advertisers: advertisers })
    }

    fn look(&self, table: &mut Table, daemon: Daemon) {
        let (no_session, no_ipv4) = lacks(daemon);
        for (feature, reason, theirs, ours) in [
            ("IPv4 routes by link-local next hops", no_ipv4, ROUTES[0], V4_PREFIXES[0]),
            ("IPv6 routes by link-local next hops", no_session, ROUTES[1], V6_PREFIXES[0]),
        ] {
            let seen = |look: &dyn Fn() -> Result<()>| match reason {
                Some(reason) => Ok(format!("not supported: {reason}")),
                None => wait_until(feature, SETTLED, look).map(|()| "yes".to_owned()),
            };
            table.note(feature, "to them", daemon, seen(&|| self.ensure_told(daemon, ours)));
            table.note(feature, "from them", daemon, seen(&|| self.ensure_learned(daemon, theirs)));
        }
        let still = match no_session {
            Some(reason) => Ok(format!("not supported: {reason}")),
            None => wait_until("the session", CHANGE, || self.ensure_established(daemon)).map(|()| "yes".to_owned()),
        };
        table.note("session, each looking for the other", "both dial", daemon, still);
    }

    fn ensure_told(&self, daemon: Daemon, prefix: &str) -> Result<()> {
        let router = self.daemons.get(&daemon).with_context(|| format!("{} does not run", daemon.name()))?;
        router.ensure_next_hops(prefix, &[OURS])
    }

    fn ensure_learned(&self, daemon: Daemon, prefix: &str) -> Result<()> {
        let name = format!("behind-{}", interface(daemon));
        let routes = product::look_json(self.scene, NODE_NAME, &["routes", prefix, "--peer", &name])?;
        let next_hops = routes.as_array().context("no list of routes")?.iter().map(|route| route.get("nextHop"));
        let next_hops: BTreeSet<_> = next_hops.map(|next_hop| next_hop.and_then(Value::as_str)).collect();
        ensure!(next_hops == [Some(THEIRS)].into(), "{routes}");
        Ok(())
    }

    fn ensure_established(&self, daemon: Daemon) -> Result<()> {
        let status = product::look_json(self.scene, NODE_NAME, &["status"])?;
        let name = format!("behind-{}", interface(daemon));
        let sessions = status.pointer("/sessions").and_then(Value::as_array).context("no sessions")?;
        let of_name = |session: &&Value| session.get("peer").and_then(Value::as_str) == Some(&name);
        let session = sessions.iter().find(of_name).with_context(|| format!("no session {name} in {status}"))?;
        ensure!(session.get("state").and_then(Value::as_str) == Some("Established"), "{session}");
        Ok(())
    }
}

/// Of our node.
fn interface(daemon: Daemon) -> String {
    format!("eth{}", daemon.number())
}

fn start(scene: &Scene, machine: &Namespace, daemon: Daemon) -> Result<Box<dyn Router>> {
    let neighbor = match daemon {
        Daemon::Frr | Daemon::Gobgp => Neighbor::behind("eth0", NODE_ASN),
        _ => Neighbor { interface: Some("eth0"), ..Neighbor::new(OURS, NODE_ASN)?.with_extended_next_hop() },
    };
    let router_id = match daemon {
        Daemon::Frr => "10.99.0.1",
        Daemon::Bird => "10.99.0.2",
        Daemon::Gobgp => "10.99.0.3",
        Daemon::Openbgpd => "10.99.0.4",
        Daemon::Exabgp => "10.99.0.5",
    };
    let config = RouterConfig { asn: daemon.asn(), router_id, neighbors: vec![neighbor], routes: &ROUTES };
    Ok(match daemon {
        Daemon::Frr => Box::new(Frr::start_with_kernel(scene, machine, &config)?),
        Daemon::Bird => Box::new(Bird::start(scene, machine, &config)?),
        Daemon::Gobgp => {
            // It looks once, when it starts, for the one neighbour that its kernel knows on the link.
            machine.run("busybox", &format!("ping -6 -c 1 -W 5 {OURS}%eth0"))?;
            Box::new(Gobgp::start(scene, machine, &config)?)
        }
        Daemon::Openbgpd => Box::new(Openbgpd::start(scene, machine, &config)?),
        Daemon::Exabgp => anyhow::bail!("{} does not run here", daemon.name()),
    })
}
