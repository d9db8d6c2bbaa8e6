//! `/sessions`, `/metrics`, `/livez` and `/readyz`.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use roadstead_bgp::bfd::{BfdSessionStatus, BfdStatus, State as BfdState};
use roadstead_bgp::driver::Handle;
use roadstead_bgp::{MalformedOutcome, PeerStatus, SessionState};
use tokio::net::TcpListener;

use crate::{local, report};

/// What the endpoints tell.
#[derive(Clone)]
pub struct Telemetry {
    engine: Handle,
    ready: Arc<AtomicBool>,
    /// Of a speaker, once it is known.
    prefixes: Arc<Mutex<Option<usize>>>,
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
        *self.prefixes.lock().unwrap_or_else(PoisonError::into_inner) = Some(count);
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
        .route("/sessions", get(sessions))
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
    let prefixes = *telemetry.prefixes.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(prefixes) = prefixes {
        register_speaker(&registry, prefixes).map_err(internal)?;
    }
    register(&registry, &sessions).map_err(internal)?;
    let bfd = telemetry.engine.bfd().await.map_err(internal)?;
    register_bfd(&registry, &bfd.bfd).map_err(internal)?;
    TextEncoder::new().encode_to_string(&registry.gather()).map_err(internal)
}

/// A line for each session, for people.
async fn sessions(State(telemetry): State<Telemetry>) -> Result<String, (StatusCode, String)> {
    let sessions = telemetry.engine.status().await.map_err(internal)?;
    let mut lines = vec![format!(
        "{:<32} {:<40} {:>10} {:<12} {:>9} {:>9} {:>9} {:>9}  {}",
        "SESSION", "ADDRESS", "ASN", "STATE", "SECONDS", "ACCEPTED", "REFUSED", "SENT", "LAST ERROR"
    )];
    lines.extend(sessions.iter().map(|session| {
        let line = format!(
            "{:<32} {:<40} {:>10} {:<12} {:>9} {:>9} {:>9} {:>9}  {}",
            session.key.as_str(),
            report::address(session),
            session.remote_asn.map(|asn| asn.to_string()).unwrap_or_default(),
            session.state.name(),
            session.since.elapsed().as_secs(),
            session.prefixes_accepted,
            session.refused.values().sum::<u64>(),
            session.prefixes_sent,
            session.last_error.as_deref().unwrap_or_default(),
        );
        line.trim_end().to_owned()
    }));
    Ok(lines.join("\n") + "\n")
}

/// A route server announces nothing of its own.
fn register_speaker(registry: &Registry, prefixes: usize) -> prometheus::Result<()> {
    let wanted = IntGauge::new("roadstead_speaker_prefixes", "Distinct prefixes that this node wants announced.")?;
    wanted.set(gauge(prefixes as u64));
    registry.register(Box::new(wanted))
}

/// Of whoever runs the engine.
fn register(registry: &Registry, sessions: &[PeerStatus]) -> prometheus::Result<()> {
    let families: [(&str, &str, fn(&PeerStatus) -> u64); 10] = [
        ("roadstead_bgp_session_up", "1 while the session is established.", |s| {
            u64::from(s.state == SessionState::Established)
        }),
        ("roadstead_bgp_session_flaps", "Established sessions lost since the peer was configured.", |s| s.flaps),
        ("roadstead_bgp_prefixes_sent", "Prefixes that the peer was told.", |s| s.prefixes_sent as u64),
        ("roadstead_bgp_prefixes_received", "Announcements received in this session.", |s| s.prefixes_received),
        ("roadstead_bgp_prefixes_accepted", "Prefixes accepted from the peer.", |s| s.prefixes_accepted as u64),
        ("roadstead_bgp_prefixes_refused", "Announcements refused in this session.", |s| s.refused.values().sum()),
        (
            "roadstead_bgp_updates_with_discarded_attributes",
            "Malformed UPDATEs in this session that cost an attribute (RFC 7606).",
            |s| s.updates_with_discarded_attributes,
        ),
        (
            "roadstead_bgp_updates_treated_as_withdrawn",
            "Malformed UPDATEs in this session that cost their routes (RFC 7606).",
            |s| s.updates_treated_as_withdrawn,
        ),
        ("roadstead_bgp_messages_in", "BGP messages received since the peer was configured.", |s| s.messages_in),
        ("roadstead_bgp_messages_out", "BGP messages sent since the peer was configured.", |s| s.messages_out),
    ];
    for (name, help, value) in families {
        let family = IntGaugeVec::new(Opts::new(name, help), &["peer"])?;
        for session in sessions {
            family.with_label_values(&[session.key.as_str()]).set(gauge(value(session)));
        }
        registry.register(Box::new(family))?;
    }
    register_by(
        registry,
        "roadstead_bgp_refusals",
        "Announcements refused in this session, by reason.",
        "reason",
        sessions,
        |s| s.refused.iter().map(|(reason, count)| (reason.to_string(), *count)).collect(),
    )?;
    register_by(
        registry,
        "roadstead_bgp_malformed_updates",
        "Malformed UPDATEs in this session that cost less than it, by what they cost (RFC 7606).",
        "outcome",
        sessions,
        |s| {
            let outcomes = [
                (MalformedOutcome::AttributeDiscarded, s.updates_with_discarded_attributes),
                (MalformedOutcome::TreatedAsWithdrawn, s.updates_treated_as_withdrawn),
            ];
            outcomes.into_iter().map(|(outcome, count)| (local::outcome(outcome).to_owned(), count)).collect()
        },
    )?;
    register_by(
        registry,
        "roadstead_bgp_max_prefixes",
        "Accepted prefixes that are allowed, by family; absent where there is no limit.",
        "family",
        sessions,
        |s| s.limits.iter().map(|limit| (limit.family.to_string(), u64::from(limit.limit))).collect(),
    )
}

/// A family with a second label. Its values are ours: no peer decides how many there are.
fn register_by(
    registry: &Registry,
    name: &str,
    help: &str,
    label: &str,
    sessions: &[PeerStatus],
    values: fn(&PeerStatus) -> Vec<(String, u64)>,
) -> prometheus::Result<()> {
    let family = IntGaugeVec::new(Opts::new(name, help), &["peer", label])?;
    for session in sessions {
        for (value, count) in values(session) {
            family.with_label_values(&[session.key.as_str(), &value]).set(gauge(count));
        }
    }
    registry.register(Box::new(family))
}

fn register_bfd(registry: &Registry, bfd: &BfdStatus) -> prometheus::Result<()> {
    let families: [(&str, &str, fn(&BfdSessionStatus) -> u64); 5] = [
        ("roadstead_bfd_session_up", "1 while the BFD session is up.", |s| u64::from(s.state == BfdState::Up)),
        ("roadstead_bfd_session_ups", "How often the BFD session came up.", |s| s.ups),
        ("roadstead_bfd_session_downs", "How often the BFD session went from Up to Down.", |s| s.downs),
        ("roadstead_bfd_packets_in", "BFD packets received and not discarded.", |s| s.packets_in),
        ("roadstead_bfd_packets_out", "BFD packets sent.", |s| s.packets_out),
    ];
    for (name, help, value) in families {
        let family = IntGaugeVec::new(Opts::new(name, help), &["peer"])?;
        for (key, session) in &bfd.sessions {
            family.with_label_values(&[key.as_str()]).set(gauge(value(session)));
        }
        registry.register(Box::new(family))?;
    }
    let help = "BFD packets thrown away, by reason; without a peer where they belong to no session.";
    let discarded = IntGaugeVec::new(Opts::new("roadstead_bfd_packets_discarded", help), &["peer", "reason"])?;
    let of_nobody = bfd.discarded.iter().map(|(reason, count)| ("", reason, count));
    let of_sessions = bfd
        .sessions
        .iter()
        .flat_map(|(key, session)| session.discarded.iter().map(|(reason, count)| (key.as_str(), reason, count)));
    for (peer, reason, count) in of_nobody.chain(of_sessions) {
        discarded.with_label_values(&[peer, reason.name()]).set(gauge(*count));
    }
    registry.register(Box::new(discarded))
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn internal(error: impl std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
}
