//! The controller as a whole, over a directory of manifests.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roadstead_api::checked::status_addresses;
use roadstead_api::store::{DirectoryStore, Event, Kind, Object, Store, Watch};
use roadstead_controller::{Options, RunError, run};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Longer than anything here takes; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

const POOL: &str = "apiVersion: roadstead.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {addresses: [203.0.113.1-203.0.113.2]}
";

fn service(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n"
    )
}

#[tokio::test]
async fn services_get_addresses_keep_them_over_a_restart_and_give_them_back() {
    let directory = Directory::new();
    directory.write("pool", POOL);
    directory.write("a", &service("a"));
    let store = Store::Directory(DirectoryStore::open(directory.manifests(), directory.state()).unwrap());
    let mut onlooker = Onlooker::new(&store);

    let controller = Controller::start(&store);
    onlooker.until("a has its address", |seen| seen.has("a", "203.0.113.1")).await;
    onlooker.until("and its pool says so", |seen| seen.allocated.get("public").is_some_and(|count| count == "1")).await;
    controller.stop().await;

    directory.write("b", &service("b"));
    let controller = Controller::start(&store);
    onlooker.until("b has the next", |seen| seen.has("a", "203.0.113.1") && seen.has("b", "203.0.113.2")).await;

    directory.remove("a");
    onlooker.until("the claim is gone", |seen| !seen.claims.contains_key("203.0.113.1")).await;
    directory.write("c", &service("c"));
    onlooker.until("c has the free one", |seen| seen.has("c", "203.0.113.1") && seen.has("b", "203.0.113.2")).await;
    controller.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let directory = Directory::new();
    let store = Store::Directory(DirectoryStore::open(directory.manifests(), directory.state()).unwrap());
    let holder = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address: SocketAddr = holder.local_addr().unwrap();
    let options = Options { metrics_address: Some(address), ..Options::default() };
    let error = run(store, options, std::future::pending()).await.unwrap_err();
    assert!(matches!(error, RunError::Listen { .. }));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

/// A controller in the background.
struct Controller {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Controller {
    fn start(store: &Store) -> Self {
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { stopped.await.unwrap_or_default() };
        Self { stop, task: tokio::spawn(run(store.clone(), Options::default(), shutdown)) }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

/// Somebody who looks at the store, as `kubectl get -w` does.
struct Onlooker {
    events: mpsc::Receiver<Event>,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    /// Addresses in the status of Services.
    services: BTreeMap<String, Vec<IpAddr>>,
    /// Owners by the name of the claim.
    claims: BTreeMap<String, Vec<String>>,
    /// `status.ipv4.allocated` of pools.
    allocated: BTreeMap<String, String>,
}

impl Seen {
    /// Whether a Service has this address and the claim of it.
    fn has(&self, service: &str, address: &str) -> bool {
        self.services.get(service).is_some_and(|has| *has == [address.parse::<IpAddr>().unwrap()])
            && self.claims.get(address).is_some_and(|owners| *owners == [service])
    }
}

impl Onlooker {
    fn new(store: &Store) -> Self {
        let kinds = [Kind::Service, Kind::AddressClaim, Kind::AddressPool];
        Self { events: store.watch(kinds.into_iter().map(Watch::all).collect()), seen: Seen::default() }
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        let wait = async {
            while !is_so(&self.seen) {
                let event = self.events.recv().await.unwrap();
                self.see(event);
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("not so: {what}; {:#?}", self.seen);
        }
    }

    fn see(&mut self, event: Event) {
        match event {
            Event::Applied(Object::Service(service)) => {
                let name = service.metadata.name.clone().unwrap();
                self.seen.services.insert(name, status_addresses(&service));
            }
            Event::Applied(Object::AddressClaim(claim)) => {
                let owners = claim.spec.owners.iter().map(|owner| owner.name.0.clone()).collect();
                self.seen.claims.insert(claim.metadata.name.clone().unwrap(), owners);
            }
            Event::Applied(Object::AddressPool(pool)) => {
                let count = pool.status.as_ref().and_then(|status| status.ipv4.clone());
                let allocated = count.map(|count| count.allocated).unwrap_or_default();
                self.seen.allocated.insert(pool.metadata.name.clone().unwrap(), allocated);
            }
            Event::Deleted(key, _) => {
                self.seen.services.remove(&key.name);
                self.seen.claims.remove(&key.name);
            }
            Event::Applied(_) | Event::Synced(_) => {}
        }
    }
}

/// A directory of its own, gone when the test is over.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("roadstead-controller-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(directory.manifests()).unwrap();
        directory
    }

    fn manifests(&self) -> PathBuf {
        self.0.join("manifests")
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.manifests().join(format!("{name}.yaml")), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.manifests().join(format!("{name}.yaml"))).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
