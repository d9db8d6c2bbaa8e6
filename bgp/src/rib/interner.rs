//! One copy of each attribute set, however many prefixes and peers it is wanted for.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::RouteAttributes;

#[derive(Debug, Default)]
pub(crate) struct Interner {
    sets: BTreeSet<Arc<RouteAttributes>>,
    /// How many sets there may be before those that nobody uses any more are looked for. Doubling keeps the cost of
    /// looking constant per set added.
    sweep_at: usize,
}

impl Interner {
    pub(crate) fn intern(&mut self, attributes: Arc<RouteAttributes>) -> Arc<RouteAttributes> {
        if let Some(known) = self.sets.get(&attributes) {
            return Arc::clone(known);
        }
        if self.sets.len() >= self.sweep_at {
            self.sets.retain(|set| Arc::strong_count(set) > 1);
            self.sweep_at = (self.sets.len() * 2).max(64);
        }
        self.sets.insert(Arc::clone(&attributes));
        attributes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_are_one_and_unused_ones_go() {
        let mut interner = Interner::default();
        let set = |med| Arc::new(RouteAttributes { med: Some(med), ..RouteAttributes::default() });
        let first = interner.intern(set(1));
        assert!(Arc::ptr_eq(&first, &interner.intern(set(1))));
        for med in 2..10_000 {
            interner.intern(set(med));
        }
        assert!(interner.sets.len() <= 128, "{} sets are kept", interner.sets.len());
        assert!(Arc::ptr_eq(&first, &interner.intern(set(1))), "a set in use stays");
    }
}
