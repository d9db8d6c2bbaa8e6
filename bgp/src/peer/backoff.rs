//! When to try again.
//!
//! Two things can fail, and they deserve different patience. A connection that does not come up (the router reboots, the
//! other end starts a little later) costs a packet, so it is tried soon and then every `connect_retry`. A session that
//! fails after the connection was up (wrong AS number, too many prefixes) will fail again for the same reason, costs both
//! ends work and fills logs, so the pause doubles, and shrinks again only after a session that has lasted.

use std::time::Duration;

use crate::random::SplitMix64;

#[derive(Debug, Default)]
pub(crate) struct Backoff {
    connect_failures: u32,
    session_failures: u32,
}

/// The first pause after a connection that failed.
const FIRST_CONNECT_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause after a session that failed, unless `connect_retry` is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// The pause after a session that had lasted.
const PAUSE_AFTER_STABLE: Duration = Duration::from_secs(1);
/// A session that was up for so long had nothing wrong with it in principle.
const STABLE: Duration = Duration::from_secs(30);

impl Backoff {
    /// A connection did not come up, or ended before the peer's OPEN.
    pub(crate) fn connection_failed(&mut self, connect_retry: Duration, random: &mut SplitMix64) -> Duration {
        let pause = FIRST_CONNECT_PAUSE.saturating_mul(1 << self.connect_failures.min(16)).min(connect_retry);
        self.connect_failures = self.connect_failures.saturating_add(1);
        random.jitter(pause)
    }

    /// The peer answered.
    pub(crate) fn connection_came_up(&mut self) {
        self.connect_failures = 0;
    }

    /// A session ended, or was refused; `uptime` is for how long it had been established.
    pub(crate) fn session_failed(
        &mut self,
        uptime: Option<Duration>,
        connect_retry: Duration,
        random: &mut SplitMix64,
    ) -> Duration {
        if uptime.is_some_and(|uptime| uptime >= STABLE) {
            self.session_failures = 0;
            return random.jitter(PAUSE_AFTER_STABLE.min(connect_retry));
        }
        let pause = connect_retry.saturating_mul(1 << self.session_failures.min(16));
        self.session_failures = self.session_failures.saturating_add(1);
        random.jitter(pause.min(LONGEST_PAUSE.max(connect_retry)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_secs(5);

    /// Pauses rounded up to what they were before jitter.
    fn without_jitter(pause: Duration, steps: &[f64]) -> f64 {
        *steps.iter().find(|&&step| pause.as_secs_f64() <= step && pause.as_secs_f64() >= step * 0.75).unwrap_or(&-1.0)
    }

    #[test]
    fn failed_connections_are_retried_soon_and_then_steadily() {
        let (mut backoff, mut random) = (Backoff::default(), SplitMix64::new(1));
        let steps = [0.25, 0.5, 1.0, 2.0, 4.0, 5.0];
        let seen: Vec<f64> =
            (0..8).map(|_| without_jitter(backoff.connection_failed(RETRY, &mut random), &steps)).collect();
        // Between 4 and 5 s the jittered ranges overlap; each pause must be in one of them.
        assert_eq!(seen[..4], [0.25, 0.5, 1.0, 2.0]);
        assert!(seen[4..].iter().all(|&step| step >= 4.0), "{seen:?}");
    }

    #[test]
    fn failed_sessions_are_retried_ever_more_rarely_until_one_lasts() {
        let (mut backoff, mut random) = (Backoff::default(), SplitMix64::new(1));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pauses.push(backoff.session_failed(Some(Duration::from_secs(3)), RETRY, &mut random));
        }
        for (pause, whole) in pauses.iter().zip([5, 10, 20, 40, 80, 120, 120, 120]) {
            let whole = Duration::from_secs(whole);
            assert!(*pause >= whole * 3 / 4 && *pause <= whole, "{pause:?} of {whole:?}");
        }
        assert!(backoff.session_failed(Some(Duration::from_secs(31)), RETRY, &mut random) <= Duration::from_secs(1));
        assert!(backoff.session_failed(None, RETRY, &mut random) <= RETRY);
    }
}
