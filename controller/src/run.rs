//! The event loop: one task that owns the plan.
//!
//! ```text
//!  store --events--> [ Plan, Conditions, Clusters ] --writes--> tasks --> store
//!                                 ^---------- results -----------'
//! ```
//!
//! Nothing here decides. A write is started the moment the plan wants it and a task is free for it; each task does one write and
//! ends with its result, so there is no queue beside the plan's own, and at most one write under way for an object.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use jiff::Timestamp;
use roadstead_api::checked::{ClaimName, Network, ServiceKey};
use roadstead_api::store::{Event as StoreEvent, Kind, Object, Store, Watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::clusters::{self, Clusters};
use crate::conditions::{Conditions, StatusWrite};
use crate::metrics::{Metrics, listen};
use crate::plan::{Classes, Event, NodeLoss, NodePods, Now, Plan, WriteResult};
use crate::{edge, writer};

/// What the plan and the conditions depend on.
const WATCHED: [Kind; 13] = [
    Kind::AddressPool,
    Kind::PodPool,
    Kind::AddressClaim,
    Kind::Service,
    Kind::Namespace,
    Kind::Node,
    Kind::BgpPeer,
    Kind::Advertisement,
    Kind::NodeReport,
    Kind::ClusterNetwork,
    Kind::ClusterLink,
    Kind::EdgeHost,
    Kind::ServiceCidr,
];

/// Writes under way that addresses wait for: enough to keep an API server busy over one connection, few enough that a burst of
/// Services does not crowd out everybody else's requests there.
const ADDRESS_WRITES: usize = 16;

/// Writes under way that only people wait for: apart from the others, so that they never stand in their way.
const REPORT_WRITES: usize = 4;

/// Events taken in before writes are started: a whole burst need not wait for its first write, nor a write for a whole burst.
const EVENTS_AT_ONCE: usize = 64;

/// Time before a question that got no answer is asked again.
const QUESTION_PAUSE: Duration = Duration::from_secs(60);

/// How old metrics may be.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);

/// How long writes under way may take to end at shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// How the controller runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which Services are ours.
    pub classes: Classes,
    /// What becomes of the claims of a node that is gone.
    pub node_loss: NodeLoss,
    /// Where metrics and health are served; `None`: nowhere.
    pub metrics_address: Option<SocketAddr>,
}

/// Why the controller cannot run, or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The address for metrics cannot be had.
    #[error("cannot serve metrics on {address}: {error}; choose another with --metrics-address")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        error: std::io::Error,
    },
    /// The metrics are at odds with each other.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The store tells nothing any more.
    #[error("the store ended its watch")]
    WatchEnded,
    /// A writer panicked: what it did is not known any more, so going on would be guessing.
    #[error("a writer failed: {0}")]
    Writer(#[from] JoinError),
}

/// Assigns addresses and keeps conditions until `shutdown` is ready.
pub async fn run(store: Store, options: Options, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let metrics = Metrics::new()?;
    let mut server = JoinSet::new();
    if let Some(address) = options.metrics_address {
        let listener = listen(address).await?;
        info!(%address, "serving /metrics, /livez and /readyz");
        server.spawn(metrics.clone().serve(listener));
    }
    let mut events = store.watch(WATCHED.into_iter().map(Watch::all).collect());
    let mut shutdown = pin!(shutdown);
    let mut desk = Desk::new(options.classes, options.node_loss);
    let mut address_writes: JoinSet<Option<WriteResult>> = JoinSet::new();
    let mut report_writes: JoinSet<Finished> = JoinSet::new();
    let mut questions: JoinSet<Vec<IpNet>> = JoinSet::new();
    let mut batch = Vec::with_capacity(EVENTS_AT_ONCE);
    let mut ticks = tokio::time::interval(METRICS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        while address_writes.len() < ADDRESS_WRITES
            && let Some(write) = desk.plan.poll_write()
        {
            let (store, metrics) = (store.clone(), metrics.clone());
            address_writes.spawn(async move { writer::perform(&store, &metrics, write).await });
        }
        while report_writes.len() < REPORT_WRITES
            && let Some(write) = desk.poll_report()
        {
            let (store, metrics) = (store.clone(), metrics.clone());
            report_writes.spawn(async move { write.perform(&store, &metrics).await });
        }
        if desk.asks_for_service_ranges() {
            questions.spawn(service_ranges(store.clone()));
        }
        let deadline = desk.next_deadline();
        tokio::select! {
            () = &mut shutdown => break,
            Some(result) = address_writes.join_next() => {
                if let Some(result) = result? {
                    desk.plan.handle_result(now(), result);
                }
            }
            Some(result) = report_writes.join_next() => desk.finish(result?),
            received = events.recv_many(&mut batch, EVENTS_AT_ONCE) => {
                if received == 0 {
                    return Err(RunError::WatchEnded);
                }
                for event in batch.drain(..) {
                    desk.handle(event, &metrics);
                }
            }
            Some(ranges) = questions.join_next() => desk.clusters.set_service_ranges(ranges?),
            () = sleep_until(deadline) => desk.handle_deadline(),
            _ = ticks.tick() => metrics.update(&desk.plan),
        }
    }
    info!("stopping");
    let finish = async {
        while address_writes.join_next().await.is_some() {}
        while report_writes.join_next().await.is_some() {}
    };
    if tokio::time::timeout(SHUTDOWN_GRACE, finish).await.is_err() {
        // Whatever they leave undone is found and finished at the next start.
        warn!("writes were still under way at the end");
    }
    Ok(())
}

/// What the one task owns.
struct Desk {
    plan: Plan,
    conditions: Conditions,
    clusters: Clusters,
    /// Kinds that were not told in full yet.
    awaited: BTreeSet<Kind>,
    /// Whether the API server was asked where ClusterIPs come from.
    has_asked: bool,
}

/// A write that only people wait for.
enum Report {
    Plan(crate::plan::Write),
    Conditions(StatusWrite),
    Clusters(clusters::StatusWrite),
}

/// How it ended.
enum Finished {
    Plan(Option<WriteResult>),
    Conditions(StatusWrite, bool),
    Clusters(clusters::StatusWrite, bool),
}

impl Report {
    async fn perform(self, store: &Store, metrics: &Metrics) -> Finished {
        match self {
            Self::Plan(write) => Finished::Plan(writer::perform(store, metrics, write).await),
            Self::Conditions(write) => {
                let (kind, name, status) = write.parts();
                let done = writer::write_status(store, metrics, kind, name, &status).await;
                Finished::Conditions(write, done)
            }
            Self::Clusters(write) => {
                let (kind, name, status) = write.parts();
                let done = writer::write_status(store, metrics, kind, name, &status).await;
                Finished::Clusters(write, done)
            }
        }
    }
}

impl Desk {
    fn new(classes: Classes, node_loss: NodeLoss) -> Self {
        Self {
            plan: Plan::new(classes).with_node_loss(node_loss),
            conditions: Conditions::default(),
            clusters: Clusters::default(),
            awaited: BTreeSet::from(WATCHED),
            has_asked: false,
        }
    }

    fn handle(&mut self, event: StoreEvent, metrics: &Metrics) {
        let now = now();
        match event {
            StoreEvent::Applied(object) => self.handle_applied(now, &object),
            StoreEvent::Deleted(key, uid) => {
                self.clusters.delete(&key);
                let event = match key.kind {
                    Kind::AddressPool => Event::PoolDeleted(key.name),
                    Kind::AddressClaim => match ClaimName::net(&key.name) {
                        Some(net) => Event::ClaimDeleted(net, uid),
                        None => return,
                    },
                    Kind::Service => {
                        let (namespace, name) = (key.namespace, key.name);
                        Event::ServiceDeleted(ServiceKey { namespace, name }, uid)
                    }
                    Kind::Namespace => Event::NamespaceDeleted(key.name),
                    Kind::Node => {
                        self.plan.handle_event(now, Event::NodeDeleted(key.name.clone()));
                        Event::Reserved(key.object(), BTreeSet::new())
                    }
                    Kind::BgpPeer => {
                        self.conditions.delete_peer(&key.name);
                        Event::Reserved(key.object(), BTreeSet::new())
                    }
                    Kind::Advertisement => return self.conditions.delete_advertisement(&key.name),
                    Kind::NodeReport => {
                        self.conditions.delete_report(&key.name);
                        self.clusters.handle_report();
                        Event::PodsReported(key.name, NodePods::default())
                    }
                    Kind::PodPool => Event::PodPoolDeleted(key.name),
                    Kind::ClusterNetwork if key.name == Network::NAME => Event::NetworkApplied(None),
                    Kind::EdgeHost => Event::EdgeHostDeleted(uid),
                    Kind::ClusterLink
                    | Kind::ClusterNetwork
                    | Kind::RouteServer
                    | Kind::EndpointSlice
                    | Kind::Pod
                    | Kind::Secret
                    | Kind::ServiceCidr => return,
                };
                self.plan.handle_event(now, event);
            }
            StoreEvent::Synced(kind) => {
                self.awaited.remove(&kind);
                if self.awaited.is_empty() && !self.plan.is_synced() {
                    info!("everything that exists is known; assigning addresses");
                    self.plan.handle_event(now, Event::Synced);
                    self.conditions.handle_synced(now);
                    self.clusters.handle_synced();
                    metrics.set_ready();
                }
            }
        }
    }

    fn handle_applied(&mut self, now: Now, object: &Object) {
        self.clusters.apply(object);
        let event = match object {
            Object::AddressPool(raw) => edge::pool(raw),
            Object::AddressClaim(raw) => match edge::claim(raw) {
                Ok(claim) => Event::ClaimApplied(claim),
                Err(invalid) => return warn!(%invalid, "a claim that claims nothing"),
            },
            Object::Service(raw) => edge::service(raw),
            Object::Namespace(raw) => {
                Event::NamespaceApplied(raw.metadata.name.clone().unwrap_or_default(), edge::labels(&raw.metadata))
            }
            Object::Node(raw) => {
                let name = raw.metadata.name.clone().unwrap_or_default();
                self.plan.handle_event(now, Event::NodeApplied(name));
                edge::node(raw)
            }
            Object::BgpPeer(raw) => match self.conditions.apply_peer(raw) {
                Some(reserved) => reserved,
                None => return,
            },
            Object::Advertisement(raw) => return self.conditions.apply_advertisement(raw),
            Object::NodeReport(raw) => {
                self.conditions.apply_report(now, raw);
                self.clusters.handle_report();
                edge::pods(raw)
            }
            Object::PodPool(raw) => edge::pod_pool(raw),
            Object::ClusterNetwork(raw) => match Network::check(raw) {
                Ok(network) => Event::NetworkApplied(Some(network)),
                Err(findings) => {
                    for invalid in findings {
                        warn!("{invalid}; its last good version stays in force");
                    }
                    return;
                }
            },
            Object::EdgeHost(raw) => match edge::edge_host(raw) {
                Some(event) => event,
                None => return,
            },
            Object::ClusterLink(_)
            | Object::RouteServer(_)
            | Object::EndpointSlice(_)
            | Object::Pod(_)
            | Object::Secret(_)
            | Object::ServiceCidr(_) => return,
        };
        self.plan.handle_event(now, event);
    }

    /// True once, when everything is known and no object tells where ClusterIPs come from.
    fn asks_for_service_ranges(&mut self) -> bool {
        let asks = self.plan.is_synced() && !self.has_asked && !self.clusters.has_service_cidrs();
        self.has_asked |= asks;
        asks
    }

    fn poll_report(&mut self) -> Option<Report> {
        let now = now();
        let write = self.plan.poll_report(now).map(Report::Plan);
        let write = write.or_else(|| self.conditions.poll_write(now).map(Report::Conditions));
        let refusal = |host: &str| self.plan.edge_refusal(host).map(str::to_owned);
        write.or_else(|| self.clusters.poll_write(now, self.conditions.nodes(), refusal).map(Report::Clusters))
    }

    fn finish(&mut self, finished: Finished) {
        match finished {
            Finished::Plan(Some(result)) => self.plan.handle_result(now(), result),
            Finished::Plan(None) => {}
            Finished::Conditions(write, done) => self.conditions.finish(now(), &write, done),
            Finished::Clusters(write, done) => self.clusters.finish(now(), &write, done),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.plan.next_deadline(), self.conditions.next_deadline(), self.clusters.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    fn handle_deadline(&mut self) {
        let now = now();
        self.plan.handle_deadline(now);
        if self.conditions.handle_deadline(now) {
            // A node that fell silent has no session that counts.
            self.clusters.handle_report();
        }
    }
}

/// Where ClusterIPs come from, asked until there is an answer.
async fn service_ranges(store: Store) -> Vec<IpNet> {
    let mut has_warned = false;
    loop {
        match store.service_ranges().await {
            Ok(ranges) => return ranges,
            Err(error) if !has_warned => warn!("where ClusterIPs come from is not known: {error}"),
            Err(_) => {}
        }
        has_warned = true;
        tokio::time::sleep(QUESTION_PAUSE).await;
    }
}

fn now() -> Now {
    Now { instant: Instant::now(), wall: Timestamp::now() }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
