//! Which links lead anywhere, as far as clusters' names and numbers say.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Held, Holder, Holding, Territory};
use crate::checked::{Link, Network};

/// Who this cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its name among those that it is joined with.
    pub name: Option<String>,
    /// Its ASN in force.
    pub asn: Option<u32>,
}

impl Identity {
    /// What is declared, with the ASN that stands in the status where none is.
    pub fn new(network: Option<&Network>, derived: Option<u32>) -> Self {
        let name = network.and_then(|network| network.cluster_name.clone());
        Self { name, asn: network.and_then(|network| network.asn).or(derived) }
    }
}

/// Why a link as a whole is not in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkRefusal {
    /// The remote cluster is this one.
    #[error(
        "spec.remoteCluster: {0:?}: is the name of this cluster, as ClusterNetwork default says: a link leads to another"
    )]
    OwnName(String),
    /// The remote cluster has this one's number.
    #[error(
        "spec.remoteASN: {0} is the ASN of this cluster too: a session of one ASN is iBGP, on which nothing that is learnt is passed on; \
         give one of the two clusters another spec.asn in its ClusterNetwork default"
    )]
    OwnAsn(u32),
    /// The remote gateway is a node of ours.
    #[error("spec.endpoints: {address} is here, {holder}: a link leads to another cluster")]
    OwnAddress {
        /// The endpoint.
        address: IpAddr,
        /// Whose it is.
        holder: Box<Holder>,
    },
    /// Another link leads there.
    #[error(
        "leads to cluster {cluster} as ClusterLink {older} does, which is older: list all gateways in spec.endpoints of one link"
    )]
    SameCluster {
        /// The remote cluster.
        cluster: String,
        /// The other link.
        older: String,
    },
    /// Another link leads to a cluster of that number.
    #[error(
        "spec.remoteASN: {asn} is that of cluster {cluster} too, to which ClusterLink {older} leads, which is older: clusters that are \
         joined have an ASN each"
    )]
    SameAsn {
        /// The number.
        asn: u32,
        /// The other remote cluster.
        cluster: String,
        /// The other link.
        older: String,
    },
}

impl LinkRefusal {
    /// The reason in CamelCase, for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OwnName(_) | Self::OwnAddress { .. } => "LinkToOneself",
            Self::OwnAsn(_) => "OwnASN",
            Self::SameCluster { .. } => "SameCluster",
            Self::SameAsn { .. } => "SameASN",
        }
    }
}

/// What becomes of each link, by name: a function of the objects alone, so that the controller and every speaker come to the same
/// answer. Of two that exclude each other the older is in force, and what is not in force stands in nobody's way.
pub fn links_in_force<'a>(
    links: impl IntoIterator<Item = &'a Link>,
    this: &Identity,
    own: &Territory,
) -> BTreeMap<String, Result<(), LinkRefusal>> {
    let mut links: Vec<&Link> = links.into_iter().collect();
    links.sort_by_key(|link| (&link.created, &link.name));
    let mut in_force: Vec<&Link> = Vec::new();
    let mut verdicts = BTreeMap::new();
    for link in links {
        let verdict = judge(link, this, own, &in_force);
        if verdict.is_ok() {
            in_force.push(link);
        }
        verdicts.insert(link.name.clone(), verdict);
    }
    verdicts
}

fn judge(link: &Link, this: &Identity, own: &Territory, in_force: &[&Link]) -> Result<(), LinkRefusal> {
    if this.name.as_ref() == Some(&link.remote_cluster) {
        return Err(LinkRefusal::OwnName(link.remote_cluster.clone()));
    }
    if this.asn == Some(link.remote_asn) {
        return Err(LinkRefusal::OwnAsn(link.remote_asn));
    }
    for endpoint in &link.endpoints {
        let address = endpoint.ip();
        let host = IpNet::from(address);
        let is_node = |held: &Held<'_>| held.prefix == host && matches!(held.holder.holding, Holding::NodeAddress(_));
        if let Some(held) = own.covering(host).find(is_node) {
            return Err(LinkRefusal::OwnAddress { address, holder: Box::new(held.holder.clone()) });
        }
    }
    let (cluster, asn) = (link.remote_cluster.clone(), link.remote_asn);
    if let Some(older) = in_force.iter().find(|other| other.remote_cluster == cluster) {
        return Err(LinkRefusal::SameCluster { cluster, older: older.name.clone() });
    }
    if let Some(older) = in_force.iter().find(|other| other.remote_asn == asn) {
        let (cluster, older) = (older.remote_cluster.clone(), older.name.clone());
        return Err(LinkRefusal::SameAsn { asn, cluster, older });
    }
    Ok(())
}

/// A private ASN for a cluster that declares none: from the 4-byte range of RFC 6996, by the UID of its `kube-system` namespace, which
/// is random and stays. Two clusters have the same by accident once in a hundred million; a link between them says so.
pub fn derived_asn(uid: &str) -> Option<u32> {
    const FIRST: u32 = 4_200_000_000;
    const LAST: u32 = 4_294_967_294;
    let digits: String = uid.chars().filter(|character| *character != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok()?;
    let offset = u32::try_from(number % u128::from(LAST - FIRST + 1)).ok()?;
    Some(FIRST + offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::ClusterLink;

    fn link(name: &str, created: &str, cluster: &str, asn: u32, endpoint: &str) -> Link {
        let spec = format!(r#"{{"remoteCluster":"{cluster}","remoteASN":{asn},"endpoints":["{endpoint}"]}}"#);
        let mut raw = ClusterLink::new(name, serde_json::from_str(&spec).unwrap());
        raw.metadata.creation_timestamp = serde_json::from_str(&format!("\"2026-01-0{created}T00:00:00Z\"")).unwrap();
        Link::check(&raw).unwrap()
    }

    #[test]
    fn a_link_leads_to_another_cluster_and_alone() {
        let this = Identity { name: Some("north".to_owned()), asn: Some(64501) };
        let mut own = Territory::default();
        own.insert("10.80.1.5/32".parse().unwrap(), Holding::NodeAddress("w1".to_owned()).ours());
        own.insert("10.80.0.0/16".parse().unwrap(), Holding::Declared("spec.fabricCIDRs").ours());
        let links = [
            link("south", "2", "south", 64502, "10.80.2.1"),
            link("again", "3", "south", 64509, "10.80.2.2"),
            link("west", "4", "west", 64502, "10.80.3.1"),
            link("self", "1", "north", 64510, "10.80.4.1"),
            link("same", "1", "east", 64501, "10.80.5.1"),
            link("here", "1", "east", 64503, "10.80.1.5"),
            link("east", "5", "east", 64501 + 10, "10.80.6.1"),
        ];
        let told: Vec<String> = links_in_force(&links, &this, &own)
            .into_iter()
            .map(|(name, verdict)| match verdict {
                Ok(()) => format!("{name}: in force"),
                Err(refusal) => format!("{name}: {}: {refusal}", refusal.reason()),
            })
            .collect();
        assert_eq!(
            told,
            [
                "again: SameCluster: leads to cluster south as ClusterLink south does, which is older: list all gateways in spec.endpoints of one link",
                "east: in force",
                "here: LinkToOneself: spec.endpoints: 10.80.1.5 is here, address of Node w1: a link leads to another cluster",
                "same: OwnASN: spec.remoteASN: 64501 is the ASN of this cluster too: a session of one ASN is iBGP, on which nothing that is learnt is passed on; give one of the two clusters another spec.asn in its ClusterNetwork default",
                "self: LinkToOneself: spec.remoteCluster: \"north\": is the name of this cluster, as ClusterNetwork default says: a link leads to another",
                "south: in force",
                "west: SameASN: spec.remoteASN: 64502 is that of cluster south too, to which ClusterLink south leads, which is older: clusters that are joined have an ASN each",
            ]
        );
    }

    #[test]
    fn an_asn_is_derived_from_a_uid() {
        let check = |uid: &str, expected| assert_eq!(derived_asn(uid), expected, "{uid}");
        check("00000000-0000-0000-0000-000000000000", Some(4_200_000_000));
        check("00000000-0000-0000-0000-000005a915fe", Some(4_294_967_294));
        check("00000000-0000-0000-0000-000005a915ff", Some(4_200_000_000));
        check("no uid", None);
        check("", None);
        let asn = derived_asn("9c5b94b1-35ad-49bb-b118-8e8fc24abf80").unwrap();
        assert!((4_200_000_000..=4_294_967_294).contains(&asn));
    }
}
