use kube::core::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::resource;

/// A StatefulSet, as far as it tells which pods there are to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatefulSet {
    pub metadata: ObjectMeta,
    pub spec: StatefulSetSpec,
}

resource!(StatefulSet, "apps", "v1", "statefulsets", NamespaceResourceScope);

/// `StatefulSet.spec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatefulSetSpec {
    /// How many pods; one where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i64>,
    /// Where their numbers begin.
    pub ordinals: Ordinals,
}

/// `StatefulSet.spec.ordinals`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ordinals {
    /// The number of the first.
    pub start: i64,
}

impl StatefulSet {
    /// Whether it is to have a pod of this name: its own, a dash, and one of its numbers.
    pub fn wants(&self, pod: &str) -> bool {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let number = pod.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        let Some(number) = number.and_then(|number| number.parse::<i64>().ok()) else { return false };
        let first = self.spec.ordinals.start;
        let is_leaving = self.metadata.deletion_timestamp.is_some();
        !is_leaving && (first..first.saturating_add(self.spec.replicas.unwrap_or(1))).contains(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pods_that_there_are_to_be() {
        let set = |spec: &str| -> StatefulSet {
            serde_json::from_str(&format!(r#"{{"metadata":{{"name":"web"}},"spec":{spec}}}"#)).unwrap()
        };
        for (spec, pod, expected) in [
            ("{}", "web-0", true),
            ("{}", "web-1", false),
            (r#"{"replicas":3}"#, "web-2", true),
            (r#"{"replicas":3}"#, "web-3", false),
            (r#"{"replicas":0}"#, "web-0", false),
            (r#"{"replicas":3,"ordinals":{"start":5}}"#, "web-2", false),
            (r#"{"replicas":3,"ordinals":{"start":5}}"#, "web-7", true),
            (r#"{"replicas":3}"#, "web-x", false),
            (r#"{"replicas":3}"#, "webs-1", false),
        ] {
            assert_eq!(set(spec).wants(pod), expected, "{pod} of {spec}");
        }
        let leaving = r#"{"metadata":{"name":"web","deletionTimestamp":"2026-01-01T00:00:00Z"}}"#;
        assert!(!serde_json::from_str::<StatefulSet>(leaving).unwrap().wants("web-0"));
    }
}
