//! What is said of an object in its status: on change, and not more often than once a second, so that a thousand Services do not
//! cost a thousand writes of their pool.

use std::time::{Duration, Instant};

/// Time between two writes of one status, and between two looks at what it ought to be.
const INTERVAL: Duration = Duration::from_secs(1);

/// When a write that the store refused is tried again.
const REFUSED_RETRY: Duration = Duration::from_secs(10);

/// The status of one object: what it says, what it ought to say, and when to look.
#[derive(Debug)]
pub(crate) struct Reported<T> {
    stored: Option<T>,
    found: Option<T>,
    due: bool,
    under_way: bool,
    not_before: Option<Instant>,
}

impl<T> Default for Reported<T> {
    fn default() -> Self {
        Self { stored: None, found: None, due: true, under_way: false, not_before: None }
    }
}

impl<T: Clone + PartialEq> Reported<T> {
    /// Takes note of what the store has.
    pub(crate) fn observe(&mut self, stored: Option<T>) {
        self.stored = stored;
        self.due = true;
    }

    /// Asks for a look.
    pub(crate) fn touch(&mut self) {
        self.due = true;
    }

    /// Takes note of how a write ended.
    pub(crate) fn finish(&mut self, done: bool, now: Instant) {
        self.under_way = false;
        self.not_before = Some(now + if done { INTERVAL } else { REFUSED_RETRY });
        if done {
            self.stored.clone_from(&self.found);
        } else {
            self.due = true;
        }
    }

    /// Whether [`Reported::poll`] would look.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due && !self.under_way && self.not_before.is_none_or(|earliest| now >= earliest)
    }

    /// What is to be written, if anything; `find` gets what is stored.
    pub(crate) fn poll(&mut self, now: Instant, find: impl FnOnce(Option<&T>) -> T) -> Option<T> {
        if !self.is_due(now) {
            return None;
        }
        self.due = false;
        self.not_before = Some(now + INTERVAL);
        let found = find(self.stored.as_ref());
        self.found = Some(found.clone());
        self.under_way = self.stored.as_ref() != Some(&found);
        self.under_way.then_some(found)
    }

    /// When [`Reported::poll`] has something to look at; `None`: at once, or never before something happens.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.due && !self.under_way)
    }

    /// What was last found.
    pub(crate) fn found(&self) -> Option<&T> {
        self.found.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_on_change_and_once_a_second_at_most() {
        let start = Instant::now();
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut status = Reported::default();
        status.observe(Some(1));
        assert_eq!(status.poll(start, |_| 1), None, "the store has it so");
        status.touch();
        assert_eq!(status.poll(after(10), |_| 2), None, "too early to look again");
        assert_eq!(status.next_deadline(), Some(after(1000)));
        assert_eq!(status.poll(after(1000), |_| 2), Some(2));
        status.touch();
        assert_eq!(status.poll(after(9000), |_| 3), None, "one write at a time");
        status.finish(true, after(9000));
        assert_eq!(status.poll(after(10_000), |_| 3), Some(3));
        status.finish(false, after(10_000));
        assert_eq!(status.next_deadline(), Some(after(20_000)), "a refused write is tried again");
        assert_eq!(status.poll(after(20_000), |_| 3), Some(3));
    }
}
