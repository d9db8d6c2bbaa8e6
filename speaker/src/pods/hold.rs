//! What is done about blocks: claimed when there is need, held in the kernel, and given back once no router knows the way any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use roadstead_api::checked::ClaimName;
use roadstead_api::kinds::{AddressClaim, AddressClaimSpec, ClaimOwner, OwnerKind};
use roadstead_api::store::WriteError;
use roadstead_cni::socket::Refusal;
use tokio::time::timeout_at;

use super::record::ClaimVersion;
use super::{Pods, kernel};

/// How long the store may take to tell of a claim that it has made.
const PATIENCE: Duration = Duration::from_secs(10);

/// Blocks that are tried: others were faster that often.
const TRIES: usize = 1000;

/// How closely it is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Whether anything that we know of changed.
    Quick,
    /// Also whether anything changed that nobody told us.
    Thorough,
}

impl Pods {
    /// Claims a block of a pool, unless another call has done so meanwhile. It is ours when the store's watch tells of it.
    pub(super) async fn claim_block(&self, pool: &str) -> Result<(), Refusal> {
        let _alone = self.0.claiming.lock().await;
        if self.state().book.needs_block(pool) { self.claim_next_block(pool).await } else { Ok(()) }
    }

    async fn claim_next_block(&self, pool: &str) -> Result<(), Refusal> {
        let refuse = |message: String| Refusal { code: Refusal::TRY_LATER, message, details: String::new() };
        for _ in 0..TRIES {
            let (net, claim) = {
                let state = self.state();
                // Whoever asked hears that all are taken.
                let Some(net) = state.book.next_block(pool) else { return Ok(()) };
                (net, claim_of(net, pool, &self.0.node, state.world.node_uid()))
            };
            match self.0.store.create_claim(&claim).await {
                Ok(_) => return self.wait_for_block(net).await,
                Err(WriteError::AlreadyExists(_)) => {
                    let found = self.0.store.claim(ClaimName::from(net).as_str()).await;
                    let found = found.map_err(|error| refuse(format!("block {net} of pool {pool}: {error}")))?;
                    let Some(found) = found else { continue };
                    if found.spec.node_name.as_ref().is_some_and(|node| node.0 == self.0.node) {
                        // From a try whose answer was lost.
                        return self.wait_for_block(net).await;
                    }
                    self.state().book.set_foreign_block(net);
                }
                Err(error) => return Err(refuse(format!("block {net} of pool {pool} cannot be claimed: {error}"))),
            }
        }
        Err(refuse(format!("{TRIES} blocks of pool {pool} in a row were claimed by other nodes first")))
    }

    async fn wait_for_block(&self, net: IpNet) -> Result<(), Refusal> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let changed = self.0.changed.notified();
            if self.state().book.knows_block(net) {
                return Ok(());
            }
            if timeout_at(deadline, changed).await.is_err() {
                let message = format!("the claim of block {net} is made, and the store has not told of it yet");
                return Err(Refusal { code: Refusal::TRY_LATER, message, details: String::new() });
            }
        }
    }

    /// Does whatever is due about blocks.
    pub(super) async fn mind_blocks(&self, look: Look) {
        if !self.state().world.unsynced().is_empty() {
            return;
        }
        let delay = self.0.block_return;
        if self.state().book.let_empty_blocks_go(Instant::now(), delay) {
            self.0.news.notify_one();
        }
        self.hold_blocks(look).await;
        if !std::mem::replace(&mut self.state().is_settled, true) {
            self.0.news.notify_one();
        }
        self.take_marks_off().await;
        self.give_blocks_back().await;
        // Last, because the store may take its time, and routers wait for what is above.
        self.claim_ahead().await;
    }

    /// Claims another block of each pool of which all are nearly full.
    async fn claim_ahead(&self) {
        let nearly_full = self.state().book.pools_nearly_full();
        for pool in nearly_full {
            let _alone = self.0.claiming.lock().await;
            if self.state().book.pools_nearly_full().contains(&pool)
                && let Err(refusal) = self.claim_next_block(&pool).await
            {
                tracing::warn!(pool, "no further block yet: {}", refusal.message);
            }
        }
    }

    /// Brings the kernel's routes in line with the blocks that are ours. Those of an earlier run may be there still, and somebody may
    /// have removed some, so at a look it is asked what there is.
    async fn hold_blocks(&self, look: Look) {
        let wanted: BTreeSet<IpNet> = {
            let state = &*self.state();
            let blocks = state.book.own_blocks().filter(|(net, block)| block.leaving.is_none() || state.is_told(**net));
            let wanted = blocks.map(|(net, _)| *net).collect();
            if state.is_settled && look == Look::Quick && wanted == state.held {
                return;
            }
            wanted
        };
        let asked = wanted.clone();
        let Ok((held, done)) = tokio::task::spawn_blocking(move || kernel::hold(&asked)).await else { return };
        let state = &mut *self.state();
        let problem = done.err().map(|error| error.to_string());
        let missing: BTreeMap<IpNet, String> =
            wanted.difference(&held).map(|net| (*net, problem.clone().unwrap_or_default())).collect();
        if let Some(problem) = problem.filter(|_| !missing.is_empty() && missing != state.problems) {
            tracing::error!("blocks are not announced: {problem}");
        }
        if held != state.held || missing != state.problems {
            self.0.news.notify_one();
        }
        (state.held, state.problems) = (held, missing);
    }

    /// Deletes the claims of blocks that no router knows the way to any more.
    async fn give_blocks_back(&self) {
        let leaving: Vec<(IpNet, ClaimVersion)> = {
            let state = &*self.state();
            let is_free = |net: &IpNet| !state.is_told(*net) && !state.held.contains(net);
            state.book.leaving_blocks().into_iter().filter(|(net, _)| is_free(net)).collect()
        };
        for (net, claim) in leaving {
            match self.0.store.delete_claim(ClaimName::from(net).as_str(), &claim.uid, &claim.resource_version).await {
                Ok(()) | Err(WriteError::NotFound(_)) => {
                    tracing::info!(%net, "the block is anybody's again");
                    self.state().book.forget_block(net);
                    self.0.news.notify_one();
                }
                // The watch tells of its later version, and the next look is upon that.
                Err(WriteError::Conflict(_)) => {}
                Err(error) => tracing::warn!(%error, %net, "the claim of the block is to be deleted, and is not yet"),
            }
        }
    }

    /// The controller takes this node for lost: if there is a Node object, it is not, and the block stays ours.
    async fn take_marks_off(&self) {
        let (marked, is_node) = {
            let state = &*self.state();
            (state.book.marked_blocks(), state.world.node_uid().is_some())
        };
        for net in marked.into_iter().filter(|_| is_node) {
            let Ok(Some(mut claim)) = self.0.store.claim(ClaimName::from(net).as_str()).await else { continue };
            let is_ours = claim.spec.node_name.as_ref().is_some_and(|node| node.0 == self.0.node);
            claim.spec.released = None;
            if is_ours && let Err(error) = self.0.store.replace_claim(&claim).await {
                tracing::warn!(%error, %net, "this node is here, and the block is still taken for that of a lost one");
            }
        }
    }
}

fn claim_of(net: IpNet, pool: &str, node: &str, uid: Option<&str>) -> AddressClaim {
    let owner = ClaimOwner {
        kind: OwnerKind::Node,
        namespace: None,
        name: node.into(),
        uid: uid.unwrap_or_default().to_owned(),
        interface: None,
        share_key: None,
        ports: Vec::new(),
    };
    let cidr = net.to_string().as_str().into();
    let node_name = Some(node.into());
    let spec = AddressClaimSpec { cidr, pool: pool.into(), owners: vec![owner], node_name, released: None, kept: None };
    AddressClaim::new(ClaimName::from(net).as_str(), spec)
}
