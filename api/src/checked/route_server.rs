//! Route servers.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::import::{Limit, MaxPrefixes, limit};
use super::peer::{Authentication, Bfd, Family, TransportMode, Ttl, asn, authentication, bfd, timers, ttl};
use super::range::parse_cidr;
use super::{Findings, Invalid, ObjectRef};
use crate::kinds::{self, Ipv4Text};

/// A `RouteServer` whose fields were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteServer {
    /// The object's name.
    pub name: String,
    /// Our ASN.
    pub asn: u32,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Where clients are waited for; at least one.
    pub listen: Vec<SocketAddr>,
    /// Who may be a client; names and prefixes differ.
    pub clients: Vec<RouteServerClient>,
    /// Of a reflector (RFC 4456): its cluster. `None`: it is a route server (RFC 7947).
    pub reflector: Option<Ipv4Addr>,
    /// `None`: a lost session takes its routes with it, on both sides.
    pub graceful_restart: Option<RouteServerRestart>,
}

/// Graceful restart of a route server and of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteServerRestart {
    /// How long clients keep our routes; 1 s to 4095 s.
    pub restart_time: Duration,
    /// How long after the start clients are waited for; no more than `deferral`.
    pub establish: Duration,
    /// How long after the start nothing is told, at the most.
    pub deferral: Duration,
}

/// Everybody inside a prefix, or one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteServerClient {
    /// What its sessions are called after.
    pub name: String,
    /// Where its machines are.
    pub prefix: IpNet,
    /// The ASNs that they may have: of a reflector ours alone, else any of these but ours.
    pub asns: Vec<RangeInclusive<u32>>,
    /// Of a reflector: an internal peer that is no client.
    pub non_client: bool,
    /// What we say that we are to it; `None`: nothing.
    pub role: Option<kinds::RouteServerRole>,
    /// How many accepted prefixes of each family are in order.
    pub max_prefixes: Option<MaxPrefixes>,
    /// How many sessions there may be at a time.
    pub max_sessions: usize,
    /// How many paths to one prefix are told to who takes several.
    pub max_paths: u8,
    /// Whether it may tell several paths to one prefix.
    pub several_paths: bool,
    /// The families offered.
    pub families: BTreeSet<Family>,
    /// Proposed hold time; zero or at least 3 s.
    pub hold_time: Duration,
    /// Time between keepalives; `None`: a third of the negotiated hold time.
    pub keepalive: Option<Duration>,
    /// First pause before a connection is tried again, where we dial.
    pub connect_retry: Duration,
    /// The file that holds the password.
    pub password_file: Option<PathBuf>,
    /// How the password signs.
    pub authentication: Authentication,
    /// The TTL of the sessions' packets.
    pub ttl: Ttl,
    /// BFD beside each session.
    pub bfd: Option<Bfd>,
    /// Who opens the connection; only one machine can be dialled.
    pub mode: TransportMode,
    /// Of a reflector: routes are told with its own next hop.
    pub next_hop_self: bool,
}

impl RouteServer {
    /// The name of the object that `roadstead route-server` runs unless it is told another.
    pub const NAME: &str = "default";

    /// Checks an object.
    pub fn check(raw: &kinds::RouteServer) -> Result<Self, Vec<Invalid>> {
        let name = raw.metadata.name.clone().unwrap_or_default();
        let mut findings = Findings::new(ObjectRef::cluster("RouteServer", &name));
        let server = Self::check_spec(name, raw, &mut findings);
        findings.conclude(server)
    }

    fn check_spec(name: String, raw: &kinds::RouteServer, findings: &mut Findings) -> Option<Self> {
        let spec = &raw.spec;
        let own = findings.take("spec.asn", spec.asn, asn(spec.asn));
        let router_id = identifier("spec.routerID", &spec.router_id, findings);
        let listen: Vec<SocketAddr> =
            (0..).zip(&spec.listen).filter_map(|(index, text)| listener(index, &text.0, findings)).collect();
        if spec.listen.is_empty() {
            findings.refuse("spec.listen", "[]", "must say where clients are waited for, like 192.0.2.1:179");
        }
        if spec.clients.is_empty() {
            findings.refuse("spec.clients", "[]", "must say who may be a client");
        }
        let cluster = spec.cluster_id.as_ref().map(|text| identifier("spec.clusterID", text, findings));
        if let (Some(text), false) = (&spec.cluster_id, spec.reflector) {
            findings.refuse("spec.clusterID", text, "is a reflector's: give reflector: true, or leave it out");
        }
        let clients = (0..).zip(&spec.clients).filter_map(|(index, client)| {
            RouteServerClient::check(&format!("spec.clients[{index}]"), client, own, spec.reflector, findings)
        });
        let clients: Vec<RouteServerClient> = clients.collect();
        for (index, client) in clients.iter().enumerate() {
            for earlier in &clients[..index] {
                if earlier.name == client.name {
                    findings.refuse(
                        format!("spec.clients[{index}].name"),
                        &client.name,
                        "is another client's name already",
                    );
                }
                if earlier.prefix == client.prefix {
                    let allowed = format!("is the prefix of client {} already", earlier.name);
                    findings.refuse(format!("spec.clients[{index}].prefix"), client.prefix, allowed);
                }
            }
        }
        let reflector = if spec.reflector { Some(cluster.unwrap_or(router_id)?) } else { None };
        let graceful_restart = spec.graceful_restart.as_ref().map(|raw| RouteServerRestart::check(raw, findings));
        Some(Self { name, asn: own?, router_id: router_id?, listen, clients, reflector, graceful_restart })
    }
}

impl RouteServerRestart {
    fn check(raw: &kinds::RouteServerRestart, findings: &mut Findings) -> Self {
        let mut seconds = |field: &str, given: i32, least: u16, most: u16| {
            let checked = u16::try_from(given).ok().filter(|seconds| (least..=most).contains(seconds));
            if checked.is_none() {
                findings.refuse(
                    format!("spec.gracefulRestart.{field}"),
                    given,
                    format!("must be from {least} to {most}"),
                );
            }
            Duration::from_secs(checked.unwrap_or(least).into())
        };
        // RFC 4724 section 3: twelve bits.
        let restart_time = seconds("restartTimeSeconds", raw.restart_time_seconds, 1, 4095);
        let establish = seconds("establishSeconds", raw.establish_seconds, 0, 3600);
        let deferral = seconds("deferralSeconds", raw.deferral_seconds, 0, 3600);
        if establish > deferral {
            let allowed = format!("must not exceed deferralSeconds ({})", raw.deferral_seconds);
            findings.refuse("spec.gracefulRestart.establishSeconds", raw.establish_seconds, allowed);
        }
        Self { restart_time, establish, deferral }
    }
}

impl RouteServerClient {
    fn check(
        at: &str,
        raw: &kinds::RouteServerClient,
        own: Option<u32>,
        reflector: bool,
        findings: &mut Findings,
    ) -> Option<Self> {
        let prefix = findings.take(format!("{at}.prefix"), &raw.prefix, parse_cidr(&raw.prefix.0));
        let asns = match (&raw.asn_ranges, own) {
            (None, own) if reflector => own.map(|own| vec![own..=own]),
            (Some(ranges), _) if reflector => {
                let given = format!("{} ranges", ranges.len());
                findings.refuse(
                    format!("{at}.asnRanges"),
                    given,
                    "clients of a reflector are in its own ASN: leave it out",
                );
                None
            }
            (Some(ranges), own) if !ranges.is_empty() => asn_ranges(at, ranges, own, findings),
            _ => {
                findings.refuse(format!("{at}.asnRanges"), "", "must say which ASNs clients may have");
                None
            }
        };
        let mut within = |field: &str, given: i32, least: i32, most: i32| {
            if !(least..=most).contains(&given) {
                findings.refuse(format!("{at}.{field}"), given, format!("must be from {least} to {most}"));
            }
            given.clamp(least, most)
        };
        // Each is at least 1 by now.
        let max_sessions = within("maxSessions", raw.max_sessions, 1, 65536).unsigned_abs() as usize;
        let max_paths = within("maxPaths", raw.max_paths, 1, 64).unsigned_abs() as u8;
        let kinds::RouteServerClient { max_prefixes, warn_at_percent, on_excess, restart_seconds, .. } = *raw;
        let max_prefixes = limit(at, Limit { max_prefixes, warn_at_percent, on_excess, restart_seconds }, findings);
        if raw.non_client && !reflector {
            findings.refuse(format!("{at}.nonClient"), true, "is for a reflector's peers (RFC 4456): leave it out");
        }
        if raw.role.is_some() && reflector {
            let allowed = "is for external sessions (RFC 9234), and a reflector has none: leave it out";
            findings.refuse(format!("{at}.role"), "RouteServer", allowed);
        }
        if raw.families.is_empty() {
            findings.refuse(format!("{at}.families"), "[]", "must list IPv4Unicast, IPv6Unicast or both");
        }
        if raw.password_file.as_ref().is_some_and(String::is_empty) {
            findings.refuse(format!("{at}.passwordFile"), "", "must be the path of a file");
        }
        if let (Some(prefix), false) = (prefix, raw.passive)
            && prefix.prefix_len() != prefix.max_prefix_len()
        {
            let allowed = format!(
                "must be one address, like {}/{}, where passive is false",
                prefix.addr(),
                prefix.max_prefix_len()
            );
            findings.refuse(format!("{at}.prefix"), prefix, allowed);
        }
        if raw.next_hop_self && !reflector {
            findings.refuse(
                format!("{at}.nextHopSelf"),
                true,
                "is a reflector's: give reflector: true, or leave it out",
            );
        }
        let (hold_time, keepalive, connect_retry) = timers(at, &raw.timers, findings);
        let ttl = ttl(at, raw.ttl_security.as_ref(), raw.ebgp_multihop.as_ref(), findings);
        Some(Self {
            name: raw.name.0.clone(),
            prefix: prefix?,
            asns: asns?,
            non_client: raw.non_client,
            role: raw.role,
            max_prefixes,
            max_sessions,
            max_paths,
            several_paths: raw.several_paths,
            families: raw.families.iter().map(|family| Family::from(*family)).collect(),
            hold_time,
            keepalive,
            connect_retry,
            password_file: raw.password_file.as_ref().map(PathBuf::from),
            authentication: authentication(
                (at, "passwordFile"),
                raw.authentication.as_ref(),
                raw.password_file.is_some(),
                findings,
            ),
            ttl,
            bfd: bfd(at, raw.bfd.as_ref(), ttl, findings),
            mode: if raw.passive { TransportMode::Passive } else { TransportMode::Both },
            next_hop_self: raw.next_hop_self,
        })
    }
}

fn identifier(field: &str, text: &Ipv4Text, findings: &mut Findings) -> Option<Ipv4Addr> {
    let parsed = match text.0.parse::<Ipv4Addr>() {
        Ok(id) if id.is_unspecified() => Err("must not be zero (RFC 6286)"),
        Ok(id) => Ok(id),
        Err(_) => Err("must be written as an IPv4 address"),
    };
    findings.take(field, text, parsed)
}

fn listener(index: usize, text: &str, findings: &mut Findings) -> Option<SocketAddr> {
    let allowed = "must be an address with a port, like 192.0.2.1:179 or [2001:db8::1]:179";
    let parsed = text.parse::<SocketAddr>().ok().filter(|address| address.port() != 0).ok_or(allowed);
    findings.take(format!("spec.listen[{index}]"), text, parsed)
}

/// The ranges without our own ASN: whoever has that is no client of a route server (RFC 7947 section 2), and ranges are easier
/// to write without a hole.
fn asn_ranges(
    at: &str,
    raw: &[kinds::AsnRange],
    own: Option<u32>,
    findings: &mut Findings,
) -> Option<Vec<RangeInclusive<u32>>> {
    let mut ranges = Vec::new();
    for (index, range) in raw.iter().enumerate() {
        let field = format!("{at}.asnRanges[{index}]");
        // AS_TRANS may lie between the ends, and nobody can be it.
        let first = findings.take(format!("{field}.from"), range.from, asn(range.from))?;
        let last = findings.take(format!("{field}.to"), range.to, asn(range.to))?;
        if first > last {
            findings.refuse(field, format!("{first} to {last}"), "from must not exceed to");
            continue;
        }
        match own.filter(|own| (first..=last).contains(own)) {
            Some(own) => ranges.extend([first..=own - 1, own + 1..=last].into_iter().filter(|part| !part.is_empty())),
            None => ranges.push(first..=last),
        }
    }
    if ranges.is_empty() && findings.is_empty() {
        findings.refuse(format!("{at}.asnRanges"), own.unwrap_or_default(), "must have an ASN other than ours");
    }
    Some(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = r#""name":"a","prefix":"10.77.0.0/16""#;

    fn server(spec: &str) -> Result<RouteServer, Vec<String>> {
        let raw = kinds::RouteServer::new("default", serde_json::from_str(spec).unwrap());
        RouteServer::check(&raw).map_err(|found| found.iter().map(ToString::to_string).collect())
    }

    /// A route server in AS 64999 with these clients.
    fn with_clients(clients: &str) -> Result<RouteServer, Vec<String>> {
        server(&format!(r#"{{"asn":64999,"routerID":"10.77.0.1","listen":["10.77.0.1:179"],"clients":[{clients}]}}"#))
    }

    #[track_caller]
    fn check(clients: &str, expected: &[&str]) {
        let found = with_clients(clients).err().unwrap_or_default();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} lacks {expected}");
        }
    }

    #[test]
    fn our_own_asn_is_never_a_clients() {
        for (ranges, expected) in [
            (r#"{"from":64600,"to":64998}"#, vec![64600..=64998]),
            (r#"{"from":64600,"to":64999}"#, vec![64600..=64998]),
            (r#"{"from":64999,"to":65100}"#, vec![65000..=65100]),
            (r#"{"from":64990,"to":65100},{"from":7,"to":7}"#, vec![64990..=64998, 65000..=65100, 7..=7]),
        ] {
            let server = with_clients(&format!(r#"{{{CLIENT},"asnRanges":[{ranges}]}}"#)).unwrap();
            assert_eq!(server.clients[0].asns, expected, "{ranges}");
        }
        check(&format!(r#"{{{CLIENT},"asnRanges":[{{"from":64999,"to":64999}}]}}"#), &["an ASN other than ours"]);
    }

    #[test]
    fn a_reflectors_clients_are_in_its_own_asn() {
        let spec = |more: &str| {
            server(&format!(
                r#"{{"asn":64999,"routerID":"10.77.0.1","listen":["10.77.0.1:179"],"reflector":true,"clients":[{{{CLIENT}}}]{more}}}"#
            ))
        };
        let reflector = spec("").unwrap();
        assert_eq!(reflector.reflector, Some(Ipv4Addr::new(10, 77, 0, 1)));
        assert_eq!(reflector.clients[0].asns, [64999..=64999]);
        assert_eq!(spec(r#","clusterID":"10.0.0.9""#).unwrap().reflector, Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert!(spec(r#","clusterID":"0.0.0.0""#).unwrap_err()[0].contains("spec.clusterID"));
        let with = |more: &str| {
            server(&format!(
                r#"{{"asn":64999,"routerID":"10.77.0.1","listen":["10.77.0.1:179"],"reflector":true,"clients":[{{{CLIENT},{more}}}]}}"#
            ))
        };
        assert!(with(r#""nonClient":true"#).unwrap().clients[0].non_client);
        let found = with(r#""role":"RouteServer""#).unwrap_err();
        assert!(
            found.len() == 1 && found[0].contains("spec.clients[0].role: \"RouteServer\": is for external"),
            "{found:?}"
        );
    }

    #[test]
    fn a_restart_defers_for_no_longer_than_it_says() {
        let asns = r#""asnRanges":[{"from":64600,"to":64700}]"#;
        let with = |restart: &str| {
            server(&format!(
                r#"{{"asn":64999,"routerID":"10.77.0.1","listen":["10.77.0.1:179"],"clients":[{{{CLIENT},{asns}}}],"gracefulRestart":{restart}}}"#
            ))
        };
        let restart = with("{}").unwrap().graceful_restart.unwrap();
        let [restart_time, establish, deferral] = [120, 30, 120].map(Duration::from_secs);
        assert_eq!(restart, RouteServerRestart { restart_time, establish, deferral });
        for (restart, expected) in [
            (r#"{"restartTimeSeconds":0}"#, "spec.gracefulRestart.restartTimeSeconds: \"0\": must be from 1 to 4095"),
            (r#"{"deferralSeconds":3601}"#, "spec.gracefulRestart.deferralSeconds: \"3601\": must be from 0 to 3600"),
            (
                r#"{"deferralSeconds":20}"#,
                "spec.gracefulRestart.establishSeconds: \"30\": must not exceed deferralSeconds (20)",
            ),
        ] {
            let found = with(restart).unwrap_err();
            assert!(found.iter().any(|found| found.contains(expected)), "{restart}: {found:?}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_what_is_allowed() {
        let asns = r#""asnRanges":[{"from":64600,"to":64700}]"#;
        check(&format!(r#"{{{CLIENT},{asns}}}"#), &[]);
        check(&format!(r#"{{{CLIENT}}}"#), &["spec.clients[0].asnRanges: \"\": must say which ASNs"]);
        check(&format!(r#"{{{CLIENT},"asnRanges":[{{"from":2,"to":1}}]}}"#), &["from must not exceed to"]);
        check(&format!(r#"{{{CLIENT},"asnRanges":[{{"from":0,"to":1}}]}}"#), &["spec.clients[0].asnRanges[0].from"]);
        check(
            &format!(r#"{{{CLIENT},{asns}}},{{{CLIENT},{asns}}}"#),
            &["another client's name", "spec.clients[1].prefix: \"10.77.0.0/16\": is the prefix of client a already"],
        );
        for (field, value) in [
            ("maxPrefixes", "0"),
            ("maxSessions", "0"),
            ("maxSessions", "65537"),
            ("maxPaths", "65"),
            ("maxPaths", "0"),
        ] {
            check(
                &format!(r#"{{{CLIENT},{asns},"{field}":{value}}}"#),
                &[&format!("spec.clients[0].{field}: \"{value}\": must be from 1 to")],
            );
        }
        for (more, expected) in [
            (r#""onExcess":"Drop""#, "spec.clients[0].maxPrefixes: \"\": must be given with warnAtPercent, onExcess"),
            (r#""maxPrefixes":1,"warnAtPercent":101"#, "spec.clients[0].warnAtPercent: \"101\": must be from 1 to 100"),
            (r#""maxPrefixes":1,"onExcess":"Drop","restartSeconds":1"#, "is for onExcess: Close"),
            (r#""nonClient":true"#, "spec.clients[0].nonClient: \"true\": is for a reflector's peers"),
        ] {
            check(&format!("{{{CLIENT},{asns},{more}}}"), &[expected]);
        }
        check(&format!(r#"{{{CLIENT},{asns},"families":[]}}"#), &["spec.clients[0].families"]);
        check(&format!(r#"{{{CLIENT},{asns},"passive":false}}"#), &["must be one address, like 10.77.0.0/32"]);
        check(&format!(r#"{{"name":"b","prefix":"10.77.0.9/32",{asns},"passive":false}}"#), &[]);
        check(
            &format!(r#"{{{CLIENT},{asns},"timers":{{"holdSeconds":2}}}}"#),
            &["spec.clients[0].timers.holdSeconds: \"2\": must be 0 or from 3"],
        );
        check(
            &format!(r#"{{{CLIENT},{asns},"ttlSecurity":{{"hops":1}},"ebgpMultihop":{{"ttl":2}}}}"#),
            &["spec.clients[0].ttlSecurity"],
        );
        check(
            &format!(r#"{{{CLIENT},{asns},"ttlSecurity":{{"hops":1}},"bfd":{{"minimumTTL":250}}}}"#),
            &["spec.clients[0].bfd.minimumTTL: \"250\": is for routers several hops away"],
        );
        check(
            &format!(r#"{{{CLIENT},{asns},"authentication":{{"type":"MD5"}}}}"#),
            &["spec.clients[0].authentication: \"MD5\": says how a password signs: it needs passwordFile"],
        );
        let found =
            server(r#"{"asn":0,"routerID":"0.0.0.0","listen":["10.77.0.1"],"clusterID":"1.1.1.1","clients":[]}"#);
        let expected = ["spec.asn", "spec.routerID", "spec.listen[0]", "spec.clients: \"[]\"", "is a reflector's"];
        let found = found.unwrap_err();
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        assert!(found.iter().zip(expected).all(|(found, expected)| found.contains(expected)), "{found:#?}");
    }
}
