//! What is there at present, and who watches it.
//!
//! Whoever changes an object puts its key into the set of every subscriber whom it concerns; the subscriber's task takes keys from
//! there, looks the object up and tells what became of it. So a slow consumer costs one key per object, however often it
//! changes, and no lock is held while an event waits for room.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, mpsc};

use crate::store::known::{Change, Known};
use crate::store::{Event, Object, ObjectKey, Watch};

/// All objects, with their statuses.
#[derive(Debug, Default)]
pub(super) struct View {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<ObjectKey, Object>,
    subscribers: Vec<Weak<Subscriber>>,
}

#[derive(Debug)]
struct Subscriber {
    watches: Vec<Watch>,
    changed: Mutex<BTreeSet<ObjectKey>>,
    wake: Notify,
}

impl Subscriber {
    fn concerns(&self, key: &ObjectKey, object: &Object) -> bool {
        self.watches.iter().any(|watch| concerns(watch, key, object))
    }
}

impl View {
    pub(super) fn get(&self, key: &ObjectKey) -> Option<Object> {
        lock(&self.inner).objects.get(key).cloned()
    }

    /// Puts an object, or what became of it, before everybody whom it concerns.
    pub(super) fn set(&self, key: &ObjectKey, object: Option<Object>) {
        let mut inner = lock(&self.inner);
        let before = match &object {
            Some(object) => inner.objects.insert(key.clone(), object.clone()),
            None => inner.objects.remove(key),
        };
        inner.subscribers.retain(|subscriber| {
            let Some(subscriber) = subscriber.upgrade() else { return false };
            if [&before, &object].into_iter().flatten().any(|object| subscriber.concerns(key, object)) {
                lock(&subscriber.changed).insert(key.clone());
                subscriber.wake.notify_one();
            }
            true
        });
    }

    /// Tells what there is, then what changes, until nobody listens.
    pub(super) async fn follow(&self, watches: Vec<Watch>, events: mpsc::Sender<Event>) {
        let (changed, wake) = (Mutex::default(), Notify::new());
        let subscriber = Arc::new(Subscriber { watches, changed, wake });
        lock(&self.inner).subscribers.push(Arc::downgrade(&subscriber));
        tokio::select! {
            () = events.closed() => {}
            _ = self.tell_all(&subscriber, &events) => {}
        }
    }

    async fn tell_all(&self, subscriber: &Subscriber, events: &mpsc::Sender<Event>) -> Result<(), Closed> {
        let mut known = Known::default();
        for watch in &subscriber.watches {
            for key in self.matching(watch) {
                self.tell(subscriber, &key, &mut known, events).await?;
            }
            events.send(Event::Synced(watch.kind)).await?;
        }
        loop {
            subscriber.wake.notified().await;
            let changed = mem::take(&mut *lock(&subscriber.changed));
            for key in changed {
                self.tell(subscriber, &key, &mut known, events).await?;
            }
        }
    }

    async fn tell(
        &self,
        subscriber: &Subscriber,
        key: &ObjectKey,
        known: &mut Known,
        events: &mpsc::Sender<Event>,
    ) -> Result<(), Closed> {
        let Some(object) = self.get(key).filter(|object| subscriber.concerns(key, object)) else {
            if let Some(uid) = known.deleted(key) {
                events.send(Event::Deleted(key.clone(), uid)).await?;
            }
            return Ok(());
        };
        let metadata = object.metadata();
        let uid = metadata.uid.as_deref().unwrap_or_default();
        let resource_version = metadata.resource_version.as_deref().unwrap_or_default();
        match known.applied(key, uid, resource_version) {
            Change::None => return Ok(()),
            Change::Applied => {}
            Change::Replaced(uid) => events.send(Event::Deleted(key.clone(), uid)).await?,
        }
        events.send(Event::Applied(object)).await
    }

    fn matching(&self, watch: &Watch) -> Vec<ObjectKey> {
        let inner = lock(&self.inner);
        inner.objects.iter().filter(|(key, object)| concerns(watch, key, object)).map(|(key, _)| key.clone()).collect()
    }
}

/// The consumer is gone.
type Closed = mpsc::error::SendError<Event>;

fn concerns(watch: &Watch, key: &ObjectKey, object: &Object) -> bool {
    let is_on = |node: &String| matches!(object, Object::Pod(pod) if pod.spec.node_name.as_ref() == Some(node));
    watch.kind == key.kind
        && watch.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
        && watch.name.as_ref().is_none_or(|name| *name == key.name)
        && watch.node.as_ref().is_none_or(is_on)
}

/// Nothing under these locks can be left half done by a panic: each change is one insertion or removal.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
