//! Waiting for other programs: asked again and again until a deadline, because a daemon's table has no event to await.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Between two questions. Short against what users notice, long against what a question costs.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks `probe` until it answers `Ok`, at most for `limit`; then fails with what it saw last.
pub fn wait_until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(seen) if Instant::now() >= deadline => {
                return Err(anyhow!("waited {limit:?} for: {what}; last seen: {seen:#}"));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_failure_says_what_was_seen_last() {
        let mut asked = 0;
        let outcome: Result<()> = wait_until("the moon", Duration::from_millis(60), || {
            asked += 1;
            bail!("only stars")
        });
        let message = outcome.unwrap_err().to_string();
        assert!(message.contains("the moon") && message.contains("only stars"), "{message}");
        assert!(asked > 1, "asked {asked} times");
    }

    #[test]
    fn an_answer_ends_the_waiting() {
        assert_eq!(wait_until("one", Duration::ZERO, || Ok(1)).unwrap(), 1);
    }
}
