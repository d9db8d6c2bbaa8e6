//! Metrics and health, over HTTP: `/metrics`, `/livez`, `/readyz`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;

use crate::plan::{Count, Plan};

/// The controller's metrics; cheap to clone.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    addresses: IntGaugeVec,
    pending: IntGauge,
    writes: IntCounterVec,
    ready: Arc<AtomicBool>,
}

impl Metrics {
    /// Metrics in a registry of their own: the process may hold a speaker as well.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let addresses = IntGaugeVec::new(
            Opts::new(
                "roadstead_controller_addresses",
                "Addresses by pool, family and state (total, allocated, available); saturates at 2^63-1",
            ),
            &["pool", "family", "state"],
        )?;
        let pending =
            IntGauge::new("roadstead_controller_services_pending", "Services of our class that have no address")?;
        let writes = IntCounterVec::new(
            Opts::new("roadstead_controller_writes_total", "Attempts to write to the store, by kind and outcome"),
            &["kind", "outcome"],
        )?;
        registry.register(Box::new(addresses.clone()))?;
        registry.register(Box::new(pending.clone()))?;
        registry.register(Box::new(writes.clone()))?;
        Ok(Self { registry, addresses, pending, writes, ready: Arc::default() })
    }

    /// Counts an attempt to write.
    pub(crate) fn wrote(&self, kind: &'static str, outcome: &'static str) {
        self.writes.with_label_values(&[kind, outcome]).inc();
    }

    /// Takes over what the plan knows.
    pub(crate) fn update(&self, plan: &Plan) {
        self.ready.store(plan.is_synced(), Ordering::Relaxed);
        self.pending.set(i64::try_from(plan.pending()).unwrap_or(i64::MAX));
        // Pools that are gone lose their series.
        self.addresses.reset();
        for (pool, report) in plan.pools() {
            for (family, count) in [("ipv4", report.ipv4), ("ipv6", report.ipv6)] {
                let Some(Count { total, allocated, available }) = count else { continue };
                for (state, number) in [("total", total), ("allocated", allocated), ("available", available)] {
                    let number = i64::try_from(number).unwrap_or(i64::MAX);
                    self.addresses.with_label_values(&[pool, family, state]).set(number);
                }
            }
        }
    }

    /// Says that the controller can serve.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Serves metrics and health for as long as it is polled.
    pub(crate) async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        let router = Router::new()
            .route("/metrics", get(scrape))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(readiness))
            .with_state(self);
        axum::serve(listener, router).await
    }
}

/// Listens, or says on which address that was not possible.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, crate::RunError> {
    TcpListener::bind(address).await.map_err(|error| crate::RunError::Listen { address, error })
}

async fn scrape(State(metrics): State<Metrics>) -> Result<String, StatusCode> {
    TextEncoder::new().encode_to_string(&metrics.registry.gather()).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn readiness(State(metrics): State<Metrics>) -> (StatusCode, &'static str) {
    match metrics.ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ok\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the stores are not synced yet\n"),
    }
}
