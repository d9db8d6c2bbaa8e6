//! The attributes of a route, as one advertisement configures them and as several merge.

use std::sync::Arc;

use roadstead_api::checked::RouteSettings;
use roadstead_bgp::{Community, LargeCommunity, RouteAttributes};

/// Attributes that can be merged.
#[derive(Clone, Debug)]
pub(super) struct Route(Arc<RouteAttributes>);

impl From<&RouteSettings> for Route {
    fn from(settings: &RouteSettings) -> Self {
        // Texts were checked when the object was read, so nothing is dropped here.
        let communities = settings.communities.iter().filter_map(|text| text.parse::<Community>().ok());
        let large_communities =
            settings.large_communities.iter().filter_map(|text| text.parse::<LargeCommunity>().ok());
        Self(Arc::new(RouteAttributes {
            communities: sorted(communities.collect()),
            large_communities: sorted(large_communities.collect()),
            local_preference: settings.local_preference,
            med: settings.med,
            prepend: settings.prepend,
        }))
    }
}

impl Route {
    /// The attributes of one route that several advertisements want: the most attractive of each, and all communities.
    pub(super) fn merge<'a>(mut routes: impl Iterator<Item = &'a Self>) -> Option<Self> {
        let mut merged = routes.next()?.clone();
        for Self(other) in routes {
            if *merged.0 == **other {
                continue;
            }
            let into = Arc::make_mut(&mut merged.0);
            into.communities = sorted([&into.communities[..], &other.communities].concat());
            into.large_communities = sorted([&into.large_communities[..], &other.large_communities].concat());
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
        self.0
    }
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values.dedup();
    values
}
