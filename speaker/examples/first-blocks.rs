//! `cargo xtask bench pods` runs this: nodes that all want their first block at once, beside as many bare creates of claims.
//!
//! The nodes are the speaker's own part for pods, each with its book, journal and socket, in one process and with one client of the API
//! server. Each is told of its own claim as soon as the watch tells it, and of all others only after the round: as nodes are whose
//! watches lag, so that what is kept apart is kept apart by the names of claims alone.
//!
//! Prints `{"bare": [seconds, ...], "blocks": [seconds, ...]}`.

#![allow(clippy::print_stdout, reason = "a benchmark is for reading")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use roadstead_api::checked::PodPool;
use roadstead_api::kinds::AddressClaim;
use roadstead_api::store::{Event, Kind, KubernetesStore, Object, Store, Watch};
use roadstead_speaker::picture::MissingNode;
use roadstead_speaker::pods::{BLOCK_RETURN, PodOptions, Pods};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("usage: first-blocks KUBECONFIG DIRECTORY NODES POOL...");
    let (kubeconfig, directory) = (PathBuf::from(next()?), PathBuf::from(next()?));
    let count: usize = next()?.parse()?;
    let pools: Vec<String> = arguments.collect();
    let store = Store::Kubernetes(KubernetesStore::connect(Some(kubeconfig), "roadstead-speaker").await?);

    let kinds = [Kind::PodPool, Kind::Namespace, Kind::AddressPool, Kind::AddressClaim, Kind::ClusterNetwork];
    let mut events = store.watch(kinds.map(Watch::all).to_vec());
    let nodes = Arc::new((0..count).map(|number| Node::start(&store, &directory, number)).collect::<Result<Vec<_>>>()?);
    tell_until_judged(&mut events, &nodes, &pools).await?;

    let (mut bare, mut blocks) = (Vec::new(), Vec::new());
    for (round, pool) in pools.iter().enumerate() {
        bare.push(bare_creates(&store, round, count).await?);
        let watched = tokio::spawn(tell_owners(events, nodes.clone(), pool.clone(), count));
        let begin = Instant::now();
        let mut calls = JoinSet::new();
        for node in nodes.iter() {
            calls.spawn(add(node.socket.clone(), node.name.clone(), pool.clone()));
        }
        let mut addresses = BTreeSet::new();
        while let Some(address) = calls.join_next().await {
            let address = address??;
            ensure!(addresses.insert(address.clone()), "{address} was given twice");
        }
        blocks.push(begin.elapsed().as_secs_f64());
        let seen;
        (events, seen) = watched.await??;
        // One for each node, and no two that overlap: they are all of one length.
        let owners: BTreeSet<&str> = seen.values().filter_map(node_of).collect();
        ensure!(seen.len() == count && owners.len() == count, "{} blocks of {} nodes", seen.len(), owners.len());
        for claim in seen.into_values() {
            let event = Event::Applied(Object::AddressClaim(claim));
            nodes.iter().for_each(|node| node.pods.handle(&event));
        }
    }
    println!("{}", json!({ "bare": bare, "blocks": blocks }));
    Ok(())
}

struct Node {
    name: String,
    pods: Pods,
    socket: PathBuf,
}

impl Node {
    fn start(store: &Store, directory: &Path, number: usize) -> Result<Self> {
        let name = format!("sim-{number}");
        let state = directory.join(&name);
        let socket = state.join("speaker.sock");
        let options = PodOptions { state, socket: socket.clone(), block_return: BLOCK_RETURN };
        let pods = Pods::open(store.clone(), &name, MissingNode::Implied, &options)?;
        let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
        tokio::spawn(axum::serve(listener, pods.routes()).into_future());
        Ok(Self { name, pods, socket })
    }
}

/// Tells every node what there is, until the controller has looked at all of the pools.
async fn tell_until_judged(events: &mut mpsc::Receiver<Event>, nodes: &[Node], pools: &[String]) -> Result<()> {
    let mut judged = BTreeSet::new();
    let (mut synced, all) = (0, 5);
    while synced < all || !pools.iter().all(|pool| judged.contains(pool)) {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.context("the pools are not judged")?;
        let event = event.context("the store's stream has ended")?;
        match &event {
            Event::Synced(_) => synced += 1,
            Event::Applied(Object::PodPool(raw)) => {
                judged.extend(PodPool::check(raw).ok().filter(|pool| pool.is_judged).map(|pool| pool.name));
            }
            _ => {}
        }
        nodes.iter().for_each(|node| node.pods.handle(&event));
    }
    // These have neither Node objects nor pods.
    for kind in [Kind::Node, Kind::Pod] {
        nodes.iter().for_each(|node| node.pods.handle(&Event::Synced(kind)));
    }
    Ok(())
}

type Blocks = BTreeMap<String, Arc<AddressClaim>>;

/// Tells each node of its own claim alone, until as many as there are nodes are there.
async fn tell_owners(
    mut events: mpsc::Receiver<Event>,
    nodes: Arc<Vec<Node>>,
    pool: String,
    count: usize,
) -> Result<(mpsc::Receiver<Event>, Blocks)> {
    let by_name: BTreeMap<&str, &Node> = nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let mut seen = Blocks::new();
    while seen.len() < count {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.context("not all claims are told")?;
        let event = event.context("the store's stream has ended")?;
        let Event::Applied(Object::AddressClaim(claim)) = &event else { continue };
        if claim.spec.pool.0 != pool {
            continue;
        }
        if let Some(node) = node_of(claim).and_then(|name| by_name.get(name)) {
            node.pods.handle(&event);
        }
        seen.insert(claim.metadata.name.clone().unwrap_or_default(), claim.clone());
    }
    Ok((events, seen))
}

fn node_of(claim: &Arc<AddressClaim>) -> Option<&str> {
    claim.spec.node_name.as_ref().map(|name| name.0.as_str())
}

/// As many claims at once, by somebody who does nothing else; seconds.
async fn bare_creates(store: &Store, round: usize, count: usize) -> Result<f64> {
    let begin = Instant::now();
    let mut creates = JoinSet::new();
    for number in 0..count {
        let net = format!("198.{}.{}.{}/30", 18 + round, number / 64, number % 64 * 4);
        let owner = json!({ "kind": "Node", "name": "bench", "uid": "bench" });
        let claim: AddressClaim = serde_json::from_value(json!({
            "metadata": { "name": net.replace('/', "-") },
            "spec": { "cidr": net, "pool": "bare", "nodeName": "bench", "owners": [owner] },
        }))?;
        let store = store.clone();
        creates.spawn(async move { store.create_claim(&claim).await });
    }
    while let Some(made) = creates.join_next().await {
        made?.context("a bare create")?;
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// Asks as the plugin does; the address.
async fn add(socket: PathBuf, container: String, pool: String) -> Result<String> {
    let request = json!({
        "attachment": { "containerID": format!("{container}-{pool}"), "ifname": "eth0" },
        "netns": "/run/netns/none",
        "network": { "name": "net", "pools": [pool] },
    })
    .to_string();
    let mut stream = UnixStream::connect(&socket).await?;
    let head = format!(
        "POST /v1/cni/add HTTP/1.0\r\nHost: speaker\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        request.len()
    );
    stream.write_all(&[head, request].concat().into_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let assignment: serde_json::Value = serde_json::from_str(body).with_context(|| answer.clone())?;
    let address = assignment.pointer("/addresses/0/address").and_then(serde_json::Value::as_str);
    Ok(address.with_context(|| answer.clone())?.to_owned())
}
