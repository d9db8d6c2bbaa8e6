//! Graceful restart (RFC 4724) of either side under traffic: a client behind FRR and one behind BIRD talk to an address of
//! a Service through the kernels of both, and no packet may be lost. GoBGP, OpenBGPD (on Linux) and ExaBGP hand nothing to
//! a kernel, so of these the routes are looked at.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use roadstead_e2e::interop::{
    CHANGE, DAEMONS, Daemon, Dialler, Link, ROUTES_V4, ROUTES_V6, Stage, Table, Transport, V4_PREFIXES, V6_PREFIXES,
};
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::routers::{GracefulRestart, Neighbor};
use roadstead_e2e::traffic::Stream;
use roadstead_e2e::{product, scene, wait_until};

use Dialler::We;
use Transport::{V4, V6};

const LINKS: &[Link] = &[
    // One, so that no other session's route stands in for a lost one.
    Link { spec: GRACEFUL, neighbor: graceful, ..Link::new(LINK, V4, We) },
    // Never up; from it those two know an address for the next hops of their IPv6 routes, which they have to be told.
    Link { neighbor: address_alone, ..Link::new("address", V6, We) },
];
const LINK: &str = "restart";

const GRACEFUL: &str = "gracefulRestart: {}, import: {accept: [{prefix: 198.51.100.0/24, le: 32}, {prefix: \"2001:db8:f::/48\", le: 128}]},";

/// Until a session is back: OpenBGPD rests for half a minute after an error, and GoBGP dials every five seconds.
const RECOVERY: Duration = Duration::from_secs(90);
/// How long traffic goes on before something is done to it, while it is out, and after.
const WHILE: Duration = Duration::from_secs(1);

/// Restart time and hold time, and a second: from then on we say that forwarding went on (docs/adr/0006).
const UPTIME: Duration = Duration::from_secs(120 + 9 + 1);

fn up_for_long_enough() -> Result<()> {
    let text = std::fs::read_to_string("/proc/uptime").context("no /proc/uptime")?;
    let seconds: f64 = text.split_whitespace().next().context("/proc/uptime is empty")?.parse().context("no number")?;
    ensure!(seconds > UPTIME.as_secs_f64(), "it has been up for {seconds} s");
    Ok(())
}

fn graceful(_: Daemon, neighbor: Neighbor) -> Result<Neighbor, &'static str> {
    Ok(Neighbor { graceful_restart: GracefulRestart::Restarting(120), ..neighbor })
}

fn address_alone(daemon: Daemon, neighbor: Neighbor) -> Result<Neighbor, &'static str> {
    match daemon {
        Daemon::Gobgp | Daemon::Exabgp => Ok(Neighbor { asn: 64999, ..neighbor }),
        Daemon::Frr | Daemon::Bird | Daemon::Openbgpd => Err("not needed"),
    }
}

#[test]
fn restarts() -> Result<()> {
    scene("interop: restarts", |scene| {
        wait_until("a machine that can say that it has not just booted", UPTIME * 2, up_for_long_enough)?;
        let mut stage = Stage::build(scene, LINKS, "")?;
        let mut table = Table::new("restarts");
        let clients = clients(&stage)?;
        for daemon in DAEMONS {
            settled(&mut stage, daemon)?;
        }
        we_restart(&mut stage, &mut table, &clients, "SIGTERM")?;
        we_restart(&mut stage, &mut table, &clients, "SIGKILL")?;
        they_restart(&mut stage, &mut table, &clients)?;
        we_leave(&mut stage, &mut table, &clients)?;
        table.settle()
    })
}

/// A machine behind each daemon that has a kernel, and the Service's addresses on our node.
fn clients(stage: &Stage<'_>) -> Result<Vec<(Daemon, Namespace)>> {
    for address in addresses() {
        stage.node.ip(&format!("address add {address} dev lo"))?;
    }
    let mut clients = Vec::new();
    for daemon in [Daemon::Frr, Daemon::Bird] {
        let number = daemon.number();
        let fabric = Fabric::new(stage.scene, &format!("lan{number}"))?;
        let router = &stage.machines[&daemon];
        fabric.plug(router, "eth1", &[&format!("10.77.{number}.1/24"), &format!("fd00:77:{number}::1/64")])?;
        router.forward()?;
        let addresses = [format!("10.77.{number}.2/24"), format!("fd00:77:{number}::2/64")];
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let client = fabric.machine(stage.scene, &format!("client{number}"), &addresses)?;
        client.ip(&format!("route add default via 10.77.{number}.1"))?;
        client.ip(&format!("-6 route add default via fd00:77:{number}::1"))?;
        stage.node.ip(&format!("route add 10.77.{number}.0/24 via 10.99.0.{number}"))?;
        stage.node.ip(&format!("-6 route add fd00:77:{number}::/64 via fd00:99::{number}"))?;
        clients.push((daemon, client));
    }
    Ok(clients)
}

/// Of the first Service, without their lengths.
fn addresses() -> impl Iterator<Item = &'static str> {
    [V4_PREFIXES[0], V6_PREFIXES[0]].into_iter().filter_map(|prefix| prefix.split('/').next())
}

fn streams(stage: &Stage<'_>, clients: &[(Daemon, Namespace)]) -> Result<Vec<(Daemon, Stream)>> {
    let mut streams = Vec::new();
    for (daemon, client) in clients {
        for address in addresses() {
            let address: IpAddr = address.parse().context("no address")?;
            streams.push((*daemon, Stream::start(client, &stage.node, address)?));
        }
    }
    std::thread::sleep(WHILE);
    Ok(streams)
}

/// What may be lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forgiven {
    Nothing,
    AnInstant,
}

/// The cell of a daemon whose routes were kept: with traffic through it, that no packet was lost.
///
/// Forgiven is what is the daemon's own: when bgpd is back, FRR's zebra takes routes out of the kernel, as a
/// rule those of IPv6, and puts them in again 50 ms later.
fn counted(daemon: Daemon, streams: &mut Vec<(Daemon, Stream)>, kept: &str, forgiven: Forgiven) -> Result<String> {
    let (of_daemon, others) = std::mem::take(streams).into_iter().partition::<Vec<_>, _>(|(of, _)| *of == daemon);
    *streams = others;
    if of_daemon.is_empty() {
        return Ok(kept.to_owned());
    }
    for (_, stream) in of_daemon {
        let count = stream.finish()?;
        let bound = if forgiven == Forgiven::AnInstant { count.sent / 10 } else { 0 };
        ensure!(count.lost <= bound && count.sent > 0, "{count:?}");
    }
    Ok(match forgiven {
        Forgiven::Nothing => "yes: no packet is lost",
        Forgiven::AnInstant => "yes: but its zebra takes routes out for an instant",
    }
    .to_owned())
}

/// We are away for a while, and they keep our routes.
fn we_restart(stage: &mut Stage<'_>, table: &mut Table, clients: &[(Daemon, Namespace)], signal: &str) -> Result<()> {
    stage.scene.step(&format!("we restart by {signal}"));
    let mut streams = streams(stage, clients)?;
    stage.ours.signal(signal.trim_start_matches("SIG"))?;
    stage.ours.wait(product::GRACE)?;
    let kept =
        DAEMONS.map(|daemon| wait_until(&format!("{} to see the end", daemon.name()), CHANGE, || down(stage, daemon)));
    std::thread::sleep(WHILE);
    let kept: Vec<Result<()>> = DAEMONS
        .into_iter()
        .zip(kept)
        .map(|(daemon, kept)| match daemon {
            Daemon::Exabgp => kept,
            _ => kept.and_then(|()| told(stage, daemon)).context("it does not keep our routes"),
        })
        .collect();
    stage.start_ours_again()?;
    stage.scene.step("we are back");
    let kept: Vec<Result<()>> =
        DAEMONS.into_iter().zip(kept).map(|(daemon, kept)| kept.and_then(|()| settled(stage, daemon))).collect();
    std::thread::sleep(WHILE);
    for (daemon, kept) in DAEMONS.into_iter().zip(kept) {
        let seen = kept.and_then(|()| match daemon {
            Daemon::Exabgp => Ok("not supported: it has no table to keep them in".to_owned()),
            _ => counted(daemon, &mut streams, "yes: it keeps the routes", Forgiven::Nothing),
        });
        table.note(&format!("we restart, after {signal}"), "they keep our routes", daemon, seen);
    }
    Ok(())
}

/// All of them are away for a while, and we keep their routes; the kernels behind FRR and BIRD keep ours.
fn they_restart(stage: &mut Stage<'_>, table: &mut Table, clients: &[(Daemon, Namespace)]) -> Result<()> {
    stage.scene.step("they restart");
    let mut streams = streams(stage, clients)?;
    for daemon in DAEMONS {
        if let Some(router) = stage.routers.get_mut(&daemon) {
            router.crash()?;
        }
    }
    let kept = DAEMONS.map(|daemon| {
        stage.wait(&format!("our side to see the end of {}", daemon.name()), CHANGE, |stage| {
            ensure!(stage.report(daemon, LINK)?.ensure_state("Established").is_err(), "the session is up");
            Ok(())
        })?;
        stage.stale(daemon, LINK)
    });
    for daemon in DAEMONS {
        stage.start_again(daemon)?;
    }
    stage.scene.step("they are back");
    let kept: Vec<Result<u64>> = DAEMONS
        .into_iter()
        .zip(kept)
        .map(|(daemon, kept)| {
            let kept = kept?;
            settled(stage, daemon)?;
            stage.wait("the end of what was kept", CHANGE, |stage| {
                let stale = stage.stale(daemon, LINK)?;
                ensure!(stale == 0, "{stale} are kept still");
                Ok(())
            })?;
            Ok(kept)
        })
        .collect();
    std::thread::sleep(WHILE);
    for (daemon, kept) in DAEMONS.into_iter().zip(kept) {
        let seen = kept.and_then(|kept| match kept {
            // It has the capability without any family: a helper, which does not restart so itself.
            0 if daemon == Daemon::Openbgpd => Ok("not kept: it does not say that it restarts gracefully".to_owned()),
            0 => bail!("no route was kept"),
            _ => {
                let forgiven = if daemon == Daemon::Frr { Forgiven::AnInstant } else { Forgiven::Nothing };
                counted(daemon, &mut streams, "yes: we keep the routes", forgiven)
            }
        });
        table.note("they restart, after SIGKILL", "we keep their routes", daemon, seen);
    }
    Ok(())
}

/// Whoever ends us by hand does not want us back: no route is kept, and packets stop. What is counted above can be lost.
fn we_leave(stage: &mut Stage<'_>, table: &mut Table, clients: &[(Daemon, Namespace)]) -> Result<()> {
    stage.scene.step("we leave");
    stage.ours.signal("INT")?;
    stage.ours.wait(product::GRACE)?;
    let gone = DAEMONS.map(|daemon| {
        wait_until(&format!("{} to forget us", daemon.name()), CHANGE, || {
            down(stage, daemon)?;
            ensure!(told(stage, daemon).is_err(), "our routes are there");
            Ok(())
        })
    });
    let streams = streams(stage, clients)?;
    let mut passed = Vec::new();
    for (daemon, stream) in streams {
        let count = stream.finish()?;
        if count.lost < count.sent {
            passed.push((daemon, count));
        }
    }
    for (daemon, gone) in DAEMONS.into_iter().zip(gone) {
        let seen = gone.and_then(|()| {
            let passed: Vec<_> = passed.iter().filter(|(of, _)| *of == daemon).collect();
            ensure!(passed.is_empty(), "packets passed: {passed:?}");
            Ok("yes".to_owned())
        });
        table.note("we end for good, by SIGINT", "they forget our routes", daemon, seen);
    }
    Ok(())
}

fn down(stage: &Stage<'_>, daemon: Daemon) -> Result<()> {
    let ours = stage.our_address(LINK)?;
    ensure!(stage.router(daemon)?.ensure_established(ours).is_err(), "the session is up");
    Ok(())
}

/// Fails unless a daemon has our routes of both families.
fn told(stage: &Stage<'_>, daemon: Daemon) -> Result<()> {
    let ours = stage.our_address(LINK)?;
    for prefix in [V4_PREFIXES[0], V6_PREFIXES[0]] {
        stage.router(daemon)?.path_from(ours, prefix)?;
    }
    Ok(())
}

/// Waits until the session is up with all routes in both directions.
fn settled(stage: &mut Stage<'_>, daemon: Daemon) -> Result<()> {
    stage.wait(&format!("all of {}", daemon.name()), RECOVERY, |stage| {
        stage.router(daemon)?.ensure_established(stage.our_address(LINK)?)?;
        let report = stage.report(daemon, LINK)?;
        report.ensure_state("Established")?;
        // OpenBGPD's of the other family have a next hop that nobody can use.
        let heard = report.accepted() + report.refused("invalid next hop");
        ensure!(heard == i64::try_from(ROUTES_V4.len() + ROUTES_V6.len())?, "{report:?}");
        told(stage, daemon)
    })
}
