//! Doing what the plan wants written.
//!
//! A write ends when it is known what the store has: one that cannot be reached is asked again, a little later each time, because
//! "was it done?" has no other answer. Then the plan hears the facts, and how they came about does not matter to it: a claim that
//! exists already, was changed or is gone is read, and what was read is the result.

use std::time::Duration;

use ipnet::IpNet;
use roadstead_api::checked::{ClaimName, ObjectRef};
use roadstead_api::kinds::AddressClaim;
use roadstead_api::store::{Status, Store, WriteError};
use tracing::{debug, warn};

use crate::edge;
use crate::metrics::Metrics;
use crate::plan::{StatusOutcome, Write, WriteResult};

/// The first pause before an unreachable store is asked again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Does one write of the plan; `None` for a notice, whose end nobody waits for.
pub(crate) async fn perform(store: &Store, metrics: &Metrics, write: Write) -> Option<WriteResult> {
    debug!(?write, "write");
    let result = match write {
        Write::CreateClaim(claim) => {
            let raw = edge::raw_claim(&claim, None);
            match persist(metrics, "create_claim", || store.create_claim(&raw)).await {
                Ok(created) => stored(claim.net, Some(&created)),
                Err(WriteError::AlreadyExists(_)) => read(store, metrics, claim.net).await,
                // Nothing to be created can be missing: it is the kind that the store does not know.
                Err(error) => WriteResult::ClaimRefused(claim.net, error.to_string()),
            }
        }
        Write::ReplaceClaim(claim, version) => {
            let raw = edge::raw_claim(&claim, Some(&version));
            match persist(metrics, "replace_claim", || store.replace_claim(&raw)).await {
                Ok(replaced) => stored(claim.net, Some(&replaced)),
                Err(error) => otherwise(store, metrics, claim.net, error).await,
            }
        }
        Write::DeleteClaim(net, version) => {
            let name = ClaimName::from(net);
            let delete = || store.delete_claim(name.as_str(), &version.uid, &version.resource_version);
            match persist(metrics, "delete_claim", delete).await {
                Ok(()) => WriteResult::Claim(net, None),
                Err(error) => otherwise(store, metrics, net, error).await,
            }
        }
        Write::ServiceStatus { key, version, addresses } => {
            let write = || store.write_service_status(&key, &version.uid, &version.resource_version, &addresses);
            let outcome = match persist(metrics, "service_status", write).await {
                Ok(()) => StatusOutcome::Done,
                Err(WriteError::Conflict(_)) => StatusOutcome::Conflict,
                Err(WriteError::NotFound(_)) => StatusOutcome::Gone,
                Err(error) => StatusOutcome::Refused(error.to_string()),
            };
            WriteResult::ServiceStatus(key, version.uid, outcome)
        }
        Write::PoolStatus(name, report) => {
            let status = Status::AddressPool(edge::raw_pool_status(&report));
            let done = write_status(store, metrics, "pool_status", &name, &status).await;
            WriteResult::PoolStatus(name, done)
        }
        Write::PodPoolStatus(name, report) => {
            let status = Status::PodPool(edge::raw_pod_pool_status(&report));
            let done = write_status(store, metrics, "pod_pool_status", &name, &status).await;
            WriteResult::PodPoolStatus(name, done)
        }
        Write::Notice(notice) => {
            store.notify(&notice).await;
            metrics.wrote("notice", "done");
            return None;
        }
    };
    Some(result)
}

/// Writes the status of one of our objects; true: it is written.
pub(crate) async fn write_status(
    store: &Store,
    metrics: &Metrics,
    kind: &'static str,
    name: &str,
    status: &Status,
) -> bool {
    let result = persist(metrics, kind, || store.write_status(name, status)).await;
    if let Err(error) = &result
        && !matches!(error, WriteError::NotFound(_))
    {
        warn!(%error, "a status cannot be written");
    }
    result.is_ok()
}

/// What the store has after a write that it did not do.
async fn otherwise(store: &Store, metrics: &Metrics, net: IpNet, error: WriteError) -> WriteResult {
    match error {
        WriteError::NotFound(_) => WriteResult::Claim(net, None),
        WriteError::AlreadyExists(_) | WriteError::Conflict(_) => read(store, metrics, net).await,
        WriteError::Refused { .. } | WriteError::Unavailable { .. } => {
            WriteResult::ClaimRefused(net, error.to_string())
        }
    }
}

async fn read(store: &Store, metrics: &Metrics, net: IpNet) -> WriteResult {
    let name = ClaimName::from(net);
    match persist(metrics, "read_claim", || store.claim(name.as_str())).await {
        Ok(found) => stored(net, found.as_ref()),
        Err(error) => WriteResult::ClaimRefused(net, error.to_string()),
    }
}

fn stored(net: IpNet, found: Option<&AddressClaim>) -> WriteResult {
    match found.map(edge::claim).transpose() {
        Ok(found) => WriteResult::Claim(net, found),
        Err(invalid) => WriteResult::ClaimRefused(net, invalid.to_string()),
    }
}

/// Tries for as long as the store cannot be reached.
async fn persist<T, F, A>(metrics: &Metrics, kind: &'static str, attempt: F) -> Result<T, WriteError>
where
    F: Fn() -> A,
    A: Future<Output = Result<T, WriteError>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let result = attempt().await;
        metrics.wrote(kind, outcome(&result));
        match result {
            Err(WriteError::Unavailable { object, reason }) => {
                report_outage(&object, &reason, pause);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            result => return result,
        }
    }
}

fn report_outage(object: &ObjectRef, reason: &str, pause: Duration) {
    if pause < LONGEST_PAUSE {
        debug!(%object, reason, ?pause, "the store cannot be reached; trying again");
    } else {
        warn!(%object, reason, ?pause, "the store cannot be reached; trying again");
    }
}

fn outcome<T>(result: &Result<T, WriteError>) -> &'static str {
    match result {
        Ok(_) => "done",
        Err(WriteError::AlreadyExists(_)) => "already_exists",
        Err(WriteError::Conflict(_)) => "conflict",
        Err(WriteError::NotFound(_)) => "not_found",
        Err(WriteError::Refused { .. }) => "refused",
        Err(WriteError::Unavailable { .. }) => "unavailable",
    }
}
