//! `roadstead lab --once` that cannot succeed says what is missing. In a file of its own, because it takes the half minute
//! after which the lab gives up: `cargo xtask test --fast` leaves it out.

use std::time::Duration;

use anyhow::{Result, ensure};
use roadstead_e2e::product::{self, Manifests};
use roadstead_e2e::{Process, scene};

/// It gives up after 30 s.
const GIVES_UP: Duration = Duration::from_secs(40);

/// A Service, and no pool to serve it from.
const NO_POOL: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {type: LoadBalancer, ports: [{port: 80}]}
";

#[test]
fn what_is_missing_is_said() -> Result<()> {
    scene("lab --once that cannot succeed", |scene| {
        let manifests = Manifests::with(scene, "manifests", &[("no-pool.yaml", NO_POOL)])?;
        let mut command = product::command("roadstead", None)?;
        command.args(["lab", "--once", "--manifests"]).arg(manifests.path()).env("TMPDIR", scene.directory());
        let mut lab = Process::start(scene, "lab", &command)?;
        let status = lab.wait(GIVES_UP)?;
        ensure!(status.code() == Some(1), "it ended with {status}: {}", lab.log());
        ensure!(lab.log().contains("default/web"), "it does not name the Service: {}", lab.log());
        Ok(())
    })
}
