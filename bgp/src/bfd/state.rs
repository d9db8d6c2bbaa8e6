//! The state machine of a session (RFC 5880 sections 6.2 and 6.8.6), as a table.
//!
//! [`react`] is total: every event has its cell in every state. A cell says where the session goes and which diagnostic tells
//! why; what follows from a change of state (timers, packets, news for whoever relies on the session) is the session's.

use super::packet::{Diagnostic, State};

/// What can happen to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A packet that says that the remote side is in this state.
    Received(State),
    /// No packet for a detection time.
    DetectionTimeExpired,
    /// Section 6.8.16: the session is not wanted any more.
    Disabled,
    /// Section 6.8.16: it is wanted (again).
    Enabled,
}

/// What is to be done about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    Stay,
    /// Section 6.8.6: the packet counts as not received.
    Discard,
    /// Another state. The diagnostic stays as it is where there is none.
    Enter(State, Option<Diagnostic>),
}

pub(crate) const fn react(state: State, event: Event) -> Reaction {
    use Event as E;
    use Reaction as R;
    const EXPIRED: Option<Diagnostic> = Some(Diagnostic::DETECTION_TIME_EXPIRED);
    const SIGNALED: Option<Diagnostic> = Some(Diagnostic::NEIGHBOR_SIGNALED_DOWN);
    match (state, event) {
        (State::AdminDown, E::Received(_)) => R::Discard,
        (State::AdminDown, E::Enabled) => R::Enter(State::Down, Some(Diagnostic::NONE)),
        (State::AdminDown, E::DetectionTimeExpired | E::Disabled) => R::Stay,

        (State::Down | State::Init | State::Up, E::Disabled) => {
            R::Enter(State::AdminDown, Some(Diagnostic::ADMINISTRATIVELY_DOWN))
        }
        (State::Down | State::Init | State::Up, E::Enabled) => R::Stay,

        (State::Down, E::Received(State::Down)) => R::Enter(State::Init, None),
        (State::Down, E::Received(State::Init)) => R::Enter(State::Up, None),
        // Up: the remote side has not noticed yet that we went down; the next that it hears of us tells it.
        (State::Down, E::Received(State::AdminDown | State::Up) | E::DetectionTimeExpired) => R::Stay,

        (State::Init, E::Received(State::AdminDown)) => R::Enter(State::Down, SIGNALED),
        (State::Init, E::Received(State::Down)) => R::Stay,
        (State::Init, E::Received(State::Init | State::Up)) => R::Enter(State::Up, None),
        (State::Init, E::DetectionTimeExpired) => R::Enter(State::Down, EXPIRED),

        (State::Up, E::Received(State::AdminDown | State::Down)) => R::Enter(State::Down, SIGNALED),
        (State::Up, E::Received(State::Init | State::Up)) => R::Stay,
        (State::Up, E::DetectionTimeExpired) => R::Enter(State::Down, EXPIRED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 4] = [State::AdminDown, State::Down, State::Init, State::Up];

    /// The whole table, in a form that can be compared with the RFC: one row per event, columns AdminDown, Down, Init, Up.
    /// `-` stay, `X` discard, else the state and the diagnostic's number.
    const TABLE: &[(Event, [&str; 4])] = &[
        (Event::Received(State::AdminDown), ["X", "-", "Down 3", "Down 3"]),
        (Event::Received(State::Down), ["X", "Init", "-", "Down 3"]),
        (Event::Received(State::Init), ["X", "Up", "Up", "-"]),
        (Event::Received(State::Up), ["X", "-", "Up", "-"]),
        (Event::DetectionTimeExpired, ["-", "-", "Down 1", "Down 1"]),
        (Event::Disabled, ["-", "AdminDown 7", "AdminDown 7", "AdminDown 7"]),
        (Event::Enabled, ["Down 0", "-", "-", "-"]),
    ];

    #[test]
    fn every_event_has_its_reaction_in_every_state() {
        for (event, cells) in TABLE {
            for (state, expected) in STATES.into_iter().zip(cells) {
                let reaction = match react(state, *event) {
                    Reaction::Stay => "-".to_owned(),
                    Reaction::Discard => "X".to_owned(),
                    Reaction::Enter(next, None) => next.name().to_owned(),
                    Reaction::Enter(next, Some(diagnostic)) => format!("{} {}", next.name(), diagnostic.0),
                };
                assert_eq!(reaction, *expected, "{event:?} in {state:?}");
            }
        }
    }

    /// Two machines that hear each other come up from every pair of states but where one is held down.
    #[test]
    fn two_of_them_come_up_whatever_they_start_from() {
        let step = |state: State, event: Event| match react(state, event) {
            Reaction::Enter(next, _) => next,
            Reaction::Stay | Reaction::Discard => state,
        };
        for start in STATES.into_iter().flat_map(|ours| STATES.map(|theirs| (ours, theirs))) {
            let (mut ours, mut theirs) = start;
            for _ in 0..6 {
                ours = step(ours, Event::Received(theirs));
                theirs = step(theirs, Event::Received(ours));
            }
            let held = start.0 == State::AdminDown || start.1 == State::AdminDown;
            assert_eq!((ours, theirs) == (State::Up, State::Up), !held, "{start:?} ends at {:?}", (ours, theirs));
        }
    }
}
