//! One watch of the Kubernetes API: list, then follow, for ever.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::core::{ObjectMeta, Status};
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::connect::one_line;
use super::health::{Health, spread};
use crate::store::known::{Change, Known};
use crate::store::{Event, Kind, Object, ObjectKey, Watch};

/// The API server ends a watch after this long and we begin another: a connection that died without a word is noticed after this
/// and 5 s more. kube's default, 290 s, is long for routes.
const WATCH_SECONDS: u32 = 60;
/// Pause after the server refused a list, before the next try.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// Pause after the server said that it has no such kind, where that may be so.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(60);
/// A server that has just started refuses with 429 or 503 until it has read its storage; that is nobody's concern for this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// A refusal that lasts is logged this often.
const REMIND: Duration = Duration::from_secs(60);

/// The annotation in which `kubectl apply` keeps a second copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The consumer is gone.
struct Closed;

/// Watches what `api` reaches until the consumer drops its receiver.
pub(super) async fn run<K>(api: Api<K>, health: Health, watch: Watch, events: mpsc::Sender<Event>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    Object: From<K>,
{
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    let fields = [("metadata.name", &watch.name), ("spec.nodeName", &watch.node)];
    let fields: Vec<String> =
        fields.into_iter().filter_map(|(field, value)| Some(format!("{field}={}", value.as_ref()?))).collect();
    if !fields.is_empty() {
        config = config.fields(&fields.join(","));
    }
    let plural = format!("{}.{}", K::plural(&()), K::group(&())).trim_end_matches('.').to_owned();
    let closed = events.clone();
    let mut task =
        Task { watch, plural, events, health, known: Known::default(), synced: false, refused: None, reminded: None };
    tokio::select! {
        () = closed.closed() => {}
        _ = task.follow(watcher(api, config)) => {}
    }
}

struct Task {
    watch: Watch,
    /// The resource as the API names it in messages: `addresspools.roadstead.dev`.
    plural: String,
    events: mpsc::Sender<Event>,
    health: Health,
    known: Known,
    synced: bool,
    /// Since when the server refuses.
    refused: Option<Instant>,
    /// When a refusal that lasts was last logged.
    reminded: Option<Instant>,
}

impl Task {
    /// `watcher` repairs itself when it is polled after an error; what is missing there is a pause, and words for people.
    async fn follow<K>(&mut self, stream: impl Stream<Item = watcher::Result<watcher::Event<K>>>) -> Result<(), Closed>
    where
        K: Resource<DynamicType = ()>,
        Object: From<K>,
    {
        let mut stream = pin!(stream);
        while let Some(event) = stream.next().await {
            match event {
                Ok(event) => self.handle_event(event).await?,
                Err(error) => self.handle_error(error).await,
            }
        }
        Ok(())
    }

    async fn handle_event<K>(&mut self, event: watcher::Event<K>) -> Result<(), Closed>
    where
        K: Resource<DynamicType = ()>,
        Object: From<K>,
    {
        match event {
            watcher::Event::Init => self.known.begin_list(),
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                self.accepted();
                self.applied(object).await?;
            }
            watcher::Event::Delete(object) => {
                let key = ObjectKey::from(&Object::from(object));
                if let Some(uid) = self.known.deleted(&key) {
                    self.tell(Event::Deleted(key, uid)).await?;
                }
            }
            watcher::Event::InitDone => {
                for (key, uid) in self.known.end_list() {
                    self.tell(Event::Deleted(key, uid)).await?;
                }
                self.accepted();
                if !self.synced {
                    self.synced = true;
                    self.tell(Event::Synced(self.watch.kind)).await?;
                }
            }
        }
        Ok(())
    }

    async fn applied<K>(&mut self, mut object: K) -> Result<(), Closed>
    where
        K: Resource<DynamicType = ()>,
        Object: From<K>,
    {
        drop_ballast(object.meta_mut());
        let object = Object::from(object);
        let key = ObjectKey::from(&object);
        let metadata = object.metadata();
        let uid = metadata.uid.as_deref().unwrap_or_default();
        let resource_version = metadata.resource_version.as_deref().unwrap_or_default();
        match self.known.applied(&key, uid, resource_version) {
            Change::None => return Ok(()),
            Change::Applied => {}
            Change::Replaced(uid) => self.tell(Event::Deleted(key, uid)).await?,
        }
        self.tell(Event::Applied(object)).await
    }

    async fn tell(&self, event: Event) -> Result<(), Closed> {
        self.events.send(event).await.map_err(|_| Closed)
    }

    async fn handle_error(&mut self, error: watcher::Error) {
        match cause(&error) {
            Cause::Silence(error) => self.health.lost(error).await,
            // 410: what we had seen is too old to go on from. The watcher lists again, and we tell only the difference.
            Cause::Answer(status) if status.code == 410 => {
                debug!(resource = self.plural, "watch expired, listing again")
            }
            // Nothing of a kind that this API server is too old for.
            Cause::Answer(status) if status.code == 404 && self.watch.kind == Kind::ServiceCidr => {
                if !self.synced {
                    self.synced = true;
                    // The consumer is gone when this fails, which ends the task.
                    let _ = self.tell(Event::Synced(self.watch.kind)).await;
                }
                sleep(spread(UNKNOWN_PAUSE)).await;
            }
            Cause::Answer(status) => {
                let lasts = self.refused.get_or_insert_with(Instant::now).elapsed() >= PATIENCE;
                let told = self.reminded.is_some_and(|last| last.elapsed() < REMIND);
                if !told && (lasts || matches!(status.code, 403 | 404)) {
                    self.reminded = Some(Instant::now());
                    self.remind(status);
                }
                sleep(spread(REFUSED_PAUSE)).await;
            }
            Cause::Nonsense => {
                warn!(resource = self.plural, error = one_line(&error), "the API server's answer cannot be understood");
                sleep(spread(REFUSED_PAUSE)).await;
            }
        }
    }

    fn accepted(&mut self) {
        self.refused = None;
        if self.reminded.take().is_some() {
            info!(resource = self.plural, "can be watched now");
        }
    }

    fn remind(&self, status: &Status) {
        let resource = &self.plural;
        match status.code {
            404 if resource.ends_with(".roadstead.dev") => {
                warn!("CRD {resource} is not installed; install it with: roadstead crds | kubectl apply -f -");
            }
            404 => warn!("the API server knows no {resource}: {}", status.message),
            // The server's message names the user, the verb and the resource.
            403 => warn!("not allowed to watch {resource}: {}", status.message),
            code => warn!(code, "the API server refuses to list {resource}: {}", status.message),
        }
    }
}

/// Drops what nobody here reads and what can be larger than all the rest of an object.
fn drop_ballast(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    metadata.annotations.take_if(|annotations| annotations.is_empty());
}

/// What is behind a watch's error.
enum Cause<'a> {
    /// There was no answer.
    Silence(&'a kube::Error),
    /// The API server answered, and would not.
    Answer(&'a Status),
    /// The API server answered something that is no answer.
    Nonsense,
}

fn cause(error: &watcher::Error) -> Cause<'_> {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status)) => {
            Cause::Answer(status)
        }
        WatchFailed(kube::Error::Api(status)) | WatchError(status) => Cause::Answer(status),
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) if !is_nonsense(error) => {
            Cause::Silence(error)
        }
        InitialListFailed(_) | WatchStartFailed(_) | WatchFailed(_) | NoResourceVersion => Cause::Nonsense,
    }
}

fn is_nonsense(error: &kube::Error) -> bool {
    matches!(error, kube::Error::SerdeError(_) | kube::Error::FromUtf8(_))
}
