//! The paths to one prefix: nearly always none or one, so one stands where the list would.
//!
//! There is one of these for every prefix, so its size is most of the table's. A list beside it is an allocation, and only
//! there while it has two paths or more.

use std::ops::{Deref, DerefMut};

use super::path::Path;

#[derive(Debug, Default)]
pub(super) enum Paths {
    #[default]
    None,
    One(Path),
    /// Two or more.
    #[expect(clippy::box_collection, reason = "a list by itself is three words, and no room for the kind")]
    Several(Box<Vec<Path>>),
}

impl Paths {
    /// # Panics
    /// If there are fewer than `position`.
    pub(super) fn insert(&mut self, position: usize, path: Path) {
        *self = match (std::mem::take(self), position) {
            (Self::None, _) => Self::One(path),
            (Self::One(only), 0) => Self::Several(Box::new(vec![path, only])),
            (Self::One(only), _) => Self::Several(Box::new(vec![only, path])),
            (Self::Several(mut list), _) => {
                list.insert(position, path);
                Self::Several(list)
            }
        };
    }

    /// Takes the path at this position out, if there is one.
    pub(super) fn remove(&mut self, position: usize) -> Option<Path> {
        match std::mem::take(self) {
            Self::One(only) if position == 0 => Some(only),
            Self::Several(mut list) if position < list.len() => {
                let removed = list.remove(position);
                *self = match (list.len(), list.pop()) {
                    (1, Some(last)) => Self::One(last),
                    (_, last) => {
                        list.extend(last);
                        Self::Several(list)
                    }
                };
                Some(removed)
            }
            unchanged => {
                *self = unchanged;
                None
            }
        }
    }

    /// Takes all of them out.
    pub(super) fn take(&mut self) -> Vec<Path> {
        match std::mem::take(self) {
            Self::None => Vec::new(),
            Self::One(only) => vec![only],
            Self::Several(list) => *list,
        }
    }
}

impl Deref for Paths {
    type Target = [Path];

    fn deref(&self) -> &[Path] {
        match self {
            Self::None => &[],
            Self::One(only) => std::slice::from_ref(only),
            Self::Several(list) => list,
        }
    }
}

impl DerefMut for Paths {
    fn deref_mut(&mut self) -> &mut [Path] {
        match self {
            Self::None => &mut [],
            Self::One(only) => std::slice::from_mut(only),
            Self::Several(list) => list,
        }
    }
}

/// Three words: without a word for the kind, which stands where a path's flags are never that large.
const _: () = assert!(size_of::<Paths>() == 24);
