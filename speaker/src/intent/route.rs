//! The attributes of a route, as one advertisement configures them and as several merge.

use std::sync::Arc;

use roadstead_api::checked::{Bandwidth, RouteSettings};
use roadstead_api::kinds;
use roadstead_bgp::{Community, ExtendedCommunity, LargeCommunity, LinkBandwidth, RouteAttributes, Transitivity};

/// Attributes that can be merged.
#[derive(Clone, Debug)]
pub(super) struct Route {
    attributes: Arc<RouteAttributes>,
    /// The link bandwidth in them is that of one endpoint.
    per_endpoint: bool,
}

/// What one endpoint counts for.
const BITS_PER_ENDPOINT: u64 = 1_000_000_000;

impl From<&RouteSettings> for Route {
    fn from(settings: &RouteSettings) -> Self {
        // Texts were checked when the object was read, so nothing is dropped here.
        let communities = settings.communities.iter().filter_map(|text| text.parse::<Community>().ok());
        let large_communities =
            settings.large_communities.iter().filter_map(|text| text.parse::<LargeCommunity>().ok());
        let extended_communities =
            settings.extended_communities.iter().filter_map(|text| text.parse::<ExtendedCommunity>().ok());
        let link_bandwidth = settings.link_bandwidth.map(|link| LinkBandwidth {
            bits_per_second: match link.bandwidth {
                Bandwidth::PerEndpoint => BITS_PER_ENDPOINT,
                Bandwidth::Fixed(bits_per_second) => bits_per_second,
            },
            transitivity: match link.transitivity {
                kinds::Transitivity::Transitive => Transitivity::Transitive,
                kinds::Transitivity::NonTransitive => Transitivity::NonTransitive,
            },
        });
        Self {
            per_endpoint: settings.link_bandwidth.is_some_and(|link| link.bandwidth == Bandwidth::PerEndpoint),
            attributes: Arc::new(RouteAttributes {
                communities: sorted(communities.collect()),
                large_communities: sorted(large_communities.collect()),
                extended_communities: sorted(extended_communities.collect()),
                link_bandwidth,
                local_preference: settings.local_preference,
                med: settings.med,
                prepend: settings.prepend,
                ..RouteAttributes::default()
            }),
        }
    }
}

impl Route {
    /// The route to a prefix with so many endpoints behind it.
    pub(super) fn with_endpoints(&self, endpoints: u32) -> Self {
        let mut route = self.clone();
        if self.per_endpoint {
            let bandwidth = &mut Arc::make_mut(&mut route.attributes).link_bandwidth;
            *bandwidth =
                bandwidth.map(|one| LinkBandwidth { bits_per_second: BITS_PER_ENDPOINT * u64::from(endpoints), ..one });
        }
        route
    }

    /// The attributes of one route that several advertisements want: the most attractive of each, and all communities.
    pub(super) fn merge(mut routes: impl Iterator<Item = Self>) -> Option<Self> {
        let mut merged = routes.next()?;
        for Self { attributes: other, .. } in routes {
            if *merged.attributes == *other {
                continue;
            }
            let into = Arc::make_mut(&mut merged.attributes);
            into.communities = sorted([&into.communities[..], &other.communities].concat());
            into.large_communities = sorted([&into.large_communities[..], &other.large_communities].concat());
            into.extended_communities = sorted([&into.extended_communities[..], &other.extended_communities].concat());
            into.link_bandwidth = into.link_bandwidth.max(other.link_bandwidth);
            into.local_preference = into.local_preference.max(other.local_preference);
            into.med = match (into.med, other.med) {
                (Some(a), Some(b)) => Some(a.min(b)),
                // Without MED a route counts as the lowest (RFC 4271 section 9.1.2.2), so nothing beats none.
                _ => None,
            };
            into.prepend = into.prepend.min(other.prepend);
        }
        Some(merged)
    }

    pub(super) fn into_attributes(self) -> Arc<RouteAttributes> {
        self.attributes
    }
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values.dedup();
    values
}
