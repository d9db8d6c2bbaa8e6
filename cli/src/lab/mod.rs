//! `roadstead lab`: nodes and routers on loopback, in one process, without root.
//!
//! Everything in it is the real thing: the controller and one speaker for each node on a directory of manifests, and routers that
//! are the same BGP engine with an import policy that takes everything. Only where sessions lead is changed: the `BGPPeer`s of the
//! manifests name routers that are not here, so each gets a stand-in on a loopback address of its own ([`routers`]), with the ASN,
//! the families and the password that the manifest expects of it.
//!
//! [`view`] is what is shown; [`screen`] shows it.

mod manifests;
mod routers;
mod screen;
mod view;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use roadstead_api::store::{DirectoryStore, Event, Kind, Object, Store, Watch};
use roadstead_controller as controller;
use roadstead_speaker as speaker;
use roadstead_speaker::picture::{MissingNode, Picture, Viewpoint};
use roadstead_speaker::session::Redirect;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use manifests::Manifests;
use routers::Routers;
use screen::Screen;
use view::Lab;

/// See it work: three nodes and a router on this machine, without a cluster and without root.
///
/// Starts from sample manifests, which it writes to a directory that it names, or from yours. Shows how Services get addresses and
/// how the router learns them, with every next hop. Edit a manifest and watch: a Service deleted, an endpoint not ready, a community
/// changed show within a second. Ctrl-C ends it.
///
/// The routers that BGPPeers name are played by stand-ins on loopback; without Node manifests there are three nodes.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// Your manifests: Services, EndpointSlices, Nodes, Secrets and Roadstead's kinds, as for `kubectl apply` [default: samples]
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,

    /// Exit as soon as every Service has its address and the router every route; with 1 after 30 s, saying what is missing
    #[arg(long)]
    once: bool,

    /// How to show it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// How the lab is shown.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// For programs; without --once one line for each change
    Json,
}

/// `--once` gives up after this.
const ONCE_LIMIT: Duration = Duration::from_secs(30);
/// Changes that come together are shown together.
const SETTLE: Duration = Duration::from_millis(50);
/// Time for the sessions' Cease at the end. Ctrl-C promises a second.
const FAREWELL: Duration = Duration::from_millis(700);
/// Nodes where the manifests hold none.
const IMPLIED_NODES: [&str; 3] = ["node-1", "node-2", "node-3"];
/// The namespace of the Secrets that BGPPeers name.
const NAMESPACE: &str = "roadstead-system";

/// Runs until Ctrl-C, or with `--once` until all is there.
pub(crate) async fn lab(flags: Flags) -> anyhow::Result<ExitCode> {
    let Flags { manifests, once, output } = flags;
    let mut signals = Signals::listen()?;
    let manifests = Manifests::prepare(manifests)?;
    manifests.announce();
    let nodes = nodes(manifests.directory.clone())?;
    let store = Store::Directory(DirectoryStore::open(manifests.directory.clone(), manifests.state.clone())?);
    let mut routers = Routers::start().await?;
    let viewpoints: Vec<Viewpoint> =
        nodes.iter().enumerate().map(|(index, node)| viewpoint(node, index, &routers)).collect();

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let shutdown = || {
        let mut stopped = stopped.clone();
        async move {
            // An error means that the sender is gone, which is the end as well.
            let _ = stopped.wait_for(|stop| *stop).await;
        }
    };
    let mut parts = JoinSet::new();
    for viewpoint in &viewpoints {
        let options = speaker::Options {
            viewpoint: viewpoint.clone(),
            metrics_address: None,
            listen_port: 0,
            socket: None,
            pods: None,
            record: None,
        };
        let name = format!("speaker of {}", viewpoint.node);
        let end = shutdown();
        let speaker = speaker::run(store.clone(), options, async move {
            end.await;
            speaker::Ending::Leave
        });
        parts.spawn(async move { speaker.await.context(name) });
    }
    let controller = controller::run(store.clone(), controller::Options::default(), shutdown());
    parts.spawn(async move { controller.await.context("controller") });

    let pictures = viewpoints.into_iter().map(|viewpoint| (viewpoint.node.clone(), Picture::new(viewpoint))).collect();
    let mut lab = Lab::new(pictures);
    let mut screen = Screen::new(output, once, std::io::stdout().is_terminal());
    let result = tokio::select! {
        result = show(&store, &mut routers, &mut lab, &mut screen, once) => result,
        ended = parts.join_next() => match ended {
            Some(Ok(Err(error))) => Err(error),
            _ => Err(anyhow::anyhow!("a part of the lab ended by itself")),
        },
        () = signals.any() => Ok(ExitCode::SUCCESS),
    };
    stop.send_replace(true);
    let farewell = async { while parts.join_next().await.is_some() {} };
    // Whoever has not said goodbye by then is cut off: nothing of the lab outlives this process.
    let _ = timeout(FAREWELL, farewell).await;
    result
}

/// Everything that asks the lab to end: it leaves nothing behind, whoever asks.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(signal);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Follows the store and the routers, and shows what changes.
async fn show(
    store: &Store,
    routers: &mut Routers,
    lab: &mut Lab,
    screen: &mut Screen,
    once: bool,
) -> anyhow::Result<ExitCode> {
    let mut events = store.watch(watches());
    let deadline = Instant::now() + ONCE_LIMIT;
    let mut batch: Vec<Event> = Vec::new();
    let mut dirty_since: Option<Instant> = None;
    loop {
        let due = dirty_since.map_or_else(|| Instant::now() + Duration::from_secs(3600), |since| since + SETTLE);
        tokio::select! {
            _ = events.recv_many(&mut batch, 512) => {
                for event in batch.drain(..) {
                    lab.handle(event);
                }
                routers.follow(lab.sessions()).await?;
                dirty_since.get_or_insert_with(Instant::now);
            }
            () = routers.changed() => {
                dirty_since.get_or_insert_with(Instant::now);
            }
            () = tokio::time::sleep_until(due) => {
                dirty_since = None;
                let picture = lab.view(&routers.learned().await);
                screen.show(&picture)?;
                if once && lab.is_synced() && picture.missing.is_empty() {
                    screen.conclude(&picture)?;
                    return Ok(ExitCode::SUCCESS);
                }
            }
            () = tokio::time::sleep_until(deadline), if once => {
                let picture = lab.view(&routers.learned().await);
                screen.conclude(&picture)?;
                screen.complain(&picture, ONCE_LIMIT);
                return Ok(ExitCode::FAILURE);
            }
        }
    }
}

/// All that the nodes see, and all of them at once.
fn watches() -> Vec<Watch> {
    let kinds = [
        Kind::AddressPool,
        Kind::AddressClaim,
        Kind::BgpPeer,
        Kind::Advertisement,
        Kind::ClusterLink,
        Kind::ClusterNetwork,
        Kind::EdgeHost,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::Node,
        Kind::PodPool,
    ];
    let mut watches: Vec<Watch> = kinds.into_iter().map(Watch::all).collect();
    watches.push(Watch::namespace(Kind::Secret, NAMESPACE));
    watches
}

/// The nodes of the manifests, or three of our own.
fn nodes(manifests: PathBuf) -> anyhow::Result<Vec<String>> {
    let (objects, _) = DirectoryStore::check_once(&manifests)?;
    let named: BTreeSet<String> = objects
        .iter()
        .filter_map(|object| match object {
            Object::Node(node) => node.metadata.name.clone(),
            _ => None,
        })
        .collect();
    if named.is_empty() {
        return Ok(IMPLIED_NODES.map(str::to_owned).to_vec());
    }
    Ok(named.into_iter().collect())
}

fn viewpoint(node: &str, index: usize, routers: &Routers) -> Viewpoint {
    let addresses = routers.addresses();
    let router = Arc::new(move |peer: &str| addresses.of(peer).into());
    Viewpoint {
        node: node.to_owned(),
        missing_node: MissingNode::Implied,
        namespace: NAMESPACE.to_owned(),
        redirect: Some(Redirect { source: routers::node_address(index), next_hops: routers::next_hops(index), router }),
    }
}
