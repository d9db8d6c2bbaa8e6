//! What is done without being asked: DELs that were left, claims that are to go, and containers that went without a word.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use roadstead_api::checked::{ClaimName, host_prefix};
use roadstead_api::store::WriteError;
use roadstead_cni::leftover;
use roadstead_cni::socket::{Attachment, DelRequest};

use super::hold::Look;
use super::record::{ClaimVersion, Owner};
use super::{Leaving, Pods};

/// How often it is looked whether containers are gone. One that was gone twice in a row is: a runtime may be about to make a sandbox
/// anew.
const LOOK: Duration = Duration::from_secs(10);

impl Pods {
    /// Runs until the task is dropped.
    pub async fn tend(self) {
        let (mut suspects, mut strays) = (BTreeSet::new(), BTreeSet::new());
        let mut next_look = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = self.0.untended.notified() => {
                    self.delete_claims().await;
                    self.mind_blocks(Look::Quick).await;
                }
                () = tokio::time::sleep_until(next_look) => {
                    self.read_leftovers();
                    suspects = self.look(&suspects);
                    strays = self.look_for_strays(&strays);
                    self.delete_claims().await;
                    self.claim_what_became_shared().await;
                    self.mind_blocks(Look::Thorough).await;
                    next_look = tokio::time::Instant::now() + LOOK;
                }
            }
        }
    }

    /// DELs that came while nobody listened. A DEL frees what its container has and nothing newer, so its age does not matter.
    fn read_leftovers(&self) {
        let left = match leftover::read(self.socket()) {
            Ok(left) => left,
            Err(error) => {
                tracing::warn!(%error, directory = %leftover::directory(self.socket()).display(), "DELs that were left cannot be read");
                return;
            }
        };
        for (file, deletion) in left {
            match deletion {
                Some(deletion) => self.release(&deletion),
                None => tracing::warn!(file = %file.display(), "removed: it is no DEL"),
            }
            if let Err(error) = std::fs::remove_file(&file) {
                tracing::warn!(%error, file = %file.display(), "a DEL that was left cannot be removed");
            }
        }
    }

    /// Looks for interfaces whose container is gone, with a pod that is gone or at its end; frees those that were `suspects` before.
    fn look(&self, suspects: &BTreeSet<Attachment>) -> BTreeSet<Attachment> {
        let gone: Vec<(Attachment, String)> = {
            let state = self.state();
            if !state.world.unsynced().is_empty() {
                return BTreeSet::new();
            }
            let records = state.book.records().filter(|record| !state.world.is_alive(&record.owner.uid));
            records
                .filter(|record| is_gone(Path::new(&record.netns)))
                .map(|record| (record.attachment.clone(), record.network.clone()))
                .collect()
        };
        let mut still = BTreeSet::new();
        for (attachment, network) in gone {
            if suspects.contains(&attachment) {
                tracing::info!(
                    container = attachment.container_id,
                    interface = attachment.interface,
                    "address back: the container is gone, and so is its pod"
                );
                self.release(&DelRequest { attachment, network });
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
            state.leaving.iter().flat_map(|leaving| &leaving.claims).map(|(address, _)| *address).collect();
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
                state.leave(None, vec![(address, version)]);
            } else {
                still.insert(address);
            }
        }
        still
    }

    /// Deletes the claims of addresses that came back. What the store does not take now is tried again at the next look.
    async fn delete_claims(&self) {
        let leaving = std::mem::take(&mut self.state().leaving);
        for Leaving { owner, claims } in leaving {
            let mut rest = Vec::new();
            for (address, claim) in claims {
                // Another node may have it, and tell routers so, as soon as the claim is gone.
                if self.state().is_told(host_prefix(address)) {
                    rest.push((address, claim));
                    continue;
                }
                let name = ClaimName::from(address);
                match self.0.store.delete_claim(name.as_str(), &claim.uid, &claim.resource_version).await {
                    Ok(()) | Err(WriteError::NotFound(_)) => {}
                    // Somebody wrote to it: it goes as it is now, if it is the same.
                    Err(WriteError::Conflict(_)) => rest.extend(self.renewed(address, claim).await),
                    Err(error) => {
                        tracing::warn!(%error, %address, "the claim is to be deleted, and is not yet");
                        rest.push((address, claim));
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
                None => state.leave(None, vec![(address, claim)]),
            }
        }
    }

    /// The version that a claim has now; none where it is another by now.
    async fn renewed(&self, address: IpAddr, claim: ClaimVersion) -> Option<(IpAddr, ClaimVersion)> {
        let Ok(found) = self.0.store.claim(ClaimName::from(address).as_str()).await else {
            return Some((address, claim));
        };
        let metadata = found?.metadata;
        let is_same = metadata.uid.as_deref() == Some(claim.uid.as_str());
        let resource_version = metadata.resource_version.unwrap_or_default();
        is_same.then_some((address, ClaimVersion { resource_version, ..claim }))
    }
}

/// Whether a container's network namespace is gone. Where not even its directory can be seen, nobody can tell.
fn is_gone(netns: &Path) -> bool {
    let directory_is_there = netns.parent().is_some_and(Path::is_dir);
    directory_is_there && matches!(netns.try_exists(), Ok(false))
}
