//! Clusters side by side, before anybody peers: `export` and `check`.
//!
//! [`source`] reads what a cluster uses, from manifests or from its API server; [`mod@export`] writes it as plain manifests, [`mod@check`]
//! compares two and more. The comparing itself is [`roadstead_api::overlap`].

mod check;
mod export;
mod source;

pub(crate) use check::{CheckFlags, check};
pub(crate) use export::{ExportFlags, export};
