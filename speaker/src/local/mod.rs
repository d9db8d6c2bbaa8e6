//! What an operator on the node may ask the speaker: JSON over HTTP on a Unix socket.
//!
//! | `GET` | answers |
//! |---|---|
//! | `/v1/status` | [`StatusView`]: every session, with timers, counters, capabilities and the last hundred refusals |
//! | `/v1/routes?direction=in` or `out`, `&peer=`, `&prefix=`, `&after=`, `&limit=` | [`RoutesView`]: a page of accepted or told routes |
//! | `/v1/explain?prefix=` | [`ExplainView`]: why a prefix is reached as it is, and who was refused it |
//!
//! Beside these, the CNI plugin's questions ([`roadstead_cni::socket`]). By the others nothing can be changed, and an answer costs the engine a bounded number of looks. The socket is its owner's and its
//! group's: routes and neighbours are nobody else's business.

mod client;
mod server;
mod view;

pub use client::{ClientError, get, path_with};
pub use server::{Source, start};
pub use view::{
    ExplainView, ExplainedView, LimitView, MalformedView, RefusalView, RouteView, RoutesView, SessionView, StatusView,
};
pub(crate) use view::{limit_state, outcome};

/// Where the speaker listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/roadstead/speaker.sock";
