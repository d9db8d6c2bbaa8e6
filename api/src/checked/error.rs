//! What is wrong with an object, so that one line tells where, what was given and what is allowed.

use std::fmt;

/// A name for an object in messages: `AddressPool public`, `Service shop/front`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// The kind as the API writes it.
    pub kind: &'static str,
    /// Its namespace, where the kind has one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// The reference of a cluster-scoped object.
    pub fn cluster(kind: &'static str, name: impl Into<String>) -> Self {
        Self { kind, namespace: None, name: name.into() }
    }

    /// The reference of a namespaced object.
    pub fn namespaced(kind: &'static str, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind, namespace: Some(namespace.into()), name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {field}: {value:?}: {allowed}")]
pub struct Invalid {
    /// The object.
    pub object: ObjectRef,
    /// The path of the field, as `spec.addresses[1]`.
    pub field: String,
    /// The value given.
    pub value: String,
    /// What is allowed there.
    pub allowed: String,
}

/// Collects what is wrong with one object while it is checked.
pub struct Findings {
    object: ObjectRef,
    found: Vec<Invalid>,
}

impl Findings {
    /// Nothing found so far.
    pub fn new(object: ObjectRef) -> Self {
        Self { object, found: Vec::new() }
    }

    /// Notes that `field` must not be `value`.
    pub fn refuse(&mut self, field: impl Into<String>, value: impl fmt::Display, allowed: impl Into<String>) {
        let (field, value, allowed) = (field.into(), value.to_string(), allowed.into());
        self.found.push(Invalid { object: self.object.clone(), field, value, allowed });
    }

    /// The value of a parse, or `None` with its error noted.
    pub fn take<T, E: fmt::Display>(
        &mut self,
        field: impl Into<String>,
        value: impl fmt::Display,
        parsed: Result<T, E>,
    ) -> Option<T> {
        parsed.map_err(|error| self.refuse(field, value, error.to_string())).ok()
    }

    /// The checked object, or all that was found.
    pub fn conclude<T>(self, checked: Option<T>) -> Result<T, Vec<Invalid>> {
        match checked {
            Some(checked) if self.found.is_empty() => Ok(checked),
            _ => Err(self.found),
        }
    }

    /// True where nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}
