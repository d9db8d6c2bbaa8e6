//! The Helm chart, rendered as a user's `helm install` would.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{tool, workspace};
use crate::run::output_of;

/// Kinds that start Pods; a test that runs our binaries as processes leaves them out.
const WORKLOADS: &[&str] = &["Deployment", "DaemonSet", "Job", "Pod"];

/// The rendered chart.
pub struct Chart {
    documents: Vec<String>,
}

impl Chart {
    /// Renders `charts/roadstead` with its default values, CRDs included.
    pub fn render() -> Result<Self> {
        Self::render_with(&[])
    }

    /// Renders it with some values set: `speaker.pods=true`.
    pub fn render_with(values: &[&str]) -> Result<Self> {
        Self::render_flags(values.iter().flat_map(|value| [OsStr::new("--set"), OsStr::new(*value)]))
    }

    /// Renders it with a file of values.
    pub fn render_with_values(file: &Path) -> Result<Self> {
        Self::render_flags([OsStr::new("--values"), file.as_os_str()])
    }

    fn render_flags<'a>(flags: impl IntoIterator<Item = &'a OsStr>) -> Result<Self> {
        let mut command = Command::new(tool("helm")?);
        command.args(["template", "roadstead"]).arg(workspace().join("charts/roadstead"));
        command.args(["--namespace", "roadstead-system"]).args(flags);
        let rendered = output_of(&mut command).context("the chart cannot be rendered")?;
        let documents = format!("\n{rendered}")
            .split("\n---")
            .filter(|document| kind(document).is_some())
            .map(str::to_owned)
            .collect();
        Ok(Self { documents })
    }

    /// The CRDs.
    pub fn crds(&self) -> String {
        self.select(|kind| kind == "CustomResourceDefinition")
    }

    /// Accounts, roles, bindings and policies: what the components may do, without the components.
    pub fn rights(&self) -> String {
        self.select(|kind| kind != "CustomResourceDefinition" && !WORKLOADS.contains(&kind))
    }

    /// What starts Pods.
    pub fn workloads(&self) -> String {
        self.select(|kind| WORKLOADS.contains(&kind))
    }

    fn select(&self, wanted: impl Fn(&str) -> bool) -> String {
        let documents = self.documents.iter().filter(|document| kind(document).is_some_and(&wanted));
        documents.map(|document| format!("---\n{document}\n")).collect()
    }
}

fn kind(document: &str) -> Option<&str> {
    document.lines().find_map(|line| line.strip_prefix("kind: ")).map(str::trim)
}
