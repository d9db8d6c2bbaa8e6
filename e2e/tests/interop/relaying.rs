//! What our route server and the daemons pass on: each daemon is a client of three servers of ours.
//!
//! ```text
//!  source, its own routes ──> plain server   ──> every daemon ──> collector, which takes several paths
//!  source, two paths      ──> server of many ──>      "
//! ```
//!
//! The plain server tells one path of each prefix, the server of many up to four (RFC 7911). The collector is told by each daemon
//! what that has heard from the other two.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use roadstead_e2e::interop::{CHANGE, DAEMONS, Daemon, ROUTES_V4, Table};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::route_server::RouteServer;
use roadstead_e2e::routers::{Bird, Exabgp, Frr, Gobgp, Neighbor, Openbgpd, Path, Role, Router, RouterConfig};
use roadstead_e2e::{Scene, scene, wait_until};
use serde_json::Value;

/// Until everything that starts at the same time has settled.
const SETTLED: Duration = Duration::from_secs(90);

const PLAIN: &str = "10.77.0.1";
const MANY: &str = "10.77.0.2";
const COLLECTOR: &str = "10.77.0.3";
const SOURCE: &str = "10.77.0.21";
const OTHER_SOURCE: &str = "10.77.0.22";

const SOURCE_ASN: u32 = 64620;
const OTHER_SOURCE_ASN: u32 = 64621;

/// The source's alone.
const FOREIGN: &str = "203.0.113.0/26";
/// The other source's, by way of two machines.
const TWICE: &str = "203.0.113.64/26";
const WAYS: [&str; 2] = ["10.77.0.98", "10.77.0.99"];

const fn server_asn(server: &str) -> u32 {
    // The last digit of its address.
    let digits = server.as_bytes();
    64990 + (digits[digits.len() - 1] - b'0') as u32
}

/// What a daemon is told of a server.
type Told = Result<Neighbor, &'static str>;

struct Stage {
    servers: BTreeMap<&'static str, RouteServer>,
    daemons: BTreeMap<Daemon, Box<dyn Router>>,
    source: Bird,
    // Held for its drop.
    _other_source: Bird,
}

#[test]
fn relaying() -> Result<()> {
    scene("interop: relaying", |scene| {
        let stage = Stage::build(scene)?;
        let mut table = Table::new("relaying");
        for daemon in DAEMONS {
            scene.step(&format!("looking at {}", daemon.name()));
            stage.transparency(&mut table, daemon);
            stage.paths(&mut table, daemon);
            stage.marks(&mut table, daemon);
        }
        table.settle()
    })
}

impl Stage {
    fn build(scene: &Scene) -> Result<Self> {
        let fabric = Fabric::new(scene, "switch")?;
        let mut servers = BTreeMap::new();
        for (address, label, clients) in [
            (PLAIN, "plain", "role: RouteServer"),
            (MANY, "many", "maxPaths: 4, severalPaths: true"),
            (COLLECTOR, "collector", "severalPaths: true"),
        ] {
            let machine = machine(scene, &fabric, label, address)?;
            let asn = server_asn(address);
            let spec = format!(
                "  asn: {asn}\n  routerID: {address}\n  listen: [\"{address}:179\"]\n  clients:
  - {{name: all, prefix: 10.77.0.0/24, asnRanges: [{{from: 64500, to: 64700}}], {clients}}}\n"
            );
            servers.insert(address, RouteServer::start(scene, &machine, &spec)?);
        }
        let source = source(scene, &fabric)?;
        let other_source = other_source(scene, &fabric)?;
        let mut daemons = BTreeMap::new();
        for daemon in DAEMONS {
            scene.step(&format!("starting {}", daemon.name()));
            daemons.insert(daemon, start(scene, &fabric, daemon)?);
        }
        Ok(Self { servers, daemons, source, _other_source: other_source })
    }

    fn daemon(&self, daemon: Daemon) -> Result<&dyn Router> {
        let router = self.daemons.get(&daemon).with_context(|| format!("{} does not run", daemon.name()))?;
        Ok(router.as_ref())
    }

    fn server(&self, address: &str) -> Result<&RouteServer> {
        self.servers.get(address).with_context(|| format!("no server {address}"))
    }

    /// RFC 7947 section 2.2: next hop, AS path, MED and communities are the client's, and nothing of the server's is among them.
    /// Section 2.3: a client whose own route is the best is told the next best.
    fn transparency(&self, table: &mut Table, daemon: Daemon) {
        let up = || {
            wait_until(&format!("{} to be a client", daemon.name()), SETTLED, || {
                [PLAIN, MANY, COLLECTOR]
                    .into_iter()
                    .try_for_each(|server| self.daemon(daemon)?.ensure_established(server.parse()?))
            })
        };
        table.note("session with a route server", "they dial", daemon, up().map(|()| "yes".to_owned()));
        let asns = |path: &Path| path.as_path.clone();
        let seen = wait_until("the source's route", CHANGE, || {
            let path = self.daemon(daemon)?.path_from(PLAIN.parse()?, FOREIGN)?;
            let text = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<BTreeSet<_>>();
            ensure!(asns(&path) == "64620" && path.next_hop == SOURCE.parse::<IpAddr>()?, "{path:?}");
            ensure!(path.med == Some(77) && path.communities == text(&["64620:1", "no-export"]), "{path:?}");
            ensure!(path.large_communities == text(&["64620:2:3"]), "{path:?}");
            Ok("yes".to_owned())
        });
        const TRANSPARENT: &str = "AS path, next hop, MED and communities as they came, without the server's";
        table.note(TRANSPARENT, "to them", daemon, seen);
        let seen = wait_until("its route at the source", CHANGE, || {
            let path = self.source.path_from(PLAIN.parse()?, own_route(daemon))?;
            ensure!(asns(&path) == daemon.asn().to_string(), "{path:?}");
            ensure!(path.next_hop == address(daemon).parse::<IpAddr>()?, "{path:?}");
            Ok("yes".to_owned())
        });
        table.note(TRANSPARENT, "from them", daemon, seen);
        let seen = wait_until("the next best", CHANGE, || {
            let path = self.daemon(daemon)?.path_from(PLAIN.parse()?, own_route(daemon))?;
            ensure!(path.next_hop == SOURCE.parse::<IpAddr>()? && asns(&path) == "64620 64620", "{path:?}");
            Ok("yes".to_owned())
        });
        table.note("no path is hidden: whose own route is the best is told the next best", "to them", daemon, seen);
    }

    fn paths(&self, table: &mut Table, daemon: Daemon) {
        const FEATURE: &str = "two paths to one prefix (Add-Path)";
        let seen = wait_until("both paths", CHANGE, || {
            let many: IpAddr = MANY.parse()?;
            let paths = self.daemon(daemon)?.paths(TWICE)?;
            let paths: Vec<_> = paths.iter().filter(|path| path.from == many).collect();
            let next_hops: BTreeSet<String> = paths.iter().map(|path| path.next_hop.to_string()).collect();
            ensure!(paths.len() == 2 && next_hops == WAYS.map(str::to_owned).into(), "{paths:?}");
            Ok("yes".to_owned())
        });
        table.note(FEATURE, "to them", daemon, seen);
        let seen = wait_until("both paths at the collector", CHANGE, || {
            let paths = self.server(COLLECTOR)?.paths(TWICE)?;
            let from = format!("all/{}", address(daemon));
            // What has come to it by way of another daemon does not count, and ExaBGP says what is its own.
            let as_path = match daemon {
                Daemon::Exabgp => daemon.asn().to_string(),
                _ => format!("{} {OTHER_SOURCE_ASN}", daemon.asn()),
            };
            let is = |path: &Value, name: &str, expected: &str| {
                path.pointer(&format!("/route/{name}")).and_then(Value::as_str) == Some(expected)
            };
            let counts = |path: &&Value| is(path, "peer", &from) && is(path, "asPath", &as_path);
            let count = paths.iter().filter(counts).count();
            ensure!(count == 2, "{count} of {paths:?}");
            Ok("yes".to_owned())
        });
        table.note(FEATURE, "from them", daemon, seen);
    }

    /// RFC 9234 on routes that are passed on: the plain server says that it is one.
    fn marks(&self, table: &mut Table, daemon: Daemon) {
        let seen = match role(daemon, Neighbor::behind("none", 1)) {
            Err(reason) => Ok(format!("not supported: {reason}")),
            Ok(_) => wait_until("the server's mark", CHANGE, || {
                let path = self.daemon(daemon)?.path_from(PLAIN.parse()?, FOREIGN)?;
                ensure!(path.otc == Some(server_asn(PLAIN)), "{path:?}");
                Ok("yes".to_owned())
            }),
        };
        table.note("another client's route is marked with the server's ASN (OTC)", "to them", daemon, seen);
    }
}

fn machine(scene: &Scene, fabric: &Fabric, label: &str, address: &str) -> Result<Namespace> {
    fabric.machine(scene, label, &[&format!("{address}/24")])
}

fn address(daemon: Daemon) -> String {
    format!("10.77.0.{}", 10 + daemon.number())
}

/// The daemon's, and the source's by a longer path.
fn own_route(daemon: Daemon) -> &'static str {
    ROUTES_V4[usize::from(daemon.number()) - 1]
}

fn server(address: &str, own: &str) -> Result<Neighbor> {
    let neighbor = Neighbor::new(address, server_asn(address))?;
    Ok(Neighbor { local_address: Some(own.parse()?), route_server: true, ..neighbor })
}

fn role(daemon: Daemon, neighbor: Neighbor) -> Told {
    match daemon {
        Daemon::Gobgp | Daemon::Exabgp => Err("knows no roles"),
        Daemon::Frr | Daemon::Bird | Daemon::Openbgpd => {
            Ok(Neighbor { role: Some(Role::RouteServerClient), ..neighbor })
        }
    }
}

/// Tells what nobody else has, and of what the daemons have another path, which is longer.
fn source(scene: &Scene, fabric: &Fabric) -> Result<Bird> {
    const ROUTES: [&str; 6] = [FOREIGN, ROUTES_V4[0], ROUTES_V4[1], ROUTES_V4[2], ROUTES_V4[3], ROUTES_V4[4]];
    let machine = machine(scene, fabric, "source", SOURCE)?;
    let config =
        RouterConfig { asn: SOURCE_ASN, router_id: SOURCE, neighbors: vec![server(PLAIN, SOURCE)?], routes: &ROUTES };
    let bird = Bird::start(scene, &machine, &config)?;
    bird.edit(
        "export where source = RTS_STATIC;",
        &format!(
            "export filter {{
                if source != RTS_STATIC then reject;
                bgp_med = 77;
                bgp_community.add((64620, 1)); bgp_community.add((65535, 65281));
                bgp_large_community.add((64620, 2, 3));
                if net ~ [198.51.100.0/24+] then bgp_path.prepend({SOURCE_ASN});
                accept;
            }};"
        ),
    )?;
    Ok(bird)
}

/// Tells one prefix by two ways.
fn other_source(scene: &Scene, fabric: &Fabric) -> Result<Bird> {
    let machine = machine(scene, fabric, "other-source", OTHER_SOURCE)?;
    let neighbor = Neighbor { add_path: true, ..server(MANY, OTHER_SOURCE)? };
    let config =
        RouterConfig { asn: OTHER_SOURCE_ASN, router_id: OTHER_SOURCE, neighbors: vec![neighbor], routes: &[] };
    let bird = Bird::start(scene, &machine, &config)?;
    let statics = format!(
        "protocol static second {{ ipv4 {{ preference 90; }}; route {TWICE} via {}; }}
         protocol static static_ipv4 {{ ipv4; route {TWICE} via {};",
        WAYS[0], WAYS[1]
    );
    bird.edit("protocol static static_ipv4 { ipv4;", &statics)?;
    bird.edit("export none;", "export where source = RTS_STATIC; next hop keep;")?;
    Ok(bird)
}

fn start(scene: &Scene, fabric: &Fabric, daemon: Daemon) -> Result<Box<dyn Router>> {
    let own = address(daemon);
    let machine = machine(scene, fabric, daemon.name(), &own)?;
    let plain = server(PLAIN, &own)?;
    let neighbors = vec![
        role(daemon, plain.clone()).unwrap_or(plain),
        Neighbor { add_path: true, ..server(MANY, &own)? },
        Neighbor { add_path: true, told_all: true, ..server(COLLECTOR, &own)? },
    ];
    let (router_id, routes): (_, &[&str]) = match daemon {
        Daemon::Frr => ("10.77.0.11", &[ROUTES_V4[0]]),
        Daemon::Bird => ("10.77.0.12", &[ROUTES_V4[1]]),
        Daemon::Gobgp => ("10.77.0.13", &[ROUTES_V4[2]]),
        Daemon::Openbgpd => ("10.77.0.14", &[ROUTES_V4[3]]),
        Daemon::Exabgp => ("10.77.0.15", &[ROUTES_V4[4]]),
    };
    let config = RouterConfig { asn: daemon.asn(), router_id, neighbors, routes };
    Ok(match daemon {
        Daemon::Frr => Box::new(Frr::start(scene, &machine, &config)?),
        Daemon::Bird => Box::new(Bird::start(scene, &machine, &config)?),
        Daemon::Gobgp => Box::new(Gobgp::start(scene, &machine, &config)?),
        Daemon::Openbgpd => Box::new(Openbgpd::start(scene, &machine, &config)?),
        Daemon::Exabgp => {
            // It passes nothing on, and so says what it is told to say.
            let exabgp = Exabgp::start(scene, &machine, &config)?;
            for (index, way) in WAYS.into_iter().enumerate() {
                let path = format!("{TWICE} next-hop {way} path-information 0.0.0.{}", index + 1);
                exabgp.announce(COLLECTOR.parse()?, &path)?;
            }
            Box::new(exabgp)
        }
    })
}
