use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::resource;

/// A Secret. Its values never leave this type but by [`Secret::value`], and its `Debug` shows none.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Secret {
    pub metadata: ObjectMeta,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    data: BTreeMap<String, ByteString>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    string_data: BTreeMap<String, String>,
}

resource!(Secret, "", "v1", "secrets", NamespaceResourceScope);

impl Secret {
    /// The value of a key. `stringData`, which only a manifest has, goes before `data`, as on the API server.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        let text = self.string_data.get(key).map(String::as_bytes);
        text.or_else(|| self.data.get(key).map(|bytes| bytes.0.as_slice()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.metadata.name).finish_non_exhaustive()
    }
}
