//! The condition `Ready` of an object, before it is written.

use jiff::Timestamp;
use roadstead_api::checked::Invalid;
use roadstead_api::kinds::{Condition, ConditionStatus};

/// Whether an object does what it says, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// True, False, or nobody knows.
    pub status: ConditionStatus,
    /// The reason in CamelCase, for programs.
    pub reason: String,
    /// The reason in words.
    pub message: String,
    /// The `metadata.generation` that was judged.
    pub generation: Option<i64>,
}

/// A verdict, and since when its `status` has been what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What was found.
    pub verdict: Verdict,
    /// When `status` last changed.
    pub since: Timestamp,
}

/// The type of the condition that every object of ours has.
const READY: &str = "Ready";

impl Ready {
    /// The condition among those that an object has.
    pub fn find(conditions: &[Condition]) -> Option<Self> {
        Self::find_as(READY, conditions)
    }

    /// A condition of another type.
    pub fn find_as(kind: &str, conditions: &[Condition]) -> Option<Self> {
        let condition = conditions.iter().find(|condition| condition.type_ == kind)?;
        let verdict = Verdict {
            status: condition.status,
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            generation: condition.observed_generation,
        };
        Some(Self { verdict, since: condition.last_transition_time.parse().ok()? })
    }

    /// A new verdict; the time stays while the status does.
    pub fn next(previous: Option<&Self>, verdict: Verdict, now: Timestamp) -> Self {
        let since = previous.filter(|previous| previous.verdict.status == verdict.status);
        Self { verdict, since: since.map_or(now, |previous| previous.since) }
    }

    /// As the API writes it.
    pub fn condition(&self) -> Condition {
        self.condition_as(READY)
    }

    /// As a condition of another type.
    pub fn condition_as(&self, kind: &str) -> Condition {
        Condition {
            type_: kind.to_owned(),
            status: self.verdict.status,
            reason: self.verdict.reason.clone(),
            message: self.verdict.message.clone(),
            last_transition_time: seconds(self.since),
            observed_generation: self.verdict.generation,
        }
    }
}

/// All that is wrong with an object, in one line.
pub fn findings(found: &[Invalid]) -> String {
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    shorten(lines.join("; "), 4096)
}

/// `metav1.Time` has whole seconds.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// At most `limit` bytes of a text; what was cut is marked.
pub fn shorten(mut text: String, limit: usize) -> String {
    const MARK: &str = " …";
    if text.len() > limit {
        let end = text.floor_char_boundary(limit.saturating_sub(MARK.len()));
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}
