use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::resource;

/// A ServiceCIDR: where the API server takes ClusterIPs from. Kubernetes has these objects from 1.33 on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceCidr {
    pub metadata: ObjectMeta,
    pub spec: ServiceCidrSpec,
}

resource!(ServiceCidr as "ServiceCIDR", "networking.k8s.io", "v1", "servicecidrs", ClusterResourceScope);

/// `ServiceCIDR.spec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceCidrSpec {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
}
