//! Kubernetes from its real parts: etcd and kube-apiserver for most tests, whole nodes for some.

mod chart;
mod control_plane;
mod image;
mod node;

use std::path::PathBuf;

use anyhow::{Context, Result};

pub use chart::Chart;
pub use control_plane::{ControlPlane, User};
pub use image::build_image;
pub use node::{Node, NodeSpec, is_ready};

/// The path of a tool that `cargo xtask prepare` brought: from `ROADSTEAD_TOOLS`, else from where xtask puts them.
pub fn tool(name: &str) -> Result<PathBuf> {
    let mut candidates: Vec<PathBuf> = std::env::var_os("ROADSTEAD_TOOLS").map(PathBuf::from).into_iter().collect();
    candidates.push(workspace().join("target/tools/bin"));
    candidates
        .iter()
        .map(|directory| directory.join(name))
        .find(|path| path.exists())
        .with_context(|| format!("no {name} in {candidates:?}: run `cargo xtask prepare`"))
}

/// The root of the workspace: the chart and the samples are part of what is tested.
pub fn workspace() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}
