//! Which peer wants to be woken, and when: in order, so that the next one costs a look and not a walk through all peers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::PeerKey;

#[derive(Debug, Default)]
pub(super) struct Deadlines {
    in_order: BTreeSet<(Instant, PeerKey)>,
    by_peer: BTreeMap<PeerKey, Instant>,
}

impl Deadlines {
    pub(super) fn next(&self) -> Option<Instant> {
        self.in_order.first().map(|(deadline, _)| *deadline)
    }

    /// Those whose deadline has come, by name.
    pub(super) fn due(&self, now: Instant) -> Vec<PeerKey> {
        let due = self.in_order.iter().take_while(|(deadline, _)| *deadline <= now);
        let mut keys: Vec<PeerKey> = due.map(|(_, key)| key.clone()).collect();
        keys.sort_unstable();
        keys
    }

    /// The peer's next deadline is this one now. Mostly it is the one that it was.
    pub(super) fn set(&mut self, key: &PeerKey, deadline: Option<Instant>) {
        let known = self.by_peer.get(key).copied();
        if known == deadline {
            return;
        }
        if let Some((key, known)) = self.by_peer.remove_entry(key) {
            self.in_order.remove(&(known, key));
        }
        if let Some(deadline) = deadline {
            self.by_peer.insert(key.clone(), deadline);
            self.in_order.insert((deadline, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the origin of virtual time; nothing is measured")]
    fn the_next_is_the_least_of_the_latest() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let [a, b, c] = ["a", "b", "c"].map(PeerKey::from);
        let mut deadlines = Deadlines::default();
        // Who, what it says, and what is next after that.
        let steps = [
            (&b, Some(5), Some(5)),
            (&a, Some(7), Some(5)),
            (&b, Some(9), Some(7)),
            (&c, None, Some(7)),
            (&c, Some(7), Some(7)),
            (&a, Some(7), Some(7)),
            (&a, None, Some(7)),
            (&c, None, Some(9)),
            (&a, Some(1), Some(1)),
        ];
        for (key, deadline, next) in steps {
            deadlines.set(key, deadline.map(at));
            assert_eq!(deadlines.next(), next.map(at), "{key} at {deadline:?}");
        }
        assert_eq!(deadlines.due(at(8)).len(), 1);
        assert_eq!(deadlines.due(at(9)), [&a, &b].map(PeerKey::clone));
        deadlines.set(&a, None);
        deadlines.set(&b, None);
        assert_eq!(deadlines.next(), None);
        assert!(deadlines.in_order.is_empty() && deadlines.by_peer.is_empty());
    }
}
