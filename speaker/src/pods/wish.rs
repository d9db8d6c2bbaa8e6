//! Which pools somebody names for an interface: the pod, its namespace, or the network's configuration.
//!
//! The first that says something is heard, and the others are not. Spiderpool's annotations are read as they are written there, so
//! that workloads can move over.

use glob::Pattern;
use roadstead_api::checked::Labels;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Ours, on pods and namespaces: `[{"interface":"eth0","pools":["a","b*"]}]`.
const POOLS: &str = "roadstead.dev/pools";
/// Ours, on pods: the interface that has the default route.
const DEFAULT_ROUTE: &str = "roadstead.dev/default-route";
/// Spiderpool's, on pods: `{"ipv4":["a"],"ipv6":["b"]}`, for every interface.
const SPIDER_POOL: &str = "ipam.spidernet.io/ippool";
/// Spiderpool's, on pods: `[{"interface":"eth0","ipv4":["a"]}]`, which has to name every interface.
const SPIDER_POOLS: &str = "ipam.spidernet.io/ippools";
/// Spiderpool's, on pods.
const SPIDER_DEFAULT_ROUTE: &str = "ipam.spidernet.io/default-route-nic";
/// Spiderpool's, on namespaces: `["a","b*"]`.
const SPIDER_NAMESPACE: [&str; 2] = ["ipam.spidernet.io/default-ipv4-ippool", "ipam.spidernet.io/default-ipv6-ippool"];
/// The interface of a pod that kubelet asks for itself.
pub(super) const FIRST_INTERFACE: &str = "eth0";

/// Which pools are to be tried.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wish {
    /// Those of these names, in this order.
    Named {
        /// Who names them, for messages.
        by: &'static str,
        /// The names; `*`, `?` and `[..]` stand for parts of one.
        patterns: Vec<Pattern>,
    },
    /// Nobody names any: those that say `default: true`.
    Defaults,
}

/// An annotation that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {key}: {given:?}: {expected}")]
pub(super) struct BadAnnotation {
    key: &'static str,
    given: String,
    expected: String,
}

#[derive(Deserialize)]
struct InterfacePools {
    interface: String,
    pools: Vec<String>,
}

#[derive(Deserialize)]
struct SpiderPool {
    #[serde(default)]
    ipv4: Vec<String>,
    #[serde(default)]
    ipv6: Vec<String>,
}

#[derive(Deserialize)]
struct SpiderInterface {
    #[serde(default)]
    interface: Option<String>,
    #[serde(flatten)]
    pools: SpiderPool,
}

impl SpiderPool {
    fn names(self) -> Vec<String> {
        self.ipv4.into_iter().chain(self.ipv6).collect()
    }
}

impl Wish {
    /// What is wished for an interface. `configured` is `ipam.pools` of the network.
    pub(super) fn of(
        interface: &str,
        pod: &Labels,
        namespace: &Labels,
        configured: &[String],
    ) -> Result<Self, BadAnnotation> {
        let of_pod = Annotations(pod);
        let of_namespace = Annotations(namespace);
        let sources = [
            (POOLS, of_pod.interface_pools(interface)?),
            (SPIDER_POOLS, of_pod.spider_interface(interface)?),
            (SPIDER_POOL, of_pod.read::<SpiderPool>(SPIDER_POOL, SPIDER_POOL_FORM)?.map(SpiderPool::names)),
            ("the namespace's annotation", of_namespace.interface_pools(interface)?),
            ("the namespace's annotation", of_namespace.spider_namespace()?),
            ("ipam.pools of the network", (!configured.is_empty()).then(|| configured.to_vec())),
        ];
        for (by, names) in sources {
            if let Some(names) = names {
                return Ok(Self::Named { by, patterns: patterns(by, &names)? });
            }
        }
        Ok(Self::Defaults)
    }
}

const POOLS_FORM: &str = r#"must be a list like [{"interface":"eth0","pools":["a","b*"]}]"#;
const SPIDER_POOL_FORM: &str = r#"must be like {"ipv4":["a"],"ipv6":["b"]}"#;
const SPIDER_POOLS_FORM: &str = r#"must be a list like [{"interface":"eth0","ipv4":["a"],"ipv6":["b"]}]"#;

/// The interface that has the pod's default route.
pub(super) fn default_route_interface(pod: &Labels) -> &str {
    let named = pod.get(DEFAULT_ROUTE).or_else(|| pod.get(SPIDER_DEFAULT_ROUTE));
    named.map_or(FIRST_INTERFACE, String::as_str)
}

struct Annotations<'a>(&'a Labels);

impl Annotations<'_> {
    fn read<T: DeserializeOwned>(&self, key: &'static str, expected: &str) -> Result<Option<T>, BadAnnotation> {
        let Some(text) = self.0.get(key) else { return Ok(None) };
        let read = serde_json::from_str(text);
        read.map(Some).map_err(|_| BadAnnotation { key, given: text.clone(), expected: expected.to_owned() })
    }

    fn interface_pools(&self, interface: &str) -> Result<Option<Vec<String>>, BadAnnotation> {
        let all: Vec<InterfacePools> = self.read(POOLS, POOLS_FORM)?.unwrap_or_default();
        self.only_one(POOLS, interface, all.into_iter().filter(|one| one.interface == interface).map(|one| one.pools))
    }

    /// Where interfaces are not named, their order counts: `eth0`, `net1`, `net2`, as Multus calls them.
    fn spider_interface(&self, interface: &str) -> Result<Option<Vec<String>>, BadAnnotation> {
        let Some(all) = self.read::<Vec<SpiderInterface>>(SPIDER_POOLS, SPIDER_POOLS_FORM)? else { return Ok(None) };
        let name = |(index, one): (usize, &SpiderInterface)| {
            one.interface.clone().unwrap_or_else(|| match index {
                0 => FIRST_INTERFACE.to_owned(),
                _ => format!("net{index}"),
            })
        };
        let names: Vec<String> = all.iter().enumerate().map(name).collect();
        let of_interface =
            names.iter().zip(all).filter(|(name, _)| *name == interface).map(|(_, one)| one.pools.names());
        let found = self.only_one(SPIDER_POOLS, interface, of_interface)?;
        found
            .map(Some)
            .ok_or_else(|| self.bad(SPIDER_POOLS, format!("must name every interface, and has no {interface}")))
    }

    fn spider_namespace(&self) -> Result<Option<Vec<String>>, BadAnnotation> {
        let mut names: Option<Vec<String>> = None;
        for key in SPIDER_NAMESPACE {
            if let Some(more) = self.read::<Vec<String>>(key, r#"must be a list like ["a","b*"]"#)? {
                names.get_or_insert_default().extend(more);
            }
        }
        Ok(names)
    }

    fn only_one(
        &self,
        key: &'static str,
        interface: &str,
        mut found: impl Iterator<Item = Vec<String>>,
    ) -> Result<Option<Vec<String>>, BadAnnotation> {
        let first = found.next();
        match found.next() {
            None => Ok(first),
            Some(_) => Err(self.bad(key, format!("must name {interface} only once"))),
        }
    }

    fn bad(&self, key: &'static str, expected: String) -> BadAnnotation {
        BadAnnotation { key, given: self.0.get(key).cloned().unwrap_or_default(), expected }
    }
}

fn patterns(by: &'static str, names: &[String]) -> Result<Vec<Pattern>, BadAnnotation> {
    let pattern = |name: &String| {
        Pattern::new(name).map_err(|error| BadAnnotation {
            key: by,
            given: name.clone(),
            expected: format!("must be the name of a pool, in which *, ? and [..] stand for parts: {error}"),
        })
    };
    names.iter().map(pattern).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[track_caller]
    fn check(interface: &str, pod: &[(&str, &str)], namespace: &[(&str, &str)], configured: &[&str], expected: &str) {
        let configured: Vec<String> = configured.iter().map(|name| (*name).to_owned()).collect();
        let wish = match Wish::of(interface, &labels(pod), &labels(namespace), &configured) {
            Ok(Wish::Named { patterns, .. }) => patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(" "),
            Ok(Wish::Defaults) => "defaults".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(wish.contains(expected) && (wish == expected || wish.starts_with("annotation")), "{wish}");
    }

    const OURS: (&str, &str) =
        (POOLS, r#"[{"interface":"eth0","pools":["a","b*"]},{"interface":"net1","pools":["c"]}]"#);

    #[test]
    fn the_first_that_says_something_is_heard() {
        let spider = (SPIDER_POOL, r#"{"ipv4":["s4"],"ipv6":["s6"]}"#);
        let spiders =
            (SPIDER_POOLS, r#"[{"interface":"eth0","ipv4":["e4"]},{"interface":"net1","ipv4":["n4"],"ipv6":["n6"]}]"#);
        let by_order = (SPIDER_POOLS, r#"[{"ipv4":["e4"]},{"ipv4":["n4"]}]"#);
        let of_namespace = (SPIDER_NAMESPACE[0], r#"["d4"]"#);
        check("eth0", &[OURS, spiders, spider], &[OURS], &["x"], "a b*");
        check("net1", &[OURS], &[], &["x"], "c");
        check("net2", &[OURS], &[], &["x"], "x");
        check("net1", &[spiders, spider], &[OURS], &["x"], "n4 n6");
        check("net1", &[by_order], &[], &[], "n4");
        check("net1", &[spider], &[OURS], &["x"], "s4 s6");
        check("eth0", &[], &[OURS, of_namespace], &["x"], "a b*");
        check("eth0", &[], &[of_namespace, (SPIDER_NAMESPACE[1], r#"["d6"]"#)], &["x"], "d4 d6");
        check("eth0", &[], &[], &["x", "y?"], "x y?");
        check("eth0", &[], &[], &[], "defaults");
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        check("eth0", &[(POOLS, "a")], &[], &[], r#"annotation roadstead.dev/pools: "a": must be a list"#);
        check("eth0", &[(POOLS, r#"[{"interface":"eth0","pools":["[a"]}]"#)], &[], &[], "must be the name of a pool");
        let twice = r#"[{"interface":"eth0","pools":["a"]},{"interface":"eth0","pools":["b"]}]"#;
        check("eth0", &[(POOLS, twice)], &[], &[], "must name eth0 only once");
        check("net1", &[(SPIDER_POOLS, r#"[{"ipv4":["a"]}]"#)], &[], &[], "has no net1");
    }

    #[test]
    fn one_interface_has_the_default_route() {
        assert_eq!(default_route_interface(&labels(&[])), "eth0");
        assert_eq!(default_route_interface(&labels(&[(DEFAULT_ROUTE, "net1")])), "net1");
        assert_eq!(default_route_interface(&labels(&[(SPIDER_DEFAULT_ROUTE, "net2")])), "net2");
    }
}
