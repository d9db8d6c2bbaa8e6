//! Notices as Events of `events.k8s.io/v1`, which `kubectl describe` shows under their object.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::time::timeout;
use tracing::warn;

use super::WRITE_TIMEOUT;
use super::connect::one_line;
use crate::store::{Notice, Severity};

/// The API server refuses longer notes.
const LONGEST_NOTE: usize = 1024;

/// Writes Events; repetitions within some minutes are counted in the first.
#[derive(Clone)]
pub(super) struct Notices {
    recorder: Recorder,
}

impl Notices {
    pub(super) fn new(client: Client, component: &str) -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let instance = hostname.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        Self {
            recorder: Recorder::new(client, Reporter { controller: format!("roadstead.dev/{component}"), instance }),
        }
    }

    /// Best effort: what cannot be written is logged.
    pub(super) async fn write(&self, notice: &Notice) {
        let event = Event {
            type_: match notice.severity {
                Severity::Normal => EventType::Normal,
                Severity::Warning => EventType::Warning,
            },
            reason: notice.reason.to_owned(),
            note: Some(trimmed(&notice.message).to_owned()),
            action: notice.reason.to_owned(),
            secondary: None,
        };
        let outcome = timeout(WRITE_TIMEOUT, self.recorder.publish(&event, &reference(notice))).await;
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => one_line(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        warn!(object = %notice.object, reason = notice.reason, message = notice.message, error, "event not written");
    }
}

fn reference(notice: &Notice) -> ObjectReference {
    let object = &notice.object;
    ObjectReference {
        api_version: Some(api_version(object.kind).to_owned()),
        kind: Some(object.kind.to_owned()),
        name: Some(object.name.clone()),
        namespace: object.namespace.clone(),
        uid: Some(notice.uid.clone()),
        ..Default::default()
    }
}

/// The group and version of a kind that notices can be about.
fn api_version(kind: &str) -> &'static str {
    match kind {
        "Service" | "Node" | "Namespace" | "Secret" => "v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        _ => "roadstead.dev/v1alpha1",
    }
}

/// At most [`LONGEST_NOTE`] bytes of the message, cut between characters.
fn trimmed(message: &str) -> &str {
    &message[..message.floor_char_boundary(LONGEST_NOTE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_are_cut_between_characters() {
        assert_eq!(trimmed("short"), "short");
        assert_eq!(trimmed(&"x".repeat(2000)).len(), LONGEST_NOTE);
        let wide = format!("x{}", "ß".repeat(600));
        assert_eq!(trimmed(&wide).len(), LONGEST_NOTE - 1);
    }
}
