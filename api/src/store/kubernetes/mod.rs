//! The Kubernetes API as a store.
//!
//! [`connect`] finds the server, [`watching`] follows what happens there, [`health`] knows whether it answers, [`refusal`] puts its
//! refusals into the words of [`WriteError`], [`notices`] writes Events, [`listing`] looks once, [`service_range`] asks for what no
//! object tells. What is left here are the writes.
//!
//! Each write is one request, sent once and bounded in time; whoever wrote decides about trying again. Objects that several
//! parties write (claims, Service status) are written with `uid` and `resourceVersion` as preconditions; statuses that only we
//! write are applied (server-side apply, forced, with the component's name as field manager), so that a field of somebody else's
//! is never taken along.

mod connect;
mod health;
mod listing;
mod notices;
mod refusal;
mod service_range;
mod watching;

use std::fmt::Debug;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{EVENT_QUEUE, Event, Kind, Notice, Object, Status, Watch, WriteError};
use crate::checked::{ObjectRef, ServiceKey};
use crate::kinds::{
    AddressClaim, AddressPool, Advertisement, BgpPeer, ClusterLink, ClusterNetwork, EdgeHost, NodeReport, PodPool,
    RouteServer,
};
use crate::kubernetes::{EndpointSlice, Namespace, Node, Pod, Secret, Service, ServiceCidr, StatefulSet};
use health::Health;
use notices::Notices;
use refusal::write_error;

pub use connect::ConnectError;
pub use listing::ListError;

/// Log directives for binaries that use this store: `kube` itself logs each failed request, as ERROR and at length, in a loop. What
/// matters of that is logged here, once and in words.
pub const LOG_DIRECTIVES: &str = "kube_client=off,kube_runtime=off";

/// A write that was not answered within this is given up; whether it was done is then unknown.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The Kubernetes API.
#[derive(Clone)]
pub struct KubernetesStore {
    client: Client,
    /// Who writes, for field management.
    component: &'static str,
    health: Health,
    notices: Notices,
}

impl KubernetesStore {
    /// A store on the API server of this kubeconfig; `None`: of `KUBECONFIG`, `~/.kube/config` or the pod's service account.
    ///
    /// Nothing is sent yet: an API server that is away now is waited for like one that goes away later. `component` is the field
    /// manager of what is written, as `roadstead-controller`.
    pub async fn connect(kubeconfig: Option<PathBuf>, component: &'static str) -> Result<Self, ConnectError> {
        let client = connect::client(kubeconfig).await?;
        let health = Health::new(client.clone());
        let notices = Notices::new(client.clone(), component);
        Ok(Self { client, component, health, notices })
    }

    /// The same for a context of `KUBECONFIG` or `~/.kube/config`.
    pub async fn connect_context(context: &str, component: &'static str) -> Result<Self, ConnectError> {
        let client = connect::client_of_context(context).await?;
        let health = Health::new(client.clone());
        let notices = Notices::new(client.clone(), component);
        Ok(Self { client, component, health, notices })
    }

    /// Every object of a kind that tells something about addresses, as it is now; none of a kind that the API server does not know.
    pub async fn list(&self, kind: Kind) -> Result<Vec<Object>, ListError> {
        listing::list(self.client.clone(), kind).await
    }

    /// One Secret, as it is now; `None`: it is not there.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ListError> {
        listing::secret(self.client.clone(), namespace, name).await
    }

    /// Where ClusterIPs come from, as the API server names it when it refuses one from elsewhere.
    pub(super) async fn service_ranges(&self) -> Result<Vec<IpNet>, ListError> {
        service_range::service_ranges(&self.client).await
    }

    /// The client, for what is no object of ours: leases.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub(super) fn watch(&self, watches: Vec<Watch>) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        for watch in watches {
            self.watch_kind(watch, events.clone());
        }
        receiver
    }

    fn watch_kind(&self, watch: Watch, events: mpsc::Sender<Event>) {
        let (client, health) = (self.client.clone(), self.health.clone());
        macro_rules! spawn {
            ($api:expr) => {
                drop(tokio::spawn(watching::run($api, health, watch, events)))
            };
        }
        match watch.kind {
            Kind::AddressPool => spawn!(Api::<AddressPool>::all(client)),
            Kind::AddressClaim => spawn!(Api::<AddressClaim>::all(client)),
            Kind::BgpPeer => spawn!(Api::<BgpPeer>::all(client)),
            Kind::Advertisement => spawn!(Api::<Advertisement>::all(client)),
            Kind::ClusterNetwork => spawn!(Api::<ClusterNetwork>::all(client)),
            Kind::ClusterLink => spawn!(Api::<ClusterLink>::all(client)),
            Kind::EdgeHost => spawn!(Api::<EdgeHost>::all(client)),
            Kind::RouteServer => spawn!(Api::<RouteServer>::all(client)),
            Kind::NodeReport => spawn!(Api::<NodeReport>::all(client)),
            Kind::PodPool => spawn!(Api::<PodPool>::all(client)),
            Kind::Service => spawn!(scoped::<Service>(client, &watch)),
            Kind::EndpointSlice => spawn!(scoped::<EndpointSlice>(client, &watch)),
            Kind::Node => spawn!(Api::<Node>::all(client)),
            Kind::Namespace => spawn!(Api::<Namespace>::all(client)),
            Kind::Pod => spawn!(scoped::<Pod>(client, &watch)),
            Kind::Secret => spawn!(scoped::<Secret>(client, &watch)),
            Kind::ServiceCidr => spawn!(Api::<ServiceCidr>::all(client)),
        }
    }

    pub(super) async fn create_claim(&self, claim: &AddressClaim) -> Result<AddressClaim, WriteError> {
        bounded(claim_ref(claim), self.claims().create(&self.post(), claim)).await
    }

    pub(super) async fn claim(&self, name: &str) -> Result<Option<AddressClaim>, WriteError> {
        // Without a resourceVersion the API server reads from etcd, by quorum.
        bounded(ObjectRef::cluster("AddressClaim", name), self.claims().get_opt(name)).await
    }

    pub(super) async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, WriteError> {
        let object = ObjectRef::namespaced("Pod", namespace, name);
        bounded(object, Api::namespaced(self.client.clone(), namespace).get_opt(name)).await
    }

    pub(super) async fn stateful_set(&self, namespace: &str, name: &str) -> Result<Option<StatefulSet>, WriteError> {
        let object = ObjectRef::namespaced("StatefulSet", namespace, name);
        bounded(object, Api::namespaced(self.client.clone(), namespace).get_opt(name)).await
    }

    pub(super) async fn replace_claim(&self, claim: &AddressClaim) -> Result<AddressClaim, WriteError> {
        let object = claim_ref(claim);
        bounded(object.clone(), self.claims().replace(&object.name, &self.post(), claim)).await
    }

    pub(super) async fn delete_claim(&self, name: &str, uid: &str, resource_version: &str) -> Result<(), WriteError> {
        let preconditions =
            Preconditions { uid: Some(uid.to_owned()), resource_version: Some(resource_version.to_owned()) };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        bounded(ObjectRef::cluster("AddressClaim", name), self.claims().delete(name, &params)).await.map(drop)
    }

    pub(super) async fn write_service_status(
        &self,
        service: &ServiceKey,
        uid: &str,
        resource_version: &str,
        addresses: &[IpAddr],
    ) -> Result<(), WriteError> {
        let api: Api<Service> = Api::namespaced(self.client.clone(), &service.namespace);
        let ingress: Vec<_> = addresses.iter().map(|address| json!({ "ip": address })).collect();
        // A merge patch replaces the whole list, and the metadata in it are preconditions: another object of the same name, or a
        // later version of this one, answers 409.
        let patch = json!({
            "metadata": { "uid": uid, "resourceVersion": resource_version },
            "status": { "loadBalancer": { "ingress": (!ingress.is_empty()).then_some(ingress) } },
        });
        let params = PatchParams { field_manager: Some(self.component.to_owned()), ..PatchParams::default() };
        bounded(service.object(), api.patch_status(&service.name, &params, &Patch::Merge(patch))).await.map(drop)
    }

    pub(super) async fn write_status(&self, name: &str, status: &Status) -> Result<(), WriteError> {
        match status {
            Status::AddressPool(status) => self.apply_status::<AddressPool>(Kind::AddressPool, name, status).await,
            Status::BgpPeer(status) => self.apply_status::<BgpPeer>(Kind::BgpPeer, name, status).await,
            Status::Advertisement(status) => {
                self.apply_status::<Advertisement>(Kind::Advertisement, name, status).await
            }
            Status::ClusterLink(status) => self.apply_status::<ClusterLink>(Kind::ClusterLink, name, status).await,
            Status::ClusterNetwork(status) => {
                self.apply_status::<ClusterNetwork>(Kind::ClusterNetwork, name, status).await
            }
            Status::EdgeHost(status) => self.apply_status::<EdgeHost>(Kind::EdgeHost, name, status).await,
            Status::PodPool(status) => self.apply_status::<PodPool>(Kind::PodPool, name, status).await,
        }
    }

    pub(super) async fn write_node_report(&self, report: &NodeReport) -> Result<(), WriteError> {
        let name = report.metadata.name.clone().unwrap_or_default();
        // The object is there but for the first time, so that a report costs one request.
        match self.apply_status::<NodeReport>(Kind::NodeReport, &name, &report.status).await {
            Err(WriteError::NotFound(object)) => {
                let api: Api<NodeReport> = Api::all(self.client.clone());
                let patch = json!({
                    "apiVersion": NodeReport::api_version(&()),
                    "kind": NodeReport::kind(&()),
                    "metadata": { "name": name, "ownerReferences": report.metadata.owner_references },
                    "spec": report.spec,
                });
                bounded(object, api.patch(&name, &self.apply(), &Patch::Apply(patch))).await?;
                self.apply_status::<NodeReport>(Kind::NodeReport, &name, &report.status).await
            }
            outcome => outcome,
        }
    }

    pub(super) async fn notify(&self, notice: &Notice) {
        self.notices.write(notice).await;
    }

    async fn apply_status<K>(&self, kind: Kind, name: &str, status: &impl Serialize) -> Result<(), WriteError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "name": name },
            "status": status,
        });
        let object = ObjectRef::cluster(kind.as_str(), name);
        bounded(object, api.patch_status(name, &self.apply(), &Patch::Apply(patch))).await.map(drop)
    }

    fn claims(&self) -> Api<AddressClaim> {
        Api::all(self.client.clone())
    }

    fn post(&self) -> PostParams {
        PostParams { field_manager: Some(self.component.to_owned()), ..PostParams::default() }
    }

    fn apply(&self) -> PatchParams {
        PatchParams::apply(self.component).force()
    }
}

/// What a watch of a namespaced kind reaches.
fn scoped<K>(client: Client, watch: &Watch) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match &watch.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

fn claim_ref(claim: &AddressClaim) -> ObjectRef {
    ObjectRef::cluster("AddressClaim", claim.metadata.name.clone().unwrap_or_default())
}

/// One request, bounded in time.
async fn bounded<T>(object: ObjectRef, request: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    match timeout(WRITE_TIMEOUT, request).await {
        Ok(outcome) => outcome.map_err(|error| write_error(object, error)),
        Err(_) => {
            let reason = format!("no answer from the API server within {} s", WRITE_TIMEOUT.as_secs());
            Err(WriteError::Unavailable { object, reason })
        }
    }
}
