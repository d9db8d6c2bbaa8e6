//! What every story needs that has a speaker and a clock of its own.

use std::time::{Duration, Instant};

use roadstead_bgp::Speaker;

/// More timeouts than this are one that comes back without end.
const MANY: u32 = 100_000;

pub(crate) trait Stage {
    fn speaker_and_clock(&mut self) -> (&mut Speaker, &mut Instant);

    /// Does what the speaker wants done.
    fn perform(&mut self);

    /// Lets time pass, with every deadline in it.
    fn advance(&mut self, duration: Duration) {
        let (_, now) = self.speaker_and_clock();
        let end = *now + duration;
        for _ in 0..MANY {
            let (speaker, now) = self.speaker_and_clock();
            let Some(deadline) = speaker.next_deadline().filter(|deadline| *deadline <= end) else {
                *now = end;
                return;
            };
            *now = deadline.max(*now);
            speaker.handle_timeout(*now);
            self.perform();
        }
        panic!("a deadline comes back without end");
    }
}
