//! An object, and what is said of it.

use roadstead_api::checked::Invalid;

use crate::reported::Reported;

/// An object, and what is said of it.
#[derive(Debug)]
pub(crate) struct Judged<T, S> {
    pub(crate) object: Known<T>,
    pub(crate) status: Reported<S>,
}

/// An object as the store has it.
#[derive(Debug)]
pub(crate) struct Known<T> {
    /// As it last could be read.
    pub(crate) good: Option<T>,
    /// What is wrong with it now.
    pub(crate) invalid: Vec<Invalid>,
    pub(crate) generation: Option<i64>,
}

impl<T, S: Clone + PartialEq> Judged<T, S> {
    /// Takes note of the object and of its status as the store has them.
    pub(crate) fn apply(&mut self, checked: Result<T, Vec<Invalid>>, generation: Option<i64>, stored: Option<S>) {
        self.object.generation = generation;
        match checked {
            Ok(good) => {
                self.object.good = Some(good);
                self.object.invalid.clear();
            }
            Err(invalid) => self.object.invalid = invalid,
        }
        self.status.observe(stored);
    }
}

impl<T, S> Default for Judged<T, S> {
    fn default() -> Self {
        let object = Known { good: None, invalid: Vec::new(), generation: None };
        Self { object, status: Reported::default() }
    }
}
