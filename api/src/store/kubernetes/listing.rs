//! What is there at one moment, for whoever looks once and does not watch.

use std::fmt::Debug;

use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::WRITE_TIMEOUT;
use super::connect::one_line;
use crate::kinds::{AddressClaim, AddressPool, ClusterNetwork, EdgeHost, NodeReport, PodPool};
use crate::kubernetes::{Namespace, Node, Secret, Service, ServiceCidr};
use crate::store::{Kind, Object};

/// Objects asked for at a time: an answer of a few megabytes at most.
const PAGE: u32 = 1000;

/// Why a kind cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}s cannot be listed: {reason}")]
pub struct ListError {
    /// The kind.
    pub kind: Kind,
    /// The API server's words, or what happened on the way to it.
    pub reason: String,
}

/// Every object of a kind; none of one that the API server does not know.
pub(super) async fn list(client: Client, kind: Kind) -> Result<Vec<Object>, ListError> {
    match kind {
        Kind::AddressPool => pages::<AddressPool>(client, kind).await,
        Kind::AddressClaim => pages::<AddressClaim>(client, kind).await,
        Kind::ClusterNetwork => pages::<ClusterNetwork>(client, kind).await,
        Kind::EdgeHost => pages::<EdgeHost>(client, kind).await,
        Kind::NodeReport => pages::<NodeReport>(client, kind).await,
        Kind::PodPool => pages::<PodPool>(client, kind).await,
        Kind::Service => pages::<Service>(client, kind).await,
        Kind::Node => pages::<Node>(client, kind).await,
        Kind::Namespace => pages::<Namespace>(client, kind).await,
        Kind::ServiceCidr => pages::<ServiceCidr>(client, kind).await,
        _ => Err(ListError { kind, reason: "it tells nothing about addresses".to_owned() }),
    }
}

/// One Secret, and no right to see others.
pub(super) async fn secret(client: Client, namespace: &str, name: &str) -> Result<Option<Secret>, ListError> {
    let failed = |reason| ListError { kind: Kind::Secret, reason };
    let api: Api<Secret> = Api::namespaced(client, namespace);
    match timeout(WRITE_TIMEOUT, api.get_opt(name)).await {
        Ok(Ok(secret)) => Ok(secret),
        Ok(Err(kube::Error::Api(status))) => Err(failed(status.message.clone())),
        Ok(Err(error)) => Err(failed(one_line(&error))),
        Err(_) => Err(failed(format!("no answer from the API server within {} s", WRITE_TIMEOUT.as_secs()))),
    }
}

async fn pages<K>(client: Client, kind: Kind) -> Result<Vec<Object>, ListError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    Object: From<K>,
{
    let api: Api<K> = Api::all(client);
    let mut found: Vec<Object> = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let answer = timeout(WRITE_TIMEOUT, api.list(&params)).await.map_err(|_| {
            let reason = format!("no answer from the API server within {} s", WRITE_TIMEOUT.as_secs());
            ListError { kind, reason }
        })?;
        let page = match answer {
            Ok(page) => page,
            // A cluster without our CRDs, or without kinds of a later Kubernetes.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
            Err(kube::Error::Api(status)) => return Err(ListError { kind, reason: status.message.clone() }),
            Err(error) => return Err(ListError { kind, reason: one_line(&error) }),
        };
        found.extend(page.items.into_iter().map(Object::from));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}
