//! `/metrics`, `/livez` and `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use roadstead_bgp::driver::Handle;
use roadstead_bgp::{PeerStatus, SessionState};
use tokio::net::TcpListener;

/// What the endpoints tell.
#[derive(Clone)]
pub struct Telemetry {
    engine: Handle,
    ready: Arc<AtomicBool>,
    prefixes: Arc<std::sync::atomic::AtomicUsize>,
}

impl Telemetry {
    /// Not ready as yet.
    pub fn new(engine: Handle) -> Self {
        Self { engine, ready: Arc::default(), prefixes: Arc::default() }
    }

    /// The stores are synced, and the first full set was handed to the engine.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// How many distinct prefixes the node wants announced.
    pub fn set_prefixes(&self, count: usize) {
        self.prefixes.store(count, Ordering::Relaxed);
    }
}

/// Binds the address, so that a port in use is an error at the start.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, std::io::Error> {
    TcpListener::bind(address).await
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, telemetry: Telemetry) {
    let routes = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(telemetry);
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(%error, "metrics and probes are no longer served");
    }
}

async fn readyz(State(telemetry): State<Telemetry>) -> (StatusCode, &'static str) {
    if telemetry.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for the stores to sync\n")
    }
}

/// Asks the engine at each scrape, so that nothing is kept up to date that nobody reads.
async fn metrics(State(telemetry): State<Telemetry>) -> Result<String, (StatusCode, String)> {
    let sessions = telemetry.engine.status().await.map_err(internal)?;
    let registry = Registry::new();
    register(&registry, &sessions, telemetry.prefixes.load(Ordering::Relaxed)).map_err(internal)?;
    TextEncoder::new().encode_to_string(&registry.gather()).map_err(internal)
}

fn register(registry: &Registry, sessions: &[PeerStatus], prefixes: usize) -> prometheus::Result<()> {
    let wanted = IntGauge::new("roadstead_speaker_prefixes", "Distinct prefixes that this node wants announced.")?;
    wanted.set(gauge(prefixes as u64));
    registry.register(Box::new(wanted))?;
    let families: [(&str, &str, fn(&PeerStatus) -> u64); 7] = [
        ("roadstead_speaker_session_up", "1 while the session is established.", |s| {
            u64::from(s.state == SessionState::Established)
        }),
        ("roadstead_speaker_session_flaps", "Established sessions lost since the peer was configured.", |s| s.flaps),
        ("roadstead_speaker_prefixes_sent", "Prefixes that the peer was told.", |s| s.prefixes_sent as u64),
        ("roadstead_speaker_prefixes_accepted", "Prefixes accepted from the peer.", |s| s.prefixes_accepted as u64),
        ("roadstead_speaker_prefixes_refused", "Announcements refused in this session.", |s| s.refused.values().sum()),
        ("roadstead_speaker_messages_in", "BGP messages received since the peer was configured.", |s| s.messages_in),
        ("roadstead_speaker_messages_out", "BGP messages sent since the peer was configured.", |s| s.messages_out),
    ];
    for (name, help, value) in families {
        let family = IntGaugeVec::new(Opts::new(name, help), &["peer"])?;
        for session in sessions {
            family.with_label_values(&[session.key.as_str()]).set(gauge(value(session)));
        }
        registry.register(Box::new(family))?;
    }
    Ok(())
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn internal(error: impl std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
}
