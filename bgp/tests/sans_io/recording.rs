//! What was recorded happens again.

use std::time::Duration;

use roadstead_bgp::record::{Entry, Outcome, ReadError, RecordedSpeaker, Recording, RecordingEnd, Replay, Step};
use roadstead_bgp::{Event, NextHopRoute, Output, PeerKey, Shutdown};

use crate::script::{self, start_of_time};

/// A speaker with one peer, from the dial to the shutdown, in `limit` octets.
fn story(limit: u64) -> Vec<u8> {
    let now = start_of_time();
    let mut speaker = RecordedSpeaker::recorded(7, now, limit);
    speaker.set_peer(now, script::key(), script::config()).unwrap();
    let Some(Output::Dial { connection, .. }) = speaker.poll_output() else { panic!("no dial") };
    speaker.handle_dialled(now + Duration::from_millis(3), connection, script::endpoints());
    while speaker.poll_output().is_some() {}
    for taken in [5, 1000] {
        let now = now + Duration::from_millis(4);
        let count = speaker.pending_write(now, connection).len().min(taken);
        speaker.handle_written(now, connection, count);
    }
    speaker.update_routes(now, &script::key(), vec![script::announce("192.0.2.0/24")]).unwrap();
    speaker.handle_next_hop_routes(now, &[NextHopRoute { prefix: "10.0.0.0/8".parse().unwrap(), metric: Some(1) }]);
    assert!(speaker.remove_peer(now, &PeerKey::from("nobody")).is_err());
    speaker.shutdown(now + Duration::from_secs(1), &Shutdown::Leave("done".into()));
    while speaker.poll_output().is_some() {}
    speaker.end_recording(RecordingEnd::Complete);
    speaker.handle_timeout(now + Duration::from_secs(2));
    let recorded = speaker.take_recorded();
    assert_eq!(speaker.recorded_octets(), 0);
    recorded
}

const ENOUGH: u64 = 1 << 20;

fn replayed(file: &[u8]) -> Vec<Result<Step, ReadError>> {
    let recording = Recording::read(file).unwrap();
    Replay::new(&recording, start_of_time()).collect()
}

#[test]
fn every_step_of_a_replay_is_as_recorded() {
    let steps = replayed(&story(ENOUGH));
    let steps: Vec<Step> = steps.into_iter().collect::<Result<_, _>>().unwrap();
    assert!(steps.iter().all(|step| step.agrees), "{steps:#?}");
    assert_eq!(steps.last().map(|step| &step.entry), Some(&Entry::End(RecordingEnd::Complete)));
    let shown: Vec<usize> = steps
        .iter()
        .filter_map(|step| match &step.outcome {
            Outcome::Pending(octets) => Some(octets.len()),
            _ => None,
        })
        .collect();
    assert_eq!(shown[0] - 5, shown[1], "what the socket did not take is shown again: {shown:?}");
    assert_eq!(steps[2].at, Duration::from_millis(3));
}

#[test]
fn another_seed_or_another_input_is_noticed() {
    let file = story(ENOUGH);
    let text = String::from_utf8_lossy(&file).into_owned();
    assert!(text.contains("\"seed\":7") && text.contains("\"hold_time\":{\"secs\":90"));
    let position = file.windows(9).position(|window| window == b"\"secs\":90").unwrap();
    let mut other = file;
    other[position + 7] = b'6';
    let steps = replayed(&other);
    assert!(steps.iter().flatten().any(|step| !step.agrees), "another hold time in our OPEN goes unnoticed");
}

#[test]
fn a_recording_ends_at_its_limit() {
    let whole = story(ENOUGH).len() as u64;
    for limit in [1, 100, 700, whole / 2, whole - 3] {
        let file = story(limit);
        // The header is always there, and the end.
        assert!(file.len() as u64 <= limit.max(62) + 2, "{} octets with a limit of {limit}", file.len());
        let steps = replayed(&file);
        assert_eq!(
            steps.last().and_then(|step| step.as_ref().ok()).map(|step| &step.entry),
            Some(&Entry::End(RecordingEnd::LimitReached)),
            "limit {limit}"
        );
        assert!(steps.iter().flatten().all(|step| step.agrees), "limit {limit}");
    }
}

#[test]
fn a_recording_that_breaks_off_or_is_damaged_is_read_as_far_as_it_goes() {
    let file = story(ENOUGH);
    let steps = replayed(&file).len();
    let header = file.iter().enumerate().filter(|(_, octet)| **octet == b'\n').nth(1).map(|(at, _)| at + 1).unwrap();
    for end in header..file.len() {
        let read = replayed(&file[..end]);
        let (last, before) = read.split_last().map_or((None, &[][..]), |(last, before)| (Some(last), before));
        assert!(before.iter().all(Result::is_ok) && read.len() <= steps, "cut at {end}");
        assert!(matches!(last, None | Some(Ok(_) | Err(ReadError::BreaksOff { .. }))), "cut at {end}: {last:?}");
    }
    for position in header..file.len() {
        let mut damaged = file.clone();
        damaged[position] ^= 0x55;
        // Anything but a panic.
        let read = replayed(&damaged);
        assert!(read.iter().rev().skip(1).all(Result::is_ok), "damaged at {position}");
    }
    assert_eq!(Recording::read(b"something else").err(), Some(ReadError::NotARecording));
    let later = b"roadstead-recording\n{\"format\":2,\"engine\":\"9.0.0\",\"seed\":1}\n";
    assert_eq!(Recording::read(later).err(), Some(ReadError::Format { given: 2 }));
}

/// What an operator would tell of a recording.
fn decisions(file: &[u8]) -> Vec<String> {
    let recording = Recording::read(file).unwrap();
    let mut replay = Replay::new(&recording, start_of_time());
    let mut decisions = Vec::new();
    while let Some(step) = replay.next() {
        if let Outcome::Output(Some(Output::Event(event))) = step.unwrap().outcome {
            decisions.push(match event {
                Event::SessionUp { peer } => format!("{peer} up"),
                Event::SessionDown { reason, .. } => reason,
                Event::RoutesChanged => replay.speaker().learned().keys().map(|prefix| format!("{prefix} ")).collect(),
                Event::MaxPrefixesNear { accepted, limit, .. } => format!("{accepted} of {limit} prefixes"),
                Event::Missed { .. } | Event::BfdChanged { .. } => panic!("that is said by the driver"),
            });
        }
    }
    decisions
}

/// Recorded by `e2e/tests/recording.rs`, which says how to make another. Later engines may say other octets (a capability more in
/// the OPEN, say), but what the router says must mean the same to them.
#[test]
fn a_session_with_frr_8_4_goes_as_it_went() {
    let file = include_bytes!("../fixtures/frr-8.4.recording");
    assert_eq!(
        decisions(file),
        [
            "router up",
            "198.51.100.0/24 198.51.100.128/25 ",
            "198.51.100.0/24 ",
            "router (10.99.0.1): peer closed the session: Administrative Shutdown (6/2): \"maintenance\"",
            "",
            "router up",
            "198.51.100.0/24 ",
            "router (10.99.0.1): shut down: the speaker of node node-1 stops",
            "",
        ]
    );
}
