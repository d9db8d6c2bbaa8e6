//! Pools of either kind as the store has them.

use roadstead_api::checked::{Invalid, Overlap};

/// A pool, and what keeps it from being in force as it is written.
#[derive(Debug)]
pub(super) struct Known<T> {
    /// As it last could be read.
    pub(super) good: Option<T>,
    invalid: Vec<Invalid>,
    generation: Option<i64>,
    /// The older pool beside which it is not in force.
    pub(super) overlap: Option<Overlap>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { good: None, invalid: Vec::new(), generation: None, overlap: None }
    }
}

impl<T> Known<T> {
    /// Notes what the store has; true where `same` does not find the last good version and this one alike.
    pub(super) fn apply(
        &mut self,
        checked: Result<T, Vec<Invalid>>,
        generation: Option<i64>,
        same: impl FnOnce(&T, &T) -> bool,
    ) -> bool {
        self.generation = generation;
        match checked {
            Ok(good) => {
                self.invalid.clear();
                let changed = !self.good.as_ref().is_some_and(|before| same(before, &good));
                self.good = Some(good);
                changed
            }
            Err(invalid) => {
                self.invalid = invalid;
                false
            }
        }
    }

    /// What is wrong with it.
    pub(super) fn fault(&self) -> Fault<'_> {
        Fault { invalid: &self.invalid, overlap: self.overlap.as_ref(), generation: self.generation }
    }
}

/// What is wrong with a pool; both empty where nothing is.
#[derive(Default)]
pub(super) struct Fault<'a> {
    pub(super) invalid: &'a [Invalid],
    pub(super) overlap: Option<&'a Overlap>,
    pub(super) generation: Option<i64>,
}
