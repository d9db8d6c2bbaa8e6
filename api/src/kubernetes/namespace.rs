use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::resource;

/// A Namespace: its labels decide which pools serve it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespace {
    pub metadata: ObjectMeta,
}

resource!(Namespace, "", "v1", "namespaces", ClusterResourceScope);
