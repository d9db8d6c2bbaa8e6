//! `roadstead-speaker`: flags in, speaker built, waits for a signal. Decides nothing.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use roadstead_api::store::{DirectoryStore, KubernetesStore, LOG_DIRECTIVES, Object, Store};
use roadstead_speaker::local::DEFAULT_SOCKET;
use roadstead_speaker::picture::{MissingNode, Viewpoint};
use roadstead_speaker::pods::{BLOCK_RETURN, PodOptions};
use roadstead_speaker::{Ending, Options, RecordFlags, run};
use tokio::signal::unix::{SignalKind, signal};

/// Announces the addresses of a cluster's Services from one node, over BGP.
///
/// Runs on every node, and with `edge` on a host outside the cluster. It reads Services, EndpointSlices, AddressClaims, BGPPeers and Advertisements from the API server, and keeps
/// the sessions of the peers that select its node. What it does stands in the NodeReport of the node's name
/// (`kubectl get nodereports`).
#[derive(Parser)]
#[command(name = "roadstead-speaker", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Flags {
    #[command(subcommand)]
    outside: Option<Outside>,

    /// File that says how to reach the API server; by default KUBECONFIG, or the service account of the pod
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The node that this speaker speaks for
    #[arg(long, value_name = "NAME", env = "NODE_NAME", required = true)]
    node: Option<String>,

    /// Where the Secrets that BGPPeers name are looked for
    #[arg(long, value_name = "NAMESPACE", env = "ROADSTEAD_NAMESPACE", default_value = "roadstead-system")]
    namespace: String,

    /// Where /metrics, /livez and /readyz are served
    #[arg(long, value_name = "IP:PORT", env = "ROADSTEAD_METRICS_ADDRESS", default_value = "0.0.0.0:7473")]
    metrics_address: SocketAddr,

    /// The port on which peers with `listen` or `passive` are accepted
    #[arg(long, value_name = "PORT", default_value_t = 179)]
    listen_port: u16,

    /// The Unix socket for `roadstead status` and `roadstead routes`, and for the CNI plugin
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,

    /// Give pods addresses of PodPools, for the CNI plugin roadstead-cni, and keep the journal of them in this directory; it has to
    /// outlive the speaker [default: pods get none here]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// How long a block of addresses is kept that no pod has one of; the last of each pool is kept for ever
    #[arg(long, value_name = "SECONDS", default_value_t = BLOCK_RETURN.as_secs())]
    block_return_seconds: u64,

    #[command(flatten)]
    record: RecordFlags,
}

#[derive(Subcommand)]
enum Outside {
    /// Join this host to a cluster: pods and Services are reached from here, and this host's containers from there
    ///
    /// Needs one file and no kubeconfig: plain manifests of a ClusterNetwork (who this host is), a Node (its prefix), a ClusterLink (the
    /// cluster's gateways, and what is taken of them) and a Secret (the key). `roadstead edge-config NAME` prints it for the EdgeHost of
    /// that name. The file is watched: an edit takes effect within a second. Learned routes stand in the kernel's table 179, and go when
    /// the speaker is ended by SIGINT or SIGTERM.
    Edge(EdgeFlags),
}

#[derive(clap::Args)]
struct EdgeFlags {
    /// The file, which should be readable by its owner alone
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Where statuses are kept
    #[arg(long, value_name = "DIR", default_value = "/var/lib/roadstead")]
    state: PathBuf,

    /// The Unix socket for `roadstead status` and `roadstead routes`
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,

    /// Serve /metrics, /livez and /readyz here [default: nowhere]
    #[arg(long, value_name = "IP:PORT")]
    metrics_address: Option<SocketAddr>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    log();
    let result = match flags.outside {
        Some(Outside::Edge(edge)) => start_edge(edge).await,
        None => start_node(flags).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn log() {
    // What RUST_LOG says comes last and so goes first.
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = tracing_subscriber::EnvFilter::new(format!("{LOG_DIRECTIVES},{level}"));
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal).with_writer(std::io::stderr).init();
}

async fn start_node(flags: Flags) -> anyhow::Result<()> {
    let Flags { kubeconfig, node, namespace, metrics_address, listen_port, socket, state, .. } = flags;
    let block_return = Duration::from_secs(flags.block_return_seconds);
    // clap has seen that it is there.
    let node = node.unwrap_or_default();
    let viewpoint = Viewpoint { node, missing_node: MissingNode::Silent, namespace, redirect: None };
    let options = Options {
        viewpoint,
        metrics_address: Some(metrics_address),
        listen_port,
        pods: state.map(|state| PodOptions { state, socket: socket.clone(), block_return }),
        socket: Some(socket),
        record: flags.record.into(),
    };
    let store = Store::Kubernetes(KubernetesStore::connect(kubeconfig, "roadstead-speaker").await?);
    start(store, options).await
}

/// A host outside is a node of a cluster of its own, with a link to the one that it is joined to.
async fn start_edge(flags: EdgeFlags) -> anyhow::Result<()> {
    let EdgeFlags { config, state, socket, metrics_address } = flags;
    let (objects, problems) = DirectoryStore::check_once(&config)?;
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    anyhow::ensure!(problems.is_empty(), "{}: {}", config.display(), problems.join("; "));
    let nodes: Vec<&str> = objects
        .iter()
        .filter_map(|object| match object {
            Object::Node(node) => node.metadata.name.as_deref(),
            _ => None,
        })
        .collect();
    let [node] = nodes[..] else {
        anyhow::bail!("{}: must have one Node, which is this host; it has {}", config.display(), nodes.len());
    };
    let viewpoint = Viewpoint {
        node: node.to_owned(),
        missing_node: MissingNode::Silent,
        namespace: EDGE_NAMESPACE.to_owned(),
        redirect: None,
    };
    // Nobody waits here: gateways are dialled.
    let options =
        Options { viewpoint, metrics_address, listen_port: 179, pods: None, socket: Some(socket), record: None };
    start(Store::Directory(DirectoryStore::open(config, state)?), options).await
}

/// Where the Secret of an edge host's file stands.
const EDGE_NAMESPACE: &str = "roadstead-system";

async fn start(store: Store, options: Options) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tracing::info!(node = options.viewpoint.node, version = env!("CARGO_PKG_VERSION"), "speaker starts");
    let shutdown = async move {
        // An upgrade, or a kubelet that stops the Pod; by hand it is meant to end.
        tokio::select! {
            _ = terminate.recv() => Ending::Restart,
            _ = interrupt.recv() => Ending::Leave,
        }
    };
    run(store, options, shutdown).await?;
    tracing::info!("speaker stopped; every session was closed");
    Ok(())
}
