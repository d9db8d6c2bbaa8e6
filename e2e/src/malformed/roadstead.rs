//! Ours: `roadstead run`, with a passive BGPPeer for each case, judged by its metrics.
//!
//! Metrics are counts, and the cases are made such that counts tell: the session gets two prefixes before the case and one
//! behind it, so three are accepted where the case changes nothing that lasts, and four were received where it announced
//! something.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::cases::{self, Case, Look, Moment, Outcome};
use super::{DIGESTED, Neighbor, Peers, number, story};
use crate::malformed::peers::Ended;
use crate::network::Namespace;
use crate::process::Process;
use crate::product::{self, Manifests};
use crate::scene::Scene;

/// On loopback of its machine.
const METRICS: &str = "127.0.0.1:7473";

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: 10.98.255.1}]}
";

/// What we did with each case; fails when that is not what the cases say.
pub(super) fn judge(
    scene: &Scene,
    machine: &Namespace,
    neighbors: &[Neighbor],
    peers: &dyn Fn() -> Result<Peers>,
    cases: &[&Case],
) -> Result<Vec<Outcome>> {
    let manifests = Manifests::with(scene, "malformed", &[("node.yaml", NODE), ("peers.yaml", &manifest(neighbors)?)])?;
    let state = scene.subdirectory("malformed-state")?;
    let mut command = product::command("roadstead", Some(machine))?;
    command.env("RUST_LOG", "info");
    command.arg("run").arg("--manifests").arg(manifests.path()).arg("--state").arg(state);
    command.args(["--node", "node-1", "--metrics-address", METRICS]);
    let mut process = Process::start(scene, "malformed-roadstead", &command)?;
    process.wait_until("roadstead to have its peers", DIGESTED, || {
        let known = metrics(machine)?.len();
        ensure!(known == neighbors.len(), "{known} of {}", neighbors.len());
        Ok(())
    })?;
    let peers = peers()?;
    let outcomes = process.wait_until("every case to end as it should", DIGESTED, || {
        let (ended, metrics) = (peers.ended()?, metrics(machine)?);
        let mut outcomes = Vec::new();
        let mut wrong = Vec::new();
        for (index, (case, ended)) in cases.iter().zip(ended).enumerate() {
            let counts = metrics.get(&peer(index)).context("a peer without metrics")?;
            let outcome = outcome(case, ended, counts);
            if outcome != Some(case.outcome) {
                wrong.push(format!("{} ({}): {outcome:?}, not {:?}", case.name, case.session.name(), case.outcome));
            }
            outcomes.extend(outcome);
        }
        ensure!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
        Ok(outcomes)
    })?;
    ensure!(!process.log().contains("panicked"), "something panicked:\n{}", process.log());
    Ok(outcomes)
}

fn peer(index: usize) -> String {
    format!("case-{index}")
}

fn manifest(neighbors: &[Neighbor]) -> Result<String> {
    let mut text = String::new();
    for (index, neighbor) in neighbors.iter().enumerate() {
        writeln!(
            text,
            "---
apiVersion: roadstead.dev/v1alpha1
kind: BGPPeer
metadata: {{name: {}}}
spec:
  localASN: {}
  peerASN: {}
  address: {}
  passive: true
  timers: {{holdSeconds: 240}}
  import: {{accept: [{{prefix: 0.0.0.0/0, le: 32}}, {{prefix: \"::/0\", le: 128}}]}}",
            peer(index),
            cases::LOCAL_ASN,
            neighbor.session.asn(),
            neighbor.address
        )?;
    }
    Ok(text)
}

/// The counters of a session, by the ends of their names.
type Counts = BTreeMap<String, u32>;

fn metrics(machine: &Namespace) -> Result<BTreeMap<String, Counts>> {
    let mut metrics: BTreeMap<String, Counts> = BTreeMap::new();
    for line in machine.run("busybox", &format!("wget -q -O - http://{METRICS}/metrics"))?.lines() {
        // `roadstead_bgp_session_up{peer="case-7"} 1`
        let parts = line.strip_prefix("roadstead_bgp_").and_then(|rest| rest.split_once("{peer=\""));
        let Some((name, rest)) = parts else { continue };
        let (peer, value) = rest.split_once("\"}").with_context(|| format!("what is {line}?"))?;
        metrics.entry(peer.to_owned()).or_default().insert(name.to_owned(), number(value)?);
    }
    Ok(metrics)
}

/// `None`: it is not known yet.
fn outcome(case: &Case, ended: Option<Ended>, counts: &Counts) -> Option<Outcome> {
    match ended {
        Some(Ended::Reset(code, subcode)) => return Some(Outcome::Reset(code, subcode)),
        Some(Ended::Closed) => return Some(Outcome::Closed),
        None => {}
    }
    let count = |name: &str| counts.get(name).copied().unwrap_or_default() as usize;
    if count("session_up") == 0 || count("messages_in") < story(case).len() {
        return None;
    }
    let announced = count("prefixes_received") > 3;
    let kept = count("prefixes_accepted") >= 3;
    Some(match case.look {
        Look::Session => Outcome::Ok,
        _ if case.moment != Moment::Established => Outcome::Ok,
        _ if count("updates_treated_as_withdrawn") > 0 => Outcome::Withdrawn,
        _ if !kept => Outcome::Refused,
        _ if !announced => Outcome::Ignored,
        _ if count("updates_with_discarded_attributes") > 0 => Outcome::Discarded,
        // What was not read leaves no trace.
        _ if case.outcome == Outcome::Unread => Outcome::Unread,
        _ => Outcome::Ok,
    })
}
