//! The event loop.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;

use roadstead_api::store::Store;

/// How the controller runs.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// True: Services without a class are left to others.
    pub only_class: bool,
    /// Classes served besides `roadstead.dev/bgp`.
    pub classes: BTreeSet<String>,
    /// Where metrics and health are served; `None`: nowhere.
    pub metrics_address: Option<SocketAddr>,
}

/// Why the controller cannot run.
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
}

/// Assigns addresses until `shutdown` is ready.
pub async fn run(_store: Store, _options: Options, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    shutdown.await;
    Ok(())
}
