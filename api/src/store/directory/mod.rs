//! A directory of manifests as a store, for one machine without Kubernetes.
//!
//! ```text
//!  manifests/*.yaml --files--> text --manifest--> readings --catalog--> what is in force --.
//!                                                                                         writer --> view --> watches
//!  state/**.yaml <--------------------------- state <---------- statuses, claims ---------'
//! ```
//!
//! People own the manifests, Roadstead owns the state directory, and neither writes the other's. [`files`] notices which file
//! changed, [`manifest`] reads it as strictly as the API server would, [`catalog`] decides which version of an object is in force
//! (the last good one, while its manifest is broken), and [`writer`] gives it what an API server would add: UID, `resourceVersion`,
//! status. Claims and statuses are written under the same preconditions as there, and are unique and atomic by means of the file
//! system ([`state`]).

mod admission;
mod catalog;
mod documents;
mod fields;
mod files;
mod manifest;
mod problem;
#[cfg(test)]
mod scratch;
mod state;
mod view;
mod writer;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{EVENT_QUEUE, Event, Notice, Object, Severity, Status, Watch, WriteError};
use crate::checked::{ObjectRef, ServiceKey};
use crate::kinds::{AddressClaim, NodeReport};
use catalog::Catalog;
use files::{Change, Files};
use manifest::Purpose;
use view::View;
use writer::{Looked, Writer};

pub use problem::{Place, Problem};

/// Time between two looks at the files. A change is read after two, so it shows within a quarter of a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Looks that find nothing take at most a tenth of one processor, however many files there are.
const REST: u32 = 10;
/// Longest time between two looks.
const LONGEST_INTERVAL: Duration = Duration::from_secs(2);

/// Why a directory cannot be a store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The manifests cannot be listed.
    #[error("manifests {}: {source}", path.display())]
    Manifests {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The state directory cannot be used.
    #[error("state directory {}: {source}", path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses the state directory.
    #[error("state directory {}: in use by another Roadstead ({holder}); give each its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// Both directories are one.
    #[error("state directory {}: is the directory of manifests too; give it a directory of its own", path.display())]
    StateIsManifests {
        /// The directory.
        path: PathBuf,
    },
}

/// A directory of manifests, with a state directory beside it.
#[derive(Clone, Debug)]
pub struct DirectoryStore {
    shared: Arc<Shared>,
    _looking: Arc<Looking>,
}

#[derive(Debug)]
struct Shared {
    view: View,
    writer: Mutex<Writer>,
}

impl Shared {
    fn writer(&self) -> MutexGuard<'_, Writer> {
        // The disk is written before the view, so a panic in between leaves nothing that the next look or write cannot follow.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirectoryStore {
    /// A store on the manifests in one directory or one file, with its state in another directory, which is made where it is missing.
    ///
    /// What stands in the manifests now is read before this returns; changes are noticed as long as a clone of the store or a watch
    /// of it lives.
    pub fn open(manifests: PathBuf, state: PathBuf) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::open(manifests, state)?);
        let looking = Arc::new(Looking::start(Arc::clone(&shared)));
        Ok(Self { shared, _looking: looking })
    }

    /// What a directory of manifests, or one file, holds, and what is wrong with it; nothing is written.
    pub fn check_once(manifests: &Path) -> Result<(Vec<Object>, Vec<Problem>), OpenError> {
        Self::read_once(manifests, Purpose::Force)
    }

    /// The same of what a cluster told (`roadstead export`, `kubectl get -o yaml`): with statuses, and with what Roadstead writes.
    pub fn survey(manifests: &Path) -> Result<(Vec<Object>, Vec<Problem>), OpenError> {
        Self::read_once(manifests, Purpose::Survey)
    }

    fn read_once(manifests: &Path, purpose: Purpose) -> Result<(Vec<Object>, Vec<Problem>), OpenError> {
        let changes = Files::new(manifests.to_owned(), None).look_first();
        let changes = changes.map_err(|source| OpenError::Manifests { path: manifests.to_owned(), source })?;
        let mut catalog = Catalog::default();
        for (path, change) in changes {
            let content = match change {
                Change::Text(text) => Ok(manifest::read(&text, purpose)),
                Change::Unreadable(reason) => Err(reason),
                Change::Gone => continue,
            };
            catalog.update(&path, content);
        }
        Ok((catalog.objects().cloned().collect(), catalog.problems()))
    }

    /// All that is wrong with the manifests, and with the state directory, at present.
    pub fn problems(&self) -> Vec<Problem> {
        self.shared.writer().problems()
    }

    pub(super) fn watch(&self, watches: Vec<Watch>) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let store = self.clone();
        tokio::spawn(async move { store.shared.view.follow(watches, events).await });
        receiver
    }

    pub(super) async fn create_claim(&self, claim: &AddressClaim) -> Result<AddressClaim, WriteError> {
        let (object, claim) = (claim_ref(claim), claim.clone());
        self.write(object, move |writer, view| writer.create_claim(&claim, view)).await
    }

    pub(super) async fn claim(&self, name: &str) -> Result<Option<AddressClaim>, WriteError> {
        let (object, name) = (ObjectRef::cluster("AddressClaim", name), name.to_owned());
        self.write(object, move |writer, _| writer.claim(&name)).await
    }

    pub(super) async fn replace_claim(&self, claim: &AddressClaim) -> Result<AddressClaim, WriteError> {
        let (object, claim) = (claim_ref(claim), claim.clone());
        self.write(object, move |writer, view| writer.replace_claim(&claim, view)).await
    }

    pub(super) async fn delete_claim(&self, name: &str, uid: &str, version: &str) -> Result<(), WriteError> {
        let object = ObjectRef::cluster("AddressClaim", name);
        let (name, uid, version) = (name.to_owned(), uid.to_owned(), version.to_owned());
        self.write(object, move |writer, view| writer.delete_claim(&name, &uid, &version, view)).await
    }

    pub(super) async fn write_service_status(
        &self,
        service: &ServiceKey,
        uid: &str,
        version: &str,
        addresses: &[IpAddr],
    ) -> Result<(), WriteError> {
        let (service, uid, version) = (service.clone(), uid.to_owned(), version.to_owned());
        let addresses = addresses.to_owned();
        self.write(service.object(), move |writer, view| {
            writer.write_service_status(&service, &uid, &version, &addresses, view)
        })
        .await
    }

    pub(super) async fn write_status(&self, name: &str, status: &Status) -> Result<(), WriteError> {
        let (object, name, status) =
            (ObjectRef::cluster(status.kind().as_str(), name), name.to_owned(), status.clone());
        self.write(object, move |writer, view| writer.write_status(&name, &status, view)).await
    }

    pub(super) async fn write_node_report(&self, report: &NodeReport) -> Result<(), WriteError> {
        let object = ObjectRef::cluster("NodeReport", report.metadata.name.clone().unwrap_or_default());
        let report = report.clone();
        self.write(object, move |writer, view| writer.write_node_report(&report, view)).await
    }

    /// There is nobody to show notices to but who reads the log.
    pub(super) fn notify(&self, notice: &Notice) {
        let Notice { object, reason, message, .. } = notice;
        match notice.severity {
            Severity::Normal => info!(%object, reason, "{message}"),
            Severity::Warning => warn!(%object, reason, "{message}"),
        }
    }

    /// Runs a write where it may wait for the disk.
    async fn write<T: Send + 'static>(
        &self,
        object: ObjectRef,
        write: impl FnOnce(&mut Writer, &View) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, WriteError> {
        let shared = Arc::clone(&self.shared);
        let outcome = tokio::task::spawn_blocking(move || write(&mut shared.writer(), &shared.view)).await;
        outcome.unwrap_or_else(|error| Err(WriteError::Unavailable { object, reason: error.to_string() }))
    }
}

fn claim_ref(claim: &AddressClaim) -> ObjectRef {
    ObjectRef::cluster("AddressClaim", claim.metadata.name.clone().unwrap_or_default())
}

impl Shared {
    fn open(manifests: PathBuf, state: PathBuf) -> Result<Self, OpenError> {
        let view = View::default();
        let writer = Mutex::new(Writer::open(manifests, state, &view)?);
        Ok(Self { view, writer })
    }

    fn look(&self) -> Looked {
        self.writer().look(&self.view)
    }
}

/// The thread that looks at the files. A thread and not a task, because looking is nothing but blocking calls.
#[derive(Debug)]
struct Looking {
    /// Closed to end the thread; nothing is ever sent.
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Looking {
    fn start(shared: Arc<Shared>) -> Self {
        let (stop, stopped) = sync_channel(1);
        let look = move || {
            let mut pause = LOOK_INTERVAL;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let begin = Instant::now();
                pause = match shared.look() {
                    Looked::Unchanged => (begin.elapsed() * REST).clamp(LOOK_INTERVAL, LONGEST_INTERVAL),
                    Looked::Changed => LOOK_INTERVAL,
                };
            }
        };
        let thread = thread::Builder::new().name("manifests".to_owned()).spawn(look);
        let thread = thread.inspect_err(|error| warn!(%error, "manifests are read once and not again")).ok();
        Self { stop: Some(stop), thread }
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It ends within the look that it is at. A panic there was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
