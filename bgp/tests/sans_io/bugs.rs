//! Forty-five bugs that BGP implementations have had, and the tests that say why this one has not.
//!
//! [`BUGS`] names for each bug the tests that would fail with it, wherever they are. A bug that no story elsewhere shows has
//! its test here, with its number in front.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use roadstead_bgp::{Community, Event, GracefulRestart, PeerConfig, PeerKey, RouteAttributes, RouteChange};
use rustbgpd_wire::{AsPathSegment, Capability, Message, PathAttribute};

use crate::routes::said;
use crate::script::{Script, announce, config, encode, key, peer_open, withdraw};
use crate::stage::Stage as _;

/// Each with the tests that show that it is not there: `file::test`, the file from the root of the repository.
const BUGS: [(&str, &[&str]); 45] = [
    (
        "no collision handling, or a wrong one",
        &["bgp/tests/simulation/main.rs::both_dialling_at_once_end_with_one_session"],
    ),
    (
        "Cease on the live connection, because the winner is dead already",
        &["bgp/tests/sans_io/sessions.rs::a_second_connection_survives_when_the_first_is_gone"],
    ),
    (
        "a new connection displaces an established one",
        &["bgp/tests/sans_io/sessions.rs::connections_that_are_not_wanted_are_refused"],
    ),
    (
        "equal router IDs in two autonomous systems are not resolved",
        &["bgp/tests/sans_io/sessions.rs::a_collision_is_won_by_the_higher_identifier_and_then_by_the_higher_asn"],
    ),
    (
        "hold time: the own value is used, 1 and 2 s are accepted, 0 is mishandled",
        &[
            "bgp/src/peer/open/tests.rs::hold_and_keepalive_are_the_lower_of_both",
            "bgp/tests/sans_io/sessions.rs::a_hold_time_of_zero_has_no_timers",
            "bgp/tests/sans_io/errors.rs::every_message_costs_what_the_rfcs_say",
        ],
    ),
    ("KEEPALIVEs starve while much is sent", &["bgp/tests/sans_io/bugs.rs::bug_06_keepalives_do_not_starve"]),
    (
        "the hold timer ends a session whose octets wait unread",
        &["bgp/tests/sans_io/bugs.rs::bug_07_what_waits_unread_counts_before_the_hold_timer"],
    ),
    (
        "a peer that takes nothing is never noticed",
        &["bgp/tests/sans_io/sessions.rs::a_peer_that_takes_no_data_is_ended_by_the_send_hold_timer"],
    ),
    (
        "the NOTIFICATION is lost behind what is unsent or unread",
        &[
            "bgp/src/driver/tests.rs::a_shutdown_reaches_a_peer_that_was_just_sent_a_large_table",
            "e2e/tests/routers.rs::sigterm_is_a_cease",
        ],
    ),
    (
        "one deadline for all writes, set at the handshake",
        &["bgp/tests/sans_io/sessions.rs::progress_of_any_size_holds_the_send_hold_timer_off"],
    ),
    (
        "a hot loop of connections after a refused OPEN",
        &["bgp/tests/sans_io/sessions.rs::refused_sessions_are_tried_ever_more_rarely"],
    ),
    (
        "four-octet AS numbers are cut, or compared with the two-octet field",
        &[
            "bgp/src/peer/open/tests.rs::an_open_is_judged_against_the_configuration",
            "bgp/src/update/encode/tests.rs::a_peer_with_two_octet_asns_gets_as_trans_and_as4_path",
        ],
    ),
    (
        "AS_PATH and AS4_PATH are merged by segments",
        &["bgp/src/update/decode/tests.rs::as4_path_is_merged_by_number_of_asns"],
    ),
    (
        "a segment of more than 255 AS numbers wraps its length",
        &["bgp/tests/sans_io/bugs.rs::bug_14_long_paths_have_more_than_one_segment"],
    ),
    (
        "passwords: not on accepted sockets, one for all, not updated",
        &[
            "bgp/src/driver/tests.rs::passwords_must_be_the_same",
            "bgp/src/driver/tests.rs::every_caller_has_its_own_password",
        ],
    ),
    (
        "a password or GTSM is silently not set",
        &[
            "e2e/tests/routers.rs::a_wrong_password_keeps_the_session_down",
            "bgp/src/driver/tests.rs::gtsm_lets_a_direct_peer_in_and_a_lower_ttl_out",
        ],
    ),
    (
        "End-of-RIB: not without graceful restart, before all routes, or never for an empty table",
        &[
            "bgp/tests/sans_io/routes.rs::the_first_dump_ends_with_end_of_rib_once_everything_was_said",
            "bgp/tests/sans_io/routes.rs::an_empty_table_has_an_end_too",
        ],
    ),
    (
        "R stays set, or is never set; F on a mere flap",
        &[
            "bgp/tests/sans_io/restart.rs::the_first_opens_say_that_we_have_restarted",
            "bgp/src/peer/open/tests.rs::graceful_restart_is_offered_and_agreed_on",
        ],
    ),
    (
        "after a restart all wait for a peer that never comes",
        &["bgp/tests/sans_io/bugs.rs::bug_19_a_peer_that_is_absent_holds_nobody_up"],
    ),
    (
        "a peer that restarted gets nothing, because it was told before",
        &["bgp/tests/sans_io/bugs.rs::bug_20_a_peer_that_restarted_is_told_everything"],
    ),
    (
        "restart times of 0, or of more than 12 bits",
        &["bgp/src/config.rs::a_configuration_that_cannot_work_is_refused_in_words"],
    ),
    (
        "a restart is missed because the peer connects first",
        &["bgp/tests/sans_io/restart.rs::another_connection_is_the_peers_restart_where_that_is_agreed"],
    ),
    (
        "a refresh keeps what is filtered now, brings one family of two, or loses what is pending",
        &[
            "bgp/tests/sans_io/routes.rs::a_refresh_brings_one_family_again_and_loses_no_withdrawal",
            "bgp/tests/sans_io/routes.rs::a_changed_import_policy_applies_at_once_and_asks_again",
            "bgp/tests/sans_io/refresh.rs::whoever_asks_again_and_again_gets_one_answer_after_the_other",
        ],
    ),
    (
        "coalescing swaps announcement and withdrawal",
        &[
            "bgp/tests/sans_io/routes.rs::a_prefix_that_flaps_before_a_full_socket_costs_one_entry_and_ends_in_its_last_state",
        ],
    ),
    (
        "what is not to be announced any more is not withdrawn in some family",
        &[
            "bgp/tests/sans_io/bugs.rs::bug_25_each_family_is_withdrawn",
            "bgp/tests/sans_io/routes.rs::next_hops_can_change_under_a_session",
        ],
    ),
    (
        "a change of the next hop alone is no change",
        &["bgp/tests/sans_io/routes.rs::next_hops_can_change_under_a_session"],
    ),
    (
        "messages are packed beyond their limit",
        &[
            "bgp/src/update/encode/tests.rs::messages_are_filled_and_never_overfilled",
            "bgp/tests/sans_io/routes.rs::routes_whose_attributes_do_not_fit_are_left_out_and_shown",
        ],
    ),
    (
        "the Extended Length flag is missing, or wrong, from 256 octets on",
        &["bgp/tests/sans_io/bugs.rs::bug_28_attributes_around_256_octets_are_read_as_they_were_meant"],
    ),
    (
        "attributes are sent with other flags than theirs",
        &[
            "bgp/src/update/encode/tests.rs::golden_bytes",
            "bgp/src/update/encode/tests.rs::a_second_decoder_sees_what_was_meant",
        ],
    ),
    (
        "the Partial bit is lost; unknown transitive attributes are dropped",
        &["bgp/tests/sans_io/relay.rs::a_route_server_is_not_in_the_path"],
    ),
    (
        "LOCAL_PREF is sent to external peers, or taken from them",
        &[
            "bgp/tests/sans_io/routes.rs::an_internal_peer_gets_local_preference_and_an_empty_path",
            "bgp/tests/sans_io/errors.rs::every_message_costs_what_the_rfcs_say",
        ],
    ),
    (
        "NO_EXPORT or NO_ADVERTISE is obeyed in one family only",
        &["bgp/src/rib/tests.rs::every_receiver_ends_with_what_a_naive_choice_says"],
    ),
    (
        "CLUSTER_LIST is a set, the originator is rewritten, a route comes back",
        &[
            "bgp/tests/sans_io/relay.rs::a_reflector_passes_routes_between_clients_and_the_others",
            "bgp/src/policy.rs::a_reflected_route_does_not_come_round",
        ],
    ),
    (
        "IPv6 next hops: `::`, link-local ones of another link, pairs where one is meant",
        &[
            "bgp/src/next_hop.rs::the_table_row_by_row",
            "bgp/src/next_hop.rs::every_encoding_of_a_link_local_next_hop_is_understood",
        ],
    ),
    (
        "link-local peers are told apart by address alone",
        &[
            "bgp/tests/sans_io/unnumbered.rs::the_link_says_whose_a_connection_is",
            "e2e/tests/unnumbered.rs::two_routers_of_one_address",
        ],
    ),
    (
        "the maximum of prefixes counts refused or repeated ones, has no code, no timer, or underflows",
        &[
            "bgp/tests/sans_io/limits.rs::the_limit_counts_accepted_prefixes_only",
            "bgp/tests/sans_io/limits.rs::a_session_with_too_many_rests_for_its_time_and_comes_back",
        ],
    ),
    (
        "path identifier 0 is a wildcard, or identifiers change",
        &["bgp/tests/sans_io/relay.rs::several_paths_to_a_client_that_takes_them"],
    ),
    (
        "ghost routes: what a dead session left is applied after it",
        &[
            "bgp/tests/simulation/main.rs::a_few_speakers",
            "bgp/tests/sans_io/routes.rs::learned_routes_end_with_their_session",
        ],
    ),
    (
        "a peer is removed while something is on its way to it",
        &[
            "bgp/tests/sans_io/sessions.rs::what_comes_for_a_connection_that_is_gone_is_ignored",
            "bgp/tests/sans_io/hostile.rs::any_sequence_of_events_is_survived",
        ],
    ),
    (
        "peers that differ in one setting share what is sent",
        &[
            "bgp/tests/sans_io/relay.rs::a_client_without_four_octets_gets_as_trans_and_the_rest_beside_it",
            "bgp/tests/sans_io/relay.rs::a_route_that_does_not_fit_is_not_there_for_that_client",
            "bgp/tests/sans_io/relay.rs::several_paths_to_a_client_that_takes_them",
        ],
    ),
    (
        "an OPEN without parameters, or with an empty one, is refused",
        &["bgp/tests/sans_io/errors.rs::every_message_costs_what_the_rfcs_say"],
    ),
    (
        "unknown NOTIFICATION codes are shown as something else",
        &["bgp/tests/sans_io/sessions.rs::a_received_notification_is_not_answered_and_told_in_words"],
    ),
    (
        "marker and length are not checked, or messages in many pieces not put together",
        &[
            "bgp/tests/sans_io/sessions.rs::bytes_may_come_in_any_pieces",
            "bgp/src/peer/framing.rs::bad_headers_are_refused_at_once_and_short_ones_waited_for",
        ],
    ),
    (
        "the best path depends on the order in which paths came",
        &["bgp/src/rib/tests.rs::every_receiver_ends_with_what_a_naive_choice_says"],
    ),
    (
        "kernel routes: foreign ones deleted, stale ones left",
        &[
            "speaker/tests/fib/routes.rs::networks_and_routes_of_others_win",
            "speaker/tests/fib/routes.rs::an_earlier_run_is_continued",
            "speaker/tests/fib/routes.rs::a_clean_end_leaves_nothing_of_ours",
        ],
    ),
];

#[test]
fn every_bug_has_a_test_that_exists() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut named = BTreeSet::new();
    for (index, (bug, tests)) in BUGS.iter().enumerate() {
        assert!(!tests.is_empty(), "{bug} has no test");
        for test in *tests {
            let (file, name) = test.split_once("::").unwrap();
            let text = fs::read_to_string(root.join(file)).unwrap_or_default();
            assert!(text.contains(&format!("fn {name}(")), "{bug}: there is no {test}");
            if file.ends_with("bugs.rs") {
                assert!(
                    name.starts_with(&format!("bug_{:02}_", index + 1)),
                    "{test} is not named after row {}",
                    index + 1
                );
                named.insert(name.to_owned());
            }
        }
    }
    let here = include_str!("bugs.rs").lines().filter_map(|line| line.strip_prefix("fn bug_"));
    let here: BTreeSet<String> = here.filter_map(|rest| Some(format!("bug_{}", rest.split_once('(')?.0))).collect();
    assert_eq!(here, named, "every test here is a bug's");
}

fn many(count: usize) -> Vec<RouteChange> {
    (0..count).map(|n| announce(&format!("{}.{}.{}.0/24", 11 + n / 65536, n / 256 % 256, n % 256))).collect()
}

#[test]
fn bug_06_keepalives_do_not_starve() {
    let mut script = Script::established(PeerConfig { hold_time: Duration::from_secs(9), ..config() });
    script.read();
    script.reading = false;
    script.update_routes(many(60_000));
    script.advance(Duration::from_secs(4));
    script.reading = true;
    script.drain();
    let messages = script.read();
    let keepalive = messages.iter().position(|message| matches!(message, Message::Keepalive));
    // Behind what was in the buffer when it was due, and that is a quarter of all.
    assert!(messages.len() > 60, "{}", messages.len());
    assert!(keepalive.is_some_and(|position| position < 20), "{keepalive:?} of {}", messages.len());
}

/// What a stopped process finds when it goes on: octets that came in time, and a timer that is long over. The driver hears
/// everybody before it lets time pass.
#[test]
fn bug_07_what_waits_unread_counts_before_the_hold_timer() {
    let mut script = Script::established(config());
    script.now += Duration::from_secs(200);
    script.send(&encode(&Message::Keepalive));
    script.advance(Duration::ZERO);
    assert!(script.is_established());
    // And without them it is over.
    script.now += Duration::from_secs(200);
    script.advance(Duration::ZERO);
    assert!(script.events.iter().any(|event| matches!(event, Event::SessionDown { .. })));
}

#[test]
fn bug_14_long_paths_have_more_than_one_segment() {
    let mut script = Script::established(config());
    for prepend in [253, 254, 255] {
        script.read();
        let attributes = RouteAttributes { prepend, ..RouteAttributes::default() };
        script.update_routes(vec![RouteChange::Announce("192.0.2.0/24".parse().unwrap(), Arc::new(attributes))]);
        let paths: Vec<AsPathSegment> = attributes_of(&script.read())
            .into_iter()
            .filter_map(|attribute| match attribute {
                PathAttribute::AsPath(path) => Some(path.segments),
                _ => None,
            })
            .flatten()
            .collect();
        let lengths: Vec<usize> = paths
            .iter()
            .map(|segment| match segment {
                AsPathSegment::AsSequence(asns) | AsPathSegment::AsSet(asns) => asns.len(),
            })
            .collect();
        assert_eq!(lengths.iter().sum::<usize>(), usize::from(prepend) + 1);
        assert!(lengths.iter().all(|length| (1..=255).contains(length)), "{lengths:?}");
    }
}

#[test]
fn bug_19_a_peer_that_is_absent_holds_nobody_up() {
    let restart = GracefulRestart::new(Duration::from_secs(120));
    let mut script = Script::connected(PeerConfig { graceful_restart: Some(restart.clone()), ..config() });
    let mut absent = PeerConfig { graceful_restart: Some(restart), ..config() };
    absent.transport.remote = "192.0.2.99:179".parse().unwrap();
    script.speaker.set_peer(script.now, PeerKey::from("zz-absent"), absent).unwrap();
    script.perform();
    script.update_routes(many(3));
    script.speaker.initial_set_complete(script.now, &key()).unwrap();
    script.establish_and_keep();
    let said = said(&script.read());
    assert_eq!(said.iter().filter(|word| word.starts_with('+')).count(), 3, "{said:?}");
    assert!(said.ends_with(&["end IPv4".to_owned(), "end IPv6".to_owned()]), "{said:?}");
}

#[test]
fn bug_20_a_peer_that_restarted_is_told_everything() {
    let restart = GracefulRestart::new(Duration::from_secs(120));
    let mut script = Script::connected(PeerConfig { graceful_restart: Some(restart), ..config() });
    let mut open = peer_open();
    open.capabilities.push(Capability::GracefulRestart {
        restart_state: true,
        notification: false,
        restart_time: 60,
        families: Vec::new(),
    });
    script.update_routes(many(3));
    script.establish(open.clone());
    script.lose();
    script.come_back(open);
    assert_eq!(script.status().prefixes_sent, 3);
    script.update_routes(vec![withdraw("11.0.0.0/24")]);
    assert_eq!(said(&script.read()), ["-11.0.0.0/24"]);
}

#[test]
fn bug_25_each_family_is_withdrawn() {
    let mut script = Script::established(config());
    for prefix in ["192.0.2.0/24", "2001:db8:1::/48"] {
        script.update_routes(vec![announce(prefix)]);
        assert_eq!(said(&script.read()), [format!("+{prefix}")]);
        script.update_routes(vec![withdraw(prefix)]);
        assert_eq!(said(&script.read()), [format!("-{prefix}")]);
    }
}

#[test]
fn bug_28_attributes_around_256_octets_are_read_as_they_were_meant() {
    let mut script = Script::established(config());
    script.read();
    // Communities have 4 octets each: 252, 256 and 260; the path has 2 and 4 for each number: 250, 254 and 258.
    for count in [63, 64, 65_u8] {
        let communities: Vec<Community> = (0..u32::from(count)).map(Community).collect();
        let attributes =
            RouteAttributes { communities: communities.clone(), prepend: count - 2, ..RouteAttributes::default() };
        script.update_routes(vec![RouteChange::Announce("192.0.2.0/24".parse().unwrap(), Arc::new(attributes))]);
        let told = attributes_of(&script.read());
        let expected = PathAttribute::Communities(communities.iter().map(|community| community.0).collect());
        assert!(told.contains(&expected), "{count} communities");
        let path = told.iter().find_map(|attribute| match attribute {
            PathAttribute::AsPath(path) => Some(path.asns().count()),
            _ => None,
        });
        assert_eq!(path, Some(usize::from(count) - 1));
    }
}

fn attributes_of(messages: &[Message]) -> Vec<PathAttribute> {
    let [Message::Update(update)] = messages else { panic!("one UPDATE, not {messages:?}") };
    update.parse(true, false, &[]).unwrap().attributes
}
