//! Whatever happened on the way: in the end there is one session per pair, and each side has learned exactly what the other
//! wants it to know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use roadstead_bgp::{Event, RouteAttributes, RouteChange};

use crate::network::{Network, Random, peer_config, peer_key};

/// Seeds of a run. The seed stands in every message, and a single one can be tried by hand by putting it here.
const SEEDS: std::ops::Range<u64> = 0..150;

/// What each speaker wants each other one to know: prefix and MED.
type Wanted = BTreeMap<(usize, usize), BTreeMap<IpNet, u32>>;

fn random_prefix(random: &mut Random) -> IpNet {
    let index = random.below(40);
    // Some lie inside others, so that they replace each other.
    let inside = random.below(4) == 0;
    let text = match (index.is_multiple_of(2), inside) {
        (true, false) => format!("10.{index}.0.0/16"),
        (true, true) => format!("10.{index}.1.0/24"),
        (false, false) => format!("2001:db8:{index:x}::/48"),
        (false, true) => format!("2001:db8:{index:x}:1::/64"),
    };
    text.parse().unwrap()
}

fn change_routes(network: &mut Network, wanted: &mut Wanted, from: usize, to: usize) {
    let count = 1 + network.random.below(20);
    let mut changes = Vec::new();
    let table = wanted.entry((from, to)).or_default();
    for _ in 0..count {
        let prefix = random_prefix(&mut network.random);
        if network.random.below(3) == 0 {
            table.remove(&prefix);
            changes.push(RouteChange::Withdraw(prefix));
        } else {
            let med = network.random.below(3) as u32;
            table.insert(prefix, med);
            let attributes = RouteAttributes { med: Some(med), ..RouteAttributes::default() };
            changes.push(RouteChange::Announce(prefix, Arc::new(attributes)));
        }
    }
    network.speakers[from].update_routes(network.now, &peer_key(to), changes).unwrap();
    network.perform(from);
}

/// What `at` has learned from `from`.
fn learned(network: &Network, at: usize, from: usize) -> BTreeMap<IpNet, u32> {
    let paths = network.speakers[at].learned();
    let of_peer = paths.into_iter().filter_map(|(prefix, paths)| {
        let path = paths.into_iter().find(|path| path.peer == peer_key(from))?;
        Some((prefix, path.med.unwrap_or_default()))
    });
    of_peer.collect()
}

fn check_agreement(network: &Network, wanted: &Wanted, speakers: usize, seed: u64) {
    for at in 0..speakers {
        for from in (0..speakers).filter(|from| *from != at) {
            let expected = wanted.get(&(from, at)).cloned().unwrap_or_default();
            assert_eq!(learned(network, at, from), expected, "seed {seed}: {at} about {from}");
        }
    }
    assert_eq!(network.established().len(), speakers * (speakers - 1), "seed {seed}");
}

/// No route without a session behind it, or a restart that has been agreed on.
fn no_ghosts(network: &Network) {
    for speaker in &network.speakers {
        for status in speaker.status(network.now) {
            assert!(
                status.uptime.is_some()
                    || (status.prefixes_accepted == status.prefixes_stale && status.prefixes_sent == 0),
                "routes without a session: {status:?}"
            );
        }
    }
}

fn tell_story(seed: u64, speakers: usize) {
    let mut network = Network::mesh(seed, speakers);
    let mut wanted = Wanted::new();
    for _ in 0..40 {
        let (from, to) = two(&mut network.random, speakers);
        match network.random.below(8) {
            0 => network.cut(),
            1 => {
                // For longer than the hold time, or shorter.
                network.silence(from, to);
                let time = Duration::from_millis(network.random.below(12_000));
                network.run(time, no_ghosts);
                network.end_silence();
            }
            2 => {
                // A session-relevant change, and back.
                let mut config = peer_config(seed, from, to);
                config.hold_time = Duration::from_secs(6 + 3 * network.random.below(3));
                network.speakers[from].set_peer(network.now, peer_key(to), config).unwrap();
                network.perform(from);
            }
            3 => {
                // Nothing is refused by it, but everything is asked for again.
                let mut config = peer_config(seed, from, to);
                let again = config.import.accept[0];
                config.import.accept.extend((0..network.random.below(3)).map(|_| again));
                network.speakers[from].set_peer(network.now, peer_key(to), config).unwrap();
                network.perform(from);
            }
            _ => change_routes(&mut network, &mut wanted, from, to),
        }
        let time = Duration::from_millis(network.random.below(3_000));
        network.run(time, no_ghosts);
    }
    // Long enough for the longest pause.
    network.run(Duration::from_secs(400), no_ghosts);
    check_agreement(&network, &wanted, speakers, seed);
}

fn two(random: &mut Random, speakers: usize) -> (usize, usize) {
    let from = random.below(speakers as u64) as usize;
    let other = random.below(speakers as u64 - 1) as usize;
    (from, if other >= from { other + 1 } else { other })
}

#[test]
fn two_speakers_agree_after_any_history() {
    for seed in SEEDS {
        tell_story(seed, 2);
    }
}

#[test]
fn four_speakers_agree_after_any_history() {
    for seed in SEEDS.start..SEEDS.start + 25 {
        tell_story(seed, 4);
    }
}

#[test]
fn both_dialling_at_once_end_with_one_session_that_nobody_lost() {
    for seed in SEEDS {
        let mut network = Network::mesh(seed, 2);
        network.run(Duration::from_secs(60), no_ghosts);
        assert_eq!(network.established().len(), 2, "seed {seed}");
        let ups = network.events.iter().filter(|(_, event)| matches!(event, Event::SessionUp { .. })).count();
        assert!(ups <= 4, "seed {seed}: {ups} times up: {:?}", network.events);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut network = Network::mesh(seed, 3);
        let mut wanted = Wanted::new();
        let start = network.now;
        for step in 0..10 {
            change_routes(&mut network, &mut wanted, step % 3, (step + 1) % 3);
            network.run(Duration::from_secs(2), no_ghosts);
            network.cut();
        }
        let status = |network: &Network, index: usize| {
            let all = network.speakers[index].status(network.now);
            all.into_iter()
                .map(|s| (s.state, s.since - start, s.messages_in, s.messages_out, s.flaps))
                .collect::<Vec<_>>()
        };
        (0..3).map(|index| status(&network, index)).collect::<Vec<_>>()
    };
    for seed in [1, 2, 3] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
