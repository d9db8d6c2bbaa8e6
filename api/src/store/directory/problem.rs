//! What is wrong with a manifest, on one line that a person can act on.

use std::fmt;
use std::path::PathBuf;

use crate::checked::{Invalid, ObjectRef};

/// Something in a manifest, or in a file of the state directory, that cannot be in force as it stands.
///
/// Shown as `pools.yaml:14: document 2: AddressPool public: spec.addresses[0]: "10.0.0.1/24": host bits must be zero`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Where in the file; `None`: the file as a whole.
    pub place: Option<Place>,
    /// The object, where it can be told.
    pub object: Option<ObjectRef>,
    /// The path of the field, where it is about one.
    pub field: Option<String>,
    /// The value given, where it is about one and may be shown.
    pub value: Option<String>,
    /// What is wrong, or what is allowed.
    pub reason: String,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The document in the file, from 1.
    pub document: usize,
    /// The line in the file, from 1: where the fault is, or where its document begins.
    pub line: usize,
}

impl Problem {
    /// A problem of a file as a whole.
    pub(super) fn of_file(file: PathBuf, reason: String) -> Self {
        Self { file, place: None, object: None, field: None, value: None, reason }
    }
}

/// What is wrong, before it is known in which file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) field: Option<String>,
    pub(super) value: Option<String>,
    pub(super) reason: String,
}

impl Fault {
    /// A fault of the whole.
    pub(super) fn whole(reason: impl Into<String>) -> Self {
        Self { field: None, value: None, reason: reason.into() }
    }

    /// A fault of one field.
    pub(super) fn field(field: impl Into<String>, value: Option<String>, reason: impl Into<String>) -> Self {
        Self { field: Some(field.into()), value, reason: reason.into() }
    }
}

impl From<Invalid> for Fault {
    fn from(invalid: Invalid) -> Self {
        Self { field: Some(invalid.field), value: Some(invalid.value), reason: invalid.allowed }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(Place { document, line }) = self.place {
            write!(f, ":{line}: document {document}")?;
        }
        if let Some(object) = &self.object {
            write!(f, ": {object}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        if let Some(value) = &self.value {
            write!(f, ": {value:?}")?;
        }
        write!(f, ": {}", self.reason)
    }
}
