//! Messages that nobody should send, sent to our binary and to four other routers; `docs/malformed.md` is the result.

use anyhow::Result;
use roadstead_e2e::{malformed, scene};

#[test]
fn every_message_costs_what_the_rfcs_say() -> Result<()> {
    scene("malformed messages", |scene| malformed::compare(scene)?.check(scene))
}
