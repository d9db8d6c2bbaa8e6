//! Whole networks of speakers on virtual time: two to two hundred of them, and everything that can go wrong between them.
//!
//! `network` is what joins the speakers, and checks after every step what must always be true; `story` is what happens to them,
//! and what must be true in the end, where `model` says what everybody must have learned; `shape` is who is who, `ways` which next hops
//! can be reached, and `sayings` what passes between two. Here is how often: twelve
//! thousand stories, each a function of its seed. `cargo xtask test` tells all of them (`ROADSTEAD_STORIES=all`), `cargo test` every tenth.
//!
//! A story that fails says its seed. `ROADSTEAD_SEED=N cargo test -p roadstead-bgp --test simulation` tells that one alone, and with
//! `ROADSTEAD_TRACE=1` everything that happens in it. A seed is good until a story is told otherwise, so what was found by one becomes a
//! story of its own in `tests/sans_io`.

#![allow(clippy::unwrap_used, reason = "a test says with a panic what it did not expect, in its helpers too")]
#![allow(clippy::print_stderr, reason = "the seed of a failure has to be seen")]

mod model;
mod network;
mod random;
mod sayings;
mod shape;
mod story;
mod ways;

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use roadstead_bgp::Event;

use crate::network::Network;
use crate::shape::Shape;
use crate::story::Story;

/// Stories of two speakers, of a few, of dozens, and of two hundred: 10,000 in all.
const TWO: Range<u64> = 0..6_000;
const FEW: Range<u64> = 6_000..9_800;
const DOZENS: Range<u64> = 9_800..9_985;
const MANY: Range<u64> = 9_985..10_000;
/// And of speakers some of which pass on what others tell.
const RELAYS: Range<u64> = 10_000..12_000;

/// Which of two tests has a seed, so that both cores have something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Even,
    Odd,
}

/// Tells one half of the stories of these seeds: every tenth; with `ROADSTEAD_STORIES=all` every one; with `ROADSTEAD_SEED` that one, if
/// it is among them.
fn tell(seeds: &Range<u64>, half: Half) {
    if let Ok(seed) = std::env::var("ROADSTEAD_SEED") {
        let seed: u64 = seed.parse().unwrap();
        if seeds.contains(&seed) && (seed - seeds.start) % 2 == half as u64 {
            tell_one(seed);
        }
        return;
    }
    let all = std::env::var("ROADSTEAD_STORIES").is_ok_and(|stories| stories == "all");
    for seed in seeds.clone().skip(half as usize).step_by(if all { 2 } else { 20 }) {
        tell_one(seed);
    }
}

fn tell_one(seed: u64) {
    let _named = Named(seed);
    let (shape, hosts, steps) = size(seed);
    Story::begin(seed, shape, hosts).tell(steps);
}

/// What kind of network a story has, of how many speakers, and how long it is.
fn size(seed: u64) -> (Shape, usize, u64) {
    let vary = |from: u64, to: u64| from + seed % (to - from + 1);
    match seed {
        seed if TWO.contains(&seed) => (Shape::Plain, 2, vary(10, 40)),
        seed if FEW.contains(&seed) => (Shape::Plain, vary(3, 5) as usize, vary(10, 40)),
        seed if DOZENS.contains(&seed) => (Shape::Plain, vary(10, 40) as usize, vary(30, 60)),
        seed if RELAYS.contains(&seed) => {
            let shape = [Shape::RouteServer, Shape::Reflector, Shape::Reflectors][(seed / 7 % 3) as usize];
            let hosts = if seed.is_multiple_of(100) { 40 } else { vary(4, 7) as usize };
            (shape, hosts, vary(20, 50))
        }
        _ => (Shape::Plain, 200, 60),
    }
}

/// Says the seed if a story fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the story of seed {} went wrong; tell it again with ROADSTEAD_SEED={}", self.0, self.0);
        }
    }
}

#[test]
fn two_speakers() {
    tell(&TWO, Half::Even);
}

#[test]
fn two_speakers_too() {
    tell(&TWO, Half::Odd);
}

#[test]
fn a_few_speakers() {
    tell(&FEW, Half::Even);
}

#[test]
fn a_few_speakers_too() {
    tell(&FEW, Half::Odd);
}

#[test]
fn dozens_of_speakers() {
    tell(&DOZENS, Half::Even);
}

#[test]
fn dozens_of_speakers_too() {
    tell(&DOZENS, Half::Odd);
}

#[test]
fn two_hundred_speakers() {
    tell(&MANY, Half::Even);
}

#[test]
fn two_hundred_speakers_too() {
    tell(&MANY, Half::Odd);
}

#[test]
fn route_servers_and_reflectors() {
    tell(&RELAYS, Half::Even);
}

#[test]
fn route_servers_and_reflectors_too() {
    tell(&RELAYS, Half::Odd);
}

/// RFC 4271 section 6.8 leaves a race: one end may be Established on the connection that the other, still in OpenConfirm, gives up
/// for the second. So a session may be lost in the first moments, but not for ever, and the next attempt is soon.
#[test]
fn both_dialling_at_once_end_with_one_session() {
    let mut again = 0;
    for seed in TWO.take(1000) {
        let _named = Named(seed);
        let mut story = Story::begin(seed, Shape::Plain, 2);
        let time = Duration::from_secs(60);
        story.network.run(time);
        for status in (0..2).flat_map(|host| story.network.speaker(host).unwrap().status(story.network.now)) {
            assert!(status.uptime.is_some_and(|uptime| uptime > time - Duration::from_secs(5)), "{status:?}");
            assert!(status.flaps <= 5, "{status:?}");
        }
        again += u32::from(story.network.dials > 2);
    }
    assert!(again <= 150, "{again} of a thousand pairs had to dial again");
}

/// A network in which nothing happens would agree too.
#[test]
fn the_stories_have_all_that_can_go_wrong_in_them() {
    let mut reasons = String::new();
    for seed in TWO.take(400) {
        let _named = Named(seed);
        let mut story = Story::begin(seed, Shape::Plain, 2);
        story.live(40);
        let downs = story.network.events.into_iter().filter_map(|(_, event)| match event {
            Event::SessionDown { reason, .. } => Some(reason + "\n"),
            _ => None,
        });
        reasons.extend(downs);
    }
    for expected in [
        "connection reset",
        "connection refused",
        "no answer",
        "hold timer expired",
        "peer closed the connection without a NOTIFICATION",
        "Connection Collision Resolution",
        "the peer has restarted",
        "shut down to restart: the peer keeps our routes",
        "Hard Reset",
        "Other Configuration Change",
        "configuration changed",
        "Peer De-configured",
        "Administrative Shutdown",
        "peer refused our OPEN: bad peer AS",
        "peer rejected the connection",
    ] {
        assert!(
            reasons.contains(expected),
            "no story has {expected:?} in it: {:?}",
            reasons.lines().collect::<BTreeSet<_>>()
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut story = Story::begin(seed, Shape::Plain, 3);
        let start = story.network.now;
        story.network.run(Duration::from_secs(100));
        let network: &Network = &story.network;
        let statuses = (0..3).flat_map(|host| network.speaker(host).unwrap().status(network.now));
        let seen = statuses.map(|status| (status.state, status.since - start, status.messages_in, status.messages_out));
        (seen.collect::<Vec<_>>(), network.dials)
    };
    for seed in [1, 2, 3] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1), run(4));
}
