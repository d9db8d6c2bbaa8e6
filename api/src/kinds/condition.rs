//! Conditions, in the form of `metav1.Condition`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One aspect of an object's state, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is judged, in CamelCase; unique in its list.
    #[serde(rename = "type")]
    #[schemars(length(max = 316))]
    pub type_: String,
    /// The verdict.
    pub status: ConditionStatus,
    /// The reason in CamelCase, for programs.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// The reason in words, for people.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When `status` last changed, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// The `metadata.generation` that was judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The verdict of a [`Condition`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody can tell at present.
    Unknown,
}
