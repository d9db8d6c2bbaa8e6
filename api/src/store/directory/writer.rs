//! The one place that changes anything: manifests taken in, statuses and claims written.
//!
//! Whoever holds the writer is alone, so a precondition that was checked still holds when the write is done. The disk comes first
//! and the view after it: what a consumer sees is on the disk.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::OpenError;
use super::admission::{admit, admit_claim, admit_report};
use super::catalog::Catalog;
use super::files::{Change, Files};
use super::manifest::{Purpose, as_written, is_name, read};
use super::problem::Problem;
use super::state::{Corrupt, KEPT, Kept, StateDirectory};
use super::view::View;
use crate::checked::ServiceKey;
use crate::kinds::{AddressClaim, Condition, ConditionStatus, NodeReport};
use crate::kubernetes::Ingress;
use crate::store::{Kind, Object, ObjectKey, Status, WriteError};

/// Everything that changes objects needs.
#[derive(Debug)]
pub(super) struct Writer {
    manifests: PathBuf,
    files: Files,
    catalog: Catalog,
    state: StateDirectory,
    /// The last `resourceVersion` given out.
    version: u64,
    /// State files that were set aside when we started.
    corrupt: Vec<Problem>,
    /// Why the directory itself cannot be read at present.
    unreadable: Option<Problem>,
    /// Problems that were logged.
    shown: BTreeSet<Problem>,
}

/// Whether a look found anything new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    Unchanged,
    Changed,
}

impl Writer {
    pub(super) fn open(manifests: PathBuf, state: PathBuf, view: &View) -> Result<Self, OpenError> {
        let unreadable = |source| OpenError::Manifests { path: manifests.clone(), source };
        manifests.metadata().map_err(unreadable)?;
        let directory = StateDirectory::open(state.clone())?;
        if manifests.canonicalize().ok() == state.canonicalize().ok() {
            return Err(OpenError::StateIsManifests { path: manifests });
        }
        let (kept, corrupt) = directory.load().map_err(|source| OpenError::State { path: state.clone(), source })?;
        let mut files = Files::new(manifests.clone(), Some(&state));
        let mut catalog = Catalog::default();
        let mut version = 0;
        for Kept { object, manifest } in kept {
            let key = ObjectKey::from(&object);
            let written = object.metadata().resource_version.as_deref().and_then(|version| version.parse().ok());
            version = version.max(written.unwrap_or_default());
            view.set(&key, Some(object.clone()));
            if !matches!(key.kind, Kind::AddressClaim | Kind::NodeReport) {
                let path = manifests.join(manifest.unwrap_or_else(|| "unknown".into()));
                files.expect(&path);
                catalog.remember(&path, as_written(object));
            }
        }
        let corrupt = corrupt.into_iter().map(problem_of).collect();
        let (unreadable, shown) = (None, BTreeSet::new());
        let mut writer = Self { manifests, files, catalog, state: directory, version, corrupt, unreadable, shown };
        let changes = writer.files.look_first();
        let changes = changes.map_err(|source| OpenError::Manifests { path: writer.manifests.clone(), source })?;
        writer.take_in(changes, view);
        Ok(writer)
    }

    /// Looks at the files, and takes in what changed.
    pub(super) fn look(&mut self, view: &View) -> Looked {
        match self.files.look() {
            Ok(changes) if changes.is_empty() && self.unreadable.is_none() => Looked::Unchanged,
            Ok(changes) => {
                self.unreadable = None;
                self.take_in(changes, view);
                Looked::Changed
            }
            Err(error) => {
                let reason = format!("cannot be read: {error}; everything in it stays in force");
                self.unreadable = Some(Problem::of_file(self.manifests.clone(), reason));
                self.show_problems();
                Looked::Unchanged
            }
        }
    }

    /// All that is wrong at present.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let own = self.unreadable.iter().chain(&self.corrupt).cloned();
        own.chain(self.catalog.problems()).collect()
    }

    fn take_in(&mut self, changes: Vec<(PathBuf, Change)>, view: &View) {
        let mut touched = BTreeSet::new();
        for (path, change) in changes {
            let update = match change {
                Change::Text(text) => self.catalog.update(&path, Ok(read(&text, Purpose::Force))),
                Change::Unreadable(reason) => self.catalog.update(&path, Err(reason)),
                Change::Gone => self.catalog.remove(&path),
            };
            touched.extend(update.touched);
            for object in update.skipped {
                info!(file = %path.display(), object, "skipped: not of a kind that Roadstead reads");
            }
        }
        // Only now, so that an object that moved from one file to another is not seen to go.
        for key in touched {
            self.settle(&key, view);
        }
        self.show_problems();
    }

    /// Brings the view in line with the catalog for one object.
    fn settle(&mut self, key: &ObjectKey, view: &View) {
        let current = view.get(key);
        let Some((path, wanted)) = self.catalog.in_force(key) else {
            if current.is_some() {
                self.log_failure(key, if KEPT.contains(&key.kind) { self.state.remove(key) } else { Ok(()) });
                view.set(key, None);
            }
            return;
        };
        let mut object = admit(wanted.clone(), current.as_ref());
        if current.as_ref() == Some(&object) {
            return;
        }
        let manifest = path.strip_prefix(&self.manifests).unwrap_or(path).to_owned();
        self.stamp(&mut object);
        if KEPT.contains(&key.kind) {
            self.log_failure(key, self.state.replace(&object, Some(&manifest)));
        }
        view.set(key, Some(object));
    }

    /// A manifest is in force also where the disk cannot take its copy; a restart would then give it a new UID.
    fn log_failure(&self, key: &ObjectKey, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            error!(object = %key, %error, "the state directory cannot be written");
        }
    }

    fn show_problems(&mut self) {
        let now: BTreeSet<Problem> = self.problems().into_iter().collect();
        for problem in now.difference(&self.shown) {
            warn!("{problem}");
        }
        for problem in self.shown.difference(&now) {
            info!("no longer: {problem}");
        }
        self.shown = now;
    }

    /// Gives the object the next `resourceVersion`.
    fn stamp(&mut self, object: &mut Object) {
        self.version += 1;
        object.metadata_mut().resource_version = Some(self.version.to_string());
    }

    pub(super) fn create_claim(&mut self, claim: &AddressClaim, view: &View) -> Result<AddressClaim, WriteError> {
        let key = claim_key(&claim.metadata.name.clone().unwrap_or_default())?;
        check_claim(claim, &key)?;
        let mut object = Object::from(admit_claim(claim));
        self.stamp(&mut object);
        if !self.state.create(&object).map_err(|error| unavailable(&key, &error))? {
            return Err(WriteError::AlreadyExists(key.object()));
        }
        view.set(&key, Some(object.clone()));
        Ok(as_claim(object, claim))
    }

    pub(super) fn claim(&self, name: &str) -> Result<Option<AddressClaim>, WriteError> {
        let key = claim_key(name)?;
        Ok(self.claim_on_disk(&key)?.map(|claim| claim.as_ref().clone()))
    }

    /// The disk and not the view: it is what makes a claim exist.
    fn claim_on_disk(&self, key: &ObjectKey) -> Result<Option<Arc<AddressClaim>>, WriteError> {
        match self.state.claim(key) {
            Ok(Some(Object::AddressClaim(claim))) => Ok(Some(claim)),
            Ok(_) => Ok(None),
            Err(reason) => Err(WriteError::Unavailable { object: key.object(), reason }),
        }
    }

    pub(super) fn replace_claim(&mut self, claim: &AddressClaim, view: &View) -> Result<AddressClaim, WriteError> {
        let key = claim_key(&claim.metadata.name.clone().unwrap_or_default())?;
        let current = self.claim_on_disk(&key)?.ok_or_else(|| WriteError::NotFound(key.object()))?;
        let Some(version) = &claim.metadata.resource_version else {
            return Err(refused(&key, "metadata.resourceVersion: must be given to replace an object"));
        };
        let other_uid = claim.metadata.uid.is_some() && claim.metadata.uid != current.metadata.uid;
        if other_uid || current.metadata.resource_version.as_ref() != Some(version) {
            return Err(WriteError::Conflict(key.object()));
        }
        check_claim(claim, &key)?;
        if claim.spec.cidr != current.spec.cidr {
            return Err(refused(&key, "spec.cidr: a claim is for one address for ever: delete it and make another"));
        }
        let mut next = claim.clone();
        next.metadata.uid.clone_from(&current.metadata.uid);
        next.metadata.creation_timestamp.clone_from(&current.metadata.creation_timestamp);
        next.metadata.generation =
            current.metadata.generation.map(|generation| generation + i64::from(next.spec != current.spec));
        if next == *current {
            return Ok(next);
        }
        let mut object = Object::from(next);
        self.stamp(&mut object);
        self.state.replace(&object, None).map_err(|error| unavailable(&key, &error))?;
        view.set(&key, Some(object.clone()));
        Ok(as_claim(object, claim))
    }

    pub(super) fn delete_claim(&mut self, name: &str, uid: &str, version: &str, view: &View) -> Result<(), WriteError> {
        let key = claim_key(name)?;
        let current = self.claim_on_disk(&key)?.ok_or_else(|| WriteError::NotFound(key.object()))?;
        expect(&key, &Object::AddressClaim(current), uid, version)?;
        self.state.remove(&key).map_err(|error| unavailable(&key, &error))?;
        view.set(&key, None);
        Ok(())
    }

    pub(super) fn write_service_status(
        &mut self,
        service: &ServiceKey,
        uid: &str,
        version: &str,
        addresses: &[IpAddr],
        view: &View,
    ) -> Result<(), WriteError> {
        let (namespace, name) = (service.namespace.clone(), service.name.clone());
        let key = ObjectKey { kind: Kind::Service, namespace, name };
        let current = view.get(&key).ok_or_else(|| WriteError::NotFound(key.object()))?;
        expect(&key, &current, uid, version)?;
        self.write_object(&key, current, view, |object| {
            if let Object::Service(service) = object {
                let ingress = |address: &IpAddr| Ingress { ip: Some(address.to_string()), ..Ingress::default() };
                Arc::make_mut(service).status.load_balancer.ingress = addresses.iter().map(ingress).collect();
            }
        })
    }

    pub(super) fn write_status(&mut self, name: &str, status: &Status, view: &View) -> Result<(), WriteError> {
        let key = ObjectKey { kind: status.kind(), namespace: String::new(), name: name.to_owned() };
        let current = view.get(&key).ok_or_else(|| WriteError::NotFound(key.object()))?;
        let before = match &current {
            Object::AddressPool(pool) => pool.status.as_ref().map_or_else(Vec::new, |status| status.conditions.clone()),
            Object::PodPool(pool) => pool.status.as_ref().map_or_else(Vec::new, |status| status.conditions.clone()),
            Object::ClusterLink(link) => link.status.as_ref().map_or_else(Vec::new, |status| status.conditions.clone()),
            Object::ClusterNetwork(network) => {
                network.status.as_ref().map_or_else(Vec::new, |status| status.conditions.clone())
            }
            Object::EdgeHost(host) => host.status.as_ref().map_or_else(Vec::new, |status| status.conditions.clone()),
            _ => Vec::new(),
        };
        self.write_object(&key, current, view, |object| match (object, status) {
            (Object::AddressPool(object), Status::AddressPool(status)) => {
                Arc::make_mut(object).status = Some(status.clone());
            }
            (Object::BgpPeer(object), Status::BgpPeer(status)) => Arc::make_mut(object).status = Some(status.clone()),
            (Object::Advertisement(object), Status::Advertisement(status)) => {
                Arc::make_mut(object).status = Some(status.clone());
            }
            (Object::PodPool(object), Status::PodPool(status)) => {
                Arc::make_mut(object).status = Some(status.clone());
            }
            (Object::ClusterLink(object), Status::ClusterLink(status)) => {
                Arc::make_mut(object).status = Some(status.clone());
            }
            (Object::ClusterNetwork(object), Status::ClusterNetwork(status)) => {
                Arc::make_mut(object).status = Some(status.clone());
            }
            (Object::EdgeHost(object), Status::EdgeHost(status)) => Arc::make_mut(object).status = Some(status.clone()),
            _ => {}
        })?;
        match status {
            Status::AddressPool(status) => say_changes(&key, &before, &status.conditions),
            Status::PodPool(status) => say_changes(&key, &before, &status.conditions),
            Status::ClusterLink(status) => say_changes(&key, &before, &status.conditions),
            Status::ClusterNetwork(status) => say_changes(&key, &before, &status.conditions),
            Status::EdgeHost(status) => say_changes(&key, &before, &status.conditions),
            Status::BgpPeer(_) | Status::Advertisement(_) => {}
        }
        Ok(())
    }

    pub(super) fn write_node_report(&mut self, report: &NodeReport, view: &View) -> Result<(), WriteError> {
        let name = report.metadata.name.clone().unwrap_or_default();
        let key = ObjectKey { kind: Kind::NodeReport, namespace: String::new(), name };
        if !is_name(&key.name) {
            return Err(refused(&key, "metadata.name: must be the name of a node"));
        }
        let current = view.get(&key);
        let earlier = current.as_ref().and_then(|object| match object {
            Object::NodeReport(earlier) => Some(earlier.as_ref()),
            _ => None,
        });
        let mut object = Object::from(admit_report(report, earlier));
        if current.as_ref() == Some(&object) {
            return Ok(());
        }
        self.stamp(&mut object);
        self.state.replace(&object, None).map_err(|error| unavailable(&key, &error))?;
        view.set(&key, Some(object));
        Ok(())
    }

    /// Writes a changed status; one that is as before is no write, as on the API server.
    fn write_object(
        &mut self,
        key: &ObjectKey,
        current: Object,
        view: &View,
        change: impl FnOnce(&mut Object),
    ) -> Result<(), WriteError> {
        let mut object = current.clone();
        change(&mut object);
        if object == current {
            return Ok(());
        }
        self.stamp(&mut object);
        let manifest = self.catalog.in_force(key).map(|(path, _)| path.strip_prefix(&self.manifests).unwrap_or(path));
        self.state.replace(&object, manifest).map_err(|error| unavailable(key, &error))?;
        view.set(key, Some(object));
        Ok(())
    }
}

/// Says what a pool's conditions say, where it is not as before: nobody asks a directory with `kubectl get`. What peers report is in the
/// log already, by the speaker of the same process.
fn say_changes(key: &ObjectKey, before: &[Condition], now: &[Condition]) {
    for condition in now {
        let earlier = before.iter().find(|earlier| earlier.type_ == condition.type_);
        if earlier.is_some_and(|earlier| earlier.status == condition.status && earlier.message == condition.message) {
            continue;
        }
        let (object, reason, message) = (key.object(), &condition.reason, &condition.message);
        match condition.status {
            ConditionStatus::True if earlier.is_none() => {}
            ConditionStatus::True => info!(%object, reason, "{message}"),
            _ => warn!(%object, reason, "{message}"),
        }
    }
}

fn problem_of(corrupt: Corrupt) -> Problem {
    Problem::of_file(corrupt.file, corrupt.reason)
}

fn claim_key(name: &str) -> Result<ObjectKey, WriteError> {
    let key = ObjectKey { kind: Kind::AddressClaim, namespace: String::new(), name: name.to_owned() };
    if is_name(name) {
        Ok(key)
    } else {
        Err(refused(&key, "metadata.name: must be the canonical form of an address or block"))
    }
}

/// The CEL rule of the CRD.
fn check_claim(claim: &AddressClaim, key: &ObjectKey) -> Result<(), WriteError> {
    if claim.spec.owners.is_empty() && claim.spec.released.is_none() {
        return Err(refused(key, "spec: a claim needs an owner, or the time at which it was released"));
    }
    Ok(())
}

/// Whether the object is still the one, and the version, that the caller saw.
fn expect(key: &ObjectKey, current: &Object, uid: &str, version: &str) -> Result<(), WriteError> {
    let metadata = current.metadata();
    let same = metadata.uid.as_deref() == Some(uid) && metadata.resource_version.as_deref() == Some(version);
    if same { Ok(()) } else { Err(WriteError::Conflict(key.object())) }
}

fn as_claim(object: Object, asked: &AddressClaim) -> AddressClaim {
    match object {
        Object::AddressClaim(claim) => Arc::unwrap_or_clone(claim),
        // It was made from a claim a moment ago.
        _ => asked.clone(),
    }
}

fn refused(key: &ObjectKey, reason: &str) -> WriteError {
    WriteError::Refused { object: key.object(), reason: reason.to_owned() }
}

fn unavailable(key: &ObjectKey, error: &io::Error) -> WriteError {
    WriteError::Unavailable { object: key.object(), reason: error.to_string() }
}
