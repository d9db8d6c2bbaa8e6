//! `roadstead route-server` on a machine, with its directory of manifests; and what an operator there sees of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::network::Namespace;
use crate::process::Process;
use crate::product::{self, GRACE, Manifests};
use crate::run::output_of;
use crate::scene::Scene;
use crate::wait::wait_until;

/// Where it serves sessions and metrics, on its own machine.
const METRICS: &str = "127.0.0.1:9179";

/// A running route server.
pub struct RouteServer {
    pub machine: Namespace,
    pub manifests: Manifests,
    pub process: Process,
}

impl RouteServer {
    /// Starts one with this `spec`, every line of which is indented.
    pub fn start(scene: &Scene, machine: &Namespace, spec: &str) -> Result<Self> {
        let manifests =
            Manifests::with(scene, &format!("manifests-{}", machine.name()), &[("server.yaml", &object(spec))])?;
        let process = run(scene, machine, &manifests)?;
        Ok(Self { machine: machine.clone(), manifests, process })
    }

    /// Ends it as an upgrade does, runs `meanwhile`, and starts it again.
    pub fn restart(self, scene: &Scene, meanwhile: impl FnOnce() -> Result<()>) -> Result<Self> {
        let Self { machine, manifests, process } = self;
        let status = process.terminate(GRACE)?;
        ensure!(status.success(), "the route server ended with {status}");
        meanwhile()?;
        let process = run(scene, &machine, &manifests)?;
        Ok(Self { machine, manifests, process })
    }

    /// Gives it another version of its manifest.
    pub fn edit(&self, spec: &str) -> Result<()> {
        self.manifests.write("server.yaml", &object(spec))
    }

    /// What `/sessions`, `/metrics` and the like answer.
    pub fn page(&self, path: &str) -> Result<String> {
        self.machine.run("busybox", &format!("wget -q -O - http://{METRICS}{path}"))
    }

    /// What `roadstead` answers to somebody on its machine who looks at it.
    pub fn look(&self, arguments: &[&str]) -> Result<String> {
        let socket = self.manifests.path().join(".roadstead/route-server-default/speaker.sock");
        output_of(product::command("roadstead", None)?.args(arguments).arg("--socket").arg(socket))
    }

    /// What it has accepted of a prefix, best first: the members of `paths` of `roadstead explain`.
    pub fn paths(&self, prefix: &str) -> Result<Vec<Value>> {
        let answer = self.look(&["explain", prefix, "-o", "json"])?;
        let answer: Value = serde_json::from_str(&answer).with_context(|| format!("no JSON: {answer}"))?;
        let paths = answer.get("paths").and_then(Value::as_array).with_context(|| format!("no paths in {answer}"))?;
        Ok(paths.clone())
    }

    /// Waits, as long as it runs.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut(&Self) -> Result<T>,
    ) -> Result<T> {
        self.process.ensure_running()?;
        wait_until(what, limit, || probe(self))
    }

    /// Whether somebody could connect to this address, by the kernel's list of listening sockets.
    pub fn listens(&self, address: &str) -> Result<bool> {
        let sockets = self.machine.run("ss", "-Hltn")?;
        Ok(sockets.lines().any(|line| line.split_whitespace().nth(3) == Some(address)))
    }
}

fn run(scene: &Scene, machine: &Namespace, manifests: &Manifests) -> Result<Process> {
    let mut command = product::command("roadstead", Some(machine))?;
    command.args(["route-server", "--metrics-address", METRICS, "--manifests"]).arg(manifests.path());
    Process::start(scene, "route-server", &command)
}

fn object(spec: &str) -> String {
    format!("apiVersion: roadstead.dev/v1alpha1\nkind: RouteServer\nmetadata: {{name: default}}\nspec:\n{spec}")
}
