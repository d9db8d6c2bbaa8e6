use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::resource;

/// An EndpointSlice: where a Service's endpoints are, and whether they are ready.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice {
    pub metadata: ObjectMeta,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address_type: Option<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub endpoints: Vec<Endpoint>,
}

resource!(EndpointSlice, "discovery.k8s.io", "v1", "endpointslices", NamespaceResourceScope);

impl EndpointSlice {
    /// The label that names the Service of a slice.
    pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

    /// The name of the Service that the slice belongs to; it is in the slice's namespace.
    pub fn service_name(&self) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(Self::SERVICE_NAME_LABEL).map(String::as_str)
    }
}

/// `EndpointSlice.endpoints[]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    pub conditions: EndpointConditions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
}

/// `EndpointSlice.endpoints[].conditions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointConditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating: Option<bool>,
}

/// Go writes an empty list as `null` where the field is not `omitempty`.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Endpoint>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
