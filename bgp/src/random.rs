//! A small seeded generator. The engine needs randomness for jitter alone, where it has to spread and to be repeatable
//! rather than to be unpredictable.

use std::time::Duration;

/// SplitMix64 (Steele, Lea and Flood: "Fast splittable pseudorandom number generators").
#[derive(Debug, Clone)]
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Three quarters to the whole of `duration` (RFC 4271 section 10).
    pub(crate) fn jitter(&mut self, duration: Duration) -> Duration {
        // 1024 steps between 0.75 and 1.0: fine enough to keep peers apart.
        let step = (self.next() % 1024) as u32;
        duration * 3 / 4 + duration / 4 * step / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_three_quarters_and_the_whole() {
        let mut random = SplitMix64::new(7);
        let whole = Duration::from_secs(8);
        let drawn: Vec<Duration> = (0..1000).map(|_| random.jitter(whole)).collect();
        assert!(drawn.iter().all(|jittered| (Duration::from_secs(6)..=whole).contains(jittered)));
        assert!(drawn.iter().any(|jittered| *jittered < Duration::from_millis(6200)));
        assert!(drawn.iter().any(|jittered| *jittered > Duration::from_millis(7800)));
    }
}
