//! `roadstead run`: controller and speaker in one process, for one machine without Kubernetes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use roadstead_api::store::{DirectoryStore, Store};
use roadstead_controller as controller;
use roadstead_controller::plan::NodeLoss;
use roadstead_speaker as speaker;
use roadstead_speaker::picture::{MissingNode, Viewpoint};
use roadstead_speaker::pods::{BLOCK_RETURN, PodOptions};
use roadstead_speaker::{Ending, RecordFlags};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Serve a directory of manifests on this machine: assign addresses, and announce them to real routers.
///
/// The directory holds Services, EndpointSlices, Nodes, Secrets and Roadstead's own kinds, as for `kubectl apply`. It is watched:
/// an edit takes effect within a second, and a file that cannot be read leaves the last good version of its objects in force.
/// Statuses and claims are written below the state directory. SIGTERM is taken for a
/// restart: routers that have agreed to it keep the routes until their restart time is over. SIGINT withdraws everything.
#[derive(clap::Args)]
pub(crate) struct Flags {
    /// The directory of manifests, or one file
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,

    /// The node that this machine is: its Node manifest gives labels and addresses, EndpointSlices name it
    #[arg(long, value_name = "NAME")]
    node: String,

    /// Where statuses and claims are kept [default: .roadstead/NAME in the directory of manifests]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Check the manifests, say what is wrong and which addresses would be assigned, and exit: 0 when nothing is wrong
    #[arg(long)]
    dry_run: bool,

    /// The namespace of the Secrets that BGPPeers name
    #[arg(long, value_name = "NAMESPACE", default_value = "roadstead-system")]
    namespace: String,

    /// Serve the speaker's /metrics, /livez and /readyz here [default: nowhere]
    #[arg(long, value_name = "IP:PORT")]
    metrics_address: Option<SocketAddr>,

    /// The port on which peers with `listen` or `passive` are accepted
    #[arg(long, value_name = "PORT", default_value_t = 179)]
    listen_port: u16,

    /// The Unix socket for `roadstead status`, `roadstead routes` and the CNI plugin [default: speaker.sock in the state directory]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,

    /// How long a block of pods' addresses is kept that no pod has one of; the last of each pool is kept for ever
    #[arg(long, value_name = "SECONDS", default_value_t = BLOCK_RETURN.as_secs())]
    block_return_seconds: u64,

    #[command(flatten)]
    record: RecordFlags,
}

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(flags: Flags) -> anyhow::Result<ExitCode> {
    let Flags { manifests, node, state, dry_run, namespace, metrics_address, listen_port, socket, .. } = flags;
    if dry_run {
        return check(&manifests);
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let directory = if manifests.is_file() { manifests.parent() } else { Some(manifests.as_path()) };
    let state = state.unwrap_or_else(|| directory.unwrap_or(&manifests).join(".roadstead").join(&node));
    let socket = socket.unwrap_or_else(|| state.join("speaker.sock"));
    let pods = PodOptions {
        state: state.clone(),
        socket: socket.clone(),
        block_return: Duration::from_secs(flags.block_return_seconds),
    };
    // The one machine is there, whether or not a manifest says so.
    let node_loss = NodeLoss { implied: BTreeSet::from([node.clone()]), ..NodeLoss::default() };
    let store = Store::Directory(DirectoryStore::open(manifests, state)?);
    let (stop, stopped) = watch::channel(None);
    let ending = || {
        let mut stopped = stopped.clone();
        async move {
            // An error means that the sender is gone, which is the end as well.
            stopped.wait_for(Option::is_some).await.ok().and_then(|ending| *ending).unwrap_or(Ending::Leave)
        }
    };
    let viewpoint = Viewpoint { node, missing_node: MissingNode::Implied, namespace, redirect: None };
    let options = speaker::Options {
        viewpoint,
        metrics_address,
        listen_port,
        socket: Some(socket),
        pods: Some(pods),
        record: flags.record.into(),
    };
    let speaker = speaker::run(store.clone(), options, ending());
    let ended = ending();
    let controller =
        controller::run(store, controller::Options { node_loss, ..controller::Options::default() }, async move {
            ended.await;
        });
    let signals = async move {
        let ending = tokio::select! {
            _ = terminate.recv() => Ending::Restart,
            _ = interrupt.recv() => Ending::Leave,
        };
        stop.send_replace(Some(ending));
        std::future::pending::<anyhow::Result<()>>().await
    };
    let both = async {
        tokio::try_join!(async { speaker.await.context("speaker") }, async { controller.await.context("controller") })
    };
    tokio::select! {
        result = both => result.map(|_| ExitCode::SUCCESS),
        never = signals => never.map(|()| ExitCode::SUCCESS),
    }
}

/// Says what is wrong with the manifests, and which addresses would be assigned.
#[allow(clippy::print_stdout, reason = "the answer of a command is its output")]
fn check(manifests: &Path) -> anyhow::Result<ExitCode> {
    let (objects, problems) = DirectoryStore::check_once(manifests)?;
    let rehearsal = controller::rehearse(&objects);
    let faults: Vec<String> = problems.iter().map(ToString::to_string).chain(rehearsal.faults).collect();
    for fault in &faults {
        println!("{fault}");
    }
    for (service, addresses) in &rehearsal.assigned {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        println!("Service {service} would get {}", addresses.join(" and "));
    }
    println!("{} objects in order, {} problems", objects.len(), faults.len());
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
