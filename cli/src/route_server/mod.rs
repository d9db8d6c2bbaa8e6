//! `roadstead route-server`: passes routes on between BGP peers, as one `RouteServer` object says.
//!
//! ```text
//!  directory of manifests --RouteServer--> clients: what each entry means --set, remove--> engine (bgp::driver) <--> clients
//! ```
//!
//! Each entry of `clients` is a range of peers of the engine, or one peer where it may be dialled. An edit is compared entry
//! by entry with what the engine was given, and the engine compares again, so the sessions of an entry that did not change do
//! not notice.

mod clients;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use roadstead_api::checked::RouteServer;
use roadstead_api::store::{DirectoryStore, Event, Kind, Object, Store, Watch};
use roadstead_bgp::driver::{self, Driver, DriverConfig, Handle, SetPeerError};
use roadstead_bgp::{PeerKey, SelectionDeferral, Shutdown};
use roadstead_speaker::RecordFlags;
use roadstead_speaker::http::{self, Telemetry};
use roadstead_speaker::local;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::clients::Client;

/// Pass routes on between BGP peers without being in the path: a route server (RFC 7947), or a route reflector (RFC 4456).
///
/// It runs the object `RouteServer` of its directory of manifests. Clients dial it: whoever connects from a prefix of `clients`
/// with an allowed ASN is told the best of the other clients' routes, next hop and AS path as they came. Nobody else is let in,
/// and no packet passes through this machine.
///
/// The directory is watched: an edit takes effect within a second, sessions of entries that did not change stay up, and a file that
/// cannot be read leaves the last good version in force. SIGTERM and SIGINT end every session with a reason (RFC 9003); with
/// `gracefulRestart` they end without a word where the client has agreed to keep the routes until this process is back.
#[derive(clap::Args)]
#[command(after_help = "A route server for everybody in 10.77.0.0/16 whose ASN is from 64600 to 64700:\n
  apiVersion: roadstead.dev/v1alpha1
  kind: RouteServer
  metadata: {name: default}
  spec:
    asn: 64999
    routerID: 10.77.0.1
    listen: [\"10.77.0.1:179\"]
    clients:
    - {name: clients, prefix: 10.77.0.0/16, asnRanges: [{from: 64600, to: 64700}], maxPrefixes: 200000}

More: docs/samples/route-server.yaml. See sessions with: curl http://IP:PORT/sessions (--metrics-address)")]
pub(crate) struct Flags {
    /// The directory of manifests
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,

    /// The RouteServer object to run
    #[arg(long, value_name = "NAME", default_value = RouteServer::NAME)]
    name: String,

    /// Where the last good version of each object is kept [default: .roadstead/route-server-NAME in the directory of manifests]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Check the manifests, say what is wrong, and exit: 0 when nothing is
    #[arg(long)]
    dry_run: bool,

    /// Serve /sessions, /metrics, /livez and /readyz here [default: nowhere]
    #[arg(long, value_name = "IP:PORT")]
    metrics_address: Option<SocketAddr>,

    /// The Unix socket on which `roadstead status` and `roadstead routes` look at it [default: speaker.sock in the state directory]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    #[command(flatten)]
    record: RecordFlags,
}

/// Password files are looked at so often: nothing tells of their changes.
const PASSWORD_INTERVAL: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn route_server(flags: Flags) -> anyhow::Result<ExitCode> {
    let Flags { manifests, name, state, dry_run, metrics_address, socket, record } = flags;
    if dry_run {
        return check(&manifests, &name);
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let state = state.unwrap_or_else(|| manifests.join(".roadstead").join(format!("route-server-{name}")));
    let socket = socket.unwrap_or_else(|| state.join("speaker.sock"));
    let store = Store::Directory(DirectoryStore::open(manifests.clone(), state)?);
    let (engine, _events) = Driver::start(DriverConfig { listen: Vec::new(), seed: seed(), record: record.into() })?;
    let telemetry = Telemetry::new(engine.clone());
    if let Some(address) = metrics_address {
        let listener = http::bind(address).await.with_context(|| {
            format!("cannot listen on {address} for metrics and sessions; choose another with --metrics-address")
        })?;
        tokio::spawn(http::serve(listener, telemetry.clone()));
    }
    local::start(&socket, local::Source::new(engine.clone(), &name), None);
    let events = store.watch(vec![Watch::one(Kind::RouteServer, &name)]);
    let (clients, refused) = (BTreeMap::new(), BTreeMap::new());
    let mut server = Server {
        name,
        manifests,
        engine: engine.clone(),
        telemetry,
        wanted: None,
        started: false,
        listening: BTreeSet::new(),
        unusable: BTreeMap::new(),
        clients,
        refused,
    };
    tokio::select! {
        result = server.run(events) => result?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("route server stops");
    let farewell = "the route server stops".to_owned();
    let restarts = server.wanted.as_ref().is_some_and(|server| server.graceful_restart.is_some());
    engine.shutdown(if restarts { Shutdown::Restart(farewell) } else { Shutdown::Leave(farewell) }).await;
    Ok(ExitCode::SUCCESS)
}

struct Server {
    name: String,
    /// Relative password files are below it.
    manifests: PathBuf,
    engine: Handle,
    telemetry: Telemetry,
    wanted: Option<RouteServer>,
    /// There was a manifest to start with.
    started: bool,
    listening: BTreeSet<SocketAddr>,
    /// Addresses that cannot be listened on, and why; so that it is said once.
    unusable: BTreeMap<SocketAddr, String>,
    /// What the engine was given.
    clients: BTreeMap<PeerKey, Client>,
    /// Entries that let nobody in, and why; so that it is said once.
    refused: BTreeMap<PeerKey, String>,
}

impl Server {
    async fn run(&mut self, mut events: mpsc::Receiver<Event>) -> anyhow::Result<()> {
        let mut passwords = tokio::time::interval(PASSWORD_INTERVAL);
        // The first tick is at once, when nothing is known as yet.
        passwords.tick().await;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.handle(event).await?,
                    // A store's stream never ends by itself; if it did, the sessions would be worth more than an exit.
                    None => std::future::pending().await,
                },
                _ = passwords.tick() => self.apply().await?,
            }
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), driver::Stopped> {
        match event {
            Event::Applied(Object::RouteServer(raw)) => match RouteServer::check(&raw) {
                Ok(server) => {
                    self.wanted = Some(server);
                    self.apply().await?;
                }
                // The store checks before it hands out.
                Err(found) => found.iter().for_each(|invalid| tracing::warn!("{invalid}")),
            },
            Event::Deleted(..) => {
                tracing::warn!("RouteServer {} is gone: its sessions end", self.name);
                self.wanted = None;
                self.apply().await?;
            }
            Event::Synced(_) => {
                if self.wanted.is_none() {
                    let (name, directory) = (&self.name, self.manifests.display());
                    tracing::warn!("there is no RouteServer {name} in {directory} as yet: nobody is let in");
                }
                self.telemetry.set_ready();
            }
            Event::Applied(_) => {}
        }
        Ok(())
    }

    /// Brings the engine up to date with the manifest and the password files.
    async fn apply(&mut self) -> Result<(), driver::Stopped> {
        self.defer_selection().await?;
        self.listen().await?;
        let wanted = self.wanted.as_ref().map(|server| clients::of(server, &self.manifests)).unwrap_or_default();
        let gone: Vec<PeerKey> = self.clients.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in gone {
            self.remove(&key).await?;
        }
        let mut refused = BTreeMap::new();
        for (key, client) in wanted {
            match client {
                Ok(client) if self.clients.get(&key) == Some(&client) => {}
                Ok(client) => {
                    if let Err(refusal) = self.set(key.clone(), client).await? {
                        // As with anything else that refuses one: what an entry was before is not what is asked for now.
                        self.remove(&key).await?;
                        refused.insert(key, refusal);
                    }
                }
                Err(refusal) => {
                    self.remove(&key).await?;
                    refused.insert(key, refusal.to_string());
                }
            }
        }
        for (key, refusal) in &refused {
            if self.refused.get(key) != Some(refusal) {
                tracing::warn!("client {key}: {refusal}: nobody is let in");
            }
        }
        self.refused = refused;
        Ok(())
    }

    /// Within: why the engine does not take it.
    async fn set(&mut self, key: PeerKey, client: Client) -> Result<Result<(), String>, driver::Stopped> {
        // A client that was a range and is one machine now, or the other way round, is another client to the engine.
        let before = self.clients.get(&key);
        if before.is_some_and(|before| std::mem::discriminant(before) != std::mem::discriminant(&client)) {
            self.remove(&key).await?;
        }
        let outcome = match client.clone() {
            Client::Range(range) => self.engine.set_dynamic_peers(key.clone(), *range).await,
            Client::Machine(config) => self.engine.set_peer(key.clone(), *config).await,
        };
        match outcome {
            Ok(()) => {
                tracing::info!(client = %key, "{client}");
                self.clients.insert(key, client);
            }
            Err(SetPeerError::Stopped(stopped)) => return Err(stopped),
            Err(error) => return Ok(Err(error.to_string())),
        }
        Ok(Ok(()))
    }

    async fn remove(&mut self, key: &PeerKey) -> Result<(), driver::Stopped> {
        match self.clients.remove(key) {
            Some(Client::Range(_)) => self.engine.remove_dynamic_peers(key.clone()).await?,
            Some(Client::Machine(_)) => self.engine.remove_peer(key.clone()).await?,
            None => return Ok(()),
        }
        tracing::info!(client = %key, "client removed");
        Ok(())
    }

    /// RFC 4724 section 4.1: clients may still have our routes from before this start, and those are better than a choice among the
    /// first who are back.
    async fn defer_selection(&mut self) -> Result<(), driver::Stopped> {
        let Some(server) = &self.wanted else { return Ok(()) };
        if !std::mem::replace(&mut self.started, true)
            && let Some(restart) = server.graceful_restart
        {
            let deferral = SelectionDeferral { establish: restart.establish, limit: restart.deferral };
            tracing::info!(establish = ?deferral.establish, limit = ?deferral.limit, "routes are held back until clients are back");
            self.engine.defer_selection(deferral).await?;
        }
        Ok(())
    }

    /// Listens where the manifest says and nowhere else; an address that is listened on already stays so.
    async fn listen(&mut self) -> Result<(), driver::Stopped> {
        let wanted: BTreeSet<SocketAddr> = self.wanted.iter().flat_map(|server| &server.listen).copied().collect();
        for gone in self.listening.difference(&wanted) {
            self.engine.stop_listening(*gone).await?;
            tracing::info!("clients are not waited for on {gone} any more; sessions stay");
        }
        self.listening.retain(|address| wanted.contains(address));
        self.unusable.retain(|address, _| wanted.contains(address));
        for address in wanted {
            if self.listening.contains(&address) {
                continue;
            }
            match self.engine.listen(address).await {
                Ok(_) => {
                    tracing::info!("clients are waited for on {address}");
                    self.unusable.remove(&address);
                    self.listening.insert(address);
                }
                Err(error) => {
                    let error = error.to_string();
                    if self.unusable.get(&address) != Some(&error) {
                        tracing::error!(%error, "no client can connect to {address}");
                        self.unusable.insert(address, error);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Says what is wrong with the manifests.
#[allow(clippy::print_stdout, reason = "the answer of a command is its output")]
fn check(manifests: &Path, name: &str) -> anyhow::Result<ExitCode> {
    let (objects, problems) = DirectoryStore::check_once(manifests)?;
    for problem in &problems {
        println!("{problem}");
    }
    let server = objects.iter().find_map(|object| match object {
        Object::RouteServer(raw) if raw.metadata.name.as_deref() == Some(name) => RouteServer::check(raw).ok(),
        _ => None,
    });
    let Some(server) = server else {
        println!("no RouteServer {name} in order in {}", manifests.display());
        return Ok(ExitCode::FAILURE);
    };
    let mut refused = 0;
    for (key, client) in clients::of(&server, manifests) {
        match client {
            Ok(client) => println!("client {key}: {client}"),
            Err(refusal) => {
                refused += 1;
                println!("client {key}: {refusal}");
            }
        }
    }
    Ok(if problems.is_empty() && refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The seed of the engine's jitter.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
