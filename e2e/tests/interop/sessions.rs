//! The part in which nothing breaks: every way to set up a session, and what is told over it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use roadstead_e2e::interop::{
    CHANGE, DAEMONS, Daemon, Dialler, Link, ROUTES_V4, ROUTES_V6, Stage, Table, Transport, V4_PREFIXES, V6_PREFIXES,
};
use roadstead_e2e::routers::{AsnOctets, Bfd, Hops, Neighbor, Path, Role};
use roadstead_e2e::scene;

use Dialler::{They, We};
use Transport::{V4, V6};

/// What is told of every route: each value is its own, so that none can pass for another.
const ATTRIBUTES: &str = "communities: [\"64500:100\", no-export], largeCommunities: [\"64500:1:7\"], med: 77, prepend: 2, localPreference: 250";

const ONLY_V4: &str = "import: {accept: [{prefix: 198.51.100.0/24, le: 32}]},";
const ONLY_V6: &str = "import: {accept: [{prefix: \"2001:db8:f::/48\", le: 128}]},";
// With graceful restart, because without it FRR sends no End-of-RIB, and it answers no question before that.
const FOUR_ROUTES: &str = "gracefulRestart: {}, import: {accept: [{prefix: 198.51.100.0/25, le: 32}]},";

/// Without it we offer no enhanced refresh either.
const FOUR_ROUTES_PLAIN: &str = "import: {accept: [{prefix: 198.51.100.0/25, le: 32}]},";

/// Does not fit into two octets.
const LONG_ASN: u32 = 4_200_000_001;

const LINKS: &[Link] = &[
    // Of each family's routes over each transport the accepted ones are counted on a link of their own.
    Link { spec: ONLY_V4, ..Link::new("v4-out", V4, We) },
    Link { spec: ONLY_V6, ..Link::new("v4-in", V4, They) },
    Link { spec: ONLY_V6, ..Link::new("v6-out", V6, We) },
    Link { spec: ONLY_V4, ..Link::new("v6-in", V6, They) },
    Link { spec: MD5, neighbor: md5, ..Link::new("md5-v4-out", V4, We) },
    Link { spec: MD5, neighbor: md5, ..Link::new("md5-v4-in", V4, They) },
    Link { spec: MD5, neighbor: md5, ..Link::new("md5-v6-out", V6, We) },
    Link { spec: MD5, neighbor: md5, ..Link::new("md5-v6-in", V6, They) },
    Link { spec: GTSM, neighbor: gtsm, ..Link::new("gtsm-v4-out", V4, We) },
    Link { spec: GTSM, neighbor: gtsm, ..Link::new("gtsm-v4-in", V4, They) },
    Link { spec: GTSM, neighbor: gtsm, ..Link::new("gtsm-v6-out", V6, We) },
    Link { spec: GTSM, neighbor: gtsm, ..Link::new("gtsm-v6-in", V6, They) },
    Link { spec: GTSM, ..Link::new("gtsm-ours", V4, We) },
    Link { spec: MD5, ..Link::new("md5-ours", V4, They) },
    Link { spec: WRONG_PASSWORD, neighbor: md5, ..Link::new("password", V4, We) },
    Link { neighbor: |_, neighbor| Ok(Neighbor { asn: 64999, ..neighbor }), ..Link::new("our-asn", V4, We) },
    Link { local_asn: None, ..Link::new("ibgp", V4, We) },
    Link { local_asn: Some(LONG_ASN), ..Link::new("long-asn", V4, We) },
    Link { neighbor: two_octets, ..Link::new("two-octets", V4, We) },
    Link { local_asn: Some(LONG_ASN), neighbor: two_octets_and_more, ..Link::new("as-trans", V4, We) },
    Link { spec: "role: Customer,", neighbor: provider, ..Link::new("customer", V4, We) },
    Link { spec: "role: Provider,", neighbor: customer, ..Link::new("provider", V4, We) },
    Link { spec: "role: Peer,", neighbor: customer, ..Link::new("mismatch", V4, We) },
    Link { spec: "role: Customer,", ..Link::new("one-role", V4, We) },
    Link { spec: MAX_PREFIXES, ..Link::new("our-limit", V4, We) },
    Link { neighbor: max_prefixes, ..Link::new("their-limit", V4, We) },
    Link { neighbor: extended_messages, ..Link::new("extended", V4, We) },
    Link { spec: FOUR_ROUTES, ..Link::new("refresh", V4, We) },
    Link { spec: FOUR_ROUTES_PLAIN, ..Link::new("refresh-plain", V4, We) },
    Link { neighbor: extended_next_hop, ..Link::new("next-hop", V6, We) },
    Link { spec: "bfd: {},", neighbor: bfd, ..Link::new("bfd-v4", V4, We) },
    Link { spec: "bfd: {},", neighbor: bfd, ..Link::new("bfd-v6", V6, They) },
];

/// Long enough to know that nothing more will come.
const SILENCE: Duration = Duration::from_secs(15);

const MD5: &str = "passwordSecret: {name: right},";
const WRONG_PASSWORD: &str = "passwordSecret: {name: wrong},";
const GTSM: &str = "ttlSecurity: {hops: 1},";
const MAX_PREFIXES: &str = "import: {accept: [{prefix: 198.51.100.0/24, le: 32}], maxPrefixes: 3},";

type Told = Result<Neighbor, &'static str>;

fn md5(_: Daemon, neighbor: Neighbor) -> Told {
    Ok(neighbor.with_password("s3cret"))
}

fn gtsm(_: Daemon, neighbor: Neighbor) -> Told {
    Ok(Neighbor { ttl_security: true, ..neighbor })
}

fn two_octets(daemon: Daemon, neighbor: Neighbor) -> Told {
    match daemon {
        Daemon::Gobgp => Err("always says that it has four octets"),
        _ => Ok(Neighbor { asn_octets: AsnOctets::Two, ..neighbor }),
    }
}

fn two_octets_and_more(daemon: Daemon, neighbor: Neighbor) -> Told {
    match daemon {
        // Told AS 23456 instead it would read our real number in the capability all the same, and refuse it.
        Daemon::Bird => Err("its configuration takes no such neighbour then"),
        // It compares the number in the OPEN; the others look into the capability, which they do not answer.
        Daemon::Exabgp => two_octets(daemon, Neighbor { asn: 23456, ..neighbor }),
        _ => two_octets(daemon, neighbor),
    }
}

fn role(daemon: Daemon, neighbor: Neighbor, role: Role) -> Told {
    match daemon {
        Daemon::Gobgp | Daemon::Exabgp => Err("knows no roles"),
        Daemon::Frr | Daemon::Bird | Daemon::Openbgpd => Ok(Neighbor { role: Some(role), ..neighbor }),
    }
}

fn provider(daemon: Daemon, neighbor: Neighbor) -> Told {
    role(daemon, neighbor, Role::Provider)
}

fn customer(daemon: Daemon, neighbor: Neighbor) -> Told {
    role(daemon, neighbor, Role::Customer)
}

fn max_prefixes(daemon: Daemon, neighbor: Neighbor) -> Told {
    match daemon {
        Daemon::Exabgp => Err("keeps no count"),
        _ => Ok(Neighbor { max_prefixes: Some(1), ..neighbor }),
    }
}

fn extended_messages(daemon: Daemon, neighbor: Neighbor) -> Told {
    match daemon {
        Daemon::Gobgp | Daemon::Openbgpd => Err("knows nothing of RFC 8654"),
        _ => Ok(Neighbor { extended_messages: true, ..neighbor }),
    }
}

fn extended_next_hop(daemon: Daemon, neighbor: Neighbor) -> Told {
    match daemon {
        Daemon::Openbgpd => Err("knows nothing of RFC 8950"),
        _ => Ok(neighbor.with_extended_next_hop()),
    }
}

fn bfd(daemon: Daemon, neighbor: Neighbor) -> Told {
    match daemon {
        Daemon::Gobgp | Daemon::Openbgpd | Daemon::Exabgp => Err("has no BFD"),
        // Not fast, because all of them share two cores.
        Daemon::Frr | Daemon::Bird => {
            Ok(neighbor.with_bfd(Bfd { milliseconds: 300, multiplier: 3, hops: Hops::Single }))
        }
    }
}

#[test]
fn sessions() -> Result<()> {
    scene("interop: sessions", |scene| {
        let mut stage = Stage::build(scene, LINKS, ATTRIBUTES)?;
        let mut table = Table::new("sessions");
        for daemon in DAEMONS {
            scene.step(&format!("looking at {}", daemon.name()));
            transports(&mut stage, &mut table, daemon);
            protection(&mut stage, &mut table, daemon);
            refusals(&mut stage, &mut table, daemon);
            attributes(&mut stage, &mut table, daemon);
            numbers(&mut stage, &mut table, daemon);
            roles(&mut stage, &mut table, daemon);
            limits(&mut stage, &mut table, daemon);
            refreshes(&mut stage, &mut table, daemon);
            next_hops(&mut stage, &mut table, daemon);
            detection(&mut stage, &mut table, daemon);
        }
        table.settle()
    })
}

/// The cell of a session: what `look` sees when it is up, or why there is none.
fn session(
    stage: &mut Stage<'_>,
    daemon: Daemon,
    link: &str,
    look: impl FnOnce(&mut Stage<'_>) -> Result<String>,
) -> Result<String> {
    if let Some(reason) = stage.unsupported(daemon, link) {
        return Ok(format!("not supported: {reason}"));
    }
    if let Some((_, _, reason)) = DEAF.iter().find(|(deaf, to, _)| *deaf == daemon && *to == link) {
        return down(stage, daemon, link, &[]).map(|_| format!("down: {reason}"));
    }
    stage.wait_established(daemon, link)?;
    look(stage)
}

/// Sessions that a daemon takes into its configuration and cannot have. When a later version can, this fails.
const DEAF: &[(Daemon, &str, &str)] = &[
    (Daemon::Openbgpd, "md5-v4-out", LISTENER_WITHOUT_KEY),
    (Daemon::Openbgpd, "md5-v6-out", LISTENER_WITHOUT_KEY),
    (Daemon::Exabgp, "gtsm-v6-out", "sets the IPv4 option on its IPv6 listener, so it answers with TTL 64"),
];
const LISTENER_WITHOUT_KEY: &str = "on Linux its listener has no key";

fn yes(_: &mut Stage<'_>) -> Result<String> {
    Ok("yes".to_owned())
}

/// A session that must not come up: seen as neither side is, once the NodeReport says these words.
fn down(stage: &mut Stage<'_>, daemon: Daemon, link: &str, words: &[&str]) -> Result<String> {
    stage.wait(&format!("{} to have no session on {link}", daemon.name()), stage.settling(), |stage| {
        let ours = stage.our_address(link)?;
        ensure!(stage.router(daemon)?.ensure_established(ours).is_err(), "the daemon's session is up");
        let report = stage.report(daemon, link)?;
        ensure!(report.ensure_state("Established").is_err(), "our session is up");
        report.ensure_words(words)?;
        // The words without the name of this peer and its address, which no reader of the table knows.
        let said = report.last_error();
        Ok(said.split_once("): ").map_or(said, |(_, words)| words).to_owned())
    })
}

/// Sessions, and both families' routes over both transports in both directions.
fn transports(stage: &mut Stage<'_>, table: &mut Table, daemon: Daemon) {
    for (feature, direction, link) in [
        ("session over IPv4", "we dial", "v4-out"),
        ("session over IPv4", "they dial", "v4-in"),
        ("session over IPv6", "we dial", "v6-out"),
        ("session over IPv6", "they dial", "v6-in"),
    ] {
        table.note(feature, direction, daemon, session(stage, daemon, link, yes));
    }
    for (feature, link, prefix) in [
        ("IPv4 routes over IPv4", "v4-out", V4_PREFIXES[0]),
        ("IPv6 routes over IPv4", "v4-in", V6_PREFIXES[0]),
        ("IPv6 routes over IPv6", "v6-out", V6_PREFIXES[0]),
        ("IPv4 routes over IPv6", "v6-in", V4_PREFIXES[0]),
    ] {
        let seen = session(stage, daemon, link, |stage| {
            let ours = stage.our_address(link)?;
            stage.wait(feature, stage.settling(), |stage| {
                let next_hop = stage.router(daemon)?.path_from(ours, prefix)?.next_hop;
                ensure!(is_ours(next_hop, ours), "the next hop is {next_hop}");
                Ok("yes".to_owned())
            })
        });
        table.note(feature, "to them", daemon, seen);
        let count = if prefix.contains(':') { ROUTES_V6.len() } else { ROUTES_V4.len() };
        let seen = session(stage, daemon, link, |stage| {
            stage.wait(feature, stage.settling(), |stage| {
                let report = stage.report(daemon, link)?;
                // Nothing that we could use; what they tell instead is in the essays of their modules.
                if report.refused("invalid next hop") == i64::try_from(count)? {
                    return Ok("refused: invalid next hop".to_owned());
                }
                report.ensure_accepted(count)?;
                Ok("yes".to_owned())
            })
        });
        table.note(feature, "from them", daemon, seen);
    }
}

/// The session's own address for routes of its family; for the other one an address of the same interface, and our
/// interface has one in every link's subnet.
fn is_ours(next_hop: IpAddr, session: IpAddr) -> bool {
    match next_hop {
        _ if next_hop.is_ipv4() == session.is_ipv4() => next_hop == session,
        IpAddr::V4(address) => address.octets()[..2] == [10, 99] && address.octets()[3] == 11,
        IpAddr::V6(address) => address.segments()[..2] == [0xfd00, 0x99] && address.segments()[7] == 0x11,
    }
}

fn protection(stage: &mut Stage<'_>, table: &mut Table, daemon: Daemon) {
    for (feature, direction, link) in [
        ("TCP MD5 over IPv4", "we dial", "md5-v4-out"),
        ("TCP MD5 over IPv4", "they dial", "md5-v4-in"),
        ("TCP MD5 over IPv6", "we dial", "md5-v6-out"),
        ("TCP MD5 over IPv6", "they dial", "md5-v6-in"),
        ("GTSM over IPv4", "we dial", "gtsm-v4-out"),
        ("GTSM over IPv4", "they dial", "gtsm-v4-in"),
        ("GTSM over IPv6", "we dial", "gtsm-v6-out"),
        ("GTSM over IPv6", "they dial", "gtsm-v6-in"),
    ] {
        table.note(feature, direction, daemon, session(stage, daemon, link, yes));
    }
}

/// Sessions that must not come up, and what the NodeReport says of each.
fn refusals(stage: &mut Stage<'_>, table: &mut Table, daemon: Daemon) {
    for (feature, direction, link, words) in [
        ("another password", "we dial", "password", &["no answer", "password"][..]),
        ("another ASN than they expect", "we dial", "our-asn", &["bad peer AS", "64500"]),
    ] {
        let seen = down(stage, daemon, link, words).map(|said| format!("down: {said}"));
        table.note(feature, direction, daemon, seen);
    }
    // What the kernel drops nobody is told of.
    for (feature, direction, link) in
        [("a password on our side alone", "they dial", "md5-ours"), ("GTSM on our side alone", "we dial", "gtsm-ours")]
    {
        table.note(feature, direction, daemon, down(stage, daemon, link, &[]).map(|_| "down".to_owned()));
    }
}

fn attributes(stage: &mut Stage<'_>, table: &mut Table, daemon: Daemon) {
    let look = |link: &'static str, check: fn(&Path) -> Result<()>| {
        move |stage: &mut Stage<'_>| {
            let ours = stage.our_address(link)?;
            stage
                .wait(link, stage.settling(), |stage| check(&stage.router(daemon)?.path_from(ours, V4_PREFIXES[0])?))?;
            Ok("yes".to_owned())
        }
    };
    let seen = session(
        stage,
        daemon,
        "v4-out",
        look("v4-out", |path| {
            let set = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect::<BTreeSet<String>>();
            ensure!(path.as_path == "64500 64500 64500", "{path:?}");
            ensure!(path.med == Some(77), "{path:?}");
            ensure!(path.communities == set(&["64500:100", "no-export"]), "{path:?}");
            ensure!(path.large_communities == set(&["64500:1:7"]), "{path:?}");
            Ok(())
        }),
    );
    table.note("communities, large communities, MED and prepended path, exactly", "to them", daemon, seen);
    let seen = session(
        stage,
        daemon,
        "ibgp",
        look("ibgp", |path| {
            ensure!(path.local_preference == Some(250) && path.as_path.is_empty(), "{path:?}");
            Ok(())
        }),
    );
    table.note("LOCAL_PREF and an empty path on an internal session", "to them", daemon, seen);
}

/// AS numbers of four octets, with those who know them and with those who do not (RFC 6793).
fn numbers(stage: &mut Stage<'_>, table: &mut Table, daemon: Daemon) {
    for (feature, link) in [
        ("an ASN of ours that takes four octets", "long-asn"),
        ("a daemon that knows two octets", "two-octets"),
        ("both of these", "as-trans"),
    ] {
        let seen = session(stage, daemon, link, |stage| {
            let ours = stage.our_address(link)?;
            stage.wait(link, stage.settling(), |stage| {
                let path = stage.router(daemon)?.path_from(ours, V4_PREFIXES[0])?;
                Ok(format!("path {}", path.as_path))
            })
        });
        table.note(feature, "to them", daemon, seen);
    }
}

fn roles(stage: &mut Stage<'_>, table: &mut Table, daemon: Daemon) {
    for (feature, link) in [("we Customer, they Provider", "customer"), ("we Provider, they Customer", "provider")] {
        let seen = session(stage, daemon, link, |stage| {
            let ours = stage.our_address(link)?;
            stage.wait(link, stage.settling(), |stage| {
                let path = stage.router(daemon)?.path_from(ours, V4_PREFIXES[0])?;
                Ok(path.otc.map_or_else(|| "up, no OTC".to_owned(), |otc| format!("up, OTC {otc}")))
            })
        });
        table.note(feature, "to them", daemon, seen);
    }
    let seen = match stage.unsupported(daemon, "mismatch") {
        Some(reason) => Ok(format!("not supported: {reason}")),
        // Whose refusal comes first is chance; each names the roles.
        None => down(stage, daemon, "mismatch", &["role"]).map(|_| "down, and the NodeReport says why".to_owned()),
    };
    table.note("we Peer, they Customer", "both", daemon, seen);
    table.note("we Customer, they say nothing", "both", daemon, session(stage, daemon, "one-role", yes));
}

fn limits(stage: &mut Stage<'_>, table: &mut Table, daemon: Daemon) {
    let seen = down(stage, daemon, "our-limit", &["more than the 3", "import.maxPrefixes"]);
    table.note("more prefixes than our limit", "from them", daemon, seen.map(|said| format!("down: {said}")));
    let seen = match stage.unsupported(daemon, "their-limit") {
        Some(reason) => Ok(format!("not supported: {reason}")),
        None => down(stage, daemon, "their-limit", &["refixes"]).map(|said| format!("down: {said}")),
    };
    table.note("more prefixes than their limit", "to them", daemon, seen);
    table.note("extended messages", "both", daemon, session(stage, daemon, "extended", yes));
}

/// Each side asks the other for everything again, without a new session (RFC 2918, 7313).
fn refreshes(stage: &mut Stage<'_>, table: &mut Table, daemon: Daemon) {
    let ask = |stage: &mut Stage<'_>| {
        let counted = |stage: &Stage<'_>| -> Result<usize> {
            let log = stage.ours.log();
            let peer = format!("{}-refresh", daemon.name().to_lowercase());
            Ok(log.lines().filter(|line| line.contains(&peer) && line.contains("RouteRefresh")).count())
        };
        let before = counted(stage)?;
        let ours = stage.our_address("refresh")?;
        stage.router(daemon)?.ask_again(ours)?;
        stage.wait("their question", CHANGE, |stage| {
            ensure!(counted(stage)? > before, "our log has {before} ROUTE-REFRESHes");
            Ok(())
        })?;
        stage.wait("our answer", CHANGE, |stage| stage.router(daemon)?.path_from(ours, V4_PREFIXES[0]).map(drop))?;
        stage.router(daemon)?.ensure_established(ours)?;
        Ok("yes".to_owned())
    };
    let seen = match daemon {
        Daemon::Gobgp => Ok("never asks: it keeps what it got, and runs its policy over that".to_owned()),
        _ => session(stage, daemon, "refresh", ask),
    };
    table.note("route refresh", "they ask", daemon, seen);
    for (feature, link) in
        [("route refresh, enhanced where they know that", "refresh"), ("route refresh, plain", "refresh-plain")]
    {
        let seen = session(stage, daemon, link, |stage| we_ask(stage, daemon, link));
        table.note(feature, "we ask, when import.accept has grown", daemon, seen);
    }
}

fn we_ask(stage: &mut Stage<'_>, daemon: Daemon, link: &str) -> Result<String> {
    let four = ROUTES_V4.len() - 1;
    stage.wait("four routes", CHANGE, |stage| stage.report(daemon, link)?.ensure_accepted(four))?;
    let sessions = stage.times_established(daemon, link);
    stage.edit_peer(daemon, link, "198.51.100.0/25", "198.51.100.0/24")?;
    let answered = |stage: &Stage<'_>| stage.report(daemon, link)?.ensure_accepted(four + 1);
    if daemon == Daemon::Openbgpd {
        // It looks for the family where it should look for its absence.
        let refusal = format!("neighbor {}: route refresh: AID IPv4 unicast not negotiated", stage.our_address(link)?);
        stage.wait("its refusal", CHANGE, |stage| {
            ensure!(stage.router(daemon)?.log().contains(&refusal), "its log lacks: {refusal}");
            Ok(())
        })?;
        let silence = stage.wait("no answer", SILENCE, answered);
        return Ok(silence.map_or_else(
            |_| "no answer: its log says \"AID IPv4 unicast not negotiated\", and it is".to_owned(),
            |()| "yes".to_owned(),
        ));
    }
    stage.wait("the fifth", CHANGE, answered)?;
    match stage.times_established(daemon, link) - sessions {
        0 => Ok("yes".to_owned()),
        _ if daemon == Daemon::Exabgp => Ok("closes the connection, and tells them in the next session".to_owned()),
        resets => bail!("the session was reset {resets} times"),
    }
}

/// An IPv4 route whose next hop is the session's IPv6 address (RFC 8950).
fn next_hops(stage: &mut Stage<'_>, table: &mut Table, daemon: Daemon) {
    let seen = session(stage, daemon, "next-hop", |stage| {
        let ours = stage.our_address("next-hop")?;
        stage.wait("the next hop", stage.settling(), |stage| {
            let next_hop = stage.router(daemon)?.path_from(ours, V4_PREFIXES[0])?.next_hop;
            ensure!(next_hop == ours, "the next hop is {next_hop}");
            Ok("yes".to_owned())
        })
    });
    table.note("IPv4 routes with IPv6 next hops", "to them", daemon, seen);
}

fn detection(stage: &mut Stage<'_>, table: &mut Table, daemon: Daemon) {
    for (feature, link) in [("BFD over IPv4", "bfd-v4"), ("BFD over IPv6", "bfd-v6")] {
        let seen = session(stage, daemon, link, |stage| {
            let ours = stage.our_address(link)?;
            stage.wait(feature, CHANGE, |stage| {
                let theirs = stage.router(daemon)?.bfd(ours)?;
                ensure!(theirs.eq_ignore_ascii_case("up"), "theirs is {theirs}");
                let report = stage.report(daemon, link)?;
                ensure!(report.bfd() == "Up", "ours is {:?}", report.bfd());
                Ok("yes".to_owned())
            })
        });
        table.note(feature, "both", daemon, seen);
    }
}
