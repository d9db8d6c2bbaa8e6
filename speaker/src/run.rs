//! The speaker's one task: store events go into the [`Picture`], what changes goes to the engine.
//!
//! ```text
//!  store events --> [ Picture: sessions, Intent ]--- set / remove, route changes --> engine (bgp::driver) <--> routers
//!                                                          NodeReport, metrics <--- events, status --'
//! ```
//!
//! Nothing is told to a router before every store has synced: half a picture would withdraw what the other half wants. From then
//! on every batch of events is acted on at once; there is no timer between an event and the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use roadstead_api::OwnerReference;
use roadstead_api::kinds::{NodeReport, ReportText};
use roadstead_api::store::{Event, Kind, Store, Watch};
use roadstead_bgp::driver::{self, Driver, DriverConfig, EventReceiver, Handle, RecordTo};
use roadstead_bgp::{
    Event as EngineEvent, PeerConfig, PeerKey, RouteFilter, RouteQuery, RouteTable, SessionState, Shutdown,
};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::fib::{self, Fib, FibOptions, FibStatus};
use crate::http::{self, Telemetry};
use crate::intent::Audience;
use crate::links::{self, LinkChanges};
use crate::local;
use crate::node::LocalNode;
use crate::picture::{Picture, Sessions, Viewpoint};
use crate::pods::{JournalError, PodOptions, Pods};
use crate::report::{self, Moment};
use crate::session::Refusal;

/// How a speaker is to run.
#[derive(Clone)]
pub struct Options {
    /// For which node, and how it sees the store.
    pub viewpoint: Viewpoint,
    /// Where `/metrics`, `/livez` and `/readyz` are served; `None`: nowhere.
    pub metrics_address: Option<SocketAddr>,
    /// The port that passive and listening peers are accepted on.
    pub listen_port: u16,
    /// The Unix socket on which an operator on the node may look at sessions and routes; `None`: nowhere.
    pub socket: Option<PathBuf>,
    /// How pods get addresses; `None`: they get none here.
    pub pods: Option<PodOptions>,
    /// Where every input of the BGP engine is written down, to be replayed; `None`: nowhere.
    pub record: Option<RecordTo>,
}

/// Why a speaker could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The engine could not start.
    #[error("the BGP engine cannot start: {0}")]
    Engine(#[source] std::io::Error),
    /// The metrics address could not be bound.
    #[error("cannot listen on {address} for metrics and probes: {source}; choose another with --metrics-address")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Pods' addresses could not be kept.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The engine ended by itself.
    #[error(transparent)]
    Stopped(#[from] driver::Stopped),
}

/// Changes are collected for so long before a report is written, so that a burst costs one write.
const REPORT_DELAY: Duration = Duration::from_secs(1);
/// A report is written at least so often: its silence means that nobody knows.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How often it is looked whether routers have dropped a prefix that they are not to know.
const WITHDRAWAL_LOOK: Duration = Duration::from_secs(1);
/// How long a withdrawal may take from a session's queue through the routers.
const WITHDRAWAL_SETTLES: Duration = Duration::from_secs(2);
/// When a router that we have no session with has dropped our routes: the restart time that we ask for, and a hold time.
const FORGOTTEN: Duration = Duration::from_secs(240);
/// Routes that a former run has left in the kernel stay so long unless they are learnt again: other clusters' gateways call again
/// sooner.
const ADOPTED: Duration = Duration::from_secs(120);
/// Events taken at once. A burst of them becomes few, well-packed UPDATEs.
const BATCH: usize = 512;

/// Why a speaker is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It will be started again: routers that have agreed to graceful restart keep its routes.
    Restart,
    /// It will not: its routes are withdrawn.
    Leave,
}

/// Runs until `shutdown` ends; then every session is closed, as that says.
pub async fn run(store: Store, options: Options, shutdown: impl Future<Output = Ending>) -> Result<(), RunError> {
    let metrics_listener = match options.metrics_address {
        None => None,
        Some(address) => Some(http::bind(address).await.map_err(|source| RunError::Metrics { address, source })?),
    };
    let config = DriverConfig { listen: Vec::new(), seed: seed(), record: options.record };
    let (engine, engine_events) = Driver::start(config).map_err(RunError::Engine)?;
    let telemetry = Telemetry::new(engine.clone());
    let mut tasks = tokio::task::JoinSet::new();
    if let Some(listener) = metrics_listener {
        tasks.spawn(http::serve(listener, telemetry.clone()));
    }
    let source = local::Source::new(engine.clone(), &options.viewpoint.node);
    let (node, unknown_pods) = (&options.viewpoint.node, options.viewpoint.missing_node);
    let pods = options.pods.map(|pods| Pods::open(store.clone(), node, unknown_pods, &pods)).transpose()?;
    if let Some(path) = &options.socket {
        local::start(path, source.clone(), pods.as_ref());
    }
    if let Some(pods) = &pods {
        tasks.spawn(pods.clone().tend());
    }
    let (reports, report_inbox) = watch::channel(None);
    tasks.spawn(write_reports(store.clone(), report_inbox));
    let mut watches = options.viewpoint.watches();
    if pods.is_some() {
        let of_pods = Pods::watches(&options.viewpoint.node).into_iter();
        watches.extend(of_pods.filter(|watch| *watch != Watch::all(Kind::PodPool)));
    }
    let events = store.watch(watches);
    let farewell = format!("the speaker of node {} stops", options.viewpoint.node);
    let mut speaker = Speaker {
        picture: Picture::new(options.viewpoint).with_uptime(uptime()).with_listen_port(options.listen_port),
        engine: engine.clone(),
        telemetry,
        source,
        pods,
        reports,
        sessions: BTreeMap::new(),
        incomplete: BTreeSet::new(),
        refused: BTreeMap::new(),
        listen_port: options.listen_port,
        listening: BTreeSet::new(),
        follows: false,
        has_learned: false,
        fib: None,
        fib_news: None,
    };
    let ending = tokio::select! {
        result = speaker.run(events, engine_events) => {
            result?;
            Ending::Leave
        }
        ending = shutdown => ending,
    };
    let shutdown = match ending {
        Ending::Restart => Shutdown::Restart(farewell),
        Ending::Leave => Shutdown::Leave(farewell),
    };
    engine.shutdown(shutdown).await;
    if let Some(fib) = speaker.fib.take() {
        let keeps = ending == Ending::Restart && speaker.picture.links().survive_restart();
        let ending = if keeps { fib::Ending::Keep } else { fib::Ending::Remove };
        let _ = tokio::task::spawn_blocking(move || fib.close(ending)).await;
    }
    Ok(())
}

struct Speaker {
    picture: Picture,
    engine: Handle,
    telemetry: Telemetry,
    source: local::Source,
    /// Addresses for pods, where they are served.
    pods: Option<Pods>,
    reports: watch::Sender<Option<NodeReport>>,
    listen_port: u16,
    /// Where sessions are waited for.
    listening: BTreeSet<SocketAddr>,
    /// Whether learned routes are asked for: from the first link on.
    follows: bool,
    /// Whether there may be some that have not been taken in.
    has_learned: bool,
    /// Learned routes in the kernel, from the first link on.
    fib: Option<Fib>,
    fib_news: Option<watch::Receiver<Arc<FibStatus>>>,
    /// The sessions that the engine was given.
    sessions: BTreeMap<PeerKey, PeerConfig>,
    /// New ones that have not been told everything yet that is known from the start.
    incomplete: BTreeSet<PeerKey>,
    /// Peers that select this node and have no session; with their address.
    refused: BTreeMap<PeerKey, (String, Refusal)>,
}

impl Speaker {
    async fn run(
        &mut self,
        mut events: mpsc::Receiver<Event>,
        mut engine_events: EventReceiver,
    ) -> Result<(), RunError> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut next_report = Instant::now() + REPORT_DELAY;
        let mut next_withdrawal = Instant::now();
        loop {
            tokio::select! {
                count = events.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        // A store's stream never ends by itself; if it did, the sessions would be worth more than an exit.
                        std::future::pending::<()>().await;
                    }
                    for event in batch.drain(..) {
                        if let Some(pods) = &self.pods {
                            pods.handle(&event);
                        }
                        for invalid in self.picture.handle(event).err().unwrap_or_default() {
                            tracing::warn!("{invalid}; its last good version stays in force");
                        }
                    }
                    self.act().await?;
                    next_report = next_report.min(Instant::now() + REPORT_DELAY);
                    next_withdrawal = next_withdrawal.min(Instant::now() + WITHDRAWAL_LOOK);
                }
                event = engine_events.recv() => {
                    // The engine has put it into the log; here it is news for the report.
                    self.has_learned |=
                        matches!(event.ok_or(driver::Stopped)?, EngineEvent::RoutesChanged | EngineEvent::Missed { .. });
                    next_report = next_report.min(Instant::now() + REPORT_DELAY);
                }
                () = news(self.pods.as_ref()) => {
                    self.act().await?;
                    next_report = next_report.min(Instant::now() + REPORT_DELAY);
                    next_withdrawal = next_withdrawal.min(Instant::now() + WITHDRAWAL_LOOK);
                }
                () = std::future::ready(()), if self.has_learned => {
                    self.learn().await?;
                    next_report = next_report.min(Instant::now() + REPORT_DELAY);
                }
                () = kernel_news(self.fib_news.as_mut()) => {
                    self.look_at_kernel().await?;
                    next_report = next_report.min(Instant::now() + REPORT_DELAY);
                }
                () = tokio::time::sleep_until(next_withdrawal) => {
                    let is_done = self.look_for_withdrawals().await?;
                    next_withdrawal = Instant::now() + if is_done { HEARTBEAT } else { WITHDRAWAL_LOOK };
                }
                () = tokio::time::sleep_until(next_report) => {
                    self.report().await?;
                    next_report = Instant::now() + HEARTBEAT;
                }
            }
        }
    }

    /// Tells the engine what changed.
    async fn act(&mut self) -> Result<(), RunError> {
        if !self.picture.unsynced().is_empty() {
            return Ok(());
        }
        // Asked before what there is to tell, which is all there is then.
        let are_pods_settled = self.pods.as_ref().is_none_or(Pods::is_settled);
        if let Some(wanted) = self.pods.as_ref().and_then(Pods::new_announcements) {
            self.picture.intent().set_pods(wanted);
        }
        if self.picture.take_stale_sessions() {
            let new_sessions = self.renew_sessions().await?;
            self.incomplete.extend(new_sessions);
        }
        for (peer, changes) in self.picture.intent().changes() {
            self.engine.update_routes(peer, changes).await?;
        }
        self.act_on_links().await?;
        // What routers kept over our restart they drop when we have told them all, so pods' prefixes have to be among it. Services
        // do not wait for that.
        if are_pods_settled {
            for peer in std::mem::take(&mut self.incomplete) {
                if self.sessions.contains_key(&peer) {
                    self.engine.initial_set_complete(peer).await?;
                }
            }
        }
        self.telemetry.set_ready();
        Ok(())
    }

    /// Takes in what the kernel is connected to.
    async fn look_at_kernel(&mut self) -> Result<(), RunError> {
        let Some(fib) = &self.fib else { return Ok(()) };
        let connected = fib.status().connected.iter().map(|c| (c.network, c.interface.clone())).collect();
        self.picture.links().set_connected(&connected);
        self.act_on_links().await
    }

    /// Takes in which learned routes have changed, a batch at a time: whoever changes them without end keeps nothing else waiting.
    async fn learn(&mut self) -> Result<(), RunError> {
        let changed = if self.follows { self.engine.changed_routes(BATCH).await? } else { Vec::new() };
        // What changes from now on is said again.
        self.has_learned = changed.len() == BATCH;
        if changed.is_empty() {
            return Ok(());
        }
        self.picture.links().handle_routes(changed);
        self.act_on_links().await
    }

    /// Tells what links have to be told, and has the kernel routed as they say.
    async fn act_on_links(&mut self) -> Result<(), RunError> {
        if !self.picture.unsynced().is_empty() {
            return Ok(());
        }
        if !self.follows && self.picture.links().is_wanted() {
            (self.follows, self.has_learned) = (true, true);
            self.engine.follow_routes().await?;
            match fib::start(FibOptions { keep: ADOPTED }) {
                Ok(fib) => {
                    self.fib_news = Some(fib.subscribe());
                    self.fib = Some(fib);
                }
                Err(error) => tracing::error!("learned routes are not installed: {error}"),
            }
        }
        let LinkChanges { routes, kernel } = self.picture.links().changes();
        if let Some(fib) = &self.fib {
            fib.set(kernel);
            if let Some((sources, destinations)) = self.picture.links().new_unmasqueraded() {
                fib.set_unmasqueraded(sources, destinations);
            }
        }
        for (peer, changes) in routes {
            self.engine.update_routes(peer, changes).await?;
        }
        Ok(())
    }

    /// Brings the engine's sessions up to date with the picture. Returns those that are new.
    async fn renew_sessions(&mut self) -> Result<Vec<PeerKey>, RunError> {
        let Sessions { mut wanted, mut refused } = self.picture.sessions();
        for (key, (address, refusal)) in self.listen(&wanted).await? {
            wanted.remove(&key);
            refused.insert(key, (address, refusal));
        }
        let gone: Vec<PeerKey> = self.sessions.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in gone {
            tracing::info!(peer = %key, "session removed");
            self.sessions.remove(&key);
            self.picture.intent().remove_peer(&key);
            self.engine.remove_peer(key).await?;
        }
        let mut new_sessions = Vec::new();
        let mut again = BTreeMap::new();
        for (key, (config, audience)) in wanted {
            match self.set_session(&key, &config, &mut new_sessions).await? {
                Ok(()) => self.picture.intent().set_peer(key, audience),
                Err(_) => drop(again.insert(key, (config, audience))),
            }
        }
        // What did not fit beside another peer as that one was before may fit now.
        for (key, (config, audience)) in again {
            match self.set_session(&key, &config, &mut new_sessions).await? {
                Ok(()) => self.picture.intent().set_peer(key, audience),
                Err(refusal) => drop(refused.insert(key, (config.transport.router(), refusal))),
            }
        }
        for (key, (_, refusal)) in &refused {
            if self.refused.get(key).map(|(_, before)| before) != Some(refusal) {
                tracing::warn!("{}: no session: {refusal}", links::described(key));
            }
        }
        self.source.set_refused(refused.clone());
        self.refused = refused;
        self.picture.links().set_sessions(self.sessions.keys());
        new_sessions.iter().for_each(|key| self.picture.links().renew_session(key));
        Ok(new_sessions)
    }

    /// What the engine does not take has no session, as with anything else that refuses one: the session as it was before may
    /// be what is in the way of another.
    async fn set_session(
        &mut self,
        key: &PeerKey,
        config: &PeerConfig,
        new_sessions: &mut Vec<PeerKey>,
    ) -> Result<Result<(), Refusal>, RunError> {
        if self.sessions.get(key) == Some(config) {
            return Ok(Ok(()));
        }
        match self.engine.set_peer(key.clone(), config.clone()).await {
            Ok(()) => {
                if self.sessions.insert(key.clone(), config.clone()).is_none() {
                    tracing::info!(peer = %key, "session added");
                    new_sessions.push(key.clone());
                }
                Ok(Ok(()))
            }
            Err(driver::SetPeerError::Stopped(stopped)) => Err(stopped.into()),
            Err(error) => {
                if self.sessions.remove(key).is_some() {
                    self.picture.intent().remove_peer(key);
                    self.engine.remove_peer(key.clone()).await?;
                }
                Ok(Err(Refusal::Engine { reason: error.to_string() }))
            }
        }
    }

    /// Listens where a peer is passive or says `listen: true`, and nowhere else. A peer that is waited for where nothing can listen
    /// has no session, and says so.
    async fn listen(
        &mut self,
        wanted: &BTreeMap<PeerKey, (PeerConfig, Audience)>,
    ) -> Result<BTreeMap<PeerKey, (String, Refusal)>, RunError> {
        let listening: Vec<(&PeerKey, &PeerConfig)> = wanted
            .iter()
            .map(|(key, (config, _))| (key, config))
            .filter(|(_, config)| config.connect.listens())
            .collect();
        let any = |ipv4| if ipv4 { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let own =
            |config: &PeerConfig| config.transport.source.unwrap_or_else(|| any(config.transport.remote.is_ipv4()));
        let everywhere: BTreeSet<bool> = listening
            .iter()
            .map(|(_, config)| own(config))
            .filter(IpAddr::is_unspecified)
            .map(|ip| ip.is_ipv4())
            .collect();
        // Who listens on all addresses of a family cannot listen on one of them too, and need not.
        let address = |config: &PeerConfig| {
            let ip = own(config);
            SocketAddr::new(if everywhere.contains(&ip.is_ipv4()) { any(ip.is_ipv4()) } else { ip }, self.listen_port)
        };
        let now: BTreeSet<SocketAddr> = listening.iter().map(|(_, config)| address(config)).collect();
        let mut failed = BTreeMap::new();
        for gone in self.listening.difference(&now) {
            self.engine.stop_listening(*gone).await?;
        }
        for address in &now {
            if let Err(error) = self.engine.listen(*address).await {
                failed.insert(*address, error.to_string());
            }
        }
        let refused = listening.iter().filter_map(|(key, config)| {
            let address = address(config);
            let refusal = Refusal::CannotListen { address, reason: failed.get(&address)?.clone() };
            Some(((*key).clone(), (config.transport.router(), refusal)))
        });
        let refused = refused.collect();
        self.listening = now.into_iter().filter(|address| !failed.contains_key(address)).collect();
        Ok(refused)
    }

    /// Looks which prefixes of pods no router knows any more; true where that is all of those that none is to know.
    async fn look_for_withdrawals(&self) -> Result<bool, RunError> {
        let Some(pods) = &self.pods else { return Ok(true) };
        let withdrawing = pods.withdrawing();
        if withdrawing.is_empty() {
            return Ok(true);
        }
        let sessions = self.engine.status().await?;
        for (net, since) in withdrawing {
            let mut is_known = since.elapsed() < WITHDRAWAL_SETTLES;
            for session in &sessions {
                is_known |= match session.state {
                    SessionState::Established => self.tells(&session.key, net).await?,
                    // It may keep what it was told, in the hope that we come back.
                    _ => since.elapsed() < FORGOTTEN,
                };
            }
            if !is_known {
                tracing::info!(%net, "no router knows this prefix any more");
                pods.withdrawn(net);
            }
        }
        Ok(pods.withdrawing().is_empty())
    }

    /// Whether a peer knows a prefix from us.
    async fn tells(&self, peer: &PeerKey, net: IpNet) -> Result<bool, RunError> {
        // It stands before all that lies in it.
        let (table, filter) = (RouteTable::Out(peer.clone()), RouteFilter::Within(net));
        let page = self.engine.routes(RouteQuery { table, filter, after: None, limit: 1 }).await?;
        // A peer that is gone meanwhile knows nothing.
        Ok(page.is_ok_and(|page| page.routes.first().is_some_and(|route| route.prefix == net)))
    }

    /// Blocks of nodes that are gone, and that some router still knows a way to.
    async fn heard(&self) -> Result<BTreeSet<IpNet>, RunError> {
        let mut heard = BTreeSet::new();
        for net in self.pods.as_ref().map(Pods::lost_blocks).unwrap_or_default() {
            if !self.engine.explain(net).await?.is_empty() {
                heard.insert(net);
            }
        }
        Ok(heard)
    }

    async fn report(&mut self) -> Result<(), RunError> {
        let waiting: BTreeSet<&str> = self.picture.unsynced().iter().map(|kind| kind.as_str()).collect();
        if !waiting.is_empty() {
            tracing::warn!(?waiting, "nothing is announced before every store has synced");
            return Ok(());
        }
        let prefixes = self.picture.intent().prefix_count();
        self.telemetry.set_prefixes(prefixes);
        let (sessions, bfd) = (self.engine.status().await?, self.engine.bfd().await?);
        let heard = self.heard().await?;
        let kernel = self.fib.as_ref().map(Fib::status).unwrap_or_default();
        let links = self.picture.links().reports(&sessions, &kernel.missing.keys().copied().collect());
        let Some(node) = self.picture.node() else { return Ok(()) };
        let pods = self.pods.as_ref().map(|pods| pods.report(heard));
        let mut report = report::node_report(node, Moment::now(), prefixes, &sessions, &bfd, &self.refused, pods);
        if let Some(status) = &mut report.status {
            status.links = links;
            status.connected = report::connected(&kernel);
            status.problems = kernel.problems.iter().map(|problem| ReportText::cut(problem)).take(16).collect();
        }
        report.metadata.owner_references = owner_reference(node).map(|owner| vec![owner]);
        self.reports.send_replace(Some(report));
        Ok(())
    }
}

/// Waits until a pod got or gave back an address.
async fn news(pods: Option<&Pods>) {
    match pods {
        Some(pods) => pods.news().await,
        None => std::future::pending().await,
    }
}

/// Waits until the kernel has news for whoever installs learned routes.
async fn kernel_news(news: Option<&mut watch::Receiver<Arc<FibStatus>>>) {
    match news {
        Some(news) => {
            if news.changed().await.is_err() {
                // It has ended, and has nothing to say any more.
                std::future::pending().await
            }
        }
        None => std::future::pending().await,
    }
}

/// Writes the newest report whenever it has news, or as a heartbeat. A slow store delays reports and nothing else.
async fn write_reports(store: Store, mut inbox: watch::Receiver<Option<NodeReport>>) {
    let mut written: Option<(NodeReport, Instant)> = None;
    while inbox.changed().await.is_ok() {
        let Some(report) = inbox.borrow_and_update().clone() else { continue };
        let is_news = written
            .as_ref()
            .is_none_or(|(before, at)| !report::same_news(before, &report) || at.elapsed() >= HEARTBEAT - REPORT_DELAY);
        if !is_news {
            continue;
        }
        match store.write_node_report(&report).await {
            Ok(()) => written = Some((report, Instant::now())),
            Err(error) => tracing::warn!(%error, "the node's report could not be written; the next one will be tried"),
        }
    }
}

/// The report goes when its Node goes.
fn owner_reference(node: &LocalNode) -> Option<OwnerReference> {
    let (api_version, kind) = ("v1".to_owned(), "Node".to_owned());
    let exists = !node.uid.is_empty();
    exists.then(|| OwnerReference {
        api_version,
        kind,
        name: node.name.clone(),
        uid: node.uid.clone(),
        ..OwnerReference::default()
    })
}

/// How long the kernel has run; none where it does not say, which promises nothing.
fn uptime() -> Duration {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text.split_whitespace().next().and_then(|seconds| seconds.parse::<f64>().ok());
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
}

/// The seed of the engine's jitter: nodes that restart together must not dial together.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
