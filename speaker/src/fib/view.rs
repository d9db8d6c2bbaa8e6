//! This machine, as far as learned routes depend on it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::kernel::Link;
use super::plan::{Foreign, Plan};
use super::settings;
use super::status::Connected;

#[derive(Default)]
pub(super) struct View {
    pub(super) links: BTreeMap<u32, Link>,
    pub(super) connected: BTreeSet<Connected>,
    /// What the settings were found to be, for which interfaces of IPv4 and IPv6.
    judged: Option<(BTreeSet<u32>, BTreeSet<u32>, BTreeSet<String>)>,
}

impl View {
    /// The networks that are connected, from the main table.
    pub(super) fn connect(&mut self, routes: &BTreeMap<IpNet, Foreign>) {
        let connected = routes.iter().filter(|(_, route)| route.is_connected).filter_map(|(network, route)| {
            let interface = self.links.get(&route.link?)?.name.clone();
            Some(Connected { network: *network, interface })
        });
        self.connected = connected.collect();
    }

    pub(super) fn forget_settings(&mut self) {
        self.judged = None;
    }

    /// Of the interfaces that routes lead out of.
    pub(super) fn problems(&mut self, plan: &Plan) -> BTreeSet<String> {
        let (ipv4, ipv6): (BTreeSet<u32>, BTreeSet<u32>) = (plan.links(false).collect(), plan.links(true).collect());
        match &self.judged {
            Some((of_ipv4, of_ipv6, problems)) if (of_ipv4, of_ipv6) == (&ipv4, &ipv6) => problems.clone(),
            _ => {
                let names = |links: &BTreeSet<u32>| -> BTreeSet<&str> {
                    links.iter().filter_map(|link| self.links.get(link)).map(|link| link.name.as_str()).collect()
                };
                let problems = settings::problems(&names(&ipv4), &names(&ipv6));
                self.judged = Some((ipv4, ipv6, problems.clone()));
                problems
            }
        }
    }
}
