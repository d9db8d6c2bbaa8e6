//! `roadstead check`: what two clusters both use.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::ensure;
use ipnet::IpNet;
use roadstead_api::checked::AddressRange;
use roadstead_api::overlap::{Collision, Held, Holding, Side, Territory, Vacancies, collisions, prefixes};
use serde::Serialize;

use super::source::{Cluster, Source};
use crate::look::{Form, Table, or_dash};

/// What is found makes this of the exit code; 1 is an error.
const COLLISIONS: u8 = 2;

/// Compare the addresses that two or more clusters use, before they are joined.
///
/// Each is a file or a directory of manifests (of `roadstead export`, or of `kubectl get -o yaml`: ClusterNetwork, AddressPools,
/// PodPools, ServiceCIDRs, Nodes, Services, AddressClaims), a kubeconfig, or a context of the kubeconfig. What two of them both use is
/// printed with both holders and a free range of the same size; the same ASN or name on both sides is told too. Nothing is written.
/// Exits with 0 when there is nothing of the kind, 2 when there is, 1 when something cannot be read.
#[derive(clap::Args)]
pub(crate) struct CheckFlags {
    /// Two or more clusters
    #[arg(value_name = "FILE|DIR|CONTEXT")]
    clusters: Vec<String>,

    /// How to print it
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// All that was found, as `-o json` prints it.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Findings {
    /// What stands in the way beside addresses, in words.
    refusals: Vec<String>,
    collisions: Vec<CollisionView>,
}

/// A collision of two clusters.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CollisionView {
    range: String,
    one: SideView,
    other: SideView,
    /// A free range of the same size; none: there is no room in private address space.
    proposal: Option<String>,
}

/// One side of a collision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SideView {
    cluster: String,
    /// The longest prefix first.
    holders: Vec<HolderView>,
    /// How many more hold the range.
    more: usize,
}

/// Somebody who holds a range.
#[derive(Debug, Serialize)]
struct HolderView {
    prefix: String,
    holder: String,
}

/// Reads every source, compares, prints.
#[allow(clippy::print_stdout, reason = "the answer of a command is its output")]
pub(crate) async fn check(flags: CheckFlags) -> anyhow::Result<ExitCode> {
    let CheckFlags { clusters, output } = flags;
    ensure!(clusters.len() > 1, "give two clusters or more to compare; {} given", clusters.len());
    let mut seen = BTreeSet::new();
    let mut all = Vec::with_capacity(clusters.len());
    for argument in &clusters {
        let source = Source::new(argument)?;
        ensure!(seen.insert(source.identity()), "{argument}: given twice; a cluster is compared to others");
        all.push(Cluster::read(&source).await?);
    }
    let findings = compare(&all);
    match output {
        Form::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
        Form::Table => print!("{}", in_words(&findings, &all)),
    }
    let is_clear = findings.refusals.is_empty() && findings.collisions.is_empty();
    Ok(if is_clear { ExitCode::SUCCESS } else { ExitCode::from(COLLISIONS) })
}

fn compare(clusters: &[Cluster]) -> Findings {
    let mut findings = Findings::default();
    let mut vacancies = Vacancies::beside(clusters.iter().map(|cluster| &cluster.territory));
    for (index, one) in clusters.iter().enumerate() {
        for other in &clusters[index + 1..] {
            findings.refusals.extend(refusals(one, other));
            let (ours, theirs) = without_shared_segments(&one.territory, &other.territory);
            for collision in collisions(&ours, &theirs) {
                let proposal = vacancies.propose(collision.range);
                findings.collisions.push(view(&collision, one, other, proposal));
            }
        }
    }
    findings
}

/// Both territories without the networks that nodes of both are on: where that is one network, as between gateways that are
/// neighbours, it is nobody's alone. Nodes' addresses, and ranges that are declared, still tell two networks of one number.
fn without_shared_segments<'a>(one: &'a Territory, other: &'a Territory) -> (Cow<'a, Territory>, Cow<'a, Territory>) {
    let segments = |territory: &Territory| -> BTreeSet<IpNet> {
        let connected = territory.iter().filter(|held| matches!(held.holder.holding, Holding::Connected { .. }));
        connected.map(|held| held.prefix).collect()
    };
    let shared: BTreeSet<IpNet> = segments(one).intersection(&segments(other)).copied().collect();
    if shared.is_empty() {
        return (Cow::Borrowed(one), Cow::Borrowed(other));
    }
    let is_kept =
        |held: &Held<'_>| !(shared.contains(&held.prefix) && matches!(held.holder.holding, Holding::Connected { .. }));
    let rest = |territory: &Territory| {
        territory.iter().filter(is_kept).map(|held| (held.prefix, held.holder.clone())).collect()
    };
    (Cow::Owned(rest(one)), Cow::Owned(rest(other)))
}

/// What makes a link of two clusters something else than is meant, whatever their addresses.
fn refusals(one: &Cluster, other: &Cluster) -> Vec<String> {
    let mut found = Vec::new();
    if one.is_named && other.is_named && one.name == other.name {
        found.push(format!(
            "two clusters are both called {}: a link names its remote cluster; give one another spec.clusterName in its \
             ClusterNetwork default",
            one.name
        ));
    }
    if let (Some(asn), true) = (one.asn, one.asn == other.asn) {
        found.push(format!(
            "{} and {} both have ASN {asn}: a session between them would be iBGP, which passes nothing on, by accident; give one \
             another spec.asn in its ClusterNetwork default",
            one.name, other.name
        ));
    }
    found
}

fn view(collision: &Collision, one: &Cluster, other: &Cluster, proposal: Option<IpNet>) -> CollisionView {
    let side = |cluster: &Cluster, side: &Side| SideView {
        cluster: cluster.name.to_string(),
        holders: side
            .holders
            .iter()
            .map(|(prefix, holder)| HolderView { prefix: prefix.to_string(), holder: holder.holding.to_string() })
            .collect(),
        more: side.more,
    };
    CollisionView {
        range: shown(collision.range),
        one: side(one, &collision.one),
        other: side(other, &collision.other),
        proposal: proposal.map(|free| free.to_string()),
    }
}

/// A range as a CIDR where it is one.
fn shown(range: AddressRange) -> String {
    let mut parts = prefixes(range);
    match (parts.next(), parts.next()) {
        (Some(whole), None) => whole.to_string(),
        _ => range.to_string(),
    }
}

fn in_words(findings: &Findings, clusters: &[Cluster]) -> String {
    let mut text: String = findings.refusals.iter().map(|refusal| format!("{refusal}\n")).collect();
    if !findings.collisions.is_empty() {
        let mut table = Table::new(&["COLLISION", "CLUSTER", "HELD BY", "CLUSTER", "HELD BY", "FREE INSTEAD"]);
        for found in &findings.collisions {
            table.row(vec![
                found.range.clone(),
                found.one.cluster.clone(),
                holders(&found.one, &found.range),
                found.other.cluster.clone(),
                holders(&found.other, &found.range),
                or_dash(found.proposal.clone().unwrap_or_default()),
            ]);
        }
        text += &table.print();
    }
    let names: Vec<&str> = clusters.iter().map(|cluster| &*cluster.name).collect();
    let prefixes: usize = clusters.iter().map(|cluster| cluster.territory.len()).sum();
    let collisions = match findings.collisions.len() {
        0 => "no address is used by two of them".to_owned(),
        1 => "1 collision".to_owned(),
        many => format!("{many} collisions"),
    };
    text + &format!("{}: {prefixes} prefixes compared, {collisions}\n", names.join(", "))
}

/// Who holds a range, with what they hold where that is a larger prefix.
fn holders(side: &SideView, range: &str) -> String {
    let Some(first) = side.holders.first() else { return String::new() };
    let is_larger = range.parse::<IpNet>().is_ok_and(|range| range.to_string() != first.prefix);
    let larger = if is_larger { format!(" ({})", first.prefix) } else { String::new() };
    match side.holders.len() - 1 + side.more {
        0 => format!("{}{larger}", first.holder),
        more => format!("{}{larger} and {more} more", first.holder),
    }
}
