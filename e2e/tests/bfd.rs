//! `roadstead run` with routers that speak BFD: it comes up, a cut is noticed long before the hold timer, what is taken down on
//! purpose takes nothing else down, and a busy machine is not taken for a dead one.

use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use roadstead_e2e::capture::Capture;
use roadstead_e2e::network::{Fabric, Namespace};
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::routers::{Bfd, Bird, Frr, Hops, Neighbor, Router, RouterConfig, Wanted};
use roadstead_e2e::{Process, Scene, scene, wait_until};

/// A session that has to be tried again waits for both ends' retry timers; BFD starts at a packet a second.
const SESSION: Duration = Duration::from_secs(60);
/// Far below the hold time of 90 s, and far above what BFD needs.
const DETECTION: Duration = Duration::from_secs(30);
/// How long a state must last to be taken for one that lasts: three detection times and more.
const QUIET: Duration = Duration::from_secs(4);
/// How long a busy machine must hold its sessions.
const LOAD: Duration = Duration::from_secs(20);

const NODE_ASN: u32 = 64500;
const ROUTER_ASN: u32 = 64512;
const PREFIX: &str = "203.0.113.10/32";

const OBJECTS: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: 10.99.0.11}, {type: InternalIP, address: \"fd00:99::11\"}]}
---
apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: [203.0.113.10-203.0.113.20]}
---
apiVersion: roadstead.dev/v1alpha1
kind: Advertisement
metadata: {name: all}
spec: {from: [{loadBalancers: {}}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, ipFamilies: [IPv4], ports: [{port: 80, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.88.1.5], nodeName: node-1, conditions: {ready: true}}]
ports: [{port: 8080, protocol: TCP}]
";

/// A node and a router on one cable each.
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
        Manifests::with(self.scene, "manifests", &[("objects.yaml", OBJECTS), ("peer.yaml", peer)])
    }

    fn run(&self, manifests: &Manifests) -> Result<Process> {
        product::run(self.scene, Some(&self.node), manifests, "node-1")
    }

    /// As on a node that grants nothing: no scheduling in real time, nor before others.
    fn run_without_priority(&self, manifests: &Manifests) -> Result<Process> {
        let state = self.scene.subdirectory("state-node-1")?;
        let mut roadstead = product::command("roadstead", Some(&self.node))?;
        roadstead
            .arg("run")
            .arg("--manifests")
            .arg(manifests.path())
            .args(["--node", "node-1"])
            .arg("--state")
            .arg(state);
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-sys_nice", "--inh-caps", "-sys_nice"]);
        command.arg(roadstead.get_program()).args(roadstead.get_args());
        command.envs(roadstead.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Process::start(self.scene, "roadstead-node-1", &command)
    }

    /// What the report says of BFD: the lines below `bfd:`, without their blanks.
    fn reported(&self) -> Result<Vec<String>> {
        let path = self.scene.directory().join("state-node-1/nodereports/node-1.yaml");
        let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
        let indent = |line: &str| line.len() - line.trim_start().len();
        let mut lines = text.lines().skip_while(|line| line.trim() != "bfd:");
        let own = lines.next().map(indent).with_context(|| format!("no BFD in the report: {text}"))?;
        Ok(lines.take_while(|line| indent(line) > own).map(|line| line.trim().to_owned()).collect())
    }

    /// How often BFD has gone from Up to Down, as reported.
    fn downs(&self) -> Result<u64> {
        let reported = self.reported()?;
        let downs = reported.iter().find_map(|line| line.strip_prefix("downs: "));
        downs.with_context(|| format!("no downs in {reported:?}"))?.parse().context("downs is no number")
    }

    fn ensure_reported(&self, expected: &str) -> Result<()> {
        let reported = self.reported()?;
        ensure!(reported.iter().any(|line| line.contains(expected)), "the report says {reported:?}, not {expected}");
        Ok(())
    }
}

fn peer(address: &str, fields: &str) -> String {
    format!(
        "apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {{name: router}}
spec: {{localASN: {NODE_ASN}, peerASN: {ROUTER_ASN}, address: \"{address}\", timers: {{connectRetrySeconds: 1}}{fields}}}
"
    )
}

const WITH_BFD: &str = ", bfd: {}";
const USUAL: Bfd = Bfd { milliseconds: 300, multiplier: 3, hops: Hops::Single };

fn neighbor(address: &str, bfd: Bfd) -> Result<RouterConfig> {
    let neighbors = vec![Neighbor::new(address, NODE_ASN)?.with_bfd(bfd)];
    Ok(RouterConfig { asn: ROUTER_ASN, router_id: "10.99.0.1", neighbors, routes: &[] })
}

type Start = fn(&Stage<'_>, &RouterConfig) -> Result<Box<dyn Router>>;

fn start_frr(stage: &Stage<'_>, config: &RouterConfig) -> Result<Box<dyn Router>> {
    Ok(Box::new(Frr::start(stage.scene, &stage.router, config)?))
}

fn start_bird(stage: &Stage<'_>, config: &RouterConfig) -> Result<Box<dyn Router>> {
    Ok(Box::new(Bird::start(stage.scene, &stage.router, config)?))
}

fn ensure_up(stage: &Stage<'_>, router: &dyn Router, node: IpAddr) -> Result<()> {
    router.ensure_established(node)?;
    let state = router.bfd(node)?;
    ensure!(state.eq_ignore_ascii_case("up"), "{}'s BFD session is {state}", router.name());
    stage.ensure_reported("state: Up")
}

/// Waits until both sessions are up and stay so; says how often BFD has gone down by then.
///
/// FRR 8.4 begins with two BFD sessions: when BGP is up it makes its session anew with the local address that it has learnt. If the
/// first was up already, that is a failure to us, and BGP comes up twice.
fn settle(stage: &Stage<'_>, router: &dyn Router, node: IpAddr) -> Result<u64> {
    wait_until("both sessions to be up and to stay so", SESSION, || {
        ensure_up(stage, router, node)?;
        let downs = stage.downs()?;
        std::thread::sleep(QUIET);
        ensure_up(stage, router, node)?;
        ensure!(stage.downs()? == downs, "BFD has gone down meanwhile");
        Ok(downs)
    })
}

/// What our log says of established sessions that went down.
fn sessions_lost(process: &Process) -> Vec<String> {
    let lost = |line: &&str| line.contains("session down") && line.contains("was_established=true");
    process.log().lines().filter(lost).map(str::to_owned).collect()
}

/// Up, cut at the router, back, cut at the node, back.
fn life_of_a_session(name: &str, start: Start, router_address: &str, node_address: &str) -> Result<()> {
    scene(&format!("BFD with {name} over {router_address}"), |scene| {
        let stage = Stage::build(scene)?;
        let node: IpAddr = node_address.parse().context("no address")?;
        let router = start(&stage, &neighbor(node_address, USUAL)?)?;
        let capture = Capture::start(scene, &stage.node, "life")?;
        let mut ours = stage.run(&stage.manifests(&peer(router_address, WITH_BFD))?)?;
        let downs = settle(&stage, router.as_ref(), node)?;
        stage.ensure_reported("detectionMilliseconds: 900")?;
        scene.step("up");

        let cut = Instant::now();
        stage.router.ip("link set eth0 down")?;
        let line = wait_for_words(&mut ours, "BFD session down: control detection time expired (1)")?;
        scene.step(&format!("we noticed the router's cable after {:.1} s: {line}", cut.elapsed().as_secs_f64()));
        restore(&stage.router, "10.99.0.1/24", "fd00:99::1/64")?;
        ours.wait_until("both sessions again", SESSION, || {
            ensure!(stage.downs()? > downs, "the report does not know of the cut");
            ensure_up(&stage, router.as_ref(), node)
        })?;

        let downs = settle(&stage, router.as_ref(), node)?;
        let cut = Instant::now();
        stage.node.ip("link set eth0 down")?;
        // With a hold time of 90 s only BFD is so fast.
        wait_until("the router to notice", DETECTION, || {
            ensure!(router.ensure_established(node).is_err(), "it has the session still");
            Ok(())
        })?;
        scene.step(&format!("{name} noticed our cable after {:.1} s", cut.elapsed().as_secs_f64()));
        restore(&stage.node, "10.99.0.11/24", "fd00:99::11/64")?;
        ours.wait_until("both sessions once more", SESSION, || {
            ensure!(stage.downs()? > downs, "the report does not know of the cut");
            ensure_up(&stage, router.as_ref(), node)
        })?;

        let status = ours.terminate(product::GRACE)?;
        ensure!(status.success(), "after SIGTERM roadstead ended with {status}");
        capture.finish()?.ensure_well_formed("bfd", node_address)
    })
}

/// An interface that goes down loses its IPv6 addresses.
fn restore(machine: &Namespace, v4: &str, v6: &str) -> Result<()> {
    machine.ip("link set eth0 up")?;
    machine.ip(&format!("address replace {v4} dev eth0"))?;
    machine.ip(&format!("address replace {v6} dev eth0 nodad")).map(drop)
}

fn wait_for_words(process: &mut Process, words: &str) -> Result<String> {
    wait_until(&format!("a log line with {words:?}"), DETECTION, || {
        let log = process.log();
        log.lines().find(|line| line.contains(words)).map(str::to_owned).context("no such line")
    })
}

#[test]
fn frr_up_cut_and_back() -> Result<()> {
    life_of_a_session("FRR", start_frr, "10.99.0.1", "10.99.0.11")
}

#[test]
fn frr_up_cut_and_back_over_ipv6() -> Result<()> {
    life_of_a_session("FRR", start_frr, "fd00:99::1", "fd00:99::11")
}

#[test]
fn bird_up_cut_and_back() -> Result<()> {
    life_of_a_session("BIRD", start_bird, "10.99.0.1", "10.99.0.11")
}

/// RFC 5882 section 3.2: what is taken down on purpose says nothing of the path. FRR's alone, because BIRD's `disable` is silence.
#[test]
fn frr_shuts_bfd_down_on_purpose() -> Result<()> {
    scene("FRR shuts BFD down", |scene| {
        let stage = Stage::build(scene)?;
        let node: IpAddr = "10.99.0.11".parse().context("no address")?;
        let frr = Frr::start(scene, &stage.router, &neighbor("10.99.0.11", USUAL)?)?;
        let mut ours = stage.run(&stage.manifests(&peer("10.99.0.1", WITH_BFD))?)?;
        settle(&stage, &frr, node)?;
        let before = sessions_lost(&ours).len();
        frr.set_bfd(Wanted::Shutdown)?;
        ours.wait_until("our side to hear of it", DETECTION, || {
            stage.ensure_reported("state: Down")?;
            stage.ensure_reported("neighbor signaled session down (3)")
        })?;
        std::thread::sleep(QUIET);
        let lost = sessions_lost(&ours).split_off(before);
        ensure!(lost.is_empty(), "a shutdown of BFD cost {lost:?}");
        frr.ensure_established(node)?;
        frr.set_bfd(Wanted::Up)?;
        ours.wait_until("BFD again", SESSION, || ensure_up(&stage, &frr, node))
    })
}

/// The same from our side: BFD is not asked for any more, and we end nothing. `theirs` is what the router makes of our AdminDown: both
/// take it for a failure, which RFC 5882 section 3.2 does not.
fn we_shut_bfd_down_on_purpose(name: &str, start: Start, theirs: &str) -> Result<()> {
    scene(&format!("we shut BFD with {name} down"), |scene| {
        let stage = Stage::build(scene)?;
        let node: IpAddr = "10.99.0.11".parse().context("no address")?;
        let router = start(&stage, &neighbor("10.99.0.11", USUAL)?)?;
        let manifests = stage.manifests(&peer("10.99.0.1", WITH_BFD))?;
        let mut ours = stage.run(&manifests)?;
        settle(&stage, router.as_ref(), node)?;
        let before = sessions_lost(&ours).len();
        manifests.write("peer.yaml", &peer("10.99.0.1", ""))?;
        wait_until("the router to hear of it", DETECTION, || {
            let state = router.bfd(node)?;
            ensure!(!state.eq_ignore_ascii_case("up"), "{name}'s BFD session is {state}");
            Ok(())
        })?;
        std::thread::sleep(QUIET);
        match &sessions_lost(&ours)[before..] {
            [] => scene.step(&format!("{name} lets BGP alone, as it should")),
            [line] if line.contains(theirs) => scene.step(&format!("{name} makes of our AdminDown: {theirs}")),
            lost => bail!("our shutdown of BFD cost {lost:?}, which is not the router's own {theirs:?}"),
        }
        ours.wait_until("BGP without BFD", SESSION, || router.ensure_established(node))?;
        manifests.write("peer.yaml", &peer("10.99.0.1", WITH_BFD))?;
        ours.wait_until("BFD again", SESSION, || ensure_up(&stage, router.as_ref(), node))
    })
}

#[test]
fn we_shut_bfd_with_frr_down_on_purpose() -> Result<()> {
    we_shut_bfd_down_on_purpose("FRR", start_frr, "peer closed the session: BFD Down (6/10)")
}

#[test]
fn we_shut_bfd_with_bird_down_on_purpose() -> Result<()> {
    we_shut_bfd_down_on_purpose("BIRD", start_bird, "(6/0)")
}

/// AdminDown leaves before anything that ends BGP, so that the router need not take our silence for a failure (RFC 5882 section 3.2).
#[test]
fn a_stop_for_good_says_so_first() -> Result<()> {
    scene("stop with FRR", |scene| {
        let stage = Stage::build(scene)?;
        let node: IpAddr = "10.99.0.11".parse().context("no address")?;
        let frr = Frr::start(scene, &stage.router, &neighbor("10.99.0.11", USUAL)?)?;
        let capture = Capture::start(scene, &stage.node, "stop")?;
        let mut ours = stage.run(&stage.manifests(&peer("10.99.0.1", WITH_BFD))?)?;
        settle(&stage, &frr, node)?;
        ours.wait_until("the route", SESSION, || frr.ensure_next_hops(PREFIX, &["10.99.0.11"]))?;
        let status = ours.terminate(product::GRACE)?;
        ensure!(status.success(), "after SIGTERM roadstead ended with {status}");
        wait_until("FRR to forget the route", DETECTION, || frr.ensure_next_hops(PREFIX, &[]))?;
        let trace = capture.finish()?;
        let farewell = trace.first("10.99.0.11", "bfd.sta == 0")?;
        let end = trace.first("10.99.0.11", "tcp.flags.fin == 1 || bgp.type == 3")?;
        ensure!(farewell < end, "AdminDown is packet {farewell}, and the end of BGP packet {end}");
        scene.step(&format!("AdminDown was packet {farewell}, the end of BGP packet {end}"));
        Ok(())
    })
}

/// What a router has of our route, asked again and again from another thread.
struct Watcher<'a> {
    has_route: &'a (dyn Fn() -> Result<bool> + Sync),
    samples: Mutex<Vec<(Instant, bool)>>,
    ends: AtomicBool,
}

impl Watcher<'_> {
    fn run(&self) {
        while !self.ends.load(Ordering::Relaxed) {
            // A router that cannot be asked has no route.
            let has = (self.has_route)().unwrap_or(false);
            self.samples.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), has));
        }
    }

    /// How often the route was there and how often not since the last time; and the longest time for which it was not.
    fn seen(&self) -> (usize, usize, Duration) {
        let samples = std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner));
        let mut longest = Duration::ZERO;
        let mut present = samples.first().map(|(at, _)| *at);
        for (at, has) in &samples {
            if *has {
                present = Some(*at);
            } else if let Some(since) = present {
                longest = longest.max(*at - since);
            }
        }
        let with = samples.iter().filter(|(_, has)| *has).count();
        (with, samples.len() - with, longest)
    }
}

/// A planned restart with graceful restart beside BFD. The router sees TCP end and keeps our routes before it hears AdminDown, so BFD costs
/// none of them: not while nobody is there, for several detection times, and not when BFD comes up again.
fn planned_restart(
    scene: &Scene,
    stage: &Stage<'_>,
    router: &dyn Router,
    has_route: &(dyn Fn() -> Result<bool> + Sync),
) -> Result<()> {
    let node: IpAddr = "10.99.0.11".parse().context("no address")?;
    let manifests = stage.manifests(&peer("10.99.0.1", ", bfd: {}, gracefulRestart: {}"))?;
    let capture = Capture::start(scene, &stage.node, "restart")?;
    let mut ours = stage.run(&manifests)?;
    settle(stage, router, node)?;
    ours.wait_until("the route", SESSION, || router.ensure_next_hops(PREFIX, &["10.99.0.11"]))?;
    ensure!(has_route()?, "the watcher does not see the route");

    let watcher = Watcher { has_route, samples: Mutex::default(), ends: AtomicBool::new(false) };
    std::thread::scope(|threads| {
        threads.spawn(|| watcher.run());
        let outcome = restart_under(scene, stage, router, &manifests, ours, &watcher);
        watcher.ends.store(true, Ordering::Relaxed);
        outcome
    })?;

    let trace = capture.finish()?;
    let farewell = trace.first("10.99.0.11", "bfd.sta == 0")?;
    let end = trace.first("10.99.0.11", "tcp.srcport && tcp.flags.fin == 1")?;
    ensure!(end < farewell, "the end of BGP is packet {end}, and AdminDown packet {farewell}");
    scene.step(&format!("the end of BGP was packet {end}, AdminDown packet {farewell}"));
    Ok(())
}

fn restart_under(
    scene: &Scene,
    stage: &Stage<'_>,
    router: &dyn Router,
    manifests: &Manifests,
    ours: Process,
    watcher: &Watcher<'_>,
) -> Result<()> {
    let node: IpAddr = "10.99.0.11".parse().context("no address")?;
    let name = router.name();
    let status = ours.terminate(product::GRACE)?;
    ensure!(status.success(), "after SIGTERM roadstead ended with {status}");
    wait_until("the router to see the end", DETECTION, || {
        ensure!(router.ensure_established(node).is_err(), "the session is still up");
        Ok(())
    })?;
    std::thread::sleep(QUIET);
    let (with, without, _) = watcher.seen();
    ensure!(without == 0 && with > 20, "{name} had the route {with} times and not {without} times while we were away");
    scene.step(&format!("{name} had the route all {with} times that it was asked while we were away"));

    let mut ours = stage.run(manifests)?;
    ours.wait_until("both sessions", SESSION, || ensure_up(stage, router, node))?;
    settle(stage, router, node)?;
    let lost = sessions_lost(&ours);
    ensure!(lost.is_empty(), "the new session was lost: {lost:?}");
    let (with, without, longest) = watcher.seen();
    ensure!((watcher.has_route)()?, "the route is gone");
    scene.step(&format!("we are back: {with} times with the route, {without} without, {longest:?} at the longest"));
    Ok(())
}

#[test]
fn a_planned_restart_costs_frr_no_route() -> Result<()> {
    scene("restart with FRR", |scene| {
        let stage = Stage::build(scene)?;
        let frr = Frr::start(scene, &stage.router, &neighbor("10.99.0.11", USUAL)?)?;
        // What packets follow, and not only what bgpd believes.
        let in_kernel = || Ok(stage.router.ip("-4 route show 203.0.113.10")?.contains("10.99.0.11"));
        planned_restart(scene, &stage, &frr, &in_kernel)
    })
}

#[test]
fn a_planned_restart_costs_bird_no_route() -> Result<()> {
    scene("restart with BIRD", |scene| {
        let stage = Stage::build(scene)?;
        let bird = Bird::start(scene, &stage.router, &neighbor("10.99.0.11", USUAL)?)?;
        bird.edit("bfd on;", "bfd graceful;")?;
        let in_table = || bird.ensure_next_hops(PREFIX, &["10.99.0.11"]).map(|()| true);
        planned_restart(scene, &stage, &bird, &in_table)
    })
}

/// What BIRD makes of a planned restart with `bfd on`: to it a path that BFD has lost is lost while it waits for us as well.
#[test]
fn bird_needs_bfd_graceful_for_a_planned_restart() -> Result<()> {
    scene("restart with BIRD and bfd on", |scene| {
        let stage = Stage::build(scene)?;
        let node: IpAddr = "10.99.0.11".parse().context("no address")?;
        let bird = Bird::start(scene, &stage.router, &neighbor("10.99.0.11", USUAL)?)?;
        let mut ours = stage.run(&stage.manifests(&peer("10.99.0.1", ", bfd: {}, gracefulRestart: {}"))?)?;
        settle(&stage, &bird, node)?;
        ours.wait_until("the route", SESSION, || bird.ensure_next_hops(PREFIX, &["10.99.0.11"]))?;
        let status = ours.terminate(product::GRACE)?;
        ensure!(status.success(), "after SIGTERM roadstead ended with {status}");
        wait_until("BIRD to forget the route", DETECTION, || bird.ensure_next_hops(PREFIX, &[]))
    })
}

/// RFC 5883, through a router in between. BIRD is not here: it sends with TTL 64, which is told by `minimumTTL`.
#[test]
fn frr_behind_a_router() -> Result<()> {
    scene("multihop BFD with FRR", |scene| {
        let (near, far) = (Fabric::new(scene, "near")?, Fabric::new(scene, "far")?);
        let node = near.machine(scene, "node", &["10.99.0.11/24"])?;
        let router = far.machine(scene, "router", &["10.98.0.1/24"])?;
        let between = near.machine(scene, "between", &["10.99.0.254/24"])?;
        far.plug(&between, "eth1", &["10.98.0.254/24"])?;
        between.forward()?;
        node.ip("route add default via 10.99.0.254")?;
        router.ip("route add default via 10.98.0.254")?;
        let stage = Stage { scene, router, node };
        let address: IpAddr = "10.99.0.11".parse().context("no address")?;
        let config = neighbor("10.99.0.11", Bfd { hops: Hops::Multi, ..USUAL })?;
        let frr = Frr::start(scene, &stage.router, &config)?;
        let capture = Capture::start(scene, &stage.node, "multihop")?;
        let fields = ", ebgpMultihop: {ttl: 4}, bfd: {minimumTTL: 254}";
        let mut ours = stage.run(&stage.manifests(&peer("10.98.0.1", fields))?)?;
        ours.wait_until("both sessions", SESSION, || ensure_up(&stage, &frr, address))?;
        between.ip("link set eth1 down")?;
        wait_for_words(&mut ours, "BFD session down: control detection time expired (1)")?;
        let trace = capture.finish()?;
        trace.first("10.99.0.11", "udp.dstport == 4784 && udp.srcport >= 49152 && ip.ttl == 255")?;
        trace.ensure_well_formed("bfd", "10.99.0.11")
    })
}

/// Busy loops, as many as would keep the processors busy twice over; they end with the test.
fn keep_busy(scene: &Scene) -> Result<Vec<Process>> {
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut command = Command::new("sh");
    command.args(["-c", "while :; do :; done"]);
    (0..processors * 2).map(|number| Process::start(scene, &format!("busy-{number}"), &command)).collect()
}

/// 3 x 300 ms on a busy machine, by a speaker that is scheduled as anybody: nothing flaps, on neither side.
#[test]
fn a_busy_machine_holds_its_sessions() -> Result<()> {
    scene("BFD under load, with FRR", |scene| {
        let stage = Stage::build(scene)?;
        let node: IpAddr = "10.99.0.11".parse().context("no address")?;
        let frr = Frr::start(scene, &stage.router, &neighbor("10.99.0.11", USUAL)?)?;
        let ours = stage.run_without_priority(&stage.manifests(&peer("10.99.0.1", WITH_BFD))?)?;
        let downs = settle(&stage, &frr, node)?;
        let before = sessions_lost(&ours).len();
        let busy = keep_busy(scene)?;
        std::thread::sleep(LOAD);
        drop(busy);
        ensure_up(&stage, &frr, node)?;
        let lost = sessions_lost(&ours).split_off(before);
        ensure!(lost.is_empty() && stage.downs()? == downs, "lost under load: {lost:?}");
        let report =
            fs::read_to_string(scene.directory().join("state-node-1/nodereports/node-1.yaml")).context("no report")?;
        ensure!(report.contains("bfdScheduling: ordinary"), "the report does not say how BFD is scheduled: {report}");
        scene.step(&format!("3 x 300 ms held for {LOAD:?} with every processor busy twice"));
        Ok(())
    })
}

/// 3 x 50 ms is a matter of the machine and of the other side too: how it goes is told, and only that it comes back is asked.
#[test]
fn a_busy_machine_at_fifty_milliseconds() -> Result<()> {
    scene("BFD at 3 x 50 ms under load, with FRR", |scene| {
        let stage = Stage::build(scene)?;
        let node: IpAddr = "10.99.0.11".parse().context("no address")?;
        let frr = Frr::start(scene, &stage.router, &neighbor("10.99.0.11", Bfd { milliseconds: 50, ..USUAL })?)?;
        let fields = ", bfd: {transmitIntervalMilliseconds: 50, receiveIntervalMilliseconds: 50}";
        let ours = stage.run(&stage.manifests(&peer("10.99.0.1", fields))?)?;
        settle(&stage, &frr, node)?;
        let before = ours.log().len();
        let busy = keep_busy(scene)?;
        std::thread::sleep(LOAD);
        drop(busy);
        let log = ours.log();
        let count = |words: &str| log[before..].lines().filter(|line| line.contains(words)).count();
        scene.step(&format!(
            "3 x 50 ms under load for {LOAD:?}: we lost FRR {} times, FRR lost us {} times",
            count("BFD session down: control detection time expired"),
            count("BFD session down: neighbor signaled session down"),
        ));
        settle(&stage, &frr, node).map(drop)
    })
}
