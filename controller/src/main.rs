//! `roadstead-controller`: flags in, controller built, waits for a signal. Decides nothing.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use roadstead_api::store::{KubernetesStore, LOG_DIRECTIVES, Store};
use roadstead_controller::plan::{Classes, NodeLoss};
use roadstead_controller::{Options, run};
use tokio::signal::unix::{SignalKind, signal};

/// Gives every Service of type LoadBalancer its address, from the AddressPools.
///
/// Each address is claimed first (`kubectl get addressclaims`), so that no two Services ever have the same, and then written into
/// the Service's status. Which pools are in force, and why one is not, stands in their condition Ready; why a Service has no
/// address stands in its events (`kubectl describe service`). Stopping or restarting the controller changes no address.
#[derive(Parser)]
#[command(name = "roadstead-controller", version)]
struct Flags {
    /// File that says how to reach the API server; by default KUBECONFIG, or the service account of the pod
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The namespace that Roadstead is installed in. The controller keeps nothing there yet
    #[arg(long, value_name = "NAMESPACE", env = "ROADSTEAD_NAMESPACE", default_value = "roadstead-system")]
    namespace: String,

    /// Leave Services without spec.loadBalancerClass to others
    #[arg(long, env = "ROADSTEAD_ONLY_CLASS")]
    only_class: bool,

    /// Serve Services of this loadBalancerClass besides roadstead.dev/bgp, as those that another load balancer left; repeatable
    #[arg(long = "class", value_name = "CLASS", env = "ROADSTEAD_CLASSES", value_delimiter = ',')]
    classes: Vec<String>,

    /// How long a Node object has to be gone before the blocks and the pods' addresses of that node are given to others; longer than
    /// routers keep the routes of a speaker that died
    #[arg(long, value_name = "SECONDS", env = "ROADSTEAD_NODE_GRACE_SECONDS", default_value_t = 300)]
    node_grace_seconds: u64,

    /// Where /metrics, /livez and /readyz are served
    #[arg(long, value_name = "IP:PORT", env = "ROADSTEAD_METRICS_ADDRESS", default_value = "0.0.0.0:7472")]
    metrics_address: SocketAddr,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Flags { kubeconfig, namespace, only_class, classes, node_grace_seconds, metrics_address } = Flags::parse();
    // What RUST_LOG says comes last and so goes first.
    let level = std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = tracing_subscriber::EnvFilter::new(format!("{LOG_DIRECTIVES},{level}"));
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(is_terminal).with_writer(std::io::stderr).init();
    let classes = Classes { only_class, others: classes.into_iter().collect() };
    let node_loss = NodeLoss { grace: Duration::from_secs(node_grace_seconds), ..NodeLoss::default() };
    let options = Options { classes, node_loss, metrics_address: Some(metrics_address) };
    match start(kubeconfig, &namespace, options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn start(kubeconfig: Option<PathBuf>, namespace: &str, options: Options) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let store = Store::Kubernetes(KubernetesStore::connect(kubeconfig, "roadstead-controller").await?);
    tracing::info!(namespace, classes = ?options.classes, version = env!("CARGO_PKG_VERSION"), "controller starts");
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    run(store, options, shutdown).await?;
    tracing::info!("controller stopped; every address stays as it is");
    Ok(())
}
