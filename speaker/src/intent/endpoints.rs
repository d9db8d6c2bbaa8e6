//! Which endpoints of a Service count, and whether this node may speak for it.
//!
//! An endpoint counts when it is ready (absent means true) and not terminating. Where none counts anywhere, those that still serve
//! while they terminate do, as in kube-proxy: during a rollout of a single replica packets still have a place to go.
//!
//! Each address family is judged for itself: kube-proxy sends what comes to an IPv6 address to IPv6 endpoints alone, and the slices of a
//! dual-stack Service are of one family each. The cluster makes a slice of each family of a Service, an empty one if need be; where
//! slices are written by hand and there is none of an address's family, those that there are speak for it.

use std::collections::BTreeMap;
use std::net::IpAddr;

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

/// The address family of a slice's endpoints (`discovery.k8s.io/v1`, `addressType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SliceFamily {
    /// `IPv4`.
    Ipv4,
    /// `IPv6`.
    Ipv6,
}

impl SliceFamily {
    /// The family that a slice names; `None` where it names neither, as `FQDN`.
    pub fn from_address_type(address_type: Option<&str>) -> Option<Self> {
        match address_type {
            Some("IPv4") => Some(Self::Ipv4),
            Some("IPv6") => Some(Self::Ipv6),
            _ => None,
        }
    }

    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

/// How many endpoints of one slice are in which state, here and anywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SliceEndpoints {
    family: Option<SliceFamily>,
    ready_here: u32,
    ready_anywhere: u32,
    draining_here: u32,
    draining_anywhere: u32,
}

impl SliceEndpoints {
    /// Counts endpoints, each with its node, as seen from one node.
    pub fn count<'a>(
        family: Option<SliceFamily>,
        endpoints: impl IntoIterator<Item = (Option<&'a str>, EndpointState)>,
        this_node: &str,
    ) -> Self {
        let mut counts = Self { family, ..Self::default() };
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

    /// How many endpoints count and where, for the addresses of each family.
    pub(super) fn summary(&self) -> Summary {
        Summary { ipv4: self.presence(SliceFamily::Ipv4), ipv6: self.presence(SliceFamily::Ipv6) }
    }

    fn presence(&self, family: SliceFamily) -> Presence {
        let has_own = self.0.values().any(|slice| slice.family == Some(family));
        let sum = |count: fn(&SliceEndpoints) -> u32| {
            let counting = self.0.values().filter(|slice| !has_own || slice.family == Some(family));
            counting.map(count).fold(0, u32::saturating_add)
        };
        match sum(|slice| slice.ready_anywhere) {
            0 => Presence { anywhere: sum(|slice| slice.draining_anywhere), here: sum(|slice| slice.draining_here) },
            anywhere => Presence { anywhere, here: sum(|slice| slice.ready_here) },
        }
    }
}

/// How many endpoints of a Service count and where, for the addresses of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    ipv4: Presence,
    ipv6: Presence,
}

impl Summary {
    pub(super) fn of(self, address: IpAddr) -> Presence {
        match SliceFamily::of(address) {
            SliceFamily::Ipv4 => self.ipv4,
            SliceFamily::Ipv6 => self.ipv6,
        }
    }
}

/// How many endpoints count, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Presence {
    pub(super) anywhere: u32,
    pub(super) here: u32,
}

impl Presence {
    /// How many endpoints packets go to that come to this node. The node may announce if there is one.
    pub(super) const fn reached(self, policy: TrafficPolicy) -> u32 {
        match policy {
            TrafficPolicy::Cluster => self.anywhere,
            TrafficPolicy::Local => self.here,
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
