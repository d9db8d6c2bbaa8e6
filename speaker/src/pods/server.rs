//! The plugin's questions, answered.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use roadstead_api::checked::{ClaimName, ObjectRef, host_prefix};
use roadstead_api::kinds::{AddressClaim, AddressClaimSpec, ClaimOwner, OwnerKind};
use roadstead_api::store::{Notice, Severity, WriteError};
use roadstead_cni::socket::{
    ADD, AddRequest, Assignment, Attachment, CHECK, CheckRequest, DEL, DelRequest, GC, GcRequest, PodIdentity, REACH,
    Refusal, STATUS, StatusRequest,
};
use serde_json::{Map, Value};
use tokio::time::timeout_at;

use super::book::{Pod, Reservation};
use super::kept::Heir;
use super::reach::reach;
use super::record::{self, ClaimVersion, Owner, Record};
use super::{End, Pods, State as PodState};
use crate::picture::MissingNode;

/// How long a call waits for the store, or for the pod, which the kubelet may know before we do.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an address is waited for that the pod of the same name before had, on whatever node.
const FOR_KEPT: Duration = Duration::from_secs(5);
/// Addresses of a shared pool that are tried before the call is given up: others were faster that often.
const TRIES: usize = 100;
/// The longest question, in octets: GC names every container of a node.
const LONGEST: usize = 4 << 20;

pub(super) type Answer<T> = Result<Json<T>, (StatusCode, Json<Refusal>)>;

impl Pods {
    /// The plugin's part of the socket.
    pub fn routes(&self) -> Router {
        Router::new()
            .route(ADD, post(add))
            .route(DEL, post(del))
            .route(CHECK, post(check))
            .route(STATUS, post(status))
            .route(GC, post(gc))
            .route(REACH, post(reach))
            .layer(DefaultBodyLimit::max(LONGEST))
            .with_state(self.clone())
    }
}

/// In a task of its own, because a runtime that gives up waiting must not leave half of it done.
async fn add(State(pods): State<Pods>, Json(request): Json<AddRequest>) -> Answer<Assignment> {
    let served = tokio::spawn(async move {
        let result = pods.add(&request).await;
        if let Err(refusal) = &result {
            tracing::warn!(code = refusal.code, "no address: {}", refusal.message);
            pods.tell(&request, refusal).await;
        }
        result
    });
    answer(served.await.unwrap_or_else(|error| {
        let message = format!("the call ended before its time: {error}");
        Err(Refusal { code: Refusal::TRY_LATER, message, details: String::new() })
    }))
}

async fn del(State(pods): State<Pods>, Json(request): Json<DelRequest>) -> Answer<Map<String, Value>> {
    pods.release(&request.attachment);
    Ok(Json(Map::new()))
}

async fn check(State(pods): State<Pods>, Json(request): Json<CheckRequest>) -> Answer<Map<String, Value>> {
    let result = pods.state().book.check(&request.attachment, &request.addresses);
    answer(result.map(|()| Map::new()))
}

async fn status(State(pods): State<Pods>, Json(request): Json<StatusRequest>) -> Answer<Map<String, Value>> {
    let result = {
        let PodState { book, world, .. } = &*pods.state();
        if world.unsynced().is_empty() { book.status(&request.network) } else { Err(unsynced(world.unsynced().iter())) }
    };
    let unavailable = |refusal| Refusal { code: Refusal::NOT_AVAILABLE, ..refusal };
    answer(result.map(|()| Map::new()).map_err(unavailable))
}

async fn gc(State(pods): State<Pods>, Json(request): Json<GcRequest>) -> Answer<Map<String, Value>> {
    let GcRequest { network, valid } = request;
    let gone = pods.state().book.not_among(&network, &valid.into_iter().collect::<BTreeSet<_>>());
    for attachment in gone {
        tracing::info!(container = attachment.container_id, interface = attachment.interface, "address back: GC");
        pods.release(&attachment);
    }
    Ok(Json(Map::new()))
}

pub(super) fn answer<T>(result: Result<T, Refusal>) -> Answer<T> {
    result.map(Json).map_err(|refusal| (StatusCode::CONFLICT, Json(refusal)))
}

fn unsynced<'a>(kinds: impl Iterator<Item = &'a roadstead_api::store::Kind>) -> Refusal {
    let kinds: Vec<&str> = kinds.map(|kind| kind.as_str()).collect();
    let message = format!("the speaker has just started, and has not read yet: {}", kinds.join(", "));
    Refusal { code: Refusal::TRY_LATER, message, details: String::new() }
}

impl Pods {
    async fn add(&self, request: &AddRequest) -> Result<Assignment, Refusal> {
        let pod = self.pod_of(request).await?;
        self.wait_for_kept(request, pod.as_ref()).await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut tries = 0;
        while tries < TRIES {
            let changed = self.0.changed.notified();
            let reservation = self.state().book.reserve(Instant::now(), request, pod.as_ref())?;
            let (mut record, to_claim) = match reservation {
                Reservation::Served(assignment) => return Ok(assignment),
                Reservation::New(record, to_claim) => (record, to_claim),
                Reservation::NeedsBlock(pool) => {
                    self.claim_block(&pool).await?;
                    tries += 1;
                    continue;
                }
                Reservation::NotYet(refusal) => {
                    timeout_at(deadline, changed).await.map_err(|_| refusal)?;
                    continue;
                }
            };
            tries += 1;
            let mut attempt = Attempt { pods: self, owner: Some(record.owner.clone()), claims: Vec::new() };
            if !self.claim(&record, &to_claim, &mut attempt.claims).await? {
                continue;
            }
            for held in &mut record.held {
                let claim = attempt.claims.iter().find(|(address, _)| *address == held.address);
                held.claim = claim.map(|(_, claim)| claim.clone());
            }
            return self.enter(record, attempt);
        }
        let message = format!("{TRIES} addresses in a row were claimed by other nodes first");
        Err(Refusal { code: Refusal::TRY_LATER, message, details: String::new() })
    }

    /// The pod, once the store tells of it. A container that names another pod's UID gets nothing.
    async fn pod_of(&self, request: &AddRequest) -> Result<Option<Pod>, Refusal> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let changed = self.0.changed.notified();
            let problem = {
                let PodState { world, .. } = &*self.state();
                if !world.unsynced().is_empty() {
                    unsynced(world.unsynced().iter())
                } else {
                    let Some(identity) = &request.pod else { return Ok(None) };
                    match world.pod(&identity.namespace, &identity.name) {
                        Some(pod) if identity.uid.as_ref().is_none_or(|uid| *uid == pod.uid) => return Ok(Some(pod)),
                        None if self.0.unknown_pods == MissingNode::Implied => {
                            let uid = identity.uid.clone().unwrap_or_else(|| request.attachment.container_id.clone());
                            return Ok(Some(Pod { uid, namespace: identity.namespace.clone(), ..Pod::default() }));
                        }
                        found => not_this_pod(identity, found, &self.0.node),
                    }
                }
            };
            if timeout_at(deadline, changed).await.is_err() {
                return Err(problem);
            }
        }
    }

    /// Waits until the address that the pod of this name had before is kept for it: the node that it was on is about to say so.
    async fn wait_for_kept(&self, request: &AddRequest, pod: Option<&Pod>) {
        let deadline = tokio::time::Instant::now() + FOR_KEPT;
        loop {
            let changed = self.0.changed.notified();
            if !self.state().book.is_awaited(request, pod) || timeout_at(deadline, changed).await.is_err() {
                return;
            }
        }
    }

    /// Claims addresses of shared pools; false when another was faster for one of them.
    pub(super) async fn claim(
        &self,
        record: &Record,
        to_claim: &[(IpAddr, String)],
        claims: &mut Vec<(IpAddr, ClaimVersion)>,
    ) -> Result<bool, Refusal> {
        for (address, pool) in to_claim {
            let claim = claim_of(record, *address, pool, &self.0.node);
            let refuse = |error: WriteError| Refusal {
                code: Refusal::TRY_LATER,
                message: format!("{address} of pool {pool} cannot be claimed: {error}"),
                details: String::new(),
            };
            if self.state().book.is_kept_in_store(record, *address) {
                match self.take_over(*address, &claim).await.map_err(refuse)? {
                    Some(taken) => claims.push((*address, ClaimVersion::of(&taken))),
                    // What has become of the claim the watch tells.
                    None => {
                        self.state().book.forget_kept(*address);
                        return Ok(false);
                    }
                }
                continue;
            }
            let made = match self.0.store.create_claim(&claim).await {
                Err(WriteError::AlreadyExists(_)) => self.own_claim(*address, &claim).await,
                made => made.map(Some),
            };
            let Some(made) = made.map_err(refuse)? else {
                let state = &mut *self.state();
                state.book.forget_kept(*address);
                state.book.set_foreign(*address, true);
                return Ok(false);
            };
            claims.push((*address, ClaimVersion::of(&made)));
        }
        Ok(true)
    }

    /// A claim that exists, if it is from an earlier try of the same pod.
    async fn own_claim(&self, address: IpAddr, wanted: &AddressClaim) -> Result<Option<AddressClaim>, WriteError> {
        let found = self.0.store.claim(ClaimName::from(address).as_str()).await?;
        Ok(found.filter(|found| found.spec.owners == wanted.spec.owners))
    }

    /// Takes over the claim of an address that waits for this pod; none where it does no more.
    async fn take_over(&self, address: IpAddr, wanted: &AddressClaim) -> Result<Option<AddressClaim>, WriteError> {
        let found = self.0.store.claim(ClaimName::from(address).as_str()).await?;
        let waits = |found: &AddressClaim| found.spec.kept.is_some() && Heir::of_claim(found) == Heir::of_claim(wanted);
        let Some(mut found) = found.filter(waits) else { return Ok(None) };
        found.spec = wanted.spec.clone();
        match self.0.store.replace_claim(&found).await {
            Ok(taken) => {
                tracing::info!(%address, "taken over: the pod of this name had it before");
                Ok(Some(taken))
            }
            Err(WriteError::Conflict(_) | WriteError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// On disk first, then in the book: what was answered must be known after a restart.
    fn enter(&self, record: Record, mut attempt: Attempt<'_>) -> Result<Assignment, Refusal> {
        let state = &mut *self.state();
        if let Err(error) = state.journal.has(&record) {
            let message = format!("the node's journal of addresses cannot be written: {error}");
            return Err(Refusal { code: Refusal::IO, message, details: String::new() });
        }
        attempt.owner = None;
        attempt.claims.clear();
        let assignment = record.assignment.clone();
        let come = state.book.heir_has_come(&record);
        let left = state.book.enter(Instant::now(), record);
        for owner in come {
            state.forget(&owner);
        }
        state.leave(record::claims(&left));
        self.0.untended.notify_one();
        self.0.news.notify_one();
        Ok(assignment)
    }

    /// Takes the addresses of an interface back, as far as it has any; once everything is read.
    pub(super) fn release(&self, attachment: &Attachment) {
        let state = &mut *self.state();
        if !state.world.unsynced().is_empty() {
            if state.book.has_attachment(attachment) {
                state.early.insert(attachment.clone());
            }
            return;
        }
        let now = jiff::Timestamp::now().as_second();
        let Some(released) = state.book.release(Instant::now(), now, attachment) else { return };
        if let Some(kept) = &released.kept {
            state.note_kept(kept);
        }
        let of = |claims: Vec<(IpAddr, ClaimVersion)>, end: End| {
            claims.into_iter().map(move |(address, claim)| (address, claim, end))
        };
        let claims = of(released.free, End::Free).chain(of(released.waiting, End::Kept)).collect();
        state.part(Some(released.owner), claims);
        self.0.untended.notify_one();
        self.0.news.notify_one();
    }

    /// The pod's own page says why it does not start.
    async fn tell(&self, request: &AddRequest, refusal: &Refusal) {
        let Some(pod) = request.pod.as_ref().filter(|pod| pod.uid.is_some()) else { return };
        let notice = Notice {
            object: ObjectRef { kind: "Pod", namespace: Some(pod.namespace.clone()), name: pod.name.clone() },
            uid: pod.uid.clone().unwrap_or_default(),
            severity: Severity::Warning,
            reason: "NoAddress",
            message: refusal.message.clone(),
        };
        self.0.store.notify(&notice).await;
    }
}

/// An attempt at an ADD: what it has reserved and claimed goes back unless it is entered in the book.
struct Attempt<'a> {
    pods: &'a Pods,
    owner: Option<Owner>,
    claims: Vec<(IpAddr, ClaimVersion)>,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let Some(owner) = self.owner.take() else { return };
        let state = &mut *self.pods.state();
        state.book.give_up(&owner);
        state.leave(std::mem::take(&mut self.claims));
        self.pods.0.untended.notify_one();
    }
}

fn not_this_pod(identity: &PodIdentity, found: Option<Pod>, node: &str) -> Refusal {
    let PodIdentity { namespace, name, uid } = identity;
    let (code, message) = match found {
        None => (Refusal::TRY_LATER, format!("no pod {namespace}/{name} is known on node {node}")),
        Some(pod) => {
            let given = uid.as_deref().unwrap_or_default();
            (
                Refusal::POD,
                format!("the container is for pod {namespace}/{name} of UID {given}, and that has UID {}", pod.uid),
            )
        }
    };
    Refusal { code, message, details: String::new() }
}

fn claim_of(record: &Record, address: IpAddr, pool: &str, node: &str) -> AddressClaim {
    let (kind, namespace, name) = match &record.pod {
        Some(pod) => (OwnerKind::Pod, Some(pod.namespace.as_str().into()), pod.name.as_str()),
        None => (OwnerKind::Node, None, node),
    };
    let uid = record.owner.uid.clone();
    let interface = record.pod.as_ref().map(|_| record.owner.interface.clone());
    let owner = ClaimOwner { kind, namespace, name: name.into(), uid, interface, share_key: None, ports: Vec::new() };
    let cidr = host_prefix(address).to_string().as_str().into();
    let spec = AddressClaimSpec {
        cidr,
        pool: pool.into(),
        owners: vec![owner],
        node_name: Some(node.into()),
        released: None,
        kept: None,
    };
    AddressClaim::new(ClaimName::from(address).as_str(), spec)
}
