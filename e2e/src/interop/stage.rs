//! The machines, the daemons and our speaker.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::table::{DAEMONS, Daemon};
use crate::network::{Fabric, Namespace};
use crate::process::Process;
use crate::product::{self, Manifests};
use crate::routers::{Bird, Connect, Exabgp, Frr, Gobgp, Neighbor, Openbgpd, Router, RouterConfig};
use crate::scene::Scene;
use crate::wait::wait_until;

/// Until everything that starts at the same time has settled, on two cores that also do other things.
const SETTLED: Duration = Duration::from_secs(90);
/// Until both sides have dialled: GoBGP's shortest pause between two attempts is five seconds.
const COLLISION: Duration = Duration::from_secs(12);
/// How often connections are counted in the time of [`LOOK`].
const LOOKS: u32 = 10;
/// For a look at what should have settled long ago.
const LOOK: Duration = Duration::from_secs(3);
/// Until a change of one thing shows.
pub const CHANGE: Duration = Duration::from_secs(45);

/// What every daemon announces.
pub const ROUTES_V4: [&str; 5] =
    ["198.51.100.0/27", "198.51.100.32/27", "198.51.100.64/27", "198.51.100.96/27", "198.51.100.128/27"];
pub const ROUTES_V6: [&str; 2] = ["2001:db8:f::/64", "2001:db8:f:1::/64"];
const ROUTES: [&str; 7] =
    [ROUTES_V4[0], ROUTES_V4[1], ROUTES_V4[2], ROUTES_V4[3], ROUTES_V4[4], ROUTES_V6[0], ROUTES_V6[1]];

/// What we announce: the addresses of three Services. Three, because FRR notices that a limit of one is exceeded when it
/// reads the one after the next.
pub const V4_PREFIXES: [&str; 3] = ["203.0.113.10/32", "203.0.113.11/32", "203.0.113.12/32"];
pub const V6_PREFIXES: [&str; 3] = ["2001:db8:100::10/128", "2001:db8:100::11/128", "2001:db8:100::12/128"];

/// What the session itself runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    V4,
    V6,
}

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialler {
    We,
    They,
    /// Both, and at once: no data passes before [`Stage::collide`], so that each has its connection by then.
    Both,
}

/// One way to run a session, with every daemon that can.
#[derive(Clone, Copy)]
pub struct Link {
    /// With the daemon's name before it, that of the BGPPeer.
    pub name: &'static str,
    pub transport: Transport,
    pub dialler: Dialler,
    /// `None`: the daemon's own, so the session is internal.
    pub local_asn: Option<u32>,
    /// More of the BGPPeer's spec, each field with a comma behind it.
    pub spec: &'static str,
    /// What the daemon is told of us beyond the addresses; an error says why it has no such session.
    pub neighbor: fn(Daemon, Neighbor) -> Result<Neighbor, &'static str>,
}

impl Link {
    /// Nothing but what every session needs. The daemons' routes are accepted.
    pub const fn new(name: &'static str, transport: Transport, dialler: Dialler) -> Self {
        Self { name, transport, dialler, local_asn: Some(64500), spec: IMPORT, neighbor: |_, neighbor| Ok(neighbor) }
    }
}

const IMPORT: &str = "import: {accept: [{prefix: 198.51.100.0/24, le: 32}, {prefix: \"2001:db8:f::/48\", le: 128}]},";

/// One scene of the matrix: ours, and the daemons.
pub struct Stage<'a> {
    pub scene: &'a Scene,
    pub node: Namespace,
    pub machines: BTreeMap<Daemon, Namespace>,
    pub routers: BTreeMap<Daemon, Box<dyn Router>>,
    pub manifests: Manifests,
    pub ours: Process,
    links: Vec<Link>,
    started: Instant,
}

impl<'a> Stage<'a> {
    /// Starts all of it. What we announce has `attributes`.
    pub fn build(scene: &'a Scene, links: &[Link], attributes: &str) -> Result<Self> {
        let fabric = Fabric::new(scene, "switch")?;
        let machine = |label: &str, host: u8| -> Result<Namespace> {
            let addresses = (0..links.len())
                .flat_map(|link| [format!("10.99.{link}.{host}/24"), format!("fd00:99:{link:x}::{host}/64")]);
            let addresses: Vec<String> = addresses.collect();
            fabric.machine(scene, label, &addresses.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let node = machine("node", OUR_HOST)?;
        for (index, link) in links.iter().enumerate().filter(|(_, link)| link.dialler == Dialler::Both) {
            ensure!(link.transport == Transport::V4, "{}: the data of IPv4 alone is held", link.name);
            hold_data(scene, &node, index)?;
        }
        let manifests = Manifests::with(scene, "manifests", &[("node.yaml", NODE)])?;
        manifests.write("services.yaml", &services(attributes))?;
        for (daemon, link) in pairs(links) {
            if (link.neighbor)(daemon, Neighbor::new("192.0.2.1", 64500)?).is_ok() {
                let name = peer_name(daemon, link.name);
                manifests.write(&format!("{name}.yaml"), &peer(links, daemon, link))?;
            }
        }
        // We first: some daemons wait long before they call a second time somebody who did not answer.
        let ours = product::run(scene, Some(&node), &manifests, NODE_NAME)?;
        let mut machines = BTreeMap::new();
        let mut routers: BTreeMap<Daemon, Box<dyn Router>> = BTreeMap::new();
        for daemon in DAEMONS {
            let machine = machine(daemon.name(), daemon.number())?;
            let config = router_config(links, daemon)?;
            scene.step(&format!("starting {}", daemon.name()));
            routers.insert(
                daemon,
                match daemon {
                    Daemon::Frr => Box::new(Frr::start_with_kernel(scene, &machine, &config)?),
                    Daemon::Bird => Box::new(Bird::start_with_kernel(scene, &machine, &config)?),
                    Daemon::Gobgp => Box::new(Gobgp::start(scene, &machine, &config)?),
                    Daemon::Openbgpd => Box::new(Openbgpd::start(scene, &machine, &config)?),
                    Daemon::Exabgp => Box::new(Exabgp::start(scene, &machine, &config)?),
                },
            );
            machines.insert(daemon, machine);
        }
        Ok(Self { scene, node, machines, routers, manifests, ours, links: links.to_vec(), started: Instant::now() })
    }

    /// The daemon itself.
    pub fn router(&self, daemon: Daemon) -> Result<&dyn Router> {
        let router = self.routers.get(&daemon).with_context(|| format!("{} does not run", daemon.name()))?;
        Ok(router.as_ref())
    }

    /// Our address on a link, by which the daemons know the session.
    pub fn our_address(&self, link: &str) -> Result<IpAddr> {
        let index = self.index(link)?;
        Ok(address(index, self.links[index].transport, OUR_HOST))
    }

    /// Why a daemon has no session of this kind.
    pub fn unsupported(&self, daemon: Daemon, link: &str) -> Option<&'static str> {
        let link = self.links.iter().find(|other| other.name == link)?;
        (link.neighbor)(daemon, Neighbor::new("192.0.2.1", 64500).ok()?).err()
    }

    /// What the NodeReport says of a session.
    pub fn report(&self, daemon: Daemon, link: &str) -> Result<Report> {
        let name = peer_name(daemon, link);
        let path = self.state().join(format!("nodereports/{NODE_NAME}.yaml"));
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let report: Value = serde_saphyr::from_str(&text).context("the NodeReport is no YAML")?;
        let sessions = report.pointer("/status/sessions").and_then(Value::as_array).context("no sessions")?;
        let session = sessions.iter().find(|session| session.get("peer").and_then(Value::as_str) == Some(&name));
        Ok(Report(session.with_context(|| format!("the NodeReport has no session {name}"))?.clone()))
    }

    /// How many routes of a daemon are kept for its restart, as `roadstead status` has it.
    pub fn stale(&self, daemon: Daemon, link: &str) -> Result<u64> {
        let name = peer_name(daemon, link);
        let status = product::look_json(self.scene, NODE_NAME, &["status"])?;
        let sessions = status
            .pointer("/sessions")
            .and_then(Value::as_array)
            .with_context(|| format!("no sessions in {status}"))?;
        let session = sessions.iter().find(|session| session.get("peer").and_then(Value::as_str) == Some(&name));
        let session = session.with_context(|| format!("no session {name} in {status}"))?;
        session.get("prefixesStale").and_then(Value::as_u64).with_context(|| format!("no prefixesStale in {session}"))
    }

    /// What is left of the time in which everything settles: who is asked last does not wait once more for what has failed.
    pub fn settling(&self) -> Duration {
        SETTLED.saturating_sub(self.started.elapsed()).max(LOOK)
    }

    /// Lets data pass on the links where both dial. Gives, for each daemon, how many connections there were by then.
    pub fn collide(&self, link: &str) -> Result<BTreeMap<Daemon, usize>> {
        let index = self.index(link)?;
        let count = |daemon: Daemon| self.connections(daemon, link);
        // Whoever takes no second connection while its own is being opened has one, and is not waited for forever.
        let all_have_two = || {
            for daemon in DAEMONS {
                ensure!(count(daemon)? >= 2, "{} has one connection", daemon.name());
            }
            Ok(())
        };
        let _ = wait_until("two connections with each daemon", COLLISION, all_have_two);
        // One that is taken by the kernel and then refused by the daemon is there for a moment.
        let mut seen = BTreeMap::new();
        for _ in 0..LOOKS {
            for daemon in DAEMONS {
                let count = count(daemon)?;
                seen.entry(daemon).and_modify(|least: &mut usize| *least = count.min(*least)).or_insert(count);
            }
            std::thread::sleep(LOOK / LOOKS);
        }
        self.node.run("nft", &format!("delete table inet held{index}"))?;
        Ok(seen)
    }

    /// How many TCP connections with a daemon are open on a link, as our kernel has it.
    pub fn connections(&self, daemon: Daemon, link: &str) -> Result<usize> {
        let index = self.index(link)?;
        let theirs = address(index, self.links[index].transport, daemon.number());
        Ok(self.node.run("ss", &format!("-Htn state established dst {theirs}"))?.lines().count())
    }

    fn index(&self, link: &str) -> Result<usize> {
        self.links.iter().position(|other| other.name == link).with_context(|| format!("no link {link}"))
    }

    /// How often the session came up since our speaker was started.
    pub fn times_established(&self, daemon: Daemon, link: &str) -> usize {
        let line = format!("session established peer={}", peer_name(daemon, link));
        self.ours.log().lines().filter(|said| said.ends_with(&line)).count()
    }

    /// Waits until both sides have the session up.
    pub fn wait_established(&mut self, daemon: Daemon, link: &str) -> Result<()> {
        let ours = self.our_address(link)?;
        let limit = self.settling();
        self.wait(&format!("{} on {link}", daemon.name()), limit, |stage| {
            stage.router(daemon)?.ensure_established(ours)?;
            stage.report(daemon, link)?.ensure_state("Established")
        })
    }

    /// Waits, as long as our speaker runs.
    pub fn wait<T>(&mut self, what: &str, limit: Duration, mut probe: impl FnMut(&Self) -> Result<T>) -> Result<T> {
        self.ours.ensure_running()?;
        wait_until(what, limit, || probe(self))
    }

    /// Starts our speaker again, on the same manifests and state.
    pub fn start_ours_again(&mut self) -> Result<()> {
        self.ours = product::run(self.scene, Some(&self.node), &self.manifests, NODE_NAME)?;
        Ok(())
    }

    /// Starts a daemon again after it crashed.
    pub fn start_again(&mut self, daemon: Daemon) -> Result<()> {
        let router = self.routers.get_mut(&daemon).with_context(|| format!("{} does not run", daemon.name()))?;
        router.start_again(self.scene)
    }

    /// The manifest of one session, with something in it replaced.
    pub fn edit_peer(&self, daemon: Daemon, link: &str, from: &str, to: &str) -> Result<()> {
        let file = format!("{}.yaml", peer_name(daemon, link));
        let text = fs::read_to_string(self.manifests.path().join(&file)).context("no such BGPPeer")?;
        ensure!(text.contains(from), "no {from} in {text}");
        self.manifests.write(&file, &text.replace(from, to))
    }

    /// Deletes the BGPPeer.
    pub fn delete_peer(&self, daemon: Daemon, link: &str) -> Result<()> {
        self.manifests.remove(&format!("{}.yaml", peer_name(daemon, link)))
    }

    fn state(&self) -> PathBuf {
        self.scene.directory().join(format!("state-{NODE_NAME}"))
    }
}

/// Drops every TCP segment with data on an IPv4 link: Linux pushes the last one of each write.
fn hold_data(scene: &Scene, node: &Namespace, link: usize) -> Result<()> {
    let network = format!("10.99.{link}.0/24");
    let chain = |hook: &str, end: &str| {
        format!(
            "chain {hook} {{ type filter hook {hook} priority 0; ip {end} {network} tcp flags & psh == psh drop; }}"
        )
    };
    let rules = format!("table inet held{link} {{\n{}\n{}\n}}\n", chain("input", "saddr"), chain("output", "daddr"));
    let file = scene.directory().join(format!("held{link}.nft"));
    fs::write(&file, rules).with_context(|| format!("cannot write {}", file.display()))?;
    node.run("nft", &format!("-f {}", file.display())).map(drop)
}

/// One session of the NodeReport.
#[derive(Debug)]
pub struct Report(Value);

impl Report {
    /// Fails, saying what is there, unless the session is in this state.
    pub fn ensure_state(&self, expected: &str) -> Result<()> {
        let state = self.0.get("state").and_then(Value::as_str).unwrap_or_default();
        ensure!(state == expected, "the NodeReport says {state}, last error: {}", self.last_error());
        Ok(())
    }

    /// What ended the session, or keeps it down.
    pub fn last_error(&self) -> &str {
        self.0.get("lastError").and_then(Value::as_str).unwrap_or_default()
    }

    /// Fails, saying what is there, unless the last error has all these words.
    pub fn ensure_words(&self, words: &[&str]) -> Result<()> {
        let said = self.last_error();
        ensure!(words.iter().all(|word| said.contains(word)), "the NodeReport's last error is {said:?}, not {words:?}");
        Ok(())
    }

    /// The state of the BFD session beside it; nothing where there is none.
    pub fn bfd(&self) -> &str {
        self.0.pointer("/bfd/state").and_then(Value::as_str).unwrap_or_default()
    }

    /// Prefixes accepted from the daemon.
    pub fn accepted(&self) -> i64 {
        self.0.get("accepted").and_then(Value::as_i64).unwrap_or(-1)
    }

    /// Prefixes refused for this reason.
    pub fn refused(&self, reason: &str) -> i64 {
        self.0.get("refused").and_then(|refused| refused.get(reason)).and_then(Value::as_i64).unwrap_or_default()
    }

    /// Fails, saying what is there, unless so many prefixes were accepted.
    pub fn ensure_accepted(&self, expected: usize) -> Result<()> {
        ensure!(self.accepted() == i64::try_from(expected)?, "not {expected} routes accepted: {}", self.0);
        Ok(())
    }
}

/// The node that our speaker is.
pub const NODE_NAME: &str = "node-1";
const OUR_HOST: u8 = 11;

/// The node, and two Secrets.
pub const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: 10.99.0.11}, {type: InternalIP, address: \"fd00:99::11\"}]}
---
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
stringData: {username: bgp, password: mistyped}
";

/// Three Services in both families, of which [`V4_PREFIXES`] and [`V6_PREFIXES`] are announced with these attributes. Their policy is
/// Cluster, so that they need no endpoint here.
pub fn services(attributes: &str) -> String {
    let mut text = format!(
        "apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {{name: public}}
spec: {{addresses: [203.0.113.10-203.0.113.12, \"2001:db8:100::10-2001:db8:100::12\"]}}
---
apiVersion: roadstead.dev/v1alpha1
kind: Advertisement
metadata: {{name: all}}
spec: {{from: [{{loadBalancers: {{}}}}], attributes: {{{attributes}}}}}
"
    );
    for name in ["one", "two", "three"] {
        text += &format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec: {{type: LoadBalancer, ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv4, IPv6], ports: [{{port: 80}}]}}
"
        );
        for (family, address) in [("IPv4", "10.88.1.5"), ("IPv6", "fd00:88::5")] {
            text += &format!(
                "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-{}, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: {family}
endpoints: [{{addresses: [\"{address}\"], nodeName: node-1, conditions: {{ready: true}}}}]
",
                family.to_lowercase()
            );
        }
    }
    text
}

fn pairs(links: &[Link]) -> impl Iterator<Item = (Daemon, &Link)> {
    DAEMONS.into_iter().flat_map(move |daemon| links.iter().map(move |link| (daemon, link)))
}

fn peer_name(daemon: Daemon, link: &str) -> String {
    format!("{}-{link}", daemon.name().to_lowercase())
}

fn address(link: usize, transport: Transport, host: u8) -> IpAddr {
    let host = u16::from(host);
    match transport {
        // The host of an IPv6 address is written as the decimal number is: fd00:99:0::11.
        Transport::V4 => IpAddr::from([10, 99, link as u8, host as u8]),
        Transport::V6 => {
            let digits = host / 10 * 16 + host % 10;
            IpAddr::from([0xfd00, 0x99, link as u16, 0, 0, 0, 0, digits])
        }
    }
}

fn peer(links: &[Link], daemon: Daemon, link: &Link) -> String {
    let index = links.iter().position(|other| other.name == link.name).unwrap_or_default();
    let mut text = String::new();
    let dialler = match link.dialler {
        Dialler::We => "",
        Dialler::They => "passive: true,",
        Dialler::Both => "listen: true,",
    };
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {{name: {}}}
spec: {{{dialler} {} localASN: {}, peerASN: {}, address: \"{}\", sourceAddress: \"{}\", timers: {{holdSeconds: 9, keepaliveSeconds: 3, connectRetrySeconds: 1}}}}
",
        peer_name(daemon, link.name),
        link.spec,
        link.local_asn.unwrap_or_else(|| daemon.asn()),
        daemon.asn(),
        address(index, link.transport, daemon.number()),
        address(index, link.transport, OUR_HOST),
    );
    text
}

fn router_config(links: &[Link], daemon: Daemon) -> Result<RouterConfig> {
    let mut neighbors = Vec::new();
    for (index, link) in links.iter().enumerate() {
        let ours = address(index, link.transport, OUR_HOST).to_string();
        let mut neighbor = Neighbor::new(&ours, link.local_asn.unwrap_or_else(|| daemon.asn()))?;
        neighbor.local_address = Some(address(index, link.transport, daemon.number()));
        neighbor.connect = match link.dialler {
            Dialler::We => Connect::Passive,
            Dialler::They | Dialler::Both => Connect::Active,
        };
        neighbors.extend((link.neighbor)(daemon, neighbor));
    }
    let router_id = match daemon {
        Daemon::Frr => "10.99.0.1",
        Daemon::Bird => "10.99.0.2",
        Daemon::Gobgp => "10.99.0.3",
        Daemon::Openbgpd => "10.99.0.4",
        Daemon::Exabgp => "10.99.0.5",
    };
    Ok(RouterConfig { asn: daemon.asn(), router_id, neighbors, routes: &ROUTES })
}
