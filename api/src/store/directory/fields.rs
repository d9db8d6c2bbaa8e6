//! Strict decoding: every unknown field and every value of a wrong type is found and named by its path.
//!
//! The API server's strict validation refuses unknown fields; here the same is had from `serde_ignored`, which hears of every
//! field that a type skips. Values come as JSON trees, so a value can be shown beside the path at which it is wrong.

use std::fmt::Write;

use kube::core::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::Fault;

/// The longest value that is shown.
const LONGEST_VALUE: usize = 80;

/// Reads a value as `T`, or says everything unknown in it, or the first thing that is of a wrong type.
pub(super) fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, Vec<Fault>> {
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(ignored_path(&path));
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let decoded = T::deserialize(serde_ignored::Deserializer::new(tracked, &mut note));
    match decoded {
        Ok(decoded) if unknown.is_empty() => Ok(decoded),
        Ok(_) => Err(unknown.iter().map(|path| Fault::field(text(path), None, "unknown field")).collect()),
        Err(error) => Err(vec![wrong_type(value, error_path(&track.path()), &error.to_string())]),
    }
}

/// One step into a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

fn ignored_path(path: &serde_ignored::Path<'_>) -> Vec<Step> {
    use serde_ignored::Path;
    match path {
        Path::Root => Vec::new(),
        Path::Seq { parent, index } => [ignored_path(parent), vec![Step::Index(*index)]].concat(),
        Path::Map { parent, key } => [ignored_path(parent), vec![Step::Key(key.clone())]].concat(),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            ignored_path(parent)
        }
    }
}

fn error_path(path: &serde_path_to_error::Path) -> Vec<Step> {
    use serde_path_to_error::Segment;
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(step).collect()
}

/// A path as people write it: `spec.ports[0].port`, `metadata.annotations[roadstead.dev/pool]`.
fn text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        // Writing to a `String` cannot fail.
        let _ = match step {
            Step::Index(index) => write!(text, "[{index}]"),
            Step::Key(key) if key.contains(['.', '/']) => write!(text, "[{key}]"),
            Step::Key(key) if text.is_empty() => write!(text, "{key}"),
            Step::Key(key) => write!(text, ".{key}"),
        };
    }
    text
}

fn wrong_type(root: &Value, mut path: Vec<Step>, message: &str) -> Fault {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split_once('`'));
    if let Some((field, _)) = missing {
        path.push(Step::Key(field.to_owned()));
        return Fault::field(text(&path), None, "must be given");
    }
    let given = path.iter().try_fold(root, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    });
    // "invalid type: string \"x\", expected i32": the value is shown by us already.
    let expected = message.rsplit_once(", expected ").map(|(_, expected)| format!("must be {}", in_words(expected)));
    let reason = expected.unwrap_or_else(|| message.to_owned());
    Fault { field: (!path.is_empty()).then(|| text(&path)), value: given.map(shown), reason }
}

/// What serde says that it expected, for people who write YAML and not Rust.
fn in_words(expected: &str) -> String {
    match expected {
        "a string" | "string" => "text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" => "a whole number".to_owned(),
        // k8s-openapi and our own types name themselves here: `AddressPoolSpec`, `struct LabelSelector`.
        other if other.starts_with("struct ") || other.chars().all(char::is_alphanumeric) => "a mapping".to_owned(),
        other => other.replace('`', ""),
    }
}

/// A value as it is shown: text as it is, anything else as JSON, neither at length.
pub(super) fn shown(value: &Value) -> String {
    let mut text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.len() > LONGEST_VALUE {
        text.truncate(text.floor_char_boundary(LONGEST_VALUE));
        text.push('…');
    }
    text
}

/// Metadata as a person gives them: what the API server sets is not theirs to set, and a file made by `kubectl get -o yaml` has it.
pub(super) fn drop_server_set(metadata: &mut ObjectMeta) {
    let given = std::mem::take(metadata);
    *metadata = ObjectMeta {
        name: given.name,
        namespace: given.namespace,
        labels: given.labels,
        annotations: given.annotations,
        ..ObjectMeta::default()
    };
}

/// Which fields `schema` (of a CRD) has at the parent of an unknown one, for the message.
pub(super) fn allowed_beside(schema: &impl Serialize, field: &str) -> Option<String> {
    let schema = serde_json::to_value(schema).ok()?;
    let parent = field.rsplit_once('.').map_or("", |(parent, _)| parent);
    let mut here = &schema;
    for key in parent.split('.').filter(|key| !key.is_empty()) {
        let (key, index) = key.split_once('[').map_or((key, false), |(key, _)| (key, true));
        here = here.get("properties")?.get(key)?;
        if index {
            here = here.get("items")?;
        }
    }
    let names: Vec<&str> = here.get("properties")?.as_object()?.keys().map(String::as_str).collect();
    Some(names.join(", "))
}
