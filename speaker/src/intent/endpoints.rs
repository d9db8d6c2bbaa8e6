//! Which endpoints of a Service count, and whether this node may speak for it.
//!
//! An endpoint counts when it is ready (absent means true) and not terminating. Where none counts anywhere, those that still serve
//! while they terminate do, as in kube-proxy: during a rollout of a single replica packets still have a place to go.

use std::collections::BTreeMap;

use roadstead_api::checked::TrafficPolicy;

/// The state of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// Ready and not terminating.
    Ready,
    /// Terminating, but still serving.
    Draining,
    /// Neither.
    Down,
}

impl EndpointState {
    /// The state that an EndpointSlice's conditions describe; each may be absent (`discovery.k8s.io/v1`, EndpointConditions).
    pub fn from_conditions(ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>) -> Self {
        let (ready, terminating) = (ready.unwrap_or(true), terminating.unwrap_or(false));
        match (ready, terminating) {
            (true, false) => Self::Ready,
            (_, true) if serving.unwrap_or(ready) => Self::Draining,
            _ => Self::Down,
        }
    }
}

/// How many endpoints of one slice are in which state, here and anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SliceEndpoints {
    ready_here: u32,
    ready_anywhere: u32,
    draining_here: u32,
    draining_anywhere: u32,
}

impl SliceEndpoints {
    /// Counts endpoints, each with its node, as seen from one node.
    pub fn count<'a>(endpoints: impl IntoIterator<Item = (Option<&'a str>, EndpointState)>, this_node: &str) -> Self {
        let mut counts = Self::default();
        for (node, state) in endpoints {
            let here = u32::from(node == Some(this_node));
            match state {
                EndpointState::Ready => {
                    counts.ready_anywhere += 1;
                    counts.ready_here += here;
                }
                EndpointState::Draining => {
                    counts.draining_anywhere += 1;
                    counts.draining_here += here;
                }
                EndpointState::Down => {}
            }
        }
        counts
    }
}

/// The endpoints of one Service, over all its slices.
#[derive(Default)]
pub(super) struct ServiceEndpoints(BTreeMap<String, SliceEndpoints>);

impl ServiceEndpoints {
    pub(super) fn set(&mut self, slice: &str, endpoints: Option<SliceEndpoints>) {
        match endpoints {
            Some(endpoints) => self.0.insert(slice.to_owned(), endpoints),
            None => self.0.remove(slice),
        };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether endpoints count anywhere, and here.
    pub(super) fn summary(&self) -> (bool, bool) {
        let any = |count: fn(&SliceEndpoints) -> u32| self.0.values().any(|slice| count(slice) > 0);
        if any(|slice| slice.ready_anywhere) {
            (true, any(|slice| slice.ready_here))
        } else {
            (any(|slice| slice.draining_anywhere), any(|slice| slice.draining_here))
        }
    }

    pub(super) fn may_announce(&self, policy: TrafficPolicy) -> bool {
        let (anywhere, here) = self.summary();
        match policy {
            TrafficPolicy::Cluster => anywhere,
            TrafficPolicy::Local => here,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_conditions_mean_what_the_api_says() {
        let state = EndpointState::from_conditions;
        assert_eq!(state(None, None, None), EndpointState::Ready);
        assert_eq!(state(Some(true), None, Some(false)), EndpointState::Ready);
        assert_eq!(state(Some(false), None, None), EndpointState::Down);
        assert_eq!(state(Some(false), Some(true), None), EndpointState::Down);
        assert_eq!(state(Some(false), Some(true), Some(true)), EndpointState::Draining);
        assert_eq!(state(Some(false), Some(false), Some(true)), EndpointState::Down);
        // Before 1.22 there was no `serving`; a publishNotReadyAddresses Service has ready while terminating.
        assert_eq!(state(Some(true), None, Some(true)), EndpointState::Draining);
    }
}
