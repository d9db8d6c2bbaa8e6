//! Clusters side by side, before anybody peers: `export` and `check`.
//!
//! [`source`] reads what a cluster uses, from manifests or from its API server; [`mod@export`] writes it as plain manifests, [`mod@check`]
//! compares two and more, and [`mod@edge_config`] writes the file of a host outside. The comparing itself is [`roadstead_api::overlap`].

mod check;
mod edge_config;
mod export;
mod source;

pub(crate) use check::{CheckFlags, check};
pub(crate) use edge_config::{EdgeConfigFlags, edge_config};
pub(crate) use export::{ExportFlags, export};
