//! What is done without being asked: DELs that were left, claims that are to go, and containers that went without a word.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use roadstead_api::checked::{ClaimName, host_prefix};
use roadstead_api::kinds::AddressClaim;
use roadstead_api::kubernetes;
use roadstead_api::store::WriteError;
use roadstead_cni::leftover;
use roadstead_cni::socket::Attachment;

use super::hold::Look;
use super::kept::{self, Heir, Place, Waiting};
use super::record::{ClaimVersion, Owner};
use super::{End, Leaving, Pods};

/// How often it is looked whether containers are gone. One that was gone twice in a row is: a runtime may be about to make a sandbox
/// anew.
const LOOK: Duration = Duration::from_secs(10);
/// For so many of those that addresses wait for it is asked in one look.
const ASKED_IN_A_ROUND: usize = 32;

impl Pods {
    /// Runs until the task is dropped.
    pub async fn tend(self) {
        let (mut suspects, mut strays, mut asked) = (BTreeSet::new(), BTreeSet::new(), None);
        let (mut next_look, mut is_read) = (tokio::time::Instant::now(), false);
        loop {
            tokio::select! {
                () = self.0.untended.notified() => {
                    if !is_read && self.state().world.unsynced().is_empty() {
                        // What waited for that waits no longer.
                        (is_read, next_look) = (true, tokio::time::Instant::now());
                        self.do_early_dels();
                    }
                    self.settle_claims().await;
                    self.mind_blocks(Look::Quick).await;
                }
                () = tokio::time::sleep_until(next_look) => {
                    self.read_leftovers();
                    suspects = self.look(&suspects);
                    strays = self.look_for_strays(&strays);
                    asked = self.look_after_kept(asked).await;
                    self.settle_claims().await;
                    self.claim_what_became_shared().await;
                    self.mind_blocks(Look::Thorough).await;
                    next_look = tokio::time::Instant::now() + LOOK;
                }
            }
        }
    }

    /// DELs that came before everything was read.
    fn do_early_dels(&self) {
        let early = std::mem::take(&mut self.state().early);
        early.iter().for_each(|attachment| self.release(attachment));
    }

    /// DELs that came while nobody listened. A DEL frees what its container has and nothing newer, so its age does not matter.
    fn read_leftovers(&self) {
        if !self.state().world.unsynced().is_empty() {
            return;
        }
        let left = match leftover::read(self.socket()) {
            Ok(left) => left,
            Err(error) => {
                tracing::warn!(%error, directory = %leftover::directory(self.socket()).display(), "DELs that were left cannot be read");
                return;
            }
        };
        for (file, deletion) in left {
            match deletion {
                Some(deletion) => self.release(&deletion.attachment),
                None => tracing::warn!(file = %file.display(), "removed: it is no DEL"),
            }
            if let Err(error) = std::fs::remove_file(&file) {
                tracing::warn!(%error, file = %file.display(), "a DEL that was left cannot be removed");
            }
        }
    }

    /// Looks for interfaces whose container is gone, with a pod that is gone or at its end; frees those that were `suspects` before.
    fn look(&self, suspects: &BTreeSet<Attachment>) -> BTreeSet<Attachment> {
        let gone: Vec<Attachment> = {
            let state = self.state();
            if !state.world.unsynced().is_empty() {
                return BTreeSet::new();
            }
            let records = state.book.records().filter(|record| !state.world.is_alive(&record.owner.uid));
            records.filter(|record| is_gone(Path::new(&record.netns))).map(|record| record.attachment.clone()).collect()
        };
        let mut still = BTreeSet::new();
        for attachment in gone {
            if suspects.contains(&attachment) {
                tracing::info!(
                    container = attachment.container_id,
                    interface = attachment.interface,
                    "address back: the container is gone, and so is its pod"
                );
                self.release(&attachment);
            } else {
                still.insert(attachment);
            }
        }
        still
    }

    /// Looks for claims of this node that nothing here knows of: it ended between the claim and the journal. Those that were `strays`
    /// before go.
    fn look_for_strays(&self, strays: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let state = &mut *self.state();
        if !state.world.unsynced().is_empty() {
            return BTreeSet::new();
        }
        let leaving: BTreeSet<IpAddr> =
            state.leaving.iter().flat_map(|leaving| &leaving.claims).map(|(address, ..)| *address).collect();
        let is_known = |address: &IpAddr, owners: &[String]| {
            leaving.contains(address) || owners.iter().any(|uid| state.book.has_address_of(uid, *address))
        };
        let all = state.world.own_claims().iter().filter(|(address, (owners, _))| !is_known(address, owners));
        let found: Vec<(IpAddr, ClaimVersion)> =
            all.map(|(address, (_, version))| (*address, version.clone())).collect();
        let mut still = BTreeSet::new();
        for (address, version) in found {
            if strays.contains(&address) {
                tracing::info!(%address, "address back: its claim was made here for a pod that did not get it");
                state.leave(vec![(address, version)]);
            } else {
                still.insert(address);
            }
        }
        still
    }

    /// Deletes the claims of addresses that came back, or marks them as kept. What the store does not take now is tried again at the
    /// next look.
    async fn settle_claims(&self) {
        let leaving = std::mem::take(&mut self.state().leaving);
        for Leaving { owner, claims } in leaving {
            let mut rest = Vec::new();
            for (address, claim, end) in claims {
                // Another node may have it, and tell routers so, as soon as the claim is gone or kept.
                if self.state().is_told(host_prefix(address)) {
                    rest.push((address, claim, end));
                    continue;
                }
                if end == End::Kept {
                    if let Err(error) = self.mark_as_kept(address, &claim).await {
                        tracing::warn!(%error, %address, "the claim is to be marked as kept, and is not yet");
                        rest.push((address, claim, end));
                    }
                    continue;
                }
                let name = ClaimName::from(address);
                match self.0.store.delete_claim(name.as_str(), &claim.uid, &claim.resource_version).await {
                    Ok(()) | Err(WriteError::NotFound(_)) => {}
                    // Somebody wrote to it: it goes as it is now, if it is the same.
                    Err(WriteError::Conflict(_)) => {
                        rest.extend(self.renewed(address, claim).await.map(|(address, claim)| (address, claim, end)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, %address, "the claim is to be deleted, and is not yet");
                        rest.push((address, claim, end));
                    }
                }
            }
            let mut state = self.state();
            if rest.is_empty() {
                if let Some(owner) = owner {
                    state.forget(&owner);
                }
            } else {
                state.leaving.push(Leaving { owner, claims: rest });
            }
        }
    }
}

impl Pods {
    /// Claims what was handed out while a pool was this node's alone, so that the nodes that share it now leave it.
    async fn claim_what_became_shared(&self) {
        let unclaimed = {
            let state = self.state();
            if !state.world.unsynced().is_empty() {
                return;
            }
            state.book.unclaimed_of_shared_pools()
        };
        for (record, addresses) in unclaimed {
            for (address, pool) in addresses {
                let mut claims = Vec::new();
                let wanted = [(address, pool.clone())];
                match self.claim(&record, &wanted, &mut claims).await {
                    Ok(true) => self.note_claims(&record.owner, claims),
                    Ok(false) => {
                        tracing::error!(%address, pool, "handed out here and on another node: the pool was this node's alone before")
                    }
                    Err(refusal) => tracing::warn!("not claimed yet: {}", refusal.message),
                }
            }
        }
    }

    fn note_claims(&self, owner: &Owner, claims: Vec<(IpAddr, ClaimVersion)>) {
        let state = &mut *self.state();
        for (address, claim) in claims {
            match state.book.set_claim(owner, address, claim.clone()) {
                Some(record) => {
                    if let Err(error) = state.journal.has(&record) {
                        tracing::warn!(%error, "the node's journal of addresses cannot be written");
                    }
                }
                // Given back meanwhile.
                None => state.leave(vec![(address, claim)]),
            }
        }
    }

    /// The version that a claim has now; none where it is another by now, or somebody has taken it over.
    async fn renewed(&self, address: IpAddr, claim: ClaimVersion) -> Option<(IpAddr, ClaimVersion)> {
        let Ok(found) = self.0.store.claim(ClaimName::from(address).as_str()).await else {
            return Some((address, claim));
        };
        let found = found.filter(|found| self.is_left_by_us(address, &claim, found))?;
        Some((address, ClaimVersion::of(&found)))
    }

    /// Whether a claim is still the one that was made here, and whoever it is for has the address no more.
    fn is_left_by_us(&self, address: IpAddr, claim: &ClaimVersion, found: &AddressClaim) -> bool {
        let state = self.state();
        let has_it = found.spec.owners.iter().any(|owner| state.book.has_address_of(&owner.uid, address));
        let is_ours = found.spec.node_name.as_ref().is_some_and(|node| node.0 == self.0.node);
        found.metadata.uid.as_deref() == Some(claim.uid.as_str()) && is_ours && !has_it
    }

    /// Says in the store that an address waits for the next pod of its owner's name. Written to as it is now, so it is read before.
    async fn mark_as_kept(&self, address: IpAddr, claim: &ClaimVersion) -> Result<(), WriteError> {
        let found = self.0.store.claim(ClaimName::from(address).as_str()).await?;
        let Some(mut found) = found.filter(|found| self.is_left_by_us(address, claim, found)) else { return Ok(()) };
        let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default();
        found.spec.kept = Some(now.to_string());
        match self.0.store.replace_claim(&found).await {
            Err(WriteError::NotFound(_)) => Ok(()),
            done => done.map(|_| tracing::info!(%address, "kept for the next pod of its owner's name")),
        }
    }

    /// Lets go what waits for nobody any more. `last` is up to whom it was asked before: a round asks for so many alone, because each
    /// costs two questions to the API server; returns up to whom it was asked now.
    async fn look_after_kept(&self, last: Option<Heir>) -> Option<Heir> {
        let waiting = {
            let state = self.state();
            if !state.world.unsynced().is_empty() {
                return None;
            }
            state.book.waiting()
        };
        let now = jiff::Timestamp::now().as_second();
        let (over, waiting): (Vec<Waiting>, Vec<Waiting>) =
            waiting.into_iter().partition(|one| one.is_void || one.since.saturating_add(kept::LONGEST) <= now);
        over.iter().for_each(|one| self.let_kept_go(one));
        let behind = waiting.iter().position(|one| Some(&one.heir) > last.as_ref()).unwrap_or_default();
        let mut asked = None;
        for one in waiting.iter().cycle().skip(behind).take(waiting.len().min(ASKED_IN_A_ROUND)) {
            match self.is_expected(&one.heir).await {
                Ok(true) => {}
                Ok(false) => self.let_kept_go(one),
                Err(error) => {
                    tracing::debug!(%error, "it cannot be asked who is expected");
                    break;
                }
            }
            asked = Some(one.heir.clone());
        }
        asked
    }

    /// Whether a pod is to come, or to come back, that an address is kept for.
    async fn is_expected(&self, heir: &Heir) -> Result<bool, WriteError> {
        let set = self.0.store.stateful_set(&heir.namespace, heir.stateful_set()).await?;
        if !set.is_some_and(|set| set.wants(&heir.pod)) {
            return Ok(false);
        }
        let pod = self.0.store.pod(&heir.namespace, &heir.pod).await?;
        // On another node, and it has all its addresses.
        let is_served = |pod: kubernetes::Pod| {
            pod.status.pod_ip.is_some() && pod.spec.node_name.as_deref() != Some(self.0.node.as_str())
        };
        Ok(!pod.is_some_and(is_served))
    }

    fn let_kept_go(&self, one: &Waiting) {
        let state = &mut *self.state();
        let Heir { namespace, pod, interface } = &one.heir;
        tracing::info!(pod = format!("{namespace}/{pod}"), interface, "no address is kept for it any more");
        match &one.place {
            Place::Book(owner) => {
                state.book.let_go(owner);
                state.forget(owner);
            }
            Place::Store(address, version) => {
                state.book.forget_kept(*address);
                state.leave(vec![(*address, version.clone())]);
            }
        }
        self.0.news.notify_one();
    }
}

/// Whether a container's network namespace is gone. Where not even its directory can be seen, nobody can tell.
fn is_gone(netns: &Path) -> bool {
    let directory_is_there = netns.parent().is_some_and(Path::is_dir);
    directory_is_there && matches!(netns.try_exists(), Ok(false))
}
